/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The driver over a disk in memory: what it writes, how often it flushes, who waits for whom, and what it does with damage. */
#include <errno.h>
#include <inttypes.h>
#include "aio/timer.h"
#include "block/drivers/drivers.h"
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/open/open.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "tests/lib/qcow2-peek.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CLUSTER (64 * KiB)

enum { RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE };

static void coroutine_fn create(const char *json)
{
    g_autofree char *text = g_strdup_printf("{\"driver\":\"qcow2\",%s}", json);
    json_t *o = json_loads(text, 0, NULL);
    BlockdevCreateOptions *opts = qapi_BlockdevCreateOptions_from_json(o, &error_abort);

    g_assert_cmpint(bdrv_find_format("qcow2")->image->co_create(opts, NULL, &error_abort), ==, 0);
    qapi_free_BlockdevCreateOptions(opts);
    json_decref(o);
}

typedef struct Bench {
    BlockDriverState *ram, *image;
    BdrvChild *user;
} Bench;

static void coroutine_fn open_image(Bench *b, const char *options)
{
    b->image = block_test_co_open("{\"driver\":\"qcow2\",\"node-name\":\"image\",\"file\":\"ram\","
                                  "\"discard\":\"unmap\",\"backing\":null%s}",
                                  options);
    b->user = block_test_user(b->image, RW | BLK_PERM_RESIZE);
}

static void coroutine_fn close_image(Bench *b)
{
    block_test_co_user_free(b->user);
    bdrv_co_unref(b->image);
}

static void coroutine_fn begin(Bench *b, const char *create_options, const char *options)
{
    g_autofree char *json = g_strdup_printf("\"file\":\"ram\",%s", create_options);

    b->ram = test_ram_new("ram", 0);
    create(json);
    open_image(b, options);
    test_ram_reset_counts(b->ram);
}

/* Closed, it has no leak. */
static void coroutine_fn end(Bench *b)
{
    Qcow2Peek p;

    close_image(b);
    qcow2_co_peek_node(b->ram, &p);
    g_assert_cmpstr(p.wrong, ==, NULL);
    g_assert_cmpint(p.leaks, ==, 0);
    bdrv_co_unref(b->ram);
}

static void coroutine_fn test_fresh_clusters(void)
{
    Bench b;

    begin(&b, "\"size\":1073741824", "");
    block_test_co_fill(b.user, 5 * CLUSTER + 8192, 4096, 1);
    g_assert_cmpuint(test_ram_counts(b.ram)->bytes_written, ==, 4096);
    g_assert_cmpuint(test_ram_counts(b.ram)->writes, ==, 1);
    g_assert_cmpuint(test_ram_counts(b.ram)->zeroes, ==, 0);
    block_test_co_expect(b.user, 5 * CLUSTER, 8192, 0);
    block_test_co_expect(b.user, 5 * CLUSTER + 8192, 4096, 1);
    block_test_co_expect(b.user, 5 * CLUSTER + 12288, CLUSTER - 12288, 0);
    end(&b);
}

static void coroutine_fn test_one_flush(void)
{
    enum { ROUNDS = 40, WRITES = 16 };
    Bench b;

    begin(&b, "\"size\":1073741824", "");
    for (int i = 0; i < ROUNDS * WRITES; i++) {
        block_test_co_fill(b.user, (int64_t)(i * 7919 % 16384) * CLUSTER, 4096, 1);
        if (i % WRITES == WRITES - 1) {
            g_assert_cmpint(bdrv_co_flush(b.image), ==, 0);
        }
    }
    /* One each, and one more for each time that clusters were counted ahead, which are ever more. */
    g_assert_cmpuint(test_ram_counts(b.ram)->flushes, >=, ROUNDS);
    g_assert_cmpuint(test_ram_counts(b.ram)->flushes, <=, ROUNDS + 20);
    end(&b);
}

