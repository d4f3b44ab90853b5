/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One access, step by step: what goes wrong with it (A5: its view is lost and says so, the guest's disk is
 * not), what is left of it when it has ended or was never begun (nothing), what it shows and what it waits for.
 */
#include <errno.h>
#include "aio/iothread.h"
#include "aio/timer.h"
#include "block/copy/stage.h"
#include "block/dirty/dirty-bitmap.h"
#include "coro/sleep.h"
#include "qapi/event.h"
#include "tests/unit/access/access-story.h"
#include "util/osdep.h"

#define DISK_BYTES (2 * MiB)

static GPtrArray *events; /* of char *, what was said in BACKUP_ACCESS_BROKEN */

static void take_event(unsigned event, json_t *message)
{
    json_t *data = json_object_get(message, "data");
    const char *name = json_string_value(json_object_get(message, "event"));

    if (strcmp(name, "BACKUP_ACCESS_BROKEN") == 0) {
        g_assert_cmpstr(json_string_value(json_object_get(data, "id")), ==, "a");
        g_assert_cmpstr(json_string_value(json_object_get(data, "device")), ==, "disk");
        g_ptr_array_add(events, g_strdup(json_string_value(json_object_get(data, "error"))));
    }
}

typedef struct Bed {
    BlockDriverState *source, *scratch;
    BdrvChild *guest;
    BackupAccess *access;
    BdrvChild *reader;
} Bed;

