/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stores (store.c): what parks them, what forgets them, who waits for them (rules B2, B9, B11, R1, R2, S3). */
#include <errno.h>
#include "aio/timer.h"
#include "block/block_backup.h"
#include "block/jobs/backup/backup-job.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (2 * MiB)
#define CLUSTER    (64 * KiB)
#define UNIT       4096
#define SECTORS(b) ((b) / BDRV_SECTOR_SIZE)

/* More than are made of a disk in ten rounds, less than of one that is asked all the time. */
#define TRIES 500

/* On the virtual clock: more than anything here takes. */
#define LONG_NS (INT64_C(10000) * SCALE_MS)

typedef struct Scene {
    BlockDriverState *source, *target;
    BdrvChild *user, *reader;
    BackupJobArgs args;
    BlockJob *job;
    BlockDriverState *quiet[2];
    size_t n_quiet;
    bool drained, undrain, drain_over;
} Scene;

static void coroutine_fn set_up(Scene *s, MirrorSyncMode sync, bool overlay)
{
    *s = (Scene){.source = test_ram_new("source", DISK_BYTES)};
    s->target = overlay ? test_cow_new("target", DISK_BYTES, CLUSTER, s->source)
                        : test_ram_new("target", DISK_BYTES);
    s->user = block_test_user(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    s->reader = block_test_user(s->target, BLK_PERM_CONSISTENT_READ);
    block_test_co_fill(s->user, 0, DISK_BYTES, 'o');
    s->args =
        (BackupJobArgs){.job_id = "b", .source = s->source, .target = s->target, .sync = sync};
}

static void coroutine_fn tear_down(Scene *s)
{
    g_assert_null(job_next(NULL));
    block_test_co_user_free(s->reader);
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
}

static void coroutine_fn cancel(Scene *s)
{
    job_user_cancel(&s->job->job, false, &error_abort);
    g_assert_cmpint(story_co_wait(s->job), ==, -ECANCELED);
}

static void expect_byte(BlockDriverState *bs, int64_t offset, uint8_t byte)
{
    uint8_t b;

    test_ram_peek(bs, offset, &b, 1);
    g_assert_cmpint(b, ==, byte);
}

static void coroutine_fn wait_for(const bool *flag)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + LONG_NS;

    while (!*flag) {
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        qemu_co_sleep_ns(10000);
    }
}

static void coroutine_fn drain_entry(void *opaque)
{
    Scene *s = opaque;

    bdrv_co_drained_begin_list(s->quiet, s->n_quiet);
    s->drained = true;
    while (!s->undrain) {
        for (size_t i = 0; i < s->n_quiet; i++) {
            g_assert_cmpuint(s->quiet[i]->in_flight, ==, 0);
        }
        qemu_co_sleep_ns(1000);
    }
    bdrv_co_drained_end_list(s->quiet, s->n_quiet);
    s->drain_over = true;
}

static void drain(Scene *s, BlockDriverState *a, BlockDriverState *b)
{
    s->quiet[0] = a;
    s->quiet[1] = b;
    s->n_quiet = b ? 2 : 1;
    s->drained = s->undrain = s->drain_over = false;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(drain_entry, s));
}

/*
 * R2, B2: a store is parked with the old data of before the checkpoint.  The disk at the checkpoint is
 * another one, and what a guest overwrites right after it is captured as any other.
 */
static void coroutine_fn test_a_checkpoint_forgets_what_a_parked_store_holds(void)
{
    for (int quiet_target = 0; quiet_target < 2; quiet_target++) {
        Scene s;

        set_up(&s, MIRROR_SYNC_MODE_NONE, false);
        s.args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
        test_ram_set_error(s.target, TEST_RAM_WRITE, 0, DISK_BYTES, ENOSPC, -1);
        s.job = story_co_start_backup(&s.args);
        block_test_co_fill(s.user, 0, UNIT, 'a');
        while (s.job->job.status != JOB_STATUS_PAUSED) {
            qemu_co_sleep_ns(100000);
        }
        test_ram_set_error(s.target, 0, 0, 0, 0, 0);
        if (quiet_target) {
            bdrv_co_drained_begin(s.target);
        }
        bdrv_co_drained_begin(s.source);
        backup_do_checkpoint(s.job, &error_abort);
        bdrv_co_drained_end(s.source);
        block_test_co_fill(s.user, 0, UNIT, 'b');
        if (quiet_target) {
            bdrv_co_drained_end(s.target);
        }
        job_user_resume(&s.job->job, &error_abort);
        backup_wait_for_overlapping_requests(s.job, 0, SECTORS(DISK_BYTES));
        expect_byte(s.target, 0, 'a');
        cancel(&s);
        tear_down(&s);
    }
}

