/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mirror at its edges: what is slow, fails or is asked for where it is least expected. */
#include <errno.h>
#include <sys/resource.h>
#include "tests/unit/mirror/scene.h"

#define DISK_BYTES (4 * MiB)
#define SOON_NS    (INT64_C(1000) * SCALE_MS)
#define MINUTE_NS  (60 * SOON_NS)

static int64_t now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* A guest that writes @bytes every @pause_ns. */
typedef struct Trickle {
    BdrvChild *user;
    int64_t bytes, pause_ns, longest_ns;
    bool stop, over;
} Trickle;

static void coroutine_fn trickle_entry(void *opaque)
{
    Trickle *t = opaque;

    for (int64_t offset = 0; !t->stop; offset = (offset + t->bytes) % DISK_BYTES) {
        int64_t start = now();

        while (block_test_user_drained(t->user) > 0) {
            qemu_co_sleep_ns(10000);
        }
        block_test_co_fill(t->user, offset, t->bytes, (int)(offset / t->bytes) + 1);
        t->longest_ns = MAX(t->longest_ns, now() - start);
        qemu_co_sleep_ns(t->pause_ns);
    }
    t->over = true;
}

static void trickle_begin(Trickle *t, Scene *s, int64_t bytes, int64_t pause_ns)
{
    *t = (Trickle){.user = s->user, .bytes = bytes, .pause_ns = pause_ns};
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(trickle_entry, t));
}

static void coroutine_fn trickle_end(Trickle *t)
{
    t->stop = true;
    while (!t->over) {
        qemu_co_sleep_ns(10000);
    }
}

/* What guests write while the target is flushed does not keep the job from being READY. */
static void coroutine_fn test_a_target_that_flushes_slowly_becomes_ready_and_is_switched_to(void)
{
    int64_t start;
    Trickle t;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_set_delay(s.source, TEST_RAM_ALL_IO, 10000);
    test_ram_set_delay(s.target, TEST_RAM_WRITE, 5 * SCALE_MS);
    s.args.granularity = 64 * KiB;
    trickle_begin(&t, &s, 64 * KiB, 10 * SCALE_MS);
    scene_start(&s);
    qemu_co_sleep_ns(50 * SCALE_MS);
    test_ram_hold(s.target, TEST_RAM_FLUSH, 0, DISK_BYTES);
    start = now();
    while (s.job->job.status != JOB_STATUS_READY) {
        g_assert_cmpint(now() - start, <, MINUTE_NS);
        qemu_co_sleep_ns(700 * SCALE_MS);
        test_ram_release_one(s.target);
    }
    scene_complete(&s);
    start = now();
    while (s.job->job.status != JOB_STATUS_NULL) {
        g_assert_cmpint(now() - start, <, MINUTE_NS);
        qemu_co_sleep_ns(700 * SCALE_MS);
        test_ram_release_one(s.target);
    }
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    g_assert_true(s.user->bs == s.target);
    test_ram_release(s.target);
    trickle_end(&t);
    g_assert_cmpint(t.longest_ns, <, 2 * SOON_NS);
    scene_tear_down(&s);
}

static void coroutine_fn finalize_entry(void *opaque)
{
    job_user_finalize(opaque, &error_abort);
}

/* M6: of what is copied while guests are stopped one part fails, another hangs. */
static void coroutine_fn test_an_error_at_the_end_beside_what_hangs_lets_guests_go(void)
{
    BlockTestRequest *write;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    test_ram_set_delay(s.target, TEST_RAM_WRITE, 100 * SCALE_MS); /* its rate is known then */
    s.args.flags = JOB_MANUAL_FINALIZE;
    scene_start(&s);
    scene_wait_ready(&s);
    scene_complete(&s);
    scene_wait_status(&s, JOB_STATUS_PENDING);
    test_ram_set_delay(s.target, TEST_RAM_WRITE, SCALE_MS);
    block_test_co_fill(s.user, 0, 4096, 'a');
    block_test_co_fill(s.user, 3 * MiB, 4096, 'b');
    test_ram_hold(s.target, TEST_RAM_WRITE, 0, 4096);
    test_ram_set_error(s.target, TEST_RAM_WRITE, 3 * MiB, 4096, EIO, -1);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(finalize_entry, &s.job->job));
    test_ram_co_wait_held(s.target, 1);
    qemu_co_sleep_ns(10 * SCALE_MS);
    g_assert_false(s.source->quiesce_counter > 0);
    write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 1 * MiB, 4096, 'n');
    qemu_co_sleep_ns(10 * SCALE_MS);
    g_assert_true(block_test_done(write));
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    test_ram_release(s.target);
    g_assert_cmpint(scene_wait_end(&s), ==, -EIO);
    g_assert_true(s.user->bs == s.source);
    scene_tear_down(&s);
}

