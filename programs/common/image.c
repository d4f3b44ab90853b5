/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.c - images by their names
 *
 * As QEMU's tools do, what was guessed to be raw and is going to be written is warned of.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/open/open.h"
#include "programs/common/image.h"
#include "qapi/type.h"
#include "util/osdep.h"

static const struct {
    const char *word;
    ImgCache cache;
} cache_modes[] = {
    {"none", {.direct = true}},
    {"directsync", {.direct = true, .writethrough = true}},
    {"writeback", {0}},
    {"unsafe", {.no_flush = true}},
    {"writethrough", {.writethrough = true}},
    {"off", {.direct = true}},
};

bool img_cache_parse(const char *word, ImgCache *ret)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cache_modes); i++) {
        if (!strcmp(cache_modes[i].word, word)) {
            *ret = cache_modes[i].cache;
            return true;
        }
    }
    return false;
}

bool img_cache_is_known(const char *word)
{
    ImgCache cache;

    return img_cache_parse(word, &cache);
}

bool img_aio_parse(const char *word, ImgImage *image)
{
    int aio = qapi_enum_parse(&BlockdevAioOptions_lookup, word, -1, NULL);

    if (aio < 0) {
        error_report("Invalid aio option: %s", word);
        return false;
    }
    image->has_aio = true;
    image->aio = (BlockdevAioOptions)aio;
    return true;
}

bool img_discard_parse(const char *word, ImgImage *image)
{
    bool unmap = !strcmp(word, "unmap") || !strcmp(word, "on");

    if (!unmap && strcmp(word, "ignore") && strcmp(word, "off")) {
        error_report("Invalid discard option: %s", word);
        return false;
    }
    image->keep_discarded = !unmap;
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

static ImgCache cache_of(const ImgImage *image)
{
    ImgCache cache = {0};
    bool known = img_cache_parse(image->cache ? image->cache : "writeback", &cache);

    assert(known);
    return cache;
}

BlockDriverState *coroutine_fn img_co_open_node(const ImgImage *image, Error **errp)
{
    const ImgCache cache = cache_of(image);
    BlockDriverState *bs;
    BdrvOpenFileArgs args = {
        .filename = image->filename,
        .options = image->options,
        .is_options = image->image_opts,
        .format = image->format,
        .read_only = !image->writable,
        .cache_direct = cache.direct,
        .cache_no_flush = cache.no_flush,
        .discard_unmap = image->writable && !image->keep_discarded,
        .force_share = image->force_share,
        .no_backing = image->no_backing,
        .backing = image->backing,
        .check = image->check,
        .no_io = image->no_io,
        .has_aio = image->has_aio,
        .aio = image->aio,
    };

    bs = bdrv_co_open_file(&args, errp);
    if (bs) {
        warn_of_a_guess(image, bs);
    }
    return bs;
}

BlockBackend *coroutine_fn img_co_make_backend(const ImgImage *image, BlockDriverState *bs,
                                               Error **errp)
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
    blk_set_enable_write_cache(blk, !cache_of(image).writethrough);
    return blk;
}

BlockBackend *coroutine_fn img_co_open(const ImgImage *image, Error **errp)
{
    ERRP_GUARD();
    BlockDriverState *bs = img_co_open_node(image, errp);
    BlockBackend *blk = NULL;

    if (bs) {
        blk = img_co_make_backend(image, bs, errp);
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
