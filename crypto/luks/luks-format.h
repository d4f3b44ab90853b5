/* SPDX-License-Identifier: GPL-2.0-or-later */
/* luks-format.h - the bytes of a LUKS header, version 1; numbers are big-endian.  Fixed for ever. */
#ifndef CRYPTO_LUKS_FORMAT_H
#define CRYPTO_LUKS_FORMAT_H

#include <stdint.h>
#include "crypto/luks.h"
#include "util/osdep.h"

#define LUKS_MAGIC         "LUKS\xba\xbe"
#define LUKS_MAGIC_BYTES   6
#define LUKS_VERSION       1
#define LUKS_NAME_BYTES    32
#define LUKS_SLOT_ACTIVE   0x00ac71f3
#define LUKS_SLOT_INACTIVE 0x0000dead
/* Slots, and the payload, begin at multiples of it in a new volume. */
#define LUKS_ALIGN_BYTES   4096

struct luks_disk_slot {
    uint8_t active[4]; /* LUKS_SLOT_ACTIVE or LUKS_SLOT_INACTIVE */
    uint8_t iterations[4];
    uint8_t salt[LUKS_SALT_BYTES];
    uint8_t sector[4];
    uint8_t stripes[4];
};
QEMU_BUILD_BUG_ON(sizeof(struct luks_disk_slot) != LUKS_SLOT_BYTES);

struct luks_disk_header {
    uint8_t magic[LUKS_MAGIC_BYTES];
    uint8_t version[2];
    char cipher_name[LUKS_NAME_BYTES]; /* "aes" */
    char cipher_mode[LUKS_NAME_BYTES]; /* "xts-plain64", "cbc-essiv:sha256" */
    char hash_spec[LUKS_NAME_BYTES];   /* "sha256" */
    uint8_t payload_sector[4];
    uint8_t key_bytes[4];
    uint8_t digest[LUKS_DIGEST_BYTES];
    uint8_t digest_salt[LUKS_SALT_BYTES];
    uint8_t digest_iterations[4];
    char uuid[LUKS_UUID_BYTES];
    struct luks_disk_slot slots[LUKS_SLOTS];
};
QEMU_BUILD_BUG_ON(sizeof(struct luks_disk_header) != LUKS_HEADER_BYTES);
QEMU_BUILD_BUG_ON(offsetof(struct luks_disk_header, payload_sector) != 104);
QEMU_BUILD_BUG_ON(offsetof(struct luks_disk_header, uuid) != 168);
QEMU_BUILD_BUG_ON(offsetof(struct luks_disk_header, slots) != LUKS_SLOT_OFFSET(0));

#endif
