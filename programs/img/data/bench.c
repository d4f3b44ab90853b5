/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench.c - qblk-img bench: how fast requests of one size go */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "block/image/bench.h"
#include "programs/img/commands.h"
#include "programs/img/data/data.h"
#include "util/osdep.h"

#define COUNT_DEFAULT       75000
#define BUFFER_SIZE_DEFAULT 4096
#define DEPTH_DEFAULT       64

typedef struct Bench {
    ImgImage image;
    ImageBenchArgs args;
    int64_t depth, pattern;
} Bench;

enum { OPT_PATTERN = IMG_OPT_FIRST_OWN, OPT_FLUSH_INTERVAL, OPT_NO_DRAIN };

static const ImgOption options[] = {
    IMG_OPTION_QUIET,
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    IMG_OPTION_CACHE('t'),
    IMG_OPTION_FORCE_SHARE,
    {'c', "count", "COUNT", "requests (75000)"},
    {'s', "buffer-size", "SIZE", "of each of them (4096)"},
    {'d', "depth", "DEPTH", "requests at once (64)"},
    {'o', "offset", "OFFSET", "of the first (0)"},
    {'S', "step-size", "SIZE", "from one to the next (what -s says)"},
    {'i', "aio", "AIO", "threads, native or io_uring"},
    {'n', "native", NULL, "the same as -i native"},
    {'w', "write", NULL, "write; what is in the image is lost"},
    {OPT_PATTERN, "pattern", "BYTE", "write this byte (0)"},
    {OPT_FLUSH_INTERVAL, "flush-interval", "COUNT", "flush after that many writes"},
    {OPT_NO_DRAIN, "no-drain", NULL, "flush while writes are in flight"},
    {0},
};

static bool bench_option(Bench *b, int c, const char *value)
{
    switch (c) {
    case 't':
        b->image.cache = value;
        if (!img_cache_is_known(value)) {
            error_report("Invalid cache mode");
            return false;
        }
        return true;
    case 'c':
        return img_parse_int("request count", value, 1, INT_MAX, &b->args.count);
    case 's':
        return img_parse_size("buffer size", value, 1, INT_MAX, &b->args.request_bytes);
    case 'd':
        return img_parse_int("queue depth", value, 1, IMAGE_BENCH_DEPTH_MAX, &b->depth);
    case 'o':
        return img_parse_size("offset", value, 0, INT64_MAX, &b->args.offset);
    case 'S':
        return img_parse_size("step size", value, 0, INT_MAX, &b->args.step_bytes);
    case 'i':
        return img_aio_parse(value, &b->image);
    case 'n':
        return img_aio_parse("native", &b->image);
    case 'w':
        b->args.write = true;
        return true;
    case OPT_PATTERN:
        return img_parse_int("pattern byte", value, 0, 0xff, &b->pattern);
    case OPT_FLUSH_INTERVAL:
        return img_parse_int("flush interval", value, 0, INT_MAX, &b->args.flush_interval);
    case OPT_NO_DRAIN:
        b->args.drain = false;
        return true;
    default:
        return true;
    }
}

static void tell_plan(const ImageBenchArgs *a)
{
    printf("Sending %" PRId64 " %s requests, %" PRId64 " bytes each, %d in parallel "
           "(starting at offset %" PRId64 ", step size %" PRId64 ")\n",
           a->count, a->write ? "write" : "read", a->request_bytes, a->depth, a->offset,
           a->step_bytes);
    if (a->flush_interval) {
        printf("Sending flush every %" PRId64 " requests\n", a->flush_interval);
    }
    fflush(stdout);
}

static int coroutine_fn bench_co(void *opaque)
{
    Bench *b = opaque;
    Error *err = NULL;
    int64_t ns;
    int r;

    b->args.image = img_co_open(&b->image, &err);
    if (!b->args.image) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    b->args.watch = img_image_watch();
    tell_plan(&b->args);
    r = image_co_bench(&b->args, &ns, &err);
    if (r == 0) {
        printf("Run completed in %3.3f seconds.\n", (double)ns / NANOSECONDS_PER_SECOND);
    } else if (!img_interrupted()) {
        error_report_err(err);
    } else {
        error_free(err);
    }
    img_co_close(b->args.image);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool check(Bench *b)
{
    ImageBenchArgs *a = &b->args;

    if (!img_image_check(&b->image)) {
        return false;
    }
    if (!a->write && a->flush_interval) {
        error_report("--flush-interval is only available in write tests");
        return false;
    }
    if (a->flush_interval && a->flush_interval < b->depth) {
        error_report("Flush interval can't be smaller than depth");
        return false;
    }
    a->depth = (int)b->depth;
    a->pattern = (uint8_t)b->pattern;
    if (!a->step_bytes) {
        a->step_bytes = a->request_bytes;
    }
    b->image.writable = a->write;
    return true;
}

static int bench_run(ImgArgs *args)
{
    Bench b = {
        .args = {.count = COUNT_DEFAULT, .request_bytes = BUFFER_SIZE_DEFAULT, .drain = true},
        .depth = DEPTH_DEFAULT,
    };
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        }
        if (!img_image_option(&b.image, c, value) && !bench_option(&b, c, value)) {
            return EXIT_FAILURE;
        }
    }
    if (img_args_operand_count(args) != 1) {
        return img_args_error(args, "Expecting one image file name");
    }
    b.image.filename = img_args_operand(args, 0);
    return check(&b) ? img_run(bench_co, &b) : EXIT_FAILURE;
}

const ImgCommand img_bench = {
    .name = "bench",
    .summary = "Measure how fast requests to an image go",
    .operands = "FILENAME",
    .options = options,
    .run = bench_run,
};
