/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeping connections: two coroutines of the main thread, each there only while it has something to do.
 *
 *   connector   from a connection that is missing until none is: attempt, back-off, attempt ...
 *   watch       from the loss of the last connection until there is one again, or until the requests
 *               that are held have waited long enough:
 *
 *        all well --(last connection lost)--> HOLDING --(deadline: N3, N6)--> FAILING
 *            ^                                   |                               |
 *            +--------(a new one answers)--------+-------------------------------+
 *
 *   state     outage_ns  holding    requests, while there is no connection
 *   all well  0          true       there is one
 *   HOLDING   since      true       wait in `changed`
 *   FAILING   since      false      -EIO
 *
 * N9  An outage is one, however many connections are lost in it, and whatever comes and goes before
 *     one of them has been of use: it ends with the first answer to a request, or, where no request
 *     waits, with a connection.  Each transition of the picture is one event NBD_CONNECTION; nodes
 *     that are closed say no more.
 *
 * Both run in the main thread because it is always there: the node's home may move while they sleep.
 * A new connection is handed over through s->conns, under s->lock, with nobody polling its socket (N2).
 */
#include <errno.h>
#include <sys/eventfd.h>
#include "block/drivers/nbd/nbd-int.h"
#include "qapi/qapi-events-block-options.h"
#include "trace-nbd-driver.h"

/* s->lock held. */
static void start_task(NbdState *s, CoroutineEntry *entry)
{
    s->tasks++;
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(entry, s));
}

/* s->lock held; drops it. */
static void coroutine_fn end_task(NbdState *s)
{
    s->tasks--;
    qemu_co_queue_restart_all(&s->ended);
    qemu_co_mutex_unlock(&s->lock);
}

/* N9 */
typedef struct News {
    char *node_name, *server;
    NbdConnectionState state;
    int64_t outage_ns;
} News;

static void send_news(void *opaque)
{
    News *n = opaque;

    qapi_event_send_nbd_connection(n->node_name, n->server, n->state, n->outage_ns / SCALE_MS);
    g_free(n->node_name);
    g_free(n->server);
    g_free(n);
}

/* s->lock held.  By way of the main thread, whoever tells it: so they keep their order. */
static void tell(NbdState *s, NbdConnectionState state)
{
    News *n = g_new(News, 1);

    *n = (News){.node_name = g_strdup(bdrv_get_node_name(s->bs)),
                .server = g_strdup(s->peer),
                .state = state,
                .outage_ns = nbd_now() - s->outage_ns};
    trace_nbd_driver_outage(s->peer, NbdConnectionState_str(state), n->outage_ns);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), send_news, n);
}

/* s->lock held. */
static void set_outage(NbdState *s, int64_t since_ns)
{
    __atomic_store_n(&s->outage_ns, since_ns, __ATOMIC_SEQ_CST);
}

/* s->lock held.  HOLDING -> FAILING */
static void give_up(NbdState *s)
{
    s->holding = false;
    tell(s, NBD_CONNECTION_STATE_GIVEN_UP);
    qemu_co_queue_restart_all(&s->changed);
}

/* s->lock held.  HOLDING, FAILING -> all well */
static void end_outage(NbdState *s)
{
    tell(s, NBD_CONNECTION_STATE_RESTORED);
    set_outage(s, 0);
    s->holding = true;
}

/* N3, N6: until when requests are held. */
static int64_t hold_deadline(NbdState *s)
{
    int64_t drained = __atomic_load_n(&s->drained_ns, __ATOMIC_SEQ_CST);
    int64_t cancel = __atomic_load_n(&s->cancel_ns, __ATOMIC_SEQ_CST);
    int64_t deadline = s->outage_ns + s->reconnect_ns;

    if (drained) {
        deadline = MIN(deadline, MAX(drained, s->outage_ns) + nbd_times.hurry);
    }
    if (cancel >= s->outage_ns) {
        deadline = MIN(deadline, cancel);
    }
    return deadline;
}

static void coroutine_fn watch_entry(void *opaque)
{
    NbdState *s = opaque;

    qemu_co_mutex_lock(&s->lock);
    while (!s->closing && s->n_conns == 0 && s->holding) {
        /* No yield between the look at the deadline and the sleep: nbd_hurry() finds us asleep. */
        int64_t left = hold_deadline(s) - nbd_now();

        if (left <= 0) {
            give_up(s);
            break;
        }
        qemu_co_mutex_unlock(&s->lock);
        qemu_co_sleep_ns_wakeable(&s->watch_sleep, left);
        qemu_co_mutex_lock(&s->lock);
    }
    s->watching = false;
    end_task(s);
}

void nbd_hurry(NbdState *s)
{
    qemu_co_sleep_wake(&s->watch_sleep);
}

