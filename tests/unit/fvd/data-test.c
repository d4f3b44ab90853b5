/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads and writes of an FVD image against a plain array: over a base or not, of any alignment, alone and many at
 * once, here and after the image was opened anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/layout/jrecord.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

/* Small units, so that a few hundred requests meet all of them. */
#define SECTOR 512

typedef struct Scene {
    FvdImageSpec spec;
    BlockDriverState *base, *file, *bs;
    BdrvChild *user;
    uint8_t *model;
    GRand *rand;
} Scene;

static void coroutine_fn open_image(Scene *s)
{
    s->bs = block_test_co_open(
        "{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"file\", "
        "\"discard\": \"unmap\", \"backing\": %s, \"copy-on-read\": %s}",
        s->base ? "\"base\"" : "null", g_rand_boolean(s->rand) ? "true" : "false");
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
}

static void coroutine_fn close_image(Scene *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
    g_assert_null(bdrv_find_node("image"));
}

static void coroutine_fn scene_begin(Scene *s, uint32_t seed)
{
    s->rand = g_rand_new_with_seed(seed);
    s->file = test_ram_new("file", 0);
    s->model = g_malloc0(s->spec.size);
    fvd_image_co_make(s->file, &s->spec);
    if (s->spec.base_size) {
        int64_t length =
            g_rand_boolean(s->rand) ? s->spec.base_size : s->spec.base_size / 2 + SECTOR;

        /* The base may be larger than what counts of it, or have become shorter. */
        s->base = test_ram_new("base", length + g_rand_int_range(s->rand, 0, 3) * SECTOR);
        test_ram_poke_pattern(s->base, 0, bdrv_getlength(s->base), seed);
        test_ram_peek(s->base, 0, s->model, MIN(bdrv_getlength(s->base), s->spec.base_size));
    }
    open_image(s);
}

static void coroutine_fn scene_end(Scene *s)
{
    close_image(s);
    bdrv_co_unref(s->file);
    if (s->base) {
        bdrv_co_unref(s->base);
    }
    g_rand_free(s->rand);
    g_free(s->model);
}

static void coroutine_fn expect_model(Scene *s, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(s->user, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != s->model[offset + i]) {
            g_error("byte %" PRId64 " is %02x, not %02x", offset + i, buf[i], s->model[offset + i]);
        }
    }
}

static void pick_range(Scene *s, int64_t *offset, int64_t *bytes)
{
    int64_t most = g_rand_int_range(s->rand, 0, 4) ? 16 * KiB : s->spec.size;

    *offset = g_rand_int_range(s->rand, 0, s->spec.size);
    *bytes = g_rand_int_range(s->rand, 1, MIN(most, s->spec.size - *offset) + 1);
    if (g_rand_boolean(s->rand)) {
        *offset = QEMU_ALIGN_DOWN(*offset, SECTOR);
        *bytes = MIN(QEMU_ALIGN_UP(*bytes, SECTOR), s->spec.size - *offset);
    }
}

/* Zeros, or what was there. */
static void coroutine_fn discard(Scene *s, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pdiscard(s->user, offset, bytes), ==, 0);
    g_assert_cmpint(bdrv_co_pread(s->user, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_true(buf[i] == 0 || buf[i] == s->model[offset + i]);
    }
    memcpy(s->model + offset, buf, bytes);
}

static void coroutine_fn resize_to(Scene *s, int64_t size)
{
    g_assert_cmpint(bdrv_co_truncate(s->user, size, true, PREALLOC_MODE_OFF, 0, &error_abort), ==,
                    0);
    g_assert_cmpint(bdrv_getlength(s->bs), ==, size);
    s->model = g_realloc(s->model, size);
    if (size > s->spec.size) {
        memset(s->model + s->spec.size, 0, size - s->spec.size);
    }
    s->spec.size = size;
}

static void coroutine_fn resize(Scene *s)
{
    resize_to(s, g_rand_int_range(s->rand, 1, 900) * SECTOR);
}

