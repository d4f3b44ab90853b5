/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running another program and waiting for its end in a coroutine: without a shell, for a limited time.
 *
 *      aio_program_co_run() ── worker: posix_spawn ──▶ the program, in a process group of its own
 *            │                                             │ stdin: nothing; stdout, stderr: our stderr
 *            │ waits for it to end ◀───────────────────────┘ no other file of ours
 *            │
 *            └─ the limit, or a cancel: SIGTERM ── AIO_PROGRAM_GRACE_NS ──▶ SIGKILL, to all of its group
 */
#ifndef AIO_PROGRAM_H
#define AIO_PROGRAM_H

#include <glib.h>
#include <sys/types.h>
#include "aio/aio.h"

/*
 * From SIGTERM to SIGKILL: a program that was in the midst of something can bring it to an end, and a service that is
 * told to stop, which has a few seconds, does not leave it behind.
 */
#define AIO_PROGRAM_GRACE_NS INT64_C(1000000000)

/* One program at a time; lives as long as whoever may cancel it. */
typedef struct AioProgram {
    GMutex lock;
    pid_t pid; /* under the lock: 0, none runs */
    bool running, cancelled;
    int64_t term_ns, kill_ns; /* when the signal was sent; 0: it was not */
} AioProgram;

void aio_program_init(AioProgram *p);
/* aio_program_destroy() - nothing runs */
void aio_program_destroy(AioProgram *p);

/**
 * aio_program_co_run() - run a program to its end
 * @argv:     its path, which is not looked for, and its arguments; NULL at the end; borrowed
 * @limit_ns: so long it may run
 *
 * Context: coroutine, any AioContext.  Yields; nothing else runs in @p.
 * Cancel:  aio_program_cancel().
 *
 * Return: 0, it has ended with status 0; negative errno and words that say what was wrong: -ETIMEDOUT, it was ended
 *         because of the limit; -ECANCELED; -ECHILD, it has failed, or nobody knows how it ended; or why it could
 *         not be started.  None of its processes is known to run on, but for one that the kernel cannot end.
 */
int coroutine_fn aio_program_co_run(AioProgram *p, char **argv, int64_t limit_ns, Error **errp);

/* aio_program_cancel() - what runs is to end soon, and what is about to be started is not; any thread, never waits */
void aio_program_cancel(AioProgram *p);

#endif
