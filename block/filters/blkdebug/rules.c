/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules: which request fails, and what moves the state.
 *
 *    request ──▶ its events, one after the other ──▶ breakpoints ──▶ set-state ──▶ inject-error ──▶ down
 *                                                                                     │
 *                                                                                     └─▶ fails
 *
 * B1  All rules of one event see the state from before it; of several set-states the last one wins.
 * B2  An inject-error with an event is for the request that causes the event, one with none for every
 *     request that fits.  The first rule that fits decides.
 * B3  `once` means once: the rule is gone when it has hit.
 * B4  A node above that tells its events (BlockDriver.tells_events) says before a request what it is for.  Then
 *     the inject-errors of that event are armed, and those of what it told before are not any more; an armed
 *     rule is for every request that fits.
 */
#include <errno.h>
#include "block/filters/blkdebug/blkdebug-int.h"
#include "util/osdep.h"
#include "trace-blkdebug.h"

/* Without an iotype: every request that moves or secures data. */
#define DEFAULT_IOTYPES                                                     \
    (1u << BLKDEBUG_IO_TYPE_READ | 1u << BLKDEBUG_IO_TYPE_WRITE |           \
     1u << BLKDEBUG_IO_TYPE_WRITE_ZEROES | 1u << BLKDEBUG_IO_TYPE_DISCARD | \
     1u << BLKDEBUG_IO_TYPE_FLUSH)

bool blkdebug_causes_event(BlkdebugEvent event)
{
    switch (event) {
    case BLKDBG_READ_AIO:
    case BLKDBG_WRITE_AIO:
    case BLKDBG_FLUSH_TO_OS:
    case BLKDBG_FLUSH_TO_DISK:
    case BLKDBG_PWRITEV:
    case BLKDBG_PWRITEV_ZERO:
    case BLKDBG_PWRITEV_DONE:
        return true;
    default:
        return false;
    }
}

int blkdebug_add_error_rule(BlkdebugState *s, const BlkdebugInjectErrorOptions *o, Error **errp)
{
    BlkdebugRule *rule;

    if (o->has_errno && o->q_errno < 0) {
        error_setg(errp, "errno of an inject-error rule must not be negative");
        return -EINVAL;
    }
    if (o->has_sector && (o->sector < -1 || o->sector > INT64_MAX / BDRV_SECTOR_SIZE)) {
        error_setg(errp, "sector of an inject-error rule is out of range");
        return -EINVAL;
    }
    rule = g_new0(BlkdebugRule, 1);
    *rule = (BlkdebugRule){
        .is_error = true,
        .event = o->event,
        .state = o->has_state ? o->state : 0,
        .iotypes = o->has_iotype ? 1u << o->iotype : DEFAULT_IOTYPES,
        .error = o->has_errno ? o->q_errno : EIO,
        .sector = o->has_sector ? o->sector : -1,
        .once = o->has_once && o->once,
        .immediately = o->has_immediately && o->immediately,
    };
    QTAILQ_INSERT_TAIL(&s->rules, rule, next);
    return 0;
}

int blkdebug_add_state_rule(BlkdebugState *s, const BlkdebugSetStateOptions *o, Error **errp)
{
    BlkdebugRule *rule;

    rule = g_new0(BlkdebugRule, 1);
    rule->event = o->event;
    rule->state = o->has_state ? o->state : 0;
    rule->new_state = o->new_state;
    QTAILQ_INSERT_TAIL(&s->rules, rule, next);
    return 0;
}

