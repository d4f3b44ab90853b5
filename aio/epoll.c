/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * epoll.c - a context that waits in epoll, where io_uring is refused
 *
 * epoll knows a descriptor once; here several may wait for it.  So each descriptor has an entry with
 * the polls that wait, and the mask that epoll was told last.
 *
 * E1  The mask covers what is waited for.  It may cover more: a channel (`keep`) will wait for the
 *     same again, and two system calls a read would be lost.  If an event comes that nobody waits
 *     for, the mask is cut back then.
 * E2  The kernel forgets a closed descriptor by itself, we do not: who closes one that may have been
 *     kept calls forget_fd(), else the next file with that number would be thought registered.
 * E3  What epoll cannot watch (regular files) is always ready, as poll(2) has it.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "aio-int.h"
#include "trace-aio.h"

#define EPOLL_BATCH 64 /* events taken by one call; the rest is there for the next turn */

QEMU_BUILD_BUG_ON(EPOLLIN != POLLIN || EPOLLOUT != POLLOUT || EPOLLERR != POLLERR ||
                  EPOLLHUP != POLLHUP);

typedef struct EpollFd {
    uint32_t mask; /* what epoll was told; 0: not registered */
    bool keep;
    QLIST_HEAD(, AioPoll) polls;
} EpollFd;

struct AioEpoll {
    int epfd;
    EpollFd **fds; /* by number; NULL where nothing is known */
    int fd_room;
    QLIST_HEAD(AioPollList, AioPoll) fired; /* without epoll's help; called back in dispatch */
    struct epoll_event events[EPOLL_BATCH];
    int event_count;
    AioPoll notify;
    bool only_ms; /* the kernel has no epoll_pwait2() */
};

static EpollFd *epoll_fd_get(AioEpoll *e, int fd)
{
    if (fd >= e->fd_room) {
        int room = MAX(fd + 1, 2 * e->fd_room);

        e->fds = g_renew(EpollFd *, e->fds, room);
        memset(e->fds + e->fd_room, 0, (room - e->fd_room) * sizeof(*e->fds));
        e->fd_room = room;
    }
    if (!e->fds[fd]) {
        e->fds[fd] = g_new0(EpollFd, 1);
    }
    return e->fds[fd];
}

static EpollFd *epoll_fd_find(AioEpoll *e, int fd)
{
    return fd < e->fd_room ? e->fds[fd] : NULL;
}

/* Tell epoll @mask.  Returns 0 or -errno. */
static int epoll_tell(AioEpoll *e, int fd, EpollFd *f, uint32_t mask)
{
    struct epoll_event event = {.events = mask, .data.fd = fd};
    int op = !mask ? EPOLL_CTL_DEL : f->mask ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int ret = epoll_ctl(e->epfd, op, fd, &event);

    if (ret < 0 && errno == ENOENT && op == EPOLL_CTL_MOD) {
        ret = epoll_ctl(e->epfd, EPOLL_CTL_ADD, fd, &event); /* closed and opened meanwhile */
    }
    f->mask = ret < 0 ? 0 : mask;
    return ret < 0 ? -errno : 0;
}

static uint32_t wanted_mask(EpollFd *f)
{
    uint32_t mask = 0;
    AioPoll *poll;

    QLIST_FOREACH (poll, &f->polls, next) {
        mask |= poll->events;
    }
    return mask;
}

/* Cut the mask back to what is waited for, and drop an entry that says nothing. */
static void epoll_fd_trim(AioEpoll *e, int fd, EpollFd *f)
{
    uint32_t wanted = wanted_mask(f);

    if (f->mask & ~wanted) {
        epoll_tell(e, fd, f, wanted);
    }
    if (!f->mask && QLIST_EMPTY(&f->polls)) {
        e->fds[fd] = NULL;
        g_free(f);
    }
}

static void epoll_fire(AioEpoll *e, AioPoll *poll, int revents)
{
    QLIST_REMOVE(poll, next);
    poll->revents = revents;
    QLIST_INSERT_HEAD(&e->fired, poll, next);
}

static void epoll_poll_start(AioContext *ctx, AioPoll *poll)
{
    AioEpoll *e = ctx->epoll;
    EpollFd *f = epoll_fd_get(e, poll->fd);
    uint32_t mask = f->mask | poll->events;
    int ret = 0;

    assert(!poll->armed);
    poll->armed = true;
    poll->cancelling = false;
    QLIST_INSERT_HEAD(&f->polls, poll, next);
    f->keep |= poll->keep;
    if (mask != f->mask || mask == 0) {
        ret = epoll_tell(e, poll->fd, f, mask ? mask : EPOLLERR);
    }
    if (ret < 0) {
        epoll_fire(e, poll, ret == -EPERM ? poll->events : ret == -EBADF ? POLLNVAL : POLLERR);
        epoll_fd_trim(e, poll->fd, f);
    }
}

static void epoll_poll_cancel(AioContext *ctx, AioPoll *poll)
{
    AioEpoll *e = ctx->epoll;
    EpollFd *f = epoll_fd_find(e, poll->fd);

    if (poll->cancelling) {
        return;
    }
    poll->cancelling = true;
    epoll_fire(e, poll, -ECANCELED);
    if (f) {
        epoll_fd_trim(e, poll->fd, f);
    }
}

