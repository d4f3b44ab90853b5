/* SPDX-License-Identifier: GPL-2.0-or-later */
/* coro-int.h - the insides of a coroutine, shared by this room's files only */
#ifndef CORO_INT_H
#define CORO_INT_H

#include "coro/coroutine.h"
#include "coro/waker.h"

#if defined(__SANITIZE_ADDRESS__)
#define CORO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CORO_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define CORO_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CORO_TSAN 1
#endif

#if !defined(CORO_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define CORO_UCONTEXT 1
#endif

#ifdef CORO_UCONTEXT
#include <ucontext.h>
#endif

struct Coroutine {
    /* Where it stopped: what the switch saves and loads (switch.h). */
    void *sp;
    void *fp;
    void *pc;

    /* Who entered it; NULL while it is not entered.  The thread that runs it writes. */
    Coroutine *caller;
    CoroutineEntry *entry;
    void *opaque;
    void *home;
    CoWakeLink link;
    unsigned locks_held; /* CoMutex and CoRwlock; none may be left at the end (C3) */
    bool ended;          /* the entry function has returned */

    /* The stack, fixed while the coroutine is in the pool or in use. */
    Coroutine *pool_next;
    void *map; /* the mapping: a guard page, then the stack; NULL for a thread's own stack */
    void *stack_bottom;
    size_t stack_size;
    unsigned valgrind_id;
    void *fake_stack; /* AddressSanitizer's */
    void *fiber;      /* ThreadSanitizer's */
#ifdef CORO_UCONTEXT
    ucontext_t ucontext;
#endif
};

/* What a thread knows: who runs, and the stacks it keeps for the next coroutines. */
typedef struct CoThread {
    Coroutine *current; /* NULL until the thread first enters one */
    Coroutine leader;   /* the thread itself, as the bottom of the chain of callers */
    void *home;
    Coroutine *pool;
    unsigned pool_count;
    bool registered; /* the thread's end will return its pool */
} CoThread;

/* The calling thread's.  Never keep it across a switch: one may go on in another thread (C2). */
CoThread *coro_thread(void);

/* coroutine.c: the first thing that runs on a new stack; never returns. */
void coro_main(void) __attribute__((noreturn));

/* stack.c: a coroutine with a stack, ready to be entered; and its return to the pool. */
Coroutine *coro_stack_get(CoThread *t);
void coro_stack_put(CoThread *t, Coroutine *co);

#endif
