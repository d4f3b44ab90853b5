/* SPDX-License-Identifier: GPL-2.0-or-later */
/* peer.c - the handshake with a server, as its client */
#include "programs/nbd/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/osdep.h"

#define NBD_HOST         "0.0.0.0"
#define NBD_PORT         "10809"
/* An answer is a name and a text about it, or a context: servers have no reason to send more. */
#define ANSWER_BYTES_MAX (4 + 2 * NBD_MAX_STRING + 1024)

static int connect_unix(const char *path, Error **errp)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, r = 0;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        error_setg(errp, "UNIX socket path '%s' is too long", path);
        return -ENAMETOOLONG;
    }
    memcpy(addr.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        r = -errno;
        error_setg_errno(errp, -r, "Failed to connect to '%s'", path);
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    return fd;
}

static int connect_inet(const char *host, const char *port, Error **errp)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int r = getaddrinfo(host, port, &hints, &list), fd = -1;

    if (r != 0) {
        error_setg(errp, "address resolution failed for %s:%s: %s", host, port, gai_strerror(r));
        return -EINVAL;
    }
    r = -EADDRNOTAVAIL;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            r = -errno;
            if (fd >= 0) {
                close(fd);
            }
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0) {
        error_setg_errno(errp, -r, "Failed to connect to '%s:%s'", host, port);
        return r;
    }
    return fd;
}

static int peer_read(NbdPeer *peer, void *buf, size_t length, Error **errp)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = recv(peer->fd, (char *)buf + done, length - done, 0);

        if (n == 0) {
            error_setg(errp, "The server has closed the connection");
            return -ECONNRESET;
        }
        if (n < 0 && errno != EINTR) {
            int r = -errno;

            error_setg_errno(errp, -r, "Failed to read from the server");
            return r;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int peer_write(NbdPeer *peer, const void *buf, size_t length, Error **errp)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = send(peer->fd, (const char *)buf + done, length - done, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) {
            int r = -errno;

            error_setg_errno(errp, -r, "Failed to write to the server");
            return r;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int greet(NbdPeer *peer, Error **errp)
{
    uint8_t hello[18], flags[4];
    uint32_t ours = 0;
    int r = peer_read(peer, hello, sizeof(hello), errp);

    if (r < 0) {
        return r;
    }
    if (ldq_be_p(hello) != NBD_INIT_MAGIC || ldq_be_p(hello + 8) != NBD_OPT_MAGIC) {
        error_setg(errp, "The server does not talk NBD, or does not list its exports");
        return -EPROTO;
    }
    if (!(ldw_be_p(hello + 16) & NBD_FLAG_FIXED_NEWSTYLE)) {
        error_setg(errp, "The server does not list its exports");
        return -EPROTO;
    }
    ours = NBD_FLAG_C_FIXED_NEWSTYLE;
    if (ldw_be_p(hello + 16) & NBD_FLAG_NO_ZEROES) {
        ours |= NBD_FLAG_C_NO_ZEROES;
    }
    stl_be_p(flags, ours);
    return peer_write(peer, flags, sizeof(flags), errp);
}

int nbd_peer_connect(NbdPeer *peer, const NbdOptions *o, Error **errp)
{
    int r;

    peer->fd = o->socket
                   ? connect_unix(o->socket, errp)
                   : connect_inet(o->bind ? o->bind : NBD_HOST, o->port ? o->port : NBD_PORT, errp);
    if (peer->fd < 0) {
        return peer->fd;
    }
    r = greet(peer, errp);
    if (r < 0) {
        close(peer->fd);
    }
    return r;
}

void nbd_peer_close(NbdPeer *peer)
{
    nbd_peer_ask(peer, NBD_OPT_ABORT, NULL, 0, NULL);
    close(peer->fd);
}

int nbd_peer_ask(NbdPeer *peer, uint32_t option, const void *data, size_t length, Error **errp)
{
    uint8_t head[NBD_OPT_HEADER_SIZE];
    int r;

    stq_be_p(head, NBD_OPT_MAGIC);
    stl_be_p(head + 8, option);
    stl_be_p(head + 12, (uint32_t)length);
    r = peer_write(peer, head, sizeof(head), errp);
    return r == 0 && length > 0 ? peer_write(peer, data, length, errp) : r;
}

int nbd_peer_answer(NbdPeer *peer, uint32_t option, NbdAnswer *answer, Error **errp)
{
    uint8_t head[NBD_OPT_REPLY_SIZE];
    int r;

    nbd_answer_clear(answer);
    r = peer_read(peer, head, sizeof(head), errp);
    if (r < 0) {
        return r;
    }
    if (ldq_be_p(head) != NBD_OPT_REPLY_MAGIC || ldl_be_p(head + 8) != option) {
        error_setg(errp, "The server has answered something else than what it was asked");
        return -EPROTO;
    }
    answer->type = ldl_be_p(head + 12);
    answer->length = ldl_be_p(head + 16);
    if (answer->length > ANSWER_BYTES_MAX) {
        error_setg(errp, "An answer of the server has %" PRIu32 " bytes", answer->length);
        return -EPROTO;
    }
    answer->data = g_malloc0(answer->length + 1);
    return peer_read(peer, answer->data, answer->length, errp);
}

void nbd_answer_clear(NbdAnswer *answer)
{
    g_free(answer->data);
    *answer = (NbdAnswer){0};
}
