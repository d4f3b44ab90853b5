/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bitmap.h - entries of the bitmap directory, and of a bitmap's table
 *
 *      | 24 bytes | extra data | name | padding to 8 |
 *
 * Pure.
 */
#ifndef BLOCK_DRIVERS_QCOW2_LAYOUT_BITMAP_H
#define BLOCK_DRIVERS_QCOW2_LAYOUT_BITMAP_H

#include "block/drivers/qcow2/layout/geometry.h"
#include "util/error.h"

#define QCOW2_BITMAP_HEAD_BYTES           24
#define QCOW2_BITMAP_NAME_MAX             1023
/* As QEMU supports them. */
#define QCOW2_BITMAP_GRANULARITY_BITS_MIN 9
#define QCOW2_BITMAP_GRANULARITY_BITS_MAX 31
/* A bitmap of 512 MiB is one bit for each 64 KiB of 256 TiB. */
#define QCOW2_BITMAP_BYTES_MAX            (512 * MiB)

enum {
    QCOW2_BITMAP_IN_USE = 1 << 0,
    QCOW2_BITMAP_AUTO = 1 << 1,
    QCOW2_BITMAP_EXTRA_COMPATIBLE = 1 << 2,
    QCOW2_BITMAP_FLAGS_KNOWN = 0x7,
    QCOW2_BITMAP_DIRTY_TRACKING = 1, /* the only type */
};

typedef struct Qcow2BitmapEntry {
    uint64_t table_offset;
    uint32_t table_entries;
    uint32_t flags;
    uint8_t type, granularity_bits;
    uint32_t extra_bytes;
    uint8_t *extra; /* owned */
    char *name;     /* owned */
} Qcow2BitmapEntry;

/*
 * qcow2_bitmap_decode() - one entry of the directory, well-formed in itself
 * @buf: @len bytes, from its begin to the end of the directory
 *
 * Return: its bytes, *ret is for qcow2_bitmap_clear(); 0 with an Error.
 */
size_t qcow2_bitmap_decode(const Qcow2Geometry *g, const uint8_t *buf, size_t len,
                           Qcow2BitmapEntry *ret, Error **errp);
void qcow2_bitmap_clear(Qcow2BitmapEntry *b);
size_t qcow2_bitmap_bytes(const Qcow2BitmapEntry *b);
void qcow2_bitmap_encode(const Qcow2BitmapEntry *b, uint8_t *buf);

/* Entries of the table of a bitmap for @disk_bytes; UINT64_MAX: too many. */
uint64_t qcow2_bitmap_table_entries(const Qcow2Geometry *g, uint64_t disk_bytes,
                                    unsigned granularity_bits);

typedef enum Qcow2BitmapCluster {
    QCOW2_BITMAP_ALL_ZEROS,
    QCOW2_BITMAP_ALL_ONES,
    QCOW2_BITMAP_STORED,
    QCOW2_BITMAP_INVALID,
} Qcow2BitmapCluster;
/* What an entry of a bitmap's table says; stored: at *ret_offset. */
Qcow2BitmapCluster qcow2_bitmap_table_entry(const Qcow2Geometry *g, uint64_t word,
                                            int64_t *ret_offset);

#endif
