/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run.c - a command's coroutine, run to its end; and what signals do to it
 *
 *      signal ─▶ handler ─▶ eventfd ─▶ event loop: img_interrupted(), hook ──1 s──▶ silent servers are given up
 *                   │
 *                   └─ a second one has its default action: the process ends at once
 *
 * After an interrupted command has cleaned up, the process ends by the signal that it got, so that whoever
 * has started it sees what happened.
 */
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "aio/timer.h"
#include "block/graph/graph.h"
#include "programs/common/object-option.h"
#include "programs/img/img.h"
#include "programs/img/run.h"
#include "util/osdep.h"

/* From the signal until what waits for a server is given up: time enough for what is only slow. */
#define GIVE_UP_NS (INT64_C(1000) * SCALE_MS)

static int signal_fd = -1;
static int signal_seen; /* atomic; 0: none */
static bool usr1_seen;  /* atomic */
static bool told;       /* the interrupt: the hook was called */
static QEMUTimer *give_up_timer;
static void (*interrupt_hook)(void *opaque);
static void *interrupt_opaque;
static void (*usr1_hook)(void);

typedef struct Run {
    ImgCoroutine *entry;
    void *opaque;
    int status;
} Run;

static void wake_loop(void)
{
    uint64_t one = 1;

    if (write(signal_fd, &one, sizeof(one)) < 0) {
        /* It is readable already. */
    }
}

static void handle_end(int sig)
{
    int saved_errno = errno;

    __atomic_store_n(&signal_seen, sig, __ATOMIC_RELEASE);
    wake_loop();
    errno = saved_errno;
}

static void handle_usr1(int sig)
{
    int saved_errno = errno;

    __atomic_store_n(&usr1_seen, true, __ATOMIC_RELEASE);
    wake_loop();
    errno = saved_errno;
}

static void give_up_on(BlockDriverState *bs, void *opaque)
{
    if (bs->drv && bs->drv->life->cancel_in_flight) {
        bs->drv->life->cancel_in_flight(bs);
    }
}

/* Again and again: a retry may wait for the same server. */
static void give_up(void *opaque)
{
    bdrv_for_each_node(give_up_on, NULL);
    timer_mod_ns(give_up_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + GIVE_UP_NS);
}

static void signal_arrived(void *opaque)
{
    uint64_t count;

    if (read(signal_fd, &count, sizeof(count)) < 0) {
        return;
    }
    if (__atomic_exchange_n(&usr1_seen, false, __ATOMIC_ACQ_REL) && usr1_hook) {
        usr1_hook();
    }
    if (__atomic_load_n(&signal_seen, __ATOMIC_ACQUIRE) && !told) {
        told = true;
        timer_mod_ns(give_up_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + GIVE_UP_NS);
        if (interrupt_hook) {
            interrupt_hook(interrupt_opaque);
        }
    }
}

static void begin_signals(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction act = {.sa_handler = handle_end, .sa_flags = SA_RESTART | SA_RESETHAND};
    struct sigaction old;

    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signal_fd < 0) {
        error_report("cannot set up the handling of signals: %s", g_strerror(errno));
        exit(EXIT_FAILURE);
    }
    give_up_timer = aio_timer_new(qemu_get_aio_context(), give_up, NULL);
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, signal_arrived, NULL, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        /* What whoever started us ignores (nohup) stays ignored. */
        if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            sigaction(ends[i], &act, NULL);
        }
    }
}

static void end_signals(void)
{
    timer_free(give_up_timer);
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, NULL, NULL, NULL);
}

static void coroutine_fn run_entry(void *opaque)
{
    Run *run = opaque;
    Error *err = NULL;

    if (object_options_co_make(&err) < 0) {
        error_report_err(err);
        run->status = img_args_object_failure();
        return;
    }
    run->status = run->entry(run->opaque);
}

int img_run(ImgCoroutine *entry, void *opaque)
{
    Run run = {.entry = entry, .opaque = opaque};
    Error *err = NULL;
    int sig;

    if (aio_init(AIO_ENGINE_AUTO, &err) < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    begin_signals();
    aio_run_co(run_entry, &run);
    object_options_clear();
    end_signals();
    aio_cleanup();
    sig = __atomic_load_n(&signal_seen, __ATOMIC_ACQUIRE);
    if (sig) {
        fflush(stdout);
        signal(sig, SIG_DFL);
        raise(sig);
    }
    return run.status;
}

bool img_interrupted(void)
{
    return __atomic_load_n(&signal_seen, __ATOMIC_ACQUIRE) != 0;
}

void img_set_interrupt_hook(void (*hook)(void *opaque), void *opaque)
{
    interrupt_hook = hook;
    interrupt_opaque = opaque;
}

void img_set_usr1_hook(void (*hook)(void))
{
    struct sigaction act = {.sa_handler = hook ? handle_usr1 : SIG_DFL, .sa_flags = SA_RESTART};

    usr1_hook = hook;
    sigaction(SIGUSR1, &act, NULL);
}
