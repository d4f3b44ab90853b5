/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stores: clusters go to the target, the sweep's in long pieces, staged ones by storers.
 *
 *    1  wait until no store and no reader overlaps, enter the list of stores              B3, B8
 *    2  read the source, unless the stage covers all of it
 *    3  take: put what was captured over what was read; from here on the store holds it   G2, G3
 *    4  write the target; on failure keep the buffer and wait for the error policy
 *    5  mark done, leave the list                                                         B4
 *
 *    stage        [ fills slowly ]           the sweep will come by: nothing is sent
 *                 [ half full    ]           storers, a few while guests are busy
 *                 [ a write waits for room ] all storers
 *
 * R1  A store begins only while no disk of the job is quiesced.  Unless somebody whom that quiesce waits
 *     for waits for a store: a write in the source for room, a reader of the target for its cluster.
 * R2  What a store holds is nowhere else: its buffer lives until the target has it or the backup is
 *     over.  So a target that fails for a while (policies stop, enospc, ignore) costs nothing.
 * R3  Storers run beside the planner: a job that the user has paused, or whose sweep is slowed, goes on
 *     giving room back.
 */
#include <errno.h>
#include "block/jobs/backup/backup-job.h"
#include "util/osdep.h"
#include "trace-backup.h"

/* A checkpoint has forgotten what the store was for. */
#define STORE_FORGOTTEN (-ESTALE)

/* On its way, from when it is sent: no other is sent for the same clusters. */
typedef struct Storer {
    BackupBlockJob *job;
    int64_t start, end;
    QLIST_ENTRY(Storer) list;
} Storer;

static bool is_quiesced(const BdrvChild *c)
{
    return c && __atomic_load_n(&c->bs->quiesce_counter, __ATOMIC_SEQ_CST) > 0;
}

/* R1 */
static bool gate_is_closed(const BackupBlockJob *job, bool for_scratch)
{
    if (cow_is_over(job) || __atomic_load_n(&job->readers_waiting, __ATOMIC_SEQ_CST) > 0 ||
        (is_quiesced(job->source) && stage_is_awaited(job->stage))) {
        return false;
    }
    return is_quiesced(job->scratch) || is_quiesced(job->source) ||
           (!for_scratch && is_quiesced(job->target));
}

static void leave_gate(BackupBlockJob *job)
{
    if (__atomic_sub_fetch(&job->stores_running, 1, __ATOMIC_SEQ_CST) == 0) {
        bdrv_drain_kick();
    }
}

static AioContext *home_of(const BackupBlockJob *job)
{
    return __atomic_load_n(&job->common.job.aio_context, __ATOMIC_SEQ_CST);
}

/*
 * A quiesce may have moved the job's nodes: who waited goes on where they are now.  Only past the gate, or in
 * flight, can one be sure that it stays so.
 */
static void coroutine_fn go_home(const BackupBlockJob *job)
{
    while (!in_aio_context(home_of(job))) {
        aio_co_reschedule_self(home_of(job));
    }
}

/* Counted first, looked at after: a quiesce either sees the count or is seen (as D2). */
static void coroutine_fn pass_gate(BackupBlockJob *job, bool for_scratch)
{
    for (;;) {
        bool home;

        __atomic_add_fetch(&job->stores_running, 1, __ATOMIC_SEQ_CST);
        home = in_aio_context(home_of(job));
        if (home && !gate_is_closed(job, for_scratch)) {
            return;
        }
        leave_gate(job);
        if (home) {
            qemu_co_queue_wait(&job->gate, NULL);
        }
        go_home(job);
    }
}

bool store_drained_poll(BlockJob *job)
{
    BackupBlockJob *backup = backup_job_of(job);

    return __atomic_load_n(&backup->stores_running, __ATOMIC_SEQ_CST) > 0 ||
           __atomic_load_n(&backup->readers_waiting, __ATOMIC_SEQ_CST) > 0;
}

/*
 * Counted first, looked at after, as in pass_gate().  Who comes while the source or the scratch is quiesced
 * waits for its end; but not who reads a target that is quiesced too: he is in flight in it, so that quiesce
 * waits for him.
 */
