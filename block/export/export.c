/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports by id.
 *
 *   block-export-add ──▶ node ──▶ (move it to the iothread) ──▶ BlockBackend ──▶ the kind's co_create
 *
 *            user's reference          clients' references
 *                  │                          │
 *   SET UP ──▶ RUNNING ── request_shutdown ──▶ SHUTTING DOWN ── the last reference goes ──▶ gone
 *
 * E1  An id is taken until BLOCK_EXPORT_DELETED has been emitted; a command that sees it gone sees the
 *     node free as well.
 * E2  A client holds a reference.  Ending an export takes no new clients, cuts the ones there are, and
 *     then waits for what they have in flight; nothing is taken from under a request.
 * E3  An export holds its iothread object, so that cannot be deleted.  Who leaves an iothread last takes
 *     the tree back to the main context.  Whenever a tree moves, for whatever reason, a client may still
 *     wait for its peer in the thread that was left (it follows when it is woken), so an export that has
 *     clients holds that iothread from there on.
 *
 * Main thread.
 */
#include <assert.h>
#include <errno.h>
#include "aio/iothread.h"
#include "block/export/export.h"
#include "coro/lock.h"
#include "qapi/qapi-events-block-export.h"
#include "util/cutils.h"

static QLIST_HEAD(, BlockExport) block_exports = QLIST_HEAD_INITIALIZER(block_exports);
static const BlockExportDriver *export_drivers[BLOCK_EXPORT_TYPE__MAX];
/* Who waits for exports to be gone. */
static CoQueue exports_gone = {.entries = QSIMPLEQ_HEAD_INITIALIZER(exports_gone.entries)};

void blk_exp_register_driver(const BlockExportDriver *drv)
{
    assert(!export_drivers[drv->type] || export_drivers[drv->type] == drv);
    export_drivers[drv->type] = drv;
}

BlockExport *blk_exp_find(const char *id)
{
    BlockExport *exp;

    QLIST_FOREACH (exp, &block_exports, next) {
        if (strcmp(exp->id, id) == 0) {
            return exp;
        }
    }
    return NULL;
}

BlockExport *blk_exp_next(BlockExport *exp)
{
    return exp ? QLIST_NEXT(exp, next) : QLIST_FIRST(&block_exports);
}

/* Node, iothread and backend: what every kind of export needs. */
static int coroutine_fn move_to_iothread(BlockExport *exp, BlockDriverState *bs,
                                         const char *iothread, Error **errp)
{
    Error *local_err = NULL;
    IOThread *thread;
    int r;

    if (!object_find(iothread, "iothread")) {
        error_setg(errp, "iothread \"%s\" not found", iothread);
        return -ENOENT;
    }
    exp->iothread = object_ref_by_id(iothread, "iothread", errp);
    if (!exp->iothread) {
        return -ENOENT;
    }
    thread = object_instance(exp->iothread);
    r = bdrv_co_try_change_aio_context(bs, iothread_get_aio_context(thread), &local_err);
    if (r < 0 && !exp->fixed_iothread) {
        /* What the schema promises: without fixed-iothread the node stays where its other users keep it. */
        error_free(local_err);
        object_unref(exp->iothread);
        exp->iothread = NULL;
        return 0;
    }
    error_propagate(errp, local_err);
    return r;
}

/* object_iterate(): is it the iothread of @opaque's context?  Then @opaque holds it from now on. */
static int keep_left_iothread(UserObject *object, void *opaque)
{
    BlockExport *exp = opaque;

    if (strcmp(object_type(object), "iothread") != 0 ||
        iothread_get_aio_context(object_instance(object)) != exp->ctx) {
        return 0;
    }
    if (!g_slist_find(exp->left_iothreads, object)) {
        object_ref(object);
        exp->left_iothreads = g_slist_prepend(exp->left_iothreads, object);
    }
    return 1;
}

/* E3 */
void blk_exp_aio_context_changed(BlockExport *exp, AioContext *ctx)
{
    bool has_clients = exp->refcnt > (exp->user_owned ? 1 : 0);

    if (has_clients) {
        object_iterate(keep_left_iothread, exp);
    }
    exp->ctx = ctx;
}

