/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bitmap.c - block-dirty-bitmap-*: commands, and actions of a transaction
 *
 * Each is a transaction, so the node stands still while bits are cleared or merged.  An action that has
 * been prepared can be undone until its commit:
 *
 *      action    prepare                    abort              commit
 *      add       create                     release
 *      remove    mark busy; out of the      not busy           not busy, release
 *                image, durably             (stored at close)
 *      clear     clear, keep the old bits   restore them       free them
 *      merge     merge, keep the old bits   restore them       free them
 *      enable    enable                     as it was
 *      disable   disable                    as it was
 */
#include "transaction.h"

#include <errno.h>

#include "block/dirty/dirty-bitmap.h"
#include "qapi/qapi-commands-block-core.h"
#include "util/hbitmap.h"
#include "util/osdep.h"

typedef struct BitmapAction {
    TxnAction action; /* first */
    BlockDriverState *bs;
    BdrvDirtyBitmap *bitmap;
    HBitmap *backup; /* bits before the action; NULL: not changed */
    bool was_enabled;
} BitmapAction;

static BlockDriverState *bitmap_find_node(const char *node, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(node, node, NULL);

    if (!bs) {
        error_setg(errp, "Node '%s' not found", node);
    }
    return bs;
}

static BdrvDirtyBitmap *bitmap_find(BlockDriverState *bs, const char *name, Error **errp)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bs, name);

    if (!bitmap) {
        error_setg(errp, "Dirty bitmap '%s' not found", name);
    }
    return bitmap;
}

static int bitmap_use_node(BitmapAction *a, const char *node, Error **errp)
{
    a->bs = bitmap_find_node(node, errp);
    if (!a->bs) {
        return -ENOENT;
    }
    txn_action_use_node(&a->action, a->bs);
    return 0;
}

/* The bitmap of an action on {node, name}, usable as @flags ask. */
static int bitmap_use_existing(BitmapAction *a, const char *name, uint32_t flags, Error **errp)
{
    BdrvDirtyBitmap *bitmap = bitmap_find(a->bs, name, errp);
    int r;

    if (!bitmap) {
        return -ENOENT;
    }
    r = bdrv_dirty_bitmap_check(bitmap, flags, errp);
    if (r == 0) {
        a->bitmap = bitmap;
    }
    return r;
}

static int coroutine_fn bitmap_open(TxnAction *action, Error **errp)
{
    const BlockDirtyBitmap *arg = action->data;

    return bitmap_use_node((BitmapAction *)action, arg->node, errp);
}

/* add */

static int coroutine_fn bitmap_add_open(TxnAction *action, Error **errp)
{
    const BlockDirtyBitmapAdd *arg = action->data;

    return bitmap_use_node((BitmapAction *)action, arg->node, errp);
}

static int bitmap_add_check(const BitmapAction *a, const BlockDirtyBitmapAdd *arg, Error **errp)
{
    if (!*arg->name) {
        error_setg(errp, "Bitmap name cannot be empty");
        return -EINVAL;
    }
    if (arg->has_granularity && (arg->granularity < 512 || !is_power_of_2(arg->granularity))) {
        error_setg(errp, "Granularity must be power of 2 and at least 512");
        return -EINVAL;
    }
    if (arg->has_persistent && arg->persistent && !a->bs->drv->bitmaps) {
        error_setg(errp, "Can't store persistent bitmaps to %s: Operation not supported",
                   bdrv_get_device_or_node_name(a->bs));
        return -ENOTSUP;
    }
    return 0;
}

static int coroutine_fn bitmap_add_prepare(TxnAction *action, Error **errp)
{
    BitmapAction *a = (BitmapAction *)action;
    const BlockDirtyBitmapAdd *arg = action->data;
    int r = bitmap_add_check(a, arg, errp);

    if (r < 0) {
        return r;
    }
    a->bitmap = bdrv_create_dirty_bitmap(a->bs, arg->has_granularity ? arg->granularity : 0,
                                         arg->name, errp);
    if (!a->bitmap) {
        return -EINVAL;
    }
    if (arg->has_disabled && arg->disabled) {
        bdrv_disable_dirty_bitmap(a->bitmap);
    }
    if (!arg->has_persistent || !arg->persistent) {
        return 0;
    }
    r = a->bs->drv->bitmaps->can_store(a->bs, arg->name, bdrv_dirty_bitmap_granularity(a->bitmap),
                                       errp);
    if (r < 0) {
        error_prepend(errp, "Can't make bitmap '%s' persistent in '%s': ", arg->name,
                      bdrv_get_device_or_node_name(a->bs));
        bdrv_release_dirty_bitmap(a->bitmap);
        return r;
    }
    bdrv_dirty_bitmap_set_persistence(a->bitmap, true);
    return 0;
}

static void coroutine_fn bitmap_add_abort(TxnAction *action)
{
    bdrv_release_dirty_bitmap(((BitmapAction *)action)->bitmap);
}

