/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockDriver: what a format, protocol or filter can do; one small table for each of its trades.
 * A program enters the drivers it has with bdrv_register(), main thread, before the first node.
 */
#ifndef BLOCK_GRAPH_DRIVER_H
#define BLOCK_GRAPH_DRIVER_H

#include <jansson.h>
#include "aio/aio.h"
#include "coro/lock.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-types-block-create.h"
#include "util/error.h"
#include "util/iov.h"
#include "util/queue.h"

typedef struct BlockDriverState BlockDriverState;
typedef struct BdrvChild BdrvChild;
typedef struct BdrvDirtyBitmap BdrvDirtyBitmap;

typedef enum BdrvRequestFlags {
    BDRV_REQ_MAY_UNMAP = 1 << 0,   /* write zeroes: may give the space back */
    BDRV_REQ_NO_FALLBACK = 1 << 1, /* write zeroes: -ENOTSUP rather than writing zeros out */
    BDRV_REQ_FUA = 1 << 2,         /* on stable storage before it returns */
    BDRV_REQ_WRITE_COMPRESSED = 1 << 3,
    BDRV_REQ_WRITE_UNCHANGED = 1 << 4, /* readers see no difference */
    BDRV_REQ_SERIALISING = 1 << 5,     /* overlapping requests wait for this one */
    BDRV_REQ_NO_SERIALISING =
        1 << 6,                   /* read: do not wait for serialising requests (old contents) */
    BDRV_REQ_NO_WAIT = 1 << 7,    /* -EBUSY rather than wait for an overlapping request */
    BDRV_REQ_ZERO_WRITE = 1 << 8, /* internal: the write is a write-zeroes */
    BDRV_REQ_PREFETCH = 1 << 9,   /* read without a buffer, for its side effects */
} BdrvRequestFlags;

/* What a child is to its parent; a set. */
typedef enum BdrvChildRole {
    BDRV_CHILD_DATA = 1 << 0,
    BDRV_CHILD_METADATA = 1 << 1,
    BDRV_CHILD_FILTERED = 1 << 2, /* parent shows this child's data unchanged */
    BDRV_CHILD_COW = 1 << 3,      /* backing file */
    BDRV_CHILD_PRIMARY = 1 << 4,
    BDRV_CHILD_IMAGE = BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY,
} BdrvChildRole;

/* What block status says of a range. */
enum {
    BDRV_BLOCK_DATA = 0x01,         /* allocated in the node that answers and stored */
    BDRV_BLOCK_ZERO = 0x02,         /* reads as zeros */
    BDRV_BLOCK_OFFSET_VALID = 0x04, /* *map is the offset in *file */
    BDRV_BLOCK_RAW = 0x08,          /* internal: ask *file at *map */
    BDRV_BLOCK_ALLOCATED = 0x10,    /* decided by this node, not by its backing */
    BDRV_BLOCK_EOF = 0x20,
    BDRV_BLOCK_COMPRESSED = 0x80, /* with DATA: stored compressed, at no offset */
    BDRV_BLOCK_RECURSE = 0x40,    /* internal: data of *file may be zeros too, worth asking */
};

/* Opening and closing.  Main thread; the node is not in use yet, or quiesced. */
typedef struct BlockDriverLife {
    /* Coroutine.  Attach children with bdrv_open_child() (block/open/open.h). bs->open_flags are set. */
    int coroutine_fn (*co_open)(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp);
    /* Coroutine.  Children are dropped by the caller afterwards. */
    void coroutine_fn (*co_close)(BlockDriverState *bs);
    /* Fill bs->bl; it holds what the children imply already.  Also sets supported_*_flags. */
    void (*refresh_limits)(BlockDriverState *bs);
    /* NULL: bdrv_default_perms. */
    void (*child_perm)(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                       uint64_t shared, uint64_t *nperm, uint64_t *nshared);
    /*
     * Permission transaction at a node without file child: check may take what is needed (image
     * locks) and fail; then exactly one of set and abort follows.  All NULL or all given.
     */
    int (*check_perm)(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp);
    void (*set_perm)(BlockDriverState *bs, uint64_t perm, uint64_t shared);
    void (*abort_perm)(BlockDriverState *bs);
    /*
     * Reopen in a transaction, quiesced.  prepare returns a state of the driver's own in *ret_state;
     * then exactly one of commit and abort frees it.  @flags are the new open flags.
     */
    int coroutine_fn (*co_reopen_prepare)(BlockDriverState *bs, const BlockdevOptions *opts,
                                          int flags, void **ret_state, Error **errp);
    void (*reopen_commit)(BlockDriverState *bs, void *state);
    void (*reopen_abort)(BlockDriverState *bs, void *state);
    /*
     * Somebody waits for what is in flight, in this node or in one above it; and nobody any more.  Requests
     * that a driver holds back are to go on, or to end.  Main thread.  May be NULL.
     */
    void (*drain_begin)(BlockDriverState *bs);
    void (*drain_end)(BlockDriverState *bs);
    /*
     * Nobody wants what is in flight any more (bdrv_cancel_in_flight()): what waits for a server that is
     * silent or away ends soon, with an error; an attempt to open the node, too.  Main thread; must not yield.
     * May be NULL.
     */
    void (*cancel_in_flight)(BlockDriverState *bs);
    /* The home AioContext is @ctx from now on (quiesced).  May be NULL. */
    void (*aio_context_changed)(BlockDriverState *bs, AioContext *ctx);
} BlockDriverLife;

