/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file.c - file I/O from a coroutine, by one of three engines
 *
 *                 read, write           flush, fallocate     who waits for the disk
 *   io_uring      the context's ring    the ring             the kernel
 *   native        libaio (native.c)     a worker thread      the kernel
 *   threads       a worker thread       a worker thread      the worker
 *
 * libaio has no fallocate, and its fsync is a worker thread inside the kernel: ours does as well.
 *
 * F1  An engine does one system call's worth and may do less than asked; the loop in file_rw()
 *     finishes it.  A signal, and a kernel short of memory, are tried again.
 * F2  A read that ends early is tried again behind what came, until nothing comes: that is the end of
 *     the file, and the rest is zeros.  With O_DIRECT the second try would be unaligned and is refused
 *     with EINVAL; a read that stopped at an odd place has met the end as well.
 * F3  Requests in flight count as work in progress for virtual time (A6).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "aio/file.h"
#include "aio/thread-pool.h"
#include "native.h"
#include "aio/uring.h"

/* The smallest logical block there is: where O_DIRECT can stop short of the end of a file. */
#define DIRECT_ALIGN 512

/* One call's worth, in an engine's words. */
typedef struct FileRw {
    int fd;
    bool is_write;
    int rw_flags;
    const struct iovec *iov;
    int niov;
    int64_t offset;
} FileRw;

int aio_file_engine_check(AioContext *ctx, AioFileEngine engine, Error **errp)
{
    switch (engine) {
    case AIO_FILE_IO_URING:
        if (!ctx->uring) {
            error_setg(errp, "io_uring cannot be used: %s", ctx->engine_reason);
            return -ENOTSUP;
        }
        return 0;
    case AIO_FILE_NATIVE:
        return in_aio_context(ctx) ? aio_native_setup(ctx, errp) : aio_native_probe(errp);
    case AIO_FILE_THREADS:
        return 0;
    }
    g_assert_not_reached();
}

AioFileEngine aio_file_engine_default(AioContext *ctx)
{
    return ctx->uring ? AIO_FILE_IO_URING : AIO_FILE_THREADS;
}

static int coroutine_fn uring_run(AioContext *ctx, struct io_uring_sqe *sqe)
{
    AioUringCo wait;
    int ret;

    ctx->busy++;
    ret = aio_uring_co(ctx, sqe, &wait);
    ctx->busy--;
    return ret;
}

static int coroutine_fn uring_rw(AioContext *ctx, FileRw *rw)
{
    struct io_uring_sqe sqe;

    if (rw->niov == 1) {
        unsigned len = MIN(rw->iov->iov_len, (size_t)INT_MAX);

        if (rw->is_write) {
            io_uring_prep_write(&sqe, rw->fd, rw->iov->iov_base, len, rw->offset);
        } else {
            io_uring_prep_read(&sqe, rw->fd, rw->iov->iov_base, len, rw->offset);
        }
        sqe.rw_flags = rw->rw_flags;
    } else if (rw->is_write) {
        io_uring_prep_writev2(&sqe, rw->fd, rw->iov, rw->niov, rw->offset, rw->rw_flags);
    } else {
        io_uring_prep_readv2(&sqe, rw->fd, rw->iov, rw->niov, rw->offset, rw->rw_flags);
    }
    return uring_run(ctx, &sqe);
}

static int worker_rw(void *opaque)
{
    FileRw *rw = opaque;
    ssize_t ret;

    if (rw->is_write) {
        ret = pwritev2(rw->fd, rw->iov, rw->niov, rw->offset, rw->rw_flags);
    } else {
        ret = preadv2(rw->fd, rw->iov, rw->niov, rw->offset, rw->rw_flags);
    }
    return ret < 0 ? -errno : ret; /* the kernel moves less than 2 GiB at once */
}

static int coroutine_fn native_rw(AioContext *ctx, FileRw *rw)
{
    struct iocb iocb;

    if (rw->is_write) {
        io_prep_pwritev(&iocb, rw->fd, rw->iov, rw->niov, rw->offset);
    } else {
        io_prep_preadv(&iocb, rw->fd, rw->iov, rw->niov, rw->offset);
    }
    iocb.aio_rw_flags = rw->rw_flags;
    return aio_native_co(ctx, &iocb);
}

