/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * refcount.h - refcounts of every width in a block in memory
 *
 * Widths of 8 bits and more are big-endian numbers; of narrower ones a byte holds several, the first in the lowest bits.
 * Pure.
 */
#ifndef BLOCK_DRIVERS_QCOW2_LAYOUT_REFCOUNT_H
#define BLOCK_DRIVERS_QCOW2_LAYOUT_REFCOUNT_H

#include "block/drivers/qcow2/layout/geometry.h"

uint64_t qcow2_refcount_get(unsigned order, const void *block, uint64_t index);
/* @value fits. */
void qcow2_refcount_set(unsigned order, void *block, uint64_t index, uint64_t value);

/* The first from @from on, below @end, that is (@zero) zero or is not; @end: none. */
uint64_t qcow2_refcount_find(unsigned order, const void *block, uint64_t from, uint64_t end,
                             bool zero);
/* The last below @end that is not zero, plus one; 0: none. */
uint64_t qcow2_refcount_used_end(unsigned order, const void *block, uint64_t end);

#endif
