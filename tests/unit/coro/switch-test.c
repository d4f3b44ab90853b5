/* SPDX-License-Identifier: GPL-2.0-or-later */
/* switch-test.c - entering, yielding, ending; the pool of stacks; threads */
#include <pthread.h>
#include <string.h>
#include "fake-waker.h"

static void coroutine_fn count_to_three(void *opaque)
{
    int *n = opaque;

    g_assert_true(qemu_in_coroutine());
    for (*n = 1; *n < 3; ++*n) {
        qemu_coroutine_yield();
    }
}

static void test_a_coroutine_goes_on_where_it_stopped(void)
{
    int n = 0;
    Coroutine *co = qemu_coroutine_create(count_to_three, &n);

    g_assert_false(qemu_in_coroutine());
    g_assert_false(qemu_coroutine_entered(co));
    for (int i = 1; i <= 3; i++) {
        g_assert_cmpint(n, ==, i - 1);
        qemu_coroutine_enter(co);
        g_assert_cmpint(n, ==, i);
        g_assert_false(qemu_in_coroutine());
    }
}

typedef struct Nest {
    int depth;
    Coroutine *caller;
} Nest;

static void coroutine_fn nest(void *opaque)
{
    Nest *n = opaque;
    Nest inner = {.depth = n->depth - 1, .caller = qemu_coroutine_self()};
    Coroutine *co;

    g_assert_true(qemu_coroutine_self() != n->caller);
    g_assert_true(!n->caller || qemu_coroutine_entered(n->caller));
    if (n->depth == 0) {
        return;
    }
    co = qemu_coroutine_create(nest, &inner);
    qemu_coroutine_enter(co);
    g_assert_true(qemu_coroutine_self() == inner.caller);
    qemu_coroutine_yield();
    qemu_coroutine_enter(n->depth == 1 ? qemu_coroutine_create(nest, &inner) : co);
}

static void test_coroutines_enter_each_other(void)
{
    Nest n = {.depth = 50};
    Coroutine *co = qemu_coroutine_create(nest, &n);

    qemu_coroutine_enter(co);
    qemu_coroutine_enter(co);
}

static void coroutine_fn keep_floats_and_registers(void *opaque)
{
    volatile double seed = GPOINTER_TO_INT(opaque);
    double a = seed * 1.5, b = seed / 3, c = seed + 0.25;
    long i = seed, j = i * 3, k = j ^ 0x5555, l = k + i;

    for (int n = 0; n < 10; n++) {
        qemu_coroutine_yield();
        g_assert_true(a == seed * 1.5 && b == seed / 3 && c == seed + 0.25);
        g_assert_true(i == (long)seed && j == i * 3 && k == (j ^ 0x5555) && l == k + i);
    }
}

static void test_local_variables_survive_a_switch(void)
{
    Coroutine *co[20];

    for (int i = 0; i < 20; i++) {
        co[i] = qemu_coroutine_create(keep_floats_and_registers, GINT_TO_POINTER(i + 1));
    }
    for (int n = 0; n < 11; n++) {
        for (int i = 0; i < 20; i++) {
            qemu_coroutine_enter(co[i]);
        }
    }
}

static void coroutine_fn nothing(void *opaque)
{
}

static void coroutine_fn yield_once(void *opaque)
{
    qemu_coroutine_yield();
}

static void test_stacks_are_used_again(void)
{
    size_t before;

    qemu_coroutine_enter(qemu_coroutine_create(nothing, NULL));
    before = qemu_coroutine_stacks_live();
    for (int i = 0; i < 10000; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(nothing, NULL));
    }
    g_assert_cmpuint(qemu_coroutine_stacks_live(), ==, before);
}

static void test_a_burst_does_not_keep_its_memory(void)
{
    enum { BURST = 3000 };
    Coroutine **co = g_new(Coroutine *, BURST);

    for (int i = 0; i < BURST; i++) {
        co[i] = qemu_coroutine_create(yield_once, NULL);
        qemu_coroutine_enter(co[i]);
    }
    g_assert_cmpuint(qemu_coroutine_stacks_live(), >=, BURST);
    for (int i = 0; i < BURST; i++) {
        qemu_coroutine_enter(co[i]);
    }
    g_assert_cmpuint(qemu_coroutine_stacks_live(), <=, 700);
    g_free(co);
}

