/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Throttle groups: who goes next, and when.
 *
 *      member A   r1 r2 r3 ──┐
 *      member B   r1 ────────┼──▶ leader ── sleeps until the buckets let it through ──▶ goes, charges,
 *      member C   r1 r2 ─────┘                                                          names the next
 *                  queues, one for reads and one for writes each
 *
 * There is no thread and no timer of the group: of all waiting requests of one direction one is the
 * leader, and sleeps in its own AioContext.  The others wait to be named.
 *
 * T1  While requests of a direction wait, one of them is its leader; the leader is awake or has a timer.
 * T2  The next leader is the oldest request of the next member, in turn, that has one: a member with
 *     many requests waits as long for its next one as a member with few.
 * T3  A request is woken at most once between two looks at the clock (`woken`), whoever wants to:
 *     timer, drain, new limits, or the leader before it.
 * T4  A request that is let go without waiting is charged all the same; those after it pay.
 * T5  A request that nobody wants any more leaves without being let through, and is not charged.
 *
 * Everything below is under group->lock, which is never held across a yield.
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/filters/throttle-group.h"
#include "block/filters/throttle/bucket.h"
#include "object/object.h"
#include "util/osdep.h"
#include "util/queue.h"
#include "trace-throttle.h"

typedef struct ThrottleRequest ThrottleRequest;
struct ThrottleRequest {
    Coroutine *co;
    ThrottleGroupMember *member;
    bool woken;     /* T3 */
    bool cancelled; /* T5 */
    QSIMPLEQ_ENTRY(ThrottleRequest) next;
};

struct ThrottleGroupMember {
    ThrottleGroup *group;
    UserObject *object; /* counted */
    /* Under group->lock. */
    unsigned released; /* drained: requests do not wait */
    unsigned waiting;
    QSIMPLEQ_HEAD(, ThrottleRequest) queue[2]; /* reads, writes */
    QTAILQ_ENTRY(ThrottleGroupMember) next;
};

struct ThrottleGroup {
    GMutex lock;
    /* Under lock. */
    Throttle throttle;
    ThrottleRequest *leader[2];
    QTAILQ_HEAD(, ThrottleGroupMember) members; /* in turn: who was served goes to the end */
};

static void wake(ThrottleRequest *req)
{
    if (!req->woken) { /* T3 */
        req->woken = true;
        aio_co_wake(req->co);
    }
}

/* T1 T2 */
static void name_leader(ThrottleGroup *g, bool is_write)
{
    ThrottleGroupMember *m;

    if (g->leader[is_write]) {
        return;
    }
    QTAILQ_FOREACH (m, &g->members, next) {
        ThrottleRequest *req = QSIMPLEQ_FIRST(&m->queue[is_write]);

        if (req) {
            g->leader[is_write] = req;
            wake(req);
            return;
        }
    }
}

static void timer_cb(void *opaque)
{
    ThrottleRequest *req = opaque;
    ThrottleGroup *g = req->member->group;

    g_mutex_lock(&g->lock);
    wake(req);
    g_mutex_unlock(&g->lock);
}

/* Called and returns with the lock held; drops it to sleep.  @ns < 0: until somebody wakes us. */
static void coroutine_fn sleep_unlocked(ThrottleGroup *g, ThrottleRequest *req, int64_t ns)
{
    QEMUTimer *timer = NULL;

    req->woken = false;
    if (ns >= 0) {
        timer = aio_timer_new(qemu_get_current_aio_context(), timer_cb, req);
        timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + ns);
    }
    g_mutex_unlock(&g->lock);
    qemu_coroutine_yield();
    if (timer) {
        timer_free(timer);
    }
    g_mutex_lock(&g->lock);
}

