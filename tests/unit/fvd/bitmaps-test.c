/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dirty bitmaps that an FVD image keeps: their directory as bytes, sessions one after the other, and power that goes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/dirty/dirty-bitmap.h"
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/bitmaps/directory.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-cut.h"
#include "util/crc32c.h"
#include "util/osdep.h"

/* ------------------------------------------------------------------------------------------- directory */

static FvdBitmapDir *sample(unsigned n)
{
    FvdBitmapDir *dir = fvd_bitmap_dir_new();

    dir->epoch = 7;
    dir->disk_size = 10 * MiB + 512;
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("bitmap %u", i);
        FvdBitmapEntry *e = fvd_bitmap_dir_add(dir, name);

        e->granule = 9 + i % 23;
        e->enabled = i % 2;
        e->inconsistent = i % 5 == 4;
        if (i % 5 < 3) {
            e->data_bytes = fvd_bitmap_bytes(dir->disk_size, e->granule);
            e->data_crc = i + 1;
        }
    }
    return dir;
}

static void test_directory_round_trip(void)
{
    const unsigned counts[] = {0, 1, 30, FVD_BITMAPS_MAX};

    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        g_autoptr(FvdBitmapDir) dir = sample(counts[i]), again = NULL;
        int64_t area = fvd_bitmap_dir_place(dir);
        size_t len;
        g_autofree uint8_t *buf = fvd_bitmap_dir_encode(dir, &len);

        again = fvd_bitmap_dir_decode(buf, len, area, &error_abort);
        g_assert_cmpuint(again->entries->len, ==, counts[i]);
        g_assert_cmpuint(again->epoch, ==, 7);
        g_assert_cmpint(again->disk_size, ==, dir->disk_size);
        for (unsigned k = 0; k < counts[i]; k++) {
            const FvdBitmapEntry *a = fvd_bitmap_dir_entry(dir, k);
            const FvdBitmapEntry *b = fvd_bitmap_dir_entry(again, k);

            g_assert_cmpstr(a->name, ==, b->name);
            g_assert_cmpuint(a->granule, ==, b->granule);
            g_assert_true(a->enabled == b->enabled && a->inconsistent == b->inconsistent);
            g_assert_cmpint(a->data_offset, ==, b->data_offset);
            g_assert_cmpint(a->data_bytes, ==, b->data_bytes);
            g_assert_cmpuint(a->data_crc, ==, b->data_crc);
        }
    }
}

static void refused(uint8_t *buf, size_t len, int64_t area, bool right_crc, const char *why)
{
    Error *err = NULL;

    if (right_crc) {
        stl_le_p(buf + 4, 0);
        stl_le_p(buf + 4, crc32c(0, buf, len));
    }
    g_assert_null(fvd_bitmap_dir_decode(buf, len, area, &err));
    if (!strstr(error_get_pretty(err), why)) {
        g_error("\"%s\" is not in: %s", why, error_get_pretty(err));
    }
    error_free(err);
}

/* Each byte but one, and fields that no writer makes, with a checksum that is right. */
static void test_directory_damage(void)
{
    static const struct {
        unsigned at, bytes;
        uint64_t value;
        const char *why;
    } fields[] = {
        {0, 4, 0, "no directory"},
        {16, 8, UINT64_MAX, "disk"},
        {24, 4, 1001, "more than"},
        {24, 4, 4, "an entry"},
        {24, 4, 2, "behind its last"},
        {28, 4, 31, "bytes"},
        {28, 4, UINT32_MAX, "bytes"},
        {32, 8, 8, "not where"},
        {32, 8, 4097, "not where"},
        {32, 8, UINT64_MAX, "not where"},
        {32, 8, INT64_MAX - 4095, "not where"},
        {40, 8, 17, "not where"},
        {40, 8, UINT64_MAX, "not where"},
        {52, 4, 4, "not known"},
        {52, 4, 2, "not where"},
        {56, 2, 8, "not known"},
        {56, 2, 32, "not known"},
        {58, 2, 0, "an entry"},
        {58, 2, 1024, "an entry"},
        {64, 1, 0xff, "a name"},
        {64, 1, 0, "a name"},
        {71, 1, '1', "a name"},
    };
    g_autoptr(FvdBitmapDir) dir = sample(3);
    int64_t area = fvd_bitmap_dir_place(dir);
    size_t len;
    g_autofree uint8_t *buf = fvd_bitmap_dir_encode(dir, &len);

    for (size_t i = 0; i < len; i++) {
        g_autofree uint8_t *bad = g_memdup2(buf, len);

        bad[i] ^= 1u << (i % 8);
        refused(bad, len, area, false, "");
        refused(buf, i, area, false, "");
    }
    refused(buf, len, area - 4096, false, "not where");
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        g_autofree uint8_t *bad = g_memdup2(buf, len);
        uint64_t value = cpu_to_le64(fields[i].value);

        memcpy(bad + fields[i].at, &value, fields[i].bytes);
        refused(bad, len, area, true, fields[i].why);
    }
}

