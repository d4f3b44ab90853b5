/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * query.c - what there is: query-block, query-named-block-nodes, query-blockstats
 *
 * Describing an image asks its drivers, and may yield: nodes are kept by reference and the list of nodes is
 * taken before the first question.
 */
#include <errno.h>

#include "aio/timer.h"
#include "block/backend/backend.h"
#include "block/dirty/dirty-bitmap.h"
#include "block/image/info.h"
#include "block/io/io.h"
#include "qapi/qapi-commands-block-query.h"

static BlockDirtyInfoList *query_bitmaps(BlockDriverState *bs)
{
    BlockDirtyInfoList *list = NULL, **tail = &list;
    BdrvDirtyBitmap *bitmap = NULL;

    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        BlockDirtyInfo *info = g_new0(BlockDirtyInfo, 1);

        info->name = g_strdup(bdrv_dirty_bitmap_name(bitmap));
        info->count = bdrv_get_dirty_count(bitmap);
        info->granularity = bdrv_dirty_bitmap_granularity(bitmap);
        info->recording = bdrv_dirty_bitmap_enabled(bitmap);
        info->busy = bdrv_dirty_bitmap_busy(bitmap);
        info->persistent = bdrv_dirty_bitmap_get_persistence(bitmap);
        info->has_inconsistent = bdrv_dirty_bitmap_inconsistent(bitmap);
        info->inconsistent = info->has_inconsistent;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static int query_backing_depth(BlockDriverState *bs)
{
    int depth = 0;

    while ((bs = bdrv_backing_chain_next(bs)) != NULL) {
        depth++;
    }
    return depth;
}

static BlockDeviceInfo *coroutine_fn query_node(BlockDriverState *bs, bool writeback, bool flat)
{
    BlockDeviceInfo *info = g_new0(BlockDeviceInfo, 1);

    info->file = g_strdup(bs->filename);
    info->node_name = g_strdup(bdrv_get_node_name(bs));
    info->ro = bdrv_is_read_only(bs);
    info->drv = g_strdup(bs->drv->format_name);
    info->backing_file = g_strdup(bs->backing_file);
    info->backing_file_depth = query_backing_depth(bs);
    info->active = !(bs->open_flags & BDRV_O_INACTIVE);
    info->encrypted = bs->encrypted;
    info->detect_zeroes = bs->detect_zeroes;
    info->cache = g_new0(BlockdevCacheInfo, 1);
    info->cache->writeback = writeback;
    info->cache->direct = bs->open_flags & BDRV_O_NOCACHE;
    info->cache->no_flush = bs->open_flags & BDRV_O_NO_FLUSH;
    info->dirty_bitmaps = query_bitmaps(bs);
    info->image = image_co_info(bs, flat);
    return info;
}

/* All nodes there are, each counted. */
static GPtrArray *query_take_nodes(void)
{
    GPtrArray *nodes = g_ptr_array_new();

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        bdrv_ref(bs);
        g_ptr_array_add(nodes, bs);
    }
    return nodes;
}

BlockDeviceInfoList *coroutine_fn qmp_query_named_block_nodes(bool has_flat, bool flat,
                                                              Error **errp)
{
    BlockDeviceInfoList *list = NULL, **tail = &list;
    GPtrArray *nodes = query_take_nodes();

    for (guint i = 0; i < nodes->len; i++) {
        BlockDriverState *bs = g_ptr_array_index(nodes, i);

        if (bs->drv) {
            QAPI_LIST_APPEND(tail, query_node(bs, true, has_flat && flat));
        }
        bdrv_co_unref(bs);
    }
    g_ptr_array_free(nodes, TRUE);
    return list;
}