static void coroutine_fn one_step(Scene *s)
{
    int64_t offset, bytes;
    g_autofree uint8_t *buf = NULL;

    pick_range(s, &offset, &bytes);
    switch (g_rand_int_range(s->rand, 0, 16)) {
    case 0 ... 6:
        buf = g_malloc(bytes);
        for (int64_t i = 0; i < bytes; i++) {
            buf[i] = s->model[offset + i] = (uint8_t)g_rand_int(s->rand);
        }
        g_assert_cmpint(
            bdrv_co_pwrite(s->user, offset, bytes, buf, g_rand_boolean(s->rand) ? BDRV_REQ_FUA : 0),
            ==, 0);
        break;
    case 7:
        g_assert_cmpint(bdrv_co_pwrite_zeroes(s->user, offset, bytes,
                                              g_rand_boolean(s->rand) ? BDRV_REQ_MAY_UNMAP : 0),
                        ==, 0);
        memset(s->model + offset, 0, bytes);
        break;
    case 8:
        g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
        break;
    case 9:
        discard(s, offset, bytes);
        break;
    case 10:
        if (g_rand_int_range(s->rand, 0, 8) == 0) {
            close_image(s);
            open_image(s);
        } else if (g_rand_int_range(s->rand, 0, 4) == 0) {
            resize(s);
        }
        break;
    default:
        expect_model(s, offset, bytes);
        break;
    }
}

static FvdImageSpec random_spec(GRand *rand)
{
    static const int64_t chunks[] = {512, 4 * KiB, 24 * KiB, 64 * KiB, 1 * MiB};
    static const int64_t blocks[] = {512, 4 * KiB, 12 * KiB, 64 * KiB, 256 * KiB};
    FvdImageSpec spec = {
        .size = g_rand_int_range(rand, 1, 600) * SECTOR,
        .chunk_size = chunks[g_rand_int_range(rand, 0, ARRAY_SIZE(chunks))],
        .block_size = blocks[g_rand_int_range(rand, 0, ARRAY_SIZE(blocks))],
        .journal_size = g_rand_boolean(rand) ? 32 * KiB : 512 * KiB,
        .no_table = g_rand_int_range(rand, 0, 6) == 0,
        .incompatible = g_rand_int_range(rand, 0, 4), /* BLOCK_SUMS, REMAP */
        .grow_unit = g_rand_boolean(rand) ? 64 * KiB : 1,
    };

    if (g_rand_int_range(rand, 0, 3)) {
        spec.base_size = g_rand_int_range(rand, 1, spec.size + 1);
    }
    return spec;
}

/* How many random runs: SEEDS from the environment. */
static unsigned runs(void)
{
    const char *text = g_getenv("SEEDS");

    return text ? (unsigned)atoi(text) : 6;
}

static void coroutine_fn test_against_model(void)
{
    uint32_t seed = block_test_seed();

    for (unsigned run = 0; run < runs(); run++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed + run);
        Scene s = {.spec = random_spec(rand)};

        scene_begin(&s, seed + run);
        for (int i = 0; i < 150; i++) {
            one_step(&s);
        }
        expect_model(&s, 0, s.spec.size);
        close_image(&s);
        open_image(&s);
        expect_model(&s, 0, s.spec.size);
        scene_end(&s);
    }
}

/* --------------------------------------------------------------------------------------- many at once */

/* Each writer has units of its own, sectors or as small as a byte, so that what must be there is known, in blocks that all share. */
enum { WRITERS = 12, WRITES = 30 };

typedef struct Crowd {
    Scene *s;
    int64_t unit;
    unsigned left;
    Coroutine *waiter;
} Crowd;

typedef struct Writer {
    Crowd *crowd;
    unsigned number;
    GRand *rand;
} Writer;

static void coroutine_fn writer_entry(void *opaque)
{
    Writer *w = opaque;
    Scene *s = w->crowd->s;
    int64_t unit = w->crowd->unit, units = s->spec.size / unit;
    uint8_t buf[SECTOR];

    for (unsigned i = 0; i < WRITES; i++) {
        int64_t at = g_rand_int_range(w->rand, 0, units);

        at = at - at % WRITERS + w->number;
        if (at >= units) {
            continue;
        }
        memset(buf, g_rand_int_range(w->rand, 0, 256), unit);
        memcpy(s->model + at * unit, buf, unit);
        g_assert_cmpint(bdrv_co_pwrite(s->user, at * unit, unit, buf, 0), ==, 0);
        if (g_rand_int_range(w->rand, 0, 8) == 0) {
            g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
        }
        expect_model(s, at * unit, unit);
    }
    g_rand_free(w->rand);
    if (--w->crowd->left == 0 && w->crowd->waiter) {
        aio_co_wake(w->crowd->waiter);
    }
}

