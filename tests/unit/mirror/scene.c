/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See scene.h. */
#include "block/jobs/mirror/mirror-job.h"
#include "tests/unit/mirror/scene.h"

#define RW (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* M3: the job does nothing else now to the chunks that the range touches. */
static void expect_alone(Scene *s, int64_t offset, int64_t bytes)
{
    int64_t start = QEMU_ALIGN_DOWN(offset, s->chunk);
    int64_t end = QEMU_ALIGN_UP(offset + bytes, s->chunk);
    BdrvTapWrite *write;

    QLIST_FOREACH (write, &s->at_target, list) {
        g_assert_false(start < write->offset + write->bytes && write->offset < end);
    }
    for (guint i = 0; s->at_source && i < s->at_source->len; i++) {
        const SceneRead *read = &g_array_index(s->at_source, SceneRead, i);

        g_assert_false(start < read->offset + read->bytes && read->offset < end);
    }
}

static void coroutine_fn watch_before(BdrvWriteTap *tap, BdrvTapWrite *w)
{
    Scene *s = container_of(tap, Scene, watch);

    if (s->user->bs == s->target) { /* guests' own, after the switch-over */
        w->tap = NULL;
        return;
    }
    expect_alone(s, w->offset, w->bytes);
    QLIST_INSERT_HEAD(&s->at_target, w, list);
    s->target_writes++;
    s->target_writes_max = MAX(s->target_writes_max, s->target_writes);
}

static int coroutine_fn watch_after(BdrvWriteTap *tap, BdrvTapWrite *w, int ret)
{
    QLIST_REMOVE(w, list);
    container_of(tap, Scene, watch)->target_writes--;
    return ret;
}

void scene_watch_target(Scene *s, int64_t chunk)
{
    s->chunk = chunk;
    QLIST_INIT(&s->at_target);
    s->watch = (BdrvWriteTap){.before = watch_before, .after = watch_after};
    bdrv_set_write_tap(s->target, &s->watch);
}

void scene_unwatch_target(Scene *s)
{
    BdrvTapWrite *w;

    if (s->target->write_tap == &s->watch) {
        bdrv_set_write_tap(s->target, NULL);
        while ((w = QLIST_FIRST(&s->at_target))) {
            QLIST_REMOVE(w, list);
            w->tap = NULL;
        }
    }
}

static void watch_read(void *opaque, unsigned op, int64_t offset, int64_t bytes, bool begins)
{
    Scene *s = opaque;
    SceneRead read = {offset, bytes};

    if (op != TEST_RAM_READ) {
        return;
    }
    if (begins) {
        expect_alone(s, offset, bytes);
        g_array_append_val(s->at_source, read);
        return;
    }
    for (guint i = 0; i < s->at_source->len; i++) {
        if (g_array_index(s->at_source, SceneRead, i).offset == offset) {
            g_array_remove_index_fast(s->at_source, i);
            return;
        }
    }
    g_assert_not_reached();
}

void scene_watch_source(Scene *s)
{
    s->at_source = g_array_new(FALSE, FALSE, sizeof(SceneRead));
    test_ram_set_watch(s->source, watch_read, s);
}

void scene_unwatch_source(Scene *s)
{
    if (s->at_source) {
        test_ram_set_watch(s->source, NULL, NULL);
        g_array_free(s->at_source, TRUE);
        s->at_source = NULL;
    }
}

void coroutine_fn scene_use(Scene *s, BlockDriverState *source, BlockDriverState *target)
{
    *s = (Scene){.source = source, .target = target, .len = bdrv_getlength(source)};
    s->user = block_test_user(source, RW);
    s->args = (MirrorJobArgs){.job_id = "m",
                              .source = source,
                              .target = target,
                              .sync = MIRROR_SYNC_MODE_FULL,
                              .unmap = true};
}

