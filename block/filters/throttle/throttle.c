/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "throttle": a filter whose requests wait for the limits of its group.
 *
 * Reads wait as reads; writes, write-zeroes and discards as writes; flushes do not wait.  While the
 * node is drained nothing waits: who drains wants the requests in flight to end, not to be on time.  Requests that
 * nobody wants any more (a cancelled job's) end where they wait.
 */
#include <errno.h>
#include "block/filters/filters.h"
#include "block/filters/throttle-group.h"
#include "block/io/io.h"
#include "block/open/open.h"

typedef struct ThrottleState {
    ThrottleGroupMember *member; /* replaced by a reopen, quiesced */
} ThrottleState;

static int coroutine_fn throttle_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                         Error **errp)
{
    const BlockdevOptionsThrottle *o = &opts->u.throttle;
    ThrottleState *s = bs->opaque;

    /* First of all: a quiesced child makes us drained, and that is told to the member. */
    s->member = throttle_group_join(o->throttle_group, errp);
    if (!s->member) {
        return -EINVAL;
    }
    if (!bdrv_open_child(bs, o->file, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, errp)) {
        throttle_group_leave(s->member);
        s->member = NULL;
        return -EINVAL;
    }
    return 0;
}

static void coroutine_fn throttle_co_close(BlockDriverState *bs)
{
    ThrottleState *s = bs->opaque;

    throttle_group_leave(s->member);
}

static void throttle_refresh_limits(BlockDriverState *bs)
{
    const unsigned zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    const BlockDriverState *file = bs->file->bs;

    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED | (BDRV_REQ_FUA & file->supported_write_flags);
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | (zero_flags & file->supported_zero_flags);
    bs->supported_truncate_flags = file->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
}

/* The state of a reopen is the member of the new group. */
static int coroutine_fn throttle_co_reopen_prepare(BlockDriverState *bs,
                                                   const BlockdevOptions *opts, int flags,
                                                   void **ret_state, Error **errp)
{
    ThrottleGroupMember *m = throttle_group_join(opts->u.throttle.throttle_group, errp);

    if (!m) {
        return -EINVAL;
    }
    *ret_state = m;
    return 0;
}

static void throttle_reopen_commit(BlockDriverState *bs, void *state)
{
    ThrottleState *s = bs->opaque;
    ThrottleGroupMember *old = s->member;

    /* The node is drained, once: what drain_begin did to the old member is due to the new one. */
    s->member = state;
    throttle_group_member_release_begin(s->member);
    throttle_group_member_release_end(old);
    throttle_group_leave(old);
}

static void throttle_reopen_abort(BlockDriverState *bs, void *state)
{
    throttle_group_leave(state);
}

static void throttle_drain_begin(BlockDriverState *bs)
{
    ThrottleState *s = bs->opaque;

    if (s->member) {
        throttle_group_member_release_begin(s->member);
    }
}

static void throttle_drain_end(BlockDriverState *bs)
{
    ThrottleState *s = bs->opaque;

    if (s->member) {
        throttle_group_member_release_end(s->member);
    }
}

static void throttle_cancel_in_flight(BlockDriverState *bs)
{
    ThrottleState *s = bs->opaque;

    if (s->member) {
        throttle_group_member_cancel(s->member);
    }
}

static int coroutine_fn throttle_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov, size_t qiov_offset,
                                           BdrvRequestFlags flags)
{
    ThrottleState *s = bs->opaque;
    int ret = throttle_group_co_limit(s->member, bytes, false);

    return ret < 0 ? ret : bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn throttle_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            QEMUIOVector *qiov, size_t qiov_offset,
                                            BdrvRequestFlags flags)
{
    ThrottleState *s = bs->opaque;
    int ret = throttle_group_co_limit(s->member, bytes, true);

    return ret < 0 ? ret : bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn throttle_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                                  int64_t bytes, BdrvRequestFlags flags)
{
    ThrottleState *s = bs->opaque;
    int ret = throttle_group_co_limit(s->member, bytes, true);

    return ret < 0 ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn throttle_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    ThrottleState *s = bs->opaque;
    int ret = throttle_group_co_limit(s->member, bytes, true);

    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn throttle_co_block_status(BlockDriverState *bs, bool want_zero,
                                                 int64_t offset, int64_t bytes, int64_t *pnum,
                                                 int64_t *map, BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

static int coroutine_fn throttle_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                             PreallocMode prealloc, BdrvRequestFlags flags,
                                             Error **errp)
{
    return bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
}

static int64_t coroutine_fn throttle_co_get_allocated_file_size(BlockDriverState *bs)
{
    return bdrv_co_get_allocated_file_size(bs->file->bs);
}

static const BlockDriverLife throttle_life = {
    .co_open = throttle_co_open,
    .co_close = throttle_co_close,
    .refresh_limits = throttle_refresh_limits,
    .co_reopen_prepare = throttle_co_reopen_prepare,
    .reopen_commit = throttle_reopen_commit,
    .reopen_abort = throttle_reopen_abort,
    .drain_begin = throttle_drain_begin,
    .drain_end = throttle_drain_end,
    .cancel_in_flight = throttle_cancel_in_flight,
};

static const BlockDriverData throttle_data = {
    .co_preadv = throttle_co_preadv,
    .co_pwritev = throttle_co_pwritev,
    .co_pwrite_zeroes = throttle_co_pwrite_zeroes,
    .co_pdiscard = throttle_co_pdiscard,
    .co_block_status = throttle_co_block_status,
    .co_truncate = throttle_co_truncate,
    .co_get_allocated_file_size = throttle_co_get_allocated_file_size,
};

static BlockDriver bdrv_throttle = {
    .format_name = "throttle",
    .is_filter = true,
    .instance_size = sizeof(ThrottleState),
    .life = &throttle_life,
    .data = &throttle_data,
};

void bdrv_throttle_register(void)
{
    bdrv_register(&bdrv_throttle);
}
