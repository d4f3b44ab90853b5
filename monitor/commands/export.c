/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * export.c - nbd-server-start, nbd-server-stop, block-export-add, block-export-del, query-block-exports;
 * backup-access-begin, backup-access-end, query-backup-accesses: exports of disks at one instant
 *
 *      begin   names checked ──▶ access begun (the instant) ──▶ each view exported ──▶ answer
 *                                          any failure: ends the access with its exports
 *      end     exports of the views closed, waited for ──▶ access ended
 */
#include <errno.h>

#include "block/access/access.h"
#include "block/export/export.h"
#include "block/export/nbd-server.h"
#include "monitor/commands.h"
#include "qapi/qapi-commands-backup-access.h"
#include "qapi/qapi-commands-block-export.h"
#include "util/osdep.h"

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

    nbd_server_co_start_tls(addr,
                            arg->has_handshake_max_seconds ? arg->handshake_max_seconds
                                                           : NBD_SERVER_HANDSHAKE_SECONDS_DEFAULT,
                            arg->has_max_connections ? arg->max_connections
                                                     : NBD_SERVER_CONNECTIONS_DEFAULT,
                            arg->tls_creds, arg->tls_authz, errp);
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

/* Backup accesses. */

static void access_args_free(BackupAccessArgs *args)
{
    BackupAccessDiskArgs *disks = (BackupAccessDiskArgs *)args->disks;

    for (size_t i = 0; i < args->n_disks; i++) {
        g_free((char *)disks[i].export);
    }
    g_free(disks);
    g_free((char *)args->id);
}

static int access_fill_disk(BackupAccessDiskArgs *disk, const BackupAccessDisk *arg, const char *id,
                            Error **errp)
{
    disk->device = arg->device;
    disk->bitmap = arg->bitmap;
    disk->export = arg->export ? g_strdup(arg->export) : g_strdup_printf("%s-%s", arg->device, id);
    disk->source = bdrv_lookup_bs(arg->device, arg->device, errp);
    return disk->source ? 0 : -ENOENT;
}

/* Sizes that QMP can say and we cannot. */
static int access_fill_sizes(BackupAccessArgs *args, const BackupAccessBegin *arg, Error **errp)
{
    if ((arg->has_ram && arg->ram > INT64_MAX) || (arg->has_scratch && arg->scratch > INT64_MAX)) {
        error_setg(errp, "'ram' or 'scratch' is too large");
        return -EINVAL;
    }
    args->ram_bytes = arg->has_ram ? (int64_t)arg->ram : BACKUP_ACCESS_RAM_BYTES;
    args->scratch_bytes = arg->has_scratch ? (int64_t)arg->scratch : -1;
    args->scratch_folder = arg->scratch_folder;
    return 0;
}

/* Free with access_args_free() in any case. */
static int access_fill_args(BackupAccessArgs *args, const BackupAccessBegin *arg, Error **errp)
{
    BackupAccessDiskArgs *disks;
    size_t n = 0;
    int r = access_fill_sizes(args, arg, errp);

    for (BackupAccessDiskList *l = arg->disks; l; l = l->next) {
        n++;
    }
    disks = g_new0(BackupAccessDiskArgs, n);
    args->id = arg->id ? g_strdup(arg->id) : backup_access_new_id();
    args->disks = disks;
    for (BackupAccessDiskList *l = arg->disks; l && r == 0; l = l->next) {
        r = access_fill_disk(&disks[args->n_disks++], l->value, args->id, errp);
    }
    return r;
}

static int coroutine_fn access_export(BackupAccess *access, size_t index,
                                      const BackupAccessDiskArgs *disk, Error **errp)
{
    BlockDirtyBitmapOrStr bitmap = {.type = QTYPE_QSTRING, .u.local = (char *)disk->bitmap};
    BlockDirtyBitmapOrStrList bitmaps = {.value = &bitmap};
    g_autofree char *id = NULL;
    BlockExportOptions opts = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .node_name = (char *)bdrv_get_node_name(backup_access_view(access, index)),
        .u.nbd = {.name = (char *)disk->export, .bitmaps = disk->bitmap ? &bitmaps : NULL},
    };

    do {
        g_free(id);
        id = g_strdup_printf("%s-%zu", backup_access_id(access), index);
        index += backup_access_n_disks(access); /* the next to try, if somebody has that one */
    } while (blk_exp_find(id));
    opts.id = id;
    return blk_exp_co_add(&opts, errp) ? 0 : -EINVAL;
}

