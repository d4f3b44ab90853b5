/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The graph: nodes (BlockDriverState), edges (BdrvChild), who may do what through an edge, quiesce.
 *
 * Context, unless a function says otherwise: main thread.  Functions with co_ in the name are
 * coroutines of the main AioContext and yield.  The shape of the graph changes only between
 * bdrv_co_drained_begin() and _end() of the part that changes: that is the lock (chapter comment in
 * block/graph/drain.c).
 */
#ifndef BLOCK_GRAPH_GRAPH_H
#define BLOCK_GRAPH_GRAPH_H

#include "aio/aio.h"
#include "block/graph/driver.h"
#include "util/hbitmap.h"
#include "util/notify.h"
#include "util/queue.h"

/* What a user of a node does through its edge (perm), and lets others do meanwhile (shared). */
enum {
    BLK_PERM_CONSISTENT_READ = 0x01, /* data read is what a guest would see at one time */
    BLK_PERM_WRITE = 0x02,           /* change what readers see */
    BLK_PERM_WRITE_UNCHANGED = 0x04, /* write what is there already (copy-on-read, backup) */
    BLK_PERM_RESIZE = 0x08,
    BLK_PERM_ALL = 0x0f,
};
/* A word for a set of permissions: "write, resize".  Caller frees. */
char *bdrv_perm_names(uint64_t perm);

/*
 * What the graph asks of the parent at the upper end of an edge.  A lower floor owns the table, the
 * user (a node, a BlockBackend) fills it in.  All are called in the main thread.
 */
typedef struct BdrvChildClass {
    bool parent_is_bds; /* opaque is a BlockDriverState */
    /* bdrv_replace_node() leaves such an edge where it is. */
    bool stay_at_node;
    /* "block device 'x'", "node 'y'", "block job 'z'"; caller frees. */
    char *(*get_parent_desc)(BdrvChild *c);
    /* Start no new request through @c / are any still going to come? / go on. */
    void (*drained_begin)(BdrvChild *c);
    bool (*drained_poll)(BdrvChild *c);
    void (*drained_end)(BdrvChild *c);
    /* The tree moves to @ctx (quiesced).  NULL: cannot move, with an error that names the parent. */
    bool (*can_change_aio_context)(BdrvChild *c, AioContext *ctx, Error **errp);
    void (*set_aio_context)(BdrvChild *c, AioContext *ctx);
    /* The child's length has changed. */
    void (*resized)(BdrvChild *c);
} BdrvChildClass;

struct BdrvChild {
    BlockDriverState *bs; /* counted */
    char *name;           /* "file", "backing", "root" */
    const BdrvChildClass *klass;
    BdrvChildRole role;
    void *opaque; /* the parent */
    uint64_t perm;
    uint64_t shared_perm;
    uint64_t new_perm, new_shared; /* during a permission transaction only */
    uint64_t unshared_below;       /* what is done to the nodes below is done through bs */
    bool quiesced_parent;          /* drained_begin was called through this edge and not ended */
    bool waited_for;               /* the child is waited for because the parent is */
    QLIST_ENTRY(BdrvChild) next;   /* of the parent's children */
    QLIST_ENTRY(BdrvChild) next_parent; /* of the child's parents */
};

/* Sees each write of a node after it was made (or failed): dirty bitmaps hang here. */
typedef struct BdrvWriteObserver BdrvWriteObserver;
struct BdrvWriteObserver {
    /* Home AioContext of the node; must not yield. */
    void (*written)(BdrvWriteObserver *obs, int64_t offset, int64_t bytes);
    /*
     * The node's length changed: main thread, or home AioContext when a write made it grow (then before
     * written() of that write).  Must not yield.  May be NULL.
     */
    void (*resized)(BdrvWriteObserver *obs, int64_t new_length);
    /* The node is being closed (main thread): the observer was taken off; free it.  May be NULL. */
    void (*node_closed)(BdrvWriteObserver *obs);
    QLIST_ENTRY(BdrvWriteObserver) list;
};

typedef struct BdrvTrackedRequest BdrvTrackedRequest;

