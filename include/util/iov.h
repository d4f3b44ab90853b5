/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iov.h - scattered memory: plain iovec arrays, and QEMUIOVector which knows its own length
 *
 * Offsets and lengths are bytes.  Copying functions return the number of bytes they touched, which
 * is less than asked for only when the vector ends first.  No function here yields or locks.
 */
#ifndef UTIL_IOV_H
#define UTIL_IOV_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#ifndef IOV_MAX
#define IOV_MAX 1024 /* Linux's UIO_MAXIOV; the kernel refuses longer arrays */
#endif

size_t iov_size(const struct iovec *iov, unsigned int iov_cnt);
size_t iov_from_buf(const struct iovec *iov, unsigned int iov_cnt, size_t offset, const void *buf,
                    size_t bytes);
size_t iov_to_buf(const struct iovec *iov, unsigned int iov_cnt, size_t offset, void *buf,
                  size_t bytes);
size_t iov_memset(const struct iovec *iov, unsigned int iov_cnt, size_t offset, int fill,
                  size_t bytes);

/**
 * iov_copy() - describe a part of @iov in @dst_iov (no data is copied)
 *
 * Return: elements used, at most @dst_iov_cnt; empty elements are left out.
 */
unsigned int iov_copy(struct iovec *dst_iov, unsigned int dst_iov_cnt, const struct iovec *iov,
                      unsigned int iov_cnt, size_t offset, size_t bytes);

/* iov_discard_front() - move *iov and *iov_cnt past @bytes; changes the array */
size_t iov_discard_front(struct iovec **iov, unsigned int *iov_cnt, size_t bytes);

/*
 * A vector of buffers.  The buffers belong to someone else, always; the array belongs to the
 * vector after qemu_iovec_init(), _init_slice() and _init_extended(), which need
 * qemu_iovec_destroy().  A vector of one element needs no allocation: it uses `local_iov`, so a
 * QEMUIOVector cannot be copied by assignment.
 */
typedef struct QEMUIOVector {
    struct iovec *iov;
    int niov;
    int nalloc;  /* elements allocated; QEMU_IOVEC_EXTERNAL if the array is someone else's */
    size_t size; /* bytes in all elements */
    struct iovec local_iov;
} QEMUIOVector;

#define QEMU_IOVEC_EXTERNAL (-1)

/* For a declaration: QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, len); no destroy needed. */
#define QEMU_IOVEC_INIT_BUF(self, buf, len)                                                \
    {                                                                                      \
        .iov = &(self).local_iov, .niov = 1, .nalloc = QEMU_IOVEC_EXTERNAL, .size = (len), \
        .local_iov = {.iov_base = (void *)(buf), .iov_len = (len)},                        \
    }

/* An empty vector that can grow; @alloc_hint elements without another allocation. */
void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint);
/* A vector over an array that stays the caller's and must outlive it; fixed. */
void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov);
/* A vector over one buffer; fixed; no destroy needed. */
void qemu_iovec_init_buf(QEMUIOVector *qiov, void *buf, size_t len);
/* The @len bytes at @offset of @source, which must have them. */
void qemu_iovec_init_slice(QEMUIOVector *qiov, const QEMUIOVector *source, size_t offset,
                           size_t len);
/* head, then a slice of @mid (may be NULL when @mid_len is 0), then tail: a padded request. */
void qemu_iovec_init_extended(QEMUIOVector *qiov, void *head, size_t head_len,
                              const QEMUIOVector *mid, size_t mid_offset, size_t mid_len,
                              void *tail, size_t tail_len);

void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len);
/* Append the part of @src at @offset; bytes behind the end of @src are left out. */
void qemu_iovec_concat(QEMUIOVector *dst, const QEMUIOVector *src, size_t offset, size_t bytes);
/* Empty, array kept. */
void qemu_iovec_reset(QEMUIOVector *qiov);
/* Free what the vector owns; fine on any initialised vector. */
void qemu_iovec_destroy(QEMUIOVector *qiov);

size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset, void *buf, size_t bytes);
size_t qemu_iovec_from_buf(QEMUIOVector *qiov, size_t offset, const void *buf, size_t bytes);
size_t qemu_iovec_memset(QEMUIOVector *qiov, size_t offset, int fill, size_t bytes);
/* Copy data from one vector to another; the vectors' memory must not overlap. */
size_t qemu_iovec_copy(QEMUIOVector *dst, size_t dst_offset, const QEMUIOVector *src,
                       size_t src_offset, size_t bytes);
/* Whether the range, which must be inside, holds only zeroes. */
bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes);
/* Whether every base and length is a multiple of @alignment, a power of two. */
bool qemu_iovec_is_aligned(const QEMUIOVector *qiov, size_t alignment);
/* Drop @bytes, which must be there, from the end. */
void qemu_iovec_discard_back(QEMUIOVector *qiov, size_t bytes);
/* First byte that differs (both of one size), or -1. */
ssize_t qemu_iovec_compare(const QEMUIOVector *a, const QEMUIOVector *b);

/* Elements that a slice takes; a slice of 0 bytes takes none. */
int qemu_iovec_subvec_niov(const QEMUIOVector *qiov, size_t offset, size_t len);
/* Bytes from @offset on, at most @len, that fit in @max_niov elements: where to split (IOV_MAX). */
size_t qemu_iovec_bytes_within(const QEMUIOVector *qiov, size_t offset, size_t len, int max_niov);

#endif
