/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bits of a bitmap: reading, changing, merging, each under the lock (DB2). */
#include <inttypes.h>
#include <string.h>
#include "block/dirty/dirty-int.h"
#include "util/osdep.h"

int64_t bdrv_dirty_bitmap_size(const BdrvDirtyBitmap *bitmap)
{
    int64_t size;

    dirty_bitmap_lock(bitmap);
    size = hbitmap_size(bitmap->bits);
    dirty_bitmap_unlock(bitmap);
    return size;
}

bool bdrv_dirty_bitmap_get(BdrvDirtyBitmap *bitmap, int64_t offset)
{
    bool dirty;

    dirty_bitmap_lock(bitmap);
    dirty = offset < (int64_t)hbitmap_size(bitmap->bits) && hbitmap_get(bitmap->bits, offset);
    dirty_bitmap_unlock(bitmap);
    return dirty;
}

int64_t bdrv_get_dirty_count(BdrvDirtyBitmap *bitmap)
{
    int64_t count;

    dirty_bitmap_lock(bitmap);
    count = hbitmap_count(bitmap->bits);
    dirty_bitmap_unlock(bitmap);
    return count;
}

void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    dirty_bitmap_lock_to_change(bitmap);
    hbitmap_set(bitmap->bits, offset, bytes);
    dirty_bitmap_unlock(bitmap);
}

void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    dirty_bitmap_lock_to_change(bitmap);
    hbitmap_reset(bitmap->bits, offset, bytes);
    dirty_bitmap_unlock(bitmap);
}

void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup)
{
    dirty_bitmap_lock_to_change(bitmap);
    if (backup) {
        *backup = bitmap->bits;
        bitmap->bits = hbitmap_alloc(hbitmap_size(*backup), hbitmap_granularity(*backup));
    } else {
        hbitmap_reset_all(bitmap->bits);
    }
    dirty_bitmap_unlock(bitmap);
}

void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup)
{
    HBitmap *dropped;

    dirty_bitmap_lock_to_change(bitmap);
    dropped = bitmap->bits;
    hbitmap_truncate(backup, hbitmap_size(dropped)); /* DB4 */
    bitmap->bits = backup;
    dirty_bitmap_unlock(bitmap);
    hbitmap_free(dropped);
}

int64_t bdrv_dirty_bitmap_next_dirty(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    int64_t found;

    dirty_bitmap_lock(bitmap);
    found = hbitmap_next_dirty(bitmap->bits, offset, bytes);
    dirty_bitmap_unlock(bitmap);
    return found;
}

int64_t bdrv_dirty_bitmap_next_zero(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    int64_t found;

    dirty_bitmap_lock(bitmap);
    found = hbitmap_next_zero(bitmap->bits, offset, bytes);
    dirty_bitmap_unlock(bitmap);
    return found;
}

bool bdrv_dirty_bitmap_next_dirty_area(BdrvDirtyBitmap *bitmap, int64_t start, int64_t end,
                                       int64_t max_dirty_bytes, int64_t *dirty_start,
                                       int64_t *dirty_bytes)
{
    bool found;

    dirty_bitmap_lock(bitmap);
    found = hbitmap_next_dirty_area(bitmap->bits, start, end, max_dirty_bytes, dirty_start,
                                    dirty_bytes);
    dirty_bitmap_unlock(bitmap);
    return found;
}

bool bdrv_dirty_bitmap_status(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, int64_t *pnum)
{
    bool dirty;

    dirty_bitmap_lock(bitmap);
    dirty = hbitmap_status(bitmap->bits, offset, bytes, pnum);
    dirty_bitmap_unlock(bitmap);
    return dirty;
}

/* A copy of its own, so that no two bitmaps' locks are ever held at once. */
static HBitmap *copy_bits(const BdrvDirtyBitmap *bitmap)
{
    HBitmap *copy;

    dirty_bitmap_lock(bitmap);
    copy = hbitmap_alloc(hbitmap_size(bitmap->bits), hbitmap_granularity(bitmap->bits));
    hbitmap_merge(bitmap->bits, copy, copy);
    dirty_bitmap_unlock(bitmap);
    return copy;
}

bool bdrv_merge_dirty_bitmap(BdrvDirtyBitmap *dest, const BdrvDirtyBitmap *src, HBitmap **backup,
                             Error **errp)
{
    int64_t dest_size = bdrv_dirty_bitmap_size(dest), src_size = bdrv_dirty_bitmap_size(src);
    HBitmap *marks;

    if (bdrv_dirty_bitmap_check(dest, BDRV_BITMAP_DEFAULT, errp) < 0 ||
        bdrv_dirty_bitmap_check(src, BDRV_BITMAP_ALLOW_RO, errp) < 0) {
        return false;
    }
    if (dest_size != src_size) {
        error_setg(errp,
                   "Bitmaps are of different sizes (destination size is %" PRId64
                   ", source size is %" PRId64 ") and can't be merged",
                   dest_size, src_size);
        return false;
    }

    marks = copy_bits(src);
    if (backup) {
        *backup = copy_bits(dest);
    }
    dirty_bitmap_lock_to_change(dest);
    hbitmap_merge(dest->bits, marks, dest->bits);
    dirty_bitmap_unlock(dest);
    hbitmap_free(marks);
    return true;
}

/* Bits of @buf, the first of which stands for @offset: those that are set in @hb, too. */
static void add_bits(const HBitmap *hb, int64_t offset, uint8_t *buf, size_t bytes)
{
    int granularity = hbitmap_granularity(hb);
    int64_t end = (int64_t)hbitmap_size(hb), start, count;

    if ((end - offset) >> granularity >= (int64_t)bytes * 8) {
        end = offset + ((int64_t)bytes * 8 << granularity);
    }
    for (int64_t at = offset; at < end; at = start + count) {
        if (!hbitmap_next_dirty_area(hb, at, end, INT64_MAX, &start, &count)) {
            break;
        }
        for (int64_t bit = (start - offset) >> granularity;
             bit <= (start + count - 1 - offset) >> granularity; bit++) {
            buf[bit / 8] |= (uint8_t)(1u << (bit % 8));
        }
    }
}

void bdrv_dirty_bitmap_save(const BdrvDirtyBitmap *bitmap, int64_t offset, uint8_t *buf,
                            size_t bytes)
{
    memset(buf, 0, bytes);
    dirty_bitmap_lock(bitmap);
    add_bits(bitmap->bits, offset, buf, bytes);
    if (bitmap->successor) {
        add_bits(bitmap->successor, offset, buf, bytes);
    }
    dirty_bitmap_unlock(bitmap);
}

void bdrv_dirty_bitmap_load(BdrvDirtyBitmap *bitmap, int64_t offset, const uint8_t *buf,
                            size_t bytes)
{
    int64_t bits = (int64_t)bytes * 8, size, first;
    int granularity;

    dirty_bitmap_lock_to_change(bitmap);
    size = (int64_t)hbitmap_size(bitmap->bits);
    granularity = hbitmap_granularity(bitmap->bits);
    for (int64_t bit = 0; bit < bits && offset + (bit << granularity) < size; bit++) {
        first = bit;
        while (bit < bits && buf[bit / 8] >> (bit % 8) & 1) {
            bit++;
        }
        if (bit > first) {
            int64_t start = offset + (first << granularity);

            hbitmap_set(bitmap->bits, start, MIN((bit - first) << granularity, size - start));
        }
    }
    dirty_bitmap_unlock(bitmap);
}
