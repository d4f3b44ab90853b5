/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * header.h - the header of an FVD image, in the form of this host
 *
 * docs/formats/fvd.rst is the authority on what is where and what it must be; fields have its names.
 * Pure code: no I/O, any thread, nothing yields, nothing is kept.
 */
#ifndef BLOCK_DRIVERS_FVD_HEADER_H
#define BLOCK_DRIVERS_FVD_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"
#include "util/osdep.h"

/* What the fields are in, and what they are padded to. */
#define FVD_HEADER_BYTES    7412
#define FVD_HEADER_REGION   (8 * KiB)
/* Each is replaced by one write of one sector: where bitmap and table are; what changes while in use. */
#define FVD_SECTOR_GEOMETRY 4
#define FVD_SECTOR_STATE    6
#define FVD_SECTOR_BYTES    512

#define FVD_NAME_BYTES     1024
#define FVD_FMT_BYTES      16
#define FVD_RESERVED_BYTES 4096
/* From ext_magic to the end of bitmaps_size: what ext_size is at least. */
#define FVD_EXT_BYTES      56

/* Of the position and the size of a region; the second where an old program made the image. */
#define FVD_REGION_ALIGN     (4 * KiB)
#define FVD_REGION_ALIGN_OLD FVD_SECTOR_BYTES

/* incompatible */
#define FVD_INCOMPATIBLE_BLOCK_SUMS (UINT64_C(1) << 0)
#define FVD_INCOMPATIBLE_REMAP      (UINT64_C(1) << 1)
#define FVD_INCOMPATIBLE_KNOWN      (FVD_INCOMPATIBLE_BLOCK_SUMS | FVD_INCOMPATIBLE_REMAP)
/* compatible */
#define FVD_COMPATIBLE_TRAILERS     (UINT64_C(1) << 0)
/* autoclear: true of the disk's contents as they are; cleared before these change */
#define FVD_AUTOCLEAR_BITMAPS       (UINT64_C(1) << 0)

/*
 * Limits.  The disk: whatever is added to it, or rounded up from it, still fits 63 bits.
 * A chunk: one entry never stands for more than a file can be asked to hold at once; a block: it is
 * copied and summed as a whole.
 * Table and bitmap: they are held in memory (64 TiB of disk with chunks of 1 MiB).
 * Journal: a page for each half; all of it is read after a crash.
 */
#define FVD_DISK_BYTES_MAX    (INT64_C(1) << 62)
#define FVD_UNIT_BYTES_MIN    FVD_SECTOR_BYTES /* of a block and a chunk */
#define FVD_UNIT_BYTES_MAX    (1 * GiB)
#define FVD_TABLE_USED_MAX    (256 * MiB)
#define FVD_BITMAP_USED_MAX   (256 * MiB)
#define FVD_JOURNAL_BYTES_MIN (8 * KiB)
#define FVD_JOURNAL_BYTES_MAX (1 * GiB)
/* An entry's 31 bits, less the number that would look like EMPTY once masked. */
#define FVD_CHUNKS_MAX        INT64_C(0x7fffffff)
#define FVD_TABLE_ENTRY_BYTES 4
/* Epochs are counted up from it: there is room for as many again. */
#define FVD_EPOCH_MAX         (UINT64_C(1) << 62)

/*
 * What fvd_header_init() puts in.  The sizes are those of the format's authors:
 * a block of 64 KiB is what a disk reads about as fast as 4 KiB, and makes a bitmap of 2 MiB for 1 TiB;
 * a chunk of 1 MiB makes a table of 4 MiB for 1 TiB and keeps what a guest writes together together;
 * growing by 100 MiB asks the file system seldom; 16 MiB of journal take the whole table of 3.7 TiB.
 */