/* Touch at least @bytes of a stack; each frame must be there while the next is. */
static __attribute__((noinline)) void eat_stack(size_t bytes)
{
    char part[4096];

    memset(part, 1, sizeof(part));
    if (bytes > sizeof(part)) {
        eat_stack(bytes - sizeof(part));
    }
    __asm__ volatile("" : : "r"(part) : "memory");
}

static void coroutine_fn deep(void *opaque)
{
    /* A sanitizer's frames are larger than what they hold. */
    eat_stack(qemu_coroutine_stack_bytes() / 2);
}

static void test_a_stack_is_as_deep_as_it_says(void)
{
    qemu_coroutine_enter(qemu_coroutine_create(deep, NULL));
}

static void coroutine_fn overflow(void *opaque)
{
    eat_stack(16 * qemu_coroutine_stack_bytes());
}

static void test_an_overflow_hits_the_guard_page(void)
{
    if (g_test_subprocess()) {
        qemu_coroutine_enter(qemu_coroutine_create(overflow, NULL));
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
}

static void coroutine_fn enter_it(void *opaque)
{
    Coroutine **co = opaque;

    qemu_coroutine_enter(*co);
}

static void test_entering_twice_is_caught(void)
{
    if (g_test_subprocess()) {
        Coroutine *co = qemu_coroutine_create(enter_it, &co); /* enters itself */

        qemu_coroutine_enter(co);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*caller*");
}

/* A coroutine that is entered by one thread after the other. */
enum { HOPS = 400, THREADS = 4 };

typedef struct Hops {
    Coroutine *co;
    pthread_mutex_t lock;
    int count;
    pthread_t seen;
} Hops;

static void coroutine_fn hop(void *opaque)
{
    Hops *h = opaque;

    while (h->count < HOPS) {
        g_assert_true(qemu_coroutine_self() == h->co);
        h->seen = pthread_self();
        h->count++;
        qemu_coroutine_yield();
    }
    h->co = NULL;
}

static void *hop_thread(void *opaque)
{
    Hops *h = opaque;
    bool done = false;

    while (!done) {
        pthread_mutex_lock(&h->lock);
        if (h->co) {
            int before = h->count;

            qemu_coroutine_enter(h->co);
            g_assert_true(h->count == before || pthread_equal(h->seen, pthread_self()));
        } else {
            done = true;
        }
        pthread_mutex_unlock(&h->lock);
        qemu_coroutine_enter(qemu_coroutine_create(nothing, NULL));
        sched_yield();
    }
    return NULL;
}

static void test_a_coroutine_goes_on_in_another_thread(void)
{
    Hops h = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[THREADS];

    h.co = qemu_coroutine_create(hop, &h);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, hop_thread, &h);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    g_assert_cmpint(h.count, ==, HOPS);
}

static void test_the_home_is_that_of_the_thread_that_enters_first(void)
{
    int home, other;
    Coroutine *co = qemu_coroutine_create(yield_once, NULL);

    g_assert_null(qemu_coroutine_get_home(co));
    coro_set_thread_home(&home);
    qemu_coroutine_enter(co);
    g_assert_true(qemu_coroutine_get_home(co) == &home);
    coro_set_thread_home(NULL);
    qemu_coroutine_set_home(co, &other);
    qemu_coroutine_enter(co);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    coro_set_waker(&fake_waker);
    g_test_add_func("/a coroutine goes on where it stopped",
                    test_a_coroutine_goes_on_where_it_stopped);
    g_test_add_func("/coroutines enter each other", test_coroutines_enter_each_other);
    g_test_add_func("/local variables survive a switch", test_local_variables_survive_a_switch);
    g_test_add_func("/stacks are used again", test_stacks_are_used_again);
    g_test_add_func("/a burst does not keep its memory", test_a_burst_does_not_keep_its_memory);
    g_test_add_func("/a stack is as deep as it says", test_a_stack_is_as_deep_as_it_says);
    g_test_add_func("/an overflow hits the guard page", test_an_overflow_hits_the_guard_page);
    g_test_add_func("/entering twice is caught", test_entering_twice_is_caught);
    g_test_add_func("/a coroutine goes on in another thread",
                    test_a_coroutine_goes_on_in_another_thread);
    g_test_add_func("/the home is that of the thread that enters first",
                    test_the_home_is_that_of_the_thread_that_enters_first);
    return g_test_run();
}
