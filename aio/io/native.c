/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * native.c - libaio: submitted in batches, completions through an eventfd
 *
 * Requests queue up while callbacks run; aio_poll() submits them before it waits, with one call.  What
 * the kernel does not take yet (its queue is full) stays and is tried again in the next turn, which
 * comes at the latest with the next completion.
 */
#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "native.h"
#include "trace-aio-io.h"

/* In flight at once; the system-wide limit (fs.aio-max-nr, 65536) allows for 64 contexts. */
#define NATIVE_IN_FLIGHT_MAX 1024
/* Handed over by one call. */
#define NATIVE_BATCH         128

typedef struct NativeReq {
    struct iocb *iocb;
    Coroutine *co;
    int ret;
    QSIMPLEQ_ENTRY(NativeReq) next;
} NativeReq;

typedef struct AioNative {
    AioHook hook;
    io_context_t io;
    int efd;
    int in_flight;
    QSIMPLEQ_HEAD(, NativeReq) queue;
} AioNative;

static void native_complete(NativeReq *req, int ret)
{
    req->ret = ret;
    aio_co_wake(req->co);
}

static void native_ready(void *opaque)
{
    AioNative *n = opaque;
    struct timespec zero = {0};
    struct io_event events[64];
    eventfd_t value;
    int count;

    eventfd_read(n->efd, &value); /* before the events are taken: a later one rings again */
    do {
        count = io_getevents(n->io, 0, ARRAY_SIZE(events), events, &zero);
        for (int i = 0; i < count; i++) {
            n->in_flight--;
            native_complete(events[i].data, (int)(long)events[i].res);
        }
    } while (count == ARRAY_SIZE(events) || count == -EINTR);
}

/* Take the first @count off the queue. */
static void queue_drop(AioNative *n, int count)
{
    while (count-- > 0) {
        QSIMPLEQ_REMOVE_HEAD(&n->queue, next);
    }
}

static void native_submit(AioContext *ctx, AioHook *hook)
{
    AioNative *n = container_of(hook, AioNative, hook);

    while (!QSIMPLEQ_EMPTY(&n->queue) && n->in_flight < NATIVE_IN_FLIGHT_MAX) {
        struct iocb *batch[NATIVE_BATCH];
        NativeReq *req;
        int count = 0, ret;

        QSIMPLEQ_FOREACH (req, &n->queue, next) {
            if (count == NATIVE_BATCH || n->in_flight + count == NATIVE_IN_FLIGHT_MAX) {
                break;
            }
            batch[count++] = req->iocb;
        }
        ret = io_submit(n->io, count, batch);
        trace_aio_native_submit(ctx, count, ret);
        if (ret == -EAGAIN && n->in_flight > 0) {
            return; /* a completion will bring us here again */
        }
        req = QSIMPLEQ_FIRST(&n->queue);
        if (ret <= 0) { /* it is the first that is refused */
            queue_drop(n, 1);
            native_complete(req, ret < 0 ? ret : -EAGAIN);
        } else {
            queue_drop(n, ret);
            n->in_flight += ret;
        }
    }
}

static void native_free(AioContext *ctx, AioHook *hook)
{
    AioNative *n = container_of(hook, AioNative, hook);

    assert(n->in_flight == 0 && QSIMPLEQ_EMPTY(&n->queue));
    aio_set_fd_handler(ctx, n->efd, NULL, NULL, NULL);
    io_destroy(n->io);
    close(n->efd);
    g_free(n);
}

int aio_native_probe(Error **errp)
{
    io_context_t io = NULL;
    int ret = io_setup(1, &io);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "libaio cannot be used");
        return ret;
    }
    io_destroy(io);
    return 0;
}

int aio_native_setup(AioContext *ctx, Error **errp)
{
    AioNative *n;
    int ret;

    assert(in_aio_context(ctx));
    if (ctx->native_hook) {
        return 0;
    }
    n = g_new0(AioNative, 1);
    ret = io_setup(NATIVE_IN_FLIGHT_MAX, &n->io);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "libaio cannot be used");
        g_free(n);
        return ret;
    }
    n->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->efd < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Cannot make an event descriptor");
        io_destroy(n->io);
        g_free(n);
        return ret;
    }
    QSIMPLEQ_INIT(&n->queue);
    aio_set_fd_handler(ctx, n->efd, native_ready, NULL, n);
    n->hook.before_wait = native_submit;
    n->hook.free = native_free;
    ctx->native_hook = &n->hook;
    return 0;
}

int coroutine_fn aio_native_co(AioContext *ctx, struct iocb *iocb)
{
    NativeReq req = {.iocb = iocb, .co = qemu_coroutine_self()};
    int ret = aio_native_setup(ctx, NULL); /* a file may have moved here since it was opened */
    AioNative *n;

    if (ret < 0) {
        return ret;
    }
    n = container_of(ctx->native_hook, AioNative, hook);
    io_set_eventfd(iocb, n->efd);
    iocb->data = &req;
    QSIMPLEQ_INSERT_TAIL(&n->queue, &req, next);
    ctx->busy++;
    qemu_coroutine_yield();
    ctx->busy--;
    return req.ret;
}
