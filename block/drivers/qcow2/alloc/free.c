/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clusters that nobody refers to any more (A3), and the end. */
#include <errno.h>
#include "block/drivers/qcow2/alloc/alloc-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

void qcow2_give_back(Qcow2Alloc *a, int64_t offset, int64_t clusters, bool discard)
{
    GivenBack next = {
        .first = (uint64_t)offset >> a->g.cluster_bits,
        .n = (uint64_t)clusters,
        .discard = discard,
    };
    GivenBack *last = a->given_back->len
                          ? &g_array_index(a->given_back, GivenBack, a->given_back->len - 1)
                          : NULL;

    if (last && last->first + last->n == next.first && last->discard == discard) {
        last->n += next.n;
    } else {
        g_array_append_val(a->given_back, next);
    }
}

bool qcow2_alloc_has_given_back(const Qcow2Alloc *a)
{
    return a->given_back->len > 0;
}

void qcow2_release_begin(Qcow2Alloc *a)
{
    GArray *empty = a->releasing;

    assert(empty->len == 0);
    a->releasing = a->given_back;
    a->given_back = empty;
}

/* Counted once, they are about to be free: how many of these, from the first on; 0: the first is not. */
static uint64_t coroutine_fn last_references(Qcow2Alloc *a, uint64_t first, uint64_t n)
{
    uint64_t count, i;

    for (i = 0; i < n; i++) {
        if (qcow2_co_refcount_get(a, first + i, &count) < 0 || count != 1) {
            break;
        }
    }
    return i;
}

/* What is discarded is discarded while nobody can take it. */
static void coroutine_fn release(Qcow2Alloc *a, const GivenBack *given)
{
    uint64_t at = given->first, end = given->first + given->n;

    while (at < end) {
        uint64_t last = last_references(a, at, end - at), n = MAX(last, UINT64_C(1));

        if (last && given->discard) {
            bdrv_co_pdiscard(a->config.file, (int64_t)(at << a->g.cluster_bits),
                             (int64_t)(n << a->g.cluster_bits)); /* advice */
        }
        /* A count that cannot be made smaller is a leak, or was wrong before: check tells. */
        if (qcow2_co_refcount_add(a, at, n, -1) == 0 && last) {
            a->hint = MIN(a->hint, at);
        }
        at += n;
    }
}

void coroutine_fn qcow2_co_release_end(Qcow2Alloc *a, bool done)
{
    if (done) {
        for (guint i = 0; i < a->releasing->len; i++) {
            const GivenBack given = g_array_index(a->releasing, GivenBack, i);

            release(a, &given);
        }
    } else {
        g_array_append_vals(a->given_back, a->releasing->data, a->releasing->len);
    }
    g_array_set_size(a->releasing, 0);
}

void coroutine_fn qcow2_co_alloc_settle(Qcow2Alloc *a)
{
    uint64_t n = a->pool_end - a->pool_next;
    int64_t length = bdrv_getlength(a->config.file->bs);

    if (!n || qcow2_co_refcount_add(a, a->pool_next, n, -1) < 0) {
        return;
    }
    /* What the file was made longer by for nothing (A2); as advice. */
    if (a->pool_fresh && length == (int64_t)(a->pool_end << a->g.cluster_bits)) {
        Error *err = NULL;

        if (bdrv_co_truncate(a->config.file, (int64_t)(a->pool_next << a->g.cluster_bits), true,
                             PREALLOC_MODE_OFF, 0, &err) == 0) {
            a->fresh_from = a->pool_next;
        }
        error_free(err);
    }
    a->hint = MIN(a->hint, a->pool_next);
    a->pool_end = a->pool_next;
}
