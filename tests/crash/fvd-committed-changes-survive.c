/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F2, F4, F5, F6: power is cut while changes are added to FVD's journal, committed and checkpointed, and the disk loses,
 * tears and reorders what was not flushed.  Replay then finds all that was committed, nothing that was not added, and
 * no bit whose data is not there.  The image goes on with what was found, in the same journal, for some more cuts.
 *
 * The image here: a header that is the stable epoch, table, bitmap, journal and blocks of data, in one file.
 */
#include <errno.h>
#include "aio/timer.h"
#include "block/drivers/fvd/journal-buf.h"
#include "block/drivers/fvd/layout/replay.h"
#include "block/io/io.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-slow.h"
#include "util/osdep.h"

#define ENTRIES     1024
#define BLOCKS      1024
#define TABLE_AT    (4 * KiB)
#define BITMAP_AT   (8 * KiB)
#define JOURNAL_AT  (12 * KiB)
#define JOURNAL_MAX (32 * KiB)
#define DATA_AT     (48 * KiB)
#define DISK_BYTES  (DATA_AT + BLOCKS * 512)
#define TASKS       5
#define LIVES       4

typedef struct Added {
    FvdJTicket ticket;
    bool bits;
    uint32_t first, n, value; /* entries become value and following */
} Added;

typedef struct Story {
    uint32_t seed;
    GRand *rand;
    BlockDriverState *disk, *slow;
    BdrvChild *user;
    FvdJournal *j;
    FvdJGeometry g;
    int64_t journal_bytes;
    uint64_t next_epoch, next_sequence;
    uint32_t next_value; /* a value is used once */
    unsigned running;
    GArray *added; /* of this life, in order */
    FvdJTicket committed;
    /* What the last replay found; what is on disk, or about to be; what must be there at least. */
    uint32_t found[ENTRIES], table[ENTRIES], promised[ENTRIES];
    uint8_t bitmap[BLOCKS / 8], promised_bits[BLOCKS / 8];
    bool taken[BLOCKS], recorded[BLOCKS]; /* for a write of its bits; handed to the journal */
    unsigned applied;                     /* of added, in table and bitmap */
} Story;

/* ------------------------------------------------------------------------- what the journal's owner does */

static bool has_bit(const uint8_t *bitmap, uint32_t i)
{
    return bitmap[i / 8] >> i % 8 & 1;
}

/* What has tickets up to @upto goes into @table and @bitmap; gives how many of s->added do. */
static unsigned apply(Story *s, unsigned from, FvdJTicket upto, uint32_t *table, uint8_t *bitmap)
{
    for (; from < s->added->len; from++) {
        const Added *a = &g_array_index(s->added, Added, from);

        if (a->ticket > upto) {
            break;
        }
        for (uint32_t i = a->first; i < a->first + a->n; i++) {
            table[i] = cpu_to_le32(a->value + (i - a->first));
            if (a->bits) {
                bitmap[i / 8] |= 1 << i % 8;
            }
        }
    }
    return from;
}

static int coroutine_fn flush_data(void *opaque)
{
    Story *s = opaque;

    return bdrv_co_flush(s->slow);
}

static void record_durable(void *opaque, FvdJTicket upto)
{
    Story *s = opaque;

    s->applied = apply(s, s->applied, upto, s->table, s->bitmap); /* F6 */
}

static int coroutine_fn write_header(Story *s, uint64_t stable_epoch)
{
    uint8_t sector[512] = {0};

    stq_le_p(sector, stable_epoch);
    return bdrv_co_pwrite(s->user, 0, sizeof(sector), sector, 0);
}

static int coroutine_fn checkpoint(void *opaque, unsigned half, FvdJTicket upto,
                                   uint64_t stable_epoch)
{
    Story *s = opaque;
    g_autofree uint32_t *table = g_memdup2(s->table, sizeof(s->table));
    g_autofree uint8_t *bitmap = g_memdup2(s->bitmap, sizeof(s->bitmap));
    int ret = bdrv_co_pwrite(s->user, TABLE_AT, sizeof(s->table), table, 0);

    ret = ret < 0 ? ret : bdrv_co_pwrite(s->user, BITMAP_AT, sizeof(s->bitmap), bitmap, 0);
    ret = ret < 0 ? ret : bdrv_co_flush(s->slow);
    ret = ret < 0 ? ret : write_header(s, stable_epoch);
    return ret < 0 ? ret : bdrv_co_flush(s->slow);
}

static const FvdJournalOps ops = {
    .co_flush_data = flush_data,
    .co_checkpoint = checkpoint,
    .record_durable = record_durable,
};

/* --------------------------------------------------------------------------------------------- writers */

