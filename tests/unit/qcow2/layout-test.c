/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2's bytes: headers, entries, refcounts, snapshots, bitmap directories; what is refused, with which words. */
#include <errno.h>
#include "block/drivers/qcow2/layout/bitmap.h"
#include "block/drivers/qcow2/layout/entry.h"
#include "block/drivers/qcow2/layout/header.h"
#include "block/drivers/qcow2/layout/refcount.h"
#include "block/drivers/qcow2/layout/snapshot.h"
#include "tests/unit/util/seed.h"

#define CLUSTER (64 * KiB)

static void good_header(Qcow2Header *h)
{
    *h = (Qcow2Header){
        .version = 3,
        .cluster_bits = 16,
        .size = 1 * GiB,
        .l1_size = 2,
        .l1_offset = 3 * CLUSTER,
        .reftable_offset = CLUSTER,
        .reftable_clusters = 1,
        .refcount_order = 4,
    };
}

/* A good header with @bytes bytes of @value at @at is refused with these words. */
static void expect_refused(unsigned at, unsigned bytes, uint64_t value, const char *words)
{
    g_autofree uint8_t *buf = g_malloc(CLUSTER);
    Qcow2Header h, back;
    Error *err = NULL;

    good_header(&h);
    g_assert_cmpint(qcow2_header_encode(&h, buf, NULL), ==, 0);
    if (bytes == 8) {
        stq_be_p(buf + at, value);
    } else {
        stl_be_p(buf + at, (uint32_t)value);
    }
    g_assert_cmpint(qcow2_header_decode(buf, CLUSTER, &back, &err), <, 0);
    g_assert_nonnull(err);
    if (!strstr(error_get_pretty(err), words)) {
        g_error("\"%s\" instead of \"%s\"", error_get_pretty(err), words);
    }
    error_free(err);
}

static void test_header_refuses(void)
{
    expect_refused(0, 4, 0x514649fa, "not in qcow2 format");
    expect_refused(4, 4, 1, "Unsupported qcow2 version 1");
    expect_refused(4, 4, 4, "Unsupported qcow2 version 4");
    expect_refused(8, 8, CLUSTER + 1, "Invalid backing file offset");
    expect_refused(20, 4, 8, "Unsupported cluster size: 2^8");
    expect_refused(20, 4, 22, "Unsupported cluster size: 2^22");
    expect_refused(32, 4, 3, "Unsupported encryption method 3");
    expect_refused(32, 4, 2, "Missing CRYPTO header");
    expect_refused(36, 4, 1, "L1 table is too small");
    expect_refused(36, 4, 0x7fffffff, "Active L1 table too large");
    expect_refused(40, 8, 3 * CLUSTER + 1, "Active L1 table offset invalid");
    expect_refused(40, 8, UINT64_C(0x7fffffffffff0000), "Active L1 table offset invalid");
    expect_refused(48, 8, CLUSTER + 512, "Reference count table offset invalid");
    expect_refused(56, 4, 0, "does not contain a reference count table");
    expect_refused(56, 4, 129, "Reference count table too large");
    expect_refused(60, 4, QCOW2_SNAPSHOTS_MAX + 1, "Snapshot table too large");
    expect_refused(60, 4, 1, "Snapshot table offset invalid");
    expect_refused(72, 8, 1 << 5, "Unknown incompatible feature: 20");
    expect_refused(72, 8, 1 << 3, "Compression type incompatible feature bit must not be set");
    expect_refused(88, 8, 1, "no bitmaps extension");
    expect_refused(96, 4, 7, "Reference count entry width too large");
    expect_refused(100, 4, 96, "header too short");
    expect_refused(100, 4, CLUSTER + 8, "header exceeds cluster size");
    expect_refused(24, 8, INT64_MAX, "Image is too big");
    expect_refused(0x70 + 4, 4, CLUSTER, "Header extension too large");
}

