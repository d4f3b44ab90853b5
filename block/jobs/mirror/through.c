/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Write-through of a background mirror: a guest's write goes to the target from a copy of its data, and the guest
 * waits for that, but not for a target that stands still.
 *
 *     guest   |- waits -|- source -|- waits --|  told            |- source -|---- waits ----| told
 *     target               |- write --|                                     |--------- write --------|
 *     chunk   of another| in flight --| clean                     in flight --------- dirty ---------|
 *
 * TH1  The data is copied into the job's buffers, at most half of them: the other half is for operations.  Who
 *      finds none in time makes his range dirty instead.
 * TH2  A guest waits for others in its chunks, and for the target, while the target ends something at least every
 *      mirror_patience_ns(), and for each of the two MIRROR_THROUGH_MAX_NS at the most: where many write at once it
 *      is one after the other, and that is what slows them to what the target takes.  A guest that leaves makes
 *      its range dirty first.  The chunks stay in flight until the target has answered.
 * TH3  When a guest has had to leave because the target ended nothing, write-through rests: a target that is away
 *      or stuck does not keep guests.
 */
#include <errno.h>
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"
#include "trace-mirror.h"

typedef struct MirrorThrough {
    MirrorBlockJob *s;
    int64_t offset, bytes;
    bool zero, may_unmap;
    QEMUIOVector qiov;
    void **bufs;
    unsigned nb_chunks;
    int ret;
    bool done, left; /* the target has answered; the guest has gone */
    QemuCoSleep guest;
} MirrorThrough;

/* TH2: one wait, or several for the same thing. */
typedef struct Patience {
    uint64_t ticket; /* who came first is asked first */
    int64_t start_ns, until_ns;
    bool stuck; /* TH3 */
} Patience;

/* Somebody who waits for a change, but not for ever. */
struct MirrorWaiter {
    QTAILQ_ENTRY(MirrorWaiter) list; /* by tickets */
    uint64_t ticket;
    bool listed;
    QemuCoSleep sleep;
};

static Patience patience_begin(MirrorBlockJob *s)
{
    int64_t now = mirror_now();

    return (Patience){
        .ticket = s->tickets++, .start_ns = now, .until_ns = now + MIRROR_THROUGH_MAX_NS};
}

/* Return: how long it may go on; 0: it is at its end. */
static int64_t patience_left(const MirrorBlockJob *s, Patience *p)
{
    int64_t now = mirror_now();
    int64_t answered = MAX(p->start_ns, __atomic_load_n(&s->answered_ns, __ATOMIC_RELAXED));
    int64_t left = answered + mirror_patience_ns(s) - now;

    p->stuck = left <= 0;
    return MAX(MIN(left, p->until_ns - now), 0);
}

void mirror_wake_waiters(MirrorBlockJob *s)
{
    QTAILQ_HEAD(, MirrorWaiter) woken = QTAILQ_HEAD_INITIALIZER(woken);
    MirrorWaiter *w;

    while ((w = QTAILQ_FIRST(&s->waiters))) { /* who waits again is not among them */
        QTAILQ_REMOVE(&s->waiters, w, list);
        QTAILQ_INSERT_TAIL(&woken, w, list);
    }
    while ((w = QTAILQ_FIRST(&woken))) {
        QTAILQ_REMOVE(&woken, w, list);
        w->listed = false;
        qemu_co_sleep_wake(&w->sleep);
    }
}

static void insert_waiter(MirrorBlockJob *s, MirrorWaiter *w)
{
    MirrorWaiter *after = QTAILQ_LAST(&s->waiters);

    while (after && after->ticket > w->ticket) {
        after = QTAILQ_PREV(after, list);
    }
    if (after) {
        QTAILQ_INSERT_AFTER(&s->waiters, after, w, list);
    } else {
        QTAILQ_INSERT_HEAD(&s->waiters, w, list);
    }
}

/* Until something has changed, or @ns have passed. */
static void coroutine_fn wait_for_change(MirrorBlockJob *s, const Patience *p, int64_t ns)
{
    MirrorWaiter w = {.ticket = p->ticket, .listed = true};

    insert_waiter(s, &w);
    qemu_co_sleep_ns_wakeable(&w.sleep, ns);
    if (w.listed) {
        QTAILQ_REMOVE(&s->waiters, &w, list);
    }
}

void coroutine_fn mirror_wait_for_chunks(MirrorBlockJob *s, const BdrvTapWrite *w, int64_t bytes,
                                         MirrorGoOn *go_on)
{
    Patience p = patience_begin(s);
    int64_t left;

    while (mirror_is_in_flight(s, w->offset, bytes) && go_on(s, w)) {
        left = patience_left(s, &p);
        if (left == 0) {
            if (p.stuck) {
                mirror_rate_stuck(s); /* TH3 */
            }
            break;
        }
        trace_mirror_active_wait(s, w->offset, bytes);
        wait_for_change(s, &p, left);
    }
}

static void free_through(MirrorThrough *t)
{
    qemu_iovec_destroy(&t->qiov);
    g_free(t->bufs);
    g_free(t);
}

