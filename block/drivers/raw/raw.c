/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "raw": the image is the disk, byte for byte, or a window of a larger file.
 *
 *      disk               0 |============================| size
 *                           :                            :
 *      file   0 |-----------|============================|------| length
 *                         offset                   offset + size
 *
 * Every request goes down with the offset added and its flags kept; what the file below can do
 * natively (FUA, zeroes, discard, block status), the disk can.  The io room has checked the bounds
 * of the disk; the window was checked against the file when it was opened.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/backend/backend.h"
#include "block/drivers/drivers.h"
#include "block/io/io.h"
#include "block/open/open.h"
#include "util/osdep.h"

typedef struct RawState {
    /* Fixed while open; replaced by a reopen, quiesced. */
    int64_t offset;
    int64_t size; /* of the window, if has_size */
    bool has_size;
    CoMutex guess_lock; /* one write at a time changes what a format is guessed by */
} RawState;

static bool is_window(const RawState *s)
{
    return s->offset != 0 || s->has_size;
}

/* Read the window from @o and check it against @file. */
static int raw_window(RawState *s, const BlockdevOptionsRaw *o, BlockDriverState *file,
                      Error **errp)
{
    int64_t length = bdrv_getlength(file);

    s->offset = o->has_offset ? (int64_t)MIN(o->offset, (uint64_t)INT64_MAX) : 0;
    s->has_size = o->has_size;
    s->size = o->has_size ? (int64_t)MIN(o->size, (uint64_t)INT64_MAX) : 0;
    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get image size");
        return length;
    }
    if (s->offset > length) {
        error_setg(errp,
                   "Offset (%" PRId64 ") cannot be greater than size of the containing file "
                   "(%" PRId64 ")",
                   s->offset, length);
        return -EINVAL;
    }
    if (!s->has_size) {
        return 0;
    }
    if (!QEMU_IS_ALIGNED(s->size, BDRV_SECTOR_SIZE)) {
        error_setg(errp, "Specified size is not multiple of %" PRId64, BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    if (s->size > length - s->offset) {
        error_setg(errp,
                   "The sum of offset (%" PRId64 ") and size (%" PRId64 ") has to be smaller or "
                   "equal to the actual size of the containing file (%" PRId64 ")",
                   s->offset, s->size, length);
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn raw_co_open(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    const BlockdevOptionsRaw *o = &opts->u.raw;
    RawState *s = bs->opaque;
    bool window = o->has_size || (o->has_offset && o->offset != 0);
    BdrvChildRole role = (window ? BDRV_CHILD_DATA : BDRV_CHILD_FILTERED) | BDRV_CHILD_PRIMARY;
    BdrvChild *file = bdrv_open_child(bs, o->file, "file", role, errp);

    if (!file) {
        return -EINVAL;
    }
    qemu_co_mutex_init(&s->guess_lock);
    return raw_window(s, o, file->bs, errp);
}

static void coroutine_fn raw_co_close(BlockDriverState *bs)
{
    RawState *s = bs->opaque;

    qemu_co_mutex_destroy(&s->guess_lock);
}

/* Nothing of our own to protect: users of the disk decide for the file. */
static void raw_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                           uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    *nperm = perm;
    *nshared = bs->force_share ? BLK_PERM_ALL : shared;
}

static void raw_refresh_limits(BlockDriverState *bs)
{
    const unsigned zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    const BlockDriverState *file = bs->file->bs;

    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED | (BDRV_REQ_FUA & file->supported_write_flags);
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | (zero_flags & file->supported_zero_flags);
    bs->supported_truncate_flags = file->supported_truncate_flags & BDRV_REQ_ZERO_WRITE;
}

/* Another part of the file is another disk: for those who hold the node to its size too much. */
static int check_may_move(BlockDriverState *bs, const RawState *next, Error **errp)
{
    const RawState *s = bs->opaque;
    uint64_t perm, shared;

    if (s->offset == next->offset && s->has_size == next->has_size && s->size == next->size) {
        return 0;
    }
    bdrv_get_cumulative_perm(bs, &perm, &shared);
    if (!(shared & BLK_PERM_RESIZE)) {
        error_setg(errp,
                   "Cannot change the part of the file that node '%s' shows: a user of it does "
                   "not allow 'resize'",
                   bdrv_get_node_name(bs));
        return -EPERM;
    }
    return 0;
}

static int coroutine_fn raw_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                              int flags, void **ret_state, Error **errp)
{
    RawState *next = g_new0(RawState, 1);
    int ret = raw_window(next, &opts->u.raw, bs->file->bs, errp);

    if (ret == 0 && is_window(next) != is_window(bs->opaque)) {
        error_setg(errp, "Cannot change between the whole file and a part of it while open");
        ret = -EINVAL;
    }
    if (ret == 0) {
        ret = check_may_move(bs, next, errp);
    }
    if (ret < 0) {
        g_free(next);
        return ret;
    }
    *ret_state = next;
    return 0;
}

static void raw_reopen_commit(BlockDriverState *bs, void *state)
{
    RawState *s = bs->opaque;
    const RawState *next = state;

    s->offset = next->offset;
    s->size = next->size;
    s->has_size = next->has_size;
    g_free(state);
}

static void raw_reopen_abort(BlockDriverState *bs, void *state)
{
    g_free(state);
}

static int coroutine_fn raw_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;

    return bdrv_co_preadv_part(bs->file, s->offset + offset, bytes, qiov, qiov_offset, flags);
}

