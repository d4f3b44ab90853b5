/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Room for compressed data, byte by byte (Z1).
 *
 *      | cluster that is packed         | another, if it is the next one     |
 *      |.. data ..|. next ..............:.............|                      |
 *                 ^ pack_next           pack_end
 *
 * Of a cluster that becomes full at once our count becomes the data's.
 */
#include <errno.h>
#include "block/drivers/qcow2/compress/compress-int.h"
#include "util/osdep.h"

static uint64_t packed_cluster(const Qcow2State *s)
{
    return (uint64_t)(s->compress->pack_end - 1) >> s->g.cluster_bits;
}

/* Our count goes, at the next commit. */
static void leave(Qcow2State *s)
{
    Qcow2Compress *c = s->compress;

    if (c->pack_end > 0) {
        qcow2_give_back(s->alloc, (int64_t)(packed_cluster(s) << s->g.cluster_bits), 1, false);
        c->pack_next = c->pack_end = 0;
    }
}

void qcow2_compress_settle(Qcow2State *s)
{
    leave(s);
}

static void go_to(Qcow2State *s, int64_t offset)
{
    s->compress->pack_next = offset;
    s->compress->pack_end = offset + qcow2_cluster_size(&s->g);
}

/* The data's count of the cluster that is packed: counts may be too narrow for one more, then it has ours. */
static int coroutine_fn count_packed(Qcow2State *s)
{
    return qcow2_co_refcount_add(s->alloc, packed_cluster(s), 1, 1);
}

/* It fits: where; 0: the cluster takes no more. */
static int64_t coroutine_fn pack_inside(Qcow2State *s, int64_t bytes)
{
    Qcow2Compress *c = s->compress;
    int64_t at = c->pack_next;

    if (c->pack_next + bytes == c->pack_end) { /* our count becomes its count */
        c->pack_next = c->pack_end = 0;
        return at;
    }
    if (count_packed(s) < 0) {
        leave(s);
        return 0;
    }
    c->pack_next += bytes;
    return at;
}

/* At the begin of a cluster that was taken, which is ours. */
static int64_t coroutine_fn pack_first(Qcow2State *s, int64_t offset, int64_t bytes)
{
    go_to(s, offset);
    if (count_packed(s) < 0) { /* it is counted for the data alone, which has all of it */
        s->compress->pack_next = s->compress->pack_end = 0;
    } else {
        s->compress->pack_next += bytes;
    }
    return offset;
}

static int64_t coroutine_fn pack(Qcow2State *s, int64_t bytes)
{
    Qcow2Compress *c = s->compress;
    int64_t at = 0, rest;
    Qcow2Run run;
    int ret;

    if (c->pack_end > 0 && bytes <= c->pack_end - c->pack_next) {
        at = pack_inside(s, bytes);
    }
    if (at) {
        return at;
    }
    ret = qcow2_co_take(s->alloc, 1, &run);
    if (ret < 0) {
        return ret;
    }
    if (run.offset + qcow2_cluster_size(&s->g) > qcow2_compressed_end(&s->g)) {
        qcow2_give_back(s->alloc, run.offset, 1, false);
        return -ERANGE;
    }
    if (c->pack_end == 0 || run.offset != c->pack_end) {
        leave(s);
        return pack_first(s, run.offset, bytes);
    }
    at = c->pack_next;
    rest = bytes - (c->pack_end - c->pack_next);
    pack_first(s, run.offset, rest);
    return at;
}

int64_t coroutine_fn qcow2_co_pack(Qcow2State *s, int64_t bytes)
{
    int64_t ret;

    assert(bytes > 0 && bytes < qcow2_cluster_size(&s->g));
    qemu_co_mutex_lock(&s->compress->pack_lock);
    ret = pack(s, bytes);
    qemu_co_mutex_unlock(&s->compress->pack_lock);
    return ret;
}
