/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * activation.c - sockets that a service manager listens on for us
 *
 * The names (FileDescriptorName= of a socket unit) say what they are for:
 *
 *      "qmp"   a monitor
 *      "nbd"   the NBD server; exports can follow on the command line
 *
 * A single socket of any other name, such as the name of its unit, is the NBD server's: a daemon that is
 * started by its first client is started by a client of a disk.  A socket that an option of the command
 * line names by its number (addr.type=fd, fd=) is left to that option.
 */
#include "daemon.h"

#include <errno.h>
#include <string.h>

#include "block/export/nbd-server.h"
#include "monitor/commands.h"
#include "monitor/monitor.h"
#include "util/systemd.h"

static char **names;
static int count;

int daemon_activation_init(Error **errp)
{
    count = systemd_listen_fds(&names);
    if (count < 0) {
        error_setg_errno(errp, -count, "cannot take the sockets of the service manager");
        return count;
    }
    return 0;
}

static int activate_qmp(int index, int fd, Error **errp)
{
    g_autofree char *id = g_strdup_printf("systemd-qmp%d", index);
    int r = chardev_new_listener(id, fd, errp);

    return r < 0 ? r : monitor_new(chardev_find(id), false, errp);
}

static int coroutine_fn activate_one(int index, Error **errp)
{
    int fd = SYSTEMD_FIRST_FD + index;

    if (!strcmp(names[index], "qmp")) {
        return activate_qmp(index, fd, errp);
    }
    if (!strcmp(names[index], "nbd") || count == 1) {
        return nbd_server_co_start_fd(fd, NBD_SERVER_HANDSHAKE_SECONDS_DEFAULT,
                                      NBD_SERVER_CONNECTIONS_DEFAULT, errp);
    }
    error_setg(errp, "socket '%s' of the service manager: the names are 'qmp' and 'nbd'",
               names[index]);
    return -EINVAL;
}

/* The number that @opt gives for a descriptor, as it is written; NULL: none. */
static const char *option_fd(const DaemonOption *opt)
{
    const json_t *addr = json_object_get(opt->tree, "addr");

    switch (opt->kind) {
    case DAEMON_OPT_NBD_SERVER:
        return json_string_value(json_object_get(addr, "str"));
    case DAEMON_OPT_CHARDEV:
        return json_string_value(json_object_get(opt->tree, "fd"));
    default:
        return NULL;
    }
}

static bool option_names_fd(const GArray *make, int fd)
{
    g_autofree char *number = g_strdup_printf("%d", fd);

    for (guint i = 0; i < make->len; i++) {
        if (!g_strcmp0(option_fd(&g_array_index(make, DaemonOption, i)), number)) {
            return true;
        }
    }
    return false;
}

int coroutine_fn daemon_co_activate(const DaemonOptions *opts, Error **errp)
{
    int r = 0;

    for (int i = 0; i < count && r == 0; i++) {
        if (!option_names_fd(opts->make, SYSTEMD_FIRST_FD + i)) {
            r = activate_one(i, errp);
        }
    }
    g_strfreev(names);
    names = NULL;
    count = 0;
    return r;
}