/* Returns the bytes moved, or negative errno. */
static int coroutine_fn engine_rw(AioContext *ctx, AioFileEngine e, FileRw *rw)
{
    switch (e) {
    case AIO_FILE_IO_URING:
        /* A file that was opened elsewhere may have moved to a context whose ring was refused. */
        if (!ctx->uring) {
            return -ENOTSUP;
        }
        return uring_rw(ctx, rw);
    case AIO_FILE_NATIVE:
        return native_rw(ctx, rw);
    case AIO_FILE_THREADS:
        return thread_pool_submit_co(worker_rw, rw);
    }
    g_assert_not_reached();
}

/* Do what is left of @qiov from @done on, as much as one call takes. */
static int coroutine_fn file_rw_part(AioContext *ctx, AioFileEngine e, FileRw *rw,
                                     QEMUIOVector *qiov, size_t done)
{
    size_t bytes = qiov->size - done;
    QEMUIOVector part;
    int ret;

    if (done == 0 && qiov->niov <= IOV_MAX) {
        rw->iov = qiov->iov;
        rw->niov = qiov->niov;
        return engine_rw(ctx, e, rw);
    }
    bytes = qemu_iovec_bytes_within(qiov, done, bytes, IOV_MAX);
    qemu_iovec_init_slice(&part, qiov, done, bytes);
    rw->iov = part.iov;
    rw->niov = part.niov;
    ret = engine_rw(ctx, e, rw);
    qemu_iovec_destroy(&part);
    return ret;
}

/* F1, F2 */
static int coroutine_fn file_rw(AioFileEngine e, FileRw *rw, QEMUIOVector *qiov)
{
    AioContext *ctx = qemu_get_current_aio_context();
    int64_t start = rw->offset;
    size_t done = 0;

    while (done < qiov->size) {
        int ret;

        rw->offset = start + done;
        ret = file_rw_part(ctx, e, rw, qiov, done);
        if (ret == -EINTR || ret == -EAGAIN) {
            continue;
        }
        if (!rw->is_write && (ret == 0 || (ret == -EINVAL && done % DIRECT_ALIGN))) {
            qemu_iovec_memset(qiov, done, 0, qiov->size - done);
            return 0;
        }
        if (ret <= 0) {
            return ret < 0 ? ret : -ENOSPC; /* the end of a device */
        }
        done += ret;
    }
    return 0;
}

int coroutine_fn aio_file_preadv(AioFileEngine e, int fd, int64_t offset, QEMUIOVector *qiov)
{
    FileRw rw = {.fd = fd, .offset = offset};

    return file_rw(e, &rw, qiov);
}

int coroutine_fn aio_file_pwritev(AioFileEngine e, int fd, int64_t offset, QEMUIOVector *qiov,
                                  bool dsync)
{
    FileRw rw = {
        .fd = fd,
        .is_write = true,
        .rw_flags = dsync ? RWF_DSYNC : 0,
        .offset = offset,
    };

    return file_rw(e, &rw, qiov);
}

static int worker_fdatasync(void *opaque)
{
    int *fd = opaque;

    return fdatasync(*fd) < 0 ? -errno : 0;
}

int coroutine_fn aio_file_fdatasync(AioFileEngine e, int fd)
{
    AioContext *ctx = qemu_get_current_aio_context();
    int ret;

    do {
        if (e == AIO_FILE_IO_URING) {
            struct io_uring_sqe sqe;

            io_uring_prep_fsync(&sqe, fd, IORING_FSYNC_DATASYNC);
            ret = uring_run(ctx, &sqe);
        } else {
            ret = thread_pool_submit_co(worker_fdatasync, &fd);
        }
    } while (ret == -EINTR || ret == -EAGAIN);
    return ret;
}

typedef struct Fallocate {
    int fd;
    int mode;
    int64_t offset;
    int64_t bytes;
} Fallocate;

static int worker_fallocate(void *opaque)
{
    Fallocate *f = opaque;

    return fallocate(f->fd, f->mode, f->offset, f->bytes) < 0 ? -errno : 0;
}

int coroutine_fn aio_file_fallocate(AioFileEngine e, int fd, int mode, int64_t offset,
                                    int64_t bytes)
{
    AioContext *ctx = qemu_get_current_aio_context();
    Fallocate f = {.fd = fd, .mode = mode, .offset = offset, .bytes = bytes};
    int ret;

    do {
        if (e == AIO_FILE_IO_URING) {
            struct io_uring_sqe sqe;

            io_uring_prep_fallocate(&sqe, fd, mode, offset, bytes);
            ret = uring_run(ctx, &sqe);
        } else {
            ret = thread_pool_submit_co(worker_fallocate, &f);
        }
    } while (ret == -EINTR || ret == -EAGAIN);
    return ret;
}
