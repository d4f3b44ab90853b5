/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage: a guest's write waits until the old data it overwrites is in memory, not until it is in
 * the target.
 *
 *      cluster (64 KiB)   | u0 | u1 | u2 | u3 | ... |        units of 4 KiB
 *      guest writes u2             ^ read into a slot of the room, then the write goes on
 *      a store reads      [ old  old  new? old  ...  ]       the source as it is now
 *      and puts over it             u2                       what was captured
 *      = the cluster at the instant, which goes to the target behind the guest's back
 *
 *      room:   memory [ slot slot slot slot ]  -- the oldest, 1 MiB at a time -->  scratch [ seg | seg ]
 *
 * G1  A unit is captured when its old data is in a slot.  The write that wanted it goes on after that,
 *     and not before every unit it touches is captured or safe elsewhere.
 * G2  A cluster is taken in one step, right after a read of the source: units captured by then come
 *     from their slots, the others from the read.  A unit that was not captured by then had not been
 *     written when the read ended, so the read is its old data.
 * G3  From that step on the owner calls the cluster safe.  What writes come now, pass: its old data is
 *     with the owner.  A capture that was under way finds it so, and is thrown away.
 * G4  A place, slot or scratch, is given back when its unit has left the stage and nobody reads or
 *     writes it any more, never before.
 * G5  Room is what the options say, whatever the guest does.  A write that finds none waits in turn,
 *     at most wait_ns; what becomes of the owner then is the owner's matter.
 * G6  What memory cannot keep goes to the scratch, the oldest first, and last what the owner comes to soon:
 *     that would only have to be read again.  A slot is free when the scratch
 *     has its bytes.  A scratch that fails takes nothing any more; what it has not taken is in memory.
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/copy/stage-int.h"
#include "util/osdep.h"
#include "trace-copy.h"

/* A capture under way; on the stack of its write. */
typedef struct Capture {
    int64_t unit;
    unsigned n;
    StageSlot *slots[STAGE_IO_UNITS];
} Capture;

/*
 * A place: a slot, a capture that is about to fill one, or a unit of the scratch.  The lowest bits of a
 * pointer tell; both structures are aligned to more than these.
 */
#define PLACE_KIND    3
#define PLACE_SLOT    0
#define PLACE_CAPTURE 1
#define PLACE_SCRATCH 2

static void *place_of_capture(Capture *c)
{
    return (void *)((uintptr_t)c | PLACE_CAPTURE);
}

static void *place_of_location(int64_t location)
{
    return (void *)(((uintptr_t)location << 2) | PLACE_SCRATCH);
}

static unsigned place_kind(const void *place)
{
    return (uintptr_t)place & PLACE_KIND;
}

static int64_t place_location(const void *place)
{
    return (int64_t)((uintptr_t)place >> 2);
}

static GHashTable **shard_of(Stage *stage, int64_t unit)
{
    return &stage->shards[unit / stage->units_per_cluster % STAGE_SHARDS];
}

static void *find(const Stage *stage, int64_t unit)
{
    GHashTable *shard = *shard_of((Stage *)stage, unit);

    return shard ? g_hash_table_lookup(shard, (void *)(uintptr_t)unit) : NULL;
}

