/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "null-co": a disk that keeps nothing.  Writes vanish, reads come back at once: what is left of a
 * measurement is the cost of the path above.
 *
 * latency-ns makes each request take that long.  Without read-zeroes the buffer of a read is left as
 * it was, as documented; do not export that to anybody who should not see the program's memory.
 */
#include <errno.h>
#include "block/drivers/drivers.h"
#include "block/graph/graph.h"
#include "coro/sleep.h"
#include "util/osdep.h"

/* The size when none is given; only arithmetic depends on it. */
#define NULL_DEFAULT_SIZE (1 * GiB)

typedef struct NullState {
    /* Fixed while open; replaced by a reopen, quiesced. */
    int64_t size;
    int64_t latency_ns;
    bool read_zeroes;
} NullState;

static int null_configure(NullState *s, const BlockdevOptionsNull *o, Error **errp)
{
    s->size = o->has_size ? o->size : NULL_DEFAULT_SIZE;
    if (s->size < 0) {
        error_setg(errp, "size is invalid");
        return -EINVAL;
    }
    if (o->has_latency_ns && o->latency_ns > INT64_MAX) {
        error_setg(errp, "latency-ns is invalid");
        return -EINVAL;
    }
    s->latency_ns = o->has_latency_ns ? (int64_t)o->latency_ns : 0;
    s->read_zeroes = o->has_read_zeroes && o->read_zeroes;
    return 0;
}

static int coroutine_fn null_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                     Error **errp)
{
    int ret = null_configure(bs->opaque, &opts->u.null_co, errp);

    if (ret == 0) {
        g_free(bs->filename);
        bs->filename = g_strdup("null-co://");
    }
    return ret;
}

static void null_refresh_limits(BlockDriverState *bs)
{
    bs->supported_write_flags = BDRV_REQ_FUA | BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_zero_flags =
        BDRV_REQ_FUA | BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
}

static int coroutine_fn null_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                               int flags, void **ret_state, Error **errp)
{
    NullState *s = bs->opaque;
    NullState *next = g_new0(NullState, 1);
    int ret = null_configure(next, &opts->u.null_co, errp);

    if (ret == 0 && next->size != s->size) {
        error_setg(errp, "Cannot change the option 'size'");
        ret = -EINVAL;
    }
    if (ret < 0) {
        g_free(next);
        return ret;
    }
    *ret_state = next;
    return 0;
}

static void null_reopen_commit(BlockDriverState *bs, void *state)
{
    *(NullState *)bs->opaque = *(NullState *)state;
    g_free(state);
}

static void null_reopen_abort(BlockDriverState *bs, void *state)
{
    g_free(state);
}

static void coroutine_fn take_time(const NullState *s)
{
    if (s->latency_ns) {
        qemu_co_sleep_ns(s->latency_ns);
    }
}

static int coroutine_fn null_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    NullState *s = bs->opaque;

    if (s->read_zeroes) {
        qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
    }
    take_time(s);
    return 0;
}

static int coroutine_fn null_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector *qiov, size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    take_time(bs->opaque);
    return 0;
}

static int coroutine_fn null_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              BdrvRequestFlags flags)
{
    take_time(bs->opaque);
    return 0;
}

static int coroutine_fn null_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    take_time(bs->opaque);
    return 0;
}

static int coroutine_fn null_co_flush(BlockDriverState *bs)
{
    take_time(bs->opaque);
    return 0;
}

static int coroutine_fn null_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum, int64_t *map,
                                             BlockDriverState **file)
{
    NullState *s = bs->opaque;

    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BDRV_BLOCK_OFFSET_VALID | (s->read_zeroes ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA);
}

static int64_t coroutine_fn null_co_getlength(BlockDriverState *bs)
{
    NullState *s = bs->opaque;

    return s->size;
}

static int64_t coroutine_fn null_co_get_allocated_file_size(BlockDriverState *bs)
{
    return 0;
}

static const BlockDriverLife null_life = {
    .co_open = null_co_open,
    .refresh_limits = null_refresh_limits,
    .co_reopen_prepare = null_co_reopen_prepare,
    .reopen_commit = null_reopen_commit,
    .reopen_abort = null_reopen_abort,
};

static const BlockDriverData null_data = {
    .co_preadv = null_co_preadv,
    .co_pwritev = null_co_pwritev,
    .co_pwrite_zeroes = null_co_pwrite_zeroes,
    .co_pdiscard = null_co_pdiscard,
    .co_flush = null_co_flush,
    .co_block_status = null_co_block_status,
    .co_getlength = null_co_getlength,
    .co_get_allocated_file_size = null_co_get_allocated_file_size,
};

static BlockDriver bdrv_null_co = {
    .format_name = "null-co",
    .is_protocol = true,
    .instance_size = sizeof(NullState),
    .life = &null_life,
    .data = &null_data,
};

void bdrv_null_register(void)
{
    bdrv_register(&bdrv_null_co);
}
