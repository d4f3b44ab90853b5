/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image by its file name: what people type, turned into options.
 *
 * The name says which protocol reads it (name.c), or is options already, with gaps (loose.c).  The format is what
 * the caller says, or what the first bytes say (probing).
 */
#include <errno.h>
#include "block/io/io.h"
#include "block/open/internal.h"
#include "util/cutils.h"
#include "util/osdep.h"

static json_t *generic_json(const BdrvOpenFileArgs *args)
{
    json_t *o =
        json_pack("{s:b, s:b, s:{s:b, s:b}, s:s}", "read-only", args->read_only, "force-share",
                  args->force_share, "cache", "direct", args->cache_direct, "no-flush",
                  args->cache_no_flush, "discard", args->discard_unmap ? "unmap" : "ignore");
    return o;
}

static BlockDriverState *coroutine_fn open_json(json_t *json, int flags, Error **errp)
{
    BlockdevOptions *opts = qapi_BlockdevOptions_from_json(json, errp);
    OpenParent none = {.flags = flags};
    BlockDriverState *bs;

    json_decref(json);
    if (!opts) {
        return NULL;
    }
    bs = bdrv_open_node(opts, &none, errp);
    qapi_free_BlockdevOptions(opts);
    return bs;
}

BlockDriverState *coroutine_fn bdrv_open_protocol_file(const BdrvOpenFileArgs *args, Error **errp)
{
    json_t *o = generic_json(args);

    if (!args->read_only) {
        json_object_set_new(o, "discard", json_string("unmap"));
    }
    if (bdrv_fill_protocol(o, args, errp) < 0) {
        json_decref(o);
        return NULL;
    }
    return open_json(o, 0, errp);
}

BlockDriver *bdrv_probe_bytes(const uint8_t *buf, size_t len, const char *filename)
{
    BlockDriver *best = bdrv_find_format("raw");
    int best_score = 0;

    for (BlockDriver *drv = bdrv_next_driver(NULL); drv; drv = bdrv_next_driver(drv)) {
        int score = drv->image && drv->image->probe ? drv->image->probe(buf, len, filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = drv;
        }
    }
    return best;
}

BlockDriver *coroutine_fn bdrv_probe_node(BlockDriverState *bs, const char *filename, Error **errp)
{
    uint8_t *buf = qemu_blockalign(bs, BDRV_PROBE_BYTES);
    int64_t len = MIN(BDRV_PROBE_BYTES, bdrv_getlength(bs));
    BdrvChild child = {.bs = bs, .perm = BLK_PERM_CONSISTENT_READ, .shared_perm = BLK_PERM_ALL};
    BlockDriver *drv = NULL;
    int ret = len > 0 ? bdrv_co_pread(&child, 0, len, buf, 0) : 0;

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read image '%s' for determining its format",
                         filename);
    } else {
        drv = bdrv_probe_bytes(buf, MAX(len, 0), filename);
    }
    qemu_vfree(buf);
    return drv;
}

BlockDriver *coroutine_fn bdrv_co_probe(BdrvChild *file, const char *filename, Error **errp)
{
    return bdrv_probe_node(file->bs, filename, errp);
}

void bdrv_note_guess(BlockDriverState *bs)
{
    bs->format_guessed = strcmp(bs->drv->format_name, "raw") == 0;
}

static BlockDriverState *coroutine_fn open_format(const BdrvOpenFileArgs *args, const char *format,
                                                  BlockDriverState *file, Error **errp)
{
    BlockDriver *drv = bdrv_find_format(format);
    json_t *o;

    if (!drv) {
        error_setg(errp, "Unknown driver '%s'", format);
        return NULL;
    }
    o = generic_json(args);
    json_object_set_new(o, "driver", json_string(format));
    json_object_set_new(o, "file", json_string(file->node_name));
    if (args->node_name) {
        json_object_set_new(o, "node-name", json_string(args->node_name));
    }
    if (drv->supports_backing && args->backing) {
        json_object_set_new(o, "backing", json_string(args->backing->node_name));
    } else if (drv->supports_backing && args->no_backing) {
        json_object_set_new(o, "backing", json_null());
    } else if (args->backing) {
        error_setg(errp, "Format driver '%s' does not support backing files", format);
        json_decref(o);
        return NULL;
    }
    return open_json(o,
                     (args->check ? BDRV_O_CHECK : 0) | (args->no_io ? BDRV_O_NO_IO : 0) |
                         (args->named ? BDRV_O_NAMED : 0),
                     errp);
}

BlockDriverState *coroutine_fn bdrv_co_open_file(const BdrvOpenFileArgs *args, Error **errp)
{
    BlockDriverState *file, *bs = NULL;
    const char *format = args->format;
    BlockDriver *drv;

    if (args->is_options || args->options || bdrv_name_is_nested(args->filename)) {
        return bdrv_open_loose(args, errp);
    }
    drv = format ? bdrv_find_format(format) : NULL;
    if (drv && drv->is_protocol) {
        error_setg(errp, "'%s' is a protocol, not an image format", format);
        return NULL;
    }
    file = bdrv_open_protocol_file(args, errp);
    if (!file) {
        return NULL;
    }
    if (!format) {
        drv = bdrv_probe_node(file, args->filename, errp);
        format = drv ? drv->format_name : NULL;
    }
    if (format) {
        bs = open_format(args, format, file, errp);
    }
    if (bs && !args->format) {
        bdrv_note_guess(bs);
    }
    bdrv_co_unref(file);
    return bs;
}
