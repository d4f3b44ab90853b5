/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Zeros without data, and discards: entries that say so, and host clusters that are given back.
 *
 *                      version 3                                  version 2
 *      write zeroes    zero flag; the host cluster stays, or,     no entry, where there is no backing file;
 *                      if it may be unmapped, is given back       else they are written
 *      discard         zero flag, the host cluster is given       no entry: what the backing file has
 *                      back; nothing where nothing was            shows through
 *
 * An entry is changed in one step, and what it had is given back with the commit that makes the change durable (Q2).  Whoever
 * reads or writes there is waited for first (Q8).
 */
#include <errno.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

typedef struct Qcow2Clear {
    bool discard; /* else zeros are asked for */
    bool unmap;   /* the host cluster is given back, if nothing else is in it */
    BdrvRequestFlags flags;
} Qcow2Clear;

static uint64_t mask_of(unsigned from, unsigned to)
{
    return ((UINT64_C(1) << to) - 1) & ~((UINT64_C(1) << from) - 1);
}

static bool reads_as_zeros(const Qcow2State *s, Qcow2Entry entry, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        Qcow2ClusterKind kind = qcow2_entry_kind(&s->g, entry, i);

        if (!qcow2_kind_is_zero(kind) &&
            (!qcow2_kind_is_unallocated(kind) || qcow2_has_backing(s))) {
            return false;
        }
    }
    return true;
}

/* Whether a discard finds nothing to do: there never was anything, or it is gone. */
static bool is_clear(const Qcow2State *s, Qcow2Entry entry)
{
    return entry.word == 0 && (!qcow2_has_backing(s) || s->g.version < 3)
               ? true
               : qcow2_entry_kind(&s->g, entry, 0) == QCOW2_ZERO_PLAIN &&
                     qcow2_entry_run(&s->g, entry, 0) == s->g.subclusters;
}

/* All of a cluster. */
static Qcow2Entry clear_cluster(const Qcow2State *s, Qcow2Entry old, const Qcow2Clear *c)
{
    bool place = qcow2_entry_has_place(&s->g, old) && (old.word & QCOW2_COPIED);

    if (c->discard && is_clear(s, old)) {
        return old;
    }
    if (s->g.version < 3) {
        return (Qcow2Entry){0};
    }
    if (place && (!c->unmap || (c->discard && s->options.discard_no_unref))) {
        return qcow2_entry_zero_place(&s->g, qcow2_entry_place(old));
    }
    return qcow2_entry_zero_plain(&s->g);
}

/* Some of its subclusters, for zeros only; the host cluster goes when nothing is in it any more. */
static Qcow2Entry clear_part(const Qcow2State *s, Qcow2Entry old, unsigned from, unsigned to,
                             const Qcow2Clear *c)
{
    uint64_t mask = mask_of(from, to);
    Qcow2Entry next = old;

    next.subclusters = (old.subclusters & ~mask) | mask << 32;
    if (c->unmap && !(next.subclusters & QCOW2_ALL_ALLOCATED)) {
        next.word = 0;
    }
    return next;
}

static bool is_same(Qcow2Entry a, Qcow2Entry b)
{
    return a.word == b.word && a.subclusters == b.subclusters;
}

static void change_entry(Qcow2State *s, const Qcow2Slot *slot, uint32_t i, Qcow2Entry next,
                         const Qcow2Clear *c)
{
    Qcow2Entry old = qcow2_slot_get(s, slot, i);

    if (is_same(old, next)) {
        return;
    }
    qcow2_slot_set(s, slot, i, next);
    if (!qcow2_entry_has_place(&s->g, next) || qcow2_entry_place(next) != qcow2_entry_place(old)) {
        qcow2_give_back_entry(s, old,
                              c->discard ? s->options.discard_request
                                         : s->options.discard_request || s->options.discard_other);
    }
}

/* @from ... @to of one cluster, in subclusters.  -ENOTSUP: it cannot be said by an entry. */
static int coroutine_fn clear_entry(Qcow2State *s, const Qcow2Slot *slot, uint32_t i, unsigned from,
                                    unsigned to, const Qcow2Clear *c)
{
    int ret = qcow2_co_check_entry(s, slot, i);
    Qcow2Entry old;

    if (ret < 0) {
        return ret;
    }
    old = qcow2_slot_get(s, slot, i);
    if (from == 0 && to == s->g.subclusters) {
        change_entry(s, slot, i, clear_cluster(s, old, c), c);
        return 0;
    }
    if (old.word & QCOW2_COMPRESSED) {
        return -ENOTSUP;
    }
    change_entry(s, slot, i, clear_part(s, old, from, to, c), c);
    return 0;
}

