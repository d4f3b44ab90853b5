/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a backup while others sit in it: guests' writes in its notifier, readers with requests. */
#include <errno.h>
#include "aio/timer.h"
#include "block/block_backup.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (4 * MiB)

/* On the virtual clock: more than anything here takes. */
#define LONG_NS (INT64_C(10000) * SCALE_MS)

typedef struct Scene {
    BlockDriverState *source, *target;
    BdrvChild *user;
    BackupJobArgs args;
    bool drained, undrain, drain_over;
} Scene;

static void coroutine_fn set_up(Scene *s, MirrorSyncMode sync)
{
    *s = (Scene){.source = test_ram_new("source", DISK_BYTES)};
    s->target = sync == MIRROR_SYNC_MODE_NONE
                    ? test_cow_new("target", DISK_BYTES, 64 * KiB, s->source)
                    : test_ram_new("target", DISK_BYTES);
    s->user = block_test_user(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    test_ram_poke_pattern(s->source, 0, DISK_BYTES, 1);
    s->args =
        (BackupJobArgs){.job_id = "b", .source = s->source, .target = s->target, .sync = sync};
}

static void coroutine_fn tear_down(Scene *s)
{
    g_assert_true(notifier_with_return_list_empty(&s->source->before_write_notifiers));
    g_assert_null(job_next(NULL));
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
}

static void coroutine_fn drain_entry(void *opaque)
{
    Scene *s = opaque;

    bdrv_co_drained_begin(s->target);
    s->drained = true;
    while (!s->undrain) {
        qemu_co_sleep_ns(1000);
    }
    g_assert_cmpuint(s->target->in_flight, ==, 0);
    bdrv_co_drained_end(s->target);
    s->drain_over = true;
}

static void coroutine_fn wait_for(const bool *flag)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + LONG_NS;

    while (!*flag) {
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        qemu_co_sleep_ns(10000);
    }
}

/* Writes to every other cluster from the third on, until one has to wait for room; that one. */
static BlockTestRequest *coroutine_fn write_until_one_waits(Scene *s)
{
    for (int64_t offset = 128 * KiB; offset < DISK_BYTES; offset += 128 * KiB) {
        BlockTestRequest *write = block_test_co_start(s->user, BLOCK_TEST_WRITE, offset, 4096, 'n');

        block_test_co_settle();
        if (!block_test_done(write)) {
            return write;
        }
        g_assert_cmpint(block_test_co_join(write), ==, 0);
    }
    g_assert_not_reached();
}

/*
 * R1: a write waits for room, room waits for the target's quiesce to end, the quiesce for the job, and the
 * job is cancelled: it must not wait for the write.
 */
static void coroutine_fn test_a_cancel_ends_though_a_write_waits_for_a_quiet_target(void)
{
    BackupPerf perf = {
        .has_max_workers = true, .max_workers = 1, .has_max_chunk = true, .max_chunk = 64 * KiB};
    BlockTestRequest *write;
    BlockJob *job;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    s.args.perf = &perf;
    s.args.staging.ram_bytes = 4096;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(drain_entry, &s));
    block_test_co_settle();
    write = write_until_one_waits(&s);
    job_user_cancel(&job->job, true, &error_abort);
    test_ram_release(s.target);
    wait_for(&s.drained);
    test_ram_reset_counts(s.target);
    qemu_co_sleep_ns(1000000);
    g_assert_cmpuint(test_ram_counts(s.target)->writes, ==, 0);
    s.undrain = true;
    wait_for(&s.drain_over);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    tear_down(&s);
}

/* R1: guests' writes do not touch the target, stores wait. */
static void coroutine_fn test_a_write_passes_while_an_overlay_target_is_quiet(void)
{
    BdrvChild *reader;
    uint8_t old[4096];
    BlockJob *job;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE);
    test_ram_peek(s.source, 0, old, sizeof(old));
    job = story_co_start_backup(&s.args);
    block_test_co_settle();
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(drain_entry, &s));
    wait_for(&s.drained);
    block_test_co_fill(s.user, 0, 4096, 'n');
    qemu_co_sleep_ns(1000000);
    g_assert_cmpuint(s.target->in_flight, ==, 0);
    s.undrain = true;
    wait_for(&s.drain_over);
    reader = block_test_user(s.target, BLK_PERM_CONSISTENT_READ);
    block_test_co_expect(reader, 0, 1, old[0]);
    block_test_co_user_free(reader);
    job_user_cancel(&job->job, true, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    tear_down(&s);
}

