/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Access: a disk at one instant, read by somebody else (a pull backup, fleecing), while it is written.
 *
 *      guest                                  whoever backs up, through an export
 *        |  write                                |  read, block status
 *        v                                       v
 *   before-write notifier                    [ view ]  a read-only node
 *        |   old data of what is                 |
 *        |   touched: read into the stage        |  1  the source as it is now
 *        |           |                           |  2  over it, in the same step, what is in the stage
 *        |           v                           v
 *        |      [ stage: memory, then scratch ] -+
 *        v
 *   [ source ]  new  new  old  new
 *   stage       old  old   -   old        view = old old old old
 *
 * An access has any number of disks, all of one instant.  A disk may be in any number of accesses, each of an
 * instant of its own: a notifier, a stage and a view for each.
 *
 * A1  The instant is the quiesce of all disks together in which the notifiers are added: a write is either
 *     wholly before, in every disk, or notified.  No write passes a source by: nobody else may write below it.
 * A2  A write goes on after the units it touches were captured.  So a unit that was not captured holds, in
 *     the source, what it held at the instant.
 * A3  A view reads the source first, and looks at the stage in the step in which the read ends.  The other
 *     way round a write between the two would show new data.  Block status likewise: what the source said
 *     before is true for what is still not captured now.
 * A4  Nothing leaves a stage before the end.  The scratch is where a backup's target would be.
 * A5  What cannot be captured breaks the view of that disk, not the guest's write.  The notifier comes off;
 *     a reader that has read looks at this last, so a view answers with the instant or with -EIO (H2).
 *     One BACKUP_ACCESS_BROKEN tells.  Other disks of the access are not concerned: they are still at
 *     the instant, and a disk that was read already may break without harm.
 * A6  Discards of what was not captured are dropped: they are advice, and a trim would fill the stage.
 * A7  The stage's own requests to the scratch keep off a quiesce of the scratch, except those that a write
 *     or the quiesce of its source waits for.
 * A8  A tree with an access stays in its iothread: requests under way know where their stage lives.
 * A9  An access ends in this order: notifiers off, and from then on readers get -EIO, those under way too;
 *     writes that are in them leave; the stage's own requests end; readers leave; memory and scratch go; the
 *     bitmap is settled.
 *
 * A bitmap is frozen at the instant, as for a backup job: a successor takes what is written from then on.
 * Its bits are copied to a bitmap of the same name on the view: so whoever exports the view, exports it.
 *
 * disk.c holds A2 and A5 to A9, view.c A3, this file A1; turns.c says when readers wait.
 */
#include <errno.h>
#include "block/access/access-int.h"
#include "util/cutils.h"
#include "util/osdep.h"
#include "trace-access.h"

struct BackupAccess {
    char *id;
    size_t n_disks;
    AccessDisk **disks; /* those that were begun with, NULL behind them */
    QTAILQ_ENTRY(BackupAccess) next;
};

static QTAILQ_HEAD(, BackupAccess) accesses = QTAILQ_HEAD_INITIALIZER(accesses);

BackupAccess *backup_access_find(const char *id)
{
    BackupAccess *access;

    QTAILQ_FOREACH (access, &accesses, next) {
        if (strcmp(access->id, id) == 0) {
            return access;
        }
    }
    return NULL;
}

BackupAccess *backup_access_next(BackupAccess *access)
{
    return access ? QTAILQ_NEXT(access, next) : QTAILQ_FIRST(&accesses);
}

const char *backup_access_id(const BackupAccess *access)
{
    return access->id;
}

size_t backup_access_n_disks(const BackupAccess *access)
{
    return access->n_disks;
}

BlockDriverState *backup_access_view(const BackupAccess *access, size_t index)
{
    assert(index < access->n_disks);
    return access->disks[index]->view;
}

void backup_access_disk_stats(const BackupAccess *access, size_t index,
                              BackupAccessDiskStats *ret_stats)
{
    const AccessDisk *disk = access->disks[index];
    StageStats stats;

    assert(index < access->n_disks);
    stage_stats(disk->stage, &stats);
    *ret_stats = (BackupAccessDiskStats){
        .device = disk->device,
        .export = disk->export,
        .ram_bytes = stats.ram_bytes,
        .ram_limit = stats.ram_limit,
        .scratch_bytes = stats.scratch_bytes,
        .scratch_limit = stats.scratch_limit,
        .error = access_disk_broken(disk) < 0 ? disk->error : NULL,
    };
}

