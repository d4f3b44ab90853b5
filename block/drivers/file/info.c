/* SPDX-License-Identifier: GPL-2.0-or-later */
/* info.c - what there is to say about a file beside its size */
#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "aio/thread-pool.h"
#include "block/drivers/file/file-int.h"

typedef struct HintArgs {
    int fd;
    bool has_hint;
    uint64_t hint;
} HintArgs;

/* XFS has it; who does not know the question has none. */
static int hint_blocking(void *opaque)
{
    HintArgs *args = opaque;
    struct fsxattr attr;

    if (ioctl(args->fd, FS_IOC_FSGETXATTR, &attr) == 0 && (attr.fsx_xflags & FS_XFLAG_EXTSIZE)) {
        args->has_hint = true;
        args->hint = attr.fsx_extsize;
    }
    return 0;
}

int coroutine_fn file_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info)
{
    *ret_info = (BlockDriverInfo){0};
    return 0;
}

ImageInfoSpecific *coroutine_fn file_co_get_specific_info(BlockDriverState *bs, Error **errp)
{
    FileState *s = bs->opaque;
    HintArgs args = {.fd = s->h.fd};
    ImageInfoSpecific *info = g_new0(ImageInfoSpecific, 1);

    thread_pool_submit_co(hint_blocking, &args);
    info->type = IMAGE_INFO_SPECIFIC_KIND_FILE;
    info->u.file.data = g_new0(ImageInfoSpecificFile, 1);
    info->u.file.data->has_extent_size_hint = args.has_hint;
    info->u.file.data->extent_size_hint = args.hint;
    return info;
}

BlockStatsSpecific *file_get_specific_stats(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    BlockStatsSpecific *stats = g_new0(BlockStatsSpecific, 1);
    BlockStatsSpecificFile *f = s->h.is_device ? &stats->u.host_device : &stats->u.file;

    stats->driver = s->h.is_device ? BLOCKDEV_DRIVER_HOST_DEVICE : BLOCKDEV_DRIVER_FILE;
    f->discard_nb_ok = __atomic_load_n(&s->discards_ok, __ATOMIC_RELAXED);
    f->discard_nb_failed = __atomic_load_n(&s->discards_failed, __ATOMIC_RELAXED);
    f->discard_bytes_ok = __atomic_load_n(&s->discarded_bytes, __ATOMIC_RELAXED);
    return stats;
}
