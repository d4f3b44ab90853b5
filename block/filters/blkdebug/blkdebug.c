/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "blkdebug": a filter that fails, holds and restricts requests, to test what is above it.
 *
 *     read          read_aio
 *     write         write_aio, pwritev; after it pwritev_done
 *     write-zeroes  pwritev_zero; after it pwritev_done
 *     flush         flush_to_os, flush_to_disk
 *
 * are the events of a request.  A node above that tells what its requests are for (bdrv_co_debug_event()) does so
 * instead of the first two.  rules.c says what an event does, breakpoint.c how a request is held, config.c reads
 * rules from a file.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/filters/blkdebug/blkdebug-int.h"
#include "block/filters/filters.h"
#include "block/io/io.h"
#include "block/open/open.h"
#include "util/osdep.h"

static BlockDriver bdrv_blkdebug;

BlkdebugState *blkdebug_state(BlockDriverState *bs)
{
    return bs->drv == &bdrv_blkdebug ? bs->opaque : NULL;
}

BlockDriverState *blkdebug_find_below(BlockDriverState *bs)
{
    while (bs && !blkdebug_state(bs)) {
        bs = child_bs(bs->file);
    }
    return bs;
}

static int set_limit(int64_t *ret_limit, bool has, int64_t value, const char *name,
                     int64_t multiple, bool power_of_two, Error **errp)
{
    *ret_limit = has ? value : 0;
    if (value < 0 || value > INT32_MAX || !QEMU_IS_ALIGNED(*ret_limit, multiple) ||
        (power_of_two && *ret_limit && !is_power_of_2(*ret_limit))) {
        error_setg(errp, "Cannot meet constraints with %s %" PRId64, name, value);
        return -EINVAL;
    }
    return 0;
}

static int read_limits(BlkdebugLimits *l, const BlockdevOptionsBlkdebug *o, Error **errp)
{
    int64_t align;

    if (set_limit(&l->align, o->has_align, o->align, "align", 1, true, errp) < 0) {
        return -EINVAL;
    }
    align = MAX(l->align, 1);
    if (set_limit(&l->max_transfer, o->has_max_transfer, o->max_transfer, "max-transfer", align,
                  false, errp) < 0 ||
        set_limit(&l->opt_write_zero, o->has_opt_write_zero, o->opt_write_zero, "opt-write-zero",
                  align, false, errp) < 0 ||
        set_limit(&l->max_write_zero, o->has_max_write_zero, o->max_write_zero, "max-write-zero",
                  MAX(align, l->opt_write_zero), false, errp) < 0 ||
        set_limit(&l->opt_discard, o->has_opt_discard, o->opt_discard, "opt-discard", align, false,
                  errp) < 0 ||
        set_limit(&l->max_discard, o->has_max_discard, o->max_discard, "max-discard",
                  MAX(align, l->opt_discard), false, errp) < 0) {
        return -EINVAL;
    }
    return 0;
}

static void free_state(BlkdebugState *s)
{
    blkdebug_free_rules(s);
    blkdebug_free_breakpoints(s);
    g_mutex_clear(&s->lock);
}

static int coroutine_fn blkdebug_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                         Error **errp)
{
    const BlockdevOptionsBlkdebug *o = &opts->u.blkdebug;
    BlkdebugState *s = bs->opaque;
    int ret;

    g_mutex_init(&s->lock);
    QTAILQ_INIT(&s->rules);
    QTAILQ_INIT(&s->suspended);
    ret = read_limits(&s->limits, o, errp);
    if (ret == 0) {
        ret = blkdebug_read_rules(s, o, errp);
    }
    if (ret == 0 && o->config) {
        ret = blkdebug_co_read_config(s, o->config, errp);
    }
    if (ret == 0 &&
        !bdrv_open_child(bs, o->image, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)) {
        ret = -EINVAL;
    }
    if (ret < 0) {
        free_state(s);
    }
    return ret;
}

static void coroutine_fn blkdebug_co_close(BlockDriverState *bs)
{
    free_state(bs->opaque);
}

static void blkdebug_refresh_limits(BlockDriverState *bs)
{
    const unsigned zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    const BlockDriverState *file = bs->file->bs;
    BlkdebugState *s = bs->opaque;
    const BlkdebugLimits *l = &s->limits;

    bs->bl.request_alignment = MAX(l->align, 1);
    if (l->max_transfer) {
        bs->bl.max_transfer = l->max_transfer;
    }
    bs->bl.pwrite_zeroes_alignment = l->opt_write_zero;
    bs->bl.max_pwrite_zeroes = l->max_write_zero;
    bs->bl.pdiscard_alignment = l->opt_discard;
    bs->bl.max_pdiscard = l->max_discard;
    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED | (BDRV_REQ_FUA & file->supported_write_flags);
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | (zero_flags & file->supported_zero_flags);
    bs->supported_truncate_flags = file->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
}

