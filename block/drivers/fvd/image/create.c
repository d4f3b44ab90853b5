/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new FVD image.
 *
 *      step                                          power fails after it: the file holds
 *  c1  | the magic of an old header is gone          nothing
 *  c2  the data file is empty                        nothing
 *  c3  bitmap, table (all EMPTY), journal (zeros)    nothing: no header says where they are
 *  c4  | flushed                                     nothing
 *  c5  | the header                                  the image, or nothing: sectors of a header whose magic is
 *                                                    missing are no header, so that sector comes last
 *
 *   CR1  No magic is in the file before all that it stands for is durable.
 *   CR2  What was in the storage before is not in the image: regions are zeroed where they do not read as zeros;
 *        where there is no table the data area is, too, behind the base image at least.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/backend/backend.h"
#include "block/drivers/fvd/image/image.h"
#include "block/drivers/fvd/layout/plan.h"
#include "block/open/open.h"
#include "util/osdep.h"

/* Bytes of the table that are written at once. */
#define TABLE_WRITE_BYTES  (1 * MiB)
/* Zeroed at once: some storage writes them out, and a cancel is to be heard. */
#define ZERO_STEP_BYTES    (64 * MiB)
/* What prefetching takes of a header is bounded where it is used; these are what makes sense to ask for. */
#define PREFETCH_SLOTS_MAX 64
#define PREFETCH_BYTES_MAX (64 * MiB)

typedef struct Creation {
    const BlockdevCreateOptionsFvd *o;
    FvdHeader header;
    BdrvProgress *progress;
    BlockDriverState *file_bs, *data_bs;
    BlockBackend *file, *data; /* the same where there is no data file */
    uint8_t *bitmap;           /* NULL: no bit is set */
} Creation;

/* ------------------------------------------------------------------------------------------ options */

int fvd_set_name(char *field, size_t size, const char *option, const char *text, Error **errp)
{
    size_t len = text ? strlen(text) : 0;

    if (len >= size) {
        error_setg(errp, "Parameter '%s' has %zu bytes, and may have %zu at most", option, len,
                   size - 1);
        return -EINVAL;
    }
    memset(field, 0, size);
    memcpy(field, text ? text : "", len);
    return 0;
}

/* The name by which the image knows its data file. */
static int set_data_file(Creation *c, Error **errp)
{
    const BlockdevCreateOptionsFvd *o = c->o;
    FvdHeader *h = &c->header;
    g_autofree char *own = NULL;
    const char *name = o->data_file_name;
    int ret;

    if (!o->data_file) {
        if (name) {
            error_setg(errp, "Parameter 'data-file-name' needs 'data-file'");
            return -EINVAL;
        }
        return 0;
    }
    if (!name) {
        const char *filename = c->data_bs->filename;

        own = strchr(filename, ':') ? g_strdup(filename) : g_canonicalize_filename(filename, NULL);
        name = own;
    }
    if (!name[0]) {
        error_setg(errp, "The data file has no name: 'data-file-name' is needed");
        return -EINVAL;
    }
    ret = fvd_set_name(h->data_file, sizeof(h->data_file), "data-file-name", name, errp);
    if (ret == 0 && !c->data_bs->drv->is_protocol) {
        ret = fvd_set_name(h->data_file_fmt, sizeof(h->data_file_fmt), "data-file",
                           c->data_bs->drv->format_name, errp);
    }
    return ret;
}

static int check_prefetch(const BlockdevCreateOptionsFvd *o, Error **errp)
{
    if (o->has_num_prefetch_slots &&
        (o->num_prefetch_slots < 1 || o->num_prefetch_slots > PREFETCH_SLOTS_MAX)) {
        error_setg(errp, "Parameter 'num-prefetch-slots' is %" PRIu32 ", and must be from 1 to %d",
                   o->num_prefetch_slots, PREFETCH_SLOTS_MAX);
        return -EINVAL;
    }
    if (o->has_bytes_per_prefetch &&
        (o->bytes_per_prefetch < FVD_SECTOR_BYTES || o->bytes_per_prefetch > PREFETCH_BYTES_MAX)) {
        error_setg(errp,
                   "Parameter 'bytes-per-prefetch' is %" PRIu64 ", and must be from %d to %" PRId64,
                   o->bytes_per_prefetch, FVD_SECTOR_BYTES, PREFETCH_BYTES_MAX);
        return -EINVAL;
    }
    return 0;
}