/* While an error has stopped the job a plain reader is told so, and neither he nor a quiesce waits for the user. */
static void coroutine_fn test_a_stopped_job_keeps_nobody_waiting(void)
{
    BlockTestRequest *read;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE, true);
    s.args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    test_ram_hold(s.source, TEST_RAM_READ, CLUSTER / 2, UNIT); /* a store's, not a capture's */
    test_ram_set_error(s.source, TEST_RAM_READ, CLUSTER / 2, UNIT, EIO, -1);
    s.args.on_source_error = BLOCKDEV_ON_ERROR_STOP;
    s.job = story_co_start_backup(&s.args);
    block_test_co_fill(s.user, 0, UNIT, 'n');
    read = block_test_co_start(s.reader, BLOCK_TEST_READ, 0, UNIT, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(read));
    test_ram_release(s.source);
    g_assert_cmpint(block_test_co_join(read), ==, -EIO); /* he waited when it stopped */
    read = block_test_co_start(s.reader, BLOCK_TEST_READ, 0, UNIT, 0);
    g_assert_cmpint(block_test_co_join(read), ==, -EIO); /* he came after */
    block_test_co_expect(s.reader, CLUSTER, UNIT, 'o');  /* nothing is on its way here */
    drain(&s, s.source, s.target);
    wait_for(&s.drained);
    s.undrain = true;
    wait_for(&s.drain_over);
    test_ram_set_error(s.source, 0, 0, 0, 0, 0);
    job_user_resume(&s.job->job, &error_abort);
    block_test_co_expect(s.reader, 0, UNIT, 'o');
    cancel(&s);
    tear_down(&s);
}

/* B7: what has been lost cannot be mended by the user: the job does not stay in his pause. */
static void coroutine_fn test_a_backup_that_breaks_ends_though_it_is_paused(void)
{
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL, false);
    s.args.speed = 1;
    s.job = story_co_start_backup(&s.args);
    job_user_pause(&s.job->job, &error_abort);
    qemu_co_sleep_ns(SCALE_MS);
    test_ram_set_error(s.source, TEST_RAM_READ, DISK_BYTES - UNIT, UNIT, EIO, 1);
    block_test_co_fill(s.user, DISK_BYTES - UNIT, UNIT, 'n');
    g_assert_cmpint(story_co_wait(s.job), ==, -EIO);
    tear_down(&s);
}

/* S3: the sweep comes back for every piece that failed, also for one that failed while it thought of another. */
static void coroutine_fn test_a_piece_that_fails_while_another_is_dealt_with_is_not_forgotten(void)
{
    BackupPerf perf = {.has_max_workers = true,
                       .max_workers = 16,
                       .has_max_chunk = true,
                       .max_chunk = 2 * CLUSTER};
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL, false);
    s.args.perf = &perf;
    s.args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
    s.args.staging.ram_bytes = UNIT;
    bdrv_co_drained_begin(s.source);
    s.job = backup_co_job_create(&s.args, &error_abort);
    job_ref(&s.job->job);
    bdrv_co_drained_end(s.source);
    /* A storer holds the second cluster, and the piece of the sweep with the first two waits for it. */
    test_ram_hold(s.target, TEST_RAM_WRITE, CLUSTER, CLUSTER);
    block_test_co_fill(s.user, CLUSTER, UNIT, 'n');
    block_test_co_fill(s.user, CLUSTER + UNIT, UNIT, 'n');
    test_ram_co_wait_held(s.target, 1);
    qemu_co_sleep_ns(100 * SCALE_MS);
    test_ram_set_error(s.source, TEST_RAM_READ, 10 * CLUSTER, UNIT, EIO, 1);
    job_start(&s.job->job);
    qemu_co_sleep_ns(BACKUP_RETRY_NS / 2);
    test_ram_set_error(s.source, TEST_RAM_READ, 0, UNIT, EIO, 1);
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(s.job), ==, 0);
    expect_byte(s.target, 0, 'o');
    tear_down(&s);
}

