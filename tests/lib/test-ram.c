/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See test-ram.h.  Blocks are in a hash table by number; a missing one is a hole. */
#include <errno.h>
#include "coro/lock.h"
#include "coro/sleep.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

typedef struct RamState {
    /* Set while quiesced. */
    uint32_t align;
    bool no_zeroes;
    int64_t capacity;
    unsigned delay_ops;
    int64_t delay_ns;
    bool late_errors;
    TestRamWatch *watch;
    void *watch_opaque;

    /* Home AioContext. */
    GHashTable *blocks;  /* int64_t * block number -> TEST_RAM_BLOCK bytes; owns both */
    GHashTable *regions; /* int64_t * region number -> blocks in it; to skip large holes quickly */
    int64_t size;
    TestRamCounts counts;
    unsigned in_flight;
    struct {
        unsigned ops;
        int64_t offset, bytes;
        int error, count;
    } fault;
    struct {
        unsigned ops;
        int64_t offset, bytes;
    } hold;
    unsigned held;
    bool cancels;
    unsigned cancelled; /* how often */
    CoQueue hold_queue;
    CoQueue held_changed;
} RamState;

static uint8_t *find_block(RamState *s, int64_t number)
{
    return g_hash_table_lookup(s->blocks, &number);
}

/* 1 GiB: a terabyte of nothing is a thousand steps. */
#define REGION_BLOCKS (1 * GiB / TEST_RAM_BLOCK)

static intptr_t region_count(RamState *s, int64_t region)
{
    return (intptr_t)g_hash_table_lookup(s->regions, &region);
}

static void region_add(RamState *s, int64_t number, int delta)
{
    int64_t *region = g_new(int64_t, 1);

    *region = number / REGION_BLOCKS;
    g_hash_table_replace(s->regions, region,
                         (void *)(region_count(s, number / REGION_BLOCKS) + delta));
}

/* The first block at or after @number that is there, or @limit. */
static int64_t next_block(RamState *s, int64_t number, int64_t limit)
{
    while (number < limit && !find_block(s, number)) {
        number = region_count(s, number / REGION_BLOCKS)
                     ? number + 1
                     : QEMU_ALIGN_DOWN(number, REGION_BLOCKS) + REGION_BLOCKS;
    }
    return MIN(number, limit);
}

static uint8_t *get_block(RamState *s, int64_t number)
{
    uint8_t *block = find_block(s, number);

    if (!block) {
        int64_t *key = g_new(int64_t, 1);

        *key = number;
        block = g_malloc0(TEST_RAM_BLOCK);
        g_hash_table_insert(s->blocks, key, block);
        region_add(s, number, 1);
    }
    return block;
}

/* Calls for each block that the range touches. */
#define FOR_EACH_BLOCK(offset, bytes, pos, number, in_block, n)                   \
    for (int64_t pos = 0, number, in_block, n;                                    \
         pos < (bytes) && (number = ((offset) + pos) / TEST_RAM_BLOCK,            \
                          in_block = ((offset) + pos) % TEST_RAM_BLOCK,           \
                          n = MIN((bytes)-pos, TEST_RAM_BLOCK - in_block), true); \
         pos += n)

void test_ram_peek(BlockDriverState *bs, int64_t offset, void *buf, int64_t bytes)
{
    RamState *s = bs->opaque;

    FOR_EACH_BLOCK(offset, bytes, pos, number, in_block, n)
    {
        const uint8_t *block = find_block(s, number);

        if (block) {
            memcpy((uint8_t *)buf + pos, block + in_block, n);
        } else {
            memset((uint8_t *)buf + pos, 0, n);
        }
    }
}

void test_ram_poke(BlockDriverState *bs, int64_t offset, const void *buf, int64_t bytes)
{
    RamState *s = bs->opaque;

    FOR_EACH_BLOCK(offset, bytes, pos, number, in_block, n)
    {
        memcpy(get_block(s, number) + in_block, (const uint8_t *)buf + pos, n);
    }
}

