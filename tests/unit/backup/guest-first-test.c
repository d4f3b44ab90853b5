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
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    if (busy) {
        block_test_co_fill(s.user, DISK_BYTES - 512, 512, 'n');
    }
    job_start(&job->job);
    for (int i = 0; busy && i < 300;
         i++) { /* longer than the sweep looks at what guests have without it */
        block_test_co_fill(s.user, DISK_BYTES - 512, 512, 'n');
        qemu_co_sleep_ns(SCALE_MS);
    }
    block_test_co_settle();
    bytes = backup_job_of(job)->pace.in_flight;
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    tear_down(&s);
    return bytes;
}

static void coroutine_fn test_the_sweep_keeps_less_in_flight_while_the_guest_writes(void)
{
    g_assert_cmpint(in_flight_when_held(false), ==, BACKUP_SWEEP_BYTES);
    g_assert_cmpint(in_flight_when_held(true), ==, PACE_START_BYTES);
}

/* G3: what the sweep holds is in its buffer; the write need not wait for the target to take it. */
static void coroutine_fn test_a_write_passes_a_piece_of_the_sweep_that_has_its_clusters(void)
{
    Scene s = set_up();
    uint8_t old[512], copy[512];
    BlockJob *job;

    test_ram_peek(s.source, 0, old, sizeof(old));
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    test_ram_reset_counts(s.source);
    block_test_co_fill(s.user, 0, 512, 'n');
    g_assert_cmpuint(test_ram_counts(s.source)->reads, ==, 0);
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    test_ram_peek(s.target, 0, copy, sizeof(copy));
    g_assert_cmpmem(copy, sizeof(copy), old, sizeof(old));
    tear_down(&s);
}

/* G2: nor for the sweep's read of the same place. */
static void coroutine_fn test_a_write_passes_a_read_of_the_sweep_at_the_same_place(void)
{
    Scene s = set_up();
    uint8_t old[8192], copy[8192];
    BlockJob *job;

    test_ram_peek(s.source, 64 * KiB, old, sizeof(old));
    test_ram_set_delay(s.source, TEST_RAM_READ, INT64_C(1000) * SCALE_MS);
    job = story_co_start_backup(&s.args);
    qemu_co_sleep_ns(SCALE_MS);
    test_ram_set_delay(s.source, TEST_RAM_READ, 0);
    block_test_co_fill(s.user, 64 * KiB + 4096, 4096, 'n');
    g_assert_cmpint(test_ram_counts(s.target)->writes, ==, 0);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    test_ram_peek(s.target, 64 * KiB, copy, sizeof(copy));
    g_assert_cmpmem(copy, sizeof(copy), old, sizeof(old));
    tear_down(&s);
}

/* Only what is overwritten is read early: one unit for one unit. */
static void coroutine_fn test_a_write_of_a_unit_costs_a_read_of_a_unit(void)
{
    Scene s = set_up();
    BlockJob *job;

    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    test_ram_reset_counts(s.source);
    block_test_co_fill(s.user, DISK_BYTES - 8192, 4096, 'n');
    block_test_co_fill(s.user, DISK_BYTES - 8192, 4096, 'm'); /* captured already */
    g_assert_cmpuint(test_ram_counts(s.source)->reads, ==, 1);
    g_assert_cmpuint(test_ram_counts(s.source)->bytes_read, ==, 4096);
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    tear_down(&s);
}

/* B12 */
static void coroutine_fn test_a_discard_of_what_is_not_captured_is_dropped(void)
{
    Scene s = set_up();
    BlockJob *job;

    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    test_ram_reset_counts(s.source);
    g_assert_cmpint(bdrv_co_pdiscard(s.user, DISK_BYTES / 2, DISK_BYTES / 4), ==, 0);
    g_assert_cmpuint(test_ram_counts(s.source)->discards, ==, 0);
    g_assert_cmpuint(test_ram_counts(s.source)->reads, ==, 0);
    block_test_co_fill(s.user, DISK_BYTES - 64 * KiB, 64 * KiB, 'n');
    g_assert_cmpint(bdrv_co_pdiscard(s.user, DISK_BYTES - 64 * KiB, 64 * KiB), ==, 0);
    g_assert_cmpuint(test_ram_counts(s.source)->discards, ==, 1);
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
    block_test_add("/backup/guest-first/a write passes a piece of the sweep that has its clusters",
                   test_a_write_passes_a_piece_of_the_sweep_that_has_its_clusters);
    block_test_add("/backup/guest-first/a write passes a read of the sweep at the same place",
                   test_a_write_passes_a_read_of_the_sweep_at_the_same_place);
    block_test_add("/backup/guest-first/a write of a unit costs a read of a unit",
                   test_a_write_of_a_unit_costs_a_read_of_a_unit);
    block_test_add("/backup/guest-first/a discard of what is not captured is dropped",
                   test_a_discard_of_what_is_not_captured_is_dropped);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
