/* SPDX-License-Identifier: GPL-2.0-or-later */
/* journal.h - records of FVD's journal put together by hand, right ones and wrong ones, for the tests of the room */
#ifndef TESTS_UNIT_FVD_JOURNAL_H
#define TESTS_UNIT_FVD_JOURNAL_H

#include <stdint.h>
#include <stdlib.h>
#include <glib.h>
#include "block/drivers/fvd/layout/jrecord.h"
#include "util/osdep.h"

/* Bit by bit, from the polynomial: what the one of util is held against. */
static inline uint32_t slow_crc32c(const void *bytes, size_t n)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < n; i++) {
        crc ^= ((const uint8_t *)bytes)[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
        }
    }
    return ~crc;
}

/* Each puts a record at @at, and gives where the next one goes. */
static inline unsigned add_bitmap(uint8_t *buf, unsigned at, int64_t first, uint32_t count)
{
    stl_le_p(buf + at, FVD_BITMAP_JRECORD);
    stl_le_p(buf + at + 4, count);
    stq_le_p(buf + at + 8, first);
    return at + 16;
}

/* Entries are @chunk and following, or EMPTY all. */
static inline unsigned add_table(uint8_t *buf, unsigned at, uint64_t epoch, uint32_t count,
                                 uint32_t first, uint32_t chunk)
{
    stl_le_p(buf + at, FVD_TABLE_JRECORD);
    stq_le_p(buf + at + 4, epoch);
    stl_le_p(buf + at + 12, count);
    stl_le_p(buf + at + 16, first);
    for (uint32_t i = 0; i < count; i++) {
        stl_le_p(buf + at + 20 + 4 * i, chunk == FVD_TABLE_EMPTY ? chunk : chunk + i);
    }
    return at + 20 + 4 * count;
}

/* Sums are @sum and following. */
static inline unsigned add_sums(uint8_t *buf, unsigned at, int64_t first, uint32_t count,
                                uint32_t sum)
{
    stl_le_p(buf + at, FVD_BITMAP_SUM_JRECORD);
    stl_le_p(buf + at + 4, count);
    stq_le_p(buf + at + 8, first);
    for (uint32_t i = 0; i < count; i++) {
        stl_le_p(buf + at + 16 + 4 * i, sum + i);
    }
    return at + 16 + 4 * count;
}

static inline void add_trailer(uint8_t *buf, uint64_t epoch, uint64_t sequence)
{
    memcpy(buf + 488, "QFVT", 4);
    stl_le_p(buf + 492, 0);
    stq_le_p(buf + 496, epoch);
    stq_le_p(buf + 504, sequence);
    stl_le_p(buf + 492, slow_crc32c(buf, 512));
}

/* SEED of the environment, or a new one; printed. */
static inline uint32_t journal_test_seed(void)
{
    const char *s = g_getenv("SEED");
    uint32_t seed = s ? strtoul(s, NULL, 10) : g_random_int();

    g_test_message("SEED=%" G_GUINT32_FORMAT, seed);
    return seed;
}

/* How many from there on: SEEDS of the environment, or as usual. */
static inline unsigned journal_test_seeds(unsigned usual)
{
    const char *s = g_getenv("SEEDS");

    return s ? strtoul(s, NULL, 10) : usual;
}

#endif
