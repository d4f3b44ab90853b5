/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Room for old data runs out, or gets in trouble: the target hangs or fails, the scratch fails, the job is
 * paused, cancelled, quiesced, set back by a checkpoint, while guests' writes wait for room or readers for
 * stores (B7, B10, G5, G6, R1 to R3).
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/jobs/backup/backup-job.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (4 * MiB)
#define UNIT       4096
#define WRITES     20

#define TIMEOUT_NS (INT64_C(2000) * SCALE_MS)
/* What waking up may take on the virtual clock, where only sleeps take time. */
#define SOON_NS    (INT64_C(50) * SCALE_MS)
/* More than anything here takes. */
#define LONG_NS    (INT64_C(10000) * SCALE_MS)

typedef struct Scene {
    BlockDriverState *source, *target, *scratch;
    BdrvChild *user, *reader;
    BackupJobArgs args;
    uint8_t *old;
    BlockJob *job;
    BlockTestRequest *writes[WRITES];
    BlockDriverState *quiet[3];
    size_t n_quiet;
    bool drained, undrain, drain_over;
} Scene;

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static void coroutine_fn wait_for(const bool *flag)
{
    int64_t deadline = now_ns() + LONG_NS;

    while (!*flag) {
        g_assert_cmpint(now_ns(), <, deadline);
        qemu_co_sleep_ns(10000);
    }
}

