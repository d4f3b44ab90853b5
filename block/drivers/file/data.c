/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading, writing, zeroing, discarding, flushing. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "aio/thread-pool.h"
#include "block/drivers/file/file-int.h"
#include "util/osdep.h"
#include "trace-file.h"

/* Largest aligned copy of a client's unaligned buffer (O_DIRECT); longer requests go in pieces. */
#define BOUNCE_MAX_BYTES (4 * MiB)

static int coroutine_fn transfer(FileState *s, int64_t offset, QEMUIOVector *qiov, bool is_write,
                                 bool dsync)
{
    AioFileEngine e = file_engine(s);

    return is_write ? aio_file_pwritev(e, s->h.fd, offset, qiov, dsync)
                    : aio_file_preadv(e, s->h.fd, offset, qiov);
}

/* O_DIRECT and memory it does not take. */
static int coroutine_fn transfer_bounced(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         QEMUIOVector *qiov, size_t qiov_offset, bool is_write,
                                         bool dsync)
{
    FileState *s = bs->opaque;
    int64_t piece = MIN(bytes, BOUNCE_MAX_BYTES);
    void *buf = qemu_try_blockalign(bs, piece);
    int ret = buf ? 0 : -ENOMEM;

    for (int64_t done = 0; ret == 0 && done < bytes; done += piece) {
        QEMUIOVector local;

        piece = MIN(bytes - done, BOUNCE_MAX_BYTES);
        qemu_iovec_init_buf(&local, buf, piece);
        if (is_write) {
            qemu_iovec_to_buf(qiov, qiov_offset + done, buf, piece);
        }
        ret = transfer(s, offset + done, &local, is_write, dsync);
        if (ret == 0 && !is_write) {
            qemu_iovec_from_buf(qiov, qiov_offset + done, buf, piece);
        }
    }
    qemu_vfree(buf);
    return ret;
}

/* O_DIRECT asks for aligned addresses, and for whole blocks in each piece of memory. */
static bool memory_suits(const FileHandle *h, const QEMUIOVector *qiov, size_t qiov_offset)
{
    if (h->mem_alignment <= 1 && h->request_alignment <= 1) {
        return true;
    }
    if (!QEMU_IS_ALIGNED(qiov_offset, MAX(h->request_alignment, h->mem_alignment))) {
        return false;
    }
    for (int i = 0; i < qiov->niov; i++) {
        if (!QEMU_PTR_IS_ALIGNED(qiov->iov[i].iov_base, h->mem_alignment) ||
            !QEMU_IS_ALIGNED(qiov->iov[i].iov_len, h->request_alignment)) {
            return false;
        }
    }
    return true;
}

static int coroutine_fn transfer_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset, bool is_write,
                                      bool dsync)
{
    FileState *s = bs->opaque;
    QEMUIOVector part;
    int ret;

    if (!memory_suits(&s->h, qiov, qiov_offset)) {
        return transfer_bounced(bs, offset, bytes, qiov, qiov_offset, is_write, dsync);
    }
    if (qiov_offset == 0 && qiov->size == (size_t)bytes) {
        return transfer(s, offset, qiov, is_write, dsync);
    }
    qemu_iovec_init_slice(&part, qiov, qiov_offset, bytes);
    ret = transfer(s, offset, &part, is_write, dsync);
    qemu_iovec_destroy(&part);
    return ret;
}

static int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    return transfer_part(bs, offset, bytes, qiov, qiov_offset, false, false);
}

/* F2: from now on no flush succeeds. */
static void distrust_cache(BlockDriverState *bs, int error)
{
    FileState *s = bs->opaque;

    if (!(bs->open_flags & BDRV_O_NOCACHE)) {
        __atomic_store_n(&s->flush_error, error, __ATOMIC_RELAXED);
        trace_file_flush_failed(s->path, error);
    }
}

/*
 * A write with dsync writes back whole pages, also bytes of other writes, acknowledged before; when
 * that fails with an I/O error they may be gone, and the error is reported to nobody else (F2).  Lack
 * of space shows before anything is written back.
 */
static bool error_may_lose_pages(int ret)
{
    return ret == -EIO || ret == -ENXIO || ret == -ETIMEDOUT || ret == -EREMOTEIO;
}

static int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector *qiov, size_t qiov_offset,
                                        BdrvRequestFlags flags)
{
    FileState *s = bs->opaque;
    bool dsync = flags & BDRV_REQ_FUA;
    int ret = transfer_part(bs, offset, bytes, qiov, qiov_offset, true, dsync);

    file_status_written(s, offset, bytes);
    if (dsync && error_may_lose_pages(ret)) {
        distrust_cache(bs, ret);
    }
    return ret;
}

/* fallocate with memory: a mode that the file system refused is not tried again. */
static int coroutine_fn try_fallocate(FileState *s, bool *refused, int mode, int64_t offset,
                                      int64_t bytes)
{
    int ret;

    if (*refused) {
        return -ENOTSUP;
    }
    ret = aio_file_fallocate(file_engine(s), s->h.fd, mode, offset, bytes);
    if (ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -ENODEV || ret == -ENOTTY) {
        *refused = true;
        return -ENOTSUP;
    }
    return ret;
}

