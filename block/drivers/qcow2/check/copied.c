/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QCOW2_COPIED says that nobody else has a cluster.  Set where somebody has, it lets a write reach a snapshot: an error.
 * Not set where nobody has, it costs a copy: that is an error, too, which a repair of leaks mends.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/check/check-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* Refcount blocks in memory, by bytes; at least two. */
#define BLOCKS_CACHE_BYTES (4 * MiB)

typedef struct Flags {
    Check *c;
    bool mend_missing; /* flags that are not set where they could be */
    Qcow2Cache *blocks;
} Flags;

static uint64_t coroutine_fn count_in_file(Flags *f, uint64_t offset)
{
    Check *c = f->c;
    uint64_t cluster = offset >> c->g.cluster_bits, index = qcow2_reftable_index(&c->g, cluster);
    uint64_t block =
        index < c->reftable_entries ? c->reftable[index] & QCOW2_REFTABLE_OFFSET_MASK : 0;
    uint64_t count;
    Qcow2Page *page;
    int ret;

    if (!block) {
        return 0;
    }
    ret = qcow2_co_cache_get(f->blocks, (int64_t)block, &page);
    if (ret < 0) {
        qcow2_check_say(c, "Can't get refcount for cluster %" PRIu64 ": %s", cluster,
                        g_strerror(-ret));
        c->result->check_errors++;
        return 0;
    }
    count =
        qcow2_refcount_get(c->g.refcount_order, page->data, qcow2_refblock_index(&c->g, cluster));
    qcow2_cache_put(page);
    return count;
}

/* Whether the flag of @word is to be turned; told by @what. */
static bool is_wrong(Flags *f, uint64_t word, uint64_t count, const char *what)
{
    Check *c = f->c;
    bool mend;

    if ((count == 1) == ((word & QCOW2_COPIED) != 0)) {
        return false;
    }
    mend = c->fix & BDRV_FIX_ERRORS || (count == 1 && f->mend_missing);
    *(mend ? &c->result->corruptions_fixed : &c->result->corruptions) += 1;
    qcow2_check_say(c, "%s OFLAG_COPIED %s=%" PRIx64 " refcount=%" PRIu64,
                    mend ? "Repairing" : "ERROR", what, word, count);
    return mend;
}

static int coroutine_fn check_l2(Flags *f, int64_t offset)
{
    Check *c = f->c;
    uint32_t first = UINT32_MAX, end = 0;
    uint8_t *table = qcow2_check_co_read(c, offset, qcow2_cluster_size(&c->g));
    int ret = 0;

    for (uint32_t i = 0; table && i < UINT32_C(1) << c->g.l2_bits; i++) {
        Qcow2Entry e = qcow2_entry_get(&c->g, table, i);

        if (!qcow2_entry_has_place(&c->g, e) ||
            !is_wrong(f, e.word, count_in_file(f, (uint64_t)qcow2_entry_place(e)),
                      "data cluster: l2_entry")) {
            continue;
        }
        e.word ^= QCOW2_COPIED;
        qcow2_entry_set(&c->g, table, i, e);
        first = MIN(first, i);
        end = i + 1;
    }
    if (first < end) {
        int64_t at = (int64_t)first * c->g.l2_entry_bytes;

        ret = qcow2_check_co_write(c, offset + at, (int64_t)(end - first) * c->g.l2_entry_bytes,
                                   table + at);
    }
    qemu_vfree(table);
    return ret;
}

static int coroutine_fn check_l1_entry(Flags *f, uint32_t i)
{
    Check *c = f->c;
    uint64_t table = c->l1[i] & QCOW2_HOST_OFFSET_MASK;
    g_autofree char *what = g_strdup_printf("L2 cluster: l1_index=%" PRIu32 " l1_entry", i);
    int ret = 0;

    if (!table || !qcow2_is_cluster_aligned(&c->g, table)) {
        return 0;
    }
    if (is_wrong(f, c->l1[i], count_in_file(f, table), what)) {
        uint64_t raw;

        c->l1[i] ^= QCOW2_COPIED;
        raw = cpu_to_be64(c->l1[i]);
        ret = qcow2_check_co_write(c, (int64_t)(c->header.l1_offset + i * sizeof(raw)), sizeof(raw),
                                   &raw);
    }
    /* Data in a file of its own has no counts. */
    return ret == 0 && !c->g.external_data && table < (uint64_t)c->file_bytes
               ? check_l2(f, (int64_t)table)
               : ret;
}

int coroutine_fn qcow2_check_co_copied(Check *c)
{
    int64_t cluster = qcow2_cluster_size(&c->g);
    Qcow2CacheConfig config = {
        .file = c->file,
        .page_bytes = cluster,
        .max_pages = MAX(BLOCKS_CACHE_BYTES / cluster, 2),
    };
    Flags f = {
        .c = c,
        .blocks = qcow2_cache_new(&config),
        .mend_missing = (c->fix & BDRV_FIX_LEAKS) && !c->result->corruptions,
    };
    int ret = 0;

    for (uint32_t i = 0; i < c->header.l1_size && ret == 0; i++) {
        ret = bdrv_progress_cancelled(c->result->progress) ? -ECANCELED : check_l1_entry(&f, i);
    }
    qcow2_cache_delete(f.blocks);
    return ret;
}
