/* SPDX-License-Identifier: GPL-2.0-or-later */
/* buffer.c - memory for requests, filled with a pattern or with a file */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "programs/io/io.h"
#include "util/osdep.h"

/* How far beside its alignment -m puts a buffer. */
#define MISALIGN_BYTES 16

bool io_buffer_alloc(const IoSession *io, IoBuffer *buf, int64_t length, int pattern)
{
    const int64_t beside = io->misaligned ? MISALIGN_BYTES : 0;

    buf->length = length;
    buf->memory = qemu_try_blockalign(blk_bs(io->blk), (size_t)MAX(length + beside, 1));
    if (!buf->memory) {
        printf("cannot allocate %lld bytes\n", (long long)length);
        return false;
    }
    buf->bytes = (uint8_t *)buf->memory + beside;
    memset(buf->bytes, pattern, (size_t)length);
    return true;
}

void io_buffer_free(IoBuffer *buf)
{
    qemu_vfree(buf->memory);
    *buf = (IoBuffer){0};
}

/* Returns bytes read, at most @max; negative: told. */
static int64_t read_file(const char *path, uint8_t *bytes, int64_t max)
{
    FILE *f = fopen(path, "r");
    size_t n;
    bool failed;

    if (!f) {
        fprintf(stderr, "%s: %s\n", path, g_strerror(errno));
        return -errno;
    }
    n = fread(bytes, 1, (size_t)max, f);
    failed = ferror(f);
    fclose(f);
    if (failed || (n == 0 && max > 0)) {
        fprintf(stderr, "%s: %s\n", path, failed ? "cannot be read" : "file is empty");
        return -EIO;
    }
    return (int64_t)n;
}

bool io_buffer_alloc_from_file(const IoSession *io, IoBuffer *buf, int64_t length, const char *path)
{
    int64_t n;

    if (!io_buffer_alloc(io, buf, length, 0)) {
        return false;
    }
    n = read_file(path, buf->bytes, length);
    if (n < 0) {
        io_buffer_free(buf);
        return false;
    }
    for (int64_t at = n; at < length; at += n) {
        memcpy(buf->bytes + at, buf->bytes, (size_t)MIN(n, length - at));
    }
    return true;
}

bool io_buffer_is_pattern(const IoBuffer *buf, int64_t offset, int64_t length, int pattern)
{
    const uint8_t *at = buf->bytes + offset;

    return length == 0 || (at[0] == pattern && !memcmp(at, at + 1, (size_t)(length - 1)));
}

bool io_vector_alloc(const IoSession *io, IoVector *vector, char **lengths, int count, int pattern)
{
    g_autofree int64_t *sizes = g_new(int64_t, (gsize)count);
    int64_t total = 0, at = 0;

    for (int i = 0; i < count; i++) {
        sizes[i] = io_parse_length(lengths[i]);
        if (sizes[i] < 0) {
            return false;
        }
        if (sizes[i] > IO_LENGTH_MAX - total) {
            printf("The total number of bytes exceed the maximum size %lld\n",
                   (long long)IO_LENGTH_MAX);
            return false;
        }
        total += sizes[i];
    }
    if (!io_buffer_alloc(io, &vector->buffer, total, pattern)) {
        return false;
    }
    qemu_iovec_init(&vector->qiov, count);
    for (int i = 0; i < count; i++) {
        qemu_iovec_add(&vector->qiov, vector->buffer.bytes + at, (size_t)sizes[i]);
        at += sizes[i];
    }
    return true;
}

void io_vector_free(IoVector *vector)
{
    qemu_iovec_destroy(&vector->qiov);
    io_buffer_free(&vector->buffer);
}
