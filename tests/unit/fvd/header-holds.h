/* SPDX-License-Identifier: GPL-2.0-or-later */
/* header-holds.h - what holds of every FVD header that could be decoded; for unit tests and the fuzz target */
#ifndef TESTS_UNIT_FVD_HEADER_HOLDS_H
#define TESTS_UNIT_FVD_HEADER_HOLDS_H

#include <string.h>
#include <glib.h>
#include "block/drivers/fvd/layout/header.h"

/* Every member but the checksums, which are not taken from a header; in the order of the format. */
#define FVD_HEADER_MEMBERS(x)                                                                     \
    x(version) x(virtual_disk_size) x(data_offset) x(data_file) x(data_file_fmt) x(base_img)      \
        x(base_img_fmt) x(base_img_size) x(bitmap_offset) x(bitmap_size) x(block_size)            \
            x(table_offset) x(table_size) x(chunk_size) x(storage_grow_unit) x(add_storage_cmd)   \
                x(journal_offset) x(journal_size) x(stable_journal_epoch) x(clean_shutdown)       \
                    x(copy_on_read) x(max_outstanding_copy_on_read_data) x(prefetch_start_delay)  \
                        x(base_img_fully_prefetched) x(num_prefetch_slots) x(bytes_per_prefetch)  \
                            x(prefetch_min_read_throughput) x(prefetch_max_read_throughput)       \
                                x(prefetch_min_write_throughput) x(prefetch_max_write_throughput) \
                                    x(prefetch_throttle_time)                                     \
                                        x(prefetch_read_throughput_measure_time)                  \
                                            x(prefetch_write_throughput_measure_time)             \
                                                x(need_zero_init) x(has_ext) x(ext_size)          \
                                                    x(incompatible) x(compatible) x(autoclear)    \
                                                        x(bitmaps_offset) x(bitmaps_size)         \
                                                            x(reserved)

static inline void fvd_headers_are_equal(const FvdHeader *a, const FvdHeader *b)
{
#define COMPARE(member) g_assert_true(memcmp(&a->member, &b->member, sizeof(a->member)) == 0);
    FVD_HEADER_MEMBERS(COMPARE)
#undef COMPARE
}

static inline bool fvd_is_clear(int64_t start, int64_t size, int64_t other, int64_t other_size)
{
    return size == 0 || other_size == 0 || start >= other + other_size || other >= start + size;
}

/* @start to @start + @size has no byte of header, table, bitmap and journal. */
static inline bool fvd_is_free(const FvdHeader *h, int64_t start, int64_t size)
{
    return fvd_is_clear(start, size, 0, FVD_HEADER_REGION) &&
           (!h->table_offset || fvd_is_clear(start, size, h->table_offset, h->table_size)) &&
           (!h->bitmap_offset || fvd_is_clear(start, size, h->bitmap_offset, h->bitmap_size)) &&
           (!h->journal_offset || fvd_is_clear(start, size, h->journal_offset, h->journal_size));
}

static inline void fvd_helpers_hold(const FvdHeader *h)
{
    int64_t chunks = fvd_header_chunks(h);
    int64_t blocks = fvd_header_blocks(h);
    int64_t room = fvd_header_data_chunks(h);

    g_assert_cmpint(fvd_header_table_bytes(h), ==, chunks * 4);
    g_assert_cmpint(fvd_header_table_bytes(h), <=, FVD_TABLE_USED_MAX);
    if (fvd_header_has_table(h)) {
        g_assert_cmpint(fvd_header_table_bytes(h), <=, h->table_size);
        g_assert_cmpint(chunks * h->chunk_size, >=, h->virtual_disk_size);
        g_assert_cmpint((chunks - 1) * h->chunk_size, <, MAX(h->virtual_disk_size, 1));
        g_assert_cmpint(room, >=, chunks);
        g_assert_cmpint(room, <=, FVD_CHUNKS_MAX);
        g_assert_cmpint(room, <=, (INT64_MAX - h->data_offset) / h->chunk_size);
        g_assert_true(h->data_file[0] || fvd_is_free(h, h->data_offset, room * h->chunk_size));
    } else {
        g_assert_cmpint(chunks, ==, 0);
        g_assert_cmpint(room, ==, 0);
        g_assert_cmpint(h->data_offset, <=, INT64_MAX - h->virtual_disk_size);
        g_assert_true(h->data_file[0] || fvd_is_free(h, h->data_offset, h->virtual_disk_size));
    }
    g_assert_cmpint(fvd_header_bitmap_bytes(h), ==, blocks / 8 + (blocks % 8 > 0));
    g_assert_cmpint(fvd_header_bitmap_bytes(h), <=, FVD_BITMAP_USED_MAX);
    if (fvd_header_has_bitmap(h)) {
        g_assert_cmpint(fvd_header_bitmap_bytes(h), <=, h->bitmap_size);
        g_assert_cmpint(blocks * h->block_size, >=, h->base_img_size);
        g_assert_cmpint((blocks - 1) * h->block_size, <, MAX(h->base_img_size, 1));
    } else {
        g_assert_cmpint(blocks, ==, 0);
    }
}

/* The file ends with the last of its regions, and not one byte before. */
static inline void fvd_file_check_holds(const FvdHeader *h)
{
    bool bitmaps = !h->data_file[0] && h->autoclear & FVD_AUTOCLEAR_BITMAPS;
    int64_t end = MAX(h->table_offset ? h->table_offset + h->table_size : 0,
                      h->bitmap_offset ? h->bitmap_offset + h->bitmap_size : 0);

    end = MAX(end, h->journal_offset ? h->journal_offset + h->journal_size : 0);
    end = MAX(end, bitmaps ? h->bitmaps_offset + h->bitmaps_size : 0);
    g_assert_cmpint(fvd_header_check_file(h, end, NULL), ==, 0);
    g_assert_cmpint(fvd_header_check_file(h, INT64_MAX, NULL), ==, 0);
    if (end > 0) {
        g_autoptr(Error) err = NULL;

        g_assert_cmpint(fvd_header_check_file(h, end - 1, &err), <, 0);
        g_assert_nonnull(err);
    }
}

/* All of it.  @h came from fvd_header_decode(). */
static inline void fvd_header_holds(const FvdHeader *h)
{
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);
    g_autofree FvdHeader *again = g_new(FvdHeader, 1);

    g_assert_cmpint(fvd_header_check(h, NULL), ==, 0);
    fvd_helpers_hold(h);
    fvd_file_check_holds(h);
    fvd_header_encode(h, buf);
    g_assert_cmpint(fvd_header_probe(buf, FVD_HEADER_REGION), ==, 100);
    g_assert_cmpint(fvd_header_decode(buf, FVD_HEADER_REGION, again, NULL), ==, 0);
    fvd_headers_are_equal(h, again);
    g_assert_false(again->geometry_crc_wrong);
    g_assert_false(again->state_crc_wrong);
    for (unsigned sector = 0; sector < FVD_HEADER_REGION / FVD_SECTOR_BYTES; sector++) {
        uint8_t one[FVD_SECTOR_BYTES];

        fvd_header_encode_sector(h, sector, one);
        g_assert_cmpmem(one, sizeof(one), buf + sector * sizeof(one), sizeof(one));
    }
}

#endif
