/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations: what is in flight between source and target.
 *
 *     op   [ 1 MiB = 16 chunks of the granularity ]    one MirrorOp, one iovec
 *             |        |        |                      each chunk from the free list, back when done
 *          [ buf ]  [ buf ]  [ buf ]  ...              the last one cut at the disk's end
 *
 *     mark in flight --> take the dirty bits --> read the source --> write the target --> unmark, wake
 *                          (M2)                                          |
 *                                                              failed: dirty again
 *
 * An operation on zeros has no buffers: it asks the source once more, after the bits were taken, and gives back
 * what is not zeros any more.
 */
#include <errno.h>
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"
#include "trace-mirror.h"

/* A part of the run that is copied; the rest of it is clean. */
typedef struct MirrorSegment {
    int64_t offset, bytes;
} MirrorSegment;

typedef struct MirrorOp {
    MirrorBlockJob *s;
    int64_t offset, bytes;
    bool zero;
    QEMUIOVector qiov; /* [offset, offset + bytes) */
    void **bufs;       /* its chunks */
    unsigned nb_chunks;
    GArray *segments; /* MirrorSegment */
    int64_t copied;   /* bytes of them, or of zeros */
    int64_t began_ns;
} MirrorOp;

static int64_t chunk_end(const MirrorBlockJob *s, int64_t offset)
{
    return MIN(QEMU_ALIGN_DOWN(offset, s->granularity) + s->granularity, s->len);
}

/* Grown to whole chunks. */
static void round_to_chunks(const MirrorBlockJob *s, int64_t *offset, int64_t *bytes)
{
    int64_t end = chunk_end(s, *offset + *bytes - 1);

    *offset = QEMU_ALIGN_DOWN(*offset, s->granularity);
    *bytes = end - *offset;
}

bool mirror_is_in_flight(const MirrorBlockJob *s, int64_t offset, int64_t bytes)
{
    round_to_chunks(s, &offset, &bytes);
    return hbitmap_next_dirty(s->in_flight_bitmap, offset, bytes) >= 0;
}

void mirror_mark_in_flight(MirrorBlockJob *s, int64_t offset, int64_t bytes)
{
    assert(!mirror_is_in_flight(s, offset, bytes)); /* M3 */
    round_to_chunks(s, &offset, &bytes);
    hbitmap_set(s->in_flight_bitmap, offset, bytes);
}

void mirror_unmark_in_flight(MirrorBlockJob *s, int64_t offset, int64_t bytes)
{
    round_to_chunks(s, &offset, &bytes);
    assert(hbitmap_next_zero(s->in_flight_bitmap, offset, bytes) < 0);
    hbitmap_reset(s->in_flight_bitmap, offset, bytes);
    mirror_wake(s);
}

bool mirror_cluster_is_there(const MirrorBlockJob *s, int64_t offset, int64_t bytes)
{
    return !s->cow_bitmap || hbitmap_next_zero(s->cow_bitmap, offset, bytes) < 0;
}

void mirror_wake(MirrorBlockJob *s)
{
    qemu_co_queue_restart_all(&s->wait);
    qemu_co_sleep_wake(&s->settle_sleep);
    mirror_wake_waiters(s);
    if (s->idle) {
        s->idle = false;
        job_wake(&s->common.job);
    }
}

void mirror_note_failure(MirrorBlockJob *s, int ret, bool is_read)
{
    if (s->ret == 0) {
        s->ret = ret;
        s->error_is_read = is_read;
    }
    __atomic_store_n(&s->failed_read, is_read, __ATOMIC_RELAXED);
    __atomic_store_n(&s->failed_ns, mirror_now(), __ATOMIC_RELAXED);
    mirror_wake(s);
}

/* What reads as zeros there already.  Before its backing file is attached only what the image holds counts. */
static int coroutine_fn target_is_zero(MirrorBlockJob *s, int64_t offset, int64_t bytes,
                                       int64_t *pnum)
{
    int ret = bdrv_co_block_status(s->target->bs, offset, bytes, pnum, NULL, NULL);

    if (ret < 0 || *pnum == 0) {
        *pnum = bytes;
        return 0;
    }
    return (ret & BDRV_BLOCK_ZERO) && (!s->cow_cluster || (ret & BDRV_BLOCK_ALLOCATED));
}

int coroutine_fn mirror_write_zeroes(MirrorBlockJob *s, int64_t offset, int64_t bytes,
                                     bool may_unmap)
{
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t pnum;
        bool zero;

        if (mirror_gives_up(s)) {
            return -ECANCELED;
        }
        zero = target_is_zero(s, offset, bytes, &pnum);
        if (!zero && mirror_gives_up(s)) {
            return -ECANCELED;
        }
        if (!zero) {
            ret =
                bdrv_co_pwrite_zeroes(s->target, offset, pnum, may_unmap ? BDRV_REQ_MAY_UNMAP : 0);
        }
        offset += pnum;
        bytes -= pnum;
    }
    return MIN(ret, 0);
}

