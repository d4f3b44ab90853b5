/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store.c - dirty bitmaps from the image to the node, and back
 *
 *      open    directory --> s->bitmaps      valid: closed cleanly, and its epoch is that of the header
 *      load    each is a bitmap of the node  not valid: inconsistent, without bits
 *      begin   clean_shutdown = 0 and another epoch, in one sector: what the directory says is void from then on.  The
 *              bit in the header stays, and with it the area, so that the names are there after a crash
 *      store   bits and directory to where neither a chunk nor the old area is | clean_shutdown = 1, the epoch, and
 *              where they are, in one sector.  Nothing, if neither the disk nor one of them has changed
 *      forget  a directory without one, elsewhere | where it is.  While the image is being changed the others' names only
 *
 * "|" is a flush that must have returned.
 *
 * The rules BM1 to BM4 are in docs/formats/fvd.rst, "Dirty bitmaps".
 */
#include <errno.h>
#include <inttypes.h>
#include "block/dirty/dirty-bitmap.h"
#include "block/drivers/fvd/bitmaps/bitmaps.h"
#include "block/drivers/fvd/fvd-int.h"
#include "block/io/io.h"
#include "util/crc32c.h"
#include "util/osdep.h"

/* Bits are read and written in pieces of this. */
#define PIECE_BYTES (1 * MiB)

/* ------------------------------------------------------------------------------------------------ open */

static bool fit_for_bitmaps(const FvdHeader *h)
{
    return h->version == 2 && h->has_ext && fvd_header_has_table(h) && fvd_header_has_journal(h);
}

/* Return: the directory; NULL with *ret 0 and an Error, it is damaged; or with negative errno, it cannot be read. */
static FvdBitmapDir *coroutine_fn read_directory(FvdState *s, int *ret, Error **errp)
{
    const FvdHeader *h = &s->header;
    int64_t length = bdrv_getlength(s->data->bs);
    int64_t bytes = MIN(h->bitmaps_size, FVD_BITMAP_DIR_BYTES_MAX);
    FvdBitmapDir *dir = NULL;
    uint8_t *buf;

    *ret = MIN(length, 0);
    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the length of the data file");
        return NULL;
    }
    if (!fit_for_bitmaps(h) || h->bitmaps_size > FVD_BITMAPS_AREA_MAX ||
        h->bitmaps_size > length - h->bitmaps_offset) {
        error_setg(errp, "their directory is not where it can be");
        return NULL;
    }
    buf = qemu_try_blockalign(s->data->bs, MAX(bytes, 1));
    *ret = buf ? bdrv_co_pread(s->data, h->bitmaps_offset, bytes, buf, 0) : -ENOMEM;
    if (*ret < 0) {
        error_setg_errno(errp, -*ret, "Could not read the directory of the dirty bitmaps");
    } else {
        *ret = 0;
        dir = fvd_bitmap_dir_decode(buf, bytes, h->bitmaps_size, errp);
    }
    qemu_vfree(buf);
    return dir;
}

int coroutine_fn fvd_co_bitmaps_open(FvdState *s, Error **errp)
{
    const FvdHeader *h = &s->header;
    Error *err = NULL;
    int ret = 0;

    if (!(h->autoclear & FVD_AUTOCLEAR_BITMAPS)) {
        return 0;
    }
    s->bitmaps = read_directory(s, &ret, &err);
    if (ret < 0) {
        error_propagate(errp, err);
        return ret;
    }
    if (!s->bitmaps) {
        error_prepend(&err, "The dirty bitmaps of the FVD image '%s' are lost: ", s->bs->filename);
        warn_report_err(err);
        return 0;
    }
    s->autoclear_due = (h->autoclear & ~FVD_AUTOCLEAR_BITMAPS) != 0;
    s->bitmaps_valid = h->clean_shutdown && !h->state_crc_wrong &&
                       s->bitmaps->epoch == h->stable_journal_epoch &&
                       s->bitmaps->disk_size == h->virtual_disk_size;
    return 0;
}

/* ------------------------------------------------------------------------------------------------ load */

