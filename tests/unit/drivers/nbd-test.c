/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/nbd: the contract by several servers, flags, limits, status, options. */
#include <errno.h>
#include "block/drivers/drivers.h"
#include "tests/lib/driver-contract.h"
#include "tests/unit/drivers/nbd-story.h"

static void coroutine_fn an_export_that_is_read_only_is_not_written(void)
{
    BlockDriverState *bs;

    toy_begin(TOY_ALL | TOY_READ_ONLY);
    block_test_co_open_fails("the export is read-only", "%s", toy_options(""));
    bs = block_test_co_open("%s", toy_options(",\"auto-read-only\":true"));
    g_assert_true(bdrv_is_read_only(bs));
    bdrv_co_unref(bs);
    toy_end();
}

static void coroutine_fn options_without_sense_are_refused(void)
{
    toy_begin(TOY_ALL);
    block_test_co_open_fails("connections must be between 1 and 16", "%s",
                             toy_options(",\"connections\":17"));
    block_test_co_open_fails("connections must be between 1 and 16", "%s",
                             toy_options(",\"connections\":0"));
    block_test_co_open_fails("must not be above 86400", "%s",
                             toy_options(",\"reconnect-delay\":86401"));
    block_test_co_open_fails("type 'fd' is not supported", "{\"driver\":\"nbd\",\"server\":"
                                                           "{\"type\":\"fd\",\"str\":\"3\"}}");
    block_test_co_open_fails("'to' is for listeners",
                             "{\"driver\":\"nbd\",\"server\":{\"type\":\"inet\",\"host\":\"h\","
                             "\"port\":\"1\",\"to\":2}}");
    block_test_co_open_fails("UNIX socket path", "{\"driver\":\"nbd\",\"server\":"
                                                 "{\"type\":\"unix\",\"path\":\"\"}}");
    block_test_co_open_fails("No such file or directory",
                             "{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\","
                             "\"path\":\"/nowhere/socket\"}}");
    toy_end();
}

static void coroutine_fn sizes_that_do_not_fit_together_are_refused(void)
{
    toy_begin(TOY_ALL);
    toy_stop(&toy);
    toy.size = TOY_SIZE + 1;
    toy.min_block = 512;
    toy.max_block = 65536;
    toy_start(&toy);
    block_test_co_open_fails("do not fit together", "%s", toy_options(""));
    toy_stop(&toy);
    toy.size = INT64_MAX;
    toy.min_block = 0;
    toy.room = INT64_MAX; /* nobody comes as far as to read it */
    toy_start(&toy);
    block_test_co_open_fails("beyond what a disk can have", "%s", toy_options(""));
    toy_end();
}

static void coroutine_fn flags_reach_the_server(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    uint8_t byte[512] = {1};

    toy_begin(TOY_ALL);
    bs = toy_open("", &user);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, 512, byte, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpint(toy_get(&toy.last_flags), ==, 1);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 512, 0), ==, 0);
    g_assert_cmpint(toy_get(&toy.last_flags), ==, 2); /* no hole */
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 512, BDRV_REQ_MAY_UNMAP | BDRV_REQ_FUA), ==, 0);
    g_assert_cmpint(toy_get(&toy.last_flags), ==, 1);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 512, BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK),
                    ==, 0);
    g_assert_cmpint(toy_get(&toy.last_flags), ==, 16); /* fast */
    toy_set(&toy.error, 95);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 512, BDRV_REQ_NO_FALLBACK), ==, -ENOTSUP);
    toy_set(&toy.error, 28);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, 512, byte, 0), ==, -ENOSPC);
    toy_set(&toy.error, 0);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_FLUSH]), ==, 1);
    toy_close(bs, user);
}

