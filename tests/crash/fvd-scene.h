/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fvd-scene: a story of an FVD image, the moments at which its power may go, and what is found then.
 *
 *      scene.c      lives of the image, one after the other; a moment at each write and flush; the first look at a state
 *      state.c      what is done with a state: the rules S1 to S8 of fvd-survives-power-cuts.c
 */
#ifndef TESTS_CRASH_FVD_SCENE_H
#define TESTS_CRASH_FVD_SCENE_H

#include "tests/lib/fvd-story.h"

typedef struct Moment {
    unsigned number;
    TestCutImage *disk, *data;
    SectorModelCut *cut;
    int64_t lengths[2]; /* one of them is the disk's */
    uint8_t *gone;      /* of the base: garbage there, and nobody may look.  NULL: nothing yet */
    FvdStoryBitmapState *bitmaps;
} Moment;

typedef struct Scene {
    FvdStory *story;
    GRand *rand; /* of states, so that the story does not depend on them */
    FvdDisks bench;
    GPtrArray *moments; /* of this life */
    unsigned states;
    /* The state that is looked at, for messages. */
    const Moment *moment;
    uint32_t fate;
    int64_t length; /* of the disk in it; 0: nobody has looked */
} Scene;

/* scene_co_tell() - a story from its begin to its end; gives how many states were looked at, and stops at what is wrong */
unsigned coroutine_fn scene_co_tell(uint32_t seed, unsigned wants);

/* The bench's disks become what is left of the moment, by the fate. */
void scene_load(Scene *sc);
/* And what a process finds that has begun anew, with what others have written still in memory. */
void scene_load_cached(Scene *sc);
void scene_power_on(const FvdDisks *disks, uint32_t fate);

void G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN scene_wrong(const Scene *sc, const char *format, ...);
/* NULL only without power. */
BlockDriverState *coroutine_fn scene_co_open(Scene *sc, bool read_only);
/* All of a disk; its length is one that may be.  For g_free(). */
uint8_t *coroutine_fn scene_co_contents(Scene *sc, BlockDriverState *bs);
void scene_expect(Scene *sc, const uint8_t *want, const uint8_t *is, const char *when);
void scene_check_sectors(Scene *sc, const SectorModelCut *cut, const uint8_t *buf);
/* S1: what is on the bench's disks. */
uint8_t *coroutine_fn scene_co_look(Scene *sc);
/*
 * What a check says of the image on these nodes.  It finds no more than space behind the last chunk, which it may
 * repair.  @fix: BDRV_FIX_*; 0: it writes nothing.
 */
void coroutine_fn scene_co_check(Scene *sc, const FvdDisks *on, unsigned fix);

/* state.c */
void coroutine_fn scene_co_check_state(Scene *sc);

#endif