/* A backup with room for one unit. */
static void coroutine_fn set_up(Scene *s, MirrorSyncMode sync)
{
    *s = (Scene){.source = test_ram_new("source", DISK_BYTES)};
    s->target = sync == MIRROR_SYNC_MODE_NONE
                    ? test_cow_new("target", DISK_BYTES, 64 * KiB, s->source)
                    : test_ram_new("target", DISK_BYTES);
    s->user = block_test_user(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    s->reader = block_test_user(s->target, BLK_PERM_CONSISTENT_READ);
    test_ram_poke_pattern(s->source, 0, DISK_BYTES, 1);
    s->old = g_malloc(DISK_BYTES);
    test_ram_peek(s->source, 0, s->old, DISK_BYTES);
    s->args =
        (BackupJobArgs){.job_id = "b", .source = s->source, .target = s->target, .sync = sync};
    s->args.staging.ram_bytes = UNIT;
    s->args.staging.cow_timeout_ns = TIMEOUT_NS;
    s->args.flags = JOB_MANUAL_DISMISS;
}

/* And a scratch, of so many MiB. */
static void add_scratch(Scene *s, int64_t mib)
{
    s->scratch = test_ram_new("scratch", 0);
    s->args.staging.scratch = s->scratch;
    s->args.staging.scratch_bytes = mib * MiB;
}

static void coroutine_fn tear_down(Scene *s)
{
    g_assert_true(notifier_with_return_list_empty(&s->source->before_write_notifiers));
    g_assert_null(job_next(NULL));
    block_test_co_user_free(s->reader);
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
    if (s->scratch) {
        g_assert_cmpint(s->scratch->refcnt, ==, 1);
        bdrv_co_unref(s->scratch);
    }
    g_free(s->old);
}

static bool is_concluded(const BlockJob *job)
{
    return job->job.status == JOB_STATUS_CONCLUDED;
}

/* The job ends in so long with @ret and @message; NULL: none. */
static void coroutine_fn expect_end(Scene *s, int64_t within_ns, int ret, const char *message)
{
    int64_t deadline = now_ns() + within_ns;
    Job *job = &s->job->job;

    while (!is_concluded(s->job)) {
        g_assert_cmpint(now_ns(), <, deadline);
        qemu_co_sleep_ns(100000);
    }
    g_assert_cmpint(job->ret, ==, ret);
    if (message) {
        g_assert_cmpstr(error_get_pretty(job->err), ==, message);
    }
    job_co_cancel_sync(job, true); /* dismisses it */
    job_unref(job);
}

static void expect_copy(Scene *s)
{
    g_autofree uint8_t *copy = g_malloc(DISK_BYTES);

    test_ram_peek(s->target, 0, copy, DISK_BYTES);
    g_assert_cmpmem(copy, DISK_BYTES, s->old, DISK_BYTES);
}

/* WRITES writes, each in a cluster of its own in the second half of the disk; the first finds room. */
static void coroutine_fn start_writes(Scene *s)
{
    for (int i = 0; i < WRITES; i++) {
        s->writes[i] = block_test_co_start(s->user, BLOCK_TEST_WRITE, DISK_BYTES / 2 + i * 64 * KiB,
                                           UNIT, 'n');
    }
    block_test_co_settle();
}

static int count_done(const Scene *s)
{
    int n = 0;

    for (int i = 0; i < WRITES; i++) {
        n += block_test_done(s->writes[i]);
    }
    return n;
}

/* All of them end in so long, well, and what they wrote is there. */
static void coroutine_fn join_writes(Scene *s, int64_t within_ns)
{
    int64_t deadline = now_ns() + within_ns;

    while (count_done(s) < WRITES) {
        g_assert_cmpint(now_ns(), <, deadline);
        qemu_co_sleep_ns(100000);
    }
    for (int i = 0; i < WRITES; i++) {
        g_assert_cmpint(block_test_co_join(s->writes[i]), ==, 0);
        block_test_co_expect(s->user, DISK_BYTES / 2 + i * 64 * KiB, UNIT, 'n');
    }
}

/* The target takes nothing any more, the sweep is stuck in it, and writes wait for room. */
static void coroutine_fn begin_with_stuck_target(Scene *s)
{
    test_ram_hold(s->target, TEST_RAM_WRITE | TEST_RAM_ZERO, 0, DISK_BYTES);
    s->job = story_co_start_backup(&s->args);
    test_ram_co_wait_held(s->target, 1);
    start_writes(s);
    g_assert_cmpint(count_done(s), <, WRITES);
}

/* Which fault, which words. */
#define ROOM_MESSAGE                                                                          \
    "A write to 'source' waited 2 s for room for its old data: the target is too slow for 4 " \
    "KiB of memory and 0 KiB of scratch"

/* B7, G5 */
static void coroutine_fn test_a_target_that_hangs_breaks_the_backup_not_the_guest(void)
{
    BlockTestRequest *late;
    int64_t start;
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    begin_with_stuck_target(&s);
    start = now_ns();
    qemu_co_sleep_ns(TIMEOUT_NS / 2);
    late = block_test_co_start(s.user, BLOCK_TEST_WRITE, DISK_BYTES - UNIT, UNIT, 'n');
    join_writes(&s, TIMEOUT_NS / 2 + SOON_NS);
    g_assert_true(block_test_done(late)); /* what one has waited for is over for all */
    g_assert_cmpint(block_test_co_join(late), ==, 0);
    g_assert_cmpint(now_ns() - start, >=, TIMEOUT_NS - SOON_NS);
    start = now_ns();
    block_test_co_fill(s.user, 0, DISK_BYTES, 'm'); /* nothing is copied any more */
    g_assert_cmpint(now_ns() - start, <, SOON_NS);
    test_ram_release(s.target);
    expect_end(&s, SOON_NS, -ETIMEDOUT, ROOM_MESSAGE);
    tear_down(&s);
}

/* A user who chose to block: as long as it takes. */
static void coroutine_fn test_without_a_limit_guests_wait_and_the_backup_succeeds(void)
{
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    s.args.staging.cow_timeout_ns = -1;
    begin_with_stuck_target(&s);
    qemu_co_sleep_ns(100 * TIMEOUT_NS);
    g_assert_cmpint(count_done(&s), <, WRITES);
    test_ram_release(s.target);
    join_writes(&s, LONG_NS);
    expect_end(&s, LONG_NS, 0, NULL);
    expect_copy(&s);
    tear_down(&s);
}

/* B10: who waits for room does not wait for the target that the cancelled job has to wait for. */
static void coroutine_fn test_a_cancel_lets_all_writes_go_at_once(void)
{
    static const MirrorSyncMode modes[] = {MIRROR_SYNC_MODE_FULL, MIRROR_SYNC_MODE_NONE};

    for (int i = 0; i < 2; i++) {
        Scene s;

        set_up(&s, modes[i]);
        s.args.staging.cow_timeout_ns = -1;
        if (modes[i] == MIRROR_SYNC_MODE_NONE) { /* stuck in the store's read of the rest */
            test_ram_hold(s.source, TEST_RAM_READ, DISK_BYTES / 2 + UNIT, UNIT);
            s.job = story_co_start_backup(&s.args);
            start_writes(&s);
            test_ram_co_wait_held(s.source, 1);
            for (int j = 1; j < WRITES; j++) {
                qemu_co_sleep_ns(SCALE_MS);
            }
        } else {
            begin_with_stuck_target(&s);
        }
        job_user_cancel(&s.job->job, true, &error_abort);
        join_writes(&s, SOON_NS);
        test_ram_release(modes[i] == MIRROR_SYNC_MODE_NONE ? s.source : s.target);
        expect_end(&s, SOON_NS, -ECANCELED, NULL);
        tear_down(&s);
    }
}

/* R3 */
static void coroutine_fn test_a_paused_job_gives_room_back(void)
{
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    begin_with_stuck_target(&s);
    job_user_pause(&s.job->job, &error_abort);
    block_test_co_settle();
    test_ram_release(s.target);
    join_writes(&s, SOON_NS);
    qemu_co_sleep_ns(SOON_NS);
    g_assert_cmpint(s.job->job.status, ==, JOB_STATUS_PAUSED);
    block_test_co_fill(s.user, 0, 256 * KiB, 'm'); /* and goes on doing so */
    g_assert_cmpint(s.job->job.status, ==, JOB_STATUS_PAUSED);
    job_user_resume(&s.job->job, &error_abort);
    expect_end(&s, LONG_NS, 0, NULL);
    expect_copy(&s);
    tear_down(&s);
}

/* B6: all that the sweep may have is stuck in the target. */
static void coroutine_fn test_storers_do_not_wait_for_a_sweep_that_is_stuck(void)
{
    BackupPerf perf = {.has_max_workers = true, .max_workers = 1};
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    s.args.perf = &perf;
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES / 2);
    s.job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    start_writes(&s);
    join_writes(&s, SOON_NS);
    test_ram_release(s.target);
    expect_end(&s, LONG_NS, 0, NULL);
    expect_copy(&s);
    tear_down(&s);
}

