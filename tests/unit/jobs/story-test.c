/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client sees of a job, event by event; the orders are those of qemu-storage-daemon 10.0.
 * Cites JC1 to JC8 of block/jobs/core/job.c.
 */
#include "tests/unit/jobs/fake-job.h"

#define SIZE (1 << 20)

static BlockDriverState *bs;

static void coroutine_fn a_job_that_succeeds(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 3, JOB_DEFAULT);

    expect_diary("j created");
    job_start(&f->common.job);
    test_pass_ms(100);
    expect_diary("j running|j waiting|j pending|j COMPLETED|j concluded|j null");
    g_assert_null(job_get("j"));
}

static void coroutine_fn a_job_that_fails(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 3, JOB_MANUAL_DISMISS);
    BlockJobInfo *info;
    Job *job = &f->common.job;

    f->run_ret = -EIO;
    job_start(job);
    test_pass_ms(100);
    expect_diary("j created|j running|j aborting|j COMPLETED(Input/output error)|j concluded");
    info = block_job_query(&f->common);
    g_assert_cmpstr(info->error, ==, "Input/output error");
    g_assert_cmpint(info->offset, ==, 3);
    g_assert_cmpint(info->len, ==, 3);
    g_assert_false(info->auto_dismiss);
    qapi_free_BlockJobInfo(info);
    job_user_dismiss(&job, &error_abort);
    g_assert_null(job);
    expect_diary("j null");
}

static void coroutine_fn a_running_job_is_cancelled(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 1000, JOB_DEFAULT);

    job_start(&f->common.job);
    test_pass_ms(35);
    job_user_cancel(&f->common.job, false, &error_abort);
    test_settle();
    expect_diary("j created|j running|j aborting|j CANCELLED|j concluded|j null");
}

static void coroutine_fn a_job_that_never_started_is_cancelled_without_an_event_of_its_end(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 1000, JOB_MANUAL_DISMISS);

    job_co_cancel_sync(&f->common.job, true);
    expect_diary("j created|j aborting|j concluded|j null");
    job_early_fail(&fake_new("j", bs, NULL, 1, JOB_DEFAULT)->common.job);
    expect_diary("j created|j null");
}

/* JC6: another's end is under way, and takes its time. */
static void coroutine_fn a_job_is_not_started_once_its_transaction_is_given_up(void)
{
    JobTxn *txn = job_txn_new();
    FakeJob *a = fake_new("a", bs, txn, 1000, 0), *b = fake_new("b", bs, txn, 1000, 0);

    job_txn_unref(txn);
    b->yields_in_end = 5; /* the newest ends first */
    job_user_cancel(&b->common.job, true, &error_abort);
    test_step_aside();
    g_assert_cmpint(b->common.job.status, ==, JOB_STATUS_ABORTING);
    g_assert_cmpint(a->common.job.status, ==, JOB_STATUS_CREATED);
    job_start(&a->common.job);
    g_assert_false(job_started(&a->common.job));
    job_co_cancel_sync(&a->common.job, true);
    expect_diary("a created|b created|b aborting|b concluded|b null|a aborting|a concluded|a null");
}

static void coroutine_fn the_user_pauses_and_resumes(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 1000, JOB_DEFAULT);
    Job *job = &f->common.job;
    Error *err = NULL;
    BlockJobInfo *info;
    int64_t at;

    job_start(job);
    test_pass_ms(35);
    job_user_pause(job, &error_abort);
    test_settle();
    expect_diary("j created|j running|j paused");
    info = block_job_query(&f->common);
    g_assert_true(info->paused);
    g_assert_false(info->busy);
    at = info->offset;
    qapi_free_BlockJobInfo(info);
    test_pass_ms(1000);
    g_assert_cmpint(job->progress_current, ==, at);
    job_user_pause(job, &err);
    expect_error(err, "Job is already paused");
    block_job_user_cancel(&f->common, false, &err);
    expect_error(err, "The block job for device 'j' is currently paused");
    job_user_resume(job, &error_abort);
    test_settle();
    expect_diary("j running");
    job_user_resume(job, &err);
    expect_error(err, "Can't resume a job that was not paused");
    job_user_pause(job, &error_abort);
    test_settle();
    block_job_user_cancel(&f->common, true, &error_abort); /* JC4 */
    test_settle();
    expect_diary("j paused|j running|j aborting|j CANCELLED|j concluded|j null");
}

