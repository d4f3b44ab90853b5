/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps: which parts of a node were written since some moment.
 *
 *      guest write                              a backup, a mirror
 *           |                                        |
 *           v                                        | next_dirty, reset
 *     [ io room ] -- driver -- (done or failed)      |
 *           |                                        v
 *           +-- write observer --> lock --> +------------------+
 *                                           | bits             |  frozen while a job reads it
 *                                           | successor (NULL) |  takes the marks meanwhile
 *                                           +------------------+
 *
 *      create_successor            abdicate: bits := successor      (the job succeeded)
 *   bits ------------> bits + successor
 *                                  reclaim:  bits := bits|successor (it did not)
 *
 * DB1  A write is marked before it is acknowledged, also when it failed: nobody knows then what is
 *      on the disk.
 * DB2  Bits are touched under the bitmap's lock, and the lock is held for one HBitmap call: marks
 *      come from the home AioContext of the node, commands from the main thread.  The lock says
 *      nothing about the order of a mark and a command; who needs that quiesces the node.
 * DB3  The observer hangs on the node exactly as long as the bitmap lives; a node that is closed
 *      takes its bitmaps with it.
 * DB4  bits, successor and node have one size, which changes only while the node is quiesced.
 * DB5  A bitmap with a successor is busy: whoever is not the job that froze it is refused.
 *
 * bits.c has the reading and changing of bits, successor.c DB5.
 */
#include <string.h>
#include "block/dirty/dirty-int.h"
#include "util/osdep.h"

/* One bit a sector at the finest: writes are no smaller.  (At the coarsest, what 32 bits hold: 2 GiB.) */
#define GRANULARITY_MIN 512u

/* DB1 */
static void observer_written(BdrvWriteObserver *obs, int64_t offset, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap = container_of(obs, BdrvDirtyBitmap, observer);
    HBitmap *marks;
    int64_t size;

    dirty_bitmap_lock(bitmap);
    marks = bitmap->successor ? bitmap->successor : bitmap->bits;
    size = hbitmap_size(marks);
    if (!bitmap->disabled && offset < size && bytes > 0) {
        hbitmap_set(marks, offset, MIN(bytes, size - offset));
        bitmap->unsaved = true;
    }
    dirty_bitmap_unlock(bitmap);
}

/* DB4 */
static void observer_resized(BdrvWriteObserver *obs, int64_t new_length)
{
    BdrvDirtyBitmap *bitmap = container_of(obs, BdrvDirtyBitmap, observer);

    dirty_bitmap_lock_to_change(bitmap);
    hbitmap_truncate(bitmap->bits, new_length);
    if (bitmap->successor) {
        hbitmap_truncate(bitmap->successor, new_length);
    }
    dirty_bitmap_unlock(bitmap);
}

static void bitmap_free(BdrvDirtyBitmap *bitmap)
{
    QLIST_REMOVE(bitmap, list);
    hbitmap_free(bitmap->bits);
    if (bitmap->successor) {
        hbitmap_free(bitmap->successor);
    }
    g_mutex_clear(&bitmap->lock);
    g_free(bitmap->name);
    g_free(bitmap);
}

/* DB3 */
static void observer_node_closed(BdrvWriteObserver *obs)
{
    bitmap_free(container_of(obs, BdrvDirtyBitmap, observer));
}

static bool name_is_acceptable(BlockDriverState *bs, const char *name, Error **errp)
{
    if (!*name) {
        error_setg(errp, "Bitmap name cannot be empty");
        return false;
    }
    if (strlen(name) > BDRV_DIRTY_NAME_MAX) {
        error_setg(errp, "Bitmap name too long: %s", name);
        return false;
    }
    if (bdrv_find_dirty_bitmap(bs, name)) {
        error_setg(errp, "Bitmap already exists: %s", name);
        return false;
    }
    return true;
}

BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs, uint32_t granularity,
                                          const char *name, Error **errp)
{
    BdrvDirtyBitmap *bitmap;
    int64_t size;

    if (!granularity) {
        granularity = BDRV_DIRTY_GRANULARITY_DEFAULT;
    }
    if (!is_power_of_2(granularity) || granularity < GRANULARITY_MIN) {
        error_setg(errp, "Granularity must be power of 2 and at least %u", GRANULARITY_MIN);
        return NULL;
    }
    if (name && !name_is_acceptable(bs, name, errp)) {
        return NULL;
    }
    size = bdrv_getlength(bs);
    if (size < 0) {
        error_setg_errno(errp, -size, "Could not get length of node '%s'", bdrv_get_node_name(bs));
        return NULL;
    }

    bitmap = g_new0(BdrvDirtyBitmap, 1);
    bitmap->bs = bs;
    bitmap->name = g_strdup(name);
    bitmap->granularity = granularity;
    bitmap->unsaved = true;
    g_mutex_init(&bitmap->lock);
    bitmap->bits = hbitmap_alloc(size, ctz32(granularity));
    bitmap->observer.written = observer_written;
    bitmap->observer.resized = observer_resized;
    bitmap->observer.node_closed = observer_node_closed;
    QLIST_INSERT_HEAD(&bs->dirty_bitmaps, bitmap, list);
    bdrv_add_write_observer(bs, &bitmap->observer);
    return bitmap;
}

