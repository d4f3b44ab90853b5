/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "copy-on-read": a filter that keeps in the image below it what was read from that image's backing file.
 *
 *      read ──▶ what of it is not in the image? ──▶ hold the range ──▶ read it, write it ──▶ let go ──▶ read it
 *                                                        ▲
 *      write, discard, ... ──────────────────────────────┘ wait while their range is held
 *
 * R1  Nobody writes between the read of old data and its write: it would undo the newer one.  A copy holds its
 *     range, whole clusters, and waits for writes that are under way in it; a write waits for copies.  Nobody else
 *     writes to the image (the permissions).
 * R2  What is in the image is never written: under the hold it is asked again.
 * R3  A reader gets its data although the copy could not be written, as when there is no space; but not who reads
 *     for the sake of the copy (BDRV_REQ_PREFETCH).
 */
#include <errno.h>
#include "block/filters/filters.h"
#include "block/io/io.h"
#include "block/open/open.h"
#include "util/cutils.h"
#include "util/osdep.h"

/* Memory of one copy; what is longer goes in pieces. */
#define COPY_BYTES (1 * MiB)

typedef struct Op {
    int64_t offset, bytes;
    bool is_copy;
    CoQueue waiters;
    QLIST_ENTRY(Op) next;
} Op;

typedef struct CorState {
    /* Home AioContext only. */
    QLIST_HEAD(, Op) ops;
} CorState;

static int coroutine_fn cor_co_open(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    if (bs->read_only) {
        error_setg(errp, "Block node is read-only");
        return -EACCES;
    }
    return bdrv_open_child(bs, opts->u.copy_on_read.file, "file",
                           BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)
               ? 0
               : -EINVAL;
}

static void coroutine_fn cor_co_close(BlockDriverState *bs)
{
    CorState *s = bs->opaque;

    assert(QLIST_EMPTY(&s->ops));
}

/* R1: who reads makes us write. */
static void cor_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                           uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    *nperm = perm | (perm & BLK_PERM_CONSISTENT_READ ? BLK_PERM_WRITE_UNCHANGED : 0);
    *nshared = shared & ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    if (bs->force_share) {
        *nshared = BLK_PERM_ALL;
    }
}

static void cor_refresh_limits(BlockDriverState *bs)
{
    const unsigned zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    const unsigned write_flags = BDRV_REQ_FUA | BDRV_REQ_WRITE_COMPRESSED;
    const BlockDriverState *file = bs->file->bs;

    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED | (write_flags & file->supported_write_flags);
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | (zero_flags & file->supported_zero_flags);
    bs->supported_truncate_flags = file->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
}

static Op *find_conflict(CorState *s, const Op *op)
{
    Op *other;

    QLIST_FOREACH (other, &s->ops, next) {
        if ((op->is_copy || other->is_copy) && op->offset < other->offset + other->bytes &&
            other->offset < op->offset + op->bytes) {
            return other;
        }
    }
    return NULL;
}

/* R1 */
static void coroutine_fn op_begin(CorState *s, Op *op)
{
    Op *other;

    while ((other = find_conflict(s, op))) {
        qemu_co_queue_wait(&other->waiters, NULL);
    }
    qemu_co_queue_init(&op->waiters);
    QLIST_INSERT_HEAD(&s->ops, op, next);
}

static void op_end(Op *op)
{
    QLIST_REMOVE(op, next);
    qemu_co_queue_restart_all(&op->waiters);
    qemu_co_queue_destroy(&op->waiters);
}

/* The smallest piece that the image keeps for itself. */
static int64_t coroutine_fn copy_unit(BlockDriverState *bs)
{
    BlockDriverInfo bdi = {0};
    BlockDriverState *image = bdrv_skip_filters(bs->file->bs);

    if (bdrv_co_get_info(image, &bdi) < 0) {
        return 1;
    }
    return MAX(bdi.subcluster_size ? bdi.subcluster_size : bdi.cluster_size, 1);
}

/* One piece that is not in the image; the bytes that were copied, or negative errno. */
static int64_t coroutine_fn copy_piece(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = NULL;
    int ret;

    if (bdrv_co_is_zero_fast(bs->file->bs, offset, bytes) == 1) {
        bdrv_co_debug_event(bs->file->bs, BLKDBG_COR_WRITE);
        ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, BDRV_REQ_WRITE_UNCHANGED);
        return ret < 0 ? ret : bytes;
    }
    bytes = MIN(bytes, COPY_BYTES);
    buf = g_try_malloc((gsize)bytes);
    ret = buf ? bdrv_co_pread(bs->file, offset, bytes, buf, 0) : -ENOMEM;
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_COR_WRITE);
    ret = buffer_is_zero(buf, (size_t)bytes)
              ? bdrv_co_pwrite_zeroes(bs->file, offset, bytes, BDRV_REQ_WRITE_UNCHANGED)
              : bdrv_co_pwrite(bs->file, offset, bytes, buf, BDRV_REQ_WRITE_UNCHANGED);
    return ret < 0 ? ret : bytes;
}

