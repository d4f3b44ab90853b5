/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * export.c - nbd-server-start, nbd-server-stop, block-export-add, block-export-del, query-block-exports
 */
#include <errno.h>

#include "block/export/export.h"
#include "block/export/nbd-server.h"
#include "monitor/commands.h"
#include "qapi/qapi-commands-block-export.h"

/* QMP's address wraps each kind in "data"; the server takes the flat form. */
static SocketAddress *socket_address_flatten(const SocketAddressLegacy *addr)
{
    SocketAddress *flat = g_new0(SocketAddress, 1);

    flat->type = addr->type;
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET: {
        g_autofree InetSocketAddress *copy = QAPI_CLONE(InetSocketAddress, addr->u.inet.data);

        flat->u.inet = *copy;
        return flat;
    }
    case SOCKET_ADDRESS_TYPE_UNIX: {
        g_autofree UnixSocketAddress *copy = QAPI_CLONE(UnixSocketAddress, addr->u.q_unix.data);

        flat->u.q_unix = *copy;
        return flat;
    }
    case SOCKET_ADDRESS_TYPE_VSOCK: {
        g_autofree VsockSocketAddress *copy = QAPI_CLONE(VsockSocketAddress, addr->u.vsock.data);

        flat->u.vsock = *copy;
        return flat;
    }
    case SOCKET_ADDRESS_TYPE_FD: {
        g_autofree FdSocketAddress *copy = QAPI_CLONE(FdSocketAddress, addr->u.fd.data);

        flat->u.fd = *copy;
        return flat;
    }
    default:
        g_assert_not_reached(); /* the schema has no other */
    }
}

void coroutine_fn qmp_nbd_server_start(NbdServerOptionsLegacy *arg, Error **errp)
{
    g_autoptr(SocketAddress) addr = socket_address_flatten(arg->addr);

    nbd_server_co_start(
        addr,
        arg->has_handshake_max_seconds ? arg->handshake_max_seconds
                                       : NBD_SERVER_HANDSHAKE_SECONDS_DEFAULT,
        arg->has_max_connections ? arg->max_connections : NBD_SERVER_CONNECTIONS_DEFAULT, errp);
}

void coroutine_fn qmp_nbd_server_stop(Error **errp)
{
    if (!nbd_server_is_running()) {
        error_setg(errp, "NBD server not running");
        return;
    }
    nbd_server_co_stop();
}

void coroutine_fn qmp_block_export_add(BlockExportOptions *arg, Error **errp)
{
    blk_exp_co_add(arg, errp);
}

void coroutine_fn qmp_block_export_del(const char *id, bool has_mode, BlockExportRemoveMode mode,
                                       Error **errp)
{
    blk_exp_del(id, has_mode && mode == BLOCK_EXPORT_REMOVE_MODE_HARD, errp);
}

BlockExportInfoList *coroutine_fn qmp_query_block_exports(Error **errp)
{
    return blk_exp_query();
}
