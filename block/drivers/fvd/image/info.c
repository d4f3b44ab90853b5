/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is special to an FVD image, for people and programs that ask. */
#include "block/drivers/fvd/fvd-int.h"
#include "block/drivers/fvd/image/image.h"
#include "util/osdep.h"

static void add_feature(strList ***tail, bool on, const char *name)
{
    if (on) {
        QAPI_LIST_APPEND(*tail, g_strdup(name));
    }
}

static strList *feature_names(const FvdHeader *h)
{
    strList *list = NULL, **tail = &list;

    add_feature(&tail, h->incompatible & FVD_INCOMPATIBLE_BLOCK_SUMS, "block-sums");
    add_feature(&tail, h->incompatible & FVD_INCOMPATIBLE_REMAP, "remap");
    add_feature(&tail, h->compatible & FVD_COMPATIBLE_TRAILERS, "trailers");
    add_feature(&tail, h->autoclear & FVD_AUTOCLEAR_BITMAPS, "bitmaps");
    return list;
}

static int64_t allocated_chunks(const FvdState *s)
{
    const uint32_t *table = fvd_map_table(s->map);
    int64_t n = 0;

    for (int64_t i = 0; i < fvd_header_chunks(&s->header); i++) {
        n += table[i] != FVD_TABLE_EMPTY; /* the same in either order of bytes */
    }
    return n;
}

static void describe_prefetch(const FvdHeader *h, ImageInfoSpecificFvd *info)
{
    info->copy_on_read = h->copy_on_read != 0;
    info->max_outstanding_copy_on_read_data = h->max_outstanding_copy_on_read_data;
    info->prefetch_start_delay = h->prefetch_start_delay;
    info->num_prefetch_slots = h->num_prefetch_slots;
    info->bytes_per_prefetch = h->bytes_per_prefetch;
    info->prefetch_min_read_throughput = h->prefetch_min_read_throughput;
    info->prefetch_max_read_throughput = h->prefetch_max_read_throughput;
    info->prefetch_min_write_throughput = h->prefetch_min_write_throughput;
    info->prefetch_max_write_throughput = h->prefetch_max_write_throughput;
    info->prefetch_throttle_time = h->prefetch_throttle_time;
    info->prefetch_read_throughput_measure_time = h->prefetch_read_throughput_measure_time;
    info->prefetch_write_throughput_measure_time = h->prefetch_write_throughput_measure_time;
}

static char *text_or_none(const char *text)
{
    return text[0] ? g_strdup(text) : NULL;
}

static void describe_layout(const FvdState *s, ImageInfoSpecificFvd *info)
{
    const FvdHeader *h = &s->header;

    info->has_chunk_size = fvd_header_has_table(h);
    info->chunk_size = h->chunk_size;
    info->has_block_size = fvd_header_has_bitmap(h);
    info->block_size = h->block_size;
    info->has_journal_size = fvd_header_has_journal(h);
    info->journal_size = h->journal_size;
    info->has_allocated_chunks = fvd_header_has_table(h) && s->map;
    info->allocated_chunks = info->has_allocated_chunks ? allocated_chunks(s) : 0;
    info->data_file = text_or_none(h->data_file);
    info->data_file_fmt = text_or_none(h->data_file_fmt);
    info->has_backing_size = h->base_img[0] != 0;
    info->backing_size = h->base_img_size;
    info->storage_grow_unit = h->storage_grow_unit;
    info->add_storage_cmd = text_or_none(h->add_storage_cmd);
}

ImageInfoSpecific *coroutine_fn fvd_co_get_specific_info(BlockDriverState *bs, Error **errp)
{
    const FvdState *s = bs->opaque;
    ImageInfoSpecific *specific = g_new0(ImageInfoSpecific, 1);
    ImageInfoSpecificFvd *info = g_new0(ImageInfoSpecificFvd, 1);

    info->version = s->header.version == 1 ? BLOCKDEV_FVD_VERSION_V1 : BLOCKDEV_FVD_VERSION_V2;
    info->clean = s->header.clean_shutdown && !s->recovery_due;
    info->features = feature_names(&s->header);
    info->need_zero_init = s->header.need_zero_init != 0;
    info->fully_prefetched = s->header.base_img_fully_prefetched != 0;
    describe_layout(s, info);
    describe_prefetch(&s->header, info);
    info->bitmaps = fvd_bitmaps_info(s);
    specific->type = IMAGE_INFO_SPECIFIC_KIND_FVD;
    specific->u.fvd.data = info;
    return specific;
}
