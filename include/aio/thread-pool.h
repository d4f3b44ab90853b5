/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Worker threads for calls that may block. */
#ifndef AIO_THREAD_POOL_H
#define AIO_THREAD_POOL_H

#include "aio/aio.h"

/* thread_pool_submit_co() - run @func(@arg) in a worker; returns what it returned, in the caller's home. */
int coroutine_fn thread_pool_submit_co(int (*func)(void *arg), void *arg);

#endif
