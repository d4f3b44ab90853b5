/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks that grow, with the space for what is new set aside: where it is, what it costs, and what a crash leaves. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CHUNK    (64 * KiB)
#define OLD_SIZE (10 * CHUNK + 4096)
#define NEW_SIZE (23 * CHUNK + 512)
/* Of a file whose power is cut: all that there is of an image, and its table twice. */
#define CAPACITY (6 * MiB)

static const FvdImageSpec plain = {
    .size = OLD_SIZE,
    .chunk_size = CHUNK,
    .journal_size = 64 * KiB,
    .incompatible = FVD_INCOMPATIBLE_REMAP,
    .slack = 1024,
    .grow_unit = 4 * CHUNK,
};

/* Options of the children; the file has that name. */
static BlockDriverState *coroutine_fn open_with(const char *file, const char *data)
{
    return block_test_co_open("{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"%s\", "
                              "\"backing\": %s%s%s%s}",
                              file, bdrv_find_node("base") ? "\"base\"" : "null",
                              data ? ", \"data-file\": \"" : "", data ? data : "",
                              data ? "\"" : "");
}

static BdrvChild *user_of(BlockDriverState *bs)
{
    return block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
}

static void coroutine_fn close_image(BlockDriverState *bs, BdrvChild *user)
{
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

/* The user's is freed. */
static void coroutine_fn expect_sound(const char *file, const char *data)
{
    g_autofree char *more = data ? g_strdup_printf(", \"data-file\": \"%s\"", data) : g_strdup("");
    g_autofree char *text =
        g_strdup_printf("json:{\"driver\": \"fvd\", \"file\": \"%s\"%s}", file, more);
    BdrvOpenFileArgs args = {
        .filename = text, .no_backing = true, .check = true, .read_only = true};
    BdrvCheckResult r = {0};
    BlockDriverState *bs = bdrv_co_open_file(&args, &error_abort);

    g_assert_cmpint(bs->drv->image->co_check(bs, &r, 0, &error_abort), ==, 0);
    g_assert_cmpint(r.corruptions, ==, 0);
    g_assert_cmpint(r.check_errors, ==, 0);
    bdrv_co_unref(bs);
}

static bool coroutine_fn is_clean(BlockDriverState *file)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    fvd_image_co_header(file, h);
    return h->clean_shutdown;
}

/* Bytes of 1 below 6 chunks, and in the last one, then zeros; over a base of 9s: also between. */
static void coroutine_fn expect_disk(BdrvChild *user, bool base, int64_t size, bool last)
{
    block_test_co_expect(user, 0, 6 * CHUNK, 1);
    block_test_co_expect(user, 6 * CHUNK, 4 * CHUNK, base ? 9 : 0);
    block_test_co_expect(user, 10 * CHUNK, OLD_SIZE - 10 * CHUNK, last ? 2 : base ? 9 : 0);
    if (size > OLD_SIZE) {
        block_test_co_expect(user, OLD_SIZE, size - OLD_SIZE, 0);
    }
}

typedef struct Case {
    const char *what;
    FvdImageSpec spec;
    bool last;      /* the old disk's last chunk is in use */
    bool data;      /* in a file of its own */
    bool device;    /* which held something before */
    bool discarded; /* a chunk in the middle is free */
} Case;

static Case *cases(size_t *ret_n)
{
    Case *c = g_new0(Case, 9);
    size_t n = 0;

    c[n++] = (Case){"plain", plain};
    c[n++] = (Case){"with a last chunk", plain, .last = true};
    c[n++] = (Case){"after a discard", plain, .discarded = true};
    c[n] = (Case){"over a base", plain, .last = false};
    c[n].spec.base_size = OLD_SIZE;
    c[n].spec.block_size = 16 * KiB;
    c[n++].spec.base_img = "/nonexistent/base";
    c[n] = (Case){"with a data file", plain, .data = true};
    c[n++].spec.data_file = "elsewhere";
    c[n] = (Case){"whose table moves", plain};
    c[n].spec.chunk_size = 512;
    c[n].spec.slack = 0;
    c[n++].spec.journal_size = MiB;
    c[n] = (Case){"in one piece", plain};
    c[n++].spec.no_table = true;
    c[n++] = (Case){"on a device", plain, .device = true};
    c[n++] = (Case){"on a device, after a discard", plain, .device = true, .discarded = true};
    *ret_n = n;
    return c;
}

static BlockDriverState *coroutine_fn host_file(const char *name, char **ret_path)
{
    *ret_path = block_test_path(name);
    g_assert_true(g_file_set_contents(*ret_path, "", 0, NULL));
    return block_test_co_open("{\"driver\": \"file\", \"node-name\": \"%s\", \"filename\": \"%s\", "
                              "\"discard\": \"unmap\"}",
                              name, *ret_path);
}

