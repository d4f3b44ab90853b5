/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes of whole clusters, compressed: a batch of them beside each other, then together into the file. */
#include <errno.h>
#include "aio/aio.h"
#include "block/drivers/qcow2/compress/compress.h"
#include "block/io/io.h"
#include "util/osdep.h"

typedef struct Batch Batch;

typedef struct Item {
    Batch *batch;
    const uint8_t *from;
    uint8_t *to;
    int64_t bytes; /* compressed; or negative errno, -ENOSPC: it did not shrink */
    int64_t place; /* in the file; 0: not yet */
} Item;

struct Batch {
    Qcow2State *s;
    int64_t offset; /* of the first one, in the disk */
    unsigned n, working;
    Coroutine *waiter;
    uint8_t *buf; /* the clusters; then room for each, compressed */
    Item item[COMPRESS_BATCH];
};

static unsigned batch_max(const Qcow2State *s)
{
    return (unsigned)MAX(
        MIN(INT64_C(1) * COMPRESS_BATCH, COMPRESS_BATCH_BYTES / qcow2_cluster_size(&s->g)),
        INT64_C(1));
}

static void coroutine_fn compress_item(void *opaque)
{
    Item *item = opaque;
    Batch *b = item->batch;

    item->bytes = qcow2_co_codec_compress(b->s, item->from, item->to);
    if (--b->working == 0 && b->waiter) {
        aio_co_wake(b->waiter);
    }
}

static int coroutine_fn compress_all(Batch *b)
{
    b->working = b->n;
    for (unsigned i = 0; i < b->n; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(compress_item, &b->item[i]));
    }
    while (b->working > 0) {
        b->waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    for (unsigned i = 0; i < b->n; i++) {
        if (b->item[i].bytes < 0 && b->item[i].bytes != -ENOSPC) {
            return (int)b->item[i].bytes;
        }
    }
    return 0;
}

static Qcow2Entry entry_of(const Batch *b, const Item *item)
{
    return (Qcow2Entry){.word = qcow2_compressed_encode(&b->s->g, item->place, item->bytes)};
}

static void give_back_item(Batch *b, Item *item)
{
    qcow2_give_back_entry(b->s, entry_of(b, item), b->s->options.discard_other);
    item->place = 0;
}

/* Items from @first on that lie one behind another, in one write. */
static int coroutine_fn write_row(Batch *b, unsigned first, unsigned end)
{
    QEMUIOVector qiov;
    int64_t bytes = 0;
    int ret;

    qemu_iovec_init(&qiov, (int)(end - first));
    for (unsigned i = first; i < end; i++) {
        qemu_iovec_add(&qiov, b->item[i].to, (size_t)b->item[i].bytes);
        bytes += b->item[i].bytes;
    }
    ret = bdrv_co_pwritev(b->s->bs->file, b->item[first].place, bytes, &qiov, 0);
    qemu_iovec_destroy(&qiov);
    return ret;
}

static int coroutine_fn write_packed(Batch *b)
{
    unsigned first, end;
    int ret = 0;

    for (first = 0; first < b->n && ret == 0; first = end) {
        end = first + 1;
        if (!b->item[first].place) {
            continue;
        }
        while (end < b->n &&
               b->item[end].place == b->item[end - 1].place + b->item[end - 1].bytes) {
            end++;
        }
        ret = write_row(b, first, end);
    }
    return ret;
}

/* Places for all that shrank.  What has no place that an entry can say is written plain. */
static int coroutine_fn pack_all(Batch *b)
{
    for (unsigned i = 0; i < b->n; i++) {
        int64_t place = b->item[i].bytes > 0 ? qcow2_co_pack(b->s, b->item[i].bytes) : -ERANGE;

        if (place < 0 && place != -ERANGE) {
            return (int)place;
        }
        b->item[i].place = MAX(place, INT64_C(0));
    }
    return 0;
}

