/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FVD's header: where every field is, what is refused with which words, and that nothing gets lost. */
#include "block/drivers/fvd/layout/header.h"
#include <errno.h>
#include "tests/unit/fvd/header-holds.h"
#include "tests/unit/util/seed.h"
#include "util/crc32c.h"

/* The format's table: offset, bytes, field; then a value that is valid beside the others. */
typedef struct Row {
    unsigned at, bytes;
    const char *name;
    unsigned member;
    uint64_t number;
    const char *text; /* a name */
} Row;

#define NUMBER(at, bytes, name, value)                           \
    {                                                            \
        at, bytes, #name, offsetof(FvdHeader, name), value, NULL \
    }
#define TEXT(at, bytes, name, value)                          \
    {                                                         \
        at, bytes, #name, offsetof(FvdHeader, name), 0, value \
    }

static const Row rows[] = {
    NUMBER(4, 4, version, 2),
    NUMBER(8, 8, virtual_disk_size, 0x280000200),
    NUMBER(16, 8, data_offset, 0x4000000),
    TEXT(24, 1024, data_file, "/images/data"),
    TEXT(1048, 16, data_file_fmt, "raw"),
    TEXT(1064, 1024, base_img, "/images/base"),
    TEXT(2088, 16, base_img_fmt, "fifteen letters"),
    NUMBER(2104, 8, base_img_size, 0x123456789),
    NUMBER(2112, 8, bitmap_offset, 0x4000),
    NUMBER(2120, 8, bitmap_size, 0x3000),
    NUMBER(2128, 8, block_size, 0x20000),
    NUMBER(2136, 8, table_offset, 0x10000),
    NUMBER(2144, 8, table_size, 0x21000),
    NUMBER(2152, 8, chunk_size, 0x200000),
    NUMBER(2160, 8, storage_grow_unit, 0xa1a2a3a4a5a6a7a8),
    TEXT(2168, 1024, add_storage_cmd, "lvextend -L +1G"),
    NUMBER(3192, 8, journal_offset, 0x100000),
    NUMBER(3200, 8, journal_size, 0x41000),
    NUMBER(3208, 8, stable_journal_epoch, 0x1112131415161718),
    NUMBER(3216, 4, clean_shutdown, 0xa1222324),
    NUMBER(3220, 4, copy_on_read, 0xa1323334),
    NUMBER(3224, 8, max_outstanding_copy_on_read_data, 0xa142434445464748),
    NUMBER(3232, 8, prefetch_start_delay, 0xffffffffffffff12),
    NUMBER(3240, 4, base_img_fully_prefetched, 0xa1525354),
    NUMBER(3244, 4, num_prefetch_slots, 0xa1626364),
    NUMBER(3248, 8, bytes_per_prefetch, 0xa172737475767778),
    NUMBER(3256, 8, prefetch_min_read_throughput, 0xa182838485868788),
    NUMBER(3264, 8, prefetch_max_read_throughput, 0xa192939495969798),
    NUMBER(3272, 8, prefetch_min_write_throughput, 0xb1a2a3a4a5a6a7a8),
    NUMBER(3280, 8, prefetch_max_write_throughput, 0xb1b2b3b4b5b6b7b8),
    NUMBER(3288, 8, prefetch_throttle_time, 0xb1c2c3c4c5c6c7c8),
    NUMBER(3296, 8, prefetch_read_throughput_measure_time, 0xb1d2d3d4d5d6d7d8),
    NUMBER(3304, 8, prefetch_write_throughput_measure_time, 0xb1e2e3e4e5e6e7e8),
    NUMBER(3312, 4, need_zero_init, 0xb1f2f3f4),
    NUMBER(3320, 4, ext_size, 60),
    NUMBER(3324, 8, incompatible, 3),
    NUMBER(3332, 8, compatible, 0xc1c2c3c4c5c6c7c9),
    NUMBER(3340, 8, autoclear, 0xd1d2d3d4d5d6d7d9),
    NUMBER(3348, 4, geometry_crc, 0),
    NUMBER(3352, 4, state_crc, 0),
    NUMBER(3356, 8, bitmaps_offset, 0x5000),
    NUMBER(3364, 8, bitmaps_size, 0x7000),
};