static void expect_same(const Qcow2Header *a, const Qcow2Header *b)
{
    g_autofree uint8_t *x = g_malloc(UINT64_C(1) << a->cluster_bits);
    g_autofree uint8_t *y = g_malloc(UINT64_C(1) << a->cluster_bits);

    g_assert_cmpint(a->cluster_bits, ==, b->cluster_bits);
    g_assert_cmpint(qcow2_header_encode(a, x, NULL), ==, 0);
    g_assert_cmpint(qcow2_header_encode(b, y, NULL), ==, 0);
    g_assert_true(memcmp(x, y, UINT64_C(1) << a->cluster_bits) == 0);
}

static void test_header_keeps(void)
{
    g_autofree uint8_t *buf = g_malloc(CLUSTER);
    Qcow2Header h, back, copy;

    good_header(&h);
    h.backing_file = g_strdup("base.img");
    h.backing_format = g_strdup("raw");
    h.data_file = g_strdup("data.raw");
    h.incompatible = QCOW2_INCOMPATIBLE_DATA_FILE | QCOW2_INCOMPATIBLE_COMPRESSION;
    h.compression_type = 1;
    h.compatible = UINT64_C(0x8000000000000001);
    h.autoclear = UINT64_C(0x4000000000000003);
    h.has_bitmaps = true;
    h.nb_bitmaps = 2;
    h.bitmap_dir_bytes = 64;
    h.bitmap_dir_offset = 9 * CLUSTER;
    h.more_bytes = 16;
    h.more = g_memdup2("fields of later", 16);
    g_assert_cmpint(qcow2_header_encode(&h, buf, NULL), ==, 0);
    /* An extension that nobody knows, where the end was. */
    g_assert_cmpint(qcow2_header_decode(buf, CLUSTER, &back, NULL), ==, 0);
    g_assert_cmpstr(back.backing_file, ==, "base.img");
    g_assert_cmpstr(back.backing_format, ==, "raw");
    g_assert_cmpstr(back.data_file, ==, "data.raw");
    g_assert_cmpuint(back.nb_bitmaps, ==, 2);
    g_assert_cmpuint(back.more_bytes, ==, 16);
    g_assert_cmphex(back.autoclear, ==, h.autoclear);
    expect_same(&h, &back);
    qcow2_header_copy(&back, &copy);
    expect_same(&h, &copy);
    qcow2_header_clear(&copy);
    qcow2_header_clear(&back);
    qcow2_header_clear(&h);
}

static void test_header_unknown_extension(void)
{
    g_autofree uint8_t *buf = g_malloc(CLUSTER);
    Qcow2Header h, back;
    uint8_t *end;

    good_header(&h);
    g_assert_cmpint(qcow2_header_encode(&h, buf, NULL), ==, 0);
    end = buf + 0x70 + 8 + 384; /* behind the names of features */
    g_assert_cmphex(ldl_be_p(end), ==, 0);
    stl_be_p(end, 0x12345678);
    stl_be_p(end + 4, 5);
    memcpy(end + 8, "abcde", 5);
    g_assert_cmpint(qcow2_header_decode(buf, CLUSTER, &back, NULL), ==, 0);
    memset(buf, 0, CLUSTER);
    g_assert_cmpint(qcow2_header_encode(&back, buf, NULL), ==, 0);
    g_assert_cmphex(ldl_be_p(end), ==, 0x12345678);
    g_assert_cmpuint(ldl_be_p(end + 4), ==, 5);
    g_assert_true(memcmp(end + 8, "abcde\0\0\0", 8) == 0);
    qcow2_header_clear(&back);
    qcow2_header_clear(&h);
}

