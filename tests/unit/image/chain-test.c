/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commit and rebase: what a chain shows stays the same (IK1 of block/image/commit.c, IR1 to IR4 of
 * block/image/rebase.c).
 */
#include <errno.h>
#include "tests/unit/image/images.h"
#include "util/osdep.h"

#define CLUSTER (64 * KiB)

/* base <- mid <- top, each its own length, random contents; mid and top are overlays. */
typedef struct Chain {
    BlockDriverState *base, *mid, *top;
    BlockBackend *base_blk, *mid_blk, *top_blk;
} Chain;

static int64_t random_size(GRand *r)
{
    return g_rand_int_range(r, 1, 40) * 32 * KiB;
}

static void coroutine_fn chain_new(Chain *c, GRand *r)
{
    c->base = test_ram_new(NULL, random_size(r));
    c->mid = test_cow_new(NULL, random_size(r), CLUSTER, c->base);
    c->top = test_cow_new(NULL, random_size(r), CLUSTER, c->mid);
    bdrv_ref(c->base);
    bdrv_ref(c->mid);
    c->base_blk = images_blk(c->base, true);
    images_co_scribble(c->base_blk, r, 6);
    c->mid_blk = images_blk(c->mid, true);
    images_co_scribble(c->mid_blk, r, 4);
    bdrv_ref(c->top);
    c->top_blk = images_blk(c->top, true);
    images_co_scribble(c->top_blk, r, 4);
}

static void coroutine_fn chain_free(Chain *c)
{
    blk_co_unref(c->top_blk);
    blk_co_unref(c->mid_blk);
    blk_co_unref(c->base_blk);
    bdrv_co_unref(c->top);
    bdrv_co_unref(c->mid);
    bdrv_co_unref(c->base);
}

static void same_start(const uint8_t *want, const uint8_t *got, int64_t length)
{
    g_assert_cmpmem(want, length, got, length);
}

static void coroutine_fn a_commit_makes_the_base_show_what_the_top_showed(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());

    for (int i = 0; i < 60; i++) {
        bool deep = i % 3 == 0, empty = !deep && g_rand_boolean(r);
        Chain c;

        chain_new(&c, r);

        BlockBackend *base = deep ? c.base_blk : c.mid_blk;
        ImageCommitArgs args = {.top = c.top_blk, .base = base, .make_empty = empty};
        g_autofree uint8_t *want = images_co_read(c.top_blk);
        g_autofree uint8_t *behind = images_co_read(base);
        int64_t length = blk_getlength(c.top_blk), base_length = blk_getlength(base);

        /* An overlay of the test's kind does not grow. */
        if (!deep && base_length < length) {
            Error *err = NULL;

            g_assert_cmpint(image_co_commit(&args, &err), ==, -ENOTSUP);
            error_free_or_abort(&err);
        } else {
            g_assert_cmpint(image_co_commit(&args, &error_abort), ==, 0);

            g_autofree uint8_t *got = images_co_read(base);

            same_start(want, got, length);
            if (base_length > length) {
                same_start(behind + length, got + length, base_length - length);
            }
            g_assert_cmpint(blk_getlength(base), ==, MAX(length, base_length));
        }
        g_autofree uint8_t *top = images_co_read(c.top_blk);

        same_start(want, top, length);
        g_assert_true(!empty || base_length < length || test_cow_allocated_clusters(c.top) == 0);
        chain_free(&c);
    }
    g_rand_free(r);
}