/* By hand, so that a mistake in the room's own table cannot be made twice. */
static void put(uint8_t *buf, unsigned at, unsigned bytes, uint64_t number)
{
    for (unsigned i = 0; i < bytes; i++) {
        buf[at + i] = (uint8_t)(number >> 8 * i);
    }
}

static uint64_t get(const uint8_t *buf, unsigned at, unsigned bytes)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < bytes; i++) {
        number |= (uint64_t)buf[at + i] << 8 * i;
    }
    return number;
}

/* As the format says: 6900 bytes without sector 6; sector 6 with its own checksum as 0. */
static void put_sums(uint8_t *buf)
{
    uint8_t bytes[6900];

    memcpy(bytes, buf, 3072);
    memcpy(bytes + 3072, buf + 3584, 3828);
    put(buf, 3348, 4, crc32c(0, bytes, 6900));
    put(buf, 3352, 4, 0);
    put(buf, 3352, 4, crc32c(0, buf + 3072, 512));
}

/* All rows, with checksums; unknown bytes in the rest of what is reserved. */
static void image_of_rows(uint8_t *buf)
{
    memset(buf, 0, 8192);
    memcpy(buf, "FVD", 4);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].text) {
            memcpy(buf + rows[i].at, rows[i].text, strlen(rows[i].text));
        } else {
            put(buf, rows[i].at, rows[i].bytes, rows[i].number);
        }
    }
    memcpy(buf + 3316, "QFVX", 4);
    for (unsigned at = 3372; at < 7412; at++) {
        buf[at] = (uint8_t)(at * 7 + 1);
    }
    put_sums(buf);
}

static void test_offsets(void)
{
    g_autofree uint8_t *buf = g_malloc(8192);
    g_autofree uint8_t *again = g_malloc(8192);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    unsigned end = 4;

    image_of_rows(buf);
    g_assert_cmpint(fvd_header_decode(buf, 8192, h, &error_abort), ==, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const Row *row = &rows[i];
        const uint8_t *member = (const uint8_t *)h + row->member;

        g_test_message("%s", row->name);
        /* The magic of the extension stands between. */
        g_assert_cmpint(row->at, ==, row->at == 3320 ? end + 4 : end);
        end = row->at + row->bytes;
        if (row->text) {
            g_assert_cmpstr((const char *)member, ==, row->text);
        } else if (row->bytes == 4) {
            g_assert_cmphex(*(const uint32_t *)member, ==, get(buf, row->at, 4));
        } else {
            g_assert_cmphex(*(const uint64_t *)member, ==, row->number);
        }
    }
    g_assert_cmpint(end, ==, 3316 + 56);
    g_assert_true(h->has_ext && !h->geometry_crc_wrong && !h->state_crc_wrong);

    fvd_header_encode(h, again);
    g_assert_cmpmem(again, 8192, buf, 8192);
    fvd_header_holds(h);
}

static void test_sectors(void)
{
    static const char *const geometry[] = {"bitmap_offset", "bitmap_size", "block_size",
                                           "table_offset",  "table_size",  "chunk_size"};
    static const char *const state[] = {"journal_offset", "stable_journal_epoch", "clean_shutdown",
                                        "ext_size",       "geometry_crc",         "bitmaps_size"};
    unsigned found = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned j = 0; j < 6; j++) {
            if (!strcmp(rows[i].name, geometry[j])) {
                g_assert_cmpuint(rows[i].at / 512, ==, FVD_SECTOR_GEOMETRY);
                g_assert_cmpuint((rows[i].at + 7) / 512, ==, FVD_SECTOR_GEOMETRY);
                found++;
            }
            if (!strcmp(rows[i].name, state[j])) {
                g_assert_cmpuint(rows[i].at / 512, ==, FVD_SECTOR_STATE);
                g_assert_cmpuint((rows[i].at + 7) / 512, ==, FVD_SECTOR_STATE);
                found++;
            }
        }
    }
    g_assert_cmpuint(found, ==, 12);
}

