/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uring.c - a context that waits in io_uring
 *
 *     coroutine ── sqe ──▶ [ submission ring ]─┐              ┌─▶ done() ── enter the coroutine
 *     fd handler ─ poll ─▶ [                 ] │  one system  │
 *     eventfd ──── read ─▶ [                 ] │     call     │
 *       too many? ─▶ overflow list             └──▶ kernel ───┘ [ completion ring ]
 *
 * U1  The call that waits is the call that submits.  While completions are visible already, or
 *     coroutines are ready to run, a turn may do without it: what they queue joins the same batch.
 *     After URING_IDLE_TURNS such turns the call is made anyway: devices wait for work, and the kernel
 *     posts most completions only when it is entered.  Nor does a turn that queues much wait for its
 *     own end: after each URING_SUBMIT_BATCH requests the kernel gets them, so that the device works
 *     on the first while we still prepare the last.
 * U2  The kernel is asked to run its completion work in this call (DEFER_TASKRUN), not by interrupting
 *     us: completions come in batches.  Older kernels refuse, and get the next best flags.
 * U3  Requests beyond the ring wait in a list, in order.  A cancel comes behind what it cancels, so it
 *     can never hit a later request at the same address.
 * U4  More completions than the ring holds are kept by the kernel (NODROP), which is required.
 * U5  Before it sleeps with much in flight, a context may look at the ring for a while (spin.c).  It
 *     submits first.  A notice from another thread is a completion too, so looking misses nothing.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include "spin.h"
#include "uring.h"
#include "trace-aio.h"

/* What may be submitted by one call.  64 bytes each; more only grow the batch, not the speed. */
#define URING_ENTRIES 256

/*
 * U1.  Handed over together.  When 32 reads of 4 KiB arrive at once and only the end of the turn submits
 * them, the device idles for as long as all 32 take to prepare, and then we idle while it works on all
 * 32.  By fours gives 8 to 12 per cent more reads a second, and each costs 8 per cent more processor time;
 * one by one gives little more, and costs 30.
 */
#define URING_SUBMIT_BATCH 4

/* U1.  Turns that may go by without a call while there is something else to do. */
#define URING_IDLE_TURNS 4

/* A probe that takes longer is as bad as a refusal. */
#define URING_PROBE_SECONDS 5

typedef struct Overflow {
    struct io_uring_sqe sqe;
    QSIMPLEQ_ENTRY(Overflow) next;
} Overflow;

struct AioUring {
    struct io_uring ring;
    QSIMPLEQ_HEAD(, Overflow) overflow;
    int idle_turns;
    AioSpin spin;
    uint64_t notify_value;
    AioUringReq notify;
};

static const int required_ops[] = {
    IORING_OP_READ,    IORING_OP_READV,        IORING_OP_WRITE,    IORING_OP_WRITEV,
    IORING_OP_FSYNC,   IORING_OP_FALLOCATE,    IORING_OP_POLL_ADD, IORING_OP_RECV,
    IORING_OP_SENDMSG, IORING_OP_ASYNC_CANCEL,
};

static void uring_bug(const char *what, int err)
{
    fprintf(stderr, "%s: %s\n", what, strerror(err));
    abort();
}

/* Submit what is queued, without waiting; the kernel may post completions. */
static void uring_enter(AioUring *u)
{
    int ret = io_uring_submit(&u->ring);

    /* EBUSY: too many completions wait to be taken; EAGAIN: no memory now.  What is queued stays. */
    if (ret < 0 && ret != -EBUSY && ret != -EAGAIN && ret != -EINTR) {
        uring_bug("io_uring refuses to submit", -ret);
    }
    u->idle_turns = 0;
}

/* U3 */
static void overflow_drain(AioUring *u)
{
    Overflow *o;

    while ((o = QSIMPLEQ_FIRST(&u->overflow))) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

        if (!sqe) {
            return;
        }
        *sqe = o->sqe;
        QSIMPLEQ_REMOVE_HEAD(&u->overflow, next);
        g_free(o);
    }
}

static void uring_queue_sqe(AioUring *u, const struct io_uring_sqe *template, AioUringReq *req)
{
    struct io_uring_sqe *sqe = NULL;
    bool in_ring;

    if (QSIMPLEQ_EMPTY(&u->overflow)) {
        sqe = io_uring_get_sqe(&u->ring);
        if (!sqe) {
            uring_enter(u);
            sqe = io_uring_get_sqe(&u->ring);
        }
    }
    in_ring = sqe != NULL;
    if (!in_ring) {
        Overflow *o = g_new(Overflow, 1);

        QSIMPLEQ_INSERT_TAIL(&u->overflow, o, next);
        sqe = &o->sqe;
    }
    *sqe = *template;
    io_uring_sqe_set_data(sqe, req);
    if (in_ring && io_uring_sq_ready(&u->ring) >= URING_SUBMIT_BATCH) { /* U1 */
        uring_enter(u);
    }
}

