/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A job that does as the test says, and a diary of all events: "j created|j running|j COMPLETED". */
#ifndef TESTS_UNIT_FAKE_JOB_H
#define TESTS_UNIT_FAKE_JOB_H

#include <glib.h>
#include "aio/timer.h"
#include "block/jobs/blockjob.h"
#include "qapi/event.h"
#include "tests/unit/backend/test-node.h"

#define MS INT64_C(1000000)

typedef struct FakeJob {
    BlockJob common;
    /* Set before the start. */
    int steps;               /* of 10 ms each */
    int64_t sleep_ns;        /* instead of 10 ms */
    int64_t before_sleep_ns; /* work of its own before each sleep, not to be interrupted */
    int run_ret;             /* what run() ends with */
    int prepare_ret;         /* what prepare() ends with */
    bool has_ready;          /* run() waits in READY for the user */
    bool pauses_itself;      /* there by job_yield_no_pause() */
    int error_at;            /* step with an I/O error under policy on_error; -1: none */
    BlockdevOnError on_error;
    int yields_in_end; /* each callback of the end takes that many rounds */
    /* The user's end.  Atomic. */
    bool should_complete;
    /* What was called. */
    int prepared, committed, aborted, cleaned;
} FakeJob;

static GString *diary;
/* Of the last event. */
static void (*on_diary)(const char *id, const char *what);

static void write_diary(unsigned event, json_t *message)
{
    const char *name = json_string_value(json_object_get(message, "event"));
    json_t *data = json_object_get(message, "data");
    const char *id = json_string_value(json_object_get(data, "id"));
    const char *what;

    if (!id) {
        id = json_string_value(json_object_get(data, "device"));
    }
    if (strcmp(name, "JOB_STATUS_CHANGE") == 0) {
        what = json_string_value(json_object_get(data, "status"));
    } else {
        g_assert_true(g_str_has_prefix(name, "BLOCK_JOB_"));
        what = name + strlen("BLOCK_JOB_");
    }
    g_string_append_printf(diary, "%s%s %s", diary->len ? "|" : "", id, what);
    if (json_object_get(data, "error")) {
        g_string_append_printf(diary, "(%s)", json_string_value(json_object_get(data, "error")));
    }
    if (on_diary) {
        on_diary(id, what);
    }
}

#define expect_diary(text)                     \
    do {                                       \
        g_assert_cmpstr(diary->str, ==, text); \
        g_string_truncate(diary, 0);           \
    } while (0)

static inline FakeJob *fake_of(Job *job)
{
    return container_of(job, FakeJob, common.job);
}

static int coroutine_fn fake_run(Job *job, Error **errp)
{
    FakeJob *f = fake_of(job);

    job_progress_set_remaining(job, f->steps);
    for (int i = 0; i < f->steps; i++) {
        if (i == f->error_at) {
            f->error_at = -1;
            if (block_job_error_action(&f->common, f->on_error, true, EIO) ==
                BLOCK_ERROR_ACTION_REPORT) {
                return -EIO;
            }
        }
        if (f->before_sleep_ns) {
            qemu_co_sleep_ns(f->before_sleep_ns);
        }
        job_sleep_ns(job, f->sleep_ns ? f->sleep_ns : 10 * MS);
        if (job_is_cancelled(job)) {
            return -ECANCELED;
        }
        job_progress_update(job, 1);
    }
    if (f->has_ready && f->run_ret == 0) {
        job_transition_to_ready(job);
        while (!__atomic_load_n(&f->should_complete, __ATOMIC_SEQ_CST) &&
               !job_cancel_requested(job)) {
            if (f->pauses_itself) {
                job_yield_no_pause(job);
                job_pause_point(job);
            } else {
                job_yield(job);
            }
        }
    }
    return f->run_ret;
}

static void coroutine_fn dawdle(FakeJob *f)
{
    for (int i = 0; i < f->yields_in_end; i++) {
        test_step_aside();
    }
}

static int coroutine_fn fake_prepare(Job *job)
{
    FakeJob *f = fake_of(job);

    dawdle(f);
    g_assert_cmpint(f->prepared++, ==, 0);
    g_assert_cmpint(job->status, ==, JOB_STATUS_PENDING);
    return f->prepare_ret;
}

static void coroutine_fn fake_commit(Job *job)
{
    FakeJob *f = fake_of(job);

    dawdle(f);
    g_assert_cmpint(f->prepared, ==, 1); /* JC6 */
    g_assert_cmpint(f->committed++, ==, 0);
}

static void coroutine_fn fake_abort(Job *job)
{
    FakeJob *f = fake_of(job);

    dawdle(f);
    g_assert_cmpint(f->aborted++, ==, 0);
}

static void coroutine_fn fake_clean(Job *job)
{
    FakeJob *f = fake_of(job);

    dawdle(f);
    g_assert_cmpint(f->committed + f->aborted, ==, 1); /* JC7 */
    g_assert_cmpint(f->cleaned++, ==, 0);
}

static int fakes_alive;

static void fake_free(Job *job)
{
    fakes_alive--;
}

static void fake_complete(Job *job, Error **errp)
{
    __atomic_store_n(&fake_of(job)->should_complete, true, __ATOMIC_SEQ_CST);
    job_wake(job);
}

static bool fake_cancel(Job *job, bool force)
{
    return force || !job_is_ready(job);
}

static const BlockJobDriver fake_driver = {
    .job_driver = {.instance_size = sizeof(FakeJob),
                   .job_type = JOB_TYPE_MIRROR,
                   .run = fake_run,
                   .prepare = fake_prepare,
                   .commit = fake_commit,
                   .abort = fake_abort,
                   .clean = fake_clean,
                   .free = fake_free,
                   .complete = fake_complete,
                   .cancel = fake_cancel},
};

static inline FakeJob *fake_new(const char *id, BlockDriverState *bs, JobTxn *txn, int steps,
                                int flags)
{
    FakeJob *f = block_job_create(id, &fake_driver, txn, bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                                  0, flags, &error_abort);

    f->steps = steps;
    f->error_at = -1;
    fakes_alive++;
    return f;
}

/* Let time pass; the clock is virtual. */
static inline void coroutine_fn test_pass_ms(int ms)
{
    qemu_co_sleep_ns(ms * MS);
    test_settle();
}

#define expect_error(err, text)                           \
    do {                                                  \
        g_assert_nonnull(err);                            \
        g_assert_cmpstr(error_get_pretty(err), ==, text); \
        error_free_or_abort(&(err));                      \
    } while (0)

#endif
