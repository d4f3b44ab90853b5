/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fvd-scene.h: what is done with a state. */
#include <errno.h>
#include <inttypes.h>
#include "coro/sleep.h"
#include "tests/crash/fvd-scene.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

/* In one of so many states power goes at each moment of the recovery, else at one. */
#define THOROUGHLY 16
/* In one of so many states guests go on; in one of so many until the power goes again. */
#define GO_ON      4
#define GO_ON_CUT  2
/* In one of so many states there is a check, and a repair; in one of so many the process was killed. */
#define CHECK      3
#define REPAIR     4
#define KILL       3

/* S5: @buf becomes what is on the disk then.  False: the space was not enough, and a write was done in part. */
static bool coroutine_fn go_on(Scene *sc, BlockDriverState *bs, uint8_t *buf)
{
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    int64_t sectors = sc->length / SECTOR_MODEL_BYTES;
    int ret = 0;

    for (int i = g_rand_int_range(sc->rand, 1, 4); i > 0 && ret == 0; i--) {
        int64_t n = g_rand_int_range(sc->rand, 1, MIN(sectors, 5) + 1);
        int64_t first = g_rand_int_range(sc->rand, 0, sectors - n + 1);
        uint8_t *data = buf + first * SECTOR_MODEL_BYTES;

        sector_model_fill(data, 1000000 + i, first, n);
        ret = bdrv_co_pwrite(user, first * SECTOR_MODEL_BYTES, n * SECTOR_MODEL_BYTES, data, 0);
        if (ret < 0 && ret != -ENOSPC) {
            scene_wrong(sc, "it cannot be written to: %s", strerror(-ret));
        }
    }
    block_test_co_user_free(user);
    return ret == 0;
}

/* S2, S3, S5; gives the moments that opening it had. */
static unsigned coroutine_fn recover(Scene *sc, const uint8_t *want)
{
    g_autofree uint8_t *expected = g_memdup2(want, sc->story->shape.disk_bytes);
    g_autofree uint8_t *peeked = g_malloc(sc->story->shape.disk_bytes);
    g_autofree uint8_t *buf = NULL;
    unsigned before = test_cut_moments(sc->bench.disk), moments;
    BlockDriverState *bs = scene_co_open(sc, false);
    bool known = true;

    moments = test_cut_moments(sc->bench.disk) - before;
    buf = scene_co_contents(sc, bs);
    scene_expect(sc, expected, buf, "opened for writing");
    if (g_rand_int_range(sc->rand, 0, GO_ON) == 0) {
        known = go_on(sc, bs, expected);
    }
    bdrv_co_unref(bs);
    test_cut_now(sc->bench.disk);
    test_cut_power_on(sc->bench.disk, &(TestCutFate){.drop_all = true});
    if (sc->bench.data) { /* its data needs no flush: nobody asked */
        BdrvChild *user = block_test_user(sc->bench.data, 0);

        g_assert_cmpint(bdrv_co_flush(sc->bench.data), ==, 0);
        block_test_co_user_free(user);
    }
    fvd_story_peek(sc->story, &sc->bench, peeked);
    if (known) {
        scene_expect(sc, expected, peeked, "closed");
    }
    if (sc->story->wants & FVD_STORY_BITMAPS) { /* which have been written again */
        g_free(scene_co_look(sc));
    }
    if (g_rand_int_range(sc->rand, 0, CHECK) == 0) {
        scene_co_check(sc, &sc->bench, 0);
    }
    return moments;
}

/* S4 */
static void coroutine_fn cut_recovery(Scene *sc, unsigned moment, const uint8_t *want)
{
    g_autofree uint8_t *buf = NULL;
    BlockDriverState *bs;

    scene_load(sc);
    test_cut_arm(sc->bench.disk, test_cut_moments(sc->bench.disk) + moment);
    bs = scene_co_open(sc, false);
    if (!test_cut_is_off(sc->bench.disk)) {
        scene_wrong(sc, "recovery took less than %u moments the second time", moment);
    }
    if (bs) {
        bdrv_co_unref(bs);
    }
    scene_power_on(&sc->bench, g_rand_int(sc->rand));
    buf = scene_co_look(sc);
    scene_expect(sc, want, buf, "after another cut");
    sc->states++;
}

/* One write or flush of a guest who is alone; without power the end. */
static bool coroutine_fn one_more(Scene *sc, SectorModel *model, BdrvChild *user)
{
    int64_t sectors = sc->length / SECTOR_MODEL_BYTES;
    int64_t n = g_rand_int_range(sc->rand, 1, MIN(sectors, 12) + 1);
    int64_t first = g_rand_int_range(sc->rand, 0, sectors - n + 1);
    g_autofree uint8_t *data = g_malloc(n * SECTOR_MODEL_BYTES);
    SectorModelOp op;
    int ret;

    if (g_rand_int_range(sc->rand, 0, 3) == 0) {
        uint32_t began = sector_model_flush_begin(model);

        ret = bdrv_co_flush(user->bs);
        sector_model_flush_end(model, began, ret);
    } else {
        sector_model_write_begin(model, SECTOR_MODEL_WRITE, first, n, &op);
        sector_model_fill(data, op.id, first, n);
        ret = bdrv_co_pwrite(user, first * SECTOR_MODEL_BYTES, n * SECTOR_MODEL_BYTES, data, 0);
        sector_model_write_end(model, &op, ret, false);
    }
    if (g_rand_int_range(sc->rand, 0, 4) == 0) {
        qemu_co_sleep_ns(2000000); /* the journal's timer runs */
    }
    if (ret < 0 && ret != -ENOSPC && !test_cut_is_off(sc->bench.disk)) {
        scene_wrong(sc, "it cannot be used any more: %s", strerror(-ret));
    }
    return ret == 0;
}

