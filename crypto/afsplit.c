/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * afsplit.c - the anti-forensic splitter of LUKS
 *
 *      d = 0                  d = H(d ^ s1)        d = H(d ^ s2)              ...
 *      s1, s2, ... random                                                     last stripe = d ^ key
 *
 * H goes over a stripe in pieces of a digest's length, each hashed with its number in front.
 */
#include <gcrypt.h>
#include <string.h>

#include "crypto/crypto-int.h"
#include "crypto/hash.h"
#include "util/keymem.h"
#include "util/osdep.h"

/* H */
static void diffuse(gcry_md_hd_t md, size_t digest_bytes, uint8_t *stripe, size_t bytes)
{
    uint8_t number[4];

    for (size_t at = 0, i = 0, n; at < bytes; at += n, i++) {
        n = MIN(bytes - at, digest_bytes);
        stl_be_p(number, (uint32_t)i);
        gcry_md_reset(md);
        gcry_md_write(md, number, sizeof(number));
        gcry_md_write(md, stripe + at, n);
        memcpy(stripe + at, gcry_md_read(md, 0), n);
    }
}

static void xor_into(uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] ^= from[i];
    }
}

/* d after all stripes of @split but the last. */
static void sum_up(const CryptoHash *hash, const uint8_t *split, size_t key_bytes, uint32_t stripes,
                   uint8_t *ret_d)
{
    gcry_md_hd_t md;

    crypto_init();
    if (gcry_md_open(&md, hash->gcrypt, GCRY_MD_FLAG_SECURE) != 0) {
        g_error("libgcrypt has lost the hash '%s'", hash->name);
    }
    memset(ret_d, 0, key_bytes);
    for (uint32_t i = 0; i + 1 < stripes; i++) {
        xor_into(ret_d, split + i * key_bytes, key_bytes);
        diffuse(md, hash->bytes, ret_d, key_bytes);
    }
    gcry_md_close(md);
}

void crypto_af_split(const CryptoHash *hash, const uint8_t *key, size_t key_bytes, uint32_t stripes,
                     uint8_t *ret_split)
{
    uint8_t *last = ret_split + (stripes - 1) * key_bytes;

    assert(stripes > 0);
    crypto_random(ret_split, (stripes - 1) * key_bytes);
    sum_up(hash, ret_split, key_bytes, stripes, last);
    xor_into(last, key, key_bytes);
}

void crypto_af_merge(const CryptoHash *hash, const uint8_t *split, size_t key_bytes,
                     uint32_t stripes, uint8_t *ret_key)
{
    assert(stripes > 0);
    sum_up(hash, split, key_bytes, stripes, ret_key);
    xor_into(ret_key, split + (stripes - 1) * key_bytes, key_bytes);
}
