/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast guests dirty the disk, how fast it is copied, and what follows from that.
 *
 *     dirtied   |--------- a window ---------|      bytes that became dirty by guests' writes
 *     outside                                       the same, had a level of heat been in force (heat.c)
 *     copied    only while something is in flight
 *
 *     dirtied > 3/4 copied for MIRROR_BEHIND_NS, or    -->  wider: guests' writes to what is hot go to the target
 *     what is dirty does not shrink by 1/4 copied           at once, so nothing more becomes dirty by them
 *     outside of a narrower level < 1/2 copied for     -->  narrower, at last back to the background
 *     MIRROR_QUIET_NS
 *
 * R1  It comes to an end.  Wider is the narrowest level that would have kept up all the time that we were
 *     behind, and everything if there is none; and one more when we are behind again.  When everything goes
 *     through, only what could not be brought to the target becomes dirty, so what is dirty shrinks; guests are
 *     slowed to what the target takes, which is the only way that there is.
 * R2  A write that goes through waits for its chunks, for buffers and for the target, as long as the target goes
 *     on and for a bounded time (TH2).  When the target stood still all that while, nothing goes through for
 *     MIRROR_QUIET_NS.
 * R3  What queues up in front of the target helps nobody: when an operation takes much longer than the best did,
 *     fewer are begun; a server that is far but not busy keeps its many.
 * R4  While guests are busy less is in flight, in shorter runs: they share the source's disk.
 * R5  Who is cold does not wait: what is dirtied again only after a while costs one copy, and goes in the
 *     background at every level but the last.
 * R6  A paused job has no haste: nothing goes through, and nothing is behind.
 * R7  What is copied of a trickle says nothing of what could be: guests' rates are compared with what was copied
 *     while there was more to copy.
 * R8  Guests that are slowed look quieter than they are.  A level that had to be widened again soon after it was
 *     narrowed is kept for twice as long, up to MIRROR_QUIET_MAX_NS.
 */
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"
#include "trace-mirror.h"

/* Long enough for a rate that is more than chance, short enough to answer within a second. */
#define WINDOW_NS        (200 * SCALE_MS)
#define MIRROR_BEHIND_NS (1000 * SCALE_MS)
#define MIRROR_QUIET_NS  (INT64_C(3000) * SCALE_MS)

/* R8 */
#define MIRROR_QUIET_MAX_NS (INT64_C(48000) * SCALE_MS)

/* What has no answer for so long is told to whoever asks. */
#define MIRROR_SILENT_NS (INT64_C(2000) * SCALE_MS)
/* And a failure is news for so long: ignored ones are tried again much sooner. */
#define MIRROR_FAILED_NS (INT64_C(1000) * SCALE_MS)

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
    s->narrowed_ns = INT64_MIN / 2;
    s->quiet_ns = MIRROR_QUIET_NS;
    s->failed_ns = INT64_MIN / 2;
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

/* R7 */
static void note_able(MirrorBlockJob *s, int64_t rate)
{
    int64_t little = (int64_t)((double)s->able_rate * MIRROR_LEVEL_NS / NANOSECONDS_PER_SECOND);
    bool loaded = s->first_pass || mirror_dirty_count(&s->dirty) > little;

    if (s->able_rate && loaded) {
        rate = (s->able_rate + rate) / 2;
    }
    __atomic_store_n(&s->able_rate, loaded ? rate : MAX(rate, s->able_rate), __ATOMIC_RELAXED);
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
        note_able(s, rate);
        rate = s->copy_rate ? (s->copy_rate + rate) / 2 : rate;
        __atomic_store_n(&s->copy_rate, rate, __ATOMIC_RELAXED);
        s->rate_bytes = s->rate_ns = 0;
    }
}

/* Bytes a second that can be copied, as far as they are allowed. */
static int64_t speed_of(const MirrorBlockJob *s)
{
    int64_t limit = __atomic_load_n(&s->common.speed, __ATOMIC_RELAXED);
    int64_t rate = __atomic_load_n(&s->able_rate, __ATOMIC_RELAXED);

    return limit ? MIN(limit, rate) : rate;
}

