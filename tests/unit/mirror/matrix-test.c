/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every kind of mirror with every granularity and copy mode, while guests write all along, and somebody quiesces,
 * pauses, changes modes, sets speeds, and lets operations fail (M1 to M6, T1 to T3, L1, L2, E1).
 *
 *     disk    |===== writer =====|brawl|     |== writer ==|              |== writer ==|
 *             0                                on a chunk's edge            partial chunk
 *
 * Each writer numbers what it writes in a part of its own, so that what was left behind is proved to be the disk
 * at one instant, and what is gone on with to hold every write; brawlers write the same place at once, where both
 * disks must be equal when they have stopped before the end; what nobody writes is the same in the end.
 */
#include <inttypes.h>
#include "block/jobs/mirror/mirror-job.h"
#include "tests/unit/mirror/scene.h"

#define ZONE_BYTES  (384 * KiB)
#define BRAWL_BYTES (32 * KiB)
#define BRAWLERS    3

typedef enum Kind {
    KIND_RAM,
    KIND_BLOCKS,     /* with request alignments of their own */
    KIND_BITMAP,     /* sync=bitmap */
    KIND_CHAIN_FULL, /* the source has a backing file, the target clusters and none */
    KIND_TOP,        /* the target has the same backing file from the start */
    KIND_TOP_LATE,   /* and gets it at the end: M5 */
    KIND_NONE,       /* the target is an overlay of the source */
    KIND_NONE_LATE,  /* and becomes one at the end: M5 */
    KINDS,
} Kind;

typedef enum Ending { END_PIVOT, END_KEEP, END_FORCE, ENDINGS } Ending;
typedef enum Mode { MODE_BACKGROUND, MODE_BLOCKING, MODE_CHANGED, MODES } Mode;

#define GRANULARITIES 15 /* 4 KiB to 64 MiB */

typedef struct Tale {
    /* Fixed by the seed. */
    uint32_t seed;
    Kind kind;
    Mode mode;
    Ending ending;
    int64_t granularity;
    bool with_faults, brawl_on; /* brawlers go on through the end */

    GRand *rand;
    Scene scene;
    BlockDriverState *base; /* NULL: none */
    BdrvDirtyBitmap *bitmap;
    int64_t brawl_start;
    unsigned brawlers;
    bool brawl_stop;
    bool playing; /* somebody does things to the job, until it has completed */
} Tale;

static int64_t random_bytes(Tale *t, int64_t max)
{
    return (int64_t)(g_rand_double(t->rand) * (double)max);
}

static void coroutine_fn random_sleep(Tale *t, int64_t max_ns)
{
    qemu_co_sleep_ns(random_bytes(t, max_ns));
}

/* Those that are to be large are sparse. */
static int64_t choose_size(Tale *t)
{
    int64_t chunk = MAX(t->granularity, MiB);
    int64_t size = chunk * g_rand_int_range(t->rand, 1, chunk > 16 * MiB ? 3 : 5);

    return size + random_bytes(t, chunk) / 512 * 512 + (g_rand_boolean(t->rand) ? 512 : 0);
}

static void poke_here_and_there(Tale *t, BlockDriverState *bs, int64_t size, uint32_t seed)
{
    for (int i = 0; i < 6; i++) {
        int64_t offset = random_bytes(t, size), bytes = random_bytes(t, 128 * KiB) + 1;

        test_ram_poke_pattern(bs, offset, MIN(bytes, size - offset), seed);
    }
}

static void coroutine_fn write_here_and_there(Tale *t, int64_t size)
{
    for (int i = 0; i < 6; i++) {
        int64_t offset = random_bytes(t, size), bytes = random_bytes(t, 128 * KiB) + 1;

        block_test_co_fill(t->scene.user, offset, MIN(bytes, size - offset), 'a' + i);
    }
}

