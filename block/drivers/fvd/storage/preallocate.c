/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * preallocate.c - a disk grows, and what is new has its place already
 *
 *      off        nothing is taken; only a disk in one piece is made as long as it is to be
 *      metadata   each new chunk has a place, and the data file is as long as that: what is written there needs no record
 *      falloc     and the file system has set the space aside
 *      full       and zeros are written to it
 *
 *      data_offset          used, old size                            end
 *      |  chunks in use     |  the new ones, in the order of the disk  |
 *
 *   PA1  New chunks come behind all that is in use, in one piece: that has never been anybody's, so it is made to read
 *        as zeros by changing the file's length.  It is durable before the table names it (F3).
 *   PA2  The table says so before the header has the new size, so a crash leaves the disk as it was, or as it is to be;
 *        of the former, what was set aside is cut off by the next change (ST3).
 *   PA3  The last chunk of the disk before, if it has no place and is to be larger, is among them.
 */
#include "block/drivers/fvd/storage/preallocate.h"

#include <errno.h>
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* Zeros that are written at once. */
#define FULL_PIECE (1 * MiB)

static int coroutine_fn write_zeros(FvdState *s, int64_t from, int64_t end)
{
    uint8_t *buf = qemu_try_blockalign(s->data->bs, FULL_PIECE);
    int64_t piece;
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, FULL_PIECE);
    }
    for (; from < end && ret >= 0; from += piece) {
        piece = MIN(end - from, FULL_PIECE);
        ret = bdrv_co_pwrite(s->data, from, piece, buf, 0);
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn set_length(FvdState *s, int64_t length, bool exact)
{
    Error *err = NULL;
    int ret = bdrv_co_truncate(s->data, length, exact, PREALLOC_MODE_OFF, 0, &err);

    error_free(err);
    return ret;
}

/*
 * PA1, where the end of the file is ours to change, and nothing lies behind.  -ENOTSUP without an Error: it is not; a
 * device may have just the length that it is cut off to.
 */
static int coroutine_fn lengthen(FvdState *s, int64_t from, int64_t end, PreallocMode mode,
                                 Error **errp)
{
    PreallocMode below = mode == PREALLOC_MODE_METADATA ? PREALLOC_MODE_OFF : mode;
    int ret = set_length(s, from, true);

    ret = ret < 0 ? ret : set_length(s, end, false);
    if (ret == -ENOTSUP || ret == -EINVAL) {
        return -ENOTSUP;
    }
    if (ret >= 0 && below != PREALLOC_MODE_OFF) {
        ret = set_length(s, from, true);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not set space aside for the FVD image");
    } else if (below != PREALLOC_MODE_OFF) {
        ret = bdrv_co_truncate(s->data, end, false, below, 0, errp);
    }
    return ret == -ENOTSUP ? -EINVAL : ret; /* the file cannot do that, and has said so */
}

/* PA1, on a device, or before something else. */
static int coroutine_fn make_zeros(FvdState *s, int64_t from, int64_t end, PreallocMode mode,
                                   Error **errp)
{
    int ret = fvd_co_store_reach(s, end);

    if (ret >= 0 && mode == PREALLOC_MODE_FULL) {
        ret = write_zeros(s, from, end);
    } else if (ret >= 0) {
        ret = bdrv_co_pwrite_zeroes(s->data, from, end - from,
                                    mode == PREALLOC_MODE_METADATA ? BDRV_REQ_MAY_UNMAP : 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not set space aside for the FVD image");
    }
    return ret;
}

static int coroutine_fn make_space(FvdState *s, int64_t from, int64_t end, PreallocMode mode,
                                   Error **errp)
{
    int ret = -ENOTSUP;

    if (!s->grow_command && fvd_store_needed_end(s) <= from) {
        ret = lengthen(s, from, end, mode, errp);
    }
    if (ret == -ENOTSUP) {
        ret = make_zeros(s, from, end, mode, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = fvd_co_flush_node(s, s->data->bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not set space aside for the FVD image");
    }
    return ret;
}

static int coroutine_fn preallocate_flat(FvdState *s, const FvdHeader *next, PreallocMode mode,
                                         Error **errp)
{
    int64_t from = s->header.data_offset + s->header.virtual_disk_size;
    int64_t end = next->data_offset + next->virtual_disk_size;
    int ret;

    if (mode != PREALLOC_MODE_OFF) {
        return make_space(s, from, end, mode, errp);
    }
    ret = fvd_co_store_reach(s, end);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "The disk is in one piece, and there is no space for it");
    }
    return ret;
}

int coroutine_fn fvd_co_preallocate(FvdState *s, const FvdHeader *next, PreallocMode mode,
                                    FvdPrealloc *ret_prealloc, Error **errp)
{
    const FvdHeader *h = &s->header;
    int64_t size = h->virtual_disk_size, run;
    FvdPrealloc p = {.first_entry = fvd_header_chunks(h)};
    int ret;

    *ret_prealloc = (FvdPrealloc){0};
    if (!fvd_header_has_table(h)) {
        return preallocate_flat(s, next, mode, errp);
    }
    if (mode == PREALLOC_MODE_OFF) {
        return 0;
    }
    if (size % h->chunk_size && fvd_map_place(s->map, size - 1, 1, &run) < 0) {
        p.first_entry--; /* PA3 */
    }
    p.n = fvd_header_chunks(next) - p.first_entry;
    p.first_chunk = MAX(fvd_map_used(s->map), fvd_bitmaps_end(s));
    if (p.n > fvd_header_data_chunks(next) - p.first_chunk) {
        error_setg(errp, "The FVD image has no room for so many chunks in one piece");
        return -ENOSPC;
    }
    if (p.n == 0) {
        return 0;
    }
    ret = make_space(s, fvd_chunk_place(s, p.first_chunk), fvd_chunk_place(s, p.first_chunk + p.n),
                     mode, errp);
    trace_fvd_preallocate(s->bs->node_name, p.first_entry, p.n, p.first_chunk, (int)mode, ret);
    if (ret >= 0) {
        *ret_prealloc = p;
    }
    return MIN(ret, 0);
}
