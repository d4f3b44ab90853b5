/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is written into the journal's sectors, byte for byte, and what is believed of what is read from them. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/fvd/layout/jrecord.h"
#include "tests/unit/fvd/journal.h"
#include "util/osdep.h"

/* 1 GiB, chunks of 1 MiB, blocks of 64 KiB; half of it has a base. */
static const FvdJGeometry usual = {
    .disk_sectors = 2 * MiB,
    .chunk_sectors = 2048,
    .table_entries = 1024,
    .chunks = 4096,
    .block_sectors = 128,
    .blocks = 8192,
    .stable_epoch = 5,
    .trailers = true,
    .block_sums = true,
};

static void test_geometry_is_that_of_the_header(void)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    FvdJGeometry g;

    fvd_header_init(h);
    h->version = 2;
    h->virtual_disk_size = 100 * MiB + 512;
    h->chunk_size = 1 * MiB;
    h->block_size = 64 * KiB;
    h->base_img_size = 1 * MiB + 512;
    h->data_offset = 1 * GiB;
    h->stable_journal_epoch = 7;
    h->incompatible = FVD_INCOMPATIBLE_REMAP;
    h->compatible = FVD_COMPATIBLE_TRAILERS;
    fvd_jgeometry_init(&g, h);
    g_assert_true(g.disk_sectors == 204801 && g.stable_epoch == 7);
    g_assert_true(g.trailers && g.remap && !g.block_sums);
    g_assert_true(!g.chunk_sectors && !g.table_entries && !g.chunks);
    g_assert_true(!g.block_sectors && !g.blocks);
    h->table_offset = 8 * KiB;
    h->table_size = 4 * KiB;
    h->bitmap_offset = 12 * KiB;
    h->bitmap_size = 4 * KiB;
    h->incompatible = FVD_INCOMPATIBLE_BLOCK_SUMS;
    h->compatible = 0;
    fvd_jgeometry_init(&g, h);
    g_assert_true(!g.trailers && !g.remap && g.block_sums);
    g_assert_cmpint(g.chunk_sectors, ==, 2048);
    g_assert_cmpint(g.table_entries, ==, 101);
    g_assert_cmpint(g.chunks, ==, 0x7fffffff);
    g_assert_cmpint(g.block_sectors, ==, 128);
    g_assert_cmpint(g.blocks, ==, 17);
}

static void test_bytes_of_a_pair(void)
{
    static const uint8_t expected[] = {
        0xac, 0xf7, 0xe6, 0xb4,                         /* table record */
        7,    0,    0,    0,    0,    0,    0,    0,    /* epoch */
        2,    0,    0,    0,                            /* two entries */
        3,    0,    0,    0,                            /* from the third on */
        9,    1,    0,    0,                            /* chunk 265, DIRTY is gone */
        10,   0,    0,    0,    0xed, 0xb8, 0x2a, 0x3f, /* bitmap record */
        0,    1,    0,    0,                            /* 256 sectors */
        0,    0x18, 0,    0,    0,    0,    0,    0,    /* from 6144 on */
    };
    static const uint8_t trailer[] = {
        'Q', 'F', 'V', 'T', 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0,
    };
    uint32_t entries[] = {cpu_to_le32(0x80000109), cpu_to_le32(10)};
    FvdJChange change = {.epoch = 7,
                         .entries = entries,
                         .first_chunk = 3,
                         .n_chunks = 2,
                         .first_sector = 6144,
                         .n_sectors = 256};
    uint8_t buf[FVD_JSECTOR_SIZE];
    uint32_t crc;
    FvdJSector s;

    memset(buf, 0xa5, sizeof(buf));
    fvd_jsector_start(&s, buf);
    g_assert_true(fvd_jsector_put(&s, &change, &usual));
    fvd_jsector_finish(&s, 8, 0x1deadbeef);
    g_assert_cmpmem(buf, sizeof(expected), expected, sizeof(expected));
    for (unsigned i = sizeof(expected); i < 488; i++) {
        g_assert_cmpint(buf[i], ==, 0);
    }
    crc = ldl_le_p(buf + 492);
    stl_le_p(buf + 492, 0);
    g_assert_cmpmem(buf + 488, 24, trailer, 24);
    g_assert_cmphex(crc, ==, slow_crc32c(buf, sizeof(buf)));
}

