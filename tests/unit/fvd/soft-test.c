/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that come into an FVD image although nobody wrote them: copy-on-read, and what prefetching is made of.  When
 * they come, what they never overwrite, what of them a clean end and a power cut leave.
 */
#include <errno.h>
#include <stdlib.h>
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define SECTOR 512
#define BLOCK  (16 * KiB)
#define CHUNK  (64 * KiB)
#define SIZE   (1 * MiB)

static const FvdImageSpec over_base = {
    .size = SIZE,
    .chunk_size = CHUNK,
    .block_size = BLOCK,
    .journal_size = 32 * KiB,
    .base_size = SIZE,
};

typedef struct Scene {
    BlockDriverState *base, *file, *bs;
    BdrvChild *user;
    uint8_t model[SIZE];
} Scene;

static void coroutine_fn open_image(Scene *s, const char *options)
{
    s->bs = block_test_co_open(
        "{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"%s\", \"backing\": \"%s\"%s}",
        s->file->node_name, s->base->node_name, options);
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ |
                                         (bdrv_is_read_only(s->bs) ? 0 : BLK_PERM_WRITE));
}

static void coroutine_fn close_image(Scene *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
    g_assert_null(bdrv_find_node("image"));
}

static Scene *coroutine_fn scene_new(const FvdImageSpec *spec, const char *options)
{
    Scene *s = g_new0(Scene, 1);

    s->file = test_ram_new("file", 0);
    s->base = test_ram_new("base", SIZE);
    test_ram_poke_pattern(s->base, 0, SIZE, 7);
    test_ram_peek(s->base, 0, s->model, SIZE);
    fvd_image_co_make(s->file, spec);
    open_image(s, options);
    return s;
}

static void coroutine_fn scene_free(Scene *s)
{
    close_image(s);
    bdrv_co_unref(s->file);
    bdrv_co_unref(s->base);
    g_free(s);
}

#define ON ", \"copy-on-read\": true"

static void coroutine_fn expect(Scene *s, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(s->user, offset, bytes, buf, 0), ==, 0);
    g_assert_cmpmem(buf, bytes, s->model + offset, bytes);
}

static void coroutine_fn put(Scene *s, int64_t offset, int64_t bytes, uint8_t byte)
{
    block_test_co_fill(s->user, offset, bytes, byte);
    memset(s->model + offset, byte, bytes);
}

/* Bytes of the range that are in the image. */
static int64_t coroutine_fn in_image(Scene *s, int64_t offset, int64_t bytes)
{
    int64_t sum = 0, run;

    for (; bytes > 0; offset += run, bytes -= run) {
        int ret = bdrv_co_block_status(s->bs, offset, bytes, &run, NULL, NULL);

        g_assert_cmpint(ret, >=, 0);
        sum += ret & BDRV_BLOCK_ALLOCATED ? run : 0;
    }
    return sum;
}

static void coroutine_fn wait_idle(Scene *s)
{
    bdrv_co_drained_begin(s->bs);
    bdrv_co_drained_end(s->bs);
}

/* ------------------------------------------------------------------------------------- copy-on-read */

static void coroutine_fn test_read_twice(void)
{
    Scene *s = scene_new(&over_base, ON);

    expect(s, BLOCK + SECTOR, SECTOR);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, BLOCK);
    test_ram_reset_counts(s->base);
    expect(s, BLOCK, BLOCK);
    g_assert_cmpuint(test_ram_counts(s->base)->reads, ==, 0);
    expect(s, 3 * BLOCK - SECTOR, CHUNK);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 6 * BLOCK + BLOCK * 0);
    expect(s, 0, SIZE);
    scene_free(s);
}

static void coroutine_fn test_reply_first(void)
{
    Scene *s = scene_new(&over_base, ON);

    test_ram_hold(s->file, TEST_RAM_WRITE, 0, INT64_MAX);
    expect(s, 0, SECTOR);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 0);
    test_ram_co_wait_held(s->file, 1);
    test_ram_release(s->file);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, BLOCK);
    scene_free(s);
}

static void coroutine_fn test_limit(void)
{
    FvdImageSpec spec = over_base;
    Scene *s;

    spec.max_outstanding = 2 * BLOCK;
    s = scene_new(&spec, ON);
    test_ram_hold(s->file, TEST_RAM_WRITE, 0, INT64_MAX);
    for (int i = 0; i < 5; i++) {
        expect(s, i * BLOCK, SECTOR);
    }
    expect(s, 8 * BLOCK, 3 * BLOCK);
    test_ram_release(s->file);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 2 * BLOCK);
    expect(s, 0, SIZE); /* more than the limit at once */
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 2 * BLOCK);
    scene_free(s);
}

