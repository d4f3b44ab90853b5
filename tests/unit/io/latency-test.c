/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Latency observers: what is timed, and who is told (WA3 of block/io/watch.c). */
#include <errno.h>
#include "aio/timer.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES (32 * MiB)
#define RW         (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)
#define READ_NS    1000
#define WRITE_NS   20000
#define ZERO_NS    300000
#define DISCARD_NS 4000000

/* "type bytes ns" of each that it is told of. */
typedef struct Clerk {
    BdrvLatencyObserver observer;
    GString *log;
} Clerk;

static void on_done(BdrvLatencyObserver *obs, BdrvTrackedRequestType type, int64_t bytes,
                    int64_t ns)
{
    GString *log = container_of(obs, Clerk, observer)->log;

    g_string_append_printf(log, "%s%c %d %d", log->len ? ", " : "", "rwdt"[type], (int)bytes,
                           (int)ns);
}

static void clerk_begin(Clerk *clerk, BlockDriverState *bs)
{
    clerk->observer.done = on_done;
    clerk->log = g_string_new(NULL);
    bdrv_add_latency_observer(bs, &clerk->observer);
}

static void clerk_end(Clerk *clerk)
{
    bdrv_remove_latency_observer(&clerk->observer);
    g_string_free(clerk->log, TRUE);
    memset(clerk, 0x5a, sizeof(*clerk)); /* nobody looks at it any more */
}

static void clerk_expects(Clerk *clerk, const char *log)
{
    g_assert_cmpstr(clerk->log->str, ==, log);
    g_string_truncate(clerk->log, 0);
}

typedef struct Disk {
    BlockDriverState *bs;
    BdrvChild *user;
} Disk;

/* Each operation takes @ns of virtual time. */
static Disk disk_new(unsigned ops, int64_t ns)
{
    Disk d = {.bs = test_ram_new("disk", DISK_BYTES)};

    qemu_clock_set_virtual(true);
    test_ram_set_alignment(d.bs, 512);
    test_ram_set_delay(d.bs, ops, ns);
    d.user = block_test_user(d.bs, RW);
    return d;
}

static void coroutine_fn disk_free(Disk *d)
{
    block_test_co_user_free(d->user);
    bdrv_co_unref(d->bs);
    qemu_clock_set_virtual(false);
}

static void coroutine_fn each_request_is_told_with_its_time(void)
{
    Disk d = disk_new(TEST_RAM_READ, READ_NS);
    Clerk clerk;
    uint8_t buf[512] = {0};

    clerk_begin(&clerk, d.bs);
    g_assert_cmpint(bdrv_co_pread(d.user, 0, 512, buf, 0), ==, 0);
    clerk_expects(&clerk, "r 512 1000");
    g_assert_cmpint(bdrv_co_pread(d.user, 100, 7, buf, 0), ==, 0);
    clerk_expects(&clerk, "r 7 1000");
    g_assert_cmpint(bdrv_co_preadv(d.user, 0, 700, NULL, BDRV_REQ_PREFETCH), ==, 0);
    clerk_expects(&clerk, "r 700 1000");
    test_ram_set_delay(d.bs, TEST_RAM_WRITE, WRITE_NS);
    g_assert_cmpint(bdrv_co_pwrite(d.user, 0, 512, buf, 0), ==, 0);
    clerk_expects(&clerk, "w 512 20000");
    test_ram_set_delay(d.bs, TEST_RAM_ZERO, ZERO_NS);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 3 * MiB, 0), ==, 0);
    clerk_expects(&clerk, "w 3145728 300000");
    test_ram_set_delay(d.bs, TEST_RAM_DISCARD, DISCARD_NS);
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 0, 3 * MiB), ==, 0);
    clerk_expects(&clerk, "d 3145728 4000000");
    clerk_end(&clerk);
    g_assert_cmpint(bdrv_co_pread(d.user, 0, 512, buf, 0), ==, 0);
    disk_free(&d);
}

static void coroutine_fn failed_request_counts_and_a_refused_one_does_not(void)
{
    Disk d = disk_new(TEST_RAM_READ | TEST_RAM_WRITE, READ_NS);
    Clerk clerk;
    uint8_t buf[512] = {0};

    clerk_begin(&clerk, d.bs);
    test_ram_set_error(d.bs, TEST_RAM_READ | TEST_RAM_WRITE, 0, 512, EIO, 2);
    g_assert_cmpint(bdrv_co_pread(d.user, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(d.user, 0, 512, buf, 0), ==, -EIO);
    clerk_expects(&clerk, "r 512 1000, w 512 1000");
    g_assert_cmpint(bdrv_co_pread(d.user, -1, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(d.user, DISK_BYTES, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pread(d.user, 0, 0, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 0, 0), ==, 0);
    d.bs->open_flags &= ~BDRV_O_UNMAP;
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 0, 512), ==, 0);
    clerk_expects(&clerk, "");
    clerk_end(&clerk);
    disk_free(&d);
}

/* A notifier that takes its time, as a before-write copy does. */
static int coroutine_fn slow_notify(NotifierWithReturn *notifier, void *opaque)
{
    qemu_co_sleep_ns(WRITE_NS);
    return 0;
}

static void coroutine_fn waiting_counts_and_pieces_are_one(void)
{
    Disk d = disk_new(TEST_RAM_ZERO, ZERO_NS);
    NotifierWithReturn notifier = {.notify = slow_notify};
    Clerk clerk;

    clerk_begin(&clerk, d.bs);
    bdrv_add_before_write_notifier(d.bs, &notifier);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 3 * MiB, 0), ==, 0);
    clerk_expects(&clerk, "w 3145728 960000");
    notifier_with_return_remove(&notifier);
    clerk_end(&clerk);
    disk_free(&d);
}