static void test_bytes_of_sums(void)
{
    static const uint8_t expected[] = {
        0xa6, 0x91, 0xdc, 0x53,             /* bitmap record with checksums */
        2,    0,    0,    0,                /* two blocks */
        0xff, 0,    0,    0,    0, 0, 0, 0, /* from 255 on */
        0x78, 0x56, 0x34, 0x12, 1, 0, 0, 0, 0, 0, 0, 0,
    };
    uint32_t sums[] = {0x12345678, 1};
    FvdJChange change = {.first_block = 255, .n_blocks = 2, .sums = sums};
    uint8_t buf[FVD_JSECTOR_SIZE];
    FvdJSector s;

    fvd_jsector_start(&s, buf);
    g_assert_true(fvd_jsector_put(&s, &change, &usual));
    g_assert_cmpmem(buf, sizeof(expected), expected, sizeof(expected));
}

static void test_crc_of_the_trailer_is_the_standard_one(void)
{
    g_assert_cmphex(slow_crc32c("123456789", 9), ==, 0xe3069283);
}

/* How often something goes into one sector. */
static unsigned fits(const FvdJChange *one)
{
    uint8_t buf[FVD_JSECTOR_SIZE];
    unsigned n = 0;
    FvdJSector s;

    fvd_jsector_start(&s, buf);
    for (;; n++) {
        FvdJChange change = *one;

        if (!fvd_jsector_put(&s, &change, &usual)) {
            return n;
        }
    }
}

static void test_capacity(void)
{
    uint32_t words[256] = {0};
    FvdJChange bits = {.n_sectors = 8};
    FvdJChange table = {.entries = words, .n_chunks = 116};
    FvdJChange pair = {.entries = words, .n_chunks = 112, .n_sectors = 8};
    FvdJChange sums = {.sums = words, .n_blocks = 117};
    FvdJChange sums_pair = {.entries = words, .n_chunks = 1, .sums = words, .n_blocks = 111};
    FvdJChange nothing = {0};

    g_assert_cmpint(fits(&bits), ==, 30);
    g_assert_cmpint(fits(&table), ==, 1);
    g_assert_cmpint(fvd_jchange_sectors(&table, &usual), ==, 1);
    g_assert_cmpint(fvd_jchange_sectors(&pair, &usual), ==, 1);
    g_assert_cmpint(fvd_jchange_sectors(&sums, &usual), ==, 1);
    g_assert_cmpint(fvd_jchange_sectors(&nothing, &usual), ==, 0);
    table.n_chunks++;
    pair.n_chunks++;
    sums.n_blocks++;
    g_assert_cmpint(fvd_jchange_sectors(&table, &usual), ==, 2);
    g_assert_cmpint(fvd_jchange_sectors(&pair, &usual), ==, 2);
    g_assert_cmpint(fvd_jchange_sectors(&sums, &usual), ==, 2);
    /* 111 blocks end in the seventh chunk; only the first is new. */
    g_assert_cmpint(fvd_jchange_sectors(&sums_pair, &usual), ==, 1);
    sums_pair.n_blocks++;
    g_assert_cmpint(fvd_jchange_sectors(&sums_pair, &usual), ==, 2);
}