/* G6: without its scratch a backup has its memory, and the target. */
static void coroutine_fn test_a_scratch_that_takes_nothing_costs_only_room(void)
{
    static const int errors[] = {EIO, ENOSPC};

    for (int i = 0; i < 2; i++) {
        Scene s;

        set_up(&s, MIRROR_SYNC_MODE_FULL);
        add_scratch(&s, 4);
        test_ram_set_error(s.scratch, TEST_RAM_WRITE, 0, 4 * MiB, errors[i], -1);
        test_ram_set_delay(s.target, TEST_RAM_ALL_IO, SCALE_MS);
        s.job = story_co_start_backup(&s.args);
        start_writes(&s);
        join_writes(&s, TIMEOUT_NS);
        expect_end(&s, LONG_NS, 0, NULL);
        expect_copy(&s);
        tear_down(&s);
    }
}

static void coroutine_fn test_a_scratch_that_failed_is_named_when_room_runs_out(void)
{
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    add_scratch(&s, 4);
    test_ram_set_error(s.scratch, TEST_RAM_WRITE, 0, 4 * MiB, ENOSPC, -1);
    begin_with_stuck_target(&s);
    join_writes(&s, TIMEOUT_NS + SOON_NS);
    test_ram_release(s.target);
    expect_end(
        &s, SOON_NS, -ETIMEDOUT,
        "A write to 'source' waited 2 s for room for its old data: the target is too slow "
        "for 4 KiB of memory and 4096 KiB of scratch, which failed: No space left on device");
    tear_down(&s);
}