const TxnActionOps txn_bitmap_add = {
    .name = "block-dirty-bitmap-add",
    .instance_size = sizeof(BitmapAction),
    .open = bitmap_add_open,
    .prepare = bitmap_add_prepare,
    .abort = bitmap_add_abort,
};

/* remove */

static int coroutine_fn bitmap_remove_prepare(TxnAction *action, Error **errp)
{
    BitmapAction *a = (BitmapAction *)action;
    const BlockDirtyBitmap *arg = action->data;
    int r = bitmap_use_existing(a, arg->name, BDRV_BITMAP_BUSY | BDRV_BITMAP_RO, errp);

    if (r == 0 && bdrv_dirty_bitmap_get_persistence(a->bitmap)) {
        r = a->bs->drv->bitmaps->co_forget(a->bs, arg->name, errp);
    }
    if (r == 0) {
        bdrv_dirty_bitmap_set_busy(a->bitmap, true);
    }
    return r;
}

/* One that is persistent goes back into the image when that is closed. */
static void coroutine_fn bitmap_remove_abort(TxnAction *action)
{
    bdrv_dirty_bitmap_set_busy(((BitmapAction *)action)->bitmap, false);
}

static void coroutine_fn bitmap_remove_commit(TxnAction *action)
{
    BdrvDirtyBitmap *bitmap = ((BitmapAction *)action)->bitmap;

    bdrv_dirty_bitmap_set_busy(bitmap, false);
    bdrv_release_dirty_bitmap(bitmap);
}

const TxnActionOps txn_bitmap_remove = {
    .name = "block-dirty-bitmap-remove",
    .instance_size = sizeof(BitmapAction),
    .open = bitmap_open,
    .prepare = bitmap_remove_prepare,
    .commit = bitmap_remove_commit,
    .abort = bitmap_remove_abort,
};

/* clear, and what it shares with merge */

static int coroutine_fn bitmap_clear_prepare(TxnAction *action, Error **errp)
{
    BitmapAction *a = (BitmapAction *)action;
    const BlockDirtyBitmap *arg = action->data;
    int r = bitmap_use_existing(a, arg->name, BDRV_BITMAP_DEFAULT, errp);

    if (r == 0) {
        bdrv_clear_dirty_bitmap(a->bitmap, &a->backup);
    }
    return r;
}

static void coroutine_fn bitmap_restore(TxnAction *action)
{
    BitmapAction *a = (BitmapAction *)action;

    if (a->backup) {
        bdrv_restore_dirty_bitmap(a->bitmap, a->backup);
        a->backup = NULL;
    }
}

static void coroutine_fn bitmap_free_backup(TxnAction *action)
{
    BitmapAction *a = (BitmapAction *)action;

    if (a->backup) {
        hbitmap_free(a->backup);
    }
}

const TxnActionOps txn_bitmap_clear = {
    .name = "block-dirty-bitmap-clear",
    .instance_size = sizeof(BitmapAction),
    .open = bitmap_open,
    .prepare = bitmap_clear_prepare,
    .commit = bitmap_free_backup,
    .abort = bitmap_restore,
};

/* enable, disable */

static int coroutine_fn bitmap_enable_prepare(TxnAction *action, Error **errp)
{
    BitmapAction *a = (BitmapAction *)action;
    const BlockDirtyBitmap *arg = action->data;
    int r = bitmap_use_existing(a, arg->name, BDRV_BITMAP_ALLOW_RO, errp);

    if (r == 0) {
        a->was_enabled = bdrv_dirty_bitmap_enabled(a->bitmap);
        bdrv_enable_dirty_bitmap(a->bitmap);
    }
    return r;
}

static int coroutine_fn bitmap_disable_prepare(TxnAction *action, Error **errp)
{
    BitmapAction *a = (BitmapAction *)action;
    const BlockDirtyBitmap *arg = action->data;
    int r = bitmap_use_existing(a, arg->name, BDRV_BITMAP_ALLOW_RO, errp);

    if (r == 0) {
        a->was_enabled = bdrv_dirty_bitmap_enabled(a->bitmap);
        bdrv_disable_dirty_bitmap(a->bitmap);
    }
    return r;
}

static void coroutine_fn bitmap_enable_abort(TxnAction *action)
{
    BitmapAction *a = (BitmapAction *)action;

    if (a->was_enabled) {
        bdrv_enable_dirty_bitmap(a->bitmap);
    } else {
        bdrv_disable_dirty_bitmap(a->bitmap);
    }
}

const TxnActionOps txn_bitmap_enable = {
    .name = "block-dirty-bitmap-enable",
    .instance_size = sizeof(BitmapAction),
    .open = bitmap_open,
    .prepare = bitmap_enable_prepare,
    .abort = bitmap_enable_abort,
};

