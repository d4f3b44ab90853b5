/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mirror comes to its end whatever guests write, and says what keeps it from it (R1 to R8 of rate.c). */
#include <errno.h>
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (8 * MiB)
#define SECONDS(n) (INT64_C(n) * NANOSECONDS_PER_SECOND)

/* Longer than a write takes that does not wait for the target. */
#define WAITED_NS (2 * SCALE_MS)

typedef struct Flood {
    BdrvChild *user;
    GRand *rand;
    int64_t start, bytes;
    int64_t pause_ns, longest_ns;
    unsigned writes, waited;
    unsigned running;
    bool stop;
} Flood;

static void coroutine_fn flood_entry(void *opaque)
{
    Flood *f = opaque;
    uint8_t buf[4096];

    while (!f->stop) {
        int64_t offset = f->start + g_rand_int_range(f->rand, 0, f->bytes / 4096) * INT64_C(4096);
        int64_t start, took;

        memset(buf, g_rand_int_range(f->rand, 0, 256), sizeof(buf));
        while (block_test_user_drained(f->user) > 0) {
            qemu_co_sleep_ns(1000);
        }
        start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        g_assert_cmpint(bdrv_co_pwrite(f->user, offset, sizeof(buf), buf, 0), ==, 0);
        took = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start;
        f->longest_ns = MAX(f->longest_ns, took);
        f->writes++;
        f->waited += took >= WAITED_NS;
        qemu_co_sleep_ns(f->pause_ns);
    }
    f->running--;
}

static void flood_part(Flood *f, Scene *s, unsigned n, int64_t pause_ns, int64_t start,
                       int64_t bytes)
{
    *f = (Flood){.user = s->user,
                 .rand = g_rand_new_with_seed(1),
                 .pause_ns = pause_ns,
                 .start = start,
                 .bytes = bytes};
    for (f->running = 0; f->running < n; f->running++) {
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(flood_entry, f));
    }
}

static void flood_begin(Flood *f, Scene *s, unsigned n, int64_t pause_ns)
{
    flood_part(f, s, n, pause_ns, 0, s->len);
}

