/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * zero.c - zeros without data, and space that is given back
 *
 *      asked         |zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz|
 *      chunks    |   a   |   b   |   c   | EMPTY |  base  |   f   |    blocks of the base get their bits:
 *      becomes       |zzz| EMPTY | EMPTY | EMPTY | EMPTY  |zzz|        an EMPTY chunk that is in the image is zeros
 *
 *   Z1  A range that becomes zeros is held alone, whole chunks and blocks of it: no reader has looked up a place that is
 *       given back, no writer a chunk.
 *   Z2  A part of a block that is in the base is written as data, with the rest copied: a bit is for a whole block.
 *   Z3  Space goes back to the file system after the record that frees it is durable; and nobody takes a chunk that was
 *       given back while that is under way.
 */
#include <errno.h>
#include "block/drivers/fvd/fvd-int.h"
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* Zeros that are written as data because a block of the base is only touched in part, at once. */
#define BY_HAND_MAX (1 * MiB)

/* -------------------------------------------------------------------------------------------- holes */

struct FvdHole {
    QSIMPLEQ_ENTRY(FvdHole) next;
    FvdState *s;
    FvdJTicket ticket;
    int64_t offset, bytes; /* in the data file */
};

static void coroutine_fn punch_entry(void *opaque)
{
    FvdHole *hole = opaque;
    FvdState *s = hole->s;
    int ret = bdrv_co_pdiscard(s->data, hole->offset,
                               hole->bytes); /* advice: what it says does not matter */

    trace_fvd_punch(s->bs->node_name, hole->offset, hole->bytes, ret);
    g_free(hole);
    if (--s->punching == 0) {
        qemu_co_queue_restart_all(&s->punched);
    }
    bdrv_dec_in_flight(s->bs);
}

void fvd_holes_durable(FvdState *s, FvdJTicket upto)
{
    FvdHole *hole;

    while ((hole = QSIMPLEQ_FIRST(&s->holes)) && hole->ticket <= upto) {
        QSIMPLEQ_REMOVE_HEAD(&s->holes, next);
        s->punching++; /* Z3: from the moment the map may give the chunk away */
        bdrv_inc_in_flight(s->bs);
        aio_co_schedule(s->bs->aio_context, qemu_coroutine_create(punch_entry, hole));
    }
}

void coroutine_fn fvd_co_wait_holes(FvdState *s)
{
    while (s->punching) {
        qemu_co_queue_wait(&s->punched, NULL);
    }
}

void fvd_drop_holes(FvdState *s)
{
    FvdHole *hole;

    while ((hole = QSIMPLEQ_FIRST(&s->holes))) {
        QSIMPLEQ_REMOVE_HEAD(&s->holes, next);
        g_free(hole);
    }
}

/*
 * The places of these chunks as they are now; their ticket comes with the record.  Z3: not of those that no record names,
 * which may be taken, and written, before any ticket.
 */
static GPtrArray *holes_of(FvdState *s, uint32_t first, uint32_t n)
{
    GPtrArray *holes = g_ptr_array_new();

    for (uint32_t i = first, next; i < first + n; i = next) {
        bool dirty = fvd_map_is_dirty(s->map, i);
        int64_t offset = i * s->header.chunk_size, end, run, place;
        FvdHole *hole;

        for (next = i + 1; next < first + n && fvd_map_is_dirty(s->map, next) == dirty;) {
            next++;
        }
        end = MIN(next * s->header.chunk_size, s->header.virtual_disk_size);
        place = fvd_map_place(s->map, offset, end - offset, &run);
        next = i + (uint32_t)DIV_ROUND_UP(run, s->header.chunk_size);
        if (place >= 0 && !dirty) {
            hole = g_new0(FvdHole, 1);
            *hole = (FvdHole){
                .s = s, .offset = place, .bytes = QEMU_ALIGN_UP(run, s->header.chunk_size)};
            g_ptr_array_add(holes, hole);
        }
    }
    return holes;
}

/* -------------------------------------------------------------------------------------------- zeros */

typedef struct Zero {
    int64_t offset, bytes;
    BdrvRequestFlags flags;
    FvdMapNeed need;
    uint32_t first_freed, n_freed;
} Zero;

