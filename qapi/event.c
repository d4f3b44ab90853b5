/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event.c - the one place that the generated senders of events go through */
#include "qapi/event.h"

static QapiEventHook *event_hook;

void qapi_event_set_hook(QapiEventHook *hook)
{
    event_hook = hook;
}

void qapi_event_emit(const char *name, json_t *data)
{
    if (event_hook) {
        event_hook(name, data);
    } else {
        json_decref(data);
    }
}
