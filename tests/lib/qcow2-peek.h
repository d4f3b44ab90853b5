/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2-peek: a qcow2 image as its bytes are, without the driver: who refers to which cluster, against the refcounts.
 *
 * Only layout/ is shared with the driver.  Snapshots, bitmaps and compressed clusters are not known here.
 */
#ifndef TESTS_LIB_QCOW2_PEEK_H
#define TESTS_LIB_QCOW2_PEEK_H

#include "block/graph/graph.h"

typedef struct Qcow2Peek {
    int64_t leaks;    /* clusters that are counted, and that nobody refers to */
    int64_t clusters; /* in use */
    char *wrong;      /* the first thing that is worse than a leak; NULL: nothing.  For g_free() */
} Qcow2Peek;

/* @file: @bytes of the file, all of it. */
void qcow2_peek(const uint8_t *file, int64_t bytes, Qcow2Peek *ret);
/* The same for what is in a node now, read through an edge of its own. */
void coroutine_fn qcow2_co_peek_node(BlockDriverState *bs, Qcow2Peek *ret);

#endif
