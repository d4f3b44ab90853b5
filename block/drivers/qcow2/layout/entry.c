/* SPDX-License-Identifier: GPL-2.0-or-later */
/* L2 entries, with subclusters or without. */
#include "block/drivers/qcow2/layout/entry.h"

/* Compressed data is counted in sectors of this size. */
#define SECTOR_BYTES 512

Qcow2Entry qcow2_entry_get(const Qcow2Geometry *g, const void *table, uint32_t index)
{
    const uint8_t *at = (const uint8_t *)table + (size_t)index * g->l2_entry_bytes;

    return (Qcow2Entry){
        .word = ldq_be_p(at),
        .subclusters = g->subclusters > 1 ? ldq_be_p(at + 8) : 0,
    };
}

void qcow2_entry_set(const Qcow2Geometry *g, void *table, uint32_t index, Qcow2Entry entry)
{
    uint8_t *at = (uint8_t *)table + (size_t)index * g->l2_entry_bytes;

    stq_be_p(at, entry.word);
    if (g->subclusters > 1) {
        stq_be_p(at + 8, entry.subclusters);
    }
}

bool qcow2_entry_has_place(const Qcow2Geometry *g, Qcow2Entry entry)
{
    if (entry.word & QCOW2_COMPRESSED) {
        return false;
    }
    /* In a file of its own the first cluster lies at 0. */
    return qcow2_entry_place(entry) != 0 || (g->external_data && (entry.word & QCOW2_COPIED));
}

Qcow2ClusterKind qcow2_entry_kind(const Qcow2Geometry *g, Qcow2Entry entry, unsigned subcluster)
{
    bool place = qcow2_entry_has_place(g, entry), allocated, zero;

    if (entry.word & QCOW2_COMPRESSED) {
        return entry.subclusters ? QCOW2_INVALID : QCOW2_COMPRESSED_DATA;
    }
    if (g->subclusters == 1) {
        if (g->version >= 3 && (entry.word & QCOW2_ZERO)) {
            return place ? QCOW2_ZERO_PLACE : QCOW2_ZERO_PLAIN;
        }
        return place ? QCOW2_DATA : QCOW2_UNALLOCATED;
    }
    allocated = entry.subclusters & (UINT64_C(1) << subcluster);
    zero = entry.subclusters & (UINT64_C(1) << (32 + subcluster));
    if (allocated) {
        return zero || !place ? QCOW2_INVALID : QCOW2_DATA;
    }
    if (zero) {
        return place ? QCOW2_ZERO_PLACE : QCOW2_ZERO_PLAIN;
    }
    return place ? QCOW2_UNALLOCATED_PLACE : QCOW2_UNALLOCATED;
}

unsigned qcow2_entry_run(const Qcow2Geometry *g, Qcow2Entry entry, unsigned subcluster)
{
    Qcow2ClusterKind kind = qcow2_entry_kind(g, entry, subcluster);
    unsigned end = subcluster + 1;

    if (kind == QCOW2_COMPRESSED_DATA) {
        return g->subclusters - subcluster;
    }
    while (end < g->subclusters && qcow2_entry_kind(g, entry, end) == kind) {
        end++;
    }
    return end - subcluster;
}

const char *qcow2_entry_check(const Qcow2Geometry *g, Qcow2Entry entry)
{
    if (entry.word & QCOW2_COMPRESSED) {
        return NULL;
    }
    if (!qcow2_is_cluster_aligned(g, qcow2_entry_place(entry))) {
        return "unaligned";
    }
    if ((entry.subclusters >> 32) & entry.subclusters & UINT32_MAX) {
        return "allocated and zero at once";
    }
    if ((entry.subclusters & QCOW2_ALL_ALLOCATED) && !qcow2_entry_has_place(g, entry)) {
        return "missing";
    }
    return NULL;
}

/* The descriptor: offset in the lower bits, then how many sectors there are more than the first. */
static unsigned offset_bits(const Qcow2Geometry *g)
{
    return 62 - (g->cluster_bits - 8);
}

void qcow2_compressed_decode(const Qcow2Geometry *g, uint64_t word, Qcow2Compressed *ret)
{
    unsigned bits = offset_bits(g);
    uint64_t offset = word & ((UINT64_C(1) << bits) - 1);
    uint64_t more = (word & (QCOW2_COMPRESSED - 1)) >> bits;

    ret->offset = (int64_t)(offset & (QCOW2_HOST_END - 1));
    ret->bytes = (int64_t)((more + 1) * SECTOR_BYTES - offset % SECTOR_BYTES);
}

uint64_t qcow2_compressed_encode(const Qcow2Geometry *g, int64_t offset, int64_t bytes)
{
    uint64_t more = (uint64_t)(offset + bytes - 1) / SECTOR_BYTES - offset / SECTOR_BYTES;

    assert(bytes > 0 && offset + bytes <= qcow2_compressed_end(g));
    assert(more < UINT64_C(1) << (62 - offset_bits(g)));
    return QCOW2_COMPRESSED | more << offset_bits(g) | (uint64_t)offset;
}

int64_t qcow2_compressed_end(const Qcow2Geometry *g)
{
    return MIN(INT64_C(1) << offset_bits(g), QCOW2_HOST_END);
}

Qcow2Entry qcow2_entry_data(const Qcow2Geometry *g, int64_t place)
{
    return (Qcow2Entry){
        .word = QCOW2_COPIED | (uint64_t)place,
        .subclusters = g->subclusters > 1 ? QCOW2_ALL_ALLOCATED : 0,
    };
}

static Qcow2Entry zero_entry(const Qcow2Geometry *g, uint64_t word)
{
    if (g->subclusters > 1) {
        return (Qcow2Entry){.word = word, .subclusters = QCOW2_ALL_ZERO};
    }
    return (Qcow2Entry){.word = word | QCOW2_ZERO};
}

Qcow2Entry qcow2_entry_zero_place(const Qcow2Geometry *g, int64_t place)
{
    return zero_entry(g, QCOW2_COPIED | (uint64_t)place);
}

Qcow2Entry qcow2_entry_zero_plain(const Qcow2Geometry *g)
{
    return zero_entry(g, 0);
}
