/* SPDX-License-Identifier: GPL-2.0-or-later */
/* write.c - write and writev: data, zeros, compressed data, a machine's state */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "aio/timer.h"
#include "programs/io/commands/commands.h"

typedef struct Write {
    bool terse, quiet, vmstate, compressed, zeroes, registered;
    BdrvRequestFlags flags;
    bool has_pattern;
    int pattern;
    const char *source; /* a file; NULL: the pattern */
    int64_t offset, count;
} Write;

/* 0; negative: told. */
static int write_option(Write *w, int c)
{
    switch (c) {
    case 'b':
        w->vmstate = true;
        return 0;
    case 'c':
        w->compressed = true;
        return 0;
    case 'C':
        w->terse = true;
        return 0;
    case 'f':
        w->flags |= BDRV_REQ_FUA;
        return 0;
    case 'n':
        w->flags |= BDRV_REQ_NO_FALLBACK;
        return 0;
    case 'P':
        w->has_pattern = true;
        w->pattern = io_parse_pattern(optarg);
        return MIN(w->pattern, 0);
    case 'q':
        w->quiet = true;
        return 0;
    case 'r': /* buffers need no registration here */
        w->registered = true;
        return 0;
    case 's':
        w->source = optarg;
        return 0;
    case 'u':
        w->flags |= BDRV_REQ_MAY_UNMAP;
        return 0;
    case 'z':
        w->zeroes = true;
        return 0;
    default: /* p */
        return 0;
    }
}

/* Do the options go together?  False: told. */
static bool check_options(const Write *w)
{
    if (w->vmstate && w->zeroes) {
        printf("-b and -z cannot be specified at the same time\n");
    } else if ((w->flags & BDRV_REQ_FUA) && (w->vmstate || w->compressed)) {
        printf("-f and -b or -c cannot be specified at the same time\n");
    } else if ((w->flags & BDRV_REQ_NO_FALLBACK) && !w->zeroes) {
        printf("-n requires -z to be specified\n");
    } else if ((w->flags & BDRV_REQ_MAY_UNMAP) && !w->zeroes) {
        printf("-u requires -z to be specified\n");
    } else if (w->zeroes + w->has_pattern + !!w->source > 1) {
        printf("Only one of -z, -P, and -s can be specified at the same time\n");
    } else if (w->zeroes && w->registered) {
        printf("cannot combine zero write with registered I/O buffer\n");
    } else {
        return true;
    }
    return false;
}

static int parse_range(Write *w, char **words)
{
    w->offset = io_parse_size(words[0]);
    if (w->offset < 0) {
        return -EINVAL;
    }
    w->count = io_parse_size(words[1]);
    if (w->count < 0) {
        return -EINVAL;
    }
    if (w->count > IO_LENGTH_MAX && !(w->flags & BDRV_REQ_NO_FALLBACK)) {
        printf("length cannot exceed %" PRId64 " without -n, given %s\n", IO_LENGTH_MAX, words[1]);
        return -EINVAL;
    }
    return w->vmstate || w->compressed ? io_check_sectors(w->offset, w->count) : 0;
}

static void report(const Write *w, int64_t begin_ns)
{
    const IoReport r = {"wrote", begin_ns, w->offset, w->count, w->terse};

    if (!w->quiet) {
        io_print_report(&r);
    }
}

static int coroutine_fn send(IoSession *io, const Write *w, IoBuffer *buf)
{
    QEMUIOVector qiov;

    if (w->zeroes) {
        return blk_co_pwrite_zeroes(io->blk, w->offset, w->count, w->flags);
    }
    qemu_iovec_init_buf(&qiov, buf->bytes, (size_t)w->count);
    if (w->vmstate) {
        return blk_co_save_vmstate(io->blk, w->offset, &qiov);
    }
    return io_co_write(io, w->offset, &qiov,
                       w->flags | (w->compressed ? BDRV_REQ_WRITE_COMPRESSED : 0));
}

