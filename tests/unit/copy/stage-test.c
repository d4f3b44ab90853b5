/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stage, rule by rule (block/copy/stage.c), with an owner that the test plays. */
#include <errno.h>
#include "aio/timer.h"
#include "block/copy/stage-int.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CLUSTER    (64 * KiB)
#define CLUSTERS   96
#define UNIT       4096
#define DISK_BYTES (CLUSTERS * CLUSTER - 1000) /* the last unit is cut */
#define WAIT_NS    (INT64_C(100) * SCALE_MS)

typedef struct Scene {
    BlockDriverState *source_bs, *scratch_bs;
    BdrvChild *source, *scratch;
    Stage *stage;
    uint8_t *old;
    bool safe[CLUSTERS], over;
    unsigned changes;
    int64_t told_scratch; /* in use when last told of a change */
} Scene;

static bool op_is_safe(void *opaque, int64_t cluster)
{
    return ((Scene *)opaque)->safe[cluster];
}

static bool op_is_over(void *opaque)
{
    return ((Scene *)opaque)->over;
}

static void op_changed(void *opaque)
{
    Scene *s = opaque;
    StageStats stats;

    stage_stats(s->stage, &stats);
    s->told_scratch = stats.scratch_bytes;
    s->changes++;
}

static const StageOps taking = {
    .is_safe = op_is_safe, .is_over = op_is_over, .changed = op_changed};
static const StageOps keeping = {.is_safe = op_is_safe, .is_over = op_is_over};

static void set_up(Scene *s, const StageOps *ops, int64_t ram_units, int64_t scratch_mib)
{
    StageConfig config = {
        .length = DISK_BYTES,
        .cluster_bytes = CLUSTER,
        .ram_bytes = ram_units * UNIT,
        .scratch_bytes = scratch_mib * MiB,
        .wait_ns = WAIT_NS,
        .ops = ops,
        .opaque = s,
    };

    *s = (Scene){.source_bs = test_ram_new("source", DISK_BYTES)};
    test_ram_poke_pattern(s->source_bs, 0, DISK_BYTES, 1);
    s->old = g_malloc(DISK_BYTES);
    test_ram_peek(s->source_bs, 0, s->old, DISK_BYTES);
    config.source = s->source = block_test_user(s->source_bs, BLK_PERM_CONSISTENT_READ);
    if (scratch_mib > 0) {
        s->scratch_bs = test_ram_new("scratch", 0);
        s->scratch = block_test_user(s->scratch_bs,
                                     BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
        config.scratch = s->scratch;
    }
    s->stage = stage_new(&config);
}

static void coroutine_fn tear_down(Scene *s)
{
    s->over = true;
    stage_drop_all(s->stage);
    stage_co_end(s->stage);
    stage_free(s->stage);
    block_test_co_user_free(s->source);
    bdrv_co_unref(s->source_bs);
    if (s->scratch) {
        block_test_co_user_free(s->scratch);
        bdrv_co_unref(s->scratch_bs);
    }
    g_free(s->old);
}

static int64_t unit_of(int64_t cluster, int64_t i)
{
    return cluster * CLUSTER + i * UNIT;
}

/* The first @n units of @cluster. */
static void coroutine_fn capture(Scene *s, int64_t cluster, int64_t n)
{
    g_assert_cmpint(stage_co_capture(s->stage, unit_of(cluster, 0), n * UNIT, &(BdrvOldData){0}),
                    ==, 0);
}

/* A guest has overwritten all of it. */
static void overwrite(Scene *s, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, 'n', bytes);
    test_ram_poke(s->source_bs, offset, buf, bytes);
}

/* Takes one cluster; what the stage has put over 'x'. */
static int coroutine_fn take(Scene *s, int64_t cluster, uint8_t *ret_buf)
{
    StageTaken taken;

    memset(ret_buf, 'x', CLUSTER);
    stage_take(s->stage, cluster, cluster + 1, ret_buf, &taken);
    s->safe[cluster] = true;
    return stage_co_take_finish(&taken);
}

static void coroutine_fn expect_taken(Scene *s, int64_t cluster, int64_t units)
{
    uint8_t buf[CLUSTER];
    int64_t bytes = MIN(units * UNIT, DISK_BYTES - cluster * CLUSTER);

    g_assert_cmpint(take(s, cluster, buf), ==, 0);
    g_assert_cmpmem(buf, bytes, s->old + cluster * CLUSTER, bytes);
    for (int64_t i = bytes; i < CLUSTER; i++) {
        g_assert_cmpint(buf[i], ==, 'x');
    }
}

