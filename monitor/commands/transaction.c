/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * transaction.c - several actions at one instant, all or none
 *
 *      step      for each action                 nodes in use
 *      open      find, create, open              serve their users
 *      ────────────────────────── all nodes quiesced together: the instant ──────────────────────
 *      prepare   do what can fail, remember      stand still
 *                how to undo it
 *      commit    of all, or abort of those       stand still
 *                prepared, newest first
 *      ──────────────────────────────────────────────────────────────────────────────────────────
 *      start     jobs begin to run               serve their users
 *      clean     free
 *
 *   TX1  What takes long (making and opening a target) is done before the quiesce: users wait only for
 *        prepare and commit.
 *   TX2  No action looks at bits or adds a notifier before all nodes of all actions stand still:
 *        otherwise the backups of two disks would show two instants.
 *   TX3  An action may rely on those before it (a bitmap that was just added): so names of bitmaps are
 *        looked up in prepare.
 *   TX4  Nodes are kept by reference from open to clean: one that was deleted meanwhile is still there,
 *        only without a name.
 */
#include "transaction.h"

#include <errno.h>

#include "qapi/qapi-commands-transaction.h"

void txn_action_use_node(TxnAction *action, BlockDriverState *bs)
{
    if (!g_ptr_array_find(action->nodes, bs, NULL)) {
        bdrv_ref(bs); /* TX4 */
        g_ptr_array_add(action->nodes, bs);
    }
}

/* One run of a transaction. */
typedef struct Txn {
    size_t n;
    TxnAction **actions; /* [0, opened) are owned */
    size_t opened;
    GPtrArray *nodes; /* of BlockDriverState, each once, counted */
    JobTxn *job_txn;
} Txn;

static int coroutine_fn txn_open(Txn *txn, const TxnItem *items, Error **errp)
{
    for (size_t i = 0; i < txn->n; i++) {
        TxnAction *action = g_malloc0(MAX(items[i].ops->instance_size, sizeof(TxnAction)));
        int r = 0;

        action->ops = items[i].ops;
        action->data = items[i].data;
        action->job_txn = txn->job_txn;
        action->nodes = txn->nodes;
        if (action->ops->open) {
            r = action->ops->open(action, errp);
        }
        if (r < 0) {
            g_free(action);
            return r;
        }
        txn->actions[txn->opened++] = action;
    }
    return 0;
}

/* Inside the quiesce: all or none. */
static int coroutine_fn txn_prepare_and_commit(Txn *txn, Error **errp)
{
    size_t done;
    int r = 0;

    for (done = 0; done < txn->n; done++) {
        TxnAction *action = txn->actions[done];

        r = action->ops->prepare ? action->ops->prepare(action, errp) : 0;
        if (r < 0) {
            break;
        }
    }
    if (r < 0) {
        while (done-- > 0) {
            if (txn->actions[done]->ops->abort) {
                txn->actions[done]->ops->abort(txn->actions[done]);
            }
        }
        return r;
    }
    for (size_t i = 0; i < txn->n; i++) {
        if (txn->actions[i]->ops->commit) {
            txn->actions[i]->ops->commit(txn->actions[i]);
        }
    }
    return 0;
}

static void coroutine_fn txn_clean(Txn *txn)
{
    for (size_t i = 0; i < txn->opened; i++) {
        if (txn->actions[i]->ops->clean) {
            txn->actions[i]->ops->clean(txn->actions[i]);
        }
        g_free(txn->actions[i]);
    }
    for (guint i = 0; i < txn->nodes->len; i++) {
        bdrv_co_unref(g_ptr_array_index(txn->nodes, i));
    }
    g_ptr_array_free(txn->nodes, TRUE);
    g_free(txn->actions);
    if (txn->job_txn) {
        job_txn_unref(txn->job_txn);
    }
}

static int txn_check_grouped(const TxnItem *items, size_t n, Error **errp)
{
    for (size_t i = 0; i < n; i++) {
        if (!items[i].ops->supports_grouped) {
            error_setg(
                errp, "Action '%s' does not support transaction property completion-mode = grouped",
                items[i].ops->name);
            return -ENOTSUP;
        }
    }
    return 0;
}

