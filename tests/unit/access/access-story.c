/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See access-story.h. */
#include "block/backend/backend.h"
#include "coro/sleep.h"
#include "tests/unit/access/access-story.h"
#include "util/osdep.h"

/* The longest read. */
#define READ_MAX 300000

/* What is called zero must read so, before or after. */
static int coroutine_fn ask_status(AccessReader *r, int64_t offset, int64_t bytes,
                                   int64_t *ret_zeroes)
{
    int64_t pnum;
    int ret = blk_co_block_status_above(r->blk, NULL, offset, bytes, &pnum, NULL, NULL);

    *ret_zeroes = ret >= 0 && (ret & BDRV_BLOCK_ZERO) ? pnum : 0;
    if (ret >= 0) {
        g_assert_cmpint(pnum, >, 0);
        g_assert_cmpint(pnum, <=, bytes);
    }
    return MIN(ret, 0);
}

static int coroutine_fn read_piece(AccessReader *r, int64_t offset, int64_t bytes)
{
    bool first = g_rand_boolean(r->rand);
    int64_t zeroes = 0;
    int ret = 0;

    if (first) {
        ret = ask_status(r, offset, bytes, &zeroes);
    }
    if (ret == 0) {
        ret = blk_co_pread(r->blk, offset, bytes, r->copy + offset, 0);
    }
    if (ret == 0 && !first) {
        ret = ask_status(r, offset, bytes, &zeroes);
    }
    for (int64_t i = 0; ret == 0 && i < zeroes; i++) {
        g_assert_cmpuint(r->copy[offset + i], ==, 0);
    }
    return ret;
}

/* Pieces in any order: from a point on to the end, then from the beginning. */
static void coroutine_fn reader_entry(void *opaque)
{
    AccessReader *r = opaque;
    int64_t start = QEMU_ALIGN_DOWN(g_rand_int_range(r->rand, 0, r->length), 512);
    int64_t offset = start, left = r->length;

    while (left > 0 && r->error == 0) {
        int64_t bytes = g_rand_int_range(r->rand, 1, READ_MAX);

        bytes = r->sectors ? QEMU_ALIGN_UP(bytes, 512) : bytes;
        bytes = MIN(MIN(bytes, left), r->length - offset);
        r->error = read_piece(r, offset, bytes);
        left -= bytes;
        offset = (offset + bytes) % r->length;
        qemu_co_sleep_ns(g_rand_int_range(r->rand, 0, 3) ? 0
                                                         : g_rand_int_range(r->rand, 0, 200000));
    }
    __atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
}

AccessReader *access_reader_new(BlockDriverState *view, uint32_t seed)
{
    AccessReader *r = g_new0(AccessReader, 1);

    r->blk = blk_new(BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    g_assert_cmpint(blk_insert_bs(r->blk, view, &error_abort), ==, 0);
    r->rand = g_rand_new_with_seed(seed);
    r->length = bdrv_getlength(view);
    r->copy = g_malloc(r->length);
    r->sectors = seed & 1;
    aio_co_schedule(bdrv_get_aio_context(view), qemu_coroutine_create(reader_entry, r));
    return r;
}

void coroutine_fn access_reader_co_join(AccessReader *r)
{
    while (!__atomic_load_n(&r->done, __ATOMIC_ACQUIRE)) {
        qemu_co_sleep_ns(1000);
    }
}

void coroutine_fn access_reader_co_free(AccessReader *r)
{
    access_reader_co_join(r);
    blk_co_unref(r->blk);
    g_rand_free(r->rand);
    g_free(r->copy);
    g_free(r);
}

void access_window_before(AccessWindow *window, StoryWriter **writers, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        story_writer_before(writers[i]);
        window->lo[i] = writers[i]->lo;
    }
}

void access_window_after(AccessWindow *window, StoryWriter **writers, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        story_writer_after(writers[i]);
        window->hi[i] = writers[i]->hi;
    }
}

void access_window_check(const AccessWindow *window, StoryWriter **writers, unsigned n,
                         uint8_t *copy)
{
    for (unsigned i = 0; i < n; i++) {
        writers[i]->lo = window->lo[i];
        writers[i]->hi = window->hi[i];
        story_writer_check_bytes(writers[i], &copy);
    }
}
