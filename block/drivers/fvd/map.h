/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * map.h - table and bitmap of an open FVD image, in memory: where a byte is, what a write needs, what a checkpoint says
 *
 * Pure: no I/O, no lock, nothing yields; one AioContext.  Sizes of one of the disk's units are in names: chunks, blocks;
 * the rest is bytes.
 *
 * An entry of the table, and who makes the transition (map.c has the rules MP1 to MP7):
 *
 *            fvd_map_take()           fvd_map_journaled()            fvd_map_durable()
 *     EMPTY ----------------> DIRTY ----------------------> JOURNALED ------------------> DURABLE
 *       ^                       |                               |                            |
 *       +---- fvd_map_untake() -+                               |        fvd_map_free()      |
 *       ^                                                       v                            v
 *       +------- fvd_map_durable() ------------------------- EMPTY, and the record that says so not yet durable
 *
 * A block:
 *
 *     in the base --fvd_map_set_fresh()--> fresh --fvd_map_journaled()--> journaled --fvd_map_durable()--> stale
 *
 * Fresh and more is "in the image" for who reads; stale is what the bitmap of the file may say.  A soft write (of
 * copy-on-read, of prefetching) stops at fresh: lost, it is done again.
 */
#ifndef BLOCK_DRIVERS_FVD_MAP_H
#define BLOCK_DRIVERS_FVD_MAP_H

#include "block/drivers/fvd/layout/jrecord.h"

typedef struct FvdMap FvdMap;

/* What a checkpoint writes as one. */
#define FVD_MAP_PAGE   (4 * KiB)
/* Halves of the journal. */
#define FVD_MAP_HALVES 2

/**
 * fvd_map_new() - a map in which all is EMPTY and in the base
 * @header: passes fvd_header_check(); only looked at
 *
 * Memory: the table, and of the bitmap what is touched (16 MiB and at most 8 MiB for a disk of 4 TiB with chunks of
 * 1 MiB and blocks of 64 KiB).  Beyond it, only where it is needed: the bitmap twice more, where blocks were written;
 * the table once more, where chunks were given back; a bit for each chunk.
 *
 * Return: a map, for fvd_map_delete(); NULL with an Error, there is not enough memory.
 */
FvdMap *fvd_map_new(const FvdHeader *header, Error **errp);

/* fvd_map_delete() - NULL is fine */
void fvd_map_delete(FvdMap *map);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FvdMap, fvd_map_delete)

/*
 * The memory of both, as on disk: fvd_header_table_bytes() and fvd_header_bitmap_bytes() of it, NULL if there are none.
 * To be filled from the file, and by fvd_replay_apply(), before fvd_map_start(); then the map's alone.
 */
uint32_t *fvd_map_table(FvdMap *map);
uint8_t *fvd_map_bitmap(FvdMap *map);

/**
 * fvd_map_start() - take what is in table and bitmap now as durable; before all that follows
 *
 * Masks DIRTY, clears bits behind the last block, looks for the highest chunk in use.
 *
 * Return: 0; -EIO, damage: an Error names the entry; -ENOMEM.
 */
int fvd_map_start(FvdMap *map, Error **errp);

/* Reading */

typedef enum FvdMapKind {
    FVD_MAP_BASE, /* in the base image, at the same offset, all of it below base_img_size */
    FVD_MAP_ZERO, /* in the image, and zeros */
    FVD_MAP_DATA, /* in the data file, in one piece */
} FvdMapKind;

/**
 * fvd_map_read() - what the first of these bytes are, and how many are the same
 * @bytes:     > 0; offset + bytes within the disk
 * @ret_bytes: the longest run, at most @bytes, across chunks that follow each other in the file
 * @ret_host:  of FVD_MAP_DATA: its place in the data file, data_offset included; else left alone
 *
 * A chunk counts as data from fvd_map_take() on: who takes one keeps readers and other writers off it until it reads as
 * zeros.
 */
