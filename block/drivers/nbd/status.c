/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block status: what is data and what is zero, by base:allocation, with the last answer kept.
 *
 *   asked            |<-- bytes -->|
 *   sent             |<-------------------- up to NBD_STATUS_BYTES ------------------->|
 *   answered         |##data##|    hole    |####data####|  hole |      as much as the server likes
 *   kept             start   end[0]       end[1]     end[2]   end[3]
 *
 * A walk over a disk in small steps costs one question for many extents.
 *
 * N8  A kept "zero" is believed for nbd_times.zero_extent, and only while no write of ours has ended
 *     since it was asked for: other clients may write to the export, and nobody tells us.  A kept
 *     "data" is believed longer: a stale "data" costs time, a stale "zero" costs data.
 * H5  An answer is taken as far as it makes sense: extents on block bounds, none empty, inside the
 *     disk.  What is left over is data, which is always true.
 */
#include <errno.h>
#include "block/drivers/nbd/nbd-int.h"
#include "trace-nbd-driver.h"

/* Called by libnbd with pairs of length and flags; no function of libnbd may be called here. */
int nbd_extents_add(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                    size_t nr_entries, int *error)
{
    NbdOp *op = opaque;
    NbdExtents *e = op->extents;
    const NbdState *s = op->conn->s;
    const NbdInfo *info = &s->info;
    int64_t end = e->count ? e->list[e->count - 1].end : e->start;

    if (strcmp(context, s->context) != 0 || offset != (uint64_t)e->start || e->count > 0) {
        return 0; /* nobody asked for that, or it was answered */
    }
    for (size_t i = 0; i + 1 < nr_entries && e->count < NBD_EXTENTS_MAX; i += 2) {
        uint32_t flags = entries[i + 1] & (LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO);

        if (entries[i] == 0 || entries[i] % info->min_block) {
            break;
        }
        end = MIN(end + entries[i], info->size);
        if (e->count > 0 && e->list[e->count - 1].flags == flags) {
            e->list[e->count - 1].end = end;
        } else {
            e->list[e->count++] = (NbdExtent){.end = end, .flags = flags};
        }
        if (end == info->size) {
            break;
        }
    }
    return 0;
}

/* The kept extent at @offset, from there on; false if there is none to be believed (N8). */
static bool look_up(NbdState *s, int64_t offset, NbdExtent *ret_extent)
{
    const NbdExtents *e = s->known;
    unsigned low = 0, high = e ? e->count : 0;

    if (high == 0 || offset < e->start || offset >= e->list[high - 1].end) {
        return false;
    }
    while (low < high) { /* the first that ends behind offset */
        unsigned mid = (low + high) / 2;

        if (e->list[mid].end <= offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *ret_extent = e->list[low];
    return !(ret_extent->flags & LIBNBD_STATE_ZERO) ||
           nbd_now() - s->known_ns < nbd_times.zero_extent;
}

void nbd_status_written(NbdState *s, int64_t offset, int64_t bytes)
{
    const NbdExtents *e = s->known;

    s->write_gen++;
    if (e && e->count && offset < e->list[e->count - 1].end && offset + bytes > e->start) {
        s->known->count = 0;
    }
}

/* Ask the server; the answer's first extent, and all of it kept if no write came between. */
static int coroutine_fn ask(NbdState *s, int64_t offset, int64_t bytes, NbdExtent *ret_extent)
{
    NbdOp op = {
        .command = NBD_STATUS,
        .offset = offset,
        .bytes = MIN(MAX(bytes, NBD_STATUS_BYTES), s->info.size - offset),
        .extents = g_new(NbdExtents, 1),
    };
    uint64_t gen = s->write_gen;
    int64_t asked_ns = nbd_now();
    int ret;

    op.bytes = MIN(op.bytes, NBD_TRIM_MAX); /* 32 bits on the wire, as for a trim */
    op.extents->count = 0;
    ret = nbd_co_request(s, &op);
    if (ret == 0 && op.extents->count == 0) {
        ret = -EPROTO;
    }
    trace_nbd_driver_status(s->peer, offset, op.bytes, ret < 0 ? ret : (int)op.extents->count);
    if (ret < 0) {
        g_free(op.extents);
        return ret;
    }
    *ret_extent = op.extents->list[0];
    if (gen == s->write_gen) {
        g_free(s->known);
        s->known = op.extents;
        s->known_ns = asked_ns;
    } else {
        g_free(op.extents);
    }
    return 0;
}

/* Home. */
static int coroutine_fn status_at(NbdState *s, int64_t offset, int64_t bytes, int64_t *pnum)
{
    NbdExtent extent;
    int ret;

    if (!look_up(s, offset, &extent)) {
        ret = ask(s, offset, bytes, &extent);
        if (ret == -EIO || ret == -ETIMEDOUT) {
            return ret; /* the server is away */
        }
        if (ret < 0) {
            return BDRV_BLOCK_DATA;
        }
    }
    *pnum = MIN(bytes, extent.end - offset);
    if (s->other_context) { /* whatever its flags mean, they are shown as those of base:allocation */
        return (extent.flags & LIBNBD_STATE_HOLE ? 0 : BDRV_BLOCK_DATA) |
               (extent.flags & LIBNBD_STATE_ZERO ? BDRV_BLOCK_ZERO : 0);
    }
    return extent.flags & LIBNBD_STATE_ZERO ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA;
}

int coroutine_fn nbd_client_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    NbdState *s = bs->opaque;
    AioContext *from;
    int ret;

    *pnum = bytes;
    *map = offset;
    *file = bs;
    if (!s->info.has_status || (!want_zero && !s->other_context)) {
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    }
    from = nbd_co_go_home(bs);
    ret = status_at(s, offset, bytes, pnum);
    nbd_co_go_back(from);
    return ret <= 0 ? ret : ret | BDRV_BLOCK_OFFSET_VALID;
}
