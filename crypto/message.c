/* SPDX-License-Identifier: GPL-2.0-or-later */
/* message.c - AES-256-CBC with padding, as secrets are encrypted with another secret */
#include "crypto/message.h"

#include <errno.h>
#include <gcrypt.h>

#include "crypto/crypto-int.h"
#include "util/osdep.h"

static int decrypt(const uint8_t *key, const uint8_t *iv, uint8_t *buf, size_t bytes)
{
    gcry_cipher_hd_t handle;
    gcry_error_t err;

    crypto_init();
    err = gcry_cipher_open(&handle, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_CBC, GCRY_CIPHER_SECURE);
    if (err) {
        return -EINVAL;
    }
    err = gcry_cipher_setkey(handle, key, CRYPTO_MESSAGE_KEY_BYTES);
    err = err ? err : gcry_cipher_setiv(handle, iv, CRYPTO_MESSAGE_BLOCK_BYTES);
    err = err ? err : gcry_cipher_decrypt(handle, buf, bytes, NULL, 0);
    gcry_cipher_close(handle);
    return err ? -EINVAL : 0;
}

int crypto_message_decrypt(const uint8_t *key, const uint8_t *iv, uint8_t *buf, size_t bytes,
                           size_t *ret_bytes, Error **errp)
{
    size_t padding;

    if (bytes == 0 || bytes % CRYPTO_MESSAGE_BLOCK_BYTES) {
        error_setg(errp, "Length %zu must be a multiple of block size %d", bytes,
                   CRYPTO_MESSAGE_BLOCK_BYTES);
        return -EINVAL;
    }
    if (decrypt(key, iv, buf, bytes) < 0) {
        error_setg(errp, "Decrypting with AES-256 failed");
        return -EINVAL;
    }
    padding = buf[bytes - 1];
    if (padding < 1 || padding > CRYPTO_MESSAGE_BLOCK_BYTES) {
        error_setg(errp, "Incorrect padding found on decrypted data");
        return -EINVAL;
    }
    *ret_bytes = bytes - padding;
    return 0;
}
