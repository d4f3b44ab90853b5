/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the header leads to beside the disk: snapshots, bitmaps, refcounts. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/check/check-int.h"
#include "block/drivers/qcow2/layout/bitmap.h"
#include "block/drivers/qcow2/layout/snapshot.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* What is read of a snapshot table first; of most, all. */
#define SNAPSHOTS_FIRST_BYTES (64 * KiB)

static void note_blocks(Check *c)
{
    if (c->blocks) {
        g_hash_table_remove_all(c->blocks);
    } else {
        c->blocks = g_hash_table_new(NULL, NULL);
    }
    for (uint64_t i = 0; i < c->reftable_entries; i++) {
        uint64_t cluster = (c->reftable[i] & QCOW2_REFTABLE_OFFSET_MASK) >> c->g.cluster_bits;

        if (cluster) {
            g_hash_table_add(c->blocks, (void *)(uintptr_t)cluster);
        }
    }
}

static bool is_in(uint64_t offset, uint64_t begin, uint64_t bytes)
{
    return offset >= begin && offset - begin < bytes;
}

bool qcow2_check_is_metadata(const Check *c, uint64_t offset)
{
    const Qcow2Header *h = &c->header;
    uint64_t cluster = offset >> c->g.cluster_bits;

    return cluster == 0 || is_in(offset, h->l1_offset, h->l1_size * sizeof(uint64_t)) ||
           is_in(offset, h->reftable_offset, (uint64_t)h->reftable_clusters << c->g.cluster_bits) ||
           (h->nb_snapshots && cluster == h->snapshots_offset >> c->g.cluster_bits) ||
           g_hash_table_contains(c->blocks, (void *)(uintptr_t)cluster);
}

int coroutine_fn qcow2_check_co_load(Check *c, Error **errp)
{
    const Qcow2Header *h = &c->header;
    int64_t bytes = (int64_t)h->reftable_clusters << c->g.cluster_bits;
    int64_t l1_bytes = ROUND_UP((int64_t)h->l1_size * (int64_t)sizeof(uint64_t), BDRV_SECTOR_SIZE);
    uint8_t *table = qcow2_check_co_read(c, (int64_t)h->reftable_offset, bytes);
    uint8_t *l1 = qcow2_check_co_read(c, (int64_t)h->l1_offset, l1_bytes);

    if (table && l1) {
        c->reftable_entries = (uint64_t)bytes / sizeof(uint64_t);
        c->reftable = g_renew(uint64_t, c->reftable, MAX(c->reftable_entries, 1));
        for (uint64_t i = 0; i < c->reftable_entries; i++) {
            c->reftable[i] = ldq_be_p(table + i * sizeof(uint64_t));
        }
        c->l1 = g_renew(uint64_t, c->l1, MAX(h->l1_size, 1));
        for (uint32_t i = 0; i < h->l1_size; i++) {
            c->l1[i] = ldq_be_p(l1 + i * sizeof(uint64_t));
        }
    } else {
        error_setg(errp, "The image's tables could not be read");
    }
    note_blocks(c);
    bytes = table && l1 ? 0 : -EIO;
    qemu_vfree(table);
    qemu_vfree(l1);
    return (int)bytes;
}

/* ----------------------------------------------------------------------------------------- snapshots */

static int coroutine_fn check_snapshot(Check *c, const Qcow2Snapshot *s)
{
    if (!qcow2_is_cluster_aligned(&c->g, s->l1_offset)) {
        qcow2_check_found(c, false,
                          "snapshot %s (%s) l1_offset=0x%" PRIx64
                          ": L1 table is not cluster aligned; snapshot table entry corrupted",
                          s->id, s->name, s->l1_offset);
        c->unseen = true;
        return 0;
    }
    if (s->l1_size > QCOW2_L1_BYTES_MAX / sizeof(uint64_t)) {
        qcow2_check_found(c, false,
                          "snapshot %s (%s) l1_size=0x%" PRIx32
                          ": L1 table is too large; snapshot table entry corrupted",
                          s->id, s->name, s->l1_size);
        c->unseen = true;
        return 0;
    }
    if (s->l1_size && qcow2_check_is_metadata(c, s->l1_offset)) {
        qcow2_check_found(c, false,
                          "snapshot %s (%s) l1_offset=0x%" PRIx64
                          ": there is another table; snapshot table entry corrupted",
                          s->id, s->name, s->l1_offset);
        c->unseen = true;
        return 0;
    }
    return qcow2_check_co_walk(c, s->l1_offset, s->l1_size, false);
}

