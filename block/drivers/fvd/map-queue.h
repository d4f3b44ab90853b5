/* SPDX-License-Identifier: GPL-2.0-or-later */
/* map-queue.h - map.c's queues: first in, first out, in memory that follows their length */
#ifndef BLOCK_DRIVERS_FVD_MAP_QUEUE_H
#define BLOCK_DRIVERS_FVD_MAP_QUEUE_H

#include <glib.h>
#include <stdbool.h>

/* So many elements that are gone are moved over; more are given back to the system with their memory. */
#define QUEUE_KEEP 4096

/* A queue of structures in an array: those before head are gone. */
typedef struct Queue {
    GArray *array;
    unsigned head;
} Queue;

static inline void queue_init(Queue *q, unsigned size)
{
    q->array = g_array_new(FALSE, FALSE, size);
    q->head = 0;
}

static inline void queue_free(Queue *q)
{
    if (q->array) {
        g_array_unref(q->array);
    }
}

static inline bool queue_is_empty(const Queue *q)
{
    return q->head == q->array->len;
}

/* The first is gone.  What is gone takes at most as much memory as the rest, and what was large does not stay so. */
static inline void queue_drop(Queue *q)
{
    unsigned left = q->array->len - ++q->head;

    if (q->head < left) {
        return;
    }
    if (q->head > QUEUE_KEEP) {
        Queue rest;

        queue_init(&rest, g_array_get_element_size(q->array));
        g_array_append_vals(rest.array,
                            q->array->data + (size_t)q->head * g_array_get_element_size(q->array),
                            left);
        queue_free(q);
        *q = rest;
        return;
    }
    g_array_remove_range(q->array, 0, q->head);
    q->head = 0;
}

#endif
