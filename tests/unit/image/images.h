/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests of the image room share: backends, an operation that is interrupted, what a guest would see. */
#ifndef TESTS_UNIT_IMAGE_IMAGES_H
#define TESTS_UNIT_IMAGE_IMAGES_H

#include "block/image/image.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-ram.h"

/* Takes the caller's reference of @bs.  Readable, and with @writable all else, sharing all. */
BlockBackend *images_blk(BlockDriverState *bs, bool writable);

/* A watch that follows progress, and says "cancelled" from its @cancel_at-th question on (0: never). */
typedef struct ImagesWatch {
    unsigned asked, cancel_at;
    int64_t done, total;
} ImagesWatch;
ImageWatch images_watch(ImagesWatch *watch);

/* The whole image as a guest reads it; g_free() it. */
uint8_t *coroutine_fn images_co_read(BlockBackend *blk);
/* Random runs of data, zeros and nothing over @blk. */
void coroutine_fn images_co_scribble(BlockBackend *blk, GRand *r, int writes);

#endif
