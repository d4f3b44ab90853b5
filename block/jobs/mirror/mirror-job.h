/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mirror job from inside: what its files share. */
#ifndef BLOCK_JOBS_MIRROR_MIRROR_JOB_H
#define BLOCK_JOBS_MIRROR_MIRROR_JOB_H

#include "aio/timer.h"
#include "block/copy/copy.h"
#include "block/jobs/mirror.h"
#include "block/jobs/mirror/dirty.h"
#include "block/jobs/mirror/heat.h"
#include "util/hbitmap.h"
#include "util/osdep.h"

#define MIRROR_GRANULARITY_DEFAULT (64 * KiB)

/* Data in flight: sixteen of the longest operations.  Bounds the memory, whatever disk or guest. */
#define MIRROR_BUF_BYTES_DEFAULT (16 * MiB)

/*
 * Operations in flight.  Enough that a server a few milliseconds away is kept busy with 1 MiB each, or a disk
 * with scattered 4 KiB; a local disk gains nothing from more.
 */
#define MAX_IN_FLIGHT 16

/* The longest run in one operation: where a disk's throughput stops growing with the request. */
#define MIRROR_RUN_BYTES  (1 * MiB)
/* And in chunks: a request's iovec stays below what the kernel takes. */
#define MIRROR_RUN_CHUNKS 512

/* Zeros need no buffer; a step bounds the time for which guests may have to wait for one operation. */
#define MIRROR_ZERO_STEP_BYTES (16 * MiB)
/* A run at least so long is worth a question whether it is a hole. */
#define MIRROR_STATUS_BYTES    (256 * KiB)
/* Zeros are looked for, in what was read, in pieces of this. */
#define MIRROR_ZERO_PIECE      (64 * KiB)
/* Parts of a chunk nearer than this are copied as one: a request costs more than so many bytes. */
#define MIRROR_GAP_BYTES       (16 * KiB)

/* Memory for fine maps: 16 GiB of scattered small writes in chunks of 64 KiB. */
#define MIRROR_FINE_BYTES (16 * MiB)

/* A failed operation is tried again (policy ignore) after this; a disk that fails at once must not spin us. */
#define MIRROR_RETRY_NS (100 * SCALE_MS)
/* In step, between two rounds over what guests have written since: what is hot is copied once a round. */
#define MIRROR_ROUND_NS (10 * SCALE_MS)

/* M6: guests may be stopped for the switch-over when what is dirty takes less than this. */
#define MIRROR_LEVEL_NS      (20 * SCALE_MS)
/*
 * M6: and are let go, to try again, when it takes longer than this after all; the next time twice as long, for a
 * target that needs longer always, up to what a guest's disk may well be silent for.
 */
#define MIRROR_SETTLE_NS     (300 * SCALE_MS)
#define MIRROR_SETTLE_MAX_NS (INT64_C(10000) * SCALE_MS)

/* TH2: a guest's write that goes through waits no longer than this for a target that stands still. */
#define MIRROR_THROUGH_NS     (50 * SCALE_MS)
/* And so long, two times at the most, for one that goes on, or is so far away. */
#define MIRROR_THROUGH_MAX_NS (500 * SCALE_MS)

/* The copy rate is taken over so much time with something in flight. */
#define MIRROR_RATE_NS (50 * SCALE_MS)

/* Who drives the operations, and stops them for a quiesce. */
typedef enum MirrorPhase {
    MIRROR_RUNNING, /* the job's coroutine, then prepare() (finish.c) */
    MIRROR_OVER,    /* nobody: guests' writes pass */
} MirrorPhase;

typedef struct MirrorWaiter MirrorWaiter;