/* -------------------------------------------------------------------------------------------- sessions */

enum { DISK = 512 * KiB, CHUNK = 16 * KiB, GRANULE = 4 * KiB };

static const FvdImageSpec spec = {
    .size = DISK,
    .chunk_size = CHUNK,
    .journal_size = 24 * KiB,
    .incompatible = FVD_INCOMPATIBLE_REMAP,
};

typedef struct Session {
    BlockDriverState *file, *bs;
    BdrvChild *user;
    BdrvDirtyBitmap *bitmap; /* "b"; NULL: there is none */
} Session;

static BlockDriverState *coroutine_fn make_file(void)
{
    BlockDriverState *file = test_cut_new_file("file", 0, fvd_image_data_offset(&spec) + 4 * DISK);

    fvd_image_co_make(file, &spec);
    return file;
}

static void coroutine_fn session_begin(Session *s, BlockDriverState *file, bool read_only)
{
    s->file = file;
    s->bs =
        block_test_co_open("{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"file\", "
                           "\"discard\": \"unmap\", \"read-only\": %s}",
                           read_only ? "true" : "false");
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | (read_only ? 0 : BLK_PERM_WRITE));
    s->bitmap = bdrv_find_dirty_bitmap(s->bs, "b");
}

static void coroutine_fn session_end(Session *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
}

static BdrvDirtyBitmap *add(Session *s, const char *name)
{
    BdrvDirtyBitmap *bitmap;

    g_assert_cmpint(s->bs->drv->bitmaps->can_store(s->bs, name, GRANULE, &error_abort), ==, 0);
    bitmap = bdrv_create_dirty_bitmap(s->bs, GRANULE, name, &error_abort);
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    return bitmap;
}

static void expect_bits(BdrvDirtyBitmap *bitmap, const bool *wanted)
{
    g_assert_nonnull(bitmap);
    g_assert_false(bdrv_dirty_bitmap_inconsistent(bitmap));
    for (int i = 0; i < DISK / GRANULE; i++) {
        if (bdrv_dirty_bitmap_get(bitmap, (int64_t)i * GRANULE) != wanted[i]) {
            g_error("bit %d is not %d", i, wanted[i]);
        }
    }
}