static int coroutine_fn do_write(IoSession *io, const Write *w)
{
    IoBuffer buf = {0};
    int64_t begin_ns;
    int ret;

    if (!w->zeroes && !(w->source ? io_buffer_alloc_from_file(io, &buf, w->count, w->source)
                                  : io_buffer_alloc(io, &buf, w->count, w->pattern))) {
        return -EINVAL;
    }
    begin_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    ret = send(io, w, &buf);
    if (ret < 0) {
        printf("write failed: %s\n", g_strerror(-ret));
    } else {
        report(w, begin_ns);
    }
    io_buffer_free(&buf);
    return ret;
}

static int coroutine_fn write_run(IoSession *io, int argc, char **argv)
{
    Write w = {.pattern = IO_PATTERN_WRITE};
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "bcCfnpP:qrs:uz")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        if (write_option(&w, c) < 0) {
            return -EINVAL;
        }
    }
    if (optind != argc - 2) {
        return io_usage_error(argv);
    }
    if (!check_options(&w) || parse_range(&w, argv + optind) < 0) {
        return -EINVAL;
    }
    return do_write(io, &w);
}

const IoCommand io_write = {
    .name = "write",
    .alias = "w",
    .args = "[-bcCfnqruz] [-P pattern | -s source_file] off len",
    .summary = "writes bytes from an offset on",
    .help = " Writes a range of the image: 0xcd in each byte where nothing else is said.\n"
            "\n"
            " Example:\n"
            " 'write -P 0xaa 512 1k' - writes a kilobyte that begins at byte 512\n"
            "\n"
            " -b -- write the saved state of a machine rather than the disk\n"
            " -c -- compress what is written\n"
            " -C -- print the statistics for programs: bytes,requests,time,bytes/sec,requests/sec\n"
            " -f -- on stable storage before it ends (force unit access)\n"
            " -n -- with -z: fail where that is not quicker than writing\n"
            " -p -- has no effect\n"
            " -P -- write this byte\n"
            " -q -- print no statistics\n"
            " -r -- has no effect: buffers need no registration\n"
            " -s -- write what is in this file, again and again\n"
            " -u -- with -z: the space may be given back\n"
            " -z -- write zeros, in the way that the image has for that\n",
    .min_args = 2,
    .max_args = -1,
    .perm = BLK_PERM_WRITE,
    .run = write_run,
};

static int coroutine_fn do_writev(IoSession *io, Write *w, char **lengths, int count)
{
    IoVector vector;
    int64_t begin_ns;
    int ret;

    if (!io_vector_alloc(io, &vector, lengths, count, w->pattern)) {
        return -EINVAL;
    }
    w->count = (int64_t)vector.qiov.size;
    begin_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    ret = io_co_write(io, w->offset, &vector.qiov, w->flags);
    if (ret < 0) {
        printf("writev failed: %s\n", g_strerror(-ret));
    } else {
        report(w, begin_ns);
    }
    io_vector_free(&vector);
    return ret;
}

static int coroutine_fn writev_run(IoSession *io, int argc, char **argv)
{
    Write w = {.pattern = IO_PATTERN_WRITE};
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "CfP:qr")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        if (write_option(&w, c) < 0) {
            return -EINVAL;
        }
    }
    if (optind > argc - 2) {
        return io_usage_error(argv);
    }
    w.offset = io_parse_size(argv[optind]);
    return w.offset < 0 ? -EINVAL : do_writev(io, &w, argv + optind + 1, argc - optind - 1);
}

const IoCommand io_writev = {
    .name = "writev",
    .args = "[-Cfqr] [-P pattern] off len [len..]",
    .summary = "writes bytes from an offset on out of several buffers",
    .help = " Writes a range of the image with one request that has a buffer for each length.\n"
            "\n"
            " Example:\n"
            " 'writev 512 1k 1k' - writes two kilobytes that begin at byte 512\n"
            "\n"
            " -C -- print the statistics for programs\n"
            " -f -- on stable storage before it ends (force unit access)\n"
            " -P -- write this byte (0xcd)\n"
            " -q -- print no statistics\n"
            " -r -- has no effect: buffers need no registration\n",
    .min_args = 2,
    .max_args = -1,
    .perm = BLK_PERM_WRITE,
    .run = writev_run,
};
