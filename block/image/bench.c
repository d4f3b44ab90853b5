/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many requests of one size: @depth coroutines take one after the other.
 *
 *      left      10  9  8 | 7  6  5  4 | 3  2  1  0       flush_interval 4: a flush where what is left is a
 *      requests   #  #  # | #  #  #  # | #  #  #          multiple of it, but not behind the last
 *                         F            F
 *
 * With draining the one who comes to a flush waits until it is alone, and the others wait for it.
 */
#include "block/image/bench.h"

#include <errno.h>

#include "aio/timer.h"
#include "util/osdep.h"

typedef struct Bench {
    const ImageBenchArgs *args;
    int64_t length, offset, left;
    uint8_t *buf; /* of all requests: nobody looks at what was read */
    int workers;
    int in_flight;
    bool flushing, flush_due;
    int ret;
    const char *what; /* failed */
    CoQueue changed;  /* in_flight, flushing, workers */
} Bench;

static void bench_fail(Bench *b, int ret, const char *what)
{
    if (ret < 0 && b->ret == 0) {
        b->ret = ret;
        b->what = what;
    }
}

static bool bench_is_over(Bench *b)
{
    const ImageWatch *watch = &b->args->watch;

    if (watch->is_cancelled && watch->is_cancelled(watch->opaque)) {
        bench_fail(b, -ECANCELED, "Cancelled");
    }
    return b->left == 0 || b->ret < 0;
}

static void coroutine_fn bench_flush(Bench *b)
{
    b->flush_due = false;
    if (b->args->drain) {
        b->flushing = true;
        while (b->in_flight > 0) {
            qemu_co_queue_wait(&b->changed, NULL);
        }
    }
    bench_fail(b, blk_co_flush(b->args->image), "Failed flush");
    if (b->args->drain) {
        b->flushing = false;
        qemu_co_queue_restart_all(&b->changed);
    }
}

static void coroutine_fn bench_request(Bench *b)
{
    const ImageBenchArgs *a = b->args;
    int64_t offset = b->offset;
    int ret;

    b->left--;
    b->offset = offset + a->step_bytes;
    if (b->length > 0) {
        b->offset %= b->length;
    }
    b->flush_due = a->flush_interval && b->left > 0 && b->left % a->flush_interval == 0;
    b->in_flight++;
    ret = a->write ? blk_co_pwrite(a->image, offset, a->request_bytes, b->buf, 0)
                   : blk_co_pread(a->image, offset, a->request_bytes, b->buf, 0);
    b->in_flight--;
    bench_fail(b, ret, "Failed request");
    if (b->flushing) {
        qemu_co_queue_restart_all(&b->changed);
    }
}

static void coroutine_fn bench_worker(void *opaque)
{
    Bench *b = opaque;

    while (!bench_is_over(b)) {
        if (b->flushing) {
            qemu_co_queue_wait(&b->changed, NULL);
        } else if (b->flush_due) {
            bench_flush(b);
        } else {
            bench_request(b);
        }
    }
    b->workers--;
    qemu_co_queue_restart_all(&b->changed);
}

static void coroutine_fn bench_run(Bench *b)
{
    const int64_t depth = MIN((int64_t)b->args->depth, b->args->count);

    for (int64_t i = 0; i < depth && !bench_is_over(b); i++) {
        b->workers++;
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(bench_worker, b));
    }
    while (b->workers > 0) {
        qemu_co_queue_wait(&b->changed, NULL);
    }
}

int coroutine_fn image_co_bench(const ImageBenchArgs *args, int64_t *ret_ns, Error **errp)
{
    Bench b = {
        .args = args,
        .length = blk_getlength(args->image),
        .offset = args->offset,
        .left = args->count,
    };
    int64_t start;

    if (b.length < 0) {
        error_setg_errno(errp, (int)-b.length, "Could not get the size of the image");
        return (int)b.length;
    }
    b.buf = qemu_try_blockalign(blk_bs(args->image), (size_t)args->request_bytes);
    if (!b.buf) {
        error_setg(errp, "There is no memory for requests of %lld bytes",
                   (long long)args->request_bytes);
        return -ENOMEM;
    }
    memset(b.buf, args->pattern, (size_t)args->request_bytes);
    qemu_co_queue_init(&b.changed);
    start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    bench_run(&b);
    *ret_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start;
    qemu_co_queue_destroy(&b.changed);
    qemu_vfree(b.buf);
    if (b.ret < 0) {
        error_setg_errno(errp, -b.ret, "%s", b.what);
    }
    return b.ret;
}