/* Chunks that the range covers wholly; the disk's last one may end with it. */
static void find_freed(const FvdState *s, Zero *z)
{
    int64_t chunk = s->header.chunk_size, end = z->offset + z->bytes;

    z->n_freed = 0;
    if (!fvd_header_has_table(&s->header) || !(z->flags & BDRV_REQ_MAY_UNMAP) ||
        !(s->header.incompatible & FVD_INCOMPATIBLE_REMAP)) {
        return;
    }
    if (end == s->header.virtual_disk_size) {
        end = QEMU_ALIGN_UP(end, chunk);
    }
    z->first_freed = (uint32_t)DIV_ROUND_UP(z->offset, chunk);
    if ((int64_t)z->first_freed < end / chunk) {
        z->n_freed = (uint32_t)(end / chunk) - z->first_freed;
    }
}

/* What has a place keeps it, and is zeros there. */
static int coroutine_fn zero_in_place(FvdState *s, int64_t offset, int64_t end,
                                      BdrvRequestFlags flags)
{
    int64_t run;
    int ret = 0;

    for (; offset < end && ret >= 0; offset += run) {
        int64_t place = fvd_map_place(s->map, offset, end - offset, &run);

        if (place >= 0) {
            ret = bdrv_co_pwrite_zeroes(s->data, place, run, flags & BDRV_REQ_MAY_UNMAP);
        }
    }
    return ret;
}

/* In the step in which the record is added, and so before anybody can be told that it is durable; @ticket 0: none. */
static void queue_holes(FvdState *s, GPtrArray *holes, FvdJTicket ticket)
{
    for (unsigned i = 0; i < holes->len; i++) {
        FvdHole *hole = holes->pdata[i];

        if (ticket == 0) {
            g_free(hole);
            continue;
        }
        hole->ticket = ticket;
        QSIMPLEQ_INSERT_TAIL(&s->holes, hole, next);
    }
}

/* D2: all that has changed, in one record; where bits need one of their own it comes after the entries are durable. */
static int coroutine_fn record_zeros(FvdState *s, const Zero *z)
{
    const FvdMapNeed *need = &z->need;
    g_autoptr(GPtrArray) holes = holes_of(s, z->first_freed, z->n_freed);
    bool table = need->record_table && need->n_empty < need->n_chunks, bits = need->record_bitmap;
    bool apart = bits && need->n_chunks && !fvd_jpairs_possible(&s->geometry);
    FvdJTicket ticket = 0;
    int ret = 0;

    if (z->n_freed) {
        table |= fvd_map_free(s->map, z->first_freed, z->n_freed);
    }
    fvd_map_set_fresh(s->map, need->first_block, need->n_blocks);
    if (table || bits) {
        ret = fvd_add_change(s, need->first_chunk, need->n_chunks, need->first_block,
                             bits && !apart ? need->n_blocks : 0, &ticket);
    }
    queue_holes(s, holes, ret < 0 ? 0 : ticket);
    if (ret >= 0 && apart) {
        ret = fvd_journal_co_commit(s->journal, ticket);
        if (ret >= 0) {
            ret = fvd_add_change(s, 0, 0, need->first_block, need->n_blocks, NULL);
        }
    }
    return ret;
}

/* Z2: whether all its blocks that are in the base are whole. */
static bool is_whole(const FvdState *s, Zero *z)
{
    fvd_map_write_need(s->map, z->offset, z->bytes, &z->need);
    return z->need.start == z->offset && z->need.end == z->offset + z->bytes;
}

