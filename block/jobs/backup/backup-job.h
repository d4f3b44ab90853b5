/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The backup job from inside: what its files share. */
#ifndef BLOCK_JOBS_BACKUP_BACKUP_JOB_H
#define BLOCK_JOBS_BACKUP_BACKUP_JOB_H

#include "block/block_backup.h"
#include "block/copy/copy.h"
#include "block/jobs/backup.h"
#include "util/hbitmap.h"
#include "util/osdep.h"

#define BACKUP_CLUSTER_SIZE_DEFAULT (64 * KiB)

/*
 * The sweep's piece.  1 MiB is where a disk's throughput stops growing with the size of a request
 * (tests/bench); larger pieces would only hold a guest's write to the same place longer.
 */
#define BACKUP_CHUNK_BYTES (1 * MiB)

/*
 * Bytes the sweep keeps in flight: one piece being read while another is written keeps a local disk
 * busy, and more only queues up in front of a guest's requests (measured: no gain from 4, 8 or 16 MiB).
 * Small pieces (an incremental backup of scattered clusters) make up for it by number.
 */
#define BACKUP_SWEEP_BYTES   (2 * MiB)
#define BACKUP_SWEEP_WORKERS 16

/* Pieces for which there are buffers, whatever max-workers says: 256 MiB of memory at the most. */
#define BACKUP_SWEEP_CHUNKS_MAX 256

/*
 * The same while the guest writes: one small piece.  A write of the guest then finds at most one request
 * of the sweep in front of it (measured: half of that again costs the backup a third of its speed and
 * gains the guest nothing, twice as much trebles its slowest writes).
 */
#define BACKUP_SWEEP_BUSY_BYTES (256 * KiB)
#define BACKUP_CHUNK_BUSY_BYTES (256 * KiB)

/* For so long after a write the guest counts as busy, whether the write had anything copied or not. */
#define BACKUP_BUSY_NS (20 * SCALE_MS)

/* Buffers for before-write copies, apart from the sweep's, so that they never wait for it. */
#define BACKUP_COW_CHUNKS 64

/* A failed piece is tried again (policy ignore) after this; a disk that fails at once must not spin us. */
#define BACKUP_RETRY_NS (100 * SCALE_MS)

typedef struct BackupBlockJob {
    BlockJob common;

    /* Fixed once started. */
    BdrvChild *source, *target; /* owned by the job */
    MirrorSyncMode sync_mode;
    BitmapSyncMode bitmap_mode;
    BdrvDirtyBitmap *sync_bitmap; /* busy while we run; NULL: none */
    BlockdevOnError on_source_error, on_target_error;
    int64_t len;
    int64_t cluster_size;
    int max_workers;
    int64_t max_chunk;
    int64_t sweep_bytes; /* bound of sweep_in_flight_bytes */
    BlockCopy copy;

    /* Job's AioContext. */
    NotifierWithReturn before_write;
    bool notifier_added;
    bool ending;           /* nothing more is copied in front of writes */
    CoRwlock flush_rwlock; /* read: a copy or a zeroing is running; write: wait for all of them */
    HBitmap *done_bitmap;  /* one bit a cluster: copied, or not wanted */
    QLIST_HEAD(, CowRequest) inflight_reqs;
    int cow_running;        /* atomic: before-write copies past the gate */
    bool above_is_quiesced; /* atomic, set by the main thread: the source or a node above it (B9) */
    CoQueue gate;           /* before-write copies that wait for a quiet target to be let go (B9) */
    CopyPool *cow_pool, *sweep_pool;
    int64_t last_write_ns;
    int cow_ret; /* first failure of a before-write copy: the instant is lost */
    bool cow_error_is_read;
    bool target_flushed; /* bitmap-mode always: what is done is stable (I1) */

    /* The sweep, job's coroutine. */
    int sweep_in_flight;
    int64_t sweep_in_flight_bytes;
    CoQueue sweep_wait; /* the planner, until a piece ends or a before-write copy fails */
    int sweep_ret;      /* first failure since last looked at */
    bool sweep_error_is_read;
    int64_t sweep_offset;
    int64_t retry_offset; /* where the failed piece began */
} BackupBlockJob;

static inline BackupBlockJob *backup_job_of(BlockJob *job)
{
    return container_of(job, BackupBlockJob, common);
}

/* cow.c */
void cow_init(BackupBlockJob *job);
void cow_add_notifier(BackupBlockJob *job);
/* Main thread: a quiesce of the source or the target has begun or ended. */
void cow_drained_changed(BlockJob *job);
/* Main thread: is a before-write copy under way?  It makes many requests of the target, with gaps. */
bool cow_drained_poll(BlockJob *job);
/* Job's AioContext: takes the notifier off, and waits until no write and no reader is in the job. */
void coroutine_fn cow_end(BackupBlockJob *job);
/*
 * backup_do_cow() - copy what is not yet copied of the clusters that [offset, offset + bytes) touches
 * @is_write_notifier: for a guest's write, from the buffers kept for those
 */
int coroutine_fn backup_do_cow(BackupBlockJob *job, int64_t offset, int64_t bytes,
                               bool is_write_notifier, bool *ret_error_is_read);
void coroutine_fn wait_for_overlapping_requests(BackupBlockJob *job, int64_t start, int64_t end);
void cow_request_begin(CowRequest *req, BackupBlockJob *job, int64_t start, int64_t end);
void cow_request_end(CowRequest *req);
/* Mark clusters [start, end) done and count the bytes as progress. */
void cow_mark_done(BackupBlockJob *job, int64_t start, int64_t end);
int64_t cow_clusters(const BackupBlockJob *job);

/*
 * sweep.c: the whole of it.  Return: an error that the policy reports; 0 when all is done, and also when the
 * job was cancelled or a before-write copy has failed (ask the job, cow_ret).  Nothing of it is in flight.
 */
int coroutine_fn backup_sweep(BackupBlockJob *job);

/* bitmap.c */
int backup_bitmap_check(const BackupJobArgs *args, Error **errp);
int backup_bitmap_freeze(BackupBlockJob *job, Error **errp);
void backup_bitmap_init_done(BackupBlockJob *job);
void backup_bitmap_finish(BackupBlockJob *job, bool success);

#endif
