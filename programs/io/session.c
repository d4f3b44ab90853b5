/* SPDX-License-Identifier: GPL-2.0-or-later */
/* session.c - one line after the other, in one coroutine */
#include <stdio.h>

#include "block/filters/blkdebug.h"
#include "programs/common/object-option.h"
#include "programs/io/io.h"

typedef struct Run {
    IoSession io;
    const IoOpen *how;
    char *const *lines;
    int status;
} Run;

void coroutine_fn io_co_wait_idle(IoSession *io)
{
    while (io->in_flight > 0) {
        qemu_co_queue_wait(&io->idle, NULL);
    }
}

/* blkdebug has stopped a request, or let it go. */
static void request_stopped(void *opaque, const char *tag, bool held)
{
    IoSession *io = opaque;

    printf("blkdebug: %s request '%s'\n", held ? "Suspended" : "Resuming", tag);
    qemu_co_queue_restart_all(&io->stopped);
}

static void coroutine_fn run_lines(Run *run)
{
    for (char *const *line = run->lines; *line && !run->io.quit; line++) {
        if (io_run_line(&run->io, *line) < 0) {
            run->status = EXIT_FAILURE;
        }
    }
}

static void coroutine_fn run_stdin(Run *run)
{
    while (!run->io.quit) {
        g_autofree char *line = io_co_read_line();

        if (!line) {
            break;
        }
        if (io_run_line(&run->io, line) < 0) {
            run->status = EXIT_FAILURE;
        }
    }
}

static void coroutine_fn run_entry(void *opaque)
{
    Run *run = opaque;
    IoSession *io = &run->io;
    Error *err = NULL;

    qemu_co_queue_init(&io->idle);
    qemu_co_queue_init(&io->stopped);
    blkdebug_set_hold_hook(request_stopped, io);
    if (object_options_co_make(&err) < 0) {
        error_report_err(err);
        run->status = EXIT_FAILURE;
    } else if ((run->how->image.filename || run->how->image.options) &&
               io_co_open(io, run->how) < 0) {
        run->status = EXIT_FAILURE;
    } else if (run->lines[0]) {
        run_lines(run);
    } else {
        run_stdin(run);
    }
    io_co_close(io);
    blkdebug_set_hold_hook(NULL, NULL);
    qemu_co_queue_destroy(&io->idle);
    qemu_co_queue_destroy(&io->stopped);
}

int io_run(const IoOpen *how, bool image_opts, bool misaligned, char *const *lines)
{
    Run run = {.how = how, .lines = lines};

    run.io.image_opts = image_opts;
    run.io.misaligned = misaligned;
    aio_run_co(run_entry, &run);
    return run.status;
}
