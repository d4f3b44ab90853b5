/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Quiesce: the lock of the graph.
 *
 *       BlockBackend   job          drained_begin goes up: each user stops starting requests
 *            |          |           (a backend queues them, a job comes to a pause point)
 *            v          v
 *         [ raw ]-------+
 *            |                      drained_poll goes up: is a request in flight in the node,
 *            v                      or still to come from a user?
 *        [ file ]  <- bdrv_co_drained_begin(file)
 *
 * D1  A node is quiesced when its counter is above zero and neither it nor anything above it has a
 *     request in flight.  Nothing below it needs asking: requests come from above.
 * D2  Whoever starts a request counts it first (in_flight) and looks at the counter after; whoever
 *     quiesces raises the counter first and looks at in_flight after.  Both are sequentially
 *     consistent, so one of the two sees the other.
 * D3  An edge holds its parent quiesced exactly while its child is (quiesced_parent).  Edges that
 *     come, go or move while a node is quiesced keep that (child.c).
 * D4  The shape of the graph, permissions' effects on drivers and write observers of a node change only
 *     while it is quiesced, or in its home context; before-write notifiers are added only then.  Taken
 *     off they may be at any time: the list knows who stands where in it (N2 of util/notify.h).
 * D6  While a node is quiesced somebody waits for what is in flight in it, and so for what that has become in
 *     the nodes below: their drivers are told (waited_for), each once, and again when nobody waits any
 *     more.  Edges that come and go meanwhile keep that, as D3.
 * D5  The end of the last request kicks the waiter through a bottom half of the main context, so that
 *     a wake can be neither lost nor too early.
 */
#include "block/graph/internal.h"
#include "util/osdep.h"
#include "trace-graph.h"

static CoQueue drain_queue;
static int drain_waiters;       /* atomic */
static bool drain_kick_pending; /* atomic */

static void __attribute__((constructor)) drain_init(void)
{
    qemu_co_queue_init(&drain_queue);
}

void bdrv_parent_drained_begin(BdrvChild *c)
{
    if (!c->quiesced_parent) {
        c->quiesced_parent = true;
        if (c->klass->drained_begin) {
            c->klass->drained_begin(c);
        }
    }
}

void bdrv_parent_drained_end(BdrvChild *c)
{
    if (c->quiesced_parent) {
        c->quiesced_parent = false;
        if (c->klass->drained_end) {
            c->klass->drained_end(c);
        }
    }
}

/* D6 */
static void wait_begin(BlockDriverState *bs)
{
    BdrvChild *c;

    if (bs->waited_for++ > 0) {
        return;
    }
    if (bs->drv && bs->drv->life->drain_begin) {
        bs->drv->life->drain_begin(bs);
    }
    QLIST_FOREACH (c, &bs->children, next) {
        bdrv_child_wait_begin(c);
    }
}

static void wait_end(BlockDriverState *bs)
{
    BdrvChild *c;

    assert(bs->waited_for > 0);
    if (--bs->waited_for > 0) {
        return;
    }
    QLIST_FOREACH (c, &bs->children, next) {
        bdrv_child_wait_end(c);
    }
    if (bs->drv && bs->drv->life->drain_end) {
        bs->drv->life->drain_end(bs);
    }
}

void bdrv_child_wait_begin(BdrvChild *c)
{
    const BlockDriverState *parent = c->klass->parent_is_bds ? c->opaque : NULL;

    if (parent && parent->waited_for > 0 && !c->waited_for) {
        c->waited_for = true;
        wait_begin(c->bs);
    }
}

void bdrv_child_wait_end(BdrvChild *c)
{
    if (c->waited_for) {
        c->waited_for = false;
        wait_end(c->bs);
    }
}

void bdrv_quiesce_begin(BlockDriverState *bs)
{
    BdrvChild *c;

    if (__atomic_fetch_add(&bs->quiesce_counter, 1, __ATOMIC_SEQ_CST) > 0) { /* D2 */
        return;
    }
    trace_bdrv_quiesce(bs->node_name, true);
    QLIST_FOREACH (c, &bs->parents, next_parent) {
        bdrv_parent_drained_begin(c);
    }
    wait_begin(bs);
}

