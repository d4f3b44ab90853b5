/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a backup job: checks, the instant, the run, the end.
 *
 *   backup_job_create()   source quiesced: nodes attached, bitmap frozen, notifier added   (B1)
 *   run                   the sweep (or, with sync=none, until it is cancelled)
 *                         before-write copies waited for, target flushed                  (H4)
 *   commit or abort       the bitmap's successor is settled
 *   clean                 notifier off (if run never ran), target let go
 */
#include <errno.h>
#include "block/jobs/backup/backup-job.h"
#include "util/osdep.h"
#include "trace-backup.h"

/* B7 */
static void tell_why_broken(BackupBlockJob *job, Error **errp)
{
    const char *name = bdrv_get_device_or_node_name(job->source->bs);
    StageStats stats;

    block_job_error_action(&job->common, BLOCKDEV_ON_ERROR_REPORT, job->cow_fault == COW_FAULT_READ,
                           -job->cow_ret);
    switch (job->cow_fault) {
    case COW_FAULT_READ:
        error_setg_errno(errp, -job->cow_ret,
                         "The old data in front of a write to '%s' could not be read", name);
        break;
    case COW_FAULT_SCRATCH:
        error_setg_errno(errp, -job->cow_ret,
                         "Old data of '%s' could not be read back from the scratch", name);
        break;
    case COW_FAULT_LAST:
        error_setg_errno(errp, -job->cow_ret,
                         "The target did not take the old data of what was written to '%s' before "
                         "the job was cancelled",
                         name);
        break;
    case COW_FAULT_ROOM:
        stage_stats(job->stage, &stats);
        error_setg(errp,
                   "A write to '%s' waited %" PRId64 " s for room for its old data: "
                   "the target is too slow for %" PRId64 " KiB of memory and %" PRId64
                   " KiB of scratch%s%s",
                   name, job->cow_timeout_ns / NANOSECONDS_PER_SECOND, stats.ram_limit / KiB,
                   stats.scratch_limit / KiB, stats.scratch_error ? ", which failed: " : "",
                   stats.scratch_error ? g_strerror(-stats.scratch_error) : "");
        break;
    }
}

static void stop_flush(void *opaque)
{
    BackupBlockJob *job = opaque;

    bdrv_cancel_in_flight(job->target->bs);
}

int coroutine_fn backup_flush_in_time(BackupBlockJob *job)
{
    QEMUTimer *timer = aio_timer_new(qemu_get_current_aio_context(), stop_flush, job);
    int ret;

    timer_mod_ns(timer, backup_now() + BACKUP_LAST_FLUSH_NS);
    ret = bdrv_co_flush(job->target->bs);
    timer_free(timer);
    return ret == -ECANCELED ? -ETIMEDOUT : ret;
}

/* I1: also for a job that fails.  One that nobody waits for does not wait for a target that is silent (H6). */
static int coroutine_fn flush_for_bitmap(BackupBlockJob *job)
{
    bool in_time = job_is_cancelled(&job->common.job) || job->cow_ret < 0;

    return in_time ? backup_flush_in_time(job) : bdrv_co_flush(job->target->bs);
}

static int coroutine_fn backup_run(Job *j, Error **errp)
{
    BackupBlockJob *job = container_of(j, BackupBlockJob, common.job);
    int ret, flush_ret = 0;

    ret = job->sync_mode == MIRROR_SYNC_MODE_NONE ? backup_wait_for_cancel(job) : backup_sweep(job);
    /* Once all is copied a write has nothing to copy; once the job fails there is nothing to keep. */
    cow_end(job);
    if (job->sync_bitmap && job->bitmap_mode == BITMAP_SYNC_MODE_ALWAYS) {
        flush_ret = flush_for_bitmap(job);
        job->target_flushed = flush_ret >= 0;
    }
    if (job_is_cancelled(j)) {
        return -ECANCELED;
    }
    if (job->cow_ret < 0) {
        tell_why_broken(job, errp);
        return job->cow_ret;
    }
    if (ret == 0) {
        assert(hbitmap_count(job->done_bitmap) == (uint64_t)cow_clusters(job)); /* H2 */
        ret = flush_ret < 0 ? flush_ret : bdrv_co_flush(job->target->bs); /* nothing to do, or H4 */
        if (ret < 0) {
            block_job_error_action(&job->common, BLOCKDEV_ON_ERROR_REPORT, false, -ret);
        }
    }
    return ret;
}

static void coroutine_fn backup_commit(Job *j)
{
    backup_bitmap_finish(container_of(j, BackupBlockJob, common.job), true);
}

static void coroutine_fn backup_abort(Job *j)
{
    backup_bitmap_finish(container_of(j, BackupBlockJob, common.job), false);
}

static bool backup_ends_by_cancel(const Job *j)
{
    return container_of(j, const BackupBlockJob, common.job)->sync_mode == MIRROR_SYNC_MODE_NONE;
}

