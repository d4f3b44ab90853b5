/* SPDX-License-Identifier: GPL-2.0-or-later */
/* status.c - alloc, map, info: what the image itself says of its contents */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "block/image/info.h"
#include "programs/common/specific.h"
#include "programs/io/commands/commands.h"

/* Of the image itself; what a file lacks of its last sector is as what is before it. */
static int coroutine_fn is_allocated(IoSession *io, int64_t offset, int64_t bytes, int64_t *ret_n)
{
    const int64_t length = blk_getlength(io->blk);
    int ret = bdrv_co_is_allocated(blk_bs(io->blk), MIN(offset, MAX(length - 1, 0)), bytes, ret_n);

    if (*ret_n == 0 || offset + *ret_n >= length) {
        *ret_n = bytes;
    }
    *ret_n = MIN(*ret_n, bytes);
    return ret;
}

static int coroutine_fn alloc_run(IoSession *io, int argc, char **argv)
{
    const int64_t length = io_image_length(io), offset = io_parse_size(argv[1]);
    int64_t count = BDRV_SECTOR_SIZE, allocated = 0, n;
    g_autofree char *where = NULL;

    if (length < 0 || offset < 0) {
        return -EINVAL;
    }
    if (argc == 3) {
        count = io_parse_size(argv[2]);
        if (count < 0) {
            return (int)count;
        }
    }
    count = MAX(MIN(count, length - offset), 0);
    for (int64_t done = 0; done < count; done += n) {
        int ret = is_allocated(io, offset + done, count - done, &n);

        if (ret < 0) {
            printf("is_allocated failed: %s\n", g_strerror(-ret));
            return ret;
        }
        allocated += ret ? n : 0;
    }
    where = io_size_text((double)offset);
    printf("%" PRId64 "/%" PRId64 " bytes allocated at offset %s\n", allocated, count, where);
    return 0;
}

const IoCommand io_alloc = {
    .name = "alloc",
    .alias = "a",
    .args = "offset [count]",
    .summary = "tells how much of a range is in the image itself",
    .min_args = 1,
    .max_args = 2,
    .run = alloc_run,
};

static void print_range(bool allocated, int64_t start, int64_t bytes)
{
    g_autofree char *size = io_size_text((double)bytes);
    g_autofree char *where = io_size_text((double)start);

    printf("%s (0x%" PRIx64 ") bytes %s allocated at offset %s (0x%" PRIx64 ")\n", size, bytes,
           allocated ? "   " : "not", where, start);
}

static int coroutine_fn map_run(IoSession *io, int argc, char **argv)
{
    const int64_t length = io_image_length(io);
    int64_t start = 0, at = 0, n;
    int ret, last = -1;

    if (length < 0) {
        error_report("Failed to query image length: %s", g_strerror((int)-length));
        return (int)length;
    }
    for (; at < length; at += n) {
        ret = is_allocated(io, at, length - at, &n);
        if (ret < 0) {
            error_report("Failed to get allocation status: %s", g_strerror(-ret));
            return ret;
        }
        if (last >= 0 && ret != last) {
            print_range(last, start, at - start);
            start = at;
        }
        last = ret;
    }
    if (last >= 0) {
        print_range(last, start, at - start);
    }
    return 0;
}

const IoCommand io_map = {
    .name = "map",
    .summary = "tells which ranges are in the image itself",
    .run = map_run,
};

static int coroutine_fn info_run(IoSession *io, int argc, char **argv)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(io->blk));
    BlockDriverInfo bdi = {0};
    g_autofree char *cluster = NULL, *vmstate = NULL;
    ImageInfo *info;
    int ret = bdrv_co_get_info(bs, &bdi);

    printf("format name: %s\n", bs->drv->format_name);
    if (ret < 0 && ret != -ENOTSUP) {
        return ret;
    }
    cluster = io_size_text((double)bdi.cluster_size);
    vmstate = io_size_text((double)bdi.vm_state_offset);
    printf("cluster size: %s\n", cluster);
    printf("vm state offset: %s\n", vmstate);
    info = image_co_info(bs, true);
    img_print_specific(info, "", 0);
    qapi_free_ImageInfo(info);
    return 0;
}

const IoCommand io_info = {
    .name = "info",
    .alias = "i",
    .summary = "tells of which format the image is, and what that says",
    .run = info_run,
};
