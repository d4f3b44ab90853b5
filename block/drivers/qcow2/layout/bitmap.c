/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bitmap directory entries: from bytes, and back. */
#include <inttypes.h>
#include "block/drivers/qcow2/layout/bitmap.h"
#include "block/drivers/qcow2/layout/entry.h"

enum {
    AT_TABLE_OFFSET = 0,
    AT_TABLE_ENTRIES = 8,
    AT_FLAGS = 12,
    AT_TYPE = 16,
    AT_GRANULARITY = 17,
    AT_NAME_BYTES = 18,
    AT_EXTRA_BYTES = 20,
};

static const char *wrong_with(const Qcow2Geometry *g, const Qcow2BitmapEntry *b,
                              uint16_t name_bytes)
{
    if (!qcow2_is_cluster_aligned(g, b->table_offset) || !b->table_offset ||
        b->table_offset >= (uint64_t)QCOW2_HOST_END) {
        return "its table is at an invalid offset";
    }
    if ((uint64_t)b->table_entries << g->cluster_bits > (uint64_t)QCOW2_BITMAP_BYTES_MAX ||
        !b->table_entries) {
        return "its table has an invalid size";
    }
    if (b->flags & ~(uint32_t)QCOW2_BITMAP_FLAGS_KNOWN) {
        return "reserved flags are set";
    }
    if (b->type != QCOW2_BITMAP_DIRTY_TRACKING) {
        return "its type is not known";
    }
    if (b->granularity_bits < QCOW2_BITMAP_GRANULARITY_BITS_MIN ||
        b->granularity_bits > QCOW2_BITMAP_GRANULARITY_BITS_MAX) {
        return "its granularity is not supported";
    }
    return name_bytes == 0 || name_bytes > QCOW2_BITMAP_NAME_MAX ? "its name's length is invalid"
                                                                 : NULL;
}

size_t qcow2_bitmap_decode(const Qcow2Geometry *g, const uint8_t *buf, size_t len,
                           Qcow2BitmapEntry *ret, Error **errp)
{
    Qcow2BitmapEntry b = {0};
    uint16_t name_bytes;
    const char *wrong;
    uint64_t end;

    if (len < QCOW2_BITMAP_HEAD_BYTES) {
        error_setg(errp, "The bitmap directory ends within an entry");
        return 0;
    }
    b.table_offset = ldq_be_p(buf + AT_TABLE_OFFSET);
    b.table_entries = ldl_be_p(buf + AT_TABLE_ENTRIES);
    b.flags = ldl_be_p(buf + AT_FLAGS);
    b.type = buf[AT_TYPE];
    b.granularity_bits = buf[AT_GRANULARITY];
    b.extra_bytes = ldl_be_p(buf + AT_EXTRA_BYTES);
    name_bytes = lduw_be_p(buf + AT_NAME_BYTES);
    end = QCOW2_BITMAP_HEAD_BYTES + (uint64_t)b.extra_bytes + name_bytes;
    if (ROUND_UP(end, 8) > len) {
        error_setg(errp, "The bitmap directory ends within an entry");
        return 0;
    }
    wrong = wrong_with(g, &b, name_bytes);
    if (wrong) {
        error_setg(errp, "An entry of the bitmap directory is invalid: %s", wrong);
        return 0;
    }
    b.extra = g_memdup2(buf + QCOW2_BITMAP_HEAD_BYTES, b.extra_bytes);
    b.name = g_strndup((const char *)buf + end - name_bytes, name_bytes);
    *ret = b;
    return ROUND_UP(end, 8);
}

void qcow2_bitmap_clear(Qcow2BitmapEntry *b)
{
    g_free(b->extra);
    g_free(b->name);
    *b = (Qcow2BitmapEntry){0};
}

size_t qcow2_bitmap_bytes(const Qcow2BitmapEntry *b)
{
    return ROUND_UP(QCOW2_BITMAP_HEAD_BYTES + (size_t)b->extra_bytes + strlen(b->name), 8);
}

void qcow2_bitmap_encode(const Qcow2BitmapEntry *b, uint8_t *buf)
{
    size_t name_bytes = strlen(b->name);

    assert(name_bytes > 0 && name_bytes <= QCOW2_BITMAP_NAME_MAX);
    memset(buf, 0, qcow2_bitmap_bytes(b));
    stq_be_p(buf + AT_TABLE_OFFSET, b->table_offset);
    stl_be_p(buf + AT_TABLE_ENTRIES, b->table_entries);
    stl_be_p(buf + AT_FLAGS, b->flags);
    buf[AT_TYPE] = b->type;
    buf[AT_GRANULARITY] = b->granularity_bits;
    stw_be_p(buf + AT_NAME_BYTES, (uint16_t)name_bytes);
    stl_be_p(buf + AT_EXTRA_BYTES, b->extra_bytes);
    if (b->extra_bytes) {
        memcpy(buf + QCOW2_BITMAP_HEAD_BYTES, b->extra, b->extra_bytes);
    }
    memcpy(buf + QCOW2_BITMAP_HEAD_BYTES + b->extra_bytes, b->name, name_bytes);
}

uint64_t qcow2_bitmap_table_entries(const Qcow2Geometry *g, uint64_t disk_bytes,
                                    unsigned granularity_bits)
{
    uint64_t granularity = UINT64_C(1) << granularity_bits;
    uint64_t bits = disk_bytes / granularity + (disk_bytes % granularity != 0);
    uint64_t bytes = bits / 8 + (bits % 8 != 0);

    return bytes > (uint64_t)QCOW2_BITMAP_BYTES_MAX
               ? UINT64_MAX
               : (bytes + qcow2_cluster_size(g) - 1) >> g->cluster_bits;
}

Qcow2BitmapCluster qcow2_bitmap_table_entry(const Qcow2Geometry *g, uint64_t word,
                                            int64_t *ret_offset)
{
    uint64_t offset = word & QCOW2_HOST_OFFSET_MASK;

    if (word & ~(QCOW2_HOST_OFFSET_MASK | 1) || (offset && (word & 1)) ||
        !qcow2_is_cluster_aligned(g, offset)) {
        return QCOW2_BITMAP_INVALID;
    }
    if (offset) {
        *ret_offset = (int64_t)offset;
        return QCOW2_BITMAP_STORED;
    }
    return word & 1 ? QCOW2_BITMAP_ALL_ONES : QCOW2_BITMAP_ALL_ZEROS;
}
