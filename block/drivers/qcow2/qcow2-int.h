/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2-int.h - an open qcow2 image, shared by the files of this room.  The chapter is docs/devel/qcow2.rst. */
#ifndef BLOCK_DRIVERS_QCOW2_QCOW2_INT_H
#define BLOCK_DRIVERS_QCOW2_QCOW2_INT_H

#include "block/drivers/qcow2/alloc/alloc.h"
#include "block/drivers/qcow2/cache/cache.h"
#include "block/drivers/qcow2/layout/entry.h"
#include "block/drivers/qcow2/layout/header.h"
#include "block/graph/graph.h"
#include "coro/lock.h"

/*
 * Who is at work on a range of the disk (Q8).  A request is in the list from the moment it asks, and waits for those of
 * before that it may not be beside, so that nobody waits for ever, and no two wait for each other.
 *
 *                 read   write  alloc  free
 *        read      -      -      -     waits
 *        write     -      -      -     waits
 *        alloc     -      -     waits  waits
 *        free    waits  waits   waits  waits
 */
typedef enum Qcow2RangeKind {
    QCOW2_RANGE_READ,
    QCOW2_RANGE_WRITE, /* into host clusters that are there, and nobody else's */
    QCOW2_RANGE_ALLOC, /* of whole clusters: some of them get a host cluster, or begin to use theirs */
    QCOW2_RANGE_FREE, /* of whole clusters: some of them lose theirs */
} Qcow2RangeKind;

typedef struct Qcow2Range Qcow2Range;
struct Qcow2Range {
    Qcow2RangeKind kind;
    int64_t start, end;
    CoQueue waiters;
    QTAILQ_ENTRY(Qcow2Range) next;
};

/* Options of a node, of which a reopen may change all. */
typedef struct Qcow2Options {
    int64_t l2_cache_bytes, l2_page_bytes, blocks_cache_bytes;
    uint64_t clean_interval_s;                             /* 0: never */
    bool discard_request, discard_other, discard_snapshot; /* what is given back is passed on */
    bool discard_no_unref;                                 /* a discard keeps the host cluster */
} Qcow2Options;

typedef struct Qcow2Compress Qcow2Compress;

typedef struct Qcow2State {
    /* Fixed while open, or changed by who holds the disk's size (resize.c), or by a reopen, quiesced. */
    BlockDriverState *bs;
    BdrvChild *data; /* where guest clusters are: bs->file, or a file of their own */
    Qcow2Geometry g;
    Qcow2Options options;
    bool
        writable; /* else: entered from any AioContext, and nothing of what follows changes but the cache */

    /* Home AioContext. */
    Qcow2Header header; /* as it is in the file, or will be by the write that is under way */
    uint64_t *l1;       /* in the processor's order */
    uint32_t l1_entries;
    unsigned long *l1_dirty; /* a bit for each 512 bytes */
    bool l1_is_dirty;
    Qcow2Cache *l2;
    CoMutex table_lock; /* one at a time makes L2 tables, and changes the L1 table */
    CoMutex header_lock;
    Qcow2Compress *compress; /* compress/'s */

    /* Since the first change; NULL before, and after the image was settled. */
    Qcow2Cache *blocks;
    Qcow2Alloc *alloc;
    GHashTable *tables; /* clusters that L2 tables are in; guard/overlap.c's */
    CoMutex begin_lock;

    QTAILQ_HEAD(, Qcow2Range) ranges;
    unsigned exclusive; /* of them, neither read nor write */
    CoRwlock
        changing; /* for reading: who changes the disk's contents; for writing: who changes its size */

    /* commit.c */
    bool
        unordered; /* data was written, or a table, that must be durable before what refers to it (Q3) */
    bool failed;  /* a flush has failed: nothing that is promised from now on could be kept (Q10) */
    bool corrupt; /* the header says so: no more writes */
    bool reported; /* a finding that was not fatal was told */
    bool committing;
    uint64_t commits_begun, commits_done;
    int commit_ret; /* of the last one */
    CoQueue commit_queue;

    struct QEMUTimer *clean_timer; /* NULL: none */
} Qcow2State;

