/* SPDX-License-Identifier: GPL-2.0-or-later */
/* New FVD images: each byte of them, what is asked for that cannot be, and what a failure leaves. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/drivers/fvd/image/image.h"
#include "block/drivers/fvd/layout/plan.h"
#include "block/open/open.h"
#include "qapi/json-parser.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-ram.h"
#include "util/crc32c.h"
#include "util/osdep.h"

/* A storage that is full of something else: nothing of it may be in an image. */
#define GARBAGE 0xdb

static BlockdevCreateOptions *options(const char *json)
{
    g_autofree char *text = g_strdup_printf("{\"driver\":\"fvd\",\"file\":\"f\",%s}", json);
    json_t *o = json_parse_string(text, &error_abort);
    BlockdevCreateOptions *opts = qapi_BlockdevCreateOptions_from_json(o, &error_abort);

    json_decref(o);
    return opts;
}

static int coroutine_fn create(const char *json, BdrvProgress *progress, Error **errp)
{
    BlockdevCreateOptions *opts = options(json);
    int ret = fvd_co_create(opts, progress, errp);

    qapi_free_BlockdevCreateOptions(opts);
    return ret;
}

static void coroutine_fn create_fails(const char *message, const char *json)
{
    Error *err = NULL;

    g_assert_cmpint(create(json, NULL, &err), <, 0);
    if (!strstr(error_get_pretty(err), message)) {
        g_error("expected '%s', got '%s'", message, error_get_pretty(err));
    }
    error_free(err);
}

static BlockDriverState *file_node(int64_t size)
{
    return test_ram_new("f", size);
}

static uint8_t *peek(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    uint8_t *buf = g_malloc(bytes);

    test_ram_peek(bs, offset, buf, bytes);
    return buf;
}

static FvdHeader *header_of(BlockDriverState *bs)
{
    g_autofree uint8_t *buf = peek(bs, 0, FVD_HEADER_REGION);
    FvdHeader *h = g_new(FvdHeader, 1);

    fvd_header_decode(buf, FVD_HEADER_REGION, h, &error_abort);
    g_assert_false(h->geometry_crc_wrong || h->state_crc_wrong);
    fvd_header_check_file(h, bdrv_getlength(bs), &error_abort);
    return h;
}

static void expect_bytes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint8_t value)
{
    g_autofree uint8_t *buf = peek(bs, offset, bytes);

    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != value) {
            g_error("byte %" PRId64 " is 0x%02x, not 0x%02x", offset + i, buf[i], value);
        }
    }
}

static void put64(uint8_t *buf, unsigned at, uint64_t value)
{
    stq_le_p(buf + at, value);
}