/* Within one page of a table: as far as it goes, *ret_bytes. */
static int coroutine_fn clear_some(Qcow2State *s, int64_t offset, int64_t bytes,
                                   const Qcow2Clear *c, int64_t *ret_bytes)
{
    int64_t span = qcow2_l2_span(&s->g), cluster = qcow2_cluster_size(&s->g), at = offset;
    int64_t end = offset + bytes;
    bool make = !c->discard || (qcow2_has_backing(s) && s->g.version >= 3);
    Qcow2Slot slot;
    int ret = qcow2_co_slot(s, offset, make, &slot);

    if (ret < 0) {
        return ret;
    }
    if (!slot.page) { /* there is nothing that could be discarded */
        *ret_bytes = MIN(bytes, span - (offset & (span - 1)));
        return 0;
    }
    if (!make && !(s->l1[qcow2_l1_index(&s->g, offset)] & QCOW2_COPIED)) {
        qcow2_cache_put(slot.page);
        ret = qcow2_co_slot(s, offset, true, &slot);
    }
    for (uint32_t i = 0; ret == 0 && i < slot.n && at < end; i++) {
        int64_t start = qcow2_cluster_start(&s->g, at), to = MIN(end, start + cluster);

        ret = clear_entry(s, &slot, i, (unsigned)((at - start) >> s->g.subcluster_bits),
                          (unsigned)((to - start) >> s->g.subcluster_bits), c);
        at = to;
    }
    if (slot.page) {
        qcow2_cache_put(slot.page);
    }
    *ret_bytes = at - offset;
    return ret;
}

/* Of whole subclusters; for who holds the range. */
static int coroutine_fn clear_range(Qcow2State *s, int64_t offset, int64_t bytes,
                                    const Qcow2Clear *c)
{
    int64_t done;
    int ret = 0;

    for (; bytes > 0 && ret == 0; offset += done, bytes -= done) {
        ret = clear_some(s, offset, bytes, c, &done);
    }
    return ret;
}

/* Part of a subcluster: all of it becomes zeros, if the rest of it is. */
static int coroutine_fn rest_is_zeros(Qcow2State *s, int64_t offset, int64_t bytes)
{
    Qcow2Slot slot;
    unsigned sub = (unsigned)(qcow2_in_cluster(&s->g, offset) >> s->g.subcluster_bits);
    int ret;

    if (((offset ^ (offset + bytes - 1)) & ~(qcow2_subcluster_size(&s->g) - 1))) {
        return -ENOTSUP; /* of more than one */
    }
    ret = qcow2_co_slot(s, offset, false, &slot);
    if (ret < 0 || !slot.page) {
        return ret < 0 ? ret : qcow2_has_backing(s) ? -ENOTSUP : 0;
    }
    ret = qcow2_co_check_entry(s, &slot, 0);
    if (ret == 0 && !reads_as_zeros(s, qcow2_slot_get(s, &slot, 0), sub, sub + 1)) {
        ret = -ENOTSUP;
    }
    qcow2_cache_put(slot.page);
    return ret;
}

/* The file of the data is to be the disk as it is. */
static int coroutine_fn clear_raw_data(Qcow2State *s, int64_t offset, int64_t bytes,
                                       BdrvRequestFlags flags)
{
    if (!qcow2_header_has_raw_data_file(&s->header)) {
        return 0;
    }
    s->unordered = true;
    return bdrv_co_pwrite_zeroes(s->data, offset, bytes, flags & BDRV_REQ_MAY_UNMAP);
}

