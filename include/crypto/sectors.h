/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sectors.h - the sectors of a disk, encrypted and decrypted where they are in memory
 *
 * A sector has 512 bytes here, as in LUKS and in dm-crypt, and its number is its initialisation vector.  Any
 * number of threads may use one CryptoSectors at once: each call takes a cipher handle of its own from a stock.
 */
#ifndef CRYPTO_SECTORS_H
#define CRYPTO_SECTORS_H

#include <stdint.h>
#include "crypto/algorithms.h"
#include "util/error.h"

#define CRYPTO_SECTOR_BYTES 512

typedef struct CryptoSectors CryptoSectors;

/**
 * crypto_spec_check() - whether the parts of @spec fit each other
 *
 * Return: 0; -ENOTSUP with @errp, which says which does not.
 */
int crypto_spec_check(const CryptoSpec *spec, Error **errp);

/**
 * crypto_sectors_new() - for a disk with the key @key
 * @spec:      copied
 * @key:       copied, to memory that is locked and wiped
 * @key_bytes: crypto_key_bytes()
 *
 * Return: to be freed by crypto_sectors_free(); NULL with @errp.
 */
CryptoSectors *crypto_sectors_new(const CryptoSpec *spec, const uint8_t *key, size_t key_bytes,
                                  Error **errp);
/* Nobody uses it any more.  NULL is fine. */
void crypto_sectors_free(CryptoSectors *c);

/**
 * crypto_sectors_encrypt(), crypto_sectors_decrypt() - @bytes at @buf, in place
 * @sector: number of the first
 * @bytes:  a multiple of CRYPTO_SECTOR_BYTES, or, where the last sector is cut short, of the cipher's blocks
 *
 * Context: any thread; does not block, but takes time in proportion to @bytes.
 *
 * Return: 0; -EIO, and what is in @buf is of no use.
 */
int crypto_sectors_encrypt(CryptoSectors *c, uint64_t sector, void *buf, size_t bytes);
int crypto_sectors_decrypt(CryptoSectors *c, uint64_t sector, void *buf, size_t bytes);

/* About how many bytes are encrypted within @us microseconds, by measuring for a moment; at least one sector. */
size_t crypto_sectors_bytes_within(CryptoSectors *c, unsigned us);

#endif