/* A capture beside the test. */
typedef struct Writer {
    Scene *scene;
    int64_t offset, bytes;
    int ret;
    int64_t ended_ns; /* 0: not yet */
    unsigned place;   /* in the order of ends */
} Writer;

static unsigned ends;

static void coroutine_fn writer_entry(void *opaque)
{
    Writer *w = opaque;

    w->ret = stage_co_capture(w->scene->stage, w->offset, w->bytes, &(BdrvOldData){0});
    w->ended_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    w->place = ends++;
}

static void coroutine_fn start(Writer *w, Scene *s, int64_t offset, int64_t bytes)
{
    *w = (Writer){.scene = s, .offset = offset, .bytes = bytes};
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(writer_entry, w));
    block_test_co_settle();
}

static void coroutine_fn test_only_what_is_touched_is_read_and_once(void)
{
    Writer w[3];
    Scene s;

    set_up(&s, &taking, 64, 0);
    test_ram_hold(s.source_bs, TEST_RAM_READ, 0, DISK_BYTES);
    for (int i = 0; i < 3; i++) {
        start(&w[i], &s, unit_of(1, 2) + 4000 + i, 100);
    }
    test_ram_release(s.source_bs);
    block_test_co_settle();
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(w[i].ended_ns, >, 0);
        g_assert_cmpint(w[i].ret, ==, 0);
    }
    g_assert_cmpuint(test_ram_counts(s.source_bs)->bytes_read, ==, 2 * UNIT);
    g_assert_cmpint(stage_next_cluster(s.stage, 0, CLUSTERS), ==, 1);
    g_assert_false(stage_covers(s.stage, 1, 2));
    capture(&s, 1, 16);
    g_assert_true(stage_covers(s.stage, 1, 2));
    g_assert_cmpuint(test_ram_counts(s.source_bs)->bytes_read, ==, CLUSTER);
    expect_taken(&s, 1, 16);
    g_assert_true(stage_is_empty(s.stage));
    tear_down(&s);
}

static void coroutine_fn test_the_last_unit_is_cut_by_the_end(void)
{
    Scene s;

    for (int scratch = 0; scratch < 2; scratch++) {
        set_up(&s, &taking, scratch ? 4 : 64, scratch * 2);
        g_assert_cmpint(
            stage_co_capture(s.stage, unit_of(CLUSTERS - 1, 0), CLUSTER, &(BdrvOldData){0}), ==, 0);
        overwrite(&s, unit_of(CLUSTERS - 1, 0), CLUSTER - 1000);
        g_assert_true(stage_covers(s.stage, CLUSTERS - 1, CLUSTERS));
        expect_taken(&s, CLUSTERS - 1, 16);
        tear_down(&s);
    }
}

/* G3 */
static void coroutine_fn test_a_capture_that_a_take_overtakes_is_thrown_away(void)
{
    StageStats stats;
    Writer w;
    Scene s;

    set_up(&s, &taking, 4, 0);
    test_ram_hold(s.source_bs, TEST_RAM_READ, 0, DISK_BYTES);
    start(&w, &s, unit_of(0, 0), UNIT);
    expect_taken(&s, 0, 0);
    test_ram_release(s.source_bs);
    block_test_co_settle();
    g_assert_cmpint(w.ret, ==, 0);
    g_assert_true(stage_is_empty(s.stage));
    stage_stats(s.stage, &stats);
    g_assert_cmpint(stats.ram_bytes, ==, 0);
    tear_down(&s);
}

/* A disk of large blocks, a target of large clusters: a segment holds whole units. */
static void coroutine_fn test_a_unit_is_no_larger_than_a_segment(void)
{
    BlockDriverState *bs = test_ram_new("source", 8 * MiB);
    Scene s = {.over = true};
    StageConfig config = {
        .length = 8 * MiB,
        .cluster_bytes = 4 * MiB,
        .ram_bytes = 8 * MiB,
        .ops = &taking,
        .opaque = &s,
    };

    test_ram_set_alignment(bs, 4 * MiB);
    config.source = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    s.stage = stage_new(&config);
    g_assert_cmpint(stage_unit_bytes(s.stage), ==, STAGE_SEGMENT_BYTES);
    stage_free(s.stage);
    block_test_co_user_free(config.source);
    bdrv_co_unref(bs);
}