static void test_what_fits_is_not_cut(void)
{
    uint32_t words[200] = {0};
    FvdJChange first = {.entries = words, .n_chunks = 10, .n_sectors = 10 * 2048};
    FvdJChange second = {.entries = words,
                         .first_chunk = 10,
                         .n_chunks = 105,
                         .first_sector = 10 * 2048,
                         .n_sectors = 105 * 2048};
    FvdJChange longer = {.entries = words,
                         .first_chunk = 10,
                         .n_chunks = 200,
                         .first_sector = 10 * 2048,
                         .n_sectors = 200 * 2048};
    uint8_t buf[FVD_JSECTOR_SIZE];
    unsigned used;
    FvdJSector s;

    fvd_jsector_start(&s, buf);
    g_assert_true(fvd_jsector_put(&s, &first, &usual));
    used = s.used;
    g_assert_false(fvd_jsector_put(&s, &second, &usual));
    g_assert_cmpint(s.used, ==, used);
    g_assert_cmpint(second.n_chunks, ==, 105);
    /* What must be cut anyway begins where there is room. */
    g_assert_false(fvd_jsector_put(&s, &longer, &usual));
    g_assert_cmpint(s.used, ==, 484);
    g_assert_cmpint(longer.n_chunks, ==, 200 - 93);
    g_assert_cmpint(longer.first_sector, ==, (10 + 93) * 2048);
    g_assert_cmpint(longer.n_sectors, ==, 107 * 2048);
}

static void test_pairs_are_possible_where_a_block_fits(void)
{
    FvdJGeometry g = usual;

    g_assert_true(fvd_jpairs_possible(&g));
    g.chunk_sectors = 1;
    g.block_sectors = 111;
    g_assert_true(fvd_jpairs_possible(&g));
    g.block_sectors = 112;
    g_assert_false(fvd_jpairs_possible(&g));
    g.chunk_sectors = 2;
    g.block_sectors = 111; /* together they end after 222 sectors, 111 chunks */
    g_assert_true(fvd_jpairs_possible(&g));
    g.block_sectors = UINT64_C(1) << 53;
    g_assert_false(fvd_jpairs_possible(&g));
    g.block_sectors = 0; /* no bitmap, no pairs */
    g_assert_true(fvd_jpairs_possible(&g));
}

/* ---------------------------------------------------------------------- random changes, there and back */

#define DISK_SECTORS 4096

typedef struct Scene {
    GRand *rand;
    FvdJGeometry g;
    uint32_t table[DISK_SECTORS];
    uint32_t sums[DISK_SECTORS];
    uint8_t there[DISK_SECTORS]; /* entries of this change that were read back */
    uint8_t bits[DISK_SECTORS];  /* blocks, likewise */
} Scene;

static void random_geometry(Scene *sc)
{
    do {
        sc->g = (FvdJGeometry){
            .disk_sectors = DISK_SECTORS - g_rand_int_range(sc->rand, 0, 100),
            .chunk_sectors = g_rand_int_range(sc->rand, 1, 40),
            .block_sectors = g_rand_int_range(sc->rand, 1, 40),
            .chunks = 0x7fffffff,
            .trailers = true,
            .block_sums = true,
        };
        sc->g.table_entries = DIV_ROUND_UP(sc->g.disk_sectors, sc->g.chunk_sectors);
        sc->g.blocks = DIV_ROUND_UP(sc->g.disk_sectors, sc->g.block_sectors);
    } while (!fvd_jpairs_possible(&sc->g));
}

/* A write of some sectors, all whose chunks are new, or some at its begin are old, or all. */
static FvdJChange random_change(Scene *sc)
{
    uint32_t first = g_rand_int_range(sc->rand, 0, sc->g.disk_sectors);
    uint32_t most = g_rand_boolean(sc->rand) ? 64 : DISK_SECTORS;
    uint32_t count = g_rand_int_range(sc->rand, 1, MIN(most, sc->g.disk_sectors - first) + 1);
    uint32_t chunk = first / sc->g.chunk_sectors;
    uint32_t end = (first + count - 1) / sc->g.chunk_sectors + 1;
    FvdJChange c = {.epoch = 1};

    c.first_chunk = chunk;
    if (g_rand_boolean(sc->rand)) {
        c.first_chunk = g_rand_int_range(sc->rand, chunk, end);
    }
    c.n_chunks = g_rand_int_range(sc->rand, 0, 4) ? end - c.first_chunk : 0;
    c.entries = sc->table + c.first_chunk;
    switch (g_rand_int_range(sc->rand, 0, 5)) {
    case 0: /* behind the base */
        break;
    case 1:
    case 2:
        c.first_block = first / sc->g.block_sectors;
        c.n_blocks = (first + count - 1) / sc->g.block_sectors - c.first_block + 1;
        c.sums = sc->sums + c.first_block;
        break;
    case 3: /* the base ends within */
        c.first_sector = first;
        c.n_sectors = g_rand_int_range(sc->rand, 1, count + 1);
        break;
    default:
        c.first_sector = first;
        c.n_sectors = count;
    }
    return c;
}

