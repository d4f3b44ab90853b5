/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay.c - the journal's sectors in the order of their writing, and what they make of table and bitmap
 *
 * Places in the journal say nothing about order: one half is filled while the other still counts, and either may be
 * the newer one.  The sequence in the trailers does.  What an old program wrote has none; it filled from the first
 * sector on, so that place is order, and all of it was there before anything with a trailer.
 *
 * Only the last record for an entry counts where entries change (REMAP).  Where they do not, each has one value for
 * ever, and a record that says otherwise is damage: there is no telling which is right.  EMPTY in a record says nothing
 * then, for the entry may have got its chunk later, and table and journal are read again after an interrupted replay.
 */
#include "block/drivers/fvd/layout/replay.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "util/osdep.h"

/* A sector that is to be read.  Sequence 0 and no trailer: an old program's. */
typedef struct Valid {
    uint64_t sequence;
    uint32_t number;
    bool has_trailer;
} Valid;

QEMU_BUILD_BUG_ON(sizeof(Valid) != 16);

struct FvdReplay {
    const uint8_t *journal;
    FvdJGeometry g;
    FvdReplayInfo info;
    GArray *order; /* of Valid */
    uint8_t *bitmap;

    /* Where fvd_replay_next_sum() is: in sum next_sum of record of the sector before order[next]. */
    uint32_t next, next_sum;
    FvdJIter it;
    FvdJRecord record;
};

static int compare_valid(const void *va, const void *vb)
{
    const Valid *a = va, *b = vb;

    if (a->has_trailer != b->has_trailer) {
        return a->has_trailer ? 1 : -1;
    }
    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence ? -1 : 1;
    }
    return a->number < b->number ? -1 : a->number > b->number;
}

static uint32_t *counter_of(FvdReplayInfo *info, FvdJSectorKind kind)
{
    switch (kind) {
    case FVD_JSECTOR_EMPTY:
        return &info->empty;
    case FVD_JSECTOR_VOID_TORN:
        return &info->torn;
    case FVD_JSECTOR_VOID_NO_TRAILER:
        return &info->no_trailer;
    case FVD_JSECTOR_VOID_OLD:
        return &info->old;
    default:
        return &info->valid;
    }
}

static void note_epoch(FvdReplay *r, uint64_t epoch)
{
    r->info.next_epoch = MAX(r->info.next_epoch, epoch + 1);
}

static FvdReplayDamage one_sector(uint32_t number)
{
    return (FvdReplayDamage){.n_sectors = 1, .sectors = {number}};
}

static bool take_sector(FvdReplay *r, uint32_t number, Error **errp)
{
    FvdJSectorHead head = fvd_jsector_head(r->journal + (size_t)number * FVD_JSECTOR_SIZE, &r->g);
    Valid valid = {head.sequence, number, head.has_trailer};

    ++*counter_of(&r->info, head.kind);
    if (head.has_trailer) {
        /* Void ones as well: their numbers are not to be used again. */
        if (head.epoch > FVD_JCOUNT_MAX || head.sequence > FVD_JCOUNT_MAX) {
            error_setg(errp,
                       "Journal sector %" PRIu32 ": epoch %" PRIu64 " or sequence %" PRIu64
                       " is too high",
                       number, head.epoch, head.sequence);
            return false;
        }
        note_epoch(r, head.epoch);
        r->info.next_sequence = MAX(r->info.next_sequence, head.sequence + 1);
    }
    if (head.kind == FVD_JSECTOR_NO_TRAILER) {
        if (r->g.remap) {
            error_setg(errp,
                       "Journal sector %" PRIu32
                       " has no trailer, and where entries change each must have one",
                       number);
            return false;
        }
        r->info.untagged++;
    }
    if (head.kind == FVD_JSECTOR_OK || head.kind == FVD_JSECTOR_NO_TRAILER) {
        g_array_append_val(r->order, valid);
    }
    return true;
}

static const Valid *valid_at(const FvdReplay *r, uint32_t i)
{
    return &g_array_index(r->order, Valid, i);
}

static bool sort_sectors(FvdReplay *r, FvdReplayDamage *ret_damage, Error **errp)
{
    if (r->order->len) {
        qsort(r->order->data, r->order->len, sizeof(Valid), compare_valid);
    }
    for (uint32_t i = 1; i < r->order->len; i++) {
        const Valid *a = valid_at(r, i - 1), *b = valid_at(r, i);

        if (a->has_trailer && a->sequence == b->sequence) {
            error_setg(
                errp, "Journal sectors %" PRIu32 " and %" PRIu32 " have the same sequence %" PRIu64,
                a->number, b->number, a->sequence);
            *ret_damage = (FvdReplayDamage){2, {a->number, b->number}};
            return false;
        }
    }
    return true;
}

