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

bool bdrv_qiov_is_aligned(BlockDriverState *bs, const QEMUIOVector *qiov, size_t offset,
                          size_t bytes)
{
    size_t align = bs->bl.min_mem_alignment;

    if (align <= 1) {
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
        if (base % align || len % align) {
            return false;
        }
    }
    return true;
}
