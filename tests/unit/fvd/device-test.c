/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FVD images on a block device: it has one size, does not read as zeros, and holds what somebody left there.
 *
 * Made by the driver, used against a plain array, resized, filled up, cut off from power.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/image/image.h"
#include "qapi/json-parser.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cut.h"
#include "util/osdep.h"

#define GARBAGE  0xee
#define CAPACITY (3 * MiB)
#define SECTOR   512
/* Larger than the device, for the disk of an image need not have all its space. */
#define DISK_MAX (5 * MiB)

typedef struct Scene {
    BlockDriverState *device, *bs;
    BdrvChild *user;
    GRand *rand;
    int64_t size;
    uint8_t model[DISK_MAX];
    unsigned full; /* requests that found no space */
} Scene;

static void coroutine_fn create(const char *options)
{
    g_autofree char *text = g_strdup_printf(
        "{\"driver\":\"fvd\",\"file\":\"device\",\"journal-size\":65536,%s}", options);
    json_t *o = json_parse_string(text, &error_abort);
    BlockdevCreateOptions *opts = qapi_BlockdevCreateOptions_from_json(o, &error_abort);

    json_decref(o);
    fvd_co_create(opts, NULL, &error_abort);
    qapi_free_BlockdevCreateOptions(opts);
}

static void coroutine_fn scene_open(Scene *s)
{
    s->bs =
        block_test_co_open("{\"driver\": \"fvd\", \"node-name\": \"image\", \"file\": \"device\", "
                           "\"discard\": \"unmap\", \"backing\": null}");
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    g_assert_cmpint(bdrv_getlength(s->bs), ==, s->size);
}

static void coroutine_fn scene_close(Scene *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
}

static Scene *coroutine_fn scene_begin(uint32_t seed, int64_t size, const char *options)
{
    Scene *s = g_new0(Scene, 1);
    g_autofree uint8_t *garbage = g_malloc(CAPACITY);
    g_autofree char *more = g_strdup_printf("\"size\":%" PRId64 ",%s", size, options);

    s->rand = g_rand_new_with_seed(seed);
    s->device = test_cut_new("device", CAPACITY);
    s->size = size;
    memset(garbage, GARBAGE, CAPACITY);
    test_cut_poke(s->device, 0, garbage, CAPACITY);
    create(more);
    scene_open(s);
    return s;
}

static void coroutine_fn scene_end(Scene *s)
{
    scene_close(s);
    bdrv_co_unref(s->device);
    g_rand_free(s->rand);
    g_free(s);
}

static void coroutine_fn expect_model(Scene *s, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(s->user, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != s->model[offset + i]) {
            g_error("byte %" PRId64 " is %02x, not %02x", offset + i, buf[i], s->model[offset + i]);
        }
    }
}

/* What a request that failed has left is what was there or @byte; it is in the model then. */
static void coroutine_fn found(Scene *s, int64_t offset, int64_t bytes, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(s->user, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_true(buf[i] == byte || buf[i] == s->model[offset + i]);
    }
    memcpy(s->model + offset, buf, bytes);
}

static void coroutine_fn write_bytes(Scene *s, int64_t offset, int64_t bytes)
{
    uint8_t byte = (uint8_t)g_rand_int_range(s->rand, 1, 200);
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret;

    memset(buf, byte, bytes);
    ret = bdrv_co_pwrite(s->user, offset, bytes, buf, 0);
    g_assert_true(ret == 0 || ret == -ENOSPC);
    if (ret < 0) {
        s->full++;
        found(s, offset, bytes, byte);
    } else {
        memset(s->model + offset, byte, bytes);
    }
}

static void coroutine_fn resize(Scene *s)
{
    static const PreallocMode modes[] = {PREALLOC_MODE_OFF, PREALLOC_MODE_OFF,
                                         PREALLOC_MODE_METADATA, PREALLOC_MODE_FALLOC,
                                         PREALLOC_MODE_FULL};
    int64_t size = g_rand_int_range(s->rand, 1, DISK_MAX / SECTOR) * SECTOR;
    PreallocMode mode = size > s->size ? modes[g_rand_int_range(s->rand, 0, 5)] : PREALLOC_MODE_OFF;
    Error *err = NULL;
    int ret = bdrv_co_truncate(s->user, size, true, mode, 0, &err);

    if (ret < 0) {
        if (ret != -ENOSPC || size <= s->size) {
            g_error("%" PRId64 " to %" PRId64 ": %s", s->size, size, error_get_pretty(err));
        }
        g_assert_cmpint(bdrv_getlength(s->bs), ==, s->size);
        error_free_or_abort(&err);
        s->full++;
        return;
    }
    if (size > s->size) {
        memset(s->model + s->size, 0, size - s->size);
    }
    s->size = size;
}

/* All that was flushed, and nothing else is under way. */
static void coroutine_fn cut(Scene *s)
{
    TestCutFate fate = {.seed = g_rand_int(s->rand), .tear_bytes = SECTOR, .reorder = true};

    g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
    test_cut_now(s->device);
    scene_close(s);
    test_cut_power_on(s->device, &fate);
    scene_open(s);
}

