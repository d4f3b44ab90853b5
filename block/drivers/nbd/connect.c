/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One attempt to connect.
 *
 *    worker thread:  name -> addresses -> socket connected          bounded: nbd_times.connect, and
 *                                            |                      the resolver's own patience
 *    main thread:                            v
 *                    libnbd's handshake, its socket polled          bounded: nbd_times.handshake
 *                                            |
 *                                            v
 *                    what the server says is checked (H5)           NbdInfo
 *
 * N7  Whoever closes the node ends an attempt: the worker watches stop_fd beside its socket, and the
 *     handshake's poll is cancelled.  Only the look-up of a name cannot be cut short.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "block/drivers/nbd/nbd-int.h"
#include "block/io/io.h"
#include "util/cutils.h"
#include "trace-nbd-driver.h"

typedef struct NbdDial {
    const SocketAddress *addr;
    const char *peer;
    int stop_fd;
    int64_t timeout_ns;
    int fd;     /* out */
    Error *err; /* out */
} NbdDial;

/* Connect @fd, which is not blocking.  0 or negative errno. */
static int connect_within(NbdDial *d, int fd, const void *addr, socklen_t len)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLOUT}, {.fd = d->stop_fd, .events = POLLIN}};
    int error = 0, ready;
    socklen_t error_len = sizeof(error);

    if (connect(fd, addr, len) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS) {
        return -errno;
    }
    do {
        ready = poll(fds, 2, d->timeout_ns / SCALE_MS);
    } while (ready < 0 && errno == EINTR);
    if (ready < 0) {
        return -errno;
    }
    if (fds[1].revents) {
        return -ECANCELED;
    }
    if (ready == 0) {
        return -ETIMEDOUT;
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len) < 0 ? -errno : -error;
}

static int dial_one(NbdDial *d, int family, const void *addr, socklen_t len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int ret;

    if (fd < 0) {
        return -errno;
    }
    ret = connect_within(d, fd, addr, len);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    return fd;
}

static int dial_inet(NbdDial *d)
{
    const InetSocketAddress *a = &d->addr->u.inet;
    bool ipv4 = a->has_ipv4 ? a->ipv4 : !(a->has_ipv6 && a->ipv6);
    bool ipv6 = a->has_ipv6 ? a->ipv6 : !(a->has_ipv4 && a->ipv4);
    struct addrinfo hints = {
        .ai_family = ipv4 == ipv6 ? AF_UNSPEC
                     : ipv4       ? AF_INET
                                  : AF_INET6,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = a->has_numeric && a->numeric ? AI_NUMERICHOST | AI_NUMERICSERV : 0,
    };
    struct addrinfo *list = NULL;
    int fd = -EADDRNOTAVAIL, one = 1;
    int ret = getaddrinfo(a->host, a->port, &hints, &list);

    if (ret != 0) {
        error_setg(&d->err, "address resolution failed for %s:%s: %s", a->host, a->port,
                   ret == EAI_SYSTEM ? strerror(errno) : gai_strerror(ret));
        return -EHOSTUNREACH;
    }
    for (struct addrinfo *ai = list; ai && fd < 0 && fd != -ECANCELED; ai = ai->ai_next) {
        fd = dial_one(d, ai->ai_family, ai->ai_addr, ai->ai_addrlen);
    }
    freeaddrinfo(list);
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (a->has_keep_alive && a->keep_alive) {
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        }
    }
    return fd;
}

static int dial_unix(NbdDial *d)
{
    const UnixSocketAddress *a = &d->addr->u.q_unix;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    bool abstract = a->has_abstract && a->abstract;
    bool tight = !a->has_tight || a->tight;
    size_t len = strlen(a->path);
    socklen_t addr_len = sizeof(un);

    memcpy(un.sun_path + abstract, a->path, len); /* nbd_check_address() saw to the room */
    if (abstract && tight) {
        addr_len = offsetof(struct sockaddr_un, sun_path) + 1 + len;
    }
    return dial_one(d, AF_UNIX, &un, addr_len);
}

static int dial_vsock(NbdDial *d)
{
    const VsockSocketAddress *a = &d->addr->u.vsock;
    struct sockaddr_vm vm = {.svm_family = AF_VSOCK};
    uint64_t cid = 0, port = 0;

    qemu_strtou64(a->cid, NULL, 10, &cid); /* nbd_check_address() saw to the numbers */
    qemu_strtou64(a->port, NULL, 10, &port);
    vm.svm_cid = cid;
    vm.svm_port = port;
    return dial_one(d, AF_VSOCK, &vm, sizeof(vm));
}

static int dial_blocking(void *opaque)
{
    NbdDial *d = opaque;
    int fd;

    switch (d->addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        fd = dial_inet(d);
        break;
    case SOCKET_ADDRESS_TYPE_UNIX:
        fd = dial_unix(d);
        break;
    default:
        fd = dial_vsock(d);
        break;
    }
    d->fd = fd;
    if (fd < 0 && !d->err) {
        error_setg_errno(&d->err, -fd, "Failed to connect to '%s'", d->peer);
    }
    return MIN(fd, 0);
}