char *backup_access_new_id(void)
{
    static unsigned last;

    for (;;) {
        char *id = g_strdup_printf("access%u", ++last);

        if (!backup_access_find(id)) {
            return id;
        }
        g_free(id);
    }
}

static int check_args(const BackupAccessArgs *args, Error **errp)
{
    if (!id_wellformed(args->id)) {
        error_setg(errp, "Invalid backup access id '%s'", args->id);
        return -EINVAL;
    }
    if (backup_access_find(args->id)) {
        error_setg(errp, "Backup access id '%s' is already in use", args->id);
        return -EEXIST;
    }
    if (args->n_disks == 0 || args->n_disks > BACKUP_ACCESS_DISKS_MAX) {
        error_setg(errp, "A backup access has 1 to %d disks", BACKUP_ACCESS_DISKS_MAX);
        return -EINVAL;
    }
    if (args->ram_bytes <= 0 || args->ram_bytes > BACKUP_ACCESS_RAM_MAX) {
        error_setg(errp, "ram must be between 1 and %" PRId64 " bytes",
                   (int64_t)BACKUP_ACCESS_RAM_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < args->n_disks; i++) {
        for (size_t j = 0; j < i; j++) {
            if (args->disks[i].source == args->disks[j].source) {
                error_setg(errp, "Disk '%s' is named twice", args->disks[i].device);
                return -EINVAL;
            }
        }
    }
    return 0;
}

/* A1.  All or none: a notifier is added when nothing can fail any more. */
static int coroutine_fn take_instant(BackupAccess *access, const BackupAccessArgs *args,
                                     Error **errp)
{
    g_autofree BlockDriverState **sources = g_new0(BlockDriverState *, access->n_disks);
    int r = 0;

    for (size_t i = 0; i < access->n_disks; i++) {
        sources[i] = access->disks[i]->source;
    }
    bdrv_co_drained_begin_list(sources, access->n_disks);
    for (size_t i = 0; i < access->n_disks && r == 0; i++) {
        if (args->disks[i].bitmap) {
            r = access_disk_freeze_bitmap(access->disks[i], args->disks[i].bitmap, errp);
        }
    }
    for (size_t i = 0; i < access->n_disks && r == 0; i++) {
        access_disk_begin(access->disks[i]);
    }
    bdrv_co_drained_end_list(sources, access->n_disks);
    return r;
}

static void coroutine_fn co_take_down(BackupAccess *access, bool success)
{
    for (size_t i = 0; i < access->n_disks; i++) {
        access_disk_co_end(access->disks[i], success);
    }
    g_free(access->disks);
    g_free(access->id);
    g_free(access);
}

BackupAccess *coroutine_fn backup_access_co_begin(const BackupAccessArgs *args, Error **errp)
{
    BackupAccess *access;
    int r = check_args(args, errp);

    if (r < 0) {
        return NULL;
    }
    access = g_new0(BackupAccess, 1);
    access->id = g_strdup(args->id);
    access->disks = g_new0(AccessDisk *, args->n_disks);
    /* What takes long is done before the disks stand still. */
    for (size_t i = 0; i < args->n_disks && r == 0; i++) {
        access->disks[i] = g_atomic_rc_box_new0(AccessDisk);
        access->n_disks++;
        r = access_disk_co_prepare(access->disks[i], args, &args->disks[i], errp);
    }
    if (r == 0) {
        r = take_instant(access, args, errp);
    }
    if (r < 0) {
        co_take_down(access, false);
        return NULL;
    }
    QTAILQ_INSERT_TAIL(&accesses, access, next); /* whoever asks finds it whole */
    trace_backup_access_begin(access->id);
    return access;
}

void coroutine_fn backup_access_co_end(BackupAccess *access, bool success)
{
    trace_backup_access_end(access->id, success);
    QTAILQ_REMOVE(&accesses, access, next);
    co_take_down(access, success);
}

void coroutine_fn backup_access_co_end_all(void)
{
    BackupAccess *access;

    while ((access = QTAILQ_FIRST(&accesses))) {
        backup_access_co_end(access, false);
    }
}
