/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commit: what layers above a base hold goes into the base.
 *
 *     top     | data |      | zeros |      |        read from the top: the uppermost layer decides
 *     (mid)   |      | data |       |      |
 *     base    |######|######|   0   |      |        written; what no layer above has allocated stays
 *
 * IK1  The order is: the base grows, is written, is flushed; only then the top is emptied.  Until then each byte
 *      that the top shows is in the top, so that an error in between costs nothing but time.
 * IK2  What cannot be done is found out before anything is written.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/image/image-int.h"
#include "util/osdep.h"

/* IK2 */
static int check(const ImageCommitArgs *args, Error **errp)
{
    const BlockDriverState *top = bdrv_skip_filters(blk_bs(args->top));

    if (blk_bs(args->top) == blk_bs(args->base) ||
        !bdrv_chain_contains(blk_bs(args->top), blk_bs(args->base))) {
        error_setg(errp, "The base is not below the image in its chain");
        return -EINVAL;
    }
    if (args->make_empty && (!top->drv->image || !top->drv->image->co_make_empty)) {
        error_setg(errp,
                   "An image of format '%s' cannot be emptied; it can be committed and dropped",
                   top->drv->format_name);
        return -ENOTSUP;
    }
    return 0;
}

/* Behind its old end the base showed zeros: it still does, also where it has a longer backing file. */
static int coroutine_fn write_zeroes(BlockBackend *base, int64_t offset, int64_t end, Error **errp)
{
    while (offset < end) {
        int64_t pnum;
        int ret = blk_co_block_status_above(base, NULL, offset, end - offset, &pnum, NULL, NULL);

        if (ret < 0 || pnum == 0) {
            pnum = end - offset;
            ret = 0;
        }
        if (!(ret & BDRV_BLOCK_ZERO)) {
            ret = blk_co_pwrite_zeroes(base, offset, pnum, 0);
            if (ret < 0) {
                error_setg_errno(errp, -ret,
                                 "Could not write zeros behind the old end of the base");
                return ret;
            }
        }
        offset += pnum;
    }
    return 0;
}

static int coroutine_fn grow_base(const ImageCommitArgs *args, Error **errp)
{
    int64_t top = blk_getlength(args->top), base = blk_getlength(args->base);
    BlockDriverState *bs = blk_bs(args->base);
    BdrvRequestFlags flags = 0;
    int ret;

    if (top < 0 || base < 0) {
        error_setg_errno(errp, (int)-MIN(top, base), "Could not get the size of an image");
        return (int)MIN(top, base);
    }
    if (base >= top) {
        return 0;
    }
    if (bdrv_backing_chain_next(bs)) {
        flags = bs->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
    }
    top = ROUND_UP(top, BDRV_SECTOR_SIZE);
    ret = blk_co_truncate(args->base, top, false, PREALLOC_MODE_OFF, flags, errp);
    return ret < 0 ? ret : write_zeroes(args->base, base, top, errp);
}

static int coroutine_fn make_empty(BlockBackend *blk, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk));
    int ret;

    bdrv_inc_in_flight(bs);
    ret = bs->drv->image->co_make_empty(bs, errp);
    bdrv_dec_in_flight(bs);
    if (ret < 0) {
        error_prepend(errp, "Could not empty '%s': ", bs->filename);
        return ret;
    }
    ret = blk_co_flush(blk);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush '%s'", bs->filename);
    }
    return ret;
}

int coroutine_fn image_co_commit(const ImageCommitArgs *args, Error **errp)
{
    ERRP_GUARD();
    BlockBackend *source = args->top;
    ImageConvertArgs copy = {
        .source = &source,
        .n_sources = 1,
        .target = args->base,
        .above = blk_bs(args->base),
        .sparse = true,
        .sparse_bytes = IMAGE_SPARSE_DEFAULT,
        .requests = IMAGE_REQUESTS_DEFAULT,
        .bytes_per_second = args->bytes_per_second,
        .watch = args->watch,
    };
    int ret = check(args, errp);

    if (ret == 0) {
        ret = grow_base(args, errp);
    }
    if (ret == 0) {
        ret = image_co_convert(&copy, errp); /* flushes the base: IK1 */
    }
    if (ret == 0 && args->make_empty) {
        ret = make_empty(args->top, errp);
    }
    return ret;
}
