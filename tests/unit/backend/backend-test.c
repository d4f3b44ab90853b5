/* SPDX-License-Identifier: GPL-2.0-or-later */
/* BlockBackend, B1 to B5 of block/backend/backend.c. */
#include <glib.h>
#include "aio/iothread.h"
#include "aio/timer.h"
#include "block/backend/backend.h"
#include "qapi/event.h"
#include "tests/unit/backend/test-node.h"

#define SIZE (1 << 20)

#define expect_error(err, text)                           \
    do {                                                  \
        g_assert_nonnull(err);                            \
        g_assert_cmpstr(error_get_pretty(err), ==, text); \
        error_free_or_abort(&(err));                      \
    } while (0)

/* One request in a coroutine of its own. */
typedef struct Req {
    BlockBackend *blk;
    int64_t offset;
    char byte;
    int ret; /* 1: not done */
    int order;
    AioContext *ended_in;
} Req;

static int order;

static void coroutine_fn write_entry(void *opaque)
{
    Req *r = opaque;

    r->ret = blk_co_pwrite(r->blk, r->offset, 1, &r->byte, 0);
    r->order = ++order;
    r->ended_in = qemu_get_current_aio_context();
}

static void start_write(Req *r, BlockBackend *blk, int64_t offset)
{
    *r = (Req){.blk = blk, .offset = offset, .byte = 'w', .ret = 1};
    aio_co_enter(blk_get_aio_context(blk), qemu_coroutine_create(write_entry, r));
}

static BlockBackend *new_backend(BlockDriverState *bs)
{
    BlockBackend *blk = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);

    blk_insert_bs(blk, bs, &error_abort);
    return blk;
}

