/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The planner: which chunks are copied next, and when the job is READY or at its end.
 *
 *     first look    what is not to be skipped is marked dirty, by block status, in long steps
 *     rounds        cursor ---> next dirty run ---> operation ... to the end of the disk, and again
 *     level         what is dirty takes less than MIRROR_LEVEL_NS: let what is in flight end, flush the
 *                   target; READY the first time, the end when it was asked for (finish.c does the rest)
 *
 * L1  After each wait all is looked at anew: the dirty bits, what is in flight, the buffers.
 * L2  It stops at a pause point only with nothing in flight: a quiesced disk has none of the job's requests but
 *     guests' own.
 */
#include <errno.h>
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"
#include "trace-mirror.h"

static int in_flight(const MirrorBlockJob *s)
{
    return __atomic_load_n(&s->in_flight, __ATOMIC_SEQ_CST);
}

static bool should_end(const MirrorBlockJob *s)
{
    return __atomic_load_n(&s->should_end, __ATOMIC_SEQ_CST);
}

static void coroutine_fn wait_for_idle(MirrorBlockJob *s)
{
    while (in_flight(s) > 0) {
        trace_mirror_yield(s, in_flight(s), mirror_buf_free_count(s),
                           mirror_dirty_count(&s->dirty));
        qemu_co_queue_wait(&s->wait, NULL);
    }
}

/* L2 */
static void coroutine_fn pause_point(MirrorBlockJob *s)
{
    if (job_should_pause(&s->common.job)) {
        wait_for_idle(s);
        job_pause_point(&s->common.job);
    }
}

void mirror_update_progress(MirrorBlockJob *s)
{
    job_progress_set_remaining(&s->common.job, s->bytes_in_flight + mirror_dirty_count(&s->dirty));
}

/* M6 */
int64_t mirror_bearable_bytes(const MirrorBlockJob *s)
{
    int64_t rate = __atomic_load_n(&s->copy_rate, __ATOMIC_RELAXED);

    return (int64_t)((double)rate * MIRROR_LEVEL_NS / NANOSECONDS_PER_SECOND);
}

bool mirror_is_level(const MirrorBlockJob *s)
{
    return !s->first_pass && mirror_dirty_count(&s->dirty) <= mirror_bearable_bytes(s);
}

/* L1: ask the source what is at @offset; whether it is still so is asked inside the operation. */
static void coroutine_fn ask_for_hint(MirrorBlockJob *s, int64_t offset)
{
    int64_t pnum;
    int ret =
        bdrv_co_block_status_above(s->source->bs, NULL, offset, s->len - offset, &pnum, NULL, NULL);

    s->hint_start = offset;
    s->hint_end = offset + (ret < 0 || pnum == 0 ? s->granularity : pnum);
    s->hint_zero = ret >= 0 && (ret & BDRV_BLOCK_ZERO);
}

static bool hint_covers(const MirrorBlockJob *s, int64_t offset)
{
    return offset >= s->hint_start && offset < s->hint_end;
}

/* Zeros are said of whole chunks. */
static int64_t zero_run(const MirrorBlockJob *s, int64_t offset, int64_t run)
{
    int64_t end = s->hint_end >= s->len ? s->len : QEMU_ALIGN_DOWN(s->hint_end, s->granularity);

    return s->hint_zero && hint_covers(s, offset) ? MIN(run, end - offset) : 0;
}

/* M5: a cluster that the target does not have, and whose rest it could not fill in, is copied whole. */
static bool round_to_clusters(const MirrorBlockJob *s, int64_t *offset, int64_t *bytes)
{
    int64_t end;

    if (mirror_cluster_is_there(s, *offset, *bytes)) {
        return false;
    }
    end = MIN(QEMU_ALIGN_UP(*offset + *bytes, s->cow_cluster), s->len);
    *offset = QEMU_ALIGN_DOWN(*offset, s->cow_cluster);
    *bytes = end - *offset;
    return true;
}

/* The longest run of data in one operation; whole clusters where they may have to be rounded to. */
static int64_t longest_run(const MirrorBlockJob *s)
{
    int64_t most = MIN(mirror_run_bytes(s), MIRROR_RUN_CHUNKS * s->granularity);

    most = MIN(most, s->max_chunks * s->granularity);
    return MAX(most, MAX(s->granularity, s->cow_cluster));
}

void coroutine_fn mirror_yield(MirrorBlockJob *s)
{
    if (s->deadline_ns == 0) {
        qemu_co_queue_wait(&s->wait, NULL);
    } else {
        qemu_co_sleep_ns_wakeable(&s->settle_sleep, MAX(s->deadline_ns - mirror_now(), 0));
    }
}

