/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See story.h. */
#include <stdlib.h>
#include "coro/sleep.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

/* Longest write, in bytes: several clusters of 64 KiB now and then. */
#define WRITE_MAX 200000

/* Every sector says who wrote it last, and with which write. */
static void stamp(uint8_t *buf, int64_t bytes, uint32_t id, uint32_t number)
{
    for (int64_t i = 0; i < bytes; i++) {
        buf[i] = (number * 31 + id * 7 + 1 + i % 13) & 0xff;
    }
    for (int64_t i = 0; i + 8 <= bytes; i += 512) {
        stl_le_p(buf + i, number + 1);
        stl_le_p(buf + i + 4, id);
    }
}

static StoryWrite next_write(StoryWriter *w)
{
    int64_t room = w->end - w->start;
    StoryWrite op = {.disk = g_rand_int_range(w->rand, 0, w->n_disks), .kind = STORY_DATA};
    int64_t unit = w->sector_sized ? 512 : 1;

    op.bytes = g_rand_int_range(w->rand, 0, 8) ? g_rand_int_range(w->rand, 1, 9) * 512
                                               : g_rand_int_range(w->rand, 1, WRITE_MAX);
    op.bytes = MAX(QEMU_ALIGN_DOWN(MIN(op.bytes, room), unit), unit);
    op.offset = w->start + g_rand_int_range(w->rand, 0, room - op.bytes + 1);
    op.offset = QEMU_ALIGN_DOWN(op.offset, unit);
    if (w->with_zeroes && g_rand_int_range(w->rand, 0, 6) == 0) {
        op.kind = STORY_ZEROES;
    } else if (w->with_discards && g_rand_int_range(w->rand, 0, 6) == 0) {
        op.kind = STORY_DISCARD;
    }
    return op;
}

static int coroutine_fn send(StoryWriter *w, const StoryWrite *op, uint32_t number)
{
    g_autofree uint8_t *buf = NULL;

    BdrvRequestFlags unmap = w->with_discards ? BDRV_REQ_MAY_UNMAP : 0;
    BlockBackend *blk = w->blks[op->disk];

    if (op->kind == STORY_DISCARD) {
        return blk ? blk_co_pdiscard(blk, op->offset, op->bytes)
                   : bdrv_co_pdiscard(w->users[op->disk], op->offset, op->bytes);
    }
    if (op->kind == STORY_ZEROES) {
        return blk ? blk_co_pwrite_zeroes(blk, op->offset, op->bytes, unmap)
                   : bdrv_co_pwrite_zeroes(w->users[op->disk], op->offset, op->bytes, unmap);
    }
    buf = g_malloc(op->bytes);
    stamp(buf, op->bytes, w->id, number);
    if (blk) {
        return blk_co_pwrite(blk, op->offset, op->bytes, buf, 0);
    }
    return bdrv_co_pwrite(w->users[op->disk], op->offset, op->bytes, buf, 0);
}

static void coroutine_fn writer_entry(void *opaque)
{
    StoryWriter *w = opaque;

    while (!__atomic_load_n(&w->stop, __ATOMIC_SEQ_CST)) {
        StoryWrite op = next_write(w);

        /* Nobody writes between two requests of a user while its node is quiesced. */
        while (w->users[op.disk] && block_test_user_drained(w->users[op.disk]) > 0) {
            qemu_co_sleep_ns(1000);
        }
        g_array_append_val(w->log, op);
        __atomic_add_fetch(&w->sent, 1, __ATOMIC_SEQ_CST);
        while (send(w, &op, w->log->len - 1) < 0) {
            g_assert_true(w->may_fail);
            do {
                qemu_co_sleep_ns(10000);
            } while (w->users[op.disk] && block_test_user_drained(w->users[op.disk]) > 0);
        }
        __atomic_add_fetch(&w->acked, 1, __ATOMIC_SEQ_CST);
        qemu_co_sleep_ns(g_rand_int_range(w->rand, 0, 3) ? 0
                                                         : g_rand_int_range(w->rand, 0, 200000));
    }
    __atomic_store_n(&w->running, false, __ATOMIC_SEQ_CST);
}

