/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stack.c - the memory of coroutines, and the pool that keeps it
 *
 *    low                                                                      high
 *    +-------+-----------------------------------------------+-----------+--------+
 *    | guard |  stack, grows down; pages appear when touched  | Coroutine | colour |
 *    +-------+-----------------------------------------------+-----------+--------+
 *
 * The Coroutine lies on top of its own stack: one mapping, and one page for both as long as the stack
 * is shallow.  Mappings begin at page boundaries, so the hot first lines of all stacks would fall into
 * the same few sets of the processor's cache; the colour shifts each by another number of lines.
 *
 * P1  The pool of a thread is used without a lock.  What it has too much of goes, in a batch, to a
 *     pool shared by all threads, and from there to the thread that has too few: a coroutine may end
 *     in another thread than the one that made it.
 * P2  Both pools are bounded, so that a burst of requests does not keep its memory for ever: what
 *     the shared pool cannot take is unmapped.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "coro-int.h"
#include "switch.h"

#ifdef CORO_ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef CONFIG_VALGRIND
#include <valgrind/valgrind.h>
#endif

/*
 * Address space of a stack.  It costs nothing until touched, so it is chosen for the deepest path:
 * a recursive parser at its depth limit, or functions whose frames a sanitizer has blown up.
 */
#define CORO_STACK_BYTES (1024 * 1024)

/* Stacks in the pool of a thread: twice a batch.  A batch is what one thread hands another at once. */
#define CORO_POOL_BATCH  64
#define CORO_POOL_THREAD (2 * CORO_POOL_BATCH)

/*
 * Batches in the shared pool: with the thread's own, 640 requests may come and go without a system
 * call; some 5 MiB remain after a burst, at about 8 KiB touched each.
 */
#define CORO_POOL_SHARED 8

#define CORO_COLOURS     32
#define CORO_COLOUR_STEP 128 /* two cache lines: they are fetched in pairs */

static struct {
    pthread_mutex_t lock;
    Coroutine *batch[CORO_POOL_SHARED];
    int count;   /* atomic, so that an empty pool is seen without the lock */
    size_t live; /* atomic: all stacks there are */
    unsigned colour;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_key_t thread_end_key;
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;

static Coroutine *stack_new(void)
{
    size_t page = sysconf(_SC_PAGESIZE);
    size_t size = page + CORO_STACK_BYTES;
    size_t colour = __atomic_fetch_add(&shared.colour, 1, __ATOMIC_RELAXED) % CORO_COLOURS;
    Coroutine *co;
    char *map, *top;

    map = mmap(NULL, size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) < 0) {
        perror("no memory for the stack of a coroutine");
        abort();
    }
    top = map + size - colour * CORO_COLOUR_STEP - sizeof(Coroutine);
    co = (Coroutine *)((uintptr_t)top & ~(uintptr_t)63);
    co->link.co = co;
    co->map = map;
    co->stack_bottom = map + page;
    co->stack_size = CORO_STACK_BYTES;
    co->sp = co;
#ifdef CONFIG_VALGRIND
    co->valgrind_id = VALGRIND_STACK_REGISTER(map + page, co);
#endif
    coro_switch_init(co);
    __atomic_fetch_add(&shared.live, 1, __ATOMIC_RELAXED);
    return co;
}

static void stack_free(Coroutine *co)
{
    coro_switch_destroy(co);
#ifdef CONFIG_VALGRIND
    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#endif
#ifdef CORO_ASAN
    /* coro_main() never returns; its frame's marks would stay behind for the next mapping here. */
    __asan_unpoison_memory_region(co->stack_bottom, co->stack_size);
#endif
    munmap(co->map, (char *)co->stack_bottom - (char *)co->map + co->stack_size);
    __atomic_fetch_sub(&shared.live, 1, __ATOMIC_RELAXED);
}

static void stack_free_list(Coroutine *co)
{
    while (co) {
        Coroutine *next = co->pool_next;

        stack_free(co);
        co = next;
    }
}

/* Move one batch from @t to the shared pool, or out of memory if that is full (P2). */
static void pool_give_batch(CoThread *t)
{
    Coroutine *first = t->pool, *last = first;
    bool taken = false;

    for (int i = 1; i < CORO_POOL_BATCH; i++) {
        last = last->pool_next;
    }
    t->pool = last->pool_next;
    t->pool_count -= CORO_POOL_BATCH;
    last->pool_next = NULL;

    pthread_mutex_lock(&shared.lock);
    if (shared.count < CORO_POOL_SHARED) {
        shared.batch[shared.count] = first;
        __atomic_store_n(&shared.count, shared.count + 1, __ATOMIC_RELAXED);
        taken = true;
    }
    pthread_mutex_unlock(&shared.lock);
    if (!taken) {
        stack_free_list(first);
    }
}

static bool pool_take_batch(CoThread *t)
{
    if (__atomic_load_n(&shared.count, __ATOMIC_RELAXED) == 0) {
        return false;
    }
    pthread_mutex_lock(&shared.lock);
    if (shared.count > 0) {
        __atomic_store_n(&shared.count, shared.count - 1, __ATOMIC_RELAXED);
        t->pool = shared.batch[shared.count];
        t->pool_count = CORO_POOL_BATCH;
    }
    pthread_mutex_unlock(&shared.lock);
    return t->pool != NULL;
}

/* The end of a thread: its pool goes with it. */
static void thread_end(void *opaque)
{
    CoThread *t = opaque;

    while (t->pool_count >= CORO_POOL_BATCH) {
        pool_give_batch(t);
    }
    stack_free_list(t->pool);
    t->pool = NULL;
    t->pool_count = 0;
    t->registered = false;
}

static void thread_end_key_new(void)
{
    if (pthread_key_create(&thread_end_key, thread_end) != 0) {
        abort();
    }
}

static void thread_register(CoThread *t)
{
    pthread_once(&thread_end_once, thread_end_key_new);
    pthread_setspecific(thread_end_key, t);
    t->registered = true;
}

Coroutine *coro_stack_get(CoThread *t)
{
    Coroutine *co;

    if (!t->pool && !pool_take_batch(t)) {
        return stack_new();
    }
    co = t->pool;
    t->pool = co->pool_next;
    t->pool_count--;
    return co;
}

void coro_stack_put(CoThread *t, Coroutine *co)
{
    if (__builtin_expect(!t->registered, 0)) {
        thread_register(t);
    }
    if (t->pool_count >= CORO_POOL_THREAD) {
        pool_give_batch(t);
    }
    co->pool_next = t->pool;
    t->pool = co;
    t->pool_count++;
}

size_t qemu_coroutine_stack_bytes(void)
{
    return CORO_STACK_BYTES;
}

size_t qemu_coroutine_stacks_live(void)
{
    return __atomic_load_n(&shared.live, __ATOMIC_RELAXED);
}
