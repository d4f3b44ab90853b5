/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ratelimit.h - how long to wait so that a job keeps its speed
 *
 * Time is cut in slices; each slice allows speed * slice units, and a request that starts within the
 * allowance passes whole.  What a request took beyond is paid by the slices after it:
 *
 *      slice 0        slice 1        slice 2
 *     |#### ###|#####              |
 *          a     b reaches into slice 1: the next request waits for slice 2
 *
 * The time comes from the caller, in nanoseconds of any steady clock.  Not locked.
 */
#ifndef UTIL_RATELIMIT_H
#define UTIL_RATELIMIT_H

#include <stdint.h>

typedef struct RateLimit {
    uint64_t speed; /* units a second; 0: no limit */
    uint64_t slice_ns;
    uint64_t slice_quota;   /* units a slice, at least 1 */
    int64_t slice_start_ns; /* start of the run of slices now being paid */
    int64_t slice_end_ns;   /* when the units so far are paid; 0: no run yet */
    uint64_t dispatched;    /* units since slice_start_ns */
} RateLimit;

void ratelimit_init(RateLimit *limit);

/**
 * ratelimit_set_speed() - change the speed (0: unlimited), from this moment on
 *
 * What was dispatched before is forgotten, so that nobody waits at the old speed's price.
 * A sleeper has to be woken by the caller to profit.
 */
void ratelimit_set_speed(RateLimit *limit, uint64_t speed, uint64_t slice_ns);

/**
 * ratelimit_calculate_delay() - account @n units, done or about to be done, at @now_ns
 *
 * Return: nanoseconds to wait before the next request; 0 if none.
 */
int64_t ratelimit_calculate_delay(RateLimit *limit, uint64_t n, int64_t now_ns);

#endif
