/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes: their names, their life, their limits and length.
 *
 *   bdrv_new() ---> opened by the open room ---> used through edges ---> last reference gone:
 *                                                 flushed, closed by the driver, children dropped
 *
 * G1  Every edge holds a reference on its child, so a node with a user is never closed.
 * G2  A node is closed with nothing in flight, and flushed before its driver lets go (H1, H4).
 * G3  Closing takes a while.  From its beginning nobody finds the node, so that none begins to use what
 *     is going; who held it without an edge (a quiesce of its neighbours) keeps its memory, not its driver.
 */
#include <errno.h>
#include <string.h>
#include "block/graph/internal.h"
#include "util/cutils.h"
#include "util/osdep.h"
#include "trace-graph.h"

static QTAILQ_HEAD(, BlockDriverState) all_nodes = QTAILQ_HEAD_INITIALIZER(all_nodes);
BdrvIoHooks bdrv_io_hooks;
BlockDriverState *(*bdrv_lookup_device_hook)(const char *device);
const char *(*bdrv_device_name_hook)(const BlockDriverState *bs);

/* Longest node name: what QEMU takes, so that names can move between the two. */
#define NODE_NAME_MAX 31

static char *make_up_name(void)
{
    static unsigned next = 100;

    for (;;) {
        char *name = g_strdup_printf("#block%03u", next++);

        if (!bdrv_find_node(name)) {
            return name;
        }
        g_free(name);
    }
}

static bool check_name(const char *name, Error **errp)
{
    if (!id_wellformed(name)) {
        error_setg(errp, "Invalid node-name: '%s'", name);
        return false;
    }
    if (strlen(name) > NODE_NAME_MAX) {
        error_setg(errp, "Node name too long");
        return false;
    }
    if (bdrv_lookup_device_hook && bdrv_lookup_device_hook(name)) {
        error_setg(errp, "node-name=%s is conflicting with a device id", name);
        return false;
    }
    if (bdrv_find_node(name)) {
        error_setg(errp, "Duplicate nodes with node-name='%s'", name);
        return false;
    }
    return true;
}

BlockDriverState *bdrv_new(const BlockDriver *drv, const char *node_name, Error **errp)
{
    BlockDriverState *bs;

    if (node_name && !check_name(node_name, errp)) {
        return NULL;
    }
    bs = g_new0(BlockDriverState, 1);
    bs->drv = drv;
    bs->opaque = drv->instance_size ? g_malloc0(drv->instance_size) : NULL;
    bs->node_name = node_name ? g_strdup(node_name) : make_up_name();
    bs->filename = g_strdup("");
    bs->aio_context = qemu_get_aio_context();
    bs->refcnt = 1;
    bs->write_gen = 1; /* H4: who was killed may have left writes in the host's memory */
    bs->bl.request_alignment = 1;
    QLIST_INIT(&bs->children);
    QLIST_INIT(&bs->parents);
    QLIST_INIT(&bs->op_blockers);
    QLIST_INIT(&bs->dirty_bitmaps);
    QLIST_INIT(&bs->tracked_requests);
    QLIST_INIT(&bs->write_observers);
    QLIST_INIT(&bs->latency_observers);
    notifier_with_return_list_init(&bs->before_write_notifiers);
    qemu_co_queue_init(&bs->flush_queue);
    QTAILQ_INSERT_TAIL(&all_nodes, bs, all_list);
    trace_bdrv_node_new(bs->node_name, drv->format_name);
    return bs;
}

void bdrv_ref(BlockDriverState *bs)
{
    bs->refcnt++;
}

static void coroutine_fn flush_at_home(BlockDriverState *bs)
{
    AioContext *home = bs->aio_context, *here = qemu_get_current_aio_context();

    if (!bdrv_io_hooks.co_flush || bdrv_is_read_only(bs)) {
        return;
    }
    if (home != here) {
        aio_co_reschedule_self(home);
    }
    /* Nobody is left to tell of an error; users who care flushed before they let go. */
    bdrv_io_hooks.co_flush(bs);
    if (home != here) {
        aio_co_reschedule_self(here);
    }
}

