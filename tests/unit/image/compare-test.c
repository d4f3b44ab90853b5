/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compare: equal whatever is allocated, and where it is not equal, the sector. */
#include <errno.h>
#include "tests/unit/image/images.h"
#include "util/osdep.h"

#define SIZE (4 * MiB)

typedef struct Pair {
    BlockDriverState *bs[2];
    ImageCompareArgs args;
    ImageCompareResult result;
} Pair;

static Pair pair_of(BlockDriverState *a, BlockDriverState *b)
{
    Pair p = {.bs = {a, b}};

    p.args.image[0] = images_blk(a, true);
    p.args.image[1] = images_blk(b, true);
    return p;
}

static Pair pair_new(int64_t size_a, int64_t size_b)
{
    return pair_of(test_ram_new("a", size_a), test_ram_new("b", size_b));
}

static void coroutine_fn pair_free(Pair *p)
{
    blk_co_unref(p->args.image[0]);
    blk_co_unref(p->args.image[1]);
}

static ImageDifference coroutine_fn compare(Pair *p)
{
    g_assert_cmpint(image_co_compare(&p->args, &p->result, &error_abort), ==, 0);
    return p->result.difference;
}

static void coroutine_fn fill(Pair *p, int i, int64_t offset, int64_t bytes, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, byte, bytes);
    g_assert_cmpint(blk_co_pwrite(p->args.image[i], offset, bytes, buf, 0), >=, 0);
}

static void coroutine_fn zeros_are_equal_to_what_was_never_written(void)
{
    Pair p = pair_new(SIZE, SIZE);

    fill(&p, 0, 64 * KiB, MiB, 0);
    g_assert_cmpint(compare(&p), ==, IMAGE_IDENTICAL);
    p.args.strict = true;
    g_assert_cmpint(compare(&p), ==, IMAGE_STATUS_DIFFERS);
    g_assert_cmpint(p.result.offset, ==, 64 * KiB);
    pair_free(&p);
}

static void coroutine_fn what_both_know_to_be_zeros_is_not_read(void)
{
    Pair p = pair_new(8 * TiB, 8 * TiB);

    fill(&p, 0, 5 * TiB, 64 * KiB, 1);
    fill(&p, 1, 5 * TiB, 64 * KiB, 1);
    test_ram_reset_counts(p.bs[0]);
    g_assert_cmpint(compare(&p), ==, IMAGE_IDENTICAL);
    g_assert_cmpint(test_ram_counts(p.bs[0])->bytes_read, ==, 64 * KiB);
    pair_free(&p);
}

static void coroutine_fn a_difference_is_named_by_its_sector(void)
{
    static const int64_t at[] = {0, 1, 511, 512, 70001, MiB - 1, MiB, SIZE - 1};

    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        for (int in_hole = 0; in_hole < 2; in_hole++) {
            Pair p = pair_new(SIZE, SIZE);

            if (!in_hole) {
                fill(&p, 0, 0, SIZE, 7);
                fill(&p, 1, 0, SIZE, 7);
            }
            fill(&p, i % 2, at[i], 1, 9);
            g_assert_cmpint(compare(&p), ==, IMAGE_CONTENT_DIFFERS);
            g_assert_cmpint(p.result.offset, ==, ROUND_DOWN(at[i], 512));
            g_assert_false(p.result.other_size);
            pair_free(&p);
        }
    }
}

static void coroutine_fn a_longer_image_may_go_on_with_zeros_only(void)
{
    Pair p = pair_new(SIZE, SIZE + 100 * KiB + 3);

    fill(&p, 1, SIZE + 10, 20000, 0);
    g_assert_cmpint(compare(&p), ==, IMAGE_IDENTICAL);
    g_assert_true(p.result.other_size);
    fill(&p, 1, SIZE + 100 * KiB + 2, 1, 1);
    g_assert_cmpint(compare(&p), ==, IMAGE_CONTENT_DIFFERS);
    g_assert_cmpint(p.result.offset, ==, SIZE + 100 * KiB);
    g_assert_true(p.result.other_size);
    p.args.strict = true;
    g_assert_cmpint(compare(&p), ==, IMAGE_SIZES_DIFFER);
    pair_free(&p);
}

static void coroutine_fn what_is_in_a_backing_file_counts(void)
{
    BlockDriverState *base = test_ram_new("base", SIZE);
    BlockDriverState *flat = test_ram_new("flat", SIZE);
    Pair p;

    test_ram_poke_pattern(base, 0, SIZE, 1);
    test_ram_poke_pattern(flat, 0, SIZE, 1);
    p = pair_of(test_cow_new("overlay", SIZE, 64 * KiB, base), flat);
    fill(&p, 0, MiB, 64 * KiB, 5);
    fill(&p, 1, MiB, 64 * KiB, 5);
    g_assert_cmpint(compare(&p), ==, IMAGE_IDENTICAL);
    pair_free(&p);
    bdrv_co_unref(base);
}

