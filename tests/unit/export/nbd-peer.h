/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbd-peer.h - the other end of a connection, by hand, in this process; coroutine functions */
#ifndef TESTS_EXPORT_NBD_PEER_H
#define TESTS_EXPORT_NBD_PEER_H

#include "aio/channel.h"
#include "block/export/nbd/nbd-format.h"
#include "util/osdep.h"

typedef struct Peer {
    AioChannel *ch;
    NbdMode mode;
    uint64_t size;
    uint16_t flags;
    uint32_t min_block, max_block;
} Peer;

/* One answer to an option; data is freed by the next or by peer_close(). */
typedef struct OptionReply {
    uint32_t type, length;
    uint8_t data[8192];
} OptionReply;

/* One reply, or one chunk of one. */
typedef struct Chunk {
    uint32_t error; /* of simple replies and of error chunks */
    uint16_t flags, type;
    uint64_t cookie, length;
    uint8_t *data; /* payload: g_free */
} Chunk;

static inline Peer coroutine_fn peer_connect(const char *path)
{
    Peer peer = {.ch = aio_channel_socket_new(aio_socket_connect_unix(path, &error_abort))};

    return peer;
}

static inline void peer_close(Peer *peer)
{
    aio_channel_shutdown(peer->ch);
    aio_channel_close(peer->ch);
    peer->ch = NULL;
}

static inline void coroutine_fn peer_send(Peer *peer, const void *data, size_t length)
{
    g_assert_cmpint(aio_channel_write_all(peer->ch, data, length), ==, 0);
}

static inline void coroutine_fn peer_recv(Peer *peer, void *data, size_t length)
{
    g_assert_cmpint(aio_channel_read_all(peer->ch, data, length), ==, 0);
}

/* Reads until the server hangs up; false if the stream ends in another way than that. */
static inline void coroutine_fn peer_expect_closed(Peer *peer)
{
    uint8_t waste[4096];
    ssize_t got;

    do {
        got = aio_channel_read(peer->ch, waste, sizeof(waste));
    } while (got > 0);
    g_assert_true(got == 0 || got == -ECONNRESET || got == -EPIPE);
}

static inline void coroutine_fn peer_greet(Peer *peer, uint32_t flags)
{
    uint8_t hello[18], raw[4];

    peer_recv(peer, hello, sizeof(hello));
    g_assert_cmpmem(hello, 16, "NBDMAGICIHAVEOPT", 16);
    g_assert_cmpuint(ldw_be_p(hello + 16), ==, 3);
    stl_be_p(raw, flags);
    peer_send(peer, raw, 4);
}

static inline void coroutine_fn peer_option(Peer *peer, uint32_t option, const void *data,
                                            uint32_t length)
{
    uint8_t head[16];

    stq_be_p(head, NBD_OPT_MAGIC);
    stl_be_p(head + 8, option);
    stl_be_p(head + 12, length);
    peer_send(peer, head, sizeof(head));
    if (length > 0) {
        peer_send(peer, data, length);
    }
}

static inline void coroutine_fn peer_option_reply(Peer *peer, uint32_t option, OptionReply *reply)
{
    uint8_t head[20];

    peer_recv(peer, head, sizeof(head));
    g_assert_cmphex(ldq_be_p(head), ==, NBD_OPT_REPLY_MAGIC);
    g_assert_cmpuint(ldl_be_p(head + 8), ==, option);
    reply->type = ldl_be_p(head + 12);
    reply->length = ldl_be_p(head + 16);
    g_assert_cmpuint(reply->length, <=, sizeof(reply->data));
    peer_recv(peer, reply->data, reply->length);
}

/* The type of the one answer that the option gets. */
static inline uint32_t coroutine_fn peer_simple_option(Peer *peer, uint32_t option,
                                                       const void *data, uint32_t length)
{
    OptionReply reply;

    peer_option(peer, option, data, length);
    peer_option_reply(peer, option, &reply);
    return reply.type;
}

static inline void coroutine_fn peer_set_mode(Peer *peer, NbdMode mode)
{
    if (mode != NBD_MODE_SIMPLE) {
        uint32_t option =
            mode == NBD_MODE_STRUCTURED ? NBD_OPT_STRUCTURED_REPLY : NBD_OPT_EXTENDED_HEADERS;

        g_assert_cmpuint(peer_simple_option(peer, option, NULL, 0), ==, NBD_REP_ACK);
    }
    peer->mode = mode;
}

/* INFO or GO with a request for the block sizes; the last answer's type. */
static inline uint32_t coroutine_fn peer_info(Peer *peer, uint32_t option, const char *name)
{
    uint8_t data[256];
    size_t length = strlen(name);
    OptionReply reply;

    stl_be_p(data, length);
    memcpy(data + 4, name, length);
    stw_be_p(data + 4 + length, 1);
    stw_be_p(data + 6 + length, NBD_INFO_BLOCK_SIZE);
    peer_option(peer, option, data, 8 + length);
    for (;;) {
        peer_option_reply(peer, option, &reply);
        if (reply.type != NBD_REP_INFO) {
            return reply.type;
        }
        if (lduw_be_p(reply.data) == NBD_INFO_EXPORT) {
            peer->size = ldq_be_p(reply.data + 2);
            peer->flags = lduw_be_p(reply.data + 10);
        } else if (lduw_be_p(reply.data) == NBD_INFO_BLOCK_SIZE) {
            peer->min_block = ldl_be_p(reply.data + 2);
            peer->max_block = ldl_be_p(reply.data + 10);
        }
    }
}

