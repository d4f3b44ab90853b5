/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Job: long work with an id, a state, progress, and an end that somebody is told of.
 *
 *                 job_start            a pause point, for user or drain
 *     CREATED ---------------> RUNNING <----------------> PAUSED
 *        |                      | | |
 *        |       run() asks for | | | run() returned 0
 *        |       the user's end | | +--------------------+
 *        |                      v |                      |
 *        |     STANDBY <-----> READY --------------------+--> WAITING for the other jobs
 *        |     (its pause)      | |                            | |     of the transaction
 *        |                      | | run() failed,              | |
 *        | cancelled            | | or was cancelled           | | all have come here
 *        v                      v v                            | v
 *     ABORTING <---------------------------(cancelled)---------+ PENDING (auto-finalize=false:
 *        |     <----------------(prepare failed, cancelled)--------+ |    stays until told)
 *        | abort, clean                                 commit, clean|
 *        +------------------------> CONCLUDED <----------------------+
 *                                       | dismissed, by itself or (auto-dismiss=false) when told
 *                                       v
 *                                      NULL
 *
 *     (CREATED -> NULL: what the job needs could not be had; it never was.)
 *
 * JC1  A state changes in job_set_status() alone, in the main thread; the table of transitions is
 *      asked before, job_check() after, and JOB_STATUS_CHANGE is sent in between.
 * JC2  A verb of the user is asked of the table of verbs before anything is done.
 * JC3  The job's coroutine works in its home AioContext and pauses in the main context: a paused job
 *      may be moved to another home without a race, and its states change where JC1 wants them.
 * JC4  A drain's pause holds whatever else is asked, also a cancelled job.  The user's pause ends with
 *      a cancel, so that a cancel always ends.
 * JC5  Once run() has returned the job is not busy: a drain does not wait for the rest of its life,
 *      which runs in the main context and may itself drain.
 * JC6  Jobs of a transaction end together: nobody commits before everybody is PENDING and prepared;
 *      one that fails or is cancelled makes all abort.
 * JC7  Order of the end, for each job: commit or abort, clean, nodes let go, BLOCK_JOB_COMPLETED or
 *      _CANCELLED, CONCLUDED.  Who hears of the end finds the nodes free.
 * JC8  From ABORTING on ret < 0 and err says why; otherwise ret is 0 and there is no err.
 * JC9  What another thread tells a job goes through atomics, then a wake in the job's home: the
 *      coroutine sees the one or is woken by the other.
 *
 * This file holds JC1 and JC2, run.c JC3 and JC9, verbs.c JC4, txn.c JC5 to JC8.
 */
#include <errno.h>
#include <string.h>
#include "aio/timer.h"
#include "block/jobs/core/job-int.h"
#include "qapi/qapi-events-job.h"
#include "util/osdep.h"
#include "trace-jobs.h"

static QTAILQ_HEAD(, Job) jobs = QTAILQ_HEAD_INITIALIZER(jobs); /* newest first */

#define S(status) (1u << JOB_STATUS_##status)

/* JC1: from the index to the members of the set. */
static const unsigned transitions[JOB_STATUS__MAX] = {
    [JOB_STATUS_UNDEFINED] = S(CREATED),
    [JOB_STATUS_CREATED] = S(RUNNING) | S(ABORTING) | S(NULL),
    [JOB_STATUS_RUNNING] = S(PAUSED) | S(READY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_PAUSED] = S(RUNNING),
    [JOB_STATUS_READY] = S(STANDBY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_STANDBY] = S(READY),
    [JOB_STATUS_WAITING] = S(PENDING) | S(ABORTING),
    [JOB_STATUS_PENDING] = S(CONCLUDED) | S(ABORTING),
    [JOB_STATUS_ABORTING] = S(CONCLUDED),
    [JOB_STATUS_CONCLUDED] = S(NULL),
};

#define BEFORE_THE_END (S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY))

/* JC2: the states in which the verb is accepted. */
static const unsigned verbs[JOB_VERB__MAX] = {
    [JOB_VERB_CANCEL] = BEFORE_THE_END | S(WAITING) | S(PENDING),
    [JOB_VERB_PAUSE] = BEFORE_THE_END,
    [JOB_VERB_RESUME] = BEFORE_THE_END,
    [JOB_VERB_SET_SPEED] = BEFORE_THE_END,
    [JOB_VERB_COMPLETE] = S(READY) | S(STANDBY),
    [JOB_VERB_FINALIZE] = S(PENDING),
    [JOB_VERB_DISMISS] = S(CONCLUDED),
    [JOB_VERB_CHANGE] = BEFORE_THE_END,
};

const char *job_name(const Job *job)
{
    return job->id ? job->id : "(internal)";
}

/* What holds in each state, asked at the end of each transition. */
static void job_check(const Job *job)
{
    switch (job->status) {
    case JOB_STATUS_CREATED:
        assert(!job->co);
        assert(job->txn);
        break;
    case JOB_STATUS_RUNNING:
    case JOB_STATUS_PAUSED:
    case JOB_STATUS_READY:
    case JOB_STATUS_STANDBY:
        assert(job->co);
        assert(!job->deferred_to_main_loop);
        break;
    case JOB_STATUS_WAITING:
    case JOB_STATUS_PENDING:
        assert(job->deferred_to_main_loop); /* JC5 */
        assert(job->ret == 0);
        break;
    case JOB_STATUS_ABORTING:
        assert(!job->co || job->deferred_to_main_loop);
        assert(job->ret < 0);
        break;
    case JOB_STATUS_CONCLUDED:
        assert(!job->txn);
        break;
    case JOB_STATUS_NULL:
        assert(!job->txn);
        assert(!job->co || job->deferred_to_main_loop);
        break;
    default:
        g_assert_not_reached();
    }
    assert((job->ret < 0) == (job->err != NULL)); /* JC8 */
    assert(!job->paused);
}

