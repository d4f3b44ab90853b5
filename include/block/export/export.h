/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports: nodes offered to somebody outside, by id.  Main thread unless said otherwise.
 */
#ifndef BLOCK_EXPORT_EXPORT_H
#define BLOCK_EXPORT_EXPORT_H

#include "block/backend/backend.h"
#include "object/object.h"
#include "qapi/qapi-types-block-export.h"

typedef struct BlockExport BlockExport;

typedef struct BlockExportDriver {
    BlockExportType type;
    size_t instance_size; /* of the struct that begins with a BlockExport */
    bool supports_inactive;
    /* exp->blk, ctx and id are set; sets the backend's BlockDevOps.  On failure frees what it took. */
    int coroutine_fn (*co_create)(BlockExport *exp, const BlockExportOptions *opts, Error **errp);
    /* Start to end: no new client, cut those there are.  The export ends when its last reference goes. */
    void (*request_shutdown)(BlockExport *exp);
    /* The last reference has gone; free what the kind owns.  Coroutine of the main context. */
    void coroutine_fn (*co_delete)(BlockExport *exp);
} BlockExportDriver;

struct BlockExport {
    const BlockExportDriver *drv;
    char *id;
    int refcnt;   /* main thread: the user's, and one for each client */
    bool running; /* set up; before that only the id is taken */
    bool user_owned;
    bool shutting_down;
    bool fixed_iothread;    /* the tree may not move away */
    UserObject *iothread;   /* in which it was asked to run, counted; or NULL */
    GSList *left_iothreads; /* counted; in which its clients may still wait */
    BlockBackend *blk;
    const BlockDriverState *node; /* which it was made for; to be compared, not followed */
    AioContext *ctx;              /* kept up by blk_exp_aio_context_changed() */
    QLIST_ENTRY(BlockExport) next;
};

void blk_exp_register_driver(const BlockExportDriver *drv);
/* block-export-add.  The export is the user's: ended by blk_exp_del().  NULL with @errp set. */
BlockExport *coroutine_fn blk_exp_co_add(const BlockExportOptions *opts, Error **errp);
BlockExport *blk_exp_find(const char *id);
BlockExport *blk_exp_next(BlockExport *exp);
void blk_exp_ref(BlockExport *exp);
void blk_exp_unref(
    BlockExport
        *exp); /* deletion, if it was the last, happens soon after; emits BLOCK_EXPORT_DELETED */
void blk_exp_request_shutdown(BlockExport *exp);
/* block-export-del: refuses when clients are there and @mode is safe. */
int blk_exp_del(const char *id, bool hard, Error **errp);
/* For a kind's BlockDevOps. */
bool blk_exp_can_change_aio_context(BlockExport *exp, Error **errp);
void blk_exp_aio_context_changed(BlockExport *exp, AioContext *ctx);
/* End all, or all of one kind, and wait until they are gone. */
void coroutine_fn blk_exp_co_close_all_type(BlockExportType type);
void coroutine_fn blk_exp_co_close_all(void);
/* The same for those of one node. */
void coroutine_fn blk_exp_co_close_node(BlockDriverState *bs);
BlockExportInfoList *blk_exp_query(void);

#endif