void test_ram_poke_pattern(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t seed)
{
    RamState *s = bs->opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    FOR_EACH_BLOCK(offset, bytes, pos, number, in_block, n)
    {
        uint8_t *block = get_block(s, number) + in_block;

        for (int64_t i = 0; i < n; i++) {
            block[i] = (uint8_t)g_rand_int(rand) | 1; /* never zero */
        }
    }
}

static void make_zero(RamState *s, int64_t offset, int64_t bytes, bool unmap)
{
    FOR_EACH_BLOCK(offset, bytes, pos, number, in_block, n)
    {
        if (unmap && n == TEST_RAM_BLOCK) {
            if (g_hash_table_remove(s->blocks, &number)) {
                region_add(s, number, -1);
            }
        } else if (!unmap || find_block(s, number)) {
            memset(get_block(s, number) + in_block, 0, n);
        }
    }
}

static bool touches(int64_t a, int64_t a_bytes, int64_t b, int64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

/* False: it was cancelled. */
static bool coroutine_fn wait_while_held(RamState *s, unsigned op, int64_t offset, int64_t bytes)
{
    unsigned cancelled = s->cancelled;

    if (!(s->hold.ops & op) ||
        (op != TEST_RAM_FLUSH && !touches(offset, bytes, s->hold.offset, s->hold.bytes))) {
        return true;
    }
    s->held++;
    qemu_co_queue_restart_all(&s->held_changed);
    qemu_co_queue_wait(&s->hold_queue, NULL);
    s->held--;
    return cancelled == s->cancelled;
}

/* What comes before every operation: holding, delay, fault.  Pairs with end(). */
static int coroutine_fn begin(RamState *s, unsigned op, int64_t offset, int64_t bytes)
{
    s->in_flight++;
    if (s->watch) {
        s->watch(s->watch_opaque, op, offset, bytes, true);
    }
    s->counts.in_flight_max = MAX(s->counts.in_flight_max, s->in_flight);
    if (!wait_while_held(s, op, offset, bytes)) {
        return -ECANCELED;
    }
    if ((s->delay_ops & op) && s->delay_ns > 0) {
        qemu_co_sleep_ns(s->delay_ns);
    }
    if (s->fault.error && (s->fault.ops & op) && s->fault.count != 0 &&
        (op == TEST_RAM_FLUSH || touches(offset, bytes, s->fault.offset, s->fault.bytes))) {
        if (s->fault.count > 0) {
            s->fault.count--;
        }
        return -s->fault.error;
    }
    if ((op & (TEST_RAM_WRITE | TEST_RAM_ZERO)) && offset + bytes > s->capacity) {
        return -ENOSPC;
    }
    return 0;
}

static int end(RamState *s, unsigned op, int64_t offset, int64_t bytes, int ret)
{
    s->in_flight--;
    if (s->watch) {
        s->watch(s->watch_opaque, op, offset, bytes, false);
    }
    return ret;
}

static int coroutine_fn ram_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;
    int ret = begin(s, TEST_RAM_READ, offset, bytes);

    g_assert_true(QEMU_IS_ALIGNED(offset | bytes, s->align));
    if (ret == 0) {
        s->counts.reads++;
        s->counts.bytes_read += bytes;
        FOR_EACH_BLOCK(offset, bytes, pos, number, in_block, n)
        {
            const uint8_t *block = find_block(s, number);

            if (block) {
                qemu_iovec_from_buf(qiov, qiov_offset + pos, block + in_block, n);
            } else {
                qemu_iovec_memset(qiov, qiov_offset + pos, 0, n);
            }
        }
    }
    return end(s, TEST_RAM_READ, offset, bytes, ret);
}

static int coroutine_fn ram_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;
    int ret = begin(s, TEST_RAM_WRITE, offset, bytes);

    g_assert_true(QEMU_IS_ALIGNED(offset | bytes, s->align));
    if (ret == 0 || s->late_errors) {
        s->counts.writes++;
        s->counts.bytes_written += bytes;
        s->size = MAX(s->size, offset + bytes);
        FOR_EACH_BLOCK(offset, bytes, pos, number, in_block, n)
        {
            qemu_iovec_to_buf(qiov, qiov_offset + pos, get_block(s, number) + in_block, n);
        }
    }
    return end(s, TEST_RAM_WRITE, offset, bytes, ret);
}

