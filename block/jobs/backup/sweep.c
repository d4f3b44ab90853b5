/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sweep: everything the guest has not overwritten, from the start of the disk to its end.
 *
 *    planner (the job's coroutine)            workers (a coroutine for each piece in flight)
 *      next cluster not done
 *      block status of source:
 *        hole, zeros  -> target zero too? mark done, whatever the length; nothing is read
 *        not in the top layer (sync=top) -> mark done
 *        data -> a piece of at most max_chunk -------> backup_do_cow()
 *      limits: depth, speed, pause, cancel    <------- done, or failed: error policy
 *
 * S1  A block status that says zero holds for every cluster that is neither done nor staged when it is
 *     marked: a write of the guest since would have captured it first (B2).  It is marked inside a
 *     store's entry, so that no store of the same cluster is half way.
 * S2  The planner stops at a pause point only with nothing in flight: a quiesced source has none of
 *     the sweep's requests.
 * S3  A failed piece is not marked, so retrying means to go back to where it began.
 */
#include <errno.h>
#include "block/jobs/backup/backup-job.h"
#include "aio/timer.h"
#include "util/osdep.h"
#include "trace-backup.h"

/* Zeros are written to a target that needs them in steps of this: bounds one CowRequest's time. */
#define ZERO_STEP_BYTES (16 * MiB)

typedef struct SweepPiece {
    BackupBlockJob *job;
    int64_t offset, bytes;
    int64_t paced; /* of these, read and written: they count against depth and speed */
} SweepPiece;

static bool stop_wanted(BackupBlockJob *job)
{
    return job_is_cancelled(&job->common.job) || job->cow_ret < 0;
}

/* B6, and no more of them than was said.  A write that waits for room goes before all of it. */
static bool is_full(BackupBlockJob *job)
{
    job->sweep_gave_way = stage_is_awaited(job->stage);
    return job->settling || job->sweep_gave_way || job->sweep_in_flight >= job->max_workers ||
           backup_pace_is_full(&job->pace, backup_now());
}

static void coroutine_fn wait_for_idle(BackupBlockJob *job)
{
    while (job->sweep_in_flight > job->sweep_parked) {
        qemu_co_queue_wait(&job->sweep_wait, NULL);
    }
}

/* R3: while the sweep does nothing, others give room back. */
static void rest(BackupBlockJob *job, bool rests)
{
    job->sweep_rests = rests;
    if (rests) {
        store_kick(job);
    }
}

/* S2 */
static void coroutine_fn pause_point(BackupBlockJob *job)
{
    if (__atomic_load_n(&job->common.job.pause_count, __ATOMIC_SEQ_CST) > 0) {
        wait_for_idle(job);
        rest(job, true);
        job_pause_point(&job->common.job);
        rest(job, false);
    }
}

/* Block status of the source, on clusters: how far is it of one kind? */
typedef enum SweepKind { SWEEP_DATA, SWEEP_ZERO, SWEEP_NOT_OURS } SweepKind;

static SweepKind coroutine_fn classify(BackupBlockJob *job, int64_t offset, int64_t bytes,
                                       int64_t *ret_bytes)
{
    BlockDriverState *bs = job->source->bs;
    BlockDriverState *base = NULL;
    int64_t pnum;
    int ret;

    if (job->sync_mode == MIRROR_SYNC_MODE_TOP) {
        base = bdrv_backing_chain_next(bs);
    }
    ret = bdrv_co_block_status_above(bs, base, offset, bytes, &pnum, NULL, NULL);
    if (ret < 0 || pnum == 0) {
        *ret_bytes = MIN(bytes, job->max_chunk); /* it will show when it is read */
        return SWEEP_DATA;
    }
    if (base && !(ret & BDRV_BLOCK_ALLOCATED)) {
        *ret_bytes = pnum;
        return SWEEP_NOT_OURS;
    }
    *ret_bytes = pnum;
    return ret & BDRV_BLOCK_ZERO ? SWEEP_ZERO : SWEEP_DATA;
}

/*
 * From @start (a cluster not done) to at most @end: what to do, and how far.  Only whole clusters are
 * zero or not ours; a cluster of two kinds, or one that is staged, is data.
 */
static SweepKind coroutine_fn classify_clusters(BackupBlockJob *job, int64_t start, int64_t end,
                                                int64_t *ret_end)
{
    int64_t cluster = job->cluster_size;
    int64_t offset = start * cluster;
    int64_t limit = MIN(end * cluster, job->len);
    int64_t bytes, staged;
    SweepKind kind = classify(job, offset, limit - offset, &bytes);
    int64_t stop = offset + bytes;

    if (kind == SWEEP_DATA) {
        *ret_end = MIN(DIV_ROUND_UP(stop, cluster), end);
        return kind;
    }
    *ret_end = stop >= job->len ? end : stop / cluster;
    staged = stage_next_cluster(job->stage, start, *ret_end);
    *ret_end = staged < 0 ? *ret_end : staged; /* S1 */
    if (*ret_end == start) {
        *ret_end = start + 1;
        return SWEEP_DATA;
    }
    return kind;
}

/* Target zeros for clusters [start, end), which the source holds as zeros. */
static int coroutine_fn zero_clusters(BackupBlockJob *job, int64_t start, int64_t end,
                                      int64_t *ret_end)
{
    int64_t cluster = job->cluster_size;
    int64_t offset = start * cluster;
    int64_t stop = MIN(end * cluster, job->len);
    int64_t pnum;
    int ret = block_copy_own_zeroes(job->target->bs, offset, stop - offset, &pnum);

    if (ret == 1 && (offset + pnum == stop || pnum >= cluster)) {
        *ret_end = offset + pnum == stop ? end : (offset + pnum) / cluster;
        return 0;
    }
    stop = MIN(stop, offset + MAX(cluster, QEMU_ALIGN_DOWN(ZERO_STEP_BYTES, cluster)));
    *ret_end = MIN(end, DIV_ROUND_UP(stop, cluster));
    return block_copy_zeroes(&job->copy, offset, stop - offset);
}

/* S1: what guests have captured of the range is for the stores, zeros or not. */
static void mark_unstaged(BackupBlockJob *job, int64_t start, int64_t end)
{
    while (start < end) {
        int64_t staged = stage_next_cluster(job->stage, start, end);
        int64_t stop = staged < 0 ? end : staged;

        if (stop > start) {
            cow_mark_done(job, start, stop);
        }
        start = staged < 0 ? end : staged + 1;
    }
}

/*
 * S1: ask again inside the request, then mark.  One answer of the target for each request: a target
 * that must be written does not keep others off the rest of a long hole.
 */
static int coroutine_fn settle_zeroes(BackupBlockJob *job, int64_t start, int64_t end)
{
    int64_t next = hbitmap_next_zero(job->done_bitmap, start, end - start), run_end, zero_end;
    int ret;

    if (next < 0) {
        return 0;
    }
    run_end = hbitmap_next_dirty(job->done_bitmap, next, end - next);
    run_end = run_end < 0 ? end : run_end;
    if (classify_clusters(job, next, run_end, &zero_end) != SWEEP_ZERO) {
        return 0; /* written since: the planner comes by again and takes it as data */
    }
    ret = zero_clusters(job, next, zero_end, &zero_end);
    if (ret >= 0 && !cow_is_over(job)) {
        mark_unstaged(job, next, zero_end);
    }
    return ret;
}

static void piece_done(SweepPiece *piece, int ret, bool error_is_read)
{
    BackupBlockJob *job = piece->job;

    if (ret < 0) { /* S3 */
        store_note_failure(job, ret, error_is_read);
        job->retry_offset = MIN(job->retry_offset, piece->offset);
    }
    job->sweep_in_flight--;
    backup_pace_sweep_done(&job->pace, piece->paced, backup_now());
    g_free(piece);
    qemu_co_queue_restart_all(&job->sweep_wait);
    store_kick(job); /* what it left alone, or could not read, is nobody's now */
}

static void coroutine_fn data_entry(void *opaque)
{
    SweepPiece *piece = opaque;
    bool error_is_read = false;
    int ret = backup_do_cow(piece->job, piece->offset, piece->bytes, true, &error_is_read);

    piece_done(piece, ret, error_is_read);
}

static void coroutine_fn zero_entry(void *opaque)
{
    SweepPiece *piece = opaque;
    BackupBlockJob *job = piece->job;
    int64_t start = piece->offset / job->cluster_size;
    int64_t end = DIV_ROUND_UP(piece->offset + piece->bytes, job->cluster_size);
    StoreOp op;
    int ret = 0;

    store_begin(job, &op, start, end, true);
    if (!cow_is_over(job)) {
        ret = settle_zeroes(job, start, end);
    }
    store_end(job, &op);
    job->settling = false;
    piece_done(piece, ret, false);
}

/* Clusters [start, end).  Return: what counts against the speed limit. */
static int64_t start_piece(BackupBlockJob *job, int64_t start, int64_t end, SweepKind kind)
{
    SweepPiece *piece = g_new(SweepPiece, 1);
    int64_t offset = start * job->cluster_size;
    int64_t bytes = MIN(end * job->cluster_size, job->len) - offset;

    *piece = (SweepPiece){.job = job, .offset = offset, .bytes = bytes};
    piece->paced = kind == SWEEP_DATA ? bytes : 0;
    job->settling = kind == SWEEP_ZERO;
    job->sweep_in_flight++;
    backup_pace_sweep_begin(&job->pace, piece->paced, backup_now());
    bytes = piece->paced;
    aio_co_enter(job->common.job.aio_context,
                 qemu_coroutine_create(kind == SWEEP_DATA ? data_entry : zero_entry, piece));
    return bytes;
}

/* sync=top: the range is the backing file's, which the target shares. */
static void settle_not_ours(BackupBlockJob *job, int64_t start, int64_t end)
{
    mark_unstaged(job, start, end);
}

/* One step from job->sweep_offset.  Return: what counts against the speed limit. */
static int64_t coroutine_fn sweep_step(BackupBlockJob *job)
{
    int64_t total = cow_clusters(job);
    int64_t start, end, kind_end, paced = 0;

    start = hbitmap_next_zero(job->done_bitmap, job->sweep_offset / job->cluster_size,
                              total - job->sweep_offset / job->cluster_size);
    if (start < 0) {
        job->sweep_offset = job->len;
        return 0;
    }
    end = hbitmap_next_dirty(job->done_bitmap, start, total - start);
    end = end < 0 ? total : end;
    switch (classify_clusters(job, start, end, &kind_end)) {
    case SWEEP_ZERO:
        start_piece(job, start, kind_end, SWEEP_ZERO);
        job->sweep_offset = start * job->cluster_size; /* what is left of it is looked at again */
        return 0;
    case SWEEP_NOT_OURS:
        settle_not_ours(job, start, kind_end);
        break;
    case SWEEP_DATA:
        kind_end = MIN(kind_end, start + backup_pace_piece_bytes(&job->pace, backup_now()) /
                                             job->cluster_size);
        paced = start_piece(job, start, kind_end, SWEEP_DATA);
        break;
    }
    job->sweep_offset = MIN(kind_end * job->cluster_size, job->len);
    return paced;
}

/* All of it: the failure itself has woken the job. */
static void coroutine_fn sleep_before_retry(BackupBlockJob *job)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + BACKUP_RETRY_NS, rest;

    while (!stop_wanted(job) && (rest = deadline - qemu_clock_get_ns(QEMU_CLOCK_REALTIME)) > 0) {
        job_sleep_ns(&job->common.job, rest);
    }
}