static void coroutine_fn run_crowd(Scene *s, uint32_t seed)
{
    static const int64_t units[] = {1, 37, SECTOR, SECTOR};
    Crowd crowd = {.s = s, .unit = units[seed % ARRAY_SIZE(units)], .left = WRITERS};
    Writer writers[WRITERS];

    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (Writer){&crowd, i, g_rand_new_with_seed(seed * 100 + i)};
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(writer_entry, &writers[i]));
    }
    crowd.waiter = qemu_coroutine_self();
    if (crowd.left) {
        qemu_coroutine_yield();
    }
}

/* D1: H12 of old was a merge that put what the base has over what another had written. */
static void coroutine_fn test_many_at_once(void)
{
    uint32_t seed = block_test_seed();

    for (unsigned run = 0; run < runs(); run++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed + run);
        Scene s = {.spec = random_spec(rand)};

        scene_begin(&s, seed + run);
        test_ram_set_delay(s.file, TEST_RAM_WRITE | TEST_RAM_ZERO | TEST_RAM_FLUSH,
                           g_rand_int_range(rand, 1, 1000));
        if (s.base) {
            test_ram_set_delay(s.base, TEST_RAM_READ, g_rand_int_range(rand, 1, 1000));
        }
        run_crowd(&s, seed + run);
        expect_model(&s, 0, s.spec.size);
        close_image(&s);
        open_image(&s);
        expect_model(&s, 0, s.spec.size);
        scene_end(&s);
    }
}

/* Z3: not before the record is durable, and what comes there afterwards is not hurt. */
static void coroutine_fn test_space_comes_back(void)
{
    Scene s = {.spec = {.size = 8 * MiB,
                        .chunk_size = 256 * KiB,
                        .journal_size = 64 * KiB,
                        .incompatible = FVD_INCOMPATIBLE_REMAP}};
    int64_t full, before;

    scene_begin(&s, 1);
    before = test_ram_allocated(s.file);
    block_test_co_fill(s.user, 0, 8 * MiB, 1);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    full = test_ram_allocated(s.file);
    g_assert_cmpint(full, >=, before + 8 * MiB);
    g_assert_cmpint(bdrv_co_pdiscard(s.user, 1 * MiB + 4096, 5 * MiB), ==, 0);
    block_test_co_expect(s.user, 1 * MiB + 4096, 5 * MiB, 0);
    block_test_co_expect(s.user, 0, 1 * MiB + 4096, 1);
    g_assert_cmpint(test_ram_allocated(s.file), >=, full - 2 * 256 * KiB);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    block_test_co_fill(s.user, 2 * MiB, 4096, 2); /* takes a chunk that was given back */
    block_test_co_settle();
    g_assert_cmpint(test_ram_allocated(s.file), <=, full - 4 * MiB + 256 * KiB);
    block_test_co_expect(s.user, 2 * MiB, 4096, 2);
    block_test_co_expect(s.user, 2 * MiB + 4096, 1 * MiB, 0);
    memset(s.model, 1, 8 * MiB);
    memset(s.model + 1 * MiB + 4096, 0, 5 * MiB);
    memset(s.model + 2 * MiB, 2, 4096);
    close_image(&s);
    open_image(&s);
    expect_model(&s, 0, 8 * MiB);
    /* And what no entry names is found again: the file does not grow. */
    block_test_co_fill(s.user, 2 * MiB, 1 * MiB, 3);
    memset(s.model + 2 * MiB, 3, 1 * MiB);
    g_assert_cmpint(bdrv_getlength(s.file), ==, fvd_image_data_offset(&s.spec) + 8 * MiB);
    expect_model(&s, 0, 8 * MiB);
    scene_end(&s);
}

/* What a write of 4 KiB costs that allocates, with a flush after it: flushes of the file, and bytes. */
static void coroutine_fn check_costs(Scene *s, int64_t bytes_max)
{
    enum { ROUNDS = 100 };
    const TestRamCounts *counts = test_ram_counts(s->file);

    block_test_co_fill(s->user, 0, 4096, 1);
    g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
    test_ram_reset_counts(s->file);
    for (int i = 1; i <= ROUNDS; i++) {
        block_test_co_fill(s->user, i * 1 * MiB + 8192, 4096, 2);
        g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
    }
    g_test_message("%" PRIu64 " flushes, %" PRIu64 " bytes in %" PRIu64 " writes", counts->flushes,
                   counts->bytes_written, counts->writes);
    g_assert_cmpuint(counts->flushes * 100, <=, ROUNDS * 105);
    g_assert_cmpuint(counts->bytes_written, <=, ROUNDS * bytes_max);
}

