/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reopen: new options for nodes that stay where they are, all or none.
 *
 *   quiesce all  ->  prepare each (the driver opens what it will need)  ->  permissions with the new
 *   flags  ->  commit each   or, at the first refusal, abort those prepared  ->  go on
 *
 * R1  What was prepared and not committed is aborted: the graph is as before.
 * R2  Options that name children may be repeated; they may not name others.
 */
#include <errno.h>
#include "block/io/io.h"
#include "block/open/internal.h"
#include "util/osdep.h"

typedef struct ReopenOne {
    BlockDriverState *bs;
    const BlockdevOptions *opts;
    void *state;
    bool prepared;
    /* What to go back to. */
    int old_flags;
    bool old_read_only, old_auto_read_only, old_force_share;
    BlockdevDetectZeroesOptions old_detect_zeroes;
} ReopenOne;

/* R2 */
static int check_child_option(BlockDriverState *bs, const char *name, json_t *value, Error **errp)
{
    BdrvChild *c;
    const char *wanted = json_is_string(value)
                             ? json_string_value(value)
                             : json_string_value(json_object_get(value, "node-name"));

    QLIST_FOREACH (c, &bs->children, next) {
        if (strcmp(c->name, name) == 0) {
            if (!wanted && json_is_object(value)) {
                return 0; /* its own definition, unnamed: it cannot be addressed, so it stays */
            }
            if (wanted && strcmp(wanted, c->bs->node_name) == 0) {
                return 0;
            }
            error_setg(errp, "Cannot change the option '%s'", name);
            return -EINVAL;
        }
    }
    if (!json_is_null(value)) {
        error_setg(errp, "Cannot change the option '%s'", name);
        return -EINVAL;
    }
    return 0;
}

static int check_children(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    static const char *const names[] = {"file", "backing", "image"};
    json_t *json = qapi_BlockdevOptions_to_json(opts);
    int ret = 0;

    for (size_t i = 0; i < ARRAY_SIZE(names) && ret == 0; i++) {
        json_t *value = json_object_get(json, names[i]);

        if (value) {
            ret = check_child_option(bs, names[i], value, errp);
        }
    }
    json_decref(json);
    return ret;
}

static int coroutine_fn prepare(ReopenOne *one, Error **errp)
{
    BlockDriverState *bs = one->bs;
    OpenParent none = {0};
    int ret;

    if (strcmp(BlockdevDriver_str(one->opts->driver), bs->drv->format_name) != 0) {
        error_setg(errp, "Cannot change the option 'driver'");
        return -EINVAL;
    }
    if (!bs->drv->life->co_reopen_prepare) {
        error_setg(errp, "Block format '%s' used by node '%s' does not support reopening files",
                   bs->drv->format_name, bdrv_get_node_name(bs));
        return -ENOTSUP;
    }
    ret = check_children(bs, one->opts, errp);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_apply_generic_options(bs, one->opts, &none, errp);
    if (ret < 0) {
        return ret;
    }
    if (!QLIST_EMPTY(&bs->children)) {
        bs->open_flags |= one->old_flags & BDRV_O_INACTIVE;
    }
    ret = bs->drv->life->co_reopen_prepare(bs, one->opts, bs->open_flags, &one->state, errp);
    one->prepared = ret >= 0;
    return ret;
}

/* R1 */
static void go_back(ReopenOne *one)
{
    BlockDriverState *bs = one->bs;

    if (one->prepared) {
        bs->drv->life->reopen_abort(bs, one->state);
    }
    bs->open_flags = one->old_flags;
    bs->read_only = one->old_read_only;
    bs->auto_read_only = one->old_auto_read_only;
    bs->force_share = one->old_force_share;
    bs->detect_zeroes = one->old_detect_zeroes;
}

static int coroutine_fn prepare_all(ReopenOne *all, size_t n, BlockDriverState **nodes,
                                    Error **errp)
{
    int ret = 0;

    for (size_t i = 0; i < n && ret >= 0; i++) {
        BlockDriverState *bs = all[i].bs;

        all[i].old_flags = bs->open_flags;
        all[i].old_read_only = bs->read_only;
        all[i].old_auto_read_only = bs->auto_read_only;
        all[i].old_force_share = bs->force_share;
        all[i].old_detect_zeroes = bs->detect_zeroes;
        if (!bs->read_only) {
            ret = bdrv_co_flush(bs);
            if (ret < 0) {
                error_setg_errno(errp, -ret, "Error flushing drive");
                break;
            }
        }
        ret = prepare(&all[i], errp);
    }
    for (size_t i = 0; i < n && ret >= 0; i++) {
        ret = bdrv_refresh_perms(nodes[i], errp);
    }
    return ret;
}

static void coroutine_fn finish_all(ReopenOne *all, size_t n, bool commit)
{
    for (size_t i = 0; i < n; i++) {
        BlockDriverState *bs = all[i].bs;

        if (!commit) {
            go_back(&all[i]);
            continue;
        }
        bs->drv->life->reopen_commit(bs, all[i].state);
        qapi_free_BlockdevOptions(bs->options);
        bs->options = QAPI_CLONE(BlockdevOptions, all[i].opts);
        bdrv_refresh_limits(bs);
        bdrv_co_refresh_total(bs);
    }
    for (size_t i = 0; i < n && !commit; i++) {
        bdrv_refresh_perms(all[i].bs, NULL);
    }
}

int coroutine_fn bdrv_co_reopen_multiple(const BlockdevOptionsList *list, Error **errp)
{
    g_autoptr(GArray) all = g_array_new(FALSE, TRUE, sizeof(ReopenOne));
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    int ret;

    for (; list; list = list->next) {
        ReopenOne one = {.opts = list->value};

        if (!list->value->node_name) {
            error_setg(errp, "node-name not specified");
            return -EINVAL;
        }
        one.bs = bdrv_find_node(list->value->node_name);
        if (!one.bs) {
            error_setg(errp, "Failed to find node with node-name='%s'", list->value->node_name);
            return -ENOENT;
        }
        if (g_ptr_array_find(nodes, one.bs, NULL)) {
            error_setg(errp, "Node '%s' is named twice", list->value->node_name);
            return -EINVAL;
        }
        g_ptr_array_add(nodes, one.bs);
        g_array_append_val(all, one);
    }
    bdrv_co_drained_begin_list((BlockDriverState **)nodes->pdata, nodes->len);
    ret = prepare_all((ReopenOne *)all->data, all->len, (BlockDriverState **)nodes->pdata, errp);
    finish_all((ReopenOne *)all->data, all->len, ret >= 0);
    bdrv_co_drained_end_list((BlockDriverState **)nodes->pdata, nodes->len);
    return MIN(ret, 0);
}
