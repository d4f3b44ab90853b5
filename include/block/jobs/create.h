/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The jobs that make an image, and change one: blockdev-create, x-blockdev-amend. */
#ifndef BLOCK_JOBS_CREATE_H
#define BLOCK_JOBS_CREATE_H

#include "block/graph/graph.h"

/**
 * blockdev_create_start() - make an image in a job of its own, which stays until it is dismissed
 * @opts: cloned
 *
 * Context: main thread.  Errors here: the job's id, a driver that cannot make images.  What is wrong with the
 * image, or its file, is the job's error.
 */
void blockdev_create_start(const char *job_id, const BlockdevCreateOptions *opts, Error **errp);

/**
 * blockdev_amend_start() - change the image of @bs in a job of its own, which stays until it is dismissed
 * @force: also what may lose data
 *
 * Context: coroutine of the main thread.  Errors here: the job's id, another driver, one that has nothing to change.
 */
void coroutine_fn blockdev_amend_start(const char *job_id, BlockDriverState *bs,
                                       const BlockdevAmendOptions *opts, bool force, Error **errp);

#endif