static void test_header_small_cluster(void)
{
    uint8_t buf[512];
    Qcow2Header h, back;

    good_header(&h);
    h.cluster_bits = 9;
    h.l1_size = 32768;
    h.l1_offset = 3 * 512;
    h.reftable_offset = 512;
    h.backing_file = g_strnfill(300, 'b'); /* leaves no room for the names of features */
    g_assert_cmpint(qcow2_header_encode(&h, buf, NULL), ==, 0);
    g_assert_cmpint(qcow2_header_decode(buf, 512, &back, NULL), ==, 0);
    g_assert_cmpstr(back.backing_file, ==, h.backing_file);
    qcow2_header_clear(&back);
    g_free(h.backing_file);
    h.backing_file = g_strnfill(400, 'b');
    g_assert_cmpint(qcow2_header_encode(&h, buf, NULL), ==, -ENOSPC);
    qcow2_header_clear(&h);
}

/* ------------------------------------------------------------------------------------------- entries */

static void test_entries(void)
{
    Qcow2Geometry g;
    Qcow2Entry e;

    qcow2_geometry_init(&g, 3, 16, false, 4, false);
    e = qcow2_entry_data(&g, 5 * CLUSTER);
    g_assert_cmphex(e.word, ==, UINT64_C(0x8000000000050000));
    g_assert_cmpint(qcow2_entry_kind(&g, e, 0), ==, QCOW2_DATA);
    g_assert_cmpint(qcow2_entry_kind(&g, qcow2_entry_zero_plain(&g), 0), ==, QCOW2_ZERO_PLAIN);
    e = qcow2_entry_zero_place(&g, 5 * CLUSTER);
    g_assert_cmpint(qcow2_entry_kind(&g, e, 0), ==, QCOW2_ZERO_PLACE);
    g_assert_null(qcow2_entry_check(&g, e));
    e.word += 512;
    g_assert_cmpstr(qcow2_entry_check(&g, e), ==, "unaligned");
    g_assert_cmpint(qcow2_entry_kind(&g, (Qcow2Entry){0}, 0), ==, QCOW2_UNALLOCATED);
    /* Version 2 does not know the zero flag. */
    qcow2_geometry_init(&g, 2, 16, false, 4, false);
    g_assert_cmpint(qcow2_entry_kind(&g, (Qcow2Entry){.word = 1}, 0), ==, QCOW2_UNALLOCATED);
    /* A file of the data's own has the first cluster at 0. */
    qcow2_geometry_init(&g, 3, 16, false, 4, true);
    g_assert_cmpint(qcow2_entry_kind(&g, (Qcow2Entry){.word = QCOW2_COPIED}, 0), ==, QCOW2_DATA);
}

static void test_subclusters(void)
{
    Qcow2Geometry g;
    Qcow2Entry e = {.word = QCOW2_COPIED | 7 * CLUSTER,
                    .subclusters = UINT64_C(0x000000f00000000f)};
    uint8_t raw[32];

    qcow2_geometry_init(&g, 3, 16, true, 4, false);
    g_assert_cmpint(qcow2_entry_kind(&g, e, 0), ==, QCOW2_DATA);
    g_assert_cmpuint(qcow2_entry_run(&g, e, 0), ==, 4);
    g_assert_cmpint(qcow2_entry_kind(&g, e, 4), ==, QCOW2_ZERO_PLACE);
    g_assert_cmpuint(qcow2_entry_run(&g, e, 5), ==, 3);
    g_assert_cmpint(qcow2_entry_kind(&g, e, 8), ==, QCOW2_UNALLOCATED_PLACE);
    g_assert_cmpuint(qcow2_entry_run(&g, e, 8), ==, 24);
    qcow2_entry_set(&g, raw, 1, e);
    g_assert_cmphex(qcow2_entry_get(&g, raw, 1).word, ==, e.word);
    g_assert_cmphex(qcow2_entry_get(&g, raw, 1).subclusters, ==, e.subclusters);
    e.subclusters |= UINT64_C(1) << 32;
    g_assert_cmpint(qcow2_entry_kind(&g, e, 0), ==, QCOW2_INVALID);
    g_assert_nonnull(qcow2_entry_check(&g, e));
    e = (Qcow2Entry){.subclusters = 1};
    g_assert_cmpint(qcow2_entry_kind(&g, e, 0), ==, QCOW2_INVALID);
}

