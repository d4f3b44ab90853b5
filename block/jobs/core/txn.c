/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a job, alone or with the others of its transaction (JC6).
 *
 *     job_completed()
 *        | ret == 0                              | ret < 0, or cancelled
 *        v                                       v
 *     WAITING; all of them?                   cancel the others, wait until their run() returned
 *        | yes                                   |
 *        v                                       |
 *     PENDING, each                              |
 *        | auto-finalize of all, or job-finalize |
 *        v                                       v
 *     prepare, each --- one failed ------------> finish, each: abort, clean, event, CONCLUDED
 *        |
 *        v
 *     finish, each: commit, clean, event, CONCLUDED
 *
 * Everything here runs in coroutines of the main context.  Callbacks yield, and commands of the user
 * come in between; the phase says what they may still change.
 */
#include <errno.h>
#include <string.h>
#include "block/jobs/core/job-int.h"
#include "util/osdep.h"
#include "trace-jobs.h"

JobTxn *job_txn_new(void)
{
    JobTxn *txn = g_new0(JobTxn, 1);

    txn->refcnt = 1;
    QTAILQ_INIT(&txn->jobs);
    qemu_co_queue_init(&txn->ended_queue);
    return txn;
}

void job_txn_unref(JobTxn *txn)
{
    if (txn && --txn->refcnt == 0) {
        assert(QTAILQ_EMPTY(&txn->jobs));
        qemu_co_queue_destroy(&txn->ended_queue);
        g_free(txn);
    }
}

void job_txn_add(JobTxn *txn, Job *job)
{
    assert(txn->phase == JOB_TXN_RUNNING);
    assert(!job->txn);
    txn->refcnt++;
    job->txn = txn;
    QTAILQ_INSERT_HEAD(&txn->jobs, job, txn_list);
}

void job_txn_remove(Job *job)
{
    JobTxn *txn = job->txn;

    QTAILQ_REMOVE(&txn->jobs, job, txn_list);
    job->txn = NULL;
    job_txn_unref(txn);
}

/* JC8: what the end of run(), or of prepare(), or a cancel, makes of the result. */
static void update_ret(Job *job)
{
    if (job->ret == 0 && job_is_cancelled(job)) {
        job->ret = -ECANCELED;
    }
    if (job->ret < 0) {
        if (!job->err) {
            error_setg(&job->err, "%s", strerror(-job->ret));
        }
        if (job->status != JOB_STATUS_ABORTING) {
            job_set_status(job, JOB_STATUS_ABORTING);
        }
    }
}

void coroutine_fn job_release(Job *job)
{
    if (job->driver->clean) {
        job->driver->clean(job);
    }
    if (job->kind && job->kind->co_release) {
        job->kind->co_release(job);
    }
}

/* JC7 */
static void coroutine_fn finish(Job *job)
{
    bool dismiss = job->auto_dismiss || !job_started(job);

    job_ref(job);
    update_ret(job);
    if (job->ret == 0) {
        if (job->driver->commit) {
            job->driver->commit(job);
        }
    } else if (job->driver->abort) {
        job->driver->abort(job);
    }
    job_release(job);
    if (job_started(job) && job->kind && job->kind->finished) {
        job->kind->finished(job);
    }
    job_txn_remove(job);
    job_set_status(job, JOB_STATUS_CONCLUDED);
    if (dismiss) {
        job_dismiss(job);
    }
    qemu_co_queue_restart_all(&job->ended_queue);
    job_unref(job);
}

static void coroutine_fn finish_all(JobTxn *txn)
{
    Job *job;

    while ((job = QTAILQ_FIRST(&txn->jobs))) {
        finish(job);
    }
}

static bool still_runs(const Job *job)
{
    return job->co && !job->deferred_to_main_loop;
}

static bool others_run(JobTxn *txn)
{
    Job *job;

    QTAILQ_FOREACH (job, &txn->jobs, txn_list) {
        if (still_runs(job)) {
            return true;
        }
    }
    return false;
}

/* @job failed or was cancelled, and does not run. */
static void coroutine_fn txn_abort(JobTxn *txn, Job *job)
{
    Job *other;

    if (txn->phase == JOB_TXN_ABORTING) {
        return; /* somebody waits for us already */
    }
    trace_job_txn_abort(job_name(job));
    txn->phase = JOB_TXN_ABORTING;
    txn->refcnt++;
    QTAILQ_FOREACH (other, &txn->jobs, txn_list) {
        if (other != job) {
            job_mark_cancelled(other, true);
        }
    }
    while (others_run(txn)) {
        qemu_co_queue_wait(&txn->ended_queue, NULL);
    }
    finish_all(txn);
    job_txn_unref(txn);
}

