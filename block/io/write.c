/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request's way.
 *
 *   bdrv_co_pwritev
 *        |  check     the range can exist; the node is open and writable
 *        |  count     in_flight, so that a quiesce waits for it (D2)
 *        |  align     not on the node's blocks: read-modify-write, as a serialising request
 *        |  track     entered in the node's list; waits for serialising requests that overlap (T2)
 *        |  notify    before-write notifiers: may yield, may fail the write (a backup copies here),
 *        |            may have a discard dropped
 *        |  tap       the write tap sees what goes to the driver, and again what became of it
 *        |  split     pieces the driver takes
 *        v  dispatch  driver; FUA by a flush where the driver has none
 *        |  observe   dirty bitmaps are marked, also when the write failed
 *        v  end       those who wait for it go on; the caller is told
 *
 * IO1  A notifier runs after the request is tracked and before its first byte reaches the driver.
 *      Earlier, a read-modify-write would notify a range it has not settled yet; later, the old data
 *      would be gone.
 * IO2  Observers are told after the driver returned and before the caller is.  A failed write may have
 *      changed any part of its range, so it is marked too.
 * IO3  A flush that begins after IO2 sees the write: write_gen is raised with it (H4).
 * IO4  The length grows to what the caller wrote, never to the padding around it, and never shrinks
 *      here: of two that append at once the one that ends last may be the one that reaches less far.
 *      Observers learn of it before they are told of the write.
 * IO5  What must be kept in front of one request is bounded: with notifiers, zeroes and discards are
 *      tracked and notified piece by piece.  Between two pieces others may write, or shrink the disk, so
 *      the length is looked at for each.
 */
#include <errno.h>
#include "block/io/internal.h"
#include "util/osdep.h"
#include "trace-io.h"

/* Through memory that the driver takes. */
static int coroutine_fn write_bounced(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
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
        qemu_iovec_to_buf(qiov, qiov_offset + done, bounce, piece);
        qemu_iovec_init_buf(&local, bounce, piece);
        ret = bs->drv->data->co_pwritev(bs, offset + done, piece, &local, 0, flags);
    }
    qemu_vfree(bounce);
    return ret;
}

