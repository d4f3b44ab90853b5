/* SPDX-License-Identifier: GPL-2.0-or-later */
/* info.h - what there is to say about an image: for query-block and for tools.  Main thread. */
#ifndef BLOCK_IMAGE_INFO_H
#define BLOCK_IMAGE_INFO_H

#include "block/graph/graph.h"
#include "qapi/qapi-types-block-query.h"

/**
 * image_co_info() - describe the image of @bs
 * @flat: not its backing images
 *
 * Context: coroutine, main thread; asks the drivers in the home AioContext of each node.  What a driver cannot
 * tell is left out.
 *
 * Return: for qapi_free_ImageInfo().
 */
ImageInfo *coroutine_fn image_co_info(BlockDriverState *bs, bool flat);

/**
 * image_name() - what a user would type to open @bs: a path, a URI, or "json:{...}" where neither says all
 *
 * What does not change the data (cache, aio, node names, ...) is left out.  To be g_freed.
 */
char *image_name(BlockDriverState *bs);

#endif
