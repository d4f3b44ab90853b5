/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rebase.c - qblk-img rebase: gives an image another backing file
 *
 * Safe (the default): the image shows the same afterwards.  Unsafe (-u): only the name of the backing file is
 * changed, for one that was moved; neither it nor the old one needs to be there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/image/info.h"
#include "block/open/open.h"
#include "programs/img/commands.h"
#include "programs/img/data/data.h"

typedef struct Rebase {
    ImgImage image;
    const char *backing, *backing_format, *backing_cache; /* NULL: not said */
    bool unsafe, quiet, progress, compress;
} Rebase;

static const ImgOption options[] = {
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    IMG_OPTION_CACHE('t'),
    {'b', "backing", "FILENAME", "the new backing file, relative to the image; '': none"},
    {'F', "backing-format", "FMT", "format of the new backing file"},
    {'T', "backing-cache", "CACHE", "cache mode of backing files (writeback)"},
    {'u', "backing-unsafe", NULL, "only change the name: the disk may change, too"},
    {'c', "compress", NULL, "refused: there is no format that compresses"},
    IMG_OPTION_FORCE_SHARE,
    IMG_OPTION_QUIET,
    IMG_OPTION_PROGRESS,
    {0},
};

/* NULL with @errp; *ret NULL: there is to be none. */
static int coroutine_fn open_new_backing(const Rebase *rebase, BlockBackend *image,
                                         BlockBackend **ret, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *path = NULL;
    ImgImage backing = {.format = rebase->backing_format, .cache = rebase->backing_cache};

    *ret = NULL;
    if (rebase->unsafe || !rebase->backing || !*rebase->backing) {
        return 0;
    }
    path = bdrv_path_beside(blk_bs(image)->filename, rebase->backing);
    backing.filename = path;
    *ret = img_co_open(&backing, errp);
    if (!*ret) {
        error_prepend(errp, "Could not open new backing file: ");
        return -EINVAL;
    }
    return 0;
}

/* One image below itself could never be opened again. */
static int check_not_itself(const Rebase *rebase, BlockBackend *image, Error **errp)
{
    const char *filename = blk_bs(image)->filename;
    g_autofree char *path = NULL;
    char *a, *b;
    bool same;

    if (!rebase->backing || !*rebase->backing) {
        return 0;
    }
    path = bdrv_path_beside(filename, rebase->backing);
    a = realpath(filename, NULL);
    b = realpath(path, NULL);
    same = a && b && !strcmp(a, b);
    free(a);
    free(b);
    if (same) {
        error_setg(errp, "'%s' cannot be its own backing file", rebase->image.filename);
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn rebase_opened(Rebase *rebase, BlockBackend *image, Error **errp)
{
    bool none = !rebase->backing || !*rebase->backing;
    ImageRebaseArgs args = {
        .image = image,
        .backing_file = none ? NULL : rebase->backing,
        .backing_format = none ? NULL : rebase->backing_format,
        .unsafe = rebase->unsafe,
        .watch = img_image_watch(),
    };
    int ret = check_not_itself(rebase, image, errp);

    if (ret == 0) {
        ret = open_new_backing(rebase, image, &args.new_backing, errp);
    }
    if (ret == 0 && !none && !rebase->backing_format && blk_bs(image)->drv->supports_backing) {
        error_setg(errp,
                   "Could not change the backing file to '%s': backing format must be specified",
                   rebase->backing);
        ret = -EINVAL;
    }
    if (ret == 0) {
        ret = image_co_rebase(&args, errp);
    }
    img_co_close(args.new_backing);
    return ret;
}

static int coroutine_fn rebase_co(void *opaque)
{
    Rebase *rebase = opaque;
    Error *err = NULL;
    BlockBackend *image = img_co_open(&rebase->image, &err);
    int ret = -EINVAL;

    if (image) {
        img_progress_begin(rebase->progress);
        ret = rebase_opened(rebase, image, &err);
        img_progress_end();
    }
    img_co_close(image);
    if (ret < 0 && !img_interrupted()) {
        error_report_err(err);
    } else {
        error_free(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void take_option(Rebase *rebase, int c, const char *value)
{
    switch (c) {
    case 't':
        rebase->image.cache = value;
        break;
    case 'b':
        rebase->backing = value;
        break;
    case 'F':
        rebase->backing_format = value;
        break;
    case 'T':
        rebase->backing_cache = value;
        break;
    case 'u':
        rebase->unsafe = true;
        break;
    case 'c':
        rebase->compress = true;
        break;
    case 'q':
        rebase->quiet = true;
        break;
    case 'p':
        rebase->progress = true;
        break;
    default:
        img_image_option(&rebase->image, c, value);
        break;
    }
}

static bool check(const Rebase *rebase)
{
    if (!img_image_check(&rebase->image)) {
        return false;
    }
    if (rebase->image.cache && !img_cache_is_known(rebase->image.cache)) {
        error_report("Invalid cache option: %s", rebase->image.cache);
        return false;
    }
    if (rebase->backing_cache && !img_cache_is_known(rebase->backing_cache)) {
        error_report("Invalid source cache option: %s", rebase->backing_cache);
        return false;
    }
    if (rebase->backing_format && !bdrv_find_format(rebase->backing_format)) {
        error_report("Invalid format name: '%s'", rebase->backing_format);
        return false;
    }
    if (rebase->compress) {
        error_report("Compression not supported for this file format");
        return false;
    }
    return true;
}

static int rebase_run(ImgArgs *args)
{
    Rebase rebase = {.image = {.writable = true}};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        }
        take_option(&rebase, c, value);
    }
    if (img_args_operand_count(args) != 1) {
        return img_args_error(args, "Expecting one image file name");
    }
    if (!rebase.unsafe && !rebase.backing) {
        return img_args_error(args, "Must specify backing file (-b) or use unsafe mode (-u)");
    }
    rebase.progress = rebase.progress && !rebase.quiet;
    rebase.image.filename = img_args_operand(args, 0);
    rebase.image.no_backing = rebase.unsafe;
    return check(&rebase) ? img_run(rebase_co, &rebase) : EXIT_FAILURE;
}

const ImgCommand img_rebase = {
    .name = "rebase",
    .summary = "Give an image another backing file",
    .operands = "FILENAME",
    .options = options,
    .run = rebase_run,
};
