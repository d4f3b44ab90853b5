/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mirrors of a disk that is being written all along: what the writers were told is on the target, before, at and
 * after the switch-over.
 */
#include <inttypes.h>
#include "block/jobs/mirror/mirror-job.h"
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (3 * MiB + 512) /* the last chunk is a partial one */

typedef struct Story {
    MirrorCopyMode mode;
    int64_t granularity;
    bool pivot, change_mode, change_level;
} Story;

/* Two that write the same place at once, whichever ends last: the target must be what the source is (T1). */
typedef struct Brawl {
    BdrvChild *user;
    GRand *rand;
    int64_t start, bytes;
    unsigned running;
    bool stop;
} Brawl;

static void coroutine_fn brawler(void *opaque)
{
    Brawl *b = opaque;
    uint8_t buf[8192];

    while (!b->stop) {
        int64_t bytes = g_rand_int_range(b->rand, 1, 17) * 512;
        int64_t offset =
            b->start + g_rand_int_range(b->rand, 0, (b->bytes - bytes) / 512 + 1) * 512;

        memset(buf, g_rand_int_range(b->rand, 0, 256), sizeof(buf));
        while (block_test_user_drained(b->user) > 0) {
            qemu_co_sleep_ns(1000);
        }
        g_assert_cmpint(bdrv_co_pwrite(b->user, offset, bytes, buf, 0), ==, 0);
        qemu_co_sleep_ns(g_rand_int_range(b->rand, 0, 100000));
    }
    b->running--;
}

static void brawl_begin(Brawl *b, Scene *s, uint32_t seed)
{
    *b = (Brawl){.user = s->user,
                 .rand = g_rand_new_with_seed(seed),
                 .start = s->writers[s->n_writers - 1]->end,
                 .bytes = 64 * KiB};
    for (b->running = 0; b->running < 4; b->running++) {
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(brawler, b));
    }
}

static void coroutine_fn brawl_end(Brawl *b)
{
    b->stop = true;
    while (b->running > 0) {
        qemu_co_sleep_ns(1000);
    }
    g_rand_free(b->rand);
}

static void writers_before(Scene *s)
{
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_before(s->writers[i]);
    }
}

static void writers_after(Scene *s)
{
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_after(s->writers[i]);
    }
}

static void coroutine_fn change_modes(Scene *s, GRand *rand)
{
    for (int i = 0; i < 4; i++) {
        qemu_co_sleep_ns(g_rand_int_range(rand, 0, 2 * SCALE_MS));
        mirror_change_copy_mode(
            s->job, i & 1 ? MIRROR_COPY_MODE_BACKGROUND : MIRROR_COPY_MODE_WRITE_BLOCKING,
            &error_abort);
    }
}

/* What is hot goes through, or not, or all: at any time of the job, as if rate.c had said so. */
typedef struct Levels {
    MirrorBlockJob *job;
    GRand *rand;
    bool stop, over;
} Levels;

static void coroutine_fn levels_entry(void *opaque)
{
    Levels *l = opaque;

    while (!l->stop) {
        mirror_heat_age(&l->job->heat, 1);
        __atomic_store_n(&l->job->through_level, g_rand_int_range(l->rand, 0, MIRROR_HEAT_LEVELS),
                         __ATOMIC_SEQ_CST);
        qemu_co_sleep_ns(g_rand_int_range(l->rand, 0, 2 * SCALE_MS));
    }
    l->over = true;
}

static void levels_begin(Levels *l, Scene *s, uint32_t seed)
{
    *l = (Levels){.job = mirror_job_of(s->job), .rand = g_rand_new_with_seed(seed)};
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(levels_entry, l));
}

/* The job is still there. */
static void coroutine_fn levels_end(Levels *l)
{
    l->stop = true;
    while (!l->over) {
        qemu_co_sleep_ns(1000);
    }
    g_rand_free(l->rand);
}

