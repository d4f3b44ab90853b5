/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See driver-contract.h. */
#include <errno.h>
#include <string.h>
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "util/osdep.h"

/* As much of the disk as the tests compare byte by byte. */
#define SAMPLE_MAX (256 * KiB)

typedef struct Bound {
    const char *driver;
    const DriverContract *c;
    void (*check)(const struct Bound *b);
} Bound;

static char *options_text(const Bound *b, bool read_only)
{
    return g_strdup_printf(
        "{\"driver\": \"%s\", \"node-name\": \"contract\", \"discard\": \"unmap\", "
        "\"read-only\": %s%s%s}",
        b->driver, read_only ? "true" : "false", b->c->options ? ", " : "",
        b->c->options ? b->c->options : "");
}

static BlockDriverState *coroutine_fn open_node(const Bound *b)
{
    g_autofree char *text = options_text(b, !b->c->writable);

    return block_test_co_open("%s", text);
}

static BdrvChild *use_node(const Bound *b, BlockDriverState *bs)
{
    return block_test_user(bs, b->c->writable ? BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE
                                              : BLK_PERM_CONSISTENT_READ);
}

static void coroutine_fn let_go(BlockDriverState *bs, BdrvChild *user)
{
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    g_assert_null(bdrv_find_node("contract"));
}

static uint8_t *coroutine_fn read_range(BdrvChild *user, int64_t offset, int64_t bytes)
{
    uint8_t *buf = g_malloc0(MAX(bytes, 1));

    g_assert_cmpint(bdrv_co_pread(user, offset, bytes, buf, 0), ==, 0);
    return buf;
}

/* Ranges that cannot be are refused; what lies behind the end is nobody's data. */
static void coroutine_fn check_bounds(const Bound *b)
{
    BlockDriverState *bs = open_node(b);
    BdrvChild *user = use_node(b, bs);
    int64_t length = bdrv_getlength(bs);
    uint8_t byte[2] = {1, 1};

    g_assert_cmpint(length, >, 0);
    g_assert_cmpint(bdrv_co_pread(user, -1, 1, byte, 0), <, 0);
    g_assert_cmpint(bdrv_co_pread(user, 0, -1, byte, 0), <, 0);
    g_assert_cmpint(bdrv_co_pread(user, INT64_MAX - 1, 2, byte, 0), <, 0);
    g_assert_cmpint(bdrv_co_pread(user, 0, 0, byte, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pread(user, length - 1, 2, byte, 0), ==, 0);
    g_assert_cmpint(byte[1], ==, 0);
    if (b->c->writable) {
        g_assert_cmpint(bdrv_co_pwrite(user, length, 1, byte, 0), ==, -EIO);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, length - 1, 2, 0), ==, -EIO);
        g_assert_cmpint(bdrv_co_pdiscard(user, length, 1), ==, -EIO);
    } else {
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 1, 0), ==, -EPERM);
    }
    g_assert_cmpint(bdrv_getlength(bs), ==, length);
    let_go(bs, user);
}

/* Any offset, any length, any scattering of memory gives the same bytes. */
static void coroutine_fn check_alignment(const Bound *b)
{
    BlockDriverState *bs = open_node(b);
    BdrvChild *user = use_node(b, bs);
    int64_t bytes = MIN(bdrv_getlength(bs), SAMPLE_MAX);
    g_autoptr(GRand) rand = g_rand_new_with_seed(block_test_seed());
    g_autofree uint8_t *whole = NULL;

    if (b->c->writable) {
        block_test_co_fill(user, 0, bytes, 0x5a);
    }
    whole = read_range(user, 0, bytes);
    for (int i = 0; i < 50; i++) {
        int64_t offset = g_rand_int_range(rand, 0, bytes);
        int64_t n = g_rand_int_range(rand, 1, bytes - offset + 1);
        int64_t first = g_rand_int_range(rand, 0, n + 1);
        g_autofree uint8_t *buf = g_malloc0(n + 3);
        QEMUIOVector qiov;

        qemu_iovec_init(&qiov, 2);
        qemu_iovec_add(&qiov, buf, first);
        qemu_iovec_add(&qiov, buf + first + 3, n - first);
        g_assert_cmpint(bdrv_co_preadv(user, offset, n, &qiov, 0), ==, 0);
        qemu_iovec_destroy(&qiov);
        if (b->c->keeps_data || !b->c->writable) {
            g_assert_cmpmem(buf, first, whole + offset, first);
            g_assert_cmpmem(buf + first + 3, n - first, whole + offset + first, n - first);
        }
        g_assert_cmpint(buf[first], ==, 0); /* the gap is not touched */
    }
    let_go(bs, user);
}