/* The request is on a list in the job's memory. */
static void coroutine_fn test_a_job_that_ends_waits_for_a_reader_that_holds_a_request(void)
{
    BlockJob *job;
    CowRequest req;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE);
    job = story_co_start_backup(&s.args);
    block_test_co_settle();
    backup_wait_for_overlapping_requests(job, 0, 8);
    backup_cow_request_begin(&req, job, 0, 8);
    job_user_cancel(&job->job, true, &error_abort);
    for (int i = 0; i < 10; i++) {
        qemu_co_sleep_ns(1000000);
        g_assert_false(job_is_completed(&job->job));
    }
    backup_cow_request_end(&req);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    tear_down(&s);
}

/* B10, B11: one that waited for a store when the guard was taken off is in the job's memory, and lets go of it. */
static void coroutine_fn test_a_guarded_read_leaves_a_job_that_is_cancelled(void)
{
    BlockTestRequest *read;
    BdrvChild *reader;
    BlockJob *job;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    s.args.sync = MIRROR_SYNC_MODE_NONE;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    block_test_co_fill(s.user, 0, 4096, 'n');
    test_ram_co_wait_held(s.target, 1);
    reader = block_test_user(s.target, BLK_PERM_CONSISTENT_READ);
    read = block_test_co_start(reader, BLOCK_TEST_READ, 0, 4096, 0);
    block_test_co_settle();
    test_ram_hold(s.target, TEST_RAM_READ, 0, DISK_BYTES);
    job_user_cancel(&job->job, true, &error_abort);
    block_test_co_settle();
    g_assert_true(test_ram_release_one(s.target)); /* the store */
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    g_assert_true(block_test_done(read));
    g_assert_cmpint(block_test_co_join(read), ==, -EIO);
    test_ram_release(s.target);
    block_test_co_user_free(reader);
    tear_down(&s);
}

/* H2: what a reader waited for is dropped by a job that fails; what it would read now is of two instants. */
static void coroutine_fn test_a_guarded_read_fails_with_the_job_that_has_lost_its_data(void)
{
    BlockTestRequest *read;
    BdrvChild *reader;
    BlockJob *job;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    s.args.sync = MIRROR_SYNC_MODE_NONE;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    test_ram_set_error(s.target, TEST_RAM_WRITE, 0, DISK_BYTES, EIO, -1);
    job = story_co_start_backup(&s.args);
    block_test_co_fill(s.user, 0, 4096, 'n');
    test_ram_co_wait_held(s.target, 1);
    reader = block_test_user(s.target, BLK_PERM_CONSISTENT_READ);
    read = block_test_co_start(reader, BLOCK_TEST_READ, 0, 4096, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(read));
    test_ram_release(s.target);
    g_assert_cmpint(block_test_co_join(read), ==, -EIO);
    g_assert_cmpint(story_co_wait(job), ==, -EIO);
    block_test_co_user_free(reader);
    tear_down(&s);
}

/* And so does one that was cancelled before it ran. */
static void coroutine_fn test_a_job_that_never_ran_waits_for_a_reader_too(void)
{
    BlockJob *job;
    CowRequest req;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE);
    bdrv_co_drained_begin(s.source);
    job = backup_co_job_create(&s.args, &error_abort);
    job_ref(&job->job);
    backup_cow_request_begin(&req, job, 0, 8);
    bdrv_co_drained_end(s.source);
    job_user_cancel(&job->job, true, &error_abort);
    for (int i = 0; i < 10; i++) {
        qemu_co_sleep_ns(1000000);
        g_assert_cmpint(job->job.status, ==, JOB_STATUS_ABORTING);
        g_assert_nonnull(job->nodes);
    }
    backup_cow_request_end(&req);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    tear_down(&s);
}

/* B8 holds to the end: also when a copy elsewhere has failed and the backup is over. */
static void coroutine_fn test_a_reader_is_kept_safe_though_the_backup_has_failed(void)
{
    BlockTestRequest *write;
    BlockJob *job;
    CowRequest req;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE);
    job = story_co_start_backup(&s.args);
    block_test_co_settle();
    backup_wait_for_overlapping_requests(job, 0, 8);
    backup_cow_request_begin(&req, job, 0, 8);
    test_ram_set_error(s.source, TEST_RAM_READ, DISK_BYTES - 4096, 4096, EIO, 1);
    block_test_co_fill(s.user, DISK_BYTES - 4096, 4096, 'n');
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 4096, 4096, 'n');
    qemu_co_sleep_ns(1000000);
    g_assert_false(block_test_done(write));
    backup_cow_request_end(&req);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpint(story_co_wait(job), ==, -EIO);
    tear_down(&s);
}

/* B10: the job and a write wait for the same reader; the job is woken first, and its memory goes. */
static void coroutine_fn test_a_write_leaves_the_notifier_before_the_memory_goes(void)
{
    BlockTestRequest *writes[3];
    BlockJob *job;
    CowRequest req;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_NONE);
    job = story_co_start_backup(&s.args);
    block_test_co_settle();
    backup_cow_request_begin(&req, job, 0, 8);
    job_user_cancel(&job->job, true, &error_abort);
    block_test_co_settle();
    job_unref(&job->job);
    for (int i = 0; i < 3; i++) {
        writes[i] = block_test_co_start(s.user, BLOCK_TEST_WRITE, i * 512, 512, 'n');
    }
    block_test_co_settle();
    backup_cow_request_end(&req);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(block_test_co_join(writes[i]), ==, 0);
    }
    while (job_next(NULL)) {
        qemu_co_sleep_ns(10000);
    }
    tear_down(&s);
}