static int coroutine_fn clear(Qcow2State *s, int64_t offset, int64_t bytes, const Qcow2Clear *c)
{
    int64_t sub = qcow2_subcluster_size(&s->g), end = offset + bytes;
    int64_t from = offset & ~(sub - 1), to = (end + sub - 1) & ~(sub - 1);
    bool whole = from == offset && (to == end || end == (int64_t)s->header.size);
    Qcow2Range r;
    int ret;

    qcow2_co_range_begin(s, &r, QCOW2_RANGE_FREE, qcow2_cluster_start(&s->g, offset),
                         qcow2_cluster_end(&s->g, end));
    ret = whole ? 0 : rest_is_zeros(s, offset, bytes);
    if (ret == 0) {
        ret = clear_raw_data(s, offset, bytes, c->flags);
    }
    if (ret == 0) {
        /* The last cluster goes as a whole, also what is behind the disk's end. */
        to = end == (int64_t)s->header.size ? qcow2_cluster_end(&s->g, to) : to;
        ret = clear_range(s, from, to - from, c);
    }
    qcow2_range_end(s, &r);
    return ret;
}

/* Bytes of zeros that are written at once, where that has to be. */
#define ZEROS_AT_ONCE (1 * MiB)

static int coroutine_fn write_zeros(Qcow2State *s, int64_t offset, int64_t bytes)
{
    int64_t piece = MIN(bytes, ZEROS_AT_ONCE), n;
    uint8_t *buf = qemu_try_blockalign(s->data->bs, MAX(piece, INT64_C(1)));
    QEMUIOVector qiov;
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, piece);
    }
    for (; bytes > 0 && ret == 0; offset += n, bytes -= n) {
        n = MIN(bytes, piece);
        qemu_iovec_init_buf(&qiov, buf, n);
        ret = qcow2_co_write(s, offset, n, &qiov, 0);
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn write_zeros_where_needed(Qcow2State *s, int64_t offset, int64_t bytes)
{
    while (bytes > 0) {
        Qcow2Where w;
        int ret = qcow2_co_look(s, offset, bytes, &w);

        if (ret == 0 && !qcow2_kind_is_zero(w.kind) &&
            (!qcow2_kind_is_unallocated(w.kind) || qcow2_has_backing(s))) {
            ret = write_zeros(s, offset, w.bytes);
        }
        if (ret < 0) {
            return ret;
        }
        offset += w.bytes;
        bytes -= w.bytes;
    }
    return 0;
}

int coroutine_fn qcow2_co_make_zeros(Qcow2State *s, int64_t offset, int64_t bytes)
{
    int64_t cluster = qcow2_cluster_size(&s->g), end = offset + bytes;
    int64_t head = MIN(end, (offset + cluster - 1) & ~(cluster - 1));
    Qcow2Clear c = {.unmap = true, .flags = BDRV_REQ_MAY_UNMAP};
    Qcow2Range r;
    int ret;

    ret = write_zeros_where_needed(s, offset, head - offset);
    if (ret < 0 || head == end) {
        return ret;
    }
    if (s->g.version < 3 && qcow2_has_backing(s)) {
        return write_zeros_where_needed(s, head, end - head);
    }
    end = qcow2_cluster_end(&s->g, end);
    qcow2_co_range_begin(s, &r, QCOW2_RANGE_FREE, head, end);
    ret = clear_raw_data(s, head, end - head, c.flags);
    if (ret == 0) {
        ret = clear_range(s, head, end - head, &c);
    }
    qcow2_range_end(s, &r);
    return ret;
}

int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    Qcow2Clear c = {.unmap = flags & BDRV_REQ_MAY_UNMAP, .flags = flags};
    int ret = qcow2_co_change_begin(s, offset, bytes);

    if (ret < 0) {
        return ret;
    }
    if (s->g.version < 3 && qcow2_has_backing(s)) {
        ret = -ENOTSUP;
    } else {
        ret = clear(s, offset, bytes, &c);
    }
    qcow2_co_change_end(s);
    return ret;
}

int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Qcow2State *s = bs->opaque;
    Qcow2Clear c = {.discard = true, .unmap = true, .flags = BDRV_REQ_MAY_UNMAP};
    int ret = qcow2_co_change_begin(s, offset, bytes);

    if (ret < 0) {
        return ret;
    }
    if (!qcow2_is_cluster_aligned(&s->g, (uint64_t)offset) ||
        (!qcow2_is_cluster_aligned(&s->g, (uint64_t)bytes) &&
         offset + bytes != (int64_t)s->header.size)) {
        ret = -ENOTSUP;
    } else {
        ret = clear(s, offset, bytes, &c);
    }
    qcow2_co_change_end(s);
    return ret;
}
