/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.h - what is wrong with table, bitmap and journal of an FVD image, all of it, and what they are once repaired
 *
 * Where opening an image stops at the first damage, a check goes on.  Everything is in memory; no I/O, nothing yields.
 */
#ifndef BLOCK_DRIVERS_FVD_LAYOUT_CHECK_H
#define BLOCK_DRIVERS_FVD_LAYOUT_CHECK_H

#include "block/drivers/fvd/layout/replay.h"

typedef enum FvdFaultKind {
    FVD_FAULT_OUT_OF_RANGE, /* the entry is a chunk that cannot be: above what the data area has */
    FVD_FAULT_TWICE,        /* the entry is a chunk that another one, of a lower number, is too */
} FvdFaultKind;

typedef struct FvdFault {
    FvdFaultKind kind;
    uint32_t entry, chunk;
    uint32_t other; /* of TWICE: the entry that has it too */
} FvdFault;

/* A table, entry for entry. */
typedef struct FvdTableCheck {
    GArray *faults;      /* of FvdFault, by chunk and then by entry */
    uint32_t allocated;  /* entries that are chunks */
    uint32_t fragmented; /* of them, those that do not follow the one before in the file */
    uint32_t used;       /* one more than the highest chunk that can be; 0 if there is none */
} FvdTableCheck;

/**
 * fvd_check_table() - look at all entries of a table
 * @table:  @entries words, little-endian, as on disk; DIRTY is masked
 * @chunks: their numbers are below
 * @ret:    for fvd_table_check_clear()
 *
 * Memory of its own: 8 bytes for each chunk in use, 12 for each fault.
 *
 * Return: 0, whatever was found; -ENOMEM.
 */
int fvd_check_table(const uint32_t *table, uint32_t entries, uint32_t chunks, FvdTableCheck *ret);
void fvd_table_check_clear(FvdTableCheck *check);

/* fvd_check_tail_bits() - bits that are set behind the last of @blocks in the last byte of the bitmap that is used */
uint8_t fvd_check_tail_bits(const uint8_t *bitmap, uint64_t blocks);

/**
 * fvd_check_journal() - replay a journal in memory, without the sectors that are damaged
 * @journal: as on disk; a damaged sector begins with zero afterwards, which makes it void
 * @table, @bitmap: become what they are after the replay, records with checksums left out
 * @print: is given the words for each damaged sector
 * @ret_damaged: how many there are
 * @ret_replay: for fvd_replay_free(); of what is left
 *
 * Of two sectors with one sequence neither can be trusted: both are damaged.
 *
 * Return: 0, whatever was found; -E2BIG, more than FVD_CHECK_JOURNAL_MAX sectors contradict others, and nothing more
 * can be said; -ENOMEM.
 */
int fvd_check_journal(uint8_t *journal, uint32_t n_sectors, const FvdJGeometry *g, uint32_t *table,
                      uint8_t *bitmap, FvdPrintFn *print, void *opaque, uint32_t *ret_damaged,
                      FvdReplay **ret_replay);

/* Each is found by a replay of its own; real damage is of few sectors. */
#define FVD_CHECK_JOURNAL_MAX 256

#endif