/* A disk that fails at once, and for ever, is asked again now and then, not all the time. */
static void coroutine_fn test_ignore_takes_its_time_between_tries(void)
{
    Scene s;

    for (int side = 0; side < 2; side++) {
        BlockDriverState *bad;

        set_up(&s, MIRROR_SYNC_MODE_FULL, false);
        bad = side ? s.source : s.target;
        s.args.on_target_error = s.args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
        test_ram_set_delay(bad, TEST_RAM_ALL_IO, SCALE_MS);
        test_ram_set_error(bad, TEST_RAM_READ | TEST_RAM_WRITE, 0, DISK_BYTES, EIO, TRIES);
        s.job = story_co_start_backup(&s.args);
        qemu_co_sleep_ns(10 * BACKUP_RETRY_NS);
        g_assert_false(job_is_completed(&s.job->job));
        test_ram_set_error(bad, 0, 0, 0, 0, 0);
        g_assert_cmpint(story_co_wait(s.job), ==, 0);
        tear_down(&s);
    }
}

/*
 * R1: a read of an overlay of the target is under way when the source, or both, are quiesced; then it comes
 * to a cluster that is on its way.  The quiesce waits for the read, so the read must not wait for its end.
 */
static void coroutine_fn test_a_reader_that_a_quiesce_waits_for_does_not_wait_for_its_end(void)
{
    for (int both = 0; both < 2; both++) {
        for (int overlay = 0; overlay < 2; overlay++) {
            BlockDriverState *top, *held;
            BlockTestRequest *read;
            BdrvChild *top_user;
            uint8_t buf[2 * CLUSTER];
            Scene s;

            if (!both && !overlay) {
                continue; /* nobody waits for it then */
            }
            set_up(&s, MIRROR_SYNC_MODE_NONE, overlay);
            top = test_cow_new("top", DISK_BYTES, CLUSTER, s.target);
            top_user = block_test_user(top, BLK_PERM_CONSISTENT_READ);
            s.job = story_co_start_backup(&s.args);
            block_test_co_settle();
            held = overlay ? s.source : s.target;
            test_ram_hold(held, TEST_RAM_READ | (overlay ? 0 : TEST_RAM_WRITE), 0,
                          2 * CLUSTER - UNIT);
            read = block_test_co_start(top_user, BLOCK_TEST_READ, 0, 2 * CLUSTER, 0);
            test_ram_co_wait_held(held, 1);
            block_test_co_fill(s.user, 2 * CLUSTER - UNIT, UNIT, 'n');
            test_ram_co_wait_held(held, 2); /* its store */
            drain(&s, s.source, both ? s.target : NULL);
            block_test_co_settle();
            g_assert_false(s.drained);
            g_assert_true(test_ram_release_one(held));
            block_test_co_settle();
            test_ram_release(held);
            wait_for(&s.drained);
            s.undrain = true;
            wait_for(&s.drain_over);
            g_assert_cmpint(block_test_co_join_read(read, buf, sizeof(buf)), ==, 0);
            g_assert_cmpint(buf[2 * CLUSTER - UNIT], ==, 'o');
            cancel(&s);
            block_test_co_user_free(top_user);
            bdrv_co_unref(top);
            tear_down(&s);
        }
    }
}

/* R1: the target is being quiesced, and waits for a reader who waits for a store that waits at the gate. */
static void coroutine_fn test_a_reader_opens_the_gate_of_a_target_that_waits_for_him(void)
{
    BlockDriverState *top;
    BlockTestRequest *read;
    BdrvChild *top_user;
    uint8_t buf[2 * CLUSTER];
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE, false);
    top = test_cow_new("top", DISK_BYTES, CLUSTER, s.target);
    top_user = block_test_user(top, BLK_PERM_CONSISTENT_READ);
    s.job = story_co_start_backup(&s.args);
    block_test_co_settle();
    test_ram_hold(s.target, TEST_RAM_READ, 0, CLUSTER);
    read = block_test_co_start(top_user, BLOCK_TEST_READ, 0, 2 * CLUSTER, 0);
    test_ram_co_wait_held(s.target, 1);
    drain(&s, s.target, NULL);
    block_test_co_fill(s.user, CLUSTER, UNIT, 'n');
    block_test_co_settle();
    expect_byte(s.target, CLUSTER, 0);
    g_assert_false(s.drained);
    test_ram_release(s.target);
    wait_for(&s.drained);
    s.undrain = true;
    wait_for(&s.drain_over);
    g_assert_cmpint(block_test_co_join_read(read, buf, sizeof(buf)), ==, 0);
    g_assert_cmpint(buf[CLUSTER], ==, 'o');
    cancel(&s);
    block_test_co_user_free(top_user);
    bdrv_co_unref(top);
    tear_down(&s);
}

