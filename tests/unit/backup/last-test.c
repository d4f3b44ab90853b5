/* SPDX-License-Identifier: GPL-2.0-or-later */
/* B13: a backup with sync=none ends, when it is cancelled, with what was written before in its target. */
#include <errno.h>
#include "aio/timer.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (4 * MiB)
#define CLUSTER    (64 * KiB)
#define SECOND_NS  (INT64_C(1000) * SCALE_MS)

typedef struct Scene {
    BlockDriverState *source, *target;
    BdrvChild *user;
    BackupJobArgs args;
    uint8_t *old; /* what the source held at the instant */
} Scene;

static void coroutine_fn set_up(Scene *s)
{
    *s = (Scene){.source = test_ram_new("source", DISK_BYTES),
                 .target = test_ram_new("target", DISK_BYTES),
                 .old = g_malloc(DISK_BYTES)};
    s->user = block_test_user(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    test_ram_poke_pattern(s->source, 0, DISK_BYTES, 1);
    test_ram_peek(s->source, 0, s->old, DISK_BYTES);
    s->args = (BackupJobArgs){
        .job_id = "b", .source = s->source, .target = s->target, .sync = MIRROR_SYNC_MODE_NONE};
}

static void coroutine_fn tear_down(Scene *s)
{
    g_assert_null(job_next(NULL));
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
    g_free(s->old);
}

static bool target_has(const Scene *s, int64_t cluster)
{
    g_autofree uint8_t *have = g_malloc(CLUSTER);

    test_ram_peek(s->target, cluster * CLUSTER, have, CLUSTER);
    return memcmp(have, s->old + cluster * CLUSTER, CLUSTER) == 0;
}

static bool target_is_empty(const Scene *s, int64_t cluster)
{
    g_autofree uint8_t *have = g_malloc(CLUSTER);

    test_ram_peek(s->target, cluster * CLUSTER, have, CLUSTER);
    for (int64_t i = 0; i < CLUSTER; i++) {
        if (have[i] != 0) {
            return false;
        }
    }
    return true;
}

static void coroutine_fn test_what_was_written_before_a_cancel_is_in_the_target(void)
{
    static const int64_t at[] = {0, 2 * MiB + 512, DISK_BYTES - 512};
    BlockJob *job;
    Scene s;

    set_up(&s);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    job = story_co_start_backup(&s.args);
    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        block_test_co_fill(s.user, at[i], 512, 'a');
        block_test_co_fill(s.user, at[i], 512, 'b');
    }
    job_user_cancel(&job->job, false, &error_abort);
    block_test_co_settle();
    g_assert_false(job_is_completed(&job->job));
    block_test_co_fill(s.user, 4096, 4096, 'c');       /* a cluster that is stored still */
    block_test_co_fill(s.user, 1 * MiB, CLUSTER, 'd'); /* one that is not wanted any more */
    test_ram_release(s.target);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    for (int64_t c = 0; c < DISK_BYTES / CLUSTER; c++) {
        bool touched = c == 0 || c == 2 * MiB / CLUSTER || c == DISK_BYTES / CLUSTER - 1;

        g_assert_true(touched ? target_has(&s, c) : target_is_empty(&s, c));
    }
    g_assert_cmpuint(test_ram_counts(s.target)->flushes, ==, 1);
    tear_down(&s);
}

static void coroutine_fn test_a_forced_cancel_does_not_wait_for_that(void)
{
    for (int first_softly = 0; first_softly < 2; first_softly++) {
        BlockJob *job;
        int64_t start;
        Scene s;

        set_up(&s);
        test_ram_set_cancels(s.target, true);
        test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
        job = story_co_start_backup(&s.args);
        block_test_co_fill(s.user, 0, 512, 'a');
        start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        if (first_softly) {
            job_user_cancel(&job->job, false, &error_abort);
            block_test_co_settle();
            g_assert_false(job_is_completed(&job->job));
        }
        job_user_cancel(&job->job, true, &error_abort);
        g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, SECOND_NS);
        test_ram_release(s.target);
        tear_down(&s);
    }
}

static void coroutine_fn test_a_target_that_stands_still_makes_the_job_fail(void)
{
    static const unsigned what[] = {TEST_RAM_WRITE, TEST_RAM_FLUSH};

    for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
        int64_t start, took;
        BlockJob *job;
        Scene s;

        set_up(&s);
        test_ram_set_cancels(s.target, true);
        test_ram_hold(s.target, what[i], 0, DISK_BYTES);
        job = story_co_start_backup(&s.args);
        block_test_co_fill(s.user, 0, 512, 'a');
        start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        job_user_cancel(&job->job, false, &error_abort);
        block_test_co_settle();
        block_test_co_fill(s.user, 4096, 512, 'b'); /* the guest does not wait for it */
        g_assert_false(job_is_completed(&job->job));
        g_assert_cmpint(story_co_wait(job), ==, -ETIMEDOUT);
        took = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start;
        g_assert_cmpint(took, >=, 4 * SECOND_NS);
        g_assert_cmpint(took, <, 6 * SECOND_NS);
        test_ram_release(s.target);
        tear_down(&s);
    }
}

static void coroutine_fn test_a_target_that_fails_makes_the_job_fail(void)
{
    BlockJob *job;
    Scene s;

    set_up(&s);
    s.args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    test_ram_set_error(s.target, TEST_RAM_WRITE, 0, DISK_BYTES, ENOSPC, -1);
    job = story_co_start_backup(&s.args);
    block_test_co_fill(s.user, 0, 512, 'a');
    job_user_cancel(&job->job, false, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, -ENOSPC);
    tear_down(&s);
}

