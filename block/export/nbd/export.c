/* SPDX-License-Identifier: GPL-2.0-or-later */
/* export.c - what is exported: the kind "nbd" of the export room, its options, its place in a quiesce */
#include <errno.h>
#include "block/export/nbd-server.h"
#include "block/export/nbd/nbd-int.h"

/* Main thread. */
static QTAILQ_HEAD(, NbdExport) nbd_exports = QTAILQ_HEAD_INITIALIZER(nbd_exports);
static uint64_t nbd_next_serial = 1;

static NbdExport *to_nbd(BlockExport *exp)
{
    return container_of(exp, NbdExport, common);
}

NbdExport *nbd_export_find(const char *name, size_t length)
{
    NbdExport *exp;

    QTAILQ_FOREACH (exp, &nbd_exports, next) {
        if (strlen(exp->name) == length && memcmp(exp->name, name, length) == 0) {
            return exp;
        }
    }
    return NULL;
}

NbdExport *nbd_export_next(NbdExport *exp)
{
    return exp ? QTAILQ_NEXT(exp, next) : QTAILQ_FIRST(&nbd_exports);
}

uint16_t nbd_export_flags(const NbdExport *exp, NbdMode mode)
{
    uint16_t flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

    if (nbd_server_has_room_for_two()) {
        flags |= NBD_FLAG_CAN_MULTI_CONN; /* N5 */
    }
    if (exp->read_only) {
        flags |= NBD_FLAG_READ_ONLY;
    } else {
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    }
    return mode == NBD_MODE_SIMPLE ? flags : flags | NBD_FLAG_SEND_DF;
}

int64_t nbd_export_size(const NbdExport *exp)
{
    return MAX(blk_getlength(exp->common.blk), 0); /* without a medium nothing is in range */
}

void nbd_export_attach(NbdExport *exp, NbdClient *client)
{
    blk_exp_ref(&exp->common);
    client->exp = exp;
    nbd_client_set_context(client, exp->common.ctx);
    if (exp->quiesced) {
        nbd_client_drained_begin(client);
    }
    QTAILQ_INSERT_TAIL(&exp->clients, client, next);
}

void nbd_export_detach(NbdClient *client)
{
    NbdExport *exp = client->exp;

    QTAILQ_REMOVE(&exp->clients, client, next);
    client->exp = NULL;
    blk_exp_unref(&exp->common);
}

static void nbd_drained_begin(void *opaque)
{
    NbdExport *exp = opaque;
    NbdClient *client;

    exp->quiesced++;
    QTAILQ_FOREACH (client, &exp->clients, next) {
        nbd_client_drained_begin(client);
    }
}

static bool nbd_drained_poll(void *opaque)
{
    NbdExport *exp = opaque;
    NbdClient *client;

    QTAILQ_FOREACH (client, &exp->clients, next) {
        if (nbd_client_drained_poll(client)) {
            return true;
        }
    }
    return false;
}

static void nbd_drained_end(void *opaque)
{
    NbdExport *exp = opaque;
    NbdClient *client;

    assert(exp->quiesced > 0);
    if (--exp->quiesced > 0) {
        return;
    }
    QTAILQ_FOREACH (client, &exp->clients, next) {
        nbd_client_drained_end(client);
    }
}

static bool nbd_can_change_context(void *opaque, AioContext *ctx, Error **errp)
{
    NbdExport *exp = opaque;

    return blk_exp_can_change_aio_context(&exp->common, errp);
}

static void nbd_context_changed(void *opaque, AioContext *ctx)
{
    NbdExport *exp = opaque;
    NbdClient *client;

    blk_exp_aio_context_changed(&exp->common, ctx);
    QTAILQ_FOREACH (client, &exp->clients, next) {
        nbd_client_set_context(client, ctx);
    }
}

/* Lengths are asked for with each request, so a resize needs no word of ours. */
static const BlockDevOps nbd_dev_ops = {
    .drained_begin = nbd_drained_begin,
    .drained_poll = nbd_drained_poll,
    .drained_end = nbd_drained_end,
    .can_change_aio_context = nbd_can_change_context,
    .aio_context_changed = nbd_context_changed,
};

/* A bitmap by its name, of the exported node or of the chain under it. */
static BdrvDirtyBitmap *find_bitmap(BlockDriverState *bs, const BlockDirtyBitmapOrStr *which,
                                    Error **errp)
{
    BdrvDirtyBitmap *bitmap = NULL;
    const char *name = which->type == QTYPE_QSTRING ? which->u.local : which->u.external.name;

    if (which->type == QTYPE_QSTRING) {
        for (; bs && !bitmap; bs = child_bs(bdrv_filter_or_cow_child(bs))) {
            bitmap = bdrv_find_dirty_bitmap(bs, name);
        }
    } else {
        bs = bdrv_lookup_bs(which->u.external.node, which->u.external.node, errp);
        if (!bs) {
            return NULL;
        }
        bitmap = bdrv_find_dirty_bitmap(bs, name);
    }
    if (!bitmap) {
        error_setg(errp, "Bitmap '%s' is not found", name);
    }
    return bitmap;
}

