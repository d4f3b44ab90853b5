/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast guests dirty the disk, how fast it is copied, and what follows from that.
 *
 *     dirtied   |--------- a window ---------|      bytes that became dirty by guests' writes
 *     written                                       bytes that guests wrote
 *     copied    only while something is in flight
 *
 *     dirtied > 3/4 copied for MIRROR_BEHIND_NS   -->  write-through: a guest's write goes to the target at
 *                                                      once, so nothing more becomes dirty by it
 *     written < 1/2 copied for MIRROR_QUIET_NS    -->  back to the background
 *
 * R1  It comes to an end: in write-through a write makes dirty only what is in flight at that moment, so what is
 *     dirty shrinks; guests are slowed to what the target takes, which is the only way that there is.
 * R2  A write that goes through waits for the target, for a bounded time (TH2), never for an operation: a chunk in
 *     flight becomes dirty.  After one that has waited in vain write-through rests for MIRROR_QUIET_NS.
 * R3  What queues up in front of the target helps nobody: when an operation takes much longer than the best did,
 *     fewer are begun; a server that is far but not busy keeps its many.
 * R4  While guests are busy less is in flight, in shorter runs: they share the source's disk.
 */
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"

/* Long enough for a rate that is more than chance, short enough to answer within a second. */
#define WINDOW_NS        (200 * SCALE_MS)
#define MIRROR_BEHIND_NS (1000 * SCALE_MS)
#define MIRROR_QUIET_NS  (INT64_C(3000) * SCALE_MS)

/* R3: an operation that takes this much longer than twice the best waits in a queue. */
#define QUEUE_NS       (20 * SCALE_MS)
/* The best is forgotten slowly: a disk may become slower for good. */
#define BEST_FORGETS   64
#define DEPTH_AT_FIRST 4

/* R4.  A guest that waits for each of its requests comes back sooner. */
#define GUEST_BUSY_NS  (20 * SCALE_MS)
#define BUSY_BYTES     (2 * MiB)
#define BUSY_RUN_BYTES (256 * KiB)

void mirror_rate_init(MirrorBlockJob *s)
{
    s->depth = DEPTH_AT_FIRST;
    s->window_start_ns = mirror_now();
    s->guest_ns = INT64_MIN / 2;
}

static bool guests_are_busy(const MirrorBlockJob *s)
{
    return mirror_now() - s->guest_ns < GUEST_BUSY_NS;
}

bool mirror_may_begin(const MirrorBlockJob *s)
{
    int in_flight = __atomic_load_n(&s->in_flight, __ATOMIC_SEQ_CST);

    return in_flight == 0 ||
           (in_flight < s->depth && (!guests_are_busy(s) || s->bytes_in_flight < BUSY_BYTES));
}

int64_t mirror_run_bytes(const MirrorBlockJob *s)
{
    return guests_are_busy(s) ? BUSY_RUN_BYTES : MIRROR_RUN_BYTES;
}

/* R3 */
static void adapt_depth(MirrorBlockJob *s, int64_t took_ns, int64_t now)
{
    if (s->best_ns == 0 || took_ns < s->best_ns) {
        s->best_ns = MAX(took_ns, 1);
    } else {
        s->best_ns += (took_ns - s->best_ns) / BEST_FORGETS;
    }
    if (now - s->depth_changed_ns < took_ns) {
        return; /* what was begun before the last change says nothing of it */
    }
    if (took_ns > 2 * s->best_ns + QUEUE_NS) {
        s->depth = MAX(s->depth - MAX(s->depth / 4, 1), 1);
    } else if (s->in_flight >= s->depth && s->depth < MAX_IN_FLIGHT) {
        s->depth++;
    } else {
        return;
    }
    s->depth_changed_ns = now;
}

void mirror_rate_copied(MirrorBlockJob *s, int64_t bytes, int64_t began_ns)
{
    int64_t now = mirror_now(), rate;

    adapt_depth(s, now - began_ns, now);
    s->rate_bytes += bytes;
    s->rate_ns += now - s->busy_since_ns;
    s->busy_since_ns = now;
    if (s->rate_ns >= MIRROR_RATE_NS) {
        rate = (int64_t)((double)s->rate_bytes * NANOSECONDS_PER_SECOND / (double)s->rate_ns);
        rate = s->copy_rate ? (s->copy_rate + rate) / 2 : rate;
        __atomic_store_n(&s->copy_rate, rate, __ATOMIC_RELAXED);
        s->rate_bytes = s->rate_ns = 0;
    }
}

static void set_write_through(MirrorBlockJob *s, bool on)
{
    __atomic_store_n(&s->write_through, on, __ATOMIC_SEQ_CST);
}

/* R1 */
static void judge(MirrorBlockJob *s, int64_t dirtied, int64_t written, int64_t now)
{
    int64_t speed = __atomic_load_n(&s->common.speed, __ATOMIC_RELAXED);
    int64_t copied = speed ? MIN(speed, s->copy_rate) : s->copy_rate;
    bool behind = !s->first_pass && copied > 0 && !mirror_is_level(s) && dirtied > copied / 4 * 3;
    bool quiet = written < copied / 2;

    if (!behind) {
        s->behind_since_ns = MAX(s->behind_since_ns, now);
    }
    if (!quiet) {
        s->quiet_since_ns = now;
    }
    if (!s->write_through && now - s->behind_since_ns >= MIRROR_BEHIND_NS) {
        set_write_through(s, true);
        s->quiet_since_ns = now;
    } else if (s->write_through && now - s->quiet_since_ns >= MIRROR_QUIET_NS) {
        set_write_through(s, false);
        s->behind_since_ns = now;
    }
}

/* R2: longer than it takes to fall behind, so that guests are asked once in a while only. */
void mirror_rate_stuck(MirrorBlockJob *s)
{
    set_write_through(s, false);
    s->behind_since_ns = mirror_now() + MIRROR_QUIET_NS;
}

void mirror_rate_written(MirrorBlockJob *s, int64_t written, int64_t dirtied)
{
    int64_t now = mirror_now(), elapsed = now - s->window_start_ns;

    s->guest_ns = now;
    s->window_written += written;
    s->window_dirtied += MAX(dirtied, 0);
    if (elapsed >= WINDOW_NS) {
        double per_second = (double)NANOSECONDS_PER_SECOND / (double)elapsed;
        int64_t rate = (int64_t)((double)s->window_dirtied * per_second);

        judge(s, rate, (int64_t)((double)s->window_written * per_second), now);
        __atomic_store_n(&s->dirty_rate, rate, __ATOMIC_RELAXED);
        __atomic_store_n(&s->dirty_rate_ns, now, __ATOMIC_RELAXED);
        s->window_start_ns = now;
        s->window_written = s->window_dirtied = 0;
    }
}

void mirror_rate_query(const MirrorBlockJob *s, BlockJobInfoMirror *info)
{
    bool fresh = mirror_now() - __atomic_load_n(&s->dirty_rate_ns, __ATOMIC_RELAXED) <
                 NANOSECONDS_PER_SECOND;

    info->copy_rate = __atomic_load_n(&s->copy_rate, __ATOMIC_RELAXED);
    info->dirty_rate = fresh ? __atomic_load_n(&s->dirty_rate, __ATOMIC_RELAXED) : 0;
    info->write_through = __atomic_load_n(&s->write_through, __ATOMIC_SEQ_CST);
    if (info->copy_rate > 0 && info->dirty_rate >= info->copy_rate) {
        info->not_converging = g_strdup("guests dirty the disk faster than it is copied");
    }
}
