/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fd.c - readiness of file descriptors: handlers that stay, and coroutines that wait once
 *
 * Both are made of the engine's one-shot polls.  A handler's poll is started again after the handler
 * has run: what is still ready then is reported again, which makes it level triggered.
 */
#include <assert.h>
#include <errno.h>
#include "aio-int.h"

struct AioFdHandler {
    AioContext *ctx;
    AioPoll poll;
    IOHandler *io_read;
    IOHandler *io_write;
    void *opaque;
    bool deleted; /* freed when its poll has come back */
    QLIST_ENTRY(AioFdHandler) next;
};

static int handler_events(const AioFdHandler *h)
{
    return (h->io_read ? POLLIN : 0) | (h->io_write ? POLLOUT : 0);
}

static void handler_start(AioFdHandler *h)
{
    h->poll.events = handler_events(h);
    h->ctx->engine->poll_start(h->ctx, &h->poll);
}

static void handler_ready(AioPoll *poll, int revents)
{
    AioFdHandler *h = container_of(poll, AioFdHandler, poll);

    if (revents > 0) {
        /* An error is for whoever listens: a read or a write will tell what it is. */
        bool failed = revents & (POLLERR | POLLHUP | POLLNVAL);

        if (!h->deleted && h->io_read && (failed || revents & POLLIN)) {
            h->io_read(h->opaque);
        }
        if (!h->deleted && h->io_write && (failed || revents & POLLOUT)) {
            h->io_write(h->opaque);
        }
    }
    if (h->deleted) {
        g_free(h);
    } else {
        handler_start(h);
    }
}

static AioFdHandler *handler_find(AioContext *ctx, int fd)
{
    AioFdHandler *h;

    QLIST_FOREACH (h, &ctx->fd_handlers, next) {
        if (h->poll.fd == fd) {
            return h;
        }
    }
    return NULL;
}

static void handler_remove(AioFdHandler *h)
{
    QLIST_REMOVE(h, next);
    h->deleted = true;
    if (h->poll.armed) {
        h->ctx->engine->poll_cancel(h->ctx, &h->poll);
    } /* else its callback runs just now, and frees it */
}

void aio_set_fd_handler(AioContext *ctx, int fd, IOHandler *io_read, IOHandler *io_write,
                        void *opaque)
{
    AioFdHandler *h = handler_find(ctx, fd);
    bool is_new = !h;

    assert(in_aio_context(ctx) && fd >= 0);
    if (!io_read && !io_write) {
        if (h) {
            handler_remove(h);
        }
        return;
    }
    if (is_new) {
        h = g_new0(AioFdHandler, 1);
        h->ctx = ctx;
        h->poll.fd = fd;
        h->poll.cb = handler_ready;
        QLIST_INSERT_HEAD(&ctx->fd_handlers, h, next);
    }
    h->io_read = io_read;
    h->io_write = io_write;
    h->opaque = opaque;
    if (is_new) {
        handler_start(h);
    } else if (h->poll.armed && h->poll.events != handler_events(h)) {
        ctx->engine->poll_cancel(ctx, &h->poll); /* comes back and starts with the new events */
    }
}

void aio_fd_handlers_free(AioContext *ctx)
{
    AioFdHandler *h;

    while ((h = QLIST_FIRST(&ctx->fd_handlers))) {
        handler_remove(h);
    }
    /* The cancelled polls come back. */
    while (aio_poll(ctx, false)) {
    }
}

struct AioFdWait {
    AioPoll poll;
    Coroutine *co;
    int revents;
    bool done;
    QLIST_ENTRY(AioFdWait) next;
};

static void wait_over(AioPoll *poll, int revents)
{
    AioFdWait *wait = container_of(poll, AioFdWait, poll);

    wait->revents = revents;
    wait->done = true;
    qemu_coroutine_enter(wait->co);
}

int coroutine_fn aio_co_wait_fd_keep(int fd, int events, bool keep)
{
    AioContext *ctx = qemu_get_current_aio_context();
    AioFdWait wait = {
        .poll = {.fd = fd, .events = events, .cb = wait_over, .keep = keep},
        .co = qemu_coroutine_self(),
    };

    assert(in_aio_context(ctx) && fd >= 0);
    QLIST_INSERT_HEAD(&ctx->fd_waits, &wait, next);
    ctx->engine->poll_start(ctx, &wait.poll);
    qemu_coroutine_yield();
    assert(wait.done);
    QLIST_REMOVE(&wait, next);
    return wait.revents;
}

int coroutine_fn aio_co_wait_fd(int fd, int events)
{
    return aio_co_wait_fd_keep(fd, events, false);
}

void aio_fd_cancel(AioContext *ctx, int fd)
{
    AioFdWait *wait;

    assert(in_aio_context(ctx));
    QLIST_FOREACH (wait, &ctx->fd_waits, next) {
        if (wait->poll.fd == fd && wait->poll.armed) {
            ctx->engine->poll_cancel(ctx, &wait->poll);
        }
    }
}
