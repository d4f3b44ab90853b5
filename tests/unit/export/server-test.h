/* SPDX-License-Identifier: GPL-2.0-or-later */
/* server-test.h - a running NBD server with one disk in memory; what the server's tests begin with */
#ifndef TESTS_EXPORT_SERVER_TEST_H
#define TESTS_EXPORT_SERVER_TEST_H

#include <glib/gstdio.h>
#include "block/export/nbd-server.h"
#include "block/export/export.h"
#include "aio/timer.h"
#include "nbd-peer.h"
#include "ram-node.h"

#define DISK_SIZE (64 * MiB)

/* The disk "disk", exported under that name with the id "e". */
typedef struct Bench {
    char *dir, *path;
    BlockDriverState *bs;
    RamState *ram;
} Bench;

static inline BlockExport *coroutine_fn bench_export(const char *id, const char *name,
                                                     bool writable,
                                                     BlockDirtyBitmapOrStrList *bitmaps,
                                                     Error **errp)
{
    BlockExportOptions opts = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = (char *)id,
        .node_name = (char *)"disk",
        .has_writable = true,
        .writable = writable,
        .u.nbd = {.name = (char *)name, .bitmaps = bitmaps},
    };

    return blk_exp_co_add(&opts, errp);
}

static inline void coroutine_fn bench_serve(Bench *bench, uint32_t handshake_seconds,
                                            uint32_t max_connections)
{
    SocketAddress addr = {.type = SOCKET_ADDRESS_TYPE_UNIX, .u.q_unix.path = bench->path};

    g_assert_cmpint(nbd_server_co_start(&addr, handshake_seconds, max_connections, &error_abort),
                    ==, 0);
}

static inline Bench coroutine_fn bench_new(void)
{
    Bench bench = {.dir = g_dir_make_tmp("qblk-nbd-XXXXXX", NULL)};

    bench.path = g_build_filename(bench.dir, "nbd", NULL);
    bench.bs = ram_node_new("disk", DISK_SIZE);
    bench.ram = bench.bs->opaque;
    bench_serve(&bench, 10, 100);
    g_assert_nonnull(bench_export("e", NULL, true, NULL, &error_abort));
    return bench;
}

static inline void coroutine_fn bench_free(Bench *bench)
{
    nbd_server_co_stop();
    g_assert_null(blk_exp_next(NULL));
    bdrv_co_unref(bench->bs);
    g_assert_false(g_file_test(bench->path, G_FILE_TEST_EXISTS));
    g_rmdir(bench->dir);
    g_free(bench->path);
    g_free(bench->dir);
}

/* Let everything else that can run do so. */
static inline void coroutine_fn bench_turns(int count)
{
    while (count--) {
        aio_co_wake(qemu_coroutine_self());
        qemu_coroutine_yield();
    }
}

static inline void bench_run(gconstpointer body)
{
    aio_run_co((CoroutineEntry *)body, NULL);
}

#define TEST(group, name) g_test_add_data_func("/export/" group "/" #name, name, bench_run)

/* ENGINE=epoll in the environment: as where the kernel refuses io_uring. */
static inline AioEngine bench_engine(void)
{
    return g_strcmp0(g_getenv("ENGINE"), "epoll") == 0 ? AIO_ENGINE_EPOLL : AIO_ENGINE_AUTO;
}

static inline void bench_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    g_assert_cmpint(aio_init(bench_engine(), &error_abort), ==, 0);
    qemu_clock_set_virtual(true);
    nbd_export_register();
}

#endif