/* All are PENDING. */
static void coroutine_fn txn_finalize(JobTxn *txn)
{
    Job *job, *failed = NULL;

    trace_job_txn_finalize(job_name(QTAILQ_FIRST(&txn->jobs)));
    txn->refcnt++;
    txn->phase = JOB_TXN_PREPARING;
    QTAILQ_FOREACH (job, &txn->jobs, txn_list) {
        if (job->driver->prepare && !job_is_cancelled(job)) {
            job->ret = MIN(job->driver->prepare(job), 0);
        }
        update_ret(job);
        if (job->ret < 0) {
            failed = job;
            break;
        }
    }
    /* A cancel may have reached one whose turn was over. */
    QTAILQ_FOREACH (job, &txn->jobs, txn_list) {
        if (!failed && job_is_cancelled(job)) {
            failed = job;
        }
    }
    if (failed) {
        txn_abort(txn, failed);
    } else {
        txn->phase = JOB_TXN_COMMITTING;
        finish_all(txn);
    }
    job_txn_unref(txn);
}

/* @job came to its end well; is it the last? */
static void coroutine_fn txn_success(JobTxn *txn, Job *job)
{
    bool manual = false;
    Job *other;

    job_set_status(job, JOB_STATUS_WAITING);
    QTAILQ_FOREACH (other, &txn->jobs, txn_list) {
        if (other->status != JOB_STATUS_WAITING) {
            return;
        }
    }
    txn->phase = JOB_TXN_PENDING;
    QTAILQ_FOREACH (other, &txn->jobs, txn_list) {
        job_set_status(other, JOB_STATUS_PENDING);
        if (!other->auto_finalize) {
            manual = true;
            if (other->kind && other->kind->pending) {
                other->kind->pending(other);
            }
        }
    }
    if (!manual) {
        txn_finalize(txn);
    }
}

void coroutine_fn job_completed(Job *job)
{
    JobTxn *txn = job->txn;

    txn->refcnt++;
    update_ret(job);
    qemu_co_queue_restart_all(&txn->ended_queue);
    if (txn->phase == JOB_TXN_ABORTING) {
        /* JC6: who aborts the transaction finishes this one too. */
    } else if (job->ret == 0 && !job_is_cancelled(job)) {
        txn_success(txn, job);
    } else {
        txn_abort(txn, job);
    }
    job_txn_unref(txn);
}

void coroutine_fn job_user_finalize(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_FINALIZE, errp) < 0) {
        return;
    }
    if (job->txn->phase == JOB_TXN_PENDING) {
        txn_finalize(job->txn);
    } /* else it is under way, on an earlier command's word */
}

/* May a cancel of one that does not run still start the end of them all? */
static bool can_begin_abort(const JobTxn *txn)
{
    return txn && (txn->phase == JOB_TXN_RUNNING || txn->phase == JOB_TXN_PENDING);
}

static void coroutine_fn cancel_ended_entry(void *opaque)
{
    Job *job = opaque;

    if (!still_runs(job) && can_begin_abort(job->txn)) {
        txn_abort(job->txn, job);
    } /* else somebody was quicker, and has seen or will see the mark */
    job_unref(job);
}

/*
 * A cancel of @job: marks, and for one that does not run (any more) the end, in a coroutine of its own.
 * A soft cancel leaves one that has reached its end alone.
 */
static void job_cancel(Job *job, bool force)
{
    job_mark_cancelled(job, force);
    if (!still_runs(job) && job_is_cancelled(job) && can_begin_abort(job->txn)) {
        job_ref(job);
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(cancel_ended_entry, job));
    }
}

void job_user_cancel(Job *job, bool force, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_CANCEL, errp) == 0) {
        job_cancel(job, force);
    }
}

static void coroutine_fn wait_for_end(Job *job)
{
    while (job->status != JOB_STATUS_CONCLUDED && job->status != JOB_STATUS_NULL) {
        qemu_co_queue_wait(&job->ended_queue, NULL);
    }
    if (job->status == JOB_STATUS_CONCLUDED) {
        job_dismiss(job);
    }
}

void coroutine_fn job_co_cancel_sync(Job *job, bool force)
{
    job_ref(job);
    if (job->txn) {
        job_cancel(job, force);
    }
    wait_for_end(job);
    job_unref(job);
}

void job_hurry_all(void)
{
    for (Job *job = job_next(NULL); job; job = job_next(job)) {
        if (job->txn && job->driver->cancel && job_is_cancelled(job)) {
            job->driver->cancel(job, true);
        }
    }
}

void coroutine_fn job_co_cancel_sync_all(bool force)
{
    Job *job;

    for (job = job_next(NULL); job; job = job_next(job)) {
        if (job->txn) {
            job_cancel(job, force); /* all at once: their ends need not wait for each other */
        }
    }
    while ((job = job_next(NULL))) {
        job_co_cancel_sync(job, force);
    }
}
