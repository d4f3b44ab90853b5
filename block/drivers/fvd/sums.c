/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sums.c - blocks that come into the image with their checksums, so that a flush is one flush (BLOCK_SUMS)
 *
 * A plain record for a block needs its data to be durable first: two flushes.  A record with the block's CRC32C is true
 * by itself, whatever the power leaves of it and of the data; but then the block must stay as it is until a plain record
 * has taken its place (F10).  Whether a block will be written again is not known when it is written.  So its record is
 * held back, and the flush decides:
 *
 *     the block comes      HELD ---- written again ----> HELD, changed
 *     into the image        |                                |
 *                     flush | sum                      flush | plain record: data is flushed before it
 *                           v                                v
 *                        SUMMED                          (nothing more to do)
 *                           | the flush has ended
 *                           v
 *                        DURABLE ---- at once, in memory ----> CONFIRMING ---- the next flush ----> (nothing more to do)
 *                                     a plain record whose
 *                                     data is durable
 *
 *   S1  A write to a block that is held marks it as changed before it writes a byte.  All writes to a block that has no
 *       record are alone in it (D1), so none is under way when it becomes HELD.
 *   S2  A write to a block that is SUMMED, DURABLE or CONFIRMING waits until its plain record is durable. (F10)
 *   S3  The sum is that of memory that nobody else can write to: a guest may change its buffer while it is written.
 *   S4  A record with a sum counts as durable when data and journal have been flushed, both, after they were written: one
 *       flush, or, where the data has a file of its own, two at the same time (storage/flush.c).
 *
 *   S5  Blocks in the second line are never more than fvd_jsums_max(), for who opens the image after a crash looks at all
 *       of them: if there would be more the flush writes plain records.
 *
 * Nobody holds back longer than the journal's interval, or more than HELD_MAX blocks; then plain records are written,
 * which cost a flush that no guest waits for.
 */
#include <errno.h>
#include <stdlib.h>
#include "block/drivers/fvd/fvd-int.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* 160 KiB of memory; of blocks of 64 KiB, 256 MiB of guest's writes without a flush. */
#define HELD_MAX FVD_SUMS_MAX
/* Blocks in one record; a sector has room for 117 sums. */
#define RUN_MAX  64

typedef enum SumState {
    SUM_HELD,
    SUM_CHANGED,
    SUM_SUMMED,
    SUM_DURABLE,
    SUM_CONFIRMING,
} SumState;

typedef struct Sum {
    uint32_t block, crc;
    SumState state;
    FvdJTicket ticket; /* of the record that makes the next state */
} Sum;

void fvd_sums_init(FvdState *s)
{
    s->held = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    s->summed = g_hash_table_new_full(NULL, NULL, NULL, g_free);
}

void fvd_sums_free(FvdState *s)
{
    g_hash_table_destroy(s->held);
    g_hash_table_destroy(s->summed);
}

void fvd_sums_reset(FvdState *s)
{
    g_hash_table_remove_all(s->held);
    g_hash_table_remove_all(s->summed);
}

bool fvd_sums_in_use(const FvdState *s)
{
    return (s->header.incompatible & FVD_INCOMPATIBLE_BLOCK_SUMS) &&
           fvd_jpairs_possible(&s->geometry);
}

void fvd_sums_add(FvdState *s, uint32_t block, const uint32_t *crc)
{
    Sum *sum = g_hash_table_lookup(s->held, GUINT_TO_POINTER(block));

    if (sum) {
        assert(sum->state == SUM_CHANGED); /* S1 */
        return;
    }
    sum = g_new0(Sum, 1);
    *sum = (Sum){.block = block, .crc = crc ? *crc : 0, .state = crc ? SUM_HELD : SUM_CHANGED};
    g_hash_table_insert(s->held, GUINT_TO_POINTER(block), sum);
}

