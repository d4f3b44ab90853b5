/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Q1 to Q7: guests write to a qcow2 image, and power is cut at every write and every flush that the driver makes, while it
 * is used, opened and closed.  What was not flushed is dropped, torn, reordered.
 *
 *      a life of the image    open --- guests --- close, or power --- open --- guests ...
 *                              |  |     | | | |     |
 *      moments                 v  v     v v v v     v       an image of the disk, and what may be in it
 *                              +--+--+--+-+-+-+-----+
 *                                    |
 *      states                some fates of each moment:
 *                              S1  its bytes have leaks at most: nothing is referred to that is not counted, nothing twice
 *                              S2  it opens for reading only, which writes nothing; each sector is one that may be
 *                              S3  guests go on, and nothing but what they write changes; closed, it has as much wrong
 *                                  with it as before: leaks
 *
 * SEED and SEEDS in the environment say which stories are told; what fails names its seed, moment and fate.
 */
#include <errno.h>
#include <inttypes.h>
#include "aio/timer.h"
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/qcow2-peek.h"
#include "tests/lib/qcow2-story.h"
#include "util/osdep.h"

/* Stories of each kind, where the environment does not say it: in a second or two, some thousand states. */
#define SEEDS_DEFAULT           3
#define SEEDS_DEFAULT_SANITIZED 1
#define LIVES                   3
#define OPS_MAX                 60
#define FATES                   3
/* One state in so many is gone on with. */
#define GO_ON                   4

typedef struct Moment {
    unsigned number;
    TestCutImage *image;
    SectorModelCut *cut;
    int64_t lengths[2]; /* that the disk may have */
} Moment;

typedef struct Scene {
    Qcow2Story *story;
    GRand *rand;
    BlockDriverState *bench; /* where states are looked at */
    GPtrArray *moments;
    const Moment *moment;
    uint32_t fate;
    unsigned states;
} Scene;

static void moment_free(gpointer opaque)
{
    Moment *m = opaque;

    test_cut_image_free(m->image);
    sector_model_cut_free(m->cut);
    g_free(m);
}

static void remember_moment(void *opaque)
{
    Scene *sc = opaque;
    Moment *m = g_new0(Moment, 1);

    m->number = test_cut_moments(sc->story->disk);
    m->image = test_cut_image(sc->story->disk);
    m->cut = sector_model_cut(sc->story->model);
    m->lengths[0] = sc->story->length;
    m->lengths[1] = sc->story->next_length;
    g_ptr_array_add(sc->moments, m);
}

static void G_GNUC_PRINTF(2, 3) wrong(const Scene *sc, const char *fmt, ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_error("SEED=%u, moment %u, fate %u: %s", sc->story->seed, sc->moment ? sc->moment->number : 0,
            sc->fate, what);
}

static TestCutFate draw_fate(uint32_t seed)
{
    return (TestCutFate){.seed = seed, .tear_bytes = seed % 3 ? 512 : 0, .reorder = true};
}

/* S1 */
static int64_t coroutine_fn peek(Scene *sc, const char *when)
{
    Qcow2Peek p;

    qcow2_co_peek_node(sc->bench, &p);
    if (p.wrong) {
        wrong(sc, "%s: %s", when, p.wrong);
    }
    return p.leaks;
}

static BlockDriverState *coroutine_fn open_bench(Scene *sc, bool read_only)
{
    Error *err = NULL;
    BlockDriverState *bs =
        qcow2_story_co_open_on(sc->story, "bench-image", sc->bench, read_only, &err);

    if (!bs) {
        wrong(sc, "it cannot be opened: %s", error_get_pretty(err));
    }
    return bs;
}

/* S2 */
static uint8_t *coroutine_fn look(Scene *sc, const SectorModelCut *cut, const int64_t *lengths)
{
    unsigned before = test_cut_moments(sc->bench);
    BlockDriverState *bs = open_bench(sc, true);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    uint8_t *buf = qcow2_story_co_read_all(sc->story, user);
    int64_t bad, length = bdrv_getlength(bs);

    if (!buf) {
        wrong(sc, "it cannot be read");
    }
    if (length != lengths[0] && length != lengths[1]) {
        wrong(sc, "it has %" PRId64 " bytes, it may have %" PRId64 " or %" PRId64, length,
              lengths[0], lengths[1]);
    }
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    if (test_cut_moments(sc->bench) != before) {
        wrong(sc, "opened for reading only it was written to");
    }
    bad = sector_model_cut_check(cut, buf);
    if (bad >= 0) {
        g_autofree char *may = sector_model_cut_describe(cut, bad);

        wrong(sc, "sector %" PRId64 " is %u, and may be %s", bad,
              sector_model_id(buf + bad * SECTOR_MODEL_BYTES, bad), may);
    }
    return buf;
}

