/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * commit.c - qblk-img commit: writes what an image holds into its backing file
 *
 * Backing files are opened to be read.  So the chain is opened twice: once to learn its names, and then from the
 * base upward, with a base that can be written.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image/info.h"
#include "block/open/open.h"
#include "programs/img/commands.h"
#include "programs/img/data/data.h"
#include "util/cutils.h"

typedef struct Commit {
    ImgImage image;
    const char *base; /* NULL: the backing file */
    bool drop, quiet, progress;
    int64_t rate;
} Commit;

/* A layer below the image, as it is opened by its name. */
typedef struct Layer {
    char *name;
    const char *format; /* NULL: the name says it */
    BlockBackend *blk;
} Layer;

static const ImgOption options[] = {
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    IMG_OPTION_CACHE('t'),
    {'b', "base", "FILENAME", "the file of the chain to commit into (the backing file); with -d"},
    {'d', "drop", NULL, "do not empty the image: it will be dropped"},
    {'r', "rate", "RATE", "no more bytes a second than this"},
    IMG_OPTION_QUIET,
    IMG_OPTION_PROGRESS,
    {0},
};

static bool is_same_path(const char *a, const char *b)
{
    char *p = realpath(a, NULL), *q = realpath(b, NULL);
    bool same = !strcmp(a, b) || (p && q && !strcmp(p, q));

    free(p);
    free(q);
    return same;
}

/* Is @bs what the user calls @name: its path, or what the layer above calls it? */
static bool is_called(const BlockDriverState *above, BlockDriverState *bs, const char *name)
{
    g_autofree char *own = image_name(bs);

    return !strcmp(own, name) || is_same_path(bs->filename, name) ||
           (above->backing_file && !strcmp(above->backing_file, name));
}

static void free_layer(void *opaque)
{
    Layer *layer = opaque;

    g_free(layer->name);
    g_free(layer);
}

/* The layers below @top, down to the base; NULL with @errp. */
static GPtrArray *learn_layers(const Commit *commit, BlockDriverState *top, Error **errp)
{
    GPtrArray *layers = g_ptr_array_new_with_free_func(free_layer);
    BlockDriverState *above = bdrv_skip_filters(top);

    for (BlockDriverState *bs = bdrv_backing_chain_next(top); bs;
         above = bs, bs = bdrv_backing_chain_next(bs)) {
        Layer *layer = g_new0(Layer, 1);

        layer->name = image_name(bs);
        layer->format = strstart(layer->name, "json:", NULL) ? NULL : bs->drv->format_name;
        g_ptr_array_add(layers, layer);
        if (!commit->base || is_called(above, bs, commit->base)) {
            return layers;
        }
    }
    if (!commit->base) {
        error_setg(errp, "Image does not have a backing file");
    } else {
        error_setg(errp, "Did not find '%s' in the backing chain of '%s'", commit->base,
                   commit->image.filename);
    }
    g_ptr_array_unref(layers);
    return NULL;
}

/* From the base, which is the last, upward. */
static int coroutine_fn open_layers(const Commit *commit, GPtrArray *layers, Error **errp)
{
    for (guint i = layers->len; i-- > 0;) {
        Layer *layer = g_ptr_array_index(layers, i);
        bool is_base = i + 1 == layers->len;
        ImgImage image = {
            .filename = layer->name,
            .format = layer->format,
            .cache = commit->image.cache,
            .writable = is_base,
            .resizable = is_base,
            .quiet = true,
            .shared = BLK_PERM_ALL,
        };

        if (!is_base) {
            image.backing = blk_bs(((Layer *)g_ptr_array_index(layers, i + 1))->blk);
        }
        layer->blk = img_co_open(&image, errp);
        if (!layer->blk) {
            return -EINVAL;
        }
    }
    return 0;
}

static int coroutine_fn commit_into(Commit *commit, GPtrArray *layers, Error **errp)
{
    Layer *next = g_ptr_array_index(layers, 0), *base = g_ptr_array_index(layers, layers->len - 1);
    ImgImage image = commit->image;
    ImageCommitArgs args = {
        .base = base->blk,
        .make_empty = !commit->drop,
        .bytes_per_second = (uint64_t)commit->rate,
        .watch = img_image_watch(),
    };
    int ret;

    image.writable = args.make_empty;
    image.backing = blk_bs(next->blk);
    image.shared = BLK_PERM_ALL;
    args.top = img_co_open(&image, errp);
    if (!args.top) {
        return -EINVAL;
    }
    ret = image_co_commit(&args, errp);
    img_co_close(args.top);
    return ret;
}

static int coroutine_fn commit_all(Commit *commit, Error **errp)
{
    BlockBackend *blk = img_co_open(&commit->image, errp);
    GPtrArray *layers;
    int ret;

    if (!blk) {
        return -EINVAL;
    }
    layers = learn_layers(commit, blk_bs(blk), errp);
    img_co_close(blk);
    if (!layers) {
        return -EINVAL;
    }
    ret = open_layers(commit, layers, errp);
    if (ret == 0) {
        ret = commit_into(commit, layers, errp);
    }
    for (guint i = 0; i < layers->len; i++) {
        img_co_close(((Layer *)g_ptr_array_index(layers, i))->blk);
    }
    g_ptr_array_unref(layers);
    return ret;
}

static int coroutine_fn commit_co(void *opaque)
{
    Commit *commit = opaque;
    Error *err = NULL;
    int ret;

    img_progress_begin(commit->progress);
    ret = commit_all(commit, &err);
    img_progress_end();
    if (ret < 0 && !img_interrupted()) {
        error_report_err(err);
    } else if (ret < 0) {
        error_free(err);
    } else if (!commit->quiet) {
        printf("Image committed.\n");
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static bool take_option(Commit *commit, int c, const char *value)
{
    switch (c) {
    case 't':
        commit->image.cache = value;
        return true;
    case 'b':
        commit->base = value;
        commit->drop = true; /* what is between would not fit to what is below any more */
        return true;
    case 'd':
        commit->drop = true;
        return true;
    case 'r':
        return img_parse_size("rate limit", value, 0, INT64_MAX, &commit->rate);
    case 'q':
        commit->quiet = true;
        return true;
    case 'p':
        commit->progress = true;
        return true;
    default:
        return img_image_option(&commit->image, c, value);
    }
}

static int commit_run(ImgArgs *args)
{
    Commit commit = {0};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        }
        if (!take_option(&commit, c, value)) {
            return EXIT_FAILURE;
        }
    }
    commit.progress = commit.progress && !commit.quiet;
    if (img_args_operand_count(args) != 1) {
        return img_args_error(args, "Expecting one image file name");
    }
    commit.image.filename = img_args_operand(args, 0);
    if (!img_image_check(&commit.image)) {
        return EXIT_FAILURE;
    }
    if (commit.image.cache && !img_cache_is_known(commit.image.cache)) {
        error_report("Invalid cache option: %s", commit.image.cache);
        return EXIT_FAILURE;
    }
    return img_run(commit_co, &commit);
}

const ImgCommand img_commit = {
    .name = "commit",
    .summary = "Write what an image holds into its backing file",
    .operands = "FILENAME",
    .options = options,
    .run = commit_run,
};
