/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "nbd": a disk that another program serves, on libnbd.
 *
 *    io room        home AioContext                                        main thread
 *   ---------    -----------------------------------------    ------------------------------------
 *   co_preadv    data.c    a command                          nbd.c      open, close, reopen
 *   co_pwritev     |                                          keep.c     connector: what is missing
 *   co_flush       v                                                     watch: how long to hold
 *   ...          request.c gate: NBD_IN_FLIGHT_BYTES          connect.c  one attempt
 *                  |                                             |
 *                  |       least to do        s->conns           | new connections
 *                  +-----------------------> [c0][c1][c2] <------+ through s->lock
 *                                              |   |   |
 *                          a pump each while   |   |   |         worker threads: names looked up,
 *                          something is in     v   v   v         sockets connected
 *                          flight            the server
 *
 * N1  What is in flight is as much as the link carries (window.c), and bounded by NBD_IN_FLIGHT_BYTES
 *     whatever the clients and the server do.
 * N2  A socket is polled only while its connection has requests in flight, or shakes hands.  An idle
 *     connection belongs to no AioContext: a quiesced node moves its home without touching any, and
 *     is closed in the main thread.  We poll a duplicate of libnbd's descriptor, for libnbd closes
 *     its own in the middle of things, and the number would be somebody else's.
 * N3  A request whose connection broke goes out again on another, within reconnect-delay of its first
 *     loss.  To do a command twice does no harm: it was not answered, so nobody has relied on the
 *     order of it and another to the same bytes, and a server that has closed a connection does
 *     nothing more for it (one that may is N5's).
 * N4  A server that breaks a connection may have lost what it acknowledged and nobody flushed.  With
 *     reconnect-delay=0 that is taken at its word: from then on every flush fails (H4).  With a delay
 *     the user's word is that the server keeps what it acknowledged over its own restart, as one does
 *     that serves a file.
 * N5  A server that neither takes nor gives a byte for nbd_times.silence while requests wait is given
 *     up: the connection is shut, its requests fail with -ETIMEDOUT.  They do not go out again: the
 *     server may wake up and do them still, after newer ones to the same place.
 * N6  Who waits for the end of requests (a quiesce) waits nbd_times.hurry for a silent server, as long
 *     for one that is away, and nbd_times.hurry_max for one that answers so slowly that it can only be
 *     malice.  Requests that nobody wants any more (a cancelled job's) end at once if they are not
 *     under way, else with the server's answer or after nbd_times.cancel, whatever comes and goes: it
 *     is better to know what the server has done, so it is not cut off at once.  So nothing hangs on
 *     a dead server (H6).
 * N7  An attempt to connect ends soon when the node is closed, or not wanted any more (connect.c).
 * N8  Block status: see status.c.
 * N9  Outages and their events: see keep.c.
 *
 * A server that comes back as another (size, block size, what it can do) is not taken, and the attempts
 * go on.  Nothing that the server says sizes memory but through constants of nbd-int.h (H5).
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "block/drivers/drivers.h"
#include "block/drivers/nbd/nbd-int.h"
#include "trace-nbd-driver.h"

NbdTimes nbd_times = {
    /* A round trip takes seconds at the very worst; kernels go on for minutes. */
    .connect = 10 * NANOSECONDS_PER_SECOND,
    .handshake = 10 * NANOSECONDS_PER_SECOND,
    /* A fail-over or a pause of a minute is lived through; slower storage does not exist. */
    .silence = 90 * NANOSECONDS_PER_SECOND,
    /* A flush of a slow disk with a full cache is done. */
    .hurry = 10 * NANOSECONDS_PER_SECOND,
    /* NBD_IN_FLIGHT_BYTES over 1 Mbit/s. */
    .hurry_max = 130 * NANOSECONDS_PER_SECOND,
    /* What is under way is a round trip or two; and who has cancelled does not wait longer gladly. */
    .cancel = 500 * SCALE_MS,
    /* A server that is restarted is found at once; one that is away costs a packet now and then. */
    .backoff_min = 100 * SCALE_MS,
    .backoff_max = 10 * NANOSECONDS_PER_SECOND,
    /* Many steps of a walk over a disk, and less than two programs need to agree on anything. */
    .zero_extent = 100 * SCALE_MS,
};

static int64_t seconds(bool has, int64_t value, int64_t otherwise)
{
    return (has ? value : otherwise) * NANOSECONDS_PER_SECOND;
}

static int check_options(const BlockdevOptionsNbd *o, Error **errp)
{
    if (o->has_connections && (o->connections < 1 || o->connections > NBD_CONNECTIONS_MAX)) {
        error_setg(errp, "connections must be between 1 and %d", NBD_CONNECTIONS_MAX);
        return -EINVAL;
    }
    if ((o->has_reconnect_delay && o->reconnect_delay > NBD_DELAY_MAX) ||
        (o->has_open_timeout && o->open_timeout > NBD_DELAY_MAX)) {
        error_setg(errp, "reconnect-delay and open-timeout must not be above %d", NBD_DELAY_MAX);
        return -EINVAL;
    }
    if (o->export && strlen(o->export) > NBD_NAME_MAX) {
        error_setg(errp, "The export name must not be longer than %d bytes", NBD_NAME_MAX);
        return -EINVAL;
    }
    return nbd_check_address(o->server, errp);
}

static int init_state(BlockDriverState *bs, const BlockdevOptionsNbd *o, Error **errp)
{
    NbdState *s = bs->opaque;

    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->stop_fd < 0) {
        int ret = -errno;

        error_setg_errno(errp, -ret, "Cannot make an eventfd");
        return ret;
    }
    s->bs = bs;
    s->addr = QAPI_CLONE(SocketAddress, o->server);
    s->export_name = g_strdup(o->export ? o->export : "");
    s->other_context = o->x_dirty_bitmap;
    s->context = g_strdup(o->x_dirty_bitmap ? o->x_dirty_bitmap : LIBNBD_CONTEXT_BASE_ALLOCATION);
    s->peer = nbd_make_uri(s->addr, s->export_name);
    s->reconnect_ns =
        seconds(o->has_reconnect_delay, o->reconnect_delay, NBD_RECONNECT_DELAY_DEFAULT);
    s->open_ns = seconds(o->has_open_timeout, o->open_timeout, 0);
    s->connections = o->has_connections ? o->connections : NBD_CONNECTIONS_DEFAULT;
    s->handshake_fd = -1;
    qemu_co_mutex_init(&s->lock);
    qemu_co_queue_init(&s->changed);
    qemu_co_queue_init(&s->ended);
    qemu_co_mutex_init(&s->gate);
    qemu_co_queue_init(&s->room);
    return 0;
}

static void free_state(NbdState *s)
{
    assert(s->tasks == 0);
    while (s->n_conns > 0) {
        NbdConn *conn = s->conns[--s->n_conns];

        conn->listed = false;
        nbd_conn_unref(conn);
    }
    qemu_co_queue_destroy(&s->room);
    qemu_co_mutex_destroy(&s->gate);
    qemu_co_queue_destroy(&s->ended);
    qemu_co_queue_destroy(&s->changed);
    qemu_co_mutex_destroy(&s->lock);
    close(s->stop_fd);
    qapi_free_SocketAddress(s->addr);
    g_free(s->export_name);
    g_free(s->context);
    g_free(s->peer);
    g_free(s->known);
}

/* The first connection: attempts until open-timeout, at least one. */
static int coroutine_fn connect_first(NbdState *s, NbdConn **ret_conn, Error **errp)
{
    int64_t deadline = nbd_now() + s->open_ns;
    int64_t backoff = nbd_times.backoff_min;

    for (;;) {
        Error *err = NULL;
        int ret = nbd_co_connect(s, ret_conn, &s->info, &err);

        if (ret == 0) {
            return 0;
        }
        if (s->closing || nbd_now() + backoff > deadline) {
            error_propagate(errp, err);
            return ret;
        }
        trace_nbd_driver_attempt_failed(s->peer, error_get_pretty(err));
        error_free(err);
        qemu_co_sleep_ns_wakeable(&s->connect_sleep, backoff);
        backoff = MIN(2 * backoff, NANOSECONDS_PER_SECOND);
    }
}

/* May the node be written to as it is asked for? */
static int decide_read_only(BlockDriverState *bs, const NbdState *s, bool auto_read_only, int flags,
                            Error **errp)
{
    if (!s->info.read_only || !(flags & BDRV_O_RDWR)) {
        return 0;
    }
    if (!auto_read_only) {
        error_setg(errp, "NBD server '%s': the export is read-only", s->peer);
        return -EACCES;
    }
    bs->read_only = true;
    bs->open_flags &= ~BDRV_O_RDWR;
    return 0;
}

static int coroutine_fn nbd_co_open(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    const BlockdevOptionsNbd *o = &opts->u.nbd;
    NbdState *s = bs->opaque;
    NbdConn *conn;
    int ret = check_options(o, errp);

    if (ret < 0) {
        return ret;
    }
    ret = init_state(bs, o, errp);
    if (ret < 0) {
        return ret;
    }
    s->opening = true;
    ret = connect_first(s, &conn, errp);
    s->opening = false;
    if (ret < 0) {
        free_state(s);
        return ret;
    }
    qemu_co_mutex_lock(&s->lock);
    conn->listed = true;
    s->conns[s->n_conns++] = conn;
    s->holding = true;
    s->connected_ns = nbd_now();
    qemu_co_mutex_unlock(&s->lock);
    ret = decide_read_only(bs, s, bs->auto_read_only, bs->open_flags, errp);
    if (ret < 0) {
        free_state(s);
        return ret;
    }
    s->wanted = s->info.multi_conn ? s->connections : 1;
    qemu_co_mutex_lock(&s->lock);
    nbd_start_connecting(s);
    qemu_co_mutex_unlock(&s->lock);
    g_free(bs->filename);
    bs->filename = g_strdup(s->peer);
    trace_nbd_driver_open(s->peer, s->info.size, s->info.min_block, s->wanted, s->info.read_only,
                          s->info.has_status);
    return 0;
}

/* N2: nothing is in flight, so no socket is polled anywhere. */
static void coroutine_fn nbd_co_close(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    nbd_co_stop_tasks(s);
    free_state(s);
}

static void nbd_refresh_limits(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;
    int64_t min = s->info.min_block;

    bs->bl.request_alignment = min;
    bs->bl.max_transfer = s->info.max_transfer;
    bs->bl.opt_transfer = s->info.opt_block;
    bs->bl.pwrite_zeroes_alignment = min;
    bs->bl.max_pwrite_zeroes = QEMU_ALIGN_DOWN(NBD_ZEROES_MAX, min);
    bs->bl.pdiscard_alignment = min;
    bs->bl.max_pdiscard = QEMU_ALIGN_DOWN(NBD_TRIM_MAX, min);
    bs->supported_write_flags = s->info.can_fua ? BDRV_REQ_FUA : 0;
    bs->supported_zero_flags =
        BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK | (s->info.can_fua ? BDRV_REQ_FUA : 0);
}

/* N6 */
static void nbd_drain_begin(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    __atomic_store_n(&s->drained_ns, nbd_now(), __ATOMIC_SEQ_CST);
    nbd_hurry(s);
}

static void nbd_drain_end(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    __atomic_store_n(&s->drained_ns, 0, __ATOMIC_SEQ_CST);
}

/* N6 */
static void nbd_cancel_in_flight(BlockDriverState *bs)
{
    NbdState *s = bs->opaque;

    __atomic_store_n(&s->cancel_ns, nbd_now(), __ATOMIC_SEQ_CST);
    nbd_hurry(s);
    if (s->opening) {
        nbd_stop_attempts(s); /* N7 */
    }
}

/* Only what belongs to every node can change; the server, and how to deal with it, cannot. */
static int coroutine_fn nbd_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                              int flags, void **ret_state, Error **errp)
{
    const BlockdevOptionsNbd *o = &opts->u.nbd;
    NbdState *s = bs->opaque;
    g_autofree char *peer = NULL;
    int ret = check_options(o, errp);

    if (ret < 0) {
        return ret;
    }
    peer = nbd_make_uri(o->server, o->export ? o->export : "");
    if (strcmp(peer, s->peer) != 0) {
        error_setg(errp, "Cannot change the options 'server' and 'export'");
        return -EINVAL;
    }
    if (seconds(o->has_reconnect_delay, o->reconnect_delay, NBD_RECONNECT_DELAY_DEFAULT) !=
            s->reconnect_ns ||
        (o->has_connections ? o->connections : NBD_CONNECTIONS_DEFAULT) != s->connections) {
        error_setg(errp, "Cannot change the options 'reconnect-delay' and 'connections'");
        return -EINVAL;
    }
    *ret_state = NULL;
    return decide_read_only(bs, s, opts->has_auto_read_only && opts->auto_read_only, flags, errp);
}

static void nbd_reopen_commit(BlockDriverState *bs, void *state)
{
}

/* What prepare may have done to the node's flags the open room takes back. */
static void nbd_reopen_abort(BlockDriverState *bs, void *state)
{
}

static const BlockDriverLife nbd_life = {
    .co_open = nbd_co_open,
    .co_close = nbd_co_close,
    .refresh_limits = nbd_refresh_limits,
    .co_reopen_prepare = nbd_co_reopen_prepare,
    .reopen_commit = nbd_reopen_commit,
    .reopen_abort = nbd_reopen_abort,
    .drain_begin = nbd_drain_begin,
    .drain_end = nbd_drain_end,
    .cancel_in_flight = nbd_cancel_in_flight,
};

static BlockDriver bdrv_nbd = {
    .format_name = "nbd",
    .is_protocol = true,
    .instance_size = sizeof(NbdState),
    .life = &nbd_life,
    .data = &nbd_data,
};

void bdrv_nbd_register(void)
{
    bdrv_register(&bdrv_nbd);
}
