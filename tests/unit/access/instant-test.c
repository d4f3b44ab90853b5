/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The promise of an access (H2, A1 to A4, A6): its view is the disk at one instant, whatever is written
 * meanwhile, however many others there are, and in whatever order they end.  Each story is told by a
 * seed: alignments, delays, writers, room, quiesces, a backup job beside.
 */
#include "aio/timer.h"
#include "coro/sleep.h"
#include "tests/unit/access/access-story.h"
#include "util/osdep.h"

/* The last unit is a partial one.  Behind the writers' part nobody writes, but somebody discards. */
#define WRITTEN_BYTES (2 * MiB + 192 * KiB)
#define DISK_BYTES    (3 * MiB + 5 * 512)
#define WRITERS_MAX   3
#define TAKES         3

/* One access of the story. */
typedef struct Take {
    BackupAccess *access;
    BlockDriverState *scratch;
    AccessWindow window;
    AccessReader *readers[2];
} Take;

typedef struct Story {
    uint32_t seed;
    GRand *rand;
    BlockDriverState *source, *target;
    BdrvChild *users[WRITERS_MAX], *discarder;
    StoryWriter *writers[WRITERS_MAX];
    unsigned n_writers;
    Take takes[TAKES];
    uint8_t *rest; /* what lies behind the writers' part */
    unsigned others;
    bool stop;
} Story;

/* The source is now fast, now slow: requests overtake each other. */
static void coroutine_fn weather_entry(void *opaque)
{
    Story *s = opaque;
    GRand *rand = g_rand_new_with_seed(s->seed ^ 0x57ea7e4);

    while (!s->stop) {
        test_ram_set_delay(s->source, TEST_RAM_ALL_IO | TEST_RAM_STATUS,
                           g_rand_int_range(rand, 0, 60000));
        qemu_co_sleep_ns(g_rand_int_range(rand, 1, 20000));
    }
    g_rand_free(rand);
    s->others--;
}

/* A6: where nothing was captured, nothing of this is done. */
static void coroutine_fn discarder_entry(void *opaque)
{
    Story *s = opaque;
    GRand *rand = g_rand_new_with_seed(s->seed ^ 0xd15ca2d);

    while (!s->stop) {
        int64_t offset = g_rand_int_range(rand, WRITTEN_BYTES, DISK_BYTES);
        int64_t bytes = g_rand_int_range(rand, 1, DISK_BYTES - offset + 1);

        while (block_test_user_drained(s->discarder) > 0) {
            qemu_co_sleep_ns(1000);
        }
        g_assert_cmpint(bdrv_co_pdiscard(s->discarder, offset, bytes), ==, 0);
        qemu_co_sleep_ns(g_rand_int_range(rand, 0, 300000));
    }
    g_rand_free(rand);
    s->others--;
}

static void start_other(Story *s, CoroutineEntry *entry)
{
    s->others++;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(entry, s));
}

static void coroutine_fn start_writers(Story *s)
{
    int64_t share;

    s->n_writers = g_rand_int_range(s->rand, 1, WRITERS_MAX + 1);
    share = QEMU_ALIGN_DOWN(WRITTEN_BYTES / s->n_writers, 512);
    for (unsigned i = 0; i < s->n_writers; i++) {
        int64_t end = i == s->n_writers - 1 ? WRITTEN_BYTES : (int64_t)(i + 1) * share;

        s->users[i] = block_test_user(s->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
        s->writers[i] = story_writer_new(&s->users[i], 1, i * share, end, i, g_rand_int(s->rand));
    }
    qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 3000000));
}

static void coroutine_fn tell_begin(Story *s, uint32_t seed)
{
    static const uint32_t aligns[] = {1, 512, 4096, 16384};

    *s = (Story){.seed = seed, .rand = g_rand_new_with_seed(seed)};
    g_test_message("seed %u", seed);
    s->source = test_ram_new("source", DISK_BYTES);
    s->target = test_ram_new("target", DISK_BYTES);
    s->source->open_flags |= BDRV_O_UNMAP;
    for (int64_t offset = 0; offset < DISK_BYTES; offset += 64 * KiB) {
        if (g_rand_boolean(s->rand)) {
            test_ram_poke_pattern(s->source, offset, MIN(64 * KiB, DISK_BYTES - offset),
                                  s->seed + offset);
        }
    }
    s->rest = g_malloc(DISK_BYTES - WRITTEN_BYTES);
    test_ram_peek(s->source, WRITTEN_BYTES, s->rest, DISK_BYTES - WRITTEN_BYTES);
    test_ram_set_alignment(s->source, aligns[g_rand_int_range(s->rand, 0, 4)]);
    start_other(s, weather_entry);
    start_writers(s);
}

