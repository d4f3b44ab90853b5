/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * soft.c - blocks that come into the image although nobody wrote them: copy-on-read, prefetching
 *
 *      guest's read:   base --> buffer --> guest, who has his answer
 *                                 |
 *      prefetching:    base --> buffer --> chunks are taken --> the range is held --> a second look --> data --> fresh
 *
 *   SW1  What is stored is in the base still while its range is held as COPY.  Blocks come into the image only under
 *        such a range, so what a guest has written meanwhile is never overwritten.
 *   SW2  A block is fresh after its data was written, and not before: others read it in the image from then on.
 *   SW3  Nothing is recorded: a crash leaves such blocks in the base, and the work is done again.  A record comes with
 *        the first write of a guest to the block, or with fvd_co_soft_keep(): when the image is settled, and when a
 *        prefetching asks.  It is a record as any other, and the journal makes all data durable before (F2).
 *   SW4  What fails changes nothing: the block is in the base still.  A guest who has read it is not told.
 *   SW5  Zeros need no chunk: a fresh block whose entry is EMPTY reads as zeros.  Who records such a block holds its
 *        range, for somebody may be about to give it a chunk which is not zeros yet (F3).
 */
#include <errno.h>
#include "block/drivers/fvd/fvd-int.h"
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* What is sensible of max_outstanding_copy_on_read_data: bounds memory, whatever a header says. */
#define OUTSTANDING_MAX (64 * MiB)
/* And of prefetching: KB/s beyond this are no limit. */
#define KB_PER_S_MAX    UINT64_C(1000000000)
#define MS_MAX          (3600 * UINT64_C(1000))

/* -------------------------------------------------------------------------------------------- store */

/* @buf NULL: all are zeros. */
static bool is_zero(const uint8_t *buf, int64_t at, int64_t bytes)
{
    return !buf || buffer_is_zero(buf + at, bytes);
}

/* From @offset to the end of its chunk or of the range. */
static int64_t in_one_chunk(const FvdState *s, int64_t offset, int64_t end)
{
    int64_t chunk = s->header.chunk_size;

    return fvd_header_has_table(&s->header) ? MIN(end, (offset / chunk + 1) * chunk) - offset
                                            : end - offset;
}

/* The first chunk from *@offset on that has no place and is to hold something; false: none. */
static bool needs_chunk(const FvdState *s, int64_t *offset, int64_t end, const uint8_t *buf,
                        int64_t start)
{
    int64_t piece;

    for (; *offset < end; *offset += piece) {
        int64_t run;

        piece = in_one_chunk(s, *offset, end);
        if (fvd_map_place(s->map, *offset, piece, &run) < 0 &&
            !is_zero(buf, *offset - start, piece)) {
            return true;
        }
    }
    return false;
}

static int coroutine_fn take_chunks(FvdState *s, int64_t start, int64_t end, const uint8_t *buf)
{
    int64_t chunk = s->header.chunk_size, from, at = start;
    int ret = 0;

    while (ret >= 0 && needs_chunk(s, &at, end, buf, start)) {
        /* As many as follow each other: they get places that do. */
        for (from = at; at < end && !is_zero(buf, at - start, in_one_chunk(s, at, end));) {
            at += in_one_chunk(s, at, end);
        }
        ret = fvd_co_take(s, (uint32_t)(from / chunk),
                          (uint32_t)(DIV_ROUND_UP(at, chunk) - from / chunk));
    }
    return ret;
}

/* These bytes are in the base. */
static int coroutine_fn store_run(FvdState *s, int64_t offset, int64_t bytes, const uint8_t *buf)
{
    int64_t run;
    int ret = 0;

    for (; bytes > 0 && ret >= 0; offset += run, bytes -= run) {
        int64_t place = fvd_map_place(s->map, offset, bytes, &run);

        if (place >= 0 && !buf) {
            ret = bdrv_co_pwrite_zeroes(s->data, place, run, 0);
        } else if (place >= 0) {
            ret = bdrv_co_pwrite(s->data, place, run, buf, 0);
        } /* SW5 */
        buf = buf ? buf + run : NULL;
    }
    return MIN(ret, 0);
}

/* The range is held. */
static int coroutine_fn store_what_is_in_base(FvdState *s, int64_t start, int64_t end,
                                              const uint8_t *buf)
{
    int64_t block = s->header.block_size, run, place;
    int ret = 0;

    for (int64_t at = start; at < end && ret >= 0; at += run) {
        if (fvd_map_read(s->map, at, end - at, &run, &place) != FVD_MAP_BASE) { /* SW1 */
            continue;
        }
        ret = store_run(s, at, run, buf ? buf + (at - start) : NULL);
        if (ret >= 0) {
            uint32_t first = (uint32_t)(at / block);

            s->soft = true;
            fvd_map_set_fresh(s->map, first,
                              (uint32_t)DIV_ROUND_UP(at + run, block) - first); /* SW2 */
        }
    }
    return ret;
}

