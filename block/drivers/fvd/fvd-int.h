/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fvd-int.h - an open FVD image, shared by the files of this room.  The chapter is at the head of fvd.c. */
#ifndef BLOCK_DRIVERS_FVD_FVD_INT_H
#define BLOCK_DRIVERS_FVD_FVD_INT_H

#include "block/drivers/fvd/bitmaps/bitmaps.h"
#include "block/drivers/fvd/journal-buf.h"
#include "block/drivers/fvd/layout/header.h"
#include "block/drivers/fvd/layout/jrecord.h"
#include "block/drivers/fvd/map.h"
#include "block/graph/graph.h"
#include "coro/lock.h"
#include "util/queue.h"

/*
 * Who is at work on a range of the disk.  A request is in the list from the moment it asks, and waits for those of
 * before that it may not be beside, so that nobody waits for ever, and no two wait for each other.
 *
 *                 read   write  copy   take   free
 *        read      -      -      -      waits  waits
 *        write     -      -      -      waits  waits
 *        copy      -      -      waits  waits  waits
 *        take      waits  waits  waits  waits  waits
 *        free      waits  waits  waits  waits  waits
 */
typedef enum FvdRangeKind {
    FVD_RANGE_READ,
    FVD_RANGE_WRITE, /* all its blocks are in the image, all its chunks are taken */
    FVD_RANGE_COPY,  /* of whole blocks: some of them may come into the image, copied in part */
    FVD_RANGE_TAKE,  /* of whole chunks: they have got places, which are made to read as zeros */
    FVD_RANGE_FREE,  /* of whole chunks: they lose their places */
} FvdRangeKind;

typedef struct FvdRange FvdRange;
struct FvdRange {
    FvdRangeKind kind;
    int64_t start, end;
    CoQueue waiters;
    QTAILQ_ENTRY(FvdRange) next;
};

typedef struct FvdHole FvdHole;
typedef struct FvdGrowCommand FvdGrowCommand;

typedef struct FvdState {
    /* Fixed while open; replaced by a reopen, quiesced. */
    BlockDriverState *bs;
    BdrvChild *data; /* where chunks are: bs->file, or a file of their own */
    FvdJGeometry geometry;
    int64_t journal_buffer_size; /* bytes; 0: the default */
    int64_t journal_interval_ns; /* 0: the default */
    int64_t write_max;           /* bytes of a write whose records surely fit into half a journal */
    bool copy_on_read;
    char *local_path;             /* of the data; NULL: not on this host */
    FvdGrowCommand *grow_command; /* storage/; NULL: none */

    /* Home AioContext. */
    FvdHeader
        header;  /* as it is in the file, or will be by the write of a sector that is under way */
    FvdMap *map; /* NULL: opened to be checked (BDRV_O_CHECK) */
    /*
     * NULL: nothing was changed since the image was opened, or settled; then the file says that it was shut down
     * cleanly, but for a recovery that is due: table and bitmap in memory have what the journal in the file says.
     */
    FvdJournal *journal;
    bool recovery_due;
    bool
        autoclear_due; /* the file may have bits that the first change takes away, and what they say of it */
    bool failed;         /* data or metadata was lost: nothing is written any more (F4) */
    uint64_t next_epoch; /* above all in the journal */
    uint64_t next_sequence;
    CoMutex begin_lock;
    CoRwlock
        changing; /* for reading: who writes or flushes; for writing: who changes the disk's size */
    CoMutex state_lock; /* one write of the header's sector at a time, of what is true then */
    unsigned drained;

    /* store.c: who is at work where, and how far the data file is ready to be taken. */
    QTAILQ_HEAD(, FvdRange) ranges;
    unsigned exclusive; /* of them, neither read nor write */
    CoMutex grow_lock;
    bool free_found;   /* chunks that were given back in other times may be taken */
    int64_t ready_end; /* chunks that were never in use read as zeros below, durably */

    /* zero.c: space that is given back once the record that frees it is durable. */
    QSIMPLEQ_HEAD(, FvdHole) holes; /* in the order of their tickets */
    unsigned punching; /* of them, under way: chunks that were given back are not taken meanwhile */
    CoQueue punched;

    /* sums.c: by their numbers, blocks whose records are held back, and those that are recorded by their sums. */
    GHashTable *held, *summed;

    /* bitmaps/ */
    FvdBitmapDir *bitmaps; /* in the file, with the header's bit; NULL: none that is known */
    bool bitmaps_valid;    /* the disk is as it was when they were stored; settled */
    bool bitmaps_loaded;   /* the node has them */
    bool writable, closing;

    /* base/soft.c */
    uint64_t kept_outstanding; /* bytes that guests have read, and that are not in the image yet */
    bool soft;                 /* blocks have come into the image without a record */
} FvdState;

