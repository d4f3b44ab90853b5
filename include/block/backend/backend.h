/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockBackend: the handle through which a user (an export, a job, a tool) reaches a node.
 * Error policy, accounting, iostatus; holds new requests back while the node is quiesced.
 *
 * blk_co_*: coroutine, home AioContext of the node.  The rest: main thread.  A request that was held back
 * while the tree moved to another AioContext returns in the new one.
 */
#ifndef BLOCK_BACKEND_BACKEND_H
#define BLOCK_BACKEND_BACKEND_H

#include "block/backend/accounting.h"
#include "block/io/io.h"

typedef struct BlockBackend BlockBackend;

/* What the user of a backend is told.  Main thread.  All may be NULL. */
typedef struct BlockDevOps {
    void (*drained_begin)(void *opaque);
    bool (*drained_poll)(void *opaque); /* true while requests may still come */
    void (*drained_end)(void *opaque);
    void (*resized)(void *opaque);
    /* NULL: the user follows wherever the tree moves. */
    bool (*can_change_aio_context)(void *opaque, AioContext *ctx, Error **errp);
    void (*aio_context_changed)(void *opaque, AioContext *ctx);
} BlockDevOps;

/* Once, before the first node: from now on devices are found by name (bdrv_lookup_device_hook). */
void blk_init(void);

BlockBackend *blk_new(uint64_t perm, uint64_t shared_perm);
void blk_ref(BlockBackend *blk);
/* Removes the node at zero; yields. */
void coroutine_fn blk_co_unref(BlockBackend *blk);
/* @desc: "block device 'x'", "block job 'j'", "export 'e'": who the user is, in permission errors. */
void blk_set_desc(BlockBackend *blk, const char *desc);
const char *blk_get_desc(const BlockBackend *blk);
/* A name by which QMP finds it ("device"); unique among backends and nodes. */
bool blk_set_name(BlockBackend *blk, const char *name, Error **errp);
const char *blk_name(const BlockBackend *blk); /* "" when it has none */
BlockBackend *blk_by_name(const char *name);
BlockBackend *blk_next_named(BlockBackend *blk);
void blk_set_dev_ops(BlockBackend *blk, const BlockDevOps *ops, void *opaque);

int blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp);
/* Drops the node: waits for requests in flight; no medium from then on.  Main thread. */
void coroutine_fn blk_co_remove_bs(BlockBackend *blk);
BlockDriverState *blk_bs(BlockBackend *blk); /* NULL: no medium */
BdrvChild *blk_root(BlockBackend *blk);
int blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared_perm, Error **errp);
AioContext *blk_get_aio_context(BlockBackend *blk);
/* A job pauses by itself, and its copies belong to requests in flight: let it pass a quiesce. */
void blk_set_disable_request_queuing(BlockBackend *blk, bool disable);
/* FUA on every write unless true (the default). */
void blk_set_enable_write_cache(BlockBackend *blk, bool enable);
bool blk_get_enable_write_cache(const BlockBackend *blk);

int64_t blk_getlength(BlockBackend *blk);
uint32_t blk_get_request_alignment(BlockBackend *blk);
int64_t blk_get_max_transfer(BlockBackend *blk);
bool blk_is_writable(BlockBackend *blk);

/* -EIO outside the length, -ENOMEDIUM without a node. */
int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                               BdrvRequestFlags flags);
int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, BdrvRequestFlags flags);
int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf,
                              BdrvRequestFlags flags);
int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf,
                               BdrvRequestFlags flags);
int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags);
int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
int coroutine_fn blk_co_flush(BlockBackend *blk);
int coroutine_fn blk_co_block_status_above(BlockBackend *blk, BlockDriverState *base,
                                           int64_t offset, int64_t bytes, int64_t *pnum,
                                           int64_t *map, BlockDriverState **file);
int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t offset, bool exact,
                                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
/*
 * The state of a machine that an image keeps beside its disk; @pos in it.  -ENOTSUP: the image has no place for one.
 */
int coroutine_fn blk_co_save_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov);
int coroutine_fn blk_co_load_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov);
/* Count a request of the user's own (a flush of several, a status walk) so that a quiesce waits for it. */
void coroutine_fn blk_co_start_request(BlockBackend *blk);
void blk_end_request(BlockBackend *blk);

/* Error policy of a guest device's backend: report, ignore, stop, enospc, auto. */
void blk_set_on_error(BlockBackend *blk, BlockdevOnError on_read_error,
                      BlockdevOnError on_write_error);
BlockdevOnError blk_get_on_error(BlockBackend *blk, bool is_read);
/* @error > 0. */
BlockErrorAction blk_get_error_action(BlockBackend *blk, bool is_read, int error);
/* Sets iostatus, emits BLOCK_IO_ERROR.  Home AioContext or main thread. */
void blk_error_action(BlockBackend *blk, BlockErrorAction action, bool is_read, int error);
/* The policy alone, for jobs. */
BlockErrorAction block_error_action_for(BlockdevOnError on_err, int error);

void blk_iostatus_enable(BlockBackend *blk);
void blk_iostatus_disable(BlockBackend *blk);
bool blk_iostatus_is_enabled(const BlockBackend *blk);
BlockDeviceIoStatus blk_iostatus(const BlockBackend *blk);
void blk_iostatus_reset(BlockBackend *blk);
void blk_iostatus_set_err(BlockBackend *blk, int error);

BlockAcctStats *blk_get_stats(BlockBackend *blk);

#endif
