/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Damage of each kind, made by hand: it is found, named, repaired, and then there is nothing to be found. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/image/image.h"
#include "block/open/open.h"
#include "qapi/json-parser.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "tests/unit/fvd/journal.h"
#include "util/osdep.h"

/* 16 chunks; a base of 5 blocks; 32 sectors of journal. */
#define CHUNK   (64 * KiB)
#define SIZE    (16 * CHUNK)
#define BLOCK   (64 * KiB)
#define BLOCKS  5
#define JOURNAL (16 * KiB)
#define BOTH    (BDRV_FIX_LEAKS | BDRV_FIX_ERRORS)

typedef struct Image {
    BlockDriverState *file;
    FvdHeader h;
} Image;

static void coroutine_fn reload(Image *i)
{
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);

    test_ram_peek(i->file, 0, buf, FVD_HEADER_REGION);
    fvd_header_decode(buf, FVD_HEADER_REGION, &i->h, &error_abort);
}

static void coroutine_fn set_length(Image *i, int64_t length)
{
    BdrvChild *user = block_test_user(i->file, BLK_PERM_RESIZE);

    bdrv_co_truncate(user, length, true, PREALLOC_MODE_OFF, 0, &error_abort);
    block_test_co_user_free(user);
}

/* With place for 24 chunks, which is what it grows by. */
static Image *coroutine_fn image_new(const char *more)
{
    Image *i = g_new0(Image, 1);
    json_t *o = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:s,s:I}", "driver", "fvd", "file", "f",
                          "size", (json_int_t)SIZE, "chunk-size", (json_int_t)CHUNK, "block-size",
                          (json_int_t)BLOCK, "journal-size", (json_int_t)JOURNAL,
                          "storage-grow-unit", (json_int_t)(24 * CHUNK), "backing-file", "b",
                          "backing-size", (json_int_t)(BLOCKS * BLOCK));
    json_t *others = json_parse_string(more, &error_abort);
    BlockdevCreateOptions *opts;

    json_object_update(o, others);
    json_decref(others);
    opts = qapi_BlockdevCreateOptions_from_json(o, &error_abort);
    json_decref(o);
    i->file = test_ram_new("f", 0);
    fvd_co_create(opts, NULL, &error_abort);
    qapi_free_BlockdevCreateOptions(opts);
    reload(i);
    set_length(i, i->h.data_offset + 24 * CHUNK);
    return i;
}

static void coroutine_fn image_free(Image *i)
{
    bdrv_co_unref(i->file);
    g_free(i);
}

static void store_header(Image *i)
{
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);

    fvd_header_encode(&i->h, buf);
    test_ram_poke(i->file, 0, buf, FVD_HEADER_REGION);
}

/* The entry, and a chunk full of a number. */
static void set_entry(Image *i, uint32_t entry, uint32_t chunk)
{
    uint32_t word = cpu_to_le32(chunk);

    test_ram_poke(i->file, i->h.table_offset + 4 * entry, &word, 4);
}

static uint32_t get_entry(Image *i, uint32_t entry)
{
    uint32_t word;

    test_ram_peek(i->file, i->h.table_offset + 4 * entry, &word, 4);
    return le32_to_cpu(word);
}

static uint8_t get_bits(Image *i)
{
    uint8_t bits;

    test_ram_peek(i->file, i->h.bitmap_offset, &bits, 1);
    return bits;
}

static void fill_chunk(Image *i, uint32_t chunk, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(CHUNK);

    memset(buf, byte, CHUNK);
    test_ram_poke(i->file, i->h.data_offset + chunk * CHUNK, buf, CHUNK);
}

static void expect_chunk(Image *i, uint32_t chunk, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(CHUNK);

    test_ram_peek(i->file, i->h.data_offset + chunk * CHUNK, buf, CHUNK);
    for (int64_t at = 0; at < CHUNK; at++) {
        g_assert_cmphex(buf[at], ==, byte);
    }
}

static void put_sector(Image *i, uint32_t number, const uint8_t *sector)
{
    test_ram_poke(i->file, i->h.journal_offset + number * FVD_JSECTOR_SIZE, sector,
                  FVD_JSECTOR_SIZE);
}

static void make_dirty(Image *i)
{
    i->h.clean_shutdown = 0;
    store_header(i);
}

/* ------------------------------------------------------------------------------------------ the check */

