/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One test for each rule that random stories meet too seldom: what must happen in which order. */
#include <errno.h>
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (4 * MiB)
#define SOON_NS    (INT64_C(1000) * SCALE_MS)

/* A kept target is what the source is. */
static void coroutine_fn keep_and_expect_equal(Scene *s)
{
    scene_wait_ready(s);
    job_user_cancel(&s->job->job, false, &error_abort);
    g_assert_cmpint(scene_wait_end(s), ==, 0);
    scene_expect_equal(s);
    scene_tear_down(s);
}

/* M1: it may have changed the disk all the same. */
static void coroutine_fn test_a_write_that_has_failed_is_copied(void)
{
    for (int mode = 0; mode < 2; mode++) {
        uint8_t buf[4096] = "f";
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.copy_mode = mode;
        scene_start(&s);
        scene_wait_ready(&s);
        test_ram_set_late_errors(s.source, true);
        test_ram_set_error(s.source, TEST_RAM_WRITE, 0, DISK_BYTES, EIO, 1);
        g_assert_cmpint(bdrv_co_pwrite(s.user, 64 * KiB, sizeof(buf), buf, 0), ==, -EIO);
        keep_and_expect_equal(&s);
    }
}

/* M1: marked before the source has it, it would be copied too early, and not again. */
static void coroutine_fn test_a_write_that_takes_long_is_copied_when_the_source_has_it(void)
{
    for (int mode = 0; mode < 2; mode++) {
        BlockTestRequest *write;
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.copy_mode = mode;
        scene_start(&s);
        scene_wait_ready(&s);
        test_ram_hold(s.source, TEST_RAM_WRITE, 64 * KiB, 8192);
        write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 64 * KiB, 8192, 'l');
        test_ram_co_wait_held(s.source, 1);
        block_test_co_fill(s.user, MiB, 4096, 'o'); /* so that the job looks for what to copy */
        qemu_co_sleep_ns(SOON_NS);
        test_ram_release(s.source);
        g_assert_cmpint(block_test_co_join(write), ==, 0);
        keep_and_expect_equal(&s);
    }
}

/* M2: that there were zeros is known from before the bits were taken. */
static void coroutine_fn test_zeros_that_are_not_any_more_are_copied_as_data(void)
{
    enum { RUNS = 12 }; /* more than are begun at once */
    BlockTestRequest *writes[RUNS];
    Scene s;

    scene_use(&s, test_ram_new("source", RUNS * 2 * MiB), test_ram_new("target", RUNS * 2 * MiB));
    for (int i = 0; i < RUNS; i++) {
        test_ram_poke_pattern(s.target, i * 2 * MiB, 512 * KiB, 3);
    }
    test_ram_hold(s.target, TEST_RAM_ZERO, 0, s.len);
    scene_start(&s);
    test_ram_co_wait_held(s.target, 4);
    for (int i = 0; i < RUNS; i++) {
        writes[i] =
            block_test_co_start(s.user, BLOCK_TEST_WRITE, i * 2 * MiB + 64 * KiB, 4096, 'd');
    }
    for (int i = 0; i < RUNS; i++) {
        g_assert_cmpint(block_test_co_join(writes[i]), ==, 0);
    }
    test_ram_release(s.target);
    keep_and_expect_equal(&s);
}

/* M3: who waited for a chunk asks for it again, and waits for the one who was faster. */
static void coroutine_fn test_two_that_wait_for_a_chunk_have_it_one_after_the_other(void)
{
    BlockTestRequest *writes[3];
    uint8_t buf[4096];
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
    scene_watch_target(&s, 64 * KiB);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    scene_start(&s);
    test_ram_co_wait_held(s.target, 1);
    for (int i = 0; i < 3; i++) {
        writes[i] = block_test_co_start(s.user, BLOCK_TEST_WRITE, i * 8192, sizeof(buf), 'a' + i);
    }
    test_ram_set_delay(s.target, TEST_RAM_WRITE, SCALE_MS);
    test_ram_release(s.target);
    for (int i = 2; i >= 0; i--) {
        g_assert_cmpint(block_test_co_join(writes[i]), ==, 0);
        test_ram_peek(s.target, i * 8192, buf, sizeof(buf));
        g_assert_cmpint(buf[0], ==, 'a' + i);
    }
    keep_and_expect_equal(&s);
}