static void coroutine_fn a_commit_that_fails_or_is_stopped_leaves_the_top_as_it_was(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());

    for (unsigned i = 1; i < 40; i++) {
        ImagesWatch w = {.cancel_at = i % 2 ? i : 0};
        Error *err = NULL;
        Chain c;
        int ret;

        chain_new(&c, r);
        ImageCommitArgs args = {
            .top = c.top_blk, .base = c.base_blk, .make_empty = true, .watch = images_watch(&w)};
        g_autofree uint8_t *want = images_co_read(c.top_blk);
        int64_t clusters = test_cow_allocated_clusters(c.top);

        if (!w.cancel_at) {
            test_ram_set_error(c.base, TEST_RAM_WRITE | TEST_RAM_ZERO | TEST_RAM_FLUSH, 0,
                               INT32_MAX, EIO, -1);
        }
        ret = image_co_commit(&args, &err);
        test_ram_set_error(c.base, 0, 0, 0, 0, 0);
        if (ret < 0) {
            g_assert_cmpint(ret, ==, w.cancel_at ? -ECANCELED : -EIO);
            error_free_or_abort(&err);
            g_assert_cmpint(test_cow_allocated_clusters(c.top), ==, clusters);

            g_autofree uint8_t *top = images_co_read(c.top_blk);

            same_start(want, top, blk_getlength(c.top_blk));
        } else {
            g_assert_cmpint(w.cancel_at, >, 0); /* it was ready before it was asked so often */
        }
        chain_free(&c);
    }
    g_rand_free(r);
}

static void coroutine_fn a_base_that_is_not_below_is_refused(void)
{
    GRand *r = g_rand_new_with_seed(1);
    Error *err = NULL;
    Chain c;

    chain_new(&c, r);
    ImageCommitArgs args = {.top = c.mid_blk, .base = c.top_blk};

    g_assert_cmpint(image_co_commit(&args, &err), ==, -EINVAL);
    error_free_or_abort(&err);
    args.base = c.mid_blk;
    g_assert_cmpint(image_co_commit(&args, &err), ==, -EINVAL);
    error_free_or_abort(&err);
    chain_free(&c);
    g_rand_free(r);
}

/* What rebase is to bring about is done to the graph by hand, as the tool does by opening the image again. */
static void coroutine_fn show_new_backing(Chain *c, BlockDriverState *new_backing)
{
    g_assert_cmpint(bdrv_co_set_backing_hd(c->top, new_backing, &error_abort), ==, 0);
}

static void coroutine_fn a_rebase_keeps_what_the_image_shows(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());

    for (int i = 0; i < 90; i++) {
        BlockDriverState *other = NULL;
        BlockBackend *other_blk = NULL;
        Chain c;

        chain_new(&c, r);
        switch (i % 3) {
        case 0: /* something else */
            other = test_ram_new(NULL, random_size(r));
            bdrv_ref(other);
            other_blk = images_blk(other, true);
            images_co_scribble(other_blk, r, 6);
            break;
        case 1: /* further down the chain */
            other = c.base;
            bdrv_ref(other);
            bdrv_ref(other);
            other_blk = images_blk(other, false);
            break;
        default: /* nothing */
            break;
        }
        ImageRebaseArgs args = {.image = c.top_blk,
                                .new_backing = other_blk,
                                .backing_file = other ? "other" : NULL,
                                .backing_format = other ? "raw" : NULL};
        g_autofree uint8_t *want = images_co_read(c.top_blk);

        g_assert_cmpint(image_co_rebase(&args, &error_abort), ==, 0);
        g_assert_cmpstr(c.top->backing_file, ==, other ? "other" : NULL);

        g_autofree uint8_t *before = images_co_read(c.top_blk);

        same_start(want, before, blk_getlength(c.top_blk));
        show_new_backing(&c, other);

        g_autofree uint8_t *got = images_co_read(c.top_blk);

        same_start(want, got, blk_getlength(c.top_blk));
        if (other) {
            show_new_backing(&c, NULL);
            blk_co_unref(other_blk);
            bdrv_co_unref(other);
        }
        chain_free(&c);
    }
    g_rand_free(r);
}