/* As large as an option can say. */
static void coroutine_fn test_a_scratch_without_bounds_is_not_full(void)
{
    StageStats stats;
    Scene s;

    set_up(&s, &taking, 512, INT64_MAX / MiB);
    capture(&s, 0, 4);
    block_test_co_settle();
    stage_stats(s.stage, &stats);
    g_assert_cmpint(stats.scratch_limit, >, TiB);
    g_assert_cmpint(stats.ram_limit + stats.scratch_limit, >, stats.scratch_limit);
    g_assert_cmpuint(stage_percent(s.stage), ==, 0);
    expect_taken(&s, 0, 4);
    tear_down(&s);
}

/* G3: its old data is with the owner, whether there is room or not; nothing is to be broken for it. */
static void coroutine_fn test_a_write_whose_cluster_was_taken_waits_for_no_room(void)
{
    Writer w[2];
    Scene s;

    set_up(&s, &taking, 1, 0);
    capture(&s, 0, 1);
    start(&w[0], &s, unit_of(1, 0), UNIT);
    start(&w[1], &s, unit_of(2, 0), UNIT);
    expect_taken(&s, 2, 0);
    block_test_co_settle();
    g_assert_cmpint(w[0].ended_ns, ==, 0);
    g_assert_cmpint(w[1].ended_ns, >, 0);
    g_assert_cmpint(w[1].ret, ==, 0);
    expect_taken(&s, 0, 1);
    block_test_co_settle();
    g_assert_cmpint(w[0].ret, ==, 0);
    expect_taken(&s, 1, 1);
    tear_down(&s);
}

/* G3: what was read in vain was not needed; what was needed is read again. */
static void coroutine_fn test_old_data_that_was_taken_meanwhile_may_fail_to_be_read(void)
{
    Writer w[2];
    Scene s;

    set_up(&s, &taking, 64, 0);
    test_ram_hold(s.source_bs, TEST_RAM_READ, 0, DISK_BYTES);
    start(&w[0], &s, unit_of(0, 0), UNIT);
    start(&w[1], &s, unit_of(1, 15), 2 * UNIT);
    expect_taken(&s, 0, 0);
    expect_taken(&s, 1, 0);
    test_ram_set_error(s.source_bs, TEST_RAM_READ, 0, DISK_BYTES, EIO, 2);
    test_ram_release(s.source_bs);
    block_test_co_settle();
    g_assert_cmpint(w[0].ret, ==, 0);
    g_assert_cmpint(w[1].ended_ns, >, 0);
    g_assert_cmpint(w[1].ret, ==, 0);
    expect_taken(&s, 2, 1);
    tear_down(&s);
}

/* G4, G6: what is being spilled is taken, or dropped, and its slot is used again only when the spill has ended. */
static void coroutine_fn test_a_slot_being_spilled_is_not_used_again_before(void)
{
    for (int drop = 0; drop < 2; drop++) {
        StageStats stats;
        uint8_t buf[CLUSTER];
        Scene s;

        set_up(&s, &taking, 4, 2);
        test_ram_hold(s.scratch_bs, TEST_RAM_WRITE, 0, 2 * MiB);
        capture(&s, 0, 4);
        overwrite(&s, 0, 4 * UNIT);
        test_ram_co_wait_held(s.scratch_bs, 2);
        if (drop) {
            stage_drop_all(s.stage);
        } else {
            expect_taken(&s, 0, 4);
        }
        stage_stats(s.stage, &stats);
        g_assert_cmpint(stats.ram_bytes, ==, 2 * UNIT); /* two spills of one slot */
        capture(&s, 1, 2);
        test_ram_release(s.scratch_bs);
        block_test_co_settle();
        expect_taken(&s, 1, 2);
        if (drop) { /* nothing of it comes back from the scratch */
            g_assert_cmpint(take(&s, 0, buf), ==, 0);
            g_assert_cmpint(buf[0], ==, 'x');
        }
        tear_down(&s);
    }
}

