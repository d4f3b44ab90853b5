/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks and queues on which a coroutine waits without holding its thread.
 *
 * All of them may be used from coroutines of several AioContexts: a waiter is woken in its home.
 */
#ifndef CORO_LOCK_H
#define CORO_LOCK_H

#include <pthread.h>
#include "coro/coroutine.h"
#include "util/queue.h"

typedef struct CoWaitEntry CoWaitEntry;

/* A queue of coroutines.  FIFO.  Protected by a small internal lock; waking is thread-safe. */
typedef struct CoQueue {
    pthread_mutex_t lock;
    QSIMPLEQ_HEAD(, CoWaitEntry) entries;
} CoQueue;

/* A lock for coroutines; FIFO.  Zeroed memory is not an unlocked mutex: call qemu_co_mutex_init. */
typedef struct CoMutex {
    pthread_mutex_t lock;
    Coroutine *holder;
    QSIMPLEQ_HEAD(, CoWaitEntry) waiters;
} CoMutex;

typedef struct CoRwlock {
    pthread_mutex_t lock;
    int owners; /* readers, or -1 for a writer */
    QSIMPLEQ_HEAD(, CoWaitEntry) tickets;
} CoRwlock;

void qemu_co_queue_init(CoQueue *queue);
void qemu_co_queue_destroy(CoQueue *queue);
/*
 * qemu_co_queue_wait() - wait until woken.  @mutex, if not NULL, is dropped meanwhile and held again at
 * return.  Without a mutex the caller and the wakers must be in one thread.
 */
void coroutine_fn qemu_co_queue_wait(CoQueue *queue, CoMutex *mutex);
/* Wakes the first waiter; false when there is none.  The waiter runs later, not inside this call. */
bool qemu_co_queue_next(CoQueue *queue);
/* Wakes all who wait now. */
void qemu_co_queue_restart_all(CoQueue *queue);
bool qemu_co_queue_empty(CoQueue *queue);

void qemu_co_mutex_init(CoMutex *mutex);
void qemu_co_mutex_destroy(CoMutex *mutex);
void coroutine_fn qemu_co_mutex_lock(CoMutex *mutex);
void coroutine_fn qemu_co_mutex_unlock(CoMutex *mutex);
void coroutine_fn qemu_co_mutex_assert_held(CoMutex *mutex);

/* Readers and writers take turns in the order in which they came. */
void qemu_co_rwlock_init(CoRwlock *lock);
void qemu_co_rwlock_destroy(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_rdlock(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_wrlock(CoRwlock *lock);
void coroutine_fn qemu_co_rwlock_unlock(CoRwlock *lock);

#endif
