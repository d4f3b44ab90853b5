/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Spilling (rule G6): the oldest slots go to the scratch, many in one request, one after another in
 * its segments.  A segment that has lost its last unit becomes a hole and is used again.
 *
 *     segment   | u u u u u u u u |   being filled: open
 *               | . u . . u u . . |   in use: three units live
 *               | . . . . . . . . |   empty: a hole is made, then it is free
 *
 * G7  A segment is free only after its hole was made: a write and a hole in one place have no order.
 */
#include <errno.h>
#include "block/copy/stage-int.h"
#include "util/osdep.h"
#include "trace-copy.h"

/* Requests of ours in the scratch at once: one is written while the next is gathered. */
#define SPILLS_MAX 2

/*
 * In one request: 64 KiB.  Longer ones stand in front of guests' requests on the same disk: with 256 KiB one
 * request in a thousand takes half as long again (tests/bench).  When memory is nearly full what counts is room.
 */
#define SPILL_UNITS         16
#define SPILL_UNITS_PRESSED 64
#define SPILL_PRESSED       90

/* Spilling begins when memory is so full: what is hot is often taken before. */
#define SPILL_PERCENT 75

/* 1 PiB: sums of bytes stay far from overflow, and the table of segments within its 32 bits. */
#define SEGMENTS_MAX (INT64_C(1) << 30)

/* Reads of the scratch at once, for one take: they are small, and a disk takes many at a time. */
#define FAR_READERS 8

void stage_spill_init(Stage *stage)
{
    QTAILQ_INIT(&stage->order);
    qemu_co_queue_init(&stage->task_ended);
    stage->live = g_array_new(FALSE, TRUE, sizeof(uint32_t));
    stage->free_segments = g_array_new(FALSE, FALSE, sizeof(int64_t));
    stage->empty_segments = g_array_new(FALSE, FALSE, sizeof(int64_t));
    stage->segments_max = stage->config.scratch
                              ? MIN(stage->config.scratch_bytes / STAGE_SEGMENT_BYTES, SEGMENTS_MAX)
                              : 0;
    stage->open_segment = -1;
}

void stage_spill_free(Stage *stage)
{
    g_array_free(stage->live, TRUE);
    g_array_free(stage->free_segments, TRUE);
    g_array_free(stage->empty_segments, TRUE);
    qemu_co_queue_destroy(&stage->task_ended);
}

static uint32_t *live_of(Stage *stage, int64_t segment)
{
    return &g_array_index(stage->live, uint32_t, segment);
}

static void task_begin(Stage *stage, CoroutineEntry *entry, void *opaque)
{
    stage->tasks++;
    aio_co_schedule(bdrv_get_aio_context(stage->config.source->bs),
                    qemu_coroutine_create(entry, opaque));
}

static void task_end(Stage *stage)
{
    stage->tasks--;
    qemu_co_queue_restart_all(&stage->task_ended);
}

static void coroutine_fn io_begin(Stage *stage)
{
    if (stage->config.ops->io_begin) {
        stage->config.ops->io_begin(stage->config.opaque);
    }
}

static void io_end(Stage *stage)
{
    if (stage->config.ops->io_end) {
        stage->config.ops->io_end(stage->config.opaque);
    }
}

static void segment_is_free(Stage *stage, int64_t segment)
{
    g_array_append_val(stage->free_segments, segment);
    __atomic_store_n(&stage->segments_in_use, stage->segments_in_use - 1, __ATOMIC_RELAXED);
}

/*
 * G7.  One after another: a stage that is dropped may leave a hundred thousand.  A scratch that makes no
 * holes keeps its size, and is used again all the same.
 */
static void coroutine_fn holes_entry(void *opaque)
{
    Stage *stage = opaque;

    while (stage->empty_segments->len > 0) {
        guint last = stage->empty_segments->len - 1;
        int64_t segment = g_array_index(stage->empty_segments, int64_t, last);

        g_array_set_size(stage->empty_segments, last);
        io_begin(stage);
        if (!stage_is_over(stage)) {
            (void)bdrv_co_pdiscard(stage->config.scratch, segment * STAGE_SEGMENT_BYTES,
                                   STAGE_SEGMENT_BYTES);
        }
        io_end(stage);
        segment_is_free(stage, segment);
        if (stage_is_awaited(stage)) {
            stage_spill_kick(stage);
        }
    }
    stage->making_holes = false;
    task_end(stage);
}

void stage_segment_ref(Stage *stage, int64_t location)
{
    ++*live_of(stage, location / stage_segment_units(stage));
}

void stage_segment_unref(Stage *stage, int64_t location)
{
    int64_t segment = location / stage_segment_units(stage);
    uint32_t *live = live_of(stage, segment);

    assert(*live > 0);
    if (--*live == 0 && segment == stage->open_segment) {
        stage->open_used = 0; /* nobody reads or writes there: filled again, without a hole */
    } else if (*live == 0 && stage_is_over(stage)) {
        segment_is_free(stage,
                        segment); /* nobody will write there, nor wait for the end of a task */
    } else if (*live == 0) {
        g_array_append_val(stage->empty_segments, segment);
        if (!stage->making_holes) {
            stage->making_holes = true;
            task_begin(stage, holes_entry, stage);
        }
    }
}

