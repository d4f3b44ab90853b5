/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Breakpoints: requests that stop at an event until a test lets them go on. */
#include <errno.h>
#include "block/filters/blkdebug/blkdebug-int.h"
#include "util/osdep.h"
#include "trace-blkdebug.h"

static void drop_breakpoint(Breakpoint *b)
{
    QLIST_REMOVE(b, next);
    g_free(b->tag);
    g_free(b);
}

void blkdebug_free_breakpoints(BlkdebugState *s)
{
    assert(QTAILQ_EMPTY(&s->suspended));
    while (!QLIST_EMPTY(&s->breakpoints)) {
        drop_breakpoint(QLIST_FIRST(&s->breakpoints));
    }
}

static void (*hold_hook)(void *opaque, const char *tag, bool held);
static void *hold_opaque;

void blkdebug_set_hold_hook(void (*hook)(void *opaque, const char *tag, bool held), void *opaque)
{
    hold_hook = hook;
    hold_opaque = opaque;
}

static void tell(const char *tag, bool held)
{
    if (hold_hook) {
        hold_hook(hold_opaque, tag, held);
    }
}

/* @bytes 0: the event has no range, and fits only breakpoints without an offset. */
static bool breakpoint_fits(const Breakpoint *b, BlkdebugEvent event, int64_t offset, int64_t bytes)
{
    return b->event == event &&
           (b->offset < 0 || (b->offset >= offset && b->offset < offset + bytes));
}

void coroutine_fn blkdebug_co_hold(BlkdebugState *s, BlkdebugEvent event, int64_t offset,
                                   int64_t bytes)
{
    Breakpoint *b, *next;
    unsigned left = 0;

    g_mutex_lock(&s->lock);
    QLIST_FOREACH_SAFE (b, &s->breakpoints, next, next) {
        SuspendedRequest *req;

        if (!breakpoint_fits(b, event, offset, bytes)) {
            continue;
        }
        req = g_new0(SuspendedRequest, 1);
        req->co = qemu_coroutine_self();
        req->left = &left;
        req->tag = g_strdup(b->tag);
        left++;
        QTAILQ_INSERT_TAIL(&s->suspended, req, next);
        trace_blkdebug_suspend(b->tag, offset, bytes);
        tell(b->tag, true);
        if (!b->every) {
            drop_breakpoint(b);
        }
    }
    g_mutex_unlock(&s->lock);
    if (left > 0) {
        qemu_coroutine_yield(); /* let_go() wakes it, once */
        trace_blkdebug_resume(offset, bytes);
    }
}

static int add_breakpoint(BlockDriverState *bs, BlkdebugEvent event, int64_t offset, bool every,
                          const char *tag)
{
    BlkdebugState *s = blkdebug_state(bs);
    Breakpoint *b;

    if (!s) {
        return -ENOTSUP;
    }
    b = g_new0(Breakpoint, 1);
    b->event = event;
    b->offset = offset;
    b->every = every;
    b->tag = g_strdup(tag);
    g_mutex_lock(&s->lock);
    QLIST_INSERT_HEAD(&s->breakpoints, b, next);
    g_mutex_unlock(&s->lock);
    return 0;
}

int blkdebug_suspend(BlockDriverState *bs, BlkdebugEvent event, const char *tag)
{
    return add_breakpoint(bs, event, -1, false, tag);
}

int blkdebug_suspend_at(BlockDriverState *bs, BlkdebugEvent event, int64_t offset, const char *tag)
{
    return add_breakpoint(bs, event, offset, false, tag);
}

int blkdebug_suspend_all(BlockDriverState *bs, BlkdebugEvent event, const char *tag)
{
    return add_breakpoint(bs, event, -1, true, tag);
}

/* Locked.  @tag NULL: any. */
static bool let_go(BlkdebugState *s, const char *tag)
{
    SuspendedRequest *req, *next;
    bool any = false;

    QTAILQ_FOREACH_SAFE (req, &s->suspended, next, next) {
        if (tag && strcmp(req->tag, tag) != 0) {
            continue;
        }
        any = true;
        QTAILQ_REMOVE(&s->suspended, req, next);
        tell(req->tag, false);
        if (--*req->left == 0) {
            aio_co_wake(req->co);
        }
        g_free(req->tag);
        g_free(req);
    }
    return any;
}

/* Locked. */
static bool drop_breakpoints(BlkdebugState *s, const char *tag)
{
    Breakpoint *b, *next;
    bool any = false;

    QLIST_FOREACH_SAFE (b, &s->breakpoints, next, next) {
        if (!tag || strcmp(b->tag, tag) == 0) {
            drop_breakpoint(b);
            any = true;
        }
    }
    return any;
}

/* What of both was there; negative errno: @bs is no blkdebug node. */
static int end(BlockDriverState *bs, const char *tag, bool breakpoints, bool *ret_dropped,
               bool *ret_freed)
{
    BlkdebugState *s = blkdebug_state(bs);

    if (!s) {
        return -ENOTSUP;
    }
    g_mutex_lock(&s->lock);
    *ret_dropped = breakpoints && drop_breakpoints(s, tag);
    *ret_freed = let_go(s, tag);
    g_mutex_unlock(&s->lock);
    return 0;
}

int blkdebug_resume(BlockDriverState *bs, const char *tag)
{
    bool dropped, freed;
    int ret = end(bs, tag, true, &dropped, &freed);

    return ret < 0 || dropped || freed ? ret : -ENOENT;
}

int blkdebug_resume_held(BlockDriverState *bs, const char *tag)
{
    bool dropped, freed;
    int ret = end(bs, tag, false, &dropped, &freed);

    return ret < 0 || freed ? ret : -ENOENT;
}

int blkdebug_remove_break(BlockDriverState *bs, const char *tag)
{
    bool dropped, freed;
    int ret = end(bs, tag, true, &dropped, &freed);

    return ret < 0 || dropped ? ret : -ENOENT;
}

void blkdebug_let_all_go(BlockDriverState *bs)
{
    bool dropped, freed;

    end(bs, NULL, true, &dropped, &freed);
}

bool blkdebug_is_suspended(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = blkdebug_state(bs);
    SuspendedRequest *req;
    bool found = false;

    if (!s) {
        return false;
    }
    g_mutex_lock(&s->lock);
    QTAILQ_FOREACH (req, &s->suspended, next) {
        found |= strcmp(req->tag, tag) == 0;
    }
    g_mutex_unlock(&s->lock);
    return found;
}
