/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD server, one connection: what happens to a request between two system calls.
 *
 *        socket                                                                     socket
 *          | recv, up to 64 KiB                                       one writev      ^
 *          v                                                                          |
 *     +---------+ header  +-------+ payload +------+ enter  +----------------+   +---------+
 *     | reader  |-------->| check |-------->| gate |------->| request        |-->| replies |
 *     | one a   |  error  +-------+ complete+------+        | a pooled       |   | sent by |
 *     | client  |-------------------------------------------| coroutine each |-->| one of  |
 *     +---------+                                           +----------------+   | them    |
 *          ^                                                                     +---------+
 *          +------------------- slot, buffer and memory are free again ---------------+
 *
 * N1  A header is checked against size, alignment and limits before any memory is taken for it, and
 *     an error is the answer without the node having been touched.  A payload that follows a refused
 *     header is dropped, so that the stream stays in step.
 * N2  The reader takes a slot and the payload's bytes before it reads the payload; when there are none it
 *     waits and does not read on.  So memory is bounded and a client that floods us only blocks itself.
 *     Every client may hold a reserve whatever others do.
 * N3  One coroutine at a time sends.  The first request that is done becomes the sender; if others
 *     are executing it lets the event loop go round once, so that what finishes in the same round
 *     leaves in the same writev.  A lone request is sent at once: its latency is all there is.
 * N4  Nothing starts while the node is quiesced.  The gate is the last thing before execution: a write
 *     whose payload did not arrive in full is never executed, and a quiesce never waits for a client.
 *     The backend does not queue for us (what had passed the gate would be held and waited for).
 * N5  A flush covers what was answered before it came: all clients share the node's cache, hence
 *     CAN_MULTI_CONN.
 * N6  Context: the reader may sit in a recv of the AioContext that the node has left.  Whatever it and the
 *     sender touch is under client->lock; requests are entered in client->ctx only, which changes
 *     only while quiesced.
 * N7  A node may ask that no more than a few requests of a client execute at once (bl.max_in_flight): others
 *     wait at the gate, where a quiesce of the node does not wait for them.
 *
 * The handshake is handshake.c and meta.c; execution request.c and status.c; N3 reply.c; the listener
 * server.c; what is exported export.c; bytes and checks (N1) wire.c.
 */
#include "block/export/nbd/nbd-int.h"
#include "trace-nbd-export.h"

/* Memory that all clients share (N2).  Under the lock: the sum, and who waits, in order. */
static struct {
    GMutex lock;
    uint64_t bytes;
    QTAILQ_HEAD(, NbdClient) waiting;
} nbd_memory = {.waiting = QTAILQ_HEAD_INITIALIZER(nbd_memory.waiting)};

NbdClient *nbd_client_new(AioChannel *ch)
{
    NbdClient *client = g_new0(NbdClient, 1);

    client->ch = ch;
    client->ctx = qemu_get_aio_context();
    client->alignment = 1;
    g_mutex_init(&client->lock);
    QSIMPLEQ_INIT(&client->replies);
    QSLIST_INIT(&client->pool);
    QSLIST_INIT(&client->waiting);
    return client;
}

void nbd_client_free(NbdClient *client)
{
    NbdRequest *req;

    assert(client->n_requests == 0 && !client->sending);
    while ((req = QSLIST_FIRST(&client->pool))) {
        QSLIST_REMOVE_HEAD(&client->pool, pool_next);
        qemu_vfree(req->buf);
        g_free(req);
    }
    nbd_contexts_clear(&client->contexts);
    tls_creds_unref(client->tls_creds);
    g_free(client->tls_authz);
    if (client->handshake_timer) {
        timer_free(client->handshake_timer);
    }
    aio_channel_close(client->ch);
    g_mutex_clear(&client->lock);
    qemu_vfree(client->rx);
    g_free(client);
}

void nbd_client_wake(NbdClient *client)
{
    NbdWaiter *waiter;

    while ((waiter = QSLIST_FIRST(&client->waiting))) {
        Coroutine *co = waiter->co;

        QSLIST_REMOVE_HEAD(&client->waiting, next);
        aio_co_wake(co);
    }
}

void nbd_client_shutdown(NbdClient *client)
{
    aio_channel_shutdown(client->ch);
    g_mutex_lock(&client->lock);
    client->broken = true;
    nbd_client_wake(client);
    g_mutex_unlock(&client->lock);
}

