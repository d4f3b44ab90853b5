/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cache-int.h - a cache from inside, for the files of this room */
#ifndef BLOCK_DRIVERS_QCOW2_CACHE_CACHE_INT_H
#define BLOCK_DRIVERS_QCOW2_CACHE_CACHE_INT_H

#include "block/drivers/qcow2/cache/cache.h"

struct Qcow2Cache {
    /* Fixed. */
    Qcow2CacheConfig config;
    int64_t piece_bytes; /* K4 */

    CoMutex
        lock; /* of a shared cache: held by who looks at what follows; never while the file is read */
    CoQueue loaded; /* somebody's page has been read */
    GHashTable *pages;
    QTAILQ_HEAD(, Qcow2Page) clean; /* the first was used last of all */
    QTAILQ_HEAD(, Qcow2Page) dirty; /* the first has been dirty for longest */
    int64_t n_pages, n_dirty;
};

void qcow2_page_set_clean(Qcow2Page *page);
void qcow2_page_set_dirty(Qcow2Page *page, uint64_t mask);

#endif
