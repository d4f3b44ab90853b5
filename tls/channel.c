/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * channel.c - a stream of bytes over another, encrypted
 *
 *      read   ◀── gnutls_record_recv ◀── [ in ]  ◀── lower: what has arrived
 *      writev ──▶ gnutls_record_send ──▶ [ out ] ──▶ lower: all of it, in one write
 *
 * T1  gnutls takes from and gives to memory, and never waits: what waits is the lower channel's read and write.  So
 *     no coroutine yields inside gnutls, and the lock around it is held for as long as the arithmetic takes.
 * T2  Records leave in the order in which they were made: what is in `out` is taken, all of it, by one who holds the
 *     send lock until it is written.  A reader may have made some, too (an answer of the protocol's own).
 * T3  A stream that ends without a word of the peer's is cut: -ECONNRESET, not an end.
 * T4  With authz, but without a certificate to look at (verify-peer=off, PSK), nobody is let in.
 */
#include "tls/channel.h"

#include <errno.h>
#include <string.h>

#include "coro/lock.h"
#include "tls/session.h"
#include "util/osdep.h"

/* What one read of the lower channel takes: a few records, which are 16 KiB at most. */
#define IN_BYTES    (64 * KiB)
/* Plain bytes that are encrypted before they are written: enough for one system call to be worth it. */
#define PIECE_BYTES (256 * KiB)

typedef struct TlsChannel {
    AioChannel channel;
    AioChannel *lower;
    GMutex lock; /* what follows (T1) */
    gnutls_session_t session;
    GByteArray *out;
    uint8_t *in;
    size_t in_start, in_end;
    bool in_ended; /* the lower channel's stream has */

    CoMutex send_lock; /* T2 */
} TlsChannel;

static TlsChannel *to_tls(AioChannel *ch)
{
    return container_of(ch, TlsChannel, channel);
}

/* T1: called by gnutls, under the lock. */
static ssize_t pull(gnutls_transport_ptr_t opaque, void *buf, size_t len)
{
    TlsChannel *t = opaque;
    size_t n = MIN(len, t->in_end - t->in_start);

    if (n == 0 && !t->in_ended) {
        gnutls_transport_set_errno(t->session, EAGAIN);
        return -1;
    }
    memcpy(buf, t->in + t->in_start, n);
    t->in_start += n;
    return (ssize_t)n;
}

static ssize_t push(gnutls_transport_ptr_t opaque, const void *buf, size_t len)
{
    TlsChannel *t = opaque;

    g_byte_array_append(t->out, buf, (guint)len);
    return (ssize_t)len;
}

/* T2 */
static int coroutine_fn flush_out(TlsChannel *t)
{
    GByteArray *taken = NULL;
    int r = 0;

    qemu_co_mutex_lock(&t->send_lock);
    g_mutex_lock(&t->lock);
    if (t->out->len > 0) {
        taken = t->out;
        t->out = g_byte_array_new();
    }
    g_mutex_unlock(&t->lock);
    if (taken) {
        r = aio_channel_write_all(t->lower, taken->data, taken->len);
        g_byte_array_unref(taken);
    }
    qemu_co_mutex_unlock(&t->send_lock);
    return r;
}

/* More for gnutls to read; only the reader is here. */
static int coroutine_fn fill_in(TlsChannel *t)
{
    ssize_t n = aio_channel_read(t->lower, t->in, IN_BYTES);

    g_mutex_lock(&t->lock);
    t->in_start = 0;
    t->in_end = n > 0 ? (size_t)n : 0;
    t->in_ended = n == 0;
    g_mutex_unlock(&t->lock);
    return n < 0 ? (int)n : 0;
}

static int error_of(int code)
{
    return code == GNUTLS_E_PREMATURE_TERMINATION ? -ECONNRESET : -EIO; /* T3 */
}

static ssize_t coroutine_fn tls_co_read(AioChannel *ch, void *buf, size_t len)
{
    TlsChannel *t = to_tls(ch);
    bool has_out;
    ssize_t n;
    int r = 0;

    do {
        g_mutex_lock(&t->lock);
        n = gnutls_record_recv(t->session, buf, len);
        has_out = t->out->len > 0;
        g_mutex_unlock(&t->lock);
        if (n >= 0) {
            return n;
        }
        if (n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED) {
            return error_of((int)n);
        }
        if (has_out) {
            r = flush_out(t);
        }
        if (r == 0 && n == GNUTLS_E_AGAIN) {
            r = fill_in(t);
        }
    } while (r == 0);
    return r;
}

/* Some of @iov, at least a byte, becomes records.  How many bytes, or negative errno. */
static ssize_t encrypt(TlsChannel *t, const struct iovec *iov, int niov)
{
    size_t done = 0;
    ssize_t n = 0;

    g_mutex_lock(&t->lock);
    for (int i = 0; i < niov && n >= 0 && done < PIECE_BYTES; i++) {
        size_t want = MIN(iov[i].iov_len, PIECE_BYTES - done), here = 0;

        while (here < want) {
            n = gnutls_record_send(t->session, (char *)iov[i].iov_base + here, want - here);
            if (n < 0) {
                break;
            }
            here += (size_t)n;
        }
        done += here;
        if (here < iov[i].iov_len) {
            break;
        }
    }
    g_mutex_unlock(&t->lock);
    return n < 0 ? error_of((int)n) : (ssize_t)done;
}

static ssize_t coroutine_fn tls_co_writev(AioChannel *ch, const struct iovec *iov, int niov)
{
    TlsChannel *t = to_tls(ch);
    ssize_t n = encrypt(t, iov, niov);
    int r = n < 0 ? 0 : flush_out(t);

    return r < 0 ? r : n;
}

static void tls_shutdown(AioChannel *ch)
{
    aio_channel_shutdown(to_tls(ch)->lower);
}

static void free_all(TlsChannel *t)
{
    if (t->session) {
        gnutls_deinit(t->session);
    }
    g_byte_array_unref(t->out);
    gnutls_memset(t->in, 0, IN_BYTES);
    g_free(t->in);
    qemu_co_mutex_destroy(&t->send_lock);
    g_mutex_clear(&t->lock);
    g_free(t);
}

static void tls_close(AioChannel *ch)
{
    TlsChannel *t = to_tls(ch);

    aio_channel_close(t->lower);
    free_all(t);
}

static const AioChannelOps tls_ops = {
    .co_read = tls_co_read,
    .co_writev = tls_co_writev,
    .shutdown = tls_shutdown,
    .close = tls_close,
};

static int coroutine_fn handshake(TlsChannel *t, Error **errp)
{
    int code, r;

    do {
        g_mutex_lock(&t->lock);
        code = gnutls_handshake(t->session);
        g_mutex_unlock(&t->lock);
        r = flush_out(t); /* also what tells the peer why not */
        if (r == 0 && code == GNUTLS_E_AGAIN) {
            r = fill_in(t);
        }
    } while (r == 0 && code < 0 && !gnutls_error_is_fatal(code));
    if (code < 0 && gnutls_error_is_fatal(code)) {
        error_setg(errp, "TLS handshake failed: %s", gnutls_strerror(code));
        return -EACCES;
    }
    if (r < 0) {
        error_setg_errno(errp, -r, "TLS handshake failed");
    }
    return r;
}

static int coroutine_fn begin(TlsChannel *t, const TlsPeer *peer, Error **errp)
{
    int r = tls_session_init(&t->session, peer, errp);

    if (r < 0) {
        return r;
    }
    if (peer->authz && (peer->creds->kind == TLS_PSK || !peer->creds->verify_peer)) {
        error_setg(errp, "There is no certificate of the peer to be looked at"); /* T4 */
        return -EACCES;
    }
    gnutls_transport_set_ptr(t->session, t);
    gnutls_transport_set_pull_function(t->session, pull);
    gnutls_transport_set_push_function(t->session, push);
    r = handshake(t, errp);
    return r < 0 ? r : tls_session_check_peer(t->session, peer, errp);
}

AioChannel *coroutine_fn tls_channel_co_new(AioChannel *lower, const TlsPeer *peer, Error **errp)
{
    TlsChannel *t = g_new0(TlsChannel, 1);

    t->channel.ops = &tls_ops;
    t->lower = lower;
    t->out = g_byte_array_new();
    t->in = g_malloc(IN_BYTES);
    g_mutex_init(&t->lock);
    qemu_co_mutex_init(&t->send_lock);
    if (begin(t, peer, errp) < 0) {
        free_all(t);
        return NULL;
    }
    return &t->channel;
}
