/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block job's events, for its kind. */
#ifndef BLOCK_JOBS_BLOCKJOB_INT_H
#define BLOCK_JOBS_BLOCKJOB_INT_H

#include "block/jobs/job.h"

/* blockjob-report.c.  Main thread. */
void block_job_event_ready(Job *job);
void block_job_event_pending(Job *job);
/* BLOCK_JOB_COMPLETED, with an error or without, or BLOCK_JOB_CANCELLED. */
void block_job_event_finished(Job *job);

#endif