#define FVD_BLOCK_SIZE_DEFAULT         (64 * KiB)
#define FVD_CHUNK_SIZE_DEFAULT         (1 * MiB)
#define FVD_STORAGE_GROW_UNIT_DEFAULT  (100 * MiB)
#define FVD_JOURNAL_SIZE_DEFAULT       (16 * MiB)
/* Bytes read from the base and not yet kept: what one request of a guest rarely exceeds. */
#define FVD_COPY_ON_READ_MAX_DEFAULT   2000000
/* Negative: no prefetching unless somebody asks for it. */
#define FVD_PREFETCH_DELAY_DEFAULT     (-1)
/* One is read while the other is written. */
#define FVD_PREFETCH_SLOTS_DEFAULT     2
#define FVD_BYTES_PER_PREFETCH_DEFAULT (1 * MiB)
/* KB/s.  Slower than 5 MB/s: somebody else needs the disk; the upper one is no limit. */
#define FVD_PREFETCH_MIN_DEFAULT       5120
#define FVD_PREFETCH_MAX_DEFAULT       1000000000
/* ms: at most so long a pause, and so often a look at the throughput. */
#define FVD_PREFETCH_THROTTLE_DEFAULT  30000
#define FVD_PREFETCH_MEASURE_DEFAULT   100

/*
 * Where no unit is said it is bytes.  Fields that are not checked (the limits' section of the format does
 * not name them) may be anything, storage_grow_unit and all that is about prefetching: whoever uses one
 * takes of it what is sensible.
 */
typedef struct FvdHeader {
    uint32_t version;
    int64_t virtual_disk_size;
    int64_t data_offset; /* in data_file, if there is one */
    char data_file[FVD_NAME_BYTES];
    char data_file_fmt[FVD_FMT_BYTES];
    char base_img[FVD_NAME_BYTES];
    char base_img_fmt[FVD_FMT_BYTES];
    int64_t base_img_size;
    int64_t bitmap_offset; /* 0: no bitmap */
    int64_t bitmap_size;
    int64_t block_size;   /* checked where there is a bitmap */
    int64_t table_offset; /* 0: no table, the disk is in one piece */
    int64_t table_size;
    int64_t chunk_size; /* checked where there is a table */
    uint64_t storage_grow_unit;
    char add_storage_cmd[FVD_NAME_BYTES]; /* never run */
    int64_t journal_offset;               /* 0: no journal */
    int64_t journal_size;
    uint64_t stable_journal_epoch;
    uint32_t clean_shutdown; /* 0: not */
    uint32_t copy_on_read;
    uint64_t max_outstanding_copy_on_read_data;
    int64_t prefetch_start_delay; /* seconds */
    uint32_t base_img_fully_prefetched;
    uint32_t num_prefetch_slots;
    uint64_t bytes_per_prefetch;
    uint64_t prefetch_min_read_throughput; /* KB/s, as the next three */
    uint64_t prefetch_max_read_throughput;
    uint64_t prefetch_min_write_throughput;
    uint64_t prefetch_max_write_throughput;
    uint64_t prefetch_throttle_time; /* ms, as the next two */
    uint64_t prefetch_read_throughput_measure_time;
    uint64_t prefetch_write_throughput_measure_time;
    uint32_t need_zero_init;

    /* Whether ext_magic is there.  Without it an old program made the image, and these are 0. */
    bool has_ext;
    uint32_t ext_size;
    uint64_t incompatible, compatible, autoclear; /* FVD_INCOMPATIBLE_*, ... */
    int64_t bitmaps_offset,
        bitmaps_size; /* valid with FVD_AUTOCLEAR_BITMAPS; in data_file as data */

    /* As decoded; fvd_header_encode() computes its own and does not look at these. */
    uint32_t geometry_crc, state_crc;
    bool geometry_crc_wrong, state_crc_wrong; /* an old program has rewritten the header */

    /* All reserved bytes as they are, for they may be others'.  With has_ext the first FVD_EXT_BYTES are 0. */
    uint8_t reserved[FVD_RESERVED_BYTES];
} FvdHeader;

/**
 * fvd_header_probe() - how sure it is, 0 or 100, that a file that begins with these bytes is FVD
 *
 * Says yes to versions that cannot be opened too: opening then says why, where the format raw would
 * show a guest the inside of an image.
 */
int fvd_header_probe(const uint8_t *buf, size_t len);