/* What is on its way to a target that does not answer is not waited for (H6). */
static bool backup_cancel(Job *j, bool force)
{
    BackupBlockJob *job = container_of(j, BackupBlockJob, common.job);

    if (!force && backup_ends_by_cancel(j) && j->co && !j->deferred_to_main_loop) {
        return false; /* B13: the job's coroutine is woken, and sees it */
    }
    cow_cancel(job);
    if (job->target) {
        bdrv_cancel_in_flight(job->target->bs);
    }
    if (job->scratch) {
        bdrv_cancel_in_flight(job->scratch->bs);
    }
    return true;
}

static void coroutine_fn backup_clean(Job *j)
{
    BackupBlockJob *job = container_of(j, BackupBlockJob, common.job);
    AioContext *home = j->aio_context;

    if (job->notifier_added) { /* never ran */
        if (!in_aio_context(home)) {
            aio_co_reschedule_self(home);
        }
        cow_end(job);
        if (!in_aio_context(qemu_get_aio_context())) {
            aio_co_reschedule_self(qemu_get_aio_context());
        }
    }
    /* Letting go yields, and a cancel may come meanwhile. */
    job->source = NULL;
    job->target = NULL;
    job->scratch = NULL;
    block_job_co_remove_all_bdrv(&job->common);
}

static void backup_free(Job *j)
{
    BackupBlockJob *job = container_of(j, BackupBlockJob, common.job);

    stage_free(job->stage);
    copy_pool_free(job->store_pool);
    copy_pool_free(job->sweep_pool);
    if (job->done_bitmap) {
        hbitmap_free(job->done_bitmap);
    }
    if (job->last) {
        hbitmap_free(job->last);
        hbitmap_free(job->lost);
    }
}

static void backup_query(BlockJob *bjob, BlockJobInfo *info)
{
    BackupBlockJob *job = backup_job_of(bjob);
    StageStats stats;

    stage_stats(job->stage, &stats);
    backup_report_query(&stats, &job->guest_wait, &job->store_rate, backup_now(), &info->u.backup);
    backup_pace_query(&job->pace, backup_now(), &info->u.backup);
}

static const BlockJobDriver backup_job_driver = {
    .query = backup_query,
    .drained_changed = cow_drained_changed,
    .drained_poll = store_drained_poll,
    .job_driver =
        {
            .instance_size = sizeof(BackupBlockJob),
            .job_type = JOB_TYPE_BACKUP,
            .run = backup_run,
            .cancel = backup_cancel,
            .ends_by_cancel = backup_ends_by_cancel,
            .commit = backup_commit,
            .abort = backup_abort,
            .clean = backup_clean,
            .free = backup_free,
        },
};

/* The target's clusters, or ours where they are smaller; a copy of part of one would need its rest. */
static int64_t coroutine_fn choose_cluster_size(BlockDriverState *target, Error **errp)
{
    BlockDriverInfo info = {0};
    int ret = bdrv_co_get_info(target, &info);

    if (ret == -ENOTSUP || (ret >= 0 && info.cluster_size == 0)) {
        return BACKUP_CLUSTER_SIZE_DEFAULT;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Couldn't determine the cluster size of the target image");
        return ret;
    }
    return MAX(BACKUP_CLUSTER_SIZE_DEFAULT, info.cluster_size);
}

static int check_nodes(const BackupJobArgs *args, Error **errp)
{
    if (args->source == args->target) {
        error_setg(errp, "Source and target cannot be the same");
        return -EINVAL;
    }
    if (block_copy_check_views(args->source, args->target, errp) < 0) {
        return -EBUSY;
    }
    if (args->compress && !(args->target->supported_write_flags & BDRV_REQ_WRITE_COMPRESSED)) {
        error_setg(errp, "Compression is not supported for this drive %s",
                   bdrv_get_device_or_node_name(args->target));
        return -ENOTSUP;
    }
    if (args->perf && args->perf->has_use_copy_range && args->perf->use_copy_range) {
        error_setg(errp,
                   "use-copy-range is not supported: before-write copies need the data in memory");
        return -ENOTSUP;
    }
    if (bdrv_op_is_blocked(args->source, BLOCK_OP_TYPE_BACKUP_SOURCE, errp) ||
        bdrv_op_is_blocked(args->target, BLOCK_OP_TYPE_BACKUP_TARGET, errp)) {
        return -EBUSY;
    }
    return block_copy_check_equal(args->source, args->target, errp);
}

static int check_perf(const BackupPerf *perf, int64_t cluster_size, BackupBlockJob *job,
                      Error **errp)
{
    job->max_workers = BACKUP_SWEEP_WORKERS;
    job->max_chunk = BACKUP_CHUNK_BYTES;
    if (perf && perf->has_max_workers) {
        if (perf->max_workers < 1 || perf->max_workers > INT_MAX) {
            error_setg(errp, "max-workers must be between 1 and %d", INT_MAX);
            return -EINVAL;
        }
        /* Each needs a buffer for all its time; one that waited for another's would hold up a pause. */
        job->max_workers = MIN(perf->max_workers, BACKUP_SWEEP_CHUNKS_MAX);
    }
    if (perf && perf->has_max_chunk) {
        if (perf->max_chunk < 0) {
            error_setg(errp, "max-chunk must be zero (which means no limit) or positive");
            return -EINVAL;
        }
        if (perf->max_chunk && perf->max_chunk < cluster_size) {
            error_setg(errp,
                       "Required max-chunk (%" PRIi64 ") is less than backup cluster size (%" PRIi64
                       ")",
                       perf->max_chunk, cluster_size);
            return -EINVAL;
        }
        job->max_chunk =
            perf->max_chunk ? MIN(perf->max_chunk, BACKUP_CHUNK_BYTES) : BACKUP_CHUNK_BYTES;
    }
    job->max_chunk = MAX(QEMU_ALIGN_DOWN(job->max_chunk, cluster_size), cluster_size);
    /* Who says how much to keep in flight gets it. */
    job->sweep_bytes = perf && perf->has_max_workers ? job->max_workers * job->max_chunk
                                                     : MAX(BACKUP_SWEEP_BYTES, job->max_chunk);
    return 0;
}

