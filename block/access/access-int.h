/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Backup accesses from inside: what access.c, disk.c and view.c share. */
#ifndef BLOCK_ACCESS_ACCESS_INT_H
#define BLOCK_ACCESS_ACCESS_INT_H

#include "block/access/access.h"
#include "aio/timer.h"
#include "block/copy/stage.h"
#include "block/dirty/dirty-bitmap.h"

/* What block status is answered in where something was captured; small, so that little is read for it. */
#define ACCESS_CLUSTER_BYTES (64 * KiB)

/*
 * How long a write waits for memory that the scratch is about to free.  A scratch that takes nothing for so
 * long is of no use, and a guest's own patience with its disk is usually 30 s.
 */
#define ACCESS_WAIT_NS (10 * INT64_C(1000000000))

/*
 * Requests of a client of an export of a view that are under way: a quiesce of the disk waits for them.  As many as keep
 * a disk busy.
 */
#define ACCESS_READ_REQUESTS 4

typedef struct AccessTurns AccessTurns;
typedef struct AccessDisk AccessDisk;
/* Counted (g_atomic_rc_box): bottom halves hold one too. */
struct AccessDisk {
    /* Main thread; all but view are fixed once begun. */
    char *access_id, *device, *export;
    BlockDriverState *source, *scratch, *view; /* counted; scratch may be NULL */
    BdrvChild *source_edge, *scratch_edge;     /* the access's own, beside the view's */
    BdrvChild *view_scratch;                   /* the view's, for I/O */
    BdrvOpBlocker *blocker;
    BdrvDirtyBitmap *bitmap; /* frozen since the instant; NULL: none */

    /* Fixed once begun. */
    AioContext *home;
    int64_t length;
    Stage *stage;
    AccessTurns *turns; /* of readers of all views of the source */

    /* Home. */
    NotifierWithReturn before_write;
    bool over;          /* A5, A9: nothing is captured any more, so nothing is read either */
    unsigned captures;  /* writes in the notifier */
    bool breaking;      /* the room is being given back */
    CoQueue left, gate; /* who waits for these to end, or for I/O on the scratch; for A7 */

    /* Atomic. */
    int scratch_io; /* the stage's own requests to the scratch */
    int broken;     /* negative errno, 0: not; what is there to say stands in error before */
    char *error;
};

/* disk.c.  On failure of prepare and begin access_disk_co_end() is still to be called. */
int coroutine_fn access_disk_co_prepare(AccessDisk *disk, const BackupAccessArgs *args,
                                        const BackupAccessDiskArgs *one, Error **errp);
/* Quiesced.  First what can fail, for all disks; then the notifiers. */
int access_disk_freeze_bitmap(AccessDisk *disk, const char *name, Error **errp);
void access_disk_begin(AccessDisk *disk);
/* Takes it all down, and drops the reference. */
void coroutine_fn access_disk_co_end(AccessDisk *disk, bool success);
int access_disk_broken(const AccessDisk *disk);
void access_disk_release(AccessDisk *disk);

/* turns.c.  One for all views of @source; main thread. */
AccessTurns *access_turns_get(BlockDriverState *source);
void access_turns_put(AccessTurns *turns);
/* The rest in the home of the source.  A user of the disk writes. */
void access_turns_wrote(AccessTurns *turns, int64_t now_ns);
/* How much of @bytes to read in one turn. */
int64_t access_turns_piece(const AccessTurns *turns, int64_t bytes);
/*
 * Around a read of so much.  Yields until it may begin.  Return: when it began, for the end; negative: @over, it does
 * not.
 */
int64_t coroutine_fn access_turns_co_begin(AccessTurns *turns, int64_t bytes, const bool *over);
void access_turns_end(AccessTurns *turns, int64_t bytes, int64_t began_ns);
/* A view is over: its readers need not wait. */
void access_turns_wake(AccessTurns *turns);

/* view.c */
/* Makes disk->view on disk->source. */
int coroutine_fn access_view_co_new(AccessDisk *disk, Error **errp);
/* The scratch comes into the tree, to live where it lives.  The edge for I/O, or NULL. */
BdrvChild *access_view_add_scratch(BlockDriverState *view, BlockDriverState *scratch, Error **errp);
BdrvChild *access_view_source(BlockDriverState *view);
/* Nobody reads through the disk any more; the view keeps nothing of it. */
void coroutine_fn access_view_co_detach(BlockDriverState *view);

#endif