static void coroutine_fn test_a_job_that_has_ended_cannot_be_changed(void)
{
    Error *err = NULL;
    Job *job;
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.flags = JOB_MANUAL_DISMISS;
    scene_start(&s);
    scene_wait_ready(&s);
    mirror_change_copy_mode(s.job, MIRROR_COPY_MODE_WRITE_BLOCKING, &error_abort);
    scene_complete(&s);
    scene_wait_status(&s, JOB_STATUS_CONCLUDED);
    mirror_change_copy_mode(s.job, MIRROR_COPY_MODE_BACKGROUND, &err);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Job 'm' in state 'concluded' cannot accept command verb 'change'");
    error_free(err);
    job = &s.job->job;
    g_assert_cmpint(scene_wait_end(&s), ==, 0);
    job_user_dismiss(&job, &error_abort);
    scene_tear_down(&s);
}

static char *picky_desc(BdrvChild *c)
{
    return g_strdup("a picky user");
}

static const BdrvChildClass picky_class = {.get_parent_desc = picky_desc};

/* Somebody at the target bears no user beside him that reads: guests go on with the source. */
static void coroutine_fn test_a_switch_over_that_is_refused_leaves_guests_with_the_source(void)
{
    for (int mode = 0; mode < 2; mode++) {
        BlockTestRequest *write;
        BdrvChild *picky;
        Scene s;

        scene_set_up(&s, DISK_BYTES);
        s.args.copy_mode = mode;
        scene_start(&s);
        picky = bdrv_root_attach_child(s.target, "root", &picky_class, 0, 0, BLK_PERM_WRITE, NULL,
                                       &error_abort);
        scene_wait_ready(&s);
        scene_complete(&s);
        write = block_test_co_start(s.user, BLOCK_TEST_WRITE, 0, 4096, 'w');
        g_assert_cmpint(scene_wait_end(&s), ==, -EPERM);
        g_assert_cmpint(block_test_co_join(write), ==, 0);
        block_test_co_expect(s.user, 0, 4096, 'w');
        g_assert_true(s.user->bs == s.source);
        bdrv_co_root_unref_child(picky);
        scene_tear_down(&s);
    }
}

#if defined(__SANITIZE_ADDRESS__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

/* M7: rather no mirror than one without buffers. */
static void coroutine_fn test_a_job_whose_buffers_the_system_does_not_give_is_refused(void)
{
#ifdef HAS_SANITIZER
    g_test_skip("a sanitizer needs more address space than can be allowed here");
#else
    struct rlimit before, tight = {.rlim_cur = 256 * MiB, .rlim_max = RLIM_INFINITY};
    Scene s;

    scene_set_up(&s, DISK_BYTES);
    s.args.buf_size = 1 * GiB;
    g_assert_cmpint(getrlimit(RLIMIT_AS, &before), ==, 0);
    tight.rlim_max = before.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_AS, &tight), ==, 0);
    scene_refuse(&s, "Could not allocate 1073741824 bytes for the job's buffers");
    g_assert_cmpint(setrlimit(RLIMIT_AS, &before), ==, 0);
    scene_tear_down(&s);
#endif
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/edges/a target that flushes slowly becomes READY and is switched to",
                   test_a_target_that_flushes_slowly_becomes_ready_and_is_switched_to);
    block_test_add("/mirror/edges/an error at the end beside what hangs lets guests go",
                   test_an_error_at_the_end_beside_what_hangs_lets_guests_go);
    block_test_add("/mirror/edges/a job that has ended cannot be changed",
                   test_a_job_that_has_ended_cannot_be_changed);
    block_test_add("/mirror/edges/a switch-over that is refused leaves guests with the source",
                   test_a_switch_over_that_is_refused_leaves_guests_with_the_source);
    block_test_add("/mirror/edges/a job whose buffers the system does not give is refused",
                   test_a_job_whose_buffers_the_system_does_not_give_is_refused);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