/* @ret_right: whether the bits are those that were stored; else the bitmap has some of them. */
static int coroutine_fn load_bits(FvdState *s, const FvdBitmapEntry *e, BdrvDirtyBitmap *bitmap,
                                  bool *ret_right)
{
    uint8_t *buf = qemu_try_blockalign(s->data->bs, PIECE_BYTES);
    uint32_t crc = 0;
    int ret = buf ? 0 : -ENOMEM;

    for (int64_t at = 0, n; at < e->data_bytes && ret >= 0; at += n) {
        n = MIN(e->data_bytes - at, PIECE_BYTES);
        ret = bdrv_co_pread(s->data, s->header.bitmaps_offset + e->data_offset + at, n, buf, 0);
        if (ret >= 0) {
            crc = crc32c(crc, buf, n);
            bdrv_dirty_bitmap_load(bitmap, at * 8 << e->granule, buf, n);
        }
    }
    qemu_vfree(buf);
    *ret_right = crc == e->data_crc;
    return MIN(ret, 0);
}

static int coroutine_fn load_one(FvdState *s, const FvdBitmapEntry *e, Error **errp)
{
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(s->bs, 1u << e->granule, e->name, errp);
    bool right = s->bitmaps_valid && !e->inconsistent;
    int ret = 0;

    if (!bitmap) {
        return -EINVAL;
    }
    if (right) {
        AioContext *here = fvd_co_go_home(s->bs);

        ret = load_bits(s, e, bitmap, &right);
        fvd_co_go_back(s->bs, here);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read the dirty bitmap '%s' of the FVD image",
                             e->name);
            return ret;
        }
        if (!right) {
            warn_report("The checksum of the dirty bitmap '%s' of the FVD image '%s' is wrong",
                        e->name, s->bs->filename);
        }
    }
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    bdrv_dirty_bitmap_set_readonly(bitmap, s->bs->read_only);
    if (!right) {
        bdrv_clear_dirty_bitmap(bitmap, NULL);
        bdrv_dirty_bitmap_set_inconsistent(bitmap);
    } else if (!e->enabled) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    if (s->bitmaps_valid && right == !e->inconsistent) {
        bdrv_dirty_bitmap_set_saved(bitmap);
    }
    return 0;
}

static int coroutine_fn co_load(BlockDriverState *bs, Error **errp)
{
    FvdState *s = bs->opaque;
    int ret = 0;

    for (unsigned i = 0; s->bitmaps && i < s->bitmaps->entries->len && ret == 0; i++) {
        /* Each goes to the head of the node's list. */
        ret = load_one(s, fvd_bitmap_dir_entry(s->bitmaps, s->bitmaps->entries->len - 1 - i), errp);
    }
    s->bitmaps_loaded = ret == 0;
    return ret;
}

void fvd_bitmaps_reopened(FvdState *s)
{
    BdrvDirtyBitmap *bitmap = NULL;

    s->writable = s->bs->open_flags & BDRV_O_RDWR;
    while ((bitmap = bdrv_dirty_bitmap_next(s->bs, bitmap))) {
        if (bdrv_dirty_bitmap_get_persistence(bitmap)) {
            bdrv_dirty_bitmap_set_readonly(bitmap, !s->writable);
        }
    }
}

/* ----------------------------------------------------------------------------------------------- gather */

static int64_t rounded(int64_t bytes)
{
    return ROUND_UP(bytes, FVD_BITMAP_DATA_ALIGN);
}

/* *total: bytes of the area, to which it is added. */
static bool has_room(int64_t bytes, int64_t *total)
{
    if (bytes > FVD_BITMAP_BYTES_MAX || rounded(bytes) > FVD_BITMAPS_AREA_MAX - *total) {
        return false;
    }
    *total += rounded(bytes);
    return true;
}

