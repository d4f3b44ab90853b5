/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * header.c - a LUKS header between bytes and numbers
 *
 * What a header says is taken for what a stranger says.  Sectors are 32-bit numbers, so that offsets in bytes
 * fit into 64 bits whatever they are.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "crypto/hash.h"
#include "crypto/luks.h"
#include "crypto/luks/luks-format.h"
#include "crypto/sectors.h"
#include "util/osdep.h"

bool luks_probe(const uint8_t *buf, size_t len)
{
    return len >= LUKS_MAGIC_BYTES + 2 && memcmp(buf, LUKS_MAGIC, LUKS_MAGIC_BYTES) == 0 &&
           lduw_be_p(buf + LUKS_MAGIC_BYTES) == LUKS_VERSION;
}

size_t luks_material_bytes(const LuksHeader *h)
{
    return (size_t)h->key_bytes * LUKS_STRIPES;
}

int64_t luks_material_offset(const LuksHeader *h, unsigned slot)
{
    return (int64_t)h->slots[slot].sector * LUKS_SECTOR_BYTES;
}

int64_t luks_payload_offset(const LuksHeader *h)
{
    return (int64_t)h->payload_sector * LUKS_SECTOR_BYTES;
}

int64_t luks_header_region_bytes(const LuksHeader *h)
{
    int64_t end = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        end = MAX(end, luks_material_offset(h, i) + (int64_t)luks_material_bytes(h));
    }
    return ROUND_UP(end, LUKS_ALIGN_BYTES);
}

unsigned luks_active_slots(const LuksHeader *h)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        n += h->slots[i].active;
    }
    return n;
}

/* ------------------------------------------------------------------------------------------ decode */

static int check_names(const struct luks_disk_header *raw, Error **errp)
{
    const struct {
        const char *text, *what;
    } names[] = {
        {raw->cipher_name, "cipher name"},
        {raw->cipher_mode, "cipher mode"},
        {raw->hash_spec, "hash spec"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!memchr(names[i].text, 0, LUKS_NAME_BYTES)) {
            error_setg(errp, "LUKS header %s is not NUL terminated", names[i].what);
            return -EINVAL;
        }
    }
    return 0;
}

/* A name that is nobody's, as it may be shown: a stranger's bytes do not go to a terminal. */
static const char *shown(char *name)
{
    for (char *p = name; *p; p++) {
        *p = g_ascii_isprint(*p) ? *p : '?';
    }
    return name;
}

/* "cbc-essiv:sha256" */
static int decode_mode(const char *text, CryptoSpec *spec, Error **errp)
{
    g_autofree char *mode = g_strdup(text);
    char *ivgen = strchr(mode, '-');
    char *hash = ivgen ? strchr(ivgen, ':') : NULL;
    int found;

    if (!ivgen) {
        error_setg(errp, "Unexpected cipher mode string format '%s'", shown(mode));
        return -EINVAL;
    }
    *ivgen++ = 0;
    if (hash) {
        *hash++ = 0;
        spec->ivgen_hash = crypto_hash_find(hash);
        if (!spec->ivgen_hash) {
            error_setg(errp, "Hash algorithm '%s' not supported", shown(hash));
            return -ENOTSUP;
        }
    }
    found = crypto_mode_find(mode);
    if (found < 0) {
        error_setg(errp, "Cipher mode '%s' not supported", shown(mode));
        return -ENOTSUP;
    }
    spec->mode = (CryptoMode)found;
    found = crypto_ivgen_find(ivgen);
    if (found < 0) {
        error_setg(errp, "IV generator '%s' not supported", shown(ivgen));
        return -ENOTSUP;
    }
    spec->ivgen = (CryptoIvgen)found;
    return 0;
}