/* Return: 1, done; 0, it is not what it was: look again; negative errno. */
static int coroutine_fn zero_whole(FvdState *s, Zero *z)
{
    int64_t chunk = fvd_header_has_table(&s->header) ? s->header.chunk_size : FVD_SECTOR_BYTES;
    int64_t block = fvd_header_has_bitmap(&s->header) ? s->header.block_size : FVD_SECTOR_BYTES;
    int64_t end = z->offset + z->bytes;
    FvdRange r;
    int ret;

    ret = fvd_co_begin_changes(s, fvd_header_has_journal(&s->header));
    if (ret == 0 && s->journal) {
        ret = fvd_journal_co_wait_room(s->journal);
    }
    if (ret < 0) {
        return ret;
    }
    fvd_co_range_begin(s, &r, FVD_RANGE_FREE,
                       MIN(QEMU_ALIGN_DOWN(z->offset, chunk), QEMU_ALIGN_DOWN(z->offset, block)),
                       MAX(QEMU_ALIGN_UP(end, chunk), QEMU_ALIGN_UP(end, block))); /* Z1 */
    if (is_whole(s, z) && z->need.n_blocks) {
        bool held;

        if (fvd_sums_touch(s, z->need.first_block, z->need.n_blocks, &held)) {
            fvd_range_end(s, &r);
            return MIN(fvd_co_sums_settle(s), 0);
        }
        ret =
            held ? fvd_sums_gather(s, true) : 0; /* what is left without a record is in the base */
    }
    if (ret >= 0 && is_whole(s, z)) {
        find_freed(s, z);
        ret = zero_in_place(s, z->offset, z->n_freed ? z->first_freed * chunk : end, z->flags);
        if (ret >= 0 && z->n_freed) {
            ret = zero_in_place(s, MIN(((int64_t)z->first_freed + z->n_freed) * chunk, end), end,
                                z->flags);
        }
        ret = ret < 0 ? ret : record_zeros(s, z);
        ret = ret < 0 ? ret : 1;
    }
    fvd_range_end(s, &r);
    trace_fvd_zero(s->bs->node_name, z->offset, z->bytes, z->n_freed, ret);
    return ret;
}

static int coroutine_fn zero_by_hand(FvdState *s, int64_t offset, int64_t bytes)
{
    int64_t most = MIN(bytes, BY_HAND_MAX), piece;
    uint8_t *zeros = qemu_try_blockalign(s->data->bs, most);
    int ret = zeros ? 0 : -ENOMEM;

    if (zeros) {
        memset(zeros, 0, most);
    }
    for (; bytes > 0 && ret >= 0; offset += piece, bytes -= piece) {
        QEMUIOVector qiov;

        piece = MIN(bytes, most);
        qemu_iovec_init_buf(&qiov, zeros, piece);
        ret = fvd_co_write(s, offset, piece, &qiov, 0);
    }
    qemu_vfree(zeros);
    return ret;
}

/* The first bytes of what is left that can be done in one way; @ret_by_hand: a part of a block of the base. */
static int64_t next_piece(const FvdState *s, const Zero *z, bool *ret_by_hand)
{
    int64_t block = s->header.block_size, end = z->offset + z->bytes;

    *ret_by_hand = z->need.start < z->offset;
    if (*ret_by_hand) {
        return MIN(end, QEMU_ALIGN_UP(z->offset, block)) - z->offset;
    }
    if (z->need.end > end) {
        int64_t last = QEMU_ALIGN_DOWN(end, block);

        *ret_by_hand = last <= z->offset;
        return *ret_by_hand ? z->bytes : last - z->offset;
    }
    return z->bytes;
}

/* @is_discard: a part of a block is not worth data. */
static int coroutine_fn make_zeros(FvdState *s, int64_t offset, int64_t bytes,
                                   BdrvRequestFlags flags, bool is_discard)
{
    int64_t piece, place;
    bool by_hand;
    int ret;

    qemu_co_rwlock_rdlock(&s->changing);
    ret = fvd_check_inside(s, offset, bytes);
    for (; bytes > 0 && ret >= 0; offset += piece, bytes -= piece) {
        Zero z = {.offset = offset, .flags = flags};

        if (fvd_map_read(s->map, offset, bytes, &piece, &place) == FVD_MAP_ZERO) {
            z.bytes = piece;
            is_whole(s, &z);
            if (!z.need.record_bitmap) { /* else it is zeros here, and the base's after a crash */
                continue;
            }
        }
        z.bytes = MIN(bytes, s->write_max - offset % s->write_max);
        is_whole(s, &z);
        z.bytes = piece = next_piece(s, &z, &by_hand);
        if (!by_hand) {
            ret = zero_whole(s, &z);
            piece = ret == 0 ? 0 : piece;
        } else if (flags & BDRV_REQ_NO_FALLBACK) {
            ret = -ENOTSUP;
        } else if (!is_discard) {
            ret = zero_by_hand(s, offset, piece);
        }
    }
    qemu_co_rwlock_unlock(&s->changing);
    return MIN(ret, 0);
}

int coroutine_fn fvd_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      BdrvRequestFlags flags)
{
    FvdState *s = bs->opaque;

    return s->map ? make_zeros(s, offset, bytes, flags, false) : -EIO;
}

int coroutine_fn fvd_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FvdState *s = bs->opaque;

    return s->map ? make_zeros(s, offset, bytes, BDRV_REQ_MAY_UNMAP, true) : -EIO;
}