/* Bytes of the table in @buf that are whole entries, *ret_n of them; each for @s, unless that is NULL. */
static size_t scan_snapshots(const uint8_t *buf, size_t len, uint32_t n, Qcow2Snapshot *s,
                             uint32_t *ret_n)
{
    size_t at = 0;

    for (*ret_n = 0; *ret_n < n; (*ret_n)++) {
        Qcow2Snapshot one;
        size_t bytes = qcow2_snapshot_decode(buf + at, len - at, &one);

        if (!bytes) {
            break;
        }
        at += bytes;
        if (s) {
            s[*ret_n] = one;
        } else {
            qcow2_snapshot_clear(&one);
        }
    }
    return at;
}

/* The whole table, or as much as the limit lets be; *ret_bytes of it are entries. */
static uint8_t *coroutine_fn read_snapshots(Check *c, size_t *ret_bytes)
{
    const Qcow2Header *h = &c->header;
    int64_t there = MAX(0, c->file_bytes - (int64_t)h->snapshots_offset);
    int64_t most = MIN(there, (int64_t)QCOW2_SNAPSHOTS_BYTES_MAX), bytes;
    uint8_t *buf = NULL;
    uint32_t n = 0;

    for (bytes = MIN(most, SNAPSHOTS_FIRST_BYTES); bytes > 0; bytes = MIN(most, bytes * 4)) {
        qemu_vfree(buf);
        buf = qcow2_check_co_read(c, (int64_t)h->snapshots_offset, bytes);
        if (!buf) {
            return NULL;
        }
        *ret_bytes = scan_snapshots(buf, bytes, h->nb_snapshots, NULL, &n);
        if (n == h->nb_snapshots || bytes == most) {
            break;
        }
    }
    if (n < h->nb_snapshots) {
        qcow2_check_found(
            c, false, "the snapshot table has %" PRIu32 " entries of %" PRIu32 ", and ends there",
            n, h->nb_snapshots);
        c->unseen = true;
        qemu_vfree(buf);
        return NULL;
    }
    return buf;
}

int coroutine_fn qcow2_check_co_snapshots(Check *c)
{
    uint32_t n = c->header.nb_snapshots;
    Qcow2Snapshot *all;
    size_t bytes = 0;
    uint8_t *buf;
    int ret = 0;

    if (!n) {
        return 0;
    }
    buf = read_snapshots(c, &bytes);
    if (!buf) {
        return 0;
    }
    all = g_new0(Qcow2Snapshot, n);
    scan_snapshots(buf, bytes, n, all, &n);
    for (uint32_t i = 0; i < n; i++) {
        ret = ret == 0 ? check_snapshot(c, &all[i]) : ret;
        qcow2_snapshot_clear(&all[i]);
    }
    g_free(all);
    qemu_vfree(buf);
    if (!qcow2_check_count(c, c->header.snapshots_offset, bytes)) {
        c->result->corruptions++;
    }
    return ret;
}

/* ------------------------------------------------------------------------------------------- bitmaps */

typedef bool Region(Check *c, uint64_t offset, uint64_t bytes);

/* NULL, or what is wrong with it; each of its regions is for @region. */
static const char *coroutine_fn check_bitmap(Check *c, const Qcow2BitmapEntry *b, Region *region)
{
    uint64_t bytes = (uint64_t)b->table_entries * sizeof(uint64_t);
    const char *wrong = NULL;
    uint8_t *table;

    if (!region(c, b->table_offset, bytes)) {
        return "its table is outside the image";
    }
    table = qcow2_check_co_read(c, (int64_t)b->table_offset, ROUND_UP((int64_t)bytes, 512));
    for (uint32_t i = 0; table && i < b->table_entries && !wrong; i++) {
        int64_t offset;

        switch (qcow2_bitmap_table_entry(&c->g, ldq_be_p(table + i * sizeof(uint64_t)), &offset)) {
        case QCOW2_BITMAP_STORED:
            if (!region(c, (uint64_t)offset, (uint64_t)qcow2_cluster_size(&c->g))) {
                wrong = "its data is outside the image";
            }
            break;
        case QCOW2_BITMAP_INVALID:
            wrong = "its table has entries that cannot be";
            break;
        default:
            break;
        }
    }
    qemu_vfree(table);
    return wrong;
}

