/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy of one run.
 *
 *     source  |  data  | zeros | zeros |  data  |       one read
 *                 |        \       /        |
 *     target  | write  | write-zeroes  | write  |       neighbours of a kind together;
 *                        or nothing                     zeros only where the target has none yet
 *
 * C1  The read does not wait for serialising requests: the run may be copied from inside one.
 * C2  Zeros are skipped only where the target's own layer holds zeros, never for what its backing
 *     file shows (the backing file may be the source).
 * C3  Once the copy is over nothing more is sent to the target.  A cancel ends what is in flight: what went
 *     out after it, because the target "could not tell", would wait for a server that does not answer.
 */
#include <errno.h>
#include "block/copy/copy.h"
#include "util/osdep.h"

int coroutine_fn block_copy_own_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       int64_t *pnum)
{
    int ret = bdrv_co_block_status(bs, offset, bytes, pnum, NULL, NULL);

    if (ret < 0) {
        return ret;
    }
    return *pnum > 0 && (ret & BDRV_BLOCK_ZERO);
}

/* C3 */
static bool is_over(const BlockCopy *copy)
{
    return copy->is_over && copy->is_over(copy->opaque);
}

int coroutine_fn block_copy_zeroes(const BlockCopy *copy, int64_t offset, int64_t bytes)
{
    if (copy->target_is_zero) {
        return is_over(copy) ? -ECANCELED : 0;
    }
    while (bytes > 0) {
        int64_t pnum = bytes;
        int ret = 0;

        if (!is_over(copy)) {
            ret = block_copy_own_zeroes(copy->target->bs, offset, bytes, &pnum); /* C2 */
        }
        if (is_over(copy)) {
            return -ECANCELED;
        }
        if (ret < 0 || pnum == 0) {
            pnum = bytes; /* the target cannot tell: write all of it */
        }
        if (ret != 1) {
            ret = bdrv_co_pwrite_zeroes(copy->target, offset, pnum,
                                        (copy->write_flags & ~BDRV_REQ_WRITE_COMPRESSED) |
                                            BDRV_REQ_MAY_UNMAP);
            if (ret < 0) {
                return ret;
            }
        }
        offset += pnum;
        bytes -= pnum;
    }
    return 0;
}

/* How far from @offset are clusters of the kind that starts there? */
static int64_t same_kind(const BlockCopy *copy, const uint8_t *buf, int64_t offset, int64_t bytes,
                         bool *ret_zero)
{
    int64_t done = 0;

    while (done < bytes) {
        /* Up to the end of the cluster: a run may start inside one. */
        int64_t step = copy->cluster_bytes - (offset + done) % copy->cluster_bytes;
        bool zero;

        step = MIN(step, bytes - done);
        zero = buffer_is_zero(buf + done, step);
        if (done == 0) {
            *ret_zero = zero;
        } else if (zero != *ret_zero) {
            break;
        }
        done += step;
    }
    return done;
}

int coroutine_fn block_copy_read(const BlockCopy *copy, int64_t offset, int64_t bytes, void *buf)
{
    return bdrv_co_pread(copy->source, offset, bytes, buf, BDRV_REQ_NO_SERIALISING); /* C1 */
}

int coroutine_fn block_copy_write(const BlockCopy *copy, int64_t offset, int64_t bytes,
                                  const void *buf)
{
    const uint8_t *p = buf;
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        bool zero;

        if (is_over(copy)) {
            return -ECANCELED;
        }
        int64_t n = same_kind(copy, p, offset, bytes, &zero);

        if (zero) {
            ret = block_copy_zeroes(copy, offset, n);
        } else {
            ret = bdrv_co_pwrite(copy->target, offset, n, p, copy->write_flags);
        }
        offset += n;
        bytes -= n;
        p += n;
    }
    return MIN(ret, 0);
}

int coroutine_fn block_copy_run(const BlockCopy *copy, int64_t offset, int64_t bytes, void *buf,
                                bool *ret_error_is_read)
{
    int ret = block_copy_read(copy, offset, bytes, buf);

    *ret_error_is_read = ret < 0;
    return ret < 0 ? ret : block_copy_write(copy, offset, bytes, buf);
}
