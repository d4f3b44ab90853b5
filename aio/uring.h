/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uring.h - requests through a context's io_uring, for this room's files only
 *
 * All in the home thread of @ctx, whose engine is io_uring.
 */
#ifndef AIO_URING_H
#define AIO_URING_H

#include <liburing.h>
#include "aio-int.h"

/*
 * aio_uring_queue() - queue a request that was prepared in @sqe; req->done is called when it is over
 *
 * Never fails: what does not fit in the ring waits its turn outside.  Whatever @sqe points at must
 * live until then.
 */
void aio_uring_queue(AioContext *ctx, const struct io_uring_sqe *sqe, AioUringReq *req);

/* Ask the kernel to end @req soon; its done() is called as ever, with -ECANCELED or a result. */
void aio_uring_cancel(AioContext *ctx, AioUringReq *req);

/* A coroutine that waits for a request. */
typedef struct AioUringCo {
    AioUringReq req;
    Coroutine *co;
    int res;
    uint32_t flags;
} AioUringCo;

/* aio_uring_co() - queue @sqe and yield; returns the completion's result, flags are in @wait */
int coroutine_fn aio_uring_co(AioContext *ctx, const struct io_uring_sqe *sqe, AioUringCo *wait);

#endif
