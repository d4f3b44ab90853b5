/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dispatch.c - from a request to its reply
 *
 *   {"execute": NAME, "arguments": {...}, "id": ANY}
 *      reply  {"return": ..., "id": ANY}
 *      or     {"id": ANY, "error": {"class": ..., "desc": ...}}
 *
 *   DI1  Every request gets exactly one reply, and it echoes the id if the request was an object.
 *   DI2  Commands that yield run one at a time over all sessions: each sees the graph as the one before
 *        left it.  Commands that do not yield need no lock: so a job can be cancelled, and the program
 *        quit, while another client's command waits for storage.
 */
#include "monitor-int.h"

#include <glib.h>

#include "coro/lock.h"
#include "trace-monitor.h"

static const QmpCommand *commands;
static size_t commands_count;
static CoMutex qmp_command_lock; /* DI2 */
static QmpSession *qmp_current;

void monitor_set_commands(const QmpCommand *table, size_t n)
{
    commands = table;
    commands_count = n;
}

const QmpCommand *monitor_find_command(const char *name)
{
    for (size_t i = 0; i < commands_count; i++) {
        if (!strcmp(commands[i].name, name)) {
            return &commands[i];
        }
    }
    return NULL;
}

void coroutine_fn qmp_dispatch_init(void)
{
    qemu_co_mutex_init(&qmp_command_lock);
}

void coroutine_fn monitor_co_wait_commands(void)
{
    qemu_co_mutex_lock(&qmp_command_lock);
    qemu_co_mutex_unlock(&qmp_command_lock);
}

QmpSession *coroutine_fn qmp_dispatch_session(void)
{
    return qmp_current;
}

/* The shape of a request; its members borrowed. */
typedef struct QmpRequest {
    const char *name;
    json_t *args; /* NULL: none given */
} QmpRequest;

static bool qmp_check_request(json_t *request, QmpRequest *ret_request, Error **errp)
{
    const char *key;
    json_t *value;

    if (!json_is_object(request)) {
        error_setg(errp, "QMP input must be a JSON object");
        return false;
    }
    json_object_foreach(request, key, value)
    {
        if (!strcmp(key, "execute")) {
            if (!json_is_string(value)) {
                error_setg(errp, "QMP input member 'execute' must be a string");
                return false;
            }
            ret_request->name = json_string_value(value);
        } else if (!strcmp(key, "arguments")) {
            if (!json_is_object(value)) {
                error_setg(errp, "QMP input member 'arguments' must be an object");
                return false;
            }
            ret_request->args = value;
        } else if (strcmp(key, "id") != 0) {
            error_setg(errp, "QMP input member '%s' is unexpected", key);
            return false;
        }
    }
    if (!ret_request->name) {
        error_setg(errp, "QMP input lacks member 'execute'");
        return false;
    }
    return true;
}

static const QmpCommand *qmp_find_for(const QmpSession *s, const char *name, Error **errp)
{
    const QmpCommand *cmd = monitor_find_command(name);
    bool negotiates = !strcmp(name, "qmp_capabilities");

    if (s->state == QMP_SESSION_NEGOTIATING && !negotiates) {
        error_set(errp, ERROR_CLASS_COMMAND_NOT_FOUND,
                  "Expecting capabilities negotiation with 'qmp_capabilities'");
        return NULL;
    }
    if (s->state != QMP_SESSION_NEGOTIATING && negotiates) {
        error_set(errp, ERROR_CLASS_COMMAND_NOT_FOUND,
                  "Capabilities negotiation is already complete, command ignored");
        return NULL;
    }
    if (!cmd) {
        error_set(errp, ERROR_CLASS_COMMAND_NOT_FOUND, "The command %s has not been found", name);
    }
    return cmd;
}

static json_t *coroutine_fn qmp_run(QmpSession *s, json_t *request, Error **errp)
{
    ERRP_GUARD();
    QmpRequest req = {0};
    const QmpCommand *cmd;
    json_t *args, *result = NULL;

    if (!qmp_check_request(request, &req, errp)) {
        return NULL;
    }
    cmd = qmp_find_for(s, req.name, errp);
    if (!cmd) {
        return NULL;
    }
    args = req.args ? json_incref(req.args) : json_object();
    s->running = cmd->name;
    trace_monitor_command_enter(s, cmd->name);
    if (cmd->yields) {
        qemu_co_mutex_lock(&qmp_command_lock);
    }
    qmp_current = s;
    cmd->fn(args, &result, errp);
    qmp_current = NULL;
    if (cmd->yields) {
        qemu_co_mutex_unlock(&qmp_command_lock);
    }
    trace_monitor_command_return(s, cmd->name, *errp ? error_get_pretty(*errp) : "");
    s->running = NULL;
    json_decref(args);
    if (*errp) {
        g_assert(!result);
        return NULL;
    }
    return result ? result : json_object();
}

/* Words may hold bytes that came from a file system and are no UTF-8. */
static json_t *qmp_error(const Error *err)
{
    g_autofree char *desc = g_utf8_make_valid(error_get_pretty(err), -1);

    return json_pack("{ssss}", "class", error_class_str(error_get_class(err)), "desc", desc);
}

json_t *coroutine_fn qmp_dispatch(QmpSession *s, json_t *request, Error *parse_err)
{
    g_autoptr(Error) err = parse_err;
    json_t *reply = json_object();
    json_t *id = json_object_get(request, "id");
    json_t *result = request ? qmp_run(s, request, &err) : NULL;

    if (result) {
        json_object_set_new(reply, "return", result);
    }
    if (id) {
        json_object_set(reply, "id", id); /* DI1 */
    }
    if (!result) {
        json_object_set_new(reply, "error", qmp_error(err));
    }
    json_decref(request);
    return reply;
}