/* With room in the scratch nobody waits, whatever the target does. */
static void coroutine_fn test_a_scratch_with_room_keeps_writes_going(void)
{
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    add_scratch(&s, 4);
    test_ram_hold(s.target, TEST_RAM_WRITE | TEST_RAM_ZERO, 0, DISK_BYTES);
    s.job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    start_writes(&s);
    join_writes(&s, SOON_NS);
    test_ram_release(s.target);
    expect_end(&s, LONG_NS, 0, NULL);
    expect_copy(&s);
    tear_down(&s);
}

/* What the scratch does not give back is lost, and so is the instant. */
static void coroutine_fn test_a_scratch_that_forgets_breaks_the_backup(void)
{
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    add_scratch(&s, 4);
    test_ram_hold(s.target, TEST_RAM_WRITE | TEST_RAM_ZERO, 0, DISK_BYTES);
    s.job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    start_writes(&s);
    join_writes(&s, SOON_NS);
    test_ram_set_error(s.scratch, TEST_RAM_READ, 0, 4 * MiB, EIO, 1);
    test_ram_release(s.target);
    expect_end(&s, LONG_NS, -EIO,
               "Old data of 'source' could not be read back from the scratch: Input/output error");
    tear_down(&s);
}

/* A source may fail in any words: only a wait for room is told as one. */
static void coroutine_fn test_a_source_that_times_out_is_not_taken_for_a_lack_of_room(void)
{
    static const struct {
        int error;
        const char *message;
    } cases[] = {
        {ETIMEDOUT, "The old data in front of a write to 'source' could not be read: "},
        {ENOSPC, "The old data in front of a write to 'source' could not be read: "},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Scene s;

        set_up(&s, MIRROR_SYNC_MODE_NONE);
        s.job = story_co_start_backup(&s.args);
        test_ram_set_error(s.source, TEST_RAM_READ, 0, UNIT, cases[i].error, 1);
        block_test_co_fill(s.user, 0, UNIT, 'n');
        while (!is_concluded(s.job)) {
            qemu_co_sleep_ns(100000);
        }
        g_assert_true(g_str_has_prefix(error_get_pretty(s.job->job.err), cases[i].message));
        expect_end(&s, SOON_NS, s.job->job.ret, NULL);
        tear_down(&s);
    }
}

/* What a piece of zeros has left alone because it is staged is the storers' again when the piece has gone. */
static void coroutine_fn test_a_piece_of_zeros_does_not_keep_room_from_coming_free(void)
{
    Scene s;

    set_up(&s, MIRROR_SYNC_MODE_FULL);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(s.user, 0, DISK_BYTES, BDRV_REQ_MAY_UNMAP), ==, 0);
    memset(s.old, 0, DISK_BYTES);
    test_ram_poke_pattern(s.target, 0, DISK_BYTES, 2);
    test_ram_hold(s.target, TEST_RAM_ZERO, 0, DISK_BYTES);
    s.job = story_co_start_backup(&s.args);
    test_ram_co_wait_held(s.target, 1);
    start_writes(&s);
    qemu_co_sleep_ns(SOON_NS);
    g_assert_cmpint(count_done(&s), <, WRITES);
    test_ram_release(s.target);
    join_writes(&s, SOON_NS);
    expect_end(&s, LONG_NS, 0, NULL);
    expect_copy(&s);
    tear_down(&s);
}

