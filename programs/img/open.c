/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * open.c - images by their names
 *
 * As QEMU's tools do, what was guessed to be raw and is going to be written is warned of.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/open/open.h"
#include "programs/img/img.h"
#include "util/cutils.h"

static const struct {
    const char *word;
    bool direct, no_flush, writethrough;
} cache_modes[] = {
    {"none", true, false, false},         {"directsync", true, false, true},
    {"writeback", false, false, false},   {"unsafe", false, true, false},
    {"writethrough", false, false, true}, {"off", true, false, false},
};

/* An index, or -1. */
static int find_cache_mode(const char *cache)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cache_modes); i++) {
        if (!strcmp(cache_modes[i].word, cache)) {
            return (int)i;
        }
    }
    return -1;
}

bool img_cache_is_known(const char *cache)
{
    return find_cache_mode(cache) >= 0;
}

bool img_image_option(ImgImage *image, int code, const char *value)
{
    switch (code) {
    case 'f':
        image->format = value;
        return true;
    case 'U':
        image->force_share = true;
        return true;
    case IMG_OPT_IMAGE_OPTS:
        image->image_opts = true;
        return true;
    default:
        return false;
    }
}

bool img_image_check(const ImgImage *image)
{
    if (image->image_opts && image->format) {
        error_report("--image-opts and --format are mutually exclusive");
        return false;
    }
    return true;
}

static void warn_of_a_guess(const ImgImage *image, BlockDriverState *bs)
{
    if (bs->format_guessed && image->writable && !image->quiet) {
        fprintf(stderr,
                "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
                "         Automatically detecting the format is dangerous for raw images, write "
                "operations on block 0 will be restricted.\n"
                "         Specify the 'raw' format explicitly to remove the restrictions.\n",
                bs->filename);
    }
}

static BlockBackend *coroutine_fn make_backend(const ImgImage *image, BlockDriverState *bs,
                                               bool writethrough, Error **errp)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    uint64_t shared =
        image->shared ? image->shared : BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    BlockBackend *blk;

    perm |= image->writable ? BLK_PERM_WRITE : 0;
    perm |= image->resizable ? BLK_PERM_RESIZE : 0;
    blk = blk_new(perm, image->force_share ? BLK_PERM_ALL : shared);
    if (blk_insert_bs(blk, bs, errp) < 0) {
        blk_co_unref(blk);
        return NULL;
    }
    blk_set_enable_write_cache(blk, !writethrough);
    return blk;
}

BlockBackend *coroutine_fn img_co_open(const ImgImage *image, Error **errp)
{
    ERRP_GUARD();
    int mode = find_cache_mode(image->cache ? image->cache : "writeback");
    BlockDriverState *bs;
    BlockBackend *blk = NULL;
    BdrvOpenFileArgs args = {
        .filename = image->filename,
        .is_options = image->image_opts,
        .format = image->format,
        .read_only = !image->writable,
        .cache_direct = cache_modes[mode].direct,
        .cache_no_flush = cache_modes[mode].no_flush,
        .discard_unmap = image->writable,
        .force_share = image->force_share,
        .no_backing = image->no_backing,
        .backing = image->backing,
        .check = image->check,
        .has_aio = image->has_aio,
        .aio = image->aio,
    };

    bs = bdrv_co_open_file(&args, errp);
    if (bs) {
        warn_of_a_guess(image, bs);
        blk = make_backend(image, bs, cache_modes[mode].writethrough, errp);
        bdrv_co_unref(bs);
    }
    if (!blk) {
        error_prepend(errp, "Could not open '%s': ", image->filename);
    }
    return blk;
}

void coroutine_fn img_co_close(BlockBackend *blk)
{
    if (blk) {
        blk_co_remove_bs(blk);
        blk_co_unref(blk);
    }
}
