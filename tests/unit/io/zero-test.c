/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Write zeroes and discard: what reaches the driver, what is written out, FUA. */
#include <errno.h>
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES (1 * MiB)
#define RW         (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

typedef struct Disk {
    BlockDriverState *bs;
    BdrvChild *user;
} Disk;

static Disk disk_new(uint32_t align)
{
    Disk d = {.bs = test_ram_new("disk", DISK_BYTES)};

    test_ram_set_alignment(d.bs, align);
    d.user = block_test_user(d.bs, RW);
    return d;
}

static void coroutine_fn disk_free(Disk *d)
{
    g_assert_cmpuint(d->bs->in_flight, ==, 0);
    block_test_co_user_free(d->user);
    bdrv_co_unref(d->bs);
}

static void coroutine_fn ends_of_a_block_keep_their_bytes(void)
{
    Disk d = disk_new(4096);

    block_test_co_fill(d.user, 0, 32768, 7);
    test_ram_reset_counts(d.bs);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 1000, 20000, 0), ==, 0);
    block_test_co_expect(d.user, 0, 1000, 7);
    block_test_co_expect(d.user, 1000, 20000, 0);
    block_test_co_expect(d.user, 21000, 32768 - 21000, 7);
    g_assert_cmpuint(test_ram_counts(d.bs)->zeroes, ==, 1);
    g_assert_cmpuint(test_ram_counts(d.bs)->writes, ==, 2);
    disk_free(&d);
}

static void coroutine_fn pieces_fit_the_drivers_zero_blocks(void)
{
    Disk d = disk_new(512);

    d.bs->bl.pwrite_zeroes_alignment = 8192;
    d.bs->bl.max_pwrite_zeroes = 20000; /* rounded down to 16384 */
    block_test_co_fill(d.user, 0, 131072, 7);
    test_ram_reset_counts(d.bs);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 512, 66048, 0), ==, 0);
    block_test_co_expect(d.user, 0, 512, 7);
    block_test_co_expect(d.user, 512, 66048, 0);
    block_test_co_expect(d.user, 66560, 1024, 7);
    g_assert_cmpuint(test_ram_counts(d.bs)->zeroes, ==, 4); /* 8192..65536 */
    g_assert_cmpuint(test_ram_counts(d.bs)->bytes_written, ==, 7680 + 1024);
    disk_free(&d);
}

static void coroutine_fn driver_without_zeroes_gets_data_or_nothing(void)
{
    Disk d = disk_new(512);

    test_ram_set_no_zeroes(d.bs, true);
    block_test_co_fill(d.user, 0, DISK_BYTES, 7);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 65536, BDRV_REQ_NO_FALLBACK), ==, -ENOTSUP);
    block_test_co_expect(d.user, 0, 65536, 7);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 65536, 0), ==, 0);
    block_test_co_expect(d.user, 0, 65536, 0);
    disk_free(&d);
}

static void coroutine_fn space_is_given_back_only_with_unmap(void)
{
    Disk d = disk_new(512);

    block_test_co_fill(d.user, 0, 65536, 7);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 4096, 0), ==, 0);
    g_assert_cmpint(test_ram_allocated(d.bs), ==, 65536);
    d.bs->open_flags &= ~BDRV_O_UNMAP; /* discard=ignore */
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 4096, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(test_ram_allocated(d.bs), ==, 65536);
    d.bs->open_flags |= BDRV_O_UNMAP;
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 4096, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(test_ram_allocated(d.bs), ==, 61440);
    disk_free(&d);
}