/* Until something changes.  Called and returns with client->lock held. */
static void coroutine_fn client_wait(NbdClient *client)
{
    NbdWaiter waiter = {.co = qemu_coroutine_self()};

    QSLIST_INSERT_HEAD(&client->waiting, &waiter, next);
    g_mutex_unlock(&client->lock);
    qemu_coroutine_yield();
    g_mutex_lock(&client->lock);
}

void nbd_client_drained_begin(NbdClient *client)
{
    g_mutex_lock(&client->lock);
    client->quiesced = true;
    g_mutex_unlock(&client->lock);
}

bool nbd_client_drained_poll(NbdClient *client)
{
    bool busy;

    g_mutex_lock(&client->lock);
    busy = client->n_executing > 0;
    g_mutex_unlock(&client->lock);
    return busy;
}

void nbd_client_drained_end(NbdClient *client)
{
    g_mutex_lock(&client->lock);
    client->quiesced = false;
    nbd_client_wake(client);
    g_mutex_unlock(&client->lock);
}

void nbd_client_set_context(NbdClient *client, AioContext *ctx)
{
    g_mutex_lock(&client->lock);
    assert(client->n_executing == 0);
    client->ctx = ctx;
    g_mutex_unlock(&client->lock);
}

/*
 * Let the bytes beyond the reserve count, in the order in which clients came.  Both locks are held;
 * client->lock is dropped to wait, and then the memory lock too.
 */
static int coroutine_fn take_shared_memory(NbdClient *client, uint64_t bytes)
{
    NbdWaiter waiter = {.co = qemu_coroutine_self()};
    bool listed = false;
    NbdClient *first;
    int r = 0;

    for (;;) {
        uint64_t total = client->bytes + bytes;
        uint64_t shared = total - MIN(total, NBD_CLIENT_BYTES_RESERVE);
        uint64_t more = shared - MIN(shared, client->bytes_shared);

        first = QTAILQ_FIRST(&nbd_memory.waiting);
        if (client->broken) {
            r = -ECONNRESET;
            break;
        }
        if (more == 0 ||
            ((!first || first == client) && nbd_memory.bytes + more <= NBD_PROCESS_BYTES_MAX)) {
            nbd_memory.bytes += more;
            client->bytes_shared += more;
            client->bytes += bytes;
            break;
        }
        if (!listed) {
            QTAILQ_INSERT_TAIL(&nbd_memory.waiting, client, memory_next);
            listed = true;
        }
        trace_nbd_memory_wait(client, bytes);
        QSLIST_INSERT_HEAD(&client->waiting, &waiter, next);
        g_mutex_unlock(&client->lock);
        g_mutex_unlock(&nbd_memory.lock);
        qemu_coroutine_yield();
        g_mutex_lock(&nbd_memory.lock);
        g_mutex_lock(&client->lock);
    }
    if (listed) {
        QTAILQ_REMOVE(&nbd_memory.waiting, client, memory_next);
    }
    return r;
}

/* Whoever is first in the queue looks again.  The memory lock is held, no client's lock is. */
static void wake_first_waiting(void)
{
    NbdClient *first = QTAILQ_FIRST(&nbd_memory.waiting);

    if (first) {
        g_mutex_lock(&first->lock);
        nbd_client_wake(first);
        g_mutex_unlock(&first->lock);
    }
}

/* N2: a slot, and @bytes; -ECONNRESET when the connection ends meanwhile. */
static int coroutine_fn take_slot(NbdClient *client, uint64_t bytes, NbdRequest **ret_req)
{
    NbdRequest *req;
    bool shared;
    int r = 0;

    g_mutex_lock(&client->lock);
    while (!client->broken && (client->n_requests >= NBD_CLIENT_REQUESTS_MAX ||
                               client->bytes + bytes > NBD_CLIENT_BYTES_MAX)) {
        client_wait(client);
    }
    if (client->broken) {
        g_mutex_unlock(&client->lock);
        return -ECONNRESET;
    }
    shared = client->bytes + bytes > NBD_CLIENT_BYTES_RESERVE;
    if (shared) {
        g_mutex_unlock(&client->lock);
        g_mutex_lock(&nbd_memory.lock);
        g_mutex_lock(&client->lock);
        r = take_shared_memory(client, bytes);
        g_mutex_unlock(&client->lock);
        wake_first_waiting();
        g_mutex_unlock(&nbd_memory.lock);
        if (r < 0) {
            return r;
        }
        g_mutex_lock(&client->lock);
    } else {
        client->bytes += bytes;
    }
    client->n_requests++;
    req = QSLIST_FIRST(&client->pool);
    if (req) {
        QSLIST_REMOVE_HEAD(&client->pool, pool_next);
    }
    g_mutex_unlock(&client->lock);

    if (!req) {
        req = g_new0(NbdRequest, 1);
        req->client = client;
    }
    req->bytes = bytes;
    *ret_req = req;
    return 0;
}