static void flood_count_anew(Flood *f)
{
    f->longest_ns = 0;
    f->writes = f->waited = 0;
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
    {
        g_autoptr(BlockJobInfo) info = query(&s);

        g_assert_cmpint(info->u.mirror.write_through_bytes, ==,
                        DISK_BYTES); /* less is not enough */
    }
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

#define HOT_DISK  (64 * MiB)
#define HOT_START (5 * MiB)

/* A guest that hammers 1 MiB faster than the target takes it, and writes elsewhere once in a while. */
typedef struct Hammer {
    Flood hot, rare;
} Hammer;

static void coroutine_fn hammer_set_up(Hammer *h, Scene *s, int64_t granularity)
{
    scene_set_up(s, HOT_DISK);
    test_ram_set_delay(s->source, TEST_RAM_ALL_IO, 10000);
    test_ram_set_delay(s->target, TEST_RAM_ALL_IO, 10 * SCALE_MS);
    s->args.granularity =
        granularity; /* and buffers for 256 KiB: a hundredth of a second's copying */
    s->args.buf_size = 256 * KiB;
    flood_part(&h->hot, s, 16, 300000, HOT_START, MiB);
    flood_part(&h->rare, s, 1, 20 * SCALE_MS, 8 * MiB, HOT_DISK - 8 * MiB);
}

/* R5 */
static void coroutine_fn hammer_with(int64_t granularity)
{
    unsigned through = 0;
    Hammer h;
    Scene s;

    hammer_set_up(&h, &s, granularity);
    scene_start(&s);
    wait_write_through(&s, true);
    scene_wait_ready(&s);
    flood_count_anew(&h.hot);
    for (int i = 0; i < 300; i++) {
        g_autoptr(BlockJobInfo) info = query(&s);

        through += info->u.mirror.write_through;
        g_assert_true(info->u.mirror.write_through == (info->u.mirror.write_through_bytes > 0));
        g_assert_cmpint(info->u.mirror.write_through_bytes, <=, 2 * MiB);
        qemu_co_sleep_ns(100 * SCALE_MS);
    }
    g_assert_cmpuint(through, >, 250); /* R8 */
    g_assert_cmpuint(h.rare.waited, ==, 0);
    g_assert_cmpuint(h.hot.waited, >, 1000);
    g_assert_cmpint(h.hot.longest_ns, <, granularity == 4 * KiB ? 100 * SCALE_MS : SECONDS(1));
    h.hot.pause_ns = SECONDS(1);
    wait_write_through(&s, false);
    qemu_co_sleep_ns(SECONDS(1)); /* what waited then has ended */
    flood_count_anew(&h.hot);
    qemu_co_sleep_ns(SECONDS(5));
    g_assert_cmpuint(h.hot.waited + h.rare.waited, ==, 0);
    h.hot.pause_ns = 300000;
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    flood_end(&h.hot);
    flood_end(&h.rare);
    scene_tear_down(&s);
}

static void coroutine_fn test_only_writes_to_what_is_hot_wait_for_the_target(void)
{
    hammer_with(4 * KiB);
    hammer_with(64 * KiB);
}

static void coroutine_fn test_guests_that_fall_silent_are_in_the_background_again(void)
{
    Hammer h;
    Scene s;

    hammer_set_up(&h, &s, 4 * KiB);
    scene_start(&s);
    wait_write_through(&s, true);
    flood_end(&h.hot);
    flood_end(&h.rare);
    wait_write_through(&s, false);
    scene_wait_ready(&s);
    flood_part(&h.rare, &s, 1, 20 * SCALE_MS, HOT_START, MiB);
    qemu_co_sleep_ns(SECONDS(1));
    g_assert_cmpuint(h.rare.waited, ==, 0);
    flood_end(&h.rare);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_tear_down(&s);
}

static void coroutine_fn test_the_mode_may_change_while_what_is_hot_goes_through(void)
{
    Hammer h;
    Scene s;

    hammer_set_up(&h, &s, 4 * KiB);
    scene_watch_target(&s, 4 * KiB);
    scene_start(&s);
    for (int i = 0; i < 3; i++) {
        wait_write_through(&s, true);
        mirror_change_copy_mode(s.job, MIRROR_COPY_MODE_WRITE_BLOCKING, &error_abort);
        wait_write_through(&s, false);
        flood_count_anew(&h.rare);
        qemu_co_sleep_ns(SECONDS(1));
        g_assert_cmpuint(h.rare.waited, >=, h.rare.writes - 1);
        mirror_change_copy_mode(s.job, MIRROR_COPY_MODE_BACKGROUND, &error_abort);
    }
    scene_wait_ready(&s);
    flood_end(&h.hot);
    flood_end(&h.rare);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

/* R6 */
static void coroutine_fn test_nothing_goes_through_to_a_paused_job(void)
{
    Hammer h;
    Scene s;

    hammer_set_up(&h, &s, 4 * KiB);
    scene_start(&s);
    wait_write_through(&s, true);
    job_user_pause(&s.job->job, &error_abort);
    wait_write_through(&s, false);
    qemu_co_sleep_ns(SECONDS(1));
    flood_count_anew(&h.hot);
    test_ram_reset_counts(s.target);
    qemu_co_sleep_ns(SECONDS(10));
    g_assert_cmpuint(h.hot.waited, ==, 0);
    g_assert_cmpuint(test_ram_counts(s.target)->writes, ==, 0);
    {
        g_autoptr(BlockJobInfo) info = query(&s);

        g_assert_cmpstr(info->u.mirror.not_converging, ==, "the job is paused");
    }
    job_user_resume(&s.job->job, &error_abort);
    scene_wait_ready(&s);
    flood_end(&h.hot);
    flood_end(&h.rare);
    scene_complete(&s);
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    scene_expect_equal(&s);
    scene_tear_down(&s);
}

/* R1: also where guests make little more dirty than there is, and that never becomes little. */
static void coroutine_fn test_a_mirror_to_a_far_target_becomes_ready(void)
{
    for (int pause_ms = 1; pause_ms < 300; pause_ms *= 3) {
        int64_t start;
        Flood flood;
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 100 * SCALE_MS);
        flood_begin(&flood, &s, 16, pause_ms * SCALE_MS);
        start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        scene_start(&s);
        scene_wait_ready(&s);
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, SECONDS(30));
        g_assert_cmpint(flood.longest_ns, <, SECONDS(1));
        scene_complete(&s);
        g_assert_cmpint(scene_wait_end(&s), ==, 0);
        flood_end(&flood);
        scene_tear_down(&s);
    }
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

static void coroutine_fn expect_reason(Scene *s, const char *reason)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + SECONDS(10);
    bool found;

    do {
        g_autoptr(BlockJobInfo) info = query(s);

        found = !g_strcmp0(info->u.mirror.not_converging, reason);
        g_assert_false(info->u.mirror.not_converging && info->u.mirror.has_estimated_ready_seconds);
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        qemu_co_sleep_ns(10 * SCALE_MS);
    } while (!found);
}

