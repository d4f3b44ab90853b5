/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Job: long work with an id, a state, progress, and an end that somebody is told of.
 *
 * States and verbs are those of the QMP reference (JobStatus, JobVerb).  All functions: main thread,
 * but those marked "job's coroutine", which are called in the coroutine that runs driver->run(), in the
 * job's AioContext.  The chapter comment is in block/jobs/core/job.c.
 */
#ifndef BLOCK_JOBS_JOB_H
#define BLOCK_JOBS_JOB_H

#include "aio/aio.h"
#include "coro/lock.h"
#include "coro/sleep.h"
#include "qapi/qapi-types-job.h"
#include "util/error.h"
#include "util/queue.h"

typedef struct Job Job;
typedef struct JobTxn JobTxn;

typedef struct JobDriver {
    size_t instance_size; /* of the struct that begins with a Job */
    JobType job_type;
    /*
     * Job's coroutine: the work.  Return 0 or negative errno, with @errp set if there are words for it.
     * Nothing of the driver's is in flight at return.  Not called for a job that is cancelled before.
     */
    int coroutine_fn (*run)(Job *job, Error **errp);
    /*
     * Coroutines of the main context, called in this order at the end, started or not; each may be NULL.
     * prepare and then commit when all went well, else abort; clean always.
     */
    int coroutine_fn (*prepare)(Job *job); /* last chance to fail; jobs of a transaction together */
    void coroutine_fn (*commit)(Job *job);
    void coroutine_fn (*abort)(Job *job);
    void coroutine_fn (*clean)(Job *job); /* after commit or abort */
    void (*free)(Job *job);
    /* Main thread.  The user asked for the end of a READY job.  NULL: the verb is refused. */
    void (*complete)(Job *job, Error **errp);
    /* Main thread.  A cancel came; return whether it is forced (the result is thrown away). NULL: yes. */
    bool (*cancel)(Job *job, bool force);
    /* Main thread.  Is a cancel how the job ends when all is well?  Then job-cancel is not forced.  NULL: no. */
    bool (*ends_by_cancel)(const Job *job);
    /* Main thread.  The user's pause ended, by job-resume or by a cancel.  May be NULL. */
    void (*user_resume)(Job *job);
    /* Extra members for query-jobs.  May be NULL. */
    void (*query)(Job *job, JobInfo *info);
} JobDriver;

typedef enum JobCreateFlags {
    JOB_DEFAULT = 0,
    JOB_INTERNAL = 1 << 0,        /* invisible: no id, no events */
    JOB_MANUAL_FINALIZE = 1 << 1, /* auto-finalize=false */
    JOB_MANUAL_DISMISS = 1 << 2,  /* auto-dismiss=false */
} JobCreateFlags;

/*
 * What a kind of job (block jobs) adds to each of its jobs.  Owned by this floor, filled in by that kind,
 * which sets job->kind.  Main thread; each may be NULL.
 */
typedef struct JobKind {
    void (*ready)(Job *job);
    void (*pending)(Job *job);  /* and only job_user_finalize() makes it go on */
    void (*finished)(Job *job); /* committed or aborted, cleaned; about to be CONCLUDED */
    void (*user_resumed)(Job *job);
    void coroutine_fn (*co_release)(Job *job); /* before finished: nodes are let go */
    void (*free)(Job *job);
} JobKind;

struct Job {
    /* Fixed. */
    char *id; /* NULL for internal jobs */
    const JobDriver *driver;
    const JobKind *kind; /* may be NULL */
    bool auto_finalize, auto_dismiss;

    /* Main thread. */
    JobStatus status;
    JobTxn *txn;                /* NULL from CONCLUDED on */
    Coroutine *co;              /* NULL until it is started */
    bool deferred_to_main_loop; /* run() has returned */
    bool paused;                /* sits in job_pause_point(), in the main context */
    CoQueue pause_queue;        /* where it sits */
    CoQueue ended_queue;        /* who waits for CONCLUDED */
    Error *err;                 /* set if and only if ret < 0 from ABORTING on */
    int ret;
    int64_t rate_start_ns, rate_mark_ns; /* see job_rate() */
    int64_t rate_start_current, rate_mark_current;

    /* Atomic. */
    AioContext
        *aio_context; /* changed by the main thread, only while the job is paused by a drain */
    int refcnt;
    int pause_count; /* the user's and the drains' */
    bool user_paused;
    bool cancelled, force_cancel;
    bool busy;  /* the coroutine is running or waiting for its own I/O, not in a pause or sleep */
    bool woken; /* by job_wake(), and no sleep has ended for it yet */
    int wakes;  /* bottom halves on their way to the coroutine */
    int64_t progress_current, progress_total;

    /* Job's coroutine. */
    QemuCoSleep sleep;

