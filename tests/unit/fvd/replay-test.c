/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a crash leaves of table and bitmap, and what the journal makes of them: always what was recorded. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/fvd/layout/replay.h"
#include "tests/unit/fvd/journal.h"
#include "util/osdep.h"

#define SECTORS 16
#define ENTRIES 64
#define BLOCKS  128

/* Chunks of 16 sectors, blocks of 8. */
typedef struct Disk {
    FvdJGeometry g;
    uint8_t journal[SECTORS][FVD_JSECTOR_SIZE];
    uint32_t table[ENTRIES];
    uint8_t bitmap[BLOCKS / 8];
} Disk;

static Disk *disk_new(void)
{
    Disk *d = g_new0(Disk, 1);

    d->g = (FvdJGeometry){
        .disk_sectors = 1024,
        .chunk_sectors = 16,
        .table_entries = ENTRIES,
        .chunks = 1000,
        .block_sectors = 8,
        .blocks = BLOCKS,
        .stable_epoch = 2,
        .trailers = true,
        .block_sums = true,
        .remap = true,
    };
    memset(d->table, 0xff, sizeof(d->table));
    return d;
}

static FvdReplay *replay(Disk *d)
{
    FvdReplay *r = fvd_replay_new(d->journal[0], SECTORS, &d->g, &error_abort);

    fvd_replay_apply(r, d->table, d->bitmap, &error_abort);
    return r;
}

static uint32_t entry(const Disk *d, unsigned i)
{
    return le32_to_cpu(d->table[i]);
}

static bool bit(const Disk *d, unsigned i)
{
    return d->bitmap[i / 8] >> (i % 8) & 1;
}

/* A sector that says: entry @i is @chunk. */
static void say(Disk *d, unsigned sector, uint32_t i, uint32_t chunk, uint64_t epoch,
                uint64_t sequence)
{
    memset(d->journal[sector], 0, FVD_JSECTOR_SIZE);
    add_table(d->journal[sector], 0, epoch, 1, i, chunk);
    add_trailer(d->journal[sector], epoch, sequence);
}

static void say_untagged(Disk *d, unsigned sector, uint32_t i, uint32_t chunk)
{
    memset(d->journal[sector], 0, FVD_JSECTOR_SIZE);
    add_table(d->journal[sector], 0, d->g.stable_epoch, 1, i, chunk);
}

static void test_an_empty_journal_changes_nothing(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;
    g_autoptr(FvdReplay) none = fvd_replay_new(NULL, 0, &d->g, &error_abort);
    FvdReplaySum sum;

    d->table[3] = cpu_to_le32(0x80000003);
    r = replay(d);
    g_assert_cmphex(entry(d, 3), ==, 0x80000003);
    g_assert_cmphex(entry(d, 4), ==, FVD_TABLE_EMPTY);
    g_assert_cmpint(fvd_replay_info(r)->empty, ==, SECTORS);
    g_assert_cmpint(fvd_replay_info(r)->next_epoch, ==, 3);
    g_assert_cmpint(fvd_replay_info(r)->next_sequence, ==, 1);
    g_assert_false(fvd_replay_next_sum(r, &sum));
    fvd_replay_apply(none, d->table, d->bitmap, &error_abort);
    g_assert_false(fvd_replay_next_sum(none, &sum));
}

static void test_order_is_that_of_the_sequence(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;

    /* The second half is the older one. */
    say(d, 0, 5, 30, 3, 12);
    say(d, 1, 6, FVD_TABLE_EMPTY, 3, 13);
    say(d, 8, 5, 10, 2, 10);
    say(d, 9, 5, 20, 2, 11);
    say(d, 10, 6, 40, 2, 9);
    r = replay(d);
    g_assert_cmpint(entry(d, 5), ==, 30);
    g_assert_cmphex(entry(d, 6), ==, FVD_TABLE_EMPTY);
    g_assert_cmpint(fvd_replay_info(r)->valid, ==, 5);
    g_assert_cmpint(fvd_replay_info(r)->next_epoch, ==, 4);
    g_assert_cmpint(fvd_replay_info(r)->next_sequence, ==, 14);
}