FvdReplay *fvd_replay_new(const uint8_t *journal, uint32_t n_sectors, const FvdJGeometry *g,
                          Error **errp)
{
    FvdReplayDamage damage;

    return fvd_replay_new_or_damage(journal, n_sectors, g, &damage, errp);
}

FvdReplay *fvd_replay_new_or_damage(const uint8_t *journal, uint32_t n_sectors,
                                    const FvdJGeometry *g, FvdReplayDamage *ret_damage,
                                    Error **errp)
{
    g_autoptr(FvdReplay) r = g_new0(FvdReplay, 1);

    *ret_damage = (FvdReplayDamage){0};
    r->journal = journal;
    r->g = *g;
    r->order = g_array_new(false, false, sizeof(Valid));
    r->info.next_sequence = 1;
    if (g->stable_epoch > FVD_JCOUNT_MAX) {
        error_setg(errp, "stable_journal_epoch %" PRIu64 " is too high", g->stable_epoch);
        return NULL;
    }
    note_epoch(r, g->stable_epoch);
    for (uint32_t i = 0; i < n_sectors; i++) {
        if (!take_sector(r, i, errp)) {
            *ret_damage = one_sector(i);
            return NULL;
        }
    }
    return sort_sectors(r, ret_damage, errp) ? g_steal_pointer(&r) : NULL;
}

void fvd_replay_free(FvdReplay *r)
{
    if (r) {
        g_array_free(r->order, true);
        g_free(r);
    }
}

const FvdReplayInfo *fvd_replay_info(const FvdReplay *r)
{
    return &r->info;
}

static void start_sector(const FvdReplay *r, FvdJIter *it, const Valid *valid)
{
    FvdJSectorHead head = {.has_trailer = valid->has_trailer};

    fvd_jiter_start(it, r->journal + (size_t)valid->number * FVD_JSECTOR_SIZE, valid->number, &head,
                    &r->g);
}

static uint32_t load_entry(const uint32_t *table, uint64_t i)
{
    uint32_t word = le32_to_cpu(table[i]);

    return word == FVD_TABLE_EMPTY ? word : word & ~FVD_TABLE_DIRTY;
}

static int apply_table(FvdReplay *r, const FvdJRecord *record, uint32_t number, uint32_t *table,
                       Error **errp)
{
    note_epoch(r, record->epoch);
    for (uint32_t i = 0; i < record->count; i++) {
        uint32_t before = load_entry(table, record->first + i);
        uint32_t after = fvd_jrecord_entry(record, i);

        if (!r->g.remap && after == FVD_TABLE_EMPTY) {
            continue;
        }
        if (!r->g.remap && before != FVD_TABLE_EMPTY && before != after) {
            error_setg(errp,
                       "Journal sector %" PRIu32 ", byte %u: entry %" PRIu64 " was chunk %" PRIu32
                       ", and must stay what it is",
                       number, record->at, record->first + i, before);
            return -EIO;
        }
        table[record->first + i] = cpu_to_le32(after);
    }
    return 0;
}

static bool test_bit(const uint8_t *bitmap, uint64_t i)
{
    return bitmap[i / 8] >> (i % 8) & 1;
}

static void set_bits(uint8_t *bitmap, uint64_t first, uint64_t count)
{
    uint64_t i = first, end = first + count;

    for (; i < end && i % 8; i++) {
        bitmap[i / 8] |= 1 << (i % 8);
    }
    if (end - i >= 8) {
        memset(bitmap + i / 8, 0xff, (end - i) / 8);
        i = QEMU_ALIGN_DOWN(end, 8);
    }
    for (; i < end; i++) {
        bitmap[i / 8] |= 1 << (i % 8);
    }
}

static int apply_record(FvdReplay *r, const FvdJRecord *record, uint32_t number, uint32_t *table,
                        Error **errp)
{
    uint64_t first, count;

    if (record->type == FVD_TABLE_JRECORD) {
        return record->stale ? 0 : apply_table(r, record, number, table, errp);
    }
    if (record->type == FVD_BITMAP_JRECORD && r->g.blocks) {
        count = fvd_jrecord_blocks(record, &r->g, &first);
        set_bits(r->bitmap, first, count);
    }
    return 0;
}

int fvd_replay_apply(FvdReplay *r, uint32_t *table, uint8_t *bitmap, Error **errp)
{
    FvdReplayDamage damage;

    return fvd_replay_apply_or_damage(r, table, bitmap, &damage, errp);
}

