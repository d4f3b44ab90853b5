/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image.h - what the files of this room share: an FVD image seen as a file, not as a disk */
#ifndef BLOCK_DRIVERS_FVD_IMAGE_IMAGE_H
#define BLOCK_DRIVERS_FVD_IMAGE_IMAGE_H

#include "block/drivers/fvd/layout/header.h"
#include "block/graph/graph.h"

/* Options of a new image that can be changed later, too. */
/* clang-format off */
#define FVD_OPTIONS_OF_BOTH \
    {"copy_on_read", "bool (on/off)", "Keep what is read from the base image"}, \
    {"max_outstanding_copy_on_read_data", "size", "Bytes read and not yet kept, at most"}, \
    {"prefetch_start_delay", "int", "Seconds until prefetching begins; negative: never"}, \
    {"num_prefetch_slots", "num", "Requests of prefetching at once"}, \
    {"bytes_per_prefetch", "size", "Bytes of each"}, \
    {"prefetch_min_read_throughput", "num", "KB/s below which prefetching steps back"}, \
    {"prefetch_max_read_throughput", "num", "KB/s that prefetching does not exceed"}, \
    {"prefetch_min_write_throughput", "num", "KB/s below which prefetching steps back"}, \
    {"prefetch_max_write_throughput", "num", "KB/s that prefetching does not exceed"}, \
    {"prefetch_throttle_time", "num", "Milliseconds that prefetching steps back for, at most"}, \
    {"prefetch_read_throughput_measure_time", "num", "Milliseconds for which it is measured"}, \
    {"prefetch_write_throughput_measure_time", "num", "Milliseconds for which it is measured"}, \
    {"storage_grow_unit", "size", "Bytes by which the file grows"}, \
    {"add_storage_cmd", "str", "A command for growing the storage; kept, and never run"}
/* clang-format on */

/* create.c: BlockDriverImage.co_create, and what it knows */
int coroutine_fn fvd_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                               Error **errp);
extern const BdrvCreateOption fvd_create_options[];
/* What the options say of the header, but for the data file and what follows from the base image. */
int fvd_set_options(FvdHeader *h, const BlockdevCreateOptionsFvd *o, Error **errp);
/* Do those of the base image fit each other? */
int fvd_check_base_options(const BlockdevCreateOptionsFvd *o, Error **errp);

/* measure.c */
BlockMeasureInfo *coroutine_fn fvd_co_measure(const BlockdevCreateOptions *opts,
                                              BlockDriverState *in, BdrvProgress *progress,
                                              Error **errp);

/* info.c, amend.c: roles of BlockDriverImage */
ImageInfoSpecific *coroutine_fn fvd_co_get_specific_info(BlockDriverState *bs, Error **errp);
int coroutine_fn fvd_co_amend(BlockDriverState *bs, json_t *options, bool force,
                              BdrvProgress *progress, Error **errp);
extern const BdrvCreateOption fvd_amend_options[];
int coroutine_fn fvd_co_change_backing_file(BlockDriverState *bs, const char *file,
                                            const char *format, Error **errp);
int coroutine_fn fvd_co_make_empty(BlockDriverState *bs, Error **errp);

/* check.c: BlockDriverImage.co_check and co_print_journal */
int coroutine_fn fvd_co_check(BlockDriverState *bs, BdrvCheckResult *result, unsigned fix,
                              Error **errp);
int coroutine_fn fvd_co_print_journal(BlockDriverState *bs,
                                      void (*print)(void *opaque, const char *line), void *opaque,
                                      Error **errp);

/*
 * fvd_co_zero_blocks() - which blocks of a base image are zeros
 * @base:  read through an edge of its own; main thread
 * @h:     base_img_size, block_size
 *
 * Reads what is not known to be zeros without reading.
 *
 * Return: 0, *ret_bitmap has fvd_header_bitmap_bytes() bytes, as in the image, to be g_freed; *ret_blocks bits are
 * set; negative errno with an Error, -ECANCELED among them.
 */
int coroutine_fn fvd_co_zero_blocks(BlockDriverState *base, const FvdHeader *h,
                                    BdrvProgress *progress, uint8_t **ret_bitmap,
                                    int64_t *ret_blocks, Error **errp);

/* fvd_set_prefetch() - what is given about copy-on-read and prefetching; -EINVAL naming an option and its limit */
int fvd_set_prefetch(FvdHeader *h, const BlockdevCreateOptionsFvd *o, Error **errp);

/* fvd_set_name() - a text into a field of @size bytes; -EINVAL naming @option and the limit; NULL is empty */
int fvd_set_name(char *field, size_t size, const char *option, const char *text, Error **errp);

#endif
