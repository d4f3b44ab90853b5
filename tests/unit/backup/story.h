/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The witness, in process and on the virtual clock: writers that number what they write to a disk, and
 * the proof that a copy is the disk after exactly the first k of a writer's writes.
 */
#ifndef TESTS_UNIT_BACKUP_STORY_H
#define TESTS_UNIT_BACKUP_STORY_H

#include "block/jobs/backup.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"

typedef struct StoryWrite {
    unsigned disk;
    int64_t offset, bytes;
    enum { STORY_ZEROES, STORY_DATA, STORY_DISCARD } kind; /* data: of the write's number */
} StoryWrite;

/*
 * One writer: one request at a time, in [start, end) of each of its disks.  It writes through an edge, in
 * the main context and keeping off a quiesce by looking; or through a backend, in the backend's home.
 */
typedef struct StoryWriter {
    BdrvChild *users[2];
    BlockBackend *blks[2]; /* NULL: users */
    unsigned n_disks;
    int64_t start, end;
    uint32_t id;
    GRand *rand;
    GArray *log;         /* StoryWrite, those sent; the writer's until it has stopped */
    guint sent, acked;   /* atomic */
    guint lo, hi;        /* acked before the command, sent when it had replied */
    bool stop, running;  /* atomic */
    uint8_t *initial[2]; /* [start, end) of each disk when the writer began */
    bool with_zeroes, with_discards, sector_sized;
    bool may_fail; /* a write that fails is sent again until it does not */
} StoryWriter;

/* Begins to write; @disks are for the story's time.  Values that are not 0 come from @seed. */
StoryWriter *coroutine_fn story_writer_new(BdrvChild **users, unsigned n_disks, int64_t start,
                                           int64_t end, uint32_t id, uint32_t seed);
/* The same through backends, in their home, which may be an iothread; of ram disks, quiet still. */
StoryWriter *story_writer_new_in_home(BlockBackend **blks, unsigned n_disks, int64_t start,
                                      int64_t end, uint32_t id, uint32_t seed);
/* Around the command whose instant is to be proved. */
void story_writer_before(StoryWriter *w);
void story_writer_after(StoryWriter *w);
/* Stop, and wait for the last write. */
void coroutine_fn story_writer_co_stop(StoryWriter *w);
/* Fails the test unless the @copies are one instant between lo and hi; returns k. */
guint story_writer_check(StoryWriter *w, BlockDriverState **copies);
/* The same with the copies' contents, from the start of the disk. */
guint story_writer_check_bytes(StoryWriter *w, uint8_t **copies);
/* The same with [start, end) of each copy only. */
guint story_writer_check_parts(StoryWriter *w, uint8_t **parts);
/* What @bs shows, read through its chain as old contents; g_free() it. */
uint8_t *coroutine_fn story_co_read_all(BlockDriverState *bs);
void story_writer_free(StoryWriter *w);

/* Start a backup as the monitor does: the source quiesced while the job is made. */
BlockJob *coroutine_fn story_co_start_backup(const BackupJobArgs *args);
/* Wait for its end; 0, or what it failed with. Drops the reference that start took. */
int coroutine_fn story_co_wait(BlockJob *job);
/*
 * Where old data is staged, chosen by the seed or STAGING in the environment: 0, the defaults; else memory
 * for one unit, and 1, nothing else; 2, a scratch that is large enough; 3, one that is not; 4, writes wait as
 * long as it takes.  Return: the scratch, for the caller to unref; NULL: none.
 */
BlockDriverState *story_choose_staging(uint32_t seed, BackupStaging *ret);
/* How many stories to tell: SEEDS in the environment, or @usual. */
unsigned story_seeds(unsigned usual);

#endif
