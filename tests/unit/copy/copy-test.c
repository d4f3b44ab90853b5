/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The copy of one run: rules C1 to C3 of block/copy/copy.c. */
#include <errno.h>
#include "block/copy/copy.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CLUSTER (64 * KiB)
#define CR      BLK_PERM_CONSISTENT_READ
#define WR      BLK_PERM_WRITE

typedef struct Pair {
    BlockDriverState *source, *target;
    BlockCopy copy;
    uint8_t *buf;
} Pair;

/* Takes the caller's references on both. */
static Pair pair_of(BlockDriverState *source, BlockDriverState *target)
{
    Pair p = {.source = source, .target = target};

    p.copy.source = block_test_user(source, CR);
    p.copy.target = block_test_user(target, CR | WR);
    p.copy.cluster_bytes = CLUSTER;
    p.copy.length = bdrv_getlength(source);
    p.buf = qemu_blockalign(source, 16 * CLUSTER);
    return p;
}

static Pair pair_new(int64_t length)
{
    return pair_of(test_ram_new("source", length), test_ram_new("target", length));
}

static void coroutine_fn pair_free(Pair *p)
{
    block_test_co_user_free(p->copy.source);
    block_test_co_user_free(p->copy.target);
    bdrv_co_unref(p->target);
    bdrv_co_unref(p->source);
    qemu_vfree(p->buf);
}

static int coroutine_fn run(Pair *p, int64_t offset, int64_t bytes)
{
    bool is_read;

    return block_copy_run(&p->copy, offset, bytes, p->buf, &is_read);
}

static void same(Pair *p, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *a = g_malloc(bytes), *b = g_malloc(bytes);

    test_ram_peek(p->source, offset, a, bytes);
    test_ram_peek(p->target, offset, b, bytes);
    g_assert_cmpmem(a, bytes, b, bytes);
}

static void coroutine_fn random_runs_make_the_target_equal(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());
    Pair p = pair_new(16 * CLUSTER - 1000); /* ends inside a cluster */

    for (int i = 0; i < 200; i++) {
        int64_t length = p.copy.length;
        int64_t offset = g_rand_int_range(r, 0, length);
        int64_t bytes = g_rand_int_range(r, 1, length - offset + 1);

        if (g_rand_boolean(r)) {
            test_ram_poke_pattern(p.source, offset, bytes, i + 1);
        } else {
            memset(p.buf, 0, bytes);
            test_ram_poke(p.source, offset, p.buf, bytes);
        }
        if (i % 20 == 0) { /* what the target held before counts for nothing */
            test_ram_poke_pattern(p.target, 0, length, i + 1000);
            offset = 0;
            bytes = length;
        }
        g_assert_cmpint(run(&p, offset, bytes), ==, 0);
        same(&p, offset, bytes);
    }
    pair_free(&p);
    g_rand_free(r);
}

static void coroutine_fn zeros_are_not_written_as_data(void)
{
    Pair p = pair_new(8 * CLUSTER);

    test_ram_poke_pattern(p.source, 2 * CLUSTER, CLUSTER, 1);
    test_ram_poke_pattern(p.source, 5 * CLUSTER, 2 * CLUSTER, 2);
    test_ram_poke_pattern(p.target, 3 * CLUSTER, CLUSTER, 3);
    g_assert_cmpint(run(&p, 0, 8 * CLUSTER), ==, 0);
    same(&p, 0, 8 * CLUSTER);
    g_assert_cmpuint(test_ram_counts(p.target)->bytes_written, ==, 3 * CLUSTER);
    g_assert_cmpuint(test_ram_counts(p.target)->writes, ==, 2); /* neighbours go together */
    g_assert_cmpuint(test_ram_counts(p.target)->zeroes, ==, 1); /* only where there was data */
    g_assert_cmpint(test_ram_allocated(p.target), ==, 3 * CLUSTER);
    pair_free(&p);
}

