/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Free clusters: found, counted ahead, taken. */
#include <errno.h>
#include "block/drivers/qcow2/alloc/alloc-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* A1: of what was taken since the image was opened, the part that is counted ahead. */
#define RESERVE_PART 4

static uint64_t host_end(const Qcow2Alloc *a)
{
    return (uint64_t)QCOW2_HOST_END >> a->g.cluster_bits;
}

/*
 * The first free run from @from on: of @want clusters, or, unless @all, of at least one.  With the lock held.  Blocks
 * that are missing count nothing.
 */
static int coroutine_fn find(Qcow2Alloc *a, uint64_t from, uint64_t want, bool all,
                             uint64_t *ret_first, uint64_t *ret_n)
{
    uint64_t first = from, n = 0, at = from;

    while (at < host_end(a)) {
        uint64_t index = qcow2_refblock_index(&a->g, at);
        uint64_t end = UINT64_C(1) << a->g.refblock_bits, next, used;
        Qcow2Page *page;
        int ret = qcow2_co_alloc_block(a, at, &page);

        if (ret < 0) {
            return ret;
        }
        if (n == 0) {
            next = page ? qcow2_refcount_find(a->g.refcount_order, page->data, index, end, true)
                        : index;
            at += next - index;
            index = next;
            first = at;
        }
        used = page ? qcow2_refcount_find(a->g.refcount_order, page->data, index,
                                          MIN(end, index + (want - n)), false)
                    : MIN(end, index + (want - n));
        if (page) {
            qcow2_cache_put(page);
        }
        n += used - index;
        at += used - index;
        if (n == want || (n > 0 && !all)) {
            *ret_first = first;
            *ret_n = n;
            return 0;
        }
        if (used < end) {
            n = 0; /* somebody is in the way */
        }
    }
    return -EFBIG;
}

/* A2 */
static int coroutine_fn make_file_longer(Qcow2Alloc *a, uint64_t end)
{
    int64_t length = bdrv_getlength(a->config.file->bs),
            needed = (int64_t)(end << a->g.cluster_bits);
    g_autoptr(Error) err = NULL;

    if (length < 0) {
        return length;
    }
    return length >= needed
               ? 0
               : bdrv_co_truncate(a->config.file, needed, false, PREALLOC_MODE_OFF, 0, &err);
}

/*
 * A run that was found is counted: its first clusters, as far as one block counts them, or, @all, every one.  What a new
 * block takes for itself is not in it.  -EAGAIN: look again.
 */
static int coroutine_fn count(Qcow2Alloc *a, uint64_t first, uint64_t n)
{
    int64_t offset = (int64_t)(first << a->g.cluster_bits),
            bytes = (int64_t)(n << a->g.cluster_bits);
    uint64_t last = first + n - 1;
    int ret;

    for (uint64_t at = first; at <= last;
         at = (qcow2_reftable_index(&a->g, at) + 1) << a->g.refblock_bits) {
        bool used;

        ret = qcow2_co_alloc_add_block(a, at, &used);
        if (ret < 0 || used) {
            return ret < 0 ? ret : -EAGAIN;
        }
    }
    ret = a->config.hooks.co_check_run(a->config.hooks.opaque, offset, bytes);
    if (ret == 0) {
        ret = make_file_longer(a, first + n);
    }
    return ret == 0 ? qcow2_co_refcount_add(a, first, n, 1) : ret;
}

/* With the lock held. */
static int coroutine_fn find_and_count(Qcow2Alloc *a, uint64_t want, bool all, uint64_t *ret_first,
                                       uint64_t *ret_n, bool *ret_fresh)
{
    uint64_t first, n;
    int ret;

    do {
        ret = find(a, a->hint, want, all, &first, &n);
        if (ret < 0) {
            return ret;
        }
        if (!all) {
            a->hint = first;
        }
        ret = count(a, first, n);
    } while (ret == -EAGAIN);
    if (ret < 0) {
        return ret;
    }
    *ret_first = first;
    *ret_n = n;
    *ret_fresh = first >= a->fresh_from;
    a->fresh_from = MAX(a->fresh_from, first + n);
    if (a->hint == first) {
        a->hint = first + n;
    }
    return 0;
}

static int coroutine_fn fill_pool(Qcow2Alloc *a, uint64_t want)
{
    uint64_t ahead = MIN(a->taken / RESERVE_PART, (uint64_t)ALLOC_RESERVE_MAX >> a->g.cluster_bits);
    uint64_t first, n;
    bool fresh;
    int ret = find_and_count(a, MAX(want, ahead), false, &first, &n, &fresh);

    if (ret == 0) {
        a->pool_next = first;
        a->pool_end = first + n;
        a->pool_fresh = fresh;
    }
    return ret;
}

static void take_from_pool(Qcow2Alloc *a, uint64_t n, Qcow2Run *ret_run)
{
    *ret_run = (Qcow2Run){
        .offset = (int64_t)(a->pool_next << a->g.cluster_bits),
        .clusters = (int64_t)n,
        .fresh = a->pool_fresh,
    };
    a->pool_next += n;
    a->taken += n;
}

static bool take_some(Qcow2Alloc *a, int64_t want, Qcow2Run *ret_run)
{
    uint64_t n = MIN((uint64_t)want, a->pool_end - a->pool_next);

    if (n > 0) {
        take_from_pool(a, n, ret_run);
    }
    return n > 0;
}

int coroutine_fn qcow2_co_take(Qcow2Alloc *a, int64_t want, Qcow2Run *ret_run)
{
    int ret = 0;

    assert(want > 0);
    if (take_some(a, want, ret_run)) {
        return 0;
    }
    qemu_co_mutex_lock(&a->lock);
    while (ret == 0 &&
           !take_some(a, want, ret_run)) { /* who waited finds what somebody else has left */
        ret = fill_pool(a, (uint64_t)want);
    }
    qemu_co_mutex_unlock(&a->lock);
    return ret;
}

int coroutine_fn qcow2_co_take_all(Qcow2Alloc *a, int64_t n, Qcow2Run *ret_run)
{
    uint64_t first, got;
    bool fresh;
    int ret;

    assert(n > 0);
    if (a->pool_end - a->pool_next >= (uint64_t)n) {
        take_from_pool(a, (uint64_t)n, ret_run);
        return 0;
    }
    qemu_co_mutex_lock(&a->lock);
    ret = find_and_count(a, (uint64_t)n, true, &first, &got, &fresh);
    qemu_co_mutex_unlock(&a->lock);
    if (ret == 0) {
        a->taken += got;
        *ret_run = (Qcow2Run){
            .offset = (int64_t)(first << a->g.cluster_bits),
            .clusters = n,
            .fresh = fresh,
        };
    }
    return ret;
}
