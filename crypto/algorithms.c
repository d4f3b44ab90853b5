/* SPDX-License-Identifier: GPL-2.0-or-later */
/* algorithms.c - the tables of algorithms, and the library that has them */
#include "crypto/algorithms.h"

#include <gcrypt.h>
#include <pthread.h>
#include <string.h>

#include "crypto/crypto-int.h"
#include "util/osdep.h"

/*
 * Locked memory for key schedules: enough for a few disks' handles.  libgcrypt adds as much again when it is
 * used up; what the system does not allow to lock is wiped all the same.
 */
#define SECURE_MEMORY_BYTES (64 * KiB)

static const CryptoHash hashes[] = {
    {"md5", 16, GCRY_MD_MD5},          {"sha1", 20, GCRY_MD_SHA1},
    {"sha224", 28, GCRY_MD_SHA224},    {"sha256", 32, GCRY_MD_SHA256},
    {"sha384", 48, GCRY_MD_SHA384},    {"sha512", 64, GCRY_MD_SHA512},
    {"ripemd160", 20, GCRY_MD_RMD160}, {"sm3", 32, GCRY_MD_SM3},
};

static const CryptoCipher ciphers[] = {
    {"aes-128", "aes", 16, 16, GCRY_CIPHER_AES128},
    {"aes-192", "aes", 24, 16, GCRY_CIPHER_AES192},
    {"aes-256", "aes", 32, 16, GCRY_CIPHER_AES256},
    {"cast5-128", "cast5", 16, 8, GCRY_CIPHER_CAST5},
    {"serpent-128", "serpent", 16, 16, GCRY_CIPHER_SERPENT128},
    {"serpent-192", "serpent", 24, 16, GCRY_CIPHER_SERPENT192},
    {"serpent-256", "serpent", 32, 16, GCRY_CIPHER_SERPENT256},
    {"twofish-128", "twofish", 16, 16, GCRY_CIPHER_TWOFISH128},
    {"twofish-256", "twofish", 32, 16, GCRY_CIPHER_TWOFISH},
};

static const char *const mode_names[CRYPTO_MODE__MAX] = {
    [CRYPTO_MODE_ECB] = "ecb",
    [CRYPTO_MODE_CBC] = "cbc",
    [CRYPTO_MODE_XTS] = "xts",
};

static const char *const ivgen_names[CRYPTO_IVGEN__MAX] = {
    [CRYPTO_IVGEN_PLAIN] = "plain",
    [CRYPTO_IVGEN_PLAIN64] = "plain64",
    [CRYPTO_IVGEN_ESSIV] = "essiv",
};

static void init_once(void)
{
    /* The one thing that the library checks for us: that it is the one that we were compiled for. */
    if (!gcry_check_version(GCRYPT_VERSION)) {
        g_error("libgcrypt is older than " GCRYPT_VERSION);
    }
    /* It would say on stderr that memory could not be locked. */
    gcry_control(GCRYCTL_SUSPEND_SECMEM_WARN);
    gcry_control(GCRYCTL_AUTO_EXPAND_SECMEM, (unsigned)SECURE_MEMORY_BYTES);
    gcry_control(GCRYCTL_INIT_SECMEM, (int)SECURE_MEMORY_BYTES, 0);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

void crypto_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, init_once);
}

const CryptoHash *crypto_hash_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
        if (strcmp(hashes[i].name, name) == 0) {
            return &hashes[i];
        }
    }
    return NULL;
}

const CryptoCipher *crypto_cipher_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(ciphers); i++) {
        if (strcmp(ciphers[i].name, name) == 0) {
            return &ciphers[i];
        }
    }
    return NULL;
}

const CryptoCipher *crypto_cipher_find_sized(const char *family, size_t key_bytes)
{
    for (size_t i = 0; i < ARRAY_SIZE(ciphers); i++) {
        if (strcmp(ciphers[i].family, family) == 0 && ciphers[i].key_bytes == key_bytes) {
            return &ciphers[i];
        }
    }
    return NULL;
}

static int find_name(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

int crypto_mode_find(const char *name)
{
    return find_name(mode_names, CRYPTO_MODE__MAX, name);
}

int crypto_ivgen_find(const char *name)
{
    return find_name(ivgen_names, CRYPTO_IVGEN__MAX, name);
}

const char *crypto_mode_name(CryptoMode mode)
{
    return mode_names[mode];
}

const char *crypto_ivgen_name(CryptoIvgen ivgen)
{
    return ivgen_names[ivgen];
}

size_t crypto_key_bytes(const CryptoCipher *cipher, CryptoMode mode)
{
    return mode == CRYPTO_MODE_XTS ? 2 * cipher->key_bytes : cipher->key_bytes;
}
