/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pbkdf.c - PBKDF2, which can be stopped
 *
 *      block i of the key:  U1 = HMAC(password, salt | i)   U2 = HMAC(password, U1)   ...   U1 ^ U2 ^ ...
 *
 * The HMAC is libgcrypt's.  The loop around it is here because the library's own cannot be told to end, and an
 * image can ask for hours of it.
 */
#include <errno.h>
#include <gcrypt.h>
#include <string.h>
#include <time.h>

#include "crypto/crypto-int.h"
#include "crypto/hash.h"
#include "util/keymem.h"
#include "util/osdep.h"

/* Between two looks at the flag: about a millisecond. */
#define ITERATIONS_A_LOOK 4096

static bool is_cancelled(const bool *cancelled)
{
    return cancelled && __atomic_load_n(cancelled, __ATOMIC_RELAXED);
}

/* sum ^= HMAC(u), u = HMAC(u), @n times */
static void iterate(gcry_md_hd_t hmac, size_t bytes, uint32_t n, uint8_t *u, uint8_t *sum)
{
    for (uint32_t i = 0; i < n; i++) {
        gcry_md_reset(hmac);
        gcry_md_write(hmac, u, bytes);
        memcpy(u, gcry_md_read(hmac, 0), bytes);
        for (size_t k = 0; k < bytes; k++) {
            sum[k] ^= u[k];
        }
    }
}

static int make_block(gcry_md_hd_t hmac, size_t bytes, const uint8_t *salt, size_t salt_bytes,
                      uint32_t number, uint32_t iterations, uint8_t *ret_sum, const bool *cancelled)
{
    uint8_t index[4], u[CRYPTO_DIGEST_MAX];
    int ret = 0;

    stl_be_p(index, number);
    gcry_md_reset(hmac);
    gcry_md_write(hmac, salt, salt_bytes);
    gcry_md_write(hmac, index, sizeof(index));
    memcpy(u, gcry_md_read(hmac, 0), bytes);
    memcpy(ret_sum, u, bytes);
    for (uint32_t left = iterations - 1, n; left > 0 && ret == 0; left -= n) {
        n = MIN(left, (uint32_t)ITERATIONS_A_LOOK);
        iterate(hmac, bytes, n, u, ret_sum);
        ret = is_cancelled(cancelled) ? -ECANCELED : 0;
    }
    keymem_wipe(u, sizeof(u));
    return ret;
}

int crypto_pbkdf2(const CryptoHash *hash, const void *password, size_t password_bytes,
                  const uint8_t *salt, size_t salt_bytes, uint32_t iterations, uint8_t *ret_key,
                  size_t key_bytes, const bool *cancelled)
{
    uint8_t sum[CRYPTO_DIGEST_MAX];
    gcry_md_hd_t hmac;
    int ret = is_cancelled(cancelled) ? -ECANCELED : 0;

    assert(iterations > 0);
    crypto_init();
    if (gcry_md_open(&hmac, hash->gcrypt, GCRY_MD_FLAG_HMAC | GCRY_MD_FLAG_SECURE) != 0) {
        return -EINVAL;
    }
    if (gcry_md_setkey(hmac, password, password_bytes) != 0) {
        ret = -EINVAL;
    }
    for (size_t at = 0, n; ret == 0 && at < key_bytes; at += n) {
        n = MIN(key_bytes - at, hash->bytes);
        ret = make_block(hmac, hash->bytes, salt, salt_bytes, (uint32_t)(at / hash->bytes) + 1,
                         iterations, sum, cancelled);
        memcpy(ret_key + at, sum, n);
    }
    gcry_md_close(hmac);
    keymem_wipe(sum, sizeof(sum));
    if (ret < 0) {
        keymem_wipe(ret_key, key_bytes);
    }
    return ret;
}

static uint64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NANOSECONDS_PER_SECOND + (uint64_t)t.tv_nsec;
}

uint32_t crypto_pbkdf2_iterations(const CryptoHash *hash, size_t key_bytes, uint64_t time_ms)
{
    static const uint8_t salt[32] = "salt";
    g_autofree uint8_t *key = g_malloc(key_bytes);
    uint32_t n = ITERATIONS_A_LOOK;
    uint64_t ns = 0;
    double wanted;

    for (; n < UINT32_MAX / 2; n *= 2) {
        uint64_t start = thread_ns();

        if (crypto_pbkdf2(hash, "password", 8, salt, sizeof(salt), n, key, key_bytes, NULL) < 0) {
            return 1;
        }
        ns = thread_ns() - start;
        if (ns >= (uint64_t)CRYPTO_PBKDF2_MEASURE_MS * SCALE_MS) {
            break;
        }
    }
    wanted = (double)n * (double)time_ms * SCALE_MS / (double)MAX(ns, (uint64_t)1);
    return wanted < 1 ? 1 : wanted > UINT32_MAX ? UINT32_MAX : (uint32_t)wanted;
}
