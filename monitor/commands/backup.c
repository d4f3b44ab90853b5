/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * backup.c - drive-backup and blockdev-backup: commands, and actions of a transaction
 *
 *      open      source found; target found (blockdev-backup), or made and opened (drive-backup), and
 *                moved to the source's AioContext
 *      prepare   bitmap found, job made: its before-write notifier is on the source from here
 *      start     the job runs
 *      abort     the job ends as one that never ran
 *
 * The rules for sync, bitmap and bitmap-mode are those of the QMP reference.
 */
#include "transaction.h"

#include <errno.h>

#include "block/dirty/dirty-bitmap.h"
#include "block/jobs/backup.h"
#include "monitor/commands/copying/target.h"
#include "qapi/qapi-commands-block-job.h"

typedef struct BackupAction {
    TxnAction action;                  /* first */
    BlockDriverState *source, *target; /* counted */
    MirrorSyncMode sync;
    BackupStaging staging; /* its scratch counted */
    BlockJob *job;         /* counted: a cancel may end it before we start or abort it */
} BackupAction;

static int backup_open_source(BackupAction *a, const BackupCommon *arg, Error **errp)
{
    a->source = bdrv_lookup_bs(arg->device, arg->device, errp);
    if (!a->source) {
        return -ENOENT;
    }
    if (bdrv_op_is_blocked(a->source, BLOCK_OP_TYPE_BACKUP_SOURCE, errp)) {
        a->source = NULL;
        return -EBUSY;
    }
    bdrv_ref(a->source);
    a->sync = arg->sync;
    return 0;
}

/* Source, target and scratch live in one AioContext from now on. */
static int coroutine_fn backup_join_target(BackupAction *a, const BackupStage *stage, Error **errp)
{
    AioContext *ctx = bdrv_get_aio_context(a->source);
    int r;

    if (a->source == a->target) {
        error_setg(errp, "Source and target cannot be the same");
        return -EINVAL;
    }
    if (bdrv_op_is_blocked(a->target, BLOCK_OP_TYPE_BACKUP_TARGET, errp)) {
        return -EBUSY;
    }
    if (bdrv_get_aio_context(a->target) != ctx) {
        r = bdrv_co_try_change_aio_context(a->target, ctx, errp);
        if (r < 0) {
            return r;
        }
    }
    r = backup_staging_co_open(stage, a->source, &a->staging, errp);
    if (r == 0) {
        txn_action_use_node(&a->action, a->source);
    }
    return r;
}

static void coroutine_fn backup_clean(TxnAction *action)
{
    BackupAction *a = (BackupAction *)action;

    if (a->job) {
        job_unref(&a->job->job);
    }
    if (a->staging.scratch) {
        bdrv_co_unref(a->staging.scratch);
    }
    if (a->target) {
        bdrv_co_unref(a->target);
    }
    if (a->source) {
        bdrv_co_unref(a->source);
    }
}

static int coroutine_fn blockdev_backup_open(TxnAction *action, Error **errp)
{
    BackupAction *a = (BackupAction *)action;
    const BlockdevBackup *arg = action->data;
    int r = backup_open_source(a, (const BackupCommon *)arg, errp);

    if (r < 0) {
        return r;
    }
    a->target = bdrv_lookup_bs(arg->target, arg->target, errp);
    if (a->target) {
        bdrv_ref(a->target);
        r = backup_join_target(a, arg->stage, errp);
    } else {
        r = -ENOENT;
    }
    if (r < 0) {
        backup_clean(action);
    }
    return r;
}

static BlockDriverState *coroutine_fn backup_open_target(BackupAction *a, const DriveBackup *arg,
                                                         const char *format, Error **errp)
{
    BlockDriverState *backing = new_target_backing(a->source, a->sync);
    /* a full copy shows nothing of what the image's header may name */
    NewTarget target = {.source = a->source,
                        .filename = arg->target,
                        .format = format,
                        .backing = backing,
                        .no_backing = !backing};

    return new_target_co_open(&target, errp);
}

