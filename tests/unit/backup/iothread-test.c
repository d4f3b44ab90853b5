/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The promise of the backup when its disks live in an iothread, on the real clock: writers and readers
 * there, and in the main thread somebody who drains, pauses, asks, limits and cancels.
 *
 * Each story runs with both engines.  Made for ThreadSanitizer as much as for what it asserts.
 */
#include "aio/iothread.h"
#include "aio/timer.h"
#include "block/block_backup.h"
#include "coro/sleep.h"
#include "qapi/qapi-types-job.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (3 * MiB + 5 * 512) /* the last cluster is a partial one */
#define WRITERS    2

typedef struct Story {
    AioEngine engine;
    uint32_t seed;
    GRand *rand;
    IOThread *thread;
    AioContext *home;
    BlockDriverState *source, *target;
    BlockDriverState *scratch; /* NULL: none */
    BlockBackend *blks[WRITERS];
    StoryWriter *writers[WRITERS];
} Story;

typedef struct StoryTest {
    AioEngine engine;
    void coroutine_fn (*tell)(Story *s);
} StoryTest;

static BlockBackend *new_backend(BlockDriverState *bs, uint64_t perm)
{
    BlockBackend *blk = blk_new(perm, BLK_PERM_ALL);

    g_assert_cmpint(blk_insert_bs(blk, bs, &error_abort), ==, 0);
    return blk;
}

static void prepare_disks(Story *s, bool overlay)
{
    s->source = test_ram_new("source", DISK_BYTES);
    for (int64_t offset = 0; offset < DISK_BYTES; offset += 64 * KiB) {
        if (g_rand_boolean(s->rand)) {
            test_ram_poke_pattern(s->source, offset, MIN(64 * KiB, DISK_BYTES - offset), s->seed);
        }
    }
    test_ram_set_alignment(s->source, g_rand_boolean(s->rand) ? 512 : 4096);
    test_ram_set_delay(s->source, TEST_RAM_ALL_IO, g_rand_int_range(s->rand, 0, 20000));
    if (overlay) {
        s->target = test_cow_new("target", DISK_BYTES, 64 * KiB, s->source);
    } else {
        s->target = test_ram_new("target", DISK_BYTES);
        test_ram_set_alignment(s->target, g_rand_boolean(s->rand) ? 512 : 4096);
        test_ram_set_delay(s->target, TEST_RAM_ALL_IO, g_rand_int_range(s->rand, 0, 100000));
    }
}

static void coroutine_fn tell_begin(Story *s, bool overlay)
{
    prepare_disks(s, overlay);
    s->thread = iothread_create("io", s->engine, &error_abort);
    s->home = iothread_get_aio_context(s->thread);
    bdrv_co_try_change_aio_context(s->source, s->home, &error_abort);
    bdrv_co_try_change_aio_context(s->target, s->home, &error_abort);
    for (int i = 0; i < WRITERS; i++) {
        s->blks[i] = new_backend(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    }
    bdrv_co_drained_begin(s->source);
    for (int i = 0; i < WRITERS; i++) {
        int64_t share = QEMU_ALIGN_DOWN(DISK_BYTES / WRITERS, 4096);
        int64_t end = i == WRITERS - 1 ? DISK_BYTES : (i + 1) * share;

        s->writers[i] =
            story_writer_new_in_home(&s->blks[i], 1, i * share, end, i, g_rand_int(s->rand));
    }
    bdrv_co_drained_end(s->source);
    qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 3000000));
}

static BlockJob *coroutine_fn take(Story *s, MirrorSyncMode sync, int64_t speed)
{
    BackupJobArgs args = {
        .job_id = "b", .source = s->source, .target = s->target, .sync = sync, .speed = speed};
    BlockJob *job;

    s->scratch = story_choose_staging(s->seed, &args.staging);
    if (s->scratch) {
        bdrv_co_try_change_aio_context(s->scratch, s->home, &error_abort);
    }

    for (int i = 0; i < WRITERS; i++) {
        story_writer_before(s->writers[i]);
    }
    job = story_co_start_backup(&args);
    for (int i = 0; i < WRITERS; i++) {
        story_writer_after(s->writers[i]);
    }
    return job;
}

static void coroutine_fn stop_writers(Story *s)
{
    for (int i = 0; i < WRITERS; i++) {
        story_writer_co_stop(s->writers[i]);
    }
}

