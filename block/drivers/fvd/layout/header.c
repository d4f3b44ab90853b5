/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * header.c - the header of an FVD image: bytes, fields, and what they must be
 *
 *                    decode: load, then check
 *     8 KiB of bytes -------------------------> FvdHeader ----> helpers: how many chunks, blocks, ...
 *                    <-------------------------
 *                    encode: check, then store, then the checksums
 *
 * The room, a file a part of the format:
 *
 *     header.c       the header: decoding, its limits, encoding
 *     jrecord.c      sectors of the journal, and the records in them
 *     replay.c       what the journal makes of table and bitmap after a crash
 *     plan.c         where the regions of a new image are
 *     check.c        all that is wrong with table, bitmap and journal
 *     map.c          table and bitmap in memory: lookup, taking chunks, pages of a checkpoint
 *     journal-buf.c  the journal's writer: buffers, commits, halves and their checkpoints
 *     meson.build
 *
 *   HD1  Nobody gets an FvdHeader out of bytes that was not checked, and none that would not pass is
 *        encoded.  So whoever has one may multiply and add what is in it as the helpers do.
 *   HD2  A number is compared before it is calculated with.  Sizes and positions are signed 63-bit ones
 *        here, and one with the top bit is refused by the same comparison as any that is too large.
 *   HD3  Where every field is, is said once: by the table below.  Loading and storing walk over it.
 *   HD4  What is not ours to know (reserved bytes, unknown bits) is encoded as it was decoded.
 */
#include "block/drivers/fvd/layout/header.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/crc32c.h"

#define VERSION_AT      4
#define RESERVED_AT     3316
#define EXT_MAGIC_AT    RESERVED_AT
#define GEOMETRY_CRC_AT 3348
#define STATE_CRC_AT    3352
#define STATE_AT        (FVD_SECTOR_STATE * FVD_SECTOR_BYTES)

#define MAGIC_BYTES 4
static const uint8_t magic[MAGIC_BYTES] = {'F', 'V', 'D', 0};
static const uint8_t ext_magic[MAGIC_BYTES] = {'Q', 'F', 'V', 'X'};
/* The layout of January 2011, another one: 0x5143F5A9. */
static const uint8_t january_magic[MAGIC_BYTES] = {0xa9, 0xf5, 0x43, 0x51};

typedef enum FieldKind { NUMBER32, NUMBER64, TEXT } FieldKind;

typedef struct Field {
    const char *name;
    FieldKind kind;
    unsigned at;     /* in the file */
    unsigned bytes;  /* there and in memory */
    unsigned member; /* in FvdHeader */
} Field;

#define FIELD(kind, at, name)                                                      \
    {                                                                              \
#name, kind, at, sizeof(((FvdHeader *)0)->name), offsetof(FvdHeader, name) \
    }

static const Field fields[] = {
    FIELD(NUMBER32, VERSION_AT, version),
    FIELD(NUMBER64, 8, virtual_disk_size),
    FIELD(NUMBER64, 16, data_offset),
    FIELD(TEXT, 24, data_file),
    FIELD(TEXT, 1048, data_file_fmt),
    FIELD(TEXT, 1064, base_img),
    FIELD(TEXT, 2088, base_img_fmt),
    FIELD(NUMBER64, 2104, base_img_size),
    FIELD(NUMBER64, 2112, bitmap_offset),
    FIELD(NUMBER64, 2120, bitmap_size),
    FIELD(NUMBER64, 2128, block_size),
    FIELD(NUMBER64, 2136, table_offset),
    FIELD(NUMBER64, 2144, table_size),
    FIELD(NUMBER64, 2152, chunk_size),
    FIELD(NUMBER64, 2160, storage_grow_unit),
    FIELD(TEXT, 2168, add_storage_cmd),
    FIELD(NUMBER64, 3192, journal_offset),
    FIELD(NUMBER64, 3200, journal_size),
    FIELD(NUMBER64, 3208, stable_journal_epoch),
    FIELD(NUMBER32, 3216, clean_shutdown),
    FIELD(NUMBER32, 3220, copy_on_read),
    FIELD(NUMBER64, 3224, max_outstanding_copy_on_read_data),
    FIELD(NUMBER64, 3232, prefetch_start_delay),
    FIELD(NUMBER32, 3240, base_img_fully_prefetched),
    FIELD(NUMBER32, 3244, num_prefetch_slots),
    FIELD(NUMBER64, 3248, bytes_per_prefetch),
    FIELD(NUMBER64, 3256, prefetch_min_read_throughput),
    FIELD(NUMBER64, 3264, prefetch_max_read_throughput),
    FIELD(NUMBER64, 3272, prefetch_min_write_throughput),
    FIELD(NUMBER64, 3280, prefetch_max_write_throughput),
    FIELD(NUMBER64, 3288, prefetch_throttle_time),
    FIELD(NUMBER64, 3296, prefetch_read_throughput_measure_time),
    FIELD(NUMBER64, 3304, prefetch_write_throughput_measure_time),
    FIELD(NUMBER32, 3312, need_zero_init),
};

