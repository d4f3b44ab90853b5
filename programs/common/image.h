/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image.h - images by their names, as all tools open them.  Main thread. */
#ifndef COMMON_IMAGE_H
#define COMMON_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "block/backend/backend.h"
#include "util/error.h"

typedef struct ImgImage {
    const char *filename; /* NULL until it is known; with options it may stay so */
    const char *options;  /* "driver=raw,offset=512", beside the filename; NULL: none */
    const char *format;   /* NULL: probe */
    bool image_opts;      /* filename is options: driver=raw,file.filename=x */
    const char *cache;    /* NULL: writeback */
    bool force_share;
    bool writable, resizable;
    bool keep_discarded;       /* a discard is advice that nobody takes */
    bool no_backing;           /* do not open backing files */
    BlockDriverState *backing; /* instead of the one that the image names; NULL: that one */
    bool check;                /* only to be checked: it may be damaged */
    bool no_io;                /* only to be described: no key is needed */
    bool quiet;                /* no warning about a format that was guessed */
    bool has_aio;
    BlockdevAioOptions aio;
    /* What others may do meanwhile; 0: read, and write what is there already. */
    uint64_t shared;
} ImgImage;

/* A cache mode, in the parts of which it is made. */
typedef struct ImgCache {
    bool direct, no_flush, writethrough;
} ImgCache;
/* Is @word a cache mode?  Then *ret. */
bool img_cache_parse(const char *word, ImgCache *ret);
bool img_cache_is_known(const char *word);
/* "threads", "native", "io_uring"; false: told. */
bool img_aio_parse(const char *word, ImgImage *image);
/* "unmap" or "on", "ignore" or "off"; false: told. */
bool img_discard_parse(const char *word, ImgImage *image);

/*
 * img_co_open_node() - the image as a node; warns of a format that was guessed
 *
 * Context: coroutine, main thread.  Return: one reference for the caller; NULL with @errp.
 */
BlockDriverState *coroutine_fn img_co_open_node(const ImgImage *image, Error **errp);
/*
 * img_co_make_backend() - a backend of @bs with the permissions that @image asks for
 *
 * Context: as above.  Return: to be closed by img_co_close(); NULL with @errp.
 */
BlockBackend *coroutine_fn img_co_make_backend(const ImgImage *image, BlockDriverState *bs,
                                               Error **errp);
/*
 * img_co_open() - both in one; @errp names the image
 *
 * Context: as above.
 */
BlockBackend *coroutine_fn img_co_open(const ImgImage *image, Error **errp);
/* NULL is fine. */
void coroutine_fn img_co_close(BlockBackend *blk);

#endif