/**
 * fvd_header_init() - a header with all defaults, of version 1, with the extension, cleanly shut down
 *
 * For a disk of no size, with no names and no regions: those are the caller's, and then
 * fvd_header_check() is to be asked.
 */
void fvd_header_init(FvdHeader *header);

/**
 * fvd_header_decode() - what the first bytes of a file say
 * @buf, @len: them, FVD_HEADER_BYTES at least; more are not looked at
 *
 * What it gives has passed fvd_header_check().  A wrong checksum is no error; nor is an unknown bit of
 * compatible or autoclear.
 *
 * Return: 0; -EINVAL, it is no FVD image or what one must not be; -ENOTSUP, it is one of a version, or
 * with a feature, that is not known here.  *ret_header is written on success only.
 */
int fvd_header_decode(const uint8_t *buf, size_t len, FvdHeader *ret_header, Error **errp);

/**
 * fvd_header_check() - whether a header is as the format's limits say, apart from the size of its file
 *
 * Return: 0; -EINVAL and -ENOTSUP as fvd_header_decode(), with the field, its value and the limit.
 */
int fvd_header_check(const FvdHeader *header, Error **errp);

/**
 * fvd_header_check_file() - whether all regions are inside the image file
 * @header:     passes fvd_header_check()
 * @file_bytes: size of the file the header is in
 *
 * Not the data: its chunks are where the table says, and a file ends where its last chunk does.  Nor
 * what is in a data file of its own.
 *
 * Return: 0; -EINVAL.
 */
int fvd_header_check_file(const FvdHeader *header, int64_t file_bytes, Error **errp);

/**
 * fvd_header_encode() - all FVD_HEADER_REGION bytes of it, with right checksums
 * @header: passes fvd_header_check(); one that does not could never be opened again
 */
void fvd_header_encode(const FvdHeader *header, uint8_t *ret_buf);

/**
 * fvd_header_encode_sector() - one sector of the same, FVD_SECTOR_BYTES of it
 * @sector: from the file's begin; FVD_SECTOR_STATE is right by itself, and after FVD_SECTOR_GEOMETRY was
 *          written its checksum is wrong until FVD_SECTOR_STATE is written too
 */
void fvd_header_encode_sector(const FvdHeader *header, unsigned sector, uint8_t *ret_buf);

/* What follows asks a header that passes fvd_header_check(). */

static inline bool fvd_header_has_bitmap(const FvdHeader *header)
{
    return header->bitmap_offset != 0;
}

static inline bool fvd_header_has_table(const FvdHeader *header)
{
    return header->table_offset != 0;
}

static inline bool fvd_header_has_journal(const FvdHeader *header)
{
    return header->journal_offset != 0;
}

/* fvd_header_chunks() - chunks of the disk, the last of them maybe in part; 0 where there is no table */
int64_t fvd_header_chunks(const FvdHeader *header);

/* fvd_header_blocks() - blocks that the bitmap is about, those of base_img_size; 0 without a bitmap */
int64_t fvd_header_blocks(const FvdHeader *header);

/* Where in the data's file the area of dirty bitmaps ends, of a header that passes fvd_header_check(); 0: there is none. */
static inline int64_t fvd_header_bitmaps_end(const FvdHeader *h)
{
    /* Without the bit these fields say nothing, and may be any number. */
    return h->autoclear & FVD_AUTOCLEAR_BITMAPS ? h->bitmaps_offset + h->bitmaps_size : 0;
}

/* Bytes of table and bitmap that are used, at most table_size and FVD_TABLE_USED_MAX, and so on. */
int64_t fvd_header_table_bytes(const FvdHeader *header);
int64_t fvd_header_bitmap_bytes(const FvdHeader *header);

/**
 * fvd_header_data_chunks() - chunks that the data area has room for: chunk numbers are below
 *
 * Before it meets another region, the end of what an entry can say, or that of 63 bits.  At least
 * fvd_header_chunks(), at most FVD_CHUNKS_MAX; 0 where there is no table.
 */
int64_t fvd_header_data_chunks(const FvdHeader *header);

#endif
