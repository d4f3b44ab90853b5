/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench.h - many requests of one size, as fast as they go */
#ifndef BLOCK_IMAGE_BENCH_H
#define BLOCK_IMAGE_BENCH_H

#include "block/image/image.h"

/* Requests at once: each has a coroutine, whose stack is memory; no disk wants more. */
#define IMAGE_BENCH_DEPTH_MAX 4096

typedef struct ImageBenchArgs {
    BlockBackend *image;
    bool write;
    int64_t count;         /* requests, >= 1 */
    int64_t request_bytes; /* of each, >= 1 */
    int64_t
        offset; /* of the first; each next one is step_bytes further, and begins anew at the end */
    int64_t step_bytes;
    int depth;              /* at once, 1 to IMAGE_BENCH_DEPTH_MAX */
    uint8_t pattern;        /* what is written */
    int64_t flush_interval; /* a flush when what is left is a multiple of it; 0: none */
    bool drain;             /* a flush waits for what is in flight, and nothing begins meanwhile */
    ImageWatch watch;       /* asked only for is_cancelled */
} ImageBenchArgs;

/**
 * image_co_bench() - make the requests, and say how long they took
 *
 * Context: coroutine, main context, where the image lives.
 * Return: 0 and *ret_ns; the first error of a request or flush, with @errp; -ECANCELED.  No request is in
 * flight at return.
 */
int coroutine_fn image_co_bench(const ImageBenchArgs *args, int64_t *ret_ns, Error **errp);

#endif