static void coroutine_fn bed_begin(Bed *b, int64_t ram, bool scratch, const char *bitmap)
{
    BackupAccessDiskArgs disk = {.device = "disk", .export = "e", .bitmap = bitmap};
    BackupAccessArgs args = {.id = "a", .disks = &disk, .n_disks = 1, .ram_bytes = ram};

    if (!b->source) {
        b->source = test_ram_new("source", DISK_BYTES);
        test_ram_poke_pattern(b->source, 0, DISK_BYTES, 1);
        b->guest = block_test_user(b->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    }
    if (scratch) {
        b->scratch = test_ram_new("scratch", 0);
        disk.scratch = b->scratch;
        args.scratch_bytes = 4 * MiB;
    }
    disk.source = b->source;
    b->access = backup_access_co_begin(&args, &error_abort);
    b->reader = block_test_user(backup_access_view(b->access, 0), BLK_PERM_CONSISTENT_READ);
    g_ptr_array_set_size(events, 0);
}

static void coroutine_fn bed_end_access(Bed *b, bool success)
{
    block_test_co_user_free(b->reader);
    backup_access_co_end(b->access, success);
    b->access = NULL;
    g_assert_true(notifier_with_return_list_empty(&b->source->before_write_notifiers));
    g_assert_false(bdrv_op_is_blocked(b->source, BLOCK_OP_TYPE_DELETE, NULL));
    if (b->scratch) {
        g_assert_cmpint(b->scratch->refcnt, ==, 1);
        bdrv_co_unref(b->scratch);
        b->scratch = NULL;
    }
}

static void coroutine_fn bed_end(Bed *b)
{
    if (b->access) {
        bed_end_access(b, false);
    }
    block_test_co_user_free(b->guest);
    g_assert_cmpint(b->source->refcnt, ==, 1);
    bdrv_co_unref(b->source);
}

static void coroutine_fn expect_broken(Bed *b, const char *words)
{
    uint8_t buf[512];
    int64_t pnum;
    BackupAccessDiskStats stats;

    g_assert_cmpint(bdrv_co_pread(b->reader, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_block_status(b->reader->bs, 0, 4096, &pnum, NULL, NULL), ==, -EIO);
    backup_access_disk_stats(b->access, 0, &stats);
    g_assert_nonnull(stats.error);
    g_assert_nonnull(strstr(stats.error, words));
    block_test_co_settle();
    g_assert_cmpuint(events->len, ==, 1);
    g_assert_cmpstr(events->pdata[0], ==, stats.error);
    /* The guest goes on, and nobody stands in its way. */
    g_assert_true(notifier_with_return_list_empty(&b->source->before_write_notifiers));
    block_test_co_fill(b->guest, MiB, 256 * KiB, 7);
    block_test_co_expect(b->guest, MiB, 256 * KiB, 7);
    backup_access_disk_stats(b->access, 0, &stats);
    g_assert_cmpint(stats.ram_bytes, ==, 0);
    g_assert_cmpuint(events->len, ==, 1);
}

static void coroutine_fn test_no_room_breaks_the_view_and_not_the_guest(void)
{
    Bed b = {0};

    bed_begin(&b, 2 * STAGE_UNIT_BYTES, false, NULL);
    block_test_co_fill(b.guest, 0, 3 * STAGE_UNIT_BYTES, 5);
    block_test_co_expect(b.guest, 0, 3 * STAGE_UNIT_BYTES, 5);
    expect_broken(&b, "No room is left");
    bed_end(&b);
}

static void coroutine_fn test_a_full_scratch_breaks_the_view_and_not_the_guest(void)
{
    Bed b = {0};

    bed_begin(&b, 4 * STAGE_UNIT_BYTES, true, NULL);
    test_ram_set_capacity(b.scratch, 64 * KiB);
    block_test_co_fill(b.guest, 0, MiB, 5);
    expect_broken(&b, "The scratch file failed: No space left on device");
    g_assert_cmpint(test_ram_allocated(b.scratch), ==, 0); /* given back at once */
    bed_end(&b);
}

static void coroutine_fn test_a_scratch_that_hangs_holds_the_guest_for_so_long_only(void)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    Bed b = {0};

    bed_begin(&b, 4 * STAGE_UNIT_BYTES, true, NULL);
    test_ram_hold(b.scratch, TEST_RAM_WRITE, 0, MiB);
    block_test_co_fill(b.guest, 0, 64 * KiB, 5);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, 11 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, >, 9 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(test_ram_held(b.scratch), >, 0);
    test_ram_release(b.scratch);
    qemu_co_sleep_ns(1000000);
    expect_broken(&b, "The scratch file took nothing");
    bed_end(&b);
}

static void coroutine_fn test_old_data_that_cannot_be_read_breaks_the_view(void)
{
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    test_ram_set_error(b.source, TEST_RAM_READ, 8192, 512, EIO, 1);
    block_test_co_fill(b.guest, 8192, 4096, 5);
    block_test_co_expect(b.guest, 8192, 4096, 5);
    expect_broken(&b, "could not be read");
    bed_end(&b);
}

/* A5: the source was read before, the answer would be a mix. */
static void coroutine_fn test_a_reader_under_way_when_the_view_breaks_gets_no_mix(void)
{
    BlockTestRequest *read;
    Bed b = {0};

    bed_begin(&b, STAGE_UNIT_BYTES, false, NULL);
    test_ram_hold(b.source, TEST_RAM_READ, MiB, 4096);
    read = block_test_co_start(b.reader, BLOCK_TEST_READ, MiB, 64 * KiB, 0);
    test_ram_co_wait_held(b.source, 1);
    block_test_co_fill(b.guest, 0, 64 * KiB, 5); /* breaks it */
    test_ram_release(b.source);
    g_assert_cmpint(block_test_co_join(read), ==, -EIO);
    expect_broken(&b, "No room is left");
    bed_end(&b);
}

/* A3 */
static void coroutine_fn test_a_write_during_a_read_of_the_view_is_not_seen(void)
{
    g_autofree uint8_t *old = g_malloc(64 * KiB), *seen = g_malloc(64 * KiB);
    BlockTestRequest *read;
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    test_ram_peek(b.source, 0, old, 64 * KiB);
    test_ram_hold(b.source, TEST_RAM_READ, 0, 64 * KiB);
    read = block_test_co_start(b.reader, BLOCK_TEST_READ, 0, 64 * KiB, 0);
    test_ram_co_wait_held(b.source, 1);
    /* The capture's own read is not held; the view's will find new data when it is let go. */
    test_ram_hold(b.source, TEST_RAM_READ, DISK_BYTES - 1, 1);
    block_test_co_fill(b.guest, 1000, 20000, 5);
    test_ram_release(b.source);
    g_assert_cmpint(block_test_co_join_read(read, seen, 64 * KiB), ==, 0);
    g_assert_cmpint(memcmp(old, seen, 64 * KiB), ==, 0);
    bed_end(&b);
}

/* A6 */
static void coroutine_fn test_a_discard_is_dropped_unless_all_was_captured(void)
{
    Bed b = {0};
    uint8_t old[4096], now[4096];

    bed_begin(&b, MiB, false, NULL);
    b.source->open_flags |= BDRV_O_UNMAP;
    test_ram_peek(b.source, 4096, old, 4096);
    g_assert_cmpint(bdrv_co_pdiscard(b.guest, 0, 64 * KiB), ==, 0);
    test_ram_peek(b.source, 4096, now, 4096);
    g_assert_cmpint(memcmp(old, now, 4096), ==, 0);
    block_test_co_fill(b.guest, 4096, 4096, 5);
    g_assert_cmpint(bdrv_co_pdiscard(b.guest, 4096, 4096), ==, 0);
    block_test_co_expect(b.guest, 4096, 4096, 0);
    g_assert_cmpint(bdrv_co_pread(b.reader, 4096, 4096, now, 0), ==, 0);
    g_assert_cmpint(memcmp(old, now, 4096), ==, 0);
    bed_end(&b);
}

static BdrvDirtyBitmap *coroutine_fn bed_bitmap(Bed *b)
{
    BdrvDirtyBitmap *bitmap;

    b->source = test_ram_new("source", DISK_BYTES);
    b->guest = block_test_user(b->source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    bdrv_co_drained_begin(b->source);
    bitmap = bdrv_create_dirty_bitmap(b->source, 0, "b", &error_abort);
    bdrv_co_drained_end(b->source);
    block_test_co_fill(b->guest, 0, 64 * KiB, 1);
    return bitmap;
}

static void coroutine_fn test_the_view_has_the_bitmap_of_the_instant(void)
{
    Bed b = {0};
    BdrvDirtyBitmap *bitmap = bed_bitmap(&b), *copy;

    bed_begin(&b, MiB, false, "b");
    block_test_co_fill(b.guest, MiB, 64 * KiB, 1);
    copy = bdrv_find_dirty_bitmap(backup_access_view(b.access, 0), "b");
    g_assert_cmpint(bdrv_get_dirty_count(copy), ==, 64 * KiB);
    g_assert_false(bdrv_dirty_bitmap_enabled(copy));
    g_assert_true(bdrv_dirty_bitmap_busy(bitmap));
    bed_end_access(&b, true);
    g_assert_false(bdrv_dirty_bitmap_busy(bitmap));
    g_assert_false(bdrv_dirty_bitmap_get(bitmap, 0));
    g_assert_true(bdrv_dirty_bitmap_get(bitmap, MiB));
    bed_begin(&b, MiB, false, "b");
    block_test_co_fill(b.guest, 0, 64 * KiB, 1);
    bed_end_access(&b, false);
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, 128 * KiB);
    bed_end(&b);
}

static void coroutine_fn expect_refused(const BackupAccessArgs *args, const char *words)
{
    Error *err = NULL;

    g_assert_null(backup_access_co_begin(args, &err));
    if (!strstr(error_get_pretty(err), words)) {
        g_test_message("%s", error_get_pretty(err));
        g_test_fail();
    }
    error_free(err);
}

static void coroutine_fn test_an_access_that_cannot_begin_leaves_nothing(void)
{
    Bed b = {0};
    BdrvDirtyBitmap *bitmap = bed_bitmap(&b);
    BlockDriverState *other = test_ram_new("other", MiB);
    BackupAccessDiskArgs disks[2] = {
        {.source = b.source, .device = "disk", .export = "e", .bitmap = "b"},
        {.source = other, .device = "other", .export = "o", .bitmap = "none"}};
    BackupAccessArgs args = {.id = "a", .disks = disks, .n_disks = 2, .ram_bytes = MiB};

    expect_refused(&args, "Bitmap 'none' of 'other' could not be found");
    g_assert_false(bdrv_dirty_bitmap_busy(bitmap));
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, 64 * KiB);
    g_assert_cmpint(other->refcnt, ==, 1);
    g_assert_null(backup_access_find("a"));
    args.n_disks = 1;
    args.scratch_bytes = MiB;
    args.scratch_folder = "/nowhere/at/all";
    expect_refused(&args, "/nowhere/at/all");
    args.scratch_bytes = 0;
    args.ram_bytes = BACKUP_ACCESS_RAM_MAX + 1;
    expect_refused(&args, "ram must be");
    args.ram_bytes = MiB;
    args.id = "not well";
    expect_refused(&args, "Invalid backup access id");
    disks[1] = disks[0];
    args.id = "a";
    args.n_disks = 2;
    expect_refused(&args, "is named twice");
    bed_begin(&b, MiB, false, "b");
    args.n_disks = 1;
    expect_refused(&args, "already in use");
    args.id = "second";
    expect_refused(&args, "Bitmap 'b' is currently in use");
    bed_end(&b);
    bdrv_co_unref(other);
}

