/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads, and what block status says. */
#include <errno.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

static int coroutine_fn read_backing(Qcow2State *s, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    if (!qcow2_has_backing(s)) {
        qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
        return 0;
    }
    return bdrv_co_preadv_part(s->bs->backing, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn read_run(Qcow2State *s, const Qcow2Where *w, int64_t offset,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    switch (w->kind) {
    case QCOW2_UNALLOCATED:
    case QCOW2_UNALLOCATED_PLACE:
        return read_backing(s, offset, w->bytes, qiov, qiov_offset, flags);
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_PLACE:
        qemu_iovec_memset(qiov, qiov_offset, 0, w->bytes);
        return 0;
    case QCOW2_DATA:
        return bdrv_co_preadv_part(s->data, w->host, w->bytes, qiov, qiov_offset, flags);
    default:
        return qcow2_co_read_compressed(s, w->word, offset, w->bytes, qiov, qiov_offset);
    }
}

int coroutine_fn qcow2_co_read(Qcow2State *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                               size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t inside = MAX(INT64_C(0), MIN(bytes, (int64_t)s->header.size - offset));
    int ret = 0;

    if (inside < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + inside, 0, bytes - inside);
    }
    while (inside > 0 && ret >= 0) {
        Qcow2Where w;

        ret = qcow2_co_look(s, offset, inside, &w);
        if (ret >= 0) {
            ret = read_run(s, &w, offset, qiov, qiov_offset, flags);
            offset += w.bytes;
            qiov_offset += w.bytes;
            inside -= w.bytes;
        }
    }
    return MIN(ret, 0);
}

int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    Qcow2Range r;
    int ret;

    if (!s->writable) {
        return qcow2_co_read(s, offset, bytes, qiov, qiov_offset, flags);
    }
    qcow2_co_range_begin(s, &r, QCOW2_RANGE_READ, offset, offset + bytes);
    ret = qcow2_co_read(s, offset, bytes, qiov, qiov_offset, flags);
    qcow2_range_end(s, &r);
    return ret;
}

/* ------------------------------------------------------------------------------------------ block status */

static int coroutine_fn status(Qcow2State *s, int64_t offset, int64_t bytes, int64_t *pnum,
                               int64_t *map, BlockDriverState **file)
{
    Qcow2Where w;
    int ret;

    if (offset >= (int64_t)s->header.size) { /* it was made smaller while somebody waited */
        *pnum = bytes;
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    }
    ret = qcow2_co_look(s, offset, bytes, &w);
    if (ret < 0) {
        return ret;
    }
    *pnum = w.bytes;
    if (qcow2_kind_has_place(w.kind)) {
        *map = w.host;
        *file = s->data->bs;
    }
    switch (w.kind) {
    case QCOW2_UNALLOCATED:
        return 0;
    case QCOW2_UNALLOCATED_PLACE:
        return BDRV_BLOCK_OFFSET_VALID;
    case QCOW2_ZERO_PLAIN:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    case QCOW2_ZERO_PLACE:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
    case QCOW2_DATA:
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    default:
        return BDRV_BLOCK_DATA | BDRV_BLOCK_COMPRESSED;
    }
}

/* Its range is held for the sake of who changes what is mapped. */
int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file)
{
    Qcow2State *s = bs->opaque;
    Qcow2Range r;
    int ret;

    if (!s->writable) {
        return status(s, offset, bytes, pnum, map, file);
    }
    qcow2_co_range_begin(s, &r, QCOW2_RANGE_READ, offset, offset + bytes);
    ret = status(s, offset, bytes, pnum, map, file);
    qcow2_range_end(s, &r);
    return ret;
}