/* G5: in turn, and one slot for one writer. */
static void coroutine_fn test_who_waits_for_room_gets_it_in_turn(void)
{
    Writer w[5];
    Scene s;

    set_up(&s, &taking, 1, 0);
    capture(&s, 0, 1);
    ends = 0;
    for (int i = 0; i < 5; i++) {
        start(&w[i], &s, unit_of(1 + i, 0), UNIT);
        g_assert_cmpint(w[i].ended_ns, ==, 0);
    }
    g_assert_true(stage_is_awaited(s.stage));
    for (int i = 0; i < 5; i++) {
        expect_taken(&s, i, 1);
        block_test_co_settle();
        for (int j = 0; j < 5; j++) {
            g_assert_cmpint(w[j].ended_ns > 0, ==, j <= i);
        }
        g_assert_cmpuint(w[i].place, ==, i);
    }
    g_assert_false(stage_is_awaited(s.stage));
    tear_down(&s);
}

static void coroutine_fn late_taker_entry(void *opaque)
{
    qemu_co_sleep_ns(SCALE_MS);
    expect_taken(opaque, 1, 1);
}

/* G5: nor does one who comes when the first has been called, and has not come yet. */
static void coroutine_fn test_nobody_takes_the_room_of_who_waits(void)
{
    Writer w;
    Scene s;

    set_up(&s, &taking, 1, 0);
    capture(&s, 0, 1);
    ends = 0;
    start(&w, &s, unit_of(1, 0), UNIT);
    expect_taken(&s, 0, 1); /* calls it */
    g_assert_cmpint(w.ended_ns, ==, 0);
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_create(late_taker_entry, &s));
    capture(&s, 2, 1);
    g_assert_cmpint(w.ended_ns, >, 0);
    tear_down(&s);
}

/* G5: one who writes much leaves room to who waits behind him. */
static void coroutine_fn test_a_large_write_does_not_take_all_room_from_others(void)
{
    Writer w[2];
    Scene s;

    set_up(&s, &taking, 4, 0);
    capture(&s, 0, 4);
    start(&w[0], &s, unit_of(1, 0), 16 * UNIT);
    start(&w[1], &s, unit_of(2, 0), UNIT);
    expect_taken(&s, 0, 4);
    block_test_co_settle();
    g_assert_cmpint(w[0].ended_ns, ==, 0);
    g_assert_cmpint(w[1].ended_ns, >, 0);
    s.over = true;
    stage_wake(s.stage);
    block_test_co_settle();
    tear_down(&s);
}

/* G6 */
static void coroutine_fn test_the_oldest_goes_to_the_scratch_first(void)
{
    Scene s;

    set_up(&s, &taking, 8, 1);
    for (int c = 0; c < 6; c++) {
        capture(&s, c, 1);
    }
    block_test_co_settle();
    for (int c = 0; c < 6; c++) {
        g_assert_cmpint(stage_find_slot(s.stage, c * 16) != NULL, ==, c >= 4); /* two spills */
    }
    tear_down(&s);
}

/* G5: a write of many units has one time to wait, not one for each. */
/* A spill follows another without a write: whoever watches how full the stage is hears of it all the same. */
static void coroutine_fn test_the_owner_is_told_of_room_that_a_spill_takes(void)
{
    StageStats stats;
    Scene s;

    set_up(&s, &taking, 512, 4);
    for (int64_t cluster = 0; cluster < CLUSTERS - 3; cluster += 3) {
        test_ram_hold(s.scratch_bs, TEST_RAM_WRITE, 0, 4 * MiB);
        for (int64_t c = cluster; c < cluster + 3; c++) {
            capture(&s, c, 16);
        }
        test_ram_release(s.scratch_bs);
        block_test_co_settle();
        stage_stats(s.stage, &stats);
        g_assert_cmpint(s.told_scratch, ==, stats.scratch_bytes);
    }
    g_assert_cmpint(stats.scratch_bytes, ==, 4 * MiB);
    tear_down(&s);
}