static StoryWriter *new_writer(unsigned n_disks, int64_t start, int64_t end, uint32_t id,
                               uint32_t seed)
{
    StoryWriter *w = g_new0(StoryWriter, 1);

    w->n_disks = n_disks;
    w->start = start;
    w->end = end;
    w->id = id;
    w->rand = g_rand_new_with_seed(seed);
    w->log = g_array_new(FALSE, FALSE, sizeof(StoryWrite));
    w->with_zeroes = seed & 1;
    w->with_discards = seed & 2;
    w->sector_sized = seed & 4;
    w->running = true;
    for (unsigned i = 0; i < n_disks; i++) {
        w->initial[i] = g_malloc(end - start);
    }
    return w;
}

StoryWriter *coroutine_fn story_writer_new(BdrvChild **users, unsigned n_disks, int64_t start,
                                           int64_t end, uint32_t id, uint32_t seed)
{
    StoryWriter *w = new_writer(n_disks, start, end, id, seed);

    for (unsigned i = 0; i < n_disks; i++) {
        w->users[i] = users[i];
        g_assert_cmpint(bdrv_co_pread(users[i], start, end - start, w->initial[i], 0), ==, 0);
    }
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(writer_entry, w));
    return w;
}

StoryWriter *story_writer_new_in_home(BlockBackend **blks, unsigned n_disks, int64_t start,
                                      int64_t end, uint32_t id, uint32_t seed)
{
    StoryWriter *w = new_writer(n_disks, start, end, id, seed);

    for (unsigned i = 0; i < n_disks; i++) {
        w->blks[i] = blks[i];
        test_ram_peek(blk_bs(blks[i]), start, w->initial[i], end - start);
    }
    aio_co_schedule(blk_get_aio_context(blks[0]), qemu_coroutine_create(writer_entry, w));
    return w;
}

void story_writer_before(StoryWriter *w)
{
    w->lo = __atomic_load_n(&w->acked, __ATOMIC_SEQ_CST);
}

void story_writer_after(StoryWriter *w)
{
    w->hi = __atomic_load_n(&w->sent, __ATOMIC_SEQ_CST);
}

void coroutine_fn story_writer_co_stop(StoryWriter *w)
{
    __atomic_store_n(&w->stop, true, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&w->running, __ATOMIC_SEQ_CST)) {
        qemu_co_sleep_ns(1000);
    }
}

/*
 * What a disk may hold: @bytes, and zero instead where @discarded: a discard is advice, done or not.
 */
typedef struct StoryState {
    uint8_t *bytes, *discarded;
} StoryState;

static void replay(StoryWriter *w, guint from, guint to, StoryState *state)
{
    for (guint i = from; i < to; i++) {
        const StoryWrite *op = &g_array_index(w->log, StoryWrite, i);
        int64_t at = op->offset - w->start;

        memset(state[op->disk].discarded + at, op->kind == STORY_DISCARD, op->bytes);
        if (op->kind == STORY_ZEROES) {
            memset(state[op->disk].bytes + at, 0, op->bytes);
        } else if (op->kind == STORY_DATA) {
            stamp(state[op->disk].bytes + at, op->bytes, w->id, i);
        }
    }
}

static bool is_state(const StoryState *state, const uint8_t *copy, int64_t bytes)
{
    if (memcmp(state->bytes, copy, bytes) == 0) {
        return true;
    }
    for (int64_t i = 0; i < bytes; i++) {
        if (copy[i] != state->bytes[i] && (copy[i] != 0 || !state->discarded[i])) {
            return false;
        }
    }
    return true;
}

guint story_writer_check_bytes(StoryWriter *w, uint8_t **copies)
{
    uint8_t *parts[2] = {copies[0] + w->start, w->n_disks > 1 ? copies[1] + w->start : NULL};

    return story_writer_check_parts(w, parts);
}

