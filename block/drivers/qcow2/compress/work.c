/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Worker threads: some at once, the others wait in order (Z4). */
#include <errno.h>
#include "aio/thread-pool.h"
#include "block/drivers/qcow2/compress/compress-int.h"
#include "util/osdep.h"

Qcow2Compress *qcow2_compress_new(void)
{
    Qcow2Compress *c = g_new0(Qcow2Compress, 1);

    qemu_co_mutex_init(&c->lock);
    qemu_co_queue_init(&c->waiters);
    qemu_co_mutex_init(&c->pack_lock);
    return c;
}

void qcow2_compress_delete(Qcow2Compress *c)
{
    if (c) {
        qemu_co_mutex_destroy(&c->lock);
        qemu_co_queue_destroy(&c->waiters);
        qemu_co_mutex_destroy(&c->pack_lock);
        g_free(c);
    }
}

typedef struct Work {
    Qcow2Codec codec;
    const void *from;
    void *to;
    size_t bytes, cluster; /* bytes: 0, compress */
    int64_t ret;
} Work;

static int work(void *opaque)
{
    Work *w = opaque;

    w->ret = w->bytes ? qcow2_codec_decompress(w->codec, w->from, w->bytes, w->to, w->cluster)
                      : qcow2_codec_compress(w->codec, w->from, w->cluster, w->to, w->cluster - 1);
    return 0;
}

/* An image that is only read is entered from several threads. */
static int64_t coroutine_fn do_work(Qcow2State *s, Work *w)
{
    Qcow2Compress *c = s->compress;
    int ret;

    w->codec = s->header.compression_type ? QCOW2_CODEC_ZSTD : QCOW2_CODEC_ZLIB;
    w->cluster = (size_t)qcow2_cluster_size(&s->g);
    qemu_co_mutex_lock(&c->lock);
    while (c->working == COMPRESS_WORKERS_MAX) {
        qemu_co_queue_wait(&c->waiters, &c->lock);
    }
    c->working++;
    qemu_co_mutex_unlock(&c->lock);
    ret = thread_pool_submit_co(work, w);
    qemu_co_mutex_lock(&c->lock);
    c->working--;
    qemu_co_queue_next(&c->waiters);
    qemu_co_mutex_unlock(&c->lock);
    return ret < 0 ? ret : w->ret;
}

int64_t coroutine_fn qcow2_co_codec_compress(Qcow2State *s, const void *from, void *to)
{
    return do_work(s, &(Work){.from = from, .to = to});
}

int coroutine_fn qcow2_co_codec_decompress(Qcow2State *s, const void *from, size_t bytes, void *to)
{
    return (int)do_work(s, &(Work){.from = from, .to = to, .bytes = bytes});
}
