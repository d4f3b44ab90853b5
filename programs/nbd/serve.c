/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serve.c - an image for clients, until the last of them leaves
 *
 *      open the image ─▶ listen ─▶ export ─▶ ready ─▶ clients ... ─▶ the last one leaves, or a signal
 *                                                                        │
 *                                          close the image ◀─ no export ◀─ no server
 *
 * Without -t the program lives for its first client, and for those that come before that one has left.  After a
 * signal what waits for a server that is silent is given up a moment later, and again, until the end; a second
 * signal ends the process at once.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "aio/aio.h"
#include "aio/timer.h"
#include "block/backend/backend.h"
#include "block/export/export.h"
#include "block/export/nbd-server.h"
#include "block/graph/graph.h"
#include "programs/common/background.h"
#include "programs/common/drivers.h"
#include "programs/common/object-option.h"
#include "programs/nbd/nbd.h"
#include "tls/creds.h"
#include "util/osdep.h"
#include "util/systemd.h"

#define NBD_PORT   "10809" /* the one that IANA gave NBD */
#define EXPORT_ID  "qblk-nbd-export"
/* Long enough for a server that is only slow to answer. */
#define GIVE_UP_NS (1 * NANOSECONDS_PER_SECOND)

typedef struct Serving {
    const NbdOptions *o;
    BlockDriverState *bs; /* one reference */
    Error *err;
} Serving;

static int signal_fd = -1;
static int signals_seen;         /* atomic */
static bool ending;              /* main thread: the wish to stop, for whatever reason */
static QEMUTimer *give_up_timer; /* NULL until a signal has come */

static void handle_signal(int sig)
{
    uint64_t one = 1;
    int saved_errno = errno;

    if (__atomic_fetch_add(&signals_seen, 1, __ATOMIC_RELAXED) > 0) {
        _exit(EXIT_FAILURE);
    }
    if (write(signal_fd, &one, sizeof(one)) < 0) {
        /* An eventfd takes the first write. */
    }
    errno = saved_errno;
}

static void give_up_node(BlockDriverState *bs, void *opaque)
{
    if (bs->drv && bs->drv->life->cancel_in_flight) {
        bs->drv->life->cancel_in_flight(bs);
    }
}

static void give_up(void *opaque)
{
    bdrv_for_each_node(give_up_node, NULL);
    timer_mod_ns(give_up_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + GIVE_UP_NS);
}

static void signal_arrived(void *opaque)
{
    AioContext *ctx = qemu_get_aio_context();

    aio_set_fd_handler(ctx, signal_fd, NULL, NULL, NULL);
    ending = true;
    give_up_timer = aio_timer_new(ctx, give_up, NULL);
    timer_mod_ns(give_up_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + GIVE_UP_NS);
}

static void begin_signals(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction act = {.sa_handler = handle_signal, .sa_flags = SA_RESTART};

    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signal_fd < 0) {
        error_report("cannot set up the handling of signals: %s", g_strerror(errno));
        exit(EXIT_FAILURE);
    }
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, signal_arrived, NULL, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        sigaction(ends[i], &act, NULL);
    }
}

static void end_signals(void)
{
    if (give_up_timer) {
        timer_free(give_up_timer);
    }
    aio_set_fd_handler(qemu_get_aio_context(), signal_fd, NULL, NULL, NULL);
}

static void connection_gone(bool served, unsigned left)
{
    if (served && left == 0) {
        ending = true;
    }
}

static int coroutine_fn listen_on_address(const NbdOptions *o, Error **errp)
{
    SocketAddress addr = {.type = SOCKET_ADDRESS_TYPE_UNIX};

    if (o->activated) {
        addr.type = SOCKET_ADDRESS_TYPE_FD;
        addr.u.fd.str = (char *)G_STRINGIFY(SYSTEMD_FIRST_FD);
    } else if (o->socket) {
        addr.u.q_unix.path = (char *)o->socket;
    } else {
        addr.type = SOCKET_ADDRESS_TYPE_INET;
        addr.u.inet.host = (char *)(o->bind ? o->bind : "0.0.0.0");
        addr.u.inet.port = (char *)(o->port ? o->port : NBD_PORT);
    }
    return nbd_server_co_start_tls(&addr, o->handshake_seconds, o->clients_max, o->tls_creds,
                                   o->tls_authz, errp);
}

