/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share: the bitmap itself. */
#ifndef BLOCK_DIRTY_INT_H
#define BLOCK_DIRTY_INT_H

#include "block/dirty/dirty-bitmap.h"

struct BdrvDirtyBitmap {
    /* Fixed. */
    BlockDriverState *bs; /* not counted: the bitmap goes with the node */
    char *name;           /* NULL: anonymous */
    uint32_t granularity;
    BdrvWriteObserver observer; /* on bs->write_observers */

    /* Main thread. */
    bool busy;
    bool readonly;
    bool inconsistent;
    bool persistent;
    QLIST_ENTRY(BdrvDirtyBitmap) list; /* bs->dirty_bitmaps */

    /* Under lock. */
    GMutex lock;
    bool disabled;      /* writes are not marked */
    bool unsaved;       /* it is another than what was loaded, or saved last */
    HBitmap *bits;      /* one item a byte */
    HBitmap *successor; /* NULL, or what takes the marks instead of bits */
};

/* Any thread; held for the length of one HBitmap call. */
static inline void dirty_bitmap_lock(const BdrvDirtyBitmap *bitmap)
{
    g_mutex_lock((GMutex *)&bitmap->lock);
}

static inline void dirty_bitmap_lock_to_change(BdrvDirtyBitmap *bitmap)
{
    dirty_bitmap_lock(bitmap);
    bitmap->unsaved = true;
}

static inline void dirty_bitmap_unlock(const BdrvDirtyBitmap *bitmap)
{
    g_mutex_unlock((GMutex *)&bitmap->lock);
}

#endif
