/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store.c - who is at work where on the disk, and chunks of the data file: taken, made to read as zeros
 *
 *     data_offset                 used                  ready_end                  end of the file
 *     |  chunks in use, given back |  never in use, zeros, |  never in use; holds what |
 *     |                            |  durably              |  somebody left here       |
 *
 *   ST1  A chunk that was never in use is taken below ready_end.  What is behind is made ready first, many chunks
 *        at a time: a file grows, which costs nothing and reads as zeros by itself; what is there already (of a block
 *        device, or because a program has made it larger) is zeroed and flushed.  (F3)
 *   ST2  A chunk that was given back holds old data: it is zeroed and flushed as it is taken.
 *   ST3  What a crash left behind the last chunk in use, written for an entry that was lost with its record, is cut
 *        off before the first change, durably: else it would come back with an entry whose record survives a crash, and
 *        the new length not; where it cannot be cut off it is behind ready_end.
 *   ST4  ready_end only moves over chunks nobody has written to: who has taken one beyond it writes after it has
 *        passed.
 *   ST5  What could not be made ready is no chunk in use: else a file that cannot grow would be asked to, by everybody
 *        from then on, also where something else is free.
 */
#include <errno.h>
#include "block/drivers/fvd/fvd-int.h"
#include "block/drivers/fvd/storage/command.h"
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/*
 * How much of a device is zeroed at once, ahead of those who will take it: one flush for so many chunks, and at most
 * so much work done for nothing.
 */
#define ZERO_AHEAD    (16 * MiB)
/* What is sensible of storage_grow_unit: beyond, a file looks larger than the disk it is on. */
#define GROW_UNIT_MAX (1 * GiB)

/* ------------------------------------------------------------------------------------------- ranges */

/*
 * Chunks are taken when nobody is there: a read or write that waited with the taker, or looks at the map once more, would
 * find places that do not read as zeros yet, and what is written there would be zeroed afterwards.
 */
static bool excludes(FvdRangeKind before, FvdRangeKind now)
{
    switch (before) {
    case FVD_RANGE_READ:
    case FVD_RANGE_WRITE:
        return now == FVD_RANGE_FREE || now == FVD_RANGE_TAKE;
    case FVD_RANGE_COPY:
        return now == FVD_RANGE_COPY || now == FVD_RANGE_FREE || now == FVD_RANGE_TAKE;
    default:
        return true;
    }
}

static FvdRange *first_in_the_way(FvdState *s, const FvdRange *r)
{
    FvdRange *other;

    if (s->exclusive == 0) {
        return NULL;
    }
    for (other = QTAILQ_FIRST(&s->ranges); other != r; other = QTAILQ_NEXT(other, next)) {
        if (other->start < r->end && r->start < other->end && excludes(other->kind, r->kind)) {
            return other;
        }
    }
    return NULL;
}

bool coroutine_fn fvd_co_range_begin(FvdState *s, FvdRange *r, FvdRangeKind kind, int64_t start,
                                     int64_t end)
{
    bool waited = false;
    FvdRange *other;

    *r = (FvdRange){.kind = kind, .start = start, .end = end};
    qemu_co_queue_init(&r->waiters);
    QTAILQ_INSERT_TAIL(&s->ranges, r, next);
    s->exclusive += kind > FVD_RANGE_WRITE;
    while ((other = first_in_the_way(s, r))) {
        trace_fvd_range_wait(s->bs->node_name, kind, start, end, other->kind);
        waited = true;
        qemu_co_queue_wait(&other->waiters, NULL);
    }
    return waited;
}

void fvd_range_end(FvdState *s, FvdRange *r)
{
    s->exclusive -= r->kind > FVD_RANGE_WRITE;
    QTAILQ_REMOVE(&s->ranges, r, next);
    qemu_co_queue_restart_all(&r->waiters);
    qemu_co_queue_destroy(&r->waiters);
}

/* ------------------------------------------------------------------------------------------- chunks */

static int64_t region_end(int64_t offset, int64_t size)
{
    return offset ? offset + size : 0;
}

