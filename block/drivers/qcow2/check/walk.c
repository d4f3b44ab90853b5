/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From an L1 table to all clusters below it: what is referred to is counted, and what cannot be is told and mended. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/check/check-int.h"
#include "block/drivers/qcow2/check/fault.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* As many entries may be wrong in a table that has few. */
#define WRONG_ENTRIES_MIN 8

/* An L2 table under way. */
typedef struct Table {
    int64_t offset;
    uint8_t *data;
    uint32_t first, end; /* entries that were mended */
    bool active;
} Table;

static void set_entry(Check *c, Table *t, uint32_t index, Qcow2Entry entry)
{
    qcow2_entry_set(&c->g, t->data, index, entry);
    t->first = MIN(t->first, index);
    t->end = MAX(t->end, index + 1);
}

/* ------------------------------------------------------------------------------------------- entries */

static bool tell_fault(Check *c, Qcow2Fault fault, Qcow2Entry e, uint32_t index)
{
    Qcow2Compressed z;

    switch (fault) {
    case QCOW2_FAULT_RESERVED:
        return qcow2_check_found(c, true, "found l2 entry with reserved bits set: %" PRIx64,
                                 e.word);
    case QCOW2_FAULT_COMPRESSED_COPIED:
        qcow2_compressed_decode(&c->g, e.word, &z);
        return qcow2_check_found(c, true,
                                 ": coffset=0x%" PRIx64
                                 ": copied flag must never be set for compressed clusters",
                                 z.offset);
    case QCOW2_FAULT_COMPRESSED_EXTERNAL:
        return qcow2_check_found(c, true,
                                 "compressed cluster %" PRIu32 " with data file, entry=0x%" PRIx64,
                                 index, e.word);
    case QCOW2_FAULT_COMPRESSED_SUBCLUSTERS:
        return qcow2_check_found(c, true,
                                 "compressed cluster %" PRIu32
                                 " with non-zero subcluster allocation bitmap, entry=0x%" PRIx64,
                                 index, e.word);
    case QCOW2_FAULT_UNALIGNED:
        return qcow2_check_found(c, false,
                                 "offset=%" PRIx64
                                 ": Data cluster is not properly aligned; L2 entry corrupted.",
                                 qcow2_entry_place(e));
    case QCOW2_FAULT_UNALIGNED_ZERO:
        return qcow2_check_found(c, true,
                                 "offset=%" PRIx64
                                 ": Preallocated cluster is not properly aligned; "
                                 "L2 entry corrupted.",
                                 qcow2_entry_place(e));
    case QCOW2_FAULT_BOTH:
        return qcow2_check_found(c, true,
                                 "offset=%" PRIx64
                                 ": Allocated cluster has corrupted subcluster allocation bitmap",
                                 qcow2_entry_place(e));
    case QCOW2_FAULT_NO_PLACE:
        return qcow2_check_found(c, true,
                                 ": Unallocated cluster has non-zero subcluster allocation map");
    default:
        return false;
    }
}

/* What the entry is once it is mended; false: it says nothing that can be counted. */
static bool mend_faults(Check *c, Table *t, uint32_t index, Qcow2Entry *e)
{
    Qcow2Entry mended;
    Qcow2Fault fault;

    while ((fault = qcow2_entry_fault(&c->g, *e, &mended)) != QCOW2_FAULT_NONE) {
        if (tell_fault(c, fault, *e, index)) {
            *e = mended;
            set_entry(c, t, index, mended);
        } else if (fault == QCOW2_FAULT_RESERVED || fault == QCOW2_FAULT_COMPRESSED_COPIED) {
            *e = mended; /* the rest is looked at all the same */
        } else {
            return fault == QCOW2_FAULT_UNALIGNED || fault == QCOW2_FAULT_UNALIGNED_ZERO ||
                   fault == QCOW2_FAULT_BOTH;
        }
    }
    return true;
}

static void coroutine_fn lose(Check *c, Table *t, uint32_t index, Qcow2Entry e)
{
    if (c->fix & BDRV_FIX_ERRORS) {
        set_entry(c, t, index, qcow2_entry_lost(&c->g, e));
        c->result->corruptions_fixed++;
        qcow2_check_say(c, "Repairing l2_entry=%" PRIx64 ": it is outside the image, and %s",
                        e.word, c->g.version >= 3 ? "reads as zeros" : "is unallocated");
    } else {
        c->result->corruptions++;
    }
}

/* All of it: of small clusters, which leave room for more bits than an offset may have, too. */
static uint64_t compressed_offset(const Qcow2Geometry *g, uint64_t word)
{
    return word & ((UINT64_C(1) << (70 - g->cluster_bits)) - 1);
}

static void coroutine_fn check_compressed(Check *c, Table *t, uint32_t index, Qcow2Entry e)
{
    Qcow2Compressed z;

    if (t->active) {
        c->result->allocated_clusters++;
        c->result->compressed_clusters++;
        c->result->fragmented_clusters++; /* by its nature */
    }
    qcow2_compressed_decode(&c->g, e.word, &z);
    if (!qcow2_check_count(c, compressed_offset(&c->g, e.word), (uint64_t)z.bytes)) {
        lose(c, t, index, e);
    }
}

static void coroutine_fn check_entry(Check *c, Table *t, uint32_t index)
{
    int64_t cluster = qcow2_cluster_size(&c->g), place;
    Qcow2Entry e = qcow2_entry_get(&c->g, t->data, index);

    if (!e.word && !e.subclusters) {
        return;
    }
    if (!mend_faults(c, t, index, &e)) {
        return;
    }
    if (e.word & QCOW2_COMPRESSED) {
        check_compressed(c, t, index, e);
        return;
    }
    if (!qcow2_entry_has_place(&c->g, e)) {
        return;
    }
    place = qcow2_entry_place(e);
    if (t->active) {
        c->result->allocated_clusters++;
        if (c->next_host && place != c->next_host) {
            c->result->fragmented_clusters++;
        }
        c->next_host = place + cluster;
    }
    if (!c->g.external_data && !qcow2_check_count(c, (uint64_t)place, (uint64_t)cluster)) {
        lose(c, t, index, e);
    }
}

