/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backup does when something fails: policies, rule B7, and what it refuses to begin. */
#include "aio/timer.h"
#include "block/jobs/backup/backup-job.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (2 * MiB)

typedef struct Pair {
    BlockDriverState *source, *target;
    BdrvChild *user;
    BackupJobArgs args;
} Pair;

static Pair coroutine_fn set_up(void)
{
    Pair p = {.source = test_ram_new("source", DISK_BYTES),
              .target = test_ram_new("target", DISK_BYTES)};

    p.user = block_test_user(p.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    test_ram_poke_pattern(p.source, 0, DISK_BYTES, 1);
    p.args = (BackupJobArgs){
        .job_id = "b", .source = p.source, .target = p.target, .sync = MIRROR_SYNC_MODE_FULL};
    return p;
}

static void coroutine_fn tear_down(Pair *p)
{
    block_test_co_user_free(p->user);
    g_assert_cmpint(p->source->refcnt, ==, 1);
    g_assert_cmpint(p->target->refcnt, ==, 1);
    bdrv_co_unref(p->source);
    bdrv_co_unref(p->target);
}

static void expect_equal(Pair *p)
{
    g_autofree uint8_t *a = g_malloc(DISK_BYTES), *b = g_malloc(DISK_BYTES);

    test_ram_peek(p->source, 0, a, DISK_BYTES);
    test_ram_peek(p->target, 0, b, DISK_BYTES);
    g_assert_cmpmem(a, DISK_BYTES, b, DISK_BYTES);
}

static void coroutine_fn test_report_ends_the_job_with_the_error_of_either_side(void)
{
    Pair p = set_up();

    p.args.on_source_error = p.args.on_target_error = BLOCKDEV_ON_ERROR_REPORT;
    test_ram_set_error(p.source, TEST_RAM_READ, 1 * MiB, 4096, EIO, -1);
    g_assert_cmpint(story_co_wait(story_co_start_backup(&p.args)), ==, -EIO);
    test_ram_set_error(p.source, 0, 0, 0, 0, 0);
    test_ram_set_error(p.target, TEST_RAM_WRITE, 1 * MiB, 4096, ENOSPC, -1);
    g_assert_cmpint(story_co_wait(story_co_start_backup(&p.args)), ==, -ENOSPC);
    test_ram_set_error(p.target, TEST_RAM_FLUSH, 0, DISK_BYTES, EIO, 1);
    g_assert_cmpint(story_co_wait(story_co_start_backup(&p.args)), ==, -EIO);
    tear_down(&p);
}

static void coroutine_fn test_ignore_tries_again_until_it_works(void)
{
    Pair p = set_up();

    p.args.on_source_error = p.args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    test_ram_set_error(p.source, TEST_RAM_READ, 1 * MiB, 4096, EIO, 3);
    g_assert_cmpint(story_co_wait(story_co_start_backup(&p.args)), ==, 0);
    expect_equal(&p);
    tear_down(&p);
}

static void coroutine_fn wait_until_paused(BlockJob *job)
{
    while (job->job.status != JOB_STATUS_PAUSED) {
        qemu_co_sleep_ns(100000);
    }
}

static void coroutine_fn test_stop_pauses_the_job_and_resume_goes_on_where_it_failed(void)
{
    Pair p = set_up();
    BlockJob *job;

    p.args.on_target_error = BLOCKDEV_ON_ERROR_ENOSPC;
    test_ram_set_error(p.target, TEST_RAM_WRITE, 1 * MiB, 4096, ENOSPC, -1);
    job = story_co_start_backup(&p.args);
    wait_until_paused(job);
    g_assert_cmpint(job->iostatus, ==, BLOCK_DEVICE_IO_STATUS_NOSPACE);
    test_ram_set_error(p.target, 0, 0, 0, 0, 0);
    job_user_resume(&job->job, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    expect_equal(&p);
    tear_down(&p);
}

/* More workers than there are buffers: one that waited for a buffer would wait for one that is parked. */
static void coroutine_fn test_a_full_target_stops_a_job_of_many_workers(void)
{
    enum { WORKERS = BACKUP_SWEEP_CHUNKS_MAX + 10 };
    BackupPerf perf = {.has_max_workers = true,
                       .max_workers = WORKERS,
                       .has_max_chunk = true,
                       .max_chunk = 64 * KiB};
    int64_t bytes = 2 * WORKERS * 64 * KiB, deadline;
    BackupJobArgs args = {.job_id = "b",
                          .source = test_ram_new("source", bytes),
                          .target = test_ram_new("target", bytes),
                          .sync = MIRROR_SYNC_MODE_FULL,
                          .on_target_error = BLOCKDEV_ON_ERROR_ENOSPC,
                          .perf = &perf};
    BlockJob *job;

    test_ram_poke_pattern(args.source, 0, bytes, 1);
    test_ram_hold(args.target, TEST_RAM_WRITE, 0, bytes);
    test_ram_set_error(args.target, TEST_RAM_WRITE, 0, bytes, ENOSPC, -1);
    job = story_co_start_backup(&args);
    test_ram_co_wait_held(args.target, BACKUP_SWEEP_CHUNKS_MAX);
    test_ram_release(args.target);
    deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + INT64_C(10) * NANOSECONDS_PER_SECOND;
    while (job->job.status != JOB_STATUS_PAUSED) {
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        qemu_co_sleep_ns(100000);
    }
    bdrv_co_drained_begin(args.source);
    bdrv_co_drained_end(args.source);
    test_ram_set_error(args.target, 0, 0, 0, 0, 0);
    job_user_resume(&job->job, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    bdrv_co_unref(args.target);
    bdrv_co_unref(args.source);
}

/* B7 */
static void coroutine_fn test_a_before_write_copy_that_fails_breaks_the_backup_not_the_write(void)
{
    Pair p = set_up();
    BlockJob *job;

    for (int side = 0; side < 2; side++) {
        BlockDriverState *bad = side ? p.target : p.source;

        /* The sweep has been slowed, so that the guest comes first. */
        p.args.speed = 64 * KiB;
        job = story_co_start_backup(&p.args);
        test_ram_set_error(bad, side ? TEST_RAM_WRITE : TEST_RAM_READ, DISK_BYTES - 4096, 4096, EIO,
                           -1);
        block_test_co_fill(p.user, DISK_BYTES - 4096, 4096, 'n');
        g_assert_cmpint(story_co_wait(job), ==, -EIO);
        test_ram_set_error(bad, 0, 0, 0, 0, 0);
        block_test_co_expect(p.user, DISK_BYTES - 4096, 4096, 'n');
    }
    tear_down(&p);
}

/* More than the job may take to hear of it, less than one step at the speed that it is given. */
#define SOON_NS (INT64_C(1000) * SCALE_MS)

/*
 * B7: the old data is gone, so a fault that was seen once, and by the guest's write alone, is the end of
 * the backup; at once, though the sweep sleeps to keep its speed or there is none.
 */
static void coroutine_fn test_a_capture_that_failed_once_is_not_forgotten(void)
{
    static const MirrorSyncMode modes[] = {MIRROR_SYNC_MODE_FULL, MIRROR_SYNC_MODE_NONE};

    for (int i = 0; i < 2; i++) {
        Pair p = set_up();
        BlockJob *job;
        int64_t start;

        p.args.sync = modes[i];
        p.args.speed = 64 * KiB;
        p.args.flags = JOB_MANUAL_DISMISS;
        job = story_co_start_backup(&p.args);
        qemu_co_sleep_ns(SCALE_MS);
        test_ram_set_error(p.source, TEST_RAM_READ, DISK_BYTES - 4096, 4096, EIO, 1);
        block_test_co_fill(p.user, DISK_BYTES - 4096, 4096, 'n');
        start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        while (job->job.status != JOB_STATUS_CONCLUDED) {
            g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, SOON_NS);
            qemu_co_sleep_ns(SCALE_MS);
        }
        g_assert_cmpstr(error_get_pretty(job->job.err), ==,
                        "The old data in front of a write to 'source' could not be read: "
                        "Input/output error");
        job_ref(&job->job);
        g_assert_cmpint(story_co_wait(job), ==, -EIO);
        job_co_cancel_sync(&job->job, true); /* dismisses it */
        job_unref(&job->job);
        tear_down(&p);
    }
}

/* R2: a target that fails for a while costs nothing of what guests have overwritten meanwhile. */
static void coroutine_fn test_a_target_that_fails_for_a_while_loses_nothing(void)
{
    static const BlockdevOnError policies[] = {BLOCKDEV_ON_ERROR_STOP, BLOCKDEV_ON_ERROR_ENOSPC,
                                               BLOCKDEV_ON_ERROR_IGNORE};

    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        Pair p = set_up();
        g_autofree uint8_t *old = g_malloc(DISK_BYTES), *copy = g_malloc(DISK_BYTES);
        BlockJob *job;

        test_ram_peek(p.source, 0, old, DISK_BYTES);
        p.args.on_target_error = policies[i];
        test_ram_set_error(p.target, TEST_RAM_WRITE, 0, DISK_BYTES, ENOSPC, -1);
        job = story_co_start_backup(&p.args);
        if (policies[i] != BLOCKDEV_ON_ERROR_IGNORE) {
            wait_until_paused(job);
        }
        for (int64_t offset = 0; offset < DISK_BYTES; offset += 32 * KiB) {
            block_test_co_fill(p.user, offset, 4096, 'n');
            qemu_co_sleep_ns(SCALE_MS);
        }
        test_ram_set_error(p.target, 0, 0, 0, 0, 0);
        if (policies[i] != BLOCKDEV_ON_ERROR_IGNORE) {
            job_user_resume(&job->job, &error_abort);
        }
        g_assert_cmpint(story_co_wait(job), ==, 0);
        test_ram_peek(p.target, 0, copy, DISK_BYTES);
        g_assert_cmpmem(copy, DISK_BYTES, old, DISK_BYTES);
        tear_down(&p);
    }
}

static void coroutine_fn test_a_cancel_ends_soon_and_leaves_the_source_alone(void)
{
    Pair p = set_up();
    BlockJob *job;

    p.args.speed = 64 * KiB;
    job = story_co_start_backup(&p.args);
    qemu_co_sleep_ns(1000000);
    job_user_cancel(&job->job, false, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    block_test_co_fill(p.user, 0, DISK_BYTES, 1);
    tear_down(&p);
}

/*
 * I1: each mode, each outcome; what the next incremental backup would copy.
 * @broken: what fails at the target, of TEST_RAM_WRITE (the third cluster) and TEST_RAM_FLUSH
 */
static void coroutine_fn check_bitmap(BitmapSyncMode mode, unsigned broken, int64_t expected_dirty)
{
    Pair p = set_up();
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(p.source, 64 * KiB, "d", &error_abort);
    BlockJob *job;

    bdrv_set_dirty_bitmap(bitmap, 0, 256 * KiB);
    p.args.sync = MIRROR_SYNC_MODE_BITMAP;
    p.args.sync_bitmap = bitmap;
    p.args.bitmap_mode = mode;
    p.args.speed = 1 * MiB;
    p.args.perf = &(BackupPerf){
        .has_max_chunk = true, .max_chunk = 64 * KiB, .has_max_workers = true, .max_workers = 1};
    test_ram_set_error(p.target, broken, 128 * KiB, 4096, EIO, -1);
    job = story_co_start_backup(&p.args);
    block_test_co_fill(p.user, 1 * MiB, 64 * KiB, 'n'); /* since the instant */
    g_assert_cmpint(story_co_wait(job), ==, broken ? -EIO : 0);
    g_assert_false(bdrv_dirty_bitmap_busy(bitmap));
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, expected_dirty);
    bdrv_release_dirty_bitmap(bitmap);
    tear_down(&p);
}

static void coroutine_fn test_bitmap_modes_keep_what_they_promise(void)
{
    check_bitmap(BITMAP_SYNC_MODE_ON_SUCCESS, 0, 64 * KiB);
    check_bitmap(BITMAP_SYNC_MODE_ON_SUCCESS, TEST_RAM_WRITE, 320 * KiB);
    check_bitmap(BITMAP_SYNC_MODE_NEVER, 0, 320 * KiB);
    check_bitmap(BITMAP_SYNC_MODE_NEVER, TEST_RAM_WRITE, 320 * KiB);
    check_bitmap(BITMAP_SYNC_MODE_ALWAYS, 0, 64 * KiB);
    check_bitmap(BITMAP_SYNC_MODE_ALWAYS, TEST_RAM_WRITE, 192 * KiB); /* two of four were copied */
}

/* I1: what was copied may be anywhere but on stable storage. */
static void coroutine_fn test_no_mode_forgets_what_the_target_could_not_flush(void)
{
    check_bitmap(BITMAP_SYNC_MODE_ON_SUCCESS, TEST_RAM_FLUSH, 320 * KiB);
    check_bitmap(BITMAP_SYNC_MODE_ALWAYS, TEST_RAM_FLUSH, 320 * KiB);
    check_bitmap(BITMAP_SYNC_MODE_ALWAYS, TEST_RAM_WRITE | TEST_RAM_FLUSH, 320 * KiB);
}

/* I1, H6: a target that says nothing is not asked for ever whether it is stable; nothing is forgotten then. */
static void coroutine_fn test_a_cancel_does_not_wait_for_a_flush_that_never_ends(void)
{
    Pair p = set_up();
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(p.source, 64 * KiB, "d", &error_abort);
    int64_t start;
    BlockJob *job;

    bdrv_set_dirty_bitmap(bitmap, 0, 256 * KiB);
    p.args.sync = MIRROR_SYNC_MODE_BITMAP;
    p.args.sync_bitmap = bitmap;
    p.args.bitmap_mode = BITMAP_SYNC_MODE_ALWAYS;
    p.args.speed = 64 * KiB;
    test_ram_set_cancels(p.target, true);
    test_ram_hold(p.target, TEST_RAM_FLUSH, 0, DISK_BYTES);
    job = story_co_start_backup(&p.args);
    qemu_co_sleep_ns(SCALE_MS);
    job_user_cancel(&job->job, true, &error_abort);
    start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    while (!job_is_completed(&job->job)) {
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, 10 * SOON_NS);
        qemu_co_sleep_ns(SCALE_MS);
    }
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    test_ram_release(p.target);
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, 256 * KiB);
    bdrv_release_dirty_bitmap(bitmap);
    tear_down(&p);
}

