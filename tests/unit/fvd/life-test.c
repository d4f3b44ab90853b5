/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An FVD image's life: the contract of drivers, open, close, reopen, and what a power cut leaves. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-ram.h"
#include "tests/lib/test-slow.h"
#include "tests/unit/fvd/journal.h"
#include "util/osdep.h"

#define SECTOR 512

/* ------------------------------------------------------------------------------------------ open, close */

static const FvdImageSpec small = {
    .size = 1 * MiB,
    .chunk_size = 64 * KiB,
    .block_size = 16 * KiB,
    .journal_size = 32 * KiB,
};

static BlockDriverState *coroutine_fn open_image(bool read_only)
{
    return block_test_co_open("{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"file\", "
                              "\"read-only\": %s}",
                              read_only ? "true" : "false");
}

/* Sector 6: an image that nobody wrote to is left as it was. */
static void coroutine_fn test_begins_with_the_first_change(void)
{
    BlockDriverState *file = test_ram_new("file", 0), *bs;
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    BdrvChild *user;

    fvd_image_co_make(file, &small);
    test_ram_reset_counts(file);
    bs = open_image(false);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    block_test_co_expect(user, 0, 1 * MiB, 0);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpuint(test_ram_counts(file)->writes, ==, 0);
    block_test_co_fill(user, 0, SECTOR, 1);
    fvd_image_co_header(file, h);
    g_assert_cmpuint(h->clean_shutdown, ==, 0);
    g_assert_cmpuint(h->stable_journal_epoch, ==, 1);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    fvd_image_co_header(file, h);
    g_assert_cmpuint(h->clean_shutdown, ==, 1);
    g_assert_cmpuint(h->stable_journal_epoch, >, 1);
    g_assert_false(h->geometry_crc_wrong || h->state_crc_wrong);

    bs = open_image(false);
    bdrv_co_unref(bs);
    bs = open_image(true);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    block_test_co_expect(user, 0, SECTOR, 1);
    block_test_co_expect(user, SECTOR, 1 * MiB - SECTOR, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

static void coroutine_fn reopen(bool read_only)
{
    g_autoptr(BlockdevOptions) opts =
        block_test_options("{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"file\", "
                           "\"read-only\": %s}",
                           read_only ? "true" : "false");
    BlockdevOptionsList list = {.value = opts};

    bdrv_co_reopen_multiple(&list, &error_abort);
}

static void coroutine_fn test_reopen(void)
{
    BlockDriverState *file = test_ram_new("file", 0), *bs;
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    BdrvChild *user;

    fvd_image_co_make(file, &small);
    bs = open_image(false);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    block_test_co_fill(user, 0, 200 * KiB, 1);
    g_assert_cmpint(
        bdrv_child_try_set_perm(user, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort), ==, 0);
    reopen(true);
    fvd_image_co_header(file, h);
    g_assert_cmpuint(h->clean_shutdown, ==, 1);
    block_test_co_expect(user, 0, 200 * KiB, 1);
    reopen(false);
    g_assert_cmpint(bdrv_child_try_set_perm(user, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                                            BLK_PERM_ALL, &error_abort),
                    ==, 0);
    block_test_co_fill(user, 300 * KiB, 200 * KiB, 2);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bs = open_image(true);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    block_test_co_expect(user, 0, 200 * KiB, 1);
    block_test_co_expect(user, 200 * KiB, 100 * KiB, 0);
    block_test_co_expect(user, 300 * KiB, 200 * KiB, 2);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

/* F4: the file takes writes again after the flush that failed, and still nothing is promised any more. */
static void coroutine_fn test_failed_flush(void)
{
    BlockDriverState *file = test_ram_new("file", 0), *bs;
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    uint8_t buf[SECTOR] = {0};
    BdrvChild *user;

    fvd_image_co_make(file, &small);
    bs = open_image(false);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    block_test_co_fill(user, 0, SECTOR, 1);
    test_ram_set_error(file, TEST_RAM_FLUSH, 0, 0, EIO, 1);
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO);
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, SECTOR, buf, 0), ==, -EIO);
    block_test_co_expect(user, 0, SECTOR, 1);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    fvd_image_co_header(file, h);
    g_assert_cmpuint(h->clean_shutdown, ==, 0);
    bdrv_co_unref(file);
}

