/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.c - the image, as the options want it shown
 *
 *      export ─▶ [raw, with -o] ─▶ [scratch image, with -s] ─▶ the image
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "block/open/open.h"
#include "programs/nbd/nbd.h"

/* The format of the scratch image: one that shows what it has not from the image below. */
#define SCRATCH_FORMAT "fvd"

static BlockDriverState *coroutine_fn make_scratch(const char *path, BlockDriverState *base,
                                                   Error **errp)
{
    const BlockCreateArgs create = {
        .filename = path,
        .size = bdrv_getlength(base),
        .backing_file = base->filename,
        .backing_unsafe = true, /* it is the node that we have */
        .has_backing_size = true,
        .backing_size = bdrv_getlength(base),
    };
    const BdrvOpenFileArgs open = {
        .filename = path,
        .format = SCRATCH_FORMAT,
        .backing = base,
        .cache_no_flush = true,
        .discard_unmap = true,
    };

    if (create.size < 0) {
        error_setg_errno(errp, (int)-create.size, "Could not get the size of the image");
        return NULL;
    }
    return bdrv_co_create_image(SCRATCH_FORMAT, &create, errp) == 0 ? bdrv_co_open_file(&open, errp)
                                                                    : NULL;
}

/* A scratch image above @base, whose file goes with it.  Takes the reference to @base. */
static BlockDriverState *coroutine_fn put_scratch_above(BlockDriverState *base, Error **errp)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "qblk-nbd-XXXXXX", NULL);
    BlockDriverState *bs = NULL;
    int fd = g_mkstemp(path);

    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not make a scratch file in '%s'", g_get_tmp_dir());
    } else {
        close(fd);
        bs = make_scratch(path, base, errp);
        unlink(path);
    }
    bdrv_co_unref(base);
    return bs;
}

/* Takes the reference to @bs. */
static BlockDriverState *coroutine_fn put_window_above(BlockDriverState *bs, int64_t offset,
                                                       bool read_only, Error **errp)
{
    g_autofree char *options =
        g_strdup_printf("driver=raw,offset=%" PRId64 ",file=%s", offset, bdrv_get_node_name(bs));
    BdrvOpenFileArgs open = {
        .filename = options,
        .is_options = true,
        .read_only = read_only,
        .discard_unmap = true,
    };
    BlockDriverState *window = bdrv_co_open_file(&open, errp);

    bdrv_co_unref(bs);
    return window;
}

static BlockDriverState *coroutine_fn open_named(const NbdOptions *o, Error **errp)
{
    ERRP_GUARD();
    ImgImage image = o->image;
    BlockDriverState *bs;

    image.writable &= !o->snapshot;
    bs = img_co_open_node(&image, errp);
    if (!bs) {
        error_prepend(errp, "Failed to blk_new_open '%s': ", image.filename);
        return NULL;
    }
    if (o->load_snapshot) {
        error_setg(errp,
                   "Failed to load snapshot: Block format '%s' used by device '' does not support "
                   "temporarily loading internal snapshots",
                   bs->drv->format_name);
        bdrv_co_unref(bs);
        return NULL;
    }
    return bs;
}

BlockDriverState *coroutine_fn nbd_co_open_image(const NbdOptions *o, Error **errp)
{
    BlockDriverState *bs = open_named(o, errp);

    if (bs && o->snapshot) {
        bs = put_scratch_above(bs, errp);
    }
    if (bs) {
        bs->detect_zeroes = o->detect_zeroes;
    }
    if (bs && o->offset > 0) {
        bs = put_window_above(bs, o->offset, !o->image.writable, errp);
    }
    return bs;
}