/* The data path.  Coroutines in the node's home AioContext.  Offsets and lengths in bytes. */
typedef struct BlockDriverData {
    /*
     * Aligned to bl.request_alignment, inside the length.  @qiov may be larger: use @qiov_offset.
     * @flags may hold PREFETCH and NO_SERIALISING; hand them on to children (old contents are read
     * through a whole chain).
     */
    int coroutine_fn (*co_preadv)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
    /* Only flags in bs->supported_write_flags arrive. NULL: read-only driver. */
    int coroutine_fn (*co_pwritev)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
    /* -ENOTSUP: written out as zeros by the caller unless NO_FALLBACK.  May be NULL. */
    int coroutine_fn (*co_pwrite_zeroes)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         BdrvRequestFlags flags);
    /* Advice.  -ENOTSUP is taken as done.  May be NULL. */
    int coroutine_fn (*co_pdiscard)(BlockDriverState *bs, int64_t offset, int64_t bytes);
    /* Everything written is on stable storage (own caches; children are flushed by the caller). */
    int coroutine_fn (*co_flush)(BlockDriverState *bs);
    /*
     * co_flush makes what is in the children stable, too, and the caller leaves them alone: for a driver that must
     * know of each of their flushes whether it failed.
     */
    bool flushes_children;
    /*
     * BDRV_BLOCK_* of the first *pnum bytes (>= 1, a multiple of request_alignment) of the range; NULL:
     * all data.  *file is a node and *map an offset in it, with OFFSET_VALID or RAW.
     */
    int coroutine_fn (*co_block_status)(BlockDriverState *bs, bool want_zero, int64_t offset,
                                        int64_t bytes, int64_t *pnum, int64_t *map,
                                        BlockDriverState **file);
    /*
     * Optional.  Bytes of another node come to @offset without passing memory of ours.  Inside both lengths, aligned for
     * both.  -ENOTSUP: not between these two, or not here; then anything may be in the range.
     */
    int coroutine_fn (*co_copy_range)(BlockDriverState *bs, int64_t offset, BlockDriverState *src,
                                      int64_t src_offset, int64_t bytes);
    int64_t coroutine_fn (*co_getlength)(BlockDriverState *bs); /* NULL: that of bs->file */
    int coroutine_fn (*co_truncate)(BlockDriverState *bs, int64_t offset, bool exact,
                                    PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
    int64_t coroutine_fn (*co_get_allocated_file_size)(BlockDriverState *bs);
    /* For blkdebug: the node above is at @event in the work of a request.  May yield. */
    void coroutine_fn (*co_debug_event)(BlockDriverState *bs, BlkdebugEvent event);
} BlockDriverData;

typedef struct BlockDriverInfo {
    int64_t cluster_size;    /* 0: none */
    int64_t subcluster_size; /* the smallest piece that an image has for itself; 0: a cluster */
    int64_t vm_state_offset; /* where, behind the disk, the state of a machine begins; 0: nowhere */
    bool is_dirty;
} BlockDriverInfo;

/*
 * Long work on an image, and who waits for it: a job, or a person at a terminal.  All members are atomic; a
 * driver is given NULL where nobody looks and nobody cancels.
 */
typedef struct BdrvProgress {
    int64_t done, total; /* in units of the work's own */
    bool cancelled; /* set by who waits: end soon, with -ECANCELED, and leave nothing half done */
} BdrvProgress;

static inline bool bdrv_progress_cancelled(const BdrvProgress *progress)
{
    return progress && __atomic_load_n(&progress->cancelled, __ATOMIC_RELAXED);
}

