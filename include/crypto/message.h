/* SPDX-License-Identifier: GPL-2.0-or-later */
/* message.h - a text of any length, encrypted by AES-256 in CBC mode.  Any thread. */
#ifndef CRYPTO_MESSAGE_H
#define CRYPTO_MESSAGE_H

#include <stdint.h>
#include "util/error.h"

#define CRYPTO_MESSAGE_KEY_BYTES   32
#define CRYPTO_MESSAGE_BLOCK_BYTES 16

/**
 * crypto_message_decrypt() - @buf in place, and take off its padding (PKCS#7)
 * @key:   CRYPTO_MESSAGE_KEY_BYTES
 * @iv:    CRYPTO_MESSAGE_BLOCK_BYTES
 * @bytes: of the text; a multiple of CRYPTO_MESSAGE_BLOCK_BYTES, or an error
 *
 * Return: the length without padding, in *ret_bytes; -EINVAL with @errp, which has nothing of the text.
 */
int crypto_message_decrypt(const uint8_t *key, const uint8_t *iv, uint8_t *buf, size_t bytes,
                           size_t *ret_bytes, Error **errp);

#endif