/* range.c */

/* Return: whether it had to wait, so that what was looked at before may be different now. */
bool coroutine_fn qcow2_co_range_begin(Qcow2State *s, Qcow2Range *r, Qcow2RangeKind kind,
                                       int64_t start, int64_t end);
void qcow2_range_end(Qcow2State *s, Qcow2Range *r);

/* map.c: where the disk's bytes are. */

/* Entries of an L2 table, in a page that is pinned. */
typedef struct Qcow2Slot {
    Qcow2Page *page;
    uint32_t index;       /* of the first, in the page */
    uint32_t n;           /* from there to the end of the page */
    int64_t table;        /* where the table is, and */
    uint32_t table_index; /* which of its entries the first is; for who tells of damage */
} Qcow2Slot;

typedef struct Qcow2Where {
    Qcow2ClusterKind kind;
    int64_t
        bytes; /* from the offset on, of this kind and, if they have a place, one after the other */
    int64_t host;  /* the place of the first byte; compressed: of nothing */
    uint64_t word; /* compressed: the entry */
    bool ours;     /* nobody else has the host cluster: it may be written to */
} Qcow2Where;

/*
 * qcow2_co_look() - what is at @offset, @bytes at most; for who holds a range there, or reads a read-only image
 *
 * Return: 0; -EIO, an entry is invalid, and the image is marked as corrupt; or negative errno.
 */
int coroutine_fn qcow2_co_look(Qcow2State *s, int64_t offset, int64_t bytes, Qcow2Where *ret);

/*
 * qcow2_co_slot() - the entries from that of @offset on, pinned; for qcow2_cache_put(slot->page)
 * @make: the table is to be there, and nobody else's: made, or copied, if need be
 *
 * Return: 0, slot->page is NULL where there is no table; or negative errno.
 */
int coroutine_fn qcow2_co_slot(Qcow2State *s, int64_t offset, bool make, Qcow2Slot *ret_slot);
Qcow2Entry qcow2_slot_get(const Qcow2State *s, const Qcow2Slot *slot, uint32_t i);
void qcow2_slot_set(Qcow2State *s, const Qcow2Slot *slot, uint32_t i, Qcow2Entry entry);
/* NULL, or what is wrong with it, told to the user: then -EIO. */
int coroutine_fn qcow2_co_check_entry(Qcow2State *s, const Qcow2Slot *slot, uint32_t i);
/* Entry @index of the L1 table is @word from now on. */
void qcow2_l1_set(Qcow2State *s, uint32_t index, uint64_t word);
/* What the entry has of the file, it has no longer. */
void qcow2_give_back_entry(Qcow2State *s, Qcow2Entry entry, bool discard);

/* read.c */
int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
/* The same for who holds a range; what is behind the disk's end is zeros. */
int coroutine_fn qcow2_co_read(Qcow2State *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                               size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file);
/* Whether a read of what is unallocated gives zeros without looking further. */
static inline bool qcow2_has_backing(const Qcow2State *s)
{
    return s->bs->backing != NULL;
}

/* write.c, zero.c, resize.c */
int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        BdrvRequestFlags flags);
int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                   PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
/* The same for who holds the disk's size. */
int coroutine_fn qcow2_co_write(Qcow2State *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                size_t qiov_offset);
/* These bytes read as zeros, whatever it takes; they may be behind the disk's end.  For who holds the disk's size alone. */
int coroutine_fn qcow2_co_make_zeros(Qcow2State *s, int64_t offset, int64_t bytes);
/* Before each change, and after it: the disk's size stays as it is.  0: qcow2_co_change_end() is due; or negative errno. */
int coroutine_fn qcow2_co_change_begin(Qcow2State *s, int64_t offset, int64_t bytes);
void coroutine_fn qcow2_co_change_end(Qcow2State *s);

/* commit/commit.c: what memory has, into the file (Q1 to Q6). */

int coroutine_fn qcow2_co_flush(BlockDriverState *bs);
/*
 * qcow2_co_commit() - all that was done before is durable
 *
 * Return: 0; negative errno: what was not written is to be written still; after a flush that failed always -EIO (Q10).
 */
