/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads of compressed clusters: the whole of one is decompressed, and what is wanted of it is given. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/compress/compress.h"
#include "block/io/io.h"
#include "util/osdep.h"

static int coroutine_fn damaged(Qcow2State *s, int64_t guest, const char *what)
{
    qcow2_co_corrupt(s, false, -1, -1, "Compressed cluster at guest offset %#" PRIx64 " %s",
                     (uint64_t)guest, what);
    return -EIO;
}

/* The descriptor counts whole sectors, of which the file may not have the last to its end. */
static int coroutine_fn find_data(Qcow2State *s, uint64_t word, int64_t guest, Qcow2Compressed *ret)
{
    int64_t length = bdrv_getlength(s->bs->file->bs);

    qcow2_compressed_decode(&s->g, word, ret);
    if (length < 0) {
        return (int)length;
    }
    if (s->g.external_data) {
        return damaged(s, guest, "in an image with an external data file");
    }
    if (ret->offset >= length) {
        return damaged(s, guest, "is behind the end of the file");
    }
    ret->bytes = MIN(ret->bytes, length - ret->offset);
    return 0;
}

int coroutine_fn qcow2_co_read_compressed(Qcow2State *s, uint64_t word, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov, size_t qiov_offset)
{
    int64_t cluster = qcow2_cluster_size(&s->g), guest = qcow2_cluster_start(&s->g, offset);
    Qcow2Compressed data;
    uint8_t *buf;
    int ret = find_data(s, word, guest, &data);

    if (ret < 0) {
        return ret;
    }
    buf = qemu_try_blockalign(s->bs->file->bs, cluster + data.bytes);
    if (!buf) {
        return -ENOMEM;
    }
    ret = bdrv_co_pread(s->bs->file, data.offset, data.bytes, buf + cluster, 0);
    if (ret >= 0) {
        ret = qcow2_co_codec_decompress(s, buf + cluster, (size_t)data.bytes, buf);
        if (ret == -EIO) {
            ret = damaged(s, guest, "cannot be decompressed");
        }
    }
    if (ret >= 0) {
        qemu_iovec_from_buf(qiov, qiov_offset, buf + (offset - guest), bytes);
    }
    qemu_vfree(buf);
    return MIN(ret, 0);
}
