/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iothread.c - a thread that makes a context, runs it until it is told to stop, and frees it */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include "aio/iothread.h"
#include "aio-int.h"

/* The kernel's limit for a thread's name, with the final zero. */
#define THREAD_NAME_BYTES 16

struct IOThread {
    char *id;
    pthread_t thread;
    AioEngine engine;

    /* Written by the thread before it is `started`, fixed after. */
    AioContext *ctx;
    Error *err;
    int thread_id;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started;
    bool stop; /* the thread's own; set by a bottom half */
};

static void *iothread_run(void *opaque)
{
    IOThread *iothread = opaque;

    iothread->ctx = aio_context_new(iothread->engine, &iothread->err);
    iothread->thread_id = gettid();
    pthread_mutex_lock(&iothread->lock);
    iothread->started = true;
    pthread_cond_signal(&iothread->changed);
    pthread_mutex_unlock(&iothread->lock);

    if (iothread->ctx) {
        while (!iothread->stop) {
            aio_poll(iothread->ctx, true);
        }
        aio_context_free(iothread->ctx);
    }
    return NULL;
}

static void iothread_free(IOThread *iothread)
{
    pthread_mutex_destroy(&iothread->lock);
    pthread_cond_destroy(&iothread->changed);
    g_free(iothread->id);
    g_free(iothread);
}

IOThread *iothread_create(const char *id, AioEngine engine, Error **errp)
{
    IOThread *iothread = g_new0(IOThread, 1);
    char name[THREAD_NAME_BYTES];
    sigset_t all, old;
    int ret;

    iothread->id = g_strdup(id);
    iothread->engine = engine;
    pthread_mutex_init(&iothread->lock, NULL);
    pthread_cond_init(&iothread->changed, NULL);

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&iothread->thread, NULL, iothread_run, iothread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret) {
        error_setg_errno(errp, ret, "Cannot start the thread of iothread '%s'", id);
        iothread_free(iothread);
        return NULL;
    }
    g_strlcpy(name, id, sizeof(name));
    pthread_setname_np(iothread->thread, name);

    pthread_mutex_lock(&iothread->lock);
    while (!iothread->started) {
        pthread_cond_wait(&iothread->changed, &iothread->lock);
    }
    pthread_mutex_unlock(&iothread->lock);
    if (!iothread->ctx) {
        pthread_join(iothread->thread, NULL);
        error_propagate(errp, iothread->err);
        iothread_free(iothread);
        return NULL;
    }
    return iothread;
}

static void iothread_stop_bh(void *opaque)
{
    IOThread *iothread = opaque;

    iothread->stop = true;
}

void iothread_destroy(IOThread *iothread)
{
    aio_bh_schedule_oneshot(iothread->ctx, iothread_stop_bh, iothread);
    pthread_join(iothread->thread, NULL);
    iothread_free(iothread);
}

AioContext *iothread_get_aio_context(IOThread *iothread)
{
    return iothread->ctx;
}

const char *iothread_get_id(IOThread *iothread)
{
    return iothread->id;
}

int iothread_get_thread_id(IOThread *iothread)
{
    return iothread->thread_id;
}
