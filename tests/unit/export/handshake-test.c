/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handshake as a client sees it, polite or not. */
#include "coro/sleep.h"
#include "server-test.h"

static void coroutine_fn go_tells_size_flags_and_block_sizes(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_STRUCTURED);

    g_assert_cmpuint(peer.size, ==, DISK_SIZE);
    g_assert_cmphex(peer.flags, ==,
                    NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                        NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_DF |
                        NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO);
    g_assert_cmpuint(peer.min_block, ==, bench.bs->bl.request_alignment);
    g_assert_cmpuint(peer.max_block, ==, NBD_MAX_BUFFER_SIZE);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn a_read_only_export_says_so(void *opaque)
{
    Bench bench = bench_new();
    Peer peer;

    bench_export("r", "ro", false, NULL, &error_abort);
    peer = peer_open(bench.path, "ro", NBD_MODE_SIMPLE);
    g_assert_true(peer.flags & NBD_FLAG_READ_ONLY);
    g_assert_false(peer.flags & (NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_DF));
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn an_unknown_export_is_an_answer_and_not_the_end(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_connect(bench.path);

    peer_greet(&peer, 3);
    g_assert_cmphex(peer_info(&peer, NBD_OPT_GO, "nope"), ==, NBD_REP_ERR_UNKNOWN);
    g_assert_cmphex(peer_info(&peer, NBD_OPT_INFO, "disk"), ==, NBD_REP_ACK);
    g_assert_cmphex(peer_info(&peer, NBD_OPT_GO, "disk"), ==, NBD_REP_ACK);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 0, 512, NULL), ==, 0);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn old_clients_begin_with_the_export_s_name(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_connect(bench.path);
    uint8_t reply[134];

    peer_greet(&peer, 1); /* the zeroes are wanted */
    peer_option(&peer, NBD_OPT_EXPORT_NAME, "disk", 4);
    peer_recv(&peer, reply, sizeof(reply));
    g_assert_cmpuint(ldq_be_p(reply), ==, DISK_SIZE);
    g_assert_true(buffer_is_zero(reply + 10, 124));
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_FLUSH, 0, 0, 0, NULL), ==, 0);
    peer_close(&peer);

    peer = peer_connect(bench.path);
    peer_greet(&peer, 3);
    peer_option(&peer, NBD_OPT_EXPORT_NAME, "nope", 4);
    peer_expect_closed(&peer);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn a_list_names_every_export(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_connect(bench.path);
    OptionReply reply;

    bench_export("second", "other", false, NULL, &error_abort);
    peer_greet(&peer, 3);
    peer_option(&peer, NBD_OPT_LIST, NULL, 0);
    peer_option_reply(&peer, NBD_OPT_LIST, &reply);
    g_assert_cmphex(reply.type, ==, NBD_REP_SERVER);
    g_assert_cmpmem(reply.data, reply.length, "\0\0\0\4disk", 8);
    peer_option_reply(&peer, NBD_OPT_LIST, &reply);
    g_assert_cmpmem(reply.data, reply.length, "\0\0\0\5other", 9);
    peer_option_reply(&peer, NBD_OPT_LIST, &reply);
    g_assert_cmphex(reply.type, ==, NBD_REP_ACK);
    g_assert_cmphex(peer_simple_option(&peer, NBD_OPT_LIST, "x", 1), ==, NBD_REP_ERR_INVALID);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn options_that_cannot_be_are_refused_one_by_one(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_connect(bench.path);
    g_autofree uint8_t *big = g_malloc0(NBD_MAX_OPTION + 1);

    peer_greet(&peer, 3);
    g_assert_cmphex(peer_simple_option(&peer, NBD_OPT_STARTTLS, NULL, 0), ==, NBD_REP_ERR_POLICY);
    g_assert_cmphex(peer_simple_option(&peer, 12345, "data", 4), ==, NBD_REP_ERR_UNSUP);
    g_assert_cmphex(peer_simple_option(&peer, NBD_OPT_GO, "\0\0\0\xff", 4), ==,
                    NBD_REP_ERR_INVALID);
    g_assert_cmphex(peer_simple_option(&peer, NBD_OPT_GO, big, NBD_MAX_OPTION + 1), ==,
                    NBD_REP_ERR_TOO_BIG);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation", NULL, 0),
                    ==, -1); /* before structured replies */
    peer_set_mode(&peer, NBD_MODE_STRUCTURED);
    g_assert_cmphex(peer_simple_option(&peer, NBD_OPT_STRUCTURED_REPLY, NULL, 0), ==,
                    NBD_REP_ERR_INVALID);
    peer_set_mode(&peer, NBD_MODE_EXTENDED);
    g_assert_cmphex(peer_simple_option(&peer, NBD_OPT_STRUCTURED_REPLY, NULL, 0), ==,
                    NBD_REP_ERR_EXT_HEADER_REQD);
    g_assert_cmphex(peer_simple_option(&peer, NBD_OPT_ABORT, NULL, 0), ==, NBD_REP_ACK);
    peer_expect_closed(&peer);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn contexts_are_listed_by_namespace_and_set_by_name(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_connect(bench.path);
    uint32_t ids[4] = {99, 99, 99, 99};

    peer_greet(&peer, 3);
    peer_set_mode(&peer, NBD_MODE_STRUCTURED);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_LIST_META_CONTEXT, "disk", NULL, ids, 4), ==, 1);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_LIST_META_CONTEXT, "disk", "base:", ids, 4), ==, 1);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_LIST_META_CONTEXT, "disk", "qemu:", ids, 4), ==, 0);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_LIST_META_CONTEXT, "disk", "bas", ids, 4), ==, 0);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_LIST_META_CONTEXT, "nope", NULL, ids, 4), ==, -1);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_SET_META_CONTEXT, "disk", "base:", ids, 4), ==, 0);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation", ids, 4),
                    ==, 1);
    g_assert_cmpuint(ids[0], ==, 0);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn contexts_of_another_export_are_void(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_connect(bench.path);

    bench_export("second", "other", false, NULL, &error_abort);
    peer_greet(&peer, 3);
    peer_set_mode(&peer, NBD_MODE_STRUCTURED);
    g_assert_cmpint(peer_meta(&peer, NBD_OPT_SET_META_CONTEXT, "other", "base:allocation", NULL, 0),
                    ==, 1);
    g_assert_cmphex(peer_info(&peer, NBD_OPT_GO, "disk"), ==, NBD_REP_ACK);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_BLOCK_STATUS, 0, 0, 4096, NULL), ==, NBD_EINVAL);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn a_silent_client_is_cut_when_its_time_is_over(void *opaque)
{
    Bench bench = bench_new();
    int64_t begin = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    Peer peer = peer_connect(bench.path);
    Peer half = peer_connect(bench.path);

    peer_greet(&half, 3);
    peer_send(&half, "IHAVE", 5);
    peer_expect_closed(&peer);
    peer_expect_closed(&half);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - begin, >=,
                    10 * NANOSECONDS_PER_SECOND);
    peer_close(&peer);
    peer_close(&half);
    bench_free(&bench);
}

