/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mirror: make a target equal to a source that is being written meanwhile, and switch over to it.
 *
 *      guests' writes                          the planner
 *           |                                      |  next dirty run, not in flight, with buffers
 *           v                                      v
 *     +-----------+   marks, when written    +-----------+   operations: read, write   +--------+
 *     | write tap |------------------------->|   dirty   |---------------------------->| target |
 *     +-----------+                          +-----------+                             +--------+
 *           |  |                                   ^                                        ^  ^
 *           v  |                                   +---- a failed operation marks again ----+  |
 *        source|                                                                               |
 *              +------- write-blocking: the same write, before the guest is told --------------+
 *
 * M1  A range is marked dirty after the source's driver is done with it, failed or not, and before the guest is
 *     told.  Marked earlier, an operation could clear the mark and read old bytes; later, the switch-over could
 *     miss the write.  A write that was made to the target as well is not marked, unless it was mixed (T1).
 * M2  An operation clears the dirty bits of its chunks before it looks at the source.  A write that lands
 *     meanwhile marks them again: copied twice, never lost.
 * M3  A chunk is in flight for at most one at a time, operation or guest's write.  Otherwise the older bytes
 *     could land last.  All chunks of a run are asked for, not only the first, and again after every wait;
 *     all are given back, the last, partial one too.
 * M4  Whoever holds a chunk in flight marks what he did not bring to the target before he lets go of it.
 * M5  Where the target has clusters larger than the granularity, and will have a backing file only at the end, a
 *     cluster that it does not have is copied whole: it cannot fill in the rest by itself.
 * M6  Switch-over asks in this order: source and target quiesced, nothing in flight, nothing dirty, target
 *     flushed.  Dirty is asked after the quiesce because guests may write until then.  It begins when what is
 *     dirty takes so little time that guests can be stopped for it, and gives up, to try again, when it takes longer.
 * M7  Memory is the buffers, whatever happens: who finds none waits.
 * M8  After a cancel that is forced nothing is begun in the target.  What is in flight there ends by itself within
 *     cancel-timeout, or is given up then, or as soon as a second forced cancel comes.  Who began something while
 *     the cancel came, in another thread, is met by giving up a second time, after that thread has seen it.
 *
 * dirty.c has what is dirty, op.c operations, loop.c the planner, rate.c and heat.c what helps it to come to an
 * end, tap.c and through.c guests' writes, finish.c the switch-over; this file the life of the job.
 *
 *   mirror_co_job_create()   source quiesced: nodes attached, tap set
 *   run                      until the end is asked for, in READY
 *   prepare                  the last of it, and the switch-over
 *   clean                    the tap is off, the nodes are let go
 */
#include <errno.h>
#include <inttypes.h>
#include "block/jobs/mirror/mirror-job.h"
#include "util/osdep.h"
#include "trace-mirror.h"

/* The planner, or prepare(), or a guest's write that waits, looks again. */
static void kick_bh(void *opaque)
{
    MirrorBlockJob *s = opaque;

    mirror_wake(s);
    job_unref(&s->common.job);
}

/* Main thread. */
static void kick(MirrorBlockJob *s)
{
    job_ref(&s->common.job);
    aio_bh_schedule_oneshot(s->common.job.aio_context, kick_bh, s);
    qemu_co_queue_restart_all(&s->quiet_queue);
}

static void give_up_again(void *opaque)
{
    MirrorBlockJob *s = opaque;

    if (s->target) {
        bdrv_cancel_in_flight(s->target->bs);
    }
    job_unref(&s->common.job);
}

/* Whoever passed mirror_gives_up() before has made its request by now. */
static void all_seen_bh(void *opaque)
{
    aio_bh_schedule_oneshot(qemu_get_aio_context(), give_up_again, opaque);
}

/* Main thread.  M8 */
static void give_up(void *opaque)
{
    MirrorBlockJob *s = opaque;

    trace_mirror_give_up(s, __atomic_load_n(&s->in_flight, __ATOMIC_SEQ_CST));
    bdrv_cancel_in_flight(s->target->bs);
    job_ref(&s->common.job);
    aio_bh_schedule_oneshot(s->common.job.aio_context, all_seen_bh, s);
}

static void end_cancel_timer(MirrorBlockJob *s)
{
    if (s->cancel_timer) {
        timer_free(s->cancel_timer);
        s->cancel_timer = NULL;
    }
}

