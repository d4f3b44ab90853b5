/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image.h - what the files of this room share: a qcow2 image seen as a file, not as a disk */
#ifndef BLOCK_DRIVERS_QCOW2_IMAGE_IMAGE_H
#define BLOCK_DRIVERS_QCOW2_IMAGE_IMAGE_H

#include "block/drivers/qcow2/qcow2-int.h"

/* load.c: from the file to memory; coroutines of the home AioContext. */
/* @damaged: as qcow2_header_decode_damaged() */
int coroutine_fn qcow2_co_load_header(BdrvChild *file, bool damaged, Qcow2Header *ret,
                                      Error **errp);
int coroutine_fn qcow2_co_load_l1(Qcow2State *s, Error **errp);
/* A table of the file, of whole sectors; what the file does not have is zeros.  For qemu_vfree(); NULL with *ret_error. */
void *coroutine_fn qcow2_co_load_table(BdrvChild *file, int64_t offset, int64_t bytes,
                                       int *ret_error);
/* As s->options and s->writable say; the old one goes.  Any context; nothing is in flight. */
void qcow2_new_l2_cache(Qcow2State *s);

/* create.c: BlockDriverImage.co_create, and what it knows */
int coroutine_fn qcow2_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                                 Error **errp);
extern const BdrvCreateOption qcow2_create_options[];

/*
 * preallocate.c: every cluster of this part of the disk, which nobody looks at yet, gets a place if it has nothing.  For
 * who holds the disk's size alone.
 */
int coroutine_fn qcow2_co_preallocate(Qcow2State *s, int64_t from, int64_t to,
                                      PreallocMode prealloc);

/* How an image of these options is divided; nothing is opened. */
int qcow2_create_geometry(const BlockdevCreateOptionsQcow2 *o, Qcow2Geometry *ret, Error **errp);

/* measure.c: BlockDriverImage.co_measure */
BlockMeasureInfo *coroutine_fn qcow2_co_measure(const BlockdevCreateOptions *opts,
                                                BlockDriverState *in, BdrvProgress *progress,
                                                Error **errp);

/* amend.c: BlockDriverImage.co_amend, .co_change_backing_file */
int coroutine_fn qcow2_co_amend(BlockDriverState *bs, json_t *options, bool force,
                                BdrvProgress *progress, Error **errp);
int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs, const char *file,
                                              const char *format, Error **errp);
extern const BdrvCreateOption qcow2_amend_options[];

/* info.c */
ImageInfoSpecific *coroutine_fn qcow2_co_get_specific_info(BlockDriverState *bs, Error **errp);

#endif
