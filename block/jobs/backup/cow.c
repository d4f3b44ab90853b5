/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backup: a file that is the disk at one instant, while the disk is being written.
 *
 *     guest's write to [a, b)                          the sweep, cluster by cluster
 *            |                                                  |
 *            v                                                  v
 *     before-write notifier ----------> backup_do_cow() <-------+
 *            .                               |
 *            .            1  wait until no CowRequest overlaps
 *            .            2  enter a CowRequest for the clusters
 *            .            3  of the clusters not done: read the source, write the target
 *            .            4  mark them done
 *            .            5  leave; wake who waits
 *            v                               |
 *     the write goes on  <-------------------+
 *
 *     source  [ new | old | old | new ]        done  [ 1 | 0 | 0 | 1 ]
 *     target  [ old |  -  |  -  | old ]        what is 1 is in the target, as it was at the instant
 *
 * B1  The instant is the quiesce in which the notifier is added: no write is in flight, so every write
 *     is either wholly before (in the source) or notified.  No write passes the source by: nobody
 *     else may write to the nodes below it.
 * B2  A guest's write reaches the source only after every cluster it touches is done.  So a cluster
 *     that is not done holds, in the source, what it held at the instant.
 * B3  Two CowRequests that copy never overlap: the sweep's older read could otherwise land in the
 *     target after, or the guest's write slip in between a read and its mark.
 * B4  A cluster is marked done after the target has taken it, and before its CowRequest ends.
 * B5  Old contents are read without waiting for serialising requests: the guest's write that we hold
 *     may be one, and would wait for itself.
 * B6  A before-write copy never waits for the sweep except where both want the same clusters: it has
 *     buffers of its own, and the sweep keeps little in flight while the guest is busy.
 * B7  A before-write copy that fails ends the backup with an error, not the guest's write: the disk is
 *     not harmed by its backup.  From then on writes pass without a copy.
 * B8  Between backup_cow_request_begin() and _end() no write of the guest to the range passes step 1,
 *     copied already or not: whoever reads then sees the old contents only.
 *
 * B9  While the target is quiesced no before-write copy begins: the guest's write waits.  Unless the
 *     source, or a node above it, is quiesced too: then writes that are in flight must end (the quiesce
 *     of the upper node waits for them), and no other can come from there.  Or the
 *     backup is over: it waits for those writes, the quiesce for the backup, and nothing is copied.
 *
 * B10 A backup ends in this order: no copy begins; whoever is between begin() and end() leaves; the
 *     notifier is taken off; writes that are in the notifier leave it; the memory goes.
 *
 * sweep.c has the other end of backup_do_cow(), job.c the life of the job, bitmap.c what an
 * incremental backup keeps.
 */
#include <errno.h>
#include "block/jobs/backup/backup-job.h"
#include "aio/timer.h"
#include "util/osdep.h"
#include "trace-backup.h"

int64_t cow_clusters(const BackupBlockJob *job)
{
    return DIV_ROUND_UP(job->len, job->cluster_size);
}

static CowRequest *find_overlapping(BackupBlockJob *job, int64_t start, int64_t end)
{
    CowRequest *req;

    QLIST_FOREACH (req, &job->inflight_reqs, list) {
        if (end > req->start && start < req->end) {
            return req;
        }
    }
    return NULL;
}

void coroutine_fn wait_for_overlapping_requests(BackupBlockJob *job, int64_t start, int64_t end)
{
    CowRequest *req;

    while ((req = find_overlapping(job, start, end))) {
        qemu_co_queue_wait(&req->wait_queue, NULL);
    }
}

void cow_request_begin(CowRequest *req, BackupBlockJob *job, int64_t start, int64_t end)
{
    req->start = start;
    req->end = end;
    qemu_co_queue_init(&req->wait_queue);
    QLIST_INSERT_HEAD(&job->inflight_reqs, req, list);
}

void cow_request_end(CowRequest *req)
{
    QLIST_REMOVE(req, list);
    qemu_co_queue_restart_all(&req->wait_queue);
    qemu_co_queue_destroy(&req->wait_queue);
}

/* The bytes of so many clusters, the last and perhaps partial one among them or not. */
static int64_t bytes_of(const BackupBlockJob *job, uint64_t clusters, bool with_last)
{
    int64_t bytes = (int64_t)clusters * job->cluster_size;

    return with_last ? bytes - (cow_clusters(job) * job->cluster_size - job->len) : bytes;
}

static bool last_is_done(const BackupBlockJob *job)
{
    return job->len > 0 && hbitmap_get(job->done_bitmap, cow_clusters(job) - 1);
}

void cow_mark_done(BackupBlockJob *job, int64_t start, int64_t end)
{
    uint64_t before = hbitmap_count(job->done_bitmap);
    bool last_before = last_is_done(job);

    hbitmap_set(job->done_bitmap, start, end - start);
    job_progress_update(&job->common.job, bytes_of(job, hbitmap_count(job->done_bitmap) - before,
                                                   last_is_done(job) && !last_before));
}

