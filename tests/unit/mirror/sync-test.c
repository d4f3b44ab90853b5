/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a mirror copies, by sync mode, and what it leaves alone; targets with clusters and backing files (M5). */
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (3 * MiB + 512)
#define CLUSTER    (64 * KiB)

static void coroutine_fn settle_writers(Scene *s)
{
    scene_stop_writers(s);
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_before(s->writers[i]);
        story_writer_after(s->writers[i]);
    }
}

static void coroutine_fn finish(Scene *s, bool pivot)
{
    scene_wait_ready(s);
    qemu_co_sleep_ns(2 * SCALE_MS);
    if (pivot) {
        scene_complete(s);
    } else {
        job_user_cancel(&s->job->job, false, &error_abort);
    }
    g_assert_cmpint(scene_wait_end(s), ==, 0);
}

/* base <- source, written here and there; and a target that will rest on base, now or at the end. */
static BlockDriverState *coroutine_fn set_up_chain(Scene *s, int64_t target_cluster, bool late,
                                                   MirrorSyncMode sync)
{
    BlockDriverState *base = test_ram_new("base", DISK_BYTES), *source;
    BlockDriverState *rest;

    test_ram_poke_pattern(base, 0, DISK_BYTES, 9);
    source = test_cow_new("source", DISK_BYTES, 16 * KiB, base);
    rest = sync == MIRROR_SYNC_MODE_NONE ? source : base;
    scene_use(s, source, test_cow_new("target", DISK_BYTES, target_cluster, late ? NULL : rest));
    s->args.sync = sync;
    s->args.target_backing = late ? rest : NULL;
    block_test_co_fill(s->user, 100 * KiB, 300 * KiB, 'a');
    block_test_co_fill(s->user, 1 * MiB + 512, 512, 'b');
    g_assert_cmpint(bdrv_co_pwrite_zeroes(s->user, 2 * MiB, 128 * KiB, 0), ==, 0);
    return base;
}

/* Every mode, with writers, and granularities below and above the target's clusters. */
static void coroutine_fn chain_story(MirrorSyncMode sync, bool late, MirrorCopyMode mode,
                                     int64_t granularity, bool pivot, uint32_t seed)
{
    BlockDriverState *base;
    uint8_t *before, *after;
    Scene s;

    base = set_up_chain(&s, CLUSTER, late, sync);
    s.args.granularity = granularity;
    s.args.copy_mode = mode;
    test_ram_set_delay(base, TEST_RAM_READ, 50000);
    scene_start_writers(&s, SCENE_WRITERS, seed);
    scene_start(&s);
    finish(&s, pivot);
    settle_writers(&s);
    scene_check_writers(&s, s.user->bs);
    if (pivot) {
        g_assert_true(s.user->bs == s.target);
        g_assert_true(child_bs(s.target->backing) ==
                      (sync == MIRROR_SYNC_MODE_NONE ? s.source : base));
    }
    if (!pivot && sync == MIRROR_SYNC_MODE_TOP && !late) {
        /* once more, with nobody writing: both show the same */
        before = story_co_read_all(s.source);
        scene_start(&s);
        finish(&s, false);
        after = story_co_read_all(s.target);
        g_assert_cmpmem(before, DISK_BYTES, after, DISK_BYTES);
        g_free(before);
        g_free(after);
    }
    scene_tear_down(&s);
    bdrv_co_unref(base);
}

static void coroutine_fn chain_stories(MirrorSyncMode sync, bool late)
{
    static const int64_t granularities[] = {4 * KiB, 16 * KiB, CLUSTER, 256 * KiB};
    uint32_t seed = block_test_seed();

    for (unsigned i = 0; i < story_seeds(3); i++) {
        for (size_t g = 0; g < ARRAY_SIZE(granularities); g++) {
            for (int mode = 0; mode < 2; mode++) {
                g_test_message("seed %u granularity %d mode %d", seed + i, (int)granularities[g],
                               mode);
                chain_story(sync, late, mode, granularities[g], true, seed + i);
                if (!late && sync == MIRROR_SYNC_MODE_TOP) {
                    chain_story(sync, late, mode, granularities[g], false, seed + i);
                }
            }
        }
    }
}

static void coroutine_fn test_top_copies_the_overlay_onto_the_same_base(void)
{
    chain_stories(MIRROR_SYNC_MODE_TOP, false);
}

/* M5 */
static void coroutine_fn test_top_copies_whole_clusters_when_the_base_comes_at_the_end(void)
{
    chain_stories(MIRROR_SYNC_MODE_TOP, true);
}

