/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ratelimit.c - the speed limit of jobs; the picture is in its header */
#include "util/ratelimit.h"
#include "util/osdep.h"

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

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