void coroutine_fn store_reader_begin(BackupBlockJob *job)
{
    __atomic_add_fetch(&job->readers_waiting, 1, __ATOMIC_SEQ_CST);
    while ((is_quiesced(job->source) || is_quiesced(job->scratch)) && !is_quiesced(job->target) &&
           !cow_is_over(job)) {
        store_reader_end(job);
        qemu_co_queue_wait(&job->gate, NULL);
        __atomic_add_fetch(&job->readers_waiting, 1, __ATOMIC_SEQ_CST);
    }
    store_wake(job);
}

void store_reader_end(BackupBlockJob *job)
{
    if (__atomic_sub_fetch(&job->readers_waiting, 1, __ATOMIC_SEQ_CST) == 0) {
        bdrv_drain_kick();
    }
}

void store_wake(BackupBlockJob *job)
{
    qemu_co_queue_restart_all(&job->gate);
    qemu_co_queue_restart_all(&job->policy_queue);
}

/* What a store must wait for: a reader, or another store. */
static CowRequest *find_in_way(const BackupBlockJob *job, int64_t start, int64_t end)
{
    CowRequest *req = cow_find_reader(job, start, end);

    return req ? req : cow_find_overlapping(&job->stores, start, end);
}

/* A piece of the sweep that waits, for a quiesce or for others, has nothing in flight. */
static void park(BackupBlockJob *job, bool is_sweep)
{
    if (is_sweep) {
        job->sweep_parked++;
        qemu_co_queue_restart_all(&job->sweep_wait);
    }
}

static void unpark(BackupBlockJob *job, bool is_sweep)
{
    job->sweep_parked -= is_sweep;
}

/* B3, B8, R1: all of it at once, at the end, so that who waits here is in nobody's way. */
void coroutine_fn store_begin(BackupBlockJob *job, StoreOp *op, int64_t start, int64_t end,
                              bool is_sweep)
{
    CowRequest *req;

    qemu_co_rwlock_rdlock(&job->flush_rwlock);
    park(job, is_sweep);
    for (;;) {
        pass_gate(job, false);
        req = find_in_way(job, start, end);
        if (!req) {
            break;
        }
        leave_gate(job);
        qemu_co_queue_wait(&req->wait_queue, NULL);
        go_home(job);
    }
    unpark(job, is_sweep);
    op->held_start = op->held_end = 0;
    cow_request_begin(&op->req, &job->stores, start, end);
}

void coroutine_fn store_end(BackupBlockJob *job, StoreOp *op)
{
    cow_request_end(&op->req);
    leave_gate(job);
    qemu_co_rwlock_unlock(&job->flush_rwlock);
}

void store_forget_held(BackupBlockJob *job)
{
    CowRequest *req;

    QLIST_FOREACH (req, &job->stores, list) {
        StoreOp *op = container_of(req, StoreOp, req);

        op->held_start = op->held_end = 0;
    }
}

void store_note_failure(BackupBlockJob *job, int ret, bool is_read)
{
    if (job->sweep_ret == 0 && !cow_is_over(job)) { /* what a cancel has ended is no failure */
        job->sweep_ret = ret;
        job->sweep_error_is_read = is_read;
    }
    qemu_co_queue_restart_all(&job->sweep_wait);
    job_wake(&job->common.job);
}

void store_retry(BackupBlockJob *job)
{
    job->retries++;
    job->store_blocked = false;
    store_wake(job);
    store_kick(job);
}

/* R2.  Return: 0 to write again. */
static int coroutine_fn wait_for_policy(BackupBlockJob *job, bool is_sweep, int ret)
{
    unsigned seen = job->retries, checkpoints = job->checkpoints;

    store_note_failure(job, ret, false);
    leave_gate(job);
    park(job, is_sweep);
    while (seen == job->retries && checkpoints == job->checkpoints && !cow_is_over(job)) {
        qemu_co_queue_wait(&job->policy_queue, NULL);
        go_home(job);
    }
    pass_gate(job, false);
    unpark(job, is_sweep);
    if (cow_is_over(job)) {
        return ret;
    }
    return checkpoints == job->checkpoints ? 0 : STORE_FORGOTTEN;
}

