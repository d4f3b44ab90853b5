/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QMP sessions: framing, negotiation, garbage, several clients, events, clients that do not read. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "aio/aio.h"
#include "aio/timer.h"
#include "monitor/monitor.h"
#include "qapi/qapi-events-block-job.h"
#include "qapi/qapi-events-run-state.h"
#include "qapi/qapi-types-control.h"
#include "util/textbuf.h"

#define EVENT_LINE "\"event\": \"SHUTDOWN\""

/* One listening socket with a monitor, and a set of commands of the test's own. */
typedef struct Fixture {
    char *dir, *path;
    Error *err;
} Fixture;

static Coroutine *held_command; /* of the command "hold" */
static int commands_run;

static void coroutine_fn cmd_capabilities(json_t *args, json_t **ret, Error **errp)
{
    json_t *list = json_object_get(args, "enable");
    QMPCapabilityList *enable = list ? qapi_QMPCapabilityList_from_json(list, errp) : NULL;

    if (!*errp) {
        monitor_negotiate(enable, errp);
    }
    qapi_free_QMPCapabilityList(enable);
}

static void coroutine_fn cmd_echo(json_t *args, json_t **ret, Error **errp)
{
    *ret = json_deep_copy(args);
}

static void coroutine_fn cmd_fail(json_t *args, json_t **ret, Error **errp)
{
    error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "no such thing");
}

static void coroutine_fn cmd_hold(json_t *args, json_t **ret, Error **errp)
{
    held_command = qemu_coroutine_self();
    qemu_coroutine_yield();
    held_command = NULL;
}

static void coroutine_fn cmd_count(json_t *args, json_t **ret, Error **errp)
{
    commands_run++;
}

static const QmpCommand commands[] = {
    {"qmp_capabilities", cmd_capabilities, false},
    {"echo", cmd_echo, false},
    {"fail", cmd_fail, false},
    {"hold", cmd_hold, true},
    {"count", cmd_count, true},
};

static void coroutine_fn make_monitor(void *opaque)
{
    Fixture *f = opaque;
    ChardevOptions opts = {.kind = CHARDEV_SOCKET, .id = "c0", .path = f->path, .server = true};

    if (chardev_co_new(&opts, &f->err) == 0) {
        monitor_new(chardev_find("c0"), false, &f->err);
    }
}

static void fixture_open(Fixture *f, gconstpointer virtual_clock)
{
    aio_init(AIO_ENGINE_AUTO, &error_abort);
    qemu_clock_set_virtual(virtual_clock != NULL);
    monitor_init();
    monitor_set_commands(commands, G_N_ELEMENTS(commands));
    f->dir = g_dir_make_tmp("qblk-monitor-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "qmp.sock", NULL);
    commands_run = 0;
    aio_run_co(make_monitor, f);
    g_assert_null(f->err);
}

static void coroutine_fn end_monitor(void *opaque)
{
    monitor_co_cleanup();
}

static void fixture_close(Fixture *f, gconstpointer unused)
{
    aio_run_co(end_monitor, NULL);
    chardev_cleanup();
    qemu_clock_set_virtual(false);
    aio_cleanup();
    g_assert_cmpint(g_access(f->path, F_OK), <, 0); /* removed at the end */
    g_rmdir(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

/* A client: a socket that does not block, and what it has read. */
typedef struct Client {
    int fd;
    GString *in;
    bool eof;
} Client;

static void client_open(Client *c, const Fixture *f)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    g_strlcpy(addr.sun_path, f->path, sizeof(addr.sun_path));
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->in = g_string_new(NULL);
    c->eof = false;
}

static void client_close(Client *c)
{
    close(c->fd);
    g_string_free(c->in, TRUE);
}

static void client_send(Client *c, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);

        if (n > 0) {
            text += n;
            len -= n;
        } else {
            g_assert_cmpint(errno, ==, EAGAIN);
            aio_poll(qemu_get_aio_context(), true);
        }
    }
}