static void coroutine_fn expect_refused(const BackupJobArgs *args, const char *message)
{
    Error *err = NULL;
    BlockJob *job;

    bdrv_co_drained_begin(args->source);
    job = backup_co_job_create(args, &err);
    bdrv_co_drained_end(args->source);
    g_assert_null(job);
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==, message);
    error_free(err);
}

static void coroutine_fn test_what_makes_no_sense_is_refused_and_leaves_nothing(void)
{
    Pair p = set_up();
    BlockDriverState *small = test_ram_new("small", DISK_BYTES - 512);
    BackupJobArgs args = p.args;

    args.target = args.source;
    expect_refused(&args, "Source and target cannot be the same");
    args = p.args;
    args.target = small;
    expect_refused(&args, "Source and target image have different sizes");
    args = p.args;
    args.compress = true;
    expect_refused(&args, "Compression is not supported for this drive target");
    args = p.args;
    args.sync = MIRROR_SYNC_MODE_INCREMENTAL;
    expect_refused(&args, "must provide a valid bitmap name for 'incremental' sync mode");
    args = p.args;
    args.perf = &(BackupPerf){.has_max_workers = true, .max_workers = 0};
    expect_refused(&args, "max-workers must be between 1 and 2147483647");
    args = p.args;
    args.speed = -1;
    expect_refused(&args, "Parameter 'speed' expects a non-negative value");
    g_assert_null(job_next(NULL));
    bdrv_co_unref(small);
    tear_down(&p);
}

