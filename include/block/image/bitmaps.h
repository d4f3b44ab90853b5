/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bitmaps.h - persistent dirty bitmaps of images at rest; main thread */
#ifndef BLOCK_IMAGE_BITMAPS_H
#define BLOCK_IMAGE_BITMAPS_H

#include "block/graph/graph.h"

/*
 * image_check_bitmaps() - whether those of @source can be copied
 *
 * Return: 0; negative errno with @errp: its format has none, or, if not @skip_broken, one of them is inconsistent.
 */
int image_check_bitmaps(BlockDriverState *source, bool skip_broken, Error **errp);

/**
 * image_copy_bitmaps() - the persistent bitmaps of @source to @target, which shows the same, and is as large
 * @skipped: told of each that is inconsistent
 *
 * Context: main thread; nobody writes to either.  The bitmaps go into the target's image when that is closed.
 *
 * Return: 0; negative errno with @errp, and @target has some of them.
 */
int image_copy_bitmaps(BlockDriverState *source, BlockDriverState *target,
                       void (*skipped)(const char *name), Error **errp);

#endif