/* M4: zeros that could not be brought to the target are dirty again. */
static void coroutine_fn test_zeros_that_failed_are_tried_again(void)
{
    Scene s;

    scene_use(&s, test_ram_new("source", 8 * MiB), test_ram_new("target", 8 * MiB));
    test_ram_poke_pattern(s.target, 2 * MiB, 4 * MiB, 3);
    test_ram_set_error(s.target, TEST_RAM_ZERO, 0, s.len, EIO, 3);
    s.args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    scene_start(&s);
    keep_and_expect_equal(&s);
}

static void watch_unflushed(void *opaque, unsigned op, int64_t offset, int64_t bytes, bool begins)
{
    if (op == TEST_RAM_FLUSH && begins) {
        *(bool *)opaque = false;
    } else if (op == TEST_RAM_WRITE) {
        *(bool *)opaque = true;
    }
}

/* A guest's write just before the end: so little that guests are stopped for it. */
static void coroutine_fn complete_with_a_late_write(Scene *s)
{
    scene_set_up(s, DISK_BYTES);
    test_ram_set_delay(s->target, TEST_RAM_WRITE, 60 * SCALE_MS); /* how fast it is can be told */
    scene_start(s);
    scene_wait_ready(s);
    test_ram_hold(s->target, TEST_RAM_WRITE, 0, DISK_BYTES);
    block_test_co_fill(s->user, 64 * KiB, 4096, 'l');
    scene_complete(s);
    test_ram_co_wait_held(s->target, 1);
    g_assert_cmpint(block_test_user_drained(s->user), >, 0);
}

static void coroutine_fn end_with_the_late_write(Scene *s)
{
    g_assert_cmpint(scene_wait_end(s), ==, 0);
    g_assert_true(s->user->bs == s->target);
    block_test_co_expect(s->user, 64 * KiB, 4096, 'l');
    scene_tear_down(s);
}

/* M6, H4: the target was flushed before, but not since the last of it was copied. */
static void coroutine_fn test_what_is_copied_while_guests_are_stopped_is_flushed(void)
{
    bool unflushed = false;
    Scene s;

    complete_with_a_late_write(&s);
    test_ram_set_watch(s.target, watch_unflushed, &unflushed);
    test_ram_release(s.target);
    while (s.job->job.status != JOB_STATUS_CONCLUDED && s.job->job.status != JOB_STATUS_NULL) {
        qemu_co_sleep_ns(1000);
    }
    test_ram_set_watch(s.target, NULL, NULL);
    g_assert_false(unflushed);
    end_with_the_late_write(&s);
}

/* M6: a target that hangs while guests are stopped. */
static void coroutine_fn test_guests_are_not_stopped_for_long(void)
{
    BlockTestRequest *write;
    Scene s;

    complete_with_a_late_write(&s);
    qemu_co_sleep_ns(400 * SCALE_MS);
    g_assert_cmpint(block_test_user_drained(s.user), ==, 0);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 1 * MiB, 4096, 'g');
    qemu_co_sleep_ns(SCALE_MS);
    g_assert_true(block_test_done(write));
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_true(s.user->bs == s.source);
    test_ram_release(s.target);
    end_with_the_late_write(&s);
}