/* What the store holds to the target, as often as the policy says. */
static int coroutine_fn write_held(BackupBlockJob *job, const StoreOp *op, const void *buf,
                                   bool is_sweep)
{
    int64_t offset = op->held_start * job->cluster_size;
    int64_t bytes = MIN(op->held_end * job->cluster_size, job->len) - offset;
    int ret;

    while ((ret = block_copy_write(&job->copy, offset, bytes, buf)) < 0) {
        trace_backup_do_cow_write_fail(job, offset, ret);
        if (cow_is_over(job)) {
            return ret;
        }
        ret = wait_for_policy(job, is_sweep, ret);
        if (ret < 0) {
            return ret;
        }
    }
    if (!is_sweep) {
        backup_rate_add(&job->store_rate, bytes, backup_now());
    }
    return 0;
}

/* G2, G3: right after the read, without a yield between.  What is in the scratch comes after. */
static int coroutine_fn take(BackupBlockJob *job, StoreOp *op, int64_t start, int64_t end,
                             void *buf)
{
    StageTaken taken;
    int ret;

    stage_take(job->stage, start, end, buf, &taken);
    op->held_start = start;
    op->held_end = end;
    ret = stage_co_take_finish(&taken);
    if (ret < 0) {
        cow_break(job, ret, COW_FAULT_SCRATCH);
    }
    return ret;
}

static int coroutine_fn store_piece(BackupBlockJob *job, StoreOp *op, int64_t start, int64_t end,
                                    void *buf, bool is_sweep, bool *ret_error_is_read)
{
    int64_t offset = start * job->cluster_size;
    int64_t bytes = MIN(end * job->cluster_size, job->len) - offset;
    int ret = 0;

    trace_backup_do_cow_process(job, offset, bytes);
    if (!stage_covers(job->stage, start, end)) {
        ret = block_copy_read(&job->copy, offset, bytes, buf); /* B5 */
    }
    if (ret < 0) {
        trace_backup_do_cow_read_fail(job, offset, ret);
        *ret_error_is_read = true;
        return ret;
    }
    ret = take(job, op, start, end, buf);
    if (ret >= 0 && !cow_is_over(job)) {
        ret = write_held(job, op, buf, is_sweep);
    }
    if (ret >= 0 && !cow_is_over(job)) {
        cow_mark_done(job, start, end); /* B4 */
    }
    op->held_start = op->held_end = 0;
    *ret_error_is_read = false;
    return ret;
}

/* The next run of [start, end) that this store is for; false: none. */
static bool next_run(BackupBlockJob *job, int64_t start, int64_t end, bool is_sweep,
                     int64_t *ret_start, int64_t *ret_end)
{
    int64_t dirty;

    *ret_start = hbitmap_next_zero(job->done_bitmap, start, end - start);
    if (*ret_start >= 0 && !is_sweep) {
        *ret_start = stage_next_cluster(job->stage, *ret_start, end);
    }
    if (*ret_start < 0) {
        return false;
    }
    dirty = hbitmap_next_dirty(job->done_bitmap, *ret_start, end - *ret_start);
    *ret_end = dirty < 0 ? end : dirty;
    for (int64_t c = *ret_start + 1; !is_sweep && c < *ret_end; c++) {
        if (stage_next_cluster(job->stage, c, c + 1) < 0) {
            *ret_end = c;
        }
    }
    return true;
}

static int coroutine_fn store_run(BackupBlockJob *job, StoreOp *op, bool is_sweep,
                                  bool *ret_error_is_read)
{
    CopyPool *pool = is_sweep ? job->sweep_pool : job->store_pool; /* B6 */
    int64_t at_once = copy_pool_chunk_bytes(pool) / job->cluster_size;
    int64_t start = op->req.start, end = op->req.end, run, run_end;
    void *buf = copy_pool_get(pool);
    int ret = 0;

    if (!buf) {
        *ret_error_is_read = true;
        return -ENOMEM;
    }
    while (start < end && ret >= 0 && !cow_is_over(job)) {
        if (!next_run(job, start, end, is_sweep, &run, &run_end)) {
            trace_backup_do_cow_skip(job, start, end - start);
            break;
        }
        run_end = MIN(run_end, run + at_once);
        ret = store_piece(job, op, run, run_end, buf, is_sweep, ret_error_is_read);
        start = run_end;
    }
    copy_pool_put(pool, buf);
    return ret == STORE_FORGOTTEN ? 0 : ret;
}

