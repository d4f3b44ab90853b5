/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From options to a graph: rules O1 and O2 of block/open/open.c, and nodes that the monitor owns. */
#include <errno.h>
#include "aio/iothread.h"
#include "block/open/open.h"
#include "tests/unit/open/toy.h"
#include "util/osdep.h"

static void coroutine_fn children_are_made_or_found(void)
{
    BlockDriverState *leaf = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"leaf\"}");
    BlockDriverState *a =
        block_test_co_open("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"leaf\"}");
    BlockDriverState *b = block_test_co_open(
        "{\"driver\":\"raw\",\"node-name\":\"b\",\"file\":{\"driver\":\"raw\",\"node-name\":\"c\","
        "\"file\":{\"driver\":\"null-co\"}}}");

    g_assert_true(a->file->bs == leaf);
    g_assert_cmpint(leaf->refcnt, ==, 2);
    g_assert_cmpstr(b->file->bs->node_name, ==, "c");
    g_assert_true(g_str_has_prefix(b->file->bs->file->bs->node_name, "#block"));
    g_assert_cmpint(bdrv_getlength(b), ==, 1 * MiB);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
    bdrv_co_unref(leaf);
    g_assert_cmpuint(toy_count_nodes(), ==, 0);
}

static void coroutine_fn failed_open_leaves_nothing(void)
{
    BlockDriverState *leaf = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"leaf\"}");
    unsigned before = toy_closed();

    block_test_co_open_fails("toy refuses to open",
                             "{\"driver\":\"raw\",\"file\":{\"driver\":\"raw\",\"file\":"
                             "{\"driver\":\"null-co\",\"latency-ns\":%d}}}",
                             TOY_REFUSE_OPEN);
    g_assert_cmpuint(toy_closed(), ==, before); /* what did not open is not closed */
    block_test_co_open_fails("takes no offset",
                             "{\"driver\":\"raw\",\"offset\":1,\"file\":{\"driver\":\"null-co\"}}");
    g_assert_cmpuint(toy_closed(), ==, before + 1); /* the child had opened */
    block_test_co_open_fails("takes no offset",
                             "{\"driver\":\"raw\",\"offset\":1,\"file\":\"leaf\"}");
    g_assert_cmpint(leaf->refcnt, ==, 1); /* O1 */
    g_assert_true(QLIST_EMPTY(&leaf->parents));
    g_assert_cmpuint(toy_count_nodes(), ==, 1);
    block_test_co_open_fails("nothere", "{\"driver\":\"raw\",\"file\":\"nothere\"}");
    block_test_co_open_fails("Duplicate nodes with node-name='leaf'",
                             "{\"driver\":\"null-co\",\"node-name\":\"leaf\"}");
    block_test_co_open_fails(
        "Unknown driver 'throttle'",
        "{\"driver\":\"throttle\",\"throttle-group\":\"g\",\"file\":\"leaf\"}");
    bdrv_co_unref(leaf);
}

static void coroutine_fn definition_takes_over_from_its_parent(void)
{
    BlockDriverState *bs =
        block_test_co_open("{\"driver\":\"raw\",\"read-only\":true,\"force-share\":true,\"cache\":{"
                           "\"direct\":true,\"no-flush\":true},"
                           "\"file\":{\"driver\":\"null-co\"}}");
    BlockDriverState *file = bs->file->bs;

    g_assert_true(file->read_only && file->force_share);
    g_assert_cmpint(file->open_flags & (BDRV_O_NOCACHE | BDRV_O_NO_FLUSH | BDRV_O_RDWR), ==,
                    BDRV_O_NOCACHE | BDRV_O_NO_FLUSH);
    g_assert_true(file->open_flags & BDRV_O_UNMAP);
    g_assert_false(bs->open_flags & BDRV_O_UNMAP);
    bdrv_co_unref(bs);
    bs = block_test_co_open(
        "{\"driver\":\"raw\",\"read-only\":true,\"cache\":{\"direct\":true},"
        "\"file\":{\"driver\":\"null-co\",\"read-only\":false,\"discard\":\"ignore\","
        "\"cache\":{\"direct\":false}}}");
    file = bs->file->bs;
    g_assert_false(file->read_only); /* its own word counts */
    g_assert_cmpint(file->open_flags & (BDRV_O_NOCACHE | BDRV_O_UNMAP), ==, 0);
    bdrv_co_unref(bs);
}