guint story_writer_check_parts(StoryWriter *w, uint8_t **parts)
{
    int64_t bytes = w->end - w->start;
    StoryState state[2] = {{NULL}};
    guint k;
    bool found = false;

    for (unsigned i = 0; i < w->n_disks; i++) {
        state[i].bytes = g_memdup2(w->initial[i], bytes);
        state[i].discarded = g_malloc0(bytes);
    }
    replay(w, 0, w->lo, state);
    for (k = w->lo; k <= w->hi; k++) {
        found = true;
        for (unsigned i = 0; i < w->n_disks; i++) {
            found = found && is_state(&state[i], parts[i], bytes);
        }
        if (found) {
            break;
        }
        if (k < w->hi) {
            replay(w, k, k + 1, state);
        }
    }
    if (!found) {
        g_test_message("writer %u: no k in [%u, %u] of %u writes", w->id, w->lo, w->hi,
                       w->log->len);
        g_test_fail();
    }
    for (unsigned i = 0; i < w->n_disks; i++) {
        g_free(state[i].bytes);
        g_free(state[i].discarded);
    }
    return k;
}

guint story_writer_check(StoryWriter *w, BlockDriverState **copies)
{
    uint8_t *bytes[2] = {NULL, NULL};
    guint k;

    for (unsigned i = 0; i < w->n_disks; i++) {
        bytes[i] = g_malloc(w->end);
        test_ram_peek(copies[i], 0, bytes[i], w->end);
    }
    k = story_writer_check_bytes(w, bytes);
    for (unsigned i = 0; i < w->n_disks; i++) {
        g_free(bytes[i]);
    }
    return k;
}

uint8_t *coroutine_fn story_co_read_all(BlockDriverState *bs)
{
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    int64_t bytes = bdrv_getlength(bs);
    uint8_t *all = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(user, 0, bytes, all, BDRV_REQ_NO_SERIALISING), ==, 0);
    block_test_co_user_free(user);
    return all;
}

void story_writer_free(StoryWriter *w)
{
    for (unsigned i = 0; i < w->n_disks; i++) {
        g_free(w->initial[i]);
    }
    g_array_free(w->log, TRUE);
    g_rand_free(w->rand);
    g_free(w);
}

BlockJob *coroutine_fn story_co_start_backup(const BackupJobArgs *args)
{
    BlockJob *job;

    bdrv_co_drained_begin(args->source);
    job = backup_co_job_create(args, &error_abort);
    job_ref(&job->job);
    bdrv_co_drained_end(args->source);
    job_start(&job->job);
    return job;
}

int coroutine_fn story_co_wait(BlockJob *job)
{
    int ret;

    while (!job_is_completed(&job->job)) {
        qemu_co_sleep_ns(100000);
    }
    while (job->job.status != JOB_STATUS_CONCLUDED && job->job.status != JOB_STATUS_NULL) {
        qemu_co_sleep_ns(100000);
    }
    ret = job->job.ret;
    job_unref(&job->job);
    return ret;
}

BlockDriverState *story_choose_staging(uint32_t seed, BackupStaging *ret)
{
    static const uint32_t aligns[] = {1, 512, 4096};
    const char *s = g_getenv("STAGING");
    unsigned mode = s ? strtoul(s, NULL, 10) : (seed * 2654435761u >> 16) % 5;
    BlockDriverState *scratch;

    *ret = (BackupStaging){.ram_bytes = mode == 0 ? 0 : 4096, .cow_timeout_ns = mode == 4 ? -1 : 0};
    if (mode != 2 && mode != 3) {
        return NULL;
    }
    scratch = test_ram_new(NULL, 0);
    test_ram_set_alignment(scratch, aligns[seed % 3]);
    test_ram_set_delay(scratch, TEST_RAM_ALL_IO, seed % 7 * 20000);
    ret->scratch = scratch;
    ret->scratch_bytes = mode == 2 ? 64 * MiB : 1 * MiB;
    return scratch;
}

unsigned story_seeds(unsigned usual)
{
    const char *s = g_getenv("SEEDS");

    return s ? strtoul(s, NULL, 10) : usual;
}