static void coroutine_fn test_nobody_waits(void)
{
    BlockTestRequest *slow, *beside, *others[8];
    Bench b;

    begin(&b, "\"size\":1073741824", "");
    block_test_co_fill(b.user, 0, 4096, 1); /* the table is there */
    test_ram_hold(b.ram, TEST_RAM_WRITE, 0, INT64_MAX);
    slow = block_test_co_start(b.user, BLOCK_TEST_WRITE, CLUSTER, 4096, 2);
    beside = block_test_co_start(b.user, BLOCK_TEST_WRITE, CLUSTER + 8192, 4096, 3);
    test_ram_co_wait_held(b.ram, 1);
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(b.ram), ==, 1); /* the same cluster: it waits for its place */
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        others[i] = block_test_co_start(b.user, BLOCK_TEST_WRITE, (2 + i) * CLUSTER, 4096, 4);
        test_ram_co_wait_held(b.ram, 2 + i);
    }
    test_ram_release(b.ram);
    g_assert_cmpint(block_test_co_join(slow), ==, 0);
    g_assert_cmpint(block_test_co_join(beside), ==, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        g_assert_cmpint(block_test_co_join(others[i]), ==, 0);
    }
    block_test_co_expect(b.user, CLUSTER + 8192, 4096, 3);
    end(&b);
}

static void coroutine_fn test_failed_flush(void)
{
    Bench b;
    uint8_t byte = 1;

    begin(&b, "\"size\":1073741824", "");
    block_test_co_fill(b.user, 0, 4096, 1);
    test_ram_set_error(b.ram, TEST_RAM_FLUSH, 0, INT64_MAX, EIO, 1);
    g_assert_cmpint(bdrv_co_flush(b.image), <, 0);
    g_assert_cmpint(bdrv_co_flush(b.image), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(b.user, 0, 1, &byte, 0), ==, -EIO);
    block_test_co_expect(b.user, 0, 4096, 1);
    close_image(&b);
    open_image(&b, "");
    block_test_co_fill(b.user, 0, 4096, 2);
    close_image(&b);
    bdrv_co_unref(b.ram);
}

/* What could not be written is still to be written. */
static void coroutine_fn test_failed_table(void)
{
    Bench b;

    begin(&b, "\"size\":1073741824", "");
    block_test_co_fill(b.user, 0, 4096, 1);
    test_ram_set_error(b.ram, TEST_RAM_WRITE, 0, INT64_MAX, ENOSPC, 1);
    g_assert_cmpint(bdrv_co_flush(b.image), ==, -ENOSPC);
    g_assert_cmpint(bdrv_co_flush(b.image), ==, 0);
    block_test_co_expect(b.user, 0, 4096, 1);
    close_image(&b);
    open_image(&b, "");
    block_test_co_expect(b.user, 0, 4096, 1);
    end(&b);
}

