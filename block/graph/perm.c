/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Permissions: what a user does with a node, and what it lets others do meanwhile.
 *
 * Each edge carries the pair (perm, shared).  A change at one edge is a transaction over everything
 * below it:
 *
 *    new_perm of the changed edge --> order the nodes below, parents first
 *                                 --> for each: do its users agree? may it be written?
 *                                              ask the driver what that means for its children
 *                                 --> drivers that must ask others (image locks) do so
 *                                 --> all agreed: commit.  Anyone refused: nothing has changed.
 *
 * P1  Outside a transaction new_perm == perm and new_shared == shared on every edge.
 * P2  No edge uses what another edge of the same node does not share.
 * P3  A driver's check_perm is followed by exactly one of set_perm and abort_perm.
 * P4  What a user of a node does not let happen below it (unshared_below) may be done there only through
 *     that node: the edges to its children do not share it.
 */
#include <string.h>
#include "block/graph/internal.h"
#include "util/osdep.h"

char *bdrv_perm_names(uint64_t perm)
{
    static const struct {
        uint64_t perm;
        const char *name;
    } names[] = {
        {BLK_PERM_CONSISTENT_READ, "consistent read"},
        {BLK_PERM_WRITE, "write"},
        {BLK_PERM_WRITE_UNCHANGED, "write unchanged"},
        {BLK_PERM_RESIZE, "resize"},
    };
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (perm & names[i].perm) {
            g_string_append_printf(s, "%s%s", s->len ? ", " : "", names[i].name);
        }
    }
    return g_string_free(s, FALSE);
}

void bdrv_get_cumulative_perm(BlockDriverState *bs, uint64_t *perm, uint64_t *shared)
{
    BdrvChild *c;
    uint64_t all_perm = 0, all_shared = BLK_PERM_ALL;

    QLIST_FOREACH (c, &bs->parents, next_parent) {
        all_perm |= c->new_perm;
        all_shared &= c->new_shared;
    }
    *perm = all_perm;
    *shared = all_shared;
}

/* P4: what the users of @bs leave to other users of its children. */
static uint64_t shared_below(BlockDriverState *bs, uint64_t shared)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->parents, next_parent) {
        shared &= ~c->unshared_below;
    }
    return shared;
}

void bdrv_default_perms(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                        uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    if (role & BDRV_CHILD_FILTERED) {
        *nperm = perm;
        *nshared = shared;
        return;
    }
    if (role & BDRV_CHILD_COW) {
        /* Others may change the backing file only if our users bear what they read changing. */
        *nperm = perm & BLK_PERM_CONSISTENT_READ;
        *nshared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
        if (shared & BLK_PERM_WRITE) {
            *nshared |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
        }
        return;
    }
    *nperm = perm;
    *nshared = shared;
    if (role & BDRV_CHILD_METADATA) {
        /* The image's own tables: read always, written when the node is writable, by us alone. */
        *nperm |= BLK_PERM_CONSISTENT_READ;
        if (bdrv_is_writable(bs)) {
            *nperm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
        }
        *nshared &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    } else if (role & BDRV_CHILD_DATA) {
        if (perm & BLK_PERM_WRITE) {
            *nperm |= BLK_PERM_RESIZE;
        }
    }
    if (bs->force_share) {
        *nshared = BLK_PERM_ALL;
    }
}

static void order_visit(BlockDriverState *bs, GHashTable *seen, GPtrArray *post)
{
    BdrvChild *c;

    if (!g_hash_table_add(seen, bs)) {
        return;
    }
    QLIST_FOREACH (c, &bs->children, next) {
        order_visit(c->bs, seen, post);
    }
    g_ptr_array_add(post, bs);
}

static char *describe_use(const BdrvChild *c)
{
    g_autofree char *who = c->klass->get_parent_desc((BdrvChild *)c);

    return g_strdup_printf("%s (uses node '%s' as '%s' child)", who, bdrv_get_node_name(c->bs),
                           c->name);
}

/* P2 */
static int check_users_agree(BlockDriverState *bs, Error **errp)
{
    BdrvChild *a, *b;

    QLIST_FOREACH (a, &bs->parents, next_parent) {
        QLIST_FOREACH (b, &bs->parents, next_parent) {
            uint64_t conflict = a->new_perm & ~b->new_shared;
            g_autofree char *names = NULL, *use_a = NULL, *use_b = NULL;

            if (a == b || !conflict) {
                continue;
            }
            names = bdrv_perm_names(conflict);
            use_a = describe_use(a);
            use_b = describe_use(b);
            error_setg(errp,
                       "Permission conflict on node '%s': permissions '%s' are both required by %s "
                       "and unshared by %s.",
                       bdrv_get_node_name(bs), names, use_a, use_b);
            return -EPERM;
        }
    }
    return 0;
}