void aio_uring_queue(AioContext *ctx, const struct io_uring_sqe *sqe, AioUringReq *req)
{
    uring_queue_sqe(ctx->uring, sqe, req);
}

void aio_uring_cancel(AioContext *ctx, AioUringReq *req)
{
    struct io_uring_sqe sqe;

    io_uring_prep_cancel(&sqe, req, 0);
    uring_queue_sqe(ctx->uring, &sqe, NULL); /* its own outcome says nothing */
}

static void co_done(AioUringReq *req, int res, uint32_t flags)
{
    AioUringCo *wait = container_of(req, AioUringCo, req);

    wait->res = res;
    wait->flags = flags;
    qemu_coroutine_enter(wait->co);
}

int coroutine_fn aio_uring_co(AioContext *ctx, const struct io_uring_sqe *sqe, AioUringCo *wait)
{
    wait->req.done = co_done;
    wait->co = qemu_coroutine_self();
    wait->res = -EINPROGRESS;
    uring_queue_sqe(ctx->uring, sqe, &wait->req);
    qemu_coroutine_yield();
    assert(wait->res != -EINPROGRESS); /* entered by somebody else while it waited? */
    return wait->res;
}

/* Another thread wants us to look at the lists: being awake is all, reading makes it quiet again. */
static void notify_start(AioContext *ctx)
{
    AioUring *u = ctx->uring;
    struct io_uring_sqe sqe;

    io_uring_prep_read(&sqe, ctx->notify_fd, &u->notify_value, sizeof(u->notify_value), 0);
    uring_queue_sqe(u, &sqe, &u->notify);
}

static void uring_dispatch_one(AioContext *ctx, struct io_uring_cqe *cqe)
{
    AioUringReq *req = io_uring_cqe_get_data(cqe);
    int res = cqe->res;
    uint32_t flags = cqe->flags;

    /* Given back first: req may run for long, and queue and wait for more. */
    io_uring_cq_advance(&ctx->uring->ring, 1);
    if (req == &ctx->uring->notify) {
        notify_start(ctx);
    } else if (req) {
        req->done(req, res, flags);
    }
}

static bool uring_dispatch(AioContext *ctx)
{
    AioUring *u = ctx->uring;
    unsigned ready = io_uring_cq_ready(&u->ring); /* A1: not those that come meanwhile */
    struct io_uring_cqe *cqe;

    for (unsigned i = 0; i < ready; i++) {
        if (io_uring_peek_cqe(&u->ring, &cqe) < 0) {
            break;
        }
        uring_dispatch_one(ctx, cqe);
    }
    return ready > 0;
}

/* A completion is here, or the kernel has the makings of one (U2). */
static bool completion_seen(void *opaque)
{
    AioUring *u = opaque;

    return io_uring_cq_ready(&u->ring) > 0 ||
           __atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN;
}

static void uring_wait(AioContext *ctx, int64_t timeout_ns)
{
    AioUring *u = ctx->uring;
    struct __kernel_timespec ts = {
        .tv_sec = timeout_ns / NANOSECONDS_PER_SECOND,
        .tv_nsec = timeout_ns % NANOSECONDS_PER_SECOND,
    };
    struct io_uring_cqe *cqe;
    bool have_work = io_uring_cq_ready(&u->ring) > 0 || aio_has_ready(ctx);
    unsigned queued;
    int ret;

    overflow_drain(u);
    queued = io_uring_sq_ready(&u->ring);
    if (have_work && u->idle_turns < URING_IDLE_TURNS && queued < URING_ENTRIES / 2) {
        u->idle_turns++; /* U1 */
        return;
    }
    if (have_work || timeout_ns == 0) {
        trace_aio_submit(ctx, queued);
        uring_enter(u);
        return;
    }
    trace_aio_submit(ctx, queued);
    if (aio_spin_wanted(&u->spin, ctx->busy)) { /* U5 */
        uring_enter(u);
        if (!aio_spin(&u->spin, timeout_ns, completion_seen, u) || io_uring_cq_ready(&u->ring)) {
            return; /* in vain: timers may be due by now, and the next turn sleeps */
        }
    }
    u->idle_turns = 0;
    ret = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, timeout_ns < 0 ? NULL : &ts, NULL);
    if (ret < 0 && ret != -ETIME && ret != -EINTR && ret != -EBUSY && ret != -EAGAIN) {
        uring_bug("io_uring refuses to wait", -ret);
    }
}

