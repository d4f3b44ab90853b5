/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See test-cut.h. */
#include <errno.h>
#include "coro/sleep.h"
#include "tests/lib/test-cut.h"
#include "util/osdep.h"
#include "util/queue.h"

typedef struct Change Change;
struct Change {
    bool is_length; /* @offset is the new one */
    int64_t offset, bytes;
    QSIMPLEQ_ENTRY(Change) next;
    uint8_t data[];
};

/* Bytes that images share with the disk until it changes them. */
typedef struct Bytes {
    unsigned refs;
    uint8_t data[];
} Bytes;

typedef struct Switch {
    unsigned refs;
    unsigned moments, armed;
    bool off;
    TestCutWatch *watch;
    void *watch_opaque;
} Switch;

typedef QSIMPLEQ_HEAD(, Change) Cache;

typedef struct CutState {
    Switch *power;
    bool is_file;
    int64_t capacity;
    uint8_t *seen; /* with the cache */
    int64_t seen_length;
    Bytes *stable; /* without */
    int64_t stable_length;
    Cache cache; /* in the order of the changes */
    unsigned cached;
} CutState;

struct TestCutImage {
    int64_t capacity;
    Bytes *stable;
    int64_t stable_length;
    Cache cache;
    unsigned cached;
};

/* ------------------------------------------------------------------------------------- parts of a disk */

static Bytes *bytes_new(int64_t size)
{
    Bytes *b = g_malloc0(sizeof(*b) + size);

    b->refs = 1;
    return b;
}

static void bytes_unref(Bytes *b)
{
    if (--b->refs == 0) {
        g_free(b);
    }
}

/* To change it. */
static uint8_t *stable_of_its_own(CutState *s)
{
    if (s->stable->refs > 1) {
        Bytes *own = bytes_new(s->capacity);

        memcpy(own->data, s->stable->data, s->capacity);
        bytes_unref(s->stable);
        s->stable = own;
    }
    return s->stable->data;
}

static void drop_changes(Cache *cache)
{
    Change *c;

    while ((c = QSIMPLEQ_FIRST(cache))) {
        QSIMPLEQ_REMOVE_HEAD(cache, next);
        g_free(c);
    }
}

static void drop_cache(CutState *s)
{
    drop_changes(&s->cache);
    s->cached = 0;
}

static void set_length(uint8_t *bytes, int64_t *length, int64_t new_length)
{
    if (new_length < *length) {
        memset(bytes + new_length, 0, *length - new_length);
    }
    *length = new_length;
}

/* ------------------------------------------------------------------------------------------ the cache */

static void apply(const Change *c, uint8_t *bytes, int64_t *length)
{
    if (c->is_length) {
        set_length(bytes, length, c->offset);
    } else {
        memcpy(bytes + c->offset, c->data, c->bytes);
        *length = MAX(*length, c->offset + c->bytes);
    }
}

/* C1 */
static void flush_cache(CutState *s)
{
    uint8_t *stable;
    Change *c;

    if (s->cached == 0) {
        return;
    }
    stable = stable_of_its_own(s);
    QSIMPLEQ_FOREACH (c, &s->cache, next) {
        apply(c, stable, &s->stable_length);
    }
    drop_cache(s);
}

/* After the operation that makes it: the power goes with the operation done, in the cache. */
static int coroutine_fn moment(CutState *s)
{
    Switch *power = s->power;

    power->moments++;
    if (power->watch) {
        power->watch(power->watch_opaque);
    }
    if (power->moments == power->armed) {
        power->off = true;
    }
    return 0;
}

/* These bytes are stable; changes of them in the cache must not come back over them. */
static void make_stable(CutState *s, int64_t offset, int64_t bytes)
{
    const uint8_t *data = s->seen + offset;
    Change *c;

    memcpy(stable_of_its_own(s) + offset, data, bytes);
    QSIMPLEQ_FOREACH (c, &s->cache, next) {
        int64_t from = MAX(c->offset, offset), to = MIN(c->offset + c->bytes, offset + bytes);

        if (!c->is_length && from < to) {
            memcpy(c->data + (from - c->offset), data + (from - offset), to - from);
        }
    }
    s->stable_length = MAX(s->stable_length, offset + bytes);
}

static Change *change_new(CutState *s, bool is_length, int64_t offset, int64_t bytes)
{
    Change *c = g_malloc(sizeof(*c) + bytes);

    *c = (Change){.is_length = is_length, .offset = offset, .bytes = bytes};
    QSIMPLEQ_INSERT_TAIL(&s->cache, c, next);
    s->cached++;
    return c;
}

