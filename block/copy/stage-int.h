/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stage from inside: what stage.c, room.c and spill.c share. */
#ifndef BLOCK_COPY_STAGE_INT_H
#define BLOCK_COPY_STAGE_INT_H

#include "block/copy/stage.h"
#include "coro/lock.h"
#include "coro/sleep.h"
#include "util/hbitmap.h"
#include "util/queue.h"

/* Units of one request to source or scratch: a long one would hold its write for the sake of others. */
#define STAGE_IO_UNITS 64

/*
 * The table of units is in so many parts: one that grows, or is emptied, does so in one go, in front of guests.
 * With 60 GiB staged in 4 KiB that is 2 ms, not half a second.
 */
#define STAGE_SHARDS 256

/* One unit's place in memory. */
typedef struct StageSlot {
    int64_t unit;
    bool spilling; /* its bytes are being written to the scratch: not to be reused yet */
    bool gone;     /* left the stage while spilling */
    QTAILQ_ENTRY(StageSlot) order;
} StageSlot;

typedef QTAILQ_HEAD(StageSlotList, StageSlot) StageSlotList;

/* Who waits for room, in turn (G5). */
typedef struct RoomWaiter {
    QemuCoSleep sleep;
    QSIMPLEQ_ENTRY(RoomWaiter) next;
} RoomWaiter;

/* A run of bytes to be read from the scratch. */
typedef struct StageFar {
    int64_t location; /* unit of the scratch */
    uint8_t *buf;
    size_t bytes;
} StageFar;

struct Stage {
    StageConfig config;
    int64_t unit_bytes;
    int64_t units_per_cluster;

    GHashTable
        *shards[STAGE_SHARDS]; /* number of a unit -> where it is, see place_*(); NULL: empty */
    HBitmap *clusters;         /* those with a unit captured */
    CoQueue changed;

    /* room.c */
    uint8_t *map, *arena;
    size_t map_bytes;
    StageSlot *slots;
    int64_t n_slots, slots_made, slots_used;
    StageSlotList free_slots;
    QSIMPLEQ_HEAD(, RoomWaiter) waiters;

    int64_t staged_units; /* captured, and not taken yet */

    /* spill.c */
    StageSlotList order;    /* captured and in memory, oldest first, those being spilled not */
    int64_t ripe;           /* of these */
    int64_t segments_max;   /* the scratch's limit */
    GArray *live;           /* uint32_t for each segment: units in use, or about to be */
    GArray *free_segments;  /* int64_t: those that were emptied */
    GArray *empty_segments; /* int64_t: those of which holes are still to be made */
    bool making_holes;
    int64_t segments_in_use;
    int64_t open_segment, open_used; /* what is being filled; -1: none */
    unsigned tasks, spills;          /* coroutines of the stage's own; of these, writing */
    CoQueue task_ended;
    int scratch_error;

    /* Atomic, for stage_stats(). */
    int64_t captured_bytes;
    unsigned n_waiting;
};

static inline int64_t stage_segment_units(const Stage *stage)
{
    return STAGE_SEGMENT_BYTES / stage->unit_bytes;
}

static inline bool stage_is_over(const Stage *stage)
{
    return stage->config.ops->is_over(stage->config.opaque);
}

/* G3: the owner has the old data of the unit. */
static inline bool stage_is_safe(const Stage *stage, int64_t unit)
{
    return stage->config.ops->is_safe(stage->config.opaque, unit / stage->units_per_cluster);
}

/* room.c */
void stage_room_init(Stage *stage);
void stage_room_free(Stage *stage);
uint8_t *stage_slot_buf(const Stage *stage, const StageSlot *slot);
/* Without waiting: NULL when there is none. */
StageSlot *stage_slot_try_get(Stage *stage);
/*
 * For @unit.  Waits in turn.  NULL with *ret_error: -ETIMEDOUT, -ENOSPC; 0, the unit needs none any more: it is
 * safe, or the owner is over.  *deadline_ns is the write's, 0 before it first waits.
 */
StageSlot *coroutine_fn stage_co_slot_get(Stage *stage, int64_t unit, int64_t *deadline_ns,
                                          int *ret_error);
void stage_slot_put(Stage *stage, StageSlot *slot);
void stage_room_wake_all(Stage *stage);
/* The memory goes back to the system where no slot is in use; it comes again when it is touched. */
void stage_room_give_back(Stage *stage);

/* spill.c */
void stage_spill_init(Stage *stage);
void stage_spill_free(Stage *stage);
/* Write the oldest slots to the scratch if memory is getting full. */
void stage_spill_kick(Stage *stage);
/* Will memory come free by what the stage does itself? */
bool stage_spill_helps(const Stage *stage);
void stage_segment_ref(Stage *stage, int64_t location);
void stage_segment_unref(Stage *stage, int64_t location);
/* Read all of @far, and let go of their places. */
int coroutine_fn stage_co_read_far(Stage *stage, GArray *far);

/* stage.c: what spilling moves. */
StageSlot *stage_find_slot(const Stage *stage, int64_t unit);
void stage_move_to_scratch(Stage *stage, StageSlot *slot, int64_t location);

#endif
