/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Users, drains and moves at random: whatever is asked, in whatever order, each job's states follow the
 * drawing in block/jobs/core/job.c, each event comes where it belongs, a drained job stands still, and
 * everything ends.  SEED repeats a run.
 */
#include <stdlib.h>
#include "aio/iothread.h"
#include "coro/lock.h"
#include "tests/unit/jobs/fake-job.h"

#define SIZE     (1 << 20)
#define JOBS_MAX 5

/* The drawing once more, in words and by hand: a mistake in the table must not be in both. */
static const char *const drawing[] = {
    "-created",          "created-running",    "created-aborting", "created-null",
    "running-paused",    "paused-running",     "running-ready",    "ready-standby",
    "standby-ready",     "running-waiting",    "ready-waiting",    "running-aborting",
    "ready-aborting",    "waiting-pending",    "waiting-aborting", "pending-aborting",
    "pending-concluded", "aborting-concluded", "concluded-null",
};

/* What the diary says of one job's life so far. */
typedef struct Life {
    char state[16];
    bool started, ready, told_pending, told_end;
} Life;

static GHashTable *lives; /* id -> Life */
static unsigned transitions_seen;

static void check_event(Life *life, const char *what)
{
    if (strcmp(what, "READY") == 0) {
        g_assert_cmpstr(life->state, ==, "ready");
        g_assert_false(life->ready);
        life->ready = true;
    } else if (strcmp(what, "PENDING") == 0) {
        g_assert_cmpstr(life->state, ==, "pending");
        g_assert_false(life->told_pending);
        life->told_pending = true;
    } else if (strcmp(what, "COMPLETED") == 0 || strcmp(what, "CANCELLED") == 0) {
        g_assert_true(!strcmp(life->state, "pending") ||
                      !strcmp(life->state, "aborting")); /* JC7 */
        g_assert_true(life->started);
        g_assert_false(life->told_end);
        life->told_end = true;
    } else {
        g_assert_cmpstr(what, ==, "ERROR");
        g_assert_cmpstr(life->state, ==, "running");
    }
}

static void check_transition(Life *life, const char *what)
{
    g_autofree char *step = g_strdup_printf("%s-%s", life->state, what);
    bool drawn = false;

    for (size_t i = 0; i < ARRAY_SIZE(drawing); i++) {
        drawn |= strcmp(step, drawing[i]) == 0;
    }
    if (!drawn) {
        g_error("a job went %s", step);
    }
    if (strcmp(what, "running") == 0) {
        life->started = true;
    }
    if (strcmp(what, "concluded") == 0) {
        g_assert_cmpint(life->told_end, ==, life->started); /* JC7 */
    }
    g_strlcpy(life->state, what, sizeof(life->state));
    transitions_seen++;
}

static void look(const char *id, const char *what)
{
    Life *life = g_hash_table_lookup(lives, id);

    if (!life) {
        life = g_new0(Life, 1);
        g_hash_table_insert(lives, g_strdup(id), life);
    }
    if (g_ascii_isupper(what[0])) {
        check_event(life, what);
    } else {
        check_transition(life, what); /* JC1 */
    }
    if (strcmp(life->state, "null") == 0) {
        g_hash_table_remove(lives, id);
    }
    g_string_truncate(diary, 0);
}

typedef struct World {
    GRand *rand;
    BlockDriverState *bs;
    AioContext *other; /* NULL: all in the main context, on virtual time */
    CoMutex graph;
    int drains;
    int next_id;
} World;

static World w;

static int dice(int n)
{
    return g_rand_int_range(w.rand, 0, n);
}

static void coroutine_fn pass(int n)
{
    if (w.other) {
        for (int i = 0; i < 20 * n; i++) { /* time for the other thread */
            test_step_aside();
        }
    } else {
        test_pass_ms(n);
    }
}

static Job *random_job(void)
{
    int n = 0;
    Job *job;

    for (job = job_next(NULL); job; job = job_next(job)) {
        n++;
    }
    n = n ? dice(n) : 0;
    for (job = job_next(NULL); job && n > 0; n--) {
        job = job_next(job);
    }
    return job;
}

