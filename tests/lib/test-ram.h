/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-ram: a disk in memory that does what a test says.
 *
 * Writable, sparse: blocks of TEST_RAM_BLOCK bytes that were never written (or were zeroed with
 * MAY_UNMAP, or discarded) are holes and read as zeros.  Memory is taken as blocks are written, so a
 * disk of terabytes is fine.
 *
 * Main thread, or the home AioContext quiesced, for all but reading counters.
 */
#ifndef TESTS_LIB_TEST_RAM_H
#define TESTS_LIB_TEST_RAM_H

#include "block/graph/graph.h"

#define TEST_RAM_BLOCK 4096

/* Operations, as bits. */
enum {
    TEST_RAM_READ = 1 << 0,
    TEST_RAM_WRITE = 1 << 1,
    TEST_RAM_ZERO = 1 << 2,
    TEST_RAM_DISCARD = 1 << 3,
    TEST_RAM_FLUSH = 1 << 4,
    TEST_RAM_STATUS = 1 << 5,
    TEST_RAM_ALL_IO = 0x1f,
};

typedef struct TestRamCounts {
    uint64_t reads, writes, zeroes, discards, flushes, statuses;
    uint64_t bytes_read, bytes_written; /* written: as data, not as zeroes */
    unsigned in_flight_max;
} TestRamCounts;

/* One reference for the caller. @node_name NULL: made up. */
BlockDriverState *test_ram_new(const char *node_name, int64_t size);
/* Request alignment from now on (quiesced); a power of two. */
void test_ram_set_alignment(BlockDriverState *bs, uint32_t align);
/* Offer no efficient zeroes (-ENOTSUP), as a plain disk. */
void test_ram_set_no_zeroes(BlockDriverState *bs, bool on);
/* bdrv_cancel_in_flight() ends what is held with -ECANCELED, as a network's driver does; the hold stays. */
void test_ram_set_cancels(BlockDriverState *bs, bool on);
/* How large the disk may grow by writes and truncate; beyond: -ENOSPC.  Default: no limit. */
void test_ram_set_capacity(BlockDriverState *bs, int64_t bytes);

/* Contents without requests. */
void test_ram_peek(BlockDriverState *bs, int64_t offset, void *buf, int64_t bytes);
void test_ram_poke(BlockDriverState *bs, int64_t offset, const void *buf, int64_t bytes);
void test_ram_poke_pattern(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t seed);
/* Bytes that are not holes. */
int64_t test_ram_allocated(BlockDriverState *bs);
const TestRamCounts *test_ram_counts(BlockDriverState *bs);
void test_ram_reset_counts(BlockDriverState *bs);

/* Every operation of @ops takes @ns of the (virtual) clock longer. */
void test_ram_set_delay(BlockDriverState *bs, unsigned ops, int64_t ns);
/*
 * Operations of @ops that touch @offset/@bytes fail with @error (positive errno); @count times, < 0: for
 * ever.  Replaces the fault before.  @error 0: none.
 */
void test_ram_set_error(BlockDriverState *bs, unsigned ops, int64_t offset, int64_t bytes,
                        int error, int count);
/* Writes that are to fail fail after they have changed the disk, as one whose reply is lost. */
void test_ram_set_late_errors(BlockDriverState *bs, bool on);
/* Is told of each operation when it begins and when it has ended; NULL: nobody. */
typedef void TestRamWatch(void *opaque, unsigned op, int64_t offset, int64_t bytes, bool begins);
void test_ram_set_watch(BlockDriverState *bs, TestRamWatch *watch, void *opaque);
/*
 * Operations of @ops that touch @offset/@bytes wait before they do anything, until test_ram_release().
 * Replaces the hold before, without releasing.
 */
void test_ram_hold(BlockDriverState *bs, unsigned ops, int64_t offset, int64_t bytes);
/* How many wait now. */
unsigned test_ram_held(BlockDriverState *bs);
/* End the hold and let all go on, in the order in which they came. */
void test_ram_release(BlockDriverState *bs);
/* Let the first one go on; the hold stays for new ones.  False: nobody waits. */
bool test_ram_release_one(BlockDriverState *bs);
/* Wait until @n wait. */
void coroutine_fn test_ram_co_wait_held(BlockDriverState *bs, unsigned n);

#endif
