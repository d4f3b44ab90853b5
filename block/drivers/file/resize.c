/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Length, and changing it, with or without space for what is new. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "block/drivers/file/file-int.h"
#include "util/osdep.h"
#include "trace-file.h"

/* One write of zeros when preallocating in full: large enough for a disk, small enough to keep. */
#define FULL_PREALLOC_BUFFER (1 * MiB)
/* What no file system has larger blocks for direct I/O than. */
#define FIRST_BLOCK          4096

typedef struct LengthArgs {
    int fd;
    bool is_device;
    int64_t length, allocated; /* out */
} LengthArgs;

static int length_blocking(void *opaque)
{
    LengthArgs *args = opaque;
    struct stat st;

    if (fstat(args->fd, &st) < 0) {
        return -errno;
    }
    args->length = file_length_blocking(args->fd, args->is_device);
    args->allocated = (int64_t)st.st_blocks * 512;
    return args->length < 0 ? args->length : 0;
}

int64_t coroutine_fn file_co_getlength(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    LengthArgs args = {.fd = s->h.fd, .is_device = s->h.is_device};
    int ret = thread_pool_submit_co(length_blocking, &args);

    return ret < 0 ? ret : args.length;
}

int64_t coroutine_fn file_co_get_allocated_file_size(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    LengthArgs args = {.fd = s->h.fd, .is_device = s->h.is_device};
    int ret = thread_pool_submit_co(length_blocking, &args);

    return ret < 0 ? ret : s->h.is_device ? args.length : args.allocated;
}

static int write_zeros(int fd, int64_t offset, int64_t end, BdrvProgress *progress)
{
    void *buf = qemu_try_memalign(4096, FULL_PREALLOC_BUFFER);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, FULL_PREALLOC_BUFFER);
    }
    bdrv_progress_set_total(progress, end - offset);
    for (int64_t start = offset; ret == 0 && offset < end;) {
        ssize_t n = pwrite(fd, buf, MIN(end - offset, FULL_PREALLOC_BUFFER), offset);

        if (n > 0) {
            offset += n;
            bdrv_progress_set_done(progress, offset - start);
            ret = bdrv_progress_cancelled(progress) ? -ECANCELED : 0;
        } else if (n == 0 || errno != EINTR) {
            ret = n == 0 ? -EIO : -errno;
        }
    }
    qemu_vfree(buf);
    return ret == 0 && fsync(fd) < 0 ? -errno : ret;
}

static int preallocate(int fd, int64_t old, int64_t length, PreallocMode prealloc,
                       BdrvProgress *progress, Error **errp)
{
    int ret;

    switch (prealloc) {
    case PREALLOC_MODE_FALLOC:
        ret = length == old ? 0 : fallocate(fd, 0, old, length - old) < 0 ? -errno : 0;
        break;
    case PREALLOC_MODE_FULL:
        ret = write_zeros(fd, old, length, progress);
        break;
    default:
        error_setg(errp,
                   "Unsupported preallocation mode: a file can have 'off', 'falloc' or 'full'");
        return -ENOTSUP;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not preallocate data for the new file");
    }
    return ret;
}

/*
 * The first block of a file that had none is stored, not a hole: who opens it for direct I/O learns by reading how
 * requests must be aligned, and some file systems answer any request to a hole.  Who has no room for it goes without.
 */
static void store_first_block(int fd, int64_t length)
{
    static const uint8_t zeros[FIRST_BLOCK] __attribute__((aligned(FIRST_BLOCK)));
    size_t bytes = length < FIRST_BLOCK ? MIN(length, BDRV_SECTOR_SIZE) : FIRST_BLOCK;

    if (pwrite(fd, zeros, bytes, 0) < 0) {
        return;
    }
}

int file_resize_blocking(int fd, int64_t length, PreallocMode prealloc, BdrvProgress *progress,
                         Error **errp)
{
    int64_t old = file_length_blocking(fd, false);
    int ret = 0;

    if (old < 0) {
        error_setg_errno(errp, -old, "Failed to inquire current file length");
        return old;
    }
    if (prealloc != PREALLOC_MODE_OFF) {
        if (length < old) {
            error_setg(errp, "Preallocation can't be used for shrinking files");
            return -EINVAL;
        }
        ret = preallocate(fd, old, length, prealloc, progress, errp);
        if (ret < 0 && ftruncate(fd, old) < 0) {
            error_append_hint(errp, "The file could not be cut back to %lld bytes.\n",
                              (long long)old);
        }
        return ret;
    }
    if (ftruncate(fd, length) < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Could not resize file");
    } else if (old == 0 && length > 0) {
        store_first_block(fd, length);
    }
    return ret;
}

typedef struct ResizeArgs {
    int fd;
    int64_t length;
    PreallocMode prealloc;
    Error *err; /* out */
} ResizeArgs;

static int resize_blocking(void *opaque)
{
    ResizeArgs *args = opaque;

    return file_resize_blocking(args->fd, args->length, args->prealloc, NULL, &args->err);
}

static int check_device_size(int64_t have, int64_t want, bool exact, Error **errp)
{
    if (want != have && exact) {
        error_setg(errp, "Cannot resize device files");
        return -ENOTSUP;
    }
    if (want > have) {
        error_setg(errp, "Cannot grow device files");
        return -EINVAL;
    }
    return 0;
}

int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    FileState *s = bs->opaque;
    ResizeArgs args = {.fd = s->h.fd, .length = offset, .prealloc = prealloc};
    int ret;

    if (s->h.is_device) {
        int64_t have = file_co_getlength(bs);

        if (have < 0) {
            error_setg_errno(errp, -have, "Could not get the size of '%s'", s->path);
            return have;
        }
        if (prealloc != PREALLOC_MODE_OFF) {
            error_setg(errp, "Preallocation is unsupported for this device");
            return -ENOTSUP;
        }
        return check_device_size(have, offset, exact, errp);
    }
    ret = thread_pool_submit_co(resize_blocking, &args);
    trace_file_truncate(s->path, offset, ret);
    file_status_written(s, 0, INT64_MAX);
    error_propagate(errp, args.err);
    return ret;
}
