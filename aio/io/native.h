/* SPDX-License-Identifier: GPL-2.0-or-later */
/* native.h - libaio for a context, for this room's files only; home thread */
#ifndef AIO_NATIVE_H
#define AIO_NATIVE_H

#include <libaio.h>
#include "aio/aio-int.h"

/* Any thread: does the kernel let us?  0, or negative errno and the reason. */
int aio_native_probe(Error **errp);

/* Make @ctx able to do it, if it is not.  0, or negative errno and the reason. */
int aio_native_setup(AioContext *ctx, Error **errp);

/* Submit @iocb, which the io_prep functions filled, and yield.  Returns bytes or negative errno. */
int coroutine_fn aio_native_co(AioContext *ctx, struct iocb *iocb);

#endif
