/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See test-slow.h. */
#include "block/io/io.h"
#include "coro/sleep.h"
#include "tests/lib/test-slow.h"
#include "util/osdep.h"

/* One in so many requests is ten times as slow. */
#define RARELY 12

typedef struct SlowState {
    GRand *rand;
    int64_t max_ns;
} SlowState;

static void coroutine_fn take_a_while(BlockDriverState *bs)
{
    SlowState *s = bs->opaque;
    int64_t ns = g_rand_int_range(s->rand, 0, (int32_t)s->max_ns);

    qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, RARELY) ? ns : 10 * ns);
}

static int coroutine_fn slow_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    int ret;

    take_a_while(bs);
    ret = bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    take_a_while(bs);
    return ret;
}

static int coroutine_fn slow_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector *qiov, size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    int ret;

    take_a_while(bs);
    ret = bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    take_a_while(bs);
    return ret;
}

static int coroutine_fn slow_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              BdrvRequestFlags flags)
{
    int ret;

    take_a_while(bs);
    ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    take_a_while(bs);
    return ret;
}

static int coroutine_fn slow_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret;

    take_a_while(bs);
    ret = bdrv_co_pdiscard(bs->file, offset, bytes);
    take_a_while(bs);
    return ret;
}

static int coroutine_fn slow_co_flush(BlockDriverState *bs)
{
    int ret;

    take_a_while(bs);
    ret = bdrv_co_flush(bs->file->bs);
    take_a_while(bs);
    return ret;
}

static int coroutine_fn slow_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                         PreallocMode prealloc, BdrvRequestFlags flags,
                                         Error **errp)
{
    int ret;

    take_a_while(bs);
    ret = bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
    take_a_while(bs);
    return ret;
}

static void slow_refresh_limits(BlockDriverState *bs)
{
    bs->supported_write_flags = bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = bs->file->bs->supported_zero_flags;
}

static const BlockDriverLife slow_life = {.refresh_limits = slow_refresh_limits};

static const BlockDriverData slow_data = {
    .co_preadv = slow_co_preadv,
    .co_pwritev = slow_co_pwritev,
    .co_pwrite_zeroes = slow_co_pwrite_zeroes,
    .co_pdiscard = slow_co_pdiscard,
    .co_flush = slow_co_flush,
    .co_truncate = slow_co_truncate,
};

static const BlockDriver bdrv_test_slow = {
    .format_name = "test-slow",
    .is_filter = true,
    .instance_size = sizeof(SlowState),
    .life = &slow_life,
    .data = &slow_data,
};

BlockDriverState *test_slow_new(const char *node_name, BlockDriverState *below, GRand *rand,
                                int64_t max_ns)
{
    BlockDriverState *bs = bdrv_new(&bdrv_test_slow, node_name, &error_abort);
    SlowState *s = bs->opaque;

    s->rand = rand;
    s->max_ns = max_ns;
    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = below->total_bytes;
    bdrv_attach_child(bs, below, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_refresh_limits(bs);
    return bs;
}
