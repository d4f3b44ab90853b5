/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * status.c - what lies where: the answer to BLOCK_STATUS
 *
 * One chunk for each chosen context, all built in one piece of memory of known size:
 *
 *     | chunk header | context id | [count] | length, flags | length, flags | ... | chunk header | ...
 *
 * with 32-bit lengths, or 64-bit ones after a count when headers are extended.  Neighbours with equal
 * flags are one extent.  The answer may end early, but has at least one extent a context.
 */
#include "block/export/nbd/nbd-int.h"
#include "block/io/io.h"

typedef struct NbdExtent {
    uint64_t bytes;
    uint32_t flags;
} NbdExtent;

/* Extents found so far. */
typedef struct NbdExtentList {
    NbdExtent *extents;
    unsigned count, max;
} NbdExtentList;

/* False: the list is full and @bytes were not added. */
static bool add_extent(NbdExtentList *list, uint64_t bytes, uint32_t flags)
{
    if (list->count > 0 && list->extents[list->count - 1].flags == flags) {
        list->extents[list->count - 1].bytes += bytes;
        return true;
    }
    if (list->count == list->max) {
        return false;
    }
    list->extents[list->count++] = (NbdExtent){.bytes = bytes, .flags = flags};
    return true;
}

/* What one context says about the beginning of a range: flags, and how far they hold; negative errno. */
typedef int coroutine_fn NbdStatusAt(NbdExport *exp, unsigned context, int64_t offset,
                                     int64_t bytes, int64_t *ret_bytes, uint32_t *ret_flags);

static int coroutine_fn allocation_at(NbdExport *exp, unsigned context, int64_t offset,
                                      int64_t bytes, int64_t *ret_bytes, uint32_t *ret_flags)
{
    int r = blk_co_block_status_above(exp->common.blk, NULL, offset, bytes, ret_bytes, NULL, NULL);

    if (r < 0) {
        return r;
    }
    *ret_flags =
        (r & BDRV_BLOCK_DATA ? 0 : NBD_STATE_HOLE) | (r & BDRV_BLOCK_ZERO ? NBD_STATE_ZERO : 0);
    return 0;
}

/* 0: in no image of the chain; 1: in the topmost; 2: in its backing file; and so on. */
static int coroutine_fn depth_at(NbdExport *exp, unsigned context, int64_t offset, int64_t bytes,
                                 int64_t *ret_bytes, uint32_t *ret_flags)
{
    BlockDriverState *bs = blk_bs(exp->common.blk);
    int64_t left = bytes;
    uint32_t depth = 0;

    for (bs = bs ? bdrv_skip_filters(bs) : NULL; bs; bs = bdrv_backing_chain_next(bs)) {
        int64_t here;
        int r = bdrv_co_is_allocated(bs, offset, left, &here);

        if (r < 0) {
            return r;
        }
        depth++;
        if (here > 0) {
            left = MIN(left, here); /* 0: beyond the end of a shorter image, which says nothing */
        }
        if (r > 0) {
            *ret_bytes = left;
            *ret_flags = depth;
            return 0;
        }
    }
    *ret_bytes = left;
    *ret_flags = 0;
    return 0;
}

static int coroutine_fn dirty_at(NbdExport *exp, unsigned context, int64_t offset, int64_t bytes,
                                 int64_t *ret_bytes, uint32_t *ret_flags)
{
    BdrvDirtyBitmap *bitmap = exp->bitmaps[context - NBD_CONTEXT_BITMAPS];
    bool dirty = bdrv_dirty_bitmap_status(bitmap, offset, bytes, ret_bytes);

    *ret_flags = dirty ? NBD_STATE_DIRTY : 0;
    return 0;
}

static int coroutine_fn find_extents(NbdRequest *req, unsigned context, NbdExtentList *list)
{
    NbdStatusAt *const at = context == NBD_CONTEXT_BASE_ALLOCATION    ? allocation_at
                            : context == NBD_CONTEXT_ALLOCATION_DEPTH ? depth_at
                                                                      : dirty_at;
    int64_t offset = req->header.offset, left = req->header.length;

    while (left > 0) {
        int64_t bytes = 0;
        uint32_t flags = 0;
        int r = at(req->client->exp, context, offset, left, &bytes, &flags);

        if (r < 0) {
            /* What was found already is a good answer. */
            return list->count > 0 ? 0 : r;
        }
        if (bytes <= 0) {
            /* The disk became shorter meanwhile. */
            return list->count > 0 ? 0 : -EIO;
        }
        bytes = MIN(bytes, left);
        if (!add_extent(list, bytes, flags)) {
            break;
        }
        offset += bytes;
        left -= bytes;
        r = nbd_request_pause_point(req);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static size_t put_extents(uint8_t *raw, NbdRequest *req, unsigned context,
                          const NbdExtentList *list, bool last)
{
    bool extended = req->client->mode == NBD_MODE_EXTENDED;
    uint16_t type = extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
    uint64_t payload = extended ? 8 + 16 * (uint64_t)list->count : 4 + 8 * (uint64_t)list->count;
    uint8_t *end = raw;

    end += nbd_put_chunk(end, req->client->mode, last ? NBD_REPLY_FLAG_DONE : 0, type,
                         req->header.cookie, req->header.offset, payload);
    stl_be_p(end, context);
    end += 4;
    if (extended) {
        stl_be_p(end, list->count);
        end += 4;
    }
    for (unsigned i = 0; i < list->count; i++) {
        const NbdExtent *extent = &list->extents[i];

        if (extended) {
            stq_be_p(end, extent->bytes);
            stq_be_p(end + 8, extent->flags);
            end += 16;
        } else {
            stl_be_p(end, extent->bytes);
            stl_be_p(end + 4, extent->flags);
            end += 8;
        }
    }
    return end - raw;
}

static bool context_chosen(const NbdContexts *contexts, unsigned context)
{
    switch (context) {
    case NBD_CONTEXT_BASE_ALLOCATION:
        return contexts->base_allocation;
    case NBD_CONTEXT_ALLOCATION_DEPTH:
        return contexts->allocation_depth;
    default:
        return contexts->bitmaps[context - NBD_CONTEXT_BITMAPS];
    }
}

int coroutine_fn nbd_co_block_status(NbdRequest *req)
{
    const NbdContexts *contexts = &req->client->contexts;
    unsigned max = MAX(NBD_STATUS_EXTENTS_MAX / contexts->count, 1u);
    unsigned n_contexts = NBD_CONTEXT_BITMAPS + req->client->exp->n_bitmaps;
    NbdExtentList list = {.max = req->header.flags & NBD_CMD_FLAG_REQ_ONE ? 1 : max};
    unsigned done = 0;
    size_t used = 0;
    uint8_t *raw;
    int r = 0;

    list.extents = g_new(NbdExtent, list.max);
    raw = g_malloc((size_t)contexts->count * (NBD_EXTENDED_REPLY_SIZE + 8 + 16 * (size_t)list.max));
    for (unsigned i = 0; i < n_contexts && r == 0; i++) {
        if (context_chosen(contexts, i)) {
            list.count = 0;
            r = find_extents(req, i, &list);
            used += put_extents(raw + used, req, i, &list, ++done == contexts->count);
        }
    }
    g_free(list.extents);
    if (r < 0) {
        g_free(raw);
        return r;
    }
    req->chunks = g_new0(NbdReplyChunks, 1);
    req->chunks->data = raw;
    req->chunks->iov[0] = (struct iovec){.iov_base = raw, .iov_len = used};
    req->chunks->niov = 1;
    return 0;
}
