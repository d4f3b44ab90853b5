/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads: check, align, track, wait for serialising requests, split, dispatch, zeros past the end. */
#include <errno.h>
#include "block/io/internal.h"
#include "util/osdep.h"
#include "trace-io.h"

/* Through memory that the driver takes. */
static int coroutine_fn read_bounced(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t max = bdrv_max_bounce(bs), piece;
    uint8_t *bounce = qemu_try_blockalign(bs, MIN(bytes, max));
    int ret = 0;

    if (!bounce) {
        return -ENOMEM;
    }
    for (int64_t done = 0; done < bytes && ret >= 0; done += piece) {
        QEMUIOVector local;

        piece = MIN(bytes - done, max);
        qemu_iovec_init_buf(&local, bounce, piece);
        ret = bs->drv->data->co_preadv(bs, offset + done, piece, &local, 0, flags);
        if (ret >= 0) {
            qemu_iovec_from_buf(qiov, qiov_offset + done, bounce, piece);
        }
    }
    qemu_vfree(bounce);
    return ret;
}

static int coroutine_fn driver_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    if (bdrv_qiov_suits(bs, qiov, qiov_offset, bytes)) {
        return bs->drv->data->co_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    return read_bounced(bs, offset, bytes, qiov, qiov_offset, flags);
}

int coroutine_fn bdrv_aligned_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t align = bs->bl.request_alignment;
    int64_t inside, done, piece, max;
    int ret;

    if (bs->total_bytes < 0) {
        return bs->total_bytes; /* unknown: nothing is surely behind the end */
    }
    /* The device ends at a whole block for the driver; what is behind its length reads as zeros. */
    inside = MAX(0, MIN(bytes, QEMU_ALIGN_UP(bs->total_bytes, align) - offset));
    max = bdrv_max_transfer(bs);
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

/* PREFETCH without a buffer: the driver gets a scratch one, whole blocks at a time. */
static int coroutine_fn prefetch(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 BdrvRequestFlags flags)
{
    int64_t align = bs->bl.request_alignment;
    int64_t end = QEMU_ALIGN_UP(offset + bytes, align), max = bdrv_max_bounce(bs), piece;
    uint8_t *scratch;
    int ret = 0;

    offset = QEMU_ALIGN_DOWN(offset, align);
    scratch = qemu_try_blockalign(bs, MIN(end - offset, max));
    if (!scratch) {
        return -ENOMEM;
    }
    for (; offset < end && ret >= 0; offset += piece) {
        QEMUIOVector qiov;

        piece = MIN(end - offset, max);
        qemu_iovec_init_buf(&qiov, scratch, piece);
        ret = tracked_read(bs, offset, piece, &qiov, 0, flags);
    }
    qemu_vfree(scratch);
    return ret;
}

int coroutine_fn bdrv_co_preadv_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    bool guarded = !(flags & BDRV_REQ_NO_SERIALISING);
    BdrvReadToken *token = NULL;
    int64_t begun, asked = bytes;
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
    if (bs->total_bytes < 0) {
        return bs->total_bytes;
    }
    if (!qiov && !(flags & BDRV_REQ_PREFETCH)) {
        return -EINVAL;
    }
    if (child->role & BDRV_CHILD_COW) { /* T5 */
        flags |= BDRV_REQ_NO_SERIALISING;
    }
    bdrv_inc_in_flight(bs);
    begun = latency_begin(bs, flags);
    if (guarded) {
        ret = read_guard_begin(bs, offset, bytes, &token);
    }
    if (ret < 0) {
        /* the guard's answer */
    } else if (!qiov) {
        ret = prefetch(bs, offset, bytes, flags);
    } else if (bdrv_pad(bs, qiov, qiov_offset, &offset, &bytes, &pad)) {
        ret = tracked_read(bs, offset, bytes, &pad.qiov, 0, flags);
        bdrv_padding_destroy(&pad);
    } else {
        ret = tracked_read(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    read_guard_end(token);
    latency_end(bs, BDRV_TRACKED_READ, asked, begun);
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