void coroutine_fn scene_set_up(Scene *s, int64_t len)
{
    scene_use(s, test_ram_new("source", len), test_ram_new("target", len));
    test_ram_poke_pattern(s->source, 0, len, 1);
    test_ram_poke_pattern(s->target, 0, len, 2);
}

void coroutine_fn scene_start_writers(Scene *s, unsigned n, uint32_t seed)
{
    int64_t part = s->len / n / 512 * 512;

    for (s->n_writers = 0; s->n_writers < n; s->n_writers++) {
        unsigned i = s->n_writers;

        s->writers[i] = story_writer_new(&s->user, 1, i * part,
                                         i == n - 1 ? s->len : (i + 1) * part, i + 1, seed + i);
    }
}

void coroutine_fn scene_stop_writers(Scene *s)
{
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_co_stop(s->writers[i]);
    }
}

void coroutine_fn scene_check_writers(Scene *s, BlockDriverState *bs)
{
    g_autofree uint8_t *bytes = story_co_read_all(bs);

    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_check_bytes(s->writers[i], &bytes);
    }
}

void coroutine_fn scene_tear_down(Scene *s)
{
    scene_unwatch_target(s);
    g_assert_null(job_next(NULL));
    g_assert_null(s->source->write_tap);
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_free(s->writers[i]);
    }
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->target);
    bdrv_co_unref(s->source);
}

void coroutine_fn scene_start(Scene *s)
{
    bdrv_co_drained_begin(s->source);
    s->job = mirror_co_job_create(&s->args, &error_abort);
    job_ref(&s->job->job);
    bdrv_co_drained_end(s->source);
    job_start(&s->job->job);
}

void coroutine_fn scene_refuse(Scene *s, const char *message)
{
    Error *err = NULL;

    bdrv_co_drained_begin(s->source);
    g_assert_null(mirror_co_job_create(&s->args, &err));
    bdrv_co_drained_end(s->source);
    g_assert_cmpstr(error_get_pretty(err), ==, message);
    error_free(err);
}

void coroutine_fn scene_wait_status(Scene *s, JobStatus status)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + LONG_NS;

    while (s->job->job.status != status) {
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        g_assert_cmpint(s->job->job.status, !=, JOB_STATUS_NULL);
        qemu_co_sleep_ns(10000);
    }
}

void scene_complete(Scene *s)
{
    job_user_complete(&s->job->job, &error_abort);
}

/* Nothing is left of the operations: each chunk is back, and none is in flight. */
static void expect_nothing_left(BlockJob *job)
{
    MirrorBlockJob *s = mirror_job_of(job);

    g_assert_cmpint(__atomic_load_n(&s->in_flight, __ATOMIC_SEQ_CST), ==, 0);
    g_assert_cmpint(__atomic_load_n(&s->active_running, __ATOMIC_SEQ_CST), ==, 0);
    g_assert_cmpuint(copy_pool_in_use(s->buf), ==, 0);
    g_assert_true(hbitmap_empty(s->in_flight_bitmap));
    g_assert_cmpint(s->bytes_in_flight, ==, 0);
}

int coroutine_fn scene_wait_end(Scene *s)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + LONG_NS;
    Job *job = &s->job->job;
    int ret;

    while (job->status != JOB_STATUS_CONCLUDED && job->status != JOB_STATUS_NULL) {
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), <, deadline);
        qemu_co_sleep_ns(10000);
    }
    ret = job->ret;
    expect_nothing_left(s->job);
    job_unref(job);
    s->job = NULL;
    return ret;
}

void coroutine_fn scene_expect_equal(Scene *s)
{
    g_autofree uint8_t *a = story_co_read_all(s->source), *b = NULL;

    if (s->job) { /* which does not share it: ram disks only */
        b = g_malloc(s->len);
        test_ram_peek(s->target, 0, b, s->len);
    } else {
        b = story_co_read_all(s->target);
    }

    g_assert_cmpmem(a, s->len, b, s->len);
}
