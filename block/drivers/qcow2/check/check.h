/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check.h - the check of an image, for the driver; the chapter is at the head of check.c */
#ifndef BLOCK_DRIVERS_QCOW2_CHECK_CHECK_H
#define BLOCK_DRIVERS_QCOW2_CHECK_CHECK_H

#include "block/drivers/qcow2/qcow2-int.h"

/* BlockDriverImage.co_check: of a node that was opened with BDRV_O_CHECK. */
int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *result, unsigned fix,
                                Error **errp);

/*
 * qcow2_co_repair_dirty() - the refcounts of an image whose dirty bit is set are made right, and the bit is cleared
 *
 * What is found is told as who checks the image would be told.
 *
 * Context: coroutine, home AioContext; the file can be written to.  Reads may be under way, nothing is dirty, and no
 *          refcount is in memory.
 *
 * Return: 0, s->header and s->l1 are what the file has; -EACCES, damage is left; or negative errno.
 */
int coroutine_fn qcow2_co_repair_dirty(Qcow2State *s, Error **errp);

#endif