static void put(Stage *stage, int64_t unit, void *place)
{
    GHashTable **shard = shard_of(stage, unit);

    if (!*shard) {
        *shard = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_insert(*shard, (void *)(uintptr_t)unit, place);
}

static void forget(Stage *stage, int64_t unit)
{
    g_hash_table_remove(*shard_of(stage, unit), (void *)(uintptr_t)unit);
}

static bool is_captured(const void *place)
{
    return place && place_kind(place) != PLACE_CAPTURE;
}

static int64_t cluster_of(const Stage *stage, int64_t unit)
{
    return unit / stage->units_per_cluster;
}

/* Of the unit, on the disk. */
static int64_t bytes_of(const Stage *stage, int64_t unit)
{
    return MIN(stage->unit_bytes, stage->config.length - unit * stage->unit_bytes);
}

static int64_t units_in_disk(const Stage *stage)
{
    return DIV_ROUND_UP(stage->config.length, stage->unit_bytes);
}

Stage *stage_new(const StageConfig *config)
{
    Stage *stage = g_new0(Stage, 1);
    int64_t clusters = DIV_ROUND_UP(config->length, config->cluster_bytes);

    stage->config = *config;
    stage->unit_bytes = MAX(STAGE_UNIT_BYTES, (int64_t)config->source->bs->bl.request_alignment);
    stage->unit_bytes = MIN(stage->unit_bytes, MIN(config->cluster_bytes, STAGE_SEGMENT_BYTES));
    assert(config->cluster_bytes % stage->unit_bytes == 0);
    assert(STAGE_SEGMENT_BYTES % stage->unit_bytes == 0);
    stage->units_per_cluster = config->cluster_bytes / stage->unit_bytes;
    stage->clusters = hbitmap_alloc(clusters, 0);
    qemu_co_queue_init(&stage->changed);
    stage_room_init(stage);
    stage_spill_init(stage);
    return stage;
}

void stage_free(Stage *stage)
{
    if (!stage) {
        return;
    }
    assert(stage->tasks == 0);
    for (int i = 0; i < STAGE_SHARDS; i++) {
        if (stage->shards[i]) {
            assert(g_hash_table_size(stage->shards[i]) == 0);
            g_hash_table_destroy(stage->shards[i]);
        }
    }
    stage_spill_free(stage);
    stage_room_free(stage);
    qemu_co_queue_destroy(&stage->changed);
    hbitmap_free(stage->clusters);
    g_free(stage);
}

int64_t stage_unit_bytes(const Stage *stage)
{
    return stage->unit_bytes;
}

StageSlot *stage_find_slot(const Stage *stage, int64_t unit)
{
    void *place = find(stage, unit);

    return place && place_kind(place) == PLACE_SLOT ? place : NULL;
}

void stage_move_to_scratch(Stage *stage, StageSlot *slot, int64_t location)
{
    put(stage, slot->unit, place_of_location(location));
}

/* Units from c->unit on that are open, with a slot each; the first slot is there. */
static void reserve(Stage *stage, Capture *c, int64_t end)
{
    for (c->n = 1; c->unit + c->n < end && c->n < STAGE_IO_UNITS; c->n++) {
        int64_t unit = c->unit + c->n;

        if (find(stage, unit) || stage_is_safe(stage, unit) || stage_is_awaited(stage) ||
            !(c->slots[c->n] = stage_slot_try_get(stage))) {
            break;
        }
    }
    for (unsigned i = 0; i < c->n; i++) {
        put(stage, c->unit + i, place_of_capture(c));
    }
}

/* @old: what others have read in front of the same write will do, and they will be glad of what we read. */
static int coroutine_fn read_source(Stage *stage, const Capture *c, BdrvOldData *old)
{
    int64_t offset = c->unit * stage->unit_bytes, bytes = 0;
    struct iovec iov[STAGE_IO_UNITS];
    QEMUIOVector qiov;
    int ret;

    for (unsigned i = 0; i < c->n; i++) {
        uint8_t *buf = stage_slot_buf(stage, c->slots[i]);
        int64_t n = bytes_of(stage, c->unit + i);

        memset(buf + n, 0, stage->unit_bytes - n); /* it goes to the scratch whole */
        iov[i] = (struct iovec){.iov_base = buf, .iov_len = n};
        bytes += n;
    }
    qemu_iovec_init_external(&qiov, iov, c->n);
    trace_backup_stage_capture(stage, offset, bytes);
    __atomic_fetch_add(&stage->captured_bytes, bytes, __ATOMIC_RELAXED);
    if (old->buf && offset >= old->offset && offset + bytes <= old->offset + old->bytes) {
        qemu_iovec_from_buf(&qiov, 0, old->buf + (offset - old->offset), bytes);
        return 0;
    }
    ret = bdrv_co_preadv(stage->config.source, offset, bytes, &qiov, BDRV_REQ_NO_SERIALISING);
    if (ret >= 0 && old->wanted) {
        old->buf = g_realloc(old->buf, bytes);
        old->offset = offset;
        old->bytes = bytes;
        qemu_iovec_to_buf(&qiov, 0, old->buf, bytes);
    }
    return ret;
}

/* What these say of a capture is ours to say: no room. */
static int read_error(int ret)
{
    return ret == -ETIMEDOUT || ret == -ENOSPC ? -EIO : ret;
}

/* G1, G3 */
static void settle(Stage *stage, Capture *c, int ret)
{
    for (unsigned i = 0; i < c->n; i++) {
        int64_t unit = c->unit + i;
        bool ours = find(stage, unit) == place_of_capture(c);

        if (ret >= 0 && ours && !stage_is_safe(stage, unit) && !stage_is_over(stage)) {
            c->slots[i]->unit = unit;
            put(stage, unit, c->slots[i]);
            QTAILQ_INSERT_TAIL(&stage->order, c->slots[i], order);
            stage->ripe++;
            stage->staged_units++;
            hbitmap_set(stage->clusters, cluster_of(stage, unit), 1);
            continue;
        }
        if (ours) {
            forget(stage, unit);
        }
        stage_slot_put(stage, c->slots[i]);
    }
    qemu_co_queue_restart_all(&stage->changed);
}

/* Some units from @unit on, or none if things have changed while we waited for room. */
static int coroutine_fn capture_some(Stage *stage, int64_t unit, int64_t end, BdrvOldData *old,
                                     int64_t *deadline_ns)
{
    Capture c = {.unit = unit};
    int ret;

    c.slots[0] = stage_co_slot_get(stage, unit, deadline_ns, &ret);
    if (!c.slots[0]) {
        return ret;
    }
    if (find(stage, unit) || stage_is_safe(stage, unit) || stage_is_over(stage)) {
        stage_slot_put(stage, c.slots[0]);
        return 0;
    }
    reserve(stage, &c, end);
    ret = read_source(stage, &c, old);
    settle(stage, &c, ret);
    if (stage_is_safe(stage, unit)) {
        return 0; /* G3: not needed, so it may fail; what is behind it is asked for again */
    }
    return MIN(read_error(ret), 0);
}

int coroutine_fn stage_co_capture(Stage *stage, int64_t offset, int64_t bytes, BdrvOldData *old)
{
    int64_t unit = offset / stage->unit_bytes;
    int64_t end = DIV_ROUND_UP(MIN(offset + bytes, stage->config.length), stage->unit_bytes);
    int64_t deadline_ns = 0;
    bool captured = false;
    int ret = 0;

    while (unit < end && ret == 0 && !stage_is_over(stage)) {
        void *place;

        if (stage_is_safe(stage, unit)) {
            unit = (cluster_of(stage, unit) + 1) * stage->units_per_cluster;
            continue;
        }
        place = find(stage, unit);
        if (is_captured(place)) {
            unit++;
        } else if (place) {
            qemu_co_queue_wait(&stage->changed, NULL);
        } else {
            ret = capture_some(stage, unit, end, old, &deadline_ns);
            captured = true;
        }
    }
    if (captured && !stage_is_over(stage)) {
        stage_spill_kick(stage);
        if (stage->config.ops->changed) {
            stage->config.ops->changed(stage->config.opaque);
        }
    }
    return ret;
}

bool stage_is_captured(const Stage *stage, int64_t offset, int64_t bytes)
{
    int64_t unit = offset / stage->unit_bytes;
    int64_t end = DIV_ROUND_UP(MIN(offset + bytes, stage->config.length), stage->unit_bytes);

    while (unit < end) {
        if (stage_is_safe(stage, unit)) {
            unit = (cluster_of(stage, unit) + 1) * stage->units_per_cluster;
        } else if (is_captured(find(stage, unit))) {
            unit++;
        } else {
            return false;
        }
    }
    return true;
}

int64_t stage_next_cluster(const Stage *stage, int64_t start, int64_t end)
{
    return start < end ? hbitmap_next_dirty(stage->clusters, start, end - start) : -1;
}

bool stage_covers(const Stage *stage, int64_t start, int64_t end)
{
    int64_t unit = start * stage->units_per_cluster;
    int64_t stop = MIN(end * stage->units_per_cluster, units_in_disk(stage));

    while (unit < stop && is_captured(find(stage, unit))) {
        unit++;
    }
    return unit >= stop;
}

bool stage_is_empty(const Stage *stage)
{
    return hbitmap_empty(stage->clusters);
}

/* G4: what is at @place has left the stage. */
static void let_go(Stage *stage, void *place)
{
    StageSlot *slot = place;

    stage->staged_units--;
    if (place_kind(place) == PLACE_SCRATCH) {
        stage_segment_unref(stage, place_location(place));
    } else if (slot->spilling) {
        slot->gone = true;
    } else {
        QTAILQ_REMOVE(&stage->order, slot, order);
        stage->ripe--;
        stage_slot_put(stage, slot);
    }
}

/* Put one unit over @p; what is in the scratch is noted in @far, its place held. */
static void overlay(Stage *stage, int64_t unit, void *place, uint8_t *p, GArray *far)
{
    size_t bytes = bytes_of(stage, unit);

    if (place_kind(place) == PLACE_SLOT) {
        memcpy(p, stage_slot_buf(stage, place), bytes);
    } else {
        StageFar f = {.location = place_location(place), .buf = p, .bytes = bytes};

        stage_segment_ref(stage, f.location);
        g_array_append_val(far, f);
    }
}

/* G2, G3 */
void stage_take(Stage *stage, int64_t start, int64_t end, uint8_t *buf, StageTaken *ret_taken)
{
    int64_t total = units_in_disk(stage), c = start;

    *ret_taken = (StageTaken){stage, g_array_new(FALSE, FALSE, sizeof(StageFar))};
    for (; (c = stage_next_cluster(stage, c, end)) >= 0; c++) {
        int64_t unit = c * stage->units_per_cluster;
        int64_t stop = MIN(unit + stage->units_per_cluster, total);
        unsigned captured = 0;

        for (; unit < stop; unit++) {
            void *place = find(stage, unit);
            int64_t at = unit * stage->unit_bytes - start * stage->config.cluster_bytes;

            if (is_captured(place)) {
                overlay(stage, unit, place, buf + at, ret_taken->far);
                forget(stage, unit);
                let_go(stage, place);
                captured++;
            }
        }
        trace_backup_stage_take(stage, c, captured);
        hbitmap_reset(stage->clusters, c, 1);
    }
    stage_wake(stage); /* who waits for room for what is safe from now on needs none */
}

int coroutine_fn stage_co_take_finish(StageTaken *taken)
{
    int ret = stage_co_read_far(taken->stage, taken->far);

    g_array_free(taken->far, TRUE);
    return ret;
}

int coroutine_fn stage_co_read(Stage *stage, int64_t offset, int64_t bytes, void *buf)
{
    int64_t unit = offset / stage->unit_bytes;
    int64_t end = DIV_ROUND_UP(offset + bytes, stage->unit_bytes);
    GArray *far = g_array_new(FALSE, FALSE, sizeof(StageFar));
    int ret;

    assert(offset % stage->unit_bytes == 0);
    ret = bdrv_co_pread(stage->config.source, offset, bytes, buf, BDRV_REQ_NO_SERIALISING);
    for (; ret >= 0 && unit < end; unit++) { /* G2: no yield since the read */
        void *place = find(stage, unit);

        if (is_captured(place)) {
            overlay(stage, unit, place, (uint8_t *)buf + unit * stage->unit_bytes - offset, far);
        }
    }
    if (far->len > 0) {
        ret = stage_co_read_far(stage, far);
    }
    g_array_free(far, TRUE);
    return MIN(ret, 0);
}

void coroutine_fn stage_co_wait_change(Stage *stage)
{
    qemu_co_queue_wait(&stage->changed, NULL);
}

static gboolean drop_unit(gpointer key, gpointer place, gpointer opaque)
{
    if (is_captured(place)) {
        let_go(opaque, place);
    }
    return TRUE; /* a capture under way sees that its entry is gone */
}

/* Return: whether there was something. */
static bool drop_shard(Stage *stage, int i)
{
    return stage->shards[i] && g_hash_table_foreach_remove(stage->shards[i], drop_unit, stage) > 0;
}

void stage_drop_all(Stage *stage)
{
    if (!stage) {
        return;
    }
    for (int i = 0; i < STAGE_SHARDS; i++) {
        drop_shard(stage, i);
    }
    hbitmap_reset_all(stage->clusters);
    qemu_co_queue_restart_all(&stage->changed);
}

/* The same, in slices: guests go on meanwhile, and nothing more is captured. */
static void coroutine_fn drop_all_in_slices(Stage *stage)
{
    for (int i = 0; i < STAGE_SHARDS; i++) {
        if (drop_shard(stage, i)) {
            qemu_co_sleep_ns(0);
        }
    }
    hbitmap_reset_all(stage->clusters);
}

void stage_wake(Stage *stage)
{
    stage_room_wake_all(stage);
    qemu_co_queue_restart_all(&stage->changed);
}

void coroutine_fn stage_co_end(Stage *stage)
{
    assert(stage_is_over(stage));
    stage_wake(stage);
    drop_all_in_slices(stage);
    while (stage->tasks > 0) {
        qemu_co_queue_wait(&stage->task_ended, NULL);
    }
    stage_room_give_back(stage);
}

bool stage_is_awaited(const Stage *stage)
{
    return !QSIMPLEQ_EMPTY(&stage->waiters);
}

unsigned stage_ram_percent(const Stage *stage)
{
    return stage->slots_used * 100 / stage->n_slots;
}

unsigned stage_percent(const Stage *stage)
{
    int64_t scratch_max = stage->scratch_error ? stage->segments_in_use : stage->segments_max;
    int64_t used =
        stage->slots_used * stage->unit_bytes + stage->segments_in_use * STAGE_SEGMENT_BYTES;
    int64_t limit = stage->n_slots * stage->unit_bytes + scratch_max * STAGE_SEGMENT_BYTES;

    return used / MAX(limit / 100, 1);
}

void stage_stats(const Stage *stage, StageStats *ret_stats)
{
    *ret_stats = (StageStats){
        .ram_bytes = __atomic_load_n(&stage->slots_used, __ATOMIC_RELAXED) * stage->unit_bytes,
        .ram_limit = stage->n_slots * stage->unit_bytes,
        .scratch_bytes =
            __atomic_load_n(&stage->segments_in_use, __ATOMIC_RELAXED) * STAGE_SEGMENT_BYTES,
        .scratch_limit = stage->segments_max * STAGE_SEGMENT_BYTES,
        .captured_bytes = __atomic_load_n(&stage->captured_bytes, __ATOMIC_RELAXED),
        .waiting = __atomic_load_n(&stage->n_waiting, __ATOMIC_RELAXED),
        .scratch_error = __atomic_load_n(&stage->scratch_error, __ATOMIC_RELAXED),
    };
}