/* Metadata in one file, data in another; a flush is of both. */
static void coroutine_fn test_data_file(void)
{
    FvdImageSpec spec = small;
    BlockDriverState *file = test_ram_new("file", 0), *data = test_ram_new("data", 0), *bs;
    const char *options =
        "{\"driver\": \"fvd\", \"file\": \"file\", \"data-file\": \"data\", \"backing\": null}";
    BdrvChild *user;

    spec.data_file = "elsewhere";
    spec.base_size = spec.size;
    spec.incompatible = FVD_INCOMPATIBLE_BLOCK_SUMS | FVD_INCOMPATIBLE_REMAP;
    fvd_image_co_make(file, &spec);
    bs = block_test_co_open("%s", options);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    test_ram_reset_counts(data);
    block_test_co_fill(user, 100 * KiB, 300 * KiB, 7);
    g_assert_cmpuint(test_ram_counts(data)->flushes, ==, 0);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    g_assert_cmpuint(test_ram_counts(data)->flushes, ==, 1);
    g_assert_cmpint(test_ram_allocated(data), >=, 300 * KiB);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bs = block_test_co_open("%s", options);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    block_test_co_expect(user, 0, 100 * KiB, 0);
    block_test_co_expect(user, 100 * KiB, 300 * KiB, 7);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(data);
    bdrv_co_unref(file);
}

static void coroutine_fn test_no_journal(void)
{
    FvdImageSpec spec = small;
    BlockDriverState *file = test_ram_new("file", 0), *bs;

    spec.no_journal = true;
    fvd_image_co_make(file, &spec);
    block_test_co_open_fails("has no journal", "{\"driver\": \"fvd\", \"file\": \"file\"}");
    bs = block_test_co_open("{\"driver\": \"fvd\", \"file\": \"file\", \"auto-read-only\": true}");
    g_assert_true(bdrv_is_read_only(bs));
    bdrv_co_unref(bs);
    bs = open_image(true);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

/* Names in a header are those of files: who may write an image's bytes may not choose drivers, nor send us in circles. */
static void coroutine_fn test_names_of_strangers(void)
{
    g_autofree char *file = block_test_path("stranger.fvd");
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);
    FvdImageSpec spec = small;

    spec.data_file = "json:{\"driver\": \"fvd\", \"file\": \"stolen\"}";
    fvd_image_make_file(file, &spec);
    block_test_co_open_fails("no file name",
                             "{\"driver\": \"fvd\", \"read-only\": true, \"file\": {\"driver\": "
                             "\"file\", \"filename\": \"%s\"}}",
                             file);
    spec.data_file = file;
    fvd_image_header(&spec, h);
    strcpy(h->data_file_fmt, "fvd");
    fvd_header_encode(h, buf);
    g_assert_true(g_file_set_contents(file, (char *)buf, FVD_HEADER_REGION, NULL));
    g_assert_cmpint(truncate(file, 2 * MiB), ==, 0);
    block_test_co_open_fails("data file",
                             "{\"driver\": \"fvd\", \"read-only\": true, \"file\": {\"driver\": "
                             "\"file\", \"filename\": \"%s\"}}",
                             file);
    spec.data_file = NULL;
    spec.base_size = spec.size;
    spec.base_img = file;
    fvd_image_make_file(file, &spec);
    block_test_co_open_fails("backing file",
                             "{\"driver\": \"fvd\", \"read-only\": true, \"file\": {\"driver\": "
                             "\"file\", \"filename\": \"%s\"}}",
                             file);
}

/* A record of an image that nobody has written to: blocks of chunks that have no place count by their sums. */
static void coroutine_fn put_sums(BlockDriverState *file, uint32_t blocks)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);
    uint8_t sector[FVD_JSECTOR_SIZE] = {0};

    fvd_image_co_header(file, h);
    add_sums(sector, 0, 0, blocks, 1);
    add_trailer(sector, h->stable_journal_epoch + 1, 1);
    test_ram_poke(file, h->journal_offset, sector, sizeof(sector));
    h->clean_shutdown = 0;
    fvd_header_encode(h, buf);
    test_ram_poke(file, 0, buf, FVD_HEADER_REGION);
}

typedef struct Bystander {
    unsigned turns;
    bool stop, stopped;
} Bystander;

