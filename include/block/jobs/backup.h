/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The backup job, for those who start one.  The CowRequest API is in block/block_backup.h. */
#ifndef BLOCK_JOBS_BACKUP_H
#define BLOCK_JOBS_BACKUP_H

#include "block/dirty/dirty-bitmap.h"
#include "block/jobs/blockjob.h"

/* Where old data is kept until the target takes it, and for how long a write waits for room there. */
typedef struct BackupStaging {
    int64_t ram_bytes;         /* 0: the default */
    BlockDriverState *scratch; /* in the source's AioContext, empty; NULL: memory only */
    int64_t scratch_bytes;     /* how much of it may be used */
    int64_t cow_timeout_ns;    /* 0: the default; < 0: no limit */
} BackupStaging;

typedef struct BackupJobArgs {
    const char *job_id;                /* NULL: the device's name */
    BlockDriverState *source, *target; /* borrowed; the job takes references */
    int64_t speed;
    MirrorSyncMode sync;
    BdrvDirtyBitmap *sync_bitmap; /* for incremental and bitmap, else NULL */
    BitmapSyncMode bitmap_mode;
    bool compress;
    BlockdevOnError on_source_error, on_target_error;
    int flags;                  /* JobCreateFlags */
    JobTxn *txn;                /* NULL: alone */
    const BackupPerf *perf;     /* NULL: defaults */
    BackupStaging staging;      /* zeroed: defaults, without a scratch */
    uint32_t latency_target_us; /* 0: none */
} BackupJobArgs;

/*
 * backup_staging_co_open() - what a user says of the stage (NULL: nothing), checked, its scratch opened
 *
 * Main thread, coroutine; before the disk is quiesced, for it asks the file system.  @ret->scratch is a
 * reference for the caller, in the AioContext of @source; NULL where there is to be none, or no room.
 */
int coroutine_fn backup_staging_co_open(const BackupStage *stage, BlockDriverState *source,
                                        BackupStaging *ret, Error **errp);

/*
 * backup_co_job_create() - make the job and add its before-write notifier
 *
 * Context: coroutine of the main AioContext; @args->source is quiesced by the caller until after the
 * call: the quiesce is the instant that the backup shows.  Both nodes must be in one AioContext (the
 * caller moves the target's tree with bdrv_co_try_change_aio_context() before the quiesce).
 * Start with job_start(), after the quiesce or inside it; or give up with job_early_fail().
 */
BlockJob *coroutine_fn backup_co_job_create(const BackupJobArgs *args, Error **errp);

#endif
