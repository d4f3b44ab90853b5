/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The promise of the backup (H2, B1 to B4): the copy is the disk at one instant, whatever is written
 * meanwhile.  Each story is told by a seed: alignments, delays of both disks, writers, sync mode,
 * speed, pauses.
 */
#include "aio/timer.h"
#include "coro/sleep.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES  (3 * MiB + 5 * 512) /* the last cluster is a partial one */
#define WRITERS_MAX 3

typedef struct Story {
    uint32_t seed;
    GRand *rand;
    BlockDriverState *source, *target;
    BlockDriverState *scratch; /* of the last backup; NULL: none */
    BdrvChild *users[WRITERS_MAX];
    StoryWriter *writers[WRITERS_MAX];
    unsigned n_writers;
    bool weather, weather_stop;
} Story;

/* Both disks are now fast, now slow: requests overtake each other. */
static void coroutine_fn weather_entry(void *opaque)
{
    Story *s = opaque;
    GRand *rand = g_rand_new_with_seed(s->seed ^ 0x57ea7e4);

    s->weather = true;
    while (!s->weather_stop) {
        test_ram_set_delay(s->source, TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 60000));
        test_ram_set_delay(s->target, TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 300000));
        qemu_co_sleep_ns(g_rand_int_range(rand, 1, 20000));
    }
    g_rand_free(rand);
    s->weather = false;
}

static void prepare_disks(Story *s)
{
    static const uint32_t aligns[] = {1, 512, 4096};

    s->source = test_ram_new("source", DISK_BYTES);
    s->target = test_ram_new("target", DISK_BYTES);
    for (int64_t offset = 0; offset < DISK_BYTES; offset += 64 * KiB) {
        if (g_rand_boolean(s->rand)) {
            test_ram_poke_pattern(s->source, offset, MIN(64 * KiB, DISK_BYTES - offset),
                                  s->seed + offset);
        }
        if (g_rand_boolean(s->rand)) { /* an old target: what is not copied would show */
            test_ram_poke_pattern(s->target, offset, MIN(64 * KiB, DISK_BYTES - offset), ~s->seed);
        }
    }
    test_ram_set_alignment(s->source, aligns[g_rand_int_range(s->rand, 0, 3)]);
    test_ram_set_alignment(s->target, aligns[g_rand_int_range(s->rand, 0, 3)]);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(weather_entry, s));
}

static void coroutine_fn start_writers(Story *s)
{
    int64_t share;

    s->n_writers = g_rand_int_range(s->rand, 1, WRITERS_MAX + 1);
    share = QEMU_ALIGN_DOWN(DISK_BYTES / s->n_writers, 512);
    for (unsigned i = 0; i < s->n_writers; i++) {
        int64_t end = i == s->n_writers - 1 ? DISK_BYTES : (int64_t)(i + 1) * share;

        s->users[i] = block_test_user(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
        s->writers[i] = story_writer_new(&s->users[i], 1, i * share, end, i, g_rand_int(s->rand));
    }
    qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 3000000));
}

static void coroutine_fn tell_begin(Story *s, uint32_t seed)
{
    *s = (Story){.seed = seed, .rand = g_rand_new_with_seed(seed)};
    g_test_message("seed %u", seed);
    prepare_disks(s);
}

static void coroutine_fn drop_scratch(Story *s)
{
    if (s->scratch) {
        g_assert_cmpint(s->scratch->refcnt, ==, 1);
        bdrv_co_unref(s->scratch);
        s->scratch = NULL;
    }
}

static void coroutine_fn tell_end(Story *s)
{
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_co_stop(s->writers[i]);
        story_writer_check(s->writers[i], &s->target);
        story_writer_free(s->writers[i]);
        block_test_co_user_free(s->users[i]);
    }
    s->weather_stop = true;
    while (s->weather) {
        qemu_co_sleep_ns(1000);
    }
    g_assert_true(notifier_with_return_list_empty(&s->source->before_write_notifiers));
    g_assert_cmpint(s->source->refcnt, ==, 1);
    g_assert_cmpint(s->target->refcnt, ==, 1);
    bdrv_co_unref(s->source);
    bdrv_co_unref(s->target);
    drop_scratch(s);
    g_rand_free(s->rand);
}

static BlockJob *coroutine_fn take(Story *s, BackupJobArgs *args)
{
    BlockJob *job;

    args->job_id = "b";
    args->source = s->source;
    args->target = s->target;
    drop_scratch(s);
    s->scratch = story_choose_staging(s->seed, &args->staging);
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_before(s->writers[i]);
    }
    job = story_co_start_backup(args);
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_after(s->writers[i]);
    }
    return job;
}

/* Somebody plays with the job while it runs. */
static void coroutine_fn play(Story *s, BlockJob *job)
{
    for (int i = g_rand_int_range(s->rand, 0, 4); i > 0 && !job_is_completed(&job->job); i--) {
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 2000000));
        if (job_is_completed(&job->job)) {
            break;
        }
        switch (g_rand_int_range(s->rand, 0, 3)) {
        case 0:
            job_user_pause(&job->job, NULL);
            qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 3000000));
            job_user_resume(&job->job, NULL);
            break;
        case 1:
            block_job_set_speed(job, g_rand_int_range(s->rand, 1, 200) * MiB, NULL);
            break;
        default: {
            /* B9: before-write copies keep off a quiet target, though the source is being written. */
            BlockDriverState *nodes[] = {s->source, s->target, s->scratch};
            BlockDriverState *quiet = nodes[g_rand_int_range(s->rand, 0, s->scratch ? 3 : 2)];

            bdrv_co_drained_begin(quiet);
            for (int turns = 0; turns < 5; turns++) {
                g_assert_cmpuint(quiet->in_flight, ==, 0);
                qemu_co_sleep_ns(50000);
            }
            bdrv_co_drained_end(quiet);
            break;
        }
        }
    }
}

