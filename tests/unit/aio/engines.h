/* SPDX-License-Identifier: GPL-2.0-or-later */
/* engines.h - every test of this room runs once in io_uring, if the kernel lets us, and once in epoll */
#ifndef TEST_AIO_ENGINES_H
#define TEST_AIO_ENGINES_H

#include <glib.h>
#include "aio/aio.h"

/* A test; the main context is there. */
typedef void EngineTestFunc(void);

typedef struct EngineTest {
    AioEngine engine;
    EngineTestFunc *func;
} EngineTest;

/* Also for the iothreads of a test. */
static AioEngine engine_under_test;

static inline void engine_test_run(gconstpointer opaque)
{
    const EngineTest *test = opaque;
    Error *err = NULL;

    engine_under_test = test->engine;
    if (aio_init(test->engine, &err) < 0) {
        g_test_skip(error_get_pretty(err));
        error_free(err);
        return;
    }
    test->func();
    aio_cleanup();
}

/* Runs as /io_uring/NAME and /epoll/NAME. */
static inline void engine_test_add(const char *name, EngineTestFunc *func)
{
    static const struct {
        const char *name;
        AioEngine engine;
    } engines[] = {{"io_uring", AIO_ENGINE_IO_URING}, {"epoll", AIO_ENGINE_EPOLL}};

    for (size_t i = 0; i < G_N_ELEMENTS(engines); i++) {
        g_autofree char *path = g_strdup_printf("/%s/%s", engines[i].name, name);
        EngineTest *test = g_new0(EngineTest, 1);

        test->engine = engines[i].engine;
        test->func = func;
        g_test_add_data_func_full(path, test, engine_test_run, g_free);
    }
}

/* Poll until @condition; each turn waits for something, so a test that is wrong hangs, not spins. */
#define poll_until(condition)                       \
    do {                                            \
        while (!(condition)) {                      \
            aio_poll(qemu_get_aio_context(), true); \
        }                                           \
    } while (0)

#endif
