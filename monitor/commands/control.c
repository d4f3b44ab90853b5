/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control.c - who we are, what we can do, and the end: qmp_capabilities, query-version, query-commands,
 * query-qmp-schema, query-status, quit
 */
#include "monitor/commands.h"

#include "monitor/monitor.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-introspect.h"
#include "qapi/qapi-commands-run-state.h"
#include "qapi/qapi-init-commands.h"
#include "qapi/qapi-introspect.h"

void monitor_commands_init(void)
{
    monitor_set_commands(qapi_commands, qapi_commands_count);
}

void coroutine_fn qmp_qmp_capabilities(QMPCapabilityList *enable, Error **errp)
{
    monitor_negotiate(enable, errp);
}

VersionInfo *coroutine_fn qmp_query_version(Error **errp)
{
    json_t *version = monitor_version();
    VersionInfo *info = qapi_VersionInfo_from_json(version, errp);

    json_decref(version);
    return info;
}

CommandInfoList *coroutine_fn qmp_query_commands(Error **errp)
{
    CommandInfoList *list = NULL, **tail = &list;

    for (size_t i = 0; i < qapi_commands_count; i++) {
        CommandInfo *info = g_new0(CommandInfo, 1);

        info->name = g_strdup(qapi_commands[i].name);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

void coroutine_fn qmp_query_qmp_schema(json_t *args, json_t **ret, Error **errp)
{
    json_t *schema;

    if (args && json_object_size(args) > 0) {
        error_setg(errp, "Parameter '%s' is unexpected",
                   json_object_iter_key(json_object_iter(args)));
        return;
    }
    schema = json_array();
    for (size_t i = 0; i < qapi_introspect_count; i++) {
        json_array_append_new(schema, json_loads(qapi_introspect_items[i], 0, NULL));
    }
    *ret = schema;
}

StatusInfo *coroutine_fn qmp_query_status(Error **errp)
{
    StatusInfo *info = g_new0(StatusInfo, 1);

    info->running = !monitor_shutdown_requested();
    info->status = info->running ? RUN_STATE_RUNNING : RUN_STATE_SHUTDOWN;
    return info;
}

void coroutine_fn qmp_quit(Error **errp)
{
    monitor_request_shutdown(SHUTDOWN_CAUSE_HOST_QMP_QUIT);
}