/* B4 */
static bool is_told(const BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds && ((BlockDriverState *)c->opaque)->drv &&
            ((BlockDriverState *)c->opaque)->drv->tells_events) {
            return true;
        }
    }
    return false;
}

static void coroutine_fn blkdebug_co_debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    blkdebug_co_told(bs->opaque, event);
}

static int coroutine_fn check(BlockDriverState *bs, BlkdebugIOType type, int64_t offset,
                              int64_t bytes, const BlkdebugEvent *events, size_t n_events)
{
    const BlkdebugRequest req = {type, offset, bytes, events, n_events};

    return blkdebug_co_check(bs->opaque, &req);
}

static int coroutine_fn blkdebug_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov, size_t qiov_offset,
                                           BdrvRequestFlags flags)
{
    static const BlkdebugEvent events[] = {BLKDBG_READ_AIO};
    int ret = check(bs, BLKDEBUG_IO_TYPE_READ, offset, bytes, events,
                    is_told(bs) ? 0 : ARRAY_SIZE(events));

    return ret ? ret : bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn blkdebug_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            QEMUIOVector *qiov, size_t qiov_offset,
                                            BdrvRequestFlags flags)
{
    static const BlkdebugEvent events[] = {BLKDBG_WRITE_AIO, BLKDBG_PWRITEV};
    const size_t told = is_told(bs) ? 1 : 0;
    int ret =
        check(bs, BLKDEBUG_IO_TYPE_WRITE, offset, bytes, events + told, ARRAY_SIZE(events) - told);

    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    blkdebug_co_done(bs->opaque, BLKDBG_PWRITEV_DONE, offset, bytes);
    return ret;
}

static int coroutine_fn blkdebug_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                                  int64_t bytes, BdrvRequestFlags flags)
{
    static const BlkdebugEvent events[] = {BLKDBG_PWRITEV_ZERO};
    int ret = check(bs, BLKDEBUG_IO_TYPE_WRITE_ZEROES, offset, bytes, events, ARRAY_SIZE(events));

    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    blkdebug_co_done(bs->opaque, BLKDBG_PWRITEV_DONE, offset, bytes);
    return ret;
}

static int coroutine_fn blkdebug_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret = check(bs, BLKDEBUG_IO_TYPE_DISCARD, offset, bytes, NULL, 0);

    return ret ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

/* The child is flushed by the io room, after us. */
static int coroutine_fn blkdebug_co_flush(BlockDriverState *bs)
{
    static const BlkdebugEvent events[] = {BLKDBG_FLUSH_TO_OS, BLKDBG_FLUSH_TO_DISK};

    return check(bs, BLKDEBUG_IO_TYPE_FLUSH, 0, 0, events, ARRAY_SIZE(events));
}

static int coroutine_fn blkdebug_co_block_status(BlockDriverState *bs, bool want_zero,
                                                 int64_t offset, int64_t bytes, int64_t *pnum,
                                                 int64_t *map, BlockDriverState **file)
{
    int ret = check(bs, BLKDEBUG_IO_TYPE_BLOCK_STATUS, offset, bytes, NULL, 0);

    if (ret < 0) {
        return ret;
    }
    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

static int coroutine_fn blkdebug_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                             PreallocMode prealloc, BdrvRequestFlags flags,
                                             Error **errp)
{
    return bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
}

static int64_t coroutine_fn blkdebug_co_get_allocated_file_size(BlockDriverState *bs)
{
    return bdrv_co_get_allocated_file_size(bs->file->bs);
}

static const BlockDriverLife blkdebug_life = {
    .co_open = blkdebug_co_open,
    .co_close = blkdebug_co_close,
    .refresh_limits = blkdebug_refresh_limits,
};

static const BlockDriverData blkdebug_data = {
    .co_preadv = blkdebug_co_preadv,
    .co_pwritev = blkdebug_co_pwritev,
    .co_pwrite_zeroes = blkdebug_co_pwrite_zeroes,
    .co_pdiscard = blkdebug_co_pdiscard,
    .co_flush = blkdebug_co_flush,
    .co_block_status = blkdebug_co_block_status,
    .co_truncate = blkdebug_co_truncate,
    .co_get_allocated_file_size = blkdebug_co_get_allocated_file_size,
    .co_debug_event = blkdebug_co_debug_event,
};

static BlockDriver bdrv_blkdebug = {
    .format_name = "blkdebug",
    .is_filter = true,
    .instance_size = sizeof(BlkdebugState),
    .life = &blkdebug_life,
    .data = &blkdebug_data,
};

void bdrv_blkdebug_register(void)
{
    bdrv_register(&bdrv_blkdebug);
}