static int coroutine_fn read_target(BdrvChild *reader, int64_t cluster, uint8_t *buf)
{
    return bdrv_co_pread(reader, cluster * CLUSTER, CLUSTER, buf, 0);
}

/* H2, B8: who reads the target meanwhile gets the instant, or an error, and nothing in between. */
static void coroutine_fn test_a_reader_of_the_target_gets_old_data_or_an_error_while_it_ends(void)
{
    g_autofree uint8_t *buf = g_malloc(CLUSTER);
    BlockTestRequest *read, *write;
    BdrvChild *reader;
    BlockJob *job;
    Scene s;

    set_up(&s);
    bdrv_co_unref(s.target);
    s.args.target = s.target = test_cow_new("cow", DISK_BYTES, CLUSTER, s.source);
    reader = block_test_user(s.target, BLK_PERM_CONSISTENT_READ);
    job = story_co_start_backup(&s.args);
    test_ram_hold(s.source, TEST_RAM_READ, 32 * KiB, 4096); /* the store, not the capture */
    block_test_co_fill(s.user, 0, 512, 'a');
    test_ram_co_wait_held(s.source, 1);
    job_user_cancel(&job->job, false, &error_abort);
    block_test_co_settle();
    g_assert_false(job_is_completed(&job->job));
    block_test_co_fill(s.user, 10 * CLUSTER, 4096, 'd');
    g_assert_cmpint(read_target(reader, 10, buf), ==, -EIO);
    g_assert_cmpint(read_target(reader, 11, buf), ==, 0);
    g_assert_cmpmem(buf, CLUSTER, s.old + 11 * CLUSTER, CLUSTER);
    /* One that is in the middle of it. */
    test_ram_hold(s.source, TEST_RAM_READ, 12 * CLUSTER, CLUSTER);
    read = block_test_co_start(reader, BLOCK_TEST_READ, 12 * CLUSTER, CLUSTER, 0);
    test_ram_co_wait_held(s.source, 2);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 12 * CLUSTER, 4096, 'e');
    block_test_co_settle();
    g_assert_false(block_test_done(write));
    test_ram_release(s.source);
    g_assert_cmpint(block_test_co_join(read), ==, 0);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    g_assert_cmpint(read_target(reader, 0, buf), ==, 0);
    g_assert_cmpmem(buf, CLUSTER, s.old, CLUSTER);
    block_test_co_user_free(reader);
    tear_down(&s);
}

/* Writers go on all the time; what was acknowledged when the cancel came is there, whole and old. */
static void coroutine_fn last_story(uint32_t seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    BlockTestRequest *reqs[64];
    bool wanted[DISK_BYTES / CLUSTER] = {false};
    int64_t where[64];
    BlockDriverState *scratch;
    BlockJob *job;
    unsigned n = g_rand_int_range(rand, 1, 32), total = g_rand_int_range(rand, (int)n, 64);
    Scene s;

    g_test_message("seed %u", seed);
    set_up(&s);
    test_ram_set_delay(s.source, TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 50000));
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 5000000));
    scratch = story_choose_staging(seed, &s.args.staging);
    job = story_co_start_backup(&s.args);
    for (unsigned i = 0; i < total; i++) {
        if (i == n) {
            for (unsigned k = 0; k < n; k++) {
                wanted[where[k] / CLUSTER] |= block_test_done(reqs[k]);
            }
            job_user_cancel(&job->job, false, &error_abort);
        }
        where[i] = g_rand_int_range(rand, 0, DISK_BYTES / 512) * 512;
        reqs[i] = block_test_co_start(s.user, BLOCK_TEST_WRITE, where[i], 512, 'n');
        qemu_co_sleep_ns(g_rand_int_range(rand, 0, 100000));
    }
    if (total == n) {
        for (unsigned k = 0; k < n; k++) {
            wanted[where[k] / CLUSTER] |= block_test_done(reqs[k]);
        }
        job_user_cancel(&job->job, false, &error_abort);
    }
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    for (unsigned i = 0; i < total; i++) {
        g_assert_cmpint(block_test_co_join(reqs[i]), ==, 0);
    }
    for (int64_t c = 0; c < DISK_BYTES / CLUSTER; c++) {
        g_assert_true(wanted[c] ? target_has(&s, c) : target_has(&s, c) || target_is_empty(&s, c));
    }
    tear_down(&s);
    if (scratch) {
        bdrv_co_unref(scratch);
    }
    g_rand_free(rand);
}

static void coroutine_fn test_writers_go_on_while_it_ends(void)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(100); i++) {
        last_story(first + i);
    }
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/last/what was written before a cancel is in the target",
                   test_what_was_written_before_a_cancel_is_in_the_target);
    block_test_add("/backup/last/a forced cancel does not wait for that",
                   test_a_forced_cancel_does_not_wait_for_that);
    block_test_add("/backup/last/a target that stands still makes the job fail",
                   test_a_target_that_stands_still_makes_the_job_fail);
    block_test_add("/backup/last/a target that fails makes the job fail",
                   test_a_target_that_fails_makes_the_job_fail);
    block_test_add("/backup/last/a reader of the target gets old data or an error while it ends",
                   test_a_reader_of_the_target_gets_old_data_or_an_error_while_it_ends);
    block_test_add("/backup/last/writers go on while it ends", test_writers_go_on_while_it_ends);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
