/* SPDX-License-Identifier: GPL-2.0-or-later */
/* request.c - a checked request is executed; coroutine in the export's AioContext */
#include "block/export/nbd/nbd-int.h"

static BdrvRequestFlags fua_flag(const NbdRequest *req)
{
    return req->header.flags & NBD_CMD_FLAG_FUA ? BDRV_REQ_FUA : 0;
}

static void add_hole(NbdRequest *req, int64_t offset, int64_t bytes)
{
    NbdReplyChunks *chunks = req->chunks;
    uint8_t *head = chunks->heads[chunks->n_heads++];
    size_t size = nbd_put_chunk(head, req->client->mode, 0, NBD_REPLY_TYPE_OFFSET_HOLE,
                                req->header.cookie, req->header.offset, 12);

    stq_be_p(head + size, offset);
    stl_be_p(head + size + 8, bytes);
    chunks->iov[chunks->niov++] = (struct iovec){.iov_base = head, .iov_len = size + 12};
}

static int coroutine_fn add_data(NbdRequest *req, int64_t offset, int64_t bytes)
{
    NbdReplyChunks *chunks = req->chunks;
    uint8_t *head = chunks->heads[chunks->n_heads++];
    uint8_t *data = req->buf + (offset - (int64_t)req->header.offset);
    size_t size = nbd_put_chunk(head, req->client->mode, 0, NBD_REPLY_TYPE_OFFSET_DATA,
                                req->header.cookie, req->header.offset, 8 + bytes);

    stq_be_p(head + size, offset);
    chunks->iov[chunks->niov++] = (struct iovec){.iov_base = head, .iov_len = size + 8};
    chunks->iov[chunks->niov++] = (struct iovec){.iov_base = data, .iov_len = bytes};
    return blk_co_pread(req->client->exp->common.blk, offset, bytes, data, 0);
}

/*
 * The range from @offset on that is all hole or all not, both sides being at least worth a chunk.
 * Without a certain answer: all data.
 */
static bool coroutine_fn next_piece(NbdRequest *req, int64_t offset, int64_t end,
                                    int64_t *ret_bytes)
{
    BlockBackend *blk = req->client->exp->common.blk;
    int64_t at = offset;
    bool hole = false;

    while (at < end) {
        int64_t bytes;
        int r = blk_co_block_status_above(blk, NULL, at, end - at, &bytes, NULL, NULL);
        bool zero = r >= 0 && (r & BDRV_BLOCK_ZERO);

        if (r < 0 || bytes <= 0) {
            bytes = end - at;
        }
        if (at == offset) {
            hole = zero;
        } else if (zero != hole) {
            break;
        }
        at += MIN(bytes, end - at);
    }
    *ret_bytes = at - offset;
    return hole;
}

/* A read whose holes are sent as holes.  One that has none is left to the plain way: 0 and no chunks. */
static int coroutine_fn read_sparse(NbdRequest *req)
{
    int64_t offset = req->header.offset, end = offset + (int64_t)req->header.length;
    int64_t bytes;
    bool hole = next_piece(req, offset, end, &bytes);
    int r = 0;

    if (!hole && bytes == end - offset) {
        return blk_co_pread(req->client->exp->common.blk, offset, bytes, req->buf, 0);
    }
    req->chunks = g_new0(NbdReplyChunks, 1);
    for (;;) {
        if (hole) {
            add_hole(req, offset, bytes);
        } else {
            r = add_data(req, offset, bytes);
        }
        offset += bytes;
        if (r < 0 || offset == end) {
            break;
        }
        hole = next_piece(req, offset, end, &bytes);
        if (req->chunks->n_heads == NBD_READ_CHUNKS_MAX - 1) {
            hole = false;
            bytes = end - offset;
        }
    }
    /* The last chunk says that it is; the flags are at the same place in both kinds of header. */
    stw_be_p(req->chunks->heads[req->chunks->n_heads - 1] + 4, NBD_REPLY_FLAG_DONE);
    return r;
}

static int coroutine_fn do_read(NbdRequest *req)
{
    const NbdRequestHeader *header = &req->header;

    if (header->length == 0) {
        return 0;
    }
    if (req->client->mode != NBD_MODE_SIMPLE && header->length >= NBD_SPARSE_READ_MIN &&
        !(header->flags & NBD_CMD_FLAG_DF)) {
        return read_sparse(req);
    }
    return blk_co_pread(req->client->exp->common.blk, header->offset, header->length, req->buf, 0);
}

