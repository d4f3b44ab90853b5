/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirror.c - drive-mirror, blockdev-mirror, block-job-change
 *
 *      open      source found; target found (blockdev-mirror), or made and opened (drive-mirror), and
 *                moved to the source's AioContext
 *      prepare   the source stands still: the job is made, and sees each write from here on
 *      start     the job runs
 */
#include "monitor/commands/transaction.h"

#include <errno.h>

#include "block/dirty/dirty-bitmap.h"
#include "block/jobs/mirror.h"
#include "monitor/commands/copying/target.h"
#include "qapi/qapi-commands-block-job.h"

typedef struct MirrorAction {
    TxnAction action;                  /* first */
    BlockDriverState *source, *target; /* counted */
    BlockDriverState *target_backing;  /* counted; NULL: none */
    MirrorSyncMode sync;
    bool unmap, target_is_zero;
    BlockJob *job; /* counted: a cancel may end it before we start it */
} MirrorAction;

static int mirror_open_source(MirrorAction *a, const MirrorCommon *arg, Error **errp)
{
    a->source = bdrv_lookup_bs(arg->device, arg->device, errp);
    if (!a->source) {
        return -ENOENT;
    }
    if (bdrv_op_is_blocked(a->source, BLOCK_OP_TYPE_MIRROR_SOURCE, errp)) {
        a->source = NULL;
        return -EBUSY;
    }
    bdrv_ref(a->source);
    a->sync = arg->sync;
    if (a->sync == MIRROR_SYNC_MODE_TOP && !bdrv_backing_chain_next(a->source)) {
        a->sync = MIRROR_SYNC_MODE_FULL;
    }
    return 0;
}

/* Source and target live in one AioContext from now on. */
static int coroutine_fn mirror_join_target(MirrorAction *a, Error **errp)
{
    AioContext *ctx = bdrv_get_aio_context(a->source);
    int r;

    if (a->source == a->target) {
        error_setg(errp, "Can't mirror node into itself");
        return -EINVAL;
    }
    if (bdrv_op_is_blocked(a->target, BLOCK_OP_TYPE_MIRROR_TARGET, errp)) {
        return -EBUSY;
    }
    if (bdrv_get_aio_context(a->target) != ctx) {
        r = bdrv_co_try_change_aio_context(a->target, ctx, errp);
        if (r < 0) {
            return r;
        }
    }
    txn_action_use_node(&a->action, a->source);
    return 0;
}

static void coroutine_fn mirror_clean(TxnAction *action)
{
    MirrorAction *a = (MirrorAction *)action;

    if (a->job) {
        job_unref(&a->job->job);
    }
    if (a->target_backing) {
        bdrv_co_unref(a->target_backing);
    }
    if (a->target) {
        bdrv_co_unref(a->target);
    }
    if (a->source) {
        bdrv_co_unref(a->source);
    }
}

static int coroutine_fn blockdev_mirror_open(TxnAction *action, Error **errp)
{
    MirrorAction *a = (MirrorAction *)action;
    const BlockdevMirror *arg = action->data;
    int r = mirror_open_source(a, (const MirrorCommon *)arg, errp);

    if (r < 0) {
        return r;
    }
    a->unmap = true;
    a->target_is_zero = arg->has_target_is_zero && arg->target_is_zero;
    a->target = bdrv_lookup_bs(arg->target, arg->target, errp);
    if (a->target) {
        bdrv_ref(a->target);
        r = mirror_join_target(a, errp);
    } else {
        r = -ENOENT;
    }
    if (r < 0) {
        mirror_clean(action);
    }
    return r;
}

static int coroutine_fn drive_mirror_open_target(MirrorAction *a, const DriveMirror *arg,
                                                 Error **errp)
{
    bool create = !arg->has_mode || arg->mode == NEW_IMAGE_MODE_ABSOLUTE_PATHS;
    BlockDriverState *backing = new_target_backing(a->source, a->sync);
    NewTarget target = {.source = a->source,
                        .filename = arg->target,
                        .format = arg->format,
                        .node_name = arg->node_name,
                        .backing = backing};
    int r;

    if (create) {
        target.format = target.format ? target.format : new_target_format(a->source);
        a->target_backing = backing;
        if (backing) {
            bdrv_ref(backing); /* the chain may change while the target is made */
        }
        r = new_target_co_create(&target, errp);
        if (r < 0) {
            return r;
        }
    }
    /* What is made gets its backing file at the end, what exists has the one that it names. */
    target.no_backing = create || a->sync == MIRROR_SYNC_MODE_FULL;
    target.backing = NULL;
    a->target = new_target_co_open(&target, errp);
    return a->target ? 0 : -EINVAL;
}

