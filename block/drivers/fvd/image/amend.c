/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What creation has set, changed later: fields of the header, the base image's name, and all of the contents.
 *
 * Everything begins with a settled image: the journal is void, table and bitmap in the file are what memory has.
 * Then the header is written, the sectors that differ and sector 6 at the end, for it has the checksums.  Nobody
 * else uses the node meanwhile.
 *
 *   AM1  A feature is turned on after the version says that there may be some, and off before it does not.
 *   AM2  Emptying: at no moment is anything read but what is in the image or in the base.  Bits first, then how
 *        much of the base counts, then the table.
 *   AM3  What could not be written to its end is written back as it was, in the order of AM1.  What cannot be, the image has
 *        failed: its file may be anything between the two, each of which can be opened, and memory is neither.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/drivers/fvd/fvd-int.h"
#include "block/drivers/fvd/image/image.h"
#include "block/io/io.h"
#include "qapi/type.h"
#include "util/osdep.h"

/* ------------------------------------------------------------------------------------------- header */

static int coroutine_fn write_sector(FvdState *s, unsigned sector, const uint8_t *region)
{
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, FVD_SECTOR_BYTES);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    memcpy(buf, region + sector * FVD_SECTOR_BYTES, FVD_SECTOR_BYTES);
    ret = bdrv_co_pwrite(s->bs->file, sector * FVD_SECTOR_BYTES, FVD_SECTOR_BYTES, buf, 0);
    qemu_vfree(buf);
    return ret;
}

/* The sectors that differ but the two given; durably. */
static int coroutine_fn write_others(FvdState *s, const uint8_t *before, const uint8_t *after)
{
    int ret = 0;

    for (unsigned i = 1; ret == 0 && i < FVD_HEADER_REGION / FVD_SECTOR_BYTES; i++) {
        size_t at = i * FVD_SECTOR_BYTES;

        if (i != FVD_SECTOR_STATE && memcmp(before + at, after + at, FVD_SECTOR_BYTES)) {
            ret = write_sector(s, i, after);
        }
    }
    return ret == 0 ? fvd_co_flush_node(s, s->bs->file->bs) : ret;
}

/* From @before to @after, durably; @version_first: the version becomes a higher one. */
static int coroutine_fn write_header(FvdState *s, const uint8_t *before, const uint8_t *after,
                                     bool version_first)
{
    int ret = version_first ? write_sector(s, 0, after) : 0; /* AM1 */

    if (ret == 0) {
        ret = write_others(s, before, after);
    }
    if (ret == 0) {
        ret = write_sector(s, FVD_SECTOR_STATE, after);
    }
    if (ret == 0) {
        ret = fvd_co_flush_node(s, s->bs->file->bs);
    }
    if (ret == 0 && !version_first && memcmp(before, after, FVD_SECTOR_BYTES)) {
        ret = write_sector(s, 0, after);
        if (ret == 0) {
            ret = fvd_co_flush_node(s, s->bs->file->bs);
        }
    }
    return ret;
}

/* The image's header becomes @h, which passes fvd_header_check(). */
static int coroutine_fn change_header(FvdState *s, const FvdHeader *h, Error **errp)
{
    g_autofree uint8_t *before = g_malloc(FVD_HEADER_REGION);
    g_autofree uint8_t *after = g_malloc(FVD_HEADER_REGION);
    int ret;

    fvd_header_encode(&s->header, before);
    fvd_header_encode(h, after);
    ret = write_header(s, before, after, h->version > s->header.version);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the header of the FVD image");
        if (s->failed || write_header(s, after, before, h->version < s->header.version) < 0) {
            fvd_fail(s); /* AM3 */
        }
        return ret;
    }
    s->header = *h;
    fvd_jgeometry_init(&s->geometry, &s->header);
    s->write_max = fvd_write_max(&s->header, &s->geometry);
    return 0;
}

/* A header to be changed, of an image whose journal is void; to be g_freed. */
static FvdHeader *coroutine_fn settled_header(FvdState *s, Error **errp)
{
    int ret = s->map && !s->bs->read_only ? fvd_co_begin_changes(s, s->bitmaps) : -EACCES;

    if (ret == 0) {
        ret = fvd_co_settle(s, NULL);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "The FVD image cannot be changed");
        return NULL;
    }
    return g_memdup2(&s->header, sizeof(s->header));
}

