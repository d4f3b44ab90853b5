/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads: check, align, track, wait for serialising requests, split, dispatch, zeros past the end. */
#include <errno.h>
#include "block/io/internal.h"
#include "util/osdep.h"
#include "trace-io.h"

/* One piece that the driver takes as it is. */
static int coroutine_fn driver_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    uint8_t *bounce;
    QEMUIOVector local;
    int ret;

    if (bdrv_qiov_is_aligned(bs, qiov, qiov_offset, bytes)) {
        return bs->drv->data->co_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    bounce = qemu_try_blockalign(bs, bytes);
    if (!bounce) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&local, bounce, bytes);
    ret = bs->drv->data->co_preadv(bs, offset, bytes, &local, 0, flags);
    if (ret >= 0) {
        qemu_iovec_from_buf(qiov, qiov_offset, bounce, bytes);
    }
    qemu_vfree(bounce);
    return ret;
}

int coroutine_fn bdrv_aligned_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t align = bs->bl.request_alignment;
    int64_t inside, done, piece, max;
    int ret;

    /* The device ends at a whole block for the driver; what is behind its length reads as zeros. */
    inside = MAX(0, MIN(bytes, QEMU_ALIGN_UP(bs->total_bytes, align) - offset));
    max = bs->bl.max_transfer ? bs->bl.max_transfer : BDRV_REQUEST_MAX_BYTES;
    max = QEMU_ALIGN_DOWN(max, align);
    for (done = 0; done < inside; done += piece) {
        piece = MIN(inside - done, max);
        ret = driver_preadv(bs, offset + done, piece, qiov, qiov_offset + done,
                            flags & (BDRV_REQ_PREFETCH | BDRV_REQ_NO_SERIALISING));
        if (ret < 0) {
            return ret;
        }
    }
    if (inside < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + inside, 0, bytes - inside);
    }
    return 0;
}

/* Keep off serialising requests, or not: old contents are read inside such a request itself. */
static int coroutine_fn tracked_read(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    BdrvTrackedRequest req;
    int ret = 0;

    if (bs->read_only) { /* T4 */
        return bdrv_aligned_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_READ, flags);
    if (!(flags & BDRV_REQ_NO_SERIALISING)) {
        if ((flags & BDRV_REQ_NO_WAIT) && tracked_request_would_wait(&req)) {
            ret = -EBUSY;
        } else {
            tracked_request_wait(&req);
        }
    }
    if (ret == 0) {
        ret = bdrv_aligned_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    tracked_request_end(&req);
    return ret;
}

int coroutine_fn bdrv_co_preadv_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    BdrvPadding pad;
    int ret;

    trace_bdrv_co_preadv_part(bs->node_name, offset, bytes, flags);
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    ret = bdrv_check_range(offset, bytes);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (child->role & BDRV_CHILD_COW) { /* T5 */
        flags |= BDRV_REQ_NO_SERIALISING;
    }
    bdrv_inc_in_flight(bs);
    if (bdrv_pad(bs, qiov, qiov_offset, &offset, &bytes, &pad)) {
        ret = tracked_read(bs, offset, bytes, &pad.qiov, 0, flags);
        bdrv_padding_destroy(&pad);
    } else {
        ret = tracked_read(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    bdrv_dec_in_flight(bs);
    return ret;
}

int coroutine_fn bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                BdrvRequestFlags flags)
{
    return bdrv_co_preadv_part(child, offset, bytes, qiov, 0, flags);
}

int coroutine_fn bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
                               BdrvRequestFlags flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return bdrv_co_preadv_part(child, offset, bytes, &qiov, 0, flags);
}

int coroutine_fn bdrv_co_readv_no_serialising(BdrvChild *child, int64_t sector_num, int nb_sectors,
                                              QEMUIOVector *qiov)
{
    return bdrv_co_preadv_part(child, sector_num << BDRV_SECTOR_BITS,
                               (int64_t)nb_sectors << BDRV_SECTOR_BITS, qiov, 0,
                               BDRV_REQ_NO_SERIALISING);
}
