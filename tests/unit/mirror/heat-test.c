/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is hot, and how much of it (HM1 to HM4 of block/jobs/mirror/heat.c). */
#include <glib.h>
#include <stdlib.h>
#include "block/jobs/mirror/heat.h"
#include "util/osdep.h"

#define REGION  MIRROR_HEAT_REGION_MIN
/* Less heat is cold. */
#define COLDEST 8

static void write_unit(MirrorHeat *h, int64_t offset)
{
    mirror_heat_add(h, offset, MIRROR_HEAT_UNIT, MIRROR_HEAT_UNIT);
}

static void test_memory_is_bounded_for_any_disk_and_granularity(void)
{
    static const int64_t lens[] = {1, 512, 64 * KiB, GiB, 8192 * GiB, INT64_C(1) << 62};
    static const int64_t chunks[] = {512, 4 * KiB, 64 * KiB, 64 * MiB};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(chunks); j++) {
            MirrorHeat h;

            mirror_heat_init(&h, lens[i], chunks[j]);
            g_assert_cmpuint(h.n, <=, MIRROR_HEAT_REGIONS);
            g_assert_cmpint(h.region_bytes % chunks[j], ==, 0);
            g_assert_cmpint(h.region_bytes * (int64_t)h.n, >=, lens[i]);
            write_unit(&h, MAX(lens[i] - 1, 0)); /* its last block reaches behind the end */
            mirror_heat_age(&h, 1);
            mirror_heat_free(&h);
        }
    }
}

static void test_nothing_is_hot_at_first_and_everything_at_the_last_level(void)
{
    MirrorHeat h;

    mirror_heat_init(&h, 100 * REGION, 4 * KiB);
    for (int level = MIRROR_HEAT_NONE; level < MIRROR_HEAT_ALL; level++) {
        g_assert_false(mirror_heat_is_hot(&h, level, 0, h.len));
        g_assert_cmpint(mirror_heat_bytes(&h, level), ==, 0);
    }
    g_assert_true(mirror_heat_is_hot(&h, MIRROR_HEAT_ALL, 5 * REGION, 512));
    g_assert_cmpint(mirror_heat_bytes(&h, MIRROR_HEAT_ALL), ==, h.len);
    mirror_heat_free(&h);
}

/* One place again and again, others once. */
static void test_what_is_dirtied_once_is_not_hot(void)
{
    MirrorHeat h;

    mirror_heat_init(&h, 1000 * REGION, 4 * KiB);
    for (int window = 0; window < 20; window++) {
        for (int i = 0; i < 50; i++) {
            write_unit(&h, 7 * REGION + i % 16 * MIRROR_HEAT_UNIT);
        }
        for (int i = 0; i < 10; i++) {
            write_unit(&h, (100 + window * 10 + i) * REGION);
        }
        if (window > 0) {
            g_assert_cmpint(mirror_heat_outside(&h, MIRROR_HEAT_NONE), ==, 60 * MIRROR_HEAT_UNIT);
            g_assert_cmpint(mirror_heat_outside(&h, 1), ==, 10 * MIRROR_HEAT_UNIT); /* HM3 */
        }
        mirror_heat_age(&h, 1);
        for (int level = 1; level < MIRROR_HEAT_ALL; level++) {
            g_assert_true(mirror_heat_is_hot(&h, level, 7 * REGION, 512));
            g_assert_true(mirror_heat_is_hot(&h, level, 6 * REGION, 2 * REGION));
            g_assert_false(mirror_heat_is_hot(&h, level, 6 * REGION, REGION));
            g_assert_false(mirror_heat_is_hot(&h, level, (100 + window * 10) * REGION, 512));
            g_assert_cmpint(mirror_heat_bytes(&h, level), ==, REGION);
        }
    }
    mirror_heat_free(&h);
}

/* HM1 */
static void test_a_write_that_made_nothing_dirty_heats_nothing(void)
{
    MirrorHeat h;

    mirror_heat_init(&h, 100 * REGION, 4 * KiB);
    mirror_heat_add(&h, 0, MiB, 0);
    mirror_heat_add(&h, 0, 0, 0);
    mirror_heat_age(&h, 1);
    g_assert_cmpint(mirror_heat_outside(&h, MIRROR_HEAT_NONE), ==, 0);
    g_assert_false(mirror_heat_is_hot(&h, MIRROR_HEAT_ALL - 1, 0, h.len));
    mirror_heat_free(&h);
}

/* HM1, saturating. */
static void test_heat_does_not_wrap(void)
{
    MirrorHeat h;

    mirror_heat_init(&h, 100 * REGION, 4 * KiB);
    for (int i = 0; i < 3; i++) {
        for (int n = 0; n < 5000; n++) {
            mirror_heat_add(&h, 0, REGION, REGION);
        }
        write_unit(&h, 3 * REGION);
        write_unit(&h, 3 * REGION);
        mirror_heat_age(&h, 1);
        g_assert_true(mirror_heat_is_hot(&h, 1, 0, REGION));
        g_assert_false(mirror_heat_is_hot(&h, 1, 3 * REGION, REGION));
    }
    mirror_heat_free(&h);
}