/* R2: of the change's entries, those of the block are in this sector. */
static void check_block(const Scene *sc, const FvdJChange *c, const uint8_t *here, uint64_t block)
{
    uint64_t first = block * sc->g.block_sectors / sc->g.chunk_sectors;
    uint64_t last = ((block + 1) * sc->g.block_sectors - 1) / sc->g.chunk_sectors;

    for (uint64_t i = first; i <= last; i++) {
        if (i >= c->first_chunk && i - c->first_chunk < c->n_chunks) {
            g_assert_true(here[i]);
        }
    }
}

static void check_bits_record(Scene *sc, const FvdJChange *c, const uint8_t *here,
                              const FvdJRecord *r)
{
    uint64_t first = r->first, count = r->count;

    if (r->type == FVD_BITMAP_JRECORD) {
        g_assert_cmpint(first, >=, c->first_sector);
        g_assert_cmpint(first + count, <=, c->first_sector + c->n_sectors);
        count = fvd_jrecord_blocks(r, &sc->g, &first);
    }
    for (uint64_t i = 0; i < count; i++) {
        check_block(sc, c, here, first + i);
        sc->bits[first + i] = 1;
        if (r->type == FVD_BITMAP_SUM_JRECORD) {
            g_assert_cmphex(fvd_jrecord_sum(r, i), ==, sc->sums[first + i]);
        }
    }
}

static void read_back(Scene *sc, const FvdJChange *c, const uint8_t *buf, unsigned skip)
{
    uint8_t here[DISK_SECTORS] = {0};
    FvdJSectorHead head = fvd_jsector_head(buf, &sc->g);
    FvdJRecord r;
    FvdJIter it;

    g_assert_cmpint(head.kind, ==, FVD_JSECTOR_OK);
    fvd_jiter_start(&it, buf, 0, &head, &sc->g);
    while (fvd_jiter_next(&it, &r, &error_abort) > 0) {
        if (r.at < skip) {
            continue; /* the filler */
        }
        if (r.type != FVD_TABLE_JRECORD) {
            check_bits_record(sc, c, here, &r);
            continue;
        }
        for (uint32_t i = 0; i < r.count; i++) {
            g_assert_cmpint(fvd_jrecord_entry(&r, i), ==, le32_to_cpu(sc->table[r.first + i]));
            here[r.first + i] = sc->there[r.first + i] = 1;
        }
    }
}

static void check_all_there(const Scene *sc, const FvdJChange *c)
{
    uint64_t first = c->first_block, end = first + c->n_blocks;

    if (c->n_sectors) {
        first = c->first_sector / sc->g.block_sectors;
        end = (c->first_sector + c->n_sectors - 1) / sc->g.block_sectors + 1;
    }
    for (uint32_t i = 0; i < DISK_SECTORS; i++) {
        g_assert_cmpint(sc->there[i], ==, i >= c->first_chunk && i < c->first_chunk + c->n_chunks);
        g_assert_cmpint(sc->bits[i], ==, i >= first && i < end);
    }
}

