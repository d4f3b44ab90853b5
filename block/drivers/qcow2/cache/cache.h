/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cache.h - tables of an image in memory, page by page, and the way back into the file
 *
 *                     get (reads)            mark_dirty             batch_begin            batch_end
 *      not in memory ------------> clean ------------------> dirty ------------> writing --------------> clean
 *            ^                       |  ^                      ^                    |
 *            +-----------------------+  +--- put: unpinned     +-- failed, or dirty again meanwhile
 *              room is needed, unpinned
 *
 * A page is a table of the file or a part of one, of a fixed size.  Who has it pinned may look at it and change it
 * without a wait; the page stays.  What order the file needs is the business of who makes the batches.
 *
 *   K1  What a batch writes is a copy, of the moment when the batch began: what is changed meanwhile is dirty again.
 *   K2  A page is given up only when it is clean, written and unpinned; so whoever reads it again finds what it was.
 *   K3  There are max_pages at most, but for those that are pinned at once, which are bounded by the requests there are.
 *   K4  Of a page, only what was changed is written: pieces of a 64th of it, of 512 bytes at least.
 *
 * Context: coroutines in the home AioContext of the file.  A @shared cache, of an image that nobody writes to, may be
 * used from any AioContext; nothing is dirty in it.
 */
#ifndef BLOCK_DRIVERS_QCOW2_CACHE_CACHE_H
#define BLOCK_DRIVERS_QCOW2_CACHE_CACHE_H

#include "block/graph/graph.h"
#include "coro/lock.h"
#include "util/queue.h"

typedef struct Qcow2Cache Qcow2Cache;

typedef struct Qcow2Page Qcow2Page;
struct Qcow2Page {
    /* Fixed. */
    int64_t offset; /* in the file; a multiple of page_bytes */
    uint8_t *data;  /* page_bytes of them */
    Qcow2Cache *cache;
    /* The cache's. */
    unsigned pins; /* atomic */
    bool loading, failed, writing;
    bool gone;      /* forgotten, and could not be given up: to be read again */
    bool old;       /* nobody has used it since the last qcow2_co_cache_clean() */
    uint64_t dirty; /* a bit for each piece */
    QTAILQ_ENTRY(Qcow2Page) list;
};

typedef struct Qcow2CacheConfig {
    BdrvChild *file;
    int64_t page_bytes; /* a power of two, >= 512 */
    int64_t max_pages;  /* >= 1 */
    bool shared;
    /*
     * Room is needed, and every page that is not pinned is dirty: write some.  0: there may be room now; negative errno:
     * there will be none.  Coroutine.
     */
    int coroutine_fn (*make_room)(void *opaque);
    void *opaque;
} Qcow2CacheConfig;

Qcow2Cache *qcow2_cache_new(const Qcow2CacheConfig *config);
/* Nothing is pinned; what is dirty is lost. */
void qcow2_cache_delete(Qcow2Cache *c);

/*
 * qcow2_co_cache_get() - the page at @offset, pinned
 *
 * Yields when it is not in memory.
 *
 * Return: 0, the page is for qcow2_cache_put(); negative errno.
 */
int coroutine_fn qcow2_co_cache_get(Qcow2Cache *c, int64_t offset, Qcow2Page **ret_page);
/* The same for a page of a new table: it is zeros.  @dirty: the file does not read as zeros there, so all of it is dirty. */
int coroutine_fn qcow2_co_cache_get_new(Qcow2Cache *c, int64_t offset, bool dirty,
                                        Qcow2Page **ret_page);
/* The same without a wait, for one that is in memory; else NULL.  Not of a shared cache. */
Qcow2Page *qcow2_cache_peek(Qcow2Cache *c, int64_t offset);
void qcow2_cache_put(Qcow2Page *page);

void qcow2_cache_mark_dirty(Qcow2Page *page, int64_t at, int64_t bytes);
/* Nothing of the range counts any more: pages go, dirty ones unwritten; of those that are pinned or being written, the
   dirt. */
void qcow2_cache_forget(Qcow2Cache *c, int64_t offset, int64_t bytes);
/* Pages that nobody has used since the last call go, if they are clean. */
void coroutine_fn qcow2_co_cache_clean(Qcow2Cache *c);

int64_t qcow2_cache_pages(const Qcow2Cache *c);
int64_t qcow2_cache_dirty_pages(const Qcow2Cache *c);
int64_t qcow2_cache_page_bytes(const Qcow2Cache *c);

/* batch.c: what is dirty goes to the file. */

/* Something to be written, of the moment when it was added; of one cache, or of anything else in the same file. */
typedef struct Qcow2Batch Qcow2Batch;
Qcow2Batch *qcow2_batch_new(BdrvChild *file);
/*
 * Bytes that one batch holds in memory; qcow2_batch_add_cache() stops there.  Some thousand pages, as much as is dirty
 * between two flushes mostly.
 */
#define QCOW2_BATCH_BYTES_MAX (4 * MiB)
/* All that is dirty in @c, oldest first; false: not all of it, the batch is full.  Never yields (K1). */
bool qcow2_batch_add_cache(Qcow2Batch *b, Qcow2Cache *c);
/* @bytes at @data, copied. */
void qcow2_batch_add(Qcow2Batch *b, int64_t offset, int64_t bytes, const void *data);
bool qcow2_batch_is_empty(const Qcow2Batch *b);
/*
 * Writes it, several pieces at once, and frees it.  0: all is written (a flush is the caller's business); negative errno:
 * what came from a cache is dirty again.
 */
int coroutine_fn qcow2_co_batch_write(Qcow2Batch *b);
/* Not to be written after all: dirty again, and freed. */
void qcow2_batch_drop(Qcow2Batch *b);

#endif
