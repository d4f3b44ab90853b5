/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LUKS images over a disk in memory: the contract of drivers, a model, many requests at once, and failures. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "coro/sleep.h"
#include "crypto/hash.h"
#include "crypto/luks.h"
#include "crypto/sectors.h"
#include "object/object.h"
#include "object/secret.h"
#include "qapi/json-parser.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "tests/lib/test-cut.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define PAYLOAD 528384 /* with a key of 16 bytes */
#define SIZE    (3 * MiB)

static void make_secrets(void)
{
    if (!object_lookup("s")) {
        secret_register("s", secret_new((const uint8_t *)"hunter0", 7), &error_abort);
        secret_register("s1", secret_new((const uint8_t *)"hunter1", 7), &error_abort);
    }
}

static int coroutine_fn create_with(const char *more, int64_t size, Error **errp)
{
    g_autofree char *text = g_strdup_printf(
        "{'driver':'luks','file':'file','size':%" PRId64 ",'key-secret':'s','iter-time':0,"
        "'cipher-alg':'aes-128','cipher-mode':'cbc','ivgen-alg':'essiv'%s}",
        size, more);
    json_t *json = json_parse_string(text, &error_abort);
    BlockdevCreateOptions *opts = qapi_BlockdevCreateOptions_from_json(json, &error_abort);
    int ret = bdrv_find_format("luks")->image->co_create(opts, NULL, errp);

    qapi_free_BlockdevCreateOptions(opts);
    json_decref(json);
    return ret;
}

/* An image in a new node "file", one reference for the caller. */
static BlockDriverState *coroutine_fn make_image(void)
{
    BlockDriverState *file = test_ram_new("file", 0);

    make_secrets();
    g_assert_cmpint(create_with("", SIZE, &error_abort), ==, 0);
    g_assert_cmpint(bdrv_getlength(file), ==, PAYLOAD + SIZE);
    return file;
}

static BlockDriverState *coroutine_fn open_image(const char *more)
{
    return block_test_co_open(
        "{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": \"file\"%s}", more);
}

#define KEY ", \"key-secret\": \"s\""

/* ---------------------------------------------------------------------------------------- contract */

static char *path;

/* A disk of zeros, made without the driver: a new image reads as noise. */
static void prepare(void)
{
    CryptoSpec spec = {.cipher = crypto_cipher_find("aes-128"),
                       .mode = CRYPTO_MODE_XTS,
                       .ivgen = CRYPTO_IVGEN_PLAIN64};
    const size_t disk = 256 * KiB;
    g_autofree uint8_t *file = NULL;
    uint8_t key[CRYPTO_KEY_MAX];
    CryptoSectors *sectors;
    LuksHeader h;

    make_secrets();
    luks_header_init(&h, &spec, crypto_hash_find("sha1"), false, &error_abort);
    crypto_random(key, h.key_bytes);
    file = g_malloc0(luks_payload_offset(&h) + disk);
    g_assert_cmpint(luks_digest_init(&h, key, 0, NULL), ==, 0);
    g_assert_cmpint(luks_slot_make(&h, 0, "hunter0", 7, key, 0, file + 4096, NULL), ==, 0);
    luks_header_encode(&h, file);
    sectors = crypto_sectors_new(&spec, key, h.key_bytes, &error_abort);
    crypto_sectors_encrypt(sectors, 0, file + luks_payload_offset(&h), disk);
    crypto_sectors_free(sectors);
    g_assert_true(
        g_file_set_contents(path, (char *)file, luks_payload_offset(&h) + (gssize)disk, NULL));
}

/* ------------------------------------------------------------------------------------------- model */

static void coroutine_fn check_all(BdrvChild *user, const uint8_t *model, int64_t bytes)
{
    g_autofree uint8_t *got = g_malloc(bytes);

    g_assert_cmpint(bdrv_co_pread(user, 0, bytes, got, 0), ==, 0);
    g_assert_cmpmem(got, bytes, model, bytes);
}

static void coroutine_fn random_step(BdrvChild *user, GRand *rand, uint8_t *model)
{
    int64_t offset = g_rand_int_range(rand, 0, SIZE - 1);
    int64_t bytes =
        g_rand_int_range(rand, 1, MIN(SIZE - offset, g_rand_boolean(rand) ? 3000 : SIZE) + 1);
    g_autofree uint8_t *buf = g_malloc(bytes);

    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        g_assert_cmpint(bdrv_co_pread(user, offset, bytes, buf, 0), ==, 0);
        g_assert_cmpmem(buf, bytes, model + offset, bytes);
        break;
    case 1:
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, offset, bytes, 0), ==, 0);
        memset(model + offset, 0, bytes);
        break;
    case 2:
        g_assert_cmpint(bdrv_co_flush(user->bs), ==, 0);
        break;
    default:
        memset(buf, g_rand_int(rand), bytes);
        g_assert_cmpint(bdrv_co_pwrite(user, offset, bytes, buf, 0), ==, 0);
        memcpy(model + offset, buf, bytes);
    }
}