static bool has_segment(const Stage *stage)
{
    return stage->open_segment >= 0 || stage->free_segments->len > 0 ||
           (int64_t)stage->live->len < stage->segments_max;
}

/* Room in the open segment; a new one is opened when there is none. */
static int64_t segment_room(Stage *stage)
{
    if (stage->open_segment < 0) {
        if (stage->free_segments->len > 0) {
            guint last = stage->free_segments->len - 1;

            stage->open_segment = g_array_index(stage->free_segments, int64_t, last);
            g_array_set_size(stage->free_segments, last);
        } else {
            stage->open_segment = stage->live->len;
            g_array_set_size(stage->live, stage->live->len + 1);
        }
        stage->open_used = 0;
        __atomic_store_n(&stage->segments_in_use, stage->segments_in_use + 1, __ATOMIC_RELAXED);
    }
    return stage_segment_units(stage) - stage->open_used;
}

/* @n units in a row of the open segment, each of them live. */
static int64_t segment_alloc(Stage *stage, int64_t n)
{
    int64_t units = stage_segment_units(stage);
    int64_t location = stage->open_segment * units + stage->open_used;

    *live_of(stage, stage->open_segment) += n;
    stage->open_used += n;
    if (stage->open_used == units) {
        stage->open_segment = -1;
    }
    return location;
}

typedef struct Spill {
    Stage *stage;
    int64_t location, n;
    StageSlot **slots;
    struct iovec *iov;
} Spill;

static int64_t batch_units(const Stage *stage)
{
    bool pressed = stage_is_awaited(stage) || stage_ram_percent(stage) >= SPILL_PRESSED;
    int64_t units = pressed ? SPILL_UNITS_PRESSED : SPILL_UNITS;

    return MIN(MIN(units, stage_segment_units(stage)), MAX(stage->n_slots / 4, 1));
}

/* What the owner takes before memory is full again, as far as that can be told. */
typedef struct Soon {
    int64_t start, end; /* clusters */
    int64_t passes;     /* that may still be passed over: what is soon may be all there is */
} Soon;

/* Half of memory's worth, if what is staged lies about evenly. */
static Soon what_is_soon(const Stage *stage)
{
    int64_t start =
        stage->config.ops->cursor ? stage->config.ops->cursor(stage->config.opaque) : -1;
    int64_t rest = DIV_ROUND_UP(stage->config.length, stage->config.cluster_bytes) - start;
    double part = (double)(stage->n_slots / 2) / (double)MAX(stage->staged_units, 1);

    if (start < 0) {
        return (Soon){0};
    }
    return (Soon){start, start + (int64_t)((double)rest * MIN(part, 1.0)),
                  MIN(stage->ripe, 4 * SPILL_UNITS_PRESSED)};
}

/* G6 */
static StageSlot *next_to_spill(Stage *stage, Soon *soon)
{
    StageSlot *slot;

    for (;;) {
        int64_t cluster;

        slot = QTAILQ_FIRST(&stage->order);
        cluster = slot->unit / stage->units_per_cluster;
        if (soon->passes <= 0 || cluster < soon->start || cluster >= soon->end) {
            break;
        }
        soon->passes--;
        QTAILQ_REMOVE(&stage->order, slot, order);
        QTAILQ_INSERT_TAIL(&stage->order, slot, order);
    }
    return slot;
}

static Spill *spill_new(Stage *stage)
{
    Spill *spill = g_new0(Spill, 1);
    int64_t room = segment_room(stage);
    Soon soon = what_is_soon(stage);

    spill->stage = stage;
    spill->n = MIN(MIN(batch_units(stage), room), stage->ripe);
    spill->slots = g_new(StageSlot *, spill->n);
    spill->iov = g_new(struct iovec, spill->n);
    for (int64_t i = 0; i < spill->n; i++) {
        StageSlot *slot = next_to_spill(stage, &soon);

        QTAILQ_REMOVE(&stage->order, slot, order);
        stage->ripe--;
        slot->spilling = true;
        spill->slots[i] = slot;
        spill->iov[i] =
            (struct iovec){.iov_base = stage_slot_buf(stage, slot), .iov_len = stage->unit_bytes};
    }
    spill->location = segment_alloc(stage, spill->n);
    return spill;
}

/* G4, G6: those still staged are in the scratch now; or, if it failed, in memory as before. */
static void spill_settle(Spill *spill, int ret)
{
    Stage *stage = spill->stage;

    for (int64_t i = spill->n - 1; i >= 0; i--) {
        StageSlot *slot = spill->slots[i];

        slot->spilling = false;
        if (!slot->gone && ret < 0) {
            QTAILQ_INSERT_HEAD(&stage->order, slot, order);
            stage->ripe++;
            stage_segment_unref(stage, spill->location + i);
            continue;
        }
        if (slot->gone) {
            stage_segment_unref(stage, spill->location + i);
        } else {
            stage_move_to_scratch(stage, slot, spill->location + i);
        }
        stage_slot_put(stage, slot);
    }
}

