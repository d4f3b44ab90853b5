/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the "nbd" room share. */
#ifndef BLOCK_DRIVERS_NBD_INT_H
#define BLOCK_DRIVERS_NBD_INT_H

#include <libnbd.h>
#include "aio/timer.h"
#include "block/graph/graph.h"
#include "coro/sleep.h"
#include "qapi/qapi-types-sockets.h"
#include "util/osdep.h"
#include "util/queue.h"

/*
 * Most connections of one node, and how many there are when nobody says.
 * Four keep the threads of a common server busy and go around the head-of-line blocking of one TCP
 * stream; copying tools of this field settled on it.  Beyond sixteen a server counts clients, not speed.
 */
#define NBD_CONNECTIONS_MAX     16
#define NBD_CONNECTIONS_DEFAULT 4

/*
 * Seconds that requests are held while the server is away.  The restart of a server, a fail-over or a
 * new cable takes less; what waits here would otherwise begin from nothing, as a backup does.
 */
#define NBD_RECONNECT_DELAY_DEFAULT 60
/* A day, for delays in seconds: who waits longer has forgotten that he waits. */
#define NBD_DELAY_MAX               86400

/*
 * Most data under way to and from one server, where its link carries as much (window.c): 1 Gbit/s over
 * 130 ms, 10 Gbit/s over 13 ms.  A request that is larger goes alone.
 */
#define NBD_IN_FLIGHT_BYTES (16 * MiB)
/* As much may be under way on any link: sixteen requests of 64 KiB keep the disks of a server busy. */
#define NBD_WINDOW_MIN      (1 * MiB)
/* How long it is believed what a round trip takes: two of them in such a time are no loss. */
#define NBD_WINDOW_ALONE_NS (30 * NANOSECONDS_PER_SECOND)
/* What every server must take that names no limit of its own (the protocol's words on block sizes). */
#define NBD_TRANSFER_MAX    (32 * MiB)
/* The protocol's longest string. */
#define NBD_NAME_MAX        4096
/* The protocol's largest minimum block. */
#define NBD_BLOCK_MAX       65536
/*
 * Some servers have no other way than to write zeros: at 3 MiB/s such a piece is done before the server
 * counts as silent, and 8 TiB are still only 32768 requests.
 */
#define NBD_ZEROES_MAX      (256 * MiB)
/* A trim is 32 bits long on the wire. */
#define NBD_TRIM_MAX        (1 * GiB)
/* Extents kept of one answer to block status; the rest of a longer one is asked for again. */
#define NBD_EXTENTS_MAX     1024
/* How far ahead of the question: a walk over a disk asks for its neighbour next. */
#define NBD_STATUS_BYTES    (256 * MiB)

/* Times in nanoseconds.  Constants but for tests, which cannot wait that long. */
typedef struct NbdTimes {
    int64_t connect;     /* for a socket to be connected */
    int64_t handshake;   /* a few small messages */
    int64_t silence;     /* requests wait and nothing comes or goes: N5 */
    int64_t hurry;       /* the same, when somebody waits for the end: N6 */
    int64_t hurry_max;   /* the same for one that does come and go, byte by byte */
    int64_t cancel;      /* for requests that nobody wants any more: N6 */
    int64_t backoff_min; /* after the first attempt that failed; doubles */
    int64_t backoff_max;
    int64_t zero_extent; /* a kept "this is zero" is believed: N8 */
} NbdTimes;
extern NbdTimes nbd_times;

/* What the server said of the export. */
typedef struct NbdInfo {
    int64_t size;
    uint32_t min_block, opt_block; /* opt_block 0: not said */
    int64_t max_transfer;
    bool read_only, can_flush, can_fua, can_trim, can_zero, can_fast_zero, multi_conn;
    bool has_status; /* structured replies and the context */
} NbdInfo;

typedef struct NbdState NbdState;
typedef struct NbdOp NbdOp;

/* window.c.  Zero at first. */
typedef struct NbdWindow {
    int64_t trip_ns;     /* 0: not known */
    int64_t alone_ns;    /* when a request last went alone */
    unsigned alone_left; /* so many have to: W1 */
    int64_t rate[2];     /* the best of this turn and of the last: W2 */
    int64_t turn_ns;
    int64_t epoch_ns, epoch_bytes, answered_ns; /* the rate that is being measured */
    bool full;                                  /* a request has waited meanwhile */
} NbdWindow;

/* One connection.  Made in the main thread, then of the home AioContext. */
typedef struct NbdConn {
    struct nbd_handle *nbd;
    int poll_fd; /* our own name of the socket: libnbd closes its own when it likes; N2 */
    int64_t serial;
    unsigned refs; /* the list's, each request's, the pump's */

    /* Home AioContext. */
    QTAILQ_HEAD(, NbdOp) ops; /* in flight, the oldest first */
    unsigned in_flight;
    int64_t in_flight_bytes;
    bool listed;          /* in s->conns; under s->lock too */
    bool timed_out;       /* N5, N6 */
    bool cut;             /* N6: timed out because of a cancel */
    int64_t cancelled_ns; /* since when the oldest is not wanted; 0: it is */
    bool pumping;
    unsigned polled; /* events that the pump waits for just now */
    int64_t busy_ns, progress_ns;
    QEMUTimer *tick;
    NbdState *s;
} NbdConn;

typedef struct NbdExtent {
    int64_t end;
    uint32_t flags; /* LIBNBD_STATE_* */
} NbdExtent;

/* One answer to block status: extents one after another from start on. */
typedef struct NbdExtents {
    int64_t start;
    unsigned count;
    NbdExtent list[NBD_EXTENTS_MAX];
} NbdExtents;

