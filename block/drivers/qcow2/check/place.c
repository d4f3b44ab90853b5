/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Places for refcount blocks, and for their table. */
#include <errno.h>
#include "block/drivers/qcow2/check/place.h"
#include "util/osdep.h"

static int take(Qcow2Counts *c, uint64_t from, uint64_t n, uint64_t *ret_cluster)
{
    uint64_t first = qcow2_counts_find_free(c, from, n);
    int ret = first + n > (uint64_t)QCOW2_HOST_END >> c->g.cluster_bits
                  ? -EFBIG
                  : qcow2_counts_grow(c, first + n);

    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
        qcow2_counts_set(c, first + i, 1);
    }
    *ret_cluster = first;
    return 0;
}

static bool is_needed(const Qcow2Counts *c, uint64_t block)
{
    uint64_t n = UINT64_C(1) << c->g.refblock_bits;

    return qcow2_refcount_find(c->g.refcount_order, qcow2_counts_block(c, block), 0, n, false) < n;
}

static int place_blocks(Qcow2Counts *c, uint64_t from, Qcow2Placement *p)
{
    for (uint64_t i = 0; i < c->blocks; i++) {
        uint64_t cluster;
        int ret;

        if (p->entries < c->blocks) {
            p->table = g_renew(uint64_t, p->table, c->blocks);
            memset(p->table + p->entries, 0, (c->blocks - p->entries) * sizeof(uint64_t));
            p->entries = c->blocks;
        }
        if (p->table[i] || !is_needed(c, i)) {
            continue;
        }
        ret = take(c, MAX(from, i << c->g.refblock_bits), 1, &cluster);
        if (ret < 0) {
            return ret;
        }
        p->table[i] = cluster << c->g.cluster_bits;
    }
    return 0;
}

static int place_table(Qcow2Counts *c, uint64_t from, Qcow2Placement *p)
{
    uint64_t need =
        DIV_ROUND_UP(p->entries * sizeof(uint64_t), (uint64_t)qcow2_cluster_size(&c->g));
    uint64_t first;
    int ret;

    for (uint64_t i = 0; i < p->clusters; i++) {
        qcow2_counts_set(c, (p->offset >> c->g.cluster_bits) + i, 0);
    }
    if (need << c->g.cluster_bits > (uint64_t)QCOW2_REFTABLE_BYTES_MAX) {
        return -EFBIG;
    }
    ret = take(c, from, need, &first);
    if (ret == 0) {
        p->offset = first << c->g.cluster_bits;
        p->clusters = need;
    }
    return ret;
}

static bool is_complete(const Qcow2Counts *c, const Qcow2Placement *p)
{
    uint64_t room = p->clusters << (c->g.cluster_bits - 3);

    for (uint64_t i = 0; i < c->blocks; i++) {
        if (is_needed(c, i) && (i >= p->entries || !p->table[i])) {
            return false;
        }
    }
    return c->blocks <= room;
}

int qcow2_place(Qcow2Counts *counts, uint64_t from, Qcow2Placement *ret)
{
    int r;

    *ret = (Qcow2Placement){0};
    do { /* the table may need a block more, and with it a larger table: neither becomes smaller again */
        r = place_blocks(counts, from, ret);
        if (r == 0) {
            r = place_table(counts, from, ret);
        }
    } while (r == 0 && !is_complete(counts, ret));
    return r;
}

void qcow2_placement_clear(Qcow2Placement *p)
{
    g_free(p->table);
    p->table = NULL;
}