static void coroutine_fn test_who_decides(void)
{
    FvdImageSpec spec = over_base;
    Scene *s = scene_new(&over_base, "");

    expect(s, 0, SECTOR);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 0);
    scene_free(s);

    spec.copy_on_read = true;
    s = scene_new(&spec, ", \"copy-on-read\": false");
    expect(s, 0, SECTOR);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 0);
    close_image(s);
    open_image(s, "");
    g_assert_cmpint(
        bdrv_co_pread(s->user, BLOCK, SECTOR, s->model + BLOCK, BDRV_REQ_NO_SERIALISING), ==,
        0); /* a job's */
    expect(s, 0, SECTOR);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, BLOCK);
    close_image(s);
    open_image(s, ", \"read-only\": true");
    expect(s, 0, SIZE);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, BLOCK);
    close_image(s);
    block_test_co_open_fails("'copy-on-read' needs an image that is open for writing",
                             "{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"file\", "
                             "\"backing\": \"base\", \"read-only\": true" ON "}");
    open_image(s, "");
    scene_free(s);
}

static void coroutine_fn test_failures_are_no_matter(void)
{
    Scene *s = scene_new(&over_base, ON);

    test_ram_set_error(s->file, TEST_RAM_WRITE, 0, INT64_MAX, ENOSPC, -1);
    expect(s, 0, 2 * BLOCK);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 0);
    test_ram_set_error(s->file, 0, 0, 0, 0, 0);
    /* Beside what was asked for there is what cannot be read. */
    test_ram_set_error(s->base, TEST_RAM_READ, SECTOR, SECTOR, EIO, -1);
    expect(s, 0, SECTOR);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 0);
    test_ram_set_error(s->base, 0, 0, 0, 0, 0);
    put(s, BLOCK + SECTOR, SECTOR, 1);
    g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
    expect(s, 0, SIZE);
    wait_idle(s);
    scene_free(s);
}

/* H12: a guest's write is never overwritten by what was read from the base before it. */
static void coroutine_fn test_newer_data_stays(void)
{
    Scene *s = scene_new(&over_base, ON);
    BlockTestRequest *req;

    /* The write comes while the store waits for the first change of the image. */
    test_ram_hold(s->file, TEST_RAM_FLUSH, 0, INT64_MAX);
    expect(s, 0, SECTOR);
    test_ram_co_wait_held(s->file, 1);
    req = block_test_co_start(s->user, BLOCK_TEST_WRITE, SECTOR, BLOCK - SECTOR, 0x11);
    memset(s->model + SECTOR, 0x11, BLOCK - SECTOR);
    test_ram_release(s->file);
    g_assert_cmpint(block_test_co_join(req), ==, 0);
    expect(s, 0, BLOCK);
    wait_idle(s);
    expect(s, 0, BLOCK);

    /* And while its data is being written. */
    test_ram_hold(s->file, TEST_RAM_WRITE, 0, INT64_MAX);
    expect(s, 2 * BLOCK, SECTOR);
    test_ram_co_wait_held(s->file, 1);
    req = block_test_co_start(s->user, BLOCK_TEST_WRITE, 2 * BLOCK + SECTOR, SECTOR, 0x22);
    memset(s->model + 2 * BLOCK + SECTOR, 0x22, SECTOR);
    block_test_co_settle();
    g_assert_false(block_test_done(req));
    test_ram_release(s->file);
    g_assert_cmpint(block_test_co_join(req), ==, 0);
    wait_idle(s);
    close_image(s);
    open_image(s, "");
    expect(s, 0, SIZE);
    scene_free(s);
}

/* SW5 */
static void coroutine_fn test_zeros_take_no_space(void)
{
    Scene *s = scene_new(&over_base, ON);
    int64_t before;

    memset(s->model + CHUNK, 0, 2 * CHUNK + BLOCK);
    test_ram_poke(s->base, 0, s->model, SIZE);
    put(s, 8 * CHUNK, SECTOR, 1);
    before = test_ram_allocated(s->file);
    expect(s, CHUNK, 2 * CHUNK);
    wait_idle(s);
    g_assert_cmpint(in_image(s, CHUNK, 2 * CHUNK), ==, 2 * CHUNK);
    g_assert_cmpint(test_ram_allocated(s->file), ==, before);
    /* Zeros, and beside them something. */
    expect(s, 3 * CHUNK, 2 * BLOCK);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 3 * CHUNK, CHUNK), ==, 2 * BLOCK);
    put(s, CHUNK + SECTOR, SECTOR, 2);
    close_image(s);
    test_ram_reset_counts(s->base);
    open_image(s, "");
    expect(s, CHUNK, 2 * CHUNK + 2 * BLOCK);
    g_assert_cmpuint(test_ram_counts(s->base)->reads, ==, 0);
    expect(s, 0, SIZE);
    scene_free(s);
}

