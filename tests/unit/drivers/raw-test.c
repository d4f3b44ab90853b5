/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/raw: the contract, and the window. */
#include <errno.h>
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

enum { RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE };

static BlockDriverState *coroutine_fn open_over(BlockDriverState *ram, const char *window)
{
    return block_test_co_open("{\"driver\":\"raw\",\"node-name\":\"r\",\"discard\":\"unmap\","
                              "\"file\":\"%s\"%s}",
                              bdrv_get_node_name(ram), window);
}

static void coroutine_fn a_window_touches_nothing_outside(void)
{
    BlockDriverState *ram = test_ram_new("ram", 1 * MiB);
    BlockDriverState *bs;
    BdrvChild *user, *whole = block_test_user(ram, RW);

    block_test_co_fill(whole, 0, 1 * MiB, 0x11);
    bs = open_over(ram, ",\"offset\":4099,\"size\":65536");
    user = block_test_user(bs, RW | BLK_PERM_RESIZE);
    g_assert_cmpint(bdrv_getlength(bs), ==, 65536);
    block_test_co_fill(user, 0, 65536, 0x22);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 100, 200, 0), ==, 0);
    /* Allowed to grow by its permissions, not by its size. */
    g_assert_cmpint(bdrv_co_pwrite(user, 65536 - 1, 2, "xy", 0), <, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 65536, 512, 0), <, 0);
    g_assert_cmpint(bdrv_co_truncate(user, 1024, true, PREALLOC_MODE_OFF, 0, NULL), ==, -ENOTSUP);
    block_test_co_expect(whole, 0, 4099, 0x11);
    block_test_co_expect(whole, 4099, 100, 0x22);
    block_test_co_expect(whole, 4099 + 100, 200, 0);
    block_test_co_expect(whole, 4099 + 300, 65536 - 300, 0x22);
    block_test_co_expect(whole, 4099 + 65536, 1 * MiB - 4099 - 65536, 0x11);
    block_test_co_user_free(user);
    block_test_co_user_free(whole);
    bdrv_co_unref(bs);
    bdrv_co_unref(ram);
}

static void coroutine_fn windows_that_do_not_fit_are_refused(void)
{
    BlockDriverState *ram = test_ram_new("ram", 1 * MiB);

#define REFUSED(message, window) \
    block_test_co_open_fails(message, "{\"driver\":\"raw\",\"file\":\"ram\"," window "}")
    REFUSED("cannot be greater than size of the containing file", "\"offset\":1048577");
    REFUSED("has to be smaller or equal", "\"offset\":512,\"size\":1048576");
    REFUSED("has to be smaller or equal", "\"offset\":512,\"size\":9223372036854775296");
    REFUSED("Specified size is not multiple of 512", "\"size\":1000");
    REFUSED("cannot be greater than size of the containing file", "\"offset\":9223372036854775807");
    bdrv_co_unref(ram);
}

static void coroutine_fn holes_of_the_file_are_holes_of_the_disk(void)
{
    BlockDriverState *ram = test_ram_new("ram", 1 * MiB);
    BlockDriverState *bs = open_over(ram, ",\"offset\":65536"), *file;
    BdrvChild *user = block_test_user(bs, RW);
    int64_t pnum, map;
    int ret;

    block_test_co_fill(user, 65536, 4096, 1);
    ret = bdrv_co_block_status(bs, 0, 1 * MiB, &pnum, &map, &file);
    g_assert_true((ret & BDRV_BLOCK_ZERO) && !(ret & BDRV_BLOCK_DATA));
    g_assert_cmpint(pnum, ==, 65536);
    ret = bdrv_co_block_status(bs, 65536, 1 * MiB, &pnum, &map, &file);
    g_assert_true((ret & BDRV_BLOCK_DATA) && !(ret & BDRV_BLOCK_ZERO));
    g_assert_cmpint(pnum, ==, 4096);
    g_assert_cmpint(map, ==, 131072);
    g_assert_true(file == ram);
    g_assert_cmpint(bdrv_co_pdiscard(user, 65536, 4096), ==, 0);
    g_assert_cmpint(bdrv_co_is_zero_fast(bs, 0, bdrv_getlength(bs)), ==, 1);
    g_assert_cmpint(test_ram_allocated(ram), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(ram);
}

static void coroutine_fn fua_and_flush_reach_the_file(void)
{
    BlockDriverState *ram = test_ram_new("ram", 1 * MiB);
    BlockDriverState *bs = open_over(ram, "");
    BdrvChild *user = block_test_user(bs, RW);

    g_assert_cmpint(bdrv_co_pwrite(user, 0, 1, "x", BDRV_REQ_FUA), ==, 0);
    g_assert_cmpint(test_ram_counts(ram)->flushes, ==, 0); /* test-ram does FUA itself */
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpint(test_ram_counts(ram)->flushes, ==, 1);
    test_ram_set_error(ram, TEST_RAM_FLUSH, 0, 0, EIO, 1);
    block_test_co_fill(user, 0, 1, 1);
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(ram);
}

static void coroutine_fn a_resize_goes_down_to_the_file(void)
{
    BlockDriverState *ram = test_ram_new("ram", 1 * MiB);
    BlockDriverState *bs = open_over(ram, ",\"offset\":512");
    BdrvChild *user = block_test_user(bs, RW | BLK_PERM_RESIZE);

    g_assert_cmpint(bdrv_co_truncate(user, 2 * MiB, true, PREALLOC_MODE_OFF, 0, &error_abort), ==,
                    0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 2 * MiB);
    g_assert_cmpint(bdrv_getlength(ram), ==, 2 * MiB + 512);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(ram);
}

static void add(void)
{
    static const DriverContract over_null = {
        .writable = true,
        .options = "\"file\": {\"driver\": \"null-co\", \"read-zeroes\": true, \"size\": 1048577}",
    };

    driver_contract_with("raw", &over_null);
    block_test_add("/raw/a window touches nothing outside", a_window_touches_nothing_outside);
    block_test_add("/raw/windows that do not fit are refused", windows_that_do_not_fit_are_refused);
    block_test_add("/raw/holes of the file are holes of the disk",
                   holes_of_the_file_are_holes_of_the_disk);
    block_test_add("/raw/FUA and flush reach the file", fua_and_flush_reach_the_file);
    block_test_add("/raw/a resize goes down to the file", a_resize_goes_down_to_the_file);
}

int main(int argc, char **argv)
{
    bdrv_raw_register();
    bdrv_null_register();
    return block_test_main(argc, argv, add);
}
