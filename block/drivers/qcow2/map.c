/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the disk's bytes are: the L1 table in memory, L2 tables page by page.
 *
 *      offset ──▶ l1[] ──▶ page of an L2 table (cache) ──▶ entry ──▶ kind, place, how far it goes on
 *
 * A page that is pinned is looked at and changed without a wait; what may yield is named _co_.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

#define L1_PIECE_BYTES 512

/* The table that maps @offset: 0, there is none; or where it is.  -EIO: an entry that cannot be one. */
static int64_t coroutine_fn l2_table(Qcow2State *s, int64_t offset)
{
    uint64_t index = qcow2_l1_index(&s->g, offset);
    uint64_t word = index < s->l1_entries ? s->l1[index] : 0;
    uint64_t table = word & QCOW2_HOST_OFFSET_MASK;

    if (!qcow2_is_cluster_aligned(&s->g, table)) {
        qcow2_co_corrupt(s, true, -1, -1,
                         "L2 table offset %#" PRIx64 " unaligned (L1 index: %#" PRIx64 ")", table,
                         index);
        return -EIO;
    }
    return (int64_t)table;
}

/* Which entries these are; gives where their page is. */
static int64_t find_slot(const Qcow2State *s, int64_t table, int64_t offset, Qcow2Slot *ret)
{
    int64_t page_bytes = qcow2_cache_page_bytes(s->l2);
    uint32_t per_page = page_bytes / s->g.l2_entry_bytes;
    uint32_t index = qcow2_l2_index(&s->g, offset);

    ret->index = index % per_page;
    ret->n = per_page - ret->index;
    ret->table = table;
    ret->table_index = index;
    return table + index / per_page * page_bytes;
}

static int coroutine_fn pin_slot(Qcow2State *s, int64_t table, int64_t offset, Qcow2Slot *ret)
{
    int64_t at = find_slot(s, table, offset, ret);

    return qcow2_co_cache_get(s->l2, at, &ret->page);
}

Qcow2Entry qcow2_slot_get(const Qcow2State *s, const Qcow2Slot *slot, uint32_t i)
{
    return qcow2_entry_get(&s->g, slot->page->data, slot->index + i);
}

void qcow2_slot_set(Qcow2State *s, const Qcow2Slot *slot, uint32_t i, Qcow2Entry entry)
{
    qcow2_entry_set(&s->g, slot->page->data, slot->index + i, entry);
    qcow2_cache_mark_dirty(slot->page, (int64_t)(slot->index + i) * s->g.l2_entry_bytes,
                           s->g.l2_entry_bytes);
}

int coroutine_fn qcow2_co_check_entry(Qcow2State *s, const Qcow2Slot *slot, uint32_t i)
{
    Qcow2Entry entry = qcow2_slot_get(s, slot, i);
    const char *wrong = qcow2_entry_check(&s->g, entry);

    if (!wrong) {
        return 0;
    }
    qcow2_co_corrupt(s, true, -1, -1,
                     "Cluster allocation offset %#" PRIx64 " %s (L2 offset: %#" PRIx64
                     ", L2 index: %#" PRIx32 ")",
                     (uint64_t)qcow2_entry_place(entry), wrong, (uint64_t)slot->table,
                     slot->table_index + i);
    return -EIO;
}

/* A new table.  Its zeros are durable before the L1 entry is (Q3): fresh, they are there already. */
static int coroutine_fn make_table(Qcow2State *s, int64_t offset, Qcow2Slot *ret)
{
    Qcow2Run run;
    int ret_code = qcow2_co_take(s->alloc, 1, &run);

    if (ret_code < 0) {
        return ret_code;
    }
    qcow2_cache_forget(s->l2, run.offset, qcow2_cluster_size(&s->g));
    if (!run.fresh) {
        ret_code = bdrv_co_pwrite_zeroes(s->bs->file, run.offset, qcow2_cluster_size(&s->g), 0);
    }
    if (ret_code == 0) {
        int64_t at = find_slot(s, run.offset, offset, ret);

        ret_code = qcow2_co_cache_get_new(s->l2, at, false, &ret->page);
    }
    if (ret_code < 0) {
        qcow2_give_back(s->alloc, run.offset, 1, false);
        return ret_code;
    }
    s->unordered |= !run.fresh;
    qcow2_l1_set(s, qcow2_l1_index(&s->g, offset), (uint64_t)run.offset | QCOW2_COPIED);
    return 0;
}