/* E3.  Failure is no harm: then another user keeps the tree where it is. */
static void coroutine_fn leave_iothread(BlockExport *exp, BlockDriverState *bs)
{
    BlockExport *other;

    if (!exp->iothread) {
        return;
    }
    QLIST_FOREACH (other, &block_exports, next) {
        if (other != exp && other->iothread == exp->iothread) {
            break;
        }
    }
    if (!other && bs) {
        bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), NULL);
    }
    object_unref(exp->iothread);
    exp->iothread = NULL;
}

static int make_backend(BlockExport *exp, BlockDriverState *bs, const BlockExportOptions *opts,
                        Error **errp)
{
    g_autofree char *desc = g_strdup_printf("export '%s'", exp->id);
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    int r;

    if (opts->has_writable && opts->writable) {
        perm |= BLK_PERM_WRITE;
    }
    exp->blk = blk_new(perm, BLK_PERM_ALL);
    blk_set_desc(exp->blk, desc);
    blk_set_enable_write_cache(exp->blk, !(opts->has_writethrough && opts->writethrough));
    r = blk_insert_bs(exp->blk, bs, errp);
    if (r == 0) {
        exp->ctx = blk_get_aio_context(exp->blk);
    }
    return r;
}

static int coroutine_fn set_up(BlockExport *exp, BlockDriverState *bs,
                               const BlockExportOptions *opts, Error **errp)
{
    int r = 0;

    if (opts->iothread) {
        r = move_to_iothread(exp, bs, opts->iothread, errp);
    }
    if (r == 0) {
        r = make_backend(exp, bs, opts, errp);
    }
    if (r == 0) {
        r = exp->drv->co_create(exp, opts, errp);
    }
    if (r < 0) {
        if (exp->blk) {
            blk_co_unref(exp->blk);
        }
        leave_iothread(exp, bs);
    }
    return r;
}

static int check_options(const BlockExportOptions *opts, Error **errp)
{
    if (!id_wellformed(opts->id)) {
        error_setg(errp, "Invalid block export id");
        return -EINVAL;
    }
    if (blk_exp_find(opts->id)) {
        error_setg(errp, "Block export id '%s' is already in use", opts->id);
        return -EEXIST;
    }
    if (!export_drivers[opts->type]) {
        error_setg(errp, "No driver found for the requested export type '%s'",
                   BlockExportType_str(opts->type));
        return -ENOTSUP;
    }
    return 0;
}

BlockExport *coroutine_fn blk_exp_co_add(const BlockExportOptions *opts, Error **errp)
{
    const BlockExportDriver *drv;
    BlockDriverState *bs;
    BlockExport *exp;
    int r = check_options(opts, errp);

    if (r < 0) {
        return NULL;
    }
    drv = export_drivers[opts->type];
    bs = bdrv_lookup_bs(NULL, opts->node_name, errp);
    if (!bs) {
        return NULL;
    }
    if (opts->has_writable && opts->writable && bdrv_is_read_only(bs)) {
        error_setg(errp, "Cannot export read-only node as writable");
        return NULL;
    }
    exp = g_malloc0(drv->instance_size);
    exp->drv = drv;
    exp->id = g_strdup(opts->id);
    exp->node = bs;
    exp->refcnt = 1;
    exp->user_owned = true;
    exp->fixed_iothread = opts->has_fixed_iothread && opts->fixed_iothread;
    /* On the list at once: the id is taken while we yield. */
    QLIST_INSERT_HEAD(&block_exports, exp, next);
    bdrv_ref(bs);
    r = set_up(exp, bs, opts, errp);
    bdrv_co_unref(bs);
    if (r < 0) {
        QLIST_REMOVE(exp, next);
        g_free(exp->id);
        g_free(exp);
        qemu_co_queue_restart_all(&exports_gone);
        return NULL;
    }
    exp->running = true;
    return exp;
}

void blk_exp_ref(BlockExport *exp)
{
    assert(exp->refcnt > 0);
    exp->refcnt++;
}

