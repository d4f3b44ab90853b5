/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The writer of the journal: what it writes where, in which order, and when it must not; rules J1 to J8. */
#include <errno.h>
#include "aio/timer.h"
#include "block/drivers/fvd/journal-buf.h"
#include "coro/lock.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES    (256 * KiB)
#define JOURNAL_AT    (64 * KiB)
#define JOURNAL_BYTES (36 * KiB) /* halves of 5 and 4 pages */
#define HALF0_BYTES   (20 * KiB)
#define PAGE          (4 * KiB)
#define EPOCH         7
#define PERIOD_NS     1000000
#define ENTRIES       4096

typedef struct Scene {
    BlockDriverState *image; /* only what is in flight in it matters */
    BlockDriverState *bs;
    BdrvChild *user;
    FvdJournal *j;
    GString *log; /* D data flush, w journal write, f flush, C checkpoint, t told */
    int data_error, checkpoint_error;
    bool hold_checkpoint;
    CoQueue checkpoints;
    unsigned begun; /* checkpoints */
    uint64_t stable_epoch;
    FvdJTicket told, checkpointed;
} Scene;

static int coroutine_fn flush_data(void *opaque)
{
    Scene *s = opaque;

    g_string_append_c(s->log, 'D');
    return s->data_error;
}

static int coroutine_fn checkpoint(void *opaque, unsigned half, FvdJTicket upto,
                                   uint64_t stable_epoch)
{
    Scene *s = opaque;

    s->begun++;
    g_string_append_c(s->log, 'C');
    g_assert_cmpint(upto, <=, s->told); /* F6 */
    g_assert_cmpuint(stable_epoch, ==, s->stable_epoch + 1);
    g_assert_cmpuint(half, ==, (s->stable_epoch - EPOCH) % 2);
    while (s->hold_checkpoint) {
        qemu_co_queue_wait(&s->checkpoints, NULL);
    }
    if (s->checkpoint_error == 0) {
        s->checkpointed = upto;
        s->stable_epoch = stable_epoch;
    }
    return s->checkpoint_error;
}

static void told(void *opaque, FvdJTicket upto)
{
    Scene *s = opaque;

    g_assert_cmpint(upto, >, s->told);
    s->told = upto;
    g_string_append_c(s->log, 't');
}

static const FvdJournalOps ops = {
    .co_flush_data = flush_data,
    .co_checkpoint = checkpoint,
    .record_durable = told,
};

static void watch(void *opaque, unsigned op, int64_t offset, int64_t bytes, bool begins)
{
    Scene *s = opaque;

    if (begins && (op & (TEST_RAM_WRITE | TEST_RAM_FLUSH))) {
        g_string_append_c(s->log, op & TEST_RAM_WRITE ? 'w' : 'f');
    }
}

static Scene *scene_new(int64_t def_buf_size)
{
    Scene *s = g_new0(Scene, 1);
    FvdJournalConfig c = {
        .offset = JOURNAL_AT,
        .size = JOURNAL_BYTES,
        .geometry =
            {
                .disk_sectors = ENTRIES * 16,
                .chunk_sectors = 16,
                .table_entries = ENTRIES,
                .chunks = 1 << 20,
                .block_sectors = 16,
                .blocks = ENTRIES,
                .trailers = true,
                .remap = true,
            },
        .start_epoch = EPOCH,
        .start_sequence = 100,
        .def_buf_size = def_buf_size,
        .clean_buf_period_ns = PERIOD_NS,
        .ops = &ops,
        .opaque = s,
    };
    uint8_t old[DISK_BYTES];

    s->log = g_string_new(NULL);
    s->stable_epoch = EPOCH;
    qemu_co_queue_init(&s->checkpoints);
    s->image = test_ram_new("image", DISK_BYTES);
    s->bs = test_ram_new("disk", DISK_BYTES);
    memset(old, 0xaa, sizeof(old));
    test_ram_poke(s->bs, 0, old, sizeof(old));
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    s->bs->flushed_gen = s->bs->write_gen; /* the next flush is the journal's */
    test_ram_set_watch(s->bs, watch, s);
    c.node = s->image;
    c.metadata = s->user;
    s->j = fvd_journal_new(&c);
    return s;
}

static void coroutine_fn scene_free(Scene *s, int close_result)
{
    g_assert_cmpint(fvd_journal_co_close(s->j), ==, close_result);
    g_assert_cmpint(fvd_journal_add(s->j, &(FvdJChange){0}), ==, -EIO);
    fvd_journal_free(s->j);
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
    bdrv_co_unref(s->image);
    g_string_free(s->log, true);
    g_free(s);
}

