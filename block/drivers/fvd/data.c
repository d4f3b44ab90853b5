/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * data.c - reads and writes: what is in the base, what comes into the image, and what of it is recorded
 *
 * A write of guest's bytes into a disk with a base; blocks and chunks that it touches for the first time:
 *
 *      base   ...|--- copied ---|                          |-- copied --|...
 *      write                    |======== guest's =========|
 *      image  ...|==================== one write =======================|...
 *                ^ of a block                                           ^ of a block
 *
 *   1. the journal has room; chunks that have no place get one (fvd_co_take)
 *   2. the range is held: alone, if blocks may come into the image (D1)
 *   3. what is copied is read from the base
 *   4. one write of all of it, for each piece of the data file
 *   5. blocks are fresh, and the change is in the journal's buffer: in one step (D2)
 *   6. the guest is told; a flush makes both durable
 *
 * A write to what is in the image already, and recorded, is step 4 alone.
 *
 *   D1  Of a block that is in the base one write is under way at a time: a second one waits, and finds the block in the
 *       image.  Two at once would each copy from the base what the other has written.
 *   D2  Nothing yields between the look at the map that says what is recorded and the record.
 *   D3  A record with bits has all entries of the blocks, also those that have been recorded before: that record may
 *       be in another sector, and that sector may be the one that is lost.
 *   D4  A write that fails leaves its chunks taken, as others may have written there meanwhile; nothing names them on
 *       disk until one of those is recorded.
 */
#include <errno.h>
#include "aio/aio.h"
#include "block/drivers/fvd/fvd-int.h"
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/crc32c.h"
#include "util/osdep.h"

/* Copied in one piece with the guest's bytes up to here; blocks may be as large as FVD_UNIT_BYTES_MAX. */
#define COPY_AT_ONCE (2 * MiB)

/* ------------------------------------------------------------------------------------------- pieces */

/* In the data file, wherever these bytes are there; @write: or else from there, and what has no place reads as zeros. */
static int coroutine_fn transfer(FvdState *s, bool write, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t run;
    int ret = 0;

    for (; bytes > 0 && ret >= 0; offset += run, qiov_offset += run, bytes -= run) {
        int64_t place = fvd_map_place(s->map, offset, bytes, &run);

        assert(place >= 0 || !write);
        if (write) {
            ret = bdrv_co_pwritev_part(s->data, place, run, qiov, qiov_offset, flags);
        } else if (place >= 0) {
            ret = bdrv_co_preadv_part(s->data, place, run, qiov, qiov_offset, flags);
        } else {
            qemu_iovec_memset(qiov, qiov_offset, 0, run);
        }
    }
    return MIN(ret, 0);
}