/* Open flags. */
enum {
    BDRV_O_RDWR = 0x02,
    BDRV_O_NO_FLUSH = 0x200, /* cache.no-flush */
    BDRV_O_NOCACHE = 0x20,   /* cache.direct */
    BDRV_O_UNMAP = 0x4000,   /* discard=unmap */
    BDRV_O_NO_BACKING = 0x100,
    BDRV_O_INACTIVE = 0x800,
    BDRV_O_CHECK = 0x1000, /* only to be checked: damage is no reason not to open */
    BDRV_O_NO_IO =
        0x10000, /* only to be described: no key is needed, and no data is read or written */
    BDRV_O_NAMED =
        0x8000, /* an image names it, with what is below: nobody here has chosen its options */
};

typedef struct BlockLimits {
    uint32_t request_alignment; /* power of two; requests below are padded to it.  >= 1 */
    uint32_t min_mem_alignment; /* of buffers */
    int64_t max_transfer;       /* 0: no limit; a multiple of request_alignment */
    int64_t opt_transfer;
    int64_t max_pdiscard, pdiscard_alignment; /* 0: no limit / request_alignment */
    int64_t max_pwrite_zeroes, pwrite_zeroes_alignment;
    int max_iov;
    unsigned max_in_flight; /* requests that one client should have here at once, 0: any number */
} BlockLimits;

struct BlockDriverState {
    /* Fixed while open; changed quiesced. */
    const BlockDriver *drv; /* NULL: closed */
    void *opaque;           /* the driver's state, drv->instance_size bytes, zeroed before open */
    AioContext *aio_context;
    int open_flags;
    bool read_only;
    bool force_share;
    bool auto_read_only;
    bool encrypted;      /* its image is; set by the driver's co_open */
    bool format_guessed; /* to be raw: it must not come to look like another format */
    BlockdevDetectZeroesOptions detect_zeroes;
    char *node_name; /* never NULL; "#block123" when made up */
    char *filename;  /* what a user would type for it; never NULL */
    BlockLimits bl;
    int64_t total_bytes;
    unsigned supported_write_flags, supported_zero_flags, supported_truncate_flags;
    char *backing_file, *backing_format; /* from the image's header; may be NULL */

    /* Main thread. */
    int refcnt;
    bool monitor_owned; /* made by blockdev-add; holds one reference */
    bool closing;       /* the last reference went; closing it may take a while (G3) */
    bool given_up;      /* it does not answer, and the program ends: closed without a flush */
    BdrvChild *file, *backing; /* also in children */
    QLIST_HEAD(, BdrvChild) children;
    QLIST_HEAD(, BdrvChild) parents;
    QTAILQ_ENTRY(BlockDriverState) all_list;
    QLIST_HEAD(, BdrvOpBlocker) op_blockers;
    QLIST_HEAD(, BdrvDirtyBitmap) dirty_bitmaps; /* the dirty room's */
    BlockdevOptions *options;                    /* as opened, for reopen and query; owned */
    unsigned waited_for;                         /* quiesces of this node and of nodes above it */

    /* Atomic. */
    int quiesce_counter;
    unsigned in_flight;

    /* Home AioContext only. */
    QLIST_HEAD(, BdrvTrackedRequest) tracked_requests;
    unsigned serialising_in_flight;
    NotifierWithReturnList before_write_notifiers;
    QLIST_HEAD(, BdrvWriteObserver) write_observers;
    struct BdrvReadGuard *read_guard;                    /* the io room's; NULL: none */
    struct BdrvWriteTap *write_tap;                      /* the io room's; NULL: none */
    QLIST_HEAD(, BdrvLatencyObserver) latency_observers; /* the io room's */
    uint64_t wr_highest_offset;
    unsigned write_gen, flushed_gen;
    bool active_flush;
    CoQueue flush_queue;
};

