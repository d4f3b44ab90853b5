/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes that the monitor owns: what blockdev-add makes and blockdev-del drops. */
#include <errno.h>
#include "block/open/open.h"
#include "util/osdep.h"

int coroutine_fn bdrv_co_blockdev_add(const BlockdevOptions *opts, Error **errp)
{
    BlockDriverState *bs;

    if (!opts->node_name) {
        error_setg(errp, "'node-name' must be specified for the root node");
        return -EINVAL;
    }
    bs = bdrv_co_open(opts, errp);
    if (!bs) {
        return -EINVAL;
    }
    bs->monitor_owned = true;
    return 0;
}

int coroutine_fn bdrv_co_blockdev_del(const char *node_name, Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(node_name);

    if (!bs) {
        error_setg(errp, "Failed to find node with node-name='%s'", node_name);
        return -ENOENT;
    }
    if (bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_DELETE, errp)) {
        return -EBUSY;
    }
    if (!bs->monitor_owned) {
        error_setg(errp, "Node %s is not owned by the monitor", node_name);
        return -EPERM;
    }
    if (bs->refcnt > 1) {
        error_setg(errp, "Block device %s is in use", bdrv_get_device_or_node_name(bs));
        return -EBUSY;
    }
    bs->monitor_owned = false;
    bdrv_co_unref(bs);
    return 0;
}

void coroutine_fn bdrv_co_close_all(void)
{
    BlockDriverState *bs = bdrv_next_node(NULL);

    while (bs) {
        if (bs->monitor_owned) {
            bs->monitor_owned = false;
            bdrv_co_unref(bs);
            bs = bdrv_next_node(NULL); /* others may have gone with it */
        } else {
            bs = bdrv_next_node(bs);
        }
    }
}