static int coroutine_fn drive_mirror_open(TxnAction *action, Error **errp)
{
    MirrorAction *a = (MirrorAction *)action;
    const DriveMirror *arg = action->data;
    int r = mirror_open_source(a, (const MirrorCommon *)arg, errp);

    if (r < 0) {
        return r;
    }
    a->unmap = !arg->has_unmap || arg->unmap;
    if (arg->replaces && !arg->node_name) {
        error_setg(errp, "a node-name must be provided when replacing a named node of the graph");
        r = -EINVAL;
    }
    if (r == 0) {
        r = drive_mirror_open_target(a, arg, errp);
    }
    if (r == 0) {
        r = mirror_join_target(a, errp);
    }
    if (r < 0) {
        mirror_clean(action);
    }
    return r;
}

/* Both commands' arguments begin with the same. */
static int coroutine_fn mirror_prepare(TxnAction *action, Error **errp)
{
    MirrorAction *a = (MirrorAction *)action;
    const MirrorCommon *arg = action->data;
    MirrorJobArgs job = {
        .job_id = arg->job_id,
        .source = a->source,
        .target = a->target,
        .replaces = arg->replaces,
        .target_backing = a->target_backing,
        .sync = a->sync,
        .copy_mode = arg->has_copy_mode ? arg->copy_mode : MIRROR_COPY_MODE_BACKGROUND,
        .target_is_zero = a->target_is_zero,
        .unmap = a->unmap,
        .speed = arg->has_speed ? arg->speed : 0,
        .granularity = arg->has_granularity ? arg->granularity : 0,
        .buf_size = arg->has_buf_size ? arg->buf_size : 0,
        .on_source_error =
            arg->has_on_source_error ? arg->on_source_error : BLOCKDEV_ON_ERROR_REPORT,
        .on_target_error =
            arg->has_on_target_error ? arg->on_target_error : BLOCKDEV_ON_ERROR_REPORT,
        .cancel_timeout_s =
            arg->has_cancel_timeout ? arg->cancel_timeout : MIRROR_CANCEL_TIMEOUT_DEFAULT_S,
        .flags = (arg->has_auto_finalize && !arg->auto_finalize ? JOB_MANUAL_FINALIZE : 0) |
                 (arg->has_auto_dismiss && !arg->auto_dismiss ? JOB_MANUAL_DISMISS : 0),
    };

    if (arg->bitmap) {
        job.sync_bitmap = bdrv_find_dirty_bitmap(a->source, arg->bitmap);
        if (!job.sync_bitmap) {
            error_setg(errp, "Bitmap '%s' could not be found", arg->bitmap);
            return -ENOENT;
        }
    }
    a->job = mirror_co_job_create(&job, errp);
    if (!a->job) {
        return -EINVAL;
    }
    job_ref(&a->job->job);
    return 0;
}

static void coroutine_fn mirror_start(TxnAction *action)
{
    Job *job = &((MirrorAction *)action)->job->job;

    if (job->status == JOB_STATUS_CREATED) { /* else another client's command has cancelled it */
        job_start(job);
    }
}

static const TxnActionOps drive_mirror = {
    .name = "drive-mirror",
    .instance_size = sizeof(MirrorAction),
    .open = drive_mirror_open,
    .prepare = mirror_prepare,
    .start = mirror_start,
    .clean = mirror_clean,
};

static const TxnActionOps blockdev_mirror = {
    .name = "blockdev-mirror",
    .instance_size = sizeof(MirrorAction),
    .open = blockdev_mirror_open,
    .prepare = mirror_prepare,
    .start = mirror_start,
    .clean = mirror_clean,
};

void coroutine_fn qmp_drive_mirror(DriveMirror *arg, Error **errp)
{
    txn_co_run_one(&drive_mirror, arg, errp);
}

void coroutine_fn qmp_blockdev_mirror(BlockdevMirror *arg, Error **errp)
{
    txn_co_run_one(&blockdev_mirror, arg, errp);
}

void coroutine_fn qmp_block_job_change(BlockJobChangeOptions *arg, Error **errp)
{
    BlockJob *job = block_job_get(arg->id, errp);

    if (!job) {
        return;
    }
    if (arg->type != JOB_TYPE_MIRROR) {
        error_setg(errp, "Job type '%s' does not support change", JobType_str(arg->type));
    } else {
        mirror_change_copy_mode(job, arg->u.mirror.copy_mode, errp);
    }
}
