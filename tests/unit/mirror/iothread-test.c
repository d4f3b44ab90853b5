/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The promise of the mirror when its disks live in an iothread, on the real clock: writers there, and in the main
 * thread somebody who drains, pauses, asks, changes, limits, completes and cancels.
 *
 * Each story runs with both engines.  Made for ThreadSanitizer as much as for what it asserts.
 */
#include <errno.h>
#include "aio/iothread.h"
#include "block/jobs/mirror.h"
#include "coro/sleep.h"
#include "qapi/qapi-types-job.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (2 * MiB + 5 * 512) /* the last chunk is a partial one */
#define WRITERS    2

typedef struct Story {
    AioEngine engine;
    uint32_t seed;
    GRand *rand;
    IOThread *thread;
    AioContext *home;
    BlockDriverState *source, *target;
    BlockBackend *blks[WRITERS];
    StoryWriter *writers[WRITERS];
} Story;

typedef struct StoryTest {
    AioEngine engine;
    void coroutine_fn (*tell)(Story *s);
} StoryTest;

static BlockBackend *new_backend(BlockDriverState *bs)
{
    BlockBackend *blk = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);

    g_assert_cmpint(blk_insert_bs(blk, bs, &error_abort), ==, 0);
    return blk;
}

static BlockDriverState *new_disk(Story *s, const char *name, int delay_ns)
{
    BlockDriverState *bs = test_ram_new(name, DISK_BYTES);

    test_ram_set_alignment(bs, g_rand_boolean(s->rand) ? 512 : 4096);
    test_ram_set_delay(bs, TEST_RAM_ALL_IO, g_rand_int_range(s->rand, 0, delay_ns));
    bs->open_flags |= BDRV_O_UNMAP;
    return bs;
}

static void coroutine_fn tell_begin(Story *s)
{
    s->source = new_disk(s, "source", 20000);
    test_ram_poke_pattern(s->source, 64 * KiB, MiB, s->seed);
    s->target = new_disk(s, "target", 100000);
    test_ram_poke_pattern(s->target, 0, DISK_BYTES, s->seed + 1);
    s->thread = iothread_create("io", s->engine, &error_abort);
    s->home = iothread_get_aio_context(s->thread);
    bdrv_co_try_change_aio_context(s->source, s->home, &error_abort);
    bdrv_co_try_change_aio_context(s->target, s->home, &error_abort);
    for (int i = 0; i < WRITERS; i++) {
        s->blks[i] = new_backend(s->source);
    }
    bdrv_co_drained_begin(s->source);
    for (int i = 0; i < WRITERS; i++) {
        int64_t share = QEMU_ALIGN_DOWN(DISK_BYTES / WRITERS, 4096);
        int64_t end = i == WRITERS - 1 ? DISK_BYTES : (i + 1) * share;

        s->writers[i] =
            story_writer_new_in_home(&s->blks[i], 1, i * share, end, i, g_rand_int(s->rand));
    }
    bdrv_co_drained_end(s->source);
}

static void before(Story *s)
{
    for (int i = 0; i < WRITERS; i++) {
        story_writer_before(s->writers[i]);
    }
}

static void after(Story *s)
{
    for (int i = 0; i < WRITERS; i++) {
        story_writer_after(s->writers[i]);
    }
}

static BlockJob *coroutine_fn take(Story *s, int flags)
{
    static const int64_t granularities[] = {512, 4 * KiB, 64 * KiB, 1 * MiB};
    MirrorJobArgs args = {.job_id = "m",
                          .source = s->source,
                          .target = s->target,
                          .sync = MIRROR_SYNC_MODE_FULL,
                          .copy_mode = g_rand_int_range(s->rand, 0, 2),
                          .granularity = granularities[g_rand_int_range(s->rand, 0, 4)],
                          .unmap = true,
                          .flags = flags | JOB_MANUAL_DISMISS};
    BlockJob *job;

    bdrv_co_drained_begin(s->source);
    job = mirror_co_job_create(&args, &error_abort);
    bdrv_co_drained_end(s->source);
    job_start(&job->job);
    return job;
}

