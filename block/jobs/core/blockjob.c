/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockJob: a job on nodes.
 *
 *     [ source ]            [ target ]
 *         ^                     ^        drained_begin -> job_pause
 *         | "main node"         |        drained_poll  -> is the job not in its pause yet?
 *         +------ BlockJob -----+        drained_end   -> job_resume
 *
 * BJ1  Each node in use has an edge whose parent is the job, from creation to just before the event
 *      that tells of the end: a quiesce of the node pauses the job, a move of the tree takes it along.
 * BJ2  What must not happen to a node meanwhile is blocked with a reason that names the job's type.
 * BJ3  A change of speed counts from now on: the limit forgets what it was owed and the job is woken.
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/jobs/blockjob.h"
#include "block/jobs/core/job-int.h"
#include "block/jobs/core/blockjob-int.h"
#include "util/osdep.h"
#include "trace-jobs.h"

#define OP(type) (1u << BLOCK_OP_TYPE_##type)
#define ALL_OPS  ((1u << BLOCK_OP_TYPE_MAX) - 1)

/* BJ2: nobody turns what a job reads into something else; other jobs may read it too. */
#define SOURCE_BLOCKED_OPS \
    (OP(RESIZE) | OP(BACKUP_TARGET) | OP(MIRROR_TARGET) | OP(REPLACE) | OP(DELETE))

static char *child_job_get_parent_desc(BdrvChild *c)
{
    BlockJob *job = c->opaque;

    return g_strdup_printf("block job '%s'", job_name(&job->job));
}

static void child_job_drained_begin(BdrvChild *c)
{
    BlockJob *job = c->opaque;

    job_pause(&job->job);
    if (job->driver->drained_changed) {
        job->driver->drained_changed(job);
    }
}

/* JC5 */
static bool child_job_drained_poll(BdrvChild *c)
{
    BlockJob *bjob = c->opaque;
    Job *job = &bjob->job;

    if (job->co && !job->deferred_to_main_loop &&
        (!job->paused || __atomic_load_n(&job->wakes, __ATOMIC_SEQ_CST) > 0)) {
        return true;
    }
    return bjob->driver->drained_poll && bjob->driver->drained_poll(bjob);
}

static void child_job_drained_end(BdrvChild *c)
{
    BlockJob *job = c->opaque;

    job_resume(&job->job);
    if (job->driver->drained_changed) {
        job->driver->drained_changed(job);
    }
}

static void visit_tree(BlockDriverState *bs, GHashTable *seen)
{
    BdrvChild *c;

    if (!g_hash_table_add(seen, bs)) {
        return;
    }
    QLIST_FOREACH (c, &bs->children, next) {
        visit_tree(c->bs, seen);
    }
    QLIST_FOREACH (c, &bs->parents, next_parent) {
        if (c->klass->parent_is_bds) {
            visit_tree(c->opaque, seen);
        }
    }
}

/* BJ1: only if all of the job's nodes are in the tree that moves. */
static bool child_job_can_change_aio_context(BdrvChild *c, AioContext *ctx, Error **errp)
{
    g_autoptr(GHashTable) tree = g_hash_table_new(NULL, NULL);
    BlockJob *job = c->opaque;

    visit_tree(c->bs, tree);
    for (GSList *l = job->nodes; l; l = l->next) {
        BlockDriverState *other = ((BdrvChild *)l->data)->bs;

        if (!g_hash_table_contains(tree, other)) {
            error_setg(errp,
                       "Cannot change iothread of node '%s': block job '%s' also uses node '%s'",
                       bdrv_get_node_name(c->bs), job_name(&job->job), bdrv_get_node_name(other));
            return false;
        }
    }
    return true;
}

/* JC3: the job is in its pause, or does not run. */
static void child_job_set_aio_context(BdrvChild *c, AioContext *ctx)
{
    BlockJob *job = c->opaque;

    __atomic_store_n(&job->job.aio_context, ctx, __ATOMIC_SEQ_CST);
}

static const BdrvChildClass child_job = {
    .stay_at_node = true,
    .get_parent_desc = child_job_get_parent_desc,
    .drained_begin = child_job_drained_begin,
    .drained_poll = child_job_drained_poll,
    .drained_end = child_job_drained_end,
    .can_change_aio_context = child_job_can_change_aio_context,
    .set_aio_context = child_job_set_aio_context,
};

static void block_ops(BlockJob *job, BlockDriverState *bs, unsigned mask)
{
    g_autofree char *reason = g_strdup_printf("block device is in use by block job: %s",
                                              JobType_str(job->job.driver->job_type));

    job->blockers = g_slist_prepend(job->blockers, bdrv_op_block(bs, mask, reason));
}

void block_job_block_ops(BlockJob *job, BlockDriverState *bs)
{
    block_ops(job, bs, ALL_OPS);
}

static BdrvChild *add_node(BlockJob *job, const char *name, BlockDriverState *bs, uint64_t perm,
                           uint64_t shared, Error **errp)
{
    BdrvChild *c = bdrv_root_attach_child(bs, name, &child_job, 0, perm, shared, job, errp);

    if (c) {
        job->nodes = g_slist_append(job->nodes, c);
    }
    return c;
}

