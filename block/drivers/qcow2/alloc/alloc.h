/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * alloc.h - host clusters: which are free, who counts, taken ahead and given back
 *
 *                      take, from the pool        entry durable        nobody refers to it, durably
 *      free ──▶ pool ───────────────────▶ taken ───────────────▶ in use ───────────────────────────▶ free
 *          reserve: counts, in batches      │                       ▲      give_back ... release
 *                                           └── the power goes: a leak, which check finds and nobody misses
 *
 *   A1  What is in the pool is counted as in use already, so taking is a step in memory.  The pool's count becomes durable
 *       with the commit of what was taken from it; the batches grow with what was taken since the image was opened, so a
 *       crash leaves no more than a quarter of that counted for nothing, and never more than ALLOC_RESERVE_MAX.
 *   A2  A run is fresh if it lies behind what the file has ever had: the file is made longer before it is handed out,
 *       and so reads as zeros there, and a reference to it is never one beyond the end of the file.
 *   A3  What is given back is counted down, passed on as discarded, and may be taken again only after release: the
 *       commit which has made it durable that nobody refers to it has ended.
 *   A4  Counts may be written to the file at any time: those that have risen early are leaks, and those that fell are
 *       A3's.  Counts that rose since the last flush are said by qcow2_alloc_take_unstable().
 *   A5  A new refcount block is durable before the table names it, a new table before the header does.
 *
 * Context: coroutines in the home AioContext of an image that is open for writing.
 */
#ifndef BLOCK_DRIVERS_QCOW2_ALLOC_ALLOC_H
#define BLOCK_DRIVERS_QCOW2_ALLOC_ALLOC_H

#include "block/drivers/qcow2/cache/cache.h"
#include "block/drivers/qcow2/layout/geometry.h"
#include "block/drivers/qcow2/layout/refcount.h"

/* Bytes of clusters that are counted ahead at most (A1). */
#define ALLOC_RESERVE_MAX (32 * MiB)

typedef struct Qcow2Alloc Qcow2Alloc;

/* What this room asks of the image.  Coroutines of the home AioContext. */
typedef struct Qcow2AllocHooks {
    /* The refcount table is there now, with so many clusters: into the header, durably. */
    int coroutine_fn (*co_move_reftable)(void *opaque, int64_t offset, uint32_t clusters);
    /* Whether a free run overlaps nothing that is in use as a table: else the image is marked corrupt, and -EIO. */
    int coroutine_fn (*co_check_run)(void *opaque, int64_t offset, int64_t bytes);
    /* The entry number @index of the refcount table cannot be one: the image is marked corrupt. */
    void coroutine_fn (*co_bad_entry)(void *opaque, uint64_t index, uint64_t word);
    void *opaque;
} Qcow2AllocHooks;

typedef struct Qcow2AllocConfig {
    Qcow2Geometry geometry;
    BdrvChild *file;
    Qcow2Cache *blocks; /* of refcount blocks, page_bytes are a cluster's; borrowed */
    int64_t reftable_offset;
    uint32_t reftable_clusters;
    int64_t file_bytes; /* its length now */
    Qcow2AllocHooks hooks;
} Qcow2AllocConfig;

/* @table: the refcount table as in the file, reftable_clusters of it; copied. */
Qcow2Alloc *qcow2_alloc_new(const Qcow2AllocConfig *config, const void *table);
void qcow2_alloc_delete(Qcow2Alloc *a);

/* refs.c: counts. */

/* Of a cluster by its number.  0, or negative errno. */
int coroutine_fn qcow2_co_refcount_get(Qcow2Alloc *a, uint64_t cluster, uint64_t *ret_count);
/*
 * qcow2_co_refcount_add() - count clusters that are in use (or are becoming it) up or down, now
 *
 * For who knows what he does to the order (A3, A4); blocks that are missing are not made.
 *
 * Return: 0; -EINVAL, a count would be less than 0, or more than there is room for: counts before it have been changed.
 */
int coroutine_fn qcow2_co_refcount_add(Qcow2Alloc *a, uint64_t cluster, uint64_t n, int64_t delta);
/* The table, in the processor's order; *ret_entries of them. */
const uint64_t *qcow2_alloc_table(const Qcow2Alloc *a, uint64_t *ret_entries);
/* Whether a cluster is a refcount block. */
bool qcow2_alloc_is_block(const Qcow2Alloc *a, uint64_t cluster);
int64_t qcow2_alloc_table_offset(const Qcow2Alloc *a);
uint32_t qcow2_alloc_table_clusters(const Qcow2Alloc *a);

/* take.c */

typedef struct Qcow2Run {
    int64_t offset; /* of the first cluster */
    int64_t clusters;
    bool fresh; /* reads as zeros (A2) */
} Qcow2Run;

/**
 * qcow2_co_take() - clusters in a row, as many as there are in one place, up to @want
 *
 * Context: coroutine, home AioContext.  Yields only when the pool is empty.
 *
 * Return: 0, ret_run->clusters >= 1; -ENOSPC, -EFBIG; -EIO also for an image that is corrupt.
 */
int coroutine_fn qcow2_co_take(Qcow2Alloc *a, int64_t want, Qcow2Run *ret_run);
/* Exactly @n in a row, for a table. */
int coroutine_fn qcow2_co_take_all(Qcow2Alloc *a, int64_t n, Qcow2Run *ret_run);

/* free.c */

/* Nobody refers to these clusters any more, as far as memory goes; @discard: the file may forget what is there. */
void qcow2_give_back(Qcow2Alloc *a, int64_t offset, int64_t clusters, bool discard);
/* What was given back so far is what the next release is about. */
void qcow2_release_begin(Qcow2Alloc *a);
/* That commit has ended (A3).  @done: it did well, else it is for the next release. */
void coroutine_fn qcow2_co_release_end(Qcow2Alloc *a, bool done);
/* Whether something was given back that no release was about. */
bool qcow2_alloc_has_given_back(const Qcow2Alloc *a);

/* A4: whether counts have risen since the last call; who asks writes all dirty blocks and flushes, or says that he did
   not. */
bool qcow2_alloc_take_unstable(Qcow2Alloc *a);
void qcow2_alloc_set_unstable(Qcow2Alloc *a);

/* The pool's rest is given back, in memory, and the file's length is what it needs to be: before the image is closed. */
void coroutine_fn qcow2_co_alloc_settle(Qcow2Alloc *a);

#endif
