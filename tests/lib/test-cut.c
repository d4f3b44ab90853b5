/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See test-cut.h. */
#include <errno.h>
#include "coro/sleep.h"
#include "tests/lib/test-cut.h"
#include "util/osdep.h"
#include "util/queue.h"

typedef struct CachedWrite CachedWrite;
struct CachedWrite {
    int64_t offset, bytes;
    uint8_t *data;
    QSIMPLEQ_ENTRY(CachedWrite) next;
};

typedef struct CutState {
    int64_t size;
    uint8_t *seen;                      /* with the cache */
    uint8_t *stable;                    /* without */
    QSIMPLEQ_HEAD(, CachedWrite) cache; /* in the order of the writes */
    unsigned cached;
    unsigned moments, armed;
    bool off;
    int64_t delay_max;
    GRand *delays; /* NULL: none */
} CutState;

static void coroutine_fn delay(CutState *s)
{
    if (s->delays) {
        qemu_co_sleep_ns((int64_t)(g_rand_double(s->delays) * (double)s->delay_max));
    }
}

static void free_write(CachedWrite *w)
{
    g_free(w->data);
    g_free(w);
}

static void drop_cache(CutState *s)
{
    CachedWrite *w;

    while ((w = QSIMPLEQ_FIRST(&s->cache))) {
        QSIMPLEQ_REMOVE_HEAD(&s->cache, next);
        free_write(w);
    }
    s->cached = 0;
}

/* C1 */
static void flush_cache(CutState *s)
{
    memcpy(s->stable, s->seen, s->size);
    drop_cache(s);
}

/* After the operation that makes it: the power goes with the operation done, in the cache. */
static int moment(CutState *s)
{
    s->moments++;
    if (s->moments == s->armed) {
        s->off = true;
    }
    return 0;
}

/* Takes @data. */
static void remember(CutState *s, int64_t offset, int64_t bytes, uint8_t *data, bool fua)
{
    CachedWrite *w = g_new0(CachedWrite, 1);

    memcpy(s->seen + offset, data, bytes);
    w->offset = offset;
    w->bytes = bytes;
    w->data = data;
    if (fua) {
        /* These bytes are stable; writes under them in the cache must not come back over them. */
        memcpy(s->stable + offset, data, bytes);
        for (CachedWrite *old = QSIMPLEQ_FIRST(&s->cache); old; old = QSIMPLEQ_NEXT(old, next)) {
            int64_t from = MAX(old->offset, offset);
            int64_t to = MIN(old->offset + old->bytes, offset + bytes);

            if (from < to) {
                memcpy(old->data + (from - old->offset), data + (from - offset), to - from);
            }
        }
        free_write(w);
        return;
    }
    QSIMPLEQ_INSERT_TAIL(&s->cache, w, next);
    s->cached++;
}

static int coroutine_fn cut_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    CutState *s = bs->opaque;

    delay(s);
    if (s->off) { /* C3 */
        return -EIO;
    }
    qemu_iovec_from_buf(qiov, qiov_offset, s->seen + offset, bytes);
    return 0;
}

static int coroutine_fn cut_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    CutState *s = bs->opaque;
    uint8_t *data;

    delay(s);
    if (s->off) {
        return -EIO;
    }
    if (bytes > s->size - offset) {
        return -ENOSPC;
    }
    data = g_malloc(bytes);
    qemu_iovec_to_buf(qiov, qiov_offset, data, bytes);
    remember(s, offset, bytes, data, flags & BDRV_REQ_FUA);
    return moment(s);
}

static int coroutine_fn write_zeros(CutState *s, int64_t offset, int64_t bytes, bool fua)
{
    delay(s);
    if (s->off) {
        return -EIO;
    }
    if (bytes > s->size - offset) {
        return -ENOSPC;
    }
    remember(s, offset, bytes, g_malloc0(bytes), fua);
    return moment(s);
}

static int coroutine_fn cut_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    return write_zeros(bs->opaque, offset, bytes, flags & BDRV_REQ_FUA);
}

static int coroutine_fn cut_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return write_zeros(bs->opaque, offset, bytes, false);
}

static int coroutine_fn cut_co_flush(BlockDriverState *bs)
{
    CutState *s = bs->opaque;

    delay(s);
    if (s->off) {
        return -EIO;
    }
    flush_cache(s);
    return moment(s);
}

static int64_t coroutine_fn cut_co_getlength(BlockDriverState *bs)
{
    return ((CutState *)bs->opaque)->size;
}

