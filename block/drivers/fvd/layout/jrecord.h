/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jrecord.h - the sectors of FVD's journal, and the records in them: how they are made, and how they are read
 *
 * docs/formats/fvd.rst, section Journal, says what each byte means.  No I/O here, no allocation, no lock: any thread,
 * as long as one sector is one thread's.  "Sector" alone is a sector of the journal; sectors of the disk are said so.
 *
 *   R1  A sector holds what the builder put there and zeros: nothing else of the memory gets into an image.
 *   R2  A bit is in a sector together with the table entries of its whole block, of those that the change has.  A change
 *       that needs several sectors is cut where both a chunk and a block end; each piece holds by itself.
 *   R3  A change that fits into one sector is not cut.
 *   R4  What is read is believed after it was held against FvdJGeometry, and only as far as the sector reaches.
 */
#ifndef BLOCK_DRIVERS_FVD_JRECORD_H
#define BLOCK_DRIVERS_FVD_JRECORD_H

#include <stdbool.h>
#include <stdint.h>
#include "block/drivers/fvd/layout/header.h"
#include "util/error.h"

#define FVD_JSECTOR_SIZE 512

/* A table entry's values that are no chunk, and the bit that is memory's alone. */
#define FVD_TABLE_EMPTY 0xFFFFFFFFu
#define FVD_TABLE_DIRTY 0x80000000u

/* What a record begins with. */
#define FVD_EMPTY_JRECORD      0u
#define FVD_BITMAP_JRECORD     0x3F2AB8EDu
#define FVD_TABLE_JRECORD      0xB4E6F7ACu
#define FVD_BITMAP_SUM_JRECORD 0x53DC91A6u

/* Bytes of a record before its entries or sums; of the plain bitmap record, all. */
#define FVD_BITMAP_JRECORD_SIZE     16
#define FVD_TABLE_JRECORD_SIZE      20
#define FVD_BITMAP_SUM_JRECORD_SIZE 16

/* The trailer: the bytes "QFVT", checksum, epoch, sequence. */
#define FVD_JTRAILER_OFFSET   488
#define FVD_JTRAILER_TAG      0x54564651u
#define FVD_JTRAILER_CRC      492
#define FVD_JTRAILER_EPOCH    496
#define FVD_JTRAILER_SEQUENCE 504

/* What records may take of a sector with a trailer; EMPTY_JRECORD is between. */
#define FVD_JSECTOR_CAPACITY (FVD_JTRAILER_OFFSET - 4)

/*
 * The highest epoch and sequence that are believed, as high as the header's may be.  Counting each nanosecond gets
 * there after 146 years; what is higher was not counted, and would leave too little above it to go on with.
 */
#define FVD_JCOUNT_MAX FVD_EPOCH_MAX

/*
 * What records are held against: sizes of the image, features, and the epoch of its header.  Whoever fills it in has
 * checked the header's limits: at most 2^53 sectors of the disk, chunks of at most 2^21 of them.
 */
typedef struct FvdJGeometry {
    uint64_t disk_sectors;
    uint32_t chunk_sectors; /* > 0 where there are table records to be written */
    uint32_t table_entries; /* 0: no table, and any record for it is damage */
    uint32_t chunks;        /* numbers of chunks are below; at most 0x7FFFFFFF */
    uint64_t block_sectors; /* > 0 where blocks > 0 */
    uint64_t blocks;        /* bits in the bitmap; 0: none, and any record for it is damage */
    uint64_t stable_epoch;
    bool trailers;   /* TRAILERS: a sector without one is void */
    bool block_sums; /* BLOCK_SUMS: there may be records with checksums */
    bool remap;      /* REMAP: entries change; each sector must have a trailer */
} FvdJGeometry;

/*
 * Blocks that count by their checksums alone, at any moment: after a crash all of them are read before the disk is there.
 * So many requests, or so many bytes, are a second or two of a slow disk.
 */
#define FVD_SUMS_MAX       4096
#define FVD_SUMS_BYTES_MAX (256 * MiB)

/* fvd_jsums_max() - the same for blocks of this size; at least one */
static inline uint32_t fvd_jsums_max(const FvdJGeometry *g)
{
    uint64_t most = FVD_SUMS_BYTES_MAX / FVD_JSECTOR_SIZE / MAX(g->block_sectors, 1);

    return (uint32_t)MIN(MAX(most, 1), FVD_SUMS_MAX);
}

/* fvd_jgeometry_init() - from a header that passes fvd_header_check() */
void fvd_jgeometry_init(FvdJGeometry *g, const FvdHeader *header);

/*
 * What one write wants recorded: table entries, and the bits of its blocks, plain or with checksums (one of the two,
 * or neither).  fvd_jsector_put() takes off it what it has put into a sector.
 *
 * The bits are those of the chunks from first_chunk on, or before it; entries may go on behind the last bit, where the
 * base has ended.
 */
typedef struct FvdJChange {
    uint64_t epoch; /* of the table record */
    const uint32_t *
        entries; /* little-endian, as in the table; DIRTY is masked.  Borrowed while there are any */
    uint32_t first_chunk, n_chunks;
    uint64_t first_sector; /* sectors of the disk; first_sector + n_sectors within it */
    uint32_t n_sectors;
    bool data_is_durable; /* that of these sectors, so that their record need not wait for it */
    uint64_t first_block;
    const uint32_t
        *sums; /* CRC32C of each block, in the host's order.  Borrowed while there are any */
    uint32_t n_blocks;
} FvdJChange;