/* HM2 */
static void test_what_is_left_alone_becomes_cold(void)
{
    static const int64_t steps[] = {1, 3, 8, 20, 1000};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        MirrorHeat h;
        int64_t windows = 0;

        mirror_heat_init(&h, 100 * REGION, 4 * KiB);
        for (int n = 0; n < 100; n++) {
            write_unit(&h, 0);
        }
        mirror_heat_age(&h, 1);
        g_assert_true(mirror_heat_is_hot(&h, 1, 0, REGION));
        while (mirror_heat_is_hot(&h, MIRROR_HEAT_ALL - 1, 0, REGION)) {
            mirror_heat_age(&h, steps[i]);
            windows += steps[i];
            g_assert_cmpint(windows, <, 2000);
        }
        g_assert_cmpint(windows, <=, MAX(steps[i], 30) + 30);
        g_assert_cmpint(mirror_heat_bytes(&h, MIRROR_HEAT_ALL - 1), ==, 0);
        mirror_heat_free(&h);
    }
}

static void test_what_is_dirtied_rarely_is_cold_where_nothing_is_hotter(void)
{
    MirrorHeat h;

    mirror_heat_init(&h, 100 * REGION, 4 * KiB);
    for (int window = 0; window < 100; window++) {
        if (window % 2 == 0) {
            write_unit(&h, 0);
        }
        mirror_heat_age(&h, 1);
        g_assert_false(mirror_heat_is_hot(&h, MIRROR_HEAT_ALL - 1, 0, h.len));
        g_assert_cmpint(mirror_heat_bytes(&h, MIRROR_HEAT_ALL - 1), ==, 0);
    }
    mirror_heat_free(&h);
}

/* Random heat: a level has its part of it, and a wider one is not less. */
static void test_a_level_has_its_part_of_the_heat(void)
{
    static const unsigned parts[] = {0, 8, 12, 15};
    const char *given = g_getenv("SEED");
    uint32_t seed = given ? strtoul(given, NULL, 10) : g_random_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    g_test_message("SEED=%u", seed);
    for (int round = 0; round < 300; round++) {
        int n = g_rand_int_range(rand, 1, 200), most = 1 << g_rand_int_range(rand, 1, 14);
        MirrorHeat h;

        mirror_heat_init(&h, n * REGION, 4 * KiB);
        for (int i = 0; i < n; i++) {
            int64_t units = g_rand_int_range(rand, 0, most);

            for (; units > 0; units -= 16) {
                mirror_heat_add(&h, i * REGION, REGION, MIN(units, 16) * MIRROR_HEAT_UNIT);
            }
        }
        mirror_heat_age(&h, 1);
        for (int level = 1; level < MIRROR_HEAT_ALL; level++) {
            uint64_t hot = 0, all = 0;
            int64_t bytes = 0;

            for (int i = 0; i < n; i++) {
                all += h.heat[i];
                if (mirror_heat_is_hot(&h, level, i * REGION, REGION)) {
                    hot += h.heat[i];
                    bytes += REGION;
                    g_assert_true(mirror_heat_is_hot(&h, level + 1, i * REGION, REGION));
                }
            }
            g_assert_true(hot * 16 >= all * parts[level] || h.least[level] == COLDEST ||
                          bytes == 0); /* HM2 */
            g_assert_cmpint(bytes, ==, mirror_heat_bytes(&h, level));
        }
        mirror_heat_free(&h);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror/heat/memory is bounded for any disk and granularity",
                    test_memory_is_bounded_for_any_disk_and_granularity);
    g_test_add_func("/mirror/heat/nothing is hot at first and everything at the last level",
                    test_nothing_is_hot_at_first_and_everything_at_the_last_level);
    g_test_add_func("/mirror/heat/what is dirtied once is not hot",
                    test_what_is_dirtied_once_is_not_hot);
    g_test_add_func("/mirror/heat/a write that made nothing dirty heats nothing",
                    test_a_write_that_made_nothing_dirty_heats_nothing);
    g_test_add_func("/mirror/heat/heat does not wrap", test_heat_does_not_wrap);
    g_test_add_func("/mirror/heat/what is left alone becomes cold",
                    test_what_is_left_alone_becomes_cold);
    g_test_add_func("/mirror/heat/what is dirtied rarely is cold where nothing is hotter",
                    test_what_is_dirtied_rarely_is_cold_where_nothing_is_hotter);
    g_test_add_func("/mirror/heat/a level has its part of the heat",
                    test_a_level_has_its_part_of_the_heat);
    return g_test_run();
}
