/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/example: what every driver must get right, and its one byte. */
#include "block/drivers/drivers.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "util/osdep.h"

static void coroutine_fn every_byte_is_the_one_asked_for(void)
{
    BlockDriverState *bs = block_test_co_open(
        "{\"driver\":\"example\",\"size\":65537,\"byte\":65,\"read-only\":true}");
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);

    g_assert_cmpint(bdrv_getlength(bs), ==, 65537);
    block_test_co_expect(user, 0, 65537, 65);
    g_assert_cmpint(bdrv_co_is_zero_fast(bs, 0, 65537), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn it_cannot_be_opened_for_writing(void)
{
    BlockDriverState *bs;

    block_test_co_open_fails("can only be opened read-only", "{\"driver\":\"example\"}");
    bs = block_test_co_open("{\"driver\":\"example\",\"auto-read-only\":true}");
    g_assert_true(bdrv_is_read_only(bs));
    bdrv_co_unref(bs);
}

static void add(void)
{
    driver_contract("example");
    block_test_add("/example/every byte is the one asked for", every_byte_is_the_one_asked_for);
    block_test_add("/example/it cannot be opened for writing", it_cannot_be_opened_for_writing);
}

int main(int argc, char **argv)
{
    bdrv_example_register();
    return block_test_main(argc, argv, add);
}