FvdMapKind fvd_map_read(const FvdMap *map, int64_t offset, int64_t bytes, int64_t *ret_bytes,
                        int64_t *ret_host);

/**
 * fvd_map_place() - where in the data file these bytes are, whatever the bitmap says
 * @bytes: > 0; offset + bytes within the disk
 * @ret_bytes: the longest run of one answer, at most @bytes, across chunks that follow each other in the file
 *
 * Return: the place, data_offset included; -1: there is none, the entry is EMPTY.
 */
int64_t fvd_map_place(const FvdMap *map, int64_t offset, int64_t bytes, int64_t *ret_bytes);

/* Writing */

/*
 * What a write needs.  Its first and last block are copied from the base where it covers them in part only:
 * [start, offset) and [offset + bytes, end), either of which may be empty, are to be read from there and written too.
 */
typedef struct FvdMapNeed {
    int64_t start, end; /* the write, with what is copied */
    /* Chunks that it touches, and those of all blocks that are to be recorded; none without a table. */
    uint32_t first_chunk, n_chunks;
    uint32_t n_empty; /* of them, to be taken */
    /* Blocks that it makes stand in the image; none behind the base. */
    uint32_t first_block, n_blocks;
    bool record_table, record_bitmap; /* some of them are not in the journal yet */
} FvdMapNeed;

/**
 * fvd_map_write_need() - what is to be copied, taken and journaled for a write
 * @bytes: > 0; offset + bytes within the disk
 */
void fvd_map_write_need(const FvdMap *map, int64_t offset, int64_t bytes, FvdMapNeed *ret_need);

/* fvd_map_empty_run() - the first run of EMPTY entries in a range: how many, 0 if there are none, and from where */
uint32_t fvd_map_empty_run(const FvdMap *map, uint32_t first_chunk, uint32_t n_chunks,
                           uint32_t *ret_first);

/**
 * fvd_map_take() - give each EMPTY entry of a range a chunk of its own; the others stay as they are
 * @ret_used_before: NULL, or set to whether one of these chunks was given back before, so that it holds old data
 *                   wherever the file ends
 *
 * They are DIRTY.  Chunks that follow each other, as far as possible.
 *
 * Return: 0; -ENOSPC, the limit: nothing was taken.
 */
int fvd_map_take(FvdMap *map, uint32_t first_chunk, uint32_t n_chunks, bool *ret_used_before);

/**
 * fvd_map_untake() - the DIRTY entries of a range become EMPTY, their chunks may be taken again at once
 * @untouched: nobody has ever written to chunks from here on: those that end up behind all others are not in use
 *
 * For who failed to write, as long as nobody else writes there: another's acknowledged data may be in that chunk.  Who
 * is not sure leaves them DIRTY, and the next write journals them.
 */
void fvd_map_untake(FvdMap *map, uint32_t first_chunk, uint32_t n_chunks, uint32_t untouched);

/* fvd_map_is_dirty() - whether the chunk of this entry is in no record: given up, it may be another's at once */
bool fvd_map_is_dirty(const FvdMap *map, uint32_t chunk);

/**
 * fvd_map_free() - the entries of a range become EMPTY
 *
 * Needs REMAP.  fvd_map_journaled() of the range follows in the same step: space for the record is reserved before.
 * Chunks may be taken again once that record is durable (F8); DIRTY ones, which no record names, at once.  So nobody
 * reads there any more: who has looked a chunk up could get another's data from it.
 *
 * Return: whether an entry has changed that a record names, or may name: if not, none is needed now.
 */
bool fvd_map_free(FvdMap *map, uint32_t first_chunk, uint32_t n_chunks);

/* fvd_map_is_recorded() - whether a record has this block, durable or not */
bool fvd_map_is_recorded(const FvdMap *map, uint32_t block);

