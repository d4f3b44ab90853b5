/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Write taps: what they see, when, and how they are let go of (WA4 of block/io/watch.c). */
#include <errno.h>
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK (4 * MiB)
#define RW   (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* Writes what it sees to a copy, and may be told to hold or to lie. */
typedef struct Tap {
    BdrvWriteTap tap;
    uint8_t *copy;
    unsigned begun, ended;
    bool hold_before, hold_after;
    CoQueue held;
    BdrvTapWrite last;   /* of the last before() */
    BdrvTapWrite *write; /* itself */
    int last_ret, answer;
    BlockDriverState *bs;
    uint8_t seen_in_before; /* what the disk held at the first byte */
} Tap;

static void coroutine_fn tap_before(BdrvWriteTap *t, BdrvTapWrite *write)
{
    Tap *tap = container_of(t, Tap, tap);

    tap->begun++;
    tap->last = *write;
    tap->write = write;
    test_ram_peek(tap->bs, write->offset, &tap->seen_in_before, 1);
    while (tap->hold_before) {
        qemu_co_queue_wait(&tap->held, NULL);
    }
}

static int coroutine_fn tap_after(BdrvWriteTap *t, BdrvTapWrite *write, int ret)
{
    Tap *tap = container_of(t, Tap, tap);

    while (tap->hold_after) {
        qemu_co_queue_wait(&tap->held, NULL);
    }
    tap->ended++;
    tap->last_ret = ret;
    if (write->qiov) {
        qemu_iovec_to_buf(write->qiov, write->qiov_offset, tap->copy + write->offset, write->bytes);
    } else {
        memset(tap->copy + write->offset, 0, write->bytes);
    }
    return tap->answer ? tap->answer : ret;
}

static BlockDriverState *set_up(Tap *tap)
{
    BlockDriverState *bs = test_ram_new("disk", DISK);

    *tap = (Tap){.tap = {tap_before, tap_after}, .copy = g_malloc0(DISK), .bs = bs};
    qemu_co_queue_init(&tap->held);
    bdrv_set_write_tap(bs, &tap->tap);
    return bs;
}

static void release(Tap *tap)
{
    tap->hold_before = tap->hold_after = false;
    qemu_co_queue_restart_all(&tap->held);
}

static void coroutine_fn tear_down(Tap *tap, BdrvChild *user)
{
    bdrv_set_write_tap(tap->bs, NULL);
    block_test_co_user_free(user);
    qemu_co_queue_destroy(&tap->held);
    bdrv_co_unref(tap->bs);
    g_free(tap->copy);
}

static void expect_equal(Tap *tap)
{
    g_autofree uint8_t *disk = g_malloc(DISK);

    test_ram_peek(tap->bs, 0, disk, DISK);
    g_assert_cmpmem(disk, DISK, tap->copy, DISK);
}

static void coroutine_fn test_a_tap_sees_all_that_is_written_whatever_its_alignment(void)
{
    Tap tap;
    BlockDriverState *bs = set_up(&tap);
    BdrvChild *user = block_test_user(bs, RW);
    g_autoptr(GRand) rand = g_rand_new_with_seed(block_test_seed());

    test_ram_set_alignment(bs, 4096);
    bdrv_refresh_limits(bs);
    for (int i = 0; i < 500; i++) {
        int64_t bytes = g_rand_int_range(rand, 1, 100000);
        int64_t offset = g_rand_int_range(rand, 0, DISK - bytes);
        int op = g_rand_int_range(rand, 0, 4);

        if (op == 0) {
            g_assert_cmpint(bdrv_co_pwrite_zeroes(user, offset, bytes, BDRV_REQ_MAY_UNMAP), ==, 0);
        } else {
            block_test_co_fill(user, offset, bytes, i % 255 + 1);
        }
    }
    g_assert_cmpuint(tap.begun, ==, tap.ended);
    expect_equal(&tap);
    tear_down(&tap, user);
}

