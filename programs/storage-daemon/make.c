/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * make.c - from an option of the command line to the thing that it describes
 *
 * --blockdev, --export, --nbd-server and --object have the arguments of the QMP commands; --chardev and
 * --monitor are flat.
 */
#include "daemon.h"

#include <errno.h>

#include "block/export/export.h"
#include "block/export/nbd-server.h"
#include "block/open/open.h"
#include "monitor/commands.h"
#include "monitor/monitor.h"
#include "qapi/qapi-types-block-export.h"

/* The typed value of @opt; NULL with @errp. */
static void *option_value(const DaemonOption *opt, const QapiType *type, Error **errp)
{
    return opt->is_json ? qapi_from_json(type, opt->tree, errp)
                        : qapi_from_keyval(type, opt->tree, errp);
}

static int coroutine_fn make_blockdev(const DaemonOption *opt, Error **errp)
{
    g_autoptr(BlockdevOptions) value = option_value(opt, &qapi_type_BlockdevOptions, errp);

    return value ? bdrv_co_blockdev_add(value, errp) : -EINVAL;
}

static int coroutine_fn make_export(const DaemonOption *opt, Error **errp)
{
    g_autoptr(BlockExportOptions) value = option_value(opt, &qapi_type_BlockExportOptions, errp);

    return value && blk_exp_co_add(value, errp) ? 0 : -EINVAL;
}

static int coroutine_fn make_nbd_server(const DaemonOption *opt, Error **errp)
{
    g_autoptr(NbdServerOptions) value = option_value(opt, &qapi_type_NbdServerOptions, errp);

    if (!value) {
        return -EINVAL;
    }
    return nbd_server_co_start_tls(
        value->addr,
        value->has_handshake_max_seconds ? value->handshake_max_seconds
                                         : NBD_SERVER_HANDSHAKE_SECONDS_DEFAULT,
        value->has_max_connections ? value->max_connections : NBD_SERVER_CONNECTIONS_DEFAULT,
        value->tls_creds, value->tls_authz, errp);
}

static int coroutine_fn make_object(const DaemonOption *opt, Error **errp)
{
    g_autoptr(ObjectOptions) value = option_value(opt, &qapi_type_ObjectOptions, errp);

    return value ? user_object_add(value, errp) : -EINVAL;
}

/* Which kind of chardev; reads the members that the kind has. */
static int read_chardev(OptTree *t, ChardevOptions *chr, Error **errp)
{
    const char *backend = NULL;

    if (!opt_tree_str(t, "backend", &backend, errp) || !opt_tree_str(t, "id", &chr->id, errp)) {
        return -EINVAL;
    }
    if (!backend) {
        error_setg(errp, "chardev: \"backend\" option is missing");
        return -EINVAL;
    }
    if (!strcmp(backend, "stdio")) {
        chr->kind = CHARDEV_STDIO;
    } else if (!strcmp(backend, "null")) {
        chr->kind = CHARDEV_NULL;
    } else if (!strcmp(backend, "socket")) {
        chr->kind = CHARDEV_SOCKET;
        chr->wait = true;
        if (!opt_tree_str(t, "path", &chr->path, errp) ||
            !opt_tree_str(t, "host", &chr->host, errp) ||
            !opt_tree_str(t, "port", &chr->port, errp) || !opt_tree_str(t, "fd", &chr->fd, errp) ||
            !opt_tree_bool(t, "server", &chr->server, errp) ||
            !opt_tree_bool(t, "wait", &chr->wait, errp) ||
            !opt_tree_bool(t, "ipv4", &chr->ipv4, errp) ||
            !opt_tree_bool(t, "ipv6", &chr->ipv6, errp)) {
            return -EINVAL;
        }
    } else {
        error_setg(errp, "'%s' is not a valid char driver name", backend);
        return -EINVAL;
    }
    return opt_tree_finish(t, errp) ? 0 : -EINVAL;
}

static int coroutine_fn make_chardev(const DaemonOption *opt, Error **errp)
{
    g_auto(OptTree) t;
    ChardevOptions chr = {0};
    int r;

    opt_tree_init(&t, opt->tree);
    r = read_chardev(&t, &chr, errp);
    return r < 0 ? r : chardev_co_new(&chr, errp);
}

static int coroutine_fn make_monitor(const DaemonOption *opt, Error **errp)
{
    g_auto(OptTree) t;
    const char *name = NULL, *mode = "control", *id = NULL;
    bool pretty = false;
    Chardev *chr;

    opt_tree_init(&t, opt->tree);
    if (!opt_tree_str(&t, "chardev", &name, errp) || !opt_tree_str(&t, "mode", &mode, errp) ||
        !opt_tree_str(&t, "id", &id, errp) || !opt_tree_bool(&t, "pretty", &pretty, errp) ||
        !opt_tree_finish(&t, errp)) {
        return -EINVAL;
    }
    if (!name) {
        error_setg(errp, "Parameter 'chardev' is missing");
        return -EINVAL;
    }
    if (strcmp(mode, "control") != 0) {
        error_setg(errp,
                   "Parameter 'mode' does not accept value '%s': only 'control' (QMP) is offered",
                   mode);
        return -EINVAL;
    }
    chr = chardev_find(name);
    if (!chr) {
        error_setg(errp, "chardev \"%s\" not found", name);
        return -ENOENT;
    }
    return monitor_new(chr, pretty, errp);
}

static int coroutine_fn make_drive(const DaemonOption *opt, Error **errp)
{
    return daemon_co_make_drive(opt->tree, errp);
}

int coroutine_fn daemon_co_make(const DaemonOption *opt, Error **errp)
{
    static int coroutine_fn (*const makers[])(const DaemonOption *opt, Error **errp) = {
        [DAEMON_OPT_BLOCKDEV] = make_blockdev, [DAEMON_OPT_CHARDEV] = make_chardev,
        [DAEMON_OPT_DRIVE] = make_drive,       [DAEMON_OPT_EXPORT] = make_export,
        [DAEMON_OPT_MONITOR] = make_monitor,   [DAEMON_OPT_NBD_SERVER] = make_nbd_server,
        [DAEMON_OPT_OBJECT] = make_object,
    };
    ERRP_GUARD();
    int r = makers[opt->kind](opt, errp);

    if (r < 0) {
        daemon_prepend_option(opt, errp);
    }
    return r;
}
