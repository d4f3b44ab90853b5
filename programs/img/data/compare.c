/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * compare.c - qblk-img compare: do two images show the same?
 *
 * The exit status says: 0 the same, 1 not, 2 an image could not be opened, 3 its block status could not be
 * had, 4 it could not be read.
 */
#include <inttypes.h>
#include <stdio.h>

#include "block/image/image.h"
#include "programs/img/commands.h"
#include "programs/img/data/data.h"

enum {
    STATUS_SAME = 0,
    STATUS_DIFFERENT = 1,
    STATUS_NOT_OPENED = 2,
    STATUS_NO_STATUS = 3,
    STATUS_NOT_READ = 4,
};

typedef struct Compare {
    ImgImage image[2];
    bool strict, quiet, progress;
} Compare;

static const ImgOption options[] = {
    {'f', "a-format", "FMT", "format of the first image (probed)"},
    {'F', "b-format", "FMT", "format of the second image (probed)"},
    IMG_OPTION_IMAGE_OPTS,
    {'s', "strict", NULL, "also compare the sizes, and what is allocated"},
    {'T', "cache", "CACHE", "none, writeback (the default), unsafe, writethrough or directsync"},
    IMG_OPTION_FORCE_SHARE,
    IMG_OPTION_QUIET,
    IMG_OPTION_PROGRESS,
    {0},
};

static void say(const Compare *compare, const ImageCompareResult *r)
{
    if (compare->quiet) {
        return;
    }
    if (r->other_size) {
        printf("Warning: Image size mismatch!\n");
    }
    switch (r->difference) {
    case IMAGE_IDENTICAL:
        printf("Images are identical.\n");
        break;
    case IMAGE_SIZES_DIFFER:
        printf("Strict mode: Image size mismatch!\n");
        break;
    case IMAGE_STATUS_DIFFERS:
        printf("Strict mode: Offset %" PRId64 " block status mismatch!\n", r->offset);
        break;
    case IMAGE_CONTENT_DIFFERS:
        printf("Content mismatch at offset %" PRId64 "!\n", r->offset);
        break;
    }
}

/* @error: positive. */
static int failed(const Compare *compare, const ImageCompareResult *r, int error, Error *err)
{
    if (r->failed_image < 0) {
        error_report_err(err);
        return STATUS_NOT_READ;
    }
    const char *filename = compare->image[r->failed_image].filename;

    error_free(err);
    if (r->status_failed) {
        error_report("Sector allocation test failed for %s at offset %" PRId64 ": %s", filename,
                     r->failed_at, g_strerror(error));
        return STATUS_NO_STATUS;
    }
    error_report("Error while reading offset %" PRId64 " of %s: %s", r->failed_at, filename,
                 g_strerror(error));
    return STATUS_NOT_READ;
}

static int coroutine_fn compare_opened(const Compare *compare, BlockBackend *const *blk)
{
    ImageCompareArgs args = {
        .image = {blk[0], blk[1]}, .strict = compare->strict, .watch = img_image_watch()};
    ImageCompareResult result;
    Error *err = NULL;
    int ret, status;

    img_progress_begin(compare->progress);
    ret = image_co_compare(&args, &result, &err);
    if (ret == 0) {
        say(compare, &result);
        status = result.difference == IMAGE_IDENTICAL ? STATUS_SAME : STATUS_DIFFERENT;
    } else {
        status = failed(compare, &result, -ret, err);
    }
    img_progress_end();
    return status;
}

static int coroutine_fn compare_co(void *opaque)
{
    Compare *compare = opaque;
    BlockBackend *blk[2] = {NULL, NULL};
    int status = STATUS_SAME;
    Error *err = NULL;

    for (int i = 0; i < 2 && status == STATUS_SAME; i++) {
        blk[i] = img_co_open(&compare->image[i], &err);
        if (!blk[i]) {
            error_report_err(err);
            status = STATUS_NOT_OPENED;
        }
    }
    if (status == STATUS_SAME) {
        status = compare_opened(compare, blk);
    }
    img_co_close(blk[0]);
    img_co_close(blk[1]);
    return status;
}

static void take_option(Compare *compare, int c, const char *value)
{
    switch (c) {
    case 'f':
    case 'F':
        compare->image[c == 'F'].format = value;
        break;
    case 'T':
        compare->image[0].cache = compare->image[1].cache = value;
        break;
    case 's':
        compare->strict = true;
        break;
    case 'q':
        compare->quiet = true;
        break;
    case 'p':
        compare->progress = true;
        break;
    default:
        img_image_option(&compare->image[0], c, value);
        img_image_option(&compare->image[1], c, value);
        break;
    }
}

static int compare_run(ImgArgs *args)
{
    Compare compare = {0};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        }
        take_option(&compare, c, value);
    }
    if (img_args_operand_count(args) != 2) {
        return img_args_error(args, "Expecting two image file names");
    }
    compare.progress = compare.progress && !compare.quiet;
    for (int i = 0; i < 2; i++) {
        compare.image[i].filename = img_args_operand(args, i);
        if (!img_image_check(&compare.image[i])) {
            return STATUS_NOT_OPENED;
        }
    }
    if (compare.image[0].cache && !img_cache_is_known(compare.image[0].cache)) {
        error_report("Invalid source cache option: %s", compare.image[0].cache);
        return STATUS_NOT_OPENED;
    }
    return img_run(compare_co, &compare);
}

const ImgCommand img_compare = {
    .name = "compare",
    .summary = "Find out whether two images show the same",
    .operands = "FILENAME1 FILENAME2",
    .object_failure = STATUS_NOT_OPENED,
    .options = options,
    .run = compare_run,
};
