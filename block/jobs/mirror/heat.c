/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Heat of regions.
 *
 *     disk     |    |    |    |    |    |    |    |    |     at most MIRROR_HEAT_REGIONS regions of one size
 *     heat      0    1    900  870  0    1    40   0
 *     level 1             #### ####                          the fewest of the hottest that have their part of
 *     level 3             #### ####           ####           the heat; what was dirtied once is in none
 *     level ALL ########################################
 *
 * HM1  Heat is what became dirty lately, in units, each write's at least one; saturating.  Of a write that went
 *      to the target at once it is what would have become dirty: a region does not cool because it is hot.  What
 *      is written again while it is still dirty adds nothing, for it is copied once.
 * HM2  In each window an eighth of it is forgotten: it halves in about a second.  What is dirtied less often than
 *      once in a window is cold, also where nothing else is hotter.
 * HM3  What is hot at a level stays the same for a window.  So the bytes outside of it are those that would have
 *      become dirty had that level been in force, not a guess from the sums.
 * HM4  Memory is bounded, whatever disk and granularity: on a large disk regions are large, and what is cold beside
 *      something hot is taken for hot.
 */
#include <glib.h>
#include "block/jobs/mirror/heat.h"
#include "util/osdep.h"

#define HEAT_MAX    UINT16_MAX
#define HEAT_FORGET 8
/* What of it is kept, as a part of this: the product fits 32 bits. */
#define HEAT_ONE    65536
/* After so many windows without a word nothing of it is worth keeping. */
#define HEAT_STALE  40

/* Regions by the logarithm of their heat: 1, 2..3, 4..7 and so on. */
#define HEAT_CLASSES      16
/* HM2: the first of them are cold at every level but the last. */
#define HEAT_COLD_CLASSES 3

/* Of the heat, in sixteenths, what the levels between none and all have. */
static const unsigned parts[MIRROR_HEAT_LEVELS] = {0, 8, 12, 15, 16};

static void forget_all(MirrorHeat *h)
{
    memset(h->heat, 0, h->n * sizeof(h->heat[0]));
    for (int level = MIRROR_HEAT_NONE; level < MIRROR_HEAT_ALL; level++) {
        h->least[level] = UINT32_MAX;
        h->hot_bytes[level] = 0;
    }
    h->least[MIRROR_HEAT_ALL] = 0;
    h->hot_bytes[MIRROR_HEAT_ALL] = h->len;
    memset(h->outside, 0, sizeof(h->outside));
}

void mirror_heat_init(MirrorHeat *h, int64_t len, int64_t chunk_bytes)
{
    int64_t region = MAX(chunk_bytes, MIRROR_HEAT_REGION_MIN);

    while (DIV_ROUND_UP(len, region) > MIRROR_HEAT_REGIONS) { /* HM4 */
        region *= 2;
    }
    *h = (MirrorHeat){.len = len, .region_bytes = region, .n = MAX(DIV_ROUND_UP(len, region), 1)};
    h->heat = g_new(uint16_t, h->n);
    forget_all(h);
}

void mirror_heat_free(MirrorHeat *h)
{
    g_free(h->heat);
    h->heat = NULL;
}

static size_t first_region(const MirrorHeat *h, int64_t offset)
{
    return offset / h->region_bytes;
}

static size_t end_region(const MirrorHeat *h, int64_t end)
{
    return DIV_ROUND_UP(MIN(end, h->len), h->region_bytes);
}

bool mirror_heat_is_hot(const MirrorHeat *h, int level, int64_t offset, int64_t bytes)
{
    if (level == MIRROR_HEAT_ALL) {
        return true;
    }
    for (size_t i = first_region(h, offset); i < end_region(h, offset + bytes); i++) {
        if (h->heat[i] >= h->least[level]) {
            return true;
        }
    }
    return false;
}

void mirror_heat_add(MirrorHeat *h, int64_t offset, int64_t bytes, int64_t dirtied)
{
    int64_t end = MIN(offset + bytes, h->len);

    if (bytes <= 0 || dirtied <= 0) {
        return; /* HM1 */
    }
    for (int level = MIRROR_HEAT_NONE; level < MIRROR_HEAT_ALL; level++) { /* HM3 */
        if (!mirror_heat_is_hot(h, level, offset, bytes)) {
            h->outside[level] += dirtied;
        }
    }
    for (size_t i = first_region(h, offset); i < end_region(h, end); i++) {
        int64_t start = MAX((int64_t)i * h->region_bytes, offset);
        int64_t stop = MIN(((int64_t)i + 1) * h->region_bytes, end);
        double part = (double)dirtied / (double)bytes * (double)(stop - start);
        int64_t units = MAX((int64_t)(part / MIRROR_HEAT_UNIT), 1);

        h->heat[i] = MIN(h->heat[i] + units, HEAT_MAX);
    }
}

int64_t mirror_heat_outside(const MirrorHeat *h, int level)
{
    return h->outside[level];
}

/* HM2.  Counts the regions of each class, and their heat. */
static void cool(MirrorHeat *h, int64_t windows, uint64_t *regions, uint64_t *heat)
{
    uint32_t kept = HEAT_ONE;

    for (; windows > 0; windows--) {
        kept -= kept / HEAT_FORGET;
    }
    for (size_t i = 0; i < h->n; i++) {
        uint32_t now = (uint32_t)h->heat[i] * kept / HEAT_ONE;

        h->heat[i] = now;
        if (now > 0) {
            int class = 31 - __builtin_clz(now);

            regions[class]++;
            heat[class] += now;
        }
    }
}

void mirror_heat_age(MirrorHeat *h, int64_t windows)
{
    uint64_t regions[HEAT_CLASSES] = {0}, heat[HEAT_CLASSES] = {0};
    uint64_t total = 0, hot = 0, hot_regions = 0;
    int class = HEAT_CLASSES;

    if (windows >= HEAT_STALE) {
        forget_all(h);
        return;
    }
    cool(h, windows, regions, heat);
    for (int i = 0; i < HEAT_CLASSES; i++) {
        total += heat[i];
    }
    for (int level = MIRROR_HEAT_NONE + 1; level < MIRROR_HEAT_ALL; level++) {
        while (class > HEAT_COLD_CLASSES && hot * 16 < total * parts[level]) {
            class --;
            hot += heat[class];
            hot_regions += regions[class];
        }
        h->least[level] = class < HEAT_CLASSES ? UINT32_C(1) << class : UINT32_MAX;
        h->hot_bytes[level] = MIN((int64_t)hot_regions * h->region_bytes, h->len);
    }
    memset(h->outside, 0, sizeof(h->outside));
}

int64_t mirror_heat_bytes(const MirrorHeat *h, int level)
{
    return h->hot_bytes[level];
}