static void coroutine_fn set_up_ram(Tale *t, int64_t size)
{
    static const uint32_t aligns[] = {1, 512, 4096};
    BlockDriverState *source = test_ram_new("source", size), *target = test_ram_new("target", size);
    g_autofree uint8_t *all = NULL;

    poke_here_and_there(t, source, size, 1);
    if (t->kind != KIND_BITMAP) {
        poke_here_and_there(t, target, size, 2);
    }
    scene_use(&t->scene, source, target);
    if (t->kind == KIND_BLOCKS) {
        test_ram_set_alignment(source, aligns[g_rand_int_range(t->rand, 0, 3)]);
        test_ram_set_alignment(target, aligns[g_rand_int_range(t->rand, 0, 3)]);
    }
    if (t->kind == KIND_BITMAP) {
        all = story_co_read_all(source);
        test_ram_poke(target, 0, all, size);
        t->bitmap = bdrv_create_dirty_bitmap(source, 4096, "b", &error_abort);
        write_here_and_there(t, size);
        t->scene.args.sync = MIRROR_SYNC_MODE_BITMAP;
        t->scene.args.sync_bitmap = t->bitmap;
    }
}

static void coroutine_fn set_up_chain(Tale *t, int64_t size)
{
    bool late = t->kind == KIND_TOP_LATE || t->kind == KIND_NONE_LATE;
    bool none = t->kind == KIND_NONE || t->kind == KIND_NONE_LATE;
    int64_t cluster = (4 * KiB) << g_rand_int_range(t->rand, 0, 10);
    BlockDriverState *source, *rest;

    t->base = test_ram_new("base", size);
    poke_here_and_there(t, t->base, size, 9);
    source = test_cow_new("source", size, (4 * KiB) << g_rand_int_range(t->rand, 0, 6), t->base);
    rest = t->kind == KIND_CHAIN_FULL ? NULL : none ? source : t->base;
    scene_use(&t->scene, source, test_cow_new("target", size, cluster, late ? NULL : rest));
    t->scene.args.target_backing = late ? rest : NULL;
    t->scene.args.sync = none   ? MIRROR_SYNC_MODE_NONE
                         : rest ? MIRROR_SYNC_MODE_TOP
                                : MIRROR_SYNC_MODE_FULL;
    write_here_and_there(t, size);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(t->scene.user, size / 2, size / 4, 0), ==, 0);
    test_ram_set_delay(t->base, TEST_RAM_READ, random_bytes(t, 50000));
    test_cow_set_delay(source, random_bytes(t, 200000));
    test_cow_set_delay(t->scene.target, random_bytes(t, 1000000));
}

static bool is_chain(const Tale *t)
{
    return t->base != NULL;
}

/* Three parts of the disk, and the brawlers' behind the first. */
static void coroutine_fn start_writers(Tale *t)
{
    Scene *s = &t->scene;
    int64_t part = s->len / SCENE_WRITERS / 512 * 512;
    int64_t zone = MIN(ZONE_BYTES, part - BRAWL_BYTES);
    int64_t edge = QEMU_ALIGN_DOWN(s->len / 2, t->granularity);
    int64_t starts[SCENE_WRITERS] = {0, MAX(edge - zone / 1024 * 512, part), s->len - zone};

    starts[1] = MIN(starts[1], s->len - 2 * zone);
    t->brawl_start = zone;
    for (unsigned i = 0; i < SCENE_WRITERS; i++) {
        s->writers[i] =
            story_writer_new(&s->user, 1, starts[i], starts[i] + zone, i + 1, t->seed / 7 + i);
        s->writers[i]->may_fail = t->with_faults;
        s->n_writers++;
    }
}

static void coroutine_fn brawler(void *opaque)
{
    Tale *t = opaque;
    Scene *s = &t->scene;
    uint8_t buf[8192];

    while (!t->brawl_stop) {
        int64_t bytes = g_rand_int_range(t->rand, 1, 17) * 512;
        int64_t offset = t->brawl_start + random_bytes(t, BRAWL_BYTES - bytes);
        int ret;

        memset(buf, g_rand_int_range(t->rand, 0, 256), sizeof(buf));
        while (block_test_user_drained(s->user) > 0) {
            qemu_co_sleep_ns(1000);
        }
        if (g_rand_int_range(t->rand, 0, 8) == 0) {
            ret = bdrv_co_pwrite_zeroes(s->user, offset, bytes, BDRV_REQ_MAY_UNMAP);
        } else {
            ret = bdrv_co_pwrite(s->user, offset, bytes, buf, 0);
        }
        g_assert_true(ret == 0 || t->with_faults);
        random_sleep(t, 200000);
    }
    t->brawlers--;
}

static void coroutine_fn brawl_end(Tale *t)
{
    t->brawl_stop = true;
    while (t->brawlers > 0) {
        qemu_co_sleep_ns(1000);
    }
}