static void coroutine_fn test_none_copies_only_what_is_written(void)
{
    chain_stories(MIRROR_SYNC_MODE_NONE, false);
}

static void coroutine_fn test_none_with_the_source_as_base_at_the_end(void)
{
    chain_stories(MIRROR_SYNC_MODE_NONE, true);
}

static void coroutine_fn test_what_the_base_has_is_not_copied(void)
{
    BlockDriverState *base;
    Scene s;

    base = set_up_chain(&s, 16 * KiB, false, MIRROR_SYNC_MODE_TOP);
    scene_start(&s);
    finish(&s, false);
    scene_expect_equal(&s);
    g_assert_false(test_cow_is_allocated(s.target, 0));
    g_assert_false(test_cow_is_allocated(s.target, 2 * MiB + 256 * KiB));
    g_assert_true(test_cow_is_allocated(s.target, 200 * KiB));
    g_assert_true(test_cow_is_allocated(s.target, 2 * MiB)); /* zeros hide what the base has */
    scene_tear_down(&s);
    bdrv_co_unref(base);
}

static void coroutine_fn test_a_full_mirror_of_a_chain_needs_no_base(void)
{
    BlockDriverState *base = test_ram_new("base", DISK_BYTES);
    Scene s;

    test_ram_poke_pattern(base, 0, DISK_BYTES, 9);
    scene_use(&s, test_cow_new("source", DISK_BYTES, CLUSTER, base),
              test_cow_new("target", DISK_BYTES, CLUSTER, NULL));
    s.args.granularity = 4096;
    scene_start_writers(&s, 2, 5);
    scene_start(&s);
    finish(&s, true);
    settle_writers(&s);
    scene_check_writers(&s, s.target);
    scene_tear_down(&s);
    bdrv_co_unref(base);
}

static void coroutine_fn test_zeros_are_not_written_where_the_target_has_them(void)
{
    for (int known = 0; known < 2; known++) {
        Scene s;

        scene_use(&s, test_ram_new("source", 64 * MiB), test_ram_new("target", 64 * MiB));
        s.args.target_is_zero = known;
        block_test_co_fill(s.user, 10 * MiB, 1 * MiB, 'd');
        test_ram_reset_counts(s.source);
        scene_start(&s);
        finish(&s, false);
        g_assert_cmpuint(test_ram_counts(s.target)->zeroes, ==, 0);
        g_assert_cmpuint(test_ram_counts(s.target)->bytes_written, ==, 1 * MiB);
        g_assert_cmpuint(test_ram_counts(s.source)->bytes_read, ==, 1 * MiB);
        scene_expect_equal(&s);
        scene_tear_down(&s);
    }
}

static void coroutine_fn test_zeros_replace_what_the_target_held(void)
{
    Scene s;

    scene_use(&s, test_ram_new("source", 64 * MiB), test_ram_new("target", 64 * MiB));
    test_ram_poke_pattern(s.target, 0, 64 * MiB, 3);
    block_test_co_fill(s.user, 10 * MiB, 100000, 'd');
    test_ram_reset_counts(s.source);
    scene_start(&s);
    scene_wait_ready(&s);
    g_assert_cmpuint(test_ram_counts(s.source)->bytes_read, <, 1 * MiB);
    g_assert_cmpuint(test_ram_counts(s.target)->bytes_written, <, 1 * MiB);
    finish(&s, false);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

static void coroutine_fn test_an_empty_disk_of_8_tib_is_ready_at_once(void)
{
    int64_t start = g_get_monotonic_time();
    Scene s;

    scene_use(&s, test_ram_new("source", INT64_C(8) << 40),
              test_ram_new("target", INT64_C(8) << 40));
    scene_start(&s);
    scene_wait_ready(&s);
    block_test_co_fill(s.user, INT64_C(5) << 40, 4096, 'n');
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    block_test_co_expect(s.user, INT64_C(5) << 40, 4096, 'n');
    g_assert_cmpint(g_get_monotonic_time() - start, <, 1000000);
    scene_tear_down(&s);
}

static void coroutine_fn test_a_bitmap_says_what_is_copied_and_stays_as_it_is(void)
{
    BdrvDirtyBitmap *bitmap;
    g_autofree uint8_t *old = g_malloc(DISK_BYTES);
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    bitmap = bdrv_create_dirty_bitmap(s.source, 4096, "b", &error_abort);
    test_ram_peek(s.source, 0, old, DISK_BYTES);
    test_ram_poke(s.target, 0, old, DISK_BYTES);
    block_test_co_fill(s.user, 500000, 100000, 'b');
    s.args.sync = MIRROR_SYNC_MODE_BITMAP;
    s.args.sync_bitmap = bitmap;
    s.args.granularity = 4096;
    scene_start(&s);
    scene_wait_ready(&s);
    g_assert_cmpuint(test_ram_counts(s.target)->bytes_written, <, 110000);
    scene_expect_equal(&s);
    finish(&s, false);
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), >=, 100000);
    bdrv_release_dirty_bitmap(bitmap);
    scene_tear_down(&s);
}

