/* SPDX-License-Identifier: GPL-2.0-or-later */
/* luks-int.h - what the files of the room tell each other */
#ifndef BLOCK_DRIVERS_LUKS_LUKS_INT_H
#define BLOCK_DRIVERS_LUKS_LUKS_INT_H

#include "block/encrypt/encryption.h"
#include "block/graph/graph.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* A request's encrypted bytes, at most; the io room cuts longer ones. */
#define LUKS_BOUNCE_BYTES     (1 * MiB)
/* Those of all requests of a node; who comes then waits.  Enough for any queue of a disk to be full. */
#define LUKS_BOUNCE_ALL_BYTES (16 * MiB)

typedef struct LuksState {
    /* Fixed while open. */
    BlockEncryption *encryption;
    BdrvChild *header; /* the file, unless that has the payload alone */
    int64_t payload_offset;

    /* Atomic: whoever opens or amends the image does not want to any more. */
    bool cancelled;

    /* Under lock: a read-only node may be entered from any AioContext. */
    CoMutex lock;
    int64_t bounce_bytes;
    CoQueue bounce_queue;
} LuksState;

/* data.c */
int coroutine_fn luks_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int coroutine_fn luks_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
int64_t coroutine_fn luks_co_getlength(BlockDriverState *bs);
int coroutine_fn luks_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);

/* luks.c: the header of an open image, as encryption_co_...() wants it; @c is a BdrvChild. */
EncryptionFile luks_header_file(BdrvChild *c);

/* image.c */
int luks_image_probe(const uint8_t *buf, size_t len, const char *filename);
int coroutine_fn luks_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                                Error **errp);
ImageInfoSpecific *coroutine_fn luks_co_get_specific_info(BlockDriverState *bs, Error **errp);
BlockMeasureInfo *coroutine_fn luks_co_measure(const BlockdevCreateOptions *opts,
                                               BlockDriverState *in, BdrvProgress *progress,
                                               Error **errp);
int coroutine_fn luks_co_amend(BlockDriverState *bs, json_t *options, bool force,
                               BdrvProgress *progress, Error **errp);
extern const BdrvCreateOption luks_create_options[], luks_amend_options[];

#endif