/* Entries @first and following become chunks @first + 1000 and following. */
static FvdJTicket add_entries(Scene *s, uint32_t first, uint32_t n)
{
    g_autofree uint32_t *entries = g_new(uint32_t, n);

    for (uint32_t i = 0; i < n; i++) {
        entries[i] = cpu_to_le32(first + 1000 + i);
    }
    return fvd_journal_add(s->j,
                           &(FvdJChange){.entries = entries, .first_chunk = first, .n_chunks = n});
}

static FvdJTicket add_bits(Scene *s, uint32_t block)
{
    return fvd_journal_add(s->j, &(FvdJChange){.first_sector = block * 16, .n_sectors = 16});
}

static void coroutine_fn commit(Scene *s, FvdJTicket ticket)
{
    g_assert_cmpint(ticket, >, 0);
    g_assert_cmpint(fvd_journal_co_commit(s->j, ticket), ==, 0);
    g_assert_cmpint(fvd_journal_durable(s->j), >=, ticket);
    g_assert_cmpint(s->told, ==, fvd_journal_durable(s->j));
}

static void expect_log(Scene *s, const char *log)
{
    g_assert_cmpstr(s->log->str, ==, log);
    g_string_truncate(s->log, 0);
}

/* A commit beside the test. */
typedef struct Committer {
    Scene *s;
    FvdJTicket ticket;
    bool done;
    int ret;
} Committer;

static void coroutine_fn committer_entry(void *opaque)
{
    Committer *c = opaque;

    c->ret = fvd_journal_co_commit(c->s->j, c->ticket);
    c->done = true;
}

static void start_commit(Committer *c, Scene *s, FvdJTicket ticket)
{
    *c = (Committer){.s = s, .ticket = ticket};
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(committer_entry, c));
}

/* J3, J4 */
static void coroutine_fn test_data_is_flushed_before_bits_are_written(void)
{
    Scene *s = scene_new(0);

    commit(s, add_entries(s, 0, 1));
    expect_log(s, "wft");
    add_entries(s, 1, 1);
    commit(s, add_bits(s, 1));
    expect_log(s, "Dwft");
    commit(s, add_entries(s, 2, 1));
    expect_log(s, "wft");
    scene_free(s, 0);
}

/* J2 */
static void coroutine_fn test_one_buffer_is_written_at_a_time_and_in_order(void)
{
    Scene *s = scene_new(PAGE);
    uint8_t sector[FVD_JSECTOR_SIZE];

    test_ram_hold(s->bs, TEST_RAM_WRITE, 0, DISK_BYTES);
    for (int i = 0; i < 20; i++) {
        add_entries(s, i * 100, 100); /* a sector each */
    }
    for (int i = 0; i < 2; i++) {
        test_ram_co_wait_held(s->bs, 1);
        block_test_co_settle();
        g_assert_cmpuint(test_ram_held(s->bs), ==, 1);
        test_ram_release_one(s->bs);
    }
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(s->bs), ==, 0); /* the third is not full */
    test_ram_release(s->bs);
    commit(s, fvd_journal_last(s->j));
    expect_log(s, "wwwft");
    for (int i = 0; i < 20; i++) {
        test_ram_peek(s->bs, JOURNAL_AT + i * FVD_JSECTOR_SIZE, sector, sizeof(sector));
        g_assert_cmpuint(ldl_le_p(sector + 16), ==, i * 100);
        g_assert_cmpuint(ldq_le_p(sector + FVD_JTRAILER_EPOCH), ==, EPOCH);
        g_assert_cmpuint(ldq_le_p(sector + FVD_JTRAILER_SEQUENCE), ==, 100 + i);
    }
    scene_free(s, 0);
}

/* J7 */
static void coroutine_fn test_a_tiny_buffer_is_a_page_of_zeros_and_touches_no_other(void)
{
    Scene *s = scene_new(0);
    uint8_t page[PAGE];

    commit(s, add_entries(s, 0, 1));
    commit(s, add_entries(s, 1, 1));
    g_assert_cmpuint(test_ram_counts(s->bs)->bytes_written, ==, 2 * PAGE);
    for (int i = 0; i < 2; i++) {
        test_ram_peek(s->bs, JOURNAL_AT + i * PAGE, page, PAGE);
        g_assert_cmpuint(ldl_le_p(page), ==, FVD_TABLE_JRECORD);
        g_assert_true(buffer_is_zero(page + 24, FVD_JTRAILER_OFFSET - 24));
        g_assert_true(buffer_is_zero(page + FVD_JSECTOR_SIZE, PAGE - FVD_JSECTOR_SIZE));
    }
    test_ram_peek(s->bs, JOURNAL_AT + 2 * PAGE, page, PAGE);
    g_assert_cmpuint(page[0], ==, 0xaa);
    scene_free(s, 0);
}