static void coroutine_fn test_a_disk_under_an_access_stays_what_and_where_it_is(void)
{
    IOThread *thread = iothread_create("io", AIO_ENGINE_AUTO, &error_abort);
    Error *err = NULL;
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    g_assert_true(bdrv_op_is_blocked(b.source, BLOCK_OP_TYPE_RESIZE, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "in use by backup access 'a'"));
    error_free(g_steal_pointer(&err));
    g_assert_true(bdrv_op_is_blocked(b.source, BLOCK_OP_TYPE_DELETE, NULL));
    g_assert_cmpint(
        bdrv_child_try_set_perm(b.guest, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL, &err), <,
        0);
    g_assert_nonnull(strstr(error_get_pretty(err), "backup access 'a'"));
    error_free(g_steal_pointer(&err));
    g_assert_cmpint(
        bdrv_co_try_change_aio_context(b.source, iothread_get_aio_context(thread), &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "backup access 'a'"));
    error_free(err);
    bed_end(&b);
    iothread_destroy(thread);
}

static void coroutine_fn test_a_view_that_outlives_its_access_reads_an_error(void)
{
    BlockDriverState *view;
    BdrvChild *late;
    uint8_t buf[512];
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    view = backup_access_view(b.access, 0);
    late = block_test_user(view, BLK_PERM_CONSISTENT_READ);
    g_assert_cmpint(bdrv_co_pread(late, 0, 512, buf, 0), ==, 0);
    bed_end(&b);
    g_assert_cmpint(bdrv_co_pread(late, 0, 512, buf, 0), ==, -EIO);
    block_test_co_user_free(late);
}