typedef struct Outcome {
    BdrvCheckResult r;
    GString *said;
} Outcome;

static void hear(void *opaque, const char *line)
{
    g_string_append_printf(opaque, "%s\n", line);
}

static BlockDriverState *coroutine_fn open_to_check(bool read_only)
{
    g_autofree char *name =
        g_strdup_printf("json:{'driver':'fvd','file':'f','read-only':%s,'backing':null}",
                        read_only ? "true" : "false");
    BdrvOpenFileArgs args = {.filename = name, .check = true};

    return bdrv_co_open_file(&args, &error_abort);
}

static Outcome *coroutine_fn check(unsigned fix)
{
    Outcome *o = g_new0(Outcome, 1);
    BlockDriverState *bs = open_to_check(fix == 0);
    BdrvChild *user = block_test_user(
        bs, BLK_PERM_CONSISTENT_READ | (fix ? BLK_PERM_WRITE | BLK_PERM_RESIZE : (uint64_t)0));

    o->said = g_string_new(NULL);
    o->r.message = hear;
    o->r.opaque = o->said;
    bs->drv->image->co_check(bs, &o->r, fix, &error_abort);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    return o;
}

static void outcome_free(Outcome *o)
{
    g_string_free(o->said, true);
    g_free(o);
}

static void expect_said(const Outcome *o, const char *words)
{
    if (!strstr(o->said->str, words)) {
        g_error("expected '%s', was told '%s'", words, o->said->str);
    }
}

static void coroutine_fn expect_sound(void)
{
    Outcome *o = check(0);

    if (o->r.corruptions || o->r.leaks || o->r.check_errors || o->said->len) {
        g_error("not sound: %s", o->said->str);
    }
    outcome_free(o);
}

/* Found and named; a check changes nothing; repaired; and then it is sound. */
static void coroutine_fn expect_repair(int64_t corruptions, int64_t leaks, const char *words,
                                       const char *repair_words)
{
    Outcome *o = check(0);

    g_assert_cmpint(o->r.corruptions, ==, corruptions);
    g_assert_cmpint(o->r.leaks, ==, leaks);
    expect_said(o, words);
    outcome_free(o);
    o = check(BOTH);
    g_assert_cmpint(o->r.corruptions, ==, 0);
    g_assert_cmpint(o->r.leaks, ==, 0);
    g_assert_cmpint(o->r.corruptions_fixed, ==, corruptions);
    g_assert_cmpint(o->r.leaks_fixed, ==, leaks);
    expect_said(o, words);
    expect_said(o, repair_words);
    outcome_free(o);
    expect_sound();
}

/* -------------------------------------------------------------------------------------------- stories */

static void coroutine_fn a_new_image_is_sound(void)
{
    static const char *const kinds[] = {"{}", "{'version':'v1'}", "{'chunk-size':0}"};

    for (size_t n = 0; n < ARRAY_SIZE(kinds); n++) {
        Image *i = image_new(kinds[n]);
        Outcome *o;

        expect_sound();
        o = check(0);
        g_assert_cmpint(o->r.total_clusters, ==, n == 2 ? 0 : 16);
        g_assert_cmpint(o->r.allocated_clusters, ==, 0);
        outcome_free(o);
        image_free(i);
    }
}

static void coroutine_fn an_image_in_use_says_how_it_lies(void)
{
    Image *i = image_new("{}");
    Outcome *o;

    set_entry(i, 0, 0);
    set_entry(i, 1, 1);
    set_entry(i, 7, 5);
    set_entry(i, 8, 4 | 0x80000000u); /* DIRTY has no meaning there */
    fill_chunk(i, 5, 1);
    expect_sound();
    o = check(0);
    g_assert_cmpint(o->r.allocated_clusters, ==, 4);
    g_assert_cmpint(o->r.fragmented_clusters, ==, 2);
    g_assert_cmpint(o->r.image_end_offset, ==, i->h.data_offset + 6 * CHUNK);
    outcome_free(o);
    image_free(i);
}

