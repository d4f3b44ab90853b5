/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backup: a file that is the disk at one instant, while the disk is being written.
 *
 *     guest's write to [a, b)                       stores: the sweep, and storers
 *            |                                                  |
 *            v                                                  v
 *     before-write notifier                              backup_do_cow()
 *            |  1  wait for readers (B8)                        |  1  wait for readers and stores
 *            |  2  capture the 4 KiB units                      |  2  read the source
 *            |     that it touches ------> [ stage ] ---------> |  3  take what was captured
 *            v                                                  |  4  write the target
 *     the write goes on                                         v  5  mark done
 *
 *     source  [ new | old | n.o | new ]     old data of a cluster is in one of
 *     stage   [  -  |  -  | o.. |  -  ]        the source   not captured, not written
 *     store   [  -  |  -  |  -  | old ]        the stage    CAPTURED: a write of the guest may go on
 *     target  [ old |  -  |  -  |  -  ]        a store      held, on its way
 *     done    [  1  |  0  |  0  |  0  ]        the target   STORED: done, a reader may see it
 *
 * B1  The instant is the quiesce in which the notifier is added: no write is in flight, so every write
 *     is either wholly before (in the source) or notified.  No write passes the source by: nobody
 *     else may write to the nodes below it.
 * B2  A guest's write reaches the source only after every unit it touches is captured, or its cluster is
 *     held by a store or done.  So a unit that is none of these holds, in the source, what it held at the
 *     instant.  It waits for nothing else but readers: not for the target, not for the sweep.
 * B3  Two stores never overlap: an older read could otherwise land in the target after a newer mark.
 * B4  A cluster is marked done after the target has taken it, and before its store ends.
 * B5  Old contents are read without waiting for serialising requests: the guest's write that we hold
 *     may be one, and would wait for itself.
 * B6  Storers have buffers of their own, so that they never wait for the sweep's; both keep little in
 *     flight while guests are busy.
 * B7  A capture that fails, or finds no room in time, ends the backup with an error, not the guest's
 *     write: the disk is not harmed by its backup.  From then on writes pass without a capture.
 * B8  Between backup_cow_request_begin() and _end() no write of the guest to the range passes step 1,
 *     copied already or not: whoever reads then sees the old contents only.  Asked for again after the
 *     capture: a reader may have begun meanwhile.
 * B9  backup_wait_for_overlapping_requests() waits until nothing of the range is in the stage or held:
 *     nobody reads a cluster of which a part is in the source and the rest on its way.
 * B10 A backup ends in this order: no copy begins, and writes that wait for room go on, at once when it is
 *     cancelled, whatever its target does; whoever is between begin() and end() leaves; the notifier is
 *     taken off; writes that are in the notifier, and stores, leave; the memory goes.
 * B11 With sync=none the target is read while it is written to.  Reads of it by others are held as by
 *     backup_cow_request_begin(), by a guard on the node; they do not exclude one another.
 * B12 A discard of what is not captured is dropped: it is advice, and a guest that trims its disk must
 *     not fill the stage.
 * B13 A backup with sync=none ends when it is cancelled, in good order unless that is forced: what was written
 *     before has its old data in the target.  Only what is staged then is stored, and only for its clusters are
 *     writes still captured, so that it comes to an end; a target that stands still is not waited for, and then
 *     the job fails: its target is not what it seems.  Who reads meanwhile what was not captured gets an error.
 *
 * store.c has what comes behind the guest's back, sweep.c the planner, job.c the life of the job,
 * bitmap.c what an incremental backup keeps; the stage (rules G) is in block/copy.
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/jobs/backup/backup-job.h"
#include "util/osdep.h"
#include "trace-backup.h"

int64_t cow_clusters(const BackupBlockJob *job)
{
    return DIV_ROUND_UP(job->len, job->cluster_size);
}

CowRequest *cow_find_overlapping(const CowRequestList *list, int64_t start, int64_t end)
{
    CowRequest *req;

    QLIST_FOREACH (req, list, list) {
        if (end > req->start && start < req->end) {
            return req;
        }
    }
    return NULL;
}

CowRequest *cow_find_reader(const BackupBlockJob *job, int64_t start, int64_t end)
{
    CowRequest *req = cow_find_overlapping(&job->inflight_reqs, start, end);

    return req ? req : cow_find_overlapping(&job->guarded_reads, start, end);
}

/* Whom a reader of clusters [start, end) has to wait for; @with_holders: other readers by the API too. */
static CowRequest *find_in_reader_way(const BackupBlockJob *job, int64_t start, int64_t end,
                                      bool with_holders)
{
    CowRequest *req = cow_find_overlapping(&job->stores, start, end);

    return req || !with_holders ? req : cow_find_overlapping(&job->inflight_reqs, start, end);
}

