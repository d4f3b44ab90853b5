/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-option - what a client sends in the handshake: the payloads of INFO, GO and the meta context options
 *
 * Input: one byte that chooses the decoder, then the payload.  Every byte that a decoder hands out is
 * touched, so that one outside the payload is found.
 */
#include <assert.h>
#include <stdlib.h>
#include "block/export/nbd/nbd-format.h"
#include "util/osdep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sum;

static void touch(const char *text, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++) {
        sum += (unsigned char)text[i];
    }
}

static void info(const uint8_t *data, size_t size)
{
    NbdInfoOption option;
    const char *why = NULL;

    if (nbd_info_option_decode(data, size, &option, &why)) {
        assert(why);
    } else {
        assert(option.name_length <= NBD_MAX_STRING);
        touch(option.name, option.name_length);
    }
}

static void meta(const uint8_t *data, size_t size)
{
    NbdMetaOption option;
    const char *why = NULL;

    if (nbd_meta_option_decode(data, size, &option, &why)) {
        assert(why);
        return;
    }
    touch(option.name, option.name_length);
    for (uint32_t i = 0; i < option.n_queries; i++) {
        const char *query;
        uint32_t length;
        bool there = nbd_cursor_string(&option.queries, &query, &length);

        assert(there);
        touch(query, length);
    }
    assert(option.queries.left == 0 && !option.queries.overrun);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size == 0) {
        return 0;
    }
    /* On the heap and of exact size, where the sanitizer sees a read beyond the end. */
    copy = malloc(size);
    if (copy) {
        memcpy(copy, data, size);
        (data[0] & 1 ? meta : info)(copy + 1, size - 1);
    }
    free(copy);
    return 0;
}