/* How far from @pos of the operation's data are pieces of the kind that starts there? */
static int64_t same_kind(const MirrorOp *op, int64_t pos, int64_t bytes, bool *ret_zero)
{
    int64_t done = 0;

    while (done < bytes) {
        int64_t step = MIRROR_ZERO_PIECE - (op->offset + pos + done) % MIRROR_ZERO_PIECE;
        bool zero;

        step = MIN(step, bytes - done);
        zero = qemu_iovec_is_zero((QEMUIOVector *)&op->qiov, pos + done, step);
        if (done == 0) {
            *ret_zero = zero;
        } else if (zero != *ret_zero) {
            break;
        }
        done += step;
    }
    return done;
}

static int coroutine_fn write_segment(MirrorOp *op, const MirrorSegment *segment)
{
    MirrorBlockJob *s = op->s;
    int64_t pos = segment->offset - op->offset;
    int64_t end = pos + segment->bytes;
    int ret = 0;

    while (pos < end && ret >= 0) {
        bool zero;
        int64_t n = same_kind(op, pos, end - pos, &zero);

        if (zero) {
            ret = mirror_write_zeroes(s, op->offset + pos, n, s->unmap);
        } else if (mirror_gives_up(s)) {
            ret = -ECANCELED;
        } else {
            ret = bdrv_co_pwritev_part(s->target, op->offset + pos, n, &op->qiov, pos, 0);
        }
        pos += n;
    }
    return MIN(ret, 0);
}

/* From @segment on all is dirty again. */
static void give_back(MirrorOp *op, guint segment)
{
    for (; segment < op->segments->len; segment++) {
        const MirrorSegment *seg = &g_array_index(op->segments, MirrorSegment, segment);

        mirror_dirty_set(&op->s->dirty, seg->offset, seg->bytes);
    }
}

/* The read does not wait for serialising requests: one of a guest may be waiting for this very operation. */
static int coroutine_fn copy_segments(MirrorOp *op)
{
    MirrorBlockJob *s = op->s;
    int ret;

    for (guint i = 0; i < op->segments->len; i++) {
        const MirrorSegment *seg = &g_array_index(op->segments, MirrorSegment, i);
        bool is_read = true;

        ret = bdrv_co_preadv_part(s->source, seg->offset, seg->bytes, &op->qiov,
                                  seg->offset - op->offset, BDRV_REQ_NO_SERIALISING);
        if (ret >= 0) {
            is_read = false;
            ret = write_segment(op, seg);
        }
        if (ret < 0) {
            give_back(op, i); /* before it is unmarked: M4 */
            mirror_note_failure(s, ret, is_read);
            return ret;
        }
    }
    return 0;
}

/* M2: asked again, after the bits were taken.  Return: 0 or negative errno. */
static int coroutine_fn copy_zeroes(MirrorOp *op)
{
    MirrorBlockJob *s = op->s;
    int64_t pnum, zeros = 0;
    int ret =
        bdrv_co_block_status_above(s->source->bs, NULL, op->offset, op->bytes, &pnum, NULL, NULL);

    if (ret >= 0 && (ret & BDRV_BLOCK_ZERO)) {
        zeros = pnum == op->bytes ? pnum : QEMU_ALIGN_DOWN(pnum, s->granularity);
    }
    ret = zeros > 0 ? mirror_write_zeroes(s, op->offset, zeros, s->unmap) : 0;
    if (ret < 0) {
        mirror_dirty_set_whole(&s->dirty, op->offset, op->bytes);
        mirror_note_failure(s, ret, false);
        return ret;
    }
    mirror_dirty_set_whole(&s->dirty, op->offset + zeros, op->bytes - zeros);
    if (zeros == 0) { /* not any more: its data is copied */
        s->hint_start = op->offset;
        s->hint_end = op->offset + op->bytes;
        s->hint_zero = false;
    }
    return 0;
}

static void begin(MirrorBlockJob *s)
{
    if (__atomic_fetch_add(&s->in_flight, 1, __ATOMIC_SEQ_CST) == 0) {
        s->busy_since_ns = mirror_now();
        mirror_note_answer(s);
    }
}

static void end(MirrorBlockJob *s)
{
    mirror_note_answer(s);
    if (__atomic_sub_fetch(&s->in_flight, 1, __ATOMIC_SEQ_CST) == 0) {
        bdrv_drain_kick();
    }
    mirror_wake(s);
}