static void coroutine_fn test_model(void)
{
    GRand *rand = g_rand_new_with_seed(block_test_seed());
    BlockDriverState *file = make_image(), *bs = open_image(KEY);
    BdrvChild *user =
        block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    g_autofree uint8_t *model = g_malloc(SIZE), *raw = g_malloc(SIZE);

    g_assert_cmpint(bdrv_co_pread(user, 0, SIZE, model, 0), ==, 0); /* noise, but the same */
    for (int i = 0; i < 150; i++) {
        if (i % 50 == 49) {
            block_test_co_user_free(user);
            bdrv_co_unref(bs);
            bs = open_image(KEY);
            user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
        }
        random_step(user, rand, model);
    }
    check_all(user, model, SIZE);
    test_ram_peek(file, PAYLOAD, raw, SIZE);
    for (int64_t at = 0; at < SIZE; at += 512) {
        g_assert_true(memcmp(raw + at, model + at, 512) != 0); /* nothing is as it is */
    }
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
    g_rand_free(rand);
}

/* More than there are buffers for: they wait for each other, and all are done. */
static void coroutine_fn test_many(void)
{
    BlockDriverState *file = make_image(), *bs = open_image(KEY);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    BlockTestRequest *requests[60];

    test_ram_hold(file, TEST_RAM_WRITE, 0, PAYLOAD + SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        /* Two that overlap may end in either order: each has the same byte there. */
        requests[i] = block_test_co_start(user, BLOCK_TEST_WRITE, (int64_t)(i % 3) * MiB, 1 * MiB,
                                          (uint8_t)(i % 3 + 1));
    }
    test_ram_co_wait_held(file, 16); /* LUKS_BOUNCE_ALL_BYTES of 1 MiB each */
    block_test_co_settle();
    g_assert_cmpuint(test_ram_held(file), ==, 16);
    test_ram_release(file);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        g_assert_cmpint(block_test_co_join(requests[i]), ==, 0);
    }
    for (int i = 0; i < 3; i++) {
        block_test_co_expect(user, i * MiB, 1 * MiB, (uint8_t)(i + 1));
    }
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

/* ------------------------------------------------------------------------------------------ others */

static void coroutine_fn test_failures(void)
{
    BlockDriverState *file = make_image(), *bs = open_image(KEY);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);

    block_test_co_fill(user, 0, 64 * KiB, 7);
    test_ram_set_error(file, TEST_RAM_WRITE, PAYLOAD, 512, EIO, 1);
    g_assert_cmpint(block_test_co_join(block_test_co_start(user, BLOCK_TEST_WRITE, 0, 4096, 9)), ==,
                    -EIO);
    block_test_co_expect(user, 0, 64 * KiB, 7);
    test_ram_set_error(file, TEST_RAM_READ, PAYLOAD, 512, EIO, 1);
    g_assert_cmpint(block_test_co_join(block_test_co_start(user, BLOCK_TEST_READ, 0, 4096, 0)), ==,
                    -EIO);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

static void coroutine_fn test_opens(void)
{
    BlockDriverState *file = make_image(), *bs;
    uint8_t byte = 0xff;

    block_test_co_open_fails("Invalid password, cannot unlock any keyslot",
                             "{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": \"file\", "
                             "\"key-secret\": \"s1\"}");
    block_test_co_open_fails(
        "Parameter 'key-secret' is required for cipher",
        "{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": \"file\"}");
    block_test_co_open_fails("No secret with id 'nobody'",
                             "{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": \"file\", "
                             "\"key-secret\": \"nobody\"}");
    test_ram_set_error(file, TEST_RAM_READ, 4096, 512, EIO, 1);
    block_test_co_open_fails(
        "Could not read key slot 0: Input/output error",
        "{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": \"file\"%s}", KEY);
    bs = open_image(KEY ", \"read-only\": true");
    g_assert_true(bs->encrypted);
    bdrv_co_unref(bs);
    test_ram_poke(file, 0, &byte, 1);
    block_test_co_open_fails(
        "Volume is not in LUKS format",
        "{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": \"file\"%s}", KEY);
    bdrv_co_unref(file);
}

