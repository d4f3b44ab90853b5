/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * geometry.h - how an image is divided: clusters, tables, entries; and the limits of all of them
 *
 *      guest offset   | L1 index | L2 index | in the cluster |           host cluster | table index | block index |
 *                                 l2_bits     cluster_bits                             refblock_bits
 *
 * Pure; fixed once the header is decoded.
 */
#ifndef BLOCK_DRIVERS_QCOW2_LAYOUT_GEOMETRY_H
#define BLOCK_DRIVERS_QCOW2_LAYOUT_GEOMETRY_H

#include "util/osdep.h"

/* The format begins at 512 bytes.  Above 2 MiB a table would be a disk access of its own kind; QEMU ends there, too. */
#define QCOW2_CLUSTER_BITS_MIN          9
#define QCOW2_CLUSTER_BITS_MAX          21
/* 32 subclusters of 512 bytes */
#define QCOW2_EXTENDED_CLUSTER_BITS_MIN 14
/* The active L1 table and the refcount table are held in memory whole. */
#define QCOW2_L1_BYTES_MAX              (32 * MiB)
#define QCOW2_REFTABLE_BYTES_MAX        (8 * MiB)
/* Host offsets in L1 and L2 entries have bits 9 to 55. */
#define QCOW2_HOST_OFFSET_MASK          UINT64_C(0x00fffffffffffe00)
#define QCOW2_REFTABLE_OFFSET_MASK      UINT64_C(0xfffffffffffffe00)
#define QCOW2_HOST_END                  (INT64_C(1) << 56)
#define QCOW2_SUBCLUSTERS               32

typedef struct Qcow2Geometry {
    unsigned version; /* 2, 3 */
    unsigned cluster_bits;
    unsigned l2_entry_bytes; /* 8; 16 with subclusters */
    unsigned l2_bits;        /* entries of an L2 table: 1 << l2_bits */
    unsigned subclusters;    /* of a cluster: 1 or QCOW2_SUBCLUSTERS */
    unsigned subcluster_bits;
    unsigned refcount_order; /* a refcount has 1 << refcount_order bits */
    unsigned refblock_bits;  /* refcounts of a block: 1 << refblock_bits */
    bool external_data;      /* guest clusters are in a file of their own, at the guest's offsets */
} Qcow2Geometry;

static inline void qcow2_geometry_init(Qcow2Geometry *g, unsigned version, unsigned cluster_bits,
                                       bool extended_l2, unsigned refcount_order,
                                       bool external_data)
{
    g->version = version;
    g->cluster_bits = cluster_bits;
    g->l2_entry_bytes = extended_l2 ? 16 : 8;
    g->l2_bits = cluster_bits - (extended_l2 ? 4 : 3);
    g->subclusters = extended_l2 ? QCOW2_SUBCLUSTERS : 1;
    g->subcluster_bits = cluster_bits - (extended_l2 ? 5 : 0);
    g->refcount_order = refcount_order;
    g->refblock_bits = cluster_bits + 3 - refcount_order;
    g->external_data = external_data;
}

static inline int64_t qcow2_cluster_size(const Qcow2Geometry *g)
{
    return INT64_C(1) << g->cluster_bits;
}

static inline int64_t qcow2_subcluster_size(const Qcow2Geometry *g)
{
    return INT64_C(1) << g->subcluster_bits;
}

/* Bytes of the disk that one L2 table maps. */
static inline int64_t qcow2_l2_span(const Qcow2Geometry *g)
{
    return INT64_C(1) << (g->cluster_bits + g->l2_bits);
}

static inline uint64_t qcow2_l1_index(const Qcow2Geometry *g, int64_t offset)
{
    return (uint64_t)offset >> (g->cluster_bits + g->l2_bits);
}

static inline uint32_t qcow2_l2_index(const Qcow2Geometry *g, int64_t offset)
{
    return ((uint64_t)offset >> g->cluster_bits) & ((UINT32_C(1) << g->l2_bits) - 1);
}

static inline int64_t qcow2_in_cluster(const Qcow2Geometry *g, int64_t offset)
{
    return offset & (qcow2_cluster_size(g) - 1);
}

static inline int64_t qcow2_cluster_start(const Qcow2Geometry *g, int64_t offset)
{
    return offset & ~(qcow2_cluster_size(g) - 1);
}

/* Saturates rather than overflows: it is compared with limits. */
static inline int64_t qcow2_cluster_end(const Qcow2Geometry *g, int64_t offset)
{
    int64_t mask = qcow2_cluster_size(g) - 1;

    return offset > INT64_MAX - mask ? INT64_MAX & ~mask : (offset + mask) & ~mask;
}

static inline bool qcow2_is_cluster_aligned(const Qcow2Geometry *g, uint64_t offset)
{
    return (offset & (uint64_t)(qcow2_cluster_size(g) - 1)) == 0;
}

/* Entries of the L1 table of a disk of @bytes. */
static inline uint64_t qcow2_l1_entries(const Qcow2Geometry *g, uint64_t bytes)
{
    unsigned shift = g->cluster_bits + g->l2_bits;

    return (bytes >> shift) + ((bytes & ((UINT64_C(1) << shift) - 1)) != 0);
}

/* The refcount block that counts a cluster, and which of its refcounts does. */
static inline uint64_t qcow2_reftable_index(const Qcow2Geometry *g, uint64_t cluster)
{
    return cluster >> g->refblock_bits;
}

static inline uint32_t qcow2_refblock_index(const Qcow2Geometry *g, uint64_t cluster)
{
    return cluster & ((UINT64_C(1) << g->refblock_bits) - 1);
}

static inline uint64_t qcow2_refcount_max(const Qcow2Geometry *g)
{
    return g->refcount_order == 6 ? UINT64_MAX
                                  : (UINT64_C(1) << (UINT64_C(1) << g->refcount_order)) - 1;
}

#endif
