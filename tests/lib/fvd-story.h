/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fvd-story: an FVD image on disks whose power may be cut, guests that write to it at random, and what must be in it.
 *
 *      guests ──▶ image (fvd) ──▶ slow-disk ─ (faulty-disk) ─▶ disk (test-cut) ──┐
 *         │          │     └────▶ slow-data ─ (faulty-data) ─▶ data (test-cut) ──┴─ one switch
 *         ▼          └─────▶ slow-base ──▶ base (test-ram)
 *      sector-model
 *
 * All is drawn from one seed.  On the virtual clock, main AioContext.
 */
#ifndef TESTS_LIB_FVD_STORY_H
#define TESTS_LIB_FVD_STORY_H

#include "block/graph/graph.h"
#include "tests/lib/sector-model.h"
#include "tests/lib/test-cut.h"

/* What the image is like. */
typedef struct FvdShape {
    int64_t disk_bytes;  /* the most that it ever has */
    int64_t start_bytes; /* less only if it is to be resized */
    int64_t base_bytes;  /* 0: no base */
    int64_t chunk_size;  /* 0: no table, the disk is in one piece */
    int64_t block_size;
    int64_t journal_size;
    int64_t grow_unit;
    int64_t data_offset, capacity; /* of the file of the chunks */
    bool device;                   /* of a fixed size, and full of something else */
    bool data_file;
    bool old; /* an old program made it: no extension, no trailers */
} FvdShape;

/* What a story is to have; the rest is as the seed says. */
enum {
    FVD_STORY_BASE = 1 << 0,
    FVD_STORY_NO_BASE = 1 << 1,
    FVD_STORY_DEVICE = 1 << 2,
    FVD_STORY_DATA_FILE = 1 << 3,
    FVD_STORY_OLD = 1 << 4,
    FVD_STORY_TINY_JOURNAL = 1 << 5, /* two pages, so that it comes to its end all the time */
    FVD_STORY_GIVE_BACK = 1 << 6,    /* many zeroes and discards */
    FVD_STORY_FLUSH_STORM = 1 << 7,
    FVD_STORY_NO_FLUSH = 1 << 8,
    FVD_STORY_SUMS = 1 << 9, /* blocks are recorded with checksums, where there is a base */
    FVD_STORY_COPY_ON_READ = 1 << 10,
    FVD_STORY_PREFETCH = 1 << 11, /* beside the guests the base is copied into the image */
    FVD_STORY_RESIZE =
        1 << 12, /* a file; the disk grows and shrinks, and the table may have to move */
    FVD_STORY_FAULTS = 1 << 13,  /* in most lives the disks fail now and then */
    FVD_STORY_BITMAPS = 1 << 14, /* the image keeps dirty bitmaps; not with RESIZE */
    FVD_STORY_ALL = (1 << 15) - 1,
};

/* The nodes that an image is on. */
typedef struct FvdDisks {
    BlockDriverState *disk, *data; /* test-cut; data: NULL without data_file */
    BlockDriverState *base;        /* test-ram; NULL: none */
} FvdDisks;

typedef struct FvdStoryBitmap FvdStoryBitmap;
/* Whether the image has it, perhaps inconsistent. */
typedef enum FvdStoryBitmapState {
    FVD_STORY_BITMAP_MAYBE,
    FVD_STORY_BITMAP_THERE,
    FVD_STORY_BITMAP_GONE,
    FVD_STORY_BITMAP_END, /* of a list of them */
} FvdStoryBitmapState;

typedef struct FvdStory {
    uint32_t seed;
    unsigned wants;
    GRand *rand;
    FvdShape shape;
    FvdDisks disks;
    SectorModel *model;
    int64_t length, next_length; /* of the disk; they are not the same while it is resized */
    bool resizing;
    /* Sectors of the base: whose block was written, stored, in this life; that nobody may look for there any more. */
    uint8_t *written, *stored, *gone;
    GPtrArray *bitmaps;           /* of FvdStoryBitmap, all that there ever were */
    bool closed_well, power_went; /* when it was closed last; at any time */
    bool removing;
    /* While the image is open. */
    FvdDisks slow, faulty;
    bool failed; /* a flush has: each write and flush that begins from now on fails, too */
    BlockDriverState *image;
    BdrvChild *user;
    unsigned running; /* guests, and who prefetches */
    int ops_left;
} FvdStory;

/* A shape by s->seed, and a new image on new disks; what fvd_story_new() begins with. */
void fvd_story_make_image(FvdStory *s);
FvdStory *fvd_story_new(uint32_t seed, unsigned wants);
void coroutine_fn fvd_story_free(FvdStory *s);

/* Disks for images of the story's shape, with nothing on them, and its base; and what fvd_disks_new() has taken. */
void fvd_disks_new(FvdStory *s, const char *prefix, FvdDisks *ret_disks);
void coroutine_fn fvd_disks_free(FvdDisks *disks);

/*
 * The image on these nodes, which may be filters, opened; NULL with @errp set.  For bdrv_co_unref().
 */
BlockDriverState *coroutine_fn fvd_story_co_open_on(FvdStory *s, const char *node_name,
                                                    const FvdDisks *on, bool read_only,
                                                    Error **errp);

/*
 * As "qblk-img check" does it.  @ret: zeroed by the caller, but for its message; @fix: BDRV_FIX_*.  0; negative errno
 * with @errp set.
 */
int coroutine_fn fvd_story_co_check(FvdStory *s, const FvdDisks *on, BdrvCheckResult *ret,
                                    unsigned fix, Error **errp);

/*
 * Open it, slow; false if the power went meanwhile, or a disk has failed.  And close it in any case; that gives whether
 * a disk has failed in this life.
 */
bool coroutine_fn fvd_story_co_open(FvdStory *s);
bool coroutine_fn fvd_story_co_close(FvdStory *s);
bool fvd_story_had_faults(const FvdStory *s);
/* Guests write, read and flush, @ops times in all or until the power is off.  What they read is checked. */
void coroutine_fn fvd_story_co_run(FvdStory *s, unsigned ops);
/* Who prefetches, if anybody does: some of the base, or all; ends when it is done, or without power. */
void coroutine_fn fvd_story_co_prefetch(FvdStory *s);
/*
 * Bitmaps are looked at, and some are made, before guests write; one is removed; those on a disk that has failed may have
 * been lost.
 */
void coroutine_fn fvd_story_co_begin_bitmaps(FvdStory *s);
void coroutine_fn fvd_story_co_remove_bitmap(FvdStory *s);
void fvd_story_end_bitmaps(FvdStory *s);
void fvd_story_bitmap_free(void *opaque);
/* Which are there now, for g_free(); and what is wrong with those that @bs, which holds @disk, has: for g_free(), or NULL. */
FvdStoryBitmapState *fvd_story_bitmap_states(const FvdStory *s);
char *fvd_story_check_bitmaps(const FvdStory *s, BlockDriverState *bs,
                              const FvdStoryBitmapState *states, const uint8_t *disk);
/* The whole disk of an image, and zeros up to disk_bytes; NULL without power.  For g_free(). */
uint8_t *coroutine_fn fvd_story_co_read_all(FvdStory *s, BdrvChild *user);

/* What the base has: where @gone (NULL: nowhere), garbage. */
void fvd_story_fill_base(const FvdStory *s, const uint8_t *gone, BlockDriverState *base);

/*
 * The whole disk as the bytes of the image say, without the driver: it was shut down cleanly, table and bitmap are
 * sound.  @ret_buf: disk_bytes.
 */
void fvd_story_peek(FvdStory *s, const FvdDisks *disks, uint8_t *ret_buf);

#endif
