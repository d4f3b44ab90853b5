/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See block-test.h. */
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "block/open/open.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

static char *test_dir;

static AioEngine engine_from_environment(void)
{
    const char *name = g_getenv("AIO_ENGINE");

    if (name && strcmp(name, "io_uring") == 0) {
        return AIO_ENGINE_IO_URING;
    }
    return name && strcmp(name, "epoll") == 0 ? AIO_ENGINE_EPOLL : AIO_ENGINE_AUTO;
}

static void remove_test_dir(void)
{
    GDir *dir = test_dir ? g_dir_open(test_dir, 0, NULL) : NULL;
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(test_dir, name, NULL);

        g_remove(path);
    }
    if (dir) {
        g_dir_close(dir);
        g_rmdir(test_dir);
    }
    g_free(test_dir);
    test_dir = NULL;
}

int block_test_main(int argc, char **argv, void (*add)(void))
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    aio_init(engine_from_environment(), &error_abort);
    add();
    ret = g_test_run();
    remove_test_dir();
    aio_cleanup();
    return ret;
}

typedef struct CoroutineTest {
    void (*test)(void);
} CoroutineTest;

static void coroutine_fn coroutine_test_entry(void *opaque)
{
    CoroutineTest *t = opaque;

    t->test();
}

static void run_coroutine_test(gconstpointer data)
{
    aio_run_co(coroutine_test_entry, (void *)data);
}

void block_test_add(const char *path, void (*coroutine_test)(void))
{
    CoroutineTest *t = g_new0(CoroutineTest, 1);

    t->test = coroutine_test;
    g_test_add_data_func_full(path, t, run_coroutine_test, g_free);
}

uint32_t block_test_seed(void)
{
    static bool said;
    static uint32_t seed;

    if (!said) {
        const char *given = g_getenv("SEED");

        seed = given ? (uint32_t)g_ascii_strtoull(given, NULL, 0) : g_random_int();
        g_test_message("SEED=%u", seed);
        said = true;
    }
    return seed;
}

char *block_test_path(const char *name)
{
    if (!test_dir) {
        test_dir = g_dir_make_tmp("qblk-test-XXXXXX", NULL);
        g_assert_nonnull(test_dir);
    }
    return g_build_filename(test_dir, name, NULL);
}

static BlockdevOptions *options_va(const char *format, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(format, ap);
    json_error_t json_error;
    json_t *json = json_loads(text, 0, &json_error);
    BlockdevOptions *opts;

    if (!json) {
        g_error("Options '%s': %s", text, json_error.text);
    }
    opts = qapi_BlockdevOptions_from_json(json, &error_abort);
    json_decref(json);
    return opts;
}

BlockdevOptions *block_test_options(const char *format, ...)
{
    BlockdevOptions *opts;
    va_list ap;

    va_start(ap, format);
    opts = options_va(format, ap);
    va_end(ap);
    return opts;
}

BlockDriverState *coroutine_fn block_test_co_open(const char *format, ...)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    va_list ap;

    va_start(ap, format);
    opts = options_va(format, ap);
    va_end(ap);
    return bdrv_co_open(opts, &error_abort);
}

void coroutine_fn block_test_co_open_fails(const char *message, const char *format, ...)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    Error *err = NULL;
    va_list ap;

    va_start(ap, format);
    opts = options_va(format, ap);
    va_end(ap);
    g_assert_null(bdrv_co_open(opts, &err));
    g_assert_nonnull(err);
    if (!strstr(error_get_pretty(err), message)) {
        g_error("Expected '%s', got '%s'", message, error_get_pretty(err));
    }
    error_free(err);
}

/* The user. */
typedef struct TestUser {
    int drained;
} TestUser;

static char *user_desc(BdrvChild *c)
{
    return g_strdup("the test");
}

static void user_drained_begin(BdrvChild *c)
{
    ((TestUser *)c->opaque)->drained++;
}

static void user_drained_end(BdrvChild *c)
{
    ((TestUser *)c->opaque)->drained--;
}

static bool user_can_change_context(BdrvChild *c, AioContext *ctx, Error **errp)
{
    return true;
}

static const BdrvChildClass test_user_class = {
    .get_parent_desc = user_desc,
    .drained_begin = user_drained_begin,
    .drained_end = user_drained_end,
    .can_change_aio_context = user_can_change_context,
};