/* 1 GiB over a base of 1 GiB, everything in one file. */
static void ordinary(FvdHeader *h)
{
    fvd_header_init(h);
    h->virtual_disk_size = h->base_img_size = 1 * GiB;
    strcpy(h->base_img, "base.raw");
    h->bitmap_offset = 8192;
    h->bitmap_size = 4096;
    h->table_offset = 12288;
    h->table_size = 4096;
    h->journal_offset = 16384;
    h->journal_size = 65536;
    h->data_offset = 1 * MiB;
}

/* A change of an ordinary header, and what is said of it. */
typedef struct Refusal {
    const char *why;
    unsigned at, bytes;
    uint64_t number;
    const char *words;
    int ret;                      /* 0: -EINVAL */
    unsigned also_at, also_bytes; /* one more number before, or no bytes */
    uint64_t also;
} Refusal;

#define NO_EXT                 .also_at = 3316, .also_bytes = 4, .also = 0
#define AND(at, bytes, number) .also_at = at, .also_bytes = bytes, .also = number

static const Refusal refusals[] = {
    {"magic", 0, 4, 0x46564400, "magic is not that of an FVD image"},
    {"january", 0, 4, 0x5143f5a9,
     "magic is that of the FVD layout of January 2011, which is not supported", -ENOTSUP},
    {"version-0", 4, 4, 0, "version is 0, and only 1 and 2 are supported", -ENOTSUP},
    {"version-3", 4, 4, 3, "version is 3, and only 1 and 2 are supported", -ENOTSUP},
    {"version-2-of-an-old-program", 4, 4, 2,
     "version is 2, but there is no ext_magic with features behind it", 0, NO_EXT},
    {"feature-in-version-1", 3324, 8, 2, "incompatible is 0x2, but version is 1 and not 2"},
    {"unknown-features", 3324, 8, UINT64_C(1) << 63 | 0x16,
     "incompatible has features that are not supported: bit 2, 4, 63", -ENOTSUP, AND(4, 4, 2)},
    {"ext-size-55", 3320, 4, 55, "ext_size is 55, not from 56 to 4096"},
    {"ext-size-4097", 3320, 4, 4097, "ext_size is 4097, not from 56 to 4096"},
    {"disk-of-odd-size", 8, 8, 1 * GiB + 511,
     "virtual_disk_size is 1073742335, not a multiple of 512"},
    {"disk-too-large", 8, 8, (UINT64_C(1) << 62) + 512,
     "virtual_disk_size is 4611686018427388416, more than 4611686018427387904"},
    {"disk-with-the-top-bit", 8, 8, UINT64_C(1) << 63,
     "virtual_disk_size is 9223372036854775808, more than 4611686018427387904"},
    {"base-larger-than-disk", 2104, 8, 1 * GiB + 1,
     "base_img_size is 1073741825, more than the virtual_disk_size of 1073741824"},
    {"base-with-the-top-bit", 2104, 8, UINT64_MAX,
     "base_img_size is 18446744073709551615, more than the virtual_disk_size of 1073741824"},
    {"base-without-bitmap", 2112, 8, 0,
     "bitmap_offset is 0, but base_img_size is 1073741824: nothing says what is in the base image"},
    {"epoch", 3208, 8, (UINT64_C(1) << 62) + 1,
     "stable_journal_epoch is 4611686018427387905, more than 4611686018427387904"},
    {"chunk-0", 2152, 8, 0, "chunk_size is 0, less than 512"},
    {"chunk-odd", 2152, 8, 1000, "chunk_size is 1000, not a multiple of 512"},
    {"chunk-too-large", 2152, 8, 1 * GiB + 512, "chunk_size is 1073742336, more than 1073741824"},
    {"chunk-with-the-top-bit", 2152, 8, UINT64_C(1) << 63,
     "chunk_size is 9223372036854775808, more than 1073741824"},
    {"block-0", 2128, 8, 0, "block_size is 0, less than 512"},
    {"block-odd", 2128, 8, 1025, "block_size is 1025, not a multiple of 512"},
    {"block-too-large", 2128, 8, 2 * GiB, "block_size is 2147483648, more than 1073741824"},
    {"table-too-small", 2152, 8, 512 * KiB,
     "table_size is 4096, less than the 8192 bytes that 2048 chunks take"},
    {"table-too-large-for-memory", 8, 8, (UINT64_C(64) << 40) + 512,
     "table_size: 67108865 chunks take 268435460 bytes, more than 268435456"},
    {"bitmap-too-small", 2128, 8, 16 * KiB,
     "bitmap_size is 4096, less than the 8192 bytes that 65536 blocks take"},
    {"table-size-with-the-top-bit", 2144, 8, UINT64_C(1) << 63,
     "table_size is 9223372036854775808, more than 9223372036854775807"},
    {"journal-too-small", 3200, 8, 4096, "journal_size is 4096, less than 8192"},
    {"journal-too-large", 3200, 8, 1 * GiB + 4096,
     "journal_size is 1073745920, more than 1073741824"},
    {"journal-not-in-pages", 3200, 8, 8704, "journal_size is 8704, not a multiple of 4096"},
    {"journal-not-in-sectors", 3200, 8, 8193, "journal_size is 8193, not a multiple of 512", 0,
     NO_EXT},
    {"place-not-at-a-page", 2112, 8, 8192 + 512, "bitmap_offset is 8704, not a multiple of 4096"},
    {"place-not-at-a-sector", 2112, 8, 8192 + 256, "bitmap_offset is 8448, not a multiple of 512",
     0, NO_EXT},
    {"place-with-the-top-bit", 2136, 8, UINT64_C(1) << 63,
     "table_offset is 9223372036854775808, more than 9223372036854775807"},
    {"region-that-wraps", 3192, 8, INT64_MAX - 4095,
     "journal_offset is 9223372036854771712, and with the journal's 65536 bytes more than "
     "9223372036854775807"},
    {"data-that-wraps", 16, 8, INT64_MAX - 4095,
     "data_offset is 9223372036854771712, and with the data area's 1073741824 bytes more than "
     "9223372036854775807"},
    {"data-over-header", 16, 8, 4096,
     "data_offset is 4096: the data area's 1073741824 bytes overlap the header's 8192 bytes at 0"},
    {"journal-in-data", 3192, 8, 1 * GiB,
     "journal_offset is 1073741824: the journal's 65536 bytes overlap the data area's 1073741824 "
     "bytes at 1048576"},
    {"table-over-header", 2136, 8, 4096,
     "table_offset is 4096: the table's 4096 bytes overlap the header's 8192 bytes at 0"},
    {"bitmap-over-table", 2120, 8, 8192,
     "bitmap_offset is 8192: the bitmap's 8192 bytes overlap the table's 4096 bytes at 12288"},
    {"journal-around-all", 3192, 8, 12288,
     "journal_offset is 12288: the journal's 65536 bytes overlap the table's 4096 bytes at 12288"},
    {"bitmaps-over-journal", 3356, 8, 77824,
     "bitmaps_offset is 77824: the bitmaps directory's 4096 bytes overlap the journal's 65536 "
     "bytes at 16384",
     0, AND(3340, 8, 1)},
};