static void coroutine_fn drain_entry(void *opaque)
{
    Scene *s = opaque;

    bdrv_co_drained_begin_list(s->quiet, s->n_quiet);
    s->drained = true;
    while (!s->undrain) {
        for (size_t i = 0; i < s->n_quiet; i++) {
            g_assert_cmpuint(s->quiet[i]->in_flight, ==, 0);
        }
        qemu_co_sleep_ns(1000);
    }
    bdrv_co_drained_end_list(s->quiet, s->n_quiet);
    s->drain_over = true;
}

static void drain(Scene *s, unsigned which)
{
    BlockDriverState *nodes[] = {s->source, s->target, s->scratch};

    s->n_quiet = 0;
    s->drained = s->undrain = s->drain_over = false;
    for (int i = 0; i < 3; i++) {
        if (which & (1u << i)) {
            s->quiet[s->n_quiet++] = nodes[i];
        }
    }
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(drain_entry, s));
}

/* R1: every combination of disks, while the target is slow and writes wait for room. */
static void coroutine_fn test_any_quiesce_ends_while_writes_wait_for_room(void)
{
    for (unsigned which = 1; which < 8; which++) {
        for (int hold = 0; hold < 2; hold++) {
            Scene s;

            set_up(&s, MIRROR_SYNC_MODE_FULL);
            s.args.staging.cow_timeout_ns = LONG_NS;
            add_scratch(&s, 1);
            test_ram_set_delay(s.scratch, TEST_RAM_ALL_IO, SCALE_MS);
            test_ram_set_delay(s.target, TEST_RAM_ALL_IO, 3 * SCALE_MS);
            s.job = story_co_start_backup(&s.args);
            if (hold) {
                test_ram_hold(s.target, TEST_RAM_WRITE, 0, DISK_BYTES);
                test_ram_co_wait_held(s.target, 1);
            }
            start_writes(&s);
            drain(&s, which);
            block_test_co_settle();
            qemu_co_sleep_ns(SCALE_MS);
            test_ram_release(s.target);
            wait_for(&s.drained);
            qemu_co_sleep_ns(20 * SCALE_MS);
            s.undrain = true;
            wait_for(&s.drain_over);
            join_writes(&s, LONG_NS);
            expect_end(&s, LONG_NS, 0, NULL);
            expect_copy(&s);
            tear_down(&s);
        }
    }
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/room/a target that hangs breaks the backup not the guest",
                   test_a_target_that_hangs_breaks_the_backup_not_the_guest);
    block_test_add("/backup/room/without a limit guests wait and the backup succeeds",
                   test_without_a_limit_guests_wait_and_the_backup_succeeds);
    block_test_add("/backup/room/a cancel lets all writes go at once",
                   test_a_cancel_lets_all_writes_go_at_once);
    block_test_add("/backup/room/a paused job gives room back", test_a_paused_job_gives_room_back);
    block_test_add("/backup/room/storers do not wait for a sweep that is stuck",
                   test_storers_do_not_wait_for_a_sweep_that_is_stuck);
    block_test_add("/backup/room/a scratch that takes nothing costs only room",
                   test_a_scratch_that_takes_nothing_costs_only_room);
    block_test_add("/backup/room/a scratch that failed is named when room runs out",
                   test_a_scratch_that_failed_is_named_when_room_runs_out);
    block_test_add("/backup/room/a scratch with room keeps writes going",
                   test_a_scratch_with_room_keeps_writes_going);
    block_test_add("/backup/room/a scratch that forgets breaks the backup",
                   test_a_scratch_that_forgets_breaks_the_backup);
    block_test_add("/backup/room/a source that times out is not taken for a lack of room",
                   test_a_source_that_times_out_is_not_taken_for_a_lack_of_room);
    block_test_add("/backup/room/a piece of zeros does not keep room from coming free",
                   test_a_piece_of_zeros_does_not_keep_room_from_coming_free);
    block_test_add("/backup/room/any quiesce ends while writes wait for room",
                   test_any_quiesce_ends_while_writes_wait_for_room);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
