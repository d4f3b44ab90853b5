/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-cow: an overlay with clusters and a backing file, in memory.
 *
 * What a format does as far as jobs can tell: clusters are allocated by writes (the rest of a cluster
 * is copied from the backing file), block status says what is allocated here, get_info names the
 * cluster size.
 *
 * Main thread, or the home AioContext quiesced.
 */
#ifndef TESTS_LIB_TEST_COW_H
#define TESTS_LIB_TEST_COW_H

#include "block/graph/graph.h"

/*
 * One reference for the caller.  @cluster_size is a power of two; @backing (counted by the callee, may
 * be NULL) is attached as the backing child.
 */
BlockDriverState *test_cow_new(const char *node_name, int64_t size, int64_t cluster_size,
                               BlockDriverState *backing);
/* Every operation but block status takes @ns of the (virtual) clock longer. */
void test_cow_set_delay(BlockDriverState *bs, int64_t ns);
/* Is the cluster that holds @offset allocated here (as data or zeros)? */
bool test_cow_is_allocated(BlockDriverState *bs, int64_t offset);
int64_t test_cow_allocated_clusters(BlockDriverState *bs);

#endif
