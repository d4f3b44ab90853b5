/* SPDX-License-Identifier: GPL-2.0-or-later */
/* M8, M6: a forced cancel while the target hangs, in every phase of a mirror. */
#include <errno.h>
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (4 * MiB)
#define ANY        (TEST_RAM_WRITE | TEST_RAM_ZERO | TEST_RAM_FLUSH)
/* Writes in flight at most, whichever way. */
#define OPS_MAX    16

static int64_t now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

typedef enum Phase {
    FIRST_PASS,
    FIRST_FLUSH,
    IN_STEP,    /* READY, a guest has written */
    COMPLETING, /* run() is at its last flush */
    LEAVING,    /* the same of a soft cancel */
    SETTLING,   /* guests are stopped, or about to be */
    PAUSING,    /* the user's pause waits for what is in flight */
    PHASE__MAX,
} Phase;

/* Until the mirror hangs on its target in @phase. */
static void coroutine_fn go_to(Scene *s, Phase phase)
{
    if (phase == SETTLING) {
        s->args.flags = JOB_MANUAL_FINALIZE;
        test_ram_set_delay(s->source, TEST_RAM_READ,
                           60 * SCALE_MS); /* else no rate says that little is dirty */
    }
    test_ram_set_cancels(s->target, true);
    if (phase == FIRST_PASS || phase == PAUSING) {
        test_ram_hold(s->target, ANY, 0, DISK_BYTES);
    } else if (phase == FIRST_FLUSH) {
        test_ram_hold(s->target, TEST_RAM_FLUSH, 0, DISK_BYTES);
    }
    scene_start(s);
    if (phase >= IN_STEP && phase != PAUSING) {
        scene_wait_ready(s);
    }
    if (phase == SETTLING) {
        scene_complete(s);
        scene_wait_status(s, JOB_STATUS_PENDING);
    }
    if (phase == COMPLETING || phase == LEAVING) {
        test_ram_hold(s->target, TEST_RAM_FLUSH, 0, DISK_BYTES);
        block_test_co_fill(s->user, 0, 64 * KiB, 'w'); /* else there is nothing to flush */
        qemu_co_sleep_ns(100 * SCALE_MS);
    } else if (phase == IN_STEP || phase == SETTLING) {
        test_ram_hold(s->target, ANY, 0, DISK_BYTES);
    }
    if (phase == IN_STEP || phase == SETTLING) {
        block_test_co_fill(s->user, 0, 64 * KiB, 'w');
    } else if (phase == COMPLETING) {
        scene_complete(s);
    } else if (phase == LEAVING) {
        job_user_cancel(&s->job->job, false, &error_abort);
    }
    if (phase != SETTLING) {
        test_ram_co_wait_held(s->target, 1);
    }
    if (phase == PAUSING) {
        job_user_pause(&s->job->job, &error_abort);
        qemu_co_sleep_ns(100 * SCALE_MS);
        g_assert_cmpint(s->job->job.status, ==, JOB_STATUS_RUNNING);
    }
}

/* job-finalize returns at the end only: a coroutine of its own, as another client's command. */
static void coroutine_fn finalize_entry(void *opaque)
{
    Scene *s = opaque;

    job_user_finalize(&s->job->job, &error_abort);
}

static void coroutine_fn finalize_until_it_hangs(Scene *s, int64_t ms)
{
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(finalize_entry, s));
    qemu_co_sleep_ns(ms * SCALE_MS);
}

/* Cancelled, it ends after so long and not before. */
static void coroutine_fn ends_after(Scene *s, int64_t ns)
{
    int64_t start = now();

    if (ns > 0) {
        qemu_co_sleep_ns(ns - SCALE_MS);
        g_assert_cmpint(s->job->job.status, !=, JOB_STATUS_NULL);
        g_assert_cmpint(s->job->job.status, !=, JOB_STATUS_CONCLUDED);
    }
    g_assert_cmpint(scene_wait_end(s), ==, -ECANCELED);
    g_assert_cmpint(now() - start, >=, ns);
    g_assert_cmpint(now() - start, <, ns + 10 * SCALE_MS);
}

static void coroutine_fn each_phase(uint32_t timeout_s)
{
    for (Phase phase = 0; phase < PHASE__MAX; phase++) {
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.cancel_timeout_s = timeout_s;
        go_to(&s, phase);
        if (phase == SETTLING) {
            finalize_until_it_hangs(&s, 100);
        }
        job_user_cancel(&s.job->job, true, &error_abort);
        ends_after(&s, timeout_s * NANOSECONDS_PER_SECOND);
        g_assert_true(s.user->bs == s.source);
        test_ram_release(s.target);
        scene_tear_down(&s);
    }
}

static void coroutine_fn test_a_forced_cancel_ends_when_its_time_is_over_in_each_phase(void)
{
    each_phase(5);
    each_phase(60);
}

static void coroutine_fn test_with_no_time_at_all_it_ends_at_once(void)
{
    each_phase(0);
}

