/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "example": a read-only disk of one repeating byte.  Copy this room to begin a driver.
 *
 *     --blockdev driver=example,node-name=e,size=1048576,byte=65
 *
 *      0                                                     size
 *      |AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|
 *
 * A driver is one struct BlockDriver with up to three tables, one for each of its trades:
 *
 *     life    opening, reopening, closing, limits        main thread, nothing in flight
 *     data    reading, writing, block status, ...        home AioContext, many at a time
 *     image   recognising and creating image files       (this driver has none)
 *
 * This one needs no room's help.  A driver with a file below attaches it in co_open with
 * bdrv_open_child() and reads it with bdrv_co_preadv_part(): block/drivers/raw/raw.c shows how.
 *
 * To make a driver of your own:
 *   1. copy this folder and rename; add a line to block/drivers/meson.build and to
 *      include/block/drivers/drivers.h;
 *   2. add its options to the schema in qapi/ (BlockdevOptionsExample is this one's), and its name
 *      to BlockdevDriver;
 *   3. copy tests/unit/drivers/example-test.c: driver_contract() tries what every driver must get
 *      right;
 *   4. call its register function in the programs that are to have it.
 */
#include <errno.h>
#include "block/drivers/drivers.h"
#include "block/graph/graph.h"
#include "util/osdep.h"

/* When no size is given: enough to see something, small enough to read whole. */
#define EXAMPLE_DEFAULT_SIZE (1 * MiB)

/*
 * The driver's state: bs->opaque, allocated and zeroed by the graph room because of instance_size
 * below, freed by it too.  Group the members by who may touch them, and when.
 */
typedef struct ExampleState {
    /* Fixed while open; replaced by a reopen, quiesced. */
    int64_t size;
    uint8_t byte;
} ExampleState;

/*
 * Options are checked here and nowhere else.  The schema has checked their types, not their sense.
 * Say what is wrong in the user's words; return a negative errno as well.
 */
static int example_configure(ExampleState *s, const BlockdevOptionsExample *o, Error **errp)
{
    if (o->has_size && o->size > INT64_MAX) {
        error_setg(errp, "size is too large");
        return -EINVAL;
    }
    s->size = o->has_size ? (int64_t)o->size : EXAMPLE_DEFAULT_SIZE;
    s->byte = o->has_byte ? o->byte : 0;
    return 0;
}

/*
 * co_open - called once, by blockdev-add and the like.
 *
 * Context: coroutine of the main thread; may yield.  Nobody else knows the node yet.
 * Given:   @opts of the type the schema says for this driver; bs->open_flags (BDRV_O_RDWR when the
 *          node is to be writable); bs->read_only.
 * On failure: free what you allocated.  co_close is not called; children are dropped for you.
 */
static int coroutine_fn example_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                        Error **errp)
{
    if (bs->open_flags & BDRV_O_RDWR) {
        if (!bs->auto_read_only) {
            error_setg(errp, "Driver 'example' can only be opened read-only");
            return -EACCES;
        }
        /* auto-read-only=on: the user leaves it to us. */
        bs->read_only = true;
        bs->open_flags &= ~BDRV_O_RDWR;
    }
    return example_configure(bs->opaque, &opts->u.example, errp);
}

/*
 * co_close - called once, after the last user has gone.
 *
 * Context: coroutine of the main thread; no request is in flight and none will come.
 * Here:    end what co_open began (descriptors, memory besides bs->opaque).  We have nothing.
 */
static void coroutine_fn example_co_close(BlockDriverState *bs)
{
}

/*
 * refresh_limits - called after opening and whenever a child's limits may have changed.
 *
 * Context: main thread, quiesced.  Must not yield.
 * Here:    bs->bl (zeroed but for what the children imply) and supported_*_flags (0).  Requests
 *          that do not fit are padded and split before they come to you.
 */
static void example_refresh_limits(BlockDriverState *bs)
{
    /* Any offset and length will do. */
    bs->bl.request_alignment = 1;
}

