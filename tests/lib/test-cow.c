/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See test-cow.h. */
#include <errno.h>
#include "block/io/io.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "util/osdep.h"

typedef enum ClusterState { CLUSTER_UNALLOCATED, CLUSTER_ZERO, CLUSTER_DATA } ClusterState;

typedef struct CowState {
    /* Fixed. */
    int64_t size, cluster_size, n_clusters;
    /* Set while quiesced. */
    int64_t delay_ns;
    /* Home AioContext.  map and data change under lock. */
    CoMutex lock; /* one allocation at a time: two writes may meet in a cluster */
    uint8_t *map; /* ClusterState */
    uint8_t **data;
} CowState;

static void set_cluster(CowState *s, int64_t i, ClusterState state)
{
    if (state == CLUSTER_DATA && !s->data[i]) {
        s->data[i] = g_malloc0(s->cluster_size);
    } else if (state != CLUSTER_DATA) {
        g_free(s->data[i]);
        s->data[i] = NULL;
    }
    s->map[i] = state;
}

static void coroutine_fn delay(const CowState *s)
{
    if (s->delay_ns > 0) {
        qemu_co_sleep_ns(s->delay_ns);
    }
}

/* What the backing file has; zeros behind its end and without one. */
static int coroutine_fn read_backing(BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf)
{
    memset(buf, 0, bytes);
    if (!bs->backing || offset >= bs->backing->bs->total_bytes) {
        return 0;
    }
    bytes = MIN(bytes, bs->backing->bs->total_bytes - offset);
    return bdrv_co_pread(bs->backing, offset, bytes, buf, 0);
}

static int coroutine_fn read_part(BlockDriverState *bs, int64_t offset, int64_t n,
                                  QEMUIOVector *qiov, size_t qiov_offset)
{
    CowState *s = bs->opaque;
    int64_t i = offset / s->cluster_size;
    g_autofree uint8_t *buf = NULL;
    int ret;

    switch ((ClusterState)s->map[i]) {
    case CLUSTER_DATA:
        qemu_iovec_from_buf(qiov, qiov_offset, s->data[i] + offset % s->cluster_size, n);
        return 0;
    case CLUSTER_ZERO:
        qemu_iovec_memset(qiov, qiov_offset, 0, n);
        return 0;
    default:
        buf = g_malloc(n);
        ret = read_backing(bs, offset, n, buf);
        if (ret >= 0) {
            qemu_iovec_from_buf(qiov, qiov_offset, buf, n);
        }
        return ret;
    }
}

static int coroutine_fn cow_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    CowState *s = bs->opaque;
    int64_t n;
    int ret = 0;

    delay(s);
    for (int64_t pos = 0; pos < bytes && ret >= 0; pos += n) {
        n = MIN(bytes - pos, s->cluster_size - (offset + pos) % s->cluster_size);
        ret = read_part(bs, offset + pos, n, qiov, qiov_offset + pos);
    }
    return MIN(ret, 0);
}

/* Locked.  Give cluster @i memory; @whole: all of it will be overwritten. */
static int coroutine_fn allocate(BlockDriverState *bs, int64_t i, bool whole)
{
    CowState *s = bs->opaque;
    ClusterState old = s->map[i];
    uint8_t *buf;
    int ret;

    if (old == CLUSTER_DATA) {
        return 0;
    }
    if (old == CLUSTER_ZERO || whole) {
        set_cluster(s, i, CLUSTER_DATA);
        return 0;
    }
    /* The map changes only when the contents are there: readers do not take the lock. */
    buf = g_malloc(s->cluster_size);
    ret = read_backing(bs, i * s->cluster_size, s->cluster_size, buf);
    if (ret < 0) {
        g_free(buf);
        return ret;
    }
    s->data[i] = buf;
    s->map[i] = CLUSTER_DATA;
    return 0;
}

static int coroutine_fn write_part(BlockDriverState *bs, int64_t offset, int64_t n,
                                   QEMUIOVector *qiov, size_t qiov_offset)
{
    CowState *s = bs->opaque;
    int64_t i = offset / s->cluster_size;
    int ret;

    qemu_co_mutex_lock(&s->lock);
    ret = allocate(bs, i, n == s->cluster_size);
    if (ret >= 0 && qiov) {
        qemu_iovec_to_buf(qiov, qiov_offset, s->data[i] + offset % s->cluster_size, n);
    } else if (ret >= 0) {
        memset(s->data[i] + offset % s->cluster_size, 0, n);
    }
    qemu_co_mutex_unlock(&s->lock);
    return ret;
}

static int coroutine_fn cow_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    CowState *s = bs->opaque;
    int64_t n;
    int ret = 0;

    if (bytes > s->size - offset) {
        return -ENOSPC;
    }
    delay(s);
    for (int64_t pos = 0; pos < bytes && ret >= 0; pos += n) {
        n = MIN(bytes - pos, s->cluster_size - (offset + pos) % s->cluster_size);
        ret = write_part(bs, offset + pos, n, qiov, qiov_offset + pos);
    }
    return MIN(ret, 0);
}

static int coroutine_fn cow_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    CowState *s = bs->opaque;
    int64_t n;
    int ret = 0;

    if (bytes > s->size - offset) {
        return -ENOSPC;
    }
    delay(s);
    for (int64_t pos = 0; pos < bytes && ret >= 0; pos += n) {
        n = MIN(bytes - pos, s->cluster_size - (offset + pos) % s->cluster_size);
        if (n == s->cluster_size) {
            qemu_co_mutex_lock(&s->lock);
            set_cluster(s, (offset + pos) / s->cluster_size, CLUSTER_ZERO);
            qemu_co_mutex_unlock(&s->lock);
        } else {
            ret = write_part(bs, offset + pos, n, NULL, 0);
        }
    }
    return MIN(ret, 0);
}