static int count_jobs(void)
{
    int n = 0;

    for (Job *job = job_next(NULL); job; job = job_next(job)) {
        n++;
    }
    return n;
}

static void create_some(void)
{
    JobTxn *txn = job_txn_new();
    int n = 1 + dice(3);

    for (int i = 0; i < n; i++) {
        g_autofree char *id = g_strdup_printf("j%d", w.next_id++);
        int flags = (dice(3) ? 0 : JOB_MANUAL_FINALIZE) | (dice(3) ? 0 : JOB_MANUAL_DISMISS);
        FakeJob *f = fake_new(id, w.bs, txn, dice(20), flags);

        f->sleep_ns = w.other ? dice(20000) : 0;
        f->run_ret = dice(6) ? 0 : -EIO;
        f->prepare_ret = dice(6) ? 0 : -ENOSPC;
        f->has_ready = dice(2);
        f->pauses_itself = dice(2);
        f->error_at = dice(4) ? -1 : dice(20);
        f->on_error = dice(3) ? BLOCKDEV_ON_ERROR_STOP : BLOCKDEV_ON_ERROR_REPORT;
        f->yields_in_end = dice(4);
        if (dice(8)) {
            job_start(&f->common.job);
        }
    }
    job_txn_unref(txn);
}

static int64_t progress_of_all(void)
{
    int64_t sum = 0;

    for (Job *job = job_next(NULL); job; job = job_next(job)) {
        sum += __atomic_load_n(&job->progress_current, __ATOMIC_SEQ_CST);
    }
    return sum;
}

/* The jobs that are there now stand still while drained; others may come and go. */
static void coroutine_fn drain_entry(void *opaque)
{
    GPtrArray *jobs = g_ptr_array_new();
    GArray *before = g_array_new(false, false, sizeof(int64_t));

    bdrv_co_drained_begin(w.bs);
    for (Job *job = job_next(NULL); job; job = job_next(job)) {
        int64_t progress = __atomic_load_n(&job->progress_current, __ATOMIC_SEQ_CST);

        job_ref(job);
        g_ptr_array_add(jobs, job);
        g_array_append_val(before, progress);
    }
    pass(dice(30));
    for (guint i = 0; i < jobs->len; i++) {
        Job *job = jobs->pdata[i];

        g_assert_cmpint(__atomic_load_n(&job->progress_current, __ATOMIC_SEQ_CST), ==,
                        g_array_index(before, int64_t, i)); /* JC4 */
        job_unref(job);
    }
    bdrv_co_drained_end(w.bs);
    g_array_free(before, true);
    g_ptr_array_free(jobs, true);
    w.drains--;
}

/* JC3: the jobs move with their node, also while others drain it. */
static void coroutine_fn move_entry(void *opaque)
{
    AioContext *to = dice(2) ? w.other : qemu_get_aio_context();

    qemu_co_mutex_lock(&w.graph);
    bdrv_co_try_change_aio_context(w.bs, to, &error_abort);
    qemu_co_mutex_unlock(&w.graph);
    w.drains--;
}

static void spawn(CoroutineEntry *entry)
{
    w.drains++;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(entry, NULL));
}

static void coroutine_fn ask_something(Job *job)
{
    Error *err = NULL;

    switch (dice(10)) {
    case 0:
        job_user_cancel(job, dice(2), &err);
        break;
    case 1:
    case 2:
        job_user_pause(job, &err);
        break;
    case 3:
    case 4:
    case 5:
        job_user_resume(job, &err);
        break;
    case 6:
        job_user_complete(job, &err);
        break;
    case 7:
        job_ref(job);
        job_user_finalize(job, &err);
        job_unref(job);
        break;
    case 8:
        job_user_dismiss(&job, &err);
        break;
    default:
        block_job_set_speed(block_job_of(job), dice(1000), &err);
        break;
    }
    error_free(err);
}