/* J4: and an add during a write does not wait for the timer. */
static void coroutine_fn test_commits_that_come_together_share_flushes(void)
{
    Scene *s = scene_new(0);
    Committer c[20];

    for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
        start_commit(&c[i], s, add_entries(s, i, 1));
        if (i == 9) {
            test_ram_hold(s->bs, TEST_RAM_FLUSH, 0, DISK_BYTES);
            test_ram_co_wait_held(s->bs, 1);
        }
    }
    block_test_co_settle();
    g_assert_cmpuint(test_ram_counts(s->bs)->flushes, ==, 0);
    test_ram_release(s->bs);
    block_test_co_settle();
    for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
        g_assert_true(c[i].done);
        g_assert_cmpint(c[i].ret, ==, 0);
    }
    g_assert_cmpuint(test_ram_counts(s->bs)->flushes, ==, 2);
    g_assert_cmpuint(test_ram_counts(s->bs)->writes, ==, 2);
    scene_free(s, 0);
}

static void coroutine_fn test_a_commit_flushes_what_others_wrote_to_the_file(void)
{
    Scene *s = scene_new(0);

    g_assert_cmpint(fvd_journal_co_commit(s->j, 0), ==, 0);
    expect_log(s, "");
    block_test_co_fill(s->user, 0, 512, 1);
    g_assert_cmpint(fvd_journal_co_commit(s->j, 0), ==, 0);
    expect_log(s, "wf");
    scene_free(s, 0);
}

static void coroutine_fn test_the_timer_writes_what_nobody_commits(void)
{
    Scene *s = scene_new(0);
    FvdJTicket t = add_bits(s, 0);

    qemu_co_sleep_ns(PERIOD_NS / 2);
    g_assert_cmpint(add_entries(s, 1, 1), ==, t);
    qemu_co_sleep_ns(PERIOD_NS / 2 - 10);
    expect_log(s, "");
    qemu_co_sleep_ns(20);
    expect_log(s, "Dw");
    g_assert_cmpint(fvd_journal_durable(s->j), ==, 0); /* J4 */
    qemu_co_sleep_ns(3 * PERIOD_NS);
    expect_log(s, "");
    add_entries(s, 2, 1);
    qemu_co_sleep_ns(PERIOD_NS + 10);
    expect_log(s, "w");
    scene_free(s, 0);
}

/* J5 */
static void coroutine_fn test_a_half_is_used_again_after_its_checkpoint_only(void)
{
    Scene *s = scene_new(0);
    Committer waiting;
    FvdJTicket last_of_half0 = 0;
    uint8_t sector[FVD_JSECTOR_SIZE];

    s->hold_checkpoint = true;
    for (int i = 0; i < 9; i++) {
        FvdJTicket t = add_entries(s, i, 1);

        commit(s, t);
        last_of_half0 = i == 4 ? t : last_of_half0;
        g_assert_cmpuint(fvd_journal_half(s->j), ==, i < 5 ? 0 : 1);
        g_assert_cmpuint(s->begun, ==, i < 5 ? 0 : 1); /* and half 1 takes what comes */
    }
    start_commit(&waiting, s, add_entries(s, 9, 1));
    block_test_co_settle();
    g_assert_false(waiting.done);
    g_assert_cmpint(add_entries(s, 10, 1), >, 0); /* adding waits for nothing */
    qemu_co_sleep_ns(2 * PERIOD_NS);
    g_assert_cmpuint(test_ram_counts(s->bs)->writes, ==, 9);
    g_assert_cmpuint(s->begun, ==, 1);
    s->hold_checkpoint = false;
    qemu_co_queue_restart_all(&s->checkpoints);
    block_test_co_settle();
    g_assert_true(waiting.done);
    g_assert_cmpint(waiting.ret, ==, 0);
    g_assert_cmpuint(s->begun, ==, 2); /* half 1 is full as well */
    g_assert_cmpint(s->checkpointed, >=, last_of_half0);
    g_assert_cmpuint(s->stable_epoch, ==, EPOCH + 2);
    test_ram_peek(s->bs, JOURNAL_AT, sector, sizeof(sector));
    g_assert_cmpuint(ldq_le_p(sector + 4), ==, EPOCH + 2); /* of the record, too */
    g_assert_cmpuint(ldq_le_p(sector + FVD_JTRAILER_EPOCH), ==, EPOCH + 2);
    test_ram_peek(s->bs, JOURNAL_AT + HALF0_BYTES, sector, sizeof(sector));
    g_assert_cmpuint(ldq_le_p(sector + FVD_JTRAILER_EPOCH), ==, EPOCH + 1);
    scene_free(s, 0);
}

