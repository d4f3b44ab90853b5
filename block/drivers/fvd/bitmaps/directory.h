/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * directory.h - the dirty bitmaps in an FVD image: their directory as bytes, and as names and places
 *
 * Pure.  Any thread.  What is decoded has passed all checks: names are UTF-8 and none is there twice, data lies behind
 * the directory, inside the area, one behind the other, and is as long as disk and granularity say.
 */
#ifndef BLOCK_DRIVERS_FVD_BITMAPS_DIRECTORY_H
#define BLOCK_DRIVERS_FVD_BITMAPS_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include "util/error.h"

/* What one page of a query can show, with names of full length a directory of about 1 MiB. */
#define FVD_BITMAPS_MAX           1000
#define FVD_BITMAP_NAME_MAX       1023
#define FVD_BITMAP_GRANULE_MIN    9  /* 512 bytes: writes are no smaller */
#define FVD_BITMAP_GRANULE_MAX    31 /* 2 GiB: what 32 bits hold */
/* The bits of one are held in memory whole while they are stored: 2 TiB in sectors, 256 TiB in 64 KiB. */
#define FVD_BITMAP_BYTES_MAX      (INT64_C(512) << 20)
/* Of all together, with the directory. */
#define FVD_BITMAPS_AREA_MAX      (INT64_C(1) << 30)
#define FVD_BITMAP_DIR_HEAD_BYTES 32
#define FVD_BITMAP_ENTRY_BYTES    32
#define FVD_BITMAP_DIR_BYTES_MAX \
    (FVD_BITMAP_DIR_HEAD_BYTES + \
     FVD_BITMAPS_MAX * (FVD_BITMAP_ENTRY_BYTES + FVD_BITMAP_NAME_MAX + 1))
#define FVD_BITMAP_DATA_ALIGN 4096

typedef struct FvdBitmapEntry {
    char *name;
    unsigned granule;    /* log2 of the granularity */
    bool enabled;        /* it records while the image is open */
    bool inconsistent;   /* it says nothing; no bits */
    int64_t data_offset; /* from the area's start; 0: no bits, all are 0 */
    int64_t data_bytes;
    uint32_t data_crc;
    uint8_t *bits; /* data_bytes, while it is going to be stored; else NULL */
} FvdBitmapEntry;

typedef struct FvdBitmapDir {
    uint64_t epoch;     /* stable_journal_epoch of the image whose contents they go with */
    int64_t disk_size;  /* and its virtual_disk_size */
    GPtrArray *entries; /* of FvdBitmapEntry */
} FvdBitmapDir;

FvdBitmapDir *fvd_bitmap_dir_new(void);
/* fvd_bitmap_dir_free() - NULL is nothing */
void fvd_bitmap_dir_free(FvdBitmapDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FvdBitmapDir, fvd_bitmap_dir_free)

/* fvd_bitmap_dir_add() - one more, with this name; the directory's own */
FvdBitmapEntry *fvd_bitmap_dir_add(FvdBitmapDir *dir, const char *name);

static inline FvdBitmapEntry *fvd_bitmap_dir_entry(const FvdBitmapDir *dir, unsigned i)
{
    return g_ptr_array_index(dir->entries, i);
}

/* fvd_bitmap_bytes() - of the bits for a disk */
int64_t fvd_bitmap_bytes(int64_t disk_size, unsigned granule);

/*
 * fvd_bitmap_dir_place() - give all that have data_bytes a place: data_offset
 *
 * Return: bytes of the area, a multiple of FVD_BITMAP_DATA_ALIGN.
 */
int64_t fvd_bitmap_dir_place(FvdBitmapDir *dir);

/* fvd_bitmap_dir_encode() - @ret_bytes of bytes, to be g_freed; the limits are kept */
uint8_t *fvd_bitmap_dir_encode(const FvdBitmapDir *dir, size_t *ret_bytes);

/*
 * fvd_bitmap_dir_decode() - the directory at the start of an area of @area_bytes
 * @buf, @len: that many of them, or FVD_BITMAP_DIR_BYTES_MAX
 *
 * Return: NULL with an Error that says what is wrong.
 */
FvdBitmapDir *fvd_bitmap_dir_decode(const uint8_t *buf, size_t len, int64_t area_bytes,
                                    Error **errp);

#endif
