/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The backup job from inside: what its files share. */
#ifndef BLOCK_JOBS_BACKUP_BACKUP_JOB_H
#define BLOCK_JOBS_BACKUP_BACKUP_JOB_H

#include "aio/timer.h"
#include "block/block_backup.h"
#include "block/copy/copy.h"
#include "block/copy/stage.h"
#include "block/jobs/backup.h"
#include "block/jobs/backup/options.h"
#include "block/jobs/backup/pace.h"
#include "block/jobs/backup/report.h"
#include "util/hbitmap.h"
#include "util/histogram.h"
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

/* Pieces, each with a buffer, whatever max-workers says: 256 MiB of memory at the most. */
#define BACKUP_SWEEP_CHUNKS_MAX 256

/*
 * Storers: staged clusters on their way to the target besides the sweep.  While guests are busy one keeps
 * the target from falling behind; more would come in front of the guests' own requests.
 */
#define BACKUP_STORERS      8
#define BACKUP_STORERS_BUSY 1
#define BACKUP_STORE_BYTES  (256 * KiB) /* one storer's buffer, or a cluster where that is larger */

/* Above this much of its room in use, what is staged is stored before the sweep comes to it. */
#define BACKUP_STAGE_PRESSURE 50

/* A failed piece is tried again (policy ignore) after this; a disk that fails at once must not spin us. */
#define BACKUP_RETRY_NS (100 * SCALE_MS)

/*
 * How long the target of a job that is cancelled, or broken, has for the flush that bitmap-mode always asks for.
 * Without it nothing is lost: the next incremental backup copies what this one has copied, too.
 */
#define BACKUP_LAST_FLUSH_NS (5 * NANOSECONDS_PER_SECOND)

/* B13: a target that has taken nothing for so long is not waited for. */
#define BACKUP_LAST_STORE_NS (5 * NANOSECONDS_PER_SECOND)

/* Why a backup breaks though both its disks may be well. */
typedef enum CowFault {
    COW_FAULT_READ,    /* the source, in front of a write */
    COW_FAULT_ROOM,    /* no room for old data in time */
    COW_FAULT_SCRATCH, /* the scratch did not give back what it took */
    COW_FAULT_LAST,    /* the target did not take the last of it (B13) */
} CowFault;

/* A store: clusters on their way to the target.  On the stack of its coroutine. */
typedef struct StoreOp {
    CowRequest req;
    int64_t held_start, held_end; /* clusters whose old data is in its buffer (G3) */
} StoreOp;

typedef QLIST_HEAD(CowRequestList, CowRequest) CowRequestList;

