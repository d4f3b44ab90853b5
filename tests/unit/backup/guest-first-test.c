/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rule B6: a guest's write does not queue behind the sweep. */
#include "aio/timer.h"
#include "block/jobs/backup/backup-job.h"
#include "coro/sleep.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (8 * MiB)

typedef struct Scene {
    BlockDriverState *source, *target;
    BdrvChild *user;
    BackupJobArgs args;
} Scene;

static Scene coroutine_fn set_up(void)
{
    Scene s = {.source = test_ram_new("source", DISK_BYTES),
               .target = test_ram_new("target", DISK_BYTES)};

    s.user = block_test_user(s.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    test_ram_poke_pattern(s.source, 0, DISK_BYTES, 1);
    s.args = (BackupJobArgs){
        .job_id = "b", .source = s.source, .target = s.target, .sync = MIRROR_SYNC_MODE_FULL};
    return s;
}

static void coroutine_fn tear_down(Scene *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->source);
    bdrv_co_unref(s->target);
}

/* All that the sweep has in flight, and all its buffers, are stuck in the target. */
static void coroutine_fn test_a_write_passes_a_sweep_that_is_stuck(void)
{
    BackupPerf perf = {.has_max_workers = true, .max_workers = 1};
    Scene s = set_up();
    BlockJob *job;

    s.args.perf = &perf;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES / 2);
    job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    block_test_co_fill(s.user, DISK_BYTES / 2, 300 * KiB, 'n');
    block_test_co_fill(s.user, DISK_BYTES - 512, 512, 'n');
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    tear_down(&s);
}

/* What the sweep has in flight, once it has begun all that it wants to. */
static int64_t coroutine_fn in_flight_when_held(bool busy)
{
    Scene s = set_up();
    BlockJob *job;
    int64_t bytes;

    bdrv_co_drained_begin(s.source);
    job = backup_co_job_create(&s.args, &error_abort);
    job_ref(&job->job);
    bdrv_co_drained_end(s.source);
    if (busy) {
        block_test_co_fill(s.user, DISK_BYTES - 512, 512, 'n');
    }
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job_start(&job->job);
    block_test_co_settle();
    bytes = backup_job_of(job)->sweep_in_flight_bytes;
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    tear_down(&s);
    return bytes;
}

static void coroutine_fn test_the_sweep_keeps_less_in_flight_while_the_guest_writes(void)
{
    g_assert_cmpint(in_flight_when_held(false), ==, BACKUP_SWEEP_BYTES);
    g_assert_cmpint(in_flight_when_held(true), ==, BACKUP_SWEEP_BUSY_BYTES);
}

/* Where both want the same clusters the write waits, for that piece and no other. */
static void coroutine_fn test_a_write_waits_for_a_piece_of_the_sweep_that_has_its_clusters(void)
{
    Scene s = set_up();
    BlockTestRequest *write;
    uint8_t old[512], copy[512];
    BlockJob *job;

    test_ram_peek(s.source, 0, old, sizeof(old));
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 0, 512, 'n');
    block_test_co_settle();
    g_assert_false(block_test_done(write));
    g_assert_true(test_ram_release_one(s.target));
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    test_ram_peek(s.target, 0, copy, sizeof(copy));
    g_assert_cmpmem(copy, sizeof(copy), old, sizeof(old));
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/guest-first/a write passes a sweep that is stuck",
                   test_a_write_passes_a_sweep_that_is_stuck);
    block_test_add("/backup/guest-first/the sweep keeps less in flight while the guest writes",
                   test_the_sweep_keeps_less_in_flight_while_the_guest_writes);
    block_test_add(
        "/backup/guest-first/a write waits for a piece of the sweep that has its clusters",
        test_a_write_waits_for_a_piece_of_the_sweep_that_has_its_clusters);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
