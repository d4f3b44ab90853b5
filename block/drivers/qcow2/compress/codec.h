/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * codec.h - one cluster, compressed and decompressed, by zlib or libzstd
 *
 * Pure: bytes in, bytes out; any thread.  A call has some memory of its own (CODEC_MEMORY_MAX), whatever the bytes say.
 */
#ifndef BLOCK_DRIVERS_QCOW2_COMPRESS_CODEC_H
#define BLOCK_DRIVERS_QCOW2_COMPRESS_CODEC_H

#include "util/osdep.h"

/* As in the header. */
typedef enum Qcow2Codec {
    QCOW2_CODEC_ZLIB = 0, /* raw deflate with a window of 4 KiB */
    QCOW2_CODEC_ZSTD = 1,
} Qcow2Codec;

/* A zstd window of 8 MiB, which RFC 8878 asks decoders to have, and what libzstd needs beside it. */
#define CODEC_MEMORY_MAX (10 * MiB)

/*
 * qcow2_codec_compress() - @n bytes into at most @room
 *
 * Return: how many they are now; -ENOSPC, they do not fit; -ENOMEM.
 */
int64_t qcow2_codec_compress(Qcow2Codec codec, const void *from, size_t n, void *to, size_t room);

/*
 * qcow2_codec_decompress() - bytes that begin with compressed data, into exactly @n
 * @from: what is behind the data is not looked at
 *
 * Return: 0; -EIO, that is no such data, it ends early, or it has more than @n bytes; -ENOMEM.
 */
int qcow2_codec_decompress(Qcow2Codec codec, const void *from, size_t bytes, void *to, size_t n);

#endif