/* Block status covers the disk to its end, and what it calls zero is zero. */
static void coroutine_fn check_status(const Bound *b)
{
    BlockDriverState *bs = open_node(b);
    BdrvChild *user = use_node(b, bs);
    int64_t length = bdrv_getlength(bs), offset = 0;
    int64_t pnum = 0;
    int ret = 0;

    while (offset < length) {
        ret = bdrv_co_block_status(bs, offset, length - offset, &pnum, NULL, NULL);
        g_assert_cmpint(ret, >=, 0);
        g_assert_cmpint(pnum, >, 0);
        g_assert_cmpint(pnum, <=, length - offset);
        if (ret & BDRV_BLOCK_ZERO) {
            block_test_co_expect(user, offset, MIN(pnum, SAMPLE_MAX), 0);
        }
        offset += pnum;
    }
    g_assert_true(ret & BDRV_BLOCK_EOF);
    g_assert_cmpint(bdrv_co_block_status(bs, length, 1, &pnum, NULL, NULL), >=, 0);
    g_assert_cmpint(pnum, ==, 0);
    let_go(bs, user);
}

enum { REQUESTS = 32 };

/* A quiesce waits for the requests under way, and none of them is lost. */
static void coroutine_fn check_drain(const Bound *b)
{
    BlockDriverState *bs = open_node(b);
    BdrvChild *user = use_node(b, bs);
    int64_t length = bdrv_getlength(bs);
    BlockTestRequest *req[REQUESTS];

    for (int i = 0; i < REQUESTS; i++) {
        int64_t n = MIN(length, 4096);

        req[i] = block_test_co_start(user, BLOCK_TEST_READ, (i * n) % (length - n + 1), n, 0);
    }
    bdrv_co_drained_begin(bs);
    g_assert_cmpint(block_test_user_drained(user), ==, 1);
    for (int i = 0; i < REQUESTS; i++) {
        g_assert_true(block_test_done(req[i]));
    }
    bdrv_co_drained_begin(bs);
    bdrv_co_drained_end(bs);
    g_assert_cmpint(block_test_user_drained(user), ==, 1);
    bdrv_co_drained_end(bs);
    g_assert_cmpint(block_test_user_drained(user), ==, 0);
    for (int i = 0; i < REQUESTS; i++) {
        g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
    }
    g_free(read_range(user, 0, 1));
    let_go(bs, user);
}

/* The last user goes while its requests are under way: they end, then the node is closed. */
static void coroutine_fn check_cancel(const Bound *b)
{
    BlockDriverState *bs = open_node(b);
    BdrvChild *user = use_node(b, bs);
    BlockTestRequest *req[REQUESTS];

    for (int i = 0; i < REQUESTS; i++) {
        req[i] = block_test_co_start(user, BLOCK_TEST_READ, 0, MIN(bdrv_getlength(bs), 512), 0);
    }
    bdrv_co_drained_begin(bs);
    bdrv_co_drained_end(bs);
    let_go(bs, user);
    for (int i = 0; i < REQUESTS; i++) {
        g_assert_true(block_test_done(req[i]));
        g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
    }
}

/* Reopening with the options it has changes nothing; where it is refused, neither. */
static void coroutine_fn check_reopen(const Bound *b)
{
    BlockDriverState *bs = open_node(b);
    BdrvChild *user = use_node(b, bs);
    int64_t length = bdrv_getlength(bs);
    g_autofree char *text = options_text(b, !b->c->writable);
    g_autoptr(BlockdevOptions) opts = block_test_options("%s", text);
    BlockdevOptionsList list = {.value = opts};
    g_autofree uint8_t *before = read_range(user, 0, MIN(length, SAMPLE_MAX));
    g_autofree uint8_t *after = NULL;
    Error *err = NULL;
    int ret = bdrv_co_reopen_multiple(&list, &err);

    g_assert_cmpint(!!err, ==, ret < 0);
    g_assert_cmpint(ret < 0, ==, b->c->no_reopen);
    error_free(err);
    g_assert_cmpint(bdrv_getlength(bs), ==, length);
    after = read_range(user, 0, MIN(length, SAMPLE_MAX));
    if (b->c->keeps_data || !b->c->writable) {
        g_assert_cmpmem(before, MIN(length, SAMPLE_MAX), after, MIN(length, SAMPLE_MAX));
    }
    let_go(bs, user);
}