static void coroutine_fn two_entries_for_one_chunk_each_keep_the_data(void)
{
    Image *i = image_new("{}");

    fill_chunk(i, 0, 0xa0);
    fill_chunk(i, 1, 0xa1);
    set_entry(i, 2, 1);
    set_entry(i, 3, 0);
    set_entry(i, 9, 1);
    set_entry(i, 12, 1);
    expect_repair(2, 0, "ERROR Table entries 2 and 12 are both chunk 1",
                  "Repairing table entry 9: it gets a copy, chunk 2");
    g_assert_cmpuint(get_entry(i, 2), ==, 1);
    g_assert_cmpuint(get_entry(i, 9), ==, 2);
    g_assert_cmpuint(get_entry(i, 12), ==, 3);
    expect_chunk(i, 0, 0xa0);
    for (uint32_t chunk = 1; chunk < 4; chunk++) {
        expect_chunk(i, chunk, 0xa1);
    }
    image_free(i);
}

/* The highest chunk that can be is in use: there are others. */
static void coroutine_fn a_copy_goes_where_nobody_is(void)
{
    Image *i = image_new("{}");

    fill_chunk(i, 0, 0xa0);
    set_entry(i, 2, 0x7ffffffe);
    set_entry(i, 3, 0);
    set_entry(i, 4, 0);
    set_entry(i, 5, 1);
    set_entry(i, 6, 3);
    set_entry(i, 7, 0);
    expect_repair(2, 0, "ERROR Table entries 3 and 7 are both chunk 0",
                  "Repairing table entry 7: it gets a copy, chunk 4");
    g_assert_cmpuint(get_entry(i, 4), ==, 2);
    expect_chunk(i, 4, 0xa0);
    image_free(i);
}

static void coroutine_fn a_copy_that_has_no_room_is_not_promised(void)
{
    Image *i = image_new("{}");
    Outcome *o;

    fill_chunk(i, 0, 1);
    set_entry(i, 2, 0);
    set_entry(i, 3, 0);
    set_length(i, i->h.data_offset + CHUNK);
    test_ram_set_capacity(i->file, i->h.data_offset + CHUNK);
    o = check(BOTH);
    g_assert_cmpint(o->r.corruptions, ==, 1);
    g_assert_cmpint(o->r.corruptions_fixed, ==, 0);
    expect_said(o, "Table entry 3 is not repaired");
    outcome_free(o);
    g_assert_cmpuint(get_entry(i, 3), ==, 0);
    image_free(i);
}

static void coroutine_fn chunks_that_cannot_be_become_empty(void)
{
    Image *i = image_new("{}");

    fill_chunk(i, 0, 1);
    set_entry(i, 1, 0);
    set_entry(i, 4, 0x7fffffff);
    expect_repair(1, 0, "ERROR Table entry 4 is chunk 2147483647, they must be below 2147483647",
                  "Repairing table entry 4: it is EMPTY");
    g_assert_cmphex(get_entry(i, 4), ==, 0xffffffff);
    g_assert_cmpuint(get_entry(i, 1), ==, 0);
    image_free(i);
}

static void coroutine_fn bits_behind_the_base_are_no_damage_and_a_repair_clears_them(void)
{
    Image *i = image_new("{}");
    uint8_t bits = 0xe2;
    Outcome *o;

    test_ram_poke(i->file, i->h.bitmap_offset, &bits, 1);
    expect_sound();
    o = check(BOTH);
    expect_said(o, "bits behind its last block, 4, are cleared");
    g_assert_cmpint(o->r.corruptions_fixed, ==, 0);
    outcome_free(o);
    g_assert_cmphex(get_bits(i), ==, 0x02);
    image_free(i);
}

static void coroutine_fn wrong_checksums_of_the_header_get_a_word_and_are_set_right(void)
{
    static const struct {
        const char *version;
        int64_t at; /* in the base's name; copy_on_read */
        const char *word, *why;
    } cases[] = {
        {"{}", 1064, "geometry_crc is not that of the header", "power has failed"},
        {"{}", 3220, "state_crc is not that of the header", "power has failed"},
        {"{'version':'v1'}", 1064, "geometry_crc", "a program that does not know it"},
    };

    for (size_t n = 0; n < ARRAY_SIZE(cases); n++) {
        Image *i = image_new(cases[n].version);
        uint8_t byte = 'c';
        Outcome *o;

        test_ram_poke(i->file, cases[n].at, &byte, 1);
        o = check(0);
        g_assert_cmpint(o->r.corruptions, ==, 0);
        expect_said(o, cases[n].word);
        expect_said(o, cases[n].why);
        outcome_free(o);
        outcome_free(check(BDRV_FIX_LEAKS));
        expect_sound();
        image_free(i);
    }
}

