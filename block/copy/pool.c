/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pool: buffers of one size, the free ones in a list through their own first bytes.
 *
 * It bounds what a job may hold: memory is max_chunks times chunk_bytes whatever the disk or the
 * guest does.  Who finds none waits, first come first served.
 */
#include "block/copy/copy.h"
#include "util/osdep.h"

typedef struct CopyChunk {
    QSLIST_ENTRY(CopyChunk) next;
} CopyChunk;

struct CopyPool {
    BlockDriverState *bs;
    size_t chunk_bytes;
    unsigned max_chunks, made, in_use;
    QSLIST_HEAD(, CopyChunk) free;
    CoQueue waiters;
};

CopyPool *copy_pool_new(BlockDriverState *bs, size_t chunk_bytes, unsigned max_chunks)
{
    CopyPool *pool = g_new0(CopyPool, 1);

    assert(chunk_bytes >= sizeof(CopyChunk) && max_chunks > 0);
    pool->bs = bs;
    pool->chunk_bytes = chunk_bytes;
    pool->max_chunks = max_chunks;
    QSLIST_INIT(&pool->free);
    qemu_co_queue_init(&pool->waiters);
    return pool;
}

void copy_pool_free(CopyPool *pool)
{
    CopyChunk *chunk;

    if (!pool) {
        return;
    }
    assert(pool->in_use == 0);
    while ((chunk = QSLIST_FIRST(&pool->free))) {
        QSLIST_REMOVE_HEAD(&pool->free, next);
        qemu_vfree(chunk);
    }
    qemu_co_queue_destroy(&pool->waiters);
    g_free(pool);
}

void *coroutine_fn copy_pool_get(CopyPool *pool)
{
    CopyChunk *chunk;

    while (pool->in_use == pool->max_chunks) {
        qemu_co_queue_wait(&pool->waiters, NULL);
    }
    chunk = QSLIST_FIRST(&pool->free);
    if (chunk) {
        QSLIST_REMOVE_HEAD(&pool->free, next);
    } else {
        chunk = qemu_try_blockalign(pool->bs, pool->chunk_bytes);
        if (!chunk) {
            return NULL;
        }
        pool->made++;
    }
    pool->in_use++;
    return chunk;
}

void copy_pool_put(CopyPool *pool, void *buf)
{
    CopyChunk *chunk = buf;

    assert(pool->in_use > 0);
    pool->in_use--;
    QSLIST_INSERT_HEAD(&pool->free, chunk, next);
    qemu_co_queue_next(&pool->waiters);
}

size_t copy_pool_chunk_bytes(const CopyPool *pool)
{
    return pool->chunk_bytes;
}

unsigned copy_pool_in_use(const CopyPool *pool)
{
    return pool->in_use;
}