static void test_compressed(void)
{
    g_autoptr(GRand) rand = test_rand();

    for (unsigned bits = QCOW2_CLUSTER_BITS_MIN; bits <= QCOW2_CLUSTER_BITS_MAX; bits++) {
        Qcow2Geometry g;

        qcow2_geometry_init(&g, 3, bits, false, 4, false);
        for (int i = 0; i < 1000; i++) {
            int64_t bytes = g_rand_int_range(rand, 1, (int32_t)qcow2_cluster_size(&g) + 1);
            int64_t offset = (int64_t)(((uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand)) &
                                       (uint64_t)(qcow2_compressed_end(&g) - 1));
            Qcow2Compressed c;
            uint64_t word;

            offset = MIN(offset, qcow2_compressed_end(&g) - bytes);
            word = qcow2_compressed_encode(&g, offset, bytes);
            qcow2_compressed_decode(&g, word, &c);
            g_assert_cmpint(c.offset, ==, offset);
            g_assert_cmpint(c.bytes, >=, bytes);
            g_assert_cmpint(c.bytes, <, bytes + 512);
            g_assert_cmpint((offset + c.bytes) % 512, ==, 0);
        }
    }
}

/* ------------------------------------------------------------------------------------------- refcounts */

static void test_refcounts(void)
{
    g_autoptr(GRand) rand = test_rand();

    for (unsigned order = 0; order <= 6; order++) {
        enum { N = 4096 };
        g_autofree uint8_t *block = g_malloc0(N * 8);
        g_autofree uint64_t *model = g_new0(uint64_t, N);
        Qcow2Geometry g;

        qcow2_geometry_init(&g, 3, 16, false, order, false);
        for (int i = 0; i < 3000; i++) {
            uint64_t at = g_rand_int_range(rand, 0, N),
                     end = g_rand_int_range(rand, (int32_t)at, N);
            uint64_t value = ((uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand));
            bool zero = g_rand_boolean(rand);
            uint64_t k = at;

            model[at] = i % 3 ? value & qcow2_refcount_max(&g) : 0;
            qcow2_refcount_set(order, block, at, model[at]);
            g_assert_cmpuint(qcow2_refcount_get(order, block, at), ==, model[at]);
            at = MAX(at, UINT64_C(1)) - 1;
            for (k = at; k < end && (model[k] == 0) != zero; k++) {
            }
            g_assert_cmpuint(qcow2_refcount_find(order, block, at, MAX(end, at), zero), ==,
                             MAX(k, MIN(at, MAX(end, at))));
            for (k = end; k > 0 && !model[k - 1]; k--) {
            }
            g_assert_cmpuint(qcow2_refcount_used_end(order, block, end), ==, k);
        }
        for (int i = 0; i < N; i++) {
            g_assert_cmpuint(qcow2_refcount_get(order, block, i), ==, model[i]);
        }
    }
}

/* ------------------------------------------------------------------------------------------- directories */

static void test_snapshots(void)
{
    Qcow2Snapshot s = {
        .l1_offset = 9 * CLUSTER,
        .l1_size = 3,
        .date_sec = 1,
        .date_nsec = 2,
        .vm_clock_ns = 3,
        .vm_state_bytes = UINT64_C(0x123456789a),
        .disk_bytes = 1 * GiB,
        .icount = 7,
        .unknown = (uint8_t *)"eightby",
        .unknown_bytes = 8,
        .id = (char *)"12",
        .name = (char *)"before the update",
    };
    size_t bytes = qcow2_snapshot_bytes(&s);
    g_autofree uint8_t *buf = g_malloc(bytes);
    Qcow2Snapshot back;

    qcow2_snapshot_encode(&s, buf);
    g_assert_cmpuint(qcow2_snapshot_decode(buf, bytes, &back), ==, bytes);
    g_assert_cmpstr(back.id, ==, s.id);
    g_assert_cmpstr(back.name, ==, s.name);
    g_assert_cmpuint(back.vm_state_bytes, ==, s.vm_state_bytes);
    g_assert_cmpuint(back.disk_bytes, ==, s.disk_bytes);
    g_assert_cmpuint(back.icount, ==, 7);
    g_assert_cmpmem(back.unknown, back.unknown_bytes, "eightby", 8);
    qcow2_snapshot_clear(&back);
    for (size_t len = 0; len < bytes - 8; len++) {
        g_assert_cmpuint(qcow2_snapshot_decode(buf, len, &back), ==, 0);
    }
}