/* A large write has most of its copying before it when the backup is cancelled: it is let go. */
static void coroutine_fn test_a_cancel_does_not_wait_for_the_rest_of_a_large_copy(void)
{
    BlockTestRequest *write;
    BlockJob *job;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    s.args.sync = MIRROR_SYNC_MODE_NONE;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE_ZEROES, 0, DISK_BYTES, 0);
    test_ram_co_wait_held(s.target, 1);
    job_user_cancel(&job->job, true, &error_abort);
    block_test_co_settle();
    test_ram_release(s.target);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    g_assert_cmpuint(test_ram_counts(s.target)->writes, <=, 1);
    block_test_co_expect(s.user, 0, DISK_BYTES, 0);
    tear_down(&s);
}

static void expect_copy(BlockDriverState *target, const uint8_t *old)
{
    g_autofree uint8_t *copy = g_malloc(DISK_BYTES);

    test_ram_peek(target, 0, copy, DISK_BYTES);
    g_assert_cmpmem(copy, DISK_BYTES, old, DISK_BYTES);
}

/* Two backups of one disk: the end of one does not disturb a write that the other holds. */
static void coroutine_fn test_one_backup_ends_while_the_other_holds_a_write(void)
{
    BackupPerf perf = {
        .has_max_workers = true, .max_workers = 1, .has_max_chunk = true, .max_chunk = 64 * KiB};
    BlockDriverState *slow = test_ram_new("slow", DISK_BYTES);
    g_autofree uint8_t *old = g_malloc(DISK_BYTES);
    BackupJobArgs slow_args;
    BlockTestRequest *write;
    BlockJob *job, *slow_job;
    Scene s;

    for (int order = 0; order < 2; order++) { /* which notifier comes first */
        set_up(&s, MIRROR_SYNC_MODE_FULL);
        test_ram_peek(s.source, 0, old, DISK_BYTES);
        slow_args = s.args;
        slow_args.job_id = "slow";
        slow_args.target = slow;
        slow_args.perf = &perf;
        slow_args.staging.ram_bytes = 4096;
        test_ram_hold(slow, TEST_RAM_WRITE, 0, DISK_BYTES);
        job = story_co_start_backup(order ? &slow_args : &s.args);
        slow_job = story_co_start_backup(order ? &s.args : &slow_args);
        if (order) {
            BlockJob *swap = job;

            job = slow_job;
            slow_job = swap;
        }
        write = write_until_one_waits(&s);
        g_assert_cmpint(story_co_wait(job), ==, 0);
        g_assert_false(block_test_done(write));
        test_ram_release(slow);
        g_assert_cmpint(block_test_co_join(write), ==, 0);
        g_assert_cmpint(story_co_wait(slow_job), ==, 0);
        expect_copy(s.target, old);
        expect_copy(slow, old);
        tear_down(&s);
    }
    bdrv_co_unref(slow);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/end/a cancel ends though a write waits for a quiet target",
                   test_a_cancel_ends_though_a_write_waits_for_a_quiet_target);
    block_test_add("/backup/end/a write passes while an overlay target is quiet",
                   test_a_write_passes_while_an_overlay_target_is_quiet);
    block_test_add("/backup/end/a job that ends waits for a reader that holds a request",
                   test_a_job_that_ends_waits_for_a_reader_that_holds_a_request);
    block_test_add("/backup/end/a guarded read leaves a job that is cancelled",
                   test_a_guarded_read_leaves_a_job_that_is_cancelled);
    block_test_add("/backup/end/a guarded read fails with the job that has lost its data",
                   test_a_guarded_read_fails_with_the_job_that_has_lost_its_data);
    block_test_add("/backup/end/a job that never ran waits for a reader too",
                   test_a_job_that_never_ran_waits_for_a_reader_too);
    block_test_add("/backup/end/a reader is kept safe though the backup has failed",
                   test_a_reader_is_kept_safe_though_the_backup_has_failed);
    block_test_add("/backup/end/a write leaves the notifier before the memory goes",
                   test_a_write_leaves_the_notifier_before_the_memory_goes);
    block_test_add("/backup/end/a cancel does not wait for the rest of a large copy",
                   test_a_cancel_does_not_wait_for_the_rest_of_a_large_copy);
    block_test_add("/backup/end/one backup ends while the other holds a write",
                   test_one_backup_ends_while_the_other_holds_a_write);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
