/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * place.h - where the refcount structure of an image goes that is counted anew
 *
 * Each block that is needed lies in the first free cluster of those that it counts, or behind them; so the search goes
 * upwards only, and ends.  The table comes last, in the first place that is large enough.  All of them are counted.
 * Pure.
 */
#ifndef BLOCK_DRIVERS_QCOW2_CHECK_PLACE_H
#define BLOCK_DRIVERS_QCOW2_CHECK_PLACE_H

#include "block/drivers/qcow2/check/counts.h"

typedef struct Qcow2Placement {
    uint64_t *table; /* for each block of the counts its offset; 0: not needed; owned */
    uint64_t entries;
    uint64_t offset, clusters; /* of the table, bytes and clusters */
} Qcow2Placement;

/*
 * qcow2_place() - the structure for @counts, which is counted there
 * @from: a cluster; nothing is placed before
 *
 * Return: 0; -EFBIG, no image can be so large; -ENOMEM.  qcow2_placement_clear() in any case.
 */
int qcow2_place(Qcow2Counts *counts, uint64_t from, Qcow2Placement *ret);
void qcow2_placement_clear(Qcow2Placement *p);

#endif