bool fvd_sums_touch(FvdState *s, uint32_t first, uint32_t n, bool *ret_held)
{
    *ret_held = false;
    for (uint32_t i = first; g_hash_table_size(s->summed) && i < first + n; i++) {
        if (g_hash_table_contains(s->summed, GUINT_TO_POINTER(i))) {
            return true; /* S2 */
        }
    }
    for (uint32_t i = first; g_hash_table_size(s->held) && i < first + n; i++) {
        Sum *sum = g_hash_table_lookup(s->held, GUINT_TO_POINTER(i));

        if (sum) {
            sum->state = SUM_CHANGED; /* S1 */
            *ret_held = true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------------------------------ records */

static int by_block(const void *a, const void *b)
{
    const Sum *x = *(Sum *const *)a, *y = *(Sum *const *)b;

    return x->block < y->block ? -1 : x->block > y->block;
}

/* Those of @table that are in one of two states, by their blocks.  Their memory stays the table's. */
static GPtrArray *collect(GHashTable *table, SumState one, SumState other)
{
    GPtrArray *found = g_ptr_array_new();
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, table);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        Sum *sum = value;

        if (sum->state == one || sum->state == other) {
            g_ptr_array_add(found, sum);
        }
    }
    if (found->len) {
        qsort(found->pdata, found->len, sizeof(void *), by_block);
    }
    return found;
}

/* How many from @at on are of blocks that follow each other, in one state. */
static unsigned run_of(const FvdState *s, const GPtrArray *sums, unsigned at)
{
    const Sum *first = sums->pdata[at];
    unsigned most = (unsigned)MAX(1, MIN(RUN_MAX, s->write_max / s->header.block_size)), n = 1;

    while (n < most && at + n < sums->len) {
        const Sum *next = sums->pdata[at + n];

        if (next->block != first->block + n || next->state != first->state) {
            break;
        }
        n++;
    }
    return n;
}

static FvdJTicket add(FvdState *s, const FvdJChange *change)
{
    FvdJTicket ticket = fvd_journal_add(s->journal, change);

    if (ticket < 0) {
        assert(ticket != -EINVAL); /* write_max */
        fvd_fail(s);
    }
    return ticket;
}

/* D3: with all entries of these blocks, as far as they are in the base. */
static int record_run(FvdState *s, Sum **sums, unsigned n, bool plain)
{
    int64_t start = sums[0]->block * s->header.block_size;
    int64_t end =
        MIN(((int64_t)sums[0]->block + n) * s->header.block_size, s->header.base_img_size);
    uint32_t first_chunk = 0, n_chunks = 0, crcs[RUN_MAX];
    FvdJChange change;
    FvdJTicket ticket;

    if (fvd_header_has_table(&s->header)) {
        first_chunk = (uint32_t)(start / s->header.chunk_size);
        n_chunks = (uint32_t)((end - 1) / s->header.chunk_size) - first_chunk + 1;
    }
    fvd_map_change(s->map, first_chunk, n_chunks, plain ? sums[0]->block : 0, plain ? n : 0, 0,
                   &change);
    if (!plain) {
        for (unsigned i = 0; i < n; i++) {
            crcs[i] = sums[i]->crc;
        }
        change.first_block = sums[0]->block;
        change.n_blocks = n;
        change.sums = crcs;
    }
    ticket = add(s, &change);
    if (ticket < 0) {
        return -EIO;
    }
    fvd_map_journaled(s->map, first_chunk, n_chunks, sums[0]->block, n,
                      fvd_journal_half(s->journal), (uint64_t)ticket);
    trace_fvd_sums(s->bs->node_name, sums[0]->block, n, plain, ticket);
    for (unsigned i = 0; i < n && !plain; i++) {
        Sum *summed = g_memdup2(sums[i], sizeof(*summed));

        summed->state = SUM_SUMMED;
        summed->ticket = ticket;
        g_hash_table_insert(s->summed, GUINT_TO_POINTER(summed->block), summed);
    }
    return 0;
}

int fvd_sums_gather(FvdState *s, bool with_sums)
{
    g_autoptr(GPtrArray) held = NULL;
    unsigned n;
    int ret = 0;

    if (!g_hash_table_size(s->held)) {
        return 0;
    }
    if (g_hash_table_size(s->held) + g_hash_table_size(s->summed) > fvd_jsums_max(&s->geometry)) {
        with_sums = false; /* S5 */
    }
    held = collect(s->held, SUM_HELD, SUM_CHANGED);
    for (unsigned i = 0; i < held->len && ret >= 0; i += n) {
        const Sum *first = held->pdata[i];

        n = run_of(s, held, i);
        ret = record_run(s, (Sum **)&held->pdata[i], n, !with_sums || first->state == SUM_CHANGED);
    }
    g_hash_table_remove_all(s->held);
    fvd_journal_expect(s->journal, false);
    return ret;
}

int fvd_sums_hold_back(FvdState *s)
{
    if (g_hash_table_size(s->held) >= HELD_MAX) {
        return fvd_sums_gather(s, false);
    }
    fvd_journal_expect(s->journal, true);
    return 0;
}

void fvd_sums_durable(FvdState *s, FvdJTicket upto)
{
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, s->summed);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        Sum *sum = value;

        if (sum->ticket > upto) {
            continue;
        }
        if (sum->state == SUM_SUMMED) {
            sum->state = SUM_DURABLE;
        } else if (sum->state == SUM_CONFIRMING) {
            g_hash_table_iter_remove(&it);
        }
    }
}

int fvd_sums_confirm(FvdState *s)
{
    g_autoptr(GPtrArray) durable = NULL;
    unsigned n;

    if (!g_hash_table_size(s->summed)) {
        return 0;
    }
    durable = collect(s->summed, SUM_DURABLE, SUM_DURABLE);
    for (unsigned i = 0; i < durable->len; i += n) {
        Sum *first = durable->pdata[i];
        FvdJTicket ticket;
        FvdJChange change;

        n = run_of(s, durable, i);
        fvd_map_change(s->map, 0, 0, first->block, n, 0, &change);
        change.data_is_durable = true;
        ticket = add(s, &change);
        if (ticket < 0) {
            return -EIO;
        }
        for (unsigned k = i; k < i + n; k++) {
            Sum *sum = durable->pdata[k];

            sum->state = SUM_CONFIRMING;
            sum->ticket = ticket;
        }
    }
    return 0;
}

int coroutine_fn fvd_co_sums_settle(FvdState *s)
{
    int ret = fvd_journal_co_commit(s->journal, fvd_journal_last(s->journal));

    trace_fvd_sums_settle(s->bs->node_name, g_hash_table_size(s->summed), ret);
    if (ret >= 0) {
        ret = fvd_sums_confirm(s);
    }
    if (ret >= 0) {
        ret = fvd_journal_co_commit(s->journal, fvd_journal_last(s->journal));
    }
    return ret;
}
