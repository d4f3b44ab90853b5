/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Quiesce: rules D1 to D5 of block/graph/drain.c. */
#include "aio/iothread.h"
#include "tests/unit/graph/toy.h"
#include "util/osdep.h"

#define CR  BLK_PERM_CONSISTENT_READ
#define ALL BLK_PERM_ALL

typedef struct Chain {
    BlockDriverState *top, *disk;
    BdrvChild *user;
} Chain;

static Chain chain_new(void)
{
    Chain c = {.top = toy_filter_new("top"), .disk = toy_new("disk")};

    bdrv_attach_child(c.top, c.disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    c.user = toy_user(c.top, CR, ALL, &error_abort);
    return c;
}

static void coroutine_fn chain_free(Chain *c)
{
    toy_co_user_free(c->user);
    bdrv_co_unref(c->top);
    bdrv_co_unref(c->disk);
}

static void coroutine_fn requests_above_are_waited_for(void)
{
    Chain c = chain_new();
    ToyDrain *d;

    bdrv_inc_in_flight(c.top); /* D1: a request of the parent may still come down */
    d = toy_co_drain_start(&c.disk, 1);
    block_test_co_settle();
    g_assert_false(toy_drain_begun(d));
    g_assert_cmpint(toy_user_drained(c.user), ==, 1);
    bdrv_dec_in_flight(c.top); /* D5 */
    block_test_co_settle();
    g_assert_true(toy_drain_begun(d));
    toy_co_drain_finish(d);
    g_assert_cmpint(toy_user_drained(c.user), ==, 0);
    chain_free(&c);
}

static void coroutine_fn requests_below_are_not_waited_for(void)
{
    Chain c = chain_new();
    ToyDrain *d;

    bdrv_inc_in_flight(c.disk); /* somebody else's */
    d = toy_co_drain_start(&c.top, 1);
    g_assert_true(toy_drain_begun(d)); /* D1 */
    g_assert_cmpint(c.disk->quiesce_counter, ==, 0);
    toy_co_drain_finish(d);
    bdrv_dec_in_flight(c.disk);
    chain_free(&c);
}

static void coroutine_fn users_that_still_send_are_waited_for(void)
{
    Chain c = chain_new();
    ToyDrain *d;

    toy_user_set_busy(c.user, true);
    d = toy_co_drain_start(&c.disk, 1);
    block_test_co_settle();
    g_assert_false(toy_drain_begun(d));
    toy_user_set_busy(c.user, false);
    block_test_co_settle();
    g_assert_true(toy_drain_begun(d));
    toy_co_drain_finish(d);
    chain_free(&c);
}

static void coroutine_fn sections_nest(void)
{
    Chain c = chain_new();

    bdrv_co_drained_begin(c.disk);
    bdrv_co_drained_begin(c.top);
    bdrv_co_drained_begin(c.disk);
    g_assert_cmpint(toy_user_drained(c.user), ==, 1); /* D3: told once */
    g_assert_cmpint(toy_of(c.top)->drained, ==, 1);
    bdrv_co_drained_end(c.disk);
    bdrv_co_drained_end(c.disk);
    g_assert_cmpint(toy_of(c.disk)->drained, ==,
                    1); /* D6: the top waits for what is in flight here */
    g_assert_cmpint(toy_user_drained(c.user), ==, 1);
    bdrv_co_drained_end(c.top);
    g_assert_cmpint(toy_of(c.disk)->drained, ==, 0);
    g_assert_cmpint(toy_user_drained(c.user), ==, 0);
    g_assert_cmpint(toy_of(c.top)->drained, ==, 0);
    chain_free(&c);
}

static void coroutine_fn edge_that_comes_is_quiesced_and_one_that_goes_is_not(void)
{
    Chain c = chain_new();
    BdrvChild *late;

    bdrv_co_drained_begin(c.disk);
    late = toy_user(c.disk, CR, ALL, &error_abort);
    g_assert_cmpint(toy_user_drained(late), ==, 1); /* D3 */
    bdrv_co_unref_child(c.top, c.top->file);
    g_assert_cmpint(c.top->quiesce_counter, ==, 0);
    g_assert_cmpint(toy_user_drained(c.user), ==, 0);
    bdrv_attach_child(c.top, c.disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    g_assert_cmpint(toy_user_drained(c.user), ==, 1);
    toy_co_user_free(late); /* checks that it was let go */
    bdrv_co_drained_end(c.disk);
    g_assert_cmpint(toy_user_drained(c.user), ==, 0);
    chain_free(&c);
}

/* D6 */
static void coroutine_fn a_node_is_waited_for_while_one_above_it_is_quiesced(void)
{
    BlockDriverState *other = toy_new("other");
    Chain c = chain_new();

    bdrv_co_drained_begin(c.top);
    bdrv_co_drained_begin(c.top);
    g_assert_cmpint(toy_of(c.disk)->drained, ==, 1); /* told once */
    g_assert_cmpint(c.disk->quiesce_counter, ==, 0);
    bdrv_co_unref_child(c.top, c.top->file);
    g_assert_cmpint(toy_of(c.disk)->drained, ==, 0);
    bdrv_attach_child(c.top, other, "file", BDRV_CHILD_FILTERED, &error_abort);
    g_assert_cmpint(toy_of(other)->drained, ==, 1);
    bdrv_co_unref_child(c.top, c.top->file);
    g_assert_cmpint(toy_of(other)->drained, ==, 0);
    bdrv_attach_child(c.top, c.disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_co_drained_end(c.top);
    g_assert_cmpint(toy_of(c.disk)->drained, ==, 1);
    bdrv_co_drained_end(c.top);
    g_assert_cmpint(toy_of(c.disk)->drained, ==, 0);
    bdrv_co_unref(other);
    chain_free(&c);
}

static void coroutine_fn refused_edge_leaves_its_parent_running(void)
{
    BlockDriverState *top = toy_filter_new("top"), *disk = toy_new("disk");
    BdrvChild *owner = toy_user(disk, CR, ALL & ~BLK_PERM_WRITE, &error_abort);
    BdrvChild *user = toy_user(top, BLK_PERM_WRITE, ALL, &error_abort);
    Error *err = NULL;

    bdrv_co_drained_begin(disk);
    g_assert_null(bdrv_attach_child(top, disk, "file", BDRV_CHILD_FILTERED, &err));
    toy_expect_error(&err, "Permission conflict");
    g_assert_cmpint(top->quiesce_counter, ==, 0);
    g_assert_null(top->file);
    g_assert_cmpint(disk->refcnt, ==, 3); /* ours, the user's, the section's */
    bdrv_co_drained_end(disk);
    toy_co_user_free(user);
    toy_co_user_free(owner);
    bdrv_co_unref(top);
    bdrv_co_unref(disk);
}

static void coroutine_fn several_are_quiesced_at_one_instant(void)
{
    Chain c = chain_new();
    BlockDriverState *other = toy_new("other"), *list[2] = {c.disk, other};
    ToyDrain *d;

    bdrv_inc_in_flight(other);
    bdrv_inc_in_flight(c.top);
    d = toy_co_drain_start(list, 2);
    bdrv_dec_in_flight(other);
    block_test_co_settle();
    g_assert_false(toy_drain_begun(d));
    bdrv_inc_in_flight(other); /* the first is busy again while the second ends */
    bdrv_dec_in_flight(c.top);
    block_test_co_settle();
    g_assert_false(toy_drain_begun(d));
    bdrv_dec_in_flight(other);
    block_test_co_settle();
    g_assert_true(toy_drain_begun(d));
    toy_co_drain_finish(d);
    bdrv_co_unref(other);
    chain_free(&c);
}

static void coroutine_fn node_stays_as_long_as_it_is_quiesced(void)
{
    BlockDriverState *bs = toy_new("disk");
    int closed = 0;
    ToyDrain *d;

    toy_of(bs)->ret_closed = &closed;
    bdrv_inc_in_flight(bs);
    d = toy_co_drain_start(&bs, 1);
    bdrv_co_unref(bs); /* the last user goes while another waits */
    block_test_co_settle();
    g_assert_cmpint(closed, ==, 0);
    g_assert_false(toy_drain_begun(d));
    bdrv_dec_in_flight(bs);
    block_test_co_settle();
    g_assert_true(toy_drain_begun(d));
    toy_co_drain_finish(d);
    block_test_co_settle();
    g_assert_cmpint(closed, ==, 1);
}

/* D5 with requests that end in another thread. */
#define ROUNDS 2000

static void end_request(void *opaque)
{
    bdrv_dec_in_flight(opaque);
}

static void coroutine_fn no_wake_from_another_thread_is_lost(void)
{
    IOThread *thread = iothread_create("t0", AIO_ENGINE_AUTO, &error_abort);
    BlockDriverState *bs = toy_new("disk");

    for (int i = 0; i < ROUNDS; i++) {
        bdrv_inc_in_flight(bs);
        aio_bh_schedule_oneshot(iothread_get_aio_context(thread), end_request, bs);
        bdrv_co_drained_begin(bs);
        g_assert_cmpuint(bs->in_flight, ==, 0);
        bdrv_co_drained_end(bs);
    }
    bdrv_co_unref(bs);
    iothread_destroy(thread);
}

static void add(void)
{
    block_test_add("/graph/drain/requests of the nodes above are waited for",
                   requests_above_are_waited_for);
    block_test_add("/graph/drain/requests of the nodes below are not waited for",
                   requests_below_are_not_waited_for);
    block_test_add("/graph/drain/a user that still sends is waited for",
                   users_that_still_send_are_waited_for);
    block_test_add("/graph/drain/sections nest and a user is told once", sections_nest);
    block_test_add("/graph/drain/an edge that comes is quiesced, one that goes is let go",
                   edge_that_comes_is_quiesced_and_one_that_goes_is_not);
    block_test_add("/graph/drain/a node is waited for while one above it is quiesced",
                   a_node_is_waited_for_while_one_above_it_is_quiesced);
    block_test_add("/graph/drain/a refused edge leaves its parent running",
                   refused_edge_leaves_its_parent_running);
    block_test_add("/graph/drain/several nodes are quiesced at one instant",
                   several_are_quiesced_at_one_instant);
    block_test_add("/graph/drain/a node stays as long as somebody quiesces it",
                   node_stays_as_long_as_it_is_quiesced);
    block_test_add("/graph/drain/no wake from another thread is lost",
                   no_wake_from_another_thread_is_lost);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
