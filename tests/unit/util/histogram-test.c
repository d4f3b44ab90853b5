/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Histograms beside sorted arrays, and one that is read while it is written. */
#include "util/histogram.h"
#include "util/osdep.h"
#include "tests/unit/util/seed.h"

static void test_small_times_are_exact(void)
{
    Histogram *h = g_new0(Histogram, 1);

    g_assert_cmpint(histogram_percentile(h, 0.5), ==, 0);
    for (int ns = 1; ns <= 30; ns++) {
        histogram_add(h, ns);
    }
    g_assert_cmpint(histogram_percentile(h, 0.5), ==, 15);
    g_assert_cmpint(histogram_percentile(h, 0), ==, 1);
    g_assert_cmpint(histogram_percentile(h, 1), ==, 30);
    g_assert_cmpuint(histogram_count(h), ==, 30);
    g_free(h);
}

static void test_extremes(void)
{
    Histogram *h = g_new0(Histogram, 1);

    histogram_add(h, -7);
    g_assert_cmpint(histogram_max(h), ==, 0);
    g_assert_cmpint(histogram_percentile(h, 1), ==, 0);
    histogram_add(h, INT64_MAX);
    g_assert_cmpint(histogram_max(h), ==, INT64_MAX);
    g_assert_cmpint(histogram_percentile(h, 1), ==, INT64_MAX);
    g_assert_cmpint(histogram_percentile(h, 7), ==, INT64_MAX);
    g_assert_cmpint(histogram_percentile(h, -7), ==, 0);
    histogram_reset(h);
    g_assert_cmpuint(histogram_count(h), ==, 0);
    g_assert_cmpint(histogram_max(h), ==, 0);
    g_assert_cmpint(histogram_percentile(h, 0.99), ==, 0);
    g_free(h);
}

static int compare(const void *a, const void *b)
{
    const int64_t *left = a;
    const int64_t *right = b;

    return (*left > *right) - (*left < *right);
}

/* The smallest of the sorted @times that a @part of them do not exceed. */
static int64_t exact_percentile(const int64_t *times, int n, double part)
{
    for (int i = 0; i < n; i++) {
        if (i + 1 >= n * part) {
            return times[i];
        }
    }
    return times[n - 1];
}

static void test_percentiles(void)
{
    enum { TIMES = 5000, ROUNDS = 20 };
    GRand *rand = test_rand();
    Histogram *h = g_new0(Histogram, 1);
    int64_t *times = g_new(int64_t, TIMES);
    const double parts[] = {0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1};

    for (int round = 0; round < ROUNDS; round++) {
        int n = g_rand_int_range(rand, 1, TIMES + 1);

        for (int i = 0; i < n; i++) {
            times[i] = (int64_t)test_rand_below(rand, UINT64_C(1) << g_rand_int_range(rand, 1, 63));
            histogram_add(h, times[i]);
        }
        qsort(times, n, sizeof(*times), compare);
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
            int64_t exact = exact_percentile(times, n, parts[i]);
            int64_t known = histogram_percentile(h, parts[i]);

            g_assert_cmpint(known, >=, exact);
            g_assert_cmpint(known - exact, <=, exact / HISTOGRAM_SUB_BUCKETS);
        }
        g_assert_cmpuint(histogram_count(h), ==, (uint64_t)n);
        g_assert_cmpint(histogram_max(h), ==, times[n - 1]);
        histogram_reset(h);
    }
    g_free(times);
    g_free(h);
    g_rand_free(rand);
}

typedef struct Shared {
    Histogram h;
    int written; /* atomic: the writer has ended */
} Shared;

enum { SHARED_TIMES = 300000, SHARED_MAX_NS = 1000 * 1000 };

static void *write_times(void *opaque)
{
    Shared *shared = opaque;

    for (int i = 0; i < SHARED_TIMES; i++) {
        histogram_add(&shared->h, 1000 + (int64_t)i * 997 % (SHARED_MAX_NS - 1000));
    }
    __atomic_store_n(&shared->written, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void test_read_while_written(void)
{
    Shared *shared = g_new0(Shared, 1);
    GThread *writer = g_thread_new("writer", write_times, shared);
    uint64_t count = 0;

    while (!__atomic_load_n(&shared->written, __ATOMIC_SEQ_CST)) {
        uint64_t now = histogram_count(&shared->h);
        int64_t p99 = histogram_percentile(&shared->h, 0.99);

        g_assert_cmpuint(now, >=, count);
        g_assert_cmpint(p99, <=, SHARED_MAX_NS);
        g_assert_true(now == 0 || p99 >= 1000);
        count = now;
    }
    g_thread_join(writer);
    g_assert_cmpuint(histogram_count(&shared->h), ==, SHARED_TIMES);
    g_free(shared);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/histogram/small times are exact", test_small_times_are_exact);
    g_test_add_func("/util/histogram/nothing and everything are times", test_extremes);
    g_test_add_func("/util/histogram/percentiles are right to one bucket", test_percentiles);
    g_test_add_func("/util/histogram/it is read while it is written", test_read_while_written);
    return g_test_run();
}