#define SET_IF_GIVEN(header, options, member, field) \
    ((options)->has_##member ? (void)((header)->field = (options)->member) : (void)0)

int fvd_set_prefetch(FvdHeader *h, const BlockdevCreateOptionsFvd *o, Error **errp)
{
    SET_IF_GIVEN(h, o, copy_on_read, copy_on_read);
    SET_IF_GIVEN(h, o, max_outstanding_copy_on_read_data, max_outstanding_copy_on_read_data);
    SET_IF_GIVEN(h, o, prefetch_start_delay, prefetch_start_delay);
    SET_IF_GIVEN(h, o, num_prefetch_slots, num_prefetch_slots);
    SET_IF_GIVEN(h, o, bytes_per_prefetch, bytes_per_prefetch);
    SET_IF_GIVEN(h, o, prefetch_min_read_throughput, prefetch_min_read_throughput);
    SET_IF_GIVEN(h, o, prefetch_max_read_throughput, prefetch_max_read_throughput);
    SET_IF_GIVEN(h, o, prefetch_min_write_throughput, prefetch_min_write_throughput);
    SET_IF_GIVEN(h, o, prefetch_max_write_throughput, prefetch_max_write_throughput);
    SET_IF_GIVEN(h, o, prefetch_throttle_time, prefetch_throttle_time);
    SET_IF_GIVEN(h, o, prefetch_read_throughput_measure_time,
                 prefetch_read_throughput_measure_time);
    SET_IF_GIVEN(h, o, prefetch_write_throughput_measure_time,
                 prefetch_write_throughput_measure_time);
    return check_prefetch(o, errp);
}

static void set_features(FvdHeader *h, const BlockdevCreateOptionsFvd *o)
{
    if (o->has_version && o->version == BLOCKDEV_FVD_VERSION_V1) {
        /* A program that knows version 1 only writes sectors without trailers, and would not say so. */
        h->version = 1;
        h->incompatible = h->compatible = 0;
        return;
    }
    h->version = 2;
    h->compatible = FVD_COMPATIBLE_TRAILERS;
    h->incompatible = h->chunk_size ? FVD_INCOMPATIBLE_REMAP : 0;
    if (o->backing_file) {
        h->incompatible |= FVD_INCOMPATIBLE_BLOCK_SUMS;
    }
}

/* A size option, which may be larger than any number that is calculated with. */
static int64_t clip(uint64_t value)
{
    return MIN(value, (uint64_t)INT64_MAX);
}

int fvd_set_options(FvdHeader *h, const BlockdevCreateOptionsFvd *o, Error **errp)
{
    int ret;

    fvd_header_init(h);
    h->virtual_disk_size = clip(o->size);
    h->chunk_size = o->has_chunk_size ? clip(o->chunk_size) : h->chunk_size;
    h->block_size = o->has_block_size ? clip(o->block_size) : h->block_size;
    h->journal_size = o->has_journal_size ? clip(o->journal_size) : h->journal_size;
    SET_IF_GIVEN(h, o, storage_grow_unit, storage_grow_unit);
    set_features(h, o);
    ret = fvd_set_prefetch(h, o, errp);
    if (ret == 0) {
        ret = fvd_set_name(h->add_storage_cmd, sizeof(h->add_storage_cmd), "add-storage-cmd",
                           o->add_storage_cmd, errp);
    }
    if (ret == 0) {
        ret = fvd_set_name(h->base_img, sizeof(h->base_img), "backing-file", o->backing_file, errp);
    }
    if (ret == 0) {
        ret = fvd_set_name(h->base_img_fmt, sizeof(h->base_img_fmt), "backing-fmt", o->backing_fmt,
                           errp);
    }
    return ret;
}

/* ------------------------------------------------------------------------------------- base image */

static BlockDriverState *coroutine_fn open_base(Creation *c, Error **errp)
{
    g_autofree char *path = bdrv_path_beside(c->file_bs->filename, c->o->backing_file);
    BdrvOpenFileArgs args = {.filename = path, .format = c->o->backing_fmt, .read_only = true};
    BlockDriverState *base = bdrv_co_open_file(&args, errp);

    if (!base) {
        error_prepend(errp, "Could not open backing image: ");
    }
    return base;
}

int fvd_check_base_options(const BlockdevCreateOptionsFvd *o, Error **errp)
{
    const char *name = o->backing_fmt            ? "backing-fmt"
                       : o->has_backing_size     ? "backing-size"
                       : o->optimize_empty_block ? "optimize-empty-block"
                                                 : NULL;

    if (!o->backing_file && name) {
        error_setg(errp, "Parameter '%s' needs 'backing-file'", name);
        return -EINVAL;
    }
    if (o->backing_file && !o->backing_file[0]) {
        error_setg(errp, "Parameter 'backing-file' is empty");
        return -EINVAL;
    }
    return 0;
}

/* How much of the base counts; where the regions are; and which of its blocks are zeros. */
static int coroutine_fn look_at_base(Creation *c, Error **errp)
{
    const BlockdevCreateOptionsFvd *o = c->o;
    bool find_zeros = o->has_optimize_empty_block && o->optimize_empty_block;
    FvdHeader *h = &c->header;
    BlockDriverState *base = NULL;
    int64_t size = o->has_backing_size ? clip(o->backing_size) : 0, zeros;
    int ret;

    if (o->backing_file && (!o->has_backing_size || find_zeros)) {
        int64_t length;

        base = open_base(c, errp);
        length = base ? bdrv_getlength(base) : -EINVAL;
        if (length < 0) {
            if (base) {
                error_setg_errno(errp, -length, "Could not get the size of the base image");
            }
            bdrv_co_unref(base);
            return length;
        }
        size = o->has_backing_size ? MIN(size, length) : length;
    }
    h->base_img_size = MIN(size, h->virtual_disk_size);
    ret = fvd_plan(h, errp);
    if (ret == 0 && find_zeros) {
        ret = fvd_co_zero_blocks(base, h, c->progress, &c->bitmap, &zeros, errp);
        h->need_zero_init = ret == 0 && zeros > 0;
    }
    bdrv_co_unref(base);
    return ret;
}

/* ---------------------------------------------------------------------------------------- storage */

/* CR2.  A fresh file reads as zeros, and nothing is written. */
static int coroutine_fn zero_range(Creation *c, BlockBackend *blk, int64_t offset, int64_t bytes)
{
    int ret = 0;

    while (ret == 0 && bytes > 0) {
        int64_t n = MIN(bytes, ZERO_STEP_BYTES);

        if (bdrv_co_is_zero_fast(blk_bs(blk), offset, bytes) == 1) {
            break;
        }
        ret = bdrv_progress_cancelled(c->progress)
                  ? -ECANCELED
                  : blk_co_pwrite_zeroes(blk, offset, n, BDRV_REQ_MAY_UNMAP);
        offset += n;
        bytes -= n;
    }
    return ret;
}

/* As long as it is needed, at least; a device, or what a server has, keeps its length. */
static int coroutine_fn empty_file(BlockBackend *blk, int64_t length, Error **errp)
{
    int ret = blk_co_truncate(blk, 0, false, PREALLOC_MODE_OFF, 0, NULL);

    if (ret == -ENOTSUP && blk_getlength(blk) >= length) {
        return 0;
    }
    return blk_co_truncate(blk, length, false, PREALLOC_MODE_OFF, 0, errp);
}

/* c1: the sector with the magic, which goes wholly or not at all. */
static int coroutine_fn remove_old_header(Creation *c)
{
    uint8_t *zeros;
    int ret;

    if (bdrv_co_is_zero_fast(c->file_bs, 0, FVD_SECTOR_BYTES) == 1) {
        return 0;
    }
    zeros = qemu_try_blockalign(c->file_bs, FVD_SECTOR_BYTES);
    if (!zeros) {
        return -ENOMEM;
    }
    memset(zeros, 0, FVD_SECTOR_BYTES);
    ret = blk_co_pwrite(c->file, 0, FVD_SECTOR_BYTES, zeros, 0);
    qemu_vfree(zeros);
    return ret == 0 ? blk_co_flush(c->file) : ret;
}

static int coroutine_fn write_table(Creation *c)
{
    const FvdHeader *h = &c->header;
    int64_t bytes = ROUND_UP(fvd_header_table_bytes(h), FVD_REGION_ALIGN), n;
    int64_t buf_bytes = MIN(bytes, TABLE_WRITE_BYTES);
    uint8_t *buf = qemu_try_blockalign(c->file_bs, MAX(buf_bytes, 1));
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0xff, buf_bytes); /* EMPTY */
    }
    for (int64_t at = 0; ret == 0 && at < bytes; at += n) {
        n = MIN(bytes - at, buf_bytes);
        ret = bdrv_progress_cancelled(c->progress)
                  ? -ECANCELED
                  : blk_co_pwrite(c->file, h->table_offset + at, n, buf, 0);
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn write_regions(Creation *c)
{
    const FvdHeader *h = &c->header;
    int ret = zero_range(c, c->file, h->bitmap_offset, h->bitmap_size);

    if (ret == 0 && c->bitmap) {
        ret = blk_co_pwrite(c->file, h->bitmap_offset, fvd_header_bitmap_bytes(h), c->bitmap, 0);
    }
    if (ret == 0 && fvd_header_has_table(h)) {
        ret = write_table(c);
    }
    if (ret == 0) {
        ret = zero_range(c, c->file, h->journal_offset, h->journal_size);
    }
    if (ret == 0 && !fvd_header_has_table(h)) {
        ret = zero_range(c, c->data, h->data_offset, h->virtual_disk_size);
    }
    if (ret == 0 && c->data != c->file) {
        ret = blk_co_flush(c->data);
    }
    return ret == 0 ? blk_co_flush(c->file) : ret;
}

/* c5: all but the sector with the magic, then that one (CR1). */
static int coroutine_fn write_header(Creation *c)
{
    uint8_t *buf = qemu_try_blockalign(c->file_bs, FVD_HEADER_REGION);
    int ret = buf ? 0 : -ENOMEM;

    if (ret == 0) {
        fvd_header_encode(&c->header, buf);
        ret = blk_co_pwrite(c->file, FVD_SECTOR_BYTES, FVD_HEADER_REGION - FVD_SECTOR_BYTES,
                            buf + FVD_SECTOR_BYTES, 0);
    }
    if (ret == 0) {
        ret = blk_co_flush(c->file);
    }
    if (ret == 0) {
        ret = blk_co_pwrite(c->file, 0, FVD_SECTOR_BYTES, buf, 0);
    }
    if (ret == 0) {
        ret = blk_co_flush(c->file);
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn write_image(Creation *c, Error **errp)
{
    const FvdHeader *h = &c->header;
    int64_t flat = fvd_header_has_table(h) ? 0 : h->virtual_disk_size;
    int64_t regions_end = h->journal_offset + h->journal_size;
    int64_t file_end = h->data_file[0] ? regions_end : h->data_offset + flat;
    int ret = remove_old_header(c);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write '%s'", c->file_bs->filename);
        return ret;
    }
    ret = empty_file(c->file, file_end, errp);
    if (ret == 0 && c->data != c->file) {
        ret = empty_file(c->data, flat, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = write_regions(c);
    if (ret == 0) {
        ret = write_header(c);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write '%s'", c->file_bs->filename);
    }
    return ret;
}

/* --------------------------------------------------------------------------------------- creation */

/* Held for us alone but for readers who ask for nothing; in the main thread, where nodes are made. */
static BlockBackend *coroutine_fn take(BlockDriverState *bs, Error **errp)
{
    BlockBackend *blk = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, 0);

    blk_set_desc(blk, "image creation");
    if (bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), errp) < 0 ||
        blk_insert_bs(blk, bs, errp) < 0) {
        blk_co_unref(blk);
        return NULL;
    }
    return blk;
}

static int coroutine_fn open_nodes(Creation *c, Error **errp)
{
    c->file_bs = bdrv_co_open_ref(c->o->file, errp);
    c->file = c->file_bs ? take(c->file_bs, errp) : NULL;
    c->data = c->file;
    if (c->file && c->o->data_file) {
        c->data_bs = bdrv_co_open_ref(c->o->data_file, errp);
        c->data = c->data_bs ? take(c->data_bs, errp) : NULL;
    }
    return c->file && c->data ? 0 : -EINVAL;
}

int coroutine_fn fvd_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                               Error **errp)
{
    g_autofree Creation *c = g_new0(Creation, 1);
    int ret;

    c->o = &opts->u.fvd;
    c->progress = progress;
    ret = fvd_check_base_options(c->o, errp);
    if (ret == 0) {
        ret = open_nodes(c, errp);
    }
    if (ret == 0) {
        ret = fvd_set_options(&c->header, c->o, errp);
    }
    if (ret == 0) {
        ret = set_data_file(c, errp);
    }
    if (ret == 0) {
        ret = look_at_base(c, errp);
    }
    if (ret == 0) {
        ret = write_image(c, errp);
    }
    if (c->data && c->data != c->file) {
        blk_co_unref(c->data);
    }
    if (c->file) {
        blk_co_unref(c->file);
    }
    bdrv_co_unref(c->data_bs);
    bdrv_co_unref(c->file_bs);
    g_free(c->bitmap);
    return ret;
}

const BdrvCreateOption fvd_create_options[] = {
    {"version", "str", "Version of the format (allowed values: v1, v2)"},
    {"chunk_size", "size", "Bytes found through one entry of the table; 0: no table"},
    {"block_size", "size", "Bytes for one bit that says whether they are in the base image"},
    {"journal_size", "size", "Bytes of the journal"},
    {"data_file", "str", "Name of a file of its own for the data"},
    {"optimize_empty_block", "bool (on/off)", "Look for zero blocks in the base image"},
    FVD_OPTIONS_OF_BOTH,
    {NULL, NULL, NULL},
};
