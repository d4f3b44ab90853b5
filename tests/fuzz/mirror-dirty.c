/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirror-dirty - what guests write and operations take, against one flag for each 512 bytes
 *
 * Input: the chunk (a power), the maps that are allowed, the disk's length in sectors and its odd rest; then
 * operations of five bytes: kind, offset, length.  A part that is dirty in the model must be dirty (DM1 to
 * DM3 of block/jobs/mirror/dirty.c), what is counted must be what is there, and no more is dirty than the
 * chunks that were touched.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "block/jobs/mirror/dirty.h"
#include "util/osdep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECTOR      512
#define SECTORS_MAX 512

typedef struct Model {
    MirrorDirty d;
    int64_t len;
    size_t n;
    uint8_t must[SECTORS_MAX + 1]; /* written, and not taken since */
    uint8_t may[SECTORS_MAX + 1];  /* in a chunk that was touched, and not taken since */
} Model;

static int64_t chunk_of(const Model *m, int64_t offset)
{
    return offset - offset % m->d.chunk_bytes;
}

static void set(Model *m, int64_t offset, int64_t bytes, bool whole)
{
    int64_t first = chunk_of(m, offset);
    int64_t end = MIN(chunk_of(m, offset + bytes - 1) + m->d.chunk_bytes, m->len);

    memset(m->may + first / SECTOR, 1, DIV_ROUND_UP(end - first, SECTOR));
    if (whole) {
        mirror_dirty_set_whole(&m->d, offset, bytes);
        memset(m->must + first / SECTOR, 1, DIV_ROUND_UP(end - first, SECTOR));
    } else {
        mirror_dirty_set(&m->d, offset, bytes);
        memset(m->must + offset / SECTOR, 1, (offset + bytes - 1) / SECTOR - offset / SECTOR + 1);
    }
}

static void clear_covered(Model *m, int64_t offset, int64_t bytes)
{
    int64_t first = DIV_ROUND_UP(offset, SECTOR);
    int64_t end = offset + bytes == m->len ? (int64_t)m->n : (offset + bytes) / SECTOR;

    mirror_dirty_clear_covered(&m->d, offset, bytes);
    if (first < end) {
        memset(m->must + first, 0, end - first);
    }
}

static void take(Model *m, int64_t offset)
{
    int64_t start = chunk_of(m, offset);
    bool dirty = mirror_dirty_next(&m->d, start) == start;
    uint64_t all = mirror_dirty_all_units(&m->d, offset);
    uint64_t units = mirror_dirty_take(&m->d, offset);

    g_assert_true((units & ~all) == 0 && dirty == (units != 0));
    for (int64_t at = start; at < MIN(start + m->d.chunk_bytes, m->len); at += SECTOR) {
        bool taken = (units >> ((at - start) / m->d.unit_bytes)) & 1;

        g_assert_true(taken || !m->must[at / SECTOR]);
        g_assert_true(!taken || m->may[at / SECTOR]);
        m->must[at / SECTOR] = m->may[at / SECTOR] = 0;
    }
    g_assert_cmpuint(mirror_dirty_take(&m->d, offset), ==, 0);
}

static void check(const Model *m)
{
    int64_t dirty = 0, must = 0;

    for (int64_t at = 0; at < m->len; at += SECTOR) {
        must += m->must[at / SECTOR] ? MIN(SECTOR, m->len - at) : 0;
        g_assert_true(!m->must[at / SECTOR] ||
                      mirror_dirty_next(&m->d, at) / m->d.chunk_bytes == at / m->d.chunk_bytes);
    }
    for (int64_t at = 0; (at = mirror_dirty_next(&m->d, at)) >= 0;) {
        int64_t run = mirror_dirty_run(&m->d, at, m->len);

        g_assert_true(run > 0 && at + run <= m->len);
        g_assert_true(at + run == m->len || (at + run) % m->d.chunk_bytes == 0);
        dirty += run;
        at += run;
    }
    g_assert_cmpint(mirror_dirty_count(&m->d), <=, dirty);
    g_assert_cmpint(mirror_dirty_count(&m->d) + SECTOR, >, must);
    g_assert_true((dirty == 0) == (mirror_dirty_count(&m->d) == 0));
    g_assert_cmpuint(g_hash_table_size(m->d.fine), <=, m->d.fine_max);
}

static void play(Model *m, const uint8_t *op)
{
    int64_t offset = (op[1] | op[2] << 8) * INT64_C(256) % m->len;
    int64_t bytes = MIN((op[3] | op[4] << 8) * INT64_C(32) + 1, m->len - offset);

    switch (op[0] % 4) {
    case 0:
        take(m, offset);
        break;
    case 1:
        clear_covered(m, offset, bytes);
        break;
    default:
        set(m, offset, bytes, op[0] % 4 == 2 && op[0] & 16);
        break;
    }
    check(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree Model *m = g_new0(Model, 1);

    if (size < 5) {
        return 0;
    }
    m->len = ((data[2] | data[3] << 8) % SECTORS_MAX + 1) * SECTOR + data[4] % SECTOR;
    m->n = DIV_ROUND_UP(m->len, SECTOR);
    mirror_dirty_init(&m->d, m->len, SECTOR << data[0] % 12, data[1] * 64);
    for (size_t at = 5; at + 5 <= size; at += 5) {
        play(m, data + at);
    }
    for (int64_t at; (at = mirror_dirty_next(&m->d, 0)) >= 0;) {
        take(m, at);
    }
    check(m);
    g_assert_cmpint(m->d.fine_units, ==, 0);
    mirror_dirty_free(&m->d);
    return 0;
}
