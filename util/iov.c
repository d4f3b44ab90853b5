/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iov.c - scattered memory
 *
 * Everything that walks over a part of a vector does it with a cursor: the part is cut in runs,
 * each inside one element, and the caller handles one run at a time.
 */
#include "util/iov.h"
#include "util/osdep.h"

typedef struct IovCursor {
    const struct iovec *iov;
    unsigned int left; /* elements, `iov` included */
    size_t skip;       /* bytes of `iov` in front of the cursor */
    size_t bytes;      /* bytes still wanted */
} IovCursor;

typedef struct IovRun {
    unsigned char *base;
    size_t len;
} IovRun;

static IovCursor iov_cursor(const struct iovec *iov, unsigned int iov_cnt, size_t offset,
                            size_t bytes)
{
    while (iov_cnt > 0 && offset >= iov->iov_len) {
        offset -= iov->iov_len;
        iov++;
        iov_cnt--;
    }
    return (IovCursor){.iov = iov, .left = iov_cnt, .skip = offset, .bytes = bytes};
}

/* The next run, never empty; false at the end of what is wanted or of the vector. */
static bool iov_cursor_next(IovCursor *cursor, IovRun *ret_run)
{
    while (cursor->left > 0 && cursor->bytes > 0) {
        const struct iovec *iov = cursor->iov;
        size_t len = MIN(iov->iov_len - cursor->skip, cursor->bytes);

        *ret_run = (IovRun){.base = (unsigned char *)iov->iov_base + cursor->skip, .len = len};
        cursor->iov++;
        cursor->left--;
        cursor->skip = 0;
        cursor->bytes -= len;
        if (len > 0) {
            return true;
        }
    }
    return false;
}

size_t iov_size(const struct iovec *iov, unsigned int iov_cnt)
{
    size_t size = 0;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        size += iov[i].iov_len;
    }
    return size;
}

size_t iov_from_buf(const struct iovec *iov, unsigned int iov_cnt, size_t offset, const void *buf,
                    size_t bytes)
{
    IovCursor cursor = iov_cursor(iov, iov_cnt, offset, bytes);
    const unsigned char *from = buf;
    size_t done = 0;
    IovRun run;

    while (iov_cursor_next(&cursor, &run)) {
        memcpy(run.base, from + done, run.len);
        done += run.len;
    }
    return done;
}

size_t iov_to_buf(const struct iovec *iov, unsigned int iov_cnt, size_t offset, void *buf,
                  size_t bytes)
{
    IovCursor cursor = iov_cursor(iov, iov_cnt, offset, bytes);
    unsigned char *to = buf;
    size_t done = 0;
    IovRun run;

    while (iov_cursor_next(&cursor, &run)) {
        memcpy(to + done, run.base, run.len);
        done += run.len;
    }
    return done;
}

size_t iov_memset(const struct iovec *iov, unsigned int iov_cnt, size_t offset, int fill,
                  size_t bytes)
{
    IovCursor cursor = iov_cursor(iov, iov_cnt, offset, bytes);
    size_t done = 0;
    IovRun run;

    while (iov_cursor_next(&cursor, &run)) {
        memset(run.base, fill, run.len);
        done += run.len;
    }
    return done;
}

unsigned int iov_copy(struct iovec *dst_iov, unsigned int dst_iov_cnt, const struct iovec *iov,
                      unsigned int iov_cnt, size_t offset, size_t bytes)
{
    IovCursor cursor = iov_cursor(iov, iov_cnt, offset, bytes);
    unsigned int used = 0;
    IovRun run;

    while (used < dst_iov_cnt && iov_cursor_next(&cursor, &run)) {
        dst_iov[used++] = (struct iovec){.iov_base = run.base, .iov_len = run.len};
    }
    return used;
}

size_t iov_discard_front(struct iovec **iov, unsigned int *iov_cnt, size_t bytes)
{
    size_t done = 0;

    while (*iov_cnt > 0 && bytes - done >= (*iov)->iov_len) {
        done += (*iov)->iov_len;
        (*iov)++;
        (*iov_cnt)--;
    }
    if (*iov_cnt > 0 && done < bytes) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + (bytes - done);
        (*iov)->iov_len -= bytes - done;
        done = bytes;
    }
    return done;
}