static void test_refusal(gconstpointer opaque)
{
    const Refusal *r = opaque;
    g_autofree uint8_t *buf = g_malloc(8192);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autoptr(Error) err = NULL;

    ordinary(h);
    h->bitmaps_size = 4096;
    fvd_header_encode(h, buf);
    memset(h, 0x5a, sizeof(*h));
    put(buf, r->also_at, r->also_bytes, r->also);
    put(buf, r->at, r->bytes, r->number);
    g_assert_cmpint(fvd_header_decode(buf, 8192, h, &err), ==, r->ret ? r->ret : -EINVAL);
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==, r->words);
    for (size_t i = 0; i < sizeof(*h); i++) { /* on success only */
        g_assert_cmphex(((uint8_t *)h)[i], ==, 0x5a);
    }
}

static void test_names(void)
{
    g_autofree uint8_t *buf = g_malloc(8192);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    unsigned names = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const Row *row = &rows[i];
        g_autofree char *words =
            g_strdup_printf("%s is not terminated within its %u bytes", row->name, row->bytes);
        g_autoptr(Error) err = NULL;

        if (!row->text) {
            continue;
        }
        names++;
        ordinary(h);
        fvd_header_encode(h, buf);
        memset(buf + row->at, 'n', row->bytes);
        g_assert_cmpint(fvd_header_decode(buf, 8192, h, &err), ==, -EINVAL);
        g_assert_cmpstr(error_get_pretty(err), ==, words);

        buf[row->at + row->bytes - 1] = 0;
        g_assert_cmpint(fvd_header_decode(buf, 8192, h, &error_abort), ==, 0);
        g_assert_cmpuint(strlen((char *)h + row->member), ==, row->bytes - 1);
        fvd_header_holds(h);

        /* What stands behind the end of a name is not a part of it. */
        buf[row->at + 1] = 0;
        g_assert_cmpint(fvd_header_decode(buf, 8192, h, &error_abort), ==, 0);
        g_assert_cmpstr((char *)h + row->member, ==, "n");
        fvd_header_holds(h);
    }
    g_assert_cmpuint(names, ==, 5);
}

