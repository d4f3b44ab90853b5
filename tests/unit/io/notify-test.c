/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Before-write notifiers: discards that are dropped, zeroes and discards in pieces (IO5 of block/io/write.c). */
#include <errno.h>
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES (64 * MiB)
#define RW         (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* A disk, and one who is told of its writes and has a say. */
typedef struct Watched {
    BlockDriverState *bs;
    BdrvChild *user;
    NotifierWithReturn notifier;
    BdrvWriteObserver observer;
    GString *told, *seen; /* "offset+bytes" in KiB, before and after */
    unsigned count;
    unsigned at; /* the notification, from 1, that has a result; 0: all */
    int ret;
    bool yield;
    Coroutine *yielded;
} Watched;

static void note(GString *s, int64_t offset, int64_t bytes)
{
    g_string_append_printf(s, "%s%d+%d", s->len ? " " : "", (int)(offset / KiB),
                           (int)(bytes / KiB));
}

static int coroutine_fn before_write(NotifierWithReturn *notifier, void *opaque)
{
    Watched *w = container_of(notifier, Watched, notifier);
    BdrvTrackedRequest *req = opaque;

    note(w->told, req->offset, req->bytes);
    w->count++;
    if (w->yield) {
        w->yielded = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    return w->at == 0 || w->at == w->count ? w->ret : 0;
}

static void written(BdrvWriteObserver *obs, int64_t offset, int64_t bytes)
{
    note(container_of(obs, Watched, observer)->seen, offset, bytes);
}

static Watched *watched_new(void)
{
    Watched *w = g_new0(Watched, 1);

    w->bs = test_ram_new("disk", DISK_BYTES);
    test_ram_set_alignment(w->bs, 512);
    w->user = block_test_user(w->bs, RW);
    w->told = g_string_new(NULL);
    w->seen = g_string_new(NULL);
    w->notifier.notify = before_write;
    w->observer.written = written;
    bdrv_add_before_write_notifier(w->bs, &w->notifier);
    bdrv_add_write_observer(w->bs, &w->observer);
    return w;
}

static void coroutine_fn watched_free(Watched *w)
{
    g_assert_cmpuint(w->bs->in_flight, ==, 0);
    g_assert_true(QLIST_EMPTY(&w->bs->tracked_requests));
    notifier_with_return_remove(&w->notifier);
    bdrv_remove_write_observer(&w->observer);
    block_test_co_user_free(w->user);
    bdrv_co_unref(w->bs);
    g_string_free(w->told, TRUE);
    g_string_free(w->seen, TRUE);
    g_free(w);
}

static void coroutine_fn dropped_discard_succeeds_and_does_nothing(void)
{
    Watched *w = watched_new();

    block_test_co_fill(w->user, 0, 64 * KiB, 7);
    g_string_truncate(w->told, 0);
    g_string_truncate(w->seen, 0);
    w->ret = BDRV_NOTIFY_DROP;
    g_assert_cmpint(bdrv_co_pdiscard(w->user, 0, 64 * KiB), ==, 0);
    g_assert_cmpstr(w->told->str, ==, "0+64");
    g_assert_cmpstr(w->seen->str, ==, "");
    g_assert_cmpuint(test_ram_counts(w->bs)->discards, ==, 0);
    block_test_co_expect(w->user, 0, 64 * KiB, 7);
    w->ret = 0;
    g_assert_cmpint(bdrv_co_pdiscard(w->user, 0, 64 * KiB), ==, 0);
    g_assert_cmpstr(w->seen->str, ==, "0+64");
    block_test_co_expect(w->user, 0, 64 * KiB, 0);
    watched_free(w);
}

static void coroutine_fn write_that_is_dropped_is_a_bug(void)
{
    if (g_test_subprocess()) {
        Watched *w = watched_new();

        w->ret = BDRV_NOTIFY_DROP;
        block_test_co_fill(w->user, 0, 4096, 7);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*BDRV_NOTIFY_DROP*");
}

static void coroutine_fn zeroes_go_in_pieces_cut_at_multiples(void)
{
    Watched *w = watched_new();

    g_assert_cmpint(bdrv_co_pwrite_zeroes(w->user, 512 * KiB, 3 * MiB, 0), ==, 0);
    g_assert_cmpstr(w->told->str, ==, "512+512 1024+1024 2048+1024 3072+512");
    g_assert_cmpstr(w->seen->str, ==, w->told->str);
    g_assert_cmpuint(test_ram_counts(w->bs)->zeroes, ==, 4);
    watched_free(w);
}

static void coroutine_fn discard_goes_in_pieces_and_one_may_be_dropped(void)
{
    Watched *w = watched_new();

    block_test_co_fill(w->user, 0, 32 * MiB, 7);
    g_string_truncate(w->told, 0);
    g_string_truncate(w->seen, 0);
    w->count = 0;
    w->at = 2;
    w->ret = BDRV_NOTIFY_DROP;
    w->bs->bl.pdiscard_alignment = 64 * KiB;
    g_assert_cmpint(bdrv_co_pdiscard(w->user, 4 * MiB + 4096, 20 * MiB), ==, 0);
    g_assert_cmpstr(w->told->str, ==, "4100+4092 8192+8192 16384+8192 24576+4");
    g_assert_cmpstr(w->seen->str, ==, "4100+4092 16384+8192 24576+4");
    g_assert_cmpuint(test_ram_counts(w->bs)->discards, ==, 2); /* the last is no whole block */
    block_test_co_expect(w->user, 0, 4 * MiB + 64 * KiB, 7);
    block_test_co_expect(w->user, 4 * MiB + 64 * KiB, 4 * MiB - 64 * KiB, 0);
    block_test_co_expect(w->user, 8 * MiB, 8 * MiB, 7);
    block_test_co_expect(w->user, 16 * MiB, 8 * MiB, 0);
    block_test_co_expect(w->user, 24 * MiB, 8 * MiB, 7);
    watched_free(w);
}

static void coroutine_fn drivers_block_is_not_cut(void)
{
    Watched *w = watched_new();

    w->bs->bl.pwrite_zeroes_alignment = 2 * MiB;
    w->bs->bl.pdiscard_alignment = 12 * MiB;
    g_assert_cmpint(bdrv_co_pwrite_zeroes(w->user, 1 * MiB, 6 * MiB, 0), ==, 0);
    g_assert_cmpstr(w->told->str, ==, "1024+1024 2048+2048 4096+2048 6144+1024");
    g_string_truncate(w->told, 0);
    g_assert_cmpint(bdrv_co_pdiscard(w->user, 0, 30 * MiB), ==, 0);
    g_assert_cmpstr(w->told->str, ==, "0+12288 12288+12288 24576+6144");
    g_string_truncate(w->told, 0);
    w->bs->bl.pwrite_zeroes_alignment = 384 * KiB; /* 1 MiB is no multiple of it */
    g_assert_cmpint(bdrv_co_pwrite_zeroes(w->user, 0, 1 * MiB, 0), ==, 0);
    g_assert_cmpstr(w->told->str, ==, "0+768 768+256");
    watched_free(w);
}

static void coroutine_fn failed_piece_is_the_end(void)
{
    Watched *w = watched_new();

    w->at = 2;
    w->ret = -ENOSPC;
    g_assert_cmpint(bdrv_co_pwrite_zeroes(w->user, 0, 4 * MiB, 0), ==, -ENOSPC);
    g_assert_cmpstr(w->told->str, ==, "0+1024 1024+1024");
    g_assert_cmpstr(w->seen->str, ==, "0+1024");
    w->count = 0;
    g_assert_cmpint(bdrv_co_pdiscard(w->user, 0, 32 * MiB), ==, -ENOSPC);
    g_assert_cmpstr(w->seen->str, ==, "0+1024 0+8192");
    w->ret = 0;
    test_ram_set_error(w->bs, TEST_RAM_DISCARD, 8 * MiB, 4096, EIO, 1);
    g_assert_cmpint(bdrv_co_pdiscard(w->user, 0, 32 * MiB), ==, -EIO);
    g_assert_cmpstr(w->seen->str, ==, "0+1024 0+8192 0+8192 8192+8192"); /* IO2 */
    watched_free(w);
}

static void coroutine_fn without_notifiers_there_is_one_piece(void)
{
    Watched *w = watched_new();

    notifier_with_return_remove(&w->notifier);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(w->user, 512 * KiB, 30 * MiB, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pdiscard(w->user, 512 * KiB, 30 * MiB), ==, 0);
    g_assert_cmpstr(w->seen->str, ==, "512+30720 512+30720");
    watched_free(w);
}

static void coroutine_fn one_flush_is_enough_for_all_pieces(void)
{
    Watched *w = watched_new();

    w->bs->supported_zero_flags &= ~BDRV_REQ_FUA;
    g_assert_cmpint(bdrv_co_pwrite_zeroes(w->user, 100, 4 * MiB, BDRV_REQ_FUA), ==, 0);
    g_assert_cmpuint(w->count, ==, 6);
    g_assert_cmpuint(test_ram_counts(w->bs)->flushes, ==, 1);
    test_ram_set_error(w->bs, TEST_RAM_FLUSH, 0, 0, EIO, 1);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(w->user, 0, 4 * MiB, BDRV_REQ_FUA), ==, -EIO);
    watched_free(w);
}

/* IO5: the truncate does not overlap the first piece, so it does not wait for it. */
static void coroutine_fn disk_that_shrinks_between_two_pieces_is_not_written_behind_its_end(void)
{
    Watched *w = watched_new();
    BdrvChild *admin = block_test_user(w->bs, RW | BLK_PERM_RESIZE);
    BlockTestRequest *req;

    for (BlockTestOp op = BLOCK_TEST_WRITE_ZEROES; op <= BLOCK_TEST_DISCARD; op++) {
        int64_t first =
            op == BLOCK_TEST_DISCARD ? BDRV_NOTIFIED_DISCARD_BYTES : BDRV_NOTIFIED_ZERO_BYTES;

        w->yield = true;
        w->count = 0;
        req = block_test_co_start(w->user, op, 0, 4 * first, 0);
        g_assert_cmpuint(w->count, ==, 1);
        g_assert_cmpint(bdrv_co_truncate(admin, first, true, PREALLOC_MODE_OFF, 0, &error_abort),
                        ==, 0);
        w->yield = false;
        aio_co_wake(w->yielded);
        g_assert_cmpint(block_test_co_join(req), ==, -EIO);
        g_assert_cmpuint(w->count, ==, 1);
        g_assert_cmpint(w->bs->total_bytes, ==, first);
        g_assert_cmpint(
            bdrv_co_truncate(admin, DISK_BYTES, true, PREALLOC_MODE_OFF, 0, &error_abort), ==, 0);
    }
    block_test_co_user_free(admin);
    watched_free(w);
}

static void add(void)
{
    block_test_add("/io/notify/a dropped discard succeeds and does nothing",
                   dropped_discard_succeeds_and_does_nothing);
    block_test_add("/io/notify/a write that is dropped is a bug", write_that_is_dropped_is_a_bug);
    block_test_add("/io/notify/zeroes go in pieces, cut at multiples",
                   zeroes_go_in_pieces_cut_at_multiples);
    block_test_add("/io/notify/a discard goes in pieces, and one of them may be dropped",
                   discard_goes_in_pieces_and_one_may_be_dropped);
    block_test_add("/io/notify/a block of the driver is not cut", drivers_block_is_not_cut);
    block_test_add("/io/notify/a piece that fails is the end", failed_piece_is_the_end);
    block_test_add("/io/notify/without notifiers there is one piece",
                   without_notifiers_there_is_one_piece);
    block_test_add("/io/notify/one flush is enough for all pieces",
                   one_flush_is_enough_for_all_pieces);
    block_test_add(
        "/io/notify/a disk that shrinks between two pieces is not written behind its end",
        disk_that_shrinks_between_two_pieces_is_not_written_behind_its_end);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
