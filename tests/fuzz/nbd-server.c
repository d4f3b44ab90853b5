/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-server - what a server sends to the nbd driver: handshake, replies, block status
 *
 * Input: the server's bytes, all of them, to each connection that is made; then the end of the stream.
 * What the client says is not looked at.  If the handshake makes sense, a request of each kind follows.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "aio/channel.h"
#include "block/drivers/drivers.h"
#include "block/drivers/nbd/nbd-int.h"
#include "block/io/io.h"
#include "block/open/open.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input {
    const uint8_t *data;
    size_t size;
    int listen_fd;
    unsigned clients;
    bool ended;
} Input;

typedef struct Client {
    Input *in;
    int fd;
} Client;

static struct sockaddr_un address = {.sun_family = AF_UNIX};

static int make_listener(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int len =
        snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "qblk-fuzz-%d", (int)getpid());

    if (bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + len) ||
        listen(fd, 16)) {
        abort();
    }
    return fd;
}

/* The bytes, the end, and whatever the client has to say. */
static void coroutine_fn client_entry(void *opaque)
{
    Client *c = opaque;
    AioChannel *ch = aio_channel_socket_new(c->fd);
    char sink[4096];

    if (aio_channel_write_all(ch, c->in->data, c->in->size) == 0) {
        shutdown(c->fd, SHUT_WR);
        while (aio_channel_read(ch, sink, sizeof(sink)) > 0) {
        }
    }
    aio_channel_close(ch);
    c->in->clients--;
    g_free(c);
}

static void coroutine_fn accept_entry(void *opaque)
{
    Input *in = opaque;
    int fd;

    while ((fd = aio_co_accept(in->listen_fd)) >= 0) {
        Client *c = g_new(Client, 1);

        *c = (Client){.in = in, .fd = fd};
        in->clients++;
        qemu_coroutine_enter(qemu_coroutine_create(client_entry, c));
    }
    in->ended = true;
}

/* Results are the server's to choose; what they lead to is not. */
static void coroutine_fn use(BlockDriverState *bs)
{
    BdrvChild child = {
        .bs = bs, .perm = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, .shared_perm = BLK_PERM_ALL};
    int64_t length = bdrv_getlength(bs), some = MIN(length, 1024), pnum;
    g_autofree uint8_t *buf = g_malloc0(1024);

    assert(length >= 0 && is_power_of_2(bs->bl.request_alignment));
    assert(length % bs->bl.request_alignment == 0);
    for (int64_t offset = 0, i = 0; offset < length && i < 8; offset += pnum, i++) {
        if (bdrv_co_block_status(bs, offset, length - offset, &pnum, NULL, NULL) < 0) {
            break;
        }
        assert(pnum > 0 && pnum <= length - offset);
    }
    bdrv_co_pread(&child, 0, some, buf, 0);
    bdrv_co_pread(&child, length - MIN(some, 1), MIN(some, 1), buf, 0);
    bdrv_co_pwrite(&child, 0, some, buf, BDRV_REQ_FUA);
    bdrv_co_pwrite_zeroes(&child, 0, some, BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK);
    bdrv_co_pdiscard(&child, 0, some);
    bdrv_co_flush(bs);
    bdrv_co_pread(&child, 0, some, buf, 0);
}

static void coroutine_fn run_entry(void *opaque)
{
    Input *in = opaque;
    UnixSocketAddress path = {.path = address.sun_path + 1, .has_abstract = true, .abstract = true};
    SocketAddress server = {.type = SOCKET_ADDRESS_TYPE_UNIX, .u.q_unix = path};
    BlockdevOptions opts = {
        .driver = BLOCKDEV_DRIVER_NBD,
        .has_discard = true,
        .discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP,
        .has_auto_read_only = true,
        .auto_read_only = true,
        .u.nbd = {.server = &server, .has_reconnect_delay = true, .reconnect_delay = 0},
    };
    BlockDriverState *bs;

    qemu_coroutine_enter(qemu_coroutine_create(accept_entry, in));
    bs = bdrv_co_open(&opts, NULL);
    if (bs) {
        use(bs);
        bdrv_co_unref(bs);
    }
    while (!in->ended || in->clients > 0) {
        /* A poll that is just over is not there to be cancelled; the next one is. */
        aio_fd_cancel(qemu_get_aio_context(), in->listen_fd);
        qemu_co_sleep_ns(0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int listen_fd = -1;
    Input in = {.data = data, .size = size};

    if (listen_fd < 0) {
        aio_init(AIO_ENGINE_AUTO, &error_abort);
        bdrv_nbd_register();
        listen_fd = make_listener();
    }
    in.listen_fd = listen_fd;
    aio_run_co(run_entry, &in);
    return 0;
}