/*
 * Bytes of one write at most, where the journal is large enough: 16 chunks, which is more than guests send at once;
 * what is copied for it, and its records, stay small beside it.
 */
#define FVD_WRITE_MAX (16 * MiB)

/* store.c: who is where; chunks and what they are in. */

/*
 * fvd_co_range_begin() - be at work on [start, end) of the disk from now on
 *
 * Return: whether it had to wait, so that the map may be another.
 */
bool coroutine_fn fvd_co_range_begin(FvdState *s, FvdRange *r, FvdRangeKind kind, int64_t start,
                                     int64_t end);
void fvd_range_end(FvdState *s, FvdRange *r);

/*
 * fvd_co_store_start() - before the first change: what is behind the last chunk in use holds nothing any more, durably
 *
 * Return: 0; negative errno, a flush has failed, and with it the image.
 */
int coroutine_fn fvd_co_store_start(FvdState *s);

/**
 * fvd_co_take() - see to it that chunks of the disk have places, which read as zeros durably (F3)
 *
 * Context: coroutine, home AioContext.  Yields; no range is held by the caller.
 *
 * Return: 0; -ENOSPC, the limit of the format or of the device; or negative errno.
 */
int coroutine_fn fvd_co_take(FvdState *s, uint32_t first_chunk, uint32_t n_chunks);

/* Where a chunk of the data's file is. */
static inline int64_t fvd_chunk_place(const FvdState *s, int64_t chunk)
{
    return s->header.data_offset + chunk * s->header.chunk_size;
}

/* fvd_store_needed_end() - where the last byte in the data's file is that somebody needs */
int64_t fvd_store_needed_end(const FvdState *s);

/*
 * fvd_co_store_reach() - the data's file has so many bytes, for what is no chunk; those that it has gained hold anything
 *
 * Return: 0; -ENOSPC, it is a device; or negative errno.
 */
int coroutine_fn fvd_co_store_reach(FvdState *s, int64_t end);

/* zero.c: zeros without data, and space that is given back. */

int coroutine_fn fvd_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags);
int coroutine_fn fvd_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
/* fvd_holes_durable() - records up to this ticket are durable: what they free is punched, in the background */
void fvd_holes_durable(FvdState *s, FvdJTicket upto);
/* fvd_co_wait_holes() - wait for those that are under way */
void coroutine_fn fvd_co_wait_holes(FvdState *s);
/* fvd_drop_holes() - nothing is given back of what is not under way yet */
void fvd_drop_holes(FvdState *s);

/* resize.c */
int coroutine_fn fvd_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);

/* sums.c: blocks that are recorded by their checksums; home AioContext. */

void fvd_sums_init(FvdState *s);
void fvd_sums_free(FvdState *s);
/* fvd_sums_reset() - nothing is held back or waited for any more: the journal has gone */
void fvd_sums_reset(FvdState *s);
/* fvd_sums_in_use() - whether blocks that come into the image are to be given to fvd_sums_add() */
bool fvd_sums_in_use(const FvdState *s);
/*
 * fvd_sums_add() - a block without a record has been written
 * @crc: of all of it; NULL: not known.  Not looked at if the block is held back already
 */
void fvd_sums_add(FvdState *s, uint32_t block, const uint32_t *crc);
/* fvd_sums_hold_back() - after the last fvd_sums_add(); 0 or -EIO */
int fvd_sums_hold_back(FvdState *s);
/*
 * fvd_sums_touch() - these blocks are going to be written to
 * @ret_held: whether there are some among them whose record is held back
 *
 * Return: true: not yet, fvd_co_sums_settle() comes first.
 */
bool fvd_sums_touch(FvdState *s, uint32_t first, uint32_t n, bool *ret_held);
/* fvd_sums_gather() - what is held back into the journal; 0 or -EIO */
int fvd_sums_gather(FvdState *s, bool with_sums);
/* fvd_sums_durable() - records up to this ticket are durable */
void fvd_sums_durable(FvdState *s, FvdJTicket upto);
/* fvd_sums_confirm() - plain records for blocks whose sums are durable, into the journal; 0 or -EIO */
int fvd_sums_confirm(FvdState *s);
/* fvd_co_sums_settle() - the plain records of all blocks that were recorded by their sums become durable */
int coroutine_fn fvd_co_sums_settle(FvdState *s);

/* checkpoint.c: from the file to memory, and back. */

/*
 * fvd_co_load() - table and bitmap from the file, and from its journal after a crash; writes nothing
 *
 * Home AioContext of the node; before the first request.
 *
 * Return: 0, s->map is there; negative errno with an Error.
 */
