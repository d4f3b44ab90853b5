/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ready.c - what is ready to run: bottom halves and woken coroutines
 *
 * Both are pushed by any thread on a stack without a lock, newest first, and taken by the home thread
 * all at once and turned round.  A wake from the home thread itself, which is most of them, takes a
 * shorter way: it is appended to a plain list.
 */
#include <assert.h>
#include "aio-int.h"
#include "trace-aio.h"

enum {
    BH_LISTED = 1,    /* on the context's list */
    BH_SCHEDULED = 2, /* to be called */
    BH_DELETED = 4,   /* to be freed by the home thread */
    BH_ONESHOT = 8,   /* to be freed when called */
};

struct QEMUBH {
    AioContext *ctx;
    QEMUBHFunc *cb;
    void *opaque;
    unsigned flags; /* atomic */
    QSLIST_ENTRY(QEMUBH) next;
};

/*
 * Another thread pushes on a list of @ctx.  What it pushed may run, and end the context, before it has
 * notified: aio_context_free() waits for it to let go.
 */
static void visit_begin(AioContext *ctx)
{
    __atomic_fetch_add(&ctx->visitors, 1, __ATOMIC_SEQ_CST);
}

static void visit_notify_and_end(AioContext *ctx)
{
    aio_notify(ctx);
    __atomic_fetch_sub(&ctx->visitors, 1, __ATOMIC_SEQ_CST);
}

/* Set @flags, and see to it that the home thread looks at @bh. */
static void bh_list(QEMUBH *bh, unsigned flags)
{
    AioContext *ctx = bh->ctx; /* the home thread may free bh as soon as it is listed */
    bool visiting = !in_aio_context(ctx);
    unsigned old;

    if (visiting) {
        visit_begin(ctx);
    }
    old = __atomic_fetch_or(&bh->flags, flags | BH_LISTED, __ATOMIC_ACQ_REL);
    if (!(old & BH_LISTED)) {
        QSLIST_INSERT_HEAD_ATOMIC(&ctx->bhs, bh, next);
    }
    if (visiting) { /* at home the loop looks at the list before it waits */
        visit_notify_and_end(ctx);
    }
}

static QEMUBH *bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    QEMUBH *bh = g_new0(QEMUBH, 1);

    bh->ctx = ctx;
    bh->cb = cb;
    bh->opaque = opaque;
    return bh;
}

QEMUBH *aio_bh_new(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    return bh_new(ctx, cb, opaque);
}

void aio_bh_schedule_oneshot(AioContext *ctx, QEMUBHFunc *cb, void *opaque)
{
    bh_list(bh_new(ctx, cb, opaque), BH_SCHEDULED | BH_ONESHOT);
}

void qemu_bh_schedule(QEMUBH *bh)
{
    bh_list(bh, BH_SCHEDULED);
}

void qemu_bh_cancel(QEMUBH *bh)
{
    __atomic_fetch_and(&bh->flags, ~BH_SCHEDULED, __ATOMIC_ACQ_REL);
}

void qemu_bh_delete(QEMUBH *bh)
{
    if (bh) {
        __atomic_fetch_and(&bh->flags, ~BH_SCHEDULED, __ATOMIC_ACQ_REL);
        bh_list(bh, BH_DELETED);
    }
}

/* Take the whole list, oldest first. */
static QEMUBH *bh_take(AioContext *ctx)
{
    struct AioBhList taken;
    QEMUBH *oldest = NULL, *bh;

    if (!__atomic_load_n(&ctx->bhs.slh_first, __ATOMIC_SEQ_CST)) {
        return NULL;
    }
    QSLIST_MOVE_ATOMIC(&taken, &ctx->bhs);
    for (bh = QSLIST_FIRST(&taken); bh;) {
        QEMUBH *older = QSLIST_NEXT(bh, next);

        QSLIST_NEXT(bh, next) = oldest;
        oldest = bh;
        bh = older;
    }
    return oldest;
}

bool aio_bh_run(AioContext *ctx)
{
    QEMUBH *bh = bh_take(ctx);
    bool progress = false;

    while (bh) {
        QEMUBH *next = QSLIST_NEXT(bh, next);
        unsigned old =
            __atomic_fetch_and(&bh->flags, ~(BH_LISTED | BH_SCHEDULED), __ATOMIC_ACQ_REL);

        /* From here others may list it again: `next` was read before. */
        if (old & BH_DELETED) {
            g_free(bh);
        } else if (old & BH_SCHEDULED) {
            progress = true;
            bh->cb(bh->opaque);
            if (old & BH_ONESHOT) {
                g_free(bh);
            }
        }
        bh = next;
    }
    return progress;
}

