/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests of accesses share: readers of a view, and what they must have seen. */
#ifndef TESTS_UNIT_ACCESS_ACCESS_STORY_H
#define TESTS_UNIT_ACCESS_ACCESS_STORY_H

#include "block/access/access.h"
#include "tests/unit/backup/story.h"

/* A reader of one view, in its home: all of it, in pieces of any size and order, with block status. */
typedef struct AccessReader {
    BlockBackend *blk;
    GRand *rand;
    int64_t length;
    uint8_t *copy; /* what it read */
    int error;     /* the first; then it has stopped */
    bool done;     /* atomic */
    bool sectors;  /* reads on sectors only */
} AccessReader;

/* Begins to read.  It has its own way to the view, and lets go of it when it is freed. */
AccessReader *access_reader_new(BlockDriverState *view, uint32_t seed);
/* Waits for its end. */
void coroutine_fn access_reader_co_join(AccessReader *r);
void coroutine_fn access_reader_co_free(AccessReader *r);

/* The windows of some writers around one command. */
typedef struct AccessWindow {
    guint lo[4], hi[4];
} AccessWindow;
void access_window_before(AccessWindow *window, StoryWriter **writers, unsigned n);
void access_window_after(AccessWindow *window, StoryWriter **writers, unsigned n);
/* Fails the test unless @copy, the whole disk, is one instant in the window. */
void access_window_check(const AccessWindow *window, StoryWriter **writers, unsigned n,
                         uint8_t *copy);

#endif
