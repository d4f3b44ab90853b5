/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The target of a job that copies into a file: made, and opened. */
#ifndef MONITOR_COMMANDS_COPYING_TARGET_H
#define MONITOR_COMMANDS_COPYING_TARGET_H

#include "block/graph/graph.h"
#include "qapi/qapi-types-block-job.h"

/* All borrowed. */
typedef struct NewTarget {
    BlockDriverState *source;
    const char *filename;
    const char *format;        /* when opened, NULL: found out */
    const char *node_name;     /* NULL: made up */
    BlockDriverState *backing; /* what it rests on; NULL: nothing */
    bool no_backing;           /* opened without what its header may name */
} NewTarget;

/*
 * What a copy of @source with @sync rests on: with none the source itself, with top what the source rests on;
 * else, or if that is nothing, NULL.  Borrowed.
 */
BlockDriverState *new_target_backing(BlockDriverState *source, MirrorSyncMode sync);
/* The format of what @bs shows; a node of a protocol shows its bytes as they are. */
const char *new_target_format(BlockDriverState *bs);
/*
 * Make the image, of the source's length.  Main thread, coroutine.  Return: 0, or negative errno with @errp set;
 * a file that a node has open is refused.
 */
int coroutine_fn new_target_co_create(const NewTarget *target, Error **errp);
/* Open it, with the source's way of caching and discarding.  A reference for the caller, or NULL with @errp set. */
BlockDriverState *coroutine_fn new_target_co_open(const NewTarget *target, Error **errp);

#endif
