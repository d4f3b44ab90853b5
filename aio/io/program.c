/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * program.c - another program, from its start to its end
 *
 *   PR1  It is started in a worker: to look for its file may take time.  A cancel that comes before the start is seen
 *        after it, under the lock.
 *   PR2  Its number is used only while it has not been waited for, under the lock: it cannot be another program's.
 *   PR3  Signals go to its group, so that what a script has started ends with it.
 *   PR4  What is still there a second after SIGKILL waits for something in the kernel.  It is left, and stays a zombie
 *        until we end: nothing can be done about it, and who waits for us has waited for long.
 */
#include "aio/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "aio/timer.h"
#include "trace-aio-io.h"
#include "util/osdep.h"

/* How often is looked whether it is time for a signal; each costs next to nothing. */
#define LOOK_NS (INT64_C(50) * SCALE_MS)

extern char **environ;

void aio_program_init(AioProgram *p)
{
    *p = (AioProgram){0};
    g_mutex_init(&p->lock);
}

void aio_program_destroy(AioProgram *p)
{
    assert(!p->running);
    g_mutex_clear(&p->lock);
}

typedef struct Run {
    AioProgram *p;
    char **argv;
    int64_t deadline_ns;
    AioContext *ctx;
    QEMUTimer *timer;
    int pidfd;
    bool timed_out;
} Run;

/* Under the lock; PR2, PR3.  Whether it is time to give up (PR4). */
static bool end_soon(AioProgram *p, int64_t now)
{
    if (p->pid == 0) {
        return false;
    }
    if (!p->term_ns) {
        p->term_ns = now;
        kill(-p->pid, SIGTERM);
    } else if (!p->kill_ns && now - p->term_ns >= AIO_PROGRAM_GRACE_NS) {
        p->kill_ns = now;
        kill(-p->pid, SIGKILL);
    }
    return p->kill_ns && now - p->kill_ns >= AIO_PROGRAM_GRACE_NS;
}

void aio_program_cancel(AioProgram *p)
{
    g_mutex_lock(&p->lock);
    if (p->running) {
        p->cancelled = true;
        end_soon(p, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    }
    g_mutex_unlock(&p->lock);
}

/* ------------------------------------------------------------------------------------------ start, worker */

static int set_up(posix_spawnattr_t *attr, posix_spawn_file_actions_t *files)
{
    sigset_t none, all;
    int ret;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(attr, &none);
    posix_spawnattr_setsigdefault(attr, &all);
    posix_spawnattr_setpgroup(attr, 0);
    ret = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                             POSIX_SPAWN_SETPGROUP);
    if (ret == 0) {
        ret = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    if (ret == 0) { /* ours may be a monitor's connection */
        ret = posix_spawn_file_actions_adddup2(files, STDERR_FILENO, STDOUT_FILENO);
    }
    if (ret == 0) { /* images, and the locks on them */
        ret = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
    }
    return ret;
}

static int spawn(char **argv, pid_t *ret_pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int ret;

    if (posix_spawnattr_init(&attr) != 0) {
        return -ENOMEM;
    }
    if (posix_spawn_file_actions_init(&files) != 0) {
        posix_spawnattr_destroy(&attr);
        return -ENOMEM;
    }
    ret = set_up(&attr, &files);
    if (ret == 0) {
        ret = posix_spawn(ret_pid, argv[0], &files, &attr, argv, environ);
    }
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return -ret;
}

/* PR1 */
static int start_blocking(void *opaque)
{
    Run *run = opaque;
    AioProgram *p = run->p;
    pid_t pid = 0;
    int ret = spawn(run->argv, &pid);

    if (ret < 0) {
        return ret;
    }
    run->pidfd = pidfd_open(pid, 0);
    if (run->pidfd < 0) {
        ret = -errno;
        kill(-pid, SIGKILL); /* nobody could wait for it */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
        return ret;
    }
    g_mutex_lock(&p->lock);
    p->pid = pid;
    if (p->cancelled) {
        end_soon(p, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    }
    g_mutex_unlock(&p->lock);
    return 0;
}

/* -------------------------------------------------------------------------------------------------- end */

static void look(void *opaque)
{
    Run *run = opaque;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    bool hopeless = false;

    g_mutex_lock(&run->p->lock);
    run->timed_out |= !run->p->cancelled && now >= run->deadline_ns;
    if (run->timed_out || run->p->cancelled) {
        hopeless = end_soon(run->p, now);
    }
    g_mutex_unlock(&run->p->lock);
    if (hopeless) {
        aio_fd_cancel(run->ctx, run->pidfd); /* PR4 */
    } else {
        timer_mod_ns(run->timer, now + LOOK_NS);
    }
}

/* Under the lock; PR2.  0, or negative errno with an Error. */
static int reap(Run *run, bool has_ended, Error **errp)
{
    const char *name = run->argv[0];
    pid_t pid = run->p->pid;
    siginfo_t info = {0};
    bool known = has_ended && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) == 0;
    int ret = -ECHILD;

    run->p->pid = 0;
    if (run->timed_out) {
        error_setg(errp, "'%s' took too long and was ended", name);
        ret = -ETIMEDOUT;
    } else if (run->p->cancelled) {
        error_setg(errp, "'%s' was cancelled", name);
        ret = -ECANCELED;
    } else if (!known || info.si_pid != pid) {
        error_setg(errp, "Nobody knows how '%s' has ended", name);
    } else if (info.si_code != CLD_EXITED) {
        error_setg(errp, "'%s' was ended by signal %d (%s)", name, info.si_status,
                   strsignal(info.si_status));
    } else if (info.si_status != 0) {
        error_setg(errp, "'%s' has failed, with exit status %d", name, info.si_status);
    } else {
        ret = 0;
    }
    trace_aio_program_end(name, pid, info.si_code, info.si_status, ret);
    return ret;
}

static int coroutine_fn wait_for_end(Run *run, Error **errp)
{
    int ret;

    run->timer = aio_timer_new(run->ctx, look, run);
    timer_mod_ns(run->timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + LOOK_NS);
    ret = aio_co_wait_fd(run->pidfd, POLLIN);
    timer_free(run->timer);
    g_mutex_lock(&run->p->lock);
    ret = reap(run, ret >= 0, errp);
    g_mutex_unlock(&run->p->lock);
    close(run->pidfd);
    return ret;
}

int coroutine_fn aio_program_co_run(AioProgram *p, char **argv, int64_t limit_ns, Error **errp)
{
    Run run = {
        .p = p,
        .argv = argv,
        .deadline_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + limit_ns,
        .ctx = qemu_get_current_aio_context(),
    };
    int ret;

    g_mutex_lock(&p->lock);
    assert(!p->running);
    p->running = true;
    p->cancelled = false;
    p->term_ns = p->kill_ns = 0;
    g_mutex_unlock(&p->lock);
    ret = thread_pool_submit_co(start_blocking, &run);
    trace_aio_program_start(argv[0], p->pid, ret);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not start '%s'", argv[0]);
    } else {
        ret = wait_for_end(&run, errp);
    }
    g_mutex_lock(&p->lock);
    p->running = false;
    g_mutex_unlock(&p->lock);
    return ret;
}
