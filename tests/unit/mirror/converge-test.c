/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mirror comes to its end whatever guests write, and says what keeps it from it (R1 to R4 of rate.c). */
#include <errno.h>
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (8 * MiB)
#define SECONDS(n) (INT64_C(n) * NANOSECONDS_PER_SECOND)

typedef struct Flood {
    BdrvChild *user;
    GRand *rand;
    int64_t pause_ns, longest_ns;
    unsigned running;
    bool stop;
} Flood;

static void coroutine_fn flood_entry(void *opaque)
{
    Flood *f = opaque;
    uint8_t buf[4096];

    while (!f->stop) {
        int64_t offset = g_rand_int_range(f->rand, 0, DISK_BYTES / 4096) * INT64_C(4096);
        int64_t start;

        memset(buf, g_rand_int_range(f->rand, 0, 256), sizeof(buf));
        while (block_test_user_drained(f->user) > 0) {
            qemu_co_sleep_ns(1000);
        }
        start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        g_assert_cmpint(bdrv_co_pwrite(f->user, offset, sizeof(buf), buf, 0), ==, 0);
        f->longest_ns = MAX(f->longest_ns, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start);
        qemu_co_sleep_ns(f->pause_ns);
    }
    f->running--;
}

static void flood_begin(Flood *f, Scene *s, unsigned n, int64_t pause_ns)
{
    *f = (Flood){.user = s->user, .rand = g_rand_new_with_seed(1), .pause_ns = pause_ns};
    for (f->running = 0; f->running < n; f->running++) {
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(flood_entry, f));
    }
}

static void coroutine_fn flood_end(Flood *f)
{
    f->stop = true;
    while (f->running > 0) {
        qemu_co_sleep_ns(1000);
    }
    g_rand_free(f->rand);
}

static BlockJobInfo *query(Scene *s)
{
    return block_job_query(s->job);
}

static void coroutine_fn wait_write_through(Scene *s, bool on)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + SECONDS(60);
    bool is;

    do {
        g_autoptr(BlockJobInfo) info = query(s);

        is = info->u.mirror.write_through;
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        qemu_co_sleep_ns(10 * SCALE_MS);
    } while (is != on);
}

/* R1: the target takes a few thousand small writes a second, guests make many more. */
static void coroutine_fn test_a_flood_goes_through_and_the_mirror_comes_to_its_end(void)
{
    int64_t start;
    Flood flood;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_set_delay(s.source, TEST_RAM_ALL_IO, 10000);
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 10 * SCALE_MS);
    flood_begin(&flood, &s, 16, 100000);
    start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    scene_start(&s);
    wait_write_through(&s, true);
    scene_wait_ready(&s);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, SECONDS(30));
    g_assert_cmpint(flood.longest_ns, <, 100 * SCALE_MS);
    flood.pause_ns = SECONDS(1); /* they write less, and are in the background again */
    wait_write_through(&s, false);
    flood.pause_ns = 100000;
    qemu_co_sleep_ns(SECONDS(2));
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    flood_end(&flood);
    scene_tear_down(&s);
}

/* TH2, TH3: a target that hangs while guests' writes go through it. */
static void coroutine_fn test_a_target_that_hangs_keeps_no_guest_long(void)
{
    Flood flood;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_set_delay(s.source, TEST_RAM_ALL_IO, 10000);
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 10 * SCALE_MS);
    flood_begin(&flood, &s, 16, 100000);
    scene_watch_target(&s, 64 * KiB);
    scene_start(&s);
    wait_write_through(&s, true);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    flood.longest_ns = 0;
    qemu_co_sleep_ns(SECONDS(5));
    g_assert_cmpint(flood.longest_ns, <, 100 * SCALE_MS);
    {
        g_autoptr(BlockJobInfo) info = query(&s);

        g_assert_false(info->u.mirror.write_through);
    }
    test_ram_release(s.target);
    scene_wait_ready(&s);
    flood_end(&flood);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

static void coroutine_fn test_a_cancel_ends_while_writes_go_through_a_target_that_hangs(void)
{
    Flood flood;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_set_delay(s.source, TEST_RAM_ALL_IO, 10000);
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 10 * SCALE_MS);
    flood_begin(&flood, &s, 16, 100000);
    scene_start(&s);
    wait_write_through(&s, true);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
    qemu_co_sleep_ns(20 * SCALE_MS);
    job_user_cancel(&s.job->job, true, &error_abort);
    qemu_co_sleep_ns(SECONDS(1));
    test_ram_release(s.target);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
    flood_end(&flood);
    scene_tear_down(&s);
}

/* What converges by itself stays in the background: nobody waits for the target. */
static void coroutine_fn test_a_trickle_stays_in_the_background(void)
{
    Flood flood;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 3 * SCALE_MS);
    flood_begin(&flood, &s, 1, 5 * SCALE_MS);
    scene_start(&s);
    scene_wait_ready(&s);
    qemu_co_sleep_ns(SECONDS(5));
    g_assert_cmpint(flood.longest_ns, <, SCALE_MS);
    {
        g_autoptr(BlockJobInfo) info = query(&s);

        g_assert_false(info->u.mirror.write_through);
        g_assert_null(info->u.mirror.not_converging);
        g_assert_cmpint(info->u.mirror.copy_rate, >, 0);
        g_assert_cmpint(info->u.mirror.dirty_rate, >, 0);
        g_assert_cmpint(info->u.mirror.dirty, <, MiB);
    }
    flood_end(&flood);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_tear_down(&s);
}

/* R3: latency alone is no queue. */
static void coroutine_fn test_a_far_target_is_kept_busy(void)
{
    Scene s;

    scene_set_up(&s, 256 * MiB);
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 100 * SCALE_MS);
    scene_start(&s);
    scene_wait_ready(&s);
    g_assert_cmpuint(test_ram_counts(s.target)->in_flight_max, >=, 12);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_tear_down(&s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/converge/a flood goes through and the mirror comes to its end",
                   test_a_flood_goes_through_and_the_mirror_comes_to_its_end);
    block_test_add("/mirror/converge/a target that hangs keeps no guest long",
                   test_a_target_that_hangs_keeps_no_guest_long);
    block_test_add("/mirror/converge/a cancel ends while writes go through a target that hangs",
                   test_a_cancel_ends_while_writes_go_through_a_target_that_hangs);
    block_test_add("/mirror/converge/a trickle stays in the background",
                   test_a_trickle_stays_in_the_background);
    block_test_add("/mirror/converge/a far target is kept busy", test_a_far_target_is_kept_busy);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