int nbd_check_same(const NbdInfo *a, const NbdInfo *b, Error **errp)
{
    if (a->size != b->size) {
        error_setg(errp, "the size of the export has changed from %" PRId64 " to %" PRId64, a->size,
                   b->size);
        return -ESTALE;
    }
    if (a->min_block != b->min_block || a->max_transfer != b->max_transfer ||
        a->read_only != b->read_only || a->can_flush != b->can_flush || a->can_fua != b->can_fua ||
        a->can_trim != b->can_trim || a->can_zero != b->can_zero ||
        a->can_fast_zero != b->can_fast_zero || a->has_status != b->has_status) {
        error_setg(errp, "the export can no longer do what it could");
        return -ESTALE;
    }
    return 0;
}

/* s->lock held. */
static void adopt(NbdState *s, NbdConn *conn)
{
    conn->serial = s->next_serial++;
    conn->listed = true;
    s->conns[s->n_conns++] = conn;
    s->connected_ns = nbd_now();
    if (s->outage_ns && qemu_co_queue_empty(&s->changed)) {
        end_outage(s); /* N9 */
    }
    qemu_co_queue_restart_all(&s->changed);
    qemu_co_sleep_wake(&s->watch_sleep);
}

static void back_off(NbdState *s)
{
    s->backoff_ns =
        s->backoff_ns ? MIN(2 * s->backoff_ns, nbd_times.backoff_max) : nbd_times.backoff_min;
}

/* s->lock held at entry and return, not during the attempt.  Did it bring a connection? */
static bool coroutine_fn attempt(NbdState *s)
{
    NbdConn *conn = NULL;
    NbdInfo info = {0};
    Error *err = NULL;
    int ret;

    qemu_co_mutex_unlock(&s->lock);
    ret = nbd_co_connect(s, &conn, &info, &err);
    if (ret == 0) {
        ret = nbd_check_same(&s->info, &info, &err);
    }
    qemu_co_mutex_lock(&s->lock);
    if (ret == 0 && !s->closing) {
        adopt(s, conn);
        return true;
    }
    if (conn) {
        nbd_conn_unref(conn);
    }
    if (err) {
        trace_nbd_driver_attempt_failed(s->peer, error_get_pretty(err));
        error_free(err);
    }
    return false;
}

/*
 * Back-off grows with each attempt that failed, and once with each loss soon after a success: a server
 * that takes us in to throw us out is no better than one that is away.
 */
static void coroutine_fn connect_entry(void *opaque)
{
    NbdState *s = opaque;
    bool counted = false;
    int64_t delay;

    qemu_co_mutex_lock(&s->lock);
    if (nbd_now() - s->connected_ns > nbd_times.backoff_max) {
        s->backoff_ns = 0;
    }
    delay = s->backoff_ns;
    while (!s->closing && s->n_conns < s->wanted) {
        if (delay > 0) {
            qemu_co_mutex_unlock(&s->lock);
            qemu_co_sleep_ns_wakeable(&s->connect_sleep, delay);
            qemu_co_mutex_lock(&s->lock);
            delay = 0;
            continue;
        }
        if (!attempt(s)) {
            back_off(s);
            delay = s->backoff_ns;
        } else if (!counted) {
            back_off(s);
            counted = true;
        }
    }
    s->connecting = false;
    end_task(s);
}

void nbd_start_connecting(NbdState *s)
{
    if (!s->connecting && !s->closing && s->n_conns < s->wanted) {
        s->connecting = true;
        start_task(s, connect_entry);
    }
}

/* s->lock held; also when there is one already (N9). */
static void begin_outage(NbdState *s)
{
    if (!s->outage_ns) {
        set_outage(s, nbd_now());
        tell(s, NBD_CONNECTION_STATE_LOST);
        if (s->reconnect_ns == 0) {
            give_up(s);
        }
    }
    if (s->holding && !s->watching && !s->closing) {
        s->watching = true;
        start_task(s, watch_entry);
    }
}

void nbd_conn_lost(NbdState *s, NbdConn *conn)
{
    unsigned i = 0;

    if (!conn->listed) {
        return;
    }
    while (s->conns[i] != conn) {
        i++;
    }
    s->conns[i] = s->conns[--s->n_conns];
    conn->listed = false;
    nbd_conn_unref(conn);
    if (s->loose_gen != s->flushed_gen && s->reconnect_ns == 0) {
        s->flush_lost = true; /* N4 */
    }
    if (s->n_conns == 0) {
        begin_outage(s);
    }
    nbd_start_connecting(s);
}

void nbd_conn_answered(NbdState *s, NbdConn *conn)
{
    if (conn->listed && s->outage_ns) {
        end_outage(s);
    }
}

/* N7 */
void nbd_stop_attempts(NbdState *s)
{
    s->closing = true;
    eventfd_write(s->stop_fd, 1);
    qemu_co_sleep_wake(&s->connect_sleep);
    if (s->handshake_fd >= 0) {
        aio_fd_cancel(qemu_get_aio_context(), s->handshake_fd);
    }
}

void coroutine_fn nbd_co_stop_tasks(NbdState *s)
{
    qemu_co_mutex_lock(&s->lock);
    nbd_stop_attempts(s);
    qemu_co_sleep_wake(&s->watch_sleep);
    while (s->tasks > 0) {
        qemu_co_queue_wait(&s->ended, &s->lock);
    }
    qemu_co_mutex_unlock(&s->lock);
}