/* G2 */
static void coroutine_fn close_node(BlockDriverState *bs)
{
    BdrvWriteObserver *obs;
    BdrvChild *c;

    trace_bdrv_node_close(bs->node_name);
    assert(QLIST_EMPTY(&bs->parents)); /* G1 */
    /* Their owners have an edge here while they are on the node. */
    assert(!bs->read_guard && QLIST_EMPTY(&bs->latency_observers));
    bdrv_co_drained_begin(bs);
    if (bs->total_bytes >= 0 && !bs->given_up) {
        flush_at_home(bs);
        if (bs->drv && bs->drv->bitmaps) {
            bs->drv->bitmaps->co_store(bs);
        }
    }
    while ((obs = QLIST_FIRST(&bs->write_observers))) {
        bdrv_remove_write_observer(obs);
        if (obs->node_closed) {
            obs->node_closed(obs);
        }
    }
    bdrv_co_drained_end(bs);
    if (bs->drv && bs->drv->life->co_close) {
        bs->drv->life->co_close(bs);
    }
    bs->drv = NULL;
    while ((c = QLIST_FIRST(&bs->children))) {
        bdrv_co_unref_child(bs, c);
    }
}

void coroutine_fn bdrv_co_unref(BlockDriverState *bs)
{
    if (!bs) {
        return;
    }
    assert(bs->refcnt > 0);
    if (--bs->refcnt > 0) {
        return;
    }
    if (!bs->closing) {
        bs->closing = true; /* nobody finds it any more, but its iothread must stay (G3) */
        bs->refcnt++;
        close_node(bs);
        if (--bs->refcnt > 0) {
            return; /* a quiesce of its neighbours still holds it: then that one frees it */
        }
    }
    QTAILQ_REMOVE(&all_nodes, bs, all_list);
    while (!QLIST_EMPTY(&bs->op_blockers)) {
        bdrv_op_unblock(QLIST_FIRST(&bs->op_blockers));
    }
    qemu_co_queue_destroy(&bs->flush_queue);
    qapi_free_BlockdevOptions(bs->options);
    g_free(bs->opaque);
    g_free(bs->node_name);
    g_free(bs->filename);
    g_free(bs->backing_file);
    g_free(bs->backing_format);
    g_free(bs);
}

BlockDriverState *bdrv_find_node(const char *node_name)
{
    BlockDriverState *bs;

    QTAILQ_FOREACH (bs, &all_nodes, all_list) {
        if (!bs->closing && strcmp(bs->node_name, node_name) == 0) {
            return bs;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_lookup_bs(const char *device, const char *node_name, Error **errp)
{
    BlockDriverState *bs = NULL;

    if (device && bdrv_lookup_device_hook) {
        bs = bdrv_lookup_device_hook(device);
    }
    if (!bs && node_name) {
        bs = bdrv_find_node(node_name);
    }
    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'", device ? device : "",
                   node_name ? node_name : "");
    }
    return bs;
}

BlockDriverState *bdrv_next_node(BlockDriverState *bs)
{
    do {
        bs = bs ? QTAILQ_NEXT(bs, all_list) : QTAILQ_FIRST(&all_nodes);
    } while (bs && bs->closing);
    return bs;
}

void bdrv_for_each_node(void (*fn)(BlockDriverState *bs, void *opaque), void *opaque)
{
    BlockDriverState *bs;

    QTAILQ_FOREACH (bs, &all_nodes, all_list) {
        fn(bs, opaque);
    }
}

bool bdrv_context_has_nodes(const AioContext *ctx)
{
    BlockDriverState *bs;

    QTAILQ_FOREACH (bs, &all_nodes, all_list) {
        if (bs->aio_context == ctx) {
            return true;
        }
    }
    return false;
}

const char *bdrv_get_node_name(const BlockDriverState *bs)
{
    return bs->node_name;
}

const char *bdrv_get_device_or_node_name(const BlockDriverState *bs)
{
    const char *device = bdrv_device_name_hook ? bdrv_device_name_hook(bs) : NULL;

    return device && *device ? device : bs->node_name;
}

AioContext *bdrv_get_aio_context(const BlockDriverState *bs)
{
    return bs->aio_context;
}

BdrvChild *bdrv_filter_or_cow_child(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->children, next) {
        if (c->role & (BDRV_CHILD_FILTERED | BDRV_CHILD_COW)) {
            return c;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_skip_filters(BlockDriverState *bs)
{
    while (bs && bs->drv && bs->drv->is_filter) {
        bs = child_bs(bdrv_filter_or_cow_child(bs));
    }
    return bs;
}

BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs)
{
    bs = bdrv_skip_filters(bs);
    return bs ? bdrv_skip_filters(child_bs(bs->backing)) : NULL;
}

bool bdrv_chain_contains(BlockDriverState *top, BlockDriverState *base)
{
    while (top && top != base) {
        top = child_bs(bdrv_filter_or_cow_child(top));
    }
    return top != NULL;
}

int64_t bdrv_getlength(BlockDriverState *bs)
{
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    return bs->total_bytes;
}

void bdrv_notify_resized(BlockDriverState *bs, int64_t new_bytes)
{
    BdrvWriteObserver *obs;
    BdrvChild *c;
    bool changed = bs->total_bytes != new_bytes;

    bs->total_bytes = new_bytes;
    if (!changed || new_bytes < 0) {
        return;
    }
    QLIST_FOREACH (obs, &bs->write_observers, list) {
        if (obs->resized) {
            obs->resized(obs, new_bytes);
        }
    }
    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass->resized) {
            c->klass->resized(c);
        }
    }
}