/* A forced cancel: the first lets the target come to an end by itself, the second does not. */
static void begin_giving_up(MirrorBlockJob *s)
{
    bool again = __atomic_exchange_n(&s->giving_up, true, __ATOMIC_SEQ_CST);

    if (again || s->cancel_timeout_ns == 0) {
        end_cancel_timer(s);
        give_up(s);
    } else {
        s->cancel_timer = aio_timer_new(qemu_get_aio_context(), give_up, s);
        timer_mod_ns(s->cancel_timer, mirror_now() + s->cancel_timeout_ns);
    }
    kick(s);
}

static void ask_for_end(MirrorBlockJob *s)
{
    __atomic_store_n(&s->should_end, true, __ATOMIC_SEQ_CST);
    job_wake(&s->common.job);
    kick(s);
}

static void mirror_complete(Job *j, Error **errp)
{
    MirrorBlockJob *s = container_of(j, MirrorBlockJob, common.job);
    BlockDriverState *replaced;

    if (mirror_find_replaced(s->source->bs, s->replaces, &replaced, errp) == 0) {
        s->pivot = true;
        ask_for_end(s);
    }
}

/* READY and not forced: the target is kept, equal to the source as it is then. */
static bool mirror_cancel(Job *j, bool force)
{
    MirrorBlockJob *s = container_of(j, MirrorBlockJob, common.job);

    if (s->pivoting) {
        return false; /* E2 */
    }
    s->pivot = false;
    if (!force && job_is_ready(j)) {
        ask_for_end(s);
        return false;
    }
    if (s->target) {
        begin_giving_up(s);
    }
    return true;
}

static void coroutine_fn mirror_clean(Job *j)
{
    MirrorBlockJob *s = container_of(j, MirrorBlockJob, common.job);

    if (s->tap_set) {
        if (!in_aio_context(j->aio_context)) {
            aio_co_reschedule_self(j->aio_context);
        }
        mirror_tap_end(s);
        if (!in_aio_context(qemu_get_aio_context())) {
            aio_co_reschedule_self(qemu_get_aio_context());
        }
    }
    if (s->target_backing) {
        bdrv_co_unref(s->target_backing);
        s->target_backing = NULL;
    }
    end_cancel_timer(s);
    s->source = NULL; /* first: letting go of them yields, and a cancel looks at the target */
    s->target = NULL;
    block_job_co_remove_all_bdrv(&s->common);
}

static void free_bitmap(HBitmap *bitmap)
{
    if (bitmap) {
        hbitmap_free(bitmap);
    }
}

static void mirror_free(Job *j)
{
    MirrorBlockJob *s = container_of(j, MirrorBlockJob, common.job);

    assert(s->in_flight == 0 && s->active_running == 0);
    assert(!s->in_flight_bitmap || hbitmap_empty(s->in_flight_bitmap));
    mirror_dirty_free(&s->dirty);
    mirror_heat_free(&s->heat);
    free_bitmap(s->in_flight_bitmap);
    free_bitmap(s->cow_bitmap);
    copy_pool_free(s->buf);
    g_free(s->replaces);
}

static void mirror_query(BlockJob *job, BlockJobInfo *info)
{
    MirrorBlockJob *s = mirror_job_of(job);
    BlockJobInfoMirror *m = &info->u.mirror;

    m->actively_synced =
        __atomic_load_n(&s->ready, __ATOMIC_SEQ_CST) &&
        __atomic_load_n(&s->copy_mode, __ATOMIC_SEQ_CST) == MIRROR_COPY_MODE_WRITE_BLOCKING &&
        mirror_dirty_count(&s->dirty) == 0;
    m->copy_mode = __atomic_load_n(&s->copy_mode, __ATOMIC_SEQ_CST);
    m->dirty = mirror_dirty_count(&s->dirty);
    mirror_rate_query(s, info);
}

static const BlockJobDriver mirror_job_driver = {
    .query = mirror_query,
    .drained_changed = mirror_drained_changed,
    .drained_poll = mirror_drained_poll,
    .job_driver =
        {
            .instance_size = sizeof(MirrorBlockJob),
            .job_type = JOB_TYPE_MIRROR,
            .run = mirror_run,
            .prepare = mirror_prepare,
            .clean = mirror_clean,
            .free = mirror_free,
            .complete = mirror_complete,
            .cancel = mirror_cancel,
        },
};