int64_t fvd_store_needed_end(const FvdState *s)
{
    const FvdHeader *h = &s->header;
    int64_t end = fvd_chunk_place(s, fvd_map_used(s->map));

    if (s->data == s->bs->file) {
        end = MAX(end, FVD_HEADER_REGION);
        end = MAX(end, region_end(h->bitmap_offset, h->bitmap_size));
        end = MAX(end, region_end(h->table_offset, h->table_size));
        end = MAX(end, region_end(h->journal_offset, h->journal_size));
    }
    return end;
}

static int coroutine_fn set_length(FvdState *s, int64_t length, bool exact)
{
    Error *err = NULL;
    int ret = bdrv_co_truncate(s->data, length, exact, PREALLOC_MODE_OFF, 0, &err);

    trace_fvd_set_length(s->bs->node_name, length, ret);
    error_free(err);
    return ret;
}

int coroutine_fn fvd_co_store_start(FvdState *s)
{
    int64_t length = bdrv_getlength(s->data->bs), needed;

    if (!fvd_header_has_table(&s->header)) {
        return 0; /* nothing is taken: all of the disk has its place */
    }
    if (s->autoclear_due) {
        /* Extents that no entry names are in use: whatever the file holds may be one. */
        int64_t chunks = DIV_ROUND_UP(MAX(length - s->header.data_offset, 0), s->header.chunk_size);

        fvd_map_raise_used(s->map, MIN(chunks, fvd_header_data_chunks(&s->header)));
    } else if (!s->free_found) {
        if (fvd_bitmaps_first(s) >= fvd_map_used(s->map)) {
            s->free_found = fvd_map_find_free(s->map) == 0; /* without: they stay where they are */
        }
    }
    fvd_map_raise_used(s->map, fvd_bitmaps_end(s));
    s->ready_end = fvd_chunk_place(s, fvd_map_used(s->map));
    needed = fvd_store_needed_end(s);
    /* ST3: a device refuses, and keeps what it has behind ready_end; so does what is not ours (GC4). */
    if (!s->grow_command && length > needed && set_length(s, needed, true) >= 0) {
        return fvd_co_flush_node(s, s->data->bs);
    }
    return 0;
}

/*
 * The file grows by as much as its header says, or else by what is needed.  Devices do not.
 * @ret_zeros: what it has gained reads as zeros
 */
static int coroutine_fn grow(FvdState *s, int64_t end, int64_t limit, bool *ret_zeros)
{
    int64_t unit = MIN(s->header.storage_grow_unit, (uint64_t)GROW_UNIT_MAX);
    int64_t target = end;
    int ret;

    if (unit > 0) {
        target =
            MIN(s->header.data_offset + QEMU_ALIGN_UP(end - s->header.data_offset, unit), limit);
    }
    *ret_zeros = !s->grow_command;
    if (s->grow_command) {
        return fvd_co_grow_command_run(s->grow_command, s->data->bs, end, target);
    }
    ret = set_length(s, target, false);
    if (ret < 0 && target > end) {
        ret = set_length(s, end, false);
    }
    return ret == -ENOTSUP || ret == -EINVAL ? -ENOSPC : ret; /* a device: full */
}

/* Under grow_lock: the file has @end bytes, and had @ret_was; @ret_zeros: what it has gained reads as zeros. */
static int coroutine_fn reach(FvdState *s, int64_t end, int64_t limit, int64_t *ret_was,
                              bool *ret_zeros)
{
    int64_t length = bdrv_getlength(s->data->bs);
    int ret = 0;

    *ret_zeros = false;
    if (length >= 0 && length < end) { /* a device may have become larger */
        ret = bdrv_co_refresh_length(s->data->bs);
        length = bdrv_getlength(s->data->bs);
    }
    *ret_was = length;
    if (ret < 0 || length < 0) {
        return ret < 0 ? ret : length;
    }
    if (length < end) {
        ret = grow(s, end, limit, ret_zeros);
    }
    return ret >= 0 && bdrv_getlength(s->data->bs) < end ? -EIO : ret;
}

int coroutine_fn fvd_co_store_reach(FvdState *s, int64_t end)
{
    int64_t was;
    bool zeros;
    int ret;

    qemu_co_mutex_lock(&s->grow_lock);
    ret = reach(s, end, end, &was, &zeros);
    qemu_co_mutex_unlock(&s->grow_lock);
    return ret;
}

