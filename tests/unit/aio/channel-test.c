/* SPDX-License-Identifier: GPL-2.0-or-later */
/* channel-test.c - readiness of descriptors, channels over sockets, listening and connecting */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "aio/channel.h"
#include "aio/iothread.h"
#include "coro/sleep.h"
#include "engines.h"
#include "util/osdep.h"

typedef struct Handler {
    int fd;
    int reads;
    int writes;
} Handler;

static void handler_read(void *opaque)
{
    ((Handler *)opaque)->reads++;
}

static void handler_write(void *opaque)
{
    ((Handler *)opaque)->writes++;
}

static void test_fd_handlers_are_level_triggered(void)
{
    AioContext *ctx = qemu_get_aio_context();
    Handler h = {.fd = eventfd(3, EFD_CLOEXEC | EFD_NONBLOCK)};
    eventfd_t value;

    aio_set_fd_handler(ctx, h.fd, handler_read, NULL, &h);
    poll_until(h.reads >= 3); /* nobody has read it */
    g_assert_cmpint(h.writes, ==, 0);
    aio_set_fd_handler(ctx, h.fd, handler_read, handler_write, &h);
    poll_until(h.writes >= 2);
    eventfd_read(h.fd, &value);
    aio_set_fd_handler(ctx, h.fd, NULL, NULL, NULL);
    h.reads = h.writes = 0;
    while (aio_poll(ctx, false)) {
    }
    g_assert_cmpint(h.reads + h.writes, ==, 0);
    close(h.fd);
}

static void remove_myself(void *opaque)
{
    Handler *h = opaque;

    h->reads++;
    aio_set_fd_handler(qemu_get_aio_context(), h->fd, NULL, NULL, NULL);
}

static void test_a_handler_may_remove_itself_and_the_number_be_used_again(void)
{
    AioContext *ctx = qemu_get_aio_context();

    for (int i = 0; i < 5; i++) {
        Handler h = {.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)};

        aio_set_fd_handler(ctx, h.fd, remove_myself, NULL, &h);
        poll_until(h.reads == 1);
        close(h.fd);
    }
}

static void test_a_regular_file_is_always_ready(void)
{
    AioContext *ctx = qemu_get_aio_context();
    FILE *file = tmpfile();
    Handler h = {.fd = fileno(file)};

    aio_set_fd_handler(ctx, h.fd, handler_read, NULL, &h);
    poll_until(h.reads >= 2);
    aio_set_fd_handler(ctx, h.fd, NULL, NULL, NULL);
    fclose(file);
}

static void coroutine_fn wait_for_fd(void *opaque)
{
    Handler *h = opaque;

    h->writes = aio_co_wait_fd(h->fd, POLLIN);
    h->reads = 1;
}

static void test_coroutines_wait_for_a_descriptor(void)
{
    AioContext *ctx = qemu_get_aio_context();
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    Handler a = {.fd = fd}, b = {.fd = fd}, c = {.fd = fd};

    aio_co_enter(ctx, qemu_coroutine_create(wait_for_fd, &a));
    aio_co_enter(ctx, qemu_coroutine_create(wait_for_fd, &b));
    aio_poll(ctx, false);
    g_assert_cmpint(a.reads + b.reads, ==, 0);
    eventfd_write(fd, 1);
    poll_until(a.reads && b.reads);
    g_assert_cmpint(a.writes, ==, POLLIN);
    g_assert_cmpint(b.writes, ==, POLLIN);

    eventfd_read(fd, &(eventfd_t){0});
    aio_co_enter(ctx, qemu_coroutine_create(wait_for_fd, &c));
    aio_fd_cancel(ctx, fd);
    aio_fd_cancel(ctx, fd);
    poll_until(c.reads);
    g_assert_cmpint(c.writes, ==, -ECANCELED);
    close(fd);
}

/* A pair of channels with a coroutine at each end. */
typedef struct Pair {
    AioChannel *a, *b;
    int ret_a, ret_b;
    int running;
} Pair;

static void pair_new(Pair *p)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    *p = (Pair){.a = aio_channel_socket_new(fds[0]), .b = aio_channel_socket_new(fds[1])};
    g_assert_cmpstr(aio_channel_peer(p->a), ==, "unix");
    g_assert_cmpint(aio_channel_fd(p->b), ==, fds[1]);
}

