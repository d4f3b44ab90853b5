/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prefetching: what is in the backing file comes into the image, piece by piece, while guests read and write.
 *
 *      a round       what does the image not have? --> a slot: load --> store
 *          ^            is it zeros? then only: store        |      \
 *          |                                                 +-- failed: kept in a list, done again or given up
 *          +--- something is left      finish: the image says that it is complete
 *
 *   PF1  A piece is done when the driver has stored it, which waits for whoever is at work there.  None is skipped because
 *        somebody has it: what a guest or a reader is bringing in is found in the image, or is brought in by us.
 *   PF2  A piece that failed is in no list of what is there.  It is tried again (stop), or the job fails (report), or the
 *        rest is copied still, and the job fails at the end (ignore): an image is complete, or does not say so.
 *   PF3  The driver is asked, not this list, whether all is there; if not, another round.
 *   PF4  It stops, sleeps and ends only with nothing in flight.
 *   PF5  Where a window of either side was slower than the least, somebody else needs the storage: with a chance of one
 *        half the job stays away for a random time up to throttle-time.
 *
 * What was stored a crash may undo.  It is made durable every KEEP_BYTES, and at the end, whatever the end is.
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/io/io.h"
#include "block/jobs/prefetch/prefetch-job.h"
#include "trace-prefetch.h"
#include "util/osdep.h"

/* So much work at most is lost in a crash; one flush for so many bytes is not noticed. */
#define KEEP_BYTES (1 * GiB)
/* Zeros cost no transfer; a step bounds the time for which a guest may have to wait for one. */
#define ZERO_STEP  (64 * MiB)

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static int in_flight(const PrefetchBlockJob *s)
{
    return __atomic_load_n(&s->in_flight, __ATOMIC_SEQ_CST);
}

static void coroutine_fn wait_for_idle(PrefetchBlockJob *s)
{
    while (in_flight(s) > 0) {
        qemu_co_queue_wait(&s->wait, NULL);
    }
}

/* PF4 */
static void coroutine_fn pause_point(PrefetchBlockJob *s)
{
    if (job_should_pause(&s->common.job)) {
        wait_for_idle(s);
        job_pause_point(&s->common.job);
    }
}

static void coroutine_fn rest(PrefetchBlockJob *s, int64_t ns)
{
    wait_for_idle(s);
    job_sleep_ns(&s->common.job, ns);
}

/* -------------------------------------------------------------------------------------------- slots */

typedef struct Slot {
    PrefetchBlockJob *s;
    PrefetchPiece piece;
} Slot;

static int coroutine_fn load(PrefetchBlockJob *s, const PrefetchPiece *piece, void *buf)
{
    int ret;

    prefetch_pace_begin(&s->read, now_ns());
    ret = s->driver->co_load(s->bs, piece->offset, piece->bytes, buf);
    prefetch_pace_end(&s->read, now_ns(), ret < 0 ? 0 : piece->bytes);
    return ret;
}

static int coroutine_fn store(PrefetchBlockJob *s, const PrefetchPiece *piece, const void *buf)
{
    int ret;

    if (!buf) {
        return s->driver->co_store(s->bs, piece->offset, piece->bytes, NULL);
    }
    prefetch_pace_begin(&s->write, now_ns());
    ret = s->driver->co_store(s->bs, piece->offset, piece->bytes, buf);
    prefetch_pace_end(&s->write, now_ns(), ret < 0 ? 0 : piece->bytes);
    return ret;
}

static void coroutine_fn slot_entry(void *opaque)
{
    Slot *slot = opaque;
    PrefetchBlockJob *s = slot->s;
    PrefetchPiece *piece = &slot->piece;
    BlockDriverState *bs = s->bs;
    void *buf = piece->zero ? NULL : copy_pool_get(s->bufs);
    int ret = 0;

    if (!piece->zero) {
        ret = buf ? load(s, piece, buf) : -ENOMEM;
        piece->failed_reading = ret < 0;
    }
    if (ret >= 0) {
        ret = store(s, piece, buf);
    }
    if (buf) {
        copy_pool_put(s->bufs, buf);
    }
    trace_prefetch_piece(s, piece->offset, piece->bytes, piece->zero, ret);
    if (ret < 0) {
        piece->ret = ret;
        g_array_append_val(s->failed, *piece); /* PF2 */
    } else {
        s->unkept += piece->bytes;
        job_progress_update(&s->common.job, piece->bytes);
    }
    g_free(slot);
    __atomic_sub_fetch(&s->in_flight, 1, __ATOMIC_SEQ_CST);
    qemu_co_queue_restart_all(&s->wait);
    bdrv_dec_in_flight(bs);
    bdrv_drain_kick();
}

