/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See test-faulty.h. */
#include "tests/lib/test-faulty.h"
#include "block/io/io.h"
#include "util/osdep.h"

#define SECTOR 512

typedef struct FaultyState {
    GRand *rand;
    TestFaultyPlan plan;
    unsigned count;
} FaultyState;

static bool fails(FaultyState *s, unsigned op)
{
    const TestFaultyPlan *p = &s->plan;

    if (!(p->ops & op) || (p->most && s->count >= p->most) ||
        g_rand_int_range(s->rand, 0, (int32_t)p->one_in)) {
        return false;
    }
    s->count++;
    return true;
}

/* Of a write that fails: the bytes that are made all the same. */
static int64_t part(FaultyState *s, int64_t bytes)
{
    switch (g_rand_int_range(s->rand, 0, 3)) {
    case 0:
        return 0;
    case 1:
        return bytes;
    default:
        return bytes < SECTOR ? 0 : SECTOR * g_rand_int_range(s->rand, 0, bytes / SECTOR);
    }
}

static int coroutine_fn faulty_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         QEMUIOVector *qiov, size_t qiov_offset,
                                         BdrvRequestFlags flags)
{
    FaultyState *s = bs->opaque;

    return fails(s, TEST_FAULTY_READ)
               ? -s->plan.error
               : bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn faulty_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          QEMUIOVector *qiov, size_t qiov_offset,
                                          BdrvRequestFlags flags)
{
    FaultyState *s = bs->opaque;
    int64_t made;

    if (!fails(s, TEST_FAULTY_WRITE)) {
        return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    }
    made = part(s, bytes);
    if (made) {
        bdrv_co_pwritev_part(bs->file, offset, made, qiov, qiov_offset, flags);
    }
    return -s->plan.error;
}

static int coroutine_fn faulty_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                BdrvRequestFlags flags)
{
    FaultyState *s = bs->opaque;
    int64_t made;

    if (!fails(s, TEST_FAULTY_WRITE)) {
        return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    }
    made = part(s, bytes);
    if (made) {
        bdrv_co_pwrite_zeroes(bs->file, offset, made, flags);
    }
    return -s->plan.error;
}

static int coroutine_fn faulty_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FaultyState *s = bs->opaque;

    return fails(s, TEST_FAULTY_WRITE) ? -s->plan.error : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn faulty_co_flush(BlockDriverState *bs)
{
    FaultyState *s = bs->opaque;

    return fails(s, TEST_FAULTY_FLUSH) ? -s->plan.error : bdrv_co_flush(bs->file->bs);
}

static int coroutine_fn faulty_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                           PreallocMode prealloc, BdrvRequestFlags flags,
                                           Error **errp)
{
    FaultyState *s = bs->opaque;

    if (fails(s, TEST_FAULTY_TRUNCATE)) {
        error_setg_errno(errp, s->plan.error, "The disk is faulty");
        return -s->plan.error;
    }
    return bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
}

static void faulty_refresh_limits(BlockDriverState *bs)
{
    bs->supported_write_flags = bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = bs->file->bs->supported_zero_flags;
}

static const BlockDriverLife faulty_life = {.refresh_limits = faulty_refresh_limits};

static const BlockDriverData faulty_data = {
    .co_preadv = faulty_co_preadv,
    .co_pwritev = faulty_co_pwritev,
    .co_pwrite_zeroes = faulty_co_pwrite_zeroes,
    .co_pdiscard = faulty_co_pdiscard,
    .co_flush = faulty_co_flush,
    .flushes_children = true, /* or does not, when it fails */
    .co_truncate = faulty_co_truncate,
};

static const BlockDriver bdrv_test_faulty = {
    .format_name = "test-faulty",
    .is_filter = true,
    .instance_size = sizeof(FaultyState),
    .life = &faulty_life,
    .data = &faulty_data,
};

BlockDriverState *test_faulty_new(const char *node_name, BlockDriverState *below, GRand *rand)
{
    BlockDriverState *bs = bdrv_new(&bdrv_test_faulty, node_name, &error_abort);
    FaultyState *s = bs->opaque;

    s->rand = rand;
    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = below->total_bytes;
    bdrv_attach_child(bs, below, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_refresh_limits(bs);
    return bs;
}

void test_faulty_set(BlockDriverState *bs, const TestFaultyPlan *plan)
{
    FaultyState *s = bs->opaque;

    s->plan = *plan;
    s->count = 0;
}

unsigned test_faulty_count(BlockDriverState *bs)
{
    return ((FaultyState *)bs->opaque)->count;
}