static void pair_run(Pair *p, CoroutineEntry *entry_a, CoroutineEntry *entry_b)
{
    AioContext *ctx = qemu_get_aio_context();

    p->running = 2;
    aio_co_enter(ctx, qemu_coroutine_create(entry_a, p));
    aio_co_enter(ctx, qemu_coroutine_create(entry_b, p));
    poll_until(p->running == 0);
}

static void pair_free(Pair *p)
{
    aio_channel_close(p->a);
    aio_channel_close(p->b);
}

enum { STREAM_BYTES = 3 * 1000 * 1000 };

static void coroutine_fn send_stream(void *opaque)
{
    Pair *p = opaque;
    GRand *rand = g_rand_new_with_seed(1);
    unsigned char *buf = g_malloc(STREAM_BYTES);
    struct iovec iov[200];
    size_t pos = 0;

    for (int i = 0; i < STREAM_BYTES; i++) {
        buf[i] = i % 253;
    }
    while (pos < STREAM_BYTES) {
        int count = g_rand_int_range(rand, 1, G_N_ELEMENTS(iov) + 1), used = 0;

        for (; used < count && pos < STREAM_BYTES; used++) {
            size_t len = MIN((size_t)g_rand_int_range(rand, 0, 3000), STREAM_BYTES - pos);

            iov[used].iov_base = buf + pos;
            iov[used].iov_len = len;
            pos += len;
        }
        g_assert_cmpint(aio_channel_writev_all(p->a, iov, used), ==, 0);
    }
    g_free(buf);
    g_rand_free(rand);
    aio_channel_shutdown(p->a);
    p->running--;
}

static void coroutine_fn receive_stream(void *opaque)
{
    Pair *p = opaque;
    GRand *rand = g_rand_new_with_seed(2);
    unsigned char *buf = g_malloc(20000);
    size_t pos = 0;

    while (pos < STREAM_BYTES) {
        size_t len = g_rand_int_range(rand, 1, g_rand_boolean(rand) ? 20000 : 40);

        len = MIN(len, STREAM_BYTES - pos);
        g_assert_cmpint(aio_channel_read_all(p->b, buf, len), ==, 0);
        for (size_t i = 0; i < len; i++) {
            g_assert_cmpint(buf[i], ==, (pos + i) % 253);
        }
        pos += len;
        if (pos > STREAM_BYTES / 2 && aio_channel_buffered(p->b) == 0) {
            aio_channel_set_read_buffer(p->b, 0);
        }
    }
    g_assert_cmpint(aio_channel_read(p->b, buf, 1), ==, 0);
    g_assert_cmpint(aio_channel_read_all(p->b, buf, 1), ==, -ECONNRESET);
    g_free(buf);
    g_rand_free(rand);
    p->running--;
}

static void test_a_stream_arrives_whole_and_in_order(void)
{
    for (int buffered = 0; buffered <= 1; buffered++) {
        Pair p;

        pair_new(&p);
        aio_channel_set_read_buffer(p.b, buffered ? 8192 : 0);
        pair_run(&p, send_stream, receive_stream);
        pair_free(&p);
    }
}

static void coroutine_fn read_for_ever(void *opaque)
{
    Pair *p = opaque;
    char byte;

    p->ret_a = aio_channel_read(p->a, &byte, 1);
    p->running--;
}

static void coroutine_fn write_for_ever(void *opaque)
{
    Pair *p = opaque;
    char *buf = g_malloc0(65536);

    do {
        p->ret_b = aio_channel_write_all(p->a, buf, 65536);
    } while (p->ret_b == 0);
    g_free(buf);
    p->running--;
}

static void *shutdown_from_thread(void *opaque)
{
    aio_channel_shutdown(opaque);
    return NULL;
}