/* @grows: beyond the end of the file, where a hole would leave its size as it is. */
static int coroutine_fn zero_in_place(FileState *s, int64_t offset, int64_t bytes, bool may_unmap,
                                      bool grows)
{
    int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int ret = -ENOTSUP;

    if (may_unmap && !grows) {
        ret = try_fallocate(s, &s->no_punch_hole, punch, offset, bytes);
    }
    if (ret == -ENOTSUP) {
        ret = try_fallocate(s, &s->no_zero_range, FALLOC_FL_ZERO_RANGE, offset, bytes);
    }
    if (ret == -ENOTSUP && !may_unmap && !grows && !s->h.is_device && !s->no_fallocate) {
        /* A hole, then space for it again. */
        ret = try_fallocate(s, &s->no_punch_hole, punch, offset, bytes);
        if (ret == 0) {
            ret = try_fallocate(s, &s->no_fallocate, 0, offset, bytes);
            /* The zeros stand; only the promise of space is missing, which nobody insisted on. */
            ret = ret == -ENOTSUP ? 0 : ret;
        }
    }
    /* Some file systems refuse a range for its shape; written zeros have none. */
    return ret == -EINVAL ? -ENOTSUP : ret;
}

static int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              BdrvRequestFlags flags)
{
    FileState *s = bs->opaque;
    int ret = zero_in_place(s, offset, bytes, flags & BDRV_REQ_MAY_UNMAP,
                            offset + bytes > bs->total_bytes);

    file_status_written(s, offset, bytes);
    return ret;
}

typedef struct CopyArgs {
    int from, to;
    int64_t from_offset, to_offset, bytes;
} CopyArgs;

static bool is_not_supported(int error)
{
    return error == EXDEV || error == EINVAL || error == ENOSYS || error == EOPNOTSUPP ||
           error == EBADF || error == ETXTBSY;
}

static int copy_blocking(void *opaque)
{
    CopyArgs *args = opaque;
    off_t from = args->from_offset, to = args->to_offset;
    int64_t left = args->bytes;

    while (left > 0) {
        ssize_t n = copy_file_range(args->from, &from, args->to, &to, left, 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) { /* 0: some file systems say so of what they cannot do */
            return n == 0 || is_not_supported(errno) ? -ENOTSUP : -errno;
        }
        left -= n;
    }
    return 0;
}

static int coroutine_fn file_co_copy_range(BlockDriverState *bs, int64_t offset,
                                           BlockDriverState *src, int64_t src_offset, int64_t bytes)
{
    FileState *s = bs->opaque, *from = src->opaque;
    CopyArgs args = {.to = s->h.fd, .from_offset = src_offset, .to_offset = offset, .bytes = bytes};
    int ret;

    if (src->drv->data != &file_data || from->h.is_device || s->h.is_device) {
        return -ENOTSUP;
    }
    args.from = from->h.fd;
    ret = thread_pool_submit_co(copy_blocking, &args);
    file_status_written(s, offset, bytes);
    return ret;
}

typedef struct DiscardArgs {
    int fd;
    uint64_t range[2];
} DiscardArgs;

static int discard_device_blocking(void *opaque)
{
    DiscardArgs *args = opaque;

    return ioctl(args->fd, BLKDISCARD, args->range) < 0 ? -errno : 0;
}

static void count_discard(FileState *s, int64_t bytes, int ret)
{
    if (ret < 0) {
        __atomic_add_fetch(&s->discards_failed, 1, __ATOMIC_RELAXED);
    } else {
        __atomic_add_fetch(&s->discards_ok, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&s->discarded_bytes, bytes, __ATOMIC_RELAXED);
    }
}

static int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FileState *s = bs->opaque;
    int ret;

    if (!(bs->open_flags & BDRV_O_UNMAP)) {
        return -ENOTSUP;
    }
    if (s->h.is_device) {
        DiscardArgs args = {s->h.fd, {offset, bytes}};

        ret = thread_pool_submit_co(discard_device_blocking, &args);
        ret = ret == -EOPNOTSUPP ? -ENOTSUP : ret;
    } else {
        ret = try_fallocate(s, &s->no_punch_hole, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            offset, bytes);
    }
    file_status_written(s, offset, bytes);
    count_discard(s, bytes, ret);
    return ret;
}

static int coroutine_fn file_co_flush(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    int ret;

    if (__atomic_load_n(&s->flush_error, __ATOMIC_RELAXED)) {
        return -EIO; /* F2 */
    }
    if (!s->h.writable || (bs->open_flags & BDRV_O_NO_FLUSH)) {
        return 0;
    }
    ret = aio_file_fdatasync(file_engine(s), s->h.fd);
    if (ret < 0) {
        distrust_cache(bs, ret);
    }
    return ret;
}

const BlockDriverData file_data = {
    .co_preadv = file_co_preadv,
    .co_pwritev = file_co_pwritev,
    .co_pwrite_zeroes = file_co_pwrite_zeroes,
    .co_pdiscard = file_co_pdiscard,
    .co_copy_range = file_co_copy_range,
    .co_flush = file_co_flush,
    .co_block_status = file_co_block_status,
    .co_getlength = file_co_getlength,
    .co_truncate = file_co_truncate,
    .co_get_allocated_file_size = file_co_get_allocated_file_size,
};
