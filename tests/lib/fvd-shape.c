/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fvd-story.h: what an image is like, made and looked at without the driver. */
#include <string.h>
#include "block/drivers/fvd/layout/jrecord.h"
#include "block/drivers/fvd/layout/replay.h"
#include "tests/lib/fvd-story.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

/* What was on a device before. */
#define GARBAGE_BYTE 0xEE
/* Tables that have moved. */
#define RESIZE_ROOM  (64 * KiB)
/* Three areas, of a page for the directory and one for each bitmap. */
#define BITMAPS_ROOM (64 * KiB)

static int64_t one_of(GRand *rand, const int64_t *sizes, int n)
{
    return sizes[g_rand_int_range(rand, 0, n)];
}

static int64_t pages(int64_t bytes)
{
    return ROUND_UP(bytes, 4 * KiB);
}

/* In some the table gets too small: an old program's is as long as it must be, others have pages. */
static void choose_growth(FvdStory *s)
{
    FvdShape *shape = &s->shape;
    int64_t chunks = 0;

    switch (g_rand_int_range(s->rand, 0, 6)) {
    case 0:
        chunks = pages(1) / FVD_TABLE_ENTRY_BYTES;
        break;
    case 1 ... 3:
        shape->old = true;
        chunks = FVD_SECTOR_BYTES / FVD_TABLE_ENTRY_BYTES;
        break;
    default:
        break;
    }
    if (chunks) {
        shape->chunk_size = g_rand_boolean(s->rand) && shape->old ? 1024 : 512;
        shape->disk_bytes = (chunks + chunks / 8) * shape->chunk_size;
        shape->start_bytes = (chunks - chunks / 8) * shape->chunk_size;
    } else {
        shape->start_bytes = ROUND_UP(shape->disk_bytes / 2, FVD_SECTOR_BYTES);
    }
}

static void choose_shape(FvdStory *s)
{
    static const int64_t chunks[] = {1024, 2048, 4096, 4096, 3584, 8192, 16384};
    static const int64_t blocks[] = {512, 1024, 2048, 4096, 4096, 3072, 8192};
    FvdShape *shape = &s->shape;
    GRand *rand = s->rand;
    bool base = s->wants & FVD_STORY_BASE ||
                (!(s->wants & FVD_STORY_NO_BASE) && g_rand_int_range(rand, 0, 2));

    shape->chunk_size = one_of(rand, chunks, ARRAY_SIZE(chunks));
    shape->block_size = one_of(rand, blocks, ARRAY_SIZE(blocks));
    shape->disk_bytes = shape->chunk_size * g_rand_int_range(rand, 6, 24) -
                        (int64_t)512 * g_rand_int_range(rand, 0, 2);
    shape->disk_bytes = MIN(shape->disk_bytes, 128 * KiB);
    shape->start_bytes = shape->disk_bytes;
    shape->old = s->wants & FVD_STORY_OLD;
    if (s->wants & FVD_STORY_RESIZE) {
        choose_growth(s);
    }
    if (base) {
        shape->base_bytes = g_rand_int_range(rand, 0, 3) ? shape->start_bytes
                                                         : shape->start_bytes / 1024 / 3 * 1024;
    }
    shape->journal_size =
        s->wants & FVD_STORY_TINY_JOURNAL ? 8 * KiB : 4 * KiB * g_rand_int_range(rand, 2, 9);
    shape->device = s->wants & FVD_STORY_DEVICE || g_rand_int_range(rand, 0, 4) == 0;
    shape->device &= !(s->wants & FVD_STORY_RESIZE);
    shape->data_file = s->wants & FVD_STORY_DATA_FILE || g_rand_int_range(rand, 0, 6) == 0;
    shape->grow_unit = g_rand_int_range(rand, 0, 2) ? 0 : 4 * shape->chunk_size;
    if (s->wants & FVD_STORY_BITMAPS) {
        return;
    }
    if (base && !shape->device && g_rand_int_range(rand, 0, 8) == 0) {
        shape->chunk_size = 0; /* and with it the table */
    }
}

static int64_t data_capacity(const FvdStory *s)
{
    const FvdShape *shape = &s->shape;

    /* Chunks that were given back are free later: room for twice as many. */
    return pages(shape->chunk_size ? 2 * shape->disk_bytes + 8 * shape->chunk_size
                                   : shape->disk_bytes) +
           (s->wants & FVD_STORY_RESIZE ? RESIZE_ROOM : 0) +
           (s->wants & FVD_STORY_BITMAPS ? BITMAPS_ROOM : 0);
}

