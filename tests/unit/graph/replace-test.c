/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Replacing a node under its users, and a backing file under its overlay. */
#include <errno.h>
#include "aio/iothread.h"
#include "tests/unit/graph/toy.h"
#include "util/osdep.h"

#define CR  BLK_PERM_CONSISTENT_READ
#define WR  BLK_PERM_WRITE
#define ALL BLK_PERM_ALL

static void coroutine_fn users_go_to_the_new_node(void)
{
    BlockDriverState *from = toy_new("from"), *to = toy_new("to"), *above = toy_filter_new("above");
    BdrvChild *user = toy_user(from, CR, ALL, &error_abort);

    bdrv_attach_child(above, from, "file", BDRV_CHILD_FILTERED, &error_abort);
    g_assert_cmpint(bdrv_co_replace_node(from, to, &error_abort), ==, 0);
    g_assert_true(user->bs == to);
    g_assert_true(above->file->bs == to);
    g_assert_cmpuint(toy_of(to)->perm, ==, CR);
    g_assert_cmpuint(toy_of(from)->perm, ==, 0);
    g_assert_cmpint(from->refcnt, ==, 1); /* G1 */
    g_assert_cmpint(to->refcnt, ==, 3);
    g_assert_cmpint(toy_user_drained(user), ==, 0);
    g_assert_cmpint(above->quiesce_counter, ==, 0);
    toy_co_user_free(user);
    bdrv_co_unref(above);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
}

static void coroutine_fn filter_put_above_keeps_its_own_edge(void)
{
    BlockDriverState *disk = toy_new("disk"), *filter = toy_filter_new("filter");
    BdrvChild *user = toy_user(disk, CR, ALL, &error_abort);

    bdrv_attach_child(filter, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    g_assert_cmpint(bdrv_co_replace_node(disk, filter, &error_abort), ==, 0);
    g_assert_true(user->bs == filter);
    g_assert_true(filter->file->bs == disk);
    g_assert_cmpuint(filter->file->perm, ==, CR);
    g_assert_cmpint(bdrv_co_replace_node(filter, disk, &error_abort), ==, 0);
    g_assert_true(user->bs == disk);
    toy_co_user_free(user);
    bdrv_co_unref(filter);
    bdrv_co_unref(disk);
}

static void coroutine_fn refused_replacement_changes_nothing(void)
{
    BlockDriverState *from = toy_new("from"), *to = toy_new("to");
    BdrvChild *a = toy_user(from, CR | WR, ALL & ~WR, &error_abort);
    BdrvChild *b = toy_user(from, CR, ALL, &error_abort);
    BdrvChild *owner = toy_user(to, CR | WR, ALL & ~WR, &error_abort);
    Error *err = NULL;

    g_assert_cmpint(bdrv_co_replace_node(from, to, &err), ==, -EPERM);
    toy_expect_error(&err, "Permission conflict on node 'to'");
    g_assert_true(a->bs == from && b->bs == from && owner->bs == to);
    g_assert_cmpint(from->refcnt, ==, 3);
    g_assert_cmpint(to->refcnt, ==, 2);
    g_assert_cmpuint(a->perm, ==, CR | WR);
    g_assert_cmpuint(toy_of(from)->perm, ==, CR | WR);
    g_assert_cmpint(toy_user_drained(a) + toy_user_drained(b) + toy_user_drained(owner), ==, 0);
    toy_co_user_free(a);
    toy_co_user_free(b);
    toy_co_user_free(owner);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
}

static void coroutine_fn replacement_refused_by_both_drivers_is_taken_back(void)
{
    BlockDriverState *from = toy_new("from"), *to = toy_new("to");
    BdrvChild *user = toy_user(from, CR | WR, ALL, &error_abort);
    Error *err = NULL;

    toy_of(from)->refuse = true; /* and so does the way back */
    toy_of(to)->refuse = true;
    g_assert_cmpint(bdrv_co_replace_node(from, to, &err), ==, -EACCES);
    toy_expect_error(&err, "refuses");
    g_assert_true(user->bs == from);
    g_assert_cmpuint(user->perm, ==, CR | WR);
    g_assert_cmpuint(toy_of(from)->perm, ==, CR | WR);
    toy_co_user_free(user);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
}

static void coroutine_fn replacement_waits_for_requests(void)
{
    BlockDriverState *from = toy_new("from"), *to = toy_new("to"), *above = toy_filter_new("above");

    bdrv_attach_child(above, from, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_inc_in_flight(above);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), (void (*)(void *))bdrv_dec_in_flight, above);
    g_assert_cmpint(bdrv_co_replace_node(from, to, &error_abort), ==, 0);
    g_assert_cmpuint(above->in_flight, ==, 0); /* D4 */
    bdrv_co_unref(above);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
}