int coroutine_fn fvd_co_check_block(FvdState *s, uint64_t block, uint32_t crc, bool *ret_right)
{
    int64_t offset = (int64_t)block * s->header.block_size;
    int64_t end = MIN(offset + s->header.block_size, s->header.virtual_disk_size), piece;
    int64_t most = MIN(s->header.block_size, COPY_AT_ONCE);
    uint8_t *buf = qemu_try_blockalign(s->data->bs, most);
    uint32_t sum = 0;
    int ret = buf ? 0 : -ENOMEM;

    for (; offset < end && ret >= 0; offset += piece) {
        QEMUIOVector qiov;

        piece = MIN(end - offset, most);
        qemu_iovec_init_buf(&qiov, buf, piece);
        ret = transfer(s, false, offset, piece, &qiov, 0, 0);
        sum = crc32c(sum, buf, piece);
        /* What has no place does not wait for anybody, and there may be any amount of it. */
        aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    qemu_vfree(buf);
    *ret_right = ret >= 0 && sum == crc;
    return ret;
}

int coroutine_fn fvd_co_read_base(FvdState *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags)
{
    BdrvChild *base = s->bs->backing;

    if (!base) {
        qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
        return 0;
    }
    return bdrv_co_preadv_part(base, offset, bytes, qiov, qiov_offset, flags);
}

/* How many of these bytes the disk has: it may have been made smaller while somebody waited. */
static int64_t inside(const FvdState *s, int64_t offset, int64_t bytes)
{
    return MAX(0, MIN(bytes, s->header.virtual_disk_size - offset));
}

/* Who may resize is let through by those above, wherever he writes to. */
int fvd_check_inside(const FvdState *s, int64_t offset, int64_t bytes)
{
    return inside(s, offset, bytes) == bytes ? 0 : -EIO;
}

/* --------------------------------------------------------------------------------------------- read */

static int coroutine_fn read_runs(FvdState *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset, BdrvRequestFlags flags)
{
    int64_t run, place;
    int ret = 0;

    for (; bytes > 0 && ret >= 0; offset += run, qiov_offset += run, bytes -= run) {
        switch (fvd_map_read(s->map, offset, bytes, &run, &place)) {
        case FVD_MAP_BASE:
            ret = fvd_co_read_and_keep(s, offset, run, qiov, qiov_offset, flags);
            break;
        case FVD_MAP_ZERO:
            qemu_iovec_memset(qiov, qiov_offset, 0, run);
            break;
        default:
            ret = bdrv_co_preadv_part(s->data, place, run, qiov, qiov_offset, flags);
            break;
        }
    }
    return MIN(ret, 0);
}

int coroutine_fn fvd_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    FvdState *s = bs->opaque;
    int64_t there;
    FvdRange r;
    int ret;

    if (!s->map) {
        return -EIO; /* opened to be checked */
    }
    if (bs->read_only) { /* entered from any thread; nothing changes */
        return read_runs(s, offset, bytes, qiov, qiov_offset, flags);
    }
    fvd_co_range_begin(s, &r, FVD_RANGE_READ, offset, offset + bytes);
    there = inside(s, offset, bytes);
    ret = read_runs(s, offset, there, qiov, qiov_offset, flags);
    if (there < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + there, 0, bytes - there);
    }
    fvd_range_end(s, &r);
    return ret;
}

/* -------------------------------------------------------------------------------------------- write */

typedef struct FvdWrite {
    int64_t offset, bytes;
    QEMUIOVector *qiov;
    size_t qiov_offset;
    FvdMapNeed need; /* while its range is held: as of then */
    uint32_t *sums;  /* of the blocks of need that are wholly in it; NULL: not known */
} FvdWrite;

/* From the base to the same place of the image, piece by piece. */
static int coroutine_fn copy_large(FvdState *s, int64_t offset, int64_t end)
{
    uint8_t *buf = qemu_try_blockalign(s->data->bs, COPY_AT_ONCE);
    int64_t piece;
    int ret = buf ? 0 : -ENOMEM;

    for (; offset < end && ret >= 0; offset += piece) {
        QEMUIOVector qiov;

        piece = MIN(end - offset, COPY_AT_ONCE);
        qemu_iovec_init_buf(&qiov, buf, piece);
        ret = fvd_co_read_base(s, offset, piece, &qiov, 0, 0);
        if (ret >= 0) {
            ret = transfer(s, true, offset, piece, &qiov, 0, 0);
        }
    }
    qemu_vfree(buf);
    return ret;
}

static int64_t block_end(const FvdState *s, uint32_t block)
{
    return MIN(((int64_t)block + 1) * s->header.block_size, s->header.virtual_disk_size);
}

/*
 * Whether all of the block is written, which sums are for.  One that is in the base only in part has none: writes
 * behind the end of the base are not known to touch it.
 */
static bool is_whole(const FvdState *s, const FvdWrite *w, uint32_t block)
{
    return block * s->header.block_size >= w->need.start && block_end(s, block) <= w->need.end &&
           block_end(s, block) <= s->header.base_img_size;
}