static void test_short(void)
{
    g_autofree uint8_t *buf = g_malloc(8192);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    ordinary(h);
    fvd_header_encode(h, buf);
    for (size_t len = 0; len < 7412; len = len < 8 ? len + 1 : len + 617) {
        g_autofree uint8_t *exact = g_memdup2(buf, len);
        g_autoptr(Error) err = NULL;

        g_assert_cmpint(fvd_header_probe(exact, len), ==, len < 4 ? 0 : 100);
        g_assert_cmpint(fvd_header_decode(exact, len, h, &err), ==, -EINVAL);
        if (len == 8) {
            g_assert_cmpstr(error_get_pretty(err), ==,
                            "The file ends after 8 of the header's 7412 bytes");
        }
    }
    g_assert_cmpint(fvd_header_decode(buf, 7412, h, &error_abort), ==, 0);
}

static void test_probe(void)
{
    g_assert_cmpint(fvd_header_probe((const uint8_t *)"FVD\0\1\0\0\0", 8), ==, 100);
    g_assert_cmpint(fvd_header_probe((const uint8_t *)"FVD\0\x63\0\0\0", 8), ==, 100);
    g_assert_cmpint(fvd_header_probe((const uint8_t *)"FVD \1\0\0\0", 8), ==, 0);
    g_assert_cmpint(fvd_header_probe((const uint8_t *)"QFI\xfb\0\0\0\3", 8), ==, 0);
}

static void test_sums(void)
{
    g_autofree uint8_t *buf = g_malloc(8192);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    unsigned decoded = 0;

    for (unsigned at = 512; at < 7412; at += 128) {
        bool state = at >= 3072 && at < 3584;

        ordinary(h);
        fvd_header_encode(h, buf);
        buf[at + 3] ^= 0x10;
        if (fvd_header_decode(buf, 8192, h, NULL) == 0) {
            decoded++;
            g_assert_cmpint(h->geometry_crc_wrong, ==, !state);
            g_assert_cmpint(h->state_crc_wrong, ==, state);
        }
    }
    g_assert_cmpuint(decoded, >, 50);
    /* The field that is a checksum itself. */
    ordinary(h);
    fvd_header_encode(h, buf);
    buf[3352] ^= 1;
    g_assert_cmpint(fvd_header_decode(buf, 8192, h, &error_abort), ==, 0);
    g_assert_true(h->state_crc_wrong && !h->geometry_crc_wrong);
    buf[3352] ^= 1;
    buf[3348] ^= 1;
    g_assert_cmpint(fvd_header_decode(buf, 8192, h, &error_abort), ==, 0);
    g_assert_true(h->state_crc_wrong && h->geometry_crc_wrong);
    /* Writing it again sets it right. */
    fvd_header_holds(h);
}