/* The end of an access, beside the test. */
typedef struct Ending {
    BackupAccess *access;
    BlockDriverState *quiet; /* quiesced; NULL: none */
    bool undrain, done;
} Ending;

static void coroutine_fn end_entry(void *opaque)
{
    Ending *e = opaque;

    backup_access_co_end(e->access, false);
    e->done = true;
}

static void coroutine_fn quiet_entry(void *opaque)
{
    Ending *e = opaque;

    bdrv_co_drained_begin(e->quiet);
    while (!e->undrain) {
        qemu_co_sleep_ns(1000);
    }
    bdrv_co_drained_end(e->quiet);
    e->quiet = NULL;
}

/* A9, H2: the notifier is off, the source is read no more. */
static void coroutine_fn test_a_reader_under_way_when_the_access_ends_gets_no_mix(void)
{
    BlockTestRequest *read;
    BdrvChild *late;
    Ending e = {0};
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    late = block_test_user(backup_access_view(b.access, 0), BLK_PERM_CONSISTENT_READ);
    test_ram_hold(b.source, TEST_RAM_READ, MiB, 4096);
    read = block_test_co_start(late, BLOCK_TEST_READ, MiB, 64 * KiB, 0);
    test_ram_co_wait_held(b.source, 1);
    block_test_co_user_free(b.reader);
    e.access = g_steal_pointer(&b.access);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(end_entry, &e));
    block_test_co_settle();
    block_test_co_fill(b.guest, MiB, 4096, 5);
    test_ram_release(b.source);
    g_assert_cmpint(block_test_co_join(read), ==, -EIO);
    while (!e.done) {
        qemu_co_sleep_ns(1000);
    }
    block_test_co_user_free(late);
    bed_end(&b);
}