/* S3: all in one piece of memory of its own, with sums of its blocks. */
static int coroutine_fn write_summed(FvdState *s, FvdWrite *w)
{
    int64_t head = w->offset - w->need.start, end = w->offset + w->bytes;
    int64_t total = w->need.end - w->need.start;
    uint8_t *buf = qemu_try_blockalign(s->data->bs, total);
    QEMUIOVector all;
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&all, buf, total);
    qemu_iovec_to_buf(w->qiov, w->qiov_offset, buf + head, w->bytes);
    if (head) {
        ret = fvd_co_read_base(s, w->need.start, head, &all, 0, 0);
    }
    if (ret >= 0 && w->need.end > end) {
        ret = fvd_co_read_base(s, end, w->need.end - end, &all, end - w->need.start, 0);
    }
    if (ret >= 0) {
        w->sums = g_new0(uint32_t, w->need.n_blocks);
        for (uint32_t i = 0; i < w->need.n_blocks; i++) {
            uint32_t block = w->need.first_block + i;
            int64_t at = block * s->header.block_size;

            if (is_whole(s, w, block)) {
                w->sums[i] = crc32c(0, buf + (at - w->need.start), block_end(s, block) - at);
            }
        }
        ret = transfer(s, true, w->need.start, total, &all, 0, 0);
    }
    qemu_vfree(buf);
    return ret;
}

