/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The job that makes an image: blockdev-create. */
#ifndef BLOCK_JOBS_CREATE_H
#define BLOCK_JOBS_CREATE_H

#include "block/graph/driver.h"

/**
 * blockdev_create_start() - make an image in a job of its own, which stays until it is dismissed
 * @opts: cloned
 *
 * Context: main thread.  Errors here: the job's id, a driver that cannot make images.  What is wrong with the
 * image, or its file, is the job's error.
 */
void blockdev_create_start(const char *job_id, const BlockdevCreateOptions *opts, Error **errp);

#endif
