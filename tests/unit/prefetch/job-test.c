/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The prefetch job over an FVD image: it ends with all of the base in the image, while guests write; it can be paused,
 * cancelled, slowed down, and gives way; errors go the way that they are told to.
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/drivers/drivers.h"
#include "block/jobs/prefetch.h"
#include "block/jobs/prefetch/pace.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define SIZE    (4 * MiB)
#define BLOCK   (16 * KiB)
#define SECTOR  512
#define SECONDS INT64_C(1000000000)

static const FvdImageSpec over_base = {
    .size = SIZE,
    .chunk_size = 64 * KiB,
    .block_size = BLOCK,
    .journal_size = 32 * KiB,
    .base_size = SIZE - 3 * SECTOR,
    .base_img = "base.img",
};

typedef struct Scene {
    BlockDriverState *base, *file, *bs;
    BdrvChild *user;
    BlockJob *job;
    PrefetchJobArgs args;
    uint8_t *model;
} Scene;

static void coroutine_fn open_image(Scene *s, const char *backing)
{
    s->bs = block_test_co_open(
        "{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"file\"%s}", backing);
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    s->args = (PrefetchJobArgs){.job_id = "p",
                                .bs = s->bs,
                                .speed = -1,
                                .slots = -1,
                                .bytes_per_slot = 128 * KiB,
                                .min_read_throughput = 0,
                                .min_write_throughput = 0,
                                .throttle_ms = -1,
                                .flags = JOB_MANUAL_DISMISS};
}

static void coroutine_fn set_up(Scene *s)
{
    *s = (Scene){.model = g_malloc0(SIZE)};
    s->file = test_ram_new("file", 0);
    s->base = test_ram_new("base", SIZE - 5 * SECTOR); /* shorter than what counts of it */
    test_ram_poke_pattern(s->base, 0, SIZE / 2, 7);
    test_ram_poke_pattern(s->base, SIZE - 64 * KiB, 32 * KiB, 8);
    test_ram_peek(s->base, 0, s->model, SIZE - 5 * SECTOR);
    fvd_image_co_make(s->file, &over_base);
    open_image(s, ", \"backing\": \"base\"");
}

static void coroutine_fn close_image(Scene *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
}

static void coroutine_fn tear_down(Scene *s)
{
    close_image(s);
    bdrv_co_unref(s->base);
    bdrv_co_unref(s->file);
    g_free(s->model);
}

static void coroutine_fn expect_model(Scene *s)
{
    g_autofree uint8_t *buf = g_malloc(SIZE);

    g_assert_cmpint(bdrv_co_pread(s->user, 0, SIZE, buf, 0), ==, 0);
    g_assert_cmpmem(buf, SIZE, s->model, SIZE);
}

static void coroutine_fn start(Scene *s)
{
    s->job = prefetch_job_create(&s->args, &error_abort);
    job_ref(&s->job->job);
    job_start(&s->job->job);
}

static void coroutine_fn wait_status(Scene *s, JobStatus status)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + 10000 * SECONDS;

    while (s->job->job.status != status) {
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        qemu_co_sleep_ns(1000000);
    }
}

/* Its result; then it is forgotten. */
static int coroutine_fn end(Scene *s)
{
    Job *job = &s->job->job;
    int ret;

    wait_status(s, JOB_STATUS_CONCLUDED);
    ret = job->ret;
    job_user_dismiss(&job, &error_abort);
    job_unref(&s->job->job);
    return ret;
}

/* It is complete: opened anew without any base it is the disk. */
static void coroutine_fn expect_complete(Scene *s)
{
    g_assert_null(s->bs->backing);
    expect_model(s);
    close_image(s);
    open_image(s, ", \"backing\": null");
    expect_model(s);
}

static void coroutine_fn test_fills(void)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    Scene s;

    set_up(&s);
    start(&s);
    g_assert_cmpint(end(&s), ==, 0);
    fvd_image_co_header(s.file, h);
    g_assert_cmpuint(h->base_img_fully_prefetched, ==, 1);
    /* The half of zeros was neither read nor stored. */
    g_assert_cmpuint(test_ram_counts(s.base)->bytes_read, <, SIZE / 2 + 256 * KiB);
    g_assert_cmpint(test_ram_allocated(s.file), <, SIZE / 2 + 512 * KiB);
    expect_complete(&s);
    tear_down(&s);
}