static void coroutine_fn users_above_learn_of_length_and_limits(void)
{
    BlockDriverState *from = toy_new("from"), *to = toy_new("to"), *above = toy_filter_new("above");
    BlockDriverState *top = toy_filter_new("top");
    BdrvChild *user;

    from->total_bytes = 4096;
    to->total_bytes = 8192;
    toy_of(to)->max_transfer = 65536;
    bdrv_refresh_limits(to);
    bdrv_attach_child(above, from, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(top, above, "file", BDRV_CHILD_FILTERED, &error_abort);
    top->total_bytes = above->total_bytes = 4096;
    user = toy_user(top, CR, ALL, &error_abort);
    g_assert_cmpint(bdrv_co_replace_node(from, to, &error_abort), ==, 0);
    g_assert_cmpint(top->total_bytes, ==, 8192);
    g_assert_cmpint(toy_user_resized(user), ==, 1);
    g_assert_cmpint(above->bl.max_transfer, ==, 65536);
    g_assert_cmpint(top->bl.max_transfer, ==, 65536);
    toy_co_user_free(user);
    bdrv_co_unref(top);
    bdrv_co_unref(above);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
}

static void coroutine_fn flush_after_a_replacement_is_not_skipped(void)
{
    BlockDriverState *from = toy_new("from"), *to = toy_new("to"), *above = toy_filter_new("above");

    bdrv_attach_child(above, from, "file", BDRV_CHILD_FILTERED, &error_abort);
    above->flushed_gen = above->write_gen; /* clean, as far as "from" is concerned */
    g_assert_cmpint(bdrv_co_replace_node(from, to, &error_abort), ==, 0);
    g_assert_cmpuint(above->flushed_gen, !=, above->write_gen); /* H4: "to" was never flushed */
    bdrv_co_unref(above);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
}

static void coroutine_fn backing_file_is_set_replaced_and_removed(void)
{
    BlockDriverState *top = toy_new("top"), *a = toy_new("a"), *b = toy_new("b");

    g_assert_cmpint(bdrv_co_set_backing_hd(top, a, &error_abort), ==, 0);
    g_assert_true(top->backing->bs == a);
    g_assert_cmpint(bdrv_co_set_backing_hd(top, b, &error_abort), ==, 0);
    g_assert_true(top->backing->bs == b);
    g_assert_cmpint(a->refcnt, ==, 1);
    g_assert_cmpint(bdrv_co_set_backing_hd(top, NULL, &error_abort), ==, 0);
    g_assert_null(top->backing);
    g_assert_cmpint(b->refcnt, ==, 1);
    bdrv_co_unref(top);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
}

static void coroutine_fn refused_backing_file_leaves_the_old_one(void)
{
    BlockDriverState *top = toy_new("top"), *a = toy_new("a"), *b = toy_new("b");
    BdrvChild *user = toy_user(top, CR, ALL & ~WR, &error_abort);
    BdrvChild *writer = toy_user(b, CR | WR, ALL, &error_abort);
    Error *err = NULL;

    bdrv_co_set_backing_hd(top, a, &error_abort);
    g_assert_cmpint(bdrv_co_set_backing_hd(top, b, &err), <, 0);
    toy_expect_error(&err, "Permission conflict on node 'b'");
    g_assert_nonnull(top->backing);
    g_assert_true(top->backing->bs == a);
    g_assert_cmpint(top->quiesce_counter, ==, 0);
    toy_co_user_free(writer);
    toy_co_user_free(user);
    bdrv_co_unref(top);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
}

static void coroutine_fn circle_is_refused(void)
{
    BlockDriverState *top = toy_new("top"), *mid = toy_new("mid"), *disk = toy_new("disk");
    Error *err = NULL;

    /* Through an edge that is neither filter nor backing. */
    bdrv_attach_child(top, mid, "file", BDRV_CHILD_DATA, &error_abort);
    bdrv_attach_child(mid, disk, "file", BDRV_CHILD_DATA, &error_abort);
    g_assert_cmpint(bdrv_co_set_backing_hd(disk, top, &err), <, 0);
    toy_expect_error(&err, "would create a cycle");
    g_assert_null(disk->backing);
    g_assert_cmpint(bdrv_co_set_backing_hd(disk, disk, &err), <, 0);
    toy_expect_error(&err, "would create a cycle");
    bdrv_co_unref(top);
    bdrv_co_unref(mid);
    bdrv_co_unref(disk);
}

static void coroutine_fn backing_file_from_another_iothread_comes_along(void)
{
    IOThread *thread = iothread_create("t0", AIO_ENGINE_AUTO, &error_abort);
    AioContext *ctx = iothread_get_aio_context(thread);
    BlockDriverState *top = toy_new("top"), *a = toy_new("a"), *b = toy_new("b"), *c = toy_new("c");
    BdrvChild *user;
    Error *err = NULL;

    bdrv_co_set_backing_hd(top, a, &error_abort);
    bdrv_co_set_backing_hd(b, c, &error_abort);
    bdrv_co_try_change_aio_context(top, ctx, &error_abort);
    user = toy_user(c, CR, ALL, &error_abort);
    toy_user_stay(user, "the user of c stays at home");
    g_assert_cmpint(bdrv_co_set_backing_hd(top, b, &err), <, 0);
    toy_expect_error(&err, "the user of c stays at home");
    g_assert_true(top->backing->bs == a);
    toy_user_stay(user, NULL);
    g_assert_cmpint(bdrv_co_set_backing_hd(top, b, &error_abort), ==, 0);
    g_assert_true(b->aio_context == ctx && c->aio_context == ctx);
    toy_co_user_free(user);
    bdrv_co_try_change_aio_context(top, qemu_get_aio_context(), &error_abort);
    g_assert_true(a->aio_context == ctx); /* no longer in the tree */
    bdrv_co_try_change_aio_context(a, qemu_get_aio_context(), &error_abort);
    bdrv_co_unref(top);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
    bdrv_co_unref(c);
    iothread_destroy(thread);
}

static void add(void)
{
    block_test_add("/graph/replace/users go to the new node with their permissions",
                   users_go_to_the_new_node);
    block_test_add("/graph/replace/a filter put above a node keeps its own edge to it",
                   filter_put_above_keeps_its_own_edge);
    block_test_add("/graph/replace/a refused replacement changes nothing",
                   refused_replacement_changes_nothing);
    block_test_add("/graph/replace/a replacement is taken back also when drivers refuse",
                   replacement_refused_by_both_drivers_is_taken_back);
    block_test_add("/graph/replace/a replacement waits for requests",
                   replacement_waits_for_requests);
    block_test_add("/graph/replace/users above learn of the new length and limits",
                   users_above_learn_of_length_and_limits);
    block_test_add("/graph/replace/a flush after a replacement reaches the new node",
                   flush_after_a_replacement_is_not_skipped);
    block_test_add("/graph/replace/a backing file is set, replaced and removed",
                   backing_file_is_set_replaced_and_removed);
    block_test_add("/graph/replace/a refused backing file leaves the old one in place",
                   refused_backing_file_leaves_the_old_one);
    block_test_add("/graph/replace/a circle is refused, whatever edges it goes through",
                   circle_is_refused);
    block_test_add("/graph/replace/a backing file of another iothread comes along or is refused",
                   backing_file_from_another_iothread_comes_along);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
