/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sector-model: what each sector of a disk may be, read now, or found after the power was cut.
 *
 * Every write has a number, and each sector it writes holds that number and the sector's own, so that a sector found
 * says who wrote it.  Three numbers are nobody's: what was never written (zeros), what the base has, and garbage.
 *
 *      time ------------------------------------------------------------->
 *      write a  |-------|
 *      write b                |----------|           b comes after a: whoever reads now does not find a
 *      write c                   |------------|      c and b: either
 *      flush                                    |-----|   0: after a cut neither a nor what was before
 *
 *   M1  A write may be found from its begin on.
 *   M2  Write a comes before write b if a had ended when b began; else either may be the last.
 *   M3  A read that begins after the end of b does not find what comes before b.
 *   M4  After a cut nothing is found that comes before a write b which had ended when a flush began that succeeded.
 *   M5  A write that failed has been done, or not, or in part; it ends nothing, and what begins later comes after it.
 *       So does a discard, which is advice: zeros, or nothing has happened.
 *   M6  What was seen with nothing in flight stays: of those that could have been last, one was.
 *
 * Sectors are of 512 bytes.  One thread.
 */
#ifndef TESTS_LIB_SECTOR_MODEL_H
#define TESTS_LIB_SECTOR_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR_MODEL_BYTES 512

/* Numbers of writes; those from SECTOR_MODEL_FIRST on are given by sector_model_write_begin(). */
enum {
    SECTOR_MODEL_ZEROS,
    SECTOR_MODEL_BASE,
    SECTOR_MODEL_FIRST,
    SECTOR_MODEL_GARBAGE = UINT32_MAX,
};

/* What sector @sector holds by write @id; which one has written this. */
void sector_model_fill(void *buf, uint32_t id, int64_t sector, int64_t n_sectors);
uint32_t sector_model_id(const void *buf, int64_t sector);

typedef struct SectorModel SectorModel;

/* The first @base_sectors are SECTOR_MODEL_BASE, the rest SECTOR_MODEL_ZEROS. */
SectorModel *sector_model_new(int64_t n_sectors, int64_t base_sectors);
void sector_model_free(SectorModel *m);
int64_t sector_model_sectors(const SectorModel *m);

typedef enum SectorModelKind {
    SECTOR_MODEL_WRITE,
    SECTOR_MODEL_ZEROES,
    SECTOR_MODEL_DISCARD,
} SectorModelKind;

/* Somebody is at work; his, until he has ended. */
typedef struct SectorModelOp {
    SectorModelKind kind;
    int64_t first, n;
    uint32_t id;
    uint32_t began; /* a moment, of which none is another's */
} SectorModelOp;

/* A write begins: its number is in @ret_op->id. */
void sector_model_write_begin(SectorModel *m, SectorModelKind kind, int64_t first, int64_t n,
                              SectorModelOp *ret_op);
/* @fua: it is durable as well. */
void sector_model_write_end(SectorModel *m, const SectorModelOp *op, int ret, bool fua);

/* A flush: the moment at which it began; @ret 0: M4. */
uint32_t sector_model_flush_begin(SectorModel *m);
void sector_model_flush_end(SectorModel *m, uint32_t began, int ret);

/* A read: what it may find.  Its end gives the first sector of @buf that is not as it may be, or -1. */
typedef struct SectorModelRead SectorModelRead;
SectorModelRead *sector_model_read_begin(SectorModel *m, int64_t first, int64_t n);
int64_t sector_model_read_end(SectorModel *m, SectorModelRead *read, const void *buf);
/* It failed. */
void sector_model_read_drop(SectorModelRead *read);
/* M6: the whole disk, with nothing in flight, checked before. */
void sector_model_seen(SectorModel *m, const void *buf);

/* What may be found if the power goes now. */
typedef struct SectorModelCut SectorModelCut;
SectorModelCut *sector_model_cut(const SectorModel *m);
void sector_model_cut_free(SectorModelCut *cut);
/* The first sector of @buf, the whole disk, that must not be so; -1: none. */
int64_t sector_model_cut_check(const SectorModelCut *cut, const void *buf);
/* "12 17 3": what the sector may be; g_free() it. */
char *sector_model_cut_describe(const SectorModelCut *cut, int64_t sector);

/*
 * After the disk was closed, with what is in memory lost, and opened again, with power all the time: @buf is what is
 * read from now on, nothing in flight.  What is durable is not another.
 */
void sector_model_reopen(SectorModel *m, const void *buf);

/* After the power is back: the disk is this, and all of it durable. */
void sector_model_restart(SectorModel *m, const void *buf);

#endif
