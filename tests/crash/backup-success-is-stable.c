/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * H2, H4: a backup that says it succeeded is on stable storage.  Power is cut at the target at every
 * moment of the backup in turn, and after its end; what was not flushed is dropped, torn, reordered.
 * Old data is staged in each of the ways that there are: what has been in the scratch is stable too.
 *
 *     backup:   write write zeroes write ... flush | COMPLETED
 *     cut:        ^     ^     ^      ^         ^   |     ^
 *               the job fails, and says so         |   the copy is the instant, to the last byte
 */
#include "aio/timer.h"
#include "coro/sleep.h"
#include "tests/lib/test-cut.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (1 * MiB + 3 * 512)

typedef struct CutRun {
    uint32_t seed;
    unsigned moment; /* 0: after the end */
    unsigned moments;
    int ret;
} CutRun;

static void fill(BlockDriverState *source, uint32_t seed)
{
    for (int64_t offset = 0; offset < DISK_BYTES; offset += 64 * KiB) {
        if ((seed >> (offset / (64 * KiB) % 16)) & 1) {
            test_ram_poke_pattern(source, offset, MIN(64 * KiB, DISK_BYTES - offset),
                                  seed + offset);
        }
    }
}

static void check_stable(StoryWriter *w, BlockDriverState *target, uint32_t seed)
{
    TestCutFate fate = {.seed = seed, .tear_bytes = 512, .reorder = true, .drop_all = seed & 1};
    g_autofree uint8_t *copy = g_malloc(DISK_BYTES);

    test_cut_power_on(target, &fate);
    test_cut_peek_stable(target, 0, copy, DISK_BYTES);
    story_writer_check_bytes(w, &copy);
}

/* Tell the story once, with the power cut at run->moment. */
static void coroutine_fn tell(CutRun *run)
{
    BlockDriverState *source = test_ram_new("source", DISK_BYTES);
    BlockDriverState *target = test_cut_new("target", DISK_BYTES);
    BdrvChild *user = block_test_user(source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    BackupJobArgs args = {
        .job_id = "b", .source = source, .target = target, .sync = MIRROR_SYNC_MODE_FULL};
    BlockDriverState *scratch;
    StoryWriter *w;
    BlockJob *job;

    fill(source, run->seed);
    test_ram_set_delay(source, TEST_RAM_ALL_IO, run->seed % 4 * 15000); /* writes come in between */
    w = story_writer_new(&user, 1, 0, DISK_BYTES, 0, run->seed);
    scratch = story_choose_staging(run->seed, &args.staging);
    test_cut_arm(target, run->moment);
    story_writer_before(w);
    job = story_co_start_backup(&args);
    story_writer_after(w);
    run->ret = story_co_wait(job);
    run->moments = test_cut_moments(target);
    if (!test_cut_is_off(target)) {
        test_cut_now(target);
    }
    story_writer_co_stop(w);
    if (run->ret == 0) {
        check_stable(w, target, run->seed);
    }
    story_writer_free(w);
    block_test_co_user_free(user);
    bdrv_co_unref(source);
    bdrv_co_unref(target);
    if (scratch) {
        bdrv_co_unref(scratch);
    }
}

static void coroutine_fn test_a_backup_that_succeeded_survives_the_power(void)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(30); i++) {
        CutRun run = {.seed = first + i};

        tell(&run);
        g_assert_cmpint(run.ret, ==, 0);
    }
}

static void coroutine_fn cut_at_every_moment(uint32_t seed)
{
    CutRun whole = {.seed = seed};

    tell(&whole);
    g_assert_cmpint(whole.moments, >, 5);
    for (unsigned moment = 1; moment <= whole.moments; moment++) {
        CutRun run = {.seed = seed, .moment = moment};

        tell(&run); /* checks what is stable if the job says success */
        if (moment < run.moments && run.ret == 0) {
            g_test_message("seed %u: power went at moment %u of %u, and the job says success", seed,
                           moment, run.moments);
            g_test_fail();
        }
    }
}

/* The last moment is the flush itself: power that goes right after it finds all of it stable. */
static void coroutine_fn test_power_that_goes_before_the_end_makes_the_job_fail(void)
{
    uint32_t first = block_test_seed();

    for (uint32_t seed = first; seed < first + 5; seed++) { /* kinds of staging among them */
        cut_at_every_moment(seed);
    }
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/crash/backup/a backup that succeeded survives the power",
                   test_a_backup_that_succeeded_survives_the_power);
    block_test_add("/crash/backup/power that goes before the end makes the job fail",
                   test_power_that_goes_before_the_end_makes_the_job_fail);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
