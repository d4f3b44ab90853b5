/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/filters/blkdebug: rules, states, breakpoints, limits. */
#include <errno.h>
#include <unistd.h>
#include "block/filters/blkdebug.h"
#include "block/filters/filters.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

enum { RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE };

typedef struct Tree {
    BlockDriverState *ram, *bs;
    BdrvChild *user;
} Tree;

static Tree coroutine_fn make(const char *more)
{
    Tree t = {.ram = test_ram_new("ram", 1 * MiB)};

    t.bs =
        block_test_co_open("{\"driver\":\"blkdebug\",\"node-name\":\"dbg\",\"discard\":\"unmap\","
                           "\"image\":\"ram\"%s}",
                           more);
    t.user = block_test_user(t.bs, RW);
    return t;
}

static void coroutine_fn unmake(Tree *t)
{
    block_test_co_user_free(t->user);
    bdrv_co_unref(t->bs);
    bdrv_co_unref(t->ram);
}

static int coroutine_fn read_at(Tree *t, int64_t offset, int64_t bytes)
{
    g_autofree char *buf = g_malloc(bytes);

    return bdrv_co_pread(t->user, offset, bytes, buf, 0);
}

static int coroutine_fn write_at(Tree *t, int64_t offset, int64_t bytes)
{
    g_autofree char *buf = g_malloc0(bytes);

    return bdrv_co_pwrite(t->user, offset, bytes, buf, 0);
}

static void coroutine_fn a_rule_hits_its_sector_and_kind_only(void)
{
    Tree t = make(",\"inject-error\":[{\"event\":\"none\",\"iotype\":\"read\",\"sector\":8,"
                  "\"errno\":5}]");

    g_assert_cmpint(read_at(&t, 0, 4096), ==, 0);
    g_assert_cmpint(read_at(&t, 0, 4097), ==, -EIO);
    g_assert_cmpint(read_at(&t, 4095, 2), ==, -EIO);
    g_assert_cmpint(read_at(&t, 4097, 4096), ==, 0);
    g_assert_cmpint(write_at(&t, 4096, 512), ==, 0);
    g_assert_cmpint(read_at(&t, 4096, 512), ==, -EIO);
    unmake(&t);
}

static void coroutine_fn once_is_once(void)
{
    Tree t = make(",\"inject-error\":[{\"event\":\"write_aio\",\"once\":true,\"errno\":28,"
                  "\"immediately\":true}]");

    g_assert_cmpint(read_at(&t, 0, 512), ==, 0);
    g_assert_cmpint(write_at(&t, 0, 512), ==, -ENOSPC);
    g_assert_cmpint(write_at(&t, 0, 512), ==, 0);
    g_assert_cmpuint(test_ram_counts(t.ram)->writes, ==, 1);
    unmake(&t);
}

static void coroutine_fn a_rule_of_an_event_is_for_that_request(void)
{
    Tree t = make(",\"inject-error\":[{\"event\":\"flush_to_disk\"}]");

    g_assert_cmpint(write_at(&t, 0, 512), ==, 0);
    g_assert_cmpint(bdrv_co_flush(t.bs), ==, -EIO);
    g_assert_cmpint(read_at(&t, 0, 512), ==, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(t.user, 0, 512, 0), ==, 0);
    g_assert_cmpint(bdrv_co_flush(t.bs), ==, -EIO);
    unmake(&t);
}

static void coroutine_fn states_lead_from_one_rule_to_the_next(void)
{
    /* The second write fails, the first and the third do not. */
    Tree t = make(",\"set-state\":[{\"event\":\"write_aio\",\"state\":1,\"new_state\":2},"
                  "{\"event\":\"write_aio\",\"state\":2,\"new_state\":3}],"
                  "\"inject-error\":[{\"event\":\"write_aio\",\"state\":2}]");

    g_assert_cmpint(write_at(&t, 0, 512), ==, 0);
    g_assert_cmpint(write_at(&t, 0, 512), ==, -EIO);
    g_assert_cmpint(write_at(&t, 0, 512), ==, 0);
    unmake(&t);
}

static void coroutine_fn zeroes_discards_and_status_have_kinds_of_their_own(void)
{
    Tree t = make(",\"inject-error\":[{\"event\":\"none\",\"iotype\":\"write-zeroes\",\"errno\":1},"
                  "{\"event\":\"none\",\"iotype\":\"discard\",\"errno\":2},"
                  "{\"event\":\"none\",\"iotype\":\"block-status\",\"errno\":5}]");
    int64_t pnum;

    g_assert_cmpint(bdrv_co_pwrite_zeroes(t.user, 0, 4096, 0), ==, -1);
    g_assert_cmpint(bdrv_co_pdiscard(t.user, 0, 4096), ==, -2);
    g_assert_cmpint(bdrv_co_block_status(t.bs, 0, 4096, &pnum, NULL, NULL), ==, -5);
    g_assert_cmpint(write_at(&t, 0, 512), ==, 0);
    unmake(&t);
}

