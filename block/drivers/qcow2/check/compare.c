/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts in the file against references that were found. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/check/check-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* A refcount block of the file under way. */
typedef struct Block {
    uint64_t index;
    uint8_t *data;                      /* NULL: there is none, it counts nothing */
    uint64_t changed_from, changed_end; /* counts that were mended */
    uint64_t end;                       /* counts that are of the file's clusters */
} Block;

static uint64_t count_of(const Check *c, const Block *b, uint64_t i)
{
    return b->data ? qcow2_refcount_get(c->g.refcount_order, b->data, i) : 0;
}

static void mend(Check *c, Block *b, uint64_t i, uint64_t count)
{
    qcow2_refcount_set(c->g.refcount_order, b->data, i, count);
    b->changed_from = MIN(b->changed_from, i);
    b->changed_end = MAX(b->changed_end, i + 1);
}

static void compare_count(Check *c, Block *b, uint64_t i)
{
    uint64_t cluster = (b->index << c->g.refblock_bits) + i;
    uint64_t count = count_of(c, b, i), found = qcow2_counts_get(&c->counts, cluster);
    const char *word;
    bool fix;

    if (count == found) {
        return;
    }
    if (count < found && count == 0) {
        c->rebuild = true;
    }
    fix = count > found ? (c->fix & BDRV_FIX_LEAKS) && !c->unseen /* CK4 */
                        : (c->fix & BDRV_FIX_ERRORS) && !c->rebuild;
    word = fix ? "Repairing" : count > found ? "Leaked" : "ERROR";
    qcow2_check_say(c, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, word,
                    cluster, count, found);
    if (fix) {
        mend(c, b, i, found);
    }
    if (count > found) {
        *(fix ? &c->result->leaks_fixed : &c->result->leaks) += 1;
    } else {
        *(fix ? &c->result->corruptions_fixed : &c->result->corruptions) += 1;
    }
}

static int coroutine_fn load_block(Check *c, Block *b)
{
    uint64_t offset =
        b->index < c->reftable_entries ? c->reftable[b->index] & QCOW2_REFTABLE_OFFSET_MASK : 0;

    b->data = NULL;
    if (!offset) {
        return 0;
    }
    b->data = qcow2_check_co_read(c, (int64_t)offset, qcow2_cluster_size(&c->g));
    return b->data ? 0 : -EIO;
}

static uint64_t used_end(const Check *c, const Block *b)
{
    unsigned order = c->g.refcount_order;
    uint64_t end = qcow2_refcount_used_end(order, qcow2_counts_block(&c->counts, b->index), b->end);

    return b->data ? MAX(end, qcow2_refcount_used_end(order, b->data, b->end)) : end;
}

static int coroutine_fn compare_block(Check *c, Block *b)
{
    const uint8_t *found = qcow2_counts_block(&c->counts, b->index);
    uint64_t used;
    int ret = 0;

    b->changed_from = UINT64_MAX;
    b->changed_end = 0;
    if (!b->data || memcmp(b->data, found, qcow2_cluster_size(&c->g)) != 0) {
        for (uint64_t i =
                 b->data ? 0 : qcow2_refcount_find(c->g.refcount_order, found, 0, b->end, false);
             i < b->end; i++) {
            compare_count(c, b, i);
        }
    }
    used = used_end(c, b);
    if (used) {
        used += b->index << c->g.refblock_bits;
        c->result->image_end_offset =
            MAX(c->result->image_end_offset, (int64_t)(used << c->g.cluster_bits));
    }
    if (b->changed_from < b->changed_end) {
        uint64_t from = (b->changed_from << c->g.refcount_order) / 8;
        uint64_t end = DIV_ROUND_UP(b->changed_end << c->g.refcount_order, 8);
        int64_t offset = (int64_t)(c->reftable[b->index] & QCOW2_REFTABLE_OFFSET_MASK);

        ret =
            qcow2_check_co_write(c, offset + (int64_t)from, (int64_t)(end - from), b->data + from);
    }
    return ret;
}

typedef int coroutine_fn BlockVisit(Check *c, Block *b);

static int coroutine_fn for_each_block(Check *c, BlockVisit *visit)
{
    uint64_t clusters = DIV_ROUND_UP((uint64_t)c->file_bytes, (uint64_t)qcow2_cluster_size(&c->g));
    uint64_t per_block = UINT64_C(1) << c->g.refblock_bits;
    int ret = 0;

    clusters += qcow2_counts_get(&c->counts, clusters) != 0; /* it begins where the file ends */
    for (uint64_t i = 0; ret == 0 && i < c->counts.blocks; i++) {
        Block b = {.index = i};

        if (bdrv_progress_cancelled(c->result->progress)) {
            return -ECANCELED;
        }
        if (i * per_block >= clusters) {
            break;
        }
        b.end = MIN(clusters - i * per_block, per_block);
        ret = load_block(c, &b);
        if (ret == 0) {
            ret = visit(c, &b);
        }
        qemu_vfree(b.data);
    }
    return ret;
}

int coroutine_fn qcow2_check_co_compare(Check *c)
{
    c->result->image_end_offset = 0;
    return for_each_block(c, compare_block);
}

static int coroutine_fn keep_block(Check *c, Block *b)
{
    for (uint64_t i = 0; b->data && i < b->end; i++) {
        uint64_t cluster = (b->index << c->g.refblock_bits) + i, count = count_of(c, b, i);

        if (count > qcow2_counts_get(&c->counts, cluster)) {
            qcow2_counts_set(&c->counts, cluster, count);
        }
    }
    return 0;
}

int coroutine_fn qcow2_check_co_keep_counts(Check *c)
{
    return for_each_block(c, keep_block);
}