/* Head and tail read from the base, then all of it in one write. */
static int coroutine_fn write_merged(FvdState *s, const FvdWrite *w)
{
    int64_t head = w->offset - w->need.start, end = w->offset + w->bytes;
    int64_t tail = w->need.end - end;
    uint8_t *buf = qemu_try_blockalign(s->data->bs, head + tail);
    QEMUIOVector copied, all;
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&copied, buf, head + tail);
    if (head) {
        ret = fvd_co_read_base(s, w->need.start, head, &copied, 0, 0);
    }
    if (tail && ret >= 0) {
        ret = fvd_co_read_base(s, end, tail, &copied, head, 0);
    }
    if (ret >= 0) {
        qemu_iovec_init(&all, w->qiov->niov + 2);
        qemu_iovec_concat(&all, &copied, 0, head);
        qemu_iovec_concat(&all, w->qiov, w->qiov_offset, w->bytes);
        qemu_iovec_concat(&all, &copied, head, tail);
        ret = transfer(s, true, w->need.start, w->need.end - w->need.start, &all, 0, 0);
        qemu_iovec_destroy(&all);
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn write_data(FvdState *s, FvdWrite *w)
{
    int64_t end = w->offset + w->bytes;
    int64_t copied = w->need.end - w->need.start - w->bytes;
    int ret;

    if (w->need.record_bitmap && fvd_sums_in_use(s) && copied + w->bytes <= COPY_AT_ONCE) {
        return write_summed(s, w);
    }
    if (!copied) {
        return transfer(s, true, w->offset, w->bytes, w->qiov, w->qiov_offset, 0);
    }
    trace_fvd_copy(s->bs->node_name, w->need.start, w->offset, end, w->need.end);
    if (copied <= COPY_AT_ONCE) {
        return write_merged(s, w);
    }
    ret = copy_large(s, w->need.start, w->offset);
    if (ret >= 0) {
        ret = transfer(s, true, w->offset, w->bytes, w->qiov, w->qiov_offset, 0);
    }
    if (ret >= 0) {
        ret = copy_large(s, end, w->need.end);
    }
    return ret;
}

int fvd_add_change(FvdState *s, uint32_t first_chunk, uint32_t n_chunks, uint32_t first_block,
                   uint32_t n_blocks, FvdJTicket *ret_ticket)
{
    FvdJChange change;
    FvdJTicket ticket;

    fvd_map_change(s->map, first_chunk, n_chunks, first_block, n_blocks, 0, &change);
    ticket = fvd_journal_add(s->journal, &change);
    if (ticket < 0) {
        assert(ticket != -EINVAL); /* write_max */
        fvd_fail(s);
        return -EIO;
    }
    fvd_map_journaled(s->map, first_chunk, n_chunks, first_block, n_blocks,
                      fvd_journal_half(s->journal), (uint64_t)ticket);
    if (ret_ticket) {
        *ret_ticket = ticket;
    }
    return 0;
}

int coroutine_fn fvd_co_record(FvdState *s, uint32_t first_chunk, uint32_t n_chunks,
                               uint32_t first_block, uint32_t n_blocks)
{
    int ret;

    if (!n_chunks || !n_blocks || fvd_jpairs_possible(&s->geometry)) {
        return fvd_add_change(s, first_chunk, n_chunks, first_block, n_blocks, NULL);
    }
    ret = fvd_add_change(s, first_chunk, n_chunks, 0, 0, NULL);
    if (ret >= 0) {
        ret = fvd_journal_co_commit(s->journal, fvd_journal_last(s->journal));
    }
    return ret < 0 ? ret : fvd_add_change(s, 0, 0, first_block, n_blocks, NULL);
}

/* Blocks without a record are held back until the flush; entries are not, for the write may be in others, too. */
static int hold_back(FvdState *s, const FvdWrite *w, const FvdMapNeed *now)
{
    for (uint32_t i = 0; i < w->need.n_blocks; i++) {
        uint32_t block = w->need.first_block + i;

        if (!fvd_map_is_recorded(s->map, block)) {
            fvd_sums_add(s, block, w->sums && is_whole(s, w, block) ? &w->sums[i] : NULL);
        }
    }
    if (now->record_table &&
        fvd_add_change(s, w->need.first_chunk, w->need.n_chunks, 0, 0, NULL) < 0) {
        return -EIO;
    }
    return fvd_sums_hold_back(s);
}

/* The data is there. */
static int coroutine_fn record(FvdState *s, const FvdWrite *w)
{
    FvdMapNeed now;

    fvd_map_set_fresh(s->map, w->need.first_block, w->need.n_blocks);
    fvd_map_write_need(s->map, w->offset, w->bytes, &now);
    if (!now.record_bitmap) {
        return now.record_table ? fvd_add_change(s, now.first_chunk, now.n_chunks, 0, 0, NULL) : 0;
    }
    if (fvd_sums_in_use(s)) {
        return hold_back(s, w, &now);
    }
    return fvd_co_record(s, w->need.first_chunk, w->need.n_chunks, w->need.first_block,
                         w->need.n_blocks); /* D3 */
}

/* Steps 1 and 2, until what the map says fits what is held. */
static int coroutine_fn hold(FvdState *s, FvdWrite *w, FvdRange *r)
{
    int64_t block = s->header.block_size;

    for (;;) {
        bool copy;
        int ret;

        fvd_map_write_need(s->map, w->offset, w->bytes, &w->need);
        copy = w->need.record_bitmap;
        ret = fvd_co_begin_changes(s, w->need.n_empty || w->need.record_table || copy ||
                                          s->bitmaps /* BM1 */);
        if (ret == 0 && s->journal) {
            ret = fvd_journal_co_wait_room(s->journal);
        }
        if (ret == 0 && w->need.n_empty) {
            ret = fvd_co_take(s, w->need.first_chunk, w->need.n_chunks);
        }
        if (ret < 0) {
            return ret;
        }
        if (copy) {
            fvd_co_range_begin(s, r, FVD_RANGE_COPY, w->need.first_block * block,
                               MAX(((int64_t)w->need.first_block + w->need.n_blocks) * block,
                                   w->offset + w->bytes));
        } else {
            fvd_co_range_begin(s, r, FVD_RANGE_WRITE, w->offset, w->offset + w->bytes);
        }
        fvd_map_write_need(s->map, w->offset, w->bytes, &w->need);
        if (!w->need.n_empty && w->need.record_bitmap <= copy &&
            (s->journal || !w->need.record_table)) {
            bool held;

            if (!fvd_sums_touch(s, w->need.first_block, w->need.n_blocks, &held)) {
                return 0;
            }
            fvd_range_end(s, r);
            ret = fvd_co_sums_settle(s);
            if (ret < 0) {
                return ret;
            }
            continue;
        }
        fvd_range_end(s, r);
    }
}

int coroutine_fn fvd_co_write(FvdState *s, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                              size_t qiov_offset)
{
    FvdWrite w = {.offset = offset, .bytes = bytes, .qiov = qiov, .qiov_offset = qiov_offset};
    FvdRange r;
    int ret = hold(s, &w, &r);

    if (ret < 0) {
        return ret;
    }
    ret = write_data(s, &w);
    if (ret >= 0) {
        ret = record(s, &w);
    }
    g_free(w.sums);
    fvd_range_end(s, &r);
    trace_fvd_write(s->bs->node_name, offset, bytes, w.need.start, w.need.end, ret);
    return ret;
}

int coroutine_fn fvd_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    FvdState *s = bs->opaque;
    int64_t piece;
    int ret;

    qemu_co_rwlock_rdlock(&s->changing);
    ret = fvd_check_inside(s, offset, bytes);
    for (; bytes > 0 && ret >= 0; offset += piece, qiov_offset += piece, bytes -= piece) {
        piece = MIN(bytes, s->write_max); /* which may have changed since the request was cut */
        ret = fvd_co_write(s, offset, piece, qiov, qiov_offset);
    }
    qemu_co_rwlock_unlock(&s->changing);
    return ret;
}