static void coroutine_fn a_drain_pauses_a_job_and_holds_a_cancelled_one(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 1000, JOB_DEFAULT);
    Job *job = &f->common.job;

    job_start(job);
    test_pass_ms(35);
    bdrv_co_drained_begin(bs);
    expect_diary("j created|j running|j paused");
    job_user_cancel(job, true, &error_abort);
    test_pass_ms(100);
    expect_diary(""); /* JC4 */
    bdrv_co_drained_end(bs);
    test_settle();
    expect_diary("j running|j aborting|j CANCELLED|j concluded|j null");

    /* Started inside a drain it does nothing before the end of it. */
    f = fake_new("j", bs, NULL, 1, JOB_DEFAULT);
    bdrv_co_drained_begin(bs);
    job_start(&f->common.job);
    test_pass_ms(100);
    expect_diary("j created|j running|j paused");
    bdrv_co_drained_end(bs);
    test_pass_ms(100);
    expect_diary("j running|j waiting|j pending|j COMPLETED|j concluded|j null");
}

static void coroutine_fn a_job_with_a_ready_state_waits_for_its_user(void)
{
    FakeJob *f = fake_new("m", bs, NULL, 1, JOB_DEFAULT);
    Job *job = &f->common.job;
    Error *err = NULL;

    f->has_ready = true;
    job_start(job);
    job_user_complete(job, &err);
    expect_error(err, "Job 'm' in state 'running' cannot accept command verb 'complete'");
    test_pass_ms(100);
    expect_diary("m created|m running|m ready|m READY");
    job_user_pause(job, &error_abort);
    test_settle();
    job_user_resume(job, &error_abort);
    test_settle();
    expect_diary("m standby|m ready");
    job_user_complete(job, &error_abort);
    test_settle();
    expect_diary("m waiting|m pending|m COMPLETED|m concluded|m null");

    /* A soft cancel of a READY job is a good end, a forced one is not. */
    for (int force = 0; force < 2; force++) {
        f = fake_new("m", bs, NULL, 1, JOB_DEFAULT);
        f->has_ready = true;
        job_start(&f->common.job);
        test_pass_ms(100);
        expect_diary("m created|m running|m ready|m READY");
        block_job_user_cancel(&f->common, force, &error_abort);
        test_settle();
        if (force) {
            expect_diary("m aborting|m CANCELLED|m concluded|m null");
        } else {
            expect_diary("m waiting|m pending|m COMPLETED|m concluded|m null");
        }
    }
}

static void coroutine_fn an_end_that_waits_for_the_user(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 1, JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS);
    Job *job = &f->common.job;
    Error *err = NULL;

    job_start(job);
    test_pass_ms(100);
    expect_diary("j created|j running|j waiting|j pending|j PENDING");
    job_user_pause(job, &err);
    expect_error(err, "Job 'j' in state 'pending' cannot accept command verb 'pause'");
    job_user_resume(job, &err);
    expect_error(err, "Can't resume a job that was not paused");
    job_user_dismiss(&job, &err);
    expect_error(err, "Job 'j' in state 'pending' cannot accept command verb 'dismiss'");
    block_job_set_speed(&f->common, 1, &err);
    expect_error(err, "Job 'j' in state 'pending' cannot accept command verb 'set-speed'");
    job_user_finalize(job, &error_abort);
    expect_diary("j COMPLETED|j concluded");
    job_user_cancel(job, true, &err);
    expect_error(err, "Job 'j' in state 'concluded' cannot accept command verb 'cancel'");
    job_user_finalize(job, &err);
    expect_error(err, "Job 'j' in state 'concluded' cannot accept command verb 'finalize'");
    job_user_dismiss(&job, &error_abort);
    expect_diary("j null");

    f = fake_new("j", bs, NULL, 1, JOB_MANUAL_FINALIZE);
    job_start(&f->common.job);
    test_pass_ms(100);
    job_user_cancel(&f->common.job, true, &error_abort);
    test_settle();
    expect_diary("j created|j running|j waiting|j pending|j PENDING|"
                 "j aborting|j CANCELLED|j concluded|j null");

    f = fake_new("j", bs, NULL, 1, JOB_DEFAULT);
    f->prepare_ret = -ENOSPC;
    job_start(&f->common.job);
    test_pass_ms(100);
    expect_diary("j created|j running|j waiting|j pending|j aborting|"
                 "j COMPLETED(No space left on device)|j concluded|j null");
}

