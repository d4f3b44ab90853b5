/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IOThread: a thread that runs an AioContext, made by the user as an object. */
#ifndef AIO_IOTHREAD_H
#define AIO_IOTHREAD_H

#include "aio/aio.h"

typedef struct IOThread IOThread;

/* Main thread.  The thread runs at return. */
IOThread *iothread_create(const char *id, AioEngine engine, Error **errp);
/* Stops and joins; nothing may live in its context any more. */
void iothread_destroy(IOThread *iothread);
AioContext *iothread_get_aio_context(IOThread *iothread);
const char *iothread_get_id(IOThread *iothread);
int iothread_get_thread_id(IOThread *iothread);

#endif