/* A disk of fixed size does not grow into what lies behind it in the file. */
static int check_fits(const RawState *s, int64_t offset, int64_t bytes)
{
    return s->has_size && bytes > s->size - offset ? -ENOSPC : 0;
}

/* Would the image, with @qiov written at @offset, be guessed to be raw again?  0, -EPERM, or an error. */
static int coroutine_fn check_stays_raw(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector *qiov, size_t qiov_offset)
{
    int64_t length = MIN(bdrv_getlength(bs->file->bs), (int64_t)BDRV_PROBE_BYTES);
    int64_t end = MIN(offset + bytes, (int64_t)BDRV_PROBE_BYTES);
    g_autofree uint8_t *first = g_malloc0(BDRV_PROBE_BYTES);
    int ret = length > 0 ? bdrv_co_pread(bs->file, 0, length, first, 0) : 0;

    if (ret < 0) {
        return ret;
    }
    qemu_iovec_to_buf(qiov, qiov_offset, first + offset, (size_t)(end - offset));
    return bdrv_probe_bytes(first, (size_t)MAX(length, end), bs->filename) == bs->drv ? 0 : -EPERM;
}

/*
 * Nobody has said that the image is raw, it only did not look like anything else.  If its user made it look like
 * another format, with any file as its backing file, the next guess would give him that file.
 */
static int coroutine_fn write_guarded(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;
    int ret;

    qemu_co_mutex_lock(&s->guess_lock);
    ret = check_stays_raw(bs, offset, bytes, qiov, qiov_offset);
    if (ret == 0) {
        ret = bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    }
    qemu_co_mutex_unlock(&s->guess_lock);
    return ret;
}

static int coroutine_fn raw_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;
    int ret = check_fits(s, offset, bytes);

    if (ret == 0 && bs->format_guessed && s->offset == 0 && offset < BDRV_PROBE_BYTES) {
        return write_guarded(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    return ret < 0 ? ret
                   : bdrv_co_pwritev_part(bs->file, s->offset + offset, bytes, qiov, qiov_offset,
                                          flags);
}

static int coroutine_fn raw_co_copy_range(BlockDriverState *bs, int64_t offset,
                                          BlockDriverState *src, int64_t src_offset, int64_t bytes)
{
    RawState *s = bs->opaque;
    int ret = check_fits(s, offset, bytes);

    if (ret == 0 && bs->format_guessed && s->offset == 0 && offset < BDRV_PROBE_BYTES) {
        return -ENOTSUP; /* it has to be looked at */
    }
    return ret < 0 ? ret : bdrv_co_copy_range(src, src_offset, bs->file, s->offset + offset, bytes);
}

static int coroutine_fn raw_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    RawState *s = bs->opaque;
    int ret = check_fits(s, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pwrite_zeroes(bs->file, s->offset + offset, bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    RawState *s = bs->opaque;
    int ret = check_fits(s, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, s->offset + offset, bytes);
}

static int coroutine_fn raw_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    RawState *s = bs->opaque;

    *pnum = bytes;
    *map = s->offset + offset;
    *file = bs->file->bs;
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

static int64_t coroutine_fn raw_co_getlength(BlockDriverState *bs)
{
    RawState *s = bs->opaque;
    int64_t length = bdrv_getlength(bs->file->bs);

    if (length < 0) {
        return length;
    }
    /* The file may have been cut behind our back: a disk never reaches beyond it. */
    length = MAX(length - s->offset, 0);
    return s->has_size ? MIN(s->size, length) : length;
}

static int coroutine_fn raw_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    RawState *s = bs->opaque;

    if (s->has_size) {
        error_setg(errp, "Cannot resize fixed-size raw disks");
        return -ENOTSUP;
    }
    if (offset > BDRV_MAX_LENGTH - s->offset) {
        error_setg(errp, "Disk size too large for the chosen offset");
        return -EINVAL;
    }
    return bdrv_co_truncate(bs->file, s->offset + offset, exact, prealloc, flags, errp);
}

static int64_t coroutine_fn raw_co_get_allocated_file_size(BlockDriverState *bs)
{
    return bdrv_co_get_allocated_file_size(bs->file->bs);
}

/* Everything can be a raw image, so anything surer than this is preferred. */
static int raw_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return 1;
}

