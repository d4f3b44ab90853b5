/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * directory.c - which dirty bitmaps are in an image, where their bits are, and when they are true
 *
 *      bitmaps_offset                                                          bitmaps_offset + bitmaps_size
 *      | head | entry name | entry name | ... |    | bits of one |  | bits of another |     |
 *      <------------- crc, epoch ------------>     ^ data_offset
 *
 * The room: directory.c has the bytes, store.c brings them into the image and from there to the node.
 */
#include "block/drivers/fvd/bitmaps/directory.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/crc32c.h"
#include "util/osdep.h"

#define MAGIC_BYTES 4
static const uint8_t magic[MAGIC_BYTES] = {'Q', 'F', 'V', 'B'};

enum { CRC_AT = 4, EPOCH_AT = 8, DISK_AT = 16, COUNT_AT = 24, BYTES_AT = 28 };
enum { OFFSET_AT = 0, DATA_AT = 8, DATA_CRC_AT = 16, FLAGS_AT = 20, GRANULE_AT = 24, NAME_AT = 26 };
enum { ENABLED = 1, INCONSISTENT = 2, FLAGS_KNOWN = ENABLED | INCONSISTENT };

static void entry_free(gpointer opaque)
{
    FvdBitmapEntry *e = opaque;

    g_free(e->name);
    g_free(e->bits);
    g_free(e);
}

FvdBitmapDir *fvd_bitmap_dir_new(void)
{
    FvdBitmapDir *dir = g_new0(FvdBitmapDir, 1);

    dir->entries = g_ptr_array_new_with_free_func(entry_free);
    return dir;
}

void fvd_bitmap_dir_free(FvdBitmapDir *dir)
{
    if (dir) {
        g_ptr_array_unref(dir->entries);
        g_free(dir);
    }
}

FvdBitmapEntry *fvd_bitmap_dir_add(FvdBitmapDir *dir, const char *name)
{
    FvdBitmapEntry *e = g_new0(FvdBitmapEntry, 1);

    e->name = g_strdup(name);
    g_ptr_array_add(dir->entries, e);
    return e;
}

/* At most 2^62 bytes of disk: nothing overflows. */
int64_t fvd_bitmap_bytes(int64_t disk_size, unsigned granule)
{
    int64_t bits = (disk_size >> granule) + !!(disk_size & ((INT64_C(1) << granule) - 1));

    return DIV_ROUND_UP(bits, 8);
}

static size_t entry_bytes(size_t name_bytes)
{
    return FVD_BITMAP_ENTRY_BYTES + ROUND_UP(name_bytes, 8);
}

static size_t dir_bytes(const FvdBitmapDir *dir)
{
    size_t bytes = FVD_BITMAP_DIR_HEAD_BYTES;

    for (unsigned i = 0; i < dir->entries->len; i++) {
        bytes += entry_bytes(strlen(fvd_bitmap_dir_entry(dir, i)->name));
    }
    return bytes;
}

int64_t fvd_bitmap_dir_place(FvdBitmapDir *dir)
{
    int64_t end = ROUND_UP((int64_t)dir_bytes(dir), FVD_BITMAP_DATA_ALIGN);

    for (unsigned i = 0; i < dir->entries->len; i++) {
        FvdBitmapEntry *e = fvd_bitmap_dir_entry(dir, i);

        e->data_offset = e->data_bytes ? end : 0;
        end += ROUND_UP(e->data_bytes, FVD_BITMAP_DATA_ALIGN);
    }
    return end;
}

static void encode_entry(const FvdBitmapEntry *e, uint8_t *to)
{
    size_t name = strlen(e->name);

    assert(name >= 1 && name <= FVD_BITMAP_NAME_MAX);
    stq_le_p(to + OFFSET_AT, e->data_offset);
    stq_le_p(to + DATA_AT, e->data_bytes);
    stl_le_p(to + DATA_CRC_AT, e->data_crc);
    stl_le_p(to + FLAGS_AT, (e->enabled ? ENABLED : 0) | (e->inconsistent ? INCONSISTENT : 0));
    stw_le_p(to + GRANULE_AT, e->granule);
    stw_le_p(to + NAME_AT, name);
    memcpy(to + FVD_BITMAP_ENTRY_BYTES, e->name, name);
}

