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

/* What every kind begins with; its fields are for the kind's own file and for channel.c. */
struct AioChannel {
    const AioChannelOps *ops;
    bool shut; /* atomic; set once */
    char *read_buf;
    size_t read_room, read_start, read_end;
};

/* Takes ownership of @fd (made non-blocking and close-on-exec). */
AioChannel *aio_channel_socket_new(int fd);
int aio_channel_fd(AioChannel *ch);
/* Peer in words for messages: "unix", "127.0.0.1:1234". */
const char *aio_channel_peer(AioChannel *ch);

/*
 * aio_channel_set_read_buffer() - read ahead, up to @bytes (0: not at all, as at first)
 *
 * For protocols of many small messages: what has arrived is taken by one request, and the following
 * reads are served from it.  A read of at least the buffer's size goes around it.  No read in progress;
 * what is buffered must fit.
 */
void aio_channel_set_read_buffer(AioChannel *ch, size_t bytes);
/* Bytes that a read would return without waiting. */
size_t aio_channel_buffered(AioChannel *ch);

/* What is there, up to @len; 0 at the end of stream; negative errno. */
ssize_t coroutine_fn aio_channel_read(AioChannel *ch, void *buf, size_t len);
/* All @len bytes: 0; -ECONNRESET if the stream ended inside. */
int coroutine_fn aio_channel_read_all(AioChannel *ch, void *buf, size_t len);
/* The -errno of a peer that is gone is -EPIPE or -ECONNRESET; no SIGPIPE. */
int coroutine_fn aio_channel_write_all(AioChannel *ch, const void *buf, size_t len);
int coroutine_fn aio_channel_writev_all(AioChannel *ch, const struct iovec *iov, int niov);
/* Make reads and writes, also those in progress, end soon.  Any thread; idempotent. */
void aio_channel_shutdown(AioChannel *ch);
/* In the channel's AioContext.  Nobody may be inside a read or write.  Frees; closes the socket. */
void aio_channel_close(AioChannel *ch);

/*
 * Sockets.  All close-on-exec and, for listening ones, non-blocking.  An fd or negative errno.
 * The ones that are not coroutine functions may block: a name server is asked (inet), or the peer's
 * queue is full (connect); for the start of a program.
 */
/* Replaces a socket file that nobody listens on any more; a live one is "Address already in use". */
int aio_socket_listen_unix(const char *path, Error **errp);
/*
 * @host NULL or "": all addresses.  @port: number or service name; "0": any free one.  @ipv4, @ipv6:
 * what is allowed; neither given means both.
 */
int aio_socket_listen_inet(const char *host, const char *port, bool ipv4, bool ipv6, Error **errp);
/* The same with the look-up in a worker thread. */
int coroutine_fn aio_co_socket_listen_inet(const char *host, const char *port, bool ipv4, bool ipv6,
                                           Error **errp);
int aio_socket_connect_unix(const char *path, Error **errp);
/* The address that @fd listens on, in words: "unix:PATH", "127.0.0.1:10809", "[::]:10809"; g_free(). */
char *aio_socket_local_name(int fd);
/* The same for the other end; a unix socket's is "unix". */
char *aio_socket_peer_name(int fd);

/*
 * aio_co_accept() - accept one connection: fd (non-blocking, TCP_NODELAY set)
 *
 * Waits for it.  -ECANCELED after aio_fd_cancel(); -EMFILE, -ENOMEM and the like are errors of this
 * process that come again at once: wait before the next try.
 */
int coroutine_fn aio_co_accept(int listen_fd);

#endif