/* The table of docs/formats/fvd.rst, by hand. */
static void coroutine_fn every_byte_of_a_header_is_as_the_format_says(void)
{
    BlockDriverState *bs = file_node(0);
    g_autofree uint8_t *want = g_malloc0(FVD_HEADER_REGION), *got = NULL;
    uint8_t state[512];
    uint32_t crc;

    create("\"size\":1073741824,\"backing-file\":\"base.img\",\"backing-fmt\":\"raw\","
           "\"backing-size\":536870912,\"copy-on-read\":true,\"prefetch-start-delay\":5,"
           "\"add-storage-cmd\":\"/bin/grow\",\"storage-grow-unit\":4194304",
           NULL, &error_abort);
    memcpy(want, "FVD", 3);
    stl_le_p(want + 4, 2);
    put64(want, 8, GiB);
    put64(want, 16, 17 * MiB); /* 8 KiB, then 4, 16 and 16384 KiB, on to a whole chunk */
    memcpy(want + 1064, "base.img", 8);
    memcpy(want + 2088, "raw", 3);
    put64(want, 2104, GiB / 2);
    put64(want, 2112, 8 * KiB);
    put64(want, 2120, 8 * KiB); /* 16384 blocks of 64 KiB on the disk, and four times of that */
    put64(want, 2128, 64 * KiB);
    put64(want, 2136, 16 * KiB);
    put64(want, 2144, 16 * KiB); /* 1024 chunks, and four times of that */
    put64(want, 2152, MiB);
    put64(want, 2160, 4 * MiB);
    memcpy(want + 2168, "/bin/grow", 9);
    put64(want, 3192, 32 * KiB);
    put64(want, 3200, 16 * MiB);
    stl_le_p(want + 3216, 1);
    stl_le_p(want + 3220, 1);
    put64(want, 3224, 2000000);
    put64(want, 3232, 5);
    stl_le_p(want + 3244, 2);
    put64(want, 3248, MiB);
    put64(want, 3256, 5120);
    put64(want, 3264, 1000000000);
    put64(want, 3272, 5120);
    put64(want, 3280, 1000000000);
    put64(want, 3288, 30000);
    put64(want, 3296, 100);
    put64(want, 3304, 100);
    memcpy(want + 3316, "QFVX", 4);
    stl_le_p(want + 3320, 56);
    put64(want, 3324, 3); /* BLOCK_SUMS and REMAP */
    put64(want, 3332, 1); /* TRAILERS */
    crc = crc32c(crc32c(0, want, 3072), want + 3584, 7412 - 3584);
    stl_le_p(want + 3348, crc);
    memcpy(state, want + 3072, 512);
    stl_le_p(want + 3352, crc32c(0, state, 512));
    got = peek(bs, 0, FVD_HEADER_REGION);
    g_assert_cmpmem(got, FVD_HEADER_REGION, want, FVD_HEADER_REGION);
    expect_bytes(bs, 8 * KiB, 8 * KiB, 0);              /* bitmap */
    expect_bytes(bs, 16 * KiB, 4 * KiB, 0xff);          /* table */
    expect_bytes(bs, 20 * KiB, 17 * MiB - 20 * KiB, 0); /* room for it, journal */
    g_assert_cmpint(bdrv_getlength(bs), ==, 17 * MiB);
    g_assert_cmpint(test_ram_allocated(bs), ==, 12 * KiB); /* header and table */
    bdrv_co_unref(bs);
}

static void coroutine_fn versions_and_features_go_together(void)
{
    static const struct {
        const char *json;
        uint32_t version;
        uint64_t incompatible, compatible;
    } cases[] = {
        {"\"size\":1048576", 2, FVD_INCOMPATIBLE_REMAP, FVD_COMPATIBLE_TRAILERS},
        {"\"size\":1048576,\"version\":\"v2\",\"backing-file\":\"b\",\"backing-size\":512", 2,
         FVD_INCOMPATIBLE_KNOWN, FVD_COMPATIBLE_TRAILERS},
        {"\"size\":1048576,\"version\":\"v1\"", 1, 0, 0},
        {"\"size\":1048576,\"version\":\"v1\",\"backing-file\":\"b\",\"backing-size\":512", 1, 0,
         0},
        {"\"size\":1048576,\"chunk-size\":0", 2, 0, FVD_COMPATIBLE_TRAILERS},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        BlockDriverState *bs = file_node(0);
        g_autofree FvdHeader *h = NULL;

        create(cases[i].json, NULL, &error_abort);
        h = header_of(bs);
        g_assert_true(h->has_ext);
        g_assert_cmpuint(h->version, ==, cases[i].version);
        g_assert_cmphex(h->incompatible, ==, cases[i].incompatible);
        g_assert_cmphex(h->compatible, ==, cases[i].compatible);
        g_assert_cmpuint(h->clean_shutdown, ==, 1);
        bdrv_co_unref(bs);
    }
}

