/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Worker threads for calls that may block. */
#ifndef AIO_THREAD_POOL_H
#define AIO_THREAD_POOL_H

#include "aio/aio.h"

/*
 * thread_pool_submit_co() - run @func(@arg) in a worker; returns what it returned, in the caller's home
 *
 * At most 64 at once in the program, the others wait in order.  Cannot be cancelled: @arg stays in use
 * until the return.  -EAGAIN if there is no worker and none can be started.
 */
int coroutine_fn thread_pool_submit_co(int (*func)(void *arg), void *arg);

/* Workers there are now; for tests and statistics.  Any thread. */
int thread_pool_workers(void);

#endif