/* How much of it is before the first chunk in flight?  Where many are, all at once would never be free. */
static int64_t free_run(const MirrorBlockJob *s, int64_t offset, int64_t run)
{
    int64_t busy = hbitmap_next_dirty(s->in_flight_bitmap, offset, run);

    return busy < 0 ? run : busy - offset;
}

static int64_t coroutine_fn start_data(MirrorBlockJob *s, int64_t offset, int64_t run)
{
    bool rounded;
    unsigned chunks;

    run = MIN(run, longest_run(s));
    if (!s->hint_zero && hint_covers(s, offset)) { /* what follows may be a hole */
        run = MIN(run, QEMU_ALIGN_UP(s->hint_end, s->granularity) - offset);
        run = MIN(run, s->len - offset);
    }
    if (s->cow_cluster) {
        run = MIN(run, MAX(QEMU_ALIGN_DOWN(offset + run, s->cow_cluster) - offset, s->granularity));
        run = MIN(run, s->len - offset);
    }
    rounded = round_to_clusters(s, &offset, &run);
    if (rounded) {
        trace_mirror_cow(s, offset);
    }
    if (!rounded) {
        run = free_run(s, offset, run);
    }
    if (run == 0 || mirror_is_in_flight(s, offset, run)) { /* M3 */
        trace_mirror_yield_in_flight(s, offset, in_flight(s));
        mirror_yield(s);
        return 0;
    }
    chunks = DIV_ROUND_UP(run, s->granularity);
    if (mirror_buf_free_count(s) < chunks) {
        unsigned free = mirror_buf_free_count(s);

        if (rounded || free < DIV_ROUND_UP(chunks, 2)) {
            trace_mirror_yield_buf_busy(s, chunks, in_flight(s));
            mirror_yield(s);
            return 0;
        }
        run = free * s->granularity;
    }
    s->cursor = offset + run;
    return mirror_start_op(s, offset, run, false);
}

int64_t coroutine_fn mirror_iteration(MirrorBlockJob *s)
{
    int64_t offset = mirror_dirty_next(&s->dirty, s->cursor);
    int64_t run, zeros;

    if (offset < 0) {
        s->first_pass = false;
        s->cursor = 0;
        return 0;
    }
    run = mirror_dirty_run(&s->dirty, offset, MAX(MIRROR_ZERO_STEP_BYTES, s->granularity));
    if (run >= MIRROR_STATUS_BYTES && !s->cow_cluster && !hint_covers(s, offset)) {
        ask_for_hint(s, offset);
        return 0; /* L1 */
    }
    zeros = zero_run(s, offset, run);
    if (zeros <= 0) {
        return start_data(s, offset, run);
    }
    if (mirror_is_in_flight(s, offset, zeros)) {
        trace_mirror_yield_in_flight(s, offset, in_flight(s));
        mirror_yield(s);
        return 0;
    }
    mirror_start_op(s, offset, zeros, true);
    s->cursor = offset + zeros;
    return 0;
}

/* What the target need not be told of, from the first look at a range that is zeros in the source. */
static void coroutine_fn mark_zeroes(MirrorBlockJob *s, int64_t offset, int64_t bytes)
{
    while (bytes > 0 && !s->target_is_zero && !mirror_gives_up(s)) {
        int64_t pnum = bytes;
        int ret = bdrv_co_block_status(s->target->bs, offset, bytes, &pnum, NULL, NULL);
        bool zero = ret >= 0 && pnum > 0 && (ret & BDRV_BLOCK_ZERO) &&
                    (!s->cow_cluster || (ret & BDRV_BLOCK_ALLOCATED));

        pnum = ret < 0 || pnum == 0 ? bytes : pnum;
        if (!zero) {
            mirror_dirty_set_whole(&s->dirty, offset, pnum);
        }
        offset += pnum;
        bytes -= pnum;
    }
}

/* The first look. */
static void coroutine_fn mirror_dirty_init_by_status(MirrorBlockJob *s)
{
    int64_t offset = 0;

    if (s->sync_mode == MIRROR_SYNC_MODE_NONE || s->sync_mode == MIRROR_SYNC_MODE_BITMAP) {
        return; /* what there is was taken when the job was made */
    }
    while (offset < s->len) {
        int64_t pnum;
        int ret;

        pause_point(s);
        if (job_is_cancelled(&s->common.job)) {
            return;
        }
        ret = bdrv_co_block_status_above(s->source->bs, s->base, offset, s->len - offset, &pnum,
                                         NULL, NULL);
        if (ret < 0 || pnum == 0) { /* it will show when it is read */
            pnum = MIN(s->len - offset, MIRROR_ZERO_STEP_BYTES);
            ret = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
        }
        if (s->base && !(ret & BDRV_BLOCK_ALLOCATED)) {
            /* the target's backing file has it */
        } else if (ret & BDRV_BLOCK_ZERO) {
            mark_zeroes(s, offset, pnum);
        } else {
            mirror_dirty_set_whole(&s->dirty, offset, pnum);
        }
        offset += pnum;
    }
}