static BlockDirtyBitmapOrStrList *bitmap_list(const GPtrArray *names)
{
    BlockDirtyBitmapOrStrList *list = NULL, **tail = &list;

    for (guint i = 0; i < names->len; i++) {
        BlockDirtyBitmapOrStr *value = g_new0(BlockDirtyBitmapOrStr, 1);

        value->type = QTYPE_QSTRING;
        value->u.local = g_strdup(g_ptr_array_index(names, i));
        *tail = g_new0(BlockDirtyBitmapOrStrList, 1);
        (*tail)->value = value;
        tail = &(*tail)->next;
    }
    return list;
}

/* Others may read the image meanwhile, and not write it: an export by itself would let them. */
static int keep_others_out(BlockExport *exp, bool writable, Error **errp)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ | (writable ? BLK_PERM_WRITE : 0);

    return blk_set_perm(exp->blk, perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED, errp);
}

static int coroutine_fn add_export(const NbdOptions *o, BlockDriverState *bs, Error **errp)
{
    BlockExportOptions *opts = g_new0(BlockExportOptions, 1);
    BlockExport *exp;

    opts->type = BLOCK_EXPORT_TYPE_NBD;
    opts->id = g_strdup(EXPORT_ID);
    opts->node_name = g_strdup(bdrv_get_node_name(bs));
    opts->has_writable = true;
    opts->writable = o->image.writable;
    opts->has_writethrough = true;
    opts->writethrough = o->writethrough;
    opts->u.nbd.name = g_strdup(o->export_name);
    opts->u.nbd.description = g_strdup(o->description);
    opts->u.nbd.bitmaps = bitmap_list(o->bitmaps);
    opts->u.nbd.has_allocation_depth = true;
    opts->u.nbd.allocation_depth = o->allocation_depth;
    exp = blk_exp_co_add(opts, errp);
    qapi_free_BlockExportOptions(opts);
    return exp ? keep_others_out(exp, o->image.writable, errp) : -EINVAL;
}

/* Credentials are looked for before the image: what is wrong with them is told first. */
static int coroutine_fn make_objects(const NbdOptions *o, Error **errp)
{
    ERRP_GUARD();
    int r = object_options_co_make(errp);
    TlsCreds *creds;

    if (r < 0 || !o->tls_creds) {
        return r;
    }
    creds = tls_creds_ref_by_id(o->tls_creds, true, errp);
    if (!creds) {
        error_prepend(errp, "Failed to get TLS creds: ");
        return -EINVAL;
    }
    tls_creds_unref(creds);
    return 0;
}

static void coroutine_fn begin_entry(void *opaque)
{
    Serving *s = opaque;

    if (make_objects(s->o, &s->err) < 0) {
        return;
    }
    s->bs = nbd_co_open_image(s->o, &s->err);
    if (s->bs && listen_on_address(s->o, &s->err) == 0) {
        add_export(s->o, s->bs, &s->err);
    }
}

static void coroutine_fn end_entry(void *opaque)
{
    Serving *s = opaque;

    if (nbd_server_is_running()) {
        nbd_server_co_stop();
    }
    blk_exp_co_close_all();
    bdrv_co_unref(s->bs);
}

/* False: told. */
static bool begin(Serving *s)
{
    const NbdOptions *o = s->o;

    nbd_server_hold(true); /* a client that has started us comes before its export is made */
    aio_run_co(begin_entry, s);
    nbd_server_hold(false);
    if (!s->err && o->pid_file) {
        pidfile_write(o->pid_file, &s->err);
    }
    if (s->err) {
        error_report_err(s->err);
        return false;
    }
    return true;
}

int nbd_serve(const NbdOptions *o)
{
    Serving s = {.o = o};
    Error *err = NULL;
    bool ok;

    if (aio_init(AIO_ENGINE_AUTO, &err) < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    begin_signals();
    register_drivers();
    nbd_export_register();
    if (!o->persistent) {
        nbd_server_set_gone_hook(connection_gone);
    }
    ok = begin(&s);
    if (ok) {
        background_ready(o->verbose);
        systemd_notify("READY=1");
        while (!ending) {
            aio_poll(qemu_get_aio_context(), true);
        }
        systemd_notify("STOPPING=1");
    }
    nbd_server_set_gone_hook(NULL);
    aio_run_co(end_entry, &s);
    object_options_clear();
    end_signals();
    aio_cleanup();
    pidfile_remove();
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