void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    assert(!bitmap->busy);
    assert(!bitmap->successor);
    bdrv_remove_write_observer(&bitmap->observer);
    bitmap_free(bitmap);
}

void bdrv_release_all_dirty_bitmaps(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap, *next;

    QLIST_FOREACH_SAFE (bitmap, &bs->dirty_bitmaps, list, next) {
        bdrv_release_dirty_bitmap(bitmap);
    }
}

BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs, const char *name)
{
    BdrvDirtyBitmap *bitmap;

    QLIST_FOREACH (bitmap, &bs->dirty_bitmaps, list) {
        if (bitmap->name && strcmp(bitmap->name, name) == 0) {
            return bitmap;
        }
    }
    return NULL;
}

BdrvDirtyBitmap *bdrv_lookup_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bs, name);

    if (!bitmap) {
        error_setg(errp, "Dirty bitmap '%s' not found", name);
    }
    return bitmap;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_next(BlockDriverState *bs, BdrvDirtyBitmap *bitmap)
{
    return bitmap ? QLIST_NEXT(bitmap, list) : QLIST_FIRST(&bs->dirty_bitmaps);
}

const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->name;
}

BlockDriverState *bdrv_dirty_bitmap_bs(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->bs;
}

uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->granularity;
}

int bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, uint32_t flags, Error **errp)
{
    const char *name = bitmap->name ? bitmap->name : "";

    if ((flags & BDRV_BITMAP_BUSY) && bitmap->busy) { /* DB5 */
        error_setg(errp, "Bitmap '%s' is currently in use by another operation and cannot be used",
                   name);
        return -EBUSY;
    }
    if ((flags & BDRV_BITMAP_RO) && bitmap->readonly) {
        error_setg(errp, "Bitmap '%s' is readonly and cannot be modified", name);
        return -EROFS;
    }
    if ((flags & BDRV_BITMAP_INCONSISTENT) && bitmap->inconsistent) {
        error_setg(errp, "Bitmap '%s' is inconsistent and cannot be used", name);
        error_append_hint(errp, "Try block-dirty-bitmap-remove to delete this bitmap from disk\n");
        return -EINVAL;
    }
    return 0;
}

void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy)
{
    assert(bitmap->busy != busy);
    assert(!bitmap->successor);
    bitmap->busy = busy;
}

bool bdrv_dirty_bitmap_busy(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->busy;
}

static void set_disabled(BdrvDirtyBitmap *bitmap, bool disabled)
{
    assert(!bitmap->successor);
    dirty_bitmap_lock(bitmap);
    bitmap->unsaved |= bitmap->disabled != disabled;
    bitmap->disabled = disabled;
    dirty_bitmap_unlock(bitmap);
}

void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    set_disabled(bitmap, false);
}

void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    set_disabled(bitmap, true);
}

bool bdrv_dirty_bitmap_enabled(const BdrvDirtyBitmap *bitmap)
{
    return !bitmap->disabled && !bitmap->successor;
}

bool bdrv_dirty_bitmap_recording(const BdrvDirtyBitmap *bitmap)
{
    return !bitmap->disabled;
}

void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool persistent)
{
    bitmap->persistent = persistent;
}

bool bdrv_dirty_bitmap_get_persistence(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->persistent;
}

void bdrv_dirty_bitmap_set_readonly(BdrvDirtyBitmap *bitmap, bool readonly)
{
    bitmap->readonly = readonly;
}

bool bdrv_dirty_bitmap_readonly(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->readonly;
}

void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap)
{
    assert(!bitmap->busy);
    dirty_bitmap_lock_to_change(bitmap);
    bitmap->inconsistent = true;
    dirty_bitmap_unlock(bitmap);
    bdrv_disable_dirty_bitmap(bitmap);
}

bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->inconsistent;
}

bool bdrv_dirty_bitmap_unsaved(const BdrvDirtyBitmap *bitmap)
{
    bool unsaved;

    dirty_bitmap_lock(bitmap);
    unsaved = bitmap->unsaved;
    dirty_bitmap_unlock(bitmap);
    return unsaved;
}

void bdrv_dirty_bitmap_set_saved(BdrvDirtyBitmap *bitmap)
{
    dirty_bitmap_lock(bitmap);
    bitmap->unsaved = false;
    dirty_bitmap_unlock(bitmap);
}
