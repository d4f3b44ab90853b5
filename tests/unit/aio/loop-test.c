/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loop-test.c - bottom halves, wakes, timers, virtual time, worker threads, iothreads */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "aio/aio.h"
#include "aio/iothread.h"
#include "aio/thread-pool.h"
#include "aio/timer.h"
#include "coro/lock.h"
#include "coro/sleep.h"
#include "engines.h"
#include "util/osdep.h"

/* What ran, in order, as letters. */
static GString *log_text;

static void log_letter(void *opaque)
{
    g_string_append_c(log_text, *(const char *)opaque);
}

static void test_bhs_run_in_the_order_of_scheduling(void)
{
    AioContext *ctx = qemu_get_aio_context();
    QEMUBH *b = aio_bh_new(ctx, log_letter, (void *)"b");

    log_text = g_string_new("");
    aio_bh_schedule_oneshot(ctx, log_letter, (void *)"a");
    qemu_bh_schedule(b);
    qemu_bh_schedule(b); /* twice is once */
    aio_bh_schedule_oneshot(ctx, log_letter, (void *)"c");
    g_assert_true(aio_poll(ctx, false));
    g_assert_cmpstr(log_text->str, ==, "abc");
    g_assert_false(aio_poll(ctx, false));

    qemu_bh_schedule(b);
    qemu_bh_cancel(b);
    g_assert_false(aio_poll(ctx, false));
    qemu_bh_schedule(b);
    qemu_bh_delete(b);
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpstr(log_text->str, ==, "abc");
    g_string_free(log_text, TRUE);
}

typedef struct Again {
    int runs;
    QEMUBH *bh;
} Again;

static void schedule_again(void *opaque)
{
    Again *again = opaque;

    again->runs++;
    qemu_bh_schedule(again->bh);
}

static void test_a_bh_scheduled_in_a_bh_runs_in_the_next_turn(void)
{
    AioContext *ctx = qemu_get_aio_context();
    Again again = {0};

    again.bh = aio_bh_new(ctx, schedule_again, &again);
    qemu_bh_schedule(again.bh);
    for (int turn = 1; turn <= 3; turn++) {
        aio_poll(ctx, true);
        g_assert_cmpint(again.runs, ==, turn);
    }
    qemu_bh_delete(again.bh);
}

typedef struct Deleter {
    QEMUBH *victim;
} Deleter;

static void delete_victim(void *opaque)
{
    Deleter *d = opaque;

    qemu_bh_delete(d->victim);
}

static void test_a_bh_may_delete_one_that_is_due_in_the_same_turn(void)
{
    AioContext *ctx = qemu_get_aio_context();
    Deleter d;

    log_text = g_string_new("");
    aio_bh_schedule_oneshot(ctx, delete_victim, &d);
    d.victim = aio_bh_new(ctx, log_letter, (void *)"x");
    qemu_bh_schedule(d.victim);
    aio_poll(ctx, true);
    aio_poll(ctx, false);
    g_assert_cmpstr(log_text->str, ==, "");
    g_string_free(log_text, TRUE);
}

static void count_up(void *opaque)
{
    ++*(int *)opaque;
}

static void test_timers_fire_when_due_and_not_before(void)
{
    AioContext *ctx = qemu_get_aio_context();
    int early = 0, late = 0;
    QEMUTimer *t1 = aio_timer_new(ctx, count_up, &early);
    QEMUTimer *t2 = aio_timer_new(ctx, count_up, &late);
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    timer_mod_ns(t1, start + 2 * SCALE_MS);
    timer_mod_ns(t2, start + 3600 * NANOSECONDS_PER_SECOND);
    g_assert_true(timer_pending(t1));
    poll_until(early);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), >=, start + 2 * SCALE_MS);
    g_assert_false(timer_pending(t1));
    g_assert_cmpint(late, ==, 0);
    timer_mod_ns(t2, 0); /* long ago */
    poll_until(late);
    timer_free(t1);
    timer_free(t2);
}

typedef struct OrderedTimer {
    QEMUTimer *timer;
    int64_t when;
} OrderedTimer;

static int64_t last_when;

static void ordered_timer(void *opaque)
{
    OrderedTimer *t = opaque;

    g_assert_cmpint(t->when, >=, last_when);
    last_when = t->when;
}

