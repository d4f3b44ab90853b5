/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a check plans: references counted, places for a new refcount structure, entries that no program writes. */
#include <errno.h>
#include "block/drivers/qcow2/check/counts.h"
#include "block/drivers/qcow2/check/fault.h"
#include "block/drivers/qcow2/check/place.h"
#include "tests/unit/util/seed.h"

static void test_counts(void)
{
    for (unsigned order = 0; order <= 6; order++) {
        Qcow2Geometry g;
        Qcow2Counts c;

        qcow2_geometry_init(&g, 3, 9, false, order, false);
        g_assert_cmpint(qcow2_counts_init(&c, &g, 1000), ==, 0);
        g_assert_true(qcow2_counts_add(&c, 7));
        g_assert_cmpint(qcow2_counts_get(&c, 7), ==, 1);
        g_assert_cmpint(qcow2_counts_get(&c, UINT64_MAX), ==, 0);
        if (order == 0) {
            g_assert_false(qcow2_counts_add(&c, 7));
        }
        g_assert_cmpint(qcow2_counts_find_free(&c, 0, 7), ==, 0);
        g_assert_cmpint(qcow2_counts_find_free(&c, 0, 8), ==, 8);
        g_assert_cmpint(qcow2_counts_grow(&c, 100000), ==, 0);
        g_assert_cmpint(qcow2_counts_clusters(&c), >=, 100000);
        g_assert_cmpint(qcow2_counts_get(&c, 99999), ==, 0);
        g_assert_cmpint(qcow2_counts_get(&c, 7), ==, 1);
        qcow2_counts_reset(&c);
        g_assert_cmpint(qcow2_counts_get(&c, 7), ==, 0);
        qcow2_counts_clear(&c);
    }
}

static void test_hostile(void)
{
    Qcow2Geometry g;
    Qcow2Counts c;

    qcow2_geometry_init(&g, 3, 9, false, 6, false);
    g_assert_cmpint(qcow2_counts_init(&c, &g, UINT64_C(1) << 54), ==, -EFBIG);
    g_assert_cmpint(qcow2_counts_init(&c, &g, 10), ==, 0);
    g_assert_cmpint(qcow2_counts_grow(&c, UINT64_C(1) << 54), ==, -EFBIG);
    g_assert_cmpint(qcow2_counts_clusters(&c), >=, 10);
    qcow2_counts_clear(&c);
}

/* Every cluster in use is counted by a block, blocks and table by themselves, and nothing lies where something lay. */
static void expect_placed(const Qcow2Counts *before, const Qcow2Counts *c, const Qcow2Placement *p,
                          uint64_t from)
{
    const Qcow2Geometry *g = &c->g;
    uint64_t structure = 0, used = 0;

    for (uint64_t i = 0; i < qcow2_counts_clusters(c); i++) {
        uint64_t count = qcow2_counts_get(c, i), old = qcow2_counts_get(before, i);

        g_assert_cmpint(count, >=, old);
        if (count) {
            used++;
            g_assert_cmpint(i >> g->refblock_bits, <, p->entries);
            g_assert_cmpint(p->table[i >> g->refblock_bits], !=, 0);
        }
        structure += count != old;
    }
    for (uint64_t i = 0; i < p->entries; i++) {
        uint64_t cluster = p->table[i] >> g->cluster_bits;

        if (p->table[i]) {
            g_assert_cmpint(cluster, >=, from);
            g_assert_cmpint(cluster, >=, i << g->refblock_bits);
            g_assert_cmpint(qcow2_counts_get(before, cluster), ==, 0);
            g_assert_cmpint(qcow2_counts_get(c, cluster), ==, 1);
            structure--;
        }
    }
    g_assert_cmpint(p->offset >> g->cluster_bits, >=, from);
    g_assert_cmpint(p->clusters << (g->cluster_bits - 3), >=, p->entries);
    g_assert_cmpint(structure, ==, p->clusters);
    g_assert_cmpint(used, >, 0);
}

static void test_places(void)
{
    GRand *rand = test_rand();

    for (int round = 0; round < 200; round++) {
        Qcow2Geometry g;
        Qcow2Counts before, c;
        Qcow2Placement p;
        uint64_t n = 1 + g_rand_int_range(rand, 0, 60000), from;
        int density = g_rand_int_range(rand, 1, 101);

        qcow2_geometry_init(&g, 3, 9, false, g_rand_int_range(rand, 0, 7), false);
        g_assert_cmpint(qcow2_counts_init(&before, &g, n), ==, 0);
        g_assert_cmpint(qcow2_counts_init(&c, &g, n), ==, 0);
        for (uint64_t i = 0; i < n; i++) {
            if (i == 0 || g_rand_int_range(rand, 0, 100) < density) {
                qcow2_counts_set(&before, i, 1);
                qcow2_counts_set(&c, i, 1);
            }
        }
        from = g_rand_boolean(rand) ? 0 : n;
        g_assert_cmpint(qcow2_place(&c, from, &p), ==, 0);
        expect_placed(&before, &c, &p, from);
        qcow2_placement_clear(&p);
        qcow2_counts_clear(&before);
        qcow2_counts_clear(&c);
    }
    g_rand_free(rand);
}

