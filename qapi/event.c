/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event.c - the one place that the generated senders of events go through */
#include "qapi/event.h"

#include <glib.h>

static QapiEventEmitFunc *event_emit;

void qapi_event_set_emit(QapiEventEmitFunc *emit)
{
    event_emit = emit;
}

void qapi_event_emit(unsigned event, const char *name, json_t *data)
{
    int64_t now_us = g_get_real_time();
    json_t *message;

    if (!event_emit) {
        json_decref(data);
        return;
    }
    message = json_pack("{s{sIsI}ss}", "timestamp", "seconds", (json_int_t)(now_us / 1000000),
                        "microseconds", (json_int_t)(now_us % 1000000), "event", name);
    if (data) {
        json_object_set_new(message, "data", data);
    }
    event_emit(event, message);
    json_decref(message);
}
