/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fvd-scene.h: lives, moments, and the first look. */
#include <errno.h>
#include <inttypes.h>
#include "tests/crash/fvd-scene.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

#define LIVES       3
#define OPS_MAX     40
#define FATES       2
#define MOMENTS_MAX 400

static void moment_free(void *opaque)
{
    Moment *m = opaque;

    test_cut_image_free(m->disk);
    test_cut_image_free(m->data);
    sector_model_cut_free(m->cut);
    g_free(m->gone);
    g_free(m->bitmaps);
    g_free(m);
}

static void remember_moment(void *opaque)
{
    Scene *sc = opaque;
    FvdStory *s = sc->story;
    Moment *m;

    if (sc->moments->len >= MOMENTS_MAX) {
        return;
    }
    m = g_new0(Moment, 1);
    m->number = test_cut_moments(s->disks.disk);
    m->disk = test_cut_image(s->disks.disk);
    m->data = s->disks.data ? test_cut_image(s->disks.data) : NULL;
    m->cut = sector_model_cut(s->model);
    m->lengths[0] = s->length;
    m->lengths[1] = s->next_length;
    if (s->wants & FVD_STORY_PREFETCH) {
        m->gone = g_memdup2(s->gone, s->shape.base_bytes / SECTOR_MODEL_BYTES);
    }
    m->bitmaps = fvd_story_bitmap_states(s);
    g_ptr_array_add(sc->moments, m);
}

/* ------------------------------------------------------------------------------------------------- fates */

static TestCutFate fate_of(uint32_t seed)
{
    static const int64_t tears[] = {512, 512, 4096, 0};

    return (TestCutFate){
        .seed = seed,
        .tear_bytes = tears[seed % ARRAY_SIZE(tears)],
        .reorder = true,
        .drop_all = seed / 4 % 16 == 0,
    };
}

void scene_load(Scene *sc)
{
    TestCutFate fate = fate_of(sc->fate);

    test_cut_load(sc->bench.disk, sc->moment->disk, &fate);
    if (sc->moment->data) {
        fate.seed ^= 0x5555;
        test_cut_load(sc->bench.data, sc->moment->data, &fate);
    }
}

void scene_load_cached(Scene *sc)
{
    test_cut_load_cached(sc->bench.disk, sc->moment->disk);
    if (sc->moment->data) {
        test_cut_load_cached(sc->bench.data, sc->moment->data);
    }
}

void scene_power_on(const FvdDisks *disks, uint32_t seed)
{
    TestCutFate fate = fate_of(seed);

    test_cut_power_on(disks->disk, &fate);
    if (disks->data) {
        fate.seed ^= 0x5555;
        test_cut_power_on(disks->data, &fate);
    }
}

/* ------------------------------------------------------------------------------------------------ states */

void G_GNUC_PRINTF(2, 3) scene_wrong(const Scene *sc, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, format);
    what = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_error("SEED=%u moment %u fate %u: %s", sc->story->seed, sc->moment ? sc->moment->number : 0,
            sc->fate, what);
}

BlockDriverState *coroutine_fn scene_co_open(Scene *sc, bool read_only)
{
    Error *err = NULL;
    BlockDriverState *bs = fvd_story_co_open_on(sc->story, "bench", &sc->bench, read_only, &err);

    if (!bs && !test_cut_is_off(sc->bench.disk)) {
        scene_wrong(sc, "it cannot be opened: %s", error_get_pretty(err));
    }
    error_free(err);
    return bs;
}

/* As the first look said; by that, one that may be. */
static void check_length(Scene *sc, int64_t length)
{
    const FvdStory *s = sc->story;
    const int64_t *may = sc->moment ? sc->moment->lengths : (int64_t[]){s->length, s->next_length};

    if (sc->length ? length != sc->length : length != may[0] && length != may[1]) {
        scene_wrong(
            sc, "it has %" PRId64 " bytes, it had %" PRId64 ", it may have %" PRId64 " or %" PRId64,
            length, sc->length, may[0], may[1]);
    }
    sc->length = length;
}

