/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * journal-buf.h - the writer of FVD's journal: records are gathered in memory, and go out a buffer at a time
 *
 * Who changes table or bitmap adds what changed and gets a ticket, at once and without waiting; who must know that it
 * survives a crash commits the ticket.  What the records mean, where data is, and how table and bitmap are written is
 * the business of the owner, who is asked through FvdJournalOps.  Rules J1 to J8 are at journal-buf.c.
 *
 * All in the home AioContext of the image's node, which is one thread, without locks.
 */
#ifndef BLOCK_DRIVERS_FVD_JOURNAL_BUF_H
#define BLOCK_DRIVERS_FVD_JOURNAL_BUF_H

#include "block/drivers/fvd/layout/jrecord.h"
#include "block/graph/graph.h"

/*
 * def_buf_size: 128 sectors have room for some 1500 writes of one chunk each, more than are ever in flight at once;
 * a write of 64 KiB costs a disk little more than one of 4 KiB.
 */
#define FVD_DEF_BUF_SIZE        (64 * KiB)
/*
 * clean_buf_period: what nobody flushes is lost in a crash if it is not older than this; as long as file systems let
 * what was written lie, commonly.
 */
#define FVD_CLEAN_BUF_PERIOD_NS INT64_C(5000000000)
/* Bytes of buffers that wait to be written before fvd_journal_co_wait_room() waits: bounds memory. */
#define FVD_JOURNAL_BACKLOG_MAX (1 * MiB)

typedef struct FvdJournal FvdJournal;

/* A moment in the journal: who has a later ticket was recorded later, or together.  From 1 on; 0 is before all. */
typedef int64_t FvdJTicket;

/* What the journal asks of its owner.  Home AioContext of the node. */
typedef struct FvdJournalOps {
    /*
     * The data of all changes added so far, parts copied from the base included, becomes durable.  May yield.
     * Return: 0, or negative errno, with which the journal has failed.
     */
    int coroutine_fn (*co_flush_data)(void *opaque);
    /*
     * All that was written to the journal, and the data as above, becomes durable, in any order.  May yield.
     * NULL: the node of the journal is flushed.
     */
    int coroutine_fn (*co_flush)(void *opaque);
    /*
     * All changes of @half, 0 or 1, with tickets up to @upto become durable in table and bitmap, and none that
     * record_durable() has not told; then stable_journal_epoch in the header becomes @stable_epoch, durably.  Changes
     * of the other half up to @upto may be in it, or not.  One at a time; changes go on being added meanwhile, of both
     * halves.  May yield; must not wait for the journal: nothing may be written before this has ended.
     * Return: 0, or negative errno, with which the journal has failed.
     */
    int coroutine_fn (*co_checkpoint)(void *opaque, unsigned half, FvdJTicket upto,
                                      uint64_t stable_epoch);
    /* The records of all tickets up to @upto survive a crash.  Ascending.  Must not yield, nor call the journal. */
    void (*record_durable)(void *opaque, FvdJTicket upto);
    /*
     * As long as clean_buf_period has gone by since fvd_journal_expect(): what the owner has held back is to be added.
     * Must not yield.  NULL: nothing is ever held back.
     */
    void (*gather)(void *opaque);
} FvdJournalOps;

typedef struct FvdJournalConfig {
    BlockDriverState *node; /* the image: its quiesce waits for what the journal has in flight */
    BdrvChild *metadata;    /* where the journal is; BLK_PERM_WRITE.  Borrowed until it is freed */
    int64_t offset, size;   /* journal_offset, journal_size of a header that was checked */
    FvdJGeometry geometry;
    /*
     * Above all epochs and sequences that the journal has, void ones included; stable_journal_epoch in the header is
     * start_epoch and clean_shutdown is 0, durably, before anything is added (F1).
     */
    uint64_t start_epoch, start_sequence;
    int64_t def_buf_size;        /* bytes, a multiple of 4 KiB; 0: FVD_DEF_BUF_SIZE */
    int64_t clean_buf_period_ns; /* 0: FVD_CLEAN_BUF_PERIOD_NS */
    const FvdJournalOps *ops;
    void *opaque;
} FvdJournalConfig;

