/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - qblk-storage-daemon: virtual disks for clients, jobs on them, all driven by QMP
 *
 *      parse ─▶ background ─▶ signals ─▶ event loop ─▶ make ─▶ ready ─▶ serve ─▶ end
 *                                                       │                        ▲
 *                                                       └─ fails: one line ──────┘ exit status 1
 *
 * The order matters: the fork comes before the first thread, the watchdog before anything that can hang,
 * and nobody is told that we are ready before all is made.
 */
#include "daemon.h"

#include <stdlib.h>

#include "block/backend/backend.h"
#include "block/export/nbd-server.h"
#include "monitor/commands.h"
#include "monitor/monitor.h"
#include "programs/common/background.h"
#include "programs/common/drivers.h"
#include "util/systemd.h"

typedef struct Startup {
    const DaemonOptions *opts;
    Error *err;
} Startup;

static void coroutine_fn make_all(void *opaque)
{
    Startup *startup = opaque;
    const GArray *make = startup->opts->make;

    if (daemon_co_activate(startup->opts, &startup->err) < 0) {
        return;
    }
    for (guint i = 0; i < make->len && !monitor_shutdown_requested(); i++) {
        if (daemon_co_make(&g_array_index(make, DaemonOption, i), &startup->err) < 0) {
            return;
        }
    }
}

static void coroutine_fn end_all(void *opaque)
{
    daemon_co_shutdown();
}

/* How event loops wait matters to speed: traced by aio_context_new, told when it is the second choice. */
static void report_engine(AioEngine wish)
{
    AioContext *ctx = qemu_get_aio_context();
    const char *name = aio_context_engine_name(ctx), *reason = aio_context_engine_reason(ctx);

    if (wish == AIO_ENGINE_AUTO && strcmp(name, "io_uring") != 0) {
        info_report("event loops use %s: %s", name, reason);
    }
}

static bool write_pidfile(const char *path, Error **errp)
{
    ERRP_GUARD();

    if (path && pidfile_write(path, errp) < 0) {
        error_prepend(errp, "cannot create PID file: ");
        return false;
    }
    return true;
}

static bool start(const DaemonOptions *opts, Error **errp)
{
    Startup startup = {.opts = opts};

    report_engine(opts->engine);
    register_drivers();
    nbd_export_register();
    monitor_init();
    monitor_commands_init();
    user_object_set_aio_engine(opts->engine);
    daemon_shutdown_watch();
    nbd_server_hold(true); /* a client that has started us comes before its export is made */
    aio_run_co(make_all, &startup);
    nbd_server_hold(false);
    if (startup.err && !monitor_shutdown_requested()) {
        error_propagate(errp, startup.err);
        return false;
    }
    error_free(startup.err);
    return write_pidfile(opts->pidfile, errp);
}

static int run(const DaemonOptions *opts)
{
    Error *err = NULL;
    bool ok;

    if (aio_init(opts->engine, &err) < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    ok = start(opts, &err);
    if (ok) {
        background_ready(false);
        systemd_notify("READY=1");
        daemon_run_main_loop();
    } else {
        error_report_err(err);
    }
    aio_run_co(end_all, NULL);
    daemon_shutdown_done();
    pidfile_remove();
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    DaemonOptions opts = {0};
    Error *err = NULL;
    int r;

    error_set_progname(argv[0]);
    r = daemon_options_parse(argc, argv, &opts, &err);
    if (r == 0) {
        r = daemon_activation_init(&err);
    }
    if (r == 0) {
        if (opts.daemonize) {
            background_start();
        }
        daemon_shutdown_init();
        r = run(&opts);
    } else if (r < 0) {
        error_report_err(err);
        r = EXIT_FAILURE;
    } else {
        r = EXIT_SUCCESS;
    }
    daemon_options_clear(&opts);
    return r;
}