BlockInfoList *coroutine_fn qmp_query_block(Error **errp)
{
    BlockInfoList *list = NULL, **tail = &list;

    for (BlockBackend *blk = blk_next_named(NULL); blk; blk = blk_next_named(blk)) {
        BlockInfo *info = g_new0(BlockInfo, 1);
        BlockDriverState *bs = blk_bs(blk);

        info->device = g_strdup(blk_name(blk));
        info->type = g_strdup("unknown");
        info->has_io_status = blk_iostatus_is_enabled(blk);
        info->io_status = info->has_io_status ? blk_iostatus(blk) : BLOCK_DEVICE_IO_STATUS_OK;
        if (bs) {
            bdrv_ref(bs);
            info->inserted = query_node(bs, blk_get_enable_write_cache(blk), false);
            bdrv_co_unref(bs);
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

/* Counters of a backend; NULL: of nobody, all zero. */
static BlockDeviceStats *query_counters(const BlockAcctStats *acct, const BlockDriverState *bs)
{
    static const BlockAcctStats none;
    BlockDeviceStats *s = g_new0(BlockDeviceStats, 1);

    acct = acct ? acct : &none;
    s->rd_bytes = acct->nr_bytes[BLOCK_ACCT_READ];
    s->wr_bytes = acct->nr_bytes[BLOCK_ACCT_WRITE];
    s->unmap_bytes = acct->nr_bytes[BLOCK_ACCT_UNMAP];
    s->rd_operations = acct->nr_ops[BLOCK_ACCT_READ];
    s->wr_operations = acct->nr_ops[BLOCK_ACCT_WRITE];
    s->flush_operations = acct->nr_ops[BLOCK_ACCT_FLUSH];
    s->unmap_operations = acct->nr_ops[BLOCK_ACCT_UNMAP];
    s->rd_total_time_ns = acct->total_time_ns[BLOCK_ACCT_READ];
    s->wr_total_time_ns = acct->total_time_ns[BLOCK_ACCT_WRITE];
    s->flush_total_time_ns = acct->total_time_ns[BLOCK_ACCT_FLUSH];
    s->unmap_total_time_ns = acct->total_time_ns[BLOCK_ACCT_UNMAP];
    s->rd_merged = acct->merged[BLOCK_ACCT_READ];
    s->wr_merged = acct->merged[BLOCK_ACCT_WRITE];
    s->unmap_merged = acct->merged[BLOCK_ACCT_UNMAP];
    s->failed_rd_operations = acct->failed_ops[BLOCK_ACCT_READ];
    s->failed_wr_operations = acct->failed_ops[BLOCK_ACCT_WRITE];
    s->failed_flush_operations = acct->failed_ops[BLOCK_ACCT_FLUSH];
    s->failed_unmap_operations = acct->failed_ops[BLOCK_ACCT_UNMAP];
    s->invalid_rd_operations = acct->invalid_ops[BLOCK_ACCT_READ];
    s->invalid_wr_operations = acct->invalid_ops[BLOCK_ACCT_WRITE];
    s->invalid_flush_operations = acct->invalid_ops[BLOCK_ACCT_FLUSH];
    s->invalid_unmap_operations = acct->invalid_ops[BLOCK_ACCT_UNMAP];
    s->account_invalid = s->account_failed = acct != &none;
    if (acct->last_access_time_ns) {
        s->has_idle_time_ns = true;
        s->idle_time_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - acct->last_access_time_ns;
    }
    s->wr_highest_offset = bs ? bs->wr_highest_offset : 0;
    return s;
}

/* A node and, below it, the one that keeps its data and, if asked for, the one that it is based on. */
static BlockStats *query_node_stats(BlockDriverState *bs, bool with_backing)
{
    BlockStats *stats = g_new0(BlockStats, 1);
    BlockDriverState *backing = with_backing ? bdrv_backing_chain_next(bs) : NULL;

    stats->node_name = g_strdup(bdrv_get_node_name(bs));
    stats->stats = query_counters(NULL, bs);
    if (bs->drv->image && bs->drv->image->get_specific_stats) {
        stats->driver_specific = bs->drv->image->get_specific_stats(bs);
    }
    if (bs->file) {
        stats->parent = query_node_stats(bs->file->bs, with_backing);
    }
    if (backing) {
        stats->backing = query_node_stats(backing, true);
    }
    return stats;
}

static BlockStats *query_backend_stats(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);
    BlockStats *stats = bs ? query_node_stats(bs, true) : g_new0(BlockStats, 1);

    stats->device = g_strdup(blk_name(blk));
    qapi_free_BlockDeviceStats(stats->stats);
    stats->stats = query_counters(blk_get_stats(blk), bs);
    return stats;
}

BlockStatsList *coroutine_fn qmp_query_blockstats(bool has_query_nodes, bool query_nodes,
                                                  Error **errp)
{
    BlockStatsList *list = NULL, **tail = &list;

    if (has_query_nodes && query_nodes) {
        for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
            QAPI_LIST_APPEND(tail, query_node_stats(bs, false));
        }
        return list;
    }
    for (BlockBackend *blk = blk_next_named(NULL); blk; blk = blk_next_named(blk)) {
        QAPI_LIST_APPEND(tail, query_backend_stats(blk));
    }
    return list;
}
