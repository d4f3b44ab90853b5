/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * measure.c - how large the file of an FVD image is
 *
 *     | header, bitmap, table, journal |  | chunk | chunk | ...
 *     0                                   data_offset
 *
 * The regions are as long when the image is empty, with room in them for a disk that grows.  A chunk has a place,
 * all of it, as soon as a byte of it is not known to be zero; without a table the whole disk has.  A file is made
 * longer by up to storage_grow_unit where that can be, by a hole: what is not needed is not counted.
 */
#include <errno.h>
#include "block/drivers/fvd/image/image.h"
#include "block/drivers/fvd/layout/plan.h"
#include "block/io/io.h"

/* The header that creation would write. */
static int plan_header(FvdHeader *h, const BlockdevCreateOptionsFvd *o, Error **errp)
{
    int ret = fvd_check_base_options(o, errp);

    if (ret == 0) {
        ret = fvd_set_options(h, o, errp);
    }
    if (ret == 0) {
        ret =
            fvd_set_name(h->data_file, sizeof(h->data_file), "data-file", o->data_file_name, errp);
    }
    if (ret < 0) {
        return ret;
    }
    /* Nobody looks at the base image: it may be as long as the disk. */
    h->base_img_size = o->backing_file ? h->virtual_disk_size : 0;
    if (o->has_backing_size) {
        h->base_img_size = MIN(h->base_img_size, (int64_t)MIN(o->backing_size, INT64_MAX));
    }
    return fvd_plan(h, errp);
}

/* Chunks of @in that are not known to be zeros; negative errno with @errp. */
static int64_t coroutine_fn count_chunks(BlockDriverState *in, int64_t chunk_bytes,
                                         BdrvProgress *progress, Error **errp)
{
    int64_t length = bdrv_getlength(in), chunks = 0, counted_end = 0, pnum;
    int status = 0;

    for (int64_t at = 0; at < length; at += pnum) {
        status = bdrv_progress_cancelled(progress)
                     ? -ECANCELED
                     : bdrv_co_block_status_above(in, NULL, at, length - at, &pnum, NULL, NULL);
        if (status < 0) {
            error_setg_errno(errp, -status, "Unable to get block status");
            return status;
        }
        if (!(status & BDRV_BLOCK_ZERO)) {
            int64_t from = MAX(at, counted_end) / chunk_bytes;
            int64_t end = (at + pnum - 1) / chunk_bytes + 1;

            chunks += MAX(end - from, 0);
            counted_end = MAX(counted_end, end * chunk_bytes);
        }
    }
    return chunks;
}

static int64_t coroutine_fn required_bytes(const FvdHeader *h, BlockDriverState *in,
                                           int64_t all_bytes, BdrvProgress *progress, Error **errp)
{
    int64_t chunks;

    /* Over a base image what was zero may have to be said in chunks. */
    if (!fvd_header_has_table(h) || (in && h->base_img[0])) {
        return all_bytes;
    }
    chunks = in ? count_chunks(in, h->chunk_size, progress, errp) : 0;
    return chunks < 0 ? chunks : MIN(chunks * h->chunk_size, all_bytes);
}

BlockMeasureInfo *coroutine_fn fvd_co_measure(const BlockdevCreateOptions *opts,
                                              BlockDriverState *in, BdrvProgress *progress,
                                              Error **errp)
{
    g_autofree FvdHeader *h = g_new0(FvdHeader, 1);
    int64_t regions, all, required;
    BlockMeasureInfo *info;

    if (plan_header(h, &opts->u.fvd, errp) < 0) {
        return NULL;
    }
    all = fvd_header_has_table(h) ? fvd_header_chunks(h) * h->chunk_size : h->virtual_disk_size;
    required = required_bytes(h, in, all, progress, errp);
    if (required < 0) {
        return NULL;
    }
    regions = h->journal_offset + h->journal_size;
    info = g_new0(BlockMeasureInfo, 1);
    info->required = h->data_file[0] ? regions : h->data_offset + required;
    info->fully_allocated = h->data_file[0] ? regions : h->data_offset + all;
    return info;
}
