/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turns: readers of a disk's views give way to the disk's own users.
 *
 * Readers come to fetch all of a disk, with deep queues, and a request of a user would stand behind theirs: for the
 * disk, for the thread that serves both, for a processor.
 *
 *      a guest   w  w  w  w  w  w  w  w  w  w  w  w  w  w  w                      (quiet)
 *      readers   [a]          rest         [b]          rest         [a]        [a][b][b][a]
 *
 * T1  A disk has one queue of turns, however many accesses it is in and whoever reads their views: who comes first is
 *     first, and a second reader takes from the first one, not from the guest.
 * T2  While the guest writes, a turn is TURN_BUSY_BYTES, and there is one at a time.
 * T3  After it there is a rest of TURN_REST times what it took: of a guest that always has a request under way the
 *     readers are in the way for so small a part of the time.  A disk that is slow itself would make that long: after
 *     TURN_REST_MAX_NS the next turn comes, so that readers get on by 3 MiB a second, less what the turns take.
 * T4  A rest is over when the guest is quiet.  That is looked at once: each look is a timer, which costs guests more
 *     than the rest would gain for readers.  Quiet is relative: where a read takes long, writes do, too.
 * T5  A view that is over lets its readers go at once.
 */
#include <errno.h>
#include "block/access/access-int.h"
#include "coro/sleep.h"
#include "util/osdep.h"

/* Under way, while nobody writes: what one connection's requests come to, which keeps a disk busy. */
#define TURN_BYTES      (1 * MiB)
/* A whole number of units.  Smaller ones take hardly less time (a disk's, and the way to it), and there are more. */
#define TURN_BUSY_BYTES (64 * KiB)

/* A guest that writes now and then comes back in this time. */
#define TURN_BUSY_NS  (20 * SCALE_MS)
/* A guest that waits for each of its writes comes back sooner than this, or than so many times a turn. */
#define TURN_QUIET_NS (1 * SCALE_MS)
#define TURN_QUIET    4

/*
 * Measured with a guest that writes 4 KiB, one at a time, and two accesses with a reader each: up to 32 the slowest
 * thousandth of the guest's requests gets faster (by a third from 8 to 32), beyond hardly.  Longer turns with longer
 * rests between them bring readers more, and cost that thousandth more.
 */
#define TURN_REST        32
#define TURN_REST_MAX_NS (20 * SCALE_MS)

/* A reader, on its own stack. */
typedef struct TurnWaiter {
    QemuCoSleep sleep;
    QSIMPLEQ_ENTRY(TurnWaiter) next;
} TurnWaiter;

struct AccessTurns {
    /* Main thread. */
    BlockDriverState *source; /* the disks' reference holds it */
    unsigned users;           /* disks of accesses */
    QTAILQ_ENTRY(AccessTurns) next;

    /* Home of the source. */
    int64_t last_write_ns;
    int64_t reading; /* bytes that readers have under way */
    int64_t took_ns; /* the last turn */
    int64_t rest_until_ns;
    bool somebody_rests;               /* also when he was woken and has not run yet */
    QemuCoSleep resting;               /* his sleep */
    QSIMPLEQ_HEAD(, TurnWaiter) queue; /* until fewer bytes are under way */
};

static QTAILQ_HEAD(, AccessTurns) all_turns = QTAILQ_HEAD_INITIALIZER(all_turns);

AccessTurns *access_turns_get(BlockDriverState *source)
{
    AccessTurns *turns;

    QTAILQ_FOREACH (turns, &all_turns, next) {
        if (turns->source == source) {
            turns->users++;
            return turns;
        }
    }
    turns = g_new0(AccessTurns, 1);
    turns->source = source;
    turns->users = 1;
    turns->last_write_ns = INT64_MIN / 2;
    QSIMPLEQ_INIT(&turns->queue);
    QTAILQ_INSERT_TAIL(&all_turns, turns, next);
    return turns;
}

void access_turns_put(AccessTurns *turns)
{
    if (turns && --turns->users == 0) {
        assert(turns->reading == 0 && QSIMPLEQ_EMPTY(&turns->queue));
        QTAILQ_REMOVE(&all_turns, turns, next);
        g_free(turns);
    }
}