static void coroutine_fn regions_are_aligned_and_have_room_to_grow(void)
{
    static const int64_t sizes[] = {0, 512, 3 * MiB + 512, 40 * GiB, 4 * TiB, 64 * TiB};
    static const int64_t chunks[] = {512, 12 * KiB, 64 * KiB, MiB, 256 * MiB, 0};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(chunks); j++) {
            g_autofree FvdHeader *h = g_new(FvdHeader, 1);
            int64_t used;
            Error *err = NULL;

            fvd_header_init(h);
            h->virtual_disk_size = h->base_img_size = sizes[i];
            h->chunk_size = chunks[j];
            if (fvd_plan(h, &err) < 0) {
                g_assert_cmpint(DIV_ROUND_UP(sizes[i], chunks[j]) * 4, >, FVD_TABLE_USED_MAX);
                g_assert_nonnull(strstr(error_get_pretty(err), "make 'chunk-size' larger"));
                error_free(err);
                continue;
            }
            used = fvd_header_table_bytes(h);
            g_assert_true(!chunks[j] || h->table_size >= MIN(4 * used, FVD_TABLE_USED_MAX));
            used = fvd_header_bitmap_bytes(h);
            g_assert_cmpint(h->bitmap_size, >=, MIN(4 * used, FVD_BITMAP_USED_MAX));
            g_assert_cmpint(h->data_offset % MAX(chunks[j] <= MiB ? chunks[j] : MiB, 4096), ==, 0);
            g_assert_cmpint(h->data_offset, >=, h->journal_offset + h->journal_size);
            g_assert_cmpint(fvd_header_data_chunks(h), >=, fvd_header_chunks(h));
        }
    }
}

static void coroutine_fn nonsense_is_refused_in_one_line(void)
{
    g_autofree char *long_name = g_strnfill(1024, 'x');
    g_autofree char *name =
        g_strdup_printf("\"size\":512,\"backing-size\":0,\"backing-file\":\"%s\"", long_name);
    g_autofree char *command =
        g_strdup_printf("\"size\":512,\"add-storage-cmd\":\"%s\"", long_name);
    BlockDriverState *bs = file_node(0);

    create_fails("'size' is 1000, and must be a multiple of 512", "\"size\":1000");
    create_fails("from 0 to 4611686018427387904", "\"size\":9223372036854775296");
    create_fails("'chunk-size' is 1000", "\"size\":512,\"chunk-size\":1000");
    create_fails("'chunk-size' is 2147483648", "\"size\":512,\"chunk-size\":2147483648");
    create_fails("'block-size' is 0", "\"size\":512,\"block-size\":0");
    create_fails("'journal-size' is 4096, and must be a multiple of 4096 from 8192 to 1073741824",
                 "\"size\":512,\"journal-size\":4096");
    create_fails("'journal-size' is 9000", "\"size\":512,\"journal-size\":9000");
    create_fails("make 'chunk-size' larger", "\"size\":140737488355328");
    create_fails("make 'block-size' larger",
                 "\"size\":35184372088832,\"block-size\":512,\"backing-file\":\"b\","
                 "\"backing-size\":35184372088832");
    create_fails("'backing-file' has 1024 bytes, and may have 1023 at most", name);
    create_fails("'add-storage-cmd' has 1024 bytes", command);
    create_fails("'backing-fmt' has 16 bytes",
                 "\"size\":512,\"backing-size\":0,\"backing-file\":\"b\","
                 "\"backing-fmt\":\"0123456789abcdef\"");
    create_fails("'backing-fmt' needs 'backing-file'", "\"size\":512,\"backing-fmt\":\"raw\"");
    create_fails("'backing-size' needs 'backing-file'", "\"size\":512,\"backing-size\":512");
    create_fails("'optimize-empty-block' needs 'backing-file'",
                 "\"size\":512,\"optimize-empty-block\":true");
    create_fails("Could not open backing image",
                 "\"size\":512,\"backing-file\":\"/nonexistent/b\",\"backing-size\":512,"
                 "\"optimize-empty-block\":true");
    create_fails("'backing-file' is empty", "\"size\":512,\"backing-file\":\"\"");
    create_fails("'data-file-name' needs 'data-file'", "\"size\":512,\"data-file-name\":\"d\"");
    create_fails("'num-prefetch-slots' is 65, and must be from 1 to 64",
                 "\"size\":512,\"num-prefetch-slots\":65");
    create_fails("'bytes-per-prefetch' is 67108865",
                 "\"size\":512,\"bytes-per-prefetch\":67108865");
    create_fails("Could not open backing image",
                 "\"size\":512,\"backing-file\":\"/nonexistent/b\",\"backing-fmt\":\"raw\"");
    g_assert_cmpint(test_ram_counts(bs)->writes, ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 0);
    bdrv_co_unref(bs);
}

