/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See nbd-toy.h.  A thread for each connection, blocking I/O: as plain as a server can be. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/unit/drivers/nbd-toy.h"
#include "util/osdep.h"

#define OPT_MAGIC     0x49484156454f5054ULL
#define REP_MAGIC     0x3e889045565a9ULL
#define REQUEST_MAGIC 0x25609513u
#define SIMPLE_MAGIC  0x67446698u
#define CHUNK_MAGIC   0x668e33efu

/* Options and requests longer than this do not come from a driver that is right. */
#define TOY_PAYLOAD_MAX (64 * MiB)

/* Between the bytes of a slow server. */
#define TOY_SLOW_US 10000

typedef struct ToyClient {
    ToyNbd *toy;
    int fd;
    bool structured;
    bool has_context;
    GThread *thread;
} ToyClient;

static bool get(ToyClient *c, void *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(c->fd, buf, len, 0);

        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return false;
        }
        buf = (char *)buf + MAX(n, 0);
        len -= MAX(n, 0);
    }
    return true;
}

static bool put(ToyClient *c, const void *buf, size_t len)
{
    while (len > 0) {
        bool slow = toy_get(&c->toy->slow);
        ssize_t n = send(c->fd, buf, slow ? 1 : len, MSG_NOSIGNAL);

        if (slow) {
            g_usleep(TOY_SLOW_US);
        }

        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return false;
        }
        buf = (const char *)buf + MAX(n, 0);
        len -= MAX(n, 0);
    }
    return true;
}

static bool put_reply(ToyClient *c, uint32_t option, uint32_t type, const void *data, uint32_t len)
{
    uint8_t head[20];

    stq_be_p(head, REP_MAGIC);
    stl_be_p(head + 8, option);
    stl_be_p(head + 12, type);
    stl_be_p(head + 16, len);
    return put(c, head, sizeof(head)) && put(c, data, len);
}

static bool put_export(ToyClient *c, uint32_t option)
{
    ToyNbd *toy = c->toy;
    uint8_t info[14] = {0};

    stq_be_p(info + 2, toy->size);
    stw_be_p(info + 10, toy->flags);
    if (!put_reply(c, option, 3, info, 12)) {
        return false;
    }
    if (toy->min_block) {
        stw_be_p(info, 3);
        stl_be_p(info + 2, toy->min_block);
        stl_be_p(info + 6, MAX(toy->min_block, 4096u));
        stl_be_p(info + 10, toy->max_block);
        if (!put_reply(c, option, 3, info, 14)) {
            return false;
        }
    }
    return put_reply(c, option, 1, NULL, 0);
}

static bool put_context(ToyClient *c, uint32_t option)
{
    uint8_t context[4 + 15] = {0, 0, 0, 7};

    memcpy(context + 4, "base:allocation", 15);
    c->has_context = true;
    return put_reply(c, option, 4, context, sizeof(context)) && put_reply(c, option, 1, NULL, 0);
}

/* One option; *ret_go: transmission begins. */
static bool serve_option(ToyClient *c, bool *ret_go)
{
    uint8_t head[16];
    uint32_t option, len;
    g_autofree uint8_t *data = NULL;

    if (!get(c, head, sizeof(head)) || ldq_be_p(head) != OPT_MAGIC) {
        return false;
    }
    option = ldl_be_p(head + 8);
    len = ldl_be_p(head + 12);
    if (len > TOY_PAYLOAD_MAX) {
        return false;
    }
    data = g_malloc(len + 1);
    if (!get(c, data, len)) {
        return false;
    }
    switch (option) {
    case 7: /* GO */
        *ret_go = true;
        return put_export(c, option);
    case 8: /* STRUCTURED_REPLY */
        if (!c->toy->structured) {
            break;
        }
        c->structured = true;
        return put_reply(c, option, 1, NULL, 0);
    case 10: /* SET_META_CONTEXT */
        if (!c->structured) {
            break;
        }
        return put_context(c, option);
    case 2: /* ABORT */
        put_reply(c, option, 1, NULL, 0);
        return false;
    default:
        break;
    }
    return put_reply(c, option, 0x80000001u, NULL, 0); /* not supported */
}

