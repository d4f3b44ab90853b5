/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lock.c - queue, mutex and rwlock of coroutines
 *
 * Each has a list of waiters, protected by a spin lock that is held for a few instructions and never
 * across a yield or a wake.  A waiter's entry lies on its stack.
 *
 * L1  Hand-over: the one who unlocks makes the first waiter the holder and only then wakes it.  The
 *     lock is never free while somebody waits, so a newcomer cannot overtake.
 * L2  A waiter is woken by the one who took its entry off the list, once.  A coroutine that is entered
 *     by anybody else while it waits here is a bug, and is caught: its entry says that it still waits.
 * L3  The wake goes through the waker, so it runs later and in the waiter's home: an unlock never runs
 *     foreign code inside the caller.
 */
#include <assert.h>
#include <sched.h>
#include "coro/lock.h"
#include "coro-int.h"

struct CoWaitEntry {
    Coroutine *co;
    bool waiting;
    bool writer; /* for a CoRwlock */
    QSIMPLEQ_ENTRY(CoWaitEntry) next;
};

/* Turns to wait for a holder that is on a processor; then it has probably lost it: give it ours. */
#define SPIN_TURNS 100

static inline void spin_lock(int *spin)
{
    while (__builtin_expect(__atomic_exchange_n(spin, 1, __ATOMIC_ACQUIRE), 0)) {
        for (int i = 0; __atomic_load_n(spin, __ATOMIC_RELAXED); i++) {
            if (i >= SPIN_TURNS) {
                sched_yield();
                i = 0;
            }
        }
    }
}

static inline void spin_unlock(int *spin)
{
    __atomic_store_n(spin, 0, __ATOMIC_RELEASE);
}

/* Yield until the entry, which is on a list already, has been taken off it. */
static void coroutine_fn wait_for_turn(CoWaitEntry *entry)
{
    qemu_coroutine_yield();
    assert(!entry->waiting); /* L2 */
}

/* The first waiter, off the list; NULL when there is none.  Under the spin lock. */
static Coroutine *pop_waiter(struct CoWaitList *list)
{
    CoWaitEntry *entry = QSIMPLEQ_FIRST(list);

    if (!entry) {
        return NULL;
    }
    QSIMPLEQ_REMOVE_HEAD(list, next);
    entry->waiting = false;
    return entry->co; /* entry is gone as soon as its coroutine has been woken */
}

static void wake(Coroutine *co)
{
    coro_get_waker()->wake(co); /* L3 */
}

void qemu_co_queue_init(CoQueue *queue)
{
    queue->spin = 0;
    QSIMPLEQ_INIT(&queue->entries);
}

void qemu_co_queue_destroy(CoQueue *queue)
{
    assert(QSIMPLEQ_EMPTY(&queue->entries));
}

void coroutine_fn qemu_co_queue_wait(CoQueue *queue, CoMutex *mutex)
{
    CoWaitEntry entry = {.co = qemu_coroutine_self(), .waiting = true};

    spin_lock(&queue->spin);
    QSIMPLEQ_INSERT_TAIL(&queue->entries, &entry, next);
    spin_unlock(&queue->spin);
    if (mutex) {
        qemu_co_mutex_unlock(mutex);
    }
    wait_for_turn(&entry);
    if (mutex) {
        qemu_co_mutex_lock(mutex);
    }
}

bool qemu_co_queue_next(CoQueue *queue)
{
    Coroutine *co;

    spin_lock(&queue->spin);
    co = pop_waiter(&queue->entries);
    spin_unlock(&queue->spin);
    if (co) {
        wake(co);
    }
    return co != NULL;
}

void qemu_co_queue_restart_all(CoQueue *queue)
{
    struct CoWaitList all;
    Coroutine *co;

    spin_lock(&queue->spin);
    QSIMPLEQ_MOVE(&all, &queue->entries);
    spin_unlock(&queue->spin);
    while ((co = pop_waiter(&all))) {
        wake(co);
    }
}

bool qemu_co_queue_empty(CoQueue *queue)
{
    bool empty;

    spin_lock(&queue->spin);
    empty = QSIMPLEQ_EMPTY(&queue->entries);
    spin_unlock(&queue->spin);
    return empty;
}