int coroutine_fn txn_co_run(const TxnItem *items, size_t n, bool grouped, Error **errp)
{
    Txn txn = {.n = n};
    BlockDriverState **nodes;
    int r;

    if (grouped) {
        r = txn_check_grouped(items, n, errp);
        if (r < 0) {
            return r;
        }
        txn.job_txn = job_txn_new();
    }
    txn.actions = g_new0(TxnAction *, n);
    txn.nodes = g_ptr_array_new();

    r = txn_open(&txn, items, errp);
    if (r == 0) {
        nodes = (BlockDriverState **)txn.nodes->pdata;
        bdrv_co_drained_begin_list(nodes, txn.nodes->len); /* TX2 */
        r = txn_prepare_and_commit(&txn, errp);
        bdrv_co_drained_end_list(nodes, txn.nodes->len);
    }
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (txn.actions[i]->ops->start) {
            txn.actions[i]->ops->start(txn.actions[i]);
        }
    }
    txn_clean(&txn);
    return r;
}

int coroutine_fn txn_co_run_one(const TxnActionOps *ops, const void *data, Error **errp)
{
    TxnItem item = {ops, data};

    return txn_co_run(&item, 1, false, errp);
}

/* The action that always fails: for tests of those before it. */
static int coroutine_fn abort_prepare(TxnAction *action, Error **errp)
{
    error_setg(errp, "Transaction aborted using Abort action");
    return -ECANCELED;
}

static const TxnActionOps txn_abort = {
    .name = "abort", .supports_grouped = true, .prepare = abort_prepare};

static TxnItem txn_item(const TransactionAction *action)
{
    switch (action->type) {
    case TRANSACTION_ACTION_KIND_ABORT:
        return (TxnItem){&txn_abort, NULL};
    case TRANSACTION_ACTION_KIND_DRIVE_BACKUP:
        return (TxnItem){&txn_drive_backup, action->u.drive_backup.data};
    case TRANSACTION_ACTION_KIND_BLOCKDEV_BACKUP:
        return (TxnItem){&txn_blockdev_backup, action->u.blockdev_backup.data};
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_ADD:
        return (TxnItem){&txn_bitmap_add, action->u.block_dirty_bitmap_add.data};
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_REMOVE:
        return (TxnItem){&txn_bitmap_remove, action->u.block_dirty_bitmap_remove.data};
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_CLEAR:
        return (TxnItem){&txn_bitmap_clear, action->u.block_dirty_bitmap_clear.data};
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_ENABLE:
        return (TxnItem){&txn_bitmap_enable, action->u.block_dirty_bitmap_enable.data};
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_DISABLE:
        return (TxnItem){&txn_bitmap_disable, action->u.block_dirty_bitmap_disable.data};
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_MERGE:
        return (TxnItem){&txn_bitmap_merge, action->u.block_dirty_bitmap_merge.data};
    default:
        g_assert_not_reached(); /* the schema has no other */
    }
}

/* Actions of one command; a bound for the quiesce that they share. */
#define TRANSACTION_ACTIONS_MAX 1024

void coroutine_fn qmp_transaction(TransactionActionList *actions, TransactionProperties *properties,
                                  Error **errp)
{
    bool grouped = properties && properties->has_completion_mode &&
                   properties->completion_mode == ACTION_COMPLETION_MODE_GROUPED;
    g_autofree TxnItem *items = NULL;
    size_t n = 0, i = 0;

    for (TransactionActionList *l = actions; l; l = l->next) {
        n++;
    }
    if (n > TRANSACTION_ACTIONS_MAX) {
        error_setg(errp, "A transaction has at most %d actions", TRANSACTION_ACTIONS_MAX);
        return;
    }
    items = g_new0(TxnItem, n);
    for (TransactionActionList *l = actions; l; l = l->next) {
        items[i++] = txn_item(l->value);
    }
    txn_co_run(items, n, grouped, errp);
}