/* A9: what a last reader gives back is nothing to make a hole for; nobody would be there for its end. */
static void coroutine_fn test_a_reader_of_the_scratch_may_leave_last(void)
{
    BlockTestRequest *read;
    BdrvChild *late;
    Ending e = {0};
    Bed b = {0};

    bed_begin(&b, 4 * STAGE_UNIT_BYTES, true, NULL);
    block_test_co_fill(b.guest, 0, 3 * MiB / 2, 5);
    late = block_test_user(backup_access_view(b.access, 0), BLK_PERM_CONSISTENT_READ);
    test_ram_hold(b.scratch, TEST_RAM_READ, 0, MiB);
    read = block_test_co_start(late, BLOCK_TEST_READ, 0, 64 * KiB, 0);
    test_ram_co_wait_held(b.scratch, 1);
    block_test_co_user_free(b.reader);
    e.access = g_steal_pointer(&b.access);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(end_entry, &e));
    block_test_co_settle();
    e.quiet = b.scratch;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(quiet_entry, &e));
    block_test_co_settle();
    test_ram_release(b.scratch);
    g_assert_cmpint(block_test_co_join(read), ==, -EIO);
    qemu_co_sleep_ns(1000000);
    e.undrain = true;
    while (!e.done || e.quiet) {
        qemu_co_sleep_ns(1000);
    }
    block_test_co_user_free(late);
    g_assert_cmpint(b.scratch->refcnt, ==, 1);
    bdrv_co_unref(g_steal_pointer(&b.scratch));
    bed_end(&b);
}

/* A view is quiesced whenever an export of it ends: that must not wait for the guest. */
static void coroutine_fn test_a_quiesce_of_the_view_does_not_wait_for_captures(void)
{
    BlockTestRequest *write;
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    test_ram_hold(b.source, TEST_RAM_READ, 0, 4096);
    write = block_test_co_start(b.guest, BLOCK_TEST_WRITE, 0, 4096, 5);
    test_ram_co_wait_held(b.source, 1);
    bdrv_co_drained_begin(backup_access_view(b.access, 0));
    g_assert_false(block_test_done(write));
    bdrv_co_drained_end(backup_access_view(b.access, 0));
    test_ram_release(b.source);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    bed_end(&b);
}

/* A7: a write waits for room, and the quiesce of its disk for the write. */
static void coroutine_fn test_a_quiesce_of_disk_and_scratch_lets_a_full_memory_spill(void)
{
    BlockDriverState *both[2];
    BlockTestRequest *write;
    Bed b = {0};

    bed_begin(&b, 4 * STAGE_UNIT_BYTES, true, NULL);
    test_ram_set_delay(b.scratch, TEST_RAM_WRITE, 1000000);
    write = block_test_co_start(b.guest, BLOCK_TEST_WRITE, 0, 256 * KiB, 5);
    both[0] = b.scratch;
    both[1] = b.source;
    bdrv_co_drained_begin_list(both, 2);
    for (int i = 0; i < 10; i++) {
        g_assert_cmpuint(b.scratch->in_flight, ==, 0);
        qemu_co_sleep_ns(1000000);
    }
    g_assert_true(block_test_done(write));
    bdrv_co_drained_end_list(both, 2);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpuint(events->len, ==, 0);
    bed_end(&b);
}

/* A7: the same when the requests to the scratch are being held back already. */
static void coroutine_fn test_a_quiesce_of_the_disk_lets_go_on_what_it_waits_for(void)
{
    BlockTestRequest *write;
    Bed b = {0};

    bed_begin(&b, 4 * STAGE_UNIT_BYTES, true, NULL);
    bdrv_co_drained_begin(b.scratch);
    write = block_test_co_start(b.guest, BLOCK_TEST_WRITE, 0, 256 * KiB, 5);
    qemu_co_sleep_ns(1000000);
    g_assert_cmpuint(b.scratch->in_flight, ==, 0);
    g_assert_false(block_test_done(write));
    bdrv_co_drained_begin(b.source);
    g_assert_true(block_test_done(write));
    g_assert_cmpuint(b.scratch->in_flight, ==, 0);
    bdrv_co_drained_end(b.source);
    bdrv_co_drained_end(b.scratch);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpuint(events->len, ==, 0);
    bed_end(&b);
}

