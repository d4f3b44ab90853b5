/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See toy.h. */
#include <errno.h>
#include <string.h>
#include "block/open/open.h"
#include "qapi/qapi-types-sockets.h"
#include "tests/unit/open/toy.h"
#include "util/osdep.h"

#define FILE_BYTES 4096

static unsigned closed;

Toy *toy_of(BlockDriverState *bs)
{
    return bs->opaque;
}

unsigned toy_closed(void)
{
    return closed;
}

unsigned toy_count_nodes(void)
{
    BlockDriverState *bs = NULL;
    unsigned n = 0;

    while ((bs = bdrv_next_node(bs))) {
        n++;
    }
    return n;
}

static int coroutine_fn null_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                     Error **errp)
{
    toy_of(bs)->latency = opts->u.null_co.has_latency_ns ? opts->u.null_co.latency_ns : 0;
    if (toy_of(bs)->latency == TOY_REFUSE_OPEN) {
        error_setg(errp, "toy refuses to open");
        return -EIO;
    }
    return 0;
}

static int coroutine_fn raw_co_open(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    if (!bdrv_open_child(bs, opts->u.raw.file, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                         errp)) {
        return -EINVAL;
    }
    if (opts->u.raw.has_offset) {
        error_setg(errp, "toy raw takes no offset"); /* after it has got its child */
        return -EINVAL;
    }
    if (opts->u.raw.has_size && opts->u.raw.size == TOY_TWO_CHILDREN) {
        BdrvChildRole role = BDRV_CHILD_DATA;
        BlockdevRef second = {.type = QTYPE_QSTRING, .u.reference = (char *)"second"};

        return bdrv_open_child(bs, &second, "second", role, errp) ? 0 : -EINVAL;
    }
    return 0;
}

static int coroutine_fn file_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                     Error **errp)
{
    const char *filename =
        opts->driver == BLOCKDEV_DRIVER_FILE ? opts->u.file.filename : opts->u.host_device.filename;

    g_free(bs->filename);
    bs->filename = g_strdup(filename);
    return 0;
}

static void coroutine_fn toy_co_close(BlockDriverState *bs)
{
    closed++;
}

static int coroutine_fn toy_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                           int flags, void **ret_state, Error **errp)
{
    int64_t *latency = g_new0(int64_t, 1);

    if (opts->driver == BLOCKDEV_DRIVER_NULL_CO && opts->u.null_co.has_latency_ns) {
        *latency = opts->u.null_co.latency_ns;
    }
    if (*latency == TOY_REFUSE_REOPEN) {
        error_setg(errp, "toy refuses to reopen");
        g_free(latency);
        return -EACCES;
    }
    toy_of(bs)->prepared++;
    *ret_state = latency;
    return 0;
}

static void toy_reopen_commit(BlockDriverState *bs, void *state)
{
    toy_of(bs)->committed++;
    toy_of(bs)->latency = *(int64_t *)state;
    g_free(state);
}

static void toy_reopen_abort(BlockDriverState *bs, void *state)
{
    toy_of(bs)->aborted++;
    g_free(state);
}

static int coroutine_fn null_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                    QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
    return 0;
}

static int coroutine_fn null_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return 0;
}

static int coroutine_fn null_flush(BlockDriverState *bs)
{
    g_assert_true(qemu_get_current_aio_context() == bs->aio_context);
    toy_of(bs)->flushes++;
    return 0;
}

static int64_t coroutine_fn null_getlength(BlockDriverState *bs)
{
    return 1 * MiB;
}

static int coroutine_fn raw_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn raw_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                    QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn file_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                    QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    g_autofree char *name = g_path_get_basename(bs->filename);
    char block[FILE_BYTES] = {0};

    if (strcmp(name, "unreadable") == 0) {
        return -EIO;
    }
    memcpy(block, name, strlen(name));
    qemu_iovec_from_buf(qiov, qiov_offset, block + offset, bytes);
    return 0;
}

static int64_t coroutine_fn file_getlength(BlockDriverState *bs)
{
    return FILE_BYTES;
}

static int probe_magic(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 5 && memcmp(buf, "MAGIC", 5) == 0 ? 100 : 0;
}

static int probe_weak(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 3 && memcmp(buf, "MAG", 3) == 0 ? 50 : 0;
}

/* Shows in its file name what it was asked for. */
static int coroutine_fn nbd_co_open(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    const BlockdevOptionsNbd *o = &opts->u.nbd;
    const SocketAddress *a = o->server;
    const char *one = a->type == SOCKET_ADDRESS_TYPE_UNIX    ? a->u.q_unix.path
                      : a->type == SOCKET_ADDRESS_TYPE_VSOCK ? a->u.vsock.cid
                                                             : a->u.inet.host;
    const char *two = a->type == SOCKET_ADDRESS_TYPE_UNIX    ? ""
                      : a->type == SOCKET_ADDRESS_TYPE_VSOCK ? a->u.vsock.port
                                                             : a->u.inet.port;

    g_free(bs->filename);
    bs->filename =
        g_strdup_printf("%s %s %s %s", SocketAddressType_str(a->type), one, two, o->export);
    return 0;
}

static const BlockDriverLife null_life = {
    .co_open = null_co_open,
    .co_close = toy_co_close,
    .co_reopen_prepare = toy_reopen_prepare,
    .reopen_commit = toy_reopen_commit,
    .reopen_abort = toy_reopen_abort,
};

static const BlockDriverLife raw_life = {
    .co_open = raw_co_open,
    .co_close = toy_co_close,
    .co_reopen_prepare = toy_reopen_prepare,
    .reopen_commit = toy_reopen_commit,
    .reopen_abort = toy_reopen_abort,
};

static const BlockDriverLife file_life = {.co_open = file_co_open, .co_close = toy_co_close};

static const BlockDriverLife nbd_life = {.co_open = nbd_co_open, .co_close = toy_co_close};

static const BlockDriverData null_data = {
    .co_preadv = null_preadv,
    .co_pwritev = null_pwritev,
    .co_flush = null_flush,
    .co_getlength = null_getlength,
};
static const BlockDriverData raw_data = {.co_preadv = raw_preadv, .co_pwritev = raw_pwritev};
static const BlockDriverData file_data = {.co_preadv = file_preadv, .co_getlength = file_getlength};

static const BlockDriverImage magic_image = {.probe = probe_magic};
static const BlockDriverImage weak_image = {.probe = probe_weak};

static BlockDriver drivers[] = {
    {.format_name = "null-co", .is_protocol = true, .life = &null_life, .data = &null_data},
    {.format_name = "raw", .life = &raw_life, .data = &raw_data},
    {.format_name = "file", .is_protocol = true, .life = &file_life, .data = &file_data},
    {.format_name = "host_device", .is_protocol = true, .life = &file_life, .data = &file_data},
    {.format_name = "nbd", .is_protocol = true, .life = &nbd_life, .data = &null_data},
    {.format_name = "weak", .life = &file_life, .data = &file_data, .image = &weak_image},
    {.format_name = "magic", .life = &file_life, .data = &file_data, .image = &magic_image},
    {.format_name = "weak2", .life = &file_life, .data = &file_data, .image = &weak_image},
};

void toy_register(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        drivers[i].instance_size = sizeof(Toy);
        bdrv_register(&drivers[i]);
    }
}

void toy_expect_error(Error **errp, const char *part)
{
    g_assert_nonnull(*errp);
    if (!strstr(error_get_pretty(*errp), part)) {
        g_error("Expected '%s', got '%s'", part, error_get_pretty(*errp));
    }
    error_free(*errp);
    *errp = NULL;
}
