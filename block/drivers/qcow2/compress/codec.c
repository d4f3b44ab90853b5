/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zlib and libzstd, one call for a cluster. */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>
#include "block/drivers/qcow2/compress/codec.h"

/* What the format says of deflate: no header, 12 bits of window.  zlib's most memory makes matches a little better. */
#define DEFLATE_WINDOW_BITS (-12)
#define DEFLATE_MEM_LEVEL   9
#define ZSTD_LEVEL          3 /* libzstd's default */
/* See CODEC_MEMORY_MAX. */
#define ZSTD_WINDOW_LOG_MAX 23

static int64_t zlib_compress(const void *from, size_t n, void *to, size_t room)
{
    z_stream z = {0};
    int64_t ret;
    int code = deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW_BITS,
                            DEFLATE_MEM_LEVEL, Z_DEFAULT_STRATEGY);

    if (code != Z_OK) {
        return -ENOMEM;
    }
    z.next_in = (z_const Bytef *)from;
    z.avail_in = (uInt)n;
    z.next_out = to;
    z.avail_out = (uInt)room;
    ret = deflate(&z, Z_FINISH) == Z_STREAM_END ? (int64_t)(room - z.avail_out) : -ENOSPC;
    deflateEnd(&z);
    return ret;
}

static int zlib_decompress(const void *from, size_t bytes, void *to, size_t n)
{
    z_stream z = {.next_in = (z_const Bytef *)from, .avail_in = (uInt)bytes};
    int code;

    if (inflateInit2(&z, DEFLATE_WINDOW_BITS) != Z_OK) {
        return -ENOMEM;
    }
    z.next_out = to;
    z.avail_out = (uInt)n;
    code = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    if (code == Z_MEM_ERROR) {
        return -ENOMEM;
    }
    /* Old writers did not all end their streams: what counts is that the cluster is there. */
    return z.avail_out == 0 && (code == Z_STREAM_END || code == Z_BUF_ERROR) ? 0 : -EIO;
}

static int64_t zstd_compress(const void *from, size_t n, void *to, size_t room)
{
    size_t ret = ZSTD_compress(to, room, from, n, ZSTD_LEVEL);

    if (!ZSTD_isError(ret)) {
        return (int64_t)ret;
    }
    return ZSTD_getErrorCode(ret) == ZSTD_error_memory_allocation ? -ENOMEM : -ENOSPC;
}

/* By the streaming calls: the one that does all at once wants to know where the data ends. */
static int zstd_decompress(const void *from, size_t bytes, void *to, size_t n)
{
    ZSTD_DStream *d = ZSTD_createDStream();
    ZSTD_inBuffer in = {from, bytes, 0};
    ZSTD_outBuffer out = {to, n, 0};
    size_t more = 1;

    if (!d) {
        return -ENOMEM;
    }
    ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    /* A cluster may have several frames; each is over when 0 is what is still expected. */
    while (out.pos < n || more != 0) {
        size_t read = in.pos, written = out.pos;

        more = ZSTD_decompressStream(d, &out, &in);
        if (ZSTD_isError(more) || (in.pos == read && out.pos == written)) {
            ZSTD_freeDStream(d);
            return ZSTD_isError(more) && ZSTD_getErrorCode(more) == ZSTD_error_memory_allocation
                       ? -ENOMEM
                       : -EIO;
        }
    }
    ZSTD_freeDStream(d);
    return 0;
}

int64_t qcow2_codec_compress(Qcow2Codec codec, const void *from, size_t n, void *to, size_t room)
{
    return codec == QCOW2_CODEC_ZSTD ? zstd_compress(from, n, to, room)
                                     : zlib_compress(from, n, to, room);
}

int qcow2_codec_decompress(Qcow2Codec codec, const void *from, size_t bytes, void *to, size_t n)
{
    return codec == QCOW2_CODEC_ZSTD ? zstd_decompress(from, bytes, to, n)
                                     : zlib_decompress(from, bytes, to, n);
}
