/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chardev.c - character devices: where a monitor's clients come from
 *
 *      listening socket --accept--> stream, stream, ...      (as long as somebody asks)
 *      connected socket, stdio, null ------> one stream, once
 *
 * A listening socket accepts only while somebody waits in chardev_co_next_stream(): clients beyond that
 * stay in the kernel's backlog, which is bounded.
 */
#include "monitor/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aio/aio.h"
#include "aio/channel.h"
#include "coro/sleep.h"
#include "util/cutils.h"

/*
 * Pause after accept() failed for want of descriptors or memory.  Without one the loop would spin, as the
 * socket stays readable.
 */
#define CHARDEV_ACCEPT_RETRY_NS (100 * INT64_C(1000000))

struct Chardev {
    char *id;
    int listen_fd;     /* -1: not a listener */
    char *unlink_path; /* of the listening socket we made, absolute; NULL: none */
    MonStream *first;  /* made, not yet handed out */
    bool claimed, shut;
    Coroutine *waiter; /* in chardev_co_next_stream() */
    QemuCoSleep retry;
};

static GSList *chardevs; /* of Chardev */
static bool stdio_taken;

Chardev *chardev_find(const char *id)
{
    for (GSList *l = chardevs; l; l = l->next) {
        Chardev *chr = l->data;

        if (!strcmp(chr->id, id)) {
            return chr;
        }
    }
    return NULL;
}

const char *chardev_id(const Chardev *chr)
{
    return chr->id;
}

bool chardev_is_listener(const Chardev *chr)
{
    return chr->listen_fd >= 0;
}

bool chardev_claim(Chardev *chr)
{
    if (chr->claimed) {
        return false;
    }
    chr->claimed = true;
    return true;
}

static void chardev_free(Chardev *chr)
{
    if (chr->first) {
        mon_stream_free(chr->first);
    }
    if (chr->listen_fd >= 0) {
        close(chr->listen_fd);
    }
    g_free(chr->unlink_path);
    g_free(chr->id);
    g_free(chr);
}

static int chardev_check_id(const char *id, Error **errp)
{
    if (!id || !*id) {
        error_setg(errp, "chardev: no id specified");
        return -EINVAL;
    }
    if (!id_wellformed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        return -EINVAL;
    }
    if (chardev_find(id)) {
        error_setg(errp, "Chardev with id '%s' already exists", id);
        return -EEXIST;
    }
    return 0;
}

static Chardev *chardev_add(const char *id)
{
    Chardev *chr = g_new0(Chardev, 1);

    chr->id = g_strdup(id);
    chr->listen_fd = -1;
    chardevs = g_slist_append(chardevs, chr);
    return chr;
}

static void chardev_remove(Chardev *chr)
{
    chardevs = g_slist_remove(chardevs, chr);
    chardev_free(chr);
}

/* Is @fd an open socket, in the listening state exactly when @want_listening? */
static int chardev_check_socket(int fd, bool want_listening, Error **errp)
{
    int listening = 0;
    socklen_t len = sizeof(listening);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0) {
        int err = errno;

        error_setg_errno(errp, err, "File descriptor %d is not a socket", fd);
        return -err;
    }
    if (!!listening != want_listening) {
        error_setg(errp,
                   want_listening ? "Socket descriptor %d is not listening (server=on)"
                                  : "Socket descriptor %d is listening; it needs server=on",
                   fd);
        return -EINVAL;
    }
    return 0;
}