int coroutine_fn fvd_co_load(FvdState *s, Error **errp);

/**
 * fvd_co_begin_changes() - before a write: a recovery that is due is done
 * @journaled: records are going to be added: the file says that it was not shut down cleanly, durably (F1), and there
 *             is a journal
 *
 * Context: coroutine, home AioContext.  Yields.
 *
 * Return: 0; -EIO, the image takes no writes any more; or negative errno.
 */
int coroutine_fn fvd_co_begin_changes(FvdState *s, bool journaled);

/**
 * fvd_co_settle() - all that memory has into the file, which then says that it was shut down cleanly (F7)
 * @bitmaps: NULL: what the file has of them is void if there was a change; or what is to be stored, taken over
 *
 * Context: coroutine, home AioContext, quiesced.  Yields.  There is no journal afterwards, whatever happens.
 *
 * Return: 0; negative errno: what the file says is true still, with its journal.
 */
int coroutine_fn fvd_co_settle(FvdState *s, FvdBitmapDir *bitmaps);

/* To the node's home AioContext, where requests to children are made, and back to where one was. */
AioContext *coroutine_fn fvd_co_go_home(BlockDriverState *bs);
void coroutine_fn fvd_co_go_back(BlockDriverState *bs, AioContext *there);

/* fvd_co_write_state() - the header's sector with what changes, as s->header has it, durably */
int coroutine_fn fvd_co_write_state(FvdState *s);

/* fvd_fail() - something that was acknowledged may be lost: from now on no write and no flush succeeds */
void fvd_fail(FvdState *s);

/* fvd_co_flush_node() - flush a child's node; a failure is for ever */
int coroutine_fn fvd_co_flush_node(FvdState *s, BlockDriverState *bs);

/* storage/flush.c */
/*
 * fvd_co_flush_files() - all that was written before, to the image's file and to the data's, is durable; both flushed
 *                        at the same time
 *
 * Return: 0; negative errno, for ever.
 */
int coroutine_fn fvd_co_flush_files(FvdState *s);

/* How many bytes a write may have so that its records fit into half a journal; 0: not even those of one chunk. */
int64_t fvd_write_max(const FvdHeader *header, const FvdJGeometry *geometry);

/* base/soft.c: blocks that come into the image from the base, and of which nobody is told before they are recorded. */

/*
 * fvd_co_read_and_keep() - read what is in the base; with copy-on-read the blocks are kept, after the return
 *
 * Flags: NO_SERIALISING is a job's read of old contents, and nothing is kept.
 */
int coroutine_fn fvd_co_read_and_keep(FvdState *s, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags);

/**
 * fvd_co_soft_keep() - all blocks that came into the image without a record get one, for the next commit
 *
 * Context: coroutine, home AioContext; there is a journal.  Yields.
 *
 * Return: 0; -EIO, the journal has failed.
 */
int coroutine_fn fvd_co_soft_keep(FvdState *s);

extern const BlockDriverPrefetch fvd_prefetch;

/* data.c */

/* fvd_check_inside() - 0; -EIO, the disk has not all of these bytes.  For who holds changing */
int fvd_check_inside(const FvdState *s, int64_t offset, int64_t bytes);
/* fvd_co_write() - fvd_co_pwritev() for who holds changing */
int coroutine_fn fvd_co_write(FvdState *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                              size_t qiov_offset);

/* fvd_co_read_base() - without a base node what is in the base reads as zeros */
int coroutine_fn fvd_co_read_base(FvdState *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags);

/*
 * fvd_add_change() - these entries and blocks, as they are now, into the journal; never yields
 * @ret_ticket: NULL, or the change's
 *
 * Return: 0; -EIO, and the image has failed.
 */
int fvd_add_change(FvdState *s, uint32_t first_chunk, uint32_t n_chunks, uint32_t first_block,
                   uint32_t n_blocks, FvdJTicket *ret_ticket);
/*
 * fvd_co_record() - the same; where one sector cannot hold a block's bit with its entries the entries are made durable
 *                   first, and only then it yields: the ranges are held
 */
int coroutine_fn fvd_co_record(FvdState *s, uint32_t first_chunk, uint32_t n_chunks,
                               uint32_t first_block, uint32_t n_blocks);
int coroutine_fn fvd_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn fvd_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn fvd_co_flush(BlockDriverState *bs);
int coroutine_fn fvd_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                     int64_t bytes, int64_t *pnum, int64_t *map,
                                     BlockDriverState **file);

/* fvd_co_check_block() - whether a block, read whole from its place, has this CRC32C; any place is inside 63 bits */
int coroutine_fn fvd_co_check_block(FvdState *s, uint64_t block, uint32_t crc, bool *ret_right);

#endif
