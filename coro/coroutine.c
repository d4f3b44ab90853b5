/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutines: functions that stop in the middle.
 *
 *   thread's stack        stack of A             stack of B
 *   --------------        ----------             ----------
 *   enter(A) ───────────▶ runs
 *                         enter(B) ────────────▶ runs
 *                         goes on  ◀──────────── yield()
 *   goes on  ◀─────────── yield()
 *   enter(B) ───────────────────────────────────▶ goes on
 *   goes on  ◀─────────────────────────────────── its function returns: to the pool
 *
 * Each stack remembers who entered it; a yield goes there.  A thread's own stack is the bottom of the
 * chain (CoThread.leader) and cannot yield.
 *
 * C1  A coroutine is entered only when it is not running and not in the chain of callers.  enter()
 *     checks it; entering twice would run one stack from two places.
 * C2  After a yield the thread may be another one: who wakes a coroutine decides where.  So nothing
 *     that belongs to a thread is kept in a variable across a yield.  Compilers keep the address of
 *     thread-local variables; that is why the functions that look at ours are never inlined, and do
 *     not look again after a yield.  enter() may: what it entered comes back in the same thread.
 * C3  A coroutine holds no lock when it ends: nobody else could ever unlock.
 * C4  A waiter puts itself on a list, then yields.  Between the two another thread may take it off
 *     and wake it.  It must not run before the yield is complete; therefore the waker runs it in its
 *     home, and the home's thread is just the one that is still busy with the yield.
 *
 * A coroutine that ended keeps its stack and goes to a pool, standing in coro_main() where the next
 * function is called: making a coroutine is taking one from a list (stack.c).
 */
#include <assert.h>
#include "coro-int.h"
#include "switch.h"

/* C2: on every function of this file that names co_thread_self. */
#define uses_thread __attribute__((noinline))

static __thread CoThread co_thread_self;

uses_thread CoThread *coro_thread(void)
{
    __asm__ volatile(""); /* not a function of nothing: it may not be called once for two uses */
    return &co_thread_self;
}

static const CoWaker *co_waker;

void coro_set_waker(const CoWaker *waker)
{
    co_waker = waker;
}

const CoWaker *coro_get_waker(void)
{
    return co_waker;
}

void coro_set_thread_home(void *home)
{
    coro_thread()->home = home;
}

uses_thread Coroutine *qemu_coroutine_create(CoroutineEntry *entry, void *opaque)
{
    Coroutine *co = coro_stack_get(&co_thread_self);

    co->entry = entry;
    co->opaque = opaque;
    co->home = NULL;
    co->ended = false;
    assert(!co->caller && !co->locks_held && !co->link.queued);
    return co;
}

void coro_main(void)
{
    Coroutine *self = coro_thread()->current;

    coro_switch_arrived(self);
    for (;;) {
        Coroutine *caller;

        self->entry(self->opaque);
        assert(self->locks_held == 0); /* C3 */
        self->ended = true;
        caller = self->caller;
        coro_thread()->current = caller;
        coro_switch(self, caller);
    }
}

uses_thread void qemu_coroutine_enter(Coroutine *co)
{
    CoThread *t = &co_thread_self;
    Coroutine *self = t->current;

    if (__builtin_expect(!self, 0)) {
        self = t->current = &t->leader;
    }
    assert(!co->caller); /* C1 */
    assert(!co->ended);
    co->caller = self;
    if (!co->home) {
        co->home = t->home;
    }
    t->current = co;
    coro_switch(self, co);

    /* The coroutine, or one that it entered and that outlived it, came back in this thread. */
    co->caller = NULL;
    if (co->ended) {
        coro_stack_put(t, co);
    }
}

uses_thread void coroutine_fn qemu_coroutine_yield(void)
{
    CoThread *t = &co_thread_self;
    Coroutine *self = t->current;
    Coroutine *caller = self->caller;

    assert(caller);
    t->current = caller;
    coro_switch(self, caller); /* C2: t is stale now */
}

uses_thread Coroutine *coroutine_fn qemu_coroutine_self(void)
{
    Coroutine *self = co_thread_self.current;

    assert(self && self->caller);
    return self;
}

uses_thread bool qemu_in_coroutine(void)
{
    Coroutine *self = co_thread_self.current;

    return self && self->caller;
}

bool qemu_coroutine_entered(Coroutine *co)
{
    return co->caller != NULL;
}

void *qemu_coroutine_get_home(Coroutine *co)
{
    return co->home;
}

void qemu_coroutine_set_home(Coroutine *co, void *home)
{
    co->home = home;
}

CoWakeLink *qemu_coroutine_wake_link(Coroutine *co)
{
    return &co->link;
}
