/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/nbd/keep.c: what an outage looks like from outside (N9), and how often it is tried. */
#include <errno.h>
#include "qapi/event.h"
#include "tests/unit/drivers/nbd-story.h"

/* States of the events NBD_CONNECTION so far, "lost restored "; the main thread's. */
static GString *told;

static void listen_to_events(unsigned event, json_t *message)
{
    json_t *data = json_object_get(message, "data");
    const char *state = json_string_value(json_object_get(data, "state"));
    int64_t outage_ms = json_integer_value(json_object_get(data, "outage-ms"));

    g_assert_cmpstr(json_string_value(json_object_get(message, "event")), ==, "NBD_CONNECTION");
    g_assert_cmpstr(json_string_value(json_object_get(data, "node-name")), ==, "n");
    g_assert_true(g_str_has_prefix(json_string_value(json_object_get(data, "server")),
                                   "nbd+unix:///?socket="));
    g_assert_cmpint(outage_ms, >=, 0);
    g_assert_cmpint(outage_ms, <=, DEADLINE_NS / SCALE_MS);
    g_string_append_printf(told, "%s ", state);
}

static BlockDriverState *coroutine_fn events_begin(unsigned flags, const char *options,
                                                   BdrvChild **ret_user)
{
    BlockDriverState *bs;

    toy_begin(flags);
    nbd_times.backoff_min = 1 * SCALE_MS;
    nbd_times.backoff_max = 20 * SCALE_MS;
    told = g_string_new("");
    qapi_event_set_emit(listen_to_events);
    bs = toy_open(options, ret_user);
    toy_wait(&toy.live, flags & TOY_MULTI_CONN ? NBD_CONNECTIONS_DEFAULT : 1);
    return bs;
}

static void coroutine_fn events_end(BlockDriverState *bs, BdrvChild *user)
{
    toy_close(bs, user);
    block_test_co_settle();
    qapi_event_set_emit(NULL);
    g_string_free(told, TRUE);
    told = NULL;
}

static void coroutine_fn expect_told(const char *what)
{
    int64_t deadline = nbd_now() + DEADLINE_NS;

    while (told->len < strlen(what)) {
        g_assert_cmpint(nbd_now(), <, deadline);
        qemu_co_sleep_ns(LOOK_NS);
    }
    block_test_co_settle();
    g_assert_cmpstr(told->str, ==, what);
}

/* N9 */
static void coroutine_fn an_outage_of_many_connections_is_one(void)
{
    BdrvChild *user;
    BlockDriverState *bs = events_begin(TOY_ALL, "", &user);
    BlockTestRequest *req[16];

    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        req[i] = block_test_co_start(user, BLOCK_TEST_WRITE, i * 64 * KiB, 64 * KiB, 1);
    }
    toy_stop(&toy);
    expect_told("lost ");
    toy_start(&toy);
    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
    }
    expect_told("lost restored ");
    toy_stop(&toy);
    req[0] = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
    expect_told("lost restored lost ");
    toy_start(&toy);
    g_assert_cmpint(block_test_co_join(req[0]), ==, 0);
    expect_told("lost restored lost restored ");
    events_end(bs, user);
}

/* N9 */
static void coroutine_fn a_server_that_takes_us_in_to_throw_us_out_is_away(void)
{
    BdrvChild *user;
    BlockDriverState *bs = events_begin(TOY_ALL & ~TOY_MULTI_CONN, "", &user);
    BlockTestRequest *req;
    int connected = toy_get(&toy.connected);

    toy_set(&toy.lose_at, -1);
    req = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
    while (toy_get(&toy.connected) < connected + 5) {
        qemu_co_sleep_ns(LOOK_NS);
    }
    expect_told("lost ");
    toy_set(&toy.lose_at, 0);
    g_assert_cmpint(block_test_co_join(req), ==, 0);
    expect_told("lost restored ");
    events_end(bs, user);
}

/* N9 */
static void coroutine_fn giving_up_is_told(void)
{
    BdrvChild *user;
    BlockDriverState *bs = events_begin(TOY_ALL, ",\"reconnect-delay\":1", &user);
    uint8_t byte[512];

    toy_stop(&toy);
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    expect_told("lost given-up ");
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    toy_start(&toy);
    expect_told("lost given-up restored "); /* though nobody asks */
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, 0);
    expect_told("lost given-up restored ");
    events_end(bs, user);
}

/* N9 */
static void coroutine_fn without_a_delay_it_is_given_up_at_once(void)
{
    BdrvChild *user;
    BlockDriverState *bs = events_begin(TOY_ALL & ~TOY_MULTI_CONN, ",\"reconnect-delay\":0", &user);
    uint8_t byte[512];

    toy_stop(&toy);
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    expect_told("lost given-up ");
    toy_start(&toy);
    expect_told("lost given-up restored ");
    events_end(bs, user);
}

/* A server that is away is asked again after twice the time, not all the time. */
static void coroutine_fn attempts_become_rare(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    uint8_t byte[512];
    int hellos;

    toy_begin(TOY_ALL & ~TOY_MULTI_CONN);
    nbd_times.backoff_min = 10 * SCALE_MS;
    bs = toy_open(",\"reconnect-delay\":1", &user);
    toy_set(&toy.refuse_hello, 1);
    toy_kick(&toy);
    hellos = toy_get(&toy.hellos);
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    hellos = toy_get(&toy.hellos) - hellos;
    /* At 0, 10, 30, 70, 150, 310, 630 ms; fewer where the machine is slow. */
    g_assert_cmpint(hellos, >=, 3);
    g_assert_cmpint(hellos, <=, 9);
    toy_set(&toy.refuse_hello, 0);
    toy_close(bs, user);
}

void nbd_event_tests(void)
{
    block_test_add("/nbd/an outage of many connections is one",
                   an_outage_of_many_connections_is_one);
    block_test_add("/nbd/a server that takes us in to throw us out is away",
                   a_server_that_takes_us_in_to_throw_us_out_is_away);
    block_test_add("/nbd/giving up is told", giving_up_is_told);
    block_test_add("/nbd/without a delay it is given up at once",
                   without_a_delay_it_is_given_up_at_once);
    block_test_add("/nbd/attempts become rare", attempts_become_rare);
}
