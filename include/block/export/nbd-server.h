/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The NBD server of the process: one listening address, any number of exports.  Main thread. */
#ifndef BLOCK_EXPORT_NBD_SERVER_H
#define BLOCK_EXPORT_NBD_SERVER_H

#include "qapi/qapi-types-block-export.h"
#include "util/error.h"
#include "coro/coroutine.h"

void nbd_export_register(void); /* enter the kind "nbd" in the export room's table */
/* @max_connections 0: no limit. @handshake_max_seconds 0: no limit. */
int coroutine_fn nbd_server_co_start(const SocketAddress *addr, uint32_t handshake_max_seconds,
                                     uint32_t max_connections, Error **errp);
/*
 * The same for clients that talk TLS: @creds names the credentials, and @authz, which may be NULL, the list of whom
 * they let in.  @creds NULL: as above.
 */
int coroutine_fn nbd_server_co_start_tls(const SocketAddress *addr, uint32_t handshake_max_seconds,
                                         uint32_t max_connections, const char *creds,
                                         const char *authz, Error **errp);
/* The same on a listening socket handed over (socket activation); takes ownership on success. */
int coroutine_fn nbd_server_co_start_fd(int listen_fd, uint32_t handshake_max_seconds,
                                        uint32_t max_connections, Error **errp);
void coroutine_fn nbd_server_co_stop(void);
bool nbd_server_is_running(void);
/*
 * Where a client finds the export @name of the running server, as a URI; g_free() it.  A server that
 * listens on all addresses is named localhost.  NULL with @errp set: its socket has no name.
 */
char *nbd_server_uri(const char *name, Error **errp);
/*
 * While held, clients wait in the kernel's queue: a server that is started before its exports are there
 * would send the first client away.  Affects a server that runs and any that is started later.
 */
void nbd_server_hold(bool held);
/*
 * @hook is called when a connection has ended: whether it had come to transmission, and how many there are
 * still.  For a program that lives for its clients.  Main thread; NULL: nobody.
 */
void nbd_server_set_gone_hook(void (*hook)(bool served, unsigned left));

#endif
