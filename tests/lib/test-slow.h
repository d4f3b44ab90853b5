/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-slow: a filter whose requests take a while on the virtual clock, each another, so that they overtake each other.
 *
 *      request --- some ns ---> the node below --- some ns ---> its end
 *
 * What is in flight when another begins may thus be done already, not yet, or never be.  Main AioContext.
 */
#ifndef TESTS_LIB_TEST_SLOW_H
#define TESTS_LIB_TEST_SLOW_H

#include "block/graph/graph.h"

/*
 * One reference for the caller; @below is counted by the callee.  Delays are below @max_ns, a few are ten times that;
 * they are drawn from @rand, which is borrowed.
 */
BlockDriverState *test_slow_new(const char *node_name, BlockDriverState *below, GRand *rand,
                                int64_t max_ns);

#endif