/* A3: what the source says now may reach into what has been captured. */
static void coroutine_fn test_block_status_is_that_of_the_instant(void)
{
    static const struct {
        int64_t offset, bytes;
        int status;
    } expected[] = {
        {0, 128 * KiB, BDRV_BLOCK_ZERO},
        {128 * KiB, 64 * KiB, BDRV_BLOCK_DATA},
        {192 * KiB, 64 * KiB, BDRV_BLOCK_ZERO},
        {256 * KiB, 64 * KiB, BDRV_BLOCK_DATA}, /* zeros, captured: data is true of them too */
    };
    BdrvRequestFlags unmap = BDRV_REQ_MAY_UNMAP;
    int64_t pnum;
    Bed b = {0};
    int ret;

    b.source = test_ram_new("source", DISK_BYTES);
    b.source->open_flags |= BDRV_O_UNMAP;
    b.guest = block_test_user(b.source, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    block_test_co_fill(b.guest, 128 * KiB, 64 * KiB, 1);
    bed_begin(&b, MiB, false, NULL);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(b.guest, 128 * KiB, 64 * KiB, unmap), ==, 0);
    block_test_co_fill(b.guest, 256 * KiB + 4096, 4096, 1);
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        ret = bdrv_co_block_status(b.reader->bs, expected[i].offset, MiB, &pnum, NULL, NULL);
        g_assert_cmpint(ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO), ==, expected[i].status);
        g_assert_cmpint(pnum, ==, expected[i].bytes);
    }
    bed_end(&b);
}

/* The guest writes every half of a ms, for so long; no reader has anything under way. */
static void coroutine_fn write_while_readers_rest(Bed *b, int64_t ns)
{
    for (int64_t end_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + ns;
         qemu_clock_get_ns(QEMU_CLOCK_REALTIME) < end_ns;) {
        block_test_co_fill(b->guest, 0, 4096, 7);
        block_test_co_settle();
        g_assert_cmpuint(test_ram_held(b->source), ==, 0);
        qemu_co_sleep_ns(500 * SCALE_US);
    }
}

/* T2, T3, T4: what readers have under way, and how soon the next comes, depends on when the guest has last written. */
static void coroutine_fn test_readers_of_a_view_give_way_to_a_guest_that_writes(void)
{
    BlockTestRequest *reads[32];
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    block_test_co_fill(b.guest, 0, 4096, 7);
    test_ram_hold(b.source, TEST_RAM_READ, 0, DISK_BYTES);
    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
        reads[i] = block_test_co_start(b.reader, BLOCK_TEST_READ, i * 64 * KiB, 64 * KiB, 0);
    }
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(b.source), ==, 1);
    qemu_co_sleep_ns(200 * SCALE_US);
    g_assert_true(test_ram_release_one(b.source)); /* it has taken 0.2 ms */
    write_while_readers_rest(&b, 6 * SCALE_MS); /* and rests for 6.4 ms while the guest writes, */
    qemu_co_sleep_ns(600 * SCALE_US);
    g_assert_cmpuint(test_ram_held(b.source), ==, 1);
    block_test_co_fill(b.guest, 0, 4096, 7);
    g_assert_true(test_ram_release_one(b.source));
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(b.source), ==, 0);
    qemu_co_sleep_ns(1100 * SCALE_US); /* or until it has not for 1 ms */
    g_assert_cmpuint(test_ram_held(b.source), ==, 1);
    g_assert_true(test_ram_release_one(b.source));
    qemu_co_sleep_ns(30 * SCALE_MS);
    g_assert_true(test_ram_release_one(b.source)); /* which seems slow, */
    qemu_co_sleep_ns(21 * SCALE_MS);
    g_assert_cmpuint(test_ram_held(b.source), ==, 1);
    g_assert_true(test_ram_release_one(b.source)); /* and is not */
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(b.source), ==, 1024 / 64);
    test_ram_release(b.source);
    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
        g_assert_cmpint(block_test_co_join(reads[i]), ==, 0);
    }
    bed_end(&b);
}

/* T3, T4: on a slow disk a guest that waits for each write is not quiet between two, and readers get on all the same. */
static void coroutine_fn test_readers_of_a_slow_disk_rest_for_so_long_only(void)
{
    BlockTestRequest *reads[2];
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    block_test_co_fill(b.guest, 0, 4096, 7);
    test_ram_hold(b.source, TEST_RAM_READ, 0, DISK_BYTES);
    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
        reads[i] = block_test_co_start(b.reader, BLOCK_TEST_READ, i * 64 * KiB, 64 * KiB, 0);
    }
    qemu_co_sleep_ns(10 * SCALE_MS);
    g_assert_true(test_ram_release_one(b.source));
    for (int i = 0; i < 2; i++) {
        block_test_co_fill(b.guest, 0, 4096, 7);
        qemu_co_sleep_ns(9 * SCALE_MS);
        g_assert_cmpuint(test_ram_held(b.source), ==, 0);
    }
    block_test_co_fill(b.guest, 0, 4096, 7);
    qemu_co_sleep_ns(3 * SCALE_MS);
    g_assert_cmpuint(test_ram_held(b.source), ==, 1);
    test_ram_release(b.source);
    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
        g_assert_cmpint(block_test_co_join(reads[i]), ==, 0);
    }
    bed_end(&b);
}

