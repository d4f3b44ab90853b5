/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.c - all that is wrong with table, bitmap and journal
 *
 * The journal is damaged in two ways.  A sector can be damaged by itself: that shows when its records are walked, one
 * pass for all.  Or it contradicts another, or the table: that shows when it is replayed, and the replay says which
 * one it was; without that sector the next replay comes further.
 */
#include "block/drivers/fvd/layout/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/osdep.h"

/* Chunk and entry in one number: sorted, those that are one chunk are neighbours, the lowest entry first. */
static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void find_twice(uint64_t *pairs, uint32_t n, FvdTableCheck *ret)
{
    uint32_t owner = 0;

    qsort(pairs, n, sizeof(*pairs), compare_u64);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t chunk = pairs[i] >> 32, entry = (uint32_t)pairs[i];

        if (i > 0 && chunk == (uint32_t)(pairs[i - 1] >> 32)) {
            FvdFault fault = {FVD_FAULT_TWICE, entry, chunk, owner};

            g_array_append_val(ret->faults, fault);
        } else {
            owner = entry;
        }
    }
}

int fvd_check_table(const uint32_t *table, uint32_t entries, uint32_t chunks, FvdTableCheck *ret)
{
    uint64_t *pairs;
    uint32_t n = 0, before = FVD_TABLE_EMPTY;

    *ret = (FvdTableCheck){.faults = g_array_new(false, false, sizeof(FvdFault))};
    for (uint32_t i = 0; i < entries; i++) {
        n += le32_to_cpu(table[i]) != FVD_TABLE_EMPTY;
    }
    pairs = g_try_new(uint64_t, n);
    if (n && !pairs) {
        return -ENOMEM;
    }
    n = 0;
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t word = le32_to_cpu(table[i]), chunk = word & ~FVD_TABLE_DIRTY;

        if (word == FVD_TABLE_EMPTY) {
            continue;
        }
        if (chunk >= chunks) {
            FvdFault fault = {FVD_FAULT_OUT_OF_RANGE, i, chunk, 0};

            g_array_append_val(ret->faults, fault);
            continue;
        }
        pairs[n++] = (uint64_t)chunk << 32 | i;
        ret->allocated++;
        ret->fragmented += before != FVD_TABLE_EMPTY && chunk != before + 1;
        ret->used = MAX(ret->used, chunk + 1);
        before = chunk;
    }
    if (n) {
        find_twice(pairs, n, ret);
    }
    g_free(pairs);
    return 0;
}

void fvd_table_check_clear(FvdTableCheck *check)
{
    if (check->faults) {
        g_array_free(check->faults, true);
        check->faults = NULL;
    }
}

uint8_t fvd_check_tail_bits(const uint8_t *bitmap, uint64_t blocks)
{
    return blocks % 8 ? bitmap[blocks / 8] & (uint8_t)(0xff << (blocks % 8)) : 0;
}

/* -------------------------------------------------------------------------------------------- journal */

typedef struct JournalCheck {
    uint8_t *journal;
    uint32_t n_sectors;
    const FvdJGeometry *g;
    FvdPrintFn *print;
    void *opaque;
    uint32_t damaged;
} JournalCheck;

static void void_sector(JournalCheck *c, uint32_t number)
{
    stl_le_p(c->journal + (size_t)number * FVD_JSECTOR_SIZE, FVD_EMPTY_JRECORD);
    c->damaged++;
}

static void say(JournalCheck *c, Error *err)
{
    c->print(c->opaque, error_get_pretty(err));
    error_free(err);
}

/* Each by itself. */
static void walk_sectors(JournalCheck *c)
{
    for (uint32_t i = 0; i < c->n_sectors; i++) {
        const uint8_t *sector = c->journal + (size_t)i * FVD_JSECTOR_SIZE;
        FvdJSectorHead head = fvd_jsector_head(sector, c->g);
        FvdJRecord record;
        Error *err = NULL;
        FvdJIter it;
        int ret;

        if (head.kind != FVD_JSECTOR_OK && head.kind != FVD_JSECTOR_NO_TRAILER) {
            continue;
        }
        fvd_jiter_start(&it, sector, i, &head, c->g);
        do {
            ret = fvd_jiter_next(&it, &record, &err);
        } while (ret > 0);
        if (ret < 0) {
            say(c, err);
            void_sector(c, i);
        }
    }
}

/* One replay: 0; the number of sectors that were damaged, which are void now; -ENOMEM. */
static int replay_once(JournalCheck *c, uint32_t *table, uint8_t *bitmap, FvdReplay **ret)
{
    FvdReplayDamage damage = {0};
    Error *err = NULL;
    FvdReplay *r = fvd_replay_new_or_damage(c->journal, c->n_sectors, c->g, &damage, &err);

    if (r && fvd_replay_apply_or_damage(r, table, bitmap, &damage, &err) == 0) {
        *ret = r;
        return 0;
    }
    fvd_replay_free(r);
    say(c, err);
    for (unsigned i = 0; i < damage.n_sectors; i++) {
        void_sector(c, damage.sectors[i]);
    }
    return damage.n_sectors ? (int)damage.n_sectors : -ENOTSUP;
}

/* There may be no table or no bitmap. */
static void copy(void *to, const void *from, size_t bytes)
{
    if (bytes) {
        memcpy(to, from, bytes);
    }
}

int fvd_check_journal(uint8_t *journal, uint32_t n_sectors, const FvdJGeometry *g, uint32_t *table,
                      uint8_t *bitmap, FvdPrintFn *print, void *opaque, uint32_t *ret_damaged,
                      FvdReplay **ret_replay)
{
    JournalCheck c = {journal, n_sectors, g, print, opaque, 0};
    size_t table_bytes = (size_t)g->table_entries * sizeof(*table);
    size_t bitmap_bytes = (size_t)DIV_ROUND_UP(g->blocks, 8);
    uint32_t *table_before = g_try_malloc(MAX(table_bytes, 1));
    uint8_t *bitmap_before = g_try_malloc(MAX(bitmap_bytes, 1));
    int ret = table_before && bitmap_before ? 1 : -ENOMEM;

    if (ret > 0) {
        walk_sectors(&c);
        copy(table_before, table, table_bytes);
        copy(bitmap_before, bitmap, bitmap_bytes);
    }
    for (unsigned i = 0; ret > 0 && i < FVD_CHECK_JOURNAL_MAX; i++) {
        copy(table, table_before, table_bytes);
        copy(bitmap, bitmap_before, bitmap_bytes);
        ret = replay_once(&c, table, bitmap, ret_replay);
    }
    g_free(table_before);
    g_free(bitmap_before);
    *ret_damaged = c.damaged;
    return ret > 0 ? -E2BIG : ret;
}
