/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage against a model (rules G1 to G7): a disk whose old contents are remembered by the test, writers
 * that capture and then overwrite, takers that take clusters or readers that read the past, disks that are
 * now fast and now slow.  Whatever is taken or read must be old data, to the byte; room stays within its
 * limits at every moment; and at the end nothing is left.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "aio/timer.h"
#include "block/copy/stage-int.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CLUSTER     (64 * KiB)
#define CLUSTERS    24
#define WRITERS_MAX 6
#define OTHERS_MAX  3

typedef struct Model {
    uint32_t seed;
    GRand *rand;
    int64_t length;
    uint8_t *old;
    BlockDriverState *source_bs, *scratch_bs;
    BdrvChild *source, *user, *scratch;
    Stage *stage;
    int64_t ram_units, scratch_bytes;
    bool safe[CLUSTERS], claimed[CLUSTERS];
    bool over, stop, takes, drops;
    int running, in_io;
    int64_t captures, checked;
} Model;

static bool op_is_safe(void *opaque, int64_t cluster)
{
    return ((Model *)opaque)->safe[cluster];
}

static bool op_is_over(void *opaque)
{
    return ((Model *)opaque)->over;
}

static void op_changed(void *opaque)
{
}

/* Whatever it says, only what is kept in memory depends on it. */
static int64_t op_cursor(void *opaque)
{
    return g_rand_int_range(((Model *)opaque)->rand, -1, CLUSTERS);
}

static void coroutine_fn op_io_begin(void *opaque)
{
    Model *m = opaque;

    if (g_rand_int_range(m->rand, 0, 4) == 0) {
        qemu_co_sleep_ns(g_rand_int_range(m->rand, 0, 50000)); /* a gate that is closed */
    }
    m->in_io++;
}

static void op_io_end(void *opaque)
{
    ((Model *)opaque)->in_io--;
}

static const StageOps taking = {op_is_safe, op_is_over,  op_changed,
                                op_cursor,  op_io_begin, op_io_end};
static const StageOps keeping = {op_is_safe, op_is_over, NULL, NULL, op_io_begin, op_io_end};

/* G5 */
static void check_limits(const Model *m)
{
    StageStats stats;

    stage_stats(m->stage, &stats);
    g_assert_cmpint(stats.ram_bytes, >=, 0);
    g_assert_cmpint(stats.ram_bytes, <=, stats.ram_limit);
    g_assert_cmpint(stats.ram_limit, ==, m->ram_units * stage_unit_bytes(m->stage));
    g_assert_cmpint(stats.scratch_bytes, >=, 0);
    g_assert_cmpint(stats.scratch_bytes, <=, stats.scratch_limit);
    g_assert_cmpint(stats.scratch_limit, <=, m->scratch_bytes);
    g_assert_cmpuint(stats.waiting, <=, WRITERS_MAX);
}

static void expect_old(Model *m, int64_t offset, int64_t bytes, const uint8_t *buf, const char *who)
{
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != m->old[offset + i]) {
            g_test_message("seed %u: %s found new data at %" PRId64, m->seed, who, offset + i);
            g_test_fail();
            return;
        }
    }
    m->checked += bytes;
}

static void coroutine_fn nap(Model *m)
{
    qemu_co_sleep_ns(g_rand_int_range(m->rand, 0, 2) ? 0 : g_rand_int_range(m->rand, 0, 100000));
}

static void coroutine_fn writer_entry(void *opaque)
{
    Model *m = opaque;
    g_autofree uint8_t *buf = g_malloc(5 * CLUSTER);

    while (!m->stop) {
        int64_t bytes = g_rand_int_range(m->rand, 0, 5) ? g_rand_int_range(m->rand, 1, 9000)
                                                        : g_rand_int_range(m->rand, 1, 5 * CLUSTER);
        int64_t offset = g_rand_int_range(m->rand, 0, m->length);
        int ret;

        bytes = MIN(bytes, m->length - offset);
        ret = stage_co_capture(m->stage, offset, bytes, &(BdrvOldData){0});
        check_limits(m);
        if (ret == -ENOSPC && !m->takes) { /* what is kept is full: the past is as it was */
            break;
        }
        g_assert_cmpint(ret, ==, 0);
        g_assert_true(m->over || m->drops || stage_is_captured(m->stage, offset, bytes)); /* G1 */
        m->captures++;
        memset(buf, g_rand_int_range(m->rand, 1, 256), bytes);
        g_assert_cmpint(bdrv_co_pwrite(m->user, offset, bytes, buf, 0), ==, 0);
        nap(m);
    }
    m->running--;
}