static void coroutine_fn through_entry(void *opaque)
{
    MirrorThrough *t = opaque;
    MirrorBlockJob *s = t->s;

    t->ret = -EBUSY;
    if (mirror_enter_target(s) && !mirror_gives_up(s)) {
        t->ret = t->zero ? mirror_write_zeroes(s, t->offset, t->bytes, t->may_unmap)
                         : bdrv_co_pwritev(s->target, t->offset, t->bytes, &t->qiov, 0);
        if (t->ret < 0) {
            mirror_note_failure(s, t->ret, false);
        }
    }
    mirror_note_answer(s);
    for (unsigned i = t->nb_chunks; i-- > 0;) {
        copy_pool_put(s->buf, t->bufs[i]);
    }
    s->through_chunks -= t->nb_chunks;
    trace_mirror_active_write(s, t->offset, t->bytes, t->ret);
    s->tap_calls--;
    t->done = true;
    if (t->left) {
        s->through_left--;
        mirror_unmark_in_flight(s, t->offset, t->bytes); /* TH2 */
        free_through(t);
    } else {
        qemu_co_sleep_wake(&t->guest);
        mirror_wake(s); /* TH1 */
    }
    mirror_leave_target(s); /* last: a quiesce in another thread may end the job then */
}

/* TH1: does not yield. */
static MirrorThrough *prepare(MirrorBlockJob *s, const BdrvTapWrite *w, int64_t bytes,
                              unsigned nb_chunks)
{
    MirrorThrough *t;

    t = g_new0(MirrorThrough, 1);
    *t = (MirrorThrough){.s = s,
                         .offset = w->offset,
                         .bytes = bytes,
                         .zero = nb_chunks == 0,
                         .may_unmap = s->unmap && (w->flags & BDRV_REQ_MAY_UNMAP),
                         .nb_chunks = nb_chunks};
    s->through_chunks += nb_chunks;
    t->bufs = g_new(void *, nb_chunks);
    qemu_iovec_init(&t->qiov, nb_chunks);
    for (unsigned i = 0; i < nb_chunks; i++) {
        int64_t at = i * s->granularity, n = MIN(s->granularity, bytes - at);

        t->bufs[i] = copy_pool_get(s->buf); /* there are enough */
        qemu_iovec_to_buf(w->qiov, w->qiov_offset + at, t->bufs[i], n);
        qemu_iovec_add(&t->qiov, t->bufs[i], n);
    }
    return t;
}

/* TH1.  Return: whether there are so many. */
static bool coroutine_fn wait_for_buffers(MirrorBlockJob *s, unsigned nb_chunks, Patience *p)
{
    unsigned most = MAX(s->max_chunks / 2, 1);

    while (nb_chunks > mirror_buf_free_count(s) || s->through_chunks + nb_chunks > most) {
        int64_t left = patience_left(s, p);

        if (left == 0 && p->stuck) {
            mirror_rate_stuck(s); /* TH3 */
        }
        if (left == 0 || nb_chunks > most || mirror_gives_up(s) || s->phase == MIRROR_OVER) {
            return false;
        }
        wait_for_change(s, p, left);
    }
    return true;
}

static bool coroutine_fn wait_for_target(MirrorBlockJob *s, MirrorThrough *t, Patience *p)
{
    int64_t left;

    while (!t->done && (left = patience_left(s, p)) > 0) {
        qemu_co_sleep_ns_wakeable(&t->guest, left);
    }
    return t->done;
}

static unsigned chunks_needed(const MirrorBlockJob *s, const BdrvTapWrite *w, int64_t bytes)
{
    bool zero = !w->qiov || (w->flags & BDRV_REQ_ZERO_WRITE);

    return zero ? 0 : DIV_ROUND_UP(bytes, s->granularity);
}

MirrorThroughResult coroutine_fn mirror_write_through(MirrorBlockJob *s, const BdrvTapWrite *w,
                                                      int64_t bytes)
{
    unsigned nb_chunks = chunks_needed(s, w, bytes);
    Patience p = patience_begin(s);
    MirrorThrough *t;
    bool answered;
    int ret;

    s->tap_calls++;
    if (!wait_for_buffers(s, nb_chunks, &p)) {
        s->tap_calls--;
        return MIRROR_THROUGH_NOT_DONE;
    }
    t = prepare(s, w, bytes, nb_chunks);
    s->tap_calls++; /* the target's, until that has ended */
    aio_co_enter(s->common.job.aio_context, qemu_coroutine_create(through_entry, t));
    answered = wait_for_target(s, t, &p);
    s->tap_calls--;
    if (!answered) {
        if (p.stuck) {
            mirror_rate_stuck(s); /* TH3 */
        }
        t->left = true;
        s->through_left++;
        return MIRROR_THROUGH_LEFT;
    }
    ret = t->ret;
    free_through(t);
    return ret < 0 ? MIRROR_THROUGH_NOT_DONE : MIRROR_THROUGH_DONE;
}
