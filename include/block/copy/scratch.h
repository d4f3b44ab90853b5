/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A scratch file: a node whose file has no name, so that no crash leaves it behind. */
#ifndef BLOCK_COPY_SCRATCH_H
#define BLOCK_COPY_SCRATCH_H

#include "block/graph/graph.h"

/* $TMPDIR, else /var/tmp: what is there may be large and need not outlive us.  Not to be freed. */
const char *scratch_default_folder(void);

/*
 * scratch_limit() - how large a scratch in @folder may grow
 * @wanted: bytes; -1: what the file system has free, less a reserve of the larger of 1 GiB and 5 % of it
 *
 * Context: a thread that may wait, for a file system over a network may be slow to answer.
 * *ret_bytes 0: there is no room for one.  Return: 0; -errno with @errp when the folder tells nothing.
 */
int scratch_limit(const char *folder, int64_t wanted, int64_t *ret_bytes, Error **errp);

/* The free space of a file system less the reserve. */
int64_t scratch_share(uint64_t total_bytes, uint64_t free_bytes);

/*
 * scratch_co_open() - make and open one, empty, in the AioContext @ctx
 *
 * Main thread, coroutine.  Reads and writes pass the page cache by where the file system lets them (they
 * would take memory that no option bounds).  Return: a reference; NULL with @errp set, nothing left behind.
 */
BlockDriverState *coroutine_fn scratch_co_open(const char *folder, AioContext *ctx, Error **errp);

#endif
