/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who waits for whom: rules T1 to T4 of block/io/track.c, IO1 to IO3 of block/io/write.c. */
#include "aio/timer.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES (1 * MiB)

typedef struct Fixture {
    BlockDriverState *bs;
    BdrvChild *user;
} Fixture;

static Fixture set_up(uint32_t align)
{
    Fixture f = {.bs = test_ram_new("disk", DISK_BYTES)};

    f.user = block_test_user(f.bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    test_ram_set_alignment(f.bs, align);
    return f;
}

static void coroutine_fn tear_down(Fixture *f)
{
    block_test_co_user_free(f->user);
    bdrv_co_unref(f->bs);
}

/* T2: the second part of a block must not be lost to the first's read-modify-write. */
static void coroutine_fn test_two_parts_of_one_block_written_at_once_both_land(void)
{
    Fixture f = set_up(4096);
    BlockTestRequest *a, *b;

    test_ram_hold(f.bs, TEST_RAM_READ, 0, 4096);
    a = block_test_co_start(f.user, BLOCK_TEST_WRITE, 0, 512, 0xaa);
    b = block_test_co_start(f.user, BLOCK_TEST_WRITE, 512, 512, 0xbb);
    test_ram_co_wait_held(f.bs, 1);
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(f.bs), ==, 1); /* b does not read while a is at work */
    test_ram_release(f.bs);
    g_assert_cmpint(block_test_co_join(a), ==, 0);
    g_assert_cmpint(block_test_co_join(b), ==, 0);
    block_test_co_expect(f.user, 0, 512, 0xaa);
    block_test_co_expect(f.user, 512, 512, 0xbb);
    tear_down(&f);
}

/* T2, and B5 of the backup: a reader that asks for old contents does not wait. */
static void coroutine_fn test_a_read_waits_for_a_serialising_write_unless_it_says_not_to(void)
{
    Fixture f = set_up(4096);
    BlockTestRequest *write, *read;
    QEMUIOVector qiov;
    uint8_t old[4096], zeros[4096] = {0};

    test_ram_hold(f.bs, TEST_RAM_WRITE, 0, 4096);
    write = block_test_co_start(f.user, BLOCK_TEST_WRITE, 100, 200, 0xcc);
    test_ram_co_wait_held(f.bs, 1);
    read = block_test_co_start(f.user, BLOCK_TEST_READ, 0, 4096, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(read));
    qemu_iovec_init_buf(&qiov, old, sizeof(old));
    g_assert_cmpint(bdrv_co_readv_no_serialising(f.user, 0, 8, &qiov), ==, 0);
    g_assert_cmpmem(old, sizeof(old), zeros, sizeof(zeros));
    g_assert_cmpint(bdrv_co_preadv(f.user, 0, 4096, &qiov, BDRV_REQ_NO_WAIT), ==, -EBUSY);
    test_ram_release(f.bs);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpint(block_test_co_join(read), ==, 0);
    tear_down(&f);
}

static void coroutine_fn test_plain_writes_that_overlap_do_not_wait(void)
{
    Fixture f = set_up(512);
    BlockTestRequest *a, *b;

    test_ram_hold(f.bs, TEST_RAM_WRITE, 0, DISK_BYTES);
    a = block_test_co_start(f.user, BLOCK_TEST_WRITE, 0, 4096, 1);
    b = block_test_co_start(f.user, BLOCK_TEST_WRITE, 0, 4096, 2);
    test_ram_co_wait_held(f.bs, 2);
    test_ram_release(f.bs);
    g_assert_cmpint(block_test_co_join(a), ==, 0);
    g_assert_cmpint(block_test_co_join(b), ==, 0);
    tear_down(&f);
}

/* T3: many unaligned writes all over each other end. */
static void coroutine_fn test_a_crowd_of_unaligned_writes_ends(void)
{
    Fixture f = set_up(4096);
    GRand *r = g_rand_new_with_seed(block_test_seed());
    BlockTestRequest *all[200];

    qemu_clock_set_virtual(true);
    test_ram_set_delay(f.bs, TEST_RAM_ALL_IO, 1000);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        int64_t offset = g_rand_int_range(r, 0, 60000);

        all[i] = block_test_co_start(f.user, i % 3 ? BLOCK_TEST_WRITE : BLOCK_TEST_READ, offset,
                                     g_rand_int_range(r, 1, 9000), i);
    }
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        g_assert_cmpint(block_test_co_join(all[i]), ==, 0);
    }
    g_assert_cmpuint(f.bs->serialising_in_flight, ==, 0);
    g_assert_true(QLIST_EMPTY(&f.bs->tracked_requests));
    qemu_clock_set_virtual(false);
    g_rand_free(r);
    tear_down(&f);
}

