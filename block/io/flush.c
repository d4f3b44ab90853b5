/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flush, with group commit.
 *
 *   writes done   1   2   3       4                    write_gen counts them
 *   flush A       |-- covers 1..2 --|
 *   flush B             asks at 3, waits for A; A did not cover 3, so B flushes 1..4
 *   flush C                   asks at 4, waits too; finds that B covered it and returns
 *
 * F1  A flush returns 0 only when a driver flush that began after all writes done before it was asked
 *     has succeeded (H4).
 * F2  One driver flush of a node at a time; those who wait share the next one.
 * F3  A failed flush moves no mark: each of those who wait tries again and is told.
 * F4  A node's first flush is made, also where nothing was written: a process that was killed may have written, and told
 *     its guest, and what it wrote be in the host's memory only.  Who opens the image again, and flushes, relies on it.
 *     Nobody asked for the flush at a node's end: what others wrote is left alone there, and its server may hang.
 */
#include <errno.h>
#include "block/io/internal.h"
#include "util/osdep.h"
#include "trace-io.h"

static int coroutine_fn flush_node(BlockDriverState *bs, bool written_only);

static int coroutine_fn flush_children(BlockDriverState *bs, bool written_only)
{
    BdrvChild *c;
    int ret = 0;

    QLIST_FOREACH (c, &bs->children, next) {
        /*
         * The backing file is only read; everything else we may have written to, also when nobody
         * above may write any more (F1).  A child that is clean has nothing to do.
         */
        if (!(c->role & BDRV_CHILD_COW) ||
            (c->perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED))) {
            int r = flush_node(c->bs, written_only);

            ret = ret < 0 ? ret : r;
        }
    }
    return ret;
}

static int coroutine_fn flush_now(BlockDriverState *bs, bool written_only)
{
    int ret = 0;

    if (bs->drv->data->co_flush && !(bs->drv->is_protocol && (bs->open_flags & BDRV_O_NO_FLUSH))) {
        ret = bs->drv->data->co_flush(bs);
    }
    return ret < 0 || bs->drv->data->flushes_children ? ret : flush_children(bs, written_only);
}

/* F4: nothing has been written here by this process, and nobody has flushed. */
static bool is_as_it_was(const BlockDriverState *bs)
{
    return bs->write_gen == 1 && bs->flushed_gen == 0;
}

static int coroutine_fn flush_node(BlockDriverState *bs, bool written_only)
{
    unsigned asked, covers;
    int ret = 0;

    if (!bs->drv) {
        return -ENOMEDIUM;
    }
    if (!bdrv_is_writable(bs) || (written_only && is_as_it_was(bs))) {
        return 0;
    }
    bdrv_inc_in_flight(bs);
    asked = bs->write_gen;
    while (bs->active_flush) { /* F2 */
        qemu_co_queue_wait(&bs->flush_queue, NULL);
    }
    trace_bdrv_co_flush(bs->node_name, asked, bs->flushed_gen);
    if ((int)(bs->flushed_gen - asked) < 0) {
        bs->active_flush = true;
        covers = bs->write_gen; /* F1 */
        ret = flush_now(bs, written_only);
        if (ret >= 0 && !written_only) {
            bs->flushed_gen = covers; /* F3 */
        }
        bs->active_flush = false;
        qemu_co_queue_restart_all(&bs->flush_queue);
    }
    bdrv_dec_in_flight(bs);
    return MIN(ret, 0);
}

int coroutine_fn bdrv_co_flush(BlockDriverState *bs)
{
    return flush_node(bs, false);
}

int coroutine_fn bdrv_co_flush_written(BlockDriverState *bs)
{
    return flush_node(bs, true);
}

static void __attribute__((constructor)) io_init(void)
{
    bdrv_io_hooks.co_flush = bdrv_co_flush_written;
}
