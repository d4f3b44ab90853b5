/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request's way: check, align, track, serialise, notify, split, dispatch.
 *
 * Context of everything here: coroutine, in the home AioContext of the node (read-only nodes: any).
 * Offsets and lengths are bytes.  Return: 0 (or as said), or negative errno.
 */
#ifndef BLOCK_IO_IO_H
#define BLOCK_IO_IO_H

#include "block/graph/graph.h"

/* Longest request accepted from above: a signed 32-bit count with room for padding to any alignment. */
#define BDRV_REQUEST_MAX_BYTES (INT32_MAX & ~(int64_t)0xfffff)
/* Largest image: room for alignment arithmetic in int64_t. */
#define BDRV_MAX_LENGTH        (INT64_MAX & ~(int64_t)0xfffffff)

typedef enum BdrvTrackedRequestType {
    BDRV_TRACKED_READ,
    BDRV_TRACKED_WRITE,
    BDRV_TRACKED_DISCARD,
    BDRV_TRACKED_TRUNCATE,
} BdrvTrackedRequestType;

/*
 * What a before-write notifier may return for a request of type BDRV_TRACKED_DISCARD, instead of keeping
 * what it would destroy: the discard is advice, so it is not done, and succeeds; write observers are not
 * told.  Positive, for errors are negative.  For a write no notifier returns anything above zero.
 */
#define BDRV_NOTIFY_DROP 1

/*
 * A write-zeroes and a discard cost their sender nothing for any length, but what lies there may have to be
 * kept first.  While a node has before-write notifiers both go in pieces, each a tracked request, notified by
 * itself: what has to be captured in front of one piece is bounded, the first pieces are done while later ones
 * wait, and a dropped piece of a discard does not drop the whole.  Zeroes: as much as the longest plain write
 * usually is.  A discard may be dropped instead of captured, so its pieces may be longer: a trim of a
 * terabyte is a hundred thousand of them.  Cut at multiples; a driver's zero or discard block larger than that
 * is one piece, as half a block could not be zeroed or discarded at all.
 */
#define BDRV_NOTIFIED_ZERO_BYTES    (1 * MiB)
#define BDRV_NOTIFIED_DISCARD_BYTES (8 * MiB)

/* One request under way in a node; lives on the stack of the coroutine that makes it. */
/*
 * What a before-write notifier has read of what the write is about to overwrite, for those behind it.  It holds
 * for them, too: the write still waits, and another that was quicker has passed them before.
 */
typedef struct BdrvOldData {
    bool wanted; /* there is somebody behind */
    int64_t offset, bytes;
    uint8_t *buf; /* the request's; NULL: nothing */
} BdrvOldData;

struct BdrvTrackedRequest {
    BlockDriverState *bs;
    int64_t offset, bytes; /* as asked, after alignment for before-write notifiers */
    BdrvTrackedRequestType type;
    BdrvRequestFlags flags;
    BdrvOldData old; /* while notifiers run */
    bool serialising;
    int64_t overlap_offset, overlap_bytes; /* what others must not touch */
    Coroutine *co;
    CoQueue wait_queue; /* coroutines blocked on this request */
    BdrvTrackedRequest *waiting_for;
    QLIST_ENTRY(BdrvTrackedRequest) list;
};

/* @qiov holds @bytes at its start; _part: at @qiov_offset. */
int coroutine_fn bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                BdrvRequestFlags flags);
int coroutine_fn bdrv_co_preadv_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset,
                                     BdrvRequestFlags flags);
int coroutine_fn bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, BdrvRequestFlags flags);
int coroutine_fn bdrv_co_pwritev_part(BdrvChild *child, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags);
int coroutine_fn bdrv_co_pread(BdrvChild *child, int64_t offset, int64_t bytes, void *buf,
                               BdrvRequestFlags flags);
int coroutine_fn bdrv_co_pwrite(BdrvChild *child, int64_t offset, int64_t bytes, const void *buf,
                                BdrvRequestFlags flags);
/**
 * bdrv_co_copy_range() - copy what another node has, without passing memory of ours ("copy offloading")
 * @src: a node of the same kind as the last one below @child; nobody writes there meanwhile
 *
 * Context: coroutine, the AioContext of both.
 *
 * Return: 0, as after a write; -ENOTSUP: it has to be read and written, the range may hold anything; or negative errno.
 */