/* There only behind an ext_magic. */
static const Field ext_fields[] = {
    FIELD(NUMBER32, 3320, ext_size),
    FIELD(NUMBER64, 3324, incompatible),
    FIELD(NUMBER64, 3332, compatible),
    FIELD(NUMBER64, 3340, autoclear),
    FIELD(NUMBER32, GEOMETRY_CRC_AT, geometry_crc),
    FIELD(NUMBER32, STATE_CRC_AT, state_crc),
    FIELD(NUMBER64, 3356, bitmaps_offset),
    FIELD(NUMBER64, 3364, bitmaps_size),
};
QEMU_BUILD_BUG_ON(RESERVED_AT + FVD_RESERVED_BYTES != FVD_HEADER_BYTES);

/* Bytes to fields */

static void load(const Field *field, const uint8_t *buf, FvdHeader *h)
{
    const uint8_t *from = buf + field->at;
    void *to = (uint8_t *)h + field->member;

    switch (field->kind) {
    case NUMBER32:
        *(uint32_t *)to = ldl_le_p(from);
        break;
    case NUMBER64:
        *(uint64_t *)to = ldq_le_p(from);
        break;
    case TEXT:
        memcpy(to, from, strnlen((const char *)from, field->bytes)); /* the rest stays zero */
        break;
    }
}

static uint32_t geometry_crc(const uint8_t *buf)
{
    const uint8_t *behind = buf + STATE_AT + FVD_SECTOR_BYTES;

    return crc32c(crc32c(0, buf, STATE_AT), behind, (size_t)(buf + FVD_HEADER_BYTES - behind));
}

static uint32_t state_crc(const uint8_t *buf)
{
    uint8_t sector[FVD_SECTOR_BYTES];

    memcpy(sector, buf + STATE_AT, sizeof(sector));
    stl_le_p(sector + (STATE_CRC_AT - STATE_AT), 0);
    return crc32c(0, sector, sizeof(sector));
}

/* @h is zero at entry. */
static void load_all(const uint8_t *buf, FvdHeader *h)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        load(&fields[i], buf, h);
    }
    memcpy(h->reserved, buf + RESERVED_AT, FVD_RESERVED_BYTES);
    h->has_ext = memcmp(buf + EXT_MAGIC_AT, ext_magic, MAGIC_BYTES) == 0;
    if (h->has_ext) {
        for (unsigned i = 0; i < ARRAY_SIZE(ext_fields); i++) {
            load(&ext_fields[i], buf, h);
        }
        memset(h->reserved, 0, FVD_EXT_BYTES);
        h->geometry_crc_wrong = h->geometry_crc != geometry_crc(buf);
        h->state_crc_wrong = h->state_crc != state_crc(buf);
    }
}

int fvd_header_probe(const uint8_t *buf, size_t len)
{
    return len >= MAGIC_BYTES && memcmp(buf, magic, MAGIC_BYTES) == 0 ? 100 : 0;
}

static int check_magic(const uint8_t *buf, size_t len, Error **errp)
{
    if (len >= MAGIC_BYTES && memcmp(buf, january_magic, MAGIC_BYTES) == 0) {
        error_setg(errp, "magic is that of the FVD layout of January 2011, which is not supported");
        return -ENOTSUP;
    }
    if (!fvd_header_probe(buf, len)) {
        error_setg(errp, "magic is not that of an FVD image");
        return -EINVAL;
    }
    if (len < FVD_HEADER_BYTES) {
        error_setg(errp, "The file ends after %zu of the header's %d bytes", len, FVD_HEADER_BYTES);
        return -EINVAL;
    }
    return 0;
}

