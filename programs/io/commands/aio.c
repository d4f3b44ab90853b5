/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aio.c - aio_read, aio_write, aio_flush: requests that are under way while commands go on
 *
 *      aio_write ──▶ coroutine: request ... done: prints ──▶ in_flight - 1
 *          └─ the command has ended                              aio_flush waits for 0, and so does the end
 *
 * A request that is done at once is told of after its command, as others are.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "aio/timer.h"
#include "programs/io/commands/commands.h"

typedef struct Aio {
    IoSession *io;
    bool write, zeroes, terse, quiet, dump, invalid, registered;
    int pattern; /* < 0: any */
    BdrvRequestFlags flags;
    int64_t offset, count;
    int64_t begin_ns;
    IoVector vector;
    bool command_ended;
} Aio;

static void tell(const Aio *a, int ret)
{
    const IoReport report = {a->write ? "wrote" : "read", a->begin_ns, a->offset, a->count,
                             a->terse};

    if (ret < 0) {
        printf("%s failed: %s\n", a->write ? "aio_write" : "readv", g_strerror(-ret));
        return;
    }
    if (!a->write && a->pattern >= 0 &&
        !io_buffer_is_pattern(&a->vector.buffer, 0, a->count, a->pattern)) {
        printf("Pattern verification failed at offset %" PRId64 ", %" PRId64 " bytes\n", a->offset,
               a->count);
    }
    if (!a->quiet) {
        if (a->dump) {
            io_dump(a->vector.buffer.bytes, a->offset, a->count);
        }
        io_print_report(&report);
    }
}

static void aio_free(Aio *a)
{
    if (!a->zeroes) {
        io_vector_free(&a->vector);
    }
    g_free(a);
}

static void coroutine_fn aio_entry(void *opaque)
{
    Aio *a = opaque;
    IoSession *io = a->io;
    int ret;

    if (a->zeroes) {
        ret = blk_co_pwrite_zeroes(io->blk, a->offset, a->count, a->flags);
    } else if (a->write) {
        ret = io_co_write(io, a->offset, &a->vector.qiov, a->flags);
    } else {
        ret = io_co_read(io, a->offset, &a->vector.qiov);
    }
    if (!a->command_ended) {
        aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    tell(a, ret);
    aio_free(a);
    io->in_flight--;
    if (io->in_flight == 0) {
        qemu_co_queue_restart_all(&io->idle);
    }
}

static int coroutine_fn start(Aio *a)
{
    a->io->in_flight++;
    a->begin_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    qemu_coroutine_enter(qemu_coroutine_create(aio_entry, a));
    a->command_ended = true; /* it has not been told of yet, so that it is still there */
    return 0;
}

/* 0; negative: told. */
static int aio_option(Aio *a, int c)
{
    switch (c) {
    case 'C':
        a->terse = true;
        return 0;
    case 'f':
        a->flags |= BDRV_REQ_FUA;
        return 0;
    case 'i':
        a->invalid = true;
        return 0;
    case 'P':
        a->pattern = io_parse_pattern(optarg);
        return MIN(a->pattern, 0);
    case 'q':
        a->quiet = true;
        return 0;
    case 'r':
        a->registered = true;
        return 0;
    case 'u':
        a->flags |= BDRV_REQ_MAY_UNMAP;
        return 0;
    case 'v':
        a->dump = true;
        return 0;
    default: /* z */
        a->zeroes = true;
        return 0;
    }
}

/* Where the operands are; 0: told. */
static int parse_options(Aio *a, int argc, char **argv, const char *letters)
{
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, letters)) != -1) {
        if (c == '?') {
            io_usage_error(argv);
            return 0;
        }
        if (aio_option(a, c) < 0) {
            return 0;
        }
    }
    if (optind > argc - 2) {
        io_usage_error(argv);
        return 0;
    }
    return optind;
}

/* Counted as a request that nobody could make. */
static int inject_invalid(const Aio *a)
{
    printf("injecting invalid %s request\n", a->write ? "write" : "read");
    block_acct_invalid(blk_get_stats(a->io->blk), a->write ? BLOCK_ACCT_WRITE : BLOCK_ACCT_READ);
    return 0;
}