static void gather_one(FvdBitmapDir *dir, const BdrvDirtyBitmap *bitmap, int64_t *total)
{
    FvdBitmapEntry *e = fvd_bitmap_dir_add(dir, bdrv_dirty_bitmap_name(bitmap));
    int64_t bytes;

    e->granule = ctz32(bdrv_dirty_bitmap_granularity(bitmap));
    e->enabled = bdrv_dirty_bitmap_recording(bitmap);
    e->inconsistent = bdrv_dirty_bitmap_inconsistent(bitmap);
    if (e->inconsistent) {
        return;
    }
    bytes = fvd_bitmap_bytes(dir->disk_size, e->granule);
    if (has_room(bytes, total)) {
        e->bits = g_try_malloc(MAX(bytes, 1));
    }
    if (!e->bits) { /* the disk has become larger than what was promised, or memory is short */
        warn_report("There is no room for the dirty bitmap '%s': it is inconsistent", e->name);
        e->inconsistent = true;
        return;
    }
    bdrv_dirty_bitmap_save(bitmap, 0, e->bits, bytes);
    if (buffer_is_zero(e->bits, bytes)) {
        g_clear_pointer(&e->bits, g_free);
        return;
    }
    e->data_bytes = bytes;
    e->data_crc = crc32c(0, e->bits, bytes);
}

/* @without: NULL, or the name of one that is left out */
static FvdBitmapDir *gather(FvdState *s, const char *without)
{
    int64_t total = rounded(FVD_BITMAP_DIR_BYTES_MAX);
    BdrvDirtyBitmap *bitmap = NULL;
    FvdBitmapDir *dir = fvd_bitmap_dir_new();

    dir->disk_size = s->header.virtual_disk_size;
    while ((bitmap = bdrv_dirty_bitmap_next(s->bs, bitmap))) {
        if (bdrv_dirty_bitmap_get_persistence(bitmap) &&
            g_strcmp0(bdrv_dirty_bitmap_name(bitmap), without) != 0) {
            gather_one(dir, bitmap, &total);
        }
    }
    return dir;
}

