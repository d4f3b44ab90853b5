/* SPDX-License-Identifier: GPL-2.0-or-later */
/* program-test.c - programs that succeed, fail, hang, do not want to end, and are cancelled */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "aio/program.h"
#include "aio/timer.h"
#include "engines.h"
#include "util/osdep.h"

#define LONG_NS (INT64_C(60) * NANOSECONDS_PER_SECOND)

typedef struct Run {
    AioProgram p;
    const char *argv[5];
    int64_t limit_ns;
    int ret;
    Error *err;
    bool done;
} Run;

static void coroutine_fn run_entry(void *opaque)
{
    Run *run = opaque;

    run->ret = aio_program_co_run(&run->p, (char **)run->argv, run->limit_ns, &run->err);
    run->done = true;
}

static void start(Run *run, const char *script, const char *argument, int64_t limit_ns)
{
    *run = (Run){.limit_ns = limit_ns};
    memcpy(run->argv, ((const char *[]){"/bin/sh", "-c", script, argument, NULL}),
           sizeof(run->argv));
    aio_program_init(&run->p);
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(run_entry, run));
}

/* @message NULL: it succeeds. */
static void finish(Run *run, int ret, const char *message)
{
    poll_until(run->done);
    g_assert_cmpint(run->ret, ==, ret);
    g_assert_true((run->err != NULL) == (message != NULL));
    if (message && !strstr(error_get_pretty(run->err), message)) {
        g_error("'%s' is not in '%s'", message, error_get_pretty(run->err));
    }
    g_assert_cmpint(run->p.pid, ==, 0);
    error_free(run->err);
    aio_program_destroy(&run->p);
}

static void run(const char *script, const char *argument, int64_t limit_ns, int ret,
                const char *message)
{
    Run r;

    start(&r, script, argument, limit_ns);
    finish(&r, ret, message);
}

static void test_status(void)
{
    run("exit 0", NULL, LONG_NS, 0, NULL);
    run("exit 3", NULL, LONG_NS, -ECHILD, "exit status 3");
    run("kill -SEGV $$", NULL, LONG_NS, -ECHILD, "signal 11");
}

static void test_not_there(void)
{
    Run r;

    start(&r, "exit 0", NULL, LONG_NS);
    r.argv[0] = "/nonexistent/program";
    finish(&r, -ENOENT, "Could not start '/nonexistent/program': No such file");
}

/* No file of ours, no signal that we ignore, and what it says does not go to our standard output. */
static void test_clean_slate(void)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp("program-test-XXXXXX", &name, NULL);
    g_autofree char *number = g_strdup_printf("%d", fd);

    g_assert_cmpint(fd, >, 2);
    run("test ! -e /proc/self/fd/$0", number, LONG_NS, 0, NULL); /* though it is open here */
    run("test ! -t 0 && ! read line", NULL, LONG_NS, 0, NULL);
    run("test \"$(readlink /proc/$$/fd/1)\" = \"$(readlink /proc/$$/fd/2)\"", NULL, LONG_NS, 0,
        NULL);
    signal(SIGPIPE, SIG_IGN);
    run("kill -PIPE $$; exit 0", NULL, LONG_NS, -ECHILD, "signal 13");
    signal(SIGPIPE, SIG_DFL);
    close(fd);
    unlink(name);
}

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* PR3: what it has started ends, too: it would keep the lock on the file. */
static void test_limit(void)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp("program-test-XXXXXX", &name, NULL);

    run("(exec 9>>$0; flock 9; sleep 60) & wait", name, 500 * SCALE_MS, -ETIMEDOUT,
        "took too long");
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) { /* it was told to end, and nobody waits for it */
        g_usleep(1000);
    }
    close(fd);
    unlink(name);
}

static void test_does_not_want_to(void)
{
    int64_t begun = now_ns();

    run("trap '' TERM; while :; do sleep 1; done", NULL, 200 * SCALE_MS, -ETIMEDOUT,
        "took too long");
    g_assert_cmpint(now_ns() - begun, >=, AIO_PROGRAM_GRACE_NS);
}

static void test_cancel(void)
{
    Run r;

    start(&r, "sleep 60", NULL, LONG_NS);
    poll_until(r.p.running);
    aio_program_cancel(&r.p); /* it may have been started or not */
    aio_program_cancel(&r.p);
    finish(&r, -ECANCELED, "was cancelled");

    start(&r, "sleep 60", NULL, LONG_NS);
    poll_until(__atomic_load_n(&r.p.pid, __ATOMIC_SEQ_CST));
    aio_program_cancel(&r.p);
    finish(&r, -ECANCELED, "was cancelled");

    start(&r, "exit 0", NULL, LONG_NS);
    poll_until(r.done);
    aio_program_cancel(&r.p); /* too late */
    finish(&r, 0, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    engine_test_add("a program's exit status is known", test_status);
    engine_test_add("a program that is not there is named", test_not_there);
    engine_test_add("a program has no file and no signal handling of ours", test_clean_slate);
    engine_test_add("a program that hangs is ended, with what it has started", test_limit);
    engine_test_add("a program that does not want to end is killed", test_does_not_want_to);
    engine_test_add("a program is cancelled before its start, after it, or too late", test_cancel);
    return g_test_run();
}