/* Take what is there; does not wait. */
static void client_receive(Client *c)
{
    char buf[65536];
    ssize_t n;

    while ((n = recv(c->fd, buf, sizeof(buf), 0)) > 0) {
        g_string_append_len(c->in, buf, n);
    }
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        c->eof = true;
    }
}

/* The next line, without its end; NULL at the end of the stream.  Runs the event loop meanwhile. */
static char *client_line(Client *c)
{
    for (;;) {
        char *end;

        client_receive(c);
        end = strstr(c->in->str, "\r\n");
        if (end) {
            char *line = g_strndup(c->in->str, end - c->in->str);

            g_string_erase(c->in, 0, end + 2 - c->in->str);
            return line;
        }
        if (c->eof) {
            return NULL;
        }
        aio_poll(qemu_get_aio_context(), true);
    }
}

static void client_expect(Client *c, const char *line)
{
    g_autofree char *got = client_line(c);

    g_assert_cmpstr(got, ==, line);
}

static void client_expect_eof(Client *c)
{
    g_assert_null(client_line(c));
}

static void client_expect_greeting(Client *c)
{
    g_autofree char *got = client_line(c);

    g_assert_true(g_str_has_prefix(got, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": "));
    g_assert_true(g_str_has_suffix(got, "\"capabilities\": [\"backup-staging-events\"]}}"));
}

static void client_negotiate(Client *c, const Fixture *f)
{
    client_open(c, f);
    client_expect_greeting(c);
    client_send(c, "{'execute': 'qmp_capabilities'}");
    client_expect(c, "{\"return\": {}}");
}

static void test_greeting(Fixture *f, gconstpointer unused)
{
    Client c;

    client_open(&c, f);
    client_expect_greeting(&c);
    client_send(&c, "{\"execute\": \"echo\", \"id\": 1}\n");
    client_expect(&c,
                  "{\"id\": 1, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting "
                  "capabilities negotiation with 'qmp_capabilities'\"}}");
    client_send(&c, "{\"execute\": \"qmp_capabilities\", \"id\": {\"a\": [null]}}\n");
    client_expect(&c, "{\"return\": {}, \"id\": {\"a\": [null]}}");
    client_send(&c, "{\"execute\": \"qmp_capabilities\"}\n");
    client_expect(
        &c, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Capabilities negotiation "
            "is already complete, command ignored\"}}");
    client_close(&c);
}

static void test_requests(Fixture *f, gconstpointer unused)
{
    Client c;

    client_negotiate(&c, f);
    client_send(&c, "{'execute': 'echo', 'arguments': {'x': 'caf\xc3\xa9'}}");
    client_expect(&c, "{\"return\": {\"x\": \"caf\\u00E9\"}}");
    client_send(&c, "{'execute': 'fail', 'id': 'f'}");
    client_expect(&c,
                  "{\"id\": \"f\", \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no such "
                  "thing\"}}");
    client_send(&c, "{'execute': 'nope'}");
    client_expect(
        &c, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command nope has not "
            "been found\"}}");
    /* two in one line, and one in pieces */
    client_send(&c, "{'execute': 'echo', 'id': 1}{'execute': 'echo', 'id': 2}{'exec");
    client_expect(&c, "{\"return\": {}, \"id\": 1}");
    client_expect(&c, "{\"return\": {}, \"id\": 2}");
    client_send(&c, "ute': 'echo', 'id': 3}");
    client_expect(&c, "{\"return\": {}, \"id\": 3}");
    client_close(&c);
}

static void test_wrong_shapes(Fixture *f, gconstpointer unused)
{
    static const char *const cases[][2] = {
        {"[1, 2]", "QMP input must be a JSON object"},
        {"'x' ", "QMP input must be a JSON object"},
        {"17 ", "QMP input must be a JSON object"},
        {"{'execute': 3}", "QMP input member 'execute' must be a string"},
        {"{'foo': 1}", "QMP input member 'foo' is unexpected"},
        {"{}", "QMP input lacks member 'execute'"},
        {"{'execute': 'echo', 'arguments': 3}", "QMP input member 'arguments' must be an object"},
        {"{'exec-oob': 'echo'}", "QMP input member 'exec-oob' is unexpected"},
    };
    Client c;

    client_negotiate(&c, f);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *reply = g_strdup_printf(
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"%s\"}}", cases[i][1]);

        client_send(&c, cases[i][0]);
        client_expect(&c, reply);
    }
    client_close(&c);
}

