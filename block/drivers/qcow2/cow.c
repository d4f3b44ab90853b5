/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is written beside the guest's bytes when clusters come into the image. */
#include <errno.h>
#include "block/drivers/qcow2/cow.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* Of the cluster that has @offset: which of the entries, and which subcluster. */
static Qcow2ClusterKind kind_at(const Qcow2State *s, const Qcow2Cow *c, int64_t offset)
{
    int64_t start = qcow2_cluster_start(&s->g, c->offset);
    uint32_t i = (uint32_t)((offset - start) >> s->g.cluster_bits);

    return qcow2_entry_kind(&s->g, qcow2_slot_get(s, &c->slot, i),
                            (unsigned)(qcow2_in_cluster(&s->g, offset) >> s->g.subcluster_bits));
}

/* Whether the image has data in the cluster of @offset, in any of its subclusters: all of it has to be moved then. */
static bool has_data(const Qcow2State *s, const Qcow2Cow *c, int64_t offset)
{
    int64_t start = qcow2_cluster_start(&s->g, c->offset);
    Qcow2Entry entry =
        qcow2_slot_get(s, &c->slot, (uint32_t)((offset - start) >> s->g.cluster_bits));

    for (unsigned i = 0; i < s->g.subclusters; i++) {
        Qcow2ClusterKind kind = qcow2_entry_kind(&s->g, entry, i);

        if (kind == QCOW2_DATA || kind == QCOW2_COMPRESSED_DATA) {
            return true;
        }
    }
    return false;
}

/* What is not in the image is zeros, too, where there is no backing file, or where it surely has zeros. */
static int coroutine_fn backing_is_zero(Qcow2State *s, int64_t from, int64_t to)
{
    int64_t length = qcow2_has_backing(s) ? bdrv_getlength(s->bs->backing->bs) : 0;

    if (length < 0) {
        return (int)length;
    }
    to = MIN(to, length);
    return from >= to ? 1 : bdrv_co_is_zero_fast(s->bs->backing->bs, from, to - from);
}

/* 1: the guest saw zeros there; 0: perhaps not; or negative errno. */
static int coroutine_fn saw_zeros(Qcow2State *s, const Qcow2Cow *c, int64_t from, int64_t to)
{
    bool unallocated = false;

    for (int64_t at = from; at < to; at += qcow2_subcluster_size(&s->g)) {
        Qcow2ClusterKind kind = kind_at(s, c, at);

        if (!qcow2_kind_is_zero(kind) && !qcow2_kind_is_unallocated(kind)) {
            return 0;
        }
        unallocated |= qcow2_kind_is_unallocated(kind);
    }
    return unallocated ? backing_is_zero(s, from, to) : 1;
}

/* What is in place already is data of a subcluster there, which others may be writing to. */
static void find_hull(const Qcow2State *s, Qcow2Cow *c, int64_t *ret_from, int64_t *ret_to)
{
    int64_t end = c->offset + c->bytes, sub = qcow2_subcluster_size(&s->g);

    c->hull_start = c->offset & ~(sub - 1);
    c->hull_end = (end + sub - 1) & ~(sub - 1);
    if (!c->reuse && has_data(s, c, c->offset)) {
        c->hull_start = qcow2_cluster_start(&s->g, c->offset);
    }
    if (!c->reuse && has_data(s, c, end - 1)) {
        c->hull_end = qcow2_cluster_end(&s->g, end);
    }
    *ret_from = c->reuse && kind_at(s, c, c->hull_start) == QCOW2_DATA ? c->offset : c->hull_start;
    *ret_to = c->reuse && kind_at(s, c, c->hull_end - 1) == QCOW2_DATA ? end : c->hull_end;
}

int coroutine_fn qcow2_co_cow(Qcow2State *s, Qcow2Cow *c, QEMUIOVector *qiov, size_t qiov_offset)
{
    int64_t end = c->offset + c->bytes, from, to, head, tail;
    int64_t start = qcow2_cluster_start(&s->g, c->offset);
    QEMUIOVector copied, all;
    uint8_t *buf;
    int ret;

    find_hull(s, c, &from, &to);
    ret = c->fresh ? saw_zeros(s, c, c->hull_start, c->hull_end) : 0;
    if (ret < 0) {
        return ret;
    }
    c->safe = ret == 1;
    if (c->safe) {
        from = c->offset;
        to = end;
    }
    head = c->offset - from;
    tail = to - end;
    if (head + tail == 0) {
        return bdrv_co_pwritev_part(s->data, c->place + (from - start), c->bytes, qiov, qiov_offset,
                                    0);
    }
    buf = qemu_try_blockalign(s->data->bs, head + tail);
    if (!buf) {
        return -ENOMEM;
    }
    ret = 0;
    qemu_iovec_init_buf(&copied, buf, head + tail);
    if (head) {
        ret = qcow2_co_read(s, from, head, &copied, 0, 0);
    }
    if (ret == 0 && tail) {
        ret = qcow2_co_read(s, end, tail, &copied, head, 0);
    }
    if (ret == 0) {
        qemu_iovec_init(&all, qiov->niov + 2);
        qemu_iovec_concat(&all, &copied, 0, head);
        qemu_iovec_concat(&all, qiov, qiov_offset, c->bytes);
        qemu_iovec_concat(&all, &copied, head, tail);
        ret = bdrv_co_pwritev_part(s->data, c->place + (from - start), to - from, &all, 0, 0);
        qemu_iovec_destroy(&all);
    }
    qemu_vfree(buf);
    return ret;
}
