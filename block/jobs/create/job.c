/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job that makes an image.
 *
 *     blockdev-create --> CREATED --> RUNNING: driver->image->co_create() --> CONCLUDED --> job-dismiss
 *                                        |  ^
 *                               progress |  | cancelled
 *                                        v  |
 *                                     query-jobs, job-cancel
 *
 * It runs in the main thread, where nodes are opened.  A cancel is passed on to the driver, which ends soon with
 * -ECANCELED; what looks like an image is one, or is not there.
 */
#include <errno.h>
#include "block/jobs/create.h"
#include "block/jobs/job.h"
#include "qapi/type.h"

typedef struct CreateJob {
    Job common;
    /* Fixed. */
    const BlockDriver *drv;
    BlockdevCreateOptions *opts;
    /* Atomic. */
    BdrvProgress progress;
} CreateJob;

static int coroutine_fn create_run(Job *job, Error **errp)
{
    CreateJob *s = (CreateJob *)job;

    return s->drv->image->co_create(s->opts, &s->progress, errp);
}

static bool create_cancel(Job *job, bool force)
{
    CreateJob *s = (CreateJob *)job;

    __atomic_store_n(&s->progress.cancelled, true, __ATOMIC_RELAXED);
    return true;
}

/* A driver that says nothing of its progress has one step to do. */
static void create_query(Job *job, JobInfo *info)
{
    CreateJob *s = (CreateJob *)job;
    int64_t total = __atomic_load_n(&s->progress.total, __ATOMIC_RELAXED);
    int64_t done = __atomic_load_n(&s->progress.done, __ATOMIC_RELAXED);
    bool over = job_is_completed(job) && job->ret == 0;

    info->total_progress = total > 0 ? total : 1;
    info->has_rate = info->has_estimated_seconds = false; /* the units are the driver's */
    info->current_progress = over ? info->total_progress : MIN(done, info->total_progress);
}

static void create_free(Job *job)
{
    qapi_free_BlockdevCreateOptions(((CreateJob *)job)->opts);
}

static const JobDriver create_job_driver = {
    .instance_size = sizeof(CreateJob),
    .job_type = JOB_TYPE_CREATE,
    .run = create_run,
    .cancel = create_cancel,
    .query = create_query,
    .free = create_free,
};

void blockdev_create_start(const char *job_id, const BlockdevCreateOptions *opts, Error **errp)
{
    const char *format = BlockdevDriver_str(opts->driver);
    const BlockDriver *drv = bdrv_find_format(format);
    CreateJob *s;

    if (!drv) {
        error_setg(errp, "Block driver '%s' not found or not supported", format);
        return;
    }
    if (!drv->image || !drv->image->co_create) {
        error_setg(errp, "Driver does not support blockdev-create");
        return;
    }
    s = job_create(job_id, &create_job_driver, NULL, qemu_get_aio_context(), JOB_MANUAL_DISMISS,
                   errp);
    if (!s) {
        return;
    }
    s->drv = drv;
    s->opts = QAPI_CLONE(BlockdevCreateOptions, opts);
    job_start(&s->common);
}
