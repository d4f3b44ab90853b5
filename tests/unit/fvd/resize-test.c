/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What others ask of an FVD image, or do to it, while its disk becomes another size. */
#include <errno.h>
#include "block/drivers/drivers.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

static const FvdImageSpec spec = {
    .size = 4 * MiB,
    .chunk_size = 64 * KiB,
    .journal_size = 64 * KiB,
    .incompatible = FVD_INCOMPATIBLE_REMAP,
    .slack = 1024,
};

typedef struct Scene {
    BlockDriverState *file, *bs;
    BdrvChild *user;
    unsigned running;
    Coroutine *waiter;
} Scene;

static void coroutine_fn scene_open(Scene *s)
{
    s->bs = block_test_co_open("{\"driver\": \"fvd\", \"file\": \"file\", \"backing\": null}");
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
}

static void coroutine_fn scene_begin(Scene *s)
{
    s->file = test_ram_new("file", 0);
    fvd_image_co_make(s->file, &spec);
    scene_open(s);
}

static void coroutine_fn scene_close(Scene *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
}

static void coroutine_fn scene_end(Scene *s)
{
    scene_close(s);
    bdrv_co_unref(s->file);
}

static void ended(Scene *s)
{
    if (--s->running == 0 && s->waiter) {
        aio_co_wake(s->waiter);
    }
}

static void coroutine_fn wait_for_all(Scene *s)
{
    s->waiter = qemu_coroutine_self();
    if (s->running) {
        qemu_coroutine_yield();
    }
    s->waiter = NULL;
}

typedef struct Step {
    Scene *s;
    int64_t offset, bytes;
    int ret;
    int64_t pnum;
} Step;

static void coroutine_fn resize_entry(void *opaque)
{
    Step *step = opaque;

    step->ret =
        bdrv_co_truncate(step->s->user, step->offset, true, PREALLOC_MODE_OFF, 0, &error_abort);
    ended(step->s);
}

static void coroutine_fn status_entry(void *opaque)
{
    Step *step = opaque;

    step->ret =
        bdrv_co_block_status(step->s->bs, step->offset, step->bytes, &step->pnum, NULL, NULL);
    ended(step->s);
}

static void start(Step *step, CoroutineEntry *entry)
{
    step->s->running++;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(entry, step));
}

/* The size becomes @size; in its midst, when the table is read again, a range is asked for. */
static void coroutine_fn status_beside(Scene *s, int64_t size, Step *status)
{
    Step resize = {.s = s, .offset = size};

    status->s = s;
    test_ram_hold(s->file, TEST_RAM_READ, 0, INT64_MAX);
    start(&resize, resize_entry);
    test_ram_co_wait_held(s->file, 1);
    start(status, status_entry);
    block_test_co_settle();
    test_ram_release(s->file);
    wait_for_all(s);
    g_assert_cmpint(resize.ret, ==, 0);
}

/* Who copies by what it says would leave out what is there. */
static void coroutine_fn test_status(void)
{
    Step inside = {.offset = 1 * MiB, .bytes = 1 * MiB}, behind = inside;
    Scene s = {0};

    scene_begin(&s);
    block_test_co_fill(s.user, 0, 4 * MiB, 1);
    status_beside(&s, 8 * MiB, &inside);
    g_assert_cmpint(inside.ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO), ==, BDRV_BLOCK_DATA);
    g_assert_cmpint(inside.pnum, ==, 1 * MiB);
    behind.offset = 3 * MiB;
    status_beside(&s, 3 * MiB + 64 * KiB, &behind);
    g_assert_cmpint(behind.ret, >=, 0);
    block_test_co_expect(s.user, 0, 3 * MiB + 64 * KiB, 1);
    scene_end(&s);
}

/* Regions lie in any order: of a disk in one piece the journal may be behind it. */
static void coroutine_fn test_journal_behind(void)
{
    FvdImageSpec flat = {
        .size = 64 * KiB, .no_table = true, .base_size = 64 * KiB, .journal_size = 32 * KiB};
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);
    Scene s = {.file = test_ram_new("file", 2 * MiB)};

    fvd_image_co_make(s.file, &flat);
    fvd_image_co_header(s.file, h);
    h->data_offset = 8 * KiB;
    h->bitmap_offset = 512 * KiB;
    h->journal_offset = 1 * MiB;
    fvd_header_encode(h, buf);
    test_ram_poke(s.file, 0, buf, FVD_HEADER_REGION);
    memset(buf, 0, FVD_HEADER_REGION);
    for (int64_t at = FVD_HEADER_REGION; at < 2 * MiB; at += FVD_HEADER_REGION) {
        test_ram_poke(s.file, at, buf, FVD_HEADER_REGION);
    }
    scene_open(&s);
    block_test_co_fill(s.user, 0, 64 * KiB, 1);
    g_assert_cmpint(bdrv_co_truncate(s.user, 128 * KiB, true, PREALLOC_MODE_OFF, 0, &error_abort),
                    ==, 0);
    g_assert_cmpint(bdrv_getlength(s.file), >=, 1 * MiB + 32 * KiB);
    scene_close(&s);
    scene_open(&s);
    block_test_co_expect(s.user, 0, 64 * KiB, 1);
    block_test_co_expect(s.user, 64 * KiB, 64 * KiB, 0);
    scene_end(&s);
}

/* The disk is as long as it is; only a resize makes it longer. */
static void coroutine_fn test_behind_the_end(void)
{
    uint8_t buf[4096] = {1};
    Scene s = {0};

    scene_begin(&s);
    g_assert_cmpint(bdrv_co_pwrite(s.user, 4 * MiB - 512, sizeof(buf), buf, 0), <, 0);
    g_assert_cmpint(bdrv_co_pwrite(s.user, 5 * MiB, sizeof(buf), buf, 0), <, 0);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(s.user, 5 * MiB, sizeof(buf), 0), <, 0);
    g_assert_cmpint(bdrv_getlength(s.bs), ==, 4 * MiB);
    scene_end(&s);
}

static void add(void)
{
    block_test_add("/fvd/resize/block status in its midst is that of before or after", test_status);
    block_test_add("/fvd/resize/what lies behind a disk in one piece is not cut off",
                   test_journal_behind);
    block_test_add("/fvd/resize/a write behind the end is refused", test_behind_the_end);
}

int main(int argc, char **argv)
{
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
