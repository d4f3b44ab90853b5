/* SPDX-License-Identifier: GPL-2.0-or-later */
/* monitor-int.h - what the files of this room tell each other.  Main thread. */
#ifndef MONITOR_INT_H
#define MONITOR_INT_H

#include <jansson.h>
#include "monitor/monitor.h"
#include "monitor/outqueue.h"
#include "qapi/json-parser.h"
#include "util/queue.h"

/*
 * One client.
 *
 *   NEGOTIATING --qmp_capabilities--> READY
 *        |                              |
 *        +--- end of input, or cut off -+--> CLOSING --all sent--> freed
 *
 *   state        runs              gets events
 *   NEGOTIATING  qmp_capabilities  no
 *   READY        all others        yes
 *   CLOSING      none              no
 */
typedef enum QmpSessionState {
    QMP_SESSION_NEGOTIATING,
    QMP_SESSION_READY,
    QMP_SESSION_CLOSING,
} QmpSessionState;

/* What a session can ask for, as bits; "oob" is not on offer. */
#define QMP_CAPABILITY_BIT(capability) (1u << (capability))
#define QMP_CAPABILITIES_OFFERED       QMP_CAPABILITY_BIT(QMP_CAPABILITY_BACKUP_STAGING_EVENTS)

typedef struct QmpSession QmpSession;
typedef struct Monitor Monitor;

struct QmpSession {
    Monitor *monitor;
    QmpSessionState state;
    unsigned capabilities; /* bits, what it has asked for */
    MonStream *stream;
    OutQueue *out;
    JSONMessageParser parser;
    const char *running; /* name of the command that runs, or NULL */
    QTAILQ_ENTRY(QmpSession) next;
};

QTAILQ_HEAD(QmpSessionList, QmpSession);
extern struct QmpSessionList qmp_sessions; /* all of them, oldest first */

/* session.c: takes @stream.  The session frees itself at its end. */
void qmp_session_start(Monitor *monitor, MonStream *stream);
/* Takes @message. */
void qmp_session_send(QmpSession *s, json_t *message);
/* No further command; the stream ends when what is queued has been sent, or now. */
void qmp_session_end(QmpSession *s, bool now);

/*
 * dispatch.c: run one request.  Exactly one of @request (taken) and @parse_err (taken) is given.
 * Return: the reply, new reference.
 */
json_t *coroutine_fn qmp_dispatch(QmpSession *s, json_t *request, Error *parse_err);
/* The session whose command has just been called; valid until that command first yields. */
QmpSession *qmp_dispatch_session(void);
void qmp_dispatch_init(void);

/* events.c: @event is a whole event message, borrowed. */
void monitor_events_init(void);
void monitor_events_cleanup(void);

/* monitor.c */
bool monitor_is_pretty(const Monitor *monitor);
/* A session has gone: @monitor may take another client. */
void monitor_session_gone(Monitor *monitor);

#endif