int coroutine_fn bdrv_co_copy_range(BlockDriverState *src, int64_t src_offset, BdrvChild *child,
                                    int64_t offset, int64_t bytes);
/* Reads what is there now without waiting for serialising requests; sectors of 512 bytes. */
int coroutine_fn bdrv_co_readv_no_serialising(BdrvChild *child, int64_t sector_num, int nb_sectors,
                                              QEMUIOVector *qiov);
/* Both: a piece that fails ends it with its error, and what was done before it stays done. */
int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes,
                                       BdrvRequestFlags flags);
int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes);
int coroutine_fn bdrv_co_flush(BlockDriverState *bs);
/* The same for the end of @bs: only what this process has written to is flushed (F4 in block/io/flush.c). */
int coroutine_fn bdrv_co_flush_written(BlockDriverState *bs);
/* Control path flavour of resize: needs BLK_PERM_RESIZE. */
int coroutine_fn bdrv_co_truncate(BdrvChild *child, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);

/*
 * Ask the drivers again, from the lowest node up: somebody else may have made the storage larger.  Parents and
 * observers are told.  Return: 0, bdrv_getlength() has it; negative errno.
 */
int coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs);

/* BDRV_BLOCK_* of the first *pnum bytes; *pnum = 0 only at or past the end (then BDRV_BLOCK_EOF). */
int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map, BlockDriverState **file);
/* Along the backing chain from @bs down to, not including, @base (NULL: all of it).  Held by read guards. */
int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                            int64_t offset, int64_t bytes, int64_t *pnum,
                                            int64_t *map, BlockDriverState **file);
/* 1: allocated in @bs itself (filters looked through), 0: not. */
int coroutine_fn bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum);
/* 1: the whole range surely reads as zeros, 0: not known, without reading. */
int coroutine_fn bdrv_co_is_zero_fast(BlockDriverState *bs, int64_t offset, int64_t bytes);
int64_t coroutine_fn bdrv_co_get_allocated_file_size(BlockDriverState *bs);
int coroutine_fn bdrv_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info);

/*
 * bdrv_co_debug_event() - say what the next request to @bs, a node's file, is for
 *
 * Tests make requests fail there, or hold them: a place in the work of a driver has a name.  Without a blkdebug node
 * it costs a look.  May yield.
 */
void coroutine_fn bdrv_co_debug_event(BlockDriverState *bs, BlkdebugEvent event);

/*
 * Read guard: holds reads of a node whose contents are on their way.
 *
 *     guest's write ---> source  <--- backing ---  target  <--- an export reads: where the target has nothing
 *                          |                         ^           yet, the source answers
 *                          +--- old data, staged ----+
 *
 * Between the write to the source and the store in the target a reader of the target would be given new data.
 * The guard's begin() lets it in when none of the range is on its way, and the token keeps it so, target
 * and backing file alike, until token->end().
 *
 * Held are: each read of the node, also one through a backing edge (an overlay's), but not one that its
 * maker made with BDRV_REQ_NO_SERIALISING: so reads who keeps the range himself.  And each walk of
 * bdrv_co_block_status_above() that comes to the node, until the end of the walk: what the node and what its
 * backing file say must be of one moment.  One walk begins once for what it asks of one node.
 */
typedef struct BdrvReadToken BdrvReadToken;
struct BdrvReadToken {
    int error; /* negative errno: the read is not made, and fails with it; ended all the same */
    /* Once, in the home AioContext of the node; must not yield; the memory is its maker's again. */
    void (*end)(BdrvReadToken *token);
};
typedef struct BdrvReadGuard BdrvReadGuard;
struct BdrvReadGuard {
    /*
     * Home AioContext of the node, in the reader's coroutine; may yield, also for a read with
     * BDRV_REQ_NO_WAIT, which is about requests.  The range is as asked and may reach behind the end.
     * The read is counted in flight, from before begin() until after end(): a quiesce of the node waits for
     * it, so what begin() waits for must come also while the node is quiesced.
     * NULL: nothing to hold.
     */
    BdrvReadToken *coroutine_fn (*begin)(BdrvReadGuard *guard, int64_t offset, int64_t bytes);
};
/*
 * Home AioContext of @bs, or main thread while @bs is quiesced.  At most one for a node.  Read-only nodes are
 * entered from anywhere, so @bs is writable, and stays so: the owner writes to it.
 * NULL removes: begin() is not called any more.  Calls of begin() that have not returned are the owner's to
 * bring to an end before the guard's memory goes; tokens handed out are still ended, without the guard.
 * Set: reads that are under way are not held.  Removed by its owner before he lets go of @bs.
 */
