/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F1 to F10: guests write to an FVD image, and power is cut at every write and every flush that the driver makes, while
 * it is used, opened, closed and recovered.  What was not flushed is dropped, torn, reordered.
 *
 *      a life of the image    open --- guests --- close, or power --- open --- guests ...
 *                              |  |     | | | |     |
 *      moments                 v  v     v v v v     v       an image of the disks, and what may be in it
 *                              +--+--+--+-+-+-+-----+
 *                                    |
 *      states                some fates of each moment:
 *                              S1  it opens for reading only, which writes nothing; each sector is one that may be
 *                              S2  it opens for writing, and shows the same
 *                              S3  then the bytes of the image say the same, without a journal
 *                              S4  power that goes while it is opened, at any moment, and whatever its fate: the same
 *                              S5  guests go on, and nothing but what they write changes
 *                              S6  power goes again while they do: as S1 to S3
 *
 * SEED and SEEDS in the environment say which stories are told; what fails names its seed, moment and fate.
 */
#include <errno.h>
#include <inttypes.h>
#include "aio/timer.h"
#include "block/drivers/drivers.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-story.h"
#include "util/osdep.h"

#define LIVES       3
#define OPS_MAX     40
#define FATES       2
/* In one of so many states power goes at each moment of the recovery, else at one. */
#define THOROUGHLY  16
/* In one of so many states guests go on; in one of so many until the power goes again. */
#define GO_ON       4
#define GO_ON_CUT   2
#define MOMENTS_MAX 400

typedef struct Moment {
    unsigned number;
    TestCutImage *disk, *data;
    SectorModelCut *cut;
    int64_t lengths[2]; /* one of them is the disk's */
    uint8_t *gone;      /* of the base: garbage there, and nobody may look.  NULL: nothing yet */
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

/* Stories of each kind, where the environment does not say it: in a second or two, some thousand states. */
#define SEEDS_DEFAULT           6
#define SEEDS_DEFAULT_SANITIZED 1

static unsigned all_states;

static void moment_free(void *opaque)
{
    Moment *m = opaque;

    test_cut_image_free(m->disk);
    test_cut_image_free(m->data);
    sector_model_cut_free(m->cut);
    g_free(m->gone);
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

static void load(Scene *sc)
{
    TestCutFate fate = fate_of(sc->fate);

    test_cut_load(sc->bench.disk, sc->moment->disk, &fate);
    if (sc->moment->data) {
        fate.seed ^= 0x5555;
        test_cut_load(sc->bench.data, sc->moment->data, &fate);
    }
}

static void power_on(const FvdDisks *disks, uint32_t seed)
{
    TestCutFate fate = fate_of(seed);

    test_cut_power_on(disks->disk, &fate);
    if (disks->data) {
        fate.seed ^= 0x5555;
        test_cut_power_on(disks->data, &fate);
    }
}

/* ------------------------------------------------------------------------------------------------ states */

static void G_GNUC_PRINTF(2, 3) wrong(const Scene *sc, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, format);
    what = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_error("SEED=%u moment %u fate %u: %s", sc->story->seed, sc->moment ? sc->moment->number : 0,
            sc->fate, what);
}

static BlockDriverState *coroutine_fn open_bench(Scene *sc, bool read_only)
{
    Error *err = NULL;
    BlockDriverState *bs = fvd_story_co_open_on(sc->story, "bench", &sc->bench, read_only, &err);

    if (!bs && !test_cut_is_off(sc->bench.disk)) {
        wrong(sc, "it cannot be opened: %s", error_get_pretty(err));
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
        wrong(sc,
              "it has %" PRId64 " bytes, it had %" PRId64 ", it may have %" PRId64 " or %" PRId64,
              length, sc->length, may[0], may[1]);
    }
    sc->length = length;
}

static uint8_t *coroutine_fn contents(Scene *sc, BlockDriverState *bs)
{
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    uint8_t *buf = fvd_story_co_read_all(sc->story, user);

    if (!buf) {
        wrong(sc, "it cannot be read");
    }
    block_test_co_user_free(user);
    check_length(sc, bdrv_getlength(bs));
    return buf;
}

static void expect(Scene *sc, const uint8_t *want, const uint8_t *is, const char *when)
{
    for (int64_t i = 0; i < sector_model_sectors(sc->story->model); i++) {
        const int64_t at = i * SECTOR_MODEL_BYTES;

        if (memcmp(want + at, is + at, SECTOR_MODEL_BYTES)) {
            wrong(sc, "sector %" PRId64 " was %u, and %s it is %u", i,
                  sector_model_id(want + at, i), when, sector_model_id(is + at, i));
        }
    }
}

/* S1 */
static uint8_t *coroutine_fn look(Scene *sc)
{
    unsigned before = test_cut_moments(sc->bench.disk);
    BlockDriverState *bs = open_bench(sc, true);
    uint8_t *buf = contents(sc, bs);

    bdrv_co_unref(bs);
    if (test_cut_moments(sc->bench.disk) != before) {
        wrong(sc, "opened for reading only it was written to");
    }
    return buf;
}

static void check_sectors(Scene *sc, const SectorModelCut *cut, const uint8_t *buf)
{
    int64_t bad = sector_model_cut_check(cut, buf);
    g_autofree char *may = NULL;

    if (bad >= 0) {
        may = sector_model_cut_describe(cut, bad);
        wrong(sc, "sector %" PRId64 " is %u, and may be %s", bad,
              sector_model_id(buf + bad * SECTOR_MODEL_BYTES, bad), may);
    }
}

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
            wrong(sc, "it cannot be written to: %s", strerror(-ret));
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
    BlockDriverState *bs = open_bench(sc, false);
    bool known = true;

    moments = test_cut_moments(sc->bench.disk) - before;
    buf = contents(sc, bs);
    expect(sc, expected, buf, "opened for writing");
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
        expect(sc, expected, peeked, "closed");
    }
    return moments;
}