void job_set_status(Job *job, JobStatus status)
{
    JobStatus from = job->status;

    assert(in_aio_context(qemu_get_aio_context()));
    trace_job_state_transition(job_name(job), job->ret, JobStatus_str(from), JobStatus_str(status));
    assert(transitions[from] & (1u << status)); /* JC1 */
    job_deliver_mail(job);                      /* news of the old state first */
    job->status = status;
    if (job->id) {
        qapi_event_send_job_status_change(job->id, status);
    }
    job_check(job);
}

int job_apply_verb(Job *job, JobVerb verb, Error **errp)
{
    bool allowed = verbs[verb] & (1u << job->status);

    trace_job_verb(job_name(job), JobStatus_str(job->status), JobVerb_str(verb), allowed);
    if (!allowed) {
        error_setg(errp, "Job '%s' in state '%s' cannot accept command verb '%s'", job_name(job),
                   JobStatus_str(job->status), JobVerb_str(verb));
        return -EPERM;
    }
    return 0;
}

/* A letter, then letters, digits and - . _ : what can stand in a command line without quotes. */
static bool id_is_well_formed(const char *id)
{
    if (!g_ascii_isalpha(*id)) {
        return false;
    }
    for (const char *p = id + 1; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("-._", *p)) {
            return false;
        }
    }
    return true;
}

static bool id_is_acceptable(const char *id, Error **errp)
{
    if (!id_is_well_formed(id)) {
        error_setg(errp, "Invalid job ID '%s'", id);
        return false;
    }
    if (job_get(id)) {
        error_setg(errp, "Job ID '%s' already in use", id);
        return false;
    }
    return true;
}

void *job_create(const char *job_id, const JobDriver *driver, JobTxn *txn, AioContext *ctx,
                 int flags, Error **errp)
{
    Job *job;

    assert(driver->instance_size >= sizeof(Job));
    assert(!(flags & JOB_INTERNAL) ||
           (!job_id && !(flags & (JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS))));
    if (!(flags & JOB_INTERNAL) && !id_is_acceptable(job_id ? job_id : "", errp)) {
        return NULL;
    }

    job = g_malloc0(driver->instance_size);
    job->id = g_strdup(job_id);
    job->driver = driver;
    job->auto_finalize = !(flags & JOB_MANUAL_FINALIZE);
    job->auto_dismiss = !(flags & JOB_MANUAL_DISMISS);
    job->aio_context = ctx;
    job->refcnt = 1; /* the list's */
    job->rate_start_ns = job->rate_mark_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    qemu_co_queue_init(&job->pause_queue);
    qemu_co_queue_init(&job->ended_queue);
    g_mutex_init(&job->mail_lock);
    g_queue_init(&job->mail);
    QTAILQ_INSERT_HEAD(&jobs, job, list);
    if (txn) {
        job_txn_add(txn, job);
    } else {
        txn = job_txn_new();
        job_txn_add(txn, job);
        job_txn_unref(txn);
    }
    job_set_status(job, JOB_STATUS_CREATED);
    return job;
}

void job_dismiss(Job *job)
{
    job_set_status(job, JOB_STATUS_NULL);
    QTAILQ_REMOVE(&jobs, job, list);
    job_unref(job);
}

/* Nobody finds it any more when its callbacks yield. */
void coroutine_fn job_early_fail(Job *job)
{
    assert(job->status == JOB_STATUS_CREATED);
    job_ref(job);
    job_txn_remove(job);
    job_dismiss(job);
    if (job->driver->abort) {
        job->driver->abort(job);
    }
    job_release(job);
    job_unref(job);
}

void job_ref(Job *job)
{
    int old = __atomic_fetch_add(&job->refcnt, 1, __ATOMIC_RELAXED);

    assert(old > 0);
}

static void job_free(void *opaque)
{
    Job *job = opaque;

    assert(job->status == JOB_STATUS_NULL);
    assert(!job->txn);
    assert(g_queue_is_empty(&job->mail));
    if (job->driver->free) {
        job->driver->free(job);
    }
    if (job->kind && job->kind->free) {
        job->kind->free(job);
    }
    qemu_co_queue_destroy(&job->pause_queue);
    qemu_co_queue_destroy(&job->ended_queue);
    g_mutex_clear(&job->mail_lock);
    error_free(job->err);
    g_free(job->id);
    g_free(job);
}

void job_unref(Job *job)
{
    int old = __atomic_fetch_sub(&job->refcnt, 1, __ATOMIC_ACQ_REL);

    assert(old > 0);
    if (old > 1) {
        return;
    }
    if (in_aio_context(qemu_get_aio_context())) {
        job_free(job);
    } else {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), job_free, job);
    }
}

Job *job_get(const char *id)
{
    Job *job;

    QTAILQ_FOREACH (job, &jobs, list) {
        if (job->id && strcmp(job->id, id) == 0) {
            return job;
        }
    }
    return NULL;
}

Job *job_find(const char *id, Error **errp)
{
    Job *job = job_get(id);

    if (!job) {
        error_setg(errp, "Job not found");
    }
    return job;
}

Job *job_next(Job *job)
{
    return job ? QTAILQ_NEXT(job, list) : QTAILQ_FIRST(&jobs);
}

bool job_started(Job *job)
{
    return job->co;
}

bool job_is_ready(Job *job)
{
    return job->status == JOB_STATUS_READY || job->status == JOB_STATUS_STANDBY;
}

bool job_is_completed(Job *job)
{
    return !((1u << job->status) & BEFORE_THE_END);
}
