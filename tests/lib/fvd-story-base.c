/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See fvd-story.h: the base is copied into the image while guests write.
 *
 *      load, store, load, store, keep, ...            finish
 *             |            |       |                    |
 *           stored       stored  what was stored      all of the base
 *                                then is gone         is gone
 *
 * What is gone is garbage in the base of each state that is looked at: nobody may read it there any more.
 */
#include <errno.h>
#include "coro/sleep.h"
#include "tests/lib/fvd-story.h"
#include "util/osdep.h"

#define PAUSE_NS  60
/* In one of so many stories, after one of so many pieces. */
#define IN_PART   4
#define KEEP      4
#define TRY_EARLY 8
/* A guest's write is recorded in two steps, and finishing may have to be tried again. */
#define TRIES     4

/* 0 or -EAGAIN: as it should be.  Else: no power, or no space. */
static int outcome(const FvdStory *s, const char *what, int ret)
{
    if (ret < 0 && ret != -EAGAIN && ret != -ENOSPC && !test_cut_is_off(s->disks.disk) &&
        !fvd_story_had_faults(s)) {
        g_error("SEED=%u: %s failed with %d", s->seed, what, ret);
    }
    return ret;
}

static int coroutine_fn pause_and(FvdStory *s, int ret)
{
    qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, PAUSE_NS));
    return ret;
}

static int coroutine_fn copy(FvdStory *s, int64_t at, int64_t bytes)
{
    const BlockDriverPrefetch *p = s->image->drv->prefetch;
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret = pause_and(s, p->co_load(s->image, at, bytes, buf));

    if (ret >= 0) {
        ret = p->co_store(s->image, at, bytes, buf);
    }
    if (ret >= 0) {
        memset(s->stored + at / SECTOR_MODEL_BYTES, 1, bytes / SECTOR_MODEL_BYTES);
    }
    return outcome(s, "copying from the base", ret);
}

static int coroutine_fn keep(FvdStory *s)
{
    int64_t n = s->shape.base_bytes / SECTOR_MODEL_BYTES;
    g_autofree uint8_t *before = g_memdup2(s->stored, n);
    int ret = s->image->drv->prefetch->co_keep(s->image);

    for (int64_t i = 0; ret >= 0 && i < n; i++) {
        s->gone[i] |= before[i] && !s->written[i]; /* a guest's write stays when it is flushed */
    }
    return outcome(s, "keeping what was copied", ret);
}

static int coroutine_fn finish(FvdStory *s)
{
    int ret = s->image->drv->prefetch->co_finish(s->image);

    if (ret >= 0) {
        memset(s->gone, 1, s->shape.base_bytes / SECTOR_MODEL_BYTES);
    }
    return outcome(s, "doing without the base", ret);
}

static int coroutine_fn copy_some(FvdStory *s)
{
    BdrvPrefetchInfo info;
    int64_t end = s->shape.base_bytes, bytes, most;
    bool in_part = g_rand_int_range(s->rand, 0, IN_PART) == 0;
    int ret = 0;

    s->image->drv->prefetch->get_info(s->image, &info);
    most = MAX(end / info.unit / 6, 1);
    for (int64_t at = 0; at < end && ret >= 0; at += bytes) {
        bytes = MIN(info.unit * g_rand_int_range(s->rand, 1, most + 1), end - at);
        if (in_part && g_rand_boolean(s->rand)) {
            continue;
        }
        ret = pause_and(s, copy(s, at, bytes));
        if (ret >= 0 && g_rand_int_range(s->rand, 0, KEEP) == 0) {
            ret = keep(s);
        }
        if (ret >= 0 && g_rand_int_range(s->rand, 0, TRY_EARLY) == 0) {
            ret = finish(s);
            ret = ret == -EAGAIN ? 0 : ret;
        }
    }
    return ret;
}

void coroutine_fn fvd_story_co_prefetch(FvdStory *s)
{
    int ret;

    bdrv_inc_in_flight(s->image);
    ret = copy_some(s);
    for (int i = 0; ret >= 0 && i < TRIES; i++) {
        ret = pause_and(s, finish(s));
        if (ret != -EAGAIN) {
            break;
        }
        ret = 0;
    }
    bdrv_dec_in_flight(s->image);
}
