/* SPDX-License-Identifier: GPL-2.0-or-later */
/* L2 entries that no program writes. */
#include "block/drivers/qcow2/check/fault.h"

Qcow2Entry qcow2_entry_lost(const Qcow2Geometry *g, Qcow2Entry entry)
{
    if (g->version < 3) {
        return (Qcow2Entry){0};
    }
    if (g->subclusters > 1 && !(entry.word & QCOW2_COMPRESSED)) {
        uint64_t gone = entry.subclusters & QCOW2_ALL_ALLOCATED;

        return (Qcow2Entry){.subclusters = (entry.subclusters & QCOW2_ALL_ZERO) | gone << 32};
    }
    return qcow2_entry_zero_plain(g);
}

static Qcow2Fault compressed_fault(const Qcow2Geometry *g, Qcow2Entry entry, Qcow2Entry *mended)
{
    *mended = entry;
    if (entry.word & QCOW2_COPIED) {
        mended->word &= ~QCOW2_COPIED;
        return QCOW2_FAULT_COMPRESSED_COPIED;
    }
    if (g->external_data) {
        *mended = qcow2_entry_lost(g, entry);
        return QCOW2_FAULT_COMPRESSED_EXTERNAL;
    }
    if (entry.subclusters) {
        mended->subclusters = 0;
        return QCOW2_FAULT_COMPRESSED_SUBCLUSTERS;
    }
    return QCOW2_FAULT_NONE;
}

static bool has_data(const Qcow2Geometry *g, Qcow2Entry entry)
{
    return g->subclusters > 1 ? entry.subclusters & QCOW2_ALL_ALLOCATED
                              : qcow2_entry_kind(g, entry, 0) == QCOW2_DATA;
}

Qcow2Fault qcow2_entry_fault(const Qcow2Geometry *g, Qcow2Entry entry, Qcow2Entry *ret_mended)
{
    bool place = qcow2_entry_has_place(g, entry);

    *ret_mended = entry;
    if (entry.word & QCOW2_COMPRESSED) {
        return compressed_fault(g, entry, ret_mended);
    }
    if (entry.word & QCOW2_L2_RESERVED) {
        ret_mended->word &= ~QCOW2_L2_RESERVED;
        return QCOW2_FAULT_RESERVED;
    }
    if (g->subclusters > 1 && !place && (entry.subclusters & QCOW2_ALL_ALLOCATED)) {
        *ret_mended = qcow2_entry_lost(g, entry);
        return QCOW2_FAULT_NO_PLACE;
    }
    if (g->subclusters > 1 && (entry.subclusters >> 32) & entry.subclusters & QCOW2_ALL_ALLOCATED) {
        ret_mended->subclusters &= ~((entry.subclusters & QCOW2_ALL_ALLOCATED) << 32);
        return QCOW2_FAULT_BOTH;
    }
    if (place && !qcow2_is_cluster_aligned(g, (uint64_t)qcow2_entry_place(entry))) {
        if (has_data(g, entry)) {
            return QCOW2_FAULT_UNALIGNED;
        }
        ret_mended->word = g->subclusters > 1 ? 0 : QCOW2_ZERO;
        return QCOW2_FAULT_UNALIGNED_ZERO;
    }
    return QCOW2_FAULT_NONE;
}