/* Life of a node. */
BlockDriverState *bdrv_new(const BlockDriver *drv, const char *node_name, Error **errp);
void bdrv_ref(BlockDriverState *bs);
/* Closes (flushes) and frees at zero. */
void coroutine_fn bdrv_co_unref(BlockDriverState *bs);
BlockDriverState *bdrv_find_node(const char *node_name);
/* Node by its name, or the node of the named BlockBackend (hook set by the backend room). */
BlockDriverState *bdrv_lookup_bs(const char *device, const char *node_name, Error **errp);
extern BlockDriverState *(*bdrv_lookup_device_hook)(const char *device);
BlockDriverState *bdrv_next_node(BlockDriverState *bs); /* NULL: first; NULL at the end */
/* Also those that are being opened or closed. */
void bdrv_for_each_node(void (*fn)(BlockDriverState *bs, void *opaque), void *opaque);
/* Whether any node lives in @ctx, one that is still being closed too. */
bool bdrv_context_has_nodes(const AioContext *ctx);
const char *bdrv_get_node_name(const BlockDriverState *bs);
/* The device's name if a BlockBackend has one on top, else the node's name. */
const char *bdrv_get_device_or_node_name(const BlockDriverState *bs);
extern const char *(*bdrv_device_name_hook)(const BlockDriverState *bs);
AioContext *bdrv_get_aio_context(const BlockDriverState *bs);
BdrvChild *bdrv_filter_or_cow_child(BlockDriverState *bs);
BlockDriverState *bdrv_skip_filters(BlockDriverState *bs);
BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs);
bool bdrv_chain_contains(BlockDriverState *top, BlockDriverState *base);
static inline BlockDriverState *child_bs(BdrvChild *c)
{
    return c ? c->bs : NULL;
}

/* Length in bytes as last refreshed; negative errno.  Any thread that may read the node. */
int64_t bdrv_getlength(BlockDriverState *bs);
/* Ask the driver again (coroutine, home or main quiesced), tell parents and observers. */
int coroutine_fn bdrv_co_refresh_total(BlockDriverState *bs);
void bdrv_notify_resized(BlockDriverState *bs, int64_t new_bytes);
void bdrv_refresh_limits(BlockDriverState *bs);
size_t bdrv_min_mem_align(BlockDriverState *bs);
/* A buffer aligned for I/O on @bs; qemu_vfree() it. */
void *qemu_blockalign(BlockDriverState *bs, size_t bytes);
void *qemu_try_blockalign(BlockDriverState *bs, size_t bytes);
bool bdrv_is_read_only(const BlockDriverState *bs);
bool bdrv_is_writable(const BlockDriverState *bs);

/*
 * Edges.  attach takes a reference of its own on @child_bs.  The permission check covers the whole
 * subgraph; on conflict nothing has changed and the error names both users.
 */
BdrvChild *bdrv_root_attach_child(BlockDriverState *child_bs, const char *name,
                                  const BdrvChildClass *klass, BdrvChildRole role, uint64_t perm,
                                  uint64_t shared, void *opaque, Error **errp);
void coroutine_fn bdrv_co_root_unref_child(BdrvChild *child);
/* For drivers: permissions come from drv->life->child_perm. */
BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child_bs, const char *name,
                             BdrvChildRole role, Error **errp);
void coroutine_fn bdrv_co_unref_child(BlockDriverState *parent, BdrvChild *child);
/* Change what a root user does through @c. */
int bdrv_child_try_set_perm(BdrvChild *c, uint64_t perm, uint64_t shared, Error **errp);
/*
 * From now on nobody has @perm on the nodes below that of @c but through it, though @c shares it there: for
 * one who must see each write (a notifier).  Refused, naming both, while somebody does.
 */
int bdrv_child_unshare_below(BdrvChild *c, uint64_t perm, Error **errp);
int bdrv_refresh_perms(BlockDriverState *bs, Error **errp);
/* The same for several nodes as one: all agree, or nothing has changed. */
int bdrv_refresh_perms_list(BlockDriverState **list, size_t n, Error **errp);
/* What all users of @bs do together, and what all of them allow. */
void bdrv_get_cumulative_perm(BlockDriverState *bs, uint64_t *perm, uint64_t *shared);
void bdrv_default_perms(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                        uint64_t shared, uint64_t *nperm, uint64_t *nshared);
extern const BdrvChildClass child_of_bds;