static void coroutine_fn a_rebase_copies_only_what_differs(void)
{
    BlockDriverState *old = test_ram_new(NULL, 16 * CLUSTER),
                     *new = test_ram_new(NULL, 16 * CLUSTER);
    BlockBackend *new_blk, *image;
    BlockDriverState *top;

    test_ram_poke_pattern(old, 0, 16 * CLUSTER, 1);
    test_ram_poke_pattern(new, 0, 16 * CLUSTER, 1);
    test_ram_poke(new, 3 * CLUSTER + 5, "x", 1);
    test_ram_poke(new, 9 * CLUSTER, "yy", 2);
    bdrv_ref(new);
    new_blk = images_blk(new, false);
    top = test_cow_new(NULL, 16 * CLUSTER, CLUSTER, old);
    bdrv_ref(top);
    image = images_blk(top, true);
    ImageRebaseArgs args = {.image = image, .new_backing = new_blk, .backing_file = "new"};

    g_assert_cmpint(image_co_rebase(&args, &error_abort), ==, 0);
    g_assert_cmpint(test_cow_allocated_clusters(top), ==, 2);
    g_assert_true(test_cow_is_allocated(top, 3 * CLUSTER));
    g_assert_true(test_cow_is_allocated(top, 9 * CLUSTER));
    args.unsafe = true;
    args.backing_file = NULL;
    g_assert_cmpint(image_co_rebase(&args, &error_abort), ==, 0);
    g_assert_null(top->backing_file);
    g_assert_cmpint(test_cow_allocated_clusters(top), ==, 2);
    blk_co_unref(image);
    bdrv_co_unref(top);
    blk_co_unref(new_blk);
    bdrv_co_unref(new);
    bdrv_co_unref(old);
}

/* IR2 */
static void coroutine_fn a_rebase_that_fails_or_is_stopped_keeps_the_old_backing_file(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());

    for (unsigned i = 1; i < 20; i++) {
        ImagesWatch w = {.cancel_at = i % 2 ? i : 0};
        Error *err = NULL;
        Chain c;

        chain_new(&c, r);
        ImageRebaseArgs args = {.image = c.top_blk, .watch = images_watch(&w)};
        g_autofree uint8_t *want = images_co_read(c.top_blk);

        c.top->backing_file = g_strdup("mid");
        if (!w.cancel_at) {
            test_ram_set_error(c.base, TEST_RAM_READ | TEST_RAM_STATUS, 0, INT32_MAX, EIO, -1);
        }
        if (image_co_rebase(&args, &err) < 0) {
            error_free_or_abort(&err);
            g_assert_cmpstr(c.top->backing_file, ==, "mid");
        } else {
            g_assert_null(c.top->backing_file);
        }
        test_ram_set_error(c.base, 0, 0, 0, 0, 0);

        g_autofree uint8_t *got = images_co_read(c.top_blk);

        same_start(want, got, blk_getlength(c.top_blk));
        chain_free(&c);
    }
    g_rand_free(r);
}

static void coroutine_fn an_image_that_cannot_say_its_backing_file_is_refused(void)
{
    BlockBackend *image = images_blk(test_ram_new(NULL, CLUSTER), true);
    ImageRebaseArgs args = {.image = image, .backing_file = "x"};
    Error *err = NULL;

    g_assert_cmpint(image_co_rebase(&args, &err), ==, -ENOTSUP);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Could not change the backing file to 'x': Operation not supported");
    error_free_or_abort(&err);
    blk_co_unref(image);
}

static void add_tests(void)
{
    blk_init();
    block_test_add("/image/chain/a commit makes the base show what the top showed",
                   a_commit_makes_the_base_show_what_the_top_showed);
    block_test_add("/image/chain/a commit that fails or is stopped leaves the top as it was",
                   a_commit_that_fails_or_is_stopped_leaves_the_top_as_it_was);
    block_test_add("/image/chain/a base that is not below is refused",
                   a_base_that_is_not_below_is_refused);
    block_test_add("/image/chain/a rebase keeps what the image shows",
                   a_rebase_keeps_what_the_image_shows);
    block_test_add("/image/chain/a rebase copies only what differs",
                   a_rebase_copies_only_what_differs);
    block_test_add("/image/chain/a rebase that fails or is stopped keeps the old backing file",
                   a_rebase_that_fails_or_is_stopped_keeps_the_old_backing_file);
    block_test_add("/image/chain/an image that cannot say its backing file is refused",
                   an_image_that_cannot_say_its_backing_file_is_refused);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