static void expect_fault(const Qcow2Geometry *g, uint64_t word, uint64_t subclusters,
                         Qcow2Fault fault, uint64_t to_word, uint64_t to_subclusters)
{
    Qcow2Entry mended;

    g_assert_cmpint(qcow2_entry_fault(g, (Qcow2Entry){word, subclusters}, &mended), ==, fault);
    g_assert_cmphex(mended.word, ==, to_word);
    g_assert_cmphex(mended.subclusters, ==, to_subclusters);
}

static void test_faults(void)
{
    Qcow2Geometry v2, v3, extended, external;

    qcow2_geometry_init(&v2, 2, 16, false, 4, false);
    qcow2_geometry_init(&v3, 3, 16, false, 4, false);
    qcow2_geometry_init(&extended, 3, 16, true, 4, false);
    qcow2_geometry_init(&external, 3, 16, false, 4, true);
    expect_fault(&v3, QCOW2_COPIED | 0x50000, 0, QCOW2_FAULT_NONE, QCOW2_COPIED | 0x50000, 0);
    expect_fault(&v3, QCOW2_COPIED | 0x50002, 0, QCOW2_FAULT_RESERVED, QCOW2_COPIED | 0x50000, 0);
    expect_fault(&v3, QCOW2_COPIED | 0x50a00, 0, QCOW2_FAULT_UNALIGNED, QCOW2_COPIED | 0x50a00, 0);
    expect_fault(&v3, QCOW2_COPIED | 0x50a01, 0, QCOW2_FAULT_UNALIGNED_ZERO, QCOW2_ZERO, 0);
    expect_fault(&v2, QCOW2_COPIED | 0x50a01, 0, QCOW2_FAULT_UNALIGNED, QCOW2_COPIED | 0x50a01, 0);
    expect_fault(&v3, QCOW2_COPIED | QCOW2_COMPRESSED | 5, 0, QCOW2_FAULT_COMPRESSED_COPIED,
                 QCOW2_COMPRESSED | 5, 0);
    expect_fault(&external, QCOW2_COMPRESSED | 5, 0, QCOW2_FAULT_COMPRESSED_EXTERNAL, QCOW2_ZERO,
                 0);
    expect_fault(&extended, QCOW2_COMPRESSED | 5, 1, QCOW2_FAULT_COMPRESSED_SUBCLUSTERS,
                 QCOW2_COMPRESSED | 5, 0);
    expect_fault(&extended, QCOW2_COPIED | 0x50000, 0x100000003, QCOW2_FAULT_BOTH,
                 QCOW2_COPIED | 0x50000, 3);
    expect_fault(&extended, 0, 0x200000001, QCOW2_FAULT_NO_PLACE, 0, 0x300000000);
    expect_fault(&extended, 0, 0x200000000, QCOW2_FAULT_NONE, 0, 0x200000000);
    expect_fault(&extended, 0x50200, 0x200000000, QCOW2_FAULT_UNALIGNED_ZERO, 0, 0x200000000);
    g_assert_cmphex(qcow2_entry_lost(&v2, (Qcow2Entry){5, 0}).word, ==, 0);
    g_assert_cmphex(qcow2_entry_lost(&v3, (Qcow2Entry){5, 0}).word, ==, QCOW2_ZERO);
    g_assert_cmphex(qcow2_entry_lost(&extended, (Qcow2Entry){QCOW2_COMPRESSED, 0}).subclusters, ==,
                    QCOW2_ALL_ZERO);
}

/* Mended until nothing is wrong, in a few steps, but for what is left on purpose. */
static void test_random_faults(void)
{
    GRand *rand = test_rand();

    for (int i = 0; i < 20000; i++) {
        Qcow2Entry e = {(uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand),
                        (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand)};
        bool extended = g_rand_boolean(rand);
        Qcow2Geometry g;
        Qcow2Fault fault;
        int steps = 0;

        qcow2_geometry_init(&g, extended ? 3 : g_rand_int_range(rand, 2, 4), 16, extended, 4,
                            g_rand_int_range(rand, 0, 4) == 0);
        e.subclusters = extended ? e.subclusters : 0;
        do {
            fault = qcow2_entry_fault(&g, e, &e);
            g_assert_cmpint(steps++, <, 5);
        } while (fault != QCOW2_FAULT_NONE && fault != QCOW2_FAULT_UNALIGNED);
        if (fault == QCOW2_FAULT_NONE) {
            g_assert_null(qcow2_entry_check(&g, e));
        }
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/plan/references are counted in refcounts of every width", test_counts);
    g_test_add_func("/qcow2/plan/counts that no image needs are refused", test_hostile);
    g_test_add_func("/qcow2/plan/a new refcount structure counts itself and lies on nothing",
                    test_places);
    g_test_add_func("/qcow2/plan/each fault of an entry is mended or left as it says", test_faults);
    g_test_add_func("/qcow2/plan/random entries become right in a few steps", test_random_faults);
    return g_test_run();
}