static void coroutine_fn tell_end(Story *s)
{
    bdrv_co_try_change_aio_context(s->target, qemu_get_aio_context(), &error_abort);
    bdrv_co_try_change_aio_context(s->source, qemu_get_aio_context(), &error_abort);
    for (int i = 0; i < WRITERS; i++) {
        story_writer_free(s->writers[i]);
        blk_co_unref(s->blks[i]);
    }
    g_assert_true(notifier_with_return_list_empty(&s->source->before_write_notifiers));
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
    if (s->scratch) {
        bdrv_co_try_change_aio_context(s->scratch, qemu_get_aio_context(), &error_abort);
        bdrv_co_unref(s->scratch);
    }
    iothread_destroy(s->thread);
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

static void ask(BlockJob *job)
{
    qapi_free_JobInfo(job_query(&job->job));
    qapi_free_BlockJobInfo(block_job_query(job));
}

/* Once: something that a user or another command may do to a running job. */
static void coroutine_fn play_once(Story *s, BlockJob *job)
{
    BlockDriverState *nodes[3] = {s->source, s->target, s->scratch};

    switch (g_rand_int_range(s->rand, 0, 7)) {
    case 0:
        job_user_pause(&job->job, NULL);
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 1000000));
        job_user_resume(&job->job, NULL);
        break;
    case 1:
        block_job_set_speed(job, g_rand_int_range(s->rand, 1, 200) * MiB, NULL);
        break;
    case 2:
        drain_for_a_while(s, &s->source, 1);
        break;
    case 3:
        drain_for_a_while(s, &s->target, 1);
        break;
    case 4:
        drain_for_a_while(s, nodes, s->scratch ? 3 : 2);
        break;
    case 5:
        drain_for_a_while(s, s->scratch ? &s->scratch : &s->target, 1);
        break;
    default:
        ask(job);
        break;
    }
}

static void coroutine_fn play(Story *s, BlockJob *job, int times)
{
    while (times-- > 0 && !job_is_completed(&job->job)) {
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 500000));
        play_once(s, job);
    }
}

static void coroutine_fn full_story(Story *s)
{
    bool cancel = g_rand_int_range(s->rand, 0, 4) == 0;
    BlockJob *job;
    int ret;

    tell_begin(s, false);
    job = take(s, MIRROR_SYNC_MODE_FULL, g_rand_boolean(s->rand) ? 100 * MiB : 0);
    play(s, job, g_rand_int_range(s->rand, 0, 8));
    if (cancel) {
        job_user_cancel(&job->job, true, NULL);
        play(s, job, 2);
    }
    ret = story_co_wait(job);
    stop_writers(s);
    g_assert_true(ret == 0 || (cancel && ret == -ECANCELED));
    for (int i = 0; ret == 0 && i < WRITERS; i++) {
        story_writer_check(s->writers[i], &s->target);
    }
    tell_end(s);
}

/* One who reads the target over and over, as a driver above it would: each read is a request in flight
 * before it asks for a CowRequest, so that no quiesce holds it back in between. */
typedef struct Reader {
    BlockJob *job; /* counted */
    BlockBackend *blk;
    uint8_t *passes[3];
    int done;           /* atomic: passes read */
    bool stop, running; /* atomic */
} Reader;

