/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AioChannel: a stream of bytes to a peer.  Today a socket; the table leaves the door open for TLS.
 * A channel belongs to one AioContext at a time; one reader and one writer coroutine may use it at once.
 */
#ifndef AIO_CHANNEL_H
#define AIO_CHANNEL_H

#include <sys/socket.h>
#include <sys/uio.h>
#include "aio/aio.h"
#include "util/iov.h"

typedef struct AioChannel AioChannel;

/* What a kind of channel can do.  All in the channel's AioContext. */
typedef struct AioChannelOps {
    /* Up to @len bytes; 0 at the end; negative errno.  -ECANCELED after aio_channel_shutdown(). */
    ssize_t coroutine_fn (*co_read)(AioChannel *ch, void *buf, size_t len);
    ssize_t coroutine_fn (*co_writev)(AioChannel *ch, const struct iovec *iov, int niov);
    void (*shutdown)(AioChannel *ch);
    void (*close)(AioChannel *ch);
} AioChannelOps;

/* Takes ownership of @fd (made non-blocking and close-on-exec). */
AioChannel *aio_channel_socket_new(int fd);
int aio_channel_fd(AioChannel *ch);
/* Peer in words for messages: "unix", "127.0.0.1:1234". */
const char *aio_channel_peer(AioChannel *ch);

/* What is there, up to @len; 0 at the end of stream; negative errno. */
ssize_t coroutine_fn aio_channel_read(AioChannel *ch, void *buf, size_t len);
/* All @len bytes: 0; -ECONNRESET if the stream ended inside. */
int coroutine_fn aio_channel_read_all(AioChannel *ch, void *buf, size_t len);
int coroutine_fn aio_channel_write_all(AioChannel *ch, const void *buf, size_t len);
int coroutine_fn aio_channel_writev_all(AioChannel *ch, const struct iovec *iov, int niov);
/* Make reads and writes, also those in progress, end soon.  Any thread; idempotent. */
void aio_channel_shutdown(AioChannel *ch);
/* Nobody may be inside a read or write.  Frees. */
void aio_channel_close(AioChannel *ch);

/* Sockets.  All close-on-exec.  Return an fd or negative errno. */
int aio_socket_listen_unix(const char *path, Error **errp);    /* replaces a stale socket file */
int aio_socket_listen_inet(const char *host, const char *port, bool ipv4, bool ipv6, Error **errp);
int aio_socket_connect_unix(const char *path, Error **errp);
/* Accept one: fd, or -EAGAIN.  Sets TCP_NODELAY. */
int coroutine_fn aio_co_accept(int listen_fd);

#endif
