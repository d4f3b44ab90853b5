/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * histogram.c - log-linear buckets of times
 *
 * A time is at most INT64_MAX, whose index is HISTOGRAM_BUCKETS - 1.  With HISTOGRAM_SUB_BITS = 4:
 *
 *      index     0 .. 15      16 .. 31     32 .. 47     48 .. 63  ...
 *      values    0 .. 15      16 .. 31     32 .. 63     64 .. 127 ...
 *      width        1            1            2            4      ...
 *
 * There is one writer, so a counter grows by a load and a store, which cost what they would without
 * readers.  Buckets need not agree with each other for any answer, so they are relaxed.
 */
#include "util/histogram.h"
#include "util/osdep.h"

#define LOAD(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

static unsigned int bucket_of(uint64_t ns)
{
    int shift = 63 - clz64(ns | HISTOGRAM_SUB_BUCKETS) - HISTOGRAM_SUB_BITS;

    return (unsigned int)shift * HISTOGRAM_SUB_BUCKETS + (unsigned int)(ns >> shift);
}

/* The largest value that falls in a bucket. */
static int64_t bucket_top(unsigned int index)
{
    unsigned int shift;
    uint64_t first;

    if (index < 2 * HISTOGRAM_SUB_BUCKETS) {
        return index;
    }
    shift = index / HISTOGRAM_SUB_BUCKETS - 1;
    first = (uint64_t)(index % HISTOGRAM_SUB_BUCKETS + HISTOGRAM_SUB_BUCKETS) << shift;
    return (int64_t)(first + ((UINT64_C(1) << shift) - 1));
}

void histogram_add(Histogram *h, int64_t ns)
{
    uint64_t *bucket;

    ns = MAX(ns, 0);
    bucket = &h->bucket[bucket_of((uint64_t)ns)];
    STORE(bucket, LOAD(bucket) + 1);
    if (ns > LOAD(&h->max_ns)) {
        STORE(&h->max_ns, ns);
    }
    /* Who sees it counted sees the rest of it. */
    __atomic_store_n(&h->count, LOAD(&h->count) + 1, __ATOMIC_RELEASE);
}

void histogram_reset(Histogram *h)
{
    STORE(&h->count, 0);
    STORE(&h->max_ns, 0);
    for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        STORE(&h->bucket[i], 0);
    }
}

uint64_t histogram_count(const Histogram *h)
{
    return __atomic_load_n(&h->count, __ATOMIC_ACQUIRE);
}

int64_t histogram_max(const Histogram *h)
{
    return LOAD(&h->max_ns);
}

int64_t histogram_percentile(const Histogram *h, double part)
{
    uint64_t seen = 0;
    double wanted = (double)histogram_count(h) * CLAMP(part, 0.0, 1.0);
    int64_t max_ns = LOAD(&h->max_ns);

    for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += LOAD(&h->bucket[i]);
        if (seen > 0 && (double)seen >= wanted) {
            return MIN(bucket_top(i), max_ns);
        }
    }
    return max_ns;
}