static void give_back_shared_memory(NbdClient *client)
{
    uint64_t shared;

    g_mutex_lock(&nbd_memory.lock);
    g_mutex_lock(&client->lock);
    shared = client->bytes - MIN(client->bytes, NBD_CLIENT_BYTES_RESERVE);
    if (client->bytes_shared > shared) {
        nbd_memory.bytes -= client->bytes_shared - shared;
        client->bytes_shared = shared;
    }
    g_mutex_unlock(&client->lock);
    wake_first_waiting();
    g_mutex_unlock(&nbd_memory.lock);
}

void nbd_request_release(NbdRequest *req)
{
    NbdClient *client = req->client;
    bool shared;

    if (req->chunks) {
        g_free(req->chunks->data);
        g_free(req->chunks);
        req->chunks = NULL;
    }
    if (req->buf_size > NBD_BUFFER_POOLED_MAX) {
        qemu_vfree(req->buf);
        req->buf = NULL;
        req->buf_size = 0;
    }
    g_mutex_lock(&client->lock);
    client->bytes -= req->bytes;
    shared = client->bytes_shared > 0;
    g_mutex_unlock(&client->lock);
    if (shared) {
        give_back_shared_memory(client);
    }
    /* Last: when the slot is free the client may be. */
    g_mutex_lock(&client->lock);
    QSLIST_INSERT_HEAD(&client->pool, req, pool_next);
    client->n_requests--;
    nbd_client_wake(client);
    g_mutex_unlock(&client->lock);
}

/* At least @bytes are in the receive buffer: 0; -ECONNRESET at the end of the stream. */
static int coroutine_fn reader_fill(NbdClient *client, size_t bytes)
{
    ssize_t got;

    if (client->rx_end - client->rx_start >= bytes) {
        return 0;
    }
    memmove(client->rx, client->rx + client->rx_start, client->rx_end - client->rx_start);
    client->rx_end -= client->rx_start;
    client->rx_start = 0;
    while (client->rx_end < bytes) {
        got = aio_channel_read(client->ch, client->rx + client->rx_end,
                               NBD_RX_BYTES - client->rx_end);
        if (got <= 0) {
            return got < 0 ? got : -ECONNRESET;
        }
        client->rx_end += got;
    }
    return 0;
}

/* What has been received already is copied, the rest goes straight to its place. */
static int coroutine_fn read_payload(NbdClient *client, uint8_t *to, size_t bytes)
{
    size_t here = MIN(bytes, client->rx_end - client->rx_start);

    memcpy(to, client->rx + client->rx_start, here);
    client->rx_start += here;
    return here < bytes ? aio_channel_read_all(client->ch, to + here, bytes - here) : 0;
}

static int coroutine_fn skip_payload(NbdClient *client, uint64_t bytes)
{
    while (bytes > 0) {
        size_t here;
        int r = reader_fill(client, 1);

        if (r < 0) {
            return r;
        }
        here = MIN(bytes, client->rx_end - client->rx_start);
        client->rx_start += here;
        bytes -= here;
    }
    return 0;
}

static int reserve_buffer(NbdRequest *req, size_t bytes)
{
    size_t size = MAX(pow2ceil(bytes), NBD_BUFFER_ALIGNMENT);

    if (req->buf_size < bytes) {
        qemu_vfree(req->buf);
        req->buf_size = 0;
        req->buf = qemu_try_memalign(NBD_BUFFER_ALIGNMENT, size);
        if (!req->buf) {
            return -ENOMEM;
        }
        req->buf_size = size;
    }
    return 0;
}

/* N7.  Under the lock. */
static bool is_full(const NbdClient *client)
{
    unsigned max = client->exp->max_executing;

    return max > 0 && client->n_executing >= max;
}

/*
 * N4, N6 and N7: returns in client->ctx, with a request counted as executing also when the connection is
 * over (-ECANCELED).
 */
static int coroutine_fn pass_gate(NbdClient *client)
{
    bool broken;

    g_mutex_lock(&client->lock);
    while (!client->broken &&
           (client->quiesced || is_full(client) || !in_aio_context(client->ctx))) {
        if (client->quiesced || is_full(client)) {
            client_wait(client);
        } else {
            AioContext *ctx = client->ctx;

            g_mutex_unlock(&client->lock);
            aio_co_reschedule_self(ctx);
            g_mutex_lock(&client->lock);
        }
    }
    broken = client->broken;
    client->n_executing++;
    g_mutex_unlock(&client->lock);
    return broken ? -ECANCELED : 0;
}

