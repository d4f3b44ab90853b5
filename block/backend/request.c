/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request's way through a backend: counted, held back while quiesced, checked, handed down. */
#include <errno.h>
#include "block/backend/backend-int.h"
#include "util/osdep.h"

void blk_set_disable_request_queuing(BlockBackend *blk, bool disable)
{
    __atomic_store_n(&blk->disable_request_queuing, disable, __ATOMIC_SEQ_CST);
}

void blk_wake_waiters(BlockBackend *blk)
{
    QSIMPLEQ_HEAD(, BlkWaiter) woken = QSIMPLEQ_HEAD_INITIALIZER(woken);
    BlkWaiter *w;

    g_mutex_lock(&blk->wait_lock);
    QSIMPLEQ_CONCAT(&woken, &blk->waiters);
    g_mutex_unlock(&blk->wait_lock);
    while ((w = QSIMPLEQ_FIRST(&woken))) {
        Coroutine *co = w->co;

        QSIMPLEQ_REMOVE_HEAD(&woken, next);
        aio_co_wake(co); /* from here on w, on its stack, may be gone */
    }
}

static bool is_held_back(BlockBackend *blk)
{
    return __atomic_load_n(&blk->quiesce_counter, __ATOMIC_SEQ_CST) > 0 &&
           !__atomic_load_n(&blk->disable_request_queuing, __ATOMIC_SEQ_CST); /* B5 */
}

/* B2 B3.  Not counted when it returns. */
static void coroutine_fn wait_until_let_go(BlockBackend *blk)
{
    BlkWaiter w = {.co = qemu_coroutine_self()};

    blk_end_request(blk); /* B2 */
    g_mutex_lock(&blk->wait_lock);
    if (!is_held_back(blk)) {
        g_mutex_unlock(&blk->wait_lock);
        return;
    }
    QSIMPLEQ_INSERT_TAIL(&blk->waiters, &w, next);
    g_mutex_unlock(&blk->wait_lock);
    qemu_coroutine_yield();
}

/*
 * The tree may have moved to another AioContext meanwhile: the request goes on, and returns, in the
 * new home.  A read-only node may be entered from anywhere, so there it stays where it is.
 */
static void coroutine_fn __attribute__((noinline)) start_held_request(BlockBackend *blk)
{
    AioContext *before = qemu_get_current_aio_context(), *home;

    do {
        wait_until_let_go(blk);
        __atomic_fetch_add(&blk->in_flight, 1, __ATOMIC_SEQ_CST);
    } while (is_held_back(blk));
    home = blk_get_aio_context(blk); /* B4: counted and not held back */
    if (home != before && blk->root && !bdrv_is_read_only(blk->root->bs)) {
        aio_co_reschedule_self(home);
    }
}

void coroutine_fn blk_co_start_request(BlockBackend *blk)
{
    __atomic_fetch_add(&blk->in_flight, 1, __ATOMIC_SEQ_CST); /* B1 */
    if (__builtin_expect(is_held_back(blk), false)) {
        start_held_request(blk);
    }
}

void blk_end_request(BlockBackend *blk)
{
    int old = __atomic_fetch_sub(&blk->in_flight, 1, __ATOMIC_SEQ_CST);

    assert(old > 0);
    if (old == 1) {
        bdrv_drain_kick();
    }
}

/* 0 when the range is inside the medium; -ENOMEDIUM, -EIO. */
static int check_range(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    int64_t length;

    if (!blk->root) {
        return -ENOMEDIUM;
    }
    if (offset < 0 || bytes < 0) {
        return -EIO;
    }
    length = bdrv_getlength(blk->root->bs);
    if (length < 0) {
        return length;
    }
    return offset > length || bytes > length - offset ? -EIO : 0;
}

/* A request of the user's, from the look at the clock to its count. */
typedef struct BlkRequest {
    BlockBackend *blk;
    BlockAcctCookie cookie;
} BlkRequest;

/* @max: longest that is let through.  Return: 0, or the error that the request ends with. */
static int coroutine_fn request_begin(BlkRequest *req, BlockBackend *blk, BlockAcctType type,
                                      int64_t offset, int64_t bytes, int64_t max)
{
    int ret;

    req->blk = blk;
    block_acct_start(&blk->stats, &req->cookie, MAX(bytes, 0), type);
    blk_co_start_request(blk);
    ret = bytes > max ? -EIO : check_range(blk, offset, bytes);
    if (ret < 0) {
        block_acct_invalid(&blk->stats, type);
        blk_end_request(blk);
    }
    return ret;
}

static int request_end(BlkRequest *req, int ret)
{
    if (ret < 0) {
        block_acct_failed(&req->blk->stats, &req->cookie);
    } else {
        block_acct_done(&req->blk->stats, &req->cookie);
    }
    blk_end_request(req->blk);
    return ret;
}