static void coroutine_fn bystander_entry(void *opaque)
{
    Bystander *b = opaque;

    while (!b->stop) {
        b->turns++;
        aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    b->stopped = true;
}

/* Zeros without a place are there at once, as many as a header says: they are no reason to stand still. */
static void coroutine_fn test_sums_let_others_in(void)
{
    FvdImageSpec spec = {.size = 256 * MiB,
                         .base_size = 256 * MiB,
                         .block_size = 8 * MiB,
                         .chunk_size = 8 * MiB,
                         .journal_size = 32 * KiB,
                         .incompatible = FVD_INCOMPATIBLE_BLOCK_SUMS | FVD_INCOMPATIBLE_REMAP};
    BlockDriverState *file = test_ram_new("file", 0), *bs;
    Bystander b = {0};

    fvd_image_co_make(file, &spec);
    put_sums(file, 32);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(bystander_entry, &b));
    bs = open_image(true);
    g_assert_cmpuint(b.turns, >=, 100);
    b.stop = true;
    block_test_co_settle();
    g_assert_true(b.stopped);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

/* ------------------------------------------------------------------------------------------------ cuts */

/*
 * Sectors are written with the number of their write, alone in all their bytes; what the base has is BASE.  Of each
 * sector it is known what it was at the last flush and what was written since: one of these it must be after a cut.
 */
enum { BASE = 255, STEPS_MAX = 200, DISK_SECTORS = 512, DISK = DISK_SECTORS * SECTOR };

typedef struct Story {
    BlockDriverState *base, *cut, *bs;
    const char *file; /* of the image: what is on the cut disk */
    BdrvChild *user;
    GRand *rand;
    uint8_t last[DISK_SECTORS];
    bool allowed[DISK_SECTORS][256];
    unsigned step;
    bool has_base;
} Story;

static FvdImageSpec cut_spec(GRand *rand)
{
    static const int64_t chunks[] = {4 * KiB, 16 * KiB, 64 * KiB};
    static const int64_t blocks[] = {4 * KiB, 16 * KiB, 64 * KiB};
    FvdImageSpec spec = {
        .size = DISK,
        .chunk_size = chunks[g_rand_int_range(rand, 0, 3)],
        .block_size = blocks[g_rand_int_range(rand, 0, 3)],
        .journal_size = 24 * KiB,
        .incompatible = g_rand_int_range(rand, 0, 4), /* BLOCK_SUMS, REMAP */
        .no_table = g_rand_int_range(rand, 0, 8) == 0,
    };

    if (g_rand_boolean(rand)) {
        spec.base_size = g_rand_int_range(rand, 1, DISK_SECTORS + 1) * SECTOR;
    }
    return spec;
}

static void coroutine_fn story_open(Story *s, bool read_only)
{
    s->bs = block_test_co_open("{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"%s\", "
                               "\"backing\": %s, \"discard\": \"unmap\", \"read-only\": %s}",
                               s->file, s->has_base ? "\"base\"" : "null",
                               read_only ? "true" : "false");
    s->user = block_test_user(s->bs, read_only ? BLK_PERM_CONSISTENT_READ
                                               : BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
}

static void coroutine_fn story_close(Story *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
}

static void coroutine_fn story_begin(Story *s, const FvdImageSpec *spec, uint32_t seed)
{
    *s = (Story){.rand = g_rand_new_with_seed(seed), .has_base = spec->base_size, .file = "cut"};
    s->cut = test_cut_new("cut", fvd_image_data_offset(spec) + 2 * DISK);
    s->base = test_ram_new("base", spec->base_size);
    for (int64_t i = 0; i < spec->base_size / SECTOR; i++) {
        uint8_t sector[SECTOR];

        memset(sector, BASE, SECTOR);
        test_ram_poke(s->base, i * SECTOR, sector, SECTOR);
        s->last[i] = BASE;
    }
    for (int i = 0; i < DISK_SECTORS; i++) {
        s->allowed[i][s->last[i]] = true;
    }
    fvd_image_co_make(s->cut, spec);
}

static void coroutine_fn story_end(Story *s)
{
    bdrv_co_unref(s->cut);
    bdrv_co_unref(s->base);
    g_rand_free(s->rand);
}

static void flushed(Story *s)
{
    for (int i = 0; i < DISK_SECTORS; i++) {
        memset(s->allowed[i], 0, sizeof(s->allowed[i]));
        s->allowed[i][s->last[i]] = true;
    }
}

/* One request.  False: the power is gone. */
static bool coroutine_fn story_step(Story *s)
{
    int64_t first = g_rand_int_range(s->rand, 0, DISK_SECTORS);
    int64_t n = g_rand_int_range(s->rand, 1, MIN(DISK_SECTORS - first, 80) + 1);
    g_autofree uint8_t *buf = NULL;

    if (g_rand_int_range(s->rand, 0, 4) == 0) {
        if (bdrv_co_flush(s->bs) < 0) {
            return false;
        }
        flushed(s);
        return true;
    }
    if (g_rand_int_range(s->rand, 0, 4) == 0) {
        for (int64_t i = first; i < first + n; i++) {
            s->allowed[i][0] = true;
            s->last[i] = 0;
        }
        return bdrv_co_pwrite_zeroes(s->user, first * SECTOR, n * SECTOR, BDRV_REQ_MAY_UNMAP) == 0;
    }
    s->step = s->step % 250 + 1;
    buf = g_malloc(n * SECTOR);
    memset(buf, s->step, n * SECTOR);
    for (int64_t i = first; i < first + n; i++) {
        s->allowed[i][s->step] = true;
        s->last[i] = s->step;
    }
    return bdrv_co_pwrite(s->user, first * SECTOR, n * SECTOR, buf, 0) == 0;
}

static void coroutine_fn check_disk(Story *s)
{
    g_autofree uint8_t *buf = g_malloc(DISK);

    g_assert_cmpint(bdrv_co_pread(s->user, 0, DISK, buf, 0), ==, 0);
    for (int i = 0; i < DISK_SECTORS; i++) {
        for (int b = 1; b < SECTOR; b++) {
            g_assert_cmpint(buf[i * SECTOR], ==, buf[i * SECTOR + b]);
        }
        if (!s->allowed[i][buf[i * SECTOR]]) {
            g_error("sector %d is of write %d, the last one was %d", i, buf[i * SECTOR],
                    s->last[i]);
        }
    }
    /* What it is now it stays. */
    for (int i = 0; i < DISK_SECTORS; i++) {
        s->last[i] = buf[i * SECTOR];
    }
    flushed(s);
}

static TestCutFate random_fate(Story *s)
{
    return (TestCutFate){
        .seed = g_rand_int(s->rand),
        .tear_bytes = g_rand_boolean(s->rand) ? SECTOR : 0,
        .reorder = g_rand_boolean(s->rand),
        .drop_all = g_rand_int_range(s->rand, 0, 8) == 0,
    };
}

static void coroutine_fn power_on(Story *s)
{
    TestCutFate fate = random_fate(s);

    if (!test_cut_is_off(s->cut)) {
        test_cut_now(s->cut);
    }
    test_cut_power_on(s->cut, &fate);
}

/* The power goes again while the image is being recovered. */
static void coroutine_fn cut_in_recovery(Story *s)
{
    g_autoptr(BlockdevOptions) opts =
        block_test_options("{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"cut\", "
                           "\"backing\": \"base\"}");
    BlockDriverState *bs;
    Error *err = NULL;

    test_cut_arm(s->cut, test_cut_moments(s->cut) + g_rand_int_range(s->rand, 1, 6));
    bs = bdrv_co_open(opts, &err);
    error_free(err);
    if (bs) {
        bdrv_co_unref(bs);
    }
    power_on(s);
}

static bool coroutine_fn one_cut(const FvdImageSpec *spec, uint32_t seed, unsigned moment)
{
    Story s;
    unsigned before;
    bool was_cut;

    story_begin(&s, spec, seed);
    story_open(&s, false);
    before = test_cut_moments(s.cut);
    test_cut_arm(s.cut, before + moment);
    for (int i = 0; i < 25 && story_step(&s); i++) {
    }
    story_close(&s);
    was_cut = test_cut_is_off(s.cut);
    power_on(&s);
    before = test_cut_moments(s.cut);
    story_open(&s, true);
    check_disk(&s);
    story_close(&s);
    g_assert_cmpuint(test_cut_moments(s.cut), ==, before); /* reading writes nothing */
    if (g_rand_boolean(s.rand)) {
        cut_in_recovery(&s);
    }
    story_open(&s, false);
    check_disk(&s);
    for (int i = 0; i < 10; i++) {
        g_assert_true(story_step(&s));
    }
    story_close(&s);
    story_open(&s, true);
    flushed(&s);
    check_disk(&s);
    story_close(&s);
    story_end(&s);
    return was_cut;
}

typedef bool coroutine_fn OneCut(const FvdImageSpec *spec, uint32_t seed, unsigned moment);

/* At each moment, or at some of them that are up to @step apart. */
static void coroutine_fn each_cut(OneCut *one, int step)
{
    uint32_t seed = block_test_seed();
    const char *text = g_getenv("SEEDS");
    unsigned runs = text ? (unsigned)atoi(text) : 3;

    for (unsigned run = 0; run < runs; run++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed + run);
        FvdImageSpec spec = cut_spec(rand);
        unsigned moment = 1;

        while (one(&spec, seed + run, moment)) {
            moment += g_rand_int_range(rand, 1, step + 1);
        }
    }
}

static void coroutine_fn test_cuts(void)
{
    each_cut(one_cut, 1);
}

/* Writers of blocks that all share, each with sectors of its own; a flush of one promises what this one wrote. */
enum { CROWD = 6, CROWD_STEPS = 14 };

typedef struct Member {
    Story *s;
    unsigned number;
    GRand *rand;
    unsigned *left;
    Coroutine *waiter;
} Member;

static bool coroutine_fn member_step(Member *m, int value)
{
    Story *s = m->s;
    uint8_t buf[SECTOR];
    int sector = g_rand_int_range(m->rand, 0, 64) * CROWD + m->number;

    if (g_rand_int_range(m->rand, 0, 3) == 0) {
        if (bdrv_co_flush(s->bs) < 0) {
            return false;
        }
        for (int i = m->number; i < DISK_SECTORS; i += CROWD) {
            memset(s->allowed[i], 0, sizeof(s->allowed[i]));
            s->allowed[i][s->last[i]] = true;
        }
        return true;
    }
    memset(buf, value, SECTOR);
    s->last[sector] = value;
    s->allowed[sector][value] = true;
    return bdrv_co_pwrite(s->user, sector * SECTOR, SECTOR, buf, 0) == 0;
}

static void coroutine_fn member_entry(void *opaque)
{
    Member *m = opaque;

    for (int i = 1; i <= CROWD_STEPS && member_step(m, i); i++) {
    }
    g_rand_free(m->rand);
    if (--*m->left == 0) {
        aio_co_wake(m->waiter);
    }
}

static bool coroutine_fn one_cut_in_a_crowd(const FvdImageSpec *spec, uint32_t seed,
                                            unsigned moment)
{
    unsigned left = CROWD;
    Member members[CROWD];
    BlockDriverState *slow;
    bool was_cut;
    Story s;

    story_begin(&s, spec, seed);
    slow = test_slow_new("slow", s.cut, s.rand, 1000);
    s.file = "slow";
    story_open(&s, false);
    test_cut_arm(s.cut, test_cut_moments(s.cut) + moment);
    for (unsigned i = 0; i < CROWD; i++) {
        members[i] =
            (Member){&s, i, g_rand_new_with_seed(seed * 100 + i), &left, qemu_coroutine_self()};
        aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(member_entry, &members[i]));
    }
    qemu_coroutine_yield();
    story_close(&s);
    was_cut = test_cut_is_off(s.cut);
    bdrv_co_unref(slow);
    s.file = "cut";
    power_on(&s);
    story_open(&s, false);
    check_disk(&s);
    story_close(&s);
    story_end(&s);
    return was_cut;
}