struct NbdState {
    /* Fixed while open. */
    BlockDriverState *bs;
    SocketAddress *addr;
    char *export_name;
    char *context;      /* of metadata, that block status is asked by */
    bool other_context; /* not base:allocation */
    char *peer;         /* for messages and traces: the URI */
    int64_t reconnect_ns, open_ns;
    unsigned connections; /* as asked */
    unsigned wanted;      /* as the server allows */
    NbdInfo info;
    int stop_fd; /* readable: workers come back (N7) */

    /* Under lock; the queue `changed` tells requests that wait for a connection. */
    CoMutex lock;
    CoQueue changed, ended;
    NbdConn *conns[NBD_CONNECTIONS_MAX];
    unsigned n_conns;
    bool closing;
    bool holding; /* without a connection requests wait; else they fail */
    bool connecting, watching;
    unsigned tasks;    /* coroutines in the main thread that use this */
    int64_t outage_ns; /* since when: keep.c; 0: all well.  Atomic too */
    int64_t connected_ns, backoff_ns;
    int64_t next_serial;

    /* Main thread. */
    QemuCoSleep watch_sleep, connect_sleep; /* the second also between the first attempts */
    bool opening;
    int handshake_fd;

    /* Atomic: when the quiesce began that is in force (0: none), and the last cancel. */
    int64_t drained_ns, cancel_ns;

    /* Home AioContext. */
    CoMutex gate; /* requests go through here in order, the first waits in `room` */
    CoQueue room;
    NbdWindow window;
    int64_t in_flight_bytes;
    uint64_t loose_gen, flushed_gen; /* raised by a write without FUA; what a flush has covered */
    bool flush_lost;                 /* N4 */
    NbdExtents *known;
    int64_t known_ns;
    uint64_t write_gen;
};

typedef enum NbdCommand {
    NBD_READ,
    NBD_WRITE,
    NBD_FLUSH,
    NBD_TRIM,
    NBD_ZERO,
    NBD_STATUS
} NbdCommand;

/* A request, until it has succeeded or is given up. */
struct NbdOp {
    NbdCommand command;
    int64_t offset, bytes;
    void *buf;           /* read and write; stays in use until the end */
    uint32_t flags;      /* LIBNBD_CMD_FLAG_* */
    NbdExtents *extents; /* status */

    /* request.c; from conn on: of the try under way. */
    int64_t start_ns;
    bool alone; /* nothing was under way when it came through the gate */
    NbdConn *conn;
    QTAILQ_ENTRY(NbdOp) next;
    Coroutine *waiter;
    bool done;
    int error; /* positive errno */
};

static inline int64_t nbd_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* connect.c, main thread */
/*
 * nbd_co_connect() - one attempt: name, socket, handshake; bounded by nbd_times and the resolver
 *
 * Return: 0, *ret_conn (one reference) and *ret_info, checked; negative errno.
 */
int coroutine_fn nbd_co_connect(NbdState *s, NbdConn **ret_conn, NbdInfo *ret_info, Error **errp);
int nbd_check_address(const SocketAddress *addr, Error **errp);
/* "nbd://host:port/export", "nbd+unix:///export?socket=path"; g_free() it. */
char *nbd_make_uri(const SocketAddress *addr, const char *export_name);
void nbd_conn_unref(NbdConn *conn);

/* keep.c: s->lock held */
/* @conn is lost: off the list, and the main thread brings another.  Once a connection. */
void nbd_conn_lost(NbdState *s, NbdConn *conn);
/* A request was answered on @conn: if it is one of those we have, the outage is over. */
void nbd_conn_answered(NbdState *s, NbdConn *conn);
/* Bring the connections up to s->wanted in the background. */
void nbd_start_connecting(NbdState *s);
/* 0, or -ESTALE: is it still the export that was opened? */
int nbd_check_same(const NbdInfo *a, const NbdInfo *b, Error **errp);
/* Main thread: the node is closing. */
void nbd_stop_attempts(NbdState *s);
/* Main thread: end what runs in the background and wait for it. */
void coroutine_fn nbd_co_stop_tasks(NbdState *s);
/* Main thread; somebody waits for the end of requests: deadlines have moved. */
void nbd_hurry(NbdState *s);

/* window.c: home AioContext */
/* How much may be under way just now. */
int64_t nbd_window_bytes(const NbdWindow *w);
/* May a request of @bytes join the @in_flight ones?  If not: ask again when one of them has ended. */
bool nbd_window_has_room(NbdWindow *w, int64_t now, int64_t in_flight, int64_t bytes);
/* It does, and @in_flight were before it. */
void nbd_window_sent(NbdWindow *w, int64_t now, int64_t in_flight);
/* It was answered after @trip_ns; @alone: nothing was before it.  True: there is a new rate. */
bool nbd_window_answered(NbdWindow *w, int64_t now, int64_t bytes, bool alone, int64_t trip_ns);

/* request.c: home AioContext.  0 or negative errno; @op is the caller's again at return. */
int coroutine_fn nbd_co_request(NbdState *s, NbdOp *op);

/* data.c, status.c */
extern const BlockDriverData nbd_data;
int coroutine_fn nbd_client_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file);
void nbd_status_written(NbdState *s, int64_t offset, int64_t bytes);
int nbd_extents_add(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                    size_t nr_entries, int *error);
/* To the node's home and back: a read-only node may be asked from elsewhere. */
AioContext *coroutine_fn nbd_co_go_home(BlockDriverState *bs);
void coroutine_fn nbd_co_go_back(AioContext *from);

#endif