/* S6.  @killed: S8, the process has been killed, not the power; what is found is made durable first. */
static void coroutine_fn cut_again(Scene *sc, const uint8_t *want, bool killed)
{
    SectorModel *model = sector_model_new(sector_model_sectors(sc->story->model), 0);
    int ops = g_rand_int_range(sc->rand, 1, 12);
    g_autofree uint8_t *buf = NULL;
    SectorModelCut *cut;
    BlockDriverState *bs;

    sector_model_restart(model, want);
    (killed ? scene_load_cached : scene_load)(sc);
    bs = scene_co_open(sc, false);
    if (killed) {
        g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    }
    test_cut_arm(sc->bench.disk,
                 test_cut_moments(sc->bench.disk) + g_rand_int_range(sc->rand, 1, 40));
    if (bs) {
        BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);

        while (ops-- > 0 && one_more(sc, model, user)) {
        }
        test_cut_now(sc->bench.disk);
        block_test_co_user_free(user);
        bdrv_co_unref(bs);
    }
    scene_power_on(&sc->bench, g_rand_int(sc->rand));
    buf = scene_co_look(sc);
    cut = sector_model_cut(model);
    scene_check_sectors(sc, cut, buf);
    sector_model_cut_free(cut);
    sector_model_free(model);
    recover(sc, buf);
    sc->states++;
}

/* S7.  What a repair does to what is behind the last chunk may be cut as everything else. */
static void coroutine_fn repair(Scene *sc, const uint8_t *want)
{
    unsigned fix = BDRV_FIX_LEAKS | (g_rand_boolean(sc->rand) ? BDRV_FIX_ERRORS : 0);
    unsigned before, moments;
    g_autofree uint8_t *repaired = NULL, *torn = NULL;

    scene_load(sc);
    before = test_cut_moments(sc->bench.disk);
    scene_co_check(sc, &sc->bench, fix);
    moments = test_cut_moments(sc->bench.disk) - before;
    repaired = scene_co_look(sc);
    scene_expect(sc, want, repaired, "repaired");
    scene_co_check(sc, &sc->bench, 0);
    sc->states++;
    if (moments == 0) {
        return;
    }
    scene_load(sc);
    test_cut_arm(sc->bench.disk,
                 test_cut_moments(sc->bench.disk) + g_rand_int_range(sc->rand, 1, moments + 1));
    scene_co_check(sc, &sc->bench, fix);
    scene_power_on(&sc->bench, g_rand_int(sc->rand));
    torn = scene_co_look(sc);
    scene_expect(sc, want, torn, "after a repair that was cut");
    recover(sc, torn);
    sc->states++;
}

/* S8 */
static void coroutine_fn kill_and_cut(Scene *sc)
{
    unsigned moments, before;
    g_autofree uint8_t *seen = NULL, *left = NULL, *flushed = NULL;
    BlockDriverState *bs;

    scene_load_cached(sc);
    sc->length = 0;
    seen = scene_co_look(sc);
    scene_check_sectors(sc, sc->moment->cut, seen);
    before = test_cut_moments(sc->bench.disk);
    bs = scene_co_open(sc, false);
    moments = test_cut_moments(sc->bench.disk) - before;
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    test_cut_now(sc->bench.disk);
    bdrv_co_unref(bs);
    scene_power_on(&sc->bench, g_rand_int(sc->rand));
    flushed = scene_co_look(sc);
    scene_expect(sc, seen, flushed, "opened again, flushed, and cut");
    if (g_rand_boolean(sc->rand)) {
        cut_again(sc, seen, true);
    }

    scene_load_cached(sc);
    test_cut_arm(sc->bench.disk,
                 test_cut_moments(sc->bench.disk) + g_rand_int_range(sc->rand, 1, moments + 2));
    bs = scene_co_open(sc, false);
    if (bs) {
        bdrv_co_flush(bs);
        test_cut_now(sc->bench.disk);
        bdrv_co_unref(bs);
    }
    scene_power_on(&sc->bench, g_rand_int(sc->rand));
    sc->length = 0;
    left = scene_co_look(sc);
    scene_check_sectors(sc, sc->moment->cut, left);
    recover(sc, left);
    sc->states += 2;
}

void coroutine_fn scene_co_check_state(Scene *sc)
{
    g_autofree uint8_t *buf = NULL;
    unsigned moments;

    scene_load(sc);
    sc->length = 0;
    buf = scene_co_look(sc);
    scene_check_sectors(sc, sc->moment->cut, buf);
    if (g_rand_int_range(sc->rand, 0, CHECK) == 0) {
        scene_co_check(sc, &sc->bench, 0);
    }
    moments = recover(sc, buf);
    sc->states++;
    if (g_rand_int_range(sc->rand, 0, REPAIR) == 0) {
        repair(sc, buf);
    }
    if (g_rand_int_range(sc->rand, 0, GO_ON_CUT) == 0) {
        cut_again(sc, buf, false);
    }
    if (moments && g_rand_int_range(sc->rand, 0, THOROUGHLY) == 0) {
        for (unsigned i = 1; i <= moments; i++) {
            cut_recovery(sc, i, buf);
        }
    } else if (moments) {
        cut_recovery(sc, g_rand_int_range(sc->rand, 1, moments + 1), buf);
    }
    if (g_rand_int_range(sc->rand, 0, KILL) == 0) {
        kill_and_cut(sc);
    }
}