/* F10, D1: with blocks that come in, are written again, and are waited for. */
static void coroutine_fn test_cuts_in_a_crowd(void)
{
    each_cut(one_cut_in_a_crowd, 3);
}

/* ------------------------------------------------------------------------------------------ autoclear */

/* The image in "cut" says that bitmaps are in a chunk behind all others. */
static void coroutine_fn set_autoclear(BlockDriverState *cut)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);
    BdrvChild *user;

    fvd_image_co_header(cut, h);
    h->autoclear = FVD_AUTOCLEAR_BITMAPS;
    h->bitmaps_offset = h->data_offset + DISK;
    h->bitmaps_size = FVD_REGION_ALIGN;
    fvd_header_encode(h, buf);
    user = block_test_user(cut, BLK_PERM_WRITE | BLK_PERM_RESIZE);
    block_test_co_fill(user, h->bitmaps_offset, h->bitmaps_size, 0x5a);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, FVD_HEADER_REGION, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_co_flush(cut), ==, 0);
    block_test_co_user_free(user);
}

static bool coroutine_fn autoclear_says_the_truth(BlockDriverState *cut)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    BlockDriverState *bs;
    BdrvChild *user;

    fvd_image_co_header(cut, h);
    if (h->autoclear) {
        bs = open_image(true);
        user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
        block_test_co_expect(user, 0, DISK, 0);
        block_test_co_user_free(user);
        bdrv_co_unref(bs);
    }
    return h->autoclear;
}