static void test_shutdown_ends_a_read_and_a_write_in_progress(void)
{
    AioContext *ctx = qemu_get_aio_context();

    for (int from_thread = 0; from_thread <= 1; from_thread++) {
        Pair p;

        pair_new(&p);
        p.running = 2;
        aio_co_enter(ctx, qemu_coroutine_create(read_for_ever, &p));
        aio_co_enter(ctx, qemu_coroutine_create(write_for_ever, &p));
        while (aio_poll(ctx, false)) {
        }
        g_assert_cmpint(p.running, ==, 2);
        if (from_thread) {
            GThread *thread = g_thread_new("shutdown", shutdown_from_thread, p.a);

            poll_until(p.running == 0);
            g_thread_join(thread);
        } else {
            aio_channel_shutdown(p.a);
            aio_channel_shutdown(p.a);
            poll_until(p.running == 0);
        }
        g_assert_cmpint(p.ret_a, ==, -ECANCELED);
        g_assert_cmpint(p.ret_b, ==, -ECANCELED);
        pair_run(&p, read_for_ever, write_for_ever); /* and ever after */
        g_assert_cmpint(p.ret_a, ==, -ECANCELED);
        g_assert_cmpint(p.ret_b, ==, -ECANCELED);
        pair_free(&p);
    }
}

static void test_a_peer_that_is_gone_is_an_error(void)
{
    AioContext *ctx = qemu_get_aio_context();
    Pair p;

    pair_new(&p);
    aio_channel_close(p.b);
    p.running = 1;
    aio_co_enter(ctx, qemu_coroutine_create(write_for_ever, &p));
    poll_until(p.running == 0);
    g_assert_cmpint(p.ret_b, ==, -EPIPE);
    aio_channel_close(p.a);
}

typedef struct Server {
    int listen_fd;
    int accepted;
    int ret;
    bool ended;
} Server;

static void coroutine_fn accept_all(void *opaque)
{
    Server *s = opaque;
    int fd;

    while ((fd = aio_co_accept(s->listen_fd)) >= 0) {
        s->accepted++;
        g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
        close(fd);
    }
    s->ret = fd;
    s->ended = true;
}

static void test_connections_are_accepted_until_cancelled(void)
{
    AioContext *ctx = qemu_get_aio_context();
    g_autofree char *dir = g_dir_make_tmp("aio-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "socket", NULL);
    Server s = {.listen_fd = aio_socket_listen_unix(path, &error_abort)};
    g_autofree char *name = aio_socket_local_name(s.listen_fd);
    g_autofree char *expected = g_strdup_printf("unix:%s", path);
    int clients[3];

    g_assert_cmpstr(name, ==, expected);
    aio_co_enter(ctx, qemu_coroutine_create(accept_all, &s));
    for (int i = 0; i < 3; i++) {
        clients[i] = aio_socket_connect_unix(path, &error_abort);
    }
    poll_until(s.accepted == 3);
    aio_fd_cancel(ctx, s.listen_fd);
    poll_until(s.ended);
    g_assert_cmpint(s.ret, ==, -ECANCELED);
    for (int i = 0; i < 3; i++) {
        close(clients[i]);
    }
    close(s.listen_fd);
    unlink(path);
    rmdir(dir);
}

static void test_only_a_stale_unix_socket_is_replaced(void)
{
    g_autofree char *dir = g_dir_make_tmp("aio-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "socket", NULL);
    g_autofree char *file = g_build_filename(dir, "file", NULL);
    Error *err = NULL;
    char long_path[200];
    int fd = aio_socket_listen_unix(path, &error_abort);

    g_assert_cmpint(aio_socket_listen_unix(path, &err), ==, -EADDRINUSE);
    g_assert_nonnull(strstr(error_get_pretty(err), "Address already in use"));
    error_free_or_abort(&err);
    close(fd); /* the file stays, nobody listens */
    g_assert_cmpint(aio_socket_connect_unix(path, &err), ==, -ECONNREFUSED);
    error_free_or_abort(&err);
    fd = aio_socket_listen_unix(path, &error_abort);
    close(fd);
    unlink(path);

    g_assert_true(g_file_set_contents(file, "keep me", -1, NULL));
    g_assert_cmpint(aio_socket_listen_unix(file, &err), ==, -EADDRINUSE);
    error_free_or_abort(&err);
    g_assert_true(g_file_test(file, G_FILE_TEST_IS_REGULAR));
    unlink(file);
    rmdir(dir);

    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = 0;
    g_assert_cmpint(aio_socket_listen_unix(long_path, &err), ==, -ENAMETOOLONG);
    g_assert_nonnull(strstr(error_get_pretty(err), "too long"));
    error_free_or_abort(&err);
}

static void coroutine_fn listen_inet(void *opaque)
{
    int *fd = opaque;

    *fd = aio_co_socket_listen_inet("127.0.0.1", "0", true, false, &error_abort);
}

static void test_listening_on_tcp(void)
{
    g_autofree char *name = NULL;
    struct sockaddr_in in;
    socklen_t len = sizeof(in);
    Error *err = NULL;
    g_autofree char *port = NULL;
    AioChannel *ch;
    int fd, client, peer;

    aio_run_co(listen_inet, &fd);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&in, &len), ==, 0);
    port = g_strdup_printf("%d", ntohs(in.sin_port));
    name = aio_socket_local_name(fd);
    g_assert_true(g_str_has_prefix(name, "127.0.0.1:"));
    g_assert_cmpint(aio_socket_listen_inet("127.0.0.1", port, true, true, &err), ==, -EADDRINUSE);
    error_free_or_abort(&err);
    g_assert_cmpint(aio_socket_listen_inet("no such host", "0", true, true, &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "address resolution failed"));
    error_free_or_abort(&err);

    client = socket(AF_INET, SOCK_STREAM, 0);
    g_assert_cmpint(connect(client, (struct sockaddr *)&in, len), ==, 0);
    peer = accept(fd, NULL, NULL);
    ch = aio_channel_socket_new(peer);
    g_assert_true(g_str_has_prefix(aio_channel_peer(ch), "127.0.0.1:"));
    aio_channel_close(ch);
    close(client);
    close(fd);
}

