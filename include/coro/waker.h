/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * waker.h - what coroutines ask of the floor above: a thread to be woken on, and time
 *
 * Coroutine code calls the table; the floor above fills it in, and keeps two things with us: a home
 * for each coroutine and a home for each thread.  To us a home is a pointer without a meaning.
 */
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

/*
 * coro_set_thread_home() - the home that a coroutine without one gets when this thread enters it;
 * NULL when the thread gives none
 */
void coro_set_thread_home(void *home);

/* A place in the waker's lists, so that a wake allocates nothing. */
typedef struct CoWakeLink CoWakeLink;
struct CoWakeLink {
    CoWakeLink *next;
    Coroutine *co; /* set when the coroutine is made */
    int queued;    /* atomic; is it on a list? */
};

/* The link of @co; owned by the waker, who leaves it unqueued when the coroutine runs. */
CoWakeLink *qemu_coroutine_wake_link(Coroutine *co);

#endif