static FvdBitmapEntry *find_entry(const FvdState *s, const char *name)
{
    for (unsigned i = 0; s->bitmaps && i < s->bitmaps->entries->len; i++) {
        FvdBitmapEntry *e = fvd_bitmap_dir_entry(s->bitmaps, i);

        if (strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

/* Whether the file has all of them as they are. */
static bool are_stored(const FvdState *s)
{
    BdrvDirtyBitmap *bitmap = NULL;
    unsigned n = 0;

    if (s->journal || !s->bitmaps_valid) {
        return false;
    }
    while ((bitmap = bdrv_dirty_bitmap_next(s->bs, bitmap))) {
        if (bdrv_dirty_bitmap_get_persistence(bitmap)) {
            if (bdrv_dirty_bitmap_unsaved(bitmap)) {
                return false;
            }
            n++;
        }
    }
    return s->bitmaps && n == s->bitmaps->entries->len;
}

FvdBitmapDir *fvd_bitmaps_gather(FvdState *s)
{
    return s->bitmaps_loaded && s->writable && !are_stored(s) ? gather(s, NULL) : NULL;
}

void fvd_bitmaps_stored(FvdState *s)
{
    BdrvDirtyBitmap *bitmap = NULL;

    while (s->bitmaps_valid && (bitmap = bdrv_dirty_bitmap_next(s->bs, bitmap))) {
        FvdBitmapEntry *e = bdrv_dirty_bitmap_get_persistence(bitmap)
                                ? find_entry(s, bdrv_dirty_bitmap_name(bitmap))
                                : NULL;

        if (e && e->inconsistent == bdrv_dirty_bitmap_inconsistent(bitmap)) {
            bdrv_dirty_bitmap_set_saved(bitmap);
        }
    }
}

static int can_store(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp)
{
    FvdState *s = bs->opaque;
    const FvdHeader *h = &s->header;
    int64_t total = rounded(FVD_BITMAP_DIR_BYTES_MAX);
    BdrvDirtyBitmap *bitmap = NULL;
    unsigned n = 0;
    bool room;

    if (!s->writable) {
        error_setg(errp, "The FVD image is read-only");
        return -EACCES;
    }
    if (!fit_for_bitmaps(h)) {
        error_setg(errp,
                   "Only FVD images of version 2 with a table and a journal can keep bitmaps");
        return -ENOTSUP;
    }
    room = has_room(fvd_bitmap_bytes(h->virtual_disk_size, ctz32(granularity)), &total);
    while (room && (bitmap = bdrv_dirty_bitmap_next(bs, bitmap))) {
        if (bdrv_dirty_bitmap_get_persistence(bitmap)) {
            unsigned granule = ctz32(bdrv_dirty_bitmap_granularity(bitmap));

            room = ++n < FVD_BITMAPS_MAX &&
                   has_room(fvd_bitmap_bytes(h->virtual_disk_size, granule), &total);
        }
    }
    if (!room) {
        error_setg(errp,
                   "An FVD image keeps %d bitmaps at most, of %" PRId64 " bytes each and %" PRId64
                   " together",
                   FVD_BITMAPS_MAX, FVD_BITMAP_BYTES_MAX, FVD_BITMAPS_AREA_MAX);
        return -ENOSPC;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ store */

uint32_t fvd_bitmaps_first(const FvdState *s)
{
    const FvdHeader *h = &s->header;
    int64_t at;

    if (!(h->autoclear & FVD_AUTOCLEAR_BITMAPS)) {
        return UINT32_MAX;
    }
    at = MAX(h->bitmaps_offset - h->data_offset, 0) / h->chunk_size;
    return (uint32_t)MIN(at, FVD_CHUNKS_MAX);
}

uint32_t fvd_bitmaps_end(const FvdState *s)
{
    const FvdHeader *h = &s->header;
    int64_t end = MAX(fvd_header_bitmaps_end(h) - h->data_offset, 0);

    return (uint32_t)MIN(DIV_ROUND_UP(end, h->chunk_size), fvd_header_data_chunks(h));
}

/* One more than the highest chunk that an entry names. */
static uint32_t named_end(const FvdState *s)
{
    const uint32_t *table = fvd_map_table(s->map);
    uint32_t end = 0;

    for (int64_t i = 0; i < fvd_header_chunks(&s->header); i++) {
        if (table[i] != FVD_TABLE_EMPTY) { /* the same in either order of bytes */
            end = MAX(end, (le32_to_cpu(table[i]) & ~FVD_TABLE_DIRTY) + 1);
        }
    }
    return end;
}

/* What the old area leaves of its chunks, which nobody else has; -1: that is too small, or somebody has. */
static int64_t place_beside_old(const FvdState *s, int64_t bytes)
{
    const FvdHeader *h = &s->header;
    uint32_t first = fvd_bitmaps_first(s);
    int64_t start, end;
    int64_t old_end = ROUND_UP(fvd_header_bitmaps_end(h), FVD_REGION_ALIGN);

    if (!(h->autoclear & FVD_AUTOCLEAR_BITMAPS) || first < named_end(s)) {
        return -1;
    }
    start = ROUND_UP(h->data_offset + first * h->chunk_size, FVD_REGION_ALIGN);
    end = h->data_offset + fvd_bitmaps_end(s) * h->chunk_size;
    if (bytes <= h->bitmaps_offset - start) {
        return start;
    }
    return bytes <= end - old_end ? old_end : -1;
}

/* BM2.  Nobody takes a chunk any more when the image is closed; else who goes on may take what is below. */
static int64_t choose_place(const FvdState *s, int64_t bytes)
{
    const FvdHeader *h = &s->header;
    int64_t first = s->closing ? named_end(s) : MAX(fvd_map_used(s->map), fvd_bitmaps_end(s));
    int64_t at = ROUND_UP(h->data_offset + first * h->chunk_size, FVD_REGION_ALIGN);
    int64_t old_end = fvd_header_bitmaps_end(h);
    int64_t beside = s->closing ? -1 : place_beside_old(s, bytes);

    if (beside >= 0) {
        return beside;
    }
    if (h->autoclear & FVD_AUTOCLEAR_BITMAPS && at < old_end && h->bitmaps_offset < at + bytes) {
        at = ROUND_UP(old_end, FVD_REGION_ALIGN);
    }
    return at;
}

static int coroutine_fn write_at(FvdState *s, int64_t at, const uint8_t *from, int64_t bytes)
{
    uint8_t *buf = qemu_try_blockalign(s->data->bs, PIECE_BYTES);
    int ret = buf ? 0 : -ENOMEM;

    for (int64_t done = 0, n; done < bytes && ret >= 0; done += n) {
        n = MIN(bytes - done, PIECE_BYTES);
        memcpy(buf, from + done, n);
        memset(buf + n, 0, rounded(n) - n);
        ret = bdrv_co_pwrite(s->data, at + done, rounded(n), buf, 0);
    }
    qemu_vfree(buf);
    return ret;
}

/* All of the area, durably. */
static int coroutine_fn write_area(FvdState *s, const FvdBitmapDir *dir, int64_t at, int64_t bytes)
{
    g_autofree uint8_t *buf = NULL;
    size_t dir_bytes;
    int ret = fvd_co_store_reach(s, at + bytes);

    for (unsigned i = 0; i < dir->entries->len && ret >= 0; i++) {
        const FvdBitmapEntry *e = fvd_bitmap_dir_entry(dir, i);

        if (e->data_bytes) {
            ret = write_at(s, at + e->data_offset, e->bits, e->data_bytes);
        }
    }
    if (ret >= 0) {
        buf = fvd_bitmap_dir_encode(dir, &dir_bytes);
        ret = write_at(s, at, buf, dir_bytes);
    }
    return ret < 0 ? ret : fvd_co_flush_node(s, s->data->bs);
}

static void keep_none(FvdState *s)
{
    s->header.autoclear &= ~FVD_AUTOCLEAR_BITMAPS;
    fvd_bitmap_dir_free(s->bitmaps);
    s->bitmaps = NULL;
}

/* Nobody takes chunks of it from now on, and nobody makes them ready again: they are in use (store.c, ST1). */
static void reserve(FvdState *s, int64_t end)
{
    const FvdHeader *h = &s->header;

    fvd_map_raise_used(s->map, (uint32_t)DIV_ROUND_UP(end - h->data_offset, h->chunk_size));
    s->ready_end = MAX(s->ready_end, h->data_offset + fvd_map_used(s->map) * h->chunk_size);
}

/* All of it elsewhere, durably; the header in memory names it, and it is s->bitmaps.  Else nothing has changed. */
static int coroutine_fn store(FvdState *s, FvdBitmapDir *dir)
{
    const FvdHeader *h = &s->header;
    int64_t bytes = fvd_bitmap_dir_place(dir);
    int64_t at = choose_place(s, bytes);
    int ret = -ENOSPC;

    if (at + bytes <= h->data_offset + fvd_header_data_chunks(h) * h->chunk_size) {
        if (s->journal) {
            reserve(s, at + bytes);
        }
        ret = write_area(s, dir, at, bytes);
    }
    if (ret < 0) {
        return ret;
    }
    s->header.bitmaps_offset = at;
    s->header.bitmaps_size = bytes;
    s->header.autoclear |= FVD_AUTOCLEAR_BITMAPS;
    for (unsigned i = 0; i < dir->entries->len; i++) {
        g_clear_pointer(&fvd_bitmap_dir_entry(dir, i)->bits, g_free);
    }
    fvd_bitmap_dir_free(s->bitmaps);
    s->bitmaps = dir;
    return 0;
}

int coroutine_fn fvd_co_bitmaps_store(FvdState *s, FvdBitmapDir *dir, uint64_t epoch)
{
    int ret;

    if (dir->entries->len == 0) {
        keep_none(s);
        fvd_bitmap_dir_free(dir);
        return 0;
    }
    dir->epoch = epoch;
    ret = fit_for_bitmaps(&s->header) ? store(s, dir) : -ENOTSUP;
    if (ret < 0 && !s->failed) { /* BM3 */
        warn_report("The dirty bitmaps of the FVD image '%s' are lost: %s", s->bs->filename,
                    g_strerror(-ret));
        keep_none(s);
    }
    if (ret < 0) {
        fvd_bitmap_dir_free(dir);
    }
    return s->failed ? -EIO : 0; /* then the file has those that it had, and they are void */
}

static void coroutine_fn co_store(BlockDriverState *bs)
{
    FvdState *s = bs->opaque;
    FvdBitmapDir *dir = fvd_bitmaps_gather(s);

    if (dir) {
        AioContext *here = fvd_co_go_home(bs);

        s->closing = true;
        fvd_co_settle(s, dir); /* as when it is closed */
        fvd_co_go_back(bs, here);
    }
}

/* ----------------------------------------------------------------------------------------------- forget */

/* The directory of a file whose bits are void, without @name: names, for who comes after a crash. */
static FvdBitmapDir *names_without(const FvdState *s, const char *name)
{
    FvdBitmapDir *dir = fvd_bitmap_dir_new();

    dir->epoch = s->bitmaps->epoch;
    dir->disk_size = s->bitmaps->disk_size;
    for (unsigned i = 0; i < s->bitmaps->entries->len; i++) {
        const FvdBitmapEntry *e = fvd_bitmap_dir_entry(s->bitmaps, i);

        if (strcmp(e->name, name) != 0) {
            FvdBitmapEntry *kept = fvd_bitmap_dir_add(dir, e->name);

            kept->granule = e->granule;
            kept->enabled = e->enabled;
            kept->inconsistent = true;
        }
    }
    return dir;
}

/* BM4.  @dir: taken over */
static int coroutine_fn replace_directory(FvdState *s, FvdBitmapDir *dir)
{
    int ret = s->failed ? -EIO : 0;

    if (ret == 0 && dir->entries->len == 0) {
        keep_none(s);
    } else if (ret == 0) {
        ret = store(s, dir);
        dir = ret == 0 ? NULL : dir;
    }
    fvd_bitmap_dir_free(dir);
    if (ret == 0) {
        ret = fvd_co_write_state(s);
        if (ret < 0) {
            fvd_fail(s); /* which of the two directories the file has is not known */
        }
    }
    return ret;
}

static int coroutine_fn co_forget(BlockDriverState *bs, const char *name, Error **errp)
{
    FvdState *s = bs->opaque;
    FvdBitmapDir *dir;
    AioContext *here;
    int ret;

    if (!find_entry(s, name)) {
        return 0;
    }
    if (s->journal) {
        dir = names_without(s, name);
    } else {
        dir = gather(s, name);
        dir->epoch = s->header.stable_journal_epoch;
    }
    here = fvd_co_go_home(bs);
    qemu_co_rwlock_wrlock(&s->changing);
    ret = replace_directory(s, dir);
    qemu_co_rwlock_unlock(&s->changing);
    fvd_co_go_back(bs, here);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not remove the dirty bitmap '%s' from the FVD image",
                         name);
        return ret;
    }
    if (!s->journal) {
        s->bitmaps_valid = s->header.clean_shutdown;
        fvd_bitmaps_stored(s);
    }
    return 0;
}

const BlockDriverBitmaps fvd_bitmaps = {
    .can_store = can_store,
    .co_load = co_load,
    .co_store = co_store,
    .co_forget = co_forget,
};

/* ------------------------------------------------------------------------------------------------- info */

FvdBitmapInfoList *fvd_bitmaps_info(const FvdState *s)
{
    FvdBitmapInfoList *list = NULL, **tail = &list;
    BdrvDirtyBitmap *bitmap = NULL;

    while ((bitmap = bdrv_dirty_bitmap_next(s->bs, bitmap))) {
        if (bdrv_dirty_bitmap_get_persistence(bitmap)) {
            FvdBitmapInfo *info = g_new0(FvdBitmapInfo, 1);

            info->name = g_strdup(bdrv_dirty_bitmap_name(bitmap));
            info->granularity = bdrv_dirty_bitmap_granularity(bitmap);
            info->recording = bdrv_dirty_bitmap_recording(bitmap);
            info->inconsistent = bdrv_dirty_bitmap_inconsistent(bitmap);
            QAPI_LIST_APPEND(tail, info);
        }
    }
    return list;
}
