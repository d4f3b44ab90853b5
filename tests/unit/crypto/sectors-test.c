/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sectors: against published vectors, against the cipher by hand, and from several threads. */
#include <errno.h>
#include <pthread.h>

#include "crypto/hash.h"
#include "crypto/sectors.h"
#include "tests/unit/crypto/hex.h"
#include "util/osdep.h"

static CryptoSpec make_spec(const char *cipher, CryptoMode mode, CryptoIvgen ivgen,
                            const char *hash)
{
    CryptoSpec spec = {.cipher = crypto_cipher_find(cipher), .mode = mode, .ivgen = ivgen};

    g_assert_nonnull(spec.cipher);
    spec.ivgen_hash = hash ? crypto_hash_find(hash) : NULL;
    return spec;
}

static CryptoSectors *make(const CryptoSpec *spec, const uint8_t *key)
{
    return crypto_sectors_new(spec, key, crypto_key_bytes(spec->cipher, spec->mode), &error_abort);
}

/* One block: FIPS 197, RFC 2144, the Twofish paper, NESSIE's vectors for Serpent. */
static void test_ciphers(void)
{
    static const struct {
        const char *cipher, *key, *plain, *encrypted;
    } cases[] = {
        {"aes-128", "000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
         "69c4e0d86a7b0430d8cdb78070b4c55a"},
        {"aes-192", "000102030405060708090a0b0c0d0e0f1011121314151617",
         "00112233445566778899aabbccddeeff", "dda97ca4864cdfe06eaf70a0ec0d7191"},
        {"aes-256", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
         "00112233445566778899aabbccddeeff", "8ea2b7ca516745bfeafc49904b496089"},
        {"cast5-128", "0123456712345678234567893456789a", "0123456789abcdef", "238b4fe5847e44b2"},
        {"serpent-128", "80000000000000000000000000000000", "00000000000000000000000000000000",
         "264e5481eff42a4606abda06c0bfda3d"},
        {"serpent-192", "800000000000000000000000000000000000000000000000",
         "00000000000000000000000000000000", "9e274ead9b737bb21efcfca548602689"},
        {"serpent-256", "8000000000000000000000000000000000000000000000000000000000000000",
         "00000000000000000000000000000000", "a223aa1288463c0e2be38ebd825616c0"},
        {"twofish-128", "00000000000000000000000000000000", "00000000000000000000000000000000",
         "9f589f5cf6122c32b6bfec2f2ae8c35a"},
        {"twofish-256", "0000000000000000000000000000000000000000000000000000000000000000",
         "00000000000000000000000000000000", "57ff739d4dc92c1bd7fc01700cc8216f"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CryptoSpec spec = make_spec(cases[i].cipher, CRYPTO_MODE_ECB, CRYPTO_IVGEN_PLAIN64, NULL);
        uint8_t key[CRYPTO_KEY_MAX], buf[16];
        size_t n = from_hex(cases[i].plain, buf);
        CryptoSectors *c;

        g_assert_cmpuint(from_hex(cases[i].key, key), ==, spec.cipher->key_bytes);
        g_assert_cmpuint(n, ==, spec.cipher->block_bytes);
        c = make(&spec, key);
        g_assert_cmpint(crypto_sectors_encrypt(c, 99, buf, n), ==, 0);
        assert_hex(buf, cases[i].encrypted);
        g_assert_cmpint(crypto_sectors_decrypt(c, 12, buf, n), ==, 0);
        assert_hex(buf, cases[i].plain);
        crypto_sectors_free(c);
    }
}

/* IEEE 1619: vectors 4 (AES-128, unit 0) and 10 (AES-256, unit ff). */
static void test_xts(void)
{
    static const struct {
        const char *cipher, *key;
        uint64_t sector;
        const char *begin, *end;
    } cases[] = {
        {"aes-128", "2718281828459045235360287471352631415926535897932384626433832795", 0,
         "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c",
         "eb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568"},
        {"aes-256",
         "2718281828459045235360287471352662497757247093699959574966967627"
         "3141592653589793238462643383279502884197169399375105820974944592",
         0xff, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
         "773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CryptoSpec spec = make_spec(cases[i].cipher, CRYPTO_MODE_XTS, CRYPTO_IVGEN_PLAIN64, NULL);
        uint8_t key[CRYPTO_KEY_MAX], buf[CRYPTO_SECTOR_BYTES];
        CryptoSectors *c;

        from_hex(cases[i].key, key);
        for (size_t k = 0; k < sizeof(buf); k++) {
            buf[k] = (uint8_t)k;
        }
        c = make(&spec, key);
        g_assert_cmpint(crypto_sectors_encrypt(c, cases[i].sector, buf, sizeof(buf)), ==, 0);
        assert_hex(buf, cases[i].begin);
        assert_hex(buf + sizeof(buf) - 32, cases[i].end);
        crypto_sectors_free(c);
    }
}

/* CBC of one block is ECB of it xor the vector: so each generator shows what it makes. */
static void first_block(CryptoIvgen ivgen, uint64_t sector, const uint8_t *key, uint8_t *ret)
{
    CryptoSpec spec = make_spec("aes-128", CRYPTO_MODE_CBC, ivgen, "md5");
    CryptoSectors *c = make(&spec, key);

    memset(ret, 0, 16);
    g_assert_cmpint(crypto_sectors_encrypt(c, sector, ret, 16), ==, 0);
    crypto_sectors_free(c);
}

static void by_hand(const uint8_t *key, uint8_t *block)
{
    CryptoSpec spec = make_spec("aes-128", CRYPTO_MODE_ECB, CRYPTO_IVGEN_PLAIN, NULL);
    CryptoSectors *c = make(&spec, key);

    g_assert_cmpint(crypto_sectors_encrypt(c, 0, block, 16), ==, 0);
    crypto_sectors_free(c);
}

static void test_vectors(void)
{
    const uint64_t sector = UINT64_C(0x1122334455667788);
    uint8_t key[16], digest[16], got[16], expected[16];

    crypto_random(key, sizeof(key));

    memset(expected, 0, 16);
    stq_le_p(expected, sector);
    by_hand(key, expected);
    first_block(CRYPTO_IVGEN_PLAIN64, sector, key, got);
    g_assert_cmpmem(got, 16, expected, 16);

    memset(expected, 0, 16);
    stl_le_p(expected, (uint32_t)sector);
    by_hand(key, expected);
    first_block(CRYPTO_IVGEN_PLAIN, sector, key, got);
    g_assert_cmpmem(got, 16, expected, 16);

    memset(expected, 0, 16);
    stq_le_p(expected, sector);
    crypto_digest(crypto_hash_find("md5"), key, 16, digest);
    by_hand(digest, expected);
    by_hand(key, expected);
    first_block(CRYPTO_IVGEN_ESSIV, sector, key, got);
    g_assert_cmpmem(got, 16, expected, 16);
}

static void test_misfits(void)
{
    CryptoSpec spec = make_spec("cast5-128", CRYPTO_MODE_XTS, CRYPTO_IVGEN_PLAIN64, NULL);
    uint8_t key[CRYPTO_KEY_MAX] = {0};
    Error *err = NULL;

    g_assert_null(crypto_sectors_new(&spec, key, 32, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Cipher mode 'xts' needs a cipher with blocks of 16 bytes, not 'cast5-128'");
    error_free(err);
    err = NULL;
    spec = make_spec("aes-128", CRYPTO_MODE_CBC, CRYPTO_IVGEN_ESSIV, "sha1");
    g_assert_cmpint(crypto_spec_check(&spec, &err), ==, -ENOTSUP);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "IV generator 'essiv' cannot use hash 'sha1': 'aes' has no key of 20 bytes");
    error_free(err);
    err = NULL;
    spec.ivgen_hash = NULL;
    g_assert_cmpint(crypto_spec_check(&spec, &err), ==, -ENOTSUP);
    error_free(err);
}

/* Every combination that there is: what was encrypted comes back, and sectors differ. */
static void test_all_ways(void)
{
    static const char *const ciphers[] = {"aes-128",     "aes-192",     "aes-256",
                                          "cast5-128",   "serpent-128", "serpent-192",
                                          "serpent-256", "twofish-128", "twofish-256"};

    for (size_t i = 0; i < ARRAY_SIZE(ciphers) * CRYPTO_MODE__MAX * CRYPTO_IVGEN__MAX; i++) {
        size_t rest = i / ARRAY_SIZE(ciphers);
        CryptoSpec spec =
            make_spec(ciphers[i % ARRAY_SIZE(ciphers)], (CryptoMode)(rest % CRYPTO_MODE__MAX),
                      (CryptoIvgen)(rest / CRYPTO_MODE__MAX), "sha256");
        uint8_t key[CRYPTO_KEY_MAX], buf[4 * CRYPTO_SECTOR_BYTES], zeros[sizeof(buf)] = {0};
        CryptoSectors *c;

        if (crypto_spec_check(&spec, NULL) < 0) {
            continue;
        }
        crypto_random(key, sizeof(key));
        memset(buf, 0, sizeof(buf));
        c = make(&spec, key);
        g_assert_cmpint(crypto_sectors_encrypt(c, 7, buf, sizeof(buf)), ==, 0);
        g_assert_cmpint(memcmp(buf, buf + 512, 512) == 0, ==, spec.mode == CRYPTO_MODE_ECB);
        g_assert_cmpint(crypto_sectors_decrypt(c, 9, buf + 1024, 1024), ==, 0);
        g_assert_cmpint(crypto_sectors_decrypt(c, 7, buf, 1024), ==, 0);
        g_assert_cmpmem(buf, sizeof(buf), zeros, sizeof(buf));
        g_assert_cmpuint(crypto_sectors_bytes_within(c, 10), >=, CRYPTO_SECTOR_BYTES);
        crypto_sectors_free(c);
    }
}

typedef struct Worker {
    CryptoSectors *c;
    uint64_t sector;
    pthread_t thread;
} Worker;

static void *back_and_forth(void *opaque)
{
    Worker *w = opaque;
    uint8_t buf[8 * CRYPTO_SECTOR_BYTES], before[sizeof(buf)];

    for (int i = 0; i < 300; i++) {
        uint64_t sector = w->sector + (uint64_t)i * 8;

        memset(before, i, sizeof(before));
        memcpy(buf, before, sizeof(buf));
        g_assert_cmpint(crypto_sectors_encrypt(w->c, sector, buf, sizeof(buf)), ==, 0);
        g_assert_true(memcmp(buf, before, sizeof(buf)) != 0);
        g_assert_cmpint(crypto_sectors_decrypt(w->c, sector, buf, sizeof(buf)), ==, 0);
        g_assert_cmpmem(buf, sizeof(buf), before, sizeof(before));
    }
    return NULL;
}

static void test_threads(void)
{
    CryptoSpec spec = make_spec("aes-256", CRYPTO_MODE_CBC, CRYPTO_IVGEN_ESSIV, "sha256");
    uint8_t key[CRYPTO_KEY_MAX];
    Worker workers[12];

    crypto_random(key, sizeof(key));
    workers[0].c = make(&spec, key);
    for (size_t i = 0; i < ARRAY_SIZE(workers); i++) {
        workers[i].c = workers[0].c;
        workers[i].sector = i << 32;
        pthread_create(&workers[i].thread, NULL, back_and_forth, &workers[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(workers); i++) {
        pthread_join(workers[i].thread, NULL);
    }
    crypto_sectors_free(workers[0].c);
    crypto_sectors_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sectors/ciphers are those of the standards", test_ciphers);
    g_test_add_func("/sectors/XTS is that of IEEE 1619", test_xts);
    g_test_add_func("/sectors/a sector's number becomes its vector as it was chosen", test_vectors);
    g_test_add_func("/sectors/what does not fit is refused in words", test_misfits);
    g_test_add_func("/sectors/all ways lead back", test_all_ways);
    g_test_add_func("/sectors/threads do not disturb each other", test_threads);
    return g_test_run();
}
