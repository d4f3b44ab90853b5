/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between an image that is as its file says, and one that is used.
 *
 *      settled -- the first change --> begun: counts in memory, clusters taken ahead -- close, reopen --> settled
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/check/check.h"
#include "block/drivers/qcow2/image/image.h"
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

typedef struct TablePlace {
    int64_t offset;
    uint32_t clusters;
} TablePlace;

static void set_reftable(Qcow2Header *next, const void *opaque)
{
    const TablePlace *place = opaque;

    next->reftable_offset = (uint64_t)place->offset;
    next->reftable_clusters = place->clusters;
}

static int coroutine_fn move_reftable(void *opaque, int64_t offset, uint32_t clusters)
{
    return qcow2_co_change_header(opaque, set_reftable, &(TablePlace){offset, clusters});
}

static int coroutine_fn check_run(void *opaque, int64_t offset, int64_t bytes)
{
    Qcow2State *s = opaque;

    if (offset == 0) { /* the header's cluster is free, the table says */
        qcow2_co_corrupt(s, true, offset, bytes,
                         "Preventing invalid allocation of a cluster at offset 0");
        return -EIO;
    }
    return qcow2_co_guard_run(s, offset, bytes);
}

static void coroutine_fn bad_entry(void *opaque, uint64_t index, uint64_t word)
{
    qcow2_co_corrupt(opaque, true, -1, -1,
                     "Refblock offset %#" PRIx64 " unaligned (reftable index: %#" PRIx64 ")",
                     word & QCOW2_REFTABLE_OFFSET_MASK, index);
}

static int coroutine_fn make_alloc(Qcow2State *s, Error **errp)
{
    int64_t cluster = qcow2_cluster_size(&s->g);
    int64_t file_bytes = bdrv_getlength(s->bs->file->bs);
    Qcow2CacheConfig blocks = {
        .file = s->bs->file,
        .page_bytes = cluster,
        .max_pages = s->options.blocks_cache_bytes / cluster,
        .make_room = qcow2_co_make_blocks_room,
        .opaque = s,
    };
    Qcow2AllocConfig config = {
        .geometry = s->g,
        .file = s->bs->file,
        .reftable_offset = (int64_t)s->header.reftable_offset,
        .reftable_clusters = s->header.reftable_clusters,
        .file_bytes = file_bytes,
        .hooks = {move_reftable, check_run, bad_entry, s},
    };
    int ret = file_bytes < 0 ? (int)file_bytes : 0;
    uint8_t *table = NULL;

    if (ret == 0) {
        table = qcow2_co_load_table(s->bs->file, config.reftable_offset,
                                    (int64_t)config.reftable_clusters * cluster, &ret);
    }
    if (!table) {
        error_setg_errno(errp, -ret, "Could not read the refcount table");
        return ret;
    }
    config.blocks = qcow2_cache_new(&blocks);
    s->blocks = config.blocks;
    s->alloc = qcow2_alloc_new(&config, table);
    qcow2_guard_begin(s);
    qemu_vfree(table);
    return 0;
}

static void drop_autoclear(Qcow2Header *next, const void *opaque)
{
    next->autoclear &= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

/* Q13 */
static int coroutine_fn clear_autoclear(Qcow2State *s)
{
    if (!(s->header.autoclear & ~(uint64_t)QCOW2_AUTOCLEAR_DATA_FILE_RAW)) {
        return 0;
    }
    return qcow2_co_change_header(s, drop_autoclear, NULL);
}

/* The file is one that may be changed. */
static int coroutine_fn prepare_file(Qcow2State *s, Error **errp)
{
    int ret = 0;

    if (s->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY) {
        ret = qcow2_co_repair_dirty(s, errp); /* Q13 */
    }
    if (ret < 0) {
        return ret;
    }
    ret = clear_autoclear(s);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not update qcow2 header");
    }
    return ret;
}

static void free_alloc(Qcow2State *s)
{
    qcow2_alloc_delete(s->alloc);
    qcow2_cache_delete(s->blocks);
    qcow2_guard_end(s);
    s->alloc = NULL;
    s->blocks = NULL;
}

int coroutine_fn qcow2_co_begin(Qcow2State *s, Error **errp)
{
    int ret = 0;

    if (s->failed || s->corrupt) {
        error_setg(errp, "The qcow2 image takes no writes any more");
        return -EIO;
    }
    if (s->alloc) {
        return 0;
    }
    qemu_co_mutex_lock(&s->begin_lock);
    if (!s->alloc) {
        ret = prepare_file(s, errp);
        if (ret == 0) {
            ret = make_alloc(s, errp);
        }
    }
    qemu_co_mutex_unlock(&s->begin_lock);
    return ret;
}

int coroutine_fn qcow2_co_settle(Qcow2State *s)
{
    int ret;

    if (!s->alloc) {
        return 0;
    }
    qcow2_compress_settle(s);
    do {
        ret = s->failed || s->corrupt ? -EIO : qcow2_co_commit(s);
    } while (ret == 0 && qcow2_alloc_has_given_back(s->alloc));
    if (ret == 0) {
        qcow2_co_alloc_settle(s->alloc);
        ret = qcow2_co_write_blocks(s);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(s->bs->file->bs);
    }
    free_alloc(s);
    return ret;
}