/* T1, T5 */
static void coroutine_fn test_readers_of_two_accesses_of_a_disk_take_turns(void)
{
    BackupAccessDiskArgs disk = {.device = "disk", .export = "f"};
    BackupAccessArgs args = {.id = "second", .disks = &disk, .n_disks = 1, .ram_bytes = MiB};
    BlockTestRequest *reads[2][3];
    BackupAccess *second;
    BdrvChild *reader;
    Ending e = {0};
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    disk.source = b.source;
    second = backup_access_co_begin(&args, &error_abort);
    reader = block_test_user(backup_access_view(second, 0), BLK_PERM_CONSISTENT_READ);
    block_test_co_fill(b.guest, 0, 4096, 7);
    test_ram_hold(b.source, TEST_RAM_READ, 0, DISK_BYTES);
    for (int i = 0; i < 3; i++) {
        reads[0][i] = block_test_co_start(b.reader, BLOCK_TEST_READ, i * 4 * KiB, 4 * KiB, 0);
        reads[1][i] = block_test_co_start(reader, BLOCK_TEST_READ, i * 64 * KiB, 64 * KiB, 0);
    }
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(b.source), ==, 1);
    qemu_co_sleep_ns(200 * SCALE_US);
    for (int i = 0; i < 4; i++) { /* one at a time, in the order in which they came; of 0.2 ms */
        g_assert_true(test_ram_release_one(b.source));
        write_while_readers_rest(&b, 6 * SCALE_MS);
        qemu_co_sleep_ns(600 * SCALE_US);
        g_assert_cmpuint(test_ram_held(b.source), ==, 1);
        g_assert_cmpint(block_test_co_join(reads[i % 2][i / 2]), ==, 0);
    }
    /* The second ends while it waits behind the first, which has a turn. */
    e.access = second;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(end_entry, &e));
    block_test_co_settle();
    g_assert_true(block_test_done(reads[1][2]));
    g_assert_cmpint(block_test_co_join(reads[1][2]), ==, -EIO);
    g_assert_false(block_test_done(reads[0][2]));
    test_ram_release(b.source);
    g_assert_cmpint(block_test_co_join(reads[0][2]), ==, 0);
    while (!e.done) {
        qemu_co_sleep_ns(1000);
    }
    block_test_co_user_free(reader);
    bed_end(&b);
}

/* A request of any length goes in pieces beside a guest, and in one when there is none. */
static void coroutine_fn test_a_long_read_of_a_view_goes_in_pieces_beside_a_guest(void)
{
    BlockTestRequest *read;
    Bed b = {0};

    bed_begin(&b, MiB, false, NULL);
    test_ram_reset_counts(b.source);
    read = block_test_co_start(b.reader, BLOCK_TEST_READ, 0, 256 * KiB, 0);
    g_assert_cmpint(block_test_co_join(read), ==, 0);
    g_assert_cmpuint(test_ram_counts(b.source)->reads, ==, 1);
    block_test_co_fill(b.guest, MiB, 4096, 7);
    test_ram_reset_counts(b.source);
    read = block_test_co_start(b.reader, BLOCK_TEST_READ, 0, 256 * KiB, 0);
    g_assert_cmpint(block_test_co_join(read), ==, 0);
    g_assert_cmpuint(test_ram_counts(b.source)->reads, ==, 4);
    bed_end(&b);
}

/* A notifier of another, which holds a write. */
typedef struct Holder {
    NotifierWithReturn notifier;
    CoQueue queue;
} Holder;

static int coroutine_fn hold_notify(NotifierWithReturn *notifier, void *opaque)
{
    qemu_co_queue_wait(&container_of(notifier, Holder, notifier)->queue, NULL);
    return 0;
}

