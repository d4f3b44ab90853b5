/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hbitmap.h - a sparse bitmap over a huge range, with quick search and quick counting
 *
 * The bitmap speaks of items (bytes, mostly).  One bit stands for 2^granularity items, so positions
 * and counts are items everywhere.  Clear areas and fully set areas cost no memory.  Not locked:
 * the caller serialises.  Changes may allocate (and abort when memory is out), searches never do.
 */
#ifndef UTIL_HBITMAP_H
#define UTIL_HBITMAP_H

#include <stdbool.h>
#include <stdint.h>

typedef struct HBitmap HBitmap;

/* A walk over the set bits in rising order.  Bits may be set and reset during the walk. */
typedef struct HBitmapIter {
    const HBitmap *hb;
    uint64_t next; /* the first bit not looked at */
} HBitmapIter;

/* @size items, all clear; @granularity 0 to 63.  @size is at most INT64_MAX. */
HBitmap *hbitmap_alloc(uint64_t size, int granularity);
void hbitmap_free(HBitmap *hb);

uint64_t hbitmap_size(const HBitmap *hb);
int hbitmap_granularity(const HBitmap *hb);

/* Set every bit that the @count items from @start touch; the range is inside the bitmap. */
void hbitmap_set(HBitmap *hb, uint64_t start, uint64_t count);
/*
 * Clear the bits of the range, which is inside the bitmap.  Both ends lie on a bit's border (the
 * end may be the bitmap's): clearing a bit for half its items would lose the other half.
 */
void hbitmap_reset(HBitmap *hb, uint64_t start, uint64_t count);
void hbitmap_reset_all(HBitmap *hb);
/* Change the size: new bits are clear, bits behind the new end are forgotten. */
void hbitmap_truncate(HBitmap *hb, uint64_t size);

bool hbitmap_get(const HBitmap *hb, uint64_t item);
bool hbitmap_empty(const HBitmap *hb);
/* Set bits times 2^granularity: may exceed the size by less than one bit's worth.  O(1). */
uint64_t hbitmap_count(const HBitmap *hb);
/* The same for a range, which is inside the bitmap. */
uint64_t hbitmap_count_range(const HBitmap *hb, uint64_t start, uint64_t count);

/*
 * @result becomes the union of @a and @b, and may be one of them.  All three have one size;
 * granularities may differ (each set bit is set for all of its items).
 */
void hbitmap_merge(const HBitmap *a, const HBitmap *b, HBitmap *result);

/* Start a walk at the bit that holds the item @first. */
void hbitmap_iter_init(HBitmapIter *iter, const HBitmap *hb, uint64_t first);
/* The first item of the next set bit (may be before `first`, in the same bit), or -1. */
int64_t hbitmap_iter_next(HBitmapIter *iter);

/*
 * The first set (clear) item in [@start, @start + @count), or -1.  @count may reach beyond the end;
 * INT64_MAX means "to the end".
 */
int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count);
int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count);

/**
 * hbitmap_next_dirty_area() - the first run of set items in [@start, @end)
 *
 * Return: false when there is none; otherwise *ret_dirty_start and *ret_dirty_count, the latter cut
 * at @end, at the bitmap's end, and at @max_dirty_count.
 */
bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max_dirty_count,
                             int64_t *ret_dirty_start, int64_t *ret_dirty_count);

/* Whether @start is set, and in *ret_count for how many items (at most @count) that stays so. */
bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count, int64_t *ret_count);

/* Memory in use, in bytes: for tests and for query commands. */
uint64_t hbitmap_memory(const HBitmap *hb);

#endif