static int coroutine_fn drive_backup_open(TxnAction *action, Error **errp)
{
    BackupAction *a = (BackupAction *)action;
    const DriveBackup *arg = action->data;
    bool create = !arg->has_mode || arg->mode == NEW_IMAGE_MODE_ABSOLUTE_PATHS;
    const char *format = arg->format;
    int r = backup_open_source(a, (const BackupCommon *)arg, errp);

    if (r < 0) {
        return r;
    }
    if (a->sync == MIRROR_SYNC_MODE_TOP && !bdrv_backing_chain_next(a->source)) {
        a->sync = MIRROR_SYNC_MODE_FULL;
    }
    if (create) {
        NewTarget target = {.source = a->source,
                            .filename = arg->target,
                            .format = format ? format : new_target_format(a->source),
                            .backing = new_target_backing(a->source, a->sync)};

        format = target.format;
        r = new_target_co_create(&target, errp);
    }
    if (r == 0) {
        a->target = backup_open_target(a, arg, format, errp);
        r = a->target ? backup_join_target(a, arg->stage, errp) : -EINVAL;
    }
    if (r < 0) {
        backup_clean(action);
    }
    return r;
}

/* What is said of a bitmap, made complete; whether it fits the sync mode is the job's to say. */
static int backup_find_bitmap(BlockDriverState *source, const BackupCommon *arg, BackupJobArgs *job,
                              Error **errp)
{
    bool incremental = arg->sync == MIRROR_SYNC_MODE_INCREMENTAL;

    if (!arg->bitmap) {
        if (arg->has_bitmap_mode) {
            error_setg(errp, "Cannot specify bitmap sync mode without a bitmap");
            return -EINVAL;
        }
        return 0;
    }
    job->sync_bitmap = bdrv_find_dirty_bitmap(source, arg->bitmap);
    if (!job->sync_bitmap) {
        error_setg(errp, "Bitmap '%s' could not be found", arg->bitmap);
        return -ENOENT;
    }
    if (!arg->has_bitmap_mode && !incremental) {
        error_setg(errp, "Bitmap sync mode must be given when providing a bitmap");
        return -EINVAL;
    }
    job->bitmap_mode = arg->has_bitmap_mode ? arg->bitmap_mode : BITMAP_SYNC_MODE_ON_SUCCESS;
    return 0;
}

/* Both commands' arguments begin with the same. */
static int coroutine_fn backup_prepare(TxnAction *action, Error **errp)
{
    BackupAction *a = (BackupAction *)action;
    const BackupCommon *arg = action->data;
    BackupJobArgs job = {
        .job_id = arg->job_id,
        .source = a->source,
        .target = a->target,
        .speed = arg->has_speed ? arg->speed : 0,
        .sync = a->sync,
        .compress = arg->has_compress && arg->compress,
        .on_source_error =
            arg->has_on_source_error ? arg->on_source_error : BLOCKDEV_ON_ERROR_REPORT,
        .on_target_error =
            arg->has_on_target_error ? arg->on_target_error : BLOCKDEV_ON_ERROR_REPORT,
        .flags = (arg->has_auto_finalize && !arg->auto_finalize ? JOB_MANUAL_FINALIZE : 0) |
                 (arg->has_auto_dismiss && !arg->auto_dismiss ? JOB_MANUAL_DISMISS : 0),
        .txn = action->job_txn,
        .perf = arg->x_perf,
        .staging = a->staging,
        .latency_target_us = arg->has_latency_target ? arg->latency_target : 0,
    };
    int r = backup_find_bitmap(a->source, arg, &job, errp);

    if (r < 0) {
        return r;
    }
    a->job = backup_co_job_create(&job, errp);
    if (!a->job) {
        return -EINVAL;
    }
    job_ref(&a->job->job);
    return 0;
}

static void coroutine_fn backup_abort(TxnAction *action)
{
    job_co_cancel_sync(&((BackupAction *)action)->job->job, true);
}

static void coroutine_fn backup_start(TxnAction *action)
{
    Job *job = &((BackupAction *)action)->job->job;

    if (job->status == JOB_STATUS_CREATED) { /* else another client's command has cancelled it */
        job_start(job);
    }
}

const TxnActionOps txn_drive_backup = {
    .name = "drive-backup",
    .instance_size = sizeof(BackupAction),
    .supports_grouped = true,
    .open = drive_backup_open,
    .prepare = backup_prepare,
    .abort = backup_abort,
    .start = backup_start,
    .clean = backup_clean,
};

const TxnActionOps txn_blockdev_backup = {
    .name = "blockdev-backup",
    .instance_size = sizeof(BackupAction),
    .supports_grouped = true,
    .open = blockdev_backup_open,
    .prepare = backup_prepare,
    .abort = backup_abort,
    .start = backup_start,
    .clean = backup_clean,
};

void coroutine_fn qmp_drive_backup(DriveBackup *arg, Error **errp)
{
    txn_co_run_one(&txn_drive_backup, arg, errp);
}

void coroutine_fn qmp_blockdev_backup(BlockdevBackup *arg, Error **errp)
{
    txn_co_run_one(&txn_blockdev_backup, arg, errp);
}