void bdrv_set_read_guard(BlockDriverState *bs, BdrvReadGuard *guard);

/*
 * Write tap: stands on both sides of each write of a node, and sees what is written.
 *
 *     notify --> before() --> driver --> observers --> FUA --> after() --> the caller is told
 *
 * So a mirror can write the same to its target before the guest hears of it, and knows, before the guest
 * does, of each write that has changed the source.
 */
typedef struct BdrvWriteTap BdrvWriteTap;
typedef struct BdrvTapWrite BdrvTapWrite;
/* One piece of a write, as it goes to the driver.  On the stack of its coroutine. */
struct BdrvTapWrite {
    /* Set to NULL by the tap's owner, in the home AioContext: after() is not called for this write. */
    BdrvWriteTap *tap;
    /* Fixed. */
    BdrvTrackedRequestType
        type;              /* BDRV_TRACKED_WRITE (a write-zeroes too) or BDRV_TRACKED_DISCARD */
    int64_t offset, bytes; /* of whole blocks of the node: the last one may reach behind the end */
    QEMUIOVector *qiov;    /* NULL: zeros, or a discard */
    size_t qiov_offset;
    BdrvRequestFlags flags;
    /* The tap's, until after() returns. */
    QLIST_ENTRY(BdrvTapWrite) list;
    unsigned state;
};
struct BdrvWriteTap {
    /*
     * Both: home AioContext of the node, in the writer's coroutine; may yield.  The write is tracked and
     * counted in flight meanwhile, so a quiesce of the node waits for them.
     */
    void coroutine_fn (*before)(BdrvWriteTap *tap, BdrvTapWrite *write);
    /* @ret: what became of the write (0 or negative errno); what it returns is what the caller gets. */
    int coroutine_fn (*after)(BdrvWriteTap *tap, BdrvTapWrite *write, int ret);
};
/*
 * Home AioContext of @bs, or main thread while @bs is quiesced.  At most one for a node.  Set while it is
 * quiesced, so that each write either was before or is seen.  NULL removes: no before() begins any more.
 * Each write that is between its before() and its after() is let go of by its owner (write->tap = NULL), or
 * waited for, before the tap's memory goes; he waits for the calls that have not returned.
 */
void bdrv_set_write_tap(BlockDriverState *bs, BdrvWriteTap *tap);

/*
 * Is told how long the requests of a node take, as their maker sees it: from the call to its return, with
 * all waiting (for other requests, notifiers, a read guard), as one however many pieces it had.  Failed ones
 * too, but not those that were refused, had nothing to do, or are advice that nobody takes: they did not begin.
 * Reads and writes made with BDRV_REQ_NO_SERIALISING, and reads through a backing edge, do not count: a job
 * and its target make them.  Nor does what is done to a read-only node, which is entered from any thread.
 */
typedef struct BdrvLatencyObserver BdrvLatencyObserver;
struct BdrvLatencyObserver {
    /*
     * A write-zeroes is a BDRV_TRACKED_WRITE.  @bytes as asked, @ns of QEMU_CLOCK_REALTIME.
     * Home AioContext of the node; must not yield, nor add or remove observers.
     */
    void (*done)(BdrvLatencyObserver *obs, BdrvTrackedRequestType type, int64_t bytes, int64_t ns);
    QLIST_ENTRY(BdrvLatencyObserver) list;
};
/*
 * Home AioContext of @bs, or main thread while @bs is quiesced.  The clock is read only when there is an observer
 * as a request begins: a request that found none is told to none.  Removed by its owner before he lets go
 * of @bs, at any time but inside done(); then its memory may go.
 */
void bdrv_add_latency_observer(BlockDriverState *bs, BdrvLatencyObserver *obs);
void bdrv_remove_latency_observer(BdrvLatencyObserver *obs);

/* "write 4096+512 serialising, 2 waiters".  Any state. */
struct TextBuf;
void bdrv_tracked_request_to_text(struct TextBuf *out, const BdrvTrackedRequest *req);

#endif
