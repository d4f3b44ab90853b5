/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first stop of a request: can such a range exist at all? */
#include <errno.h>
#include "block/io/internal.h"
#include "util/osdep.h"

int bdrv_check_range(int64_t offset, int64_t bytes)
{
    if (offset < 0 || bytes < 0 || bytes > BDRV_MAX_LENGTH || offset > BDRV_MAX_LENGTH - bytes) {
        return -EIO;
    }
    return 0;
}

int64_t bdrv_max_transfer(const BlockDriverState *bs)
{
    int64_t align = bs->bl.request_alignment;
    int64_t max = bs->bl.max_transfer ? bs->bl.max_transfer : BDRV_REQUEST_MAX_BYTES;

    /* A limit below one block (taken over from a child with smaller ones) is met by that child. */
    return MAX(QEMU_ALIGN_DOWN(max, align), align);
}

int64_t bdrv_max_bounce(const BlockDriverState *bs)
{
    int64_t align = bs->bl.request_alignment;

    return MIN(bdrv_max_transfer(bs), MAX(QEMU_ALIGN_DOWN(BOUNCE_MAX_BYTES, align), align));
}

bool bdrv_qiov_suits(BlockDriverState *bs, const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    size_t align = MAX(bs->bl.min_mem_alignment, 1u);
    int pieces = 0;

    if (align == 1 && (bs->bl.max_iov == 0 || qiov->niov <= bs->bl.max_iov)) {
        return true;
    }
    for (int i = 0; i < qiov->niov && bytes > 0; i++) {
        size_t len = qiov->iov[i].iov_len;
        uintptr_t base = (uintptr_t)qiov->iov[i].iov_base;

        if (offset >= len) {
            offset -= len;
            continue;
        }
        base += offset;
        len = MIN(len - offset, bytes);
        offset = 0;
        bytes -= len;
        pieces++;
        if (base % align || len % align) {
            return false;
        }
    }
    return bs->bl.max_iov == 0 || pieces <= bs->bl.max_iov;
}
