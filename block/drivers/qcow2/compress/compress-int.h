/* SPDX-License-Identifier: GPL-2.0-or-later */
/* compress-int.h - the room's state, for its files */
#ifndef BLOCK_DRIVERS_QCOW2_COMPRESS_COMPRESS_INT_H
#define BLOCK_DRIVERS_QCOW2_COMPRESS_COMPRESS_INT_H

#include "block/drivers/qcow2/compress/compress.h"

struct Qcow2Compress {
    /* Under lock: from any AioContext. */
    CoMutex lock;
    CoQueue waiters;
    unsigned working;

    /* Under pack_lock; home AioContext. */
    CoMutex pack_lock;
    int64_t pack_next,
        pack_end; /* what is free of the cluster that is packed; equal: there is none */
};

#endif