static int coroutine_fn driver_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    if (bdrv_qiov_suits(bs, qiov, qiov_offset, bytes)) {
        return bs->drv->data->co_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    return write_bounced(bs, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn write_pieces(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t max = bdrv_max_transfer(bs);
    BdrvRequestFlags drv_flags = flags & bs->supported_write_flags;
    int64_t done, piece;
    int ret;

    for (done = 0; done < bytes; done += piece) {
        piece = MIN(bytes - done, max);
        ret = driver_pwritev(bs, offset + done, piece, qiov, qiov_offset + done, drv_flags);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Zeros as data, where the driver has nothing better. */
static int coroutine_fn write_zeroes_by_hand(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    int64_t max = bdrv_max_bounce(bs);
    QEMUIOVector qiov;
    uint8_t *zeros;
    int64_t piece;
    int ret = 0;

    zeros = qemu_try_blockalign(bs, MIN(max, bytes));
    if (!zeros) {
        return -ENOMEM;
    }
    memset(zeros, 0, MIN(max, bytes));
    for (; bytes > 0 && ret >= 0; offset += piece, bytes -= piece) {
        piece = MIN(bytes, max);
        qemu_iovec_init_buf(&qiov, zeros, piece);
        ret = write_pieces(bs, offset, piece, &qiov, 0, flags);
    }
    qemu_vfree(zeros);
    return MIN(ret, 0);
}

/* Pieces on the driver's own zero blocks go to the driver, the ends and what it refuses by hand. */
static int coroutine_fn write_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     BdrvRequestFlags flags)
{
    int64_t align = MAX(bs->bl.pwrite_zeroes_alignment, (int64_t)bs->bl.request_alignment);
    int64_t max = bs->bl.max_pwrite_zeroes ? bs->bl.max_pwrite_zeroes : BDRV_REQUEST_MAX_BYTES;
    int64_t piece;
    int ret;

    max = MAX(QEMU_ALIGN_DOWN(max, align), align);
    for (; bytes > 0; offset += piece, bytes -= piece) {
        int64_t misalign = offset % align;

        piece = misalign ? MIN(bytes, align - misalign) : MIN(bytes, max);
        if (!misalign && piece > align) {
            piece = QEMU_ALIGN_DOWN(piece, align);
        }
        ret = -ENOTSUP;
        if (bs->drv->data->co_pwrite_zeroes && !misalign && piece % align == 0) {
            ret = bs->drv->data->co_pwrite_zeroes(bs, offset, piece,
                                                  flags & bs->supported_zero_flags);
        }
        if (ret == -ENOTSUP && !(flags & BDRV_REQ_NO_FALLBACK)) {
            ret = write_zeroes_by_hand(bs, offset, piece, flags);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* IO4 */
static void grow_to(BlockDriverState *bs, int64_t end)
{
    BdrvWriteObserver *obs;

    if (end <= bs->total_bytes) {
        return;
    }
    bs->total_bytes = end;
    QLIST_FOREACH (obs, &bs->write_observers, list) {
        if (obs->resized) {
            obs->resized(obs, end);
        }
    }
}

/* IO2, IO3.  @image_end: how far the write reaches as asked, without padding. */
static void write_done(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t image_end,
                       int ret)
{
    BdrvWriteObserver *obs, *next;

    bs->write_gen++;
    if (ret >= 0) {
        grow_to(bs, image_end);
    }
    bytes = MIN(offset + bytes, MAX(bs->total_bytes, image_end)) - offset;
    if (bytes <= 0) {
        return; /* a discard behind the end */
    }
    QLIST_FOREACH_SAFE (obs, &bs->write_observers, list, next) {
        obs->written(obs, offset, bytes);
    }
}

static bool has_notifiers(const BlockDriverState *bs)
{
    return !notifier_with_return_list_empty(&bs->before_write_notifiers);
}

/* IO1.  A notifier gets the request with its aligned range.  Discards: may be BDRV_NOTIFY_DROP. */
static int coroutine_fn notify_before(BdrvTrackedRequest *req, int64_t offset, int64_t bytes)
{
    int ret;

    if (!has_notifiers(req->bs)) {
        return 0;
    }
    req->offset = offset;
    req->bytes = bytes;
    req->old.wanted = notifier_with_return_list_has_several(&req->bs->before_write_notifiers);
    ret = notifier_with_return_list_notify(&req->bs->before_write_notifiers, req);
    g_free(req->old.buf);
    req->old = (BdrvOldData){0};
    /* Only advice can be dropped: a write that was not done must not succeed. */
    assert(ret <= 0 || (req->type == BDRV_TRACKED_DISCARD && ret == BDRV_NOTIFY_DROP));
    return ret;
}

static BdrvRequestFlags detect_zeroes(BlockDriverState *bs, int64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset, BdrvRequestFlags flags)
{
    if (bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF && !(flags & BDRV_REQ_ZERO_WRITE) &&
        qemu_iovec_is_zero(qiov, qiov_offset, bytes)) {
        flags |= BDRV_REQ_ZERO_WRITE;
        if (bs->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP &&
            (bs->open_flags & BDRV_O_UNMAP)) {
            flags |= BDRV_REQ_MAY_UNMAP;
        }
    }
    return flags;
}

/* To the driver, and told to the observers. */
static int coroutine_fn dispatch_write(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       int64_t image_end, QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    bool fua_here;
    int ret;

    if (flags & BDRV_REQ_ZERO_WRITE) {
        ret = write_zeroes(bs, offset, bytes, flags);
        fua_here = (bs->supported_zero_flags & bs->supported_write_flags & BDRV_REQ_FUA);
    } else if ((flags & BDRV_REQ_WRITE_COMPRESSED) &&
               !(bs->supported_write_flags & BDRV_REQ_WRITE_COMPRESSED)) {
        return -ENOTSUP;
    } else {
        ret = write_pieces(bs, offset, bytes, qiov, qiov_offset, flags);
        fua_here = bs->supported_write_flags & BDRV_REQ_FUA;
    }
    write_done(bs, offset, bytes, image_end, ret);
    if (ret >= 0) {
        bs->wr_highest_offset = MAX(bs->wr_highest_offset, (uint64_t)image_end);
    }
    if (ret >= 0 && (flags & BDRV_REQ_FUA) && !fua_here) {
        ret = bdrv_co_flush(bs);
    }
    return MIN(ret, 0);
}

/* @qiov NULL: zeros.  @image_end: the end of what was asked for, before padding. */
static int coroutine_fn aligned_pwritev(BdrvTrackedRequest *req, int64_t offset, int64_t bytes,
                                        int64_t image_end, QEMUIOVector *qiov, size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    BlockDriverState *bs = req->bs;
    BdrvTapWrite tapped;
    int ret;

    ret = notify_before(req, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if (qiov) {
        flags = detect_zeroes(bs, bytes, qiov, qiov_offset, flags);
    }
    tapped.type = BDRV_TRACKED_WRITE;
    tapped.offset = offset;
    tapped.bytes = bytes;
    tapped.qiov = qiov;
    tapped.qiov_offset = qiov_offset;
    tapped.flags = flags;
    write_tap_begin(bs, &tapped);
    ret = dispatch_write(bs, offset, bytes, image_end, qiov, qiov_offset, flags);
    return write_tap_end(&tapped, ret);
}

/* Read what surrounds the caller's bytes in the blocks of @pad. */
static int coroutine_fn read_padding(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     BdrvPadding *pad)
{
    int64_t align = bs->bl.request_alignment;
    QEMUIOVector local;
    int ret = 0;

    if (pad->head) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_HEAD);
    }
    if (pad->merge) {
        if (pad->tail) {
            bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_TAIL);
        }
        qemu_iovec_init_buf(&local, pad->buf, bytes);
        ret = bdrv_aligned_preadv(bs, offset, bytes, &local, 0, 0);
    } else if (pad->head) {
        qemu_iovec_init_buf(&local, pad->buf, align);
        ret = bdrv_aligned_preadv(bs, offset, align, &local, 0, 0);
    }
    if (ret >= 0 && pad->head) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_HEAD);
    }
    if (ret >= 0 && pad->tail && !pad->merge) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_TAIL);
        qemu_iovec_init_buf(&local, pad->tail_block, align);
        ret = bdrv_aligned_preadv(bs, offset + bytes - align, align, &local, 0, 0);
    }
    if (ret >= 0 && pad->tail) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_TAIL);
    }
    return ret;
}

