/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An FVD image as it lies in its file, for who looks at it without using it as a disk: header, table, bitmap,
 * journal, all in memory, and the disk's bytes through them.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/drivers/fvd/image/raw-image.h"
#include "block/io/io.h"
#include "util/crc32c.h"
#include "util/osdep.h"

/* Of data in one read. */
#define READ_BYTES (1 * MiB)

static BdrvChild *data_child(BlockDriverState *bs)
{
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->children, next) {
        if (strcmp(c->name, "data-file") == 0) {
            return c;
        }
    }
    return bs->file;
}

static int coroutine_fn load_header(FvdRawImage *image, Error **errp)
{
    uint8_t *buf = qemu_blockalign(image->file->bs, FVD_HEADER_REGION);
    int64_t bytes = MIN(FVD_HEADER_REGION, image->file_length);
    int ret = bdrv_co_pread(image->file, 0, bytes, buf, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the header of the FVD image");
    } else {
        ret = fvd_header_decode(buf, bytes, &image->header, errp);
    }
    qemu_vfree(buf);
    return ret;
}

int coroutine_fn fvd_raw_open(FvdRawImage *image, BlockDriverState *bs, Error **errp)
{
    memset(image, 0, sizeof(*image));
    image->bs = bs;
    image->file = bs->file;
    image->data = data_child(bs);
    image->file_length = bdrv_getlength(image->file->bs);
    image->data_length = bdrv_getlength(image->data->bs);
    if (image->file_length < 0 || image->data_length < 0) {
        int ret = MIN(image->file_length, image->data_length);

        error_setg_errno(errp, -ret, "Could not get the size of the FVD image");
        return ret;
    }
    return load_header(image, errp);
}