/* -------------------------------------------------------------------------------------------- tables */

/* Data that is taken for a table has few entries that could be (CK5). */
static bool looks_like_table(const Check *c, const Table *t)
{
    uint32_t entries = 0, wrong = 0;

    for (uint32_t i = 0; i < UINT32_C(1) << c->g.l2_bits; i++) {
        Qcow2Entry e = qcow2_entry_get(&c->g, t->data, i), mended;

        entries += e.word || e.subclusters;
        wrong += qcow2_entry_fault(&c->g, e, &mended) != QCOW2_FAULT_NONE ||
                 (!c->g.external_data && !(e.word & QCOW2_COMPRESSED) &&
                  qcow2_entry_place(e) >= c->file_bytes);
    }
    return wrong < WRONG_ENTRIES_MIN || wrong <= entries / 2;
}

/* *ret_is_table: false: it was not looked at. */
static int coroutine_fn check_l2(Check *c, int64_t offset, bool active, bool *ret_is_table)
{
    Table t = {.offset = offset, .first = UINT32_MAX, .active = active};
    int ret = 0;

    t.data = qcow2_check_co_read(c, offset, qcow2_cluster_size(&c->g));
    if (!t.data) {
        return 0;
    }
    *ret_is_table = looks_like_table(c, &t);
    for (uint32_t i = 0; *ret_is_table && i < UINT32_C(1) << c->g.l2_bits; i++) {
        check_entry(c, &t, i);
    }
    if (t.first < t.end) {
        int64_t at = (int64_t)t.first * c->g.l2_entry_bytes;
        int64_t bytes = (int64_t)(t.end - t.first) * c->g.l2_entry_bytes;

        ret = qcow2_check_co_write(c, offset + at, bytes, t.data + at);
    }
    qemu_vfree(t.data);
    return ret;
}

static void lose_table(Check *c, uint64_t *word)
{
    if (c->fix & BDRV_FIX_ERRORS) {
        c->result->corruptions_fixed++;
        qcow2_check_say(
            c, "Repairing l1_entry=%" PRIx64 ": it is outside the image, and unallocated", *word);
        *word = 0;
    } else {
        c->result->corruptions++;
    }
}

/* What becomes of the entry: itself, or 0. */
static int coroutine_fn check_l1_entry(Check *c, uint64_t *word, bool active)
{
    uint64_t table = *word & QCOW2_HOST_OFFSET_MASK;
    bool is_table = true;
    int ret;

    if (!*word) {
        return 0;
    }
    if (*word & QCOW2_L1_RESERVED &&
        qcow2_check_found(c, true, "found L1 entry with reserved bits set: %" PRIx64, *word)) {
        *word &= ~QCOW2_L1_RESERVED;
    }
    if (!*word) {
        return 0;
    }
    if (!qcow2_is_cluster_aligned(&c->g, table)) {
        qcow2_check_found(c, false,
                          "l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted",
                          table);
        c->unseen = true;
        return 0;
    }
    if (qcow2_check_is_metadata(c, table)) {
        if (qcow2_check_found(c, true, "l2_offset=%" PRIx64 ": there is another table", table)) {
            *word = 0;
        }
        return 0;
    }
    if (!qcow2_check_is_in_file(c, table, (uint64_t)qcow2_cluster_size(&c->g))) {
        lose_table(c, word);
        return 0;
    }
    ret = check_l2(c, (int64_t)table, active, &is_table);
    if (is_table) {
        qcow2_check_count(c, table, (uint64_t)qcow2_cluster_size(&c->g));
    } else if (qcow2_check_found(c, true, "l2_offset=%" PRIx64 ": this is no L2 table", table)) {
        *word = 0;
    }
    return ret;
}

static int coroutine_fn store_l1_entry(Check *c, uint64_t l1_offset, uint32_t index, uint64_t word)
{
    uint64_t raw = cpu_to_be64(word);

    return qcow2_check_co_write(c, (int64_t)(l1_offset + index * sizeof(uint64_t)), sizeof(raw),
                                &raw);
}

int coroutine_fn qcow2_check_co_walk(Check *c, uint64_t l1_offset, uint32_t l1_size, bool active)
{
    int64_t bytes = ROUND_UP((int64_t)l1_size * (int64_t)sizeof(uint64_t), BDRV_SECTOR_SIZE);
    uint8_t *raw;
    int ret = 0;

    if (!qcow2_check_count(c, l1_offset, l1_size * sizeof(uint64_t))) {
        c->result->corruptions++;
        c->unseen = true; /* all of it */
        return 0;
    }
    raw = l1_size ? qcow2_check_co_read(c, (int64_t)l1_offset, bytes) : NULL;
    for (uint32_t i = 0; raw && i < l1_size && ret == 0; i++) {
        uint64_t word = ldq_be_p(raw + i * sizeof(uint64_t)), before = word;

        if (bdrv_progress_cancelled(c->result->progress)) {
            ret = -ECANCELED;
            break;
        }
        ret = check_l1_entry(c, &word, active);
        if (ret == 0 && word != before) {
            ret = store_l1_entry(c, l1_offset, i, word);
            if (active) {
                c->l1[i] = word;
            }
        }
    }
    qemu_vfree(raw);
    return ret;
}
