/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Map: which layer of an image decides what a range shows, and where that is stored.
 *
 *     depth 0  overlay   |  data  |            | zeros |
 *     depth 1  backing            |  data  |   |       |
 *     entries            |  d 0   |  d 1   | * |  d 0  |      *: nobody has it: the last layer, not present
 *
 * IM1  A layer is asked only for what all layers above it have left to it, so that an entry ends where any of
 *      their answers ends.
 * IM2  Behind the end of its backing file a layer that leaves a range to it shows zeros by itself: the entry has
 *      the layer's depth, and is not present.
 * IM3  Behind the end of an image, up to the end of its last sector, there are zeros, stored where the file would go on:
 *      images of whole sectors are what readers of maps expect.  Where requests are of whole sectors the last one is of
 *      one kind.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/image/image-int.h"
#include "util/osdep.h"

static BlockDriverState *layer_below(BlockDriverState *bs)
{
    BlockDriverState *below = child_bs(bdrv_skip_filters(bs)->backing);

    return below ? bdrv_skip_filters(below) : NULL;
}

/* One entry that begins at @offset.  Return: 0, or negative errno. */
static int coroutine_fn entry_at(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 ImageMapEntry *ret_entry)
{
    unsigned depth = 0;
    int64_t pnum, map = 0;
    BlockDriverState *file = NULL, *below;
    int status;

    for (;;) {
        below = layer_below(bs);
        status = bdrv_co_block_status(bs, offset, bytes, &pnum, &map, &file);
        if (status < 0) {
            return status;
        }
        if (pnum == 0) {
            return -EIO; /* it has become shorter */
        }
        bytes = MIN(bytes, pnum); /* IM1 */
        if ((status & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA)) || !below) {
            break;
        }
        int64_t length = bdrv_getlength(below);

        if (length < 0) {
            return length;
        }
        if (offset >= length) { /* IM2 */
            status |= BDRV_BLOCK_ZERO;
            break;
        }
        bytes = MIN(bytes, length - offset);
        bs = below;
        depth++;
    }
    bool has_offset = status & BDRV_BLOCK_OFFSET_VALID;

    *ret_entry = (ImageMapEntry){
        .start = offset,
        .length = bytes,
        .depth = depth,
        .present = status & BDRV_BLOCK_ALLOCATED,
        .zero = status & BDRV_BLOCK_ZERO,
        .data = status & BDRV_BLOCK_DATA,
        .compressed = status & BDRV_BLOCK_COMPRESSED,
        .has_offset = has_offset,
        .offset = has_offset ? map : 0,
        .filename = has_offset && file ? file->filename : NULL,
    };
    return 0;
}

/* Of what is below, too: a format may take what its file does not. */
static uint32_t request_alignment(const BlockDriverState *bs)
{
    uint32_t align = 1;

    for (; bs; bs = child_bs(bs->file)) {
        align = MAX(align, bs->bl.request_alignment);
    }
    return align;
}

/* IM3 */
static int coroutine_fn entry_behind(BlockDriverState *bs, int64_t length, int64_t offset,
                                     int64_t bytes, ImageMapEntry *ret_entry)
{
    ImageMapEntry last;
    int ret = entry_at(bs, length - 1, 1, &last);

    if (ret < 0) {
        return ret;
    }
    *ret_entry = last;
    ret_entry->start = offset;
    ret_entry->length = bytes;
    ret_entry->offset += last.has_offset ? offset - last.start : 0;
    if (request_alignment(bs) < BDRV_SECTOR_SIZE) {
        ret_entry->depth = 0;
        ret_entry->present = ret_entry->zero = true;
        ret_entry->data = false;
    }
    return 0;
}

static bool is_continued_by(const ImageMapEntry *e, const ImageMapEntry *next)
{
    return e->length > 0 && e->start + e->length == next->start && e->depth == next->depth &&
           e->present == next->present && e->zero == next->zero && e->data == next->data &&
           e->compressed == next->compressed && e->has_offset == next->has_offset &&
           (!e->has_offset ||
            (e->offset + e->length == next->offset && e->filename == next->filename));
}

int coroutine_fn image_co_map(const ImageMapArgs *args, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(args->image));
    int64_t length = blk_getlength(args->image);
    ImageMapEntry entry = {.start = args->start}, next;
    int64_t offset = args->start, whole, end;

    if (length < 0) {
        error_setg_errno(errp, -length, "Failed to get size");
        return length;
    }
    whole = ROUND_UP(length, BDRV_SECTOR_SIZE); /* IM3 */
    end = args->length < whole - offset ? offset + args->length : whole;
    while (offset < end) {
        int ret;

        if (image_is_cancelled(&args->watch)) {
            return image_cancelled(errp);
        }
        ret = offset < length ? entry_at(bs, offset, MIN(end, length) - offset, &next)
                              : entry_behind(bs, length, offset, end - offset, &next);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Failed to read image metadata");
            return ret;
        }
        if (is_continued_by(&entry, &next)) {
            entry.length += next.length;
        } else {
            if (entry.length > 0) {
                args->emit(args->opaque, &entry);
            }
            entry = next;
        }
        offset += next.length;
        image_progress(&args->watch, offset - args->start, end - args->start);
    }
    args->emit(args->opaque, &entry);
    return 0;
}