/* S3.  Return: 0 to go on, or the error the job ends with. */
static int coroutine_fn handle_failure(BackupBlockJob *job, int ret, bool error_is_read)
{
    BlockErrorAction action;

    wait_for_idle(job);
    action = block_job_error_action(&job->common,
                                    error_is_read ? job->on_source_error : job->on_target_error,
                                    error_is_read, -ret);
    if (action == BLOCK_ERROR_ACTION_REPORT) {
        return ret;
    }
    if (action == BLOCK_ERROR_ACTION_IGNORE) {
        sleep_before_retry(job);
    } else {
        /* Stopped: a piece that was begun now would fail again, and stop the job once more when the
         * user has made room and resumes it. */
        cow_wake_readers(job);
        pause_point(job);
    }
    job->sweep_offset =
        MIN(job->sweep_offset, job->retry_offset); /* also of what failed meanwhile */
    job->retry_offset = INT64_MAX;
    job->sweep_ret = 0;
    store_retry(job);
    return 0;
}

/* Until the next step may begin.  Return: as backup_sweep(), 0 to go on. */
static int coroutine_fn wait_for_turn(BackupBlockJob *job, int64_t delay_ns)
{
    Job *j = &job->common.job;
    int64_t pace_ns;

    if (delay_ns > 0) {
        wait_for_idle(job);
        rest(job, true);
        job_sleep_ns(j, delay_ns);
        rest(job, false);
    }
    while (!stop_wanted(job) && job->sweep_ret == 0 &&
           (pace_ns = backup_pace_delay_ns(&job->pace, backup_now())) > 0) {
        wait_for_idle(job);
        job_sleep_ns(j, pace_ns);
    }
    while (is_full(job) && !stop_wanted(job) && job->sweep_ret == 0 && !job_should_pause(j)) {
        qemu_co_queue_wait(&job->sweep_wait, NULL);
    }
    pause_point(job);
    if (job->sweep_ret < 0) {
        return handle_failure(job, job->sweep_ret, job->sweep_error_is_read);
    }
    return 0;
}

