/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mirror job, for those who start one. */
#ifndef BLOCK_JOBS_MIRROR_H
#define BLOCK_JOBS_MIRROR_H

#include "block/dirty/dirty-bitmap.h"
#include "block/jobs/blockjob.h"

/* What a granularity may be: a sector, to what is still one request. */
#define MIRROR_GRANULARITY_MIN 512
#define MIRROR_GRANULARITY_MAX (64 * 1024 * 1024)

/*
 * How long a forced cancel lets the target come to an end by itself: a server that is only busy answers in that
 * time and keeps its connections; one that is gone does not keep the user for longer.
 */
#define MIRROR_CANCEL_TIMEOUT_DEFAULT_S 5

typedef struct MirrorJobArgs {
    const char *job_id;                /* NULL: the device's name */
    BlockDriverState *source, *target; /* borrowed; the job takes references */
    const char *replaces;              /* name of the node to be replaced; NULL: the source */
    BlockDriverState
        *target_backing; /* the target gets it as its backing file at the end; NULL: leave */
    MirrorSyncMode sync;
    BdrvDirtyBitmap *sync_bitmap; /* for bitmap, else NULL; it stays as it is */
    MirrorCopyMode copy_mode;
    bool target_is_zero; /* all of the target reads as zeros; the caller knows */
    bool unmap;          /* zeros of the source may become holes of the target */
    int64_t speed;
    int64_t granularity; /* 0: the default */
    int64_t buf_size;    /* 0: the default */
    BlockdevOnError on_source_error, on_target_error;
    uint32_t
        cancel_timeout_s; /* 0: a forced cancel gives up at once what is in flight in the target */
    int flags;            /* JobCreateFlags */
} MirrorJobArgs;

/*
 * mirror_co_job_create() - make the job and set its tap on the source
 *
 * Context: coroutine of the main AioContext; @args->source is quiesced by the caller until after the call, so
 * that each write is either before it or seen.  Both nodes must be in one AioContext (the caller moves the
 * target's tree with bdrv_co_try_change_aio_context() before the quiesce).
 * Start with job_start(), after the quiesce or inside it; or give up with job_early_fail().
 */
BlockJob *coroutine_fn mirror_co_job_create(const MirrorJobArgs *args, Error **errp);

/* Main thread.  Change the copy mode of a running mirror; an error for another kind of job. */
void mirror_change_copy_mode(BlockJob *job, MirrorCopyMode mode, Error **errp);

#endif