/* Whole clusters become zeros, so that the backing file does not show through again. */
static int coroutine_fn cow_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    CowState *s = bs->opaque;
    int64_t first = DIV_ROUND_UP(offset, s->cluster_size);
    int64_t end = (offset + bytes) / s->cluster_size;

    delay(s);
    qemu_co_mutex_lock(&s->lock);
    for (int64_t i = first; i < end; i++) {
        set_cluster(s, i, bs->backing ? CLUSTER_ZERO : CLUSTER_UNALLOCATED);
    }
    qemu_co_mutex_unlock(&s->lock);
    return 0;
}

static int coroutine_fn cow_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    static const int status[] = {
        [CLUSTER_UNALLOCATED] = 0,
        [CLUSTER_ZERO] = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED,
        [CLUSTER_DATA] = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED,
    };
    CowState *s = bs->opaque;
    int64_t first = offset / s->cluster_size;
    int64_t i = first + 1;

    while (i < s->n_clusters && i * s->cluster_size < offset + bytes &&
           s->map[i] == s->map[first]) {
        i++;
    }
    *pnum = MIN(bytes, i * s->cluster_size - offset);
    return status[s->map[first]];
}

static int64_t coroutine_fn cow_co_getlength(BlockDriverState *bs)
{
    return ((CowState *)bs->opaque)->size;
}

static int coroutine_fn cow_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info)
{
    *ret_info = (BlockDriverInfo){.cluster_size = ((CowState *)bs->opaque)->cluster_size};
    return 0;
}

static int coroutine_fn cow_co_make_empty(BlockDriverState *bs, Error **errp)
{
    CowState *s = bs->opaque;

    for (int64_t i = 0; i < s->n_clusters; i++) {
        set_cluster(s, i, CLUSTER_UNALLOCATED);
    }
    return 0;
}

static int coroutine_fn cow_co_change_backing_file(BlockDriverState *bs, const char *file,
                                                   const char *format, Error **errp)
{
    g_free(bs->backing_file);
    g_free(bs->backing_format);
    bs->backing_file = g_strdup(file);
    bs->backing_format = g_strdup(format);
    return 0;
}

static void coroutine_fn cow_co_close(BlockDriverState *bs)
{
    CowState *s = bs->opaque;

    for (int64_t i = 0; i < s->n_clusters; i++) {
        g_free(s->data[i]);
    }
    g_free(s->data);
    g_free(s->map);
    qemu_co_mutex_destroy(&s->lock);
}

static void cow_refresh_limits(BlockDriverState *bs)
{
    CowState *s = bs->opaque;

    bs->bl.pwrite_zeroes_alignment = s->cluster_size;
    bs->bl.pdiscard_alignment = s->cluster_size;
    bs->supported_write_flags = BDRV_REQ_FUA | BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
}

static const BlockDriverLife cow_life = {
    .co_close = cow_co_close,
    .refresh_limits = cow_refresh_limits,
};

static const BlockDriverData cow_data = {
    .co_preadv = cow_co_preadv,
    .co_pwritev = cow_co_pwritev,
    .co_pwrite_zeroes = cow_co_pwrite_zeroes,
    .co_pdiscard = cow_co_pdiscard,
    .co_block_status = cow_co_block_status,
    .co_getlength = cow_co_getlength,
};

static const BlockDriverImage cow_image = {
    .co_get_info = cow_co_get_info,
    .co_change_backing_file = cow_co_change_backing_file,
    .co_make_empty = cow_co_make_empty,
};

static const BlockDriver bdrv_test_cow = {
    .format_name = "test-cow",
    .supports_backing = true,
    .instance_size = sizeof(CowState),
    .life = &cow_life,
    .data = &cow_data,
    .image = &cow_image,
};

BlockDriverState *test_cow_new(const char *node_name, int64_t size, int64_t cluster_size,
                               BlockDriverState *backing)
{
    BlockDriverState *bs = bdrv_new(&bdrv_test_cow, node_name, &error_abort);
    CowState *s = bs->opaque;

    g_assert_true(is_power_of_2(cluster_size));
    s->size = size;
    s->cluster_size = cluster_size;
    s->n_clusters = DIV_ROUND_UP(size, cluster_size);
    s->map = g_new0(uint8_t, s->n_clusters);
    s->data = g_new0(uint8_t *, s->n_clusters);
    qemu_co_mutex_init(&s->lock);
    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = size;
    if (backing) {
        bdrv_attach_child(bs, backing, "backing", BDRV_CHILD_COW, &error_abort);
    }
    bdrv_refresh_limits(bs);
    return bs;
}

void test_cow_set_delay(BlockDriverState *bs, int64_t ns)
{
    ((CowState *)bs->opaque)->delay_ns = ns;
}

bool test_cow_is_allocated(BlockDriverState *bs, int64_t offset)
{
    CowState *s = bs->opaque;

    return s->map[offset / s->cluster_size] != CLUSTER_UNALLOCATED;
}

int64_t test_cow_allocated_clusters(BlockDriverState *bs)
{
    CowState *s = bs->opaque;
    int64_t n = 0;

    for (int64_t i = 0; i < s->n_clusters; i++) {
        n += s->map[i] != CLUSTER_UNALLOCATED;
    }
    return n;
}