/* Vectors */

static IovCursor qiov_cursor(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    return iov_cursor(qiov->iov, (unsigned int)qiov->niov, offset, bytes);
}

/* Whether [offset, offset + bytes) is inside. */
static bool qiov_has(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    return offset <= qiov->size && bytes <= qiov->size - offset;
}

void qemu_iovec_init(QEMUIOVector *qiov, int alloc_hint)
{
    assert(alloc_hint >= 0);
    *qiov = (QEMUIOVector){.iov = &qiov->local_iov, .nalloc = 1};
    if (alloc_hint > 1) {
        qiov->iov = g_new(struct iovec, alloc_hint);
        qiov->nalloc = alloc_hint;
    }
}

void qemu_iovec_init_external(QEMUIOVector *qiov, struct iovec *iov, int niov)
{
    assert(niov >= 0);
    *qiov = (QEMUIOVector){.iov = iov,
                           .niov = niov,
                           .nalloc = QEMU_IOVEC_EXTERNAL,
                           .size = iov_size(iov, (unsigned int)niov)};
}

void qemu_iovec_init_buf(QEMUIOVector *qiov, void *buf, size_t len)
{
    *qiov = (QEMUIOVector)QEMU_IOVEC_INIT_BUF(*qiov, buf, len);
}

void qemu_iovec_init_slice(QEMUIOVector *qiov, const QEMUIOVector *source, size_t offset,
                           size_t len)
{
    qemu_iovec_init_extended(qiov, NULL, 0, source, offset, len, NULL, 0);
}

void qemu_iovec_init_extended(QEMUIOVector *qiov, void *head, size_t head_len,
                              const QEMUIOVector *mid, size_t mid_offset, size_t mid_len,
                              void *tail, size_t tail_len)
{
    int niov = (head_len > 0) + (tail_len > 0);

    assert(head_len <= SIZE_MAX - mid_len && head_len + mid_len <= SIZE_MAX - tail_len);
    if (mid_len > 0) {
        niov += qemu_iovec_subvec_niov(mid, mid_offset, mid_len);
    }
    qemu_iovec_init(qiov, niov);
    qemu_iovec_add(qiov, head, head_len);
    if (mid_len > 0) {
        qemu_iovec_concat(qiov, mid, mid_offset, mid_len);
    }
    qemu_iovec_add(qiov, tail, tail_len);
}

void qemu_iovec_add(QEMUIOVector *qiov, void *base, size_t len)
{
    assert(qiov->nalloc != QEMU_IOVEC_EXTERNAL);
    if (len == 0) {
        return;
    }
    assert(len <= SIZE_MAX - qiov->size);
    if (qiov->niov == qiov->nalloc) {
        int nalloc = qiov->nalloc * 2 + 2;

        if (qiov->iov == &qiov->local_iov) {
            qiov->iov = g_new(struct iovec, nalloc);
            qiov->iov[0] = qiov->local_iov;
        } else {
            qiov->iov = g_renew(struct iovec, qiov->iov, nalloc);
        }
        qiov->nalloc = nalloc;
    }
    qiov->iov[qiov->niov++] = (struct iovec){.iov_base = base, .iov_len = len};
    qiov->size += len;
}

void qemu_iovec_concat(QEMUIOVector *dst, const QEMUIOVector *src, size_t offset, size_t bytes)
{
    IovCursor cursor = qiov_cursor(src, offset, bytes);
    IovRun run;

    assert(dst != src);
    while (iov_cursor_next(&cursor, &run)) {
        qemu_iovec_add(dst, run.base, run.len);
    }
}

void qemu_iovec_reset(QEMUIOVector *qiov)
{
    assert(qiov->nalloc != QEMU_IOVEC_EXTERNAL);
    qiov->niov = 0;
    qiov->size = 0;
}

void qemu_iovec_destroy(QEMUIOVector *qiov)
{
    if (qiov->nalloc != QEMU_IOVEC_EXTERNAL && qiov->iov != &qiov->local_iov) {
        g_free(qiov->iov);
    }
    *qiov = (QEMUIOVector){.nalloc = QEMU_IOVEC_EXTERNAL};
}