static int check_node(BlockDriverState *bs, Error **errp)
{
    uint64_t perm, shared;
    BdrvChild *c;
    int ret = check_users_agree(bs, errp);

    if (ret < 0) {
        return ret;
    }
    bdrv_get_cumulative_perm(bs, &perm, &shared);
    if ((perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) && !bdrv_is_writable(bs)) {
        error_setg(errp, "Block node is read-only");
        return -EPERM;
    }
    if (!bs->drv) {
        return 0;
    }
    QLIST_FOREACH (c, &bs->children, next) {
        uint64_t nperm, nshared;

        (bs->drv->life->child_perm ? bs->drv->life->child_perm : bdrv_default_perms)(
            bs, c, c->role, perm, shared_below(bs, shared), &nperm, &nshared);
        c->new_perm = nperm & BLK_PERM_ALL;
        c->new_shared = nshared & BLK_PERM_ALL;
    }
    return 0;
}

/* Ask the drivers; @done counts those that agreed. */
static int check_drivers(GPtrArray *order, guint *done, Error **errp)
{
    for (*done = 0; *done < order->len; (*done)++) {
        BlockDriverState *bs = order->pdata[*done];
        uint64_t perm, shared;
        int ret;

        if (!bs->drv || !bs->drv->life->check_perm) {
            continue;
        }
        bdrv_get_cumulative_perm(bs, &perm, &shared);
        ret = bs->drv->life->check_perm(bs, perm, shared, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

static void finish(GPtrArray *order, guint checked, bool commit)
{
    for (guint i = 0; i < order->len; i++) {
        BlockDriverState *bs = order->pdata[i];
        uint64_t perm, shared;

        if (bs->drv && bs->drv->life->check_perm && i < checked) { /* P3 */
            if (commit) {
                bdrv_get_cumulative_perm(bs, &perm, &shared);
                bs->drv->life->set_perm(bs, perm, shared);
            } else {
                bs->drv->life->abort_perm(bs);
            }
        }
    }
    for (guint i = 0; i < order->len; i++) { /* P1 */
        BlockDriverState *bs = order->pdata[i];
        BdrvChild *c;

        QLIST_FOREACH (c, &bs->parents, next_parent) {
            if (commit && c->perm != c->new_perm) { /* what does not change is being read */
                c->perm = c->new_perm;
            }
            if (commit) {
                c->shared_perm = c->new_shared;
            } else {
                c->new_perm = c->perm;
                c->new_shared = c->shared_perm;
            }
        }
    }
}

int bdrv_perm_transaction(BlockDriverState **roots, size_t n_roots, Error **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    guint checked = 0;
    int ret = 0;

    for (size_t i = 0; i < n_roots; i++) {
        order_visit(roots[i], seen, order);
    }
    /* Post order lists children first; parents must be computed first. */
    for (guint i = 0; i < order->len / 2; i++) {
        void *tmp = order->pdata[i];

        order->pdata[i] = order->pdata[order->len - 1 - i];
        order->pdata[order->len - 1 - i] = tmp;
    }
    for (guint i = 0; i < order->len && ret == 0; i++) {
        ret = check_node(order->pdata[i], errp);
    }
    if (ret == 0) {
        ret = check_drivers(order, &checked, errp);
    }
    finish(order, checked, ret == 0);
    return ret;
}

int bdrv_refresh_perms(BlockDriverState *bs, Error **errp)
{
    return bdrv_perm_transaction(&bs, 1, errp);
}

int bdrv_refresh_perms_list(BlockDriverState **list, size_t n, Error **errp)
{
    return bdrv_perm_transaction(list, n, errp);
}

int bdrv_child_try_set_perm(BdrvChild *c, uint64_t perm, uint64_t shared, Error **errp)
{
    if (c->perm == perm && c->shared_perm == shared) {
        return 0;
    }
    c->new_perm = perm;
    c->new_shared = shared;
    return bdrv_perm_transaction(&c->bs, 1, errp);
}

int bdrv_child_unshare_below(BdrvChild *c, uint64_t perm, Error **errp)
{
    uint64_t before = c->unshared_below;
    int ret;

    c->unshared_below = perm;
    ret = bdrv_refresh_perms(c->bs, errp);
    if (ret < 0) {
        c->unshared_below = before;
    }
    return ret;
}
