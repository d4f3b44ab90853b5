/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shutdown.c - from the wish to stop to the end
 *
 *      quit ─────────────────────┬─▶ main loop ends ──▶ commands, jobs, exports, accesses, nodes, objects, sessions
 *      SIGTERM, SIGINT, SIGHUP ──┤                      what hangs is given up, hurry.c
 *                                └─▶ watchdog: SHUTDOWN_DEADLINE_S later ends the process, naming what hung
 *      a second signal ────────────▶ the process ends at once
 *
 * Jobs end before exports: a client's request may wait for a job (for room for old data), and an export
 * ends when its requests have.
 *
 * The watchdog is a thread of its own and the second signal is handled in the handler, because what hangs
 * may be the main thread itself.
 */
#include "programs/storage-daemon/daemon.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "block/access/access.h"
#include "block/export/export.h"
#include "block/export/nbd-server.h"
#include "block/jobs/job.h"
#include "block/open/open.h"
#include "monitor/monitor.h"
#include "object/object.h"
#include "util/osdep.h"
#include "util/systemd.h"

/* From the wish to the end; service managers give about 90 s, people less. */
#define SHUTDOWN_DEADLINE_S 5
#define WATCHDOG_STEP_MS    250

static int signal_fd = -1;  /* eventfd: the handler tells the main loop */
static sem_t watchdog_wake; /* the handler tells the watchdog */
static int signals_seen;    /* atomic */
static bool wake_sent;      /* atomic: it was told */
static bool done;           /* atomic */
static const char *stage;   /* atomic: what is being done now, for the watchdog's message */
static bool stop_main_loop; /* main thread */
static pthread_t watchdog;

/* Also in a signal's handler. */
static void start_watchdog(void)
{
    if (!__atomic_exchange_n(&wake_sent, true, __ATOMIC_ACQ_REL)) {
        sem_post(&watchdog_wake);
    }
}

static void handle_signal(int sig)
{
    static const char forced[] = "second signal: ending at once\n";
    uint64_t one = 1;
    int saved_errno = errno;

    if (__atomic_fetch_add(&signals_seen, 1, __ATOMIC_RELAXED) > 0) {
        if (write(STDERR_FILENO, forced, sizeof(forced) - 1) < 0) {
            /* There is nobody to tell. */
        }
        _exit(1);
    }
    if (write(signal_fd, &one, sizeof(one)) < 0) {
        /* An eventfd takes the first write. */
    }
    start_watchdog();
    errno = saved_errno;
}

/* In steps: while the whole process stood still, nothing in it hung. */
static void watchdog_wait(void)
{
    for (int ms = 0; ms < SHUTDOWN_DEADLINE_S * 1000; ms += WATCHDOG_STEP_MS) {
        struct timespec step;
        int ret;

        clock_gettime(CLOCK_MONOTONIC, &step);
        step.tv_nsec += WATCHDOG_STEP_MS * SCALE_MS;
        step.tv_sec += step.tv_nsec / NANOSECONDS_PER_SECOND;
        step.tv_nsec %= NANOSECONDS_PER_SECOND;
        do {
            ret = sem_clockwait(&watchdog_wake, CLOCK_MONOTONIC, &step);
        } while (ret < 0 && errno == EINTR);
        if (ret == 0) {
            return;
        }
    }
}

static void *watchdog_run(void *opaque)
{
    const char *what;

    while (sem_wait(&watchdog_wake) < 0 && errno == EINTR) {
    }
    if (__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        return NULL;
    }
    watchdog_wait();
    if (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        what = __atomic_load_n(&stage, __ATOMIC_ACQUIRE);
        fprintf(stderr, "%s: not ended %d s after it was told to, hung while %s; giving up\n",
                error_get_progname(), SHUTDOWN_DEADLINE_S, what);
        _exit(1);
    }
    return NULL;
}

void daemon_shutdown_init(void)
{
    struct sigaction act = {.sa_handler = handle_signal, .sa_flags = SA_RESTART};
    sigset_t all, old;

    stage = "starting";
    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sem_init(&watchdog_wake, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD,
           SIG_DFL); /* ignored, as who started us may have it, nobody learns how a program ended */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (signal_fd < 0 || pthread_create(&watchdog, NULL, watchdog_run, NULL) != 0) {
        error_report("cannot set up the handling of signals");
        _exit(1);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
}

static void signal_seen(void *opaque)
{
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, NULL, NULL, NULL);
    monitor_request_shutdown(SHUTDOWN_CAUSE_HOST_SIGNAL);
}

static void shutdown_requested(void)
{
    stop_main_loop = true;
    start_watchdog();
    daemon_hurry_begin();
    chardev_shutdown_all(); /* also one that waits for its first client at start */
    aio_notify(qemu_get_aio_context());
}

void daemon_shutdown_watch(void)
{
    monitor_set_shutdown_hook(shutdown_requested);
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, signal_seen, NULL, NULL);
}

void daemon_run_main_loop(void)
{
    __atomic_store_n(&stage, "serving", __ATOMIC_RELEASE);
    while (!stop_main_loop) {
        aio_poll(qemu_get_aio_context(), true);
    }
    systemd_notify("STOPPING=1");
}

static void enter_stage(DaemonEnding ending, const char *name)
{
    __atomic_store_n(&stage, name, __ATOMIC_RELEASE);
    daemon_hurry_enter(ending, name);
}

/* "cancelling jobs: a b": kept until the end, as the watchdog may read it at any time. */
static const char *stage_of_jobs(void)
{
    static char text[256];
    size_t used = (size_t)snprintf(text, sizeof(text), "cancelling jobs:");

    for (Job *job = job_next(NULL); job && used < sizeof(text); job = job_next(job)) {
        if (job->id) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, " %s", job->id);
        }
    }
    return text;
}

void coroutine_fn daemon_co_shutdown(void)
{
    start_watchdog(); /* also when it could not start */
    daemon_hurry_begin();
    enter_stage(DAEMON_ENDING_COMMANDS, "waiting for a QMP command to end");
    monitor_co_wait_commands();
    enter_stage(DAEMON_ENDING_JOBS, stage_of_jobs());
    job_co_cancel_sync_all(true);
    enter_stage(DAEMON_ENDING_CLIENTS, "closing exports");
    blk_exp_co_close_all();
    if (nbd_server_is_running()) {
        nbd_server_co_stop();
    }
    enter_stage(DAEMON_ENDING_CLIENTS, "ending backup accesses");
    backup_access_co_end_all();
    enter_stage(DAEMON_ENDING_NODES, "flushing block devices");
    daemon_co_flush_nodes();
    enter_stage(DAEMON_ENDING_NODES, "closing block devices");
    daemon_co_drop_drives();
    bdrv_co_close_all();
    enter_stage(DAEMON_ENDING_NODES, "ending QMP sessions");
    monitor_co_cleanup();
}

void daemon_shutdown_done(void)
{
    enter_stage(DAEMON_ENDING_NODES, "ending threads");
    daemon_hurry_end();
    chardev_cleanup();
    object_cleanup();
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, NULL, NULL, NULL);
    aio_cleanup();
    __atomic_store_n(&done, true, __ATOMIC_RELEASE);
    sem_post(&watchdog_wake);
    pthread_join(watchdog, NULL);
}