/* BM1 */
static void check_bitmaps(Scene *sc, BlockDriverState *bs, const uint8_t *disk)
{
    g_autofree FvdStoryBitmapState *now = sc->moment ? NULL : fvd_story_bitmap_states(sc->story);
    g_autofree char *what =
        fvd_story_check_bitmaps(sc->story, bs, now ? now : sc->moment->bitmaps, disk);

    if (what) {
        scene_wrong(sc, "%s", what);
    }
}

uint8_t *coroutine_fn scene_co_contents(Scene *sc, BlockDriverState *bs)
{
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    uint8_t *buf = fvd_story_co_read_all(sc->story, user);

    if (!buf) {
        scene_wrong(sc, "it cannot be read");
    }
    block_test_co_user_free(user);
    check_length(sc, bdrv_getlength(bs));
    check_bitmaps(sc, bs, buf);
    return buf;
}

void scene_expect(Scene *sc, const uint8_t *want, const uint8_t *is, const char *when)
{
    for (int64_t i = 0; i < sector_model_sectors(sc->story->model); i++) {
        const int64_t at = i * SECTOR_MODEL_BYTES;

        if (memcmp(want + at, is + at, SECTOR_MODEL_BYTES)) {
            scene_wrong(sc, "sector %" PRId64 " was %u, and %s it is %u", i,
                        sector_model_id(want + at, i), when, sector_model_id(is + at, i));
        }
    }
}

/* ------------------------------------------------------------------------------------------------- check */

/*
 * One that was torn while it was changed has a wrong checksum until the next change; an old program's has none, so that
 * it becomes wrong.
 */
static bool may_say(const Scene *sc, const char *line)
{
    return g_str_has_prefix(line, "Leaked: ") || g_str_has_prefix(line, "Repairing ") ||
           (sc->story->wants & FVD_STORY_RESIZE && strstr(line, "_crc is not that of the header"));
}

static void hear(void *opaque, const char *line)
{
    const Scene *sc = opaque;

    if (!may_say(sc, line) && !test_cut_is_off(sc->bench.disk)) {
        scene_wrong(sc, "a check says: %s", line);
    }
}

void coroutine_fn scene_co_check(Scene *sc, const FvdDisks *on, unsigned fix)
{
    BdrvCheckResult r = {.message = hear, .opaque = sc};
    unsigned before = test_cut_moments(on->disk);
    Error *err = NULL;
    int ret = fvd_story_co_check(sc->story, on, &r, fix, &err);

    if (ret < 0 && !test_cut_is_off(on->disk)) {
        scene_wrong(sc, "it cannot be checked: %s", error_get_pretty(err));
    }
    if (ret >= 0 && (r.corruptions || r.check_errors || r.corruptions_fixed)) {
        scene_wrong(sc, "a check finds damage");
    }
    if (ret >= 0 && fix && r.leaks && !test_cut_is_off(on->disk)) {
        scene_wrong(sc, "a repair leaves leaks");
    }
    if (!fix && test_cut_moments(on->disk) != before) {
        scene_wrong(sc, "a check has written to it");
    }
    error_free(err);
}

/* S1 */
uint8_t *coroutine_fn scene_co_look(Scene *sc)
{
    unsigned before = test_cut_moments(sc->bench.disk);
    BlockDriverState *bs = scene_co_open(sc, true);
    uint8_t *buf = scene_co_contents(sc, bs);

    bdrv_co_unref(bs);
    if (test_cut_moments(sc->bench.disk) != before) {
        scene_wrong(sc, "opened for reading only it was written to");
    }
    return buf;
}

void scene_check_sectors(Scene *sc, const SectorModelCut *cut, const uint8_t *buf)
{
    int64_t bad = sector_model_cut_check(cut, buf);
    g_autofree char *may = NULL;

    if (bad >= 0) {
        may = sector_model_cut_describe(cut, bad);
        scene_wrong(sc, "sector %" PRId64 " is %u, and may be %s", bad,
                    sector_model_id(buf + bad * SECTOR_MODEL_BYTES, bad), may);
    }
}

