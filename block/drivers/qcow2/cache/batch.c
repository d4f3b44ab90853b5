/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Batches: copies of what is dirty (K1), written several at once. */
#include <errno.h>
#include "block/drivers/qcow2/cache/cache-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* Writes under way at once: as many as guests have requests, mostly. */
#define WRITERS_MAX 16

/* One write. */
typedef struct Piece {
    int64_t offset, bytes;
    uint8_t *data;   /* aligned for I/O */
    Qcow2Page *page; /* NULL: not of a cache */
    uint64_t mask;   /* of its pieces */
} Piece;

struct Qcow2Batch {
    BdrvChild *file;
    GArray *pieces;
    int64_t bytes;
    /* While it is written. */
    guint next;
    unsigned writers;
    int ret;
    Coroutine *waiter;
};

Qcow2Batch *qcow2_batch_new(BdrvChild *file)
{
    Qcow2Batch *b = g_new0(Qcow2Batch, 1);

    b->file = file;
    b->pieces = g_array_new(false, false, sizeof(Piece));
    return b;
}

bool qcow2_batch_is_empty(const Qcow2Batch *b)
{
    return b->pieces->len == 0;
}

static void add_piece(Qcow2Batch *b, int64_t offset, int64_t bytes, const void *data,
                      Qcow2Page *page, uint64_t mask)
{
    Piece p = {.offset = offset, .bytes = bytes, .page = page, .mask = mask};

    p.data = qemu_blockalign(b->file->bs, bytes);
    memcpy(p.data, data, bytes);
    g_array_append_val(b->pieces, p);
    b->bytes += bytes;
}

void qcow2_batch_add(Qcow2Batch *b, int64_t offset, int64_t bytes, const void *data)
{
    add_piece(b, offset, bytes, data, NULL, 0);
}

/* K4: runs of dirty pieces. */
static void add_page(Qcow2Batch *b, Qcow2Cache *c, Qcow2Page *page)
{
    uint64_t left = page->dirty;

    while (left) {
        unsigned first = ctz64(left), n = ctz64(~(left >> first));
        uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << first;
        int64_t at = first * c->piece_bytes;

        add_piece(b, page->offset + at, n * c->piece_bytes, page->data + at, page, mask);
        __atomic_fetch_add(&page->pins, 1, __ATOMIC_RELAXED);
        left &= ~mask;
    }
    page->writing = true; /* K2 */
    qcow2_page_set_clean(page);
}

bool qcow2_batch_add_cache(Qcow2Batch *b, Qcow2Cache *c)
{
    Qcow2Page *page, *next;

    QTAILQ_FOREACH_SAFE (page, &c->dirty, list, next) {
        if (b->bytes >= QCOW2_BATCH_BYTES_MAX) {
            return false;
        }
        add_page(b, c, page);
    }
    return true;
}

/* @ret < 0: what came from caches is dirty again. */
static void end(Qcow2Batch *b, int ret)
{
    for (guint i = 0; i < b->pieces->len; i++) {
        Piece *p = &g_array_index(b->pieces, Piece, i);

        if (p->page) {
            p->page->writing = false;
            if (ret < 0 && !p->page->gone) {
                qcow2_page_set_dirty(p->page, p->mask);
            }
            qcow2_cache_put(p->page);
        }
        qemu_vfree(p->data);
    }
    g_array_free(b->pieces, true);
    g_free(b);
}

void qcow2_batch_drop(Qcow2Batch *b)
{
    end(b, -ECANCELED);
}

static void coroutine_fn write_pieces(Qcow2Batch *b)
{
    while (b->next < b->pieces->len && b->ret == 0) {
        const Piece *p = &g_array_index(b->pieces, Piece, b->next++);
        int ret = bdrv_co_pwrite(b->file, p->offset, p->bytes, p->data, 0);

        if (ret < 0 && b->ret == 0) {
            b->ret = ret;
        }
    }
}

static void coroutine_fn writer_entry(void *opaque)
{
    Qcow2Batch *b = opaque;

    write_pieces(b);
    if (--b->writers == 0 && b->waiter) {
        aio_co_wake(b->waiter);
    }
}

int coroutine_fn qcow2_co_batch_write(Qcow2Batch *b)
{
    unsigned others = MIN(b->pieces->len, (guint)WRITERS_MAX);
    int ret;

    for (unsigned i = 1; i < others; i++) {
        b->writers++;
        qemu_coroutine_enter(qemu_coroutine_create(writer_entry, b));
    }
    write_pieces(b);
    while (b->writers > 0) {
        b->waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    ret = b->ret;
    end(b, ret);
    return ret;
}