void access_turns_wrote(AccessTurns *turns, int64_t now_ns)
{
    turns->last_write_ns = now_ns;
}

/* T4 */
static int64_t quiet_ns(const AccessTurns *turns)
{
    return MAX(TURN_QUIET_NS, TURN_QUIET * turns->took_ns);
}

static bool is_busy(const AccessTurns *turns)
{
    int64_t since_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - turns->last_write_ns;

    return since_ns < MAX(TURN_BUSY_NS, quiet_ns(turns));
}

int64_t access_turns_piece(const AccessTurns *turns, int64_t bytes)
{
    return is_busy(turns) ? MIN(bytes, TURN_BUSY_BYTES) : bytes;
}

/* One alone may have any size.  Nobody comes while one rests, so that one rests at a time. */
static bool has_room(const AccessTurns *turns, int64_t bytes)
{
    int64_t most = is_busy(turns) ? TURN_BUSY_BYTES : TURN_BYTES;

    return turns->reading == 0 || (!turns->somebody_rests && turns->reading + bytes <= most);
}

/* T3, T4.  Returns when it is over. */
static int64_t coroutine_fn rest(AccessTurns *turns, const bool *over)
{
    int64_t written_ns = turns->last_write_ns, quiet_at_ns = written_ns + quiet_ns(turns);

    assert(!turns->somebody_rests);
    turns->somebody_rests = true;
    for (;;) {
        int64_t now_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME), end_ns = turns->rest_until_ns;

        if (turns->last_write_ns == written_ns) {
            end_ns = MIN(end_ns, quiet_at_ns);
        }
        if (now_ns >= end_ns || *over) {
            turns->somebody_rests = false;
            return now_ns;
        }
        if (now_ns < quiet_at_ns) {
            end_ns = MIN(end_ns, quiet_at_ns);
        }
        qemu_co_sleep_ns_wakeable(&turns->resting, end_ns - now_ns);
    }
}

static void wake_first(AccessTurns *turns)
{
    TurnWaiter *first = QSIMPLEQ_FIRST(&turns->queue);

    if (first) {
        qemu_co_sleep_wake(&first->sleep);
    }
}

/* T1: a large one at the head of the queue is not overtaken by small ones, or it would wait for ever. */
static void coroutine_fn wait_in_queue(AccessTurns *turns, int64_t bytes, const bool *over)
{
    TurnWaiter self = {0};

    QSIMPLEQ_INSERT_TAIL(&turns->queue, &self, next);
    while (!*over && (QSIMPLEQ_FIRST(&turns->queue) != &self || !has_room(turns, bytes))) {
        qemu_co_sleep_ns_wakeable(&self.sleep, -1);
    }
    QSIMPLEQ_REMOVE(&turns->queue, &self, TurnWaiter, next);
}

int64_t coroutine_fn access_turns_co_begin(AccessTurns *turns, int64_t bytes, const bool *over)
{
    int64_t began_ns;

    wait_in_queue(turns, bytes, over);
    if (*over) { /* T5 */
        wake_first(turns);
        return -ECANCELED;
    }
    turns->reading += bytes;
    began_ns = rest(turns, over);
    if (*over) {
        turns->reading -= bytes;
        began_ns = -ECANCELED;
    }
    wake_first(turns); /* another may have room beside this one */
    return began_ns;
}

void access_turns_end(AccessTurns *turns, int64_t bytes, int64_t began_ns)
{
    int64_t now_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    turns->took_ns = now_ns - began_ns;
    turns->rest_until_ns = now_ns + MIN(TURN_REST * turns->took_ns, TURN_REST_MAX_NS);
    turns->reading -= bytes;
    wake_first(turns);
}

void access_turns_wake(AccessTurns *turns)
{
    TurnWaiter *waiter;

    qemu_co_sleep_wake(&turns->resting);
    QSIMPLEQ_FOREACH (waiter, &turns->queue, next) {
        qemu_co_sleep_wake(&waiter->sleep);
    }
}
