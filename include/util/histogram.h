/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * histogram.h - how long things took: nanoseconds in fixed memory, written here and read anywhere
 *
 * Log-linear: each power of two is cut into HISTOGRAM_SUB_BUCKETS equal parts, so a value is known to
 * 1 / HISTOGRAM_SUB_BUCKETS of itself, from 1 ns to 292 years, in less than 8 KiB.
 *
 * Context: add and reset: one writer (one thread, or under the caller's lock).  The rest: any thread,
 * without a lock; what is being added meanwhile may be in one answer and not yet in another.
 */
#ifndef UTIL_HISTOGRAM_H
#define UTIL_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS    4
#define HISTOGRAM_SUB_BUCKETS (1 << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS     ((64 - HISTOGRAM_SUB_BITS) * HISTOGRAM_SUB_BUCKETS)

/* Empty when zeroed. */
typedef struct Histogram {
    uint64_t count; /* atomic, all of it */
    int64_t max_ns;
    uint64_t bucket[HISTOGRAM_BUCKETS];
} Histogram;

/* A negative time (a clock that stepped back) counts as 0. */
void histogram_add(Histogram *h, int64_t ns);
/* A reader meanwhile may see it half emptied. */
void histogram_reset(Histogram *h);

uint64_t histogram_count(const Histogram *h);
/* The longest, exact; 0 when empty. */
int64_t histogram_max(const Histogram *h);
/*
 * The time that a @part (0 to 1; 0.99 for p99) of the times do not exceed: never less than the true
 * one, and at most 1 / HISTOGRAM_SUB_BUCKETS of it more.  0 when empty.
 */
int64_t histogram_percentile(const Histogram *h, double part);

#endif
