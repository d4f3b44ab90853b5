/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See block-test.h: what needs the graph room and nothing above it. */
#include <glib/gstdio.h>
#include <stdio.h>
#include <unistd.h>
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

bool block_test_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
    return false;
#endif
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

/* Rounds of the event loop: more than any chain of wake-ups that needs no outside event. */
#define SETTLE_ROUNDS 32

void coroutine_fn block_test_co_settle(void)
{
    for (int i = 0; i < SETTLE_ROUNDS; i++) {
        aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
}
