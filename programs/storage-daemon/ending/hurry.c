/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hurry.c - what hangs does not keep the daemon from an end in order
 *
 *      0 s        1 s              2 s                                        5 s
 *      |  in order |  it is watched |  what hung all the while is given up     |  watchdog, shutdown.c
 *
 *      commands   nodes that are being opened, and nodes that somebody quiesces
 *      jobs       the same; and the jobs, as by a second forced cancel
 *      clients    nodes: nobody begins anything new there
 *      nodes      the same
 *
 * HU1  A node is given up when requests were in flight there at each look for a second, at a time when no new ones
 *      begin.  So one that is only busy is not.  It is said, once a node.
 * HU2  All nodes are flushed, side by side, before the first one is closed: one that hangs keeps no other from it.
 *      If the end takes long they are flushed at once, too: the watchdog may be next.
 */
#include "programs/storage-daemon/daemon.h"

#include "aio/timer.h"
#include "block/graph/graph.h"
#include "block/io/io.h"
#include "block/jobs/job.h"
#include "coro/lock.h"
#include "util/osdep.h"

#define LOOK_NS  (250 * SCALE_MS)
#define WATCH_NS (INT64_C(1000) * SCALE_MS)
/* HU1: a second. */
#define LOOKS    4

static DaemonEnding ending;
static const char *what = "starting";
static const char *told; /* the part that was said to take long */
static QEMUTimer *timer;
static GHashTable *watched; /* nodes, only compared */
static GHashTable *looks;   /* node, only compared -> how many looks in a row it was found busy */
static int flushing;        /* coroutines */
static CoQueue flushed;
static unsigned looked;

typedef struct Flush {
    BlockDriverState *bs; /* counted, and in flight */
    AioContext *home;
} Flush;

static void coroutine_fn flush_entry(void *opaque)
{
    Flush *f = opaque;

    if (!in_aio_context(f->home)) {
        aio_co_reschedule_self(f->home);
    }
    bdrv_co_flush_written(
        f->bs); /* nobody is left to tell of an error; users who care have flushed */
    if (!in_aio_context(qemu_get_aio_context())) {
        aio_co_reschedule_self(qemu_get_aio_context());
    }
    bdrv_dec_in_flight(f->bs);
    bdrv_co_unref(f->bs);
    g_free(f);
    flushing--;
    qemu_co_queue_restart_all(&flushed);
}

/* HU2.  A node that somebody quiesces is not for us. */
static void start_flush(BlockDriverState *bs, void *opaque)
{
    Flush *f;

    if (bs->closing || !bs->drv || bs->total_bytes < 0 || bs->given_up || bdrv_is_read_only(bs) ||
        __atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0) {
        return;
    }
    f = g_new(Flush, 1);
    *f = (Flush){.bs = bs, .home = bdrv_get_aio_context(bs)};
    bdrv_ref(bs);
    bdrv_inc_in_flight(bs);
    flushing++;
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(flush_entry, f));
}

void coroutine_fn daemon_co_flush_nodes(void)
{
    bdrv_for_each_node(start_flush, NULL);
    while (flushing > 0) {
        qemu_co_queue_wait(&flushed, NULL);
    }
}

static void watch(BlockDriverState *bs)
{
    BdrvChild *c;

    g_hash_table_add(watched, bs);
    QLIST_FOREACH (c, &bs->children, next) {
        if (!QLIST_NEXT(QLIST_FIRST(&c->bs->parents),
                        next_parent)) { /* it works for this one alone */
            watch(c->bs);
        }
    }
}

/* HU1: may what is in flight be taken for what hangs? */
static void watch_if_quiet(BlockDriverState *bs, void *opaque)
{
    if (ending >= DAEMON_ENDING_CLIENTS || bs->closing ||
        __atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0) {
        watch(bs);
    }
}

static bool can_cancel(const BlockDriverState *bs)
{
    return bs->drv && bs->drv->life->cancel_in_flight;
}

/* HU1 */
static void give_up(BlockDriverState *bs)
{
    if (!bs->given_up && can_cancel(bs)) {
        warn_report("%s: node '%s' does not answer, what is in flight there is given up", what,
                    bdrv_get_node_name(bs));
    }
    bs->given_up = true;
    if (can_cancel(bs)) {
        bs->drv->life->cancel_in_flight(bs);
    }
}

static void look_at_node(BlockDriverState *bs, void *opaque)
{
    int busy = 0;

    if (__atomic_load_n(&bs->in_flight, __ATOMIC_SEQ_CST) > 0) {
        busy = g_hash_table_contains(watched, bs)
                   ? 1 + GPOINTER_TO_INT(g_hash_table_lookup(looks, bs))
                   : 0;
    } else if (looked > LOOKS && ending == DAEMON_ENDING_COMMANDS && can_cancel(bs)) {
        bs->drv->life->cancel_in_flight(
            bs); /* if it is being opened; an idle one notices nothing */
    }
    g_hash_table_insert(looks, bs, GINT_TO_POINTER(busy));
    if (busy > LOOKS || bs->given_up) {
        give_up(bs);
    }
}

static void look(void *opaque)
{
    looked++;
    g_hash_table_remove_all(watched);
    bdrv_for_each_node(watch_if_quiet, NULL);
    bdrv_for_each_node(look_at_node, NULL);
    if (looked > LOOKS && ending <= DAEMON_ENDING_JOBS) {
        if (told != what) {
            warn_report("%s: takes long, what waits for a server is given up", what);
            told = what;
        }
        job_hurry_all();
    }
    if (looked == LOOKS + 1) {
        bdrv_for_each_node(start_flush, NULL);
    }
    timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + LOOK_NS);
}

void daemon_hurry_begin(void)
{
    if (timer) {
        return;
    }
    looks = g_hash_table_new(NULL, NULL);
    watched = g_hash_table_new(NULL, NULL);
    qemu_co_queue_init(&flushed);
    timer = aio_timer_new(qemu_get_aio_context(), look, NULL);
    timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + WATCH_NS);
}

void daemon_hurry_enter(DaemonEnding e, const char *name)
{
    ending = e;
    what = name;
}

void daemon_hurry_end(void)
{
    if (timer) {
        timer_free(timer);
        timer = NULL;
        g_hash_table_destroy(watched);
        g_hash_table_destroy(looks);
        qemu_co_queue_destroy(&flushed);
    }
}
