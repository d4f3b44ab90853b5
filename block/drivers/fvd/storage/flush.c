/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flush.c - the image's file and the data's, flushed as one
 *
 *      one file     |--- flush ---|
 *
 *      two files    |--- flush ---|          both begin when all that is to be durable was written, and nobody is told
 *                   |--- flush ------|       of it before both have ended
 *
 * What a crash leaves of two files that are flushed so is what it may leave of one: before the end any part of what was
 * written to either, in any order; afterwards all of it.  So what is proved for one file, of records that are true by
 * themselves as well (sums.c), is true of two; and a flush takes the time of the slower one, not of both.
 */
#include "block/drivers/fvd/fvd-int.h"
#include "aio/aio.h"
#include "block/io/io.h"

typedef struct DataFlush {
    FvdState *s;
    Coroutine *waiter; /* NULL: he does not wait yet */
    bool done;
    int ret;
} DataFlush;

static void coroutine_fn flush_data_entry(void *opaque)
{
    DataFlush *f = opaque;

    f->ret = fvd_co_flush_node(f->s, f->s->data->bs);
    f->done = true;
    if (f->waiter) {
        aio_co_wake(f->waiter);
    }
}

int coroutine_fn fvd_co_flush_files(FvdState *s)
{
    DataFlush f = {.s = s};
    int ret;

    if (s->data == s->bs->file) {
        return fvd_co_flush_node(s, s->bs->file->bs);
    }
    aio_co_enter(s->bs->aio_context, qemu_coroutine_create(flush_data_entry, &f));
    ret = fvd_co_flush_node(s, s->bs->file->bs);
    while (!f.done) {
        f.waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    return ret < 0 ? ret : f.ret;
}