static int decode_algorithms(const struct luks_disk_header *raw, LuksHeader *h, Error **errp)
{
    int ret = decode_mode(raw->cipher_mode, &h->spec, errp);
    bool halved = h->spec.mode == CRYPTO_MODE_XTS;
    g_autofree char *name = NULL;

    if (ret < 0) {
        return ret;
    }
    h->spec.cipher =
        halved && h->key_bytes % 2
            ? NULL
            : crypto_cipher_find_sized(raw->cipher_name, halved ? h->key_bytes / 2 : h->key_bytes);
    if (!h->spec.cipher) {
        name = g_strdup(raw->cipher_name);
        error_setg(errp, "Algorithm '%s' with key size %" PRIu32 " bytes not supported",
                   shown(name), halved ? h->key_bytes / 2 : h->key_bytes);
        return -ENOTSUP;
    }
    h->hash = crypto_hash_find(raw->hash_spec);
    if (!h->hash) {
        name = g_strdup(raw->hash_spec);
        error_setg(errp, "Hash algorithm '%s' not supported", shown(name));
        return -ENOTSUP;
    }
    return crypto_spec_check(&h->spec, errp);
}

static int decode_slot(const struct luks_disk_slot *raw, unsigned number, LuksSlot *slot,
                       Error **errp)
{
    uint32_t active = ldl_be_p(raw->active);

    slot->active = active == LUKS_SLOT_ACTIVE;
    slot->iterations = ldl_be_p(raw->iterations);
    memcpy(slot->salt, raw->salt, LUKS_SALT_BYTES);
    slot->sector = ldl_be_p(raw->sector);
    slot->stripes = ldl_be_p(raw->stripes);
    if (active != LUKS_SLOT_ACTIVE && active != LUKS_SLOT_INACTIVE) {
        error_setg(errp, "Keyslot %u state (active/disable) is corrupted", number);
        return -EINVAL;
    }
    if (slot->stripes != LUKS_STRIPES) {
        error_setg(errp, "Keyslot %u is corrupted (stripes %" PRIu32 " != %d)", number,
                   slot->stripes, LUKS_STRIPES);
        return -EINVAL;
    }
    if (slot->active && slot->iterations == 0) {
        error_setg(errp, "Keyslot %u iteration count is zero", number);
        return -EINVAL;
    }
    return 0;
}

/* Nothing lies on anything else: erasing a slot must not take something else with it. */
static int check_places(const LuksHeader *h, bool detached, Error **errp)
{
    int64_t bytes = luks_material_bytes(h), payload = luks_payload_offset(h);

    if (!detached && payload < LUKS_HEADER_BYTES) {
        error_setg(errp, "LUKS payload is overlapping with the header");
        return -EINVAL;
    }
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        int64_t start = luks_material_offset(h, i);

        if (start < LUKS_HEADER_BYTES) {
            error_setg(errp, "Keyslot %u is overlapping with the LUKS header", i);
            return -EINVAL;
        }
        if (!detached && start + bytes > payload) {
            error_setg(errp, "Keyslot %u is overlapping with the encrypted payload", i);
            return -EINVAL;
        }
    }
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        for (unsigned k = i + 1; k < LUKS_SLOTS; k++) {
            int64_t start = luks_material_offset(h, i), other = luks_material_offset(h, k);

            if (start < other + bytes && other < start + bytes) {
                error_setg(errp, "Keyslots %u and %u are overlapping in the header", i, k);
                return -EINVAL;
            }
        }
    }
    return 0;
}

static void decode_uuid(const struct luks_disk_header *raw, LuksHeader *h)
{
    memcpy(h->uuid, raw->uuid, LUKS_UUID_BYTES);
    h->uuid[LUKS_UUID_BYTES] = 0;
    shown(h->uuid);
}