typedef struct MirrorBlockJob {
    BlockJob common;

    /* Fixed once started. */
    BdrvChild *source, *target; /* owned by the job */
    MirrorSyncMode sync_mode;
    char *replaces;
    BlockDriverState *target_backing; /* counted; NULL: none */
    BlockDriverState *base;           /* sync=top: what is there or below is not copied */
    bool target_is_zero, unmap;
    BlockdevOnError on_source_error, on_target_error;
    int64_t len;
    int64_t granularity;
    int64_t cow_cluster; /* 0: no rounding */
    unsigned max_chunks;
    int64_t cancel_timeout_ns; /* M8 */

    /* Main thread. */
    bool pivot;              /* complete was asked for */
    bool pivoting;           /* too late for a cancel */
    CoQueue quiet_queue;     /* prepare(), while somebody has quiesced our nodes */
    int64_t settle_ns;       /* M6: of the next try */
    QEMUTimer *cancel_timer; /* from a forced cancel on; NULL: none */

    /* Atomic. */
    int copy_mode;      /* MirrorCopyMode */
    bool should_end;    /* complete, or a cancel of a READY job */
    bool engine_active; /* prepare() drives operations: a quiesce waits */
    int active_running; /* guests' writes that are writing to the target */
    int in_flight;      /* operations */
    bool ready;
    bool giving_up; /* M8: nothing is begun in the target any more */

    /* Job's AioContext. */
    MirrorPhase phase;
    BdrvWriteTap tap;
    bool tap_set;
    QLIST_HEAD(, BdrvTapWrite) writes; /* of guests, past before() */
    unsigned
        tap_calls; /* guests' writes that wait in before() or after(), or go on without their guest */
    unsigned through_left;   /* of these, the last kind */
    unsigned through_chunks; /* buffers of writes that go through */
    MirrorDirty dirty;
    HBitmap *in_flight_bitmap; /* one bit a chunk; its items are bytes */
    HBitmap *cow_bitmap;       /* chunks whose cluster the target has; NULL: no rounding */
    CopyPool *buf;             /* chunks of the granularity, and their free list */
    CoQueue wait;              /* anybody, until an operation or a guest's write has ended */
    QTAILQ_HEAD(, MirrorWaiter) waiters; /* the same, with patience: through.c */
    uint64_t tickets;                    /* of these, so far */
    QemuCoSleep settle_sleep;            /* prepare(), the same, */
    int64_t deadline_ns;                 /* with a limit while this is not 0 */
    bool idle;                           /* the planner sleeps until something is dirty */
    int64_t bytes_in_flight;
    int64_t cursor;
    bool first_pass;              /* what was dirty from the start is not all begun */
    int64_t hint_start, hint_end; /* what the source said lately of this range, */
    bool hint_zero;               /* to be asked again inside the operation */
    int ret;                      /* first failure since last looked at */
    bool error_is_read;
    int flush_ret;
    bool flushing;

    /* rate.c */
    int64_t rate_bytes, rate_ns, busy_since_ns; /* copied, of the window under way */
    int64_t copy_rate;                          /* atomic: bytes a second, lately; 0: not known */
    int64_t able_rate; /* atomic: the same, while there was enough to copy: R7 */
    MirrorHeat heat;
    int64_t window_start_ns; /* atomic for those who only ask */
    int64_t window_dirtied;  /* by guests */
    int64_t window_dirty;    /* when it began */
    int64_t dirty_rate;      /* atomic: of the last window */
    int64_t behind_since_ns;
    int64_t quiet_since_ns[MIRROR_HEAT_ALL]; /* since when a level would have done */
    int64_t narrowed_ns, quiet_ns;           /* R8 */
    int through_level;                       /* atomic: of the heat; what is hot goes through */
    int64_t through_bytes;                   /* atomic: of the disk */
    int64_t answered_ns; /* atomic: when the last of what was in flight ended, or it began */
    int64_t failed_ns;   /* atomic */
    bool failed_read;    /* atomic */
    int64_t guest_ns;    /* the last write of a guest */
    int depth;           /* operations, at most */
    int64_t best_ns, depth_changed_ns;
} MirrorBlockJob;

static inline MirrorBlockJob *mirror_job_of(BlockJob *job)
{
    return container_of(job, MirrorBlockJob, common);
}

static inline int64_t mirror_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* What of the heat goes to the target at once; any thread. */
static inline int mirror_through_level(const MirrorBlockJob *s)
{
    return __atomic_load_n(&s->through_level, __ATOMIC_SEQ_CST);
}

/* Something of what was in flight has ended, or it was nothing. */
static inline void mirror_note_answer(MirrorBlockJob *s)
{
    __atomic_store_n(&s->answered_ns, mirror_now(), __ATOMIC_RELAXED);
}

/* Chunks that an operation could take now. */
static inline unsigned mirror_buf_free_count(const MirrorBlockJob *s)
{
    return s->max_chunks - copy_pool_in_use(s->buf);
}

/* M8 */
static inline bool mirror_gives_up(const MirrorBlockJob *s)
{
    return __atomic_load_n(&s->giving_up, __ATOMIC_SEQ_CST);
}

/* op.c */
/* Is any chunk that the range touches in flight?  M3 */
bool mirror_is_in_flight(const MirrorBlockJob *s, int64_t offset, int64_t bytes);
/* Both: all chunks that the range touches.  The second wakes who waits. */
void mirror_mark_in_flight(MirrorBlockJob *s, int64_t offset, int64_t bytes);
void mirror_unmark_in_flight(MirrorBlockJob *s, int64_t offset, int64_t bytes);
/* May a part of [offset, offset + bytes) be written, as the target has its cluster?  M5 */
bool mirror_cluster_is_there(const MirrorBlockJob *s, int64_t offset, int64_t bytes);
/*
 * An operation on chunks that are not in flight; there are buffers if it is not @zero.  Returns at once, how many
 * bytes of it are copied.
 */