/* What of the range is not in the image, into the image. */
static int coroutine_fn copy(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    CorState *s = bs->opaque;
    const int64_t unit = copy_unit(bs), length = bdrv_getlength(bs);
    const int64_t start = QEMU_ALIGN_DOWN(offset, unit);
    const int64_t end = MIN(QEMU_ALIGN_UP(offset + bytes, unit), MAX(length, offset + bytes));
    Op op = {.offset = start, .bytes = end - start, .is_copy = true};
    int64_t n, ret = 0;

    op_begin(s, &op);
    for (int64_t at = start; at < end && ret >= 0; at += n) {
        ret = bdrv_co_is_allocated(bs->file->bs, at, end - at, &n); /* R2 */
        if (n == 0) {
            break;
        }
        if (ret == 0) {
            ret = n = copy_piece(bs, at, MIN(n, end - at));
        }
    }
    op_end(&op);
    return (int)MIN(ret, 0);
}

/* A piece of a read, all of it in the image or none. */
static int coroutine_fn read_piece(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   bool in_image, QEMUIOVector *qiov, size_t qiov_offset,
                                   BdrvRequestFlags flags)
{
    int ret = in_image ? 0 : copy(bs, offset, bytes);

    if (ret < 0 && (flags & BDRV_REQ_PREFETCH)) { /* R3 */
        return ret;
    }
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn cor_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    int64_t n;
    int ret = 0;

    if (flags &
        BDRV_REQ_NO_SERIALISING) { /* old contents, for a job that keeps them: nobody's read */
        return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    }
    for (int64_t at = 0; at < bytes && ret >= 0; at += n) {
        ret = bdrv_co_is_allocated(bs->file->bs, offset + at, bytes - at, &n);
        if (ret >= 0) {
            n = n > 0 ? MIN(n, bytes - at) : bytes - at; /* the image may have become shorter */
            ret = read_piece(bs, offset + at, n, ret, qiov, qiov_offset + (size_t)at, flags);
        }
    }
    return MIN(ret, 0);
}

static int coroutine_fn cor_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    Op op = {.offset = offset, .bytes = bytes};
    int ret;

    op_begin(bs->opaque, &op);
    ret = bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    op_end(&op);
    return ret;
}

static int coroutine_fn cor_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    Op op = {.offset = offset, .bytes = bytes};
    int ret;

    op_begin(bs->opaque, &op);
    ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    op_end(&op);
    return ret;
}

static int coroutine_fn cor_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Op op = {.offset = offset, .bytes = bytes};
    int ret;

    op_begin(bs->opaque, &op);
    ret = bdrv_co_pdiscard(bs->file, offset, bytes);
    op_end(&op);
    return ret;
}

static int coroutine_fn cor_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

static int coroutine_fn cor_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    Op op = {.offset = 0, .bytes = INT64_MAX};
    int ret;

    op_begin(bs->opaque, &op);
    ret = bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
    op_end(&op);
    return ret;
}

static int64_t coroutine_fn cor_co_get_allocated_file_size(BlockDriverState *bs)
{
    return bdrv_co_get_allocated_file_size(bs->file->bs);
}

static const BlockDriverLife cor_life = {
    .co_open = cor_co_open,
    .co_close = cor_co_close,
    .refresh_limits = cor_refresh_limits,
    .child_perm = cor_child_perm,
};

static const BlockDriverData cor_data = {
    .co_preadv = cor_co_preadv,
    .co_pwritev = cor_co_pwritev,
    .co_pwrite_zeroes = cor_co_pwrite_zeroes,
    .co_pdiscard = cor_co_pdiscard,
    .co_block_status = cor_co_block_status,
    .co_truncate = cor_co_truncate,
    .co_get_allocated_file_size = cor_co_get_allocated_file_size,
};

static BlockDriver bdrv_copy_on_read = {
    .format_name = "copy-on-read",
    .is_filter = true,
    .instance_size = sizeof(CorState),
    .life = &cor_life,
    .data = &cor_data,
};

void bdrv_copy_on_read_register(void)
{
    bdrv_register(&bdrv_copy_on_read);
}
