/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sleep of a coroutine, which another may cut short. */
#ifndef CORO_SLEEP_H
#define CORO_SLEEP_H

#include "coro/coroutine.h"

/* One sleeper.  Zeroed memory is a valid one that nobody sleeps in. */
typedef struct QemuCoSleep {
    Coroutine *to_wake;
} QemuCoSleep;

/* qemu_co_sleep_ns() - let at least @ns nanoseconds of the waker's clock pass. */
void coroutine_fn qemu_co_sleep_ns(int64_t ns);
/* The same, ended early by qemu_co_sleep_wake() from the same AioContext.  @ns < 0: until woken. */
void coroutine_fn qemu_co_sleep_ns_wakeable(QemuCoSleep *w, int64_t ns);
void qemu_co_sleep_wake(QemuCoSleep *w);

#endif
