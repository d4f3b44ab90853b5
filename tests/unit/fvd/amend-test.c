/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an image says of itself, and what can be changed of it later. */
#include <errno.h>
#include <string.h>
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/image/image.h"
#include "block/open/open.h"
#include "qapi/json-parser.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CHUNK (64 * KiB)
#define SIZE  (16 * CHUNK)
#define RW    (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE)

/* A base full of 0xb5 for the first half, and an image over it. */
typedef struct Tree {
    BlockDriverState *file, *base, *bs;
    BdrvChild *user;
} Tree;

static void coroutine_fn tree_open(Tree *t)
{
    t->bs = block_test_co_open("{\"driver\":\"fvd\",\"file\":\"f\",\"backing\":%s}",
                               t->base ? "\"b\"" : "null");
    t->user = block_test_user(t->bs, RW);
}

static void coroutine_fn tree_close(Tree *t)
{
    block_test_co_user_free(t->user);
    bdrv_co_unref(t->bs);
}

static void coroutine_fn tree_reopen(Tree *t)
{
    tree_close(t);
    tree_open(t);
}

static Tree *coroutine_fn tree_new(BlockDriverState *file, bool base, const char *more)
{
    Tree *t = g_new0(Tree, 1);
    json_t *o =
        json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "driver", "fvd", "file", "f", "size",
                  (json_int_t)SIZE, "chunk-size", (json_int_t)CHUNK, "block-size", (json_int_t)4096,
                  "journal-size", (json_int_t)(16 * KiB), "storage-grow-unit", (json_int_t)CHUNK);
    json_t *others = json_parse_string(more, &error_abort);
    g_autofree uint8_t *buf = g_malloc(SIZE / 2);
    BlockdevCreateOptions *opts;

    t->file = file;
    if (base) {
        t->base = test_ram_new("b", SIZE / 2);
        memset(buf, 0xb5, SIZE / 2);
        test_ram_poke(t->base, 0, buf, SIZE / 2);
        json_object_set_new(o, "backing-file", json_string("b"));
        json_object_set_new(o, "backing-fmt", json_string("raw"));
        json_object_set_new(o, "backing-size", json_integer(SIZE / 2));
    }
    json_object_update(o, others);
    json_decref(others);
    opts = qapi_BlockdevCreateOptions_from_json(o, &error_abort);
    json_decref(o);
    fvd_co_create(opts, NULL, &error_abort);
    qapi_free_BlockdevCreateOptions(opts);
    tree_open(t);
    return t;
}

static void coroutine_fn tree_free(Tree *t)
{
    tree_close(t);
    bdrv_co_unref(t->base);
    bdrv_co_unref(t->file);
    g_free(t);
}

static ImageInfoSpecificFvd *info_of(Tree *t, ImageInfoSpecific **ret)
{
    *ret = t->bs->drv->image->co_get_specific_info(t->bs, &error_abort);
    g_assert_cmpint((*ret)->type, ==, IMAGE_INFO_SPECIFIC_KIND_FVD);
    return (*ret)->u.fvd.data;
}

static int coroutine_fn amend(Tree *t, const char *options, Error **errp)
{
    json_t *o = json_parse_string(options, &error_abort);
    int ret = t->bs->drv->image->co_amend(t->bs, o, false, NULL, errp);

    json_decref(o);
    return ret;
}

static void coroutine_fn amend_fails(Tree *t, const char *message, const char *options)
{
    Error *err = NULL;

    g_assert_cmpint(amend(t, options, &err), <, 0);
    if (!strstr(error_get_pretty(err), message)) {
        g_error("expected '%s', got '%s'", message, error_get_pretty(err));
    }
    error_free(err);
}