/* Only who may resize writes past the end. */
static int check_length(BdrvChild *child, int64_t offset, int64_t bytes)
{
    int64_t length = child->bs->total_bytes;

    if (length < 0) {
        return length;
    }
    return offset + bytes > length && !(child->perm & BLK_PERM_RESIZE) ? -EIO : 0;
}

/* A write inside blocks: nobody may touch them between the read and the write. */
static int coroutine_fn padded_pwritev(BdrvTrackedRequest *req, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    BlockDriverState *bs = req->bs;
    int64_t image_end = offset + bytes;
    BdrvPadding pad;
    int ret;

    bdrv_pad(bs, qiov, qiov_offset, &offset, &bytes, &pad);
    ret = read_padding(bs, offset, bytes, &pad);
    if (ret >= 0) {
        ret = aligned_pwritev(req, offset, bytes, image_end, &pad.qiov, 0, flags);
    }
    bdrv_padding_destroy(&pad);
    return ret;
}

/* Enter it among the others, and wait for those that exclude it. */
static int coroutine_fn take_turn(BdrvTrackedRequest *req, BdrvChild *child, bool serialising)
{
    BlockDriverState *bs = req->bs;
    bool waits;

    if (serialising) {
        tracked_request_set_serialising(req, bs->bl.request_alignment);
    }
    waits = tracked_request_would_wait(req);
    if (waits && (req->flags & BDRV_REQ_NO_WAIT)) {
        return -EBUSY;
    }
    tracked_request_wait(req); /* T2 */
    /* What was waited for may have been a truncate. */
    return waits ? check_length(child, req->offset, req->bytes) : 0;
}

/* One write, aligned or not, as one tracked request.  @qiov NULL: aligned zeros. */
static int coroutine_fn tracked_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                                        QEMUIOVector *qiov, size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    bool padded = (offset | bytes) & (bs->bl.request_alignment - 1);
    BdrvTrackedRequest req;
    int ret;

    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_WRITE, flags);
    ret = take_turn(&req, child, padded || (flags & BDRV_REQ_SERIALISING));
    if (ret == 0) {
        ret = padded
                  ? padded_pwritev(&req, offset, bytes, qiov, qiov_offset, flags)
                  : aligned_pwritev(&req, offset, bytes, offset + bytes, qiov, qiov_offset, flags);
    }
    tracked_request_end(&req);
    return ret;
}

static int check_write(BdrvChild *child, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = child->bs;
    int ret;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (!bdrv_is_writable(bs) || !bs->drv->data->co_pwritev) {
        return -EPERM;
    }
    ret = bdrv_check_range(offset, bytes);
    if (ret < 0) {
        return ret;
    }
    return check_length(child, offset, bytes);
}

