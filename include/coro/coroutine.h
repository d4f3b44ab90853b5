/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutines: a function that may stop in the middle and go on later, on a stack of its own.
 *
 * Nothing here knows a file descriptor or a clock.  What wakes a coroutine on the right thread, and
 * what ends its sleep, is the waker, a table that the aio room fills in (coro/waker.h).
 */
#ifndef CORO_COROUTINE_H
#define CORO_COROUTINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Marks a function that may yield; it must be called from a coroutine. */
#ifdef __clang__
#define coroutine_fn __attribute__((__annotate__("coroutine_fn")))
#else
#define coroutine_fn
#endif

typedef struct Coroutine Coroutine;
typedef void coroutine_fn CoroutineEntry(void *opaque);

/**
 * qemu_coroutine_create() - make a coroutine that will run @entry(@opaque)
 *
 * Context: any thread.  It does not run until it is entered; it frees itself when @entry returns.
 * Its home is the AioContext in which it is first entered or scheduled.
 */
Coroutine *qemu_coroutine_create(CoroutineEntry *entry, void *opaque);

/**
 * qemu_coroutine_enter() - run @co now, on top of the caller, until it yields or ends
 *
 * Context: the thread that is to run it; coroutine or not.  @co must not be running already.
 */
void qemu_coroutine_enter(Coroutine *co);

/* qemu_coroutine_yield() - stop here; control goes back to whoever entered. */
void coroutine_fn qemu_coroutine_yield(void);

/* qemu_coroutine_self() - the running coroutine; must be called in one. */
Coroutine *coroutine_fn qemu_coroutine_self(void);

/* qemu_in_coroutine() - is the caller inside a coroutine? */
bool qemu_in_coroutine(void);

/* qemu_coroutine_entered() - has @co been entered and not yet yielded? */
bool qemu_coroutine_entered(Coroutine *co);

/* What the waker keeps with a coroutine: the AioContext it runs in.  Owned by the waker. */
void *qemu_coroutine_get_home(Coroutine *co);
void qemu_coroutine_set_home(Coroutine *co, void *home);

/* Address space of one stack, and how many stacks there are, in use and pooled; for tests, statistics. */
size_t qemu_coroutine_stack_bytes(void);
size_t qemu_coroutine_stacks_live(void);

#endif