static void make_header(FvdStory *s, FvdHeader *h)
{
    FvdShape *shape = &s->shape;
    int64_t at = FVD_HEADER_REGION;

    fvd_header_init(h);
    h->virtual_disk_size = shape->start_bytes;
    h->base_img_size = shape->base_bytes;
    h->block_size = shape->block_size;
    h->chunk_size = shape->chunk_size ? shape->chunk_size : FVD_CHUNK_SIZE_DEFAULT;
    h->storage_grow_unit = shape->grow_unit;
    h->compatible = FVD_COMPATIBLE_TRAILERS;
    if (s->wants & FVD_STORY_COPY_ON_READ && g_rand_boolean(s->rand)) {
        h->max_outstanding_copy_on_read_data = 2 * shape->block_size;
    }
    if (shape->base_bytes) {
        strcpy(h->base_img, "base");
        h->bitmap_offset = at;
        at += h->bitmap_size = pages(1);
    }
    if (shape->chunk_size) {
        h->table_offset = at;
        at += h->table_size = shape->old ? FVD_SECTOR_BYTES : pages(1);
    }
    h->journal_offset = at;
    at += h->journal_size = shape->journal_size;
    if (shape->data_file) {
        strcpy(h->data_file, "data");
        at = 0;
    }
    h->data_offset = shape->data_offset = at;
    shape->capacity = at + data_capacity(s);
    if (shape->old) {
        h->has_ext = false;
        h->compatible = 0;
    } else if (s->wants & (FVD_STORY_SUMS | FVD_STORY_BITMAPS) || g_rand_int_range(s->rand, 0, 2)) {
        h->version = 2;
        h->incompatible = FVD_INCOMPATIBLE_REMAP;
        if (shape->base_bytes && (s->wants & FVD_STORY_SUMS || g_rand_int_range(s->rand, 0, 2))) {
            h->incompatible |= FVD_INCOMPATIBLE_BLOCK_SUMS;
        }
    }
    fvd_header_check(h, &error_abort);
}

void fvd_story_fill_base(const FvdStory *s, const uint8_t *gone, BlockDriverState *base)
{
    g_autofree uint8_t *bytes = g_malloc(s->shape.base_bytes);
    int64_t n = s->shape.base_bytes / SECTOR_MODEL_BYTES;

    sector_model_fill(bytes, SECTOR_MODEL_BASE, 0, n);
    for (int64_t i = 0; gone && i < n; i++) {
        if (gone[i]) {
            memset(bytes + i * SECTOR_MODEL_BYTES, GARBAGE_BYTE, SECTOR_MODEL_BYTES);
        }
    }
    test_ram_poke(base, 0, bytes, s->shape.base_bytes);
}

void fvd_disks_new(FvdStory *s, const char *prefix, FvdDisks *ret_disks)
{
    const FvdShape *shape = &s->shape;
    g_autofree char *base = g_strdup_printf("%sbase", prefix);
    g_autofree char *disk = g_strdup_printf("%sdisk", prefix);
    g_autofree char *data = g_strdup_printf("%sdata", prefix);
    int64_t regions = FVD_HEADER_REGION + 2 * pages(1) + shape->journal_size;
    int64_t length = shape->chunk_size ? 0 : shape->start_bytes;
    BlockDriverState **of_data = shape->data_file ? &ret_disks->data : &ret_disks->disk;

    *ret_disks = (FvdDisks){0};
    if (shape->data_file) {
        ret_disks->disk = s->wants & FVD_STORY_RESIZE
                              ? test_cut_new_file(disk, regions, regions + RESIZE_ROOM)
                              : test_cut_new(disk, regions);
    }
    *of_data = shape->device ? test_cut_new(shape->data_file ? data : disk, shape->capacity)
                             : test_cut_new_file(shape->data_file ? data : disk,
                                                 shape->data_offset + length, shape->capacity);
    if (shape->data_file) {
        test_cut_share_power(ret_disks->data, ret_disks->disk);
    }
    if (shape->base_bytes) {
        ret_disks->base = test_ram_new(base, shape->base_bytes);
        fvd_story_fill_base(s, NULL, ret_disks->base);
    }
}