/* A sector that is being made. */
typedef struct FvdJSector {
    uint8_t *buf; /* FVD_JSECTOR_SIZE bytes, borrowed until it is finished */
    unsigned used;
} FvdJSector;

/**
 * fvd_jpairs_possible() - whether R2 can be kept with this geometry
 *
 * False where one block is in more chunks than a sector has room for.  Entries and bits are then to be changes of
 * their own, and the bits to be written after the entries are durable.
 */
bool fvd_jpairs_possible(const FvdJGeometry *g);

/**
 * fvd_jchange_sectors() - how many sectors a change takes that begins with a new one
 *
 * At most as many begin anew if it goes on in one that is in use already.  Zero for a change without entries or bits.
 */
uint32_t fvd_jchange_sectors(const FvdJChange *change, const FvdJGeometry *g);

/* fvd_jsector_start() - @buf (any alignment) becomes an empty sector: zeros (R1) */
void fvd_jsector_start(FvdJSector *s, uint8_t *buf);

/**
 * fvd_jsector_put() - append records for @change, or for as much of it as fits
 * @change: loses what was put; one with entries and bits needs fvd_jpairs_possible()
 *
 * Return: true, all of it is in; false, the rest, which may be all (R3), is for the next sector.  A new sector always
 * takes something.
 */
bool fvd_jsector_put(FvdJSector *s, FvdJChange *change, const FvdJGeometry *g);

/* fvd_jsector_finish() - the trailer; nothing may be put afterwards.  */
void fvd_jsector_finish(FvdJSector *s, uint64_t epoch, uint64_t sequence);

/* What a sector is, in the order in which it is asked. */
typedef enum FvdJSectorKind {
    FVD_JSECTOR_EMPTY,           /* begins with zero */
    FVD_JSECTOR_VOID_TORN,       /* has a trailer, and the checksum is wrong */
    FVD_JSECTOR_VOID_NO_TRAILER, /* has none where TRAILERS is on */
    FVD_JSECTOR_VOID_OLD,        /* its epoch is below the stable one */
    FVD_JSECTOR_NO_TRAILER,      /* an old program's: to be read */
    FVD_JSECTOR_OK,              /* to be read */
} FvdJSectorKind;

typedef struct FvdJSectorHead {
    FvdJSectorKind kind;
    bool
        has_trailer; /* one whose checksum is right, also of an empty or old sector: then both numbers are valid */
    uint64_t epoch, sequence;
} FvdJSectorHead;

/* fvd_jsector_head() - what the FVD_JSECTOR_SIZE bytes at @sector are; whether records make sense is not asked */
FvdJSectorHead fvd_jsector_head(const uint8_t *sector, const FvdJGeometry *g);

/* A record as it was found, checked (R4). */
typedef struct FvdJRecord {
    uint32_t type; /* never EMPTY */
    unsigned at;   /* its first byte in the sector */
    bool
        stale; /* a table record of an epoch below the stable one: to be ignored, and not checked but for its size */
    uint64_t epoch; /* of a table record, else 0 */
    uint64_t first; /* sector of the disk, table entry or block */
    uint32_t count; /* of them; may be 0 */
    const uint8_t *
        words; /* entries or sums, borrowed from the sector: fvd_jrecord_entry(), fvd_jrecord_sum() */
} FvdJRecord;

typedef struct FvdJIter {
    const uint8_t *sector;
    uint32_t number;
    const FvdJGeometry *g;
    unsigned at, end;
    bool has_trailer;
} FvdJIter;

/**
 * fvd_jiter_start() - walk the records of a sector
 * @sector: FVD_JSECTOR_SIZE bytes; borrowed, as @g is, while the iterator is in use
 * @number: of the sector in the journal, for the words of an error
 */
void fvd_jiter_start(FvdJIter *it, const uint8_t *sector, uint32_t number,
                     const FvdJSectorHead *head, const FvdJGeometry *g);

/**
 * fvd_jiter_next() - the next record
 *
 * Return: 1, *ret_record is valid; 0, there are no more; -EIO, damage: an Error names sector and byte, and the walk
 * is over.
 */
int fvd_jiter_next(FvdJIter *it, FvdJRecord *ret_record, Error **errp);

/* Entry @i of a table record: FVD_TABLE_EMPTY, or a chunk, without DIRTY. */
uint32_t fvd_jrecord_entry(const FvdJRecord *record, uint32_t i);
/* Checksum @i of a bitmap record with checksums. */
uint32_t fvd_jrecord_sum(const FvdJRecord *record, uint32_t i);
/* The blocks of a plain bitmap record: the first, and how many, in a geometry it was checked against. */
uint64_t fvd_jrecord_blocks(const FvdJRecord *record, const FvdJGeometry *g, uint64_t *ret_first);

/* One line without a newline; borrowed until it returns. */
typedef void FvdPrintFn(void *opaque, const char *line);

/**
 * fvd_print_jrecords() - a sector as text for people: what it is, then its records, then, if so, what is damaged
 *
 * Nothing for an empty sector; only what it is for a torn one.
 */
void fvd_print_jrecords(const uint8_t *sector, uint32_t number, const FvdJGeometry *g,
                        FvdPrintFn *print, void *opaque);

#endif
