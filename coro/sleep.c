/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sleep.c - a timer of the waker's ends the sleep, or somebody before it does */
#include <assert.h>
#include "coro/sleep.h"
#include "coro/waker.h"

static void sleep_over(void *opaque)
{
    qemu_co_sleep_wake(opaque);
}

void coroutine_fn qemu_co_sleep_ns_wakeable(QemuCoSleep *w, int64_t ns)
{
    const CoWaker *waker = coro_get_waker();
    void *timer = NULL;

    assert(!w->to_wake);
    w->to_wake = qemu_coroutine_self();
    if (ns >= 0) {
        timer = waker->timer_start(ns, sleep_over, w);
    }
    qemu_coroutine_yield();
    assert(!w->to_wake); /* whoever wakes a sleeper goes through qemu_co_sleep_wake() */
    if (timer) {
        waker->timer_stop(timer);
    }
}

void coroutine_fn qemu_co_sleep_ns(int64_t ns)
{
    QemuCoSleep w = {0};

    assert(ns >= 0);
    qemu_co_sleep_ns_wakeable(&w, ns);
}

void qemu_co_sleep_wake(QemuCoSleep *w)
{
    Coroutine *co = w->to_wake;

    if (co) {
        w->to_wake = NULL; /* a second wake, or the timer, finds nobody */
        coro_get_waker()->wake(co);
    }
}
