/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server.c - the listening address, and the life of a connection around handshake and transmission
 *
 *   accept ──▶ client coroutine: handshake (main thread, timer) ──▶ nbd_client_run() ──▶ main thread: free
 *
 * S1  At the limit of connections we stop accepting; who comes waits in the kernel's queue.
 * S2  A connection belongs to the server from accept to free; the server has stopped when the last is gone.
 *
 * Main thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>
#include "block/export/nbd-server.h"
#include "block/export/nbd/nbd-int.h"
#include "trace-nbd-export.h"
#include "coro/lock.h"
#include "util/cutils.h"

/* Connections taken in one go before other events have their turn. */
#define NBD_ACCEPT_BATCH    16
/* Without descriptors or memory for another connection, ask again after this; nothing tells when there are. */
#define NBD_ACCEPT_RETRY_NS (200 * INT64_C(1000000))

typedef struct NbdServer {
    int fd;
    bool accepting;
    char *unlink_path; /* of the socket that we made; may be NULL */
    uint32_t handshake_max_seconds;
    uint32_t max_connections;
    unsigned n_connections;
    TlsCreds *tls_creds; /* one reference; NULL: in clear */
    char *tls_authz;
    QEMUTimer *retry;
    QTAILQ_HEAD(, NbdClient) clients;
} NbdServer;

static NbdServer *nbd_server;
/* Who waits for the last connection of a stopped server; one stop at a time. */
static CoQueue nbd_connections_gone = {.entries =
                                           QSIMPLEQ_HEAD_INITIALIZER(nbd_connections_gone.entries)};
static unsigned nbd_connections;
static bool nbd_server_held; /* nobody is accepted: see nbd_server_hold() */
static void (*nbd_gone_hook)(bool served, unsigned left);

bool nbd_server_is_running(void)
{
    return nbd_server != NULL;
}

static const char *scheme(void)
{
    return nbd_server->tls_creds ? "nbds" : "nbd";
}

static char *unix_uri(const char *path, const char *name, Error **errp)
{
    g_autofree char *absolute = NULL, *escaped_path = NULL;

    if (!*path) {
        error_setg(errp, "The NBD server listens on a socket that has no path");
        return NULL;
    }
    absolute = g_canonicalize_filename(path, NULL);
    escaped_path = g_uri_escape_string(absolute, "/", false);
    return g_strdup_printf("%s+unix:///%s?socket=%s", scheme(), name, escaped_path);
}

static char *inet_uri(const void *addr, int family, uint16_t port, const char *name)
{
    static const struct in_addr any4 = {INADDR_ANY};
    char host[INET6_ADDRSTRLEN];
    bool any = family == AF_INET ? memcmp(addr, &any4, sizeof(any4)) == 0
                                 : memcmp(addr, &in6addr_any, sizeof(in6addr_any)) == 0;

    if (any) {
        return g_strdup_printf("%s://localhost:%u/%s", scheme(), port, name);
    }
    inet_ntop(family, addr, host, sizeof(host));
    return g_strdup_printf(family == AF_INET ? "%s://%s:%u/%s" : "%s://[%s]:%u/%s", scheme(), host,
                           port, name);
}

char *nbd_server_uri(const char *name, Error **errp)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, false);
    union {
        struct sockaddr_storage any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } addr = {0};
    socklen_t length = sizeof(addr);

    assert(nbd_server);
    if (nbd_server->unlink_path) {
        return unix_uri(nbd_server->unlink_path, escaped, errp);
    }
    if (getsockname(nbd_server->fd, (struct sockaddr *)&addr, &length) < 0) {
        int err = errno;

        error_setg_errno(errp, err, "Cannot tell where the NBD server listens");
        return NULL;
    }
    switch (addr.any.ss_family) {
    case AF_UNIX:
        return unix_uri(addr.un.sun_path, escaped, errp);
    case AF_INET:
        return inet_uri(&addr.in.sin_addr, AF_INET, ntohs(addr.in.sin_port), escaped);
    case AF_INET6:
        return inet_uri(&addr.in6.sin6_addr, AF_INET6, ntohs(addr.in6.sin6_port), escaped);
    default:
        error_setg(errp, "The NBD server listens on a socket that no URI can name");
        return NULL;
    }
}

static void set_accepting(NbdServer *server, bool accepting);

/* The connection's last step, back in the main thread. */
static void connection_gone(void *opaque)
{
    NbdClient *client = opaque;
    bool served = client->exp != NULL;

    if (served) {
        nbd_export_detach(client);
    }
    if (nbd_server && QTAILQ_IN_USE(client, server_next)) {
        QTAILQ_REMOVE(&nbd_server->clients, client, server_next);
        nbd_server->n_connections--;
        set_accepting(nbd_server, true);
    }
    nbd_client_free(client);
    if (--nbd_connections == 0) {
        qemu_co_queue_restart_all(&nbd_connections_gone);
    }
    if (nbd_gone_hook) {
        nbd_gone_hook(served, nbd_connections);
    }
}