static int coroutine_fn ram_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    RamState *s = bs->opaque;
    int ret = s->no_zeroes ? -ENOTSUP : begin(s, TEST_RAM_ZERO, offset, bytes);

    if (s->no_zeroes) {
        return ret;
    }
    if (ret == 0) {
        s->counts.zeroes++;
        s->size = MAX(s->size, offset + bytes);
        make_zero(s, offset, bytes, flags & BDRV_REQ_MAY_UNMAP);
    }
    return end(s, TEST_RAM_ZERO, offset, bytes, ret);
}

static int coroutine_fn ram_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    RamState *s = bs->opaque;
    int ret = begin(s, TEST_RAM_DISCARD, offset, bytes);

    if (ret == 0) {
        s->counts.discards++;
        make_zero(s, offset, bytes, true);
    }
    return end(s, TEST_RAM_DISCARD, offset, bytes, ret);
}

static int coroutine_fn ram_co_flush(BlockDriverState *bs)
{
    RamState *s = bs->opaque;
    int ret = begin(s, TEST_RAM_FLUSH, 0, 0);

    s->counts.flushes += ret == 0;
    return end(s, TEST_RAM_FLUSH, 0, 0, ret);
}

static int coroutine_fn ram_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    RamState *s = bs->opaque;
    int ret = begin(s, TEST_RAM_STATUS, offset, bytes);
    int64_t number = offset / TEST_RAM_BLOCK;
    bool data = find_block(s, number);
    int64_t until = number + 1, limit = DIV_ROUND_UP(offset + bytes, TEST_RAM_BLOCK);

    if (ret < 0) {
        return end(s, TEST_RAM_STATUS, offset, bytes, ret);
    }
    s->counts.statuses++;
    if (!data) {
        until = next_block(s, until, limit);
    }
    while (data && until < limit && find_block(s, until)) {
        until++;
    }
    *pnum = MIN(bytes, until * TEST_RAM_BLOCK - offset);
    *map = offset;
    *file = bs;
    return end(s, TEST_RAM_STATUS, offset, bytes,
               BDRV_BLOCK_OFFSET_VALID | (data ? BDRV_BLOCK_DATA : BDRV_BLOCK_ZERO));
}

static int64_t coroutine_fn ram_co_getlength(BlockDriverState *bs)
{
    return ((RamState *)bs->opaque)->size;
}

static int64_t coroutine_fn ram_co_get_allocated_file_size(BlockDriverState *bs)
{
    return test_ram_allocated(bs);
}

static int coroutine_fn ram_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    RamState *s = bs->opaque;

    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "test-ram does not preallocate");
        return -ENOTSUP;
    }
    if (offset > s->capacity) {
        error_setg(errp, "test-ram is full");
        return -ENOSPC;
    }
    if (offset < s->size) {
        make_zero(s, offset, s->size - offset, true);
    }
    s->size = offset;
    return 0;
}

static void coroutine_fn ram_co_close(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    g_assert_cmpuint(s->in_flight, ==, 0);
    g_hash_table_destroy(s->blocks);
    g_hash_table_destroy(s->regions);
    qemu_co_queue_destroy(&s->hold_queue);
    qemu_co_queue_destroy(&s->held_changed);
}

static void ram_refresh_limits(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    bs->bl.request_alignment = s->align;
    bs->supported_write_flags = BDRV_REQ_FUA | BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
}

static void ram_cancel_in_flight(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    if (s->cancels) {
        s->cancelled++;
        qemu_co_queue_restart_all(&s->hold_queue);
    }
}

static const BlockDriverLife ram_life = {
    .co_close = ram_co_close,
    .refresh_limits = ram_refresh_limits,
    .cancel_in_flight = ram_cancel_in_flight,
};

