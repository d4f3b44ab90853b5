/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Histograms, and speed limits on a clock of our own. */
#include "util/latency.h"
#include "util/osdep.h"
#include "util/ratelimit.h"
#include "tests/unit/util/seed.h"

static void test_small_times_are_exact(void)
{
    LatencyHistogram *hist = g_new0(LatencyHistogram, 1);

    for (int ns = 1; ns <= 60; ns++) {
        latency_add(hist, ns);
    }
    g_assert_cmpuint(latency_percentile(hist, 50), ==, 30);
    g_assert_cmpuint(latency_percentile(hist, 0), ==, 1);
    g_assert_cmpuint(latency_percentile(hist, 100), ==, 60);
    g_assert_cmpuint(latency_mean(hist), ==, 30);
    latency_reset(hist);
    g_assert_cmpuint(latency_percentile(hist, 50), ==, 0);
    latency_add(hist, -7);
    g_assert_cmpuint(hist->max_ns, ==, 0);
    latency_add(hist, INT64_MAX);
    g_assert_cmpuint(latency_percentile(hist, 100), ==, INT64_MAX);
    g_free(hist);
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;

    return (*left > *right) - (*left < *right);
}

static void test_percentiles(void)
{
    enum { TIMES = 5000 };
    GRand *rand = test_rand();
    LatencyHistogram *hist = g_new0(LatencyHistogram, 1);
    LatencyHistogram *other = g_new0(LatencyHistogram, 1);
    uint64_t *times = g_new(uint64_t, TIMES);
    const double percents[] = {0.1, 1, 10, 50, 90, 99, 99.9, 100};

    for (int i = 0; i < TIMES; i++) {
        times[i] = test_rand_below(rand, UINT64_C(1) << g_rand_int_range(rand, 1, 62));
        latency_add(i % 3 ? hist : other, (int64_t)times[i]);
    }
    latency_merge(hist, other);
    g_assert_cmpuint(hist->count, ==, TIMES);
    qsort(times, TIMES, sizeof(*times), compare);
    for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
        uint64_t exact = times[(int)(TIMES * percents[i] / 100 + 0.999999) - 1];
        uint64_t known = latency_percentile(hist, percents[i]);

        g_assert_cmpuint(known, >=, exact);
        g_assert_cmpuint(known - exact, <=, exact / LATENCY_SUB_BUCKETS);
    }
    g_assert_cmpuint(hist->min_ns, ==, times[0]);
    g_assert_cmpuint(hist->max_ns, ==, times[TIMES - 1]);
    g_free(times);
    g_free(other);
    g_free(hist);
    g_rand_free(rand);
}

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
    g_test_add_func("/util/latency/small times are exact", test_small_times_are_exact);
    g_test_add_func("/util/latency/percentiles are right to one bucket", test_percentiles);
    g_test_add_func("/util/ratelimit/speed is kept", test_speed_is_kept);
    g_test_add_func("/util/ratelimit/a new speed counts at once", test_a_new_speed_counts_at_once);
    g_test_add_func("/util/ratelimit/idle time is not saved up", test_idle_time_is_not_saved_up);
    g_test_add_func("/util/ratelimit/enormous requests do not overflow",
                    test_enormous_requests_do_not_overflow);
    return g_test_run();
}