static void coroutine_fn test_one_flush(void)
{
    Scene plain = {.spec = {.size = 128 * MiB}}, s = plain;

    scene_begin(&s, 1);
    check_costs(&s, 8192 + 512);
    scene_end(&s);
    s = plain;
    s.spec.base_size = 128 * MiB;
    s.spec.incompatible = FVD_INCOMPATIBLE_BLOCK_SUMS;
    scene_begin(&s, 1);
    check_costs(&s, 64 * KiB + 4096 + 512);
    scene_end(&s);
}

/* Data in a file of its own: both files are flushed once, at the same time. */
static void coroutine_fn test_two_files(void)
{
    const FvdImageSpec spec = {.size = 8 * MiB,
                               .base_size = 8 * MiB,
                               .data_file = "elsewhere",
                               .incompatible = FVD_INCOMPATIBLE_BLOCK_SUMS};
    BlockDriverState *file = test_ram_new("file", 0), *data = test_ram_new("data", 0), *bs;
    BlockDriverState *base = test_ram_new("base", 8 * MiB);
    BlockTestRequest *flush;
    BdrvChild *user;

    test_ram_poke_pattern(base, 0, 8 * MiB, 1);
    fvd_image_co_make(file, &spec);
    bs = block_test_co_open("{\"driver\": \"fvd\", \"file\": \"file\", \"data-file\": \"data\", "
                            "\"backing\": \"base\"}");
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    block_test_co_fill(user, 0, 4096, 1); /* what comes once: the beginning of changes */
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    for (int i = 1; i < 8; i++) {
        block_test_co_fill(user, i * MiB + 8192, 4096, 2);
        test_ram_reset_counts(file);
        test_ram_reset_counts(data);
        test_ram_hold(file, TEST_RAM_FLUSH, 0, INT64_MAX);
        test_ram_hold(data, TEST_RAM_FLUSH, 0, INT64_MAX);
        flush = block_test_co_start(user, BLOCK_TEST_FLUSH, 0, 0, 0);
        test_ram_co_wait_held(file, 1);
        test_ram_co_wait_held(data, 1);
        test_ram_release(i % 2 ? file : data);
        block_test_co_settle();
        g_assert_false(block_test_done(flush));
        test_ram_release(i % 2 ? data : file);
        g_assert_cmpint(block_test_co_join(flush), ==, 0);
        g_assert_cmpuint(test_ram_counts(file)->flushes, ==, 1);
        g_assert_cmpuint(test_ram_counts(data)->flushes, ==, 1);
    }
    block_test_co_fill(user, 1 * MiB, 100,
                       3); /* confirmed by one of them, and so free to be changed */
    test_ram_set_error(data, TEST_RAM_FLUSH, 0, INT64_MAX, EIO, 1);
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO);
    g_assert_cmpint(bdrv_co_flush(bs), ==, -EIO); /* F4 */
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(base);
    bdrv_co_unref(data);
    bdrv_co_unref(file);
}

/* F10: a block whose sum is what makes it count is not written to before something else does. */
static void coroutine_fn test_second_write_waits(void)
{
    Scene s = {.spec = {.size = 8 * MiB,
                        .base_size = 8 * MiB,
                        .incompatible = FVD_INCOMPATIBLE_BLOCK_SUMS}};
    const TestRamCounts *counts;

    scene_begin(&s, 1);
    counts = test_ram_counts(s.file);
    block_test_co_fill(s.user, 0, 4096, 1);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    test_ram_reset_counts(s.file);
    block_test_co_fill(s.user, 4096, 4096, 2); /* the plain record first, in a flush of its own */
    g_assert_cmpuint(counts->flushes, >=, 1);
    test_ram_reset_counts(s.file);
    block_test_co_fill(s.user, 8192, 4096, 3);
    g_assert_cmpuint(counts->flushes, ==, 0);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    g_assert_cmpuint(counts->flushes, ==, 1);
    test_ram_reset_counts(s.file);
    block_test_co_fill(s.user, 1 * MiB, 4096, 4);
    block_test_co_fill(s.user, 1 * MiB + 4096, 4096,
                       5); /* twice between flushes: data goes first */
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    g_assert_cmpuint(counts->flushes, ==, 2);
    scene_end(&s);
}

typedef struct Flush {
    BlockDriverState *bs;
    unsigned ended;
} Flush;

static void coroutine_fn flush_entry(void *opaque)
{
    Flush *f = opaque;

    g_assert_cmpint(bdrv_co_flush(f->bs), ==, 0);
    f->ended++;
}