static const BlockDriverData ram_data = {
    .co_preadv = ram_co_preadv,
    .co_pwritev = ram_co_pwritev,
    .co_pwrite_zeroes = ram_co_pwrite_zeroes,
    .co_pdiscard = ram_co_pdiscard,
    .co_flush = ram_co_flush,
    .co_block_status = ram_co_block_status,
    .co_getlength = ram_co_getlength,
    .co_truncate = ram_co_truncate,
    .co_get_allocated_file_size = ram_co_get_allocated_file_size,
};

static const BlockDriver bdrv_test_ram = {
    .format_name = "test-ram",
    .is_protocol = true,
    .instance_size = sizeof(RamState),
    .life = &ram_life,
    .data = &ram_data,
};

BlockDriverState *test_ram_new(const char *node_name, int64_t size)
{
    BlockDriverState *bs = bdrv_new(&bdrv_test_ram, node_name, &error_abort);
    RamState *s = bs->opaque;

    s->align = 1;
    s->capacity = INT64_MAX;
    s->size = size;
    s->blocks = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    s->regions = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    qemu_co_queue_init(&s->hold_queue);
    qemu_co_queue_init(&s->held_changed);
    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = size;
    bdrv_refresh_limits(bs);
    return bs;
}

void test_ram_set_alignment(BlockDriverState *bs, uint32_t align)
{
    ((RamState *)bs->opaque)->align = align;
    bdrv_refresh_limits(bs);
}

void test_ram_set_no_zeroes(BlockDriverState *bs, bool on)
{
    ((RamState *)bs->opaque)->no_zeroes = on;
}

void test_ram_set_cancels(BlockDriverState *bs, bool on)
{
    ((RamState *)bs->opaque)->cancels = on;
}

void test_ram_set_capacity(BlockDriverState *bs, int64_t bytes)
{
    ((RamState *)bs->opaque)->capacity = bytes;
}

int64_t test_ram_allocated(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    return (int64_t)g_hash_table_size(s->blocks) * TEST_RAM_BLOCK;
}

const TestRamCounts *test_ram_counts(BlockDriverState *bs)
{
    return &((RamState *)bs->opaque)->counts;
}

void test_ram_reset_counts(BlockDriverState *bs)
{
    ((RamState *)bs->opaque)->counts = (TestRamCounts){0};
}

void test_ram_set_delay(BlockDriverState *bs, unsigned ops, int64_t ns)
{
    RamState *s = bs->opaque;

    s->delay_ops = ops;
    s->delay_ns = ns;
}

void test_ram_set_error(BlockDriverState *bs, unsigned ops, int64_t offset, int64_t bytes,
                        int error, int count)
{
    RamState *s = bs->opaque;

    s->fault.ops = ops;
    s->fault.offset = offset;
    s->fault.bytes = bytes;
    s->fault.error = error;
    s->fault.count = count;
}

void test_ram_set_late_errors(BlockDriverState *bs, bool on)
{
    ((RamState *)bs->opaque)->late_errors = on;
}

void test_ram_set_watch(BlockDriverState *bs, TestRamWatch *watch, void *opaque)
{
    RamState *s = bs->opaque;

    s->watch = watch;
    s->watch_opaque = opaque;
}

void test_ram_hold(BlockDriverState *bs, unsigned ops, int64_t offset, int64_t bytes)
{
    RamState *s = bs->opaque;

    s->hold.ops = ops;
    s->hold.offset = offset;
    s->hold.bytes = bytes;
}

unsigned test_ram_held(BlockDriverState *bs)
{
    return ((RamState *)bs->opaque)->held;
}

void test_ram_release(BlockDriverState *bs)
{
    RamState *s = bs->opaque;

    s->hold.ops = 0;
    qemu_co_queue_restart_all(&s->hold_queue);
}

bool test_ram_release_one(BlockDriverState *bs)
{
    return qemu_co_queue_next(&((RamState *)bs->opaque)->hold_queue);
}

void coroutine_fn test_ram_co_wait_held(BlockDriverState *bs, unsigned n)
{
    RamState *s = bs->opaque;

    while (s->held < n) {
        qemu_co_queue_wait(&s->held_changed, NULL);
    }
}
