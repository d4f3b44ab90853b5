/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The promise of an access when its disk lives in an iothread, on the real clock: writers and readers there,
 * and in the main thread somebody who begins, ends, asks and drains.
 *
 * Each story runs with both engines.  Made for ThreadSanitizer as much as for what it asserts.
 */
#include "aio/iothread.h"
#include "block/backend/backend.h"
#include "coro/sleep.h"
#include "tests/unit/access/access-story.h"
#include "util/osdep.h"

#define DISK_BYTES (2 * MiB + 5 * 512)
#define WRITERS    2
#define TAKES      2

typedef struct Story {
    GRand *rand;
    IOThread *thread;
    BlockDriverState *source;
    BlockBackend *blks[WRITERS];
    StoryWriter *writers[WRITERS];
} Story;

typedef struct Take {
    BackupAccess *access;
    BlockDriverState *scratch;
    AccessWindow window;
    AccessReader *reader;
} Take;

static void coroutine_fn tell_begin(Story *s, AioEngine engine, uint32_t seed)
{
    AioContext *home;

    *s = (Story){.rand = g_rand_new_with_seed(seed)};
    s->source = test_ram_new("source", DISK_BYTES);
    test_ram_poke_pattern(s->source, 0, DISK_BYTES, seed);
    test_ram_set_alignment(s->source, g_rand_boolean(s->rand) ? 512 : 4096);
    test_ram_set_delay(s->source, TEST_RAM_ALL_IO, g_rand_int_range(s->rand, 0, 20000));
    s->thread = iothread_create("io", engine, &error_abort);
    home = iothread_get_aio_context(s->thread);
    bdrv_co_try_change_aio_context(s->source, home, &error_abort);
    for (int i = 0; i < WRITERS; i++) {
        s->blks[i] = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
        g_assert_cmpint(blk_insert_bs(s->blks[i], s->source, &error_abort), ==, 0);
    }
    bdrv_co_drained_begin(s->source);
    for (int i = 0; i < WRITERS; i++) {
        int64_t share = QEMU_ALIGN_DOWN(DISK_BYTES / WRITERS, 4096);
        int64_t end = i == WRITERS - 1 ? DISK_BYTES : (i + 1) * share;

        s->writers[i] =
            story_writer_new_in_home(&s->blks[i], 1, i * share, end, i, g_rand_int(s->rand));
    }
    bdrv_co_drained_end(s->source);
    qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 3000000));
}

static void coroutine_fn tell_end(Story *s)
{
    for (int i = 0; i < WRITERS; i++) {
        story_writer_free(s->writers[i]);
    }
    bdrv_co_try_change_aio_context(s->source, qemu_get_aio_context(), &error_abort);
    for (int i = 0; i < WRITERS; i++) {
        blk_co_unref(s->blks[i]);
    }
    g_assert_true(notifier_with_return_list_empty(&s->source->before_write_notifiers));
    g_assert_cmpint(s->source->refcnt, ==, 1);
    bdrv_co_unref(s->source);
    iothread_destroy(s->thread);
    g_rand_free(s->rand);
}

static void coroutine_fn begin(Story *s, Take *t, const char *id, int64_t ram, int64_t scratch)
{
    BackupAccessDiskArgs disk = {.source = s->source, .device = "disk", .export = "e"};
    BackupAccessArgs args = {
        .id = id, .disks = &disk, .n_disks = 1, .ram_bytes = ram, .scratch_bytes = scratch};

    if (scratch) {
        disk.scratch = t->scratch = test_ram_new(NULL, 0);
        test_ram_set_delay(t->scratch, TEST_RAM_ALL_IO, g_rand_int_range(s->rand, 0, 100000));
        bdrv_co_try_change_aio_context(t->scratch, iothread_get_aio_context(s->thread),
                                       &error_abort);
    }
    access_window_before(&t->window, s->writers, WRITERS);
    t->access = backup_access_co_begin(&args, &error_abort);
    access_window_after(&t->window, s->writers, WRITERS);
    t->reader = access_reader_new(backup_access_view(t->access, 0), g_rand_int(s->rand));
}

