/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Alignment: a request that does not fit the node's blocks is grown until it does.
 *
 *            |<- head ->|<--- the caller's bytes --->|<- tail ->|
 *      ------+----------+----------------------------+----------+------
 *            ^ aligned                                          ^ aligned
 *
 * Head and tail live in a buffer of one block each; when both ends fall into one block, or two
 * neighbours that hold the whole request, one buffer serves and is read in one go (merge).
 */
#include "block/io/internal.h"
#include "util/osdep.h"

bool bdrv_pad(BlockDriverState *bs, QEMUIOVector *qiov, size_t qiov_offset, int64_t *offset,
              int64_t *bytes, BdrvPadding *pad)
{
    int64_t align = bs->bl.request_alignment;
    int64_t total;
    size_t buf_bytes;

    pad->head = *offset & (align - 1);
    pad->tail = (*offset + *bytes) & (align - 1);
    if (pad->tail) {
        pad->tail = align - pad->tail;
    }
    if (!pad->head && !pad->tail) {
        pad->buf = NULL;
        return false;
    }
    total = pad->head + *bytes + pad->tail;
    pad->merge = total <= 2 * align && (total == align || (pad->head && pad->tail));
    buf_bytes = total > align && pad->head && pad->tail ? 2 * align : align;
    pad->buf = qemu_blockalign(bs, buf_bytes);
    pad->tail_block = pad->buf + buf_bytes - align;

    qemu_iovec_init(&pad->qiov, qiov->niov + 2);
    if (pad->head) {
        qemu_iovec_add(&pad->qiov, pad->buf, pad->head);
    }
    qemu_iovec_concat(&pad->qiov, qiov, qiov_offset, *bytes);
    if (pad->tail) {
        qemu_iovec_add(&pad->qiov, pad->buf + buf_bytes - pad->tail, pad->tail);
    }
    *offset -= pad->head;
    *bytes = total;
    return true;
}

void coroutine_fn bdrv_co_debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    if (bs->drv->data->co_debug_event) {
        bs->drv->data->co_debug_event(bs, event);
    }
}

void bdrv_padding_destroy(BdrvPadding *pad)
{
    if (pad->buf) {
        qemu_vfree(pad->buf);
        qemu_iovec_destroy(&pad->qiov);
        pad->buf = NULL;
    }
}
