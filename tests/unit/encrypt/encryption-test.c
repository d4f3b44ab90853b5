/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The face for drivers: a header by callbacks anywhere, the names of QMP, the old encryption of qcow2. */
#include <errno.h>
#include <string.h>

#include "block/encrypt/encryption.h"
#include "crypto/hash.h"
#include "crypto/luks.h"
#include "crypto/sectors.h"
#include "object/secret.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

/* A file in memory, of which the header is a part. */
typedef struct Part {
    uint8_t *mem;
    int64_t offset, bytes;
    unsigned flushes;
} Part;

static int coroutine_fn part_read(void *opaque, int64_t offset, void *buf, size_t bytes)
{
    Part *p = opaque;

    if (offset + (int64_t)bytes > p->bytes) {
        return -EIO;
    }
    memcpy(buf, p->mem + p->offset + offset, bytes);
    return 0;
}

static int coroutine_fn part_write(void *opaque, int64_t offset, const void *buf, size_t bytes)
{
    Part *p = opaque;

    if (offset + (int64_t)bytes > p->bytes) {
        return -ENOSPC;
    }
    memcpy(p->mem + p->offset + offset, buf, bytes);
    return 0;
}

static int coroutine_fn part_flush(void *opaque)
{
    Part *p = opaque;

    p->flushes++;
    return 0;
}

static EncryptionFile part_file(Part *p)
{
    return (EncryptionFile){part_read, part_write, part_flush, p};
}

static void add_secret(void)
{
    if (!object_lookup("s")) {
        secret_register("s", secret_new((const uint8_t *)"hunter0", 7), &error_abort);
    }
}

/* All that QMP names is there, and all that is there has a name. */
static void coroutine_fn test_names(void)
{
    for (int i = 0; i < QCRYPTO_CIPHER_ALGO__MAX; i++) {
        g_assert_nonnull(crypto_cipher_find(QCryptoCipherAlgo_str((QCryptoCipherAlgo)i)));
    }
    for (int i = 0; i < QCRYPTO_HASH_ALGO__MAX; i++) {
        g_assert_nonnull(crypto_hash_find(QCryptoHashAlgo_str((QCryptoHashAlgo)i)));
    }
    g_assert_cmpint(QCRYPTO_CIPHER_MODE__MAX, ==, CRYPTO_MODE__MAX);
    for (int i = 0; i < QCRYPTO_CIPHER_MODE__MAX; i++) {
        g_assert_cmpint(crypto_mode_find(QCryptoCipherMode_str((QCryptoCipherMode)i)), >=, 0);
    }
    g_assert_cmpint(QCRYPTO_IV_GEN_ALGO__MAX, ==, CRYPTO_IVGEN__MAX);
    for (int i = 0; i < QCRYPTO_IV_GEN_ALGO__MAX; i++) {
        g_assert_cmpint(crypto_ivgen_find(QCryptoIVGenAlgo_str((QCryptoIVGenAlgo)i)), >=, 0);
    }
}

/* Each cipher and hash: made, opened, described, at an offset in a file that is not touched elsewhere. */
static void coroutine_fn test_anywhere(void)
{
    add_secret();
    for (int i = 0; i < QCRYPTO_CIPHER_ALGO__MAX; i++) {
        QCryptoBlockCreateOptionsLUKS o = {
            .key_secret = (char *)"s",
            .has_cipher_alg = true,
            .cipher_alg = (QCryptoCipherAlgo)i,
            .has_cipher_mode = true,
            .cipher_mode = QCRYPTO_CIPHER_MODE_CBC,
            .has_hash_alg = true,
            .hash_alg = (QCryptoHashAlgo)(i % QCRYPTO_HASH_ALGO__MAX),
            .has_iter_time = true,
        };
        EncryptionCreateArgs create = {.opts = &o, .prefix = "encrypt."};
        EncryptionOpenArgs open = {.key_secret = "s", .prefix = "encrypt."};
        int64_t bytes = encryption_luks_header_bytes(&o, "encrypt.", &error_abort);
        Part part = {.mem = g_malloc0(bytes + 2000), .offset = 1000, .bytes = bytes};
        EncryptionFile file = part_file(&part);
        BlockEncryption *e;
        QCryptoBlockInfoLUKS *info;
        uint8_t buf[1024] = "text";

        g_assert_cmpint(encryption_co_create_luks(&file, &create, &error_abort), ==, 0);
        g_assert_cmpuint(part.flushes, >=, 2);
        g_assert_true(buffer_is_zero(part.mem, 1000));
        g_assert_true(buffer_is_zero(part.mem + 1000 + bytes, 1000));
        e = encryption_co_open_luks(&file, &open, &error_abort);
        g_assert_cmpint(encryption_payload_offset(e), ==, bytes);
        info = encryption_luks_info(e);
        g_assert_cmpint(info->cipher_alg, ==, o.cipher_alg);
        g_assert_cmpint(info->hash_alg, ==, o.hash_alg);
        qapi_free_QCryptoBlockInfoLUKS(info);
        g_assert_cmpint(encryption_co_encrypt(e, 4096, buf, sizeof(buf)), ==, 0);
        g_assert_cmpint(strcmp((char *)buf, "text"), !=, 0);
        g_assert_cmpint(encryption_decrypt(e, 4096, buf, sizeof(buf)), ==, 0);
        g_assert_cmpstr((char *)buf, ==, "text");
        encryption_free(e);
        g_free(part.mem);
    }
}

