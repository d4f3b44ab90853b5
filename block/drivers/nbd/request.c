/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request's way over a connection.
 *
 *   gate: in order, until its bytes have room  ->  the connection with the least to do  ->  libnbd
 *                                                        |  none: held, or -EIO (keep.c)      |
 *                                                        |                                    |
 *        done, or failed for good  <---- completion <----+---- pump: polls the socket --------+
 *                                            |
 *                                            +-- the connection broke: again, on another (N3)
 *
 * The pump is a coroutine that polls a connection's socket, and is there exactly while the connection
 * has requests in flight (N2).  It has left before the last of them goes on: completions wake, and a
 * wake never runs inside the call.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include "block/drivers/nbd/nbd-int.h"
#include "trace-nbd-driver.h"

/* How often a silent connection is looked at; the times of N5 and N6 are longer by up to this. */
#define TICK_NS NANOSECONDS_PER_SECOND

/* The connection broke under it. */
#define LOST (-ECONNRESET)

/* N6: since when somebody waits for the end of what is in flight; 0: nobody does. */
static int64_t hurry_since(NbdState *s, int64_t begun)
{
    int64_t drained = __atomic_load_n(&s->drained_ns, __ATOMIC_SEQ_CST);
    int64_t cancel = __atomic_load_n(&s->cancel_ns, __ATOMIC_SEQ_CST);

    if (cancel < begun) {
        return drained;
    }
    return drained ? MIN(drained, cancel) : cancel;
}

/* N5, N6.  The pump waits just now: the socket is the connection's. */
static void tick(void *opaque)
{
    NbdConn *conn = opaque;
    int64_t now = nbd_now(), quiet = now - conn->progress_ns;
    int64_t hurry = hurry_since(conn->s, conn->busy_ns);

    if (quiet >= (hurry ? nbd_times.hurry : nbd_times.silence) ||
        (hurry && now - MAX(hurry, conn->busy_ns) >= nbd_times.hurry_max)) {
        conn->timed_out = true;
        trace_nbd_driver_silent(conn->s->peer, quiet, conn->in_flight);
        shutdown(conn->poll_fd,
                 SHUT_RDWR); /* the pump finds the end, libnbd fails what is in flight */
        return;
    }
    timer_mod_ns(conn->tick, now + MIN(TICK_NS, nbd_times.hurry));
}

