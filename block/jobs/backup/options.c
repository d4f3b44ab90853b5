/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of the stage.  An option that would have no effect is refused: who gives it believes
 * something that is not so.
 */
#include "block/jobs/backup/options.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>

#include "block/copy/scratch.h"
#include "block/copy/stage.h"
#include "block/jobs/backup.h"

/* Without @stage all is default, as with one that says nothing. */
static const BackupStage nothing_said;

static int check_ram(const BackupStage *stage, int64_t *ret_bytes, Error **errp)
{
    uint64_t ram = stage->has_ram ? stage->ram : BACKUP_STAGE_RAM_DEFAULT;

    if (ram < BACKUP_STAGE_RAM_MIN) {
        error_setg(errp, "ram must be at least %lld: one cluster has to fit in it",
                   (long long)BACKUP_STAGE_RAM_MIN);
        return -EINVAL;
    }
    if (ram > (uint64_t)BACKUP_STAGE_RAM_MAX) {
        error_setg(errp, "ram must be at most %lld: that much is for a scratch",
                   (long long)BACKUP_STAGE_RAM_MAX);
        return -EINVAL;
    }
    *ret_bytes = (int64_t)ram;
    return 0;
}

static int check_scratch(const BackupStage *stage, int64_t *ret_bytes, Error **errp)
{
    if (stage->scratch_folder && stage->scratch_node) {
        error_setg(errp, "scratch-folder and scratch-node cannot be given together");
        return -EINVAL;
    }
    if (stage->scratch_folder && !stage->scratch_folder[0]) {
        error_setg(errp, "scratch-folder must not be empty");
        return -EINVAL;
    }
    if (stage->has_scratch && stage->scratch == 0 &&
        (stage->scratch_folder || stage->scratch_node)) {
        error_setg(errp, "%s has no effect when scratch is 0, which means no scratch",
                   stage->scratch_folder ? "scratch-folder" : "scratch-node");
        return -EINVAL;
    }
    if (stage->has_scratch && stage->scratch > 0 && stage->scratch < STAGE_SEGMENT_BYTES) {
        error_setg(errp, "scratch must be at least %lld, the piece in which it is taken, or 0",
                   (long long)STAGE_SEGMENT_BYTES);
        return -EINVAL;
    }
    if (stage->has_scratch && stage->scratch > INT64_MAX) {
        error_setg(errp, "scratch must be at most %" PRId64, INT64_MAX);
        return -EINVAL;
    }
    *ret_bytes = stage->has_scratch ? (int64_t)stage->scratch : -1;
    return 0;
}

static int check_timeout(const BackupStage *stage, int64_t *ret_ns, Error **errp)
{
    bool blocks = stage->has_when_full && stage->when_full == BACKUP_WHEN_FULL_BLOCK;
    uint32_t seconds = stage->has_cow_timeout ? stage->cow_timeout : BACKUP_COW_TIMEOUT_DEFAULT_S;

    if (blocks && stage->has_cow_timeout && seconds > 0) {
        error_setg(errp, "cow-timeout has no effect when when-full is 'block'");
        return -EINVAL;
    }
    if (!blocks && seconds == 0) {
        error_setg(errp, "cow-timeout must be at least 1, or when-full be 'block'");
        return -EINVAL;
    }
    *ret_ns = blocks ? 0 : seconds * NANOSECONDS_PER_SECOND;
    return 0;
}

int backup_stage_check(const BackupStage *stage, BackupStageArgs *ret, Error **errp)
{
    BackupStageArgs args = {0};

    stage = stage ? stage : &nothing_said;
    if (check_ram(stage, &args.ram_bytes, errp) < 0 ||
        check_scratch(stage, &args.scratch_bytes, errp) < 0 ||
        check_timeout(stage, &args.cow_timeout_ns, errp) < 0) {
        return -EINVAL;
    }
    if (stage->scratch_node) {
        args.scratch_node = g_strdup(stage->scratch_node);
    } else if (args.scratch_bytes != 0) {
        args.scratch_folder = stage->scratch_folder ? g_strdup(stage->scratch_folder)
                                                    : g_strdup(scratch_default_folder());
    }
    *ret = args;
    return 0;
}

void backup_stage_args_clear(BackupStageArgs *args)
{
    g_free(args->scratch_folder);
    g_free(args->scratch_node);
    *args = (BackupStageArgs){0};
}

/* A node of the user's: all of it, or as much of it as was said. */
static int coroutine_fn find_scratch_node(const BackupStageArgs *args, BlockDriverState *source,
                                          BackupStaging *ret, Error **errp)
{
    AioContext *ctx = bdrv_get_aio_context(source);
    BlockDriverState *bs = bdrv_lookup_bs(args->scratch_node, args->scratch_node, errp);
    int64_t length;
    int r = 0;

    if (!bs) {
        return -ENOENT;
    }
    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "scratch-node '%s' is read-only", args->scratch_node);
        return -EACCES;
    }
    length = bdrv_getlength(bs);
    if (length < 0) {
        error_setg_errno(errp, -length, "Unable to get length for '%s'", args->scratch_node);
        return length;
    }
    if (length < STAGE_SEGMENT_BYTES) {
        error_setg(errp, "scratch-node '%s' must have at least %lld bytes", args->scratch_node,
                   (long long)STAGE_SEGMENT_BYTES);
        return -EINVAL;
    }
    bdrv_ref(bs);
    if (bdrv_get_aio_context(bs) != ctx) {
        r = bdrv_co_try_change_aio_context(bs, ctx, errp);
    }
    if (r < 0) {
        bdrv_co_unref(bs);
        return r;
    }
    ret->scratch = bs;
    ret->scratch_bytes = args->scratch_bytes < 0 ? length : MIN(length, args->scratch_bytes);
    return 0;
}

static int coroutine_fn open_scratch_file(const BackupStageArgs *args, BlockDriverState *source,
                                          BackupStaging *ret, Error **errp)
{
    int r = scratch_limit(args->scratch_folder, args->scratch_bytes, &ret->scratch_bytes, errp);

    if (r < 0 || ret->scratch_bytes == 0) {
        return r;
    }
    ret->scratch = scratch_co_open(args->scratch_folder, bdrv_get_aio_context(source), errp);
    return ret->scratch ? 0 : -EINVAL;
}

int coroutine_fn backup_staging_co_open(const BackupStage *stage, BlockDriverState *source,
                                        BackupStaging *ret, Error **errp)
{
    BackupStageArgs args;
    int r = backup_stage_check(stage, &args, errp);

    if (r < 0) {
        return r;
    }
    *ret = (BackupStaging){
        .ram_bytes = args.ram_bytes,
        .cow_timeout_ns = args.cow_timeout_ns ? args.cow_timeout_ns : -1,
    };
    if (args.scratch_node) {
        r = find_scratch_node(&args, source, ret, errp);
    } else if (args.scratch_folder) {
        r = open_scratch_file(&args, source, ret, errp);
    }
    backup_stage_args_clear(&args);
    return r;
}
