/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * io.h - what the files of qblk-io tell each other
 *
 *      main.c ─▶ session.c: one coroutine ──line──▶ command.c ──▶ commands/read.c ...
 *       options      │   ▲                            the table      IoCommand.run
 *                    │   └── input.c: -c, or lines of stdin, read in a worker
 *                    └────── image.c: the image that is open
 *
 * A command's run() ends when the command has ended, but for aio_read and aio_write, which leave a coroutine
 * behind (commands/aio.c).  It prints what went wrong, as results are, on stdout; negative: the program's exit
 * status is a failure.  Main thread; run() in the session's coroutine.
 */
#ifndef IO_IO_H
#define IO_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include "block/backend/backend.h"
#include "coro/lock.h"
#include "programs/common/image.h"
#include "util/osdep.h"

/* What is opened when nothing else is said: the program's options, or those of "open". */
typedef struct IoOpen {
    ImgImage image;
    bool snapshot;     /* writes go to a scratch image that is forgotten */
    bool copy_on_read; /* what is read from a backing file is kept */
} IoOpen;

typedef struct IoSession {
    BlockBackend *blk;  /* NULL: no image is open */
    IoOpen opened;      /* how, for reopen; strings are not kept */
    bool misaligned;    /* -m: buffers are a little beside what O_DIRECT wants */
    bool image_opts;    /* --image-opts: what "open" gets is options, too */
    bool quit;          /* by the command of that name */
    unsigned in_flight; /* aio_* that have not ended */
    CoQueue idle;       /* woken when none is */
    CoQueue stopped;    /* woken when a breakpoint has stopped a request */
} IoSession;

typedef struct IoCommand {
    const char *name;
    const char *alias;      /* NULL: none */
    const char *args;       /* "[-q] off len"; NULL: none */
    const char *summary;    /* a phrase */
    const char *help;       /* lines, each with its newline; NULL: the summary says it */
    int min_args, max_args; /* behind the name; max < 0: any number */
    bool without_image;
    uint64_t perm; /* BLK_PERM_* that the image must be open with, beside reading */
    int coroutine_fn (*run)(IoSession *io, int argc, char **argv);
} IoCommand;

/* command.c */
/* Run a line: 0, or negative errno when the command has failed, which was told. */
int coroutine_fn io_run_line(IoSession *io, const char *line);
/* The commands in the order of their names; NULL at the end. */
extern const IoCommand *const io_commands[];
const IoCommand *io_find_command(const char *name);
/* "name args -- summary" */
void io_print_usage(const IoCommand *command);
/* The same for the command of argv[0], as its return value: -EINVAL. */
int io_usage_error(char **argv);

/* input.c */
/* The next line of stdin without its newline, to be g_freed; NULL: there is no more. */
char *coroutine_fn io_co_read_line(void);

/* image.c */
/*
 * io_co_open() - open @how as the session's image
 *
 * Context: coroutine.  Return: 0; negative errno, which was told.
 */
int coroutine_fn io_co_open(IoSession *io, const IoOpen *how);
/* Waits for what is in flight.  No image: nothing to do. */
void coroutine_fn io_co_close(IoSession *io);
/* Takes what -r -s -n -C -U -k -i -t -d mean, of the program and of "open"; false: told. */
bool io_open_option(IoOpen *how, int code, const char *value);

/* session.c */
/* Runs @lines, or where there are none stdin's, and closes the image; the exit status. */
int io_run(const IoOpen *how, bool image_opts, bool misaligned, char *const *lines);
/* Waits until no aio_* is in flight. */
void coroutine_fn io_co_wait_idle(IoSession *io);

/*
 * request.c: requests of any length, cut into what the layers below take.  Coroutine; 0 or negative errno.
 *
 * An image is whole sectors, as users of it count: what a file lacks of its last one reads as zeros.
 */
int64_t io_image_length(IoSession *io); /* of the image; negative errno */

/* The longest that a command takes without -n: what a signed 32-bit count of bytes, in whole sectors, holds. */
#define IO_LENGTH_MAX (INT32_MAX & ~(int64_t)(BDRV_SECTOR_SIZE - 1))
int coroutine_fn io_co_read(IoSession *io, int64_t offset, QEMUIOVector *qiov);
int coroutine_fn io_co_write(IoSession *io, int64_t offset, QEMUIOVector *qiov,
                             BdrvRequestFlags flags);

/* number.c: numbers as users write them. */
/* A size, printed with a message when it is none: then negative errno. */
int64_t io_parse_size(const char *text);
/* As that, but at most what one request may move. */
int64_t io_parse_length(const char *text);
/* Whole sectors?  Negative errno: told. */
int io_check_sectors(int64_t offset, int64_t count);
/* 0 to 255; negative errno: told. */
int io_parse_pattern(const char *text);
/* "1.500 KiB", "512 bytes"; g_free() */
char *io_size_text(double bytes);

/* report.c: what has been done, and how fast. */
typedef struct IoReport {
    const char *verb; /* "read", "wrote" */
    int64_t begin_ns;
    int64_t offset, bytes;
    bool terse; /* -C */
} IoReport;
void io_print_report(const IoReport *report);
/* Bytes that were read from @offset on, in hexadecimal and as letters. */
void io_dump(const uint8_t *buf, int64_t offset, int64_t bytes);

/* buffer.c: memory for a request. */
/* What a buffer is filled with where nobody says anything: not zeros, which would look like a hole. */
#define IO_PATTERN_WRITE 0xcd
#define IO_PATTERN_READ  0xab
typedef struct IoBuffer {
    uint8_t *bytes;
    void *memory;
    int64_t length;
} IoBuffer;
/* False: there is not as much memory; told. */
bool io_buffer_alloc(const IoSession *io, IoBuffer *buf, int64_t length, int pattern);
/* Filled with the file @path, again and again; false: told. */
bool io_buffer_alloc_from_file(const IoSession *io, IoBuffer *buf, int64_t length,
                               const char *path);
void io_buffer_free(IoBuffer *buf);
/* All of the range is @pattern. */
bool io_buffer_is_pattern(const IoBuffer *buf, int64_t offset, int64_t length, int pattern);

/* Several lengths become a vector over one buffer: for readv, writev, aio_*. */
typedef struct IoVector {
    IoBuffer buffer;
    QEMUIOVector qiov;
} IoVector;
/* @lengths: @count texts.  False: told. */
bool io_vector_alloc(const IoSession *io, IoVector *vector, char **lengths, int count, int pattern);
void io_vector_free(IoVector *vector);

#endif