static bool shake_hands(ToyClient *c)
{
    uint8_t hello[18] = "NBDMAGICIHAVEOPT", answer[4];
    bool go = false;

    __atomic_add_fetch(&c->toy->hellos, 1, __ATOMIC_SEQ_CST);
    if (toy_get(&c->toy->refuse_hello)) {
        return false;
    }
    if (toy_get(&c->toy->silent_hello)) {
        while (get(c, answer, 1)) {
        }
        return false;
    }
    stw_be_p(hello + 16, 3);
    if (!put(c, hello, sizeof(hello)) || !get(c, answer, sizeof(answer))) {
        return false;
    }
    while (!go) {
        if (!serve_option(c, &go)) {
            return false;
        }
    }
    return true;
}

static bool put_chunk(ToyClient *c, uint64_t cookie, unsigned type, const void *a, size_t a_len,
                      const void *b, size_t b_len)
{
    uint8_t head[20];

    stl_be_p(head, CHUNK_MAGIC);
    stw_be_p(head + 4, 1);
    stw_be_p(head + 6, type);
    stq_be_p(head + 8, cookie);
    stl_be_p(head + 16, a_len + b_len);
    return put(c, head, sizeof(head)) && put(c, a, a_len) && put(c, b, b_len);
}

static bool put_simple(ToyClient *c, uint64_t cookie, uint32_t error)
{
    uint8_t head[16];

    stl_be_p(head, SIMPLE_MAGIC);
    stl_be_p(head + 4, error);
    stq_be_p(head + 8, cookie);
    return put(c, head, sizeof(head));
}

/* Runs of zero and nonzero blocks of 4096 bytes, as many as fit. */
static bool put_status(ToyClient *c, uint64_t cookie, int64_t offset, int64_t len)
{
    static const uint8_t zeros[4096];
    ToyNbd *toy = c->toy;
    int64_t end = MIN(offset + len, toy->size);
    uint8_t answer[4 + 8 * 64] = {0, 0, 0, 7};
    size_t n = 4;
    int bad = toy_get(&toy->bad_status);

    g_mutex_lock(&toy->disk_lock);
    while (offset < end && n < sizeof(answer)) {
        int64_t at = offset;
        bool zero = true, first = true;

        while (at < end) {
            int64_t step = MIN(4096 - at % 4096, end - at);
            bool z = memcmp(toy->disk + at, zeros, step) == 0;

            if (!first && z != zero) {
                break;
            }
            zero = z;
            first = false;
            at += step;
        }
        stl_be_p(answer + n, bad == 1 ? 0 : bad == 2 ? 513 : bad == 3 ? 0xfffff000u : at - offset);
        stl_be_p(answer + n + 4, zero ? 3 : 0);
        n += 8;
        offset = at;
    }
    g_mutex_unlock(&toy->disk_lock);
    return put_chunk(c, cookie, 5, answer, n, NULL, 0);
}

static bool answer(ToyClient *c, unsigned type, uint64_t cookie, int64_t offset, int64_t len)
{
    ToyNbd *toy = c->toy;
    int error = toy_get(&toy->error);
    g_autofree uint8_t *data = NULL;
    uint8_t where[8];

    if (type == TOY_CMD_STATUS) {
        return put_status(c, cookie, offset, len);
    }
    if (error) {
        uint8_t words[6] = {0};

        stl_be_p(words, error);
        return c->structured ? put_chunk(c, cookie, 0x8001, words, sizeof(words), NULL, 0)
                             : put_simple(c, cookie, error);
    }
    if (type != TOY_CMD_READ) {
        return put_simple(c, cookie, 0);
    }
    data = g_malloc(len);
    g_mutex_lock(&toy->disk_lock);
    memcpy(data, toy->disk + offset, len);
    g_mutex_unlock(&toy->disk_lock);
    stq_be_p(where, offset);
    return c->structured ? put_chunk(c, cookie, 1, where, sizeof(where), data, len)
                         : put_simple(c, cookie, 0) && put(c, data, len);
}

