/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Turns of a disk's readers, without a disk: one rests at a time, whoever is woken when. */
#include <errno.h>
#include "aio/timer.h"
#include "block/access/access-int.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define PIECE (4 * KiB)

typedef struct Reader {
    AccessTurns *turns;
    bool over, began, ended;
} Reader;

static void coroutine_fn read_once(void *opaque)
{
    Reader *r = opaque;
    int64_t began_ns = access_turns_co_begin(r->turns, PIECE, &r->over);

    r->began = began_ns >= 0;
    if (r->began) {
        access_turns_end(r->turns, PIECE, began_ns);
    }
    r->ended = true;
}

/* A turn that took a while, beside a guest: the next one has a rest before it. */
static void coroutine_fn make_busy(AccessTurns *turns)
{
    bool over = false;
    int64_t began_ns;

    access_turns_wrote(turns, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    began_ns = access_turns_co_begin(turns, PIECE, &over);
    qemu_co_sleep_ns(100 * SCALE_US);
    access_turns_end(turns, PIECE, began_ns);
    access_turns_wrote(turns, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
}

static void coroutine_fn one_rests_at_a_time(void)
{
    BlockDriverState *source = test_ram_new("source", 1 * MiB);
    AccessTurns *turns = access_turns_get(source);
    Reader first = {.turns = turns}, second = {.turns = turns};

    make_busy(turns);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(read_once, &first));
    block_test_co_settle();
    g_assert_false(first.began);
    access_turns_wake(turns); /* some view is over: the first one is woken, and has not run yet */
    read_once(&second);
    while (!first.ended || !second.ended) {
        qemu_co_sleep_ns(1 * SCALE_MS);
    }
    g_assert_true(first.began && second.began);
    access_turns_put(turns);
    bdrv_co_unref(source);
}

static void coroutine_fn who_is_over_goes_at_once(void)
{
    BlockDriverState *source = test_ram_new("source", 1 * MiB);
    AccessTurns *turns = access_turns_get(source);
    Reader first = {.turns = turns}, second = {.turns = turns};

    make_busy(turns);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(read_once, &first));
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(read_once, &second));
    block_test_co_settle();
    first.over = second.over = true;
    access_turns_wake(turns);
    block_test_co_settle();
    g_assert_true(first.ended && second.ended);
    g_assert_false(first.began || second.began);
    access_turns_put(turns);
    bdrv_co_unref(source);
}

static void add_tests(void)
{
    block_test_add("/access/turns/one reader rests at a time", one_rests_at_a_time);
    block_test_add("/access/turns/readers of a view that is over go at once",
                   who_is_over_goes_at_once);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