/* Everything that @a needs, from the operands; 1: nothing is to be done any more; negative: told. */
static int prepare(Aio *a, char **words, int count)
{
    if (a->zeroes && count != 2) {
        printf("-z supports only a single length parameter\n");
        return -EINVAL;
    }
    if ((a->flags & BDRV_REQ_MAY_UNMAP) && !a->zeroes) {
        printf("-u requires -z to be specified\n");
        return -EINVAL;
    }
    if (a->zeroes && a->registered) {
        printf("cannot combine zero write with registered I/O buffer\n");
        return -EINVAL;
    }
    a->offset = io_parse_size(words[0]);
    if (a->offset < 0) {
        return -EINVAL;
    }
    if (a->zeroes) {
        a->count = io_parse_size(words[1]);
        if (a->count < 0) {
            return -EINVAL;
        }
    }
    if (a->invalid) {
        return inject_invalid(a) + 1;
    }
    if (!a->zeroes) {
        if (!io_vector_alloc(a->io, &a->vector, words + 1, count - 1,
                             a->write ? a->pattern : IO_PATTERN_READ)) {
            return -EINVAL;
        }
        a->count = (int64_t)a->vector.qiov.size;
    }
    return 0;
}

static int coroutine_fn run(IoSession *io, int argc, char **argv, const Aio *defaults,
                            const char *letters)
{
    g_autofree Aio *a = g_memdup2(defaults, sizeof(*defaults));
    int first, ret;

    a->io = io;
    first = parse_options(a, argc, argv, letters);
    if (first == 0) {
        return -EINVAL;
    }
    ret = prepare(a, argv + first, argc - first);
    return ret == 0 ? start(g_steal_pointer(&a)) : MIN(ret, 0);
}

static int coroutine_fn aio_read_run(IoSession *io, int argc, char **argv)
{
    const Aio defaults = {.pattern = -1};

    return run(io, argc, argv, &defaults, "CiP:qrv");
}

const IoCommand io_aio_read = {
    .name = "aio_read",
    .args = "[-Ciqrv] [-P pattern] off len [len..]",
    .summary = "begins to read bytes from an offset on",
    .help =
        " As readv, but commands go on meanwhile; aio_flush waits for it.  What becomes of the\n"
        " request is printed, and is no failure of the command.\n"
        "\n"
        " Example:\n"
        " 'aio_read -v 512 1k 1k' - shows the two kilobytes that begin at byte 512\n"
        "\n"
        " -C -- print the statistics for programs\n"
        " -i -- make no request, but count one that was invalid\n"
        " -P -- compare what was read with this byte\n"
        " -q -- print no statistics\n"
        " -r -- has no effect: buffers need no registration\n"
        " -v -- show what was read\n",
    .min_args = 2,
    .max_args = -1,
    .run = aio_read_run,
};

static int coroutine_fn aio_write_run(IoSession *io, int argc, char **argv)
{
    const Aio defaults = {.write = true, .pattern = IO_PATTERN_WRITE};

    return run(io, argc, argv, &defaults, "CfiP:qruz");
}

const IoCommand io_aio_write = {
    .name = "aio_write",
    .args = "[-Cfiqruz] [-P pattern] off len [len..]",
    .summary = "begins to write bytes from an offset on",
    .help =
        " As writev, but commands go on meanwhile; aio_flush waits for it.  What becomes of the\n"
        " request is printed, and is no failure of the command.\n"
        "\n"
        " Example:\n"
        " 'aio_write 512 1k 1k' - writes two kilobytes that begin at byte 512\n"
        "\n"
        " -C -- print the statistics for programs\n"
        " -f -- on stable storage before it ends (force unit access)\n"
        " -i -- make no request, but count one that was invalid\n"
        " -P -- write this byte (0xcd)\n"
        " -q -- print no statistics\n"
        " -r -- has no effect: buffers need no registration\n"
        " -u -- with -z: the space may be given back\n"
        " -z -- write zeros, in the way that the image has for that\n",
    .min_args = 2,
    .max_args = -1,
    .perm = BLK_PERM_WRITE,
    .run = aio_write_run,
};

static int coroutine_fn aio_flush_run(IoSession *io, int argc, char **argv)
{
    io_co_wait_idle(io);
    return 0;
}

const IoCommand io_aio_flush = {
    .name = "aio_flush",
    .summary = "waits until no aio_read and aio_write is under way",
    .run = aio_flush_run,
};
