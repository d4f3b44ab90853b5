/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * thread-pool.c - workers for calls that may block, shared by all contexts
 *
 *   coroutine ── job ──▶ queue ──▶ worker: func(arg) ── aio_co_wake() ──▶ goes on in its home
 *
 * A job lies on the stack of the coroutine that waits for it.  The pool grows by a worker when a job
 * finds nobody idle, up to a limit; a worker that finds nothing to do for a while ends, and is joined
 * by the next who touches the pool.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include "aio/thread-pool.h"
#include "aio-int.h"
#include "trace-aio.h"

/* Blocking calls at once: what a disk queue takes.  More would only wait inside the kernel. */
#define WORKERS_MAX 64

/* Long enough to live from one request to the next of a slow stream, short enough to clean up. */
#define WORKER_IDLE_SECONDS 10

typedef struct Job {
    int (*func)(void *arg);
    void *arg;
    int ret;
    Coroutine *co;
    QSIMPLEQ_ENTRY(Job) next;
} Job;

typedef struct Worker {
    pthread_t thread;
    QSLIST_ENTRY(Worker) next;
} Worker;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;    /* a job is queued, or stopping */
    pthread_cond_t changed; /* a worker has ended */
    QSIMPLEQ_HEAD(, Job) jobs;
    QSLIST_HEAD(, Worker) ended; /* to be joined */
    int workers;
    int idle;
    int queued;
    bool stopping;
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
    .jobs = QSIMPLEQ_HEAD_INITIALIZER(pool.jobs),
};

/* Under the lock.  Returns the next job, or NULL when the worker should end. */
static Job *job_wait(void)
{
    struct timespec until;
    int ret = 0;
    Job *job;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WORKER_IDLE_SECONDS;
    while (QSIMPLEQ_EMPTY(&pool.jobs)) {
        if (pool.stopping || ret == ETIMEDOUT) {
            return NULL;
        }
        pool.idle++;
        ret = pthread_cond_timedwait(&pool.work, &pool.lock, &until);
        pool.idle--;
    }
    job = QSIMPLEQ_FIRST(&pool.jobs);
    QSIMPLEQ_REMOVE_HEAD(&pool.jobs, next);
    pool.queued--;
    return job;
}

static void *worker_run(void *opaque)
{
    Worker *self = opaque;
    Job *job;

    pthread_mutex_lock(&pool.lock);
    while ((job = job_wait())) {
        Coroutine *co = job->co;

        pthread_mutex_unlock(&pool.lock);
        job->ret = job->func(job->arg);
        aio_co_wake(co); /* job is gone from here on */
        pthread_mutex_lock(&pool.lock);
    }
    pool.workers--;
    QSLIST_INSERT_HEAD(&pool.ended, self, next);
    trace_aio_worker_end(pool.workers);
    pthread_cond_broadcast(&pool.changed);
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* Under the lock, which is dropped while joining: an ended worker may still be on its last lines. */
static void workers_join(void)
{
    Worker *worker;

    while ((worker = QSLIST_FIRST(&pool.ended))) {
        QSLIST_REMOVE_HEAD(&pool.ended, next);
        pthread_mutex_unlock(&pool.lock);
        pthread_join(worker->thread, NULL);
        g_free(worker);
        pthread_mutex_lock(&pool.lock);
    }
}

/* Under the lock.  Fails only for want of threads. */
static int worker_start(void)
{
    Worker *worker = g_new0(Worker, 1);
    sigset_t all, old;
    int ret;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&worker->thread, NULL, worker_run, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret) {
        g_free(worker);
        return -ret;
    }
    pool.workers++;
    trace_aio_worker_start(pool.workers);
    return 0;
}

int coroutine_fn thread_pool_submit_co(int (*func)(void *arg), void *arg)
{
    AioContext *ctx = qemu_get_current_aio_context();
    Job job = {.func = func, .arg = arg, .co = qemu_coroutine_self()};

    pthread_mutex_lock(&pool.lock);
    assert(!pool.stopping);
    workers_join();
    QSIMPLEQ_INSERT_TAIL(&pool.jobs, &job, next);
    pool.queued++;
    if (pool.queued > pool.idle && pool.workers < WORKERS_MAX) {
        int ret = worker_start();

        if (ret < 0 && pool.workers == 0) {
            QSIMPLEQ_REMOVE(&pool.jobs, &job, Job, next);
            pool.queued--;
            pthread_mutex_unlock(&pool.lock);
            return ret;
        } /* else those there are will do it, later */
    }
    pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.lock);

    ctx->busy++;
    qemu_coroutine_yield();
    ctx->busy--;
    return job.ret;
}

void aio_thread_pool_stop(void)
{
    pthread_mutex_lock(&pool.lock);
    assert(QSIMPLEQ_EMPTY(&pool.jobs));
    pool.stopping = true;
    pthread_cond_broadcast(&pool.work);
    while (pool.workers > 0) {
        pthread_cond_wait(&pool.changed, &pool.lock);
    }
    workers_join();
    pool.stopping = false;
    pthread_mutex_unlock(&pool.lock);
}

int thread_pool_workers(void)
{
    int workers;

    pthread_mutex_lock(&pool.lock);
    workers = pool.workers;
    pthread_mutex_unlock(&pool.lock);
    return workers;
}
