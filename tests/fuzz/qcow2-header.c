/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2-header - the first cluster of a qcow2 image that somebody else has made
 *
 * Input: patches for a good header of the smallest cluster, each of them a length, a place and bytes (1, 2, length).  A
 * header that is taken keeps to its limits, and is encoded to one that says the same.
 */
#include <assert.h>
#include <stdlib.h>
#include "block/drivers/qcow2/layout/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Extensions and names have some room; tables of any cluster size are somewhere else. */
#define BUF_BYTES 4096

static void good_header(uint8_t *buf)
{
    Qcow2Header h = {
        .version = 3,
        .cluster_bits = 12,
        .size = 64 * MiB,
        .l1_size = 32,
        .l1_offset = 3 * 4096,
        .reftable_offset = 4096,
        .reftable_clusters = 1,
        .refcount_order = 4,
        .backing_file = (char *)"base.img",
        .backing_format = (char *)"raw",
        .has_bitmaps = true,
        .autoclear = QCOW2_AUTOCLEAR_BITMAPS,
        .nb_bitmaps = 1,
        .bitmap_dir_bytes = 64,
        .bitmap_dir_offset = 5 * 4096,
    };
    int ret = qcow2_header_encode(&h, buf, NULL);

    assert(ret == 0);
}

static void patch(uint8_t *buf, const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t place = lduw_le_p(data + 1) % BUF_BYTES;
        size_t len = MIN(data[0], size - 3);

        memcpy(buf + place, data + 3, MIN(len, BUF_BYTES - place));
        data += 3 + len;
        size -= 3 + len;
    }
}

static void check(const Qcow2Header *h)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    Qcow2Geometry g;

    qcow2_header_geometry(h, &g);
    assert(h->version == 2 || h->version == 3);
    assert(cluster >= 512 && cluster <= (uint64_t)(2 * MiB));
    assert(h->l1_size <= QCOW2_L1_BYTES_MAX / 8 && h->l1_size >= qcow2_l1_entries(&g, h->size));
    assert(h->reftable_clusters &&
           (uint64_t)h->reftable_clusters << h->cluster_bits <= (uint64_t)QCOW2_REFTABLE_BYTES_MAX);
    assert(h->l1_offset % cluster == 0 && h->reftable_offset % cluster == 0);
    assert(h->l1_offset < (uint64_t)QCOW2_HOST_END &&
           h->reftable_offset < (uint64_t)QCOW2_HOST_END);
    assert(h->nb_snapshots <= QCOW2_SNAPSHOTS_MAX);
    assert(h->refcount_order <= 6);
    assert(h->size <= INT64_MAX);
    assert(!h->backing_file || strlen(h->backing_file) <= QCOW2_BACKING_FILE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *buf = g_malloc(BUF_BYTES);
    g_autofree uint8_t *again = NULL;
    g_autoptr(Error) err = NULL;
    Qcow2Header h, back;

    good_header(buf);
    patch(buf, data, size);
    if (qcow2_header_decode(buf, BUF_BYTES, &h, &err) < 0) {
        assert(err);
        return 0;
    }
    check(&h);
    again = g_malloc(UINT64_C(1) << h.cluster_bits);
    if (qcow2_header_encode(&h, again, NULL) == 0) {
        int ret = qcow2_header_decode(again, UINT64_C(1) << h.cluster_bits, &back, NULL);

        assert(ret == 0);
        assert(back.size == h.size && back.l1_offset == h.l1_offset && back.l1_size == h.l1_size);
        assert(back.incompatible == h.incompatible && back.autoclear == h.autoclear);
        assert(g_strcmp0(back.backing_file, h.backing_file) == 0);
        qcow2_header_clear(&back);
    }
    qcow2_header_clear(&h);
    return 0;
}
