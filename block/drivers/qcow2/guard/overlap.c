/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nothing is written where metadata lies, whatever tables say (Q12).
 *
 *      a write, or a free run that was found --> header?  L1 table?  refcount table?  snapshot table?  bitmap directory?
 *                                                L2 tables, refcount blocks: sets of clusters
 *
 * A damaged L2 entry, or a refcount that is too low, would otherwise have the guest's data destroy tables.  What memory has
 * is asked, so it costs no I/O.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "util/osdep.h"

static gpointer key_of(const Qcow2State *s, int64_t offset)
{
    return (gpointer)(uintptr_t)((uint64_t)offset >> s->g.cluster_bits);
}

void qcow2_guard_begin(Qcow2State *s)
{
    s->tables = g_hash_table_new(g_direct_hash, g_direct_equal);
    for (uint32_t i = 0; i < s->l1_entries; i++) {
        qcow2_guard_table(s, 0, s->l1[i]);
    }
}

void qcow2_guard_end(Qcow2State *s)
{
    if (s->tables) {
        g_hash_table_destroy(s->tables);
        s->tables = NULL;
    }
}

void qcow2_guard_table(Qcow2State *s, uint64_t before, uint64_t after)
{
    if (!s->tables) {
        return;
    }
    if (before & QCOW2_HOST_OFFSET_MASK) {
        g_hash_table_remove(s->tables, key_of(s, (int64_t)(before & QCOW2_HOST_OFFSET_MASK)));
    }
    if (after & QCOW2_HOST_OFFSET_MASK) {
        g_hash_table_add(s->tables, key_of(s, (int64_t)(after & QCOW2_HOST_OFFSET_MASK)));
    }
}

typedef struct Area {
    const char *name;
    int64_t offset, bytes;
} Area;

static bool meets(const Qcow2State *s, const Area *a, int64_t offset, int64_t bytes)
{
    return a->bytes > 0 && a->offset < offset + bytes &&
           offset < qcow2_cluster_end(&s->g, a->offset + a->bytes);
}

static const char *overlaps(const Qcow2State *s, int64_t offset, int64_t bytes, bool tables_too)
{
    const Qcow2Header *h = &s->header;
    const Area areas[] = {
        {"qcow2_header", 0, 1},
        {"active L1 table", (int64_t)h->l1_offset, (int64_t)h->l1_size * (int64_t)sizeof(uint64_t)},
        {"refcount table", qcow2_alloc_table_offset(s->alloc),
         (int64_t)qcow2_alloc_table_clusters(s->alloc) << s->g.cluster_bits},
        {"snapshot table", (int64_t)h->snapshots_offset, h->nb_snapshots},
        {"bitmap directory", (int64_t)h->bitmap_dir_offset,
         h->has_bitmaps ? (int64_t)h->bitmap_dir_bytes : 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(areas); i++) {
        if (meets(s, &areas[i], offset, bytes)) {
            return areas[i].name;
        }
    }
    for (int64_t at = qcow2_cluster_start(&s->g, offset); at < offset + bytes;
         at += qcow2_cluster_size(&s->g)) {
        if (tables_too && g_hash_table_contains(s->tables, key_of(s, at))) {
            return "active L2 table";
        }
        if (qcow2_alloc_is_block(s->alloc, (uint64_t)at >> s->g.cluster_bits)) {
            return "refcount block";
        }
    }
    return NULL;
}

static int coroutine_fn guard(Qcow2State *s, int64_t offset, int64_t bytes, bool tables_too)
{
    const char *name = overlaps(s, offset, bytes, tables_too);

    if (!name) {
        return 0;
    }
    qcow2_co_corrupt(s, true, offset, bytes,
                     "Preventing invalid write on metadata (overlaps with %s)", name);
    return -EIO;
}

int coroutine_fn qcow2_co_guard_write(Qcow2State *s, int64_t offset, int64_t bytes)
{
    return s->g.external_data ? 0 : guard(s, offset, bytes, true);
}

int coroutine_fn qcow2_co_guard_run(Qcow2State *s, int64_t offset, int64_t bytes)
{
    return guard(s, offset, bytes, true);
}

int coroutine_fn qcow2_co_guard_table(Qcow2State *s, int64_t table)
{
    return guard(s, table, qcow2_cluster_size(&s->g), false);
}
