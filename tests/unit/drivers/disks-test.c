/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tests/lib: the disks that tests command do what they are told. */
#include <errno.h>
#include "aio/timer.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

enum { RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE };

static void coroutine_fn a_held_request_waits_for_its_release(void)
{
    BlockDriverState *bs = test_ram_new("ram", 8 * TiB);
    BdrvChild *user = block_test_user(bs, RW);
    BlockTestRequest *in, *out;

    test_ram_hold(bs, TEST_RAM_WRITE, 1 * TiB, 4096);
    in = block_test_co_start(user, BLOCK_TEST_WRITE, 1 * TiB + 4095, 2, 1);
    out = block_test_co_start(user, BLOCK_TEST_WRITE, 1 * TiB + 4096, 2, 2);
    test_ram_co_wait_held(bs, 1);
    block_test_co_settle();
    g_assert_false(block_test_done(in));
    g_assert_cmpint(block_test_co_join(out), ==, 0);
    test_ram_release(bs);
    g_assert_cmpint(block_test_co_join(in), ==, 0);
    g_assert_cmpint(test_ram_allocated(bs), ==, 2 * TEST_RAM_BLOCK);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn a_sparse_terabyte_disk_is_walked_quickly(void)
{
    BlockDriverState *bs = test_ram_new("ram", 8 * TiB);
    int64_t pnum, extents = 0;

    test_ram_poke(bs, 5 * TiB + 7, "x", 1);
    for (int64_t offset = 0; offset < 8 * TiB; offset += pnum) {
        g_assert_cmpint(bdrv_co_block_status(bs, offset, 8 * TiB - offset, &pnum, NULL, NULL), >=,
                        0);
        extents++;
    }
    g_assert_cmpint(extents, ==, 3);
    bdrv_co_unref(bs);
}

static void coroutine_fn faults_come_as_often_as_told(void)
{
    BlockDriverState *bs = test_ram_new("ram", 1 * MiB);
    BdrvChild *user = block_test_user(bs, RW | BLK_PERM_RESIZE);
    char byte;

    test_ram_set_error(bs, TEST_RAM_READ, 4096, 512, EIO, 2);
    g_assert_cmpint(bdrv_co_pread(user, 0, 1, &byte, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pread(user, 4096, 1, &byte, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pread(user, 4607, 1, &byte, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pread(user, 4096, 1, &byte, 0), ==, 0);
    test_ram_set_capacity(bs, 1 * MiB);
    g_assert_cmpint(bdrv_co_pwrite(user, 1 * MiB, 1, "x", 0), ==, -ENOSPC);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn a_delay_is_time_of_the_clock(void)
{
    BlockDriverState *bs = test_ram_new("ram", 1 * MiB);
    BdrvChild *user = block_test_user(bs, RW);
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    test_ram_set_delay(bs, TEST_RAM_WRITE, 3600 * NANOSECONDS_PER_SECOND);
    block_test_co_fill(user, 0, 512, 1);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, >=,
                    3600 * NANOSECONDS_PER_SECOND);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn an_overlay_shows_its_backing_file_until_written(void)
{
    BlockDriverState *base = test_ram_new("base", 1 * MiB - 4096);
    BlockDriverState *bs = test_cow_new("top", 1 * MiB, 64 * KiB, base);
    BdrvChild *user = block_test_user(bs, RW);
    BlockDriverInfo info;
    int64_t pnum;

    test_ram_poke_pattern(base, 0, 64 * KiB, 1);
    test_ram_poke(base, 100000, "base", 4);
    g_assert_cmpint(bdrv_co_is_allocated(bs, 0, 1 * MiB, &pnum), ==, 0);
    g_assert_cmpint(pnum, ==, 1 * MiB);
    block_test_co_fill(user, 100002, 1, 'X');
    block_test_co_expect(user, 100000, 1, 'b');
    block_test_co_expect(user, 100002, 1, 'X');
    block_test_co_expect(user, 100003, 1, 'e');
    block_test_co_expect(user, 1 * MiB - 4096, 4096, 0); /* behind the shorter backing file */
    g_assert_cmpint(test_cow_allocated_clusters(bs), ==, 1);
    g_assert_true(test_cow_is_allocated(bs, 100000));
    g_assert_cmpint(bdrv_co_is_allocated(bs, 65536, 1 * MiB - 65536, &pnum), ==, 1);
    g_assert_cmpint(pnum, ==, 65536);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 64 * KiB, 0), ==, 0);
    block_test_co_expect(user, 0, 64 * KiB, 0);
    g_assert_cmpint(bdrv_co_get_info(bs, &info), ==, 0);
    g_assert_cmpint(info.cluster_size, ==, 64 * KiB);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(base);
}

static void coroutine_fn two_writes_into_one_cluster_both_stay(void)
{
    BlockDriverState *base = test_ram_new("base", 1 * MiB);
    BlockDriverState *bs = test_cow_new("top", 1 * MiB, 64 * KiB, base);
    BdrvChild *user = block_test_user(bs, RW);
    BlockTestRequest *a, *b;

    test_ram_hold(base, TEST_RAM_READ, 0, 1 * MiB);
    a = block_test_co_start(user, BLOCK_TEST_WRITE, 0, 512, 1);
    b = block_test_co_start(user, BLOCK_TEST_WRITE, 512, 512, 2);
    test_ram_co_wait_held(base, 1);
    test_ram_release(base);
    g_assert_cmpint(block_test_co_join(a), ==, 0);
    g_assert_cmpint(block_test_co_join(b), ==, 0);
    block_test_co_expect(user, 0, 512, 1);
    block_test_co_expect(user, 512, 512, 2);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(base);
}

/* C1 C2 C3 */
static void coroutine_fn what_was_flushed_survives_every_cut(void)
{
    uint32_t seed = block_test_seed();
    bool lost = false, kept = false, torn = false;

    for (unsigned at = 1; at <= 4; at++) {
        for (uint32_t i = 0; i < 50; i++) {
            TestCutFate fate = {.seed = seed + i, .tear_bytes = 512, .reorder = true};
            BlockDriverState *bs = test_cut_new("cut", 64 * KiB);
            BdrvChild *user = block_test_user(bs, RW);
            uint8_t got[1024];
            int flush;

            test_cut_arm(bs, at);
            bdrv_co_pwrite_zeroes(user, 0, 1024, 0);                                       /* 1 */
            block_test_co_join(block_test_co_start(user, BLOCK_TEST_WRITE, 0, 1024, 'a')); /* 2 */
            flush = bdrv_co_flush(bs);                                                     /* 3 */
            block_test_co_join(block_test_co_start(user, BLOCK_TEST_WRITE, 0, 1024, 'b')); /* 4 */
            g_assert_true(test_cut_is_off(bs));
            g_assert_cmpint(bdrv_co_pread(user, 0, 1, got, 0), ==, -EIO); /* C3 */
            test_cut_power_on(bs, &fate);
            test_cut_peek_stable(bs, 0, got, sizeof(got));
            for (int n = 0; n < 1024; n += 512) {
                g_assert_true(got[n] == got[n + 511]);                                     /* C2 */
                g_assert_true(flush < 0 ? got[n] != 'b' : got[n] == 'a' || got[n] == 'b'); /* C1 */
            }
            lost |= at == 4 && got[0] == 'a' && got[512] == 'a';
            kept |= at == 4 && got[0] == 'b' && got[512] == 'b';
            torn |= got[0] != got[512];
            block_test_co_user_free(user);
            bdrv_co_unref(bs);
        }
    }
    g_assert_true(lost && kept && torn);
}

static void coroutine_fn fua_is_stable_at_once(void)
{
    BlockDriverState *bs = test_cut_new("cut", 64 * KiB);
    BdrvChild *user = block_test_user(bs, RW);
    TestCutFate fate = {.drop_all = true};

    block_test_co_fill(user, 0, 1024, 'a');
    g_assert_cmpint(bdrv_co_pwrite(user, 0, 1, "f", BDRV_REQ_FUA), ==, 0);
    test_cut_now(bs);
    test_cut_power_on(bs, &fate);
    block_test_co_expect(user, 0, 1, 'f');
    block_test_co_expect(user, 1, 1023, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void add(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/test-ram/a held request waits for its release",
                   a_held_request_waits_for_its_release);
    block_test_add("/test-ram/a sparse terabyte disk is walked quickly",
                   a_sparse_terabyte_disk_is_walked_quickly);
    block_test_add("/test-ram/faults come as often as told", faults_come_as_often_as_told);
    block_test_add("/test-ram/a delay is time of the clock", a_delay_is_time_of_the_clock);
    block_test_add("/test-cow/an overlay shows its backing file until written",
                   an_overlay_shows_its_backing_file_until_written);
    block_test_add("/test-cow/two writes into one cluster both stay",
                   two_writes_into_one_cluster_both_stay);
    block_test_add("/test-cut/what was flushed survives every cut",
                   what_was_flushed_survives_every_cut);
    block_test_add("/test-cut/FUA is stable at once", fua_is_stable_at_once);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
