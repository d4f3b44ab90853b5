/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What there is to say about an image.
 *
 * Asking a driver for the size on disk or for its clusters is I/O and may yield, in the node's own thread.
 */
#include "block/image/info.h"

#include "block/io/io.h"
#include "block/open/open.h"
#include "util/osdep.h"

/* What a driver must be asked for. */
typedef struct Answers {
    int64_t allocated_bytes; /* negative: the driver does not know */
    bool has_info;
    BlockDriverInfo info;
    ImageInfoSpecific *specific; /* NULL: nothing */
} Answers;

static void coroutine_fn ask_driver(BlockDriverState *bs, Answers *ret)
{
    AioContext *here = qemu_get_current_aio_context(), *home = bdrv_get_aio_context(bs);
    const BlockDriverImage *image = bs->drv->image;

    bdrv_inc_in_flight(bs);
    if (home != here) {
        aio_co_reschedule_self(home);
    }
    ret->allocated_bytes = bdrv_co_get_allocated_file_size(bs);
    ret->has_info = bdrv_co_get_info(bs, &ret->info) == 0;
    if (image && image->co_get_specific_info) {
        ret->specific = image->co_get_specific_info(bs, NULL);
    }
    if (home != here) {
        aio_co_reschedule_self(here);
    }
    bdrv_dec_in_flight(bs);
}

static void set_backing_names(BlockDriverState *bs, ImageInfo *info)
{
    BlockDriverState *backing = bdrv_backing_chain_next(bs);
    const char *name = bs->backing_file ? bs->backing_file : backing ? backing->filename : NULL;

    if (!name) {
        return;
    }
    info->backing_filename = g_strdup(name);
    info->full_backing_filename =
        backing ? image_name(backing) : bdrv_path_beside(bs->filename, name);
    info->backing_filename_format = g_strdup(bs->backing_format);
}

ImageInfo *coroutine_fn image_co_info(BlockDriverState *bs, bool flat)
{
    ImageInfo *info = g_new0(ImageInfo, 1);
    BlockDriverState *backing;
    Answers answers = {0};

    ask_driver(bs, &answers);
    info->filename = image_name(bs);
    info->format = g_strdup(bs->drv->format_name);
    info->virtual_size = MAX(bdrv_getlength(bs), 0);
    info->has_actual_size = answers.allocated_bytes >= 0;
    info->actual_size = answers.allocated_bytes;
    if (answers.has_info) {
        info->has_cluster_size = answers.info.cluster_size > 0;
        info->cluster_size = answers.info.cluster_size;
        info->has_dirty_flag = true;
        info->dirty_flag = answers.info.is_dirty;
    }
    info->has_encrypted = info->encrypted = bs->encrypted;
    info->format_specific = answers.specific;
    set_backing_names(bs, info);
    backing = bdrv_backing_chain_next(bs);
    if (!flat && backing) {
        info->backing_image = image_co_info(backing, false);
    }
    return info;
}