/* B9: out of the stage, and not yet in the target. */
static void coroutine_fn test_a_reader_waits_for_what_a_store_holds(void)
{
    BlockTestRequest *read;
    uint8_t byte;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE, false);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    s.job = story_co_start_backup(&s.args);
    block_test_co_fill(s.user, 0, UNIT, 'n');
    test_ram_co_wait_held(s.target, 1);
    g_assert_true(stage_is_empty(backup_job_of(s.job)->stage));
    read = block_test_co_start(s.reader, BLOCK_TEST_READ, 0, UNIT, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(read));
    test_ram_release(s.target);
    g_assert_cmpint(block_test_co_join_read(read, &byte, 1), ==, 0);
    g_assert_cmpint(byte, ==, 'o');
    cancel(&s);
    tear_down(&s);
}

/* B10: it is in the job's memory, and in its notifier. */
static void coroutine_fn test_a_job_that_ends_waits_for_a_capture(void)
{
    BlockTestRequest *write;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE, false);
    s.job = story_co_start_backup(&s.args);
    block_test_co_settle();
    test_ram_hold(s.source, TEST_RAM_READ, 0, DISK_BYTES);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 0, UNIT, 'n');
    test_ram_co_wait_held(s.source, 1);
    job_user_cancel(&s.job->job, false, &error_abort);
    qemu_co_sleep_ns(SCALE_MS);
    g_assert_false(job_is_completed(&s.job->job));
    test_ram_release(s.source);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpint(story_co_wait(s.job), ==, -ECANCELED);
    block_test_co_expect(s.user, 0, UNIT, 'n');
    tear_down(&s);
}

/* R1: nobody whom a quiesce of the scratch waits for waits for a store, so a reader that comes waits for it. */
static void coroutine_fn test_a_reader_leaves_a_quiet_scratch_alone(void)
{
    BlockDriverState *scratch = test_ram_new("scratch", 0);
    BlockTestRequest *writes[2], *read;
    uint8_t byte;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE, true);
    test_ram_set_delay(scratch, TEST_RAM_ALL_IO, SCALE_MS);
    s.args.staging = (BackupStaging){
        .ram_bytes = UNIT, .scratch = scratch, .scratch_bytes = 4 * MiB, .cow_timeout_ns = -1};
    s.job = story_co_start_backup(&s.args);
    block_test_co_settle();
    drain(&s, scratch, NULL);
    wait_for(&s.drained);
    for (int i = 0; i < 2; i++) {
        writes[i] = block_test_co_start(s.user, BLOCK_TEST_WRITE, i * CLUSTER, UNIT, 'n');
    }
    block_test_co_settle();
    g_assert_false(block_test_done(writes[1]));
    read = block_test_co_start(s.reader, BLOCK_TEST_READ, 0, UNIT, 0);
    qemu_co_sleep_ns(20 * SCALE_MS);
    g_assert_false(block_test_done(read));
    s.undrain = true;
    wait_for(&s.drain_over);
    g_assert_cmpint(block_test_co_join_read(read, &byte, 1), ==, 0);
    g_assert_cmpint(byte, ==, 'o');
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(block_test_co_join(writes[i]), ==, 0);
    }
    cancel(&s);
    tear_down(&s);
    bdrv_co_unref(scratch);
}

