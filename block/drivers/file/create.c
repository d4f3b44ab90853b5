/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creating an image file.
 *
 * The file is emptied only after its locks say that nobody uses it: O_TRUNC at open would come before
 * the question.  What was made here and could not be finished is removed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "block/drivers/file/file-int.h"
#include "block/open/image-lock.h"

typedef struct CreateArgs {
    const char *path;
    int64_t size;
    Error *err; /* out */
} CreateArgs;

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
    ret = file_resize_blocking(fd, args->size, PREALLOC_MODE_OFF, errp);
    return ret;
}

static int use_device(int fd, const CreateArgs *args, Error **errp)
{
    int64_t have = file_length_blocking(fd, true);

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

static int coroutine_fn file_co_create(const BlockCreateArgs *create, Error **errp)
{
    CreateArgs args = {.path = create->filename, .size = create->size};
    int ret;

    if (create->backing_file) {
        error_setg(errp, "Backing file not supported for file format 'file'");
        return -ENOTSUP;
    }
    if (create->size < 0) {
        error_setg(errp, "Image size must not be negative");
        return -EINVAL;
    }
    ret = thread_pool_submit_co(create_blocking, &args);
    error_propagate(errp, args.err);
    return ret;
}

const BlockDriverImage file_image = {
    .co_create = file_co_create,
};