/* J1 */
static void coroutine_fn test_a_change_lies_in_one_half(void)
{
    Scene *s = scene_new(PAGE);
    uint32_t max = fvd_journal_change_max(s->j), per_sector = (FVD_JSECTOR_CAPACITY - 20) / 4;
    uint8_t sector[FVD_JSECTOR_SIZE];

    g_assert_cmpuint(max, ==, 4 * 8);
    commit(s, add_entries(s, 0, 9 * per_sector));
    commit(s, add_entries(s, 0, 31 * per_sector)); /* three pages of half 0 are left */
    g_assert_cmpuint(s->begun, ==, 1);
    test_ram_peek(s->bs, JOURNAL_AT + 2 * PAGE, sector, sizeof(sector));
    g_assert_cmpuint(sector[0], ==, 0xaa);
    for (int i = 0; i < 31; i++) {
        test_ram_peek(s->bs, JOURNAL_AT + HALF0_BYTES + i * FVD_JSECTOR_SIZE, sector,
                      sizeof(sector));
        g_assert_cmpuint(ldl_le_p(sector), ==, FVD_TABLE_JRECORD);
        g_assert_cmpuint(ldq_le_p(sector + 4), ==, EPOCH + 1);
    }
    g_assert_cmpint(add_entries(s, 0, max * per_sector + 1), ==, -EINVAL);
    commit(s, add_entries(s, 0, max * per_sector));
    g_assert_cmpuint(s->begun, ==, 2);
    scene_free(s, 0);
}

/* J6, J2: four ways to fail; another buffer is queued behind, and a half is full. */
static void coroutine_fn test_a_failure_is_for_ever(void)
{
    for (int way = 0; way < 4; way++) {
        Scene *s = scene_new(PAGE);
        Committer first, second;
        FvdJTicket t;
        uint64_t writes;

        add_entries(s, 0, ENTRIES / 4 * 3); /* of half 0 a page and a half are left */
        commit(s, fvd_journal_last(s->j));
        s->data_error = way == 0 ? -EIO : 0;
        test_ram_set_error(s->bs, way == 1 ? TEST_RAM_WRITE : TEST_RAM_FLUSH, 0, DISK_BYTES,
                           way == 1 || way == 2 ? ENOSPC : 0, 1);
        s->checkpoint_error = way == 3 ? -EIO : 0;
        writes = test_ram_counts(s->bs)->writes;
        t = add_bits(s, 1);
        start_commit(&first, s, t);
        g_assert_cmpint(add_entries(s, 0, ENTRIES / 2), >, t);
        start_commit(&second, s, fvd_journal_last(s->j));
        block_test_co_settle();
        g_assert_true(first.done && second.done);
        g_assert_cmpint(second.ret, ==, -EIO);
        if (way < 3) {
            g_assert_cmpint(first.ret, ==, -EIO);
        }
        if (way < 2) {
            g_assert_cmpuint(test_ram_counts(s->bs)->writes - writes, ==, 0); /* J2 */
        }
        writes = test_ram_counts(s->bs)->writes;
        s->data_error = s->checkpoint_error = 0;
        g_assert_cmpint(add_entries(s, 0, 1), ==, -EIO);
        g_assert_cmpint(fvd_journal_co_wait_room(s->j), ==, -EIO);
        g_assert_cmpint(fvd_journal_co_commit(s->j, 1), ==, -EIO); /* durable long ago */
        qemu_co_sleep_ns(2 * PERIOD_NS);
        g_assert_cmpuint(test_ram_counts(s->bs)->writes, ==, writes);
        scene_free(s, -EIO);
    }
}

static void coroutine_fn room_entry(void *opaque)
{
    Committer *c = opaque;

    c->ret = fvd_journal_co_wait_room(c->s->j);
    c->done = true;
}

static void coroutine_fn test_who_waits_for_room_goes_on_when_buffers_are_written(void)
{
    Scene *s = scene_new(0);
    Committer c;
    unsigned added = 0;

    test_ram_hold(s->bs, TEST_RAM_WRITE, 0, DISK_BYTES);
    do {
        add_entries(s, 0, ENTRIES / 2);
        c = (Committer){.s = s};
        qemu_coroutine_enter(qemu_coroutine_create(room_entry, &c));
        added++;
    } while (c.done);
    g_assert_cmpuint(added * 18 * FVD_JSECTOR_SIZE, >, FVD_JOURNAL_BACKLOG_MAX / 2);
    g_assert_cmpuint(added * 18 * FVD_JSECTOR_SIZE, <, FVD_JOURNAL_BACKLOG_MAX * 2);
    block_test_co_settle();
    g_assert_false(c.done);
    test_ram_release(s->bs);
    block_test_co_settle();
    g_assert_true(c.done);
    g_assert_cmpint(c.ret, ==, 0);
    scene_free(s, 0);
}