static void coroutine_fn an_error_names_its_image_and_place(void)
{
    for (int i = 0; i < 2; i++) {
        Pair p = pair_new(SIZE, SIZE);
        Error *err = NULL;

        fill(&p, i, 0, SIZE, 0);
        test_ram_set_error(p.bs[i], TEST_RAM_READ, MiB + 5, 1, EIO, -1);
        g_assert_cmpint(image_co_compare(&p.args, &p.result, &err), ==, -EIO);
        g_assert_cmpint(p.result.failed_image, ==, i);
        g_assert_cmpint(p.result.failed_at, ==, MiB);
        g_assert_false(p.result.status_failed);
        error_free_or_abort(&err);
        test_ram_set_error(p.bs[i], TEST_RAM_STATUS, 0, SIZE, EIO, -1);
        g_assert_cmpint(image_co_compare(&p.args, &p.result, &err), ==, -EIO);
        g_assert_cmpint(p.result.failed_image, ==, i);
        g_assert_true(p.result.status_failed);
        error_free_or_abort(&err);
        pair_free(&p);
    }
}

static void coroutine_fn an_interrupted_comparison_has_no_result(void)
{
    ImagesWatch w = {.cancel_at = 3};
    Pair p = pair_new(SIZE, SIZE);
    Error *err = NULL;

    fill(&p, 0, 0, SIZE, 0);
    p.args.watch = images_watch(&w);
    g_assert_cmpint(image_co_compare(&p.args, &p.result, &err), ==, -ECANCELED);
    error_free_or_abort(&err);
    g_assert_cmpint(w.done, <, SIZE);
    w = (ImagesWatch){0};
    g_assert_cmpint(compare(&p), ==, IMAGE_IDENTICAL);
    g_assert_cmpint(w.done, ==, SIZE);
    g_assert_cmpint(w.total, ==, SIZE);
    pair_free(&p);
}

/* Against memcmp(). */
static void coroutine_fn random_images_compare_as_their_contents_do(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());

    for (int i = 0; i < 60; i++) {
        int64_t a_size = g_rand_int_range(r, 1, 3 * MiB), b_size = a_size;

        if (i % 3 == 0) {
            b_size = g_rand_int_range(r, 1, 3 * MiB);
        }
        Pair p = pair_new(a_size, b_size);
        int64_t common = MIN(a_size, b_size), first = 0;
        uint32_t seed = g_rand_int(r);

        for (int k = 0; k < 2; k++) {
            GRand *same = g_rand_new_with_seed(seed);

            images_co_scribble(p.args.image[k], same, a_size == b_size ? 20 : 1);
            g_rand_free(same);
        }
        if (g_rand_boolean(r)) {
            images_co_scribble(p.args.image[1], r, 1);
        }
        g_autofree uint8_t *a = images_co_read(p.args.image[0]);
        g_autofree uint8_t *b = images_co_read(p.args.image[1]);
        g_autofree uint8_t *both = g_malloc0(MAX(a_size, b_size));
        const uint8_t *longer = a_size > b_size ? a : b;

        memcpy(both, a_size > b_size ? b : a, common); /* the shorter one, with zeros behind */
        while (first < MAX(a_size, b_size) && both[first] == longer[first]) {
            first++;
        }
        if (first == MAX(a_size, b_size)) {
            g_assert_cmpint(compare(&p), ==, IMAGE_IDENTICAL);
        } else {
            g_assert_cmpint(compare(&p), ==, IMAGE_CONTENT_DIFFERS);
            g_assert_cmpint(p.result.offset, <=, first);
            g_assert_cmpint(p.result.offset, >, first - 512);
        }
        g_assert_cmpint(p.result.other_size, ==, a_size != b_size && first >= common);
        pair_free(&p);
    }
    g_rand_free(r);
}

static void add_tests(void)
{
    blk_init();
    block_test_add("/image/compare/zeros are equal to what was never written",
                   zeros_are_equal_to_what_was_never_written);
    block_test_add("/image/compare/what both know to be zeros is not read",
                   what_both_know_to_be_zeros_is_not_read);
    block_test_add("/image/compare/a difference is named by its sector",
                   a_difference_is_named_by_its_sector);
    block_test_add("/image/compare/a longer image may go on with zeros only",
                   a_longer_image_may_go_on_with_zeros_only);
    block_test_add("/image/compare/what is in a backing file counts",
                   what_is_in_a_backing_file_counts);
    block_test_add("/image/compare/an error names its image and place",
                   an_error_names_its_image_and_place);
    block_test_add("/image/compare/an interrupted comparison has no result",
                   an_interrupted_comparison_has_no_result);
    block_test_add("/image/compare/random images compare as their contents do",
                   random_images_compare_as_their_contents_do);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