int fvd_header_decode(const uint8_t *buf, size_t len, FvdHeader *ret_header, Error **errp)
{
    g_autofree FvdHeader *h = NULL;
    int ret = check_magic(buf, len, errp);

    if (ret < 0) {
        return ret;
    }
    h = g_new0(FvdHeader, 1);
    load_all(buf, h);
    ret = fvd_header_check(h, errp); /* HD1 */
    if (ret == 0) {
        *ret_header = *h;
    }
    return ret;
}

/* What fields must be */

static int check_version(const FvdHeader *h, Error **errp)
{
    uint64_t unknown = h->incompatible & ~FVD_INCOMPATIBLE_KNOWN;

    if (h->version != 1 && h->version != 2) {
        error_setg(errp, "version is %" PRIu32 ", and only 1 and 2 are supported", h->version);
        return -ENOTSUP;
    }
    /* No bits with version 2 is what a crash leaves between the two writes that turn a feature on. */
    if (h->version == 2 && !h->has_ext) {
        error_setg(errp, "version is 2, but there is no ext_magic with features behind it");
        return -EINVAL;
    }
    if (h->version == 1 && h->incompatible) {
        error_setg(errp, "incompatible is 0x%" PRIx64 ", but version is 1 and not 2",
                   h->incompatible);
        return -EINVAL;
    }
    if (unknown) {
        g_autoptr(GString) bits = g_string_new(NULL);

        for (unsigned bit = 0; bit < 64; bit++) {
            if (unknown >> bit & 1) {
                g_string_append_printf(bits, "%s%u", bits->len ? ", " : "", bit);
            }
        }
        error_setg(errp, "incompatible has features that are not supported: bit %s", bits->str);
        return -ENOTSUP;
    }
    return 0;
}

static int check_extension(const FvdHeader *h, Error **errp)
{
    if (h->has_ext && (h->ext_size < FVD_EXT_BYTES || h->ext_size > FVD_RESERVED_BYTES)) {
        error_setg(errp, "ext_size is %" PRIu32 ", not from %d to %d", h->ext_size, FVD_EXT_BYTES,
                   FVD_RESERVED_BYTES);
        return -EINVAL;
    }
    if (!h->has_ext && (h->compatible || h->autoclear)) {
        error_setg(errp,
                   "compatible is 0x%" PRIx64 " and autoclear 0x%" PRIx64
                   ", but there is no ext_magic",
                   h->compatible, h->autoclear);
        return -EINVAL;
    }
    return 0;
}

static int check_names(const FvdHeader *h, Error **errp)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        const Field *field = &fields[i];

        if (field->kind == TEXT && !memchr((const uint8_t *)h + field->member, 0, field->bytes)) {
            error_setg(errp, "%s is not terminated within its %u bytes", field->name, field->bytes);
            return -EINVAL;
        }
    }
    return 0;
}

/* HD2: whether 0 <= @value <= @max. */
static int check_at_most(const char *name, int64_t value, int64_t max, Error **errp)
{
    if ((uint64_t)value > (uint64_t)max) {
        error_setg(errp, "%s is %" PRIu64 ", more than %" PRId64, name, (uint64_t)value, max);
        return -EINVAL;
    }
    return 0;
}

static int check_multiple(const char *name, int64_t value, int64_t of, Error **errp)
{
    if (value % of) {
        error_setg(errp, "%s is %" PRId64 ", not a multiple of %" PRId64, name, value, of);
        return -EINVAL;
    }
    return 0;
}

static int check_disk(const FvdHeader *h, Error **errp)
{
    int ret = check_at_most("virtual_disk_size", h->virtual_disk_size, FVD_DISK_BYTES_MAX, errp);

    if (ret == 0) {
        ret = check_multiple("virtual_disk_size", h->virtual_disk_size, FVD_SECTOR_BYTES, errp);
    }
    if (ret == 0 && (uint64_t)h->base_img_size > (uint64_t)h->virtual_disk_size) {
        error_setg(errp,
                   "base_img_size is %" PRIu64 ", more than the virtual_disk_size of %" PRId64,
                   (uint64_t)h->base_img_size, h->virtual_disk_size);
        ret = -EINVAL;
    }
    if (ret == 0 && h->stable_journal_epoch > FVD_EPOCH_MAX) {
        error_setg(errp, "stable_journal_epoch is %" PRIu64 ", more than %" PRIu64,
                   h->stable_journal_epoch, FVD_EPOCH_MAX);
        ret = -EINVAL;
    }
    return ret;
}