static void test_garbage(Fixture *f, gconstpointer unused)
{
    static const char *const garbage[] = {"garbage\n", "}\n", "{'execute': 'echo' 'id'}\n", "\xff",
                                          "{'a': '\xc3('}\n"};
    Client c;

    client_negotiate(&c, f);
    for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
        g_autofree char *reply = NULL;

        client_send(&c, garbage[i]);
        reply = client_line(&c);
        g_assert_true(g_str_has_prefix(
            reply, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, "));
        client_send(&c, "{'execute': 'echo', 'id': 7}\n");
        client_expect(&c, "{\"return\": {}, \"id\": 7}");
    }
    client_close(&c);
}

static void test_end_of_input(Fixture *f, gconstpointer unused)
{
    Client c;

    client_negotiate(&c, f);
    client_send(&c, "{'execute': 'echo', 'id': 1}{'execute': 'echo', 'id': 2}");
    shutdown(c.fd, SHUT_WR);
    client_expect(&c, "{\"return\": {}, \"id\": 1}");
    client_expect(&c, "{\"return\": {}, \"id\": 2}");
    client_expect_eof(&c);
    client_close(&c);
}

static void test_events_after_negotiation(Fixture *f, gconstpointer unused)
{
    Client silent, first, second;
    g_autofree char *one = NULL, *two = NULL;

    client_open(&silent, f);
    client_expect_greeting(&silent);
    client_negotiate(&first, f);
    client_negotiate(&second, f);
    qapi_event_send_shutdown(false, SHUTDOWN_CAUSE_HOST_SIGNAL);
    one = client_line(&first);
    two = client_line(&second);
    g_assert_nonnull(strstr(one, EVENT_LINE));
    g_assert_true(g_str_has_prefix(one, "{\"timestamp\": {\"seconds\": "));
    g_assert_cmpstr(one, ==, two);
    /* whoever has not negotiated sees the reply and no event before it */
    client_send(&silent, "{'execute': 'qmp_capabilities'}");
    client_expect(&silent, "{\"return\": {}}");
    client_close(&silent);
    client_close(&first);
    client_close(&second);
}

static void test_capabilities(Fixture *f, gconstpointer unused)
{
    static const char *const refused[][2] = {
        {"['oob']", "Capability 'oob' is not available"},
        {"['backup-staging-events', 'oob']", "Capability 'oob' is not available"},
    };
    Client c;

    client_open(&c, f);
    client_expect_greeting(&c);
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autofree char *request = g_strdup_printf(
            "{'execute': 'qmp_capabilities', 'arguments': {'enable': %s}}", refused[i][0]);
        g_autofree char *reply = g_strdup_printf(
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"%s\"}}", refused[i][1]);

        client_send(&c, request);
        client_expect(&c, reply);
    }
    /* still negotiating, and nothing was switched on by what was refused */
    client_send(&c, "{'execute': 'qmp_capabilities', 'arguments': {'enable': []}}");
    client_expect(&c, "{\"return\": {}}");
    qapi_event_send_backup_staging("j", 81, 81, 100);
    client_send(&c, "{'execute': 'echo', 'id': 1}");
    client_expect(&c, "{\"return\": {}, \"id\": 1}");
    client_close(&c);
}