void mirror_change_copy_mode(BlockJob *job, MirrorCopyMode mode, Error **errp)
{
    if (job->driver != &mirror_job_driver) {
        error_setg(errp, "Job '%s' is not a mirror", job->job.id);
        return;
    }
    if (job_apply_verb(&job->job, JOB_VERB_CHANGE, errp) < 0) {
        return;
    }
    __atomic_store_n(&mirror_job_of(job)->copy_mode, mode, __ATOMIC_SEQ_CST);
    kick(mirror_job_of(job));
}

static int check_nodes(const MirrorJobArgs *args, Error **errp)
{
    BlockDriverState *replaced;

    if (args->source == args->target) {
        error_setg(errp, "Can't mirror node into itself");
        return -EINVAL;
    }
    if (block_copy_check_views(args->source, args->target, errp) < 0) {
        return -EBUSY;
    }
    if (bdrv_op_is_blocked(args->source, BLOCK_OP_TYPE_MIRROR_SOURCE, errp) ||
        bdrv_op_is_blocked(args->target, BLOCK_OP_TYPE_MIRROR_TARGET, errp)) {
        return -EBUSY;
    }
    if (args->source->write_tap) { /* two would be one too many */
        error_setg(errp, "Node '%s' is being mirrored already",
                   bdrv_get_device_or_node_name(args->source));
        return -EBUSY;
    }
    if (mirror_find_replaced(args->source, args->replaces, &replaced, errp) < 0) {
        return -EINVAL;
    }
    return block_copy_check_equal(args->source, args->target, errp);
}

static int check_numbers(const MirrorJobArgs *args, Error **errp)
{
    int64_t g = args->granularity;

    if (g != 0 && (g < MIRROR_GRANULARITY_MIN || g > MIRROR_GRANULARITY_MAX)) {
        error_setg(errp, "Parameter 'granularity' expects a value in range [512B, 64MB]");
        return -EINVAL;
    }
    if (g & (g - 1)) {
        error_setg(errp, "Parameter 'granularity' expects a power of 2");
        return -EINVAL;
    }
    if (args->buf_size < 0 || args->buf_size > INT64_MAX / 2) {
        error_setg(errp, "Invalid parameter 'buf-size'");
        return -EINVAL;
    }
    if (args->sync == MIRROR_SYNC_MODE_INCREMENTAL ||
        (args->sync == MIRROR_SYNC_MODE_BITMAP && !args->sync_bitmap)) {
        error_setg(errp, "Sync mode '%s' not supported", MirrorSyncMode_str(args->sync));
        return -ENOTSUP;
    }
    if (args->sync_bitmap &&
        (args->sync != MIRROR_SYNC_MODE_BITMAP ||
         bdrv_dirty_bitmap_check(args->sync_bitmap, BDRV_BITMAP_ALLOW_RO, errp) < 0)) {
        if (args->sync != MIRROR_SYNC_MODE_BITMAP) {
            error_setg(errp, "A bitmap is for sync mode 'bitmap' only");
        }
        return -EINVAL;
    }
    return 0;
}

static int64_t coroutine_fn target_cluster(BlockDriverState *target)
{
    BlockDriverInfo info = {0};

    return bdrv_co_get_info(target, &info) < 0 ? 0 : info.cluster_size;
}

/* M5: only what will have a backing file, and has none yet, and does not hold all of the disk. */
static int64_t rounding_needed(const MirrorJobArgs *args, int64_t cluster, int64_t granularity)
{
    bool later = args->target_backing && !args->target->backing;

    return later && args->sync != MIRROR_SYNC_MODE_FULL ? MAX(cluster, granularity) : 0;
}

#define BUF_BYTES_MAX (INT64_C(1) << 30) /* a job's memory is bounded, whatever is asked for */