static unsigned events_of(NbdConn *conn)
{
    unsigned dir = nbd_aio_get_direction(conn->nbd);

    return (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
           (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
}

static bool is_broken(NbdConn *conn)
{
    return nbd_aio_is_dead(conn->nbd) || nbd_aio_is_closed(conn->nbd);
}

/* What libnbd says of the socket's state it says through the completions. */
static void notify(NbdConn *conn, int revents)
{
    unsigned events = events_of(conn);
    bool failed = revents & (POLLERR | POLLHUP | POLLNVAL);

    if ((events & POLLIN) && (failed || (revents & POLLIN))) {
        nbd_aio_notify_read(conn->nbd);
    } else if ((events & POLLOUT) && (failed || (revents & POLLOUT))) {
        nbd_aio_notify_write(conn->nbd);
    }
}

static void coroutine_fn pump_entry(void *opaque)
{
    NbdConn *conn = opaque;

    conn->tick = aio_timer_new(qemu_get_current_aio_context(), tick, conn);
    conn->busy_ns = conn->progress_ns = nbd_now();
    timer_mod_ns(conn->tick, conn->busy_ns + MIN(TICK_NS, nbd_times.hurry));
    while (conn->in_flight > 0 && !is_broken(conn)) {
        int revents;

        conn->polled = events_of(conn);
        revents = aio_co_wait_fd(conn->poll_fd, conn->polled);
        conn->polled = 0;
        if (revents > 0) {
            conn->progress_ns = conn->timed_out ? conn->progress_ns : nbd_now();
            notify(conn, revents);
        } else if (revents != -ECANCELED) {
            shutdown(conn->poll_fd, SHUT_RDWR);
            nbd_aio_notify_read(conn->nbd);
        }
    }
    timer_free(conn->tick);
    conn->tick = NULL;
    conn->pumping = false;
    nbd_conn_unref(conn);
}

/* After a request was handed to libnbd: the pump polls, and for what it should. */
static void coroutine_fn ensure_pump(NbdConn *conn)
{
    if (!conn->pumping) {
        if (conn->in_flight > 0) {
            conn->pumping = true;
            conn->refs++;
            qemu_coroutine_enter(qemu_coroutine_create(pump_entry, conn));
        }
    } else if (conn->polled && (is_broken(conn) || events_of(conn) != conn->polled)) {
        aio_fd_cancel(qemu_get_current_aio_context(), conn->poll_fd);
    }
}

/* Called by libnbd, once a command that it took; no function of libnbd may be called here. */
static int completed(void *opaque, int *error)
{
    NbdOp *op = opaque;

    op->conn->in_flight--;
    op->conn->in_flight_bytes -= op->buf ? op->bytes : 0;
    op->done = true;
    op->error = *error;
    if (op->waiter) {
        aio_co_wake(op->waiter);
    }
    return 1; /* libnbd forgets it */
}

static int64_t issue(NbdOp *op)
{
    struct nbd_handle *nbd = op->conn->nbd;
    nbd_completion_callback done = {.callback = completed, .user_data = op};
    nbd_extent_callback extents = {.callback = nbd_extents_add, .user_data = op};

    switch (op->command) {
    case NBD_READ:
        return nbd_aio_pread(nbd, op->buf, op->bytes, op->offset, done, op->flags);
    case NBD_WRITE:
        return nbd_aio_pwrite(nbd, op->buf, op->bytes, op->offset, done, op->flags);
    case NBD_FLUSH:
        return nbd_aio_flush(nbd, done, op->flags);
    case NBD_TRIM:
        return nbd_aio_trim(nbd, op->bytes, op->offset, done, op->flags);
    case NBD_ZERO:
        return nbd_aio_zero(nbd, op->bytes, op->offset, done, op->flags);
    default:
        op->extents->start = op->offset;
        op->extents->count = 0;
        return nbd_aio_block_status(nbd, op->bytes, op->offset, extents, done, op->flags);
    }
}

/* One try.  0, LOST, -ETIMEDOUT (N5), or the server's error. */
static int coroutine_fn try_once(NbdOp *op, NbdConn *conn)
{
    op->conn = conn;
    op->done = false;
    op->waiter = NULL;
    op->error = 0;
    conn->in_flight++;
    conn->in_flight_bytes += op->buf ? op->bytes : 0;
    if (issue(op) < 0 && !op->done) { /* not taken */
        op->error = nbd_get_errno();
        op->error = op->error > 0 ? op->error : EIO;
        conn->in_flight--;
        conn->in_flight_bytes -= op->buf ? op->bytes : 0;
        op->done = true;
    }
    ensure_pump(conn);
    if (!op->done) {
        op->waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
        assert(op->done);
    }
    if (op->error == 0) {
        return 0;
    }
    if (conn->timed_out) {
        return -ETIMEDOUT;
    }
    /* A server that is about to end says so to each request. */
    return is_broken(conn) || op->error == ESHUTDOWN ? LOST : -op->error;
}

/* Whoever made it does not want it any more. */
static bool is_cancelled(NbdState *s, const NbdOp *op)
{
    return __atomic_load_n(&s->cancel_ns, __ATOMIC_SEQ_CST) >= op->start_ns;
}

/* The connection with the least to do, with a reference; waits while requests are held. */
static NbdConn *coroutine_fn get_conn(NbdState *s, const NbdOp *op)
{
    NbdConn *best = NULL;

    qemu_co_mutex_lock(&s->lock);
    while (s->n_conns == 0 && s->holding && !is_cancelled(s, op)) {
        qemu_co_queue_wait(&s->changed, &s->lock);
    }
    for (unsigned i = 0; i < s->n_conns; i++) {
        NbdConn *conn = s->conns[i];

        if (!best || conn->in_flight_bytes < best->in_flight_bytes ||
            (conn->in_flight_bytes == best->in_flight_bytes && conn->in_flight < best->in_flight)) {
            best = conn;
        }
    }
    if (best) {
        best->refs++;
    }
    qemu_co_mutex_unlock(&s->lock);
    return best;
}

static void coroutine_fn put_conn(NbdState *s, NbdConn *conn, bool lost)
{
    if (lost) {
        qemu_co_mutex_lock(&s->lock);
        nbd_conn_lost(s, conn);
        qemu_co_mutex_unlock(&s->lock);
    }
    nbd_conn_unref(conn);
}

/* N1.  Who comes first goes first, so that a large request is not passed for ever by small ones. */
static void coroutine_fn take_room(NbdState *s, int64_t bytes)
{
    qemu_co_mutex_lock(&s->gate);
    while (s->in_flight_bytes > 0 && s->in_flight_bytes + bytes > NBD_IN_FLIGHT_BYTES) {
        qemu_co_queue_wait(&s->room, NULL);
    }
    s->in_flight_bytes += bytes;
    qemu_co_mutex_unlock(&s->gate);
}

static void give_room(NbdState *s, int64_t bytes)
{
    s->in_flight_bytes -= bytes;
    qemu_co_queue_next(&s->room);
}

/* N3, N6: may a request that lost its first connection at @since go out again? */
static bool may_retry(NbdState *s, const NbdOp *op, int64_t since)
{
    int64_t drained = __atomic_load_n(&s->drained_ns, __ATOMIC_SEQ_CST);
    int64_t now = nbd_now();

    return now - since < s->reconnect_ns && !is_cancelled(s, op) &&
           !(drained && now - MAX(drained, since) >= nbd_times.hurry);
}

int coroutine_fn nbd_co_request(NbdState *s, NbdOp *op)
{
    int64_t bytes = op->buf ? op->bytes : 0;
    int64_t lost_ns = 0;
    int ret;

    op->start_ns = nbd_now();
    take_room(s, bytes);
    for (;;) {
        NbdConn *conn = get_conn(s, op);

        if (!conn) {
            ret = -EIO;
            break;
        }
        ret = try_once(op, conn);
        put_conn(s, conn, ret == LOST || ret == -ETIMEDOUT);
        if (ret != LOST) {
            break;
        }
        lost_ns = lost_ns ? lost_ns : nbd_now();
        if (!may_retry(s, op, lost_ns)) {
            ret = -EIO;
            break;
        }
        trace_nbd_driver_retry(s->peer, op->command, op->offset, op->bytes);
    }
    give_room(s, bytes);
    return ret;
}