static char *coroutine_fn check_directory(Check *c, const uint8_t *dir, Region *region)
{
    size_t at = 0, len = c->header.bitmap_dir_bytes;
    uint32_t n = 0;

    for (; at < len; n++) {
        Qcow2BitmapEntry b;
        Error *err = NULL;
        size_t bytes = qcow2_bitmap_decode(&c->g, dir + at, len - at, &b, &err);
        const char *wrong;
        char *text = NULL;

        if (!bytes) {
            text = g_strdup(error_get_pretty(err));
            error_free(err);
            return text;
        }
        wrong = check_bitmap(c, &b, region);
        if (wrong) {
            text = g_strdup_printf("Bitmap '%s': %s", b.name, wrong);
        }
        qcow2_bitmap_clear(&b);
        if (text) {
            return text;
        }
        at += bytes;
    }
    return n == c->header.nb_bitmaps
               ? NULL
               : g_strdup_printf("the directory has %" PRIu32 " bitmaps, not %" PRIu32, n,
                                 c->header.nb_bitmaps);
}

static void give_up_bitmaps(Check *c, const char *wrong)
{
    Qcow2Header *h = &c->header;

    if (!qcow2_check_found(c, true, "bitmaps: %s%s", wrong,
                           c->fix & BDRV_FIX_ERRORS ? "; the image has none any more" : "")) {
        c->unseen = true;
        return;
    }
    h->has_bitmaps = false;
    h->nb_bitmaps = 0;
    h->bitmap_dir_bytes = h->bitmap_dir_offset = 0;
    h->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
    c->drop_bitmaps = true;
}

/* A directory that is wrong keeps QEMU from opening the image; bitmaps are what can be had again. */
void coroutine_fn qcow2_check_co_bitmaps(Check *c)
{
    const Qcow2Header *h = &c->header;
    g_autofree char *wrong = NULL;
    uint8_t *dir = NULL;

    if (!h->has_bitmaps || !(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
        return;
    }
    if (qcow2_check_is_in_file(c, h->bitmap_dir_offset, h->bitmap_dir_bytes)) {
        dir = qcow2_check_co_read(c, (int64_t)h->bitmap_dir_offset,
                                  ROUND_UP((int64_t)h->bitmap_dir_bytes, BDRV_SECTOR_SIZE));
        wrong = dir ? check_directory(c, dir, qcow2_check_is_in_file) : NULL;
    } else {
        wrong = g_strdup("the directory is outside the image");
    }
    if (!wrong && dir) {
        qcow2_check_count(c, h->bitmap_dir_offset, h->bitmap_dir_bytes);
        check_directory(c, dir, qcow2_check_count);
    } else if (wrong) {
        give_up_bitmaps(c, wrong);
    }
    qemu_vfree(dir);
}

/* ------------------------------------------------------------------------------------------ refcounts */

static void check_block(Check *c, uint64_t index)
{
    uint64_t word = c->reftable[index], offset = word & QCOW2_REFTABLE_OFFSET_MASK;
    uint64_t cluster = offset >> c->g.cluster_bits, end;
    bool usable = false;

    end = DIV_ROUND_UP((uint64_t)c->file_bytes, (uint64_t)qcow2_cluster_size(&c->g));
    if (word & QCOW2_REFTABLE_RESERVED) {
        qcow2_check_found(c, false, "refcount table entry %" PRIu64 " has reserved bits set",
                          index);
    }
    if (!qcow2_is_cluster_aligned(&c->g, offset)) {
        qcow2_check_found(c, false,
                          "refcount block %" PRIu64
                          " is not cluster aligned; refcount table entry corrupted",
                          index);
    } else if (cluster >= end) {
        qcow2_check_found(c, false, "refcount block %" PRIu64 " is outside image", index);
    } else if (offset) {
        usable = true;
        qcow2_check_count(c, offset, (uint64_t)qcow2_cluster_size(&c->g));
        if (qcow2_counts_get(&c->counts, cluster) != 1) {
            qcow2_check_found(c, false, "refcount block %" PRIu64 " refcount=%" PRIu64, index,
                              qcow2_counts_get(&c->counts, cluster));
            c->rebuild = true;
        }
    }
    if (!usable) {
        c->reftable[index] = 0; /* what it counts is not known */
    }
    c->rebuild |= !usable || (word & QCOW2_REFTABLE_RESERVED);
}

void coroutine_fn qcow2_check_co_refcounts(Check *c)
{
    const Qcow2Header *h = &c->header;

    for (uint64_t i = 0; i < c->reftable_entries; i++) {
        if (c->reftable[i]) {
            check_block(c, i);
        }
    }
    if (!qcow2_check_count(c, h->reftable_offset,
                           (uint64_t)h->reftable_clusters << c->g.cluster_bits)) {
        c->result->corruptions++;
        c->rebuild = true;
    }
}
