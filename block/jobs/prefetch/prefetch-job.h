/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The prefetch job from inside: what its files share. */
#ifndef BLOCK_JOBS_PREFETCH_PREFETCH_JOB_H
#define BLOCK_JOBS_PREFETCH_PREFETCH_JOB_H

#include "block/copy/copy.h"
#include "block/jobs/prefetch.h"
#include "block/jobs/prefetch/pace.h"

typedef struct PrefetchPiece {
    int64_t offset, bytes;
    bool zero; /* the backing file says so: nothing is read */
    int ret;   /* of one that failed */
    bool failed_reading;
} PrefetchPiece;

typedef struct PrefetchBlockJob {
    BlockJob common;

    /* Fixed. */
    const BlockDriverPrefetch *driver;
    BlockDriverState *bs; /* held by the job's edge */
    int64_t len, unit, bytes_per_slot;
    unsigned slots;
    int64_t throttle_ns;
    BlockdevOnError on_error;

    /* Job's AioContext. */
    CopyPool *bufs;
    CoQueue wait;   /* for a slot */
    int64_t offset; /* of the round: what is before is in the image, in flight, or failed */
    int64_t hint_start, hint_end;
    bool hint_zero;
    GArray *failed; /* PrefetchPiece, to be done again */
    int ignored;    /* an error that on-error says is to be ignored; 0: none */
    int64_t unkept; /* bytes that a crash would undo */
    GRand *rand;

    /* Atomic: written in the job's AioContext. */
    int in_flight;
    PrefetchPace read, write; /* but for average: the job's own */
    bool throttled;
} PrefetchBlockJob;

static inline PrefetchBlockJob *prefetch_job_of(BlockJob *job)
{
    return container_of(job, PrefetchBlockJob, common);
}

/* loop.c: the work */
int coroutine_fn prefetch_run(Job *job, Error **errp);

#endif
