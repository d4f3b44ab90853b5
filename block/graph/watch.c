/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hangs on a node without being an edge: before-write notifiers (a backup job copies old data
 * there), write observers (dirty bitmaps), and operations blocked while a job runs.
 */
#include "block/graph/graph.h"
#include "util/osdep.h"

/* Names of BlockOpType are not shown to users; the blocker's reason is. */
struct BdrvOpBlocker {
    unsigned mask;
    char *reason;
    QLIST_ENTRY(BdrvOpBlocker) list;
};

void bdrv_add_before_write_notifier(BlockDriverState *bs, NotifierWithReturn *notifier)
{
    notifier_with_return_list_add(&bs->before_write_notifiers, notifier);
}

void bdrv_add_write_observer(BlockDriverState *bs, BdrvWriteObserver *obs)
{
    QLIST_INSERT_HEAD(&bs->write_observers, obs, list);
}

void bdrv_remove_write_observer(BdrvWriteObserver *obs)
{
    QLIST_REMOVE(obs, list);
}

BdrvOpBlocker *bdrv_op_block(BlockDriverState *bs, unsigned mask, const char *reason)
{
    BdrvOpBlocker *blocker = g_new0(BdrvOpBlocker, 1);

    blocker->mask = mask;
    blocker->reason = g_strdup(reason);
    QLIST_INSERT_HEAD(&bs->op_blockers, blocker, list);
    return blocker;
}

void bdrv_op_unblock(BdrvOpBlocker *blocker)
{
    QLIST_REMOVE(blocker, list);
    g_free(blocker->reason);
    g_free(blocker);
}

bool bdrv_op_is_blocked(BlockDriverState *bs, BlockOpType op, Error **errp)
{
    BdrvOpBlocker *blocker;

    QLIST_FOREACH (blocker, &bs->op_blockers, list) {
        if (blocker->mask & (1u << op)) {
            error_setg(errp, "Node '%s' is busy: %s", bdrv_get_device_or_node_name(bs),
                       blocker->reason);
            return true;
        }
    }
    return false;
}