static void test_events_by_capability(Fixture *f, gconstpointer unused)
{
    Client with, without;
    g_autofree char *line = NULL;

    client_negotiate(&without, f);
    client_open(&with, f);
    client_expect_greeting(&with);
    client_send(&with, "{'execute': 'qmp_capabilities', 'arguments': {'enable': "
                       "['backup-staging-events', 'backup-staging-events']}}");
    client_expect(&with, "{\"return\": {}}");
    qapi_event_send_backup_staging("j", 81, 81, 100);
    qapi_event_send_shutdown(false, SHUTDOWN_CAUSE_HOST_SIGNAL);
    line = client_line(&with);
    g_assert_nonnull(strstr(line, "\"event\": \"BACKUP_STAGING\", \"data\": {\"device\": \"j\", "
                                  "\"percent\": 81, \"staged\": 81, \"limit\": 100}}"));
    g_free(line);
    line = client_line(&with);
    g_assert_nonnull(strstr(line, EVENT_LINE));
    g_free(line);
    line = client_line(&without); /* its first event is the one after */
    g_assert_nonnull(strstr(line, EVENT_LINE));
    client_close(&with);
    client_close(&without);
}

static void test_one_at_a_time(Fixture *f, gconstpointer unused)
{
    Client first, second;

    client_negotiate(&first, f);
    client_negotiate(&second, f);
    client_send(&first, "{'execute': 'hold', 'id': 1}{'execute': 'echo', 'id': 2}");
    while (!held_command) {
        aio_poll(qemu_get_aio_context(), true);
    }
    /* one that does not yield passes, one that does waits */
    client_send(&second, "{'execute': 'echo', 'id': 3}{'execute': 'count', 'id': 4}");
    client_expect(&second, "{\"return\": {}, \"id\": 3}");
    while (aio_poll(qemu_get_aio_context(), false)) {
    }
    g_assert_cmpint(commands_run, ==, 0);
    aio_co_wake(held_command);
    client_expect(&first, "{\"return\": {}, \"id\": 1}");
    client_expect(&first, "{\"return\": {}, \"id\": 2}");
    client_expect(&second, "{\"return\": {}, \"id\": 4}");
    g_assert_cmpint(commands_run, ==, 1);
    client_close(&first);
    client_close(&second);
}

static void test_slow_reader_of_events(Fixture *f, gconstpointer unused)
{
    Client c;
    TextBuf text = TEXTBUF_INIT;

    client_negotiate(&c, f);
    /* the socket's buffer, then the queue, then it is cut off: bounded whatever we send */
    for (int i = 0; i < 100000; i++) {
        qapi_event_send_shutdown(false, SHUTDOWN_CAUSE_HOST_SIGNAL);
        aio_poll(qemu_get_aio_context(), false);
    }
    monitor_to_text(&text);
    g_assert_cmpstr(textbuf_str(&text), ==, "");
    for (char *line; (line = client_line(&c)) != NULL; g_free(line)) {
    }
    g_assert_true(c.eof);
    client_close(&c);
    textbuf_destroy(&text);
}

static void test_slow_reader_of_replies(Fixture *f, gconstpointer unused)
{
    g_autofree char *pad = g_strnfill(100000, 'x');
    g_autofree char *request =
        g_strdup_printf("{'execute': 'echo', 'arguments': {'pad': '%s'}, 'id': 0}", pad);
    size_t len = strlen(request), done = 0;
    Client c;
    int sent = 0, got = 0;

    client_negotiate(&c, f);
    /* write without reading until neither side moves */
    for (int idle = 0; idle < 100 && sent < 1000; idle++) {
        ssize_t n = send(c.fd, request + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            done += n;
            idle = 0;
        }
        if (done == len) {
            done = 0;
            sent++;
        }
        aio_poll(qemu_get_aio_context(), false);
    }
    g_assert_cmpint(sent, <, 1000);
    /* nothing is lost once it reads */
    shutdown(c.fd, SHUT_WR);
    for (char *line; (line = client_line(&c)) != NULL; g_free(line)) {
        got++;
    }
    g_assert_cmpint(got, ==, sent);
    client_close(&c);
}

