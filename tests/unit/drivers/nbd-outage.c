/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/nbd: servers that go away, come back, come back as others, or say nothing. */
#include <errno.h>
#include "aio/iothread.h"
#include "tests/unit/drivers/nbd-story.h"

ToyNbd toy;
static NbdTimes times_kept;

void toy_begin(unsigned flags)
{
    times_kept = nbd_times;
    toy = (ToyNbd){
        .size = TOY_SIZE, .flags = flags, .structured = true, .path = block_test_path("toy")};
    toy_start(&toy);
}

void toy_end(void)
{
    toy_stop(&toy);
    toy_free(&toy);
    g_clear_pointer(&toy.path, g_free);
    nbd_times = times_kept;
}

const char *toy_options(const char *more)
{
    static char text[1024];

    g_snprintf(text, sizeof(text),
               "{\"driver\":\"nbd\",\"node-name\":\"n\",\"discard\":\"unmap\","
               "\"server\":{\"type\":\"unix\",\"path\":\"%s\"}%s}",
               toy.path, more);
    return text;
}

BlockDriverState *coroutine_fn toy_open(const char *more, BdrvChild **ret_user)
{
    BlockDriverState *bs = block_test_co_open("%s", toy_options(more));

    *ret_user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    return bs;
}

void coroutine_fn toy_close(BlockDriverState *bs, BdrvChild *user)
{
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    g_assert_null(bdrv_find_node("n"));
    toy_end();
}

void coroutine_fn toy_wait(int *seen, int value)
{
    int64_t deadline = nbd_now() + DEADLINE_NS;

    while (toy_get(seen) != value) {
        g_assert_cmpint(nbd_now(), <, deadline);
        qemu_co_sleep_ns(LOOK_NS);
    }
}

void toy_serve(ToyNbd *server)
{
    static ToyNbd *served;

    if (served) {
        toy_stop(served);
        toy_free(served);
    }
    served = server;
    if (served) {
        toy_start(served);
    }
}

static void hurry_times(void)
{
    nbd_times.backoff_min = 1 * SCALE_MS;
    nbd_times.backoff_max = 20 * SCALE_MS;
    nbd_times.silence = 200 * SCALE_MS;
    nbd_times.hurry = 100 * SCALE_MS;
    nbd_times.handshake = 200 * SCALE_MS;
}

/* N3 */
static void coroutine_fn a_request_that_lost_its_connection_goes_out_again(void)
{
    BdrvChild *user;
    BlockDriverState *bs;

    toy_begin(TOY_ALL);
    nbd_times.backoff_min = 1 * SCALE_MS;
    bs = toy_open("", &user);
    for (int i = 1; i <= 20; i++) {
        toy_set(&toy.lose_at, toy_get(&toy.requests) + 1 + i % 3);
        block_test_co_fill(user, i * 4096, 4096, i);
        block_test_co_expect(user, i * 4096, 4096, i);
        g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    }
    for (int i = 1; i <= 20; i++) {
        block_test_co_expect(user, i * 4096, 4096, i);
    }
    g_assert_cmpint(toy_get(&toy.connected), >, 20);
    toy_close(bs, user);
}

static void coroutine_fn a_server_that_restarts_is_not_noticed(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *req[32];

    toy_begin(TOY_ALL);
    nbd_times.backoff_min = 1 * SCALE_MS;
    bs = toy_open("", &user);
    for (int round = 1; round <= 3; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
            req[i] =
                block_test_co_start(user, BLOCK_TEST_WRITE, i * 64 * KiB, 64 * KiB, round + (int)i);
        }
        toy_stop(&toy);
        block_test_co_settle();
        toy_start(&toy);
        for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
            g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
            block_test_co_expect(user, i * 64 * KiB, 64 * KiB, round + (int)i);
        }
    }
    toy_close(bs, user);
}

static void coroutine_fn after_the_delay_requests_fail_until_it_is_back(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    uint8_t byte[512];
    int64_t start;

    toy_begin(TOY_ALL);
    hurry_times();
    bs = toy_open(",\"reconnect-delay\":1", &user);
    toy_stop(&toy);
    start = nbd_now();
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    g_assert_cmpint(nbd_now() - start, >=, NANOSECONDS_PER_SECOND / 2);
    start = nbd_now();
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    g_assert_cmpint(nbd_now() - start, <, NANOSECONDS_PER_SECOND / 2);
    toy_start(&toy);
    toy_wait(&toy.live, NBD_CONNECTIONS_DEFAULT);
    block_test_co_settle();
    while (bdrv_co_pread(user, 0, 512, byte, 0) < 0) { /* the handshake is over there, not here */
        g_assert_cmpint(nbd_now() - start, <, DEADLINE_NS);
        qemu_co_sleep_ns(LOOK_NS);
    }
    block_test_co_fill(user, 0, 4096, 1);
    toy_close(bs, user);
}