static void epoll_forget_fd(AioContext *ctx, int fd)
{
    EpollFd *f = epoll_fd_find(ctx->epoll, fd);

    if (f) {
        assert(QLIST_EMPTY(&f->polls));
        epoll_fd_trim(ctx->epoll, fd, f);
    }
}

static void poll_call_back(AioPoll *poll, int revents)
{
    QLIST_REMOVE(poll, next);
    poll->armed = false;
    poll->cb(poll, revents);
}

/* One event: call back who waits for it.  Entries and polls may come and go in the callbacks. */
static bool epoll_dispatch_fd(AioContext *ctx, int fd, uint32_t events)
{
    AioEpoll *e = ctx->epoll;
    EpollFd *f = epoll_fd_find(e, fd);
    struct AioPollList due = QLIST_HEAD_INITIALIZER(due);
    AioPoll *poll, *next;
    bool progress;

    if (!f) {
        return false; /* forgotten since the event was taken */
    }
    QLIST_FOREACH_SAFE (poll, &f->polls, next, next) {
        if (events & (poll->events | EPOLLERR | EPOLLHUP)) {
            QLIST_REMOVE(poll, next);
            poll->revents = events & (poll->events | EPOLLERR | EPOLLHUP);
            QLIST_INSERT_HEAD(&due, poll, next);
        }
    }
    progress = !QLIST_EMPTY(&due);
    if (!progress) {
        f->keep = false; /* E1 */
    }
    while ((poll = QLIST_FIRST(&due))) {
        poll_call_back(poll, poll->revents);
    }
    f = epoll_fd_find(e, fd);
    if (f && !f->keep) {
        epoll_fd_trim(e, fd, f);
    }
    return progress;
}

static bool epoll_dispatch(AioContext *ctx)
{
    AioEpoll *e = ctx->epoll;
    struct AioPollList fired;
    bool progress = false;
    AioPoll *poll;
    int count = e->event_count;

    e->event_count = 0;
    QLIST_MOVE(&fired, &e->fired, next); /* A1 */
    while ((poll = QLIST_FIRST(&fired))) {
        poll_call_back(poll, poll->revents);
        progress = true;
    }
    for (int i = 0; i < count; i++) {
        progress |= epoll_dispatch_fd(ctx, e->events[i].data.fd, e->events[i].events);
    }
    return progress;
}

/* Before Linux 5.11 there are only milliseconds; never too early. */
static int epoll_wait_ms(AioEpoll *e, int64_t timeout_ns)
{
    int ms = timeout_ns < 0 ? -1 : MIN(DIV_ROUND_UP(timeout_ns, SCALE_MS), INT_MAX);

    return epoll_wait(e->epfd, e->events, EPOLL_BATCH, ms);
}

static int epoll_wait_ns(AioEpoll *e, int64_t timeout_ns)
{
    struct timespec ts = {
        .tv_sec = timeout_ns / NANOSECONDS_PER_SECOND,
        .tv_nsec = timeout_ns % NANOSECONDS_PER_SECOND,
    };

    return epoll_pwait2(e->epfd, e->events, EPOLL_BATCH, timeout_ns < 0 ? NULL : &ts, NULL);
}

static void epoll_do_wait(AioContext *ctx, int64_t timeout_ns)
{
    AioEpoll *e = ctx->epoll;
    int count = -1;

    if (!QLIST_EMPTY(&e->fired)) {
        timeout_ns = 0;
    }
    if (!e->only_ms) {
        count = epoll_wait_ns(e, timeout_ns);
        e->only_ms = count < 0 && errno == ENOSYS;
    }
    if (e->only_ms) {
        count = epoll_wait_ms(e, timeout_ns);
    }
    if (count < 0 && errno != EINTR) {
        perror("epoll refuses to wait");
        abort();
    }
    e->event_count = MAX(count, 0);
}

static void notify_ready(AioPoll *poll, int revents)
{
    AioContext *ctx = qemu_get_current_aio_context();
    eventfd_t value;

    eventfd_read(poll->fd, &value); /* quiet again; being awake is all */
    ctx->engine->poll_start(ctx, poll);
}

static int epoll_init(AioContext *ctx, Error **errp)
{
    AioEpoll *e = g_new0(AioEpoll, 1);

    e->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epfd < 0) {
        int ret = -errno;

        error_setg_errno(errp, -ret, "Cannot make an epoll descriptor");
        g_free(e);
        return ret;
    }
    ctx->epoll = e;
    e->notify.fd = ctx->notify_fd;
    e->notify.events = POLLIN;
    e->notify.cb = notify_ready;
    epoll_poll_start(ctx, &e->notify);
    return 0;
}

static void epoll_fini(AioContext *ctx)
{
    AioEpoll *e = ctx->epoll;

    for (int fd = 0; fd < e->fd_room; fd++) {
        g_free(e->fds[fd]);
    }
    g_free(e->fds);
    close(e->epfd);
    g_free(e);
    ctx->epoll = NULL;
}

const AioEngineOps aio_epoll_ops = {
    .name = "epoll",
    .init = epoll_init,
    .fini = epoll_fini,
    .wait = epoll_do_wait,
    .dispatch = epoll_dispatch,
    .poll_start = epoll_poll_start,
    .poll_cancel = epoll_poll_cancel,
    .forget_fd = epoll_forget_fd,
};