static void coroutine_fn fill(const Case *c, BdrvChild *user)
{
    block_test_co_fill(user, 0, 6 * CHUNK, 1);
    if (c->last) {
        block_test_co_fill(user, 10 * CHUNK, OLD_SIZE - 10 * CHUNK, 2);
    }
    if (c->discarded) {
        block_test_co_fill(user, 8 * CHUNK, CHUNK, 3);
        g_assert_cmpint(bdrv_co_flush(user->bs), ==, 0);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 8 * CHUNK, CHUNK, BDRV_REQ_MAY_UNMAP), ==, 0);
    }
}

static BlockDriverState *base_of(const Case *c)
{
    BlockDriverState *base = c->spec.base_size ? test_ram_new("base", OLD_SIZE) : NULL;

    for (int64_t at = 0; base && at < OLD_SIZE; at += 4096) {
        uint8_t buf[4096] = {[0 ... 4095] = 9};

        test_ram_poke(base, at, buf, sizeof(buf));
    }
    return base;
}

static void coroutine_fn one_case(const Case *c, PreallocMode mode)
{
    g_autofree char *path = NULL, *data_path = NULL;
    BlockDriverState *file = host_file("file", &path), *data = NULL, *base = NULL, *bs;
    struct stat before, after;
    int64_t gained = NEW_SIZE - ROUND_UP(OLD_SIZE, CHUNK);
    BdrvChild *user;

    g_test_message("%s, %s", c->what, PreallocMode_str(mode));
    if (c->data) {
        data = host_file("data", &data_path);
    }
    base = base_of(c);
    fvd_image_co_make(file, &c->spec);
    bs = open_with("file", c->data ? "data" : NULL);
    user = user_of(bs);
    fill(c, user);
    g_assert_cmpint(stat(c->data ? data_path : path, &before), ==, 0);
    g_assert_cmpint(bdrv_co_truncate(user, NEW_SIZE, true, mode, 0, &error_abort), ==, 0);
    g_assert_cmpint(stat(c->data ? data_path : path, &after), ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, NEW_SIZE);
    g_assert_cmpint(after.st_size - before.st_size, >=,
                    mode == PREALLOC_MODE_OFF ? 0 : gained - c->spec.grow_unit);
    if (mode == PREALLOC_MODE_FALLOC || mode == PREALLOC_MODE_FULL) {
        g_assert_cmpint((after.st_blocks - before.st_blocks) * 512, >=, gained);
    }
    expect_disk(user, base, NEW_SIZE, c->last);
    g_assert_true(is_clean(file));
    block_test_co_fill(user, OLD_SIZE, NEW_SIZE - OLD_SIZE, 4);
    g_assert_cmpint(is_clean(file), ==, mode != PREALLOC_MODE_OFF || c->spec.no_table);
    close_image(bs, user);
    expect_sound("file", c->data ? "data" : NULL);
    bs = open_with("file", c->data ? "data" : NULL);
    user = user_of(bs);
    block_test_co_expect(user, OLD_SIZE, NEW_SIZE - OLD_SIZE, 4);
    expect_disk(user, base, OLD_SIZE, c->last);
    close_image(bs, user);
    bdrv_co_unref(base);
    bdrv_co_unref(data);
    bdrv_co_unref(file);
    unlink(path);
}

static void coroutine_fn test_modes(void)
{
    size_t n;
    g_autofree Case *c = cases(&n);

    for (size_t i = 0; i < n; i++) {
        for (int mode = 0; mode < PREALLOC_MODE__MAX && !c[i].device; mode++) {
            one_case(&c[i], (PreallocMode)mode);
        }
    }
}

/* The disk is as it was, and goes on. */
static void coroutine_fn test_no_space(void)
{
    BlockDriverState *file = test_ram_new("file", 0), *bs;
    Case c = {.spec = plain};
    Error *err = NULL;
    BdrvChild *user;

    fvd_image_co_make(file, &plain);
    bs = open_with("file", NULL);
    user = user_of(bs);
    fill(&c, user);
    g_assert_cmpint(bdrv_co_truncate(user, NEW_SIZE, true, PREALLOC_MODE_FALLOC, 0, &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "test-ram does not preallocate"));
    error_free_or_abort(&err);
    test_ram_set_capacity(file, fvd_image_data_offset(&plain) + 15 * CHUNK);
    g_assert_cmpint(bdrv_co_truncate(user, NEW_SIZE, true, PREALLOC_MODE_METADATA, 0, &err), ==,
                    -ENOSPC);
    error_free_or_abort(&err);
    g_assert_cmpint(bdrv_co_truncate(user, 4096, true, PREALLOC_MODE_METADATA, 0, &err), ==,
                    -EINVAL);
    error_free_or_abort(&err);
    g_assert_cmpint(bdrv_getlength(bs), ==, OLD_SIZE);
    expect_disk(user, false, OLD_SIZE, false);
    block_test_co_fill(user, 7 * CHUNK, CHUNK, 5);
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    block_test_co_expect(user, 7 * CHUNK, CHUNK, 5);
    close_image(bs, user);
    expect_sound("file", NULL);
    bdrv_co_unref(file);
}

