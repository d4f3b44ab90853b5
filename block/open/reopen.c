/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reopen: new options for nodes that stay where they are, all or none.
 *
 *   quiesce all  ->  prepare each (the driver opens what it will need)  ->  permissions with the new
 *   flags  ->  commit each   or, at the first refusal, abort those prepared  ->  go on
 *
 * R1  What was prepared and not committed is aborted: the graph is as before.
 * R2  Options that name children may be repeated; they may not name others.  A definition is repeated as
 *     it was: one that differs would have no effect.
 * R3  Permissions are asked for as one, after all nodes have their new flags: what a parent does not do
 *     any more does not stand in its child's way, whatever the order of the list.
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

/* R2.  @value: what the options say of the child of @edge_name; @opened: what they said before. */
static bool child_is_the_same(BlockDriverState *bs, const char *edge_name, json_t *value,
                              json_t *opened)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->children, next) {
        if (strcmp(c->name, edge_name) == 0) {
            return json_is_string(value) ? strcmp(json_string_value(value), c->bs->node_name) == 0
                                         : json_equal(value, opened);
        }
    }
    return json_is_null(value);
}

static int check_children(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    static const struct {
        const char *option, *edge;
    } children[] = {
        {"file", "file"}, {"image", "file"}, {"backing", "backing"}, {"data-file", "data-file"}};
    json_t *json = qapi_BlockdevOptions_to_json(opts);
    json_t *opened = bs->options ? qapi_BlockdevOptions_to_json(bs->options) : NULL;
    int ret = 0;

    for (size_t i = 0; i < ARRAY_SIZE(children) && ret == 0; i++) {
        const char *option = children[i].option;
        json_t *value = json_object_get(json, option);

        if (value &&
            !child_is_the_same(bs, children[i].edge, value, json_object_get(opened, option))) {
            error_setg(errp, "Cannot change the option '%s'", option);
            ret = -EINVAL;
        }
    }
    json_decref(opened);
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
    bs->open_flags |= one->old_flags & (BDRV_O_INACTIVE | BDRV_O_NO_BACKING); /* no options */
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

static void remember(ReopenOne *one)
{
    BlockDriverState *bs = one->bs;

    one->old_flags = bs->open_flags;
    one->old_read_only = bs->read_only;
    one->old_auto_read_only = bs->auto_read_only;
    one->old_force_share = bs->force_share;
    one->old_detect_zeroes = bs->detect_zeroes;
}

/* What was written under the old options is stable before they go (H4). */
static int coroutine_fn flush_at_home(BlockDriverState *bs, Error **errp)
{
    AioContext *home = bs->aio_context, *here = qemu_get_current_aio_context();
    int ret;

    if (bs->read_only) {
        return 0;
    }
    if (home != here) {
        aio_co_reschedule_self(home);
    }
    ret = bdrv_co_flush(bs);
    if (home != here) {
        aio_co_reschedule_self(here);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Error flushing drive");
    }
    return ret;
}

static int coroutine_fn prepare_all(ReopenOne *all, size_t n, BlockDriverState **nodes,
                                    Error **errp)
{
    int ret = 0;

    for (size_t i = 0; i < n; i++) {
        remember(&all[i]); /* all of them first: going back goes through all */
    }
    for (size_t i = 0; i < n && ret >= 0; i++) {
        ret = flush_at_home(all[i].bs, errp);
        if (ret >= 0) {
            ret = prepare(&all[i], errp);
        }
    }
    return ret < 0 ? ret : bdrv_refresh_perms_list(nodes, n, errp); /* R3 */
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
