/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockBackend: a user's handle on a node.
 *
 *      NBD client   job        main thread: name, attach, permissions, quiesce
 *           |        |                |
 *           v        v                v
 *      +-------------------------------------+   blk_co_*(): count, held back while quiesced?
 *      | BlockBackend  in_flight, quiesced   |   inside the length? then down the root edge
 *      +-------------------------------------+
 *           | root (a BdrvChild: perm, shared)
 *           v
 *        [ node ]
 *
 * B1  A request is counted in in_flight first and looks at quiesce_counter after; the quiesce raises
 *     its counter first and looks at in_flight after.  Both are sequentially consistent: one of the
 *     two sees the other, so no request slips past a quiesce that thinks it is over.
 * B2  A request that finds the backend quiesced takes its count back before it waits, or the quiesce
 *     would wait for a request that waits for the quiesce.
 * B3  A waiter looks at quiesce_counter again under wait_lock before it queues itself, and the end
 *     of the quiesce takes the lock to wake: no waiter is left behind.
 * B4  root changes only in the main thread and while the node is quiesced: a counted request may use
 *     it without a lock.
 * B5  With disable_request_queuing requests pass a quiesce, and are waited for.  Its user stops by
 *     itself (a job pauses) and says so through its own drained_poll.
 *
 * request.c has B1 to B3, this file B4; error.c the policies, accounting.c the counts.
 */
#include <string.h>
#include "block/backend/backend-int.h"
#include "util/osdep.h"

static QTAILQ_HEAD(, BlockBackend) named_backends = QTAILQ_HEAD_INITIALIZER(named_backends);

static char *root_get_parent_desc(BdrvChild *c)
{
    return g_strdup(blk_get_desc(c->opaque));
}

static void root_drained_begin(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (__atomic_fetch_add(&blk->quiesce_counter, 1, __ATOMIC_SEQ_CST) == 0 && blk->dev_ops &&
        blk->dev_ops->drained_begin) {
        blk->dev_ops->drained_begin(blk->dev_opaque);
    }
}

static bool root_drained_poll(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    assert(blk->quiesce_counter > 0);
    if (__atomic_load_n(&blk->in_flight, __ATOMIC_SEQ_CST) > 0) { /* B1 */
        return true;
    }
    return blk->dev_ops && blk->dev_ops->drained_poll &&
           blk->dev_ops->drained_poll(blk->dev_opaque);
}

static void root_drained_end(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;
    int old = __atomic_fetch_sub(&blk->quiesce_counter, 1, __ATOMIC_SEQ_CST);

    assert(old > 0);
    if (old > 1) {
        return;
    }
    if (blk->dev_ops && blk->dev_ops->drained_end) {
        blk->dev_ops->drained_end(blk->dev_opaque);
    }
    blk_wake_waiters(blk);
}

static bool root_can_change_aio_context(BdrvChild *c, AioContext *ctx, Error **errp)
{
    BlockBackend *blk = c->opaque;

    if (blk->dev_ops && blk->dev_ops->can_change_aio_context) {
        return blk->dev_ops->can_change_aio_context(blk->dev_opaque, ctx, errp);
    }
    return true;
}

static void root_set_aio_context(BdrvChild *c, AioContext *ctx)
{
    BlockBackend *blk = c->opaque;

    if (blk->dev_ops && blk->dev_ops->aio_context_changed) {
        blk->dev_ops->aio_context_changed(blk->dev_opaque, ctx);
    }
}

static void root_resized(BdrvChild *c)
{
    BlockBackend *blk = c->opaque;

    if (blk->dev_ops && blk->dev_ops->resized) {
        blk->dev_ops->resized(blk->dev_opaque);
    }
}

static const BdrvChildClass child_root = {
    .get_parent_desc = root_get_parent_desc,
    .drained_begin = root_drained_begin,
    .drained_poll = root_drained_poll,
    .drained_end = root_drained_end,
    .can_change_aio_context = root_can_change_aio_context,
    .set_aio_context = root_set_aio_context,
    .resized = root_resized,
};

BlockBackend *blk_new(uint64_t perm, uint64_t shared_perm)
{
    BlockBackend *blk = g_new0(BlockBackend, 1);

    blk->refcnt = 1;
    blk->name = g_strdup("");
    blk->perm = perm;
    blk->shared_perm = shared_perm;
    blk->enable_write_cache = true;
    blk->on_read_error = BLOCKDEV_ON_ERROR_REPORT;
    blk->on_write_error = BLOCKDEV_ON_ERROR_ENOSPC;
    g_mutex_init(&blk->wait_lock);
    QSIMPLEQ_INIT(&blk->waiters);
    return blk;
}

void blk_ref(BlockBackend *blk)
{
    assert(blk->refcnt > 0);
    blk->refcnt++;
}

void coroutine_fn blk_co_unref(BlockBackend *blk)
{
    if (!blk) {
        return;
    }
    assert(blk->refcnt > 0);
    if (blk->refcnt > 1) {
        blk->refcnt--;
        return;
    }
    blk_co_remove_bs(blk); /* yields: still ours, with a count, meanwhile */
    if (--blk->refcnt > 0) {
        return;
    }
    assert(blk->in_flight == 0);
    assert(blk->quiesce_counter == 0);
    assert(QSIMPLEQ_EMPTY(&blk->waiters));
    if (*blk->name) {
        QTAILQ_REMOVE(&named_backends, blk, named_list);
    }
    g_mutex_clear(&blk->wait_lock);
    g_free(blk->name);
    g_free(blk->desc);
    g_free(blk);
}