/* -------------------------------------------------------------------------------------------- amend */

static void amend_version(FvdHeader *h, BlockdevFvdVersion version)
{
    if (version == BLOCKDEV_FVD_VERSION_V1) {
        h->version = 1;
        h->incompatible = 0;
        h->compatible &= ~FVD_COMPATIBLE_TRAILERS;
        return;
    }
    if (!h->has_ext) {
        h->has_ext = true;
        h->ext_size = FVD_EXT_BYTES;
        memset(h->reserved, 0, FVD_EXT_BYTES);
    }
    h->version = 2;
    h->compatible |= FVD_COMPATIBLE_TRAILERS;
    h->incompatible |= fvd_header_has_table(h) ? FVD_INCOMPATIBLE_REMAP : 0;
    h->incompatible |= h->base_img_size > 0 ? FVD_INCOMPATIBLE_BLOCK_SUMS : 0;
}

/* The journal stays where it is: up to what follows it in the file. */
static int amend_journal_size(FvdHeader *h, uint64_t size, Error **errp)
{
    FvdHeader *wanted = g_memdup2(h, sizeof(*h));
    Error *err = NULL;
    int ret = fvd_header_has_journal(h) ? 0 : -EINVAL;

    if (ret < 0) {
        error_setg(errp, "The image has no journal whose size could be changed");
    } else if (size < FVD_JOURNAL_BYTES_MIN || size > FVD_JOURNAL_BYTES_MAX ||
               size % FVD_REGION_ALIGN) {
        error_setg(errp,
                   "Parameter 'journal-size' is %" PRIu64 ", and must be a multiple of %" PRId64
                   " from %" PRId64 " to %" PRId64,
                   size, (int64_t)FVD_REGION_ALIGN, (int64_t)FVD_JOURNAL_BYTES_MIN,
                   (int64_t)FVD_JOURNAL_BYTES_MAX);
        ret = -EINVAL;
    } else {
        wanted->journal_size = size;
        ret = fvd_header_check(wanted, &err);
        if (ret < 0) {
            error_setg(errp, "The journal cannot have %" PRIu64 " bytes where it is: %s", size,
                       error_get_pretty(err));
            error_free(err);
        } else {
            h->journal_size = size;
        }
    }
    g_free(wanted);
    return ret;
}