static void coroutine_fn one_step(Scene *s)
{
    int64_t most = g_rand_int_range(s->rand, 0, 5) ? 16 * KiB : 512 * KiB;
    int64_t offset = g_rand_int_range(s->rand, 0, s->size);
    int64_t bytes = g_rand_int_range(s->rand, 1, MIN(most, s->size - offset) + 1);
    int ret;

    switch (g_rand_int_range(s->rand, 0, 20)) {
    case 0 ... 8:
        write_bytes(s, offset, bytes);
        break;
    case 9 ... 10:
        ret = bdrv_co_pwrite_zeroes(s->user, offset, bytes,
                                    g_rand_boolean(s->rand) ? BDRV_REQ_MAY_UNMAP : 0);
        g_assert_cmpint(ret, ==, 0);
        memset(s->model + offset, 0, bytes);
        break;
    case 11 ... 12:
        g_assert_cmpint(bdrv_co_pdiscard(s->user, offset, bytes), ==, 0);
        found(s, offset, bytes, 0);
        break;
    case 13:
        resize(s);
        break;
    case 14:
        cut(s);
        break;
    case 15:
        scene_close(s);
        scene_open(s);
        break;
    default:
        expect_model(s, offset, bytes);
        break;
    }
}

static void coroutine_fn test_against_model(void)
{
    static const char *const shapes[] = {
        "\"chunk-size\":4096",
        "\"chunk-size\":65536,\"storage-grow-unit\":262144",
        "\"chunk-size\":65536,\"version\":\"v1\"",
        "\"chunk-size\":512",
        "\"chunk-size\":0",
    };
    const char *text = g_getenv("SEEDS");
    unsigned runs = text ? (unsigned)atoi(text) : 10, full = 0;
    uint32_t seed = block_test_seed();

    for (unsigned run = 0; run < runs; run++) {
        const char *shape = shapes[(seed + run) % G_N_ELEMENTS(shapes)];
        Scene *s = scene_begin(seed + run, 1 * MiB + 7 * SECTOR, shape);

        for (int i = 0; i < 300; i++) {
            one_step(s);
        }
        expect_model(s, 0, s->size);
        scene_close(s);
        scene_open(s);
        expect_model(s, 0, s->size);
        full += s->full;
        scene_end(s);
    }
    g_test_message("%u requests found no space", full);
}

/* Whatever is taken first: the bytes beside it, in its chunk, are zeros; also after it was recovered. */
static void coroutine_fn test_unwritten_parts(void)
{
    uint8_t byte = 0x55;

    for (int64_t at = 0; at < 64 * KiB; at += 5009) {
        Scene *s = scene_begin(1, 2 * MiB, "\"chunk-size\":65536");

        for (int chunk = 0; chunk < 8; chunk++) {
            g_assert_cmpint(bdrv_co_pwrite(s->user, chunk * 3 * 64 * KiB + at, 1, &byte, 0), ==, 0);
            s->model[chunk * 3 * 64 * KiB + at] = byte;
        }
        expect_model(s, 0, s->size);
        cut(s);
        expect_model(s, 0, s->size);
        scene_end(s);
    }
}

/* The table has no room for so large a disk, and the device none for another one; nor for a disk in one piece. */
static void coroutine_fn test_no_room(void)
{
    static const char *const shapes[] = {"\"chunk-size\":512", "\"chunk-size\":0"};

    for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
        Scene *s = scene_begin(1, 256 * KiB, shapes[i]);
        Error *err = NULL;

        write_bytes(s, 0, 100 * KiB);
        g_assert_cmpint(bdrv_co_truncate(s->user, 2 * CAPACITY, true, PREALLOC_MODE_OFF, 0, &err),
                        ==, -ENOSPC);
        error_free_or_abort(&err);
        g_assert_cmpint(bdrv_getlength(s->bs), ==, s->size);
        write_bytes(s, 90 * KiB, 50 * KiB);
        expect_model(s, 0, s->size);
        g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
        scene_close(s);
        scene_open(s);
        expect_model(s, 0, s->size);
        scene_end(s);
    }
}

/* A device that is full says so; what is given back is taken again, and reads as zeros beside what is written. */
static void coroutine_fn test_full(void)
{
    Scene *s = scene_begin(1, DISK_MAX, "\"chunk-size\":65536");
    int64_t at = 0;

    for (; !s->full; at += 64 * KiB) {
        g_assert_cmpint(at, <, s->size);
        write_bytes(s, at, 64 * KiB);
    }
    expect_model(s, 0, s->size);
    g_assert_cmpint(bdrv_co_pdiscard(s->user, 256 * KiB, 128 * KiB), ==, 0);
    memset(s->model + 256 * KiB, 0, 128 * KiB);
    g_assert_cmpint(bdrv_co_flush(s->bs), ==, 0);
    s->full = 0;
    write_bytes(s, at, 100);
    write_bytes(s, at + 64 * KiB, 100);
    g_assert_cmpint(s->full, ==, 0);
    write_bytes(s, at + 128 * KiB, 100);
    g_assert_cmpint(s->full, ==, 1);
    expect_model(s, 0, s->size);
    cut(s);
    expect_model(s, 0, s->size);
    scene_end(s);
}

static void add(void)
{
    block_test_add("/fvd/device/the unwritten part of a new chunk reads as zeros",
                   test_unwritten_parts);
    block_test_add("/fvd/device/a full device says so, and takes what is given back", test_full);
    block_test_add("/fvd/device/a disk that the device has no room for stays as it was",
                   test_no_room);
    block_test_add("/fvd/device/what was written is read, whatever was there before",
                   test_against_model);
}

int main(int argc, char **argv)
{
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