int64_t mirror_start_op(MirrorBlockJob *s, int64_t offset, int64_t bytes, bool zero);
/* The same for a flush of the target; s->flushing until it has ended with s->flush_ret. */
void mirror_start_flush(MirrorBlockJob *s);
/* Make the target read as zeros.  Yields. */
int coroutine_fn mirror_write_zeroes(MirrorBlockJob *s, int64_t offset, int64_t bytes,
                                     bool may_unmap);
void mirror_note_failure(MirrorBlockJob *s, int ret, bool is_read);
/* Something that somebody may wait for has changed; job's AioContext. */
void mirror_wake(MirrorBlockJob *s);

/* loop.c */
int coroutine_fn mirror_run(Job *job, Error **errp);
/* One step of the planner: begins an operation, or waits.  Return: bytes that count against the speed. */
int64_t coroutine_fn mirror_iteration(MirrorBlockJob *s);
/* The planner waits until an operation or a guest's write has ended, or for the deadline. */
void coroutine_fn mirror_yield(MirrorBlockJob *s);
/* M6: is so little dirty that guests may be stopped for it? */
bool mirror_is_level(const MirrorBlockJob *s);
/* That many bytes; any thread. */
int64_t mirror_bearable_bytes(const MirrorBlockJob *s);
void mirror_update_progress(MirrorBlockJob *s);

/* rate.c */
void mirror_rate_init(MirrorBlockJob *s);
/* May another operation begin now?  Ask again when one has ended. */
bool mirror_may_begin(const MirrorBlockJob *s);
/* The longest run of data in one operation. */
int64_t mirror_run_bytes(const MirrorBlockJob *s);
/* An operation that began at @began_ns has ended well. */
void mirror_rate_copied(MirrorBlockJob *s, int64_t bytes, int64_t began_ns);
/* A guest's write begins. */
void mirror_rate_before(MirrorBlockJob *s);
typedef struct MirrorWritten {
    int64_t offset, bytes;
    int64_t dirtied;
    bool waited; /* it was to go to the target at once */
    bool discard;
} MirrorWritten;
/* A guest has written. */
void mirror_rate_written(MirrorBlockJob *s, const MirrorWritten *w);
/* TH3 */
void mirror_rate_stuck(MirrorBlockJob *s);
/* How long who waits for the target to end anything at all takes it for one that will. */
int64_t mirror_patience_ns(const MirrorBlockJob *s);
/* After the base of @info, the copy mode and what is dirty.  Main thread. */
void mirror_rate_query(const MirrorBlockJob *s, BlockJobInfo *info);

/* tap.c */
void mirror_tap_init(MirrorBlockJob *s);
/* Main thread, source quiesced. */
void mirror_tap_set(MirrorBlockJob *s);
/* Job's AioContext, or main thread with the source quiesced.  Waits until no write of a guest is in the job. */
void coroutine_fn mirror_tap_end(MirrorBlockJob *s);

/* Around requests to the target for a guest's write.  False: it is quiesced; leave all the same.  T2 */
bool mirror_enter_target(MirrorBlockJob *s);
void mirror_leave_target(MirrorBlockJob *s);

/* through.c */
typedef enum MirrorThroughResult {
    MIRROR_THROUGH_DONE,
    MIRROR_THROUGH_NOT_DONE,
    MIRROR_THROUGH_LEFT, /* the caller makes the range dirty, and its chunks stay in flight without him */
} MirrorThroughResult;
/*
 * Wait until no chunk of the range is in flight, as long as TH2 allows.  Returns early when @go_on says so, which
 * is asked before each wait.  Context: coroutine, job's AioContext.
 */
typedef bool MirrorGoOn(MirrorBlockJob *s, const BdrvTapWrite *w);
void coroutine_fn mirror_wait_for_chunks(MirrorBlockJob *s, const BdrvTapWrite *w, int64_t bytes,
                                         MirrorGoOn *go_on);
/* @bytes of @w, whose chunks are in flight, to the target; waits as long as TH2 allows. */
MirrorThroughResult coroutine_fn mirror_write_through(MirrorBlockJob *s, const BdrvTapWrite *w,
                                                      int64_t bytes);
/* Whoever waits there looks again; job's AioContext. */
void mirror_wake_waiters(MirrorBlockJob *s);

/* finish.c */
int coroutine_fn mirror_prepare(Job *job);
/* Main thread: a quiesce of one of the job's nodes has begun or ended. */
void mirror_drained_changed(BlockJob *job);
bool mirror_drained_poll(BlockJob *job);
/* Is @name, found as *ret, a node whose users may go on with a copy of @source? */
int mirror_find_replaced(BlockDriverState *source, const char *name, BlockDriverState **ret,
                         Error **errp);

#endif
