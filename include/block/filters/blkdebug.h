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

/* The next request that causes @event is held, before it goes down.  Then the breakpoint is gone.  Several hold it
 * until all of them let it go. */
int blkdebug_suspend(BlockDriverState *bs, BlkdebugEvent event, const char *tag);
/* The same, for an event of a request that touches the byte at @offset. */
int blkdebug_suspend_at(BlockDriverState *bs, BlkdebugEvent event, int64_t offset, const char *tag);
/* The same, for every such request until resume. */
int blkdebug_suspend_all(BlockDriverState *bs, BlkdebugEvent event, const char *tag);

/* Let go what @tag holds and drop its breakpoints.  -ENOENT: there was neither. */
int blkdebug_resume(BlockDriverState *bs, const char *tag);
/* Does @tag hold a request now? */
bool blkdebug_is_suspended(BlockDriverState *bs, const char *tag);

/* The same in parts, for a person who says which.  -ENOENT: there was none. */
int blkdebug_resume_held(BlockDriverState *bs, const char *tag);
/* Its breakpoints go; what they hold is let go, which alone is -ENOENT. */
int blkdebug_remove_break(BlockDriverState *bs, const char *tag);
/* Everything that is held, and every breakpoint goes. */
void blkdebug_let_all_go(BlockDriverState *bs);

/* The first blkdebug node from @bs on downwards, along the files; NULL: there is none.  Main thread. */
BlockDriverState *blkdebug_find_below(BlockDriverState *bs);
/*
 * @hook is told of each request that is held (@held), and let go.  For a program in whose main thread all nodes
 * live.  NULL: nobody is told.
 */
void blkdebug_set_hold_hook(void (*hook)(void *opaque, const char *tag, bool held), void *opaque);

#endif
