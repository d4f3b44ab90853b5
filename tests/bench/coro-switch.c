/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coro-switch.c - what a coroutine costs, in nanoseconds
 *
 * Prints three figures: to make, enter and end one from the pool; one enter and the yield back; one
 * lock and unlock of a free CoMutex.  The best of several rounds: the machine's noise only adds.
 */
#include <stdio.h>
#include <time.h>
#include "coro/coroutine.h"
#include "coro/lock.h"

#define ROUNDS 7
#define TURNS  2000000

static double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void coroutine_fn end_at_once(void *opaque)
{
}

static void coroutine_fn yield_for_ever(void *opaque)
{
    bool *stop = opaque;

    while (!*stop) {
        qemu_coroutine_yield();
    }
}

static void coroutine_fn lock_often(void *opaque)
{
    CoMutex *mutex = opaque;

    for (int i = 0; i < TURNS; i++) {
        qemu_co_mutex_lock(mutex);
        qemu_co_mutex_unlock(mutex);
    }
}

static void bench_lifecycle(void)
{
    for (int i = 0; i < TURNS; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(end_at_once, NULL));
    }
}

static void bench_yield(void)
{
    bool stop = false;
    Coroutine *co = qemu_coroutine_create(yield_for_ever, &stop);

    for (int i = 0; i < TURNS; i++) {
        qemu_coroutine_enter(co);
    }
    stop = true;
    qemu_coroutine_enter(co);
}

static void bench_mutex(void)
{
    CoMutex mutex;

    qemu_co_mutex_init(&mutex);
    qemu_coroutine_enter(qemu_coroutine_create(lock_often, &mutex));
    qemu_co_mutex_destroy(&mutex);
}

static void bench(const char *what, void (*run)(void))
{
    double best = 0;

    for (int i = 0; i < ROUNDS; i++) {
        double start = now_ns();
        double ns;

        run();
        ns = (now_ns() - start) / TURNS;
        if (i == 0 || ns < best) {
            best = ns;
        }
    }
    printf("%-28s %6.1f ns\n", what, best);
}

int main(void)
{
    bench("create, enter, end", bench_lifecycle);
    bench("enter and yield", bench_yield);
    bench("mutex lock and unlock", bench_mutex);
    return 0;
}