static bool is_staged(const BackupBlockJob *job, int64_t start, int64_t end)
{
    return !cow_is_over(job) && stage_next_cluster(job->stage, start, end) >= 0;
}

/* An error has stopped the job: nothing is stored until the user resumes it. */
static bool is_stopped(const BackupBlockJob *job)
{
    return __atomic_load_n(&job->common.iostatus, __ATOMIC_SEQ_CST) != BLOCK_DEVICE_IO_STATUS_OK &&
           !cow_is_over(job);
}

/* Nobody knows for how long: a quiesce does not wait for a reader who waits for that. */
static void coroutine_fn wait_while_stopped(BackupBlockJob *job)
{
    store_reader_end(job);
    while (is_stopped(job)) {
        qemu_co_queue_wait(&job->gate, NULL);
    }
    store_reader_begin(job);
}

static bool is_on_its_way(const BackupBlockJob *job, int64_t start, int64_t end, bool with_holders)
{
    return find_in_reader_way(job, start, end, with_holders) || is_staged(job, start, end);
}

/* B9.  @guarded: a read that may fail; else a user of the API, who also waits for others of its kind. */
static int coroutine_fn wait_until_stored(BackupBlockJob *job, int64_t start, int64_t end,
                                          bool guarded)
{
    CowRequest *req;
    int ret = 0;

    if (!is_on_its_way(job, start, end, !guarded)) {
        return 0;
    }
    store_reader_begin(job);
    while (ret == 0 && is_on_its_way(job, start, end, !guarded)) {
        req = find_in_reader_way(job, start, end, !guarded);
        if (is_stopped(job) && guarded) {
            ret = -EIO;
        } else if (is_stopped(job)) {
            wait_while_stopped(job);
        } else if (req) {
            qemu_co_queue_wait(&req->wait_queue, NULL);
        } else {
            store_kick(job);
            stage_co_wait_change(job->stage);
        }
    }
    store_reader_end(job);
    return ret;
}

void cow_wake_readers(BackupBlockJob *job)
{
    CowRequest *req;

    QLIST_FOREACH (req, &job->stores, list) {
        qemu_co_queue_restart_all(&req->wait_queue);
    }
    stage_wake(job->stage);
    qemu_co_queue_restart_all(&job->gate);
}

void cow_request_begin(CowRequest *req, CowRequestList *list, int64_t start, int64_t end)
{
    req->start = start;
    req->end = end;
    qemu_co_queue_init(&req->wait_queue);
    QLIST_INSERT_HEAD(list, req, list);
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
    if (stage_is_awaited(job->stage)) {
        stage_wake(job->stage); /* a write that waits for room for these needs none */
    }
}

bool cow_is_over(const BackupBlockJob *job)
{
    return job->ending || job->cow_ret < 0;
}

/* The stage's, once the backup is over: whoever waits for something looks again. */
static void let_all_go(BackupBlockJob *job)
{
    stage_wake(job->stage);
    store_wake(job);
    qemu_co_queue_restart_all(&job->sweep_wait);
}

/* What is on its way to a target that does not answer is not wanted any more, nor waited for (H6). */
static void cancel_in_flight(BackupBlockJob *job)
{
    bdrv_cancel_in_flight(job->target->bs);
    if (job->scratch) {
        bdrv_cancel_in_flight(job->scratch->bs);
    }
}

static void cancel_bh(void *opaque)
{
    Job *j = opaque;
    BackupBlockJob *job = container_of(j, BackupBlockJob, common.job);

    if (!job_is_cancelled(j)) { /* not told yet: the main thread is about to */
        aio_bh_schedule_oneshot(qemu_get_current_aio_context(), cancel_bh, j);
        return;
    }
    if (!job->ending) { /* else in cow_end(), or past it and without a target */
        job->ending = true;
        let_all_go(job);
        cancel_in_flight(job); /* also what was begun since the main thread did */
    }
    job_unref(j);
}

void cow_cancel(BackupBlockJob *job)
{
    Job *j = &job->common.job;

    if (job->stage) {
        job_ref(j);
        aio_bh_schedule_oneshot(j->aio_context, cancel_bh, j);
    }
}

/* It has failed, and says so now, not when a user who cannot mend it any more resumes it. */
static void end_pause(Job *job, void *opaque)
{
    if (job_user_paused(job)) {
        job_user_resume(job, NULL);
    }
}

/* B7 */
void cow_break(BackupBlockJob *job, int ret, CowFault fault)
{
    if (job->cow_ret == 0) {
        job->cow_ret = ret;
        job->cow_fault = fault;
        let_all_go(job);
        cancel_in_flight(job);
        job_call_in_main(&job->common.job, end_pause, NULL);
        job_wake(&job->common.job);
    }
}

