/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dirty chunks and their parts against a model of one flag a byte of 512 (DM1 to DM3 of block/jobs/mirror/dirty.c). */
#include <stdlib.h>
#include "block/jobs/mirror/dirty.h"
#include "util/osdep.h"

static uint32_t seed(void)
{
    const char *s = g_getenv("SEED");

    return s ? strtoul(s, NULL, 10) : g_random_int();
}

typedef struct Model {
    MirrorDirty d;
    int64_t len;
    uint8_t *must; /* a sector that was written and not copied */
    size_t n;
} Model;

/* Takes the chunk and clears in the model what the taken units cover. */
static void take(Model *m, int64_t offset)
{
    int64_t start = offset - offset % m->d.chunk_bytes;
    uint64_t units = mirror_dirty_take(&m->d, offset);

    g_assert_cmpuint(units & ~mirror_dirty_all_units(&m->d, offset), ==, 0);
    for (int i = 0; i < MIRROR_UNITS_MAX; i++) {
        if ((units >> i) & 1) {
            int64_t a = start + i * m->d.unit_bytes;
            int64_t b = MIN(a + m->d.unit_bytes, m->len);

            memset(m->must + a / 512, 0, DIV_ROUND_UP(b - a, 512));
        }
    }
    for (int64_t at = start; at < MIN(start + m->d.chunk_bytes, m->len); at += 512) {
        g_assert_cmpint(m->must[at / 512], ==, 0); /* nothing that was dirty is left out */
    }
}

static void check(Model *m)
{
    int64_t last = -1, dirty = 0, must = 0;

    for (size_t i = 0; i < m->n; i++) {
        if (m->must[i]) {
            int64_t at = (int64_t)i * 512;
            int64_t next = mirror_dirty_next(&m->d, at);

            g_assert_cmpint(next, >=, 0);
            g_assert_cmpint(next / m->d.chunk_bytes, ==, at / m->d.chunk_bytes);
            must += 512;
        }
    }
    for (int64_t at = mirror_dirty_next(&m->d, 0); at >= 0;
         at = mirror_dirty_next(&m->d, at + m->d.chunk_bytes)) {
        g_assert_cmpint(at, >, last);
        last = at;
        dirty += MIN(m->d.chunk_bytes, m->len - at);
    }
    g_assert_cmpint(mirror_dirty_count(&m->d), <=, dirty);
    g_assert_cmpint(mirror_dirty_count(&m->d) + 512, >, must);
    g_assert_cmpint(mirror_dirty_count(&m->d), <=, m->len);
}

static void play(GRand *rand, int64_t chunk, size_t fine_bytes)
{
    Model m = {.len = g_rand_int_range(rand, 1, 3000) * 512 + g_rand_int_range(rand, 0, 2) * 100};

    m.n = DIV_ROUND_UP(m.len, 512);
    m.must = g_malloc0(m.n);
    mirror_dirty_init(&m.d, m.len, chunk, fine_bytes);
    for (int i = 0; i < 400; i++) {
        int64_t bytes = g_rand_int_range(rand, 1, g_rand_int_range(rand, 0, 5) ? 20000 : m.len + 1);
        int64_t offset;

        bytes = MIN(bytes, m.len);
        offset = g_rand_int_range(rand, 0, m.len - bytes + 1);
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
            mirror_dirty_set_whole(&m.d, offset, bytes);
            break;
        case 1: {
            int64_t first = DIV_ROUND_UP(offset, 512);
            int64_t end = offset + bytes == m.len ? (int64_t)m.n : (offset + bytes) / 512;

            mirror_dirty_clear_covered(&m.d, offset, bytes);
            if (first < end) {
                memset(m.must + first, 0, end - first);
            }
            break;
        }
        case 2:
            take(&m, offset);
            break;
        default:
            mirror_dirty_set(&m.d, offset, bytes);
            memset(m.must + offset / 512, 1, (offset + bytes - 1) / 512 - offset / 512 + 1);
            break;
        }
        check(&m);
    }
    for (int64_t at; (at = mirror_dirty_next(&m.d, 0)) >= 0;) {
        take(&m, at);
    }
    g_assert_cmpint(mirror_dirty_count(&m.d), ==, 0);
    g_assert_cmpint(m.d.fine_units, ==, 0);
    mirror_dirty_free(&m.d);
    g_free(m.must);
}

static void test_nothing_dirty_is_ever_left_out(void)
{
    static const int64_t chunks[] = {512, 4096, 8192, 65536, 262144, 1 << 20};
    uint32_t s = seed();
    g_autoptr(GRand) rand = g_rand_new_with_seed(s);

    g_test_message("SEED=%u", s);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
            play(rand, chunks[i], 0);
            play(rand, chunks[i], 200);
            play(rand, chunks[i], 1 << 20);
        }
    }
}

static void test_a_small_write_dirties_little_of_a_clean_chunk(void)
{
    MirrorDirty d;

    mirror_dirty_init(&d, 1 << 20, 65536, 1 << 20);
    mirror_dirty_set(&d, 65536 + 5000, 512);
    g_assert_cmpint(mirror_dirty_count(&d), ==, 4096);
    g_assert_cmpuint(mirror_dirty_take(&d, 65536), ==, 2);
    mirror_dirty_set_whole(&d, 0, 65536);
    mirror_dirty_set(&d, 0, 512); /* it stays dirty whole */
    g_assert_cmpint(mirror_dirty_count(&d), ==, 65536);
    mirror_dirty_free(&d);
}

static void test_maps_cost_no_more_than_was_allowed(void)
{
    MirrorDirty d;

    mirror_dirty_init(&d, INT64_C(1) << 40, 65536, 64 * 1000);
    for (int64_t i = 0; i < 100000; i++) {
        mirror_dirty_set(&d, i * 65536, 512);
    }
    g_assert_cmpuint(g_hash_table_size(d.fine), <=, 1000);
    mirror_dirty_set_whole(&d, 0, d.len);
    g_assert_cmpuint(g_hash_table_size(d.fine), ==, 0);
    g_assert_cmpint(mirror_dirty_count(&d), ==, d.len);
    mirror_dirty_free(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror/dirty/nothing dirty is ever left out",
                    test_nothing_dirty_is_ever_left_out);
    g_test_add_func("/mirror/dirty/a small write dirties little of a clean chunk",
                    test_a_small_write_dirties_little_of_a_clean_chunk);
    g_test_add_func("/mirror/dirty/maps cost no more than was allowed",
                    test_maps_cost_no_more_than_was_allowed);
    return g_test_run();
}
