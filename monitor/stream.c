/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream.c - the bytes of one monitor client
 *
 * A socket is an AioChannel.  Stdin and stdout are not ours alone: setting O_NONBLOCK on them would
 * change them for the shell and for every other process on that terminal.  So they stay as they are and
 *
 *   ST1  a read is made only after the descriptor was seen readable;
 *   ST2  a write is made only after it was seen writable, and never longer than PIPE_BUF, for which a
 *        pipe that is writable has room: neither can block.
 */
#include "monitor/stream.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aio/channel.h"

/* One direction of a pair of descriptors. */
typedef struct MonStreamEnd {
    int fd;            /* -1: none */
    bool always_ready; /* a regular file: there is nothing to wait for */
    Coroutine *waiter;
} MonStreamEnd;

struct MonStream {
    AioChannel *channel; /* NULL: descriptors */
    MonStreamEnd in, out;
    bool shut;
};

MonStream *mon_stream_socket_new(int fd)
{
    MonStream *s = g_new0(MonStream, 1);

    s->channel = aio_channel_socket_new(fd);
    s->in.fd = s->out.fd = -1;
    return s;
}

static void mon_stream_end_init(MonStreamEnd *end, int fd)
{
    struct stat st;

    end->fd = fd;
    end->always_ready = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

MonStream *mon_stream_fds_new(int in_fd, int out_fd)
{
    MonStream *s = g_new0(MonStream, 1);

    mon_stream_end_init(&s->in, in_fd);
    mon_stream_end_init(&s->out, out_fd);
    return s;
}

static void mon_stream_end_ready(void *opaque)
{
    MonStreamEnd *end = opaque;
    Coroutine *co = end->waiter;

    if (end->fd >= 0) {
        aio_set_fd_handler(qemu_get_aio_context(), end->fd, NULL, NULL, NULL);
    }
    end->waiter = NULL;
    if (co) {
        aio_co_wake(co);
    }
}

/* ST1 ST2.  Without a descriptor: until a shutdown. */
static int coroutine_fn mon_stream_end_wait(MonStream *s, MonStreamEnd *end, bool write)
{
    if (s->shut) {
        return -ECANCELED;
    }
    if (end->always_ready) {
        return 0;
    }
    end->waiter = qemu_coroutine_self();
    if (end->fd >= 0) {
        aio_set_fd_handler(qemu_get_aio_context(), end->fd, write ? NULL : mon_stream_end_ready,
                           write ? mon_stream_end_ready : NULL, end);
    }
    qemu_coroutine_yield();
    return s->shut ? -ECANCELED : 0;
}

ssize_t coroutine_fn mon_stream_co_read(MonStream *s, void *buf, size_t len)
{
    if (s->channel) {
        return aio_channel_read(s->channel, buf, len);
    }
    for (;;) {
        ssize_t n;
        int r = mon_stream_end_wait(s, &s->in, false);

        if (r < 0) {
            return r;
        }
        n = read(s->in.fd, buf, len);
        if (n >= 0) {
            return n;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
    }
}

int coroutine_fn mon_stream_co_write(MonStream *s, const void *buf, size_t len)
{
    const char *p = buf;

    if (s->channel) {
        return aio_channel_write_all(s->channel, buf, len);
    }
    while (len > 0 && s->out.fd >= 0) {
        ssize_t n;
        int r = mon_stream_end_wait(s, &s->out, true);

        if (r < 0) {
            return r;
        }
        n = write(s->out.fd, p, MIN(len, (size_t)PIPE_BUF));
        if (n < 0) {
            if (errno == EINTR || errno == EAGAIN) {
                continue;
            }
            return -errno;
        }
        p += n;
        len -= n;
    }
    return 0;
}

void mon_stream_shutdown(MonStream *s)
{
    if (s->channel) {
        aio_channel_shutdown(s->channel);
        return;
    }
    s->shut = true;
    if (s->in.waiter) {
        mon_stream_end_ready(&s->in);
    }
    if (s->out.waiter) {
        mon_stream_end_ready(&s->out);
    }
}

void mon_stream_free(MonStream *s)
{
    if (s->channel) {
        aio_channel_close(s->channel);
    }
    g_free(s);
}