static int size_buffers(MirrorBlockJob *s, const MirrorJobArgs *args, Error **errp)
{
    int64_t chunk = MAX(s->granularity, (int64_t)bdrv_min_mem_align(args->source));
    int64_t bytes = args->buf_size ? args->buf_size : MIRROR_BUF_BYTES_DEFAULT;

    bytes = MAX(bytes, DIV_ROUND_UP(MAX(s->cow_cluster, s->granularity), s->granularity) * chunk);
    if (bytes > BUF_BYTES_MAX) {
        error_setg(errp, "Parameter 'buf-size' expects at most %" PRId64 " bytes", BUF_BYTES_MAX);
        return -EINVAL;
    }
    s->max_chunks = bytes / chunk;
    s->buf = copy_pool_new(args->source, s->granularity, s->max_chunks);
    if (!copy_pool_has_memory(s->buf)) {
        error_setg(errp, "Could not allocate %" PRId64 " bytes for the job's buffers", bytes);
        return -ENOMEM;
    }
    return 0;
}

static void take_bitmap(MirrorBlockJob *s, BdrvDirtyBitmap *bitmap)
{
    int64_t offset = 0, bytes;

    while (bdrv_dirty_bitmap_next_dirty_area(bitmap, offset, s->len, INT64_MAX, &offset, &bytes)) {
        mirror_dirty_set_whole(&s->dirty, offset, bytes);
        offset += bytes;
    }
}

static int fill_in(MirrorBlockJob *s, const MirrorJobArgs *args, int64_t cluster, Error **errp)
{
    s->len = bdrv_getlength(args->source);
    s->granularity = args->granularity
                         ? args->granularity
                         : MIN(MAX(MIRROR_GRANULARITY_DEFAULT, cluster), MIRROR_GRANULARITY_MAX);
    s->cow_cluster = rounding_needed(args, cluster, s->granularity);
    s->sync_mode = args->sync;
    s->copy_mode = args->copy_mode;
    s->target_is_zero = args->target_is_zero;
    s->unmap = args->unmap;
    s->on_source_error = args->on_source_error;
    s->on_target_error = args->on_target_error;
    s->cancel_timeout_ns = args->cancel_timeout_s * NANOSECONDS_PER_SECOND;
    s->replaces = g_strdup(args->replaces);
    s->base = args->sync == MIRROR_SYNC_MODE_TOP ? bdrv_backing_chain_next(args->source) : NULL;
    if (size_buffers(s, args, errp) < 0) {
        return -EINVAL;
    }
    mirror_dirty_init(&s->dirty, s->len, s->granularity, MIRROR_FINE_BYTES);
    mirror_heat_init(&s->heat, s->len, s->granularity);
    s->in_flight_bitmap = hbitmap_alloc(s->len, __builtin_ctzll(s->granularity));
    if (s->cow_cluster) {
        s->cow_bitmap = hbitmap_alloc(s->len, __builtin_ctzll(s->granularity));
    }
    if (args->target_backing) {
        bdrv_ref(args->target_backing);
        s->target_backing = args->target_backing;
    }
    if (args->sync_bitmap) {
        take_bitmap(s, args->sync_bitmap);
    }
    return 0;
}

static int attach_target(MirrorBlockJob *s, const MirrorJobArgs *args, Error **errp)
{
    uint64_t shared = BLK_PERM_WRITE_UNCHANGED;

    if (bdrv_chain_contains(args->target, args->source)) {
        shared |= BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE; /* guests write its backing file */
    }
    s->target =
        block_job_add_bdrv(&s->common, "target", args->target, BLK_PERM_WRITE, shared, errp);
    return s->target ? 0 : -EPERM;
}

BlockJob *coroutine_fn mirror_co_job_create(const MirrorJobArgs *args, Error **errp)
{
    MirrorBlockJob *s;
    int64_t cluster;

    if (check_numbers(args, errp) < 0 || check_nodes(args, errp) < 0) {
        return NULL;
    }
    cluster = target_cluster(args->target);
    s = block_job_create(args->job_id, &mirror_job_driver, NULL, args->source,
                         BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL & ~BLK_PERM_RESIZE, args->speed,
                         args->flags, errp);
    if (!s) {
        return NULL;
    }
    qemu_co_queue_init(&s->wait);
    qemu_co_queue_init(&s->quiet_queue);
    mirror_tap_init(s);
    mirror_rate_init(s);
    s->source = block_job_source(&s->common);
    if (bdrv_child_unshare_below(s->source, BLK_PERM_WRITE, errp) < 0 || /* M1 */
        attach_target(s, args, errp) < 0 || fill_in(s, args, cluster, errp) < 0) {
        job_early_fail(&s->common.job);
        return NULL;
    }
    mirror_tap_set(s);
    return &s->common;
}
