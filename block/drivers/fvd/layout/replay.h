/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay.h - what table and bitmap are after a crash: what they say themselves, and what the journal says beyond it
 *
 * The whole journal is in memory, and so are table and bitmap; nothing here does I/O, and nothing yields.  Memory of
 * its own: 16 bytes for each sector that is to be read.  One replay is one thread's.
 *
 *   1. fvd_replay_new()       sorts the sectors: void ones out, the others into the order in which they were written
 *   2. fvd_replay_apply()     plain records into table and bitmap
 *   3. fvd_replay_next_sum()  block after block whose data has to be looked at, by who can do I/O; right: he sets the bit
 *   4. fvd_table_check()      no chunk twice
 *
 * then table and bitmap are written, flushed, and the header's stable epoch is set to next_epoch.  All of it may be
 * done again at any moment before that, with the table and bitmap that are on disk by then: the outcome is the same.
 */
#ifndef BLOCK_DRIVERS_FVD_REPLAY_H
#define BLOCK_DRIVERS_FVD_REPLAY_H

#include "block/drivers/fvd/layout/jrecord.h"

typedef struct FvdReplay FvdReplay;

/* What was found; counts are of sectors. */
typedef struct FvdReplayInfo {
    uint32_t empty, torn, no_trailer, old; /* not to be read */
    uint32_t untagged;      /* to be read, but without a trailer: from an old program */
    uint32_t valid;         /* to be read, the former included */
    uint64_t next_epoch;    /* above every epoch that was seen, and the stable one */
    uint64_t next_sequence; /* above every sequence that was seen; 1 in an empty journal */
} FvdReplayInfo;

/* A block whose bit is to be set if its data, as the table stands now, has this CRC32C. */
typedef struct FvdReplaySum {
    uint64_t block;
    uint32_t crc;
} FvdReplaySum;

/**
 * fvd_replay_new() - put the sectors of a journal in order
 * @journal: @n_sectors * FVD_JSECTOR_SIZE bytes; borrowed, unchanged, until fvd_replay_free()
 * @g: copied
 *
 * Return: a replay, for fvd_replay_free(); NULL with an Error, damage: two sectors with one sequence, a sector without
 * trailer where REMAP needs one, a number that leaves none above it.
 */
FvdReplay *fvd_replay_new(const uint8_t *journal, uint32_t n_sectors, const FvdJGeometry *g,
                          Error **errp);

/* Sectors without which a replay comes further: the one that is damaged, or two that contradict each other. */
typedef struct FvdReplayDamage {
    unsigned n_sectors; /* 0: it is not the sectors' fault */
    uint32_t sectors[2];
} FvdReplayDamage;

/* The same for a check: with an error *ret_damage says where. */
FvdReplay *fvd_replay_new_or_damage(const uint8_t *journal, uint32_t n_sectors,
                                    const FvdJGeometry *g, FvdReplayDamage *ret_damage,
                                    Error **errp);
int fvd_replay_apply_or_damage(FvdReplay *r, uint32_t *table, uint8_t *bitmap,
                               FvdReplayDamage *ret_damage, Error **errp);

/* fvd_replay_free() - NULL is fine */
void fvd_replay_free(FvdReplay *r);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FvdReplay, fvd_replay_free)

/* fvd_replay_info() - what was found; next_epoch takes table records into account after fvd_replay_apply() */
const FvdReplayInfo *fvd_replay_info(const FvdReplay *r);

/**
 * fvd_replay_apply() - put what the records say into table and bitmap
 * @table: g->table_entries words, little-endian, as on disk; NULL if there are none
 * @bitmap: a bit for each of g->blocks, as on disk; NULL if there are none.  Borrowed until fvd_replay_free()
 *
 * Each record is checked before it is applied.  Entries that are set have no DIRTY; others stay as they were.
 *
 * Return: 0; -EIO, damage: an Error names sector and byte, table and bitmap have what came before it.
 */
int fvd_replay_apply(FvdReplay *r, uint32_t *table, uint8_t *bitmap, Error **errp);

/**
 * fvd_replay_next_sum() - the next block that is recorded with its checksum, and whose bit is not set
 *
 * After fvd_replay_apply().  Bits that were set meanwhile count; a block may come again with another checksum: one that
 * is right is enough.
 *
 * Return: true, *ret_sum is valid; false, there are no more, and the next call begins anew.
 */
bool fvd_replay_next_sum(FvdReplay *r, FvdReplaySum *ret_sum);

/**
 * fvd_table_check() - chunks are in use once, and exist
 * @table: @entries words, little-endian; DIRTY is masked
 * @chunks: their numbers are below
 * @ret_used: one more than the highest in use, 0 if none is
 *
 * Memory of its own, at most twice as large as the table.
 *
 * Return: 0; -EIO, damage: an Error names the entry; -ENOMEM.  With an error *ret_used is left alone.
 */
int fvd_table_check(const uint32_t *table, uint32_t entries, uint32_t chunks, uint32_t *ret_used,
                    Error **errp);

#endif