static void gate_bh(void *opaque)
{
    Job *j = opaque;
    BackupBlockJob *job = container_of(j, BackupBlockJob, common.job);

    store_wake(job);
    qemu_co_queue_restart_all(&job->sweep_wait);
    job_unref(j);
}

/* The job is neither being made in a quiesce, nor letting go of its nodes. */
static bool holds_source(BlockJob *job)
{
    BdrvChild *source = backup_job_of(job)->source;

    return source && g_slist_find(job->nodes, source);
}

void cow_drained_changed(BlockJob *job)
{
    if (holds_source(job)) {
        job_ref(&job->job);
        aio_bh_schedule_oneshot(job->job.aio_context, gate_bh, &job->job);
    }
}

static void coroutine_fn wait_for_readers_of(BackupBlockJob *job, int64_t start, int64_t end)
{
    CowRequest *reader;

    while ((reader = cow_find_reader(job, start, end))) {
        qemu_co_queue_wait(&reader->wait_queue, NULL);
    }
}

/* B2, B8 */
static void coroutine_fn capture(BackupBlockJob *job, int64_t offset, int64_t bytes,
                                 BdrvOldData *old)
{
    int64_t start = offset / job->cluster_size;
    int64_t end = DIV_ROUND_UP(offset + bytes, job->cluster_size);
    int ret;

    do {
        wait_for_readers_of(job, start, end);
        ret = stage_co_capture(job->stage, offset, bytes, old);
        if (ret < 0) {
            cow_break(job, ret, ret == -ETIMEDOUT ? COW_FAULT_ROOM : COW_FAULT_READ);
        }
    } while (cow_find_reader(job, start, end));
}

/* B13: is of any of them nothing old left? */
static bool is_lost(const BackupBlockJob *job, int64_t start, int64_t end)
{
    for (; job->last && start < end; start++) {
        start = hbitmap_next_dirty(job->lost, start, end - start);
        if (start < 0) {
            break;
        }
        if (!hbitmap_get(job->done_bitmap, start)) { /* else it was on its way */
            return true;
        }
    }
    return false;
}

/* B13: the same, of only those clusters that are still to be stored; the others are lost to new readers. */
static void coroutine_fn capture_last(BackupBlockJob *job, int64_t offset, int64_t bytes,
                                      BdrvOldData *old)
{
    int64_t end = offset + bytes;

    while (offset < end) {
        int64_t next = MIN(QEMU_ALIGN_DOWN(offset, job->cluster_size) + job->cluster_size, end);
        int64_t cluster = offset / job->cluster_size;

        if (store_wants(job, cluster, cluster + 1)) {
            capture(job, offset, next - offset, old);
        } else {
            wait_for_readers_of(job, cluster, cluster + 1); /* B8 */
            hbitmap_set(job->lost, cluster, 1);
        }
        offset = next;
    }
}

/* B12 */
static bool may_be_dropped(const BackupBlockJob *job, const BdrvTrackedRequest *req, int64_t bytes)
{
    return req->type == BDRV_TRACKED_DISCARD && !cow_is_over(job) &&
           !stage_is_captured(job->stage, req->offset, bytes);
}

static int coroutine_fn before_write_notify(NotifierWithReturn *notifier, void *opaque)
{
    BackupBlockJob *job = container_of(notifier, BackupBlockJob, before_write);
    BdrvTrackedRequest *req = opaque;
    int64_t bytes = MIN(req->bytes, job->len - req->offset);
    int64_t start_ns;

    if (bytes <= 0) {
        return 0;
    }
    if (may_be_dropped(job, req, bytes)) {
        return BDRV_NOTIFY_DROP;
    }
    start_ns = backup_now();
    backup_pace_guest_begin(&job->pace, start_ns);
    qemu_co_rwlock_rdlock(&job->flush_rwlock);
    if (job->last) {
        capture_last(job, req->offset, bytes, &req->old);
    } else {
        capture(job, req->offset, bytes, &req->old);
    }
    histogram_add(&job->guest_wait, backup_now() - start_ns);
    qemu_co_rwlock_unlock(&job->flush_rwlock);
    return 0;
}

/* A read of the target by somebody else (B11). */
typedef struct GuardedRead {
    BdrvReadToken token;
    CowRequest req;
} GuardedRead;

static void guarded_read_end(BdrvReadToken *token)
{
    GuardedRead *read = container_of(token, GuardedRead, token);

    cow_request_end(&read->req);
    g_free(read);
}

