/* SPDX-License-Identifier: GPL-2.0-or-later */
/* map-bits.h - bitmaps as bytes, the least significant bit first; for map.c */
#ifndef BLOCK_DRIVERS_FVD_MAP_BITS_H
#define BLOCK_DRIVERS_FVD_MAP_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/osdep.h"

/* Bitmaps are read in words: their memory is rounded up to it. */
#define WORD_BITS 64

static inline bool bit_get(const uint8_t *bits, uint64_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static inline void bit_set(uint8_t *bits, uint64_t i)
{
    bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

static inline void bit_clear(uint8_t *bits, uint64_t i)
{
    bits[i / 8] &= (uint8_t) ~(1u << (i % 8));
}

static inline size_t bits_bytes(uint64_t bits)
{
    return DIV_ROUND_UP(bits, WORD_BITS) * (WORD_BITS / 8);
}

/* The first in [from, to) that is @value in the one or the other (which may be the same); @to if there is none. */
static inline uint64_t bits_find(const uint8_t *one, const uint8_t *other, uint64_t from,
                                 uint64_t to, bool value)
{
    while (from < to) {
        uint64_t at = from / WORD_BITS * (WORD_BITS / 8);
        uint64_t word = ldq_le_p(one + at) | ldq_le_p(other + at);

        word = (value ? word : ~word) >> (from % WORD_BITS);
        if (word) {
            return MIN(from + (unsigned)__builtin_ctzll(word), to);
        }
        from += WORD_BITS - from % WORD_BITS;
    }
    return to;
}

#endif