/* The other end of pass_gate(). */
static void leave_gate(NbdClient *client)
{
    bool kick;

    g_mutex_lock(&client->lock);
    if (is_full(client)) {
        nbd_client_wake(client);
    }
    client->n_executing--;
    kick = client->quiesced && client->n_executing == 0;
    g_mutex_unlock(&client->lock);
    if (kick) {
        bdrv_drain_kick();
    }
}

int coroutine_fn nbd_request_pause_point(NbdRequest *req)
{
    NbdClient *client = req->client;
    bool pass;

    g_mutex_lock(&client->lock);
    pass = !client->quiesced && !client->broken;
    g_mutex_unlock(&client->lock);
    if (pass) {
        return 0;
    }
    leave_gate(client);
    return pass_gate(client);
}

/* The coroutine of one request. */
static void coroutine_fn request_entry(void *opaque)
{
    NbdRequest *req = opaque;

    nbd_request_execute(req);
    nbd_reply_prepare(req);
    trace_nbd_request_done(req->client, req->header.cookie, req->error);
    leave_gate(req->client);
    nbd_reply_send(req);
}

/* The bytes of memory that a request which passed the check will hold. */
static uint64_t memory_needed(const NbdRequestHeader *header, const NbdVerdict *verdict)
{
    if (verdict->error) {
        return 0;
    }
    switch (header->type) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        return header->length;
    case NBD_CMD_CACHE:
        return MIN(header->length, NBD_CACHE_BYTES_MAX);
    default:
        return 0;
    }
}

/* One request, up to its coroutine's first wait.  Negative: the connection is over. */
static int coroutine_fn start_request(NbdClient *client, const NbdRequestHeader *header)
{
    const NbdRequestLimits limits = {
        .size = nbd_export_size(client->exp),
        .alignment = client->alignment,
        .read_only = client->exp->read_only,
        .has_contexts = client->contexts.count > 0,
        .mode = client->mode,
    };
    NbdVerdict verdict;
    NbdRequest *req;
    uint64_t memory;
    int r;

    nbd_request_check(header, &limits, &verdict); /* N1 */
    if (verdict.fatal) {
        return -EMSGSIZE;
    }
    memory = memory_needed(header, &verdict);
    r = take_slot(client, memory, &req);
    if (r < 0) {
        return r;
    }
    req->header = *header;
    req->error = verdict.error;
    req->why = verdict.why;
    trace_nbd_request(client, header->cookie, req->error ? verdict.why : nbd_cmd_name(header->type),
                      header->offset, header->length, header->flags);
    if (memory > 0 && reserve_buffer(req, memory) < 0) {
        req->error = NBD_ENOMEM;
        req->why = "no memory for the request";
    }
    if (verdict.payload > 0) {
        r = req->error ? skip_payload(client, verdict.payload)
                       : read_payload(client, req->buf, verdict.payload);
    }
    if (r < 0) {
        nbd_request_release(req);
        return r;
    }
    r = pass_gate(client);
    if (r < 0) {
        leave_gate(client);
        nbd_request_release(req);
        return r;
    }
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, req));
    return 0;
}

void coroutine_fn nbd_client_run(NbdClient *client)
{
    size_t size = nbd_request_size(client->mode);
    NbdRequestHeader header;
    int r;

    trace_nbd_client_begin(client, client->exp->name, client->mode);
    client->rx = qemu_memalign(NBD_BUFFER_ALIGNMENT, NBD_RX_BYTES);
    do {
        r = reader_fill(client, size);
        if (r < 0) {
            break;
        }
        if (!nbd_request_decode(client->rx + client->rx_start, client->mode, &header)) {
            r = -EPROTO; /* out of step: nothing that follows can be trusted */
            break;
        }
        client->rx_start += size;
        if (header.type == NBD_CMD_DISC && !(header.flags & NBD_CMD_FLAG_PAYLOAD_LEN)) {
            break;
        }
        r = start_request(client, &header);
    } while (r == 0);

    trace_nbd_client_end(client, r);
    if (r < 0 && r != -ECONNRESET) {
        aio_channel_shutdown(client->ch);
    }
    g_mutex_lock(&client->lock);
    while (client->n_requests > 0 || client->sending) {
        client_wait(client);
    }
    g_mutex_unlock(&client->lock);
}
