/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * resize.c - a disk of another size
 *
 * The image is settled first, and nobody is at work in it: what the header is to say is said by writes of one sector, each
 * of which leaves an image that is right.
 *
 *      growing      | the rest of the last chunk is zeros
 *                   | space for what is new, if it is to be set aside (storage/preallocate.c)
 *                   | entries that are new are EMPTY, or that space
 *                   | the table has moved to where it has room, if it must: sector 4
 *                   | the size: sector 0
 *      shrinking    | base_img_size if it is larger, sector 4
 *                   | the size, sector 0
 *
 * "|" is a flush that must have returned.  Chunks behind the new end are named by nobody then, and free.  What they and
 * the rest of the last chunk hold is not seen again, for growing zeros it.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/fvd/fvd-int.h"
#include "block/drivers/fvd/storage/preallocate.h"
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* Table entries are written in pieces of this. */
#define ENTRIES_BYTES (1 * MiB)

static int coroutine_fn write_sector(FvdState *s, unsigned sector)
{
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, FVD_SECTOR_BYTES);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    fvd_header_encode_sector(&s->header, sector, buf);
    ret = bdrv_co_pwrite(s->bs->file, (int64_t)sector * FVD_SECTOR_BYTES, FVD_SECTOR_BYTES, buf, 0);
    qemu_vfree(buf);
    if (ret < 0) {
        fvd_fail(s); /* what the file says may be another than what memory says */
    }
    return ret < 0 ? ret : fvd_co_flush_node(s, s->bs->file->bs);
}

/* What was taken and is in no record is free again, as after a crash: nobody is at work. */
static void drop_dirty(uint32_t *entries, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (le32_to_cpu(entries[i]) & FVD_TABLE_DIRTY) {
            entries[i] = cpu_to_le32(FVD_TABLE_EMPTY);
        }
    }
}

/* Entries of the table in the file, from byte @from of it to byte @to, that are those of @table, or EMPTY. */
static int coroutine_fn write_entries(FvdState *s, int64_t at, const uint32_t *table, int64_t from,
                                      int64_t to)
{
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, ENTRIES_BYTES);
    int64_t piece;
    int ret = buf ? 0 : -ENOMEM;

    for (; from < to && ret >= 0; from += piece) {
        piece = MIN(to - from, ENTRIES_BYTES);
        if (table) {
            memcpy(buf, (const uint8_t *)table + from, piece);
            drop_dirty((uint32_t *)buf, piece / FVD_TABLE_ENTRY_BYTES);
        } else {
            memset(buf, 0xff, piece);
        }
        ret = bdrv_co_pwrite(s->bs->file, at + from, piece, buf, 0);
    }
    qemu_vfree(buf);
    return ret;
}

/* Entries of the table in the file that are chunks which follow each other. */
static int coroutine_fn write_numbers(FvdState *s, int64_t at, const FvdPrealloc *p)
{
    int64_t most = ENTRIES_BYTES / FVD_TABLE_ENTRY_BYTES, n;
    uint32_t *buf = qemu_try_blockalign(s->bs->file->bs, ENTRIES_BYTES);
    int ret = buf ? 0 : -ENOMEM;

    for (int64_t done = 0; done < p->n && ret >= 0; done += n) {
        n = MIN(p->n - done, most);
        for (int64_t i = 0; i < n; i++) {
            buf[i] = cpu_to_le32((uint32_t)(p->first_chunk + done + i));
        }
        ret = bdrv_co_pwrite(s->bs->file, at + (p->first_entry + done) * FVD_TABLE_ENTRY_BYTES,
                             n * FVD_TABLE_ENTRY_BYTES, buf, 0);
    }
    qemu_vfree(buf);
    return ret;
}

/* Where a table has room that @next's has not: behind all that the file has, and behind all chunks there may be. */
static void place_table(const FvdState *s, FvdHeader *next)
{
    int64_t end = bdrv_getlength(s->bs->file->bs);
    int64_t chunks = fvd_header_chunks(next);

    if (s->data == s->bs->file) {
        end = MAX(end, next->data_offset + chunks * next->chunk_size);
    }
    next->table_offset = QEMU_ALIGN_UP(end, FVD_REGION_ALIGN);
    next->table_size = QEMU_ALIGN_UP(chunks * FVD_TABLE_ENTRY_BYTES, FVD_REGION_ALIGN);
}

/* Whether the table has no room for that disk's entries, or, since it has moved once, is where its chunks may be. */
static bool must_move(const FvdState *s, const FvdHeader *next)
{
    int64_t data_end = next->data_offset + fvd_header_chunks(next) * next->chunk_size;

    return fvd_header_chunks(next) * FVD_TABLE_ENTRY_BYTES > next->table_size ||
           (s->data == s->bs->file && next->table_offset > next->data_offset &&
            next->table_offset < data_end);
}

