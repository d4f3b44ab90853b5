/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From options to a graph: open, probe, reopen, create, backing chains.
 * Main thread; co_ functions are coroutines of the main AioContext.
 */
#ifndef BLOCK_OPEN_OPEN_H
#define BLOCK_OPEN_OPEN_H

#include "block/graph/graph.h"

/*
 * bdrv_co_open() - open the tree that @opts describe
 *
 * Return: the node, one reference for the caller; NULL with @errp set, nothing left behind.
 */
BlockDriverState *coroutine_fn bdrv_co_open(const BlockdevOptions *opts, Error **errp);

typedef struct BdrvOpenFileArgs {
    const char *filename;
    bool is_options;     /* the filename is options: "driver=raw,file.filename=disk.img" */
    const char *options; /* more of them, which win over what a "json:" name says; NULL: none.  With
                            * them the filename may be NULL */
    const char *format;  /* NULL: probe */
    const char *node_name; /* NULL: made up */
    bool read_only;
    bool cache_direct, cache_no_flush;
    bool discard_unmap;
    bool force_share;
    bool no_backing;
    bool check;   /* BDRV_O_CHECK: it is only to be checked, and may be damaged */
    bool no_io;   /* BDRV_O_NO_IO: it is only to be described */
    bool named;   /* BDRV_O_NAMED: by an image */
    bool has_aio; /* of the file at the end of the tree, if it is one */
    BlockdevAioOptions aio;
    BlockDriverState *backing; /* NULL: as the image says; counted by callee */
} BdrvOpenFileArgs;
/*
 * An image by its filename: a path, "nbd://...", "null-co://", "blkdebug:CONFIG:FILENAME", "json:{...}".  In options the driver may be left out where the
 * file name or, of a format, the first bytes tell it; the other @args hold for what the options do not say.
 */
BlockDriverState *coroutine_fn bdrv_co_open_file(const BdrvOpenFileArgs *args, Error **errp);

/*
 * How many images may name each other in a row: more than chains have, and not more than a coroutine's stack has
 * room for.  An image that names itself is opened again and again until somebody stops.
 */
#define BDRV_NAMED_DEPTH_MAX 100

/**
 * bdrv_co_open_named_file() - bdrv_co_open_file() of a file that an image names which is being opened
 *
 * Context: as that.
 *
 * Return: as that; NULL also for image number BDRV_NAMED_DEPTH_MAX in a row.
 */
BlockDriverState *coroutine_fn bdrv_co_open_named_file(const BdrvOpenFileArgs *args, Error **errp);

/* The node that @ref names, or makes; one reference for the caller. */
BlockDriverState *coroutine_fn bdrv_co_open_ref(const BlockdevRef *ref, Error **errp);

/*
 * For a driver's co_open: open or look up @ref and attach it as child @name (also sets bs->file for
 * "file").  NULL with @errp set.
 */
BdrvChild *coroutine_fn bdrv_open_child(BlockDriverState *bs, const BlockdevRef *ref,
                                        const char *name, BdrvChildRole role, Error **errp);
/* Backing of a format whose options have one; @ref NULL: bs->backing_file, if there is one. */
int coroutine_fn bdrv_open_backing(BlockDriverState *bs, const BlockdevRefOrNull *ref,
                                   Error **errp);

/*
 * A name in an image (backing file, data file) as a path: relative ones are relative to @image.  Names with a
 * colon are taken as they are.  Caller frees.
 */
char *bdrv_path_beside(const char *image, const char *name);

typedef struct BlockCreateArgs {
    const char *filename; /* a path; "file:..." too */
    int64_t size;         /* bytes; negative: that of the base image */
    const char *backing_file,
        *backing_format; /* NULL: none; probed.  The name relative to @filename */
    bool backing_unsafe; /* the base image need not be there; size is given */
    bool use_served; /* what a server has is used as it is, as a device is; else that is refused */
    bool has_backing_size; /* or its size is known, and it is not opened */
    int64_t backing_size;
    json_t
        *options; /* borrowed: strings by the names of create_options, or with dashes; NULL: none */
    BdrvProgress *progress; /* NULL: nobody looks */
} BlockCreateArgs;
/*
 * bdrv_co_create_image() - make an image file of @format, as qemu-img create does
 *
 * The protocol makes the file, then the format writes its image into it.  What was in the file is lost.
 *
 * Return: 0; negative errno with @errp set, and a file that was not there before is not there now.
 */
int coroutine_fn bdrv_co_create_image(const char *format, const BlockCreateArgs *args,
                                      Error **errp);

/**
 * bdrv_co_measure_image() - how large the file would be that bdrv_co_create_image() makes
 * @args: without a filename; the size is given, and backing files are not opened
 * @in:   what is copied into the image; NULL: nothing
 *
 * Context: coroutine, home AioContext of @in.
 *
 * Return: for qapi_free_BlockMeasureInfo(); NULL with @errp.
 */
BlockMeasureInfo *coroutine_fn bdrv_co_measure_image(const char *format,
                                                     const BlockCreateArgs *args,
                                                     BlockDriverState *in, Error **errp);

/* All or none, with the whole subgraph of each quiesced. */
int coroutine_fn bdrv_co_reopen_multiple(const BlockdevOptionsList *list, Error **errp);

/* blockdev-add / blockdev-del: nodes the monitor owns. */
int coroutine_fn bdrv_co_blockdev_add(const BlockdevOptions *opts, Error **errp);
int coroutine_fn bdrv_co_blockdev_del(const char *node_name, Error **errp);
/* At exit: drop every monitor-owned node. */
void coroutine_fn bdrv_co_close_all(void);

/* Formats keep their magic in the first sectors; QEMU looks at as much. */
#define BDRV_PROBE_BYTES 2048
/* The driver that is surest of an image that begins with the @len bytes at @buf; "raw" when nothing claims it. */
BlockDriver *bdrv_probe_bytes(const uint8_t *buf, size_t len, const char *filename);
/* Best driver for the image @file, by probing; "raw" when nothing claims it. */
BlockDriver *coroutine_fn bdrv_co_probe(BdrvChild *file, const char *filename, Error **errp);

#endif