static void coroutine_fn a_breakpoint_holds_one_request_until_resume(void)
{
    Tree t = make("");
    BlockTestRequest *a, *b;

    g_assert_cmpint(blkdebug_suspend(t.bs, BLKDBG_WRITE_AIO, "A"), ==, 0);
    g_assert_false(blkdebug_is_suspended(t.bs, "A"));
    a = block_test_co_start(t.user, BLOCK_TEST_WRITE, 0, 512, 1);
    b = block_test_co_start(t.user, BLOCK_TEST_WRITE, 4096, 512, 2);
    block_test_co_settle();
    g_assert_true(blkdebug_is_suspended(t.bs, "A"));
    g_assert_false(block_test_done(a));
    g_assert_true(block_test_done(b));
    g_assert_cmpuint(test_ram_counts(t.ram)->writes, ==, 1);
    g_assert_cmpint(blkdebug_resume(t.bs, "A"), ==, 0);
    g_assert_cmpint(block_test_co_join(a), ==, 0);
    g_assert_cmpint(block_test_co_join(b), ==, 0);
    g_assert_false(blkdebug_is_suspended(t.bs, "A"));
    g_assert_cmpint(blkdebug_resume(t.bs, "A"), ==, -ENOENT);
    g_assert_cmpint(blkdebug_suspend(t.ram, BLKDBG_WRITE_AIO, "A"), ==, -ENOTSUP);
    unmake(&t);
}

static void coroutine_fn a_breakpoint_may_be_at_an_offset_and_for_all(void)
{
    Tree t = make("");
    BlockTestRequest *req[3];

    g_assert_cmpint(blkdebug_suspend_at(t.bs, BLKDBG_READ_AIO, 8192, "at"), ==, 0);
    req[0] = block_test_co_start(t.user, BLOCK_TEST_READ, 0, 8192, 0);
    req[1] = block_test_co_start(t.user, BLOCK_TEST_READ, 4096, 8192, 0);
    block_test_co_settle();
    g_assert_true(block_test_done(req[0]));
    g_assert_false(block_test_done(req[1]));
    g_assert_cmpint(blkdebug_resume(t.bs, "at"), ==, 0);
    block_test_co_join(req[0]);
    block_test_co_join(req[1]);
    g_assert_cmpint(blkdebug_suspend_all(t.bs, BLKDBG_PWRITEV_DONE, "all"), ==, 0);
    for (int i = 0; i < 3; i++) {
        req[i] = block_test_co_start(t.user, BLOCK_TEST_WRITE, i * 4096, 512, 1);
    }
    block_test_co_settle();
    g_assert_cmpuint(test_ram_counts(t.ram)->writes, ==, 3); /* made, not acknowledged */
    for (int i = 0; i < 3; i++) {
        g_assert_false(block_test_done(req[i]));
    }
    g_assert_cmpint(blkdebug_resume(t.bs, "all"), ==, 0);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
    }
    unmake(&t);
}

static void coroutine_fn limits_shape_the_requests_below(void)
{
    Tree t = make(",\"align\":4096,\"max-transfer\":8192,\"opt-write-zero\":4096,"
                  "\"max-write-zero\":16384");

    g_assert_cmpint(write_at(&t, 0, 65536), ==, 0);
    g_assert_cmpuint(test_ram_counts(t.ram)->writes, ==, 8);
    test_ram_reset_counts(t.ram);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(t.user, 0, 65536, 0), ==, 0);
    g_assert_cmpuint(test_ram_counts(t.ram)->zeroes, ==, 4);
    test_ram_reset_counts(t.ram);
    g_assert_cmpint(write_at(&t, 10, 20), ==, 0);
    g_assert_cmpuint(test_ram_counts(t.ram)->bytes_written, ==, 4096);
    unmake(&t);
}

/* What a driver above tells, as the first thing of a request. */
static void coroutine_fn a_driver_above_says_what_its_requests_are_for(void)
{
    Tree t = make(",\"inject-error\":[{\"event\":\"l2_load\",\"iotype\":\"read\"},"
                  "{\"event\":\"l2_update\",\"once\":true}]");

    g_assert_cmpint(read_at(&t, 0, 512), ==, 0);
    bdrv_co_debug_event(t.bs, BLKDBG_L2_LOAD);
    g_assert_cmpint(read_at(&t, 0, 512), ==, -EIO);
    g_assert_cmpint(write_at(&t, 0, 512), ==, 0);
    bdrv_co_debug_event(t.bs, BLKDBG_READ_AIO); /* no rule is for it, and what was armed stays */
    g_assert_cmpint(read_at(&t, 0, 512), ==, -EIO);
    bdrv_co_debug_event(t.bs, BLKDBG_L2_UPDATE);
    g_assert_cmpint(read_at(&t, 0, 512), ==, -EIO);
    g_assert_cmpint(read_at(&t, 0, 512), ==, 0);
    unmake(&t);
}

