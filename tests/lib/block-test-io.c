/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See block-test.h: requests, through the io room. */
#include "block/io/io.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

struct BlockTestRequest {
    BdrvChild *user;
    BlockTestOp op;
    int64_t offset, bytes;
    uint8_t *buf;
    int ret;
    bool done;
    CoQueue waiters;
};

static void coroutine_fn request_entry(void *opaque)
{
    BlockTestRequest *req = opaque;

    switch (req->op) {
    case BLOCK_TEST_READ:
        req->ret = bdrv_co_pread(req->user, req->offset, req->bytes, req->buf, 0);
        break;
    case BLOCK_TEST_WRITE:
        req->ret = bdrv_co_pwrite(req->user, req->offset, req->bytes, req->buf, 0);
        break;
    case BLOCK_TEST_WRITE_ZEROES:
        req->ret = bdrv_co_pwrite_zeroes(req->user, req->offset, req->bytes, 0);
        break;
    case BLOCK_TEST_DISCARD:
        req->ret = bdrv_co_pdiscard(req->user, req->offset, req->bytes);
        break;
    case BLOCK_TEST_FLUSH:
        req->ret = bdrv_co_flush(req->user->bs);
        break;
    }
    req->done = true;
    qemu_co_queue_restart_all(&req->waiters);
}

BlockTestRequest *coroutine_fn block_test_co_start(BdrvChild *user, BlockTestOp op, int64_t offset,
                                                   int64_t bytes, uint8_t byte)
{
    BlockTestRequest *req = g_new0(BlockTestRequest, 1);

    req->user = user;
    req->op = op;
    req->offset = offset;
    req->bytes = bytes;
    qemu_co_queue_init(&req->waiters);
    if (op == BLOCK_TEST_READ || op == BLOCK_TEST_WRITE) {
        req->buf = qemu_memalign(4096, MAX(bytes, 1));
        memset(req->buf, byte, bytes);
    }
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, req));
    return req;
}

bool block_test_done(const BlockTestRequest *req)
{
    return req->done;
}

int coroutine_fn block_test_co_join_read(BlockTestRequest *req, void *buf, size_t bytes)
{
    while (!req->done) {
        qemu_co_queue_wait(&req->waiters, NULL);
    }
    memcpy(buf, req->buf, bytes);
    return block_test_co_join(req);
}

int coroutine_fn block_test_co_join(BlockTestRequest *req)
{
    int ret;

    while (!req->done) {
        qemu_co_queue_wait(&req->waiters, NULL);
    }
    ret = req->ret;
    qemu_co_queue_destroy(&req->waiters);
    qemu_vfree(req->buf);
    g_free(req);
    return ret;
}

void coroutine_fn block_test_co_fill(BdrvChild *user, int64_t offset, int64_t bytes, uint8_t byte)
{
    uint8_t *buf = qemu_memalign(4096, MAX(bytes, 1));

    memset(buf, byte, bytes);
    g_assert_cmpint(bdrv_co_pwrite(user, offset, bytes, buf, 0), ==, 0);
    qemu_vfree(buf);
}

void coroutine_fn block_test_co_expect(BdrvChild *user, int64_t offset, int64_t bytes, uint8_t byte)
{
    uint8_t *buf = qemu_memalign(4096, MAX(bytes, 1));

    memset(buf, (uint8_t)~byte, bytes);
    g_assert_cmpint(bdrv_co_pread(user, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != byte) {
            g_test_message("Byte at %" G_GINT64_FORMAT " is 0x%02x, not 0x%02x", offset + i, buf[i],
                           byte);
            g_test_fail();
            break; /* the test ends as a failed one, with its name, and the next one runs */
        }
    }
    qemu_vfree(buf);
}
