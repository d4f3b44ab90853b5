/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space.c - discard, flush, truncate, length: what is not data */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "aio/timer.h"
#include "programs/io/commands/commands.h"
#include "qapi/type.h"

static int coroutine_fn discard_run(IoSession *io, int argc, char **argv)
{
    IoReport report = {.verb = "discard"};
    bool quiet = false;
    int c, ret;

    optind = 0;
    while ((c = getopt(argc, argv, "Cq")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        report.terse |= c == 'C';
        quiet |= c == 'q';
    }
    if (optind != argc - 2) {
        return io_usage_error(argv);
    }
    report.offset = io_parse_size(argv[optind]);
    report.bytes = report.offset < 0 ? -EINVAL : io_parse_size(argv[optind + 1]);
    if (report.bytes < 0) {
        return -EINVAL;
    }
    if (report.bytes > IO_LENGTH_MAX) {
        printf("length cannot exceed %" PRId64 ", given %s\n", IO_LENGTH_MAX, argv[optind + 1]);
        return -EINVAL;
    }
    report.begin_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    ret = blk_co_pdiscard(io->blk, report.offset, report.bytes);
    if (ret < 0) {
        printf("discard failed: %s\n", g_strerror(-ret));
        return ret;
    }
    if (!quiet) {
        io_print_report(&report);
    }
    return 0;
}

const IoCommand io_discard = {
    .name = "discard",
    .alias = "d",
    .args = "[-Cq] off len",
    .summary = "gives bytes from an offset on up",
    .help = " Tells the image that nobody needs what is in a range of it.\n"
            "\n"
            " Example:\n"
            " 'discard 512 1k' - gives up the kilobyte that begins at byte 512\n"
            "\n"
            " -C -- print the statistics for programs\n"
            " -q -- print no statistics\n",
    .min_args = 2,
    .max_args = -1,
    .perm = BLK_PERM_WRITE,
    .run = discard_run,
};

static int coroutine_fn flush_run(IoSession *io, int argc, char **argv)
{
    return blk_co_flush(io->blk);
}

const IoCommand io_flush = {
    .name = "flush",
    .alias = "f",
    .summary = "brings what was written to stable storage",
    .run = flush_run,
};

static int coroutine_fn truncate_run(IoSession *io, int argc, char **argv)
{
    PreallocMode prealloc = PREALLOC_MODE_OFF;
    Error *err = NULL;
    int64_t length;
    int c, ret;

    optind = 0;
    while ((c = getopt(argc, argv, "m:")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        ret = qapi_enum_parse(&PreallocMode_lookup, optarg, -1, NULL);
        if (ret < 0) {
            error_report("Invalid preallocation mode '%s'", optarg);
            return -EINVAL;
        }
        prealloc = (PreallocMode)ret;
    }
    if (optind != argc - 1) {
        return io_usage_error(argv);
    }
    length = io_parse_size(argv[optind]);
    if (length < 0) {
        return (int)length;
    }
    ret = blk_co_truncate(io->blk, length, false, prealloc, 0, &err);
    if (ret < 0) {
        error_report_err(err);
    }
    return ret;
}

const IoCommand io_truncate = {
    .name = "truncate",
    .alias = "t",
    .args = "[-m prealloc_mode] off",
    .summary = "lets the image end at an offset",
    .help =
        " Makes the disk longer or shorter.\n"
        "\n"
        " -m -- how space is set aside that is new: off (the default), metadata, falloc, full\n",
    .min_args = 1,
    .max_args = 3,
    .perm = BLK_PERM_WRITE | BLK_PERM_RESIZE,
    .run = truncate_run,
};

static int coroutine_fn length_run(IoSession *io, int argc, char **argv)
{
    int64_t length = io_image_length(io);
    g_autofree char *text = NULL;

    if (length < 0) {
        printf("getlength: %s\n", g_strerror((int)-length));
        return (int)length;
    }
    text = io_size_text((double)length);
    printf("%s\n", text);
    return 0;
}

const IoCommand io_length = {
    .name = "length",
    .alias = "l",
    .summary = "tells how long the image is",
    .run = length_run,
};
