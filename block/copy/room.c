/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stage's memory: slots of one unit, and who waits for one (rule G5). */
#include <errno.h>
#include <sys/mman.h>
#include "aio/timer.h"
#include "block/copy/stage-int.h"
#include "util/osdep.h"
#include "trace-copy.h"

/* As in pool.c: what is spilled goes in one request of few pieces where the kernel has huge pages. */
#define HUGE_PAGE_BYTES (2 * MiB)

void stage_room_init(Stage *stage)
{
    size_t bytes;

    stage->n_slots = MAX(stage->config.ram_bytes / stage->unit_bytes, 1);
    bytes = stage->n_slots * stage->unit_bytes;
    stage->map_bytes = ROUND_UP(bytes, HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES;
    stage->map = mmap(NULL, stage->map_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stage->map == MAP_FAILED) {
        stage->map = NULL;
    } else {
        stage->arena = QEMU_ALIGN_PTR_UP(stage->map, HUGE_PAGE_BYTES);
        (void)madvise(stage->arena, ROUND_UP(bytes, HUGE_PAGE_BYTES), MADV_HUGEPAGE);
    }
    stage->slots = g_new0(StageSlot, stage->n_slots);
    QTAILQ_INIT(&stage->free_slots);
    QSIMPLEQ_INIT(&stage->waiters);
}

void stage_room_free(Stage *stage)
{
    assert(stage->slots_used == 0 && QSIMPLEQ_EMPTY(&stage->waiters));
    if (stage->map) {
        munmap(stage->map, stage->map_bytes);
    }
    g_free(stage->slots);
}

uint8_t *stage_slot_buf(const Stage *stage, const StageSlot *slot)
{
    return stage->arena + (slot - stage->slots) * stage->unit_bytes;
}

static void count_used(Stage *stage, int64_t delta)
{
    __atomic_store_n(&stage->slots_used, stage->slots_used + delta, __ATOMIC_RELAXED);
}

StageSlot *stage_slot_try_get(Stage *stage)
{
    StageSlot *slot = QTAILQ_FIRST(&stage->free_slots);

    if (slot) {
        QTAILQ_REMOVE(&stage->free_slots, slot, order);
    } else if (stage->arena && stage->slots_made < stage->n_slots) {
        slot = &stage->slots[stage->slots_made++];
    } else {
        return NULL;
    }
    slot->spilling = slot->gone = false;
    count_used(stage, 1);
    return slot;
}

static void wake_first(Stage *stage)
{
    RoomWaiter *waiter = QSIMPLEQ_FIRST(&stage->waiters);

    if (waiter) {
        qemu_co_sleep_wake(&waiter->sleep);
    }
}

void stage_slot_put(Stage *stage, StageSlot *slot)
{
    QTAILQ_INSERT_HEAD(&stage->free_slots, slot, order);
    count_used(stage, -1);
    wake_first(stage);
}

void stage_room_give_back(Stage *stage)
{
    if (stage->arena && stage->slots_used == 0) {
        (void)madvise(stage->arena, stage->n_slots * stage->unit_bytes, MADV_DONTNEED);
    }
}

void stage_room_wake_all(Stage *stage)
{
    RoomWaiter *waiter;

    QSIMPLEQ_FOREACH (waiter, &stage->waiters, next) {
        qemu_co_sleep_wake(&waiter->sleep);
    }
}

/* Somebody may make room: the owner by taking clusters, the stage by spilling. */
static bool ask_for_room(Stage *stage)
{
    stage_spill_kick(stage);
    if (stage->config.ops->changed) {
        stage->config.ops->changed(stage->config.opaque);
        return true;
    }
    return stage_spill_helps(stage);
}

/* Our turn, and one is free?  Return: 0, go on waiting; 1, have it; negative, give up. */
static int try_in_turn(Stage *stage, RoomWaiter *self, int64_t deadline_ns, StageSlot **ret_slot)
{
    if (QSIMPLEQ_FIRST(&stage->waiters) == self) {
        *ret_slot = stage_slot_try_get(stage);
    }
    if (*ret_slot) {
        return 1;
    }
    if (!stage->arena) {
        return -ENOMEM;
    }
    if (!ask_for_room(stage)) {
        return -ENOSPC;
    }
    return deadline_ns && qemu_clock_get_ns(QEMU_CLOCK_REALTIME) >= deadline_ns ? -ETIMEDOUT : 0;
}

StageSlot *coroutine_fn stage_co_slot_get(Stage *stage, int64_t unit, int64_t *deadline_ns,
                                          int *ret_error)
{
    RoomWaiter self = {0};
    StageSlot *slot = QSIMPLEQ_EMPTY(&stage->waiters) ? stage_slot_try_get(stage) : NULL;
    int ret = 0;

    *ret_error = 0;
    if (slot) {
        return slot;
    }
    if (*deadline_ns == 0 && stage->config.wait_ns > 0) {
        *deadline_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + stage->config.wait_ns;
    }
    QSIMPLEQ_INSERT_TAIL(&stage->waiters, &self, next);
    __atomic_fetch_add(&stage->n_waiting, 1, __ATOMIC_RELAXED);
    trace_backup_stage_wait(stage);
    while (!stage_is_over(stage) && !stage_is_safe(stage, unit)) {
        ret = try_in_turn(stage, &self, *deadline_ns, &slot);
        if (ret != 0) {
            break;
        }
        qemu_co_sleep_ns_wakeable(
            &self.sleep,
            *deadline_ns ? MAX(*deadline_ns - qemu_clock_get_ns(QEMU_CLOCK_REALTIME), 1) : -1);
    }
    QSIMPLEQ_REMOVE(&stage->waiters, &self, RoomWaiter, next);
    __atomic_fetch_sub(&stage->n_waiting, 1, __ATOMIC_RELAXED);
    wake_first(stage); /* there may be more */
    *ret_error = MIN(ret, 0);
    return slot;
}
