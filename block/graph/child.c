/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Edges: attaching, dropping, replacing.
 *
 * An edge is in two lists, its parent's children and its child's parents, and holds a reference on the
 * child (G1).  The permission transaction runs with the edge already in place, so that it is computed
 * from what will be; on failure the edge is taken off again.
 */
#include <errno.h>
#include <string.h>
#include "block/graph/internal.h"
#include "util/osdep.h"
#include "trace-graph.h"

void bdrv_link_child(BdrvChild *c, BlockDriverState *bs)
{
    c->bs = bs;
    bdrv_ref(bs);
    QLIST_INSERT_HEAD(&bs->parents, c, next_parent);
    if (bs->quiesce_counter > 0) { /* D3 */
        bdrv_parent_drained_begin(c);
    }
    bdrv_child_wait_begin(c); /* D6 */
}

/* The reference stays: the caller drops it. */
void bdrv_unlink_child(BdrvChild *c)
{
    bdrv_child_wait_end(c); /* D6 */
    QLIST_REMOVE(c, next_parent);
}

static BdrvChild *new_child(const char *name, const BdrvChildClass *klass, BdrvChildRole role,
                            uint64_t perm, uint64_t shared, void *opaque)
{
    BdrvChild *c = g_new0(BdrvChild, 1);

    c->name = g_strdup(name);
    c->klass = klass;
    c->role = role;
    c->new_perm = perm;
    c->new_shared = shared;
    c->shared_perm = BLK_PERM_ALL;
    c->opaque = opaque;
    return c;
}

static void free_child(BdrvChild *c)
{
    bdrv_parent_drained_end(c); /* D3 */
    g_free(c->name);
    g_free(c);
}

BdrvChild *bdrv_root_attach_child(BlockDriverState *child_bs, const char *name,
                                  const BdrvChildClass *klass, BdrvChildRole role, uint64_t perm,
                                  uint64_t shared, void *opaque, Error **errp)
{
    BdrvChild *c = new_child(name, klass, role, perm, shared, opaque);

    assert(!klass->parent_is_bds);
    bdrv_link_child(c, child_bs);
    if (bdrv_refresh_perms(child_bs, errp) < 0) {
        bdrv_unlink_child(c);
        child_bs->refcnt--; /* the caller's own reference keeps it above zero */
        free_child(c);
        return NULL;
    }
    trace_bdrv_attach("user", name, child_bs->node_name);
    return c;
}

void coroutine_fn bdrv_co_root_unref_child(BdrvChild *c)
{
    BlockDriverState *bs;

    if (!c) {
        return;
    }
    bs = c->bs;
    trace_bdrv_detach(c->name, bs->node_name);
    bdrv_unlink_child(c);
    free_child(c);
    /*
     * Fewer users: nothing that could conflict.  A driver that refuses all the same (another process is
     * asking for the same locks just now) keeps what it has until the next change.
     */
    bdrv_refresh_perms(bs, NULL);
    bdrv_co_unref(bs);
}

static bool reaches(BlockDriverState *from, BlockDriverState *to)
{
    BdrvChild *c;

    if (from == to) {
        return true;
    }
    QLIST_FOREACH (c, &from->children, next) {
        if (reaches(c->bs, to)) {
            return true;
        }
    }
    return false;
}

/* May @parent, not in use yet, follow the child to the context where that lives? */
static int join_contexts(BlockDriverState *parent, BlockDriverState *child, Error **errp)
{
    if (parent->aio_context == child->aio_context) {
        return 0;
    }
    if (QLIST_EMPTY(&parent->parents) && QLIST_EMPTY(&parent->children)) {
        parent->aio_context = child->aio_context;
        return 0;
    }
    if (QLIST_EMPTY(&child->parents) && QLIST_EMPTY(&child->children) && child->in_flight == 0) {
        child->aio_context = parent->aio_context;
        if (child->drv->life->aio_context_changed) {
            child->drv->life->aio_context_changed(child, child->aio_context);
        }
        return 0;
    }
    error_setg(errp, "Node '%s' and node '%s' are in different iothreads",
               bdrv_get_node_name(parent), bdrv_get_node_name(child));
    return -EBUSY;
}

BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child_bs, const char *name,
                             BdrvChildRole role, Error **errp)
{
    BdrvChild *c;

    if (reaches(child_bs, parent)) {
        error_setg(errp, "Making '%s' a %s child of '%s' would create a cycle",
                   bdrv_get_node_name(child_bs), name, bdrv_get_node_name(parent));
        return NULL;
    }
    if (join_contexts(parent, child_bs, errp) < 0) {
        return NULL;
    }
    c = new_child(name, &child_of_bds, role, 0, BLK_PERM_ALL, parent);
    QLIST_INSERT_HEAD(&parent->children, c, next);
    bdrv_link_child(c, child_bs);
    if (bdrv_refresh_perms(parent, errp) < 0) {
        bdrv_unlink_child(c);
        QLIST_REMOVE(c, next);
        child_bs->refcnt--; /* the caller holds one */
        free_child(c);
        return NULL;
    }
    if (role & BDRV_CHILD_COW) {
        parent->backing = c;
    } else if (strcmp(name, "file") == 0) {
        parent->file = c;
    }
    trace_bdrv_attach(parent->node_name, name, child_bs->node_name);
    return c;
}

