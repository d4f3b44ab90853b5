/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job's coroutine: where it runs, where it stops, who wakes it.
 *
 *        home AioContext                     main context
 *     run() ... job_sleep_ns()  <-- wake --- cancel, pause, resume, set-speed (JC9)
 *           |
 *     job_pause_point() --- go main -------> PAUSED, waits in pause_queue (JC3)
 *                                                |   here its home may change
 *     go on  <------------- go home ---------  RUNNING
 *           |
 *     run() returns ------- go main -------> job_completed(), txn.c
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/graph/graph.h"
#include "block/jobs/core/job-int.h"
#include "util/osdep.h"
#include "trace-jobs.h"

/* A call on its way to the main thread. */
typedef struct JobMail {
    void (*fn)(Job *job, void *arg);
    void *arg;
} JobMail;

void job_deliver_mail(Job *job)
{
    JobMail *mail;

    for (;;) {
        g_mutex_lock(&job->mail_lock);
        mail = g_queue_pop_head(&job->mail);
        g_mutex_unlock(&job->mail_lock);
        if (!mail) {
            return;
        }
        mail->fn(job, mail->arg);
        g_free(mail);
    }
}

static void mail_bh(void *opaque)
{
    Job *job = opaque;

    job_deliver_mail(job);
    job_unref(job);
}

void job_call_in_main(Job *job, void (*fn)(Job *job, void *arg), void *arg)
{
    JobMail *mail;

    if (in_aio_context(qemu_get_aio_context())) {
        job_deliver_mail(job);
        fn(job, arg);
        return;
    }
    mail = g_new(JobMail, 1);
    *mail = (JobMail){.fn = fn, .arg = arg};
    g_mutex_lock(&job->mail_lock);
    g_queue_push_tail(&job->mail, mail);
    g_mutex_unlock(&job->mail_lock);
    job_ref(job);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), mail_bh, job);
}

static AioContext *job_home(Job *job)
{
    return __atomic_load_n(&job->aio_context, __ATOMIC_SEQ_CST);
}

void coroutine_fn job_go_main(Job *job)
{
    if (!in_aio_context(qemu_get_aio_context())) {
        aio_co_reschedule_self(qemu_get_aio_context());
    }
    job_deliver_mail(job);
}

void coroutine_fn job_go_home(Job *job)
{
    if (!in_aio_context(job_home(job))) {
        aio_co_reschedule_self(job_home(job));
    }
}

bool job_should_pause(Job *job)
{
    int wishes = __atomic_load_n(&job->pause_count, __ATOMIC_SEQ_CST);

    if (job_is_cancelled(job) && __atomic_load_n(&job->user_paused, __ATOMIC_SEQ_CST)) {
        wishes--; /* JC4 */
    }
    return wishes > 0;
}

static void set_busy(Job *job, bool busy)
{
    __atomic_store_n(&job->busy, busy, __ATOMIC_SEQ_CST);
}