static void coroutine_fn cut_co_close(BlockDriverState *bs)
{
    CutState *s = bs->opaque;

    drop_cache(s);
    g_clear_pointer(&s->delays, g_rand_free);
    g_free(s->seen);
    g_free(s->stable);
}

static void cut_refresh_limits(BlockDriverState *bs)
{
    bs->supported_write_flags = BDRV_REQ_FUA | BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
}

static const BlockDriverLife cut_life = {
    .co_close = cut_co_close,
    .refresh_limits = cut_refresh_limits,
};

static const BlockDriverData cut_data = {
    .co_preadv = cut_co_preadv,
    .co_pwritev = cut_co_pwritev,
    .co_pwrite_zeroes = cut_co_pwrite_zeroes,
    .co_pdiscard = cut_co_pdiscard,
    .co_flush = cut_co_flush,
    .co_getlength = cut_co_getlength,
};

static const BlockDriver bdrv_test_cut = {
    .format_name = "test-cut",
    .is_protocol = true,
    .instance_size = sizeof(CutState),
    .life = &cut_life,
    .data = &cut_data,
};

BlockDriverState *test_cut_new(const char *node_name, int64_t size)
{
    BlockDriverState *bs = bdrv_new(&bdrv_test_cut, node_name, &error_abort);
    CutState *s = bs->opaque;

    s->size = size;
    s->seen = g_malloc0(size);
    s->stable = g_malloc0(size);
    QSIMPLEQ_INIT(&s->cache);
    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = size;
    bdrv_refresh_limits(bs);
    return bs;
}

void test_cut_set_delay(BlockDriverState *bs, int64_t max_ns, uint32_t seed)
{
    CutState *s = bs->opaque;

    g_clear_pointer(&s->delays, g_rand_free);
    s->delay_max = max_ns;
    s->delays = max_ns ? g_rand_new_with_seed(seed) : NULL;
}

unsigned test_cut_moments(BlockDriverState *bs)
{
    return ((CutState *)bs->opaque)->moments;
}

void test_cut_arm(BlockDriverState *bs, unsigned at)
{
    ((CutState *)bs->opaque)->armed = at;
}

void test_cut_now(BlockDriverState *bs)
{
    ((CutState *)bs->opaque)->off = true;
}

bool test_cut_is_off(BlockDriverState *bs)
{
    return ((CutState *)bs->opaque)->off;
}

/* C2 */
static void land_torn(CutState *s, const CachedWrite *w, int64_t tear, GRand *rand)
{
    int64_t piece;

    for (int64_t pos = 0; pos < w->bytes; pos += piece) {
        piece = MIN(tear - (w->offset + pos) % tear, w->bytes - pos);
        if (g_rand_boolean(rand)) {
            memcpy(s->stable + w->offset + pos, w->data + pos, piece);
        }
    }
}

enum { FATE_DROPPED, FATE_KEPT, FATE_TORN, FATES };

static void land(CutState *s, const CachedWrite *w, const TestCutFate *fate, GRand *rand)
{
    switch (g_rand_int_range(rand, 0, fate->tear_bytes > 0 ? FATES : FATE_TORN)) {
    case FATE_KEPT:
        memcpy(s->stable + w->offset, w->data, w->bytes);
        break;
    case FATE_TORN:
        land_torn(s, w, fate->tear_bytes, rand);
        break;
    default:
        break;
    }
}

void test_cut_power_on(BlockDriverState *bs, const TestCutFate *fate)
{
    CutState *s = bs->opaque;
    g_autofree CachedWrite **order = g_new(CachedWrite *, s->cached + 1);
    g_autoptr(GRand) rand = g_rand_new_with_seed(fate->seed);
    unsigned n = 0;

    g_assert_true(s->off);
    for (CachedWrite *w = QSIMPLEQ_FIRST(&s->cache); w; w = QSIMPLEQ_NEXT(w, next)) {
        order[n++] = w;
    }
    for (unsigned i = n; fate->reorder && i > 1; i--) {
        unsigned j = g_rand_int_range(rand, 0, i);
        CachedWrite *tmp = order[i - 1];

        order[i - 1] = order[j];
        order[j] = tmp;
    }
    for (unsigned i = 0; i < n && !fate->drop_all; i++) {
        land(s, order[i], fate, rand);
    }
    drop_cache(s);
    memcpy(s->seen, s->stable, s->size);
    s->off = false;
    s->armed = 0;
}

void test_cut_peek_stable(BlockDriverState *bs, int64_t offset, void *buf, int64_t bytes)
{
    CutState *s = bs->opaque;

    memcpy(buf, s->stable + offset, bytes);
}
