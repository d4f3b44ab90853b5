/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Home: the AioContext in which a tree of nodes runs.
 *
 * Everything connected by edges moves together, quiesced.  Each user outside the graph is asked first;
 * one that cannot follow (a job without the means, an export told to stay) refuses with its name.
 */
#include <errno.h>
#include "block/graph/internal.h"
#include "util/osdep.h"
#include "trace-graph.h"

static void gather(BlockDriverState *bs, GHashTable *seen, GPtrArray *nodes)
{
    BdrvChild *c;

    if (!g_hash_table_add(seen, bs)) {
        return;
    }
    g_ptr_array_add(nodes, bs);
    QLIST_FOREACH (c, &bs->children, next) {
        gather(c->bs, seen, nodes);
    }
    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds) {
            gather(c->opaque, seen, nodes);
        }
    }
}

static int ask_users(GPtrArray *nodes, AioContext *ctx, Error **errp)
{
    for (guint i = 0; i < nodes->len; i++) {
        BlockDriverState *bs = nodes->pdata[i];
        BdrvChild *c;

        QLIST_FOREACH (c, &bs->parents, next_parent) {
            if (c->klass->parent_is_bds) {
                continue;
            }
            if (!c->klass->can_change_aio_context) {
                g_autofree char *who = c->klass->get_parent_desc(c);

                error_setg(errp,
                           "Cannot change iothread of active block backend: %s uses node '%s'", who,
                           bdrv_get_node_name(bs));
                return -EPERM;
            }
            if (!c->klass->can_change_aio_context(c, ctx, errp)) {
                return -EPERM;
            }
        }
    }
    return 0;
}

static void move(GPtrArray *nodes, AioContext *ctx)
{
    for (guint i = 0; i < nodes->len; i++) {
        BlockDriverState *node = nodes->pdata[i];
        BdrvChild *c;

        trace_bdrv_context(node->node_name, ctx);
        node->aio_context = ctx;
        if (node->drv && node->drv->life->aio_context_changed) {
            node->drv->life->aio_context_changed(node, ctx);
        }
        QLIST_FOREACH (c, &node->parents, next_parent) {
            if (c->klass->set_aio_context) {
                c->klass->set_aio_context(c, ctx);
            }
        }
    }
}

static bool all_in(GPtrArray *nodes, GHashTable *set)
{
    for (guint i = 0; i < nodes->len; i++) {
        if (!g_hash_table_contains(set, nodes->pdata[i])) {
            return false;
        }
    }
    return true;
}

/* One attempt; -EAGAIN: the tree has grown while it came to rest. */
static int coroutine_fn try_once(BlockDriverState *bs, AioContext *ctx, Error **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) seen_now = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    g_autoptr(GPtrArray) nodes_now = g_ptr_array_new();
    int ret;

    gather(bs, seen, nodes);
    ret = ask_users(nodes, ctx, errp); /* before anybody is disturbed */
    if (ret < 0) {
        return ret;
    }
    bdrv_co_drained_begin_list((BlockDriverState **)nodes->pdata, nodes->len); /* D4 */
    gather(bs, seen_now, nodes_now);
    if (!all_in(nodes_now, seen)) {
        ret = -EAGAIN;
    } else {
        ret = ask_users(nodes_now, ctx, errp); /* some may have come meanwhile */
    }
    if (ret == 0) {
        move(nodes_now, ctx);
    }
    bdrv_co_drained_end_list((BlockDriverState **)nodes->pdata, nodes->len);
    return ret;
}

int coroutine_fn bdrv_co_try_change_aio_context(BlockDriverState *bs, AioContext *ctx, Error **errp)
{
    int ret = 0;

    bdrv_ref(bs);
    while (bs->aio_context != ctx) {
        ret = try_once(bs, ctx, errp);
        if (ret != -EAGAIN) {
            break;
        }
        ret = 0; /* another mover may have done our work before the next turn */
    }
    bdrv_co_unref(bs);
    return ret;
}
