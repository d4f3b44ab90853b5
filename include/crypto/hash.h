/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hash.h - digests, keys from passphrases, keys spread out, random bytes
 *
 * Any thread.  What takes long (crypto_pbkdf2()) is for a worker thread, and looks now and then at a flag that
 * tells it to end: how long it takes is said by an image that somebody else may have made.
 */
#ifndef CRYPTO_HASH_H
#define CRYPTO_HASH_H

#include <stdbool.h>
#include <stdint.h>
#include "crypto/algorithms.h"

/* The digest of @data, @hash->bytes. */
void crypto_digest(const CryptoHash *hash, const void *data, size_t bytes, uint8_t *ret_digest);

/* Of the system's generator; aborts where there is none. */
void crypto_random(void *buf, size_t bytes);

/**
 * crypto_pbkdf2() - a key from a passphrase (RFC 8018, with HMAC of @hash)
 * @iterations: at least 1
 * @cancelled:  atomic; set by whoever does not want the key any more.  May be NULL.
 *
 * Return: 0; -ECANCELED; -EINVAL, the library refuses.  On failure the key is wiped.
 */
int crypto_pbkdf2(const CryptoHash *hash, const void *password, size_t password_bytes,
                  const uint8_t *salt, size_t salt_bytes, uint32_t iterations, uint8_t *ret_key,
                  size_t key_bytes, const bool *cancelled);

/**
 * crypto_pbkdf2_iterations() - how many iterations take this processor @time_ms for a key of @key_bytes
 *
 * By measuring, for CRYPTO_PBKDF2_MEASURE_MS or a bit more.  At least 1, at most UINT32_MAX.
 */
#define CRYPTO_PBKDF2_MEASURE_MS 20
uint32_t crypto_pbkdf2_iterations(const CryptoHash *hash, size_t key_bytes, uint64_t time_ms);

/*
 * The anti-forensic splitter of LUKS: a key becomes @stripes times as long, and cannot be had back where a small
 * part of that is lost.  @split is @key_bytes * @stripes.
 */
void crypto_af_split(const CryptoHash *hash, const uint8_t *key, size_t key_bytes, uint32_t stripes,
                     uint8_t *ret_split);
void crypto_af_merge(const CryptoHash *hash, const uint8_t *split, size_t key_bytes,
                     uint32_t stripes, uint8_t *ret_key);

#endif