static void tell_bytes(MirrorBlockJob *s)
{
    __atomic_store_n(&s->through_bytes, mirror_heat_bytes(&s->heat, mirror_through_level(s)),
                     __ATOMIC_RELAXED);
}

static void set_level(MirrorBlockJob *s, int level, int64_t now)
{
    trace_mirror_through_level(s, level, mirror_heat_bytes(&s->heat, level));
    __atomic_store_n(&s->through_level, level, __ATOMIC_SEQ_CST);
    s->behind_since_ns = now;
    tell_bytes(s);
}

/* R1 */
static void widen(MirrorBlockJob *s, int64_t now)
{
    int level = mirror_through_level(s) + 1;

    while (level < MIRROR_HEAT_ALL && now - s->quiet_since_ns[level] < MIRROR_BEHIND_NS) {
        level++;
    }
    if (level <= MIRROR_HEAT_ALL) {
        bool again = now - s->narrowed_ns < s->quiet_ns;

        s->quiet_ns = again ? MIN(2 * s->quiet_ns, MIRROR_QUIET_MAX_NS) : MIRROR_QUIET_NS; /* R8 */
        for (int i = MIRROR_HEAT_NONE; i < level; i++) {
            s->quiet_since_ns[i] = now;
        }
        set_level(s, level, now);
    }
}

/*
 * R1: dirtied too fast; or, where the end is waited for, not shrinking: guests who write what is dirty still make
 * nothing dirty, and yet that never becomes little.
 */
static bool is_behind(const MirrorBlockJob *s, int64_t dirtied, int64_t shrunk, int64_t copied)
{
    bool waited_for = !s->ready || __atomic_load_n(&s->should_end, __ATOMIC_SEQ_CST);

    return !s->first_pass && copied > 0 && !mirror_is_level(s) &&
           !job_should_pause((Job *)&s->common.job) &&
           (dirtied > copied / 4 * 3 || (waited_for && shrunk < copied / 4));
}

/* R1, at the end of a window. */
static void judge(MirrorBlockJob *s, int64_t dirtied, double per_second, int64_t now)
{
    int64_t copied = speed_of(s), dirty = mirror_dirty_count(&s->dirty);
    double shrunk = (double)(s->window_dirty - dirty) * per_second;
    bool behind = is_behind(s, dirtied, (int64_t)shrunk, copied);
    int level = mirror_through_level(s), narrow = level;

    s->window_dirty = dirty;
    if (!behind) {
        s->behind_since_ns = MAX(s->behind_since_ns, now);
    }
    for (int i = MIRROR_HEAT_NONE; i < MIRROR_HEAT_ALL; i++) {
        if ((double)mirror_heat_outside(&s->heat, i) * per_second >= (double)copied / 2) {
            s->quiet_since_ns[i] = now;
        }
    }
    if (now - s->behind_since_ns >= MIRROR_BEHIND_NS) {
        widen(s, now);
        return;
    }
    while (narrow > 0 && now - s->quiet_since_ns[narrow - 1] >= s->quiet_ns) {
        narrow--;
    }
    if (narrow < level) {
        s->narrowed_ns = now;
        set_level(s, narrow, now);
    }
}

/* R2: longer than it takes to fall behind, so that guests are asked once in a while only. */
void mirror_rate_stuck(MirrorBlockJob *s)
{
    set_level(s, MIRROR_HEAT_NONE, mirror_now() + MIRROR_QUIET_NS);
}

void mirror_rate_before(MirrorBlockJob *s)
{
    int64_t now = mirror_now();

    if (mirror_through_level(s) > MIRROR_HEAT_NONE && now - s->window_start_ns > MIRROR_QUIET_NS) {
        set_level(s, MIRROR_HEAT_NONE, now); /* nobody has written all the time */
    }
}

