/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbd-int.h - what the files of the room share: export, client, request.  client.c has the chapter. */
#ifndef NBD_INT_H
#define NBD_INT_H

#include "aio/channel.h"
#include "aio/timer.h"
#include "block/dirty/dirty-bitmap.h"
#include "block/export/export.h"
#include "block/export/nbd/nbd-format.h"
#include "tls/creds.h"
#include "util/osdep.h"

/*
 * Limits of a running connection.
 *
 * NBD_CLIENT_REQUESTS_MAX   requests one client may have here: the deepest queue that clients use by
 *                           default is 32 (fio) or 64 (nbdcopy: 4 connections of 64); more only wait longer
 * NBD_CLIENT_BYTES_MAX      payload of one client's requests: two of the largest, one executing while the
 *                           next arrives
 * NBD_CLIENT_BYTES_RESERVE  what a client may always have, whatever others hold, so that ordinary requests
 *                           never wait for someone who fills the memory with half sent large ones
 * NBD_PROCESS_BYTES_MAX     payload beyond the reserves, of all clients together
 * NBD_BUFFER_POOLED_MAX     buffers up to here stay with their request; larger ones go back at once
 * NBD_BUFFER_ALIGNMENT      of buffers: the page, which direct I/O asks for at most
 * NBD_RX_BYTES              receive buffer: a queue of 32 requests and 14 writes of 4 KiB come in one call
 * NBD_TX_IOV_MAX            elements of one send: a reply of a full queue, header and data each
 * NBD_SPARSE_READ_MIN       shortest read that is asked for holes: the question costs about what reading
 *                           16 KiB does, and a hole shorter than this saves less than it costs
 * NBD_READ_CHUNKS_MAX       pieces of one sparse read; the rest of a finer pattern is sent as data
 * NBD_STATUS_EXTENTS_MAX    extents in one reply, all contexts together: 64 KiB of descriptors at most, so
 *                           the reply's memory is bounded; a client asks again from where it ends
 * NBD_IO_BYTES_MAX          a request without payload may be as long as the disk; it is executed in
 *                           pieces of this size, so that a quiesce waits for one piece only; well below what
 *                           the block layer takes at once
 * NBD_CACHE_BYTES_MAX       the same for a request to fill caches, which reads into a buffer that it forgets
 */
#define NBD_CLIENT_REQUESTS_MAX  64u
#define NBD_CLIENT_BYTES_MAX     (2 * NBD_MAX_BUFFER_SIZE)
#define NBD_CLIENT_BYTES_RESERVE (2u << 20)
#define NBD_PROCESS_BYTES_MAX    (512u << 20)
#define NBD_BUFFER_POOLED_MAX    (64u << 10)
#define NBD_BUFFER_ALIGNMENT     4096u
#define NBD_RX_BYTES             (64u << 10)
#define NBD_TX_IOV_MAX           (2 * NBD_CLIENT_REQUESTS_MAX)
#define NBD_SPARSE_READ_MIN      (64u << 10)
#define NBD_READ_CHUNKS_MAX      16u
#define NBD_STATUS_EXTENTS_MAX   4096u
#define NBD_IO_BYTES_MAX         (1 * GiB)
#define NBD_CACHE_BYTES_MAX      (1u << 20)

typedef struct NbdClient NbdClient;
typedef struct NbdRequest NbdRequest;

typedef struct NbdExport {
    BlockExport common;
    /* Fixed by co_create. */
    uint64_t serial; /* never used twice: what a handshake remembers instead of a pointer */
    char *name;
    char *description; /* may be NULL */
    bool read_only;
    bool allocation_depth;
    unsigned max_executing;    /* of each client, 0: any number; what the node asks for */
    BdrvDirtyBitmap **bitmaps; /* busy while exported */
    size_t n_bitmaps;
    /* Main thread. */
    unsigned quiesced; /* drained_begin calls not yet ended */
    QTAILQ_HEAD(, NbdClient) clients;
    QTAILQ_ENTRY(NbdExport) next;
} NbdExport;

/* Which meta contexts of an export a client chose.  Ids on the wire: NBD_CONTEXT_*, then bitmaps. */
typedef struct NbdContexts {
    uint64_t export_serial; /* 0: none was chosen */
    bool base_allocation;
    bool allocation_depth;
    bool *bitmaps; /* n_bitmaps of the export; owned */
    unsigned count;
} NbdContexts;

enum { NBD_CONTEXT_BASE_ALLOCATION, NBD_CONTEXT_ALLOCATION_DEPTH, NBD_CONTEXT_BITMAPS };

/* A coroutine that waits; on its stack. */
typedef struct NbdWaiter NbdWaiter;
struct NbdWaiter {
    Coroutine *co;
    QSLIST_ENTRY(NbdWaiter) next;
};

struct NbdClient {
    /* Fixed when transmission begins. */
    AioChannel *ch;
    NbdExport *exp; /* holds a reference of the export; NULL during the handshake */
    NbdMode mode;
    uint32_t alignment;
    NbdContexts contexts;
    TlsCreds
        *tls_creds; /* one reference; nothing is told before the client talks TLS; NULL: in clear */
    char *tls_authz; /* may be NULL */
    bool encrypted;  /* @ch is */