static void test_many_timers_fire_in_order(void)
{
    enum { COUNT = 300 };
    AioContext *ctx = qemu_get_aio_context();
    GRand *rand = g_rand_new_with_seed(g_test_rand_int());
    OrderedTimer timers[COUNT];

    qemu_clock_set_virtual(true);
    last_when = 0;
    for (int i = 0; i < COUNT; i++) {
        timers[i].timer = aio_timer_new(ctx, ordered_timer, &timers[i]);
        timers[i].when = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + g_rand_int_range(rand, 0, 1000);
        timer_mod_ns(timers[i].timer, timers[i].when);
    }
    for (int i = 0; i < COUNT; i += 3) {
        timer_del(timers[i].timer);
    }
    for (int i = 1; i < COUNT; i += 3) {
        timers[i].when += g_rand_int_range(rand, 0, 1000);
        timer_mod_ns(timers[i].timer, timers[i].when);
    }
    for (int i = 0; i < COUNT; i++) {
        poll_until(!timer_pending(timers[i].timer));
    }
    for (int i = 0; i < COUNT; i++) {
        timer_free(timers[i].timer);
    }
    qemu_clock_set_virtual(false);
    g_rand_free(rand);
}

static void coroutine_fn sleep_an_hour(void *opaque)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    qemu_co_sleep_ns(3600 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), ==,
                    start + 3600 * NANOSECONDS_PER_SECOND);
}

static void test_virtual_time_jumps_to_the_next_deadline(void)
{
    int64_t real = g_get_monotonic_time();

    qemu_clock_set_virtual(true);
    aio_run_co(sleep_an_hour, NULL);
    qemu_clock_set_virtual(false);
    g_assert_cmpint(g_get_monotonic_time() - real, <, 60 * G_USEC_PER_SEC);
}

static int slow_job(void *opaque)
{
    sched_yield();
    return *(int *)opaque;
}

static void coroutine_fn virtual_time_waits_for_work(void *opaque)
{
    bool *done = opaque;

    for (int i = 0; i < 200; i++) {
        int64_t before = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

        g_assert_cmpint(thread_pool_submit_co(slow_job, &i), ==, i);
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), ==, before);
    }
    *done = true;
}

static void test_virtual_time_stands_still_while_work_is_in_flight(void)
{
    AioContext *ctx = qemu_get_aio_context();
    int fired = 0;
    bool done = false;
    QEMUTimer *timer;

    qemu_clock_set_virtual(true);
    timer = aio_timer_new(ctx, count_up, &fired);
    timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + 1);
    aio_co_enter(ctx, qemu_coroutine_create(virtual_time_waits_for_work, &done));
    poll_until(done);
    g_assert_cmpint(fired, ==, 0);
    poll_until(fired);
    timer_free(timer);
    qemu_clock_set_virtual(false);
}

static QemuCoSleep sleeper;

static void wake_sleeper(void *opaque)
{
    qemu_co_sleep_wake(&sleeper);
    qemu_co_sleep_wake(&sleeper); /* nobody any more */
}

static void coroutine_fn sleep_until_woken(void *opaque)
{
    int64_t *ns = opaque;

    aio_bh_schedule_oneshot(qemu_get_aio_context(), wake_sleeper, NULL);
    qemu_co_sleep_ns_wakeable(&sleeper, *ns);
}

static void test_a_sleep_is_cut_short(void)
{
    int64_t day = 86400 * NANOSECONDS_PER_SECOND, for_ever = -1;

    aio_run_co(sleep_until_woken, &day);
    aio_run_co(sleep_until_woken, &for_ever);
}

static void coroutine_fn sleep_a_little(void *opaque)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    qemu_co_sleep_ns(1 * SCALE_MS);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, >=, 1 * SCALE_MS);
}

static void test_a_sleep_lasts_as_long_as_asked(void)
{
    aio_run_co(sleep_a_little, NULL);
}

enum { JOBS = 500 };

static int jobs_done;

static int job_square(void *opaque)
{
    int n = *(int *)opaque;

    return n * n;
}