static BdrvReadToken *coroutine_fn guarded_read_begin(BdrvReadGuard *guard, int64_t offset,
                                                      int64_t bytes)
{
    BackupBlockJob *job = container_of(guard, BackupBlockJob, read_guard);
    int64_t start = offset / job->cluster_size;
    int64_t end = DIV_ROUND_UP(offset + bytes, job->cluster_size);
    GuardedRead *read;
    int ret;

    qemu_co_rwlock_rdlock(&job->flush_rwlock);
    ret = wait_until_stored(job, start, end, true);
    read = g_new(GuardedRead, 1);
    read->token.end = guarded_read_end;
    read->token.error = cow_is_over(job) || is_lost(job, start, end)
                            ? -EIO
                            : ret; /* H2: what is lost is not made up */
    cow_request_begin(&read->req, &job->guarded_reads, start, end);
    qemu_co_rwlock_unlock(&job->flush_rwlock);
    return &read->token;
}

static void guest_request_done(BdrvLatencyObserver *obs, BdrvTrackedRequestType type, int64_t bytes,
                               int64_t ns)
{
    BackupBlockJob *job = container_of(obs, BackupBlockJob, latency);

    if (type == BDRV_TRACKED_READ || type == BDRV_TRACKED_WRITE) {
        backup_pace_guest_done(&job->pace, ns, backup_now());
    }
}

void cow_init(BackupBlockJob *job)
{
    QLIST_INIT(&job->inflight_reqs);
    QLIST_INIT(&job->guarded_reads);
    QLIST_INIT(&job->stores);
    QLIST_INIT(&job->storers);
    qemu_co_rwlock_init(&job->flush_rwlock);
    qemu_co_queue_init(&job->sweep_wait);
    qemu_co_queue_init(&job->gate);
    qemu_co_queue_init(&job->policy_queue);
    job->before_write.notify = before_write_notify;
    job->read_guard.begin = guarded_read_begin;
    job->latency.done = guest_request_done;
}

/* B1: the caller has quiesced the source. */
void cow_add_notifier(BackupBlockJob *job)
{
    bdrv_add_before_write_notifier(job->source->bs, &job->before_write);
    bdrv_add_latency_observer(job->source->bs, &job->latency);
    job->notifier_added = true;
    if (job->sync_mode == MIRROR_SYNC_MODE_NONE) {
        bdrv_set_read_guard(job->target->bs, &job->read_guard); /* B11 */
    }
}

/* B10 */
void coroutine_fn cow_end(BackupBlockJob *job)
{
    job->ending = true;
    let_all_go(job);
    if (job_is_cancelled(&job->common.job)) {
        cancel_in_flight(job);
    }
    if (job->sync_mode == MIRROR_SYNC_MODE_NONE) {
        bdrv_set_read_guard(job->target->bs, NULL);
    }
    wait_for_readers_of(job, 0, INT64_MAX);
    notifier_with_return_remove(&job->before_write);
    bdrv_remove_latency_observer(&job->latency);
    job->notifier_added = false;
    qemu_co_rwlock_wrlock(&job->flush_rwlock);
    qemu_co_rwlock_unlock(&job->flush_rwlock);
    wait_for_readers_of(job, 0, INT64_MAX); /* guarded ones that waited for a store until now */
    while (job->n_storers > 0 || job->sweep_in_flight > 0) {
        qemu_co_queue_wait(&job->sweep_wait, NULL);
    }
    stage_co_end(job->stage);
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
    wait_until_stored(backup_job_of(job), start, end, false);
}

void backup_cow_request_begin(CowRequest *req, BlockJob *job, int64_t sector_num, int nb_sectors)
{
    int64_t start, end;

    cluster_range(job, sector_num, nb_sectors, &start, &end);
    cow_request_begin(req, &backup_job_of(job)->inflight_reqs, start, end);
}

void backup_cow_request_end(CowRequest *req)
{
    cow_request_end(req);
}

void coroutine_fn backup_do_checkpoint(BlockJob *job, Error **errp)
{
    BackupBlockJob *backup = backup_job_of(job);
    AioContext *caller = qemu_get_current_aio_context();

    assert(job->job.driver->job_type == JOB_TYPE_BACKUP);
    if (backup->sync_mode != MIRROR_SYNC_MODE_NONE) {
        error_setg(errp, "The backup job only supports block checkpoint in sync=none mode");
        return;
    }
    if (!in_aio_context(job->job.aio_context)) {
        aio_co_reschedule_self(job->job.aio_context); /* the stage's */
    }
    /* No write is in the notifier, no store past the gate; those that are parked look again. */
    assert(__atomic_load_n(&backup->source->bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0);
    backup->checkpoints++;
    stage_drop_all(backup->stage);
    store_forget_held(backup);
    store_wake(backup);
    /* What is copied once more is more work. */
    job_progress_increase_remaining(
        &job->job, bytes_of(backup, hbitmap_count(backup->done_bitmap), last_is_done(backup)));
    hbitmap_reset_all(backup->done_bitmap);
    if (!in_aio_context(caller)) {
        aio_co_reschedule_self(caller);
    }
}
