/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes: names, references, length, limits, what hangs on them. */
#include <errno.h>
#include "tests/unit/graph/toy.h"
#include "util/osdep.h"

#define CR  BLK_PERM_CONSISTENT_READ
#define ALL BLK_PERM_ALL

static void coroutine_fn names_are_checked(void)
{
    static const char *const bad[] = {"", "#x", "1a", "a b", "a234567890123456789012345678901x"};
    BlockDriverState *bs = toy_new("disk"), *anonymous = toy_new(NULL);
    Error *err = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        g_assert_null(bdrv_new(bs->drv, bad[i], &err));
        g_assert_nonnull(err);
        error_free(err);
        err = NULL;
    }
    g_assert_null(bdrv_new(bs->drv, "disk", &err));
    toy_expect_error(&err, "Duplicate nodes with node-name='disk'");
    g_assert_true(g_str_has_prefix(anonymous->node_name, "#block"));
    g_assert_true(bdrv_find_node(anonymous->node_name) == anonymous);
    bdrv_co_unref(anonymous);
    bdrv_co_unref(bs);
    g_assert_null(bdrv_find_node("disk"));
}

static void coroutine_fn edge_keeps_its_node(void)
{
    BlockDriverState *top = toy_filter_new("top"), *disk = toy_new("disk");
    int closed = 0;

    toy_of(disk)->ret_closed = &closed;
    bdrv_attach_child(top, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_co_unref(disk);
    g_assert_cmpint(closed, ==, 0); /* G1 */
    bdrv_co_unref(top);
    g_assert_cmpint(closed, ==, 1);
}

static void coroutine_fn unref_entry(void *opaque)
{
    bdrv_co_unref(opaque);
}

static void coroutine_fn closing_node_is_not_found(void)
{
    BlockDriverState *bs = toy_new("disk"), *next;

    toy_of(bs)->hold_close = true;
    qemu_coroutine_enter(qemu_coroutine_create(unref_entry, bs));
    g_assert_null(bdrv_find_node("disk")); /* whoever found it would hold freed memory */
    next = toy_new("disk");
    toy_release_close(bs);
    block_test_co_settle();
    g_assert_true(bdrv_find_node("disk") == next);
    bdrv_co_unref(next);
}

static void coroutine_fn length_goes_up_through_nodes_without_their_own(void)
{
    BlockDriverState *top = toy_filter_new("top"), *disk = toy_new("disk");
    BdrvChild *user;

    disk->total_bytes = 1000;
    bdrv_attach_child(top, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    g_assert_cmpint(bdrv_co_refresh_total(top), ==, 0);
    g_assert_cmpint(bdrv_getlength(top), ==, 1000);
    user = toy_user(top, CR, ALL, &error_abort);
    bdrv_notify_resized(disk, 2000);
    g_assert_cmpint(bdrv_getlength(top), ==, 2000);
    g_assert_cmpint(toy_user_resized(user), ==, 1);
    bdrv_notify_resized(disk, 2000); /* no change, no word */
    g_assert_cmpint(toy_user_resized(user), ==, 1);
    toy_co_user_free(user);
    bdrv_co_unref(top);
    bdrv_co_unref(disk);
}

static void coroutine_fn limits_come_from_below(void)
{
    BlockDriverState *top = toy_filter_new("top"), *a = toy_new("a"), *b = toy_new("b");

    toy_of(a)->max_transfer = 65536;
    bdrv_refresh_limits(a);
    bdrv_attach_child(top, a, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(top, b, "other", BDRV_CHILD_DATA, &error_abort);
    bdrv_refresh_limits(top);
    g_assert_cmpint(top->bl.max_transfer, ==, 65536); /* b has none */
    g_assert_cmpuint(top->bl.request_alignment, ==, 1);
    bdrv_co_unref(top);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
}

static void coroutine_fn blocked_operation_says_why(void)
{
    BlockDriverState *bs = toy_new("disk");
    BdrvOpBlocker *blocker = bdrv_op_block(bs, 1u << BLOCK_OP_TYPE_RESIZE,
                                           "block device is in use by block job: backup");
    Error *err = NULL;

    g_assert_true(bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_RESIZE, &err));
    toy_expect_error(&err, "Node 'disk' is busy: block device is in use by block job: backup");
    g_assert_false(bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_DELETE, NULL));
    bdrv_op_unblock(blocker);
    g_assert_false(bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_RESIZE, NULL));
    bdrv_op_block(bs, ~0u, "left behind"); /* freed with the node */
    bdrv_co_unref(bs);
}

static void coroutine_fn chain_is_walked_through_filters(void)
{
    BlockDriverState *filter = toy_filter_new("filter"), *top = toy_new("top");
    BlockDriverState *base = toy_new("base");

    bdrv_attach_child(filter, top, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(top, base, "backing", BDRV_CHILD_COW, &error_abort);
    g_assert_true(bdrv_skip_filters(filter) == top);
    g_assert_true(bdrv_backing_chain_next(filter) == base);
    g_assert_null(bdrv_backing_chain_next(base));
    g_assert_true(bdrv_chain_contains(filter, base));
    g_assert_false(bdrv_chain_contains(base, filter));
    bdrv_co_unref(filter);
    bdrv_co_unref(top);
    bdrv_co_unref(base);
}

static void add(void)
{
    block_test_add("/graph/node/names are checked and made up", names_are_checked);
    block_test_add("/graph/node/an edge keeps its node", edge_keeps_its_node);
    block_test_add("/graph/node/a node that is being closed is not found any more",
                   closing_node_is_not_found);
    block_test_add("/graph/node/a length goes up through nodes that have none of their own",
                   length_goes_up_through_nodes_without_their_own);
    block_test_add("/graph/node/limits come from below", limits_come_from_below);
    block_test_add("/graph/node/a blocked operation says why", blocked_operation_says_why);
    block_test_add("/graph/node/a backing chain is walked through filters",
                   chain_is_walked_through_filters);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