static bool serve_request(ToyClient *c)
{
    ToyNbd *toy = c->toy;
    uint8_t head[28];
    unsigned flags, type;
    int64_t offset, len;
    g_autofree uint8_t *data = NULL;
    int number;

    if (!get(c, head, sizeof(head)) || ldl_be_p(head) != REQUEST_MAGIC) {
        return false;
    }
    flags = lduw_be_p(head + 4);
    type = lduw_be_p(head + 6);
    offset = ldq_be_p(head + 16);
    len = ldl_be_p(head + 24);
    /* What the driver must never send. */
    g_assert_cmpuint(type, <, TOY_CMD_MAX);
    if (type != TOY_CMD_DISC && type != TOY_CMD_FLUSH) {
        g_assert_cmpint(offset + len, <=, toy->size);
        g_assert_cmpint((offset | len) % MAX(toy->min_block, 1u), ==, 0);
    }
    if (type == TOY_CMD_DISC) {
        return false;
    }
    if (type == TOY_CMD_READ || type == TOY_CMD_WRITE) {
        g_assert_cmpint(len, <=, toy->max_block ? toy->max_block : 32 * MiB);
        toy_set(&toy->longest, MAX(toy_get(&toy->longest), (int)len));
    }
    if (type == TOY_CMD_WRITE) {
        data = g_malloc(len);
        if (!get(c, data, len)) {
            return false;
        }
    }
    number = __atomic_add_fetch(&toy->requests, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&toy->seen[type], 1, __ATOMIC_SEQ_CST);
    toy_set(&toy->last_flags, flags);
    if (toy_get(&toy->silent)) {
        return true;
    }
    if (number == toy_get(&toy->lose_at) || toy_get(&toy->lose_at) < 0) {
        return false;
    }
    g_mutex_lock(&toy->disk_lock);
    if (type == TOY_CMD_WRITE) {
        memcpy(toy->disk + offset, data, len);
    } else if (type == TOY_CMD_ZERO || type == TOY_CMD_TRIM) {
        memset(toy->disk + offset, 0, len);
    }
    g_mutex_unlock(&toy->disk_lock);
    return answer(c, type, ldq_be_p(head + 8), offset, len);
}

static void *client_thread(void *opaque)
{
    ToyClient *c = opaque;

    if (shake_hands(c)) {
        __atomic_add_fetch(&c->toy->connected, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&c->toy->live, 1, __ATOMIC_SEQ_CST);
        while (serve_request(c)) {
        }
        __atomic_sub_fetch(&c->toy->live, 1, __ATOMIC_SEQ_CST);
    }
    shutdown(c->fd, SHUT_RDWR);
    return NULL;
}

static void *acceptor_thread(void *opaque)
{
    ToyNbd *toy = opaque;
    int fd;

    while ((fd = accept4(toy->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        ToyClient *c = g_new0(ToyClient, 1);

        *c = (ToyClient){.toy = toy, .fd = fd};
        g_mutex_lock(&toy->lock);
        g_ptr_array_add(toy->clients, c);
        c->thread = g_thread_new("toy-client", client_thread, c);
        g_mutex_unlock(&toy->lock);
    }
    return NULL;
}

void toy_start(ToyNbd *toy)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    if (toy->room < toy->size) {
        toy->disk = g_realloc(toy->disk, toy->size);
        memset(toy->disk + toy->room, 0, toy->size - toy->room);
        toy->room = toy->size;
    }
    toy->clients = toy->clients ? toy->clients : g_ptr_array_new_with_free_func(g_free);
    g_strlcpy(un.sun_path, toy->path, sizeof(un.sun_path));
    unlink(toy->path);
    toy->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(toy->listen_fd, (struct sockaddr *)&un, sizeof(un)), ==, 0);
    g_assert_cmpint(listen(toy->listen_fd, 64), ==, 0);
    toy->acceptor = g_thread_new("toy-accept", acceptor_thread, toy);
}

void toy_kick(ToyNbd *toy)
{
    g_mutex_lock(&toy->lock);
    for (guint i = 0; i < toy->clients->len; i++) {
        shutdown(((ToyClient *)toy->clients->pdata[i])->fd, SHUT_RDWR);
    }
    g_mutex_unlock(&toy->lock);
}

void toy_stop(ToyNbd *toy)
{
    shutdown(toy->listen_fd, SHUT_RDWR);
    g_thread_join(toy->acceptor);
    close(toy->listen_fd);
    unlink(toy->path);
    toy_kick(toy);
    for (guint i = 0; i < toy->clients->len; i++) {
        ToyClient *c = toy->clients->pdata[i];

        g_thread_join(c->thread);
        close(c->fd);
    }
    g_ptr_array_set_size(toy->clients, 0);
}

void toy_free(ToyNbd *toy)
{
    g_ptr_array_unref(toy->clients);
    toy->clients = NULL;
    g_clear_pointer(&toy->disk, g_free);
    toy->room = 0;
}
