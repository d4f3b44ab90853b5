/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sync=top and sync=none, on overlays with clusters and a backing file.
 *
 *   top     base <- source        base <- target        what the base has is not copied
 *   none    source <- target                            what is overwritten is copied, nothing else;
 *                                                       a CowRequest makes reading the target safe (B8)
 */
#include "aio/timer.h"
#include "block/block_backup.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define DISK_BYTES (2 * MiB + 3 * 512)

static void fill(BlockDriverState *ram, GRand *rand, uint32_t seed)
{
    for (int64_t offset = 0; offset < DISK_BYTES; offset += 64 * KiB) {
        if (g_rand_boolean(rand)) {
            test_ram_poke_pattern(ram, offset, MIN(64 * KiB, DISK_BYTES - offset), seed + offset);
        }
    }
}

static void coroutine_fn top_story(uint32_t seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    BlockDriverState *base = test_ram_new("base", DISK_BYTES);
    BlockDriverState *source, *target, *scratch;
    BackupJobArgs args = {.job_id = "b", .sync = MIRROR_SYNC_MODE_TOP};
    StoryWriter *w;
    BdrvChild *user;
    uint8_t *copy;
    BlockJob *job;

    g_test_message("seed %u", seed);
    fill(base, rand, seed);
    source = test_cow_new("source", DISK_BYTES, (4 * KiB) << g_rand_int_range(rand, 0, 6), base);
    target = test_cow_new("target", DISK_BYTES, (4 * KiB) << g_rand_int_range(rand, 0, 7), base);
    user = block_test_user(source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    w = story_writer_new(&user, 1, 0, DISK_BYTES, 0, seed);
    qemu_co_sleep_ns(g_rand_int_range(rand, 0, 1000000));
    args.source = source;
    args.target = target;
    scratch = story_choose_staging(seed, &args.staging);
    story_writer_before(w);
    job = story_co_start_backup(&args);
    story_writer_after(w);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    story_writer_co_stop(w);
    copy = story_co_read_all(target);
    story_writer_check_bytes(w, &copy);
    g_free(copy);
    story_writer_free(w);
    block_test_co_user_free(user);
    bdrv_co_unref(target);
    bdrv_co_unref(source);
    bdrv_co_unref(base);
    if (scratch) {
        bdrv_co_unref(scratch);
    }
    g_rand_free(rand);
}

/* Reads pieces of the target, each inside a CowRequest, until it has all of them. */
static void coroutine_fn read_with_requests(BlockJob *job, BdrvChild *reader, GRand *rand,
                                            uint8_t *out)
{
    int64_t sectors = DISK_BYTES / BDRV_SECTOR_SIZE;

    for (int64_t sector = 0; sector < sectors;) {
        int n = MIN(g_rand_int_range(rand, 1, 500), sectors - sector);
        CowRequest req;

        backup_wait_for_overlapping_requests(job, sector, n);
        backup_cow_request_begin(&req, job, sector, n);
        g_assert_cmpint(bdrv_co_pread(reader, sector * BDRV_SECTOR_SIZE, n * BDRV_SECTOR_SIZE,
                                      out + sector * BDRV_SECTOR_SIZE, BDRV_REQ_NO_SERIALISING),
                        ==, 0);
        backup_cow_request_end(&req);
        sector += n;
        qemu_co_sleep_ns(g_rand_int_range(rand, 0, 20000));
    }
}

/* As an export does: it knows of no job, the guard of the target keeps it safe (B11). */
static void coroutine_fn read_plainly(BdrvChild *reader, GRand *rand, uint8_t *out)
{
    for (int64_t offset = 0, n; offset < DISK_BYTES; offset += n) {
        n = MIN(g_rand_int_range(rand, 1, 300000), DISK_BYTES - offset);
        g_assert_cmpint(bdrv_co_pread(reader, offset, n, out + offset, 0), ==, 0);
        qemu_co_sleep_ns(g_rand_int_range(rand, 0, 20000));
    }
}

static void coroutine_fn none_story(uint32_t seed, bool with_requests)
{
    GRand *rand = g_rand_new_with_seed(seed);
    BlockDriverState *source = test_ram_new("source", DISK_BYTES), *target, *scratch;
    BackupJobArgs args = {.job_id = "b", .sync = MIRROR_SYNC_MODE_NONE};
    g_autofree uint8_t *copy = g_malloc(DISK_BYTES);
    BdrvChild *user, *reader;
    StoryWriter *w;
    BlockJob *job;

    g_test_message("seed %u", seed);
    fill(source, rand, seed);
    test_ram_set_alignment(source, g_rand_boolean(rand) ? 512 : 4096);
    test_ram_set_delay(source, TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 20000));
    target = test_cow_new("target", DISK_BYTES, (4 * KiB) << g_rand_int_range(rand, 0, 7), source);
    user = block_test_user(source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    reader = block_test_user(target, BLK_PERM_CONSISTENT_READ);
    w = story_writer_new(&user, 1, 0, DISK_BYTES, 0, seed);
    qemu_co_sleep_ns(g_rand_int_range(rand, 0, 1000000));
    args.source = source;
    args.target = target;
    scratch = story_choose_staging(seed, &args.staging);
    story_writer_before(w);
    job = story_co_start_backup(&args);
    story_writer_after(w);
    for (int i = 0; i < 3; i++) {
        if (with_requests) {
            read_with_requests(job, reader, rand, copy);
        } else {
            read_plainly(reader, rand, copy);
        }
        story_writer_check_bytes(w, &copy);
    }
    job_user_cancel(&job->job, false, &error_abort);
    g_assert_cmpint(story_co_wait(job), ==, -ECANCELED);
    story_writer_co_stop(w);
    story_writer_free(w);
    block_test_co_user_free(reader);
    block_test_co_user_free(user);
    bdrv_co_unref(target);
    bdrv_co_unref(source);
    if (scratch) {
        bdrv_co_unref(scratch);
    }
    g_rand_free(rand);
}

static void coroutine_fn test_top_copies_the_top_layer_of_one_instant(void)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(60); i++) {
        top_story(first + i);
    }
}

