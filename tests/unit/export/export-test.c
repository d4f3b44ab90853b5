/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exports by id: what is refused and in which words, how one ends, where it runs. */
#include "aio/iothread.h"
#include "object/object.h"
#include "qapi/event.h"
#include "server-test.h"

static GPtrArray *events;

static void emit(unsigned event, json_t *message)
{
    g_ptr_array_add(events, json_dumps(message, JSON_SORT_KEYS));
}

static void expect_error(Error *err, const char *words)
{
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==, words);
    error_free(err);
}

static void coroutine_fn refused(const char *id, const char *name, const char *words)
{
    Error *err = NULL;

    g_assert_null(bench_export(id, name, true, NULL, &err));
    expect_error(err, words);
}

static void coroutine_fn what_cannot_be_is_refused_in_qemu_s_words(void *opaque)
{
    Bench bench = bench_new();
    Error *err = NULL;

    refused("1!", NULL, "Invalid block export id");
    refused("e", "x", "Block export id 'e' is already in use");
    refused("f", "disk", "NBD server already has export named 'disk'");
    bench.bs->read_only = true;
    refused("f", "x", "Cannot export read-only node as writable");
    bench.bs->read_only = false;
    g_assert_cmpint(blk_exp_del("zzz", false, &err), ==, -ENOENT);
    expect_error(err, "Export 'zzz' is not found");
    nbd_server_co_stop();
    refused("f", "x", "NBD server not running");
    bench_free(&bench);
}

static void coroutine_fn bitmaps_that_cannot_be_are_refused(void *opaque)
{
    Bench bench = bench_new();
    BlockDirtyBitmapOrStr which = {.type = QTYPE_QSTRING, .u.local = (char *)"zz"};
    BlockDirtyBitmapOrStrList list = {.value = &which};
    Error *err = NULL;

    g_assert_null(bench_export("f", "x", true, &list, &err));
    expect_error(err, "Bitmap 'zz' is not found");
    g_assert_null(blk_exp_find("f"));
    bench_free(&bench);
}

static void coroutine_fn an_export_in_use_is_removed_by_force_only(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    Error *err = NULL;

    g_ptr_array_set_size(events, 0);
    g_assert_cmpint(blk_exp_del("e", false, &err), <, 0);
    expect_error(err, "export 'e' still in use");
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 0, 512, NULL), ==, 0);
    g_assert_cmpint(blk_exp_del("e", true, &error_abort), ==, 0);
    peer_expect_closed(&peer);
    while (blk_exp_find("e")) {
        bench_turns(1);
    }
    g_assert_cmpuint(events->len, ==, 1);
    g_assert_nonnull(strstr(events->pdata[0], "\"BLOCK_EXPORT_DELETED\""));
    g_assert_nonnull(strstr(events->pdata[0], "\"id\": \"e\""));
    g_assert_true(QLIST_EMPTY(&bench.bs->parents));
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn a_query_lists_the_newest_first(void *opaque)
{
    Bench bench = bench_new();
    BlockExportInfoList *list;

    bench_export("f", "x", true, NULL, &error_abort);
    list = blk_exp_query();
    g_assert_cmpstr(list->value->id, ==, "f");
    g_assert_cmpstr(list->value->node_name, ==, "disk");
    g_assert_false(list->value->shutting_down);
    g_assert_cmpstr(list->next->value->id, ==, "e");
    g_assert_null(list->next->next);
    qapi_free_BlockExportInfoList(list);
    bench_free(&bench);
}

static void coroutine_fn a_server_that_stops_takes_everything_with_it(void *opaque)
{
    Bench bench = bench_new();
    Peer ready = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    Peer shaking = peer_connect(bench.path);
    uint8_t data[512] = {9};

    peer_greet(&shaking, 3);
    bench.ram->hold = true;
    peer_request(&ready, NBD_CMD_WRITE, 0, 1, 0, 512, data);
    while (bench.ram->n_held == 0) {
        bench_turns(1);
    }
    ram_let_go(bench.ram);
    nbd_server_co_stop();
    g_assert_null(blk_exp_next(NULL));
    g_assert_cmpuint(bench.ram->memory[0], ==, 9);
    peer_expect_closed(&ready);
    peer_expect_closed(&shaking);
    peer_close(&ready);
    peer_close(&shaking);
    bench_free(&bench);
}

static void iothread_finalise(UserObject *object)
{
    iothread_destroy(object_instance(object));
}

static const UserObjectOps iothread_ops = {.finalise = iothread_finalise};