static void coroutine_fn a_server_that_can_little_is_asked_for_little(void)
{
    BdrvChild *user;
    BlockDriverState *bs;

    toy_begin(TOY_HAS_FLAGS);
    bs = toy_open("", &user);
    block_test_co_fill(user, 0, MiB, 3);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 4096, 4096, BDRV_REQ_FUA), ==, 0);
    block_test_co_expect(user, 4096, 4096, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 4096, BDRV_REQ_NO_FALLBACK), ==, -ENOTSUP);
    g_assert_cmpint(bdrv_co_pdiscard(user, 0, 4096), ==, 0);
    block_test_co_expect(user, 0, 4096, 3);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_TRIM]) + toy_get(&toy.seen[TOY_CMD_ZERO]) +
                        toy_get(&toy.seen[TOY_CMD_FLUSH]),
                    ==, 0);
    toy_close(bs, user);
}

/* The server aborts the test when a request is larger than it said. */
static void coroutine_fn a_large_request_goes_in_pieces(void)
{
    BdrvChild *user;
    BlockDriverState *bs;

    toy_begin(TOY_ALL);
    toy_stop(&toy);
    toy.min_block = 4096;
    toy.max_block = 65536;
    toy_start(&toy);
    bs = toy_open("", &user);
    block_test_co_fill(user, 100, 3 * MiB, 9);
    block_test_co_expect(user, 100, 3 * MiB, 9);
    block_test_co_expect(user, 0, 100, 0);
    g_assert_cmpint(toy_get(&toy.longest), ==, 65536);
    toy_close(bs, user);
}

/* N1: more than fits, at once; also pieces of scattered memory. */
static void coroutine_fn many_large_requests_get_through(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *req[24];

    toy_begin(TOY_ALL);
    bs = toy_open("", &user);
    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        req[i] = block_test_co_start(user, i % 3 ? BLOCK_TEST_WRITE : BLOCK_TEST_READ, i % 4 * MiB,
                                     (1 + i % 4) * 3 * MiB, i);
    }
    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
    }
    toy_close(bs, user);
}

static void coroutine_fn as_many_connections_as_both_want(void)
{
    BdrvChild *user;
    BlockDriverState *bs;

    toy_begin(TOY_ALL);
    bs = toy_open(",\"connections\":3", &user);
    toy_wait(&toy.live, 3);
    toy_close(bs, user);

    toy_begin(TOY_ALL & ~TOY_MULTI_CONN);
    bs = toy_open(",\"connections\":3", &user);
    block_test_co_fill(user, 0, MiB, 1);
    g_assert_cmpint(toy_get(&toy.connected), ==, 1);
    toy_close(bs, user);
}

static int coroutine_fn status_of(BlockDriverState *bs, int64_t offset, int64_t *pnum)
{
    int ret = bdrv_co_block_status(bs, offset, toy.size - offset, pnum, NULL, NULL);

    g_assert_cmpint(ret, >=, 0);
    return ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO);
}

/* N8 */
static void coroutine_fn status_is_asked_once_for_many_extents(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    int64_t pnum;

    toy_begin(TOY_ALL);
    nbd_times.zero_extent = 3600 * NANOSECONDS_PER_SECOND;
    bs = toy_open("", &user);
    for (int i = 0; i < 8; i++) {
        block_test_co_fill(user, 2 * i * 4096, 4096, 1);
    }
    for (int i = 0; i < 7; i++) {
        g_assert_cmpint(status_of(bs, 2 * i * 4096, &pnum), ==, BDRV_BLOCK_DATA);
        g_assert_cmpint(pnum, ==, 4096);
        g_assert_cmpint(status_of(bs, (2 * i + 1) * 4096, &pnum), ==, BDRV_BLOCK_ZERO);
        g_assert_cmpint(pnum, ==, 4096);
    }
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_STATUS]), ==, 1);
    block_test_co_fill(user, 4096, 4096, 1);
    g_assert_cmpint(status_of(bs, 0, &pnum), ==, BDRV_BLOCK_DATA);
    g_assert_cmpint(pnum, ==, 3 * 4096);
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_STATUS]), ==, 2);
    nbd_times.zero_extent = 0; /* too old at once; what is data may be older */
    g_assert_cmpint(status_of(bs, 0, &pnum), ==, BDRV_BLOCK_DATA);
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_STATUS]), ==, 2);
    g_assert_cmpint(status_of(bs, 3 * 4096, &pnum), ==, BDRV_BLOCK_ZERO);
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_STATUS]), ==, 3);
    toy_close(bs, user);
}

