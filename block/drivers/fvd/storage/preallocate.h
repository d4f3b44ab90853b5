/* SPDX-License-Identifier: GPL-2.0-or-later */
/* preallocate.h - places for what a disk gains; the chapter is at the head of preallocate.c */
#ifndef BLOCK_DRIVERS_FVD_STORAGE_PREALLOCATE_H
#define BLOCK_DRIVERS_FVD_STORAGE_PREALLOCATE_H

#include "block/drivers/fvd/fvd-int.h"

/* Entries of the table, from first_entry on, that are the chunks from first_chunk on. */
typedef struct FvdPrealloc {
    int64_t first_entry, n;
    int64_t first_chunk;
} FvdPrealloc;

/**
 * fvd_co_preallocate() - the space that a larger disk needs at once
 * @next: the header of the larger disk
 * @ret:  what its table is to say, before the header has its size; n is 0 with PREALLOC_MODE_OFF
 *
 * Context: coroutine, home AioContext; the image is settled, and nobody is at work in it.  Yields.
 *
 * Return: 0, the space is there, durably, and reads as zeros; negative errno with an Error: the image is as it was.
 */
int coroutine_fn fvd_co_preallocate(FvdState *s, const FvdHeader *next, PreallocMode mode,
                                    FvdPrealloc *ret, Error **errp);

#endif
