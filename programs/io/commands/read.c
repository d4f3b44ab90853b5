/* SPDX-License-Identifier: GPL-2.0-or-later */
/* read.c - read and readv: what is there, and is it what it should be? */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "aio/timer.h"
#include "programs/io/commands/commands.h"

typedef struct Read {
    bool terse, quiet, dump, vmstate;
    int pattern; /* < 0: any */
    bool has_from, has_count;
    int64_t pattern_from, pattern_count; /* in what is read */
    int64_t offset, count;
} Read;

/* 0; negative: told. */
static int read_option(Read *r, int c)
{
    switch (c) {
    case 'b':
        r->vmstate = true;
        return 0;
    case 'C':
        r->terse = true;
        return 0;
    case 'l':
        r->has_count = true;
        r->pattern_count = io_parse_size(optarg);
        return (int)MIN(r->pattern_count, 0);
    case 's':
        r->has_from = true;
        r->pattern_from = io_parse_size(optarg);
        return (int)MIN(r->pattern_from, 0);
    case 'P':
        r->pattern = io_parse_pattern(optarg);
        return MIN(r->pattern, 0);
    case 'q':
        r->quiet = true;
        return 0;
    case 'v':
        r->dump = true;
        return 0;
    default: /* p: of a time when there were two ways to read; r: buffers need no registration here */
        return 0;
    }
}

/* Was told of what is not as @r->pattern?  Then -EINVAL. */
static int verify(const Read *r, const IoBuffer *buf)
{
    if (r->pattern < 0 ||
        io_buffer_is_pattern(buf, r->pattern_from, r->pattern_count, r->pattern)) {
        return 0;
    }
    printf("Pattern verification failed at offset %" PRId64 ", %" PRId64 " bytes\n",
           r->offset + r->pattern_from, r->pattern_count);
    return -EINVAL;
}

static int finish(const Read *r, const IoBuffer *buf, int64_t begin_ns)
{
    int ret = verify(r, buf);
    const IoReport report = {"read", begin_ns, r->offset, buf->length, r->terse};

    if (!r->quiet) {
        if (r->dump) {
            io_dump(buf->bytes, r->offset, buf->length);
        }
        io_print_report(&report);
    }
    return ret;
}

static int coroutine_fn do_read(IoSession *io, const Read *r)
{
    QEMUIOVector qiov;
    IoBuffer buf;
    int64_t begin_ns;
    int ret;

    if (!io_buffer_alloc(io, &buf, r->count, IO_PATTERN_READ)) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, buf.bytes, (size_t)r->count);
    begin_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    ret = r->vmstate ? blk_co_load_vmstate(io->blk, r->offset, &qiov)
                     : io_co_read(io, r->offset, &qiov);
    if (ret < 0) {
        printf("read failed: %s\n", g_strerror(-ret));
    } else {
        ret = finish(r, &buf, begin_ns);
    }
    io_buffer_free(&buf);
    return ret;
}

static int parse_range(Read *r, char **words)
{
    r->offset = io_parse_size(words[0]);
    if (r->offset < 0) {
        return -EINVAL;
    }
    r->count = io_parse_size(words[1]);
    if (r->count < 0) {
        return -EINVAL;
    }
    if (r->count > IO_LENGTH_MAX) {
        printf("length cannot exceed %" PRId64 ", given %s\n", IO_LENGTH_MAX, words[1]);
        return -EINVAL;
    }
    return 0;
}

/* What -l and -s, and -b, ask of the range. */
static int check_range(Read *r, char **argv)
{
    if (r->pattern < 0 && (r->has_count || r->has_from)) {
        return io_usage_error(argv);
    }
    if (!r->has_count) {
        r->pattern_count = r->count - r->pattern_from;
    }
    if (r->pattern_count < 0 || r->pattern_from > r->count - r->pattern_count) {
        printf("pattern verification range exceeds end of read data\n");
        return -EINVAL;
    }
    return r->vmstate ? io_check_sectors(r->offset, r->count) : 0;
}

static int coroutine_fn read_run(IoSession *io, int argc, char **argv)
{
    Read r = {.pattern = -1};
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "bCl:pP:qrs:v")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        if (read_option(&r, c) < 0) {
            return -EINVAL;
        }
    }
    if (optind != argc - 2) {
        return io_usage_error(argv);
    }
    if (parse_range(&r, argv + optind) < 0 || check_range(&r, argv) < 0) {
        return -EINVAL;
    }
    return do_read(io, &r);
}

const IoCommand io_read = {
    .name = "read",
    .alias = "r",
    .args = "[-bCqrv] [-P pattern [-s off] [-l len]] off len",
    .summary = "reads bytes from an offset on",
    .help = " Reads a range of the image, and shows it with -v.\n"
            "\n"
            " Example:\n"
            " 'read -v 512 1k' - shows the kilobyte that begins at byte 512\n"
            "\n"
            " -b -- read the saved state of a machine rather than the disk\n"
            " -C -- print the statistics for programs: bytes,requests,time,bytes/sec,requests/sec\n"
            " -l -- bytes to be compared with the pattern (all)\n"
            " -p -- has no effect\n"
            " -P -- compare what was read with this byte\n"
            " -q -- print no statistics\n"
            " -r -- has no effect: buffers need no registration\n"
            " -s -- where in what was read the comparison begins (0)\n"
            " -v -- show what was read\n",
    .min_args = 2,
    .max_args = -1,
    .run = read_run,
};

static int coroutine_fn do_readv(IoSession *io, Read *r, char **lengths, int count)
{
    IoVector vector;
    int64_t begin_ns;
    int ret;

    if (!io_vector_alloc(io, &vector, lengths, count, IO_PATTERN_READ)) {
        return -EINVAL;
    }
    r->pattern_count = (int64_t)vector.qiov.size;
    begin_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    ret = io_co_read(io, r->offset, &vector.qiov);
    if (ret < 0) {
        printf("readv failed: %s\n", g_strerror(-ret));
    } else {
        ret = finish(r, &vector.buffer, begin_ns);
    }
    io_vector_free(&vector);
    return ret;
}

static int coroutine_fn readv_run(IoSession *io, int argc, char **argv)
{
    Read r = {.pattern = -1};
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "CP:qrv")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        if (read_option(&r, c) < 0) {
            return -EINVAL;
        }
    }
    if (optind > argc - 2) {
        return io_usage_error(argv);
    }
    r.offset = io_parse_size(argv[optind]);
    return r.offset < 0 ? -EINVAL : do_readv(io, &r, argv + optind + 1, argc - optind - 1);
}

const IoCommand io_readv = {
    .name = "readv",
    .args = "[-Cqrv] [-P pattern] off len [len..]",
    .summary = "reads bytes from an offset on into several buffers",
    .help = " Reads a range of the image with one request that has a buffer for each length.\n"
            "\n"
            " Example:\n"
            " 'readv -v 512 1k 1k' - shows the two kilobytes that begin at byte 512\n"
            "\n"
            " -C -- print the statistics for programs\n"
            " -P -- compare what was read with this byte\n"
            " -q -- print no statistics\n"
            " -r -- has no effect: buffers need no registration\n"
            " -v -- show what was read\n",
    .min_args = 2,
    .max_args = -1,
    .run = readv_run,
};
