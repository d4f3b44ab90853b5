/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every copying job shares: a pool of chunks with a free list, and the copy of one run of bytes
 * with zero detection.
 *
 * Context: coroutines in the AioContext of the nodes, one thread.
 */
#ifndef BLOCK_COPY_COPY_H
#define BLOCK_COPY_COPY_H

#include "block/io/io.h"

/* A bounded number of equal buffers; who finds none waits in turn. */
typedef struct CopyPool CopyPool;

/* Chunks are made when first needed, aligned for @bs, at most @max_chunks of @chunk_bytes. */
CopyPool *copy_pool_new(BlockDriverState *bs, size_t chunk_bytes, unsigned max_chunks);
/* All chunks must be back. */
void copy_pool_free(CopyPool *pool);
/* False: the system gave no memory, and copy_pool_get() always returns NULL. */
bool copy_pool_has_memory(const CopyPool *pool);
/* Yields while all are out.  NULL: no memory. */
void *coroutine_fn copy_pool_get(CopyPool *pool);
void copy_pool_put(CopyPool *pool, void *chunk);
size_t copy_pool_chunk_bytes(const CopyPool *pool);
unsigned copy_pool_in_use(const CopyPool *pool);

/* Where from, where to.  Borrowed edges. */
typedef struct BlockCopy {
    BdrvChild *source, *target;
    int64_t cluster_bytes; /* zeros are looked for in pieces of this */
    int64_t length;        /* of both */
    BdrvRequestFlags write_flags;
    bool target_is_zero;           /* where it was not written yet: zeros need no request */
    bool (*is_over)(void *opaque); /* nobody wants the copy any more; NULL: that never happens */
    void *opaque;
} BlockCopy;

/*
 * block_copy_run() - copy [offset, offset + bytes) as the source holds it now
 * @buf: at least @bytes, aligned for both nodes
 *
 * Does not wait for serialising requests of the source.  Clusters of zeros become write-zeroes, or
 * nothing where the target holds zeros itself.
 * Return: 0, or negative errno with *ret_error_is_read telling which side failed.
 */
int coroutine_fn block_copy_run(const BlockCopy *copy, int64_t offset, int64_t bytes, void *buf,
                                bool *ret_error_is_read);

/* The two halves of it: what was read may be changed before it is written. */
/* Once the copy is over nothing more is sent to the target: -ECANCELED. */
int coroutine_fn block_copy_read(const BlockCopy *copy, int64_t offset, int64_t bytes, void *buf);
int coroutine_fn block_copy_write(const BlockCopy *copy, int64_t offset, int64_t bytes,
                                  const void *buf);

/*
 * block_copy_zeroes() - make a range of the target read as zeros
 *
 * What the target's own layer says is zero already is left alone.  A backing file does not count: it
 * may be the source itself, whose zeros the guest is about to overwrite.
 */
int coroutine_fn block_copy_zeroes(const BlockCopy *copy, int64_t offset, int64_t bytes);

/* 1: the own layer of @bs reads as zeros for the first *pnum bytes; 0: not known. */
int coroutine_fn block_copy_own_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       int64_t *pnum);

/*
 * Main thread: what every job that copies asks of its two nodes.  Return: 0, or negative errno with @errp set.
 *
 * _views: neither writes to the other, through filters above one of them or both; and the source is not what a
 * backup with sync=none is writing to, nor an overlay of it: jobs read past read guards, so they would copy
 * what is on its way (H2).
 * _equal: they live in one AioContext and are of one length.
 */
int block_copy_check_views(BlockDriverState *source, BlockDriverState *target, Error **errp);
int block_copy_check_equal(BlockDriverState *source, BlockDriverState *target, Error **errp);

#endif