/*
 * Reopen is a transaction over several nodes: prepare may fail, then exactly one of commit and
 * abort is called, neither of which can.  So: do in prepare all that may go wrong, change nothing.
 *
 * Context: main thread, quiesced; prepare is a coroutine.
 */
static int coroutine_fn example_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                                  int flags, void **ret_state, Error **errp)
{
    ExampleState *s = bs->opaque;
    ExampleState *next;
    int ret;

    if (flags & BDRV_O_RDWR) {
        error_setg(errp, "Driver 'example' can only be opened read-only");
        return -EACCES;
    }
    next = g_new0(ExampleState, 1);
    ret = example_configure(next, &opts->u.example, errp);
    if (ret == 0 && next->size != s->size) {
        error_setg(errp, "Cannot change the option 'size'");
        ret = -EINVAL;
    }
    if (ret < 0) {
        g_free(next);
        return ret;
    }
    *ret_state = next;
    return 0;
}

static void example_reopen_commit(BlockDriverState *bs, void *state)
{
    *(ExampleState *)bs->opaque = *(ExampleState *)state;
    g_free(state);
}

static void example_reopen_abort(BlockDriverState *bs, void *state)
{
    g_free(state);
}

/*
 * co_preadv - fill @bytes of @qiov, beginning at @qiov_offset in it, from @offset of the disk.
 *
 * Context: coroutine in the node's home AioContext (a read-only node: any).  May yield; while it
 *          does, other requests come.  What they share needs a CoMutex.
 * Given:   the range is inside the length, aligned to bl.request_alignment, at most
 *          bl.max_transfer, and @qiov has room for it.
 * Return:  0 when all of it was read; negative errno, and then the buffer may hold anything.
 */
static int coroutine_fn example_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          QEMUIOVector *qiov, size_t qiov_offset,
                                          BdrvRequestFlags flags)
{
    ExampleState *s = bs->opaque;

    assert(offset + bytes <= s->size);
    qemu_iovec_memset(qiov, qiov_offset, s->byte, bytes);
    return 0;
}

/*
 * co_block_status - what is known of a range without reading it.
 *
 * Context: as co_preadv.
 * Given:   0 < @bytes, the range inside the length.
 * Return:  BDRV_BLOCK_* of the first *pnum bytes, 1 <= *pnum <= @bytes.  Say ZERO only when it is
 *          certain: a backup will not read what you call zero.
 */
static int coroutine_fn example_co_block_status(BlockDriverState *bs, bool want_zero,
                                                int64_t offset, int64_t bytes, int64_t *pnum,
                                                int64_t *map, BlockDriverState **file)
{
    ExampleState *s = bs->opaque;

    *pnum = bytes;
    return s->byte == 0 ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA;
}

/*
 * co_getlength - the size of the disk in bytes, or a negative errno.
 *
 * Context: coroutine.  Called after opening and after a resize; others use the cached answer.
 */
static int64_t coroutine_fn example_co_getlength(BlockDriverState *bs)
{
    ExampleState *s = bs->opaque;

    return s->size;
}

static int64_t coroutine_fn example_co_get_allocated_file_size(BlockDriverState *bs)
{
    return 0;
}

static const BlockDriverLife example_life = {
    .co_open = example_co_open,
    .co_close = example_co_close,
    .refresh_limits = example_refresh_limits,
    .co_reopen_prepare = example_co_reopen_prepare,
    .reopen_commit = example_reopen_commit,
    .reopen_abort = example_reopen_abort,
};

/* No co_pwritev: the driver is read-only, and the io room refuses writes before they get here. */
static const BlockDriverData example_data = {
    .co_preadv = example_co_preadv,
    .co_block_status = example_co_block_status,
    .co_getlength = example_co_getlength,
    .co_get_allocated_file_size = example_co_get_allocated_file_size,
};

static BlockDriver bdrv_example = {
    .format_name = "example",
    .is_protocol = true, /* nothing below it: the end of a tree */
    .instance_size = sizeof(ExampleState),
    .life = &example_life,
    .data = &example_data,
};

void bdrv_example_register(void)
{
    bdrv_register(&bdrv_example);
}
