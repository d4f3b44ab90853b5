/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes: in place, or into clusters that the disk did not have.
 *
 *      guest clusters      |         .         |                   |         .         |
 *      write                      |=========== guest's ====================|
 *      hull                |copied|========================================|copied|          whole subclusters
 *      host clusters       |____________________ one write ______________________|
 *
 *   1. what is there, and ours, is written in place; only the rest is an allocation
 *   2. whole guest clusters are held against others who allocate there (Q8); their L2 table is there, and ours
 *   3. clusters in a row are taken from the pool, for as many entries as there are in a row
 *   4. one write: head and tail of what the guest saw there, where that is needed, and the guest's bytes
 *   5. entries are set, in one step; what they had before is given back
 *
 * Of fresh clusters (Q4) nothing is written but the guest's bytes where he saw zeros.
 */
#include <errno.h>
#include "block/drivers/qcow2/cow.h"
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

int coroutine_fn qcow2_co_change_begin(Qcow2State *s, int64_t offset, int64_t bytes)
{
    int ret = qcow2_co_begin(s, NULL);

    if (ret < 0) {
        return ret;
    }
    qemu_co_rwlock_rdlock(&s->changing);
    if (offset > (int64_t)s->header.size || bytes > (int64_t)s->header.size - offset) {
        qemu_co_rwlock_unlock(&s->changing); /* it was made smaller while somebody waited */
        return -EIO;
    }
    return 0;
}

void coroutine_fn qcow2_co_change_end(Qcow2State *s)
{
    qemu_co_rwlock_unlock(&s->changing);
}

/* ------------------------------------------------------------------------------------------- in place */

/* Into what is there, and nobody else's: *ret_bytes of it, from the first byte on; 0: it is not. */
static int coroutine_fn write_in_place(Qcow2State *s, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset, int64_t *ret_bytes)
{
    Qcow2Range r;
    Qcow2Where w;
    int ret;

    *ret_bytes = 0;
    qcow2_co_range_begin(s, &r, QCOW2_RANGE_WRITE, offset, offset + bytes);
    ret = qcow2_co_look(s, offset, bytes, &w);
    if (ret == 0 && w.kind == QCOW2_DATA && (w.ours || s->g.external_data)) {
        ret = qcow2_co_guard_write(s, w.host, w.bytes);
        if (ret == 0) {
            ret = bdrv_co_pwritev_part(s->data, w.host, w.bytes, qiov, qiov_offset, 0);
        }
        *ret_bytes = w.bytes;
    }
    qcow2_range_end(s, &r);
    return ret;
}

/* ------------------------------------------------------------------------------------------- allocation */

static bool is_place_ours(const Qcow2State *s, Qcow2Entry entry)
{
    return qcow2_entry_has_place(&s->g, entry) && (entry.word & QCOW2_COPIED);
}

/* Entries from the slot's first on that can be done together: all have a place of ours, in a row, or none has. */
static uint32_t entries_alike(const Qcow2State *s, const Qcow2Slot *slot, uint32_t want)
{
    Qcow2Entry first = qcow2_slot_get(s, slot, 0);
    bool reuse = is_place_ours(s, first);
    uint32_t n;

    for (n = 1; n < want; n++) {
        Qcow2Entry entry = qcow2_slot_get(s, slot, n);

        if (qcow2_entry_check(&s->g, entry) || is_place_ours(s, entry) != reuse) {
            break;
        }
        if (reuse && qcow2_entry_place(entry) !=
                         qcow2_entry_place(first) + (int64_t)n * qcow2_cluster_size(&s->g)) {
            break;
        }
    }
    return n;
}

/* Where the entries' data is going to be; fewer of them, if there is no room in one place. */
static int coroutine_fn find_place(Qcow2State *s, Qcow2Cow *c)
{
    Qcow2Entry first = qcow2_slot_get(s, &c->slot, 0);
    Qcow2Run run;
    int ret;

    c->reuse = is_place_ours(s, first);
    if (c->reuse) {
        c->place = qcow2_entry_place(first);
        return qcow2_co_guard_write(s, c->place, (int64_t)c->n << s->g.cluster_bits);
    }
    if (s->g.external_data) {
        c->place = qcow2_cluster_start(&s->g, c->offset);
        return 0;
    }
    ret = qcow2_co_take(s->alloc, c->n, &run);
    if (ret == 0) {
        c->place = run.offset;
        c->n = (uint32_t)run.clusters;
        c->fresh = run.fresh;
    }
    return ret;
}

/* Of an entry: subclusters @from ... @to - 1 are data at @place from now on. */
static void set_entry(Qcow2State *s, const Qcow2Cow *c, uint32_t i, unsigned from, unsigned to)
{
    Qcow2Entry old = qcow2_slot_get(s, &c->slot, i);
    Qcow2Entry next = qcow2_entry_data(&s->g, c->place + (int64_t)i * qcow2_cluster_size(&s->g));

    if (s->g.subclusters > 1) {
        uint64_t mask = ((UINT64_C(1) << to) - 1) & ~((UINT64_C(1) << from) - 1);
        bool had_data = old.word & QCOW2_COMPRESSED;

        next.subclusters = had_data ? 0 : old.subclusters;
        if (!c->reuse) {
            next.subclusters &= QCOW2_ALL_ZERO; /* what had data is in the hull */
        }
        next.subclusters = (next.subclusters | mask) & ~(mask << 32);
    }
    qcow2_slot_set(s, &c->slot, i, next);
    if (!c->reuse) {
        qcow2_give_back_entry(s, old, s->options.discard_other);
    }
}