    /* Under mail_lock: calls on their way to the main thread, in order. */
    GMutex mail_lock;
    GQueue mail;

    QTAILQ_ENTRY(Job) list;
    QTAILQ_ENTRY(Job) txn_list;
};

/*
 * job_create() - a new job in state CREATED
 * @txn: NULL: a transaction of its own.  Checks the id (well formed, not in use).
 * Context @ctx is where run() will run.  Emits JOB_STATUS_CHANGE.
 */
void *job_create(const char *job_id, const JobDriver *driver, JobTxn *txn, AioContext *ctx,
                 int flags, Error **errp);
/*
 * CREATED -> RUNNING; run() starts soon, in its context.  Nothing when its transaction is coming to an end already,
 * by another's failure or a cancel.
 */
void job_start(Job *job);
/* A job that was created and will not be started: abort() and clean() run, then it is gone. */
void coroutine_fn job_early_fail(Job *job);
/* Any thread. */
void job_ref(Job *job);
void job_unref(Job *job);
Job *job_get(const char *id);
Job *job_next(Job *job);

/* Job's coroutine. */
/* Stops here while somebody wants the job paused. */
void coroutine_fn job_pause_point(Job *job);
/*
 * Sleep, unless cancelled; ended early by cancel, a change of speed, job_wake().  A pause is obeyed at once,
 * and the rest is slept after it.  Then a pause point.
 */
void coroutine_fn job_sleep_ns(Job *job, int64_t ns);
/* Until somebody calls job_wake() (or cancels, or pauses: then a pause point and it returns). */
void coroutine_fn job_yield(Job *job);
/*
 * The same without the pause point: for a driver that must first let what is in flight end.  Does not sleep while
 * a pause is wished: the wish may have come on the way home from job_transition_to_ready().
 */
void coroutine_fn job_yield_no_pause(Job *job);
bool job_is_cancelled(Job *job);     /* forced: give up now */
bool job_cancel_requested(Job *job); /* soft or forced */
/* A soft cancel was taken as the order to end in good order, and that has been done: CANCELLED it is. */
void coroutine_fn job_end_cancelled(Job *job);
void coroutine_fn job_transition_to_ready(Job *job);
/* Any thread. */
/* Does somebody want the job in a pause point?  Workers of a driver start nothing new then. */
bool job_should_pause(Job *job);
/*
 * job_wake() - end a job_sleep_ns() or job_yield()
 * From the main thread or the job's AioContext.  When the job is awake its next sleep is skipped.
 */
void job_wake(Job *job);
/* Run @fn(@job, @arg) in the main thread: now when there, else soon, before the next change of state. */
void job_call_in_main(Job *job, void (*fn)(Job *job, void *arg), void *arg);
void job_progress_update(Job *job, int64_t done);
void job_progress_set_remaining(Job *job, int64_t remaining);
void job_progress_increase_remaining(Job *job, int64_t delta);

/* Main thread, by the user.  Each verb is checked against the state; refused with QEMU's words. */
void job_user_pause(Job *job, Error **errp);
void job_user_resume(Job *job, Error **errp);
void job_user_cancel(Job *job, bool force, Error **errp);
void job_user_complete(Job *job, Error **errp);
void coroutine_fn job_user_finalize(Job *job, Error **errp);
void job_user_dismiss(Job **job, Error **errp);
bool job_user_paused(Job *job);
/* Not by the user: drains.  They hold also a cancelled job; a cancel ends the user's pause. */
void job_pause(Job *job);
void job_resume(Job *job);
/*
 * Cancel and wait for the end, and dismiss; at exit, and for a job not started yet.  The caller holds
 * none of the job's nodes quiesced, unless the job was not started.
 */
void coroutine_fn job_co_cancel_sync(Job *job, bool force);
void coroutine_fn job_co_cancel_sync_all(bool force);
/* A second forced cancel for each job that was given one, whatever it is doing: nobody has time.  Main thread. */
void job_hurry_all(void);
/* Started but not yet run to its end / over. */
bool job_is_completed(Job *job);
bool job_is_ready(Job *job);
bool job_started(Job *job);
int job_apply_verb(Job *job, JobVerb verb, Error **errp);
/* "Job not found" or the job. */
Job *job_find(const char *id, Error **errp);
/* Progress per second of late, and seconds to go at that rate (-1: not known). */
void job_rate(Job *job, int64_t *ret_per_second, int64_t *ret_estimate_s);
/* One line for query-jobs; free with qapi_free_JobInfo. */
JobInfo *job_query(Job *job);

/* Jobs that succeed or fail together (completion-mode grouped). */
JobTxn *job_txn_new(void);
void job_txn_unref(JobTxn *txn);

#endif
