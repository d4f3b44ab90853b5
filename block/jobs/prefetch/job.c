/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a prefetch job: checks, the run (loop.c), the end.
 *
 *   prefetch_job_create()   the node can, is writable, has a backing file
 *   run                     copies, and makes the image say that it is complete, durably
 *   prepare                 main thread: the node lets go of its backing file, which nothing reads any more
 *
 * A job that fails or is cancelled leaves an image with more in it than before, over the same backing file.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/jobs/prefetch/prefetch-job.h"
#include "util/osdep.h"

static int coroutine_fn prefetch_prepare(Job *j)
{
    PrefetchBlockJob *s = container_of(j, PrefetchBlockJob, common.job);
    Error *err = NULL;
    int ret = bdrv_co_set_backing_hd(s->bs, NULL, &err);

    if (ret < 0) {
        assert(!j->err);
        j->err = err;
        return ret;
    }
    g_clear_pointer(&s->bs->backing_file, g_free);
    g_clear_pointer(&s->bs->backing_format, g_free);
    return 0;
}

static void coroutine_fn prefetch_clean(Job *j)
{
    PrefetchBlockJob *s = container_of(j, PrefetchBlockJob, common.job);

    block_job_co_remove_all_bdrv(&s->common);
}

static void prefetch_free(Job *j)
{
    PrefetchBlockJob *s = container_of(j, PrefetchBlockJob, common.job);

    assert(s->in_flight == 0);
    if (s->bufs) {
        copy_pool_free(s->bufs);
    }
    qemu_co_queue_destroy(&s->wait);
    g_array_free(s->failed, TRUE);
    g_rand_free(s->rand);
}

static bool prefetch_drained_poll(BlockJob *job)
{
    return __atomic_load_n(&prefetch_job_of(job)->in_flight, __ATOMIC_SEQ_CST) > 0;
}

static void prefetch_query(BlockJob *job, BlockJobInfo *info)
{
    PrefetchBlockJob *s = prefetch_job_of(job);
    BlockJobInfoPrefetch *p = &info->u.prefetch;

    p->read_throughput = __atomic_load_n(&s->read.average, __ATOMIC_RELAXED);
    p->write_throughput = __atomic_load_n(&s->write.average, __ATOMIC_RELAXED);
    p->throttled = __atomic_load_n(&s->throttled, __ATOMIC_RELAXED);
}

static const BlockJobDriver prefetch_job_driver = {
    .query = prefetch_query,
    .drained_poll = prefetch_drained_poll,
    .job_driver =
        {
            .instance_size = sizeof(PrefetchBlockJob),
            .job_type = JOB_TYPE_PREFETCH,
            .run = prefetch_run,
            .prepare = prefetch_prepare,
            .clean = prefetch_clean,
            .free = prefetch_free,
        },
};

static bool is_running(const BlockDriverState *bs)
{
    for (BlockJob *job = block_job_next(NULL); job; job = block_job_next(job)) {
        if (job->driver == &prefetch_job_driver && !job_is_completed(&job->job) &&
            prefetch_job_of(job)->bs == bs) {
            return true;
        }
    }
    return false;
}

static int check_node(BlockDriverState *bs, Error **errp)
{
    const char *name = bdrv_get_device_or_node_name(bs);

    if (!bs->drv || !bs->drv->prefetch) {
        error_setg(errp, "Driver '%s' of node '%s' does not support prefetching",
                   bs->drv ? bs->drv->format_name : "", name);
        return -ENOTSUP;
    }
    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "Node '%s' is read-only", name);
        return -EACCES;
    }
    if (!bs->backing) {
        error_setg(errp, "Node '%s' has no backing file", name);
        return -EINVAL;
    }
    if (is_running(bs)) {
        error_setg(errp, "Node '%s' is being prefetched already", name);
        return -EBUSY;
    }
    return 0;
}

/* What was given must be sensible; of what an image says the sensible is taken. */
static int check_numbers(const PrefetchJobArgs *args, Error **errp)
{
    if (args->slots == 0 || args->slots > PREFETCH_SLOTS_MAX) {
        error_setg(errp, "Parameter 'slots' expects a value in range [1, %d]", PREFETCH_SLOTS_MAX);
        return -EINVAL;
    }
    if (args->bytes_per_slot == 0 || args->bytes_per_slot > PREFETCH_BYTES_MAX) {
        error_setg(errp, "Parameter 'bytes-per-slot' expects a value in range [1, %d]",
                   PREFETCH_BYTES_MAX);
        return -EINVAL;
    }
    return 0;
}

static int64_t either(int64_t given, int64_t said)
{
    return given >= 0 ? given : said;
}

/* Of the speed that was given, 0: none, and the image's two limits the least. */
static int64_t speed_of(const PrefetchJobArgs *args, const BdrvPrefetchInfo *info)
{
    int64_t said = info->max_read_throughput;

    if (args->speed >= 0) {
        return args->speed;
    }
    if (info->max_write_throughput && (!said || info->max_write_throughput < said)) {
        said = info->max_write_throughput;
    }
    return said;
}

static int fill_in(PrefetchBlockJob *s, const PrefetchJobArgs *args, const BdrvPrefetchInfo *info,
                   Error **errp)
{
    int64_t bytes = either(args->bytes_per_slot, info->bytes_per_slot);

    s->unit = info->unit;
    s->slots = (unsigned)MAX(MIN(either(args->slots, info->slots), PREFETCH_SLOTS_MAX), 1);
    s->bytes_per_slot =
        MAX(QEMU_ALIGN_DOWN(MIN(bytes, (int64_t)PREFETCH_BYTES_MAX), s->unit), s->unit);
    s->throttle_ns = args->throttle_ms >= 0 ? args->throttle_ms * SCALE_MS : info->throttle_ns;
    s->on_error = args->on_error;
    s->read.min = either(args->min_read_throughput, info->min_read_throughput);
    s->write.min = either(args->min_write_throughput, info->min_write_throughput);
    s->read.measure_ns = info->read_measure_ns;
    s->write.measure_ns = info->write_measure_ns;
    s->bufs = copy_pool_new(s->bs, s->bytes_per_slot, s->slots);
    if (!copy_pool_has_memory(s->bufs)) {
        error_setg(errp, "Could not allocate %" PRId64 " bytes for the job's buffers",
                   s->bytes_per_slot * s->slots);
        return -ENOMEM;
    }
    return 0;
}

BlockJob *coroutine_fn prefetch_job_create(const PrefetchJobArgs *args, Error **errp)
{
    BdrvPrefetchInfo info = {0};
    PrefetchBlockJob *s;

    if (check_numbers(args, errp) < 0 || check_node(args->bs, errp) < 0) {
        return NULL;
    }
    args->bs->drv->prefetch->get_info(args->bs, &info);
    s = block_job_create(args->job_id, &prefetch_job_driver, NULL, args->bs,
                         BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED,
                         BLK_PERM_ALL & ~BLK_PERM_RESIZE, speed_of(args, &info), args->flags, errp);
    if (!s) {
        return NULL;
    }
    s->bs = args->bs;
    s->driver = args->bs->drv->prefetch;
    s->len = bdrv_getlength(args->bs);
    qemu_co_queue_init(&s->wait);
    s->failed = g_array_new(FALSE, FALSE, sizeof(PrefetchPiece));
    s->rand = g_rand_new();
    if (fill_in(s, args, &info, errp) < 0) {
        job_early_fail(&s->common.job);
        return NULL;
    }
    return &s->common;
}