static void coroutine_fn drain_for_a_while(Story *s, BlockDriverState **nodes, size_t n)
{
    bdrv_co_drained_begin_list(nodes, n);
    for (int turns = g_rand_int_range(s->rand, 1, 4); turns > 0; turns--) {
        for (size_t i = 0; i < n; i++) {
            g_assert_cmpuint(__atomic_load_n(&nodes[i]->in_flight, __ATOMIC_SEQ_CST), ==, 0);
        }
        qemu_co_sleep_ns(50000);
    }
    bdrv_co_drained_end_list(nodes, n);
}

/* Once: something that a user or another command may do to a running job. */
static void coroutine_fn play_once(Story *s, BlockJob *job)
{
    BlockDriverState *nodes[2] = {s->source, s->target};

    switch (g_rand_int_range(s->rand, 0, 7)) {
    case 0:
        job_user_pause(&job->job, NULL);
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 1000000));
        job_user_resume(&job->job, NULL);
        break;
    case 1:
        block_job_set_speed(job, g_rand_int_range(s->rand, 20, 200) * MiB, NULL);
        break;
    case 2:
        drain_for_a_while(s, &s->source, 1);
        break;
    case 3:
        drain_for_a_while(s, &s->target, 1);
        break;
    case 4:
        drain_for_a_while(s, nodes, 2);
        break;
    case 5:
        mirror_change_copy_mode(job, g_rand_int_range(s->rand, 0, 2), NULL);
        break;
    default:
        qapi_free_JobInfo(job_query(&job->job));
        qapi_free_BlockJobInfo(block_job_query(job));
        break;
    }
}

static void coroutine_fn play(Story *s, BlockJob *job, int times)
{
    while (times-- > 0 && job->job.status != JOB_STATUS_CONCLUDED) {
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 500000));
        play_once(s, job);
    }
}

static void coroutine_fn wait_status(Story *s, BlockJob *job, JobStatus status)
{
    while (job->job.status != status) {
        g_assert_cmpint(job->job.status, !=, JOB_STATUS_CONCLUDED);
        qemu_co_sleep_ns(100000);
    }
}

static int coroutine_fn wait_end(BlockJob *job)
{
    Job *j = &job->job;
    int ret;

    while (j->status != JOB_STATUS_CONCLUDED) {
        qemu_co_sleep_ns(100000);
    }
    ret = j->ret;
    job_user_dismiss(&j, &error_abort);
    return ret;
}

static void coroutine_fn tell_end(Story *s)
{
    for (int i = 0; i < WRITERS; i++) {
        story_writer_co_stop(s->writers[i]);
    }
    bdrv_co_try_change_aio_context(s->target, qemu_get_aio_context(), &error_abort);
    bdrv_co_try_change_aio_context(s->source, qemu_get_aio_context(), &error_abort);
    before(s); /* all that was written is on the disk that they have */
    after(s);
    for (int i = 0; i < WRITERS; i++) {
        BlockDriverState *bs = blk_bs(s->blks[i]);

        story_writer_check(s->writers[i], &bs);
        story_writer_free(s->writers[i]);
        blk_co_unref(s->blks[i]);
    }
    g_assert_null(s->source->write_tap);
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
    iothread_destroy(s->thread);
}