/* R2: what guests overwrite waits for a target that fails, in each way that the user may choose. */
static void coroutine_fn test_without_a_sweep_each_policy_is_obeyed_too(void)
{
    static const BlockdevOnError policies[] = {BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_STOP,
                                               BLOCKDEV_ON_ERROR_ENOSPC, BLOCKDEV_ON_ERROR_IGNORE};

    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        bool stops =
            policies[i] == BLOCKDEV_ON_ERROR_STOP || policies[i] == BLOCKDEV_ON_ERROR_ENOSPC;
        Scene s;

        set_up(&s, MIRROR_SYNC_MODE_NONE, false);
        s.args.on_target_error = policies[i];
        test_ram_set_error(s.target, TEST_RAM_WRITE, 0, DISK_BYTES, ENOSPC, -1);
        s.job = story_co_start_backup(&s.args);
        for (int64_t offset = 0; offset < DISK_BYTES; offset += 2 * CLUSTER) {
            block_test_co_fill(s.user, offset, UNIT, 'n');
            qemu_co_sleep_ns(SCALE_MS);
        }
        qemu_co_sleep_ns(3 * BACKUP_RETRY_NS);
        if (policies[i] == BLOCKDEV_ON_ERROR_REPORT) {
            g_assert_cmpint(story_co_wait(s.job), ==, -ENOSPC);
        } else {
            g_assert_cmpint(s.job->job.status, ==, stops ? JOB_STATUS_PAUSED : JOB_STATUS_RUNNING);
            test_ram_set_error(s.target, 0, 0, 0, 0, 0);
            if (stops) {
                job_user_resume(&s.job->job, &error_abort);
            }
            backup_wait_for_overlapping_requests(s.job, 0, SECTORS(DISK_BYTES));
            for (int64_t offset = 0; offset < DISK_BYTES; offset += 2 * CLUSTER) {
                expect_byte(s.target, offset, 'o');
            }
            cancel(&s);
        }
        tear_down(&s);
    }
}

/* B10: a job that ends lets those go who wait in the guard, and stays until those have left who were let in. */
static void coroutine_fn test_a_job_that_ends_is_left_by_readers_in_the_guard(void)
{
    BlockTestRequest *in, *waiting;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE, true);
    s.job = story_co_start_backup(&s.args);
    block_test_co_settle();
    test_ram_hold(s.source, TEST_RAM_READ, 0, CLUSTER + UNIT);
    in = block_test_co_start(s.reader, BLOCK_TEST_READ, 0, CLUSTER, 0);
    test_ram_co_wait_held(s.source, 1);
    block_test_co_fill(s.user, 2 * CLUSTER - UNIT, UNIT, 'n'); /* its store reads the held source */
    test_ram_co_wait_held(s.source, 2);
    waiting = block_test_co_start(s.reader, BLOCK_TEST_READ, 2 * CLUSTER - UNIT, UNIT, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(waiting));
    job_user_cancel(&s.job->job, true, &error_abort);
    qemu_co_sleep_ns(SCALE_MS);
    g_assert_false(job_is_completed(&s.job->job));
    test_ram_release(s.source);
    g_assert_cmpint(block_test_co_join(in), ==, 0);
    g_assert_cmpint(block_test_co_join(waiting), ==,
                    -EIO); /* what it waited for was dropped (H2) */
    g_assert_cmpint(story_co_wait(s.job), ==, -ECANCELED);
    g_assert_null(s.target->read_guard);
    tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/store/a stopped job keeps nobody waiting",
                   test_a_stopped_job_keeps_nobody_waiting);
    block_test_add("/backup/store/a backup that breaks ends though it is paused",
                   test_a_backup_that_breaks_ends_though_it_is_paused);
    block_test_add("/backup/store/a checkpoint forgets what a parked store holds",
                   test_a_checkpoint_forgets_what_a_parked_store_holds);
    block_test_add("/backup/store/a piece that fails while another is dealt with is not forgotten",
                   test_a_piece_that_fails_while_another_is_dealt_with_is_not_forgotten);
    block_test_add("/backup/store/ignore takes its time between tries",
                   test_ignore_takes_its_time_between_tries);
    block_test_add("/backup/store/a reader that a quiesce waits for does not wait for its end",
                   test_a_reader_that_a_quiesce_waits_for_does_not_wait_for_its_end);
    block_test_add("/backup/store/a reader opens the gate of a target that waits for him",
                   test_a_reader_opens_the_gate_of_a_target_that_waits_for_him);
    block_test_add("/backup/store/a reader waits for what a store holds",
                   test_a_reader_waits_for_what_a_store_holds);
    block_test_add("/backup/store/a job that ends waits for a capture",
                   test_a_job_that_ends_waits_for_a_capture);
    block_test_add("/backup/store/a reader leaves a quiet scratch alone",
                   test_a_reader_leaves_a_quiet_scratch_alone);
    block_test_add("/backup/store/without a sweep each policy is obeyed too",
                   test_without_a_sweep_each_policy_is_obeyed_too);
    block_test_add("/backup/store/a job that ends is left by readers in the guard",
                   test_a_job_that_ends_is_left_by_readers_in_the_guard);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