static void test_bitmaps(void)
{
    Qcow2BitmapEntry b = {
        .table_offset = 9 * CLUSTER,
        .table_entries = 3,
        .flags = QCOW2_BITMAP_AUTO,
        .type = 1,
        .granularity_bits = 16,
        .extra_bytes = 3,
        .extra = (uint8_t *)"abc",
        .name = (char *)"monday",
    };
    size_t bytes = qcow2_bitmap_bytes(&b);
    g_autofree uint8_t *buf = g_malloc(bytes);
    Qcow2BitmapEntry back;
    Qcow2Geometry g;
    int64_t offset;

    qcow2_geometry_init(&g, 3, 16, false, 4, false);
    qcow2_bitmap_encode(&b, buf);
    g_assert_cmpuint(qcow2_bitmap_decode(&g, buf, bytes, &back, NULL), ==, bytes);
    g_assert_cmpstr(back.name, ==, "monday");
    g_assert_cmpmem(back.extra, back.extra_bytes, "abc", 3);
    qcow2_bitmap_clear(&back);
    for (size_t len = 0; len < bytes; len++) {
        g_assert_cmpuint(qcow2_bitmap_decode(&g, buf, len, &back, NULL), ==, 0);
    }
    buf[17] = 8;
    g_assert_cmpuint(qcow2_bitmap_decode(&g, buf, bytes, &back, NULL), ==, 0);
    g_assert_cmpuint(qcow2_bitmap_table_entries(&g, 1 * TiB, 16), ==, 32);
    g_assert_cmpuint(qcow2_bitmap_table_entries(&g, UINT64_MAX, 9), ==, UINT64_MAX);
    g_assert_cmpint(qcow2_bitmap_table_entry(&g, 0, &offset), ==, QCOW2_BITMAP_ALL_ZEROS);
    g_assert_cmpint(qcow2_bitmap_table_entry(&g, 1, &offset), ==, QCOW2_BITMAP_ALL_ONES);
    g_assert_cmpint(qcow2_bitmap_table_entry(&g, CLUSTER, &offset), ==, QCOW2_BITMAP_STORED);
    g_assert_cmpint(qcow2_bitmap_table_entry(&g, CLUSTER | 1, &offset), ==, QCOW2_BITMAP_INVALID);
    g_assert_cmpint(qcow2_bitmap_table_entry(&g, 512, &offset), ==, QCOW2_BITMAP_INVALID);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/layout/a wrong header is refused with its reason", test_header_refuses);
    g_test_add_func("/qcow2/layout/a header comes back as it was", test_header_keeps);
    g_test_add_func("/qcow2/layout/an extension that is not known is kept",
                    test_header_unknown_extension);
    g_test_add_func("/qcow2/layout/the smallest cluster has a header, too",
                    test_header_small_cluster);
    g_test_add_func("/qcow2/layout/entries say what they are", test_entries);
    g_test_add_func("/qcow2/layout/subclusters say what they are", test_subclusters);
    g_test_add_func("/qcow2/layout/compressed descriptors come back in clusters of any size",
                    test_compressed);
    g_test_add_func("/qcow2/layout/refcounts of any width are kept and found", test_refcounts);
    g_test_add_func("/qcow2/layout/snapshot entries come back, and none is read beyond its end",
                    test_snapshots);
    g_test_add_func("/qcow2/layout/bitmap entries come back, and none is read beyond its end",
                    test_bitmaps);
    return g_test_run();
}
