/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Resize: the driver changes the length, then everyone above is told. */
#include <errno.h>
#include "block/io/internal.h"
#include "util/osdep.h"
#include "trace-io.h"

/* The child that has the bytes of @bs, if it has them all. */
static BlockDriverState *length_from(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->children, next) {
        if (c->role & (BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY)) {
            return c->bs;
        }
    }
    return NULL;
}

static int coroutine_fn refresh_tree(BlockDriverState *bs)
{
    BlockDriverState *below = length_from(bs);
    int ret = below ? refresh_tree(below) : 0;

    return ret < 0 ? ret : bdrv_co_refresh_total(bs);
}

/* Users above live with the main thread's view; tell them there. */
static int coroutine_fn refresh_in_main(BlockDriverState *bs, bool whole_tree)
{
    AioContext *here = qemu_get_current_aio_context();
    AioContext *main_ctx = qemu_get_aio_context();
    int ret;

    if (here != main_ctx) {
        aio_co_reschedule_self(main_ctx);
    }
    ret = whole_tree ? refresh_tree(bs) : bdrv_co_refresh_total(bs);
    if (here != main_ctx) {
        aio_co_reschedule_self(here);
    }
    return ret;
}

int coroutine_fn bdrv_co_truncate(BdrvChild *child, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    BlockDriverState *bs = child->bs;
    int64_t old = bs->total_bytes;
    BdrvTrackedRequest req;
    int ret;

    if (!bs->drv) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    if (offset < 0 || offset > BDRV_MAX_LENGTH) {
        error_setg(errp, "Image size cannot be %s", offset < 0 ? "negative" : "that large");
        return offset < 0 ? -EINVAL : -EFBIG;
    }
    if (bs->read_only) {
        error_setg(errp, "Image is read-only");
        return -EACCES;
    }
    assert(child->perm & BLK_PERM_RESIZE);
    trace_bdrv_co_truncate(bs->node_name, old, offset);

    bdrv_inc_in_flight(bs);
    tracked_request_begin(&req, bs, MIN(old, offset), MAX(old, offset) - MIN(old, offset),
                          BDRV_TRACKED_TRUNCATE, flags);
    tracked_request_set_serialising(&req, 1);
    tracked_request_wait(&req);
    if (bs->drv->data->co_truncate) {
        ret = bs->drv->data->co_truncate(bs, offset, exact, prealloc, flags, errp);
    } else if (bs->drv->is_filter && bdrv_filter_or_cow_child(bs)) {
        ret = bdrv_co_truncate(bdrv_filter_or_cow_child(bs), offset, exact, prealloc, flags, errp);
    } else {
        error_setg(errp, "Image format driver does not support resize");
        ret = -ENOTSUP;
    }
    if (ret >= 0) {
        bs->write_gen++;
        ret = refresh_in_main(bs, false);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not refresh total sector count");
        }
    }
    tracked_request_end(&req); /* whoever waited for it sees the new length */
    bdrv_dec_in_flight(bs);
    return ret;
}

int coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs)
{
    int ret;

    bdrv_inc_in_flight(bs);
    ret = refresh_in_main(bs, true);
    bdrv_dec_in_flight(bs);
    return ret;
}
