/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The LUKS header and its key slots: bytes and numbers, passphrases and keys, and headers of strangers. */
#include <errno.h>

#include "crypto/hash.h"
#include "crypto/luks.h"
#include "tests/unit/util/seed.h"
#include "util/osdep.h"

static void init(LuksHeader *h, const char *cipher, CryptoMode mode, bool detached)
{
    CryptoSpec spec = {.cipher = crypto_cipher_find(cipher),
                       .mode = mode,
                       .ivgen = CRYPTO_IVGEN_ESSIV,
                       .ivgen_hash = crypto_hash_find("sha256")};

    g_assert_cmpint(luks_header_init(h, &spec, crypto_hash_find("sha1"), detached, &error_abort),
                    ==, 0);
}

/* A whole volume's header, with one slot open. */
static void make_volume(LuksHeader *h, uint8_t *key, uint8_t *material)
{
    init(h, "aes-128", CRYPTO_MODE_CBC, false);
    crypto_random(key, h->key_bytes);
    g_assert_cmpint(luks_digest_init(h, key, 1, NULL), ==, 0);
    g_assert_cmpint(luks_slot_make(h, 2, "secret", 6, key, 1, material, NULL), ==, 0);
}

static void test_round(void)
{
    uint8_t raw[LUKS_HEADER_BYTES], again[LUKS_HEADER_BYTES], key[CRYPTO_KEY_MAX];
    g_autofree uint8_t *material = g_malloc(16 * LUKS_STRIPES);
    LuksHeader h, back;

    make_volume(&h, key, material);
    luks_header_encode(&h, raw);
    g_assert_true(luks_probe(raw, sizeof(raw)));
    g_assert_false(luks_probe(raw, 7));
    g_assert_cmpmem(raw, 8, "LUKS\xba\xbe\0\1", 8);
    g_assert_cmpstr((char *)raw + 8, ==, "aes");
    g_assert_cmpstr((char *)raw + 40, ==, "cbc-essiv:sha256");
    g_assert_cmpstr((char *)raw + 72, ==, "sha1");
    g_assert_cmpuint(ldl_be_p(raw + 108), ==, 16);
    g_assert_cmpint(luks_header_decode(raw, false, &back, &error_abort), ==, 0);
    luks_header_encode(&back, again);
    g_assert_cmpmem(raw, sizeof(raw), again, sizeof(again));
    g_assert_cmpuint(luks_active_slots(&back), ==, 1);
    g_assert_true(back.slots[2].active);
}

/* As other programs lay it out, so that what has only their layout in mind is content. */
static void test_layout(void)
{
    LuksHeader h;

    init(&h, "aes-256", CRYPTO_MODE_XTS, false);
    g_assert_cmpint(luks_material_offset(&h, 0), ==, 4096);
    g_assert_cmpint(luks_material_offset(&h, 1), ==, 262144);
    g_assert_cmpint(luks_material_offset(&h, 7), ==, 1810432);
    g_assert_cmpint(luks_payload_offset(&h), ==, 2068480);
    init(&h, "aes-128", CRYPTO_MODE_CBC, false);
    g_assert_cmpint(luks_material_offset(&h, 1), ==, 69632);
    g_assert_cmpint(luks_payload_offset(&h), ==, 528384);
    init(&h, "aes-256", CRYPTO_MODE_XTS, true);
    g_assert_cmpint(luks_payload_offset(&h), ==, 0);
    g_assert_cmpint(luks_header_region_bytes(&h), ==, 2068480);
}