const TxnActionOps txn_bitmap_disable = {
    .name = "block-dirty-bitmap-disable",
    .instance_size = sizeof(BitmapAction),
    .open = bitmap_open,
    .prepare = bitmap_disable_prepare,
    .abort = bitmap_enable_abort,
};

/* merge */

/* A source of a merge: a name on the target's node, or a node and a name. */
static void bitmap_merge_source(const BlockDirtyBitmapMerge *arg,
                                const BlockDirtyBitmapOrStr *source, const char **ret_node,
                                const char **ret_name)
{
    if (source->type == QTYPE_QSTRING) {
        *ret_node = arg->node;
        *ret_name = source->u.local;
    } else {
        *ret_node = source->u.external.node;
        *ret_name = source->u.external.name;
    }
}

static int coroutine_fn bitmap_merge_open(TxnAction *action, Error **errp)
{
    const BlockDirtyBitmapMerge *arg = action->data;
    int r = bitmap_use_node((BitmapAction *)action, arg->node, errp);

    for (BlockDirtyBitmapOrStrList *l = arg->bitmaps; r == 0 && l; l = l->next) {
        const char *node, *name;
        BlockDriverState *bs;

        bitmap_merge_source(arg, l->value, &node, &name);
        bs = bitmap_find_node(node, errp);
        if (!bs) {
            r = -ENOENT;
        } else {
            txn_action_use_node(action, bs);
        }
    }
    return r;
}

static BdrvDirtyBitmap *bitmap_merge_find_source(const BlockDirtyBitmapMerge *arg,
                                                 const BlockDirtyBitmapOrStr *source, Error **errp)
{
    const char *node, *name;
    BlockDriverState *bs;

    bitmap_merge_source(arg, source, &node, &name);
    bs = bitmap_find_node(node, errp);
    return bs ? bitmap_find(bs, name, errp) : NULL;
}

static int coroutine_fn bitmap_merge_prepare(TxnAction *action, Error **errp)
{
    BitmapAction *a = (BitmapAction *)action;
    const BlockDirtyBitmapMerge *arg = action->data;
    int r = bitmap_use_existing(a, arg->target, BDRV_BITMAP_DEFAULT, errp);

    if (r < 0) {
        return r;
    }
    for (BlockDirtyBitmapOrStrList *l = arg->bitmaps; l; l = l->next) {
        BdrvDirtyBitmap *source = bitmap_merge_find_source(arg, l->value, errp);

        if (!source || bdrv_dirty_bitmap_check(source, BDRV_BITMAP_ALLOW_RO, errp) < 0 ||
            !bdrv_merge_dirty_bitmap(a->bitmap, source, a->backup ? NULL : &a->backup, errp)) {
            bitmap_restore(action);
            return -EINVAL;
        }
    }
    return 0;
}

const TxnActionOps txn_bitmap_merge = {
    .name = "block-dirty-bitmap-merge",
    .instance_size = sizeof(BitmapAction),
    .open = bitmap_merge_open,
    .prepare = bitmap_merge_prepare,
    .commit = bitmap_free_backup,
    .abort = bitmap_restore,
};

/* The commands: transactions of one. */

void coroutine_fn qmp_block_dirty_bitmap_add(const char *node, const char *name,
                                             bool has_granularity, uint32_t granularity,
                                             bool has_persistent, bool persistent,
                                             bool has_disabled, bool disabled, Error **errp)
{
    BlockDirtyBitmapAdd arg = {
        .node = (char *)node,
        .name = (char *)name,
        .has_granularity = has_granularity,
        .granularity = granularity,
        .has_persistent = has_persistent,
        .persistent = persistent,
        .has_disabled = has_disabled,
        .disabled = disabled,
    };

    txn_co_run_one(&txn_bitmap_add, &arg, errp);
}

static void coroutine_fn bitmap_run_one(const TxnActionOps *ops, const char *node, const char *name,
                                        Error **errp)
{
    BlockDirtyBitmap arg = {.node = (char *)node, .name = (char *)name};

    txn_co_run_one(ops, &arg, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_remove(const char *node, const char *name, Error **errp)
{
    bitmap_run_one(&txn_bitmap_remove, node, name, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_clear(const char *node, const char *name, Error **errp)
{
    bitmap_run_one(&txn_bitmap_clear, node, name, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_enable(const char *node, const char *name, Error **errp)
{
    bitmap_run_one(&txn_bitmap_enable, node, name, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_disable(const char *node, const char *name, Error **errp)
{
    bitmap_run_one(&txn_bitmap_disable, node, name, errp);
}

void coroutine_fn qmp_block_dirty_bitmap_merge(const char *node, const char *target,
                                               BlockDirtyBitmapOrStrList *bitmaps, Error **errp)
{
    BlockDirtyBitmapMerge arg = {(char *)node, (char *)target, bitmaps};

    txn_co_run_one(&txn_bitmap_merge, &arg, errp);
}