static void coroutine_fn test_a_write_waits_so_long_and_no_longer(void)
{
    int64_t begin = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    Writer w[2];
    Scene s;

    set_up(&s, &taking, 1, 0);
    capture(&s, 0, 1);
    start(&w[0], &s, unit_of(1, 0), 10 * CLUSTER);
    qemu_co_sleep_ns(WAIT_NS / 2);
    start(&w[1], &s, unit_of(20, 0), UNIT);
    expect_taken(&s, 0, 1); /* one of its many */
    qemu_co_sleep_ns(WAIT_NS * 2);
    g_assert_cmpint(w[0].ret, ==, -ETIMEDOUT);
    g_assert_cmpint(w[0].ended_ns - begin, <=, WAIT_NS + SCALE_MS);
    g_assert_cmpint(w[1].ret, ==, -ETIMEDOUT);
    g_assert_cmpint(w[1].ended_ns - begin, <=, WAIT_NS / 2 + WAIT_NS + SCALE_MS);
    tear_down(&s);
}

static void coroutine_fn test_an_owner_that_takes_nothing_is_told_that_room_is_gone(void)
{
    uint8_t buf[CLUSTER];
    Scene s;

    set_up(&s, &keeping, 4, 0);
    capture(&s, 0, 4);
    g_assert_cmpint(stage_co_capture(s.stage, unit_of(1, 0), UNIT, &(BdrvOldData){0}), ==, -ENOSPC);
    tear_down(&s);

    set_up(&s, &keeping, 4, 1);
    for (int i = 0; i < 16; i++) { /* the whole of the scratch */
        capture(&s, i, 16);
    }
    capture(&s, 16, 4);
    g_assert_cmpint(stage_co_capture(s.stage, unit_of(17, 0), UNIT, &(BdrvOldData){0}), ==,
                    -ENOSPC);
    overwrite(&s, 0, 18 * CLUSTER);
    for (int i = 0; i < 16; i++) {
        g_assert_cmpint(stage_co_read(s.stage, i * CLUSTER, CLUSTER, buf), ==, 0);
        g_assert_cmpmem(buf, CLUSTER, s.old + i * CLUSTER, CLUSTER);
    }
    tear_down(&s);
}

/* G6 */
static void coroutine_fn test_what_a_failing_scratch_has_not_taken_is_in_memory(void)
{
    static const int errors[] = {EIO, ENOSPC};

    for (int i = 0; i < 2; i++) {
        StageStats stats;
        Writer w;
        Scene s;

        set_up(&s, &taking, 16, 4);
        if (errors[i] == ENOSPC) {
            test_ram_set_capacity(s.scratch_bs, 40 * UNIT);
        } else {
            test_ram_set_error(s.scratch_bs, TEST_RAM_WRITE, 40 * UNIT, UNIT, EIO, 1);
        }
        start(&w, &s, 0, 4 * CLUSTER);
        g_assert_cmpint(w.ended_ns, ==, 0); /* room is gone */
        stage_stats(s.stage, &stats);
        g_assert_cmpint(stats.scratch_error, ==, -errors[i]);
        g_assert_cmpint(stats.ram_bytes, ==, 16 * UNIT);
        overwrite(&s, 0, 3 * CLUSTER);
        test_ram_reset_counts(s.scratch_bs);
        for (int c = 0; c < 4; c++) {
            uint8_t buf[CLUSTER];
            int64_t have = 0;

            while (have < 16 && stage_find_slot(s.stage, c * 16 + have)) {
                have++;
            }
            g_assert_cmpint(take(&s, c, buf), ==, 0);
            if (c < 3) {
                g_assert_cmpmem(buf, CLUSTER, s.old + c * CLUSTER, CLUSTER);
            }
            block_test_co_settle();
        }
        g_assert_cmpint(w.ret, ==, 0);
        g_assert_cmpuint(test_ram_counts(s.scratch_bs)->writes, ==, 0); /* asked no more */
        tear_down(&s);
    }
}

static void coroutine_fn test_a_scratch_that_cannot_be_read_says_so_to_who_takes(void)
{
    uint8_t buf[CLUSTER];
    Scene s;

    set_up(&s, &taking, 4, 1);
    capture(&s, 0, 16);
    block_test_co_settle();
    test_ram_set_error(s.scratch_bs, TEST_RAM_READ, 0, 1 * MiB, EIO, 1);
    g_assert_cmpint(take(&s, 0, buf), ==, -EIO);
    tear_down(&s);

    set_up(&s, &keeping, 4, 1);
    capture(&s, 0, 16);
    block_test_co_settle();
    test_ram_set_error(s.scratch_bs, TEST_RAM_READ, 0, 1 * MiB, EIO, 1);
    g_assert_cmpint(stage_co_read(s.stage, 0, CLUSTER, buf), ==, -EIO);
    tear_down(&s);
}

