/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty chunks and their parts.
 *
 *     chunk      |   0    |   1    |   2    |   3    |      one bit each, sparse: terabytes cost nothing
 *     dirty      |   1    |   0    |   1    |   1    |
 *     fine map      none             0100..   0011..        which 4 KiB of it; only what was clean when a
 *     copied     |********|        | *      |  **    |      guest wrote a part of it
 *
 * DM1  A dirty chunk without a fine map is dirty whole.  A fine map belongs to a dirty chunk, has a bit that is
 *      set, and one that is not.
 * DM2  Fine maps cost at most what was allowed; when they are used up a chunk that is written becomes dirty
 *      whole: more is copied, nothing is lost.
 * DM3  Only what is covered whole becomes clean: a part of which another write changed a byte stays dirty.
 */
#include "block/jobs/mirror/dirty.h"
#include "util/osdep.h"

typedef struct FineMap {
    int64_t chunk; /* first: the key */
    uint64_t units;
} FineMap;

/* A FineMap, its memory's own overhead, and its place in a table that is half full. */
#define FINE_MAP_COST 64

void mirror_dirty_init(MirrorDirty *d, int64_t len, int64_t chunk_bytes, size_t fine_bytes)
{
    int64_t unit = MAX(chunk_bytes / MIRROR_UNITS_MAX, MIRROR_UNIT_BYTES);

    *d = (MirrorDirty){
        .len = len,
        .chunk_bytes = chunk_bytes,
        .unit_bytes = MIN(unit, chunk_bytes),
        .fine_max = unit < chunk_bytes ? fine_bytes / FINE_MAP_COST : 0,
        .chunks = hbitmap_alloc(len, __builtin_ctzll(chunk_bytes)),
        .fine = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL),
    };
}

void mirror_dirty_free(MirrorDirty *d)
{
    if (d->chunks) {
        hbitmap_free(d->chunks);
        g_hash_table_destroy(d->fine);
        d->chunks = NULL;
        d->fine = NULL;
    }
}

static int64_t chunk_start(const MirrorDirty *d, int64_t offset)
{
    return offset - offset % d->chunk_bytes;
}

static int64_t chunk_end(const MirrorDirty *d, int64_t offset)
{
    return MIN(chunk_start(d, offset) + d->chunk_bytes, d->len);
}

/* Bits [first, end). */
static uint64_t bits(int64_t first, int64_t end)
{
    uint64_t below_end = end >= 64 ? UINT64_MAX : (UINT64_C(1) << end) - 1;

    return first >= end ? 0 : below_end & ~((UINT64_C(1) << first) - 1);
}

uint64_t mirror_dirty_all_units(const MirrorDirty *d, int64_t offset)
{
    return bits(0, DIV_ROUND_UP(chunk_end(d, offset) - chunk_start(d, offset), d->unit_bytes));
}

static FineMap *find(const MirrorDirty *d, int64_t offset)
{
    int64_t chunk = offset / d->chunk_bytes;

    return g_hash_table_lookup(d->fine, &chunk);
}

static void forget(MirrorDirty *d, FineMap *map)
{
    d->fine_units -= __builtin_popcountll(map->units);
    g_hash_table_remove(d->fine, map);
}

static void change(MirrorDirty *d, FineMap *map, uint64_t units)
{
    d->fine_units += __builtin_popcountll(units) - __builtin_popcountll(map->units);
    map->units = units;
}

/* How much of what is counted as dirty of the last chunk lies behind the end of the disk. */
static int64_t behind_the_end(const MirrorDirty *d)
{
    int64_t start = chunk_start(d, d->len - 1), stop = start + d->chunk_bytes;
    FineMap *map;

    if (stop == d->len || !hbitmap_get(d->chunks, start)) {
        return 0;
    }
    map = find(d, start);
    if (map) {
        int64_t units = DIV_ROUND_UP(d->len - start, d->unit_bytes);

        stop = map->units >> (units - 1) & 1 ? start + units * d->unit_bytes : d->len;
    }
    return stop - d->len;
}

static void recount(MirrorDirty *d)
{
    int64_t maps = g_hash_table_size(d->fine);
    int64_t bytes = (int64_t)hbitmap_count(d->chunks) - maps * d->chunk_bytes;

    bytes += d->fine_units * d->unit_bytes - (d->len ? behind_the_end(d) : 0);
    __atomic_store_n(&d->count, bytes, __ATOMIC_RELAXED);
}

int64_t mirror_dirty_count(const MirrorDirty *d)
{
    return __atomic_load_n(&d->count, __ATOMIC_RELAXED);
}

