/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timer.c - timers in a binary heap for each context, and the clock
 *
 * The heap's root is the timer that expires first; a timer knows its place, so that it can be taken
 * out of the middle.  Equal deadlines run in no particular order.
 */
#include <assert.h>
#include <time.h>
#include "aio-int.h"

struct QEMUTimer {
    AioContext *ctx;
    QEMUTimerCB *cb;
    void *opaque;
    int64_t expire_ns;
    int place; /* in ctx->timers; TIMER_IDLE if not armed */
};

#define TIMER_IDLE (-1)

/* Virtual time in nanoseconds; -1: time is real.  Written in the main thread only. */
static int64_t virtual_ns = -1;

int64_t qemu_clock_get_ns(QEMUClockType type)
{
    struct timespec ts;
    int64_t fake;

    if (type == QEMU_CLOCK_HOST) {
        clock_gettime(CLOCK_REALTIME, &ts);
    } else {
        fake = __atomic_load_n(&virtual_ns, __ATOMIC_RELAXED);
        if (fake >= 0) {
            return fake;
        }
        clock_gettime(CLOCK_MONOTONIC, &ts);
    }
    return ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
}

void qemu_clock_set_virtual(bool on)
{
    AioContext *ctx = qemu_get_aio_context();

    assert(in_aio_context(ctx) && ctx->timer_count == 0);
    if (on) {
        int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

        __atomic_store_n(&virtual_ns, now, __ATOMIC_RELAXED);
    } else {
        __atomic_store_n(&virtual_ns, -1, __ATOMIC_RELAXED);
    }
}

bool aio_clock_is_virtual(void)
{
    return __atomic_load_n(&virtual_ns, __ATOMIC_RELAXED) >= 0;
}

bool aio_clock_jump(AioContext *ctx)
{
    if (ctx->timer_count == 0 || ctx != qemu_get_aio_context()) {
        return false;
    }
    if (ctx->timers[0]->expire_ns > virtual_ns) {
        __atomic_store_n(&virtual_ns, ctx->timers[0]->expire_ns, __ATOMIC_RELAXED);
    }
    return true;
}

static void heap_set(AioContext *ctx, int place, QEMUTimer *timer)
{
    ctx->timers[place] = timer;
    timer->place = place;
}

/* Let @timer find its place from @place upwards. */
static void heap_rise(AioContext *ctx, int place, QEMUTimer *timer)
{
    while (place > 0) {
        int parent = (place - 1) / 2;

        if (ctx->timers[parent]->expire_ns <= timer->expire_ns) {
            break;
        }
        heap_set(ctx, place, ctx->timers[parent]);
        place = parent;
    }
    heap_set(ctx, place, timer);
}

static void heap_sink(AioContext *ctx, int place, QEMUTimer *timer)
{
    for (;;) {
        int child = 2 * place + 1;

        if (child >= ctx->timer_count) {
            break;
        }
        if (child + 1 < ctx->timer_count &&
            ctx->timers[child + 1]->expire_ns < ctx->timers[child]->expire_ns) {
            child++;
        }
        if (ctx->timers[child]->expire_ns >= timer->expire_ns) {
            break;
        }
        heap_set(ctx, place, ctx->timers[child]);
        place = child;
    }
    heap_set(ctx, place, timer);
}

QEMUTimer *aio_timer_new(AioContext *ctx, QEMUTimerCB *cb, void *opaque)
{
    QEMUTimer *timer = g_new0(QEMUTimer, 1);

    timer->ctx = ctx;
    timer->cb = cb;
    timer->opaque = opaque;
    timer->place = TIMER_IDLE;
    return timer;
}

void timer_mod_ns(QEMUTimer *timer, int64_t expire_ns)
{
    AioContext *ctx = timer->ctx;

    assert(in_aio_context(ctx));
    timer_del(timer);
    timer->expire_ns = expire_ns;
    if (ctx->timer_count == ctx->timer_room) {
        ctx->timer_room = ctx->timer_room ? 2 * ctx->timer_room : 16;
        ctx->timers = g_renew(QEMUTimer *, ctx->timers, ctx->timer_room);
    }
    heap_rise(ctx, ctx->timer_count++, timer);
}

void timer_del(QEMUTimer *timer)
{
    AioContext *ctx = timer->ctx;
    int place = timer->place;
    QEMUTimer *last;

    assert(in_aio_context(ctx));
    if (place == TIMER_IDLE) {
        return;
    }
    timer->place = TIMER_IDLE;
    last = ctx->timers[--ctx->timer_count];
    if (last != timer) {
        if (place > 0 && ctx->timers[(place - 1) / 2]->expire_ns > last->expire_ns) {
            heap_rise(ctx, place, last);
        } else {
            heap_sink(ctx, place, last);
        }
    }
}

bool timer_pending(const QEMUTimer *timer)
{
    return timer->place != TIMER_IDLE;
}

void timer_free(QEMUTimer *timer)
{
    if (timer) {
        timer_del(timer);
        g_free(timer);
    }
}

int64_t aio_timer_timeout(AioContext *ctx)
{
    int64_t left;

    if (ctx->timer_count == 0) {
        return -1;
    }
    left = ctx->timers[0]->expire_ns - qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    return MAX(left, 0);
}

bool aio_timers_run(AioContext *ctx)
{
    int turns = ctx->timer_count; /* A1: a timer that arms itself again must not hold the loop */
    bool progress = false;
    int64_t now;

    if (turns == 0) {
        return false;
    }
    now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    while (turns-- > 0 && ctx->timer_count > 0 && ctx->timers[0]->expire_ns <= now) {
        QEMUTimer *timer = ctx->timers[0];

        timer_del(timer);
        timer->cb(timer->opaque);
        progress = true;
    }
    return progress;
}

void *aio_sleep_start(int64_t ns, void (*cb)(void *opaque), void *opaque)
{
    QEMUTimer *timer = aio_timer_new(qemu_get_current_aio_context(), cb, opaque);
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    timer_mod_ns(timer, ns > INT64_MAX - now ? INT64_MAX : now + ns);
    return timer;
}

void aio_sleep_stop(void *timer)
{
    timer_free(timer);
}