static void poll_done(AioUringReq *req, int res, uint32_t flags)
{
    AioPoll *poll = container_of(req, AioPoll, ring);

    poll->armed = false;
    /* A descriptor that cannot be waited for is for its user to find out: reading says why. */
    poll->cb(poll, res == -ECANCELED ? res : res < 0 ? POLLERR : res);
}

static void uring_poll_start(AioContext *ctx, AioPoll *poll)
{
    struct io_uring_sqe sqe;

    assert(!poll->armed);
    poll->armed = true;
    poll->cancelling = false;
    poll->ring.done = poll_done;
    io_uring_prep_poll_add(&sqe, poll->fd, poll->events);
    uring_queue_sqe(ctx->uring, &sqe, &poll->ring);
}

static void uring_poll_cancel(AioContext *ctx, AioPoll *poll)
{
    if (!poll->cancelling) {
        poll->cancelling = true;
        aio_uring_cancel(ctx, &poll->ring);
    }
}

static void uring_forget_fd(AioContext *ctx, int fd)
{
    /* Each wait is a request of its own, which holds the file, not the number. */
}

/* U2: the best set of flags that this kernel takes. */
static int ring_setup(struct io_uring *ring)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int ret = -EINVAL;

    for (size_t i = 0; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
        ret = io_uring_queue_init(URING_ENTRIES, ring, flags[i]);
    }
    return ret;
}

static int ring_check_features(struct io_uring *ring, Error **errp)
{
    const unsigned features = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL;
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    int ret = 0;

    if ((ring->features & features) != features || !probe) {
        error_setg(errp, "this kernel's io_uring is too old");
        ret = -ENOSYS;
    }
    for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(required_ops); i++) {
        if (!io_uring_opcode_supported(probe, required_ops[i])) {
            error_setg(errp, "this kernel's io_uring lacks operation %d", required_ops[i]);
            ret = -ENOSYS;
        }
    }
    if (probe) {
        io_uring_free_probe(probe);
    }
    return ret;
}

/* One request, there and back: seccomp or a security module may allow the set-up and nothing more. */
static int ring_check_request(AioContext *ctx, Error **errp)
{
    AioUring *u = ctx->uring;
    struct __kernel_timespec ts = {.tv_sec = URING_PROBE_SECONDS};
    struct io_uring_cqe *cqe;
    int ret;

    if (eventfd_write(ctx->notify_fd, 1) < 0) {
        error_setg_errno(errp, errno, "Cannot write to an event descriptor");
        return -EIO;
    }
    notify_start(ctx);
    ret = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
    if (ret >= 0) {
        ret = io_uring_peek_cqe(&u->ring, &cqe);
    }
    if (ret == 0) {
        ret = cqe->res < 0 ? cqe->res : cqe->res == sizeof(uint64_t) ? 0 : -EIO;
        io_uring_cq_advance(&u->ring, 1);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "a request through io_uring failed");
    }
    return ret;
}

static int uring_init(AioContext *ctx, Error **errp)
{
    AioUring *u = g_new0(AioUring, 1);
    int ret = ring_setup(&u->ring);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "io_uring is refused");
        g_free(u);
        return ret;
    }
    QSIMPLEQ_INIT(&u->overflow);
    ctx->uring = u;
    ret = ring_check_features(&u->ring, errp);
    if (ret == 0) {
        ret = ring_check_request(ctx, errp);
    }
    if (ret < 0) {
        io_uring_queue_exit(&u->ring);
        g_free(u);
        ctx->uring = NULL;
        return ret;
    }
    /* Spares the look-up of the ring's descriptor in each call; where it cannot be had, so be it. */
    io_uring_register_ring_fd(&u->ring);
    notify_start(ctx);
    return 0;
}

static void uring_fini(AioContext *ctx)
{
    AioUring *u = ctx->uring;
    Overflow *o;

    while ((o = QSIMPLEQ_FIRST(&u->overflow))) {
        QSIMPLEQ_REMOVE_HEAD(&u->overflow, next);
        g_free(o);
    }
    io_uring_queue_exit(&u->ring);
    g_free(u);
    ctx->uring = NULL;
}

const AioEngineOps aio_uring_ops = {
    .name = "io_uring",
    .init = uring_init,
    .fini = uring_fini,
    .wait = uring_wait,
    .dispatch = uring_dispatch,
    .poll_start = uring_poll_start,
    .poll_cancel = uring_poll_cancel,
    .forget_fd = uring_forget_fd,
};