static bool is_u32(const char *text)
{
    uint64_t value;

    return qemu_strtou64(text, NULL, 10, &value) == 0 && value <= UINT32_MAX;
}

int nbd_check_address(const SocketAddress *addr, Error **errp)
{
    const UnixSocketAddress *u = &addr->u.q_unix;

    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        if (addr->u.inet.has_to) {
            error_setg(errp, "'to' is for listeners; a client connects to one port");
            return -EINVAL;
        }
        if (addr->u.inet.has_ipv4 && !addr->u.inet.ipv4 && addr->u.inet.has_ipv6 &&
            !addr->u.inet.ipv6) {
            error_setg(errp, "Cannot disable IPv4 and IPv6 at same time");
            return -EINVAL;
        }
        return 0;
    case SOCKET_ADDRESS_TYPE_UNIX:
        if (!*u->path || strlen(u->path) + 1 > sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
            error_setg(errp, "UNIX socket path '%s' must have 1 to %zu bytes", u->path,
                       sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
            return -EINVAL;
        }
        return 0;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        if (!is_u32(addr->u.vsock.cid) || !is_u32(addr->u.vsock.port)) {
            error_setg(errp, "vsock needs numbers, not cid '%s' and port '%s'", addr->u.vsock.cid,
                       addr->u.vsock.port);
            return -EINVAL;
        }
        return 0;
    default:
        error_setg(errp, "A server of type 'fd' is not supported: what was handed over once cannot "
                         "be connected again");
        return -ENOTSUP;
    }
}

char *nbd_make_uri(const SocketAddress *addr, const char *export_name)
{
    g_autofree char *name = g_uri_escape_string(export_name, "/", false);
    g_autofree char *path = NULL;

    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_UNIX:
        path = g_uri_escape_string(addr->u.q_unix.path, "/", false);
        return g_strdup_printf("nbd+unix:///%s?socket=%s", name, path);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return g_strdup_printf("nbd+vsock://%s:%s/%s", addr->u.vsock.cid, addr->u.vsock.port, name);
    case SOCKET_ADDRESS_TYPE_INET:
        return g_strdup_printf(strchr(addr->u.inet.host, ':') ? "nbd://[%s]:%s/%s"
                                                              : "nbd://%s:%s/%s",
                               addr->u.inet.host, addr->u.inet.port, name);
    default:
        return g_strdup("nbd");
    }
}

/* libnbd's words on the last error of this thread. */
static void set_nbd_error(NbdState *s, Error **errp)
{
    const char *why = nbd_get_error();

    error_setg(errp, "NBD server '%s': %s", s->peer, why ? why : "unknown error");
}

static struct nbd_handle *make_handle(NbdState *s, Error **errp)
{
    struct nbd_handle *nbd = nbd_create();

    if (!nbd || nbd_set_export_name(nbd, s->export_name) < 0 ||
        nbd_add_meta_context(nbd, s->context) < 0) {
        set_nbd_error(s, errp);
        nbd_close(nbd);
        return NULL;
    }
    return nbd;
}

typedef struct Patience {
    AioContext *ctx;
    int fd;
    bool over;
} Patience;

static void patience_over(void *opaque)
{
    Patience *p = opaque;

    p->over = true;
    aio_fd_cancel(p->ctx, p->fd);
}

