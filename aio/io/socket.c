/* SPDX-License-Identifier: GPL-2.0-or-later */
/* socket.c - making sockets: listen, connect, accept, and their addresses in words */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "aio/channel.h"
#include "aio/thread-pool.h"
#include "aio/aio-int.h"

/* "65535" and a name of the services database; both are cut by getnameinfo() otherwise. */
#define PORT_TEXT_BYTES NI_MAXSERV
#define HOST_TEXT_BYTES NI_MAXHOST

static int unix_address(struct sockaddr_un *un, const char *path, Error **errp)
{
    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    if (!*path) {
        error_setg(errp, "The path of a UNIX socket must not be empty");
        return -EINVAL;
    }
    if (strlen(path) >= sizeof(un->sun_path)) {
        error_setg(errp, "UNIX socket path '%s' is too long: it must be less than %zu bytes", path,
                   sizeof(un->sun_path));
        return -ENAMETOOLONG;
    }
    g_strlcpy(un->sun_path, path, sizeof(un->sun_path));
    return 0;
}

/* Is @un a socket file that no process listens on? */
static bool unix_is_stale(const struct sockaddr_un *un)
{
    struct stat st;
    bool stale;
    int fd;

    if (lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    /* A listener whose queue is full says EAGAIN: it lives. */
    stale = connect(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

int aio_socket_listen_unix(const char *path, Error **errp)
{
    struct sockaddr_un un;
    int fd, ret;

    ret = unix_address(&un, path, errp);
    if (ret < 0) {
        return ret;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Failed to create a UNIX socket");
        return ret;
    }
    ret = bind(fd, (struct sockaddr *)&un, sizeof(un));
    if (ret < 0 && errno == EADDRINUSE && unix_is_stale(&un)) {
        unlink(path);
        ret = bind(fd, (struct sockaddr *)&un, sizeof(un));
    }
    if (ret < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Failed to bind socket to '%s'", path);
    } else if (listen(fd, SOMAXCONN) < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Failed to listen on socket '%s'", path);
    }
    if (ret < 0) {
        close(fd);
        return ret;
    }
    return fd;
}

int aio_socket_connect_unix(const char *path, Error **errp)
{
    struct sockaddr_un un;
    int fd, ret;

    ret = unix_address(&un, path, errp);
    if (ret < 0) {
        return ret;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Failed to create a UNIX socket");
        return ret;
    }
    do {
        ret = connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ? -errno : 0;
    } while (ret == -EINTR);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to connect to '%s'", path);
        close(fd);
        return ret;
    }
    return fd;
}

/* Listen on one address.  Returns the fd or -errno. */
static int inet_listen_one(const struct addrinfo *ai, bool v6_only)
{
    int one = 1, only = v6_only;
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
    int ret;

    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ai->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    }
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
        ret = -errno;
        close(fd);
        return ret;
    }
    return fd;
}

int aio_socket_listen_inet(const char *host, const char *port, bool ipv4, bool ipv6, Error **errp)
{
    const char *name = host && *host ? host : NULL;
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int fd = -EADDRNOTAVAIL;
    int ret;

    hints.ai_family = ipv4 == ipv6 ? AF_UNSPEC : ipv4 ? AF_INET : AF_INET6;
    ret = getaddrinfo(name, port, &hints, &list);
    if (ret != 0) {
        error_setg(errp, "address resolution failed for %s:%s: %s", host ? host : "", port,
                   ret == EAI_SYSTEM ? strerror(errno) : gai_strerror(ret));
        return -EINVAL;
    }
    /* "All addresses" of both families is one socket, of IPv6: that comes first. */
    for (int family = AF_INET6; fd < 0 && family; family = family == AF_INET6 ? AF_INET : 0) {
        for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
            if (ai->ai_family == family) {
                fd = inet_listen_one(ai, name || ipv4 != ipv6);
            }
        }
    }
    freeaddrinfo(list);
    if (fd < 0) {
        error_setg_errno(errp, -fd, "Failed to bind socket to '%s:%s'", host ? host : "", port);
    }
    return fd;
}

typedef struct ListenInet {
    const char *host, *port;
    bool ipv4, ipv6;
    Error *err;
} ListenInet;

static int worker_listen_inet(void *opaque)
{
    ListenInet *l = opaque;

    return aio_socket_listen_inet(l->host, l->port, l->ipv4, l->ipv6, &l->err);
}

int coroutine_fn aio_co_socket_listen_inet(const char *host, const char *port, bool ipv4, bool ipv6,
                                           Error **errp)
{
    ListenInet l = {.host = host, .port = port, .ipv4 = ipv4, .ipv6 = ipv6};
    int ret = thread_pool_submit_co(worker_listen_inet, &l);

    if (l.err) {
        error_propagate(errp, l.err);
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot start a worker thread");
    }
    return ret;
}

static char *name_of(const struct sockaddr_storage *addr, socklen_t len, bool with_path)
{
    char host[HOST_TEXT_BYTES], port[PORT_TEXT_BYTES];

    if (addr->ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)addr;
        size_t room = len - offsetof(struct sockaddr_un, sun_path);

        return with_path ? g_strdup_printf("unix:%.*s", (int)room, un->sun_path) : g_strdup("unix");
    }
    if (getnameinfo((const struct sockaddr *)addr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return g_strdup("unknown");
    }
    return g_strdup_printf(addr->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

char *aio_socket_local_name(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);

    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        return g_strdup("unknown");
    }
    return name_of(&addr, len, true);
}

char *aio_socket_peer_name(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);

    if (getpeername(fd, (struct sockaddr *)&addr, &len) < 0) {
        return g_strdup("unknown");
    }
    return name_of(&addr, len, false);
}

int coroutine_fn aio_co_accept(int listen_fd)
{
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            int one = 1;

            /* Fails on a unix socket, which does not hold back small packets anyway. */
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            return fd;
        }
        if (errno == EAGAIN) {
            int revents = aio_co_wait_fd(listen_fd, POLLIN);

            if (revents < 0) {
                return revents;
            }
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return -errno;
        }
    }
}
