/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan.h - where the regions of a new FVD image are
 *
 * Pure code: no I/O, any thread, nothing yields, nothing is kept.
 */
#ifndef BLOCK_DRIVERS_FVD_LAYOUT_PLAN_H
#define BLOCK_DRIVERS_FVD_LAYOUT_PLAN_H

#include "block/drivers/fvd/layout/header.h"

/*
 * A new image has room in its table and bitmap for a disk of so many times its size, so that it can grow in
 * place: entries that are not in use are holes in the file.  A page of the table is a thousand chunks, and the
 * least there is.
 */
#define FVD_PLAN_GROWTH     4
#define FVD_PLAN_REGION_MIN FVD_REGION_ALIGN

/* Chunks begin at a multiple of their size, but of no more than this: file systems' extents do not care. */
#define FVD_PLAN_DATA_ALIGN_MAX (1 * MiB)

/**
 * fvd_plan() - place bitmap, table, journal and data behind the header, in this order
 * @header: virtual_disk_size, base_img_size, block_size, chunk_size (0: no table), journal_size and data_file are
 *          as they are to be; positions and sizes of regions are set here
 *
 * There is always a bitmap: an image that has no base may get one.  The positions are multiples of 4 KiB.
 *
 * Return: 0, and the header passes fvd_header_check(); -EINVAL, an Error names an option of image creation
 * and its limit.
 */
int fvd_plan(FvdHeader *header, Error **errp);

#endif
