/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lock-test.c - queue, mutex, rwlock and sleep, with a waker and a clock of the test's own */
#include <stdlib.h>
#include "coro/lock.h"
#include "coro/sleep.h"
#include "fake-waker.h"

static CoQueue queue;
static CoMutex mutex;
static CoRwlock rwlock;
static GString *order; /* who came by, as letters */

typedef struct Actor {
    char letter;
    bool writer;
} Actor;

static void start(CoroutineEntry *entry, char letter, bool writer)
{
    Actor *actor = g_new(Actor, 1);

    actor->letter = letter;
    actor->writer = writer;
    qemu_coroutine_enter(qemu_coroutine_create(entry, actor));
}

static void expect_order(const char *expected)
{
    g_assert_cmpstr(order->str, ==, expected);
    g_string_truncate(order, 0);
}

static void coroutine_fn wait_in_queue(void *opaque)
{
    Actor *actor = opaque;

    qemu_co_queue_wait(&queue, NULL);
    g_string_append_c(order, actor->letter);
    g_free(actor);
}

static void test_a_queue_wakes_in_order_and_not_inside_the_call(void)
{
    qemu_co_queue_init(&queue);
    g_assert_false(qemu_co_queue_next(&queue));
    g_assert_true(qemu_co_queue_empty(&queue));
    start(wait_in_queue, 'a', false);
    start(wait_in_queue, 'b', false);
    start(wait_in_queue, 'c', false);
    g_assert_false(qemu_co_queue_empty(&queue));
    g_assert_true(qemu_co_queue_next(&queue));
    expect_order("");
    fake_run();
    expect_order("a");
    qemu_co_queue_restart_all(&queue);
    start(wait_in_queue, 'd', false); /* came later: not woken */
    expect_order("");
    fake_run();
    expect_order("bc");
    g_assert_true(qemu_co_queue_next(&queue));
    fake_run();
    expect_order("d");
    qemu_co_queue_destroy(&queue);
}

static void coroutine_fn wait_in_queue_with_mutex(void *opaque)
{
    Actor *actor = opaque;

    qemu_co_mutex_lock(&mutex);
    qemu_co_queue_wait(&queue, &mutex);
    qemu_co_mutex_assert_held(&mutex);
    g_string_append_c(order, actor->letter);
    g_free(actor);
    qemu_coroutine_yield();
    qemu_co_mutex_unlock(&mutex);
}

static void test_a_queue_drops_the_mutex_while_it_waits(void)
{
    Coroutine *a;

    qemu_co_queue_init(&queue);
    qemu_co_mutex_init(&mutex);
    start(wait_in_queue_with_mutex, 'a', false);
    start(wait_in_queue_with_mutex, 'b', false);
    qemu_co_queue_restart_all(&queue);
    fake_run();
    expect_order("a");
    a = mutex.holder;
    qemu_coroutine_enter(a);
    fake_run();
    expect_order("b");
    qemu_coroutine_enter(mutex.holder);
    qemu_co_mutex_destroy(&mutex);
    qemu_co_queue_destroy(&queue);
}

static void coroutine_fn hold_mutex(void *opaque)
{
    Actor *actor = opaque;

    qemu_co_mutex_lock(&mutex);
    g_string_append_c(order, actor->letter);
    g_free(actor);
    qemu_coroutine_yield();
    qemu_co_mutex_unlock(&mutex);
}

static void test_a_mutex_is_handed_over_in_order(void)
{
    Coroutine *holder;

    qemu_co_mutex_init(&mutex);
    start(hold_mutex, 'a', false);
    start(hold_mutex, 'b', false);
    start(hold_mutex, 'c', false);
    expect_order("a");
    holder = mutex.holder;
    qemu_coroutine_enter(holder);
    expect_order("");
    g_assert_true(mutex.holder && mutex.holder != holder); /* b holds it before it runs */
    start(hold_mutex, 'd', false);                         /* cannot overtake */
    expect_order("");
    for (const char *next = "bcd"; *next; next++) {
        char expected[2] = {*next};

        fake_run();
        expect_order(expected);
        qemu_coroutine_enter(mutex.holder);
    }
    g_assert_null(mutex.holder);
    qemu_co_mutex_destroy(&mutex);
}

static Coroutine *rwlock_inside[10];
static int rwlock_count;

static void coroutine_fn hold_rwlock(void *opaque)
{
    Actor *actor = opaque;

    if (actor->writer) {
        qemu_co_rwlock_wrlock(&rwlock);
    } else {
        qemu_co_rwlock_rdlock(&rwlock);
    }
    g_string_append_c(order, actor->letter);
    g_free(actor);
    rwlock_inside[rwlock_count++] = qemu_coroutine_self();
    qemu_coroutine_yield();
    qemu_co_rwlock_unlock(&rwlock);
}

static void leave_rwlock(void)
{
    qemu_coroutine_enter(rwlock_inside[--rwlock_count]);
    fake_run();
}

static void test_readers_and_writers_take_turns(void)
{
    qemu_co_rwlock_init(&rwlock);
    start(hold_rwlock, 'r', false);
    start(hold_rwlock, 's', false);
    expect_order("rs");
    start(hold_rwlock, 'W', true);
    start(hold_rwlock, 't', false); /* behind the writer, though readers are in */
    start(hold_rwlock, 'u', false);
    start(hold_rwlock, 'X', true);
    start(hold_rwlock, 'v', false);
    expect_order("");
    leave_rwlock();
    expect_order("");
    leave_rwlock();
    expect_order("W");
    leave_rwlock();
    expect_order("tu");
    leave_rwlock();
    leave_rwlock();
    expect_order("X");
    leave_rwlock();
    expect_order("v");
    leave_rwlock();
    qemu_co_rwlock_destroy(&rwlock);
}

