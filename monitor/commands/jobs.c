/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jobs.c - query-jobs, query-block-jobs, and the verbs of both families
 *
 * The verbs of job-* name a job by its id; block-job-* do the same for block jobs and differ in the
 * words of their errors, and in that cancel may be asked to be forced.
 */
#include "block/jobs/blockjob.h"
#include "block/jobs/job.h"
#include "qapi/qapi-commands-block-job.h"
#include "qapi/qapi-commands-job.h"

void coroutine_fn qmp_job_pause(const char *id, Error **errp)
{
    Job *job = job_find(id, errp);

    if (job) {
        job_user_pause(job, errp);
    }
}

void coroutine_fn qmp_job_resume(const char *id, Error **errp)
{
    Job *job = job_find(id, errp);

    if (job) {
        job_user_resume(job, errp);
    }
}

void coroutine_fn qmp_job_cancel(const char *id, Error **errp)
{
    Job *job = job_find(id, errp);

    if (job) {
        job_user_cancel(job, !job->driver->ends_by_cancel || !job->driver->ends_by_cancel(job),
                        errp);
    }
}

void coroutine_fn qmp_job_complete(const char *id, Error **errp)
{
    Job *job = job_find(id, errp);

    if (job) {
        job_user_complete(job, errp);
    }
}

/* Keeps @job while it ends. */
static void coroutine_fn qmp_finalize(Job *job, Error **errp)
{
    job_ref(job);
    job_user_finalize(job, errp);
    job_unref(job);
}

void coroutine_fn qmp_job_finalize(const char *id, Error **errp)
{
    Job *job = job_find(id, errp);

    if (job) {
        qmp_finalize(job, errp);
    }
}

void coroutine_fn qmp_job_dismiss(const char *id, Error **errp)
{
    Job *job = job_find(id, errp);

    if (job) {
        job_user_dismiss(&job, errp);
    }
}

void coroutine_fn qmp_block_job_set_speed(const char *device, int64_t speed, Error **errp)
{
    BlockJob *job = block_job_get(device, errp);

    if (job) {
        block_job_set_speed(job, speed, errp);
    }
}

void coroutine_fn qmp_block_job_cancel(const char *device, bool has_force, bool force, Error **errp)
{
    BlockJob *job = block_job_get(device, errp);

    if (job) {
        block_job_user_cancel(job, has_force && force, errp);
    }
}

void coroutine_fn qmp_block_job_pause(const char *device, Error **errp)
{
    BlockJob *job = block_job_get(device, errp);

    if (job) {
        job_user_pause(&job->job, errp);
    }
}

void coroutine_fn qmp_block_job_resume(const char *device, Error **errp)
{
    BlockJob *job = block_job_get(device, errp);

    if (job) {
        job_user_resume(&job->job, errp);
    }
}

void coroutine_fn qmp_block_job_complete(const char *device, Error **errp)
{
    BlockJob *job = block_job_get(device, errp);

    if (job) {
        job_user_complete(&job->job, errp);
    }
}

void coroutine_fn qmp_block_job_finalize(const char *id, Error **errp)
{
    BlockJob *job = block_job_get(id, errp);

    if (job) {
        qmp_finalize(&job->job, errp);
    }
}

void coroutine_fn qmp_block_job_dismiss(const char *id, Error **errp)
{
    BlockJob *block_job = block_job_get(id, errp);

    if (block_job) {
        Job *job = &block_job->job;

        job_user_dismiss(&job, errp);
    }
}

JobInfoList *coroutine_fn qmp_query_jobs(Error **errp)
{
    JobInfoList *list = NULL, **tail = &list;

    for (Job *job = job_next(NULL); job; job = job_next(job)) {
        if (job->id) {
            QAPI_LIST_APPEND(tail, job_query(job));
        }
    }
    return list;
}

BlockJobInfoList *coroutine_fn qmp_query_block_jobs(Error **errp)
{
    BlockJobInfoList *list = NULL, **tail = &list;

    for (BlockJob *job = block_job_next(NULL); job; job = block_job_next(job)) {
        if (job->job.id) {
            QAPI_LIST_APPEND(tail, block_job_query(job));
        }
    }
    return list;
}