static void coroutine_fn test_refusals(void)
{
    QCryptoBlockCreateOptionsLUKS o = {0};
    EncryptionCreateArgs create = {.opts = &o, .prefix = "encrypt."};
    EncryptionOpenArgs open = {.prefix = "encrypt."};
    Part part = {.mem = g_malloc0(3 * MiB), .bytes = 3 * MiB};
    EncryptionFile file = part_file(&part);
    BlockEncryption *e;
    Error *err = NULL;
    uint8_t buf[512];

    add_secret();
    g_assert_cmpint(encryption_co_create_luks(&file, &create, &err), <, 0);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Parameter 'encrypt.key-secret' is required for cipher");
    error_free(err);
    err = NULL;
    g_assert_null(encryption_co_open_luks(&file, &open, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Parameter 'encrypt.key-secret' is required for cipher");
    error_free(err);
    err = NULL;
    o.key_secret = (char *)"s";
    o.has_iter_time = true;
    g_assert_cmpint(encryption_co_create_luks(&file, &create, &error_abort), ==, 0);
    open.no_key = true;
    e = encryption_co_open_luks(&file, &open, &error_abort);
    g_assert_cmpint(encryption_encrypt(e, 0, buf, sizeof(buf)), ==, -EACCES);
    g_assert_cmpint(encryption_co_decrypt(e, 0, buf, sizeof(buf)), ==, -EACCES);
    encryption_free(e);
    part.bytes = 4096;
    open = (EncryptionOpenArgs){.key_secret = "s", .prefix = "encrypt."};
    g_assert_null(encryption_co_open_luks(&file, &open, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Could not read key slot 0: Input/output error");
    error_free(err);
    g_free(part.mem);
}

/* The passphrase, cut or filled up to 16 bytes, is the key. */
static void coroutine_fn test_aes(void)
{
    const CryptoSpec spec = {.cipher = crypto_cipher_find("aes-128"),
                             .mode = CRYPTO_MODE_CBC,
                             .ivgen = CRYPTO_IVGEN_PLAIN64};
    EncryptionOpenArgs open = {.key_secret = "s", .prefix = "encrypt."};
    uint8_t key[16] = "hunter0", *a = g_malloc0(1 * MiB), *b = g_malloc0(1 * MiB);
    CryptoSectors *sectors = crypto_sectors_new(&spec, key, sizeof(key), &error_abort);
    BlockEncryption *e;

    add_secret();
    e = encryption_open_aes(&open, &error_abort);
    g_assert_cmpint(encryption_payload_offset(e), ==, 0);
    g_assert_cmpint(encryption_co_encrypt(e, 7 * 512, a, 1 * MiB), ==, 0); /* in a worker */
    g_assert_cmpint(crypto_sectors_encrypt(sectors, 7, b, 1 * MiB), ==, 0);
    g_assert_cmpmem(a, 1 * MiB, b, 1 * MiB);
    g_assert_cmpint(encryption_co_decrypt(e, 7 * 512, a, 1 * MiB), ==, 0);
    g_assert_true(buffer_is_zero(a, 1 * MiB));
    crypto_sectors_free(sectors);
    encryption_free(e);
    encryption_free(NULL);
    g_free(a);
    g_free(b);
}

static void add_tests(void)
{
    block_test_add("/encryption/QMP names just what there is", test_names);
    block_test_add("/encryption/a header may be anywhere in a file", test_anywhere);
    block_test_add("/encryption/what is missing is said by its option", test_refusals);
    block_test_add("/encryption/the old encryption of qcow2 has the passphrase as its key",
                   test_aes);
}

int main(int argc, char **argv)
{
    int status = block_test_main(argc, argv, add_tests);

    object_cleanup();
    return status;
}
