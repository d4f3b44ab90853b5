/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an incremental backup keeps.
 *
 *   start      the user's bitmap is frozen: a successor takes the writes from the instant on, and what
 *              the bitmap holds says which clusters this backup copies
 *   success    on-success, always: the successor's bits remain (what was written since the instant)
 *              never: both are merged, as if no backup had been
 *   failure    on-success, never: both are merged, nothing is forgotten
 *              always: what was written since, and what was not copied; both are merged if the target
 *              could not be flushed
 *
 * I1  A bit is dropped only when its cluster is in a target that was flushed.
 */
#include <errno.h>
#include "block/jobs/backup/backup-job.h"
#include "util/osdep.h"

int backup_bitmap_check(const BackupJobArgs *args, Error **errp)
{
    bool by_bitmap =
        args->sync == MIRROR_SYNC_MODE_INCREMENTAL || args->sync == MIRROR_SYNC_MODE_BITMAP;

    if (by_bitmap && !args->sync_bitmap) {
        error_setg(errp, "must provide a valid bitmap name for '%s' sync mode",
                   MirrorSyncMode_str(args->sync));
        return -EINVAL;
    }
    if (!args->sync_bitmap) {
        return 0;
    }
    if (args->sync == MIRROR_SYNC_MODE_NONE) {
        error_setg(errp, "sync mode '%s' does not produce meaningful bitmap outputs",
                   MirrorSyncMode_str(args->sync));
        return -EINVAL;
    }
    if (args->sync == MIRROR_SYNC_MODE_INCREMENTAL &&
        args->bitmap_mode != BITMAP_SYNC_MODE_ON_SUCCESS) {
        error_setg(errp, "Bitmap sync mode must be '%s' when using sync mode '%s'",
                   BitmapSyncMode_str(BITMAP_SYNC_MODE_ON_SUCCESS), MirrorSyncMode_str(args->sync));
        return -EINVAL;
    }
    if (!by_bitmap && args->bitmap_mode == BITMAP_SYNC_MODE_NEVER) {
        error_setg(errp,
                   "Bitmap sync mode '%s' has no meaningful effect when combined with sync "
                   "mode '%s'",
                   BitmapSyncMode_str(args->bitmap_mode), MirrorSyncMode_str(args->sync));
        return -EINVAL;
    }
    return bdrv_dirty_bitmap_check(
        args->sync_bitmap,
        args->bitmap_mode == BITMAP_SYNC_MODE_NEVER ? BDRV_BITMAP_ALLOW_RO : BDRV_BITMAP_DEFAULT,
        errp);
}

int backup_bitmap_freeze(BackupBlockJob *job, Error **errp)
{
    return job->sync_bitmap ? bdrv_dirty_bitmap_create_successor(job->sync_bitmap, errp) : 0;
}

/* Clusters that this backup does not want count as done from the start. */
void backup_bitmap_init_done(BackupBlockJob *job)
{
    int64_t total = cow_clusters(job);
    int64_t offset = 0, start, bytes, wanted = 0;

    if (job->sync_mode != MIRROR_SYNC_MODE_INCREMENTAL &&
        job->sync_mode != MIRROR_SYNC_MODE_BITMAP) {
        job_progress_set_remaining(&job->common.job, job->len);
        return;
    }
    hbitmap_set(job->done_bitmap, 0, total);
    while (bdrv_dirty_bitmap_next_dirty_area(job->sync_bitmap, offset, job->len, INT64_MAX, &start,
                                             &bytes)) {
        int64_t first = start / job->cluster_size;
        int64_t last = DIV_ROUND_UP(start + bytes, job->cluster_size);

        hbitmap_reset(job->done_bitmap, first, last - first);
        offset = start + bytes;
    }
    wanted = (total - (int64_t)hbitmap_count(job->done_bitmap)) * job->cluster_size;
    if (total > 0 && !hbitmap_get(job->done_bitmap, total - 1)) {
        wanted -= total * job->cluster_size - job->len;
    }
    job_progress_set_remaining(&job->common.job, wanted);
}

/* I1: what is not done stays dirty. */
static void mark_not_copied(BackupBlockJob *job, BdrvDirtyBitmap *bitmap)
{
    int64_t total = cow_clusters(job);
    int64_t start = 0, end;

    while (start < total) {
        start = hbitmap_next_zero(job->done_bitmap, start, total - start);
        if (start < 0) {
            break;
        }
        end = hbitmap_next_dirty(job->done_bitmap, start, total - start);
        end = end < 0 ? total : end;
        bdrv_set_dirty_bitmap(bitmap, start * job->cluster_size,
                              MIN(end * job->cluster_size, job->len) - start * job->cluster_size);
        start = end;
    }
}

void backup_bitmap_finish(BackupBlockJob *job, bool success)
{
    BdrvDirtyBitmap *bitmap = job->sync_bitmap;

    if (!bitmap) {
        return;
    }
    job->sync_bitmap = NULL;
    if ((success && job->bitmap_mode != BITMAP_SYNC_MODE_NEVER) ||
        (!success && job->target_flushed)) { /* I1 */
        bitmap = bdrv_dirty_bitmap_abdicate(bitmap, &error_abort);
        if (!success) {
            mark_not_copied(job, bitmap);
        }
    } else {
        bdrv_reclaim_dirty_bitmap(bitmap, &error_abort);
    }
}
