/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A commit: what memory has, into the file, in an order that leaves leaks at most.
 *
 *      begin: a copy of every dirty piece of the L2 and L1 tables; what was given back so far       (Q5)
 *        |
 *        v
 *      counts have risen?  ---- yes ---> refcount blocks ----+                                    (Q1)
 *        | no                                                v
 *        +-- data or tables must come first?  -- yes ---> flush                                   (Q3)
 *        | no                                                |
 *        v                                                   v
 *      tables, and counts that fell earlier <----------------+
 *        |
 *      flush
 *        |
 *        v
 *      what was given back is counted down, and may be taken again                                (Q2)
 *
 * One at a time; who asks for a flush while one is under way waits for the next, with all others (Q6).
 */
#include <errno.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

#define L1_PIECE_BYTES 512

static int coroutine_fn flush_node(Qcow2State *s, BlockDriverState *bs)
{
    int ret = bdrv_co_flush(bs);

    s->failed |= ret < 0; /* Q10 */
    return ret;
}

static int coroutine_fn flush_files(Qcow2State *s)
{
    int ret = s->data != s->bs->file ? flush_node(s, s->data->bs) : 0;

    return ret == 0 ? flush_node(s, s->bs->file->bs) : ret;
}

static void add_l1_piece(Qcow2State *s, Qcow2Batch *b, uint32_t piece)
{
    const uint32_t per_piece = L1_PIECE_BYTES / sizeof(uint64_t);
    uint32_t first = piece * per_piece;
    uint8_t raw[L1_PIECE_BYTES] = {0};

    for (uint32_t i = 0; i < per_piece && first + i < s->l1_entries; i++) {
        stq_be_p(raw + i * sizeof(uint64_t), s->l1[first + i]);
    }
    qcow2_batch_add(b, (int64_t)s->header.l1_offset + (int64_t)piece * L1_PIECE_BYTES, sizeof(raw),
                    raw);
}

static void add_l1(Qcow2State *s, Qcow2Batch *b)
{
    uint32_t pieces = DIV_ROUND_UP(s->l1_entries, L1_PIECE_BYTES / sizeof(uint64_t));
    const uint32_t bits = 8 * sizeof(long);

    if (!s->l1_is_dirty) {
        return;
    }
    for (uint32_t word = 0; word <= pieces / bits; word++) {
        for (; s->l1_dirty[word]; s->l1_dirty[word] &= s->l1_dirty[word] - 1) {
            add_l1_piece(s, b, word * bits + (uint32_t)ctz64(s->l1_dirty[word]));
        }
    }
    s->l1_is_dirty = false;
}

/* It was not written: all of it is dirty, which is more than needed. */
static void set_l1_dirty(Qcow2State *s)
{
    for (uint32_t i = 0; i < s->l1_entries; i += L1_PIECE_BYTES / sizeof(uint64_t)) {
        qcow2_l1_set(s, i, s->l1[i]);
    }
}

int coroutine_fn qcow2_co_write_blocks(Qcow2State *s)
{
    bool all = false;
    int ret = 0;

    while (!all && ret == 0) {
        Qcow2Batch *b = qcow2_batch_new(s->bs->file);

        all = qcow2_batch_add_cache(b, s->blocks);
        ret = qcow2_co_batch_write(b);
    }
    return ret;
}

/* What must be durable before the tables are written. */
static int coroutine_fn write_before(Qcow2State *s, bool unordered)
{
    bool unstable = qcow2_alloc_take_unstable(s->alloc);
    int ret = unstable ? qcow2_co_write_blocks(s) : 0; /* Q1 */

    if (ret == 0 && (unstable || unordered)) {
        ret = flush_files(s); /* Q3 */
    }
    if (ret < 0 && unstable) {
        qcow2_alloc_set_unstable(s->alloc);
    }
    return ret;
}

/* As many tables as a batch holds; *ret_all: those are all. */
static int coroutine_fn write_tables(Qcow2State *s, bool *ret_all)
{
    Qcow2Batch *b = qcow2_batch_new(s->bs->file);
    bool unordered = s->unordered, l1 = s->l1_is_dirty;
    int ret;

    s->unordered = false;
    *ret_all = qcow2_batch_add_cache(b, s->l2); /* Q5 */
    add_l1(s, b);
    ret = qcow2_batch_is_empty(b) ? 0 : write_before(s, unordered);
    if (ret < 0) {
        qcow2_batch_drop(b);
    } else {
        *ret_all &=
            qcow2_batch_add_cache(b, s->blocks); /* those that fell, mostly; at any time (A4) */
        ret = qcow2_co_batch_write(b);
    }
    if (ret < 0) {
        s->unordered = true;
        if (l1) {
            set_l1_dirty(s);
        }
    }
    return ret;
}

static int coroutine_fn commit(Qcow2State *s)
{
    bool all = false;
    int ret = 0;

    qcow2_release_begin(s->alloc);
    while (!all && ret == 0) {
        ret = write_tables(s, &all);
    }
    if (ret == 0) {
        ret = flush_files(s);
    }
    qcow2_co_release_end(s->alloc, ret == 0); /* Q2 */
    return s->failed ? -EIO : ret;
}

/* Q6: commits have numbers, in the order of their begins, which is that of their ends. */
int coroutine_fn qcow2_co_commit(Qcow2State *s)
{
    uint64_t mine = s->commits_begun + 1;

    while (s->commits_done < mine) {
        if (s->committing) {
            qemu_co_queue_wait(&s->commit_queue, NULL);
            continue;
        }
        s->committing = true;
        s->commits_begun++;
        s->commit_ret = s->failed ? -EIO : commit(s);
        s->commits_done++;
        s->committing = false;
        qemu_co_queue_restart_all(&s->commit_queue);
    }
    return s->commit_ret;
}

int coroutine_fn qcow2_co_flush(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    if (s->failed || s->corrupt) {
        return -EIO;
    }
    return s->alloc ? qcow2_co_commit(s) : flush_files(s);
}

int coroutine_fn qcow2_co_make_l2_room(void *opaque)
{
    return qcow2_co_commit(opaque);
}

int coroutine_fn qcow2_co_make_blocks_room(void *opaque)
{
    return qcow2_co_write_blocks(opaque);
}