static void send_io_error(const char *node, const char *reason)
{
    qapi_event_send_block_io_error("", "", node, IO_OPERATION_TYPE_WRITE, BLOCK_ERROR_ACTION_REPORT,
                                   false, false, reason);
}

static void expect_io_error(Client *c, const char *reason)
{
    g_autofree char *line = client_line(c);

    g_assert_nonnull(strstr(line, reason));
}

static void test_rate_limit(Fixture *f, gconstpointer unused)
{
    int64_t start;
    Client c;

    client_negotiate(&c, f);
    start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    for (int i = 0; i < 100; i++) {
        g_autofree char *reason = g_strdup_printf("error %d.", i);

        send_io_error("a", reason);
    }
    send_io_error("b", "another node.");
    /* the first at once, that of another node too, the last at the end of the second */
    expect_io_error(&c, "error 0.");
    expect_io_error(&c, "another node.");
    expect_io_error(&c, "error 99.");
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, >=, 1000 * 1000 * 1000);
    client_close(&c);
}

static void test_silent_clients(Fixture *f, gconstpointer unused)
{
    Client silent[80], c;

    for (size_t i = 0; i < G_N_ELEMENTS(silent); i++) {
        client_open(&silent[i], f);
        client_expect_greeting(&silent[i]);
    }
    client_negotiate(&c, f);
    client_expect_eof(&silent[0]); /* the oldest had to go */
    client_send(&c, "{'execute': 'echo', 'id': 1}");
    client_expect(&c, "{\"return\": {}, \"id\": 1}");
    client_close(&c);
    for (size_t i = 0; i < G_N_ELEMENTS(silent); i++) {
        client_close(&silent[i]);
    }
}

static void test_megabyte_of_garbage(Fixture *f, gconstpointer unused)
{
    const char *seed_text = g_getenv("SEED");
    guint32 seed = seed_text ? (guint32)strtoul(seed_text, NULL, 0) : g_random_int();
    GRand *rand = g_rand_new_with_seed(seed);
    Client bad, good;

    g_test_message("SEED=%u", seed);
    client_negotiate(&bad, f);
    for (int i = 0; i < 256 && !bad.eof; i++) {
        char buf[4096];
        size_t done = 0;

        for (size_t j = 0; j < sizeof(buf); j++) {
            buf[j] = (char)g_rand_int(rand);
        }
        while (done < sizeof(buf) && !bad.eof) {
            ssize_t n = send(bad.fd, buf + done, sizeof(buf) - done, MSG_NOSIGNAL);

            done += n > 0 ? n : 0;
            client_receive(&bad);
            aio_poll(qemu_get_aio_context(), false);
        }
    }
    client_negotiate(&good, f); /* nobody else is harmed */
    client_close(&bad);
    client_close(&good);
    g_rand_free(rand);
}

#define TEST(name, fn) \
    g_test_add("/monitor/session/" name, Fixture, NULL, fixture_open, fn, fixture_close)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("a client negotiates before anything else", test_greeting);
    TEST("requests are answered in order with their ids", test_requests);
    TEST("a request of the wrong shape is told what is wrong", test_wrong_shapes);
    TEST("after garbage the next request is understood", test_garbage);
    TEST("the end of input does not cut off replies", test_end_of_input);
    TEST("events go to all clients that have negotiated", test_events_after_negotiation);
    TEST("a client gets the capabilities that are on offer or none", test_capabilities);
    TEST("an event of ours goes only to clients that asked for it", test_events_by_capability);
    TEST("commands that yield run one at a time over all clients", test_one_at_a_time);
    TEST("a client that does not read its events is cut off", test_slow_reader_of_events);
    TEST("a client that does not read its replies is not read from", test_slow_reader_of_replies);
    g_test_add("/monitor/session/errors of one node come once a second, the last of them", Fixture,
               "virtual clock", fixture_open, test_rate_limit, fixture_close);
    TEST("silent clients do not keep others out", test_silent_clients);
    TEST("a megabyte of random bytes harms nobody", test_megabyte_of_garbage);
    return g_test_run();
}
