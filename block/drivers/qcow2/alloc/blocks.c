/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New refcount blocks, and a larger table of them.
 *
 * A block lies in what it counts, and counts itself first.  When the table is full, a larger one and the blocks that
 * count it lie behind all that the old one could name, so that nothing there is anybody's:
 *
 *      | ... what the old table names | new table | block | block |
 *                                     ^ counted by these blocks, which count themselves
 */
#include <errno.h>
#include "block/drivers/qcow2/alloc/alloc-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* A sector is what a disk writes as a whole. */
#define TABLE_PIECE_BYTES 512

static int coroutine_fn flush(Qcow2Alloc *a)
{
    return bdrv_co_flush(a->config.file->bs);
}

/* All dirty blocks, durably. */
static int coroutine_fn write_blocks(Qcow2Alloc *a)
{
    bool all = false;
    int ret = 0;

    while (!all && ret == 0) {
        Qcow2Batch *b = qcow2_batch_new(a->config.file);

        all = qcow2_batch_add_cache(b, a->config.blocks);
        ret = qcow2_co_batch_write(b);
    }
    return ret == 0 ? flush(a) : ret;
}

/* The piece of the table that has entry @index. */
static int coroutine_fn write_entry(Qcow2Alloc *a, uint64_t index)
{
    uint8_t raw[TABLE_PIECE_BYTES];
    const uint64_t per_piece = TABLE_PIECE_BYTES / sizeof(uint64_t);
    uint64_t first = index / per_piece * per_piece;

    for (uint64_t i = 0; i < per_piece; i++) {
        stq_be_p(raw + i * sizeof(uint64_t), a->table[first + i]);
    }
    return bdrv_co_pwrite(a->config.file, a->table_offset + (int64_t)(first * sizeof(uint64_t)),
                          sizeof(raw), raw, 0);
}

/* A5 */
static int coroutine_fn add_block_at(Qcow2Alloc *a, uint64_t cluster)
{
    uint64_t index = qcow2_reftable_index(&a->g, cluster);
    int64_t offset = (int64_t)(cluster << a->g.cluster_bits);
    Qcow2Page *page;
    int ret =
        a->config.hooks.co_check_run(a->config.hooks.opaque, offset, qcow2_cluster_size(&a->g));

    if (ret == 0) {
        ret = qcow2_co_cache_get_new(a->config.blocks, offset, true, &page);
    }
    if (ret < 0) {
        return ret;
    }
    qcow2_refcount_set(a->g.refcount_order, page->data, qcow2_refblock_index(&a->g, cluster), 1);
    qcow2_cache_put(page);
    ret = write_blocks(a);
    if (ret == 0) {
        a->table[index] = (uint64_t)offset;
        ret = write_entry(a, index);
        if (ret < 0) {
            a->table[index] = 0;
        }
    }
    if (ret < 0) {
        qcow2_cache_forget(a->config.blocks, offset, qcow2_cluster_size(&a->g));
        return ret;
    }
    qcow2_alloc_note_block(a, (uint64_t)offset);
    a->fresh_from = MAX(a->fresh_from, cluster + 1);
    a->unstable = true; /* the entry is not flushed */
    return 0;
}

/* ----------------------------------------------------------------------------------------- a larger table */

typedef struct Growth {
    uint64_t first;           /* cluster of the new table */
    uint64_t clusters;        /* of it */
    uint64_t block, n_blocks; /* the clusters of the blocks behind it */
    uint64_t entries;
    uint64_t *table;
} Growth;

static int plan(Qcow2Alloc *a, uint64_t needed, Growth *ret)
{
    const Qcow2Geometry *g = &a->g;
    uint64_t per_cluster = qcow2_cluster_size(g) / sizeof(uint64_t);
    uint64_t most = QCOW2_REFTABLE_BYTES_MAX >> g->cluster_bits, before = 0;
    Growth w = {.first = MAX(a->entries << g->refblock_bits, a->fresh_from)};

    /* Half as much again, so that the next time is far. */
    w.clusters =
        MAX(DIV_ROUND_UP(needed, per_cluster), a->table_clusters + a->table_clusters / 2 + 1);
    w.clusters = MIN(w.clusters, MAX(most, DIV_ROUND_UP(needed, per_cluster)));
    do {
        uint64_t end = w.first + w.clusters + w.n_blocks;

        before = w.n_blocks;
        w.n_blocks = qcow2_reftable_index(g, end - 1) - qcow2_reftable_index(g, w.first) + 1;
        w.clusters =
            MAX(w.clusters, DIV_ROUND_UP(qcow2_reftable_index(g, end - 1) + 1, per_cluster));
    } while (w.n_blocks != before);
    if (w.clusters > most ||
        (w.first + w.clusters + w.n_blocks) > (uint64_t)QCOW2_HOST_END >> g->cluster_bits) {
        return -EFBIG;
    }
    w.block = w.first + w.clusters;
    w.entries = w.clusters * per_cluster;
    *ret = w;
    return 0;
}

