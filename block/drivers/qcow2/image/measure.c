/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How large the file of an image is.
 *
 *      | header | L1 table | L2 tables | refcount table | refcount blocks | clusters of data ... |
 *
 * All tables of a disk that is full are counted, also for one that is not, and its data, also if that is in a file of its
 * own: the numbers are those of qemu-img.
 */
#include <errno.h>
#include "block/drivers/qcow2/image/image.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* Clusters of tables for a disk of @data clusters. */
static int64_t table_clusters(const Qcow2Geometry *g, int64_t data)
{
    int64_t l2 = DIV_ROUND_UP(data, INT64_C(1) << g->l2_bits), tables, all, blocks = 0, table = 0;
    int64_t entries = qcow2_cluster_size(g) / (int64_t)sizeof(uint64_t);

    tables = 1 + DIV_ROUND_UP(l2, entries) + l2;
    do { /* refcounts count themselves */
        all = tables + data + blocks + table;
        blocks = DIV_ROUND_UP(all, INT64_C(1) << g->refblock_bits);
        table = DIV_ROUND_UP(blocks, entries);
    } while (tables + data + blocks + table != all);
    return tables + blocks + table;
}

/* Clusters of @in that are not known to be zeros; negative errno with @errp. */
static int64_t coroutine_fn count_clusters(BlockDriverState *in, int64_t cluster,
                                           BdrvProgress *progress, Error **errp)
{
    int64_t length = bdrv_getlength(in), clusters = 0, counted_end = 0, pnum;

    for (int64_t at = 0; at < length; at += pnum) {
        int status = bdrv_progress_cancelled(progress)
                         ? -ECANCELED
                         : bdrv_co_block_status_above(in, NULL, at, length - at, &pnum, NULL, NULL);

        if (status < 0) {
            error_setg_errno(errp, -status, "Unable to get block status");
            return status;
        }
        if (!(status & BDRV_BLOCK_ZERO)) {
            int64_t end = (at + pnum - 1) / cluster + 1;

            clusters += MAX(end - MAX(at / cluster, counted_end), 0);
            counted_end = MAX(counted_end, end);
        }
    }
    return clusters;
}

static int64_t coroutine_fn required_clusters(const BlockdevCreateOptionsQcow2 *o,
                                              BlockDriverState *in, const Qcow2Geometry *g,
                                              int64_t data, BdrvProgress *progress, Error **errp)
{
    int64_t used;

    /* Over a backing file zeros may have to be said by clusters, too. */
    if ((o->has_preallocation &&
         (o->preallocation == PREALLOC_MODE_FALLOC || o->preallocation == PREALLOC_MODE_FULL)) ||
        (in && o->backing_file)) {
        return data;
    }
    used = in ? count_clusters(in, qcow2_cluster_size(g), progress, errp) : 0;
    return used < 0 ? used : MIN(used, data);
}

BlockMeasureInfo *coroutine_fn qcow2_co_measure(const BlockdevCreateOptions *opts,
                                                BlockDriverState *in, BdrvProgress *progress,
                                                Error **errp)
{
    const BlockdevCreateOptionsQcow2 *o = &opts->u.qcow2;
    int64_t data, tables, required;
    BlockMeasureInfo *info;
    Qcow2Geometry g;

    if (qcow2_create_geometry(o, &g, errp) < 0) {
        return NULL;
    }
    if (o->size > (uint64_t)(INT64_MAX - qcow2_l2_span(&g)) ||
        qcow2_l1_entries(&g, o->size) > QCOW2_L1_BYTES_MAX / sizeof(uint64_t)) {
        error_setg(errp, "The image size is too large (try using a larger cluster size)");
        return NULL;
    }
    data = qcow2_cluster_end(&g, (int64_t)o->size) >> g.cluster_bits;
    tables = table_clusters(&g, data);
    required = required_clusters(o, in, &g, data, progress, errp);
    if (required < 0) {
        return NULL;
    }
    info = g_new0(BlockMeasureInfo, 1);
    info->required = (tables + required) << g.cluster_bits;
    info->fully_allocated = (tables + data) << g.cluster_bits;
    return info;
}