/* G7: a scratch of two segments serves any number of them, one after another, each made a hole before. */
static void coroutine_fn test_a_segment_is_a_hole_before_it_is_used_again(void)
{
    StageStats stats;
    Scene s;

    set_up(&s, &taking, 4, 2);
    for (int round = 0; round < 8; round++) {
        for (int c = 0; c < 20; c++) {
            s.safe[c] = false;
            capture(&s, c, 16);
        }
        block_test_co_settle();
        stage_stats(s.stage, &stats);
        g_assert_cmpint(stats.scratch_bytes, <=, 2 * MiB);
        test_ram_hold(s.scratch_bs, TEST_RAM_DISCARD, 0, 2 * MiB);
        for (int c = 0; c < 20; c++) {
            expect_taken(&s, c, 16);
        }
        block_test_co_settle();
        g_assert_cmpuint(test_ram_held(s.scratch_bs), >, 0);
        test_ram_release(s.scratch_bs);
        block_test_co_settle();
    }
    g_assert_cmpuint(test_ram_counts(s.scratch_bs)->discards, >=, 8);
    g_assert_cmpint(test_ram_allocated(s.scratch_bs), <=, 1 * MiB); /* what is being filled */
    tear_down(&s);
}

/* G7: the hole that comes late does not land in what was put there since. */
static void coroutine_fn test_a_hole_that_takes_long_hurts_nobody(void)
{
    Scene s;

    set_up(&s, &taking, 4, 4);
    test_ram_hold(s.scratch_bs, TEST_RAM_DISCARD, 0, 4 * MiB);
    for (int c = 0; c < 40; c++) {
        capture(&s, c, 16);
    }
    for (int c = 0; c < 32; c++) {
        expect_taken(&s, c, 16);
    }
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(s.scratch_bs), >, 0);
    for (int c = 40; c < 60; c++) {
        capture(&s, c, 16);
    }
    test_ram_release(s.scratch_bs);
    block_test_co_settle();
    for (int c = 32; c < 60; c++) {
        expect_taken(&s, c, 16);
    }
    tear_down(&s);
}

static void coroutine_fn test_a_read_that_fails_stages_nothing(void)
{
    StageStats stats;
    Writer w;
    Scene s;

    set_up(&s, &taking, 64, 0);
    test_ram_hold(s.source_bs, TEST_RAM_READ, 0, DISK_BYTES);
    test_ram_set_error(s.source_bs, TEST_RAM_READ, unit_of(0, 1), UNIT, EIO, 1);
    start(&w, &s, 0, 4 * UNIT);
    test_ram_release(s.source_bs);
    block_test_co_settle();
    g_assert_cmpint(w.ret, ==, -EIO);
    g_assert_true(stage_is_empty(s.stage));
    stage_stats(s.stage, &stats);
    g_assert_cmpint(stats.ram_bytes, ==, 0);
    capture(&s, 0, 4); /* it was once */
    expect_taken(&s, 0, 4);
    tear_down(&s);
}

static void coroutine_fn test_who_waits_goes_on_when_the_owner_is_over(void)
{
    Writer w[5];
    Scene s;

    set_up(&s, &taking, 1, 0);
    capture(&s, 0, 1);
    for (int i = 0; i < 5; i++) {
        start(&w[i], &s, unit_of(1 + i, 0), 3 * CLUSTER);
    }
    s.over = true;
    stage_wake(s.stage);
    block_test_co_settle();
    for (int i = 0; i < 5; i++) {
        g_assert_cmpint(w[i].ended_ns, >, 0);
        g_assert_cmpint(w[i].ret, ==, 0);
    }
    tear_down(&s);
}

