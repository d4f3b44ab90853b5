/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * session.c - one QMP client from its greeting to its end
 *
 *      bytes ──▶ JSON parser ──▶ request ──▶ dispatch ──▶ reply ──▶ OutQueue ──▶ bytes
 *        ▲                                                             │
 *        └────────────── not before little is queued ◀─────────────────┘
 *
 *   SE1  A request is read only when the one before it has its reply queued: memory in one direction is
 *        one read, one message of the parser's maximum, one reply.
 *   SE2  No request is read while more than SESSION_REPLIES_BYTES wait to be sent: a client that only
 *        writes is stopped by its own socket.
 *   SE3  Input that ends does not cut off the replies to what came before.
 */
#include "monitor-int.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "aio/aio.h"
#include "trace-monitor.h"
#include "util/textbuf.h"

/* Bytes of a client's input taken at once: a typical request fits. */
#define SESSION_READ_BYTES 4096

/* SE2: below OUTQUEUE_BYTES_MAX, so that what is left of that belongs to events. */
#define SESSION_REPLIES_BYTES (64 * 1024)

struct QmpSessionList qmp_sessions = QTAILQ_HEAD_INITIALIZER(qmp_sessions);

void coroutine_fn qmp_session_send(QmpSession *s, json_t *message)
{
    size_t flags = JSON_ENSURE_ASCII | JSON_REAL_PRECISION(17);
    char *text, *line;
    size_t len;

    text = json_dumps(message, flags | (monitor_is_pretty(s->monitor) ? JSON_INDENT(4) : 0));
    g_assert(text);
    len = strlen(text);
    line = realloc(text, len + sizeof("\r\n"));
    g_assert(line);
    memcpy(line + len, "\r\n", sizeof("\r\n"));
    json_decref(message);
    if (!outqueue_put(s->out, line)) {
        qmp_session_end(s, true);
    }
}

void coroutine_fn qmp_session_end(QmpSession *s, bool now)
{
    s->state = QMP_SESSION_CLOSING;
    if (now) {
        outqueue_shutdown(s->out);
    } else {
        outqueue_finish(s->out);
    }
}

bool monitor_negotiate(const QMPCapabilityList *enable, Error **errp)
{
    QmpSession *s = qmp_dispatch_session();
    unsigned enabled = 0;

    g_assert(s && s->state == QMP_SESSION_NEGOTIATING);
    for (; enable; enable = enable->next) {
        if (!(QMP_CAPABILITIES_OFFERED & QMP_CAPABILITY_BIT(enable->value))) {
            error_setg(errp, "Capability '%s' is not available", QMPCapability_str(enable->value));
            return false;
        }
        enabled |= QMP_CAPABILITY_BIT(enable->value);
    }
    s->capabilities = enabled;
    s->state = QMP_SESSION_READY;
    return true;
}

/* A message of the parser's; takes what it is given.  Called inside the session's coroutine. */
static void coroutine_fn qmp_session_message(void *opaque, json_t *request, Error *err)
{
    QmpSession *s = opaque;

    if (s->state == QMP_SESSION_CLOSING || monitor_shutdown_requested()) {
        json_decref(request);
        error_free(err);
        return;
    }
    qmp_session_send(s, qmp_dispatch(s, request, err));
    if (outqueue_bytes(s->out) > SESSION_REPLIES_BYTES) { /* SE2 */
        outqueue_co_drain(s->out);
    }
}

static void qmp_session_greet(QmpSession *s)
{
    json_t *offered = json_array();

    for (int i = 0; i < QMP_CAPABILITY__MAX; i++) {
        if (QMP_CAPABILITIES_OFFERED & QMP_CAPABILITY_BIT(i)) {
            json_array_append_new(offered, json_string(QMPCapability_str(i)));
        }
    }
    qmp_session_send(
        s, json_pack("{s{soso}}", "QMP", "version", monitor_version(), "capabilities", offered));
}

static void coroutine_fn qmp_session_run(void *opaque)
{
    QmpSession *s = opaque;
    Monitor *monitor = s->monitor;
    g_autofree char *buf = g_malloc(SESSION_READ_BYTES);

    trace_monitor_session_start(s);
    qmp_session_greet(s);
    while (s->state != QMP_SESSION_CLOSING) {
        ssize_t n = mon_stream_co_read(s->stream, buf, SESSION_READ_BYTES);

        if (n <= 0) {
            break;
        }
        json_message_parser_feed(&s->parser, buf, n);
    }
    s->state = QMP_SESSION_CLOSING;
    outqueue_co_drain(s->out); /* SE3 */

    trace_monitor_session_end(s);
    QTAILQ_REMOVE(&qmp_sessions, s, next);
    json_message_parser_destroy(&s->parser);
    outqueue_free(s->out);
    mon_stream_shutdown(s->stream);
    mon_stream_free(s->stream);
    g_free(s);
    monitor_session_gone(monitor);
}

void coroutine_fn qmp_session_start(Monitor *monitor, MonStream *stream)
{
    QmpSession *s = g_new0(QmpSession, 1);

    s->monitor = monitor;
    s->stream = stream;
    s->out = outqueue_new(stream);
    json_message_parser_init(&s->parser, qmp_session_message, s);
    QTAILQ_INSERT_TAIL(&qmp_sessions, s, next);
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(qmp_session_run, s));
}

void monitor_to_text(TextBuf *out)
{
    static const char *const states[] = {"negotiating", "ready", "closing"};
    const QmpSession *s;

    QTAILQ_FOREACH (s, &qmp_sessions, next) {
        textbuf_printf(out, "%s, %zu bytes queued, running %s\n", states[s->state],
                       outqueue_bytes(s->out), s->running ? s->running : "nothing");
    }
}
