/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Map: IM1 and IM2 of block/image/map.c. */
#include <errno.h>
#include "tests/unit/image/images.h"
#include "util/osdep.h"

#define CLUSTER (64 * KiB)
#define SIZE    (16 * CLUSTER)

static char *text; /* "start+length depth flags", a line each; in clusters where SCALE is so */
static int64_t scale;

static void note(void *opaque, const ImageMapEntry *e)
{
    GString *s = opaque;

    g_string_append_printf(s, "%d+%d d%u%s%s%s%s;", (int)(e->start / scale),
                           (int)(e->length / scale), e->depth, e->present ? " present" : "",
                           e->zero ? " zero" : "", e->data ? " data" : "",
                           e->has_offset ? " at" : "");
    if (e->has_offset) {
        g_string_append_printf(s, "%d;", (int)(e->offset / scale));
    }
    g_assert_cmpint(!!e->filename, ==, e->has_offset);
}

static const char *coroutine_fn map(BlockBackend *blk, int64_t start, int64_t length)
{
    GString *s = g_string_new(NULL);
    ImageMapArgs args = {.image = blk, .start = start, .length = length, .emit = note, .opaque = s};

    g_assert_cmpint(image_co_map(&args, &error_abort), ==, 0);
    g_free(text);
    text = g_string_free(s, FALSE);
    return text;
}

static void coroutine_fn fill(BlockBackend *blk, int64_t first, int64_t n, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(n * CLUSTER);

    memset(buf, byte, n * CLUSTER);
    g_assert_cmpint(blk_co_pwrite(blk, first * CLUSTER, n * CLUSTER, buf, 0), >=, 0);
}

static void coroutine_fn data_and_holes_of_one_layer(void)
{
    BlockBackend *blk = images_blk(test_ram_new("disk", SIZE), true);

    scale = CLUSTER;
    g_assert_cmpstr(map(blk, 0, INT64_MAX), ==, "0+16 d0 present zero at;0;");
    fill(blk, 2, 3, 1);
    fill(blk, 5, 1, 1);
    g_assert_cmpstr(map(blk, 0, INT64_MAX), ==,
                    "0+2 d0 present zero at;0;2+4 d0 present data at;2;6+10 d0 present zero at;6;");
    g_assert_cmpstr(map(blk, 3 * CLUSTER, 4 * CLUSTER), ==,
                    "3+3 d0 present data at;3;6+1 d0 present zero at;6;");
    scale = 1;
    g_assert_cmpstr(map(blk, 3 * CLUSTER + 5, 7), ==, "196613+7 d0 present data at;196613;");
    g_assert_cmpstr(map(blk, SIZE + 7, INT64_MAX), ==, "1048583+0 d0;");
    g_assert_cmpstr(map(blk, 5, 0), ==, "5+0 d0;");
    blk_co_unref(blk);
}

static void coroutine_fn a_chain_shows_who_decides(void)
{
    BlockDriverState *base = test_ram_new("base", 8 * CLUSTER);
    BlockDriverState *mid = test_cow_new("mid", 12 * CLUSTER, CLUSTER, base);
    BlockBackend *mid_blk, *top;

    scale = CLUSTER;
    test_ram_poke_pattern(base, CLUSTER, CLUSTER, 1);
    bdrv_ref(mid);
    mid_blk = images_blk(mid, true);
    fill(mid_blk, 3, 2, 1);
    g_assert_cmpint(blk_co_pwrite_zeroes(mid_blk, 9 * CLUSTER, CLUSTER, 0), >=, 0);
    blk_co_unref(mid_blk);
    top = images_blk(test_cow_new("top", SIZE, CLUSTER, mid), true);
    fill(top, 4, 1, 1);
    fill(top, 15, 1, 1);
    g_assert_cmpstr(map(top, 0, INT64_MAX), ==,
                    "0+1 d2 present zero at;0;"
                    "1+1 d2 present data at;1;"
                    "2+1 d2 present zero at;2;"
                    "3+1 d1 present data;"
                    "4+1 d0 present data;"
                    "5+3 d2 present zero at;5;"
                    "8+1 d1 zero;"
                    "9+1 d1 present zero;"
                    "10+2 d1 zero;"
                    "12+3 d0 zero;"
                    "15+1 d0 present data;");
    blk_co_unref(top);
    bdrv_co_unref(mid);
    bdrv_co_unref(base);
}

static void coroutine_fn an_empty_image_has_one_empty_entry(void)
{
    BlockBackend *blk = images_blk(test_ram_new("disk", 0), true);

    scale = 1;
    g_assert_cmpstr(map(blk, 0, INT64_MAX), ==, "0+0 d0;");
    blk_co_unref(blk);
}

static void ignore(void *opaque, const ImageMapEntry *e)
{
}

static void coroutine_fn a_map_ends_with_the_first_error_and_when_cancelled(void)
{
    BlockDriverState *bs = test_ram_new("disk", SIZE);
    BlockBackend *blk = images_blk(bs, true);
    ImagesWatch w = {.cancel_at = 1};
    ImageMapArgs args = {.image = blk, .length = INT64_MAX, .emit = ignore};
    Error *err = NULL;

    test_ram_set_error(bs, TEST_RAM_STATUS, 0, SIZE, EIO, -1);
    g_assert_cmpint(image_co_map(&args, &err), ==, -EIO);
    error_free_or_abort(&err);
    args.watch = images_watch(&w);
    g_assert_cmpint(image_co_map(&args, &err), ==, -ECANCELED);
    error_free_or_abort(&err);
    blk_co_unref(blk);
    g_clear_pointer(&text, g_free);
}

static void add_tests(void)
{
    blk_init();
    block_test_add("/image/map/data and holes of one layer", data_and_holes_of_one_layer);
    block_test_add("/image/map/a chain shows who decides", a_chain_shows_who_decides);
    block_test_add("/image/map/an empty image has one empty entry",
                   an_empty_image_has_one_empty_entry);
    block_test_add("/image/map/a map ends with the first error and when cancelled",
                   a_map_ends_with_the_first_error_and_when_cancelled);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