static void set_entries(Qcow2State *s, const Qcow2Cow *c)
{
    int64_t cluster = qcow2_cluster_size(&s->g), start = qcow2_cluster_start(&s->g, c->offset);

    for (uint32_t i = 0; i < c->n; i++, start += cluster) {
        int64_t from = MAX(c->hull_start, start) - start;
        int64_t to = MIN(c->hull_end, start + cluster) - start;

        set_entry(s, c, i, (unsigned)(from >> s->g.subcluster_bits),
                  (unsigned)(to >> s->g.subcluster_bits));
    }
    s->unordered |= !c->safe; /* Q3 */
}

/* Compressed data that is replaced is given back whole: nobody may be reading it. */
static bool replaces_compressed(const Qcow2State *s, const Qcow2Cow *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (qcow2_slot_get(s, &c->slot, i).word & QCOW2_COMPRESSED) {
            return true;
        }
    }
    return false;
}

/*
 * For who holds the range of whole clusters; the page is pinned.  c->bytes becomes what was written.  -EAGAIN: he has to
 * be alone there.
 */
static int coroutine_fn allocate(Qcow2State *s, Qcow2Cow *c, bool alone, QEMUIOVector *qiov,
                                 size_t qiov_offset)
{
    int64_t cluster = qcow2_cluster_size(&s->g), start = qcow2_cluster_start(&s->g, c->offset);
    int64_t want = (qcow2_cluster_end(&s->g, c->offset + c->bytes) - start) >> s->g.cluster_bits;
    int ret = qcow2_co_check_entry(s, &c->slot, 0);

    if (ret < 0) {
        return ret;
    }
    c->n = entries_alike(s, &c->slot, (uint32_t)MIN(want, (int64_t)c->slot.n));
    if (!alone && replaces_compressed(s, c)) {
        return -EAGAIN;
    }
    ret = find_place(s, c);
    if (ret < 0) {
        return ret;
    }
    c->bytes = MIN(c->bytes, start + (int64_t)c->n * cluster - c->offset);
    ret = qcow2_co_cow(s, c, qiov, qiov_offset);
    if (ret == 0) {
        set_entries(s, c);
    } else if (!c->reuse && !s->g.external_data) {
        qcow2_give_back(s->alloc, c->place, c->n, s->options.discard_other);
    }
    return ret;
}

/* What is not there, or not ours: *ret_bytes of it; 0: somebody else has done it meanwhile. */
static int coroutine_fn write_allocating(Qcow2State *s, Qcow2RangeKind kind, int64_t offset,
                                         int64_t bytes, QEMUIOVector *qiov, size_t qiov_offset,
                                         int64_t *ret_bytes)
{
    Qcow2Cow c = {.offset = offset, .bytes = bytes};
    Qcow2Where w;
    Qcow2Range r;
    int ret;

    *ret_bytes = 0;
    qcow2_co_range_begin(s, &r, kind, qcow2_cluster_start(&s->g, offset),
                         qcow2_cluster_end(&s->g, offset + bytes));
    ret = qcow2_co_slot(s, offset, true, &c.slot);
    if (ret == 0) {
        /* Nothing between here and the look at the entries yields. */
        ret = qcow2_co_look(s, offset, bytes, &w);
        if (ret == 0 && !(w.kind == QCOW2_DATA && (w.ours || s->g.external_data))) {
            ret = allocate(s, &c, kind == QCOW2_RANGE_FREE, qiov, qiov_offset);
            *ret_bytes = c.bytes;
        }
        qcow2_cache_put(c.slot.page);
    }
    qcow2_range_end(s, &r);
    return ret;
}

int coroutine_fn qcow2_co_write(Qcow2State *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                size_t qiov_offset)
{
    int64_t done;
    int ret = 0;

    for (; bytes > 0 && ret == 0; offset += done, qiov_offset += done, bytes -= done) {
        ret = write_in_place(s, offset, bytes, qiov, qiov_offset, &done);
        if (ret == 0 && done == 0) {
            ret = write_allocating(s, QCOW2_RANGE_ALLOC, offset, bytes, qiov, qiov_offset, &done);
        }
        if (ret == -EAGAIN) {
            ret = write_allocating(s, QCOW2_RANGE_FREE, offset, bytes, qiov, qiov_offset, &done);
        }
    }
    return ret;
}

int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_co_change_begin(s, offset, bytes);

    if (ret == 0) {
        ret = flags & BDRV_REQ_WRITE_COMPRESSED
                  ? qcow2_co_write_compressed(s, offset, bytes, qiov, qiov_offset)
                  : qcow2_co_write(s, offset, bytes, qiov, qiov_offset);
        qcow2_co_change_end(s);
    }
    return ret;
}