/* ST1, under grow_lock. */
static int coroutine_fn make_ready(FvdState *s, int64_t end)
{
    int64_t limit = fvd_chunk_place(s, fvd_header_data_chunks(&s->header));
    int64_t was, length, zero_end;
    bool zeros;
    int ret = reach(s, end, limit, &was, &zeros);

    if (ret < 0) {
        return ret;
    }
    length = bdrv_getlength(s->data->bs);
    if (!zeros) {
        was = length; /* GC2 */
        length = MIN(length, MAX(end, s->ready_end + ZERO_AHEAD));
    }
    length = MIN(length, limit);
    zero_end = MIN(length, was);
    trace_fvd_make_ready(s->bs->node_name, s->ready_end, zero_end, length);
    if (zero_end > s->ready_end) {
        ret = bdrv_co_pwrite_zeroes(s->data, s->ready_end, zero_end - s->ready_end, 0);
        if (ret >= 0) {
            ret = fvd_co_flush_node(s, s->data->bs);
        }
    }
    if (ret >= 0) {
        s->ready_end = length; /* ST4 */
    }
    return ret;
}

static int coroutine_fn co_make_ready(FvdState *s, int64_t end)
{
    int ret = 0;

    if (end <= s->ready_end) {
        return 0;
    }
    qemu_co_mutex_lock(&s->grow_lock);
    if (end > s->ready_end) {
        ret = make_ready(s, end);
    }
    qemu_co_mutex_unlock(&s->grow_lock);
    return ret;
}

/* ST2 */
static int coroutine_fn zero_chunks(FvdState *s, int64_t offset, int64_t bytes)
{
    int64_t run;
    int ret = 0;

    for (; bytes > 0 && ret >= 0; offset += run, bytes -= run) {
        int64_t place = fvd_map_place(s->map, offset, bytes, &run);

        /* Whole chunks: what is behind the end of the disk may come to be inside. */
        ret = bdrv_co_pwrite_zeroes(s->data, place, QEMU_ALIGN_UP(run, s->header.chunk_size), 0);
    }
    return ret < 0 ? ret : fvd_co_flush_node(s, s->data->bs);
}

/* Where the last of these chunks ends in the data's file. */
static int64_t end_of(const FvdState *s, int64_t offset, int64_t end)
{
    int64_t run, last = 0;

    for (; offset < end; offset += run) {
        int64_t place = fvd_map_place(s->map, offset, end - offset, &run);

        last = MAX(last, place + QEMU_ALIGN_UP(run, s->header.chunk_size));
    }
    return last;
}

/* The range is held. */
static int coroutine_fn take_run(FvdState *s, const FvdRange *r, uint32_t first, uint32_t n)
{
    int64_t end = MIN(r->end, s->header.virtual_disk_size);
    bool used_before;
    int ret = fvd_map_take(s->map, first, n, &used_before);

    trace_fvd_take(s->bs->node_name, first, n, fvd_map_used(s->map), used_before, ret);
    if (ret < 0) {
        return ret;
    }
    ret = co_make_ready(s, end_of(s, r->start, end));
    if (ret >= 0 && used_before) {
        fvd_co_wait_holes(s);
        ret = zero_chunks(s, r->start, end - r->start);
    }
    if (ret < 0) {
        int64_t ready = DIV_ROUND_UP(s->ready_end - s->header.data_offset, s->header.chunk_size);

        fvd_map_untake(s->map, first, n, (uint32_t)ready); /* ST5 */
    }
    return ret;
}

int coroutine_fn fvd_co_take(FvdState *s, uint32_t first_chunk, uint32_t n_chunks)
{
    uint32_t first, n, again, end = first_chunk + n_chunks;
    int ret = 0;

    while (ret >= 0 && (n = fvd_map_empty_run(s->map, first_chunk, end - first_chunk, &first))) {
        FvdRange r;

        /* Where somebody else was first, another look at what is left. */
        if (!fvd_co_range_begin(s, &r, FVD_RANGE_TAKE, (int64_t)first * s->header.chunk_size,
                                ((int64_t)first + n) * s->header.chunk_size) ||
            fvd_map_empty_run(s->map, first, n, &again) == n) {
            ret = take_run(s, &r, first, n);
        }
        fvd_range_end(s, &r);
        first_chunk = first;
    }
    return ret;
}
