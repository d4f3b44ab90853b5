/* SPDX-License-Identifier: GPL-2.0-or-later */
/* prefetch.c - block-prefetch */
#include "block/jobs/prefetch.h"
#include "qapi/qapi-commands-block-job.h"

/* Absent: as the image says. */
static bool take(bool has, int64_t given, const char *name, int64_t *ret, Error **errp)
{
    if (has && given < 0) {
        error_setg(errp, "Parameter '%s' expects a value that is not negative", name);
        return false;
    }
    *ret = has ? given : -1;
    return true;
}

static bool take_numbers(const BlockPrefetch *arg, PrefetchJobArgs *args, Error **errp)
{
    return take(arg->has_speed, arg->speed, "speed", &args->speed, errp) &&
           take(arg->has_slots, arg->slots, "slots", &args->slots, errp) &&
           take(arg->has_bytes_per_slot, arg->bytes_per_slot, "bytes-per-slot",
                &args->bytes_per_slot, errp) &&
           take(arg->has_min_read_throughput, arg->min_read_throughput, "min-read-throughput",
                &args->min_read_throughput, errp) &&
           take(arg->has_min_write_throughput, arg->min_write_throughput, "min-write-throughput",
                &args->min_write_throughput, errp) &&
           take(arg->has_throttle_time, arg->throttle_time, "throttle-time", &args->throttle_ms,
                errp);
}

void coroutine_fn qmp_block_prefetch(BlockPrefetch *arg, Error **errp)
{
    PrefetchJobArgs args = {
        .job_id = arg->job_id,
        .bs = bdrv_lookup_bs(arg->device, arg->device, errp),
        .on_error = arg->has_on_error ? arg->on_error : BLOCKDEV_ON_ERROR_REPORT,
        .flags = (arg->has_auto_finalize && !arg->auto_finalize ? JOB_MANUAL_FINALIZE : 0) |
                 (arg->has_auto_dismiss && !arg->auto_dismiss ? JOB_MANUAL_DISMISS : 0),
    };
    BlockJob *job =
        args.bs && take_numbers(arg, &args, errp) ? prefetch_job_create(&args, errp) : NULL;

    if (job) {
        job_start(&job->job);
    }
}