static int check_unit(const char *name, int64_t value, Error **errp)
{
    int ret = check_at_most(name, value, FVD_UNIT_BYTES_MAX, errp);

    if (ret == 0 && value < FVD_UNIT_BYTES_MIN) {
        error_setg(errp, "%s is %" PRId64 ", less than %d", name, value, FVD_UNIT_BYTES_MIN);
        ret = -EINVAL;
    }
    return ret == 0 ? check_multiple(name, value, FVD_SECTOR_BYTES, errp) : ret;
}

/* @used bytes of a region are in use, for @count of @what; @size was not looked at yet. */
static int check_used(const char *name, int64_t size, int64_t used, int64_t max, int64_t count,
                      const char *what, Error **errp)
{
    if (used > max) {
        error_setg(errp, "%s: %" PRId64 " %s take %" PRId64 " bytes, more than %" PRId64, name,
                   count, what, used, max);
        return -EINVAL;
    }
    if (size >= 0 && size < used) { /* a negative one is too large: check_regions() */
        error_setg(errp,
                   "%s is %" PRId64 ", less than the %" PRId64 " bytes that %" PRId64 " %s take",
                   name, size, used, count, what);
        return -EINVAL;
    }
    return 0;
}

static int check_table(const FvdHeader *h, Error **errp)
{
    int ret;

    if (!fvd_header_has_table(h)) {
        return 0;
    }
    ret = check_unit("chunk_size", h->chunk_size, errp);
    if (ret == 0) {
        ret = check_used("table_size", h->table_size, fvd_header_table_bytes(h), FVD_TABLE_USED_MAX,
                         fvd_header_chunks(h), "chunks", errp);
    }
    return ret;
}

static int check_bitmap(const FvdHeader *h, Error **errp)
{
    int ret;

    if (!fvd_header_has_bitmap(h)) {
        if (h->base_img_size > 0 && !h->base_img_fully_prefetched) {
            error_setg(errp,
                       "bitmap_offset is 0, but base_img_size is %" PRId64
                       ": nothing says what is in the base image",
                       h->base_img_size);
            return -EINVAL;
        }
        return 0;
    }
    ret = check_unit("block_size", h->block_size, errp);
    if (ret == 0) {
        ret = check_used("bitmap_size", h->bitmap_size, fvd_header_bitmap_bytes(h),
                         FVD_BITMAP_USED_MAX, fvd_header_blocks(h), "blocks", errp);
    }
    return ret;
}

static int check_journal(const FvdHeader *h, Error **errp)
{
    int ret;

    if (!fvd_header_has_journal(h)) {
        return 0;
    }
    ret = check_at_most("journal_size", h->journal_size, FVD_JOURNAL_BYTES_MAX, errp);
    if (ret == 0 && h->journal_size < FVD_JOURNAL_BYTES_MIN) {
        error_setg(errp, "journal_size is %" PRId64 ", less than %" PRId64, h->journal_size,
                   FVD_JOURNAL_BYTES_MIN);
        ret = -EINVAL;
    }
    return ret;
}

/* Where regions are */

typedef struct Region {
    const char *what, *offset_name, *size_name; /* no size_name: it has no field, and is right */
    int64_t offset, size;
    bool in_image; /* else in the data file */
    bool is_data, is_directory;
} Region;

/* Header, data, bitmap, table, journal, directory of dirty bitmaps. */
#define REGIONS_MAX 6

/* Those that are there. */
static unsigned list_regions(const FvdHeader *h, Region *regions)
{
    bool data_here = h->data_file[0] == 0;
    unsigned n = 0;

    regions[n++] = (Region){"header", NULL, NULL, 0, FVD_HEADER_REGION, .in_image = true};
    regions[n++] =
        (Region){"data area",          "data_offset",         NULL,           h->data_offset,
                 h->virtual_disk_size, .in_image = data_here, .is_data = true};
    if (fvd_header_has_table(h)) {
        regions[n - 1].size = fvd_header_chunks(h) * h->chunk_size;
        regions[n++] = (Region){"table",         "table_offset", "table_size",
                                h->table_offset, h->table_size,  .in_image = true};
    }
    if (fvd_header_has_bitmap(h)) {
        regions[n++] = (Region){"bitmap",         "bitmap_offset", "bitmap_size",
                                h->bitmap_offset, h->bitmap_size,  .in_image = true};
    }
    if (fvd_header_has_journal(h)) {
        regions[n++] = (Region){"journal",         "journal_offset", "journal_size",
                                h->journal_offset, h->journal_size,  .in_image = true};
    }
    if (h->autoclear & FVD_AUTOCLEAR_BITMAPS) {
        regions[n++] = (Region){"bitmaps directory", "bitmaps_offset", "bitmaps_size",
                                h->bitmaps_offset,   h->bitmaps_size,  .in_image = data_here,
                                .is_directory = true};
    }
    return n;
}

