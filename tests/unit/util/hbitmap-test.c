/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HBitmap against a plain array of bools, and its promises about memory. */
#include "util/hbitmap.h"
#include "util/osdep.h"
#include "tests/unit/util/seed.h"

typedef struct Model {
    bool *bit;
    uint64_t size;
    int granularity;
} Model;

static uint64_t model_bits(const Model *m)
{
    return DIV_ROUND_UP(m->size, UINT64_C(1) << m->granularity);
}

static void model_set(Model *m, uint64_t start, uint64_t count, bool value)
{
    for (uint64_t item = start; item < start + count;) {
        m->bit[item >> m->granularity] = value;
        item = ((item >> m->granularity) + 1) << m->granularity;
    }
}

static bool model_get(const Model *m, uint64_t item)
{
    return m->bit[item >> m->granularity];
}

static int64_t model_find(const Model *m, uint64_t start, uint64_t end, bool value)
{
    for (uint64_t item = start; item < MIN(end, m->size); item++) {
        if (model_get(m, item) == value) {
            return (int64_t)item;
        }
    }
    return -1;
}

static uint64_t model_count(const Model *m)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < model_bits(m); i++) {
        count += m->bit[i];
    }
    return count << m->granularity;
}

/* All of it through the iterator, and the count. */
static void check_whole(const Model *m, const HBitmap *hb)
{
    HBitmapIter iter;

    g_assert_cmpuint(hbitmap_count(hb), ==, model_count(m));
    g_assert_cmpint(hbitmap_empty(hb), ==, model_count(m) == 0);
    hbitmap_iter_init(&iter, hb, 0);
    for (uint64_t i = 0; i < model_bits(m); i++) {
        if (m->bit[i]) {
            g_assert_cmpint(hbitmap_iter_next(&iter), ==, i << m->granularity);
        }
    }
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
}

/* Searches from @start over @count items. */
static void check_searches(const Model *m, const HBitmap *hb, uint64_t start, uint64_t count)
{
    uint64_t end = MIN(start + count, m->size);
    int64_t dirty = model_find(m, start, end, true);
    int64_t area_start = -2;
    int64_t area_count = -2;
    int64_t run;
    bool value = model_get(m, start);
    int64_t change = model_find(m, start, end, !value);

    g_assert_cmpint(hbitmap_get(hb, start), ==, value);
    g_assert_cmpint(hbitmap_next_dirty(hb, start, count), ==, dirty);
    g_assert_cmpint(hbitmap_next_zero(hb, start, count), ==, model_find(m, start, end, false));

    g_assert_cmpint(hbitmap_status(hb, start, count, &run), ==, value);
    g_assert_cmpint(run, ==, (change < 0 ? (int64_t)end : change) - (int64_t)start);

    g_assert_cmpint(
        hbitmap_next_dirty_area(hb, start, start + count, 1000, &area_start, &area_count), ==,
        dirty >= 0);
    if (dirty >= 0) {
        int64_t zero = model_find(m, dirty, end, false);
        int64_t length = (zero < 0 ? (int64_t)end : zero) - dirty;

        g_assert_cmpint(area_start, ==, dirty);
        g_assert_cmpint(area_count, ==, MIN(length, 1000));
    } else {
        g_assert_cmpint(area_start, ==, -2);
    }
}

static void random_change(GRand *rand, Model *m, HBitmap *hb)
{
    uint64_t unit = UINT64_C(1) << m->granularity;
    uint64_t start = test_rand_below(rand, m->size);
    uint64_t longest = g_rand_boolean(rand) ? m->size : MIN(m->size, 100 * unit);
    uint64_t count = MIN(test_rand_below(rand, longest + 1), m->size - start);

    if (g_rand_boolean(rand)) {
        hbitmap_set(hb, start, count);
        model_set(m, start, count, true);
    } else {
        uint64_t end = MIN(QEMU_ALIGN_UP(start + count, unit), m->size);

        start = QEMU_ALIGN_DOWN(start, unit);
        hbitmap_reset(hb, start, end - start);
        model_set(m, start, end - start, false);
    }
    if (count > 0) {
        uint64_t sum = 0;

        for (uint64_t bit = start / unit; bit < DIV_ROUND_UP(start + count, unit); bit++) {
            sum += m->bit[bit];
        }
        g_assert_cmpuint(hbitmap_count_range(hb, start, count), ==, sum * unit);
    }
}

static void random_resize(GRand *rand, Model *m, HBitmap *hb)
{
    uint64_t old_bits = model_bits(m);

    m->size = 1 + test_rand_below(rand, (UINT64_C(200000) << m->granularity));
    m->bit = g_renew(bool, m->bit, MAX(model_bits(m), 1));
    for (uint64_t i = old_bits; i < model_bits(m); i++) {
        m->bit[i] = false;
    }
    hbitmap_truncate(hb, m->size);
    g_assert_cmpuint(hbitmap_size(hb), ==, m->size);
}

static void test_model(void)
{
    GRand *rand = test_rand();

    for (int round = 0; round < 24; round++) {
        Model m = {.granularity = g_rand_int_range(rand, 0, 5)};
        HBitmap *hb;

        m.size = 1 + test_rand_below(rand, (UINT64_C(200000) << m.granularity));
        m.bit = g_new0(bool, model_bits(&m));
        hb = hbitmap_alloc(m.size, m.granularity);
        for (int step = 0; step < 60; step++) {
            random_change(rand, &m, hb);
            for (int i = 0; i < 3; i++) {
                check_searches(&m, hb, test_rand_below(rand, m.size),
                               1 + test_rand_below(rand, m.size));
            }
            if (step % 10 == 9) {
                check_whole(&m, hb);
                random_resize(rand, &m, hb);
                check_whole(&m, hb);
            }
        }
        hbitmap_free(hb);
        g_free(m.bit);
    }
    g_rand_free(rand);
}