/* L2, T2: of the job's own nothing is under way; of guests' neither, where their own node is quiet. */
static void coroutine_fn quiesce(Tale *t, BlockJob *job)
{
    Scene *s = &t->scene;
    BlockDriverState *nodes[2] = {g_rand_boolean(t->rand) ? s->source : s->target, s->target};
    size_t n = nodes[0] == s->target ? 1 : g_rand_int_range(t->rand, 1, 3);

    bdrv_co_drained_begin_list(nodes, n);
    for (int turns = g_rand_int_range(t->rand, 1, 5); turns > 0; turns--) {
        for (size_t i = 0; i < n; i++) {
            g_assert_cmpuint(nodes[i]->in_flight, ==, 0);
        }
        g_assert_cmpint(mirror_job_of(job)->in_flight, ==, 0);
        g_assert_cmpint(mirror_job_of(job)->active_running, ==, 0);
        random_sleep(t, 200000);
    }
    bdrv_co_drained_end_list(nodes, n);
}

/* L2 */
static void coroutine_fn pause_it(Tale *t, BlockJob *job)
{
    job_user_pause(&job->job, NULL);
    for (int turns = 10; turns > 0; turns--) {
        if (job->job.status == JOB_STATUS_PAUSED || job->job.status == JOB_STATUS_STANDBY) {
            g_assert_cmpint(mirror_job_of(job)->in_flight, ==, 0);
        }
        random_sleep(t, 200000);
    }
    job_user_resume(&job->job, NULL);
}

/* The source's reads fail only where guests do none: their writes are not to fail by ours. */
static void set_fault(Tale *t)
{
    Scene *s = &t->scene;
    int error = g_rand_boolean(t->rand) ? EIO : ENOSPC, count = g_rand_int_range(t->rand, 1, 4);

    if (is_chain(t)) {
        return;
    }
    if (g_rand_int_range(t->rand, 0, 3) == 0) {
        test_ram_set_error(s->source, TEST_RAM_READ, random_bytes(t, s->len), s->len / 4, EIO,
                           count);
        return;
    }
    test_ram_set_late_errors(s->target, g_rand_boolean(t->rand));
    test_ram_set_error(s->target, TEST_RAM_WRITE | TEST_RAM_ZERO | TEST_RAM_FLUSH,
                       random_bytes(t, s->len), s->len / 4, error, count);
}

/* At once, where guests would have to write for seconds until it is found to be needed. */
static void write_through(Tale *t, BlockJob *job)
{
    int level = g_rand_boolean(t->rand) ? MIRROR_HEAT_ALL : MIRROR_HEAT_NONE;

    __atomic_store_n(&mirror_job_of(job)->through_level, level, __ATOMIC_SEQ_CST);
}

static void coroutine_fn play_once(Tale *t, BlockJob *job)
{
    switch (g_rand_int_range(t->rand, 0, 6)) {
    case 0:
    case 1:
        quiesce(t, job);
        break;
    case 2:
        pause_it(t, job);
        break;
    case 3:
        if (t->mode == MODE_CHANGED) {
            mirror_change_copy_mode(job, g_rand_int_range(t->rand, 0, 2), NULL);
            write_through(t, job);
        }
        break;
    case 4:
        block_job_set_speed(job, 0, NULL);
        if (t->with_faults) {
            set_fault(t);
        }
        break;
    default:
        qapi_free_BlockJobInfo(block_job_query(job));
        break;
    }
}

/* Until the job has completed. */
static void coroutine_fn player(void *opaque)
{
    Tale *t = opaque;
    BlockJob *job = t->scene.job;
    int64_t pause_ns = g_rand_boolean(t->rand) ? SCALE_MS : 20 * SCALE_MS;
    int64_t begun = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    job_ref(&job->job);
    while (!job_is_completed(&job->job)) {
        play_once(t, job);
        g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - begun, <, LONG_NS);
        random_sleep(t, pause_ns);
        job_user_resume(&job->job, NULL); /* one that an error has stopped */
    }
    job_unref(&job->job);
    t->playing = false;
}