typedef struct Opening {
    bool done;
    Error *err;
} Opening;

static void coroutine_fn open_forever(void *opaque)
{
    Opening *o = opaque;
    BlockdevOptions *opts = block_test_options(
        "{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": \"file\"%s}", KEY);

    g_assert_null(bdrv_co_open(opts, &o->err));
    qapi_free_BlockdevOptions(opts);
    o->done = true;
}

static void cancel_node(BlockDriverState *bs, void *opaque)
{
    if (bs->drv && bs->drv->life->cancel_in_flight) {
        bs->drv->life->cancel_in_flight(bs);
    }
}

/* A header that asks for an hour's work: whoever does not want to wait gives up. */
static void coroutine_fn test_forever(void)
{
    BlockDriverState *file = make_image();
    const uint8_t iterations[4] = {0xff, 0xff, 0xff, 0xff};
    Opening o = {0};

    test_ram_poke(file, LUKS_SLOT_OFFSET(0) + 4, iterations, sizeof(iterations));
    qemu_coroutine_enter(qemu_coroutine_create(open_forever, &o));
    block_test_co_settle();
    g_assert_false(o.done);
    bdrv_for_each_node(cancel_node, NULL);
    while (!o.done) {
        qemu_co_sleep_ns(1 * SCALE_MS);
    }
    g_assert_cmpstr(error_get_pretty(o.err), ==, "Could not open key slot 0: Operation canceled");
    error_free(o.err);
    bdrv_co_unref(file);
}

/* Creation that fails at any of its writes and flushes leaves no image. */
static void coroutine_fn test_create_fails(void)
{
    static const struct {
        unsigned op;
        int64_t offset;
    } faults[] = {
        {TEST_RAM_WRITE, 4096}, {TEST_RAM_WRITE, 512}, {TEST_RAM_WRITE, 0}, {TEST_RAM_FLUSH, 0}};

    make_secrets();
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        BlockDriverState *file = make_image();
        Error *err = NULL;
        uint8_t raw[LUKS_HEADER_BYTES];

        test_ram_set_error(file, faults[i].op, faults[i].offset, 512, EIO, 1);
        g_assert_cmpint(create_with("", 64 * KiB, &err), ==, -EIO);
        error_free(err);
        test_ram_peek(file, 0, raw, sizeof(raw));
        g_assert_false(luks_probe(raw, sizeof(raw)));
        bdrv_co_unref(file);
    }
}

static void coroutine_fn test_resize(void)
{
    BlockDriverState *file = make_image(), *bs = open_image(KEY);
    BdrvChild *user =
        block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);

    block_test_co_fill(user, 1 * MiB - 512, 512, 5);
    g_assert_cmpint(bdrv_co_truncate(user, 1 * MiB, true, PREALLOC_MODE_OFF, 0, &error_abort), ==,
                    0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 1 * MiB);
    g_assert_cmpint(bdrv_getlength(file), ==, PAYLOAD + 1 * MiB);
    g_assert_cmpint(bdrv_co_truncate(user, 2 * MiB, true, PREALLOC_MODE_OFF, 0, &error_abort), ==,
                    0);
    block_test_co_expect(user, 1 * MiB - 512, 512, 5);
    block_test_co_fill(user, 1 * MiB, 1 * MiB, 6);
    block_test_co_expect(user, 1 * MiB, 1 * MiB, 6);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

static int coroutine_fn amend(BlockDriverState *bs, const char *options, Error **errp)
{
    json_t *o = json_parse_string(options, &error_abort);
    int ret = bs->drv->image->co_amend(bs, o, false, NULL, errp);

    json_decref(o);
    return ret;
}

/* E1, E2: whatever fails, the passphrase that was there opens the image. */
static void coroutine_fn test_amend_fails(void)
{
    static const unsigned ops[] = {TEST_RAM_WRITE, TEST_RAM_FLUSH};
    BlockDriverState *file = make_image(), *bs = open_image(KEY);
    Error *err = NULL;

    for (size_t i = 0; i < 2 * ARRAY_SIZE(ops); i++) {
        test_ram_set_error(file, ops[i % 2], i < 2 ? 69632 : 0, 512, EIO, 1);
        g_assert_cmpint(amend(bs, "{'state':'active','new-secret':'s1','iter-time':'0'}", &err), <,
                        0);
        g_assert_nonnull(strstr(error_get_pretty(err), "Could not write key slot 1"));
        error_free(err);
        err = NULL;
        bdrv_co_unref(bs);
        bs = open_image(KEY);
    }
    test_ram_set_error(file, TEST_RAM_ALL_IO, 0, 0, 0, 0);
    g_assert_cmpint(amend(bs, "{'state':'active','new-secret':'s1','iter-time':'0'}", &error_abort),
                    ==, 0);
    g_assert_cmpint(amend(bs, "{'state':'inactive','old-secret':'s'}", &error_abort), ==, 0);
    bdrv_co_unref(bs);
    bs = open_image(", \"key-secret\": \"s1\"");
    bdrv_co_unref(bs);
    bdrv_co_unref(file);
}