static void coroutine_fn test_zeros_are_not_written_where_the_target_has_them(void)
{
    Pair p = set_up();

    bdrv_co_pwrite_zeroes(p.user, 0, 1 * MiB, BDRV_REQ_MAY_UNMAP);
    block_test_co_fill(p.user, 1 * MiB, 512 * KiB, 0); /* zeros as data */
    g_assert_cmpint(story_co_wait(story_co_start_backup(&p.args)), ==, 0);
    g_assert_cmpint(test_ram_allocated(p.target), ==, 512 * KiB);
    g_assert_cmpint(test_ram_counts(p.target)->zeroes, ==, 0);
    expect_equal(&p);
    tear_down(&p);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/errors/a cancel does not wait for a flush that never ends",
                   test_a_cancel_does_not_wait_for_a_flush_that_never_ends);
    block_test_add("/backup/errors/a full target stops a job of many workers",
                   test_a_full_target_stops_a_job_of_many_workers);
    block_test_add("/backup/errors/report ends the job with the error of either side",
                   test_report_ends_the_job_with_the_error_of_either_side);
    block_test_add("/backup/errors/ignore tries again until it works",
                   test_ignore_tries_again_until_it_works);
    block_test_add("/backup/errors/stop pauses the job and resume goes on where it failed",
                   test_stop_pauses_the_job_and_resume_goes_on_where_it_failed);
    block_test_add("/backup/errors/a before-write copy that fails breaks the backup not the write",
                   test_a_before_write_copy_that_fails_breaks_the_backup_not_the_write);
    block_test_add("/backup/errors/a capture that failed once is not forgotten",
                   test_a_capture_that_failed_once_is_not_forgotten);
    block_test_add("/backup/errors/a target that fails for a while loses nothing",
                   test_a_target_that_fails_for_a_while_loses_nothing);
    block_test_add("/backup/errors/a cancel ends soon and leaves the source alone",
                   test_a_cancel_ends_soon_and_leaves_the_source_alone);
    block_test_add("/backup/errors/bitmap modes keep what they promise",
                   test_bitmap_modes_keep_what_they_promise);
    block_test_add("/backup/errors/no bitmap mode forgets what the target could not flush",
                   test_no_mode_forgets_what_the_target_could_not_flush);
    block_test_add("/backup/errors/what makes no sense is refused and leaves nothing",
                   test_what_makes_no_sense_is_refused_and_leaves_nothing);
    block_test_add("/backup/errors/zeros are not written where the target has them",
                   test_zeros_are_not_written_where_the_target_has_them);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
