/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2-tables - L2 entries, refcounts, snapshot tables and bitmap directories that somebody else has made
 *
 * Input: a byte that says what the rest is, one that says the geometry, and the table.
 */
#include <assert.h>
#include <stdlib.h>
#include "block/drivers/qcow2/layout/bitmap.h"
#include "block/drivers/qcow2/layout/entry.h"
#include "block/drivers/qcow2/layout/refcount.h"
#include "block/drivers/qcow2/layout/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_entry(const Qcow2Geometry *g, Qcow2Entry e)
{
    for (unsigned i = 0; i < g->subclusters;) {
        unsigned n = qcow2_entry_run(g, e, i);

        assert(n >= 1 && i + n <= g->subclusters);
        if (qcow2_kind_has_place(qcow2_entry_kind(g, e, i))) {
            assert(qcow2_entry_has_place(g, e));
            assert(qcow2_entry_place(e) < QCOW2_HOST_END);
        }
        i += n;
    }
    if (!qcow2_entry_check(g, e) && !(e.word & QCOW2_COMPRESSED)) {
        assert(qcow2_is_cluster_aligned(g, (uint64_t)qcow2_entry_place(e)));
    }
    if (e.word & QCOW2_COMPRESSED) {
        Qcow2Compressed c;

        qcow2_compressed_decode(g, e.word, &c);
        assert(c.offset >= 0 && c.offset < QCOW2_HOST_END);
        assert(c.bytes > 0 && c.bytes <= 2 * qcow2_cluster_size(g));
    }
}

static void look_at_entries(const Qcow2Geometry *g, const uint8_t *data, size_t size)
{
    for (uint32_t i = 0; (i + 1) * (size_t)g->l2_entry_bytes <= size; i++) {
        look_at_entry(g, qcow2_entry_get(g, data, i));
    }
}

static void look_at_refcounts(const Qcow2Geometry *g, const uint8_t *data, size_t size)
{
    uint64_t n = size / 8 * 64 >> g->refcount_order;
    uint64_t used = qcow2_refcount_used_end(g->refcount_order, data, n), next = 0;

    while (next < n) {
        uint64_t free = qcow2_refcount_find(g->refcount_order, data, next, n, true);

        next = qcow2_refcount_find(g->refcount_order, data, free, n, false);
        assert(free <= next && next <= n);
        assert(next == n || next < used);
    }
}

static void look_at_snapshots(const uint8_t *data, size_t size)
{
    Qcow2Snapshot s;
    size_t n;

    while ((n = qcow2_snapshot_decode(data, size, &s)) > 0) {
        assert(n <= size);
        assert(s.unknown_bytes <= QCOW2_SNAPSHOT_EXTRA_MAX);
        qcow2_snapshot_clear(&s);
        data += n;
        size -= n;
    }
}

static void look_at_bitmaps(const Qcow2Geometry *g, const uint8_t *data, size_t size)
{
    Qcow2BitmapEntry b;
    size_t n;

    while (true) {
        g_autoptr(Error) err = NULL;

        n = qcow2_bitmap_decode(g, data, size, &b, &err);
        if (n == 0) {
            assert(err);
            return;
        }
        assert(n <= size && qcow2_bitmap_bytes(&b) <= n);
        qcow2_bitmap_clear(&b);
        data += n;
        size -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *buf = NULL; /* of exact size */
    bool extended;
    unsigned bits;
    Qcow2Geometry g;

    if (size < 2) {
        return 0;
    }
    extended = data[1] & 1;
    bits = QCOW2_CLUSTER_BITS_MIN + (data[1] >> 1) % 13;
    qcow2_geometry_init(&g, data[1] & 128 ? 2 : 3,
                        extended ? MAX(bits, (unsigned)QCOW2_EXTENDED_CLUSTER_BITS_MIN) : bits,
                        extended, data[0] / 4 % 7, data[1] & 64);
    buf = g_memdup2(data + 2, size - 2);
    switch (data[0] % 4) {
    case 0:
        look_at_entries(&g, buf, size - 2);
        break;
    case 1:
        look_at_refcounts(&g, buf, size - 2);
        break;
    case 2:
        look_at_snapshots(buf, size - 2);
        break;
    default:
        look_at_bitmaps(&g, buf, size - 2);
        break;
    }
    return 0;
}