static int chardev_take_fd(const char *text, bool server, Error **errp)
{
    int fd, r;

    if (qemu_strtoi(text, NULL, 10, &fd) < 0 || fd < 0) {
        error_setg(errp, "Unable to parse FD number %s", text);
        return -EINVAL;
    }
    r = chardev_check_socket(fd, server, errp);
    if (r < 0) {
        return r;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

/* Blocks: only used before the program serves anybody. */
static int chardev_connect_inet(const char *host, const char *port, bool ipv4, bool ipv6,
                                Error **errp)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    struct addrinfo *all;
    int r, fd = -1, err = ECONNREFUSED;

    if (ipv4 != ipv6) {
        hints.ai_family = ipv4 ? AF_INET : AF_INET6;
    }
    r = getaddrinfo(host, port, &hints, &all);
    if (r != 0) {
        error_setg(errp, "address resolution failed for %s:%s: %s", host, port, gai_strerror(r));
        return -EINVAL;
    }
    for (struct addrinfo *a = all; a; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
            break;
        }
        err = errno;
        if (fd >= 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(all);
    if (fd < 0) {
        error_setg_errno(errp, err, "Failed to connect to '%s:%s'", host, port);
        return -err;
    }
    return fd;
}

static int chardev_check_address(const ChardevOptions *o, Error **errp)
{
    int n = !!o->path + !!o->port + !!o->fd;

    if (n != 1) {
        error_setg(errp, "chardev: socket: %s",
                   n ? "only one of 'path', 'port' and 'fd' can be given"
                     : "one of 'path', 'port' and 'fd' must be given");
        return -EINVAL;
    }
    if (o->host && !o->port) {
        error_setg(errp, "chardev: socket: no port given");
        return -EINVAL;
    }
    return 0;
}

static int chardev_socket_fd(const ChardevOptions *o, Error **errp)
{
    if (o->fd) {
        return chardev_take_fd(o->fd, o->server, errp);
    }
    if (o->path) {
        return o->server ? aio_socket_listen_unix(o->path, errp)
                         : aio_socket_connect_unix(o->path, errp);
    }
    if (o->server) {
        return aio_socket_listen_inet(o->host ? o->host : "", o->port, o->ipv4, o->ipv6, errp);
    }
    return chardev_connect_inet(o->host && *o->host ? o->host : "localhost", o->port, o->ipv4,
                                o->ipv6, errp);
}

static void chardev_listen(Chardev *chr, int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    chr->listen_fd = fd;
}

static int coroutine_fn chardev_co_new_socket(const ChardevOptions *o, Error **errp)
{
    Chardev *chr;
    int fd = chardev_check_address(o, errp);

    if (fd == 0) {
        fd = chardev_socket_fd(o, errp);
    }
    if (fd < 0) {
        return fd;
    }
    chr = chardev_add(o->id);
    if (!o->server) {
        chr->first = mon_stream_socket_new(fd);
        return 0;
    }
    chardev_listen(chr, fd);
    chr->unlink_path = o->path ? g_canonicalize_filename(o->path, NULL) : NULL;
    if (o->wait) {
        MonStream *first = chardev_co_next_stream(chr);

        if (!first) {
            error_setg(errp, "Chardev '%s': stopped while waiting for a client", o->id);
            chardev_remove(chr);
            return -ECANCELED;
        }
        chr->first = first;
    }
    return 0;
}

static int chardev_new_stdio(const char *id, Error **errp)
{
    if (stdio_taken) {
        error_setg(errp, "cannot use stdio by multiple character devices");
        return -EBUSY;
    }
    stdio_taken = true;
    chardev_add(id)->first = mon_stream_fds_new(STDIN_FILENO, STDOUT_FILENO);
    return 0;
}

int coroutine_fn chardev_co_new(const ChardevOptions *o, Error **errp)
{
    int r = chardev_check_id(o->id, errp);

    if (r < 0) {
        return r;
    }
    switch (o->kind) {
    case CHARDEV_SOCKET:
        return chardev_co_new_socket(o, errp);
    case CHARDEV_STDIO:
        return chardev_new_stdio(o->id, errp);
    case CHARDEV_NULL:
        chardev_add(o->id)->first = mon_stream_fds_new(-1, -1);
        return 0;
    }
    g_assert_not_reached();
}

int chardev_new_listener(const char *id, int fd, Error **errp)
{
    int r = chardev_check_id(id, errp);

    if (r == 0) {
        r = chardev_check_socket(fd, true, errp);
    }
    if (r == 0) {
        chardev_listen(chardev_add(id), fd);
    }
    return r;
}

/* Somebody knocks, or it is over. */
static void chardev_wake(void *opaque)
{
    Chardev *chr = opaque;
    Coroutine *co = chr->waiter;

    chr->waiter = NULL;
    if (chr->listen_fd >= 0) {
        aio_set_fd_handler(qemu_get_aio_context(), chr->listen_fd, NULL, NULL, NULL);
    }
    if (co) {
        aio_co_wake(co);
    }
}

MonStream *coroutine_fn chardev_co_next_stream(Chardev *chr)
{
    MonStream *first = chr->first;

    if (first) {
        chr->first = NULL;
        return first;
    }
    while (chr->listen_fd >= 0 && !chr->shut) {
        int fd = accept4(chr->listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) {
            return mon_stream_socket_new(fd);
        }
        if (errno == EINTR || errno == ECONNABORTED) {
            continue;
        }
        if (errno != EAGAIN) {
            /* Out of descriptors or memory: the client waits in the backlog until some are free. */
            qemu_co_sleep_ns_wakeable(&chr->retry, CHARDEV_ACCEPT_RETRY_NS);
            continue;
        }
        chr->waiter = qemu_coroutine_self();
        aio_set_fd_handler(qemu_get_aio_context(), chr->listen_fd, chardev_wake, NULL, chr);
        qemu_coroutine_yield();
    }
    return NULL;
}

void chardev_shutdown(Chardev *chr)
{
    if (chr->shut) {
        return;
    }
    chr->shut = true;
    qemu_co_sleep_wake(&chr->retry);
    chardev_wake(chr);
    if (chr->unlink_path) {
        unlink(chr->unlink_path);
    }
}

void chardev_shutdown_all(void)
{
    for (GSList *l = chardevs; l; l = l->next) {
        chardev_shutdown(l->data);
    }
}

void chardev_cleanup(void)
{
    chardev_shutdown_all();
    g_slist_free_full(chardevs, (GDestroyNotify)chardev_free);
    chardevs = NULL;
}
