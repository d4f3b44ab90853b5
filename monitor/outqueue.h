/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * outqueue.h - what waits to be sent to one client, bounded
 *
 *   OQ1  What a client has not read holds at most OUTQUEUE_BYTES_MAX and one message of ours.
 *   OQ2  Messages go out whole and in the order in which they were put in.
 *
 * Main thread.
 */
#ifndef MONITOR_OUTQUEUE_H
#define MONITOR_OUTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include "coro/lock.h"
#include "coro/sleep.h"
#include "monitor/stream.h"

/*
 * Bytes queued beyond which a client that does not read is cut off.  A megabyte is about 5000 events: a
 * client so far behind will not catch up, and a hundred of such clients still fit into memory.
 */
#define OUTQUEUE_BYTES_MAX (1024 * 1024)

typedef struct OutQueue OutQueue;

/* @stream is borrowed until outqueue_free(). */
OutQueue *outqueue_new(MonStream *stream);
/*
 * Take @text (malloc'd, NUL terminated) and send it soon.  False: the queue is full or the client gone;
 * the message is dropped and the stream shut down (OQ1).
 */
bool outqueue_put(OutQueue *q, char *text);
/* Wait until all is sent or cannot be.  Cut short by outqueue_shutdown(). */
void coroutine_fn outqueue_co_drain(OutQueue *q);
size_t outqueue_bytes(const OutQueue *q);
/* Shut the stream down once all is sent. */
void outqueue_finish(OutQueue *q);
/* Drop what is queued, send nothing any more. */
void outqueue_shutdown(OutQueue *q);
/* After outqueue_co_drain(). */
void outqueue_free(OutQueue *q);

#endif