void qemu_co_mutex_init(CoMutex *mutex)
{
    mutex->spin = 0;
    mutex->holder = NULL;
    QSIMPLEQ_INIT(&mutex->waiters);
}

void qemu_co_mutex_destroy(CoMutex *mutex)
{
    assert(!mutex->holder && QSIMPLEQ_EMPTY(&mutex->waiters));
}

void coroutine_fn qemu_co_mutex_lock(CoMutex *mutex)
{
    Coroutine *self = qemu_coroutine_self();

    spin_lock(&mutex->spin);
    if (!mutex->holder) {
        mutex->holder = self;
        spin_unlock(&mutex->spin);
    } else {
        CoWaitEntry entry = {.co = self, .waiting = true};

        assert(mutex->holder != self);
        QSIMPLEQ_INSERT_TAIL(&mutex->waiters, &entry, next);
        spin_unlock(&mutex->spin);
        wait_for_turn(&entry);
    }
    self->locks_held++;
}

void coroutine_fn qemu_co_mutex_unlock(CoMutex *mutex)
{
    Coroutine *self = qemu_coroutine_self();
    Coroutine *next;

    assert(self->locks_held > 0);
    self->locks_held--;
    spin_lock(&mutex->spin);
    assert(mutex->holder == self);
    next = pop_waiter(&mutex->waiters);
    mutex->holder = next; /* L1 */
    spin_unlock(&mutex->spin);
    if (next) {
        wake(next);
    }
}

void coroutine_fn qemu_co_mutex_assert_held(CoMutex *mutex)
{
    assert(__atomic_load_n(&mutex->holder, __ATOMIC_RELAXED) == qemu_coroutine_self());
}

void qemu_co_rwlock_init(CoRwlock *lock)
{
    lock->spin = 0;
    lock->owners = 0;
    QSIMPLEQ_INIT(&lock->tickets);
}

void qemu_co_rwlock_destroy(CoRwlock *lock)
{
    assert(lock->owners == 0 && QSIMPLEQ_EMPTY(&lock->tickets));
}

/* Can one more, a @writer or a reader, come in beside those who are in? */
static bool rwlock_admits(const CoRwlock *lock, bool writer)
{
    return writer ? lock->owners == 0 : lock->owners >= 0;
}

static void rwlock_admit(CoRwlock *lock, bool writer)
{
    lock->owners = writer ? -1 : lock->owners + 1;
}

static void coroutine_fn rwlock_lock(CoRwlock *lock, bool writer)
{
    Coroutine *self = qemu_coroutine_self();

    spin_lock(&lock->spin);
    if (QSIMPLEQ_EMPTY(&lock->tickets) && rwlock_admits(lock, writer)) {
        rwlock_admit(lock, writer);
        spin_unlock(&lock->spin);
    } else {
        CoWaitEntry entry = {.co = self, .waiting = true, .writer = writer};

        QSIMPLEQ_INSERT_TAIL(&lock->tickets, &entry, next);
        spin_unlock(&lock->spin);
        wait_for_turn(&entry);
    }
    self->locks_held++;
}

void coroutine_fn qemu_co_rwlock_rdlock(CoRwlock *lock)
{
    rwlock_lock(lock, false);
}

void coroutine_fn qemu_co_rwlock_wrlock(CoRwlock *lock)
{
    rwlock_lock(lock, true);
}

void coroutine_fn qemu_co_rwlock_unlock(CoRwlock *lock)
{
    Coroutine *self = qemu_coroutine_self();
    struct CoWaitList admitted = QSIMPLEQ_HEAD_INITIALIZER(admitted);
    CoWaitEntry *first;
    Coroutine *co;

    assert(self->locks_held > 0);
    self->locks_held--;
    spin_lock(&lock->spin);
    assert(lock->owners != 0);
    lock->owners = lock->owners < 0 ? 0 : lock->owners - 1;
    while ((first = QSIMPLEQ_FIRST(&lock->tickets)) && rwlock_admits(lock, first->writer)) {
        rwlock_admit(lock, first->writer); /* L1 */
        QSIMPLEQ_REMOVE_HEAD(&lock->tickets, next);
        QSIMPLEQ_INSERT_TAIL(&admitted, first, next);
    }
    spin_unlock(&lock->spin);
    while ((co = pop_waiter(&admitted))) {
        wake(co);
    }
}