/* All users of @from (but stay_at_node edges and edges from @to's own subtree) go to @to.  Quiesces. */
int coroutine_fn bdrv_co_replace_node(BlockDriverState *from, BlockDriverState *to, Error **errp);
/* Set or (NULL) remove the backing child.  Quiesces. */
int coroutine_fn bdrv_co_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing,
                                        Error **errp);

/* Quiesce: no request in flight in @bs or above, none starting.  Nests. */
void coroutine_fn bdrv_co_drained_begin(BlockDriverState *bs);
void coroutine_fn bdrv_co_drained_end(BlockDriverState *bs);
/* Several at once: all quiesced before it returns.  That is the instant of a transaction. */
void coroutine_fn bdrv_co_drained_begin_list(BlockDriverState **list, size_t n);
void coroutine_fn bdrv_co_drained_end_list(BlockDriverState **list, size_t n);
/*
 * The three parts of a quiesce, for a user whose edge to one node makes another node busy (a backup's
 * before-write copies): raise, ask, lower.  Called from its BdrvChildClass; nothing yields.
 */
void bdrv_quiesce_begin(BlockDriverState *bs);
bool bdrv_quiesce_poll(BlockDriverState *bs);
void bdrv_quiesce_end(BlockDriverState *bs);
/* Count requests; home AioContext or, for read-only nodes, any. */
void bdrv_inc_in_flight(BlockDriverState *bs);
void bdrv_dec_in_flight(BlockDriverState *bs);
/*
 * The requests in flight in @bs and the nodes below it, backing files left out, need not succeed any more:
 * drivers that wait for a dead server give up soon.  Everybody's requests, so for the one user of a node.
 */
void bdrv_cancel_in_flight(BlockDriverState *bs);
/* Something a drain may wait for has changed; any thread. */
void bdrv_drain_kick(void);

/* Move the whole tree around @bs to @ctx, or say which user cannot. */
int coroutine_fn bdrv_co_try_change_aio_context(BlockDriverState *bs, AioContext *ctx,
                                                Error **errp);

/*
 * Before-write notifiers: data is a BdrvTrackedRequest; may yield; negative fails the write with it; positive:
 * BDRV_NOTIFY_DROP (block/io/io.h), for a discard only, and older notifiers are not told of it.  Added while
 * @bs is quiesced (D4), so that each write either was before or is notified; taken off in its home AioContext
 * by notifier_with_return_remove(), at any time.  The notifier stays its owner's.
 */
void bdrv_add_before_write_notifier(BlockDriverState *bs, NotifierWithReturn *notifier);
/* Told of each write and of the node's end.  Added and removed while @bs is quiesced, or in its home (D4). */
void bdrv_add_write_observer(BlockDriverState *bs, BdrvWriteObserver *obs);
void bdrv_remove_write_observer(BdrvWriteObserver *obs);

/* What closing and resizing ask of the io room above; which fills it in at start. */
typedef struct BdrvIoHooks {
    int coroutine_fn (*co_flush)(BlockDriverState *bs); /* home AioContext */
} BdrvIoHooks;
extern BdrvIoHooks bdrv_io_hooks;

/* Operations a job forbids on a node while it runs, with the reason in words. */
typedef enum BlockOpType {
    BLOCK_OP_TYPE_RESIZE,
    BLOCK_OP_TYPE_BACKUP_SOURCE,
    BLOCK_OP_TYPE_BACKUP_TARGET,
    BLOCK_OP_TYPE_MIRROR_SOURCE,
    BLOCK_OP_TYPE_MIRROR_TARGET,
    BLOCK_OP_TYPE_REPLACE,
    BLOCK_OP_TYPE_DELETE,
    BLOCK_OP_TYPE_MAX,
} BlockOpType;
typedef struct BdrvOpBlocker BdrvOpBlocker;
/* @mask: bits 1 << BlockOpType. @reason is copied, e.g. "block device is in use by block job: backup" */
BdrvOpBlocker *bdrv_op_block(BlockDriverState *bs, unsigned mask, const char *reason);
void bdrv_op_unblock(BdrvOpBlocker *blocker);
/* True and "Node 'x' is busy: reason" when blocked. */
bool bdrv_op_is_blocked(BlockDriverState *bs, BlockOpType op, Error **errp);

#endif
