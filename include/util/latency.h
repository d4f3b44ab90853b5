/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * latency.h - how long things took: a histogram of nanoseconds in fixed memory
 *
 * Log-linear: each power of two is cut into LATENCY_SUB_BUCKETS equal parts, so a value is known to
 * 1 / LATENCY_SUB_BUCKETS of itself, from 1 ns to 292 years, in 15 KiB.  Not locked; merge the
 * histograms of several threads instead of sharing one.
 */
#ifndef UTIL_LATENCY_H
#define UTIL_LATENCY_H

#include <stdint.h>

#define LATENCY_SUB_BITS    5
#define LATENCY_SUB_BUCKETS (1 << LATENCY_SUB_BITS)
#define LATENCY_BUCKETS     ((64 - LATENCY_SUB_BITS) * LATENCY_SUB_BUCKETS)

typedef struct LatencyHistogram {
    uint64_t count;
    uint64_t sum_ns; /* stops at UINT64_MAX */
    uint64_t min_ns; /* exact; 0 when empty */
    uint64_t max_ns; /* exact */
    uint64_t bucket[LATENCY_BUCKETS];
} LatencyHistogram;

void latency_reset(LatencyHistogram *hist);
/* A negative time (a clock that stepped back) counts as 0. */
void latency_add(LatencyHistogram *hist, int64_t ns);
void latency_merge(LatencyHistogram *into, const LatencyHistogram *from);
/* The smallest known time that @percent (0 to 100) of the times do not exceed; 0 when empty. */
uint64_t latency_percentile(const LatencyHistogram *hist, double percent);
uint64_t latency_mean(const LatencyHistogram *hist);

#endif