void coroutine_fn bdrv_co_unref_child(BlockDriverState *parent, BdrvChild *c)
{
    if (!c) {
        return;
    }
    QLIST_REMOVE(c, next);
    if (parent->backing == c) {
        parent->backing = NULL;
    }
    if (parent->file == c) {
        parent->file = NULL;
    }
    bdrv_co_root_unref_child(c);
}

static void move_edge(BdrvChild *c, BlockDriverState *to)
{
    BlockDriverState *from = c->bs;

    bdrv_unlink_child(c);
    bdrv_link_child(c, to);
    from->refcnt--; /* the caller of replace holds one on both */
    if (to->quiesce_counter == 0) {
        bdrv_parent_drained_end(c);
    }
}

static void move_edges(GPtrArray *edges, BlockDriverState *to)
{
    for (guint i = 0; i < edges->len; i++) {
        move_edge(edges->pdata[i], to);
    }
}

/*
 * What is below @bs is not what it was: limits, lengths and "all is flushed" are to be found out anew
 * there and above (H4: a flush that is skipped as done was done to the node that is gone).
 */
static void changed_below(BlockDriverState *bs)
{
    BdrvChild *c;

    bs->write_gen++;
    bdrv_refresh_limits(bs);
    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds) {
            changed_below(c->opaque);
        }
    }
}

static void tell_moved(GPtrArray *edges, BlockDriverState *from, BlockDriverState *to)
{
    for (guint i = 0; i < edges->len; i++) {
        BdrvChild *c = edges->pdata[i];

        if (c->klass->parent_is_bds) {
            changed_below(c->opaque);
        }
        if (c->klass->resized && from->total_bytes != to->total_bytes) {
            c->klass->resized(c);
        }
    }
}

/* Users of @from that are to go to @to. */
static void gather_edges(GPtrArray *edges, BlockDriverState *from, BlockDriverState *to)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &from->parents, next_parent) {
        if (!c->klass->stay_at_node && !(c->klass->parent_is_bds && reaches(to, c->opaque))) {
            g_ptr_array_add(edges, c);
        }
    }
}

static int check_contexts(BlockDriverState *from, BlockDriverState *to, Error **errp)
{
    if (from->aio_context != to->aio_context) {
        error_setg(errp, "Node '%s' and node '%s' are in different iothreads",
                   bdrv_get_node_name(from), bdrv_get_node_name(to));
        return -EBUSY;
    }
    return 0;
}

int coroutine_fn bdrv_co_replace_node(BlockDriverState *from, BlockDriverState *to, Error **errp)
{
    BlockDriverState *both[2] = {from, to};
    g_autoptr(GPtrArray) edges = g_ptr_array_new();
    int ret;

    bdrv_co_drained_begin_list(both, 2); /* D4; takes references */
    ret = check_contexts(from, to, errp);
    if (ret == 0) {
        gather_edges(edges, from, to);
        move_edges(edges, to);
        ret = bdrv_perm_transaction(both, 2, errp);
        if (ret < 0) {
            move_edges(edges, from); /* the refused transaction has left permissions as they were */
        } else {
            tell_moved(edges, from, to);
            trace_bdrv_replace(from->node_name, to->node_name);
        }
    }
    bdrv_co_drained_end_list(both, 2);
    return ret;
}

int coroutine_fn bdrv_co_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing,
                                        Error **errp)
{
    BdrvChild *old;
    int ret = 0;

    if (!bs->drv->supports_backing) {
        error_setg(errp, "Driver '%s' of node '%s' does not support backing files",
                   bs->drv->format_name, bdrv_get_node_name(bs));
        return -ENOTSUP;
    }
    if (backing && backing->aio_context != bs->aio_context) {
        ret = bdrv_co_try_change_aio_context(backing, bs->aio_context, errp);
        if (ret < 0) {
            return ret;
        }
    }
    bdrv_co_drained_begin(bs);
    old = bs->backing;
    /* The new one first: if it is refused the old one is still there. */
    if (backing && !bdrv_attach_child(bs, backing, "backing", BDRV_CHILD_COW, errp)) {
        ret = -EPERM;
    } else {
        bdrv_co_unref_child(bs, old);
        changed_below(bs);
    }
    bdrv_co_drained_end(bs);
    return ret;
}