uint8_t *fvd_bitmap_dir_encode(const FvdBitmapDir *dir, size_t *ret_bytes)
{
    size_t bytes = dir_bytes(dir), at = FVD_BITMAP_DIR_HEAD_BYTES;
    uint8_t *buf = g_malloc0(bytes);

    assert(dir->entries->len <= FVD_BITMAPS_MAX);
    memcpy(buf, magic, MAGIC_BYTES);
    stq_le_p(buf + EPOCH_AT, dir->epoch);
    stq_le_p(buf + DISK_AT, dir->disk_size);
    stl_le_p(buf + COUNT_AT, dir->entries->len);
    stl_le_p(buf + BYTES_AT, bytes);
    for (unsigned i = 0; i < dir->entries->len; i++) {
        const FvdBitmapEntry *e = fvd_bitmap_dir_entry(dir, i);

        encode_entry(e, buf + at);
        at += entry_bytes(strlen(e->name));
    }
    stl_le_p(buf + CRC_AT, crc32c(0, buf, bytes));
    *ret_bytes = bytes;
    return buf;
}

/* ------------------------------------------------------------------------------------------- decoding */

static bool check_crc(const uint8_t *buf, size_t bytes)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c(0, buf, CRC_AT);

    crc = crc32c(crc, zero, sizeof(zero));
    return crc32c(crc, buf + CRC_AT + 4, bytes - CRC_AT - 4) == ldl_le_p(buf + CRC_AT);
}

/* The head; nothing behind it was looked at. */
static int check_head(const uint8_t *buf, size_t len, Error **errp)
{
    size_t bytes;

    if (len < FVD_BITMAP_DIR_HEAD_BYTES || memcmp(buf, magic, MAGIC_BYTES) != 0) {
        error_setg(errp, "there is no directory of bitmaps at bitmaps_offset");
        return -EINVAL;
    }
    bytes = ldl_le_p(buf + BYTES_AT);
    if (bytes < FVD_BITMAP_DIR_HEAD_BYTES || bytes > MIN(len, FVD_BITMAP_DIR_BYTES_MAX)) {
        error_setg(errp, "the directory of bitmaps has %zu bytes, not %d to %zu", bytes,
                   FVD_BITMAP_DIR_HEAD_BYTES, MIN(len, (size_t)FVD_BITMAP_DIR_BYTES_MAX));
        return -EINVAL;
    }
    if (!check_crc(buf, bytes)) {
        error_setg(errp, "the checksum of the directory of bitmaps is wrong");
        return -EINVAL;
    }
    if (ldl_le_p(buf + COUNT_AT) > FVD_BITMAPS_MAX) {
        error_setg(errp, "the directory has %" PRIu32 " bitmaps, more than %d",
                   (uint32_t)ldl_le_p(buf + COUNT_AT), FVD_BITMAPS_MAX);
        return -EINVAL;
    }
    if (ldq_le_p(buf + DISK_AT) > (uint64_t)INT64_MAX / 2) {
        error_setg(errp, "the disk of the directory of bitmaps has %" PRIu64 " bytes",
                   (uint64_t)ldq_le_p(buf + DISK_AT));
        return -EINVAL;
    }
    return 0;
}

