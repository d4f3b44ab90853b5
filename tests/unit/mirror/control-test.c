/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mirror that is cancelled, paused, quiesced, or meets errors; and what it refuses. */
#include <errno.h>
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (4 * MiB)
#define SOON_NS    (INT64_C(1000) * SCALE_MS)

static int64_t now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static void coroutine_fn test_an_idle_disk_is_ready_equal_and_flushed(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    scene_start(&s);
    scene_wait_ready(&s);
    scene_expect_equal(&s);
    g_assert_cmpuint(test_ram_counts(s.target)->flushes, >=, 1);
    g_assert_cmpint(s.job->job.progress_current, ==, DISK_BYTES);
    g_assert_cmpint(s.job->job.progress_total, ==, DISK_BYTES);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    g_assert_true(s.user->bs == s.target);
    scene_tear_down(&s);
}

/* Both kinds of cancel, at any time. */
static void coroutine_fn test_a_cancel_ends_at_any_time_and_leaves_the_source(void)
{
    for (int mode = 0; mode < 2; mode++) {
        for (int64_t ms = 0; ms < 40; ms += 3) {
            int ret;
            Scene s;

            scene_set_up(&s, DISK_BYTES);
            test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 5 * SCALE_MS);
            scene_start_writers(&s, 2, 7 + ms);
            s.args.copy_mode = mode;
            scene_start(&s);
            qemu_co_sleep_ns(ms * SCALE_MS);
            job_user_cancel(&s.job->job, true, &error_abort);
            ret = scene_wait_end(&s);
            g_assert_cmpint(ret, ==, -ECANCELED);
            g_assert_true(s.user->bs == s.source);
            qemu_co_sleep_ns(SCALE_MS);
            scene_stop_writers(&s);
            for (unsigned i = 0; i < s.n_writers; i++) {
                story_writer_before(s.writers[i]);
                story_writer_after(s.writers[i]);
            }
            scene_check_writers(&s, s.source);
            scene_tear_down(&s);
        }
    }
}

static void coroutine_fn test_a_soft_cancel_before_ready_is_a_forced_one(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    scene_start(&s);
    test_ram_co_wait_held(s.target, 1);
    job_user_cancel(&s.job->job, false, &error_abort);
    test_ram_release(s.target);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
    scene_tear_down(&s);
}

/* A guest that waits for a chunk that the target holds on to goes on when the mirror is cancelled. */
static void coroutine_fn test_a_cancel_lets_a_write_go_that_waits_for_an_operation(void)
{
    BlockTestRequest *write;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    scene_start(&s);
    test_ram_co_wait_held(s.target, 1);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 0, 4096, 'n');
    qemu_co_sleep_ns(SOON_NS);
    g_assert_false(block_test_done(write));
    job_user_cancel(&s.job->job, true, &error_abort);
    qemu_co_sleep_ns(SCALE_MS);
    g_assert_true(block_test_done(write));
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    test_ram_release(s.target);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
    scene_tear_down(&s);
}

/* In the background mode nothing of the target's comes to a guest. */
static void coroutine_fn test_in_the_background_no_write_waits_for_the_target(void)
{
    int64_t start;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    scene_start(&s);
    test_ram_co_wait_held(s.target, 1);
    start = now();
    block_test_co_fill(s.user, 0, DISK_BYTES, 'n');
    g_assert_cmpint(now() - start, <, SCALE_MS);
    test_ram_release(s.target);
    scene_wait_ready(&s);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    block_test_co_expect(s.user, 0, DISK_BYTES, 'n');
    scene_tear_down(&s);
}

