/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sectors.c - a stock of cipher handles, and a sector's number as initialisation vector
 *
 *      thread ── take() ──▶ handle: setiv, crypt ... ── give_back() ──▶ stock, or closed where that is full
 *
 * A handle has a state (the vector), so that it is one thread's at a time.  ESSIV needs a second one: the number
 * is encrypted by the same cipher, with a hash of the key as its key.
 */
#include "crypto/sectors.h"

#include <errno.h>
#include <gcrypt.h>
#include <pthread.h>
#include <time.h>

#include "crypto/crypto-int.h"
#include "crypto/hash.h"
#include "util/keymem.h"
#include "util/osdep.h"

/* Handles that are kept: more threads than that on one disk are rare, and opening one is done in microseconds. */
#define STOCK_MAX     8
/* What is encrypted to find out how long it takes. */
#define MEASURE_BYTES (16 * KiB)

typedef struct Handle {
    gcry_cipher_hd_t data;
    gcry_cipher_hd_t essiv; /* NULL: another way */
} Handle;

struct CryptoSectors {
    /* Fixed. */
    CryptoSpec spec;
    const CryptoCipher *essiv_cipher;
    uint8_t *key; /* keymem */
    size_t key_bytes;

    /* Under lock. */
    pthread_mutex_t lock;
    Handle stock[STOCK_MAX];
    unsigned n_stock;
};

/* The cipher of ESSIV: the family's own with a key as long as the digest. */
static const CryptoCipher *essiv_cipher(const CryptoSpec *spec)
{
    return spec->ivgen_hash
               ? crypto_cipher_find_sized(spec->cipher->family, spec->ivgen_hash->bytes)
               : NULL;
}

int crypto_spec_check(const CryptoSpec *spec, Error **errp)
{
    if (spec->mode == CRYPTO_MODE_XTS && spec->cipher->block_bytes != CRYPTO_BLOCK_MAX) {
        error_setg(errp, "Cipher mode 'xts' needs a cipher with blocks of %d bytes, not '%s'",
                   CRYPTO_BLOCK_MAX, spec->cipher->name);
        return -ENOTSUP;
    }
    if (spec->ivgen != CRYPTO_IVGEN_ESSIV) {
        return 0;
    }
    if (!spec->ivgen_hash) {
        error_setg(errp, "IV generator 'essiv' needs a hash");
        return -ENOTSUP;
    }
    if (!essiv_cipher(spec)) {
        error_setg(errp, "IV generator 'essiv' cannot use hash '%s': '%s' has no key of %zu bytes",
                   spec->ivgen_hash->name, spec->cipher->family, spec->ivgen_hash->bytes);
        return -ENOTSUP;
    }
    return 0;
}

static int gcrypt_mode(CryptoMode mode)
{
    static const int modes[CRYPTO_MODE__MAX] = {
        [CRYPTO_MODE_ECB] = GCRY_CIPHER_MODE_ECB,
        [CRYPTO_MODE_CBC] = GCRY_CIPHER_MODE_CBC,
        [CRYPTO_MODE_XTS] = GCRY_CIPHER_MODE_XTS,
    };

    return modes[mode];
}

static gcry_cipher_hd_t open_cipher(const CryptoCipher *cipher, int mode, const uint8_t *key,
                                    size_t key_bytes)
{
    gcry_cipher_hd_t handle;

    if (gcry_cipher_open(&handle, cipher->gcrypt, mode, GCRY_CIPHER_SECURE) != 0) {
        return NULL;
    }
    if (gcry_cipher_setkey(handle, key, key_bytes) != 0) {
        gcry_cipher_close(handle);
        return NULL;
    }
    return handle;
}

/* It wipes what it has had; NULL is fine. */
static void handle_close(Handle *h)
{
    gcry_cipher_close(h->data);
    gcry_cipher_close(h->essiv);
}

static int handle_open(const CryptoSectors *c, Handle *ret)
{
    uint8_t digest[CRYPTO_DIGEST_MAX];

    *ret = (Handle){0};
    ret->data = open_cipher(c->spec.cipher, gcrypt_mode(c->spec.mode), c->key, c->key_bytes);
    if (ret->data && c->essiv_cipher) {
        crypto_digest(c->spec.ivgen_hash, c->key, c->key_bytes, digest);
        ret->essiv =
            open_cipher(c->essiv_cipher, GCRY_CIPHER_MODE_ECB, digest, c->spec.ivgen_hash->bytes);
        keymem_wipe(digest, sizeof(digest));
    }
    if (!ret->data || (c->essiv_cipher && !ret->essiv)) {
        handle_close(ret);
        return -EIO;
    }
    return 0;
}

