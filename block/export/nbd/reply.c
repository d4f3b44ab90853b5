/* SPDX-License-Identifier: GPL-2.0-or-later */
/* reply.c - answers: how they are framed, and how they leave together (N3 in client.c) */
#include "block/export/nbd/nbd-int.h"
#include "trace-nbd-export.h"

/* A longer explanation would not fit in NbdRequest::head beside the headers. */
#define NBD_WHY_MAX 80u

static void prepare_error(NbdRequest *req)
{
    size_t why = req->why ? MIN(strlen(req->why), NBD_WHY_MAX) : 0;
    NbdMode mode = req->client->mode;
    uint8_t *end = req->head;

    end += nbd_put_chunk(end, mode, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, req->header.cookie,
                         req->header.offset, 6 + why);
    stl_be_p(end, req->error);
    stw_be_p(end + 4, why);
    if (why > 0) {
        memcpy(end + 6, req->why, why);
    }
    req->iov[0].iov_len = end + 6 + why - req->head;
}

/*
 * nbd_reply_prepare() - frame the answer of a request that is done; one with chunks is framed already
 *
 * A successful read's data is in buf.
 */
void nbd_reply_prepare(NbdRequest *req)
{
    const NbdRequestHeader *header = &req->header;
    NbdMode mode = req->client->mode;
    bool data = header->type == NBD_CMD_READ && !req->error && header->length > 0;

    if (req->error && req->chunks) {
        g_free(req->chunks->data);
        g_free(req->chunks);
        req->chunks = NULL;
    }
    if (req->chunks) {
        return;
    }
    req->niov = 1;
    req->iov[0].iov_base = req->head;
    if (mode == NBD_MODE_SIMPLE ||
        (mode == NBD_MODE_STRUCTURED && header->type != NBD_CMD_READ && !req->error)) {
        req->iov[0].iov_len = nbd_put_simple_reply(req->head, header->cookie, req->error);
    } else if (req->error) {
        prepare_error(req);
    } else if (data) {
        size_t head =
            nbd_put_chunk(req->head, mode, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA,
                          header->cookie, header->offset, 8 + header->length);
        stq_be_p(req->head + head, header->offset);
        req->iov[0].iov_len = head + 8;
    } else {
        req->iov[0].iov_len = nbd_put_chunk(req->head, mode, NBD_REPLY_FLAG_DONE,
                                            NBD_REPLY_TYPE_NONE, header->cookie, header->offset, 0);
    }
    if (data) {
        req->iov[1] = (struct iovec){.iov_base = req->buf, .iov_len = header->length};
        req->niov = 2;
    }
}

/* Takes what is queued, as much as fits in one writev; returns its elements, 0 when nothing was queued. */
static int take_batch(NbdClient *client, NbdRequest **batch, unsigned *ret_count)
{
    unsigned count = 0;
    int niov = 0;
    NbdRequest *req;

    while ((req = QSIMPLEQ_FIRST(&client->replies))) {
        int more = req->chunks ? req->chunks->niov : req->niov;

        if (niov + more > (int)NBD_TX_IOV_MAX) {
            break;
        }
        QSIMPLEQ_REMOVE_HEAD(&client->replies, reply_next);
        memcpy(client->tx + niov, req->chunks ? req->chunks->iov : req->iov,
               more * sizeof(*client->tx));
        niov += more;
        batch[count++] = req;
    }
    *ret_count = count;
    return niov;
}

static void coroutine_fn send_all(NbdClient *client)
{
    NbdRequest *batch[NBD_CLIENT_REQUESTS_MAX];
    unsigned count;

    g_mutex_lock(&client->lock);
    for (;;) {
        int niov = take_batch(client, batch, &count);
        bool broken = client->broken;

        if (count == 0) {
            break;
        }
        g_mutex_unlock(&client->lock);
        trace_nbd_send(client, count);
        if (!broken && aio_channel_writev_all(client->ch, client->tx, niov) < 0) {
            /* The stream is torn: no later reply may be sent, and the reader is to come back. */
            aio_channel_shutdown(client->ch);
            g_mutex_lock(&client->lock);
            client->broken = true;
            g_mutex_unlock(&client->lock);
        }
        for (unsigned i = 0; i < count; i++) {
            nbd_request_release(batch[i]);
        }
        g_mutex_lock(&client->lock);
    }
    client->sending = false;
    nbd_client_wake(client);
    g_mutex_unlock(&client->lock);
}

/*
 * nbd_reply_send() - queue the prepared answer; and send what is queued unless another does
 *
 * Context: coroutine.  The request belongs to the queue from here on.
 */
void coroutine_fn nbd_reply_send(NbdRequest *req)
{
    NbdClient *client = req->client;
    bool alone;

    g_mutex_lock(&client->lock);
    QSIMPLEQ_INSERT_TAIL(&client->replies, req, reply_next);
    if (client->sending) {
        g_mutex_unlock(&client->lock);
        return;
    }
    client->sending = true;
    alone = client->n_executing == 0;
    g_mutex_unlock(&client->lock);

    if (!alone) {
        aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    send_all(client);
}