static int check_place(const Region *r, int64_t align, Error **errp)
{
    int ret;

    if (!r->offset_name) {
        return 0;
    }
    ret = check_at_most(r->offset_name, r->offset, INT64_MAX, errp);
    if (ret == 0) {
        ret = check_multiple(r->offset_name, r->offset, align, errp);
    }
    if (ret == 0 && r->size_name) {
        ret = check_at_most(r->size_name, r->size, INT64_MAX, errp);
        if (ret == 0) {
            ret = check_multiple(r->size_name, r->size, align, errp);
        }
    }
    if (ret == 0 && r->size > INT64_MAX - r->offset) {
        error_setg(errp,
                   "%s is %" PRId64 ", and with the %s's %" PRId64 " bytes more than %" PRId64,
                   r->offset_name, r->offset, r->what, r->size, INT64_MAX);
        ret = -EINVAL;
    }
    return ret;
}

static bool overlap(const Region *a, const Region *b)
{
    /* The directory is where no chunk is yet; the table says where those are. */
    if (a->in_image != b->in_image || (a->is_data && b->is_directory)) {
        return false;
    }
    return a->size > 0 && b->size > 0 && a->offset < b->offset + b->size &&
           b->offset < a->offset + a->size;
}

static int check_regions(const FvdHeader *h, Error **errp)
{
    int64_t align = h->has_ext ? FVD_REGION_ALIGN : FVD_REGION_ALIGN_OLD;
    Region regions[REGIONS_MAX];
    unsigned n = list_regions(h, regions);

    for (unsigned i = 0; i < n; i++) {
        int ret = check_place(&regions[i], align, errp);

        if (ret < 0) {
            return ret;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = i + 1; j < n; j++) {
            const Region *a = &regions[i];
            const Region *b = &regions[j];

            if (overlap(a, b)) {
                error_setg(errp,
                           "%s is %" PRId64 ": the %s's %" PRId64 " bytes overlap the %s's %" PRId64
                           " bytes at %" PRId64,
                           b->offset_name, b->offset, b->what, b->size, a->what, a->size,
                           a->offset);
                return -EINVAL;
            }
        }
    }
    return 0;
}

int fvd_header_check(const FvdHeader *h, Error **errp)
{
    static int (*const checks[])(const FvdHeader *h, Error **errp) = {
        check_version, check_extension, check_names,   check_disk,
        check_table,   check_bitmap,    check_journal, check_regions,
    };
    int ret = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(checks) && ret == 0; i++) {
        ret = checks[i](h, errp);
    }
    return ret;
}

int fvd_header_check_file(const FvdHeader *h, int64_t file_bytes, Error **errp)
{
    Region regions[REGIONS_MAX];
    unsigned n = list_regions(h, regions);

    for (unsigned i = 0; i < n; i++) {
        const Region *r = &regions[i];

        if (r->offset_name && r->in_image && !r->is_data && r->offset + r->size > file_bytes) {
            error_setg(errp,
                       "%s is %" PRId64 ": the %s's %" PRId64
                       " bytes reach beyond the file's %" PRId64,
                       r->offset_name, r->offset, r->what, r->size, file_bytes);
            return -EINVAL;
        }
    }
    return 0;
}

/* Fields to bytes */

static void store(const Field *field, const FvdHeader *h, uint8_t *buf)
{
    const void *from = (const uint8_t *)h + field->member;
    uint8_t *to = buf + field->at;

    switch (field->kind) {
    case NUMBER32:
        stl_le_p(to, *(const uint32_t *)from);
        break;
    case NUMBER64:
        stq_le_p(to, *(const uint64_t *)from);
        break;
    case TEXT:
        memcpy(to, from, strnlen(from, field->bytes)); /* the rest is zero already */
        break;
    }
}