/* MP8: the rest of the block is in chunks of its own, which the record has, too. */
static void coroutine_fn test_block_of_many_chunks(void)
{
    FvdImageSpec spec = over_base;
    Scene *s;

    spec.chunk_size = 4 * KiB;
    s = scene_new(&spec, ON);
    expect(s, 0, BLOCK);
    wait_idle(s);
    put(s, BLOCK / 2, SECTOR, 1);
    close_image(s);
    open_image(s, "");
    expect(s, 0, SIZE);
    scene_free(s);
}

/* Z3: a chunk that no record has is another's as soon as it is given up, and no hole is punched into it later. */
static void coroutine_fn test_discarded_unrecorded(void)
{
    FvdImageSpec spec = over_base;
    Scene *s;

    spec.incompatible = FVD_INCOMPATIBLE_REMAP;
    s = scene_new(&spec, ON ", \"discard\": \"unmap\"");
    expect(s, 0, CHUNK);
    wait_idle(s);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(s->user, 0, CHUNK, BDRV_REQ_MAY_UNMAP), ==, 0);
    memset(s->model, 0, CHUNK);
    put(s, 4 * CHUNK, CHUNK, 5);
    g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
    wait_idle(s);
    expect(s, 0, SIZE);
    scene_free(s);
}

/* SW3 */
static void coroutine_fn test_clean_end_keeps(void)
{
    Scene *s = scene_new(&over_base, ON);

    expect(s, 0, 3 * BLOCK);
    expect(s, SIZE - BLOCK, BLOCK);
    wait_idle(s);
    close_image(s);
    open_image(s, "");
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 4 * BLOCK);
    expect(s, 0, SIZE);
    scene_free(s);
}

/* ------------------------------------------------------------------------------------------ power cuts */

static unsigned cuts(void)
{
    const char *text = g_getenv("SEEDS");

    return text ? (unsigned)atoi(text) : 25;
}

typedef struct Actor {
    Scene *s;
    GRand *rand;
    unsigned *left;
    Coroutine *waiter;
    uint8_t *promised; /* what was flushed */
    bool prefetches;
} Actor;

static bool power_is_on(Actor *a)
{
    return !test_cut_is_off(a->s->file);
}

/* Writes and flushes until the power goes.  One at a time, so that what was flushed is known. */
static void coroutine_fn guest_entry(void *opaque)
{
    Actor *a = opaque;
    Scene *s = a->s;

    for (int i = 0; i < 40 && power_is_on(a); i++) {
        int64_t offset = g_rand_int_range(a->rand, 0, SIZE / SECTOR / 4) * SECTOR;
        g_autofree uint8_t *buf = g_malloc(4 * SECTOR);

        qemu_co_sleep_ns(g_rand_int_range(a->rand, 0, 60));
        switch (g_rand_int_range(a->rand, 0, 3)) {
        case 0:
            memset(buf, g_rand_int_range(a->rand, 1, 255), 4 * SECTOR);
            memcpy(s->model + offset, buf, 4 * SECTOR);
            bdrv_co_pwrite(s->user, offset, 4 * SECTOR, buf, 0);
            break;
        case 1: {
            g_autofree uint8_t *now = g_memdup2(s->model, SIZE);

            if (bdrv_co_flush(s->bs) == 0 && power_is_on(a)) {
                memcpy(a->promised, now, SIZE);
            }
            break;
        }
        default:
            bdrv_co_pread(s->user, offset, 4 * SECTOR, buf, 0);
            break;
        }
    }
    if (--*a->left == 0 && a->waiter) {
        aio_co_wake(a->waiter);
    }
}

