/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options of a node, with their limits and what they are by default.
 *
 *      cache-size     |------------------ L2 tables ------------------|-- refcount blocks --|
 *
 * Of a size for both the L2 tables get what they can use at most, the refcount blocks the rest, and never less than
 * their least.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "util/osdep.h"

/* Tables of 256 GiB of disk in the default clusters: most disks whole, without a noticeable amount of memory. */
#define L2_CACHE_BYTES_DEFAULT   (32 * MiB)
#define L2_PAGE_BYTES_DEFAULT    (4 * KiB)
#define L2_PAGE_BYTES_MIN        512
/* A table that is changed, and one that is looked at. */
#define L2_PAGES_MIN             2
/* One that is searched, two that count what is taken and given back, one to spare. */
#define REFBLOCKS_MIN            4
#define CACHE_PAGES_MAX          INT32_MAX
#define CLEAN_INTERVAL_S_DEFAULT 600
#define CLEAN_INTERVAL_S_MAX     UINT32_MAX

typedef struct Sizes {
    int64_t l2, blocks;
    int64_t l2_useful; /* all L2 tables of the disk */
    int64_t blocks_min;
} Sizes;

static int split_combined(Sizes *z, const BlockdevOptionsQcow2 *o, Error **errp)
{
    if (o->has_l2_cache_size && o->has_refcount_cache_size) {
        error_setg(errp, "cache-size, l2-cache-size and refcount-cache-size may not be set at the "
                         "same time");
        return -EINVAL;
    }
    if (o->has_l2_cache_size && o->l2_cache_size > o->cache_size) {
        error_setg(errp, "l2-cache-size may not exceed cache-size");
        return -EINVAL;
    }
    if (o->has_refcount_cache_size && o->refcount_cache_size > o->cache_size) {
        error_setg(errp, "refcount-cache-size may not exceed cache-size");
        return -EINVAL;
    }
    if (o->has_l2_cache_size) {
        z->blocks = o->cache_size - z->l2;
    } else if (o->has_refcount_cache_size) {
        z->l2 = o->cache_size - z->blocks;
    } else if (o->cache_size >= z->l2_useful + z->blocks_min) {
        z->l2 = z->l2_useful;
        z->blocks = o->cache_size - z->l2;
    } else {
        z->blocks = MIN(o->cache_size, z->blocks_min);
        z->l2 = o->cache_size - z->blocks;
    }
    return 0;
}

static int check_negative(const BlockdevOptionsQcow2 *o, Error **errp)
{
    const char *name =
        o->has_cache_size && o->cache_size < 0                       ? "cache-size"
        : o->has_l2_cache_size && o->l2_cache_size < 0               ? "l2-cache-size"
        : o->has_refcount_cache_size && o->refcount_cache_size < 0   ? "refcount-cache-size"
        : o->has_cache_clean_interval && o->cache_clean_interval < 0 ? "cache-clean-interval"
                                                                     : NULL;

    if (name) {
        error_setg(errp, "Parameter '%s' is less than 0", name);
        return -EINVAL;
    }
    return 0;
}

static int cache_sizes(const Qcow2State *s, const BlockdevOptionsQcow2 *o, Qcow2Options *ret,
                       Error **errp)
{
    int64_t cluster = qcow2_cluster_size(&s->g), page = MIN(cluster, L2_PAGE_BYTES_DEFAULT);
    Sizes z = {
        .l2_useful = (int64_t)s->header.l1_size * cluster,
        .blocks_min = REFBLOCKS_MIN * cluster,
    };
    int ret_code = 0;

    page = o->has_l2_cache_entry_size ? o->l2_cache_entry_size : page;
    if (page < L2_PAGE_BYTES_MIN || page > cluster || !is_power_of_2((uint64_t)page)) {
        error_setg(errp,
                   "L2 cache entry size must be a power of two between %d and the cluster size "
                   "(%" PRId64 ")",
                   L2_PAGE_BYTES_MIN, cluster);
        return -EINVAL;
    }
    z.l2 = o->has_l2_cache_size ? o->l2_cache_size : MIN(L2_CACHE_BYTES_DEFAULT, z.l2_useful);
    z.blocks = o->has_refcount_cache_size ? o->refcount_cache_size : z.blocks_min;
    if (o->has_cache_size) {
        ret_code = split_combined(&z, o, errp);
    }
    if (ret_code < 0) {
        return ret_code;
    }
    if (z.l2 / page > CACHE_PAGES_MAX) {
        error_setg(errp, "L2 cache size too big");
        return -EINVAL;
    }
    if (z.blocks / cluster > CACHE_PAGES_MAX) {
        error_setg(errp, "Refcount cache size too big");
        return -EINVAL;
    }
    ret->l2_page_bytes = page;
    ret->l2_cache_bytes = MAX(MIN(z.l2, MAX(z.l2_useful, page)), L2_PAGES_MIN * page);
    ret->blocks_cache_bytes = MAX(z.blocks, z.blocks_min);
    return 0;
}

int qcow2_options(const Qcow2State *s, const BlockdevOptionsQcow2 *o, int open_flags,
                  Qcow2Options *ret, Error **errp)
{
    Qcow2Options next = {0};
    int ret_code = check_negative(o, errp);

    if (ret_code == 0) {
        ret_code = cache_sizes(s, o, &next, errp);
    }
    if (ret_code < 0) {
        return ret_code;
    }
    if (o->has_cache_clean_interval && o->cache_clean_interval > CLEAN_INTERVAL_S_MAX) {
        error_setg(errp, "Cache clean interval too big");
        return -EINVAL;
    }
    next.clean_interval_s =
        o->has_cache_clean_interval ? (uint64_t)o->cache_clean_interval : CLEAN_INTERVAL_S_DEFAULT;
    next.discard_request =
        o->has_pass_discard_request ? o->pass_discard_request : open_flags & BDRV_O_UNMAP;
    next.discard_snapshot = o->has_pass_discard_snapshot ? o->pass_discard_snapshot : true;
    next.discard_other = o->has_pass_discard_other && o->pass_discard_other;
    next.discard_no_unref = o->has_discard_no_unref && o->discard_no_unref;
    if (next.discard_no_unref && s->header.version < 3) {
        error_setg(errp, "discard-no-unref is only supported since qcow2 version 3");
        return -EINVAL;
    }
    *ret = next;
    return 0;
}
