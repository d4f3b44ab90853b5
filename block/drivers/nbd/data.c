/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block layer's requests as commands of the protocol. */
#include <errno.h>
#include "block/drivers/nbd/nbd-int.h"

AioContext *coroutine_fn nbd_co_go_home(BlockDriverState *bs)
{
    AioContext *here = qemu_get_current_aio_context();

    if (bs->aio_context != here) {
        aio_co_reschedule_self(bs->aio_context);
    }
    return here;
}

void coroutine_fn nbd_co_go_back(AioContext *from)
{
    if (from != qemu_get_current_aio_context()) {
        aio_co_reschedule_self(from);
    }
}

/* The memory of a range of @qiov if it is in one piece, else NULL. */
static void *one_piece(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    for (int i = 0; i < qiov->niov; i++) {
        if (offset < qiov->iov[i].iov_len) {
            return qiov->iov[i].iov_len - offset >= bytes ? (char *)qiov->iov[i].iov_base + offset
                                                          : NULL;
        }
        offset -= qiov->iov[i].iov_len;
    }
    return NULL;
}

/* libnbd wants one piece of memory; what is scattered goes through a piece of ours. */
static int coroutine_fn transfer(BlockDriverState *bs, NbdOp *op, QEMUIOVector *qiov,
                                 size_t qiov_offset)
{
    void *bounce = NULL;
    int ret;

    op->buf = one_piece(qiov, qiov_offset, op->bytes);
    if (!op->buf) {
        bounce = op->buf = qemu_try_blockalign(bs, op->bytes);
        if (!bounce) {
            return -ENOMEM;
        }
        if (op->command == NBD_WRITE) {
            qemu_iovec_to_buf(qiov, qiov_offset, bounce, op->bytes);
        }
    }
    ret = nbd_co_request(bs->opaque, op);
    if (bounce && ret == 0 && op->command == NBD_READ) {
        qemu_iovec_from_buf(qiov, qiov_offset, bounce, op->bytes);
    }
    qemu_vfree(bounce);
    return ret;
}

static int coroutine_fn nbd_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    NbdOp op = {.command = NBD_READ, .offset = offset, .bytes = bytes};
    AioContext *from = nbd_co_go_home(bs);
    int ret = transfer(bs, &op, qiov, qiov_offset);

    nbd_co_go_back(from);
    return ret;
}

/* A write of any kind has ended, or failed: kept extents, and what a flush is due for (N4). */
static void written(NbdState *s, const NbdOp *op)
{
    nbd_status_written(s, op->offset, op->bytes);
    if (!(op->flags & LIBNBD_CMD_FLAG_FUA)) {
        s->loose_gen++;
    }
}

static int coroutine_fn nbd_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    NbdOp op = {
        .command = NBD_WRITE,
        .offset = offset,
        .bytes = bytes,
        .flags = flags & BDRV_REQ_FUA ? LIBNBD_CMD_FLAG_FUA : 0,
    };
    AioContext *from = nbd_co_go_home(bs);
    int ret = transfer(bs, &op, qiov, qiov_offset);

    written(bs->opaque, &op);
    nbd_co_go_back(from);
    return ret;
}

static int coroutine_fn nbd_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    NbdState *s = bs->opaque;
    NbdOp op = {
        .command = NBD_ZERO,
        .offset = offset,
        .bytes = bytes,
        .flags = (flags & BDRV_REQ_FUA ? LIBNBD_CMD_FLAG_FUA : 0) |
                 (flags & BDRV_REQ_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE) |
                 (flags & BDRV_REQ_NO_FALLBACK ? LIBNBD_CMD_FLAG_FAST_ZERO : 0),
    };
    AioContext *from;
    int ret;

    if (!s->info.can_zero || ((flags & BDRV_REQ_NO_FALLBACK) && !s->info.can_fast_zero)) {
        return -ENOTSUP;
    }
    from = nbd_co_go_home(bs);
    ret = nbd_co_request(s, &op);
    written(s, &op);
    nbd_co_go_back(from);
    return ret;
}

static int coroutine_fn nbd_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    NbdState *s = bs->opaque;
    NbdOp op = {.command = NBD_TRIM, .offset = offset, .bytes = bytes};
    AioContext *from;
    int ret;

    if (!s->info.can_trim || !(bs->open_flags & BDRV_O_UNMAP)) {
        return -ENOTSUP;
    }
    from = nbd_co_go_home(bs);
    ret = nbd_co_request(s, &op);
    written(s, &op);
    nbd_co_go_back(from);
    return ret;
}

/* One connection is enough: a server that lets us have several says that a flush covers them all. */
static int coroutine_fn nbd_co_flush(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;
    NbdOp op = {.command = NBD_FLUSH};
    AioContext *from;
    int ret = 0;

    if (bs->read_only || (bs->open_flags & BDRV_O_NO_FLUSH)) {
        return 0;
    }
    from = nbd_co_go_home(bs);
    if (s->info.can_flush && !s->flush_lost) {
        uint64_t covers = s->loose_gen;

        ret = nbd_co_request(s, &op);
        if (ret == 0) {
            s->flushed_gen = covers;
        }
    }
    if (s->flush_lost) {
        ret = -EIO; /* N4 */
    }
    nbd_co_go_back(from);
    return ret;
}

static int64_t coroutine_fn nbd_co_getlength(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    return s->info.size;
}

/* The disk has the length that the server gives it: nothing changes, and as much is there as for a device. */
static int coroutine_fn nbd_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    if (exact && offset != bs->total_bytes) {
        error_setg(errp, "Cannot resize NBD nodes");
        return -ENOTSUP;
    }
    if (offset > bs->total_bytes) {
        error_setg(errp, "Cannot grow NBD nodes");
        return -EINVAL;
    }
    return 0;
}

const BlockDriverData nbd_data = {
    .co_preadv = nbd_co_preadv,
    .co_pwritev = nbd_co_pwritev,
    .co_pwrite_zeroes = nbd_co_pwrite_zeroes,
    .co_pdiscard = nbd_co_pdiscard,
    .co_flush = nbd_co_flush,
    .co_block_status = nbd_client_co_block_status,
    .co_getlength = nbd_co_getlength,
    .co_truncate = nbd_co_truncate,
};
