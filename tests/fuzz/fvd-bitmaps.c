/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fvd-bitmaps - the directory of dirty bitmaps in an FVD image that somebody else has made
 *
 * Input: the directory; its checksum is set right where it has one.  What is decoded is inside the area and inside the
 * limits, and is encoded to what is decoded to the same again.
 */
#include <assert.h>
#include <string.h>
#include "block/drivers/fvd/bitmaps/directory.h"
#include "util/crc32c.h"
#include "util/osdep.h"

#define AREA (1 * MiB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void holds(const FvdBitmapDir *dir)
{
    assert(dir->entries->len <= FVD_BITMAPS_MAX);
    for (unsigned i = 0; i < dir->entries->len; i++) {
        const FvdBitmapEntry *e = fvd_bitmap_dir_entry(dir, i);
        size_t name = strlen(e->name);

        assert(name >= 1 && name <= FVD_BITMAP_NAME_MAX);
        assert(e->granule >= FVD_BITMAP_GRANULE_MIN && e->granule <= FVD_BITMAP_GRANULE_MAX);
        assert(e->data_offset >= 0 && e->data_bytes >= 0 && e->data_bytes <= AREA);
        assert(e->data_offset + e->data_bytes <= AREA);
        assert(!e->inconsistent || e->data_bytes == 0);
        assert(e->data_bytes == 0 || e->data_bytes == fvd_bitmap_bytes(dir->disk_size, e->granule));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *buf = g_memdup2(data, size), *again = NULL;
    g_autoptr(FvdBitmapDir) dir = NULL, other = NULL;
    size_t bytes;

    if (size >= FVD_BITMAP_DIR_HEAD_BYTES) {
        bytes = ldl_le_p(buf + 28);
        stl_le_p(buf + 4, 0);
        stl_le_p(buf + 4, crc32c(0, buf, MIN(bytes, size)));
    }
    dir = fvd_bitmap_dir_decode(buf, size, AREA, NULL);
    if (!dir) {
        return 0;
    }
    holds(dir);
    again = fvd_bitmap_dir_encode(dir, &bytes);
    other = fvd_bitmap_dir_decode(again, bytes, AREA, &error_abort);
    assert(other->entries->len == dir->entries->len && other->epoch == dir->epoch);
    return 0;
}