/* H11: with guests in the middle of it. */
static void coroutine_fn test_while_guests_write(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(block_test_seed());
    Scene s;

    set_up(&s);
    test_ram_set_delay(s.base, TEST_RAM_READ, 3000);
    test_ram_set_delay(s.file, TEST_RAM_WRITE, 2000);
    s.args.slots = 4;
    start(&s);
    while (s.job->job.status != JOB_STATUS_CONCLUDED) {
        int64_t offset = g_rand_int_range(rand, 0, SIZE / SECTOR - 8) * SECTOR;
        uint8_t buf[8 * SECTOR];

        memset(buf, g_rand_int_range(rand, 0, 256), sizeof(buf));
        memcpy(s.model + offset, buf, sizeof(buf));
        while (block_test_user_drained(s.user) > 0) {
            qemu_co_sleep_ns(100);
        }
        g_assert_cmpint(bdrv_co_pwrite(s.user, offset, sizeof(buf), buf, 0), ==, 0);
        if (g_rand_int_range(rand, 0, 8) == 0) {
            g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
        }
        qemu_co_sleep_ns(g_rand_int_range(rand, 0, 5000));
    }
    g_assert_cmpint(end(&s), ==, 0);
    expect_complete(&s);
    tear_down(&s);
}

static void coroutine_fn test_pause_and_cancel(void)
{
    int64_t before;
    Scene s;

    set_up(&s);
    s.args.speed = 64 * KiB;
    start(&s);
    qemu_co_sleep_ns(4 * SECONDS);
    before = s.job->job.progress_current;
    g_assert_cmpint(before, >, 0);
    g_assert_cmpint(before, <, SIZE / 2);
    job_user_pause(&s.job->job, &error_abort);
    wait_status(&s, JOB_STATUS_PAUSED);
    before = s.job->job.progress_current;
    qemu_co_sleep_ns(100 * SECONDS);
    g_assert_cmpint(s.job->job.progress_current, ==, before);
    bdrv_co_drained_begin(s.bs);
    bdrv_co_drained_end(s.bs);
    job_user_resume(&s.job->job, &error_abort);
    qemu_co_sleep_ns(10 * SECONDS);
    g_assert_cmpint(s.job->job.progress_current, >, before);
    job_user_cancel(&s.job->job, true, &error_abort);
    g_assert_cmpint(end(&s), ==, -ECANCELED);
    g_assert_nonnull(s.bs->backing);
    expect_model(&s);

    /* What was done is not done again. */
    test_ram_reset_counts(s.base);
    s.args.speed = 0;
    start(&s);
    g_assert_cmpint(end(&s), ==, 0);
    g_assert_cmpuint(test_ram_counts(s.base)->bytes_read, <, SIZE / 2 - 256 * KiB);
    expect_complete(&s);
    tear_down(&s);
}

static void coroutine_fn test_errors(void)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    Scene s;

    set_up(&s);
    test_ram_set_error(s.base, TEST_RAM_READ, 1 * MiB, SECTOR, EIO, -1);
    start(&s);
    g_assert_cmpint(end(&s), ==, -EIO);
    s.args.on_error = BLOCKDEV_ON_ERROR_IGNORE;
    start(&s);
    g_assert_cmpint(end(&s), ==, -EIO);
    fvd_image_co_header(s.file, h);
    g_assert_cmpuint(h->base_img_fully_prefetched, ==, 0);
    g_assert_nonnull(s.bs->backing);
    test_ram_reset_counts(s.base);
    s.args.on_error = BLOCKDEV_ON_ERROR_STOP;
    start(&s);
    wait_status(&s, JOB_STATUS_PAUSED);
    test_ram_set_error(s.base, 0, 0, 0, 0, 0);
    /* Only the piece that had failed is left. */
    g_assert_cmpuint(test_ram_counts(s.base)->bytes_read, <=, 128 * KiB);
    job_user_resume(&s.job->job, &error_abort);
    g_assert_cmpint(end(&s), ==, 0);
    expect_complete(&s);
    tear_down(&s);
}

