/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes past the end, and truncate: who sees which length. */
#include <errno.h>
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define RW  (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)
#define RWR (RW | BLK_PERM_RESIZE)

typedef struct Watch {
    BdrvWriteObserver obs;
    int64_t length;   /* as told last */
    int64_t seen_end; /* of all writes */
} Watch;

static void watch_written(BdrvWriteObserver *obs, int64_t offset, int64_t bytes)
{
    Watch *w = container_of(obs, Watch, obs);

    g_assert_cmpint(offset + bytes, <=, w->length); /* told of the length first */
    w->seen_end = MAX(w->seen_end, offset + bytes);
}

static void watch_resized(BdrvWriteObserver *obs, int64_t new_length)
{
    container_of(obs, Watch, obs)->length = new_length;
}

static void coroutine_fn write_past_the_end_needs_resize(void)
{
    BlockDriverState *bs = test_ram_new("disk", 8192);
    BdrvChild *user = block_test_user(bs, RW);
    uint8_t buf[16] = {0};

    g_assert_cmpint(bdrv_co_pwrite(user, 8192, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(user, 8190, 3, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 8190, 3, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pdiscard(user, 8190, 3), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(user, 8190, 2, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 8192);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn padding_does_not_grow_the_image(void)
{
    BlockDriverState *bs = test_ram_new("disk", 1000);
    BdrvChild *user = block_test_user(bs, RWR);

    test_ram_set_alignment(bs, 512);
    block_test_co_fill(user, 10, 10, 1);
    g_assert_cmpint(bdrv_getlength(bs), ==, 1000);
    block_test_co_fill(user, 1000, 100, 2);
    g_assert_cmpint(bdrv_getlength(bs), ==, 1100);
    block_test_co_expect(user, 1000, 100, 2);
    block_test_co_expect(user, 1100, 1000, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn two_that_append_at_once_both_count(void)
{
    BlockDriverState *bs = test_ram_new("disk", 1000);
    BdrvChild *user = block_test_user(bs, RWR);
    BlockTestRequest *a, *b;

    test_ram_set_alignment(bs, 512);
    test_ram_hold(bs, TEST_RAM_WRITE, 512, 512);
    a = block_test_co_start(user, BLOCK_TEST_WRITE, 1000, 50, 1);
    test_ram_co_wait_held(bs, 1);
    b = block_test_co_start(user, BLOCK_TEST_WRITE, 8192, 4096, 2);
    g_assert_cmpint(block_test_co_join(b), ==, 0);
    test_ram_release(bs);
    g_assert_cmpint(block_test_co_join(a), ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 12288);
    block_test_co_expect(user, 8192, 4096, 2);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn observers_learn_of_growth_before_the_write(void)
{
    BlockDriverState *bs = test_ram_new("disk", 4096);
    BdrvChild *user = block_test_user(bs, RWR);
    Watch w = {.obs = {.written = watch_written, .resized = watch_resized}, .length = 4096};

    bdrv_add_write_observer(bs, &w.obs);
    block_test_co_fill(user, 0, 4096, 1);
    g_assert_cmpint(w.length, ==, 4096);
    block_test_co_fill(user, 4096, 4096, 1); /* IO2: marked where it landed */
    g_assert_cmpint(w.length, ==, 8192);
    g_assert_cmpint(w.seen_end, ==, 8192);
    bdrv_remove_write_observer(&w.obs);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn truncate_tells_observers_and_users(void)
{
    BlockDriverState *bs = test_ram_new("disk", 4096);
    BdrvChild *user = block_test_user(bs, RWR);
    Watch w = {.obs = {.written = watch_written, .resized = watch_resized}, .length = 4096};
    Error *err = NULL;

    bdrv_add_write_observer(bs, &w.obs);
    g_assert_cmpint(bdrv_co_truncate(user, 10000, true, PREALLOC_MODE_OFF, 0, &error_abort), ==, 0);
    g_assert_cmpint(w.length, ==, 10000);
    block_test_co_expect(user, 0, 10000, 0);
    g_assert_cmpint(bdrv_co_truncate(user, -1, true, PREALLOC_MODE_OFF, 0, &err), ==, -EINVAL);
    error_free(err);
    err = NULL;
    g_assert_cmpint(bdrv_co_truncate(user, INT64_MAX, true, PREALLOC_MODE_OFF, 0, &err), ==,
                    -EFBIG);
    error_free(err);
    err = NULL;
    test_ram_set_capacity(bs, 10000);
    g_assert_cmpint(bdrv_co_truncate(user, 20000, true, PREALLOC_MODE_OFF, 0, &err), ==, -ENOSPC);
    error_free(err);
    g_assert_cmpint(bdrv_getlength(bs), ==, 10000);
    g_assert_cmpuint(bs->in_flight, ==, 0);
    bdrv_remove_write_observer(&w.obs);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

typedef struct Truncate {
    BdrvChild *user;
    int64_t length;
    int ret;
    bool done;
} Truncate;

static void coroutine_fn truncate_entry(void *opaque)
{
    Truncate *t = opaque;

    t->ret = bdrv_co_truncate(t->user, t->length, true, PREALLOC_MODE_OFF, 0, &error_abort);
    t->done = true;
}

/* A waits for a held write; a shrink and a write behind the new end wait with it. */
static void coroutine_fn write_that_waited_for_a_shrink_does_not_grow(void)
{
    BlockDriverState *bs = test_ram_new("disk", 8192);
    BdrvChild *owner = block_test_user(bs, RWR), *user = block_test_user(bs, RW);
    Truncate t = {.user = owner, .length = 512};
    BlockTestRequest *held, *late;

    test_ram_set_alignment(bs, 512);
    test_ram_hold(bs, TEST_RAM_WRITE, 1024, 512);
    held = block_test_co_start(user, BLOCK_TEST_WRITE, 1100, 10, 1); /* padded: serialising */
    test_ram_co_wait_held(bs, 1);
    qemu_coroutine_enter(qemu_coroutine_create(truncate_entry, &t));
    g_assert_false(t.done);
    late = block_test_co_start(user, BLOCK_TEST_WRITE, 1024, 512, 2); /* T2 */
    g_assert_false(block_test_done(late));
    test_ram_release(bs);
    g_assert_cmpint(block_test_co_join(held), ==, 0);
    g_assert_cmpint(block_test_co_join(late), ==, -EIO);
    g_assert_true(t.done);
    g_assert_cmpint(t.ret, ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 512);
    block_test_co_user_free(user);
    block_test_co_user_free(owner);
    bdrv_co_unref(bs);
}

static void add(void)
{
    block_test_add("/io/grow/a write past the end needs the permission to resize",
                   write_past_the_end_needs_resize);
    block_test_add("/io/grow/padding does not grow the image", padding_does_not_grow_the_image);
    block_test_add("/io/grow/of two that append at once both count",
                   two_that_append_at_once_both_count);
    block_test_add("/io/grow/observers learn of growth before the write that made it",
                   observers_learn_of_growth_before_the_write);
    block_test_add("/io/grow/truncate tells observers, and refuses what cannot be",
                   truncate_tells_observers_and_users);
    block_test_add("/io/grow/a write that waited for a shrink does not undo it",
                   write_that_waited_for_a_shrink_does_not_grow);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
