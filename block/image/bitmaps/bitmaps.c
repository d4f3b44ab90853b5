/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bitmaps.c - the persistent dirty bitmaps of an image, copied into another that shows the same
 *
 * A room inside the room: what has been copied is no disk, and needs neither memory pool nor team.
 */
#include "block/image/bitmaps.h"
#include <errno.h>
#include "block/dirty/dirty-bitmap.h"
#include "util/osdep.h"

int image_check_bitmaps(BlockDriverState *source, bool skip_broken, Error **errp)
{
    BdrvDirtyBitmap *bitmap = NULL;

    if (!source->drv->bitmaps) {
        error_setg(errp, "Source lacks bitmap support");
        return -ENOTSUP;
    }
    while (!skip_broken && (bitmap = bdrv_dirty_bitmap_next(source, bitmap))) {
        if (bdrv_dirty_bitmap_get_persistence(bitmap) && bdrv_dirty_bitmap_inconsistent(bitmap)) {
            error_setg(errp, "Cannot copy inconsistent bitmap '%s'",
                       bdrv_dirty_bitmap_name(bitmap));
            error_append_hint(errp, "Try --skip-broken-bitmaps\n");
            return -EINVAL;
        }
    }
    return 0;
}

static int copy_one(const BdrvDirtyBitmap *from, BlockDriverState *target, Error **errp)
{
    const char *name = bdrv_dirty_bitmap_name(from);
    uint32_t granularity = bdrv_dirty_bitmap_granularity(from);
    BdrvDirtyBitmap *to;
    ERRP_GUARD();
    int ret;

    to = bdrv_create_dirty_bitmap(target, granularity, name, errp);
    if (!to) {
        error_prepend(errp, "Failed to create bitmap %s: ", name);
        return -EINVAL;
    }
    bdrv_disable_dirty_bitmap(to);
    ret = target->drv->bitmaps->can_store(target, name, granularity, errp);
    if (ret == 0 && !bdrv_merge_dirty_bitmap(to, from, NULL, errp)) {
        ret = -EINVAL;
    }
    if (ret < 0) {
        error_prepend(errp, "Failed to populate bitmap %s: ", name);
        bdrv_release_dirty_bitmap(to);
        return ret;
    }
    if (bdrv_dirty_bitmap_recording(from)) {
        bdrv_enable_dirty_bitmap(to);
    }
    bdrv_dirty_bitmap_set_persistence(to, true);
    return 0;
}

int image_copy_bitmaps(BlockDriverState *source, BlockDriverState *target,
                       void (*skipped)(const char *name), Error **errp)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    BdrvDirtyBitmap *bitmap = NULL;

    if (!target->drv->bitmaps) {
        error_setg(errp, "Format driver '%s' does not support bitmaps", target->drv->format_name);
        return -ENOTSUP;
    }
    while ((bitmap = bdrv_dirty_bitmap_next(source, bitmap))) {
        if (bdrv_dirty_bitmap_get_persistence(bitmap)) {
            g_ptr_array_add(found, bitmap);
        }
    }
    for (unsigned i = found->len; i-- > 0;) { /* each goes to the head of the target's list */
        bitmap = found->pdata[i];
        if (bdrv_dirty_bitmap_inconsistent(bitmap)) {
            skipped(bdrv_dirty_bitmap_name(bitmap));
        } else if (copy_one(bitmap, target, errp) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}
