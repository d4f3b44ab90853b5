/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aio-serve.c - what it costs to serve small random reads of a file over a socket
 *
 *     aio-serve FILE [io_uring|epoll] [direct|buffered] [SECONDS]
 *
 * A client thread keeps 1, then 32 requests of 4 KiB in flight on a socket pair; the main thread serves
 * them as an NBD export does: one coroutine reads requests, one for each request reads the file, one
 * gathers the replies.  Prints requests per second, and microseconds of the serving thread's
 * processor for each.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "aio/aio.h"
#include "aio/channel.h"
#include "aio/file.h"
#include "util/osdep.h"

enum { BLOCK = 4096, DEPTH_MAX = 32, READ_BUFFER = 64 * 1024 };

/* About as long as NBD's. */
typedef struct Request {
    uint64_t cookie, offset, length, spare;
} Request;

typedef struct Reply {
    uint64_t cookie, error;
} Reply;

typedef struct Slot {
    struct Server *server;
    Reply reply;
    int64_t offset;
    void *data;
    struct Slot *next;
} Slot;

typedef struct Server {
    AioChannel *ch;
    int fd;
    AioFileEngine engine;
    Slot *free;
    Slot *done, **done_tail;
    Coroutine *sender; /* when it waits for something to send */
    int running;       /* coroutines */
    bool ending;
} Server;

static void coroutine_fn serve_one(void *opaque)
{
    Slot *slot = opaque;
    Server *s = slot->server;
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, slot->data, BLOCK);
    s->running++;
    slot->reply.error = -aio_file_preadv(s->engine, s->fd, slot->offset, &qiov);
    s->running--;
    slot->next = NULL;
    *s->done_tail = slot;
    s->done_tail = &slot->next;
    if (s->sender) {
        Coroutine *sender = s->sender;

        s->sender = NULL;
        aio_co_wake(sender); /* runs after all completions of this turn */
    }
}

static void coroutine_fn send_replies(void *opaque)
{
    Server *s = opaque;

    while (!s->ending) {
        struct iovec iov[2 * DEPTH_MAX];
        Slot *batch = s->done;
        int niov = 0;

        if (!batch) {
            s->sender = qemu_coroutine_self();
            qemu_coroutine_yield();
            continue;
        }
        s->done = NULL;
        s->done_tail = &s->done;
        for (Slot *slot = batch; slot; slot = slot->next) {
            iov[niov++] = (struct iovec){&slot->reply, sizeof(slot->reply)};
            iov[niov++] = (struct iovec){slot->data, BLOCK};
        }
        if (aio_channel_writev_all(s->ch, iov, niov) < 0) {
            break;
        }
        while (batch) {
            Slot *next = batch->next;

            batch->next = s->free;
            s->free = batch;
            batch = next;
        }
    }
    s->running--;
}

static void coroutine_fn read_requests(void *opaque)
{
    Server *s = opaque;
    Request request;

    while (aio_channel_read_all(s->ch, &request, sizeof(request)) == 0) {
        Slot *slot = s->free;

        s->free = slot->next;
        slot->reply.cookie = request.cookie;
        slot->offset = request.offset;
        qemu_coroutine_enter(qemu_coroutine_create(serve_one, slot));
    }
    s->ending = true;
    if (s->sender) {
        aio_co_wake(s->sender);
        s->sender = NULL;
    }
    s->running--;
}

typedef struct Client {
    int fd;
    int depth;
    int64_t blocks;
    double seconds;
    long done;
} Client;