static void coroutine_fn access_end(BackupAccess *access, bool success)
{
    for (size_t i = 0; i < backup_access_n_disks(access); i++) {
        blk_exp_co_close_node(backup_access_view(access, i));
    }
    backup_access_co_end(access, success);
}

static BackupAccessExports *access_answer(const BackupAccessArgs *args, Error **errp)
{
    BackupAccessExports *ret = g_new0(BackupAccessExports, 1);
    BackupAccessExportList **tail = &ret->disks;

    ret->id = g_strdup(args->id);
    for (size_t i = 0; i < args->n_disks; i++) {
        BackupAccessExport *one = g_new0(BackupAccessExport, 1);

        QAPI_LIST_APPEND(tail, one);
        one->device = g_strdup(args->disks[i].device);
        one->export = g_strdup(args->disks[i].export);
        one->uri = nbd_server_uri(args->disks[i].export, errp);
        if (!one->uri) {
            qapi_free_BackupAccessExports(ret);
            return NULL;
        }
    }
    return ret;
}

static BackupAccessExports *coroutine_fn access_begin(const BackupAccessArgs *args, Error **errp)
{
    BackupAccessExports *ret = access_answer(args, errp);
    BackupAccess *access = ret ? backup_access_co_begin(args, errp) : NULL;
    int r = 0;

    for (size_t i = 0; access && i < args->n_disks && r == 0; i++) {
        r = access_export(access, i, &args->disks[i], errp);
    }
    if (access && r == 0) {
        return ret;
    }
    if (access) {
        access_end(access, false);
    }
    qapi_free_BackupAccessExports(ret);
    return NULL;
}

BackupAccessExports *coroutine_fn qmp_backup_access_begin(BackupAccessBegin *arg, Error **errp)
{
    BackupAccessExports *ret = NULL;
    BackupAccessArgs args = {0};

    if (!nbd_server_is_running()) {
        error_setg(errp, "NBD server not running: nbd-server-start first");
        return NULL;
    }
    if (access_fill_args(&args, arg, errp) == 0) {
        ret = access_begin(&args, errp);
    }
    access_args_free(&args);
    return ret;
}

void coroutine_fn qmp_backup_access_end(const char *id, bool success, Error **errp)
{
    BackupAccess *access = backup_access_find(id);

    if (!access) {
        error_setg(errp, "Backup access '%s' not found", id);
        return;
    }
    access_end(access, success);
}

static BackupAccessDiskInfo *access_query_disk(const BackupAccess *access, size_t index)
{
    BackupAccessDiskInfo *info = g_new0(BackupAccessDiskInfo, 1);
    BackupAccessDiskStats stats;

    backup_access_disk_stats(access, index, &stats);
    info->device = g_strdup(stats.device);
    info->export = g_strdup(stats.export);
    info->ram = stats.ram_bytes;
    info->ram_limit = stats.ram_limit;
    info->scratch = stats.scratch_bytes;
    info->scratch_limit = stats.scratch_limit;
    info->error = g_strdup(stats.error);
    return info;
}

BackupAccessInfoList *coroutine_fn qmp_query_backup_accesses(Error **errp)
{
    BackupAccessInfoList *list = NULL, **tail = &list;

    for (BackupAccess *a = backup_access_next(NULL); a; a = backup_access_next(a)) {
        BackupAccessInfo *info = g_new0(BackupAccessInfo, 1);
        BackupAccessDiskInfoList **disks = &info->disks;

        info->id = g_strdup(backup_access_id(a));
        for (size_t i = 0; i < backup_access_n_disks(a); i++) {
            BackupAccessDiskInfo *disk = access_query_disk(a, i);

            QAPI_LIST_APPEND(disks, disk);
            if (!info->error) {
                info->error = g_strdup(disk->error);
            }
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
