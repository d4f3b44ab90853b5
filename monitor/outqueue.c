/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * outqueue.c - messages on their way to one client
 *
 * A writer coroutine lives while there is something to send.  It owns the head of the list while it
 * writes, so that a message is never cut by another (OQ2).
 */
#include "monitor/outqueue.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "aio/aio.h"
#include "trace-monitor.h"

struct OutQueue {
    MonStream *stream;
    GQueue messages; /* of char *, malloc'd */
    size_t bytes;    /* in messages and in the one being written */
    bool writing;    /* the writer coroutine lives */
    bool finishing;  /* outqueue_finish() was called */
    bool shut;
    CoQueue drained;
};

OutQueue *outqueue_new(MonStream *stream)
{
    OutQueue *q = g_new0(OutQueue, 1);

    q->stream = stream;
    g_queue_init(&q->messages);
    qemu_co_queue_init(&q->drained);
    return q;
}

static void outqueue_drop_all(OutQueue *q)
{
    char *text;

    while ((text = g_queue_pop_head(&q->messages)) != NULL) {
        q->bytes -= strlen(text);
        free(text);
    }
}

static void coroutine_fn outqueue_write(void *opaque)
{
    OutQueue *q = opaque;
    char *text;

    while ((text = g_queue_pop_head(&q->messages)) != NULL) {
        size_t len = strlen(text);
        int r = mon_stream_co_write(q->stream, text, len);

        q->bytes -= len;
        free(text);
        if (r < 0) {
            outqueue_shutdown(q);
        }
    }
    q->writing = false;
    if (q->finishing) {
        outqueue_shutdown(q);
    }
    qemu_co_queue_restart_all(&q->drained);
}

bool outqueue_put(OutQueue *q, char *text)
{
    if (q->shut || q->bytes > OUTQUEUE_BYTES_MAX) { /* OQ1 */
        trace_monitor_cut_off(q, q->bytes);
        free(text);
        outqueue_shutdown(q);
        return false;
    }
    q->bytes += strlen(text);
    g_queue_push_tail(&q->messages, text);
    if (!q->writing) {
        q->writing = true;
        aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(outqueue_write, q));
    }
    return true;
}

void coroutine_fn outqueue_co_drain(OutQueue *q)
{
    while (q->writing) {
        qemu_co_queue_wait(&q->drained, NULL);
    }
}

size_t outqueue_bytes(const OutQueue *q)
{
    return q->bytes;
}

void outqueue_finish(OutQueue *q)
{
    q->finishing = true;
    if (!q->writing) {
        outqueue_shutdown(q);
    }
}

void outqueue_shutdown(OutQueue *q)
{
    if (!q->shut) {
        q->shut = true;
        outqueue_drop_all(q);
        mon_stream_shutdown(q->stream);
    }
}

void outqueue_free(OutQueue *q)
{
    g_assert(!q->writing);
    outqueue_drop_all(q);
    qemu_co_queue_destroy(&q->drained);
    g_free(q);
}