size_t qemu_iovec_to_buf(const QEMUIOVector *qiov, size_t offset, void *buf, size_t bytes)
{
    return iov_to_buf(qiov->iov, (unsigned int)qiov->niov, offset, buf, bytes);
}

size_t qemu_iovec_from_buf(QEMUIOVector *qiov, size_t offset, const void *buf, size_t bytes)
{
    return iov_from_buf(qiov->iov, (unsigned int)qiov->niov, offset, buf, bytes);
}

size_t qemu_iovec_memset(QEMUIOVector *qiov, size_t offset, int fill, size_t bytes)
{
    return iov_memset(qiov->iov, (unsigned int)qiov->niov, offset, fill, bytes);
}

size_t qemu_iovec_copy(QEMUIOVector *dst, size_t dst_offset, const QEMUIOVector *src,
                       size_t src_offset, size_t bytes)
{
    IovCursor cursor = qiov_cursor(src, src_offset, bytes);
    size_t done = 0;
    IovRun run;

    while (iov_cursor_next(&cursor, &run)) {
        size_t copied = qemu_iovec_from_buf(dst, dst_offset + done, run.base, run.len);

        done += copied;
        if (copied < run.len) {
            break;
        }
    }
    return done;
}

bool qemu_iovec_is_zero(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    IovCursor cursor = qiov_cursor(qiov, offset, bytes);
    IovRun run;

    assert(qiov_has(qiov, offset, bytes));
    while (iov_cursor_next(&cursor, &run)) {
        if (!buffer_is_zero(run.base, run.len)) {
            return false;
        }
    }
    return true;
}

bool qemu_iovec_is_aligned(const QEMUIOVector *qiov, size_t alignment)
{
    for (int i = 0; i < qiov->niov; i++) {
        if (((uintptr_t)qiov->iov[i].iov_base | qiov->iov[i].iov_len) & (alignment - 1)) {
            return false;
        }
    }
    return true;
}

void qemu_iovec_discard_back(QEMUIOVector *qiov, size_t bytes)
{
    assert(bytes <= qiov->size);
    qiov->size -= bytes;
    while (bytes > 0) {
        struct iovec *last = &qiov->iov[qiov->niov - 1];

        if (last->iov_len > bytes) {
            last->iov_len -= bytes;
            break;
        }
        bytes -= last->iov_len;
        qiov->niov--;
    }
}

ssize_t qemu_iovec_compare(const QEMUIOVector *a, const QEMUIOVector *b)
{
    IovCursor cursor_a = qiov_cursor(a, 0, a->size);
    IovCursor cursor_b = qiov_cursor(b, 0, b->size);
    IovRun run_a = {0};
    IovRun run_b = {0};
    size_t position = 0;

    assert(a->size == b->size);
    while ((run_a.len > 0 || iov_cursor_next(&cursor_a, &run_a)) &&
           (run_b.len > 0 || iov_cursor_next(&cursor_b, &run_b))) {
        size_t len = MIN(run_a.len, run_b.len);

        if (memcmp(run_a.base, run_b.base, len) != 0) {
            size_t i = 0;

            while (run_a.base[i] == run_b.base[i]) {
                i++;
            }
            return (ssize_t)(position + i);
        }
        run_a = (IovRun){.base = run_a.base + len, .len = run_a.len - len};
        run_b = (IovRun){.base = run_b.base + len, .len = run_b.len - len};
        position += len;
    }
    return -1;
}

int qemu_iovec_subvec_niov(const QEMUIOVector *qiov, size_t offset, size_t len)
{
    IovCursor cursor = qiov_cursor(qiov, offset, len);
    int niov = 0;
    IovRun run;

    assert(qiov_has(qiov, offset, len));
    while (iov_cursor_next(&cursor, &run)) {
        niov++;
    }
    return niov;
}

size_t qemu_iovec_bytes_within(const QEMUIOVector *qiov, size_t offset, size_t len, int max_niov)
{
    IovCursor cursor = qiov_cursor(qiov, offset, len);
    size_t bytes = 0;
    IovRun run;

    while (max_niov-- > 0 && iov_cursor_next(&cursor, &run)) {
        bytes += run.len;
    }
    return bytes;
}