typedef struct BackupBlockJob {
    BlockJob common;

    /* Fixed once started. */
    BdrvChild *source, *target; /* owned by the job */
    BdrvChild *scratch;         /* the same; NULL: none */
    MirrorSyncMode sync_mode;
    BitmapSyncMode bitmap_mode;
    BdrvDirtyBitmap *sync_bitmap; /* busy while we run; NULL: none */
    BlockdevOnError on_source_error, on_target_error;
    int64_t len;
    int64_t cluster_size;
    int max_workers;
    int64_t max_chunk;
    int64_t sweep_bytes; /* of the sweep in flight while no guest is busy */
    int64_t cow_timeout_ns;
    BlockCopy copy;

    /* Job's AioContext. */
    NotifierWithReturn before_write;
    BdrvReadGuard read_guard; /* on the target, sync=none (B11) */
    bool notifier_added;
    bool ending; /* nothing more is copied in front of writes */
    CoRwlock
        flush_rwlock; /* read: a capture, a store or a zeroing is running; write: wait for them */
    HBitmap *done_bitmap;         /* one bit a cluster: in the target, or not wanted */
    CowRequestList inflight_reqs; /* of the exported API */
    CowRequestList guarded_reads; /* reads of the target by others */
    CowRequestList stores;        /* of StoreOp */
    Stage *stage;
    CopyPool *store_pool, *sweep_pool;
    BackupPace pace;
    BdrvLatencyObserver latency; /* of guests' requests */
    BackupStagingAlarm alarm;
    int cow_ret; /* first failure that lost old data: the instant is lost */
    CowFault cow_fault;
    bool target_flushed; /* bitmap-mode always: what is done is stable (I1) */
    unsigned checkpoints;

    /* store.c, job's AioContext. */
    int stores_running;   /* atomic: stores and scratch I/O past the gate */
    int readers_waiting;  /* atomic: for a store to end */
    CoQueue gate;         /* those that wait for a quiesce to end (R1) */
    CoQueue policy_queue; /* stores whose target failed, until the policy has spoken */
    unsigned retries;
    QLIST_HEAD(, Storer) storers;
    int n_storers;
    int64_t store_cursor;
    bool
        store_blocked; /* one could not read the source: none is sent until the policy has spoken */
    bool store_all;    /* nobody else will: what is staged is stored at once */
    HBitmap *last;     /* B13: the clusters that are stored still, and no others; NULL: any */
    HBitmap *lost;     /* B13, with last: those that were written since then, and not captured */
    bool sweep_rests;  /* paused, or asleep to keep its speed */

    /* Written in the job's AioContext, read anywhere. */
    Histogram guest_wait; /* of guests' writes, for us */
    BackupRate store_rate;

    /* The sweep, job's coroutine. */
    int sweep_in_flight;
    int sweep_parked;    /* of these, waiting, with nothing in flight */
    bool settling;       /* a piece of zeros is on its way */
    bool sweep_gave_way; /* when it last looked a write waited for room */
    CoQueue sweep_wait;  /* the planner, until a piece ends or the backup breaks */
    int sweep_ret;       /* first failure since last looked at */
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
/* Main thread: a quiesce of one of the job's nodes has begun or ended. */
void cow_drained_changed(BlockJob *job);
/* Main thread: the job is being cancelled; guests' writes go on though its target may not answer (B10). */
void cow_cancel(BackupBlockJob *job);
/* Job's AioContext: takes the notifier off, and waits until no write, no store and no reader is in the job. */
void coroutine_fn cow_end(BackupBlockJob *job);
/* The backup is broken or ending: writes pass, nothing more is stored. */
bool cow_is_over(const BackupBlockJob *job);
/* B7: old data is lost. */
void cow_break(BackupBlockJob *job, int ret, CowFault fault);
CowRequest *cow_find_overlapping(const CowRequestList *list, int64_t start, int64_t end);
/* The job has been stopped by an error, or goes on: readers that wait look again. */
void cow_wake_readers(BackupBlockJob *job);
/* A reader of the target in [start, end), by the API or guarded. */
CowRequest *cow_find_reader(const BackupBlockJob *job, int64_t start, int64_t end);
void cow_request_begin(CowRequest *req, CowRequestList *list, int64_t start, int64_t end);
void cow_request_end(CowRequest *req);
/* Mark clusters [start, end) done and count the bytes as progress. */
void cow_mark_done(BackupBlockJob *job, int64_t start, int64_t end);
int64_t cow_clusters(const BackupBlockJob *job);

/* store.c */
void store_init(BackupBlockJob *job, int64_t ram_bytes, int64_t scratch_bytes);
/*
 * backup_do_cow() - store what is not yet done of the clusters that [offset, offset + bytes) touches
 * @is_sweep: all of it, from the sweep's buffers; else what of it is staged, from the storers'
 */
int coroutine_fn backup_do_cow(BackupBlockJob *job, int64_t offset, int64_t bytes, bool is_sweep,
                               bool *ret_error_is_read);
/* Waits until no disk is quiesced and no reader and no other store overlaps, and enters the list of stores. */
void coroutine_fn store_begin(BackupBlockJob *job, StoreOp *op, int64_t start, int64_t end,
                              bool is_sweep);
void coroutine_fn store_end(BackupBlockJob *job, StoreOp *op);
/* Send storers for what is staged, if it is time. */
void store_kick(BackupBlockJob *job);
/* Something that the gate or a parked store looks at has changed. */
void store_wake(BackupBlockJob *job);
/* A checkpoint: what parked stores hold is old data of another instant, and makes nothing safe any more. */
void store_forget_held(BackupBlockJob *job);
/* For the error policy, which the planner applies. */
void store_note_failure(BackupBlockJob *job, int ret, bool is_read);
/* The policy says: again. */
void store_retry(BackupBlockJob *job);
/* B13: from now on only what is staged now is stored. */
void store_close(BackupBlockJob *job);
/* Is all of that in the target? */
bool store_is_closed(const BackupBlockJob *job);
/* B13: of an old write to these clusters, is any still to be stored? */
bool store_wants(const BackupBlockJob *job, int64_t start, int64_t end);
/* Around a reader's wait for stores: they go on meanwhile though the target is quiesced.  begin may yield. */
void coroutine_fn store_reader_begin(BackupBlockJob *job);
void store_reader_end(BackupBlockJob *job);
/* Main thread: is a store under way?  It makes many requests, with gaps. */
bool store_drained_poll(BlockJob *job);

/*
 * sweep.c: the whole of it.  Return: an error that the policy reports; 0 when all is done, and also when the
 * job was cancelled or has broken (ask the job, cow_ret).  Of the sweep only parked stores are left, which
 * cow_end() wakes.
 */
int coroutine_fn backup_sweep(BackupBlockJob *job);
/* sync=none: what guests overwrite, until it is cancelled (B13).  Return: as backup_sweep(). */
int coroutine_fn backup_wait_for_cancel(BackupBlockJob *job);

/* job.c: a flush of the target that is given up after BACKUP_LAST_FLUSH_NS. */
int coroutine_fn backup_flush_in_time(BackupBlockJob *job);

static inline int64_t backup_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* bitmap.c */
int backup_bitmap_check(const BackupJobArgs *args, Error **errp);
int backup_bitmap_freeze(BackupBlockJob *job, Error **errp);
void backup_bitmap_init_done(BackupBlockJob *job);
void backup_bitmap_finish(BackupBlockJob *job, bool success);

#endif