/* What a crash may do to a buffer of the journal: its sectors with plain records are not there. */
static void tear_plain(uint8_t *image, const FvdImageSpec *spec)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    fvd_image_header(spec, h);
    for (int64_t at = 0; at < h->journal_size; at += SECTOR) {
        uint8_t *sector = image + h->journal_offset + at;
        bool plain = false;

        for (int i = 0; i < SECTOR; i += 4) {
            plain |= ldl_le_p(sector + i) == FVD_BITMAP_JRECORD;
        }
        if (plain) {
            memset(sector, 0, SECTOR);
        }
    }
}

/* S5: of flushes that overtake the plain records no more sums are left in the journal than who opens it looks at. */
static void coroutine_fn test_few_sums(void)
{
    enum { BLOCK = 4096, IN_FLUSH = 3000, DISK = 2 * IN_FLUSH * BLOCK };
    Scene s = {.spec = {.size = DISK,
                        .base_size = DISK,
                        .block_size = BLOCK,
                        .incompatible = FVD_INCOMPATIBLE_BLOCK_SUMS}};
    BlockDriverState *copy;
    g_autofree uint8_t *buf = NULL;
    Flush flush = {0};
    int64_t length;

    scene_begin(&s, 1);
    flush.bs = s.bs;
    block_test_co_fill(s.user, 0, 512, 1);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0); /* room is ready */
    test_ram_hold(s.file, TEST_RAM_FLUSH, 0, INT64_MAX);
    for (int i = 1; i < 2 * IN_FLUSH; i++) {
        block_test_co_fill(s.user, (int64_t)i * BLOCK, 512, 1);
        if (i % IN_FLUSH == IN_FLUSH - 1) {
            aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(flush_entry, &flush));
            block_test_co_settle();
        }
    }
    while (flush.ended == 0) {
        test_ram_co_wait_held(s.file, 1);
        test_ram_release_one(s.file);
        block_test_co_settle();
    }
    length = bdrv_getlength(s.file);
    buf = g_malloc(length);
    copy = test_ram_new("copy", length);
    test_ram_peek(s.file, 0, buf, length);
    tear_plain(buf, &s.spec);
    test_ram_poke(copy, 0, buf, length);
    bdrv_co_unref(block_test_co_open(
        "{\"driver\": \"fvd\", \"read-only\": true, \"backing\": null, \"file\": \"copy\"}"));
    test_ram_release(s.file);
    block_test_co_settle();
    g_assert_cmpuint(flush.ended, ==, 2);
    bdrv_co_unref(copy);
    scene_end(&s);
}

/* Z3, where entries and bits are not in one record: what is taken meanwhile is not given back once more. */
static void coroutine_fn test_space_comes_back_once(void)
{
    Scene s = {.spec = {.size = 256 * KiB,
                        .chunk_size = 512,
                        .block_size = 64 * KiB,
                        .base_size = 256 * KiB,
                        .journal_size = 64 * KiB,
                        .incompatible = FVD_INCOMPATIBLE_REMAP}};

    scene_begin(&s, 1);
    block_test_co_fill(s.user, 0, 128 * KiB, 1);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(s.user, 0, 256 * KiB, BDRV_REQ_MAY_UNMAP), ==, 0);
    block_test_co_fill(s.user, 64 * KiB, 64 * KiB, 2);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    block_test_co_settle();
    block_test_co_expect(s.user, 64 * KiB, 64 * KiB, 2);
    memset(s.model, 0, 256 * KiB);
    memset(s.model + 64 * KiB, 2, 64 * KiB);
    close_image(&s);
    open_image(&s);
    expect_model(&s, 0, 256 * KiB);
    scene_end(&s);
}