/* -------------------------------------------------------------------------------- lives */

static void coroutine_fn check_moments(Scene *sc)
{
    for (unsigned i = 0; i < sc->moments->len; i++) {
        sc->moment = g_ptr_array_index(sc->moments, i);
        if (sc->moment->gone) {
            fvd_story_fill_base(sc->story, sc->moment->gone, sc->bench.base);
        }
        for (int k = 0; k < FATES; k++) {
            sc->fate = g_rand_int(sc->rand);
            scene_co_check_state(sc);
        }
    }
    sc->moment = NULL;
    g_ptr_array_set_size(sc->moments, 0);
}

/* ----------------------------------------------------------------------------------------------- stories */

/* The power is back: the story goes on with what there is. */
static void coroutine_fn come_back(Scene *sc)
{
    FvdStory *s = sc->story;
    SectorModelCut *cut = sector_model_cut(s->model);
    g_autofree uint8_t *buf = NULL;
    BlockDriverState *bs;

    sc->fate = g_rand_int(sc->rand);
    scene_power_on(&s->disks, sc->fate);
    sc->length = 0;
    bs = fvd_story_co_open_on(s, "image", &s->disks, true, &error_abort);
    buf = scene_co_contents(sc, bs);
    bdrv_co_unref(bs);
    scene_check_sectors(sc, cut, buf);
    sector_model_cut_free(cut);
    sector_model_restart(s->model, buf);
    s->length = s->next_length = sc->length;
}

/* S9: it was closed with what failed, and nobody's power was cut. */
static void coroutine_fn look_again(Scene *sc)
{
    FvdStory *s = sc->story;
    SectorModelCut *cut = sector_model_cut(s->model);
    g_autofree uint8_t *buf = NULL;
    BlockDriverState *bs;

    scene_co_check(sc, &s->disks, 0);
    sc->length = 0;
    bs = fvd_story_co_open_on(s, "image", &s->disks, true, &error_abort);
    buf = scene_co_contents(sc, bs);
    bdrv_co_unref(bs);
    scene_check_sectors(sc, cut, buf);
    sector_model_cut_free(cut);
    sector_model_reopen(s->model, buf);
    s->length = s->next_length = sc->length;
}

static void coroutine_fn live(Scene *sc)
{
    FvdStory *s = sc->story;
    bool had_faults;

    if (g_rand_boolean(s->rand)) {
        test_cut_arm(s->disks.disk,
                     test_cut_moments(s->disks.disk) + g_rand_int_range(s->rand, 1, 150));
    }
    if (fvd_story_co_open(s)) {
        fvd_story_co_run(s, g_rand_int_range(s->rand, 1, OPS_MAX));
    }
    had_faults = fvd_story_co_close(s);
    check_moments(sc);
    if (test_cut_is_off(s->disks.disk)) {
        come_back(sc);
    } else if (had_faults) {
        look_again(sc);
    }
    test_cut_arm(s->disks.disk, 0);
}

unsigned coroutine_fn scene_co_tell(uint32_t seed, unsigned wants)
{
    Scene *sc = g_new0(Scene, 1);
    unsigned states;

    sc->story = fvd_story_new(seed, wants);
    sc->rand = g_rand_new_with_seed(~seed);
    sc->moments = g_ptr_array_new_with_free_func(moment_free);
    fvd_disks_new(sc->story, "bench-", &sc->bench);
    test_cut_set_watch(sc->story->disks.disk, remember_moment, sc);
    for (int i = 0; i < LIVES; i++) {
        live(sc);
    }
    test_cut_set_watch(sc->story->disks.disk, NULL, NULL);
    states = sc->states;
    g_ptr_array_free(sc->moments, true);
    fvd_disks_free(&sc->bench);
    fvd_story_free(sc->story);
    g_rand_free(sc->rand);
    g_free(sc);
    return states;
}