/* Return: 0 to go on, or the error the job ends with. */
static int coroutine_fn handle_failure(MirrorBlockJob *s)
{
    BlockErrorAction action;
    int ret = s->ret;

    wait_for_idle(s);
    action = block_job_error_action(&s->common,
                                    s->error_is_read ? s->on_source_error : s->on_target_error,
                                    s->error_is_read, -ret);
    if (action == BLOCK_ERROR_ACTION_REPORT) {
        return ret;
    }
    if (action == BLOCK_ERROR_ACTION_IGNORE) {
        job_sleep_ns(&s->common.job, MIRROR_RETRY_NS);
    } else {
        pause_point(
            s); /* what was begun now would fail again, and stop the job once more when it is resumed */
    }
    s->ret = 0;
    return 0;
}

/*
 * Little is dirty: stand still, flush.  Return: whether nothing has come in between.  What guests have written
 * meanwhile is not asked: a target that takes long to flush would never be level.
 */
static bool coroutine_fn settle(MirrorBlockJob *s)
{
    wait_for_idle(s);
    if (s->ret == 0 && !job_is_cancelled(&s->common.job)) {
        mirror_start_flush(s);
        wait_for_idle(s);
    }
    return s->ret == 0 && !job_should_pause(&s->common.job) && !job_is_cancelled(&s->common.job);
}

static void coroutine_fn sleep_until_dirty(MirrorBlockJob *s)
{
    trace_mirror_before_sleep(s, mirror_dirty_count(&s->dirty), s->ready);
    s->idle = true;
    job_yield_no_pause(&s->common.job);
    s->idle = false;
}

/* The next thing to do.  Return: time to sleep before the one after it. */
static int64_t coroutine_fn step(MirrorBlockJob *s)
{
    int64_t dirty = mirror_dirty_count(&s->dirty);

    if (dirty == 0) {
        s->first_pass = false;
        if (in_flight(s) > 0) {
            mirror_yield(s);
        } else {
            sleep_until_dirty(s);
        }
        return 0;
    }
    if (!mirror_may_begin(s)) {
        trace_mirror_yield(s, in_flight(s), mirror_buf_free_count(s), dirty);
        mirror_yield(s);
        return 0;
    }
    if (s->ready && !should_end(s) && mirror_dirty_next(&s->dirty, s->cursor) < 0) {
        s->cursor = 0;
        return MIRROR_ROUND_NS;
    }
    return block_job_ratelimit_delay(&s->common, mirror_iteration(s));
}

/* Level, and somebody waits for it.  Return: true: the end. */
static bool coroutine_fn at_level(MirrorBlockJob *s)
{
    if (!settle(s)) {
        return false;
    }
    if (s->ready) {
        return should_end(s);
    }
    mirror_update_progress(s);
    __atomic_store_n(&s->ready, true, __ATOMIC_SEQ_CST);
    job_transition_to_ready(&s->common.job);
    return false;
}

/* Nothing is dirty, or little enough, and that is news. */
static bool wants_level(const MirrorBlockJob *s)
{
    return (!s->ready || should_end(s)) &&
           (mirror_is_level(s) || (mirror_dirty_count(&s->dirty) == 0 && in_flight(s) == 0));
}

static int coroutine_fn copy_loop(MirrorBlockJob *s)
{
    Job *j = &s->common.job;
    int64_t delay_ns = 0;
    int ret;

    for (;;) {
        if (delay_ns > 0) {
            wait_for_idle(s);
            trace_mirror_before_sleep(s, mirror_dirty_count(&s->dirty), s->ready);
            job_sleep_ns(j, delay_ns);
            delay_ns = 0;
        }
        pause_point(s);
        if (job_is_cancelled(j)) {
            return -ECANCELED;
        }
        if (s->ret < 0) {
            ret = handle_failure(s);
            if (ret < 0) {
                return ret;
            }
            continue;
        }
        mirror_update_progress(s);
        if (mirror_dirty_count(&s->dirty) == 0) {
            s->first_pass = false;
        }
        if (wants_level(s)) {
            if (at_level(s)) {
                return 0;
            }
            continue;
        }
        delay_ns = step(s);
    }
}

int coroutine_fn mirror_run(Job *j, Error **errp)
{
    MirrorBlockJob *s = container_of(j, MirrorBlockJob, common.job);
    int ret;

    s->first_pass = true;
    mirror_dirty_init_by_status(s);
    ret = copy_loop(s);
    wait_for_idle(s);
    if (ret < 0) {
        mirror_tap_end(s);
    }
    return ret;
}