/* B7, B10: nothing needs to be copied any more, or nothing is left to be saved. */
static bool is_over(const BackupBlockJob *job)
{
    return job->ending || job->cow_ret < 0;
}

/* Clusters [start, end), none of them done, in pieces of one buffer. */
static int coroutine_fn copy_clusters(BackupBlockJob *job, CopyPool *pool, int64_t start,
                                      int64_t end, bool *ret_error_is_read)
{
    int64_t at_once = copy_pool_chunk_bytes(pool) / job->cluster_size;
    void *buf = copy_pool_get(pool);
    int ret = 0;

    if (!buf) {
        *ret_error_is_read = true;
        return -ENOMEM;
    }
    while (start < end && ret >= 0 && !(pool == job->cow_pool && is_over(job))) {
        int64_t n = MIN(end - start, at_once);
        int64_t offset = start * job->cluster_size;
        int64_t bytes = MIN(n * job->cluster_size, job->len - offset);

        trace_backup_do_cow_process(job, offset, bytes);
        ret = block_copy_run(&job->copy, offset, bytes, buf, ret_error_is_read); /* B5 */
        if (ret < 0) {
            if (*ret_error_is_read) {
                trace_backup_do_cow_read_fail(job, offset, ret);
            } else {
                trace_backup_do_cow_write_fail(job, offset, ret);
            }
        } else {
            cow_mark_done(job, start, start + n); /* B4 */
            start += n;
        }
    }
    copy_pool_put(pool, buf);
    return ret;
}

/* Main thread, which owns the edges.  An overlay, the target perhaps, only reads: no write comes from it. */
static bool quiesced_from_above(const BlockDriverState *bs)
{
    BdrvChild *c;

    if (__atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0) {
        return true;
    }
    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds && !(c->role & BDRV_CHILD_COW) &&
            quiesced_from_above(c->opaque)) {
            return true;
        }
    }
    return false;
}