int coroutine_fn bdrv_co_refresh_total(BlockDriverState *bs)
{
    int64_t bytes;

    if (bs->drv->data->co_getlength) {
        bytes = bs->drv->data->co_getlength(bs);
    } else {
        BdrvChild *c;

        bytes = bs->file ? bs->file->bs->total_bytes : -ENOMEDIUM;
        QLIST_FOREACH (c, &bs->children, next) {
            if (c->role & (BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY)) {
                bytes = c->bs->total_bytes;
                break;
            }
        }
    }
    bdrv_notify_resized(bs, bytes);
    return bytes < 0 ? bytes : 0;
}

static int64_t min_nonzero(int64_t a, int64_t b)
{
    return a == 0 ? b : b == 0 ? a : MIN(a, b);
}

void bdrv_refresh_limits(BlockDriverState *bs)
{
    BlockLimits *bl = &bs->bl;
    BdrvChild *c;

    memset(bl, 0, sizeof(*bl));
    bs->supported_write_flags = 0;
    bs->supported_zero_flags = 0;
    QLIST_FOREACH (c, &bs->children, next) {
        const BlockLimits *lower = &c->bs->bl;

        if (c->role & (BDRV_CHILD_DATA | BDRV_CHILD_FILTERED | BDRV_CHILD_COW)) {
            bl->opt_transfer = MAX(bl->opt_transfer, lower->opt_transfer);
            bl->max_transfer = min_nonzero(bl->max_transfer, lower->max_transfer);
            bl->min_mem_alignment = MAX(bl->min_mem_alignment, lower->min_mem_alignment);
            bl->max_iov = min_nonzero(bl->max_iov, lower->max_iov);
        }
    }
    if (bs->drv && bs->drv->life->refresh_limits) {
        bs->drv->life->refresh_limits(bs);
    }
    bl->request_alignment = MAX(bl->request_alignment, 1u);
    assert(is_power_of_2(bl->request_alignment));
}

size_t bdrv_min_mem_align(BlockDriverState *bs)
{
    /* A page costs nothing more than a sector and suits O_DIRECT everywhere. */
    return MAX(bs ? bs->bl.min_mem_alignment : 0u, 4096u);
}

void *qemu_blockalign(BlockDriverState *bs, size_t bytes)
{
    return qemu_memalign(bdrv_min_mem_align(bs), bytes);
}

void *qemu_try_blockalign(BlockDriverState *bs, size_t bytes)
{
    return qemu_try_memalign(bdrv_min_mem_align(bs), bytes);
}

bool bdrv_is_read_only(const BlockDriverState *bs)
{
    return bs->read_only;
}

bool bdrv_is_writable(const BlockDriverState *bs)
{
    return !bs->read_only && !(bs->open_flags & BDRV_O_INACTIVE);
}
