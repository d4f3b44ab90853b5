/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Table and bitmap in memory: by hand, and random operations against arrays that are looked at one by one. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "block/drivers/fvd/map.h"
#include "block/drivers/fvd/layout/replay.h"
#include "tests/unit/util/seed.h"

#define E FVD_TABLE_EMPTY

/* A header with all regions, in the order header, bitmap, table, journal, data. */
static FvdHeader *header_new(int64_t disk, int64_t base, int64_t chunk, int64_t block)
{
    FvdHeader *h = g_new(FvdHeader, 1);

    fvd_header_init(h);
    h->version = 2;
    h->incompatible = FVD_INCOMPATIBLE_REMAP;
    h->virtual_disk_size = disk;
    h->base_img_size = base;
    h->chunk_size = chunk;
    h->block_size = block;
    h->bitmap_offset = FVD_HEADER_REGION;
    h->bitmap_size = ROUND_UP(fvd_header_bitmap_bytes(h), FVD_REGION_ALIGN);
    h->table_offset = h->bitmap_offset + h->bitmap_size;
    h->table_size = ROUND_UP(fvd_header_table_bytes(h), FVD_REGION_ALIGN);
    h->journal_offset = h->table_offset + h->table_size;
    h->data_offset = h->journal_offset + h->journal_size;
    g_assert_cmpint(fvd_header_check(h, &error_abort), ==, 0);
    return h;
}

static FvdMap *map_new(const FvdHeader *h)
{
    FvdMap *m = fvd_map_new(h, &error_abort);

    g_assert_cmpint(fvd_map_start(m, &error_abort), ==, 0);
    return m;
}

static void reads_as(const FvdMap *m, int64_t offset, int64_t bytes, FvdMapKind kind, int64_t run,
                     int64_t host)
{
    int64_t n, at = -1;

    g_assert_cmpint(fvd_map_read(m, offset, bytes, &n, &at), ==, kind);
    g_assert_cmpint(n, ==, run);
    g_assert_cmpint(at, ==, kind == FVD_MAP_DATA ? host : -1);
}

/* Entry @i of the page that holds it, as a checkpoint of @half writes it; the page has to be marked. */
static uint32_t written_entry(FvdMap *m, unsigned half, uint32_t i)
{
    uint8_t buf[FVD_MAP_PAGE];
    int64_t offset;

    g_assert_cmpint(fvd_map_next_page(m, half, i / 1024), ==, i / 1024);
    fvd_map_copy_page(m, half, i / 1024, buf, &offset);
    return ldl_le_p(buf + i % 1024 * 4);
}

static void test_a_run_goes_on_where_chunks_follow_each_other(void)
{
    g_autofree FvdHeader *h = header_new(10 * MiB, 0, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);
    int64_t data = h->data_offset;

    reads_as(m, 0, 10 * MiB, FVD_MAP_ZERO, 10 * MiB, 0);
    g_assert_cmpint(fvd_map_take(m, 2, 3, NULL), ==, 0);
    g_assert_cmpint(fvd_map_take(m, 6, 1, NULL), ==, 0);
    g_assert_cmpint(fvd_map_take(m, 5, 1, NULL), ==, 0);
    reads_as(m, 512, 10 * MiB - 512, FVD_MAP_ZERO, 2 * MiB - 512, 0);
    reads_as(m, 2 * MiB + 512, 8 * MiB - 512, FVD_MAP_DATA, 3 * MiB - 512, data + 512);
    reads_as(m, 5 * MiB, 512, FVD_MAP_DATA, 512, data + 4 * MiB);
    reads_as(m, 5 * MiB, 5 * MiB, FVD_MAP_DATA, 1 * MiB, data + 4 * MiB);
    reads_as(m, 6 * MiB, 4 * MiB, FVD_MAP_DATA, 1 * MiB, data + 3 * MiB);
    reads_as(m, 7 * MiB, 3 * MiB, FVD_MAP_ZERO, 3 * MiB, 0);
}