/* G2, G3: clusters that nobody has claimed, as an owner takes them. */
static void coroutine_fn take_some(Model *m, int64_t start, int64_t end)
{
    int64_t offset = start * CLUSTER, bytes = MIN(end * CLUSTER, m->length) - offset;
    uint8_t *buf = qemu_memalign(4096, (end - start) * CLUSTER);
    StageTaken taken;

    memset(buf, 0xee, (end - start) * CLUSTER);
    for (int64_t c = start; c < end; c++) {
        m->claimed[c] = true;
    }
    if (!stage_covers(m->stage, start, end)) {
        g_assert_cmpint(bdrv_co_pread(m->source, offset, bytes, buf, BDRV_REQ_NO_SERIALISING), ==,
                        0);
    }
    stage_take(m->stage, start, end, buf, &taken);
    for (int64_t c = start; c < end; c++) {
        m->safe[c] = true;
    }
    g_assert_cmpint(stage_next_cluster(m->stage, start, end), ==, -1);
    nap(m);
    g_assert_cmpint(stage_co_take_finish(&taken), ==, 0);
    check_limits(m);
    expect_old(m, offset, bytes, buf, "a taker");
    qemu_vfree(buf);
}

static int64_t choose_cluster(Model *m)
{
    int64_t c = stage_next_cluster(m->stage, g_rand_int_range(m->rand, 0, CLUSTERS), CLUSTERS);

    if (c < 0 || m->claimed[c] || g_rand_int_range(m->rand, 0, 4) == 0) {
        c = g_rand_int_range(m->rand, 0, CLUSTERS);
        for (int i = 0; i < CLUSTERS && m->claimed[c]; i++) {
            c = (c + 1) % CLUSTERS;
        }
    }
    return m->claimed[c] ? -1 : c;
}

static void coroutine_fn taker_entry(void *opaque)
{
    Model *m = opaque;
    int64_t c;

    while ((c = choose_cluster(m)) >= 0) {
        int64_t most = g_rand_int_range(m->rand, 1, 4), end = c;

        while (end < CLUSTERS && end - c < most && !m->claimed[end]) {
            end++;
        }
        take_some(m, c, end);
        nap(m);
        nap(m);
    }
    m->running--;
}

static void coroutine_fn reader_entry(void *opaque)
{
    Model *m = opaque;
    int64_t unit = stage_unit_bytes(m->stage);

    while (!m->stop) {
        int64_t offset = QEMU_ALIGN_DOWN(g_rand_int_range(m->rand, 0, m->length), unit);
        int64_t bytes = MIN(unit * g_rand_int_range(m->rand, 1, 40), m->length - offset);
        uint8_t *buf = qemu_memalign(4096, bytes);

        g_assert_cmpint(stage_co_read(m->stage, offset, bytes, buf), ==, 0);
        if (!m->over) { /* else writes pass */
            expect_old(m, offset, bytes, buf, "a reader");
        }
        qemu_vfree(buf);
        nap(m);
    }
    m->running--;
}

static void coroutine_fn weather_entry(void *opaque)
{
    Model *m = opaque;

    while (!m->stop) {
        test_ram_set_delay(m->source_bs, TEST_RAM_ALL_IO, g_rand_int_range(m->rand, 0, 60000));
        if (m->scratch_bs) {
            test_ram_set_delay(m->scratch_bs, TEST_RAM_ALL_IO,
                               g_rand_int_range(m->rand, 0, 200000));
        }
        qemu_co_sleep_ns(g_rand_int_range(m->rand, 1, 20000));
    }
    m->running--;
}

static void start(Model *m, CoroutineEntry *entry)
{
    m->running++;
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(entry, m));
}