static void coroutine_fn wait_for_turn(ThrottleGroup *g, ThrottleRequest *req, bool is_write)
{
    while (req->member->released == 0 && !req->cancelled) {
        int64_t ns = -1;

        name_leader(g, is_write);
        if (g->leader[is_write] == req) {
            ns = throttle_wait_ns(&g->throttle, is_write, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
            if (ns == 0) {
                return;
            }
            trace_throttle_wait(is_write, ns);
        }
        sleep_unlocked(g, req, ns);
    }
}

int coroutine_fn throttle_group_co_limit(ThrottleGroupMember *m, int64_t bytes, bool is_write)
{
    ThrottleGroup *g = m->group;
    /* woken: awake it is, so name_leader() must not wake it a second time. */
    ThrottleRequest req = {.co = qemu_coroutine_self(), .member = m, .woken = true};

    g_mutex_lock(&g->lock);
    if (throttle_enabled(&g->throttle) || g->leader[is_write]) {
        QSIMPLEQ_INSERT_TAIL(&m->queue[is_write], &req, next);
        m->waiting++;
        wait_for_turn(g, &req, is_write);
        m->waiting--;
        QSIMPLEQ_REMOVE(&m->queue[is_write], &req, ThrottleRequest, next);
        if (g->leader[is_write] == &req) {
            g->leader[is_write] = NULL;
            QTAILQ_REMOVE(&g->members, m, next); /* T2 */
            QTAILQ_INSERT_TAIL(&g->members, m, next);
        }
        if (!req.cancelled) {
            throttle_charge(&g->throttle, is_write, bytes); /* T4 */
        }
        name_leader(g, is_write);
    }
    g_mutex_unlock(&g->lock);
    return req.cancelled ? -ECANCELED : 0;
}

static void wake_all(ThrottleGroupMember *m)
{
    ThrottleRequest *req;

    for (int dir = 0; dir < 2; dir++) {
        QSIMPLEQ_FOREACH (req, &m->queue[dir], next) {
            wake(req);
        }
    }
}

void throttle_group_member_cancel(ThrottleGroupMember *m)
{
    ThrottleRequest *req;

    g_mutex_lock(&m->group->lock);
    for (int dir = 0; dir < 2; dir++) {
        QSIMPLEQ_FOREACH (req, &m->queue[dir], next) {
            req->cancelled = true; /* T5 */
        }
    }
    wake_all(m);
    g_mutex_unlock(&m->group->lock);
}

void throttle_group_member_release_begin(ThrottleGroupMember *m)
{
    g_mutex_lock(&m->group->lock);
    if (m->released++ == 0) {
        wake_all(m);
    }
    g_mutex_unlock(&m->group->lock);
}

void throttle_group_member_release_end(ThrottleGroupMember *m)
{
    g_mutex_lock(&m->group->lock);
    assert(m->released > 0);
    m->released--;
    g_mutex_unlock(&m->group->lock);
}

unsigned throttle_group_member_waiting(ThrottleGroupMember *m)
{
    unsigned n;

    g_mutex_lock(&m->group->lock);
    n = m->waiting;
    g_mutex_unlock(&m->group->lock);
    return n;
}

ThrottleGroupMember *throttle_group_join(const char *id, Error **errp)
{
    ThrottleGroup *g = throttle_group_find(id, errp);
    ThrottleGroupMember *m;

    if (!g) {
        return NULL;
    }
    m = g_new0(ThrottleGroupMember, 1);
    m->object = object_ref_by_id(id, TYPE_THROTTLE_GROUP, errp);
    if (!m->object) {
        g_free(m);
        return NULL;
    }
    m->group = g;
    QSIMPLEQ_INIT(&m->queue[0]);
    QSIMPLEQ_INIT(&m->queue[1]);
    g_mutex_lock(&g->lock);
    QTAILQ_INSERT_TAIL(&g->members, m, next);
    g_mutex_unlock(&g->lock);
    return m;
}

void throttle_group_leave(ThrottleGroupMember *m)
{
    ThrottleGroup *g = m->group;

    g_mutex_lock(&g->lock);
    assert(m->waiting == 0);
    QTAILQ_REMOVE(&g->members, m, next);
    g_mutex_unlock(&g->lock);
    object_unref(m->object);
    g_free(m);
}

const char *throttle_group_member_id(const ThrottleGroupMember *m)
{
    return object_id(m->object);
}

static void finalise(UserObject *object)
{
    ThrottleGroup *g = object_instance(object);

    assert(QTAILQ_EMPTY(&g->members));
    g_mutex_clear(&g->lock);
    g_free(g);
}

static const UserObjectOps group_ops = {
    .finalise = finalise,
};

/* The names for the command line are put over those of the limits member. */
#define MERGE(l, props, name)              \
    do {                                   \
        if ((props)->has_x_##name) {       \
            (l)->has_##name = true;        \
            (l)->name = (props)->x_##name; \
        }                                  \
    } while (0)
#define MERGE_BUCKET(l, props, name)        \
    do {                                    \
        MERGE(l, props, name);              \
        MERGE(l, props, name##_max);        \
        MERGE(l, props, name##_max_length); \
    } while (0)

static void merge_limits(ThrottleLimits *l, const ThrottleGroupProperties *props)
{
    if (props->limits) {
        *l = *props->limits;
    }
    MERGE_BUCKET(l, props, bps_total);
    MERGE_BUCKET(l, props, bps_read);
    MERGE_BUCKET(l, props, bps_write);
    MERGE_BUCKET(l, props, iops_total);
    MERGE_BUCKET(l, props, iops_read);
    MERGE_BUCKET(l, props, iops_write);
    MERGE(l, props, iops_size);
}

int throttle_group_object_add(const char *id, const ThrottleGroupProperties *props, Error **errp)
{
    ThrottleGroup *g = g_new0(ThrottleGroup, 1);
    ThrottleLimits limits = {0};
    int ret;

    if (props) {
        merge_limits(&limits, props);
    }
    ret = throttle_parse(&g->throttle, &limits, errp);

    if (ret == 0) {
        g_mutex_init(&g->lock);
        QTAILQ_INIT(&g->members);
        if (!object_register_instance(id, TYPE_THROTTLE_GROUP, g, &group_ops, errp)) {
            g_mutex_clear(&g->lock);
            ret = -EEXIST;
        }
    }
    if (ret < 0) {
        g_free(g);
    }
    return ret;
}

ThrottleGroup *throttle_group_find(const char *id, Error **errp)
{
    ThrottleGroup *g = object_find(id, TYPE_THROTTLE_GROUP);

    if (!g) {
        error_setg(errp, "Throttle group '%s' does not exist", id);
    }
    return g;
}

int throttle_group_set_limits(ThrottleGroup *g, const ThrottleLimits *limits, Error **errp)
{
    Throttle next;
    int ret = throttle_parse(&next, limits, errp);

    if (ret < 0) {
        return ret;
    }
    g_mutex_lock(&g->lock);
    throttle_take_limits(&g->throttle, &next);
    for (int dir = 0; dir < 2; dir++) {
        if (g->leader[dir]) {
            wake(g->leader[dir]); /* it looks at the clock again */
        }
    }
    g_mutex_unlock(&g->lock);
    return 0;
}

#define FILL(l, name, b)                      \
    do {                                      \
        (l)->has_##name = true;               \
        (l)->name = (b)->avg;                 \
        (l)->has_##name##_max = true;         \
        (l)->name##_max = (b)->max;           \
        (l)->has_##name##_max_length = true;  \
        (l)->name##_max_length = (b)->length; \
    } while (0)

ThrottleLimits *throttle_group_get_limits(ThrottleGroup *g)
{
    ThrottleLimits *l = g_new0(ThrottleLimits, 1);
    const LeakyBucket *b = g->throttle.buckets;

    g_mutex_lock(&g->lock);
    FILL(l, bps_total, &b[BUCKET_BPS_TOTAL]);
    FILL(l, bps_read, &b[BUCKET_BPS_READ]);
    FILL(l, bps_write, &b[BUCKET_BPS_WRITE]);
    FILL(l, iops_total, &b[BUCKET_OPS_TOTAL]);
    FILL(l, iops_read, &b[BUCKET_OPS_READ]);
    FILL(l, iops_write, &b[BUCKET_OPS_WRITE]);
    l->has_iops_size = true;
    l->iops_size = g->throttle.op_size;
    g_mutex_unlock(&g->lock);
    return l;
}