void coroutine_fn fvd_disks_free(FvdDisks *disks)
{
    if (disks->disk) {
        bdrv_co_unref(disks->disk);
    }
    if (disks->data) {
        bdrv_co_unref(disks->data);
    }
    if (disks->base) {
        bdrv_co_unref(disks->base);
    }
    *disks = (FvdDisks){0};
}

/* A device holds something else; table and bitmap are as whoever makes an image writes them, the journal too. */
static void format(FvdStory *s, const FvdHeader *h)
{
    BlockDriverState *of_data = s->disks.data ? s->disks.data : s->disks.disk;
    int64_t end = h->journal_offset + h->journal_size;
    g_autofree uint8_t *meta = g_malloc0(end);

    if (s->shape.device) {
        g_autofree uint8_t *garbage = g_malloc(s->shape.capacity);

        memset(garbage, GARBAGE_BYTE, s->shape.capacity);
        test_cut_poke(of_data, 0, garbage, s->shape.capacity);
    }
    fvd_header_encode(h, meta);
    if (h->table_offset) {
        memset(meta + h->table_offset, 0xff, h->table_size);
    }
    test_cut_poke(s->disks.disk, 0, meta, end);
}

void fvd_story_make_image(FvdStory *s)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    choose_shape(s);
    make_header(s, h);
    fvd_disks_new(s, "", &s->disks);
    format(s, h);
}

/* ------------------------------------------------------------------------------------- as the bytes say */

typedef struct Peek {
    FvdHeader *h;
    BlockDriverState *data, *base;
    uint32_t *table;
    uint8_t *bitmap;
} Peek;

static void peek_sector(const Peek *p, int64_t sector, uint8_t *ret_buf)
{
    const FvdHeader *h = p->h;
    int64_t offset = sector * SECTOR_MODEL_BYTES, place = h->data_offset + offset;
    int64_t block = offset / h->block_size;

    if (offset >= h->virtual_disk_size) {
        memset(ret_buf, 0, SECTOR_MODEL_BYTES);
        return;
    }
    if (offset < h->base_img_size && !h->base_img_fully_prefetched &&
        !(p->bitmap[block / 8] >> block % 8 & 1)) {
        test_ram_peek(p->base, offset, ret_buf, SECTOR_MODEL_BYTES);
        return;
    }
    if (h->table_offset) {
        uint32_t entry = le32_to_cpu(p->table[offset / h->chunk_size]);

        if (entry == FVD_TABLE_EMPTY) {
            memset(ret_buf, 0, SECTOR_MODEL_BYTES);
            return;
        }
        g_assert_cmpuint(entry & FVD_TABLE_DIRTY, ==, 0); /* nothing has recorded it */
        place = h->data_offset + (int64_t)entry * h->chunk_size + offset % h->chunk_size;
    }
    test_cut_peek_stable(p->data, place, ret_buf, SECTOR_MODEL_BYTES);
}

void fvd_story_peek(FvdStory *s, const FvdDisks *disks, uint8_t *ret_buf)
{
    g_autofree uint8_t *head = g_malloc(FVD_HEADER_REGION);
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint32_t *table = NULL;
    g_autofree uint8_t *bitmap = NULL;
    Peek p = {.h = h, .data = disks->data ? disks->data : disks->disk, .base = disks->base};
    uint32_t used;

    test_cut_peek_stable(disks->disk, 0, head, FVD_HEADER_REGION);
    fvd_header_decode(head, FVD_HEADER_REGION, h, &error_abort);
    g_assert_cmpuint(h->clean_shutdown, !=, 0);
    if (!(s->wants & FVD_STORY_RESIZE)) { /* whose checksums are written after what they are of */
        g_assert_false(h->geometry_crc_wrong || h->state_crc_wrong);
    }
    p.table = table = g_malloc0(MAX(h->table_size, 1));
    p.bitmap = bitmap = g_malloc0(MAX(h->bitmap_size, 1));
    test_cut_peek_stable(disks->disk, h->table_offset, table, h->table_size);
    test_cut_peek_stable(disks->disk, h->bitmap_offset, bitmap, h->bitmap_size);
    if (h->table_offset) {
        fvd_table_check(table, fvd_header_chunks(h), fvd_header_data_chunks(h), &used,
                        &error_abort);
    }
    for (int64_t i = 0; i < s->shape.disk_bytes / SECTOR_MODEL_BYTES; i++) {
        peek_sector(&p, i, ret_buf + i * SECTOR_MODEL_BYTES);
    }
}
