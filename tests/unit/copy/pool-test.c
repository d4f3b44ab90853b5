/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pool: a bound that holds, and turns that are kept. */
#include "block/copy/copy.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CHUNK (64 * KiB)

typedef struct Getter {
    CopyPool *pool;
    void *chunk;
    unsigned *turn, got_at; /* 1 is the first */
} Getter;

static void coroutine_fn get_entry(void *opaque)
{
    Getter *g = opaque;

    g->chunk = copy_pool_get(g->pool);
    g->got_at = ++*g->turn;
}

static void coroutine_fn start(Getter *g, CopyPool *pool, unsigned *turn)
{
    *g = (Getter){.pool = pool, .turn = turn};
    qemu_coroutine_enter(qemu_coroutine_create(get_entry, g));
}

static void coroutine_fn chunks_are_bounded_and_used_again(void)
{
    BlockDriverState *bs = test_ram_new("disk", 4096);
    CopyPool *pool = copy_pool_new(bs, CHUNK, 2);
    void *a = copy_pool_get(pool), *b = copy_pool_get(pool);
    unsigned turn = 0;
    Getter g;

    g_assert_cmpuint(copy_pool_chunk_bytes(pool), ==, CHUNK);
    g_assert_true(QEMU_PTR_IS_ALIGNED(a, bdrv_min_mem_align(bs)));
    memset(a, 1, CHUNK);
    memset(b, 2, CHUNK);
    g_assert_cmpuint(copy_pool_in_use(pool), ==, 2);
    start(&g, pool, &turn);
    block_test_co_settle();
    g_assert_null(g.chunk);
    copy_pool_put(pool, b);
    block_test_co_settle();
    g_assert_true(g.chunk == b);
    copy_pool_put(pool, a);
    copy_pool_put(pool, g.chunk);
    g_assert_cmpuint(copy_pool_in_use(pool), ==, 0);
    copy_pool_free(pool);
    copy_pool_free(NULL);
    bdrv_co_unref(bs);
}

static void coroutine_fn who_waits_longest_is_first(void)
{
    BlockDriverState *bs = test_ram_new("disk", 4096);
    CopyPool *pool = copy_pool_new(bs, CHUNK, 1);
    void *a = copy_pool_get(pool);
    unsigned turn = 0;
    Getter g[4];

    for (size_t i = 0; i < ARRAY_SIZE(g); i++) {
        start(&g[i], pool, &turn);
    }
    copy_pool_put(pool, a);
    for (size_t i = 0; i < ARRAY_SIZE(g); i++) {
        block_test_co_settle();
        g_assert_cmpuint(g[i].got_at, ==, i + 1);
        copy_pool_put(pool, g[i].chunk);
    }
    copy_pool_free(pool);
    bdrv_co_unref(bs);
}

/* The newcomer comes between the wake of the one who waits and its run. */
static void coroutine_fn newcomer_does_not_overtake(void)
{
    BlockDriverState *bs = test_ram_new("disk", 4096);
    CopyPool *pool = copy_pool_new(bs, CHUNK, 1);
    void *a = copy_pool_get(pool);
    unsigned turn = 0;
    Getter first, newcomer;

    start(&first, pool, &turn);
    copy_pool_put(pool, a);
    start(&newcomer, pool, &turn);
    block_test_co_settle();
    g_assert_cmpuint(first.got_at, ==, 1);
    g_assert_null(newcomer.chunk);
    copy_pool_put(pool, first.chunk);
    block_test_co_settle();
    g_assert_cmpuint(newcomer.got_at, ==, 2);
    copy_pool_put(pool, newcomer.chunk);
    copy_pool_free(pool);
    bdrv_co_unref(bs);
}

static void add(void)
{
    block_test_add("/copy/pool/chunks are bounded, aligned and used again",
                   chunks_are_bounded_and_used_again);
    block_test_add("/copy/pool/who waits longest is first", who_waits_longest_is_first);
    block_test_add("/copy/pool/a newcomer does not overtake", newcomer_does_not_overtake);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