/* Two that copy the same disk: the second has what the first has read, and only that. */
static void coroutine_fn test_what_another_has_read_is_not_read_again(void)
{
    BdrvOldData old = {.wanted = true};
    Scene s;

    set_up(&s, &keeping, 64, 0);
    g_assert_cmpint(stage_co_capture(s.stage, unit_of(2, 1), 2 * UNIT, &old), ==, 0);
    g_assert_cmpint(old.offset, ==, unit_of(2, 1));
    g_assert_cmpmem(old.buf, old.bytes, s.old + unit_of(2, 1), 2 * UNIT);
    old.offset = unit_of(1, 1);      /* as if another had read it there, */
    memset(old.buf, 'o', old.bytes); /* and to be told from the disk's */
    test_ram_reset_counts(s.source_bs);
    g_assert_cmpint(stage_co_capture(s.stage, unit_of(1, 2), UNIT, &old), ==, 0);
    g_assert_cmpuint(test_ram_counts(s.source_bs)->reads, ==, 0);
    memset(s.old + unit_of(1, 2), 'o', UNIT);
    g_assert_cmpint(stage_co_capture(s.stage, unit_of(1, 2), 2 * UNIT, &old), ==, 0);
    g_assert_cmpuint(test_ram_counts(s.source_bs)->reads, ==, 1); /* the second of them */
    g_assert_cmpint(old.offset, ==, unit_of(1, 3));
    g_assert_cmpint(stage_co_capture(s.stage, unit_of(1, 0), UNIT, &(BdrvOldData){0}), ==, 0);
    g_assert_cmpint(stage_co_capture(s.stage, unit_of(1, 1), UNIT, &old), ==, 0);
    g_assert_cmpuint(test_ram_counts(s.source_bs)->reads, ==, 3);
    expect_taken(&s, 1, 4);
    g_free(old.buf);
    tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/copy/stage/what another has read is not read again",
                   test_what_another_has_read_is_not_read_again);
    block_test_add("/copy/stage/a unit is no larger than a segment",
                   test_a_unit_is_no_larger_than_a_segment);
    block_test_add("/copy/stage/a scratch without bounds is not full",
                   test_a_scratch_without_bounds_is_not_full);
    block_test_add("/copy/stage/a write whose cluster was taken waits for no room",
                   test_a_write_whose_cluster_was_taken_waits_for_no_room);
    block_test_add("/copy/stage/old data that was taken meanwhile may fail to be read",
                   test_old_data_that_was_taken_meanwhile_may_fail_to_be_read);
    block_test_add("/copy/stage/only what is touched is read and once",
                   test_only_what_is_touched_is_read_and_once);
    block_test_add("/copy/stage/the last unit is cut by the end",
                   test_the_last_unit_is_cut_by_the_end);
    block_test_add("/copy/stage/a capture that a take overtakes is thrown away",
                   test_a_capture_that_a_take_overtakes_is_thrown_away);
    block_test_add("/copy/stage/a slot being spilled is not used again before",
                   test_a_slot_being_spilled_is_not_used_again_before);
    block_test_add("/copy/stage/who waits for room gets it in turn",
                   test_who_waits_for_room_gets_it_in_turn);
    block_test_add("/copy/stage/nobody takes the room of who waits",
                   test_nobody_takes_the_room_of_who_waits);
    block_test_add("/copy/stage/a large write does not take all room from others",
                   test_a_large_write_does_not_take_all_room_from_others);
    block_test_add("/copy/stage/the oldest goes to the scratch first",
                   test_the_oldest_goes_to_the_scratch_first);
    block_test_add("/copy/stage/the owner is told of room that a spill takes",
                   test_the_owner_is_told_of_room_that_a_spill_takes);
    block_test_add("/copy/stage/a write waits so long and no longer",
                   test_a_write_waits_so_long_and_no_longer);
    block_test_add("/copy/stage/an owner that takes nothing is told that room is gone",
                   test_an_owner_that_takes_nothing_is_told_that_room_is_gone);
    block_test_add("/copy/stage/what a failing scratch has not taken is in memory",
                   test_what_a_failing_scratch_has_not_taken_is_in_memory);
    block_test_add("/copy/stage/a scratch that cannot be read says so to who takes",
                   test_a_scratch_that_cannot_be_read_says_so_to_who_takes);
    block_test_add("/copy/stage/a segment is a hole before it is used again",
                   test_a_segment_is_a_hole_before_it_is_used_again);
    block_test_add("/copy/stage/a hole that takes long hurts nobody",
                   test_a_hole_that_takes_long_hurts_nobody);
    block_test_add("/copy/stage/a read that fails stages nothing",
                   test_a_read_that_fails_stages_nothing);
    block_test_add("/copy/stage/who waits goes on when the owner is over",
                   test_who_waits_goes_on_when_the_owner_is_over);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
