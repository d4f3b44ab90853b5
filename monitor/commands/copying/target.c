/* SPDX-License-Identifier: GPL-2.0-or-later */
/* target.c - the file that drive-backup and drive-mirror copy into */
#include "monitor/commands/copying/target.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "block/open/open.h"

/*
 * Making an image empties the file first.  A file that a node of ours has open must not be emptied,
 * whatever path leads to it.
 */
static int check_unused(const char *filename, Error **errp)
{
    struct stat target, other;

    if (stat(filename, &target) < 0) {
        return 0; /* not there, or not a path: creating it will tell */
    }
    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        if (bs->drv && bs->drv->is_protocol && stat(bs->filename, &other) == 0 &&
            other.st_dev == target.st_dev && other.st_ino == target.st_ino) {
            error_setg(errp, "Target '%s' is in use: node '%s' has it open", filename,
                       bdrv_get_node_name(bs));
            return -EBUSY;
        }
    }
    return 0;
}

BlockDriverState *new_target_backing(BlockDriverState *source, MirrorSyncMode sync)
{
    switch (sync) {
    case MIRROR_SYNC_MODE_NONE:
        return source;
    case MIRROR_SYNC_MODE_TOP:
        return bdrv_backing_chain_next(source);
    default:
        return NULL;
    }
}

const char *new_target_format(BlockDriverState *bs)
{
    const BlockDriver *drv = bdrv_skip_filters(bs)->drv;

    return drv->is_protocol ? "raw" : drv->format_name;
}

/* The name that the new image will know the backing file by: the image may be in another folder. */
static char *absolute_name(const char *filename)
{
    return strchr(filename, ':') ? g_strdup(filename) : g_canonicalize_filename(filename, NULL);
}

int coroutine_fn new_target_co_create(const NewTarget *target, Error **errp)
{
    BlockDriver *drv = bdrv_find_format(target->format);
    BlockCreateArgs create = {.filename = target->filename, .size = bdrv_getlength(target->source)};
    g_autofree char *backing = NULL;

    if (create.size < 0) {
        error_setg_errno(errp, -create.size, "Unable to get length for '%s'",
                         bdrv_get_device_or_node_name(target->source));
        return create.size;
    }
    if (!drv) {
        error_setg(errp, "Unknown file format '%s'", target->format);
        return -ENOENT;
    }
    if (!drv->image || !drv->image->co_create) {
        error_setg(errp, "Format driver '%s' does not support image creation", target->format);
        return -ENOTSUP;
    }
    if (target->backing) {
        if (!drv->supports_backing) {
            error_setg(errp, "Backing file not supported for file format '%s'", target->format);
            return -ENOTSUP;
        }
        backing = absolute_name(bdrv_skip_filters(target->backing)->filename);
        create.backing_file = backing;
        create.backing_format = new_target_format(target->backing);
        /* It is open here, and may be written to: it cannot be opened again to be asked. */
        create.backing_size = bdrv_getlength(target->backing);
        create.has_backing_size = create.backing_size >= 0;
    }
    if (check_unused(target->filename, errp) < 0) {
        return -EBUSY;
    }
    return bdrv_co_create_image(target->format, &create, errp);
}

BlockDriverState *coroutine_fn new_target_co_open(const NewTarget *target, Error **errp)
{
    BdrvOpenFileArgs args = {
        .filename = target->filename,
        .format = target->format,
        .node_name = target->node_name,
        .cache_direct = target->source->open_flags & BDRV_O_NOCACHE,
        .cache_no_flush = target->source->open_flags & BDRV_O_NO_FLUSH,
        .discard_unmap = target->source->open_flags & BDRV_O_UNMAP,
        .no_backing = target->no_backing,
        .backing = target->no_backing ? NULL : target->backing,
    };

    return bdrv_co_open_file(&args, errp);
}