/* Two jobs that end together; a is the first of the command, so the second of the list. */
static void start_two(FakeJob **a, FakeJob **b, int a_steps, int b_steps, int a_flags, int b_flags)
{
    JobTxn *txn = job_txn_new();

    *a = fake_new("a", bs, txn, a_steps, a_flags);
    *b = fake_new("b", bs, txn, b_steps, b_flags);
    job_txn_unref(txn);
    expect_diary("a created|b created");
    job_start(&(*b)->common.job);
    job_start(&(*a)->common.job);
    expect_diary("b running|a running");
}

static void coroutine_fn jobs_of_a_transaction_succeed_together(void)
{
    FakeJob *a, *b;

    start_two(&a, &b, 1, 100, JOB_DEFAULT, JOB_DEFAULT);
    test_pass_ms(100);
    expect_diary("a waiting");
    test_pass_ms(2000);
    expect_diary("b waiting|b pending|a pending|b COMPLETED|b concluded|b null|"
                 "a COMPLETED|a concluded|a null"); /* JC6 */

    start_two(&a, &b, 1, 10, JOB_MANUAL_FINALIZE, JOB_DEFAULT);
    test_pass_ms(1000);
    expect_diary("a waiting|b waiting|b pending|a pending|a PENDING");
    job_user_finalize(&b->common.job, &error_abort);
    expect_diary("b COMPLETED|b concluded|b null|a COMPLETED|a concluded|a null");
}

static void coroutine_fn jobs_of_a_transaction_end_badly_together(void)
{
    FakeJob *a, *b;
    Job *job;

    start_two(&a, &b, 1, 1000, JOB_DEFAULT, JOB_DEFAULT);
    test_pass_ms(100);
    job_user_cancel(&b->common.job, true, &error_abort);
    test_settle();
    expect_diary("a waiting|b aborting|b CANCELLED|b concluded|b null|"
                 "a aborting|a CANCELLED|a concluded|a null");

    start_two(&a, &b, 1, 1000, JOB_DEFAULT, JOB_DEFAULT);
    test_pass_ms(100);
    job_user_cancel(&a->common.job, true, &error_abort);
    test_settle();
    expect_diary("a waiting|b aborting|b CANCELLED|b concluded|b null|"
                 "a aborting|a CANCELLED|a concluded|a null");

    start_two(&a, &b, 1, 2, JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS, JOB_MANUAL_FINALIZE);
    test_pass_ms(100);
    job = &a->common.job;
    job_user_cancel(job, true, &error_abort);
    test_settle();
    expect_diary("a waiting|b waiting|b pending|b PENDING|a pending|a PENDING|"
                 "b aborting|b CANCELLED|b concluded|b null|a aborting|a CANCELLED|a concluded");
    g_assert_cmpstr(error_get_pretty(job->err), ==, "Operation canceled");
    job_user_dismiss(&job, &error_abort);
    expect_diary("a null");

    start_two(&a, &b, 1000, 1000, JOB_DEFAULT, JOB_DEFAULT);
    job_user_pause(&b->common.job, &error_abort);
    test_pass_ms(100);
    job_user_cancel(&a->common.job, true, &error_abort);
    test_settle();
    expect_diary("b paused|a aborting|b running|b aborting|b CANCELLED|b concluded|b null|"
                 "a CANCELLED|a concluded|a null");

    start_two(&a, &b, 1000, 3, JOB_DEFAULT, JOB_DEFAULT);
    b->run_ret = -EIO;
    test_pass_ms(100);
    expect_diary("b aborting|a aborting|b COMPLETED(Input/output error)|b concluded|b null|"
                 "a CANCELLED|a concluded|a null");
}

static void coroutine_fn an_io_error_follows_the_policy(void)
{
    FakeJob *f;
    Job *job;

    f = fake_new("j", bs, NULL, 5, JOB_DEFAULT);
    f->error_at = 2;
    f->on_error = BLOCKDEV_ON_ERROR_ENOSPC;
    job_start(&f->common.job);
    test_pass_ms(100);
    expect_diary("j created|j running|j ERROR|j aborting|j COMPLETED(Input/output error)|"
                 "j concluded|j null");

    f = fake_new("j", bs, NULL, 5, JOB_DEFAULT);
    f->error_at = 2;
    f->on_error = BLOCKDEV_ON_ERROR_IGNORE;
    job_start(&f->common.job);
    test_pass_ms(100);
    expect_diary("j created|j running|j ERROR|j waiting|j pending|j COMPLETED|j concluded|j null");

    f = fake_new("j", bs, NULL, 5, JOB_DEFAULT);
    f->error_at = 2;
    f->on_error = BLOCKDEV_ON_ERROR_STOP;
    job = &f->common.job;
    job_start(job);
    test_pass_ms(1000);
    expect_diary("j created|j running|j ERROR|j paused");
    g_assert_true(job_user_paused(job));
    g_assert_cmpint(f->common.iostatus, ==, BLOCK_DEVICE_IO_STATUS_FAILED);
    job_user_resume(job, &error_abort);
    g_assert_cmpint(f->common.iostatus, ==, BLOCK_DEVICE_IO_STATUS_OK);
    test_pass_ms(1000);
    expect_diary("j running|j waiting|j pending|j COMPLETED|j concluded|j null");
}