/* N4 */
static void coroutine_fn without_a_delay_a_loss_is_told_at_once_and_by_every_flush(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    uint8_t byte[512];

    toy_begin(TOY_ALL & ~TOY_MULTI_CONN);
    hurry_times();
    bs = toy_open(",\"reconnect-delay\":0", &user);
    block_test_co_fill(user, 0, 4096, 1);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    toy_kick(&toy);
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    toy_wait(&toy.connected, 2);
    while (bdrv_co_pread(user, 0, 512, byte, 0) < 0) {
        qemu_co_sleep_ns(LOOK_NS);
    }
    block_test_co_fill(user, 0, 4096, 2);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0); /* nothing was lost */
    block_test_co_fill(user, 0, 4096, 3);
    toy_kick(&toy);
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    toy_wait(&toy.connected, 3);
    while (bdrv_co_pread(user, 0, 512, byte, 0) < 0) {
        qemu_co_sleep_ns(LOOK_NS);
    }
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO);
    block_test_co_fill(user, 0, 4096, 4);
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO);
    toy_close(bs, user);
}

static void coroutine_fn another_export_is_not_taken_for_the_one_that_went(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    uint8_t byte[512];
    int hellos;

    toy_begin(TOY_ALL);
    hurry_times();
    bs = toy_open(",\"reconnect-delay\":1", &user);
    block_test_co_fill(user, 0, 4096, 7);
    toy_stop(&toy);
    toy.size /= 2;
    toy_start(&toy);
    hellos = toy_get(&toy.hellos);
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, -EIO);
    g_assert_cmpint(toy_get(&toy.hellos), >, hellos);
    g_assert_cmpint(bdrv_getlength(bs), ==, TOY_SIZE);
    toy_stop(&toy);
    toy.size = TOY_SIZE;
    toy_start(&toy);
    while (bdrv_co_pread(user, 0, 512, byte, 0) < 0) {
        qemu_co_sleep_ns(LOOK_NS);
    }
    block_test_co_expect(user, 0, 4096, 7);
    toy_close(bs, user);
}

/* N5 */
static void coroutine_fn a_silent_server_is_given_up(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    uint8_t byte[512] = {1};

    toy_begin(TOY_ALL & ~TOY_MULTI_CONN);
    hurry_times();
    bs = toy_open("", &user);
    toy_set(&toy.silent, 1);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, 512, byte, 0), ==, -ETIMEDOUT);
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_WRITE]), ==, 1); /* not twice */
    toy_set(&toy.silent, 0);
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, byte, 0), ==, 0);
    toy_close(bs, user);
}

/* N6 */
static void coroutine_fn a_quiesce_of_a_silent_server_ends(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *req[8];

    toy_begin(TOY_ALL);
    hurry_times();
    nbd_times.silence = 3600 * NANOSECONDS_PER_SECOND;
    bs = toy_open(",\"reconnect-delay\":3600", &user);
    toy_set(&toy.silent, 1);
    toy_set(&toy.silent_hello, 1);
    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        req[i] = block_test_co_start(user, BLOCK_TEST_WRITE, 0, 4 * MiB, 1);
    }
    bdrv_co_drained_begin(bs);
    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        g_assert_true(block_test_done(req[i]));
        g_assert_cmpint(block_test_co_join(req[i]), <, 0);
    }
    bdrv_co_drained_end(bs);
    toy_close(bs, user);
}

/* N6 */
static void coroutine_fn a_quiesce_does_not_wait_for_one_byte_after_another(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *req;

    toy_begin(TOY_ALL);
    hurry_times();
    nbd_times.hurry = 30 * NANOSECONDS_PER_SECOND; /* it is never silent */
    nbd_times.hurry_max = 300 * SCALE_MS;
    bs = toy_open("", &user);
    toy_set(&toy.slow, 1);
    req = block_test_co_start(user, BLOCK_TEST_READ, 0, MiB, 0);
    bdrv_co_drained_begin(bs);
    g_assert_cmpint(block_test_co_join(req), ==, -ETIMEDOUT);
    bdrv_co_drained_end(bs);
    toy_set(&toy.slow, 0);
    toy_close(bs, user);
}

/* N6: each try is answered by the end of the connection. */
static void coroutine_fn a_quiesce_ends_though_the_server_always_comes_back(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *req;

    toy_begin(TOY_ALL & ~TOY_MULTI_CONN);
    hurry_times();
    bs = toy_open(",\"reconnect-delay\":3600", &user);
    toy_set(&toy.lose_at, -1);
    req = block_test_co_start(user, BLOCK_TEST_READ, 0, 4096, 0);
    bdrv_co_drained_begin(bs);
    g_assert_cmpint(block_test_co_join(req), ==, -EIO);
    bdrv_co_drained_end(bs);
    g_assert_cmpint(toy_get(&toy.connected), >, 2);
    toy_set(&toy.lose_at, 0);
    toy_close(bs, user);
}

