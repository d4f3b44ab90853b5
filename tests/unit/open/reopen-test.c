/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reopen: all or none (R1), and children stay (R2). */
#include <errno.h>
#include "aio/iothread.h"
#include "block/open/open.h"
#include "tests/unit/open/toy.h"
#include "util/osdep.h"

#define RW (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* Reopen with up to three sets of options. */
static int coroutine_fn reopen(Error **errp, const char *a, const char *b, const char *c)
{
    const char *const texts[] = {a, b, c};
    BlockdevOptionsList list[3] = {0};
    size_t n = 0;
    int ret;

    for (; n < 3 && texts[n]; n++) {
        list[n].value = block_test_options("%s", texts[n]);
        if (n > 0) {
            list[n - 1].next = &list[n];
        }
    }
    ret = bdrv_co_reopen_multiple(list, errp);
    while (n-- > 0) {
        qapi_free_BlockdevOptions(list[n].value);
    }
    return ret;
}

static void coroutine_fn options_change(void)
{
    BlockDriverState *bs = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"n\"}");

    g_assert_cmpint(
        reopen(&error_abort,
               "{\"driver\":\"null-co\",\"node-name\":\"n\",\"read-only\":true,\"latency-ns\":7,"
               "\"cache\":{\"no-flush\":true},\"discard\":\"unmap\"}",
               NULL, NULL),
        ==, 0);
    g_assert_true(bs->read_only);
    g_assert_cmpint(bs->open_flags, ==, BDRV_O_NO_FLUSH | BDRV_O_UNMAP);
    g_assert_cmpint(toy_of(bs)->latency, ==, 7);
    g_assert_true(bs->options->read_only);
    bs->open_flags |= BDRV_O_NO_BACKING | BDRV_O_INACTIVE; /* not options: they stay */
    g_assert_cmpint(
        reopen(&error_abort, "{\"driver\":\"null-co\",\"node-name\":\"n\"}", NULL, NULL), ==, 0);
    g_assert_false(bs->read_only);
    g_assert_cmpint(bs->open_flags, ==, BDRV_O_RDWR | BDRV_O_NO_BACKING | BDRV_O_INACTIVE);
    g_assert_cmpint(bs->quiesce_counter, ==, 0);
    bdrv_co_unref(bs);
}

static void coroutine_fn refusal_of_one_takes_all_back(void)
{
    BlockDriverState *a = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"a\"}");
    BlockDriverState *b = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"b\"}");
    BlockDriverState *c = block_test_co_open(
        "{\"driver\":\"null-co\",\"node-name\":\"c\",\"read-only\":true,\"force-share\":true,"
        "\"cache\":{\"direct\":true}}");
    int flags_a = a->open_flags, flags_c = c->open_flags;
    g_autofree char *refuse = g_strdup_printf(
        "{\"driver\":\"null-co\",\"node-name\":\"b\",\"latency-ns\":%d}", TOY_REFUSE_REOPEN);
    Error *err = NULL;

    g_assert_cmpint(reopen(&err, "{\"driver\":\"null-co\",\"node-name\":\"a\",\"read-only\":true}",
                           refuse, "{\"driver\":\"null-co\",\"node-name\":\"c\"}"),
                    ==, -EACCES);
    toy_expect_error(&err, "toy refuses to reopen");
    g_assert_cmpuint(toy_of(a)->prepared, ==, 1); /* R1 */
    g_assert_cmpuint(toy_of(a)->aborted, ==, 1);
    g_assert_cmpuint(toy_of(b)->aborted, ==, 0);
    g_assert_cmpuint(toy_of(c)->prepared, ==, 0);
    g_assert_cmpint(a->open_flags, ==, flags_a);
    g_assert_false(a->read_only);
    g_assert_cmpint(c->open_flags, ==, flags_c); /* its turn never came */
    g_assert_true(c->read_only && c->force_share);
    g_assert_false(a->options->has_read_only);
    g_assert_cmpint(a->quiesce_counter + b->quiesce_counter + c->quiesce_counter, ==, 0);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
    bdrv_co_unref(c);
}

static void coroutine_fn writer_keeps_its_node_writable(void)
{
    BlockDriverState *a = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"a\"}");
    BlockDriverState *b = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"b\"}");
    BdrvChild *user = block_test_user(b, RW);
    Error *err = NULL;

    g_assert_cmpint(reopen(&err, "{\"driver\":\"null-co\",\"node-name\":\"a\",\"read-only\":true}",
                           "{\"driver\":\"null-co\",\"node-name\":\"b\",\"read-only\":true}", NULL),
                    <, 0);
    toy_expect_error(&err, "read-only");
    g_assert_false(a->read_only || b->read_only);
    g_assert_cmpuint(toy_of(a)->aborted, ==, 1);
    g_assert_cmpuint(toy_of(b)->aborted, ==, 1);
    block_test_co_fill(user, 0, 512, 1);
    g_assert_cmpuint(user->perm, ==, RW);
    block_test_co_user_free(user);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
}

/* The child's permissions follow from the parent's new options, wherever it stands in the list. */
static void coroutine_fn order_of_the_list_does_not_matter(void)
{
    static const char raw_ro[] =
        "{\"driver\":\"raw\",\"node-name\":\"r\",\"read-only\":true,\"file\":\"a\"}";
    static const char null_ro[] = "{\"driver\":\"null-co\",\"node-name\":\"a\",\"read-only\":true}";
    static const char raw_rw[] = "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"a\"}";
    static const char null_rw[] = "{\"driver\":\"null-co\",\"node-name\":\"a\"}";
    BlockDriverState *a = block_test_co_open("%s", null_rw);
    BlockDriverState *r = block_test_co_open("%s", raw_rw);

    g_assert_cmpint(reopen(&error_abort, null_ro, raw_ro, NULL), ==, 0);
    g_assert_cmpint(reopen(&error_abort, raw_rw, null_rw, NULL), ==, 0);
    g_assert_cmpint(reopen(&error_abort, raw_ro, null_ro, NULL), ==, 0);
    g_assert_cmpint(reopen(&error_abort, null_rw, raw_rw, NULL), ==, 0);
    g_assert_false(a->read_only || r->read_only);
    bdrv_co_unref(r);
    bdrv_co_unref(a);
}

