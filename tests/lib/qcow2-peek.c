/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See qcow2-peek.h. */
#include "tests/lib/qcow2-peek.h"
#include <inttypes.h>
#include "block/drivers/qcow2/layout/entry.h"
#include "block/drivers/qcow2/layout/header.h"
#include "block/drivers/qcow2/layout/refcount.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

typedef struct Peek {
    const uint8_t *file;
    int64_t bytes;
    Qcow2Header h;
    Qcow2Geometry g;
    uint64_t clusters; /* of the file, the last one in part */
    uint32_t *refs;    /* of each of them */
    Qcow2Peek *ret;
} Peek;

static void G_GNUC_PRINTF(2, 3) wrong(Peek *p, const char *fmt, ...)
{
    va_list ap;

    if (!p->ret->wrong) {
        va_start(ap, fmt);
        p->ret->wrong = g_strdup_vprintf(fmt, ap);
        va_end(ap);
    }
}

/* 0 behind the end. */
static uint64_t word_at(const Peek *p, int64_t offset)
{
    return offset + 8 <= p->bytes ? ldq_be_p(p->file + offset) : 0;
}

static void refer(Peek *p, uint64_t offset, uint64_t bytes, const char *what)
{
    uint64_t first = offset >> p->g.cluster_bits;
    uint64_t end = (offset + bytes + (uint64_t)qcow2_cluster_size(&p->g) - 1) >> p->g.cluster_bits;

    if (!qcow2_is_cluster_aligned(&p->g, offset) || end > p->clusters) {
        wrong(p, "%s at %#" PRIx64 " is unaligned, or behind the end of the file (%#" PRIx64 ")",
              what, offset, (uint64_t)p->bytes);
        return;
    }
    for (; first < end; first++) {
        p->refs[first]++;
    }
}

static uint64_t count_of(const Peek *p, uint64_t cluster)
{
    uint64_t index = qcow2_reftable_index(&p->g, cluster);
    uint64_t entries = ((uint64_t)p->h.reftable_clusters << p->g.cluster_bits) / 8;
    uint64_t block = index < entries ? word_at(p, (int64_t)(p->h.reftable_offset + index * 8)) : 0;

    if (!block || (int64_t)block + qcow2_cluster_size(&p->g) > p->bytes) {
        return 0;
    }
    return qcow2_refcount_get(p->g.refcount_order, p->file + block,
                              qcow2_refblock_index(&p->g, cluster));
}

static void look_at_table(Peek *p, uint64_t table, uint64_t l1_index)
{
    int64_t cluster = qcow2_cluster_size(&p->g);
    g_autofree uint8_t *raw = g_malloc0(cluster);

    memcpy(raw, p->file + table, MIN(cluster, p->bytes - (int64_t)table));
    for (uint32_t i = 0; i < UINT32_C(1) << p->g.l2_bits; i++) {
        Qcow2Entry e = qcow2_entry_get(&p->g, raw, i);
        const char *bad = qcow2_entry_check(&p->g, e);

        if (bad || (e.word & QCOW2_COMPRESSED)) {
            wrong(p, "entry %" PRIu32 " of table %" PRIu64 " is %" PRIx64 " %" PRIx64 ": %s", i,
                  l1_index, e.word, e.subclusters, bad ? bad : "compressed");
        } else if (qcow2_entry_has_place(&p->g, e)) {
            refer(p, (uint64_t)qcow2_entry_place(e), (uint64_t)cluster, "a data cluster");
            if (!(e.word & QCOW2_COPIED)) {
                wrong(p, "entry %" PRIx64 " is not its own", e.word);
            }
        }
    }
}

static void look_at_l1(Peek *p)
{
    refer(p, p->h.l1_offset, (uint64_t)p->h.l1_size * 8, "the L1 table");
    for (uint64_t i = 0; i < p->h.l1_size; i++) {
        uint64_t word = word_at(p, (int64_t)(p->h.l1_offset + i * 8));
        uint64_t table = word & QCOW2_HOST_OFFSET_MASK;

        if (!table) {
            continue;
        }
        refer(p, table, (uint64_t)qcow2_cluster_size(&p->g), "an L2 table");
        if (!(word & QCOW2_COPIED)) {
            wrong(p, "L1 entry %" PRIx64 " is not its own", word);
        }
        if (!p->ret->wrong) {
            look_at_table(p, table, i);
        }
    }
}

static void look_at_reftable(Peek *p)
{
    uint64_t bytes = (uint64_t)p->h.reftable_clusters << p->g.cluster_bits;

    refer(p, p->h.reftable_offset, bytes, "the refcount table");
    for (uint64_t i = 0; i < bytes / 8; i++) {
        uint64_t word = word_at(p, (int64_t)(p->h.reftable_offset + i * 8));

        if (word) {
            refer(p, word, (uint64_t)qcow2_cluster_size(&p->g), "a refcount block");
        }
    }
}

/* What is counted behind the end of the file is a leak, too, as soon as the file is longer. */
static void count_behind(Peek *p)
{
    uint64_t entries = ((uint64_t)p->h.reftable_clusters << p->g.cluster_bits) / 8;
    uint64_t first = qcow2_reftable_index(&p->g, p->clusters);

    for (uint64_t index = first; index < entries; index++) {
        uint64_t at = MAX(index << p->g.refblock_bits, p->clusters);
        uint64_t end = (index + 1) << p->g.refblock_bits;

        if (!word_at(p, (int64_t)(p->h.reftable_offset + index * 8))) {
            continue;
        }
        for (; at < end; at++) {
            p->ret->leaks += count_of(p, at) > 0;
        }
    }
}

static void compare(Peek *p)
{
    for (uint64_t i = 0; i < p->clusters; i++) {
        uint64_t count = count_of(p, i);

        if (count < p->refs[i]) {
            wrong(p, "cluster %" PRIu64 " has refcount %" PRIu64 " and %" PRIu32 " references", i,
                  count, p->refs[i]);
        }
        if (p->refs[i] > 1) {
            wrong(p, "cluster %" PRIu64 " has %" PRIu32 " references", i, p->refs[i]);
        }
        p->ret->leaks += count > p->refs[i];
        p->ret->clusters += p->refs[i] > 0;
    }
}

void qcow2_peek(const uint8_t *file, int64_t bytes, Qcow2Peek *ret)
{
    Peek p = {.file = file, .bytes = bytes, .ret = ret};
    Error *err = NULL;

    *ret = (Qcow2Peek){0};
    if (qcow2_header_decode(file, (size_t)bytes, &p.h, &err) < 0) {
        wrong(&p, "%s", error_get_pretty(err));
        error_free(err);
        return;
    }
    qcow2_header_geometry(&p.h, &p.g);
    p.clusters = (uint64_t)qcow2_cluster_end(&p.g, bytes) >> p.g.cluster_bits;
    p.refs = g_new0(uint32_t, p.clusters);
    refer(&p, 0, (uint64_t)qcow2_cluster_size(&p.g), "the header");
    look_at_reftable(&p);
    look_at_l1(&p);
    if (!ret->wrong) {
        compare(&p);
        count_behind(&p);
    }
    g_free(p.refs);
    qcow2_header_clear(&p.h);
}

void coroutine_fn qcow2_co_peek_node(BlockDriverState *bs, Qcow2Peek *ret)
{
    int64_t bytes = bdrv_getlength(bs);
    g_autofree uint8_t *file = g_malloc(bytes);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);

    g_assert_cmpint(bdrv_co_pread(user, 0, bytes, file, 0), >=, 0);
    block_test_co_user_free(user);
    qcow2_peek(file, bytes, ret);
}