void aio_bh_free_all(AioContext *ctx)
{
    QEMUBH *bh = bh_take(ctx);

    while (bh) {
        QEMUBH *next = QSLIST_NEXT(bh, next);

        if (bh->flags & (BH_DELETED | BH_ONESHOT)) {
            g_free(bh);
        }
        bh = next;
    }
}

bool aio_has_ready(AioContext *ctx)
{
    return ctx->ready || __atomic_load_n(&ctx->woken_elsewhere, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&ctx->bhs.slh_first, __ATOMIC_SEQ_CST);
}

static void ready_append(AioContext *ctx, CoWakeLink *link)
{
    link->next = NULL;
    *ctx->ready_tail = link;
    ctx->ready_tail = &link->next;
}

/* Put @co on the list of @ctx.  It must be on no list: who waits is woken once. */
static void ready_push(AioContext *ctx, Coroutine *co)
{
    CoWakeLink *link = qemu_coroutine_wake_link(co);
    CoWakeLink *head;
    int queued = __atomic_exchange_n(&link->queued, 1, __ATOMIC_ACQ_REL);

    assert(!queued);
    if (in_aio_context(ctx)) {
        ready_append(ctx, link);
        return;
    }
    visit_begin(ctx);
    head = __atomic_load_n(&ctx->woken_elsewhere, __ATOMIC_RELAXED);
    do {
        link->next = head;
    } while (!__atomic_compare_exchange_n(&ctx->woken_elsewhere, &head, link, true,
                                          __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    visit_notify_and_end(ctx);
}

/* Append what other threads have woken, oldest first. */
static void ready_collect(AioContext *ctx)
{
    CoWakeLink *link, *oldest = NULL;

    if (!__atomic_load_n(&ctx->woken_elsewhere, __ATOMIC_SEQ_CST)) {
        return;
    }
    link = __atomic_exchange_n(&ctx->woken_elsewhere, NULL, __ATOMIC_SEQ_CST);
    while (link) {
        CoWakeLink *older = link->next;

        link->next = oldest;
        oldest = link;
        link = older;
    }
    while (oldest) {
        CoWakeLink *next = oldest->next;

        ready_append(ctx, oldest);
        oldest = next;
    }
}

bool aio_ready_run(AioContext *ctx)
{
    CoWakeLink *link;

    ready_collect(ctx);
    link = ctx->ready;
    if (!link) {
        return false;
    }
    ctx->ready = NULL; /* A1: who is woken from now on waits for the next turn */
    ctx->ready_tail = &ctx->ready;
    while (link) {
        CoWakeLink *next = link->next;
        Coroutine *co = link->co;

        __atomic_store_n(&link->queued, 0, __ATOMIC_RELEASE);
        qemu_coroutine_enter(co);
        link = next;
    }
    return true;
}

void aio_co_schedule(AioContext *ctx, Coroutine *co)
{
    qemu_coroutine_set_home(co, ctx);
    ready_push(ctx, co);
}

void aio_co_wake(Coroutine *co)
{
    AioContext *ctx = qemu_coroutine_get_home(co);

    ready_push(ctx ? ctx : qemu_get_aio_context(), co);
}

void aio_co_enter(AioContext *ctx, Coroutine *co)
{
    qemu_coroutine_set_home(co, ctx);
    if (in_aio_context(ctx) && !qemu_in_coroutine()) {
        qemu_coroutine_enter(co);
    } else {
        ready_push(ctx, co);
    }
}

typedef struct Move {
    AioContext *to;
    Coroutine *co;
} Move;

static void move_bh(void *opaque)
{
    Move *move = opaque; /* on the stack of move->co, which runs as soon as it is scheduled */

    aio_co_schedule(move->to, move->co);
}

void coroutine_fn aio_co_reschedule_self(AioContext *ctx)
{
    Move move = {.to = ctx, .co = qemu_coroutine_self()};

    if (in_aio_context(ctx)) {
        return;
    }
    /* Not at once: the other thread must not enter it before this one has left it (C4 of coro). */
    aio_bh_schedule_oneshot(qemu_get_current_aio_context(), move_bh, &move);
    qemu_coroutine_yield();
}

const CoWaker aio_waker = {
    .wake = aio_co_wake,
    .timer_start = aio_sleep_start,
    .timer_stop = aio_sleep_stop,
};