/* M6: a target that hangs at the switch-over stops guests for MIRROR_SETTLE_NS at the most. */
static void coroutine_fn test_a_target_that_hangs_at_the_end_does_not_keep_guests(void)
{
    BlockTestRequest *write;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    scene_start(&s);
    scene_wait_ready(&s);
    test_ram_hold(s.target, TEST_RAM_WRITE | TEST_RAM_FLUSH, 0, DISK_BYTES);
    scene_complete(&s);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 0, 4096, 'n');
    qemu_co_sleep_ns(SOON_NS);
    g_assert_true(block_test_done(write));
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_true(s.user->bs == s.source);
    test_ram_release(s.target);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    g_assert_true(s.user->bs == s.target);
    block_test_co_expect(s.user, 0, 4096, 'n');
    scene_tear_down(&s);
}

typedef struct Drain {
    BlockDriverState *nodes[2];
    size_t n;
    bool drained, undrain, over;
} Drain;

static void coroutine_fn drain_entry(void *opaque)
{
    Drain *d = opaque;

    bdrv_co_drained_begin_list(d->nodes, d->n);
    d->drained = true;
    while (!d->undrain) {
        for (size_t i = 0; i < d->n; i++) {
            g_assert_cmpuint(d->nodes[i]->in_flight, ==, 0);
        }
        qemu_co_sleep_ns(1000);
    }
    bdrv_co_drained_end_list(d->nodes, d->n);
    d->over = true;
}

static void coroutine_fn wait_for(const bool *flag)
{
    int64_t deadline = now() + LONG_NS;

    while (!*flag) {
        g_assert_cmpint(now(), <, deadline);
        qemu_co_sleep_ns(1000);
    }
}

/* L2, T2, E1: any quiesce, at any time, in any mode, through READY and the switch-over. */
static void coroutine_fn test_a_quiesce_stops_everything_at_any_time(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(block_test_seed());

    for (int i = 0; i < 60; i++) {
        bool complete = false;
        Drain d;
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        test_ram_set_delay(s.source, TEST_RAM_ALL_IO, 100000);
        test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 300000);
        scene_start_writers(&s, 2, i);
        s.args.copy_mode = i & 1;
        s.args.flags = i & 2 ? JOB_MANUAL_FINALIZE : 0;
        scene_start(&s);
        for (int k = 0; k < 30; k++) {
            JobStatus status = s.job->job.status;

            if (status == JOB_STATUS_NULL) {
                break;
            }
            d = (Drain){.nodes = {i & 4 ? s.source : s.target, s.target}, .n = i & 8 ? 2 : 1};
            qemu_co_sleep_ns(g_rand_int_range(rand, 0, 2 * SCALE_MS));
            aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(drain_entry, &d));
            wait_for(&d.drained);
            qemu_co_sleep_ns(g_rand_int_range(rand, 0, 100000));
            d.undrain = true;
            wait_for(&d.over);
            status = s.job->job.status;
            if (status == JOB_STATUS_READY && !complete && k > 10) {
                scene_complete(&s);
                complete = true;
            }
        }
        while (!complete) {
            scene_wait_ready(&s);
            scene_complete(&s);
            complete = true;
        }
        if (i & 2) {
            scene_wait_status(&s, JOB_STATUS_PENDING);
            job_user_finalize(&s.job->job, &error_abort);
        }
        g_assert_cmpint(scene_wait_end(&s), ==, 0);
        g_assert_true(s.user->bs == s.target);
        scene_stop_writers(&s);
        for (unsigned w = 0; w < s.n_writers; w++) {
            story_writer_before(s.writers[w]);
            story_writer_after(s.writers[w]);
        }
        scene_check_writers(&s, s.target);
        scene_tear_down(&s);
    }
}

/* What was written while it was PENDING is on the target too. */
static void coroutine_fn test_pending_may_last_and_guests_go_on_writing(void)
{
    for (int mode = 0; mode < 2; mode++) {
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        test_ram_set_delay(s.target, TEST_RAM_ALL_IO, SCALE_MS);
        s.args.flags = JOB_MANUAL_FINALIZE;
        s.args.copy_mode = mode;
        scene_start_writers(&s, 2, 3);
        scene_start(&s);
        scene_wait_ready(&s);
        scene_complete(&s);
        scene_wait_status(&s, JOB_STATUS_PENDING);
        qemu_co_sleep_ns(100 * SCALE_MS);
        g_assert_true(s.user->bs == s.source);
        job_user_finalize(&s.job->job, &error_abort);
        g_assert_cmpint(scene_wait_end(&s), ==, 0);
        g_assert_true(s.user->bs == s.target);
        scene_stop_writers(&s);
        for (unsigned w = 0; w < s.n_writers; w++) {
            story_writer_before(s.writers[w]);
            story_writer_after(s.writers[w]);
        }
        scene_check_writers(&s, s.target);
        scene_tear_down(&s);
    }
}

