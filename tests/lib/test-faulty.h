/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-faulty: a filter whose requests fail now and then, as those of a disk that is going to die, or that is full.
 *
 *      a write, zeroes     fails before it is made; after a part of it; or when all of it has been made
 *      a discard, a read   fails before
 *      a flush             fails before; what it was for is flushed by the next one that succeeds
 *      a truncate          fails before
 *
 * Main AioContext.
 */
#ifndef TESTS_LIB_TEST_FAULTY_H
#define TESTS_LIB_TEST_FAULTY_H

#include "block/graph/graph.h"

enum {
    TEST_FAULTY_READ = 1 << 0,
    TEST_FAULTY_WRITE = 1 << 1, /* and zeroes, and discards */
    TEST_FAULTY_FLUSH = 1 << 2,
    TEST_FAULTY_TRUNCATE = 1 << 3,
};

typedef struct TestFaultyPlan {
    unsigned ops;    /* TEST_FAULTY_*; 0: nothing fails */
    unsigned one_in; /* of so many of these requests, at random */
    unsigned most;   /* failures, and then none any more; 0: no bound */
    int error;       /* positive errno */
} TestFaultyPlan;

/* One reference for the caller; @below is counted by the callee.  @rand is borrowed. */
BlockDriverState *test_faulty_new(const char *node_name, BlockDriverState *below, GRand *rand);
void test_faulty_set(BlockDriverState *bs, const TestFaultyPlan *plan);
/* How many have failed since the plan was made. */
unsigned test_faulty_count(BlockDriverState *bs);

#endif
