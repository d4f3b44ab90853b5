/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raw-image.h - an FVD image as it lies in its file; for a check, which cannot rely on anything
 *
 * Coroutines in the home AioContext of the node; nobody else uses it.  Memory: table, bitmap and journal, whose
 * limits are in layout/header.h.
 */
#ifndef BLOCK_DRIVERS_FVD_IMAGE_RAW_IMAGE_H
#define BLOCK_DRIVERS_FVD_IMAGE_RAW_IMAGE_H

#include "block/drivers/fvd/layout/jrecord.h"
#include "block/graph/graph.h"

typedef struct FvdRawImage {
    BlockDriverState *bs;
    BdrvChild *file, *data; /* the same where there is no data file */
    int64_t file_length, data_length;
    FvdHeader header;
    uint32_t *table; /* as on disk; NULL: not loaded, and one byte at least if it is */
    uint8_t *bitmap, *journal;
    uint32_t journal_sectors;
} FvdRawImage;

/* Its header, decoded; for fvd_raw_close() in any case.  Regions may be outside the file still. */
int coroutine_fn fvd_raw_open(FvdRawImage *image, BlockDriverState *bs, Error **errp);
/* Table and bitmap; then the journal.  fvd_header_check_file() has been asked. */
int coroutine_fn fvd_raw_load_maps(FvdRawImage *image, Error **errp);
int coroutine_fn fvd_raw_load_journal(FvdRawImage *image, Error **errp);
void fvd_raw_close(FvdRawImage *image);

/* The CRC32C of a block of the disk, through the table in memory. */
int coroutine_fn fvd_raw_block_crc(FvdRawImage *image, uint64_t block, uint32_t *ret_crc);
/* Chunk @to of the data file becomes what @from is; the file grows for it. */
int coroutine_fn fvd_raw_copy_chunk(FvdRawImage *image, uint32_t from, uint32_t to, Error **errp);
/* Durably: data, then table and bitmap, then the state in the header. */
int coroutine_fn fvd_raw_store(FvdRawImage *image, Error **errp);

#endif
