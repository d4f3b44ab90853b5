/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hash.c - digests and random bytes */
#include "crypto/hash.h"

#include <errno.h>
#include <gcrypt.h>
#include <sys/random.h>

#include "crypto/crypto-int.h"
#include "util/osdep.h"

void crypto_digest(const CryptoHash *hash, const void *data, size_t bytes, uint8_t *ret_digest)
{
    crypto_init();
    gcry_md_hash_buffer(hash->gcrypt, ret_digest, data, bytes);
}

void crypto_random(void *buf, size_t bytes)
{
    uint8_t *p = buf;

    while (bytes > 0) {
        ssize_t n = getrandom(p, bytes, 0);

        if (n < 0 && errno != EINTR) {
            g_error("the system has no random bytes: %s", g_strerror(errno));
        }
        p += MAX(n, 0);
        bytes -= (size_t)MAX(n, 0);
    }
}