static int take(CryptoSectors *c, Handle *ret)
{
    bool found;

    pthread_mutex_lock(&c->lock);
    found = c->n_stock > 0;
    if (found) {
        *ret = c->stock[--c->n_stock];
    }
    pthread_mutex_unlock(&c->lock);
    return found ? 0 : handle_open(c, ret);
}

static void give_back(CryptoSectors *c, Handle *h)
{
    bool kept;

    pthread_mutex_lock(&c->lock);
    kept = c->n_stock < STOCK_MAX;
    if (kept) {
        c->stock[c->n_stock++] = *h;
    }
    pthread_mutex_unlock(&c->lock);
    if (!kept) {
        handle_close(h);
    }
}

CryptoSectors *crypto_sectors_new(const CryptoSpec *spec, const uint8_t *key, size_t key_bytes,
                                  Error **errp)
{
    CryptoSectors *c;
    Handle h;

    if (crypto_spec_check(spec, errp) < 0) {
        return NULL;
    }
    assert(key_bytes == crypto_key_bytes(spec->cipher, spec->mode));
    crypto_init();
    c = g_new0(CryptoSectors, 1);
    c->spec = *spec;
    c->essiv_cipher = spec->ivgen == CRYPTO_IVGEN_ESSIV ? essiv_cipher(spec) : NULL;
    c->key = keymem_new(key_bytes);
    c->key_bytes = key_bytes;
    memcpy(c->key, key, key_bytes);
    pthread_mutex_init(&c->lock, NULL);
    if (take(c, &h) < 0) {
        error_setg(errp, "Cipher '%s' in mode '%s' is not available", spec->cipher->name,
                   crypto_mode_name(spec->mode));
        crypto_sectors_free(c);
        return NULL;
    }
    give_back(c, &h);
    return c;
}

void crypto_sectors_free(CryptoSectors *c)
{
    if (!c) {
        return;
    }
    for (unsigned i = 0; i < c->n_stock; i++) {
        handle_close(&c->stock[i]);
    }
    pthread_mutex_destroy(&c->lock);
    keymem_free(c->key, c->key_bytes);
    g_free(c);
}

static int set_iv(const CryptoSectors *c, const Handle *h, uint64_t sector)
{
    uint8_t iv[CRYPTO_BLOCK_MAX] = {0};
    size_t bytes = c->spec.cipher->block_bytes;

    if (c->spec.mode == CRYPTO_MODE_ECB) {
        return 0;
    }
    stq_le_p(iv, c->spec.ivgen == CRYPTO_IVGEN_PLAIN ? (uint32_t)sector : sector);
    if (h->essiv && gcry_cipher_encrypt(h->essiv, iv, bytes, NULL, 0) != 0) {
        return -EIO;
    }
    return gcry_cipher_setiv(h->data, iv, bytes) == 0 ? 0 : -EIO;
}

typedef gcry_error_t CryptFunc(gcry_cipher_hd_t h, void *out, size_t out_bytes, const void *in,
                               size_t in_bytes);

static int crypt_sectors(CryptoSectors *c, CryptFunc *func, uint64_t sector, uint8_t *buf,
                         size_t bytes)
{
    Handle h;
    int ret;

    assert(bytes % c->spec.cipher->block_bytes == 0);
    ret = take(c, &h);
    if (ret < 0) {
        return ret;
    }
    for (size_t at = 0, n; ret == 0 && at < bytes; at += n, sector++) {
        n = MIN(bytes - at, (size_t)CRYPTO_SECTOR_BYTES);
        ret = set_iv(c, &h, sector);
        if (ret == 0 && func(h.data, buf + at, n, NULL, 0) != 0) {
            ret = -EIO;
        }
    }
    give_back(c, &h);
    return ret;
}

int crypto_sectors_encrypt(CryptoSectors *c, uint64_t sector, void *buf, size_t bytes)
{
    return crypt_sectors(c, gcry_cipher_encrypt, sector, buf, bytes);
}

int crypto_sectors_decrypt(CryptoSectors *c, uint64_t sector, void *buf, size_t bytes)
{
    return crypt_sectors(c, gcry_cipher_decrypt, sector, buf, bytes);
}

size_t crypto_sectors_bytes_within(CryptoSectors *c, unsigned us)
{
    g_autofree uint8_t *buf = g_malloc0(MEASURE_BYTES);
    struct timespec a, b;
    double ns;

    crypto_sectors_encrypt(c, 0, buf, MEASURE_BYTES); /* caches, and clocks that go up */
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    crypto_sectors_encrypt(c, 0, buf, MEASURE_BYTES);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    ns = (double)(b.tv_sec - a.tv_sec) * NANOSECONDS_PER_SECOND + (double)(b.tv_nsec - a.tv_nsec);
    return MAX((size_t)((double)MEASURE_BYTES * us * SCALE_US / MAX(ns, 1.0)),
               (size_t)CRYPTO_SECTOR_BYTES);
}