static void coroutine_fn begin(Tale *t)
{
    int64_t size = choose_size(t);
    Scene *s = &t->scene;

    if (t->kind <= KIND_BITMAP) {
        set_up_ram(t, size);
        test_ram_set_delay(s->source, TEST_RAM_ALL_IO, random_bytes(t, 200000));
        test_ram_set_delay(s->target, TEST_RAM_ALL_IO, random_bytes(t, 1000000));
    } else {
        set_up_chain(t, size);
    }
    start_writers(t);
    for (t->brawlers = 0; t->brawlers < BRAWLERS; t->brawlers++) {
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(brawler, t));
    }
    random_sleep(t, 2 * SCALE_MS);
    scene_watch_target(s, t->granularity);
    if (t->kind == KIND_RAM || t->kind == KIND_BITMAP) {
        scene_watch_source(s);
    }
    s->args.granularity = t->granularity;
    s->args.copy_mode = t->mode == MODE_BLOCKING;
    s->args.cancel_timeout_s = g_rand_int_range(t->rand, 0, 2);
    s->args.unmap = g_rand_boolean(t->rand);
    s->args.buf_size = g_rand_boolean(t->rand) ? 0 : MAX(t->granularity, 256 * KiB);
    s->args.speed = g_rand_int_range(t->rand, 0, 4) ? 0 : random_bytes(t, size) + 256 * KiB;
    s->args.on_source_error =
        g_rand_boolean(t->rand) ? BLOCKDEV_ON_ERROR_IGNORE : BLOCKDEV_ON_ERROR_STOP;
    s->args.on_target_error =
        g_rand_boolean(t->rand) ? BLOCKDEV_ON_ERROR_IGNORE : BLOCKDEV_ON_ERROR_STOP;
    s->args.flags = g_rand_int_range(t->rand, 0, 4) ? 0 : JOB_MANUAL_FINALIZE;
    scene_start(s);
    t->playing = true;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(player, t));
}

static bool is_over(const Job *job)
{
    return job_is_completed((Job *)job) && job->status != JOB_STATUS_WAITING &&
           job->status != JOB_STATUS_PENDING;
}

/* What is left behind is one instant only where it does not show what the other disk does later. */
static bool has_an_instant(const Tale *t)
{
    return t->ending == END_PIVOT || (t->kind != KIND_NONE && t->kind != KIND_NONE_LATE);
}

static void coroutine_fn ask_for_end(Tale *t)
{
    Job *job = &t->scene.job->job;
    Error *err;

    do {
        err = NULL;
        random_sleep(t, SCALE_MS);
        if (t->ending == END_PIVOT) {
            job_user_complete(job, &err);
        } else {
            job_user_cancel(job, t->ending == END_FORCE, &err);
        }
        g_assert_false(job_is_completed(job) && err);
        error_free(err);
    } while (err);
}

static int coroutine_fn end_job(Tale *t)
{
    Scene *s = &t->scene;
    Job *job = &s->job->job;

    if (t->ending == END_FORCE) {
        random_sleep(t, 40 * SCALE_MS);
    }
    while (t->ending != END_FORCE && !job_is_ready(job)) {
        g_assert_false(job_is_completed(job));
        qemu_co_sleep_ns(10000);
    }
    random_sleep(t, 5 * SCALE_MS);
    if (!t->brawl_on) {
        brawl_end(t);
    }
    if (!has_an_instant(t)) {
        scene_stop_writers(s);
    }
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_before(s->writers[i]);
    }
    ask_for_end(t);
    while (!is_over(job)) {
        if (job->status == JOB_STATUS_PENDING) {
            random_sleep(t, 5 * SCALE_MS);
            job_user_finalize(job, NULL);
        }
        qemu_co_sleep_ns(1000);
    }
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_after(s->writers[i]);
    }
    while (t->playing) {
        qemu_co_sleep_ns(1000);
    }
    return scene_wait_end(s);
}

static uint8_t *coroutine_fn read_part(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    uint8_t *part = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(user, offset, bytes, part, BDRV_REQ_NO_SERIALISING), ==, 0);
    block_test_co_user_free(user);
    return part;
}

static void coroutine_fn check_writers(Tale *t, BlockDriverState *bs)
{
    for (unsigned i = 0; i < t->scene.n_writers; i++) {
        StoryWriter *w = t->scene.writers[i];
        g_autofree uint8_t *part = read_part(bs, w->start, w->end - w->start);

        story_writer_check_parts(w, &part);
    }
}

