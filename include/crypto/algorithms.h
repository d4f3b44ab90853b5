/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * algorithms.h - the ciphers, modes, hashes and ways to number sectors that disks are encrypted with
 *
 * libgcrypt does the work: of the libraries that Debian keeps well it is the one with all ciphers and hashes
 * that LUKS images are made with (Serpent, Twofish, CAST5, RIPEMD-160), XTS with the processor's instructions, and
 * memory for key schedules that is locked.  Tables here give its algorithms the names that QMP and the LUKS header
 * have for them.  What stands in the tables is there for ever, and may be compared by address.
 */
#ifndef CRYPTO_ALGORITHMS_H
#define CRYPTO_ALGORITHMS_H

#include <stddef.h>

/* The longest digest, SHA-512's. */
#define CRYPTO_DIGEST_MAX 64
/* The longest key, of two 256-bit keys for XTS. */
#define CRYPTO_KEY_MAX    64
/* The largest block of a cipher. */
#define CRYPTO_BLOCK_MAX  16

typedef struct CryptoHash {
    const char *name; /* "sha256" */
    size_t bytes;     /* of a digest */
    int gcrypt;
} CryptoHash;

typedef struct CryptoCipher {
    const char *name;   /* "aes-256" */
    const char *family; /* "aes", as in a LUKS header */
    size_t key_bytes;
    size_t block_bytes;
    int gcrypt;
} CryptoCipher;

typedef enum CryptoMode {
    CRYPTO_MODE_ECB,
    CRYPTO_MODE_CBC,
    CRYPTO_MODE_XTS, /* takes two keys of the cipher, one behind the other */
    CRYPTO_MODE__MAX,
} CryptoMode;

/* How the number of a sector becomes its initialisation vector. */
typedef enum CryptoIvgen {
    CRYPTO_IVGEN_PLAIN,   /* its lower 32 bits */
    CRYPTO_IVGEN_PLAIN64, /* as it is */
    CRYPTO_IVGEN_ESSIV,   /* encrypted by a hash of the key */
    CRYPTO_IVGEN__MAX,
} CryptoIvgen;

/* How the sectors of a disk are encrypted. */
typedef struct CryptoSpec {
    const CryptoCipher *cipher;
    CryptoMode mode;
    CryptoIvgen ivgen;
    const CryptoHash *ivgen_hash; /* NULL: none was named */
} CryptoSpec;

/* By name; NULL: there is none. */
const CryptoHash *crypto_hash_find(const char *name);
const CryptoCipher *crypto_cipher_find(const char *name);
/* By family and length of its key. */
const CryptoCipher *crypto_cipher_find_sized(const char *family, size_t key_bytes);
/* Negative: there is none. */
int crypto_mode_find(const char *name);
int crypto_ivgen_find(const char *name);
const char *crypto_mode_name(CryptoMode mode);
const char *crypto_ivgen_name(CryptoIvgen ivgen);

/* Bytes of the key that @mode wants for @cipher. */
size_t crypto_key_bytes(const CryptoCipher *cipher, CryptoMode mode);

#endif
