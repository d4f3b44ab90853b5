/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a mirror that was READY: the last of it is copied while guests are stopped, and they go on with the
 * target, or (a cancel without force) with the source.
 *
 *     run() has ended: level                                       guests
 *        |   PENDING, as long as job-finalize does not come        write, and mark dirty
 *        v
 *     copy until level again, flush                                write
 *        v
 *     quiesce source and target  ----------------------------------- stopped
 *        |   copy what is dirty, flush; longer than MIRROR_SETTLE_NS: let them go, and once more
 *        |   M6: nothing in flight, nothing dirty, flushed
 *        v   the users of the source go to the target; the tap is taken off
 *     end of the quiesce  ------------------------------------------ go on, with the target
 *
 * E1  Whoever quiesces one of our nodes meanwhile waits until we drive nothing: engine_active is raised before
 *     we look whether they are quiet, as in D2, and lowered when nothing is in flight.
 * E2  From "pivoting" on a cancel comes too late: the users of the source are about to be elsewhere.
 * E3  In our own quiesce we drive only when nobody else holds one: he may have got there before us, and count
 *     on it that nothing moves.
 */
#include <errno.h>
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"
#include "trace-mirror.h"

static bool is_quiesced(const BdrvChild *c)
{
    return c && __atomic_load_n(&c->bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0;
}

static bool somebody_waits(const MirrorBlockJob *s)
{
    return is_quiesced(s->source) || is_quiesced(s->target);
}

static int in_flight(const MirrorBlockJob *s)
{
    return __atomic_load_n(&s->in_flight, __ATOMIC_SEQ_CST);
}

void mirror_drained_changed(BlockJob *job)
{
    qemu_co_queue_restart_all(&mirror_job_of(job)->quiet_queue);
}

/* E1 */
bool mirror_drained_poll(BlockJob *job)
{
    MirrorBlockJob *s = mirror_job_of(job);

    return __atomic_load_n(&s->engine_active, __ATOMIC_SEQ_CST) || in_flight(s) > 0 ||
           __atomic_load_n(&s->active_running, __ATOMIC_SEQ_CST) > 0;
}

static void set_active(MirrorBlockJob *s, bool active)
{
    __atomic_store_n(&s->engine_active, active, __ATOMIC_SEQ_CST);
    if (!active) {
        bdrv_drain_kick();
    }
}

static void coroutine_fn go_home(MirrorBlockJob *s)
{
    AioContext *home = s->common.job.aio_context;

    if (!in_aio_context(home)) {
        aio_co_reschedule_self(home);
    }
}

static void coroutine_fn go_main(void)
{
    if (!in_aio_context(qemu_get_aio_context())) {
        aio_co_reschedule_self(qemu_get_aio_context());
    }
}

/* Main thread.  Return in the job's home, driving. */
static void coroutine_fn begin_driving(MirrorBlockJob *s)
{
    for (;;) {
        set_active(s, true); /* E1 */
        if (!somebody_waits(s)) {
            break;
        }
        set_active(s, false);
        qemu_co_queue_wait(&s->quiet_queue, NULL);
    }
    go_home(s);
}

static void coroutine_fn end_driving(MirrorBlockJob *s)
{
    go_main();
    set_active(s, false);
}

/* Again before what has failed. */
static int failure(MirrorBlockJob *s)
{
    return job_is_cancelled(&s->common.job) ? -ECANCELED : s->ret;
}

/* Job's home, guests write.  Return: -EAGAIN when somebody quiesces our nodes; 0 when level and flushed. */
static int coroutine_fn copy_beside_guests(MirrorBlockJob *s)
{
    while (failure(s) == 0 && !somebody_waits(s)) {
        if (mirror_is_level(s) || mirror_dirty_count(&s->dirty) == 0) {
            if (in_flight(s) > 0 || s->through_left > 0) {
                qemu_co_queue_wait(&s->wait, NULL);
                continue;
            }
            mirror_start_flush(s);
            while (in_flight(s) > 0) {
                qemu_co_queue_wait(&s->wait, NULL);
            }
            break;
        }
        if (!mirror_may_begin(s)) {
            qemu_co_queue_wait(&s->wait, NULL);
        } else {
            mirror_iteration(s);
        }
        mirror_update_progress(s);
    }
    while (in_flight(s) > 0) {
        qemu_co_queue_wait(&s->wait, NULL);
    }
    return failure(s) < 0 ? failure(s) : somebody_waits(s) ? -EAGAIN : 0;
}

/*
 * Job's home, guests are stopped.  Return: -EAGAIN when it takes too long; 0: equal, and flushed.  Otherwise
 * something may be in flight still: guests do not wait for it.
 */
static int coroutine_fn copy_the_rest(MirrorBlockJob *s)
{
    bool flushed = false;

    s->deadline_ns = mirror_now() + s->settle_ns;
    trace_mirror_settle(s, mirror_dirty_count(&s->dirty));
    while (failure(s) == 0 && mirror_now() < s->deadline_ns) {
        bool dirty = mirror_dirty_count(&s->dirty) > 0;

        if (dirty && mirror_may_begin(s)) {
            mirror_iteration(s);
        } else if (in_flight(s) > 0) {
            mirror_yield(s);
        } else if (!flushed) {
            mirror_start_flush(s);
            flushed = true;
        } else if (!dirty) {
            break;
        }
    }
    s->deadline_ns = 0;
    mirror_update_progress(s);
    if (failure(s) < 0) {
        return failure(s);
    }
    return in_flight(s) > 0 || mirror_dirty_count(&s->dirty) > 0 || !flushed ? -EAGAIN : 0;
}

/* Filters show what is below them: there the copy is the same disk. */
static bool shows_the_same(BlockDriverState *source, BlockDriverState *node)
{
    while (source && source != node) {
        source = source->drv && source->drv->is_filter ? child_bs(bdrv_filter_or_cow_child(source))
                                                       : NULL;
    }
    return source != NULL;
}

int mirror_find_replaced(BlockDriverState *source, const char *name, BlockDriverState **ret,
                         Error **errp)
{
    BlockDriverState *node = source;

    if (name) {
        node = bdrv_find_node(name);
        if (!node) {
            error_setg(errp, "Failed to find node with node-name='%s'", name);
            return -ENOENT;
        }
        if (!shows_the_same(source, node)) {
            error_setg(
                errp,
                "Cannot replace '%s' by a node mirrored from '%s', because it cannot be "
                "guaranteed that doing so would not lead to an abrupt change of visible data",
                name, bdrv_get_node_name(source));
            return -EINVAL;
        }
    }
    *ret = node;
    return 0;
}

/* Main thread, both quiesced, equal. */
static int coroutine_fn pivot(MirrorBlockJob *s, Error **errp)
{
    BlockDriverState *replaced;
    int ret = mirror_find_replaced(s->source->bs, s->replaces, &replaced, errp);

    if (ret == 0) {
        /* What the users of the source do is done to the target now, and we do nothing there any more. */
        ret = bdrv_child_try_set_perm(s->target, 0, BLK_PERM_ALL, errp);
    }
    if (ret == 0 && s->target_backing) {
        ret = bdrv_co_set_backing_hd(s->target->bs, s->target_backing, errp);
    }
    if (ret == 0) {
        ret = bdrv_co_replace_node(replaced, s->target->bs, errp);
    }
    trace_mirror_pivot(s, ret);
    return MIN(ret, 0);
}

/* Guests are stopped and nothing is driven. */
static int coroutine_fn finish(MirrorBlockJob *s, Error **errp)
{
    int ret = 0;

    assert(in_flight(s) == 0 && mirror_dirty_count(&s->dirty) == 0); /* M6 */
    assert(QLIST_EMPTY(&s->writes));
    if (s->pivot) {
        s->pivoting = true; /* E2 */
        ret = pivot(s, errp);
        s->pivoting = ret == 0;
    }
    /* Also when it was refused: the job fails, and may not write to the target any more. */
    mirror_tap_end(s);
    return ret == -EAGAIN ? -EBUSY : ret; /* not tried again */
}

/* E3.  An edge keeps its parent quiesced while its child is. */
static bool others_quiesce(const MirrorBlockJob *s, const BlockDriverState *bs)
{
    int holders = __atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST);
    BdrvChild *c;

    QLIST_FOREACH (c, &bs->children, next) {
        if (others_quiesce(s, c->bs)) {
            return true;
        }
        holders -= c->quiesced_parent;
    }
    return holders > (bs == s->source->bs) + (bs == s->target->bs);
}

