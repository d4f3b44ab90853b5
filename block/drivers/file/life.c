/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening, reopening, closing; limits; permissions and the locks that stand for them. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "block/drivers/file/file-int.h"
#include "block/open/image-lock.h"
#include "util/osdep.h"
#include "trace-file.h"

AioFileEngine file_engine(const FileState *s)
{
    /* Not given: what suits the thread that asks. */
    return s->engine_given ? s->engine : aio_file_engine_default(qemu_get_current_aio_context());
}

static const BlockdevOptionsFile *options_of(const BlockdevOptions *opts)
{
    switch (opts->driver) {
    case BLOCKDEV_DRIVER_HOST_CDROM:
        return &opts->u.host_cdrom;
    case BLOCKDEV_DRIVER_HOST_DEVICE:
        return &opts->u.host_device;
    default:
        return &opts->u.file;
    }
}

/* F4: an engine that was asked for is used or refused. */
static int choose_engine(BlockDriverState *bs, const BlockdevOptionsFile *o, int flags,
                         bool *ret_given, AioFileEngine *ret_engine, Error **errp)
{
    if (o->has_aio_max_batch && o->aio_max_batch != 0) {
        error_setg(errp, "aio-max-batch is not supported: the engine sends what is ready at once");
        return -ENOTSUP;
    }
    *ret_given = o->has_aio;
    if (!o->has_aio) {
        return 0;
    }
    switch (o->aio) {
    case BLOCKDEV_AIO_OPTIONS_NATIVE:
        if (!(flags & BDRV_O_NOCACHE)) {
            error_setg(errp, "aio=native was specified, but it requires cache.direct=on, which was "
                             "not specified.");
            return -EINVAL;
        }
        *ret_engine = AIO_FILE_NATIVE;
        break;
    case BLOCKDEV_AIO_OPTIONS_IO_URING:
        *ret_engine = AIO_FILE_IO_URING;
        break;
    default:
        *ret_engine = AIO_FILE_THREADS;
        break;
    }
    return aio_file_engine_check(bs->aio_context, *ret_engine, errp);
}

static int decide_locking(FileState *s, const BlockdevOptionsFile *o, Error **errp)
{
    s->locking = o->has_locking ? o->locking : ON_OFF_AUTO_AUTO;
    s->use_locks = s->locking != ON_OFF_AUTO_OFF && image_lock_supported(s->h.fd);
    if (s->locking == ON_OFF_AUTO_ON && !s->use_locks) {
        error_setg(errp, "locking=on was specified, but the file system of '%s' has no OFD locks",
                   s->path);
        return -ENOTSUP;
    }
    s->lock_fd = s->use_locks ? fcntl(s->h.fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (s->use_locks && s->lock_fd < 0) {
        int ret = -errno;

        error_setg_errno(errp, -ret, "Could not set up locks on '%s'", s->path);
        return ret;
    }
    return 0;
}

static int coroutine_fn file_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                     Error **errp)
{
    const BlockdevOptionsFile *o = options_of(opts);
    FileState *s = bs->opaque;
    FileOpenArgs args = {
        .path = o->filename,
        .driver_name = bs->drv->format_name,
        .want_device = opts->driver != BLOCKDEV_DRIVER_FILE,
        .read_write = bs->open_flags & BDRV_O_RDWR,
        .auto_read_only = bs->auto_read_only,
        .direct = bs->open_flags & BDRV_O_NOCACHE,
    };
    int ret = choose_engine(bs, o, bs->open_flags, &s->engine_given, &s->engine, errp);

    if (ret < 0) {
        return ret;
    }
    ret = file_co_open_fd(&args);
    if (ret < 0) {
        error_propagate(errp, args.err);
        return ret;
    }
    s->h = args.h;
    s->path = g_strdup(o->filename);
    s->shared = BLK_PERM_ALL;
    ret = decide_locking(s, o, errp);
    if (ret < 0) {
        file_co_close_fd(s->h.fd);
        g_free(s->path);
        return ret;
    }
    g_mutex_init(&s->status_lock);
    if (args.read_write && !s->h.writable) {
        bs->read_only = true;
        bs->open_flags &= ~BDRV_O_RDWR;
    }
    g_free(bs->filename);
    bs->filename = g_strdup(o->filename);
    trace_file_open(s->path, s->h.writable, s->h.length, s->h.request_alignment);
    return 0;
}

static void coroutine_fn file_co_close(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    file_co_close_fd(s->lock_fd);
    file_co_close_fd(s->h.fd);
    g_mutex_clear(&s->status_lock);
    g_free(s->path);
}

static void file_refresh_limits(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    bs->bl.request_alignment = s->h.request_alignment;
    bs->bl.min_mem_alignment = s->h.mem_alignment;
    bs->bl.max_iov = IOV_MAX;
    if (s->h.is_device) {
        /* The kernel zeroes and discards whole logical blocks only. */
        bs->bl.pwrite_zeroes_alignment = s->h.block_size;
        bs->bl.pdiscard_alignment = s->h.block_size;
    }
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = s->h.is_device ? 0 : BDRV_REQ_ZERO_WRITE;
}