static void coroutine_fn space_behind_the_last_chunk_is_cut_off(void)
{
    Image *i = image_new("{}");
    Outcome *o;

    fill_chunk(i, 0, 1);
    set_entry(i, 3, 0);
    set_length(i, i->h.data_offset + 25 * CHUNK);
    expect_sound(); /* as far as a file grows */
    set_length(i, i->h.data_offset + 25 * CHUNK + 1);
    /* What is damaged may be where the end is thought to be. */
    set_entry(i, 4, 0);
    o = check(BDRV_FIX_LEAKS);
    g_assert_cmpint(o->r.corruptions, ==, 1);
    g_assert_cmpint(o->r.leaks_fixed, ==, 0);
    g_assert_cmpint(o->r.leaks, >, 0);
    outcome_free(o);
    set_entry(i, 4, FVD_TABLE_EMPTY);
    expect_repair(0, 25, "bytes behind the last chunk in use", "it is cut off");
    g_assert_cmpint(bdrv_getlength(i->file), ==, i->h.data_offset + CHUNK);
    expect_chunk(i, 0, 1);
    image_free(i);
}

static void coroutine_fn a_file_that_was_cut_off_is_named(void)
{
    Image *i = image_new("{}");
    Outcome *o;

    set_length(i, i->h.journal_offset + 512);
    o = check(BOTH);
    g_assert_cmpint(o->r.corruptions, ==, 1);
    expect_said(o, "journal_offset is");
    expect_said(o, "reach beyond the file's");
    outcome_free(o);
    image_free(i);
}

/* ------------------------------------------------------------------------------------- after a crash */

/* Three sectors: chunk 0 for entry 3; its block in the image, plainly; chunk 1 for entry 4, with a checksum. */
static void put_story(Image *i, uint32_t sum)
{
    uint8_t sector[FVD_JSECTOR_SIZE] = {0};
    unsigned at = add_table(sector, 0, 1, 1, 3, 0);

    add_bitmap(sector, at, 3 * BLOCK / 512, BLOCK / 512);
    add_trailer(sector, 1, 1);
    put_sector(i, 0, sector);
    memset(sector, 0, sizeof(sector));
    at = add_table(sector, 0, 1, 1, 4, 1);
    add_sums(sector, at, 4, 1, sum);
    add_trailer(sector, 1, 2);
    put_sector(i, 1, sector);
    fill_chunk(i, 0, 0xc0);
    fill_chunk(i, 1, 0xc1);
    make_dirty(i);
}

static uint32_t sum_of(uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(BLOCK);

    memset(buf, byte, BLOCK);
    return slow_crc32c(buf, BLOCK);
}

static void coroutine_fn a_crash_is_no_damage(void)
{
    for (unsigned right = 0; right < 2; right++) {
        Image *i = image_new("{}");
        Outcome *o;

        put_story(i, right ? sum_of(0xc1) : 1);
        test_ram_reset_counts(i->file);
        expect_sound();
        g_assert_cmpuint(test_ram_counts(i->file)->writes, ==, 0);
        o = check(BOTH);
        g_assert_cmpint(o->r.corruptions_fixed, ==, 0);
        g_assert_cmpint(o->r.allocated_clusters, ==, 2);
        outcome_free(o);
        reload(i);
        g_assert_cmpuint(i->h.clean_shutdown, ==, 1);
        g_assert_cmpuint(i->h.stable_journal_epoch, ==, 2);
        g_assert_false(i->h.state_crc_wrong);
        g_assert_cmpuint(get_entry(i, 3), ==, 0);
        g_assert_cmpuint(get_entry(i, 4), ==, 1);
        g_assert_cmphex(get_bits(i), ==, right ? 0x18 : 0x08);
        expect_sound();
        image_free(i);
    }
}