/* A quarter of the disk at the end is only ever read and prefetched. */
static void coroutine_fn filler_entry(void *opaque)
{
    Actor *a = opaque;
    const BlockDriverPrefetch *p = a->s->bs->drv->prefetch;
    g_autofree uint8_t *buf = g_malloc(BLOCK);
    int ret = 0;

    bdrv_inc_in_flight(a->s->bs);
    for (int64_t at = 0; at < SIZE && ret >= 0 && power_is_on(a); at += BLOCK) {
        ret = p->co_load(a->s->bs, at, BLOCK, buf);
        qemu_co_sleep_ns(g_rand_int_range(a->rand, 0, 30));
        ret = ret < 0 ? ret : p->co_store(a->s->bs, at, BLOCK, buf);
        if (ret >= 0 && g_rand_int_range(a->rand, 0, 12) == 0) {
            ret = p->co_keep(a->s->bs);
        }
    }
    if (ret >= 0 && power_is_on(a)) {
        p->co_finish(a->s->bs);
    }
    bdrv_dec_in_flight(a->s->bs);
    if (--*a->left == 0 && a->waiter) {
        aio_co_wake(a->waiter);
    }
}

/* Every sector is what was flushed or what was written later; what nobody wrote is the base's. */
static void coroutine_fn check_after_cut(Scene *s, const uint8_t *promised, const uint8_t *base)
{
    g_autofree uint8_t *buf = g_malloc(SIZE);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    g_assert_cmpint(bdrv_co_pread(s->user, 0, SIZE, buf, 0), ==, 0);
    for (int64_t at = 0; at < SIZE; at += SECTOR) {
        if (memcmp(s->model + at, base + at, SECTOR) == 0 ||
            memcmp(promised + at, s->model + at, SECTOR) == 0) {
            g_assert_cmpmem(buf + at, SECTOR, promised + at, SECTOR);
        }
    }
    fvd_image_co_header(s->file, h);
    if (h->base_img_fully_prefetched) {
        g_assert_cmpint(in_image(s, 0, SIZE), ==, SIZE); /* F9 */
    }
}

static void coroutine_fn one_cut(uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    Scene *s = g_new0(Scene, 1);
    unsigned left = 2;
    g_autofree uint8_t *base = g_malloc(SIZE), *promised = NULL;
    FvdImageSpec spec = over_base;
    Actor guest, filler;

    s->file = test_cut_new("file", 4 * MiB);
    s->base = test_ram_new("base", SIZE);
    test_ram_poke_pattern(s->base, 0, SIZE, seed);
    test_ram_set_delay(s->base, TEST_RAM_READ, g_rand_int_range(rand, 1, 100));
    test_ram_peek(s->base, 0, base, SIZE);
    memcpy(s->model, base, SIZE);
    promised = g_memdup2(base, SIZE);
    spec.incompatible = g_rand_int_range(rand, 0, 4); /* BLOCK_SUMS, REMAP */
    fvd_image_co_make(s->file, &spec);
    open_image(s, ON);
    test_cut_arm(s->file, test_cut_moments(s->file) + g_rand_int_range(rand, 1, 200));
    guest = (Actor){.s = s, .rand = rand, .left = &left, .promised = promised};
    filler = guest;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(guest_entry, &guest));
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(filler_entry, &filler));
    if (left) {
        guest.waiter = filler.waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    if (!test_cut_is_off(s->file)) {
        test_cut_now(s->file);
    }
    close_image(s);
    test_cut_power_on(s->file, &(TestCutFate){.seed = seed,
                                              .tear_bytes = g_rand_boolean(rand) ? 512 : 4096,
                                              .reorder = true,
                                              .drop_all = g_rand_int_range(rand, 0, 8) == 0});
    open_image(s, "");
    check_after_cut(s, promised, base);
    scene_free(s);
}

static void coroutine_fn test_power_cuts(void)
{
    uint32_t seed = block_test_seed();

    for (unsigned i = 0; i < cuts(); i++) {
        one_cut(seed + i);
    }
}

/* A guest's few bytes in a block that nobody recorded: flushed, all of the block is there. */
static void coroutine_fn test_write_into_what_was_read(void)
{
    Scene *s = g_new0(Scene, 1);

    s->file = test_cut_new("file", 4 * MiB);
    s->base = test_ram_new("base", SIZE);
    test_ram_poke_pattern(s->base, 0, SIZE, 7);
    test_ram_peek(s->base, 0, s->model, SIZE);
    fvd_image_co_make(s->file, &over_base);
    open_image(s, ON);
    expect(s, 0, 2 * BLOCK);
    wait_idle(s);
    g_assert_cmpint(in_image(s, 0, SIZE), ==, 2 * BLOCK);
    put(s, SECTOR, SECTOR, 1);
    g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
    test_cut_now(s->file);
    close_image(s);
    test_cut_power_on(s->file, &(TestCutFate){.drop_all = true});
    open_image(s, "");
    g_assert_cmpint(in_image(s, 0, SIZE), ==, BLOCK); /* the other is lost, as was said */
    expect(s, 0, SIZE);
    scene_free(s);
}

