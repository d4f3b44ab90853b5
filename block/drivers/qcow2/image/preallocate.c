/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clusters for all of a part of the disk, before anybody writes to it.
 *
 *      metadata    each guest cluster has a host cluster, of which nothing was written
 *      falloc      and the file system has set its space aside
 *      full        and it was written with zeros
 *
 * Entries say that there is data, which are zeros.  With subclusters they say that there is a place and nothing in it, so that
 * a backing file still shows.
 */
#include <errno.h>
#include "block/drivers/qcow2/image/image.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* Written at once. */
#define ZEROS_AT_ONCE (2 * MiB)

static int coroutine_fn write_zeros(BdrvChild *file, int64_t offset, int64_t bytes)
{
    int64_t most = MIN(bytes, ZEROS_AT_ONCE), n;
    uint8_t *buf = qemu_try_blockalign(file->bs, most);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, most);
    }
    for (; bytes > 0 && ret == 0; offset += n, bytes -= n) {
        n = MIN(bytes, most);
        ret = bdrv_co_pwrite(file, offset, n, buf, 0);
    }
    qemu_vfree(buf);
    return ret;
}

/* The run reads as zeros, and its space is there as @prealloc says. */
static int coroutine_fn make_ready(Qcow2State *s, const Qcow2Run *run, PreallocMode prealloc)
{
    int64_t bytes = run->clusters << s->g.cluster_bits;

    switch (prealloc) {
    case PREALLOC_MODE_FULL:
        return write_zeros(s->data, run->offset, bytes);
    case PREALLOC_MODE_FALLOC:
        return bdrv_co_pwrite_zeroes(s->data, run->offset, bytes, 0);
    default:
        return run->fresh ? 0
                          : bdrv_co_pwrite_zeroes(s->data, run->offset, bytes, BDRV_REQ_MAY_UNMAP);
    }
}

static bool is_free(const Qcow2State *s, Qcow2Entry entry)
{
    return entry.word == 0 && entry.subclusters == 0;
}

/* Of the slot's entries from @i on: those that have nothing, up to @n. */
static uint32_t free_entries(const Qcow2State *s, const Qcow2Slot *slot, uint32_t i, uint32_t n)
{
    uint32_t end = i;

    while (end < n && is_free(s, qcow2_slot_get(s, slot, end))) {
        end++;
    }
    return end - i;
}

/* @offset: of the guest's first cluster.  *ret_done of @n are done. */
static int coroutine_fn fill_entries(Qcow2State *s, const Qcow2Slot *slot, uint32_t i, uint32_t n,
                                     int64_t offset, PreallocMode prealloc, uint32_t *ret_done)
{
    Qcow2Run run = {.offset = offset, .clusters = n};
    int ret = 0;

    if (!s->g.external_data) {
        ret = qcow2_co_take(s->alloc, n, &run);
        if (ret == 0) {
            ret = make_ready(s, &run, prealloc);
        }
        if (ret < 0) {
            return ret;
        }
    }
    for (int64_t k = 0; k < run.clusters; k++) {
        Qcow2Entry entry = qcow2_entry_data(&s->g, run.offset + (k << s->g.cluster_bits));

        entry.subclusters = 0;
        qcow2_slot_set(s, slot, i + (uint32_t)k, entry);
    }
    s->unordered |= !run.fresh; /* Q3 */
    *ret_done = (uint32_t)run.clusters;
    return 0;
}

int coroutine_fn qcow2_co_preallocate(Qcow2State *s, int64_t from, int64_t to,
                                      PreallocMode prealloc)
{
    int64_t at = qcow2_cluster_start(&s->g, from);
    int ret = 0;

    while (at < to && ret == 0) {
        int64_t want = (qcow2_cluster_end(&s->g, to) - at) >> s->g.cluster_bits;
        uint32_t n, done = 0;
        Qcow2Slot slot;

        ret = qcow2_co_slot(s, at, true, &slot);
        if (ret < 0) {
            return ret;
        }
        n = (uint32_t)MIN((int64_t)slot.n, want);
        for (uint32_t i = 0; i < n && ret == 0; i += done) {
            uint32_t some = free_entries(s, &slot, i, n);

            done = 1;
            if (some) {
                ret = fill_entries(s, &slot, i, some, at + ((int64_t)i << s->g.cluster_bits),
                                   prealloc, &done);
            }
        }
        qcow2_cache_put(slot.page);
        at += (int64_t)n << s->g.cluster_bits;
    }
    return ret;
}