/* J8 */
static void coroutine_fn test_the_timer_rests_while_the_node_is_quiesced(void)
{
    Scene *s = scene_new(0);

    add_entries(s, 0, 1);
    fvd_journal_drain_begin(s->j);
    bdrv_co_drained_begin(s->image);
    add_entries(s, 1, 1);
    qemu_co_sleep_ns(5 * PERIOD_NS);
    expect_log(s, "");
    fvd_journal_drain_end(s->j);
    bdrv_co_drained_end(s->image);
    qemu_co_sleep_ns(2 * PERIOD_NS);
    expect_log(s, "w");
    scene_free(s, 0);
}

static void coroutine_fn drain_entry(void *opaque)
{
    Committer *c = opaque;

    bdrv_co_drained_begin(c->s->image);
    c->done = true;
}

/* J8 */
static void coroutine_fn test_a_quiesce_waits_for_the_buffer_and_the_checkpoint(void)
{
    Scene *s = scene_new(0);
    Committer c = {.s = s};

    commit(s, add_entries(s, 0, ENTRIES / 4 * 3));
    s->hold_checkpoint = true;
    test_ram_hold(s->bs, TEST_RAM_WRITE, 0, DISK_BYTES);
    add_entries(s, 0, ENTRIES / 2);
    qemu_co_sleep_ns(2 * PERIOD_NS);
    g_assert_cmpuint(test_ram_held(s->bs), ==, 1);
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(drain_entry, &c));
    block_test_co_settle();
    g_assert_false(c.done);
    test_ram_release(s->bs);
    block_test_co_settle();
    g_assert_false(c.done);
    s->hold_checkpoint = false;
    qemu_co_queue_restart_all(&s->checkpoints);
    block_test_co_settle();
    g_assert_true(c.done);
    bdrv_co_drained_end(s->image);
    scene_free(s, 0);
}

static void coroutine_fn test_close_writes_and_waits_for_the_checkpoint(void)
{
    Scene *s = scene_new(0);

    add_entries(s, 0, ENTRIES / 2);
    add_entries(s, 0, ENTRIES / 2);
    add_entries(s, 0, ENTRIES / 2);
    g_assert_cmpint(fvd_journal_co_close(s->j), ==, 0);
    g_assert_cmpint(s->told, ==, fvd_journal_last(s->j));
    g_assert_cmpuint(s->stable_epoch, ==, EPOCH + s->begun);
    g_assert_cmpuint(s->begun, >, 0);
    fvd_journal_free(s->j);
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
    bdrv_co_unref(s->image);
    g_string_free(s->log, true);
    g_free(s);
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
#define ADD(name, fn) block_test_add("/fvd/journal/" name, fn)
    ADD("data is flushed before bits are written", test_data_is_flushed_before_bits_are_written);
    ADD("one buffer is written at a time and in order",
        test_one_buffer_is_written_at_a_time_and_in_order);
    ADD("a tiny buffer is a page of zeros and touches no other",
        test_a_tiny_buffer_is_a_page_of_zeros_and_touches_no_other);
    ADD("commits that come together share flushes", test_commits_that_come_together_share_flushes);
    ADD("a commit flushes what others wrote to the file",
        test_a_commit_flushes_what_others_wrote_to_the_file);
    ADD("the timer writes what nobody commits", test_the_timer_writes_what_nobody_commits);
    ADD("a half is used again after its checkpoint only",
        test_a_half_is_used_again_after_its_checkpoint_only);
    ADD("a change lies in one half", test_a_change_lies_in_one_half);
    ADD("a failure is for ever", test_a_failure_is_for_ever);
    ADD("who waits for room goes on when buffers are written",
        test_who_waits_for_room_goes_on_when_buffers_are_written);
    ADD("the timer rests while the node is quiesced",
        test_the_timer_rests_while_the_node_is_quiesced);
    ADD("a quiesce waits for the buffer and the checkpoint",
        test_a_quiesce_waits_for_the_buffer_and_the_checkpoint);
    ADD("close writes and waits for the checkpoint",
        test_close_writes_and_waits_for_the_checkpoint);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
