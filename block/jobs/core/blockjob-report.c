/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a block job tells: its events, its I/O errors, its line in query-block-jobs.
 *
 * An I/O error under the policy "stop":
 *
 *     iostatus := failed or nospace --> the user's pause is on --> BLOCK_JOB_ERROR --> PAUSED
 *     job-resume: iostatus := ok, the pause is off, the driver tries again
 */
#include <errno.h>
#include "block/jobs/blockjob.h"
#include "block/jobs/core/blockjob-int.h"
#include "block/jobs/core/job-int.h"
#include "qapi/qapi-events-block-job.h"
#include "util/osdep.h"
#include "trace-jobs.h"

static int64_t progress_len(Job *job)
{
    return __atomic_load_n(&job->progress_total, __ATOMIC_RELAXED);
}

static int64_t progress_offset(Job *job)
{
    return __atomic_load_n(&job->progress_current, __ATOMIC_RELAXED);
}

void block_job_event_ready(Job *job)
{
    if (job->id) {
        qapi_event_send_block_job_ready(job->driver->job_type, job->id, progress_len(job),
                                        progress_offset(job),
                                        container_of(job, BlockJob, job)->speed);
    }
}

void block_job_event_pending(Job *job)
{
    if (job->id) {
        qapi_event_send_block_job_pending(job->driver->job_type, job->id);
    }
}

void block_job_event_finished(Job *job)
{
    int64_t speed = container_of(job, BlockJob, job)->speed;

    if (!job->id) {
        return;
    }
    if (job_is_cancelled(job)) {
        qapi_event_send_block_job_cancelled(job->driver->job_type, job->id, progress_len(job),
                                            progress_offset(job), speed);
    } else {
        qapi_event_send_block_job_completed(job->driver->job_type, job->id, progress_len(job),
                                            progress_offset(job), speed,
                                            job->err ? error_get_pretty(job->err) : NULL);
    }
}

/* An I/O error on its way to the main thread. */
typedef struct JobErrorEvent {
    IoOperationType operation;
    BlockErrorAction action;
} JobErrorEvent;

static void send_error_event(Job *job, void *arg)
{
    JobErrorEvent *e = arg;

    if (job->id) {
        qapi_event_send_block_job_error(job->id, e->operation, e->action);
    }
    g_free(e);
}

void block_job_iostatus_reset(BlockJob *job)
{
    __atomic_store_n(&job->iostatus, BLOCK_DEVICE_IO_STATUS_OK, __ATOMIC_SEQ_CST);
}

/* The first error stays until it is reset: what follows is often only its consequence. */
static void iostatus_set_err(BlockJob *job, int error)
{
    int ok = BLOCK_DEVICE_IO_STATUS_OK;
    int status = error == ENOSPC ? BLOCK_DEVICE_IO_STATUS_NOSPACE : BLOCK_DEVICE_IO_STATUS_FAILED;

    __atomic_compare_exchange_n(&job->iostatus, &ok, status, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
}

BlockErrorAction block_job_error_action(BlockJob *bjob, BlockdevOnError on_err, bool is_read,
                                        int error)
{
    BlockErrorAction action = block_error_action_for(on_err, error);
    JobErrorEvent *e = g_new(JobErrorEvent, 1);
    Job *job = &bjob->job;

    assert(error > 0);
    trace_block_job_error_action(job_name(job), is_read, error, BlockErrorAction_str(action));
    if (action == BLOCK_ERROR_ACTION_STOP) {
        iostatus_set_err(bjob, error);
        if (!__atomic_exchange_n(&job->user_paused, true, __ATOMIC_SEQ_CST)) {
            __atomic_fetch_add(&job->pause_count, 1, __ATOMIC_SEQ_CST);
        }
    }
    e->operation = is_read ? IO_OPERATION_TYPE_READ : IO_OPERATION_TYPE_WRITE;
    e->action = action;
    job_call_in_main(job, send_error_event, e);
    if (action == BLOCK_ERROR_ACTION_STOP) {
        job_kick(job); /* when it was not the job's coroutine that saw the error */
    }
    return action;
}

BlockJobInfo *block_job_query(BlockJob *bjob)
{
    BlockJobInfo *info = g_new0(BlockJobInfo, 1);
    Job *job = &bjob->job;

    assert(job->id);
    info->type = job->driver->job_type;
    info->device = g_strdup(job->id);
    info->len = progress_len(job);
    info->offset = progress_offset(job);
    info->busy = __atomic_load_n(&job->busy, __ATOMIC_SEQ_CST);
    info->paused = __atomic_load_n(&job->pause_count, __ATOMIC_SEQ_CST) > 0;
    info->speed = bjob->speed;
    info->io_status = __atomic_load_n(&bjob->iostatus, __ATOMIC_SEQ_CST);
    info->ready = job_is_ready(job);
    info->status = job->status;
    info->auto_finalize = job->auto_finalize;
    info->auto_dismiss = job->auto_dismiss;
    info->error = job->err ? g_strdup(error_get_pretty(job->err)) : NULL;
    if (job->co && !job->deferred_to_main_loop) {
        job_rate(job, &info->rate, &info->estimated_seconds);
        info->has_rate = true;
        info->has_estimated_seconds = info->estimated_seconds >= 0;
    }
    if (bjob->driver->query) {
        bjob->driver->query(bjob, info);
    }
    return info;
}