static void change_story(Scene *sc)
{
    FvdJChange filler = {.n_sectors = 1}, change, rest;
    uint8_t buf[FVD_JSECTOR_SIZE];
    uint32_t sectors, begun = 0;
    FvdJSector s;
    unsigned skip;
    bool whole;

    random_geometry(sc);
    change = rest = random_change(sc);
    sectors = fvd_jchange_sectors(&change, &sc->g);
    memset(sc->there, 0, sizeof(sc->there));
    memset(sc->bits, 0, sizeof(sc->bits));
    fvd_jsector_start(&s, buf);
    for (int i = g_rand_int_range(sc->rand, 0, 30); i > 0; i--) {
        FvdJChange one = filler;

        fvd_jsector_put(&s, &one, &sc->g);
    }
    skip = s.used;
    begun = skip == 0 && sectors;
    while (!(whole = fvd_jsector_put(&s, &rest, &sc->g)) || s.used > 0) {
        if (s.used > 0) {
            fvd_jsector_finish(&s, 1, 1);
            read_back(sc, &change, buf, skip);
            skip = 0;
        }
        if (whole) {
            break;
        }
        fvd_jsector_start(&s, buf);
        begun++;
    }
    g_assert_cmpint(begun, <=, sectors);
    check_all_there(sc, &change);
}

static void test_random_changes_come_back_and_are_whole(void)
{
    uint32_t seed = journal_test_seed();
    g_autofree Scene *sc = g_new0(Scene, 1);

    for (unsigned i = 0; i < journal_test_seeds(300); i++, seed++) {
        sc->rand = g_rand_new_with_seed(seed);
        for (uint32_t k = 0; k < DISK_SECTORS; k++) {
            sc->table[k] = cpu_to_le32(g_rand_int(sc->rand) & 0x3fffffff);
            sc->sums[k] = g_rand_int(sc->rand);
        }
        for (unsigned k = 0; k < 20; k++) {
            change_story(sc);
        }
        g_rand_free(sc->rand);
    }
}

/* ------------------------------------------------------------------------------------- what is read */

static void make_sector(uint8_t *buf)
{
    uint32_t words[] = {cpu_to_le32(1), cpu_to_le32(2)};
    FvdJChange a = {.epoch = 6, .entries = words, .n_chunks = 2, .n_sectors = 4096};
    FvdJChange b = {.first_block = 77, .n_blocks = 2, .sums = words};
    FvdJSector s;

    fvd_jsector_start(&s, buf);
    g_assert_true(fvd_jsector_put(&s, &a, &usual));
    g_assert_true(fvd_jsector_put(&s, &b, &usual));
    fvd_jsector_finish(&s, 5, 17);
}

static void test_a_changed_byte_makes_it_void(void)
{
    uint8_t buf[FVD_JSECTOR_SIZE];
    FvdJGeometry lax = usual;

    lax.trailers = false;
    make_sector(buf);
    g_assert_cmpint(fvd_jsector_head(buf, &usual).kind, ==, FVD_JSECTOR_OK);
    for (unsigned i = 0; i < FVD_JSECTOR_SIZE; i++) {
        for (unsigned x = 1; x < 256; x++) {
            bool tag = i >= 488 && i < 492;

            buf[i] ^= x;
            g_assert_cmpint(fvd_jsector_head(buf, &usual).kind, ==,
                            tag ? FVD_JSECTOR_VOID_NO_TRAILER : FVD_JSECTOR_VOID_TORN);
            g_assert_cmpint(fvd_jsector_head(buf, &lax).kind, ==,
                            tag ? FVD_JSECTOR_NO_TRAILER : FVD_JSECTOR_VOID_TORN);
            g_assert_false(fvd_jsector_head(buf, &usual).has_trailer);
            buf[i] ^= x;
        }
    }
}

static void test_kinds(void)
{
    uint8_t buf[FVD_JSECTOR_SIZE] = {0};
    FvdJGeometry g = usual;
    FvdJSectorHead head;
    FvdJSector s;

    g_assert_cmpint(fvd_jsector_head(buf, &g).kind, ==, FVD_JSECTOR_EMPTY);
    fvd_jsector_start(&s, buf);
    fvd_jsector_finish(&s, 9, 10);
    head = fvd_jsector_head(buf, &g);
    g_assert_cmpint(head.kind, ==, FVD_JSECTOR_EMPTY);
    g_assert_true(head.has_trailer && head.epoch == 9 && head.sequence == 10);
    make_sector(buf);
    g.stable_epoch = 6;
    head = fvd_jsector_head(buf, &g);
    g_assert_cmpint(head.kind, ==, FVD_JSECTOR_VOID_OLD);
    g_assert_true(head.has_trailer && head.epoch == 5 && head.sequence == 17);
}

