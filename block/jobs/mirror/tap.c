/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests' writes, seen from both sides of the source's driver.
 *
 *     background       before: enter the list          after: mark dirty
 *     write-through    before: the same as write-blocking,   after: write the target ...
 *                              but not for long
 *     write-blocking   before: wait for the chunks,    after: write the target, mark clean what is covered;
 *                              mark them in flight            dirty where that could not be done
 *
 * T1  A write whose range overlaps that of another which is under way at any time between its before() and the
 *     end of its after() is "mixed": which of the two the source holds is not known.  It is marked dirty.
 * T2  A guest's write waits for operations on its own chunks, never for a quiesce: while the target is quiesced
 *     it is marked dirty instead of being written.
 * T3  What the target does to a guest's write never fails it: the job has an error, the range is dirty.
 */
#include <errno.h>
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"
#include "trace-mirror.h"

/* BdrvTapWrite.state, a set. */
enum {
    TAP_ACTIVE = 1 << 0,   /* its chunks are marked in flight */
    TAP_MIXED = 1 << 1,    /* T1 */
    TAP_BLOCKING = 1 << 2, /* and it waits for the target as long as it takes */
    TAP_THROUGH = 1 << 3,  /* what it writes is hot */
};

/* In bytes of the disk: the last block of a request may reach behind the end. */
static int64_t write_bytes(const MirrorBlockJob *s, const BdrvTapWrite *w)
{
    return MIN(w->offset + w->bytes, s->len) - w->offset;
}

static bool is_over(const MirrorBlockJob *s)
{
    return s->phase == MIRROR_OVER || mirror_gives_up(s) || job_is_cancelled((Job *)&s->common.job);
}

/* A discard costs no more when it is copied later. */
static bool may_be_active(const MirrorBlockJob *s, const BdrvTapWrite *w)
{
    return w->type == BDRV_TRACKED_WRITE && !is_over(s);
}

static bool is_blocking(const MirrorBlockJob *s, const BdrvTapWrite *w)
{
    return __atomic_load_n(&s->copy_mode, __ATOMIC_SEQ_CST) == MIRROR_COPY_MODE_WRITE_BLOCKING &&
           may_be_active(s, w);
}

/* R5, R6 */
static bool goes_through(MirrorBlockJob *s, const BdrvTapWrite *w)
{
    int level = mirror_through_level(s);

    return level > MIRROR_HEAT_NONE && may_be_active(s, w) && !job_should_pause(&s->common.job) &&
           __atomic_load_n(&s->copy_mode, __ATOMIC_SEQ_CST) == MIRROR_COPY_MODE_BACKGROUND &&
           mirror_heat_is_hot(&s->heat, level, w->offset, write_bytes(s, w));
}

/* T1 */
static void note_mixed(MirrorBlockJob *s, BdrvTapWrite *w)
{
    BdrvTapWrite *other;

    QLIST_FOREACH (other, &s->writes, list) {
        if (w->offset < other->offset + other->bytes && other->offset < w->offset + w->bytes) {
            w->state |= TAP_MIXED;
            other->state |= TAP_MIXED;
        }
    }
}

/* M3 */
static void coroutine_fn wait_for_chunks(MirrorBlockJob *s, BdrvTapWrite *w, int64_t bytes)
{
    s->tap_calls++;
    while (mirror_is_in_flight(s, w->offset, bytes) && is_blocking(s, w)) {
        trace_mirror_active_wait(s, w->offset, bytes);
        qemu_co_queue_wait(&s->wait, NULL);
    }
    if (goes_through(s, w)) {
        w->state |= TAP_THROUGH;
        mirror_wait_for_chunks(s, w, bytes, goes_through);
    }
    s->tap_calls--;
}

static void coroutine_fn tap_before(BdrvWriteTap *tap, BdrvTapWrite *w)
{
    MirrorBlockJob *s = container_of(tap, MirrorBlockJob, tap);
    int64_t bytes = write_bytes(s, w);

    mirror_rate_before(s);
    if (bytes > 0) {
        wait_for_chunks(s, w, bytes);
    }
    if (bytes > 0 && (is_blocking(s, w) || goes_through(s, w)) &&
        !mirror_is_in_flight(s, w->offset, bytes)) {
        mirror_mark_in_flight(s, w->offset, bytes); /* M3 */
        w->state |= TAP_ACTIVE | (is_blocking(s, w) ? TAP_BLOCKING : 0);
    }
    if (s->phase == MIRROR_OVER) {
        w->tap = NULL;
        mirror_wake(s);
        return;
    }
    note_mixed(s, w);
    QLIST_INSERT_HEAD(&s->writes, w, list);
}

/* T2: counted first, looked at after: a quiesce either sees the count or is seen. */
bool mirror_enter_target(MirrorBlockJob *s)
{
    if (__atomic_add_fetch(&s->active_running, 1, __ATOMIC_SEQ_CST) == 1) {
        mirror_note_answer(s);
    }
    return __atomic_load_n(&s->target->bs->quiesce_counter, __ATOMIC_SEQ_CST) == 0;
}

