/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake-waker.h - a waker for tests: one list of the woken, and a clock that is turned by hand
 *
 * It stands for the floor above, which this room must do without.
 */
#ifndef TEST_FAKE_WAKER_H
#define TEST_FAKE_WAKER_H

#include <glib.h>
#include "coro/coroutine.h"
#include "coro/waker.h"

typedef struct FakeTimer {
    int64_t expire;
    void (*cb)(void *opaque);
    void *opaque;
    struct FakeTimer *next;
} FakeTimer;

static CoWakeLink *fake_woken, **fake_woken_tail = &fake_woken;
static FakeTimer *fake_timers;
static int64_t fake_now;

static void fake_wake(Coroutine *co)
{
    CoWakeLink *link = qemu_coroutine_wake_link(co);

    g_assert_false(link->queued);
    g_assert_true(link->co == co);
    link->queued = 1;
    link->next = NULL;
    *fake_woken_tail = link;
    fake_woken_tail = &link->next;
}

static void *fake_timer_start(int64_t ns, void (*cb)(void *opaque), void *opaque)
{
    FakeTimer *timer = g_new0(FakeTimer, 1);

    timer->expire = fake_now + ns;
    timer->cb = cb;
    timer->opaque = opaque;
    timer->next = fake_timers;
    fake_timers = timer;
    return timer;
}

static void fake_timer_stop(void *opaque)
{
    FakeTimer **link = &fake_timers;

    while (*link != opaque) {
        link = &(*link)->next;
    }
    *link = (*link)->next;
    g_free(opaque);
}

static const CoWaker fake_waker = {fake_wake, fake_timer_start, fake_timer_stop};

/* Run the woken, and those whom they wake, until nobody is left. */
static inline void fake_run(void)
{
    while (fake_woken) {
        CoWakeLink *link = fake_woken;

        fake_woken = link->next;
        if (!fake_woken) {
            fake_woken_tail = &fake_woken;
        }
        link->queued = 0;
        qemu_coroutine_enter(link->co);
    }
}

/* Turn the clock, fire what is due, run. */
static inline void fake_advance(int64_t ns)
{
    FakeTimer *timer, *next;

    fake_now += ns;
    for (timer = fake_timers; timer; timer = next) {
        next = timer->next;
        if (timer->expire <= fake_now) {
            timer->expire = INT64_MAX;
            timer->cb(timer->opaque);
        }
    }
    fake_run();
}

#endif