/* Of data: nothing, or all bits, behind @end and inside @area. */
static int check_data(const FvdBitmapEntry *e, int64_t disk_size, int64_t end, int64_t area,
                      Error **errp)
{
    int64_t wanted = fvd_bitmap_bytes(disk_size, e->granule);
    bool right = e->data_bytes == 0
                     ? e->data_offset == 0 && e->data_crc == 0
                     : !e->inconsistent && e->data_bytes == wanted &&
                           e->data_bytes <= FVD_BITMAP_BYTES_MAX && e->data_offset >= end &&
                           e->data_offset <= area && e->data_offset % FVD_BITMAP_DATA_ALIGN == 0 &&
                           e->data_bytes <= area - e->data_offset;

    if (!right) {
        error_setg(errp,
                   "the bits of bitmap '%s', %" PRId64 " bytes at %" PRId64
                   ", are not where they can be",
                   e->name, e->data_bytes, e->data_offset);
    }
    return right ? 0 : -EINVAL;
}

static int decode_name(FvdBitmapDir *dir, GHashTable *names, const uint8_t *from, size_t left,
                       FvdBitmapEntry **ret_entry, Error **errp)
{
    size_t name = left < FVD_BITMAP_ENTRY_BYTES ? 0 : lduw_le_p(from + NAME_AT);
    g_autofree char *text = NULL;

    if (name < 1 || name > FVD_BITMAP_NAME_MAX || entry_bytes(name) > left) {
        error_setg(errp, "an entry of the directory of bitmaps is damaged");
        return -EINVAL;
    }
    text = g_strndup((const char *)from + FVD_BITMAP_ENTRY_BYTES, name);
    if (strlen(text) != name || !g_utf8_validate(text, name, NULL) ||
        g_hash_table_contains(names, text)) {
        error_setg(errp, "a name in the directory of bitmaps is damaged, or there twice");
        return -EINVAL;
    }
    *ret_entry = fvd_bitmap_dir_add(dir, text);
    g_hash_table_add(names, (*ret_entry)->name);
    return 0;
}

static int decode_entry(FvdBitmapEntry *e, const uint8_t *from, Error **errp)
{
    uint32_t flags = ldl_le_p(from + FLAGS_AT);

    e->data_offset = ldq_le_p(from + OFFSET_AT);
    e->data_bytes = ldq_le_p(from + DATA_AT);
    e->data_crc = ldl_le_p(from + DATA_CRC_AT);
    e->enabled = flags & ENABLED;
    e->inconsistent = flags & INCONSISTENT;
    e->granule = lduw_le_p(from + GRANULE_AT);
    if (flags & ~FLAGS_KNOWN || e->granule < FVD_BITMAP_GRANULE_MIN ||
        e->granule > FVD_BITMAP_GRANULE_MAX) {
        error_setg(errp,
                   "bitmap '%s' has flags 0x%" PRIx32
                   " and a granularity of 2^%u bytes: they are not known",
                   e->name, flags, e->granule);
        return -EINVAL;
    }
    return 0;
}

FvdBitmapDir *fvd_bitmap_dir_decode(const uint8_t *buf, size_t len, int64_t area_bytes,
                                    Error **errp)
{
    g_autoptr(FvdBitmapDir) dir = fvd_bitmap_dir_new();
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    size_t at = FVD_BITMAP_DIR_HEAD_BYTES, bytes;
    int64_t end;

    if (check_head(buf, len, errp) < 0) {
        return NULL;
    }
    bytes = ldl_le_p(buf + BYTES_AT);
    dir->epoch = ldq_le_p(buf + EPOCH_AT);
    dir->disk_size = ldq_le_p(buf + DISK_AT);
    end = bytes;
    for (uint32_t i = 0; i < (uint32_t)ldl_le_p(buf + COUNT_AT); i++) {
        FvdBitmapEntry *e;

        if (decode_name(dir, names, buf + at, bytes - at, &e, errp) < 0 ||
            decode_entry(e, buf + at, errp) < 0 ||
            check_data(e, dir->disk_size, end, area_bytes, errp) < 0) {
            return NULL;
        }
        end = MAX(end, e->data_offset + e->data_bytes);
        at += entry_bytes(strlen(e->name));
    }
    if (at != bytes) {
        error_setg(errp, "the directory of bitmaps has bytes behind its last entry");
        return NULL;
    }
    return g_steal_pointer(&dir);
}