/* Whichever is less work: look for each chunk, or at each map. */
static void forget_range(MirrorDirty *d, int64_t start, int64_t end)
{
    GHashTableIter iter;
    void *key;

    if ((end - start) / d->chunk_bytes <= (int64_t)g_hash_table_size(d->fine)) {
        for (; start < end; start += d->chunk_bytes) {
            FineMap *map = find(d, start);

            if (map) {
                forget(d, map);
            }
        }
        return;
    }
    g_hash_table_iter_init(&iter, d->fine);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        FineMap *map = key;

        if (map->chunk * d->chunk_bytes >= start && map->chunk * d->chunk_bytes < end) {
            d->fine_units -= __builtin_popcountll(map->units);
            g_hash_table_iter_remove(&iter);
        }
    }
}

static void set_whole(MirrorDirty *d, int64_t offset, int64_t end)
{
    forget_range(d, chunk_start(d, offset), end);
    hbitmap_set(d->chunks, offset, end - offset);
}

void mirror_dirty_set_whole(MirrorDirty *d, int64_t offset, int64_t bytes)
{
    if (bytes > 0) {
        set_whole(d, offset, offset + bytes);
        recount(d);
    }
}

/* [offset, end) is a part of one chunk. */
static void set_part(MirrorDirty *d, int64_t offset, int64_t end)
{
    int64_t start = chunk_start(d, offset);
    uint64_t all = mirror_dirty_all_units(d, offset);
    uint64_t units =
        bits((offset - start) / d->unit_bytes, DIV_ROUND_UP(end - start, d->unit_bytes));
    FineMap *map = find(d, offset);

    if (map && (map->units | units) != all) {
        change(d, map, map->units | units);
    } else if (map || units == all) {
        set_whole(d, offset, end);
    } else if (hbitmap_get(d->chunks, offset)) {
        return; /* DM1 */
    } else {
        hbitmap_set(d->chunks, start, 1);
        if (g_hash_table_size(d->fine) < d->fine_max) { /* DM2 */
            map = g_new0(FineMap, 1);
            map->chunk = start / d->chunk_bytes;
            g_hash_table_add(d->fine, map);
            change(d, map, units);
        }
    }
}

void mirror_dirty_set(MirrorDirty *d, int64_t offset, int64_t bytes)
{
    int64_t end = offset + bytes;

    if (bytes <= 0) {
        return;
    }
    if (offset > chunk_start(d, offset)) {
        int64_t part_end = MIN(end, chunk_end(d, offset));

        set_part(d, offset, part_end);
        offset = part_end;
    }
    if (offset < end && end < chunk_end(d, end - 1)) {
        int64_t part = MAX(offset, chunk_start(d, end - 1));

        set_part(d, part, end);
        end = part;
    }
    if (offset < end) {
        set_whole(d, offset, end);
    }
    recount(d);
}

static void clear_chunks(MirrorDirty *d, int64_t start, int64_t end)
{
    forget_range(d, start, end);
    hbitmap_reset(d->chunks, start, end - start);
}

/* DM3: [offset, end) of one chunk. */
static void clear_part(MirrorDirty *d, int64_t offset, int64_t end)
{
    int64_t start = chunk_start(d, offset);
    int64_t last =
        end == d->len ? DIV_ROUND_UP(end - start, d->unit_bytes) : (end - start) / d->unit_bytes;
    FineMap *map = find(d, offset);
    uint64_t left;

    if (!map) {
        return;
    }
    left = map->units & ~bits(DIV_ROUND_UP(offset - start, d->unit_bytes), last);
    if (left) {
        change(d, map, left);
    } else {
        clear_chunks(d, start, chunk_end(d, offset));
    }
}

void mirror_dirty_clear_covered(MirrorDirty *d, int64_t offset, int64_t bytes)
{
    int64_t end = offset + bytes;

    if (offset < end && offset > chunk_start(d, offset)) {
        int64_t part_end = MIN(end, chunk_end(d, offset));

        clear_part(d, offset, part_end);
        offset = part_end;
    }
    if (offset < end && end < chunk_end(d, end - 1)) {
        int64_t part = MAX(offset, chunk_start(d, end - 1));

        clear_part(d, part, end);
        end = part;
    }
    if (offset < end) {
        clear_chunks(d, offset, end);
    }
    recount(d);
}

int64_t mirror_dirty_next(const MirrorDirty *d, int64_t offset)
{
    return offset < d->len ? hbitmap_next_dirty(d->chunks, offset, d->len - offset) : -1;
}

int64_t mirror_dirty_run(const MirrorDirty *d, int64_t offset, int64_t max)
{
    int64_t limit = MIN(max, d->len - offset);
    int64_t stop = hbitmap_next_zero(d->chunks, offset, limit);

    return stop < 0 ? limit : stop - offset;
}

uint64_t mirror_dirty_take(MirrorDirty *d, int64_t offset)
{
    FineMap *map = find(d, offset);
    uint64_t units = map ? map->units : mirror_dirty_all_units(d, offset);

    if (!hbitmap_get(d->chunks, offset)) {
        return 0;
    }
    clear_chunks(d, chunk_start(d, offset), chunk_end(d, offset));
    recount(d);
    return units;
}
