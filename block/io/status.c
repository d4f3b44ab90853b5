/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block status: what is where, without reading it.
 *
 * A driver says what it knows of the first piece of a range; the answer is then made good: a filter or
 * raw points at its child (RAW), a range that a node leaves to a backing file that does not exist
 * reads as zeros, data in a file may lie in a hole of that file (RECURSE).
 *
 * ST1  A walk along a chain begins with the read guard of each node that it asks, before it asks, also of
 *      those that an answer points at; and ends with all of them when it has its answer.  Otherwise
 *      the target of a backup could say "not here" before, and its backing file "zeros" after both have changed.
 * ST2  A question about one node is not held.  Whether a range is allocated in it is true at some moment
 *      while it is asked, which is all that one node can promise; what a read would find is asked of the chain.
 */
#include <errno.h>
#include "block/io/internal.h"
#include "util/osdep.h"

/* How to ask. */
typedef struct StatusQuery {
    bool want_zero;   /* look further for zeros */
    ReadHolds *holds; /* ST1; NULL: ST2 */
} StatusQuery;

static int coroutine_fn status_of_node(BlockDriverState *bs, const StatusQuery *query,
                                       int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file);

/* Ask the driver for a range on its blocks, and cut the answer to what was asked. */
static int coroutine_fn ask_driver(BlockDriverState *bs, bool want_zero, int64_t offset,
                                   int64_t bytes, int64_t *pnum, int64_t *map,
                                   BlockDriverState **file)
{
    int64_t align = bs->bl.request_alignment;
    int64_t start = QEMU_ALIGN_DOWN(offset, align);
    int64_t length = QEMU_ALIGN_UP(offset + bytes, align) - start;
    BdrvChild *filtered = bs->drv->is_filter ? bdrv_filter_or_cow_child(bs) : NULL;
    int ret;

    if (bs->drv->data->co_block_status) {
        ret = bs->drv->data->co_block_status(bs, want_zero, start, length, pnum, map, file);
        if (ret < 0) {
            return ret;
        }
        assert(*pnum > offset - start);
        *pnum = MIN(*pnum - (offset - start), bytes);
        if (ret & (BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_RAW)) {
            *map += offset - start;
        }
        return ret;
    }
    *pnum = bytes;
    if (filtered) {
        *map = offset;
        *file = filtered->bs;
        return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
    }
    *map = offset;
    *file = bs;
    return BDRV_BLOCK_DATA | (bs->drv->is_protocol ? BDRV_BLOCK_OFFSET_VALID : 0);
}

/* Data that lies in @file at @map may be in a hole there. */
static int coroutine_fn refine_by_file(const StatusQuery *query, int ret, int64_t *pnum,
                                       int64_t map, BlockDriverState *file)
{
    int64_t file_pnum, ignored_map;
    BlockDriverState *ignored_file;
    int lower;

    lower = status_of_node(file, query, map, *pnum, &file_pnum, &ignored_map, &ignored_file);
    if (lower < 0) {
        return ret; /* no better answer than the one we have */
    }
    if (lower & BDRV_BLOCK_EOF && !file_pnum) {
        return ret | BDRV_BLOCK_ZERO;
    }
    *pnum = MIN(*pnum, file_pnum);
    return ret | (lower & BDRV_BLOCK_ZERO);
}

static int coroutine_fn complete_answer(BlockDriverState *bs, const StatusQuery *query, int ret,
                                        int64_t *pnum, int64_t map, BlockDriverState *file)
{
    if (ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) {
        ret |= BDRV_BLOCK_ALLOCATED;
    } else if (!(ret & BDRV_BLOCK_ALLOCATED) && bs->drv->supports_backing && !bs->backing) {
        ret |= BDRV_BLOCK_ZERO;
    }
    if (query->want_zero && (ret & BDRV_BLOCK_RECURSE) && (ret & BDRV_BLOCK_DATA) &&
        (ret & BDRV_BLOCK_OFFSET_VALID) && !(ret & BDRV_BLOCK_ZERO) && file && file != bs) {
        ret = refine_by_file(query, ret, pnum, map, file);
    }
    return ret & ~BDRV_BLOCK_RECURSE;
}

static int coroutine_fn status_of_node(BlockDriverState *bs, const StatusQuery *query,
                                       int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file)
{
    int64_t local_map = 0, total;
    BlockDriverState *local_file = NULL;
    int ret;

    *pnum = 0;
    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (query->holds && bytes > 0) {
        ret = read_holds_add(query->holds, bs, offset, bytes);
        if (ret < 0) {
            return ret;
        }
    }
    total = bs->total_bytes;
    if (total < 0) {
        return total;
    }
    if (offset >= total) {
        return BDRV_BLOCK_EOF;
    }
    bytes = MIN(bytes, total - offset);
    if (bytes == 0) {
        return 0;
    }
    bdrv_inc_in_flight(bs);
    ret = ask_driver(bs, query->want_zero, offset, bytes, pnum, &local_map, &local_file);
    if (ret >= 0 && (ret & BDRV_BLOCK_RAW)) {
        int64_t asked = *pnum;

        ret = status_of_node(local_file, query, local_map, asked, pnum, map, file);
        if (ret >= 0 && *pnum == 0) { /* behind the end of the child: zeros */
            *pnum = asked;
            ret = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
        }
        ret = ret < 0 ? ret : ret & ~BDRV_BLOCK_EOF;
    } else if (ret >= 0) {
        ret = complete_answer(bs, query, ret, pnum, local_map, local_file);
        *map = local_map;
        *file = local_file;
    }
    bdrv_dec_in_flight(bs);
    if (ret >= 0 && offset + *pnum == total) {
        ret |= BDRV_BLOCK_EOF;
    }
    return ret;
}