/* Main context. */
static void coroutine_fn wait_in_pause(Job *job)
{
    bool ready = job->status == JOB_STATUS_READY;

    job_set_status(job, ready ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
    set_busy(job, false);
    job->paused = true;
    bdrv_drain_kick();
    while (job_should_pause(job)) {
        qemu_co_queue_wait(&job->pause_queue, NULL);
    }
    job->paused = false;
    set_busy(job, true);
    job_set_status(job, ready ? JOB_STATUS_READY : JOB_STATUS_RUNNING);
}

/*
 * JC3.  Asked again at home: the kick of a pause that was wanted while the coroutine was on its way there has
 * found nobody asleep.
 */
void coroutine_fn job_pause_point(Job *job)
{
    while (job_should_pause(job)) {
        job_go_main(job);
        if (job_should_pause(job)) {
            wait_in_pause(job);
        }
        job_go_home(job);
    }
}

/* JC9: in the home, where the coroutine is either asleep or not running at all. */
static void kick_bh(void *opaque)
{
    Job *job = opaque;

    if (in_aio_context(job_home(job))) {
        qemu_co_sleep_wake(&job->sleep);
    } else {
        job_kick(job); /* the home has changed */
    }
    __atomic_fetch_sub(&job->wakes, 1, __ATOMIC_SEQ_CST);
    bdrv_drain_kick();
    job_unref(job);
}

void job_kick(Job *job)
{
    AioContext *home = job_home(job);

    if (in_aio_context(home)) {
        qemu_co_sleep_wake(&job->sleep);
        return;
    }
    job_ref(job);
    __atomic_fetch_add(&job->wakes, 1, __ATOMIC_SEQ_CST);
    aio_bh_schedule_oneshot(home, kick_bh, job);
}

void job_wake(Job *job)
{
    __atomic_store_n(&job->woken, true, __ATOMIC_SEQ_CST);
    job_kick(job);
}

void job_look_again(Job *job)
{
    if (job->paused) {
        qemu_co_queue_restart_all(&job->pause_queue);
    } else if (job->co && !job->deferred_to_main_loop) {
        job_kick(job);
    }
}

void job_nudge(Job *job)
{
    __atomic_store_n(&job->woken, true, __ATOMIC_SEQ_CST);
    job_look_again(job);
}

static bool was_woken(Job *job)
{
    return __atomic_exchange_n(&job->woken, false, __ATOMIC_SEQ_CST);
}

static void coroutine_fn sleep_once(Job *job, int64_t ns)
{
    trace_job_sleep(job_name(job), ns);
    set_busy(job, false);
    qemu_co_sleep_ns_wakeable(&job->sleep, ns);
    set_busy(job, true);
}

/*
 * A pause does not shorten the sleep: a job that keeps to a speed must not gain a step with each drain.
 * A wake that came while the job was awake counts for the sleep that it wanted to end.
 */
void coroutine_fn job_sleep_ns(Job *job, int64_t ns)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + ns;

    assert(ns >= 0);
    while (!job_is_cancelled(job) && !was_woken(job)) {
        int64_t rest = deadline - qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

        if (job_should_pause(job)) {
            job_pause_point(job);
        } else if (rest > 0) {
            sleep_once(job, rest);
        } else {
            return;
        }
    }
    job_pause_point(job);
}

void coroutine_fn job_yield(Job *job)
{
    if (job_is_cancelled(job)) {
        return;
    }
    if (!job_should_pause(job) && !was_woken(job)) {
        sleep_once(job, -1);
        was_woken(job);
    }
    job_pause_point(job);
}

void coroutine_fn job_yield_no_pause(Job *job)
{
    if (!job_should_pause(job) && !was_woken(job)) {
        sleep_once(job, -1);
        was_woken(job);
    }
}

bool job_is_cancelled(Job *job)
{
    return __atomic_load_n(&job->force_cancel, __ATOMIC_SEQ_CST);
}

bool job_cancel_requested(Job *job)
{
    return __atomic_load_n(&job->cancelled, __ATOMIC_SEQ_CST);
}

void coroutine_fn job_end_cancelled(Job *job)
{
    assert(job_cancel_requested(job));
    __atomic_store_n(&job->force_cancel, true, __ATOMIC_SEQ_CST);
}

void coroutine_fn job_transition_to_ready(Job *job)
{
    job_go_main(job);
    job_set_status(job, JOB_STATUS_READY);
    if (job->kind && job->kind->ready) {
        job->kind->ready(job);
    }
    job_go_home(job);
}

/* A pause of the user's that came too late means nothing any more. */
static void forget_user_pause(Job *job)
{
    if (__atomic_exchange_n(&job->user_paused, false, __ATOMIC_SEQ_CST)) {
        job_resume(job);
    }
}

static void coroutine_fn job_entry(void *opaque)
{
    Job *job = opaque;
    Error *err = NULL;
    int ret = -ECANCELED;

    set_busy(job, true);
    job_pause_point(job);
    if (!job_is_cancelled(job)) {
        ret = job->driver->run(job, &err);
    }
    trace_job_run_end(job_name(job), ret);

    job_go_main(job);
    assert(ret < 0 || !err);
    job->ret = ret < 0 ? ret : 0;
    job->err = err;
    set_busy(job, false);
    job->deferred_to_main_loop = true; /* JC5 */
    forget_user_pause(job);
    bdrv_drain_kick();
    job_completed(job);
    job_unref(job);
}

void job_start(Job *job)
{
    assert(!job->co);
    if (job->txn->phase == JOB_TXN_ABORTING) {
        return; /* JC6: who aborts the transaction finishes this one too */
    }
    job_ref(job); /* the coroutine's */
    job->co = qemu_coroutine_create(job_entry, job);
    job->rate_start_ns = job->rate_mark_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    job_set_status(job, JOB_STATUS_RUNNING);
    aio_co_schedule(job_home(job), job->co);
}