static void coroutine_fn test_gives_way(void)
{
    int64_t began = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    Scene s;

    set_up(&s);
    test_ram_set_delay(s.base, TEST_RAM_READ, SECONDS / 4); /* 512 KiB/s a slot */
    start(&s);
    g_assert_cmpint(end(&s), ==, 0);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - began, <, 6 * SECONDS);
    tear_down(&s);

    set_up(&s);
    test_ram_set_delay(s.base, TEST_RAM_READ, SECONDS / 4);
    s.args.min_read_throughput = 10 * MiB;
    s.args.throttle_ms = 100000;
    began = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    start(&s);
    g_assert_cmpint(end(&s), ==, 0);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - began, >, 20 * SECONDS);
    expect_complete(&s);
    tear_down(&s);
}

static void coroutine_fn refused(Scene *s, const char *message)
{
    Error *err = NULL;

    g_assert_null(prefetch_job_create(&s->args, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, message);
    error_free(err);
}

static void coroutine_fn test_refused(void)
{
    Scene s;

    set_up(&s);
    s.args.bs = s.base;
    refused(&s, "Driver 'test-ram' of node 'base' does not support prefetching");
    s.args.bs = s.bs;
    s.args.slots = PREFETCH_SLOTS_MAX + 1;
    refused(&s, "Parameter 'slots' expects a value in range [1, 16]");
    s.args.slots = -1;
    s.args.speed = 64 * KiB;
    start(&s);
    s.args.job_id = "other";
    refused(&s, "Node 'image' is being prefetched already");
    job_user_cancel(&s.job->job, true, &error_abort);
    end(&s);
    close_image(&s);
    open_image(&s, ", \"backing\": null");
    refused(&s, "Node 'image' has no backing file");
    tear_down(&s);
}

static void test_pace(void)
{
    PrefetchPace pace = {.min = 1000, .measure_ns = SECONDS};

    prefetch_pace_begin(&pace, 0);
    prefetch_pace_begin(&pace, SECONDS / 2);
    prefetch_pace_end(&pace, SECONDS, 2000);
    g_assert_cmpint(pace.average, ==, 2000);
    prefetch_pace_end(&pace, 3 * SECONDS, 2000); /* 1000/s: 0.8 * 2000 + 0.2 * 1000 */
    g_assert_cmpint(pace.average, ==, 1800);
    g_assert_false(prefetch_pace_take_slow(&pace));
    prefetch_pace_begin(&pace, 100 * SECONDS); /* what was idle does not count */
    prefetch_pace_end(&pace, 101 * SECONDS, 1800);
    g_assert_cmpint(pace.average, ==, 1800);
    for (int i = 0; i < 4; i++) {
        prefetch_pace_begin(&pace, 200 * SECONDS);
        prefetch_pace_end(&pace, 300 * SECONDS, 100);
    }
    g_assert_true(prefetch_pace_take_slow(&pace));
    g_assert_false(prefetch_pace_take_slow(&pace));
}

static void add(void)
{
    qemu_clock_set_virtual(true);
    block_test_add(
        "/prefetch/job/all of the base comes into the image, which then needs it no more",
        test_fills);
    block_test_add("/prefetch/job/what guests write meanwhile stays", test_while_guests_write);
    block_test_add("/prefetch/job/it can be paused, resumed and cancelled, and does nothing twice",
                   test_pause_and_cancel);
    block_test_add("/prefetch/job/an error is never taken for a copy", test_errors);
    block_test_add("/prefetch/job/it gives way when it is slower than is wanted", test_gives_way);
    block_test_add("/prefetch/job/what cannot be is refused with a reason", test_refused);
    g_test_add_func("/prefetch/pace/the average follows what was measured while busy", test_pace);
}

int main(int argc, char **argv)
{
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