/* Random writes and discards, session by session, in a model beside the bitmap; "o" is disabled and stays as it is. */
static void coroutine_fn test_sessions(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(block_test_seed());
    bool wanted[DISK / GRANULE] = {false}, others[DISK / GRANULE] = {false};
    uint8_t disk[DISK / CHUNK] = {0};
    BlockDriverState *file = make_file();
    int64_t longest = 0;
    Session s;

    session_begin(&s, file, false);
    s.bitmap = add(&s, "b");
    bdrv_set_dirty_bitmap(add(&s, "o"), 3 * GRANULE, GRANULE);
    bdrv_disable_dirty_bitmap(bdrv_find_dirty_bitmap(s.bs, "o"));
    others[3] = true;
    for (int round = 0; round < 40; round++) {
        for (int i = g_rand_int_range(rand, 0, 4); i > 0; i--) {
            int chunk = g_rand_int_range(rand, 0, DISK / CHUNK);
            bool write = g_rand_int_range(rand, 0, 3) != 0;

            disk[chunk] = write ? round % 250 + 1 : 0;
            if (write) {
                block_test_co_fill(s.user, (int64_t)chunk * CHUNK, CHUNK, disk[chunk]);
            } else {
                g_assert_cmpint(bdrv_co_pwrite_zeroes(s.user, (int64_t)chunk * CHUNK, CHUNK,
                                                      BDRV_REQ_MAY_UNMAP),
                                ==, 0);
            }
            memset(wanted + chunk * (CHUNK / GRANULE), true, CHUNK / GRANULE);
        }
        if (g_rand_int_range(rand, 0, 6) == 0) {
            bdrv_clear_dirty_bitmap(s.bitmap, NULL);
            memset(wanted, 0, sizeof(wanted));
        }
        session_end(&s);
        longest = MAX(longest, bdrv_getlength(file));
        session_begin(&s, file, true);
        g_assert_true(bdrv_dirty_bitmap_readonly(s.bitmap));
        expect_bits(s.bitmap, wanted);
        session_end(&s);
        session_begin(&s, file, false);
        expect_bits(s.bitmap, wanted);
        expect_bits(bdrv_find_dirty_bitmap(s.bs, "o"), others);
        g_assert_true(bdrv_dirty_bitmap_enabled(s.bitmap));
        g_assert_false(bdrv_dirty_bitmap_enabled(bdrv_find_dirty_bitmap(s.bs, "o")));
        for (int i = 0; i < DISK / CHUNK; i++) {
            block_test_co_expect(s.user, (int64_t)i * CHUNK, CHUNK, disk[i]);
        }
    }
    /* The disk, an old area and a new one, and room by which the file has grown ahead. */
    g_assert_cmpint(longest, <=, fvd_image_data_offset(&spec) + 3 * DISK);
    session_end(&s);
    bdrv_co_unref(file);
}

/* What was not stored in order is there by its name, says nothing, and can be removed. */
static void coroutine_fn test_crash(void)
{
    const TestCutFate fate = {.drop_all = true};
    BlockDriverState *file = make_file();
    Session s;

    session_begin(&s, file, false);
    add(&s, "b");
    session_end(&s);
    session_begin(&s, file, false);
    block_test_co_fill(s.user, 0, CHUNK, 1);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    test_cut_now(file);
    session_end(&s);
    test_cut_power_on(file, &fate);
    for (int i = 0; i < 3; i++) { /* read-only first, then with a recovery, then stored as it is */
        session_begin(&s, file, i == 0);
        g_assert_true(bdrv_dirty_bitmap_inconsistent(s.bitmap));
        g_assert_true(bdrv_dirty_bitmap_get_persistence(s.bitmap));
        g_assert_cmpint(bdrv_get_dirty_count(s.bitmap), ==, 0);
        session_end(&s);
    }
    session_begin(&s, file, false);
    bdrv_release_dirty_bitmap(s.bitmap);
    session_end(&s);
    session_begin(&s, file, false);
    g_assert_null(s.bitmap);
    session_end(&s);
    bdrv_co_unref(file);
}