static void set_up(Model *m, uint32_t seed, bool takes)
{
    static const uint32_t aligns[] = {1, 512, 4096, 16384};
    StageConfig config = {.ops = takes ? &taking : &keeping, .opaque = m};

    *m = (Model){.seed = seed, .rand = g_rand_new_with_seed(seed), .takes = takes};
    g_test_message("seed %u", seed);
    m->length =
        CLUSTERS * CLUSTER - g_rand_int_range(m->rand, 0, 2) * g_rand_int_range(m->rand, 1, 60000);
    m->source_bs = test_ram_new("source", m->length);
    test_ram_poke_pattern(m->source_bs, 0, m->length, seed);
    test_ram_set_alignment(m->source_bs, aligns[g_rand_int_range(m->rand, 0, 4)]);
    m->old = g_malloc(m->length);
    test_ram_peek(m->source_bs, 0, m->old, m->length);
    m->source = block_test_user(m->source_bs, BLK_PERM_CONSISTENT_READ);
    m->user = block_test_user(m->source_bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    m->ram_units = g_rand_boolean(m->rand) ? g_rand_int_range(m->rand, 1, 4)
                                           : g_rand_int_range(m->rand, 4, 200);
    m->scratch_bytes = g_rand_int_range(m->rand, 0, 3) * MiB + g_rand_int_range(m->rand, 0, MiB);
    if (m->scratch_bytes >= MiB) {
        m->scratch_bs = test_ram_new("scratch", 0);
        test_ram_set_alignment(m->scratch_bs, aligns[g_rand_int_range(m->rand, 0, 3)]);
        m->scratch = block_test_user(m->scratch_bs,
                                     BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
    config.source = m->source;
    config.scratch = m->scratch;
    config.length = m->length;
    config.cluster_bytes = CLUSTER;
    config.ram_bytes = m->ram_units * MAX(4096, (int64_t)m->source_bs->bl.request_alignment);
    config.scratch_bytes = m->scratch_bytes;
    m->stage = stage_new(&config);
    start(m, weather_entry);
}

static void coroutine_fn tear_down(Model *m)
{
    StageStats stats;

    m->over = true;
    stage_wake(m->stage);
    stage_drop_all(m->stage);
    while (m->running > 0) {
        qemu_co_sleep_ns(1000);
    }
    stage_drop_all(m->stage);
    stage_co_end(m->stage);
    stage_stats(m->stage, &stats);
    g_assert_cmpint(stats.ram_bytes, ==, 0);
    g_assert_cmpint(m->in_io, ==, 0);
    for (guint i = 0; i < m->stage->live->len; i++) {
        g_assert_cmpuint(g_array_index(m->stage->live, uint32_t, i), ==, 0); /* G4 */
    }
    stage_free(m->stage);
    block_test_co_user_free(m->source);
    block_test_co_user_free(m->user);
    bdrv_co_unref(m->source_bs);
    if (m->scratch_bs) {
        g_assert_cmpint(m->scratch_bs->total_bytes, <=, m->scratch_bytes);
        block_test_co_user_free(m->scratch);
        bdrv_co_unref(m->scratch_bs);
    }
    g_free(m->old);
    g_rand_free(m->rand);
}

static void coroutine_fn take_story(uint32_t seed)
{
    Model m;

    set_up(&m, seed, true);
    for (int i = g_rand_int_range(m.rand, 1, WRITERS_MAX + 1); i > 0; i--) {
        start(&m, writer_entry);
    }
    nap(&m);
    for (int i = g_rand_int_range(m.rand, 1, OTHERS_MAX + 1); i > 0; i--) {
        start(&m, taker_entry);
    }
    while (m.checked < m.length && !g_test_failed()) {
        qemu_co_sleep_ns(10000);
    }
    qemu_co_sleep_ns(1000000); /* writes pass: all is safe */
    g_assert_true(stage_is_empty(m.stage));
    m.stop = true;
    tear_down(&m);
}

static void coroutine_fn read_story(uint32_t seed)
{
    Model m;

    set_up(&m, seed, false);
    for (int i = g_rand_int_range(m.rand, 1, WRITERS_MAX + 1); i > 0; i--) {
        start(&m, writer_entry);
    }
    for (int i = g_rand_int_range(m.rand, 1, OTHERS_MAX + 1); i > 0; i--) {
        start(&m, reader_entry);
    }
    qemu_co_sleep_ns(g_rand_int_range(m.rand, 1, 20000000));
    m.stop = true;
    tear_down(&m);
}

/* Dropped in the midst of it, as a checkpoint does: nobody hangs, nothing is left. */
static void coroutine_fn drop_story(uint32_t seed)
{
    Model m;

    set_up(&m, seed, true);
    m.drops = true;
    for (int i = g_rand_int_range(m.rand, 1, WRITERS_MAX + 1); i > 0; i--) {
        start(&m, writer_entry);
    }
    for (int i = 0; i < 10; i++) {
        qemu_co_sleep_ns(g_rand_int_range(m.rand, 0, 500000));
        stage_drop_all(m.stage);
        check_limits(&m);
    }
    m.stop = true;
    tear_down(&m);
}

static unsigned seeds(unsigned usual)
{
    const char *s = g_getenv("SEEDS");

    return s ? strtoul(s, NULL, 10) : usual;
}

static void coroutine_fn tell_many(void coroutine_fn (*story)(uint32_t seed), unsigned usual)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < seeds(usual) && !g_test_failed(); i++) {
        story(first + i);
    }
}

static void coroutine_fn test_what_is_taken_is_old_data(void)
{
    tell_many(take_story, 150);
}

static void coroutine_fn test_what_is_read_of_the_past_is_old_data(void)
{
    tell_many(read_story, 100);
}

static void coroutine_fn test_a_drop_at_any_moment_leaves_nothing(void)
{
    tell_many(drop_story, 100);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/copy/stage-model/what is taken is old data", test_what_is_taken_is_old_data);
    block_test_add("/copy/stage-model/what is read of the past is old data",
                   test_what_is_read_of_the_past_is_old_data);
    block_test_add("/copy/stage-model/a drop at any moment leaves nothing",
                   test_a_drop_at_any_moment_leaves_nothing);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
