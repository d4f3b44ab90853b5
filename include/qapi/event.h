/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * event.h - where events leave the schema's half of the house
 *
 * A room that has news calls the generated qapi_event_send_x().  That makes the event's data and gives
 * it to one function, which the monitor fills in: the rooms need not know it.
 */
#ifndef QAPI_EVENT_H
#define QAPI_EVENT_H

#include <jansson.h>

/**
 * QapiEventHook - take an event to the clients
 * @name: as in the schema; lives for ever
 * @data: the event's members, NULL where it has none; the hook's to free
 *
 * Context: the thread that sent the event, which may be any, inside or outside a coroutine.  Must not
 * block and not yield.
 */
typedef void QapiEventHook(const char *name, json_t *data);

/* Set at start, before there is a second thread.  NULL, as at first: events go nowhere. */
void qapi_event_set_hook(QapiEventHook *hook);

/* For the generated senders.  Takes @data (NULL: none). */
void qapi_event_emit(const char *name, json_t *data);

#endif