/* A write, and power that goes: where the bit is still there, so is the disk as it was. */
static bool coroutine_fn one_cut_of_autoclear(const FvdImageSpec *spec, unsigned moment,
                                              const TestCutFate *fate)
{
    BlockDriverState *cut = test_cut_new_file("file", 0, fvd_image_data_offset(spec) + 2 * DISK);
    uint8_t buf[SECTOR];
    BlockDriverState *bs;
    BdrvChild *user;
    bool was_cut;

    fvd_image_co_make(cut, spec);
    set_autoclear(cut);
    bs = open_image(false);
    bdrv_co_unref(bs);
    g_assert_true(autoclear_says_the_truth(cut)); /* who writes nothing leaves it */
    bs = open_image(false);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    memset(buf, 1, SECTOR);
    test_cut_arm(cut, test_cut_moments(cut) + moment);
    if (bdrv_co_pwrite(user, 5 * SECTOR, SECTOR, buf, 0) == 0) {
        bdrv_co_flush(bs);
    }
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    was_cut = test_cut_is_off(cut);
    if (!was_cut) {
        g_assert_false(autoclear_says_the_truth(cut));
        test_cut_now(cut);
    }
    test_cut_power_on(cut, fate);
    autoclear_says_the_truth(cut);
    bdrv_co_unref(cut);
    return was_cut;
}