/* H5 */
static void coroutine_fn a_status_without_sense_is_data(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    int64_t pnum;

    toy_begin(TOY_ALL);
    nbd_times.zero_extent = 0;
    bs = toy_open("", &user);
    toy_set(&toy.bad_status, 1);
    g_assert_cmpint(status_of(bs, 0, &pnum), ==, BDRV_BLOCK_DATA);
    toy_set(&toy.bad_status, 2);
    g_assert_cmpint(status_of(bs, 0, &pnum), ==, BDRV_BLOCK_DATA);
    toy_set(&toy.bad_status, 3);
    g_assert_cmpint(status_of(bs, 4096, &pnum), ==, BDRV_BLOCK_ZERO);
    g_assert_cmpint(pnum, ==, TOY_SIZE - 4096);
    toy_close(bs, user);
}

static ToyNbd plain, small, blocks;
static char *plain_options, *small_options, *blocks_options;

static void serve_plain(void)
{
    toy_serve(&plain);
}

static void serve_small(void)
{
    toy_serve(&small);
}

static void serve_blocks(void)
{
    toy_serve(&blocks);
}

static void add_contract(const char *name, DriverContract *c, ToyNbd *server, char **options,
                         void (*prepare)(void))
{
    server->path = block_test_path(name);
    *options = g_strdup_printf("\"server\":{\"type\":\"unix\",\"path\":\"%s\"}", server->path);
    *c = (DriverContract){
        .name = name,
        .options = *options,
        .prepare = prepare,
        .writable = true,
        .keeps_data = true,
    };
    driver_contract_with("nbd", c);
}

static void add(void)
{
    static DriverContract contracts[3]; /* live as long as the tests */

    plain = (ToyNbd){.size = MiB, .flags = TOY_ALL, .structured = true};
    small = (ToyNbd){.size = 300 * KiB + 7, .flags = TOY_HAS_FLAGS};
    blocks = (ToyNbd){
        .size = MiB, .flags = TOY_ALL, .structured = true, .min_block = 4096, .max_block = 8192};
    add_contract("nbd", &contracts[0], &plain, &plain_options, serve_plain);
    add_contract("nbd-small", &contracts[1], &small, &small_options, serve_small);
    add_contract("nbd-blocks", &contracts[2], &blocks, &blocks_options, serve_blocks);
    block_test_add("/nbd/an export that is read-only is not written",
                   an_export_that_is_read_only_is_not_written);
    block_test_add("/nbd/options without sense are refused", options_without_sense_are_refused);
    block_test_add("/nbd/sizes that do not fit together are refused",
                   sizes_that_do_not_fit_together_are_refused);
    block_test_add("/nbd/flags reach the server", flags_reach_the_server);
    block_test_add("/nbd/a server that can little is asked for little",
                   a_server_that_can_little_is_asked_for_little);
    block_test_add("/nbd/a large request goes in pieces", a_large_request_goes_in_pieces);
    block_test_add("/nbd/many large requests get through", many_large_requests_get_through);
    block_test_add("/nbd/as many connections as both want", as_many_connections_as_both_want);
    block_test_add("/nbd/status is asked once for many extents",
                   status_is_asked_once_for_many_extents);
    block_test_add("/nbd/a status without sense is data", a_status_without_sense_is_data);
    nbd_outage_tests();
    nbd_event_tests();
    nbd_window_tests();
}

int main(int argc, char **argv)
{
    int ret;

    bdrv_nbd_register();
    ret = block_test_main(argc, argv, add);
    toy_serve(NULL);
    g_free(plain_options);
    g_free(small_options);
    g_free(blocks_options);
    g_free(plain.path);
    g_free(small.path);
    g_free(blocks.path);
    return ret;
}
