/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The successor of a frozen bitmap.
 *
 * It is a second set of bits behind the same observer: freezing and thawing never touch the node's
 * list of observers, so they need no quiesce for the list's sake.  The moment of the freeze still
 * decides which writes the job covers, so a job freezes while the node is quiesced.
 */
#include "block/dirty/dirty-int.h"
#include "util/osdep.h"

int bdrv_dirty_bitmap_create_successor(BdrvDirtyBitmap *bitmap, Error **errp)
{
    int ret = bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_BUSY, errp);

    if (ret < 0) {
        return ret;
    }
    assert(!bitmap->successor); /* DB5: it would be busy */
    dirty_bitmap_lock(bitmap);
    bitmap->successor =
        hbitmap_alloc(hbitmap_size(bitmap->bits), hbitmap_granularity(bitmap->bits));
    dirty_bitmap_unlock(bitmap);
    bitmap->busy = true; /* DB5 */
    return 0;
}

static bool check_has_successor(const BdrvDirtyBitmap *bitmap, Error **errp)
{
    if (!bitmap->successor) {
        error_setg(errp, "Bitmap '%s' has no successor", bitmap->name ? bitmap->name : "");
        return false;
    }
    assert(bitmap->busy);
    return true;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_abdicate(BdrvDirtyBitmap *bitmap, Error **errp)
{
    HBitmap *old;

    if (!check_has_successor(bitmap, errp)) {
        return NULL;
    }
    dirty_bitmap_lock_to_change(bitmap);
    old = bitmap->bits;
    bitmap->bits = bitmap->successor;
    bitmap->successor = NULL;
    dirty_bitmap_unlock(bitmap);
    hbitmap_free(old);
    bitmap->busy = false;
    return bitmap;
}

BdrvDirtyBitmap *bdrv_reclaim_dirty_bitmap(BdrvDirtyBitmap *bitmap, Error **errp)
{
    HBitmap *successor;

    if (!check_has_successor(bitmap, errp)) {
        return NULL;
    }
    dirty_bitmap_lock_to_change(bitmap);
    successor = bitmap->successor;
    hbitmap_merge(bitmap->bits, successor, bitmap->bits);
    bitmap->successor = NULL;
    dirty_bitmap_unlock(bitmap);
    hbitmap_free(successor);
    bitmap->busy = false;
    return bitmap;
}

bool bdrv_dirty_bitmap_has_successor(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->successor;
}
