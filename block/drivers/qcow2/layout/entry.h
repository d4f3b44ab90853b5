/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * entry.h - what L1 and L2 entries say
 *
 *      standard   63 |C|0|......|host offset 55..9 |.......|Z| 0      C: refcount is one   Z: reads as zeros (version 3)
 *      compressed 63 |0|1|sectors - 1 | host offset, of a byte | 0
 *      subclusters   63 |reads as zeros, a bit each | allocated, a bit each| 0       the second half of a 16 byte entry
 *
 * Pure.  Numbers are in the processor's order; what they come from is big-endian (qcow2_entry_get()).
 */
#ifndef BLOCK_DRIVERS_QCOW2_LAYOUT_ENTRY_H
#define BLOCK_DRIVERS_QCOW2_LAYOUT_ENTRY_H

#include "block/drivers/qcow2/layout/geometry.h"

#define QCOW2_COPIED            (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED        (UINT64_C(1) << 62)
#define QCOW2_ZERO              UINT64_C(1)
/* What must be zero in an entry of the L1 table and of the refcount table, and in a standard L2 entry (bit 0: see there). */
#define QCOW2_L1_RESERVED       UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED       UINT64_C(0x3f000000000001fe)
#define QCOW2_REFTABLE_RESERVED UINT64_C(0x1ff)
/* All subclusters, as allocated, or as zeros. */
#define QCOW2_ALL_ALLOCATED     UINT64_C(0x00000000ffffffff)
#define QCOW2_ALL_ZERO          UINT64_C(0xffffffff00000000)

/* An L2 entry; @subclusters is 0 where the image has none. */
typedef struct Qcow2Entry {
    uint64_t word, subclusters;
} Qcow2Entry;

/* What a subcluster, or a cluster of an image without them, is. */
typedef enum Qcow2ClusterKind {
    QCOW2_UNALLOCATED,       /* read from the backing file; no host cluster */
    QCOW2_UNALLOCATED_PLACE, /* read from the backing file; there is a host cluster (subclusters only) */
    QCOW2_ZERO_PLAIN,        /* zeros; no host cluster */
    QCOW2_ZERO_PLACE,        /* zeros; there is a host cluster */
    QCOW2_DATA,              /* in the host cluster */
    QCOW2_COMPRESSED_DATA,
    QCOW2_INVALID, /* what no program writes */
} Qcow2ClusterKind;

static inline bool qcow2_kind_is_zero(Qcow2ClusterKind kind)
{
    return kind == QCOW2_ZERO_PLAIN || kind == QCOW2_ZERO_PLACE;
}

static inline bool qcow2_kind_is_unallocated(Qcow2ClusterKind kind)
{
    return kind == QCOW2_UNALLOCATED || kind == QCOW2_UNALLOCATED_PLACE;
}

/* Whether there is a host cluster that a write can go to, if nobody else has it. */
static inline bool qcow2_kind_has_place(Qcow2ClusterKind kind)
{
    return kind == QCOW2_DATA || kind == QCOW2_ZERO_PLACE || kind == QCOW2_UNALLOCATED_PLACE;
}

/* Entry number @index of a table in memory. */
Qcow2Entry qcow2_entry_get(const Qcow2Geometry *g, const void *table, uint32_t index);
void qcow2_entry_set(const Qcow2Geometry *g, void *table, uint32_t index, Qcow2Entry entry);

/*
 * qcow2_entry_kind() - of subcluster number @subcluster (0 in images without)
 *
 * QCOW2_INVALID: a subcluster is allocated and zero at once, or has no host cluster; or bits that are reserved are set
 * in the subcluster word of a compressed cluster.  Alignment is asked for by qcow2_entry_check().
 */
Qcow2ClusterKind qcow2_entry_kind(const Qcow2Geometry *g, Qcow2Entry entry, unsigned subcluster);
/* How many subclusters from @subcluster on are of its kind: >= 1. */
unsigned qcow2_entry_run(const Qcow2Geometry *g, Qcow2Entry entry, unsigned subcluster);

/* Whether the entry has a host cluster, and which; compressed ones have none. */
bool qcow2_entry_has_place(const Qcow2Geometry *g, Qcow2Entry entry);
static inline int64_t qcow2_entry_place(Qcow2Entry entry)
{
    return entry.word & QCOW2_HOST_OFFSET_MASK;
}

/*
 * qcow2_entry_check() - whether the host offset may be one
 *
 * Return: NULL, or what is wrong with it, in words.
 */
const char *qcow2_entry_check(const Qcow2Geometry *g, Qcow2Entry entry);

typedef struct Qcow2Compressed {
    int64_t offset; /* of the first byte, in the file */
    int64_t bytes;  /* to the end of the last sector; the data may end before */
} Qcow2Compressed;
void qcow2_compressed_decode(const Qcow2Geometry *g, uint64_t word, Qcow2Compressed *ret);
/* The bytes end in the sector they end in: any @bytes > 0 that a cluster has.  @offset is one that can be said. */
uint64_t qcow2_compressed_encode(const Qcow2Geometry *g, int64_t offset, int64_t bytes);
/* Where compressed data must end, so that its offset can be said. */
int64_t qcow2_compressed_end(const Qcow2Geometry *g);

/* Entries whose cluster is all data at @place, all zeros with that place, all zeros without one (not in version 2). */
Qcow2Entry qcow2_entry_data(const Qcow2Geometry *g, int64_t place);
Qcow2Entry qcow2_entry_zero_place(const Qcow2Geometry *g, int64_t place);
Qcow2Entry qcow2_entry_zero_plain(const Qcow2Geometry *g);

#endif