/*
 * F6: what other processes may do with an image in use.  The users of this node may write it together, for
 * the io room puts their requests in order; a write from outside passes nobody here, and a backup would
 * no longer be one instant (H3).  force-share=on is the user's word that it does not matter.
 */
static uint64_t shared_with_outside(const BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    return perm && !bs->force_share ? shared & ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE)
                                    : shared;
}

/* L1 of block/open/image-lock.c: locks for the old and the new use together, then the question. */
static int file_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    FileState *s = bs->opaque;
    int ret;

    if (!s->use_locks) {
        return 0;
    }
    shared = shared_with_outside(bs, perm, shared);
    if (!(perm & ~s->perm) && !(s->shared & ~shared)) {
        return 0; /* nothing but giving up: others are not asked, they may be asking themselves */
    }
    ret = image_lock_acquire(s->lock_fd, s->perm | perm, s->shared & shared, errp);
    if (ret == 0) {
        ret = image_lock_check(s->lock_fd, perm, shared, s->path, errp);
    }
    if (ret < 0) {
        image_lock_reduce(s->lock_fd, s->perm, s->shared, NULL);
    }
    return ret;
}

static void file_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    FileState *s = bs->opaque;

    shared = shared_with_outside(bs, perm, shared);
    s->perm = perm;
    file_status_set_shared(s, shared);
    if (s->use_locks) {
        /* A lock that cannot be given up keeps others out for longer than needed; no harm else. */
        image_lock_reduce(s->lock_fd, perm, shared, NULL);
    }
}

static void file_abort_perm(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    if (s->use_locks) {
        image_lock_reduce(s->lock_fd, s->perm, s->shared, NULL);
    }
}

/* What a reopen has prepared. */
typedef struct FileReopen {
    FileHandle h;
    bool engine_given;
    AioFileEngine engine;
    bool became_read_only;
} FileReopen;

static int check_unchanged(FileState *s, const BlockdevOptionsFile *o, Error **errp)
{
    const char *changed = NULL;

    if (strcmp(s->path, o->filename) != 0) {
        changed = "filename";
    } else if ((o->has_locking ? o->locking : ON_OFF_AUTO_AUTO) != s->locking) {
        changed = "locking";
    }
    if (changed) {
        error_setg(errp, "Cannot change the option '%s'", changed);
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn file_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                               int flags, void **ret_state, Error **errp)
{
    const BlockdevOptionsFile *o = options_of(opts);
    FileState *s = bs->opaque;
    FileReopen *r;
    FileOpenArgs args = {
        .path = s->path,
        .driver_name = bs->drv->format_name,
        .want_device = opts->driver != BLOCKDEV_DRIVER_FILE,
        .read_write = flags & BDRV_O_RDWR,
        .auto_read_only = opts->has_auto_read_only && opts->auto_read_only,
        .direct = flags & BDRV_O_NOCACHE,
    };
    int ret = check_unchanged(s, o, errp);

    if (ret < 0) {
        return ret;
    }
    r = g_new0(FileReopen, 1);
    ret = choose_engine(bs, o, flags, &r->engine_given, &r->engine, errp);
    if (ret == 0) {
        ret = file_co_open_fd(&args);
        if (ret < 0) {
            error_propagate(errp, args.err);
        }
    }
    if (ret == 0 && (args.h.dev != s->h.dev || args.h.ino != s->h.ino)) {
        error_setg(errp, "Another file has taken the place of '%s'", s->path);
        file_co_close_fd(args.h.fd);
        ret = -ESTALE;
    }
    if (ret < 0) {
        g_free(r);
        return ret;
    }
    r->h = args.h;
    r->became_read_only = args.read_write && !args.h.writable;
    *ret_state = r;
    return 0;
}

static void file_reopen_commit(BlockDriverState *bs, void *state)
{
    FileReopen *r = state;
    FileState *s = bs->opaque;
    int old = s->h.fd;

    s->h = r->h;
    s->engine_given = r->engine_given;
    s->engine = r->engine;
    if (r->became_read_only) {
        bs->read_only = true;
        bs->open_flags &= ~BDRV_O_RDWR;
    }
    /* The node was quiesced and flushed: this close has nothing to wait for. */
    close(old);
    g_free(r);
}

static void file_reopen_abort(BlockDriverState *bs, void *state)
{
    FileReopen *r = state;

    close(r->h.fd);
    g_free(r);
}

const BlockDriverLife file_life = {
    .co_open = file_co_open,
    .co_close = file_co_close,
    .refresh_limits = file_refresh_limits,
    .check_perm = file_check_perm,
    .set_perm = file_set_perm,
    .abort_perm = file_abort_perm,
    .co_reopen_prepare = file_co_reopen_prepare,
    .reopen_commit = file_reopen_commit,
    .reopen_abort = file_reopen_abort,
};