void mirror_leave_target(MirrorBlockJob *s)
{
    if (__atomic_sub_fetch(&s->active_running, 1, __ATOMIC_SEQ_CST) == 0) {
        bdrv_drain_kick();
    }
}

/* The same to the target, as long as it takes.  Return: whether that was done. */
static bool coroutine_fn write_blocking(MirrorBlockJob *s, BdrvTapWrite *w, int64_t bytes)
{
    int ret = -EBUSY;

    s->tap_calls++;
    if (mirror_enter_target(s)) {
        if (!w->qiov || (w->flags & BDRV_REQ_ZERO_WRITE)) {
            ret = mirror_write_zeroes(s, w->offset, bytes,
                                      s->unmap && (w->flags & BDRV_REQ_MAY_UNMAP));
        } else {
            ret = bdrv_co_pwritev_part(s->target, w->offset, bytes, w->qiov, w->qiov_offset, 0);
        }
        mirror_note_answer(s);
        if (ret < 0) {
            mirror_note_failure(s, ret, false); /* T3 */
        }
    }
    mirror_leave_target(s);
    s->tap_calls--;
    trace_mirror_active_write(s, w->offset, bytes, ret);
    return ret >= 0;
}

/* The same to the target. */
static MirrorThroughResult coroutine_fn write_target(MirrorBlockJob *s, BdrvTapWrite *w,
                                                     int64_t bytes)
{
    if ((w->state & TAP_MIXED) || !mirror_cluster_is_there(s, w->offset, bytes) || is_over(s)) {
        return MIRROR_THROUGH_NOT_DONE; /* T1, M5 */
    }
    if (w->state & TAP_BLOCKING) {
        return write_blocking(s, w, bytes) ? MIRROR_THROUGH_DONE : MIRROR_THROUGH_NOT_DONE;
    }
    return mirror_write_through(s, w, bytes);
}

/* M1 */
static int coroutine_fn tap_after(BdrvWriteTap *tap, BdrvTapWrite *w, int ret)
{
    MirrorBlockJob *s = container_of(tap, MirrorBlockJob, tap);
    int64_t bytes = write_bytes(s, w);
    MirrorThroughResult result = MIRROR_THROUGH_NOT_DONE;
    int64_t dirty = 0;

    if (bytes > 0 && ret >= 0 && (w->state & TAP_ACTIVE)) {
        result = write_target(s, w, bytes);
    }
    if (bytes > 0 && result == MIRROR_THROUGH_DONE && !(w->state & TAP_MIXED)) {
        mirror_dirty_clear_covered(&s->dirty, w->offset, bytes);
    } else if (bytes > 0) {
        dirty = -mirror_dirty_count(&s->dirty);
        mirror_dirty_set(&s->dirty, w->offset, bytes);
        dirty += mirror_dirty_count(&s->dirty);
    }
    if (result == MIRROR_THROUGH_LEFT) {
        w->state &= ~TAP_ACTIVE; /* TH2 */
    }
    mirror_rate_written(s, &(MirrorWritten){.offset = w->offset,
                                            .bytes = MAX(bytes, 0),
                                            .dirtied = dirty,
                                            .waited = w->state & (TAP_THROUGH | TAP_BLOCKING),
                                            .discard = w->type != BDRV_TRACKED_WRITE});
    QLIST_REMOVE(w, list);
    if (w->state & TAP_ACTIVE) {
        mirror_unmark_in_flight(s, w->offset, bytes);
    } else if (s->idle || s->phase == MIRROR_OVER) {
        mirror_wake(s);
    }
    return ret;
}

void mirror_tap_init(MirrorBlockJob *s)
{
    QLIST_INIT(&s->writes);
    QTAILQ_INIT(&s->waiters);
    s->tap = (BdrvWriteTap){.before = tap_before, .after = tap_after};
}

void mirror_tap_set(MirrorBlockJob *s)
{
    bdrv_set_write_tap(s->source->bs, &s->tap);
    s->tap_set = true;
}

/*
 * Writes in the source's driver are let go of: they may take as long as they like.  Those that wait for an
 * operation, or for the target, are waited for.
 */
void coroutine_fn mirror_tap_end(MirrorBlockJob *s)
{
    BdrvTapWrite *w;

    s->phase = MIRROR_OVER;
    if (!s->tap_set) {
        return;
    }
    bdrv_set_write_tap(s->source->bs, NULL);
    s->tap_set = false;
    mirror_wake(s);
    while (s->tap_calls > 0) {
        qemu_co_queue_wait(&s->wait, NULL);
    }
    while ((w = QLIST_FIRST(&s->writes))) {
        QLIST_REMOVE(w, list);
        w->tap = NULL;
        if (w->state & TAP_ACTIVE) {
            mirror_unmark_in_flight(s, w->offset, write_bytes(s, w));
        }
    }
}
