/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share: the backend itself. */
#ifndef BLOCK_BACKEND_INT_H
#define BLOCK_BACKEND_INT_H

#include "block/backend/backend.h"

/* A coroutine whose request was held back; on its own stack. */
typedef struct BlkWaiter BlkWaiter;
struct BlkWaiter {
    Coroutine *co;
    QSIMPLEQ_ENTRY(BlkWaiter) next;
};

struct BlockBackend {
    /* Main thread. */
    int refcnt;
    char *name; /* "" or unique */
    char *desc; /* NULL: made from the name */
    uint64_t perm, shared_perm;
    const BlockDevOps *dev_ops;
    void *dev_opaque;
    BlockdevOnError on_read_error, on_write_error;
    QTAILQ_ENTRY(BlockBackend) named_list; /* while name is not empty */

    /* Changed by the main thread while no request is in flight. */
    BdrvChild *root; /* NULL: no medium */

    /* Atomic. */
    int in_flight;       /* B1 */
    int quiesce_counter; /* B1 */
    bool disable_request_queuing;
    bool enable_write_cache;
    bool iostatus_enabled;
    int iostatus; /* BlockDeviceIoStatus */

    /* Under wait_lock. */
    GMutex wait_lock;
    QSIMPLEQ_HEAD(, BlkWaiter) waiters;

    /* Home AioContext. */
    BlockAcctStats stats;
};

/* request.c: let go what was held back.  Main thread, quiesce_counter is zero. */
void blk_wake_waiters(BlockBackend *blk);

#endif