static void coroutine_fn spill_entry(void *opaque)
{
    Spill *spill = opaque;
    Stage *stage = spill->stage;
    QEMUIOVector qiov;
    int ret = -ECANCELED;

    io_begin(stage);
    if (!stage_is_over(stage)) {
        qemu_iovec_init_external(&qiov, spill->iov, spill->n);
        trace_backup_stage_spill(stage, spill->location * stage->unit_bytes, spill->n);
        ret = bdrv_co_pwritev(stage->config.scratch, spill->location * stage->unit_bytes,
                              spill->n * stage->unit_bytes, &qiov, 0);
    }
    io_end(stage);
    stage->spills--;
    if (ret < 0 && !stage_is_over(stage) && stage->scratch_error == 0) {
        trace_backup_stage_scratch_failed(stage, ret);
        __atomic_store_n(&stage->scratch_error, ret, __ATOMIC_RELAXED); /* G6 */
    }
    spill_settle(spill, ret);
    g_free(spill->slots);
    g_free(spill->iov);
    g_free(spill);
    if (stage_is_awaited(stage)) {
        stage_room_wake_all(stage); /* room, or none any more */
    }
    stage_spill_kick(stage);
    task_end(stage);
}

static bool scratch_takes(const Stage *stage)
{
    return stage->scratch_error == 0 && has_segment(stage) && !stage_is_over(stage);
}

static bool can_spill(const Stage *stage)
{
    return stage->ripe > 0 && scratch_takes(stage);
}

void stage_spill_kick(Stage *stage)
{
    int64_t segments = stage->segments_in_use;

    while (stage->spills < SPILLS_MAX && can_spill(stage) &&
           ((stage_ram_percent(stage) >= SPILL_PERCENT && stage->ripe >= batch_units(stage)) ||
            (stage_is_awaited(stage) && stage->spills == 0))) {
        stage->spills++;
        task_begin(stage, spill_entry, spill_new(stage));
    }
    if (stage->segments_in_use > segments && stage->config.ops->changed) {
        stage->config.ops->changed(stage->config.opaque); /* also where one spill follows another */
    }
}

/* A slot that a capture under way holds is not ripe yet, but will be. */
bool stage_spill_helps(const Stage *stage)
{
    return stage->spills > 0 || (stage->slots_used > 0 && scratch_takes(stage));
}

typedef struct FarReads {
    Stage *stage;
    GArray *far; /* in order of location */
    guint next;
    unsigned readers;
    int ret;
    CoQueue ended;
} FarReads;

static int by_location(gconstpointer a, gconstpointer b)
{
    const StageFar *x = a, *y = b;

    return x->location < y->location ? -1 : x->location > y->location;
}

/* Those that lie behind one another, in one request; a unit cut by the disk's end ends one. */
static int coroutine_fn read_some(FarReads *r)
{
    struct iovec iov[STAGE_IO_UNITS];
    const StageFar *first = &g_array_index(r->far, StageFar, r->next);
    int64_t location = first->location, bytes = 0;
    QEMUIOVector qiov;
    guint n = 0;

    do {
        const StageFar *f = &g_array_index(r->far, StageFar, r->next++);

        iov[n++] = (struct iovec){.iov_base = f->buf, .iov_len = f->bytes};
        bytes += f->bytes;
    } while (r->next < r->far->len && n < STAGE_IO_UNITS && bytes % r->stage->unit_bytes == 0 &&
             g_array_index(r->far, StageFar, r->next).location == location + n);
    qemu_iovec_init_external(&qiov, iov, n);
    return bdrv_co_preadv(r->stage->config.scratch, location * r->stage->unit_bytes, bytes, &qiov,
                          0);
}

static void coroutine_fn reader_entry(void *opaque)
{
    FarReads *r = opaque;

    while (r->next < r->far->len && r->ret >= 0) {
        int ret = read_some(r);

        r->ret = ret < 0 ? ret : r->ret;
    }
    r->readers--;
    qemu_co_queue_restart_all(&r->ended);
}

int coroutine_fn stage_co_read_far(Stage *stage, GArray *far)
{
    FarReads r = {.stage = stage, .far = far};

    if (far->len == 0) {
        return 0;
    }
    g_array_sort(far, by_location);
    qemu_co_queue_init(&r.ended);
    for (r.readers = 1; r.readers < MIN(FAR_READERS, far->len); r.readers++) {
        aio_co_schedule(bdrv_get_aio_context(stage->config.source->bs),
                        qemu_coroutine_create(reader_entry, &r));
    }
    reader_entry(&r);
    while (r.readers > 0) {
        qemu_co_queue_wait(&r.ended, NULL);
    }
    qemu_co_queue_destroy(&r.ended);
    for (guint i = 0; i < far->len; i++) {
        stage_segment_unref(stage, g_array_index(far, StageFar, i).location); /* G4 */
    }
    return r.ret;
}