void mirror_rate_written(MirrorBlockJob *s, const MirrorWritten *w)
{
    int64_t now = mirror_now(), elapsed = now - s->window_start_ns;

    s->guest_ns = now;
    s->window_dirtied += MAX(w->dirtied, 0);
    if (!w->discard) {
        mirror_heat_add(&s->heat, w->offset, w->bytes, w->waited ? w->bytes : w->dirtied);
    }
    if (elapsed >= WINDOW_NS) {
        double per_second = (double)NANOSECONDS_PER_SECOND / (double)elapsed;
        int64_t rate = (int64_t)((double)s->window_dirtied * per_second);

        judge(s, rate, per_second, now);
        mirror_heat_age(&s->heat, elapsed / WINDOW_NS);
        tell_bytes(s);
        __atomic_store_n(&s->dirty_rate, rate, __ATOMIC_RELAXED);
        __atomic_store_n(&s->window_start_ns, now, __ATOMIC_RELAXED);
        s->window_dirtied = 0;
    }
}

int64_t mirror_patience_ns(const MirrorBlockJob *s)
{
    return CLAMP(2 * s->best_ns + QUEUE_NS, MIRROR_THROUGH_NS, MIRROR_THROUGH_MAX_NS);
}

/* For whoever asks */

static bool lately(const int64_t *at, int64_t now, int64_t ns)
{
    return now - __atomic_load_n(at, __ATOMIC_RELAXED) <= ns;
}

static bool is_silent(const MirrorBlockJob *s, int64_t now)
{
    return (__atomic_load_n(&s->in_flight, __ATOMIC_SEQ_CST) > 0 ||
            __atomic_load_n(&s->active_running, __ATOMIC_SEQ_CST) > 0) &&
           !lately(&s->answered_ns, now, MIRROR_SILENT_NS);
}

/* Why there is no end in sight; NULL: there is. */
static const char *reason(const MirrorBlockJob *s, const BlockJobInfo *info, int64_t now)
{
    const BlockJobInfoMirror *m = &info->u.mirror;
    int64_t copied = speed_of(s);

    if (info->paused) {
        return info->io_status == BLOCK_DEVICE_IO_STATUS_OK ? "the job is paused"
                                                            : "the job has stopped at an error";
    }
    if (lately(&s->failed_ns, now, MIRROR_FAILED_NS)) {
        return __atomic_load_n(&s->failed_read, __ATOMIC_RELAXED) ? "reads from the source fail"
                                                                  : "writes to the target fail";
    }
    if (is_silent(s, now)) {
        return "the source or the target does not answer";
    }
    if (copied > 0 && m->dirty_rate >= copied && m->dirty > mirror_bearable_bytes(s)) {
        return copied < __atomic_load_n(&s->able_rate, __ATOMIC_RELAXED)
                   ? "guests dirty the disk faster than the job's speed allows"
                   : "guests dirty the disk faster than it is copied";
    }
    return NULL;
}

void mirror_rate_query(const MirrorBlockJob *s, BlockJobInfo *info)
{
    BlockJobInfoMirror *m = &info->u.mirror;
    int64_t now = mirror_now(), copied = speed_of(s);
    const char *why;

    m->copy_rate = __atomic_load_n(&s->copy_rate, __ATOMIC_RELAXED);
    m->dirty_rate = lately(&s->window_start_ns, now, NANOSECONDS_PER_SECOND)
                        ? __atomic_load_n(&s->dirty_rate, __ATOMIC_RELAXED)
                        : 0;
    m->write_through = m->copy_mode == MIRROR_COPY_MODE_BACKGROUND && !info->paused &&
                       mirror_through_level(s) > MIRROR_HEAT_NONE &&
                       lately(&s->window_start_ns, now, MIRROR_QUIET_NS);
    m->write_through_bytes =
        m->write_through ? __atomic_load_n(&s->through_bytes, __ATOMIC_RELAXED) : 0;
    why = reason(s, info, now);
    m->not_converging = g_strdup(why);
    if (!why && copied > m->dirty_rate && !info->ready) {
        m->has_estimated_ready_seconds = true;
        m->estimated_ready_seconds = DIV_ROUND_UP(m->dirty, copied - m->dirty_rate);
    }
}