/* Whole blocks, the last one as far as it is in the base.  Guests may be told nothing of what happens. */
static int coroutine_fn soft_store(FvdState *s, int64_t start, int64_t end, const uint8_t *buf)
{
    FvdRange r;
    int ret;

    qemu_co_rwlock_rdlock(&s->changing);
    end = MIN(end, s->header.base_img_size); /* the disk may have been made smaller */
    for (;;) {
        int64_t at = start;

        ret = fvd_co_begin_changes(s, true);
        if (ret == 0) {
            ret = take_chunks(s, start, end, buf);
        }
        if (ret < 0) {
            break;
        }
        fvd_co_range_begin(s, &r, FVD_RANGE_COPY, start,
                           QEMU_ALIGN_UP(end, (int64_t)s->header.block_size));
        if (!needs_chunk(s, &at, end, buf, start)) {
            ret = store_what_is_in_base(s, start, end, buf);
            fvd_range_end(s, &r);
            break;
        }
        fvd_range_end(s, &r); /* a discard was faster */
    }
    qemu_co_rwlock_unlock(&s->changing);
    trace_fvd_soft_store(s->bs->node_name, start, end, !buf, ret);
    return ret;
}

/* ------------------------------------------------------------------------------------- copy-on-read */

typedef struct Kept {
    FvdState *s;
    int64_t start, end;
    uint8_t *buf;
} Kept;

static void kept_free(Kept *kept)
{
    kept->s->kept_outstanding -= (uint64_t)(kept->end - kept->start);
    qemu_vfree(kept->buf);
    g_free(kept);
}

/* NULL: not kept, there are enough; or there is no memory. */
static Kept *kept_new(FvdState *s, int64_t start, int64_t end)
{
    uint64_t most = MIN(s->header.max_outstanding_copy_on_read_data, OUTSTANDING_MAX);
    uint8_t *buf;
    Kept *kept;

    if ((uint64_t)(end - start) > most - MIN(most, s->kept_outstanding)) {
        return NULL;
    }
    buf = qemu_try_blockalign(s->data->bs, end - start);
    if (!buf) {
        return NULL;
    }
    kept = g_new(Kept, 1);
    *kept = (Kept){s, start, end, buf};
    s->kept_outstanding += (uint64_t)(end - start);
    return kept;
}

static void coroutine_fn keep_entry(void *opaque)
{
    Kept *kept = opaque;
    BlockDriverState *bs = kept->s->bs;

    soft_store(kept->s, kept->start, kept->end, kept->buf); /* SW4 */
    kept_free(kept);
    bdrv_dec_in_flight(bs);
}

int coroutine_fn fvd_co_read_and_keep(FvdState *s, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    bool wanted = s->copy_on_read && s->bs->backing && !s->bs->read_only && !s->failed;
    int64_t block = s->header.block_size, start = offset / block * block;
    int64_t end = MIN(QEMU_ALIGN_UP(offset + bytes, block), s->header.base_img_size);
    Kept *kept = wanted && !(flags & BDRV_REQ_NO_SERIALISING) ? kept_new(s, start, end) : NULL;
    QEMUIOVector whole;

    if (kept) {
        qemu_iovec_init_buf(&whole, kept->buf, end - start);
        if (fvd_co_read_base(s, start, end - start, &whole, 0, flags) >= 0) {
            qemu_iovec_from_buf(qiov, qiov_offset, kept->buf + (offset - start), bytes);
            trace_fvd_keep(s->bs->node_name, start, end, s->kept_outstanding);
            bdrv_inc_in_flight(s->bs);
            aio_co_schedule(s->bs->aio_context, qemu_coroutine_create(keep_entry, kept));
            return 0;
        }
        kept_free(kept); /* beside what was asked for there may be what cannot be read */
    }
    return fvd_co_read_base(s, offset, bytes, qiov, qiov_offset, flags);
}

/* ------------------------------------------------------------------------------------------- record */

/* A run of blocks, or the part of it that is soft still, in pieces whose records fit. */
static int coroutine_fn record_run(FvdState *s, uint32_t first, uint32_t n)
{
    int64_t block = s->header.block_size;
    FvdMapNeed need;
    FvdRange r;
    int ret;

    fvd_co_range_begin(s, &r, FVD_RANGE_COPY, first * block,
                       ((int64_t)first + n) * block); /* SW5 */
    ret = fvd_sums_gather(
        s, false); /* what is held back is no business of ours, and data is flushed anyway */
    n = MIN(n, fvd_map_soft_run(s->map, first, &first));
    if (ret >= 0 && n && first * block < r.end) {
        n = MIN(n, (uint32_t)(r.end / block) - first);
        fvd_map_write_need(s->map, first * block,
                           MIN(n * block, s->header.base_img_size - first * block), &need);
        ret = fvd_co_record(s, need.first_chunk, need.n_chunks, first, n);
    } /* else somebody wrote there */
    fvd_range_end(s, &r);
    trace_fvd_soft_record(s->bs->node_name, first, n, ret);
    return ret;
}