/* An old program knows nothing of the extension, and changes the geometry. */
static void test_old(void)
{
    g_autofree uint8_t *buf = g_malloc(8192);
    g_autofree uint8_t *again = g_malloc(8192);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    ordinary(h);
    fvd_header_encode(h, buf);
    memset(buf + 3316, 0xee, 4096);
    put(buf, 2120, 8, 2048);
    put(buf, 2136, 8, 8192 + 2048 + 512);
    put(buf, 2144, 8, 4608);
    g_assert_cmpint(fvd_header_decode(buf, 8192, h, &error_abort), ==, 0);
    g_assert_false(h->has_ext || h->geometry_crc_wrong || h->state_crc_wrong);
    g_assert_cmpuint(h->ext_size | h->incompatible | h->compatible | h->autoclear, ==, 0);
    g_assert_cmpint(h->bitmaps_offset | h->bitmaps_size, ==, 0);
    fvd_header_holds(h);
    fvd_header_encode(h, again);
    g_assert_cmpmem(again, 8192, buf, 8192);

    h->autoclear = 1;
    g_assert_cmpint(fvd_header_check(h, NULL), ==, -EINVAL);
}

static void test_edges(void)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autoptr(Error) err = NULL;

    fvd_header_init(h);
    fvd_header_holds(h);
    g_assert_cmpuint(h->ext_size, ==, 56);

    /* The largest table and bitmap, to the byte. */
    ordinary(h);
    h->virtual_disk_size = 64 * TiB;
    h->base_img_size = 128 * TiB / 2;
    h->block_size = 32 * KiB;
    h->table_offset = 1 * GiB;
    h->table_size = 256 * MiB;
    h->bitmap_offset = 2 * GiB;
    h->bitmap_size = 256 * MiB;
    h->data_offset = 4 * GiB;
    g_assert_cmpint(fvd_header_check(h, &error_abort), ==, 0);
    g_assert_cmpint(fvd_header_chunks(h), ==, 64 * MiB);
    g_assert_cmpint(fvd_header_blocks(h), ==, 2 * GiB);
    fvd_header_holds(h);
    h->block_size -= 512;
    g_assert_cmpint(fvd_header_check(h, &err), ==, -EINVAL);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "bitmap_size: 2181570691 blocks take 272696337 bytes, more than 268435456");

    /* The largest disk, without a table; nothing else is in its file. */
    fvd_header_init(h);
    h->virtual_disk_size = INT64_C(1) << 62;
    strcpy(h->data_file, "d");
    h->data_offset = INT64_C(1) << 62;
    h->data_offset -= 4096;
    h->stable_journal_epoch = UINT64_C(1) << 62;
    g_assert_cmpint(fvd_header_check(h, &error_abort), ==, 0);
    fvd_header_holds(h);
    h->data_offset += 4096;
    g_assert_cmpint(fvd_header_check(h, NULL), ==, -EINVAL);

    /* A disk that is a sector larger than whole chunks, and a base that is a byte larger than whole blocks. */
    ordinary(h);
    h->virtual_disk_size = 1 * GiB - 1 * MiB + 512;
    h->base_img_size = 64 * KiB * 8 + 1;
    g_assert_cmpint(fvd_header_chunks(h), ==, 1024);
    g_assert_cmpint(fvd_header_blocks(h), ==, 9);
    g_assert_cmpint(fvd_header_bitmap_bytes(h), ==, 2);

    /* A feature that was being turned on when the power failed. */
    h->version = 2;
    fvd_header_holds(h);

    /* Without a bitmap, for nothing is in the base image any more. */
    h->base_img_fully_prefetched = 1;
    h->bitmap_offset = 0;
    h->block_size = 0;
    fvd_header_holds(h);
}

static void test_room(void)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    ordinary(h);
    g_assert_cmpint(fvd_header_data_chunks(h), ==, FVD_CHUNKS_MAX);
    h->table_offset = 1 * MiB + 1500 * MiB + 4096;
    g_assert_cmpint(fvd_header_data_chunks(h), ==, 1500);
    h->journal_offset = 1 * MiB + 1024 * MiB;
    g_assert_cmpint(fvd_header_data_chunks(h), ==, 1024);
    /* The directory of bitmaps goes when the image is opened for writing. */
    h->autoclear = FVD_AUTOCLEAR_BITMAPS;
    h->bitmaps_offset = 5 * MiB;
    h->bitmaps_size = 4096;
    g_assert_cmpint(fvd_header_data_chunks(h), ==, 1024);
    fvd_header_holds(h);
    /* In a file of its own nothing is in the way. */
    strcpy(h->data_file, "data");
    g_assert_cmpint(fvd_header_data_chunks(h), ==, FVD_CHUNKS_MAX);
    h->data_offset = INT64_MAX - 4095 - 1025 * MiB;
    g_assert_cmpint(fvd_header_data_chunks(h), ==, 1025);
    fvd_header_holds(h);
}