static void coroutine_fn rules_come_from_a_file_too(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "blkdebug-XXXXXX", NULL);
    g_autofree char *more = NULL;
    int fd = g_mkstemp(path);
    Tree t;

    close(fd);
    g_assert_true(g_file_set_contents(path,
                                      "# second write\n[set-state]\nevent = \"write_aio\"\n"
                                      "state = \"1\"\nnew_state = \"2\"\n\n"
                                      "[inject-error \"x\"]\nevent = \"write_aio\"\n"
                                      "state = \"2\"\nerrno = \"28\"\n",
                                      -1, NULL));
    more = g_strdup_printf(",\"config\":\"%s\"", path);
    t = make(more);
    unlink(path);
    g_assert_cmpint(write_at(&t, 0, 512), ==, 0);
    g_assert_cmpint(write_at(&t, 0, 512), ==, -ENOSPC);
    unmake(&t);
}

typedef struct Held {
    Tree *t;
    bool done;
} Held;

static void coroutine_fn hold_one(void *opaque)
{
    Held *held = opaque;

    g_assert_cmpint(write_at(held->t, 0, 512), ==, 0);
    held->done = true;
}

static void coroutine_fn a_request_is_held_by_several_until_all_let_it_go(void)
{
    Tree t = make("");
    Held held = {.t = &t};

    g_assert_cmpint(blkdebug_suspend(t.bs, BLKDBG_WRITE_AIO, "a"), ==, 0);
    g_assert_cmpint(blkdebug_suspend(t.bs, BLKDBG_WRITE_AIO, "b"), ==, 0);
    g_assert_cmpint(blkdebug_resume_held(t.bs, "a"), ==, -ENOENT);
    qemu_coroutine_enter(qemu_coroutine_create(hold_one, &held));
    g_assert_true(blkdebug_is_suspended(t.bs, "a"));
    g_assert_true(blkdebug_is_suspended(t.bs, "b"));
    g_assert_cmpint(blkdebug_resume_held(t.bs, "a"), ==, 0);
    qemu_co_sleep_ns(1000);
    g_assert_false(held.done);
    g_assert_cmpint(blkdebug_remove_break(t.bs, "b"), ==, -ENOENT); /* but the request goes */
    qemu_co_sleep_ns(1000);
    g_assert_true(held.done);
    unmake(&t);
}

static void coroutine_fn rules_and_limits_without_sense_are_refused(void)
{
    BlockDriverState *ram = test_ram_new("ram", 1 * MiB);

#define REFUSED(message, more) \
    block_test_co_open_fails(message, "{\"driver\":\"blkdebug\",\"image\":\"ram\"," more "}")
    REFUSED("Cannot meet constraints with align 513", "\"align\":513");
    REFUSED("Cannot meet constraints with max-transfer 1000",
            "\"align\":512,\"max-transfer\":1000");
    REFUSED("Cannot meet constraints with max-discard 7", "\"align\":512,\"max-discard\":7");
    REFUSED("Could not read blkdebug config file", "\"config\":\"/no/such/file\"");
    REFUSED("must not be negative", "\"inject-error\":[{\"event\":\"none\",\"errno\":-5}]");
    REFUSED("out of range", "\"inject-error\":[{\"event\":\"none\",\"sector\":-2}]");
    bdrv_co_unref(ram);
}

static void add(void)
{
#define ADD(sentence, function) block_test_add("/blkdebug/" sentence, function)
    ADD("a rule hits its sector and kind only", a_rule_hits_its_sector_and_kind_only);
    ADD("once is once", once_is_once);
    ADD("a rule of an event is for that request", a_rule_of_an_event_is_for_that_request);
    ADD("states lead from one rule to the next", states_lead_from_one_rule_to_the_next);
    ADD("zeroes, discards and status have kinds of their own",
        zeroes_discards_and_status_have_kinds_of_their_own);
    ADD("a breakpoint holds one request until resume", a_breakpoint_holds_one_request_until_resume);
    ADD("a breakpoint may be at an offset and for all",
        a_breakpoint_may_be_at_an_offset_and_for_all);
    ADD("limits shape the requests below", limits_shape_the_requests_below);
    ADD("a driver above says what its requests are for",
        a_driver_above_says_what_its_requests_are_for);
    ADD("rules come from a file, too", rules_come_from_a_file_too);
    ADD("a request is held by several until all let it go",
        a_request_is_held_by_several_until_all_let_it_go);
    ADD("rules and limits without sense are refused", rules_and_limits_without_sense_are_refused);
}

int main(int argc, char **argv)
{
    bdrv_blkdebug_register();
    return block_test_main(argc, argv, add);
}