int coroutine_fn bdrv_co_pwritev_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    int64_t begun;
    int ret;

    trace_bdrv_co_pwritev_part(bs->node_name, offset, bytes, flags);
    ret = check_write(child, offset, bytes);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    assert(child->perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED));
    bdrv_inc_in_flight(bs);
    begun = latency_begin(bs, flags);
    ret = tracked_pwritev(child, offset, bytes, qiov, qiov_offset, flags);
    latency_end(bs, BDRV_TRACKED_WRITE, bytes, begun);
    bdrv_dec_in_flight(bs);
    return ret;
}

/* Who wants to see what is written, or old data before it, needs it in memory. */
static bool can_copy_unseen(const BlockDriverState *src, const BlockDriverState *bs)
{
    return bs->drv->data->co_copy_range && !has_notifiers(bs) && !bs->write_tap &&
           !src->read_guard && bs->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
}

int coroutine_fn bdrv_co_copy_range(BlockDriverState *src, int64_t src_offset, BdrvChild *child,
                                    int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = child->bs;
    int64_t align = MAX(bs->bl.request_alignment, src->bl.request_alignment);
    BdrvTrackedRequest req;
    int ret = check_write(child, offset, bytes);

    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (!can_copy_unseen(src, bs) || ((offset | src_offset | bytes) & (align - 1))) {
        return -ENOTSUP;
    }
    trace_bdrv_co_copy_range(src->node_name, src_offset, bs->node_name, offset, bytes);
    assert(child->perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED));
    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_WRITE, 0);
    ret = take_turn(&req, child, false);
    if (ret == 0) {
        ret = can_copy_unseen(src, bs)
                  ? bs->drv->data->co_copy_range(bs, offset, src, src_offset, bytes)
                  : -ENOTSUP;
        write_done(bs, offset, bytes, offset + bytes, ret);
    }
    if (ret >= 0) {
        bs->wr_highest_offset = MAX(bs->wr_highest_offset, (uint64_t)(offset + bytes));
    }
    tracked_request_end(&req);
    bdrv_dec_in_flight(bs);
    return MIN(ret, 0);
}

int coroutine_fn bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(child, offset, bytes, qiov, 0, flags);
}

int coroutine_fn bdrv_co_pwrite(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf,
                                BdrvRequestFlags flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return bdrv_co_pwritev_part(child, offset, bytes, &qiov, 0, flags);
}

/* A part of a block as zeros: written as data through the read-modify-write above. */
static int coroutine_fn zero_fragment(BdrvChild *child, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags)
{
    uint8_t *zeros = qemu_blockalign(child->bs, bytes);
    QEMUIOVector qiov;
    int ret;

    memset(zeros, 0, bytes);
    qemu_iovec_init_buf(&qiov, zeros, bytes);
    ret = tracked_pwritev(child, offset, bytes, &qiov, 0,
                          flags & ~(BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK));
    qemu_vfree(zeros);
    return ret;
}

/* IO5.  How much of @bytes at @offset is one piece, when pieces are at most @most and of whole @align. */
static int64_t notified_piece(int64_t offset, int64_t bytes, int64_t most, int64_t align)
{
    int64_t unit = MAX(QEMU_ALIGN_DOWN(most, align), align);

    return MIN(bytes, unit - offset % unit);
}

static int coroutine_fn zero_in_pieces(BdrvChild *child, int64_t offset, int64_t bytes,
                                       BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    int64_t align = bs->bl.request_alignment;
    int64_t zero_align = QEMU_ALIGN_UP(MAX(bs->bl.pwrite_zeroes_alignment, align), align);
    int64_t piece;
    int ret = 0;

    for (; bytes > 0 && ret >= 0; offset += piece, bytes -= piece) {
        int64_t misalign = offset & (align - 1);

        if (misalign || bytes < align) {
            piece = MIN(bytes, align - misalign);
        } else {
            piece = QEMU_ALIGN_DOWN(bytes, align);
            if (has_notifiers(bs)) {
                piece = notified_piece(offset, piece, BDRV_NOTIFIED_ZERO_BYTES, zero_align);
            }
        }
        ret = check_length(child, offset, piece);
        if (ret < 0) {
            return ret;
        }
        if (misalign || piece < align) {
            ret = zero_fragment(child, offset, piece, flags);
        } else {
            ret = tracked_pwritev(child, offset, piece, NULL, 0, flags | BDRV_REQ_ZERO_WRITE);
        }
    }
    return ret;
}