static void start(PrefetchBlockJob *s, const PrefetchPiece *piece)
{
    Slot *slot = g_new(Slot, 1);

    *slot = (Slot){s, *piece};
    __atomic_add_fetch(&s->in_flight, 1, __ATOMIC_SEQ_CST);
    bdrv_inc_in_flight(s->bs);
    aio_co_enter(s->common.job.aio_context, qemu_coroutine_create(slot_entry, slot));
}

/* ------------------------------------------------------------------------------------------- pieces */

/* Whether the backing file has nothing but zeros at @offset, and up to where that is so, or is not. */
static void coroutine_fn ask_for_hint(PrefetchBlockJob *s, int64_t offset, int64_t bytes)
{
    BlockDriverState *base = s->bs->backing->bs;
    int64_t inside = bdrv_getlength(base) - offset, n = bytes;
    int ret = BDRV_BLOCK_ZERO; /* behind its end */

    if (inside > 0) {
        bytes = MIN(bytes, inside);
        ret = bdrv_co_block_status_above(base, NULL, offset, bytes, &n, NULL, NULL);
    }
    if (ret < 0 || n == 0) { /* a hint: what is there is read */
        ret = BDRV_BLOCK_DATA;
        n = bytes;
    }
    s->hint_start = offset;
    s->hint_end = offset + n;
    s->hint_zero = ret & BDRV_BLOCK_ZERO;
}

/* Of a run that is in the backing file the first piece. */
static void coroutine_fn first_piece(PrefetchBlockJob *s, int64_t offset, int64_t run,
                                     PrefetchPiece *piece)
{
    int64_t hinted;

    if (offset < s->hint_start || offset >= s->hint_end) {
        ask_for_hint(s, offset, run);
    }
    hinted = s->hint_end - offset;
    piece->offset = offset;
    piece->zero = s->hint_zero && (hinted >= run || hinted >= s->unit);
    if (piece->zero) {
        hinted = hinted >= run ? run : QEMU_ALIGN_DOWN(hinted, s->unit);
        piece->bytes = MIN(hinted, QEMU_ALIGN_DOWN(ZERO_STEP, s->unit) ?: s->unit);
    } else {
        hinted = s->hint_zero ? s->unit : QEMU_ALIGN_UP(hinted, s->unit);
        piece->bytes = MIN(MIN(run, hinted), s->bytes_per_slot);
    }
}

/* Return: 1, there is a piece; 0, the round is at its end; negative errno. */
static int coroutine_fn next_piece(PrefetchBlockJob *s, PrefetchPiece *piece)
{
    *piece = (PrefetchPiece){0};
    while (s->offset < s->len) {
        int64_t run;
        int ret = bdrv_co_block_status(s->bs, s->offset, s->len - s->offset, &run, NULL, NULL);

        if (ret < 0 || run == 0) {
            return ret < 0 ? ret : -EIO;
        }
        if (!(ret & BDRV_BLOCK_ALLOCATED)) {
            first_piece(s, s->offset, run, piece);
            s->offset += piece->bytes;
            return 1;
        }
        s->offset += run;
    }
    return 0;
}

