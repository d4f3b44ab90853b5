/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AioContext: one thread's event loop.  Bottom halves, timers, fd events, coroutines to run, and one
 * io_uring (or epoll) that carries file I/O, sockets and fd readiness in batches.
 */
#ifndef AIO_AIO_H
#define AIO_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include "coro/coroutine.h"
#include "util/error.h"

typedef struct AioContext AioContext;
typedef struct QEMUBH QEMUBH;
typedef void QEMUBHFunc(void *opaque);
typedef void IOHandler(void *opaque);
typedef void QEMUTimerCB(void *opaque);

/* How a context waits and does file I/O.  AUTO: io_uring if a real request through it works. */
typedef enum AioEngine { AIO_ENGINE_AUTO, AIO_ENGINE_IO_URING, AIO_ENGINE_EPOLL } AioEngine;

/*
 * aio_init() - make the main context and bind it to the calling thread; 0 or negative errno
 *
 * Before the first coroutine, and after the last fork (a ring does not follow into a child).
 * aio_cleanup() waits for what is in flight in files and workers, joins the workers and frees the
 * context; iothreads must be gone.  The two may be called again in turn.
 */
int aio_init(AioEngine engine, Error **errp);
void aio_cleanup(void);
AioContext *qemu_get_aio_context(void); /* the main one */
AioContext *
qemu_get_current_aio_context(void);   /* of the calling thread; the main one's for others */
bool in_aio_context(AioContext *ctx); /* does the calling thread run @ctx? */

/* Which engine runs, in words: "io_uring", or "epoll" and why io_uring was refused. */
const char *aio_context_engine_name(AioContext *ctx);
const char *aio_context_engine_reason(AioContext *ctx);

/*
 * aio_poll() - run what is ready; if @blocking wait for something first.  Home thread, not in a
 * coroutine, not nested.  Returns whether anything ran.
 */
bool aio_poll(AioContext *ctx, bool blocking);
void aio_notify(AioContext *ctx); /* any thread: make a blocking aio_poll return soon */

/*
 * aio_run_co() - THE bridge: run @entry(@opaque) as a coroutine of the main context and poll until it
 * has ended.  Main thread, not in a coroutine.
 */
void aio_run_co(CoroutineEntry *entry, void *opaque);

/*
 * Bottom halves: functions that run in @ctx soon, in the order of scheduling, never inside the call.
 * All from any thread.  Scheduling twice before it ran is once.  After a delete from the home thread it
 * will not run; from another thread it may just be running.
 */
QEMUBH *aio_bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque);
void aio_bh_schedule_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque);
void qemu_bh_schedule(QEMUBH *bh);
void qemu_bh_cancel(QEMUBH *bh);
void qemu_bh_delete(QEMUBH *bh); /* NULL is fine */

/*
 * Fd readiness; level triggered.  Home thread.  Both NULL removes, before the fd is closed; neither is
 * called after that.
 */
void aio_set_fd_handler(AioContext *ctx, int fd, IOHandler *io_read, IOHandler *io_write,
                        void *opaque);

/*
 * Coroutines.  The first three from any thread, for a coroutine that waits (or was never entered); one
 * that is woken twice before it runs is a bug and aborts.
 */
void aio_co_schedule(AioContext *ctx, Coroutine *co); /* run @co in @ctx (its new home) soon */
void aio_co_wake(Coroutine *co);                      /* in its home, soon */
void aio_co_enter(AioContext *ctx,
                  Coroutine *co); /* now if in @ctx and not in a coroutine, else soon */
void coroutine_fn aio_co_reschedule_self(AioContext *ctx); /* go on in @ctx */

/*
 * Wait for fd readiness in a coroutine: POLLIN / POLLOUT; returns revents, or -ECANCELED after
 * aio_fd_cancel().
 */
int coroutine_fn aio_co_wait_fd(int fd, int events);
/* End every aio_co_wait_fd() and aio_co_accept() on @fd in @ctx, soon.  Home thread. */
void aio_fd_cancel(AioContext *ctx, int fd);

/* Timers: see aio/timer.h.  Blocking work: see aio/thread-pool.h.  Files: aio/file.h.  Sockets: aio/channel.h. */

#endif