static void coroutine_fn damaged_sectors_are_void_and_the_others_count(void)
{
    Image *i = image_new("{}");
    uint8_t sector[FVD_JSECTOR_SIZE] = {0};

    put_story(i, sum_of(0xc1));
    add_table(sector, 0, 1, 4, 14, 7); /* two entries too many */
    add_trailer(sector, 1, 3);
    put_sector(i, 2, sector);
    memset(sector, 0, sizeof(sector));
    stl_le_p(sector, 0x12345678);
    add_trailer(sector, 1, 4);
    put_sector(i, 9, sector);
    expect_repair(2, 0, "ERROR Journal sector 2, byte 0: table record for entries 14 + 4",
                  "2 damaged sectors are void");
    g_assert_cmpuint(get_entry(i, 3), ==, 0);
    g_assert_cmpuint(get_entry(i, 4), ==, 1);
    g_assert_cmphex(get_entry(i, 14), ==, 0xffffffff);
    g_assert_cmphex(get_bits(i), ==, 0x18);
    image_free(i);
}

static void coroutine_fn sectors_that_contradict_others_are_void(void)
{
    Image *i = image_new("{}");
    uint8_t sector[FVD_JSECTOR_SIZE] = {0};

    put_story(i, sum_of(0xc1));
    add_table(sector, 0, 1, 1, 8, 8);
    add_trailer(sector, 1, 7);
    put_sector(i, 5, sector);
    put_sector(i, 6, sector);
    add_trailer(sector, UINT64_C(1) << 63, 8);
    put_sector(i, 7, sector);
    expect_repair(3, 0, "ERROR Journal sectors 5 and 6 have the same sequence 7",
                  "3 damaged sectors are void");
    g_assert_cmpuint(get_entry(i, 3), ==, 0);
    g_assert_cmphex(get_entry(i, 8), ==, 0xffffffff);
    image_free(i);
    /* Where entries are what they are for ever. */
    i = image_new("{'version':'v1'}");
    memset(sector, 0, sizeof(sector));
    add_table(sector, 0, 1, 1, 3, 2);
    put_sector(i, 0, sector);
    put_sector(i, 1, sector);
    stl_le_p(sector + 20, 5);
    put_sector(i, 2, sector);
    make_dirty(i);
    expect_repair(1, 0, "ERROR Journal sector 2, byte 0: entry 3 was chunk 2",
                  "1 damaged sectors are void");
    g_assert_cmpuint(get_entry(i, 3), ==, 2);
    image_free(i);
}

/* An old program leaves the bit TRAILERS, and a header whose checksum is wrong; its sectors have no trailers. */
static void coroutine_fn what_an_old_program_wrote_counts(void)
{
    Image *i = image_new("{'version':'v1'}");
    uint8_t sector[FVD_JSECTOR_SIZE] = {0};
    uint32_t not_clean = 0;

    i->h.compatible = FVD_COMPATIBLE_TRAILERS;
    store_header(i);
    add_table(sector, 0, 1, 1, 3, 2);
    put_sector(i, 0, sector);
    test_ram_poke(i->file, 3216, &not_clean, 4);
    outcome_free(check(BOTH));
    g_assert_cmpuint(get_entry(i, 3), ==, 2);
    expect_sound();
    image_free(i);
}

/* The journal gives two entries one chunk. */
static void coroutine_fn what_the_replay_makes_is_checked(void)
{
    Image *i = image_new("{}");

    put_story(i, sum_of(0xc1));
    set_entry(i, 10, 1);
    expect_repair(1, 0, "ERROR Table entries 4 and 10 are both chunk 1",
                  "Repairing table entry 10: it gets a copy, chunk 2");
    g_assert_cmpuint(get_entry(i, 10), ==, 2);
    expect_chunk(i, 2, 0xc1);
    g_assert_cmphex(get_bits(i), ==, 0x18);
    reload(i);
    g_assert_cmpuint(i->h.clean_shutdown, ==, 1);
    image_free(i);
}

static void coroutine_fn a_journal_is_printed(void)
{
    Image *i = image_new("{}");
    BlockDriverState *bs;
    GString *said = g_string_new(NULL);

    put_story(i, 5);
    bs = open_to_check(true);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    bs->drv->image->co_print_journal(bs, hear, said, &error_abort);
    g_assert_nonnull(strstr(said->str, "TABLE"));
    g_assert_nonnull(strstr(said->str, "BITMAP"));
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    g_string_free(said, true);
    image_free(i);
}

