/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lock.h - locks and queues on which a coroutine waits without holding its thread
 *
 * All of them may be used from coroutines of several AioContexts: a waiter is woken in its home.
 * Who waits longest is served first, always.  The fields belong to coro/lock.c.
 */
#ifndef CORO_LOCK_H
#define CORO_LOCK_H

#include "coro/coroutine.h"
#include "util/queue.h"

typedef struct CoWaitEntry CoWaitEntry;
QSIMPLEQ_HEAD(CoWaitList, CoWaitEntry);

/* A queue of coroutines.  FIFO.  Protected by a small internal lock; waking is thread-safe. */
typedef struct CoQueue {
    int spin;
    struct CoWaitList entries;
} CoQueue;

/* A lock for coroutines; FIFO.  Zeroed memory is not an unlocked mutex: call qemu_co_mutex_init. */
typedef struct CoMutex {
    int spin;
    Coroutine *holder; /* the lock is handed over: from one holder to the next without a gap */
    struct CoWaitList waiters;
} CoMutex;

typedef struct CoRwlock {
    int spin;
    int owners; /* readers, or -1 for a writer */
    struct CoWaitList tickets;
} CoRwlock;

void qemu_co_queue_init(CoQueue *queue);
/* Nobody may wait. */
void qemu_co_queue_destroy(CoQueue *queue);
/*
 * qemu_co_queue_wait() - wait until woken.  @mutex, if not NULL, is dropped meanwhile and held again at
 * return.  Without a mutex the caller and the wakers must be in one thread.
 */
void coroutine_fn qemu_co_queue_wait(CoQueue *queue, CoMutex *mutex);
/*
 * qemu_co_queue_next() - wake the first waiter; false when there is none
 *
 * Context: any; also outside of coroutines.  The waiter runs later, not inside this call.
 */
bool qemu_co_queue_next(CoQueue *queue);
/* Wakes all who wait now, in order. */
void qemu_co_queue_restart_all(CoQueue *queue);
bool qemu_co_queue_empty(CoQueue *queue);

void qemu_co_mutex_init(CoMutex *mutex);
/* Neither held nor waited for. */
void qemu_co_mutex_destroy(CoMutex *mutex);
/* Not recursive. */
void coroutine_fn qemu_co_mutex_lock(CoMutex *mutex);
/* By the coroutine that locked it, before that ends. */
void coroutine_fn qemu_co_mutex_unlock(CoMutex *mutex);
void coroutine_fn qemu_co_mutex_assert_held(CoMutex *mutex);

/*
 * Readers and writers take turns in the order in which they came: a reader waits behind a writer that
 * waits.  So a coroutine must not lock for reading what it has locked for reading already.
 */
void qemu_co_rwlock_init(CoRwlock *lock);
void qemu_co_rwlock_destroy(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_rdlock(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_wrlock(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_unlock(CoRwlock *lock);

#endif
