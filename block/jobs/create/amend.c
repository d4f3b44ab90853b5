/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job that changes what was chosen when an image was made.
 *
 *     x-blockdev-amend --> CREATED --> RUNNING: driver->image->co_amend() --> CONCLUDED --> job-dismiss
 *
 * The node stays in use meanwhile: its driver says in words what cannot be changed then.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/backend/backend.h"
#include "block/jobs/create.h"
#include "block/jobs/job.h"
#include "qapi/type.h"

typedef struct AmendJob {
    Job common;
    /* Fixed. */
    BlockBackend *blk;
    json_t *options; /* strings, by the names that co_amend() knows */
    bool force;
    /* Atomic. */
    BdrvProgress progress;
} AmendJob;

static int coroutine_fn amend_run(Job *job, Error **errp)
{
    AmendJob *s = (AmendJob *)job;
    BlockDriverState *bs = blk_bs(s->blk);
    AioContext *home = bdrv_get_aio_context(bs), *here = qemu_get_current_aio_context();
    int ret;

    bdrv_inc_in_flight(bs);
    if (home != here) {
        aio_co_reschedule_self(home);
    }
    ret = bs->drv->image->co_amend(bs, s->options, s->force, &s->progress, errp);
    if (home != here) {
        aio_co_reschedule_self(here);
    }
    bdrv_dec_in_flight(bs);
    return ret;
}

static bool amend_cancel(Job *job, bool force)
{
    AmendJob *s = (AmendJob *)job;

    __atomic_store_n(&s->progress.cancelled, true, __ATOMIC_RELAXED);
    return true;
}

static void amend_query(Job *job, JobInfo *info)
{
    AmendJob *s = (AmendJob *)job;
    int64_t total = __atomic_load_n(&s->progress.total, __ATOMIC_RELAXED);
    int64_t done = __atomic_load_n(&s->progress.done, __ATOMIC_RELAXED);
    bool over = job_is_completed(job) && job->ret == 0;

    info->total_progress = total > 0 ? total : 1;
    info->has_rate = info->has_estimated_seconds = false; /* the units are the driver's */
    info->current_progress = over ? info->total_progress : MIN(done, info->total_progress);
}

static void coroutine_fn amend_clean(Job *job)
{
    AmendJob *s = (AmendJob *)job;

    blk_co_unref(s->blk);
    s->blk = NULL;
}

static void amend_free(Job *job)
{
    json_decref(((AmendJob *)job)->options);
}

static const JobDriver amend_job_driver = {
    .instance_size = sizeof(AmendJob),
    .job_type = JOB_TYPE_AMEND,
    .run = amend_run,
    .cancel = amend_cancel,
    .query = amend_query,
    .clean = amend_clean,
    .free = amend_free,
};

/* { a: 1, b: { c: "x" } }  becomes  { a: "1", b.c: "x" }, as -o has it. */
static void flatten(const json_t *from, const char *prefix, json_t *to)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)from, key, value)
    {
        g_autofree char *name = g_strconcat(prefix, key, NULL);
        g_autofree char *inner = g_strconcat(name, ".", NULL);
        g_autofree char *number = NULL;

        if (json_is_object(value)) {
            flatten(value, inner, to);
        } else if (json_is_integer(value)) {
            number = g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
            json_object_set_new(to, name, json_string(number));
        } else if (json_is_boolean(value)) {
            json_object_set_new(to, name, json_string(json_is_true(value) ? "on" : "off"));
        } else if (json_is_string(value)) {
            json_object_set(to, name, value);
        }
    }
}

static json_t *flat_options(const BlockdevAmendOptions *opts)
{
    json_auto_t *all = qapi_BlockdevAmendOptions_to_json(opts);
    json_t *flat = json_object();

    json_object_del(all, "driver");
    flatten(all, "", flat);
    return flat;
}

static int check_node(BlockDriverState *bs, const BlockdevAmendOptions *opts, Error **errp)
{
    const char *format = BlockdevDriver_str(opts->driver);

    if (strcmp(bs->drv->format_name, format) != 0) {
        error_setg(errp, "x-blockdev-amend doesn't support changing the block driver");
        return -EINVAL;
    }
    if (!bs->drv->image || !bs->drv->image->co_amend) {
        error_setg(errp, "Driver does not support x-blockdev-amend");
        return -ENOTSUP;
    }
    return 0;
}

void coroutine_fn blockdev_amend_start(const char *job_id, BlockDriverState *bs,
                                       const BlockdevAmendOptions *opts, bool force, Error **errp)
{
    BlockBackend *blk;
    AmendJob *s;

    if (check_node(bs, opts, errp) < 0) {
        return;
    }
    blk = blk_new(0, BLK_PERM_ALL);
    blk_set_desc(blk, "amend job");
    s = blk_insert_bs(blk, bs, errp) < 0
            ? NULL
            : job_create(job_id, &amend_job_driver, NULL, qemu_get_aio_context(),
                         JOB_MANUAL_DISMISS, errp);
    if (!s) {
        blk_co_unref(blk);
        return;
    }
    s->blk = blk;
    s->options = flat_options(opts);
    s->force = force;
    job_start(&s->common);
}
