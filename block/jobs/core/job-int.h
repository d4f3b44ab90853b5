/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#ifndef BLOCK_JOBS_JOB_INT_H
#define BLOCK_JOBS_JOB_INT_H

#include "block/jobs/job.h"

/* How far a transaction is; it only goes on, never back.  Main thread. */
typedef enum JobTxnPhase {
    JOB_TXN_RUNNING,    /* some job has not reached PENDING */
    JOB_TXN_PENDING,    /* all have */
    JOB_TXN_PREPARING,  /* prepare() of the jobs runs; a cancel still counts */
    JOB_TXN_COMMITTING, /* no way back */
    JOB_TXN_ABORTING,
} JobTxnPhase;

struct JobTxn {
    int refcnt; /* the creator's, and one for each job in it */
    JobTxnPhase phase;
    CoQueue ended_queue;     /* who waits for the other jobs' run() to end */
    QTAILQ_HEAD(, Job) jobs; /* newest first */
};

/* "job" for trace and messages, also of internal jobs. */
const char *job_name(const Job *job);

/* job.c: THE transition (JC1). */
void job_set_status(Job *job, JobStatus status);
/* Out of the list of jobs, and the list's reference with it.  CONCLUDED or CREATED -> NULL. */
void job_dismiss(Job *job);

/* run.c.  Coroutine of the job: go to the main context, deliver the mail; and back. */
void coroutine_fn job_go_main(Job *job);
void coroutine_fn job_go_home(Job *job);
/* Main thread.  A pause began or ended: the coroutine looks, and sleeps on if that was all. */
void job_look_again(Job *job);
/* Main thread.  More has changed, and no sleep shall outlast it; also for a job in its pause. */
void job_nudge(Job *job);
/* End this sleep if there is one, nothing more.  Main thread or home. */
void job_kick(Job *job);
void job_deliver_mail(Job *job);

/* txn.c */
void job_txn_add(JobTxn *txn, Job *job);
void job_txn_remove(Job *job);
/* run() has returned, or never will be called: what that means for the transaction. */
void coroutine_fn job_completed(Job *job);
void coroutine_fn job_release(Job *job);
/* Set the marks of a cancel and wake the job; what follows is the caller's or the job's business. */
void job_mark_cancelled(Job *job, bool force);

#endif
