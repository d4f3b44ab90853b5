/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fvd-header - the header of an FVD image that somebody else has made
 *
 * Input: patches for a good header, each of them a length, a place and bytes (1, 2, length); or, if it is
 * as long as a header, the header itself.  A decoded header is encoded to the same again, and every number that is
 * made of it is in its bounds.
 */
#include <assert.h>
#include <stdlib.h>
#include "tests/unit/fvd/header-holds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 1 GiB of disk over a base of the same size. */
static void good_header(uint8_t *buf)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    fvd_header_init(h);
    h->virtual_disk_size = h->base_img_size = 1 * GiB;
    h->bitmap_offset = 8 * KiB;
    h->bitmap_size = 4 * KiB;
    h->table_offset = 12 * KiB;
    h->table_size = 4 * KiB;
    h->journal_offset = 16 * KiB;
    h->journal_size = 64 * KiB;
    h->data_offset = 1 * MiB;
    fvd_header_encode(h, buf);
}

static void patch(uint8_t *buf, const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t place = lduw_le_p(data + 1);
        size_t len = MIN(data[0], size - 3);

        if (place < FVD_HEADER_BYTES) {
            memcpy(buf + place, data + 3, MIN(len, FVD_HEADER_BYTES - place));
        }
        data += 3 + len;
        size -= 3 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autoptr(Error) err = NULL;
    /* On the heap and of exact size, where the sanitizer sees a read beyond the end. */
    size_t len = size >= FVD_HEADER_BYTES ? size : FVD_HEADER_BYTES;
    g_autofree uint8_t *good = g_malloc(FVD_HEADER_REGION);
    g_autofree uint8_t *buf = g_malloc(len);

    if (size >= FVD_HEADER_BYTES) {
        memcpy(buf, data, size);
    } else {
        good_header(good);
        memcpy(buf, good, FVD_HEADER_BYTES);
        patch(buf, data, size);
    }
    if (fvd_header_decode(buf, len, h, &err) < 0) {
        assert(err);
        return 0;
    }
    assert(!err);
    fvd_header_holds(h);
    return 0;
}
