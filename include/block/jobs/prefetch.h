/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The prefetch job, for those who start one: all of the backing file comes into the image, which then needs it no more. */
#ifndef BLOCK_JOBS_PREFETCH_H
#define BLOCK_JOBS_PREFETCH_H

#include "block/jobs/blockjob.h"

/* Requests at once, and bytes of each: together they bound the memory of a job, whatever a header says. */
#define PREFETCH_SLOTS_MAX 16
#define PREFETCH_BYTES_MAX (16 * 1024 * 1024)

/* What is < 0 is as the image says. */
typedef struct PrefetchJobArgs {
    const char *job_id;   /* NULL: the device's name */
    BlockDriverState *bs; /* borrowed; the job takes a reference */
    int64_t speed;        /* bytes a second; 0: no limit */
    int64_t slots, bytes_per_slot;
    int64_t min_read_throughput, min_write_throughput; /* bytes a second; 0: never gives way */
    int64_t throttle_ms;                               /* the longest time for which it gives way */
    BlockdevOnError on_error;
    int flags; /* JobCreateFlags */
} PrefetchJobArgs;

/**
 * prefetch_job_create() - a job that fills an image from its backing file while guests use it
 *
 * Context: coroutine of the main AioContext.  Start with job_start(), or give up with job_early_fail().  At the end the
 * image says that it is complete, durably, and the node has no backing file any more.
 *
 * Return: the job; NULL with an Error: the node has no backing file, its driver cannot, it is read-only, or a prefetch
 * of it runs.
 */
BlockJob *coroutine_fn prefetch_job_create(const PrefetchJobArgs *args, Error **errp);

#endif
