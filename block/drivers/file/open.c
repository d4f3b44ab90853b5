/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Getting a file descriptor, and learning what it can do.
 *
 * open(2), fstat(2), ioctl(2) and trial reads may wait on storage or on a server that is away, so all
 * of it runs in a worker thread.  FileOpenArgs goes there and comes back; nobody else sees it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "block/drivers/file/file-int.h"
#include "util/osdep.h"

/* Alignments that disks have; trial reads go through them.  Beyond 64 KiB nothing is known to exist. */
#define PROBE_ALIGN_MIN 512
#define PROBE_ALIGN_MAX 65536

int64_t file_length_blocking(int fd, bool is_device)
{
    struct stat st;
    uint64_t bytes;

    if (is_device) {
        if (ioctl(fd, BLKGETSIZE64, &bytes) < 0) {
            return -errno;
        }
        return bytes > INT64_MAX ? -EFBIG : (int64_t)bytes;
    }
    return fstat(fd, &st) < 0 ? -errno : st.st_size;
}

/* What a trial read of @len bytes at @buf says: does O_DIRECT take it? */
static bool direct_read_works(int fd, void *buf, size_t len)
{
    ssize_t r;

    do {
        r = pread(fd, buf, len, 0);
    } while (r < 0 && errno == EINTR);
    return r >= 0 || errno != EINVAL; /* EIO and the like are not about alignment */
}

static int probe_by_reading(int fd, uint32_t *ret_request, uint32_t *ret_mem)
{
    g_autofree char *raw = g_malloc(3 * PROBE_ALIGN_MAX);
    char *buf = QEMU_ALIGN_PTR_UP(raw, PROBE_ALIGN_MAX);
    uint32_t request = 0, mem = 0;

    for (uint32_t a = PROBE_ALIGN_MIN; a <= PROBE_ALIGN_MAX && !request; a <<= 1) {
        request = direct_read_works(fd, buf, a) ? a : 0;
    }
    if (!request) {
        return -EINVAL;
    }
    for (uint32_t a = PROBE_ALIGN_MIN; a < PROBE_ALIGN_MAX && !mem; a <<= 1) {
        mem = direct_read_works(fd, buf + a, request) ? a : 0;
    }
    *ret_request = request;
    *ret_mem = mem ? mem : PROBE_ALIGN_MAX;
    return 0;
}

static bool sane_alignment(uint32_t a)
{
    return is_power_of_2(a) && a <= PROBE_ALIGN_MAX;
}

/* O_DIRECT: what the kernel says, else what a device says, else what reads say. */
static int probe_direct(FileHandle *h)
{
    int sector;
#ifdef STATX_DIOALIGN
    struct statx stx;

    if (statx(h->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) && sane_alignment(stx.stx_dio_offset_align) &&
        sane_alignment(stx.stx_dio_mem_align)) {
        h->request_alignment = stx.stx_dio_offset_align;
        h->mem_alignment = stx.stx_dio_mem_align;
        return 0;
    }
#endif
    if (h->is_device && ioctl(h->fd, BLKSSZGET, &sector) == 0 && sector > 0 &&
        sane_alignment(sector)) {
        h->request_alignment = sector;
        h->mem_alignment = sector;
        return 0;
    }
    return probe_by_reading(h->fd, &h->request_alignment, &h->mem_alignment);
}

static int open_path(FileOpenArgs *args)
{
    FileHandle *h = &args->h;
    /* Without O_NONBLOCK the open of a FIFO would wait for a writer.  It means nothing to the rest. */
    int flags = O_CLOEXEC | O_NONBLOCK | (args->direct ? O_DIRECT : 0);

    h->writable = args->read_write;
    h->fd = open(args->path, flags | (h->writable ? O_RDWR : O_RDONLY));
    if (h->fd < 0 && h->writable && args->auto_read_only &&
        (errno == EACCES || errno == EPERM || errno == EROFS)) {
        h->writable = false;
        h->fd = open(args->path, flags | O_RDONLY);
    }
    if (h->fd >= 0) {
        return 0;
    }
    if (errno == EINVAL && args->direct) {
        error_setg(&args->err, "Could not open '%s': file system does not support O_DIRECT",
                   args->path);
        return -EINVAL;
    }
    int ret = -errno;
    error_setg_file_open(&args->err, -ret, args->path);
    return ret;
}

static int check_kind(FileOpenArgs *args, const struct stat *st)
{
    const bool is_device = S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode);

    if (args->want_device ? !is_device : !S_ISREG(st->st_mode)) {
        error_setg(&args->err, "'%s' driver requires '%s' to be %s", args->driver_name, args->path,
                   args->want_device ? "either a character or block device" : "a regular file");
        return -EINVAL;
    }
    return 0;
}

static int learn(FileOpenArgs *args)
{
    FileHandle *h = &args->h;
    struct stat st;
    int ret, sector;

    if (fstat(h->fd, &st) < 0) {
        ret = -errno;
        error_setg_errno(&args->err, -ret, "Could not stat '%s'", args->path);
        return ret;
    }
    ret = check_kind(args, &st);
    if (ret < 0) {
        return ret;
    }
    if (fcntl(h->fd, F_SETFL, fcntl(h->fd, F_GETFL) & ~O_NONBLOCK) < 0) {
        ret = -errno;
        error_setg_errno(&args->err, -ret, "Could not set up '%s'", args->path);
        return ret;
    }
    h->is_device = S_ISBLK(st.st_mode);
    h->dev = st.st_dev;
    h->ino = st.st_ino;
    h->block_size = 1;
    if (h->is_device && ioctl(h->fd, BLKSSZGET, &sector) == 0 && sector > 0 &&
        sane_alignment(sector)) {
        h->block_size = sector;
    }
    h->length = file_length_blocking(h->fd, h->is_device);
    if (h->length < 0) {
        error_setg_errno(&args->err, -h->length, "Could not get the size of '%s'", args->path);
        return h->length;
    }
    h->request_alignment = h->mem_alignment = 1;
    if (args->direct) {
        ret = probe_direct(h);
        if (ret < 0) {
            error_setg(&args->err, "Could not find working O_DIRECT alignment for '%s'",
                       args->path);
            error_append_hint(&args->err, "Try cache.direct=off\n");
        }
    }
    return ret;
}

static int open_blocking(void *opaque)
{
    FileOpenArgs *args = opaque;
    int ret = open_path(args);

    if (ret < 0) {
        return ret;
    }
    ret = learn(args);
    if (ret < 0) {
        close(args->h.fd);
        args->h.fd = -1;
    }
    return ret;
}

int coroutine_fn file_co_open_fd(FileOpenArgs *args)
{
    return thread_pool_submit_co(open_blocking, args);
}

static int close_blocking(void *opaque)
{
    /* Errors of close(2) concern data that nobody flushed: there is nobody left to tell. */
    close(*(int *)opaque);
    return 0;
}

void coroutine_fn file_co_close_fd(int fd)
{
    if (fd >= 0) {
        thread_pool_submit_co(close_blocking, &fd);
    }
}
