/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor.c - QMP: a program that is asked and told by lines of JSON
 *
 *   chardev ──stream──▶ session ──request──▶ dispatch ──▶ commands/ ──▶ jobs, exports, nodes
 *      │    (one for       ▲                     │                            │
 *      │  each client)     └─────── reply ───────┘                            │
 *      │                   ▲                                                  │
 *      │                   └─ event ── events.c ◀──── qapi_event_send_*() ────┘
 *      └─ several clients at a time: each negotiates for itself and has its own stream of events
 *
 *   MO1  Everything here runs in the main thread; commands are coroutines of the main AioContext.
 *   MO2  A client can hold only bounded memory: MONITOR_SESSIONS_MAX sessions, each with a bounded
 *        input (SE1), parser (JSON's limits) and output (OQ1).
 *   MO3  Clients that have not negotiated never keep one out that wants to.
 *
 * session.c holds SE1-SE3, dispatch.c DI1-DI2, events.c EV1-EV3, outqueue.c OQ1-OQ2.
 */
#include "monitor-int.h"

#include <errno.h>
#include <glib.h>

#include "aio/aio.h"
#include "aio/timer.h"
#include "coro/lock.h"
#include "qapi/qapi-events-run-state.h"

/*
 * Clients of one monitor at a time.  A management program needs one or two; with the room's other limits
 * 64 keep a monitor below 200 MiB in the worst case.
 */
#define MONITOR_SESSIONS_MAX 64

/* How long clients may take to read their last replies while the program ends. */
#define MONITOR_FLUSH_NS (500 * INT64_C(1000000))

/* The version of QEMU whose QMP reference this monitor follows: clients choose their words by it. */
#define MONITOR_QEMU_MAJOR 10
#define MONITOR_QEMU_MINOR 0
#define MONITOR_QEMU_MICRO 0

struct Monitor {
    Chardev *chr;
    bool pretty;
    int sessions;
    bool accepting; /* the coroutine that takes new clients lives */
    CoQueue gone;   /* woken when a session or the accepting coroutine has ended */
};

static GSList *monitors; /* of Monitor */
static bool shutdown_requested;
static void (*shutdown_hook)(void);

json_t *monitor_version(void)
{
    return json_pack("{s{sisisi}ss}", "qemu", "micro", MONITOR_QEMU_MICRO, "minor",
                     MONITOR_QEMU_MINOR, "major", MONITOR_QEMU_MAJOR, "package",
                     "qblk " QBLK_VERSION);
}

bool monitor_is_pretty(const Monitor *monitor)
{
    return monitor->pretty;
}

void monitor_session_gone(Monitor *monitor)
{
    monitor->sessions--;
    qemu_co_queue_restart_all(&monitor->gone);
}

/* MO3: cut off the oldest client that has not negotiated; false: there is none. */
static bool coroutine_fn monitor_make_room(Monitor *monitor)
{
    QmpSession *s;

    QTAILQ_FOREACH (s, &qmp_sessions, next) {
        if (s->monitor == monitor && s->state != QMP_SESSION_READY) {
            qmp_session_end(s, true);
            while (monitor->sessions >= MONITOR_SESSIONS_MAX) {
                qemu_co_queue_wait(&monitor->gone, NULL);
            }
            return true;
        }
    }
    return false;
}

static void coroutine_fn monitor_accept(void *opaque)
{
    Monitor *monitor = opaque;
    MonStream *stream;

    while ((stream = chardev_co_next_stream(monitor->chr)) != NULL) {
        if (monitor->sessions >= MONITOR_SESSIONS_MAX && !monitor_make_room(monitor)) {
            mon_stream_free(stream);
            continue;
        }
        monitor->sessions++;
        qmp_session_start(monitor, stream);
    }
    monitor->accepting = false;
    qemu_co_queue_restart_all(&monitor->gone);
}

int monitor_new(Chardev *chr, bool pretty, Error **errp)
{
    Monitor *monitor;

    if (!chardev_claim(chr)) {
        error_setg(errp, "chardev \"%s\" is already in use", chardev_id(chr));
        return -EBUSY;
    }
    monitor = g_new0(Monitor, 1);
    monitor->chr = chr;
    monitor->pretty = pretty;
    monitor->accepting = true;
    qemu_co_queue_init(&monitor->gone);
    monitors = g_slist_append(monitors, monitor);
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(monitor_accept, monitor));
    return 0;
}

void monitor_set_shutdown_hook(void (*hook)(void))
{
    shutdown_hook = hook;
}

bool monitor_shutdown_requested(void)
{
    return shutdown_requested;
}

void monitor_request_shutdown(ShutdownCause cause)
{
    if (shutdown_requested) {
        return;
    }
    shutdown_requested = true;
    qapi_event_send_shutdown(false, cause);
    if (shutdown_hook) {
        shutdown_hook();
    }
}

void monitor_init(void)
{
    qmp_dispatch_init();
    monitor_events_init();
}

/* Cuts off who has not read its last replies in time. */
static void monitor_cut_off(void *opaque)
{
    QmpSession *s;

    QTAILQ_FOREACH (s, &qmp_sessions, next) {
        qmp_session_end(s, true);
    }
}

static void coroutine_fn monitor_co_free(Monitor *monitor)
{
    QmpSession *s;

    chardev_shutdown(monitor->chr);
    QTAILQ_FOREACH (s, &qmp_sessions, next) {
        if (s->monitor == monitor) {
            qmp_session_end(s, false);
        }
    }
    while (monitor->accepting || monitor->sessions > 0) {
        qemu_co_queue_wait(&monitor->gone, NULL);
    }
    qemu_co_queue_destroy(&monitor->gone);
    g_free(monitor);
}

void coroutine_fn monitor_co_cleanup(void)
{
    QEMUTimer *timer = aio_timer_new(qemu_get_aio_context(), monitor_cut_off, NULL);

    monitor_events_cleanup();
    timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + MONITOR_FLUSH_NS);
    for (GSList *l = monitors; l; l = l->next) {
        monitor_co_free(l->data);
    }
    g_slist_free(monitors);
    monitors = NULL;
    timer_free(timer);
}
