/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ram-node.h - a node in memory whose requests can be held, counted and failed; for this folder's tests */
#ifndef TESTS_EXPORT_RAM_NODE_H
#define TESTS_EXPORT_RAM_NODE_H

#include "block/graph/graph.h"
#include "util/osdep.h"

#define RAM_BLOCK 4096 /* what block status looks at for zeros */

typedef struct RamState {
    uint8_t *memory;
    int64_t size;
    bool hold; /* requests wait in held */
    CoQueue held;
    unsigned n_held;
    int fail; /* negative errno for the next requests; 0: none */
    unsigned reads, writes, flushes, discards, fua_writes, status_calls;
} RamState;

static void coroutine_fn ram_enter(RamState *s)
{
    while (s->hold) {
        s->n_held++;
        qemu_co_queue_wait(&s->held, NULL);
        s->n_held--;
    }
}

static inline void ram_let_go(RamState *s)
{
    s->hold = false;
    qemu_co_queue_restart_all(&s->held);
}

static int coroutine_fn ram_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;

    ram_enter(s);
    s->reads++;
    if (s->fail) {
        return s->fail;
    }
    qemu_iovec_from_buf(qiov, qiov_offset, s->memory + offset, bytes);
    return 0;
}

static int coroutine_fn ram_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;

    ram_enter(s);
    s->writes++;
    s->fua_writes += !!(flags & BDRV_REQ_FUA);
    if (s->fail) {
        return s->fail;
    }
    qemu_iovec_to_buf(qiov, qiov_offset, s->memory + offset, bytes);
    return 0;
}

static int coroutine_fn ram_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;

    ram_enter(s);
    s->writes++;
    if (s->fail) {
        return s->fail;
    }
    memset(s->memory + offset, 0, bytes);
    return 0;
}

static int coroutine_fn ram_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    RamState *s = bs->opaque;

    s->discards++;
    memset(s->memory + offset, 0, bytes);
    return 0;
}

static int coroutine_fn ram_co_flush(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    s->flushes++;
    return s->fail;
}

static int coroutine_fn ram_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    RamState *s = bs->opaque;
    int64_t end = offset + bytes, at = offset;
    bool zero = buffer_is_zero(s->memory + at, MIN(RAM_BLOCK - at % RAM_BLOCK, end - at));

    s->status_calls++;
    while (at < end) {
        int64_t step = MIN(RAM_BLOCK - at % RAM_BLOCK, end - at);

        if (buffer_is_zero(s->memory + at, step) != zero) {
            break;
        }
        at += step;
    }
    *pnum = at - offset;
    *map = offset;
    *file = bs;
    return (zero ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA) | BDRV_BLOCK_ALLOCATED |
           BDRV_BLOCK_OFFSET_VALID;
}

static int64_t coroutine_fn ram_co_getlength(BlockDriverState *bs)
{
    return ((RamState *)bs->opaque)->size;
}

static void coroutine_fn ram_co_close(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    qemu_vfree(s->memory);
}

static void ram_refresh_limits(BlockDriverState *bs)
{
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
}

static const BlockDriverLife ram_life = {
    .co_close = ram_co_close,
    .refresh_limits = ram_refresh_limits,
};

static const BlockDriverData ram_data = {
    .co_preadv = ram_co_preadv,
    .co_pwritev = ram_co_pwritev,
    .co_pwrite_zeroes = ram_co_pwrite_zeroes,
    .co_pdiscard = ram_co_pdiscard,
    .co_flush = ram_co_flush,
    .co_block_status = ram_co_block_status,
    .co_getlength = ram_co_getlength,
};

static const BlockDriver ram_driver = {
    .format_name = "ram-test",
    .is_protocol = true,
    .instance_size = sizeof(RamState),
    .life = &ram_life,
    .data = &ram_data,
};

/* A node of zeros; one reference, the caller's. */
static inline BlockDriverState *ram_node_new(const char *name, int64_t size)
{
    BlockDriverState *bs = bdrv_new(&ram_driver, name, &error_abort);
    RamState *s = bs->opaque;

    s->memory = qemu_memalign(4096, size);
    s->size = size;
    memset(s->memory, 0, size);
    qemu_co_queue_init(&s->held);
    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = size;
    bdrv_refresh_limits(bs);
    return bs;
}

#endif