/* M8: what was read is not written any more, nor what was asked for, zeros or not. */
static void coroutine_fn test_after_a_forced_cancel_nothing_is_begun_in_the_target(void)
{
    enum { DATA_READ, ZEROS_READ, ZEROS_ASKED_FOR, CASES };

    for (int i = 0; i < CASES; i++) {
        BlockDriverState *held;
        Scene s;

        scene_use(&s, test_ram_new("source", DISK_BYTES), test_ram_new("target", DISK_BYTES));
        if (i == DATA_READ) {
            test_ram_poke_pattern(s.source, 0, DISK_BYTES, 1);
        } else {
            block_test_co_fill(s.user, 0, DISK_BYTES, 0);
            test_ram_poke_pattern(s.target, 0, DISK_BYTES, 2);
        }
        held = i == ZEROS_ASKED_FOR ? s.target : s.source;
        test_ram_hold(held, TEST_RAM_READ | (i == ZEROS_ASKED_FOR ? TEST_RAM_STATUS : 0), 0,
                      DISK_BYTES);
        scene_start(&s);
        test_ram_co_wait_held(held, 1);
        test_ram_reset_counts(s.target);
        job_user_cancel(&s.job->job, true, &error_abort);
        test_ram_release(held);
        g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
        g_assert_cmpuint(test_ram_counts(s.target)->writes, ==, 0);
        g_assert_cmpuint(test_ram_counts(s.target)->zeroes, ==, 0);
        g_assert_cmpuint(test_ram_counts(s.target)->flushes, ==, 0);
        scene_tear_down(&s);
    }
}

/*
 * T1, of the newer one: it is on the source first, and on the target; then the older one, which nobody brings to
 * the target, lands over it in the source.
 */
static void coroutine_fn test_a_write_that_is_overwritten_by_an_older_one_is_copied_again(void)
{
    BlockTestRequest *older, *newer;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    scene_start(&s);
    scene_wait_ready(&s);
    test_ram_hold(s.source, TEST_RAM_WRITE, 68 * KiB, 4096);
    older = block_test_co_start(s.user, BLOCK_TEST_WRITE, 64 * KiB, 8192, 'o');
    test_ram_co_wait_held(s.source, 1);
    mirror_change_copy_mode(s.job, MIRROR_COPY_MODE_WRITE_BLOCKING, &error_abort);
    test_ram_set_delay(s.target, TEST_RAM_WRITE, SCALE_MS);
    newer = block_test_co_start(s.user, BLOCK_TEST_WRITE, 64 * KiB, 4096, 'n');
    qemu_co_sleep_ns(SCALE_MS / 2); /* it is on the source, and on its way to the target */
    test_ram_release(s.source);
    g_assert_cmpint(block_test_co_join(older), ==, 0);
    g_assert_cmpint(block_test_co_join(newer), ==, 0);
    keep_and_expect_equal(&s);
}

/* T3 */
static void coroutine_fn test_a_blocking_write_that_fails_in_the_target_fails_the_job_only(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
    scene_start(&s);
    scene_wait_ready(&s);
    test_ram_set_error(s.target, TEST_RAM_WRITE, 0, DISK_BYTES, ENOSPC, 1);
    block_test_co_fill(s.user, 64 * KiB, 4096, 'f');
    g_assert_cmpint(scene_wait_end(&s), ==, -ENOSPC);
    block_test_co_expect(s.user, 64 * KiB, 4096, 'f');
    scene_tear_down(&s);
}

