/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fvd-journal - the journal of an FVD image, as a crash or somebody left it: sorted, applied, printed
 *
 * Input: 14 bytes of settings and sizes, then sectors.  One setting makes checksums right, so that what is behind
 * them is reached.  Table and bitmap are as small as they may be, on the heap, where the sanitizer sees a step beyond.
 */
#include <assert.h>
#include <stdlib.h>
#include "block/drivers/fvd/layout/replay.h"
#include "util/crc32c.h"
#include "util/osdep.h"

#define HEAD_BYTES 14

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t printed;

static void take_line(void *opaque, const char *line)
{
    printed += strlen(line);
}

static void make_checksums_right(uint8_t *journal, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *sector = journal + (size_t)i * FVD_JSECTOR_SIZE;

        if (ldl_le_p(sector + FVD_JTRAILER_OFFSET) == FVD_JTRAILER_TAG) {
            stl_le_p(sector + FVD_JTRAILER_CRC, 0);
            stl_le_p(sector + FVD_JTRAILER_CRC, crc32c(0, sector, FVD_JSECTOR_SIZE));
        }
    }
}

static FvdJGeometry geometry_of(const uint8_t *head)
{
    FvdJGeometry g = {
        .trailers = head[0] & 1,
        .block_sums = head[0] & 2,
        .remap = head[0] & 4,
        .chunk_sectors = head[1] + 1,
        .block_sectors = head[2] + 1,
        .table_entries = lduw_le_p(head + 3),
        .chunks = MIN(ldl_le_p(head + 5), 0x7fffffffu),
        .disk_sectors = lduw_le_p(head + 9),
        .stable_epoch = head[13],
    };

    g.blocks = MIN((uint64_t)lduw_le_p(head + 11), DIV_ROUND_UP(g.disk_sectors, g.block_sectors));
    return g;
}

/* What is left when there was no damage: entries that exist, and the same whenever it is done again. */
static void use(const uint8_t *journal, uint32_t n, const FvdJGeometry *g, uint32_t *table,
                uint8_t *bitmap)
{
    size_t table_bytes = g->table_entries * sizeof(*table),
           bitmap_bytes = DIV_ROUND_UP(g->blocks, 8);
    g_autoptr(FvdReplay) r = fvd_replay_new(journal, n, g, NULL);
    g_autofree uint32_t *table_once = NULL;
    g_autofree uint8_t *bitmap_once = NULL;
    uint64_t sums = 0;
    FvdReplaySum sum;
    uint32_t used;

    if (!r || fvd_replay_apply(r, table, bitmap, NULL) < 0) {
        return;
    }
    assert(fvd_replay_info(r)->next_epoch > g->stable_epoch);
    for (uint32_t i = 0; i < g->table_entries; i++) {
        assert(le32_to_cpu(table[i]) == FVD_TABLE_EMPTY || le32_to_cpu(table[i]) < g->chunks);
    }
    while (fvd_replay_next_sum(r, &sum)) {
        assert(sum.block < g->blocks);
        sums++;
    }
    assert(sums <= (uint64_t)n * FVD_JSECTOR_SIZE / 4);
    if (fvd_table_check(table, g->table_entries, g->chunks, &used, NULL) == 0) {
        assert(used <= g->chunks);
    }
    table_once = g_memdup2(table, table_bytes);
    bitmap_once = g_memdup2(bitmap, bitmap_bytes);
    if (fvd_replay_apply(r, table, bitmap, NULL) < 0) {
        abort();
    }
    assert(!table_bytes || !memcmp(table, table_once, table_bytes));
    assert(!bitmap_bytes || !memcmp(bitmap, bitmap_once, bitmap_bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t n = size < HEAD_BYTES ? 0 : (size - HEAD_BYTES) / FVD_JSECTOR_SIZE;
    FvdJGeometry g;
    uint8_t *journal, *bitmap;
    uint32_t *table;

    if (n == 0) {
        return 0;
    }
    g = geometry_of(data);
    journal = g_memdup2(data + HEAD_BYTES, (size_t)n * FVD_JSECTOR_SIZE);
    if (data[0] & 8) {
        make_checksums_right(journal, n);
    }
    table = g_malloc(g.table_entries * sizeof(*table));
    bitmap = g_malloc0(DIV_ROUND_UP(g.blocks, 8));
    if (table) {
        memset(table, 0xff, g.table_entries * sizeof(*table));
    }
    for (uint32_t i = 0; i < n; i++) {
        fvd_print_jrecords(journal + (size_t)i * FVD_JSECTOR_SIZE, i, &g, take_line, NULL);
    }
    use(journal, n, &g, table, bitmap);
    g_free(table);
    g_free(bitmap);
    g_free(journal);
    return 0;
}
