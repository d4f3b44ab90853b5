/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blkdebug, for tests: holding requests until they are let go.
 *
 * @bs is a blkdebug node in all of these; others are refused (-ENOTSUP) or ignored.  A tag names a
 * breakpoint, and the requests that it holds.  Any thread; nothing yields.
 */
#ifndef BLOCK_FILTERS_BLKDEBUG_H
#define BLOCK_FILTERS_BLKDEBUG_H

#include "block/graph/graph.h"

/* The next request that causes @event is held, before it goes down.  Then the breakpoint is gone. */
int blkdebug_suspend(BlockDriverState *bs, BlkdebugEvent event, const char *tag);
/* The same, for an event of a request that touches the byte at @offset. */
int blkdebug_suspend_at(BlockDriverState *bs, BlkdebugEvent event, int64_t offset, const char *tag);
/* The same, for every such request until resume. */
int blkdebug_suspend_all(BlockDriverState *bs, BlkdebugEvent event, const char *tag);

/* Let go what @tag holds and drop its breakpoints.  -ENOENT: there was neither. */
int blkdebug_resume(BlockDriverState *bs, const char *tag);
/* Does @tag hold a request now? */
bool blkdebug_is_suspended(BlockDriverState *bs, const char *tag);

#endif