/* S4 */
static void coroutine_fn cut_recovery(Scene *sc, unsigned moment, const uint8_t *want)
{
    g_autofree uint8_t *buf = NULL;
    BlockDriverState *bs;

    load(sc);
    test_cut_arm(sc->bench.disk, test_cut_moments(sc->bench.disk) + moment);
    bs = open_bench(sc, false);
    if (!test_cut_is_off(sc->bench.disk)) {
        wrong(sc, "recovery took less than %u moments the second time", moment);
    }
    if (bs) {
        bdrv_co_unref(bs);
    }
    power_on(&sc->bench, g_rand_int(sc->rand));
    buf = look(sc);
    expect(sc, want, buf, "after another cut");
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
        wrong(sc, "it cannot be used any more: %s", strerror(-ret));
    }
    return ret == 0;
}

/* S6 */
static void coroutine_fn cut_again(Scene *sc, const uint8_t *want)
{
    SectorModel *model = sector_model_new(sector_model_sectors(sc->story->model), 0);
    int ops = g_rand_int_range(sc->rand, 1, 12);
    g_autofree uint8_t *buf = NULL;
    SectorModelCut *cut;
    BlockDriverState *bs;

    sector_model_restart(model, want);
    load(sc);
    bs = open_bench(sc, false);
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
    power_on(&sc->bench, g_rand_int(sc->rand));
    buf = look(sc);
    cut = sector_model_cut(model);
    check_sectors(sc, cut, buf);
    sector_model_cut_free(cut);
    sector_model_free(model);
    recover(sc, buf);
    sc->states++;
}