/* A sector of an old program, which may use all of it. */
static unsigned count_records(const uint8_t *buf, const FvdJGeometry *g, unsigned *ret_words)
{
    FvdJSectorHead head = fvd_jsector_head(buf, g);
    unsigned n = 0;
    FvdJRecord r;
    FvdJIter it;

    fvd_jiter_start(&it, buf, 3, &head, g);
    for (*ret_words = 0; fvd_jiter_next(&it, &r, &error_abort) > 0; n++) {
        *ret_words += r.count;
    }
    return n;
}

static void test_a_full_sector_of_an_old_program(void)
{
    FvdJGeometry g = usual;
    uint8_t buf[FVD_JSECTOR_SIZE];
    unsigned at = 0, words;

    g.trailers = false;
    while (at < sizeof(buf)) {
        at = add_bitmap(buf, at, 8 * at, 8);
    }
    g_assert_cmpint(count_records(buf, &g, &words), ==, 32);
    memset(buf, 0, sizeof(buf));
    add_table(buf, 0, 5, 123, 0, 7);
    g_assert_cmpint(count_records(buf, &g, &words), ==, 1);
    g_assert_cmpint(words, ==, 123);
    at = add_bitmap(buf, 0, 0, 100);
    g_assert_cmpint(add_table(buf, at, 5, 119, 0, 7), ==, 512);
    g_assert_cmpint(count_records(buf, &g, &words), ==, 2);
    g_assert_cmpint(words, ==, 219);
}

static void expect_damage_in(const uint8_t *buf, const FvdJGeometry *g, const char *words)
{
    FvdJSectorHead head = fvd_jsector_head(buf, g);
    g_autoptr(Error) err = NULL;
    FvdJRecord r;
    FvdJIter it;
    int ret;

    fvd_jiter_start(&it, buf, 3, &head, g);
    while ((ret = fvd_jiter_next(&it, &r, &err)) > 0) {
    }
    g_assert_cmpint(ret, ==, -EIO);
    g_assert_cmpstr(error_get_pretty(err), ==, words);
    /* And then it is over. */
    g_assert_cmpint(fvd_jiter_next(&it, &r, NULL), ==, 0);
}

#define EXPECT_DAMAGE(words)              \
    do {                                  \
        expect_damage_in(buf, &g, words); \
        memset(buf, 0, FVD_JSECTOR_SIZE); \
    } while (0)

static void test_damage_of_a_table_record(void)
{
    uint8_t buf[FVD_JSECTOR_SIZE] = {0};
    FvdJGeometry g = usual;

    g.trailers = false;
    add_table(buf, add_bitmap(buf, 0, 0, 8), 5, 2, 1023, 0);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 16: table record for entries 1023 + 2, the table has 1024");
    add_table(buf, 0, 5, 2, 0xffffffff, 0);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: table record for entries 4294967295 + 2, the table has 1024");
    add_table(buf, 0, 5, 2, 0, 4095);
    EXPECT_DAMAGE("Journal sector 3, byte 24: entry 1 is chunk 4096, they must be below 4096");
    add_table(buf, 0, 5, 1, 0, 0x7fffffff);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 20: entry 0 is chunk 2147483647, they must be below 4096");
    add_table(buf, 0, (UINT64_C(1) << 62) + 1, 1, 0, 0);
    EXPECT_DAMAGE("Journal sector 3, byte 0: epoch 4611686018427387905 is too high");
    add_table(buf, 0, 5, 0, 0, 0);
    stl_le_p(buf + 12, 124);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: a record of type 0xb4e6f7ac reaches beyond its sector");
    add_table(buf, 0, 5, 0, 0, 0);
    stl_le_p(buf + 12, 0xffffffff);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: a record of type 0xb4e6f7ac reaches beyond its sector");
    g.table_entries = 0;
    add_table(buf, 0, 5, 1, 0, 0);
    EXPECT_DAMAGE("Journal sector 3, byte 0: table record for entries 0 + 1, the table has 0");
}