/* N6 */
static void coroutine_fn cancelled_requests_do_not_wait_for_a_dead_server(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *held, *silent;
    uint8_t byte[512];

    toy_begin(TOY_ALL & ~TOY_MULTI_CONN);
    hurry_times();
    nbd_times.silence = 3600 * NANOSECONDS_PER_SECOND;
    bs = toy_open(",\"reconnect-delay\":3600", &user);
    toy_set(&toy.silent, 1);
    silent = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
    block_test_co_settle();
    bdrv_cancel_in_flight(bs);
    g_assert_cmpint(block_test_co_join(silent), ==, -ECANCELED);
    toy_stop(&toy);
    held = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(held));
    bdrv_cancel_in_flight(bs);
    g_assert_cmpint(block_test_co_join(held), ==, -ECANCELED);
    toy_set(&toy.silent, 0);
    toy_start(&toy);
    while (bdrv_co_pread(user, 0, 512, byte, 0) < 0) {
        qemu_co_sleep_ns(LOOK_NS);
    }
    toy_close(bs, user);
}

/* N6: more than are under way, to a server that says nothing or one that never comes to an end. */
static void coroutine_fn a_cancel_ends_whatever_the_server_does(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *req[40];

    for (int slow = 0; slow < 2; slow++) {
        int64_t start;

        toy_begin(TOY_ALL);
        nbd_times.silence = nbd_times.hurry = nbd_times.hurry_max = 3600 * NANOSECONDS_PER_SECOND;
        nbd_times.backoff_min = 1 * SCALE_MS;
        bs = toy_open(",\"reconnect-delay\":3600", &user);
        toy_wait(&toy.live, NBD_CONNECTIONS_DEFAULT);
        toy_set(slow ? &toy.slow : &toy.silent, 1);
        for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
            req[i] = block_test_co_start(user, BLOCK_TEST_READ, 0, MiB, 0);
        }
        block_test_co_settle();
        start = nbd_now();
        bdrv_cancel_in_flight(bs);
        for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
            g_assert_cmpint(block_test_co_join(req[i]), ==, -ECANCELED);
        }
        g_assert_cmpint(nbd_now() - start, <, 5 * nbd_times.cancel);
        toy_set(slow ? &toy.slow : &toy.silent, 0);
        block_test_co_fill(user, 0, MiB, 1);
        block_test_co_expect(user, 0, MiB, 1);
        toy_close(bs, user);
    }
}

/* N6: what comes after a cancel, and goes over the same connection, is somebody else's. */
static void coroutine_fn a_cancel_spares_what_comes_after_it(void)
{
    BdrvChild *user;
    BlockDriverState *bs;
    BlockTestRequest *before, *after;
    int seen;

    toy_begin(TOY_ALL & ~TOY_MULTI_CONN);
    hurry_times();
    nbd_times.silence = nbd_times.hurry = 3600 * NANOSECONDS_PER_SECOND;
    bs = toy_open("", &user);
    block_test_co_expect(user, 0, 512, 0); /* one goes alone (W1), and then two at a time */
    seen = toy_get(&toy.seen[TOY_CMD_READ]);
    toy_set(&toy.silent, 1);
    before = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
    toy_wait(&toy.seen[TOY_CMD_READ], seen + 1);
    bdrv_cancel_in_flight(bs);
    after = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
    toy_wait(&toy.seen[TOY_CMD_READ], seen + 2);
    toy_set(&toy.silent, 0);
    g_assert_cmpint(block_test_co_join(before), ==, -ECANCELED);
    g_assert_cmpint(block_test_co_join(after), ==, 0);
    g_assert_cmpint(toy_get(&toy.seen[TOY_CMD_READ]), ==, seen + 3);
    toy_close(bs, user);
}

/* N7 */
static void coroutine_fn a_node_is_closed_while_its_server_is_away(void)
{
    BdrvChild *user;
    BlockDriverState *bs;

    for (int i = 0; i < 3; i++) {
        BlockTestRequest *req;

        toy_begin(TOY_ALL);
        hurry_times();
        nbd_times.handshake = 3600 * NANOSECONDS_PER_SECOND;
        bs = toy_open(",\"reconnect-delay\":3600", &user);
        block_test_co_fill(user, 0, 4096, 1); /* there is something to flush */
        toy_stop(&toy);
        toy_set(&toy.hellos, 0);
        toy_set(&toy.silent_hello, 1);
        if (i > 0) {
            toy_start(&toy);
        }
        req = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
        if (i > 1) {
            toy_wait(&toy.hellos, 1);
        }
        block_test_co_user_free(user);
        bdrv_co_unref(bs);
        g_assert_null(bdrv_find_node("n"));
        g_assert_cmpint(block_test_co_join(req), ==, -EIO);
        if (i == 0) {
            toy_start(&toy);
        }
        toy_end();
    }
}

