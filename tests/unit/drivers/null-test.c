/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/null: the contract, its latency on the clock, its options. */
#include "aio/timer.h"
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "util/osdep.h"

static void coroutine_fn a_request_takes_its_latency(void)
{
    BlockDriverState *bs =
        block_test_co_open("{\"driver\":\"null-co\",\"latency-ns\":5000000,\"read-zeroes\":true}");
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    block_test_co_fill(user, 0, 4096, 1);
    block_test_co_expect(user, 0, 4096, 0);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, >=, 10000000);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn options_without_sense_are_refused(void)
{
    g_autoptr(BlockdevOptions) opts = block_test_options("{\"driver\":\"null-co\"}");
    Error *err = NULL;

    block_test_co_open_fails("size is invalid", "{\"driver\":\"null-co\",\"size\":-1}");
    opts->u.null_co.has_latency_ns = true;
    opts->u.null_co.latency_ns = UINT64_MAX;
    g_assert_null(bdrv_co_open(opts, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "latency-ns is invalid");
    error_free(err);
}

static void add(void)
{
    static const DriverContract writable = {
        .writable = true,
        .options = "\"read-zeroes\": true, \"size\": 1048577",
    };

    driver_contract_with("null-co", &writable);
    block_test_add("/null-co/a request takes its latency", a_request_takes_its_latency);
    block_test_add("/null-co/options without sense are refused", options_without_sense_are_refused);
}

int main(int argc, char **argv)
{
    bdrv_null_register();
    return block_test_main(argc, argv, add);
}
