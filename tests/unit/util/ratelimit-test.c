/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Speed limits on a clock of our own. */
#include "util/ratelimit.h"
#include "util/osdep.h"
#include "tests/unit/util/seed.h"

#define SLICE_NS (100 * SCALE_MS)

static void test_speed_is_kept(void)
{
    GRand *rand = test_rand();
    const uint64_t speeds[] = {1, 1000, 65536, 10 * MiB, 8 * (uint64_t)GiB};

    for (size_t i = 0; i < ARRAY_SIZE(speeds); i++) {
        RateLimit limit;
        uint64_t done = 0;
        uint64_t last = 0;
        int64_t start = 12345;
        int64_t now = start;
        double allowed;

        ratelimit_init(&limit);
        ratelimit_set_speed(&limit, speeds[i], SLICE_NS);
        for (int step = 0; step < 10000; step++) {
            last = 1 + test_rand_below(rand, 65536);
            done += last;
            now += ratelimit_calculate_delay(&limit, last, now);
        }
        /* Now the next request would start: all before it is paid, but for less than one slice. */
        allowed = (double)(now - start + SLICE_NS) / NANOSECONDS_PER_SECOND * (double)speeds[i];
        g_assert_cmpfloat((double)done, <=, allowed * 1.000001 + 1);
        /* And nobody waited longer than what was done is worth. */
        g_assert_cmpfloat((double)(now - start), <=,
                          (double)done / (double)speeds[i] * NANOSECONDS_PER_SECOND * 1.000001 + 1);
    }
    g_rand_free(rand);
}

static void test_a_new_speed_counts_at_once(void)
{
    RateLimit limit;

    ratelimit_init(&limit);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, UINT64_MAX, 0), ==, 0);
    ratelimit_set_speed(&limit, 1, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, 65536, 0), ==,
                    65536 * NANOSECONDS_PER_SECOND);
    ratelimit_set_speed(&limit, 65536, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, 65536, 5), ==, NANOSECONDS_PER_SECOND);
    ratelimit_set_speed(&limit, 0, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, 65536, 6), ==, 0);
}

static void test_idle_time_is_not_saved_up(void)
{
    RateLimit limit;

    ratelimit_init(&limit);
    ratelimit_set_speed(&limit, 1000, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, 50, 0), ==, 0);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, 200, 3600 * NANOSECONDS_PER_SECOND), ==,
                    200 * SCALE_MS);
}

static void test_enormous_requests_do_not_overflow(void)
{
    RateLimit limit;

    ratelimit_init(&limit);
    ratelimit_set_speed(&limit, 1, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, UINT64_MAX, 1000), ==, INT64_MAX - 1000);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, UINT64_MAX, 2000), ==, INT64_MAX - 2000);
    ratelimit_set_speed(&limit, UINT64_MAX, SLICE_NS);
    g_assert_cmpint(ratelimit_calculate_delay(&limit, UINT64_MAX, 1000), ==,
                    NANOSECONDS_PER_SECOND);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/ratelimit/speed is kept", test_speed_is_kept);
    g_test_add_func("/util/ratelimit/a new speed counts at once", test_a_new_speed_counts_at_once);
    g_test_add_func("/util/ratelimit/idle time is not saved up", test_idle_time_is_not_saved_up);
    g_test_add_func("/util/ratelimit/enormous requests do not overflow",
                    test_enormous_requests_do_not_overflow);
    return g_test_run();
}