/* LIST or SET with one query (NULL: none); ids of the answers, at most @max; how many there were. */
static inline int coroutine_fn peer_meta(Peer *peer, uint32_t option, const char *name,
                                         const char *query, uint32_t *ids, int max)
{
    uint8_t data[512];
    uint8_t *end = data;
    OptionReply reply;
    int count = 0;

    stl_be_p(end, strlen(name));
    memcpy(end + 4, name, strlen(name));
    end += 4 + strlen(name);
    stl_be_p(end, query ? 1 : 0);
    end += 4;
    if (query) {
        stl_be_p(end, strlen(query));
        memcpy(end + 4, query, strlen(query));
        end += 4 + strlen(query);
    }
    peer_option(peer, option, data, end - data);
    for (;;) {
        peer_option_reply(peer, option, &reply);
        if (reply.type != NBD_REP_META_CONTEXT) {
            return reply.type == NBD_REP_ACK ? count : -1;
        }
        if (count < max) {
            ids[count] = ldl_be_p(reply.data);
        }
        count++;
    }
}

/* A connection that is ready for requests. */
static inline Peer coroutine_fn peer_open(const char *path, const char *name, NbdMode mode)
{
    Peer peer = peer_connect(path);

    peer_greet(&peer, 3);
    peer_set_mode(&peer, mode);
    g_assert_cmpuint(peer_info(&peer, NBD_OPT_GO, name), ==, NBD_REP_ACK);
    return peer;
}

/* Only the header; writes get the payload flag where it belongs. */
static inline size_t peer_put_request(const Peer *peer, uint8_t *raw, uint16_t type, uint16_t flags,
                                      uint64_t cookie, uint64_t offset, uint64_t length)
{
    bool extended = peer->mode == NBD_MODE_EXTENDED;

    stl_be_p(raw, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    stw_be_p(raw + 4, flags | (extended && type == NBD_CMD_WRITE ? NBD_CMD_FLAG_PAYLOAD_LEN : 0));
    stw_be_p(raw + 6, type);
    stq_be_p(raw + 8, cookie);
    stq_be_p(raw + 16, offset);
    if (extended) {
        stq_be_p(raw + 24, length);
    } else {
        stl_be_p(raw + 24, length);
    }
    return nbd_request_size(peer->mode);
}

static inline void coroutine_fn peer_request(Peer *peer, uint16_t type, uint16_t flags,
                                             uint64_t cookie, uint64_t offset, uint64_t length,
                                             const void *payload)
{
    uint8_t raw[NBD_EXTENDED_REQUEST_SIZE];

    peer_send(peer, raw, peer_put_request(peer, raw, type, flags, cookie, offset, length));
    if (payload) {
        peer_send(peer, payload, length);
    }
}

/* @simple_length: the payload that a successful simple reply has. */
static inline Chunk coroutine_fn peer_chunk(Peer *peer, uint64_t simple_length)
{
    uint8_t head[NBD_EXTENDED_REPLY_SIZE];
    Chunk chunk = {.flags = NBD_REPLY_FLAG_DONE};

    peer_recv(peer, head, 16);
    if (ldl_be_p(head) == NBD_SIMPLE_REPLY_MAGIC) {
        g_assert_cmpint(peer->mode, !=, NBD_MODE_EXTENDED);
        chunk.error = ldl_be_p(head + 4);
        chunk.cookie = ldq_be_p(head + 8);
        chunk.length = chunk.error ? 0 : simple_length;
    } else {
        bool extended = peer->mode == NBD_MODE_EXTENDED;

        g_assert_cmphex(ldl_be_p(head), ==,
                        extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
        peer_recv(peer, head + 16, extended ? 16 : 4);
        chunk.flags = lduw_be_p(head + 4);
        chunk.type = lduw_be_p(head + 6);
        chunk.cookie = ldq_be_p(head + 8);
        chunk.length = extended ? ldq_be_p(head + 24) : ldl_be_p(head + 16);
    }
    g_assert_cmpuint(chunk.length, <=, NBD_MAX_BUFFER_SIZE + 8);
    chunk.data = g_malloc(chunk.length + 1);
    peer_recv(peer, chunk.data, chunk.length);
    if (chunk.type == NBD_REPLY_TYPE_ERROR) {
        chunk.error = ldl_be_p(chunk.data);
    }
    return chunk;
}

/* One request from end to end that answers with one chunk: its error; read data goes to @data. */
static inline uint32_t coroutine_fn peer_do(Peer *peer, uint16_t type, uint16_t flags,
                                            uint64_t offset, uint64_t length, void *data)
{
    static uint64_t cookie;
    bool read = type == NBD_CMD_READ;
    uint32_t error;
    Chunk chunk;

    cookie++;
    peer_request(peer, type, flags, cookie, offset, length, type == NBD_CMD_WRITE ? data : NULL);
    chunk = peer_chunk(peer, read ? length : 0);
    g_assert_cmpuint(chunk.cookie, ==, cookie);
    g_assert_cmpuint(chunk.flags, ==, NBD_REPLY_FLAG_DONE);
    if (read && data && !chunk.error) {
        size_t head = chunk.type == NBD_REPLY_TYPE_OFFSET_DATA ? 8 : 0;

        g_assert_cmpuint(chunk.length, ==, length + head);
        memcpy(data, chunk.data + head, length);
    }
    error = chunk.error;
    g_free(chunk.data);
    return error;
}

#endif
