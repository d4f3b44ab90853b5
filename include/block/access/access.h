/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backup accesses: disks as they were at one instant, to be read by whoever backs them up, while they
 * are being written.  Main thread; co_ functions are coroutines of the main AioContext.
 */
#ifndef BLOCK_ACCESS_ACCESS_H
#define BLOCK_ACCESS_ACCESS_H

#include "block/graph/graph.h"
#include "util/osdep.h"

/*
 * Memory for old data, of each disk.  Eight of the pieces in which a stage writes to its scratch
 * (STAGE_SEGMENT_BYTES): a burst of 2000 small writes goes on at the speed of memory while two are being
 * written.  It is taken from the system only as it is used.
 */
#define BACKUP_ACCESS_RAM_BYTES (8 * MiB)
/* A stage's tables are a hundredth of this; who has more to keep puts the scratch into a tmpfs. */
#define BACKUP_ACCESS_RAM_MAX   (16 * GiB)
/* All of them stand still together at the instant: a bound of that. */
#define BACKUP_ACCESS_DISKS_MAX 256

typedef struct BackupAccess BackupAccess;

typedef struct BackupAccessDiskArgs {
    BlockDriverState *source; /* borrowed */
    const char *device;       /* what its user calls it; queries and events do too */
    const char *export;       /* the name under which its view will be offered; for queries alone */
    const char *bitmap;       /* a bitmap of @source; NULL: none */
    BlockDriverState *scratch; /* NULL: a file in the folder */
} BackupAccessDiskArgs;

typedef struct BackupAccessArgs {
    const char *id;
    const BackupAccessDiskArgs *disks;
    size_t n_disks;
    int64_t ram_bytes;          /* of each disk */
    int64_t scratch_bytes;      /* of each disk; -1: what the folder has free, 0: memory alone */
    const char *scratch_folder; /* NULL: the usual one */
} BackupAccessArgs;

/* An id that no access has; g_free() it. */
char *backup_access_new_id(void);

/*
 * backup_access_co_begin() - keep what the disks hold at an instant between call and return
 *
 * Yields; the disks stand still for a moment.  Return: the access; NULL with @errp set, nothing left behind.
 */
BackupAccess *coroutine_fn backup_access_co_begin(const BackupAccessArgs *args, Error **errp);

/*
 * backup_access_co_end() - let the disks go, and forget
 * @success: the bitmaps' bits from before the instant are dropped; else nothing of them is
 *
 * Yields.  Whoever still uses a view reads -EIO from now on; the view goes with its last user.
 */
void coroutine_fn backup_access_co_end(BackupAccess *access, bool success);
/* All there are, none of them a success.  Yields. */
void coroutine_fn backup_access_co_end_all(void);

BackupAccess *backup_access_find(const char *id);
BackupAccess *backup_access_next(BackupAccess *access); /* NULL: first */
const char *backup_access_id(const BackupAccess *access);
size_t backup_access_n_disks(const BackupAccess *access);
/* The read-only node that shows disk number @index at the instant; borrowed. */
BlockDriverState *backup_access_view(const BackupAccess *access, size_t index);

typedef struct BackupAccessDiskStats {
    const char *device, *export;
    int64_t ram_bytes, ram_limit, scratch_bytes, scratch_limit;
    const char *error; /* why its view is lost; NULL: it is not */
} BackupAccessDiskStats;
/* Strings are the access's. */
void backup_access_disk_stats(const BackupAccess *access, size_t index,
                              BackupAccessDiskStats *ret_stats);

#endif