static void coroutine_fn test_the_estimate_is_what_it_takes(void)
{
    int64_t start;
    Flood flood;
    Scene s;

    scene_set_up(&s, 64 * MiB);
    s.args.speed = 4 * MiB;
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 10 * SCALE_MS);
    flood_begin(&flood, &s, 1, 4 * SCALE_MS); /* a part of it dirty still */
    start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    scene_start(&s);
    for (int i = 0; i < 20 && s.job->job.status == JOB_STATUS_RUNNING; i++) {
        g_autoptr(BlockJobInfo) info = NULL;

        qemu_co_sleep_ns(SECONDS(1));
        info = query(&s);
        g_assert_null(info->u.mirror.not_converging);
        g_assert_true(info->u.mirror.has_estimated_ready_seconds);
        g_assert_cmpint(info->u.mirror.estimated_ready_seconds, <=, 40);
    }
    scene_wait_ready(&s);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, SECONDS(40));
    {
        g_autoptr(BlockJobInfo) info = query(&s);

        g_assert_false(info->u.mirror.has_estimated_ready_seconds);
    }
    flood_end(&flood);
    job_user_cancel(&s.job->job, true, &error_abort);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
    scene_tear_down(&s);
}

static void coroutine_fn test_it_says_why_it_does_not_come_to_an_end(void)
{
    Flood flood;
    Scene s;

    scene_set_up(&s, 64 * MiB);
    s.args.speed = MiB;
    s.args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 10 * SCALE_MS);
    flood_begin(&flood, &s, 4, SCALE_MS);
    scene_start(&s);
    qemu_co_sleep_ns(SECONDS(20)); /* so much is copied that guests make it dirty again */
    expect_reason(&s, "guests dirty the disk faster than the job's speed allows");
    job_user_pause(&s.job->job, &error_abort);
    expect_reason(&s, "the job is paused");
    job_user_resume(&s.job->job, &error_abort);
    test_ram_set_error(s.target, TEST_RAM_WRITE, 0, s.len, EIO, -1);
    expect_reason(&s, "writes to the target fail");
    test_ram_set_error(s.target, 0, 0, 0, 0, 0);
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, s.len);
    expect_reason(&s, "the source or the target does not answer");
    test_ram_release(s.target);
    block_job_set_speed(s.job, 0, &error_abort);
    expect_reason(&s, NULL);
    scene_wait_ready(&s);
    flood_end(&flood);
    job_user_cancel(&s.job->job, true, &error_abort);
    g_assert_cmpint(scene_wait_end(&s), ==, -ECANCELED);
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
    block_test_add("/mirror/converge/only writes to what is hot wait for the target",
                   test_only_writes_to_what_is_hot_wait_for_the_target);
    block_test_add("/mirror/converge/guests that fall silent are in the background again",
                   test_guests_that_fall_silent_are_in_the_background_again);
    block_test_add("/mirror/converge/the mode may change while what is hot goes through",
                   test_the_mode_may_change_while_what_is_hot_goes_through);
    block_test_add("/mirror/converge/nothing goes through to a paused job",
                   test_nothing_goes_through_to_a_paused_job);
    block_test_add("/mirror/converge/a mirror to a far target becomes ready",
                   test_a_mirror_to_a_far_target_becomes_ready);
    block_test_add("/mirror/converge/the estimate is what it takes",
                   test_the_estimate_is_what_it_takes);
    block_test_add("/mirror/converge/it says why it does not come to an end",
                   test_it_says_why_it_does_not_come_to_an_end);
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
