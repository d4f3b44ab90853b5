/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backup tells of its stage: members of query-block-jobs, and the event BACKUP_STAGING. */
#ifndef BLOCK_JOBS_BACKUP_REPORT_H
#define BLOCK_JOBS_BACKUP_REPORT_H

#include "block/copy/stage.h"
#include "block/jobs/blockjob.h"
#include "util/histogram.h"
#include "util/osdep.h"

/* A rate is the mean of so long; after so long without an end of one it is over. */
#define BACKUP_RATE_NS       NANOSECONDS_PER_SECOND
#define BACKUP_RATE_STALE_NS (5 * NANOSECONDS_PER_SECOND)

/* The room in use, in percent, that is worth an event, and below which there may be another. */
#define BACKUP_STAGING_HIGH 80
#define BACKUP_STAGING_LOW  60

/* Bytes a second, lately.  Nothing was done yet when zeroed. */
typedef struct BackupRate {
    /* The writer's: one thread. */
    int64_t start_ns, bytes;
    /* Atomic. */
    int64_t per_second, at_ns;
} BackupRate;

void backup_rate_add(BackupRate *rate, int64_t bytes, int64_t now_ns);
/* Any thread. */
int64_t backup_rate_get(const BackupRate *rate, int64_t now_ns);

/* Whether the last word was that there is little room.  False when zeroed. */
typedef struct BackupStagingAlarm {
    bool raised;
} BackupStagingAlarm;

/*
 * backup_watch_staging() - the room in use has changed
 *
 * Emits BACKUP_STAGING when it has risen above BACKUP_STAGING_HIGH, once until it has been below
 * BACKUP_STAGING_LOW.  Cheap; job's AioContext; does not yield.
 */
void backup_watch_staging(BlockJob *job, BackupStagingAlarm *alarm, int64_t staged, int64_t limit);

/* The event, from any thread.  None for a job without an id. */
void backup_emit_staging(BlockJob *job, int percent, int64_t staged, int64_t limit);

/* Any thread: fills in staged-*, captured, guest-wait-*, store-rate. */
void backup_report_query(const StageStats *stage, const Histogram *guest_wait,
                         const BackupRate *stored, int64_t now_ns, BlockJobInfoBackup *info);

#endif