/* The whole of a table, as it is now. */
static int coroutine_fn read_table(Qcow2State *s, int64_t table, uint8_t *buf)
{
    int64_t page_bytes = qcow2_cache_page_bytes(s->l2);

    for (int64_t at = 0; at < qcow2_cluster_size(&s->g); at += page_bytes) {
        Qcow2Page *page;
        int ret = qcow2_co_cache_get(s->l2, table + at, &page);

        if (ret < 0) {
            return ret;
        }
        memcpy(buf + at, page->data, page_bytes);
        qcow2_cache_put(page);
    }
    return 0;
}

/* A table of our own of what is in one that a snapshot has, too; nobody changes that. */
static int coroutine_fn copy_table(Qcow2State *s, int64_t old, int64_t offset)
{
    int64_t cluster = qcow2_cluster_size(&s->g);
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, cluster);
    Qcow2Run run;
    int ret = buf ? qcow2_co_take(s->alloc, 1, &run) : -ENOMEM;

    if (ret < 0) {
        qemu_vfree(buf);
        return ret;
    }
    qcow2_cache_forget(s->l2, run.offset, cluster);
    ret = read_table(s, old, buf);
    if (ret == 0) {
        ret = bdrv_co_pwrite(s->bs->file, run.offset, cluster, buf, 0);
    }
    qemu_vfree(buf);
    if (ret < 0) {
        qcow2_give_back(s->alloc, run.offset, 1, false);
        return ret;
    }
    s->unordered = true; /* Q3 */
    qcow2_l1_set(s, qcow2_l1_index(&s->g, offset), (uint64_t)run.offset | QCOW2_COPIED);
    qcow2_give_back(s->alloc, old, 1, s->options.discard_other);
    return 0;
}

static bool is_ours(const Qcow2State *s, int64_t offset)
{
    return s->l1[qcow2_l1_index(&s->g, offset)] & QCOW2_COPIED;
}

/* Its table is there, and ours, afterwards; the page may be pinned already. */
static int coroutine_fn make_ours(Qcow2State *s, int64_t offset, Qcow2Slot *ret_slot)
{
    int64_t table;
    int ret = 0;

    qemu_co_mutex_lock(&s->table_lock);
    table = l2_table(s, offset);
    if (table < 0) {
        ret = (int)table;
    } else if (table == 0) {
        ret = make_table(s, offset, ret_slot);
    } else if (!is_ours(s, offset)) {
        ret = copy_table(s, table, offset);
    }
    qemu_co_mutex_unlock(&s->table_lock);
    return ret;
}

int coroutine_fn qcow2_co_slot(Qcow2State *s, int64_t offset, bool make, Qcow2Slot *ret_slot)
{
    int64_t table = l2_table(s, offset);

    *ret_slot = (Qcow2Slot){0};
    if (make && table >= 0 && (table == 0 || !is_ours(s, offset))) {
        int ret = make_ours(s, offset, ret_slot);

        if (ret < 0 || ret_slot->page) {
            return ret;
        }
        table = l2_table(s, offset);
    }
    if (table <= 0) {
        return (int)table;
    }
    if (make) {
        int ret = qcow2_co_guard_table(s, table);

        if (ret < 0) {
            return ret;
        }
    }
    return pin_slot(s, table, offset, ret_slot);
}

/* ---------------------------------------------------------------------------------------------- look */

