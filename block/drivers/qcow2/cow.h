/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cow.h - data for clusters that come into the image: the guest's bytes, and around them what he saw before */
#ifndef BLOCK_DRIVERS_QCOW2_COW_H
#define BLOCK_DRIVERS_QCOW2_COW_H

#include "block/drivers/qcow2/qcow2-int.h"

typedef struct Qcow2Cow {
    /* Given. */
    int64_t offset, bytes; /* the guest's */
    Qcow2Slot slot;        /* the entries, as they are still */
    uint32_t n;            /* of them, from the first on */
    int64_t place;         /* of the first one's cluster, the others follow */
    bool reuse;            /* they have that place already */
    bool fresh;            /* it reads as zeros */
    /* Found. */
    int64_t hull_start,
        hull_end; /* of whole subclusters, which are data in that place afterwards */
    bool safe; /* the guest saw zeros there, and finds them there still if the data is lost (Q3) */
} Qcow2Cow;

/* The hull is written.  0, or negative errno.  For who holds the range; the entries are the caller's to set. */
int coroutine_fn qcow2_co_cow(Qcow2State *s, Qcow2Cow *c, QEMUIOVector *qiov, size_t qiov_offset);

#endif
