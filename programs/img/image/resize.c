/* SPDX-License-Identifier: GPL-2.0-or-later */
/* resize.c - qblk-img resize: a larger or smaller disk */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "programs/img/commands.h"
#include "util/cutils.h"

typedef struct Resize {
    ImgImage image;
    PreallocMode prealloc;
    bool shrink, quiet;
    int sign; /* 0: the size is absolute */
    uint64_t bytes;
} Resize;

enum { OPT_SHRINK = IMG_OPT_FIRST_OWN, OPT_PREALLOCATION };

static const ImgOption options[] = {
    IMG_OPTION_QUIET,
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    {OPT_SHRINK, "shrink", NULL, "allow a size that is smaller; what lies behind it is lost"},
    {OPT_PREALLOCATION, "preallocation", "MODE",
     "off, metadata, falloc or full: how new space is set aside"},
    {0},
};

/* The new length; negative: told. */
static int64_t new_length(const Resize *resize, int64_t old)
{
    __int128 bytes = (__int128)resize->bytes * (resize->sign ? resize->sign : 1);

    bytes += resize->sign ? old : 0;
    if (bytes <= 0 || bytes > INT64_MAX) {
        error_report("New image size must be positive");
        return -EINVAL;
    }
    if (bytes <= old && resize->prealloc != PREALLOC_MODE_OFF) {
        error_report("Preallocation can only be used for growing images");
        return -EINVAL;
    }
    if (bytes < old && !resize->shrink) {
        error_report("Use the --shrink option to perform a shrink operation.");
        warn_report("Shrinking an image will delete all data beyond the shrunken image's end. "
                    "Before performing such an operation, make sure there is no important data "
                    "there.");
        return -EINVAL;
    }
    return (int64_t)bytes;
}

static int coroutine_fn change_length(const Resize *resize, BlockBackend *blk)
{
    Error *err = NULL;
    int64_t length = blk_getlength(blk);

    if (length < 0) {
        error_report("Could not get the size of '%s': %s", resize->image.filename,
                     g_strerror((int)-length));
        return EXIT_FAILURE;
    }
    length = new_length(resize, length);
    if (length < 0) {
        return EXIT_FAILURE;
    }
    if (blk_co_truncate(blk, length, true, resize->prealloc, 0, &err) < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    if (!resize->quiet) {
        printf("Image resized.\n");
    }
    return EXIT_SUCCESS;
}

static int coroutine_fn resize_co(void *opaque)
{
    Resize *resize = opaque;
    Error *err = NULL;
    BlockBackend *blk = img_co_open(&resize->image, &err);
    int status;

    if (!blk) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    status = change_length(resize, blk);
    img_co_close(blk);
    return status;
}

static bool parse_size(Resize *resize, const char *text)
{
    int r;

    resize->sign = *text == '+' ? 1 : *text == '-' ? -1 : 0;
    text += resize->sign != 0;
    r = qemu_strtosz(text, NULL, &resize->bytes);
    if (r == -ERANGE && *text != '-') {
        error_report("Value '%s' is out of range for parameter 'size'", text);
    } else if (r < 0) {
        error_report("Parameter 'size' expects a non-negative number below 2^64\n"
                     "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                     "and exabytes, respectively.");
    }
    return r == 0;
}

static bool parse_prealloc(Resize *resize, const char *word)
{
    static const char *const words[PREALLOC_MODE__MAX] = {
        [PREALLOC_MODE_OFF] = "off",
        [PREALLOC_MODE_METADATA] = "metadata",
        [PREALLOC_MODE_FALLOC] = "falloc",
        [PREALLOC_MODE_FULL] = "full",
    };

    for (int i = 0; i < PREALLOC_MODE__MAX; i++) {
        if (!strcmp(words[i], word)) {
            resize->prealloc = (PreallocMode)i;
            return true;
        }
    }
    error_report("Invalid preallocation mode '%s'", word);
    return false;
}

static int resize_run(ImgArgs *args)
{
    Resize resize = {.image = {.writable = true, .resizable = true}};
    const char *value, *size = NULL;
    int c;

    if (args->argc > 2) {
        size = args->argv[--args->argc]; /* it may look like an option: -1M */
    }
    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        } else if (img_image_option(&resize.image, c, value)) {
            continue;
        } else if (c == 'q') {
            resize.quiet = true;
        } else if (c == OPT_SHRINK) {
            resize.shrink = true;
        } else if (c == OPT_PREALLOCATION && !parse_prealloc(&resize, value)) {
            return EXIT_FAILURE;
        }
    }
    if (!size || img_args_operand_count(args) < 1) {
        return img_args_error(args, "Expecting image file name and size");
    }
    if (img_args_operand_count(args) > 1) {
        return img_args_error(args, "Extra argument(s) in command line");
    }
    resize.image.filename = img_args_operand(args, 0);
    if (!img_image_check(&resize.image) || !parse_size(&resize, size)) {
        return EXIT_FAILURE;
    }
    return img_run(resize_co, &resize);
}

const ImgCommand img_resize = {
    .name = "resize",
    .summary = "Make the disk of an image larger or smaller",
    .operands = "FILENAME [+|-]SIZE",
    .options = options,
    .run = resize_run,
};
