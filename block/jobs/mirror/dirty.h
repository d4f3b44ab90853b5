/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is still to be copied: dirty chunks, and for some of them which parts.
 *
 * Offsets and lengths in bytes.  One AioContext; mirror_dirty_count(): any thread.  Nothing here yields.
 */
#ifndef BLOCK_JOBS_MIRROR_DIRTY_H
#define BLOCK_JOBS_MIRROR_DIRTY_H

#include <glib.h>
#include "util/hbitmap.h"

/* Parts of a chunk are told apart to this size: what guests write, and what a disk reads, as one. */
#define MIRROR_UNIT_BYTES 4096
/* A chunk's parts fit one word: above 256 KiB units grow with the chunk. */
#define MIRROR_UNITS_MAX  64

typedef struct MirrorDirty {
    /* Fixed. */
    int64_t len;
    int64_t chunk_bytes;
    int64_t unit_bytes; /* chunk_bytes where parts are not told apart */
    size_t fine_max;    /* most fine maps */

    HBitmap *chunks; /* one bit a chunk; its items are bytes */
    GHashTable
        *fine; /* set of FineMap, each of a dirty chunk; the other dirty chunks are dirty whole */
    int64_t fine_units;
    int64_t count; /* atomic: dirty bytes */
} MirrorDirty;

/* @fine_bytes: most memory for fine maps. */
void mirror_dirty_init(MirrorDirty *d, int64_t len, int64_t chunk_bytes, size_t fine_bytes);
void mirror_dirty_free(MirrorDirty *d);
/* At least that range is dirty; a clean chunk's other parts stay clean while there is memory. */
void mirror_dirty_set(MirrorDirty *d, int64_t offset, int64_t bytes);
/* All chunks that the range touches are dirty whole. */
void mirror_dirty_set_whole(MirrorDirty *d, int64_t offset, int64_t bytes);
/* What lies in the range is in the target: parts that are inside it are clean. */
void mirror_dirty_clear_covered(MirrorDirty *d, int64_t offset, int64_t bytes);
/* The next dirty chunk's offset from @offset on; -1: none. */
int64_t mirror_dirty_next(const MirrorDirty *d, int64_t offset);
/* How many bytes from @offset (a dirty chunk's) are dirty chunks without a gap, at most @max. */
int64_t mirror_dirty_run(const MirrorDirty *d, int64_t offset, int64_t max);
/*
 * The chunk at @offset becomes clean.  Return: a bit for each of its parts that was dirty, all of them for a
 * chunk that was dirty whole; 0: it was clean.
 */
uint64_t mirror_dirty_take(MirrorDirty *d, int64_t offset);
/* The bits of all parts of the chunk at @offset; the last chunk may have fewer. */
uint64_t mirror_dirty_all_units(const MirrorDirty *d, int64_t offset);
int64_t mirror_dirty_count(const MirrorDirty *d);

#endif