/* fvd_map_set_fresh() - these blocks are in the image, for who reads; their data is there */
void fvd_map_set_fresh(FvdMap *map, uint32_t first_block, uint32_t n_blocks);

/* fvd_map_soft_run() - the first run of blocks from @from on that are fresh and in no record: how many, and from where */
uint32_t fvd_map_soft_run(const FvdMap *map, uint32_t from, uint32_t *ret_first);

/* Chunks of the data file: 1 + the highest that is or was in use.  Raised, it keeps what is below for others. */
uint32_t fvd_map_used(const FvdMap *map);
void fvd_map_raise_used(FvdMap *map, uint32_t used);
/* Chunks that can be taken still. */
uint64_t fvd_map_available(const FvdMap *map);
/* The data file holds so many chunks; never more than fvd_header_data_chunks(), which it is at the start. */
void fvd_map_set_limit(FvdMap *map, int64_t chunks);

/*
 * fvd_map_find_free() - chunks below the highest in use that no entry names may be taken: given back in other times
 *
 * Once, before the first fvd_map_take().  They hold old data.  Return: 0; -ENOMEM, and none is found.
 */
int fvd_map_find_free(FvdMap *map);

/* fvd_map_forget_base() - nothing is in the base any more: base_img_fully_prefetched is durable */
void fvd_map_forget_base(FvdMap *map);

/* Journal */

/**
 * fvd_map_change() - the change that is to be journaled: these entries and blocks, as they are now
 * @ret_change: borrows the map's table: to be put into sectors in the same step
 */
void fvd_map_change(const FvdMap *map, uint32_t first_chunk, uint32_t n_chunks,
                    uint32_t first_block, uint32_t n_blocks, uint64_t epoch,
                    FvdJChange *ret_change);

/**
 * fvd_map_journaled() - a record has these entries and blocks, as they are now
 * @half:     of the journal it will be in
 * @sequence: of the last sector it is in, or any number that says when it is durable; never less than the last one
 *
 * In the same step in which the change was put into a sector.  Entries are not DIRTY any more, blocks are fresh.
 * Memory: 24 bytes for each run of chunks or blocks until it is durable.
 */
void fvd_map_journaled(FvdMap *map, uint32_t first_chunk, uint32_t n_chunks, uint32_t first_block,
                       uint32_t n_blocks, unsigned half, uint64_t sequence);

/**
 * fvd_map_durable() - records up to this sequence are durable, all of them
 *
 * Only now checkpoints have what they say, and chunks that they gave back may be taken.  After one was lost: only those
 * before it, for ever.
 */
void fvd_map_durable(FvdMap *map, uint64_t sequence);

/* Checkpoint */

/**
 * fvd_map_next_page() - the first page that durable records of a half have changed
 * @from: where to look from; 0, then the last one + 1
 *
 * Pages of the table come first.
 *
 * Return: its number, or -1: there is none from there on.
 */
int64_t fvd_map_next_page(const FvdMap *map, unsigned half, int64_t from);

/**
 * fvd_map_copy_page() - what this page of the file is to be now; it counts as unchanged by this half then
 * @buf:        FVD_MAP_PAGE bytes
 * @ret_offset: in the image file
 *
 * Has what is durable, of whichever half, and nothing else (F6).  The half may be filled again after all its records
 * are durable, and all its pages; a page whose write failed is put back by fvd_map_mark_page().
 *
 * Return: how many bytes of @buf are to be written, a multiple of FVD_REGION_ALIGN_OLD.
 */
size_t fvd_map_copy_page(FvdMap *map, unsigned half, int64_t page, uint8_t *buf,
                         int64_t *ret_offset);

/* fvd_map_mark_page() - the page counts as changed by the half */
void fvd_map_mark_page(FvdMap *map, unsigned half, int64_t page);

/* Of table and bitmap together; all of them are to be written after a replay. */
int64_t fvd_map_pages(const FvdMap *map);

#endif
