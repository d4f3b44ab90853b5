/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-cut: a disk with a volatile cache, and a hand on the power switch.
 *
 *      write ──▶ cache (what reads see) ──── flush, FUA ────▶ stable
 *                  │
 *                  └─ power cut: each write since the last flush is kept, torn or dropped, and those
 *                     that are kept land in any order, as the seed decides
 *
 *   C1  What a flush that has returned covered is stable, whatever the seed.
 *   C2  A torn write lands in whole sectors of tear_bytes, any subset of them.
 *   C3  After the cut every request fails with -EIO until power is back.
 *
 * Main AioContext.
 */
#ifndef TESTS_LIB_TEST_CUT_H
#define TESTS_LIB_TEST_CUT_H

#include "block/graph/graph.h"

/* One reference for the caller. */
BlockDriverState *test_cut_new(const char *node_name, int64_t size);

/* Writes, zeroes, discards and flushes so far: the moments at which power can be cut. */
unsigned test_cut_moments(BlockDriverState *bs);
/* Power goes right after the moment number @moment (1 is the first; 0: never). */
void test_cut_arm(BlockDriverState *bs, unsigned moment);
/* Power goes now. */
void test_cut_now(BlockDriverState *bs);
bool test_cut_is_off(BlockDriverState *bs);

/* Each operation begins after a random time of the (virtual) clock below @max_ns; 0: at once. */
void test_cut_set_delay(BlockDriverState *bs, int64_t max_ns, uint32_t seed);

typedef struct TestCutFate {
    uint32_t seed;
    int64_t tear_bytes; /* 0: no write is torn */
    bool reorder;       /* kept writes land in any order */
    bool drop_all;      /* nothing that was not flushed survives; the seed has no say */
} TestCutFate;
/*
 * Power is back (it must be off): decides the fate of what was not flushed.  The nodes above have what
 * they cached in memory still: close them and open them anew.
 */
void test_cut_power_on(BlockDriverState *bs, const TestCutFate *fate);

/* Stable contents, without a request. */
void test_cut_peek_stable(BlockDriverState *bs, int64_t offset, void *buf, int64_t bytes);

#endif