BdrvChild *block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs, uint64_t perm,
                              uint64_t shared, Error **errp)
{
    BdrvChild *c = add_node(job, name, bs, perm, shared, errp);

    if (c) {
        block_job_block_ops(job, bs);
    }
    return c;
}

BdrvChild *block_job_source(BlockJob *job)
{
    return job->nodes ? job->nodes->data : NULL;
}

void coroutine_fn block_job_co_remove_all_bdrv(BlockJob *job)
{
    g_slist_free_full(g_steal_pointer(&job->blockers), (GDestroyNotify)bdrv_op_unblock);
    while (job->nodes) {
        BdrvChild *c = job->nodes->data;

        job->nodes = g_slist_delete_link(job->nodes, job->nodes);
        bdrv_co_root_unref_child(c);
    }
}

static bool check_speed(int64_t speed, Error **errp)
{
    if (speed < 0) {
        error_setg(errp, "Parameter 'speed' expects a non-negative value");
        return false;
    }
    return true;
}

static void set_limit(BlockJob *job, int64_t speed)
{
    job->speed = speed;
    g_mutex_lock(&job->limit_lock);
    ratelimit_set_speed(&job->limit, speed, BLOCK_JOB_SLICE_TIME_NS);
    g_mutex_unlock(&job->limit_lock);
}

static void co_release(Job *job)
{
    block_job_co_remove_all_bdrv(container_of(job, BlockJob, job));
}

static void user_resumed(Job *job)
{
    block_job_iostatus_reset(container_of(job, BlockJob, job));
}

static void block_job_free(Job *j)
{
    BlockJob *job = container_of(j, BlockJob, job);

    assert(!job->nodes);
    assert(!job->blockers);
    g_mutex_clear(&job->limit_lock);
}

static const JobKind block_job_kind = {
    .ready = block_job_event_ready,
    .pending = block_job_event_pending,
    .finished = block_job_event_finished,
    .user_resumed = user_resumed,
    .co_release = co_release,
    .free = block_job_free,
};

/* An id of its own, or the device's name; "" is refused by the core. */
static const char *default_id(BlockDriverState *bs)
{
    const char *device = bdrv_device_name_hook ? bdrv_device_name_hook(bs) : NULL;

    return device ? device : "";
}

void *block_job_create(const char *job_id, const BlockJobDriver *driver, JobTxn *txn,
                       BlockDriverState *bs, uint64_t perm, uint64_t shared, int64_t speed,
                       int flags, Error **errp)
{
    BlockJob *job;

    if (!job_id && !(flags & JOB_INTERNAL)) {
        job_id = default_id(bs);
    }
    job = job_create(job_id, &driver->job_driver, txn, bdrv_get_aio_context(bs), flags, errp);
    if (!job) {
        return NULL;
    }
    job->driver = driver;
    job->job.kind = &block_job_kind;
    g_mutex_init(&job->limit_lock);
    ratelimit_init(&job->limit);
    if (!check_speed(speed, errp) || !add_node(job, "main node", bs, perm, shared, errp)) {
        /* The driver has set up nothing yet: it only hears of free(). */
        job_txn_remove(&job->job);
        job_dismiss(&job->job);
        return NULL;
    }
    block_ops(job, bs, SOURCE_BLOCKED_OPS);
    set_limit(job, speed);
    return job;
}

BlockJob *block_job_of(Job *job)
{
    return job->kind == &block_job_kind ? container_of(job, BlockJob, job) : NULL;
}

BlockJob *block_job_get(const char *id, Error **errp)
{
    Job *job = job_get(id);

    if (!job || !block_job_of(job)) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id);
        return NULL;
    }
    return block_job_of(job);
}

BlockJob *block_job_next(BlockJob *job)
{
    Job *j = job_next(job ? &job->job : NULL);

    while (j && !block_job_of(j)) {
        j = job_next(j);
    }
    return j ? block_job_of(j) : NULL;
}

void block_job_user_cancel(BlockJob *job, bool force, Error **errp)
{
    if (job_user_paused(&job->job) && !force) {
        error_setg(errp, "The block job for device '%s' is currently paused", job_name(&job->job));
        return;
    }
    job_user_cancel(&job->job, force, errp);
}

bool block_job_set_speed(BlockJob *job, int64_t speed, Error **errp)
{
    if (job_apply_verb(&job->job, JOB_VERB_SET_SPEED, errp) < 0 || !check_speed(speed, errp)) {
        return false;
    }
    trace_block_job_set_speed(job_name(&job->job), speed);
    set_limit(job, speed);
    if (job->driver->set_speed) {
        job->driver->set_speed(job, speed);
    }
    job_nudge(&job->job); /* BJ3 */
    return true;
}

int64_t block_job_ratelimit_delay(BlockJob *job, int64_t n)
{
    int64_t delay_ns;

    g_mutex_lock(&job->limit_lock);
    delay_ns = ratelimit_calculate_delay(&job->limit, n, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    g_mutex_unlock(&job->limit_lock);
    return delay_ns;
}