static void coroutine_fn reads_of_a_job_and_of_its_target_do_not_count(void)
{
    Disk d = disk_new(TEST_RAM_READ, READ_NS);
    BlockDriverState *target = test_cow_new("target", DISK_BYTES, 64 * KiB, d.bs);
    BdrvChild *reader = block_test_user(target, RW);
    Clerk clerk, of_target;
    uint8_t buf[512] = {0};

    clerk_begin(&clerk, d.bs);
    clerk_begin(&of_target, target);
    g_assert_cmpint(bdrv_co_pread(d.user, 0, 512, buf, BDRV_REQ_NO_SERIALISING), ==, 0);
    g_assert_cmpint(bdrv_co_pread(reader, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pwrite(reader, 0, 512, buf, 0), ==, 0); /* copies the rest */
    clerk_expects(&clerk, "");
    clerk_expects(&of_target, "r 512 1000, w 512 1000");
    clerk_end(&clerk);
    clerk_end(&of_target);
    block_test_co_user_free(reader);
    bdrv_co_unref(target);
    disk_free(&d);
}

static void coroutine_fn read_only_node_tells_nobody(void)
{
    Disk d = disk_new(TEST_RAM_READ, READ_NS);
    Clerk clerk;
    uint8_t buf[512];

    clerk_begin(&clerk, d.bs);
    d.bs->read_only = true;
    g_assert_cmpint(bdrv_co_pread(d.user, 0, 512, buf, 0), ==, 0);
    clerk_expects(&clerk, "");
    d.bs->read_only = false;
    clerk_end(&clerk);
    disk_free(&d);
}

static void coroutine_fn observers_come_and_go_while_requests_run(void)
{
    Disk d = disk_new(TEST_RAM_READ, READ_NS);
    BlockTestRequest *before, *during;
    Clerk first, second;

    before = block_test_co_start(d.user, BLOCK_TEST_READ, 0, 512, 0);
    clerk_begin(&first, d.bs);
    g_assert_cmpint(block_test_co_join(before), ==, 0);
    clerk_expects(&first, ""); /* nobody looked at the clock when it began */
    during = block_test_co_start(d.user, BLOCK_TEST_READ, 0, 512, 0);
    clerk_begin(&second, d.bs);
    clerk_end(&first);
    g_assert_cmpint(block_test_co_join(during), ==, 0);
    clerk_expects(&second, "r 512 1000");
    during = block_test_co_start(d.user, BLOCK_TEST_READ, 0, 512, 0);
    clerk_end(&second);
    g_assert_cmpint(block_test_co_join(during), ==, 0);
    disk_free(&d);
}

static void coroutine_fn several_observers_are_told_the_same(void)
{
    Disk d = disk_new(TEST_RAM_READ, READ_NS);
    Clerk a, b;
    uint8_t buf[512];

    clerk_begin(&a, d.bs);
    clerk_begin(&b, d.bs);
    g_assert_cmpint(bdrv_co_pread(d.user, 0, 512, buf, 0), ==, 0);
    clerk_expects(&a, "r 512 1000");
    clerk_expects(&b, "r 512 1000");
    clerk_end(&a);
    clerk_end(&b);
    disk_free(&d);
}

static void add(void)
{
    block_test_add("/io/latency/each request is told with its time",
                   each_request_is_told_with_its_time);
    block_test_add("/io/latency/a failed request counts and a refused one does not",
                   failed_request_counts_and_a_refused_one_does_not);
    block_test_add("/io/latency/waiting counts, and pieces are one request",
                   waiting_counts_and_pieces_are_one);
    block_test_add("/io/latency/reads of a job and of its target do not count",
                   reads_of_a_job_and_of_its_target_do_not_count);
    block_test_add("/io/latency/a read-only node tells nobody", read_only_node_tells_nobody);
    block_test_add("/io/latency/observers come and go while requests run",
                   observers_come_and_go_while_requests_run);
    block_test_add("/io/latency/several observers are told the same",
                   several_observers_are_told_the_same);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