/* A journal whose records would count for a program that knows no trailers, or of another size: nothing is in it. */
static int coroutine_fn clear_journal(FvdState *s, const FvdHeader *h, Error **errp)
{
    int ret = 0;

    if (fvd_header_has_journal(h) &&
        (h->journal_size > s->header.journal_size ||
         (s->header.compatible ^ h->compatible) & FVD_COMPATIBLE_TRAILERS)) {
        int64_t bytes = MAX(h->journal_size, s->header.journal_size);

        ret = bdrv_co_pwrite_zeroes(s->bs->file, h->journal_offset, bytes, 0);
        if (ret == 0) {
            ret = fvd_co_flush_node(s, s->bs->file->bs);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not clear the journal");
    }
    return ret;
}

/* The extension is in the last sector that is written, and version 2 in the first: one step for each (AM1). */
static int coroutine_fn add_extension(FvdState *s, Error **errp)
{
    g_autofree FvdHeader *h = g_memdup2(&s->header, sizeof(s->header));
    int ret;

    h->has_ext = true;
    h->ext_size = FVD_EXT_BYTES;
    memset(h->reserved, 0, FVD_EXT_BYTES);
    ret = fvd_header_check(h, errp);
    return ret == 0 ? change_header(s, h, errp) : ret;
}

static int apply_options(FvdHeader *h, const BlockdevCreateOptionsFvd *o, Error **errp)
{
    int ret = fvd_set_prefetch(h, o, errp);

    if (ret == 0 && o->has_version && o->version == BLOCKDEV_FVD_VERSION_V1 &&
        h->autoclear & FVD_AUTOCLEAR_BITMAPS) {
        error_setg(errp, "The image has persistent dirty bitmaps, which version 1 cannot keep");
        ret = -ENOTSUP;
    }
    if (ret == 0 && o->has_version) {
        amend_version(h, o->version);
    }
    if (o->has_storage_grow_unit) {
        h->storage_grow_unit = o->storage_grow_unit;
    }
    if (ret == 0 && o->add_storage_cmd) {
        ret = fvd_set_name(h->add_storage_cmd, sizeof(h->add_storage_cmd), "add-storage-cmd",
                           o->add_storage_cmd, errp);
    }
    if (ret == 0 && o->has_journal_size) {
        ret = amend_journal_size(h, o->journal_size, errp);
    }
    return ret == 0 ? fvd_header_check(h, errp) : ret;
}

static bool is_amendable(const char *key)
{
    for (const BdrvCreateOption *o = fvd_amend_options; o->name; o++) {
        g_autofree char *name = g_strdelimit(g_strdup(o->name), "_", '-');

        if (strcmp(name, key) == 0) {
            return true;
        }
    }
    return false;
}

/* The strings, checked as those of creation are. */
static BlockdevCreateOptions *parse_options(json_t *options, Error **errp)
{
    json_t *all = json_pack("{s:s, s:s, s:s}", "driver", "fvd", "file", "", "size", "0"), *value;
    BlockdevCreateOptions *opts = NULL;
    const char *name;

    json_object_foreach(options, name, value)
    {
        g_autofree char *key = g_strdelimit(g_strdup(name), "_", '-');

        if (!is_amendable(key)) {
            error_setg(errp, "Option '%s' of an FVD image cannot be amended", name);
            json_decref(all);
            return NULL;
        }
        json_object_set(all, key, value);
    }
    opts = qapi_from_keyval(&qapi_type_BlockdevCreateOptions, all, errp);
    json_decref(all);
    return opts;
}

int coroutine_fn fvd_co_amend(BlockDriverState *bs, json_t *options, bool force,
                              BdrvProgress *progress, Error **errp)
{
    FvdState *s = bs->opaque;
    BlockdevCreateOptions *opts = parse_options(options, errp);
    g_autofree FvdHeader *h = opts ? settled_header(s, errp) : NULL;
    int ret = h ? apply_options(h, &opts->u.fvd, errp) : -EINVAL;

    if (ret == 0 && h->has_ext && !s->header.has_ext) {
        ret = add_extension(s, errp);
    }
    if (ret == 0) {
        ret = clear_journal(s, h, errp);
    }
    if (ret == 0) {
        ret = change_header(s, h, errp);
    }
    qapi_free_BlockdevCreateOptions(opts);
    return ret;
}

const BdrvCreateOption fvd_amend_options[] = {
    {"version", "str", "Version of the format (allowed values: v1, v2)"},
    {"journal_size", "size", "Bytes of the journal, as far as there is room where it is"},
    FVD_OPTIONS_OF_BOTH,
    {NULL, NULL, NULL},
};

/* ------------------------------------------------------------------------------------- backing file */

/* Memory as the file; else it stays as it was, with the header that went with it, and the image has failed. */
static int coroutine_fn reload(FvdState *s, const FvdHeader *before, Error **errp)
{
    FvdMap *old = s->map;
    int ret;

    s->map = NULL;
    ret = fvd_co_load(s, errp);
    if (ret < 0) {
        fvd_map_delete(s->map);
        s->map = old;
        s->header = *before;
        fvd_jgeometry_init(&s->geometry, &s->header);
        fvd_fail(s);
        return ret;
    }
    fvd_map_delete(old);
    return 0;
}

int coroutine_fn fvd_co_change_backing_file(BlockDriverState *bs, const char *file,
                                            const char *format, Error **errp)
{
    FvdState *s = bs->opaque;
    g_autofree FvdHeader *h = settled_header(s, errp);
    g_autofree FvdHeader *before = g_memdup2(&s->header, sizeof(s->header));
    int ret = h ? 0 : -EINVAL;

    if (ret == 0 && file && h->base_img_size == 0 && h->virtual_disk_size > 0) {
        /* All of the disk is in the image: what has no place reads as zeros, whatever a base has there. */
        error_setg(errp, "The FVD image has no base image, and all of its disk is in it: "
                         "it cannot get one");
        ret = -ENOTSUP;
    }
    if (ret == 0) {
        ret = fvd_set_name(h->base_img, sizeof(h->base_img), "backing-file", file, errp);
    }
    if (ret == 0) {
        ret = fvd_set_name(h->base_img_fmt, sizeof(h->base_img_fmt), "backing-fmt",
                           file ? format : NULL, errp);
    }
    if (ret == 0 && !file) {
        h->base_img_size = 0;
    }
    if (ret == 0) {
        ret = change_header(s, h, errp);
    }
    if (ret == 0 && !file) {
        ret = reload(s, before, errp);
    }
    if (ret < 0) {
        return ret;
    }
    g_free(bs->backing_file);
    g_free(bs->backing_format);
    bs->backing_file = g_strdup(file);
    bs->backing_format = file ? g_strdup(format) : NULL;
    return 0;
}

/* ------------------------------------------------------------------------------------------- empty */

/* @bytes, up to a page, of @value at @offset of the image file; durably. */
static int coroutine_fn fill_region(FvdState *s, int64_t offset, int64_t bytes, uint8_t value)
{
    int64_t step = MIN(MAX(bytes, 1), 1 * MiB);
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, step);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, value, step);
    }
    for (int64_t at = 0, n; ret == 0 && at < bytes; at += n) {
        n = MIN(step, bytes - at);
        ret = bdrv_co_pwrite(s->bs->file, offset + at, n, buf, 0);
    }
    qemu_vfree(buf);
    return ret == 0 ? fvd_co_flush_node(s, s->bs->file->bs) : ret;
}

