/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts, through the cache of refcount blocks. */
#include <errno.h>
#include "block/drivers/qcow2/alloc/alloc-int.h"
#include "util/osdep.h"

static gpointer key_of(uint64_t cluster)
{
    return (gpointer)(uintptr_t)cluster;
}

void qcow2_alloc_note_block(Qcow2Alloc *a, uint64_t word)
{
    if (word & QCOW2_REFTABLE_OFFSET_MASK) {
        g_hash_table_add(a->blocks, key_of(word >> a->g.cluster_bits));
    }
}

bool qcow2_alloc_is_block(const Qcow2Alloc *a, uint64_t cluster)
{
    return g_hash_table_contains(a->blocks, key_of(cluster));
}

Qcow2Alloc *qcow2_alloc_new(const Qcow2AllocConfig *config, const void *table)
{
    Qcow2Alloc *a = g_new0(Qcow2Alloc, 1);
    const Qcow2Geometry *g = &config->geometry;

    a->config = *config;
    a->g = *g;
    a->table_offset = config->reftable_offset;
    a->table_clusters = config->reftable_clusters;
    a->entries = ((uint64_t)a->table_clusters << g->cluster_bits) / sizeof(uint64_t);
    a->table = g_new(uint64_t, a->entries);
    a->blocks = g_hash_table_new(g_direct_hash, g_direct_equal);
    for (uint64_t i = 0; i < a->entries; i++) {
        a->table[i] = ldq_be_p((const uint8_t *)table + i * sizeof(uint64_t));
        qcow2_alloc_note_block(a, a->table[i]);
    }
    a->fresh_from = (uint64_t)qcow2_cluster_end(g, config->file_bytes) >> g->cluster_bits;
    qemu_co_mutex_init(&a->lock);
    a->given_back = g_array_new(false, false, sizeof(GivenBack));
    a->releasing = g_array_new(false, false, sizeof(GivenBack));
    return a;
}

void qcow2_alloc_delete(Qcow2Alloc *a)
{
    if (a) {
        g_array_free(a->given_back, true);
        g_array_free(a->releasing, true);
        qemu_co_mutex_destroy(&a->lock);
        g_hash_table_destroy(a->blocks);
        g_free(a->table);
        g_free(a);
    }
}

const uint64_t *qcow2_alloc_table(const Qcow2Alloc *a, uint64_t *ret_entries)
{
    *ret_entries = a->entries;
    return a->table;
}

int64_t qcow2_alloc_table_offset(const Qcow2Alloc *a)
{
    return a->table_offset;
}

uint32_t qcow2_alloc_table_clusters(const Qcow2Alloc *a)
{
    return a->table_clusters;
}

bool qcow2_alloc_take_unstable(Qcow2Alloc *a)
{
    bool unstable = a->unstable;

    a->unstable = false;
    return unstable;
}

void qcow2_alloc_set_unstable(Qcow2Alloc *a)
{
    a->unstable = true;
}

int coroutine_fn qcow2_co_alloc_block(Qcow2Alloc *a, uint64_t cluster, Qcow2Page **ret_page)
{
    uint64_t index = qcow2_reftable_index(&a->g, cluster);
    uint64_t word = index < a->entries ? a->table[index] : 0;

    *ret_page = NULL;
    if (!(word & QCOW2_REFTABLE_OFFSET_MASK)) {
        return 0;
    }
    if (!qcow2_is_cluster_aligned(&a->g, word & QCOW2_REFTABLE_OFFSET_MASK) || word > INT64_MAX) {
        a->config.hooks.co_bad_entry(a->config.hooks.opaque, index, word);
        return -EIO;
    }
    return qcow2_co_cache_get(a->config.blocks, (int64_t)(word & QCOW2_REFTABLE_OFFSET_MASK),
                              ret_page);
}

int coroutine_fn qcow2_co_refcount_get(Qcow2Alloc *a, uint64_t cluster, uint64_t *ret_count)
{
    Qcow2Page *page;
    int ret = qcow2_co_alloc_block(a, cluster, &page);

    if (ret < 0) {
        return ret;
    }
    *ret_count = 0;
    if (page) {
        *ret_count = qcow2_refcount_get(a->g.refcount_order, page->data,
                                        qcow2_refblock_index(&a->g, cluster));
        qcow2_cache_put(page);
    }
    return 0;
}

/* Counts @index ... of one block. */
static int add_in_block(Qcow2Alloc *a, Qcow2Page *page, uint64_t index, uint64_t n, int64_t delta)
{
    unsigned order = a->g.refcount_order;
    uint64_t max = qcow2_refcount_max(&a->g), at = (index << order) / 8;
    int ret = 0;
    uint64_t i;

    for (i = 0; i < n && ret == 0; i++) {
        uint64_t count = qcow2_refcount_get(order, page->data, index + i);

        if (delta < 0 ? count < (uint64_t)-delta : (uint64_t)delta > max - count) {
            ret = -EINVAL;
        } else {
            qcow2_refcount_set(order, page->data, index + i, count + (uint64_t)delta);
        }
    }
    if (i > 0) {
        qcow2_cache_mark_dirty(page, at, (((index + i) << order) + 7) / 8 - at);
        a->unstable |= delta > 0;
    }
    return ret;
}

int coroutine_fn qcow2_co_refcount_add(Qcow2Alloc *a, uint64_t cluster, uint64_t n, int64_t delta)
{
    while (n > 0) {
        uint64_t index = qcow2_refblock_index(&a->g, cluster);
        uint64_t here = MIN(n, (UINT64_C(1) << a->g.refblock_bits) - index);
        Qcow2Page *page;
        int ret = qcow2_co_alloc_block(a, cluster, &page);

        if (ret == 0 && !page) {
            ret = -EINVAL;
        }
        if (ret < 0) {
            return ret;
        }
        ret = add_in_block(a, page, index, here, delta);
        qcow2_cache_put(page);
        if (ret < 0) {
            return ret;
        }
        cluster += here;
        n -= here;
    }
    return 0;
}
