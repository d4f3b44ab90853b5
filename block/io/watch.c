/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who watches the requests of a node from beside their way: the read guard, which may hold a read, the
 * write tap, which sees what is written, and latency observers, which are told how long each took.
 *
 *   read    |-- in flight --|-- begin() --|------ driver ------|-- end() --|
 *   write   |-- in flight --|-- track, notify --|-- before() --|-- driver --|-- after() --|
 *   status  |-- in flight --|-- begin() --|-- this node, its file, its backing file ... --|-- end() --|
 *
 * WA1  A node is counted in flight as long as somebody is with its guard: who has quiesced it knows that
 *      nobody is, and may set or remove it.
 * WA2  One walk begins at most once for one range of one node.  A guard may well let two readers of a range in
 *      one after the other only; a walk that came by a filter and then by its child would wait for itself.
 * WA3  A request that is timed is in flight from before its first look at the clock until the observers were
 *      told, so they are not taken off under it by who has quiesced the node.
 * WA4  What began with a tap ends with that tap, unless its owner has let go of it: what before() has taken
 *      (a mirror's chunk) is given back in after().
 */
#include "aio/timer.h"
#include "block/io/internal.h"
#include "util/osdep.h"

/* One node's guard in a walk. */
typedef struct ReadHold {
    BlockDriverState *bs;
    int64_t offset, bytes;
    BdrvReadToken *token; /* NULL: the guard had nothing to hold */
} ReadHold;

void bdrv_set_read_guard(BlockDriverState *bs, BdrvReadGuard *guard)
{
    if (guard) {
        assert(!bs->read_guard);
        assert(bdrv_is_writable(bs));
    }
    bs->read_guard = guard;
}

int coroutine_fn read_guard_begin(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  BdrvReadToken **ret_token)
{
    *ret_token = NULL;
    if (bs->read_guard) {
        assert(bs->aio_context == qemu_get_current_aio_context());
        *ret_token = bs->read_guard->begin(bs->read_guard, offset, bytes);
    }
    return *ret_token ? (*ret_token)->error : 0;
}

void read_guard_end(BdrvReadToken *token)
{
    if (token) {
        token->end(token);
    }
}

/* WA2 */
static bool holds_range(const ReadHolds *holds, const BlockDriverState *bs, int64_t offset,
                        int64_t bytes)
{
    for (GSList *l = holds->list; l; l = l->next) {
        const ReadHold *hold = l->data;

        if (hold->bs == bs && offset >= hold->offset &&
            offset + bytes <= hold->offset + hold->bytes) {
            return true;
        }
    }
    return false;
}

int coroutine_fn read_holds_add(ReadHolds *holds, BlockDriverState *bs, int64_t offset,
                                int64_t bytes)
{
    ReadHold *hold;
    int ret;

    if (!bs->read_guard || holds_range(holds, bs, offset, bytes)) {
        return 0;
    }
    hold = g_new(ReadHold, 1);
    *hold = (ReadHold){.bs = bs, .offset = offset, .bytes = bytes};
    bdrv_inc_in_flight(bs); /* WA1 */
    ret = read_guard_begin(bs, offset, bytes, &hold->token);
    holds->list = g_slist_prepend(holds->list, hold);
    return ret;
}

void read_holds_end(ReadHolds *holds)
{
    while (holds->list) {
        ReadHold *hold = holds->list->data;

        read_guard_end(hold->token);
        bdrv_dec_in_flight(hold->bs);
        g_free(hold);
        holds->list = g_slist_delete_link(holds->list, holds->list);
    }
}

void bdrv_set_write_tap(BlockDriverState *bs, BdrvWriteTap *tap)
{
    assert(!tap || !bs->write_tap);
    bs->write_tap = tap;
}

/* WA4 */
void coroutine_fn write_tap_begin(BlockDriverState *bs, BdrvTapWrite *w)
{
    w->tap = bs->write_tap;
    if (w->tap) {
        w->state = 0;
        w->tap->before(w->tap, w);
    }
}

int coroutine_fn write_tap_end(BdrvTapWrite *w, int ret)
{
    return w->tap ? w->tap->after(w->tap, w, ret) : ret;
}

void bdrv_add_latency_observer(BlockDriverState *bs, BdrvLatencyObserver *obs)
{
    QLIST_INSERT_HEAD(&bs->latency_observers, obs, list);
}

void bdrv_remove_latency_observer(BdrvLatencyObserver *obs)
{
    QLIST_REMOVE(obs, list);
}

/* The request is not timed. */
#define NOT_TIMED INT64_MIN

int64_t latency_begin(const BlockDriverState *bs, BdrvRequestFlags flags)
{
    if (bs->read_only || (flags & BDRV_REQ_NO_SERIALISING) || QLIST_EMPTY(&bs->latency_observers)) {
        return NOT_TIMED;
    }
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* WA3 */
void latency_end(BlockDriverState *bs, BdrvTrackedRequestType type, int64_t bytes, int64_t begun)
{
    BdrvLatencyObserver *obs;
    int64_t ns;

    if (begun == NOT_TIMED || QLIST_EMPTY(&bs->latency_observers)) {
        return;
    }
    ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - begun;
    QLIST_FOREACH (obs, &bs->latency_observers, list) {
        obs->done(obs, type, bytes, ns);
    }
}
