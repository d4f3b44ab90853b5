/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault.h - what is wrong with an L2 entry in itself, and what a repair makes of it
 *
 * A repair takes away what says nothing that could be kept; an entry whose place may still be one is not touched
 * (QCOW2_FAULT_UNALIGNED): who knows the image may know what was meant.
 * Pure.
 */
#ifndef BLOCK_DRIVERS_QCOW2_CHECK_FAULT_H
#define BLOCK_DRIVERS_QCOW2_CHECK_FAULT_H

#include "block/drivers/qcow2/layout/entry.h"

typedef enum Qcow2Fault {
    QCOW2_FAULT_NONE,
    QCOW2_FAULT_RESERVED,               /* bits: they are cleared */
    QCOW2_FAULT_COMPRESSED_COPIED,      /* the flag is cleared */
    QCOW2_FAULT_COMPRESSED_EXTERNAL,    /* in an image with a data file: reads as zeros */
    QCOW2_FAULT_COMPRESSED_SUBCLUSTERS, /* they are cleared */
    QCOW2_FAULT_UNALIGNED,              /* data; not repaired */
    QCOW2_FAULT_UNALIGNED_ZERO,         /* no data there: the place is given up */
    QCOW2_FAULT_BOTH,     /* allocated and zero: it is allocated, so nothing is lost */
    QCOW2_FAULT_NO_PLACE, /* allocated, and nowhere: reads as zeros */
} Qcow2Fault;

/* The first fault of an entry; *ret_mended is what it becomes, which may have another. */
Qcow2Fault qcow2_entry_fault(const Qcow2Geometry *g, Qcow2Entry entry, Qcow2Entry *ret_mended);
/* An entry whose host cluster is not there: zeros; of version 2, which cannot say so, nothing. */
Qcow2Entry qcow2_entry_lost(const Qcow2Geometry *g, Qcow2Entry entry);

#endif