static void coroutine_fn one_byte_makes_its_cluster_data(void)
{
    Pair p = pair_new(4 * CLUSTER);

    test_ram_poke(p.source, 2 * CLUSTER - 1, "x", 1);
    g_assert_cmpint(run(&p, 1000, 3 * CLUSTER), ==, 0); /* begins and ends inside clusters */
    same(&p, 1000, 3 * CLUSTER);
    g_assert_cmpuint(test_ram_counts(p.target)->bytes_written, ==, CLUSTER);
    g_assert_cmpint(test_ram_allocated(p.target), ==, CLUSTER); /* the one from 64 KiB on */
    pair_free(&p);
}

/* C2: the zeros of the overlay's backing file are the source's, which is about to change. */
static void coroutine_fn zeros_seen_through_a_backing_file_do_not_count(void)
{
    BlockDriverState *source = test_ram_new("source", 4 * CLUSTER);
    Pair p = pair_of(source, test_cow_new("target", 4 * CLUSTER, CLUSTER, source));

    g_assert_cmpint(run(&p, CLUSTER, CLUSTER), ==, 0);
    g_assert_true(test_cow_is_allocated(p.target, CLUSTER));
    g_assert_false(test_cow_is_allocated(p.target, 0));
    test_ram_poke_pattern(source, 0, 4 * CLUSTER, 1);
    block_test_co_expect(p.copy.target, CLUSTER, CLUSTER, 0);
    pair_free(&p);
}

static void coroutine_fn own_zeros_of_an_overlay_are_left_alone(void)
{
    BlockDriverState *source = test_ram_new("source", 4 * CLUSTER);
    Pair p = pair_of(source, test_cow_new("target", 4 * CLUSTER, CLUSTER, NULL));
    int64_t pnum;

    g_assert_cmpint(block_copy_own_zeroes(p.target, 0, 4 * CLUSTER, &pnum), ==, 1);
    g_assert_cmpint(pnum, ==, 4 * CLUSTER);
    g_assert_cmpint(run(&p, 0, 4 * CLUSTER), ==, 0);
    g_assert_cmpint(test_cow_allocated_clusters(p.target), ==, 0);
    pair_free(&p);
}

static void coroutine_fn target_that_cannot_tell_is_written(void)
{
    Pair p = pair_new(4 * CLUSTER);

    test_ram_poke_pattern(p.target, 0, 4 * CLUSTER, 1);
    test_ram_set_error(p.target, TEST_RAM_STATUS, 0, 4 * CLUSTER, EIO, -1);
    g_assert_cmpint(run(&p, 0, 4 * CLUSTER), ==, 0);
    same(&p, 0, 4 * CLUSTER);
    pair_free(&p);
}

static void coroutine_fn error_says_which_side_failed(void)
{
    Pair p = pair_new(4 * CLUSTER);
    bool is_read = false;

    test_ram_poke_pattern(p.source, 0, 4 * CLUSTER, 1);
    test_ram_set_error(p.source, TEST_RAM_READ, CLUSTER, 1, EIO, 1);
    g_assert_cmpint(block_copy_run(&p.copy, 0, 4 * CLUSTER, p.buf, &is_read), ==, -EIO);
    g_assert_true(is_read);
    test_ram_set_error(p.target, TEST_RAM_WRITE, CLUSTER, 1, ENOSPC, 1);
    g_assert_cmpint(block_copy_run(&p.copy, 0, 4 * CLUSTER, p.buf, &is_read), ==, -ENOSPC);
    g_assert_false(is_read);
    memset(p.buf, 0, CLUSTER);
    test_ram_poke(p.source, 0, p.buf, CLUSTER);
    test_ram_poke_pattern(p.target, 0, CLUSTER, 2);
    test_ram_set_error(p.target, TEST_RAM_ZERO, 0, 1, EIO, 1);
    g_assert_cmpint(block_copy_run(&p.copy, 0, CLUSTER, p.buf, &is_read), ==, -EIO);
    g_assert_false(is_read);
    pair_free(&p);
}

