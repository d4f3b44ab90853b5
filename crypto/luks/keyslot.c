/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keyslot.c - a disk's key into a slot, and out of one
 *
 *      passphrase ─PBKDF2─▶ slot key ─┐
 *      disk's key ──split──▶ stripes ─┴─encrypt─▶ material, in the file
 *          └──────PBKDF2────▶ digest, in the header
 *
 * Whatever is secret on the way is in memory that is wiped.
 */
#include <errno.h>
#include <string.h>

#include "crypto/hash.h"
#include "crypto/luks.h"
#include "crypto/sectors.h"
#include "util/keymem.h"
#include "util/osdep.h"

/* The digest takes this part of a slot's time, as with other programs: it is asked for once per slot. */
#define DIGEST_TIME_PART 8

static int make_digest(const LuksHeader *h, const uint8_t *key, uint8_t *ret_digest,
                       const bool *cancelled)
{
    return crypto_pbkdf2(h->hash, key, h->key_bytes, h->digest_salt, LUKS_SALT_BYTES,
                         h->digest_iterations, ret_digest, LUKS_DIGEST_BYTES, cancelled);
}

int luks_digest_init(LuksHeader *h, const uint8_t *key, uint64_t time_ms, const bool *cancelled)
{
    uint32_t n = crypto_pbkdf2_iterations(h->hash, LUKS_DIGEST_BYTES, time_ms);

    h->digest_iterations = MAX(n / DIGEST_TIME_PART, (uint32_t)LUKS_ITERATIONS_MIN);
    crypto_random(h->digest_salt, LUKS_SALT_BYTES);
    return make_digest(h, key, h->digest, cancelled);
}

/* What encrypts a slot's material: the disk's way, with a key made of the passphrase. */
static int slot_cipher(const LuksHeader *h, unsigned slot, const void *password,
                       size_t password_bytes, const bool *cancelled, CryptoSectors **ret)
{
    const LuksSlot *s = &h->slots[slot];
    uint8_t *key = keymem_new(h->key_bytes);
    int r = crypto_pbkdf2(h->hash, password, password_bytes, s->salt, LUKS_SALT_BYTES,
                          s->iterations, key, h->key_bytes, cancelled);

    if (r == 0) {
        *ret = crypto_sectors_new(&h->spec, key, h->key_bytes, NULL);
        r = *ret ? 0 : -EINVAL;
    }
    keymem_free(key, h->key_bytes);
    return r;
}

/* Not telling by its time how much of them is the same. */
static bool is_same(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint8_t differences = 0;

    for (size_t i = 0; i < bytes; i++) {
        differences |= a[i] ^ b[i];
    }
    return differences == 0;
}

int luks_slot_open(const LuksHeader *h, unsigned slot, const void *password, size_t password_bytes,
                   uint8_t *material, uint8_t *ret_key, const bool *cancelled)
{
    uint8_t digest[LUKS_DIGEST_BYTES];
    CryptoSectors *cipher = NULL;
    int ret = slot_cipher(h, slot, password, password_bytes, cancelled, &cipher);

    if (ret == 0) {
        ret = crypto_sectors_decrypt(cipher, 0, material, luks_material_bytes(h));
    }
    if (ret == 0) {
        crypto_af_merge(h->hash, material, h->key_bytes, LUKS_STRIPES, ret_key);
        ret = make_digest(h, ret_key, digest, cancelled);
    }
    if (ret == 0 && !is_same(digest, h->digest, LUKS_DIGEST_BYTES)) {
        ret = -EACCES;
    }
    if (ret < 0) {
        keymem_wipe(ret_key, h->key_bytes);
    }
    crypto_sectors_free(cipher);
    keymem_wipe(material, luks_material_bytes(h));
    return ret;
}

int luks_slot_make(LuksHeader *h, unsigned slot, const void *password, size_t password_bytes,
                   const uint8_t *key, uint64_t time_ms, uint8_t *ret_material,
                   const bool *cancelled)
{
    LuksSlot *s = &h->slots[slot];
    uint32_t n = crypto_pbkdf2_iterations(h->hash, h->key_bytes, time_ms);
    CryptoSectors *cipher = NULL;
    int ret;

    s->iterations = MAX(n, (uint32_t)LUKS_ITERATIONS_MIN);
    crypto_random(s->salt, LUKS_SALT_BYTES);
    ret = slot_cipher(h, slot, password, password_bytes, cancelled, &cipher);
    if (ret == 0) {
        crypto_af_split(h->hash, key, h->key_bytes, LUKS_STRIPES, ret_material);
        ret = crypto_sectors_encrypt(cipher, 0, ret_material, luks_material_bytes(h));
    }
    crypto_sectors_free(cipher);
    s->active = ret == 0;
    if (ret < 0) {
        keymem_wipe(ret_material, luks_material_bytes(h));
    }
    return ret;
}

void luks_slot_clear(LuksHeader *h, unsigned slot)
{
    LuksSlot *s = &h->slots[slot];

    s->active = false;
    s->iterations = 0;
    memset(s->salt, 0, LUKS_SALT_BYTES);
}
