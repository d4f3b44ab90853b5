/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Throughput of one side of a prefetching; pace.h has the picture. */
#include "block/jobs/prefetch/pace.h"
#include "util/osdep.h"

static void end_window(PrefetchPace *pace)
{
    int64_t rate =
        (int64_t)((double)pace->bytes * NANOSECONDS_PER_SECOND / (double)MAX(pace->busy_ns, 1));

    pace->average =
        pace->average
            ? (int64_t)(PACE_HISTORY * (double)pace->average + (1 - PACE_HISTORY) * (double)rate)
            : rate;
    pace->is_slow = pace->average < pace->min;
    pace->busy_ns = pace->bytes = 0;
}

void prefetch_pace_begin(PrefetchPace *pace, int64_t now_ns)
{
    if (pace->busy++ == 0) {
        pace->busy_since_ns = now_ns;
    }
}

void prefetch_pace_end(PrefetchPace *pace, int64_t now_ns, int64_t bytes)
{
    pace->bytes += bytes;
    pace->busy_ns += now_ns - pace->busy_since_ns;
    pace->busy_since_ns = now_ns;
    pace->busy--;
    if (pace->bytes && pace->busy_ns >= pace->measure_ns) {
        end_window(pace);
    }
}

bool prefetch_pace_take_slow(PrefetchPace *pace)
{
    bool slow = pace->is_slow;

    pace->is_slow = false;
    return slow;
}
