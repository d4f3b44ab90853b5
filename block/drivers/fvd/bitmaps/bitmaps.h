/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bitmaps.h - dirty bitmaps that an FVD image keeps; what the driver knows of it */
#ifndef BLOCK_DRIVERS_FVD_BITMAPS_BITMAPS_H
#define BLOCK_DRIVERS_FVD_BITMAPS_BITMAPS_H

#include "block/drivers/fvd/bitmaps/directory.h"
#include "block/graph/graph.h"

struct FvdState;

/*
 * fvd_co_bitmaps_open() - the directory, if the header names one; a damaged one is warned of, and is as none
 *
 * Home AioContext; after fvd_co_load(), before a recovery.  Return: 0; negative errno with an Error: it cannot be read.
 */
int coroutine_fn fvd_co_bitmaps_open(struct FvdState *s, Error **errp);

/* fvd_bitmaps_reopened() - the node's flags are new ones; main thread */
void fvd_bitmaps_reopened(struct FvdState *s);

/*
 * fvd_bitmaps_gather() - what is to be stored now, with its bits; NULL: nothing is, or the file has it as it is
 *
 * Main thread, quiesced.
 */
FvdBitmapDir *fvd_bitmaps_gather(struct FvdState *s);

/* fvd_bitmaps_stored() - what was gathered is in the file, if s->bitmaps_valid; main thread, quiesced still */
void fvd_bitmaps_stored(struct FvdState *s);

/**
 * fvd_co_bitmaps_store() - the bitmaps into the image, durably; the header in memory names them, and is to be written
 * @dir:   taken over
 * @epoch: the header's, when it is written
 *
 * Context: home AioContext, quiesced; all entries are in memory's table, and nobody records any more.  Yields.
 *
 * Return: 0, also if they could not be stored, and the header names none; -EIO, the image has failed.
 */
int coroutine_fn fvd_co_bitmaps_store(struct FvdState *s, FvdBitmapDir *dir, uint64_t epoch);

/* The chunks that the header's area lies in: from first to end; UINT32_MAX and 0 where there is none. */
uint32_t fvd_bitmaps_first(const struct FvdState *s);
uint32_t fvd_bitmaps_end(const struct FvdState *s);

/* fvd_bitmaps_info() - main thread */
FvdBitmapInfoList *fvd_bitmaps_info(const struct FvdState *s);

extern const BlockDriverBitmaps fvd_bitmaps;

#endif
