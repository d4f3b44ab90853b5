/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AioContext: the loop of one thread.
 *
 *   other threads                      the home thread: aio_poll()
 *   -------------                      ---------------------------
 *                                      1  anything to run already?  ── yes ──┐ timeout 0
 *   bh, wake ──▶ lists ──┐                │ no: timeout = first deadline     │
 *                        │             2  wait: one system call that submits ◀┘
 *             notify ────┼──▶ eventfd ──▶ what the callbacks queued, and waits
 *                        │             3  completions: coroutines go on, fd handlers run
 *                        │             4  timers that are due
 *                        └───────────▶ 5  bottom halves, then woken coroutines
 *
 * What runs in 3 to 5 queues new requests; nothing is submitted until step 2 of the next turn, so
 * that a hundred requests are one system call.
 *
 * A1  A turn is bounded: each step takes what is there when it begins.  A bottom half or a wake that
 *     is scheduled in a step runs in a later step or the next turn, never inside the call that
 *     schedules it.  So nobody can starve the others, and nobody is re-entered.
 * A2  Order: bottom halves that one thread schedules run in the order of scheduling, so do wakes.
 *     Between the two, and between threads, there is no order.  A woken coroutine runs after all
 *     completions of its turn: a coroutine that gathers the work of others (the sender of replies)
 *     is woken, not entered.
 * A3  What a thread wrote before it scheduled is visible to what runs: the push on the list releases,
 *     taking the list acquires.
 * A4  No wake is lost.  The home thread sets `waiting`, then looks at the lists, then waits.  Another
 *     thread pushes on a list, then looks at `waiting`.  All four are sequentially consistent, so at
 *     least one of the two sees the other.  With a weaker order both could miss, and the loop would
 *     sleep on work.  The eventfd is written only when `waiting` was set: once a sleep, at most.
 * A5  A ring belongs to its thread.  Nobody else submits to it.
 * A6  Virtual time moves only in step 2, when nothing ran in a whole turn, nothing is in flight in
 *     files or worker threads, and only a timer is left to wait for.
 *
 * ready.c holds A1 to A4 for lists, uring.c and epoll.c hold step 2, timer.c time.
 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "aio-int.h"
#include "trace-aio.h"

static AioContext *main_context;
static __thread AioContext *thread_context;

/* Never inlined: a coroutine may go on in another thread, and compilers keep addresses (C2 of coro). */
__attribute__((noinline)) static AioContext **thread_context_ptr(void)
{
    __asm__ volatile("");
    return &thread_context;
}

AioContext *qemu_get_aio_context(void)
{
    return main_context;
}

AioContext *qemu_get_current_aio_context(void)
{
    AioContext *ctx = *thread_context_ptr();

    return ctx ? ctx : main_context;
}

bool in_aio_context(AioContext *ctx)
{
    return *thread_context_ptr() == ctx;
}

const char *aio_context_engine_name(AioContext *ctx)
{
    return ctx->engine->name;
}

const char *aio_context_engine_reason(AioContext *ctx)
{
    return ctx->engine_reason;
}

static int engine_choose(AioContext *ctx, AioEngine engine, Error **errp)
{
    g_autoptr(Error) refused = NULL;
    int ret;

    if (engine == AIO_ENGINE_EPOLL) {
        ctx->engine_reason = g_strdup("asked for");
    } else {
        ctx->engine = &aio_uring_ops;
        ret = ctx->engine->init(ctx, &refused);
        if (ret == 0) {
            ctx->engine_reason = g_strdup("a request through it works");
            return 0;
        }
        if (engine == AIO_ENGINE_IO_URING) {
            error_propagate(errp, g_steal_pointer(&refused));
            return ret;
        }
        ctx->engine_reason = g_strdup(error_get_pretty(refused));
    }
    ctx->engine = &aio_epoll_ops;
    return ctx->engine->init(ctx, errp);
}

AioContext *aio_context_new(AioEngine engine, Error **errp)
{
    AioContext *ctx = g_new0(AioContext, 1);

    ctx->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ctx->notify_fd < 0) {
        error_setg_errno(errp, errno, "Cannot make an event descriptor");
        g_free(ctx);
        return NULL;
    }
    ctx->ready_tail = &ctx->ready;
    if (engine_choose(ctx, engine, errp) < 0) {
        close(ctx->notify_fd);
        g_free(ctx->engine_reason);
        g_free(ctx);
        return NULL;
    }
    trace_aio_context_new(ctx, ctx->engine->name, ctx->engine_reason);
    assert(!*thread_context_ptr());
    *thread_context_ptr() = ctx;
    coro_set_thread_home(ctx);
    return ctx;
}