static void test_what_lies_behind_a_smaller_base_is_not_in_it(void)
{
    g_autofree FvdHeader *h = header_new(4 * MiB, 100 * KiB + 512, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);
    FvdMapNeed need;

    reads_as(m, 0, 4 * MiB, FVD_MAP_BASE, 100 * KiB + 512, 0);
    reads_as(m, 100 * KiB + 512, 512, FVD_MAP_ZERO, 512, 0);
    fvd_map_write_need(m, 100 * KiB + 512, 512, &need);
    g_assert_cmpint(need.start, ==, 100 * KiB + 512);
    g_assert_cmpint(need.end, ==, 101 * KiB);
    g_assert_cmpint(need.n_blocks, ==, 0);
    g_assert_false(need.record_bitmap);
    /* In the last block, up to the base's end: only its head is copied. */
    fvd_map_write_need(m, 80 * KiB, 40 * KiB, &need);
    g_assert_cmpint(need.start, ==, 64 * KiB);
    g_assert_cmpint(need.end, ==, 120 * KiB);
    g_assert_cmpint(need.first_block, ==, 1);
    g_assert_cmpint(need.n_blocks, ==, 1);
    /* Its tail ends with the base. */
    fvd_map_write_need(m, 60 * KiB, 10 * KiB, &need);
    g_assert_cmpint(need.start, ==, 0);
    g_assert_cmpint(need.end, ==, 100 * KiB + 512);
    g_assert_cmpint(need.n_blocks, ==, 2);
    g_assert_cmpint(need.n_empty, ==, 1);
    fvd_map_set_fresh(m, 1, 1);
    reads_as(m, 0, 4 * MiB, FVD_MAP_BASE, 64 * KiB, 0);
    reads_as(m, 64 * KiB, 3 * MiB, FVD_MAP_ZERO, 3 * MiB, 0);
    fvd_map_forget_base(m);
    reads_as(m, 0, 4 * MiB, FVD_MAP_ZERO, 4 * MiB, 0);
}