static void coroutine_fn submit_job(void *opaque)
{
    int n = GPOINTER_TO_INT(opaque);

    g_assert_cmpint(thread_pool_submit_co(job_square, &n), ==, n * n);
    g_assert_true(in_aio_context(qemu_get_aio_context()));
    jobs_done++;
}

static void test_many_jobs_run_in_a_bounded_pool(void)
{
    AioContext *ctx = qemu_get_aio_context();

    jobs_done = 0;
    for (int i = 0; i < JOBS; i++) {
        aio_co_enter(ctx, qemu_coroutine_create(submit_job, GINT_TO_POINTER(i)));
        g_assert_cmpint(thread_pool_workers(), <=, 64);
    }
    poll_until(jobs_done == JOBS);
}

enum { BH_THREADS = 4, BHS_EACH = 5000 };

static void *schedule_from_thread(void *opaque)
{
    for (int i = 0; i < BHS_EACH; i++) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), count_up, opaque);
    }
    return NULL;
}

static void test_bhs_from_other_threads_are_all_run(void)
{
    pthread_t threads[BH_THREADS];
    int count = 0;

    for (int i = 0; i < BH_THREADS; i++) {
        pthread_create(&threads[i], NULL, schedule_from_thread, &count);
    }
    poll_until(count == BH_THREADS * BHS_EACH);
    for (int i = 0; i < BH_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void coroutine_fn travel(void *opaque)
{
    AioContext *there = opaque;
    AioContext *here = qemu_get_aio_context();

    for (int i = 0; i < 200; i++) {
        aio_co_reschedule_self(there);
        g_assert_true(in_aio_context(there));
        g_assert_true(qemu_get_current_aio_context() == there);
        aio_co_reschedule_self(here);
        g_assert_true(in_aio_context(here));
    }
}

static void test_a_coroutine_moves_between_threads(void)
{
    IOThread *iothread = iothread_create("io0", engine_under_test, &error_abort);

    g_assert_cmpstr(iothread_get_id(iothread), ==, "io0");
    g_assert_cmpint(iothread_get_thread_id(iothread), !=, getpid());
    aio_run_co(travel, iothread_get_aio_context(iothread));
    iothread_destroy(iothread);
}

/* Coroutines of three threads take turns under one mutex. */
enum { RACERS = 12, LAPS = 300, TRACKS = 3 };

typedef struct Race {
    CoMutex mutex;
    int inside;
    long laps;
    int finished; /* atomic */
} Race;

static void coroutine_fn race(void *opaque)
{
    Race *r = opaque;
    AioContext *home = qemu_get_current_aio_context();

    for (int i = 0; i < LAPS; i++) {
        qemu_co_mutex_lock(&r->mutex);
        g_assert_cmpint(r->inside++, ==, 0);
        r->laps++;
        g_assert_true(in_aio_context(home));
        if (i % 7 == 0) {
            aio_co_wake(qemu_coroutine_self());
            qemu_coroutine_yield();
        }
        r->inside--;
        qemu_co_mutex_unlock(&r->mutex);
    }
    __atomic_fetch_add(&r->finished, 1, __ATOMIC_SEQ_CST);
    aio_notify(qemu_get_aio_context());
}

static void test_a_mutex_is_shared_by_threads(void)
{
    AioContext *contexts[TRACKS] = {qemu_get_aio_context()};
    IOThread *iothreads[TRACKS] = {NULL};
    Race r = {0};

    qemu_co_mutex_init(&r.mutex);
    for (int i = 1; i < TRACKS; i++) {
        iothreads[i] = iothread_create("racer", engine_under_test, &error_abort);
        contexts[i] = iothread_get_aio_context(iothreads[i]);
    }
    for (int i = 0; i < RACERS; i++) {
        aio_co_schedule(contexts[i % TRACKS], qemu_coroutine_create(race, &r));
    }
    poll_until(__atomic_load_n(&r.finished, __ATOMIC_SEQ_CST) == RACERS);
    for (int i = 1; i < TRACKS; i++) {
        iothread_destroy(iothreads[i]);
    }
    g_assert_cmpint(r.laps, ==, RACERS * LAPS);
    qemu_co_mutex_destroy(&r.mutex);
}

typedef struct Busy {
    bool stop;
    bool stopped;
} Busy;

static void coroutine_fn wake_self_until(void *opaque)
{
    Busy *busy = opaque;

    while (!busy->stop) {
        aio_co_wake(qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    busy->stopped = true;
}

static void eventfd_handler(void *opaque)
{
    Busy *busy = opaque;

    busy->stop = true;
}

static void test_a_busy_coroutine_does_not_starve_fd_handlers_and_timers(void)
{
    AioContext *ctx = qemu_get_aio_context();
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    Busy busy = {0};
    int fired = 0;
    QEMUTimer *timer = aio_timer_new(ctx, count_up, &fired);

    aio_co_enter(ctx, qemu_coroutine_create(wake_self_until, &busy));
    timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + 1000);
    poll_until(fired);
    aio_set_fd_handler(ctx, fd, eventfd_handler, NULL, &busy);
    poll_until(busy.stopped);
    aio_set_fd_handler(ctx, fd, NULL, NULL, NULL);
    close(fd);
    timer_free(timer);
}

static void test_the_engine_tells_its_name(void)
{
    AioContext *ctx = qemu_get_aio_context();

    g_assert_nonnull(aio_context_engine_reason(ctx));
    g_assert_true(g_str_equal(aio_context_engine_name(ctx), "io_uring") ||
                  g_str_equal(aio_context_engine_name(ctx), "epoll"));
}

/* As a container does: let the kernel refuse one system call from now on. */
static void refuse_syscall(int number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = G_N_ELEMENTS(code), .filter = code};

    g_assert_cmpint(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
    g_assert_cmpint(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), ==, 0);
}

/* @opaque: the number of the system call. */
static void test_epoll_takes_over(gconstpointer opaque)
{
    Error *err = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    refuse_syscall(GPOINTER_TO_INT(opaque));
    g_assert_cmpint(aio_init(AIO_ENGINE_IO_URING, &err), <, 0);
    error_free_or_abort(&err);
    g_assert_cmpint(aio_init(AIO_ENGINE_AUTO, &error_abort), ==, 0);
    g_assert_cmpstr(aio_context_engine_name(qemu_get_aio_context()), ==, "epoll");
    g_assert_nonnull(strstr(aio_context_engine_reason(qemu_get_aio_context()), "not permitted"));
    aio_run_co(sleep_a_little, NULL);
    aio_cleanup();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    engine_test_add("the engine tells its name", test_the_engine_tells_its_name);
    engine_test_add("bhs run in the order of scheduling", test_bhs_run_in_the_order_of_scheduling);
    engine_test_add("a bh scheduled in a bh runs in the next turn",
                    test_a_bh_scheduled_in_a_bh_runs_in_the_next_turn);
    engine_test_add("a bh may delete one that is due in the same turn",
                    test_a_bh_may_delete_one_that_is_due_in_the_same_turn);
    engine_test_add("bhs from other threads are all run", test_bhs_from_other_threads_are_all_run);
    engine_test_add("timers fire when due and not before",
                    test_timers_fire_when_due_and_not_before);
    engine_test_add("many timers fire in order", test_many_timers_fire_in_order);
    engine_test_add("virtual time jumps to the next deadline",
                    test_virtual_time_jumps_to_the_next_deadline);
    engine_test_add("virtual time stands still while work is in flight",
                    test_virtual_time_stands_still_while_work_is_in_flight);
    engine_test_add("a sleep lasts as long as asked", test_a_sleep_lasts_as_long_as_asked);
    engine_test_add("a sleep is cut short", test_a_sleep_is_cut_short);
    engine_test_add("many jobs run in a bounded pool", test_many_jobs_run_in_a_bounded_pool);
    engine_test_add("a coroutine moves between threads", test_a_coroutine_moves_between_threads);
    engine_test_add("a mutex is shared by threads", test_a_mutex_is_shared_by_threads);
    engine_test_add("a busy coroutine does not starve fd handlers and timers",
                    test_a_busy_coroutine_does_not_starve_fd_handlers_and_timers);
    g_test_add_data_func("/epoll takes over when io_uring_setup is refused",
                         GINT_TO_POINTER(SYS_io_uring_setup), test_epoll_takes_over);
    g_test_add_data_func("/epoll takes over when io_uring_enter is refused",
                         GINT_TO_POINTER(SYS_io_uring_enter), test_epoll_takes_over);
    return g_test_run();
}
