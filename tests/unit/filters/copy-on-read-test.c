/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/filters/copy-on-read: what is read stays, and nothing that is newer is undone. */
#include <errno.h>
#include "block/filters/filters.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

enum { RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, CLUSTER = 64 * KiB, SIZE = 1 * MiB };

typedef struct Tree {
    BlockDriverState *base, *image, *bs;
    BdrvChild *user;
} Tree;

static Tree coroutine_fn make(void)
{
    Tree t = {.base = test_ram_new("base", SIZE)};

    test_ram_poke_pattern(t.base, 0, SIZE / 2, 7);
    t.image = test_cow_new("image", SIZE, CLUSTER, t.base);
    t.bs = block_test_co_open("{\"driver\":\"copy-on-read\",\"file\":\"image\"}");
    t.user = block_test_user(t.bs, RW);
    return t;
}

static void coroutine_fn unmake(Tree *t)
{
    block_test_co_user_free(t->user);
    bdrv_co_unref(t->bs);
    bdrv_co_unref(t->image);
    bdrv_co_unref(t->base);
}

/* The bytes are as the base has them. */
static void coroutine_fn check_read(Tree *t, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *got = g_malloc((gsize)bytes), *want = g_malloc((gsize)bytes);

    g_assert_cmpint(bdrv_co_pread(t->user, offset, bytes, got, 0), ==, 0);
    test_ram_peek(t->base, offset, want, bytes);
    g_assert_cmpmem(got, bytes, want, bytes);
}

static void coroutine_fn whole_clusters_are_kept_once(void)
{
    Tree t = make();

    check_read(&t, CLUSTER + 10, 20);
    g_assert_cmpint(test_cow_allocated_clusters(t.image), ==, 1);
    g_assert_true(test_cow_is_allocated(t.image, CLUSTER));
    test_ram_reset_counts(t.base);
    check_read(&t, CLUSTER, CLUSTER);
    g_assert_cmpuint(test_ram_counts(t.base)->reads, ==, 0);
    check_read(&t, 2 * CLUSTER - 1, 2);
    check_read(&t, SIZE - 10, 10); /* zeros */
    g_assert_cmpint(test_cow_allocated_clusters(t.image), ==, 3);
    check_read(&t, 0, SIZE);
    g_assert_cmpint(test_cow_allocated_clusters(t.image), ==, SIZE / CLUSTER);
    unmake(&t);
}

typedef struct Writer {
    Tree *t;
    bool done;
} Writer;

static void coroutine_fn write_entry(void *opaque)
{
    Writer *w = opaque;
    uint8_t byte = 0xee;

    g_assert_cmpint(bdrv_co_pwrite(w->t->user, CLUSTER + 5, 1, &byte, 0), ==, 0);
    w->done = true;
}

static void coroutine_fn read_entry(void *opaque)
{
    Writer *r = opaque;
    uint8_t byte;

    g_assert_cmpint(bdrv_co_pread(r->t->user, CLUSTER, 1, &byte, 0), ==, 0);
    r->done = true;
}

/* R1 */
static void coroutine_fn a_write_waits_for_the_copy_that_it_would_be_undone_by(void)
{
    Tree t = make();
    Writer reader = {.t = &t}, writer = {.t = &t};
    uint8_t byte = 0;

    test_ram_hold(t.base, TEST_RAM_READ, 0, SIZE);
    qemu_coroutine_enter(qemu_coroutine_create(read_entry, &reader));
    test_ram_co_wait_held(t.base, 1);
    qemu_coroutine_enter(qemu_coroutine_create(write_entry, &writer));
    qemu_co_sleep_ns(1000);
    g_assert_false(writer.done);
    test_ram_release(t.base);
    while (!writer.done || !reader.done) {
        qemu_co_sleep_ns(1000);
    }
    g_assert_cmpint(bdrv_co_pread(t.user, CLUSTER + 5, 1, &byte, 0), ==, 0);
    g_assert_cmpint(byte, ==, 0xee);
    unmake(&t);
}

static void coroutine_fn old_contents_for_a_job_are_not_kept(void)
{
    Tree t = make();
    uint8_t byte;

    g_assert_cmpint(bdrv_co_pread(t.user, 0, 1, &byte, BDRV_REQ_NO_SERIALISING), ==, 0);
    g_assert_cmpint(test_cow_allocated_clusters(t.image), ==, 0);
    unmake(&t);
}

static void coroutine_fn what_cannot_be_written_is_refused(void)
{
    BlockDriverState *ram = test_ram_new("ram", SIZE);

    block_test_co_open_fails("read-only",
                             "{\"driver\":\"copy-on-read\",\"file\":\"ram\",\"read-only\":true}");
    bdrv_co_unref(ram);
}

static void add(void)
{
#define ADD(sentence, function) block_test_add("/copy-on-read/" sentence, function)
    ADD("whole clusters are kept, once", whole_clusters_are_kept_once);
    ADD("a write waits for the copy that it would be undone by",
        a_write_waits_for_the_copy_that_it_would_be_undone_by);
    ADD("old contents for a job are not kept", old_contents_for_a_job_are_not_kept);
    ADD("what cannot be written is refused", what_cannot_be_written_is_refused);
}

int main(int argc, char **argv)
{
    bdrv_copy_on_read_register();
    return block_test_main(argc, argv, add);
}