/* The table has room for @next's disk, and what is new in it is EMPTY, or as @p says; sector 4 says where it is. */
static int coroutine_fn make_table(FvdState *s, FvdHeader *next, const FvdPrealloc *p)
{
    int64_t old_bytes = fvd_header_table_bytes(&s->header);
    int64_t bytes = fvd_header_chunks(next) * FVD_TABLE_ENTRY_BYTES;
    bool moves = next->table_offset != s->header.table_offset;
    int ret = 0;

    if (!fvd_header_has_table(&s->header)) {
        return 0;
    }
    if (moves) {
        place_table(s, next);
        if (s->data == s->bs->file) {
            ret = fvd_co_store_reach(s, next->table_offset + next->table_size);
        }
        if (ret >= 0) {
            ret = write_entries(s, next->table_offset, fvd_map_table(s->map), 0, old_bytes);
        }
    }
    if (ret >= 0) {
        ret =
            write_entries(s, next->table_offset, NULL, old_bytes, moves ? next->table_size : bytes);
    }
    if (ret >= 0 && p->n) {
        ret = write_numbers(s, next->table_offset, p);
        if (ret < 0) {
            fvd_fail(s); /* PA3: the file may have an entry that memory has not */
        }
    }
    if (ret >= 0) {
        ret = fvd_co_flush_node(s, s->bs->file->bs);
    }
    if (ret < 0 || !moves) {
        return ret;
    }
    s->header.table_offset = next->table_offset;
    s->header.table_size = next->table_size;
    return write_sector(s, FVD_SECTOR_GEOMETRY);
}

/* What the last chunk has behind the end of the disk may be from a time when the disk was larger. */
static int coroutine_fn zero_behind_end(FvdState *s)
{
    int64_t size = s->header.virtual_disk_size, chunk = s->header.chunk_size, run, place;
    int64_t inside = fvd_header_has_table(&s->header) ? size % chunk : 0;
    int ret;

    if (!inside || (place = fvd_map_place(s->map, size - inside, inside, &run)) < 0) {
        return 0;
    }
    ret = bdrv_co_pwrite_zeroes(s->data, place + inside, chunk - inside, 0);
    return ret < 0 ? ret : fvd_co_flush_node(s, s->data->bs);
}

/* Whether the file has anything behind @end that is not the disk's. */
static bool is_something_behind(const FvdState *s, int64_t end)
{
    const FvdHeader *h = &s->header;

    return (h->autoclear & FVD_AUTOCLEAR_BITMAPS) ||
           (s->data == s->bs->file && (FVD_HEADER_REGION > end || h->bitmap_offset >= end ||
                                       h->table_offset >= end || h->journal_offset >= end));
}

/* Without a table the disk is in one piece: what its file has behind the end, up to the new one, is not seen again. */
static int coroutine_fn clear_behind_flat(FvdState *s, int64_t size)
{
    int64_t end = s->header.data_offset + s->header.virtual_disk_size;
    int64_t length = bdrv_getlength(s->data->bs);
    Error *err = NULL;
    int ret = -ENOTSUP;

    if (fvd_header_has_table(&s->header) || length <= end) {
        return 0;
    }
    if (!s->grow_command && !is_something_behind(s, end)) {
        ret = bdrv_co_truncate(s->data, end, true, PREALLOC_MODE_OFF, 0, &err);
        error_free(err);
    }
    if (ret < 0) { /* or it is a device */
        ret =
            bdrv_co_pwrite_zeroes(s->data, end, MIN(length, s->header.data_offset + size) - end, 0);
    }
    return ret < 0 ? ret : fvd_co_flush_node(s, s->data->bs);
}

/*
 * The base is going to end at @from, and then what it has behind is looked for in the image: what a write has left there
 * whose record was lost is not seen.
 */
static int coroutine_fn clear_behind_base(FvdState *s, int64_t from)
{
    int64_t end = s->header.base_img_size, run, place;
    int ret = 0;

    for (; from < end && ret >= 0; from += run) {
        if (fvd_map_read(s->map, from, end - from, &run, &place) != FVD_MAP_BASE) {
            continue;
        }
        place = fvd_map_place(s->map, from, run, &run);
        if (place >= 0) {
            ret = bdrv_co_pwrite_zeroes(s->data, place, run, 0);
        }
    }
    return ret < 0 ? ret : fvd_co_flush_node(s, s->data->bs);
}

