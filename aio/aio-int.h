/* SPDX-License-Identifier: GPL-2.0-or-later */
/* aio-int.h - the insides of an AioContext, for the rooms aio and aio/io only */
#ifndef AIO_INT_H
#define AIO_INT_H

#include <poll.h>
#include "aio/aio.h"
#include "aio/timer.h"
#include "coro/waker.h"
#include "util/osdep.h"
#include "util/queue.h"

/*
 * One wait for readiness.  Started once, it calls back once, in the home thread and not inside
 * poll_start() or poll_cancel(): with what happened, or with -ECANCELED.  Its memory must live until
 * then.
 */
typedef struct AioPoll AioPoll;
typedef struct AioUringReq AioUringReq;

/* What a completion of the ring calls, once; lives until then. */
struct AioUringReq {
    void (*done)(AioUringReq *req, int res, uint32_t flags);
};

struct AioPoll {
    int fd;
    int events; /* POLLIN, POLLOUT; POLLERR and POLLHUP come unasked */
    void (*cb)(AioPoll *poll, int revents);
    bool keep; /* expect the same wait again soon: epoll may leave the fd registered meanwhile */
    /* The engine's. */
    bool armed;      /* started and not called back yet */
    bool cancelling; /* poll_cancel() was called meanwhile */
    int revents;
    AioUringReq ring;
    QLIST_ENTRY(AioPoll) next;
};

/* How a context waits: uring.c or epoll.c. */
typedef struct AioEngineOps {
    const char *name;
    /* -errno and the reason when the kernel refuses.  Nothing is left behind then. */
    int (*init)(AioContext *ctx, Error **errp);
    void (*fini)(AioContext *ctx);
    /* Submit what was queued; wait up to @timeout_ns (0: not at all, -1: for ever) for an event. */
    void (*wait)(AioContext *ctx, int64_t timeout_ns);
    /* Call back for the events that are here, a bounded number.  Returns whether there were any. */
    bool (*dispatch)(AioContext *ctx);
    void (*poll_start)(AioContext *ctx, AioPoll *poll);
    void (*poll_cancel)(AioContext *ctx, AioPoll *poll);
    /* @fd is about to be closed: keep nothing about it. */
    void (*forget_fd)(AioContext *ctx, int fd);
} AioEngineOps;

extern const AioEngineOps aio_uring_ops;
extern const AioEngineOps aio_epoll_ops;

typedef struct AioUring AioUring;
typedef struct AioEpoll AioEpoll;
typedef struct AioFdHandler AioFdHandler;
typedef struct AioFdWait AioFdWait;

QSLIST_HEAD(AioBhList, QEMUBH);

/* What the room above adds to a context: something to do before each wait, and at the end. */
typedef struct AioHook AioHook;
struct AioHook {
    void (*before_wait)(AioContext *ctx, AioHook *hook);
    void (*free)(AioContext *ctx, AioHook *hook);
};

struct AioContext {
    /* Fixed while the context lives. */
    const AioEngineOps *engine;
    char *engine_reason;
    AioUring *uring;
    AioEpoll *epoll;
    int notify_fd;

    /* Any thread: lock-free (A3, A4). */
    int waiting;  /* the home thread is about to wait, or waits, and must be notified */
    int visitors; /* threads that are pushing on a list; the context must not go */
    struct AioBhList bhs;
    CoWakeLink *woken_elsewhere; /* newest first */

    /* Home thread. */
    bool polling;
    int busy; /* requests in files and worker threads, which virtual time waits for */
    CoWakeLink *ready;
    CoWakeLink **ready_tail;
    QEMUTimer **timers; /* a binary heap by expiry */
    int timer_count;
    int timer_room;
    QLIST_HEAD(, AioFdHandler) fd_handlers;
    QLIST_HEAD(, AioFdWait) fd_waits; /* of aio_co_wait_fd() */
    AioHook *native_hook;             /* aio/io's libaio; made when first used */
};

/* context.c.  Made in the thread that will run it, and bound to it. */
AioContext *aio_context_new(AioEngine engine, Error **errp);
/* Nothing may be in flight. */
void aio_context_free(AioContext *ctx);

/* ready.c */
bool aio_has_ready(AioContext *ctx);
bool aio_bh_run(AioContext *ctx);
bool aio_ready_run(AioContext *ctx);
void aio_bh_free_all(AioContext *ctx);
extern const CoWaker aio_waker;

/* fd.c */
void aio_fd_handlers_free(AioContext *ctx);
/* The same as aio_co_wait_fd(); @keep as in AioPoll. */
int coroutine_fn aio_co_wait_fd_keep(int fd, int events, bool keep);

/* timer.c.  Nanoseconds until the first timer; -1: there is none. */
int64_t aio_timer_timeout(AioContext *ctx);
bool aio_timers_run(AioContext *ctx);
/* Is time virtual?  Then jump to the first deadline of @ctx; false when there is none. */
bool aio_clock_is_virtual(void);
bool aio_clock_jump(AioContext *ctx);
void *aio_sleep_start(int64_t ns, void (*cb)(void *opaque), void *opaque);
void aio_sleep_stop(void *timer);

/* thread-pool.c: join all workers; the queue is empty. */
void aio_thread_pool_stop(void);

#endif
