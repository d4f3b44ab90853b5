/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is special to a qcow2 image, for people and programs that ask. */
#include "block/drivers/qcow2/image/image.h"
#include "util/osdep.h"

ImageInfoSpecific *coroutine_fn qcow2_co_get_specific_info(BlockDriverState *bs, Error **errp)
{
    const Qcow2State *s = bs->opaque;
    const Qcow2Header *h = &s->header;
    ImageInfoSpecific *specific = g_new0(ImageInfoSpecific, 1);
    ImageInfoSpecificQCow2 *info = g_new0(ImageInfoSpecificQCow2, 1);

    info->compat = g_strdup(h->version == 2 ? "0.10" : "1.1");
    info->refcount_bits = INT64_C(1) << h->refcount_order;
    info->compression_type =
        h->compression_type ? QCOW2_COMPRESSION_TYPE_ZSTD : QCOW2_COMPRESSION_TYPE_ZLIB;
    if (h->version >= 3) {
        info->has_lazy_refcounts = info->has_corrupt = info->has_extended_l2 = true;
        info->lazy_refcounts = h->compatible & QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
        info->corrupt = h->incompatible & QCOW2_INCOMPATIBLE_CORRUPT;
        info->extended_l2 = h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2;
        info->data_file = g_strdup(h->data_file);
        info->has_data_file_raw = qcow2_header_has_data_file(h);
        info->data_file_raw = qcow2_header_has_raw_data_file(h);
    }
    specific->type = IMAGE_INFO_SPECIFIC_KIND_QCOW2;
    specific->u.qcow2.data = info;
    return specific;
}
