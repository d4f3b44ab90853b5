/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks-header - the header of a LUKS volume that somebody else has made
 *
 * Input: as long as a header, the header; shorter, patches for a good one, each of them a length, a place and
 * bytes (1, 2, length).  What is let through has its parts apart from each other, and is the same again when it was
 * encoded and decoded.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/luks.h"
#include "util/osdep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void good_header(uint8_t *buf)
{
    CryptoSpec spec = {.cipher = crypto_cipher_find("aes-256"),
                       .mode = CRYPTO_MODE_XTS,
                       .ivgen = CRYPTO_IVGEN_PLAIN64};
    LuksHeader h;

    luks_header_init(&h, &spec, crypto_hash_find("sha256"), false, NULL);
    h.digest_iterations = 1000;
    h.slots[0].active = true;
    h.slots[0].iterations = 1000;
    luks_header_encode(&h, buf);
}

static void patch(uint8_t *buf, const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t place = lduw_le_p(data + 1);
        size_t len = MIN((size_t)data[0], size - 3);

        if (place < LUKS_HEADER_BYTES) {
            memcpy(buf + place, data + 3, MIN(len, LUKS_HEADER_BYTES - place));
        }
        data += 3 + len;
        size -= 3 + len;
    }
}

static void check_holds(const LuksHeader *h, bool detached)
{
    int64_t bytes = (int64_t)luks_material_bytes(h);

    assert(h->key_bytes > 0 && h->key_bytes <= CRYPTO_KEY_MAX);
    assert(crypto_key_bytes(h->spec.cipher, h->spec.mode) == h->key_bytes);
    assert(h->digest_iterations > 0);
    assert(luks_active_slots(h) <= LUKS_SLOTS);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        int64_t start = luks_material_offset(h, i);

        assert(start >= LUKS_HEADER_BYTES);
        assert(detached || start + bytes <= luks_payload_offset(h));
        assert(!h->slots[i].active || h->slots[i].iterations > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* On the heap and of exact size, where the sanitizer sees a read beyond the end. */
    g_autofree uint8_t *buf = g_malloc(LUKS_HEADER_BYTES);
    g_autofree uint8_t *again = g_malloc(LUKS_HEADER_BYTES);

    if (size >= LUKS_HEADER_BYTES) {
        memcpy(buf, data, LUKS_HEADER_BYTES);
    } else {
        good_header(buf);
        patch(buf, data, size);
    }
    for (int detached = 0; detached <= 1; detached++) {
        g_autoptr(Error) err = NULL;
        LuksHeader h, other;

        if (luks_header_decode(buf, detached, &h, &err) < 0) {
            assert(err);
            continue;
        }
        assert(!err);
        check_holds(&h, detached);
        luks_header_encode(&h, again);
        assert(luks_header_decode(again, detached, &other, NULL) == 0);
        luks_header_encode(&other, buf);
        assert(memcmp(buf, again, LUKS_HEADER_BYTES) == 0);
    }
    return 0;
}