/* B9 */
static bool gate_is_closed(const BackupBlockJob *job)
{
    return !is_over(job) &&
           __atomic_load_n(&job->target->bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0 &&
           __atomic_load_n(&job->source->bs->quiesce_counter, __ATOMIC_SEQ_CST) == 0 &&
           !__atomic_load_n(&job->above_is_quiesced, __ATOMIC_SEQ_CST);
}

/* Counted first, looked at after: a quiesce either sees the count or is seen (as D2). */
static void coroutine_fn pass_gate(BackupBlockJob *job)
{
    __atomic_add_fetch(&job->cow_running, 1, __ATOMIC_SEQ_CST);
    while (gate_is_closed(job)) {
        if (__atomic_sub_fetch(&job->cow_running, 1, __ATOMIC_SEQ_CST) == 0) {
            bdrv_drain_kick();
        }
        qemu_co_queue_wait(&job->gate, NULL);
        __atomic_add_fetch(&job->cow_running, 1, __ATOMIC_SEQ_CST);
    }
}

/* The job is neither being made in a quiesce, nor letting go of its nodes. */
static bool holds_source(BlockJob *job)
{
    BdrvChild *source = backup_job_of(job)->source;

    return source && g_slist_find(job->nodes, source);
}

bool cow_drained_poll(BlockJob *job)
{
    BackupBlockJob *backup = backup_job_of(job);

    /* Nodes are quiesced one after another, then asked: those above the source may have come later. */
    if (holds_source(job) && !__atomic_load_n(&backup->above_is_quiesced, __ATOMIC_SEQ_CST) &&
        quiesced_from_above(backup->source->bs)) {
        cow_drained_changed(job);
    }
    return __atomic_load_n(&backup_job_of(job)->cow_running, __ATOMIC_SEQ_CST) > 0;
}

static void gate_bh(void *opaque)
{
    Job *j = opaque;

    qemu_co_queue_restart_all(&container_of(j, BackupBlockJob, common.job)->gate);
    job_unref(j);
}

void cow_drained_changed(BlockJob *job)
{
    if (!holds_source(job)) {
        return;
    }
    __atomic_store_n(&backup_job_of(job)->above_is_quiesced,
                     quiesced_from_above(backup_job_of(job)->source->bs), __ATOMIC_SEQ_CST);
    job_ref(&job->job);
    aio_bh_schedule_oneshot(job->job.aio_context, gate_bh, &job->job);
}

int coroutine_fn backup_do_cow(BackupBlockJob *job, int64_t offset, int64_t bytes,
                               bool is_write_notifier, bool *ret_error_is_read)
{
    CopyPool *pool = is_write_notifier ? job->cow_pool : job->sweep_pool; /* B6 */
    int64_t start = offset / job->cluster_size;
    int64_t end = MIN(DIV_ROUND_UP(offset + bytes, job->cluster_size), cow_clusters(job));
    CowRequest req;
    int ret = 0;

    qemu_co_rwlock_rdlock(&job->flush_rwlock);
    if (is_write_notifier) {
        pass_gate(job);
    }
    trace_backup_do_cow_enter(job, start, offset, bytes);
    wait_for_overlapping_requests(job, start, end); /* B3, B8 */
    cow_request_begin(&req, job, start, end);
    while (start < end && ret >= 0 && !(is_write_notifier && is_over(job))) {
        int64_t run, run_end;

        run = hbitmap_next_zero(job->done_bitmap, start, end - start);
        if (run != start) {
            trace_backup_do_cow_skip(job, start, (run < 0 ? end : run) - start);
        }
        if (run < 0) {
            break;
        }
        run_end = hbitmap_next_dirty(job->done_bitmap, run, end - run);
        run_end = run_end < 0 ? end : run_end;
        ret = copy_clusters(job, pool, run, run_end, ret_error_is_read);
        start = run_end;
    }
    cow_request_end(&req);
    if (is_write_notifier && __atomic_sub_fetch(&job->cow_running, 1, __ATOMIC_SEQ_CST) == 0) {
        bdrv_drain_kick();
    }
    trace_backup_do_cow_return(job, offset, bytes, ret);
    qemu_co_rwlock_unlock(&job->flush_rwlock);
    return ret;
}

static int coroutine_fn before_write_notify(NotifierWithReturn *notifier, void *opaque)
{
    BackupBlockJob *job = container_of(notifier, BackupBlockJob, before_write);
    BdrvTrackedRequest *req = opaque;
    bool error_is_read = false;
    int64_t bytes = MIN(req->bytes, job->len - req->offset);
    int ret;

    if (bytes <= 0) {
        return 0;
    }
    job->last_write_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    ret = backup_do_cow(job, req->offset, bytes, true, &error_is_read);
    if (ret < 0 && job->cow_ret == 0) {
        job->cow_ret = ret; /* B7 */
        job->cow_error_is_read = error_is_read;
        qemu_co_queue_restart_all(&job->sweep_wait);
        qemu_co_queue_restart_all(&job->gate);
        job_wake(&job->common.job);
    }
    return 0;
}

void cow_init(BackupBlockJob *job)
{
    QLIST_INIT(&job->inflight_reqs);
    qemu_co_rwlock_init(&job->flush_rwlock);
    qemu_co_queue_init(&job->sweep_wait);
    qemu_co_queue_init(&job->gate);
    job->before_write.notify = before_write_notify;
    job->last_write_ns = INT64_MIN / 2;
}

/* B1: the caller has quiesced the source. */
void cow_add_notifier(BackupBlockJob *job)
{
    bdrv_add_before_write_notifier(job->source->bs, &job->before_write);
    job->notifier_added = true;
}

/* B10 */
void coroutine_fn cow_end(BackupBlockJob *job)
{
    job->ending = true;
    qemu_co_queue_restart_all(&job->gate);
    wait_for_overlapping_requests(job, 0, INT64_MAX);
    notifier_with_return_remove(&job->before_write);
    job->notifier_added = false;
    qemu_co_rwlock_wrlock(&job->flush_rwlock);
    qemu_co_rwlock_unlock(&job->flush_rwlock);
}

/* The exported API. */

static void cluster_range(BlockJob *job, int64_t sector_num, int nb_sectors, int64_t *start,
                          int64_t *end)
{
    int64_t cluster = backup_job_of(job)->cluster_size;

    assert(job->job.driver->job_type == JOB_TYPE_BACKUP);
    *start = sector_num * BDRV_SECTOR_SIZE / cluster;
    *end = DIV_ROUND_UP((sector_num + nb_sectors) * BDRV_SECTOR_SIZE, cluster);
}

void coroutine_fn backup_wait_for_overlapping_requests(BlockJob *job, int64_t sector_num,
                                                       int nb_sectors)
{
    int64_t start, end;

    cluster_range(job, sector_num, nb_sectors, &start, &end);
    wait_for_overlapping_requests(backup_job_of(job), start, end);
}

void backup_cow_request_begin(CowRequest *req, BlockJob *job, int64_t sector_num, int nb_sectors)
{
    int64_t start, end;

    cluster_range(job, sector_num, nb_sectors, &start, &end);
    cow_request_begin(req, backup_job_of(job), start, end);
}

void backup_cow_request_end(CowRequest *req)
{
    cow_request_end(req);
}

void backup_do_checkpoint(BlockJob *job, Error **errp)
{
    BackupBlockJob *backup = backup_job_of(job);

    assert(job->job.driver->job_type == JOB_TYPE_BACKUP);
    if (backup->sync_mode != MIRROR_SYNC_MODE_NONE) {
        error_setg(errp, "The backup job only supports block checkpoint in sync=none mode");
        return;
    }
    assert(__atomic_load_n(&backup->source->bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0);
    /* What is copied once more is more work. */
    job_progress_increase_remaining(
        &job->job, bytes_of(backup, hbitmap_count(backup->done_bitmap), last_is_done(backup)));
    hbitmap_reset_all(backup->done_bitmap);
}