static void coroutine_fn check_state(Scene *sc)
{
    g_autofree uint8_t *buf = NULL;
    unsigned moments;

    load(sc);
    sc->length = 0;
    buf = look(sc);
    check_sectors(sc, sc->moment->cut, buf);
    moments = recover(sc, buf);
    sc->states++;
    if (g_rand_int_range(sc->rand, 0, GO_ON_CUT) == 0) {
        cut_again(sc, buf);
    }
    if (moments == 0) {
        return;
    }
    if (g_rand_int_range(sc->rand, 0, THOROUGHLY) == 0) {
        for (unsigned i = 1; i <= moments; i++) {
            cut_recovery(sc, i, buf);
        }
    } else {
        cut_recovery(sc, g_rand_int_range(sc->rand, 1, moments + 1), buf);
    }
}

static void coroutine_fn check_moments(Scene *sc)
{
    for (unsigned i = 0; i < sc->moments->len; i++) {
        sc->moment = g_ptr_array_index(sc->moments, i);
        if (sc->moment->gone) {
            fvd_story_fill_base(sc->story, sc->moment->gone, sc->bench.base);
        }
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
    FvdStory *s = sc->story;
    SectorModelCut *cut = sector_model_cut(s->model);
    g_autofree uint8_t *buf = NULL;
    BlockDriverState *bs;

    sc->fate = g_rand_int(sc->rand);
    power_on(&s->disks, sc->fate);
    sc->length = 0;
    bs = fvd_story_co_open_on(s, "image", &s->disks, true, &error_abort);
    buf = contents(sc, bs);
    bdrv_co_unref(bs);
    check_sectors(sc, cut, buf);
    sector_model_cut_free(cut);
    sector_model_restart(s->model, buf);
    s->length = s->next_length = sc->length;
}

static void coroutine_fn live(Scene *sc)
{
    FvdStory *s = sc->story;

    if (g_rand_boolean(s->rand)) {
        test_cut_arm(s->disks.disk,
                     test_cut_moments(s->disks.disk) + g_rand_int_range(s->rand, 1, 150));
    }
    if (fvd_story_co_open(s)) {
        fvd_story_co_run(s, g_rand_int_range(s->rand, 1, OPS_MAX));
        fvd_story_co_close(s);
    }
    check_moments(sc);
    if (test_cut_is_off(s->disks.disk)) {
        come_back(sc);
    }
    test_cut_arm(s->disks.disk, 0);
}

static void coroutine_fn tell(uint32_t seed, unsigned wants)
{
    Scene *sc = g_new0(Scene, 1);

    sc->story = fvd_story_new(seed, wants);
    sc->rand = g_rand_new_with_seed(~seed);
    sc->moments = g_ptr_array_new_with_free_func(moment_free);
    fvd_disks_new(sc->story, "bench-", &sc->bench);
    test_cut_set_watch(sc->story->disks.disk, remember_moment, sc);
    for (int i = 0; i < LIVES; i++) {
        live(sc);
    }
    test_cut_set_watch(sc->story->disks.disk, NULL, NULL);
    all_states += sc->states;
    g_ptr_array_free(sc->moments, true);
    fvd_disks_free(&sc->bench);
    fvd_story_free(sc->story);
    g_rand_free(sc->rand);
    g_free(sc);
}

static void coroutine_fn tell_some(unsigned wants)
{
    uint32_t first = block_test_seed();
    const char *seeds = g_getenv("SEEDS");
    unsigned n = seeds                    ? g_ascii_strtoull(seeds, NULL, 10)
                 : block_test_sanitized() ? SEEDS_DEFAULT_SANITIZED
                                          : SEEDS_DEFAULT;

    all_states = 0;
    for (unsigned i = 0; i < n; i++) {
        tell(first + i, wants);
    }
    g_test_message("%u states", all_states);
}

static void coroutine_fn test_writes(void)
{
    tell_some(FVD_STORY_NO_BASE);
}

static void coroutine_fn test_base(void)
{
    tell_some(FVD_STORY_BASE);
}

static void coroutine_fn test_tiny_journal(void)
{
    tell_some(FVD_STORY_TINY_JOURNAL);
}

static void coroutine_fn test_device(void)
{
    tell_some(FVD_STORY_DEVICE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_data_file(void)
{
    tell_some(FVD_STORY_DATA_FILE);
}

static void coroutine_fn test_old(void)
{
    tell_some(FVD_STORY_OLD);
}

static void coroutine_fn test_give_back(void)
{
    tell_some(FVD_STORY_GIVE_BACK | FVD_STORY_TINY_JOURNAL);
}

static void coroutine_fn test_flush_storm(void)
{
    tell_some(FVD_STORY_FLUSH_STORM | FVD_STORY_BASE);
}

static void coroutine_fn test_no_flush(void)
{
    tell_some(FVD_STORY_NO_FLUSH | FVD_STORY_NO_BASE);
}

static void coroutine_fn test_sums(void)
{
    tell_some(FVD_STORY_SUMS | FVD_STORY_BASE);
}

static void coroutine_fn test_sums_given_back(void)
{
    tell_some(FVD_STORY_SUMS | FVD_STORY_BASE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_copy_on_read(void)
{
    tell_some(FVD_STORY_COPY_ON_READ | FVD_STORY_BASE);
}

static void coroutine_fn test_prefetch(void)
{
    tell_some(FVD_STORY_PREFETCH | FVD_STORY_BASE);
}

static void coroutine_fn test_prefetch_and_all(void)
{
    tell_some(FVD_STORY_PREFETCH | FVD_STORY_COPY_ON_READ | FVD_STORY_BASE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_resize(void)
{
    tell_some(FVD_STORY_RESIZE | FVD_STORY_NO_BASE);
}

static void coroutine_fn test_resize_base(void)
{
    tell_some(FVD_STORY_RESIZE | FVD_STORY_COPY_ON_READ | FVD_STORY_BASE);
}

static void coroutine_fn test_resize_prefetch(void)
{
    tell_some(FVD_STORY_RESIZE | FVD_STORY_PREFETCH | FVD_STORY_BASE | FVD_STORY_GIVE_BACK);
}

static void add_tests(void)
{
    bdrv_fvd_register();
    qemu_clock_set_virtual(true);
    block_test_add("/crash/fvd/writes that allocate survive the power", test_writes);
    block_test_add("/crash/fvd/blocks that were in the base survive the power", test_base);
    block_test_add("/crash/fvd/a journal that is filled again survives the power",
                   test_tiny_journal);
    block_test_add("/crash/fvd/a device that held something else survives the power", test_device);
    block_test_add("/crash/fvd/a data file of its own survives the power", test_data_file);
    block_test_add("/crash/fvd/an old program's image survives the power", test_old);
    block_test_add("/crash/fvd/chunks that are given back survive the power", test_give_back);
    block_test_add("/crash/fvd/a storm of flushes survives the power", test_flush_storm);
    block_test_add("/crash/fvd/a disk that nobody flushes survives the power", test_no_flush);
    block_test_add("/crash/fvd/blocks recorded with checksums survive the power", test_sums);
    block_test_add("/crash/fvd/blocks recorded with checksums, and given back, survive the power",
                   test_sums_given_back);
    block_test_add("/crash/fvd/blocks that were kept when they were read survive the power",
                   test_copy_on_read);
    block_test_add("/crash/fvd/a base that is copied into the image survives the power",
                   test_prefetch);
    block_test_add("/crash/fvd/a disk that grows and shrinks survives the power", test_resize);
    block_test_add("/crash/fvd/a disk over a base that grows and shrinks survives the power",
                   test_resize_base);
    block_test_add("/crash/fvd/a disk that is resized while its base is copied survives the power",
                   test_resize_prefetch);
    block_test_add("/crash/fvd/a base that is copied, and chunks given back, survive the power",
                   test_prefetch_and_all);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
