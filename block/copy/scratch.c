/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scratch files.  O_TMPFILE makes one that never had a name; where the file system cannot, the name is
 * taken away before anything is written.  The node opens it through /proc/self/fd and keeps it alive.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "block/copy/scratch.h"
#include "block/open/open.h"
#include "util/osdep.h"

/* What others on the file system are left: as much as ext4 keeps for root, and never next to nothing. */
#define RESERVE_PERCENT 5
#define RESERVE_BYTES   (1 * GiB)

const char *scratch_default_folder(void)
{
    const char *dir = getenv("TMPDIR");

    return dir && *dir ? dir : "/var/tmp";
}

int64_t scratch_share(uint64_t total_bytes, uint64_t free_bytes)
{
    uint64_t reserve = MAX((uint64_t)RESERVE_BYTES, total_bytes / 100 * RESERVE_PERCENT);

    return free_bytes > reserve ? (int64_t)MIN(free_bytes - reserve, (uint64_t)INT64_MAX) : 0;
}

/* A file system that reports nonsense has at the most this. */
static uint64_t blocks_to_bytes(uint64_t blocks, uint64_t block_bytes)
{
    return block_bytes && blocks > INT64_MAX / block_bytes ? INT64_MAX : blocks * block_bytes;
}

int scratch_limit(const char *folder, int64_t wanted, int64_t *ret_bytes, Error **errp)
{
    struct statvfs fs;
    int r;

    if (wanted >= 0) {
        *ret_bytes = wanted;
        return 0;
    }
    do {
        r = statvfs(folder, &fs) < 0 ? -errno : 0;
    } while (r == -EINTR);
    if (r < 0) {
        error_setg_errno(errp, -r, "Cannot tell the free space of the scratch folder '%s'", folder);
        return r;
    }
    *ret_bytes = scratch_share(blocks_to_bytes(fs.f_blocks, fs.f_frsize),
                               blocks_to_bytes(fs.f_bavail, fs.f_frsize));
    return 0;
}

static int make_nameless(const char *folder, Error **errp)
{
    g_autofree char *name = g_build_filename(folder, "qblk-scratch-XXXXXX", NULL);
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        fd = mkostemp(name, O_CLOEXEC);
        if (fd >= 0) {
            unlink(name);
        }
    }
    if (fd < 0) {
        int err = errno;

        error_setg_errno(errp, err, "Could not make a scratch file in '%s'", folder);
        return -err;
    }
    return fd;
}

/* Not every file system takes O_DIRECT; memory is one that does not. */
static BlockDriverState *coroutine_fn open_node(int fd, bool direct, Error **errp)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    BlockdevCacheOptions cache = {
        .has_direct = true,
        .direct = direct,
        .has_no_flush = true,
        .no_flush = true, /* it need not survive */
    };
    BlockdevOptions opts = {
        .driver = BLOCKDEV_DRIVER_FILE,
        .has_discard = true,
        .discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP,
        .cache = &cache,
        .u.file = {.filename = path},
    };

    return bdrv_co_open(&opts, errp);
}

BlockDriverState *coroutine_fn scratch_co_open(const char *folder, AioContext *ctx, Error **errp)
{
    int fd = make_nameless(folder, errp);
    BlockDriverState *bs;

    if (fd < 0) {
        return NULL;
    }
    bs = open_node(fd, true, NULL);
    if (!bs) {
        bs = open_node(fd, false, errp);
    }
    close(fd);
    if (bs && bdrv_get_aio_context(bs) != ctx &&
        bdrv_co_try_change_aio_context(bs, ctx, errp) < 0) {
        bdrv_co_unref(bs);
        return NULL;
    }
    return bs;
}