static void coroutine_fn an_open_waits_as_long_as_it_is_told(void)
{
    int64_t start = nbd_now();

    toy_begin(TOY_ALL);
    hurry_times();
    toy_set(&toy.silent_hello, 1);
    block_test_co_open_fails("No handshake", "%s", toy_options(""));
    toy_stop(&toy);
    block_test_co_open_fails("Failed to connect", "%s", toy_options(",\"open-timeout\":1"));
    g_assert_cmpint(nbd_now() - start, >=, NANOSECONDS_PER_SECOND / 2);
    toy_start(&toy);
    toy_end();
}

/* N2 */
static void coroutine_fn a_node_moves_among_iothreads(void)
{
    IOThread *threads[2] = {iothread_create("t0", AIO_ENGINE_AUTO, &error_abort),
                            iothread_create("t1", AIO_ENGINE_EPOLL, &error_abort)};
    AioContext *homes[3] = {iothread_get_aio_context(threads[0]),
                            iothread_get_aio_context(threads[1]), qemu_get_aio_context()};
    BdrvChild *user;
    BlockDriverState *bs;

    toy_begin(TOY_ALL);
    nbd_times.backoff_min = 1 * SCALE_MS;
    bs = toy_open("", &user);
    for (int i = 0; i < 12; i++) {
        AioContext *home = homes[i % 3];

        g_assert_cmpint(bdrv_co_try_change_aio_context(bs, home, &error_abort), ==, 0);
        if (i % 4 == 3) {
            toy_kick(&toy);
        }
        aio_co_reschedule_self(home);
        block_test_co_fill(user, i * MiB, MiB, i + 1);
        block_test_co_expect(user, i * MiB, MiB, i + 1);
        aio_co_reschedule_self(qemu_get_aio_context());
    }
    toy_close(bs, user);
    iothread_destroy(threads[0]);
    iothread_destroy(threads[1]);
}

/* A read-only node may be asked from any AioContext. */
static void coroutine_fn a_shared_base_is_read_from_elsewhere(void)
{
    IOThread *thread = iothread_create("t", AIO_ENGINE_AUTO, &error_abort);
    BlockDriverState *bs;
    BdrvChild *user;

    toy_begin(TOY_ALL);
    memset(toy.disk, 5, TOY_SIZE);
    bs = block_test_co_open("%s", toy_options(",\"read-only\":true"));
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    aio_co_reschedule_self(iothread_get_aio_context(thread));
    block_test_co_expect(user, 0, MiB, 5);
    aio_co_reschedule_self(qemu_get_aio_context());
    toy_close(bs, user);
    iothread_destroy(thread);
}

void nbd_outage_tests(void)
{
    block_test_add("/nbd/a request that lost its connection goes out again",
                   a_request_that_lost_its_connection_goes_out_again);
    block_test_add("/nbd/a server that restarts is not noticed",
                   a_server_that_restarts_is_not_noticed);
    block_test_add("/nbd/after the delay requests fail until it is back",
                   after_the_delay_requests_fail_until_it_is_back);
    block_test_add("/nbd/without a delay a loss is told at once, and by every flush",
                   without_a_delay_a_loss_is_told_at_once_and_by_every_flush);
    block_test_add("/nbd/another export is not taken for the one that went",
                   another_export_is_not_taken_for_the_one_that_went);
    block_test_add("/nbd/a silent server is given up", a_silent_server_is_given_up);
    block_test_add("/nbd/a quiesce of a silent server ends", a_quiesce_of_a_silent_server_ends);
    block_test_add("/nbd/a quiesce does not wait for one byte after another",
                   a_quiesce_does_not_wait_for_one_byte_after_another);
    block_test_add("/nbd/a quiesce ends though the server always comes back",
                   a_quiesce_ends_though_the_server_always_comes_back);
    block_test_add("/nbd/cancelled requests do not wait for a dead server",
                   cancelled_requests_do_not_wait_for_a_dead_server);
    block_test_add("/nbd/a cancel ends whatever the server does",
                   a_cancel_ends_whatever_the_server_does);
    block_test_add("/nbd/a cancel spares what comes after it", a_cancel_spares_what_comes_after_it);
    block_test_add("/nbd/a node is closed while its server is away",
                   a_node_is_closed_while_its_server_is_away);
    block_test_add("/nbd/an open waits as long as it is told", an_open_waits_as_long_as_it_is_told);
    block_test_add("/nbd/a node moves among iothreads", a_node_moves_among_iothreads);
    block_test_add("/nbd/a shared base is read from elsewhere",
                   a_shared_base_is_read_from_elsewhere);
}