int blkdebug_read_rules(BlkdebugState *s, const BlockdevOptionsBlkdebug *o, Error **errp)
{
    const BlkdebugInjectErrorOptionsList *e;
    const BlkdebugSetStateOptionsList *st;

    s->state = 1;
    for (e = o->inject_error; e; e = e->next) {
        int ret = blkdebug_add_error_rule(s, e->value, errp);

        if (ret < 0) {
            return ret;
        }
    }
    for (st = o->set_state; st; st = st->next) {
        int ret = blkdebug_add_state_rule(s, st->value, errp);

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

static void drop_rule(BlkdebugState *s, BlkdebugRule *rule)
{
    QTAILQ_REMOVE(&s->rules, rule, next);
    g_free(rule);
}

void blkdebug_free_rules(BlkdebugState *s)
{
    while (!QTAILQ_EMPTY(&s->rules)) {
        drop_rule(s, QTAILQ_FIRST(&s->rules));
    }
}

static bool state_fits(const BlkdebugState *s, const BlkdebugRule *rule)
{
    return rule->state == 0 || rule->state == s->state;
}

static bool request_fits(const BlkdebugRule *rule, const BlkdebugRequest *req)
{
    int64_t byte = rule->sector * BDRV_SECTOR_SIZE;

    if (!(rule->iotypes & (1u << req->type))) {
        return false;
    }
    return rule->sector < 0 || (byte >= req->offset && byte < req->offset + req->bytes);
}

/* Locked.  B1: @event happens to @req (NULL: to no request that could fail).  Returns the error rule. */
static BlkdebugRule *happen(BlkdebugState *s, BlkdebugEvent event, const BlkdebugRequest *req)
{
    BlkdebugRule *rule, *hit = NULL;
    int new_state = s->state;

    QTAILQ_FOREACH (rule, &s->rules, next) {
        if (rule->event != event || !state_fits(s, rule)) {
            continue;
        }
        if (!rule->is_error) {
            new_state = rule->new_state;
        } else if (!hit && req && request_fits(rule, req)) {
            hit = rule;
        }
    }
    s->state = new_state;
    return hit;
}

/* Locked.  B4: the first rule that is armed, and fits. */
static BlkdebugRule *find_armed(BlkdebugState *s, const BlkdebugRequest *req)
{
    BlkdebugRule *rule;

    QTAILQ_FOREACH (rule, &s->rules, next) {
        if (rule->armed && request_fits(rule, req)) {
            return rule;
        }
    }
    return NULL;
}

/* Locked.  B4 */
static void arm(BlkdebugState *s, BlkdebugEvent event)
{
    BlkdebugRule *rule;
    bool any = false;

    QTAILQ_FOREACH (rule, &s->rules, next) {
        any |= rule->is_error && rule->event == event && state_fits(s, rule);
    }
    QTAILQ_FOREACH (rule, &s->rules, next) {
        if (any) {
            rule->armed = rule->is_error && rule->event == event && state_fits(s, rule);
        }
    }
}

void coroutine_fn blkdebug_co_told(BlkdebugState *s, BlkdebugEvent event)
{
    blkdebug_co_hold(s, event, 0, 0);
    g_mutex_lock(&s->lock);
    arm(s, event);
    happen(s, event, NULL);
    g_mutex_unlock(&s->lock);
}

/* Leaves the request's turn in the loop: one round of the event loop passes, as if it had been sent. */
static void coroutine_fn yield_once(void)
{
    Coroutine *self = qemu_coroutine_self();

    aio_co_schedule(qemu_get_current_aio_context(), self);
    qemu_coroutine_yield();
}

int coroutine_fn blkdebug_co_check(BlkdebugState *s, const BlkdebugRequest *req)
{
    BlkdebugRule *hit;
    bool immediately = false;
    int error = 0;

    for (size_t i = 0; i < req->n_events; i++) {
        blkdebug_co_hold(s, req->events[i], req->offset, req->bytes);
    }
    g_mutex_lock(&s->lock);
    hit = happen(s, BLKDBG_NONE, req);
    hit = hit ? hit : find_armed(s, req);
    for (size_t i = 0; i < req->n_events; i++) {
        BlkdebugRule *rule = happen(s, req->events[i], req);

        hit = hit ? hit : rule;
    }
    if (hit) {
        error = hit->error;
        immediately = hit->immediately;
        if (hit->once) { /* B3 */
            drop_rule(s, hit);
        }
    }
    g_mutex_unlock(&s->lock);
    if (error == 0) {
        return 0;
    }
    trace_blkdebug_inject(req->type, req->offset, req->bytes, error);
    if (!immediately) {
        yield_once();
    }
    return -error;
}

void coroutine_fn blkdebug_co_done(BlkdebugState *s, BlkdebugEvent event, int64_t offset,
                                   int64_t bytes)
{
    blkdebug_co_hold(s, event, offset, bytes);
    g_mutex_lock(&s->lock);
    happen(s, event, NULL);
    g_mutex_unlock(&s->lock);
}
