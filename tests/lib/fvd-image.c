/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fvd-image.h. */
#include "block/io/io.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "util/osdep.h"

static int64_t place(int64_t *end, int64_t size, int64_t *ret_offset)
{
    *ret_offset = *end;
    *end += ROUND_UP(size, FVD_REGION_ALIGN);
    return *end - *ret_offset;
}

void fvd_image_header(const FvdImageSpec *spec, FvdHeader *h)
{
    int64_t end = FVD_HEADER_REGION;

    fvd_header_init(h);
    h->virtual_disk_size = spec->size;
    h->chunk_size = spec->chunk_size ?: h->chunk_size;
    h->block_size = spec->block_size ?: h->block_size;
    h->journal_size = spec->journal_size ?: h->journal_size;
    h->storage_grow_unit = spec->grow_unit ?: (int64_t)h->storage_grow_unit;
    h->incompatible = spec->incompatible;
    h->version = spec->incompatible ? 2 : 1;
    h->compatible = FVD_COMPATIBLE_TRAILERS;
    g_strlcpy(h->base_img, spec->base_img ?: "", sizeof(h->base_img));
    g_strlcpy(h->data_file, spec->data_file ?: "", sizeof(h->data_file));
    h->copy_on_read = spec->copy_on_read;
    h->max_outstanding_copy_on_read_data = spec->max_outstanding
                                               ? (uint64_t)spec->max_outstanding
                                               : h->max_outstanding_copy_on_read_data;
    if (spec->base_size) {
        h->base_img_size = spec->base_size;
        h->bitmap_size = place(&end, DIV_ROUND_UP(DIV_ROUND_UP(spec->base_size, h->block_size), 8),
                               &h->bitmap_offset);
    }
    if (!spec->no_table) {
        h->table_size = place(
            &end, (DIV_ROUND_UP(spec->size, h->chunk_size) + spec->slack) * FVD_TABLE_ENTRY_BYTES,
            &h->table_offset);
    }
    if (spec->no_journal) {
        h->journal_size = 0;
    } else {
        place(&end, h->journal_size, &h->journal_offset);
    }
    h->data_offset = spec->data_file ? 0 : end;
    fvd_header_check(h, &error_abort);
}

int64_t fvd_image_data_offset(const FvdImageSpec *spec)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    fvd_image_header(spec, h);
    return h->data_offset;
}

void fvd_image_make_file(const char *path, const FvdImageSpec *spec)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *buf = NULL;
    int64_t bytes;

    fvd_image_header(spec, h);
    bytes = MAX(MAX(h->data_offset, FVD_HEADER_REGION), h->journal_offset + h->journal_size);
    buf = g_malloc0(bytes);
    fvd_header_encode(h, buf);
    memset(buf + h->table_offset, 0xff, h->table_offset ? h->table_size : 0);
    g_assert_true(g_file_set_contents(path, (const char *)buf, bytes, NULL));
}

static void coroutine_fn fill(BdrvChild *user, int64_t offset, int64_t bytes, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(MAX(bytes, 1));

    memset(buf, byte, bytes);
    g_assert_cmpint(bdrv_co_pwrite(user, offset, bytes, buf, 0), ==, 0);
}

void coroutine_fn fvd_image_co_make(BlockDriverState *file, const FvdImageSpec *spec)
{
    BdrvChild *user = block_test_user(file, BLK_PERM_WRITE | BLK_PERM_RESIZE);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);

    fvd_image_header(spec, h);
    fvd_header_encode(h, buf);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, FVD_HEADER_REGION, buf, 0), ==, 0);
    fill(user, h->bitmap_offset, h->bitmap_offset ? h->bitmap_size : 0, 0);
    fill(user, h->table_offset, h->table_offset ? h->table_size : 0, 0xff);
    fill(user, h->journal_offset, h->journal_offset ? h->journal_size : 0, 0);
    g_assert_cmpint(bdrv_co_flush(file), ==, 0);
    block_test_co_user_free(user);
}

void coroutine_fn fvd_image_co_header(BlockDriverState *file, FvdHeader *ret_header)
{
    BdrvChild *user = block_test_user(file, BLK_PERM_CONSISTENT_READ);
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);

    g_assert_cmpint(bdrv_co_pread(user, 0, FVD_HEADER_REGION, buf, 0), ==, 0);
    fvd_header_decode(buf, FVD_HEADER_REGION, ret_header, &error_abort);
    block_test_co_user_free(user);
}