/* A device has its length and its old data. */
static void coroutine_fn nothing_of_the_old_storage_is_in_the_image(void)
{
    BlockDriverState *bs = file_node(32 * MiB);
    g_autofree uint8_t *garbage = g_malloc(32 * MiB);
    g_autofree FvdHeader *h = NULL;

    memset(garbage, GARBAGE, 32 * MiB);
    test_ram_poke(bs, 0, garbage, 32 * MiB);
    create("\"size\":4194304,\"chunk-size\":0", NULL, &error_abort);
    h = header_of(bs);
    expect_bytes(bs, FVD_HEADER_BYTES, h->data_offset + 4 * MiB - FVD_HEADER_BYTES, 0);
    bdrv_co_unref(bs);
}

static void coroutine_fn data_file_begins_with_chunk_0(void)
{
    BlockDriverState *bs = file_node(0), *data = test_ram_new("d", 4 * MiB);
    g_autofree FvdHeader *h = NULL, *flat = NULL;

    test_ram_poke_pattern(data, 0, 4 * MiB, 1);
    create("\"size\":1073741824,\"data-file\":\"d\",\"data-file-name\":\"a.data\"", NULL,
           &error_abort);
    h = header_of(bs);
    g_assert_cmpstr(h->data_file, ==, "a.data");
    g_assert_cmpstr(h->data_file_fmt, ==, "");
    g_assert_cmpint(h->data_offset, ==, 0);
    g_assert_cmpint(bdrv_getlength(data), ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, h->journal_offset + h->journal_size);
    create("\"size\":1048576,\"chunk-size\":0,\"data-file\":\"d\",\"data-file-name\":\"a.data\"",
           NULL, &error_abort);
    flat = header_of(bs);
    g_assert_cmpint(flat->table_offset, ==, 0);
    g_assert_cmpint(bdrv_getlength(data), ==, MiB);
    expect_bytes(data, 0, MiB, 0);
    create_fails("image creation", "\"size\":512,\"data-file\":\"f\",\"data-file-name\":\"x\"");
    bdrv_co_unref(data);
    bdrv_co_unref(bs);
}

/* The base has data in its second block, and a little at its end. */
static void coroutine_fn zero_blocks_of_the_base_are_known(void)
{
    BlockDriverState *base = test_ram_new(NULL, 640 * KiB + 512);
    FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *bitmap = NULL;
    g_autofree uint8_t *zeros = g_malloc0(3 * 64 * KiB);
    uint8_t byte = 1;
    int64_t n;

    test_ram_poke(base, 3 * 64 * KiB, zeros, 3 * 64 * KiB); /* zeros, but not holes */
    test_ram_poke(base, 2 * 64 * KiB - 1, &byte, 1);
    test_ram_poke(base, 640 * KiB + 511, &byte, 1);
    fvd_header_init(h);
    h->virtual_disk_size = MiB;
    h->base_img_size = 640 * KiB + 512;
    fvd_plan(h, &error_abort);
    fvd_co_zero_blocks(base, h, NULL, &bitmap, &n, &error_abort);
    g_assert_cmpint(n, ==, 9);
    g_assert_cmphex(bitmap[0], ==, 0xfd);
    g_assert_cmphex(bitmap[1], ==, 0x03);
    g_free(h);
    bdrv_co_unref(base);
}