/* Nothing is left to be begun: until all that was, and all that is staged, is in the target. */
static bool is_complete(const BackupBlockJob *job)
{
    return job->sweep_in_flight == 0 && job->n_storers == 0 && stage_is_empty(job->stage);
}

int coroutine_fn backup_sweep(BackupBlockJob *job)
{
    int64_t delay_ns = 0;
    int ret = 0;

    job->retry_offset = INT64_MAX;
    for (;;) {
        ret = wait_for_turn(job, delay_ns);
        if (ret < 0 || stop_wanted(job)) {
            break;
        }
        if (is_full(job)) {
            delay_ns = 0; /* woken for a pause, or an error */
        } else if (job->sweep_offset < job->len) {
            delay_ns = block_job_ratelimit_delay(&job->common, sweep_step(job));
        } else if (is_complete(job)) {
            break;
        } else {
            job->store_all = true; /* nobody else will */
            store_kick(job);
            qemu_co_queue_wait(&job->sweep_wait, NULL);
            delay_ns = 0;
        }
    }
    wait_for_idle(job);
    return ret;
}

static void last_store_timeout(void *opaque)
{
    BackupBlockJob *job = opaque;

    qemu_co_queue_restart_all(&job->sweep_wait);
}

/* B13.  Return: 0, also when it is cancelled by force meanwhile; -ETIMEDOUT; what a store failed with. */
static int coroutine_fn store_the_last(BackupBlockJob *job, QEMUTimer *timer)
{
    int64_t done = -1, deadline = 0;

    store_close(job);
    while (!store_is_closed(job) && !stop_wanted(job) && job->sweep_ret == 0) {
        int64_t now_done = (int64_t)hbitmap_count(job->done_bitmap);

        if (now_done != done) {
            done = now_done;
            deadline = backup_now() + BACKUP_LAST_STORE_NS;
        } else if (backup_now() >= deadline) {
            return -ETIMEDOUT;
        }
        timer_mod_ns(timer, deadline);
        store_kick(job);
        qemu_co_queue_wait(&job->sweep_wait, NULL);
        pause_point(job);
    }
    return job->sweep_ret;
}

/* A cancel that is not forced. */
static void coroutine_fn end_in_good_order(BackupBlockJob *job)
{
    QEMUTimer *timer = aio_timer_new(qemu_get_current_aio_context(), last_store_timeout, job);
    int ret = store_the_last(job, timer);

    timer_free(timer);
    if (ret >= 0 && !stop_wanted(job)) {
        ret = backup_flush_in_time(job);
    }
    if (stop_wanted(job)) {
        return;
    }
    if (ret < 0) {
        cow_break(job, ret, COW_FAULT_LAST);
    } else {
        job_end_cancelled(&job->common.job);
    }
}

int coroutine_fn backup_wait_for_cancel(BackupBlockJob *job)
{
    int ret = 0;

    job->retry_offset = INT64_MAX;
    while (ret == 0 && !stop_wanted(job)) {
        if (job->sweep_ret < 0) {
            ret = handle_failure(job, job->sweep_ret, job->sweep_error_is_read);
        } else if (job_cancel_requested(&job->common.job)) {
            end_in_good_order(job);
        } else {
            job_yield(&job->common.job);
        }
    }
    return ret;
}