/* Let libnbd shake hands.  0 or negative errno. */
static int coroutine_fn shake_hands(NbdState *s, struct nbd_handle *nbd, int fd, Error **errp)
{
    Patience patience = {.ctx = qemu_get_current_aio_context(), .fd = fd};
    QEMUTimer *timer = aio_timer_new(patience.ctx, patience_over, &patience);
    int ret = 0;

    timer_mod_ns(timer, nbd_now() + nbd_times.handshake);
    while (ret == 0 && !nbd_aio_is_ready(nbd)) {
        unsigned dir = nbd_aio_get_direction(nbd);
        int revents, notified = 0;

        if (s->closing) {
            error_setg(errp, "The node is being closed");
            ret = -ECANCELED;
            break;
        }
        if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd) || dir == 0) {
            error_setg(errp, "NBD server '%s' has closed the connection", s->peer);
            ret = -ECONNRESET;
            break;
        }
        revents = aio_co_wait_fd(fd, (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                                         (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
        if (patience.over || revents < 0) {
            ret = patience.over ? -ETIMEDOUT : revents;
            error_setg_errno(errp, -ret, "No handshake with NBD server '%s'", s->peer);
        } else if (dir & LIBNBD_AIO_DIRECTION_READ && revents & ~POLLOUT) {
            notified = nbd_aio_notify_read(nbd);
        } else {
            notified = nbd_aio_notify_write(nbd);
        }
        if (notified < 0) {
            ret = nbd_get_errno() > 0 ? -nbd_get_errno() : -EPROTO;
            set_nbd_error(s, errp);
        }
    }
    timer_free(timer);
    return ret;
}

/* H5: sizes that the rest of the room relies on. */
static int learn(NbdState *s, struct nbd_handle *nbd, NbdInfo *info, Error **errp)
{
    int64_t min = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
    int64_t opt = nbd_get_block_size(nbd, LIBNBD_SIZE_PREFERRED);
    int64_t max = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);

    info->size = nbd_get_size(nbd);
    if (info->size < 0 || info->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "NBD server '%s': the size of the export is beyond what a disk can have",
                   s->peer);
        return -EFBIG;
    }
    if (min <= 0) { /* nothing said: sectors go everywhere */
        min = info->size % BDRV_SECTOR_SIZE ? 1 : BDRV_SECTOR_SIZE;
    }
    if (!is_power_of_2(min) || min > NBD_BLOCK_MAX || info->size % min ||
        (opt > 0 && (!is_power_of_2(opt) || opt < min)) || (max > 0 && max < min)) {
        error_setg(errp,
                   "NBD server '%s': block sizes %" PRId64 ", %" PRId64 ", %" PRId64
                   " and a size of %" PRId64 " do not fit together",
                   s->peer, min, opt, max, info->size);
        return -EINVAL;
    }
    info->min_block = min;
    info->opt_block = MIN(MAX(opt, 0), NBD_TRANSFER_MAX);
    max = max > 0 ? MIN(max, NBD_TRANSFER_MAX) : NBD_TRANSFER_MAX;
    info->max_transfer = QEMU_ALIGN_DOWN(max, min);
    info->read_only = nbd_is_read_only(nbd) > 0;
    info->can_flush = nbd_can_flush(nbd) > 0;
    info->can_fua = nbd_can_fua(nbd) > 0;
    info->can_trim = nbd_can_trim(nbd) > 0;
    info->can_zero = nbd_can_zero(nbd) > 0;
    info->can_fast_zero = nbd_can_fast_zero(nbd) > 0;
    info->multi_conn = nbd_can_multi_conn(nbd) > 0;
    info->has_status = nbd_can_meta_context(nbd, s->context) > 0;
    if (s->other_context && !info->has_status) {
        error_setg(errp, "requested x-dirty-bitmap %s not found", s->context);
        return -EINVAL;
    }
    return 0;
}

static void conn_free(NbdConn *conn)
{
    if (nbd_aio_is_ready(conn->nbd)) {
        /* A good-bye, as far as the socket takes it at once. */
        nbd_aio_disconnect(conn->nbd, 0);
    }
    nbd_close(conn->nbd);
    close(conn->poll_fd);
    g_free(conn);
}

void nbd_conn_unref(NbdConn *conn)
{
    assert(conn->refs > 0);
    if (--conn->refs == 0) {
        assert(conn->in_flight == 0 && !conn->pumping && !conn->listed);
        conn_free(conn);
    }
}

/* libnbd takes the socket; N2: we poll by a name of our own. */
static int hand_over(NbdState *s, struct nbd_handle *nbd, int fd, int *ret_poll_fd, Error **errp)
{
    int poll_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int ret = -errno;

    if (poll_fd < 0) {
        error_setg_errno(errp, -ret, "NBD server '%s': no descriptor for the socket", s->peer);
        close(fd);
        return ret;
    }
    if (nbd_aio_connect_socket(nbd, fd) < 0) {
        ret = nbd_get_errno() > 0 ? -nbd_get_errno() : -EIO;
        set_nbd_error(s, errp);
        close(poll_fd);
        return ret;
    }
    *ret_poll_fd = poll_fd;
    return 0;
}

int coroutine_fn nbd_co_connect(NbdState *s, NbdConn **ret_conn, NbdInfo *ret_info, Error **errp)
{
    NbdDial dial = {
        .addr = s->addr, .peer = s->peer, .stop_fd = s->stop_fd, .timeout_ns = nbd_times.connect};
    struct nbd_handle *nbd;
    NbdConn *conn;
    int poll_fd = -1, ret;

    ret = thread_pool_submit_co(dial_blocking, &dial);
    if (ret < 0) {
        if (!dial.err) {
            error_setg_errno(&dial.err, -ret, "Cannot start a worker thread");
        }
        error_propagate(errp, dial.err);
        return ret;
    }
    nbd = make_handle(s, errp);
    if (!nbd) {
        close(dial.fd);
        return -ENOMEM;
    }
    ret = hand_over(s, nbd, dial.fd, &poll_fd, errp);
    if (ret < 0) {
        nbd_close(nbd);
        return ret;
    }
    s->handshake_fd = poll_fd;
    ret = shake_hands(s, nbd, poll_fd, errp);
    s->handshake_fd = -1;
    if (ret == 0) {
        ret = learn(s, nbd, ret_info, errp);
    }
    if (ret < 0) {
        nbd_close(nbd);
        close(poll_fd);
        return ret;
    }
    conn = g_new0(NbdConn, 1);
    *conn = (NbdConn){.nbd = nbd, .poll_fd = poll_fd, .refs = 1, .s = s};
    QTAILQ_INIT(&conn->ops);
    *ret_conn = conn;
    return 0;
}
