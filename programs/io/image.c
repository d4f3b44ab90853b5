/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.c - the image that is open
 *
 *      session ─▶ BlockBackend ─▶ [copy-on-read] ─▶ [scratch image] ─▶ the image
 *                                     with -C          with -s
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "block/filters/blkdebug.h"
#include "block/open/open.h"
#include "programs/io/io.h"

/* The format of the scratch image of -s: one that shows what it has not from the image below. */
#define SNAPSHOT_FORMAT "fvd"

bool io_open_option(IoOpen *how, int code, const char *value)
{
    ImgImage *image = &how->image;

    switch (code) {
    case 'r':
        image->writable = false;
        return true;
    case 's':
        how->snapshot = true;
        return true;
    case 'n':
        image->cache = "none";
        return true;
    case 'C':
        how->copy_on_read = true;
        return true;
    case 'U':
        image->force_share = true;
        return true;
    case 'k':
        return img_aio_parse("native", image);
    case 'i':
        return img_aio_parse(value, image);
    case 't':
        image->cache = value;
        if (!img_cache_is_known(value)) {
            error_report("Invalid cache option: %s", value);
            return false;
        }
        return true;
    case 'd':
        return img_discard_parse(value, image);
    default:
        return true;
    }
}

/* A scratch image above @base, whose file goes with it.  Takes the reference to @base. */
static BlockDriverState *coroutine_fn make_snapshot(BlockDriverState *base, Error **errp)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "qblk-io-XXXXXX", NULL);
    BlockDriverState *bs = NULL;
    int fd = g_mkstemp(path);

    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not make a scratch file in '%s'", g_get_tmp_dir());
    } else {
        const BlockCreateArgs create = {.filename = path,
                                        .size = bdrv_getlength(base),
                                        .backing_file = base->filename,
                                        .backing_unsafe = true};
        const BdrvOpenFileArgs args = {.filename = path,
                                       .format = SNAPSHOT_FORMAT,
                                       .backing = base,
                                       .cache_no_flush = true,
                                       .discard_unmap = true};

        close(fd);
        if (bdrv_co_create_image(SNAPSHOT_FORMAT, &create, errp) == 0) {
            bs = bdrv_co_open_file(&args, errp);
        }
        unlink(path);
    }
    bdrv_co_unref(base);
    return bs;
}

/* The filter above @bs.  Takes the reference to @bs. */
static BlockDriverState *coroutine_fn make_copy_on_read(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *filter = NULL;

    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "Can't use copy-on-read on read-only device");
    } else {
        g_autofree char *options = g_strdup_printf("driver=copy-on-read,file=%s", bs->node_name);
        const BdrvOpenFileArgs args = {.options = options, .discard_unmap = true};

        filter = bdrv_co_open_file(&args, errp);
    }
    bdrv_co_unref(bs);
    return filter;
}

static BlockBackend *coroutine_fn open_blk(const IoOpen *how, Error **errp)
{
    const bool snapshot = how->snapshot && how->image.writable;
    ImgImage image = how->image;
    BlockDriverState *bs;
    BlockBackend *blk = NULL;

    image.writable &= !snapshot;
    bs = img_co_open_node(&image, errp);
    if (bs && snapshot) {
        bs = make_snapshot(bs, errp);
    }
    if (bs && how->copy_on_read) {
        bs = make_copy_on_read(bs, errp);
    }
    if (bs) {
        blk = img_co_make_backend(&how->image, bs, errp);
        bdrv_co_unref(bs);
    }
    return blk;
}

int coroutine_fn io_co_open(IoSession *io, const IoOpen *how)
{
    Error *err = NULL;
    const char *name = how->image.image_opts ? NULL : how->image.filename;

    if (io->blk) {
        error_report("file open already, try 'help close'");
        return -EBUSY;
    }
    io->blk = open_blk(how, &err);
    if (!io->blk) {
        error_reportf_err(err,
                          name ? "can't open device %s: " : "can't open%s: ", name ? name : "");
        return -EINVAL;
    }
    io->opened = *how;
    return 0;
}

void coroutine_fn io_co_close(IoSession *io)
{
    if (io->blk) {
        BlockDriverState *debug = blkdebug_find_below(blk_bs(io->blk));

        if (debug) {
            blkdebug_let_all_go(debug); /* nobody could any more */
        }
        io_co_wait_idle(io);
        img_co_close(io->blk);
        io->blk = NULL;
    }
}
