/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a user may say of the stage, checked and made complete. */
#ifndef BLOCK_JOBS_BACKUP_OPTIONS_H
#define BLOCK_JOBS_BACKUP_OPTIONS_H

#include "qapi/qapi-types-block-job.h"
#include "util/error.h"
#include "util/osdep.h"

/*
 * Memory for old data.  32 MiB take what a busy guest overwrites in a second or so of a target's hiccup,
 * and are nothing beside the guest's own memory.  Less than a cluster of the job would make every write
 * wait for the target; 64 GiB is more than any guest overwrites while a target is away for cow-timeout,
 * and a number above it is a slip of the unit.
 */
#define BACKUP_STAGE_RAM_DEFAULT (32 * MiB)
#define BACKUP_STAGE_RAM_MIN     (64 * KiB)
#define BACKUP_STAGE_RAM_MAX     (64 * GiB)

/*
 * How long a guest's write waits for room.  Guests give a disk up after a minute or two (Linux's and
 * Windows' SCSI disks after 30 to 60 s, then they try again): the backup breaks before that.
 */
#define BACKUP_COW_TIMEOUT_DEFAULT_S 45

typedef struct BackupStageArgs {
    int64_t ram_bytes;
    int64_t scratch_bytes;  /* 0: no scratch; -1: all there is, see scratch_limit() */
    char *scratch_folder;   /* owned; NULL: no scratch in a folder */
    char *scratch_node;     /* owned; NULL: no node */
    int64_t cow_timeout_ns; /* 0: wait as long as it takes */
} BackupStageArgs;

/*
 * backup_stage_check() - @stage (NULL: nothing was said) with its defaults
 *
 * Values only: whether the folder or the node can be used shows when it is opened.  Environment of the
 * process: reads $TMPDIR.  Return: 0; -EINVAL with the option's name in @errp, @ret is untouched.
 */
int backup_stage_check(const BackupStage *stage, BackupStageArgs *ret, Error **errp);
void backup_stage_args_clear(BackupStageArgs *args);

#endif
