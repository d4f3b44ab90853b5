/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps on nodes: which parts were written since.
 *
 * Names and life: main thread.  Creating and releasing touch the node's list of write observers, so
 * the node is quiesced, or its home is the main context.  Bits: any thread; each bitmap has a lock
 * that covers one call.  The caller quiesces the node when the order against guest writes matters.
 * Offsets and lengths in bytes.
 */
#ifndef BLOCK_DIRTY_DIRTY_BITMAP_H
#define BLOCK_DIRTY_DIRTY_BITMAP_H

#include "block/graph/graph.h"

#define BDRV_DIRTY_GRANULARITY_DEFAULT 65536u
#define BDRV_DIRTY_NAME_MAX            1023

typedef enum BdrvBitmapCheck {
    BDRV_BITMAP_BUSY = 1 << 0,
    BDRV_BITMAP_RO = 1 << 1,
    BDRV_BITMAP_INCONSISTENT = 1 << 2,
} BdrvBitmapCheck;
#define BDRV_BITMAP_DEFAULT  (BDRV_BITMAP_BUSY | BDRV_BITMAP_RO | BDRV_BITMAP_INCONSISTENT)
#define BDRV_BITMAP_ALLOW_RO (BDRV_BITMAP_BUSY | BDRV_BITMAP_INCONSISTENT)

/* @name NULL: anonymous.  Granularity: a power of two, 512 bytes to 2 GiB; 0: the default. */
BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs, uint32_t granularity,
                                          const char *name, Error **errp);
/* It is not busy.  A node that is closed releases what it still has. */
void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_release_all_dirty_bitmaps(BlockDriverState *bs);
BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs, const char *name);
/* The same, or "Dirty bitmap 'x' not found". */
BdrvDirtyBitmap *bdrv_lookup_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp);
BdrvDirtyBitmap *bdrv_dirty_bitmap_next(BlockDriverState *bs, BdrvDirtyBitmap *bitmap);
const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *bitmap);
BlockDriverState *bdrv_dirty_bitmap_bs(const BdrvDirtyBitmap *bitmap);
/* 0, or the error that says why @bitmap cannot be used now. */
int bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, uint32_t flags, Error **errp);
void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy);
bool bdrv_dirty_bitmap_busy(const BdrvDirtyBitmap *bitmap);
void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
/* Writes are marked in the bitmap itself. */
bool bdrv_dirty_bitmap_enabled(const BdrvDirtyBitmap *bitmap);
/* Writes are marked in it or in its successor: "recording" of query-block. */
bool bdrv_dirty_bitmap_recording(const BdrvDirtyBitmap *bitmap);
void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool persistent);
bool bdrv_dirty_bitmap_get_persistence(const BdrvDirtyBitmap *bitmap);
/* For formats that store bitmaps: the stored copy cannot be changed now / was not saved properly. */
void bdrv_dirty_bitmap_set_readonly(BdrvDirtyBitmap *bitmap, bool readonly);
bool bdrv_dirty_bitmap_readonly(const BdrvDirtyBitmap *bitmap);
void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *bitmap);
/* Whether it may be another (bits, or whether it records) than when it was last said to be saved; new: yes. */
bool bdrv_dirty_bitmap_unsaved(const BdrvDirtyBitmap *bitmap);
void bdrv_dirty_bitmap_set_saved(BdrvDirtyBitmap *bitmap);
uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *bitmap);
int64_t bdrv_dirty_bitmap_size(const BdrvDirtyBitmap *bitmap);

bool bdrv_dirty_bitmap_get(BdrvDirtyBitmap *bitmap, int64_t offset);
int64_t bdrv_get_dirty_count(BdrvDirtyBitmap *bitmap); /* bytes */
void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
/* Both ends on a multiple of the granularity, or at the bitmap's end. */
void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
/* *backup, if @backup is not NULL, gets the old bits, for bdrv_restore_dirty_bitmap(). */
void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup);
void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup);
int64_t bdrv_dirty_bitmap_next_dirty(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
int64_t bdrv_dirty_bitmap_next_zero(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
bool bdrv_dirty_bitmap_next_dirty_area(BdrvDirtyBitmap *bitmap, int64_t start, int64_t end,
                                       int64_t max_dirty_bytes, int64_t *dirty_start,
                                       int64_t *dirty_bytes);
/* Is [offset, offset+*pnum) all dirty (true) or all clean (false)? */
bool bdrv_dirty_bitmap_status(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes,
                              int64_t *pnum);
/* dest |= src; sizes must be equal, granularities may differ.  Checks both (BDRV_BITMAP_*). */
bool bdrv_merge_dirty_bitmap(BdrvDirtyBitmap *dest, const BdrvDirtyBitmap *src, HBitmap **backup,
                             Error **errp);

/*
 * For formats that store bitmaps: bits as bytes, the least significant first, a bit a granularity; the first stands for
 * @offset, a multiple of eight granularities.  save: also those of a successor; behind the end they are 0.  load: sets
 * those that are set; what is behind the end is nothing.
 */
void bdrv_dirty_bitmap_save(const BdrvDirtyBitmap *bitmap, int64_t offset, uint8_t *buf,
                            size_t bytes);
void bdrv_dirty_bitmap_load(BdrvDirtyBitmap *bitmap, int64_t offset, const uint8_t *buf,
                            size_t bytes);

/*
 * A frozen bitmap and its successor: while a job reads @bitmap, an anonymous successor takes the new
 * writes.  abdicate: the successor's bits are what remains (job succeeded); reclaim: both are merged.
 * The bitmap is busy in between; abdicate and reclaim return @bitmap, or NULL without a successor.
 */
int bdrv_dirty_bitmap_create_successor(BdrvDirtyBitmap *bitmap, Error **errp);
BdrvDirtyBitmap *bdrv_dirty_bitmap_abdicate(BdrvDirtyBitmap *bitmap, Error **errp);
BdrvDirtyBitmap *bdrv_reclaim_dirty_bitmap(BdrvDirtyBitmap *bitmap, Error **errp);
bool bdrv_dirty_bitmap_has_successor(const BdrvDirtyBitmap *bitmap);

#endif