static BdrvRequestFlags write_flags(BlockBackend *blk, BdrvRequestFlags flags)
{
    return __atomic_load_n(&blk->enable_write_cache, __ATOMIC_RELAXED) ? flags
                                                                       : flags | BDRV_REQ_FUA;
}

int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                               BdrvRequestFlags flags)
{
    BlkRequest req;
    int ret = request_begin(&req, blk, BLOCK_ACCT_READ, offset, bytes, BDRV_REQUEST_MAX_BYTES);

    return ret < 0 ? ret : request_end(&req, bdrv_co_preadv(blk->root, offset, bytes, qiov, flags));
}

int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    BlkRequest req;
    int ret = request_begin(&req, blk, BLOCK_ACCT_WRITE, offset, bytes, BDRV_REQUEST_MAX_BYTES);

    return ret < 0 ? ret
                   : request_end(&req, bdrv_co_pwritev(blk->root, offset, bytes, qiov,
                                                       write_flags(blk, flags)));
}

int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf,
                              BdrvRequestFlags flags)
{
    BlkRequest req;
    int ret = request_begin(&req, blk, BLOCK_ACCT_READ, offset, bytes, BDRV_REQUEST_MAX_BYTES);

    return ret < 0 ? ret : request_end(&req, bdrv_co_pread(blk->root, offset, bytes, buf, flags));
}

int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf,
                               BdrvRequestFlags flags)
{
    BlkRequest req;
    int ret = request_begin(&req, blk, BLOCK_ACCT_WRITE, offset, bytes, BDRV_REQUEST_MAX_BYTES);

    return ret < 0 ? ret
                   : request_end(&req, bdrv_co_pwrite(blk->root, offset, bytes, buf,
                                                      write_flags(blk, flags)));
}

int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags)
{
    BlkRequest req;
    int ret = request_begin(&req, blk, BLOCK_ACCT_WRITE, offset, bytes, BDRV_MAX_LENGTH);

    return ret < 0 ? ret
                   : request_end(&req, bdrv_co_pwrite_zeroes(blk->root, offset, bytes,
                                                             write_flags(blk, flags)));
}

int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    BlkRequest req;
    int ret = request_begin(&req, blk, BLOCK_ACCT_UNMAP, offset, bytes, BDRV_MAX_LENGTH);

    return ret < 0 ? ret : request_end(&req, bdrv_co_pdiscard(blk->root, offset, bytes));
}

int coroutine_fn blk_co_flush(BlockBackend *blk)
{
    BlkRequest req;
    int ret = request_begin(&req, blk, BLOCK_ACCT_FLUSH, 0, 0, BDRV_MAX_LENGTH);

    return ret < 0 ? ret : request_end(&req, bdrv_co_flush(blk->root->bs));
}

int coroutine_fn blk_co_block_status_above(BlockBackend *blk, BlockDriverState *base,
                                           int64_t offset, int64_t bytes, int64_t *pnum,
                                           int64_t *map, BlockDriverState **file)
{
    int ret;

    blk_co_start_request(blk);
    ret = blk->root
              ? bdrv_co_block_status_above(blk->root->bs, base, offset, bytes, pnum, map, file)
              : -ENOMEDIUM;
    blk_end_request(blk);
    return ret;
}

int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t offset, bool exact,
                                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    int ret;

    blk_co_start_request(blk);
    if (blk->root) {
        ret = bdrv_co_truncate(blk->root, offset, exact, prealloc, flags, errp);
    } else {
        error_setg(errp, "No medium inserted");
        ret = -ENOMEDIUM;
    }
    blk_end_request(blk);
    return ret;
}

static int coroutine_fn vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov, bool is_save)
{
    BlockDriverState *bs = blk_bs(blk) ? bdrv_skip_filters(blk_bs(blk)) : NULL;
    const BlockDriverImage *image = bs ? bs->drv->image : NULL;
    int ret = -ENOTSUP;

    if (!bs) {
        return -ENOMEDIUM;
    }
    blk_co_start_request(blk);
    bdrv_inc_in_flight(bs);
    if (is_save && image && image->co_save_vmstate) {
        ret = image->co_save_vmstate(bs, pos, qiov);
    } else if (!is_save && image && image->co_load_vmstate) {
        ret = image->co_load_vmstate(bs, pos, qiov);
    }
    bdrv_dec_in_flight(bs);
    blk_end_request(blk);
    return ret;
}

int coroutine_fn blk_co_save_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov)
{
    return vmstate(blk, pos, qiov, true);
}

int coroutine_fn blk_co_load_vmstate(BlockBackend *blk, int64_t pos, QEMUIOVector *qiov)
{
    return vmstate(blk, pos, qiov, false);
}