static void coroutine_fn end_with_lock(void *opaque)
{
    qemu_co_mutex_lock(&mutex);
}

static void test_ending_with_a_lock_held_is_caught(void)
{
    if (g_test_subprocess()) {
        qemu_co_mutex_init(&mutex);
        qemu_coroutine_enter(qemu_coroutine_create(end_with_lock, NULL));
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*locks_held*");
}

static void test_entering_one_that_waits_for_a_lock_is_caught(void)
{
    if (g_test_subprocess()) {
        Actor actor = {'a', false};
        Coroutine *co = qemu_coroutine_create(wait_in_queue, &actor);

        qemu_co_queue_init(&queue);
        qemu_coroutine_enter(co);
        qemu_coroutine_enter(co);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*waiting*");
}

static QemuCoSleep sleeper;

static void coroutine_fn sleep_ten(void *opaque)
{
    qemu_co_sleep_ns(10);
    g_string_append_c(order, 'z');
}

static void coroutine_fn sleep_wakeable(void *opaque)
{
    int64_t *ns = opaque;

    qemu_co_sleep_ns_wakeable(&sleeper, *ns);
    g_string_append_c(order, 'w');
}

static void test_a_sleep_ends_with_its_timer(void)
{
    qemu_coroutine_enter(qemu_coroutine_create(sleep_ten, NULL));
    fake_advance(9);
    expect_order("");
    fake_advance(1);
    expect_order("z");
    g_assert_null(fake_timers);
}

static void test_a_sleep_is_cut_short_once(void)
{
    int64_t ns = 10, for_ever = -1;

    qemu_co_sleep_wake(&sleeper); /* nobody */
    qemu_coroutine_enter(qemu_coroutine_create(sleep_wakeable, &ns));
    qemu_co_sleep_wake(&sleeper);
    qemu_co_sleep_wake(&sleeper);
    fake_advance(10); /* the timer fires before the woken one has run: it finds nobody */
    expect_order("w");
    g_assert_null(fake_timers);

    qemu_coroutine_enter(qemu_coroutine_create(sleep_wakeable, &for_ever));
    fake_advance(1000);
    expect_order("");
    qemu_co_sleep_wake(&sleeper);
    fake_run();
    expect_order("w");
}

/* Readers and writers at random; the counters say who was inside. */
enum { STRESS_ACTORS = 100, STRESS_ROUNDS = 100 };

static GRand *stress_rand;
static int stress_readers, stress_writers, stress_done;

static void coroutine_fn stress_actor(void *opaque)
{
    for (int i = 0; i < STRESS_ROUNDS; i++) {
        bool writer = g_rand_int_range(stress_rand, 0, 4) == 0;

        if (writer) {
            qemu_co_rwlock_wrlock(&rwlock);
            stress_writers++;
        } else {
            qemu_co_rwlock_rdlock(&rwlock);
            stress_readers++;
        }
        g_assert_true(stress_writers == 0 || (stress_writers == 1 && stress_readers == 0));
        qemu_co_sleep_ns(g_rand_int_range(stress_rand, 0, 3));
        if (writer) {
            stress_writers--;
        } else {
            stress_readers--;
        }
        qemu_co_rwlock_unlock(&rwlock);
    }
    stress_done++;
}

static void test_rwlock_under_stress(void)
{
    const char *text = g_getenv("SEED");
    uint32_t seed = text ? strtoul(text, NULL, 0) : g_random_int();

    g_test_message("SEED=%u", seed);
    stress_rand = g_rand_new_with_seed(seed);
    qemu_co_rwlock_init(&rwlock);
    for (int i = 0; i < STRESS_ACTORS; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(stress_actor, NULL));
    }
    while (stress_done < STRESS_ACTORS) {
        g_assert_nonnull(fake_timers);
        fake_advance(1);
    }
    qemu_co_rwlock_destroy(&rwlock);
    g_rand_free(stress_rand);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    coro_set_waker(&fake_waker);
    order = g_string_new("");
    g_test_add_func("/a queue wakes in order and not inside the call",
                    test_a_queue_wakes_in_order_and_not_inside_the_call);
    g_test_add_func("/a queue drops the mutex while it waits",
                    test_a_queue_drops_the_mutex_while_it_waits);
    g_test_add_func("/a mutex is handed over in order", test_a_mutex_is_handed_over_in_order);
    g_test_add_func("/readers and writers take turns", test_readers_and_writers_take_turns);
    g_test_add_func("/ending with a lock held is caught", test_ending_with_a_lock_held_is_caught);
    g_test_add_func("/entering one that waits for a lock is caught",
                    test_entering_one_that_waits_for_a_lock_is_caught);
    g_test_add_func("/a sleep ends with its timer", test_a_sleep_ends_with_its_timer);
    g_test_add_func("/a sleep is cut short once", test_a_sleep_is_cut_short_once);
    g_test_add_func("/rwlock under stress", test_rwlock_under_stress);
    ret = g_test_run();
    g_string_free(order, TRUE);
    return ret;
}