static int coroutine_fn set_size(FvdState *s, FvdHeader *next, const FvdPrealloc *p)
{
    int ret = 0;

    if (next->virtual_disk_size > s->header.virtual_disk_size) {
        ret = make_table(s, next, p);
    }
    if (next->base_img_size < s->header.base_img_size) {
        ret = clear_behind_base(s, next->base_img_size);
    }
    if (ret >= 0 && next->base_img_size != s->header.base_img_size) {
        s->header.base_img_size = next->base_img_size;
        ret = write_sector(s, FVD_SECTOR_GEOMETRY);
    }
    if (ret >= 0) {
        s->header.virtual_disk_size = next->virtual_disk_size;
        ret = write_sector(s, 0);
    }
    return ret < 0 ? ret : write_sector(s, FVD_SECTOR_STATE); /* the checksum of the others */
}

/* Nobody is in the image but who reads its status. */
static int coroutine_fn resize(FvdState *s, FvdHeader *next, PreallocMode mode, Error **errp)
{
    FvdPrealloc prealloc = {0};
    FvdMap *old = s->map;
    int64_t size = s->header.virtual_disk_size;
    int ret = fvd_co_begin_changes(s, s->bitmaps); /* a recovery that is due; BM1 */

    ret = ret < 0 ? ret : fvd_co_settle(s, NULL);
    if (ret >= 0 && next->virtual_disk_size > size) {
        int space;

        ret = zero_behind_end(s);
        ret = ret < 0 ? ret : clear_behind_flat(s, next->virtual_disk_size);
        space = ret < 0 ? 0 : fvd_co_preallocate(s, next, mode, &prealloc, errp);
        if (space < 0) {
            return space;
        }
    }
    if (ret >= 0) {
        ret = set_size(s, next, &prealloc);
    }
    if (ret < 0) {
        s->header.virtual_disk_size = size; /* the map's */
        error_setg_errno(errp, -ret, "Could not change the size of the FVD image");
        return ret;
    }
    ret = fvd_co_load(s, errp);
    if (ret < 0) {
        fvd_map_delete(s->map);
        s->map = old;
        s->header.virtual_disk_size = size;
        fvd_fail(s);
        return ret;
    }
    fvd_map_delete(old);
    s->write_max = fvd_write_max(&s->header, &s->geometry);
    return 0;
}

static int check_next(const FvdState *s, const FvdHeader *next, Error **errp)
{
    FvdJGeometry geometry;
    int ret = s->failed ? -EIO : fvd_header_check(next, errp);

    if (s->failed) {
        error_setg(errp, "The FVD image takes no writes any more");
    }
    if (ret < 0) {
        return ret;
    }
    fvd_jgeometry_init(&geometry, next);
    if (fvd_write_max(next, &geometry) == 0) {
        error_setg(errp, "The journal of the FVD image is too small for a disk of that size");
        return -ENOSPC;
    }
    return 0;
}

int coroutine_fn fvd_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                 PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    FvdState *s = bs->opaque;
    g_autofree FvdHeader *next = NULL;
    FvdRange r;
    int ret;

    if (!QEMU_IS_ALIGNED(offset, FVD_SECTOR_BYTES)) {
        error_setg(errp, "The size of an FVD image must be a multiple of %d bytes",
                   FVD_SECTOR_BYTES);
        return -EINVAL;
    }
    qemu_co_rwlock_wrlock(&s->changing);
    ret =
        s->journal ? fvd_co_soft_keep(s) : 0; /* holds ranges of its own; nobody stores any more */
    if (ret < 0) {
        qemu_co_rwlock_unlock(&s->changing);
        error_setg_errno(errp, -ret, "Could not bring the FVD image up to date");
        return ret;
    }
    fvd_co_range_begin(s, &r, FVD_RANGE_FREE, 0, INT64_MAX);
    next = g_memdup2(&s->header, sizeof(*next));
    next->virtual_disk_size = offset;
    next->base_img_size = MIN(next->base_img_size, offset);
    if (fvd_header_has_table(next) && offset <= FVD_DISK_BYTES_MAX && must_move(s, next)) {
        place_table(s, next);
    }
    ret = check_next(s, next, errp);
    if (ret >= 0 && prealloc != PREALLOC_MODE_OFF && offset < s->header.virtual_disk_size) {
        error_setg(errp, "Preallocation can't be used for shrinking an image");
        ret = -EINVAL;
    }
    if (ret >= 0 && offset != s->header.virtual_disk_size) {
        ret = resize(s, next, prealloc, errp);
    }
    trace_fvd_truncate(bs->node_name, s->header.virtual_disk_size, s->header.table_offset, ret);
    fvd_range_end(s, &r);
    qemu_co_rwlock_unlock(&s->changing);
    return ret;
}