int coroutine_fn qcow2_co_commit(Qcow2State *s);
/* For caches: of L2 tables, of refcount blocks. */
int coroutine_fn qcow2_co_make_l2_room(void *opaque);
int coroutine_fn qcow2_co_make_blocks_room(void *opaque);
/* All dirty refcount blocks are written; a flush is the caller's business (A4). */
int coroutine_fn qcow2_co_write_blocks(Qcow2State *s);

/* commit/begin.c: between an image that is as its file says, and one that is used. */

/*
 * qcow2_co_begin() - before a change: the allocator is there, and the header has no bits that the change would make wrong
 *
 * Return: 0; negative errno, with @errp set unless it is NULL.
 */
int coroutine_fn qcow2_co_begin(Qcow2State *s, Error **errp);
/*
 * qcow2_co_settle() - everything is durable, nothing is dirty, and nothing is taken ahead; quiesced
 *
 * The next change begins anew.
 *
 * Return: 0; negative errno: the file has leaks, or not everything.
 */
int coroutine_fn qcow2_co_settle(Qcow2State *s);

/* commit/clean.c: as options.clean_interval_s says; main thread. */
void qcow2_clean_start(Qcow2State *s);
void qcow2_clean_stop(Qcow2State *s);

/* image/store.c: the header (Q7). */

/* What @change makes of s->header is in the file, durably, then in s->header; on failure that is as it was. */
typedef void Qcow2HeaderChange(Qcow2Header *next, const void *opaque);
int coroutine_fn qcow2_co_change_header(Qcow2State *s, Qcow2HeaderChange *change,
                                        const void *opaque);

/* options.c */
int qcow2_options(const Qcow2State *s, const BlockdevOptionsQcow2 *o, int open_flags,
                  Qcow2Options *ret, Error **errp);

/* compress/ */

/* @bytes of the compressed cluster that has @offset, of which @word is the entry; for who holds a range there. */
int coroutine_fn qcow2_co_read_compressed(Qcow2State *s, uint64_t word, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov, size_t qiov_offset);
/*
 * qcow2_co_write_compressed() - whole clusters, of which the disk's last may be less; what does not shrink is written plain
 *
 * For who holds the disk's size.  -EINVAL: parts of clusters; -ENOTSUP: data has a file of its own.
 */
int coroutine_fn qcow2_co_write_compressed(Qcow2State *s, int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov, size_t qiov_offset);
/* What is taken for compressed data to come is given back. */
void qcow2_compress_settle(Qcow2State *s);

/* guard/: damage */

/*
 * qcow2_co_corrupt() - the image is damaged: the header says so from now on, and nothing is written any more
 * @fatal: false: it is only told, once
 */
void coroutine_fn qcow2_co_corrupt(Qcow2State *s, bool fatal, int64_t offset, int64_t bytes,
                                   const char *fmt, ...) G_GNUC_PRINTF(5, 6);

/*
 * guard/overlap.c (Q12); while there is an allocator.  0; -EIO: metadata would be overwritten, the image is marked as
 * corrupt.
 */
/* Guest data is about to be written there. */
int coroutine_fn qcow2_co_guard_write(Qcow2State *s, int64_t offset, int64_t bytes);
/* These clusters are free, refcounts say. */
int coroutine_fn qcow2_co_guard_run(Qcow2State *s, int64_t offset, int64_t bytes);
/* This L2 table is about to be changed. */
int coroutine_fn qcow2_co_guard_table(Qcow2State *s, int64_t table);
void qcow2_guard_begin(Qcow2State *s);
void qcow2_guard_end(Qcow2State *s);
/* An entry of the L1 table was @before. */
void qcow2_guard_table(Qcow2State *s, uint64_t before, uint64_t after);

/* To the node's home AioContext, where requests to children are made, and back to where one was. */
AioContext *coroutine_fn qcow2_co_go_home(BlockDriverState *bs);
void coroutine_fn qcow2_co_go_back(BlockDriverState *bs, AioContext *there);

#endif