/* What was in flight is in the target, and nothing else has come there. */
static void coroutine_fn test_a_target_that_answers_in_time_is_not_given_up(void)
{
    for (Phase phase = 0; phase < PHASE__MAX; phase++) {
        uint64_t writes;
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.cancel_timeout_s = 5;
        go_to(&s, phase);
        if (phase == SETTLING) {
            finalize_until_it_hangs(&s, 100);
        }
        job_user_cancel(&s.job->job, true, &error_abort);
        writes = test_ram_counts(s.target)->writes;
        qemu_co_sleep_ns(INT64_C(4000) * SCALE_MS);
        test_ram_release(s.target);
        ends_after(&s, 0);
        g_assert_cmpuint(test_ram_counts(s.target)->writes, <=, writes + OPS_MAX);
        if (phase == IN_STEP || phase == SETTLING) {
            scene_expect_equal(&s);
        }
        scene_tear_down(&s);
    }
}

static void coroutine_fn test_a_second_forced_cancel_gives_up_at_once(void)
{
    for (Phase phase = 0; phase < PHASE__MAX; phase++) {
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.cancel_timeout_s = 3600;
        go_to(&s, phase);
        if (phase == SETTLING) {
            finalize_until_it_hangs(&s, 100);
        }
        job_user_cancel(&s.job->job, true, &error_abort);
        qemu_co_sleep_ns(10 * NANOSECONDS_PER_SECOND);
        g_assert_cmpint(s.job->job.status, !=, JOB_STATUS_NULL);
        job_user_cancel(&s.job->job, true, &error_abort);
        ends_after(&s, 0);
        test_ram_release(s.target);
        scene_tear_down(&s);
    }
}

/* M6: whenever the cancel comes, and however long it takes, no guest waits for it. */
static void coroutine_fn test_no_guest_waits_for_a_cancel_at_the_switch_over(void)
{
    for (int64_t ms = 0; ms < 700; ms += 23) {
        int64_t end;
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.cancel_timeout_s = 2;
        go_to(&s, SETTLING);
        finalize_until_it_hangs(&s, ms);
        job_user_cancel(&s.job->job, true, &error_abort);
        for (end = now() + 2 * NANOSECONDS_PER_SECOND - SCALE_MS; now() < end;) {
            block_test_co_fill(s.user, MiB, 4096, 'g');
            qemu_co_sleep_ns(50 * SCALE_MS);
            g_assert_cmpint(s.source->quiesce_counter, ==, 0);
        }
        g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
        g_assert_true(s.user->bs == s.source);
        block_test_co_expect(s.user, MiB, 4096, 'g');
        test_ram_release(s.target);
        scene_tear_down(&s);
    }
}

/* T3 */
static void coroutine_fn test_a_write_that_waits_for_the_target_is_let_go(void)
{
    int64_t start;
    BlockTestRequest *write;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.cancel_timeout_s = 5;
    s.args.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
    test_ram_set_cancels(s.target, true);
    scene_start(&s);
    scene_wait_ready(&s);
    test_ram_hold(s.target, ANY, 0, DISK_BYTES);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 0, 4096, 'b');
    test_ram_co_wait_held(s.target, 1);
    start = now();
    job_user_cancel(&s.job->job, true, &error_abort);
    block_test_co_fill(s.user, MiB, 4096, 'c'); /* this one does not even begin to wait */
    g_assert_cmpint(now() - start, <, 10 * SCALE_MS);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpint(now() - start, <, INT64_C(5010) * SCALE_MS);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
    block_test_co_expect(s.user, 0, 4096, 'b');
    test_ram_release(s.target);
    scene_tear_down(&s);
}

/* A soft cancel waits as long as the target does, and succeeds. */
static void coroutine_fn test_a_soft_cancel_waits_for_a_target_that_hangs(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.cancel_timeout_s = 1;
    go_to(&s, LEAVING);
    qemu_co_sleep_ns(100 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(s.job->job.status, ==, JOB_STATUS_READY);
    test_ram_release(s.target);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    g_assert_true(s.user->bs == s.source);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/cancel/a forced cancel ends when its time is over, in each phase",
                   test_a_forced_cancel_ends_when_its_time_is_over_in_each_phase);
    block_test_add("/mirror/cancel/with no time at all it ends at once",
                   test_with_no_time_at_all_it_ends_at_once);
    block_test_add("/mirror/cancel/a target that answers in time is not given up",
                   test_a_target_that_answers_in_time_is_not_given_up);
    block_test_add("/mirror/cancel/a second forced cancel gives up at once",
                   test_a_second_forced_cancel_gives_up_at_once);
    block_test_add("/mirror/cancel/no guest waits for a cancel at the switch-over",
                   test_no_guest_waits_for_a_cancel_at_the_switch_over);
    block_test_add("/mirror/cancel/a write that waits for the target is let go",
                   test_a_write_that_waits_for_the_target_is_let_go);
    block_test_add("/mirror/cancel/a soft cancel waits for a target that hangs",
                   test_a_soft_cancel_waits_for_a_target_that_hangs);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