static void coroutine_fn use(Peer *peer, uint8_t byte)
{
    uint8_t out[4096], in[4096];

    memset(out, byte, sizeof(out));
    g_assert_cmpuint(peer_do(peer, NBD_CMD_WRITE, 0, byte * 4096, sizeof(out), out), ==, 0);
    g_assert_cmpuint(peer_do(peer, NBD_CMD_READ, 0, byte * 4096, sizeof(in), in), ==, 0);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
}

static void coroutine_fn clients_go_where_the_node_goes(void *opaque)
{
    Bench bench = bench_new();
    IOThread *thread = iothread_create("io1", bench_engine(), &error_abort);
    AioContext *ctx = iothread_get_aio_context(thread);
    BlockExportOptions opts = {.type = BLOCK_EXPORT_TYPE_NBD,
                               .id = (char *)"f",
                               .node_name = (char *)"disk",
                               .iothread = (char *)"nope",
                               .has_writable = true,
                               .writable = true,
                               .u.nbd = {.name = (char *)"x"}};
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_STRUCTURED);
    Error *err = NULL;
    Peer other;

    object_register_instance("io1", "iothread", thread, &iothread_ops, &error_abort);
    use(&peer, 1);
    g_assert_null(blk_exp_co_add(&opts, &err));
    expect_error(err, "iothread \"nope\" not found");
    opts.iothread = (char *)"io1";
    g_assert_nonnull(blk_exp_co_add(&opts, &error_abort));
    g_assert_true(bdrv_get_aio_context(bench.bs) == ctx);
    use(&peer, 2);
    other = peer_open(bench.path, "x", NBD_MODE_EXTENDED);
    use(&other, 3);
    for (int i = 0; i < 20; i++) {
        AioContext *to = i % 2 ? ctx : qemu_get_aio_context();

        g_assert_cmpint(bdrv_co_try_change_aio_context(bench.bs, to, &error_abort), ==, 0);
        use(&peer, 4 + i);
        use(&other, 104 + i);
    }
    g_assert_cmpint(object_unref_by_id("io1", NULL), ==, -EBUSY);
    peer_close(&other);
    g_assert_cmpint(blk_exp_del("f", true, &error_abort), ==, 0);
    while (blk_exp_find("f")) {
        bench_turns(1);
    }
    g_assert_true(bdrv_get_aio_context(bench.bs) == qemu_get_aio_context());
    /* The other export's client may still wait in the thread. */
    g_assert_cmpint(object_unref_by_id("io1", NULL), ==, -EBUSY);
    use(&peer, 200);
    peer_close(&peer);
    bench_free(&bench);
    g_assert_cmpint(object_unref_by_id("io1", &error_abort), ==, 0);
}

static void coroutine_fn a_fixed_iothread_is_kept(void *opaque)
{
    Bench bench = bench_new();
    IOThread *thread = iothread_create("io1", bench_engine(), &error_abort);
    BlockExportOptions opts = {.type = BLOCK_EXPORT_TYPE_NBD,
                               .id = (char *)"f",
                               .node_name = (char *)"disk",
                               .iothread = (char *)"io1",
                               .has_fixed_iothread = true,
                               .fixed_iothread = true,
                               .u.nbd = {.name = (char *)"x"}};
    Error *err = NULL;

    object_register_instance("io1", "iothread", thread, &iothread_ops, &error_abort);
    g_assert_nonnull(blk_exp_co_add(&opts, &error_abort));
    g_assert_cmpint(bdrv_co_try_change_aio_context(bench.bs, qemu_get_aio_context(), &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "'f'"));
    error_free(err);
    bench_free(&bench);
    g_assert_cmpint(object_unref_by_id("io1", &error_abort), ==, 0);
}

int main(int argc, char **argv)
{
    int r;

    bench_init(&argc, &argv);
    events = g_ptr_array_new_with_free_func(free);
    qapi_event_set_emit(emit);
    TEST("export", what_cannot_be_is_refused_in_qemu_s_words);
    TEST("export", bitmaps_that_cannot_be_are_refused);
    TEST("export", an_export_in_use_is_removed_by_force_only);
    TEST("export", a_query_lists_the_newest_first);
    TEST("export", a_server_that_stops_takes_everything_with_it);
    TEST("export", clients_go_where_the_node_goes);
    TEST("export", a_fixed_iothread_is_kept);
    r = g_test_run();
    g_ptr_array_unref(events);
    aio_cleanup();
    return r;
}
