/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * counts.h - how often each cluster of a file is referred to, as a check finds it
 *
 *      | refcounts of block 0 | of block 1 | ...        as wide as the image's own, laid out as in its refcount blocks
 *
 * So what is found can be compared with a block of the file, and written as one.  An image of 16 bit refcounts takes two
 * bytes a cluster: 32 MiB for each TiB of a file with clusters of 64 KiB.
 * Pure.
 */
#ifndef BLOCK_DRIVERS_QCOW2_CHECK_COUNTS_H
#define BLOCK_DRIVERS_QCOW2_CHECK_COUNTS_H

#include "block/drivers/qcow2/layout/geometry.h"
#include "block/drivers/qcow2/layout/refcount.h"

/*
 * A file that is longer is no image that somebody uses: 128 TiB of clusters of 64 KiB, or 1 TiB of the smallest ones.
 * Memory is touched only where counts are.
 */
#define QCOW2_COUNTS_BYTES_MAX (4 * GiB)

typedef struct Qcow2Counts {
    Qcow2Geometry g;
    uint8_t *data;
    uint64_t blocks;
} Qcow2Counts;

/* For @clusters at least.  0; -EFBIG, -ENOMEM. */
int qcow2_counts_init(Qcow2Counts *c, const Qcow2Geometry *g, uint64_t clusters);
void qcow2_counts_clear(Qcow2Counts *c);
/* For more than there were.  As _init(); on failure nothing has changed. */
int qcow2_counts_grow(Qcow2Counts *c, uint64_t clusters);
/* Nothing is referred to. */
void qcow2_counts_reset(Qcow2Counts *c);

static inline uint64_t qcow2_counts_clusters(const Qcow2Counts *c)
{
    return c->blocks << c->g.refblock_bits;
}

static inline uint8_t *qcow2_counts_block(const Qcow2Counts *c, uint64_t block)
{
    return c->data + (block << c->g.cluster_bits);
}

/* Clusters that there is no room for are referred to by nobody. */
uint64_t qcow2_counts_get(const Qcow2Counts *c, uint64_t cluster);
void qcow2_counts_set(Qcow2Counts *c, uint64_t cluster, uint64_t value);
/* One more; false: there are as many as a refcount can say. */
bool qcow2_counts_add(Qcow2Counts *c, uint64_t cluster);
/* The first of @n clusters in a row, from @from on, that nobody refers to; it may lie behind all there is room for. */
uint64_t qcow2_counts_find_free(const Qcow2Counts *c, uint64_t from, uint64_t n);

#endif