/* A7: spills stand at the gate when the write comes for which they may pass: it is in flight, both are quiesced. */
static void coroutine_fn test_a_write_that_comes_late_into_a_quiesce_finds_room(void)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    Holder holder = {.notifier.notify = hold_notify};
    BackupAccessDiskStats stats;
    BlockTestRequest *write;
    Ending e = {0};
    Bed b = {0};

    bed_begin(&b, 4 * STAGE_UNIT_BYTES, true, NULL);
    bdrv_co_drained_begin(b.scratch);
    block_test_co_fill(b.guest, 0, 4 * STAGE_UNIT_BYTES, 5);
    block_test_co_settle();
    qemu_co_queue_init(&holder.queue);
    bdrv_co_drained_begin(b.source);
    bdrv_add_before_write_notifier(b.source, &holder.notifier);
    bdrv_co_drained_end(b.source);
    write = block_test_co_start(b.guest, BLOCK_TEST_WRITE, MiB, 4 * STAGE_UNIT_BYTES, 5);
    block_test_co_settle();
    e.quiet = b.source;
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(quiet_entry, &e));
    block_test_co_settle();
    notifier_with_return_remove(&holder.notifier);
    qemu_co_queue_restart_all(&holder.queue);
    g_assert_cmpint(block_test_co_join(write), ==, 0);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start, <, NANOSECONDS_PER_SECOND);
    e.undrain = true;
    while (e.quiet) {
        qemu_co_sleep_ns(1000);
    }
    bdrv_co_drained_end(b.scratch);
    backup_access_disk_stats(b.access, 0, &stats);
    g_assert_null(stats.error);
    bed_end(&b);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    qapi_event_set_emit(take_event);
    events = g_ptr_array_new_with_free_func(g_free);
#define ADD(words, name) block_test_add("/access/steps/" words, test_##name)
    ADD("no room breaks the view and not the guest", no_room_breaks_the_view_and_not_the_guest);
    ADD("a full scratch breaks the view and not the guest",
        a_full_scratch_breaks_the_view_and_not_the_guest);
    ADD("a scratch that hangs holds the guest for so long only",
        a_scratch_that_hangs_holds_the_guest_for_so_long_only);
    ADD("old data that cannot be read breaks the view",
        old_data_that_cannot_be_read_breaks_the_view);
    ADD("a reader under way when the view breaks gets no mix",
        a_reader_under_way_when_the_view_breaks_gets_no_mix);
    ADD("a write during a read of the view is not seen",
        a_write_during_a_read_of_the_view_is_not_seen);
    ADD("a discard is dropped unless all was captured",
        a_discard_is_dropped_unless_all_was_captured);
    ADD("the view has the bitmap of the instant", the_view_has_the_bitmap_of_the_instant);
    ADD("an access that cannot begin leaves nothing", an_access_that_cannot_begin_leaves_nothing);
    ADD("a disk under an access stays what and where it is",
        a_disk_under_an_access_stays_what_and_where_it_is);
    ADD("a view that outlives its access reads an error",
        a_view_that_outlives_its_access_reads_an_error);
    ADD("a reader under way when the access ends gets no mix",
        a_reader_under_way_when_the_access_ends_gets_no_mix);
    ADD("a reader of the scratch may leave last", a_reader_of_the_scratch_may_leave_last);
    ADD("a quiesce of the view does not wait for captures",
        a_quiesce_of_the_view_does_not_wait_for_captures);
    ADD("a quiesce of disk and scratch lets a full memory spill",
        a_quiesce_of_disk_and_scratch_lets_a_full_memory_spill);
    ADD("a quiesce of the disk lets go on what it waits for",
        a_quiesce_of_the_disk_lets_go_on_what_it_waits_for);
    ADD("a write that comes late into a quiesce finds room",
        a_write_that_comes_late_into_a_quiesce_finds_room);
    ADD("block status is that of the instant", block_status_is_that_of_the_instant);
    ADD("readers of a view give way to a guest that writes",
        readers_of_a_view_give_way_to_a_guest_that_writes);
    ADD("readers of a slow disk rest for so long only",
        readers_of_a_slow_disk_rest_for_so_long_only);
    ADD("readers of two accesses of a disk take turns",
        readers_of_two_accesses_of_a_disk_take_turns);
    ADD("a long read of a view goes in pieces beside a guest",
        a_long_read_of_a_view_goes_in_pieces_beside_a_guest);
#undef ADD
}

int main(int argc, char **argv)
{
    int status = block_test_main(argc, argv, add_tests);

    g_ptr_array_free(events, TRUE);
    return status;
}
