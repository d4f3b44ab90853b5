/* SPDX-License-Identifier: GPL-2.0-or-later */
/* alloc-int.h - the allocator from inside, for the files of this room */
#ifndef BLOCK_DRIVERS_QCOW2_ALLOC_ALLOC_INT_H
#define BLOCK_DRIVERS_QCOW2_ALLOC_ALLOC_INT_H

#include "block/drivers/qcow2/alloc/alloc.h"

/* Clusters by their numbers. */
typedef struct GivenBack {
    uint64_t first, n;
    bool discard;
} GivenBack;

struct Qcow2Alloc {
    /* Fixed. */
    Qcow2AllocConfig config;
    Qcow2Geometry g;

    /* Changed by who holds the lock, at once. */
    CoMutex lock; /* one at a time looks for free clusters, and counts them */
    uint64_t *table;
    uint64_t entries;
    GHashTable *blocks; /* the clusters that it names */
    int64_t table_offset;
    uint32_t table_clusters;
    uint64_t hint;       /* below, no cluster is free */
    uint64_t fresh_from; /* from here on the file never had anything */

    /* The pool: counted, and nobody's. */
    uint64_t pool_next, pool_end;
    bool pool_fresh;
    uint64_t taken; /* since the image was opened */

    bool unstable;
    GArray *given_back, *releasing; /* of GivenBack */
};

/* refs.c: this cluster is a block from now on. */
void qcow2_alloc_note_block(Qcow2Alloc *a, uint64_t word);
/* refs.c: the page of the block that counts @cluster, pinned; *ret_page is NULL: there is no such block. */
int coroutine_fn qcow2_co_alloc_block(Qcow2Alloc *a, uint64_t cluster, Qcow2Page **ret_page);

/* blocks.c, with the lock held: see to it that there is a block that counts @cluster, which is free.  If it is the block
   itself then, *ret_used; if the table had to be moved so that something else is free now, -EAGAIN. */
int coroutine_fn qcow2_co_alloc_add_block(Qcow2Alloc *a, uint64_t cluster, bool *ret_used);

#endif
