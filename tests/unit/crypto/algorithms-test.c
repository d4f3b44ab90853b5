/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Digests, keys from passphrases, the splitter, messages: against published vectors. */
#include <errno.h>
#include <pthread.h>

#include "crypto/hash.h"
#include "crypto/message.h"
#include "tests/unit/crypto/hex.h"
#include "util/osdep.h"

/* FIPS 180-4, RFC 1321, the RIPEMD-160 paper, GB/T 32905: of "abc". */
static void test_digests(void)
{
    static const struct {
        const char *name, *hex;
    } cases[] = {
        {"md5", "900150983cd24fb0d6963f7d28e17f72"},
        {"sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {"sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
        {"sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"sha384", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc"
                   "2358baeca134c825a7"},
        {"sha512", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1"
                   "a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
        {"ripemd160", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"},
        {"sm3", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const CryptoHash *hash = crypto_hash_find(cases[i].name);
        uint8_t digest[CRYPTO_DIGEST_MAX];

        g_assert_nonnull(hash);
        g_assert_cmpuint(hash->bytes * 2, ==, strlen(cases[i].hex));
        crypto_digest(hash, "abc", 3, digest);
        assert_hex(digest, cases[i].hex);
    }
    g_assert_null(crypto_hash_find("sha3"));
}

static void test_names(void)
{
    g_assert_true(crypto_cipher_find("aes-256") == crypto_cipher_find_sized("aes", 32));
    g_assert_null(crypto_cipher_find("aes-257"));
    g_assert_null(crypto_cipher_find_sized("aes", 0));
    g_assert_cmpuint(crypto_key_bytes(crypto_cipher_find("aes-256"), CRYPTO_MODE_XTS), ==, 64);
    for (int i = 0; i < CRYPTO_MODE__MAX; i++) {
        g_assert_cmpint(crypto_mode_find(crypto_mode_name((CryptoMode)i)), ==, i);
    }
    for (int i = 0; i < CRYPTO_IVGEN__MAX; i++) {
        g_assert_cmpint(crypto_ivgen_find(crypto_ivgen_name((CryptoIvgen)i)), ==, i);
    }
    g_assert_cmpint(crypto_mode_find("gcm"), <, 0);
    g_assert_cmpint(crypto_ivgen_find(""), <, 0);
}

/* RFC 6070 for SHA-1, RFC 7914 for SHA-256. */
static void test_pbkdf2(void)
{
    static const struct {
        const char *hash, *password, *salt;
        uint32_t iterations;
        const char *hex;
    } cases[] = {
        {"sha1", "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"},
        {"sha1", "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"},
        {"sha1", "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"},
        {"sha1", "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
         "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"},
        {"sha256", "passwd", "salt", 1,
         "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
         "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"},
        {"sha256", "Password", "NaCl", 80000,
         "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
         "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t n = strlen(cases[i].hex) / 2;
        uint8_t key[64];

        g_assert_cmpint(crypto_pbkdf2(crypto_hash_find(cases[i].hash), cases[i].password,
                                      strlen(cases[i].password), (const uint8_t *)cases[i].salt,
                                      strlen(cases[i].salt), cases[i].iterations, key, n, NULL),
                        ==, 0);
        assert_hex(key, cases[i].hex);
    }
}

typedef struct LongKey {
    bool cancelled; /* atomic */
    int ret;
    uint8_t key[64];
} LongKey;

static void *derive_for_hours(void *opaque)
{
    LongKey *l = opaque;

    l->ret = crypto_pbkdf2(crypto_hash_find("sha256"), "x", 1, (const uint8_t *)"y", 1, UINT32_MAX,
                           l->key, sizeof(l->key), &l->cancelled);
    return NULL;
}

static void test_cancel(void)
{
    LongKey l = {.ret = 1};
    pthread_t thread;

    memset(l.key, 0xa5, sizeof(l.key));
    pthread_create(&thread, NULL, derive_for_hours, &l);
    __atomic_store_n(&l.cancelled, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    g_assert_cmpint(l.ret, ==, -ECANCELED);
    g_assert_true(buffer_is_zero(l.key, sizeof(l.key)));
}

static void test_time(void)
{
    const CryptoHash *hash = crypto_hash_find("sha1");
    uint32_t ten = crypto_pbkdf2_iterations(hash, 20, 10);

    g_assert_cmpuint(crypto_pbkdf2_iterations(hash, 20, 0), ==, 1);
    g_assert_cmpuint(ten, >, 1);
    g_assert_cmpuint(crypto_pbkdf2_iterations(hash, 20, UINT64_MAX), ==, UINT32_MAX);
}

static void test_split(void)
{
    static const char *const hashes[] = {"sha1", "sha256", "ripemd160", "sha512"};

    for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
        const CryptoHash *hash = crypto_hash_find(hashes[i]);

        for (size_t bytes = 1; bytes <= 64; bytes += 7) {
            uint8_t key[64], back[64];
            g_autofree uint8_t *split = g_malloc(bytes * 40);

            crypto_random(key, bytes);
            crypto_af_split(hash, key, bytes, 40, split);
            crypto_af_merge(hash, split, bytes, 40, back);
            g_assert_cmpmem(back, bytes, key, bytes);
            if (bytes >= 8) {
                split[bytes * 3] ^= 1;
                crypto_af_merge(hash, split, bytes, 40, back);
                g_assert_true(memcmp(back, key, bytes) != 0);
            }
        }
    }
}

/* One stripe is the key; with two the second is H(first) ^ key, by hand for a key of one digest. */
static void test_split_by_hand(void)
{
    const CryptoHash *hash = crypto_hash_find("sha256");
    uint8_t key[32], split[64], numbered[36] = {0}, digest[32];

    crypto_random(key, sizeof(key));
    crypto_af_split(hash, key, sizeof(key), 1, split);
    g_assert_cmpmem(split, 32, key, 32);
    crypto_af_split(hash, key, sizeof(key), 2, split);
    memcpy(numbered + 4, split, 32);
    crypto_digest(hash, numbered, sizeof(numbered), digest);
    for (size_t i = 0; i < sizeof(key); i++) {
        g_assert_cmpuint(split[32 + i], ==, digest[i] ^ key[i]);
    }
}

/* NIST SP 800-38A, F.2.6; its last block happens to end with a 10h, as a whole block of padding does. */
static void test_message(void)
{
    uint8_t key[32], iv[16], buf[64];
    size_t bytes;
    Error *err = NULL;

    from_hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", key);
    from_hex("000102030405060708090a0b0c0d0e0f", iv);
    from_hex("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
             "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
             buf);
    g_assert_cmpint(crypto_message_decrypt(key, iv, buf, 64, &bytes, &error_abort), ==, 0);
    g_assert_cmpuint(bytes, ==, 48);
    assert_hex(buf, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
                    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");

    g_assert_cmpint(crypto_message_decrypt(key, iv, buf, 15, &bytes, &err), ==, -EINVAL);
    g_assert_cmpstr(error_get_pretty(err), ==, "Length 15 must be a multiple of block size 16");
    error_free(err);
    err = NULL;
    g_assert_cmpint(crypto_message_decrypt(key, iv, buf, 0, &bytes, &err), ==, -EINVAL);
    error_free(err);
    err = NULL;
    memset(buf, 1, sizeof(buf)); /* its last byte becomes no length of padding */
    g_assert_cmpint(crypto_message_decrypt(key, iv, buf, 64, &bytes, &err), ==, -EINVAL);
    g_assert_cmpstr(error_get_pretty(err), ==, "Incorrect padding found on decrypted data");
    error_free(err);
}

static void test_random_bytes(void)
{
    uint8_t a[300] = {0}, b[300] = {0};

    crypto_random(a, 0);
    crypto_random(a, sizeof(a));
    crypto_random(b, sizeof(b));
    g_assert_false(buffer_is_zero(a + 268, 32));
    g_assert_true(memcmp(a, b, sizeof(a)) != 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/algorithms/digests are those of the standards", test_digests);
    g_test_add_func("/algorithms/names find what they name", test_names);
    g_test_add_func("/algorithms/keys from passphrases are those of the standards", test_pbkdf2);
    g_test_add_func("/algorithms/a key that would take hours can be cancelled", test_cancel);
    g_test_add_func("/algorithms/iterations are counted for a time", test_time);
    g_test_add_func("/algorithms/a split key comes back, unless a bit is lost", test_split);
    g_test_add_func("/algorithms/the splitter does what the specification says",
                    test_split_by_hand);
    g_test_add_func("/algorithms/a message is decrypted as the standard says", test_message);
    g_test_add_func("/algorithms/random bytes are not the same twice", test_random_bytes);
    return g_test_run();
}