static void test_file(void)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autoptr(Error) err = NULL;

    ordinary(h);
    g_assert_cmpint(fvd_header_check_file(h, 16384 + 65536, &error_abort), ==, 0);
    g_assert_cmpint(fvd_header_check_file(h, 16384 + 65535, &err), ==, -EINVAL);
    g_assert_cmpstr(
        error_get_pretty(err), ==,
        "journal_offset is 16384: the journal's 65536 bytes reach beyond the file's 81919");
}

/* Numbers and names at random, within the limits; no regions yet. */
static void random_fields(GRand *rand, FvdHeader *h)
{
    fvd_header_init(h);
    if (g_rand_boolean(rand)) {
        h->has_ext = false;
        h->ext_size = 0;
        h->compatible = 0;
    } else {
        h->ext_size = 56 + g_rand_int_range(rand, 0, 4041);
        h->version = 1 + g_rand_boolean(rand);
        h->incompatible = h->version == 2 ? test_rand_below(rand, 4) : 0;
        h->compatible = test_rand_below(rand, UINT64_MAX);
        h->autoclear = test_rand_below(rand, UINT64_MAX);
    }
    for (unsigned i = h->has_ext ? 56 : 0; i < 4096; i++) {
        h->reserved[i] = (uint8_t)g_rand_int_range(rand, 0, 256);
    }
    h->reserved[0] &= 0xf; /* not the magic */
    h->virtual_disk_size = 512 * test_rand_below(rand, 1 << g_rand_int_range(rand, 1, 28));
    h->block_size = 512 * g_rand_int_range(rand, 1, 5000);
    h->chunk_size = 512 * g_rand_int_range(rand, 1, 50000);
    h->base_img_fully_prefetched = g_rand_boolean(rand) ? g_rand_int(rand) : 0;
    h->stable_journal_epoch = test_rand_below(rand, UINT64_C(1) << 62);
    h->clean_shutdown = g_rand_int(rand);
    h->storage_grow_unit = test_rand_below(rand, UINT64_MAX);
    h->prefetch_start_delay = (int64_t)test_rand_below(rand, UINT64_MAX);
    h->need_zero_init = g_rand_int(rand);
    memset(h->base_img, g_rand_int_range(rand, 1, 256), g_rand_int_range(rand, 0, 1024));
    memset(h->add_storage_cmd, 'c', g_rand_int_range(rand, 0, 1024));
    if (g_rand_boolean(rand)) {
        memset(h->data_file, 'd', g_rand_int_range(rand, 1, 1024));
    }
}

typedef struct Place {
    int64_t *offset;
    int64_t size;
    bool there;
} Place;

/* Regions one behind the other, in any order, with gaps. */
static void random_places(GRand *rand, FvdHeader *h, int64_t align)
{
    Place places[] = {
        {&h->data_offset,
         h->table_offset ? fvd_header_chunks(h) * h->chunk_size : h->virtual_disk_size, true},
        {&h->table_offset, h->table_size, h->table_offset != 0},
        {&h->bitmap_offset, h->bitmap_size, h->bitmap_offset != 0},
        {&h->journal_offset, h->journal_size, h->journal_offset != 0},
        {&h->bitmaps_offset, h->bitmaps_size, h->has_ext},
    };
    int64_t at = 8192;

    for (unsigned i = ARRAY_SIZE(places); i-- > 0;) {
        unsigned j = (unsigned)g_rand_int_range(rand, 0, (int)i + 1);
        Place place = places[j];

        places[j] = places[i];
        if (place.there) {
            at += align * g_rand_int_range(rand, 0, 3);
            *place.offset = at;
            at = QEMU_ALIGN_UP(at + place.size, align);
        }
    }
}

