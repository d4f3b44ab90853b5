/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan.c - where the regions of a new FVD image are
 *
 *     0        8 KiB    bitmap_offset   table_offset    journal_offset     data_offset
 *     | header | bitmap, and room | table, and room | journal | (nothing) | chunk 0 | chunk 1 | ...
 *
 *   PL1  What can be asked for is refused here in the words of who asks: by the option, with its limit.  What
 *        passes makes a header that can be opened.
 *   PL2  Numbers are compared before they are multiplied (HD2).
 */
#include "block/drivers/fvd/layout/plan.h"
#include <errno.h>
#include <inttypes.h>

static int check_range(const char *option, int64_t value, int64_t min, int64_t max, int64_t of,
                       Error **errp)
{
    if (value < min || value > max || value % of) {
        error_setg(errp,
                   "Parameter '%s' is %" PRId64 ", and must be a multiple of %" PRId64
                   " from %" PRId64 " to %" PRId64,
                   option, value, of, min, max);
        return -EINVAL;
    }
    return 0;
}

static int check_options(const FvdHeader *h, Error **errp)
{
    int ret =
        check_range("size", h->virtual_disk_size, 0, FVD_DISK_BYTES_MAX, FVD_SECTOR_BYTES, errp);

    if (ret == 0 && h->chunk_size != 0) {
        ret = check_range("chunk-size", h->chunk_size, FVD_UNIT_BYTES_MIN, FVD_UNIT_BYTES_MAX,
                          FVD_SECTOR_BYTES, errp);
    }
    if (ret == 0) {
        ret = check_range("block-size", h->block_size, FVD_UNIT_BYTES_MIN, FVD_UNIT_BYTES_MAX,
                          FVD_SECTOR_BYTES, errp);
    }
    if (ret == 0) {
        ret = check_range("journal-size", h->journal_size, FVD_JOURNAL_BYTES_MIN,
                          FVD_JOURNAL_BYTES_MAX, FVD_REGION_ALIGN, errp);
    }
    return ret;
}

static int64_t units(int64_t bytes, int64_t unit)
{
    return bytes == 0 ? 0 : (bytes - 1) / unit + 1;
}

/* Bytes of a region of which @used are in use now. */
static int64_t region_bytes(int64_t used, int64_t max)
{
    int64_t grown = used > max / FVD_PLAN_GROWTH ? max : used * FVD_PLAN_GROWTH;

    return ROUND_UP(MAX(grown, FVD_PLAN_REGION_MIN), FVD_REGION_ALIGN);
}

static int check_used(const char *what, const char *option, int64_t used, int64_t max,
                      int64_t bytes, Error **errp)
{
    if (used > max) {
        error_setg(errp,
                   "The %s for %" PRId64 " bytes would take %" PRId64 " bytes, and %" PRId64
                   " at most can be used: make '%s' larger",
                   what, bytes, used, max, option);
        return -EINVAL;
    }
    return 0;
}

int fvd_plan(FvdHeader *h, Error **errp)
{
    int64_t table = 0, bitmap, end = FVD_HEADER_REGION, data_align;
    int ret = check_options(h, errp);

    if (ret == 0 && h->chunk_size != 0) {
        table = units(h->virtual_disk_size, h->chunk_size) * FVD_TABLE_ENTRY_BYTES; /* < 2^55 */
        ret = check_used("table", "chunk-size", table, FVD_TABLE_USED_MAX, h->virtual_disk_size,
                         errp);
    }
    if (ret < 0) {
        return ret;
    }
    /* The bitmap is for the base; an image without one has room for one of the disk's size, if that can be. */
    bitmap = units(units(h->base_img_size, h->block_size), 8);
    ret = check_used("bitmap", "block-size", bitmap, FVD_BITMAP_USED_MAX, h->base_img_size, errp);
    if (ret < 0) {
        return ret;
    }
    bitmap =
        MAX(bitmap, MIN(units(units(h->virtual_disk_size, h->block_size), 8), FVD_BITMAP_USED_MAX));
    h->bitmap_offset = end;
    h->bitmap_size = region_bytes(bitmap, FVD_BITMAP_USED_MAX);
    end += h->bitmap_size;
    h->table_offset = h->table_size = 0;
    if (h->chunk_size != 0) {
        h->table_offset = end;
        h->table_size = region_bytes(table, FVD_TABLE_USED_MAX);
        end += h->table_size;
    }
    h->journal_offset = end;
    end += h->journal_size;
    data_align = h->chunk_size == 0
                     ? FVD_PLAN_DATA_ALIGN_MAX
                     : MIN(QEMU_ALIGN_UP(h->chunk_size, FVD_REGION_ALIGN), FVD_PLAN_DATA_ALIGN_MAX);
    h->data_offset = h->data_file[0] ? 0 : QEMU_ALIGN_UP(end, data_align);
    return fvd_header_check(h, errp);
}