/* Two threads, a channel between them, messages there and back. */
enum { ROUND_TRIPS = 2000 };

typedef struct Echo {
    AioChannel *ch;
    bool is_client;
    int *running;
} Echo;

static void coroutine_fn echo_entry(void *opaque)
{
    Echo *e = opaque;

    for (int i = 0; i < ROUND_TRIPS; i++) {
        int value = i;

        if (e->is_client) {
            g_assert_cmpint(aio_channel_write_all(e->ch, &value, sizeof(value)), ==, 0);
        }
        g_assert_cmpint(aio_channel_read_all(e->ch, &value, sizeof(value)), ==, 0);
        g_assert_cmpint(value, ==, i);
        if (!e->is_client) {
            g_assert_cmpint(aio_channel_write_all(e->ch, &value, sizeof(value)), ==, 0);
        }
    }
    aio_channel_close(e->ch);
    __atomic_fetch_sub(e->running, 1, __ATOMIC_SEQ_CST);
    aio_notify(qemu_get_aio_context());
}

static void test_a_conversation_between_two_threads(void)
{
    IOThread *iothread = iothread_create("echo", engine_under_test, &error_abort);
    int running = 2;
    Echo client = {.is_client = true, .running = &running}, server = {.running = &running};
    Pair p;

    pair_new(&p);
    client.ch = p.a;
    server.ch = p.b;
    aio_co_schedule(iothread_get_aio_context(iothread), qemu_coroutine_create(echo_entry, &server));
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(echo_entry, &client));
    poll_until(__atomic_load_n(&running, __ATOMIC_SEQ_CST) == 0);
    iothread_destroy(iothread);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    engine_test_add("fd handlers are level triggered", test_fd_handlers_are_level_triggered);
    engine_test_add("a handler may remove itself and the number be used again",
                    test_a_handler_may_remove_itself_and_the_number_be_used_again);
    engine_test_add("a regular file is always ready", test_a_regular_file_is_always_ready);
    engine_test_add("coroutines wait for a descriptor", test_coroutines_wait_for_a_descriptor);
    engine_test_add("a stream arrives whole and in order",
                    test_a_stream_arrives_whole_and_in_order);
    engine_test_add("shutdown ends a read and a write in progress",
                    test_shutdown_ends_a_read_and_a_write_in_progress);
    engine_test_add("a peer that is gone is an error", test_a_peer_that_is_gone_is_an_error);
    engine_test_add("connections are accepted until cancelled",
                    test_connections_are_accepted_until_cancelled);
    engine_test_add("only a stale unix socket is replaced",
                    test_only_a_stale_unix_socket_is_replaced);
    engine_test_add("listening on tcp", test_listening_on_tcp);
    engine_test_add("a conversation between two threads", test_a_conversation_between_two_threads);
    return g_test_run();
}