static void coroutine_fn full_story(uint32_t seed)
{
    BackupJobArgs args = {.sync = MIRROR_SYNC_MODE_FULL};
    BackupPerf perf = {0};
    BlockJob *job;
    Story s;

    tell_begin(&s, seed);
    start_writers(&s);
    if (g_rand_boolean(s.rand)) {
        perf.has_max_workers = true;
        perf.max_workers = g_rand_int_range(s.rand, 1, 20);
        perf.has_max_chunk = true;
        perf.max_chunk = 64 * KiB * g_rand_int_range(s.rand, 1, 9);
        args.perf = &perf;
    }
    args.speed = g_rand_int_range(s.rand, 0, 3) ? 0 : 500 * MiB;
    job = take(&s, &args);
    play(&s, job);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    tell_end(&s);
}

/* The target holds the disk as it was; a bitmap says what was written since. */
static void coroutine_fn bitmap_story(uint32_t seed)
{
    BackupJobArgs args = {.bitmap_mode = BITMAP_SYNC_MODE_ON_SUCCESS};
    g_autofree uint8_t *buf = g_malloc(DISK_BYTES);
    BdrvDirtyBitmap *bitmap;
    BlockJob *job;
    Story s;

    tell_begin(&s, seed);
    test_ram_peek(s.source, 0, buf, DISK_BYTES);
    test_ram_poke(s.target, 0, buf, DISK_BYTES);
    bitmap = bdrv_create_dirty_bitmap(s.source, 512u << g_rand_int_range(s.rand, 0, 10), "dirty",
                                      &error_abort);
    start_writers(&s);
    args.sync = g_rand_boolean(s.rand) ? MIRROR_SYNC_MODE_INCREMENTAL : MIRROR_SYNC_MODE_BITMAP;
    args.sync_bitmap = bitmap;
    job = take(&s, &args);
    play(&s, job);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    for (unsigned i = 0; i < s.n_writers; i++) {
        story_writer_check(s.writers[i], &s.target);
    }
    /* And once more: the bitmap has kept what was written since the instant. */
    job = take(&s, &args);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    bdrv_release_dirty_bitmap(bitmap);
    tell_end(&s);
}

/* One writer on two disks in turn: both copies must be the same moment of it. */
static void coroutine_fn two_disk_story(uint32_t seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    BlockDriverState *source[2], *target[2], *scratch[2];
    BdrvChild *user[2];
    BlockJob *job[2];
    StoryWriter *w;

    g_test_message("seed %u", seed);
    for (int i = 0; i < 2; i++) {
        source[i] = test_ram_new(i ? "source1" : "source0", DISK_BYTES);
        target[i] = test_ram_new(i ? "target1" : "target0", DISK_BYTES);
        user[i] = block_test_user(source[i], BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
        test_ram_set_delay(source[i], TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 60000));
        test_ram_set_delay(target[i], TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 300000));
    }
    w = story_writer_new(user, 2, 0, DISK_BYTES, 0, seed);
    qemu_co_sleep_ns(g_rand_int_range(rand, 0, 3000000));
    story_writer_before(w);
    bdrv_co_drained_begin_list(source, 2);
    for (int i = 0; i < 2; i++) {
        BackupJobArgs args = {.sync = MIRROR_SYNC_MODE_FULL,
                              .source = source[i],
                              .target = target[i],
                              .job_id = i ? "b1" : "b0"};

        scratch[i] = story_choose_staging(seed + i, &args.staging);
        job[i] = backup_co_job_create(&args, &error_abort);
        job_ref(&job[i]->job);
    }
    bdrv_co_drained_end_list(source, 2);
    story_writer_after(w);
    for (int i = 0; i < 2; i++) {
        job_start(&job[i]->job);
    }
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(story_co_wait(job[i]), ==, 0);
    }
    story_writer_co_stop(w);
    story_writer_check(w, target);
    story_writer_free(w);
    for (int i = 0; i < 2; i++) {
        block_test_co_user_free(user[i]);
        bdrv_co_unref(source[i]);
        bdrv_co_unref(target[i]);
        if (scratch[i]) {
            bdrv_co_unref(scratch[i]);
        }
    }
    g_rand_free(rand);
}

static void coroutine_fn tell_many(void coroutine_fn (*story)(uint32_t seed), unsigned usual)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(usual); i++) {
        story(first + i);
    }
}

static void coroutine_fn test_a_full_backup_is_one_instant(void)
{
    tell_many(full_story, 60);
}

static void coroutine_fn test_an_incremental_backup_is_one_instant_and_so_is_the_next(void)
{
    tell_many(bitmap_story, 40);
}

static void coroutine_fn test_two_disks_quiesced_together_are_one_instant(void)
{
    tell_many(two_disk_story, 40);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/instant/a full backup is one instant",
                   test_a_full_backup_is_one_instant);
    block_test_add("/backup/instant/an incremental backup is one instant and so is the next",
                   test_an_incremental_backup_is_one_instant_and_so_is_the_next);
    block_test_add("/backup/instant/two disks quiesced together are one instant",
                   test_two_disks_quiesced_together_are_one_instant);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