static void coroutine_fn a_new_speed_counts_at_once(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 1, JOB_DEFAULT);
    Error *err = NULL;
    int64_t before;

    f->sleep_ns = 3600 * 1000 * MS;
    job_start(&f->common.job);
    test_settle();
    before = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    g_assert_false(block_job_set_speed(&f->common, -1, &err));
    expect_error(err, "Parameter 'speed' expects a non-negative value");
    g_assert_true(block_job_set_speed(&f->common, 1 << 20, &error_abort));
    g_assert_cmpint(block_job_ratelimit_delay(&f->common, 10 << 20), >, 0);
    block_job_set_speed(&f->common, 0, &error_abort); /* BJ3 */
    g_assert_cmpint(block_job_ratelimit_delay(&f->common, 10 << 20), ==, 0);
    test_settle();
    expect_diary("j created|j running|j waiting|j pending|j COMPLETED|j concluded|j null");
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), ==, before);

    /* Also when the job is about to sleep for the time that the old speed asked for. */
    f = fake_new("j", bs, NULL, 1, JOB_DEFAULT);
    f->sleep_ns = 3600 * 1000 * MS;
    f->before_sleep_ns = 5 * MS;
    job_start(&f->common.job);
    test_pass_ms(2);
    block_job_set_speed(&f->common, 0, &error_abort);
    test_pass_ms(10);
    expect_diary("j created|j running|j waiting|j pending|j COMPLETED|j concluded|j null");

    g_assert_null(block_job_create("j", &fake_driver, NULL, bs, 0, BLK_PERM_ALL, -5, 0, &err));
    fakes_alive++;
    expect_error(err, "Parameter 'speed' expects a non-negative value");
    expect_diary("j created|j null");
}

static void coroutine_fn a_pause_does_not_shorten_the_sleep_that_keeps_a_speed(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 10, JOB_DEFAULT);

    f->sleep_ns = 1000 * MS;
    job_start(&f->common.job);
    for (int i = 0; i < 20; i++) {
        bdrv_co_drained_begin(bs);
        test_settle();
        bdrv_co_drained_end(bs);
        test_pass_ms(10);
    }
    g_assert_cmpint(f->common.job.progress_current, ==, 0);
    test_pass_ms(1000);
    g_assert_cmpint(f->common.job.progress_current, ==, 1);
    job_co_cancel_sync(&f->common.job, true);
    g_string_truncate(diary, 0);
}

static void coroutine_fn ids_are_checked(void)
{
    const char *bad[] = {"", "1", "a b", "\xc3\xa4", "a/b", "-a", NULL};
    FakeJob *f = fake_new("A-b.c_9", bs, NULL, 1, JOB_DEFAULT);
    Error *err = NULL;

    for (int i = 0; bad[i]; i++) {
        g_autofree char *text = g_strdup_printf("Invalid job ID '%s'", bad[i]);

        g_assert_null(
            block_job_create(bad[i], &fake_driver, NULL, bs, 0, BLK_PERM_ALL, 0, 0, &err));
        expect_error(err, text);
    }
    g_assert_null(block_job_create("A-b.c_9", &fake_driver, NULL, bs, 0, BLK_PERM_ALL, 0, 0, &err));
    expect_error(err, "Job ID 'A-b.c_9' already in use");
    g_assert_null(block_job_create(NULL, &fake_driver, NULL, bs, 0, BLK_PERM_ALL, 0, 0, &err));
    expect_error(err, "Invalid job ID ''");
    g_assert_null(block_job_get("nope", &err));
    g_assert_cmpint(error_get_class(err), ==, ERROR_CLASS_DEVICE_NOT_ACTIVE);
    expect_error(err, "Block job 'nope' not found");
    g_assert_null(job_find("nope", &err));
    g_assert_cmpint(error_get_class(err), ==, ERROR_CLASS_GENERIC_ERROR);
    expect_error(err, "Job not found");
    job_co_cancel_sync(&f->common.job, true);
    g_string_truncate(diary, 0);
}