int luks_header_decode(const uint8_t *buf, bool detached, LuksHeader *ret, Error **errp)
{
    const struct luks_disk_header *raw = (const struct luks_disk_header *)buf;
    LuksHeader h = {0};
    uint16_t version = lduw_be_p(raw->version);
    int r;

    if (memcmp(raw->magic, LUKS_MAGIC, LUKS_MAGIC_BYTES) != 0) {
        error_setg(errp, "Volume is not in LUKS format");
        return -EINVAL;
    }
    if (version != LUKS_VERSION) {
        error_setg(errp, "LUKS version %u is not supported", version);
        return -ENOTSUP;
    }
    h.payload_sector = ldl_be_p(raw->payload_sector);
    h.key_bytes = ldl_be_p(raw->key_bytes);
    h.digest_iterations = ldl_be_p(raw->digest_iterations);
    memcpy(h.digest, raw->digest, LUKS_DIGEST_BYTES);
    memcpy(h.digest_salt, raw->digest_salt, LUKS_SALT_BYTES);
    decode_uuid(raw, &h);
    r = check_names(raw, errp);
    if (r == 0) {
        r = decode_algorithms(raw, &h, errp);
    }
    if (r == 0 && h.digest_iterations == 0) {
        error_setg(errp, "LUKS key iteration count is zero");
        r = -EINVAL;
    }
    for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++) {
        r = decode_slot(&raw->slots[i], i, &h.slots[i], errp);
    }
    if (r == 0) {
        r = check_places(&h, detached, errp);
    }
    if (r == 0) {
        *ret = h;
    }
    return r;
}

/* ------------------------------------------------------------------------------------------ encode */

void luks_slot_encode(const LuksSlot *slot, uint8_t *buf)
{
    struct luks_disk_slot *raw = (struct luks_disk_slot *)buf;

    stl_be_p(raw->active, slot->active ? LUKS_SLOT_ACTIVE : LUKS_SLOT_INACTIVE);
    stl_be_p(raw->iterations, slot->iterations);
    memcpy(raw->salt, slot->salt, LUKS_SALT_BYTES);
    stl_be_p(raw->sector, slot->sector);
    stl_be_p(raw->stripes, slot->stripes);
}

void luks_header_encode(const LuksHeader *h, uint8_t *buf)
{
    struct luks_disk_header *raw = (struct luks_disk_header *)buf;
    const char *hash = h->spec.ivgen_hash ? h->spec.ivgen_hash->name : NULL;

    memset(buf, 0, LUKS_HEADER_BYTES);
    memcpy(raw->magic, LUKS_MAGIC, LUKS_MAGIC_BYTES);
    stw_be_p(raw->version, LUKS_VERSION);
    g_strlcpy(raw->cipher_name, h->spec.cipher->family, LUKS_NAME_BYTES);
    g_snprintf(raw->cipher_mode, LUKS_NAME_BYTES, "%s-%s%s%s", crypto_mode_name(h->spec.mode),
               crypto_ivgen_name(h->spec.ivgen), hash ? ":" : "", hash ? hash : "");
    g_strlcpy(raw->hash_spec, h->hash->name, LUKS_NAME_BYTES);
    stl_be_p(raw->payload_sector, h->payload_sector);
    stl_be_p(raw->key_bytes, h->key_bytes);
    memcpy(raw->digest, h->digest, LUKS_DIGEST_BYTES);
    memcpy(raw->digest_salt, h->digest_salt, LUKS_SALT_BYTES);
    stl_be_p(raw->digest_iterations, h->digest_iterations);
    memcpy(raw->uuid, h->uuid, LUKS_UUID_BYTES);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        luks_slot_encode(&h->slots[i], (uint8_t *)&raw->slots[i]);
    }
}

int luks_header_init(LuksHeader *h, const CryptoSpec *spec, const CryptoHash *hash, bool detached,
                     Error **errp)
{
    g_autofree char *uuid = g_uuid_string_random();
    int64_t slot_bytes;
    int ret = crypto_spec_check(spec, errp);

    if (ret < 0) {
        return ret;
    }
    memset(h, 0, sizeof(*h));
    h->spec = *spec;
    h->hash = hash;
    h->key_bytes = crypto_key_bytes(spec->cipher, spec->mode);
    g_strlcpy(h->uuid, uuid, sizeof(h->uuid));
    slot_bytes = ROUND_UP((int64_t)luks_material_bytes(h), LUKS_ALIGN_BYTES);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        h->slots[i].sector = (LUKS_ALIGN_BYTES + i * slot_bytes) / LUKS_SECTOR_BYTES;
        h->slots[i].stripes = LUKS_STRIPES;
    }
    h->payload_sector = detached ? 0 : luks_header_region_bytes(h) / LUKS_SECTOR_BYTES;
    return 0;
}