static void coroutine_fn tell_end(Story *s)
{
    s->stop = true;
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_free(s->writers[i]);
        block_test_co_user_free(s->users[i]);
    }
    while (s->others > 0) {
        qemu_co_sleep_ns(1000);
    }
    if (s->discarder) {
        block_test_co_user_free(s->discarder);
    }
    g_assert_true(notifier_with_return_list_empty(&s->source->before_write_notifiers));
    g_assert_cmpint(s->source->refcnt, ==, 1);
    bdrv_co_unref(s->source);
    bdrv_co_unref(s->target);
    g_free(s->rest);
    g_rand_free(s->rand);
}

static void coroutine_fn begin(Story *s, Take *t, unsigned number)
{
    g_autofree char *id = g_strdup_printf("a%u", number);
    BackupAccessDiskArgs disk = {.source = s->source, .device = "disk", .export = "e"};
    BackupAccessArgs args = {.id = id, .disks = &disk, .n_disks = 1, .ram_bytes = 8 * MiB};

    if (g_rand_boolean(s->rand)) {
        disk.scratch = t->scratch = test_ram_new(NULL, 0);
        test_ram_set_delay(t->scratch, TEST_RAM_ALL_IO, g_rand_int_range(s->rand, 0, 200000));
        args.ram_bytes = g_rand_int_range(s->rand, 1, 200) * 4 * KiB;
        args.scratch_bytes = 8 * MiB;
    }
    access_window_before(&t->window, s->writers, s->n_writers);
    t->access = backup_access_co_begin(&args, &error_abort);
    access_window_after(&t->window, s->writers, s->n_writers);
    for (unsigned i = 0; i < ARRAY_SIZE(t->readers); i++) {
        t->readers[i] = access_reader_new(backup_access_view(t->access, 0), g_rand_int(s->rand));
    }
}

/* The readers have what the view is, to the last byte. */
static void coroutine_fn end(Story *s, Take *t)
{
    uint8_t *copy = t->readers[0]->copy;
    BackupAccessDiskStats stats;

    backup_access_disk_stats(t->access, 0, &stats);
    g_assert_cmpstr(stats.error, ==, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(t->readers); i++) {
        access_reader_co_join(t->readers[i]);
        g_assert_cmpint(t->readers[i]->error, ==, 0);
    }
    g_assert_cmpint(memcmp(copy, t->readers[1]->copy, DISK_BYTES), ==, 0);
    g_assert_cmpint(memcmp(copy + WRITTEN_BYTES, s->rest, DISK_BYTES - WRITTEN_BYTES), ==, 0);
    access_window_check(&t->window, s->writers, s->n_writers, copy);
    backup_access_disk_stats(t->access, 0, &stats);
    g_assert_cmpstr(stats.error, ==, NULL);
    g_assert_cmpint(stats.ram_bytes, <=, stats.ram_limit);
    g_assert_cmpint(stats.scratch_bytes, <=, stats.scratch_limit);
    for (unsigned i = 0; i < ARRAY_SIZE(t->readers); i++) {
        access_reader_co_free(t->readers[i]);
    }
    backup_access_co_end(t->access, true);
    if (t->scratch) {
        g_assert_cmpint(t->scratch->refcnt, ==, 1);
        bdrv_co_unref(t->scratch);
    }
    *t = (Take){0};
}

/* A7: nothing of ours is in flight in a quiet node, and a quiesce comes to its end. */
static void coroutine_fn disturb(Story *s)
{
    Take *t = &s->takes[g_rand_int_range(s->rand, 0, TAKES)];
    BlockDriverState *quiet[3] = {s->source};
    size_t n = 1;

    if (t->access && g_rand_boolean(s->rand)) {
        quiet[n++] = backup_access_view(t->access, 0);
    }
    if (t->scratch) {
        quiet[n++] = t->scratch;
    }
    if (n > 1 && g_rand_boolean(s->rand)) {
        quiet[0] = quiet[--n];
    }
    bdrv_co_drained_begin_list(quiet, n);
    for (int turns = 0; turns < 5; turns++) {
        for (size_t i = 0; i < n; i++) {
            g_assert_cmpuint(quiet[i]->in_flight, ==, 0);
        }
        qemu_co_sleep_ns(50000);
    }
    bdrv_co_drained_end_list(quiet, n);
}

static void coroutine_fn wander(Story *s)
{
    if (g_rand_int_range(s->rand, 0, 3) == 0) {
        disturb(s);
    } else {
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 2000000));
    }
}

static void coroutine_fn stop_writers(Story *s)
{
    for (unsigned i = 0; i < s->n_writers; i++) {
        story_writer_co_stop(s->writers[i]);
    }
}

