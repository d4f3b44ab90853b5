/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is at work where on the disk: the table is in qcow2-int.h. */
#include "block/drivers/qcow2/qcow2-int.h"
#include "util/osdep.h"

static bool excludes(Qcow2RangeKind before, Qcow2RangeKind now)
{
    if (before == QCOW2_RANGE_FREE || now == QCOW2_RANGE_FREE) {
        return true;
    }
    return before == QCOW2_RANGE_ALLOC && now == QCOW2_RANGE_ALLOC;
}

static Qcow2Range *first_in_the_way(Qcow2State *s, const Qcow2Range *r)
{
    Qcow2Range *other;

    if (s->exclusive == 0) {
        return NULL;
    }
    for (other = QTAILQ_FIRST(&s->ranges); other != r; other = QTAILQ_NEXT(other, next)) {
        if (other->start < r->end && r->start < other->end && excludes(other->kind, r->kind)) {
            return other;
        }
    }
    return NULL;
}

bool coroutine_fn qcow2_co_range_begin(Qcow2State *s, Qcow2Range *r, Qcow2RangeKind kind,
                                       int64_t start, int64_t end)
{
    bool waited = false;
    Qcow2Range *other;

    *r = (Qcow2Range){.kind = kind, .start = start, .end = end};
    qemu_co_queue_init(&r->waiters);
    QTAILQ_INSERT_TAIL(&s->ranges, r, next);
    s->exclusive += kind > QCOW2_RANGE_WRITE;
    while ((other = first_in_the_way(s, r))) {
        waited = true;
        qemu_co_queue_wait(&other->waiters, NULL);
    }
    return waited;
}

void qcow2_range_end(Qcow2State *s, Qcow2Range *r)
{
    s->exclusive -= r->kind > QCOW2_RANGE_WRITE;
    QTAILQ_REMOVE(&s->ranges, r, next);
    qemu_co_queue_restart_all(&r->waiters);
    qemu_co_queue_destroy(&r->waiters);
}
