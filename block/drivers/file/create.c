/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creating an image file.
 *
 * The file is emptied only after its locks say that nobody uses it: O_TRUNC at open would come before
 * the question.  What was made here and could not be finished is removed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "block/drivers/file/file-int.h"
#include "block/io/io.h"
#include "block/open/image-lock.h"

typedef struct CreateArgs {
    const char *path;
    int64_t size;
    PreallocMode prealloc;
    bool nocow;
    uint64_t extent_size_hint; /* 0: none */
    BdrvProgress *progress;
    Error *err; /* out */
} CreateArgs;

/* Only an empty file can be told; a file system without the attribute copies nothing anyway, mostly. */
static int set_nocow(int fd, const char *path, Error **errp)
{
    int attr = 0, ret;

    if (ioctl(fd, FS_IOC_GETFLAGS, &attr) == 0) {
        attr |= FS_NOCOW_FL;
        if (ioctl(fd, FS_IOC_SETFLAGS, &attr) == 0) {
            return 0;
        }
    }
    ret = -errno;
    error_setg_errno(errp, -ret, "Could not set 'nocow' for '%s'", path);
    return ret;
}

/* Advice: a file system that has no extents of a size of their own need not hear it. */
static int set_extent_size_hint(int fd, const CreateArgs *args, Error **errp)
{
    struct fsxattr attr;
    int ret;

    if (ioctl(fd, FS_IOC_FSGETXATTR, &attr) < 0) {
        return 0;
    }
    attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
    attr.fsx_extsize = (uint32_t)args->extent_size_hint;
    if (ioctl(fd, FS_IOC_FSSETXATTR, &attr) == 0 || errno == ENOTTY || errno == EOPNOTSUPP) {
        return 0;
    }
    ret = -errno;
    error_setg_errno(errp, -ret, "Could not set the extent size hint of '%s'", args->path);
    return ret;
}

static int open_or_make(const char *path, bool *ret_made)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    *ret_made = fd >= 0;
    if (fd < 0 && errno == EEXIST) {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
    }
    return fd < 0 ? -errno : fd;
}

/* Empty the file and give it its size; the lock is held, so nobody looks. */
static int fill(int fd, const CreateArgs *args, Error **errp)
{
    const uint64_t perm = BLK_PERM_WRITE | BLK_PERM_RESIZE;
    const uint64_t shared = BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE;
    int ret;

    if (image_lock_supported(fd)) {
        ret = image_lock_acquire(fd, perm, shared, errp);
        if (ret == 0) {
            ret = image_lock_check(fd, perm, shared, args->path, errp);
        }
        if (ret < 0) {
            return ret;
        }
    }
    if (ftruncate(fd, 0) < 0) {
        ret = -errno;
        error_setg_errno(errp, -ret, "Could not clear file '%s'", args->path);
        return ret;
    }
    if (args->nocow) {
        ret = set_nocow(fd, args->path, errp);
        if (ret < 0) {
            return ret;
        }
    }
    if (args->extent_size_hint) {
        ret = set_extent_size_hint(fd, args, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return file_resize_blocking(fd, args->size, args->prealloc, args->progress, errp);
}

static int use_device(int fd, const CreateArgs *args, Error **errp)
{
    int64_t have = file_length_blocking(fd, true);

    if (args->prealloc != PREALLOC_MODE_OFF || args->nocow) {
        error_setg(errp, "Could not create '%s': a device has neither 'preallocation' nor 'nocow'",
                   args->path);
        return -ENOTSUP;
    }
    if (have < 0) {
        error_setg_errno(errp, -have, "Could not get the size of '%s'", args->path);
        return have;
    }
    if (have < args->size) {
        error_setg(errp, "Could not create '%s': the device has %lld bytes, %lld are needed",
                   args->path, (long long)have, (long long)args->size);
        return -ENOSPC;
    }
    return 0;
}

static int create_blocking(void *opaque)
{
    CreateArgs *args = opaque;
    struct stat st;
    bool made;
    int fd = open_or_make(args->path, &made);
    int ret = fd < 0 || fstat(fd, &st) == 0 ? 0 : -errno;

    if (fd < 0) {
        ret = fd;
        error_setg_errno(&args->err, -ret, "Could not create '%s'", args->path);
        return ret;
    }
    if (ret < 0) {
        error_setg_errno(&args->err, -ret, "Could not stat '%s'", args->path);
    } else if (S_ISREG(st.st_mode)) {
        ret = fill(fd, args, &args->err);
    } else if (S_ISBLK(st.st_mode)) {
        ret = use_device(fd, args, &args->err);
    } else {
        error_setg(&args->err, "Could not create '%s': neither a regular file nor a block device",
                   args->path);
        ret = -EINVAL;
    }
    if (ret < 0 && made) {
        unlink(args->path);
    }
    close(fd);
    return ret;
}

static int coroutine_fn file_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                                       Error **errp)
{
    const BlockdevCreateOptionsFile *o = &opts->u.file;
    CreateArgs args = {
        .path = o->filename,
        .size = o->size,
        .prealloc = o->has_preallocation ? o->preallocation : PREALLOC_MODE_OFF,
        .nocow = o->has_nocow && o->nocow,
        .extent_size_hint = o->has_extent_size_hint ? o->extent_size_hint : 0,
        .progress = progress,
    };
    int ret;

    if (args.extent_size_hint > UINT32_MAX) {
        error_setg(errp, "Extent size hint must be below 4 GiB");
        return -EINVAL;
    }
    if (o->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "Image size must be at most %lld bytes", (long long)BDRV_MAX_LENGTH);
        return -EFBIG;
    }
    ret = thread_pool_submit_co(create_blocking, &args);
    error_propagate(errp, args.err);
    return ret;
}

static const BdrvCreateOption file_create_options[] = {
    {"preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)"},
    {"extent_size_hint", "size", "Extent size hint for the image file, 0 to disable"},
    {"nocow", "bool (on/off)", "Turn off copy-on-write (valid only on btrfs)"},
    {NULL, NULL, NULL},
};

const BlockDriverImage file_image = {
    .co_create = file_co_create,
    .create_options = file_create_options,
    .co_get_info = file_co_get_info,
    .co_get_specific_info = file_co_get_specific_info,
    .get_specific_stats = file_get_specific_stats,
};