static double clock_s(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static void client_send(Client *c, int count, unsigned *seed)
{
    Request requests[DEPTH_MAX] = {0};

    for (int i = 0; i < count; i++) {
        requests[i].offset = (int64_t)(rand_r(seed) % c->blocks) * BLOCK;
        requests[i].length = BLOCK;
    }
    if (write(c->fd, requests, count * sizeof(Request)) < 0) {
        perror("client");
        exit(1);
    }
}

static void *client_run(void *opaque)
{
    Client *c = opaque;
    char *buf = g_malloc(DEPTH_MAX * (BLOCK + sizeof(Reply)));
    double end = clock_s(CLOCK_MONOTONIC) + c->seconds;
    size_t have = 0;
    unsigned seed = 1;

    client_send(c, c->depth, &seed);
    while (clock_s(CLOCK_MONOTONIC) < end) {
        ssize_t ret = read(c->fd, buf, DEPTH_MAX * (BLOCK + sizeof(Reply)));
        int replies;

        if (ret <= 0) {
            perror("client");
            exit(1);
        }
        have += ret;
        replies = have / (BLOCK + sizeof(Reply));
        have %= BLOCK + sizeof(Reply);
        c->done += replies;
        if (replies) {
            client_send(c, replies, &seed);
        }
    }
    shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    g_free(buf);
    return NULL;
}

static void run(Server *s, int depth, int64_t blocks, double seconds)
{
    AioContext *ctx = qemu_get_aio_context();
    Client client = {.depth = depth, .blocks = blocks, .seconds = seconds};
    Slot slots[DEPTH_MAX];
    pthread_t thread;
    double cpu;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        perror("socketpair");
        exit(1);
    }
    client.fd = fds[1];
    s->ch = aio_channel_socket_new(fds[0]);
    aio_channel_set_read_buffer(s->ch, READ_BUFFER);
    s->done_tail = &s->done;
    s->done = NULL;
    s->free = NULL;
    s->ending = false;
    s->running = 2;
    for (int i = 0; i < DEPTH_MAX; i++) {
        slots[i] = (Slot){
            .server = s, .data = qemu_memalign(BLOCK, BLOCK), .next = i ? &slots[i - 1] : NULL};
    }
    s->free = &slots[DEPTH_MAX - 1];
    cpu = clock_s(CLOCK_THREAD_CPUTIME_ID);
    pthread_create(&thread, NULL, client_run, &client);
    aio_co_enter(ctx, qemu_coroutine_create(send_replies, s));
    aio_co_enter(ctx, qemu_coroutine_create(read_requests, s));
    while (s->running) {
        aio_poll(ctx, true);
    }
    cpu = clock_s(CLOCK_THREAD_CPUTIME_ID) - cpu;
    pthread_join(thread, NULL);
    printf("depth %2d  %8.0f requests/s  %5.2f us of the server's processor each\n", depth,
           client.done / seconds, cpu * 1e6 / client.done);
    aio_channel_close(s->ch);
    for (int i = 0; i < DEPTH_MAX; i++) {
        qemu_vfree(slots[i].data);
    }
}

int main(int argc, char **argv)
{
    Server s = {0};
    bool epoll = argc > 2 && g_str_equal(argv[2], "epoll");
    bool direct = argc <= 3 || g_str_equal(argv[3], "direct");
    double seconds = argc > 4 ? atof(argv[4]) : 2;
    struct stat st;

    if (argc < 2) {
        fprintf(stderr, "usage: aio-serve FILE [io_uring|epoll] [direct|buffered] [SECONDS]\n");
        return 1;
    }
    aio_init(epoll ? AIO_ENGINE_EPOLL : AIO_ENGINE_AUTO, &error_fatal);
    s.fd = open(argv[1], O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (s.fd < 0 || fstat(s.fd, &st) < 0 || st.st_size < BLOCK) {
        perror(argv[1]);
        return 1;
    }
    s.engine = epoll && direct ? AIO_FILE_NATIVE : aio_file_engine_default(qemu_get_aio_context());
    if (aio_file_engine_check(qemu_get_aio_context(), s.engine, &error_fatal) < 0) {
        return 1;
    }
    printf("%s, %s\n", aio_context_engine_name(qemu_get_aio_context()),
           direct ? "direct" : "buffered");
    run(&s, 1, st.st_size / BLOCK, seconds);
    run(&s, DEPTH_MAX, st.st_size / BLOCK, seconds);
    close(s.fd);
    aio_cleanup();
    return 0;
}