static void coroutine_fn test_a_discard_is_seen_as_one(void)
{
    Tap tap;
    BlockDriverState *bs = set_up(&tap);
    BdrvChild *user = block_test_user(bs, RW);

    bs->open_flags |= BDRV_O_UNMAP;
    block_test_co_fill(user, 0, DISK, 'a');
    g_assert_cmpint(bdrv_co_pdiscard(user, 64 * KiB, 64 * KiB), ==, 0);
    g_assert_cmpint(tap.last.type, ==, BDRV_TRACKED_DISCARD);
    g_assert_cmpint(tap.last.offset, ==, 64 * KiB);
    g_assert_cmpint(tap.last.bytes, ==, 64 * KiB);
    g_assert_null(tap.last.qiov);
    expect_equal(&tap);
    tear_down(&tap, user);
}

static void coroutine_fn test_before_is_before_the_driver_and_after_is_before_the_caller(void)
{
    Tap tap;
    BlockDriverState *bs = set_up(&tap);
    BdrvChild *user = block_test_user(bs, RW);
    BlockTestRequest *write;
    uint8_t byte;

    tap.hold_before = tap.hold_after = true;
    write = block_test_co_start(user, BLOCK_TEST_WRITE, 0, 4096, 'n');
    block_test_co_settle();
    test_ram_peek(bs, 0, &byte, 1);
    g_assert_cmpint(byte, ==, 0);
    tap.hold_before = false;
    qemu_co_queue_restart_all(&tap.held);
    block_test_co_settle();
    test_ram_peek(bs, 0, &byte, 1);
    g_assert_cmpint(byte, ==, 'n');
    g_assert_cmpint(tap.seen_in_before, ==, 0);
    g_assert_false(block_test_done(write));
    g_assert_cmpuint(bs->in_flight, >, 0);
    release(&tap);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    tear_down(&tap, user);
}

static void coroutine_fn test_a_failed_write_is_told_as_one_and_the_answer_counts(void)
{
    Tap tap;
    BlockDriverState *bs = set_up(&tap);
    BdrvChild *user = block_test_user(bs, RW);
    uint8_t buf[512] = {1};

    test_ram_set_error(bs, TEST_RAM_WRITE, 0, DISK, EIO, 1);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(tap.last_ret, ==, -EIO);
    tap.answer = -ENOSPC;
    g_assert_cmpint(bdrv_co_pwrite(user, 0, 512, buf, 0), ==, -ENOSPC);
    g_assert_cmpint(tap.last_ret, ==, 0);
    tear_down(&tap, user);
}

/* WA4 */
static void coroutine_fn test_a_write_that_is_under_way_may_be_let_go_of(void)
{
    Tap tap;
    BlockDriverState *bs = set_up(&tap);
    BdrvChild *user = block_test_user(bs, RW);
    BlockTestRequest *write;

    test_ram_hold(bs, TEST_RAM_WRITE, 0, 4096);
    write = block_test_co_start(user, BLOCK_TEST_WRITE, 0, 4096, 'n');
    test_ram_co_wait_held(bs, 1);
    bdrv_set_write_tap(bs, NULL);
    tap.write->tap = NULL;
    test_ram_release(bs);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpuint(tap.ended, ==, 0);
    block_test_co_fill(user, 0, 4096, 'm');
    g_assert_cmpuint(tap.begun, ==, 1);
    tear_down(&tap, user);
}

static void add_tests(void)
{
    block_test_add("/io/tap/a tap sees all that is written whatever its alignment",
                   test_a_tap_sees_all_that_is_written_whatever_its_alignment);
    block_test_add("/io/tap/a discard is seen as one", test_a_discard_is_seen_as_one);
    block_test_add("/io/tap/before is before the driver and after is before the caller",
                   test_before_is_before_the_driver_and_after_is_before_the_caller);
    block_test_add("/io/tap/a failed write is told as one and the answer counts",
                   test_a_failed_write_is_told_as_one_and_the_answer_counts);
    block_test_add("/io/tap/a write that is under way may be let go of",
                   test_a_write_that_is_under_way_may_be_let_go_of);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
