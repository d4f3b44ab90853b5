/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Source and target of a job that copies: may the one be copied to the other at all? */
#include <errno.h>
#include "block/copy/copy.h"
#include "util/osdep.h"

/* Into @seen: what a write to @bs may write to.  A backing file is only read. */
static void gather_written(BlockDriverState *bs, GHashTable *seen)
{
    BdrvChild *c;

    if (!g_hash_table_add(seen, bs)) {
        return;
    }
    QLIST_FOREACH (c, &bs->children, next) {
        if (!(c->role & BDRV_CHILD_COW)) {
            gather_written(c->bs, seen);
        }
    }
}

/* Would the copy land in what is copied, through filters above one of them or both? */
static bool write_to_each_other(BlockDriverState *source, BlockDriverState *target)
{
    g_autoptr(GHashTable) by_source = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) by_target = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    void *bs;

    gather_written(source, by_source);
    gather_written(target, by_target);
    g_hash_table_iter_init(&iter, by_target);
    while (g_hash_table_iter_next(&iter, &bs, NULL)) {
        if (g_hash_table_contains(by_source, bs)) {
            return true;
        }
    }
    return false;
}

static int check_not_guarded(BlockDriverState *source, Error **errp)
{
    for (BlockDriverState *bs = source; bs; bs = child_bs(bdrv_filter_or_cow_child(bs))) {
        if (bs->read_guard) {
            error_setg(errp, "Node '%s' is the target of a running backup with sync=none",
                       bdrv_get_device_or_node_name(bs));
            return -EBUSY;
        }
    }
    return 0;
}

int block_copy_check_views(BlockDriverState *source, BlockDriverState *target, Error **errp)
{
    if (write_to_each_other(source, target)) {
        error_setg(errp, "Source '%s' and target '%s' are views of the same disk",
                   bdrv_get_device_or_node_name(source), bdrv_get_device_or_node_name(target));
        return -EINVAL;
    }
    return check_not_guarded(source, errp);
}

int block_copy_check_equal(BlockDriverState *source, BlockDriverState *target, Error **errp)
{
    BlockDriverState *nodes[2] = {source, target};
    int64_t len[2];

    if (source->aio_context != target->aio_context) {
        error_setg(errp, "Source '%s' and target '%s' are in different iothreads",
                   bdrv_get_device_or_node_name(source), bdrv_get_device_or_node_name(target));
        return -EBUSY;
    }
    for (int i = 0; i < 2; i++) {
        len[i] = bdrv_getlength(nodes[i]);
        if (len[i] < 0) {
            error_setg_errno(errp, -len[i], "Unable to get length for '%s'",
                             bdrv_get_device_or_node_name(nodes[i]));
            return len[i];
        }
    }
    if (len[0] != len[1]) {
        error_setg(errp, "Source and target image have different sizes");
        return -EINVAL;
    }
    return 0;
}