static void make_desc(BlockBackend *blk)
{
    blk->desc = *blk->name ? g_strdup_printf("block device '%s'", blk->name)
                           : g_strdup("an unnamed block device");
}

void blk_set_desc(BlockBackend *blk, const char *desc)
{
    g_free(blk->desc);
    blk->desc = g_strdup(desc);
}

const char *blk_get_desc(const BlockBackend *blk)
{
    if (!blk->desc) {
        make_desc((BlockBackend *)blk);
    }
    return blk->desc;
}

bool blk_set_name(BlockBackend *blk, const char *name, Error **errp)
{
    assert(!*blk->name);
    if (!*name) {
        error_setg(errp, "Invalid device name");
        return false;
    }
    if (blk_by_name(name)) {
        error_setg(errp, "Device with id '%s' already exists", name);
        return false;
    }
    if (bdrv_find_node(name)) {
        error_setg(errp, "Device name '%s' conflicts with an existing node name", name);
        return false;
    }
    g_free(blk->name);
    blk->name = g_strdup(name);
    QTAILQ_INSERT_TAIL(&named_backends, blk, named_list);
    g_clear_pointer(&blk->desc, g_free);
    return true;
}

const char *blk_name(const BlockBackend *blk)
{
    return blk->name;
}

BlockBackend *blk_by_name(const char *name)
{
    BlockBackend *blk;

    QTAILQ_FOREACH (blk, &named_backends, named_list) {
        if (strcmp(blk->name, name) == 0) {
            return blk;
        }
    }
    return NULL;
}

BlockBackend *blk_next_named(BlockBackend *blk)
{
    return blk ? QTAILQ_NEXT(blk, named_list) : QTAILQ_FIRST(&named_backends);
}

void blk_set_dev_ops(BlockBackend *blk, const BlockDevOps *ops, void *opaque)
{
    assert(!ops || !blk->dev_ops);
    blk->dev_ops = ops;
    blk->dev_opaque = opaque;
    if (ops && blk->quiesce_counter > 0 && ops->drained_begin) {
        ops->drained_begin(opaque);
    }
}

int blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp)
{
    BdrvChild *root;

    assert(!blk->root);
    root = bdrv_root_attach_child(bs, "root", &child_root, BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                                  blk->perm, blk->shared_perm, blk, errp);
    if (!root) {
        return -EPERM;
    }
    blk->root = root;
    return 0;
}

void coroutine_fn blk_co_remove_bs(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);
    BdrvChild *root;

    if (!bs) {
        return;
    }
    bdrv_ref(bs);
    bdrv_co_drained_begin(bs); /* B4 */
    root = blk->root;
    blk->root = NULL;
    bdrv_co_root_unref_child(root);
    bdrv_co_drained_end(bs);
    bdrv_co_unref(bs);
}

BlockDriverState *blk_bs(BlockBackend *blk)
{
    return child_bs(blk->root);
}

BdrvChild *blk_root(BlockBackend *blk)
{
    return blk->root;
}

int blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared_perm, Error **errp)
{
    if (blk->root) {
        int ret = bdrv_child_try_set_perm(blk->root, perm, shared_perm, errp);

        if (ret < 0) {
            return ret;
        }
    }
    blk->perm = perm;
    blk->shared_perm = shared_perm;
    return 0;
}

AioContext *blk_get_aio_context(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    return bs ? bdrv_get_aio_context(bs) : qemu_get_aio_context();
}

void blk_set_enable_write_cache(BlockBackend *blk, bool enable)
{
    __atomic_store_n(&blk->enable_write_cache, enable, __ATOMIC_RELAXED);
}

bool blk_get_enable_write_cache(const BlockBackend *blk)
{
    return __atomic_load_n(&blk->enable_write_cache, __ATOMIC_RELAXED);
}

int64_t blk_getlength(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    return bs ? bdrv_getlength(bs) : -ENOMEDIUM;
}

uint32_t blk_get_request_alignment(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    return bs ? bs->bl.request_alignment : 1;
}

int64_t blk_get_max_transfer(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);
    int64_t max = BDRV_REQUEST_MAX_BYTES;

    if (bs && bs->bl.max_transfer > 0) {
        max = MIN(max, bs->bl.max_transfer);
    }
    return ROUND_DOWN(max, (int64_t)blk_get_request_alignment(blk));
}

bool blk_is_writable(BlockBackend *blk)
{
    return (blk->perm & BLK_PERM_WRITE) && blk_bs(blk) && bdrv_is_writable(blk_bs(blk));
}

BlockAcctStats *blk_get_stats(BlockBackend *blk)
{
    return &blk->stats;
}

static BlockDriverState *lookup_device(const char *device)
{
    BlockBackend *blk = blk_by_name(device);

    return blk ? blk_bs(blk) : NULL;
}

static const char *device_name(const BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass == &child_root && *blk_name(c->opaque)) {
            return blk_name(c->opaque);
        }
    }
    return NULL;
}

void blk_init(void)
{
    bdrv_lookup_device_hook = lookup_device;
    bdrv_device_name_hook = device_name;
}