static void coroutine_fn a_disk_in_use_is_not_checked(void)
{
    Image *i = image_new("{}");
    BlockDriverState *bs =
        block_test_co_open("{\"driver\":\"fvd\",\"file\":\"f\",\"backing\":null}");
    BdrvCheckResult r = {0};
    Error *err = NULL;

    g_assert_cmpint(bs->drv->image->co_check(bs, &r, 0, &err), ==, -EBUSY);
    error_free(err);
    bdrv_co_unref(bs);
    /* And one that is checked is no disk. */
    bs = open_to_check(true);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
    uint8_t buf[512];
    g_assert_cmpint(bdrv_co_pread(user, 0, 512, buf, 0), ==, -EIO);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    image_free(i);
}

/* Bytes of table, bitmap, journal and file's end changed at random: a repair leaves an image that is sound. */
static void coroutine_fn whatever_is_damaged_can_be_repaired(void)
{
    const char *seeds = g_getenv("SEEDS");
    unsigned n = seeds ? strtoul(seeds, NULL, 10) : 60;
    GRand *rand = g_rand_new_with_seed(block_test_seed());

    for (unsigned s = 0; s < n; s++) {
        Image *i = image_new(s % 3 == 0 ? "{'version':'v1'}" : "{}");
        Outcome *o;

        put_story(i, sum_of(0xc1));
        for (unsigned c = g_rand_int_range(rand, 1, 20); c > 0; c--) {
            int64_t at = g_rand_boolean(rand)
                             ? i->h.journal_offset + g_rand_int_range(rand, 0, 3 * 512)
                             : i->h.table_offset + g_rand_int_range(rand, 0, 64);
            uint8_t byte = g_rand_int_range(rand, 0, 256);

            test_ram_poke(i->file, at, &byte, 1);
            if (g_rand_int_range(rand, 0, 4) == 0) {
                uint8_t sector[FVD_JSECTOR_SIZE];
                uint32_t number = g_rand_int_range(rand, 0, 3);

                test_ram_peek(i->file, i->h.journal_offset + number * 512, sector, 512);
                add_trailer(sector, g_rand_int_range(rand, 0, 3), g_rand_int_range(rand, 1, 4));
                put_sector(i, number, sector);
            }
        }
        outcome_free(check(0));
        o = check(BOTH);
        if (o->r.corruptions + o->r.leaks + o->r.check_errors) {
            g_error("not repaired: %s", o->said->str);
        }
        outcome_free(o);
        expect_sound();
        image_free(i);
    }
    g_rand_free(rand);
}

static void add(void)
{
    bdrv_fvd_register();
    block_test_add("/fvd/check/a new image is sound", a_new_image_is_sound);
    block_test_add("/fvd/check/an image in use says how it lies", an_image_in_use_says_how_it_lies);
    block_test_add("/fvd/check/two entries for one chunk each keep the data",
                   two_entries_for_one_chunk_each_keep_the_data);
    block_test_add("/fvd/check/a copy goes where nobody is", a_copy_goes_where_nobody_is);
    block_test_add("/fvd/check/a copy that has no room is not promised",
                   a_copy_that_has_no_room_is_not_promised);
    block_test_add("/fvd/check/chunks that cannot be become empty",
                   chunks_that_cannot_be_become_empty);
    block_test_add("/fvd/check/bits behind the base are no damage, and a repair clears them",
                   bits_behind_the_base_are_no_damage_and_a_repair_clears_them);
    block_test_add("/fvd/check/wrong checksums of the header get a word and are set right",
                   wrong_checksums_of_the_header_get_a_word_and_are_set_right);
    block_test_add("/fvd/check/space behind the last chunk is cut off",
                   space_behind_the_last_chunk_is_cut_off);
    block_test_add("/fvd/check/a file that was cut off is named", a_file_that_was_cut_off_is_named);
    block_test_add("/fvd/check/a crash is no damage", a_crash_is_no_damage);
    block_test_add("/fvd/check/damaged sectors are void and the others count",
                   damaged_sectors_are_void_and_the_others_count);
    block_test_add("/fvd/check/sectors that contradict others are void",
                   sectors_that_contradict_others_are_void);
    block_test_add("/fvd/check/what an old program wrote counts", what_an_old_program_wrote_counts);
    block_test_add("/fvd/check/what the replay makes is checked", what_the_replay_makes_is_checked);
    block_test_add("/fvd/check/a journal is printed", a_journal_is_printed);
    block_test_add("/fvd/check/a disk in use is not checked", a_disk_in_use_is_not_checked);
    block_test_add("/fvd/check/whatever is damaged can be repaired",
                   whatever_is_damaged_can_be_repaired);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