static void coroutine_fn tell(const Story *story, uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    BlockDriverState *loser;
    Levels levels;
    Brawl brawl;
    Scene s;

    g_test_message("seed %u granularity %" PRId64 " mode %d pivot %d change %d level %d", seed,
                   story->granularity, story->mode, story->pivot, story->change_mode,
                   story->change_level);
    scene_set_up(&s, DISK_BYTES);
    test_ram_set_delay(s.source, TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 200000));
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 1000000));
    s.source->open_flags |= BDRV_O_UNMAP;
    s.target->open_flags |= BDRV_O_UNMAP;
    s.len -= 64 * KiB; /* the rest is the brawlers' */
    scene_start_writers(&s, SCENE_WRITERS, seed);
    s.len = DISK_BYTES;
    s.writers[SCENE_WRITERS - 1]->end = s.writers[SCENE_WRITERS - 1]->end / 512 * 512;
    brawl_begin(&brawl, &s, seed);
    qemu_co_sleep_ns(g_rand_int_range(rand, 0, 2 * SCALE_MS));
    scene_watch_target(&s, story->granularity);
    s.args.granularity = story->granularity;
    s.args.copy_mode = story->mode;
    s.args.buf_size = g_rand_int_range(rand, 0, 2) ? 0 : MAX(story->granularity, MiB);
    scene_start(&s);
    if (story->change_level) {
        levels_begin(&levels, &s, seed);
    }
    if (story->change_mode) {
        change_modes(&s, rand);
    }
    scene_wait_ready(&s);
    qemu_co_sleep_ns(g_rand_int_range(rand, 0, 5 * SCALE_MS));
    writers_before(&s);
    if (story->pivot) {
        scene_complete(&s);
    } else {
        job_user_cancel(&s.job->job, false, &error_abort);
    }
    while (!job_is_completed(&s.job->job) || s.job->job.status == JOB_STATUS_WAITING ||
           s.job->job.status == JOB_STATUS_PENDING) {
        qemu_co_sleep_ns(1000);
    }
    writers_after(&s);
    if (story->change_level) {
        levels_end(&levels);
    }
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_unwatch_target(&s);
    /* The one that was left behind is the disk at the switch-over; the other goes on. */
    loser = story->pivot ? s.source : s.target;
    g_assert_true(s.user->bs == (story->pivot ? s.target : s.source));
    qemu_co_sleep_ns(g_rand_int_range(rand, 0, 2 * SCALE_MS));
    brawl_end(&brawl);
    scene_check_writers(&s, loser);
    scene_stop_writers(&s);
    writers_before(&s);
    writers_after(&s);
    scene_check_writers(&s, s.user->bs);
    scene_tear_down(&s);
}

static const int64_t granularities[] = {512, 4 * KiB, 64 * KiB, 1 * MiB, 64 * MiB};

static void coroutine_fn tell_all(Story story)
{
    uint32_t seed = block_test_seed();
    unsigned n = story_seeds(4);

    for (size_t g = 0; g < ARRAY_SIZE(granularities); g++) {
        story.granularity = granularities[g];
        for (unsigned i = 0; i < n; i++) {
            tell(&story, seed + i);
        }
    }
}

static void coroutine_fn test_background_and_pivot(void)
{
    tell_all((Story){.mode = MIRROR_COPY_MODE_BACKGROUND, .pivot = true});
}

static void coroutine_fn test_background_and_cancel(void)
{
    tell_all((Story){.mode = MIRROR_COPY_MODE_BACKGROUND});
}

static void coroutine_fn test_blocking_and_pivot(void)
{
    tell_all((Story){.mode = MIRROR_COPY_MODE_WRITE_BLOCKING, .pivot = true});
}

static void coroutine_fn test_blocking_and_cancel(void)
{
    tell_all((Story){.mode = MIRROR_COPY_MODE_WRITE_BLOCKING});
}

static void coroutine_fn test_changed_modes(void)
{
    tell_all((Story){.mode = MIRROR_COPY_MODE_BACKGROUND, .pivot = true, .change_mode = true});
}

static void coroutine_fn test_levels_and_pivot(void)
{
    tell_all((Story){.pivot = true, .change_level = true});
}

static void coroutine_fn test_levels_modes_and_cancel(void)
{
    tell_all((Story){.change_level = true, .change_mode = true});
}

/* The brawlers' part too: nobody writes any more, and both are equal. */
static void coroutine_fn test_brawls_end_equal(void)
{
    uint32_t seed = block_test_seed();

    for (unsigned i = 0; i < story_seeds(4); i++) {
        for (int mode = 0; mode < 2; mode++) {
            Brawl brawl;
            Scene s;

            scene_set_up(&s, 512 * KiB);
            test_ram_set_delay(s.source, TEST_RAM_ALL_IO, 50000);
            test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 70000);
            scene_start_writers(&s, 1, seed + i);
            scene_stop_writers(&s);
            s.writers[0]->end = 0;
            s.args.copy_mode = mode;
            s.args.granularity = 4096;
            scene_watch_target(&s, 4096);
            scene_start(&s);
            brawl_begin(&brawl, &s, seed + i);
            scene_wait_ready(&s);
            qemu_co_sleep_ns(3 * SCALE_MS);
            brawl_end(&brawl);
            job_user_cancel(&s.job->job, false, &error_abort);
            g_assert_cmpint(scene_wait_end(&s), ==, 0);
            scene_expect_equal(&s);
            scene_tear_down(&s);
        }
    }
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/story/in the background, the switch-over loses and repeats nothing",
                   test_background_and_pivot);
    block_test_add("/mirror/story/in the background, a cancel leaves one instant",
                   test_background_and_cancel);
    block_test_add("/mirror/story/write-blocking, the switch-over loses and repeats nothing",
                   test_blocking_and_pivot);
    block_test_add("/mirror/story/write-blocking, a cancel leaves one instant",
                   test_blocking_and_cancel);
    block_test_add("/mirror/story/modes may change while it runs", test_changed_modes);
    block_test_add("/mirror/story/what is hot may change while it runs", test_levels_and_pivot);
    block_test_add(
        "/mirror/story/what is hot and the mode may change, and a cancel leaves one instant",
        test_levels_modes_and_cancel);
    block_test_add("/mirror/story/writes to one place at once end up equal", test_brawls_end_equal);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