static void coroutine_fn test_none_shows_one_instant_to_a_reader_with_requests(void)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(60); i++) {
        none_story(first + i, true);
    }
}

static void coroutine_fn test_none_shows_one_instant_to_a_plain_reader(void)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(60); i++) {
        none_story(first + i, false);
    }
}

typedef struct Held {
    BlockDriverState *source, *target;
    BdrvChild *user, *reader;
    BlockJob *job;
} Held;

static Held coroutine_fn hold_begin(void)
{
    Held h = {.source = test_ram_new("source", DISK_BYTES)};
    BackupJobArgs args = {.job_id = "b", .sync = MIRROR_SYNC_MODE_NONE};

    h.target = test_cow_new("target", DISK_BYTES, 64 * KiB, h.source);
    h.user = block_test_user(h.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    h.reader = block_test_user(h.target, BLK_PERM_CONSISTENT_READ);
    block_test_co_fill(h.user, 0, 256 * KiB, 'o');
    args.source = h.source;
    args.target = h.target;
    h.job = story_co_start_backup(&args);
    return h;
}

static void coroutine_fn hold_end(Held *h)
{
    job_user_cancel(&h->job->job, false, &error_abort);
    story_co_wait(h->job);
    block_test_co_user_free(h->reader);
    block_test_co_user_free(h->user);
    bdrv_co_unref(h->target);
    bdrv_co_unref(h->source);
}

/* B8: while the reader holds the range, guests' writes to it wait, copied already or not. */
static void coroutine_fn test_a_reader_that_holds_a_request_sees_only_old_contents(void)
{
    Held h = hold_begin();
    BlockTestRequest *writes[4];
    CowRequest req;

    backup_wait_for_overlapping_requests(h.job, 0, 256);
    backup_cow_request_begin(&req, h.job, 0, 256);
    writes[0] = block_test_co_start(h.user, BLOCK_TEST_WRITE, 0, 4096, 'n');
    writes[1] = block_test_co_start(h.user, BLOCK_TEST_WRITE, 5000, 100, 'n');
    writes[2] = block_test_co_start(h.user, BLOCK_TEST_WRITE_ZEROES, 64 * KiB, 64 * KiB, 0);
    writes[3] = block_test_co_start(h.user, BLOCK_TEST_WRITE, 200 * KiB, 4096, 'n'); /* not held */
    g_assert_cmpint(block_test_co_join(writes[3]), ==, 0);
    block_test_co_settle();
    for (int i = 0; i < 3; i++) {
        g_assert_false(block_test_done(writes[i]));
    }
    block_test_co_expect(h.reader, 0, 128 * KiB, 'o');
    backup_cow_request_end(&req);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(block_test_co_join(writes[i]), ==, 0);
    }
    block_test_co_expect(h.reader, 0, 256 * KiB, 'o'); /* copied by now */
    block_test_co_expect(h.user, 0, 4096, 'n');

    /* Copied before, and held again: still nothing passes. */
    backup_wait_for_overlapping_requests(h.job, 0, 8);
    backup_cow_request_begin(&req, h.job, 0, 8);
    writes[0] = block_test_co_start(h.user, BLOCK_TEST_WRITE, 0, 4096, 'm');
    block_test_co_settle();
    g_assert_false(block_test_done(writes[0]));
    backup_cow_request_end(&req);
    g_assert_cmpint(block_test_co_join(writes[0]), ==, 0);
    hold_end(&h);
}

/*
 * What the guard is for (B11): the reader has found the cluster missing from the target and is about to
 * read the source, when a guest's write comes.
 */