/* The last reference has gone. */
static void coroutine_fn delete_entry(void *opaque)
{
    BlockExport *exp = opaque;
    BlockDriverState *bs = blk_bs(exp->blk);

    assert(exp->refcnt == 0);
    exp->drv->co_delete(exp);
    if (bs) {
        bdrv_ref(bs);
    }
    blk_co_unref(exp->blk);
    exp->blk = NULL; /* we are on the list until the end, and yield */
    leave_iothread(exp, bs);
    g_slist_free_full(exp->left_iothreads, (GDestroyNotify)object_unref);
    if (bs) {
        bdrv_co_unref(bs);
    }
    QLIST_REMOVE(exp, next);
    qapi_event_send_block_export_deleted(exp->id); /* E1 */
    g_free(exp->id);
    g_free(exp);
    qemu_co_queue_restart_all(&exports_gone);
}

void blk_exp_unref(BlockExport *exp)
{
    AioContext *ctx = qemu_get_aio_context();

    assert(exp->refcnt > 0);
    if (--exp->refcnt == 0) {
        /* Soon, not now: the caller may be in the middle of something of the export's. */
        aio_co_schedule(ctx, qemu_coroutine_create(delete_entry, exp));
    }
}

void blk_exp_request_shutdown(BlockExport *exp)
{
    if (exp->shutting_down) {
        return;
    }
    exp->shutting_down = true;
    exp->drv->request_shutdown(exp);
    assert(exp->user_owned);
    exp->user_owned = false;
    blk_exp_unref(exp);
}

int blk_exp_del(const char *id, bool hard, Error **errp)
{
    BlockExport *exp = blk_exp_find(id);

    if (!exp || !exp->running) {
        error_setg(errp, "Export '%s' is not found", id);
        return -ENOENT;
    }
    if (exp->shutting_down) {
        error_setg(errp, "Export '%s' is already shutting down", id);
        return -EBUSY;
    }
    if (!hard && exp->refcnt > 1) {
        error_setg(errp, "export '%s' still in use", id);
        error_append_hint(errp, "Use mode='hard' to force client disconnect\n");
        return -EBUSY;
    }
    blk_exp_request_shutdown(exp);
    return 0;
}

bool blk_exp_can_change_aio_context(BlockExport *exp, Error **errp)
{
    if (exp->fixed_iothread) {
        error_setg(errp, "Block export '%s' does not allow iothread change", exp->id);
        return false;
    }
    return true;
}

/*
 * @type BLOCK_EXPORT_TYPE__MAX: any.  @node NULL: any.  Not those whose set-up is still under way: they end by
 * themselves.
 */
static void coroutine_fn close_all(BlockExportType type, const BlockDriverState *node)
{
    BlockExport *exp, *next;
    bool any;

    do {
        any = false;
        QLIST_FOREACH_SAFE (exp, &block_exports, next, next) {
            if ((type == BLOCK_EXPORT_TYPE__MAX || exp->drv->type == type) &&
                (!node || exp->node == node)) {
                any = true;
                if (exp->running) {
                    blk_exp_request_shutdown(exp);
                }
            }
        }
        if (any) {
            qemu_co_queue_wait(&exports_gone, NULL);
        }
    } while (any);
}

void coroutine_fn blk_exp_co_close_all_type(BlockExportType type)
{
    close_all(type, NULL);
}

void coroutine_fn blk_exp_co_close_all(void)
{
    close_all(BLOCK_EXPORT_TYPE__MAX, NULL);
}

void coroutine_fn blk_exp_co_close_node(BlockDriverState *bs)
{
    close_all(BLOCK_EXPORT_TYPE__MAX, bs);
}

BlockExportInfoList *blk_exp_query(void)
{
    BlockExportInfoList *list = NULL, **tail = &list;
    BlockExport *exp;

    QLIST_FOREACH (exp, &block_exports, next) {
        BlockDriverState *bs;
        BlockExportInfo *info;

        if (!exp->running) {
            continue;
        }
        bs = exp->blk ? blk_bs(exp->blk) : NULL;
        info = g_new0(BlockExportInfo, 1);
        info->id = g_strdup(exp->id);
        info->type = exp->drv->type;
        info->node_name = g_strdup(bs ? bdrv_get_node_name(bs) : "");
        info->shutting_down = exp->shutting_down;
        *tail = g_new0(BlockExportInfoList, 1);
        (*tail)->value = info;
        tail = &(*tail)->next;
    }
    return list;
}
