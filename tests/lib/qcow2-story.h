/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2-story: a qcow2 image on a file whose power may be cut, guests that write to it at random, and what must be in it.
 *
 *      guests ──▶ image (qcow2) ──▶ slow-disk ──▶ disk (test-cut)
 *         │          └────────────▶ base (test-ram)
 *         ▼
 *      sector-model
 *
 * All is drawn from one seed.  On the virtual clock, main AioContext.
 */
#ifndef TESTS_LIB_QCOW2_STORY_H
#define TESTS_LIB_QCOW2_STORY_H

#include "block/graph/graph.h"
#include "tests/lib/sector-model.h"
#include "tests/lib/test-cut.h"

/* What a story is to have; the rest is as the seed says. */
enum {
    QCOW2_STORY_BASE = 1 << 0,
    QCOW2_STORY_NO_BASE = 1 << 1,
    QCOW2_STORY_GIVE_BACK = 1 << 2, /* many zeroes and discards */
    QCOW2_STORY_FLUSH_STORM = 1 << 3,
    QCOW2_STORY_NO_FLUSH = 1 << 4,
    QCOW2_STORY_SUBCLUSTERS = 1 << 5,
    QCOW2_STORY_SMALL_CACHE = 1 << 6, /* so that tables come and go all the time */
    QCOW2_STORY_RESIZE = 1 << 7,
};

typedef struct Qcow2Story {
    uint32_t seed;
    unsigned wants;
    GRand *rand;
    int64_t disk_bytes, base_bytes, cluster_size;
    unsigned refcount_bits, version;
    bool extended;
    int64_t capacity;              /* of the file */
    BlockDriverState *disk, *base; /* base: NULL: none */
    SectorModel *model;
    int64_t length, next_length; /* of the disk; they are not the same while it is resized */
    bool resizing;
    /* While the image is open. */
    BlockDriverState *slow, *image;
    BdrvChild *user;
    unsigned running;
    int ops_left;
} Qcow2Story;

Qcow2Story *coroutine_fn qcow2_story_new(uint32_t seed, unsigned wants);
void coroutine_fn qcow2_story_free(Qcow2Story *s);

/* The image on this node, opened; NULL with @errp set. */
BlockDriverState *coroutine_fn qcow2_story_co_open_on(Qcow2Story *s, const char *node_name,
                                                      BlockDriverState *disk, bool read_only,
                                                      Error **errp);
/* Open it, slow; false if the power went meanwhile.  And close it, whether there is power or not. */
bool coroutine_fn qcow2_story_co_open(Qcow2Story *s);
void coroutine_fn qcow2_story_co_close(Qcow2Story *s);
/* Guests write, read and flush, @ops times in all or until the power is off.  What they read is checked. */
void coroutine_fn qcow2_story_co_run(Qcow2Story *s, unsigned ops);
/* The whole disk, and zeros up to disk_bytes; NULL without power.  For g_free(). */
uint8_t *coroutine_fn qcow2_story_co_read_all(Qcow2Story *s, BdrvChild *user);

#endif