static void coroutine_fn reader_entry(void *opaque)
{
    Reader *r = opaque;
    g_autofree uint8_t *other = g_malloc(DISK_BYTES);

    while (!__atomic_load_n(&r->stop, __ATOMIC_SEQ_CST)) {
        uint8_t *out = r->done < (int)ARRAY_SIZE(r->passes) ? r->passes[r->done] : other;
        int n;

        for (int64_t sector = 0; sector < DISK_BYTES / BDRV_SECTOR_SIZE; sector += n) {
            CowRequest req;

            n = MIN(500, DISK_BYTES / BDRV_SECTOR_SIZE - sector);
            blk_co_start_request(r->blk);
            backup_wait_for_overlapping_requests(r->job, sector, n);
            backup_cow_request_begin(&req, r->job, sector, n);
            g_assert_cmpint(bdrv_co_pread(blk_root(r->blk), sector * BDRV_SECTOR_SIZE,
                                          n * BDRV_SECTOR_SIZE, out + sector * BDRV_SECTOR_SIZE,
                                          BDRV_REQ_NO_SERIALISING),
                            ==, 0);
            backup_cow_request_end(&req);
            blk_end_request(r->blk);
            qemu_co_sleep_ns(10000);
        }
        __atomic_add_fetch(&r->done, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&r->running, false, __ATOMIC_SEQ_CST);
}

/* H2 and B8: each pass over the target shows the disk at the instant, up to the cancel. */
static void coroutine_fn none_story(Story *s)
{
    Reader r = {.running = true};
    BlockJob *job;

    tell_begin(s, true);
    for (size_t i = 0; i < ARRAY_SIZE(r.passes); i++) {
        r.passes[i] = g_malloc(DISK_BYTES);
    }
    r.job = job = take(s, MIRROR_SYNC_MODE_NONE, 0);
    job_ref(&job->job);
    r.blk = new_backend(s->target, BLK_PERM_CONSISTENT_READ);
    aio_co_schedule(s->home, qemu_coroutine_create(reader_entry, &r));
    while (__atomic_load_n(&r.done, __ATOMIC_SEQ_CST) < (int)ARRAY_SIZE(r.passes)) {
        play_once(s, job);
        qemu_co_sleep_ns(100000);
    }
    job_user_cancel(&job->job, true, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    __atomic_store_n(&r.stop, true, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&r.running, __ATOMIC_SEQ_CST)) {
        qemu_co_sleep_ns(100000);
    }
    stop_writers(s);
    for (size_t i = 0; i < ARRAY_SIZE(r.passes); i++) {
        for (int w = 0; w < WRITERS; w++) {
            story_writer_check_bytes(s->writers[w], &r.passes[i]);
        }
        g_free(r.passes[i]);
    }
    job_unref(&r.job->job);
    blk_co_unref(r.blk);
    tell_end(s);
}

/* What writes to the target, and where from. */
typedef struct Watch {
    NotifierWithReturn notifier;
    AioContext *home;
    int here, elsewhere; /* atomic */
} Watch;

static int watch_notify(NotifierWithReturn *notifier, void *opaque)
{
    Watch *w = container_of(notifier, Watch, notifier);

    __atomic_add_fetch(in_aio_context(w->home) ? &w->here : &w->elsewhere, 1, __ATOMIC_SEQ_CST);
    return 0;
}

/* Stores that wait for a quiesce go on where their disks are then. */
static void coroutine_fn moved_story(Story *s)
{
    BackupJobArgs args = {.job_id = "b", .sync = MIRROR_SYNC_MODE_NONE};
    Watch watch = {.notifier.notify = watch_notify};
    uint8_t buf[4096] = "n";
    BlockBackend *blk;
    BlockJob *job;

    prepare_disks(s, true);
    s->thread = iothread_create("io", s->engine, &error_abort);
    s->home = watch.home = iothread_get_aio_context(s->thread);
    blk = new_backend(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    args.source = s->source;
    args.target = s->target;
    job = story_co_start_backup(&args);
    bdrv_co_drained_begin(s->target);
    bdrv_add_before_write_notifier(s->target, &watch.notifier);
    for (int64_t i = 0; i < 4; i++) {
        g_assert_cmpint(blk_co_pwrite(blk, i * 128 * KiB, sizeof(buf), buf, 0), ==, 0);
    }
    bdrv_co_try_change_aio_context(s->source, s->home, &error_abort);
    bdrv_co_drained_end(s->target);
    while (__atomic_load_n(&watch.here, __ATOMIC_SEQ_CST) < 4) {
        g_assert_cmpint(__atomic_load_n(&watch.elsewhere, __ATOMIC_SEQ_CST), ==, 0);
        qemu_co_sleep_ns(100000);
    }
    job_user_cancel(&job->job, true, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    bdrv_co_drained_begin(s->target);
    notifier_with_return_remove(&watch.notifier);
    bdrv_co_drained_end(s->target);
    bdrv_co_try_change_aio_context(s->source, qemu_get_aio_context(), &error_abort);
    blk_co_unref(blk);
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
    iothread_destroy(s->thread);
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
        {AIO_ENGINE_IO_URING, full_story},  {AIO_ENGINE_EPOLL, full_story},
        {AIO_ENGINE_IO_URING, none_story},  {AIO_ENGINE_EPOLL, none_story},
        {AIO_ENGINE_IO_URING, moved_story}, {AIO_ENGINE_EPOLL, moved_story},
    };

    g_test_add_data_func("/backup/iothread/io_uring/stores move with their disks", &tests[4],
                         run_test);
    g_test_add_data_func("/backup/iothread/epoll/stores move with their disks", &tests[5],
                         run_test);
    g_test_add_data_func("/backup/iothread/io_uring/a full backup is one instant", &tests[0],
                         run_test);
    g_test_add_data_func("/backup/iothread/epoll/a full backup is one instant", &tests[1],
                         run_test);
    g_test_add_data_func("/backup/iothread/io_uring/a reader with requests sees one instant",
                         &tests[2], run_test);
    g_test_add_data_func("/backup/iothread/epoll/a reader with requests sees one instant",
                         &tests[3], run_test);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