static void test_merge(void)
{
    GRand *rand = test_rand();

    for (int round = 0; round < 40; round++) {
        uint64_t size = 1 + test_rand_below(rand, 300000);
        HBitmap *hb[3];
        HBitmap *result;
        Model m = {.size = size, .granularity = 0, .bit = g_new0(bool, size)};

        for (int i = 0; i < 3; i++) {
            hb[i] = hbitmap_alloc(size, round % 2 ? 4 : g_rand_int_range(rand, 0, 6));
        }
        for (int step = 0; step < 20; step++) {
            uint64_t start = test_rand_below(rand, size);

            hbitmap_set(hb[step % 2], start, 1 + test_rand_below(rand, MIN(size - start, 40000)));
        }
        result = hb[g_rand_int_range(rand, 0, 3)];
        hbitmap_set(hb[2], 0, size / 2); /* forgotten when it is only the result */
        for (int i = 0; i < 2; i++) {
            for (uint64_t item = 0; item < size; item++) {
                if (hbitmap_get(hb[i], item)) {
                    uint64_t unit = UINT64_C(1) << hbitmap_granularity(result);
                    uint64_t from = QEMU_ALIGN_DOWN(item, unit);

                    model_set(&m, from, MIN(unit, size - from), true);
                }
            }
        }
        hbitmap_merge(hb[0], hb[1], result);
        for (uint64_t item = 0; item < size; item++) {
            g_assert_cmpint(hbitmap_get(result, item), ==, model_get(&m, item));
        }
        for (int i = 0; i < 3; i++) {
            hbitmap_free(hb[i]);
        }
        g_free(m.bit);
    }
    g_rand_free(rand);
}

static void test_changes_during_a_walk_are_seen(void)
{
    HBitmap *hb = hbitmap_alloc(1 * MiB, 4);
    HBitmapIter iter;

    hbitmap_set(hb, 0, 64);
    hbitmap_iter_init(&iter, hb, 17);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 16);
    hbitmap_reset(hb, 0, 64);
    hbitmap_set(hb, 1 * MiB - 1, 1);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 1 * MiB - 16);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    hbitmap_free(hb);
}

static void test_a_huge_disk_costs_little(void)
{
    HBitmap *hb = hbitmap_alloc(8 * TiB, 12);

    g_assert_cmpuint(hbitmap_memory(hb), <, 1024);
    hbitmap_set(hb, 0, 8 * TiB);
    g_assert_cmpuint(hbitmap_memory(hb), <, 1024 * 1024);
    g_assert_cmpuint(hbitmap_count(hb), ==, 8 * TiB);
    hbitmap_reset(hb, 5 * TiB, 4096);
    g_assert_cmpuint(hbitmap_memory(hb), <, 1024 * 1024);
    g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, 5 * TiB);
    hbitmap_set(hb, 5 * TiB, 1);
    g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, -1);
    hbitmap_reset_all(hb);
    g_assert_cmpuint(hbitmap_memory(hb), <, 1024);
    hbitmap_free(hb);
}

static void test_scattered_bits_of_8_tib_fit_in_20_mib(void)
{
    HBitmap *hb = hbitmap_alloc(8 * TiB, 16);
    const int64_t leaf = INT64_C(32768)
                         << 16; /* items under one leaf: one bit in each is the worst */

    for (int64_t item = 0; item < 8 * TiB; item += leaf) {
        hbitmap_set(hb, item, 1);
    }
    g_assert_cmpuint(hbitmap_memory(hb), <, 20 * MiB);
    g_assert_cmpuint(hbitmap_count(hb), ==, 8 * TiB / leaf * 65536);
    hbitmap_free(hb);
}

static void test_the_largest_sizes(void)
{
    for (int granularity = 0; granularity < 64; granularity++) {
        HBitmap *hb = hbitmap_alloc(INT64_MAX, granularity);
        int64_t start;
        int64_t count;

        hbitmap_set(hb, INT64_MAX - 1, 1);
        g_assert_true(hbitmap_get(hb, INT64_MAX - 1));
        g_assert_true(hbitmap_next_dirty_area(hb, 0, INT64_MAX, INT64_MAX, &start, &count));
        g_assert_cmpint(start + count, ==, INT64_MAX);
        hbitmap_set(hb, 0, INT64_MAX);
        g_assert_cmpint(hbitmap_next_zero(hb, 0, INT64_MAX), ==, -1);
        hbitmap_truncate(hb, 1);
        g_assert_cmpuint(hbitmap_count(hb), ==, UINT64_C(1) << granularity);
        hbitmap_truncate(hb, INT64_MAX);
        g_assert_cmpuint(hbitmap_count(hb), ==, UINT64_C(1) << granularity);
        hbitmap_truncate(hb, 0);
        g_assert_true(hbitmap_empty(hb));
        hbitmap_free(hb);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/hbitmap/agrees with an array of bools", test_model);
    g_test_add_func("/util/hbitmap/a merge is the union at any granularity", test_merge);
    g_test_add_func("/util/hbitmap/changes during a walk are seen",
                    test_changes_during_a_walk_are_seen);
    g_test_add_func("/util/hbitmap/a huge disk that is all clear or all set costs little",
                    test_a_huge_disk_costs_little);
    g_test_add_func("/util/hbitmap/scattered bits of 8 TiB fit in 20 MiB",
                    test_scattered_bits_of_8_tib_fit_in_20_mib);
    g_test_add_func("/util/hbitmap/the largest sizes work at every granularity",
                    test_the_largest_sizes);
    return g_test_run();
}