static void coroutine_fn expect_no_damage(bool leaks_too)
{
    BdrvOpenFileArgs args = {.filename =
                                 "json:{'driver':'fvd','file':'f','read-only':true,'backing':null}",
                             .check = true};
    BlockDriverState *bs = bdrv_co_open_file(&args, &error_abort);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    BdrvCheckResult r = {0};

    bs->drv->image->co_check(bs, &r, 0, &error_abort);
    g_assert_cmpint(r.corruptions + r.check_errors + (leaks_too ? r.leaks : 0), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn expect_sound(void)
{
    expect_no_damage(true);
}

static void coroutine_fn an_image_tells_what_it_is(void)
{
    Tree *t = tree_new(test_ram_new("f", 0), true,
                       "{'add-storage-cmd':'/bin/grow','prefetch-start-delay':7}");
    ImageInfoSpecific *all;
    ImageInfoSpecificFvd *info = info_of(t, &all);

    g_assert_cmpint(info->version, ==, BLOCKDEV_FVD_VERSION_V2);
    g_assert_true(info->clean && info->has_chunk_size && info->has_block_size);
    g_assert_cmpint(info->chunk_size, ==, CHUNK);
    g_assert_cmpint(info->journal_size, ==, 16 * KiB);
    g_assert_cmpstr(info->features->value, ==, "block-sums");
    g_assert_cmpstr(info->features->next->value, ==, "remap");
    g_assert_cmpstr(info->features->next->next->value, ==, "trailers");
    g_assert_cmpint(info->allocated_chunks, ==, 0);
    g_assert_cmpint(info->backing_size, ==, SIZE / 2);
    g_assert_cmpstr(info->add_storage_cmd, ==, "/bin/grow");
    g_assert_cmpint(info->prefetch_start_delay, ==, 7);
    g_assert_null(info->data_file);
    qapi_free_ImageInfoSpecific(all);
    block_test_co_fill(t->user, CHUNK, 2 * CHUNK, 1);
    info = info_of(t, &all);
    g_assert_false(info->clean);
    g_assert_cmpint(info->allocated_chunks, ==, 2);
    qapi_free_ImageInfoSpecific(all);
    tree_free(t);
}

static void coroutine_fn options_are_amended_and_stay(void)
{
    Tree *t = tree_new(test_ram_new("f", 0), true, "{}");
    ImageInfoSpecific *all;
    ImageInfoSpecificFvd *info;

    block_test_co_fill(t->user, 0, CHUNK + 512, 7);
    g_assert_cmpint(amend(t,
                          "{'copy_on_read':'on','prefetch_start_delay':'-5','bytes_per_prefetch':"
                          "'64k','storage_grow_unit':'1M','add_storage_cmd':'x','journal_size':"
                          "'8k'}",
                          &error_abort),
                    ==, 0);
    block_test_co_fill(t->user, 3 * CHUNK, 512, 8);
    for (unsigned i = 0; i < 2; i++) {
        info = info_of(t, &all);
        g_assert_true(info->copy_on_read);
        g_assert_cmpint(info->prefetch_start_delay, ==, -5);
        g_assert_cmpint(info->bytes_per_prefetch, ==, 64 * KiB);
        g_assert_cmpint(info->num_prefetch_slots, ==, 2);
        g_assert_cmpint(info->storage_grow_unit, ==, MiB);
        g_assert_cmpint(info->journal_size, ==, 8 * KiB);
        g_assert_cmpstr(info->add_storage_cmd, ==, "x");
        qapi_free_ImageInfoSpecific(all);
        block_test_co_expect(t->user, 0, CHUNK + 512, 7);
        block_test_co_expect(t->user, CHUNK + 512, CHUNK, 0xb5);
        block_test_co_expect(t->user, 3 * CHUNK, 512, 8);
        tree_reopen(t);
    }
    amend_fails(t, "cannot be amended", "{'chunk_size':'64k'}");
    amend_fails(t, "'bytes-per-prefetch' is 1", "{'bytes_per_prefetch':'1'}");
    amend_fails(t, "'journal-size' is 4096", "{'journal_size':'4k'}");
    amend_fails(t, "The journal cannot have", "{'journal_size':'1G'}");
    tree_close(t);
    expect_sound();
    tree_open(t);
    tree_free(t);
}

static void coroutine_fn versions_go_up_and_down(void)
{
    Tree *t = tree_new(test_ram_new("f", 0), true, "{'version':'v1'}");
    ImageInfoSpecific *all;

    for (unsigned i = 0; i < 4; i++) {
        block_test_co_fill(t->user, i * CHUNK, CHUNK, i + 1);
        amend(t, i % 2 ? "{'version':'v1'}" : "{'version':'v2'}", &error_abort);
        block_test_co_fill(t->user, (i + 8) * CHUNK, CHUNK, i + 9);
        tree_close(t);
        expect_sound();
        tree_open(t);
        g_assert_cmpint(info_of(t, &all)->version, ==,
                        i % 2 ? BLOCKDEV_FVD_VERSION_V1 : BLOCKDEV_FVD_VERSION_V2);
        qapi_free_ImageInfoSpecific(all);
        block_test_co_expect(t->user, i * CHUNK, CHUNK, i + 1);
        block_test_co_expect(t->user, (i + 8) * CHUNK, CHUNK, i + 9);
    }
    tree_free(t);
}

/* An old program's image gets the extension first. */
static void coroutine_fn an_old_image_goes_up(void)
{
    Tree *t = tree_new(test_ram_new("f", 0), true, "{'version':'v1'}");
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    ImageInfoSpecific *all;

    block_test_co_fill(t->user, CHUNK, CHUNK, 1);
    tree_close(t);
    test_ram_peek(t->file, 0, buf, FVD_HEADER_REGION);
    fvd_header_decode(buf, FVD_HEADER_REGION, h, &error_abort);
    h->has_ext = false;
    h->ext_size = 0;
    h->compatible = h->autoclear = 0;
    fvd_header_encode(h, buf);
    test_ram_poke(t->file, 0, buf, FVD_HEADER_REGION);
    tree_open(t);
    amend(t, "{'version':'v2'}", &error_abort);
    tree_reopen(t);
    g_assert_cmpint(info_of(t, &all)->version, ==, BLOCKDEV_FVD_VERSION_V2);
    qapi_free_ImageInfoSpecific(all);
    block_test_co_expect(t->user, CHUNK, CHUNK, 1);
    block_test_co_fill(t->user, CHUNK, CHUNK, 2);
    tree_close(t);
    expect_sound();
    tree_open(t);
    tree_free(t);
}

static void coroutine_fn the_base_gets_another_name_or_none(void)
{
    Tree *t = tree_new(test_ram_new("f", 0), true, "{}");
    const BlockDriverImage *image = t->bs->drv->image;
    Error *err = NULL;

    block_test_co_fill(t->user, 0, 512, 1);
    image->co_change_backing_file(t->bs, "other.img", "raw", &error_abort);
    g_assert_cmpstr(t->bs->backing_file, ==, "other.img");
    tree_reopen(t);
    g_assert_cmpstr(t->bs->backing_file, ==, "other.img");
    g_assert_cmpstr(t->bs->backing_format, ==, "raw");
    block_test_co_expect(t->user, 0, 512, 1);
    block_test_co_expect(t->user, 512, CHUNK, 0xb5);
    image->co_change_backing_file(t->bs, NULL, NULL, &error_abort);
    g_assert_null(t->bs->backing_file);
    block_test_co_fill(t->user, CHUNK, 512, 2);
    g_assert_cmpint(image->co_change_backing_file(t->bs, "b", "raw", &err), ==, -ENOTSUP);
    error_free(err);
    tree_close(t);
    expect_sound();
    bdrv_co_unref(t->base);
    t->base = NULL;
    tree_open(t);
    block_test_co_expect(t->user, 0, 512, 1);
    block_test_co_expect(t->user, CHUNK, 512, 2);
    block_test_co_expect(t->user, CHUNK + 512, CHUNK, 0);
    tree_free(t);
}

static void coroutine_fn an_emptied_image_reads_as_its_base(void)
{
    Tree *t = tree_new(test_ram_new("f", 0), true, "{}");
    Error *err = NULL;

    block_test_co_fill(t->user, CHUNK - 512, 3 * CHUNK, 1);
    block_test_co_fill(t->user, SIZE - CHUNK, CHUNK, 2);
    t->bs->drv->image->co_make_empty(t->bs, &error_abort);
    g_assert_cmpint(bdrv_getlength(t->file), <, 2 * CHUNK);
    block_test_co_expect(t->user, 0, SIZE / 2, 0xb5);
    block_test_co_expect(t->user, SIZE / 2, SIZE / 2, 0);
    block_test_co_fill(t->user, 5 * CHUNK, 512, 3);
    tree_close(t);
    expect_sound();
    tree_open(t);
    block_test_co_expect(t->user, 0, 5 * CHUNK, 0xb5);
    block_test_co_expect(t->user, 5 * CHUNK, 512, 3);
    block_test_co_expect(t->user, 5 * CHUNK + 512, CHUNK, 0xb5);
    tree_free(t);
    t = tree_new(test_ram_new("f", 0), false, "{}");
    g_assert_cmpint(t->bs->drv->image->co_make_empty(t->bs, &err), ==, -ENOTSUP);
    error_free(err);
    tree_free(t);
}

/* It had all of the base, and needed it no more: now it does. */
static void coroutine_fn an_image_that_was_full_reads_its_base_when_it_is_emptied(void)
{
    Tree *t = tree_new(test_ram_new("f", 0), true, "{}");

    block_test_co_fill(t->user, 0, SIZE / 2, 0xb5);
    g_assert_cmpint(t->bs->drv->prefetch->co_finish(t->bs), ==, 0);
    tree_reopen(t);
    t->bs->drv->image->co_make_empty(t->bs, &error_abort);
    block_test_co_expect(t->user, 0, SIZE / 2, 0xb5);
    tree_reopen(t);
    block_test_co_expect(t->user, 0, SIZE / 2, 0xb5);
    block_test_co_expect(t->user, SIZE / 2, SIZE / 2, 0);
    tree_free(t);
}

/* After a commit image and base are the same, and so is what is read whenever power fails while it is emptied. */
static void coroutine_fn a_cut_while_it_is_emptied_shows_nothing_else(void)
{
    uint32_t seed = block_test_seed();
    bool done = false;

    for (unsigned moment = 1; !done; moment++) {
        for (unsigned i = 0; i < 4; i++) {
            TestCutFate fate = {.seed = seed + i, .tear_bytes = 512, .reorder = true};
            BlockDriverState *file = test_cut_new("f", 8 * MiB);
            Tree *t = tree_new(file, true, "{}");

            block_test_co_fill(t->user, CHUNK, 3 * CHUNK, 0xb5);
            bdrv_co_flush(t->bs);
            test_cut_arm(file, test_cut_moments(file) + moment);
            done = t->bs->drv->image->co_make_empty(t->bs, NULL) == 0;
            if (!test_cut_is_off(file)) {
                test_cut_now(file);
            }
            tree_close(t);
            test_cut_power_on(file, &fate);
            tree_open(t);
            block_test_co_expect(t->user, 0, SIZE / 2, 0xb5);
            block_test_co_expect(t->user, SIZE / 2, SIZE / 2, 0);
            tree_free(t);
        }
    }
}

/* Old or new, and the disk is what it was. */
static void coroutine_fn a_cut_while_it_is_amended_loses_nothing(void)
{
    static const char *const changes[][2] = {
        {"v1", "{'version':'v2','copy_on_read':'on'}"},
        {"v2", "{'version':'v1','storage_grow_unit':'1M'}"},
        {"v2", "{'journal_size':'8k','add_storage_cmd':'something else'}"},
    };
    uint32_t seed = block_test_seed();

    for (size_t n = 0; n < ARRAY_SIZE(changes); n++) {
        g_autofree char *version = g_strdup_printf("{'version':'%s'}", changes[n][0]);
        bool done = false;

        for (unsigned moment = 1; !done; moment++) {
            TestCutFate fate = {.seed = seed + moment, .tear_bytes = 512, .reorder = true};
            BlockDriverState *file = test_cut_new("f", 8 * MiB);
            Tree *t = tree_new(file, true, version);

            block_test_co_fill(t->user, CHUNK, 3 * CHUNK, 1);
            bdrv_co_flush(t->bs);
            test_cut_arm(file, test_cut_moments(file) + moment);
            done = amend(t, changes[n][1], NULL) == 0;
            if (!test_cut_is_off(file)) {
                test_cut_now(file);
            }
            tree_close(t);
            test_cut_power_on(file, &fate);
            expect_sound();
            tree_open(t);
            block_test_co_expect(t->user, 0, CHUNK, 0xb5);
            block_test_co_expect(t->user, CHUNK, 3 * CHUNK, 1);
            block_test_co_fill(t->user, 0, CHUNK, 2);
            tree_free(t);
        }
    }
}

typedef struct Change {
    const char *version;
    const char *options; /* amended; or */
    bool rename, none, empty;
} Change;

static int coroutine_fn make_change(Tree *t, const Change *c)
{
    const BlockDriverImage *image = t->bs->drv->image;
    g_autofree char *name = g_strnfill(1000, 'n'); /* in three sectors */
    Error *err = NULL;
    int ret;

    if (c->options) {
        ret = amend(t, c->options, &err);
    } else if (c->empty) {
        ret = image->co_make_empty(t->bs, &err);
    } else {
        ret = image->co_change_backing_file(t->bs, c->rename ? name : NULL, "raw", &err);
    }
    g_assert_true((ret < 0) == (err != NULL));
    error_free(err);
    return ret;
}

/* From its @begin-th operation on, @count of them, the file fails. */
typedef struct Trouble {
    BlockDriverState *file;
    unsigned begin, seen;
    int count;
} Trouble;

static void trouble_watch(void *opaque, unsigned op, int64_t offset, int64_t bytes, bool begins)
{
    Trouble *trouble = opaque;

    if (begins && ++trouble->seen == trouble->begin) {
        test_ram_set_error(trouble->file, TEST_RAM_ALL_IO, 0, INT64_MAX, EIO, trouble->count);
    }
}

/* Return: whether the change has failed. */
static bool coroutine_fn one_trouble(const Change *c, unsigned begin, int count, bool late)
{
    g_autofree char *version = g_strdup_printf("{'version':'%s'}", c->version);
    uint8_t value = c->empty ? 0xb5 : 1, *buf = g_malloc(CHUNK);
    Tree *t = tree_new(test_ram_new("f", 0), true, version);
    Trouble trouble = {.file = t->file, .begin = begin, .count = count};
    bool failed, goes_on;

    block_test_co_fill(t->user, 0, SIZE / 2, value);
    tree_reopen(t);
    block_test_co_fill(t->user, CHUNK, CHUNK, value);
    test_ram_set_late_errors(t->file, late);
    test_ram_set_watch(t->file, trouble_watch, &trouble);
    failed = make_change(t, c) < 0;
    test_ram_set_watch(t->file, NULL, NULL);
    test_ram_set_error(t->file, TEST_RAM_ALL_IO, 0, INT64_MAX, 0, 0);
    block_test_co_expect(t->user, 0, SIZE / 2, value);
    memset(buf, 2, CHUNK);
    goes_on = bdrv_co_pwrite(t->user, 3 * CHUNK, CHUNK, buf, 0) == 0;
    g_assert_true(goes_on || failed);
    g_assert_cmpint(bdrv_co_flush(t->bs), ==, goes_on ? 0 : -EIO);
    tree_close(t);
    expect_no_damage(!c->empty); /* what is in no table any more is cut off last */
    if (c->none) {
        g_clear_pointer(&t->base, bdrv_co_unref);
    }
    tree_open(t);
    block_test_co_expect(t->user, 0, 3 * CHUNK, value);
    block_test_co_expect(t->user, 3 * CHUNK, CHUNK, goes_on ? 2 : value);
    block_test_co_expect(t->user, 4 * CHUNK, SIZE / 2 - 4 * CHUNK, value);
    block_test_co_expect(t->user, SIZE / 2, SIZE / 2, 0);
    if (failed && goes_on && c->rename) {
        g_assert_cmpstr(t->bs->backing_file, ==, "b");
    }
    tree_free(t);
    g_free(buf);
    return failed;
}

static void coroutine_fn a_change_that_fails_is_taken_back_or_the_image_fails(void)
{
    static const Change changes[] = {
        {"v1", "{'version':'v2','copy_on_read':'on'}"},
        {"v2", "{'version':'v1','storage_grow_unit':'1M'}"},
        {"v2", "{'journal_size':'8k','add_storage_cmd':'something else'}"},
        {"v2", .rename = true},
        {"v2", .none = true},
        {"v2", .empty = true},
    };

    for (size_t n = 0; n < ARRAY_SIZE(changes); n++) {
        for (int i = 0; i < 4; i++) {
            unsigned begin = 1;

            while (one_trouble(&changes[n], begin, i & 1 ? 1 : -1, i & 2)) {
                begin++;
            }
            g_assert_cmpuint(begin, >, 4);
        }
    }
}

static void add(void)
{
    bdrv_fvd_register();
    block_test_add("/fvd/amend/an image tells what it is", an_image_tells_what_it_is);
    block_test_add("/fvd/amend/options are amended and stay", options_are_amended_and_stay);
    block_test_add("/fvd/amend/versions go up and down", versions_go_up_and_down);
    block_test_add("/fvd/amend/an old image goes up", an_old_image_goes_up);
    block_test_add("/fvd/amend/the base gets another name or none",
                   the_base_gets_another_name_or_none);
    block_test_add("/fvd/amend/an emptied image reads as its base",
                   an_emptied_image_reads_as_its_base);
    block_test_add("/fvd/amend/a cut while it is emptied shows nothing else",
                   a_cut_while_it_is_emptied_shows_nothing_else);
    block_test_add("/fvd/amend/an image that was full reads its base when it is emptied",
                   an_image_that_was_full_reads_its_base_when_it_is_emptied);
    block_test_add("/fvd/amend/a cut while it is amended loses nothing",
                   a_cut_while_it_is_amended_loses_nothing);
    block_test_add("/fvd/amend/a change that fails is taken back, or the image fails",
                   a_change_that_fails_is_taken_back_or_the_image_fails);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