/* A node lives as long as its last reference; its name is free afterwards; a second one is refused. */
static void coroutine_fn check_close(const Bound *b)
{
    for (int round = 0; round < 2; round++) {
        BlockDriverState *bs = open_node(b);
        BdrvChild *user = use_node(b, bs);
        g_autofree char *text = options_text(b, !b->c->writable);

        bdrv_ref(bs);
        bdrv_co_unref(bs);
        g_assert_true(bdrv_find_node("contract") == bs);
        block_test_co_open_fails("Duplicate nodes", "%s", text);
        bdrv_co_unref(bs); /* the user's is left */
        g_assert_true(bdrv_find_node("contract") == bs);
        g_free(read_range(user, 0, 1));
        block_test_co_user_free(user);
        g_assert_null(bdrv_find_node("contract"));
    }
}

static void coroutine_fn write_one(const Bound *b, BdrvChild *user, uint8_t *model, GRand *rand,
                                   int64_t bytes)
{
    int64_t offset = g_rand_int_range(rand, 0, bytes);
    int64_t n = g_rand_int_range(rand, 1, bytes - offset + 1);
    uint8_t byte = g_rand_int_range(rand, 1, 256);
    BdrvRequestFlags flags = g_rand_boolean(rand) ? BDRV_REQ_FUA : 0;
    uint8_t *buf;

    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        flags |= g_rand_boolean(rand) ? BDRV_REQ_MAY_UNMAP : 0;
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, offset, n, flags), ==, 0);
        memset(model + offset, 0, n);
        break;
    case 1:
        /* What a discarded range reads as is not promised: write it anew. */
        g_assert_cmpint(bdrv_co_pdiscard(user, offset, n), ==, 0);
        /* fall through */
    default:
        buf = g_malloc(n);
        memset(buf, byte, n);
        g_assert_cmpint(bdrv_co_pwrite(user, offset, n, buf, flags), ==, 0);
        memset(model + offset, byte, n);
        g_free(buf);
        break;
    }
}

/* Writes, zeroes and discards of any shape leave what they should, here and after a new open. */
static void coroutine_fn check_writes(const Bound *b)
{
    BlockDriverState *bs = open_node(b);
    BdrvChild *user = use_node(b, bs);
    int64_t bytes = MIN(bdrv_getlength(bs), SAMPLE_MAX);
    g_autoptr(GRand) rand = g_rand_new_with_seed(block_test_seed());
    g_autofree uint8_t *model = read_range(user, 0, bytes);
    g_autofree uint8_t *seen = NULL;

    for (int i = 0; i < 100; i++) {
        write_one(b, user, model, rand, bytes);
    }
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    if (b->c->keeps_data) {
        seen = read_range(user, 0, bytes);
        g_assert_cmpmem(seen, bytes, model, bytes);
    }
    let_go(bs, user);
}

static void coroutine_fn run_entry(void *opaque)
{
    const Bound *b = opaque;

    b->check(b);
}

static void run_bound(gconstpointer data)
{
    const Bound *b = data;

    if (b->c->prepare) {
        b->c->prepare();
    }
    aio_run_co(run_entry, (void *)b);
}

static void add(const char *driver, const DriverContract *c, const char *sentence,
                void (*check)(const Bound *b))
{
    g_autofree char *path = g_strdup_printf("/%s/%s", c->name ? c->name : driver, sentence);
    Bound *b = g_new(Bound, 1);

    *b = (Bound){driver, c, check};
    g_test_add_data_func_full(path, b, run_bound, g_free);
}

void driver_contract_with(const char *driver, const DriverContract *c)
{
    add(driver, c, "ranges that cannot be are refused", check_bounds);
    add(driver, c, "any alignment reads the same bytes", check_alignment);
    add(driver, c, "block status covers the disk and tells no false zeros", check_status);
    add(driver, c, "a drain waits for requests in flight", check_drain);
    add(driver, c, "the last user may go with requests in flight", check_cancel);
    add(driver, c, "a reopen with the same options changes nothing", check_reopen);
    add(driver, c, "a node is closed once, with its last reference", check_close);
    if (c->writable) {
        add(driver, c, "writes of any shape leave what they should", check_writes);
    }
}

void driver_contract(const char *driver)
{
    static const DriverContract defaults;

    driver_contract_with(driver, &defaults);
}