static void coroutine_fn test_damage(void)
{
    uint8_t raw[8], byte;
    int64_t table;
    Bench b;

    begin(&b, "\"size\":1073741824", "");
    block_test_co_fill(b.user, 0, 2 * CLUSTER, 1);
    close_image(&b);
    test_ram_peek(b.ram, 3 * CLUSTER, raw, 8); /* L1 */
    table = (int64_t)(ldq_be_p(raw) & QCOW2_HOST_OFFSET_MASK);
    test_ram_peek(b.ram, table, raw, 8);
    stq_be_p(raw, ldq_be_p(raw) + 0x200);
    test_ram_poke(b.ram, table, raw, 8);
    open_image(&b, "");
    g_assert_cmpint(bdrv_co_pread(b.user, CLUSTER, 1, &byte, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pread(b.user, 0, 1, &byte, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(b.user, CLUSTER, 1, &byte, 0), ==, -EIO);
    close_image(&b);
    block_test_co_open_fails("Image is corrupt; cannot be opened read/write",
                             "{\"driver\":\"qcow2\",\"node-name\":\"image\",\"file\":\"ram\"}");
    bdrv_co_unref(b.ram);
}

/* A damaged entry that names a table's cluster does no more damage. */
static void coroutine_fn one_overlap(int64_t at, int64_t offset, int64_t guest)
{
    uint8_t raw[8], byte = 1;
    Bench b;

    begin(&b, "\"size\":1073741824", "");
    block_test_co_fill(b.user, 0, CLUSTER, 1);
    close_image(&b);
    stq_be_p(raw, QCOW2_COPIED | (uint64_t)offset);
    test_ram_poke(b.ram, at, raw, 8);
    open_image(&b, "");
    g_assert_cmpint(bdrv_co_pwrite(b.user, guest, 1, &byte, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(b.user, CLUSTER, 1, &byte, 0), ==, -EIO);
    test_ram_peek(b.ram, 72 + 7, &byte, 1);
    g_assert_cmpint(byte, ==, QCOW2_INCOMPATIBLE_CORRUPT);
    close_image(&b);
    bdrv_co_unref(b.ram);
}

static void coroutine_fn test_overlaps(void)
{
    const int64_t l1 = 3 * CLUSTER, l2 = 4 * CLUSTER;

    one_overlap(l2, l2, 0);                      /* data in the L2 table */
    one_overlap(l2, 2 * CLUSTER, 0);             /* in a refcount block */
    one_overlap(l2, 1 * CLUSTER, 0);             /* in the refcount table */
    one_overlap(l1, l1, 0);                      /* the L2 table in the L1 table */
    one_overlap(l1 + 8, 2 * CLUSTER, 512 * MiB); /* and in a refcount block */
}

static void coroutine_fn test_tables_grow(void)
{
    Bench b;

    /* A refcount block counts 32 KiB, a cluster of the table 2 MiB. */
    begin(&b, "\"size\":33554432,\"cluster-size\":512,\"refcount-bits\":64", "");
    for (int64_t at = 0; at < 16 * MiB; at += 1 * MiB) {
        block_test_co_fill(b.user, at, 1 * MiB, (uint8_t)(at / MiB + 1));
    }
    for (int64_t at = 0; at < 16 * MiB; at += 1 * MiB) {
        block_test_co_expect(b.user, at, 1 * MiB, (uint8_t)(at / MiB + 1));
    }
    g_assert_cmpint(bdrv_co_pdiscard(b.user, 0, 8 * MiB), ==, 0);
    g_assert_cmpint(bdrv_co_flush(b.image), ==, 0);
    block_test_co_fill(b.user, 20 * MiB, 4 * MiB, 77); /* where the others were */
    block_test_co_expect(b.user, 20 * MiB, 4 * MiB, 77);
    end(&b);
}

static void coroutine_fn test_memory(void)
{
    enum { PAGES = 32 };
    Bench b;

    begin(&b, "\"size\":4398046511104", ",\"l2-cache-size\":131072,\"refcount-cache-size\":262144");
    for (int64_t i = 0; i < 2000; i++) {
        const Qcow2State *s = b.image->opaque;

        block_test_co_fill(b.user, i * 7919 % 65536 * (4 * TiB / 65536), 4096,
                           (uint8_t)(i % 255 + 1));
        g_assert_cmpint(qcow2_cache_pages(s->l2), <=, PAGES + 1);
    }
    for (int64_t i = 0; i < 2000; i++) {
        block_test_co_expect(b.user, i * 7919 % 65536 * (4 * TiB / 65536), 4096,
                             (uint8_t)(i % 255 + 1));
    }
    end(&b);
}

static void coroutine_fn test_space_comes_back(void)
{
    int64_t length;
    Bench b;

    begin(&b, "\"size\":1073741824", "");
    block_test_co_fill(b.user, 0, 8 * MiB, 1);
    g_assert_cmpint(bdrv_co_flush(b.image), ==, 0);
    length = bdrv_getlength(b.ram);
    for (int i = 0; i < 10; i++) {
        g_assert_cmpint(bdrv_co_pdiscard(b.user, 0, 4 * MiB), ==, 0);
        g_assert_cmpint(bdrv_co_flush(b.image), ==, 0);
        block_test_co_fill(b.user, (100 + i) * MiB, 4 * MiB, 2);
        g_assert_cmpint(bdrv_co_pdiscard(b.user, (100 + i) * MiB, 4 * MiB), ==, 0);
        g_assert_cmpint(bdrv_co_flush(b.image), ==, 0);
    }
    g_assert_cmpint(bdrv_getlength(b.ram), <=, length + 4 * MiB);
    end(&b);
}

static void coroutine_fn test_cleaning(void)
{
    const Qcow2State *s;
    Bench b;

    begin(&b, "\"size\":1073741824", ",\"cache-clean-interval\":10");
    s = b.image->opaque;
    block_test_co_fill(b.user, 0, 4096, 1);
    g_assert_cmpint(bdrv_co_flush(b.image), ==, 0);
    block_test_co_fill(b.user, 512 * MiB, 4096, 1); /* dirty: it stays */
    g_assert_cmpint(qcow2_cache_pages(s->l2), ==, 2);
    qemu_co_sleep_ns(11 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(qcow2_cache_pages(s->l2), ==, 2);
    qemu_co_sleep_ns(11 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(qcow2_cache_pages(s->l2), ==, 1);
    block_test_co_expect(b.user, 0, 4096, 1);
    end(&b);
}

static char *path;

static void prepare(void)
{
    /* Header, refcounts and a table of a disk of 1 MiB: made anew for each test. */
    g_autofree uint8_t *file = g_malloc0(4 * CLUSTER);
    Qcow2Header h = {
        .version = 3,
        .cluster_bits = 16,
        .size = 1 * MiB,
        .l1_size = 1,
        .l1_offset = 3 * CLUSTER,
        .reftable_offset = CLUSTER,
        .reftable_clusters = 1,
        .refcount_order = 4,
    };

    g_assert_cmpint(qcow2_header_encode(&h, file, NULL), ==, 0);
    stq_be_p(file + CLUSTER, 2 * CLUSTER);
    for (unsigned i = 0; i < 4; i++) {
        qcow2_refcount_set(4, file + 2 * CLUSTER, i, 1);
    }
    g_assert_true(g_file_set_contents(path, (char *)file, 4 * CLUSTER, NULL));
}

static void add(void)
{
    static DriverContract contract = {.prepare = prepare, .writable = true, .keeps_data = true};

    qemu_clock_set_virtual(true);
    path = block_test_path("image.qcow2");
    contract.options = g_strdup_printf(
        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\", \"node-name\": \"contract-file\"}",
        path);
    driver_contract_with("qcow2", &contract);
    block_test_add("/qcow2/data/of a fresh cluster only the guest's bytes are written",
                   test_fresh_clusters);
    block_test_add("/qcow2/data/a flush of first writes is one flush", test_one_flush);
    block_test_add("/qcow2/data/writers of different clusters do not wait for each other's data",
                   test_nobody_waits);
    block_test_add("/qcow2/data/after a failed flush nothing is promised", test_failed_flush);
    block_test_add("/qcow2/data/a table that could not be written is written later",
                   test_failed_table);
    block_test_add("/qcow2/data/damage is said in the header, and nothing is written any more",
                   test_damage);
    block_test_add("/qcow2/data/metadata is not overwritten, whatever tables say", test_overlaps);
    block_test_add("/qcow2/data/the refcount table grows with the file", test_tables_grow);
    block_test_add("/qcow2/data/the memory for a large disk is that of its cache", test_memory);
    block_test_add("/qcow2/data/tables that nobody uses are not kept in memory", test_cleaning);
    block_test_add("/qcow2/data/space that was given back is used again", test_space_comes_back);
}

int main(int argc, char **argv)
{
    bdrv_qcow2_register();
    bdrv_file_register();
    return block_test_main(argc, argv, add);
}
