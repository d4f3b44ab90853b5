/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ratelimit.h - how long to wait so that a job keeps its speed
 *
 * What was dispatched is worth time: units / speed.  A job may run ahead of the clock by less than
 * one slice; when it is further ahead it waits until the clock has caught up, and a new run begins:
 *
 *     clock        0         1         2         3         4   (slices)
 *     dispatched   ####......    ->  0.4 ahead: go on
 *                  ##############    1.4 ahead: wait until 1.4
 *
 * So a job sleeps about once a slice, not once a request.  Idle time is not saved up.
 * The time comes from the caller, in nanoseconds of any steady clock.  Not locked.
 */
#ifndef UTIL_RATELIMIT_H
#define UTIL_RATELIMIT_H

#include "util/osdep.h"

typedef struct RateLimit {
    uint64_t speed; /* units a second; 0: no limit */
    uint64_t slice_ns;
    int64_t run_start_ns;
    int64_t paid_until_ns; /* when the clock will have caught up */
    uint64_t dispatched;   /* units since run_start_ns */
} RateLimit;

static inline uint64_t ratelimit_add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline void ratelimit_init(RateLimit *limit)
{
    *limit = (RateLimit){0};
}

/**
 * ratelimit_set_speed() - change the speed (0: unlimited), from this moment on
 *
 * What was dispatched before is forgotten, so that nobody waits at the old speed's price.
 * A sleeper has to be woken by the caller to profit.
 */
static inline void ratelimit_set_speed(RateLimit *limit, uint64_t speed, uint64_t slice_ns)
{
    assert(slice_ns > 0 || speed == 0);
    assert(slice_ns <= INT64_MAX);
    *limit = (RateLimit){.speed = speed, .slice_ns = slice_ns};
}

/**
 * ratelimit_calculate_delay() - account @n units, done or about to be done, at @now_ns
 *
 * Return: nanoseconds to wait before the next request; 0 if none.
 */
static inline int64_t ratelimit_calculate_delay(RateLimit *limit, uint64_t n, int64_t now_ns)
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
    limit->dispatched = ratelimit_add_saturating(limit->dispatched, n);

    /* From the start of the run, so that rounding does not add up. */
    worth_ns = (unsigned __int128)limit->dispatched * NANOSECONDS_PER_SECOND / limit->speed;
    worth_ns = MIN(worth_ns, (unsigned __int128)(INT64_MAX - limit->run_start_ns));
    limit->paid_until_ns = limit->run_start_ns + (int64_t)worth_ns;

    ahead_ns = limit->paid_until_ns - now_ns;
    return ahead_ns < (int64_t)limit->slice_ns ? 0 : ahead_ns;
}

#endif