static void test_without_a_table_the_disk_lies_in_one_piece(void)
{
    g_autofree FvdHeader *h = header_new(1 * MiB, 1 * MiB, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = NULL;
    FvdMapNeed need;

    h->table_offset = 0;
    m = map_new(h);
    g_assert_null(fvd_map_table(m));
    fvd_map_set_fresh(m, 1, 2);
    reads_as(m, 0, 1 * MiB, FVD_MAP_BASE, 64 * KiB, 0);
    reads_as(m, 70 * KiB, 900 * KiB, FVD_MAP_DATA, 122 * KiB, h->data_offset + 70 * KiB);
    fvd_map_write_need(m, 0, 512, &need);
    g_assert_cmpint(need.n_chunks, ==, 0);
    g_assert_cmpint(need.end, ==, 64 * KiB);
    g_assert_true(need.record_bitmap);
    g_assert_cmpint(fvd_map_pages(m), ==, 1);
}

static void test_with_neither_table_nor_bitmap_there_is_nothing_to_keep(void)
{
    g_autofree FvdHeader *h = header_new(1 * MiB, 0, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = NULL;

    h->table_offset = h->bitmap_offset = 0;
    m = map_new(h);
    g_assert_null(fvd_map_bitmap(m));
    reads_as(m, 512, 1 * MiB - 512, FVD_MAP_DATA, 1 * MiB - 512, h->data_offset + 512);
    g_assert_cmpint(fvd_map_pages(m), ==, 0);
    g_assert_cmpint(fvd_map_next_page(m, 0, 0), ==, -1);
}

static void test_a_checkpoint_waits_for_records_not_for_memory(void)
{
    g_autofree FvdHeader *h = header_new(10 * MiB, 10 * MiB, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);
    uint8_t buf[FVD_MAP_PAGE];
    int64_t offset;

    g_assert_cmpint(fvd_map_take(m, 0, 3, NULL), ==, 0);
    fvd_map_set_fresh(m, 0, 48);
    fvd_map_journaled(m, 1, 1, 16, 2, 0, 5); /* chunk 1: a record in half 0 */
    fvd_map_journaled(m, 2, 1, 32, 1, 1, 6);
    fvd_map_durable(m, 4);
    g_assert_cmpint(fvd_map_next_page(m, 0, 0), ==, -1);
    fvd_map_durable(m, 5);
    g_assert_cmpint(fvd_map_next_page(m, 1, 0), ==, -1);
    g_assert_cmphex(written_entry(m, 0, 1), ==, 1);
    g_assert_cmpint(fvd_map_next_page(m, 0, 0), ==, 1);
    fvd_map_mark_page(m, 0, 0);
    g_assert_cmphex(written_entry(m, 0, 0), ==, E);
    fvd_map_mark_page(m, 0, 0);
    g_assert_cmphex(written_entry(m, 0, 2), ==, E);
    g_assert_cmpint(fvd_map_copy_page(m, 0, 1, buf, &offset), ==, 512);
    g_assert_cmpint(offset, ==, h->bitmap_offset);
    g_assert_cmphex(ldq_le_p(buf), ==, 0x30000);
    g_assert_cmpint(fvd_map_next_page(m, 0, 0), ==, -1);
    fvd_map_durable(m, 6);
    g_assert_cmpint(fvd_map_next_page(m, 0, 0), ==, -1);
    g_assert_cmphex(written_entry(m, 1, 2), ==, 2);
}

static void test_a_chunk_given_back_waits_for_its_record(void)
{
    g_autofree FvdHeader *h = header_new(10 * MiB, 0, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);
    bool before = true;

    fvd_map_set_limit(m, 2);
    g_assert_cmpint(fvd_map_take(m, 0, 3, NULL), ==, -ENOSPC);
    reads_as(m, 0, 10 * MiB, FVD_MAP_ZERO, 10 * MiB, 0);
    g_assert_cmpint(fvd_map_take(m, 0, 2, &before), ==, 0);
    g_assert_false(before);
    fvd_map_journaled(m, 0, 2, 0, 0, 0, 1);
    g_assert_true(fvd_map_free(m, 0, 1));
    fvd_map_journaled(m, 0, 1, 0, 0, 0, 2);
    fvd_map_durable(m, 1);
    g_assert_cmphex(written_entry(m, 0, 0), ==, 0); /* what was recorded first */
    g_assert_cmpint(fvd_map_take(m, 5, 1, NULL), ==, -ENOSPC);
    fvd_map_durable(m, 2);
    g_assert_cmphex(written_entry(m, 0, 0), ==, E);
    g_assert_cmpint(fvd_map_take(m, 5, 1, &before), ==, 0);
    g_assert_true(before);
    reads_as(m, 5 * MiB, 1 * MiB, FVD_MAP_DATA, 1 * MiB, h->data_offset);
    /* No record names it: it can be had again at once. */
    fvd_map_untake(m, 0, 10, UINT32_MAX);
    reads_as(m, 5 * MiB, 1 * MiB, FVD_MAP_ZERO, 1 * MiB, 0);
    reads_as(m, 1 * MiB, 1 * MiB, FVD_MAP_DATA, 1 * MiB, h->data_offset + 1 * MiB);
    g_assert_cmpint(fvd_map_take(m, 6, 1, NULL), ==, 0);
    g_assert_false(fvd_map_free(m, 6, 1));
    g_assert_cmpint(fvd_map_available(m), ==, 1);
}

static void test_a_soft_write_is_not_recorded_by_itself(void)
{
    g_autofree FvdHeader *h = header_new(1 * MiB, 1 * MiB, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);
    FvdMapNeed need;

    g_assert_cmpint(fvd_map_take(m, 0, 1, NULL), ==, 0);
    fvd_map_set_fresh(m, 3, 1);
    fvd_map_write_need(m, 200 * KiB, 512, &need); /* nothing to be copied, but to be journaled */
    g_assert_cmpint(need.start, ==, 200 * KiB);
    g_assert_cmpint(need.end, ==, 200 * KiB + 512);
    g_assert_true(need.record_bitmap && need.record_table);
    g_assert_cmpint(need.n_empty, ==, 0);
    fvd_map_journaled(m, 0, 1, 3, 1, 0, 1);
    fvd_map_write_need(m, 200 * KiB, 512, &need);
    g_assert_false(need.record_bitmap || need.record_table);
}

static void test_what_the_file_says_is_taken_as_durable(void)
{
    g_autofree FvdHeader *h = header_new(10 * MiB, 5 * MiB + 512, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = fvd_map_new(h, &error_abort);
    g_autoptr(Error) err = NULL;
    FvdMapNeed need;

    fvd_map_table(m)[7] = cpu_to_le32(41 | FVD_TABLE_DIRTY);
    fvd_map_bitmap(m)[1] = 1;
    fvd_map_bitmap(m)[10] = 0xff; /* 81 blocks: bit 80 is the last */
    g_assert_cmpint(fvd_map_start(m, &error_abort), ==, 0);
    g_assert_cmpint(fvd_map_used(m), ==, 42);
    g_assert_cmphex(fvd_map_bitmap(m)[10], ==, 1);
    reads_as(m, 7 * MiB, 2 * MiB, FVD_MAP_DATA, 1 * MiB, h->data_offset + 41 * MiB);
    reads_as(m, 512 * KiB, 9 * MiB, FVD_MAP_ZERO, 64 * KiB, 0);
    reads_as(m, 5 * MiB, 1 * MiB, FVD_MAP_ZERO, 1 * MiB, 0);
    fvd_map_write_need(m, 7 * MiB, 512, &need);
    g_assert_false(need.record_table);
    fvd_map_raise_used(m, 50);
    g_assert_cmpint(fvd_map_take(m, 0, 1, NULL), ==, 0);
    reads_as(m, 5 * MiB + 512, 512, FVD_MAP_ZERO, 512, 0);
    fvd_map_forget_base(m);
    reads_as(m, 0, 1 * MiB, FVD_MAP_DATA, 1 * MiB, h->data_offset + 50 * MiB);

    fvd_map_table(m)[8] = fvd_map_table(m)[7];
    g_assert_cmpint(fvd_map_start(m, &err), ==, -EIO);
    g_assert_nonnull(err);
}

static void test_the_last_number_of_a_chunk_is_never_taken(void)
{
    g_autofree FvdHeader *h = header_new(10 * 512, 0, 512, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);

    g_assert_cmpint(fvd_header_data_chunks(h), ==, FVD_CHUNKS_MAX);
    fvd_map_raise_used(m, (uint32_t)FVD_CHUNKS_MAX - 1);
    g_assert_cmpint(fvd_map_take(m, 0, 2, NULL), ==, -ENOSPC);
    g_assert_cmpint(fvd_map_take(m, 0, 1, NULL), ==, 0);
    reads_as(m, 0, 512, FVD_MAP_DATA, 512, h->data_offset + (FVD_CHUNKS_MAX - 1) * 512);
    fvd_map_set_limit(m, INT64_MAX);
    g_assert_cmpint(fvd_map_take(m, 1, 1, NULL), ==, -ENOSPC);
}

static void test_a_page_is_marked_for_the_half_its_record_is_in(void)
{
    g_autofree FvdHeader *h = header_new(4096 * 512, 0, 512, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);

    g_assert_cmpint(fvd_map_take(m, 0, 4096, NULL), ==, 0);
    fvd_map_journaled(m, 1020, 4, 0, 0, 0, 7);
    fvd_map_journaled(m, 1024, 4, 0, 0, 1, 7);
    fvd_map_durable(m, 7);
    g_assert_cmphex(written_entry(m, 0, 1023), ==, 1023);
    g_assert_cmpint(fvd_map_next_page(m, 0, 0), ==, -1);
    g_assert_cmpint(fvd_map_next_page(m, 1, 0), ==, 1);
    g_assert_cmphex(written_entry(m, 1, 1024), ==, 1024);
}

static void test_a_long_log_is_durable_step_by_step(void)
{
    g_autofree FvdHeader *h = header_new(30000 * 512, 0, 512, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);

    g_assert_cmpint(fvd_map_take(m, 0, 30000, NULL), ==, 0);
    for (uint32_t i = 0; i < 30000; i++) {
        fvd_map_journaled(m, i, 1, 0, 0, 0, i);
    }
    for (uint32_t i = 0; i < 30000; i += 999) {
        fvd_map_durable(m, i);
        g_assert_cmphex(written_entry(m, 0, i), ==, i);
        fvd_map_mark_page(m, 0, (i + 1) / 1024);
        g_assert_cmphex(written_entry(m, 0, i + 1), ==, E);
        fvd_map_mark_page(m, 0, i / 2 / 1024);
        g_assert_cmphex(written_entry(m, 0, i / 2), ==, i / 2);
    }
    fvd_map_durable(m, 29999);
    for (uint32_t i = 0; i < 30000; i++) {
        fvd_map_mark_page(m, 0, i / 1024);
        g_assert_cmphex(written_entry(m, 0, i), ==, i);
    }
}

/* What a checkpoint would write is put into the record as well, without DIRTY. */
static void test_a_change_is_what_sectors_take(void)
{
    g_autofree FvdHeader *h = header_new(4 * MiB, 3 * MiB + 512, 1 * MiB, 64 * KiB);
    g_autoptr(FvdMap) m = map_new(h);
    uint8_t sector[FVD_JSECTOR_SIZE];
    FvdJGeometry g;
    FvdJChange change;
    FvdJSector s;
    FvdJSectorHead head;
    FvdJIter it;
    FvdJRecord record;
    uint64_t first;

    fvd_jgeometry_init(&g, h);
    g_assert_cmpint(fvd_map_take(m, 3, 1, NULL), ==, 0);
    fvd_map_change(m, 3, 1, 48, 1, 9, &change);
    fvd_jsector_start(&s, sector);
    g_assert_true(fvd_jsector_put(&s, &change, &g));
    fvd_jsector_finish(&s, 9, 1);
    head = fvd_jsector_head(sector, &g);
    fvd_jiter_start(&it, sector, 0, &head, &g);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(fvd_jiter_next(&it, &record, &error_abort), ==, 1);
        if (record.type == FVD_TABLE_JRECORD) {
            g_assert_cmpint(record.first, ==, 3);
            g_assert_cmphex(fvd_jrecord_entry(&record, 0), ==, 0);
        } else {
            g_assert_cmpint(fvd_jrecord_blocks(&record, &g, &first), ==, 1);
            g_assert_cmpint(first, ==, 48);
        }
    }
    g_assert_cmpint(fvd_jiter_next(&it, &record, &error_abort), ==, 0);
}

static int64_t resident_bytes(void)
{
    g_autofree char *text = NULL;
    unsigned long long all, resident;

    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%llu %llu", &all, &resident), ==, 2);
    return (int64_t)resident * sysconf(_SC_PAGESIZE);
}

/* At most @limit, and what is small, more than before. */
static void takes_at_most(int64_t before, int64_t limit)
{
    limit += 2 * MiB;
#if defined(__SANITIZE_ADDRESS__)
    limit *= 10; /* it keeps notes about memory, and clears what need not be */
#endif
    g_assert_cmpint(resident_bytes() - before, <=, limit);
}

/* Table 16 MiB, bitmap 8 MiB: to begin with, and after writes to everywhere. */
static void test_a_disk_of_4_tib_takes_its_table_and_what_is_touched_of_bitmaps(void)
{
    g_autofree FvdHeader *h = header_new(4 * TiB, 4 * TiB, 1 * MiB, 64 * KiB);
    int64_t before = resident_bytes();
    g_autoptr(FvdMap) m = map_new(h);
    int64_t run, host;
    uint8_t buf[FVD_MAP_PAGE];

    g_assert_cmpint(fvd_map_pages(m), ==, 4096 + 2048);
    takes_at_most(before, 16 * MiB);
    for (uint32_t i = 0; i < 4000; i++) {
        uint32_t chunk = i * 1048;

        g_assert_cmpint(fvd_map_take(m, chunk, 1, NULL), ==, 0);
        fvd_map_journaled(m, chunk, 1, chunk * 16, 1, 0, i);
        fvd_map_durable(m, i);
    }
    g_assert_cmpint(fvd_map_read(m, 1 * MiB, 4 * TiB - 1 * MiB, &run, &host), ==, FVD_MAP_BASE);
    g_assert_cmpint(run, ==, 1047 * MiB);
    for (int64_t p = fvd_map_next_page(m, 0, 0); p >= 0; p = fvd_map_next_page(m, 0, p + 1)) {
        g_assert_cmpint(fvd_map_copy_page(m, 0, p, buf, &host), ==, FVD_MAP_PAGE);
        g_assert_cmpint(
            host, ==, p < 4096 ? h->table_offset + p * 4096 : h->bitmap_offset + (p - 4096) * 4096);
        /* Bit 1048 * 16 * i is the first of byte 2096 * i. */
        g_assert_true(p < 4096 || buf[(2096 - (p - 4096) * 4096 % 2096) % 2096] == 1);
    }
    takes_at_most(before, 16 * MiB + 3 * 8 * MiB);
}

/* Random operations */

#define CHUNKS_MAX 3000
#define BLOCKS_MAX 3000
#define CHUNK_NUMS 8000

typedef struct Record {
    uint64_t sequence;
    unsigned half;
    uint32_t first_chunk, n_chunks, first_block, n_blocks;
    uint32_t *entries;
} Record;

typedef struct Model {
    FvdHeader *h;
    FvdMap *m;
    uint32_t chunks, blocks, limit;
    uint32_t memory[CHUNKS_MAX], storage[CHUNKS_MAX]; /* without DIRTY */
    bool dirty[CHUNKS_MAX];
    bool fresh[BLOCKS_MAX], recorded[BLOCKS_MAX], stale[BLOCKS_MAX]; /* each includes the next */
    bool marks[FVD_MAP_HALVES][64];
    GQueue log; /* of Record */
    uint64_t sequence;
    unsigned half;
} Model;

static void model_named(const Model *d, bool *named)
{
    memset(named, 0, CHUNK_NUMS);
    for (uint32_t i = 0; i < d->chunks; i++) {
        if (d->memory[i] != E) {
            named[d->memory[i]] = true;
        }
        if (d->storage[i] != E) {
            named[d->storage[i]] = true;
        }
    }
    for (GList *l = d->log.head; l; l = l->next) {
        const Record *r = l->data;

        for (uint32_t i = 0; i < r->n_chunks; i++) {
            if (r->entries[i] != E) {
                named[r->entries[i]] = true;
            }
        }
    }
}

static uint32_t model_available(const Model *d)
{
    bool named[CHUNK_NUMS];
    uint32_t n = d->limit;

    model_named(d, named);
    for (unsigned i = 0; i < CHUNK_NUMS; i++) {
        n -= named[i];
    }
    return n;
}

static void model_take(Model *d, uint32_t first, uint32_t n)
{
    bool named[CHUNK_NUMS];
    uint32_t empty = 0;
    int ret;

    model_named(d, named);
    for (uint32_t i = first; i < first + n; i++) {
        empty += d->memory[i] == E;
    }
    ret = fvd_map_take(d->m, first, n, NULL);
    g_assert_cmpint(ret, ==, empty > model_available(d) ? -ENOSPC : 0);
    for (uint32_t i = first; i < first + n && ret == 0; i++) {
        uint32_t value = le32_to_cpu(fvd_map_table(d->m)[i]);

        if (d->memory[i] == E) {
            g_assert_true(value & FVD_TABLE_DIRTY);
            value &= ~FVD_TABLE_DIRTY;
            g_assert_cmpint(value, <, d->limit);
            g_assert_false(named[value]); /* one owner */
            named[value] = true;
            d->memory[i] = value;
            d->dirty[i] = true;
        }
    }
}

static void model_journal(Model *d, uint32_t c, uint32_t n, uint32_t b, uint32_t nb)
{
    Record *r = g_new0(Record, 1);

    *r = (Record){d->sequence, d->half, c, n, b, nb, g_memdup2(d->memory + c, n * 4)};
    g_queue_push_tail(&d->log, r);
    memset(d->dirty + c, 0, n);
    memset(d->fresh + b, 1, nb);
    memset(d->recorded + b, 1, nb);
    fvd_map_journaled(d->m, c, n, b, nb, d->half, d->sequence);
}

static void record_free(Record *r)
{
    g_free(r->entries);
    g_free(r);
}

static void model_durable(Model *d, uint64_t sequence)
{
    int64_t table_pages = DIV_ROUND_UP(d->chunks, 1024);

    fvd_map_durable(d->m, sequence);
    while (d->log.head && ((Record *)d->log.head->data)->sequence <= sequence) {
        Record *r = g_queue_pop_head(&d->log);

        for (uint32_t i = 0; i < r->n_chunks; i++) {
            if (d->storage[r->first_chunk + i] != r->entries[i]) {
                d->storage[r->first_chunk + i] = r->entries[i];
                d->marks[r->half][(r->first_chunk + i) / 1024] = true;
            }
        }
        for (uint32_t i = r->first_block; i < r->first_block + r->n_blocks; i++) {
            if (!d->stale[i]) {
                d->stale[i] = true;
                d->marks[r->half][table_pages] = true; /* the only one: at most 32768 blocks */
            }
        }
        record_free(r);
    }
}

/* Any page of a half, as durable records have it. */
static void model_copy(Model *d, unsigned half, int64_t page)
{
    int64_t table_pages = DIV_ROUND_UP(d->chunks, 1024), offset;
    uint8_t buf[FVD_MAP_PAGE];
    size_t n = fvd_map_copy_page(d->m, half, page, buf, &offset);

    d->marks[half][page] = false;
    g_assert_cmpint(n % 512, ==, 0);
    if (page < table_pages) {
        g_assert_cmpint(offset, ==, d->h->table_offset + page * FVD_MAP_PAGE);
        g_assert_cmpint(offset + (int64_t)n, <=, d->h->table_offset + d->h->table_size);
        for (uint32_t i = 0; i < n / 4; i++) {
            uint32_t at = (uint32_t)page * 1024 + i;

            g_assert_cmphex(ldl_le_p(buf + i * 4), ==, at < d->chunks ? d->storage[at] : E);
        }
        return;
    }
    g_assert_cmpint(offset, ==, d->h->bitmap_offset);
    for (uint32_t i = 0; i < n * 8; i++) {
        g_assert_cmpint(buf[i / 8] >> (i % 8) & 1, ==, i < d->blocks && d->stale[i]);
    }
    g_assert_cmpint(n * 8, >=, d->blocks);
}

static void model_checkpoint(Model *d, unsigned half)
{
    int64_t next = fvd_map_next_page(d->m, half, 0);

    for (int64_t page = 0; page < fvd_map_pages(d->m); page++) {
        g_assert_cmpint(d->marks[half][page], ==, page == next);
        if (page == next) {
            model_copy(d, half, page);
            next = fvd_map_next_page(d->m, half, page + 1);
        }
    }
    g_assert_cmpint(next, ==, -1);
}

/* Of one sector. */
static FvdMapKind model_sector(const Model *d, int64_t offset, int64_t *ret_host)
{
    int64_t chunk = offset / d->h->chunk_size;

    *ret_host = -1;
    if (offset < d->h->base_img_size && !d->fresh[offset / d->h->block_size]) {
        return FVD_MAP_BASE;
    }
    if (d->memory[chunk] == E) {
        return FVD_MAP_ZERO;
    }
    *ret_host = d->h->data_offset + d->memory[chunk] * d->h->chunk_size + offset % d->h->chunk_size;
    return FVD_MAP_DATA;
}

static void model_read(const Model *d, int64_t offset, int64_t bytes)
{
    int64_t host = -1, first_host, n, at;
    FvdMapKind kind = model_sector(d, offset, &first_host);

    g_assert_cmpint(fvd_map_read(d->m, offset, bytes, &n, &host), ==, kind);
    g_assert_cmpint(host, ==, first_host);
    for (at = offset; at < offset + bytes; at += 512) {
        int64_t next_host;

        if (model_sector(d, at, &next_host) != kind ||
            (kind == FVD_MAP_DATA && next_host != first_host + at - offset)) {
            break;
        }
    }
    g_assert_cmpint(n, ==, at - offset);
}

static void model_need(const Model *d, int64_t offset, int64_t bytes)
{
    int64_t end = offset + bytes, block = d->h->block_size, start_want = offset, end_want = end;
    int64_t from = offset, to = end; /* MP8 */
    bool bits = false, entries = false;
    uint32_t n_blocks = 0, n_empty = 0;
    FvdMapNeed need;

    fvd_map_write_need(d->m, offset, bytes, &need);
    for (int64_t i = 0; i < d->blocks; i++) {
        int64_t b_start = i * block, b_end = MIN(b_start + block, d->h->base_img_size);

        if (b_start < end && b_end > offset) {
            n_blocks++;
            bits |= !d->recorded[i];
            from = MIN(from, b_start);
            to = MAX(to, b_end);
            if (!d->fresh[i]) {
                start_want = MIN(start_want, b_start);
                end_want = MAX(end_want, b_end);
            }
        }
    }
    from = bits ? from : start_want;
    to = bits ? to : end_want;
    for (int64_t i = from / d->h->chunk_size; i * d->h->chunk_size < to; i++) {
        n_empty += d->memory[i] == E;
        entries |= d->memory[i] == E || d->dirty[i];
    }
    g_assert_cmpint(need.start, ==, start_want);
    g_assert_cmpint(need.end, ==, end_want);
    g_assert_cmpint(need.first_chunk, ==, from / d->h->chunk_size);
    g_assert_cmpint(need.n_chunks, ==, (to - 1) / d->h->chunk_size - from / d->h->chunk_size + 1);
    g_assert_cmpint(need.n_blocks, ==, n_blocks);
    g_assert_true(n_blocks == 0 || need.first_block == offset / block);
    g_assert_cmpint(need.n_empty, ==, n_empty);
    g_assert_cmpint(need.record_bitmap, ==, bits);
    g_assert_cmpint(need.record_table, ==, entries);
}

/* [first, first + n) of @all, mostly a short one. */
static uint32_t random_range(GRand *rand, uint32_t all, uint32_t *ret_n)
{
    uint32_t first = (uint32_t)test_rand_below(rand, all + 1);
    uint32_t most = MIN(all - first, g_rand_int_range(rand, 0, 20) ? 8 : all);

    *ret_n = (uint32_t)test_rand_below(rand, most + 1);
    return first;
}

static void model_undo(Model *d, GRand *rand)
{
    uint32_t n, c = random_range(rand, d->chunks, &n);
    bool record = false, failed = g_rand_boolean(rand);

    for (uint32_t i = c; i < c + n; i++) {
        if (d->memory[i] != E && (d->dirty[i] || !failed)) {
            record |= !d->dirty[i];
            d->memory[i] = E;
            d->dirty[i] = false;
        }
    }
    if (failed) {
        fvd_map_untake(d->m, c, n, UINT32_MAX);
        return;
    }
    g_assert_cmpint(fvd_map_free(d->m, c, n), ==, record);
    if (record) {
        model_journal(d, c, n, 0, 0);
    }
}

static void model_step(Model *d, GRand *rand)
{
    uint32_t n, nb, c = random_range(rand, d->chunks, &n), b = random_range(rand, d->blocks, &nb);
    int64_t sectors = d->h->virtual_disk_size / 512;
    int64_t at = (int64_t)test_rand_below(rand, sectors);
    int64_t len = 1 + (int64_t)test_rand_below(rand, MIN(sectors - at, 300));

    switch (g_rand_int_range(rand, 0, 12)) {
    case 0:
    case 1:
        model_take(d, c, n);
        break;
    case 2:
        fvd_map_set_fresh(d->m, b, nb);
        memset(d->fresh + b, 1, nb);
        break;
    case 3:
    case 4:
        model_journal(d, c, n, b, nb);
        d->sequence += (uint64_t)g_rand_boolean(rand);
        break;
    case 5:
    case 6:
        model_undo(d, rand);
        break;
    case 7:
        model_durable(d, d->sequence - MIN(d->sequence, test_rand_below(rand, 4)));
        break;
    case 8:
        model_checkpoint(d, g_rand_int_range(rand, 0, 2));
        d->half ^= (unsigned)g_rand_boolean(rand);
        break;
    case 9:
        if (fvd_map_pages(d->m)) {
            model_copy(d, 0, (int64_t)test_rand_below(rand, fvd_map_pages(d->m)));
        }
        break;
    case 10:
        model_need(d, at * 512, len * 512);
        break;
    default:
        model_read(d, at * 512, len * 512);
        break;
    }
}

static Model *model_new(GRand *rand)
{
    Model *d = g_new0(Model, 1);
    int64_t chunk = 512 * g_rand_int_range(rand, 1, 12);
    int64_t block = 512 * g_rand_int_range(rand, 1, 12);
    int64_t disk = 512 * g_rand_int_range(rand, 1, g_rand_boolean(rand) ? 100 : CHUNKS_MAX);
    int64_t base = g_rand_boolean(rand) ? disk : (int64_t)test_rand_below(rand, disk + 1);

    base -= base % 512;
    d->h = header_new(disk, base, chunk, block);
    d->m = map_new(d->h);
    d->chunks = (uint32_t)fvd_header_chunks(d->h);
    d->blocks = (uint32_t)fvd_header_blocks(d->h);
    d->limit = (uint32_t)test_rand_below(rand, d->chunks * 2 + 2);
    fvd_map_set_limit(d->m, d->limit);
    memset(d->memory, 0xff, sizeof(d->memory));
    memset(d->storage, 0xff, sizeof(d->storage));
    g_queue_init(&d->log);
    return d;
}

static void model_run(GRand *rand)
{
    Model *d = model_new(rand);

    for (unsigned i = 0; i < 300; i++) {
        model_step(d, rand);
    }
    g_assert_cmpint(fvd_map_available(d->m), ==, model_available(d));
    model_durable(d, UINT64_MAX);
    g_assert_cmpint(fvd_map_available(d->m), ==, model_available(d));
    for (unsigned half = 0; half < FVD_MAP_HALVES; half++) {
        model_checkpoint(d, half);
    }
    for (int64_t page = 0; page < fvd_map_pages(d->m); page++) {
        fvd_map_mark_page(d->m, 0, page);
        model_copy(d, 0, page);
    }
    g_queue_clear_full(&d->log, (GDestroyNotify)record_free);
    fvd_map_delete(d->m);
    g_free(d->h);
    g_free(d);
}

static void test_random(void)
{
    GRand *rand = test_rand();
    const char *seeds = g_getenv("SEEDS");
    unsigned rounds = seeds ? (unsigned)strtoul(seeds, NULL, 0) : 100;

    for (unsigned i = 0; i < rounds; i++) {
        model_run(rand);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/fvd/map/" name, function)
    ADD("a-run-goes-on-where-chunks-follow-each-other",
        test_a_run_goes_on_where_chunks_follow_each_other);
    ADD("what-lies-behind-a-smaller-base-is-not-in-it",
        test_what_lies_behind_a_smaller_base_is_not_in_it);
    ADD("without-a-table-the-disk-lies-in-one-piece",
        test_without_a_table_the_disk_lies_in_one_piece);
    ADD("with-neither-table-nor-bitmap-there-is-nothing-to-keep",
        test_with_neither_table_nor_bitmap_there_is_nothing_to_keep);
    ADD("a-checkpoint-waits-for-records-not-for-memory",
        test_a_checkpoint_waits_for_records_not_for_memory);
    ADD("a-chunk-given-back-waits-for-its-record", test_a_chunk_given_back_waits_for_its_record);
    ADD("a-soft-write-is-not-recorded-by-itself", test_a_soft_write_is_not_recorded_by_itself);
    ADD("what-the-file-says-is-taken-as-durable", test_what_the_file_says_is_taken_as_durable);
    ADD("the-last-number-of-a-chunk-is-never-taken",
        test_the_last_number_of_a_chunk_is_never_taken);
    ADD("a-page-is-marked-for-the-half-its-record-is-in",
        test_a_page_is_marked_for_the_half_its_record_is_in);
    ADD("a-long-log-is-durable-step-by-step", test_a_long_log_is_durable_step_by_step);
    ADD("a-change-is-what-sectors-take", test_a_change_is_what_sectors_take);
    ADD("a-disk-of-4-tib-takes-its-table-and-what-is-touched-of-bitmaps",
        test_a_disk_of_4_tib_takes_its_table_and_what_is_touched_of_bitmaps);
    ADD("random-operations-are-what-arrays-say", test_random);
    return g_test_run();
}