/* S3 */
static void coroutine_fn go_on(Scene *sc, uint8_t *buf)
{
    int64_t leaks = peek(sc, "before"), sectors;
    BlockDriverState *bs = open_bench(sc, false);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    g_autofree uint8_t *is = NULL;
    int ret = 0;

    sectors = bdrv_getlength(bs) / SECTOR_MODEL_BYTES;
    for (int i = g_rand_int_range(sc->rand, 1, 12); i > 0 && ret == 0; i--) {
        int64_t n = g_rand_int_range(sc->rand, 1, (int32_t)MIN(sectors, 20) + 1);
        int64_t first = g_rand_int_range(sc->rand, 0, (int32_t)(sectors - n) + 1);
        uint8_t *data = buf + first * SECTOR_MODEL_BYTES;

        sector_model_fill(data, 1000000 + (uint32_t)i, first, n);
        ret = bdrv_co_pwrite(user, first * SECTOR_MODEL_BYTES, n * SECTOR_MODEL_BYTES, data, 0);
    }
    if (ret < 0) {
        wrong(sc, "it cannot be written to: %s", strerror(-ret));
    }
    is = qcow2_story_co_read_all(sc->story, user);
    if (!is || memcmp(is, buf, sc->story->disk_bytes)) {
        wrong(sc, "what guests wrote after the cut has changed something else");
    }
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    if (peek(sc, "after") > leaks) {
        wrong(sc, "closed cleanly it has more leaks than before");
    }
}

static void coroutine_fn check_state(Scene *sc)
{
    TestCutFate fate = draw_fate(sc->fate);
    g_autofree uint8_t *buf = NULL;

    test_cut_load(sc->bench, sc->moment->image, &fate);
    peek(sc, "after the cut");
    buf = look(sc, sc->moment->cut, sc->moment->lengths);
    sc->states++;
    if (g_rand_int_range(sc->rand, 0, GO_ON) == 0) {
        go_on(sc, buf);
    }
}

static void coroutine_fn check_moments(Scene *sc)
{
    for (unsigned i = 0; i < sc->moments->len; i++) {
        sc->moment = g_ptr_array_index(sc->moments, i);
        for (int k = 0; k < FATES; k++) {
            sc->fate = g_rand_int(sc->rand);
            check_state(sc);
        }
    }
    sc->moment = NULL;
    g_ptr_array_set_size(sc->moments, 0);
}

/* ----------------------------------------------------------------------------------------------- stories */

/* The power is back: the story goes on with what there is. */
static void coroutine_fn come_back(Scene *sc)
{
    Qcow2Story *s = sc->story;
    SectorModelCut *cut = sector_model_cut(s->model);
    TestCutFate fate;
    g_autofree uint8_t *buf = NULL;
    BlockDriverState *bs;
    TestCutImage *image;

    sc->fate = g_rand_int(sc->rand);
    fate = draw_fate(sc->fate);
    test_cut_power_on(s->disk, &fate);
    image = test_cut_image(s->disk);
    test_cut_load(sc->bench, image, &(TestCutFate){.drop_all = true});
    test_cut_image_free(image);
    buf = look(sc, cut, (int64_t[]){s->length, s->next_length});
    bs = open_bench(sc, true);
    s->length = s->next_length = bdrv_getlength(bs);
    bdrv_co_unref(bs);
    sector_model_cut_free(cut);
    sector_model_restart(s->model, buf);
}

static void coroutine_fn live(Scene *sc)
{
    Qcow2Story *s = sc->story;

    if (g_rand_boolean(s->rand)) {
        test_cut_arm(s->disk, test_cut_moments(s->disk) + g_rand_int_range(s->rand, 1, 150));
    }
    if (qcow2_story_co_open(s)) {
        qcow2_story_co_run(s, g_rand_int_range(s->rand, 1, OPS_MAX));
        qcow2_story_co_close(s);
    }
    check_moments(sc);
    if (test_cut_is_off(s->disk)) {
        come_back(sc);
    }
    test_cut_arm(s->disk, 0);
}