static void coroutine_fn the_timer_ends_with_the_handshake(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);

    qemu_co_sleep_ns(60 * NANOSECONDS_PER_SECOND);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 0, 512, NULL), ==, 0);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn at_the_limit_the_next_client_waits(void *opaque)
{
    Bench bench = bench_new();
    Peer first, second;

    nbd_server_co_stop();
    bench_serve(&bench, 10, 1);
    bench_export("e", NULL, true, NULL, &error_abort);
    first = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    second = peer_connect(bench.path);
    qemu_co_sleep_ns(NANOSECONDS_PER_SECOND);
    g_assert_cmpint(recv(aio_channel_fd(second.ch), &(char){0}, 1, MSG_DONTWAIT | MSG_PEEK), ==,
                    -1);
    peer_close(&first);
    peer_greet(&second, 3);
    g_assert_cmphex(peer_info(&second, NBD_OPT_GO, "disk"), ==, NBD_REP_ACK);
    peer_close(&second);
    bench_free(&bench);
}

static void coroutine_fn wrong_magic_and_unknown_flags_end_the_handshake(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_connect(bench.path);

    peer_greet(&peer, 0xff00);
    peer_expect_closed(&peer);
    peer_close(&peer);
    peer = peer_connect(bench.path);
    peer_greet(&peer, 3);
    peer_send(&peer, "0123456789abcdef", 16);
    peer_expect_closed(&peer);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn random_bytes_never_do_harm(void *opaque)
{
    const char *given = g_getenv("SEED");
    uint32_t seed = given ? strtoul(given, NULL, 0) : g_random_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    Bench bench = bench_new();

    g_test_message("SEED=%u", seed);
    for (int round = 0; round < 64; round++) {
        Peer peer = round % 2 ? peer_open(bench.path, "disk", round % 3) : peer_connect(bench.path);
        uint8_t noise[16384];

        for (size_t i = 0; i < sizeof(noise); i++) {
            noise[i] = g_rand_int(rand);
        }
        if (round % 4 == 0) {
            stl_be_p(noise, 3); /* valid flags, then noise */
            stq_be_p(noise + 4, NBD_OPT_MAGIC);
        } else if (round % 4 == 1) {
            stl_be_p(noise, round % 3 == 2 ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
        }
        aio_channel_write_all(peer.ch, noise, sizeof(noise)); /* may fail: it may be cut already */
        peer_close(&peer);
    }
    bench_free(&bench);
}

int main(int argc, char **argv)
{
    int r;

    bench_init(&argc, &argv);
    TEST("handshake", go_tells_size_flags_and_block_sizes);
    TEST("handshake", a_read_only_export_says_so);
    TEST("handshake", an_unknown_export_is_an_answer_and_not_the_end);
    TEST("handshake", old_clients_begin_with_the_export_s_name);
    TEST("handshake", a_list_names_every_export);
    TEST("handshake", options_that_cannot_be_are_refused_one_by_one);
    TEST("handshake", contexts_are_listed_by_namespace_and_set_by_name);
    TEST("handshake", contexts_of_another_export_are_void);
    TEST("handshake", a_silent_client_is_cut_when_its_time_is_over);
    TEST("handshake", the_timer_ends_with_the_handshake);
    TEST("handshake", at_the_limit_the_next_client_waits);
    TEST("handshake", wrong_magic_and_unknown_flags_end_the_handshake);
    TEST("handshake", random_bytes_never_do_harm);
    r = g_test_run();
    aio_cleanup();
    return r;
}
