/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the user, and a drain, ask of a job; progress, and what a query shows. */
#include <errno.h>
#include "aio/timer.h"
#include "block/jobs/core/job-int.h"
#include "util/osdep.h"
#include "trace-jobs.h"

/* A rate is taken over one to two of these: steady enough to read, fresh enough to believe. */
#define JOB_RATE_WINDOW_NS (INT64_C(5) * 1000 * 1000 * 1000)
/* Less than this says nothing about a rate. */
#define JOB_RATE_MIN_NS    (INT64_C(100) * 1000 * 1000)

void job_pause(Job *job)
{
    __atomic_fetch_add(&job->pause_count, 1, __ATOMIC_SEQ_CST);
    job_look_again(job);
}

void job_resume(Job *job)
{
    int old = __atomic_fetch_sub(&job->pause_count, 1, __ATOMIC_SEQ_CST);

    assert(old > 0);
    job_look_again(job);
}

bool job_user_paused(Job *job)
{
    return __atomic_load_n(&job->user_paused, __ATOMIC_SEQ_CST);
}

void job_user_pause(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_PAUSE, errp) < 0) {
        return;
    }
    if (__atomic_exchange_n(&job->user_paused, true, __ATOMIC_SEQ_CST)) {
        error_setg(errp, "Job is already paused");
        return;
    }
    job_pause(job);
}

/* The user's pause was on. */
static void end_user_pause(Job *job)
{
    if (job->kind && job->kind->user_resumed) {
        job->kind->user_resumed(job);
    }
    if (job->driver->user_resume) {
        job->driver->user_resume(job);
    }
    if (__atomic_exchange_n(&job->user_paused, false, __ATOMIC_SEQ_CST)) {
        job_resume(job);
    }
}

void job_user_resume(Job *job, Error **errp)
{
    if (!job_user_paused(job)) {
        error_setg(errp, "Can't resume a job that was not paused");
        return;
    }
    if (job_apply_verb(job, JOB_VERB_RESUME, errp) < 0) {
        return;
    }
    end_user_pause(job);
}

void job_user_complete(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_COMPLETE, errp) < 0) {
        return;
    }
    if (job_cancel_requested(job) || !job->driver->complete) {
        error_setg(errp, "The active block job '%s' cannot be completed", job_name(job));
        return;
    }
    job->driver->complete(job, errp);
}

void job_user_dismiss(Job **jobp, Error **errp)
{
    if (job_apply_verb(*jobp, JOB_VERB_DISMISS, errp) < 0) {
        return;
    }
    job_dismiss(*jobp);
    *jobp = NULL;
}

void job_mark_cancelled(Job *job, bool force)
{
    bool ended = !job->co || job->deferred_to_main_loop;

    if (job->txn->phase == JOB_TXN_COMMITTING) {
        return; /* JC6: too late, the others may have committed */
    }
    if (job->driver->cancel) {
        force = job->driver->cancel(job, force);
    } else {
        force = true;
    }
    if (force || !ended) {
        if (force) {
            __atomic_store_n(&job->force_cancel, true, __ATOMIC_SEQ_CST);
        }
        __atomic_store_n(&job->cancelled, true, __ATOMIC_SEQ_CST);
    }
    if (job_user_paused(job)) {
        end_user_pause(job); /* JC4 */
    }
    job_nudge(job);
}

void job_progress_update(Job *job, int64_t done)
{
    __atomic_fetch_add(&job->progress_current, done, __ATOMIC_RELAXED);
}

void job_progress_set_remaining(Job *job, int64_t remaining)
{
    int64_t current = __atomic_load_n(&job->progress_current, __ATOMIC_RELAXED);

    __atomic_store_n(&job->progress_total, current + remaining, __ATOMIC_RELAXED);
}

void job_progress_increase_remaining(Job *job, int64_t delta)
{
    __atomic_fetch_add(&job->progress_total, delta, __ATOMIC_RELAXED);
}

/*
 * Two marks of (time, progress): the rate is taken from the older one to now.  Once the younger is a
 * window old it becomes the older.
 */
void job_rate(Job *job, int64_t *ret_per_second, int64_t *ret_estimate_s)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    int64_t current = __atomic_load_n(&job->progress_current, __ATOMIC_RELAXED);
    int64_t total = __atomic_load_n(&job->progress_total, __ATOMIC_RELAXED);
    int64_t ns = now - job->rate_start_ns;
    double rate = 0;

    if (ns >= JOB_RATE_MIN_NS) {
        rate = (double)(current - job->rate_start_current) * 1e9 / ns;
    }
    if (now - job->rate_mark_ns >= JOB_RATE_WINDOW_NS) {
        job->rate_start_ns = job->rate_mark_ns;
        job->rate_start_current = job->rate_mark_current;
        job->rate_mark_ns = now;
        job->rate_mark_current = current;
    }
    *ret_per_second = rate;
    *ret_estimate_s = -1;
    if (rate >= 1) {
        double seconds = (double)MAX(total - current, 0) / rate;

        *ret_estimate_s = seconds < (double)INT64_MAX ? (int64_t)(seconds + 0.5) : -1;
    }
}

JobInfo *job_query(Job *job)
{
    JobInfo *info = g_new0(JobInfo, 1);

    assert(job->id);
    info->id = g_strdup(job->id);
    info->type = job->driver->job_type;
    info->status = job->status;
    info->current_progress = __atomic_load_n(&job->progress_current, __ATOMIC_RELAXED);
    info->total_progress = __atomic_load_n(&job->progress_total, __ATOMIC_RELAXED);
    info->error = job->err ? g_strdup(error_get_pretty(job->err)) : NULL;
    if (job->co && !job->deferred_to_main_loop) {
        job_rate(job, &info->rate, &info->estimated_seconds);
        info->has_rate = true;
        info->has_estimated_seconds = info->estimated_seconds >= 0;
    }
    if (job->driver->query) {
        job->driver->query(job, info);
    }
    return info;
}