static inline void bdrv_progress_set_total(BdrvProgress *progress, int64_t total)
{
    if (progress) {
        __atomic_store_n(&progress->total, total, __ATOMIC_RELAXED);
    }
}

static inline void bdrv_progress_set_done(BdrvProgress *progress, int64_t done)
{
    if (progress) {
        __atomic_store_n(&progress->done, done, __ATOMIC_RELAXED);
    }
}

typedef enum BdrvCheckFix {
    BDRV_FIX_LEAKS = 1 << 0,
    BDRV_FIX_ERRORS = 1 << 1,
} BdrvCheckFix;

/* What co_check() has found.  Zeroed by the caller but for the message and what is for it. */
typedef struct BdrvCheckResult {
    /* A finding, or what was done about it, in a line for people, without a newline.  May be NULL. */
    void (*message)(void *opaque, const char *line);
    void *opaque;
    BdrvProgress *progress; /* may be NULL */

    int64_t corruptions, leaks; /* not repaired */
    int64_t check_errors;       /* what kept the check from looking */
    int64_t corruptions_fixed, leaks_fixed;
    int64_t image_end_offset; /* end of the used part of the file; 0: not known */
    /* All 0: not known. */
    int64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
} BdrvCheckResult;

/* An option of image creation, for "-o help" and for who refuses what is not there. */
typedef struct BdrvCreateOption {
    const char *name; /* as in -o, with underscores; NULL ends the table */
    const char *type; /* "size", "str", "bool (on/off)", ... */
    const char *help;
} BdrvCreateOption;

/*
 * Images as files: creating, recognising, describing, checking, changing.  Each may be NULL: the driver cannot.
 * Coroutines, and the node is open: home AioContext; co_create(): main thread.  What changes an image (check with
 * @fix, amend, change_backing_file, make_empty): nobody else uses the node.
 */
typedef struct BlockDriverImage {
    /* How sure (0..100) that @buf, the first @len bytes of the file, is of this format. */
    int (*probe)(const uint8_t *buf, size_t len, const char *filename);
    /*
     * Protocol drivers make the file; formats write into the node opts->u.x.file.  What was there is lost.  A
     * failure leaves no image that looks like one, but may leave the file.
     */
    int coroutine_fn (*co_create)(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                                  Error **errp);
    const BdrvCreateOption *create_options; /* without size, backing_file, backing_fmt */
    bool has_data_file;                     /* knows data_file, the name of a file for the data */
    bool has_backing_size; /* knows backing-size: how much of the backing file counts */
    bool
        has_detached_header; /* knows detached-header: then the file is opts->u.x.header, and there is no other */
    bool new_is_noise; /* what was never written reads as anything but zeros */
    /*
     * How large the file would be of what co_create(@opts) makes, with what @in shows copied into it (NULL: empty).
     * Nothing is opened: the nodes that @opts name are not there, nor need the files be.  For
     * qapi_free_BlockMeasureInfo(); NULL with @errp.
     */
    BlockMeasureInfo *coroutine_fn (*co_measure)(const BlockdevCreateOptions *opts,
                                                 BlockDriverState *in, BdrvProgress *progress,
                                                 Error **errp);
    int coroutine_fn (*co_get_info)(BlockDriverState *bs, BlockDriverInfo *ret_info);
    /* For qapi_free_ImageInfoSpecific(); NULL, with @errp set or not: nothing to tell. */
    ImageInfoSpecific *coroutine_fn (*co_get_specific_info)(BlockDriverState *bs, Error **errp);
    /* Main thread, any moment.  What only this driver counts; for qapi_free_BlockStatsSpecific() */
    BlockStatsSpecific *(*get_specific_stats)(BlockDriverState *bs);
    /*
     * @fix: BDRV_FIX_*; then the node is writable.  0: checked, whatever was found; negative errno: could not
     * be checked.  The node was opened with BDRV_O_CHECK: it may be damaged.
     */
    int coroutine_fn (*co_check)(BlockDriverState *bs, BdrvCheckResult *result, unsigned fix,
                                 Error **errp);
    /* The records of a format's journal, for people, a line at a time without newlines.  BDRV_O_CHECK as above. */
    int coroutine_fn (*co_print_journal)(BlockDriverState *bs,
                                         void (*print)(void *opaque, const char *line),
                                         void *opaque, Error **errp);
    /*
     * Change what creation has set.  @options: an object of strings, names as in create_options and @amend_options.
     * @force: also what may lose data.
     */
    int coroutine_fn (*co_amend)(BlockDriverState *bs, json_t *options, bool force,
                                 BdrvProgress *progress, Error **errp);
    const BdrvCreateOption *amend_options;
    /* Durably; @file NULL: none.  The children are as they were.  Sets bs->backing_file and _format. */
    int coroutine_fn (*co_change_backing_file)(BlockDriverState *bs, const char *file,
                                               const char *format, Error **errp);
    /* Nothing is in the image any more: all is read from the backing file. */
    int coroutine_fn (*co_make_empty)(BlockDriverState *bs, Error **errp);
    /* The state of a machine, beside the disk; home AioContext.  The first needs a writable node. */
    int coroutine_fn (*co_save_vmstate)(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);
    int coroutine_fn (*co_load_vmstate)(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);
} BlockDriverImage;