static void coroutine_fn a_cancel_is_heard(void)
{
    BlockDriverState *bs = file_node(32 * MiB), *base = test_ram_new(NULL, MiB);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    BdrvProgress progress = {.cancelled = true};
    uint8_t *bitmap = NULL;
    Error *err = NULL;
    int64_t n;

    g_assert_cmpint(create("\"size\":1048576", &progress, &err), ==, -ECANCELED);
    error_free(err);
    err = NULL;
    expect_bytes(bs, 0, FVD_HEADER_REGION, 0);
    fvd_header_init(h);
    h->virtual_disk_size = h->base_img_size = MiB;
    fvd_plan(h, &error_abort);
    g_assert_cmpint(fvd_co_zero_blocks(base, h, &progress, &bitmap, &n, &err), ==, -ECANCELED);
    error_free(err);
    bdrv_co_unref(base);
    bdrv_co_unref(bs);
}

/* Whenever power goes: there is the whole image, or none, and never the old header over new regions. */
static void coroutine_fn a_power_cut_leaves_an_image_or_none(void)
{
    uint32_t seed = block_test_seed();
    bool done = false;

    for (unsigned moment = 1; !done; moment++) {
        for (unsigned i = 0; i < 8; i++) {
            TestCutFate fate = {.seed = seed + i, .tear_bytes = i % 2 ? 512 : 0, .reorder = true};
            BlockDriverState *bs = test_cut_new("f", 2 * MiB);
            uint8_t *buf = g_malloc(17 * MiB);
            FvdHeader *h = g_new(FvdHeader, 1);

            create("\"size\":8388608,\"journal-size\":8192", NULL, &error_abort);
            test_cut_arm(bs, test_cut_moments(bs) + moment);
            done = create("\"size\":1048576,\"chunk-size\":65536,\"journal-size\":16384", NULL,
                          NULL) == 0;
            if (!test_cut_is_off(bs)) {
                test_cut_now(bs);
            }
            test_cut_power_on(bs, &fate);
            test_cut_peek_stable(bs, 0, buf, FVD_HEADER_REGION);
            if (fvd_header_probe(buf, FVD_HEADER_REGION)) {
                fvd_header_decode(buf, FVD_HEADER_REGION, h, &error_abort);
                g_assert_false(h->geometry_crc_wrong || h->state_crc_wrong);
                test_cut_peek_stable(bs, h->table_offset, buf, fvd_header_table_bytes(h));
                for (int64_t at = 0; at < fvd_header_table_bytes(h); at++) {
                    g_assert_cmphex(buf[at], ==, 0xff);
                }
            } else {
                g_assert_false(done);
            }
            g_free(h);
            g_free(buf);
            bdrv_co_unref(bs);
        }
    }
}

static void coroutine_fn who_uses_the_file_is_named(void)
{
    BlockDriverState *bs = file_node(MiB);
    BdrvChild *user = block_test_user(bs, BLK_PERM_WRITE);

    create_fails("image creation", "\"size\":1048576");
    g_assert_cmpint(bdrv_getlength(bs), ==, MiB);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void add(void)
{
    block_test_add("/fvd/create/every byte of a header is as the format says",
                   every_byte_of_a_header_is_as_the_format_says);
    block_test_add("/fvd/create/versions and features go together",
                   versions_and_features_go_together);
    block_test_add("/fvd/create/regions are aligned and have room to grow",
                   regions_are_aligned_and_have_room_to_grow);
    block_test_add("/fvd/create/nonsense is refused in one line", nonsense_is_refused_in_one_line);
    block_test_add("/fvd/create/nothing of the old storage is in the image",
                   nothing_of_the_old_storage_is_in_the_image);
    block_test_add("/fvd/create/a data file begins with chunk 0", data_file_begins_with_chunk_0);
    block_test_add("/fvd/create/zero blocks of the base are known",
                   zero_blocks_of_the_base_are_known);
    block_test_add("/fvd/create/a cancel is heard", a_cancel_is_heard);
    block_test_add("/fvd/create/a power cut leaves an image or none",
                   a_power_cut_leaves_an_image_or_none);
    block_test_add("/fvd/create/who uses the file is named", who_uses_the_file_is_named);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