static void coroutine_fn fua_flushes_where_the_driver_cannot(void)
{
    Disk d = disk_new(512);
    uint8_t buf[512] = {1};

    g_assert_cmpint(bdrv_co_pwrite(d.user, 0, 512, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->flushes, ==, 0); /* its own */
    d.bs->supported_write_flags &= ~BDRV_REQ_FUA;
    g_assert_cmpint(bdrv_co_pwrite(d.user, 0, 512, buf, 0), ==, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->flushes, ==, 0);
    g_assert_cmpint(bdrv_co_pwrite(d.user, 0, 512, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->flushes, ==, 1);
    g_assert_cmpint(bdrv_co_pwrite(d.user, 7, 5, buf, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->flushes, ==, 2);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(d.user, 0, 4096, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->flushes, ==, 3);
    test_ram_set_error(d.bs, TEST_RAM_FLUSH, 0, 0, EIO, 1);
    g_assert_cmpint(bdrv_co_pwrite(d.user, 0, 512, buf, BDRV_REQ_FUA), ==, -EIO);
    disk_free(&d);
}

static void coroutine_fn detected_zeros_become_zeroes(void)
{
    Disk d = disk_new(512);

    block_test_co_fill(d.user, 0, 16384, 7);
    d.bs->detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP;
    test_ram_reset_counts(d.bs);
    block_test_co_fill(d.user, 0, 4096, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->zeroes, ==, 1);
    g_assert_cmpint(test_ram_allocated(d.bs), ==, 12288);
    block_test_co_fill(d.user, 4096 + 100, 100, 0); /* the block around it is not zero */
    g_assert_cmpuint(test_ram_counts(d.bs)->zeroes, ==, 1);
    block_test_co_expect(d.user, 4096, 100, 7);
    disk_free(&d);
}

static void coroutine_fn discard_keeps_to_whole_blocks(void)
{
    Disk d = disk_new(4096);

    block_test_co_fill(d.user, 0, 65536, 7);
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 100, 4096), ==, 0); /* no whole block in it */
    g_assert_cmpuint(test_ram_counts(d.bs)->discards, ==, 0);
    block_test_co_expect(d.user, 0, 65536, 7);
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 100, 10000), ==, 0);
    block_test_co_expect(d.user, 0, 4096, 7);
    block_test_co_expect(d.user, 4096, 4096, 0);
    block_test_co_expect(d.user, 8192, 8192, 7);
    disk_free(&d);
}

static void coroutine_fn discard_goes_in_pieces(void)
{
    Disk d = disk_new(512);

    block_test_co_fill(d.user, 0, DISK_BYTES, 7);
    d.bs->bl.pdiscard_alignment = 4096;
    d.bs->bl.max_pdiscard = 10000; /* rounded down to 8192 */
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 0, 32768), ==, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->discards, ==, 4);
    d.bs->bl.max_pdiscard = 512; /* less than a block is a block */
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 32768, 8192), ==, 0);
    g_assert_cmpuint(test_ram_counts(d.bs)->discards, ==, 6);
    g_assert_cmpint(test_ram_allocated(d.bs), ==, DISK_BYTES - 40960);
    disk_free(&d);
}

static void coroutine_fn discard_of_an_overlay_does_not_show_the_backing_file(void)
{
    BlockDriverState *base = test_ram_new("base", 262144);
    BlockDriverState *top = test_cow_new("top", 262144, 65536, base);
    BdrvChild *user = block_test_user(top, RW);

    test_ram_poke_pattern(base, 0, 262144, 1);
    block_test_co_fill(user, 0, 131072, 7);
    g_assert_cmpint(bdrv_co_pdiscard(user, 1000, 130000), ==, 0);
    block_test_co_expect(user, 0, 65536, 7); /* not a whole cluster */
    block_test_co_user_free(user);
    bdrv_co_unref(top);
    bdrv_co_unref(base);
}

static void coroutine_fn discard_is_advice(void)
{
    Disk d = disk_new(512);

    test_ram_set_error(d.bs, TEST_RAM_DISCARD, 0, DISK_BYTES, ENOTSUP, -1);
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 0, 65536), ==, 0);
    test_ram_set_error(d.bs, TEST_RAM_DISCARD, 0, DISK_BYTES, EIO, -1);
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 0, 65536), ==, -EIO);
    d.bs->open_flags &= ~BDRV_O_UNMAP;
    g_assert_cmpint(bdrv_co_pdiscard(d.user, 0, 65536), ==, 0);
    disk_free(&d);
}

static void add(void)
{
    block_test_add("/io/zero/bytes around the range are kept", ends_of_a_block_keep_their_bytes);
    block_test_add("/io/zero/pieces fit the zero blocks of the driver",
                   pieces_fit_the_drivers_zero_blocks);
    block_test_add("/io/zero/a driver without zeroes gets data, or nothing with no-fallback",
                   driver_without_zeroes_gets_data_or_nothing);
    block_test_add("/io/zero/space is given back only where both agree",
                   space_is_given_back_only_with_unmap);
    block_test_add("/io/zero/FUA flushes where the driver cannot",
                   fua_flushes_where_the_driver_cannot);
    block_test_add("/io/zero/detected zeros become zeroes", detected_zeros_become_zeroes);
    block_test_add("/io/discard/only whole blocks are discarded", discard_keeps_to_whole_blocks);
    block_test_add("/io/discard/a long discard goes in pieces", discard_goes_in_pieces);
    block_test_add("/io/discard/a cluster discarded in part is kept",
                   discard_of_an_overlay_does_not_show_the_backing_file);
    block_test_add("/io/discard/a refusal is no error, a failure is", discard_is_advice);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