/* What of the image is left when power goes at one moment of an amend, by one fate: which passphrases open it. */
static unsigned coroutine_fn opens_after_cut(const char *options, unsigned moment,
                                             const TestCutFate *fate, bool *ret_over)
{
    static const char *const keys[] = {"s", "s1"};
    BlockDriverState *file = test_cut_new_file("file", 0, 1 * MiB), *bs;
    unsigned opened = 0;

    make_secrets();
    g_assert_cmpint(create_with("", 4096, &error_abort), ==, 0);
    bs = open_image(KEY);
    if (strstr(options, "inactive")) {
        g_assert_cmpint(
            amend(bs, "{'state':'active','new-secret':'s1','iter-time':'0'}", &error_abort), ==, 0);
    }
    test_cut_arm(file, test_cut_moments(file) + moment);
    amend(bs, options, NULL);
    bdrv_co_unref(bs);
    *ret_over = !test_cut_is_off(file);
    if (*ret_over) {
        test_cut_now(file);
    }
    test_cut_power_on(file, fate);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        BlockdevOptions *opts =
            block_test_options("{\"driver\": \"luks\", \"node-name\": \"image\", \"file\": "
                               "\"file\", \"key-secret\": \"%s\"}",
                               keys[i]);

        bs = bdrv_co_open(opts, NULL);
        opened |= bs ? 1u << i : 0;
        bdrv_co_unref(bs);
        qapi_free_BlockdevOptions(opts);
    }
    bdrv_co_unref(file);
    return opened;
}

/* E1, E2: the passphrase that stays opens the image whenever power goes, the new one once it was said to. */
static void coroutine_fn test_power_cuts(void)
{
    static const struct {
        const char *options;
        unsigned stays, end; /* bits of keys */
    } amends[] = {
        {"{'state':'active','new-secret':'s1','iter-time':'0'}", 1, 3},
        {"{'state':'inactive','old-secret':'s'}", 2, 2},
    };
    uint32_t seed = block_test_seed();

    for (size_t i = 0; i < ARRAY_SIZE(amends); i++) {
        bool over = false;

        for (unsigned moment = 1; !over; moment++) {
            for (uint32_t n = 0; n < 2; n++) {
                TestCutFate fate = {.seed = seed + n, .tear_bytes = 512, .reorder = true};
                unsigned opened = opens_after_cut(amends[i].options, moment, &fate, &over);

                g_assert_cmpuint(opened & amends[i].stays, ==, amends[i].stays);
                if (over) {
                    g_assert_cmpuint(opened, ==, amends[i].end);
                }
            }
        }
    }
}

static void add(void)
{
    static DriverContract contract = {.prepare = prepare, .writable = true, .keeps_data = true};

    path = block_test_path("image.luks");
    contract.options = g_strdup_printf(
        "\"key-secret\": \"s\", "
        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\", \"node-name\": \"contract-file\"}",
        path);
    driver_contract_with("luks", &contract);
    block_test_add("/luks/random requests give what a model gives, and the file has none of it",
                   test_model);
    block_test_add("/luks/requests wait for buffers, and all are done", test_many);
    block_test_add("/luks/what fails below fails here", test_failures);
    block_test_add("/luks/an image opens with its key alone", test_opens);
    block_test_add("/luks/an opening that takes for ever can be cancelled", test_forever);
    block_test_add("/luks/a creation that fails says so", test_create_fails);
    block_test_add("/luks/a disk gets another size", test_resize);
    block_test_add("/luks/a change of keys that fails leaves the old ones", test_amend_fails);
    block_test_add("/luks/a change of keys survives a power cut at every moment", test_power_cuts);
}

int main(int argc, char **argv)
{
    int status;

    bdrv_file_register();
    bdrv_luks_register();
    status = block_test_main(argc, argv, add);
    object_cleanup();
    return status;
}