int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes,
                                       BdrvRequestFlags flags)
{
    BlockDriverState *bs = child->bs;
    int64_t begun;
    bool flush;
    int ret;

    trace_bdrv_co_pwrite_zeroes(bs->node_name, offset, bytes, flags);
    ret = check_write(child, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if ((flags & BDRV_REQ_NO_FALLBACK) && !bs->drv->data->co_pwrite_zeroes) {
        return -ENOTSUP;
    }
    if (bytes == 0) {
        return 0;
    }
    if (!(bs->open_flags & BDRV_O_UNMAP)) {
        flags &= ~BDRV_REQ_MAY_UNMAP;
    }
    /* Where the driver has no FUA of its own, one flush is enough for all pieces. */
    flush = (flags & BDRV_REQ_FUA) &&
            !(bs->supported_zero_flags & bs->supported_write_flags & BDRV_REQ_FUA);
    if (flush) {
        flags &= ~BDRV_REQ_FUA;
    }
    bdrv_inc_in_flight(bs);
    begun = latency_begin(bs, flags);
    ret = zero_in_pieces(child, offset, bytes, flags);
    if (ret >= 0 && flush) {
        ret = bdrv_co_flush(bs);
    }
    latency_end(bs, BDRV_TRACKED_WRITE, bytes, begun);
    bdrv_dec_in_flight(bs);
    return ret;
}

static int64_t discard_align(const BlockDriverState *bs)
{
    return MAX(bs->bl.pdiscard_alignment, (int64_t)bs->bl.request_alignment);
}

static int coroutine_fn discard_pieces(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t align = discard_align(bs);
    int64_t max = bs->bl.max_pdiscard ? bs->bl.max_pdiscard : BDRV_REQUEST_MAX_BYTES;
    int64_t end = QEMU_ALIGN_DOWN(offset + bytes, align);
    int64_t piece;
    int ret = 0;

    max = MAX(QEMU_ALIGN_DOWN(max, align), align);
    if (offset + bytes == bs->total_bytes) {
        end = offset + bytes; /* the last, partial block holds nothing else */
    }
    for (offset = QEMU_ALIGN_UP(offset, align); offset < end && ret >= 0; offset += piece) {
        piece = MIN(end - offset, max);
        ret = bs->drv->data->co_pdiscard(bs, offset, piece);
        if (ret == -ENOTSUP) {
            ret = 0;
        }
    }
    return ret;
}

/* One tracked request.  A dropped one is done: 0. */
static int coroutine_fn tracked_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    BdrvTapWrite tapped;
    int ret;

    tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_DISCARD, 0);
    ret = take_turn(&req, child, false);
    if (ret == 0) {
        ret = notify_before(&req, offset, bytes);
    }
    if (ret == 0) {
        tapped.type = BDRV_TRACKED_DISCARD;
        tapped.offset = offset;
        tapped.bytes = bytes;
        tapped.qiov = NULL;
        tapped.flags = 0;
        write_tap_begin(bs, &tapped);
        ret = discard_pieces(bs, offset, bytes);
        write_done(bs, offset, bytes, 0, ret);
        ret = write_tap_end(&tapped, ret);
    }
    tracked_request_end(&req);
    return MIN(ret, 0);
}

int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = child->bs;
    int64_t begun, piece, asked = bytes;
    int ret;

    trace_bdrv_co_pdiscard(bs->node_name, offset, bytes);
    ret = check_write(child, offset, bytes);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    /* Advice: nothing is lost where it is not taken. */
    if (!(bs->open_flags & BDRV_O_UNMAP) || !bs->drv->data->co_pdiscard) {
        return 0;
    }
    bdrv_inc_in_flight(bs);
    begun = latency_begin(bs, 0);
    for (; bytes > 0 && ret >= 0; offset += piece, bytes -= piece) {
        piece = bytes;
        if (has_notifiers(bs)) {
            piece = notified_piece(offset, bytes, BDRV_NOTIFIED_DISCARD_BYTES, discard_align(bs));
        }
        ret = check_length(child, offset, piece);
        if (ret >= 0) {
            ret = tracked_pdiscard(child, offset, piece);
        }
    }
    latency_end(bs, BDRV_TRACKED_DISCARD, asked, begun);
    bdrv_dec_in_flight(bs);
    return ret;
}