/* The blocks that count the table and themselves; in the cache. */
static int coroutine_fn make_blocks(Qcow2Alloc *a, Growth *w)
{
    const Qcow2Geometry *g = &a->g;
    uint64_t end = w->block + w->n_blocks, cluster = w->first;

    for (uint64_t i = 0; i < w->n_blocks; i++) {
        uint64_t index = qcow2_reftable_index(g, cluster);
        int64_t offset = (int64_t)((w->block + i) << g->cluster_bits);
        Qcow2Page *page;
        int ret = qcow2_co_cache_get_new(a->config.blocks, offset, true, &page);

        if (ret < 0) {
            return ret;
        }
        for (; cluster < end && qcow2_reftable_index(g, cluster) == index; cluster++) {
            qcow2_refcount_set(g->refcount_order, page->data, qcow2_refblock_index(g, cluster), 1);
        }
        qcow2_cache_put(page);
        w->table[index] = (uint64_t)offset;
    }
    return 0;
}

static int coroutine_fn write_table(Qcow2Alloc *a, const Growth *w)
{
    int64_t bytes = (int64_t)(w->clusters << a->g.cluster_bits);
    uint8_t *raw = qemu_try_blockalign(a->config.file->bs, bytes);
    int ret;

    if (!raw) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < w->entries; i++) {
        stq_be_p(raw + i * sizeof(uint64_t), w->table[i]);
    }
    ret = bdrv_co_pwrite(a->config.file, (int64_t)(w->first << a->g.cluster_bits), bytes, raw, 0);
    qemu_vfree(raw);
    return ret;
}

/* From here on the new one is the table. */
static void coroutine_fn use_table(Qcow2Alloc *a, Growth *w)
{
    uint64_t old = (uint64_t)a->table_offset >> a->g.cluster_bits, n = a->table_clusters;

    g_free(a->table);
    a->table = w->table;
    w->table = NULL;
    a->entries = w->entries;
    a->table_offset = (int64_t)(w->first << a->g.cluster_bits);
    a->table_clusters = (uint32_t)w->clusters;
    a->fresh_from = w->block + w->n_blocks;
    for (uint64_t i = 0; i < w->n_blocks; i++) {
        qcow2_alloc_note_block(a, (w->block + i) << a->g.cluster_bits);
    }
    /* Durably nobody's (A3).  A count that is wrong is a leak. */
    if (qcow2_co_refcount_add(a, old, n, -1) == 0) {
        a->hint = MIN(a->hint, old);
    }
}

static int coroutine_fn grow_table(Qcow2Alloc *a, uint64_t needed)
{
    Growth w;
    int ret = plan(a, needed, &w);

    if (ret < 0) {
        return ret;
    }
    w.table = g_new0(uint64_t, w.entries);
    memcpy(w.table, a->table, MIN(a->entries, w.entries) * sizeof(uint64_t));
    ret = a->config.hooks.co_check_run(a->config.hooks.opaque,
                                       (int64_t)(w.first << a->g.cluster_bits),
                                       (int64_t)((w.clusters + w.n_blocks) << a->g.cluster_bits));
    if (ret == 0) {
        ret = make_blocks(a, &w);
    }
    if (ret == 0) {
        ret = write_table(a, &w);
    }
    if (ret == 0) {
        ret = write_blocks(a);
    }
    if (ret == 0) {
        ret = a->config.hooks.co_move_reftable(
            a->config.hooks.opaque, (int64_t)(w.first << a->g.cluster_bits), (uint32_t)w.clusters);
    }
    if (ret == 0) {
        use_table(a, &w);
    } else {
        qcow2_cache_forget(a->config.blocks, (int64_t)(w.block << a->g.cluster_bits),
                           (int64_t)(w.n_blocks << a->g.cluster_bits));
    }
    g_free(w.table);
    return ret;
}

int coroutine_fn qcow2_co_alloc_add_block(Qcow2Alloc *a, uint64_t cluster, bool *ret_used)
{
    uint64_t index = qcow2_reftable_index(&a->g, cluster);
    int ret;

    *ret_used = false;
    if (index >= a->entries) {
        ret = grow_table(a, index + 1);
        return ret == 0 ? -EAGAIN : ret;
    }
    if (a->table[index] & QCOW2_REFTABLE_OFFSET_MASK) {
        return 0;
    }
    *ret_used = true;
    return add_block_at(a, cluster);
}