static unsigned coroutine_fn tell(uint32_t seed, unsigned wants)
{
    Scene *sc = g_new0(Scene, 1);
    unsigned states;

    sc->story = qcow2_story_new(seed, wants);
    sc->rand = g_rand_new_with_seed(~seed);
    sc->moments = g_ptr_array_new_with_free_func(moment_free);
    sc->bench = test_cut_new_file("bench", 0, sc->story->capacity);
    test_cut_set_watch(sc->story->disk, remember_moment, sc);
    for (int i = 0; i < LIVES; i++) {
        live(sc);
    }
    test_cut_set_watch(sc->story->disk, NULL, NULL);
    states = sc->states;
    g_ptr_array_free(sc->moments, true);
    bdrv_co_unref(sc->bench);
    qcow2_story_free(sc->story);
    g_rand_free(sc->rand);
    g_free(sc);
    return states;
}

static void coroutine_fn tell_some(unsigned wants)
{
    uint32_t first = block_test_seed();
    const char *seeds = g_getenv("SEEDS");
    unsigned n = seeds                    ? (unsigned)g_ascii_strtoull(seeds, NULL, 10)
                 : block_test_sanitized() ? SEEDS_DEFAULT_SANITIZED
                                          : SEEDS_DEFAULT;
    unsigned states = 0;

    for (unsigned i = 0; i < n; i++) {
        states += tell(first + i, wants);
    }
    g_test_message("%u states", states);
}

static void coroutine_fn test_writes(void)
{
    tell_some(QCOW2_STORY_NO_BASE);
}

static void coroutine_fn test_base(void)
{
    tell_some(QCOW2_STORY_BASE);
}

static void coroutine_fn test_give_back(void)
{
    tell_some(QCOW2_STORY_GIVE_BACK);
}

static void coroutine_fn test_base_give_back(void)
{
    tell_some(QCOW2_STORY_GIVE_BACK | QCOW2_STORY_BASE | QCOW2_STORY_SMALL_CACHE);
}

static void coroutine_fn test_flush_storm(void)
{
    tell_some(QCOW2_STORY_FLUSH_STORM | QCOW2_STORY_BASE);
}

static void coroutine_fn test_no_flush(void)
{
    tell_some(QCOW2_STORY_NO_FLUSH | QCOW2_STORY_SMALL_CACHE);
}

static void coroutine_fn test_subclusters(void)
{
    tell_some(QCOW2_STORY_SUBCLUSTERS | QCOW2_STORY_GIVE_BACK);
}

static void coroutine_fn test_subclusters_base(void)
{
    tell_some(QCOW2_STORY_SUBCLUSTERS | QCOW2_STORY_BASE);
}

static void coroutine_fn test_resize(void)
{
    tell_some(QCOW2_STORY_RESIZE);
}

static void coroutine_fn test_resize_base(void)
{
    tell_some(QCOW2_STORY_RESIZE | QCOW2_STORY_BASE | QCOW2_STORY_GIVE_BACK);
}

static void add_tests(void)
{
    bdrv_qcow2_register();
    qemu_clock_set_virtual(true);
    block_test_add("/crash/qcow2/writes that allocate survive the power", test_writes);
    block_test_add("/crash/qcow2/clusters that were in the base survive the power", test_base);
    block_test_add("/crash/qcow2/clusters that are given back survive the power", test_give_back);
    block_test_add(
        "/crash/qcow2/clusters that hide the base, and tables that come and go, survive the power",
        test_base_give_back);
    block_test_add("/crash/qcow2/a storm of flushes survives the power", test_flush_storm);
    block_test_add("/crash/qcow2/a disk that nobody flushes survives the power", test_no_flush);
    block_test_add("/crash/qcow2/subclusters survive the power", test_subclusters);
    block_test_add("/crash/qcow2/subclusters that were in the base survive the power",
                   test_subclusters_base);
    block_test_add("/crash/qcow2/a disk that grows and shrinks survives the power", test_resize);
    block_test_add("/crash/qcow2/a disk over a base that grows and shrinks survives the power",
                   test_resize_base);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