/* C1: a backup copies inside the guest's serialising write, which it would otherwise wait for. */
static void coroutine_fn run_does_not_wait_for_serialising_requests(void)
{
    Pair p = pair_new(4 * CLUSTER);
    BdrvChild *guest;
    BlockTestRequest *held;

    test_ram_set_alignment(p.source, 4096);
    guest = block_test_user(p.source, CR | WR);
    test_ram_poke_pattern(p.source, 0, 4 * CLUSTER, 1);
    test_ram_hold(p.source, TEST_RAM_WRITE, 0, CLUSTER);
    held = block_test_co_start(guest, BLOCK_TEST_WRITE, 1000, 10, 7); /* padded: serialising */
    test_ram_co_wait_held(p.source, 1);
    g_assert_cmpint(run(&p, 0, CLUSTER), ==, 0);
    same(&p, 0, CLUSTER);
    test_ram_release(p.source);
    g_assert_cmpint(block_test_co_join(held), ==, 0);
    block_test_co_user_free(guest);
    pair_free(&p);
}

/* Over from the so-many-th time on that it is asked; what the target had been sent by then. */
typedef struct Over {
    BlockDriverState *target;
    unsigned asked, from;
    uint64_t sent;
} Over;

static uint64_t sent_to(BlockDriverState *bs)
{
    const TestRamCounts *c = test_ram_counts(bs);

    return c->writes + c->zeroes + c->statuses;
}

static bool is_over(void *opaque)
{
    Over *o = opaque;

    if (++o->asked == o->from) {
        o->sent = sent_to(o->target);
    }
    return o->asked >= o->from;
}

/* C3: wherever a copy ends, also between a target that cannot tell and the zeros it is sent then. */
static void coroutine_fn nothing_is_sent_once_it_is_over(void)
{
    Over o = {0};
    int ret = -ECANCELED;

    for (unsigned from = 1; ret < 0; from++) {
        Pair p = pair_new(8 * CLUSTER);

        test_ram_poke_pattern(p.source, 2 * CLUSTER, CLUSTER, 1);
        test_ram_poke_pattern(p.source, 5 * CLUSTER, 2 * CLUSTER, 2);
        test_ram_set_error(p.target, TEST_RAM_STATUS, 0, 8 * CLUSTER, ECANCELED, -1);
        o = (Over){.target = p.target, .from = from};
        p.copy.is_over = is_over;
        p.copy.opaque = &o;
        ret = run(&p, 0, 8 * CLUSTER);
        if (ret < 0) {
            g_assert_cmpint(ret, ==, -ECANCELED);
            g_assert_cmpuint(sent_to(p.target), ==, o.sent);
        } else {
            same(&p, 0, 8 * CLUSTER);
        }
        pair_free(&p);
    }
    g_assert_cmpuint(o.from, >, 8); /* it was asked often enough */
}

static void add(void)
{
    block_test_add("/copy/copy/random runs make the target equal",
                   random_runs_make_the_target_equal);
    block_test_add("/copy/copy/zeros are not written as data", zeros_are_not_written_as_data);
    block_test_add("/copy/copy/one byte makes its cluster data", one_byte_makes_its_cluster_data);
    block_test_add("/copy/copy/zeros seen through a backing file do not count",
                   zeros_seen_through_a_backing_file_do_not_count);
    block_test_add("/copy/copy/what an overlay holds as zeros itself is left alone",
                   own_zeros_of_an_overlay_are_left_alone);
    block_test_add("/copy/copy/a target that cannot tell is written",
                   target_that_cannot_tell_is_written);
    block_test_add("/copy/copy/an error says which side failed", error_says_which_side_failed);
    block_test_add("/copy/copy/a run does not wait for serialising requests",
                   run_does_not_wait_for_serialising_requests);
    block_test_add("/copy/copy/nothing is sent to the target once it is over",
                   nothing_is_sent_once_it_is_over);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