/* A region with room in memory of its own, aligned; at least a byte. */
static int coroutine_fn load_region(FvdRawImage *image, const char *what, int64_t offset,
                                    int64_t bytes, void *ret_buf, Error **errp)
{
    uint8_t *buf = qemu_try_blockalign(image->file->bs, MAX(bytes, 1));
    int ret = buf ? 0 : -ENOMEM;

    if (ret == 0 && bytes > 0) {
        ret = bdrv_co_pread(image->file, offset, bytes, buf, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the %s of the FVD image", what);
        qemu_vfree(buf);
        return ret;
    }
    *(void **)ret_buf = buf;
    return 0;
}

int coroutine_fn fvd_raw_load_maps(FvdRawImage *image, Error **errp)
{
    const FvdHeader *h = &image->header;
    int ret = load_region(image, "table", h->table_offset, fvd_header_table_bytes(h), &image->table,
                          errp);

    return ret == 0 ? load_region(image, "bitmap", h->bitmap_offset, fvd_header_bitmap_bytes(h),
                                  &image->bitmap, errp)
                    : ret;
}

int coroutine_fn fvd_raw_load_journal(FvdRawImage *image, Error **errp)
{
    const FvdHeader *h = &image->header;
    int64_t bytes = fvd_header_has_journal(h) ? h->journal_size : 0;
    int ret = load_region(image, "journal", h->journal_offset, bytes, &image->journal, errp);

    image->journal_sectors = ret == 0 ? bytes / FVD_JSECTOR_SIZE : 0;
    return ret;
}

void fvd_raw_close(FvdRawImage *image)
{
    qemu_vfree(image->table);
    qemu_vfree(image->bitmap);
    qemu_vfree(image->journal);
    image->table = NULL;
    image->bitmap = image->journal = NULL;
}

/* Where @offset of the disk is in the data's file, and how far it goes on there; -1: it has no place. */
static int64_t place_of(const FvdRawImage *image, int64_t offset, int64_t *ret_bytes)
{
    const FvdHeader *h = &image->header;
    uint32_t word;

    if (!fvd_header_has_table(h)) {
        *ret_bytes = h->virtual_disk_size - offset;
        return h->data_offset + offset;
    }
    word = le32_to_cpu(image->table[offset / h->chunk_size]);
    *ret_bytes = h->chunk_size - offset % h->chunk_size;
    return word == FVD_TABLE_EMPTY
               ? -1
               : h->data_offset + (int64_t)(word & ~FVD_TABLE_DIRTY) * h->chunk_size +
                     offset % h->chunk_size;
}

/* What is behind the end of the file was never written, and reads as zeros. */
static int coroutine_fn read_data(FvdRawImage *image, int64_t place, int64_t bytes, uint8_t *buf)
{
    int64_t there = place < 0 ? 0 : CLAMP(image->data_length - place, 0, bytes);
    int ret = there > 0 ? bdrv_co_pread(image->data, place, there, buf, 0) : 0;

    memset(buf + there, 0, bytes - there);
    return ret;
}

int coroutine_fn fvd_raw_block_crc(FvdRawImage *image, uint64_t block, uint32_t *ret_crc)
{
    const FvdHeader *h = &image->header;
    int64_t at = (int64_t)block * h->block_size;
    int64_t end = MIN(at + h->block_size, h->virtual_disk_size), n;
    uint8_t *buf = qemu_try_blockalign(image->data->bs, MIN(h->block_size, READ_BYTES));
    uint32_t crc = 0;
    int ret = buf ? 0 : -ENOMEM;

    for (; ret == 0 && at < end; at += n) {
        int64_t place = place_of(image, at, &n);

        n = MIN(n, MIN(end - at, READ_BYTES));
        ret = read_data(image, place, n, buf);
        crc = crc32c(crc, buf, n);
    }
    qemu_vfree(buf);
    *ret_crc = crc;
    return ret;
}

int coroutine_fn fvd_raw_copy_chunk(FvdRawImage *image, uint32_t from, uint32_t to, Error **errp)
{
    const FvdHeader *h = &image->header;
    int64_t source = h->data_offset + (int64_t)from * h->chunk_size;
    int64_t target = h->data_offset + (int64_t)to * h->chunk_size;
    int64_t step = MIN(h->chunk_size, READ_BYTES);
    uint8_t *buf = qemu_try_blockalign(image->data->bs, step);
    int ret = buf ? 0 : -ENOMEM;

    if (ret == 0 && image->data_length < target + h->chunk_size) {
        ret = bdrv_co_truncate(image->data, target + h->chunk_size, false, PREALLOC_MODE_OFF, 0,
                               errp);
        if (ret < 0) {
            qemu_vfree(buf);
            return ret;
        }
        image->data_length = bdrv_getlength(image->data->bs);
    }
    for (int64_t at = 0; ret == 0 && at < h->chunk_size; at += step) {
        int64_t n = MIN(step, h->chunk_size - at);

        ret = read_data(image, source + at, n, buf);
        if (ret == 0) {
            ret = bdrv_co_pwrite(image->data, target + at, n, buf, 0);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not copy chunk %" PRIu32, from);
    }
    qemu_vfree(buf);
    return ret;
}

/* Whole pages of a region: what is behind the part that is used stays as it is in the file. */
static int coroutine_fn store_region(FvdRawImage *image, int64_t offset, int64_t bytes,
                                     const void *buf)
{
    return bytes > 0 ? bdrv_co_pwrite(image->file, offset, bytes, buf, 0) : 0;
}

int coroutine_fn fvd_raw_store(FvdRawImage *image, Error **errp)
{
    const FvdHeader *h = &image->header;
    uint8_t *sector = qemu_blockalign(image->file->bs, FVD_SECTOR_BYTES);
    int ret = bdrv_co_flush(image->data->bs);

    if (ret == 0) {
        ret = store_region(image, h->table_offset, fvd_header_table_bytes(h), image->table);
    }
    if (ret == 0) {
        ret = store_region(image, h->bitmap_offset, fvd_header_bitmap_bytes(h), image->bitmap);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(image->file->bs);
    }
    if (ret == 0) {
        fvd_header_encode_sector(h, FVD_SECTOR_STATE, sector);
        ret = bdrv_co_pwrite(image->file, FVD_SECTOR_STATE * FVD_SECTOR_BYTES, FVD_SECTOR_BYTES,
                             sector, 0);
    }
    if (ret == 0) {
        ret = bdrv_co_flush(image->file->bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the FVD image");
    }
    qemu_vfree(sector);
    return ret;
}