static void coroutine_fn options_that_contradict_are_refused(void)
{
    block_test_co_open_fails("force-share=on can only be used with read-only images",
                             "{\"driver\":\"null-co\",\"force-share\":true}");
    block_test_co_open_fails("detect-zeroes to unmap is not allowed",
                             "{\"driver\":\"null-co\",\"detect-zeroes\":\"unmap\"}");
    bdrv_co_unref(block_test_co_open("{\"driver\":\"null-co\",\"detect-zeroes\":\"unmap\","
                                     "\"discard\":\"unmap\"}"));
}

static void coroutine_fn children_from_two_iothreads_come_together(void)
{
    IOThread *thread = iothread_create("t0", AIO_ENGINE_AUTO, &error_abort);
    AioContext *ctx = iothread_get_aio_context(thread);
    BlockDriverState *first =
        block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"first\"}");
    BlockDriverState *second = block_test_co_open(
        "{\"driver\":\"raw\",\"node-name\":\"second\",\"file\":{\"driver\":\"null-co\"}}");
    BlockDriverState *bs;

    bdrv_co_try_change_aio_context(first, ctx, &error_abort);
    bs =
        block_test_co_open("{\"driver\":\"raw\",\"size\":%d,\"file\":\"first\"}", TOY_TWO_CHILDREN);
    g_assert_true(bs->aio_context == ctx && second->aio_context == ctx);
    g_assert_true(second->file->bs->aio_context == ctx);
    bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), &error_abort);
    bdrv_co_unref(bs);
    bdrv_co_unref(first);
    bdrv_co_unref(second);
    iothread_destroy(thread);
}

static int coroutine_fn add_node(const char *json, Error **errp)
{
    g_autoptr(BlockdevOptions) opts = block_test_options("%s", json);

    return bdrv_co_blockdev_add(opts, errp);
}

static void coroutine_fn monitor_owns_what_it_adds(void)
{
    BlockDriverState *a;
    BdrvOpBlocker *blocker;
    Error *err = NULL;

    g_assert_cmpint(add_node("{\"driver\":\"null-co\"}", &err), <, 0);
    toy_expect_error(&err, "'node-name' must be specified for the root node");
    g_assert_cmpint(
        add_node("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":{\"driver\":\"null-co\","
                 "\"node-name\":\"b\"}}",
                 &error_abort),
        ==, 0);
    a = bdrv_find_node("a");
    g_assert_cmpint(bdrv_co_blockdev_del("x", &err), <, 0);
    toy_expect_error(&err, "Failed to find node with node-name='x'");
    g_assert_cmpint(bdrv_co_blockdev_del("b", &err), <, 0);
    toy_expect_error(&err, "Node b is not owned by the monitor");
    bdrv_ref(a);
    g_assert_cmpint(bdrv_co_blockdev_del("a", &err), <, 0);
    toy_expect_error(&err, "Block device a is in use");
    bdrv_co_unref(a);
    blocker = bdrv_op_block(a, 1u << BLOCK_OP_TYPE_DELETE, "a job");
    g_assert_cmpint(bdrv_co_blockdev_del("a", &err), ==, -EBUSY);
    toy_expect_error(&err, "Node 'a' is busy: a job");
    bdrv_op_unblock(blocker);
    g_assert_cmpint(bdrv_co_blockdev_del("a", &error_abort), ==, 0);
    g_assert_cmpuint(toy_count_nodes(), ==, 0);
}

static void coroutine_fn all_that_is_owned_goes_at_exit(void)
{
    add_node("{\"driver\":\"null-co\",\"node-name\":\"leaf\"}", &error_abort);
    add_node("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"leaf\"}", &error_abort);
    add_node("{\"driver\":\"raw\",\"node-name\":\"b\",\"file\":\"a\"}", &error_abort);
    bdrv_co_close_all();
    g_assert_cmpuint(toy_count_nodes(), ==, 0);
}

static void add(void)
{
    toy_register();
    block_test_add("/open/open/children are made from definitions or found by name",
                   children_are_made_or_found);
    block_test_add("/open/open/a failed open leaves nothing behind", failed_open_leaves_nothing);
    block_test_add("/open/open/a definition takes over from its parent what it does not say",
                   definition_takes_over_from_its_parent);
    block_test_add("/open/open/options that contradict each other are refused",
                   options_that_contradict_are_refused);
    block_test_add("/open/open/children from two iothreads come together in one",
                   children_from_two_iothreads_come_together);
    block_test_add("/open/owned/the monitor owns what it adds, and deletes only that",
                   monitor_owns_what_it_adds);
    block_test_add("/open/owned/all that is owned goes at exit", all_that_is_owned_goes_at_exit);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
