/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * channel.c - a stream of bytes to a peer, over a socket
 *
 *   read_all(28 bytes) ──▶ [ read buffer ] ◀── recv of all that has arrived, through the ring
 *   writev_all(reply)  ───────────────────────▶ sendmsg at once; through the ring if the peer is slow
 *
 * N1  A read is a request of the ring: it is submitted together with whatever else the turn queued,
 *     by the call that waits anyway, so it costs no system call of its own.  If the kernel says that
 *     the socket was drained (no SOCK_NONEMPTY), the next one is told not to try before there is
 *     something.
 * N2  A write is tried at once with sendmsg: socket buffers are empty nearly always, and the reply
 *     leaves a turn earlier.  Measured with tests/bench/aio-serve, the processor time is the same as
 *     through the ring within a few per cent, at depth 1 and, with gathered replies, at 32: a system
 *     call against a completion and two switches of stack.  Who has many replies gathers them into
 *     one writev (A2 says how); that is worth much more.
 * N3  A coroutine whose peer is always ready would never yield: after STREAK_MAX operations that did
 *     not wait it goes to the end of the queue (A1).
 * N4  shutdown() may come from any thread.  It marks the channel, then shuts the socket down: that
 *     ends every request on it, also those in the ring.  Whoever comes back looks at the mark, so
 *     that an end we made ourselves is -ECANCELED and not an end of stream.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "aio/channel.h"
#include "aio/aio-int.h"
#include "aio/uring.h"
#include "trace-aio-io.h"

/* N3: enough to use a full socket buffer, short enough for the others to wait. */
#define STREAK_MAX 32

/* One call's worth of a vector: what is usual for a reply or a gathered few of them; fits the stack. */
#define WRITEV_MAX 64

typedef struct AioSocket {
    AioChannel channel;
    int fd;
    char *peer;
    int streak; /* operations since the last that waited */
    bool
        knows_state; /* the kernel reports SOCK_NONEMPTY, so it also knows POLL_FIRST (Linux 5.19) */
    bool drained;    /* the last read took all there was */
} AioSocket;

static AioSocket *to_socket(AioChannel *ch)
{
    return container_of(ch, AioSocket, channel);
}

static bool is_shut(AioChannel *ch)
{
    return __atomic_load_n(&ch->shut, __ATOMIC_ACQUIRE);
}

/* N3 */
static void coroutine_fn be_fair(AioSocket *s)
{
    if (++s->streak >= STREAK_MAX) {
        s->streak = 0;
        aio_co_wake(qemu_coroutine_self());
        qemu_coroutine_yield();
    }
}

/* N1 */
static ssize_t coroutine_fn socket_recv_uring(AioContext *ctx, AioSocket *s, void *buf, size_t len)
{
    struct io_uring_sqe sqe;
    AioUringCo wait;
    int ret;

    io_uring_prep_recv(&sqe, s->fd, buf, MIN(len, (size_t)INT_MAX), 0);
    if (s->knows_state && s->drained) {
        sqe.ioprio |= IORING_RECVSEND_POLL_FIRST;
    }
    ret = aio_uring_co(ctx, &sqe, &wait);
    s->drained = !(wait.flags & IORING_CQE_F_SOCK_NONEMPTY);
    if (!s->drained) {
        s->knows_state = true;
    }
    return ret;
}

static ssize_t coroutine_fn socket_co_read(AioChannel *ch, void *buf, size_t len)
{
    AioContext *ctx = qemu_get_current_aio_context();
    AioSocket *s = to_socket(ch);
    ssize_t ret;

    for (;;) {
        if (is_shut(ch)) {
            return -ECANCELED;
        }
        if (ctx->uring) {
            ret = socket_recv_uring(ctx, s, buf, len);
        } else {
            be_fair(s);
            ret = recv(s->fd, buf, len, MSG_DONTWAIT);
            ret = ret < 0 ? -errno : ret;
        }
        if (ret == -EAGAIN) {
            s->streak = 0;
            aio_co_wait_fd_keep(s->fd, POLLIN, true);
        } else if (ret != -EINTR) {
            return ret <= 0 && is_shut(ch) ? -ECANCELED : ret; /* N4 */
        }
    }
}

/* The socket buffer is full: wait for room, and in the ring's case fill it. */
static ssize_t coroutine_fn socket_send_slow(AioContext *ctx, AioSocket *s, struct msghdr *msg)
{
    s->streak = 0;
    if (ctx->uring) {
        struct io_uring_sqe sqe;
        AioUringCo wait;
        int ret;

        io_uring_prep_sendmsg(&sqe, s->fd, msg, MSG_NOSIGNAL);
        ret = aio_uring_co(ctx, &sqe, &wait);
        if (ret != -EAGAIN) {
            return ret;
        }
    }
    aio_co_wait_fd_keep(s->fd, POLLOUT, true);
    return -EINTR; /* try again */
}