/* Main thread, both quiesced by us. */
static int coroutine_fn settle(MirrorBlockJob *s, Error **errp)
{
    int ret;

    if (others_quiesce(s, s->source->bs) || others_quiesce(s, s->target->bs)) {
        return -EAGAIN; /* E3 */
    }
    set_active(s, true); /* E1 */
    go_home(s);
    ret = copy_the_rest(s);
    end_driving(s);
    if (ret == -EAGAIN) {
        s->settle_ns = MIN(2 * s->settle_ns, MIRROR_SETTLE_MAX_NS);
    }
    return ret == 0 ? finish(s, errp) : ret;
}

/* Main thread.  One try.  Return: -EAGAIN: once more. */
static int coroutine_fn try_to_finish(MirrorBlockJob *s, Error **errp)
{
    BlockDriverState *both[2] = {s->source->bs, s->target->bs};
    int ret;

    begin_driving(s);
    ret = copy_beside_guests(s);
    end_driving(s);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_drained_begin_list(both, 2);
    ret = settle(s, errp);
    bdrv_co_drained_end_list(both, 2);
    return ret;
}

/* Main thread.  What was begun while guests were stopped, and not waited for. */
static void coroutine_fn wait_for_idle(MirrorBlockJob *s)
{
    if (in_flight(s) > 0) { /* until then nobody moves us */
        go_home(s);
        while (in_flight(s) > 0) {
            qemu_co_queue_wait(&s->wait, NULL);
        }
        go_main();
    }
}

int coroutine_fn mirror_prepare(Job *j)
{
    MirrorBlockJob *s = container_of(j, MirrorBlockJob, common.job);
    Error *err = NULL;
    int ret;

    s->settle_ns = MIRROR_SETTLE_NS;
    do {
        ret = try_to_finish(s, &err);
    } while (ret == -EAGAIN && !job_is_cancelled(j));
    if (ret < 0) {
        wait_for_idle(s);
    }
    if (ret < 0 && job_is_cancelled(j)) {
        ret = -ECANCELED; /* whatever it was doing */
    }
    if (ret < 0 && s->ret < 0 && !job_is_cancelled(j)) {
        block_job_error_action(&s->common, BLOCKDEV_ON_ERROR_REPORT, s->error_is_read, -s->ret);
    }
    if (err) {
        assert(!j->err);
        j->err = err;
    }
    return ret;
}