int coroutine_fn backup_do_cow(BackupBlockJob *job, int64_t offset, int64_t bytes, bool is_sweep,
                               bool *ret_error_is_read)
{
    int64_t start = offset / job->cluster_size;
    int64_t end = MIN(DIV_ROUND_UP(offset + bytes, job->cluster_size), cow_clusters(job));
    StoreOp op;
    int ret;

    store_begin(job, &op, start, end, is_sweep);
    trace_backup_do_cow_enter(job, start, offset, bytes);
    ret = store_run(job, &op, is_sweep, ret_error_is_read);
    store_end(job, &op);
    trace_backup_do_cow_return(job, offset, bytes, ret);
    return ret;
}

static void coroutine_fn storer_entry(void *opaque)
{
    Storer *s = opaque;
    BackupBlockJob *job = s->job;
    bool error_is_read = false;
    int ret = backup_do_cow(job, s->start * job->cluster_size,
                            (s->end - s->start) * job->cluster_size, false, &error_is_read);

    QLIST_REMOVE(s, list);
    g_free(s);
    job->n_storers--;
    if (ret < 0 && !cow_is_over(job)) { /* the source: what was staged is staged still */
        job->store_blocked = true;
        store_note_failure(job, ret, error_is_read);
    }
    qemu_co_queue_restart_all(&job->sweep_wait);
    store_kick(job);
}

static void send_storer(BackupBlockJob *job, int64_t start, int64_t end)
{
    Storer *s = g_new(Storer, 1);

    *s = (Storer){.job = job, .start = start, .end = end};
    QLIST_INSERT_HEAD(&job->storers, s, list);
    job->n_storers++;
    job->store_cursor = end;
    aio_co_schedule(job->common.job.aio_context, qemu_coroutine_create(storer_entry, s));
}

/* The end of what is on its way already at @cluster; @cluster itself: nothing is. */
static int64_t end_of_store_at(const BackupBlockJob *job, int64_t cluster)
{
    CowRequest *req = cow_find_overlapping(&job->stores, cluster, cluster + 1);
    Storer *s;

    if (req) {
        return req->end;
    }
    QLIST_FOREACH (s, &job->storers, list) {
        if (cluster >= s->start && cluster < s->end) {
            return s->end;
        }
    }
    return cluster;
}

/* The first staged cluster of [start, end) that is to be stored, or -1. */
static int64_t next_to_store(const BackupBlockJob *job, int64_t start, int64_t end)
{
    int64_t c = start;

    while ((c = stage_next_cluster(job->stage, c, end)) >= 0 && job->last &&
           !hbitmap_get(job->last, c)) {
        c++;
    }
    return c;
}

void store_close(BackupBlockJob *job)
{
    int64_t end = cow_clusters(job);

    assert(!job->last);
    job->last = hbitmap_alloc(end, 0);
    job->lost = hbitmap_alloc(end, 0);
    for (int64_t c = 0; (c = stage_next_cluster(job->stage, c, end)) >= 0; c++) {
        hbitmap_set(job->last, c, 1);
    }
}

bool store_is_closed(const BackupBlockJob *job)
{
    return job->n_storers == 0 && next_to_store(job, 0, cow_clusters(job)) < 0;
}

bool store_wants(const BackupBlockJob *job, int64_t start, int64_t end)
{
    return next_to_store(job, start, end) >= 0;
}

/* Staged clusters of [from, to) that nobody has been sent for, as many in a row as a storer takes. */
static bool find_staged(const BackupBlockJob *job, int64_t from, int64_t to, int64_t *ret_start,
                        int64_t *ret_end)
{
    int64_t most = copy_pool_chunk_bytes(job->store_pool) / job->cluster_size;
    int64_t c = from;

    while ((c = next_to_store(job, c, to)) >= 0) {
        int64_t end = end_of_store_at(job, c);

        if (end == c) {
            *ret_start = c;
            while (c < to && c - *ret_start < most && end_of_store_at(job, c) == c &&
                   next_to_store(job, c, c + 1) >= 0) {
                c++;
            }
            *ret_end = c;
            return true;
        }
        c = end;
    }
    return false;
}