static int coroutine_fn do_write(NbdRequest *req)
{
    if (req->header.length == 0) {
        return 0;
    }
    return blk_co_pwrite(req->client->exp->common.blk, req->header.offset, req->header.length,
                         req->buf, fua_flag(req));
}

typedef int coroutine_fn NbdPiece(NbdRequest *req, int64_t offset, int64_t bytes);

/* A range as long as the disk, without a payload; a quiesce may pass between two pieces. */
static int coroutine_fn do_in_pieces(NbdRequest *req, NbdPiece *piece, int64_t piece_bytes)
{
    int64_t offset = req->header.offset, left = req->header.length;
    int r = 0;

    while (left > 0 && r >= 0) {
        int64_t bytes = MIN(left, piece_bytes);

        r = piece(req, offset, bytes);
        offset += bytes;
        left -= bytes;
        if (left > 0 && r >= 0) {
            r = nbd_request_pause_point(req);
        }
    }
    return r;
}

static int coroutine_fn trim_piece(NbdRequest *req, int64_t offset, int64_t bytes)
{
    return blk_co_pdiscard(req->client->exp->common.blk, offset, bytes);
}

static int coroutine_fn zero_piece(NbdRequest *req, int64_t offset, int64_t bytes)
{
    BdrvRequestFlags flags = fua_flag(req);

    if (!(req->header.flags & NBD_CMD_FLAG_NO_HOLE)) {
        flags |= BDRV_REQ_MAY_UNMAP;
    }
    if (req->header.flags & NBD_CMD_FLAG_FAST_ZERO) {
        flags |= BDRV_REQ_NO_FALLBACK;
    }
    return blk_co_pwrite_zeroes(req->client->exp->common.blk, offset, bytes, flags);
}

/* Read and forget: whatever has a cache on the way has the data then. */
static int coroutine_fn cache_piece(NbdRequest *req, int64_t offset, int64_t bytes)
{
    return blk_co_pread(req->client->exp->common.blk, offset, bytes, req->buf, 0);
}

static int coroutine_fn do_trim(NbdRequest *req)
{
    int r = do_in_pieces(req, trim_piece, NBD_IO_BYTES_MAX);

    if (r >= 0 && fua_flag(req)) {
        r = blk_co_flush(req->client->exp->common.blk);
    }
    return r;
}

static int coroutine_fn execute(NbdRequest *req)
{
    switch (req->header.type) {
    case NBD_CMD_READ:
        return do_read(req);
    case NBD_CMD_WRITE:
        return do_write(req);
    case NBD_CMD_FLUSH:
        return blk_co_flush(req->client->exp->common.blk);
    case NBD_CMD_TRIM:
        return do_trim(req);
    case NBD_CMD_WRITE_ZEROES:
        return do_in_pieces(req, zero_piece, NBD_IO_BYTES_MAX);
    case NBD_CMD_CACHE:
        return do_in_pieces(req, cache_piece, NBD_CACHE_BYTES_MAX);
    case NBD_CMD_BLOCK_STATUS:
        return nbd_co_block_status(req);
    default:
        g_assert_not_reached(); /* the check refused it (N1) */
    }
}

/*
 * QMP hears of what the storage failed; of no request that it only cannot do (a fast zero) or that came to
 * nothing because the node was fenced.  The client is told whatever it is: nobody else could stop it.
 */
static void tell_qmp(const NbdRequest *req, int error)
{
    bool is_read = req->header.type == NBD_CMD_READ || req->header.type == NBD_CMD_CACHE;

    if (req->header.type != NBD_CMD_BLOCK_STATUS && error != ENOTSUP && error != ECANCELED) {
        blk_error_action(req->client->exp->common.blk, BLOCK_ERROR_ACTION_REPORT, is_read, error);
    }
}

void coroutine_fn nbd_request_execute(NbdRequest *req)
{
    int r;

    if (req->error) {
        return;
    }
    r = execute(req);
    if (r < 0) {
        tell_qmp(req, -r);
        req->error = nbd_errno(-r);
        req->why = g_strerror(-r);
    }
}