static void handshake_expired(void *opaque)
{
    trace_nbd_handshake_expired(opaque);
    nbd_client_shutdown(opaque);
}

static void coroutine_fn connection_entry(void *opaque)
{
    NbdClient *client = opaque;
    int r = nbd_handshake(client);

    if (client->handshake_timer) {
        timer_free(client->handshake_timer);
        client->handshake_timer = NULL;
    }
    if (r == 0) {
        nbd_client_run(client);
    }
    aio_channel_shutdown(client->ch);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), connection_gone, client);
}

static void connection_new(NbdServer *server, int fd)
{
    AioContext *ctx = qemu_get_aio_context();
    NbdClient *client = nbd_client_new(aio_channel_socket_new(fd));

    trace_nbd_connection(client, aio_channel_peer(client->ch));
    nbd_connections++;
    server->n_connections++;
    if (server->tls_creds) {
        tls_creds_ref(server->tls_creds);
        client->tls_creds = server->tls_creds;
        client->tls_authz = g_strdup(server->tls_authz);
    }
    QTAILQ_INSERT_TAIL(&server->clients, client, server_next);
    if (server->handshake_max_seconds > 0) {
        client->handshake_timer = aio_timer_new(ctx, handshake_expired, client);
        timer_mod_ns(client->handshake_timer,
                     qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                         server->handshake_max_seconds * NANOSECONDS_PER_SECOND);
    }
    aio_co_enter(ctx, qemu_coroutine_create(connection_entry, client));
}

static void accept_ready(void *opaque)
{
    NbdServer *server = opaque;

    for (int i = 0; i < NBD_ACCEPT_BATCH && server->accepting; i++) {
        int one = 1;
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                set_accepting(server, false);
                timer_mod_ns(server->retry,
                             qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + NBD_ACCEPT_RETRY_NS);
            }
            return;
        }
        /* Fails on a unix socket, which has no Nagle to switch off. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        connection_new(server, fd);
        set_accepting(server, true);
    }
}

static void accept_retry(void *opaque)
{
    set_accepting(opaque, true);
}

/* S1: yes means "as far as the limit allows, unless we are held". */
static void set_accepting(NbdServer *server, bool accepting)
{
    if (nbd_server_held) {
        accepting = false;
    }
    if (server->max_connections > 0 && server->n_connections >= server->max_connections) {
        accepting = false;
    }
    if (server->accepting != accepting) {
        server->accepting = accepting;
        aio_set_fd_handler(qemu_get_aio_context(), server->fd, accepting ? accept_ready : NULL,
                           NULL, accepting ? server : NULL);
    }
}

void nbd_server_hold(bool held)
{
    nbd_server_held = held;
    if (nbd_server) {
        set_accepting(nbd_server, true);
    }
}

void nbd_server_set_gone_hook(void (*hook)(bool served, unsigned left))
{
    nbd_gone_hook = hook;
}

bool nbd_server_has_room_for_two(void)
{
    return !nbd_server || nbd_server->max_connections != 1;
}

static int check_listening(int fd, Error **errp)
{
    int listening = 0;
    socklen_t length = sizeof(listening);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0) {
        int r = -errno;

        error_setg_errno(errp, -r, "File descriptor %d is not a socket", fd);
        return r;
    }
    if (!listening) {
        error_setg(errp, "The socket of file descriptor %d is not listening", fd);
        return -EINVAL;
    }
    return 0;
}

static int set_non_blocking(int fd, Error **errp)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        int r = -errno;

        error_setg_errno(errp, -r, "Cannot set up file descriptor %d", fd);
        return r;
    }
    return 0;
}

static int check_not_running(Error **errp)
{
    if (nbd_server) {
        error_setg(errp, "NBD server already running");
        return -EBUSY;
    }
    return 0;
}

/* Takes @fd and @unlink_path. */
static void server_begin(int fd, char *unlink_path, uint32_t handshake_max_seconds,
                         uint32_t max_connections)
{
    nbd_server = g_new0(NbdServer, 1);
    nbd_server->fd = fd;
    nbd_server->unlink_path = unlink_path;
    nbd_server->handshake_max_seconds = handshake_max_seconds;
    nbd_server->max_connections = max_connections;
    nbd_server->retry = aio_timer_new(qemu_get_aio_context(), accept_retry, nbd_server);
    QTAILQ_INIT(&nbd_server->clients);
    set_accepting(nbd_server, true);
}

