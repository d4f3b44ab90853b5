/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where guests make a disk dirty again and again: heat by regions, and levels of how much of it is called hot.
 *
 * Offsets and lengths in bytes.  One AioContext.  Nothing here yields.
 */
#ifndef BLOCK_JOBS_MIRROR_HEAT_H
#define BLOCK_JOBS_MIRROR_HEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most regions: 128 KiB of counters, looked through in some 50 us once a window; 128 MiB each at 8 TiB. */
#define MIRROR_HEAT_REGIONS    65536
/* The smallest region: what is near a place that is written often is written often. */
#define MIRROR_HEAT_REGION_MIN (INT64_C(64) << 10)
/* Heat is counted in these. */
#define MIRROR_HEAT_UNIT       4096

/*
 * How much is hot: nothing; the hottest regions that have one half, three quarters, fifteen sixteenths of the
 * heat; everything.
 */
enum {
    MIRROR_HEAT_NONE = 0,
    MIRROR_HEAT_ALL = 4,
    MIRROR_HEAT_LEVELS,
};

typedef struct MirrorHeat {
    /* Fixed. */
    int64_t len;
    int64_t region_bytes; /* a power of two */
    size_t n;

    uint16_t *heat;                        /* [n], HM1 */
    uint32_t least[MIRROR_HEAT_LEVELS];    /* a region with so much is hot */
    int64_t hot_bytes[MIRROR_HEAT_LEVELS]; /* of the disk */
    uint64_t outside[MIRROR_HEAT_LEVELS];  /* dirtied in this window, not hot: HM3 */
} MirrorHeat;

/* @chunk_bytes: a power of two; no chunk lies in two regions. */
void mirror_heat_init(MirrorHeat *h, int64_t len, int64_t chunk_bytes);
void mirror_heat_free(MirrorHeat *h);
/* Does the range touch a region that is hot at @level? */
bool mirror_heat_is_hot(const MirrorHeat *h, int level, int64_t offset, int64_t bytes);
/* A guest's write of [offset, offset + bytes) made @dirtied of it dirty, or would have made it. */
void mirror_heat_add(MirrorHeat *h, int64_t offset, int64_t bytes, int64_t dirtied);
/* Bytes of this window that became dirty, or would have, outside of what is hot at @level. */
int64_t mirror_heat_outside(const MirrorHeat *h, int level);
/* So many windows are over: older heat counts less, what is hot is found anew, a window begins. */
void mirror_heat_age(MirrorHeat *h, int64_t windows);
/* How much of the disk is hot at @level. */
int64_t mirror_heat_bytes(const MirrorHeat *h, int level);

#endif
