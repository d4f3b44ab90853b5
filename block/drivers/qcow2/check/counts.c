/* SPDX-License-Identifier: GPL-2.0-or-later */
/* References to clusters, counted. */
#include <errno.h>
#include <stdlib.h>
#include "block/drivers/qcow2/check/counts.h"

static uint64_t blocks_for(const Qcow2Geometry *g, uint64_t clusters)
{
    return MAX(DIV_ROUND_UP(clusters, UINT64_C(1) << g->refblock_bits), 1);
}

static bool is_too_large(const Qcow2Geometry *g, uint64_t blocks)
{
    return blocks > (uint64_t)QCOW2_COUNTS_BYTES_MAX >> g->cluster_bits;
}

int qcow2_counts_init(Qcow2Counts *c, const Qcow2Geometry *g, uint64_t clusters)
{
    uint64_t blocks = blocks_for(g, clusters);

    *c = (Qcow2Counts){.g = *g};
    if (is_too_large(g, blocks)) {
        return -EFBIG;
    }
    c->data = calloc(blocks, (size_t)qcow2_cluster_size(g)); /* zeros that take no memory yet */
    if (!c->data) {
        return -ENOMEM;
    }
    c->blocks = blocks;
    return 0;
}

void qcow2_counts_clear(Qcow2Counts *c)
{
    free(c->data);
    c->data = NULL;
    c->blocks = 0;
}

int qcow2_counts_grow(Qcow2Counts *c, uint64_t clusters)
{
    uint64_t blocks = blocks_for(&c->g, clusters);
    uint8_t *data;

    if (blocks <= c->blocks) {
        return 0;
    }
    if (is_too_large(&c->g, blocks)) {
        return -EFBIG;
    }
    data = realloc(c->data, (size_t)(blocks << c->g.cluster_bits));
    if (!data) {
        return -ENOMEM;
    }
    c->data = data;
    memset(qcow2_counts_block(c, c->blocks), 0,
           (size_t)((blocks - c->blocks) << c->g.cluster_bits));
    c->blocks = blocks;
    return 0;
}

void qcow2_counts_reset(Qcow2Counts *c)
{
    for (uint64_t i = 0; i < c->blocks; i++) {
        memset(qcow2_counts_block(c, i), 0, (size_t)qcow2_cluster_size(&c->g));
    }
}

uint64_t qcow2_counts_get(const Qcow2Counts *c, uint64_t cluster)
{
    return cluster < qcow2_counts_clusters(c)
               ? qcow2_refcount_get(c->g.refcount_order, c->data, cluster)
               : 0;
}

void qcow2_counts_set(Qcow2Counts *c, uint64_t cluster, uint64_t value)
{
    assert(cluster < qcow2_counts_clusters(c));
    qcow2_refcount_set(c->g.refcount_order, c->data, cluster, value);
}

bool qcow2_counts_add(Qcow2Counts *c, uint64_t cluster)
{
    uint64_t count = qcow2_counts_get(c, cluster);

    if (count >= qcow2_refcount_max(&c->g)) {
        return false;
    }
    qcow2_counts_set(c, cluster, count + 1);
    return true;
}

uint64_t qcow2_counts_find_free(const Qcow2Counts *c, uint64_t from, uint64_t n)
{
    unsigned order = c->g.refcount_order;
    uint64_t end = qcow2_counts_clusters(c);

    while (from < end) {
        uint64_t first = qcow2_refcount_find(order, c->data, from, end, true);
        uint64_t most = MIN(end, first + n);
        uint64_t used = qcow2_refcount_find(order, c->data, first, most, false);

        if (used == most) {
            return first; /* what is behind the end is free, too */
        }
        from = used + 1;
    }
    return from;
}