static bool node_was_free;

static void look_at_node(const char *id, const char *what)
{
    if (strcmp(what, "COMPLETED") == 0) {
        node_was_free = !bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_RESIZE, NULL);
    }
}

static void coroutine_fn nodes_are_held_and_blocked_until_the_event_of_the_end(void)
{
    BlockDriverState *target = test_node_new("t", SIZE);
    FakeJob *f = fake_new("j", bs, NULL, 2, JOB_DEFAULT);
    Error *err = NULL;

    g_assert_nonnull(block_job_add_bdrv(&f->common, "target", target, BLK_PERM_WRITE,
                                        BLK_PERM_CONSISTENT_READ, &error_abort));
    g_assert_true(block_job_source(&f->common)->bs == bs);
    g_assert_null(block_job_add_bdrv(&f->common, "again", target, BLK_PERM_WRITE,
                                     BLK_PERM_CONSISTENT_READ, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "block job 'j'"));
    error_free_or_abort(&err);
    g_assert_true(bdrv_op_is_blocked(target, BLOCK_OP_TYPE_BACKUP_TARGET, &err));
    expect_error(err, "Node 't' is busy: block device is in use by block job: mirror");
    g_assert_true(bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_RESIZE, NULL));
    g_assert_false(bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_BACKUP_SOURCE, NULL));
    job_start(&f->common.job);
    bdrv_co_drained_begin(target); /* BJ1 */
    g_assert_true(f->common.job.paused);
    bdrv_co_drained_end(target);
    on_diary = look_at_node;
    test_pass_ms(100);
    on_diary = NULL;
    g_assert_true(node_was_free); /* JC7 */
    bdrv_co_unref(target);
    g_string_truncate(diary, 0);
}

static void coroutine_fn a_rate_and_an_estimate_are_told(void)
{
    FakeJob *f = fake_new("j", bs, NULL, 1000, JOB_DEFAULT);
    JobInfo *info;

    job_start(&f->common.job);
    test_pass_ms(5000);
    info = job_query(&f->common.job);
    g_assert_true(info->has_rate);
    g_assert_cmpint(info->rate, >=, 98);
    g_assert_cmpint(info->rate, <=, 100);
    g_assert_true(info->has_estimated_seconds);
    g_assert_cmpint(info->estimated_seconds, ==, 5);
    qapi_free_JobInfo(info);
    job_co_cancel_sync_all(true);
    g_assert_null(job_next(NULL));
    g_string_truncate(diary, 0);
}

static void coroutine_fn setup(void)
{
    bs = test_node_new("n", SIZE);
}

static void coroutine_fn teardown(void)
{
    bdrv_co_unref(bs);
}

static void run_story(gconstpointer body)
{
    g_assert_cmpint(diary->len, ==, 0);
    test_run_body((gconstpointer)setup);
    test_run_body(body);
    test_run_body((gconstpointer)teardown);
    g_assert_cmpint(fakes_alive, ==, 0);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    aio_init(AIO_ENGINE_AUTO, &error_abort);
    qemu_clock_set_virtual(true);
    diary = g_string_new("");
    qapi_event_set_emit(write_diary);
#define TEST(name) g_test_add_data_func("/jobs/" #name, (gconstpointer)name, run_story)
    TEST(a_job_that_succeeds);
    TEST(a_job_that_fails);
    TEST(a_running_job_is_cancelled);
    TEST(a_job_that_never_started_is_cancelled_without_an_event_of_its_end);
    TEST(a_job_is_not_started_once_its_transaction_is_given_up);
    TEST(the_user_pauses_and_resumes);
    TEST(a_drain_pauses_a_job_and_holds_a_cancelled_one);
    TEST(a_job_with_a_ready_state_waits_for_its_user);
    TEST(an_end_that_waits_for_the_user);
    TEST(jobs_of_a_transaction_succeed_together);
    TEST(jobs_of_a_transaction_end_badly_together);
    TEST(an_io_error_follows_the_policy);
    TEST(a_new_speed_counts_at_once);
    TEST(a_pause_does_not_shorten_the_sleep_that_keeps_a_speed);
    TEST(ids_are_checked);
    TEST(nodes_are_held_and_blocked_until_the_event_of_the_end);
    TEST(a_rate_and_an_estimate_are_told);
    ret = g_test_run();
    g_string_free(diary, TRUE);
    aio_cleanup();
    return ret;
}
