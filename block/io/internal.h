/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#ifndef BLOCK_IO_INTERNAL_H
#define BLOCK_IO_INTERNAL_H

#include <glib.h>
#include "block/io/io.h"

/* check.c: is the range one that a request may have at all?  0 or -EIO. */
int bdrv_check_range(int64_t offset, int64_t bytes);

/* track.c */
void tracked_request_begin(BdrvTrackedRequest *req, BlockDriverState *bs, int64_t offset,
                           int64_t bytes, BdrvTrackedRequestType type, BdrvRequestFlags flags);
void tracked_request_end(BdrvTrackedRequest *req);
/* Overlapping requests wait for @req from now on; its range grows to multiples of @align. */
void tracked_request_set_serialising(BdrvTrackedRequest *req, uint64_t align);
/* Wait until nothing that excludes @req overlaps it. */
void coroutine_fn tracked_request_wait(BdrvTrackedRequest *req);
/* The same for a request that must not wait: is there one to wait for? */
bool tracked_request_would_wait(const BdrvTrackedRequest *req);

/*
 * watch.c: begin with the guard of @bs, which is counted in flight, and end what it gave (NULL: nothing).
 * Return: 0, or the negative errno that the guard wants the read to fail with.
 */
int coroutine_fn read_guard_begin(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  BdrvReadToken **ret_token);
void read_guard_end(BdrvReadToken *token);
/* The guards that one walk has begun with, all ended by read_holds_end(). */
typedef struct ReadHolds {
    GSList *list; /* ReadHold */
} ReadHolds;
int coroutine_fn read_holds_add(ReadHolds *holds, BlockDriverState *bs, int64_t offset,
                                int64_t bytes);
void read_holds_end(ReadHolds *holds);

/* The tap of @bs, on both sides of a write that @w describes; the rest of @w is filled in here. */
void coroutine_fn write_tap_begin(BlockDriverState *bs, BdrvTapWrite *w);
int coroutine_fn write_tap_end(BdrvTapWrite *w, int ret);

/* Around a request in flight: begin returns the time for end. */
int64_t latency_begin(const BlockDriverState *bs, BdrvRequestFlags flags);
void latency_end(BlockDriverState *bs, BdrvTrackedRequestType type, int64_t bytes, int64_t begun);

/* pad.c: a request grown to the node's alignment. */
typedef struct BdrvPadding {
    uint8_t *buf;      /* head block, then tail block (one and the same when merged) */
    size_t head, tail; /* bytes in front of and behind the caller's */
    bool merge;        /* the whole request lies in one or two neighbouring blocks of @buf */
    uint8_t *tail_block;
    QEMUIOVector qiov; /* head + the caller's + tail */
} BdrvPadding;
/* True if @offset/@bytes are not aligned; then pad->qiov and the range are what to use. */
bool bdrv_pad(BlockDriverState *bs, QEMUIOVector *qiov, size_t qiov_offset, int64_t *offset,
              int64_t *bytes, BdrvPadding *pad);
void bdrv_padding_destroy(BdrvPadding *pad);

/* read.c: aligned, tracked by the caller. */
int coroutine_fn bdrv_aligned_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset,
                                     BdrvRequestFlags flags);

/* A buffer of our own stands in for @qiov when its pieces are not aligned as the driver asks, or too many. */
bool bdrv_qiov_suits(BlockDriverState *bs, const QEMUIOVector *qiov, size_t offset, size_t bytes);

/*
 * Memory that stands in for a caller's (or for none) is of at most this size: a longer request goes in
 * pieces, so that what a client sends does not decide what we take.
 */
#define BOUNCE_MAX_BYTES (1 * MiB)

/* Longest request the driver takes: whole blocks, at least one. */
int64_t bdrv_max_transfer(const BlockDriverState *bs);
/* The same with a bounce buffer. */
int64_t bdrv_max_bounce(const BlockDriverState *bs);

#endif
