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
#define TICK_NS (100 * SCALE_MS)

/* The connection broke under it. */
#define LOST (-ECONNRESET)

/* Whoever made it does not want it any more. */
static bool is_cancelled(NbdState *s, const NbdOp *op)
{
    return __atomic_load_n(&s->cancel_ns, __ATOMIC_SEQ_CST) >= op->start_ns;
}

/* N6: is the oldest request one that nobody wants, and has been for nbd_times.cancel? */
static bool is_overdue(NbdConn *conn, int64_t now)
{
    const NbdOp *oldest = QTAILQ_FIRST(&conn->ops);

    if (!oldest || !is_cancelled(conn->s, oldest)) {
        conn->cancelled_ns = 0;
        return false;
    }
    conn->cancelled_ns = conn->cancelled_ns ? conn->cancelled_ns : now;
    return now - conn->cancelled_ns >= nbd_times.cancel;
}

static void start_tick(NbdConn *conn, int64_t now)
{
    timer_mod_ns(conn->tick, now + MIN(TICK_NS, MIN(nbd_times.hurry, nbd_times.cancel)));
}

/* N5, N6.  The pump waits just now: the socket is the connection's. */
static void tick(void *opaque)
{
    NbdConn *conn = opaque;
    int64_t now = nbd_now(), quiet = now - conn->progress_ns;
    int64_t drained = __atomic_load_n(&conn->s->drained_ns, __ATOMIC_SEQ_CST);

    conn->cut = is_overdue(conn, now);
    if (conn->cut || quiet >= (drained ? nbd_times.hurry : nbd_times.silence) ||
        (drained && now - MAX(drained, conn->busy_ns) >= nbd_times.hurry_max)) {
        conn->timed_out = true;
        trace_nbd_driver_silent(conn->s->peer, quiet, conn->in_flight, conn->cut);
        /* The pump finds the end, libnbd fails what is in flight. */
        shutdown(conn->poll_fd, SHUT_RDWR);
        return;
    }
    start_tick(conn, now);
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
    start_tick(conn, conn->busy_ns);
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

static void begin_try(NbdOp *op, NbdConn *conn)
{
    op->conn = conn;
    op->done = false;
    op->waiter = NULL;
    op->error = 0;
    conn->in_flight++;
    conn->in_flight_bytes += op->buf ? op->bytes : 0;
    QTAILQ_INSERT_TAIL(&conn->ops, op, next);
}

static void end_try(NbdOp *op)
{
    op->conn->in_flight--;
    op->conn->in_flight_bytes -= op->buf ? op->bytes : 0;
    QTAILQ_REMOVE(&op->conn->ops, op, next);
    op->done = true;
}

/* Called by libnbd, once a command that it took; no function of libnbd may be called here. */
static int completed(void *opaque, int *error)
{
    NbdOp *op = opaque;

    end_try(op);
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

/* N5, N6: what becomes of a request that was in flight on a connection that timed out? */
static int timed_out(const NbdOp *op, const NbdConn *conn)
{
    if (is_cancelled(conn->s, op)) {
        return -ECANCELED;
    }
    /* One that only asks, and was there by chance when another was cancelled, asks again. */
    return conn->cut && (op->command == NBD_READ || op->command == NBD_STATUS) ? LOST : -ETIMEDOUT;
}

/* One try.  0, LOST, -ETIMEDOUT or -ECANCELED (N5, N6), or the server's error. */
static int coroutine_fn try_once(NbdOp *op, NbdConn *conn)
{
    begin_try(op, conn);
    if (issue(op) < 0 && !op->done) { /* not taken */
        op->error = nbd_get_errno();
        op->error = op->error > 0 ? op->error : EIO;
        end_try(op);
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
        return timed_out(op, conn);
    }
    /* A server that is about to end says so to each request. */
    return is_broken(conn) || op->error == ESHUTDOWN ? LOST : -op->error;
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

/* After a try that ended with @ret. */
static void coroutine_fn put_conn(NbdState *s, NbdConn *conn, int ret)
{
    bool lost = ret == LOST || conn->timed_out;

    if (lost || __atomic_load_n(&s->outage_ns, __ATOMIC_SEQ_CST)) {
        qemu_co_mutex_lock(&s->lock);
        if (lost) {
            nbd_conn_lost(s, conn);
        } else {
            nbd_conn_answered(s, conn);
        }
        qemu_co_mutex_unlock(&s->lock);
    }
    nbd_conn_unref(conn);
}

/* N1.  Who comes first goes first, so that a large request is not passed for ever by small ones. */
static void coroutine_fn take_room(NbdState *s, NbdOp *op, int64_t bytes)
{
    qemu_co_mutex_lock(&s->gate);
    while (!nbd_window_has_room(&s->window, nbd_now(), s->in_flight_bytes, bytes)) {
        qemu_co_queue_wait(&s->room, NULL);
    }
    op->alone = s->in_flight_bytes == 0;
    if (bytes > 0) {
        nbd_window_sent(&s->window, nbd_now(), s->in_flight_bytes);
    }
    s->in_flight_bytes += bytes;
    qemu_co_mutex_unlock(&s->gate);
}

static void give_room(NbdState *s, int64_t bytes)
{
    s->in_flight_bytes -= bytes;
    qemu_co_queue_next(&s->room);
}

/* An answer to the first try, which was sent at @sent_ns. */
static void measure(NbdState *s, const NbdOp *op, int64_t sent_ns)
{
    int64_t now = nbd_now();
    NbdWindow *w = &s->window;

    if (op->buf && nbd_window_answered(w, now, op->bytes, op->alone, now - sent_ns)) {
        trace_nbd_driver_window(s->peer, nbd_window_bytes(w), MAX(w->rate[0], w->rate[1]),
                                w->trip_ns);
    }
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
    int64_t lost_ns = 0, sent_ns;
    int ret;

    op->start_ns = nbd_now();
    take_room(s, op, bytes);
    for (;;) {
        NbdConn *conn = get_conn(s, op);

        if (!conn || is_cancelled(s, op)) {
            ret = is_cancelled(s, op) ? -ECANCELED : -EIO;
            if (conn) {
                nbd_conn_unref(conn);
            }
            break;
        }
        sent_ns = nbd_now();
        ret = try_once(op, conn);
        put_conn(s, conn, ret);
        if (ret != LOST) {
            break;
        }
        lost_ns = lost_ns ? lost_ns : nbd_now();
        if (!may_retry(s, op, lost_ns)) {
            ret = is_cancelled(s, op) ? -ECANCELED : -EIO;
            break;
        }
        trace_nbd_driver_retry(s->peer, op->command, op->offset, op->bytes);
    }
    if (ret == 0 && !lost_ns) {
        measure(s, op, sent_ns);
    }
    give_room(s, bytes);
    return ret;
}
