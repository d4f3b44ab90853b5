/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * event.h - where events leave the schema's half of the house
 *
 * A room that has news calls the generated qapi_event_send_x().  That makes the message as clients see
 * it and gives it to one function, which the monitor fills in: the rooms need not know it.
 */
#ifndef QAPI_EVENT_H
#define QAPI_EVENT_H

#include <jansson.h>

/**
 * QapiEventEmitFunc - take an event to the clients
 * @event:   its QAPIEvent (qapi/qapi-emit-events.h)
 * @message: {"timestamp": {"seconds", "microseconds"}, "event": NAME, "data": {...}}; "data" is left
 *           out where the event has none.  Borrowed: take a reference to keep it.
 *
 * Context: the thread that sent the event, which may be any, inside or outside a coroutine.  Must not
 * block and not yield.
 */
typedef void QapiEventEmitFunc(unsigned event, json_t *message);

/* Set at start, before there is a second thread.  NULL, as at first: events go nowhere. */
void qapi_event_set_emit(QapiEventEmitFunc *emit);

/* For the generated senders.  Takes @data (NULL: none). */
void qapi_event_emit(unsigned event, const char *name, json_t *data);

#endif
