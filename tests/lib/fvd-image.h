/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fvd-image: FVD images of any geometry, made byte by byte, without the driver.
 *
 *     0        8 KiB
 *     | header | bitmap | table | journal | chunks
 *
 * Main thread.
 */
#ifndef TESTS_LIB_FVD_IMAGE_H
#define TESTS_LIB_FVD_IMAGE_H

#include "block/drivers/fvd/layout/header.h"
#include "block/graph/graph.h"

/* What is 0 is as fvd_header_init() has it, or absent. */
typedef struct FvdImageSpec {
    int64_t size;
    int64_t chunk_size, block_size, journal_size;
    int64_t base_size; /* > 0: there is a bitmap */
    const char *base_img;
    const char *data_file;
    uint64_t incompatible; /* FVD_INCOMPATIBLE_* */
    int64_t grow_unit;
    int64_t slack; /* entries of the table beyond those that are needed */
    bool no_table, no_journal;
    bool copy_on_read;
    int64_t max_outstanding; /* of copy-on-read */
} FvdImageSpec;

/* The header of such an image, which passes fvd_header_check(); @spec must make sense. */
void fvd_image_header(const FvdImageSpec *spec, FvdHeader *ret_header);
/* Bytes before its first chunk. */
int64_t fvd_image_data_offset(const FvdImageSpec *spec);
/* Write header, empty bitmap, table and journal to @file, durably. */
void coroutine_fn fvd_image_co_make(BlockDriverState *file, const FvdImageSpec *spec);
/* The same in a new file of the host. */
void fvd_image_make_file(const char *path, const FvdImageSpec *spec);
/* The header as it is in @file now. */
void coroutine_fn fvd_image_co_header(BlockDriverState *file, FvdHeader *ret_header);

#endif
