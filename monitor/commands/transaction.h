/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * transaction.h - actions that happen at one instant, all or none
 *
 * A command that is also an action (drive-backup, block-dirty-bitmap-*) is a transaction of one.
 */
#ifndef MONITOR_COMMANDS_TRANSACTION_H
#define MONITOR_COMMANDS_TRANSACTION_H

#include "block/jobs/job.h"
#include "block/graph/graph.h"

typedef struct TxnAction TxnAction;

/*
 * What an action does at each step; see the picture in transaction.c.  All are coroutines of the main
 * AioContext.  Steps that are NULL do nothing.
 */
typedef struct TxnActionOps {
    const char *name;
    size_t instance_size;  /* of the struct that begins with a TxnAction; zeroed */
    bool supports_grouped; /* completion-mode=grouped means something to it */
    /* Before the quiesce.  Find, create, open; call txn_action_use_node().  On failure undo itself. */
    int coroutine_fn (*open)(TxnAction *action, Error **errp);
    /* Inside the quiesce.  On failure undo itself: abort is not called. */
    int coroutine_fn (*prepare)(TxnAction *action, Error **errp);
    /* Exactly one of these follows a successful prepare, inside the quiesce.  Cannot fail. */
    void coroutine_fn (*commit)(TxnAction *action);
    void coroutine_fn (*abort)(TxnAction *action);
    /* After the quiesce has ended, only after commit. */
    void coroutine_fn (*start)(TxnAction *action);
    /* Last, always when open succeeded. */
    void coroutine_fn (*clean)(TxnAction *action);
} TxnActionOps;

struct TxnAction {
    const TxnActionOps *ops;
    const void *data; /* the action's QAPI struct, borrowed */
    JobTxn *job_txn;  /* jobs of this transaction end together; NULL: each alone */
    GPtrArray *nodes; /* shared by all actions; owned by the transaction */
};

/* The node is quiesced from before the first prepare until after the last commit or abort. */
void txn_action_use_node(TxnAction *action, BlockDriverState *bs);

/* What a transaction is made of. */
typedef struct TxnItem {
    const TxnActionOps *ops;
    const void *data;
} TxnItem;

/* Run @n actions in order.  0, or negative errno with @errp set and nothing changed. */
int coroutine_fn txn_co_run(const TxnItem *items, size_t n, bool grouped, Error **errp);
/* A transaction of one. */
int coroutine_fn txn_co_run_one(const TxnActionOps *ops, const void *data, Error **errp);

extern const TxnActionOps txn_drive_backup, txn_blockdev_backup; /* backup.c */
extern const TxnActionOps txn_bitmap_add, txn_bitmap_remove, txn_bitmap_clear, txn_bitmap_enable,
    txn_bitmap_disable, txn_bitmap_merge; /* bitmap.c */

#endif