void fvd_header_encode(const FvdHeader *h, uint8_t *ret_buf)
{
    assert(fvd_header_check(h, NULL) == 0); /* HD1 */
    assert(h->has_ext || memcmp(h->reserved, ext_magic, MAGIC_BYTES) != 0);
    memset(ret_buf, 0, FVD_HEADER_REGION);
    memcpy(ret_buf, magic, MAGIC_BYTES);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        store(&fields[i], h, ret_buf);
    }
    memcpy(ret_buf + RESERVED_AT, h->reserved, FVD_RESERVED_BYTES); /* HD4 */
    if (!h->has_ext) {
        return;
    }
    memcpy(ret_buf + EXT_MAGIC_AT, ext_magic, MAGIC_BYTES);
    for (unsigned i = 0; i < ARRAY_SIZE(ext_fields); i++) {
        store(&ext_fields[i], h, ret_buf);
    }
    stl_le_p(ret_buf + GEOMETRY_CRC_AT, geometry_crc(ret_buf));
    stl_le_p(ret_buf + STATE_CRC_AT,
             state_crc(ret_buf)); /* the last: it is of a sector with the other */
}

void fvd_header_encode_sector(const FvdHeader *h, unsigned sector, uint8_t *ret_buf)
{
    g_autofree uint8_t *all = g_malloc(FVD_HEADER_REGION);

    assert(sector < FVD_HEADER_REGION / FVD_SECTOR_BYTES);
    fvd_header_encode(h, all);
    memcpy(ret_buf, all + sector * FVD_SECTOR_BYTES, FVD_SECTOR_BYTES);
}

void fvd_header_init(FvdHeader *h)
{
    *h = (FvdHeader){
        .version = 1,
        .block_size = FVD_BLOCK_SIZE_DEFAULT,
        .chunk_size = FVD_CHUNK_SIZE_DEFAULT,
        .storage_grow_unit = FVD_STORAGE_GROW_UNIT_DEFAULT,
        .journal_size = FVD_JOURNAL_SIZE_DEFAULT,
        .clean_shutdown = 1,
        .max_outstanding_copy_on_read_data = FVD_COPY_ON_READ_MAX_DEFAULT,
        .prefetch_start_delay = FVD_PREFETCH_DELAY_DEFAULT,
        .num_prefetch_slots = FVD_PREFETCH_SLOTS_DEFAULT,
        .bytes_per_prefetch = FVD_BYTES_PER_PREFETCH_DEFAULT,
        .prefetch_min_read_throughput = FVD_PREFETCH_MIN_DEFAULT,
        .prefetch_max_read_throughput = FVD_PREFETCH_MAX_DEFAULT,
        .prefetch_min_write_throughput = FVD_PREFETCH_MIN_DEFAULT,
        .prefetch_max_write_throughput = FVD_PREFETCH_MAX_DEFAULT,
        .prefetch_throttle_time = FVD_PREFETCH_THROTTLE_DEFAULT,
        .prefetch_read_throughput_measure_time = FVD_PREFETCH_MEASURE_DEFAULT,
        .prefetch_write_throughput_measure_time = FVD_PREFETCH_MEASURE_DEFAULT,
        .has_ext = true,
        .ext_size = FVD_EXT_BYTES,
        .compatible = FVD_COMPATIBLE_TRAILERS,
    };
}

/* Helpers.  Dividing up without adding first (HD2): the checks use them too. */

static int64_t divide_up(int64_t n, int64_t by)
{
    return n == 0 ? 0 : (n - 1) / by + 1;
}

int64_t fvd_header_chunks(const FvdHeader *h)
{
    return fvd_header_has_table(h) ? divide_up(h->virtual_disk_size, h->chunk_size) : 0;
}

int64_t fvd_header_blocks(const FvdHeader *h)
{
    return fvd_header_has_bitmap(h) ? divide_up(h->base_img_size, h->block_size) : 0;
}

int64_t fvd_header_table_bytes(const FvdHeader *h)
{
    return fvd_header_chunks(h) *
           FVD_TABLE_ENTRY_BYTES; /* at most 2^62 / 512 * 4, before it is checked */
}

int64_t fvd_header_bitmap_bytes(const FvdHeader *h)
{
    return divide_up(fvd_header_blocks(h), 8);
}

int64_t fvd_header_data_chunks(const FvdHeader *h)
{
    Region regions[REGIONS_MAX];
    unsigned n = list_regions(h, regions);
    int64_t end = INT64_MAX;

    if (!fvd_header_has_table(h)) {
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        const Region *r = &regions[i];

        if (r->in_image && h->data_file[0] == 0 && !r->is_data && !r->is_directory && r->size > 0 &&
            r->offset + r->size > h->data_offset) {
            end =
                MIN(end, MAX(r->offset, h->data_offset)); /* across: only where the disk is empty */
        }
    }
    return MIN((end - h->data_offset) / h->chunk_size, FVD_CHUNKS_MAX);
}