static ssize_t coroutine_fn socket_co_writev(AioChannel *ch, const struct iovec *iov, int niov)
{
    AioContext *ctx = qemu_get_current_aio_context();
    AioSocket *s = to_socket(ch);
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = niov};
    ssize_t ret;

    do {
        if (is_shut(ch)) {
            return -ECANCELED;
        }
        be_fair(s);
        ret = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT); /* N2 */
        ret = ret < 0 ? -errno : ret;
        if (ret == -EAGAIN) {
            ret = socket_send_slow(ctx, s, &msg);
        }
    } while (ret == -EINTR);
    return ret < 0 && is_shut(ch) ? -ECANCELED : ret; /* N4 */
}

static void socket_shutdown(AioChannel *ch)
{
    /* A socket that is not connected has nothing to end: its requests fail by themselves. */
    shutdown(to_socket(ch)->fd, SHUT_RDWR);
}

static void socket_close(AioChannel *ch)
{
    AioSocket *s = to_socket(ch);
    AioContext *ctx = qemu_get_current_aio_context();

    ctx->engine->forget_fd(ctx, s->fd);
    close(s->fd);
    g_free(s->peer);
    g_free(s);
}

static const AioChannelOps socket_ops = {
    .co_read = socket_co_read,
    .co_writev = socket_co_writev,
    .shutdown = socket_shutdown,
    .close = socket_close,
};

AioChannel *aio_channel_socket_new(int fd)
{
    AioSocket *s = g_new0(AioSocket, 1);
    int flags = fcntl(fd, F_GETFL);

    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    s->channel.ops = &socket_ops;
    s->fd = fd;
    s->peer = aio_socket_peer_name(fd);
    trace_aio_channel_new(&s->channel, fd, s->peer);
    return &s->channel;
}

int aio_channel_fd(AioChannel *ch)
{
    assert(ch->ops == &socket_ops);
    return to_socket(ch)->fd;
}

const char *aio_channel_peer(AioChannel *ch)
{
    assert(ch->ops == &socket_ops);
    return to_socket(ch)->peer;
}

void aio_channel_set_read_buffer(AioChannel *ch, size_t bytes)
{
    size_t kept = aio_channel_buffered(ch);
    char *buf = bytes ? g_malloc(bytes) : NULL;

    assert(kept <= bytes);
    if (kept) {
        memcpy(buf, ch->read_buf + ch->read_start, kept);
    }
    g_free(ch->read_buf);
    ch->read_buf = buf;
    ch->read_room = bytes;
    ch->read_start = 0;
    ch->read_end = kept;
}

size_t aio_channel_buffered(AioChannel *ch)
{
    return ch->read_end - ch->read_start;
}

/* Up to @len bytes out of the buffer. */
static size_t take_buffered(AioChannel *ch, void *buf, size_t len)
{
    size_t bytes = MIN(len, aio_channel_buffered(ch));

    if (bytes) {
        memcpy(buf, ch->read_buf + ch->read_start, bytes);
        ch->read_start += bytes;
    }
    return bytes;
}

ssize_t coroutine_fn aio_channel_read(AioChannel *ch, void *buf, size_t len)
{
    size_t bytes = take_buffered(ch, buf, len);
    ssize_t ret;

    if (bytes > 0 || len == 0) {
        return is_shut(ch) ? -ECANCELED : (ssize_t)bytes;
    }
    if (len >= ch->read_room) {
        return ch->ops->co_read(ch, buf, len);
    }
    ret = ch->ops->co_read(ch, ch->read_buf, ch->read_room);
    if (ret <= 0) {
        return ret;
    }
    ch->read_start = 0;
    ch->read_end = ret;
    return take_buffered(ch, buf, len);
}

int coroutine_fn aio_channel_read_all(AioChannel *ch, void *buf, size_t len)
{
    char *to = buf;

    while (len > 0) {
        ssize_t ret = aio_channel_read(ch, to, len);

        if (ret <= 0) {
            return ret < 0 ? ret : -ECONNRESET;
        }
        to += ret;
        len -= ret;
    }
    return 0;
}

int coroutine_fn aio_channel_write_all(AioChannel *ch, const void *buf, size_t len)
{
    struct iovec iov = {.iov_base = (void *)buf, .iov_len = len};

    return aio_channel_writev_all(ch, &iov, 1);
}

int coroutine_fn aio_channel_writev_all(AioChannel *ch, const struct iovec *iov, int niov)
{
    size_t total = iov_size(iov, niov);
    size_t done = 0;

    while (done < total) {
        struct iovec part[WRITEV_MAX];
        const struct iovec *next = iov;
        int count = niov;
        ssize_t ret;

        if (done > 0 || niov > WRITEV_MAX) {
            count = iov_copy(part, WRITEV_MAX, iov, niov, done, total - done);
            next = part;
        }
        ret = ch->ops->co_writev(ch, next, count);
        if (ret < 0) {
            return ret;
        }
        done += ret;
    }
    return 0;
}

void aio_channel_shutdown(AioChannel *ch)
{
    if (!__atomic_exchange_n(&ch->shut, true, __ATOMIC_ACQ_REL)) {
        trace_aio_channel_shutdown(ch);
        ch->ops->shutdown(ch);
    }
}

void aio_channel_close(AioChannel *ch)
{
    if (ch) {
        g_free(ch->read_buf);
        ch->ops->close(ch);
    }
}