/* What an image says of how its backing file is to be copied into it.  0: it says nothing. */
typedef struct BdrvPrefetchInfo {
    int64_t unit; /* bytes; what is loaded and stored begins at a multiple of it */
    uint32_t slots;
    int64_t bytes_per_slot;
    /* Bytes a second.  Below the least somebody else needs the storage; the most is a limit. */
    int64_t min_read_throughput, min_write_throughput;
    int64_t max_read_throughput, max_write_throughput;
    int64_t throttle_ns; /* the longest time to stay away then */
    int64_t read_measure_ns, write_measure_ns;
} BdrvPrefetchInfo;

/*
 * Images into which all that is in the backing file can be copied, while they are written, until they need it no
 * more.  Coroutines, home AioContext of the writable node; callers count themselves (bdrv_inc_in_flight()).
 * What is in the backing file still is what co_block_status() does not call ALLOCATED.
 */
typedef struct BlockDriverPrefetch {
    void (*get_info)(BlockDriverState *bs, BdrvPrefetchInfo *ret_info);
    /* What the backing file has there, whole units, or up to the end of what is in the backing file. */
    int coroutine_fn (*co_load)(BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf);
    /*
     * Into the image with it, wherever that does not have something newer; NULL: zeros.  Waits for whoever is at
     * work there, so that all of the range is in the image after a success.  A crash may undo it.
     */
    int coroutine_fn (*co_store)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 const void *buf);
    /* What was stored so far survives a crash. */
    int coroutine_fn (*co_keep)(BlockDriverState *bs);
    /*
     * The backing file is needed no more, durably, and nothing is read from it.  Return: 0; -EAGAIN, something is
     * in the backing file still; negative errno.
     */
    int coroutine_fn (*co_finish)(BlockDriverState *bs);
} BlockDriverPrefetch;

/* Images that keep dirty bitmaps of their node.  Main thread. */
typedef struct BlockDriverBitmaps {
    /* Whether one more, of this name and granularity, can be kept; an Error that says why not. */
    int (*can_store)(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp);
    /* Coroutine.  The node is open, and not in use yet: what is in the image becomes bitmaps of the node. */
    int coroutine_fn (*co_load)(BlockDriverState *bs, Error **errp);
    /* Coroutine.  The node is closed next; quiesced, and flushed.  Its persistent bitmaps go into the image. */
    void coroutine_fn (*co_store)(BlockDriverState *bs);
    /*
     * Coroutine.  Quiesced.  Durably, after a crash the image has the persistent bitmap @name no more, though the node
     * has it still and will store it again, unless it is released next.  0, also if the image does not have it; or
     * negative errno with an Error, and the image has it, or takes no writes any more.
     */
    int coroutine_fn (*co_forget)(BlockDriverState *bs, const char *name, Error **errp);
} BlockDriverBitmaps;

typedef struct BlockDriver {
    const char *format_name; /* the value of "driver" */
    bool is_filter;          /* shows its one FILTERED child unchanged */
    bool is_protocol;        /* has no child: the end of a tree */
    bool supports_backing;
    bool
        supports_compression; /* images of it take BDRV_REQ_WRITE_COMPRESSED, unless a node says otherwise */
    bool tells_events; /* bdrv_co_debug_event() says what each request to its file is for */
    size_t instance_size;
    const BlockDriverLife *life;
    const BlockDriverData *data;
    const BlockDriverImage *image;       /* may be NULL */
    const BlockDriverPrefetch *prefetch; /* may be NULL */
    const BlockDriverBitmaps *bitmaps;   /* may be NULL */
    QLIST_ENTRY(BlockDriver) list;
} BlockDriver;

void bdrv_register(BlockDriver *drv);
BlockDriver *bdrv_find_format(const char *format_name);
BlockDriver *bdrv_next_driver(BlockDriver *drv); /* NULL: first */

#endif