/* Another size: shrunk and grown again without a write in between. */
static void coroutine_fn test_resize(void)
{
    bool wanted[DISK / GRANULE] = {false};
    BlockDriverState *file = make_file();
    Session s;

    session_begin(&s, file, false);
    s.bitmap = add(&s, "b");
    block_test_co_fill(s.user, 0, CHUNK, 1);
    block_test_co_user_free(s.user);
    s.user = block_test_user(s.bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    g_assert_cmpint(bdrv_co_truncate(s.user, DISK / 2, true, PREALLOC_MODE_OFF, 0, &error_abort),
                    ==, 0);
    session_end(&s);
    session_begin(&s, file, false);
    g_assert_cmpint(bdrv_dirty_bitmap_size(s.bitmap), ==, DISK / 2);
    memset(wanted, true, CHUNK / GRANULE);
    expect_bits(s.bitmap, wanted);
    session_end(&s);
    bdrv_co_unref(file);
}

/* Nobody changes anything, or bits only. */
static void coroutine_fn test_unchanged(void)
{
    bool wanted[DISK / GRANULE] = {false};
    BlockDriverState *file = make_file();
    unsigned moments;
    Session s;

    session_begin(&s, file, false);
    add(&s, "b");
    bdrv_disable_dirty_bitmap(add(&s, "o"));
    block_test_co_fill(s.user, 0, CHUNK, 1);
    session_end(&s);
    memset(wanted, true, CHUNK / GRANULE);
    moments = test_cut_moments(file);
    for (int i = 0; i < 2; i++) {
        session_begin(&s, file, false);
        expect_bits(s.bitmap, wanted);
        block_test_co_expect(s.user, 0, CHUNK, 1);
        session_end(&s);
        g_assert_cmpuint(test_cut_moments(file), ==, moments);
    }
    for (int i = 0; i < 4; i++) {
        session_begin(&s, file, false);
        expect_bits(s.bitmap, wanted);
        switch (i) {
        case 0:
            bdrv_set_dirty_bitmap(s.bitmap, 9 * GRANULE, GRANULE);
            wanted[9] = true;
            break;
        case 1:
            bdrv_reset_dirty_bitmap(s.bitmap, 0, GRANULE);
            wanted[0] = false;
            break;
        case 2:
            bdrv_enable_dirty_bitmap(bdrv_find_dirty_bitmap(s.bs, "o"));
            break;
        default:
            add(&s, "new");
        }
        session_end(&s);
        g_assert_cmpuint(test_cut_moments(file), >, moments);
        moments = test_cut_moments(file);
    }
    session_begin(&s, file, false);
    expect_bits(s.bitmap, wanted);
    g_assert_true(bdrv_dirty_bitmap_enabled(bdrv_find_dirty_bitmap(s.bs, "o")));
    g_assert_nonnull(bdrv_find_dirty_bitmap(s.bs, "new"));
    session_end(&s);
    g_assert_cmpuint(test_cut_moments(file), ==, moments);
    bdrv_co_unref(file);
}

/* ---------------------------------------------------------------------------------------------- forget */

/* As block-dirty-bitmap-remove does; a failure leaves it. */
static int coroutine_fn forget(Session *s, const char *name)
{
    Error *err = NULL;
    int ret;

    bdrv_co_drained_begin(s->bs);
    ret = s->bs->drv->bitmaps->co_forget(s->bs, name, &err);
    g_assert_true((ret < 0) == (err != NULL));
    error_free(err);
    if (ret == 0) {
        bdrv_release_dirty_bitmap(bdrv_find_dirty_bitmap(s->bs, name));
    }
    bdrv_co_drained_end(s->bs);
    return ret;
}

/* Random removals and writes, and then power goes, or the image is closed; twelve bitmaps, each has its own first bit. */
static void coroutine_fn test_forget(void)
{
    enum { BITMAPS = 12 };
    const TestCutFate fate = {.drop_all = true};
    g_autoptr(GRand) rand = g_rand_new_with_seed(block_test_seed());
    uint8_t disk[DISK / CHUNK] = {0};
    bool there[BITMAPS] = {false}, valid = true;
    BlockDriverState *file = make_file();
    Session s;

    for (int round = 0; round < 60; round++) {
        bool crash = g_rand_boolean(rand);

        session_begin(&s, file, false);
        for (int i = 0; i < BITMAPS; i++) {
            g_autofree char *name = g_strdup_printf("%d", i);
            BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(s.bs, name);

            g_assert_true((bitmap != NULL) == there[i]);
            if (bitmap && valid) {
                g_assert_false(bdrv_dirty_bitmap_inconsistent(bitmap));
                g_assert_true(bdrv_dirty_bitmap_get(bitmap, i * GRANULE));
            }
        }
        for (int step = g_rand_int_range(rand, 1, 8); step > 0; step--) {
            int i = g_rand_int_range(rand, 0, BITMAPS), chunk = g_rand_int_range(rand, 0, 32);
            g_autofree char *name = g_strdup_printf("%d", i);

            if (g_rand_boolean(rand)) {
                disk[chunk] = round + 1;
                block_test_co_fill(s.user, (int64_t)chunk * CHUNK, CHUNK, disk[chunk]);
            } else if (there[i]) {
                g_assert_cmpint(forget(&s, name), ==, 0);
                there[i] = false;
            } else if (!crash) {
                bdrv_set_dirty_bitmap(add(&s, name), i * GRANULE, GRANULE);
                there[i] = true;
            }
        }
        g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
        if (crash) {
            test_cut_now(file);
        }
        session_end(&s);
        if (crash) {
            test_cut_power_on(file, &fate);
        }
        valid = valid && !crash;
        session_begin(&s, file, true);
        for (int i = 0; i < DISK / CHUNK; i++) {
            block_test_co_expect(s.user, (int64_t)i * CHUNK, CHUNK, disk[i]);
        }
        session_end(&s);
    }
    g_assert_cmpint(bdrv_getlength(file), <=, fvd_image_data_offset(&spec) + 4 * DISK);
    bdrv_co_unref(file);
}

/* Power goes while "b" is removed, or behind that; @changed: the disk has been, in this session. */
static bool coroutine_fn one_forget_cut(unsigned moment, const TestCutFate *fate, bool changed)
{
    BlockDriverState *file = make_file();
    BdrvDirtyBitmap *other;
    bool promised, was_cut;
    uint8_t buf[CHUNK];
    Session s;

    session_begin(&s, file, false);
    add(&s, "b");
    bdrv_disable_dirty_bitmap(add(&s, "o"));
    bdrv_set_dirty_bitmap(bdrv_find_dirty_bitmap(s.bs, "o"), 5 * GRANULE, GRANULE);
    block_test_co_fill(s.user, 0, CHUNK, 1);
    session_end(&s);
    session_begin(&s, file, false);
    if (changed) {
        block_test_co_fill(s.user, 3 * CHUNK, CHUNK, 3);
        g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    }
    test_cut_arm(file, test_cut_moments(file) + moment);
    promised = forget(&s, "b") == 0;
    memset(buf, 4, CHUNK);
    for (int i = 8; i < 16; i++) { /* new chunks: none of them is where the directory is */
        bdrv_co_pwrite(s.user, (int64_t)i * CHUNK, CHUNK, buf, 0);
    }
    g_assert_true(bdrv_co_flush(s.bs) == 0 || test_cut_is_off(file));
    was_cut = test_cut_is_off(file);
    session_end(&s);
    g_assert_true(was_cut || promised);
    if (!test_cut_is_off(file)) {
        test_cut_now(file);
    }
    test_cut_power_on(file, fate);
    session_begin(&s, file, true);
    other = bdrv_find_dirty_bitmap(s.bs, "o");
    g_assert_nonnull(other);
    g_assert_false(promised && s.bitmap);
    if (!bdrv_dirty_bitmap_inconsistent(other)) {
        g_assert_cmpint(bdrv_get_dirty_count(other), ==, GRANULE);
        g_assert_true(bdrv_dirty_bitmap_get(other, 5 * GRANULE));
    }
    block_test_co_expect(s.user, 0, CHUNK, 1);
    block_test_co_expect(s.user, 3 * CHUNK, CHUNK, changed ? 3 : 0);
    if (!was_cut) {
        block_test_co_expect(s.user, 8 * CHUNK, 8 * CHUNK, 4);
    }
    session_end(&s);
    session_begin(&s, file, false); /* a recovery, and what is stored after it */
    session_end(&s);
    bdrv_co_unref(file);
    return was_cut;
}

typedef bool coroutine_fn OneCut(unsigned moment, const TestCutFate *fate, bool which);

/* Power goes at each moment there is, with many fates. */
static void coroutine_fn each_cut(OneCut *one, unsigned normal)
{
    uint32_t seed = block_test_seed();
    const char *text = g_getenv("SEEDS");
    unsigned runs = text ? (unsigned)atoi(text) : normal;

    for (unsigned run = 0; run < 2 * runs; run++) {
        TestCutFate fate = {.seed = seed + run,
                            .tear_bytes = run & 2 ? 512 : 0,
                            .reorder = run & 4,
                            .drop_all = run < 2};
        unsigned moment = 1;

        while (one(moment, &fate, run & 1)) {
            moment++;
        }
        g_assert_cmpuint(moment, >, 5);
    }
}

/* ------------------------------------------------------------------------------------------------ cuts */

/* A session that changes the disk in @first, stored; then one in which power goes: @second chunk is written. */
static bool coroutine_fn one_cut(unsigned moment, const TestCutFate *fate, bool in_place)
{
    g_autofree char *name = g_strnfill(FVD_BITMAP_NAME_MAX, 'n');
    int second = in_place ? 0 : 5;
    uint8_t buf[CHUNK];
    BlockDriverState *file = make_file();
    bool was_cut;
    Session s;

    session_begin(&s, file, false);
    block_test_co_fill(s.user, 0, CHUNK, 1);
    s.bitmap = add(&s, "b");
    add(&s, name); /* the directory has several sectors */
    block_test_co_fill(s.user, 2 * CHUNK, CHUNK, 1);
    session_end(&s);
    session_begin(&s, file, false);
    test_cut_arm(file, test_cut_moments(file) + moment);
    memset(buf, 2, CHUNK);
    if (bdrv_co_pwrite(s.user, second * CHUNK, CHUNK, buf, 0) == 0) {
        bdrv_co_flush(s.bs);
    }
    session_end(&s);
    was_cut = test_cut_is_off(file);
    if (!was_cut) {
        test_cut_now(file);
    }
    test_cut_power_on(file, fate);
    session_begin(&s, file, true);
    g_assert_nonnull(s.bitmap);
    block_test_co_expect(s.user, 2 * CHUNK, CHUNK, 1);
    g_assert_cmpint(bdrv_co_pread(s.user, second * CHUNK, CHUNK, buf, 0), ==, 0);
    if (!bdrv_dirty_bitmap_inconsistent(s.bitmap)) {
        bool changed = false;

        for (int i = 0; i < CHUNK; i++) {
            changed |= buf[i] != (in_place ? 1 : 0);
        }
        g_assert_true(bdrv_dirty_bitmap_get(s.bitmap, 2 * CHUNK));
        g_assert_true(!changed || bdrv_dirty_bitmap_get(s.bitmap, second * CHUNK));
    } else {
        g_assert_true(was_cut);
    }
    session_end(&s);
    session_begin(&s, file, false);
    session_end(&s);
    bdrv_co_unref(file);
    return was_cut;
}

static void coroutine_fn test_forget_cuts(void)
{
    each_cut(one_forget_cut, 10);
}

static void coroutine_fn test_cuts(void)
{
    each_cut(one_cut, 20);
}

static void add_tests(void)
{
    g_test_add_func("/fvd/bitmaps/a directory is what it was", test_directory_round_trip);
    g_test_add_func("/fvd/bitmaps/a damaged directory is refused", test_directory_damage);
    block_test_add("/fvd/bitmaps/session by session they have what was written", test_sessions);
    block_test_add("/fvd/bitmaps/after a crash they are inconsistent, and can be removed",
                   test_crash);
    block_test_add("/fvd/bitmaps/they are as large as the disk", test_resize);
    block_test_add("/fvd/bitmaps/what nobody has changed is not stored again", test_unchanged);
    block_test_add("/fvd/bitmaps/what was removed is not there after a crash", test_forget);
    block_test_add("/fvd/bitmaps/whenever power fails what was removed is away, others are there",
                   test_forget_cuts);
    block_test_add("/fvd/bitmaps/whenever power fails none is believed that lacks a change",
                   test_cuts);
}

int main(int argc, char **argv)
{
    bdrv_fvd_register();
    return block_test_main(argc, argv, add_tests);
}
