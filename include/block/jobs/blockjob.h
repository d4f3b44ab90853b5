/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockJob: a job on nodes.  It keeps its nodes alive, is drained with them, has a speed and an error
 * policy, and is shown by query-block-jobs.
 */
#ifndef BLOCK_JOBS_BLOCKJOB_H
#define BLOCK_JOBS_BLOCKJOB_H

#include "block/backend/backend.h"
#include "block/jobs/job.h"
#include "qapi/qapi-types-block-job.h"
#include "util/ratelimit.h"

/* How finely a speed limit is kept: short enough to look steady, long enough for large requests. */
#define BLOCK_JOB_SLICE_TIME_NS (100 * 1000 * 1000)

typedef struct BlockJob BlockJob;

typedef struct BlockJobDriver {
    JobDriver
        job_driver; /* first: a Job's driver is a BlockJobDriver when block_job_of() says so */
    /* Main thread; may be NULL. */
    void (*set_speed)(BlockJob *job, int64_t speed);
    void (*query)(BlockJob *job, BlockJobInfo *info);
    /* Is something of the driver's still in flight though the job is paused?  bdrv_drain_kick() after. */
    bool (*drained_poll)(BlockJob *job);
    /* Main thread: a quiesce of one of the job's nodes has begun or ended.  May be NULL. */
    void (*drained_changed)(BlockJob *job);
} BlockJobDriver;

struct BlockJob {
    Job job; /* first */
    const BlockJobDriver *driver;

    /* Main thread. */
    int64_t speed;    /* bytes/s, 0: no limit */
    GSList *nodes;    /* BdrvChild, one for each node in use */
    GSList *blockers; /* BdrvOpBlocker */

    /* Atomic. */
    int iostatus; /* BlockDeviceIoStatus */

    /* Under limit_lock. */
    GMutex limit_lock;
    RateLimit limit;
};

/*
 * block_job_create() - a block job on @bs
 * @perm/@shared: what it does with @bs.  The job runs in @bs's AioContext.  @job_id NULL: the name of
 * the device, an error if it has none.  While it lives nobody resizes, replaces or deletes @bs or makes it
 * a target; other jobs may read it.  @speed < 0 is refused.
 */
void *block_job_create(const char *job_id, const BlockJobDriver *driver, JobTxn *txn,
                       BlockDriverState *bs, uint64_t perm, uint64_t shared, int64_t speed,
                       int flags, Error **errp);
/* The edge to the node that block_job_create() was given. */
BdrvChild *block_job_source(BlockJob *job);
/* One more node in use, for nothing else; its parent is the job (drained with it). */
BdrvChild *block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs, uint64_t perm,
                              uint64_t shared, Error **errp);
/* Forbid all operations on a node that the job holds by an edge of its own, until the nodes go. */
void block_job_block_ops(BlockJob *job, BlockDriverState *bs);
void coroutine_fn block_job_co_remove_all_bdrv(BlockJob *job);
/* NULL if @job is not a block job. */
BlockJob *block_job_of(Job *job);
BlockJob *block_job_get(const char *id,
                        Error **errp); /* DeviceNotActive: Block job 'x' not found */
BlockJob *block_job_next(BlockJob *job);
/* block-job-cancel: without @force a job that the user paused is refused. */
void block_job_user_cancel(BlockJob *job, bool force, Error **errp);
bool block_job_set_speed(BlockJob *job, int64_t speed, Error **errp);
/* Job's coroutine: how long to sleep after @n bytes of paced work, 0 when there is no limit. */
int64_t block_job_ratelimit_delay(BlockJob *job, int64_t n);
/*
 * Policy, iostatus and BLOCK_JOB_ERROR for an I/O error (> 0) of the job; on stop it is paused as by the
 * user, so that job-resume makes it try again.  Job's AioContext or main thread; does not yield.
 */
BlockErrorAction block_job_error_action(BlockJob *job, BlockdevOnError on_err, bool is_read,
                                        int error);
void block_job_iostatus_reset(BlockJob *job);
BlockJobInfo *block_job_query(BlockJob *job);

#endif
