/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File I/O from a coroutine, through the calling context's io_uring, through libaio, or in worker
 * threads.  Short reads and writes are finished here: 0 is returned when all of it was done; a read
 * past the end of file fills with zeros.
 */
#ifndef AIO_FILE_H
#define AIO_FILE_H

#include "aio/aio.h"
#include "util/iov.h"

typedef enum AioFileEngine {
    AIO_FILE_IO_URING, /* only if the context has a ring */
    AIO_FILE_NATIVE,   /* libaio; needs O_DIRECT */
    AIO_FILE_THREADS,
} AioFileEngine;

/* Can @engine be used in @ctx?  0, or negative errno and the reason. */
int aio_file_engine_check(AioContext *ctx, AioFileEngine engine, Error **errp);
/* What suits best: io_uring if there is a ring, else threads. */
AioFileEngine aio_file_engine_default(AioContext *ctx);

/* Reads qiov->size bytes; what lies behind the end of the file reads as zeros. */
int coroutine_fn aio_file_preadv(AioFileEngine e, int fd, int64_t offset, QEMUIOVector *qiov);
/* @dsync: as if followed by fdatasync of these bytes (RWF_DSYNC). */
int coroutine_fn aio_file_pwritev(AioFileEngine e, int fd, int64_t offset, QEMUIOVector *qiov,
                                  bool dsync);
int coroutine_fn aio_file_fdatasync(AioFileEngine e, int fd);
int coroutine_fn aio_file_fallocate(AioFileEngine e, int fd, int mode, int64_t offset,
                                    int64_t bytes);

#endif