static void data_of(uint32_t block, uint8_t *buf)
{
    memset(buf, 1 + block % 255, 512);
}

/* Data of blocks that have no bit, as many as there are of the @n from @first on. */
static int coroutine_fn write_blocks(Story *s, uint32_t first, uint32_t *n)
{
    uint32_t end = first;

    while (end < first + *n && !s->taken[end]) {
        s->taken[end++] = true;
    }
    *n = end - first;
    for (uint32_t i = first; i < end; i++) {
        uint8_t buf[512];
        int ret;

        data_of(i, buf);
        ret = bdrv_co_pwrite(s->user, DATA_AT + (int64_t)i * 512, 512, buf, 0);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

static int coroutine_fn one_change(Story *s)
{
    bool large = g_rand_int_range(s->rand, 0, 12) == 0;
    Added a = {.bits = !large && g_rand_boolean(s->rand)};
    FvdJChange c = {0};
    uint32_t entries[ENTRIES];
    int ret;

    a.n = g_rand_int_range(s->rand, 1, large ? ENTRIES * 3 / 4 : 4);
    a.first = g_rand_int_range(s->rand, 0, ENTRIES - a.n);
    if (a.bits) {
        ret = write_blocks(s, a.first, &a.n);
        if (ret < 0 || a.n == 0) {
            return ret;
        }
    }
    a.value = s->next_value;
    s->next_value += a.n;
    for (uint32_t i = 0; i < a.n; i++) {
        entries[i] = cpu_to_le32(a.value + i);
        s->recorded[a.first + i] |= a.bits;
    }
    c = (FvdJChange){.entries = entries, .first_chunk = a.first, .n_chunks = a.n};
    if (a.bits) {
        c.first_sector = a.first;
        c.n_sectors = a.n;
    }
    a.ticket = fvd_journal_add(s->j, &c);
    if (a.ticket < 0) {
        return a.ticket;
    }
    g_array_append_val(s->added, a);
    return 0;
}

static void coroutine_fn writer_entry(void *opaque)
{
    Story *s = opaque;
    int ret = 0;

    while (ret == 0) {
        if (g_rand_int_range(s->rand, 0, 4)) {
            ret = fvd_journal_co_wait_room(s->j);
            ret = ret < 0 ? ret : one_change(s);
        } else {
            FvdJTicket t = fvd_journal_last(s->j);

            ret = fvd_journal_co_commit(s->j, t);
            if (ret == 0) {
                s->committed = MAX(s->committed, t);
            }
        }
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 40));
    }
    s->running--;
}

static void coroutine_fn live(Story *s)
{
    FvdJournalConfig c = {
        .node = s->slow,
        .metadata = s->user,
        .offset = JOURNAL_AT,
        .size = s->journal_bytes,
        .geometry = s->g,
        .start_epoch = s->next_epoch,
        .start_sequence = s->next_sequence,
        .def_buf_size = 4 * KiB * g_rand_int_range(s->rand, 1, 4),
        .clean_buf_period_ns = g_rand_int_range(s->rand, 1, 300),
        .ops = &ops,
        .opaque = s,
    };

    g_array_set_size(s->added, 0);
    s->committed = 0;
    s->applied = 0;
    s->j = fvd_journal_new(&c);
    test_cut_arm(s->disk, test_cut_moments(s->disk) + g_rand_int_range(s->rand, 1, 150));
    s->running = TASKS;
    for (int i = 0; i < TASKS; i++) {
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(writer_entry, s));
    }
    while (s->running > 0) {
        qemu_co_sleep_ns(100);
    }
    g_assert_true(test_cut_is_off(s->disk));
    g_assert_cmpint(fvd_journal_co_close(s->j), ==, -EIO);
    fvd_journal_free(s->j);
}

/* -------------------------------------------------------------------------------------------- what is left */

/* Which change gave entry @i value @v: its number from 1 on; 0, what the last replay found; -1, none. */
static int change_of(const Story *s, uint32_t i, uint32_t v)
{
    if (v == le32_to_cpu(s->found[i])) {
        return 0;
    }
    for (unsigned k = 0; k < s->added->len; k++) {
        const Added *a = &g_array_index(s->added, Added, k);

        if (i >= a->first && i < a->first + a->n && v == a->value + (i - a->first)) {
            return k + 1;
        }
    }
    return -1;
}

