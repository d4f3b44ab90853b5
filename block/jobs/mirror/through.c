/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Write-through of a background mirror: a guest's write goes to the target from a copy of its data, and the guest
 * waits for that, but not longer than MIRROR_THROUGH_NS.
 *
 *     guest   |-- source --|-- waits --|  told                      |-- source --|------ waits -------| told
 *     target               |-- write --|                                         |----------- write --------------|
 *     chunk   in flight ----------------| clean                      in flight --------------- dirty -------------|
 *
 * TH1  The data is copied into the job's buffers; who finds none makes his range dirty instead.
 * TH2  A guest that leaves makes its range dirty first.  The chunks stay in flight until the target has answered.
 * TH3  When a guest has had to leave, write-through rests: a target that is away or stuck does not keep guests.
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
    for (unsigned i = t->nb_chunks; i-- > 0;) {
        copy_pool_put(s->buf, t->bufs[i]);
    }
    trace_mirror_active_write(s, t->offset, t->bytes, t->ret);
    s->tap_calls--;
    t->done = true;
    if (t->left) {
        s->through_left--;
        mirror_unmark_in_flight(s, t->offset, t->bytes); /* TH2 */
        free_through(t);
    } else {
        qemu_co_sleep_wake(&t->guest);
    }
    mirror_leave_target(s); /* last: a quiesce in another thread may end the job then */
}

/* TH1 */
static MirrorThrough *prepare(MirrorBlockJob *s, const BdrvTapWrite *w, int64_t bytes)
{
    bool zero = !w->qiov || (w->flags & BDRV_REQ_ZERO_WRITE);
    unsigned nb_chunks = zero ? 0 : DIV_ROUND_UP(bytes, s->granularity);
    MirrorThrough *t;

    if (nb_chunks > mirror_buf_free_count(s)) {
        return NULL;
    }
    t = g_new0(MirrorThrough, 1);
    *t = (MirrorThrough){.s = s,
                         .offset = w->offset,
                         .bytes = bytes,
                         .zero = zero,
                         .may_unmap = s->unmap && (w->flags & BDRV_REQ_MAY_UNMAP),
                         .nb_chunks = nb_chunks};
    t->bufs = g_new(void *, nb_chunks);
    qemu_iovec_init(&t->qiov, nb_chunks);
    for (unsigned i = 0; i < nb_chunks; i++) {
        int64_t at = i * s->granularity, n = MIN(s->granularity, bytes - at);

        t->bufs[i] = copy_pool_get(s->buf); /* does not yield: there are enough */
        qemu_iovec_to_buf(w->qiov, w->qiov_offset + at, t->bufs[i], n);
        qemu_iovec_add(&t->qiov, t->bufs[i], n);
    }
    return t;
}

MirrorThroughResult coroutine_fn mirror_write_through(MirrorBlockJob *s, const BdrvTapWrite *w,
                                                      int64_t bytes)
{
    MirrorThrough *t = prepare(s, w, bytes);
    int ret;

    if (!t) {
        return MIRROR_THROUGH_NOT_DONE;
    }
    s->tap_calls += 2; /* the guest's, and the target's */
    aio_co_enter(s->common.job.aio_context, qemu_coroutine_create(through_entry, t));
    qemu_co_sleep_ns_wakeable(&t->guest, MIRROR_THROUGH_NS);
    s->tap_calls--;
    if (!t->done) {
        mirror_rate_stuck(s); /* TH3 */
        t->left = true;
        s->through_left++;
        return MIRROR_THROUGH_LEFT;
    }
    ret = t->ret;
    free_through(t);
    return ret < 0 ? MIRROR_THROUGH_NOT_DONE : MIRROR_THROUGH_DONE;
}