static void coroutine_fn expect_equal(Tale *t, int64_t offset, int64_t end)
{
    while (offset < end) {
        int64_t bytes = MIN(end - offset, 4 * MiB);
        g_autofree uint8_t *a = read_part(t->scene.source, offset, bytes);
        g_autofree uint8_t *b = read_part(t->scene.target, offset, bytes);

        if (memcmp(a, b, bytes) != 0) {
            int64_t i = 0;

            while (a[i] == b[i]) {
                i++;
            }
            g_test_message("The disks differ at %" PRId64, offset + i);
            g_test_fail();
        }
        offset += bytes;
    }
}

/* Where nobody has written since. */
static void coroutine_fn expect_equal_beside_writers(Tale *t)
{
    Scene *s = &t->scene;
    int64_t brawl_end = t->brawl_start + BRAWL_BYTES;

    if (!t->brawl_on) {
        expect_equal(t, t->brawl_start, brawl_end);
    }
    expect_equal(t, brawl_end, s->writers[1]->start);
    expect_equal(t, s->writers[1]->end, s->writers[2]->start);
}

/* A kept target gets what it would have got, as its user does then. */
static void coroutine_fn attach_backing(Tale *t)
{
    if (t->ending == END_KEEP && t->scene.args.target_backing) {
        bdrv_co_set_backing_hd(t->scene.target, t->scene.args.target_backing, &error_abort);
    }
}

static void coroutine_fn clear_faults(Tale *t)
{
    if (!is_chain(t)) {
        test_ram_set_error(t->scene.source, 0, 0, 0, 0, 0);
        test_ram_set_error(t->scene.target, 0, 0, 0, 0, 0);
    }
}

static void coroutine_fn check_end(Tale *t, int ret)
{
    Scene *s = &t->scene;
    bool pivoted = ret == 0 && t->ending == END_PIVOT;

    g_assert_true(s->user->bs == (pivoted ? s->target : s->source));
    clear_faults(t);
    if (ret == 0) {
        g_assert_cmpint(t->ending, !=, END_FORCE);
        attach_backing(t);
        check_writers(t, pivoted ? s->source : s->target);
        expect_equal_beside_writers(t);
    } else if (t->ending == END_FORCE) {
        g_assert_cmpint(ret, ==, -ECANCELED);
    } else {
        g_assert_true(t->with_faults && (ret == -EIO || ret == -ENOSPC));
    }
    random_sleep(t, 2 * SCALE_MS);
    brawl_end(t);
    scene_stop_writers(s);
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_before(s->writers[i]);
        story_writer_after(s->writers[i]);
    }
    check_writers(t, s->user->bs);
}

static void choose(Tale *t, uint32_t seed)
{
    uint32_t n = seed;

    *t = (Tale){.seed = seed, .rand = g_rand_new_with_seed(seed)};
    t->kind = n % KINDS;
    n /= KINDS;
    t->granularity = (4 * KiB) << n % GRANULARITIES;
    n /= GRANULARITIES;
    t->mode = n % MODES;
    n /= MODES;
    t->ending = n % ENDINGS;
    t->with_faults = g_rand_int_range(t->rand, 0, 3) == 0 && t->kind <= KIND_BITMAP;
    t->brawl_on = g_rand_boolean(t->rand);
}

static void coroutine_fn tell(uint32_t seed)
{
    Tale t;
    int ret;

    choose(&t, seed);
    g_test_message("seed %u kind %d granularity %" PRId64 " mode %d end %d faults %d", seed, t.kind,
                   t.granularity, t.mode, t.ending, t.with_faults);
    begin(&t);
    ret = end_job(&t);
    scene_unwatch_source(&t.scene);
    scene_unwatch_target(&t.scene);
    check_end(&t, ret);
    if (t.bitmap) {
        bdrv_release_dirty_bitmap(t.bitmap);
    }
    scene_tear_down(&t.scene);
    if (t.base) {
        bdrv_co_unref(t.base);
    }
    g_rand_free(t.rand);
}

/* Consecutive seeds are all combinations; a few of them, far from each other, are told in the check. */
#define COMBINATIONS  (KINDS * GRANULARITIES * MODES * ENDINGS)
#define USUAL_STORIES 45

static void coroutine_fn test_all_combinations(void)
{
    uint32_t seed = block_test_seed();
    unsigned n = story_seeds(USUAL_STORIES);
    unsigned step = n < COMBINATIONS ? COMBINATIONS / n | 1 : 1;

    for (unsigned i = 0; i < n; i++) {
        tell(seed + i * step);
    }
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/mirror/matrix/whatever is done to it, nothing is lost and nothing repeated",
                   test_all_combinations);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