/* Z3 */
static int coroutine_fn set_entries(Batch *b)
{
    Qcow2State *s = b->s;
    int64_t cluster = qcow2_cluster_size(&s->g);
    int ret = 0;

    for (unsigned i = 0; i < b->n && ret == 0; i++) {
        Item *item = &b->item[i];
        Qcow2Slot slot;
        Qcow2Entry old;

        if (!item->place) {
            continue;
        }
        ret = qcow2_co_slot(s, b->offset + i * cluster, true, &slot);
        if (ret < 0) {
            break;
        }
        ret = qcow2_co_check_entry(s, &slot, 0);
        if (ret == 0) {
            old = qcow2_slot_get(s, &slot, 0);
            qcow2_slot_set(s, &slot, 0, entry_of(b, item));
            s->unordered = true; /* Z2 */
            qcow2_give_back_entry(s, old, s->options.discard_other);
            item->place = 0; /* the entry's now */
            item->bytes = 0;
        }
        qcow2_cache_put(slot.page);
    }
    return ret;
}

/* Compressed clusters into the image. */
static int coroutine_fn store(Batch *b)
{
    Qcow2State *s = b->s;
    Qcow2Range r;
    int ret;

    qcow2_co_range_begin(s, &r, QCOW2_RANGE_FREE, b->offset,
                         b->offset + b->n * qcow2_cluster_size(&s->g));
    ret = pack_all(b);
    if (ret == 0) {
        ret = write_packed(b);
    }
    if (ret == 0) {
        ret = set_entries(b);
    }
    for (unsigned i = 0; i < b->n; i++) {
        if (b->item[i].place) {
            give_back_item(b, &b->item[i]);
        }
    }
    qcow2_range_end(s, &r);
    return ret;
}

/* @bytes of the guest's, the last cluster may be less. */
static int coroutine_fn write_batch(Batch *b, int64_t bytes, QEMUIOVector *qiov, size_t qiov_offset)
{
    int64_t cluster = qcow2_cluster_size(&b->s->g), whole = b->n * cluster;
    int ret;

    qemu_iovec_to_buf(qiov, qiov_offset, b->buf, (size_t)bytes);
    memset(b->buf + bytes, 0, (size_t)(whole - bytes));
    for (unsigned i = 0; i < b->n; i++) {
        b->item[i] = (Item){
            .batch = b,
            .from = b->buf + i * cluster,
            .to = b->buf + whole + i * cluster,
        };
    }
    ret = compress_all(b);
    if (ret == 0) {
        ret = store(b);
    }
    for (unsigned i = 0; i < b->n && ret == 0; i++) {
        if (b->item[i].bytes != 0) { /* plain */
            ret = qcow2_co_write(b->s, b->offset + i * cluster, MIN(cluster, bytes - i * cluster),
                                 qiov, qiov_offset + i * cluster);
        }
    }
    return ret;
}

int coroutine_fn qcow2_co_write_compressed(Qcow2State *s, int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov, size_t qiov_offset)
{
    int64_t cluster = qcow2_cluster_size(&s->g), piece = batch_max(s) * cluster;
    Batch *b;
    int ret = 0;

    if (s->g.external_data) {
        return -ENOTSUP;
    }
    if (qcow2_in_cluster(&s->g, offset) ||
        (qcow2_in_cluster(&s->g, bytes) && offset + bytes != (int64_t)s->header.size)) {
        return -EINVAL;
    }
    b = g_new0(Batch, 1);
    piece = MIN(piece, qcow2_cluster_end(&s->g, bytes));
    b->s = s;
    b->buf = qemu_try_blockalign(s->bs->file->bs, 2 * piece);
    ret = b->buf ? 0 : -ENOMEM;
    for (int64_t done = 0; done < bytes && ret == 0; done += piece) {
        int64_t n = MIN(piece, bytes - done);

        b->offset = offset + done;
        b->n = (unsigned)(qcow2_cluster_end(&s->g, n) >> s->g.cluster_bits);
        ret = write_batch(b, n, qiov, qiov_offset + done);
    }
    qemu_vfree(b->buf);
    g_free(b);
    return ret;
}
