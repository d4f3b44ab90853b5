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

#include <stdint.h>

typedef struct RateLimit {
    uint64_t speed; /* units a second; 0: no limit */
    uint64_t slice_ns;
    int64_t run_start_ns;
    int64_t paid_until_ns; /* when the clock will have caught up */
    uint64_t dispatched;   /* units since run_start_ns */
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