/* E2: whenever the cancel comes, either the users are with the source, or the job has ended well. */
static void coroutine_fn test_a_cancel_comes_before_the_switch_over_or_too_late(void)
{
    unsigned pivoted = 0, cancelled = 0;

    for (int turns = 0; turns < 150; turns++) {
        BlockDriverState *base = test_ram_new("base", DISK_BYTES);
        BlockTestRequest *read;
        BdrvChild *user;
        int ret;
        Scene s;

        scene_use(&s, test_cow_new("source", DISK_BYTES, 64 * KiB, base),
                  test_cow_new("target", DISK_BYTES, 64 * KiB, NULL));
        s.args.sync = MIRROR_SYNC_MODE_TOP;
        s.args.target_backing = base;
        scene_start(&s);
        scene_wait_ready(&s);
        block_test_co_fill(s.user, 64 * KiB, 4096, 'c');
        /* The switch-over cannot take the base before this read has ended. */
        user = block_test_user(base, BLK_PERM_CONSISTENT_READ);
        test_ram_hold(base, TEST_RAM_READ, 3 * MiB, 4096);
        read = block_test_co_start(user, BLOCK_TEST_READ, 3 * MiB, 4096, 0);
        scene_complete(&s);
        for (int i = 0; i < turns; i++) {
            aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_self());
            qemu_coroutine_yield();
        }
        job_user_cancel(&s.job->job, true, NULL);
        test_ram_release(base);
        g_assert_cmpint(block_test_co_join(read), ==, 0);
        ret = scene_wait_end(&s);
        g_assert_true(ret == 0 || ret == -ECANCELED);
        g_assert_true(s.user->bs == (ret == 0 ? s.target : s.source));
        block_test_co_expect(s.user, 64 * KiB, 4096, 'c');
        pivoted += ret == 0;
        cancelled += ret != 0;
        block_test_co_user_free(user);
        scene_tear_down(&s);
        bdrv_co_unref(base);
    }
    g_assert_cmpuint(pivoted, >, 0);
    g_assert_cmpuint(cancelled, >, 0);
}

static void coroutine_fn test_a_cancel_after_complete_takes_it_back(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    scene_start(&s);
    scene_wait_ready(&s);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    block_test_co_fill(s.user, 64 * KiB, 4096, 'c');
    scene_complete(&s);
    test_ram_co_wait_held(s.target, 1);
    job_user_cancel(&s.job->job, false, &error_abort);
    test_ram_release(s.target);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    g_assert_true(s.user->bs == s.source);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

/* L2 */
static void coroutine_fn test_a_job_pauses_only_when_nothing_is_in_flight(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    scene_start(&s);
    test_ram_co_wait_held(s.target, 1);
    job_user_pause(&s.job->job, &error_abort);
    qemu_co_sleep_ns(SOON_NS);
    g_assert_cmpint(s.job->job.status, ==, JOB_STATUS_RUNNING);
    test_ram_release(s.target);
    scene_wait_status(&s, JOB_STATUS_PAUSED);
    g_assert_cmpuint(s.target->in_flight, ==, 0);
    job_user_resume(&s.job->job, &error_abort);
    keep_and_expect_equal(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/rules/a write that has failed is copied",
                   test_a_write_that_has_failed_is_copied);
    block_test_add("/mirror/rules/a write that takes long is copied when the source has it",
                   test_a_write_that_takes_long_is_copied_when_the_source_has_it);
    block_test_add("/mirror/rules/zeros that are not any more are copied as data",
                   test_zeros_that_are_not_any_more_are_copied_as_data);
    block_test_add("/mirror/rules/two that wait for a chunk have it one after the other",
                   test_two_that_wait_for_a_chunk_have_it_one_after_the_other);
    block_test_add("/mirror/rules/zeros that failed are tried again",
                   test_zeros_that_failed_are_tried_again);
    block_test_add("/mirror/rules/what is copied while guests are stopped is flushed",
                   test_what_is_copied_while_guests_are_stopped_is_flushed);
    block_test_add("/mirror/rules/guests are not stopped for long",
                   test_guests_are_not_stopped_for_long);
    block_test_add("/mirror/rules/after a forced cancel nothing is begun in the target",
                   test_after_a_forced_cancel_nothing_is_begun_in_the_target);
    block_test_add("/mirror/rules/a write that is overwritten by an older one is copied again",
                   test_a_write_that_is_overwritten_by_an_older_one_is_copied_again);
    block_test_add("/mirror/rules/a blocking write that fails in the target fails the job only",
                   test_a_blocking_write_that_fails_in_the_target_fails_the_job_only);
    block_test_add("/mirror/rules/a cancel comes before the switch-over or too late",
                   test_a_cancel_comes_before_the_switch_over_or_too_late);
    block_test_add("/mirror/rules/a cancel after complete takes it back",
                   test_a_cancel_after_complete_takes_it_back);
    block_test_add("/mirror/rules/a job pauses only when nothing is in flight",
                   test_a_job_pauses_only_when_nothing_is_in_flight);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