static void test_old_epochs_are_void_but_counted_on(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;

    say(d, 0, 5, 30, 1, 100);
    say(d, 1, 5, 40, 2, 7);
    /* Of the right epoch, with a record that is not. */
    add_table(d->journal[2], 0, 1, 1, 6, 50);
    add_trailer(d->journal[2], 2, 8);
    /* Nothing in it, and yet it was written. */
    add_trailer(d->journal[3], 9, 200);
    r = replay(d);
    g_assert_cmpint(entry(d, 5), ==, 40);
    g_assert_cmphex(entry(d, 6), ==, FVD_TABLE_EMPTY);
    g_assert_cmpint(fvd_replay_info(r)->old, ==, 1);
    g_assert_cmpint(fvd_replay_info(r)->next_sequence, ==, 201);
    g_assert_cmpint(fvd_replay_info(r)->next_epoch, ==, 10);
}

static void test_torn_sectors_say_nothing(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;

    say(d, 0, 5, 30, 2, 1);
    d->journal[0][300] = 1;
    memset(d->journal[1], 0, FVD_JSECTOR_SIZE);
    add_table(d->journal[1], 0, 2, 1, 6, 7); /* the trailer did not get there */
    r = replay(d);
    g_assert_cmphex(entry(d, 5), ==, FVD_TABLE_EMPTY);
    g_assert_cmphex(entry(d, 6), ==, FVD_TABLE_EMPTY);
    g_assert_cmpint(fvd_replay_info(r)->torn, ==, 1);
    g_assert_cmpint(fvd_replay_info(r)->no_trailer, ==, 1);
}

static void test_bitmap_records_set_the_bits_of_touched_blocks(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;
    unsigned at = 0;

    at = add_bitmap(d->journal[4], at, 15, 2);   /* the end of block 1, the begin of block 2 */
    at = add_bitmap(d->journal[4], at, 80, 320); /* 10 to 49 */
    at = add_bitmap(d->journal[4], at, 500, 0);
    add_trailer(d->journal[4], 2, 1);
    r = replay(d);
    for (unsigned i = 0; i < BLOCKS; i++) {
        g_assert_cmpint(bit(d, i), ==, i == 1 || i == 2 || (i >= 10 && i < 50));
    }
}

static void test_sectors_without_trailers_come_first_by_place(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;
    g_autoptr(Error) err = NULL;

    d->g.remap = d->g.trailers = false;
    say(d, 2, 5, 8, 2, 0);
    say_untagged(d, 7, 5, 7);
    say_untagged(d, 4, 6, 7);
    r = fvd_replay_new(d->journal[0], SECTORS, &d->g, &error_abort);
    g_assert_cmpint(fvd_replay_info(r)->untagged, ==, 2);
    /* Which of them is blamed tells the order. */
    g_assert_cmpint(fvd_replay_apply(r, d->table, d->bitmap, &err), ==, -EIO);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Journal sector 2, byte 0: entry 5 was chunk 7, and must stay what it is");
    error_free_or_abort(&err);
    add_table(d->journal[1], 0, 9, 1, 7, 1);
    say_untagged(d, 3, 6, 9);
    memset(d->table, 0xff, sizeof(d->table));
    fvd_replay_free(r);
    r = fvd_replay_new(d->journal[0], SECTORS, &d->g, &error_abort);
    g_assert_cmpint(fvd_replay_apply(r, d->table, d->bitmap, &err), ==, -EIO);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Journal sector 4, byte 0: entry 6 was chunk 9, and must stay what it is");
    /* Their epochs are those of the records. */
    g_assert_cmpint(fvd_replay_info(r)->next_epoch, ==, 10);
}

static void test_an_entry_may_be_said_again(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;

    d->g.remap = false;
    d->table[5] = cpu_to_le32(0x80000007);
    say(d, 0, 5, 7, 2, 1);
    say(d, 1, 5, 0x80000007, 2, 2);
    r = replay(d);
    g_assert_cmphex(entry(d, 5), ==, 7);
}

/* Else a replay that is done again, with the table it has written, would be told that the entry changes. */
static void test_empty_says_nothing_where_entries_do_not_change(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL, again = NULL;

    d->g.remap = false;
    say(d, 0, 5, FVD_TABLE_EMPTY, 2, 1);
    say(d, 1, 5, 7, 2, 2);
    r = replay(d);
    g_assert_cmphex(entry(d, 5), ==, 7);
    again = replay(d);
    g_assert_cmphex(entry(d, 5), ==, 7);
}

