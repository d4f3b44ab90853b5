/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-cut: a disk with a volatile cache, and a hand on the power switch.
 *
 *      write, zeroes, discard, truncate ──▶ cache (what reads see) ──── flush, FUA ────▶ stable
 *                                             │
 *                                             └─ power cut: each change since the last flush is kept, torn or
 *                                                dropped, and those that are kept land in any order, as the seed
 *                                                decides
 *
 *   C1  What a flush that has returned covered is stable, whatever the seed.
 *   C2  A torn change lands in whole sectors of tear_bytes, any subset of them.
 *   C3  After the cut every request fails with -EIO until power is back.
 *   C4  Lengths are changed in the order in which they were asked for: the first few of them are kept, as a file
 *       system does, whose journal is in order.  What is written behind the end that was kept makes a file longer.
 *       What a change of length that was kept has cut off does not come back.
 *
 * Several disks may hang on one switch.  An image of a disk is what is stable and what is not, at one moment: it can
 * be given any number of fates.
 *
 * Main AioContext.
 */
#ifndef TESTS_LIB_TEST_CUT_H
#define TESTS_LIB_TEST_CUT_H

#include "block/graph/graph.h"

/* A device: its size is fixed.  One reference for the caller. */
BlockDriverState *test_cut_new(const char *node_name, int64_t size);
/* A file, which may become as long as @capacity by writes and by truncates. */
BlockDriverState *test_cut_new_file(const char *node_name, int64_t size, int64_t capacity);
/* @bs hangs on the switch of @other: moments are counted together.  Before the first of them. */
void test_cut_share_power(BlockDriverState *bs, BlockDriverState *other);

/* Writes, zeroes, discards, truncates and flushes so far: the moments at which power can be cut. */
unsigned test_cut_moments(BlockDriverState *bs);
/* Power goes right after the moment number @moment (1 is the first; 0: never). */
void test_cut_arm(BlockDriverState *bs, unsigned moment);
/* Power goes now. */
void test_cut_now(BlockDriverState *bs);
bool test_cut_is_off(BlockDriverState *bs);
/* Is told of each moment of the switch, when it has come to be and its request has not ended; NULL: nobody. */
typedef void TestCutWatch(void *opaque);
void test_cut_set_watch(BlockDriverState *bs, TestCutWatch *watch, void *opaque);

typedef struct TestCutFate {
    uint32_t seed;
    int64_t tear_bytes; /* 0: no change is torn */
    bool reorder;       /* kept changes land in any order */
    bool drop_all;      /* nothing that was not flushed survives; the seed has no say */
} TestCutFate;
/*
 * Power is back (it must be off): decides the fate of what was not flushed.  The nodes above have what
 * they cached in memory still: close them and open them anew.
 *
 * Seeds decide between: each change by the throw of a coin, almost all of them, almost none, all but one, one alone.
 */
void test_cut_power_on(BlockDriverState *bs, const TestCutFate *fate);

/* Stable contents, without a request. */
void test_cut_peek_stable(BlockDriverState *bs, int64_t offset, void *buf, int64_t bytes);
/* Contents, at once and stable; no request is under way, and nothing unflushed. */
void test_cut_poke(BlockDriverState *bs, int64_t offset, const void *buf, int64_t bytes);

typedef struct TestCutImage TestCutImage;
/* What is stable now, and what is not; for test_cut_image_free(). */
TestCutImage *test_cut_image(BlockDriverState *bs);
void test_cut_image_free(TestCutImage *image);
/* @bs is, with power, what becomes of @image by @fate.  As large, or larger; nothing is under way. */
void test_cut_load(BlockDriverState *bs, const TestCutImage *image, const TestCutFate *fate);
/* @bs is as @image was, with what was not flushed: nobody's power was cut. */
void test_cut_load_cached(BlockDriverState *bs, const TestCutImage *image);

#endif
