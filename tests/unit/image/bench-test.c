/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bench: each request is made once, no more than asked at a time, and a flush comes where it should. */
#include <errno.h>
#include "aio/timer.h"
#include "block/image/bench.h"
#include "tests/unit/image/images.h"
#include "util/osdep.h"

#define SIZE (64 * KiB)

/* What happened, in order. */
typedef struct Log {
    GString *text; /* "0 4096 F 8192 ": where a write begins; a flush */
    int in_flight, most;
    bool alone; /* no flush began while a write was in flight */
} Log;

static void note(void *opaque, unsigned op, int64_t offset, int64_t bytes, bool begins)
{
    Log *log = opaque;

    if (op == TEST_RAM_FLUSH && begins) {
        g_string_append(log->text, "F ");
        log->alone = log->alone && log->in_flight == 0;
    } else if (op & (TEST_RAM_WRITE | TEST_RAM_READ)) {
        if (begins) {
            g_string_append_printf(log->text, "%d ", (int)offset);
        }
        log->in_flight += begins ? 1 : -1;
        log->most = MAX(log->most, log->in_flight);
    }
}

static int coroutine_fn run(ImageBenchArgs *args, BlockDriverState *ram, Log *log, Error **errp)
{
    int64_t ns = 0;
    int ret;

    *log = (Log){.text = g_string_new(NULL), .alone = true};
    bdrv_ref(ram);
    args->image = images_blk(ram, true);
    test_ram_set_watch(ram, note, log);
    ret = image_co_bench(args, &ns, errp);
    test_ram_set_watch(ram, NULL, NULL);
    g_assert_cmpint(log->in_flight, ==, 0);
    if (ret == 0) {
        g_assert_cmpint(ns, >=, 0);
    }
    blk_co_unref(args->image);
    return ret;
}

static void coroutine_fn each_request_once(void)
{
    BlockDriverState *ram = test_ram_new("disk", SIZE);
    ImageBenchArgs args = {.count = 5, .request_bytes = 4096, .step_bytes = 16384, .depth = 1};
    Log log;

    args.offset = 8192;
    g_assert_cmpint(run(&args, ram, &log, &error_abort), ==, 0);
    g_assert_cmpstr(log.text->str, ==, "8192 24576 40960 57344 8192 "); /* anew behind the end */
    g_string_free(log.text, TRUE);

    args.write = true;
    args.pattern = 0x5a;
    args.count = 1;
    g_assert_cmpint(run(&args, ram, &log, &error_abort), ==, 0);
    g_string_free(log.text, TRUE);
    g_assert_cmpint(test_ram_allocated(ram), ==, 4096);
    uint8_t byte;
    test_ram_peek(ram, 8192 + 4095, &byte, 1);
    g_assert_cmpint(byte, ==, 0x5a);
    bdrv_co_unref(ram);
}

static void coroutine_fn no_more_at_once(void)
{
    BlockDriverState *ram = test_ram_new("disk", SIZE);
    ImageBenchArgs args = {.count = 40, .request_bytes = 4096, .step_bytes = 4096};
    Log log;

    test_ram_set_delay(ram, TEST_RAM_ALL_IO, SCALE_MS);
    for (args.depth = 1; args.depth <= 64; args.depth *= 4) {
        g_assert_cmpint(run(&args, ram, &log, &error_abort), ==, 0);
        g_assert_cmpint(log.most, ==, MIN(args.depth, 40));
        g_string_free(log.text, TRUE);
    }
    bdrv_co_unref(ram);
}

static void coroutine_fn flushes(void)
{
    BlockDriverState *ram = test_ram_new("disk", SIZE);
    ImageBenchArgs args = {.count = 8,
                           .write = true,
                           .request_bytes = 4096,
                           .step_bytes = 4096,
                           .depth = 1,
                           .flush_interval = 3};
    Log log;

    g_assert_cmpint(run(&args, ram, &log, &error_abort), ==, 0);
    g_assert_cmpstr(log.text->str, ==, "0 4096 F 8192 12288 16384 F 20480 24576 28672 ");
    g_string_free(log.text, TRUE);

    test_ram_set_delay(ram, TEST_RAM_WRITE, SCALE_MS);
    args.depth = 3;
    args.drain = true;
    g_assert_cmpint(run(&args, ram, &log, &error_abort), ==, 0);
    g_assert_cmpstr(log.text->str, ==, "0 4096 F 8192 12288 16384 F 20480 24576 28672 ");
    g_assert_true(log.alone);
    g_string_free(log.text, TRUE);

    args.drain = false;
    g_assert_cmpint(run(&args, ram, &log, &error_abort), ==, 0);
    g_assert_false(log.alone);
    g_string_free(log.text, TRUE);
    bdrv_co_unref(ram);
}

static void coroutine_fn ends(void)
{
    BlockDriverState *ram = test_ram_new("disk", SIZE);
    ImageBenchArgs args = {
        .count = 100000000, .request_bytes = 4096, .step_bytes = 4096, .depth = 8};
    ImagesWatch watch = {.cancel_at = 50};
    Error *err = NULL;
    Log log;

    args.watch = images_watch(&watch);
    g_assert_cmpint(run(&args, ram, &log, &err), ==, -ECANCELED);
    error_free_or_abort(&err);
    g_string_free(log.text, TRUE);

    args.watch = (ImageWatch){0};
    test_ram_set_error(ram, TEST_RAM_READ, 32768, 1, EIO, 1);
    g_assert_cmpint(run(&args, ram, &log, &err), ==, -EIO);
    g_assert_nonnull(strstr(error_get_pretty(err), "Failed request"));
    error_free_or_abort(&err);
    g_string_free(log.text, TRUE);

    args.request_bytes = 2 * SIZE; /* longer than the disk */
    g_assert_cmpint(run(&args, ram, &log, &err), ==, -EIO);
    error_free_or_abort(&err);
    g_string_free(log.text, TRUE);
    bdrv_co_unref(ram);
}

static void add(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/image/bench/each request is made once, where it should be", each_request_once);
    block_test_add("/image/bench/no more are made at once than was asked for", no_more_at_once);
    block_test_add("/image/bench/a flush comes every so many writes, alone if it is to drain",
                   flushes);
    block_test_add("/image/bench/an error and a cancel end it, with nothing in flight", ends);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