int fvd_replay_apply_or_damage(FvdReplay *r, uint32_t *table, uint8_t *bitmap,
                               FvdReplayDamage *ret_damage, Error **errp)
{
    *ret_damage = (FvdReplayDamage){0};
    assert(table || !r->g.table_entries);
    assert(bitmap || !r->g.blocks);
    r->bitmap = bitmap;
    for (uint32_t i = 0; i < r->order->len; i++) {
        const Valid *valid = valid_at(r, i);
        FvdJRecord record;
        FvdJIter it;
        int ret;

        start_sector(r, &it, valid);
        while ((ret = fvd_jiter_next(&it, &record, errp)) > 0) {
            ret = apply_record(r, &record, valid->number, table, errp);
            if (ret < 0) {
                break;
            }
        }
        if (ret < 0) {
            *ret_damage = one_sector(valid->number);
            return ret;
        }
    }
    return 0;
}

/* The next record with checksums, into r->record; false at the end, and then it is at the beginning again. */
static bool next_sum_record(FvdReplay *r)
{
    for (;;) {
        while (r->it.sector && fvd_jiter_next(&r->it, &r->record, NULL) > 0) {
            if (r->record.type == FVD_BITMAP_SUM_JRECORD) {
                r->next_sum = 0;
                return true;
            }
        }
        r->it.sector = NULL;
        if (r->next == r->order->len) {
            r->next = 0;
            return false;
        }
        start_sector(r, &r->it, valid_at(r, r->next++));
    }
}

bool fvd_replay_next_sum(FvdReplay *r, FvdReplaySum *ret_sum)
{
    if (!r->g.block_sums || !r->g.blocks) {
        return false;
    }
    do {
        while (r->it.sector && r->next_sum < r->record.count) {
            uint32_t i = r->next_sum++;
            uint64_t block = r->record.first + i;

            if (!test_bit(r->bitmap, block)) {
                *ret_sum = (FvdReplaySum){block, fvd_jrecord_sum(&r->record, i)};
                return true;
            }
        }
    } while (next_sum_record(r));
    return false;
}

/* ------------------------------------------------------------------------------------ no chunk twice */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static int twice(const uint32_t *table, uint32_t entries, uint32_t chunk, Error **errp)
{
    uint32_t first = 0, second;

    while (load_entry(table, first) != chunk) {
        first++;
    }
    for (second = first + 1; load_entry(table, second) != chunk; second++) {
        assert(second + 1 < entries);
    }
    error_setg(errp, "Table entries %" PRIu32 " and %" PRIu32 " are both chunk %" PRIu32, first,
               second, chunk);
    return -EIO;
}

/* Chunks all over the place: sorted, equal ones are neighbours. */
static int find_twice_sorted(const uint32_t *table, uint32_t entries, uint32_t n, Error **errp)
{
    g_autofree uint32_t *sorted = g_try_new(uint32_t, n);
    uint32_t at = 0;

    if (!sorted) {
        error_setg(errp, "No memory to check the table for chunks that are there twice");
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t chunk = load_entry(table, i);

        if (chunk != FVD_TABLE_EMPTY) {
            sorted[at++] = chunk;
        }
    }
    qsort(sorted, n, sizeof(*sorted), compare_u32);
    for (uint32_t i = 1; i < n; i++) {
        if (sorted[i] == sorted[i - 1]) {
            return twice(table, entries, sorted[i], errp);
        }
    }
    return 0;
}

/* The common case, chunks one behind the other: a bit for each. */
static int find_twice_marked(const uint32_t *table, uint32_t entries, uint32_t used, Error **errp)
{
    g_autofree uint8_t *seen = g_try_malloc0(DIV_ROUND_UP((uint64_t)used, 8));

    if (!seen) {
        error_setg(errp, "No memory to check the table for chunks that are there twice");
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t chunk = load_entry(table, i);

        if (chunk == FVD_TABLE_EMPTY) {
            continue;
        }
        if (test_bit(seen, chunk)) {
            return twice(table, entries, chunk, errp);
        }
        set_bits(seen, chunk, 1);
    }
    return 0;
}

int fvd_table_check(const uint32_t *table, uint32_t entries, uint32_t chunks, uint32_t *ret_used,
                    Error **errp)
{
    uint32_t used = 0, n = 0;
    int ret = 0;

    for (uint32_t i = 0; i < entries; i++) {
        uint32_t chunk = load_entry(table, i);

        if (chunk == FVD_TABLE_EMPTY) {
            continue;
        }
        if (chunk >= chunks) {
            error_setg(errp,
                       "Table entry %" PRIu32 " is chunk %" PRIu32 ", they must be below %" PRIu32,
                       i, chunk, chunks);
            return -EIO;
        }
        used = MAX(used, chunk + 1);
        n++;
    }
    if (n > 1) {
        ret = used / 8 / sizeof(*table) <= n ? find_twice_marked(table, entries, used, errp)
                                             : find_twice_sorted(table, entries, n, errp);
    }
    if (ret == 0) {
        *ret_used = used;
    }
    return ret;
}
