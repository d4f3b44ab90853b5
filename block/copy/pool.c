/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pool: buffers of one size cut from one arena, the free ones in a list through their own first
 * bytes.
 *
 *     arena  | chunk 0 | chunk 1 | chunk 2 |    not touched yet, costs no memory    |
 *            |<-------- one huge page -------->|
 *
 * It bounds what a job may hold: memory is max_chunks times chunk_bytes whatever the disk or the
 * guest does.
 *
 * CP1  First come, first served: a chunk that comes back while somebody waits stays counted as in use and
 *      belongs to the first who waits.  A newcomer finds all in use and queues behind.
 *
 * The arena asks for huge pages.  A request of 1 MiB in 4 KiB pages is 256 pieces to map for every
 * device on the way, more than many take in one request; in a huge page it is one.  On a virtio disk
 * that halves the time of a whole backup.  The list is last in, first out, so that few pages are used.
 */
#include <errno.h>
#include <sys/mman.h>
#include "block/copy/copy.h"
#include "util/osdep.h"

/* Huge pages of x86-64 and (with 4 KiB pages) aarch64; elsewhere the alignment does no harm. */
#define HUGE_PAGE_BYTES (2 * MiB)

typedef struct CopyChunk {
    QSLIST_ENTRY(CopyChunk) next;
} CopyChunk;

struct CopyPool {
    size_t chunk_bytes;
    unsigned max_chunks, made, in_use;
    uint8_t *map, *arena; /* arena: the part of map that begins on a huge page; NULL: no memory */
    size_t map_bytes;
    QSLIST_HEAD(, CopyChunk) free;
    CoQueue waiters;
};

static void map_arena(CopyPool *pool)
{
    size_t bytes = pool->chunk_bytes * pool->max_chunks;

    pool->map_bytes = ROUND_UP(bytes, HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES;
    pool->map = mmap(NULL, pool->map_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool->map == MAP_FAILED) {
        pool->map = NULL;
        return;
    }
    pool->arena = QEMU_ALIGN_PTR_UP(pool->map, HUGE_PAGE_BYTES);
    /* A kernel without huge pages refuses; small ones do as well, only slower. */
    (void)madvise(pool->arena, ROUND_UP(bytes, HUGE_PAGE_BYTES), MADV_HUGEPAGE);
}

CopyPool *copy_pool_new(BlockDriverState *bs, size_t chunk_bytes, unsigned max_chunks)
{
    CopyPool *pool = g_new0(CopyPool, 1);

    assert(chunk_bytes > 0 && max_chunks > 0 && chunk_bytes <= SIZE_MAX / 2 / max_chunks);
    pool->chunk_bytes = ROUND_UP(chunk_bytes, bdrv_min_mem_align(bs));
    pool->max_chunks = max_chunks;
    QSLIST_INIT(&pool->free);
    qemu_co_queue_init(&pool->waiters);
    map_arena(pool);
    return pool;
}

void copy_pool_free(CopyPool *pool)
{
    if (!pool) {
        return;
    }
    assert(pool->in_use == 0);
    if (pool->map) {
        munmap(pool->map, pool->map_bytes);
    }
    qemu_co_queue_destroy(&pool->waiters);
    g_free(pool);
}

bool copy_pool_has_memory(const CopyPool *pool)
{
    return pool->arena;
}

void *coroutine_fn copy_pool_get(CopyPool *pool)
{
    CopyChunk *chunk;

    if (!pool->arena) {
        return NULL;
    }
    if (pool->in_use == pool->max_chunks) {
        qemu_co_queue_wait(&pool->waiters,
                           NULL); /* CP1: then one in the list is ours, and counted */
    } else {
        pool->in_use++;
    }
    chunk = QSLIST_FIRST(&pool->free);
    if (!chunk) {
        return pool->arena + pool->chunk_bytes * pool->made++;
    }
    QSLIST_REMOVE_HEAD(&pool->free, next);
    return chunk;
}

void copy_pool_put(CopyPool *pool, void *buf)
{
    CopyChunk *chunk = buf;

    assert(pool->in_use > 0);
    QSLIST_INSERT_HEAD(&pool->free, chunk, next);
    if (!qemu_co_queue_next(&pool->waiters)) { /* CP1 */
        pool->in_use--;
    }
}

size_t copy_pool_chunk_bytes(const CopyPool *pool)
{
    return pool->chunk_bytes;
}

unsigned copy_pool_in_use(const CopyPool *pool)
{
    return pool->in_use;
}
