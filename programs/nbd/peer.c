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

#include "tls/channel.h"
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

static int coroutine_fn peer_read(NbdPeer *peer, void *buf, size_t length, Error **errp)
{
    int r = aio_channel_read_all(peer->ch, buf, length);

    if (r < 0) {
        error_setg_errno(errp, -r, "Failed to read from the server");
    }
    return r;
}

static int coroutine_fn peer_write(NbdPeer *peer, const void *buf, size_t length, Error **errp)
{
    int r = aio_channel_write_all(peer->ch, buf, length);

    if (r < 0) {
        error_setg_errno(errp, -r, "Failed to write to the server");
    }
    return r;
}

static int coroutine_fn greet(NbdPeer *peer, Error **errp)
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

static int coroutine_fn shake_hands(NbdPeer *peer, const NbdOptions *o, Error **errp)
{
    ERRP_GUARD();
    const char *hostname = o->tls_hostname ? o->tls_hostname : o->socket ? NULL : o->bind;
    TlsPeer tls = {.hostname = hostname};
    AioChannel *ch;

    tls.creds = tls_creds_ref_by_id(o->tls_creds, false, errp);
    if (!tls.creds) {
        error_prepend(errp, "Failed to get TLS creds: ");
        return -EINVAL;
    }
    ch = tls_channel_co_new(peer->ch, &tls, errp);
    tls_creds_unref(tls.creds);
    if (!ch) {
        return -EACCES;
    }
    peer->ch = ch;
    return 0;
}

static int coroutine_fn start_tls(NbdPeer *peer, const NbdOptions *o, Error **errp)
{
    NbdAnswer answer = {0};
    int r = nbd_peer_co_ask(peer, NBD_OPT_STARTTLS, NULL, 0, errp);

    if (r == 0) {
        r = nbd_peer_co_answer(peer, NBD_OPT_STARTTLS, &answer, errp);
    }
    if (r == 0 && answer.type != NBD_REP_ACK) {
        error_setg(errp, "Denied by server for option 5 (starttls)");
        r = -EPROTO;
    }
    nbd_answer_clear(&answer);
    return r == 0 ? shake_hands(peer, o, errp) : r;
}

int coroutine_fn nbd_peer_co_connect(NbdPeer *peer, const NbdOptions *o, Error **errp)
{
    const char *host = o->bind ? o->bind : NBD_HOST, *port = o->port ? o->port : NBD_PORT;
    int fd = o->socket ? connect_unix(o->socket, errp) : connect_inet(host, port, errp);
    int r;

    if (fd < 0) {
        return fd;
    }
    peer->ch = aio_channel_socket_new(fd);
    r = greet(peer, errp);
    if (r == 0 && o->tls_creds) {
        r = start_tls(peer, o, errp);
    }
    if (r < 0) {
        aio_channel_close(peer->ch);
    }
    return r;
}

void coroutine_fn nbd_peer_co_close(NbdPeer *peer)
{
    nbd_peer_co_ask(peer, NBD_OPT_ABORT, NULL, 0, NULL);
    aio_channel_close(peer->ch);
}

int coroutine_fn nbd_peer_co_ask(NbdPeer *peer, uint32_t option, const void *data, size_t length,
                                 Error **errp)
{
    uint8_t head[NBD_OPT_HEADER_SIZE];
    int r;

    stq_be_p(head, NBD_OPT_MAGIC);
    stl_be_p(head + 8, option);
    stl_be_p(head + 12, (uint32_t)length);
    r = peer_write(peer, head, sizeof(head), errp);
    return r == 0 && length > 0 ? peer_write(peer, data, length, errp) : r;
}

int coroutine_fn nbd_peer_co_answer(NbdPeer *peer, uint32_t option, NbdAnswer *answer, Error **errp)
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