typedef struct Watcher {
    NotifierWithReturn notifier;
    BdrvWriteObserver observer;
    int64_t offset, bytes;
    unsigned notified, observed, writes_when_notified;
    int ret;
    Coroutine *yielded;
    bool yield;
} Watcher;

static int coroutine_fn on_before_write(NotifierWithReturn *n, void *opaque)
{
    Watcher *w = container_of(n, Watcher, notifier);
    BdrvTrackedRequest *req = opaque;

    w->notified++;
    w->offset = req->offset;
    w->bytes = req->bytes;
    w->writes_when_notified = test_ram_counts(req->bs)->writes;
    if (w->yield) {
        w->yielded = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    return w->ret;
}

static void on_written(BdrvWriteObserver *obs, int64_t offset, int64_t bytes)
{
    container_of(obs, Watcher, observer)->observed++;
}

static void watch(Fixture *f, Watcher *w)
{
    w->notifier.notify = on_before_write;
    w->observer.written = on_written;
    bdrv_add_before_write_notifier(f->bs, &w->notifier);
    bdrv_add_write_observer(f->bs, &w->observer);
}

static void unwatch(Watcher *w)
{
    notifier_with_return_remove(&w->notifier);
    bdrv_remove_write_observer(&w->observer);
}

/* IO1 */
static void coroutine_fn test_a_notifier_sees_the_aligned_range_before_the_driver_writes(void)
{
    Fixture f = set_up(4096);
    Watcher w = {0};

    watch(&f, &w);
    block_test_co_fill(f.user, 5000, 100, 1);
    g_assert_cmpint(w.notified, ==, 1);
    g_assert_cmpint(w.offset, ==, 4096);
    g_assert_cmpint(w.bytes, ==, 4096);
    g_assert_cmpint(w.writes_when_notified, ==, 0);
    g_assert_cmpint(w.observed, ==, 1);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(f.user, 8192, 8192, 0), ==, 0);
    g_assert_cmpint(w.notified, ==, 2);
    g_assert_cmpint(w.offset, ==, 8192);
    unwatch(&w);
    block_test_co_fill(f.user, 0, 512, 1);
    g_assert_cmpint(w.notified, ==, 2);
    tear_down(&f);
}

static void coroutine_fn
test_a_notifier_that_yields_holds_the_write_and_one_that_fails_stops_it(void)
{
    Fixture f = set_up(512);
    Watcher w = {.yield = true, .ret = -ENOSPC};
    BlockTestRequest *req;

    watch(&f, &w);
    req = block_test_co_start(f.user, BLOCK_TEST_WRITE, 0, 512, 7);
    block_test_co_settle();
    g_assert_cmpint(w.notified, ==, 1);
    g_assert_false(block_test_done(req));
    aio_co_wake(w.yielded);
    g_assert_cmpint(block_test_co_join(req), ==, -ENOSPC);
    g_assert_cmpuint(test_ram_counts(f.bs)->writes, ==, 0);
    g_assert_cmpint(w.observed, ==, 0);
    unwatch(&w);
    tear_down(&f);
}

/* IO2 */
static void coroutine_fn test_a_failed_write_is_marked_too(void)
{
    Fixture f = set_up(512);
    Watcher w = {0};
    uint8_t buf[512] = {1};

    watch(&f, &w);
    test_ram_set_error(f.bs, TEST_RAM_WRITE, 0, 512, EIO, 1);
    g_assert_cmpint(bdrv_co_pwrite(f.user, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(w.observed, ==, 1);
    unwatch(&w);
    tear_down(&f);
}

static void add_tests(void)
{
    block_test_add("/io/serialise/two parts of one block written at once both land",
                   test_two_parts_of_one_block_written_at_once_both_land);
    block_test_add("/io/serialise/a read waits for a serialising write unless it says not to",
                   test_a_read_waits_for_a_serialising_write_unless_it_says_not_to);
    block_test_add("/io/serialise/plain writes that overlap do not wait",
                   test_plain_writes_that_overlap_do_not_wait);
    block_test_add("/io/serialise/a crowd of unaligned writes ends",
                   test_a_crowd_of_unaligned_writes_ends);
    block_test_add("/io/serialise/a notifier sees the aligned range before the driver writes",
                   test_a_notifier_sees_the_aligned_range_before_the_driver_writes);
    block_test_add(
        "/io/serialise/a notifier that yields holds the write and one that fails stops it",
        test_a_notifier_that_yields_holds_the_write_and_one_that_fails_stops_it);
    block_test_add("/io/serialise/a failed write is marked too", test_a_failed_write_is_marked_too);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
