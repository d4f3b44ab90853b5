/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check-int.h - a check under way, shared by the files of this room */
#ifndef BLOCK_DRIVERS_QCOW2_CHECK_CHECK_INT_H
#define BLOCK_DRIVERS_QCOW2_CHECK_CHECK_INT_H

#include "block/drivers/qcow2/check/check.h"
#include "block/drivers/qcow2/check/counts.h"

typedef struct Check {
    BlockDriverState *bs;
    BdrvChild *file;
    Qcow2Header header; /* as in the file */
    Qcow2Geometry g;
    BdrvCheckResult *result;
    unsigned fix; /* BDRV_FIX_*; 0 while it is only looked */
    int64_t file_bytes;

    uint64_t *l1; /* the active one, in the processor's order; header.l1_size of them */
    uint64_t *reftable;
    uint64_t reftable_entries;
    GHashTable *blocks; /* numbers of the clusters that have refcount blocks */
    Qcow2Counts counts; /* references that were found */

    bool rebuild;      /* the refcount structure cannot be mended where it is */
    bool unseen;       /* a table could not be read: what it has looks like leaks (CK4) */
    bool unflushed;    /* something was written */
    bool drop_bitmaps; /* c->header names no bitmaps any more, the file's does */
    int64_t
        next_host; /* where the next cluster would lie if the disk were in one piece; 0: nowhere yet */
} Check;

/* check.c */
void G_GNUC_PRINTF(2, 3) qcow2_check_say(Check *c, const char *fmt, ...);
/*
 * One corruption, told with what is done about it before: "ERROR", or "Repairing".
 * @mendable: a repair of errors would mend it
 *
 * Return: it is to be mended now.
 */
bool G_GNUC_PRINTF(3, 4) qcow2_check_found(Check *c, bool mendable, const char *fmt, ...);
/* Writes, and remembers that a flush is due; a failure is told, and counted as one of the check. */
int coroutine_fn qcow2_check_co_write(Check *c, int64_t offset, int64_t bytes, const void *data);
int coroutine_fn qcow2_check_co_flush(Check *c);
/* @bytes of a table for qemu_vfree(); NULL: could not be read, which was told. */
void *coroutine_fn qcow2_check_co_read(Check *c, int64_t offset, int64_t bytes);
/* Whether a region can be in the file; told if not. */
bool qcow2_check_is_in_file(Check *c, uint64_t offset, uint64_t bytes);
/* A region of the file is referred to once more; false: it is not in the file, which was told. */
bool qcow2_check_count(Check *c, uint64_t offset, uint64_t bytes);

/* walk.c: an L1 table and all that is below; negative errno: cancelled. */
int coroutine_fn qcow2_check_co_walk(Check *c, uint64_t l1_offset, uint32_t l1_size, bool active);

/* tables.c: everything else that the header leads to */
int coroutine_fn qcow2_check_co_snapshots(Check *c);
void coroutine_fn qcow2_check_co_bitmaps(Check *c);
void coroutine_fn qcow2_check_co_refcounts(Check *c);
/* The header's copies in memory: c->l1, c->reftable, c->blocks. */
int coroutine_fn qcow2_check_co_load(Check *c, Error **errp);

/* Whether the cluster at @offset has the header, the L1 table, or refcounts: no other table can be there. */
bool qcow2_check_is_metadata(const Check *c, uint64_t offset);

/* compare.c */

/* Counts in the file against those that were found; told, and mended as c->fix says, but for what needs a rebuild. */
int coroutine_fn qcow2_check_co_compare(Check *c);
/* Counts of the file that are higher than what was found are taken over (CK4). */
int coroutine_fn qcow2_check_co_keep_counts(Check *c);

/* rebuild.c: a new refcount structure beside the old one, and the header that names it. */
int coroutine_fn qcow2_check_co_rebuild(Check *c, Error **errp);

/* copied.c: QCOW2_COPIED in the active tables against the counts in the file. */
int coroutine_fn qcow2_check_co_copied(Check *c);

/* check.c: c->header, durably. */
int coroutine_fn qcow2_check_co_store_header(Check *c, Error **errp);

#endif