static void coroutine_fn test_a_pending_mirror_may_be_cancelled(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.flags = JOB_MANUAL_FINALIZE;
    scene_start(&s);
    scene_wait_ready(&s);
    scene_complete(&s);
    scene_wait_status(&s, JOB_STATUS_PENDING);
    job_user_cancel(&s.job->job, true, &error_abort);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
    g_assert_true(s.user->bs == s.source);
    scene_tear_down(&s);
}

static void coroutine_fn test_a_paused_mirror_stands_still_and_goes_on(void)
{
    for (int ready = 0; ready < 2; ready++) {
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        test_ram_set_delay(s.target, TEST_RAM_ALL_IO, SCALE_MS);
        scene_start(&s);
        if (ready) {
            scene_wait_ready(&s);
        } else {
            qemu_co_sleep_ns(SCALE_MS / 2); /* operations are on their way */
        }
        job_user_pause(&s.job->job, &error_abort);
        scene_wait_status(&s, ready ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
        g_assert_cmpuint(s.target->in_flight, ==, 0); /* L2 */
        test_ram_reset_counts(s.target);
        block_test_co_fill(s.user, 0, 64 * KiB, 'p');
        qemu_co_sleep_ns(SOON_NS);
        g_assert_cmpuint(test_ram_counts(s.target)->writes, ==, 0);
        job_user_resume(&s.job->job, &error_abort);
        scene_wait_ready(&s);
        scene_complete(&s);
        g_assert_cmpint(scene_wait_end(&s), ==, 0);
        block_test_co_expect(s.user, 0, 64 * KiB, 'p');
        scene_tear_down(&s);
    }
}

/* report: the job fails with the error, and the guest hears nothing of it, T3. */
static void coroutine_fn test_an_error_that_is_reported_ends_the_mirror_and_no_write(void)
{
    for (int mode = 0; mode < 2; mode++) {
        for (int side = 0; side < 2; side++) {
            Scene s;

            scene_set_up(&s, DISK_BYTES);
            s.args.copy_mode = mode;
            scene_start(&s);
            scene_wait_ready(&s);
            if (side == 0) {
                test_ram_set_error(s.source, TEST_RAM_READ, 0, DISK_BYTES, EIO, 1);
                if (mode == 1) { /* nothing is read in step */
                    test_ram_set_error(s.source, TEST_RAM_READ, 0, DISK_BYTES, 0, 0);
                    test_ram_set_error(s.target, TEST_RAM_WRITE, 0, DISK_BYTES, EIO, -1);
                }
            } else {
                test_ram_set_error(s.target, TEST_RAM_WRITE, 0, DISK_BYTES, ENOSPC, -1);
            }
            block_test_co_fill(s.user, 0, 4096, 'e');
            g_assert_cmpint(scene_wait_end(&s), ==, side ? -ENOSPC : -EIO);
            test_ram_set_error(s.source, TEST_RAM_READ, 0, DISK_BYTES, 0, 0);
            block_test_co_expect(s.user, 0, 4096, 'e');
            g_assert_true(s.user->bs == s.source);
            scene_tear_down(&s);
        }
    }
}

static void coroutine_fn test_an_error_that_stops_is_tried_again_when_resumed(void)
{
    static const BlockdevOnError policies[] = {BLOCKDEV_ON_ERROR_STOP, BLOCKDEV_ON_ERROR_ENOSPC};

    for (int mode = 0; mode < 2; mode++) {
        for (int i = 0; i < 2; i++) {
            Scene s;

            scene_set_up(&s, DISK_BYTES);
            s.args.copy_mode = mode;
            s.args.on_target_error = policies[i];
            test_ram_set_error(s.target, TEST_RAM_WRITE, 1 * MiB, MiB, ENOSPC, -1);
            scene_start(&s);
            scene_wait_status(&s, JOB_STATUS_PAUSED);
            g_assert_cmpint(s.job->iostatus, ==, BLOCK_DEVICE_IO_STATUS_NOSPACE);
            qemu_co_sleep_ns(SOON_NS);
            g_assert_cmpint(s.job->job.status, ==, JOB_STATUS_PAUSED);
            block_test_co_fill(s.user, 1 * MiB + 512, 4096, 's');
            test_ram_set_error(s.target, TEST_RAM_WRITE, 0, 0, 0, 0);
            job_user_resume(&s.job->job, &error_abort);
            scene_wait_ready(&s);
            scene_expect_equal(&s);
            scene_complete(&s);
            g_assert_cmpint(scene_wait_end(&s), ==, 0);
            scene_tear_down(&s);
        }
    }
}

static void coroutine_fn test_an_error_that_is_ignored_is_tried_again_and_not_in_a_spin(void)
{
    for (int side = 0; side < 2; side++) {
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.on_target_error = s.args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
        test_ram_set_error(side ? s.target : s.source, side ? TEST_RAM_WRITE : TEST_RAM_READ,
                           1 * MiB, MiB, EIO, -1);
        scene_start(&s);
        test_ram_reset_counts(s.source);
        qemu_co_sleep_ns(SOON_NS);
        g_assert_cmpint(s.job->job.status, ==, JOB_STATUS_RUNNING);
        g_assert_cmpuint(test_ram_counts(s.source)->reads, <, 100);
        test_ram_set_error(side ? s.target : s.source, 0, 0, 0, 0, 0);
        scene_wait_ready(&s);
        scene_expect_equal(&s);
        scene_complete(&s);
        g_assert_cmpint(scene_wait_end(&s), ==, 0);
        scene_tear_down(&s);
    }
}

/* An error while guests are stopped for the switch-over: they go on with the source. */
static void coroutine_fn test_an_error_at_the_end_leaves_guests_with_the_source(void)
{
    for (int flush = 0; flush < 2; flush++) {
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.flags = JOB_MANUAL_FINALIZE;
        scene_start(&s);
        scene_wait_ready(&s);
        scene_complete(&s);
        scene_wait_status(&s, JOB_STATUS_PENDING);
        block_test_co_fill(s.user, 0, 4096, 'x');
        test_ram_set_error(s.target, flush ? TEST_RAM_FLUSH : TEST_RAM_WRITE, 0, DISK_BYTES, EIO,
                           1);
        job_user_finalize(&s.job->job, &error_abort);
        g_assert_cmpint(scene_wait_end(&s), ==, -EIO);
        g_assert_true(s.user->bs == s.source);
        block_test_co_expect(s.user, 0, 4096, 'x');
        scene_tear_down(&s);
    }
}

static void coroutine_fn test_what_cannot_be_done_is_refused_in_words(void)
{
    BlockDriverState *bigger;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    bigger = test_ram_new("bigger", DISK_BYTES + 512);
    s.args.target = s.source;
    scene_refuse(&s, "Can't mirror node into itself");
    s.args.target = bigger;
    scene_refuse(&s, "Source and target image have different sizes");
    s.args.target = s.target;
    s.args.granularity = 100;
    scene_refuse(&s, "Parameter 'granularity' expects a value in range [512B, 64MB]");
    s.args.granularity = 3000;
    scene_refuse(&s, "Parameter 'granularity' expects a power of 2");
    s.args.granularity = 0;
    s.args.buf_size = -1;
    scene_refuse(&s, "Invalid parameter 'buf-size'");
    s.args.buf_size = INT64_C(2) << 30;
    scene_refuse(&s, "Parameter 'buf-size' expects at most 1073741824 bytes");
    s.args.buf_size = 0;
    s.args.speed = -1;
    scene_refuse(&s, "Parameter 'speed' expects a non-negative value");
    s.args.speed = 0;
    s.args.sync = MIRROR_SYNC_MODE_INCREMENTAL;
    scene_refuse(&s, "Sync mode 'incremental' not supported");
    s.args.sync = MIRROR_SYNC_MODE_BITMAP;
    scene_refuse(&s, "Sync mode 'bitmap' not supported");
    s.args.sync = MIRROR_SYNC_MODE_FULL;
    s.args.replaces = "nowhere";
    scene_refuse(&s, "Failed to find node with node-name='nowhere'");
    s.args.replaces = "target";
    scene_refuse(&s,
                 "Cannot replace 'target' by a node mirrored from 'source', because it cannot be "
                 "guaranteed that doing so would not lead to an abrupt change of visible data");
    s.args.replaces = NULL;
    scene_start(&s);
    s.args.job_id = "m2";
    s.args.target = bigger;
    scene_refuse(&s, "Node 'source' is being mirrored already");
    job_user_cancel(&s.job->job, true, &error_abort);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
    bdrv_co_unref(bigger);
    scene_tear_down(&s);
}

static void coroutine_fn test_a_speed_is_kept(void)
{
    int64_t start;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.speed = 1 * MiB;
    start = now();
    scene_start(&s);
    scene_wait_ready(&s);
    g_assert_cmpint(now() - start, >=, INT64_C(2900) * SCALE_MS);
    g_assert_cmpint(now() - start, <, INT64_C(4500) * SCALE_MS);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/control/an idle disk is ready, equal and flushed",
                   test_an_idle_disk_is_ready_equal_and_flushed);
    block_test_add("/mirror/control/a cancel ends at any time and leaves the source",
                   test_a_cancel_ends_at_any_time_and_leaves_the_source);
    block_test_add("/mirror/control/a soft cancel before ready is a forced one",
                   test_a_soft_cancel_before_ready_is_a_forced_one);
    block_test_add("/mirror/control/a cancel lets a write go that waits for an operation",
                   test_a_cancel_lets_a_write_go_that_waits_for_an_operation);
    block_test_add("/mirror/control/in the background no write waits for the target",
                   test_in_the_background_no_write_waits_for_the_target);
    block_test_add("/mirror/control/a target that hangs at the end does not keep guests",
                   test_a_target_that_hangs_at_the_end_does_not_keep_guests);
    block_test_add("/mirror/control/a quiesce stops everything at any time",
                   test_a_quiesce_stops_everything_at_any_time);
    block_test_add("/mirror/control/pending may last and guests go on writing",
                   test_pending_may_last_and_guests_go_on_writing);
    block_test_add("/mirror/control/a pending mirror may be cancelled",
                   test_a_pending_mirror_may_be_cancelled);
    block_test_add("/mirror/control/a paused mirror stands still and goes on",
                   test_a_paused_mirror_stands_still_and_goes_on);
    block_test_add("/mirror/control/an error that is reported ends the mirror and no write",
                   test_an_error_that_is_reported_ends_the_mirror_and_no_write);
    block_test_add("/mirror/control/an error that stops is tried again when resumed",
                   test_an_error_that_stops_is_tried_again_when_resumed);
    block_test_add("/mirror/control/an error that is ignored is tried again and not in a spin",
                   test_an_error_that_is_ignored_is_tried_again_and_not_in_a_spin);
    block_test_add("/mirror/control/an error at the end leaves guests with the source",
                   test_an_error_at_the_end_leaves_guests_with_the_source);
    block_test_add("/mirror/control/what cannot be done is refused in words",
                   test_what_cannot_be_done_is_refused_in_words);
    block_test_add("/mirror/control/a speed is kept", test_a_speed_is_kept);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
