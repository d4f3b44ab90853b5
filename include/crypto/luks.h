/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks.h - the header of a LUKS volume, version 1, and what its key slots hold
 *
 *      sector 0            8 (4 KiB)                                 payload_sector
 *      | header: 592 bytes | slot 0 | slot 1 | ... | slot 7 |        | the disk, encrypted ...
 *
 * The disk's key is random.  A slot that is active has it split (crypto_af_split()) and encrypted with a key that
 * is made of one passphrase by PBKDF2; a digest in the header, by PBKDF2 too, says whether what came out is the key.
 *
 * Pure: bytes in, bytes out, no I/O.  What takes long is for a worker thread.  Nothing here trusts a header: what
 * luks_header_decode() lets through has its slots and its payload apart from each other, and only algorithms and
 * lengths that there are.  Iterations may be any number, because a strong key may need many; @cancelled ends them.
 */
#ifndef CRYPTO_LUKS_H
#define CRYPTO_LUKS_H

#include <stdbool.h>
#include <stdint.h>
#include "crypto/algorithms.h"
#include "util/error.h"

#define LUKS_HEADER_BYTES      592
#define LUKS_SLOTS             8
#define LUKS_SLOT_BYTES        48 /* of a slot's entry in the header */
#define LUKS_SLOT_OFFSET(slot) (208 + (slot)*LUKS_SLOT_BYTES)
#define LUKS_SECTOR_BYTES      512
/* The number that the specification names, which programs insist on. */
#define LUKS_STRIPES           4000
#define LUKS_SALT_BYTES        32
#define LUKS_DIGEST_BYTES      20
#define LUKS_UUID_BYTES        40
/* The fewest that the specification allows for a new key. */
#define LUKS_ITERATIONS_MIN    1000

typedef struct LuksSlot {
    bool active;
    uint32_t iterations;
    uint8_t salt[LUKS_SALT_BYTES];
    uint32_t sector; /* where its key is */
    uint32_t stripes;
} LuksSlot;

typedef struct LuksHeader {
    CryptoSpec spec;
    const CryptoHash *hash;  /* of PBKDF2 and of the splitter */
    uint32_t payload_sector; /* where the disk begins */
    uint32_t key_bytes;
    uint8_t digest[LUKS_DIGEST_BYTES], digest_salt[LUKS_SALT_BYTES];
    uint32_t digest_iterations;
    char uuid[LUKS_UUID_BYTES + 1]; /* printable; ends with 0 */
    LuksSlot slots[LUKS_SLOTS];
} LuksHeader;

/* Whether a file that begins with the @len bytes at @buf is a LUKS volume, of version 1. */
bool luks_probe(const uint8_t *buf, size_t len);

/**
 * luks_header_decode() - read and check a header
 * @buf:      LUKS_HEADER_BYTES
 * @detached: the disk is in another file, so that the payload may be anywhere
 *
 * Return: 0; -EINVAL or -ENOTSUP with @errp.
 */
int luks_header_decode(const uint8_t *buf, bool detached, LuksHeader *ret, Error **errp);
/* @buf: LUKS_HEADER_BYTES. */
void luks_header_encode(const LuksHeader *h, uint8_t *buf);
/* One slot's entry; @buf: LUKS_SLOT_BYTES, which belong at LUKS_SLOT_OFFSET(). */
void luks_slot_encode(const LuksSlot *slot, uint8_t *buf);

/**
 * luks_header_init() - a header for a new volume: layout, names and a new uuid; no key, no digest, no slot active
 *
 * Return: 0; -ENOTSUP with @errp, the parts of @spec do not fit each other.
 */
int luks_header_init(LuksHeader *h, const CryptoSpec *spec, const CryptoHash *hash, bool detached,
                     Error **errp);

/* What a slot's key takes in the file, where it is, and where all of that ends. */
size_t luks_material_bytes(const LuksHeader *h);
int64_t luks_material_offset(const LuksHeader *h, unsigned slot);
int64_t luks_payload_offset(const LuksHeader *h);
/* Where the last slot ends, rounded up as the first payload of a new volume is. */
int64_t luks_header_region_bytes(const LuksHeader *h);
unsigned luks_active_slots(const LuksHeader *h);

/**
 * luks_digest_init() - make the digest of @key, with iterations for @time_ms; blocks
 *
 * Return: 0; -ECANCELED; -EINVAL, the library refuses.
 */
int luks_digest_init(LuksHeader *h, const uint8_t *key, uint64_t time_ms, const bool *cancelled);

/**
 * luks_slot_open() - the disk's key out of slot @slot; blocks
 * @material: luks_material_bytes() from the file; wiped
 * @ret_key:  h->key_bytes; wiped when it is not the key
 *
 * Return: 0; -EACCES, the passphrase does not open this slot; -ECANCELED; -EINVAL, the library refuses.
 */
int luks_slot_open(const LuksHeader *h, unsigned slot, const void *password, size_t password_bytes,
                   uint8_t *material, uint8_t *ret_key, const bool *cancelled);

/**
 * luks_slot_make() - put @key into a slot; blocks
 *
 * Sets salt and iterations of the slot, for @time_ms, and makes it active: in @h only.  The material is to be
 * stable in the file before the header says that the slot is active.
 *
 * Return: 0; -ECANCELED; -EINVAL, the library refuses.
 */
int luks_slot_make(LuksHeader *h, unsigned slot, const void *password, size_t password_bytes,
                   const uint8_t *key, uint64_t time_ms, uint8_t *ret_material,
                   const bool *cancelled);

/* luks_slot_clear() - in @h, the slot is not active and its salt is gone */
void luks_slot_clear(LuksHeader *h, unsigned slot);

#endif