/* How many storers there should be now. */
static int storers_wanted(const BackupBlockJob *job)
{
    bool pressed = stage_percent(job->stage) >= BACKUP_STAGE_PRESSURE;

    if (job->store_blocked || cow_is_over(job)) {
        return 0;
    }
    if (stage_is_awaited(job->stage)) {
        return BACKUP_STORERS;
    }
    if (job->store_all || pressed ||
        (job->sweep_rests && stage_ram_percent(job->stage) >= BACKUP_STAGE_PRESSURE)) {
        return backup_pace_guest_is_busy(&job->pace, backup_now()) && !pressed ? BACKUP_STORERS_BUSY
                                                                               : BACKUP_STORERS;
    }
    return 0;
}

void store_kick(BackupBlockJob *job)
{
    int64_t start, end;

    if (stage_is_awaited(job->stage)) {
        store_wake(job); /* R1: a quiesced source waits for that write */
    }
    while (job->n_storers < storers_wanted(job) &&
           (find_staged(job, job->store_cursor, cow_clusters(job), &start, &end) ||
            find_staged(job, 0, job->store_cursor, &start, &end))) {
        send_storer(job, start, end);
    }
}

/* What the stage asks of us. */

static bool stage_op_is_safe(void *opaque, int64_t cluster)
{
    BackupBlockJob *job = opaque;
    CowRequest *req;

    if (hbitmap_get(job->done_bitmap, cluster)) {
        return true;
    }
    QLIST_FOREACH (req, &job->stores, list) {
        const StoreOp *op = container_of(req, StoreOp, req);

        if (cluster >= op->held_start && cluster < op->held_end) { /* G3 */
            return true;
        }
    }
    return false;
}

static bool stage_op_is_over(void *opaque)
{
    return cow_is_over(opaque);
}

static void stage_op_changed(void *opaque)
{
    BackupBlockJob *job = opaque;
    StageStats stats;

    stage_stats(job->stage, &stats);
    backup_watch_staging(&job->common, &job->alarm, stats.ram_bytes + stats.scratch_bytes,
                         stats.ram_limit + stats.scratch_limit);
    if (job->sweep_gave_way && !stage_is_awaited(job->stage)) {
        qemu_co_queue_restart_all(&job->sweep_wait);
    }
    store_kick(job);
}

static void coroutine_fn stage_op_io_begin(void *opaque)
{
    pass_gate(opaque, true);
}

static void stage_op_io_end(void *opaque)
{
    leave_gate(opaque);
}

static int64_t stage_op_cursor(void *opaque)
{
    BackupBlockJob *job = opaque;

    return job->store_all ? -1 : job->sweep_offset / job->cluster_size;
}

static const StageOps stage_ops = {
    .is_safe = stage_op_is_safe,
    .is_over = stage_op_is_over,
    .changed = stage_op_changed,
    .cursor = stage_op_cursor,
    .io_begin = stage_op_io_begin,
    .io_end = stage_op_io_end,
};

void store_init(BackupBlockJob *job, int64_t ram_bytes, int64_t scratch_bytes)
{
    StageConfig config = {
        .source = job->source,
        .scratch = job->scratch,
        .length = job->len,
        .cluster_bytes = job->cluster_size,
        .ram_bytes = ram_bytes,
        .scratch_bytes = scratch_bytes,
        .wait_ns = job->cow_timeout_ns,
        .ops = &stage_ops,
        .opaque = job,
    };

    job->copy.is_over = stage_op_is_over;
    job->copy.opaque = job;
    job->stage = stage_new(&config);
    job->store_all = job->sync_mode == MIRROR_SYNC_MODE_NONE;
    job->store_pool =
        copy_pool_new(job->source->bs, MAX(BACKUP_STORE_BYTES, job->cluster_size), BACKUP_STORERS);
}