static void expect_no_replay(Disk *d, const char *words)
{
    g_autoptr(Error) err = NULL;

    g_assert_null(fvd_replay_new(d->journal[0], SECTORS, &d->g, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, words);
}

static void test_numbers_that_cannot_be_are_damage(void)
{
    g_autofree Disk *d = disk_new();

    say(d, 3, 1, 1, 2, 77);
    say(d, 12, 2, 2, 2, 77);
    expect_no_replay(d, "Journal sectors 3 and 12 have the same sequence 77");
    say(d, 12, 2, 2, (UINT64_C(1) << 62) + 1, 1);
    expect_no_replay(d, "Journal sector 12: epoch 4611686018427387905 or sequence 1 is too high");
    say(d, 12, 2, 2, 0, UINT64_MAX);
    expect_no_replay(d, "Journal sector 12: epoch 0 or sequence 18446744073709551615 is too high");
    d->g.stable_epoch = UINT64_MAX;
    expect_no_replay(d, "stable_journal_epoch 18446744073709551615 is too high");
}

static void test_entries_that_change_need_trailers(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;

    say_untagged(d, 9, 1, 1);
    r = replay(d); /* void, where TRAILERS is on */
    g_assert_cmphex(entry(d, 1), ==, FVD_TABLE_EMPTY);
    d->g.trailers = false;
    expect_no_replay(
        d, "Journal sector 9 has no trailer, and where entries change each must have one");
}

static void test_damage_in_a_record_ends_the_replay(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;
    g_autoptr(Error) err = NULL;

    say(d, 3, ENTRIES, 1, 2, 77);
    say(d, 4, 1, 1, 2, 78);
    r = fvd_replay_new(d->journal[0], SECTORS, &d->g, &error_abort);
    g_assert_cmpint(fvd_replay_apply(r, d->table, d->bitmap, &err), ==, -EIO);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Journal sector 3, byte 0: table record for entries 64 + 1, the table has 64");
    g_assert_cmphex(entry(d, 1), ==, FVD_TABLE_EMPTY);
}

static void test_sums_are_asked_for_where_no_bit_is_set(void)
{
    g_autofree Disk *d = disk_new();
    g_autoptr(FvdReplay) r = NULL;
    GString *text = g_string_new(NULL);
    FvdReplaySum sum;
    unsigned at;

    d->bitmap[0] = 1 << 3;
    at = add_sums(d->journal[9], 0, 2, 4, 100); /* 3 is set already */
    add_table(d->journal[9], add_sums(d->journal[9], at, 9, 0, 0), 2, 1, 1, 1);
    add_trailer(d->journal[9], 2, 1);
    at = add_sums(d->journal[1], 0, 4, 2, 200); /* again, and other data */
    add_bitmap(d->journal[1], at, 5 * 8, 8);    /* 5 is for certain */
    add_trailer(d->journal[1], 2, 2);
    r = replay(d);
    for (int twice = 0; twice < 2; twice++) {
        while (fvd_replay_next_sum(r, &sum)) {
            g_string_append_printf(text, "%" PRIu64 ":%" PRIu32 " ", sum.block, sum.crc);
        }
    }
    g_assert_cmpstr(text->str, ==, "2:100 4:102 4:200 2:100 4:102 4:200 ");
    g_string_truncate(text, 0);
    while (fvd_replay_next_sum(r, &sum)) {
        g_string_append_printf(text, "%" PRIu64 ":%" PRIu32 " ", sum.block, sum.crc);
        d->bitmap[0] |= 1 << sum.block;
    }
    g_assert_cmpstr(text->str, ==, "2:100 4:102 ");
    g_assert_false(fvd_replay_next_sum(r, &sum));
    g_string_free(text, true);
}

/* -------------------------------------------------------------------------------- no chunk twice */

static void expect_twice(const uint32_t *table, uint32_t n, const char *words)
{
    g_autoptr(Error) err = NULL;
    uint32_t used = 77;

    g_assert_cmpint(fvd_table_check(table, n, 0x7fffffff, &used, &err), ==, -EIO);
    g_assert_cmpstr(error_get_pretty(err), ==, words);
    g_assert_cmpint(used, ==, 77);
}

static void test_a_chunk_twice_is_damage(void)
{
    uint32_t table[100];
    uint32_t used;

    for (unsigned far = 0; far < 2; far++) {
        uint32_t base = far ? 0x7fffff00 : 0;

        memset(table, 0xff, sizeof(table));
        fvd_table_check(table, 100, 0x7fffffff, &used, &error_abort);
        g_assert_cmpint(used, ==, 0);
        table[90] = cpu_to_le32(base + 10);
        table[7] = cpu_to_le32(base + 11);
        table[8] = cpu_to_le32((base + 9) | FVD_TABLE_DIRTY);
        fvd_table_check(table, 100, 0x7fffffff, &used, &error_abort);
        g_assert_cmphex(used, ==, base + 12);
        table[20] = cpu_to_le32((base + 10) | FVD_TABLE_DIRTY);
        expect_twice(table, 100,
                     far ? "Table entries 20 and 90 are both chunk 2147483402"
                         : "Table entries 20 and 90 are both chunk 10");
    }
    memset(table, 0xff, sizeof(table));
    table[99] = cpu_to_le32(0x7fffffff);
    expect_twice(table, 100, "Table entry 99 is chunk 2147483647, they must be below 2147483647");
}

/* ------------------------------------------------------------------------------------ random crashes */

#define HALF        (SECTORS / 2)
#define STEPS_MAX   100
#define STEP_WRITES 6

/* What one sector said. */
typedef struct Step {
    unsigned sector;
    uint8_t before[FVD_JSECTOR_SIZE]; /* what was there */
    uint64_t epoch;
    unsigned writes;
    uint32_t entry[STEP_WRITES], chunk[STEP_WRITES];
    unsigned first[STEP_WRITES], count[STEP_WRITES];
} Step;

typedef struct Story {
    GRand *rand;
    Disk *d;
    Step steps[STEPS_MAX];
    unsigned n_steps;
    unsigned durable;    /* of the steps, those that a flush has covered */
    unsigned checkpoint; /* those that table and bitmap of the disk have for certain */
} Story;

static void do_step(Disk *d, const Step *s)
{
    for (unsigned i = 0; i < s->writes; i++) {
        d->table[s->entry[i]] = cpu_to_le32(s->chunk[i]);
        for (unsigned k = s->first[i] / 8; k < DIV_ROUND_UP(s->first[i] + s->count[i], 8); k++) {
            d->bitmap[k / 8] |= 1 << (k % 8);
        }
    }
}

static void write_step(Story *st, Step *s)
{
    uint8_t *buf = st->d->journal[s->sector];
    FvdJSector js;

    memcpy(s->before, buf, FVD_JSECTOR_SIZE);
    fvd_jsector_start(&js, buf);
    s->writes = g_rand_int_range(st->rand, 1, STEP_WRITES + 1);
    for (unsigned i = 0; i < s->writes; i++) {
        uint32_t word;
        FvdJChange c = {.epoch = s->epoch, .entries = &word, .n_chunks = 1};

        s->entry[i] = g_rand_int_range(st->rand, 0, ENTRIES);
        s->chunk[i] = FVD_TABLE_EMPTY;
        if (g_rand_int_range(st->rand, 0, 4)) {
            s->chunk[i] = g_rand_int_range(st->rand, 0, 1000);
        }
        s->first[i] = s->entry[i] * 16 + g_rand_int_range(st->rand, 0, 16);
        s->count[i] = g_rand_int_range(st->rand, 1, s->entry[i] * 16 + 17 - s->first[i]);
        word = cpu_to_le32(s->chunk[i]);
        c.first_chunk = s->entry[i];
        c.first_sector = s->first[i];
        c.n_sectors = s->count[i];
        g_assert_true(fvd_jsector_put(&js, &c, &st->d->g));
    }
    fvd_jsector_finish(&js, s->epoch, 1000 + st->n_steps);
}

/* Table and bitmap as all steps below @a left them, or here and there a later one, below @b. */
static void write_checkpoint(Story *st, Disk *to, unsigned a, unsigned b)
{
    g_autofree Disk *early = disk_new(), *late = disk_new();

    for (unsigned i = 0; i < b; i++) {
        if (i < a) {
            do_step(early, &st->steps[i]);
        }
        do_step(late, &st->steps[i]);
    }
    for (unsigned i = 0; i < ENTRIES; i++) {
        to->table[i] = g_rand_boolean(st->rand) ? early->table[i] : late->table[i];
    }
    for (unsigned i = 0; i < sizeof(to->bitmap); i++) {
        to->bitmap[i] = g_rand_boolean(st->rand) ? early->bitmap[i] : late->bitmap[i];
    }
}

/* Fill the halves in turn, for some time.  What is not durable at the end may be there or torn. */
static void run(Story *st)
{
    unsigned end = g_rand_int_range(st->rand, 1, STEPS_MAX);
    uint64_t epoch = 2;
    unsigned at = 0, begin_of_other = 0, begin_of_this = 0;

    while (st->n_steps < end) {
        Step *s = &st->steps[st->n_steps];

        if (at == HALF || (at > 0 && g_rand_int_range(st->rand, 0, 12) == 0)) {
            /* F5: what the other half says gets into table and bitmap, then it is filled. */
            at = 0;
            epoch++;
            begin_of_other = begin_of_this;
            begin_of_this = st->durable = st->n_steps;
            if (epoch > 3) {
                st->checkpoint = begin_of_other;
                st->d->g.stable_epoch = epoch - 1;
            }
        }
        s->sector = (epoch % 2) * HALF + at++;
        s->epoch = epoch;
        write_step(st, s);
        st->n_steps++;
    }
    write_checkpoint(st, st->d, st->checkpoint, st->durable);
}

static void assert_same(const Disk *a, const Disk *b)
{
    g_assert_cmpmem(a->table, sizeof(a->table), b->table, sizeof(b->table));
    g_assert_cmpmem(a->bitmap, sizeof(a->bitmap), b->bitmap, sizeof(b->bitmap));
}

/* Of a sector that was not flushed; any other number is WRITTEN as well. */
enum { FATE_TORN, FATE_LOST, FATE_WRITTEN };

static void crash_story(uint32_t seed)
{
    Story st = {.rand = g_rand_new_with_seed(seed), .d = disk_new()};
    g_autofree Disk *expected = disk_new(), *before = NULL;
    g_autoptr(FvdReplay) r = NULL, again = NULL, interrupted = NULL;
    unsigned torn = 0;

    run(&st);
    for (unsigned i = 0; i < st.n_steps; i++) {
        uint8_t *buf = st.d->journal[st.steps[i].sector];

        unsigned fate = i < st.durable ? FATE_WRITTEN : g_rand_int_range(st.rand, 0, 4);

        if (fate == FATE_TORN) {
            buf[g_rand_int_range(st.rand, 0, FVD_JSECTOR_SIZE)] ^=
                g_rand_int_range(st.rand, 1, 256);
            torn++;
        } else if (fate == FATE_LOST) {
            memcpy(buf, st.steps[i].before, FVD_JSECTOR_SIZE);
        } else {
            do_step(expected, &st.steps[i]);
        }
    }
    before = g_memdup2(st.d, sizeof(*before));
    r = replay(st.d);
    assert_same(st.d, expected);
    g_assert_cmpint(fvd_replay_info(r)->torn + fvd_replay_info(r)->no_trailer, ==, torn);
    /* Once more, all of it having been written but the epoch. */
    again = replay(st.d);
    assert_same(st.d, expected);
    /* Some of it had been written when the next crash came. */
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (g_rand_boolean(st.rand)) {
            before->table[i] = expected->table[i];
        }
    }
    for (unsigned i = 0; i < sizeof(before->bitmap); i++) {
        if (g_rand_boolean(st.rand)) {
            before->bitmap[i] = expected->bitmap[i];
        }
    }
    interrupted = replay(before);
    assert_same(before, expected);
    g_rand_free(st.rand);
    g_free(st.d);
}

