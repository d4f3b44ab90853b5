/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See images.h. */
#include "tests/unit/image/images.h"
#include "util/osdep.h"

BlockBackend *images_blk(BlockDriverState *bs, bool writable)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    BlockBackend *blk;

    if (writable) {
        perm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
    blk = blk_new(perm, BLK_PERM_ALL);
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_co_unref(bs);
    return blk;
}

static void follow(void *opaque, int64_t done, int64_t total)
{
    ImagesWatch *w = opaque;

    g_assert_cmpint(done, >=, w->done);
    g_assert_cmpint(done, <=, total);
    w->done = done;
    w->total = total;
}

static bool is_cancelled(void *opaque)
{
    ImagesWatch *w = opaque;

    w->asked++;
    return w->cancel_at > 0 && w->asked >= w->cancel_at;
}

ImageWatch images_watch(ImagesWatch *watch)
{
    return (ImageWatch){.progress = follow, .is_cancelled = is_cancelled, .opaque = watch};
}

uint8_t *coroutine_fn images_co_read(BlockBackend *blk)
{
    int64_t length = blk_getlength(blk);
    uint8_t *buf = g_malloc(MAX(length, 1));

    for (int64_t pos = 0; pos < length; pos += MiB) {
        int64_t n = MIN((int64_t)MiB, length - pos);

        g_assert_cmpint(blk_co_pread(blk, pos, n, buf + pos, 0), >=, 0);
    }
    return buf;
}

void coroutine_fn images_co_scribble(BlockBackend *blk, GRand *r, int writes)
{
    int64_t length = blk_getlength(blk);
    g_autofree uint8_t *buf = g_malloc(MIN(length, (int64_t)MiB));

    for (int i = 0; i < writes; i++) {
        int64_t offset = g_rand_int_range(r, 0, length);
        int64_t bytes = MIN(length - offset, g_rand_int_range(r, 1, MIN(length, (int64_t)MiB) + 1));

        if (g_rand_boolean(r)) { /* whole blocks, small pieces: both happen */
            offset = ROUND_DOWN(offset, 4096);
            bytes = MIN((int64_t)ROUND_UP(bytes, 4096), MIN(length - offset, (int64_t)MiB));
        } else {
            bytes = MIN(bytes, 3000);
        }
        if (bytes == 0) {
            continue;
        }
        if (g_rand_int_range(r, 0, 3) == 0) {
            g_assert_cmpint(blk_co_pwrite_zeroes(blk, offset, bytes, BDRV_REQ_MAY_UNMAP), >=, 0);
        } else {
            memset(buf, g_rand_int_range(r, 0, 4), bytes);
            g_assert_cmpint(blk_co_pwrite(blk, offset, bytes, buf, 0), >=, 0);
        }
    }
}
