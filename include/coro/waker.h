/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What coroutines ask of the floor above: a thread to be woken on, and time. */
#ifndef CORO_WAKER_H
#define CORO_WAKER_H

#include "coro/coroutine.h"

typedef struct CoWaker {
    /* Make @co run soon in its home; any thread.  Never enters it inside this call. */
    void (*wake)(Coroutine *co);
    /* Arm a timer that calls @cb(@opaque) once in the caller's context after @ns; returns a handle. */
    void *(*timer_start)(int64_t ns, void (*cb)(void *opaque), void *opaque);
    /* Disarm and free; also called after the timer has fired. */
    void (*timer_stop)(void *timer);
} CoWaker;

/* Set once, before the first coroutine; borrowed for ever. */
void coro_set_waker(const CoWaker *waker);
const CoWaker *coro_get_waker(void);

#endif
