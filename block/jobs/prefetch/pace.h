/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pace.h - how fast one side of a prefetching is, and whether that says that somebody else needs the storage
 *
 *     requests   |--1--|     |------3------|        bytes are counted at the end of each
 *                   |----2----|
 *     busy       |============================|     a window ends with the request that makes it long enough
 *
 * The throughput of a window is its bytes by the time in which there was something to do; the average gives
 * PACE_HISTORY of what it was before to each.  Below the least that is wanted somebody else uses what we use.
 */
#ifndef BLOCK_JOBS_PREFETCH_PACE_H
#define BLOCK_JOBS_PREFETCH_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Weight of all windows before the last one. */
#define PACE_HISTORY 0.8

typedef struct PrefetchPace {
    int64_t min;        /* bytes a second; 0: whatever it is, it is enough */
    int64_t measure_ns; /* a window is at least so long */
    unsigned busy;      /* requests under way */
    int64_t busy_since_ns, busy_ns, bytes;
    int64_t average; /* bytes a second; 0: not known yet */
    bool is_slow;    /* a window ended below the least, and nobody has asked since */
} PrefetchPace;

void prefetch_pace_begin(PrefetchPace *pace, int64_t now_ns);
void prefetch_pace_end(PrefetchPace *pace, int64_t now_ns, int64_t bytes);
/* Whether the last window that ended was too slow; once for each. */
bool prefetch_pace_take_slow(PrefetchPace *pace);

#endif