/* -------------------------------------------------------------------------------------------- flush */

static int coroutine_fn flush(FvdState *s)
{
    int ret = s->failed ? -EIO : 0;

    if (ret >= 0 && !s->journal) {
        return fvd_co_flush_files(s);
    }
    if (ret >= 0) {
        ret = fvd_sums_gather(s, true);
    }
    if (ret >= 0) {
        ret = fvd_journal_co_commit(s->journal, fvd_journal_last(s->journal));
    }
    return ret < 0 ? ret : fvd_sums_confirm(s);
}

int coroutine_fn fvd_co_flush(BlockDriverState *bs)
{
    FvdState *s = bs->opaque;
    int ret;

    qemu_co_rwlock_rdlock(&s->changing);
    ret = flush(s);
    trace_fvd_flush(bs->node_name, ret);
    if (ret < 0 || s->failed) {
        fvd_fail(s); /* F4 */
        ret = -EIO;
    }
    qemu_co_rwlock_unlock(&s->changing);
    return ret;
}

/* ------------------------------------------------------------------------------------- block status */

static int status(FvdState *s, int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                  BlockDriverState **file)
{
    int64_t there = inside(s, offset, bytes);

    if (there == 0) {
        *pnum = bytes; /* as a read would find it */
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    }
    switch (fvd_map_read(s->map, offset, there, pnum, map)) {
    case FVD_MAP_BASE:
        return 0;
    case FVD_MAP_ZERO:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    default:
        *file = s->data->bs;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_RECURSE;
    }
}

/* Its range is held for the sake of a resize, in whose midst the map is not whole. */
int coroutine_fn fvd_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                     int64_t bytes, int64_t *pnum, int64_t *map,
                                     BlockDriverState **file)
{
    FvdState *s = bs->opaque;
    FvdRange r;
    int ret;

    if (!s->map) {
        return -EIO;
    }
    if (bs->read_only) { /* as for reads */
        return status(s, offset, bytes, pnum, map, file);
    }
    fvd_co_range_begin(s, &r, FVD_RANGE_READ, offset, offset + bytes);
    ret = status(s, offset, bytes, pnum, map, file);
    fvd_range_end(s, &r);
    return ret;
}
