/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stops the sweep, and what wakes it: a quiesce, a speed limit, a change of it. */
#include "aio/timer.h"
#include "coro/sleep.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (4 * MiB)

/* More than the rest of a backup takes here; nothing beside a sleep at one byte a second. */
#define SOON_NS (INT64_C(1000) * SCALE_MS)

typedef struct Scene {
    BlockDriverState *source, *target;
    BackupJobArgs args;
    BlockDriverState *quiet;
    bool drained, undrain, drain_over;
} Scene;

static void set_up(Scene *s)
{
    *s = (Scene){.source = test_ram_new("source", DISK_BYTES),
                 .target = test_ram_new("target", DISK_BYTES)};
    test_ram_poke_pattern(s->source, 0, DISK_BYTES, 1);
    s->args = (BackupJobArgs){
        .job_id = "b", .source = s->source, .target = s->target, .sync = MIRROR_SYNC_MODE_FULL};
}

static void coroutine_fn tear_down(Scene *s)
{
    g_autofree uint8_t *a = g_malloc(DISK_BYTES), *b = g_malloc(DISK_BYTES);

    test_ram_peek(s->source, 0, a, DISK_BYTES);
    test_ram_peek(s->target, 0, b, DISK_BYTES);
    g_assert_cmpmem(a, DISK_BYTES, b, DISK_BYTES);
    bdrv_co_unref(s->source);
    bdrv_co_unref(s->target);
}

static void coroutine_fn expect_soon(BlockJob *job)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    g_assert_cmpint(story_co_wait(job), ==, 0);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, SOON_NS);
}

static void coroutine_fn drain_entry(void *opaque)
{
    Scene *s = opaque;

    bdrv_co_drained_begin(s->quiet);
    s->drained = true;
    while (!s->undrain) {
        qemu_co_sleep_ns(1000);
    }
    bdrv_co_drained_end(s->quiet);
    s->drain_over = true;
}

/* S2: a piece that has nothing in flight in one of the disks is on its way there. */
static void coroutine_fn test_a_quiesce_waits_for_pieces_that_are_in_the_other_disk(void)
{
    for (int side = 0; side < 2; side++) {
        BlockDriverState *held;
        BlockJob *job;
        Scene s;

        set_up(&s);
        held = side ? s.target : s.source;
        s.quiet = side ? s.source : s.target;
        test_ram_hold(held, side ? TEST_RAM_WRITE : TEST_RAM_READ, 0, DISK_BYTES);
        job = story_co_start_backup(&s.args);
        test_ram_co_wait_held(held, 1);
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(drain_entry, &s));
        qemu_co_sleep_ns(1000000);
        g_assert_false(s.drained);
        g_assert_true(test_ram_release_one(held)); /* and the sweep has an opportunity to pause */
        qemu_co_sleep_ns(1000000);
        g_assert_false(s.drained);
        test_ram_release(held);
        while (!s.drained) {
            qemu_co_sleep_ns(1000);
        }
        test_ram_reset_counts(s.source);
        test_ram_reset_counts(s.target);
        qemu_co_sleep_ns(1000000);
        g_assert_cmpuint(test_ram_counts(s.source)->reads, ==, 0);
        g_assert_cmpuint(test_ram_counts(s.target)->writes, ==, 0);
        s.undrain = true;
        while (!s.drain_over) {
            qemu_co_sleep_ns(1000);
        }
        g_assert_cmpint(story_co_wait(job), ==, 0);
        tear_down(&s);
    }
}

static void coroutine_fn test_a_new_speed_ends_the_sleep_that_kept_the_old_one(void)
{
    BlockJob *job;
    Scene s;

    set_up(&s);
    s.args.speed = 1;
    job = story_co_start_backup(&s.args);
    qemu_co_sleep_ns(SOON_NS);
    g_assert_false(job_is_completed(&job->job));
    g_assert_true(block_job_set_speed(job, 0, &error_abort));
    expect_soon(job);
    tear_down(&s);
}

/* The job is awake, and about to sleep for what the old speed owes. */
static void coroutine_fn test_a_new_speed_counts_also_for_a_job_that_is_awake(void)
{
    BlockJob *job;
    Scene s;

    set_up(&s);
    s.args.speed = 1;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    block_test_co_settle();
    g_assert_true(block_job_set_speed(job, 0, &error_abort));
    test_ram_release(s.target);
    expect_soon(job);
    tear_down(&s);
}

static void coroutine_fn test_a_speed_is_kept_and_a_pause_or_a_quiesce_gains_nothing(void)
{
    int64_t start, took;
    BlockJob *job;
    Scene s;

    set_up(&s);
    s.args.speed = 1 * MiB;
    start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    job = story_co_start_backup(&s.args);
    while (!job_is_completed(&job->job)) {
        qemu_co_sleep_ns(50 * SCALE_MS);
        bdrv_co_drained_begin(s.target);
        bdrv_co_drained_end(s.target);
    }
    g_assert_cmpint(story_co_wait(job), ==, 0);
    took = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start;
    /* The last piece is not waited for: three steps of a second. */
    g_assert_cmpint(took, >=, INT64_C(2900) * SCALE_MS);
    g_assert_cmpint(took, <, INT64_C(4500) * SCALE_MS);
    tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/pause/a quiesce waits for pieces that are in the other disk",
                   test_a_quiesce_waits_for_pieces_that_are_in_the_other_disk);
    block_test_add("/backup/pause/a new speed ends the sleep that kept the old one",
                   test_a_new_speed_ends_the_sleep_that_kept_the_old_one);
    block_test_add("/backup/pause/a new speed counts also for a job that is awake",
                   test_a_new_speed_counts_also_for_a_job_that_is_awake);
    block_test_add("/backup/pause/a speed is kept and a pause or a quiesce gains nothing",
                   test_a_speed_is_kept_and_a_pause_or_a_quiesce_gains_nothing);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