static void coroutine_fn a_request_must_lie_inside_the_medium(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    char buf[16];

    g_assert_cmpint(blk_getlength(blk), ==, SIZE);
    g_assert_cmpint(blk_co_pread(blk, SIZE - 16, 16, buf, 0), ==, 0);
    g_assert_cmpint(blk_co_pread(blk, SIZE - 15, 16, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, -1, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, 0, -1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, INT64_MAX, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_co_pwrite_zeroes(blk, SIZE, 1, 0), ==, -EIO);
    g_assert_cmpint(blk_co_pdiscard(blk, 0, SIZE + 1), ==, -EIO);
    blk_co_remove_bs(blk);
    g_assert_cmpint(blk_co_pread(blk, 0, 1, buf, 0), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_co_flush(blk), ==, -ENOMEDIUM);
    g_assert_cmpint(blk_getlength(blk), ==, -ENOMEDIUM);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

static void coroutine_fn requests_wait_for_the_end_of_a_quiesce_in_their_order(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    Req r[5];

    bdrv_co_drained_begin(bs);
    bdrv_co_drained_begin(bs);
    for (int i = 0; i < 5; i++) {
        start_write(&r[i], blk, i);
    }
    test_settle();
    bdrv_co_drained_end(bs);
    test_settle();
    g_assert_cmpint(test_disk(bs)->started, ==, 0); /* B2 */
    order = 0;
    bdrv_co_drained_end(bs);
    test_settle();
    for (int i = 0; i < 5; i++) {
        g_assert_cmpint(r[i].ret, ==, 0); /* B3 */
        g_assert_cmpint(r[i].order, ==, i + 1);
    }
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

static void coroutine_fn quiesce_entry(void *opaque)
{
    BlockDriverState *bs = opaque;

    bdrv_co_drained_begin(bs);
    g_assert_cmpint(test_disk(bs)->in_flight, ==, 0); /* B1 */
    order = 100;
    bdrv_co_drained_end(bs);
}

static void coroutine_fn a_quiesce_waits_for_requests_in_flight(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    Req r;

    order = 0;
    test_disk(bs)->hold = true;
    start_write(&r, blk, 0);
    test_settle();
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(quiesce_entry, bs));
    test_settle();
    g_assert_cmpint(order, ==, 0);
    test_release(bs);
    test_settle();
    g_assert_cmpint(r.ret, ==, 0);
    g_assert_cmpint(order, ==, 100);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

static void coroutine_fn without_queuing_requests_pass_a_quiesce(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    Req r;

    blk_set_disable_request_queuing(blk, true);
    bdrv_co_drained_begin(bs);
    start_write(&r, blk, 0);
    test_settle();
    g_assert_cmpint(r.ret, ==, 0); /* B5 */
    bdrv_co_drained_end(bs);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

static void coroutine_fn who_waits_when_the_medium_goes_is_told(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    Req r;

    bdrv_co_drained_begin(bs);
    start_write(&r, blk, 0);
    test_settle();
    g_assert_cmpint(r.ret, ==, 1);
    blk_co_remove_bs(blk); /* B4 */
    test_settle();
    g_assert_cmpint(r.ret, ==, -ENOMEDIUM);
    bdrv_co_drained_end(bs);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

static void coroutine_fn names_are_unique_among_backends_and_nodes(void)
{
    BlockDriverState *bs = test_node_new("node", SIZE);
    BlockBackend *a = new_backend(bs), *b = new_backend(bs);
    Error *err = NULL;

    g_assert_cmpstr(bdrv_get_device_or_node_name(bs), ==, "node");
    g_assert_true(blk_set_name(a, "disk", &error_abort));
    g_assert_cmpstr(bdrv_get_device_or_node_name(bs), ==, "disk");
    g_assert_true(bdrv_lookup_bs("disk", NULL, &error_abort) == bs);
    g_assert_true(blk_by_name("disk") == a);
    g_assert_false(blk_set_name(b, "disk", &err));
    expect_error(err, "Device with id 'disk' already exists");
    g_assert_false(blk_set_name(b, "node", &err));
    expect_error(err, "Device name 'node' conflicts with an existing node name");
    g_assert_false(blk_set_name(b, "", &err));
    error_free_or_abort(&err);
    g_assert_true(blk_next_named(NULL) == a);
    g_assert_null(blk_next_named(a));
    g_assert_cmpstr(blk_get_desc(a), ==, "block device 'disk'");
    g_assert_cmpstr(blk_get_desc(b), ==, "an unnamed block device");
    blk_co_unref(a);
    g_assert_null(blk_by_name("disk"));
    blk_co_unref(b);
    bdrv_co_unref(bs);
}

static void coroutine_fn users_that_cannot_agree_are_both_named(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *a = blk_new(BLK_PERM_WRITE, BLK_PERM_CONSISTENT_READ);
    BlockBackend *b = blk_new(BLK_PERM_WRITE, BLK_PERM_ALL);
    Error *err = NULL;

    blk_set_desc(a, "export 'e'");
    blk_insert_bs(a, bs, &error_abort);
    g_assert_cmpint(blk_insert_bs(b, bs, &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "export 'e'"));
    g_assert_nonnull(strstr(error_get_pretty(err), "an unnamed block device"));
    error_free_or_abort(&err);
    g_assert_null(blk_bs(b));
    g_assert_cmpint(blk_set_perm(b, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort), ==, 0);
    g_assert_cmpint(blk_insert_bs(b, bs, &error_abort), ==, 0);
    g_assert_cmpint(blk_set_perm(b, BLK_PERM_WRITE, BLK_PERM_ALL, &err), <, 0);
    error_free_or_abort(&err);
    blk_co_unref(a);
    blk_co_unref(b);
    bdrv_co_unref(bs);
}

static json_t *last_message;

static void on_event(unsigned event, json_t *message)
{
    json_decref(last_message);
    last_message = json_incref(message);
}

static const char *last_member(const char *name)
{
    return json_string_value(json_object_get(json_object_get(last_message, "data"), name));
}

static void coroutine_fn an_error_sets_the_iostatus_and_is_told(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);

    blk_set_name(blk, "disk", &error_abort);
    blk_set_on_error(blk, BLOCKDEV_ON_ERROR_AUTO, BLOCKDEV_ON_ERROR_AUTO);
    g_assert_cmpint(blk_get_error_action(blk, true, ENOSPC), ==, BLOCK_ERROR_ACTION_REPORT);
    g_assert_cmpint(blk_get_error_action(blk, false, ENOSPC), ==, BLOCK_ERROR_ACTION_STOP);
    g_assert_cmpint(blk_get_error_action(blk, false, EIO), ==, BLOCK_ERROR_ACTION_REPORT);
    blk_iostatus_enable(blk);
    blk_error_action(blk, BLOCK_ERROR_ACTION_REPORT, true, EIO);
    g_assert_cmpint(blk_iostatus(blk), ==, BLOCK_DEVICE_IO_STATUS_OK);
    blk_error_action(blk, BLOCK_ERROR_ACTION_STOP, false, ENOSPC);
    blk_error_action(blk, BLOCK_ERROR_ACTION_STOP, false, EIO);
    g_assert_cmpint(blk_iostatus(blk), ==, BLOCK_DEVICE_IO_STATUS_NOSPACE);
    g_assert_cmpstr(json_string_value(json_object_get(last_message, "event")), ==,
                    "BLOCK_IO_ERROR");
    g_assert_cmpstr(last_member("device"), ==, "disk");
    g_assert_cmpstr(last_member("node-name"), ==, "n");
    g_assert_cmpstr(last_member("operation"), ==, "write");
    g_assert_cmpstr(last_member("action"), ==, "stop");
    g_assert_cmpstr(last_member("reason"), ==, "Input/output error");
    blk_iostatus_reset(blk);
    g_assert_cmpint(blk_iostatus(blk), ==, BLOCK_DEVICE_IO_STATUS_OK);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

static void coroutine_fn requests_are_counted_with_their_time(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    BlockAcctStats *stats = blk_get_stats(blk);
    char buf[4096] = {0};

    test_disk(bs)->latency_ns = 1000 * 1000;
    blk_co_pread(blk, 0, 512, buf, 0);
    blk_co_pwrite(blk, 0, 4096, buf, 0);
    blk_co_flush(blk);
    test_disk(bs)->fail = EIO;
    g_assert_cmpint(blk_co_pwrite(blk, 0, 4096, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_co_pread(blk, SIZE, 512, buf, 0), ==, -EIO);
    g_assert_cmpuint(stats->nr_bytes[BLOCK_ACCT_READ], ==, 512);
    g_assert_cmpuint(stats->nr_ops[BLOCK_ACCT_READ], ==, 1);
    g_assert_cmpuint(stats->invalid_ops[BLOCK_ACCT_READ], ==, 1);
    g_assert_cmpuint(stats->total_time_ns[BLOCK_ACCT_READ], >=, 1000 * 1000);
    g_assert_cmpuint(stats->nr_ops[BLOCK_ACCT_WRITE], ==, 1);
    g_assert_cmpuint(stats->failed_ops[BLOCK_ACCT_WRITE], ==, 1);
    g_assert_cmpuint(stats->nr_ops[BLOCK_ACCT_FLUSH], ==, 1);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

static int resized;

static void on_resized(void *opaque)
{
    resized++;
}

static void coroutine_fn the_user_hears_of_a_new_length(void)
{
    static const BlockDevOps ops = {.resized = on_resized};
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);

    blk_set_dev_ops(blk, &ops, NULL);
    bdrv_notify_resized(bs, SIZE / 2);
    g_assert_cmpint(resized, ==, 1);
    g_assert_cmpint(blk_getlength(blk), ==, SIZE / 2);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
}

/* A client in an IOThread, and the main thread that quiesces under it. */
typedef struct Client {
    BlockBackend *blk;
    int stop; /* atomic */
    int done; /* atomic: writes */
    int ended;
} Client;

static void coroutine_fn client_entry(void *opaque)
{
    Client *c = opaque;
    char byte = 'c';

    while (!__atomic_load_n(&c->stop, __ATOMIC_SEQ_CST)) {
        g_assert_cmpint(blk_co_pwrite(c->blk, 0, 1, &byte, 0), ==, 0);
        __atomic_fetch_add(&c->done, 1, __ATOMIC_SEQ_CST);
        test_step_aside();
    }
    __atomic_fetch_add(&c->ended, 1, __ATOMIC_SEQ_CST);
}

#define CLIENTS 4

static void coroutine_fn no_request_slips_past_a_quiesce_of_an_iothread(void)
{
    IOThread *thread = iothread_create("io", AIO_ENGINE_AUTO, &error_abort);
    AioContext *ctx = iothread_get_aio_context(thread);
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    Client c = {.blk = blk};

    bdrv_co_try_change_aio_context(bs, ctx, &error_abort);
    for (int i = 0; i < CLIENTS; i++) {
        aio_co_schedule(ctx, qemu_coroutine_create(client_entry, &c));
    }
    for (int i = 0; i < 2000; i++) {
        int before;

        bdrv_co_drained_begin(bs);
        g_assert_cmpint(__atomic_load_n(&test_disk(bs)->in_flight, __ATOMIC_SEQ_CST), ==, 0);
        before = __atomic_load_n(&test_disk(bs)->started, __ATOMIC_SEQ_CST);
        test_settle();
        g_assert_cmpint(__atomic_load_n(&test_disk(bs)->started, __ATOMIC_SEQ_CST), ==, before);
        bdrv_co_drained_end(bs);
        test_settle();
    }
    __atomic_store_n(&c.stop, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&c.ended, __ATOMIC_SEQ_CST) < CLIENTS) {
        test_settle();
    }
    bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), &error_abort);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
    iothread_destroy(thread);
}

static void coroutine_fn a_request_held_during_a_move_goes_on_in_the_new_home(void)
{
    IOThread *thread = iothread_create("io", AIO_ENGINE_AUTO, &error_abort);
    BlockDriverState *bs = test_node_new("n", SIZE);
    BlockBackend *blk = new_backend(bs);
    Req r;

    bdrv_co_drained_begin(bs);
    start_write(&r, blk, 0);
    test_settle();
    bdrv_co_try_change_aio_context(bs, iothread_get_aio_context(thread), &error_abort);
    bdrv_co_drained_end(bs);
    while (!__atomic_load_n(&r.ended_in, __ATOMIC_SEQ_CST)) {
        test_settle();
    }
    g_assert_cmpint(r.ret, ==, 0);
    g_assert_true(r.ended_in == iothread_get_aio_context(thread));
    bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), &error_abort);
    blk_co_unref(blk);
    bdrv_co_unref(bs);
    iothread_destroy(thread);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    aio_init(AIO_ENGINE_AUTO, &error_abort);
    blk_init();
    qapi_event_set_emit(on_event);
#define TEST(name) g_test_add_data_func("/backend/" #name, (gconstpointer)name, test_run_body)
    TEST(a_request_must_lie_inside_the_medium);
    TEST(requests_wait_for_the_end_of_a_quiesce_in_their_order);
    TEST(a_quiesce_waits_for_requests_in_flight);
    TEST(without_queuing_requests_pass_a_quiesce);
    TEST(who_waits_when_the_medium_goes_is_told);
    TEST(names_are_unique_among_backends_and_nodes);
    TEST(users_that_cannot_agree_are_both_named);
    TEST(an_error_sets_the_iostatus_and_is_told);
    TEST(requests_are_counted_with_their_time);
    TEST(the_user_hears_of_a_new_length);
    TEST(no_request_slips_past_a_quiesce_of_an_iothread);
    TEST(a_request_held_during_a_move_goes_on_in_the_new_home);
    ret = g_test_run();
    json_decref(last_message);
    aio_cleanup();
    return ret;
}
