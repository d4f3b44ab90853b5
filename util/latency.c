/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * latency.c - a log-linear histogram, and the speed limit of jobs: time in numbers
 *
 * A time is at most INT64_MAX, whose index is LATENCY_BUCKETS - 1.  With LATENCY_SUB_BITS = 5:
 *
 *      index     0 .. 31      32 .. 63     64 .. 95     96 .. 127  ...
 *      values    0 .. 31      32 .. 63     64 .. 127   128 .. 255  ...
 *      width        1            1            2            4       ...
 */
#include "util/latency.h"
#include "util/osdep.h"
#include "util/ratelimit.h"

static unsigned int bucket_of(uint64_t ns)
{
    int shift = 63 - clz64(ns | LATENCY_SUB_BUCKETS) - LATENCY_SUB_BITS;

    return (unsigned int)shift * LATENCY_SUB_BUCKETS + (unsigned int)(ns >> shift);
}

/* The largest value that falls in a bucket. */
static uint64_t bucket_top(unsigned int index)
{
    unsigned int shift;
    uint64_t first;

    if (index < 2 * LATENCY_SUB_BUCKETS) {
        return index;
    }
    shift = index / LATENCY_SUB_BUCKETS - 1;
    first = (uint64_t)(index % LATENCY_SUB_BUCKETS + LATENCY_SUB_BUCKETS) << shift;
    return first + ((UINT64_C(1) << shift) - 1);
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void latency_reset(LatencyHistogram *hist)
{
    *hist = (LatencyHistogram){0};
}

void latency_add(LatencyHistogram *hist, int64_t ns)
{
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;

    hist->min_ns = hist->count == 0 ? value : MIN(hist->min_ns, value);
    hist->max_ns = MAX(hist->max_ns, value);
    hist->sum_ns = add_saturating(hist->sum_ns, value);
    hist->count++;
    hist->bucket[bucket_of(value)]++;
}

void latency_merge(LatencyHistogram *into, const LatencyHistogram *from)
{
    if (from->count == 0) {
        return;
    }
    into->min_ns = into->count == 0 ? from->min_ns : MIN(into->min_ns, from->min_ns);
    into->max_ns = MAX(into->max_ns, from->max_ns);
    into->sum_ns = add_saturating(into->sum_ns, from->sum_ns);
    into->count += from->count;
    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
        into->bucket[i] += from->bucket[i];
    }
}

uint64_t latency_percentile(const LatencyHistogram *hist, double percent)
{
    double wanted = (double)hist->count * CLAMP(percent, 0.0, 100.0) / 100.0;
    uint64_t seen = 0;

    if (hist->count == 0) {
        return 0;
    }
    if (wanted <= 0) {
        return hist->min_ns;
    }
    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
        seen += hist->bucket[i];
        if ((double)seen >= wanted) {
            return CLAMP(bucket_top(i), hist->min_ns, hist->max_ns);
        }
    }
    return hist->max_ns;
}

uint64_t latency_mean(const LatencyHistogram *hist)
{
    return hist->count ? hist->sum_ns / hist->count : 0;
}

/* RateLimit */

void ratelimit_init(RateLimit *limit)
{
    *limit = (RateLimit){0};
}

void ratelimit_set_speed(RateLimit *limit, uint64_t speed, uint64_t slice_ns)
{
    assert(slice_ns > 0 || speed == 0);
    assert(slice_ns <= INT64_MAX);
    *limit = (RateLimit){.speed = speed, .slice_ns = slice_ns};
}

int64_t ratelimit_calculate_delay(RateLimit *limit, uint64_t n, int64_t now_ns)
{
    unsigned __int128 worth_ns;
    int64_t ahead_ns;

    if (limit->speed == 0) {
        return 0;
    }
    if (limit->paid_until_ns <= now_ns) {
        limit->run_start_ns = now_ns;
        limit->dispatched = 0;
    }
    limit->dispatched = add_saturating(limit->dispatched, n);

    /* From the start of the run, so that rounding does not add up. */
    worth_ns = (unsigned __int128)limit->dispatched * NANOSECONDS_PER_SECOND / limit->speed;
    worth_ns = MIN(worth_ns, (unsigned __int128)(INT64_MAX - limit->run_start_ns));
    limit->paid_until_ns = limit->run_start_ns + (int64_t)worth_ns;

    ahead_ns = limit->paid_until_ns - now_ns;
    return ahead_ns < (int64_t)limit->slice_ns ? 0 : ahead_ns;
}