/* Does what the target shows, where it holds nothing itself, come from the source? */
static bool target_shows_source(const BackupJobArgs *args)
{
    return bdrv_chain_contains(args->target, args->source);
}

static int attach_target(BackupBlockJob *job, const BackupJobArgs *args, Error **errp)
{
    uint64_t shared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;

    if (target_shows_source(args)) {
        shared |=
            BLK_PERM_WRITE; /* the guest writes the target's backing file, that is the point */
    }
    job->target =
        block_job_add_bdrv(&job->common, "target", args->target, BLK_PERM_WRITE, shared, errp);
    return job->target ? 0 : -EPERM;
}

static int attach_scratch(BackupBlockJob *job, const BackupStaging *staging, Error **errp)
{
    if (!staging->scratch || staging->scratch_bytes < STAGE_SEGMENT_BYTES) {
        return 0;
    }
    if (staging->scratch == job->source->bs || staging->scratch == job->target->bs) {
        error_setg(errp, "The scratch cannot be the source or the target");
        return -EINVAL;
    }
    job->scratch =
        block_job_add_bdrv(&job->common, "scratch", staging->scratch,
                           BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, 0, errp);
    return job->scratch ? 0 : -EPERM;
}

static void fill_in(BackupBlockJob *job, const BackupJobArgs *args)
{
    job->sync_mode = args->sync;
    job->bitmap_mode = args->bitmap_mode;
    job->on_source_error = args->on_source_error;
    job->on_target_error = args->on_target_error;
    job->len = bdrv_getlength(args->source);
    job->done_bitmap = hbitmap_alloc(cow_clusters(job), 0);
    job->cow_timeout_ns = args->staging.cow_timeout_ns < 0 ? 0
                          : args->staging.cow_timeout_ns > 0
                              ? args->staging.cow_timeout_ns
                              : BACKUP_COW_TIMEOUT_DEFAULT_S * NANOSECONDS_PER_SECOND;
    job->sweep_pool = copy_pool_new(args->source, job->max_chunk, job->max_workers);
    job->copy = (BlockCopy){
        .source = job->source,
        .target = job->target,
        .cluster_bytes = job->cluster_size,
        .length = job->len,
        .write_flags = args->compress ? BDRV_REQ_WRITE_COMPRESSED : 0,
    };
    backup_pace_init(&job->pace,
                     &(BackupPaceConfig){.cluster_bytes = job->cluster_size,
                                         .piece_bytes = job->max_chunk,
                                         .idle_bytes = job->sweep_bytes,
                                         .target_ns = args->latency_target_us * SCALE_US},
                     backup_now());
    store_init(job, args->staging.ram_bytes ? args->staging.ram_bytes : BACKUP_STAGE_RAM_DEFAULT,
               args->staging.scratch_bytes);
}

BlockJob *coroutine_fn backup_co_job_create(const BackupJobArgs *args, Error **errp)
{
    BackupBlockJob *job;
    int64_t cluster_size;

    if (check_nodes(args, errp) < 0 || backup_bitmap_check(args, errp) < 0) {
        return NULL;
    }
    cluster_size = choose_cluster_size(args->target, errp);
    if (cluster_size < 0) {
        return NULL;
    }
    job = block_job_create(args->job_id, &backup_job_driver, args->txn, args->source,
                           BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL & ~BLK_PERM_RESIZE, args->speed,
                           args->flags, errp);
    if (!job) {
        return NULL;
    }
    job->cluster_size = cluster_size;
    cow_init(job);
    job->source = block_job_source(&job->common); /* from here it hears of quiesces */
    if (check_perf(args->perf, cluster_size, job, errp) < 0 ||
        bdrv_child_unshare_below(job->source, BLK_PERM_WRITE, errp) < 0 || /* B1 */
        attach_target(job, args, errp) < 0 || attach_scratch(job, &args->staging, errp) < 0) {
        goto fail;
    }
    fill_in(job, args);
    job->sync_bitmap = args->sync_bitmap;
    if (backup_bitmap_freeze(job, errp) < 0) {
        job->sync_bitmap = NULL;
        goto fail;
    }
    backup_bitmap_init_done(job);
    cow_add_notifier(job); /* B1 */
    return &job->common;

fail:
    job_early_fail(&job->common.job);
    return NULL;
}
