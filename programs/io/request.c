/* SPDX-License-Identifier: GPL-2.0-or-later */
/* request.c - requests of any length, cut into what the layers below take */
#include "programs/io/io.h"

typedef int coroutine_fn Piece(IoSession *io, int64_t offset, QEMUIOVector *qiov,
                               BdrvRequestFlags flags);

static int coroutine_fn read_piece(IoSession *io, int64_t offset, QEMUIOVector *qiov,
                                   BdrvRequestFlags flags)
{
    return blk_co_preadv(io->blk, offset, (int64_t)qiov->size, qiov, flags);
}

static int coroutine_fn write_piece(IoSession *io, int64_t offset, QEMUIOVector *qiov,
                                    BdrvRequestFlags flags)
{
    return blk_co_pwritev(io->blk, offset, (int64_t)qiov->size, qiov, flags);
}

static int coroutine_fn in_pieces(IoSession *io, Piece *piece, int64_t offset, QEMUIOVector *qiov,
                                  BdrvRequestFlags flags)
{
    int ret = 0;

    if ((int64_t)qiov->size <= BDRV_REQUEST_MAX_BYTES) {
        return piece(io, offset, qiov, flags);
    }
    for (size_t done = 0; done < qiov->size && ret >= 0;) {
        size_t bytes = MIN(qiov->size - done, (size_t)BDRV_REQUEST_MAX_BYTES);
        QEMUIOVector part;

        qemu_iovec_init_slice(&part, qiov, done, bytes);
        ret = piece(io, offset + (int64_t)done, &part, flags);
        qemu_iovec_destroy(&part);
        done += bytes;
    }
    return ret;
}

int64_t io_image_length(IoSession *io)
{
    int64_t length = blk_getlength(io->blk);

    return length < 0 ? length : QEMU_ALIGN_UP(length, BDRV_SECTOR_SIZE);
}

int coroutine_fn io_co_read(IoSession *io, int64_t offset, QEMUIOVector *qiov)
{
    const int64_t length = blk_getlength(io->blk), bytes = (int64_t)qiov->size;
    QEMUIOVector there;
    int64_t n;
    int ret = 0;

    if (length < 0 || offset + bytes <= length || offset + bytes > io_image_length(io)) {
        return in_pieces(io, read_piece, offset, qiov, 0);
    }
    n = MAX(length - offset, 0);
    qemu_iovec_memset(qiov, (size_t)n, 0, (size_t)(bytes - n));
    if (n > 0) {
        qemu_iovec_init_slice(&there, qiov, 0, (size_t)n);
        ret = in_pieces(io, read_piece, offset, &there, 0);
        qemu_iovec_destroy(&there);
    }
    return ret;
}

int coroutine_fn io_co_write(IoSession *io, int64_t offset, QEMUIOVector *qiov,
                             BdrvRequestFlags flags)
{
    return in_pieces(io, write_piece, offset, qiov, flags);
}