static int check_can_empty(BlockDriverState *bs, const FvdHeader *h, Error **errp)
{
    if (!bs->backing || h->base_img_size == 0) {
        error_setg(errp, "The FVD image has no base image that could be read in its place");
        return -ENOTSUP;
    }
    if (!fvd_header_has_table(h)) {
        error_setg(errp, "The FVD image has no table, and what is in it keeps its place");
        return -ENOTSUP;
    }
    return 0;
}

static int coroutine_fn empty_regions(FvdState *s, const FvdHeader *h, Error **errp)
{
    int ret = fill_region(s, h->bitmap_offset, fvd_header_bitmap_bytes(h), 0);

    if (ret == 0) {
        ret = change_header(s, h, errp);
        if (ret < 0) {
            return ret;
        }
        ret = fill_region(s, h->table_offset, fvd_header_table_bytes(h), 0xff);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not empty the FVD image");
    }
    return ret;
}

/* AM2.  What was begun is not taken back (AM3): bits of what is in the image may be gone already. */
static int coroutine_fn empty(FvdState *s, FvdHeader *h, Error **errp)
{
    int64_t length = bdrv_getlength(s->bs->backing->bs);
    int ret = length < 0 ? length : 0;

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not get the length of the backing file");
        return ret;
    }
    h->base_img_size = MIN(length, h->virtual_disk_size);
    h->base_img_fully_prefetched = 0;
    ret = fvd_header_check(h, errp); /* the bitmap may be too small for a base that has grown */
    if (ret < 0) {
        return ret;
    }
    ret = empty_regions(s, h, errp);
    if (ret < 0) {
        fvd_fail(s);
    }
    return ret;
}

/* The table says durably that nothing is in the data area.  A device keeps its length, and nobody minds. */
static void coroutine_fn cut_off_data(FvdState *s)
{
    const FvdHeader *h = &s->header;
    int64_t end = h->data_offset;
    Error *err = NULL;

    if (s->data == s->bs->file) {
        end = MAX(end, h->bitmap_offset + h->bitmap_size);
        end = MAX(end, h->table_offset + h->table_size);
        end = MAX(end, h->journal_offset + h->journal_size);
    }
    if (bdrv_getlength(s->data->bs) > end) {
        bdrv_co_truncate(s->data, end, true, PREALLOC_MODE_OFF, 0, &err);
        error_free(err);
    }
}

int coroutine_fn fvd_co_make_empty(BlockDriverState *bs, Error **errp)
{
    FvdState *s = bs->opaque;
    g_autofree FvdHeader *h = settled_header(s, errp);
    g_autofree FvdHeader *before = g_memdup2(&s->header, sizeof(s->header));
    int ret = h ? check_can_empty(bs, h, errp) : -EINVAL;

    if (ret == 0) {
        h->autoclear =
            0; /* what they name is in what is cut off; those of the node are stored again */
        fvd_bitmap_dir_free(s->bitmaps);
        s->bitmaps = NULL;
        ret = empty(s, h, errp);
    }
    if (ret == 0) {
        ret = reload(s, before, errp);
    }
    if (ret == 0) {
        cut_off_data(s);
    }
    return ret;
}