int coroutine_fn nbd_server_co_start_fd(int listen_fd, uint32_t handshake_max_seconds,
                                        uint32_t max_connections, Error **errp)
{
    int r = check_not_running(errp);

    if (r == 0) {
        r = check_listening(listen_fd, errp);
    }
    if (r == 0) {
        r = set_non_blocking(listen_fd, errp);
    }
    if (r < 0) {
        return r; /* a number that is not a listener of the caller's is not ours to close */
    }
    server_begin(listen_fd, NULL, handshake_max_seconds, max_connections);
    return 0;
}

static int listen_fd_by_name(const char *text, Error **errp)
{
    int fd;

    if (qemu_strtoi(text, NULL, 10, &fd) < 0 || fd < 0) {
        error_setg(errp, "'%s' is not the number of a file descriptor", text);
        return -EINVAL;
    }
    return fd;
}

static int coroutine_fn listen_inet(const InetSocketAddress *inet, Error **errp)
{
    if (inet->has_to || (inet->has_numeric && inet->numeric)) {
        error_setg(errp,
                   "The NBD server listens on one port: 'to' and 'numeric' are not supported");
        return -ENOTSUP;
    }
    if (inet->has_keep_alive && inet->keep_alive) {
        error_setg(errp, "'keep-alive' is for a socket that connects, not for one that listens");
        return -ENOTSUP;
    }
    /* One family named means that the other is not wanted; naming none means both. */
    return aio_co_socket_listen_inet(
        inet->host, inet->port, inet->has_ipv4 ? inet->ipv4 : !(inet->has_ipv6 && inet->ipv6),
        inet->has_ipv6 ? inet->ipv6 : !(inet->has_ipv4 && inet->ipv4), errp);
}

int coroutine_fn nbd_server_co_start(const SocketAddress *addr, uint32_t handshake_max_seconds,
                                     uint32_t max_connections, Error **errp)
{
    char *unlink_path = NULL;
    int fd = check_not_running(errp);

    if (fd < 0) {
        return fd;
    }
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_UNIX:
        if (addr->u.q_unix.has_abstract && addr->u.q_unix.abstract) {
            error_setg(errp, "The NBD server does not listen on abstract sockets");
            return -ENOTSUP;
        }
        fd = aio_socket_listen_unix(addr->u.q_unix.path, errp);
        /* Absolute: a daemon that goes to the background changes its directory. */
        unlink_path = g_canonicalize_filename(addr->u.q_unix.path, NULL);
        break;
    case SOCKET_ADDRESS_TYPE_INET:
        fd = listen_inet(&addr->u.inet, errp);
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        fd = listen_fd_by_name(addr->u.fd.str, errp);
        return fd < 0 ? fd
                      : nbd_server_co_start_fd(fd, handshake_max_seconds, max_connections, errp);
    default:
        error_setg(errp, "The NBD server cannot listen on a '%s' address",
                   SocketAddressType_str(addr->type));
        return -ENOTSUP;
    }
    if (fd < 0) {
        g_free(unlink_path);
        return fd;
    }
    server_begin(fd, unlink_path, handshake_max_seconds, max_connections);
    return 0;
}

int coroutine_fn nbd_server_co_start_tls(const SocketAddress *addr, uint32_t handshake_max_seconds,
                                         uint32_t max_connections, const char *creds_id,
                                         const char *authz, Error **errp)
{
    TlsCreds *creds = NULL;
    int r;

    if (authz && !creds_id) {
        error_setg(errp, "'tls-authz' has no meaning without 'tls-creds'");
        return -EINVAL;
    }
    if (creds_id) {
        creds = tls_creds_ref_by_id(creds_id, true, errp);
        if (!creds) {
            return -EINVAL;
        }
    }
    r = nbd_server_co_start(addr, handshake_max_seconds, max_connections, errp);
    if (r < 0) {
        tls_creds_unref(creds);
        return r;
    }
    /* Nobody was accepted yet: the loop has not gone round. */
    nbd_server->tls_creds = creds;
    nbd_server->tls_authz = g_strdup(authz);
    return 0;
}

void coroutine_fn nbd_server_co_stop(void)
{
    NbdServer *server = nbd_server;
    NbdClient *client;

    if (!server) {
        return;
    }
    nbd_server = NULL;
    if (server->accepting) {
        aio_set_fd_handler(qemu_get_aio_context(), server->fd, NULL, NULL, NULL);
    }
    close(server->fd);
    if (server->unlink_path) {
        unlink(server->unlink_path);
    }
    timer_free(server->retry);
    while ((client = QTAILQ_FIRST(&server->clients))) {
        QTAILQ_REMOVE(&server->clients, client, server_next);
        nbd_client_shutdown(client);
    }
    g_free(server->unlink_path);
    tls_creds_unref(server->tls_creds);
    g_free(server->tls_authz);
    g_free(server);

    blk_exp_co_close_all_type(BLOCK_EXPORT_TYPE_NBD);
    while (nbd_connections > 0) {
        qemu_co_queue_wait(&nbd_connections_gone, NULL); /* S2 */
    }
}
