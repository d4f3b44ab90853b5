/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See fvd-story.h: persistent dirty bitmaps, made when the image is opened, and removed while guests write.
 *
 *      life 1     new ---- guests write ---- stored |           life 2     loaded ---- removed
 *                  |                                |
 *                the disk as it was             whoever finds the bitmap, and not inconsistent, finds a bit for each
 *                                               sector that is another than it was (BM1)
 *
 * None has the name of one that was there before.
 */
#include <inttypes.h>
#include <string.h>
#include "block/dirty/dirty-bitmap.h"
#include "tests/lib/fvd-story.h"
#include "util/osdep.h"

#define MOST        4
#define GRANULARITY 1024

struct FvdStoryBitmap {
    char *name;
    uint8_t *was; /* the disk, when it was made */
    FvdStoryBitmapState state;
};

void fvd_story_bitmap_free(void *opaque)
{
    FvdStoryBitmap *b = opaque;

    g_free(b->name);
    g_free(b->was);
    g_free(b);
}

FvdStoryBitmapState *fvd_story_bitmap_states(const FvdStory *s)
{
    FvdStoryBitmapState *states = g_new0(FvdStoryBitmapState, s->bitmaps->len + 1);

    for (unsigned i = 0; i < s->bitmaps->len; i++) {
        states[i] = ((FvdStoryBitmap *)s->bitmaps->pdata[i])->state;
        if (states[i] == FVD_STORY_BITMAP_THERE && fvd_story_had_faults(s)) {
            states[i] = FVD_STORY_BITMAP_MAYBE; /* BM3 */
        }
    }
    states[s->bitmaps->len] = FVD_STORY_BITMAP_END;
    return states;
}

/* BM1 */
static char *lacks_a_bit(const FvdStory *s, const FvdStoryBitmap *b, BdrvDirtyBitmap *bitmap,
                         const uint8_t *disk)
{
    for (int64_t at = 0; at < s->shape.disk_bytes; at += SECTOR_MODEL_BYTES) {
        if (memcmp(b->was + at, disk + at, SECTOR_MODEL_BYTES) &&
            !bdrv_dirty_bitmap_get(bitmap, at)) {
            return g_strdup_printf("bitmap %s has no bit for byte %" PRId64, b->name, at);
        }
    }
    return NULL;
}

char *fvd_story_check_bitmaps(const FvdStory *s, BlockDriverState *bs,
                              const FvdStoryBitmapState *states, const uint8_t *disk)
{
    for (unsigned i = 0; states[i] != FVD_STORY_BITMAP_END; i++) {
        const FvdStoryBitmap *b = s->bitmaps->pdata[i];
        BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bs, b->name);
        char *wrong = NULL;

        if (bitmap && states[i] == FVD_STORY_BITMAP_GONE) {
            wrong = g_strdup_printf("bitmap %s was removed, and is there", b->name);
        } else if (!bitmap && states[i] == FVD_STORY_BITMAP_THERE) {
            wrong = g_strdup_printf("bitmap %s is not there", b->name);
        } else if (bitmap && !bdrv_dirty_bitmap_inconsistent(bitmap)) {
            wrong = lacks_a_bit(s, b, bitmap, disk);
        }
        if (wrong) {
            return wrong;
        }
    }
    return NULL;
}

static void add(FvdStory *s, const uint8_t *disk)
{
    g_autofree char *name = g_strdup_printf("%u", s->bitmaps->len);
    FvdStoryBitmap *b;

    if (s->image->drv->bitmaps->can_store(s->image, name, GRANULARITY, NULL) < 0) {
        return;
    }
    bdrv_dirty_bitmap_set_persistence(
        bdrv_create_dirty_bitmap(s->image, GRANULARITY, name, &error_abort), true);
    b = g_new0(FvdStoryBitmap, 1);
    b->name = g_steal_pointer(&name);
    b->was = g_memdup2(disk, s->shape.disk_bytes);
    b->state = FVD_STORY_BITMAP_MAYBE;
    g_ptr_array_add(s->bitmaps, b);
}

void coroutine_fn fvd_story_co_begin_bitmaps(FvdStory *s)
{
    g_autofree uint8_t *disk = fvd_story_co_read_all(s, s->user);
    g_autofree FvdStoryBitmapState *states = fvd_story_bitmap_states(s);
    g_autofree char *wrong = NULL;
    unsigned there = 0;

    if (!disk) {
        return; /* without power */
    }
    wrong = fvd_story_check_bitmaps(s, s->image, states, disk);
    for (unsigned i = 0; !wrong && i < s->bitmaps->len; i++) {
        FvdStoryBitmap *b = s->bitmaps->pdata[i];
        BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(s->image, b->name);

        if (s->closed_well && b->state != FVD_STORY_BITMAP_GONE &&
            (!bitmap || (bdrv_dirty_bitmap_inconsistent(bitmap) && !s->power_went))) {
            wrong = g_strdup_printf("bitmap %s was closed with the image, and is not", b->name);
        }
        b->state = bitmap ? FVD_STORY_BITMAP_THERE : FVD_STORY_BITMAP_GONE;
        there += bitmap != NULL;
    }
    if (wrong) {
        g_error("SEED=%u: %s", s->seed, wrong);
    }
    while (there++ < MOST && g_rand_boolean(s->rand)) {
        add(s, disk);
    }
}

void fvd_story_end_bitmaps(FvdStory *s)
{
    g_autofree FvdStoryBitmapState *states = fvd_story_bitmap_states(s);

    for (unsigned i = 0; i < s->bitmaps->len; i++) {
        ((FvdStoryBitmap *)s->bitmaps->pdata[i])->state = states[i];
    }
}

/* As block-dirty-bitmap-remove does. */
void coroutine_fn fvd_story_co_remove_bitmap(FvdStory *s)
{
    BdrvDirtyBitmap *bitmap = bdrv_dirty_bitmap_next(s->image, NULL);
    FvdStoryBitmap *b;
    Error *err = NULL;
    int ret;

    if (!bitmap || s->removing) {
        return;
    }
    s->removing = true;
    b = s->bitmaps->pdata[g_ascii_strtoull(bdrv_dirty_bitmap_name(bitmap), NULL, 10)];
    b->state = FVD_STORY_BITMAP_MAYBE;
    bdrv_co_drained_begin(s->image);
    ret = s->image->drv->bitmaps->co_forget(s->image, b->name, &err);
    if (ret == 0) {
        bdrv_release_dirty_bitmap(bitmap);
        b->state = FVD_STORY_BITMAP_GONE;
    } else if (!test_cut_is_off(s->disks.disk) && !fvd_story_had_faults(s)) {
        g_error("SEED=%u: %s", s->seed, error_get_pretty(err));
    }
    error_free(err);
    bdrv_co_drained_end(s->image);
    s->removing = false;
}
