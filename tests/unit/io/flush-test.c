/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Flush: rules F1 to F3 of block/io/flush.c. */
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES (1 * MiB)

static BlockDriverState *bs;
static BdrvChild *user;

static void set_up(void)
{
    bs = test_ram_new("disk", DISK_BYTES);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
}

static void coroutine_fn tear_down(void)
{
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn test_nothing_written_needs_no_flush(void)
{
    set_up();
    block_test_co_fill(user, 0, 512, 1);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpuint(test_ram_counts(bs)->flushes, ==, 1);
    tear_down();
}

/* F4 */
static void coroutine_fn test_the_first_flush_is_made(void)
{
    set_up();
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpuint(test_ram_counts(bs)->flushes, ==, 1);
    tear_down();
}

/* F1, F2: the first flush does not cover what is written while it runs; the next one covers all. */
static void coroutine_fn test_flushes_that_wait_share_one(void)
{
    BlockTestRequest *first, *rest[10];

    set_up();
    block_test_co_fill(user, 0, 512, 1);
    test_ram_hold(bs, TEST_RAM_FLUSH, 0, DISK_BYTES);
    first = block_test_co_start(user, BLOCK_TEST_FLUSH, 0, 0, 0);
    test_ram_co_wait_held(bs, 1);
    for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
        block_test_co_fill(user, i * 512, 512, 2);
        rest[i] = block_test_co_start(user, BLOCK_TEST_FLUSH, 0, 0, 0);
    }
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(bs), ==, 1);
    test_ram_release(bs);
    g_assert_cmpint(block_test_co_join(first), ==, 0);
    for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
        g_assert_cmpint(block_test_co_join(rest[i]), ==, 0);
    }
    g_assert_cmpuint(test_ram_counts(bs)->flushes, ==, 2);
    tear_down();
}

/* F3 */
static void coroutine_fn test_a_failed_flush_promises_nothing(void)
{
    set_up();
    block_test_co_fill(user, 0, 512, 1);
    test_ram_set_error(bs, TEST_RAM_FLUSH, 0, DISK_BYTES, EIO, 1);
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    tear_down();
}

static int coroutine_fn pass_pwritev(BlockDriverState *node, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(node->file, offset, bytes, qiov, qiov_offset, flags);
}

static const BlockDriverLife pass_life = {0};
static const BlockDriverData pass_data = {.co_pwritev = pass_pwritev};
static const BlockDriver pass = {
    .format_name = "pass", .is_filter = true, .life = &pass_life, .data = &pass_data};

/* F1: a flush that only marks the upper node as clean would make the next one skip the disk. */
static void coroutine_fn test_what_a_gone_writer_wrote_is_flushed(void)
{
    BlockDriverState *top = bdrv_new(&pass, "top", &error_abort);

    set_up();
    top->open_flags = BDRV_O_RDWR;
    top->total_bytes = DISK_BYTES;
    bdrv_attach_child(top, bs, "file", BDRV_CHILD_FILTERED, &error_abort);
    block_test_co_user_free(user);
    user = block_test_user(top, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    block_test_co_fill(user, 0, 512, 1);
    block_test_co_user_free(user);
    user = block_test_user(top, BLK_PERM_CONSISTENT_READ);
    g_assert_cmpint(bdrv_co_flush(top), ==, 0);
    g_assert_cmpuint(test_ram_counts(bs)->flushes, ==, 1);
    tear_down();
    bdrv_co_unref(top);
}

static void add_tests(void)
{
    block_test_add("/io/flush/nothing written needs no flush", test_nothing_written_needs_no_flush);
    block_test_add("/io/flush/what a process wrote that was killed is flushed by the next one",
                   test_the_first_flush_is_made);
    block_test_add("/io/flush/flushes that wait share one", test_flushes_that_wait_share_one);
    block_test_add("/io/flush/a failed flush promises nothing",
                   test_a_failed_flush_promises_nothing);
    block_test_add("/io/flush/what a writer wrote that is gone is flushed",
                   test_what_a_gone_writer_wrote_is_flushed);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