/* The chunks go back in the order that makes the next run find them side by side. */
static void mirror_iteration_done(MirrorOp *op, int ret)
{
    MirrorBlockJob *s = op->s;

    trace_mirror_iteration_done(s, op->offset, op->bytes, ret);
    for (unsigned i = op->nb_chunks; i-- > 0;) {
        copy_pool_put(s->buf, op->bufs[i]);
    }
    if (ret >= 0) {
        if (s->cow_bitmap && !op->zero) {
            hbitmap_set(s->cow_bitmap, op->offset, op->bytes);
        }
        if (!op->zero) { /* zeros cost next to nothing, and would say that data does */
            mirror_rate_copied(s, op->copied, op->began_ns);
        }
        job_progress_update(&s->common.job, op->copied);
    }
    s->bytes_in_flight -= op->copied;
    mirror_unmark_in_flight(s, op->offset, op->bytes);
    if (op->bufs) {
        qemu_iovec_destroy(&op->qiov);
    }
    g_array_free(op->segments, TRUE);
    g_free(op->bufs);
    g_free(op);
    end(s);
}

static void coroutine_fn op_entry(void *opaque)
{
    MirrorOp *op = opaque;

    mirror_iteration_done(op, op->zero ? copy_zeroes(op) : copy_segments(op));
}

static void add_segment(MirrorOp *op, int64_t offset, int64_t bytes)
{
    MirrorSegment segment = {.offset = offset, .bytes = bytes};

    if (op->segments->len > 0) {
        MirrorSegment *last = &g_array_index(op->segments, MirrorSegment, op->segments->len - 1);

        if (offset - (last->offset + last->bytes) <= MIRROR_GAP_BYTES) {
            op->copied += offset + bytes - (last->offset + last->bytes);
            last->bytes = offset + bytes - last->offset;
            return;
        }
    }
    op->copied += bytes;
    g_array_append_val(op->segments, segment);
}

/* M2: the chunk at @offset is clean from here.  A cluster that the target lacks is copied whole (M5). */
static void take_chunk(MirrorOp *op, int64_t offset)
{
    MirrorBlockJob *s = op->s;
    uint64_t units = mirror_dirty_take(&s->dirty, offset);
    int64_t unit = s->dirty.unit_bytes, stop = chunk_end(s, offset);

    if (!mirror_cluster_is_there(s, offset, stop - offset) ||
        units == mirror_dirty_all_units(&s->dirty, offset)) {
        add_segment(op, offset, stop - offset);
        return;
    }
    for (int i = 0; units >> i; i++) {
        if ((units >> i) & 1) {
            int64_t start = offset + i * unit;

            add_segment(op, start, MIN(start + unit, stop) - start);
        }
        if (i == MIRROR_UNITS_MAX - 1) {
            break;
        }
    }
}

static void take_buffers(MirrorOp *op)
{
    MirrorBlockJob *s = op->s;

    op->nb_chunks = DIV_ROUND_UP(op->bytes, s->granularity);
    op->bufs = g_new(void *, op->nb_chunks);
    qemu_iovec_init(&op->qiov, op->nb_chunks);
    assert(mirror_buf_free_count(s) >= op->nb_chunks);
    for (unsigned i = 0; i < op->nb_chunks; i++) {
        int64_t at = i * s->granularity;

        op->bufs[i] = copy_pool_get(s->buf); /* does not yield: there are enough */
        qemu_iovec_add(&op->qiov, op->bufs[i], MIN(s->granularity, op->bytes - at));
    }
}

int64_t mirror_start_op(MirrorBlockJob *s, int64_t offset, int64_t bytes, bool zero)
{
    int64_t copied;
    MirrorOp *op = g_new0(MirrorOp, 1);

    assert(offset % s->granularity == 0);
    assert((offset + bytes) % s->granularity == 0 || offset + bytes == s->len);
    trace_mirror_one_iteration(s, offset, bytes, zero);
    *op = (MirrorOp){
        .s = s, .offset = offset, .bytes = bytes, .zero = zero, .began_ns = mirror_now()};
    op->segments = g_array_new(FALSE, FALSE, sizeof(MirrorSegment));
    mirror_mark_in_flight(s, offset, bytes);
    if (!zero) {
        take_buffers(op);
        for (int64_t at = offset; at < offset + bytes; at += s->granularity) {
            take_chunk(op, at);
        }
    } else {
        mirror_dirty_clear_covered(&s->dirty, offset, bytes); /* M2 */
        op->copied = bytes;
    }
    copied = op->copied;
    s->bytes_in_flight += copied;
    begin(s);
    aio_co_enter(s->common.job.aio_context, qemu_coroutine_create(op_entry, op));
    return copied;
}

static void coroutine_fn flush_entry(void *opaque)
{
    MirrorBlockJob *s = opaque;

    s->flush_ret = mirror_gives_up(s) ? -ECANCELED : bdrv_co_flush(s->target->bs);
    s->flushing = false;
    if (s->flush_ret < 0) {
        mirror_note_failure(s, s->flush_ret, false);
    }
    end(s);
}

void mirror_start_flush(MirrorBlockJob *s)
{
    assert(!s->flushing);
    s->flushing = true;
    begin(s);
    aio_co_enter(s->common.job.aio_context, qemu_coroutine_create(flush_entry, s));
}
