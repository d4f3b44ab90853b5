/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * data.c - reads and writes, through a buffer of the request's own
 *
 *      write:  caller's ── copied ──▶ buffer ── encrypted ──▶ file
 *      read:   file ──▶ buffer ── decrypted ── copied ──▶ caller's
 *
 * A caller may change what it writes while it is written: what counts is what was copied.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/drivers/luks/luks-int.h"

static uint8_t *coroutine_fn co_take_bounce(BlockDriverState *bs, int64_t bytes)
{
    LuksState *s = bs->opaque;
    uint8_t *buf;

    qemu_co_mutex_lock(&s->lock);
    while (s->bounce_bytes + bytes > LUKS_BOUNCE_ALL_BYTES) {
        qemu_co_queue_wait(&s->bounce_queue, &s->lock);
    }
    s->bounce_bytes += bytes;
    qemu_co_mutex_unlock(&s->lock);
    buf = qemu_try_blockalign(bs->file->bs, bytes);
    return buf;
}

static void coroutine_fn co_give_bounce(BlockDriverState *bs, uint8_t *buf, int64_t bytes)
{
    LuksState *s = bs->opaque;

    qemu_vfree(buf);
    qemu_co_mutex_lock(&s->lock);
    s->bounce_bytes -= bytes;
    qemu_co_queue_restart_all(&s->bounce_queue);
    qemu_co_mutex_unlock(&s->lock);
}

static int coroutine_fn co_read(BlockDriverState *bs, int64_t offset, int64_t bytes, uint8_t *buf,
                                BdrvRequestFlags flags)
{
    LuksState *s = bs->opaque;
    QEMUIOVector local = QEMU_IOVEC_INIT_BUF(local, buf, bytes);
    int ret = bdrv_co_preadv(bs->file, s->payload_offset + offset, bytes, &local, flags);

    return ret < 0 ? ret : encryption_co_decrypt(s->encryption, offset, buf, bytes);
}

int coroutine_fn luks_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    uint8_t *buf = co_take_bounce(bs, bytes);
    int ret = buf ? co_read(bs, offset, bytes, buf, flags & ~(unsigned)BDRV_REQ_PREFETCH) : -ENOMEM;

    if (ret == 0 && qiov) {
        qemu_iovec_from_buf(qiov, qiov_offset, buf, bytes);
    }
    co_give_bounce(bs, buf, bytes);
    return ret;
}

int coroutine_fn luks_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    LuksState *s = bs->opaque;
    uint8_t *buf = co_take_bounce(bs, bytes);
    QEMUIOVector local = QEMU_IOVEC_INIT_BUF(local, buf, bytes);
    int ret = buf ? 0 : -ENOMEM;

    if (ret == 0) {
        qemu_iovec_to_buf(qiov, qiov_offset, buf, bytes);
        ret = encryption_co_encrypt(s->encryption, offset, buf, bytes);
    }
    if (ret == 0) {
        ret = bdrv_co_pwritev(bs->file, s->payload_offset + offset, bytes, &local, flags);
    }
    co_give_bounce(bs, buf, bytes);
    return ret;
}

/* Whole sectors: of a part of one nothing can be decrypted. */
int64_t coroutine_fn luks_co_getlength(BlockDriverState *bs)
{
    LuksState *s = bs->opaque;
    int64_t length = bdrv_getlength(bs->file->bs);

    if (length < 0) {
        return length;
    }
    return length < s->payload_offset
               ? -EIO
               : QEMU_ALIGN_DOWN(length - s->payload_offset, BDRV_SECTOR_SIZE);
}

int coroutine_fn luks_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    LuksState *s = bs->opaque;

    if (offset > BDRV_MAX_LENGTH - s->payload_offset) {
        error_setg(errp, "The requested file size is too large");
        return -EFBIG;
    }
    return bdrv_co_truncate(bs->file, s->payload_offset + offset, exact, prealloc, flags, errp);
}