static void test_slots(void)
{
    static const char *const ciphers[] = {"aes-128", "aes-192", "twofish-256", "cast5-128"};

    for (size_t i = 0; i < ARRAY_SIZE(ciphers); i++) {
        CryptoSpec spec = {.cipher = crypto_cipher_find(ciphers[i]),
                           .mode = CRYPTO_MODE_CBC,
                           .ivgen = CRYPTO_IVGEN_PLAIN64};
        uint8_t key[CRYPTO_KEY_MAX], got[CRYPTO_KEY_MAX];
        g_autofree uint8_t *material = g_malloc(CRYPTO_KEY_MAX * LUKS_STRIPES);
        g_autofree uint8_t *used = g_malloc(CRYPTO_KEY_MAX * LUKS_STRIPES);
        LuksHeader h;

        g_assert_cmpint(
            luks_header_init(&h, &spec, crypto_hash_find("sha256"), false, &error_abort), ==, 0);
        crypto_random(key, h.key_bytes);
        g_assert_cmpint(luks_digest_init(&h, key, 1, NULL), ==, 0);
        g_assert_cmpuint(h.digest_iterations, >=, LUKS_ITERATIONS_MIN);
        g_assert_cmpint(luks_slot_make(&h, 5, "correct", 7, key, 1, material, NULL), ==, 0);
        g_assert_cmpuint(h.slots[5].iterations, >=, LUKS_ITERATIONS_MIN);
        memcpy(used, material, luks_material_bytes(&h));
        g_assert_cmpint(luks_slot_open(&h, 5, "correct", 7, used, got, NULL), ==, 0);
        g_assert_cmpmem(got, h.key_bytes, key, h.key_bytes);
        g_assert_true(buffer_is_zero(used, luks_material_bytes(&h)));
        memcpy(used, material, luks_material_bytes(&h));
        g_assert_cmpint(luks_slot_open(&h, 5, "wrong", 5, used, got, NULL), ==, -EACCES);
        g_assert_true(buffer_is_zero(got, h.key_bytes));
        /* One bit of 64000 bytes is lost: so is the key. */
        memcpy(used, material, luks_material_bytes(&h));
        used[luks_material_bytes(&h) / 2] ^= 4;
        g_assert_cmpint(luks_slot_open(&h, 5, "correct", 7, used, got, NULL), ==, -EACCES);
        luks_slot_clear(&h, 5);
        g_assert_cmpuint(luks_active_slots(&h), ==, 0);
    }
}

static void test_cancel(void)
{
    uint8_t key[CRYPTO_KEY_MAX], got[CRYPTO_KEY_MAX];
    g_autofree uint8_t *material = g_malloc(16 * LUKS_STRIPES);
    bool cancelled = true;
    LuksHeader h;

    make_volume(&h, key, material);
    h.slots[2].iterations = UINT32_MAX;
    g_assert_cmpint(luks_slot_open(&h, 2, "secret", 6, material, got, &cancelled), ==, -ECANCELED);
    g_assert_cmpint(luks_slot_make(&h, 3, "secret", 6, key, 1, material, &cancelled), ==,
                    -ECANCELED);
    g_assert_false(h.slots[3].active);
}

typedef struct Patch {
    size_t at;
    const char *bytes;
    size_t n;
    const char *words;
} Patch;
#define PATCH(at, bytes, words)             \
    {                                       \
        at, bytes, sizeof(bytes) - 1, words \
    }

static void test_strangers(void)
{
    static const Patch patches[] = {
        PATCH(0, "X", "Volume is not in LUKS format"),
        PATCH(6, "\0\2", "LUKS version 2 is not supported"),
        PATCH(8, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
              "LUKS header cipher name is not NUL terminated"),
        PATCH(40, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
              "LUKS header cipher mode is not NUL terminated"),
        PATCH(72, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
              "LUKS header hash spec is not NUL terminated"),
        PATCH(8, "foo\0", "Algorithm 'foo' with key size 16 bytes not supported"),
        PATCH(8, "\033[2J\0", "Algorithm '?[2J' with key size 16 bytes not supported"),
        PATCH(40, "xts\0", "Unexpected cipher mode string format 'xts'"),
        PATCH(40, "foo-plain\0", "Cipher mode 'foo' not supported"),
        PATCH(40, "cbc-foo\0", "IV generator 'foo' not supported"),
        PATCH(40, "cbc-essiv:foo\0", "Hash algorithm 'foo' not supported"),
        PATCH(40, "cbc-essiv\0", "IV generator 'essiv' needs a hash"),
        PATCH(72, "foo\0", "Hash algorithm 'foo' not supported"),
        PATCH(104, "\0\0\0\1", "LUKS payload is overlapping with the header"),
        PATCH(104, "\0\0\0\11", "Keyslot 0 is overlapping with the encrypted payload"),
        PATCH(108, "\0\0\0\0", "Algorithm 'aes' with key size 0 bytes not supported"),
        PATCH(108, "\377\377\377\377",
              "Algorithm 'aes' with key size 4294967295 bytes not supported"),
        PATCH(164, "\0\0\0\0", "LUKS key iteration count is zero"),
        PATCH(208, "\0\0\0\5", "Keyslot 0 state (active/disable) is corrupted"),
        PATCH(LUKS_SLOT_OFFSET(2) + 4, "\0\0\0\0", "Keyslot 2 iteration count is zero"),
        PATCH(LUKS_SLOT_OFFSET(1) + 44, "\0\0\0\1", "Keyslot 1 is corrupted (stripes 1 != 4000)"),
        PATCH(LUKS_SLOT_OFFSET(1) + 44, "\377\377\377\377",
              "Keyslot 1 is corrupted (stripes 4294967295 != 4000)"),
        PATCH(LUKS_SLOT_OFFSET(3) + 40, "\0\0\0\1",
              "Keyslot 3 is overlapping with the LUKS header"),
        PATCH(LUKS_SLOT_OFFSET(1) + 40, "\0\0\0\11",
              "Keyslots 0 and 1 are overlapping in the header"),
        PATCH(LUKS_SLOT_OFFSET(7) + 40, "\377\377\377\377",
              "Keyslot 7 is overlapping with the encrypted payload"),
    };
    uint8_t good[LUKS_HEADER_BYTES], raw[LUKS_HEADER_BYTES], key[CRYPTO_KEY_MAX];
    g_autofree uint8_t *material = g_malloc(16 * LUKS_STRIPES);
    LuksHeader h;

    make_volume(&h, key, material);
    luks_header_encode(&h, good);
    for (size_t i = 0; i < ARRAY_SIZE(patches); i++) {
        Error *err = NULL;

        memcpy(raw, good, sizeof(raw));
        memcpy(raw + patches[i].at, patches[i].bytes, patches[i].n);
        memset(&h, 0x5a, sizeof(h));
        g_assert_cmpint(luks_header_decode(raw, false, &h, &err), <, 0);
        g_assert_cmpstr(error_get_pretty(err), ==, patches[i].words);
        g_assert_cmpuint(h.key_bytes, ==, 0x5a5a5a5a); /* nothing was written */
        error_free(err);
    }
}

