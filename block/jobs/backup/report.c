/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backup tells of its stage. */
#include "block/jobs/backup/report.h"

#include "qapi/qapi-events-block-job.h"

void backup_rate_add(BackupRate *rate, int64_t bytes, int64_t now_ns)
{
    int64_t elapsed_ns;

    if (rate->start_ns == 0 || now_ns - rate->start_ns > BACKUP_RATE_STALE_NS) {
        /* It begins, again; these bytes took a time that we do not know. */
        rate->start_ns = now_ns;
        rate->bytes = 0;
        return;
    }
    rate->bytes += bytes;
    elapsed_ns = now_ns - rate->start_ns;
    if (elapsed_ns < BACKUP_RATE_NS) {
        return;
    }
    __atomic_store_n(&rate->per_second,
                     (int64_t)((double)rate->bytes * NANOSECONDS_PER_SECOND / (double)elapsed_ns),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&rate->at_ns, now_ns, __ATOMIC_RELAXED);
    rate->start_ns = now_ns;
    rate->bytes = 0;
}

int64_t backup_rate_get(const BackupRate *rate, int64_t now_ns)
{
    int64_t at_ns = __atomic_load_n(&rate->at_ns, __ATOMIC_RELAXED);

    if (at_ns == 0 || now_ns - at_ns > BACKUP_RATE_STALE_NS) {
        return 0;
    }
    return __atomic_load_n(&rate->per_second, __ATOMIC_RELAXED);
}

/* The event on its way to the main thread. */
typedef struct StagingEvent {
    int percent;
    int64_t staged, limit;
} StagingEvent;

static void send_staging_event(Job *job, void *arg)
{
    StagingEvent *e = arg;

    if (job->id) {
        qapi_event_send_backup_staging(job->id, e->percent, e->staged, e->limit);
    }
    g_free(e);
}

void backup_emit_staging(BlockJob *job, int percent, int64_t staged, int64_t limit)
{
    StagingEvent *e = g_new(StagingEvent, 1);

    *e = (StagingEvent){.percent = percent, .staged = staged, .limit = limit};
    job_call_in_main(&job->job, send_staging_event, e);
}

void backup_watch_staging(BlockJob *job, BackupStagingAlarm *alarm, int64_t staged, int64_t limit)
{
    int percent = limit > 0 ? (int)((double)staged * 100 / (double)limit) : 0;

    if (alarm->raised) {
        alarm->raised = percent >= BACKUP_STAGING_LOW;
    } else if (percent > BACKUP_STAGING_HIGH) {
        alarm->raised = true;
        backup_emit_staging(job, percent, staged, limit);
    }
}

void backup_report_query(const StageStats *stage, const Histogram *guest_wait,
                         const BackupRate *stored, int64_t now_ns, BlockJobInfoBackup *info)
{
    info->staged_ram = stage->ram_bytes;
    info->staged_ram_limit = stage->ram_limit;
    info->staged_scratch = stage->scratch_bytes;
    info->staged_scratch_limit = stage->scratch_limit;
    info->captured = stage->captured_bytes;
    info->guest_wait_max_us = DIV_ROUND_UP(histogram_max(guest_wait), SCALE_US);
    info->guest_wait_p99_us = DIV_ROUND_UP(histogram_percentile(guest_wait, 0.99), SCALE_US);
    info->store_rate = backup_rate_get(stored, now_ns);
}
