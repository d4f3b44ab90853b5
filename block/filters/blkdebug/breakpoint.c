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

/* @bytes 0: the event has no range, and fits only breakpoints without an offset. */
static Breakpoint *find_breakpoint(BlkdebugState *s, BlkdebugEvent event, int64_t offset,
                                   int64_t bytes)
{
    Breakpoint *b;

    QLIST_FOREACH (b, &s->breakpoints, next) {
        if (b->event == event &&
            (b->offset < 0 || (b->offset >= offset && b->offset < offset + bytes))) {
            return b;
        }
    }
    return NULL;
}

void coroutine_fn blkdebug_co_hold(BlkdebugState *s, BlkdebugEvent event, int64_t offset,
                                   int64_t bytes)
{
    SuspendedRequest req = {.co = qemu_coroutine_self()};
    Breakpoint *b;

    g_mutex_lock(&s->lock);
    b = find_breakpoint(s, event, offset, bytes);
    if (!b) {
        g_mutex_unlock(&s->lock);
        return;
    }
    req.tag = g_strdup(b->tag);
    if (!b->every) {
        drop_breakpoint(b);
    }
    QTAILQ_INSERT_TAIL(&s->suspended, &req, next);
    trace_blkdebug_suspend(req.tag, offset, bytes);
    g_mutex_unlock(&s->lock);
    /* blkdebug_resume() takes the request off the list, then wakes it. */
    qemu_coroutine_yield();
    trace_blkdebug_resume(req.tag, offset, bytes);
    g_free(req.tag);
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

int blkdebug_resume(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = blkdebug_state(bs);
    SuspendedRequest *req, *next_req;
    Breakpoint *b, *next_b;
    int ret = -ENOENT;

    if (!s) {
        return -ENOTSUP;
    }
    g_mutex_lock(&s->lock);
    QLIST_FOREACH_SAFE (b, &s->breakpoints, next, next_b) {
        if (strcmp(b->tag, tag) == 0) {
            drop_breakpoint(b);
            ret = 0;
        }
    }
    QTAILQ_FOREACH_SAFE (req, &s->suspended, next, next_req) {
        if (strcmp(req->tag, tag) == 0) {
            Coroutine *co = req->co;

            QTAILQ_REMOVE(&s->suspended, req, next);
            aio_co_wake(co);
            ret = 0;
        }
    }
    g_mutex_unlock(&s->lock);
    return ret;
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