static void coroutine_fn one_step(void)
{
    Job *job = random_job();

    switch (dice(8)) {
    case 0:
        if (count_jobs() < JOBS_MAX) {
            create_some();
        }
        break;
    case 1:
        if (w.drains < 3) {
            spawn(w.other && dice(2) ? move_entry : drain_entry);
        }
        break;
    case 2:
        if (job && !job_started(job) && job->status == JOB_STATUS_CREATED) {
            if (dice(3) || job_cancel_requested(job)) {
                job_start(job);
            } else {
                job_early_fail(job);
            }
        }
        break;
    case 3:
    case 4:
        pass(dice(15));
        break;
    default:
        if (job) {
            ask_something(job);
        }
        break;
    }
    if (job_next(NULL)) {
        qapi_free_BlockJobInfo(block_job_query(block_job_next(NULL)));
    }
}

static void coroutine_fn live(int steps)
{
    w.rand = g_rand_new_with_seed(test_seed());
    w.bs = test_node_new("n", SIZE);
    qemu_co_mutex_init(&w.graph);
    transitions_seen = 0;
    for (int i = 0; i < steps; i++) {
        one_step();
    }
    while (w.drains > 0) {
        pass(10);
    }
    job_co_cancel_sync_all(true);
    g_assert_null(job_next(NULL));
    while (w.drains > 0 || fakes_alive > 0) {
        pass(10);
    }
    g_assert_cmpint(progress_of_all(), ==, 0);
    g_assert_cmpuint(g_hash_table_size(lives), ==, 0);
    g_test_message("%u transitions", transitions_seen);
    if (w.other) {
        bdrv_co_try_change_aio_context(w.bs, qemu_get_aio_context(), &error_abort);
    }
    bdrv_co_unref(w.bs);
    qemu_co_mutex_destroy(&w.graph);
    g_rand_free(w.rand);
}

static void coroutine_fn whatever_is_asked_jobs_follow_the_drawing(void)
{
    w = (World){0};
    live(g_test_slow() ? 200000 : 20000);
}

static void coroutine_fn the_same_in_an_iothread_that_comes_and_goes(void)
{
    IOThread *thread = iothread_create("io", AIO_ENGINE_AUTO, &error_abort);

    w = (World){.other = iothread_get_aio_context(thread)};
    live(g_test_slow() ? 200000 : 10000);
    iothread_destroy(thread);
}

/* Also on its way home from the pause before. */
static void coroutine_fn a_pause_is_seen_wherever_the_job_is(void)
{
    IOThread *thread = iothread_create("io", AIO_ENGINE_AUTO, &error_abort);
    BlockDriverState *bs = test_node_new("n", SIZE);
    FakeJob *f;

    w = (World){.rand = g_rand_new_with_seed(test_seed())};
    bdrv_co_try_change_aio_context(bs, iothread_get_aio_context(thread), &error_abort);
    f = fake_new("j", bs, NULL, 0, 0);
    f->has_ready = f->pauses_itself = true;
    job_start(&f->common.job);
    for (int i = 0; i < (g_test_slow() ? 100000 : 3000); i++) {
        for (int left = dice(4); left > 0; left--) {
            test_step_aside();
        }
        bdrv_co_drained_begin(bs);
        bdrv_co_drained_end(bs);
    }
    job_co_cancel_sync_all(true);
    bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), &error_abort);
    bdrv_co_unref(bs);
    g_rand_free(w.rand);
    iothread_destroy(thread);
}

static void run_virtual(gconstpointer body)
{
    qemu_clock_set_virtual(true);
    test_run_body(body);
    qemu_clock_set_virtual(false);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    aio_init(AIO_ENGINE_AUTO, &error_abort);
    diary = g_string_new("");
    lives = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    on_diary = look;
    qapi_event_set_emit(write_diary);
    g_test_add_data_func("/jobs/whatever_is_asked_jobs_follow_the_drawing",
                         (gconstpointer)whatever_is_asked_jobs_follow_the_drawing, run_virtual);
    g_test_add_data_func("/jobs/the_same_in_an_iothread_that_comes_and_goes",
                         (gconstpointer)the_same_in_an_iothread_that_comes_and_goes, test_run_body);
    g_test_add_data_func("/jobs/a_pause_is_seen_wherever_the_job_is",
                         (gconstpointer)a_pause_is_seen_wherever_the_job_is, test_run_body);
    ret = g_test_run();
    g_hash_table_destroy(lives);
    g_string_free(diary, TRUE);
    aio_cleanup();
    return ret;
}
