/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#ifndef BLOCK_FILTERS_BLKDEBUG_INT_H
#define BLOCK_FILTERS_BLKDEBUG_INT_H

#include "block/filters/blkdebug.h"
#include "util/queue.h"

/* One inject-error or set-state of the options. */
typedef struct BlkdebugRule {
    BlkdebugEvent event;
    int state; /* 0: any */
    bool is_error;
    /* inject-error */
    unsigned iotypes; /* bits 1 << BlkdebugIOType */
    int error;        /* positive errno; 0: the request goes down after all */
    int64_t sector;   /* -1: any */
    bool once, immediately;
    /* set-state */
    int new_state;
    bool armed; /* inject-error: the node above has told its event */
    QTAILQ_ENTRY(BlkdebugRule) next;
} BlkdebugRule;

typedef struct Breakpoint {
    BlkdebugEvent event;
    int64_t offset; /* -1: any */
    bool every;
    char *tag;
    QLIST_ENTRY(Breakpoint) next;
} Breakpoint;

/* A request held by a breakpoint: one of @left that hold it. */
typedef struct SuspendedRequest {
    Coroutine *co;
    unsigned *left; /* on its coroutine's stack */
    char *tag;
    QTAILQ_ENTRY(SuspendedRequest) next;
} SuspendedRequest;

typedef struct BlkdebugLimits {
    int64_t align, max_transfer;
    int64_t opt_write_zero, max_write_zero;
    int64_t opt_discard, max_discard;
} BlkdebugLimits;

typedef struct BlkdebugState {
    BlkdebugLimits limits; /* fixed while open */

    GMutex lock;
    /* Under lock. */
    int state;                         /* begins as 1 */
    QTAILQ_HEAD(, BlkdebugRule) rules; /* in the order of the options */
    QLIST_HEAD(, Breakpoint) breakpoints;
    QTAILQ_HEAD(, SuspendedRequest) suspended;
} BlkdebugState;

/* What a request is, for the rules. */
typedef struct BlkdebugRequest {
    BlkdebugIOType type;
    int64_t offset, bytes; /* bytes 0: no range (flush) */
    const BlkdebugEvent *events;
    size_t n_events;
} BlkdebugRequest;

/* Whether an event is one that blkdebug.c causes by itself. */
bool blkdebug_causes_event(BlkdebugEvent event);

/* rules.c */
int blkdebug_read_rules(BlkdebugState *s, const BlockdevOptionsBlkdebug *o, Error **errp);
int blkdebug_add_error_rule(BlkdebugState *s, const BlkdebugInjectErrorOptions *o, Error **errp);
int blkdebug_add_state_rule(BlkdebugState *s, const BlkdebugSetStateOptions *o, Error **errp);
void blkdebug_free_rules(BlkdebugState *s);
/*
 * blkdebug_co_check() - events, breakpoints, rules: what every request goes through
 *
 * Return: 0, send it down; negative errno, it has failed.
 */
int coroutine_fn blkdebug_co_check(BlkdebugState *s, const BlkdebugRequest *req);
/* @event after a request that has been made: breakpoints and set-state. */
void coroutine_fn blkdebug_co_done(BlkdebugState *s, BlkdebugEvent event, int64_t offset,
                                   int64_t bytes);

/* The node above tells @event (B4). */
void coroutine_fn blkdebug_co_told(BlkdebugState *s, BlkdebugEvent event);

/* config.c: the rules of the file @path, in a worker. */
int coroutine_fn blkdebug_co_read_config(BlkdebugState *s, const char *path, Error **errp);

/* breakpoint.c */
void blkdebug_free_breakpoints(BlkdebugState *s);
void coroutine_fn blkdebug_co_hold(BlkdebugState *s, BlkdebugEvent event, int64_t offset,
                                   int64_t bytes);

/* blkdebug.c: NULL when @bs is of another driver. */
BlkdebugState *blkdebug_state(BlockDriverState *bs);

#endif
