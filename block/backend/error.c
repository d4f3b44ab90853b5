/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens on an I/O error: the policy that the user chose, the iostatus, the event.
 *
 *   policy    ENOSPC   any other error      action
 *   report    report   report               the requester gets the error
 *   ignore    ignore   ignore               the requester is told that all went well
 *   stop      stop     stop                 the user pauses; the request is tried again later
 *   enospc    stop     report
 *   auto      as report for reads, as enospc for writes
 */
#include <errno.h>
#include <string.h>
#include "block/backend/backend-int.h"
#include "qapi/qapi-events-block-job.h"
#include "util/osdep.h"

BlockErrorAction block_error_action_for(BlockdevOnError on_err, int error)
{
    switch (on_err) {
    case BLOCKDEV_ON_ERROR_ENOSPC:
    case BLOCKDEV_ON_ERROR_AUTO:
        return error == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_REPORT:
        return BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    default:
        g_assert_not_reached();
    }
}

void blk_set_on_error(BlockBackend *blk, BlockdevOnError on_read_error,
                      BlockdevOnError on_write_error)
{
    blk->on_read_error =
        on_read_error == BLOCKDEV_ON_ERROR_AUTO ? BLOCKDEV_ON_ERROR_REPORT : on_read_error;
    blk->on_write_error =
        on_write_error == BLOCKDEV_ON_ERROR_AUTO ? BLOCKDEV_ON_ERROR_ENOSPC : on_write_error;
}

BlockdevOnError blk_get_on_error(BlockBackend *blk, bool is_read)
{
    return is_read ? blk->on_read_error : blk->on_write_error;
}

BlockErrorAction blk_get_error_action(BlockBackend *blk, bool is_read, int error)
{
    return block_error_action_for(blk_get_on_error(blk, is_read), error);
}

/* An event on its way to the main thread. */
typedef struct IoErrorEvent {
    char *device;
    char *node_name; /* NULL: no medium */
    IoOperationType operation;
    BlockErrorAction action;
    bool has_nospace;
    int error;
} IoErrorEvent;

/* The device whose node it is, where another user of the node, such as an export, met the error. */
static const char *device_of_node(const char *node_name)
{
    BlockDriverState *bs = node_name ? bdrv_find_node(node_name) : NULL;
    const char *name = bs ? bdrv_get_device_or_node_name(bs) : "";

    return bs && name != bdrv_get_node_name(bs) ? name : "";
}

static void send_io_error(void *opaque)
{
    IoErrorEvent *e = opaque;
    const char *device = *e->device ? e->device : device_of_node(e->node_name);

    qapi_event_send_block_io_error("", device, e->node_name, e->operation, e->action,
                                   e->has_nospace, e->error == ENOSPC, strerror(e->error));
    g_free(e->device);
    g_free(e->node_name);
    g_free(e);
}

void blk_error_action(BlockBackend *blk, BlockErrorAction action, bool is_read, int error)
{
    IoErrorEvent *e = g_new0(IoErrorEvent, 1);

    assert(error > 0);
    if (action == BLOCK_ERROR_ACTION_STOP) {
        blk_iostatus_set_err(blk, error); /* before the event: who asks then sees it */
    }
    e->device = g_strdup(blk_name(blk));
    e->node_name = blk_bs(blk) ? g_strdup(bdrv_get_node_name(blk_bs(blk))) : NULL;
    e->operation = is_read ? IO_OPERATION_TYPE_READ : IO_OPERATION_TYPE_WRITE;
    e->action = action;
    e->has_nospace = blk_iostatus_is_enabled(blk);
    e->error = error;
    if (in_aio_context(qemu_get_aio_context())) {
        send_io_error(e);
    } else {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), send_io_error, e);
    }
}

void blk_iostatus_enable(BlockBackend *blk)
{
    __atomic_store_n(&blk->iostatus_enabled, true, __ATOMIC_RELAXED);
    blk_iostatus_reset(blk);
}

void blk_iostatus_disable(BlockBackend *blk)
{
    __atomic_store_n(&blk->iostatus_enabled, false, __ATOMIC_RELAXED);
}

bool blk_iostatus_is_enabled(const BlockBackend *blk)
{
    return __atomic_load_n(&blk->iostatus_enabled, __ATOMIC_RELAXED);
}

BlockDeviceIoStatus blk_iostatus(const BlockBackend *blk)
{
    return __atomic_load_n(&blk->iostatus, __ATOMIC_RELAXED);
}

void blk_iostatus_reset(BlockBackend *blk)
{
    __atomic_store_n(&blk->iostatus, BLOCK_DEVICE_IO_STATUS_OK, __ATOMIC_RELAXED);
}

/* The first error stays until it is reset: what follows is often only its consequence. */
void blk_iostatus_set_err(BlockBackend *blk, int error)
{
    int ok = BLOCK_DEVICE_IO_STATUS_OK;
    int status = error == ENOSPC ? BLOCK_DEVICE_IO_STATUS_NOSPACE : BLOCK_DEVICE_IO_STATUS_FAILED;

    if (blk_iostatus_is_enabled(blk)) {
        __atomic_compare_exchange_n(&blk->iostatus, &ok, status, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    }
}
