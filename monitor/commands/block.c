/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block.c - nodes come, go and change: blockdev-add, blockdev-del, blockdev-reopen, block_resize, blockdev-create */
#include <errno.h>

#include "block/backend/backend.h"
#include "block/jobs/create.h"
#include "block/open/open.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-commands-block-create.h"

void coroutine_fn qmp_blockdev_add(BlockdevOptions *arg, Error **errp)
{
    bdrv_co_blockdev_add(arg, errp);
}

void coroutine_fn qmp_blockdev_del(const char *node_name, Error **errp)
{
    bdrv_co_blockdev_del(node_name, errp);
}

void coroutine_fn qmp_blockdev_reopen(BlockdevOptionsList *options, Error **errp)
{
    if (options) {
        bdrv_co_reopen_multiple(options, errp);
    }
}

/* A resize on its way to the node's own thread and back. */
static int coroutine_fn block_resize_in_home(BlockBackend *blk, int64_t size, Error **errp)
{
    AioContext *home = blk_get_aio_context(blk), *here = qemu_get_current_aio_context();
    int r;

    if (home == here) {
        return blk_co_truncate(blk, size, false, PREALLOC_MODE_OFF, 0, errp);
    }
    aio_co_reschedule_self(home);
    r = blk_co_truncate(blk, size, false, PREALLOC_MODE_OFF, 0, errp);
    aio_co_reschedule_self(here);
    return r;
}

void coroutine_fn qmp_block_resize(const char *device, const char *node_name, int64_t size,
                                   Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(device, node_name, errp);
    BlockBackend *blk;

    if (!bs) {
        return;
    }
    if (size < 0) {
        error_setg(errp, "Parameter 'size' expects a >0 size");
        return;
    }
    if (bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_RESIZE, errp)) {
        return;
    }
    blk = blk_new(BLK_PERM_RESIZE, BLK_PERM_ALL);
    blk_set_desc(blk, "block_resize");
    if (blk_insert_bs(blk, bs, errp) == 0) {
        block_resize_in_home(blk, size, errp);
        blk_co_remove_bs(blk);
    }
    blk_co_unref(blk);
}

void coroutine_fn qmp_x_blockdev_amend(const char *job_id, const char *node_name,
                                       BlockdevAmendOptions *options, bool has_force, bool force,
                                       Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(NULL, node_name, errp);

    if (bs) {
        blockdev_amend_start(job_id, bs, options, has_force && force, errp);
    }
}

void coroutine_fn qmp_blockdev_create(const char *job_id, BlockdevCreateOptions *options,
                                      Error **errp)
{
    blockdev_create_start(job_id, options, errp);
}