/* Accesses come and go in any order; the log of a writer may be looked at while it writes. */
static void coroutine_fn accesses_story(uint32_t seed)
{
    Story s;

    tell_begin(&s, seed);
    for (unsigned round = 0; round < 5; round++) {
        Take *t = &s.takes[g_rand_int_range(s.rand, 0, TAKES)];

        if (t->access) {
            end(&s, t);
        } else {
            begin(&s, t, t - s.takes);
        }
        if (!s.discarder && t->access) {
            s.discarder = block_test_user(s.source, BLK_PERM_WRITE);
            start_other(&s, discarder_entry);
        }
        if (round < 4) {
            wander(&s);
        }
        if (s.discarder && !s.takes[0].access && !s.takes[1].access && !s.takes[2].access) {
            break; /* discards would be done from here on */
        }
    }
    stop_writers(&s);
    for (unsigned i = 0; i < TAKES; i++) {
        if (s.takes[i].access) {
            end(&s, &s.takes[i]);
        }
    }
    tell_end(&s);
}

static void coroutine_fn job_story(uint32_t seed)
{
    BackupJobArgs args = {.job_id = "b", .sync = MIRROR_SYNC_MODE_FULL};
    AccessWindow window;
    BlockJob *job;
    Story s;
    g_autofree uint8_t *copy = g_malloc(DISK_BYTES);

    tell_begin(&s, seed);
    args.source = s.source;
    args.target = s.target;
    begin(&s, &s.takes[0], 0);
    wander(&s);
    access_window_before(&window, s.writers, s.n_writers);
    job = story_co_start_backup(&args);
    access_window_after(&window, s.writers, s.n_writers);
    wander(&s);
    begin(&s, &s.takes[1], 1);
    if (g_rand_boolean(s.rand)) {
        end(&s, &s.takes[0]);
    }
    g_assert_cmpint(story_co_wait(job), ==, 0);
    stop_writers(&s);
    test_ram_peek(s.target, 0, copy, DISK_BYTES);
    access_window_check(&window, s.writers, s.n_writers, copy);
    for (unsigned i = 0; i < 2; i++) {
        if (s.takes[i].access) {
            end(&s, &s.takes[i]);
        }
    }
    tell_end(&s);
}

/* Two disks, alternately written by one writer: its k is one and the same on both. */
static void coroutine_fn two_disks_story(uint32_t seed)
{
    BackupAccessDiskArgs disks[2] = {{.device = "d0", .export = "e0"},
                                     {.device = "d1", .export = "e1"}};
    BackupAccessArgs args = {.id = "two", .disks = disks, .n_disks = 2, .ram_bytes = 8 * MiB};
    GRand *rand = g_rand_new_with_seed(seed);
    BlockDriverState *sources[2];
    AccessReader *readers[2];
    BdrvChild *users[2];
    BackupAccess *access;
    StoryWriter *w;

    g_test_message("seed %u", seed);
    for (unsigned i = 0; i < 2; i++) {
        disks[i].source = sources[i] = test_ram_new(NULL, MiB);
        test_ram_poke_pattern(sources[i], 0, MiB, seed + i);
        test_ram_set_delay(sources[i], TEST_RAM_ALL_IO, g_rand_int_range(rand, 0, 100000));
        users[i] = block_test_user(sources[i], BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    }
    w = story_writer_new(users, 2, 0, MiB, 1, seed);
    qemu_co_sleep_ns(g_rand_int_range(rand, 0, 5000000));
    story_writer_before(w);
    access = backup_access_co_begin(&args, &error_abort);
    story_writer_after(w);
    for (unsigned i = 0; i < 2; i++) {
        readers[i] = access_reader_new(backup_access_view(access, i), g_rand_int(rand));
    }
    for (unsigned i = 0; i < 2; i++) {
        access_reader_co_join(readers[i]);
        g_assert_cmpint(readers[i]->error, ==, 0);
    }
    story_writer_co_stop(w);
    story_writer_check_bytes(w, (uint8_t *[]){readers[0]->copy, readers[1]->copy});
    story_writer_free(w);
    backup_access_co_end(access, false);
    for (unsigned i = 0; i < 2; i++) {
        access_reader_co_free(readers[i]);
        block_test_co_user_free(users[i]);
        g_assert_cmpint(sources[i]->refcnt, ==, 1);
        bdrv_co_unref(sources[i]);
    }
    g_rand_free(rand);
}

static void coroutine_fn tell_many(void coroutine_fn (*story)(uint32_t seed), unsigned usual)
{
    uint32_t first = block_test_seed();

    for (unsigned i = 0; i < story_seeds(usual); i++) {
        story(first + i);
    }
}

static void coroutine_fn test_views_of_several_instants_are_each_one_instant(void)
{
    tell_many(accesses_story, 30);
}

static void coroutine_fn test_accesses_and_a_backup_job_do_not_disturb_each_other(void)
{
    tell_many(job_story, 15);
}

static void coroutine_fn test_two_disks_of_one_access_are_one_instant(void)
{
    tell_many(two_disks_story, 20);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/access/instant/views of several instants, ended in any order, are each one",
                   test_views_of_several_instants_are_each_one_instant);
    block_test_add("/access/instant/accesses and a backup job do not disturb each other",
                   test_accesses_and_a_backup_job_do_not_disturb_each_other);
    block_test_add("/access/instant/two disks of one access are one instant",
                   test_two_disks_of_one_access_are_one_instant);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