/* A 4 KiB write in step does not copy its chunk again. */
static void coroutine_fn test_a_small_write_in_step_copies_little(void)
{
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.granularity = MiB;
    scene_start(&s);
    scene_wait_ready(&s);
    test_ram_reset_counts(s.target);
    block_test_co_fill(s.user, 1 * MiB + 64 * KiB, 4096, 's');
    finish(&s, false);
    g_assert_cmpuint(test_ram_counts(s.target)->bytes_written, <=, 16 * KiB);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

/* Write-blocking: what the guest was told is on the target at that moment. */
static void coroutine_fn test_a_blocking_write_is_on_the_target_when_it_is_done(void)
{
    uint8_t buf[8192], want[8192];
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
    scene_start(&s);
    scene_wait_ready(&s);
    for (int i = 0; i < 50; i++) {
        memset(want, i + 1, sizeof(want));
        block_test_co_fill(s.user, 5000 * i, 8192, i + 1);
        test_ram_peek(s.target, 5000 * i, buf, sizeof(buf));
        g_assert_cmpmem(buf, sizeof(buf), want, sizeof(want));
    }
    g_assert_cmpint(bdrv_co_pwrite_zeroes(s.user, 1 * MiB, 100 * KiB, BDRV_REQ_MAY_UNMAP), ==, 0);
    scene_expect_equal(&s);
    finish(&s, true);
    scene_tear_down(&s);
}

/* T1: while one write is on its way to the target another changes the same place in the source. */
static void coroutine_fn test_a_write_that_is_overtaken_is_copied_again(void)
{
    BlockTestRequest *write;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
    scene_start(&s);
    scene_wait_ready(&s);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 64 * KiB, 8192, 'b');
    test_ram_co_wait_held(s.target, 1);
    mirror_change_copy_mode(s.job, MIRROR_COPY_MODE_BACKGROUND, &error_abort);
    block_test_co_fill(s.user, 64 * KiB + 4096, 8192, 'a');
    test_ram_release(s.target);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    finish(&s, false);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/sync/top copies the overlay onto the same base",
                   test_top_copies_the_overlay_onto_the_same_base);
    block_test_add("/mirror/sync/top copies whole clusters when the base comes at the end",
                   test_top_copies_whole_clusters_when_the_base_comes_at_the_end);
    block_test_add("/mirror/sync/none copies only what is written",
                   test_none_copies_only_what_is_written);
    block_test_add("/mirror/sync/none with the source as base at the end",
                   test_none_with_the_source_as_base_at_the_end);
    block_test_add("/mirror/sync/what the base has is not copied",
                   test_what_the_base_has_is_not_copied);
    block_test_add("/mirror/sync/a full mirror of a chain needs no base",
                   test_a_full_mirror_of_a_chain_needs_no_base);
    block_test_add("/mirror/sync/zeros are not written where the target has them",
                   test_zeros_are_not_written_where_the_target_has_them);
    block_test_add("/mirror/sync/zeros replace what the target held",
                   test_zeros_replace_what_the_target_held);
    block_test_add("/mirror/sync/an empty disk of 8 TiB is ready at once",
                   test_an_empty_disk_of_8_tib_is_ready_at_once);
    block_test_add("/mirror/sync/a bitmap says what is copied and stays as it is",
                   test_a_bitmap_says_what_is_copied_and_stays_as_it_is);
    block_test_add("/mirror/sync/a small write in step copies little",
                   test_a_small_write_in_step_copies_little);
    block_test_add("/mirror/sync/a write that is overtaken is copied again",
                   test_a_write_that_is_overtaken_is_copied_again);
    block_test_add("/mirror/sync/a blocking write is on the target when it is done",
                   test_a_blocking_write_is_on_the_target_when_it_is_done);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