static void coroutine_fn test_a_plain_reader_sees_old_data_too(void)
{
    Held h = hold_begin();
    BlockTestRequest *read, *write;
    uint8_t byte;

    test_ram_set_delay(h.source, TEST_RAM_READ, 1000000);
    read = block_test_co_start(h.reader, BLOCK_TEST_READ, 0, 512, 0);
    block_test_co_settle();
    test_ram_set_delay(h.source, TEST_RAM_READ, 0);
    write = block_test_co_start(h.user, BLOCK_TEST_WRITE, 0, 4096, 'n');
    block_test_co_settle();
    g_assert_false(block_test_done(write));
    g_assert_cmpint(block_test_co_join_read(read, &byte, 1), ==, 0);
    g_assert_cmpint(byte, ==, 'o');
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    block_test_co_expect(h.reader, 0, 4096, 'o');
    hold_end(&h);
}

/* B9, B11: captured, and the target takes its time: the reader waits for it, the writer does not. */
static void coroutine_fn test_a_reader_waits_for_what_is_on_its_way(void)
{
    Held h = hold_begin();
    BlockTestRequest *read;
    uint8_t byte;

    test_ram_hold(h.source, TEST_RAM_READ, 4096, 4096); /* the store's read of the rest */
    block_test_co_fill(h.user, 0, 4096, 'n');
    read = block_test_co_start(h.reader, BLOCK_TEST_READ, 0, 512, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(read));
    test_ram_release(h.source);
    g_assert_cmpint(block_test_co_join_read(read, &byte, 1), ==, 0);
    g_assert_cmpint(byte, ==, 'o');
    hold_end(&h);
}

/* backup_do_checkpoint(): from now on the next write copies again. */
static void coroutine_fn test_a_checkpoint_forgets_what_was_copied(void)
{
    Held h = hold_begin();
    Error *err = NULL;
    uint64_t before;

    block_test_co_fill(h.user, 0, 4096, 'n');
    block_test_co_expect(h.reader, 0, 4096, 'o');
    before = test_ram_counts(h.source)->reads;
    block_test_co_fill(h.user, 0, 4096, 'm');
    g_assert_cmpuint(test_ram_counts(h.source)->reads, ==, before);
    bdrv_co_drained_begin(h.source);
    backup_do_checkpoint(h.job, &err);
    bdrv_co_drained_end(h.source);
    g_assert_null(err);
    block_test_co_fill(h.user, 0, 4096, 'l');
    block_test_co_expect(h.reader, 0, 4096, 'm');
    hold_end(&h);
}

/* What is copied once more is more work: progress never shows more done than there is. */
static void coroutine_fn test_progress_stays_within_bounds_after_a_checkpoint(void)
{
    Held h = hold_begin();
    JobInfo *info;

    for (int i = 0; i < 3; i++) {
        block_test_co_fill(h.user, 0, DISK_BYTES, 'n');
        backup_wait_for_overlapping_requests(h.job, 0, DISK_BYTES / BDRV_SECTOR_SIZE);
        info = job_query(&h.job->job);
        g_assert_cmpint(info->current_progress, ==, (i + 1) * DISK_BYTES);
        g_assert_cmpint(info->total_progress, ==, (i + 1) * DISK_BYTES);
        qapi_free_JobInfo(info);
        bdrv_co_drained_begin(h.source);
        backup_do_checkpoint(h.job, &error_abort);
        bdrv_co_drained_end(h.source);
    }
    hold_end(&h);
}

static void coroutine_fn test_a_checkpoint_of_a_full_backup_is_refused(void)
{
    BlockDriverState *source = test_ram_new("source", DISK_BYTES);
    BlockDriverState *target = test_ram_new("target", DISK_BYTES);
    BackupJobArgs args = {
        .job_id = "b", .sync = MIRROR_SYNC_MODE_FULL, .source = source, .target = target};
    BlockJob *job = story_co_start_backup(&args);
    Error *err = NULL;

    backup_do_checkpoint(job, &err);
    g_assert_nonnull(err);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "The backup job only supports block checkpoint in sync=none mode");
    error_free(err);
    g_assert_cmpint(story_co_wait(job), ==, 0);
    bdrv_co_unref(source);
    bdrv_co_unref(target);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/backup/overlay/top copies the top layer of one instant",
                   test_top_copies_the_top_layer_of_one_instant);
    block_test_add("/backup/overlay/none shows one instant to a reader with requests",
                   test_none_shows_one_instant_to_a_reader_with_requests);
    block_test_add("/backup/overlay/none shows one instant to a plain reader",
                   test_none_shows_one_instant_to_a_plain_reader);
    block_test_add("/backup/overlay/a reader that holds a request sees only old contents",
                   test_a_reader_that_holds_a_request_sees_only_old_contents);
    block_test_add("/backup/overlay/a plain reader sees old data too",
                   test_a_plain_reader_sees_old_data_too);
    block_test_add("/backup/overlay/a reader waits for what is on its way",
                   test_a_reader_waits_for_what_is_on_its_way);
    block_test_add("/backup/overlay/a checkpoint forgets what was copied",
                   test_a_checkpoint_forgets_what_was_copied);
    block_test_add("/backup/overlay/progress stays within bounds after a checkpoint",
                   test_progress_stays_within_bounds_after_a_checkpoint);
    block_test_add("/backup/overlay/a checkpoint of a full backup is refused",
                   test_a_checkpoint_of_a_full_backup_is_refused);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