static void test_damage_of_a_bitmap_record(void)
{
    uint8_t buf[FVD_JSECTOR_SIZE] = {0};
    FvdJGeometry g = usual;

    g.trailers = false;
    add_bitmap(buf, 0, 2 * MiB - 1, 2);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: bitmap record for sectors 2097151 + 2, the disk has 2097152");
    add_bitmap(buf, 0, -1, 2);
    EXPECT_DAMAGE("Journal sector 3, byte 0: bitmap record for sectors 18446744073709551615 + 2, "
                  "the disk has 2097152");
    add_bitmap(buf, 0, MiB - 1, 2);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: bitmap record for blocks 8191 + 2, the bitmap has 8192");
    add_sums(buf, 0, 8191, 2, 0);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: bitmap record for blocks 8191 + 2, the bitmap has 8192");
    add_sums(buf, 0, -1, 2, 0);
    EXPECT_DAMAGE("Journal sector 3, byte 0: bitmap record for blocks 18446744073709551615 + 2, "
                  "the bitmap has 8192");
    add_sums(buf, 0, 0, 0, 0);
    stl_le_p(buf + 4, 125);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: a record of type 0x53dc91a6 reaches beyond its sector");
    for (unsigned at = 0; at < 508;) {
        at = at == 0 ? add_sums(buf, 0, 0, 0, 0) : add_bitmap(buf, at, 0, 0);
    }
    stl_le_p(buf + 504, FVD_BITMAP_JRECORD);
    stl_le_p(buf + 496, FVD_TABLE_JRECORD);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 496: a record of type 0xb4e6f7ac reaches beyond its sector");
    g.block_sums = false;
    add_sums(buf, 0, 0, 1, 0);
    EXPECT_DAMAGE("Journal sector 3, byte 0: a record of type 0x53dc91a6 is not known");
    g.blocks = g.block_sectors = 0;
    add_bitmap(buf, 0, 5, 1);
    EXPECT_DAMAGE("Journal sector 3, byte 0: bitmap record for blocks 5 + 1, the bitmap has 0");
}

static void test_damage_before_the_trailer(void)
{
    uint8_t buf[FVD_JSECTOR_SIZE] = {0};
    FvdJGeometry g = usual;

    add_table(buf, 0, 5, 117, 0, 0);
    add_trailer(buf, 5, 1);
    EXPECT_DAMAGE("Journal sector 3, byte 488: no end of records before the trailer");
    add_table(buf, 0, 5, 123, 0, 0);
    add_trailer(buf, 5, 1);
    EXPECT_DAMAGE(
        "Journal sector 3, byte 0: a record of type 0xb4e6f7ac reaches beyond its sector");
    stl_le_p(buf, 0x12345678);
    add_trailer(buf, 5, 1);
    EXPECT_DAMAGE("Journal sector 3, byte 0: a record of type 0x12345678 is not known");
}

static void test_an_old_table_record_is_passed_over(void)
{
    uint8_t buf[FVD_JSECTOR_SIZE] = {0};
    FvdJSectorHead head;
    FvdJRecord r;
    FvdJIter it;

    add_bitmap(buf, add_table(buf, 0, 4, 2, 0xffffffff, 0x7fffffff), 128, 1);
    add_trailer(buf, 5, 1);
    head = fvd_jsector_head(buf, &usual);
    fvd_jiter_start(&it, buf, 0, &head, &usual);
    g_assert_cmpint(fvd_jiter_next(&it, &r, &error_abort), ==, 1);
    g_assert_true(r.stale);
    g_assert_cmpint(fvd_jiter_next(&it, &r, &error_abort), ==, 1);
    g_assert_true(r.type == FVD_BITMAP_JRECORD && r.first == 128 && !r.stale);
    g_assert_cmpint(fvd_jiter_next(&it, &r, &error_abort), ==, 0);
}

