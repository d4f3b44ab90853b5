/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables that nobody has used for an interval are no longer kept in memory.
 *
 * A timer of the main thread, which opens and closes images, has the home AioContext mark pages as old, and give up those
 * that were marked before and are clean.  Who closes the image goes to the home AioContext, too, and arrives later.
 */
#include "aio/timer.h"
#include "block/drivers/qcow2/qcow2-int.h"
#include "util/osdep.h"

static void coroutine_fn clean_entry(void *opaque)
{
    Qcow2State *s = opaque;

    qcow2_co_cache_clean(s->l2);
    if (s->blocks) {
        qcow2_co_cache_clean(s->blocks);
    }
    bdrv_dec_in_flight(s->bs);
}

static void arm(Qcow2State *s)
{
    timer_mod_ns(s->clean_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                                     (int64_t)s->options.clean_interval_s * NANOSECONDS_PER_SECOND);
}

static void clean(void *opaque)
{
    Qcow2State *s = opaque;

    Coroutine *co = qemu_coroutine_create(clean_entry, s);

    bdrv_inc_in_flight(s->bs);
    if (s->bs->aio_context == qemu_get_current_aio_context()) {
        qemu_coroutine_enter(co);
    } else {
        aio_co_schedule(s->bs->aio_context, co);
    }
    arm(s);
}

void qcow2_clean_start(Qcow2State *s)
{
    qcow2_clean_stop(s);
    if (s->options.clean_interval_s) {
        s->clean_timer = aio_timer_new(qemu_get_aio_context(), clean, s);
        arm(s);
    }
}

void qcow2_clean_stop(Qcow2State *s)
{
    if (s->clean_timer) {
        timer_free(s->clean_timer);
        s->clean_timer = NULL;
    }
}