BdrvChild *block_test_user(BlockDriverState *bs, uint64_t perm)
{
    return bdrv_root_attach_child(bs, "root", &test_user_class,
                                  BDRV_CHILD_PRIMARY | BDRV_CHILD_DATA, perm, BLK_PERM_ALL,
                                  g_new0(TestUser, 1), &error_abort);
}

void coroutine_fn block_test_co_user_free(BdrvChild *user)
{
    TestUser *t = user->opaque;

    bdrv_co_root_unref_child(user);
    g_free(t);
}

int block_test_user_drained(BdrvChild *user)
{
    return ((TestUser *)user->opaque)->drained;
}

/* Requests. */
struct BlockTestRequest {
    BdrvChild *user;
    BlockTestOp op;
    int64_t offset, bytes;
    uint8_t *buf;
    int ret;
    bool done;
    CoQueue waiters;
};

static void coroutine_fn request_entry(void *opaque)
{
    BlockTestRequest *req = opaque;

    switch (req->op) {
    case BLOCK_TEST_READ:
        req->ret = bdrv_co_pread(req->user, req->offset, req->bytes, req->buf, 0);
        break;
    case BLOCK_TEST_WRITE:
        req->ret = bdrv_co_pwrite(req->user, req->offset, req->bytes, req->buf, 0);
        break;
    case BLOCK_TEST_WRITE_ZEROES:
        req->ret = bdrv_co_pwrite_zeroes(req->user, req->offset, req->bytes, 0);
        break;
    case BLOCK_TEST_DISCARD:
        req->ret = bdrv_co_pdiscard(req->user, req->offset, req->bytes);
        break;
    case BLOCK_TEST_FLUSH:
        req->ret = bdrv_co_flush(req->user->bs);
        break;
    }
    req->done = true;
    qemu_co_queue_restart_all(&req->waiters);
}

BlockTestRequest *coroutine_fn block_test_co_start(BdrvChild *user, BlockTestOp op, int64_t offset,
                                                   int64_t bytes, uint8_t byte)
{
    BlockTestRequest *req = g_new0(BlockTestRequest, 1);

    req->user = user;
    req->op = op;
    req->offset = offset;
    req->bytes = bytes;
    qemu_co_queue_init(&req->waiters);
    if (op == BLOCK_TEST_READ || op == BLOCK_TEST_WRITE) {
        req->buf = qemu_memalign(4096, MAX(bytes, 1));
        memset(req->buf, byte, bytes);
    }
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, req));
    return req;
}

bool block_test_done(const BlockTestRequest *req)
{
    return req->done;
}

int coroutine_fn block_test_co_join_read(BlockTestRequest *req, void *buf, size_t bytes)
{
    while (!req->done) {
        qemu_co_queue_wait(&req->waiters, NULL);
    }
    memcpy(buf, req->buf, bytes);
    return block_test_co_join(req);
}

int coroutine_fn block_test_co_join(BlockTestRequest *req)
{
    int ret;

    while (!req->done) {
        qemu_co_queue_wait(&req->waiters, NULL);
    }
    ret = req->ret;
    qemu_co_queue_destroy(&req->waiters);
    qemu_vfree(req->buf);
    g_free(req);
    return ret;
}

/* Rounds of the event loop: more than any chain of wake-ups that needs no outside event. */
#define SETTLE_ROUNDS 32

void coroutine_fn block_test_co_settle(void)
{
    for (int i = 0; i < SETTLE_ROUNDS; i++) {
        aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
}

void coroutine_fn block_test_co_fill(BdrvChild *user, int64_t offset, int64_t bytes, uint8_t byte)
{
    uint8_t *buf = qemu_memalign(4096, MAX(bytes, 1));

    memset(buf, byte, bytes);
    g_assert_cmpint(bdrv_co_pwrite(user, offset, bytes, buf, 0), ==, 0);
    qemu_vfree(buf);
}

void coroutine_fn block_test_co_expect(BdrvChild *user, int64_t offset, int64_t bytes, uint8_t byte)
{
    uint8_t *buf = qemu_memalign(4096, MAX(bytes, 1));

    memset(buf, (uint8_t)~byte, bytes);
    g_assert_cmpint(bdrv_co_pread(user, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != byte) {
            g_error("Byte at %" G_GINT64_FORMAT " is 0x%02x, not 0x%02x", offset + i, buf[i], byte);
        }
    }
    qemu_vfree(buf);
}
