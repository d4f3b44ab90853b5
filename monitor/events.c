/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * events.c - telling every negotiated client what happened
 *
 *      any thread ──▶ main thread ──▶ rate limit ──▶ each session in state READY
 *
 *   EV1  An event says when it happened (qapi/event.h), also when it was held back.
 *   EV2  Events of one kind and key come at most once in the kind's period: the first at once; of those
 *        that follow within the period only the last, at its end.
 *   EV3  Events that are not limited keep their order.
 *   EV4  An event that QEMU's clients do not know goes only to sessions that asked for it.
 */
#include "monitor-int.h"

#include <glib.h>

#include "aio/aio.h"
#include "aio/timer.h"
#include "qapi/event.h"
#include "trace-monitor.h"

#define EVENT_KEYS_MAX 3

/* The events that the QMP reference calls rate-limited, and by which members two of them are "the same". */
typedef struct EventLimit {
    const char *event;
    int64_t period_ns;
    const char *keys[EVENT_KEYS_MAX];
} EventLimit;

static const EventLimit event_limits[] = {
    {"BLOCK_IO_ERROR", INT64_C(1000000000), {"qom-path", "device", "node-name"}},
    {"QUORUM_REPORT_BAD", INT64_C(1000000000), {"node-name"}},
    {"QUORUM_FAILURE", INT64_C(1000000000), {NULL}},
};

/* A period that runs: lives in `held_events` under its key. */
typedef struct HeldEvent {
    char *key; /* the event's name and key members; also the hash key */
    const EventLimit *limit;
    json_t *pending; /* the latest of this period, to be sent at its end; NULL: none */
    QEMUTimer *timer;
} HeldEvent;

static GHashTable *held_events;

static void held_event_free(HeldEvent *held)
{
    timer_free(held->timer);
    if (held->pending) {
        json_decref(held->pending);
    }
    g_free(held->key);
    g_free(held);
}

/* EV4 */
static const struct {
    const char *event;
    QMPCapability needs;
} event_gates[] = {
    {"BACKUP_STAGING", QMP_CAPABILITY_BACKUP_STAGING_EVENTS},
};

/* The capabilities, as bits, that a session must have to get @event. */
static unsigned event_needs(const json_t *event)
{
    const char *name = json_string_value(json_object_get(event, "event"));

    for (size_t i = 0; i < G_N_ELEMENTS(event_gates); i++) {
        if (!strcmp(event_gates[i].event, name)) {
            return QMP_CAPABILITY_BIT(event_gates[i].needs);
        }
    }
    return 0;
}

static void monitor_broadcast(json_t *event)
{
    unsigned needs = event_needs(event);
    QmpSession *s, *next;

    QTAILQ_FOREACH_SAFE (s, &qmp_sessions, next, next) {
        if (s->state == QMP_SESSION_READY && (s->capabilities & needs) == needs) {
            qmp_session_send(s, json_incref(event));
        }
    }
}

static void held_event_expired(void *opaque)
{
    HeldEvent *held = opaque;

    if (!held->pending) {
        g_hash_table_remove(held_events, held->key);
        return;
    }
    monitor_broadcast(held->pending);
    json_decref(held->pending);
    held->pending = NULL;
    timer_mod_ns(held->timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + held->limit->period_ns);
}

static const EventLimit *event_find_limit(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(event_limits); i++) {
        if (!strcmp(event_limits[i].event, name)) {
            return &event_limits[i];
        }
    }
    return NULL;
}

/* Name and key members; members are separated by a byte that no JSON text of ours holds. */
static char *event_key(const EventLimit *limit, const json_t *event)
{
    GString *key = g_string_new(limit->event);
    const json_t *data = json_object_get(event, "data");

    for (int i = 0; i < EVENT_KEYS_MAX && limit->keys[i]; i++) {
        const char *value = json_string_value(json_object_get(data, limit->keys[i]));

        g_string_append_c(key, '\n');
        g_string_append(key, value ? value : "");
    }
    return g_string_free(key, FALSE);
}

/* EV2 */
static void monitor_limit_event(const EventLimit *limit, json_t *event)
{
    char *key = event_key(limit, event);
    HeldEvent *held = g_hash_table_lookup(held_events, key);

    if (held) {
        if (held->pending) {
            json_decref(held->pending);
        }
        held->pending = json_incref(event);
        g_free(key);
        return;
    }
    monitor_broadcast(event);
    held = g_new0(HeldEvent, 1);
    held->key = key;
    held->limit = limit;
    held->timer = aio_timer_new(qemu_get_aio_context(), held_event_expired, held);
    g_hash_table_insert(held_events, key, held);
    timer_mod_ns(held->timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + limit->period_ns);
}

/* Main thread; takes @opaque, an event. */
static void monitor_emit_event(void *opaque)
{
    json_t *event = opaque;
    const char *name = json_string_value(json_object_get(event, "event"));
    const EventLimit *limit = event_find_limit(name);

    trace_monitor_event(name, limit != NULL);
    if (!held_events) {
        /* The monitors have ended: nobody listens. */
    } else if (limit) {
        monitor_limit_event(limit, event);
    } else {
        monitor_broadcast(event);
    }
    json_decref(event);
}

/* Any thread: the generated qapi_event_send_*() end here. */
static void monitor_event_hook(unsigned kind, json_t *message)
{
    json_t *event = json_incref(message);

    if (in_aio_context(qemu_get_aio_context())) {
        monitor_emit_event(event);
    } else {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), monitor_emit_event, event);
    }
}

void monitor_events_init(void)
{
    held_events =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)held_event_free);
    qapi_event_set_emit(monitor_event_hook);
}

static gboolean held_event_flush(gpointer key, gpointer value, gpointer opaque)
{
    HeldEvent *held = value;

    if (held->pending) {
        monitor_broadcast(held->pending);
    }
    return TRUE;
}

void monitor_events_cleanup(void)
{
    /* What is held back is sent rather than forgotten. */
    g_hash_table_foreach_remove(held_events, held_event_flush, NULL);
    g_hash_table_destroy(held_events);
    held_events = NULL;
}