/* -------------------------------------------------------------------------------------- prefetching */

static int coroutine_fn bring(Scene *s, int64_t offset, int64_t bytes)
{
    const BlockDriverPrefetch *p = s->bs->drv->prefetch;
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret;

    bdrv_inc_in_flight(s->bs);
    ret = p->co_load(s->bs, offset, bytes, buf);
    ret = ret < 0 ? ret : p->co_store(s->bs, offset, bytes, buf);
    bdrv_dec_in_flight(s->bs);
    return ret;
}

static int coroutine_fn finish(Scene *s)
{
    int ret;

    bdrv_inc_in_flight(s->bs);
    ret = s->bs->drv->prefetch->co_finish(s->bs);
    bdrv_dec_in_flight(s->bs);
    return ret;
}

/* F9, H11 */
static void coroutine_fn test_finish(void)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    Scene *s = scene_new(&over_base, "");

    g_assert_cmpint(bring(s, 0, SIZE - BLOCK), ==, 0);
    g_assert_cmpint(finish(s), ==, -EAGAIN);
    test_ram_set_error(s->file, TEST_RAM_WRITE, 0, INT64_MAX, EIO, -1);
    g_assert_cmpint(bring(s, SIZE - BLOCK, BLOCK), ==, -EIO);
    g_assert_cmpint(finish(s), ==, -EAGAIN);
    test_ram_set_error(s->file, 0, 0, 0, 0, 0);
    g_assert_cmpint(bring(s, SIZE - BLOCK, BLOCK), ==, 0);
    g_assert_cmpint(finish(s), ==, 0);
    fvd_image_co_header(s->file, h);
    g_assert_cmpuint(h->base_img_fully_prefetched, ==, 1);
    test_ram_reset_counts(s->base);
    expect(s, 0, SIZE);
    put(s, 5 * SECTOR, SECTOR, 3);
    close_image(s);
    open_image(s, "");
    expect(s, 0, SIZE);
    g_assert_cmpuint(test_ram_counts(s->base)->reads, ==, 0);
    scene_free(s);
}

/* What was kept is recorded before the resize holds all of the disk. */
static void coroutine_fn test_resize(void)
{
    Scene *s = scene_new(&over_base, ON);

    block_test_co_user_free(s->user);
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    expect(s, 0, BLOCK);
    wait_idle(s);
    g_assert_cmpint(
        bdrv_co_truncate(s->user, SIZE - CHUNK, true, PREALLOC_MODE_OFF, 0, &error_abort), ==, 0);
    expect(s, 0, SIZE - CHUNK);
    close_image(s);
    open_image(s, "");
    test_ram_reset_counts(s->base);
    expect(s, 0, BLOCK);
    g_assert_cmpuint(test_ram_counts(s->base)->reads, ==, 0);
    expect(s, BLOCK, SIZE - CHUNK - BLOCK);
    scene_free(s);
}

static void add(void)
{
    block_test_add("/fvd/soft/what was read from the base is read from the image then",
                   test_read_twice);
    block_test_add("/fvd/soft/the reader is answered before the block is kept", test_reply_first);
    block_test_add("/fvd/soft/no more is kept at once than the image allows", test_limit);
    block_test_add(
        "/fvd/soft/the option decides, else the image, and jobs and read-only ones do not keep",
        test_who_decides);
    block_test_add("/fvd/soft/a reader is not told of what could not be kept",
                   test_failures_are_no_matter);
    block_test_add("/fvd/soft/what a guest wrote meanwhile is never overwritten",
                   test_newer_data_stays);
    block_test_add("/fvd/soft/zeros of the base take no space", test_zeros_take_no_space);
    block_test_add("/fvd/soft/a write into a part of a kept block records all of its chunks",
                   test_block_of_many_chunks);
    block_test_add("/fvd/soft/what was kept and discarded harms nobody", test_discarded_unrecorded);
    block_test_add("/fvd/soft/a clean end records what was kept", test_clean_end_keeps);
    block_test_add("/fvd/soft/a resize records what was kept", test_resize);
    block_test_add("/fvd/soft/a power cut loses what was kept and nothing else", test_power_cuts);
    block_test_add("/fvd/soft/a few bytes into a kept block make all of it stay",
                   test_write_into_what_was_read);
    block_test_add("/fvd/soft/the base is forgotten when, and only when, all of it is in the image",
                   test_finish);
}

int main(int argc, char **argv)
{
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