void aio_context_free(AioContext *ctx)
{
    assert(in_aio_context(ctx) && !ctx->polling);
    while (aio_poll(ctx, ctx->busy > 0) || ctx->busy > 0) {
        /* what was scheduled or submitted last still runs */
    }
    while (__atomic_load_n(&ctx->visitors, __ATOMIC_SEQ_CST) > 0) {
        sched_yield(); /* a few instructions: ready.c */
    }
    assert(ctx->busy == 0 && !ctx->ready && !ctx->woken_elsewhere);
    if (ctx->native_hook) {
        ctx->native_hook->free(ctx, ctx->native_hook);
        ctx->native_hook = NULL;
    }
    aio_fd_handlers_free(ctx);
    ctx->engine->fini(ctx);
    aio_bh_free_all(ctx);
    assert(ctx->timer_count == 0);
    g_free(ctx->timers);
    close(ctx->notify_fd);
    g_free(ctx->engine_reason);
    *thread_context_ptr() = NULL;
    coro_set_thread_home(NULL);
    g_free(ctx);
}

int aio_init(AioEngine engine, Error **errp)
{
    assert(!main_context);
    coro_set_waker(&aio_waker);
    main_context = aio_context_new(engine, errp);
    return main_context ? 0 : -EIO;
}

void aio_cleanup(void)
{
    AioContext *ctx = main_context;

    while (aio_poll(ctx, ctx->busy > 0) || ctx->busy > 0) {
        /* what is in flight comes back, and may submit again */
    }
    aio_thread_pool_stop();
    aio_context_free(ctx);
    main_context = NULL;
}

void aio_notify(AioContext *ctx)
{
    /* A4: the second look only spares a write. */
    if (__atomic_load_n(&ctx->waiting, __ATOMIC_SEQ_CST) &&
        __atomic_exchange_n(&ctx->waiting, 0, __ATOMIC_SEQ_CST)) {
        uint64_t one = 1;

        /* EAGAIN: the counter is full, so it is readable already. */
        while (write(ctx->notify_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
        }
    }
}

/* Step 2. */
static void poll_wait(AioContext *ctx, bool blocking)
{
    int64_t timeout = 0;

    if (ctx->native_hook) {
        ctx->native_hook->before_wait(ctx, ctx->native_hook);
    }
    if (blocking) {
        /* Virtual deadlines are not waited for: A6. */
        timeout = aio_clock_is_virtual() ? -1 : aio_timer_timeout(ctx);
    }
    if (timeout != 0) {
        __atomic_exchange_n(&ctx->waiting, 1, __ATOMIC_SEQ_CST);
        if (aio_has_ready(ctx)) {
            timeout = 0;
        }
    }
    ctx->engine->wait(ctx, timeout);
    if (blocking) {
        __atomic_store_n(&ctx->waiting, 0, __ATOMIC_RELAXED);
    }
}

/* Steps 3 to 5. */
static bool poll_run(AioContext *ctx)
{
    bool progress = ctx->engine->dispatch(ctx);

    progress |= aio_timers_run(ctx);
    progress |= aio_bh_run(ctx);
    progress |= aio_ready_run(ctx);
    return progress;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    bool progress;

    assert(in_aio_context(ctx) && !qemu_in_coroutine());
    assert(!ctx->polling);
    ctx->polling = true;
    if (blocking && aio_clock_is_virtual()) {
        poll_wait(ctx, false);
        progress = poll_run(ctx);
        if (!progress) {
            if (ctx->busy || aio_has_ready(ctx) || !aio_clock_jump(ctx)) { /* A6 */
                poll_wait(ctx, true);
            }
            progress = poll_run(ctx);
        }
    } else {
        poll_wait(ctx, blocking);
        progress = poll_run(ctx);
    }
    ctx->polling = false;
    return progress;
}

typedef struct RunCo {
    CoroutineEntry *entry;
    void *opaque;
    bool done;
} RunCo;

static void coroutine_fn run_co_entry(void *opaque)
{
    RunCo *run = opaque;

    run->entry(run->opaque);
    assert(in_aio_context(main_context)); /* went elsewhere, and did not come back? */
    run->done = true;
}

void aio_run_co(CoroutineEntry *entry, void *opaque)
{
    RunCo run = {.entry = entry, .opaque = opaque};

    assert(in_aio_context(main_context) && !qemu_in_coroutine());
    aio_co_enter(main_context, qemu_coroutine_create(run_co_entry, &run));
    while (!run.done) {
        aio_poll(main_context, true);
    }
}