/* What could not be had is not waited for when something else was given back. */
static void coroutine_fn test_full_and_freed(void)
{
    Scene s = {.spec = {.size = 8 * MiB,
                        .chunk_size = 256 * KiB,
                        .journal_size = 64 * KiB,
                        .incompatible = FVD_INCOMPATIBLE_REMAP,
                        .grow_unit = 1}};
    uint8_t buf[4096] = {1};

    scene_begin(&s, 1);
    test_ram_set_capacity(s.file, fvd_image_data_offset(&s.spec) + 4 * MiB);
    block_test_co_fill(s.user, 0, 4 * MiB, 1);
    g_assert_cmpint(bdrv_co_pwrite(s.user, 4 * MiB, sizeof(buf), buf, 0), ==, -ENOSPC);
    g_assert_cmpint(bdrv_co_pwrite(s.user, 5 * MiB, sizeof(buf), buf, 0), ==, -ENOSPC);
    g_assert_cmpint(bdrv_co_pdiscard(s.user, 0, 1 * MiB), ==, 0);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    block_test_co_fill(s.user, 6 * MiB, 1 * MiB, 2);
    g_assert_cmpint(bdrv_co_pwrite(s.user, 4 * MiB, sizeof(buf), buf, 0), ==, -ENOSPC);
    memset(s.model, 1, 4 * MiB);
    memset(s.model, 0, 1 * MiB);
    memset(s.model + 6 * MiB, 2, 1 * MiB);
    expect_model(&s, 0, 8 * MiB);
    test_ram_set_capacity(s.file, fvd_image_data_offset(&s.spec) + 8 * MiB);
    block_test_co_fill(s.user, 4 * MiB, 2 * MiB, 3);
    memset(s.model + 4 * MiB, 3, 2 * MiB);
    close_image(&s);
    open_image(&s);
    expect_model(&s, 0, 8 * MiB);
    scene_end(&s);
}

/* Zeros whose entries are durable first, and bits not yet, are no zeros for who comes meanwhile. */
static void coroutine_fn test_zeros_in_two_steps(void)
{
    Scene s = {.spec = {.size = 256 * KiB,
                        .chunk_size = 512,
                        .block_size = 64 * KiB,
                        .base_size = 256 * KiB,
                        .journal_size = 64 * KiB,
                        .incompatible = FVD_INCOMPATIBLE_REMAP}};
    BlockTestRequest *first, *second;

    scene_begin(&s, 1);
    block_test_co_fill(s.user, 0, 64 * KiB, 1);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    test_ram_hold(s.file, TEST_RAM_FLUSH, 0, INT64_MAX);
    first = block_test_co_start(s.user, BLOCK_TEST_WRITE_ZEROES, 64 * KiB, 64 * KiB, 0);
    test_ram_co_wait_held(s.file, 1);
    second = block_test_co_start(s.user, BLOCK_TEST_WRITE_ZEROES, 64 * KiB, 64 * KiB, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(first));
    g_assert_false(block_test_done(second));
    test_ram_release(s.file);
    g_assert_cmpint(block_test_co_join(first), ==, 0);
    g_assert_cmpint(block_test_co_join(second), ==, 0);
    memset(s.model, 1, 64 * KiB);
    memset(s.model + 64 * KiB, 0, 64 * KiB);
    expect_model(&s, 0, 256 * KiB);
    scene_end(&s);
}

/* Behind the chunks that the disk had when the table had to move there are more when it grows again. */
static void coroutine_fn test_grows_where_the_table_is(void)
{
    Scene s = {.spec = {.size = 1020 * SECTOR, .chunk_size = SECTOR, .journal_size = 64 * KiB}};

    scene_begin(&s, 1);
    for (int64_t sectors = 1030; sectors < 1500; sectors += 150) {
        const int64_t old = s.spec.size;

        resize_to(&s, sectors * SECTOR);
        expect_model(&s, 0, s.spec.size);
        block_test_co_fill(s.user, old, s.spec.size - old, 1);
        memset(s.model + old, 1, s.spec.size - old);
    }
    close_image(&s);
    open_image(&s);
    expect_model(&s, 0, s.spec.size);
    scene_end(&s);
}

static void add(void)
{
    block_test_add("/fvd/data/zeros that are recorded in two steps are there after both",
                   test_zeros_in_two_steps);
    block_test_add("/fvd/data/what is given back is taken although the file cannot grow",
                   test_full_and_freed);
    block_test_add("/fvd/data/a flush of what allocates is one flush of the file", test_one_flush);
    block_test_add("/fvd/data/no more blocks count by their sums than who opens the image looks at",
                   test_few_sums);
    block_test_add("/fvd/data/two files are flushed once each, at the same time", test_two_files);
    block_test_add("/fvd/data/a block that counts by its sum is not written to before it counts "
                   "without",
                   test_second_write_waits);
    block_test_add(
        "/fvd/data/space that was given back and taken again is not given back once more",
        test_space_comes_back_once);
    block_test_add("/fvd/data/a disk grows where the table is that had to move before",
                   test_grows_where_the_table_is);
    block_test_add("/fvd/data/space that is discarded comes back after a flush",
                   test_space_comes_back);
    block_test_add(
        "/fvd/data/what was written is read, over a base or not, here and after a new open",
        test_against_model);
    block_test_add("/fvd/data/writes into one block at the same time lose nothing of each other",
                   test_many_at_once);
}

int main(int argc, char **argv)
{
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