static int coroutine_fn checked_status(BlockDriverState *bs, ReadHolds *holds, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file)
{
    StatusQuery query = {.want_zero = true, .holds = holds};
    int64_t ignored_map;
    BlockDriverState *ignored_file;

    if (bdrv_check_range(offset, bytes) < 0) {
        *pnum = 0;
        return -EIO;
    }
    return status_of_node(bs, &query, offset, bytes, pnum, map ? map : &ignored_map,
                          file ? file : &ignored_file);
}

/* ST2 */
int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    return checked_status(bs, NULL, offset, bytes, pnum, map, file);
}

static int coroutine_fn walk_chain(BlockDriverState *bs, BlockDriverState *base, ReadHolds *holds,
                                   int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                                   BlockDriverState **file)
{
    BlockDriverState *p = bs;
    int64_t top_end = 0;
    int ret = 0;

    *pnum = 0;
    while (p && p != base) {
        bool is_top = p == bs;

        ret = checked_status(p, holds, offset, bytes, pnum, map, file);
        if (ret < 0) {
            return ret;
        }
        if (is_top) {
            if (*pnum == 0) {
                return ret;
            }
            top_end = ret & BDRV_BLOCK_EOF ? offset + *pnum : 0;
        } else if (*pnum == 0) {
            /* A shorter backing file: behind its end the overlay reads zeros. */
            *pnum = bytes;
            ret = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
        }
        bytes = MIN(bytes, *pnum);
        if (ret & BDRV_BLOCK_ALLOCATED) {
            break;
        }
        p = child_bs(bdrv_filter_or_cow_child(p));
    }
    *pnum = bytes;
    ret &= ~BDRV_BLOCK_EOF;
    if (!p && !(ret & (BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO))) {
        /* The end of the chain left it to what is below its own file, where we cannot point. */
        ret = (ret & ~BDRV_BLOCK_OFFSET_VALID) | BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
    }
    if (top_end && offset + *pnum == top_end) {
        ret |= BDRV_BLOCK_EOF;
    }
    return ret;
}

/* ST1 */
int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                            int64_t offset, int64_t bytes, int64_t *pnum,
                                            int64_t *map, BlockDriverState **file)
{
    ReadHolds holds = {0};
    int ret = walk_chain(bs, base, &holds, offset, bytes, pnum, map, file);

    read_holds_end(&holds);
    return ret;
}

/* ST2 */
int coroutine_fn bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum)
{
    StatusQuery query = {0};
    int64_t map;
    BlockDriverState *file;
    int ret;

    *pnum = 0;
    if (bdrv_check_range(offset, bytes) < 0) {
        return -EIO;
    }
    bs = bdrv_skip_filters(bs);
    if (!bs) {
        return -ENOMEDIUM;
    }
    ret = status_of_node(bs, &query, offset, bytes, pnum, &map, &file);
    return ret < 0 ? ret : !!(ret & BDRV_BLOCK_ALLOCATED);
}

int coroutine_fn bdrv_co_is_zero_fast(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    while (bytes > 0) {
        int64_t pnum;
        int ret = bdrv_co_block_status_above(bs, NULL, offset, bytes, &pnum, NULL, NULL);

        if (ret < 0) {
            return ret;
        }
        if (pnum == 0) {
            return 1; /* behind the end */
        }
        if (!(ret & BDRV_BLOCK_ZERO)) {
            return 0;
        }
        offset += pnum;
        bytes -= pnum;
    }
    return 1;
}

int64_t coroutine_fn bdrv_co_get_allocated_file_size(BlockDriverState *bs)
{
    BdrvChild *c;
    int64_t sum = 0;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (bs->drv->data->co_get_allocated_file_size) {
        return bs->drv->data->co_get_allocated_file_size(bs);
    }
    if (bs->drv->is_protocol) {
        return -ENOTSUP;
    }
    QLIST_FOREACH (c, &bs->children, next) {
        if (c->role & (BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_FILTERED)) {
            int64_t n = bdrv_co_get_allocated_file_size(c->bs);

            if (n < 0) {
                return n;
            }
            sum += n;
        }
    }
    return sum;
}

int coroutine_fn bdrv_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info)
{
    BdrvChild *filtered;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (bs->drv->image && bs->drv->image->co_get_info) {
        return bs->drv->image->co_get_info(bs, ret_info);
    }
    filtered = bs->drv->is_filter ? bdrv_filter_or_cow_child(bs) : NULL;
    return filtered ? bdrv_co_get_info(filtered->bs, ret_info) : -ENOTSUP;
}