static void random_header(GRand *rand, FvdHeader *h)
{
    int64_t align;

    random_fields(rand, h);
    align = h->has_ext ? 4096 : 512;
    if (g_rand_boolean(rand)) {
        h->table_offset = 1; /* there */
        h->table_size = align * (DIV_ROUND_UP(fvd_header_table_bytes(h), align) + 3);
    }
    if (g_rand_boolean(rand)) {
        h->bitmap_offset = 1;
        h->base_img_size = (int64_t)test_rand_below(rand, h->virtual_disk_size + 1);
        h->bitmap_size = align * (DIV_ROUND_UP(fvd_header_bitmap_bytes(h), align) + 1);
    }
    if (g_rand_boolean(rand)) {
        h->journal_offset = 1;
        h->journal_size = 8192 + align * g_rand_int_range(rand, 0, 4000);
    }
    if (h->has_ext) {
        h->bitmaps_size = 4096 * g_rand_int_range(rand, 0, 9);
    }
    random_places(rand, h, align);
}

/* Whatever is changed in it, a header is refused in words, or all holds of it. */
static void change_and_decode(GRand *rand, uint8_t *buf, FvdHeader *h)
{
    static const uint64_t edges[] = {
        0,
        1,
        511,
        512,
        4096,
        8192,
        1 << 20,
        1 << 30,
        INT64_MAX,
        INT64_MAX - 1,
        INT64_MAX - 4095,
        UINT64_MAX,
        (1ULL << 63),
        1ULL << 62,
        (1ULL << 63) + 4096,
        1ULL << 32,
    };
    g_autoptr(Error) err = NULL;
    int ret;

    for (int i = g_rand_int_range(rand, 1, 4); i > 0; i--) {
        const Row *row = &rows[g_rand_int_range(rand, 0, ARRAY_SIZE(rows))];

        put(buf, row->at, MIN(row->bytes, 8), edges[g_rand_int_range(rand, 0, ARRAY_SIZE(edges))]);
    }
    ret = fvd_header_decode(buf, 8192, h, &err);
    g_assert_cmpint(ret < 0, ==, err != NULL);
    if (ret == 0) {
        fvd_header_holds(h);
    }
}

static void test_random(void)
{
    GRand *rand = test_rand();
    const char *seeds = g_getenv("SEEDS");
    unsigned rounds = seeds ? (unsigned)strtoul(seeds, NULL, 0) : 300;
    g_autofree uint8_t *buf = g_malloc(8192);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree FvdHeader *again = g_new(FvdHeader, 1);

    for (unsigned i = 0; i < rounds; i++) {
        random_header(rand, h);
        g_assert_cmpint(fvd_header_check(h, &error_abort), ==, 0);
        fvd_header_encode(h, buf);
        g_assert_cmpint(fvd_header_decode(buf, 8192, again, &error_abort), ==, 0);
        fvd_headers_are_equal(h, again);
        fvd_header_holds(again);
        change_and_decode(rand, buf, again);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fvd/header/every-field-is-where-the-format-says", test_offsets);
    g_test_add_func("/fvd/header/sectors-4-and-6-have-what-changes-together", test_sectors);
    g_test_add_func("/fvd/header/a-name-ends-inside-its-field", test_names);
    g_test_add_func("/fvd/header/a-file-shorter-than-a-header-is-refused", test_short);
    g_test_add_func("/fvd/header/the-magic-is-recognised-whatever-the-version", test_probe);
    g_test_add_func("/fvd/header/a-wrong-checksum-is-told-and-no-error", test_sums);
    g_test_add_func("/fvd/header/an-old-program-s-image-stays-as-it-is", test_old);
    g_test_add_func("/fvd/header/what-is-just-allowed-is-allowed", test_edges);
    g_test_add_func("/fvd/header/chunks-end-where-another-region-begins", test_room);
    g_test_add_func("/fvd/header/a-region-behind-the-end-of-the-file-is-refused", test_file);
    g_test_add_func("/fvd/header/random-headers-come-back-and-changed-ones-hold", test_random);
    for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *name =
            g_strdup_printf("/fvd/header/is-refused-with-its-reason/%s", refusals[i].why);

        g_test_add_data_func(name, &refusals[i], test_refusal);
    }
    return g_test_run();
}
