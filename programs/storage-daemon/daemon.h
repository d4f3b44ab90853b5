/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon.h - what the files of qblk-storage-daemon tell each other.  Main thread. */
#ifndef STORAGE_DAEMON_H
#define STORAGE_DAEMON_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include "aio/aio.h"
#include "coro/coroutine.h"
#include "programs/common/opt-tree.h"
#include "util/error.h"

/* Options that make something, in the order of the command line. */
typedef enum DaemonOptionKind {
    DAEMON_OPT_BLOCKDEV,
    DAEMON_OPT_CHARDEV,
    DAEMON_OPT_DRIVE,
    DAEMON_OPT_EXPORT,
    DAEMON_OPT_MONITOR,
    DAEMON_OPT_NBD_SERVER,
    DAEMON_OPT_OBJECT,
    DAEMON_OPT__MAX,
} DaemonOptionKind;

typedef struct DaemonOption {
    DaemonOptionKind kind;
    const char *name; /* "--blockdev" */
    const char *text; /* as the user wrote it; argv's */
    json_t *tree;     /* parsed; owned */
    bool is_json;     /* @text is JSON: scalars have their types; else all are strings */
} DaemonOption;

typedef struct DaemonOptions {
    GArray *make; /* of DaemonOption */
    bool daemonize;
    const char *pidfile; /* NULL: none; argv's */
    AioEngine engine;
} DaemonOptions;

/* options.c */
/*
 * Parse the command line; --help, --version and `help` inside an option print and say so.
 * Return: 0 to go on; 1, help was given: end with success; -EINVAL with @errp.
 */
int daemon_options_parse(int argc, char **argv, DaemonOptions *opts, Error **errp);
/* "--blockdev driver=...: " in front of an error; not what is in a secret.  For who has ERRP_GUARD(). */
void daemon_prepend_option(const DaemonOption *opt, Error **errp);
void daemon_options_clear(DaemonOptions *opts);

/* help.c */
void daemon_help(const char *progname);
void daemon_version(const char *progname);
/* "--blockdev help", "--blockdev file,help".  False: @what is not known, with @errp. */
bool daemon_option_help(DaemonOptionKind kind, const char *what, Error **errp);

/* make.c: a --drive of its own in drive.c.  All are coroutines of the main AioContext. */
int coroutine_fn daemon_co_make(const DaemonOption *opt, Error **errp);
int coroutine_fn daemon_co_make_drive(json_t *tree, Error **errp);
void coroutine_fn daemon_co_drop_drives(void);
int coroutine_fn daemon_co_make_chardev(json_t *tree, Error **errp);

/* activation.c */
/* Sockets that a service manager has handed over; empty when none.  Call before a fork. */
int daemon_activation_init(Error **errp);
/* Serve QMP and NBD on them, but for those that options name themselves. */
int coroutine_fn daemon_co_activate(const DaemonOptions *opts, Error **errp);

/* ending/hurry.c */
/* Where the end of the program has come to. */
typedef enum DaemonEnding {
    DAEMON_ENDING_COMMANDS, /* somebody's command, or the making of what the command line says */
    DAEMON_ENDING_JOBS,
    DAEMON_ENDING_CLIENTS,
    DAEMON_ENDING_NODES,
} DaemonEnding;
/* The end has begun, or did before: what hangs is given up from now on.  Main thread. */
void daemon_hurry_begin(void);
/* The next part begins; @what says which, as in "hung while ..."; kept. */
void daemon_hurry_enter(DaemonEnding ending, const char *what);
/* Flush all nodes, side by side; none may be in use any more. */
void coroutine_fn daemon_co_flush_nodes(void);
void daemon_hurry_end(void);

/* ending/shutdown.c */
/* Signals and the watchdog.  After a fork, before any other thread. */
void daemon_shutdown_init(void);
/* In the main thread, once there is an AioContext: a signal ends the main loop. */
void daemon_shutdown_watch(void);
void daemon_run_main_loop(void);
/* End all: commands, exports, jobs, nodes, objects, sessions. */
void coroutine_fn daemon_co_shutdown(void);
void daemon_shutdown_done(void);

#endif
