/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node for tests: bytes in memory, requests that can be held, errors on demand.
 *
 * The counters are atomic: a test looks at them from the main thread while requests run elsewhere.
 */
#ifndef TESTS_UNIT_TEST_NODE_H
#define TESTS_UNIT_TEST_NODE_H

#include <errno.h>
#include <string.h>
#include "block/graph/graph.h"
#include "coro/sleep.h"
#include "util/osdep.h"

typedef struct TestDisk {
    uint8_t *data;
    int64_t size;
    /* Atomic. */
    int in_flight;
    int started;
    int fail;  /* errno of each request, or 0 */
    bool hold; /* requests wait in held */
    int64_t latency_ns;
    CoQueue held; /* the node's home only */
} TestDisk;

static inline TestDisk *test_disk(BlockDriverState *bs)
{
    return bs->opaque;
}

static inline int coroutine_fn test_request_begin(TestDisk *d)
{
    __atomic_fetch_add(&d->in_flight, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&d->started, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&d->hold, __ATOMIC_SEQ_CST)) {
        qemu_co_queue_wait(&d->held, NULL);
    }
    if (d->latency_ns) {
        qemu_co_sleep_ns(d->latency_ns);
    }
    return -__atomic_load_n(&d->fail, __ATOMIC_SEQ_CST);
}

static inline int test_request_end(TestDisk *d, int ret)
{
    __atomic_fetch_sub(&d->in_flight, 1, __ATOMIC_SEQ_CST);
    return ret;
}

static inline int coroutine_fn test_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              QEMUIOVector *qiov, size_t qiov_offset,
                                              BdrvRequestFlags flags)
{
    TestDisk *d = test_disk(bs);
    int ret = test_request_begin(d);

    if (ret == 0) {
        qemu_iovec_from_buf(qiov, qiov_offset, d->data + offset, bytes);
    }
    return test_request_end(d, ret);
}

static inline int coroutine_fn test_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                               QEMUIOVector *qiov, size_t qiov_offset,
                                               BdrvRequestFlags flags)
{
    TestDisk *d = test_disk(bs);
    int ret = test_request_begin(d);

    if (ret == 0) {
        qemu_iovec_to_buf(qiov, qiov_offset, d->data + offset, bytes);
    }
    return test_request_end(d, ret);
}

static inline int coroutine_fn test_co_flush(BlockDriverState *bs)
{
    TestDisk *d = test_disk(bs);

    return test_request_end(d, test_request_begin(d));
}

static inline void coroutine_fn test_co_close(BlockDriverState *bs)
{
    TestDisk *d = test_disk(bs);

    qemu_co_queue_destroy(&d->held);
    g_free(d->data);
}

static inline void test_release_bh(void *opaque)
{
    TestDisk *d = opaque;

    __atomic_store_n(&d->hold, false, __ATOMIC_SEQ_CST);
    qemu_co_queue_restart_all(&d->held);
}

/* Main thread: let the held requests of @bs go, in its home. */
static inline void test_release(BlockDriverState *bs)
{
    aio_bh_schedule_oneshot(bdrv_get_aio_context(bs), test_release_bh, test_disk(bs));
}

/* A new node with one reference, the caller's. */
static inline BlockDriverState *test_node_new(const char *name, int64_t size)
{
    static const BlockDriverLife life = {.co_close = test_co_close};
    static const BlockDriverData data = {
        .co_preadv = test_co_preadv, .co_pwritev = test_co_pwritev, .co_flush = test_co_flush};
    static const BlockDriver drv = {.format_name = "test",
                                    .is_protocol = true,
                                    .instance_size = sizeof(TestDisk),
                                    .life = &life,
                                    .data = &data};
    BlockDriverState *bs = bdrv_new(&drv, name, &error_abort);
    TestDisk *d = test_disk(bs);

    d->data = g_malloc0(size);
    d->size = size;
    qemu_co_queue_init(&d->held);
    bs->open_flags = BDRV_O_RDWR;
    bs->total_bytes = size;
    bs->bl.request_alignment = 1;
    bs->bl.min_mem_alignment = 1;
    bs->bl.max_iov = 1024;
    return bs;
}

/* Let others of this thread run. */
static inline void coroutine_fn test_step_aside(void)
{
    aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
}

/* Let everything that is ready in the main context run, some rounds long. */
static inline void coroutine_fn test_settle(void)
{
    for (int i = 0; i < 10; i++) {
        test_step_aside();
    }
}

/* A test's body as a coroutine of the main context. */
typedef void coroutine_fn TestBody(void);

static inline void coroutine_fn test_body_entry(void *opaque)
{
    ((TestBody *)opaque)();
}

static inline void test_run_body(gconstpointer body)
{
    aio_run_co(test_body_entry, (void *)body);
}

static inline unsigned test_seed(void)
{
    const char *env = g_getenv("SEED");
    unsigned seed = env ? strtoul(env, NULL, 0) : g_random_int();

    g_test_message("SEED=%u", seed);
    return seed;
}

#endif
