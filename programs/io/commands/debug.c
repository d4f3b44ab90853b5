/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * debug.c - requests that are stopped and let go, by blkdebug; and a program that sleeps, or dies
 *
 * The breakpoints are those of the first blkdebug node below the image.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "block/filters/blkdebug.h"
#include "coro/sleep.h"
#include "programs/io/commands/commands.h"
#include "qapi/type.h"
#include "util/cutils.h"

static int coroutine_fn break_run(IoSession *io, int argc, char **argv)
{
    BlockDriverState *bs = blkdebug_find_below(blk_bs(io->blk));
    int event = qapi_enum_parse(&BlkdebugEvent_lookup, argv[1], -1, NULL);
    int ret = !bs ? -ENOTSUP : event < 0 ? -ENOENT : blkdebug_suspend(bs, event, argv[2]);

    if (ret < 0) {
        printf("Could not set breakpoint: %s\n", g_strerror(-ret));
    }
    return ret;
}

const IoCommand io_break = {
    .name = "break",
    .args = "event tag",
    .summary = "stops the next request at an event, and names it tag",
    .help = " The image must have a blkdebug node, the event is one of its.\n",
    .min_args = 2,
    .max_args = 2,
    .run = break_run,
};

static int coroutine_fn remove_break_run(IoSession *io, int argc, char **argv)
{
    BlockDriverState *bs = blkdebug_find_below(blk_bs(io->blk));
    int ret = bs ? blkdebug_remove_break(bs, argv[1]) : -ENOTSUP;

    if (ret < 0) {
        printf("Could not remove breakpoint %s: %s\n", argv[1], g_strerror(-ret));
    }
    return ret;
}

const IoCommand io_remove_break = {
    .name = "remove_break",
    .args = "tag",
    .summary = "removes the breakpoints of this name, and lets go what they stopped",
    .min_args = 1,
    .max_args = 1,
    .run = remove_break_run,
};

static int coroutine_fn resume_run(IoSession *io, int argc, char **argv)
{
    BlockDriverState *bs = blkdebug_find_below(blk_bs(io->blk));
    int ret = bs ? blkdebug_resume_held(bs, argv[1]) : -ENOTSUP;

    if (ret < 0) {
        printf("Could not resume request: %s\n", g_strerror(-ret));
    }
    return ret;
}

const IoCommand io_resume = {
    .name = "resume",
    .args = "tag",
    .summary = "lets the request go on that is stopped under this name",
    .min_args = 1,
    .max_args = 1,
    .run = resume_run,
};

static int coroutine_fn wait_break_run(IoSession *io, int argc, char **argv)
{
    BlockDriverState *bs = blkdebug_find_below(blk_bs(io->blk));

    while (bs && !blkdebug_is_suspended(bs, argv[1])) {
        qemu_co_queue_wait(&io->stopped, NULL);
    }
    return 0;
}

const IoCommand io_wait_break = {
    .name = "wait_break",
    .args = "tag",
    .summary = "waits until a request is stopped under this name",
    .min_args = 1,
    .max_args = 1,
    .run = wait_break_run,
};

static int coroutine_fn abort_run(IoSession *io, int argc, char **argv)
{
    abort();
}

const IoCommand io_abort = {
    .name = "abort",
    .summary = "ends the program at once, as a crash would",
    .without_image = true,
    .run = abort_run,
};

static int coroutine_fn sigraise_run(IoSession *io, int argc, char **argv)
{
    int64_t sig = io_parse_size(argv[1]);

    if (sig < 0) {
        return (int)sig;
    }
    if (sig > NSIG) {
        printf("signal argument '%s' is too large to be a valid signal\n", argv[1]);
        return -EINVAL;
    }
    fflush(stdout); /* it may be the end, and not an orderly one */
    raise((int)sig);
    return 0;
}

const IoCommand io_sigraise = {
    .name = "sigraise",
    .args = "signal",
    .summary = "raises a signal",
    .help = " Sends the signal of this number to the program itself.\n"
            "\n"
            " Example:\n"
            " 'sigraise 15' - raises SIGTERM\n",
    .min_args = 1,
    .max_args = 1,
    .without_image = true,
    .run = sigraise_run,
};

static int coroutine_fn sleep_run(IoSession *io, int argc, char **argv)
{
    int64_t ms;

    if (qemu_strtoi64(argv[1], NULL, 0, &ms) < 0 || ms < 0 || ms > INT64_MAX / SCALE_MS) {
        printf("%s is not a valid number\n", argv[1]);
        return -EINVAL;
    }
    qemu_co_sleep_ns(ms * SCALE_MS);
    return 0;
}

const IoCommand io_sleep = {
    .name = "sleep",
    .args = "ms",
    .summary = "waits for a number of milliseconds",
    .min_args = 1,
    .max_args = 1,
    .without_image = true,
    .run = sleep_run,
};