static void collect(void *opaque, const char *line)
{
    GString *text = opaque;

    g_string_append_printf(text, "%s\n", line);
}

static void test_a_sector_prints_itself(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    uint8_t buf[FVD_JSECTOR_SIZE] = {0};
    FvdJGeometry g = usual;

    fvd_print_jrecords(buf, 0, &usual, collect, text);
    make_sector(buf);
    fvd_print_jrecords(buf, 1, &usual, collect, text);
    g.stable_epoch = 6;
    fvd_print_jrecords(buf, 2, &g, collect, text);
    buf[0] ^= 1;
    fvd_print_jrecords(buf, 3, &usual, collect, text);
    memset(buf, 0, sizeof(buf));
    stl_le_p(buf + add_table(buf, 0, 4, 1, 9, FVD_TABLE_EMPTY), 1);
    g.trailers = false;
    fvd_print_jrecords(buf, 4, &g, collect, text);
    g_assert_cmpstr(
        text->str, ==,
        "sector 1: epoch=5 sequence=17\n"
        "  TABLE_JRECORD epoch=6 chunk_start=0 nb_chunks=2\n"
        "    Map chunk 0 to 1\n"
        "    Map chunk 1 to 2\n"
        "  BITMAP_JRECORD sector_num=0 nb_sectors=4096\n"
        "  BITMAP_SUM_JRECORD block_start=77 nb_blocks=2\n"
        "    Block 77 has CRC32C 0x00000001\n"
        "    Block 78 has CRC32C 0x00000002\n"
        "sector 2: epoch=5 sequence=17, void: old\n"
        "  TABLE_JRECORD epoch=6 chunk_start=0 nb_chunks=2\n"
        "    Map chunk 0 to 1\n"
        "    Map chunk 1 to 2\n"
        "  BITMAP_JRECORD sector_num=0 nb_sectors=4096\n"
        "  BITMAP_SUM_JRECORD block_start=77 nb_blocks=2\n"
        "    Block 77 has CRC32C 0x00000001\n"
        "    Block 78 has CRC32C 0x00000002\n"
        "sector 3: void: torn\n"
        "sector 4: no trailer\n"
        "  TABLE_JRECORD epoch=4 chunk_start=9 nb_chunks=1, void: old\n"
        "    Map chunk 9 to EMPTY\n"
        "  damage: Journal sector 4, byte 24: a record of type 0x00000001 is not known\n");
}

#define TEST(name, fn) g_test_add_func("/fvd/jrecord/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("the trailer's checksum is CRC32C as published",
         test_crc_of_the_trailer_is_the_standard_one);
    TEST("sizes and features are those of the header", test_geometry_is_that_of_the_header);
    TEST("a table and a bitmap record are these bytes, and nothing of the memory gets in",
         test_bytes_of_a_pair);
    TEST("a bitmap record with checksums is these bytes", test_bytes_of_sums);
    TEST("a sector takes 484 bytes of records", test_capacity);
    TEST("a change that fits into one sector is not cut", test_what_fits_is_not_cut);
    TEST("entries and bits can be one where a block's chunks fit",
         test_pairs_are_possible_where_a_block_fits);
    TEST("random changes come back, and each sector is whole by itself",
         test_random_changes_come_back_and_are_whole);
    TEST("a sector with any byte changed is void", test_a_changed_byte_makes_it_void);
    TEST("a sector is empty, old, or to be read", test_kinds);
    TEST("all records of an old program's full sector are found",
         test_a_full_sector_of_an_old_program);
    TEST("a table record beyond its limits is damage", test_damage_of_a_table_record);
    TEST("a bitmap record beyond its limits is damage", test_damage_of_a_bitmap_record);
    TEST("records that reach the trailer are damage", test_damage_before_the_trailer);
    TEST("a table record of an old epoch is passed over unread",
         test_an_old_table_record_is_passed_over);
    TEST("a sector prints itself", test_a_sector_prints_itself);
    return g_test_run();
}