/* PA2.  Opened for writing, so that it is recovered; grown again if it has not. */
static void coroutine_fn after_cut(const Case *c, bool base)
{
    BlockDriverState *bs = open_with("file", NULL);
    BdrvChild *user = user_of(bs);
    int64_t size = bdrv_getlength(bs);

    g_assert_true(size == OLD_SIZE || size == NEW_SIZE);
    expect_disk(user, base, size, c->last);
    if (size == OLD_SIZE) {
        g_assert_cmpint(
            bdrv_co_truncate(user, NEW_SIZE, true, PREALLOC_MODE_METADATA, 0, &error_abort), ==, 0);
    }
    block_test_co_fill(user, NEW_SIZE - CHUNK, CHUNK, 6);
    expect_disk(user, base, NEW_SIZE - CHUNK, c->last);
    close_image(bs, user);
    expect_sound("file", NULL);
}

/* From there on it has what somebody left. */
static void soil(BlockDriverState *device, int64_t from)
{
    g_autofree uint8_t *buf = g_malloc(CAPACITY);

    memset(buf, 0xee, CAPACITY);
    test_cut_poke(device, from, buf, CAPACITY - from);
}

static BlockDriverState *coroutine_fn make(const Case *c)
{
    BlockDriverState *file =
        c->device ? test_cut_new("file", CAPACITY) : test_cut_new_file("file", 0, CAPACITY);

    if (c->device) {
        soil(file, 0);
    }
    fvd_image_co_make(file, &c->spec);
    return file;
}

/* Whether there was a moment with that number. */
static bool coroutine_fn cut_at(const Case *c, PreallocMode mode, unsigned moment, uint32_t seed,
                                unsigned fates)
{
    BlockDriverState *file = make(c), *base = base_of(c), *bs;
    TestCutImage *image;
    BdrvChild *user;
    bool was_cut;

    bs = open_with("file", NULL);
    user = user_of(bs);
    fill(c, user);
    if (c->device) { /* also what was made ready ahead */
        close_image(bs, user);
        soil(file, fvd_image_data_offset(&c->spec) + (6 + c->last + c->discarded) * CHUNK);
        bs = open_with("file", NULL);
        user = user_of(bs);
    }
    g_assert_cmpint(bdrv_co_flush(bs), ==, 0);
    test_cut_arm(file, test_cut_moments(file) + moment);
    bdrv_co_truncate(user, NEW_SIZE, true, mode, 0, NULL);
    was_cut = test_cut_is_off(file);
    close_image(bs, user);
    if (was_cut) {
        image = test_cut_image(file);
        for (unsigned i = 0; i < fates; i++) {
            TestCutFate fate = {.seed = seed + 1000 * moment + i,
                                .tear_bytes = i % 2 ? 512 : 0,
                                .reorder = i % 3,
                                .drop_all = i == 0};

            test_cut_load(file, image, &fate);
            expect_sound("file", NULL);
            after_cut(c, base);
        }
        test_cut_image_free(image);
    }
    bdrv_co_unref(base);
    bdrv_co_unref(file);
    return was_cut;
}

static void coroutine_fn test_cuts(void)
{
    uint32_t seed = block_test_seed();
    const char *text = g_getenv("SEEDS");
    unsigned fates = text ? (unsigned)atoi(text) : 4, moments = 0;
    size_t n;
    g_autofree Case *c = cases(&n);

    for (size_t i = 0; i < n; i++) {
        for (int mode = 0; mode < PREALLOC_MODE__MAX && !c[i].data; mode++) {
            unsigned moment = 1;

            for (; cut_at(&c[i], (PreallocMode)mode, moment, seed, fates); moment++) {
            }
            moments += moment;
        }
    }
    g_test_message("%u moments, %u fates each", moments, fates);
}

static void add(void)
{
    block_test_add("/fvd/prealloc/what a disk gains has its place, as it was asked for",
                   test_modes);
    block_test_add("/fvd/prealloc/without the space the disk stays as it was", test_no_space);
    block_test_add("/fvd/prealloc/a power cut leaves the disk as it was, or as it is to be",
                   test_cuts);
}

int main(int argc, char **argv)
{
    bdrv_file_register();
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