static int coroutine_fn count(PrefetchBlockJob *s, int64_t *ret_bytes)
{
    int64_t run;

    *ret_bytes = 0;
    for (int64_t offset = 0; offset < s->len; offset += run) {
        int ret = bdrv_co_block_status(s->bs, offset, s->len - offset, &run, NULL, NULL);

        if (ret < 0 || run == 0) {
            return ret < 0 ? ret : -EIO;
        }
        *ret_bytes += ret & BDRV_BLOCK_ALLOCATED ? 0 : run;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- rounds */

/* PF2.  Return: 0 to go on. */
static int coroutine_fn handle_failure(PrefetchBlockJob *s)
{
    const PrefetchPiece first = g_array_index(s->failed, PrefetchPiece, 0);
    BlockErrorAction action;

    wait_for_idle(s);
    action = block_job_error_action(&s->common, s->on_error, first.failed_reading, -first.ret);
    if (action == BLOCK_ERROR_ACTION_REPORT) {
        return first.ret;
    }
    if (action == BLOCK_ERROR_ACTION_IGNORE) {
        s->ignored = first.ret;
        g_array_set_size(s->failed, 0);
        return 0;
    }
    pause_point(s);
    for (guint i = 0; i < s->failed->len; i++) { /* from the first of them on */
        s->offset = MIN(s->offset, g_array_index(s->failed, PrefetchPiece, i).offset);
    }
    g_array_set_size(s->failed, 0);
    return 0;
}

/* PF5 */
static void coroutine_fn give_way(PrefetchBlockJob *s)
{
    bool reads = prefetch_pace_take_slow(&s->read), writes = prefetch_pace_take_slow(&s->write);
    int64_t ns;

    if ((!reads && !writes) || s->throttle_ns == 0 || g_rand_boolean(s->rand)) {
        return;
    }
    ns = (int64_t)(g_rand_double(s->rand) * (double)s->throttle_ns);
    trace_prefetch_give_way(s, s->read.average, s->write.average, ns);
    __atomic_store_n(&s->throttled, true, __ATOMIC_RELAXED);
    rest(s, ns);
    __atomic_store_n(&s->throttled, false, __ATOMIC_RELAXED);
}

static int coroutine_fn keep(PrefetchBlockJob *s)
{
    int ret;

    s->unkept = 0;
    bdrv_inc_in_flight(s->bs);
    ret = s->driver->co_keep(s->bs);
    bdrv_dec_in_flight(s->bs);
    return ret;
}

/* One step.  Return: 1, go on; 0, the round is over; negative errno. */
static int coroutine_fn step(PrefetchBlockJob *s)
{
    PrefetchPiece piece;
    int64_t delay_ns;
    int ret = 0;

    pause_point(s);
    if (job_is_cancelled(&s->common.job)) {
        return -ECANCELED;
    }
    if (s->failed->len) {
        ret = handle_failure(s);
        return ret < 0 ? ret : 1;
    }
    give_way(s);
    if (s->unkept >= KEEP_BYTES) {
        ret = keep(s);
    }
    if (ret >= 0 && in_flight(s) >= (int)s->slots) {
        qemu_co_queue_wait(&s->wait, NULL);
        return 1;
    }
    ret = ret < 0 ? ret : next_piece(s, &piece);
    if (ret == 0 && in_flight(s) > 0) {
        qemu_co_queue_wait(&s->wait, NULL);
        return 1;
    }
    if (ret > 0) {
        start(s, &piece);
        delay_ns = piece.zero ? 0 : block_job_ratelimit_delay(&s->common, piece.bytes);
        if (delay_ns > 0) {
            rest(s, delay_ns);
        }
    }
    return ret == 0 && s->failed->len ? 1 : ret;
}

static int coroutine_fn finish(PrefetchBlockJob *s)
{
    int ret;

    bdrv_inc_in_flight(s->bs);
    ret = s->driver->co_finish(s->bs);
    bdrv_dec_in_flight(s->bs);
    return ret;
}

/* Rounds until the driver says that nothing is left. */
static int coroutine_fn fill(PrefetchBlockJob *s)
{
    int64_t left, before = INT64_MAX;
    int ret;

    for (;;) {
        ret = count(s, &left);
        if (ret < 0 || left >= before) { /* a round has brought nothing */
            return ret < 0 ? ret : -EIO;
        }
        before = left;
        job_progress_set_remaining(&s->common.job, left);
        s->offset = 0;
        while ((ret = step(s)) > 0) {
        }
        if (ret < 0 || s->ignored) {
            return ret < 0 ? ret : s->ignored;
        }
        ret = finish(s); /* PF3 */
        trace_prefetch_round(s, left, ret);
        if (ret != -EAGAIN) {
            return ret;
        }
    }
}

int coroutine_fn prefetch_run(Job *job, Error **errp)
{
    PrefetchBlockJob *s = container_of(job, PrefetchBlockJob, common.job);
    int ret = fill(s);

    wait_for_idle(s);
    if (ret < 0 && s->unkept > 0) {
        keep(s); /* what was done is not to be done again; it is no part of the job's result */
    }
    return ret;
}