static void test_after_any_crash_all_that_was_recorded_is_there(void)
{
    uint32_t seed = journal_test_seed();

    for (unsigned i = 0; i < journal_test_seeds(1000); i++) {
        crash_story(seed + i);
    }
}

#define TEST(name, fn) g_test_add_func("/fvd/replay/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("an empty journal changes nothing", test_an_empty_journal_changes_nothing);
    TEST("the order of sectors is that of their sequence, whichever half they are in",
         test_order_is_that_of_the_sequence);
    TEST("sectors of an old epoch are void, their numbers not used again",
         test_old_epochs_are_void_but_counted_on);
    TEST("torn sectors say nothing", test_torn_sectors_say_nothing);
    TEST("a bitmap record sets the bits of all blocks it touches",
         test_bitmap_records_set_the_bits_of_touched_blocks);
    TEST("sectors without trailers come first, by place",
         test_sectors_without_trailers_come_first_by_place);
    TEST("an entry may be said again, DIRTY or not", test_an_entry_may_be_said_again);
    TEST("EMPTY in a record says nothing where entries do not change",
         test_empty_says_nothing_where_entries_do_not_change);
    TEST("numbers that cannot be are damage", test_numbers_that_cannot_be_are_damage);
    TEST("where entries change, a sector without trailer is damage",
         test_entries_that_change_need_trailers);
    TEST("damage in a record ends the replay", test_damage_in_a_record_ends_the_replay);
    TEST("checksums are asked for where no bit is set",
         test_sums_are_asked_for_where_no_bit_is_set);
    TEST("a chunk that is there twice is damage", test_a_chunk_twice_is_damage);
    TEST("after any crash, and any crash after it, all that was recorded is there",
         test_after_any_crash_all_that_was_recorded_is_there);
    return g_test_run();
}