static void check(Story *s, const uint32_t *table, const uint8_t *bitmap)
{
    memcpy(s->promised, s->found, sizeof(s->found));
    apply(s, 0, s->committed, s->promised, s->promised_bits);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint32_t v = le32_to_cpu(table[i]), least = le32_to_cpu(s->promised[i]);

        if (change_of(s, i, v) < change_of(s, i, least)) {
            g_error("SEED=%u: entry %u is %u, which is older than %u, or nobody's", s->seed, i, v,
                    least);
        }
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint8_t is[512], should[512];

        if (has_bit(s->promised_bits, i) && !has_bit(bitmap, i)) {
            g_error("SEED=%u: the bit of block %u is lost", s->seed, i);
        }
        if (!has_bit(bitmap, i)) {
            continue;
        }
        test_cut_peek_stable(s->disk, DATA_AT + (int64_t)i * 512, is, 512);
        data_of(i, should);
        if (!s->recorded[i] || memcmp(is, should, 512)) {
            g_error("SEED=%u: the bit of block %u is set, its data is not there", s->seed, i);
        }
    }
}

/* After the power is back: replay, check, and the image is as an open would leave it. */
static void coroutine_fn recover(Story *s)
{
    g_autofree uint8_t *journal = g_malloc(s->journal_bytes);
    g_autoptr(FvdReplay) r = NULL;
    uint8_t header[8];

    test_cut_peek_stable(s->disk, 0, header, sizeof(header));
    test_cut_peek_stable(s->disk, TABLE_AT, s->table, sizeof(s->table));
    test_cut_peek_stable(s->disk, BITMAP_AT, s->bitmap, sizeof(s->bitmap));
    test_cut_peek_stable(s->disk, JOURNAL_AT, journal, s->journal_bytes);
    s->g.stable_epoch = ldq_le_p(header);
    r = fvd_replay_new(journal, s->journal_bytes / FVD_JSECTOR_SIZE, &s->g, &error_abort);
    fvd_replay_apply(r, s->table, s->bitmap, &error_abort);
    check(s, s->table, s->bitmap);

    memcpy(s->found, s->table, sizeof(s->found));
    memcpy(s->promised_bits, s->bitmap, sizeof(s->bitmap));
    for (uint32_t i = 0; i < BLOCKS; i++) {
        s->taken[i] = s->recorded[i] = has_bit(s->bitmap, i);
    }
    s->next_epoch = fvd_replay_info(r)->next_epoch;
    s->next_sequence = fvd_replay_info(r)->next_sequence;
    g_assert_cmpint(checkpoint(s, 0, 0, s->next_epoch), ==, 0);
}

static Story *coroutine_fn story_new(uint32_t seed)
{
    Story *s = g_new0(Story, 1);

    s->seed = seed;
    s->rand = g_rand_new_with_seed(seed);
    s->journal_bytes = 4 * KiB * g_rand_int_range(s->rand, 2, JOURNAL_MAX / (4 * KiB) + 1);
    s->disk = test_cut_new("disk", DISK_BYTES);
    s->slow = test_slow_new("slow", s->disk, s->rand, 30);
    bdrv_co_unref(s->disk); /* the filter has one */
    s->user = block_test_user(s->slow, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    s->added = g_array_new(false, false, sizeof(Added));
    s->g = (FvdJGeometry){
        .disk_sectors = ENTRIES,
        .chunk_sectors = 1,
        .table_entries = ENTRIES,
        .chunks = 0x7fffffff,
        .block_sectors = 1,
        .blocks = BLOCKS,
        .trailers = true,
        .remap = true,
    };
    s->next_epoch = s->next_sequence = s->next_value = 1;
    memset(s->found, 0xff, sizeof(s->found));
    memset(s->table, 0xff, sizeof(s->table));
    g_assert_cmpint(checkpoint(s, 0, 0, s->next_epoch), ==, 0);
    return s;
}

static void coroutine_fn story(uint32_t seed)
{
    Story *s = story_new(seed);

    for (int i = 0; i < LIVES; i++) {
        TestCutFate fate = {
            .seed = g_rand_int(s->rand),
            .tear_bytes = 512,
            .reorder = true,
            .drop_all = g_rand_int_range(s->rand, 0, 4) == 0,
        };

        live(s);
        test_cut_power_on(s->disk, &fate);
        recover(s);
    }
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->slow);
    g_array_free(s->added, true);
    g_rand_free(s->rand);
    g_free(s);
}

static void coroutine_fn test_what_was_committed_survives_the_power(void)
{
    uint32_t first = block_test_seed();
    const char *seeds = g_getenv("SEEDS");
    unsigned n = seeds ? g_ascii_strtoull(seeds, NULL, 10) : 100;

    for (unsigned i = 0; i < n; i++) {
        story(first + i);
    }
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/crash/fvd/what was committed survives the power, and nothing is invented",
                   test_what_was_committed_survives_the_power);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