int coroutine_fn fvd_co_soft_keep(FvdState *s)
{
    uint32_t most, from = 0, n;
    int ret = 0;

    if (!s->soft) {
        return 0;
    }
    s->soft = false; /* what comes meanwhile sets it again */
    most = (uint32_t)MAX(s->write_max / s->header.block_size, 1);
    while (ret >= 0 && (n = fvd_map_soft_run(s->map, from, &from))) {
        n = MIN(n, most);
        ret = fvd_journal_co_wait_room(s->journal);
        if (ret >= 0) {
            ret = record_run(s, from, n);
        }
    }
    s->soft |= ret < 0;
    return ret;
}

/* -------------------------------------------------------------------------------------- prefetching */

static int64_t bytes_per_s(uint64_t kb)
{
    return kb >= KB_PER_S_MAX ? 0 : (int64_t)kb * 1024;
}

static int64_t ns_of_ms(uint64_t ms)
{
    return (int64_t)MIN(ms, MS_MAX) * 1000 * 1000;
}

static void fvd_prefetch_get_info(BlockDriverState *bs, BdrvPrefetchInfo *ret_info)
{
    const FvdHeader *h = &((FvdState *)bs->opaque)->header;

    *ret_info = (BdrvPrefetchInfo){
        .unit = h->block_size,
        .slots = h->num_prefetch_slots,
        .bytes_per_slot = (int64_t)MIN(h->bytes_per_prefetch, (uint64_t)INT64_MAX),
        .min_read_throughput = bytes_per_s(h->prefetch_min_read_throughput),
        .min_write_throughput = bytes_per_s(h->prefetch_min_write_throughput),
        .max_read_throughput = bytes_per_s(h->prefetch_max_read_throughput),
        .max_write_throughput = bytes_per_s(h->prefetch_max_write_throughput),
        .throttle_ns = ns_of_ms(h->prefetch_throttle_time),
        .read_measure_ns = ns_of_ms(h->prefetch_read_throughput_measure_time),
        .write_measure_ns = ns_of_ms(h->prefetch_write_throughput_measure_time),
    };
}

static int coroutine_fn fvd_co_prefetch_load(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             void *buf)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return fvd_co_read_base(bs->opaque, offset, bytes, &qiov, 0, 0);
}

static int coroutine_fn fvd_co_prefetch_store(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              const void *buf)
{
    return soft_store(bs->opaque, offset, offset + bytes, buf);
}

/* Who holds changing.  Others may have recorded what is soft no more, a change of the size for one: it is committed here. */
static int coroutine_fn keep_durably(FvdState *s)
{
    int ret = s->failed ? -EIO : 0;

    if (ret == 0 && s->journal) {
        ret = fvd_co_soft_keep(s);
        ret = ret < 0 ? ret : fvd_journal_co_commit(s->journal, fvd_journal_last(s->journal));
    }
    return ret;
}

static int coroutine_fn fvd_co_prefetch_keep(BlockDriverState *bs)
{
    FvdState *s = bs->opaque;
    int ret;

    qemu_co_rwlock_rdlock(&s->changing);
    ret = keep_durably(s);
    qemu_co_rwlock_unlock(&s->changing);
    return ret;
}

static bool is_something_in_base(const FvdState *s)
{
    int64_t run, place;

    for (int64_t at = 0; at < s->header.base_img_size; at += run) {
        if (fvd_map_read(s->map, at, s->header.base_img_size - at, &run, &place) == FVD_MAP_BASE) {
            return true;
        }
    }
    return false;
}

/* What is in the image stays there, so that it need not be asked again after the wait.  F9 */
static int coroutine_fn fvd_co_prefetch_finish(BlockDriverState *bs)
{
    FvdState *s = bs->opaque;
    int ret;

    qemu_co_rwlock_rdlock(&s->changing);
    ret = is_something_in_base(s) ? -EAGAIN : fvd_co_begin_changes(s, true);
    if (ret == 0) {
        s->soft = true; /* a write that was recorded in two steps may be between them */
        ret = keep_durably(s);
    }
    if (ret == 0) {
        s->header.base_img_fully_prefetched = 1;
        ret = fvd_co_write_state(s);
        if (ret >= 0) {
            fvd_map_forget_base(s->map);
        }
    }
    qemu_co_rwlock_unlock(&s->changing);
    trace_fvd_prefetch_finish(bs->node_name, ret);
    return ret;
}

const BlockDriverPrefetch fvd_prefetch = {
    .get_info = fvd_prefetch_get_info,
    .co_load = fvd_co_prefetch_load,
    .co_store = fvd_co_prefetch_store,
    .co_keep = fvd_co_prefetch_keep,
    .co_finish = fvd_co_prefetch_finish,
};
