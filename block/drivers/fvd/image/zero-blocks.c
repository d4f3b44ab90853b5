/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks of a base image are zeros: an image that knows them never asks the base for them.
 *
 * All blocks count as zeros first; then each range that may hold data is read, and the blocks with anything in
 * them are taken out.
 */
#include <errno.h>
#include <string.h>
#include "block/backend/backend.h"
#include "block/drivers/fvd/image/image.h"
#include "util/osdep.h"

/* One read: long enough for a disk to be busy, short enough for a cancel to be heard soon. */
#define ZERO_READ_BYTES (1 * MiB)

typedef struct ZeroScan {
    BlockBackend *blk;
    const FvdHeader *h;
    uint8_t *bitmap;
    uint8_t *buf; /* ZERO_READ_BYTES */
} ZeroScan;

static bool is_set(const uint8_t *bitmap, int64_t block)
{
    return bitmap[block / 8] >> (block % 8) & 1;
}

/* Take out the blocks with data in @bytes at @offset, which are in the buffer. */
static void take_out(ZeroScan *s, int64_t offset, int64_t bytes)
{
    for (int64_t at = offset; at < offset + bytes;) {
        int64_t block = at / s->h->block_size;
        int64_t end = MIN((block + 1) * s->h->block_size, offset + bytes);

        if (is_set(s->bitmap, block) && !buffer_is_zero(s->buf + (at - offset), end - at)) {
            s->bitmap[block / 8] &= ~(1u << (block % 8));
        }
        at = end;
    }
}

static int coroutine_fn read_range(ZeroScan *s, int64_t offset, int64_t bytes,
                                   BdrvProgress *progress)
{
    int ret = 0;

    for (int64_t end = offset + bytes; ret == 0 && offset < end;) {
        int64_t n = MIN(end - offset, ZERO_READ_BYTES);

        ret = blk_co_pread(s->blk, offset, n, s->buf, 0);
        if (ret == 0) {
            take_out(s, offset, n);
            offset += n;
            bdrv_progress_set_done(progress, offset);
            ret = bdrv_progress_cancelled(progress) ? -ECANCELED : 0;
        }
    }
    return ret;
}

static int coroutine_fn scan(ZeroScan *s, BdrvProgress *progress)
{
    int64_t size = s->h->base_img_size;
    int ret = 0;

    bdrv_progress_set_total(progress, size);
    for (int64_t offset = 0, n; ret == 0 && offset < size; offset += n) {
        int status = blk_co_block_status_above(s->blk, NULL, offset, size - offset, &n, NULL, NULL);

        if (status < 0) {
            return status;
        }
        if (!(status & BDRV_BLOCK_ZERO)) {
            ret = read_range(s, offset, n, progress);
        } else if (bdrv_progress_cancelled(progress)) {
            ret = -ECANCELED;
        }
        bdrv_progress_set_done(progress, offset + n);
    }
    return ret;
}

static int64_t count_set(const uint8_t *bitmap, int64_t blocks)
{
    int64_t n = 0;

    for (int64_t i = 0; i < blocks; i++) {
        n += is_set(bitmap, i);
    }
    return n;
}

int coroutine_fn fvd_co_zero_blocks(BlockDriverState *base, const FvdHeader *h,
                                    BdrvProgress *progress, uint8_t **ret_bitmap,
                                    int64_t *ret_blocks, Error **errp)
{
    int64_t blocks = fvd_header_blocks(h), bytes = fvd_header_bitmap_bytes(h);
    ZeroScan s = {.h = h, .blk = blk_new(BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL)};
    int ret;

    blk_set_desc(s.blk, "image creation");
    ret = blk_insert_bs(s.blk, base, errp);
    if (ret == 0) {
        s.buf = qemu_try_blockalign(base, ZERO_READ_BYTES);
        s.bitmap = g_try_malloc(MAX(bytes, 1));
        ret = s.buf && s.bitmap ? 0 : -ENOMEM;
        if (ret == 0) {
            memset(s.bitmap, 0xff, bytes);
            if (blocks % 8) {
                s.bitmap[bytes - 1] = (1u << (blocks % 8)) - 1;
            }
            ret = scan(&s, progress);
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not look for zeros in the base image");
        }
    }
    if (ret == 0) {
        *ret_blocks = count_set(s.bitmap, blocks);
        *ret_bitmap = g_steal_pointer(&s.bitmap);
    }
    g_free(s.bitmap);
    qemu_vfree(s.buf);
    blk_co_unref(s.blk);
    return ret;
}
