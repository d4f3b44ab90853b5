/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One disk of an access: what stands in front of its writes, how it breaks, how it ends (A2, A5 to A9). */
#include <errno.h>
#include "block/access/access-int.h"
#include "block/copy/scratch.h"
#include "qapi/qapi-events-backup-access.h"
#include "util/osdep.h"
#include "trace-access.h"

static bool is_quiesced(const BlockDriverState *bs)
{
    return __atomic_load_n(&bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0;
}

static void free_disk(void *opaque)
{
    AccessDisk *disk = opaque;

    g_free(disk->access_id);
    g_free(disk->device);
    g_free(disk->export);
    g_free(disk->error);
}

void access_disk_release(AccessDisk *disk)
{
    g_atomic_rc_box_release_full(disk, free_disk);
}

int access_disk_broken(const AccessDisk *disk)
{
    return __atomic_load_n(&disk->broken, __ATOMIC_ACQUIRE);
}

/* A7: the stage's own requests to the scratch.  Counted first, looked at after (as D2 of block/graph). */

static bool gate_is_closed(const AccessDisk *disk)
{
    return is_quiesced(disk->scratch) && !(disk->captures > 0 && is_quiesced(disk->source));
}

static void coroutine_fn scratch_io_begin(void *opaque)
{
    AccessDisk *disk = opaque;

    __atomic_add_fetch(&disk->scratch_io, 1, __ATOMIC_SEQ_CST);
    while (gate_is_closed(disk)) {
        if (__atomic_sub_fetch(&disk->scratch_io, 1, __ATOMIC_SEQ_CST) == 0) {
            bdrv_drain_kick();
        }
        qemu_co_queue_wait(&disk->gate, NULL);
        __atomic_add_fetch(&disk->scratch_io, 1, __ATOMIC_SEQ_CST);
    }
}

static void scratch_io_end(void *opaque)
{
    AccessDisk *disk = opaque;

    if (__atomic_sub_fetch(&disk->scratch_io, 1, __ATOMIC_SEQ_CST) == 0) {
        bdrv_drain_kick();
        qemu_co_queue_restart_all(&disk->left);
    }
}

/*
 * A write that leaves while both are quiesced takes with it the reason for which such requests passed: it
 * waits for them, so that the quiesce of its source covers them.
 */
static void coroutine_fn leave_capture(AccessDisk *disk)
{
    while (disk->captures == 1 && disk->scratch &&
           __atomic_load_n(&disk->scratch_io, __ATOMIC_SEQ_CST) > 0 && is_quiesced(disk->source) &&
           is_quiesced(disk->scratch)) {
        qemu_co_queue_wait(&disk->left, NULL);
    }
    disk->captures--;
    qemu_co_queue_restart_all(&disk->left);
}

static void gate_bh(void *opaque)
{
    AccessDisk *disk = opaque;

    qemu_co_queue_restart_all(&disk->gate);
    access_disk_release(disk);
}

/* Main thread: a quiesce of the source has begun, or one of either has ended: the gate may be open now. */
static void quiesce_changed(BdrvChild *c)
{
    AccessDisk *disk = c->opaque;

    if (disk->stage) {
        aio_bh_schedule_oneshot(disk->home, gate_bh, g_atomic_rc_box_acquire(disk));
    }
}

static bool scratch_drained_poll(BdrvChild *c)
{
    AccessDisk *disk = c->opaque;

    return __atomic_load_n(&disk->scratch_io, __ATOMIC_SEQ_CST) > 0;
}

static char *parent_desc(BdrvChild *c)
{
    const AccessDisk *disk = c->opaque;

    return g_strdup_printf("backup access '%s'", disk->access_id);
}

/* A8: neither can change its AioContext. */
static const BdrvChildClass child_access_source = {
    .stay_at_node = true,
    .get_parent_desc = parent_desc,
    .drained_begin = quiesce_changed,
    .drained_end = quiesce_changed,
};

static const BdrvChildClass child_access_scratch = {
    .stay_at_node = true,
    .get_parent_desc = parent_desc,
    .drained_poll = scratch_drained_poll,
    .drained_end = quiesce_changed,
};

/* A5 */

typedef struct BrokenEvent {
    char *id, *device, *error;
} BrokenEvent;

static void broken_bh(void *opaque)
{
    g_autofree BrokenEvent *e = opaque;

    qapi_event_send_backup_access_broken(e->id, e->device, e->error);
    g_free(e->id);
    g_free(e->device);
    g_free(e->error);
}

static char *broken_words(const AccessDisk *disk, int error)
{
    StageStats stats;

    stage_stats(disk->stage, &stats);
    if ((error == -ENOSPC || error == -ETIMEDOUT) && stats.scratch_error < 0) {
        return g_strdup_printf("The scratch file failed: %s", g_strerror(-stats.scratch_error));
    }
    if (error == -ENOSPC) {
        return g_strdup_printf("No room is left for old data: %" PRId64
                               " bytes of memory and %" PRId64 " bytes of scratch are full",
                               stats.ram_limit, stats.scratch_limit);
    }
    if (error == -ETIMEDOUT) {
        return g_strdup_printf("The scratch file took nothing for %d seconds",
                               (int)(ACCESS_WAIT_NS / NANOSECONDS_PER_SECOND));
    }
    return g_strdup_printf("The old data in front of a write could not be read: %s",
                           g_strerror(-error));
}

/* Memory and scratch are of no use any more.  The view needs them no more either: it looks at broken. */
static void coroutine_fn give_back_entry(void *opaque)
{
    AccessDisk *disk = opaque;

    stage_co_end(disk->stage);
    stage_co_end(disk->stage);
    if (disk->scratch) {
        BdrvChild *scratch = disk->view_scratch;

        scratch_io_begin(disk);
        /* If it cannot, the file's space is free with the file, at the end. */
        (void)bdrv_co_truncate(scratch, 0, false, PREALLOC_MODE_OFF, 0, NULL);
        scratch_io_end(disk);
    }
    disk->breaking = false;
    qemu_co_queue_restart_all(&disk->left);
    access_disk_release(disk);
}

static void break_view(AccessDisk *disk, int error)
{
    BrokenEvent *e;

    if (disk->over) {
        return;
    }
    trace_backup_access_broken(disk->access_id, disk->device, error);
    disk->error = broken_words(disk, error);
    __atomic_store_n(&disk->broken, error, __ATOMIC_RELEASE);
    disk->over = true;
    access_turns_wake(disk->turns);
    notifier_with_return_remove(&disk->before_write);
    e = g_new(BrokenEvent, 1);
    *e = (BrokenEvent){g_strdup(disk->access_id), g_strdup(disk->device), g_strdup(disk->error)};
    aio_bh_schedule_oneshot(qemu_get_aio_context(), broken_bh, e);
    disk->breaking = true;
    aio_co_schedule(disk->home,
                    qemu_coroutine_create(give_back_entry, g_atomic_rc_box_acquire(disk)));
}

/* A2, A6 */
static int coroutine_fn before_write_notify(NotifierWithReturn *notifier, void *opaque)
{
    AccessDisk *disk = container_of(notifier, AccessDisk, before_write);
    BdrvTrackedRequest *req = opaque;
    int64_t offset = req->offset, bytes = MIN(req->bytes, disk->length - req->offset);
    int ret;

    if (bytes <= 0 || disk->over) {
        return 0;
    }
    access_turns_wrote(disk->turns, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    if (req->type == BDRV_TRACKED_DISCARD && !stage_is_captured(disk->stage, offset, bytes)) {
        return BDRV_NOTIFY_DROP;
    }
    if (disk->captures++ == 0) {
        qemu_co_queue_restart_all(&disk->gate); /* A7: it may be open now */
    }
    ret = stage_co_capture(disk->stage, offset, bytes, &req->old);
    if (ret < 0) {
        break_view(disk, ret);
    }
    leave_capture(disk);
    return 0;
}

/* What the stage asks. */

static bool never_safe(void *opaque, int64_t cluster)
{
    return false; /* A4 */
}

static bool is_over(void *opaque)
{
    return ((AccessDisk *)opaque)->over;
}

static const StageOps stage_ops = {
    .is_safe = never_safe,
    .is_over = is_over,
    .io_begin = scratch_io_begin,
    .io_end = scratch_io_end,
};

static void make_stage(AccessDisk *disk, const BackupAccessArgs *args, int64_t scratch_bytes)
{
    StageConfig config = {
        .source = access_view_source(disk->view),
        .scratch = disk->view_scratch,
        .length = disk->length,
        .cluster_bytes = ACCESS_CLUSTER_BYTES,
        .ram_bytes = args->ram_bytes,
        .scratch_bytes = scratch_bytes,
        .wait_ns = ACCESS_WAIT_NS,
        .ops = &stage_ops,
        .opaque = disk,
    };

    disk->stage = stage_new(&config);
}

static int check_source(BlockDriverState *source, const char *device, Error **errp)
{
    int64_t length = bdrv_getlength(source);

    if (bdrv_op_is_blocked(source, BLOCK_OP_TYPE_BACKUP_SOURCE, errp)) {
        return -EBUSY;
    }
    if (length < 0) {
        error_setg_errno(errp, -length, "Unable to get length for '%s'", device);
        return length;
    }
    if (source->bl.request_alignment > ACCESS_CLUSTER_BYTES) {
        error_setg(errp, "Blocks of '%s' are larger than %" PRId64 " bytes", device,
                   (int64_t)ACCESS_CLUSTER_BYTES);
        return -ENOTSUP;
    }
    return 0;
}

static int coroutine_fn open_scratch(AccessDisk *disk, const BackupAccessArgs *args,
                                     BlockDriverState *given, int64_t *ret_bytes, Error **errp)
{
    const char *folder = args->scratch_folder ? args->scratch_folder : scratch_default_folder();
    int r;

    if (given) {
        *ret_bytes = MAX(args->scratch_bytes, 0);
        bdrv_ref(given);
        disk->scratch = given;
    } else if (args->scratch_bytes == 0) {
        *ret_bytes = 0;
        return 0;
    } else {
        r = scratch_limit(folder, args->scratch_bytes, ret_bytes, errp);
        if (r < 0) {
            return r;
        }
        *ret_bytes = QEMU_ALIGN_DOWN(*ret_bytes, STAGE_SEGMENT_BYTES);
        if (*ret_bytes == 0) {
            return 0;
        }
        disk->scratch = scratch_co_open(folder, disk->home, errp);
        if (!disk->scratch) {
            return -EIO;
        }
    }
    disk->scratch_edge = bdrv_root_attach_child(disk->scratch, "scratch", &child_access_scratch,
                                                BDRV_CHILD_DATA, 0, BLK_PERM_ALL, disk, errp);
    if (!disk->scratch_edge) {
        return -EPERM;
    }
    disk->view_scratch = access_view_add_scratch(disk->view, disk->scratch, errp);
    return disk->view_scratch ? 0 : -EPERM;
}

static void block_ops(AccessDisk *disk)
{
    g_autofree char *reason =
        g_strdup_printf("block device is in use by backup access '%s'", disk->access_id);

    disk->blocker = bdrv_op_block(disk->source,
                                  1u << BLOCK_OP_TYPE_RESIZE | 1u << BLOCK_OP_TYPE_BACKUP_TARGET |
                                      1u << BLOCK_OP_TYPE_MIRROR_TARGET |
                                      1u << BLOCK_OP_TYPE_REPLACE | 1u << BLOCK_OP_TYPE_DELETE,
                                  reason);
}

int coroutine_fn access_disk_co_prepare(AccessDisk *disk, const BackupAccessArgs *args,
                                        const BackupAccessDiskArgs *one, Error **errp)
{
    int64_t scratch_bytes = 0;
    int r;

    disk->access_id = g_strdup(args->id);
    disk->device = g_strdup(one->device);
    disk->export = g_strdup(one->export);
    qemu_co_queue_init(&disk->left);
    qemu_co_queue_init(&disk->gate);
    disk->before_write.notify = before_write_notify;
    bdrv_ref(one->source);
    disk->source = one->source;
    disk->turns = access_turns_get(disk->source);
    r = check_source(one->source, one->device, errp);
    if (r < 0) {
        return r;
    }
    /* From here the source stays where it is (A8) and as large as it is. */
    disk->source_edge = bdrv_root_attach_child(disk->source, "disk", &child_access_source, 0, 0,
                                               BLK_PERM_ALL & ~BLK_PERM_RESIZE, disk, errp);
    if (!disk->source_edge) {
        return -EPERM;
    }
    disk->home = bdrv_get_aio_context(disk->source);
    disk->length = bdrv_getlength(disk->source);
    block_ops(disk);
    r = access_view_co_new(disk, errp);
    if (r == 0) {
        r = open_scratch(disk, args, one->scratch, &scratch_bytes, errp);
    }
    if (r == 0) {
        make_stage(disk, args, scratch_bytes);
    }
    return r;
}

int access_disk_freeze_bitmap(AccessDisk *disk, const char *name, Error **errp)
{
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(disk->source, name), *copy;
    int r;

    if (!bitmap) {
        error_setg(errp, "Bitmap '%s' of '%s' could not be found", name, disk->device);
        return -ENOENT;
    }
    r = bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_DEFAULT, errp);
    if (r < 0) {
        return r;
    }
    /* The view takes it away when it goes. */
    copy = bdrv_create_dirty_bitmap(disk->view, bdrv_dirty_bitmap_granularity(bitmap), name, errp);
    if (!copy || !bdrv_merge_dirty_bitmap(copy, bitmap, NULL, errp)) {
        return -EINVAL;
    }
    bdrv_disable_dirty_bitmap(copy);
    r = bdrv_dirty_bitmap_create_successor(bitmap, errp);
    if (r == 0) {
        disk->bitmap = bitmap;
    }
    return r;
}

void access_disk_begin(AccessDisk *disk)
{
    bdrv_add_before_write_notifier(disk->source, &disk->before_write); /* A1 */
}

/* A9, in the home. */
static void coroutine_fn stop_captures(AccessDisk *disk)
{
    disk->over = true;
    access_turns_wake(disk->turns);
    notifier_with_return_remove(&disk->before_write);
    stage_co_end(disk->stage);
    while (disk->captures > 0 || disk->breaking) {
        qemu_co_queue_wait(&disk->left, NULL);
    }
    stage_co_end(disk->stage);
}

void coroutine_fn access_disk_co_end(AccessDisk *disk, bool success)
{
    AioContext *here = qemu_get_current_aio_context();

    if (disk->stage) {
        if (here != disk->home) {
            aio_co_reschedule_self(disk->home);
        }
        stop_captures(disk);
        if (here != disk->home) {
            aio_co_reschedule_self(here);
        }
    }
    if (disk->view) {
        access_view_co_detach(disk->view);
    }
    stage_free(g_steal_pointer(&disk->stage));
    bdrv_co_root_unref_child(g_steal_pointer(&disk->scratch_edge));
    if (disk->bitmap) {
        (success ? bdrv_dirty_bitmap_abdicate
                 : bdrv_reclaim_dirty_bitmap)(g_steal_pointer(&disk->bitmap), &error_abort);
    }
    if (disk->blocker) {
        bdrv_op_unblock(disk->blocker);
    }
    bdrv_co_root_unref_child(g_steal_pointer(&disk->source_edge));
    bdrv_co_unref(disk->view);
    access_turns_put(g_steal_pointer(&disk->turns));
    bdrv_co_unref(disk->scratch);
    bdrv_co_unref(disk->source);
    access_disk_release(disk);
}