void bdrv_quiesce_end(BlockDriverState *bs)
{
    BdrvChild *c;
    int old = __atomic_fetch_sub(&bs->quiesce_counter, 1, __ATOMIC_SEQ_CST);

    assert(old > 0);
    if (old > 1) {
        return;
    }
    trace_bdrv_quiesce(bs->node_name, false);
    wait_end(bs);
    QLIST_FOREACH (c, &bs->parents, next_parent) {
        bdrv_parent_drained_end(c);
    }
}

/* D1 */
bool bdrv_quiesce_poll(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass->drained_poll && c->klass->drained_poll(c)) {
            return true;
        }
    }
    return __atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST) > 0;
}

static void drain_kick_bh(void *opaque)
{
    __atomic_store_n(&drain_kick_pending, false, __ATOMIC_SEQ_CST);
    qemu_co_queue_restart_all(&drain_queue);
}

void bdrv_drain_kick(void)
{
    if (__atomic_load_n(&drain_waiters, __ATOMIC_SEQ_CST) > 0 &&
        !__atomic_exchange_n(&drain_kick_pending, true, __ATOMIC_SEQ_CST)) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), drain_kick_bh, NULL); /* D5 */
    }
}

void bdrv_inc_in_flight(BlockDriverState *bs)
{
    __atomic_fetch_add(&bs->in_flight, 1, __ATOMIC_SEQ_CST);
}

void bdrv_dec_in_flight(BlockDriverState *bs)
{
    unsigned old = __atomic_fetch_sub(&bs->in_flight, 1, __ATOMIC_SEQ_CST);

    assert(old > 0);
    if (old == 1) {
        bdrv_drain_kick();
    }
}

static void coroutine_fn wait_until_idle(BlockDriverState **list, size_t n)
{
    size_t i = 0;

    __atomic_fetch_add(&drain_waiters, 1, __ATOMIC_SEQ_CST);
    while (i < n) {
        if (bdrv_quiesce_poll(list[i])) {
            qemu_co_queue_wait(&drain_queue, NULL);
            i = 0; /* a user of one may have gone on to another while we waited */
        } else {
            i++;
        }
    }
    __atomic_fetch_sub(&drain_waiters, 1, __ATOMIC_SEQ_CST);
}

void coroutine_fn bdrv_co_drained_begin_list(BlockDriverState **list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bdrv_ref(list[i]);
        bdrv_quiesce_begin(list[i]);
    }
    wait_until_idle(list, n);
}

void coroutine_fn bdrv_co_drained_end_list(BlockDriverState **list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bdrv_quiesce_end(list[i]);
    }
    for (size_t i = 0; i < n; i++) {
        bdrv_co_unref(list[i]);
    }
}

void coroutine_fn bdrv_co_drained_begin(BlockDriverState *bs)
{
    bdrv_co_drained_begin_list(&bs, 1);
}

void coroutine_fn bdrv_co_drained_end(BlockDriverState *bs)
{
    bdrv_co_drained_end_list(&bs, 1);
}

void bdrv_cancel_in_flight(BlockDriverState *bs)
{
    BdrvChild *c;

    if (bs->drv && bs->drv->life->cancel_in_flight) {
        bs->drv->life->cancel_in_flight(bs);
    }
    QLIST_FOREACH (c, &bs->children, next) {
        if (!(c->role & BDRV_CHILD_COW)) {
            bdrv_cancel_in_flight(c->bs);
        }
    }
}

/* A node that uses another, as parent of an edge. */
static char *bds_parent_desc(BdrvChild *c)
{
    BlockDriverState *parent = c->opaque;

    return g_strdup_printf("node '%s'", bdrv_get_node_name(parent));
}

static void bds_drained_begin(BdrvChild *c)
{
    bdrv_quiesce_begin(c->opaque);
}

static bool bds_drained_poll(BdrvChild *c)
{
    return bdrv_quiesce_poll(c->opaque);
}

static void bds_drained_end(BdrvChild *c)
{
    bdrv_quiesce_end(c->opaque);
}

static void bds_resized(BdrvChild *c)
{
    BlockDriverState *parent = c->opaque;

    if (c->role & (BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY) && parent->drv &&
        !parent->drv->data->co_getlength) {
        bdrv_notify_resized(parent, c->bs->total_bytes);
    }
}

const BdrvChildClass child_of_bds = {
    .parent_is_bds = true,
    .get_parent_desc = bds_parent_desc,
    .drained_begin = bds_drained_begin,
    .drained_poll = bds_drained_poll,
    .drained_end = bds_drained_end,
    .resized = bds_resized,
};