    /* The reader's. */
    uint8_t *rx;
    size_t rx_start, rx_end;

    /* Under lock.  Lock order: memory (client.c), then this. */
    GMutex lock;
    AioContext *ctx;                  /* where requests run; changes only while quiesced */
    bool quiesced;                    /* N4: start nothing */
    bool broken;                      /* the connection is of no use any more */
    bool sending;                     /* a coroutine is emptying replies (N3) */
    QSLIST_HEAD(, NbdWaiter) waiting; /* for any of this to change: the reader, paused requests */
    unsigned n_requests;              /* slots in use */
    unsigned n_executing;             /* of them, those that may touch the node */
    uint64_t bytes;                   /* payload held */
    uint64_t bytes_shared;            /* of it, what counts against NBD_PROCESS_BYTES_MAX */
    QSIMPLEQ_HEAD(, NbdRequest) replies;
    QSLIST_HEAD(, NbdRequest) pool;

    /* The sender's. */
    struct iovec tx[NBD_TX_IOV_MAX];

    /* Under the memory lock. */
    QTAILQ_ENTRY(NbdClient) memory_next;

    /* Main thread. */
    QTAILQ_ENTRY(NbdClient) next;        /* of the export */
    QTAILQ_ENTRY(NbdClient) server_next; /* of the server */
    QEMUTimer *handshake_timer;
};

/* What a reply needs beyond one header and one buffer. */
typedef struct NbdReplyChunks {
    int niov;
    unsigned n_heads;
    void *data; /* owned; a whole reply of block status */
    struct iovec iov[2 * NBD_READ_CHUNKS_MAX];
    uint8_t heads[NBD_READ_CHUNKS_MAX][NBD_EXTENDED_REPLY_SIZE + 12];
} NbdReplyChunks;

struct NbdRequest {
    NbdClient *client;
    NbdRequestHeader header;
    uint32_t error; /* NBD_E*; decided before execution when not 0 */
    const char *why;
    uint64_t bytes; /* payload that it holds */
    uint8_t *buf;
    size_t buf_size;
    /* The reply: head[], then iov[1] or chunks. */
    int niov;
    struct iovec iov[2];
    NbdReplyChunks *chunks; /* owned; instead of iov when not NULL */
    uint8_t head[128];
    QSIMPLEQ_ENTRY(NbdRequest) reply_next;
    QSLIST_ENTRY(NbdRequest) pool_next;
};

/* handshake.c: coroutine, main context.  0 and client->exp is set, or the connection is to end. */
int coroutine_fn nbd_handshake(NbdClient *client);
/* For handshake.c and meta.c: an answer to an option. */
int coroutine_fn nbd_option_reply(NbdClient *client, uint32_t option, uint32_t type,
                                  const void *data, size_t length);
int coroutine_fn nbd_option_error(NbdClient *client, uint32_t option, uint32_t type,
                                  const char *why);

/* meta.c */
int coroutine_fn nbd_meta_option(NbdClient *client, uint32_t option, const uint8_t *data,
                                 size_t length);
void nbd_contexts_clear(NbdContexts *contexts);

/* client.c.  Main thread for new, shutdown and free. */
NbdClient *nbd_client_new(AioChannel *ch);
void nbd_client_free(NbdClient *client);
/* Everything of this connection ends soon.  Main thread; idempotent. */
void nbd_client_shutdown(NbdClient *client);
/* The transmission phase, from first request to last reply; ends in whatever context it was in. */
void coroutine_fn nbd_client_run(NbdClient *client);
void nbd_client_drained_begin(NbdClient *client);
bool nbd_client_drained_poll(NbdClient *client);
void nbd_client_drained_end(NbdClient *client);
void nbd_client_set_context(NbdClient *client, AioContext *ctx);
/* Something under the lock, which is held, has changed: whoever waits looks again. */
void nbd_client_wake(NbdClient *client);
/* N4.  Let a quiesce pass in the middle of a long request; -ECANCELED: the connection is over. */
int coroutine_fn nbd_request_pause_point(NbdRequest *req);
/* A request's slot and payload are free again. */
void nbd_request_release(NbdRequest *req);

/* request.c: does it, unless it was refused, and leaves error, buf or chunks for the reply. */
void coroutine_fn nbd_request_execute(NbdRequest *req);

/* status.c: fills the reply; 0 or negative errno. */
int coroutine_fn nbd_co_block_status(NbdRequest *req);

/* reply.c */
void nbd_reply_prepare(NbdRequest *req);
void coroutine_fn nbd_reply_send(NbdRequest *req);

/* server.c.  Main thread.  May a client have a second connection? */
bool nbd_server_has_room_for_two(void);

/* export.c.  Main thread. */
NbdExport *nbd_export_find(const char *name, size_t length);
NbdExport *nbd_export_next(NbdExport *exp);
uint16_t nbd_export_flags(const NbdExport *exp, NbdMode mode);
int64_t nbd_export_size(const NbdExport *exp);
void nbd_export_attach(NbdExport *exp, NbdClient *client);
void nbd_export_detach(NbdClient *client);

#endif