static void coroutine_fn test_autoclear(void)
{
    const FvdImageSpec specs[] = {
        {.size = DISK, .chunk_size = 16 * KiB, .journal_size = 24 * KiB},
        {.size = DISK, .no_table = true, .journal_size = 24 * KiB},
        {.size = DISK, .no_table = true, .no_journal = true},
    };
    uint32_t seed = block_test_seed();

    for (unsigned i = 0; i < ARRAY_SIZE(specs); i++) {
        for (unsigned run = 0; run < 20; run++) {
            TestCutFate fate = {.seed = seed + run, .reorder = true, .drop_all = run == 0};
            unsigned moment = 1;

            while (one_cut_of_autoclear(&specs[i], moment, &fate)) {
                moment++;
            }
            g_assert_cmpuint(moment, >, 2);
        }
    }
}

/* ------------------------------------------------------------------------------------------------- main */

static char *path;

static void prepare(void)
{
    fvd_image_make_file(path, &small);
}

static void add(void)
{
    static DriverContract contract = {.prepare = prepare, .writable = true, .keeps_data = true};

    path = block_test_path("image.fvd");
    contract.options = g_strdup_printf(
        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\", \"node-name\": \"contract-file\"}",
        path);
    driver_contract_with("fvd", &contract);
    block_test_add("/fvd/life/what nobody changes stays clean", test_begins_with_the_first_change);
    block_test_add("/fvd/life/an image is settled by a reopen, and goes on", test_reopen);
    block_test_add("/fvd/life/after a failed flush nothing is promised", test_failed_flush);
    block_test_add("/fvd/life/data may be in a file of its own", test_data_file);
    block_test_add("/fvd/life/names in a header are names of files", test_names_of_strangers);
    block_test_add("/fvd/life/whoever has sums verified lets others in", test_sums_let_others_in);
    block_test_add("/fvd/life/without a journal it is read-only", test_no_journal);
    block_test_add("/fvd/life/a power cut at any moment loses nothing that was flushed", test_cuts);
    block_test_add("/fvd/life/nor does one among many writers of the same blocks",
                   test_cuts_in_a_crowd);
    block_test_add(
        "/fvd/life/what goes with the contents is void before they change, whenever power fails",
        test_autoclear);
}

int main(int argc, char **argv)
{
    bdrv_file_register();
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