static void coroutine_fn end(Story *s, Take *t)
{
    backup_access_co_end(t->access, g_rand_boolean(s->rand));
    access_reader_co_free(t->reader);
    if (t->scratch) {
        g_assert_cmpint(t->scratch->refcnt, ==, 1);
        bdrv_co_unref(t->scratch);
    }
}

static void coroutine_fn ask(const Take *t)
{
    BackupAccessDiskStats stats;

    backup_access_disk_stats(t->access, 0, &stats);
    g_assert_cmpint(stats.ram_bytes, <=, stats.ram_limit);
    g_assert_cmpint(stats.scratch_bytes, <=, stats.scratch_limit);
}

static void coroutine_fn disturb(Story *s, const Take *t)
{
    BlockDriverState *quiet[2] = {g_rand_boolean(s->rand) ? s->source
                                                          : backup_access_view(t->access, 0)};
    size_t n = 1;

    if (t->scratch) {
        quiet[g_rand_boolean(s->rand) ? n++ : 0] = t->scratch;
    }
    bdrv_co_drained_begin_list(quiet, n);
    for (int turns = 0; turns < 5; turns++) {
        for (size_t i = 0; i < n; i++) {
            g_assert_cmpuint(__atomic_load_n(&quiet[i]->in_flight, __ATOMIC_SEQ_CST), ==, 0);
        }
        qemu_co_sleep_ns(20000);
    }
    bdrv_co_drained_end_list(quiet, n);
}

/* Two accesses of different instants; the older or the younger ends first. */
static void coroutine_fn instants_story(AioEngine engine, uint32_t seed)
{
    Take takes[TAKES] = {{0}};
    Story s;

    tell_begin(&s, engine, seed);
    begin(&s, &takes[0], "a0", 256 * KiB, 8 * MiB);
    disturb(&s, &takes[0]);
    begin(&s, &takes[1], "a1", 8 * MiB, 0);
    for (int i = 0; i < 6; i++) {
        disturb(&s, &takes[g_rand_int_range(s.rand, 0, TAKES)]);
        ask(&takes[i % TAKES]);
    }
    for (unsigned i = 0; i < TAKES; i++) {
        access_reader_co_join(takes[i].reader);
        g_assert_cmpint(takes[i].reader->error, ==, 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        story_writer_co_stop(s.writers[i]);
    }
    for (unsigned i = 0; i < TAKES; i++) {
        access_window_check(&takes[i].window, s.writers, WRITERS, takes[i].reader->copy);
    }
    end(&s, &takes[seed % 2]);
    end(&s, &takes[1 - seed % 2]);
    tell_end(&s);
}

/* Ended or broken in the middle of everything: the guest's writes all succeed, the reader has an error or not. */
static void coroutine_fn break_story(AioEngine engine, uint32_t seed)
{
    Take t = {0};
    Story s;

    tell_begin(&s, engine, seed);
    begin(&s, &t, "a", 16 * KiB, seed % 2 ? MiB : 0);
    for (int i = g_rand_int_range(s.rand, 0, 10); i > 0; i--) {
        disturb(&s, &t);
        ask(&t);
    }
    end(&s, &t);
    for (int i = 0; i < WRITERS; i++) {
        story_writer_co_stop(s.writers[i]);
    }
    tell_end(&s);
}

static void coroutine_fn tell_many(void coroutine_fn (*story)(AioEngine engine, uint32_t seed))
{
    static const AioEngine engines[] = {AIO_ENGINE_AUTO, AIO_ENGINE_EPOLL};
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(12); i++) {
        g_test_message("seed %u", first + i);
        story(engines[i % 2], first + i);
    }
}

static void coroutine_fn test_views_of_a_disk_in_an_iothread_are_each_one_instant(void)
{
    tell_many(instants_story);
}

static void coroutine_fn test_an_access_ends_or_breaks_in_the_middle_of_everything(void)
{
    tell_many(break_story);
}

static void add_tests(void)
{
    block_test_add("/access/iothread/views of a disk in an iothread are each one instant",
                   test_views_of_a_disk_in_an_iothread_are_each_one_instant);
    block_test_add("/access/iothread/an access ends or breaks in the middle of everything",
                   test_an_access_ends_or_breaks_in_the_middle_of_everything);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