/* With the disk elsewhere, the payload may be anywhere, and is at 0 with most. */
static void test_detached(void)
{
    uint8_t raw[LUKS_HEADER_BYTES];
    LuksHeader h;
    Error *err = NULL;

    init(&h, "aes-256", CRYPTO_MODE_XTS, true);
    h.digest_iterations = 1;
    luks_header_encode(&h, raw);
    g_assert_cmpint(luks_header_decode(raw, true, &h, &error_abort), ==, 0);
    g_assert_cmpint(luks_header_decode(raw, false, &h, &err), <, 0);
    error_free(err);
}

static void test_uuid(void)
{
    uint8_t raw[LUKS_HEADER_BYTES];
    LuksHeader h;

    init(&h, "aes-256", CRYPTO_MODE_XTS, true);
    h.digest_iterations = 1;
    luks_header_encode(&h, raw);
    memset(raw + 168, 0xff, LUKS_UUID_BYTES);
    g_assert_cmpint(luks_header_decode(raw, true, &h, &error_abort), ==, 0);
    g_assert_cmpuint(strlen(h.uuid), ==, LUKS_UUID_BYTES);
    g_assert_true(g_utf8_validate(h.uuid, -1, NULL));
}

/* Whatever is let through holds what luks.h says of it. */
static void test_random(void)
{
    GRand *rand = test_rand();
    uint8_t good[LUKS_HEADER_BYTES], key[CRYPTO_KEY_MAX];
    g_autofree uint8_t *material = g_malloc(16 * LUKS_STRIPES);
    LuksHeader h;

    make_volume(&h, key, material);
    luks_header_encode(&h, good);
    for (int i = 0; i < 20000; i++) {
        g_autofree uint8_t *raw = g_memdup2(good, sizeof(good));

        for (guint64 k = test_rand_below(rand, 3); k < 3; k++) {
            raw[test_rand_below(rand, LUKS_HEADER_BYTES)] = (uint8_t)g_rand_int(rand);
        }
        if (luks_header_decode(raw, false, &h, NULL) == 0) {
            int64_t payload = luks_payload_offset(&h);

            g_assert_cmpuint(h.key_bytes, <=, CRYPTO_KEY_MAX);
            g_assert_cmpint(luks_header_region_bytes(&h), <=, ROUND_UP(payload, 4096));
        }
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/luks/a header is the same again after decoding", test_round);
    g_test_add_func("/luks/a new volume is laid out as by others", test_layout);
    g_test_add_func("/luks/a slot opens with its passphrase and no other", test_slots);
    g_test_add_func("/luks/hours of iterations can be cancelled", test_cancel);
    g_test_add_func("/luks/headers of strangers are refused in words", test_strangers);
    g_test_add_func("/luks/a detached header has its payload anywhere", test_detached);
    g_test_add_func("/luks/a uuid is fit to be shown, whatever it is", test_uuid);
    g_test_add_func("/luks/no header leads out of bounds", test_random);
    return g_test_run();
}
