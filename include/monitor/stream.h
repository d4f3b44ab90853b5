/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream.h - the bytes of one monitor client: a socket, or a pair of descriptors such as stdin and stdout
 *
 * Main thread.  One reader and one writer coroutine at a time.
 */
#ifndef MONITOR_STREAM_H
#define MONITOR_STREAM_H

#include <stddef.h>
#include <sys/types.h>
#include "coro/coroutine.h"

typedef struct MonStream MonStream;

/* Takes @fd, a connected socket. */
MonStream *mon_stream_socket_new(int fd);
/*
 * Borrows both descriptors and leaves their flags alone: they may be shared with the shell that started
 * us.  Either may be -1: never readable, or swallows all.
 */
MonStream *mon_stream_fds_new(int in_fd, int out_fd);

/* What is there, up to @len; 0 at the end; -errno; -ECANCELED after a shutdown. */
ssize_t coroutine_fn mon_stream_co_read(MonStream *s, void *buf, size_t len);
/* All of it: 0, or -errno. */
int coroutine_fn mon_stream_co_write(MonStream *s, const void *buf, size_t len);
/* Reads and writes, also those in progress, end soon with -ECANCELED (writes perhaps with another error). */
void mon_stream_shutdown(MonStream *s);
/* Nobody is inside a read or write.  Frees. */
void mon_stream_free(MonStream *s);

#endif