/* Written zeros come in steps, so that a cancel is heard in between. */
#define RAW_PREALLOC_STEP (64 * MiB)

/* The image was emptied: what was there goes first, for a file that only grew would show it. */
static int coroutine_fn raw_fill(BlockBackend *blk, int64_t size, PreallocMode prealloc,
                                 BdrvProgress *progress, Error **errp)
{
    int64_t step = prealloc == PREALLOC_MODE_FULL ? RAW_PREALLOC_STEP : MAX(size, 1);
    int ret = blk_co_truncate(blk, 0, false, PREALLOC_MODE_OFF, 0, NULL);

    if (ret == -ENOTSUP && prealloc == PREALLOC_MODE_OFF && blk_getlength(blk) >= size) {
        return 0; /* what a server has keeps its length, as a device does */
    }
    if (ret < 0 || size == 0) {
        return blk_co_truncate(blk, 0, false, prealloc, 0, errp);
    }
    bdrv_progress_set_total(progress, size);
    for (int64_t done = 0; ret == 0 && done < size; bdrv_progress_set_done(progress, done)) {
        done += MIN(step, size - done);
        ret = blk_co_truncate(blk, done, false, prealloc, 0, errp);
        if (ret == 0 && bdrv_progress_cancelled(progress)) {
            blk_co_truncate(blk, 0, false, PREALLOC_MODE_OFF, 0, NULL);
            error_setg(errp, "Creating the image was cancelled");
            ret = -ECANCELED;
        }
    }
    return ret;
}

static int coroutine_fn raw_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                                      Error **errp)
{
    const BlockdevCreateOptionsRaw *o = &opts->u.raw;
    PreallocMode prealloc = o->has_preallocation ? o->preallocation : PREALLOC_MODE_OFF;
    BlockDriverState *file;
    BlockBackend *blk;
    int ret;

    if (o->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "Image size must be at most %" PRId64 " bytes", BDRV_MAX_LENGTH);
        return -EFBIG;
    }
    file = bdrv_co_open_ref(o->file, errp);
    if (!file) {
        return -EINVAL;
    }
    /* Nobody else: what they have open is about to be lost. */
    blk = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, 0);
    blk_set_desc(blk, "image creation");
    ret = bdrv_co_try_change_aio_context(file, qemu_get_aio_context(), errp);
    if (ret == 0) {
        ret = blk_insert_bs(blk, file, errp);
    }
    if (ret == 0) {
        ret = raw_fill(blk, o->size, prealloc, progress, errp);
    }
    blk_co_unref(blk);
    bdrv_co_unref(file);
    return ret;
}

static BlockMeasureInfo *coroutine_fn raw_co_measure(const BlockdevCreateOptions *opts,
                                                     BlockDriverState *in, BdrvProgress *progress,
                                                     Error **errp)
{
    BlockMeasureInfo *info = g_new0(BlockMeasureInfo, 1);

    /* Holes take no space, but the file is as long. */
    info->required = info->fully_allocated = (int64_t)MIN(opts->u.raw.size, (uint64_t)INT64_MAX);
    return info;
}

static int coroutine_fn raw_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info)
{
    return bdrv_co_get_info(bs->file->bs, ret_info);
}

static const BdrvCreateOption raw_create_options[] = {
    {"preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)"},
    {NULL, NULL, NULL},
};

static const BlockDriverLife raw_life = {
    .co_open = raw_co_open,
    .co_close = raw_co_close,
    .refresh_limits = raw_refresh_limits,
    .child_perm = raw_child_perm,
    .co_reopen_prepare = raw_co_reopen_prepare,
    .reopen_commit = raw_reopen_commit,
    .reopen_abort = raw_reopen_abort,
};

static const BlockDriverData raw_data = {
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
    .co_pwrite_zeroes = raw_co_pwrite_zeroes,
    .co_copy_range = raw_co_copy_range,
    .co_pdiscard = raw_co_pdiscard,
    .co_block_status = raw_co_block_status,
    .co_getlength = raw_co_getlength,
    .co_truncate = raw_co_truncate,
    .co_get_allocated_file_size = raw_co_get_allocated_file_size,
};

static const BlockDriverImage raw_image = {
    .co_get_info = raw_co_get_info,
    .probe = raw_probe,
    .co_create = raw_co_create,
    .co_measure = raw_co_measure,
    .create_options = raw_create_options,
};

static BlockDriver bdrv_raw = {
    .format_name = "raw",
    .instance_size = sizeof(RawState),
    .life = &raw_life,
    .data = &raw_data,
    .image = &raw_image,
};

void bdrv_raw_register(void)
{
    bdrv_register(&bdrv_raw);
}