static void coroutine_fn whole_story(Story *s)
{
    int end = g_rand_int_range(s->rand, 0, 4);
    bool manual = g_rand_boolean(s->rand), forced = end == 0, pivot = end > 1;
    BlockDriverState *loser;
    BlockJob *job;
    int ret;

    tell_begin(s);
    job = take(s, manual ? JOB_MANUAL_FINALIZE : 0);
    play(s, job, g_rand_int_range(s->rand, 0, 8));
    if (!forced) {
        wait_status(s, job, JOB_STATUS_READY);
        play(s, job, g_rand_int_range(s->rand, 0, 5));
        wait_status(s, job, JOB_STATUS_READY);
    }
    before(s);
    if (pivot) {
        job_user_complete(&job->job, &error_abort);
    } else {
        job_user_cancel(&job->job, forced, &error_abort);
    }
    play(s, job, g_rand_int_range(s->rand, 0, 5));
    if (manual && !forced) {
        wait_status(s, job, JOB_STATUS_PENDING);
        play(s, job, g_rand_int_range(s->rand, 0, 5));
        job_user_finalize(&job->job, &error_abort);
    }
    ret = wait_end(job);
    g_assert_cmpint(ret, ==, forced ? -ECANCELED : 0);
    after(s);
    g_assert_true(blk_bs(s->blks[0]) == (ret == 0 && pivot ? s->target : s->source));
    loser = pivot ? s->source : s->target;
    bdrv_co_try_change_aio_context(loser, qemu_get_aio_context(), &error_abort);
    for (int i = 0; !forced && i < WRITERS; i++) {
        story_writer_co_stop(s->writers[i]);
    }
    for (int i = 0; !forced && i < WRITERS; i++) {
        story_writer_check(s->writers[i], &loser);
    }
    bdrv_co_try_change_aio_context(loser, s->home, &error_abort);
    tell_end(s);
}

static char *picky_desc(BdrvChild *c)
{
    return g_strdup("a picky user");
}

static const BdrvChildClass picky_class = {.get_parent_desc = picky_desc};

/* Somebody at the target bears no user beside him that reads: guests go on with the source. */
static void coroutine_fn refused_story(Story *s)
{
    BdrvChild *picky;
    BlockJob *job;

    tell_begin(s);
    job = take(s, 0);
    picky = bdrv_root_attach_child(s->target, "root", &picky_class, 0, 0, BLK_PERM_WRITE, NULL,
                                   &error_abort);
    wait_status(s, job, JOB_STATUS_READY);
    mirror_change_copy_mode(job, MIRROR_COPY_MODE_WRITE_BLOCKING, &error_abort);
    job_user_complete(&job->job, &error_abort);
    g_assert_cmpint(wait_end(job), ==, -EPERM);
    bdrv_co_root_unref_child(picky);
    g_assert_true(blk_bs(s->blks[0]) == s->source);
    tell_end(s);
}

static void coroutine_fn test_entry(void *opaque)
{
    const StoryTest *test = opaque;
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(8); i++) {
        Story s = {.engine = test->engine, .seed = first + i};

        s.rand = g_rand_new_with_seed(s.seed);
        g_test_message("seed %u", s.seed);
        test->tell(&s);
        g_rand_free(s.rand);
    }
}

static void run_test(gconstpointer opaque)
{
    const StoryTest *test = opaque;
    Error *err = NULL;

    aio_cleanup(); /* the one of block_test_main() */
    if (aio_init(test->engine, &err) < 0) {
        g_test_skip(error_get_pretty(err));
        error_free(err);
    } else {
        aio_run_co(test_entry, (void *)test);
        aio_cleanup();
    }
    aio_init(AIO_ENGINE_AUTO, &error_abort);
}

static void add_tests(void)
{
    static const StoryTest tests[] = {
        {AIO_ENGINE_IO_URING, whole_story},
        {AIO_ENGINE_EPOLL, whole_story},
        {AIO_ENGINE_IO_URING, refused_story},
        {AIO_ENGINE_EPOLL, refused_story},
    };

    g_test_add_data_func("/mirror/iothread/io_uring/a mirror loses and repeats nothing", &tests[0],
                         run_test);
    g_test_add_data_func("/mirror/iothread/epoll/a mirror loses and repeats nothing", &tests[1],
                         run_test);
    g_test_add_data_func("/mirror/iothread/io_uring/a switch-over may be refused", &tests[2],
                         run_test);
    g_test_add_data_func("/mirror/iothread/epoll/a switch-over may be refused", &tests[3],
                         run_test);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
