/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CowRequest: how a reader outside the backup job keeps off its copying.
 *
 * Between backup_cow_request_begin() and _end() on a range, no old contents of that range are copied
 * to the job's target, and no guest write to it passes the job's before-write notifier: who reads the
 * source there sees only what the guest has not overwritten yet.  Sectors are 512 bytes; a range covers
 * every cluster of the job that it touches.
 *
 * Context: coroutines of the job's AioContext; a request is ended in the context where it was begun.
 * Ownership: the caller keeps the job by job_ref() from the wait to the end.  A job that is cancelled, or
 * fails, ends only after the last holder has left; who begins after that finds no protection.
 * A holder belongs to a request that is in flight in a node above (blk_co_start_request(), or a driver's):
 * a quiesce that held it back while it holds others back would wait for itself.
 * Locks: a holder must not begin a second request that overlaps its own, nor write to the source there.
 */
#ifndef BLOCK_BLOCK_BACKUP_H
#define BLOCK_BLOCK_BACKUP_H

#include "block/jobs/blockjob.h"
#include "coro/lock.h"
#include "util/queue.h"

typedef struct CowRequest {
    int64_t start; /* first cluster */
    int64_t end;   /* one past the last */
    QLIST_ENTRY(CowRequest) list;
    CoQueue wait_queue; /* coroutines blocked on this request */
} CowRequest;

/* Yields until no request overlaps.  begin() right after it, without a yield between, keeps it so. */
void coroutine_fn backup_wait_for_overlapping_requests(BlockJob *job, int64_t sector_num,
                                                       int nb_sectors);
/* Does not yield, does not wait. */
void backup_cow_request_begin(CowRequest *req, BlockJob *job, int64_t sector_num, int nb_sectors);
/* Wakes who waited. */
void backup_cow_request_end(CowRequest *req);

/*
 * backup_do_checkpoint() - forget what was copied: from now on the next write to any cluster copies it
 * again.  sync=none only; an error otherwise.  The caller has quiesced the source.
 */
void coroutine_fn backup_do_checkpoint(BlockJob *job, Error **errp);

#endif