/* fvd_journal_new() - the writer of a journal that says nothing yet; does no I/O.  For fvd_journal_free() */
FvdJournal *fvd_journal_new(const FvdJournalConfig *config);

/* fvd_journal_free() - after fvd_journal_co_close(), or if nothing was ever added; NULL is fine */
void fvd_journal_free(FvdJournal *j);

/* fvd_journal_change_max() - sectors (fvd_jchange_sectors()) that one change may take: a half of the journal (J1) */
uint32_t fvd_journal_change_max(const FvdJournal *j);

/**
 * fvd_journal_add() - have a change recorded
 * @change: borrowed until return; its epoch is set here, and not looked at.  Its data has been written, and need not
 *          be durable; that of blocks with checksums neither
 *
 * Context: home AioContext, coroutine or not.  Never yields, never waits, and has no limit: who adds much calls
 *          fvd_journal_co_wait_room() before he begins.
 *
 * The change is written after at most clean_buf_period, if nobody commits it.
 *
 * Return: its ticket, > 0, or that of the last change if this one is empty; -EIO, the journal has failed or is closed:
 * nothing can be recorded any more; -EINVAL, the change is larger than fvd_journal_change_max().
 */
FvdJTicket fvd_journal_add(FvdJournal *j, const FvdJChange *change);

/* fvd_journal_expect() - the owner holds back changes, or none any more: they are asked for as if they were records */
void fvd_journal_expect(FvdJournal *j, bool on);

/* fvd_journal_last() - the ticket that all changes added so far are covered by; 0 if there are none */
FvdJTicket fvd_journal_last(const FvdJournal *j);

/*
 * Above all epochs and sequences that were given: after fvd_journal_co_close() they are what stable_journal_epoch is
 * to be at least, and what the next writer begins with.
 */
uint64_t fvd_journal_next_epoch(const FvdJournal *j);
uint64_t fvd_journal_next_sequence(const FvdJournal *j);

/* fvd_journal_half() - the half that the change added last is in, all of it (J1) */
unsigned fvd_journal_half(const FvdJournal *j);

/* fvd_journal_durable() - the ticket up to which all changes survive a crash */
FvdJTicket fvd_journal_durable(const FvdJournal *j);

/**
 * fvd_journal_co_wait_room() - wait while more than FVD_JOURNAL_BACKLOG_MAX bytes wait to be written
 *
 * Context: coroutine, home AioContext.  Yields.
 *
 * Return: 0; -EIO, the journal has failed.
 */
int coroutine_fn fvd_journal_co_wait_room(FvdJournal *j);

/**
 * fvd_journal_co_commit() - have all changes up to a ticket survive a crash, and all else in the metadata's file
 * @ticket: at most fvd_journal_last()
 *
 * Context: coroutine, home AioContext.  Yields.
 * Cancel:  not a cancellation point; bounded by what waits to be written, and a checkpoint if both halves are full.
 *
 * Ends with a flush of the metadata's node that began after the call, also when nothing was to be written: what was
 * written to that node before is durable too.  Those who wait share flushes.
 *
 * Return: 0; -EIO, the journal has failed, now or earlier, whatever became of this ticket.
 */
int coroutine_fn fvd_journal_co_commit(FvdJournal *j, FvdJTicket ticket);

/* fvd_journal_fail() - the owner has lost data or metadata: from now on the journal has failed (J6) */
void fvd_journal_fail(FvdJournal *j);

/**
 * fvd_journal_co_close() - commit everything, and take nothing any more
 *
 * Context: coroutine, home AioContext.  Yields; a checkpoint that is under way has ended at return.  Once.
 *
 * Return: as fvd_journal_co_commit().
 */
int coroutine_fn fvd_journal_co_close(FvdJournal *j);

/*
 * For drain_begin and drain_end of the node (J8).  Home AioContext; neither yields.  Between them the timer is at rest,
 * and the node may move to another AioContext once what is in flight has ended.
 */
void fvd_journal_drain_begin(FvdJournal *j);
void fvd_journal_drain_end(FvdJournal *j);

#endif