/* Whether entry @i goes on where @w ends so far. */
static bool goes_on(const Qcow2State *s, const Qcow2Where *w, Qcow2Entry entry, int64_t bytes)
{
    if (qcow2_entry_check(&s->g, entry) || qcow2_entry_kind(&s->g, entry, 0) != w->kind) {
        return false;
    }
    return !qcow2_kind_has_place(w->kind) || (qcow2_entry_place(entry) == w->host + bytes &&
                                              !(entry.word & QCOW2_COPIED) == !w->ours);
}

/* @in_cluster: of the first byte */
static void measure(const Qcow2State *s, const Qcow2Slot *slot, int64_t in_cluster, int64_t bytes,
                    Qcow2Where *w)
{
    int64_t sub = qcow2_subcluster_size(&s->g), cluster = qcow2_cluster_size(&s->g);
    Qcow2Entry entry = qcow2_slot_get(s, slot, 0);
    unsigned first = (unsigned)(in_cluster >> s->g.subcluster_bits);

    w->kind = qcow2_entry_kind(&s->g, entry, first);
    w->word = entry.word;
    w->ours = entry.word & QCOW2_COPIED;
    w->host = qcow2_kind_has_place(w->kind) ? qcow2_entry_place(entry) + in_cluster : 0;
    w->bytes = (first + qcow2_entry_run(&s->g, entry, first)) * sub - in_cluster;
    if (w->kind == QCOW2_COMPRESSED_DATA) {
        w->bytes = MIN(w->bytes, bytes);
        return;
    }
    for (uint32_t i = 1; i < slot->n && w->bytes < bytes && (in_cluster + w->bytes) % cluster == 0;
         i++) {
        entry = qcow2_slot_get(s, slot, i);
        if (!goes_on(s, w, entry, w->bytes)) {
            break;
        }
        w->bytes += qcow2_entry_run(&s->g, entry, 0) * sub;
    }
    w->bytes = MIN(w->bytes, bytes);
}

int coroutine_fn qcow2_co_look(Qcow2State *s, int64_t offset, int64_t bytes, Qcow2Where *ret)
{
    Qcow2Slot slot;
    int ret_code = qcow2_co_slot(s, offset, false, &slot);

    if (ret_code < 0) {
        return ret_code;
    }
    if (!slot.page) {
        int64_t span = qcow2_l2_span(&s->g);

        *ret = (Qcow2Where){
            .kind = QCOW2_UNALLOCATED,
            .bytes = MIN(bytes, span - (offset & (span - 1))),
        };
        return 0;
    }
    ret_code = qcow2_co_check_entry(s, &slot, 0);
    if (ret_code == 0) {
        measure(s, &slot, qcow2_in_cluster(&s->g, offset), bytes, ret);
        ret_code = ret->kind == QCOW2_INVALID ? -EIO : 0;
    }
    qcow2_cache_put(slot.page);
    return ret_code;
}

/* ------------------------------------------------------------------------------------------- changes */

void qcow2_l1_set(Qcow2State *s, uint32_t index, uint64_t word)
{
    uint32_t piece = index / (L1_PIECE_BYTES / sizeof(uint64_t));

    qcow2_guard_table(s, s->l1[index], word);
    s->l1[index] = word;
    s->l1_dirty[piece / (8 * sizeof(long))] |= 1ul << piece % (8 * sizeof(long));
    s->l1_is_dirty = true;
}

void qcow2_give_back_entry(Qcow2State *s, Qcow2Entry entry, bool discard)
{
    if (entry.word & QCOW2_COMPRESSED) {
        Qcow2Compressed c;
        int64_t first;

        qcow2_compressed_decode(&s->g, entry.word, &c);
        first = qcow2_cluster_start(&s->g, c.offset);
        qcow2_give_back(s->alloc, first,
                        (qcow2_cluster_end(&s->g, c.offset + c.bytes) - first) >> s->g.cluster_bits,
                        discard);
    } else if (qcow2_entry_has_place(&s->g, entry) && !s->g.external_data) {
        qcow2_give_back(s->alloc, qcow2_entry_place(entry), 1, discard);
    }
}