/* What is seen has changed. */
static void remember(CutState *s, int64_t offset, int64_t bytes, bool fua)
{
    if (fua) {
        make_stable(s, offset, bytes);
    } else {
        memcpy(change_new(s, false, offset, bytes)->data, s->seen + offset, bytes);
    }
}

/* --------------------------------------------------------------------------------------------- requests */

/* What is written behind the end of a file makes it longer. */
static int make_room(CutState *s, int64_t offset, int64_t bytes)
{
    if (s->power->off) {
        return -EIO;
    }
    if (bytes > (s->is_file ? s->capacity : s->seen_length) - offset) {
        return -ENOSPC;
    }
    s->seen_length = MAX(s->seen_length, offset + bytes);
    return 0;
}

static int coroutine_fn cut_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    CutState *s = bs->opaque;

    if (s->power->off) { /* C3 */
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
    int ret;

    ret = make_room(s, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    qemu_iovec_to_buf(qiov, qiov_offset, s->seen + offset, bytes);
    remember(s, offset, bytes, flags & BDRV_REQ_FUA);
    return moment(s);
}

static int coroutine_fn write_zeros(CutState *s, int64_t offset, int64_t bytes, bool fua)
{
    int ret;

    ret = make_room(s, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    memset(s->seen + offset, 0, bytes);
    remember(s, offset, bytes, fua);
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

    if (s->power->off) {
        return -EIO;
    }
    flush_cache(s);
    return moment(s);
}

static int64_t coroutine_fn cut_co_getlength(BlockDriverState *bs)
{
    return ((CutState *)bs->opaque)->seen_length;
}

/* A device answers as the driver of files does. */
static int coroutine_fn cut_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    CutState *s = bs->opaque;

    if (s->power->off) {
        error_setg(errp, "The power is off");
        return -EIO;
    }
    if (!s->is_file && (offset > s->seen_length || (exact && offset != s->seen_length))) {
        error_setg(errp, "Cannot %s device files", exact ? "resize" : "grow");
        return exact ? -ENOTSUP : -EINVAL;
    }
    if (!s->is_file || offset == s->seen_length) {
        return 0;
    }
    if (offset > s->capacity) {
        error_setg(errp, "There is no space");
        return -ENOSPC;
    }
    set_length(s->seen, &s->seen_length, offset);
    change_new(s, true, offset, 0);
    return moment(s);
}

/* ------------------------------------------------------------------------------------------------- life */

static void unref_switch(Switch *power)
{
    if (--power->refs == 0) {
        g_free(power);
    }
}

static void coroutine_fn cut_co_close(BlockDriverState *bs)
{
    CutState *s = bs->opaque;

    drop_cache(s);
    g_free(s->seen);
    bytes_unref(s->stable);
    unref_switch(s->power);
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
    .co_truncate = cut_co_truncate,
};

static const BlockDriver bdrv_test_cut = {
    .format_name = "test-cut",
    .is_protocol = true,
    .instance_size = sizeof(CutState),
    .life = &cut_life,
    .data = &cut_data,
};

/* By its name drivers know that its length is not theirs to choose. */
static const BlockDriver bdrv_test_cut_device = {
    .format_name = "host_device",
    .is_protocol = true,
    .instance_size = sizeof(CutState),
    .life = &cut_life,
    .data = &cut_data,
};

static BlockDriverState *cut_new(const char *node_name, bool is_file, int64_t size,
                                 int64_t capacity)
{
    BlockDriverState *bs =
        bdrv_new(is_file ? &bdrv_test_cut : &bdrv_test_cut_device, node_name, &error_abort);
    CutState *s = bs->opaque;

    s->power = g_new0(Switch, 1);
    s->power->refs = 1;
    s->is_file = is_file;
    s->capacity = capacity;
    s->seen_length = s->stable_length = size;
    s->seen = g_malloc0(capacity);
    s->stable = bytes_new(capacity);
    QSIMPLEQ_INIT(&s->cache);
    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = size;
    bdrv_refresh_limits(bs);
    return bs;
}

BlockDriverState *test_cut_new(const char *node_name, int64_t size)
{
    return cut_new(node_name, false, size, size);
}

BlockDriverState *test_cut_new_file(const char *node_name, int64_t size, int64_t capacity)
{
    return cut_new(node_name, true, size, capacity);
}

/* ------------------------------------------------------------------------------------------- the switch */

void test_cut_share_power(BlockDriverState *bs, BlockDriverState *other)
{
    CutState *s = bs->opaque, *with = other->opaque;

    unref_switch(s->power);
    s->power = with->power;
    s->power->refs++;
}

unsigned test_cut_moments(BlockDriverState *bs)
{
    return ((CutState *)bs->opaque)->power->moments;
}

void test_cut_arm(BlockDriverState *bs, unsigned at)
{
    ((CutState *)bs->opaque)->power->armed = at;
}

void test_cut_now(BlockDriverState *bs)
{
    ((CutState *)bs->opaque)->power->off = true;
}

bool test_cut_is_off(BlockDriverState *bs)
{
    return ((CutState *)bs->opaque)->power->off;
}

void test_cut_set_watch(BlockDriverState *bs, TestCutWatch *watch, void *opaque)
{
    Switch *power = ((CutState *)bs->opaque)->power;

    power->watch = watch;
    power->watch_opaque = opaque;
}

/* ------------------------------------------------------------------------------------------------- fates */

/* What the seed has chosen. */
typedef enum Lot {
    LOT_COIN,
    LOT_ALMOST_ALL,
    LOT_ALMOST_NONE,
    LOT_ALL_BUT_ONE,
    LOT_ONE_ALONE,
    LOTS,
} Lot;

typedef struct Landing {
    CutState *s;
    const TestCutFate *fate;
    GRand *rand;
    Lot lot;
    unsigned the_one;
} Landing;

static void land_bytes(Landing *l, int64_t offset, const uint8_t *data, int64_t bytes)
{
    memcpy(l->s->stable->data + offset, data, bytes);
    l->s->stable_length = MAX(l->s->stable_length, offset + bytes);
}

/* C2 */
static void land_torn(Landing *l, const Change *c, int64_t bytes)
{
    int64_t tear = l->fate->tear_bytes, piece;

    for (int64_t pos = 0; pos < bytes; pos += piece) {
        piece = MIN(tear - (c->offset + pos) % tear, bytes - pos);
        if (g_rand_boolean(l->rand)) {
            land_bytes(l, c->offset + pos, c->data + pos, piece);
        }
    }
}

enum { FATE_DROPPED, FATE_KEPT, FATE_TORN, FATES };

static int choose(Landing *l, unsigned index)
{
    int torn_too = l->fate->tear_bytes > 0 ? FATES : FATE_TORN;
    bool rare = g_rand_int_range(l->rand, 0, 8) == 0;

    switch (l->lot) {
    case LOT_ALMOST_ALL:
        return rare ? g_rand_int_range(l->rand, 0, torn_too) : FATE_KEPT;
    case LOT_ALMOST_NONE:
        return rare ? g_rand_int_range(l->rand, 0, torn_too) : FATE_DROPPED;
    case LOT_ALL_BUT_ONE:
        return index == l->the_one ? FATE_DROPPED : FATE_KEPT;
    case LOT_ONE_ALONE:
        return index == l->the_one ? FATE_KEPT : FATE_DROPPED;
    default:
        return g_rand_int_range(l->rand, 0, torn_too);
    }
}

/* A change, and how much of it no later change of the length has cut off. */
typedef struct Candidate {
    const Change *change;
    int64_t bytes;
} Candidate;

/* C4: lengths first; what is left of the others.  Gives how many there are. */
static unsigned land_lengths(Landing *l, const Cache *cache, unsigned lengths, Candidate *ret_order)
{
    unsigned kept = lengths ? g_rand_int_range(l->rand, 0, lengths + 1) : 0, n = 0;
    const Change *c;

    QSIMPLEQ_FOREACH (c, cache, next) {
        if (!c->is_length) {
            ret_order[n++] = (Candidate){c, c->bytes};
        } else if (kept > 0) {
            kept--;
            set_length(l->s->stable->data, &l->s->stable_length, c->offset);
            for (unsigned i = 0; i < n; i++) {
                int64_t left = c->offset - ret_order[i].change->offset;

                ret_order[i].bytes = MAX(MIN(ret_order[i].bytes, left), 0);
            }
        }
    }
    return n;
}

static void shuffle(Landing *l, Candidate *order, unsigned n)
{
    for (unsigned i = n; i > 1; i--) {
        unsigned j = g_rand_int_range(l->rand, 0, i);
        Candidate tmp = order[i - 1];

        order[i - 1] = order[j];
        order[j] = tmp;
    }
}

/* Into what is stable, which is nobody else's. */
static void land(CutState *s, const Cache *cache, unsigned cached, const TestCutFate *fate)
{
    g_autofree Candidate *order = g_new(Candidate, cached + 1);
    g_autoptr(GRand) rand = g_rand_new_with_seed(fate->seed);
    Landing l = {.s = s, .fate = fate, .rand = rand};
    unsigned lengths = 0, n;
    const Change *c;

    if (fate->drop_all || cached == 0) {
        return;
    }
    QSIMPLEQ_FOREACH (c, cache, next) {
        lengths += c->is_length;
    }
    l.lot = g_rand_int_range(rand, 0, LOTS);
    n = land_lengths(&l, cache, lengths, order);
    if (fate->reorder) {
        shuffle(&l, order, n);
    }
    l.the_one = n ? g_rand_int_range(rand, 0, n) : 0;
    for (unsigned i = 0; i < n; i++) {
        switch (choose(&l, i)) {
        case FATE_KEPT:
            if (order[i].bytes > 0) {
                land_bytes(&l, order[i].change->offset, order[i].change->data, order[i].bytes);
            }
            break;
        case FATE_TORN:
            land_torn(&l, order[i].change, order[i].bytes);
            break;
        default:
            break;
        }
    }
}

static void begin_again(BlockDriverState *bs)
{
    CutState *s = bs->opaque;

    memcpy(s->seen, s->stable->data, s->capacity);
    s->seen_length = s->stable_length;
    bs->total_bytes = s->seen_length;
    bs->write_gen++; /* as of a node that is new: the next flush is made */
    s->power->off = false;
    s->power->armed = 0;
}

void test_cut_power_on(BlockDriverState *bs, const TestCutFate *fate)
{
    CutState *s = bs->opaque;

    stable_of_its_own(s);
    land(s, &s->cache, s->cached, fate);
    drop_cache(s);
    begin_again(bs);
}

void test_cut_peek_stable(BlockDriverState *bs, int64_t offset, void *buf, int64_t bytes)
{
    CutState *s = bs->opaque;

    memcpy(buf, s->stable->data + offset, bytes);
}

void test_cut_poke(BlockDriverState *bs, int64_t offset, const void *buf, int64_t bytes)
{
    CutState *s = bs->opaque;

    g_assert_true(s->cached == 0);
    memcpy(stable_of_its_own(s) + offset, buf, bytes);
    memcpy(s->seen + offset, buf, bytes);
}

/* ------------------------------------------------------------------------------------------------ images */

static void copy_changes(const Cache *from, Cache *to)
{
    const Change *c;

    QSIMPLEQ_FOREACH (c, from, next) {
        Change *copy = g_memdup2(c, sizeof(*c) + (c->is_length ? 0 : c->bytes));

        QSIMPLEQ_INSERT_TAIL(to, copy, next);
    }
}

TestCutImage *test_cut_image(BlockDriverState *bs)
{
    CutState *s = bs->opaque;
    TestCutImage *image = g_new0(TestCutImage, 1);

    image->capacity = s->capacity;
    image->stable = s->stable;
    image->stable->refs++;
    image->stable_length = s->stable_length;
    image->cached = s->cached;
    QSIMPLEQ_INIT(&image->cache);
    copy_changes(&s->cache, &image->cache);
    return image;
}

void test_cut_image_free(TestCutImage *image)
{
    if (image) {
        bytes_unref(image->stable);
        drop_changes(&image->cache);
        g_free(image);
    }
}

void test_cut_load(BlockDriverState *bs, const TestCutImage *image, const TestCutFate *fate)
{
    CutState *s = bs->opaque;
    uint8_t *stable = stable_of_its_own(s);

    g_assert_true(s->capacity >= image->capacity);
    drop_cache(s);
    memcpy(stable, image->stable->data, image->capacity);
    memset(stable + image->capacity, 0, s->capacity - image->capacity);
    s->stable_length = image->stable_length;
    land(s, &image->cache, image->cached, fate);
    begin_again(bs);
}

void test_cut_load_cached(BlockDriverState *bs, const TestCutImage *image)
{
    CutState *s = bs->opaque;
    const Change *c;

    test_cut_load(bs, image, &(TestCutFate){.drop_all = true});
    copy_changes(&image->cache, &s->cache);
    s->cached = image->cached;
    QSIMPLEQ_FOREACH (c, &s->cache, next) {
        apply(c, s->seen, &s->seen_length);
    }
    bs->total_bytes = s->seen_length;
}
