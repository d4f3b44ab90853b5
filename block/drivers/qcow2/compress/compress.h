/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * compress.h - compressed clusters of an open image
 *
 *      a write of clusters 7 8 9 10        compressed in worker threads, beside each other
 *               |
 *               v
 *      | host cluster     | host cluster     | ...          7, 8 and 10 packed one behind another; 9 did not shrink and
 *      |..6..|7|...8...|10...                |              is written plain
 *
 *   Z1  A host cluster is counted once for each compressed cluster that has bytes in it, and once more while it is
 *       packed: it cannot become free, and somebody else's, before the packing goes on elsewhere.  A crash leaks that count.
 *   Z2  Compressed data is durable before its entry (Q3), also in fresh clusters: zeros are no compressed data.
 *   Z3  Its bytes never change.  Whoever replaces an entry is alone in that range of the disk, as its bytes may be given back.
 *   Z4  At most COMPRESS_WORKERS_MAX clusters are in worker threads for an image at once, with their memory.
 *
 * pack.c has Z1, write.c Z2 and Z3, work.c Z4.
 */
#ifndef BLOCK_DRIVERS_QCOW2_COMPRESS_COMPRESS_H
#define BLOCK_DRIVERS_QCOW2_COMPRESS_COMPRESS_H

#include "block/drivers/qcow2/compress/codec.h"
#include "block/drivers/qcow2/qcow2-int.h"

/* More would be waiting for a processor; at 2 MiB a cluster and 10 MiB for its window this is 128 MiB. */
#define COMPRESS_WORKERS_MAX 8
/* Clusters that a request compresses, and then writes, together; and the memory for them, unless one has more. */
#define COMPRESS_BATCH       32
#define COMPRESS_BATCH_BYTES (2 * MiB)

/* Of an image: state while it is open. */
Qcow2Compress *qcow2_compress_new(void);
void qcow2_compress_delete(Qcow2Compress *c);

/* work.c: the codec's functions, in a worker thread, when it is our turn. */
int64_t coroutine_fn qcow2_co_codec_compress(Qcow2State *s, const void *from, void *to);
int coroutine_fn qcow2_co_codec_decompress(Qcow2State *s, const void *from, size_t bytes, void *to);

/*
 * qcow2_co_pack() - room for @bytes of compressed data, less than a cluster, counted
 *
 * Return: where; -ENOSPC, -EFBIG; -ERANGE, the offset could not be said in an entry; -EIO.
 */
int64_t coroutine_fn qcow2_co_pack(Qcow2State *s, int64_t bytes);

#endif
