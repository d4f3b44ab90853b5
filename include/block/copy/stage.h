/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stage: a place for the old data of a disk that is being overwritten, first in memory, then in a
 * scratch node.  It knows what was captured and where it is; who it is captured for, and when it may
 * go, is its owner's matter (a backup job; an access to a disk's past).
 *
 * Offsets and lengths are bytes of the disk unless a name says cluster.
 * Context: coroutines of the AioContext of the source, one thread; stage_stats(): any thread.
 */
#ifndef BLOCK_COPY_STAGE_H
#define BLOCK_COPY_STAGE_H

#include "block/io/io.h"
#include "util/osdep.h"

/* Old data is captured in pieces of this, or of the source's blocks where those are larger (and fit in a segment). */
#define STAGE_UNIT_BYTES (4 * KiB)

/* The scratch is taken, and given back by a hole, in pieces of this. */
#define STAGE_SEGMENT_BYTES (1 * MiB)

typedef struct Stage Stage;

/* What the stage asks of its owner.  None of them yields unless it says so. */
typedef struct StageOps {
    /* The old data of @cluster is safe elsewhere: nothing of it needs to be captured. */
    bool (*is_safe)(void *opaque, int64_t cluster);
    /* Nothing is to be kept any more: whoever waits goes on. */
    bool (*is_over)(void *opaque);
    /*
     * More is staged, more of the room is in use, or somebody waits for room: the owner may take clusters.  NULL: it
     * never takes any.
     */
    void (*changed)(void *opaque);
    /*
     * The owner takes clusters by itself, in order, and comes to this one next; -1: it does not.  What it comes
     * to soon is kept in memory.  NULL: it does not.
     */
    int64_t (*cursor)(void *opaque);
    /* Around I/O on the scratch; begin may yield (a quiesce).  Both NULL: nothing is needed. */
    void coroutine_fn (*io_begin)(void *opaque);
    void (*io_end)(void *opaque);
} StageOps;

typedef struct StageConfig {
    BdrvChild *source;     /* borrowed */
    BdrvChild *scratch;    /* borrowed, writable and resizable or large enough; NULL: memory only */
    int64_t length;        /* of the disk */
    int64_t cluster_bytes; /* what is taken at once; a multiple of the unit */
    int64_t ram_bytes;     /* for old data; at least one unit is used */
    int64_t scratch_bytes; /* of the scratch, at the most */
    int64_t wait_ns;       /* how long a write waits for room; 0: as long as it takes */
    const StageOps *ops;
    void *opaque;
} StageConfig;

typedef struct StageStats {
    int64_t ram_bytes, ram_limit;         /* in use; may be */
    int64_t scratch_bytes, scratch_limit; /* the same, in whole segments */
    int64_t captured_bytes;               /* read in front of writes, in all */
    unsigned waiting;                     /* writes that wait for room */
    int scratch_error;                    /* negative errno of its first failed write; 0: none */
} StageStats;

Stage *stage_new(const StageConfig *config);
/* Empty (stage_drop_all), and nobody in any of its functions. */
void stage_free(Stage *stage);
int64_t stage_unit_bytes(const Stage *stage);

/*
 * stage_co_capture() - read the old data of the units that [offset, offset + bytes) touches into the
 * stage, except where it is there already or the owner says it is safe
 *
 * The source is read without waiting for serialising requests: the caller is a write that holds one.
 * @old: that write's; where it has the data nothing is read; what is read is put there if it is wanted.
 * Return: 0, all of it is safe, or the owner is over; -ETIMEDOUT, no room came free in wait_ns; -ENOSPC,
 * none will come free (the owner takes nothing, or is not there to); other errors: reading failed.
 */
int coroutine_fn stage_co_capture(Stage *stage, int64_t offset, int64_t bytes, BdrvOldData *old);
/* Would capture have nothing to do?  Does not yield. */
bool stage_is_captured(const Stage *stage, int64_t offset, int64_t bytes);

/* The first staged cluster in [start, end), or -1. */
int64_t stage_next_cluster(const Stage *stage, int64_t start, int64_t end);
/* Is all of clusters [start, end) captured?  Then the source need not be read. */
bool stage_covers(const Stage *stage, int64_t start, int64_t end);
bool stage_is_empty(const Stage *stage);
/* Does a write wait for room? */
bool stage_is_awaited(const Stage *stage);
/* How full, in percent of all its room: memory alone, memory and scratch. */
unsigned stage_ram_percent(const Stage *stage);
unsigned stage_percent(const Stage *stage);

/*
 * Taking clusters out, in two steps:
 *
 *   stage_take()            does not yield.  What is in memory is put over @buf, which holds clusters
 *                           [start, end) as just read from the source; all of them leave the stage.
 *                           The owner calls them safe from this very step on.
 *   stage_co_take_finish()  reads what is in the scratch; always called after stage_take().
 *                           Return: 0 or the error of reading the scratch, then old data is lost.
 */
typedef struct StageTaken {
    Stage *stage;
    GArray *far; /* what is to be read from the scratch */
} StageTaken;
void stage_take(Stage *stage, int64_t start, int64_t end, uint8_t *buf, StageTaken *ret_taken);
int coroutine_fn stage_co_take_finish(StageTaken *taken);

/*
 * stage_co_read() - the disk as it was: the source as it is, and what was captured over it
 *
 * For an owner that takes nothing: captured data stays until the drop.  @offset and @bytes in whole
 * units (the last may be cut by the end of the disk).
 */
int coroutine_fn stage_co_read(Stage *stage, int64_t offset, int64_t bytes, void *buf);

/*
 * stage_co_wait_change() - yields until data was captured, has left the stage, or the stage was dropped
 */
void coroutine_fn stage_co_wait_change(Stage *stage);
/* Forget everything; writes that wait for room go on when the owner is over. */
void stage_drop_all(Stage *stage);
/* Whoever waits looks again: the owner is over. */
void stage_wake(Stage *stage);
/*
 * The owner is over.  Forgets everything, a part at a time, and yields until what the stage itself has begun has
 * ended.
 */
void coroutine_fn stage_co_end(Stage *stage);

void stage_stats(const Stage *stage, StageStats *ret_stats);

#endif