static int check_bitmap(const NbdExport *exp, BlockDriverState *bs, BdrvDirtyBitmap *bitmap,
                        Error **errp)
{
    BlockDriverState *owner = bdrv_dirty_bitmap_bs(bitmap);
    int r = bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_ALLOW_RO, errp);

    if (r < 0) {
        return r;
    }
    /* Clients of a read-only export expect what they see to stand still. */
    if (exp->read_only && bdrv_is_writable(bs) && bdrv_dirty_bitmap_enabled(bitmap)) {
        error_setg(errp, "Enabled bitmap '%s' incompatible with readonly export",
                   bdrv_dirty_bitmap_name(bitmap));
        return -EINVAL;
    }
    if (bdrv_get_aio_context(owner) != bdrv_get_aio_context(bs)) {
        error_setg(errp, "Bitmap '%s' of node '%s' is in another AioContext than node '%s'",
                   bdrv_dirty_bitmap_name(bitmap), bdrv_get_node_name(owner),
                   bdrv_get_node_name(bs));
        return -EINVAL;
    }
    return 0;
}

static int take_bitmaps(NbdExport *exp, BlockDriverState *bs, const BlockExportOptionsNbd *opts,
                        Error **errp)
{
    const BlockDirtyBitmapOrStrList *item;
    size_t count = 0;

    for (item = opts->bitmaps; item; item = item->next) {
        count++;
    }
    exp->bitmaps = g_new0(BdrvDirtyBitmap *, count);
    for (item = opts->bitmaps; item; item = item->next) {
        BdrvDirtyBitmap *bitmap = find_bitmap(bs, item->value, errp);
        int r = bitmap ? check_bitmap(exp, bs, bitmap, errp) : -ENOENT;

        if (r < 0) {
            return r;
        }
        bdrv_dirty_bitmap_set_busy(bitmap, true);
        bdrv_ref(bdrv_dirty_bitmap_bs(bitmap)); /* who exports it may go on with another node */
        exp->bitmaps[exp->n_bitmaps++] = bitmap;
    }
    return 0;
}

static void coroutine_fn release_all(NbdExport *exp)
{
    for (size_t i = 0; i < exp->n_bitmaps; i++) {
        BlockDriverState *owner = bdrv_dirty_bitmap_bs(exp->bitmaps[i]);

        bdrv_dirty_bitmap_set_busy(exp->bitmaps[i], false);
        bdrv_co_unref(owner);
    }
    g_free(exp->bitmaps);
    g_free(exp->name);
    g_free(exp->description);
}

static int check_options(const char *name, const BlockExportOptionsNbd *opts, Error **errp)
{
    if (!nbd_server_is_running()) {
        error_setg(errp, "NBD server not running");
        return -EINVAL;
    }
    if (strlen(name) > NBD_MAX_STRING) {
        error_setg(errp, "export name '%s' too long", name);
        return -EINVAL;
    }
    if (opts->description && strlen(opts->description) > NBD_MAX_STRING) {
        error_setg(errp, "description '%s' too long", opts->description);
        return -EINVAL;
    }
    if (nbd_export_find(name, strlen(name))) {
        error_setg(errp, "NBD server already has export named '%s'", name);
        return -EEXIST;
    }
    return 0;
}

static int coroutine_fn nbd_co_create(BlockExport *common, const BlockExportOptions *opts,
                                      Error **errp)
{
    NbdExport *exp = to_nbd(common);
    const BlockExportOptionsNbd *nbd = &opts->u.nbd;
    const char *name = nbd->name ? nbd->name : opts->node_name;
    int r = check_options(name, nbd, errp);

    if (r < 0) {
        return r;
    }
    exp->serial = nbd_next_serial++;
    exp->name = g_strdup(name);
    exp->description = g_strdup(nbd->description);
    exp->read_only = !(opts->has_writable && opts->writable);
    exp->allocation_depth = nbd->has_allocation_depth && nbd->allocation_depth;
    exp->max_executing = blk_bs(common->blk)->bl.max_in_flight;
    QTAILQ_INIT(&exp->clients);
    r = take_bitmaps(exp, blk_bs(common->blk), nbd, errp);
    if (r < 0) {
        release_all(exp);
        return r;
    }
    blk_set_disable_request_queuing(common->blk, true); /* N4 */
    blk_set_dev_ops(common->blk, &nbd_dev_ops, exp);
    QTAILQ_INSERT_TAIL(&nbd_exports, exp, next);
    return 0;
}

static void nbd_request_shutdown(BlockExport *common)
{
    NbdExport *exp = to_nbd(common);
    NbdClient *client;

    QTAILQ_REMOVE(&nbd_exports, exp, next);
    QTAILQ_FOREACH (client, &exp->clients, next) {
        nbd_client_shutdown(client);
    }
}

static void coroutine_fn nbd_co_delete(BlockExport *common)
{
    NbdExport *exp = to_nbd(common);

    assert(QTAILQ_EMPTY(&exp->clients));
    blk_set_dev_ops(common->blk, NULL, NULL);
    release_all(exp);
}

static const BlockExportDriver nbd_export_driver = {
    .type = BLOCK_EXPORT_TYPE_NBD,
    .instance_size = sizeof(NbdExport),
    .co_create = nbd_co_create,
    .request_shutdown = nbd_request_shutdown,
    .co_delete = nbd_co_delete,
};

void nbd_export_register(void)
{
    blk_exp_register_driver(&nbd_export_driver);
}