static void coroutine_fn children_cannot_be_changed_in_passing(void)
{
    BlockDriverState *a = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"a\"}");
    BlockDriverState *b = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"b\"}");
    BlockDriverState *r =
        block_test_co_open("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"a\"}");
    BlockDriverState *s = block_test_co_open("{\"driver\":\"raw\",\"node-name\":\"s\",\"file\":{"
                                             "\"driver\":\"null-co\",\"latency-ns\":5}}");
    Error *err = NULL;

    g_assert_cmpint(
        reopen(&err, "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"b\"}", NULL, NULL), <, 0);
    toy_expect_error(&err, "Cannot change the option 'file'"); /* R2 */
    g_assert_cmpint(
        reopen(&error_abort, "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"a\"}", NULL, NULL),
        ==, 0);
    /* A definition is repeated as it was, or refused: it would have no effect. */
    g_assert_cmpint(reopen(&error_abort,
                           "{\"driver\":\"raw\",\"node-name\":\"s\",\"read-only\":true,"
                           "\"file\":{\"driver\":\"null-co\",\"latency-ns\":5}}",
                           NULL, NULL),
                    ==, 0);
    g_assert_cmpint(reopen(&err,
                           "{\"driver\":\"raw\",\"node-name\":\"s\","
                           "\"file\":{\"driver\":\"null-co\",\"latency-ns\":6}}",
                           NULL, NULL),
                    <, 0);
    toy_expect_error(&err, "Cannot change the option 'file'");
    g_assert_cmpint(
        reopen(&err,
               "{\"driver\":\"raw\",\"node-name\":\"r\","
               "\"file\":{\"driver\":\"null-co\",\"node-name\":\"a\",\"latency-ns\":6}}",
               NULL, NULL),
        <, 0);
    toy_expect_error(&err, "Cannot change the option 'file'");
    g_assert_cmpint(
        reopen(&err, "{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"b\"}", NULL, NULL), <, 0);
    toy_expect_error(&err, "Cannot change the option 'driver'");
    bdrv_co_unref(r);
    bdrv_co_unref(s);
    bdrv_co_unref(a);
    bdrv_co_unref(b);
}

static void coroutine_fn lists_that_make_no_sense_are_refused(void)
{
    BlockDriverState *a = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"a\"}");
    BlockDriverState *f =
        block_test_co_open("{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"x\"}");
    Error *err = NULL;

    g_assert_cmpint(reopen(&err, "{\"driver\":\"null-co\"}", NULL, NULL), <, 0);
    toy_expect_error(&err, "node-name not specified");
    g_assert_cmpint(reopen(&err, "{\"driver\":\"null-co\",\"node-name\":\"x\"}", NULL, NULL), <, 0);
    toy_expect_error(&err, "Failed to find node with node-name='x'");
    g_assert_cmpint(reopen(&err, "{\"driver\":\"null-co\",\"node-name\":\"a\"}",
                           "{\"driver\":\"null-co\",\"node-name\":\"a\"}", NULL),
                    <, 0);
    toy_expect_error(&err, "named twice");
    g_assert_cmpint(
        reopen(&err, "{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"x\"}", NULL, NULL),
        ==, -ENOTSUP);
    toy_expect_error(&err, "does not support reopening files");
    bdrv_co_unref(a);
    bdrv_co_unref(f);
}

static void coroutine_fn node_is_flushed_in_its_home(void)
{
    IOThread *thread = iothread_create("t0", AIO_ENGINE_AUTO, &error_abort);
    BlockDriverState *a = block_test_co_open("{\"driver\":\"null-co\",\"node-name\":\"a\"}");
    BdrvChild *user = block_test_user(a, RW);

    block_test_co_fill(user, 0, 512, 1);
    block_test_co_user_free(user);
    bdrv_co_try_change_aio_context(a, iothread_get_aio_context(thread), &error_abort);
    g_assert_cmpint(reopen(&error_abort,
                           "{\"driver\":\"null-co\",\"node-name\":\"a\",\"read-only\":true}", NULL,
                           NULL),
                    ==, 0);
    g_assert_cmpuint(toy_of(a)->flushes, ==, 1); /* H4; the driver checks where */
    g_assert_true(qemu_get_current_aio_context() == qemu_get_aio_context());
    bdrv_co_try_change_aio_context(a, qemu_get_aio_context(), &error_abort);
    bdrv_co_unref(a);
    iothread_destroy(thread);
}

static void add(void)
{
    toy_register();
    block_test_add("/open/reopen/options change, what is not an option stays", options_change);
    block_test_add("/open/reopen/the refusal of one takes all back", refusal_of_one_takes_all_back);
    block_test_add("/open/reopen/a writer keeps its node writable", writer_keeps_its_node_writable);
    block_test_add("/open/reopen/the order of the list does not matter",
                   order_of_the_list_does_not_matter);
    block_test_add("/open/reopen/children cannot be changed in passing",
                   children_cannot_be_changed_in_passing);
    block_test_add("/open/reopen/lists that make no sense are refused",
                   lists_that_make_no_sense_are_refused);
    block_test_add("/open/reopen/a node is flushed in its home", node_is_flushed_in_its_home);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
